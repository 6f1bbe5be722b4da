"""Exact Euclidean distances on the pixel grid up to a reach, in ops that any Keras backend can compile."""

from __future__ import annotations

from typing import Any

from keras import ops


def distance_within(sources: Any, reach: int) -> Any:
    """Return the distance from each pixel to the nearest source, clipped.

    Separable (Felzenszwalb 2012): first along columns, then the least g(x + dx)^2 + dx^2 over |dx| <= reach.

    Args:
        sources: (N, H, W, C) bool.
        reach: the largest distance told apart, px.

    Returns:
        (N, H, W, C) float32 in px, exact up to `reach`, and `reach` where the nearest source is farther or missing.
    """
    far = float(2 * reach + 1)  # more than any path within reach
    steps = ops.where(sources, 0.0, far)
    stride = 1
    while stride <= reach:  # strides of 1, 2, 4, ... add up to every offset, at its cost
        nearer = ops.minimum(_shift(steps, stride, 1, far), _shift(steps, -stride, 1, far)) + float(stride)
        steps = ops.minimum(steps, nearer)
        stride *= 2
    squares = steps * steps
    nearest = squares
    for offset in range(1, reach + 1):
        beside = ops.minimum(_shift(squares, offset, 2, far**2), _shift(squares, -offset, 2, far**2))
        nearest = ops.minimum(nearest, beside + float(offset**2))
    return ops.sqrt(ops.minimum(nearest, float(reach**2)))


def _shift(maps: Any, offset: int, axis: int, fill: float) -> Any:
    """Return maps whose pixel x along an axis is pixel x + offset of the given ones, and `fill` beyond the border."""
    before, after = max(0, -offset), max(0, offset)
    padding = [(before, after) if dimension == axis else (0, 0) for dimension in range(len(maps.shape))]
    padded = ops.pad(maps, padding, constant_values=fill)
    window = tuple(slice(None) if dimension != axis else _window(before, after) for dimension in range(len(maps.shape)))
    return padded[window]


def _window(before: int, after: int) -> slice:
    """Return the part of a padded axis, padded on one side, that is as long as the axis was."""
    return slice(after, None) if after else slice(None, -before)
