"""TFLite metadata: what a phone's runtime must know to use a file and nothing else.

MediaPipe Tasks reads class names and normalisation from here. mediapipe's own writer packages need
native parts that its wheels lack; the classes of the schema do not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers

from mobilevit_keras.boxes import BoxDecoding
from mobilevit_keras.description import DESCRIPTION_FILE, LABELS_FILE
from mobilevit_keras.export.metadata_schema import metadata_schema
from mobilevit_keras.tasks import FileOutput

_METADATA_NAME = b"TFLITE_METADATA"
_METADATA_IDENTIFIER = b"M001"
_MODEL_IDENTIFIER = b"TFL3"
# The first version of the schema, and the first that has custom metadata.
_MINIMUM_PARSER_VERSION = "1.0.0"
_CUSTOM_PARSER_VERSION = "1.5.0"
_SEGMENTER_NAME = b"SEGMENTER_METADATA"
_DETECTOR_NAME = b"DETECTOR_METADATA"
_CUSTOM_IDENTIFIER = b"V001"


def add_metadata(
    content: bytes,
    outputs: Sequence[FileOutput],
    name: str,
    description: str,
    decoding: BoxDecoding | None = None,
) -> bytes:
    """Returns a file with metadata, and its outputs in the order in which they are given.

    Args:
        content: A `.tflite` file that takes RGB 0..255.
        outputs: What its outputs mean.
        name: Name of the model.
        description: What the model is for, in words.
        decoding: How whoever runs the file reads boxes from it, where that is left to them.
    """
    from ai_edge_litert import schema_py_generated as schema

    metadata = metadata_schema()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    root = metadata.ModelMetadataT()
    root.name, root.description = name, description
    root.associatedFiles = [
        _file(DESCRIPTION_FILE, "All of it as JSON", metadata.AssociatedFileType.DESCRIPTIONS)
    ]
    described = metadata.SubGraphMetadataT()
    is_float = graph.tensors[graph.inputs[0]].type == schema.TensorType.FLOAT32
    described.inputTensorMetadata = [_image(is_float)]
    names = {out.tensorIndex: out.name.decode() for out in model.signatureDefs[0].outputs}
    order = {output.name: place for place, output in enumerate(outputs)}
    # Who reads no names takes the first, as MediaPipe and many an app do.
    graph.outputs = sorted(graph.outputs, key=lambda index: order[names[index]])
    entries = _outputs(outputs)
    described.outputTensorMetadata = [entries[order[names[index]]] for index in graph.outputs]
    described.customMetadata = _segmenter(outputs)
    if decoding is not None:
        described.customMetadata.append(_detector(outputs, decoding))
    root.minParserVersion = (
        _CUSTOM_PARSER_VERSION if described.customMetadata else _MINIMUM_PARSER_VERSION
    )
    root.subgraphMetadata = [described]

    builder = flatbuffers.Builder(1024)
    builder.Finish(root.Pack(builder), _METADATA_IDENTIFIER)
    buffer = schema.BufferT()
    buffer.data = list(builder.Output())
    entry = schema.MetadataT()
    entry.name, entry.buffer = _METADATA_NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), _MODEL_IDENTIFIER)
    return bytes(builder.Output())


def label_files(outputs: Sequence[FileOutput]) -> Mapping[str, bytes]:
    """The files of class names that the metadata of these outputs speak of, by name."""
    return {
        file: "".join(" ".join(label.splitlines()) + "\n" for label in output.labels).encode()
        for output, file in zip(outputs, _label_names(outputs), strict=True)
        if file is not None
    }


def _label_names(outputs: Sequence[FileOutput]) -> list[str | None]:
    """The first output with classes has labels.txt, others labels_NAME.txt."""
    names: list[str | None] = []
    for output in outputs:
        own = LABELS_FILE if not any(names) else f"labels_{output.name}.txt"
        names.append(own if output.labels is not None else None)
    return names


def _image(is_float: bool) -> Any:
    metadata = metadata_schema()
    properties = metadata.ImagePropertiesT()
    properties.colorSpace = metadata.ColorSpaceType.RGB
    entry = _tensor(
        "image",
        "RGB image, 0 to 255",
        (metadata.ContentProperties.ImageProperties, properties),
        (0.0, 255.0),
    )
    if is_float:
        # 0..255 is what the model takes: nothing is subtracted, nothing divided.
        options = metadata.NormalizationOptionsT()
        options.mean, options.std = [0.0], [1.0]
        unit = metadata.ProcessUnitT()
        unit.optionsType = metadata.ProcessUnitOptions.NormalizationOptions
        unit.options = options
        entry.processUnits = [unit]
    return entry


def _outputs(outputs: Sequence[FileOutput]) -> list[Any]:
    metadata = metadata_schema()
    entries = []
    for output, file in zip(outputs, _label_names(outputs), strict=True):
        entry = _tensor(output.name, output.description, _properties(output), output.range)
        if file is not None:
            kinds = metadata.AssociatedFileType
            kind, text = kinds.TENSOR_AXIS_LABELS, "Class names in the order of the axis"
            if output.kind == "categories":
                kind, text = kinds.TENSOR_VALUE_LABELS, "Class names by their numbers"
            entry.associatedFiles = [_file(file, text, kind)]
        entries.append(entry)
    return entries


def _segmenter(outputs: Sequence[FileOutput]) -> list[Any]:
    """What MediaPipe's ImageSegmenter must be told of a map of logits."""
    entries = []
    for output in outputs:
        if output.activation is None:
            continue
        schema = metadata_schema("image_segmenter_metadata_schema")
        options = schema.ImageSegmenterOptionsT()
        options.activation = getattr(schema.Activation, output.activation.upper())
        entries.append(_custom(_SEGMENTER_NAME, options))
    return entries


