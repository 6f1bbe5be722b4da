"""Quantization-aware training inside Keras 3: the folded network with fake quantization, for an ordinary `fit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from unetres_edge.errors import UsageError

from ..models.fake_quant import KERNELS, QUANTIZED, FakeQuant
from ..models.graph import copy_layer
from ..models.inference import moves_pixels
from .folding import SIGMOID, Folded
from .graph import Call, read_calls


def build_native(folded: Folded, *, keep_zeros: bool = False, rounds_end: bool = True) -> keras.Model:
    """Return the folded network with fake quantization, its weights copied, its ranges still to be set.

    Layers keep their names; the range of a point is that of the layer `<point>_range`.

    Args:
        keep_zeros: weights that are 0 stay 0 in training.
        rounds_end: whether probabilities of a softmax or sigmoid at the end are rounded, as in runs, whose weights hold
            that range. Files leave that layer out.
    """
    source = folded.model
    calls = read_calls(source)
    end = frozenset() if rounds_end else _left_out_end(folded, calls)
    kept = [point for point in folded.points if not end.issuperset(point.layers)]
    points = {name: point for point in kept for name in point.layers}
    rounds = {point.name: FakeQuant(*(point.fixed or (-1.0, 1.0)), name=range_name(point.name)) for point in kept}

    def rounded(tensor: Any, name: str, **how: bool) -> Any:
        return rounds[points[name].name](tensor, **how) if name in points else tensor

    image = keras.Input(batch_shape=source.inputs[0].shape, dtype=source.inputs[0].dtype, name=source.inputs[0].name)
    tensors = {id(source.inputs[0]): rounded(image, source.inputs[0]._keras_history.operation.name)}
    for call in calls:
        layer = _quantized(call.layer, keep_zeros)
        inputs = [tensors[id(tensor)] for tensor in call.inputs]
        several = len(inputs) > 1 or isinstance(layer, keras.layers.Concatenate)
        how = {"ties_up": True} if getattr(layer, "interpolation", None) == "bilinear" else {}
        tensors[id(call.output)] = rounded(layer(inputs if several else inputs[0]), layer.name, **how)
    model = keras.Model(image, tensors[id(source.outputs[0])], name=source.name)
    for call in calls:
        layer = model.get_layer(call.layer.name)
        if isinstance(layer, KERNELS):
            for new, old in zip((layer.kernel, layer.bias), (call.layer.kernel, call.layer.bias), strict=True):
                new.assign(old)
            layer.freeze_zeros()
    return model


def set_ranges(model: keras.Model, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Set the ranges of points, by their names, and with them the steps of the biases.

    Raises:
        UsageError: a range for a point that is not there.
    """
    for name, (low, high) in ranges.items():
        try:
            model.get_layer(range_name(name)).set_range(low, high)
        except ValueError as error:
            raise UsageError(f"the model has no point {name}") from error
    calls = read_calls(model, again=(FakeQuant,))
    rounds = {id(call.output): call.layer for call in calls if isinstance(call.layer, FakeQuant)}
    users = {id(tensor): call for call in calls for tensor in call.inputs}
    for call in calls:
        if hasattr(call.layer, "set_steps"):
            behind = users.get(id(call.output))
            if behind is not None and isinstance(behind.layer, keras.layers.ReLU):  # fused with what is before it
                behind = users.get(id(behind.output))
            after = rounds.get(id(behind.output)) if behind is not None else None
            before = [rounds.get(id(tensor)) for tensor in call.inputs]
            steps = [0.0 if each is None else each.step for each in (*before, after)]
            call.layer.set_steps(steps[:-1], steps[-1], 0 if before[0] is None else before[0].zero_point)


def note_images(model: keras.Model, images: np.ndarray) -> None:
    """Keep with the model the least and largest value of the images that calibrated it, (N, h, w, C)."""
    for node in model.inputs[0]._keras_history.operation._outbound_nodes[:1]:
        if isinstance(node.operation, FakeQuant):
            node.operation.seen = (float(images.min()), float(images.max()))


def range_name(point: str) -> str:
    """Return the name of the layer that holds the range of a point."""
    return f"{point}_range"


def _left_out_end(folded: Folded, calls: Sequence[Call]) -> frozenset[str]:
    """Return the names of the softmax or sigmoid at the end, which files leave out, and of what moves its pixels.

    Of two in a row they keep both.
    """
    fixed = {name: point.fixed for point in folded.points for name in point.layers}
    makers = {id(call.output): call for call in calls}
    last, names = makers.get(id(folded.model.outputs[0])), set()
    while last is not None and moves_pixels(last.output):
        names.add(last.layer.name)
        last = makers.get(id(last.inputs[0]))
    before = None if last is None else makers.get(id(last.inputs[0]))
    if last is None or before is None or fixed.get(before.layer.name) is not None:
        return frozenset()
    return frozenset({*names, last.layer.name}) if fixed.get(last.layer.name) == SIGMOID else frozenset()


def _quantized(layer: Any, keep_zeros: bool) -> Any:
    kind = QUANTIZED.get(type(layer))
    if kind is None:
        return copy_layer(layer)
    kernel = {"keep_zeros": keep_zeros} if issubclass(kind, KERNELS) else {}
    return kind(**{**layer.get_config(), **kernel})
