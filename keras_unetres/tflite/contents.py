"""What a `.tflite` is made of: ops and the layers they came from, types, memory, and what XNNPACK leaves to others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from unetres_edge.engines.probe import find_partitions
from unetres_edge.errors import ModelError

from .arena import arena_bytes
from .inspect import BORDERS, Graph, Op, layers_of

_SHARED = 1 << 20  # bytes that parts of a file of any writer may share


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph.

    Args:
        kind: dtype name.
        shape: shape of the tensor.
        quantization: (scale, zero point), or None.
    """

    kind: str
    shape: tuple[int, ...]
    quantization: tuple[float, int] | None


@dataclass(frozen=True)
class Contents:
    """What a file is made of.

    Args:
        num_bytes: number of bytes of the file.
        ops: the ops in order of execution.
        layers: the Keras layers that became each op.
        partitions: the pieces that XNNPACK takes, each as places of ops.
        arena: bytes of the tensors that are computed, computed from their lifetimes.
        constants: bytes of all constants: kernels, biases, tables.
        inputs, outputs: inputs and outputs of the graph.
        metadata: names of the entries of the file's metadata.
    """

    num_bytes: int
    ops: tuple[Op, ...]
    layers: tuple[tuple[str, ...], ...]
    partitions: tuple[tuple[int, ...], ...]
    arena: int
    constants: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: tuple[str, ...] = ()

    @property
    def multiply_adds(self) -> int:
        """Of one run, in convolutions and dense layers."""
        return sum(op.multiply_adds for op in self.ops)

    @property
    def islands(self) -> list[int]:
        """Places of float ops in a file of whole numbers, apart from what takes the image in and the answer out."""
        last = len(self.ops) - 1
        ends = {index for index in (0, last) if self.ops[index].name in BORDERS}
        whole = any({"INT8", "INT16"} & set(op.inputs) for op in self.ops)
        return [index for index, op in enumerate(self.ops) if op.is_float and index not in ends] if whole else []

    @property
    def outside(self) -> list[int]:
        """Places of the ops that XNNPACK does not take."""
        taken = {index for piece in self.partitions for index in piece}
        return [index for index in range(len(self.ops)) if index not in taken]

    @property
    def types(self) -> dict[str, int]:
        """How many ops write each type."""
        return dict(Counter(op.outputs[0] for op in self.ops))

    def say(self, index: int) -> str:
        """Return an op with the layer that it ended in: "CAST (layer head)"."""
        layers = self.layers[index]
        return self.ops[index].name + (f" (layer {layers[-1]})" if layers else "")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        outside = set(self.outside)
        return {
            "bytes": self.num_bytes,
            "constant_bytes": self.constants,
            "arena_bytes": self.arena,
            "arena_by": "computed from the lifetimes of the tensors, without scratch memory of kernels",
            "multiply_adds": self.multiply_adds,
            "inputs": [_tensor_dict(tensor) for tensor in self.inputs],
            "outputs": [_tensor_dict(tensor) for tensor in self.outputs],
            "types": self.types,
            "float_islands": [self.say(index) for index in self.islands],
            "xnnpack_partitions": len(self.partitions),
            "outside_xnnpack": [self.say(index) for index in sorted(outside)],
            "metadata": list(self.metadata),
            "ops": [
                {
                    "op": op.name,
                    "layers": list(layers),
                    "inputs": list(op.inputs),
                    "kernel": op.kernel or None,
                    "output": op.outputs[0],
                    "shape": list(op.shape),
                    "multiply_adds": op.multiply_adds,
                    "xnnpack": index not in outside,
                }
                for index, (op, layers) in enumerate(zip(self.ops, self.layers, strict=True))
            ],
        }


def read_contents(data: bytes, layer_names: Iterable[str] | None = None) -> Contents:
    """Return what a `.tflite` is made of.

    Args:
        data: the file's bytes, verified.
        layer_names: names of the Keras model's layers; None to read them from the names of the tensors.

    Raises:
        ModelError: the runtime refuses the file, or it unfolds to more than it is.
    """
    partitions = tuple(find_partitions(data))  # first: what the runtime does not take is not unfolded
    _refuse_unfolding(data)
    graph = Graph(data)
    names = None if layer_names is None else list(layer_names)
    ops = tuple(graph.ops())
    return Contents(
        num_bytes=len(data),
        ops=ops,
        layers=_joined(ops, [layers_of(op, names) for op in ops]),
        partitions=partitions,
        arena=arena_bytes(graph),
        constants=_constant_bytes(graph),
        inputs=tuple(_tensor(graph, tensor) for tensor in graph.inputs),
        outputs=tuple(_tensor(graph, tensor) for tensor in graph.outputs),
        metadata=tuple(_text(entry.name) for entry in graph.model.metadata or []),
    )


def _refuse_unfolding(data: bytes) -> None:
    """Raise ModelError for a file in which many parts are one: unpacked into objects, each would be one of its own."""
    room = len(data) + _SHARED
    for size in _unpacked(schema.Model.GetRootAs(data, 0)):
        room -= size
        if room < 0:
            raise ModelError("the parts of the file lie in each other", fix="take one that `unetres export` wrote")


def _unpacked(model: Any) -> Iterator[int]:
    """Yield the bytes of names, and those that its tables take at least, part by part."""
    for number in range(model.MetadataLength()):
        yield len(model.Metadata(number).Name() or b"")
    for number in range(model.OperatorCodesLength()):
        yield len(model.OperatorCodes(number).CustomCode() or b"")
    for number in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(number)
        yield len(signature.SignatureKey() or b"")
        for at in range(signature.InputsLength()):
            yield len(signature.Inputs(at).Name() or b"")
        for at in range(signature.OutputsLength()):
            yield len(signature.Outputs(at).Name() or b"")
    for number in range(model.SubgraphsLength()):
        graph = model.Subgraphs(number)
        yield 4 * (graph.TensorsLength() + graph.OperatorsLength()) + len(graph.Name() or b"")
        for at in range(graph.TensorsLength()):
            yield len(graph.Tensors(at).Name() or b"")


def _joined(ops: tuple[Op, ...], layers: list[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Give ops that name no layer, such as an activation split off or the head's argmax, that of the op before."""
    joined: list[tuple[str, ...]] = []
    for op, of_op in zip(ops, layers, strict=True):
        before = joined[-1] if joined else ()
        joined.append(of_op if of_op or op.name in BORDERS else before[-1:])
    return tuple(joined)


def _constant_bytes(graph: Graph) -> int:
    used = {int(t) for operator in graph.operators for t in operator.inputs if t >= 0 and graph.is_constant(int(t))}
    return sum(len(graph.model.buffers[buffer].data) for buffer in {graph.tensors[tensor].buffer for tensor in used})


def _tensor(graph: Graph, tensor: int) -> Tensor:
    return Tensor(graph.kind(tensor), graph.shape(tensor), graph.quantization(tensor))


def _tensor_dict(tensor: Tensor) -> dict[str, Any]:
    scale, zero_point = tensor.quantization or (None, None)
    return {"type": tensor.kind, "shape": list(tensor.shape), "scale": scale, "zero_point": zero_point}


def _text(name: bytes | str | None) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name or ""
