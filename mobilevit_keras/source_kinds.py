"""The one table of the kinds of data sources.

It stands apart from the data so that `--help` need not wait for TensorFlow.
"""

import dataclasses
from collections.abc import Sequence

Fields = tuple[str, ...]
"""The targets that the records of a source hold beside image and name."""

LABEL: Fields = ("label",)
MASK: Fields = ("mask",)
BOXES: Fields = ("boxes", "labels")
# For an evaluation, which passes over what need not be found.
BOXES_AND_IGNORED: Fields = (*BOXES, "ignored")


@dataclasses.dataclass(frozen=True)
class SourceKind:
    """A kind of source.

    Attributes:
        name: What stands before the colon.
        form: How it is written.
        help: What it is, for `--help`.
        opener: Module of `mobilevit_keras.data.sources` and function that open it, given what
            stands after the colon; and `fields`, where it can give several.
        fields: The targets that it can give, the first where none are asked for.
        has_buffer: Whether it shuffles within a buffer, and so takes a `shuffle_buffer`.
    """

    name: str
    form: str
    help: str
    opener: tuple[str, str]
    fields: tuple[Fields, ...] = (LABEL,)
    has_buffer: bool = False

    @property
    def takes_argument(self) -> bool:
        return ":" in self.form


KINDS = (
    SourceKind(
        "digits", "digits", "scikit-learn's 1,797 scanned digits", ("digits", "open_digits")
    ),
    SourceKind(
        "scenes",
        "scenes",
        "scikit-learn's scanned digits on its two photographs, 600 and 150 images",
        ("scenes", "open_scenes"),
        fields=(MASK, BOXES, BOXES_AND_IGNORED),
    ),
    SourceKind(
        "folder",
        "folder:PATH",
        "a folder of images for each class, or train and validation folders of such",
        ("image_folder", "ImageFolder"),
    ),
    SourceKind(
        "tfds",
        "tfds:NAME[:CONFIG]",
        "an image set of tensorflow_datasets",
        ("tfds", "open_tfds"),
        fields=(LABEL, MASK, BOXES, BOXES_AND_IGNORED),
        has_buffer=True,
    ),
    SourceKind(
        "tfrecord",
        "tfrecord:FOLDER-OR-GLOB",
        "TFRecord shards of encoded images",
        ("tfrecord", "TFRecordShards"),
        fields=(LABEL, MASK, BOXES, BOXES_AND_IGNORED),
        has_buffer=True,
    ),
    SourceKind(
        "masks",
        "masks:PATH",
        "a folder with images, masks of the same names and classes.txt",
        ("mask_folder", "MaskFolder"),
        fields=(MASK,),
    ),
    SourceKind(
        "voc-segmentation",
        "voc-segmentation:PATH",
        "PASCAL VOC's folders, with masks in SegmentationClass",
        ("voc_segmentation", "VocSegmentation"),
        fields=(MASK,),
    ),
    SourceKind(
        "coco",
        "coco:PATH",
        "COCO's instances JSON files and folders of images",
        ("coco", "Coco"),
        fields=(BOXES, BOXES_AND_IGNORED),
    ),
    SourceKind(
        "voc",
        "voc:PATH",
        "PASCAL VOC's folders, with boxes in Annotations",
        ("voc", "Voc"),
        fields=(BOXES, BOXES_AND_IGNORED),
    ),
)

FORMS = ", ".join(repr(kind.form) for kind in KINDS)


def data_help(fields: Sequence[str]) -> str:
    """Returns what `--help` says of the kinds that give these targets."""
    return "; ".join(f"{kind.form} ({kind.help})" for kind in kinds_with(fields))


def kinds_with(fields: Sequence[str]) -> list[SourceKind]:
    """Returns the kinds of sources whose records can hold these targets."""
    return [kind for kind in KINDS if tuple(fields) in kind.fields]


def is_data_source(text: object) -> bool:
    """Whether something names a data source, and no file."""
    return kind_of(text) is not None


def kind_of(text: object) -> SourceKind | None:
    """Returns the kind of source that a string names; None for anything else."""
    if not isinstance(text, str):
        return None
    name, colon, _ = text.partition(":")
    kinds = [kind for kind in KINDS if kind.name == name and kind.takes_argument == bool(colon)]
    return kinds[0] if kinds else None
