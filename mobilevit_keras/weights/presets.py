"""The one table of published weights, and how they come onto this computer."""

import dataclasses
import difflib
import hashlib
import os
from pathlib import Path

import keras

from mobilevit_keras.files import atomic_path
from mobilevit_keras.models import Preprocessing, VisionTask, load_model
from mobilevit_keras.weights.layouts import CLASSIFICATION, DETECTION, SEGMENTATION
from mobilevit_keras.weights.porting import load_checkpoint

KERAS_SUFFIX = ".keras"
MODEL_OF_A_RUN = "model.keras"

_APPLE = "https://docs-assets.developer.apple.com/ml-research/models/"
_CVNETS = f"{_APPLE}cvnets/"
_CVNETS_V2 = f"{_APPLE}cvnets-v2/"
_V2_CLASSIFIERS = f"{_CVNETS_V2}classification/mobilevitv2/"
_HUB = "https://huggingface.co/"
_LICENCE = "the authors' own licence: https://github.com/apple/ml-cvnets/blob/main/LICENSE"
_PARTIAL = "partial-"


@dataclasses.dataclass(frozen=True)
class Preset:
    """Published weights.

    Attributes:
        variant: Variant of the model.
        source: Address of the checkpoint.
        sha256: The file's hash as its publisher states it, None where that is unknown.
        megabytes: About how large the file is.
        figure: What is published of their accuracy, in percent; see `FIGURES`.
        num_classes: Number of classes.
        task: What they are for: "classification", "segmentation" or "detection".
        edition: What tells the file from its publisher's others of the same variant and task.
        preprocessing: How images are evaluated, where it is not as its layout's others have it.
        licence: What the weights may be used for.
        verified: Whether this project has had the file and found its hash and accuracy right.
    """

    variant: str
    source: str
    sha256: str | None
    megabytes: float
    figure: float
    num_classes: int = 1000
    task: str = CLASSIFICATION
    edition: str = ""
    preprocessing: Preprocessing | None = None
    licence: str = _LICENCE
    verified: bool = False

    @property
    def file_name(self) -> str:
        """Name of the file in the cache: the source's, told apart from its namesakes'."""
        owner = self.source.removeprefix(_HUB).split("/")[0] + "-" if _HUB in self.source else ""
        task = "" if self.task == CLASSIFICATION else f"{self.task}-"
        edition = f"-{self.edition}" if self.edition else ""
        return f"{owner}{task}{self.variant}{edition}{Path(self.source).suffix}"


FIGURES = {1000: "ImageNet top-1", 21: "VOC mIoU", 150: "ADE20K mIoU", 80: "COCO mAP"}
"""What the presets' figures are, by their number of classes."""


def _segmenter(
    variant: str, source: str, sha256: str | None, megabytes: float, figure: float
) -> Preset:
    """A segmenter of PASCAL VOC's twenty classes and background."""
    return Preset(f"mobilevit_{variant}", source, sha256, megabytes, figure, 21, SEGMENTATION)


def _detector(variant: str, megabytes: float, figure: float) -> Preset:
    """A detector of COCO's eighty classes."""
    source = f"{_CVNETS}detection/ssd_mobilevit_{variant}_320.pt"
    return Preset(f"mobilevit_{variant}", source, None, megabytes, figure, 80, DETECTION)


