"""Masks of rectangles, for tests that write data sets of their own."""

from __future__ import annotations

import numpy as np

SIZE = (24, 32)


def drawn(number: int, classes: int = 1) -> np.ndarray:
    """Return a mask (24, 32) of class ids with a rectangle for each class, different for each number."""
    mask = np.zeros(SIZE, np.uint8)
    for class_id in range(1, classes + 1):
        top, left = (3 * number + 7 * class_id) % 12, (5 * number) % 8 + 10 * (class_id - 1)
        mask[top : top + 8, left : left + 9] = class_id
    return mask
