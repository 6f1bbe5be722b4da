"""Grey levels of images of more than 8 bits: how many are left at the 8 bits that a network sees.

A camera of 12 bits writes 0..4095 of 65535, of which 17 levels are left, unless each image is stretched to its own
range.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from unetres_edge.errors import UnetresError

from .sources import Sample

STRETCH = (1.0, 99.0)  # percentiles of each image that are stretched to full scale where too few levels are left
FEWEST = 32  # of 256 levels
_PIXELS = 1 << 20  # of an image, in which its levels are counted
_LOOKED_AT = 32  # images, spread over the samples


class Levels(NamedTuple):
    """Grey levels of an image, or the medians over several: left at 8 bits, and stored."""

    kept: int
    stored: int

    @property
    def are_few(self) -> bool:
        """Whether 8 bits are far too coarse for what is stored."""
        return self.kept < FEWEST and self.stored >= 2 * self.kept


def count_levels(image: np.ndarray) -> Levels | None:
    """Return the levels of the channel that keeps most, or None of an image of 8 bits.

    Of floats outside 0..1, whose full scale nobody knows, one level is left unless each image is stretched.
    """
    if image.dtype == np.uint8:
        return None
    if image.dtype.kind == "f" and (image.min() < 0 or image.max() > 1):
        return Levels(1, max(2, len(np.unique(image.reshape(-1)[:: -(-image.size // _PIXELS)]))))
    scale = 255 / 65535 if image.dtype == np.uint16 else 255.0
    channels = image.reshape(-1, 1 if image.ndim == 2 else image.shape[-1])
    channels = channels[:: -(-len(channels) // _PIXELS)]
    stored = [np.unique(values) for values in channels.T]
    return max(Levels(len(np.unique(np.rint(values * scale))), len(values)) for values in stored)


def median_levels(levels: Sequence[Levels]) -> Levels:
    """Return the levels of the image in the middle."""
    kept, stored = (int(median(values)) for values in zip(*levels, strict=True))
    return Levels(kept, stored)


def find_few_levels(samples: Sequence[Sample]) -> Levels | None:
    """Decode some of the samples and return their levels if these are few in most of them, else None.

    Images that cannot be decoded are passed over; whoever reads them all names them.
    """
    shown = samples[:: -(-len(samples) // _LOOKED_AT)] if samples else ()
    levels = []
    for sample in shown:
        try:
            levels.append(count_levels(sample.image.read()))
        except UnetresError:
            continue
    deep = [each for each in levels if each is not None]
    if not deep or 2 * len(deep) < len(levels):
        return None
    middle = median_levels(deep)
    return middle if middle.are_few else None