def _v2_classifiers(
    variant: str,
    width: str,
    megabytes: float,
    figures: dict[str, float],
    timm_sha256: str | None = None,
) -> dict[str, Preset]:
    """The authors' and timm's classifiers on MobileViTv2 of one width.

    Args:
        variant, width: The width by our name and theirs.
        megabytes: Size of each file.
        figures: Accuracy by training: "in1k" at 256 pixels, "in22k_ft_in1k" with ImageNet-21k
            before it, and either with "_384", fine-tuned at 384 pixels.
        timm_sha256: Hash of timm's "in1k".
    """
    presets = {}
    for training, top1 in figures.items():
        folder, side = "imagenet21k_to_1k" if "22k" in training else "imagenet1k", 256
        edition, own = training, {}
        if training.endswith("_384"):
            side, own = 384, {"preprocessing": Preprocessing(384, 384, "bicubic")}
        if training == "in1k":
            edition = ""
        source = f"{_V2_CLASSIFIERS}{folder}/{side}x{side}/mobilevitv2-{width}.pt"
        preset = Preset(variant, source, None, megabytes, top1, edition=edition, **own)
        presets[f"{variant}.cvnets_{training}"] = preset
        # All but these timm has ported.
        if training != "in1k_384":
            source = f"{_HUB}timm/{variant}.cvnets_{training}/resolve/main/model.safetensors"
            sha256 = timm_sha256 if training == "in1k" else None
            presets[f"{variant}.timm_{training}"] = dataclasses.replace(
                preset, source=source, sha256=sha256
            )
    return presets


def _v2_dense_presets(
    variant: str,
    width: str,
    detector: tuple[float, float],
    ade20k: tuple[float, float],
    voc: tuple[float, float] | None = None,
) -> dict[str, Preset]:
    """The authors' detector of COCO and segmenters of ADE20K and VOC on MobileViTv2 of one width.

    Args:
        variant, width: The width by our name and theirs.
        detector, ade20k, voc: Megabytes and figure of each; of some widths there is none of VOC.
    """
    source = f"{_CVNETS_V2}detection/mobilevitv2/coco-ssd-mobilevitv2-{width}.pt"
    presets = {f"{variant}.cvnets_coco": Preset(variant, source, None, *detector, 80, DETECTION)}
    source = f"{_CVNETS_V2}segmentation/ade20k/mobilevitv2/deeplabv3-mobilevitv2-{width}.pt"
    presets[f"{variant}.cvnets_ade20k"] = Preset(
        variant, source, None, *ade20k, 150, SEGMENTATION, edition="ade20k"
    )
    if voc is not None:
        source = f"{_CVNETS_V2}segmentation/pascalvoc/mobilevitv2/deeplabv3-mobilevitv2-{width}.pt"
        presets[f"{variant}.cvnets_voc"] = Preset(variant, source, None, *voc, 21, SEGMENTATION)
    return presets


