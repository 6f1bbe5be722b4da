"""Cross-layer equalization: channels that share one int8 scale are brought to one range, and the answers stay.

What a convolution gives for a channel may be divided by a number, if all that takes this channel multiplies by it:
ReLU, sums, joins, poolings and resizing in between pass the factor on (Nagel 2019, section 4.1). Here kernels have a
scale for each output channel, so that what has to be equal is activations: a channel whose values are a hundredth of
its neighbours' has two or three levels of the 256.

The factors are powers of two. Products with them are exact, and so the float network answers bit for bit as before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from ..models.answers import predict
from .folding import Folded
from .graph import Call, read_calls

_KEEP = (  # channel by channel, and f(a * x) = a * f(x) for a > 0
    *(layers.ActivityRegularization, layers.AlphaDropout, layers.AveragePooling2D, layers.Cropping2D, layers.Dropout),
    *(layers.GaussianDropout, layers.GaussianNoise, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D),
    *(layers.Identity, layers.LeakyReLU, layers.MaxPooling2D, layers.Resizing, layers.SpatialDropout2D),
    *(layers.UpSampling2D, layers.ZeroPadding2D),
)
_MIXING = (layers.Conv2D, layers.Conv2DTranspose, layers.Dense)
_MOST_DOUBLINGS = 12
_LEAST_PART = 2.0**-20  # of the largest channel; less is a channel that is never used
_ROUNDS = 4


@dataclass(frozen=True)
class Channels:
    """Which channels of which tensors have to be scaled alike.

    Args:
        of: id of a tensor -> (C,) group of each of its channels.
        fixed: (groups,) whether a group keeps its scale.
    """

    of: dict[int, np.ndarray]
    fixed: np.ndarray


def find_channels(model: keras.Model) -> Channels:
    """Return the groups of channels of a folded network."""
    return _Grouping(model).channels()


def equalize(folded: Folded, images: np.ndarray, *, batch: int = 4) -> np.ndarray:
    """Equalize the channels of a folded network in place; it answers as before, to the last bit.

    The factor of a channel is the root of the range of its values, and of the part of their ranges that the kernels
    behind it have for it: what is gained on activations is not lost on kernels.

    Args:
        images: (N, h, w, C) float32 as the network sees them.

    Returns:
        (groups,) float64 by how many doublings the values of each group of channels were lowered.
    """
    calls = read_calls(folded.model)
    channels = find_channels(folded.model)
    largest = _largest_values(folded.model, calls, channels, images, batch)
    doublings = np.zeros(len(largest))
    for _ in range(_ROUNDS):
        lowered = largest * 2.0**-doublings
        share = _share_of_kernels(calls, channels, doublings)
        wanted = doublings + (np.log2(lowered) - np.log2(share)) / 2
        wanted = np.where(np.isnan(share), doublings + np.log2(lowered), wanted)
        doublings = _anchored(np.where(channels.fixed, 0.0, wanted), largest, channels)
    doublings = np.where(channels.fixed, 0.0, np.clip(np.rint(doublings), -_MOST_DOUBLINGS, _MOST_DOUBLINGS))
    scale_channels(folded.model, channels, doublings)
    return doublings


def scale_channels(model: keras.Model, channels: Channels, doublings: np.ndarray) -> None:
    """Divide the values of groups of channels by 2**doublings, in the kernels before and behind them.

    Args:
        doublings: (groups,), 0 for groups that are fixed.
    """
    for call in read_calls(model):
        if not call.layer.weights:
            continue
        outputs, inputs = (doublings[channels.of[id(each)]] for each in (call.output, call.inputs[0]))
        kernel, bias = call.layer.get_weights()
        if isinstance(call.layer, layers.DepthwiseConv2D):
            factors = (inputs - outputs)[:, None]
        elif isinstance(call.layer, layers.Conv2DTranspose):
            factors = inputs[None, :] - outputs[:, None]
        else:
            factors = inputs[:, None] - outputs[None, :]
        call.layer.set_weights([np.ldexp(kernel, factors.astype(int)), np.ldexp(bias, -outputs.astype(int))])


def _largest_values(
    model: keras.Model, calls: list[Call], channels: Channels, images: np.ndarray, batch: int
) -> np.ndarray:
    """Return (groups,) the largest magnitude of each group, no less than a small part of the largest of all."""
    outputs = [call.output for call in calls]
    probe = keras.Model(model.inputs, outputs)
    largest = np.zeros(len(channels.fixed))
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        for tensor, values in zip([model.inputs[0], *outputs], [part, *_listed(predict(probe, part))], strict=True):
            np.maximum.at(largest, channels.of[id(tensor)], np.abs(values).reshape(-1, values.shape[-1]).max(0))
    for groups in channels.of.values():
        largest[groups] = np.maximum(largest[groups], largest[groups].max() * _LEAST_PART)
    return np.where(largest > 0, largest, 1.0)


def _listed(answer: Any) -> list[np.ndarray]:
    return [np.asarray(each) for each in (answer if isinstance(answer, list) else [answer])]


def _share_of_kernels(calls: list[Call], channels: Channels, doublings: np.ndarray) -> np.ndarray:
    """Return (groups,) the largest part of its filters' ranges that the kernels behind a group have for it.

    NaN where none mixes channels: a depthwise kernel has a scale for each.
    """
    share = np.full(len(doublings), np.nan)
    for call in calls:
        if not isinstance(call.layer, _MIXING) or isinstance(call.layer, layers.DepthwiseConv2D):
            continue
        groups = channels.of[id(call.inputs[0])]
        kernel = np.abs(np.asarray(call.layer.kernel, np.float64))
        kernel = np.swapaxes(kernel, -1, -2) if isinstance(call.layer, layers.Conv2DTranspose) else kernel
        kernel = kernel.reshape(-1, *kernel.shape[-2:]).max(0) * 2.0 ** doublings[groups][:, None]
        filters = kernel.max() if isinstance(call.layer, (layers.Conv2DTranspose, layers.Dense)) else kernel.max(0)
        part = (kernel / np.maximum(filters, np.finfo(np.float64).tiny)).max(1)
        np.fmax.at(share, groups, np.maximum(part, _LEAST_PART))
    return share


def _anchored(doublings: np.ndarray, largest: np.ndarray, channels: Channels) -> np.ndarray:
    """Return factors moved together, such that the largest value of each tensor is what it was before.

    Tensors of which a channel is in one group move together, and so do those joined with channels that are fixed.
    """
    forest = _Forest(len(doublings))
    for groups in channels.of.values():
        forest.join(groups[:-1], groups[1:])
    roots = forest.roots()
    before, after = np.full(len(roots), -np.inf), np.full(len(roots), -np.inf)
    np.maximum.at(before, roots, np.log2(largest))
    np.maximum.at(after, roots, np.log2(largest) - doublings)
    return doublings + after[roots] - before[roots]


class _Forest:
    """Disjoint sets of whole numbers from 0."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def add(self, count: int) -> np.ndarray:
        """Return new numbers, each a set of its own."""
        first = len(self._parents)
        self._parents += range(first, first + count)
        return np.arange(first, first + count)

    def root(self, number: int) -> int:
        """Return the number that stands for a set."""
        while self._parents[number] != number:
            self._parents[number] = number = self._parents[self._parents[number]]
        return number

    def join(self, ones: np.ndarray, others: np.ndarray) -> None:
        """Make one set of each pair's two."""
        for one, other in zip(ones.tolist(), others.tolist(), strict=True):
            self._parents[self.root(one)] = self.root(other)

    def roots(self) -> np.ndarray:
        """Return the root of every number."""
        return np.array([self.root(number) for number in range(len(self._parents))], int)