def _detector(outputs: Sequence[FileOutput], decoding: BoxDecoding) -> Any:
    """What MediaPipe's ObjectDetector must be told of boxes relative to anchors."""
    schema = metadata_schema("object_detector_metadata_schema")
    (labels,) = (output.labels for output in outputs if output.labels is not None)
    anchors = schema.SsdAnchorsOptionsT()
    anchors.fixedAnchorsSchema = schema.FixedAnchorsSchemaT()
    anchors.fixedAnchorsSchema.anchors = []
    for values in decoding.anchors.tolist():
        anchor = schema.FixedAnchorT()
        anchor.xCenter, anchor.yCenter, anchor.width, anchor.height = values
        anchors.fixedAnchorsSchema.anchors.append(anchor)
    coding = schema.TensorsDecodingOptionsT()
    coding.numClasses, coding.numBoxes = len(labels), len(decoding.anchors)
    coding.numCoords = coding.keypointCoordOffset = 4
    coding.numKeypoints, coding.numValuesPerKeypoint = 0, 2
    coding.yScale, coding.xScale, coding.hScale, coding.wScale = decoding.scales
    coding.applyExponentialOnBoxSize, coding.sigmoidScore = True, False
    options = schema.ObjectDetectorOptionsT()
    options.ssdAnchorsOptions, options.tensorsDecodingOptions = anchors, coding
    return _custom(_DETECTOR_NAME, options)


def _custom(name: bytes, options: Any) -> Any:
    builder = flatbuffers.Builder(1024)
    builder.Finish(options.Pack(builder), _CUSTOM_IDENTIFIER)
    entry = metadata_schema().CustomMetadataT()
    entry.name, entry.data = name, list(builder.Output())
    return entry


def _properties(output: FileOutput) -> tuple[int, Any]:
    """Kind and properties of an output's content: grey pictures, boxes, or just numbers."""
    metadata = metadata_schema()
    if output.kind == "boxes":
        boxes = metadata.BoundingBoxPropertiesT()
        # Where left, top, right and bottom stand.
        boxes.index, boxes.type = [1, 0, 3, 2], metadata.BoundingBoxType.BOUNDARIES
        boxes.coordinateType = metadata.CoordinateType.RATIO
        return metadata.ContentProperties.BoundingBoxProperties, boxes
    if output.activation is None:
        return metadata.ContentProperties.FeatureProperties, metadata.FeaturePropertiesT()
    properties = metadata.ImagePropertiesT()
    properties.colorSpace = metadata.ColorSpaceType.GRAYSCALE
    return metadata.ContentProperties.ImageProperties, properties


def _tensor(
    name: str,
    description: str,
    properties: tuple[int, object],
    values: tuple[float, float] | None,
) -> Any:
    metadata = metadata_schema()
    entry = metadata.TensorMetadataT()
    entry.name, entry.description = name, description
    entry.content = metadata.ContentT()
    entry.content.contentPropertiesType, entry.content.contentProperties = properties
    if values is not None:
        entry.stats = metadata.StatsT()
        entry.stats.min, entry.stats.max = [values[0]], [values[1]]
    return entry


def _file(name: str, description: str, kind: int) -> Any:
    metadata = metadata_schema()
    file = metadata.AssociatedFileT()
    file.name, file.description, file.type = name, description, kind
    return file
