"""Files that cannot be decoded, masks of colours without a table, and images whose mask has another size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..data.findings import Finding
from ..data.records import find_colored, mended, suggest_colors, suggest_ranges
from ..data.turned import find_quarter
from .summaries import DatasetSummary


def find_undecoded(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield what kept samples from being read; masks of colours get one table for all of them."""
    colored = [image.colors for image in summary.images if image.colors]
    fix = suggest_colors(colored)
    known = set[int]().union(*colored)
    others = [image for image in summary.images if image.counts is not None]
    if any(image.palette or not {value * 0x010101 for value in image.counts or ()} <= known for image in others):
        fix = None  # the other masks are read by their numbers, which a table of colours would end
    smeared = [i.sample for i in summary.images if i.finding is not None and i.finding.kind == "lossy-mask"]
    ranges = suggest_ranges(smeared) if 2 * len(smeared) > len(summary.images) else None
    quarter = find_quarter(image.lie for image in summary.images)
    for image in summary.images:
        if image.finding is not None:
            line = ranges if image.finding.kind == "lossy-mask" else fix if image.colors else None
            yield replace(image.finding, fix=line) if line else mended(image.finding, quarter)
    yield from find_colored(((i.sample, i.counts, i.colored) for i in summary.images), summary.dataset)
