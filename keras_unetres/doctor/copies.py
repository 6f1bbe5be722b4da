"""The same picture twice: pixel by pixel, or encoded again, brighter, scaled, mirrored or turned.

Equal pictures are found by a digest of their pixels, similar ones by two fingerprints of 32 x 32 px: one of the whole
picture made small, one of its details. What is in two parts of a data set makes scores too good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..data.copies import find_copies
from ..data.findings import Finding, Where, relative
from ..data.fixes import leave_out
from .summaries import DatasetSummary, ImageSummary, flips

_ALIKE = (0.98, 0.9)  # correlation of the coarse and of the fine fingerprints of nearly equal pictures
_SPARSE, _ALIKE_IF_SPARSE = 60, 0.985  # pixels that tell a picture apart, and what is asked of fewer
_ROWS = 512  # pictures compared at a time


def find_equal(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield pictures whose pixels are those of another one: a fault if it is in another part or class."""
    contents: dict[str, list[str]] = {part: [] for part in summary.dataset.splits}
    for image in summary.images:
        contents[image.part].append("" if image.constant else image.content)
    yield from find_copies(summary.dataset, contents)


def find_near_copies(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield pictures of the validation and test parts that are nearly one of an earlier part."""
    seen = [image for image in summary.images if image.content and image.fine.any()]
    known = [image for image in seen if image.part == "train"]
    for part in ("val", "test"):
        others = [image for image in seen if image.part == part]
        for one, other in _alike(known, others):
            if one.content != other.content:
                twin, file = (relative(image.sample.image.file, summary.dataset.base) for image in (one, other))
                figures = {"part": other.part, "twin": twin, "twin_part": one.part}
                name = other.sample.name
                yield Finding("near-duplicate", Where(file, name), figures, leave_out(name))
        known += others


def _alike(
    known: Sequence[ImageSummary], others: Sequence[ImageSummary]
) -> Iterator[tuple[ImageSummary, ImageSummary]]:
    """Yield (known, other) for the best match of each other picture, if both its fingerprints match."""
    if not known or not others:
        return
    coarse, fine = (np.stack([getattr(image, name) for image in known]) for name in ("coarse", "fine"))
    for start in range(0, len(others), _ROWS):
        block = others[start : start + _ROWS]
        best = np.full((len(block), len(known)), -1.0, np.float32)
        turned = [(flips(image.coarse), flips(image.fine)) for image in block]
        for way in range(len(turned[0][0])):
            rough = np.stack([t[0][way] for t in turned]) @ coarse.T
            sharp = np.stack([t[1][way] for t in turned]) @ fine.T
            best = np.maximum(best, np.where(rough >= _ALIKE[0], sharp, -1.0))
        for other, row in zip(block, best, strict=True):
            nearest = int(row.argmax())
            if row[nearest] >= (_ALIKE[1] if _telling(other.fine) >= _SPARSE else _ALIKE_IF_SPARSE):
                yield known[nearest], other


def _telling(fingerprint: np.ndarray) -> float:
    """Return by how many pixels a fingerprint is told apart: few where a bright spot or two are all there is to see."""
    return float(np.square(np.square(fingerprint).sum()) / max(float((fingerprint**4).sum()), 1e-12))
