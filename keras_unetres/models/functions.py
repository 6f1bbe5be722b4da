"""Functions of `keras.ops` in a graph as the layers that compute the same, for what knows layers alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers


def as_layer(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    """Return (layer, what it is called on) that computes what a function does, or None of one without such a layer.

    Args:
        operation: the function in the graph.
        args, kwargs: arguments that it is called on; symbols and numbers.
    """
    if isinstance(operation, layers.Layer) or type(operation).__module__.partition(".")[0] != "keras" or kwargs:
        return None
    make = _LAYERS.get(type(operation).__name__)
    return None if make is None else make(operation, args)


def _activation(name: str) -> Callable[[Any, tuple[Any, ...]], tuple[Any, Any] | None]:
    return lambda operation, args: (layers.Activation(name), args[0]) if len(args) == 1 else None


def _same(operation: Any, args: tuple[Any, ...]) -> tuple[Any, Any] | None:
    """Return what leaves a tensor as it is, for casts from float to float: all is float32 here."""
    tensor = args[0] if len(args) == 1 else None
    if not isinstance(tensor, keras.KerasTensor) or not tensor.dtype.startswith(("float", "bfloat")):
        return None
    floats = operation.dtype is None or str(operation.dtype).startswith(("float", "bfloat"))
    return (layers.Identity(), tensor) if floats else None


def _softmax(operation: Any, args: tuple[Any, ...]) -> tuple[Any, Any] | None:
    return layers.Softmax(axis=operation.axis), args[0]


def _leaky(operation: Any, args: tuple[Any, ...]) -> tuple[Any, Any] | None:
    return layers.LeakyReLU(negative_slope=operation.negative_slope), args[0]


def _concatenate(operation: Any, args: tuple[Any, ...]) -> tuple[Any, Any] | None:
    parts = list(args[0]) if len(args) == 1 else []
    several = len(parts) > 1 and all(isinstance(each, keras.KerasTensor) for each in parts)
    return (layers.Concatenate(axis=operation.axis), parts) if several else None


def _merge(
    layer: type[layers.Layer], scaled: Callable[[Any, bool], tuple[Any, Any]]
) -> Callable[[Any, tuple[Any, ...]], tuple[Any, Any] | None]:
    """Return how a function of two becomes a layer.

    Args:
        layer: layer of two tensors.
        scaled: (number or one a channel, whether it comes first) -> the scale and offset that do the same to the other,
            a tensor.
    """

    def make(operation: Any, args: tuple[Any, ...]) -> tuple[Any, Any] | None:
        if len(args) != 2:
            return None
        tensors = [isinstance(each, keras.KerasTensor) for each in args]
        if all(tensors):
            return (layer(), list(args)) if args[0].shape == args[1].shape or layer is layers.Multiply else None
        first = tensors[1]
        tensor, number = (args[1], _number(args[0], args[1])) if first else (args[0], _number(args[1], args[0]))
        if number is None:
            return None
        scale, offset = (np.asarray(each).tolist() for each in scaled(number, first))
        return layers.Rescaling(scale, offset), tensor

    return make


def _number(value: Any, tensor: Any) -> np.ndarray | None:
    """Return a constant () or (C,) that goes with the channels of a tensor, or None of anything else."""
    if not isinstance(value, (int, float, np.generic, np.ndarray)):
        return None
    constant = np.asarray(value, np.float64)
    if constant.size == 1 and constant.ndim <= len(tensor.shape):
        return constant.reshape(())
    return constant.ravel() if constant.shape[-1:] == (constant.size,) == (tensor.shape[-1],) else None


def _divide(operation: Any, args: tuple[Any, ...]) -> tuple[Any, Any] | None:
    if len(args) != 2 or not isinstance(args[0], keras.KerasTensor):
        return None
    number = _number(args[1], args[0])
    return None if number is None or not number.all() else (layers.Rescaling((1 / number).tolist()), args[0])


def _negative(operation: Any, args: tuple[Any, ...]) -> tuple[Any, Any] | None:
    return layers.Rescaling(-1.0), args[0]


def _mean(operation: Any, args: tuple[Any, ...]) -> tuple[Any, Any] | None:
    """Return the mean over a map, as squeeze-and-excite takes it."""
    axes = (operation.axis,) if isinstance(operation.axis, int) else tuple(operation.axis or ())
    pooled = len(args[0].shape) == 4 and sorted(axis % 4 for axis in axes) == [1, 2]
    return (layers.GlobalAveragePooling2D(keepdims=operation.keepdims), args[0]) if pooled else None


_LAYERS: dict[str, Callable[[Any, tuple[Any, ...]], tuple[Any, Any] | None]] = {
    "Add": _merge(layers.Add, lambda number, first: (1.0, number)),
    "Cast": _same,
    "Concatenate": _concatenate,
    "ConvertToTensor": _same,
    "Divide": _divide,
    "HardSigmoid": _activation("hard_sigmoid"),
    "HardSilu": _activation("hard_silu"),
    "LeakyRelu": _leaky,
    "Mean": _mean,
    "Multiply": _merge(layers.Multiply, lambda number, first: (number, 0.0)),
    "Negative": _negative,
    "Relu": _activation("relu"),
    "Relu6": _activation("relu6"),
    "Sigmoid": _activation("sigmoid"),
    "Silu": _activation("silu"),
    "Softmax": _softmax,
    "Subtract": _merge(layers.Subtract, lambda number, first: (-1.0, number) if first else (1.0, -number)),
    "Tanh": _activation("tanh"),
    "TrueDivide": _divide,
}
