"""Pictures of formats that are not read, in the folders of those that are."""

from __future__ import annotations

from collections.abc import Iterator

from ..data.findings import Finding
from ..data.unread import find_unread, unread_finding
from .summaries import DatasetSummary


def find_unread_files(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield a warning for each folder of images or masks and each ending in it that is passed over."""
    for unread in find_unread(image.sample for image in summary.images):
        yield unread_finding(unread, summary.dataset.base)
