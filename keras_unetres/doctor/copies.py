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
from .nearest import find_nearest
from .smalls import Chosen, Smalls
from .summaries import DatasetSummary, fingerprints, flips

_ALIKE = (0.98, 0.9)  # correlation of the coarse and of the fine fingerprints of nearly equal pictures
_SPARSE, _ALIKE_IF_SPARSE = 60, 0.985  # pixels that tell a picture apart, and what is asked of fewer
_ROWS, _COLUMNS = 512, 1024  # pictures compared at a time
_ALL_PAIRS = 1 << 24  # up to which each picture is compared with each
_NEAREST = 16  # pictures that are compared with one, beyond


def find_equal(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield pictures whose pixels are those of another one: a fault if it is in another part or class."""
    contents: dict[str, list[bytes]] = {part: [] for part in summary.dataset.splits}
    for image in summary.images:
        contents[image.part].append(b"" if image.constant else image.content)
    yield from find_copies(summary.dataset, contents)


def find_near_copies(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield pictures of the validation and test parts that are nearly one of an earlier part."""
    images = summary.images
    seen: dict[str, list[int]] = {part: [] for part in ("train", "val", "test")}
    for index, image in enumerate(images):
        if image.content and image.part in seen:
            seen[image.part].append(index)
    known = seen["train"]
    for part in ("val", "test"):
        others = seen[part]
        for index, other_index in _alike(summary.smalls, known, others):
            one, other = images[index], images[other_index]
            if one.content != other.content:
                twin, file = (relative(image.sample.image.file, summary.dataset.base) for image in (one, other))
                figures = {"part": other.part, "twin": twin, "twin_part": one.part}
                name = other.sample.name
                yield Finding("near-duplicate", Where(file, name), figures, leave_out(name))
        known = known + others


def _alike(smalls: Smalls, known: Sequence[int], others: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (known, other), indices in `smalls`, for the best match of each other picture, if both fingerprints match.

    Of many pictures, each is compared with those alone that are nearest to it by figures that no flip changes.
    """
    if not known or not others:
        return
    there, queries = Chosen(smalls, known), Chosen(smalls, others)
    nearest = find_nearest(there, queries, _NEAREST) if len(known) * len(others) > _ALL_PAIRS else None
    for start in range(0, len(others), _ROWS):
        coarse, fine = fingerprints(queries[start : start + _ROWS])
        telling = _telling(fine)
        if nearest is None:
            best, score = _best_of_all(there, coarse, fine)
        else:
            best, score = _best_of_nearest(there, nearest[start : start + _ROWS], coarse, fine)
        least = np.where(telling >= _SPARSE, _ALIKE[1], _ALIKE_IF_SPARSE)
        for row in np.flatnonzero(fine.any(1) & (score >= least)):
            yield known[int(best[row])], others[start + int(row)]


def _best_of_all(there: Chosen, coarse: np.ndarray, fine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of the picture in `there` (M, 32, 32) that is most like each other one, and how much."""
    best, score = np.zeros(len(coarse), np.int64), np.full(len(coarse), -1.0, np.float32)
    ways = list(zip(flips(coarse), flips(fine), strict=True))
    for start in range(0, len(there), _COLUMNS):
        known_coarse, known_fine = fingerprints(there[start : start + _COLUMNS])
        similarity = np.full((len(coarse), len(known_coarse)), -1.0, np.float32)
        for way_coarse, way_fine in ways:
            rough, sharp = way_coarse @ known_coarse.T, way_fine @ known_fine.T
            similarity = np.maximum(similarity, np.where((rough >= _ALIKE[0]) & known_fine.any(1), sharp, -1.0))
        nearest = similarity.argmax(1)
        value = similarity[np.arange(len(similarity)), nearest]
        best = np.where(value > score, start + nearest, best)
        score = np.maximum(score, value)
    return best, score


def _best_of_nearest(
    there: Chosen, nearest: np.ndarray, coarse: np.ndarray, fine: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `_best_of_all` does, of the pictures alone whose indices (N, k) are given for each; -1 for none."""
    best, score = np.zeros(len(coarse), np.int64), np.full(len(coarse), -1.0, np.float32)
    ways = list(zip(flips(coarse), flips(fine), strict=True))
    for column in nearest.T:
        rows = np.flatnonzero(column >= 0)
        if not len(rows):
            continue
        known_coarse, known_fine = fingerprints(there[column[rows]])
        value = np.full(len(rows), -1.0, np.float32)
        for way_coarse, way_fine in ways:
            rough = np.einsum("nd,nd->n", way_coarse[rows], known_coarse)
            sharp = np.einsum("nd,nd->n", way_fine[rows], known_fine)
            value = np.maximum(value, np.where((rough >= _ALIKE[0]) & known_fine.any(1), sharp, -1.0))
        better = value > score[rows]
        best[rows[better]], score[rows[better]] = column[rows[better]], value[better]
    return best, score


def _telling(fine: np.ndarray) -> np.ndarray:
    """Return by how many pixels fingerprints are told apart: few where a bright spot or two are all there is to see."""
    return np.square(np.square(fine).sum(1)) / np.maximum((fine**4).sum(1), 1e-12)
