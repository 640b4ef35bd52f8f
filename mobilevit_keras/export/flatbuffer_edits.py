"""What the converter cannot be told, done to the file that it wrote."""

import re
from collections.abc import Mapping, Sequence

import flatbuffers
import numpy as np
from flatbuffers import flexbuffers

_FILE_IDENTIFIER = b"TFL3"

SUPPRESSION = "TFLite_Detection_PostProcess"
"""The custom operation that decodes boxes and suppresses those that lie on each other."""


def _read(content: bytes):
    from ai_edge_litert import schema_py_generated as schema

    return schema, schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def _write(model, size: int) -> bytes:
    builder = flatbuffers.Builder(size + 1024)
    builder.Finish(model.Pack(builder), _FILE_IDENTIFIER)
    return bytes(builder.Output())


def shorten_names(content: bytes) -> bytes:
    """Renames the inner tensors of a `.tflite` file; inputs and outputs keep their names.

    The converter names a tensor after every operation it is made of, each with the names of all
    the layers around it: over a hundred bytes for each of several hundred tensors, which is a tenth
    of a small int8 file.

    Args:
        content: The file's bytes.
    """
    _, model = _read(content)
    for graph in model.subgraphs:
        ends = {*graph.inputs, *graph.outputs}
        for index, tensor in enumerate(graph.tensors):
            if index not in ends:
                tensor.name = short_name(tensor.name.decode()).encode()
    return _write(model, len(content))


def short_name(name: str) -> str:
    """What tells a tensor from others of one model.

    >>> short_name("a_classifier_1/mobilevit_xxs_1/stage3_1_1/transformer_0_1/query_1/BiasAdd;x/y")
    'stage3_1/transformer_0/query/BiasAdd'
    """
    # Keras numbers each layer once more when it is called.
    parts = [re.sub(r"_1$", "", part) for part in name.split(";")[0].split("/")]
    places = [i for i, part in enumerate(parts) if re.match(r"(stem|stage\d|head|image_)", part)]
    return "/".join(parts[places[0] :] if places else parts[-1:])


def float_depthwise(content: bytes) -> bytes:
    """Gives depthwise convolutions with float values and int8 weights their float weights back.

    XNNPACK takes no such mixture and would break the graph in parts. The weights are few.

    Args:
        content: The file's bytes.
    """
    schema, model = _read(content)
    kind = schema.BuiltinOperator.DEPTHWISE_CONV_2D
    codes = [
        max(code.builtinCode, code.deprecatedBuiltinCode) == kind for code in model.operatorCodes
    ]
    for graph in model.subgraphs:
        for operator in graph.operators:
            if not codes[operator.opcodeIndex]:
                continue
            values, kernel = (graph.tensors[index] for index in operator.inputs[:2])
            if (values.type, kernel.type) != (schema.TensorType.FLOAT32, schema.TensorType.INT8):
                continue
            codes_of_kernel = np.asarray(model.buffers[kernel.buffer].data, np.uint8).view(np.int8)
            # (1, k, k, C), a scale for each channel or one for all.
            weights = codes_of_kernel.reshape(kernel.shape) * np.asarray(
                kernel.quantization.scale, np.float32
            )
            model.buffers[kernel.buffer].data = weights.astype("<f4").view(np.uint8).ravel()
            kernel.type = schema.TensorType.FLOAT32
            kernel.quantization = None
    return _write(model, len(content))


def add_suppression(
    content: bytes,
    inputs: Sequence[str],
    anchors: np.ndarray,
    options: Mapping[str, float],
    outputs: Sequence[tuple[str, tuple[int, ...]]],
) -> bytes:
    """Puts TFLite's operation for detections behind a finished file.

    TensorFlow has no such operation: its converter makes one of a marked function, which freezing a
    graph undoes. And so what is in front of it is the file that stands without it, to the bit.

    Args:
        content: The file's bytes.
        inputs: Names of the outputs that it takes: encoded boxes and scores.
        anchors: float32 `(A, 4)`: middle's y and x, height and width.
        options: The operation's.
        outputs: Names and shapes of its four results, which replace the file's outputs.
    """
    schema, model = _read(content)
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    places = {output.name.decode(): output.tensorIndex for output in signature.outputs}

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = SUPPRESSION.encode(), 1
    model.operatorCodes.append(code)

    buffer = schema.BufferT()
    buffer.data = np.ascontiguousarray(anchors, "<f4").view(np.uint8).ravel()
    model.buffers.append(buffer)

    def add_tensor(name: str, shape: tuple[int, ...], buffer: int) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape = name.encode(), list(shape)
        tensor.type, tensor.buffer = schema.TensorType.FLOAT32, buffer
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    anchors_index = add_tensor("anchors", anchors.shape, len(model.buffers) - 1)
    operator.inputs = [*(places[name] for name in inputs), anchors_index]
    # These names are what programs look for that read no metadata.
    operator.outputs = [
        add_tensor(f"{SUPPRESSION}:{number}" if number else SUPPRESSION, shape, 0)
        for number, (_, shape) in enumerate(outputs)
    ]
    operator.customOptions = list(flexbuffers.Dumps(dict(options)))
    graph.operators.append(operator)

    graph.outputs = operator.outputs
    signature.outputs = []
    for (name, _), index in zip(outputs, operator.outputs, strict=True):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), index
        signature.outputs.append(entry)
    return _write(model, len(content))
