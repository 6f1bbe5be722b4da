"""Smeared masks whose values are all classes: their classes meet over a thin rim of a third one.

A mask that was scaled or smoothed like a picture has between class 0 and class 2 a rim of class 1, which is a class.
Such a rim gives the mask away where the classes of most other masks lie side by side without one.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from ..data.findings import Finding, Where, relative
from ..data.smears import FIX
from .summaries import DatasetSummary

_MASKS = 5  # fewer do not tell what is usual
_FEWEST = 20  # px; fewer steps say nothing of a mask
_SHARP = 0.5  # share of direct steps among those over a class, in most masks; half of it or less is smeared


def find_rims(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield the masks whose classes hardly ever meet without a rim of another one, where those of most masks do."""
    steps = [(image, *image.steps) for image in summary.images if sum(image.steps) >= _FEWEST]
    usual = median(direct / (direct + rim) for _, direct, rim in steps) if len(steps) >= _MASKS else 0.0
    if usual < _SHARP:
        return
    for image, direct, rim in steps:
        if rim >= _FEWEST and direct < usual / 2 * (direct + rim):
            where = Where(relative(image.sample.target.file, summary.dataset.base), image.sample.name)
            yield Finding("smeared-mask", where, {"rim_pixels": rim, "direct_steps": direct}, FIX)
