"""TFLite metadata: what a phone's runtime must know to classify with a file and nothing else.

MediaPipe Tasks reads class names and normalisation from here. The layout is that of TensorFlow
Lite's metadata_schema.fbs, written field by field: its own writer packages need other versions of
protobuf than TensorFlow, or native parts that their wheels lack.
"""

import io
import zipfile
from collections.abc import Sequence

import flatbuffers

LABELS_FILE = "labels.txt"
_METADATA_NAME = b"TFLITE_METADATA"
_METADATA_IDENTIFIER = b"M001"
_MODEL_IDENTIFIER = b"TFL3"
# The first version of the schema; it has all that a classifier needs.
_MINIMUM_PARSER_VERSION = "1.0.0"

# Enumerations of the schema.
_IMAGE_PROPERTIES, _FEATURE_PROPERTIES = 2, 1
_RGB = 1
_NORMALIZATION_OPTIONS = 1
_TENSOR_AXIS_LABELS = 2


def add_metadata(content: bytes, labels: Sequence[str], name: str) -> bytes:
    """Returns a classifier's file with metadata and its class names.

    Args:
        content: A `.tflite` file that takes RGB 0..255 and gives probabilities.
        labels: Class names in the order of the outputs.
        name: Name of the model.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    is_float = graph.tensors[graph.inputs[0]].type == schema.TensorType.FLOAT32
    buffer = schema.BufferT()
    buffer.data = list(_model_metadata(name, is_float))
    entry = schema.MetadataT()
    entry.name, entry.buffer = _METADATA_NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), _MODEL_IDENTIFIER)
    # The class names follow the model as a zip archive, which readers find from the file's end.
    file = io.BytesIO(bytes(builder.Output()))
    with zipfile.ZipFile(file, "a") as archive:
        # A fixed date: equal models are equal files.
        info = zipfile.ZipInfo(LABELS_FILE, date_time=(1980, 1, 1, 0, 0, 0))
        archive.writestr(info, "\n".join(" ".join(label.splitlines()) for label in labels) + "\n")
    return file.getvalue()


def _model_metadata(name: str, is_float: bool) -> bytes:
    """The metadata's own flatbuffer."""
    builder = flatbuffers.Builder(1024)
    image = _table(builder, 2, {0: ("int8", _RGB)})
    process_units = []
    if is_float:
        # 0..255 is what the model takes: nothing is subtracted, nothing divided.
        mean, deviation = _floats(builder, [0.0]), _floats(builder, [1.0])
        options = _table(builder, 2, {0: ("offset", mean), 1: ("offset", deviation)})
        unit = {0: ("uint8", _NORMALIZATION_OPTIONS), 1: ("offset", options)}
        process_units.append(_table(builder, 2, unit))
    stats = _table(
        builder,
        2,
        {0: ("offset", _floats(builder, [255.0])), 1: ("offset", _floats(builder, [0.0]))},
    )
    entry = _tensor(
        builder, "image", "RGB image, 0 to 255", (_IMAGE_PROPERTIES, image), process_units, stats
    )
    labels = _table(
        builder,
        5,
        {
            0: ("offset", builder.CreateString(LABELS_FILE)),
            1: ("offset", builder.CreateString("Class names in the order of the outputs")),
            2: ("int8", _TENSOR_AXIS_LABELS),
        },
    )
    features = _table(builder, 0, {})
    stats = _table(
        builder,
        2,
        {0: ("offset", _floats(builder, [1.0])), 1: ("offset", _floats(builder, [0.0]))},
    )
    exit_ = _tensor(
        builder,
        "probabilities",
        "Probability of each class",
        (_FEATURE_PROPERTIES, features),
        [],
        stats,
        [labels],
    )
    graph = _table(
        builder,
        10,
        {2: ("offset", _offsets(builder, [entry])), 3: ("offset", _offsets(builder, [exit_]))},
    )
    root = _table(
        builder,
        8,
        {
            0: ("offset", builder.CreateString(name)),
            1: ("offset", builder.CreateString("Image classifier")),
            3: ("offset", _offsets(builder, [graph])),
            7: ("offset", builder.CreateString(_MINIMUM_PARSER_VERSION)),
        },
    )
    builder.Finish(root, _METADATA_IDENTIFIER)
    return bytes(builder.Output())


def _tensor(
    builder,
    name: str,
    description: str,
    properties: tuple[int, int],
    process_units: Sequence[int],
    stats: int,
    files: Sequence[int] = (),
) -> int:
    kind, offset = properties
    content = _table(builder, 3, {0: ("uint8", kind), 1: ("offset", offset)})
    fields = {
        0: ("offset", builder.CreateString(name)),
        1: ("offset", builder.CreateString(description)),
        3: ("offset", content),
        5: ("offset", stats),
    }
    if process_units:
        fields[4] = ("offset", _offsets(builder, process_units))
    if files:
        fields[6] = ("offset", _offsets(builder, files))
    return _table(builder, 7, fields)


def _table(builder, num_fields: int, fields: dict[int, tuple[str, int]]) -> int:
    """Writes a table: slot -> (kind, value); returns its offset."""
    builder.StartObject(num_fields)
    for slot, (kind, value) in fields.items():
        if kind == "offset":
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        elif kind == "int8":
            builder.PrependInt8Slot(slot, value, 0)
        else:
            builder.PrependUint8Slot(slot, value, 0)
    return builder.EndObject()


def _floats(builder, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return builder.EndVector()


def _offsets(builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