# Tags: cvnets is the authors' file, hf Hugging Face's and timm timm's port of the same training.
# The hashes are those that the hub states on the files' pages.
PRESETS = {
    "mobilevit_xxs.cvnets_in1k": Preset(
        "mobilevit_xxs", f"{_CVNETS}classification/mobilevit_xxs.pt", None, 5.2, 69.0
    ),
    "mobilevit_xs.cvnets_in1k": Preset(
        "mobilevit_xs", f"{_CVNETS}classification/mobilevit_xs.pt", None, 9.4, 74.7
    ),
    "mobilevit_s.cvnets_in1k": Preset(
        "mobilevit_s", f"{_CVNETS}classification/mobilevit_s.pt", None, 22.5, 78.3
    ),
    "mobilevit_xxs.hf_in1k": Preset(
        "mobilevit_xxs",
        f"{_HUB}apple/mobilevit-xx-small/resolve/main/pytorch_model.bin",
        "9d11a44822385937be46ecfa81757e306e47143323cba5cdc09a3b48966fe22a",
        5.2,
        69.0,
    ),
    "mobilevit_xs.hf_in1k": Preset(
        "mobilevit_xs",
        f"{_HUB}apple/mobilevit-x-small/resolve/main/pytorch_model.bin",
        "09b264fe681cb67144c41fe10b923c8d59ad4273f9d4cc3053080e6e986e63e8",
        9.4,
        74.7,
    ),
    "mobilevit_s.hf_in1k": Preset(
        "mobilevit_s",
        f"{_HUB}apple/mobilevit-small/resolve/main/pytorch_model.bin",
        "e82f00eb463387332cfc6204f1590225bd2c16cab4e45f113438f04378b84763",
        22.5,
        78.3,
    ),
    "mobilevit_xxs.timm_in1k": Preset(
        "mobilevit_xxs",
        f"{_HUB}timm/mobilevit_xxs.cvnets_in1k/resolve/main/model.safetensors",
        None,
        5.1,
        68.94,
    ),
    "mobilevit_xs.timm_in1k": Preset(
        "mobilevit_xs",
        f"{_HUB}timm/mobilevit_xs.cvnets_in1k/resolve/main/model.safetensors",
        None,
        9.3,
        74.62,
    ),
    "mobilevit_s.timm_in1k": Preset(
        "mobilevit_s",
        f"{_HUB}timm/mobilevit_s.cvnets_in1k/resolve/main/model.safetensors",
        "87f5585cb61814a5e18920d556772ed9c3af6c9ad72b6cf798c654021c306f81",
        22.4,
        78.3,
    ),
    **_v2_classifiers("mobilevitv2_050", "0.5", 5.6, {"in1k": 70.18, "in1k_384": 72.14}),
    **_v2_classifiers("mobilevitv2_075", "0.75", 11.6, {"in1k": 75.56, "in1k_384": 76.98}),
    **_v2_classifiers("mobilevitv2_100", "1.0", 19.8, {"in1k": 78.09, "in1k_384": 79.68}),
    **_v2_classifiers(
        "mobilevitv2_125",
        "1.25",
        30.0,
        {"in1k": 79.65, "in1k_384": 80.94},
        "83a9e64c34f67185ef719d1b37886994983df0e4f6ee865ed678e48e4854fa47",
    ),
    **_v2_classifiers(
        "mobilevitv2_150",
        "1.5",
        42.6,
        {
            "in1k": 80.38,
            "in1k_384": 81.50,
            "in22k_ft_in1k": 81.46,
            "in22k_ft_in1k_384": 82.60,
        },
        "4c91ca8f47269f959a88505506ecd1dbf19b2d5fa7622806be88afe5207f6164",
    ),
    **_v2_classifiers(
        "mobilevitv2_175",
        "1.75",
        57.2,
        {
            "in1k": 80.84,
            "in1k_384": 82.04,
            "in22k_ft_in1k": 81.94,
            "in22k_ft_in1k_384": 82.93,
        },
    ),
    **_v2_classifiers(
        "mobilevitv2_200",
        "2.0",
        74.0,
        {
            "in1k": 81.17,
            "in1k_384": 82.17,
            "in22k_ft_in1k": 82.36,
            "in22k_ft_in1k_384": 83.41,
        },
    ),
    "mobilevitv2_100.hf_in1k": Preset(
        "mobilevitv2_100",
        f"{_HUB}apple/mobilevitv2-1.0-imagenet1k-256/resolve/main/pytorch_model.bin",
        None,
        19.8,
        78.09,
    ),
    "mobilevitv2_200.hf_in1k": Preset(
        "mobilevitv2_200",
        f"{_HUB}apple/mobilevitv2-2.0-imagenet1k-256/resolve/main/pytorch_model.bin",
        "4c146b9d3552b5944ef8b7e1bddcac606604f822b63142f4a70ed7d7ef00c04b",
        74.0,
        81.17,
    ),
    "mobilevit_xxs.cvnets_voc": _segmenter(
        "xxs", f"{_CVNETS}segmentation/deeplabv3_mobilevit_xxs.pt", None, 7.6, 72.8
    ),
    "mobilevit_xs.cvnets_voc": _segmenter(
        "xs", f"{_CVNETS}segmentation/deeplabv3_mobilevit_xs.pt", None, 11.9, 77.1
    ),
    "mobilevit_s.cvnets_voc": _segmenter(
        "s", f"{_CVNETS}segmentation/deeplabv3_mobilevit_s.pt", None, 25.6, 79.3
    ),
    "mobilevit_xxs.hf_voc": _segmenter(
        "xxs",
        f"{_HUB}apple/deeplabv3-mobilevit-xx-small/resolve/main/pytorch_model.bin",
        "0f91dba8e66cf725cc0cd987b9bf47b0e95788bf4050032d55de23217d5ffa60",
        7.6,
        73.6,
    ),
    "mobilevit_xs.hf_voc": _segmenter(
        "xs",
        f"{_HUB}apple/deeplabv3-mobilevit-x-small/resolve/main/pytorch_model.bin",
        "9450e85de944b10ba3461be3469c4b24bc9140edcc024075af6ab28b46471985",
        11.9,
        77.1,
    ),
    "mobilevit_s.hf_voc": _segmenter(
        "s",
        f"{_HUB}apple/deeplabv3-mobilevit-small/resolve/main/pytorch_model.bin",
        "5e68a534df237d8b89aa9209c815976b4b34f49a4e8107f630fd799697e98291",
        25.6,
        79.1,
    ),
    "mobilevit_xxs.cvnets_coco": _detector("xxs", 7.2, 19.9),
    "mobilevit_xs.cvnets_coco": _detector("xs", 11.2, 24.8),
    "mobilevit_s.cvnets_coco": _detector("s", 23.2, 27.9),
    # Names, addresses and figures of the authors' README-model-zoo; the sizes follow from the
    # numbers of parameters there, which are those of the models here.
    **_v2_dense_presets("mobilevitv2_050", "0.5", (8.4, 21.24), (26.5, 31.93), (26.1, 75.07)),
    **_v2_dense_presets("mobilevitv2_075", "0.75", (14.6, 24.57), (40.0, 34.70)),
    **_v2_dense_presets("mobilevitv2_100", "1.0", (22.7, 26.47), (55.7, 37.06), (55.3, 78.94)),
    **_v2_dense_presets("mobilevitv2_125", "1.25", (33.0, 27.85), (73.5, 38.42), (73.2, 79.68)),
    **_v2_dense_presets("mobilevitv2_150", "1.5", (45.4, 28.83), (93.9, 38.91), (93.5, 80.30)),
    **_v2_dense_presets("mobilevitv2_175", "1.75", (60.0, 29.52), (116.8, 39.53)),
    **_v2_dense_presets("mobilevitv2_200", "2.0", (76.8, 30.21), (141.9, 40.94)),
    "mobilevitv2_100.hf_voc": Preset(
        "mobilevitv2_100",
        f"{_HUB}apple/mobilevitv2-1.0-voc-deeplabv3/resolve/main/pytorch_model.bin",
        "3de4592cb143dd4eb10e4c031e3a7c6db4e626abcb41599899ab8c98a68305d3",
        53.5,
        78.94,
        21,
        SEGMENTATION,
    ),
    "mobilevitv2_150.hf_voc": Preset(
        "mobilevitv2_150",
        f"{_HUB}apple/mobilevitv2-1.5-voc-deeplabv3/resolve/main/pytorch_model.bin",
        "4b5aa59fa6bd6f53c58d253d3f78c58b5775b9f0a002e701ce09eb4f9cbc45f6",
        90.5,
        80.30,
        21,
        SEGMENTATION,
    ),
}


