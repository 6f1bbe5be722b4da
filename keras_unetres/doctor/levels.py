"""Images that use so little of their scale that hardly a grey level is left at 8 bits, or is there at all."""

from __future__ import annotations

from collections.abc import Iterator

from unetres_edge.errors import Fix

from ..data.findings import Finding, Where, relative
from ..data.levels import FEWEST, median_levels
from .summaries import DatasetSummary

_FIX = Fix("nothing: train stretches each image to its own range, as --per-image 1 99 does")
_FIX_OF_DARK = Fix("save them as 255 * image, or pass --per-image 0 100 to train")


def find_few_levels(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield a warning where half of the images lose most of their levels, or hold 0 and 1 of 255."""
    where = Where(relative(summary.dataset.base, summary.dataset.base))
    eight_bits = [image for image in summary.images if image.mode.endswith("uint8")]
    dark = sum(image.dark for image in eight_bits)
    if 2 * dark > len(eight_bits):
        yield Finding("few-levels", where, {"dark": dark, "images": len(eight_bits)}, _FIX_OF_DARK)
    levels = [image.levels for image in summary.images if image.levels is not None]
    middle = median_levels(levels) if levels else None
    if middle is not None and middle.are_few:
        figures = {"images": len(levels), "kept": middle.kept, "stored": middle.stored, "least": FEWEST}
        yield Finding("few-levels", where, figures, _FIX)
