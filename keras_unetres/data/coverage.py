"""Which crops to calibrate on: few of many, such that hardly a value is met later that none of them has shown.

Ranges are set by what is rare: the brightest speck, the sharpest edge. A choice at random, or of the first ones, meets
that by luck. Here half of the choice goes to crops that show what no other one has shown yet, as far as that can be
seen in the images alone, and half is spread evenly over the rest, so that the usual stays usual.
"""

from __future__ import annotations

import numpy as np

_BINS = 64
_BLOCK = 8  # px, side of the squares whose means and spreads are looked at


def choose_for_coverage(crops: np.ndarray, count: int) -> np.ndarray:
    """Return the places of `count` crops, in order; all of them where there are no more.

    Args:
        crops: (N, h, w, C), uint8 or float, finite.
    """
    if len(crops) <= count:
        return np.arange(len(crops))
    shows = _shown(crops)
    shown = np.zeros(shows.shape[1], bool)
    chosen: list[int] = []
    while len(chosen) < (count + 1) // 2:
        gains = (shows & ~shown).sum(1)
        best = int(gains.argmax())
        if gains[best] == 0:
            break
        chosen.append(best)
        shown |= shows[best]
    rest = np.setdiff1d(np.arange(len(crops)), chosen)
    spread = rest[np.linspace(0, len(rest) - 1, count - len(chosen)).round().astype(int)]
    return np.sort(np.concatenate([np.array(chosen, int), spread]))


def _shown(crops: np.ndarray) -> np.ndarray:
    """Return (N, bins) bool: which intervals of each quantity a crop has a value in."""
    columns = []
    for channel in range(crops.shape[-1]):
        for values in _quantities(crops[..., channel]):
            columns.append(_occupied(values))
    return np.concatenate(columns, axis=1)


def _quantities(planes: np.ndarray) -> list[list[np.ndarray]]:
    """Return values, differences to the neighbours, and means and spreads of squares, each as one array a crop."""
    quantities: list[list[np.ndarray]] = [[], [], [], [], []]
    for plane in planes:
        plane = plane.astype(np.float32)
        squares = _squares(plane)
        for each, values in zip(
            quantities,
            (plane, np.diff(plane, axis=0), np.diff(plane, axis=1), squares.mean(1), squares.std(1)),
            strict=True,
        ):
            each.append(values)
    return [values for values in quantities if values[0].size]


def _squares(plane: np.ndarray) -> np.ndarray:
    """Return (squares, pixels) of a plane (h, w)."""
    side = min(_BLOCK, *plane.shape)
    rows, columns = plane.shape[0] // side, plane.shape[1] // side
    cut = plane[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return cut.transpose(0, 2, 1, 3).reshape(rows * columns, side * side)


def _occupied(values: list[np.ndarray]) -> np.ndarray:
    low = min(float(each.min()) for each in values)
    high = max(float(each.max()) for each in values)
    width = (high - low) / _BINS or 1.0
    occupied = np.zeros((len(values), _BINS), bool)
    for row, each in zip(occupied, values, strict=True):
        row[np.minimum((each - low) / width, _BINS - 1).astype(int)] = True
    return occupied
