"""Files that cannot be decoded, masks of colours without a table, and images whose mask has another size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..data.findings import Finding
from ..data.records import suggest_colors
from .summaries import DatasetSummary


def find_undecoded(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield what kept samples from being read; masks of colours get one table for all of them."""
    colored = [image.colors for image in summary.images if image.colors]
    fix = suggest_colors(colored)
    known = set[int]().union(*colored)
    others = [image for image in summary.images if image.counts is not None]
    if any(image.palette or not {value * 0x010101 for value in image.counts or ()} <= known for image in others):
        fix = None  # the other masks are read by their numbers, which a table of colours would end
    for image in summary.images:
        if image.finding is not None:
            yield replace(image.finding, fix=fix) if image.colors and fix else image.finding
