"""Refinement of an int8 network without labels: equalized channels, chosen ranges, learned rounding, corrected biases.

For networks that lose by rounding to the nearest, such as those of depthwise convolutions with unequal channels, and
for whom nobody wants to train. Each step is kept only where it brings the scores nearer to those of the float network,
on calibration images that are left aside for this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from ..models.fake_quant import KERNELS
from .equalization import equalize
from .folding import Folded, fold
from .graph import Call, read_calls
from .native import build_native, range_name, set_ranges
from .ranges import find_ranges
from .rounding import MOST_INPUTS, Sums, learn_rounding

_RANGES = ("minmax", "mse")
_JUDGED = 4  # every fourth image is left aside
_MOST_PIXELS = 32 * 160 * 160  # of images that rounding is learned from
_LEAST_IMAGES = 8
_SAMPLES = 4096  # of each layer's sums
_BATCH = 8


def refine_network(model: keras.Model, images: np.ndarray, *, keep_zeros: bool = False) -> keras.Model:
    """Return the quantization-aware form of a network, refined without labels.

    Args:
        model: flat, float; not changed.
        images: (N, h, w, C) float32 as the network sees them.
        keep_zeros: weights that are 0 stay 0.

    Raises:
        UsageError: a layer has no int8 form; it is named.
        ConversionError: an activation is not finite.
    """
    judges = images[::_JUDGED] if len(images) >= 2 * _JUDGED else images
    seen = np.delete(images, np.s_[::_JUDGED], 0) if len(images) >= 2 * _JUDGED else images
    expected = _scores(model, judges)

    def distance(quantized: keras.Model) -> float:
        return float(np.square(_scores(quantized, judges) - expected).mean())

    candidates: list[tuple[float, Folded, keras.Model]] = []
    for equalizes in (False, True):
        folded = fold(model)
        if equalizes and not equalize(folded, seen).any():
            continue
        for method in _RANGES:
            quantized = build_native(folded, keep_zeros=keep_zeros)
            set_ranges(quantized, find_ranges(folded, seen, method=method))
            candidates.append((distance(quantized), folded, quantized))
    before, folded, quantized = min(candidates, key=lambda each: each[0])
    weights = quantized.get_weights()
    few = max(_LEAST_IMAGES, _MOST_PIXELS // (seen.shape[1] * seen.shape[2]))
    _Refining(folded, quantized, seen[:few]).run()
    if distance(quantized) > before:
        quantized.set_weights(weights)
    return quantized


def _scores(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return the scores of a model; of several classes less their mean, on which nothing rests."""
    scores = _apply(model, [images])
    return scores - scores.mean(-1, keepdims=True) if scores.shape[-1] > 1 else scores


@dataclass(frozen=True)
class _Values:
    """A tensor of all images, in the float network and in the quantized one."""

    exact: np.ndarray
    rounded: np.ndarray


class _Refining:
    """One walk through a network, in which each kernel is refined on what the layers before it give."""

    def __init__(self, folded: Folded, quantized: keras.Model, images: np.ndarray) -> None:
        self._quantized, self._source = quantized, folded.model
        self._points = {name: range_name(point.name) for point in folded.points for name in point.layers}
        self._calls = read_calls(folded.model)
        self._uses = Counter(id(tensor) for call in self._calls for tensor in call.inputs)
        self._rectified = {id(call.inputs[0]) for call in self._calls if isinstance(call.layer, layers.ReLU)}
        name = self._source.inputs[0]._keras_history.operation.name
        self._values = {id(self._source.inputs[0]): _Values(images, self._round(name, images))}

    def run(self) -> None:
        """Refine every kernel, from the first to the last."""
        for call in self._calls:
            layer = self._quantized.get_layer(call.layer.name)
            inputs = [self._values[id(tensor)] for tensor in call.inputs]
            exact = _apply(call.layer, [each.exact for each in inputs])
            if isinstance(layer, KERNELS):  # frozen ones, too
                self._refine(layer, inputs[0].rounded, exact, id(call.output) in self._rectified and self._alone(call))
            bilinear = getattr(layer, "interpolation", None) == "bilinear"
            rounded = _apply(layer, [each.rounded for each in inputs])
            self._values[id(call.output)] = _Values(exact, self._round(layer.name, rounded, ties_up=bilinear))
            for tensor in call.inputs:
                self._uses[id(tensor)] -= 1
                if not self._uses[id(tensor)]:
                    self._values.pop(id(tensor), None)

    def _alone(self, call: Call) -> bool:
        return self._uses[id(call.output)] == 1

    def _round(self, name: str, values: np.ndarray, **how: bool) -> np.ndarray:
        """Return values at the levels of the point that a layer's output is at, if it is at one."""
        point = self._points.get(name)
        if point is None:
            return values
        return _apply(self._quantized.get_layer(point), [values], **how)

    def _refine(self, layer: Any, inputs: np.ndarray, exact: np.ndarray, rectified: bool) -> None:
        """Learn how the kernel of a layer is rounded, and correct its bias by what its sums are off in the mean."""
        kernel, bias = (np.asarray(each, np.float32) for each in (layer.kernel, layer.bias))
        shaped = Kernel(layer)
        learns = len(shaped.flat(kernel)) <= MOST_INPUTS
        patches = shaped.samples(inputs, exact) if learns else None
        if patches is not None:
            taken, targets = patches
            _, _, step = layer.rounded(layer.kernel)
            steps = np.broadcast_to(np.asarray(step, np.float32), bias.shape)
            learned = learn_rounding(shaped.flat(kernel), steps, Sums(taken, targets - bias))
            layer.kernel.assign(shaped.back(learned.astype(np.float32), kernel.shape))
        layer.bias.assign(bias + _mean_error(layer, inputs, exact, rectified))


