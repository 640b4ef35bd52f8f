"""What a `.tflite` file is made of, and whether every runtime takes it."""

import collections
import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_keras.export.tflite_runner import open_interpreter
from mobilevit_keras.tasks import CheckError

MAXIMUM_RANK = 4
"""GPU delegates refuse tensors with more dimensions."""

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@dataclasses.dataclass(frozen=True)
class Structure:
    """Operations and tensors of a `.tflite` file.

    Attributes:
        operations: How often each operation occurs.
        max_rank: Most dimensions of a tensor.
        high_rank_tensors: Names of the tensors with more than four dimensions.
        foreign_operations: Operations that are not built in.
        xnnpack_partitions: Parts that XNNPACK takes over; 1 is the whole graph.
        left_operations: Operations outside these parts, with their number.
        multiply_adds: Of convolutions and dense layers, for one image.
        attention_multiply_adds: Of products of two activations.
        int8_share: Share of `multiply_adds` with int8 weights and int8 inputs.
        float_convolutions: Outputs of the convolutions and dense layers that compute in float.
    """

    operations: dict[str, int]
    max_rank: int
    high_rank_tensors: tuple[str, ...]
    foreign_operations: tuple[str, ...]
    xnnpack_partitions: int
    left_operations: dict[str, int]
    multiply_adds: int
    attention_multiply_adds: int
    int8_share: float
    float_convolutions: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """What a report holds of it, as JSON values."""
        return {
            "operations": self.operations,
            "max_rank": self.max_rank,
            "xnnpack_partitions": self.xnnpack_partitions,
            "left_operations": self.left_operations,
            "multiply_adds": self.multiply_adds,
            "attention_multiply_adds": self.attention_multiply_adds,
            "int8_share": round(self.int8_share, 4),
        }


def inspect_tflite(path: str | Path) -> Structure:
    """Reads a file's operations, and what XNNPACK takes of them, from the runtime itself.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no TFLite model.
    """
    plain = open_interpreter(path, use_xnnpack=False)
    tensors = {tensor["index"]: tensor for tensor in plain.get_tensor_details()}
    # The interpreter's only listing of operations; private, so a test holds it to a known model.
    nodes = plain._get_ops_details()
    high_rank = [t["name"] for t in tensors.values() if len(t["shape"]) > MAXIMUM_RANK]
    products, attention, int8_products, in_float = 0, 0, 0, []
    for node in nodes:
        if node["op_name"] == "BATCH_MATMUL":
            attention += _multiply_adds(node, tensors)
        elif node["op_name"] in _CONVOLUTIONS:
            amount = _multiply_adds(node, tensors)
            products += amount
            if all(tensors[index]["dtype"] == np.int8 for index in node["inputs"][:2]):
                int8_products += amount
            else:
                in_float.append(tensors[node["outputs"][0]]["name"])
    partitions, left = _delegated(path)
    names = [node["op_name"] for node in nodes]
    return Structure(
        operations=dict(sorted(collections.Counter(names).items())),
        max_rank=max(len(tensor["shape"]) for tensor in tensors.values()),
        high_rank_tensors=tuple(high_rank),
        foreign_operations=foreign_operations(names),
        xnnpack_partitions=partitions,
        left_operations=left,
        multiply_adds=products,
        attention_multiply_adds=attention,
        int8_share=int8_products / products if products else 0.0,
        float_convolutions=tuple(in_float),
    )


def foreign_operations(names: Collection[str]) -> tuple[str, ...]:
    """The operations that not every TFLite runtime has; a custom one goes by its own name.

    >>> foreign_operations(["CONV_2D", "FlexErf", "TFLite_Detection_PostProcess"])
    ('FlexErf', 'TFLite_Detection_PostProcess')
    """
    from ai_edge_litert import schema_py_generated as schema

    builtin = {name for name in dir(schema.BuiltinOperator) if not name.startswith("_")}
    return tuple(sorted(set(names) - (builtin - {"CUSTOM", "DELEGATE"})))


def _multiply_adds(node: dict, tensors: dict[int, dict]) -> int:
    first, second = (tensors[index]["shape"] for index in node["inputs"][:2])
    output = tensors[node["outputs"][0]]["shape"]
    if node["op_name"] == "BATCH_MATMUL":
        return int(np.prod(output) * first[-1])
    # Kernels: convolution (filters, k, k, C), depthwise (1, k, k, C), dense (filters, C).
    each = np.prod(second[1:3]) if node["op_name"] == "DEPTHWISE_CONV_2D" else np.prod(second[1:])
    return int(np.prod(output) * each)


def _delegated(path: str | Path) -> tuple[int, dict[str, int]]:
    """XNNPACK's parts, and the operations outside of them with their number."""
    nodes = open_interpreter(path)._get_ops_details()
    parts = [node for node in nodes if node["op_name"] == "DELEGATE"]
    # What a part took over is still listed, so walk back from its outputs to its inputs.
    outside = {node["index"]: node for node in nodes if node["op_name"] != "DELEGATE"}
    makers = {int(t): node for node in outside.values() for t in node["outputs"]}
    for part in parts:
        inputs, pending = {int(t) for t in part["inputs"]}, [int(t) for t in part["outputs"]]
        while pending:
            node = makers.get(pending.pop())
            if node is not None and outside.pop(node["index"], None) is not None:
                pending.extend(int(t) for t in node["inputs"] if int(t) not in inputs)
    return len(parts), dict(collections.Counter(node["op_name"] for node in outside.values()))


def check_structure(
    structure: Structure,
    max_partitions: int | None = 1,
    is_int8: bool = False,
    may_leave: Collection[str] = (),
    custom: Collection[str] = (),
    max_float_convolutions: int = 0,
) -> None:
    """Checks that CPU and GPU delegates can take the graph.

    Args:
        structure: Of the written file.
        max_partitions: The most XNNPACK partitions, all operations in them; None for any number.
        is_int8: Whether every convolution and dense layer must compute in int8.
        may_leave: Operations that may stay outside of the partitions.
        custom: Operations that are not built in, of which there must be one each and no others.
        max_float_convolutions: With `is_int8`, how many may compute in float all the same.

    Raises:
        CheckError: If not; it names tensors or operations.
    """
    if structure.high_rank_tensors:
        raise CheckError(
            f"Tensors must have rank {MAXIMUM_RANK} or less. "
            f"Rank {structure.max_rank}: {', '.join(structure.high_rank_tensors[:5])}."
        )
    foreign = {name: structure.operations[name] for name in structure.foreign_operations}
    if foreign != dict.fromkeys(custom, 1):
        but = f" but one {' and one '.join(custom)}" if custom else ""
        needs = ", ".join(f"{name} ({number})" for name, number in foreign.items()) or "none other"
        raise CheckError(f"Every operation must be built in{but}. The file needs {needs}.")
    if is_int8 and len(structure.float_convolutions) > max_float_convolutions:
        but = f" but {max_float_convolutions}" if max_float_convolutions else ""
        raise CheckError(
            f"Every convolution and dense layer{but} must compute in int8. These compute in float: "
            f"{', '.join(structure.float_convolutions[:5])}."
        )
    if max_partitions is None:
        return
    left = [name for name in structure.left_operations if name not in (*may_leave, *custom)]
    if structure.xnnpack_partitions > max_partitions or left:
        raise CheckError(
            f"XNNPACK must take the graph in {max_partitions} part(s). It makes "
            f"{structure.xnnpack_partitions} and leaves {structure.left_operations or 'nothing'}."
        )
