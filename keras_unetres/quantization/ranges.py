"""Ranges of activations from calibration images: the smallest and largest values, percentiles, or least squares."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from unetres_edge.errors import ConversionError, UsageError

from ..choices.quantization import RANGE_METHODS as METHODS
from ..models.answers import predict
from ..models.fake_quant import LEVELS, int8_range
from .folding import Folded, Point

_BINS = 2048
_PERCENTILE = 99.99
_CUTS = np.linspace(1.0, 0.1, 91).tolist()
_ROUNDS = 2


def find_ranges(
    folded: Folded, images: np.ndarray, *, method: str = "minmax", batch: int = 4
) -> dict[str, tuple[float, float]]:
    """Run the folded network on calibration images and return the range of each point.

    Args:
        images: (N, h, w, C) float32 as the network sees them.
        method: "minmax"; "percentile", the middle 99.98 % of the values; or "mse", the cut of either end that makes
            the mean squared error of rounding and cutting least (as in Banner 2019, on a histogram).
        batch: images at a time.

    Raises:
        UsageError: an unknown method.
        ConversionError: an activation is not finite.
    """
    if method not in METHODS:
        raise UsageError("the range estimator is unknown", expected=" or ".join(METHODS), found=method)
    watched = [point for point in folded.points if point.fixed is None]
    tensors = [[folded.model.get_layer(name).output for name in point.layers] for point in watched]
    flat = [tensor for group in tensors for tensor in group]
    probe = keras.Model(folded.model.inputs, flat)
    parts = [images[start : start + batch] for start in range(0, len(images), batch)]
    extremes = np.array([[np.inf, -np.inf]] * len(watched))
    for part in parts:
        for index, values in enumerate(_grouped(probe, part, tensors)):
            low, high = min(v.min() for v in values), max(v.max() for v in values)
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ConversionError(f"the output of layer {watched[index].name} is not finite on calibration images")
            extremes[index] = min(extremes[index, 0], low), max(extremes[index, 1], high)
    ranges = {point.name: (float(low), float(high)) for point, (low, high) in zip(watched, extremes, strict=True)}
    if method != "minmax":
        counts = np.zeros((len(watched), _BINS), np.int64)
        for part in parts:
            for index, values in enumerate(_grouped(probe, part, tensors)):
                for each in values:
                    counts[index] += np.histogram(each, _BINS, _widened(*ranges[watched[index].name]))[0]
        choose = _percentile if method == "percentile" else _least_squares
        for point, row in zip(watched, counts, strict=True):
            if not _is_input(folded, point):  # the device feeds every level of an image
                ranges[point.name] = choose(row, *_widened(*ranges[point.name]))
    return ranges


def _grouped(probe: keras.Model, part: np.ndarray, tensors: Sequence[Sequence[object]]) -> list[list[np.ndarray]]:
    answers = predict(probe, part)
    outputs = iter(answers if len(probe.outputs) > 1 else [answers])
    return [[np.asarray(next(outputs)) for _ in group] for group in tensors]


def _is_input(folded: Folded, point: Point) -> bool:
    return bool(folded.model.inputs[0]._keras_history.operation.name in point.layers)


def _widened(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _percentile(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    edges = np.linspace(low, high, _BINS + 1)
    below = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    first = edges[max(0, int(np.searchsorted(below, 1 - _PERCENTILE / 100, "right")) - 1)]
    return float(first), float(edges[min(_BINS, int(np.searchsorted(below, _PERCENTILE / 100)))])


def _least_squares(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Return the range that loses least of the values that were counted: one end cut, then the other, and again."""
    edges = np.linspace(low, high, _BINS + 1)
    middles = (edges[:-1] + edges[1:]) / 2

    def error(ends: tuple[float, float]) -> float:
        first, last = int8_range(*ends)
        step = (last - first) / (LEVELS - 1)
        inside = (middles >= first) & (middles <= last)
        lost = np.where(inside, step**2 / 12, (middles - np.clip(middles, first, last)) ** 2)
        return float((lost * counts).sum())

    best = (low, high)
    for _ in range(_ROUNDS):
        best = min(((best[0], high * cut) for cut in _CUTS), key=error)
        best = min(((low * cut, best[1]) for cut in _CUTS), key=error)
    return best