def _mean_error(layer: Any, inputs: np.ndarray, exact: np.ndarray, rectified: bool) -> np.ndarray:
    """Return (C,) by how much the sums of a layer are too small in the mean; before a ReLU, of those that pass it."""
    sums = _apply(layer, [inputs])
    error = (exact - sums).reshape(-1, exact.shape[-1])
    if not rectified:
        return error.mean(0)
    passes = ((exact > 0) | (sums > 0)).reshape(error.shape)
    return (error * passes).sum(0) / np.maximum(passes.sum(0), 1)


def _apply(layer: Any, tensors: list[np.ndarray], **how: bool) -> np.ndarray:
    """Return what a layer gives at inference, a few images at a time."""
    several = len(tensors) > 1 or isinstance(layer, layers.Concatenate)
    parts = []
    for start in range(0, len(tensors[0]), _BATCH):
        batch = [keras.ops.convert_to_tensor(each[start : start + _BATCH]) for each in tensors]
        parts.append(np.asarray(layer(batch if several else batch[0], training=False, **how)))
    return np.concatenate(parts)


class Kernel:
    """The kernel of a layer as a matrix, (K, C), and its inputs as the rows that are multiplied with it."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._depthwise = isinstance(layer, layers.DepthwiseConv2D)
        self._transposed = isinstance(layer, layers.Conv2DTranspose)
        self._dense = isinstance(layer, layers.Dense)

    def flat(self, kernel: np.ndarray) -> np.ndarray:
        """Return (K, C)."""
        if self._dense:
            return kernel
        if self._transposed:  # (kh, kw, out, in), and a place of the output meets it turned
            return np.swapaxes(kernel[::-1, ::-1], -1, -2).reshape(-1, kernel.shape[2])
        return kernel.reshape(-1, kernel.shape[2 if self._depthwise else 3])

    def back(self, matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the kernel of a matrix."""
        if not self._transposed:
            return matrix.reshape(shape)
        height, width, filters, channels = shape
        return np.swapaxes(matrix.reshape(height, width, channels, filters), -1, -2)[::-1, ::-1]

    def samples(self, inputs: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Return rows of inputs, (P, K) or (P, K, C), and the outputs there, (P, C); None of what is not sampled."""
        random = np.random.default_rng(0)
        if self._dense:
            rows, ends = inputs.reshape(-1, inputs.shape[-1]), outputs.reshape(-1, outputs.shape[-1])
            chosen = random.permutation(len(rows))[:_SAMPLES]
            return rows[chosen], ends[chosen]
        layer = self._layer
        if (
            self._transposed
            and (layer.padding == "same")
            and any(
                out != each * stride
                for out, each, stride in zip(outputs.shape[1:3], inputs.shape[1:3], layer.strides, strict=True)
            )
        ):
            return None
        count, height, width, _ = outputs.shape
        places = random.permutation(count * height * width)[:_SAMPLES]
        image, row, column = np.unravel_index(places, (count, height, width))
        taps = [list(self._taps(at, axis, inputs.shape, outputs.shape)) for axis, at in ((0, row), (1, column))]
        values = []
        for y, inside_y in taps[0]:
            for x, inside_x in taps[1]:
                picked = inputs[image, np.where(inside_y, y, 0), np.where(inside_x, x, 0)]
                values.append(picked * (inside_y & inside_x)[:, None])
        patches = np.stack(values, 1)  # (P, kh * kw, channels)
        return patches if self._depthwise else patches.reshape(len(places), -1), outputs[image, row, column]

    def _taps(
        self, at: np.ndarray, axis: int, before: tuple[int, ...], after: tuple[int, ...]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield which element of the input each tap of the kernel meets, and whether there is one."""
        layer = self._layer
        size, stride, dilation = (each[axis] for each in (layer.kernel_size, layer.strides, layer.dilation_rate))
        length, extent = before[1 + axis], dilation * (size - 1) + 1
        if self._transposed:
            first = max(size - stride, 0) // 2 if layer.padding == "same" else 0
            for tap in range(size):
                position = at + first - (size - 1 - tap)
                yield position // stride, (position % stride == 0) & (position >= 0) & (position < length * stride)
            return
        total = max(0, (after[1 + axis] - 1) * stride + extent - length) if layer.padding == "same" else 0
        for tap in range(size):
            position = at * stride + tap * dilation - total // 2
            yield position, (position >= 0) & (position < length)
