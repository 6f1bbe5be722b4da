"""Images of 16 bits or floats that use so little of their scale that hardly a grey level is left at 8 bits."""

from __future__ import annotations

from collections.abc import Iterator

from unetres_edge.errors import Fix

from ..data.findings import Finding, Where, relative
from ..data.levels import FEWEST, median_levels
from .summaries import DatasetSummary

_FIX = Fix("nothing: train stretches each image to its own range, as --per-image 1 99 does")


def find_few_levels(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield a warning where half of the images lose most of their levels."""
    levels = [image.levels for image in summary.images if image.levels is not None]
    middle = median_levels(levels) if levels else None
    if middle is not None and middle.are_few:
        base = summary.dataset.base
        figures = {"images": len(levels), "kept": middle.kept, "stored": middle.stored, "least": FEWEST}
        yield Finding("few-levels", Where(relative(base, base)), figures, _FIX)