def cache_folder() -> Path:
    """Returns the folder that downloaded weights are kept in, inside the Keras cache."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return Path(home) / "mobilevit_keras"


def get_preset(name: str) -> Preset:
    """Returns the preset called `name`.

    Raises:
        ValueError: If there is none; the message names those that are called nearly so.
    """
    if name not in PRESETS:
        raise ValueError(
            f"A preset must be a name that `convert weights --list` prints. {_not_a_preset(name)}"
        )
    return PRESETS[name]


def _not_a_preset(name: str) -> str:
    """What was received instead of a preset, and which names are the nearest."""
    nearest = difflib.get_close_matches(name, PRESETS, cutoff=0.5)
    hint = f"; did you mean {' or '.join(nearest)}?" if nearest else "."
    return f"Received: {name!r}{hint}"


def download_preset(name: str) -> Path:
    """Returns the file of a preset, downloaded if it is not there yet.

    A file put into `cache_folder()` by hand is taken as well. A broken download leaves nothing
    behind and is begun anew the next time. The hash is compared with the published one, or with
    that of the first use where none is published; it is printed at the first use of weights that
    nobody here has verified.

    Raises:
        ValueError: If there is no such preset, or the file's hash is another.
        OSError: If the file cannot be downloaded.
    """
    preset = get_preset(name)
    path = cache_folder() / preset.file_name
    if not path.is_file():
        _download(name, preset, path)
    _check_hash(name, preset, path)
    return path


def _download(name: str, preset: Preset, path: Path) -> None:
    """Downloads beside `path` and moves the file there only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(_PARTIAL + path.name)
    print(f"{name}: {preset.megabytes} MB, {preset.licence}")
    try:
        keras.utils.get_file(
            partial.name,
            preset.source,
            cache_dir=path.parent,
            cache_subdir="",
            # What an interrupted process has left is no part of a file to be trusted.
            force_download=True,
        )
    # Keras turns every failure of the network into a bare Exception.
    except Exception as error:
        partial.unlink(missing_ok=True)
        raise OSError(
            f"{name} could not be downloaded ({error}). Without a network, download "
            f"{preset.source} elsewhere and put it at {path}."
        ) from error
    os.replace(partial, path)


