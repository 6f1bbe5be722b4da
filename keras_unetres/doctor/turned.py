"""Images that EXIF turns, whose masks fit both ways and seem to lie on the pixels as stored."""

from __future__ import annotations

from collections.abc import Iterator

from ..data.findings import Finding
from ..data.turned import find_unclear
from .summaries import DatasetSummary


def find_turned_images(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield the masks that fit both ways where others, or edges, tell that they lie on the pixels as stored."""
    turns = [(image.sample.name, image.sample.target.file, image.turn) for image in summary.images]
    yield from find_unclear(turns, summary.dataset.base)
