"""The operations of a model file: their kinds and sizes, on which their cost hangs. Nothing is run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ModelError

KERNEL_INPUT = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "TRANSPOSE_CONV": 1, "FULLY_CONNECTED": 1}
FREE = ("RESHAPE", "DELEGATE", "SQUEEZE", "EXPAND_DIMS")  # nothing is computed


@dataclass(frozen=True)
class Op:
    """One operation of a graph.

    Args:
        kind: its name in the TFLite schema, such as "CONV_2D".
        dtype: type of its output: "float32", "int8", ...
        pixels: height times width of its output.
        channels_in: channels of its first input that is no weight.
        channels_out: channels of its output.
        kernel: height times width of its kernel; 1 for operations without.
        stride: ratio of the sides of its input and its output; below 1 where the output is the larger one.
        multiply_adds: number of multiply-adds of convolutions and fully connected layers; 0 of others.
        elements: number of elements of inputs and output together, weights left out.
        weights: elements of its kernel.
    """

    kind: str
    dtype: str
    pixels: int
    channels_in: int
    channels_out: int
    kernel: int
    stride: float
    multiply_adds: int
    elements: int
    weights: int


def read_ops(data: bytes) -> list[Op]:
    """Return the operations of a `.tflite`, in order, without those that compute nothing.

    Raises:
        ModelError: LiteRT refuses the file.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = Interpreter(model_content=data, experimental_op_resolver_type=plain, num_threads=1)
        tensors = {int(each["index"]): each for each in interpreter.get_tensor_details()}
        ops = interpreter._get_ops_details()
        inputs = {int(each["index"]) for each in interpreter.get_input_details()}
    except Exception as error:  # the runtime raises ValueError, RuntimeError, MemoryError and others
        raise ModelError(f"LiteRT refuses the model: {error}") from error
    computed = inputs | {int(n) for op in ops for n in op["outputs"]}
    return [_op(op, tensors, computed) for op in ops if op["op_name"] not in FREE]


def _op(op: dict[str, Any], tensors: dict[int, dict[str, Any]], computed: set[int]) -> Op:
    kind = str(op["op_name"])
    output = tensors[int(op["outputs"][0])]
    to = _shape(output)
    inputs = [_shape(tensors[int(n)]) for n in op["inputs"] if int(n) in computed] or [to]
    kernel_input = KERNEL_INPUT.get(kind)
    kernel = _shape(tensors[int(op["inputs"][kernel_input])]) if kernel_input is not None else [1, 1, 1, 1]
    area = math.prod(kernel[1:3]) if len(kernel) == 4 else 1
    pixels, first = math.prod(to[1:-1]), inputs[0]
    channels_in, channels_out = (first[-1] if first else 1), (to[-1] if to else 1)
    work = {
        "CONV_2D": pixels * area * channels_out * kernel[-1],
        "DEPTHWISE_CONV_2D": pixels * area * channels_out,
        "TRANSPOSE_CONV": math.prod(first[1:-1]) * area * channels_out * kernel[-1],
        "FULLY_CONNECTED": math.prod(kernel),
    }.get(kind, 0)
    return Op(
        kind,
        np.dtype(output["dtype"]).name,
        pixels,
        channels_in,
        channels_out,
        area,
        math.sqrt(math.prod(first[1:-1]) / pixels),
        work,
        sum(map(math.prod, inputs)) + math.prod(to),
        0 if kernel_input is None else math.prod(kernel),
    )


def _shape(tensor: dict[str, Any]) -> list[int]:
    return [int(n) for n in tensor["shape"]]
