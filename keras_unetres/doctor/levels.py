"""Images of 16 bits or floats that use so little of their scale that hardly a grey level is left at 8 bits.

A network sees 8 bits. A camera of 12 bits writes 0..4095 of 65535, of which 16 levels are left, unless each image is
stretched to its own range.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from unetres_edge.errors import Fix

from ..data.findings import Finding, Where, relative
from .summaries import DatasetSummary

_FEWEST = 32  # of 256 levels
_FIX = Fix("pass --per-image 1 99 to train: each image is stretched to its own range")


def find_few_levels(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield a warning where half of the images lose most of their levels."""
    levels = [image.levels for image in summary.images if image.levels is not None]
    if not levels:
        return
    kept, stored = (int(median(values)) for values in zip(*levels, strict=True))
    if kept < _FEWEST and stored >= 2 * kept:
        base = summary.dataset.base
        figures = {"images": len(levels), "kept": kept, "stored": stored, "least": _FEWEST}
        yield Finding("few-levels", Where(relative(base, base)), figures, _FIX)