def _check_hash(name: str, preset: Preset, path: Path) -> None:
    with open(path, "rb") as file:
        measured = hashlib.file_digest(file, "sha256").hexdigest()
    note = path.with_name(path.name + ".sha256")
    first_use = not note.is_file()
    expected = preset.sha256 or (measured if first_use else note.read_text("utf-8").strip())
    if measured != expected:
        raise ValueError(
            f"{path} must be the published file, of sha256 {expected}. Received: {measured}. "
            "Delete it to download it again."
        )
    if first_use:
        if not preset.verified:
            origin = "as published" if preset.sha256 else "not published, kept from now on"
            print(f"{name}: unverified weights; sha256 {measured}, {origin}")
        with atomic_path(note) as temporary:
            temporary.write_text(measured + "\n", "utf-8")


def load_preset(name: str) -> VisionTask:
    """Returns the model of a preset, with its class names and preprocessing.

    Raises:
        ValueError: If there is no such preset, or the file is not what it should be.
        OSError: If the file cannot be downloaded.
    """
    preset = get_preset(name)
    return load_checkpoint(
        download_preset(name), variant=preset.variant, preprocessing=preset.preprocessing
    )


def load_weights_or_preset(name_or_file: str | Path) -> VisionTask:
    """Returns a model from whatever a person names: a preset, a checkpoint or a trained model.

    Args:
        name_or_file: A key of `PRESETS`; the path of a `.keras`, `.pt`, `.pth`, `.bin` or
            `.safetensors` file; or the folder of a training.

    Raises:
        ValueError: If it is neither a preset nor the name of a file, or the file cannot be used.
        OSError: If the file cannot be read or downloaded.
    """
    name = str(name_or_file)
    if name in PRESETS:
        return load_preset(name)
    path = Path(name)
    if (path / MODEL_OF_A_RUN).is_file():
        path = path / MODEL_OF_A_RUN
    if not path.is_file():
        raise ValueError(
            "Weights must be a file that is there, the folder of a training or a preset, as "
            f"`convert weights --list` prints them. {_not_a_preset(name)}"
        )
    return load_model(path) if path.suffix == KERAS_SUFFIX else load_checkpoint(path)
