"""Reading the ops of a `.tflite`: their types, and the Keras layer each came from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ai_edge_litert.tools import flatbuffer_utils

from unetres_edge.errors import FloatIslandError

_FLOATS = ("FLOAT16", "FLOAT32", "FLOAT64")


@dataclass(frozen=True)
class Op:
    """One op of a graph.

    Args:
        name: the op's built-in name, such as "CONV_2D".
        inputs: dtype names of the inputs that are computed, not constants.
        outputs: dtype names of the outputs.
        tensor: name of the first output.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensor: str


def read_ops(data: bytes) -> list[Op]:
    """Return the ops of the first subgraph of a `.tflite`, in order of execution."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    graph = model.subgraphs[0]

    def kind(index: int) -> str:
        return str(flatbuffer_utils.type_to_name(graph.tensors[index].type))

    def computed(index: int) -> bool:
        buffer = model.buffers[graph.tensors[index].buffer]
        return index >= 0 and (buffer.data is None or len(buffer.data) == 0)

    return [
        Op(
            str(flatbuffer_utils.opcode_to_name(model, op.opcodeIndex)),
            tuple(kind(i) for i in op.inputs if computed(i)),
            tuple(kind(i) for i in op.outputs),
            graph.tensors[op.outputs[0]].name.decode("utf-8", "replace"),
        )
        for op in graph.operators
    ]


def float_islands(ops: Iterable[Op]) -> list[Op]:
    """Return the ops that read or write a float tensor which is computed."""
    return [op for op in ops if any(kind in _FLOATS for kind in (*op.inputs, *op.outputs))]


def refuse_float_islands(data: bytes, layer_names: Iterable[str]) -> None:
    """Check a quantized file.

    Raises:
        FloatIslandError: an op stays float; the ops and the Keras layers they came from are named.
    """
    islands = float_islands(read_ops(data))
    if islands:
        names = list(layer_names)
        # The borders of an island come from the converter, not from a layer.
        inner = [op for op in islands if op.name not in ("QUANTIZE", "DEQUANTIZE")] or islands
        layers = [(op.name, find_layer(op.tensor, names)) for op in inner]
        found = list(dict.fromkeys(f"{name} (layer {layer})" if layer else name for name, layer in layers))
        raise FloatIslandError(
            f"{len(islands)} ops of the quantized model stay float",
            expected="every op in int8",
            found=", ".join(found[:8]),
            fix="replace these layers by ones that have an int8 form, or export with --recipe float32",
        )


def find_layer(tensor: str, layer_names: Iterable[str]) -> str | None:
    """Return the Keras layer that a tensor's name speaks of: "unet_1/head_logits_1/BiasAdd" -> "head_logits".

    Tracing puts a number after every scope, so "conv_1" speaks of a layer "conv" before one that is called "conv_1".
    """
    names = set(layer_names)
    for part in re.split(r"[/;]", tensor):
        for candidate in (re.sub(r"_\d+$", "", part), part):
            if candidate in names:
                return candidate
    return None
