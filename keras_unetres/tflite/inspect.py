"""Reading the ops of a `.tflite`: their types, what they cost, and the Keras layers each came from."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ai_edge_litert.tools import flatbuffer_utils

from unetres_edge.errors import FloatIslandError

FLOATS = ("FLOAT16", "FLOAT32", "FLOAT64")
BORDERS = ("QUANTIZE", "DEQUANTIZE")  # the converter's own, at the ends of a graph and of a float island
_KERNEL_AT = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1}


@dataclass(frozen=True)
class Op:
    """One op of a graph.

    Args:
        name: the op's built-in name, such as "CONV_2D".
        inputs: dtype names of the inputs that are computed, not constants.
        outputs: dtype names of the outputs.
        tensor: name of the first output.
        constants: names of the inputs that are constants; they tell the layer where the output's name does not.
        kernel: dtype name of the kernel of a convolution or dense layer, or "".
        shape: shape of the first output.
        given: shape of the first input that is computed.
        multiply_adds: multiply-adds of one run, in convolutions and dense layers, as He 2015, table 1 counts them.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensor: str
    constants: tuple[str, ...] = ()
    kernel: str = ""
    shape: tuple[int, ...] = ()
    given: tuple[int, ...] = ()
    multiply_adds: int = 0

    @property
    def is_float(self) -> bool:
        """Whether it reads or writes a float tensor that is computed."""
        return any(kind in FLOATS for kind in (*self.inputs, *self.outputs))


class Graph:
    """The first subgraph of a `.tflite`, with the questions that are asked of it.

    Attributes:
        model: the file's objects, as LiteRT's schema names them.
        tensors: tensors of the subgraph.
        operators: operators of the subgraph, in order of execution.
    """

    def __init__(self, data: bytes) -> None:
        self.model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
        self._graph = self.model.subgraphs[0]
        self.tensors = self._graph.tensors
        self.operators = self._graph.operators
        self.inputs = tuple(int(tensor) for tensor in self._graph.inputs)
        self.outputs = tuple(int(tensor) for tensor in self._graph.outputs)

    def kind(self, tensor: int) -> str:
        """Return the dtype name of a tensor."""
        return str(flatbuffer_utils.type_to_name(self.tensors[tensor].type))

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return the shape of a tensor; () for a scalar."""
        shape = self.tensors[tensor].shape
        return () if shape is None else tuple(int(side) for side in shape)

    def is_constant(self, tensor: int) -> bool:
        """Return whether a tensor's values are in the file."""
        data = self.model.buffers[self.tensors[tensor].buffer].data
        return data is not None and len(data) > 0

    def name(self, tensor: int) -> str:
        """Return the name of a tensor."""
        return str((self.tensors[tensor].name or b"").decode("utf-8", "replace"))

    def quantization(self, tensor: int) -> tuple[float, int] | None:
        """Return (scale, zero point) of a tensor that has one of each, or None."""
        parameters = self.tensors[tensor].quantization
        if parameters is None or parameters.scale is None or len(parameters.scale) != 1:
            return None
        return float(parameters.scale[0]), int(parameters.zeroPoint[0]) if parameters.zeroPoint is not None else 0

    def op_name(self, operator: Any) -> str:
        """Return the built-in name of an op; "CUSTOM" for one that is not built in."""
        return str(flatbuffer_utils.opcode_to_name(self.model, operator.opcodeIndex))

    def ops(self) -> list[Op]:
        """Return the ops in order of execution."""
        return [self._op(operator) for operator in self.operators]

    def _op(self, operator: Any) -> Op:
        name = self.op_name(operator)
        inputs = [int(tensor) for tensor in operator.inputs if tensor >= 0]
        outputs = [int(tensor) for tensor in operator.outputs]
        constants = [tensor for tensor in inputs if self.is_constant(tensor)]
        computed = [tensor for tensor in inputs if tensor not in constants]
        at = _KERNEL_AT.get(name)
        kernel = None if at is None else int(operator.inputs[at])
        return Op(
            name,
            tuple(self.kind(tensor) for tensor in computed),
            tuple(self.kind(tensor) for tensor in outputs),
            self.name(outputs[0]),
            tuple(self.name(tensor) for tensor in constants),
            "" if kernel is None else self.kind(kernel),
            self.shape(outputs[0]),
            self.shape(computed[0]) if computed else (),
            0 if kernel is None else self._multiply_adds(name, operator, kernel),
        )

    def _multiply_adds(self, name: str, operator: Any, kernel: int) -> int:
        weights, output = math.prod(self.shape(kernel)), self.shape(int(operator.outputs[0]))
        if name == "TRANSPOSE_CONV":  # its kernel is applied at every place of its input
            return weights * math.prod(self.shape(int(operator.inputs[2]))[:3])
        return weights * math.prod(output[:-1])


def read_ops(data: bytes) -> list[Op]:
    """Return the ops of the first subgraph of a `.tflite`, in order of execution."""
    return Graph(data).ops()


def float_islands(ops: Iterable[Op]) -> list[Op]:
    """Return the ops that read or write a float tensor which is computed."""
    return [op for op in ops if op.is_float]


def refuse_float_islands(data: bytes, layer_names: Iterable[str]) -> None:
    """Check a quantized file.

    Raises:
        FloatIslandError: an op stays float; the ops and the Keras layers they came from are named.
    """
    islands = float_islands(_between_the_ends(read_ops(data)))
    if islands:
        names = list(layer_names)
        # The borders of an island come from the converter, not from a layer.
        inner = [op for op in islands if op.name not in BORDERS] or islands
        layers = [(op.name, find_layer(op.tensor, names)) for op in inner]
        named = list(dict.fromkeys(f"{name} (layer {layer})" if layer else name for name, layer in layers))
        raise FloatIslandError(
            f"{len(islands)} ops of the quantized model stay float",
            expected="every op in int8",
            found=", ".join(named[:8]),
            fix="replace these layers by ones that have an int8 form, or export with --recipe float32",
        )


def _between_the_ends(ops: list[Op]) -> list[Op]:
    """Return the ops without those that take a float image to whole numbers and the answer back, as a head may ask."""
    first = 1 if ops and ops[0].name == "QUANTIZE" else 0
    last = len(ops) - (1 if ops and ops[-1].name == "DEQUANTIZE" else 0)
    return ops[first:last]


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


def layers_of(op: Op, layer_names: Iterable[str] | None = None) -> tuple[str, ...]:
    """Return the Keras layers that became an op, those fused into it included, in the order in which they were called.

    A convolution's name lists what was fused into it, the last first. The op that ends a graph has the name of the
    signature; its constants tell its layer.

    Args:
        layer_names: names of the model's layers; None to take each scope below the model's as a layer, which is right
            for flat models that this package wrote.
    """
    if op.name in BORDERS:
        return ()
    for text in (op.tensor, *op.constants):
        parts = text.split(";")
        candidates = [_guess(part) if layer_names is None else find_layer(part, layer_names) for part in parts]
        known = [layer for layer in candidates if layer]
        if known:
            # "relu;norm;conv;norm": the name that ends it is that of a constant of the norm, and comes a second time.
            return tuple(dict.fromkeys(reversed(list(dict.fromkeys(known)))))
    return ()


def _guess(text: str) -> str | None:
    """Return the layer in "model_1/layer_1/op", without knowing the model."""
    parts = text.split("/")
    return re.sub(r"_\d+$", "", parts[1]) if len(parts) > 2 else None
