"""Polygons whose corners are pixels, filled as OpenCV's `fillPoly` fills them: what is inside, and the outline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def fill(ring: Sequence[float], box: tuple[int, int, int, int]) -> np.ndarray:
    """Return the pixels (height, width) bool of a polygon in a box.

    Args:
        ring: x, y, x, y, ... in px, of pixels; fractions are rounded.
        box: (left, top, width, height) px; what lies outside is cut off.
    """
    left, top, width, height = box
    corners = np.rint(np.reshape(ring, (-1, 2))).astype(np.int64) - (left, top)
    crossed = np.zeros((height, width + 1), np.uint8)
    outline = np.zeros((height, width), bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
        rows = np.arange(max(0, min(y0, y1)), min(height, max(y0, y1)))
        if len(rows):
            columns = np.floor(x0 + (rows - y0) * ((x1 - x0) / (y1 - y0))).astype(np.int64) + 1
            np.bitwise_xor.at(crossed, (rows, columns.clip(0, width)), 1)
        x, y = _line(int(x0), int(y0), int(x1), int(y1))
        there = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        outline[y[there], x[there]] = True
    inside: np.ndarray = np.bitwise_xor.accumulate(crossed[:, :width], axis=1).astype(bool)
    return inside | outline


def _line(x0: int, y0: int, x1: int, y1: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the pixels from one to another, as Bresenham 1965 draws them from left to right."""
    if x0 > x1:
        x0, y0, x1, y1 = x1, y1, x0, y0
    dx, dy = x1 - x0, abs(y1 - y0)
    longer, shorter = max(dx, dy), min(dx, dy)
    steps = np.arange(longer + 1)
    aside = -((longer - 2 * shorter * steps) // (2 * longer)) if longer else steps  # half a pixel stays
    along_x, along_y = (steps, aside) if dx >= dy else (aside, steps)
    return x0 + along_x, y0 + along_y * (1 if y1 >= y0 else -1)