def _is_mean(layer: Any) -> bool:
    """Whether a layer is what folding makes of a pooling: equal weights, before and behind which the range is one."""
    return isinstance(layer, layers.DepthwiseConv2D) and not layer.trainable and not np.ptp(np.asarray(layer.kernel))


class _Grouping:
    """One pass over a folded network, in which channels are numbered and joined."""

    def __init__(self, model: keras.Model) -> None:
        self._forest = _Forest(0)
        self._fixed: set[int] = set()
        self._of = {id(model.inputs[0]): self._new(model.inputs[0], fixed=True)}
        for call in read_calls(model):
            taken = [self._of[id(tensor)] for tensor in call.inputs]
            self._of[id(call.output)] = self._given(call, taken)
        self._fix(self._of[id(model.outputs[0])])

    def channels(self) -> Channels:
        """Return what was found, with groups numbered anew."""
        roots = self._forest.roots()
        _, groups = np.unique(roots, return_inverse=True)
        fixed = np.zeros(groups.max() + 1, bool)
        fixed[groups[list(self._fixed)]] = True
        return Channels({key: groups[numbers] for key, numbers in self._of.items()}, fixed)

    def _given(self, call: Call, taken: list[np.ndarray]) -> np.ndarray:
        """Return the numbers of the channels of what a layer gives."""
        layer, alike = call.layer, len({len(each) for each in taken}) == 1
        if isinstance(layer, (layers.Conv2D, layers.Conv2DTranspose, layers.Dense, layers.DepthwiseConv2D)):
            return taken[0] if _is_mean(layer) else self._new(call.output)
        if isinstance(layer, _KEEP) or isinstance(layer, layers.ReLU) and layer.max_value is None:
            return taken[0]
        if isinstance(layer, (layers.Flatten, layers.Reshape)) and call.output.shape[-1] == len(taken[0]):
            return taken[0]
        if isinstance(layer, (layers.Add, layers.Subtract)) and alike:
            for other in taken[1:]:
                self._forest.join(taken[0], other)
            return taken[0]
        if isinstance(layer, layers.Multiply) and alike:
            values, gate = taken if taken[0][0] not in self._fixed else taken[::-1]
            self._fix(gate)
            return values
        if isinstance(layer, layers.Concatenate) and layer.axis in (-1, len(call.output.shape) - 1):
            return np.concatenate(taken)
        for each in taken:
            self._fix(each)
        return self._new(call.output, fixed=True)

    def _new(self, tensor: Any, *, fixed: bool = False) -> np.ndarray:
        numbers = self._forest.add(tensor.shape[-1])
        if fixed:
            self._fix(numbers)
        return numbers

    def _fix(self, numbers: np.ndarray) -> None:
        self._fixed.update(numbers.tolist())
