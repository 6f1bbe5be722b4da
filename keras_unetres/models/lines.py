"""A line of input pixels sent through a graph, along one axis.

Each element of each map carries the first and the last input pixel that it depends on. What comes out is exact for the
given length, border effects included (Araujo 2019 gives the closed form without borders).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import keras
import numpy as np
from keras import layers

from unetres_edge.errors import ModelError

from .fake_quant import FakeQuant
from .graph import Background, OneMinus, ordered_nodes

NOTHING = 2**40  # first pixel of an element that depends on none, such as padding

_POINTWISE = (
    layers.Activation,
    layers.BatchNormalization,
    layers.Dropout,
    layers.Identity,
    layers.InputLayer,
    layers.LayerNormalization,
    layers.LeakyReLU,
    layers.ReLU,
    layers.Rescaling,
    layers.Softmax,
    layers.SpatialDropout2D,
    Background,
    FakeQuant,
    OneMinus,
)
_MERGES = (layers.Add, layers.Concatenate, layers.Multiply, layers.Subtract)


@dataclass(frozen=True)
class Line:
    """A map along one axis: the input pixels [first, last] of each element, and px between neighbouring elements."""

    first: np.ndarray
    last: np.ndarray
    stride: Fraction

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Unknown:
    """A tensor behind a layer whose reach is not known."""

    layer: Any


class SizesDifferError(Exception):
    """The maps that meet in a layer differ in size."""


def follow(model: keras.Model, length: int, axis: int) -> dict[int, Line | Unknown]:
    """Return the line of every tensor of the graph, by `id`, for an input of a length along an axis."""
    if not hasattr(model, "operations"):
        raise ModelError("the model has no graph to follow", expected="a functional model", found=type(model).__name__)
    pixels = np.arange(length)
    lines: dict[int, Line | Unknown] = {id(t): Line(pixels, pixels, Fraction(1)) for t in model.inputs}
    for layer, inputs, outputs in ordered_nodes(model):
        sources = [lines[id(tensor)] for tensor in inputs]
        unknown = next((source for source in sources if isinstance(source, Unknown)), None)
        result = unknown or _step(layer, [s for s in sources if isinstance(s, Line)], axis)
        lines.update({id(tensor): result for tensor in outputs})
    return lines


def _step(layer: Any, sources: list[Line], axis: int) -> Line | Unknown:
    line = sources[0]
    if isinstance(layer, _POINTWISE):
        return line
    if isinstance(layer, _MERGES):
        if len({len(source) for source in sources}) > 1:
            raise SizesDifferError
        first = np.minimum.reduce([source.first for source in sources])
        return Line(first, np.maximum.reduce([source.last for source in sources]), line.stride)
    if isinstance(layer, layers.Conv2DTranspose):
        return _transposed(line, layer, axis)
    if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)):
        return _window(line, layer.kernel_size[axis], layer.strides[axis], layer.dilation_rate[axis], layer.padding)
    if isinstance(layer, (layers.MaxPooling2D, layers.AveragePooling2D)):
        return _window(line, layer.pool_size[axis], layer.strides[axis], 1, layer.padding)
    if isinstance(layer, layers.UpSampling2D):
        return _resized(line, layer.size[axis], layer.interpolation)
    if isinstance(layer, layers.ZeroPadding2D):
        return _padded(line, *layer.padding[axis])
    if isinstance(layer, layers.Cropping2D):
        before, after = layer.cropping[axis]
        keep = slice(before, max(before, len(line) - after))
        return Line(line.first[keep], line.last[keep], line.stride)
    return Unknown(layer)


def _padded(line: Line, before: int, after: int) -> Line:
    return Line(
        np.pad(line.first, (before, after), constant_values=NOTHING),
        np.pad(line.last, (before, after), constant_values=-NOTHING),
        line.stride,
    )


def _window(line: Line, kernel: int, stride: int, dilation: int, padding: str) -> Line:
    """A kernel that slides over the line; "same" pads as TensorFlow does."""
    extent = dilation * (kernel - 1) + 1
    if padding == "same":
        total = max(0, (-(-len(line) // stride) - 1) * stride + extent - len(line))
        line = _padded(line, total // 2, total - total // 2)
    count = max(0, (len(line) - extent) // stride + 1)
    taps = [slice(dilation * t, dilation * t + stride * count, stride) for t in range(kernel)]
    return _merged([(line.first[t][:count], line.last[t][:count]) for t in taps], line.stride * stride)


def _transposed(line: Line, layer: Any, axis: int) -> Line:
    kernel, stride = layer.kernel_size[axis], layer.strides[axis]
    over = max(kernel - stride, 0)
    count, before = (len(line) * stride, over // 2) if layer.padding == "same" else (len(line) * stride + over, 0)
    parts = []
    for tap in range(kernel):
        places = stride * np.arange(len(line)) + tap - before
        inside = (places >= 0) & (places < count)
        first, last = np.full(count, NOTHING), np.full(count, -NOTHING)
        first[places[inside]], last[places[inside]] = line.first[inside], line.last[inside]
        parts.append((first, last))
    return _merged(parts, line.stride / stride)


def _resized(line: Line, factor: int, interpolation: str) -> Line:
    """Every element `factor` times, or between its two neighbours, with half-pixel centres."""
    position = (np.arange(len(line) * factor) + 0.5) / factor - 0.5
    rounds: tuple[Callable[..., np.ndarray], ...] = (np.floor, np.ceil)
    if interpolation != "bilinear":
        position, rounds = position + 0.5, (np.floor,)
    near = [np.clip(to(position).astype(int), 0, len(line) - 1) for to in rounds]
    return _merged([(line.first[n], line.last[n]) for n in near], line.stride / factor)


def _merged(parts: list[tuple[np.ndarray, np.ndarray]], stride: Fraction) -> Line:
    firsts, lasts = zip(*parts, strict=True)
    return Line(np.minimum.reduce(firsts), np.maximum.reduce(lasts), stride)
