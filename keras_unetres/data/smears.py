"""What interpolation leaves in a mask that was scaled or smoothed like a picture."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from scipy import ndimage

from unetres_edge.errors import Fix
from unetres_edge.images.bands import bands

_AT_ONCE = 1 << 21  # px that are filtered in one piece
_REACH = 2  # px around one that interpolation takes its value from
FIX = Fix("export the mask again without anti-aliasing, and scale masks by nearest neighbour")


def is_smeared(stored: np.ndarray, values: Collection[int], by_color: bool = False) -> bool:
    """Whether the values of a mask (H, W) that are no class lie between those around them, as interpolation does."""
    known = list(values)
    strange = between = 0
    odd_values: set[int] = set()
    for rows in bands(stored.shape, _AT_ONCE):
        above = min(rows.start, _REACH)
        piece = stored[rows.start - above : rows.stop + _REACH]
        inner = slice(above, above + rows.stop - rows.start)
        odd = ~np.isin(piece[inner], known)
        if odd.any():
            strange += int(odd.sum())
            between += int(_lie_between(piece, by_color)[inner][odd].sum())
            odd_values |= set(np.unique(piece[inner][odd]).tolist())
    return strange > 0 and between > 0.8 * strange and len(odd_values) > 1


def _lie_between(stored: np.ndarray, by_color: bool) -> np.ndarray:
    """Return whether each value, or a channel of it, lies between the least and the greatest around it."""
    between = np.zeros(stored.shape, bool)
    for shift in (0, 8, 16) if by_color else (0,):
        wide = stored.astype(np.int64) >> shift & (0xFF if by_color else -1)
        low = ndimage.minimum_filter(wide, 2 * _REACH + 1, mode="nearest")
        high = ndimage.maximum_filter(wide, 2 * _REACH + 1, mode="nearest")
        between |= (low < wide) & (wide < high)
    return between


def steps_over_classes(stored: np.ndarray, ignore: int | None) -> tuple[int, int]:
    """Return (direct, rim) of a mask (H, W): steps between neighbours that skip a value, and pixels in between.

    A pixel is in between if its value lies strictly between the least and the greatest around it. What is not labelled
    does not count.
    """
    direct = rim = 0
    rows = max(1, _AT_ONCE // max(1, stored.shape[1]))
    for start in range(0, len(stored), rows):  # with the rows above and below, which count for their own piece
        above, below = min(start, 1), min(len(stored) - start - rows, 1) if start + rows < len(stored) else 0
        piece = stored[start - above : start + rows + below]
        of_piece = _steps_in(piece, ignore, np.s_[above : len(piece) - below], bool(below))
        direct, rim = direct + of_piece[0], rim + of_piece[1]
    return direct, rim


def _steps_in(stored: np.ndarray, ignore: int | None, inner: slice, goes_on: bool) -> tuple[int, int]:
    """Return what `steps_over_classes` does of the own rows of a piece, and of the step to the row below them."""
    values = stored.astype(np.int64)
    known = np.ones(values.shape, bool) if ignore is None else values != ignore
    down = slice(inner.start, None if goes_on else inner.stop)
    direct = 0
    for near, far in (
        ((values[down][:-1], known[down][:-1]), (values[down][1:], known[down][1:])),
        ((values[inner][:, :-1], known[inner][:, :-1]), (values[inner][:, 1:], known[inner][:, 1:])),
    ):
        direct += int(((np.abs(near[0] - far[0]) > 1) & near[1] & far[1]).sum())
    none = np.iinfo(np.int64).max
    low = ndimage.minimum_filter(np.where(known, values, none), 3, mode="nearest")
    high = ndimage.maximum_filter(np.where(known, values, -none), 3, mode="nearest")
    return direct, int((known & (low < values) & (values < high))[inner].sum())
