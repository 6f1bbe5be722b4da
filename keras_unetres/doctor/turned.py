"""Masks that seem to lie turned: of images that EXIF turns, and of a whole set."""

from __future__ import annotations

from collections.abc import Iterator

from ..data.findings import Finding
from ..data.turned import find_turned, find_unclear
from .summaries import DatasetSummary


def find_turned_images(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield the masks that fit both ways where others, or edges, tell which; and a fault of all if edges are sure."""
    turns = [(image.sample.name, image.sample.target.file, image.turn) for image in summary.images]
    yield from find_unclear(turns, summary.dataset.base)
    yield from find_turned(image.lie for image in summary.images)
