"""What interpolation leaves in a mask that was scaled or smoothed like a picture."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from scipy import ndimage

from unetres_edge.errors import Fix

FIX = Fix("export the mask again without anti-aliasing, and scale masks by nearest neighbour")


def is_smeared(stored: np.ndarray, values: Collection[int], by_color: bool = False) -> bool:
    """Whether the values of a mask (H, W) that are no class lie between those around them, as interpolation does."""
    strange = ~np.isin(stored, list(values))
    between = np.zeros(stored.shape, bool)
    for shift in (0, 8, 16) if by_color else (0,):
        wide = stored.astype(np.int64) >> shift & (0xFF if by_color else -1)
        low = ndimage.minimum_filter(wide, 5, mode="nearest")
        high = ndimage.maximum_filter(wide, 5, mode="nearest")
        between |= (low < wide) & (wide < high)
    return bool(strange.any() and between[strange].mean() > 0.8 and len(np.unique(stored[strange])) > 1)


def steps_over_classes(stored: np.ndarray, ignore: int | None) -> tuple[int, int]:
    """Return (direct, rim) of a mask (H, W): steps between neighbours that skip a value, and pixels in between.

    A pixel is in between if its value lies strictly between the least and the greatest around it. What is not labelled
    does not count.
    """
    values = stored.astype(np.int64)
    known = np.ones(values.shape, bool) if ignore is None else values != ignore
    direct = 0
    for near, far in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        direct += int(((np.abs(values[near] - values[far]) > 1) & known[near] & known[far]).sum())
    none = np.iinfo(np.int64).max
    low = ndimage.minimum_filter(np.where(known, values, none), 3, mode="nearest")
    high = ndimage.maximum_filter(np.where(known, values, -none), 3, mode="nearest")
    return direct, int((known & (low < values) & (values < high)).sum())
