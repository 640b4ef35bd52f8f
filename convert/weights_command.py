"""Opens published weights as a Keras model, or writes a Keras model's weights for other libraries.

  python -m convert weights mobilevit_s.pt mobilevit_s.keras
  python -m convert weights mobilevit_s.cvnets_in1k mobilevit_s.keras
  python -m convert weights runs/photos/model.keras photos.safetensors --layout timm

  python -m convert weights --list

The first form takes a checkpoint of CVNets (.pt), Hugging Face or timm (.safetensors, .bin), or
the name of a preset, which is downloaded; --list prints the presets, and where they come from.
Nothing in a checkpoint is executed. Layout, task, variant and number of classes are found in the
file; preprocessing and the published class names are saved with the model.
"""

import argparse
from pathlib import Path

HELP = "turn published weights into a .keras model, or a .keras model into weights for others"

_KERAS = ".keras"
_SAFETENSORS = ".safetensors"
_LAYOUTS = ("timm", "huggingface", "cvnets")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to `parser`."""
    parser.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="checkpoint (.pt, .pth, .bin, .safetensors), preset, or .keras model",
    )
    parser.add_argument(
        "output",
        nargs="?",
        type=Path,
        metavar="OUT",
        help=".keras, or .safetensors where SOURCE is .keras",
    )
    parser.add_argument(
        "--list", action="store_true", help="print the presets with their addresses and licence"
    )
    parser.add_argument(
        "--variant",
        help="a name such as mobilevit_s or mobilevitv2_100: fail unless the checkpoint is of it",
    )
    parser.add_argument(
        "--channel-order",
        choices=("rgb", "bgr"),
        help="of the images the checkpoint wants, if not its layout's (of MobileViT CVNets and "
        "Hugging Face bgr, timm rgb; of MobileViTv2 all rgb); the Keras model wants RGB in any "
        "case",
    )
    parser.add_argument("--layout", choices=_LAYOUTS, help="of the .safetensors file to write")


def main(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    if options.list:
        return _list_presets()
    if options.output is None:
        raise ValueError("SOURCE and OUT must be given. See --help.")
    to_keras = options.output.suffix == _KERAS
    if not to_keras and (options.output.suffix, Path(options.source).suffix) != (
        _SAFETENSORS,
        _KERAS,
    ):
        raise ValueError(
            "OUT must end in .keras, or in .safetensors where SOURCE ends in .keras. "
            f"Received: {options.source} to {options.output}."
        )
    if to_keras and options.layout:
        raise ValueError(
            f"`--layout` is for a .safetensors file to write. Received: {options.output}."
        )
    if not to_keras and not options.layout:
        raise ValueError(
            f"`--layout` must be given for a .safetensors file: one of {', '.join(_LAYOUTS)}."
        )
    if not to_keras and (options.variant or options.channel_order):
        raise ValueError(
            "`--variant` and `--channel-order` are for opening a checkpoint. "
            f"Received: {options.source}, a Keras model."
        )
    return _to_keras(options) if to_keras else _to_safetensors(options)


def _list_presets() -> int:
    from mobilevit_keras.weights import FIGURES, PRESETS

    width = max(map(len, PRESETS))
    for name, preset in PRESETS.items():
        figure = f"{FIGURES[preset.num_classes]} {preset.figure}"
        print(f"{name:<{width}} {preset.megabytes:>5} MB  {figure:<20}  {preset.source}")
    print(f"Licence: {'; '.join(sorted({preset.licence for preset in PRESETS.values()}))}")
    return 0


def _to_keras(options: argparse.Namespace) -> int:
    from mobilevit_keras.files import atomic_path
    from mobilevit_keras.weights import PRESETS, download_preset, load_checkpoint

    preset = PRESETS.get(options.source)
    model = load_checkpoint(
        download_preset(options.source) if preset else options.source,
        variant=options.variant,
        channel_order=options.channel_order,
        preprocessing=preset and preset.preprocessing,
    )
    with atomic_path(options.output) as temporary:
        model.save(temporary)
    prepared = model.preprocessing
    how = f"short side {prepared.short_side}, crop {prepared.crop_size}"
    if prepared.resize == "stretch":
        how = f"stretched to {prepared.crop_size}"
    parameters = sum(weight.shape.num_elements() for weight in model.trainable_weights)
    print(
        f"{options.output}: {model.backbone.variant}, {model.num_classes} classes, "
        f"{parameters:,} parameters; {how}, {prepared.interpolation}"
    )
    return 0


def _to_safetensors(options: argparse.Namespace) -> int:
    from mobilevit_keras.models import load_model
    from mobilevit_keras.weights import save_checkpoint

    model = load_model(options.source)
    save_checkpoint(model, options.output, options.layout)
    print(
        f"{options.output}: {model.backbone.variant}, {model.num_classes} classes, "
        f"in the layout of {options.layout}"
    )
    return 0
