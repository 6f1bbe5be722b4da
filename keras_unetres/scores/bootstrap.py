"""How far a score would move if other images of the same kind had been scored: the percentile bootstrap over images.

Efron 1979; Efron and Tibshirani 1993, chapter 13. Pixels of one image depend on each other, so images are what is
drawn. Each draw sums the counts of its images and derives every score from the sum, as the score itself is derived;
a mean of scores of single images would be another quantity.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .confusion import Confusion

DRAWS = 2000
LEVEL = 0.95
FEW_IMAGES = 10  # of fewer, percentile intervals are too narrow
_AT_ONCE = 256  # draws

Interval = tuple[float, float]


@dataclass(frozen=True)
class Margins:
    """What the scores need of each image's confusion count: all (N, classes) int64, in pixels.

    Args:
        hits: pixels of each class that were given that class.
        truth: pixels of each class in the mask.
        predicted: given each class by the model.
    """

    hits: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray

    @classmethod
    def of(cls, confusion: Confusion) -> Margins:
        """Return the margins of the count of one image."""
        counts = confusion.counts
        return cls(np.diag(counts)[None].copy(), counts.sum(1)[None], counts.sum(0)[None])

    @classmethod
    def joined(cls, rows: Sequence[Margins], num_classes: int) -> Margins:
        """Return the margins of several images as one."""
        if not rows:
            return cls(*np.zeros((3, 0, num_classes), np.int64))
        parts = zip(*((row.hits, row.truth, row.predicted) for row in rows), strict=True)
        return cls(*(np.concatenate(part) for part in parts))

    def __len__(self) -> int:
        return len(self.hits)

    def total(self) -> Scores:
        """Return the scores of all images together."""
        return scores_of(self.hits.sum(0), self.truth.sum(0), self.predicted.sum(0))

    def single(self) -> Scores:
        """Return the scores of every image by itself."""
        return scores_of(self.hits, self.truth, self.predicted)


@dataclass(frozen=True)
class Scores:
    """Scores, NaN where there is nothing to score: `iou` and `dice` (..., classes), the others (...), float64."""

    iou: np.ndarray
    dice: np.ndarray
    miou: np.ndarray
    mean_dice: np.ndarray
    accuracy: np.ndarray


@dataclass(frozen=True)
class Intervals:
    """The interval of each score, or None where nothing can be said: no such class, or fewer than two images."""

    iou: tuple[Interval | None, ...]
    dice: tuple[Interval | None, ...]
    miou: Interval | None
    mean_dice: Interval | None
    accuracy: Interval | None


def scores_of(hits: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> Scores:
    """Return the scores of counts (..., classes); classes absent from the truth have none and do not count in means."""
    present = truth > 0
    iou = _share(hits, truth + predicted - hits, present)
    dice = _share(2 * hits, truth + predicted, present)
    every = truth.sum(-1)
    return Scores(iou, dice, _mean(iou), _mean(dice), _share(hits.sum(-1), every, every > 0))


def find_intervals(margins: Margins, *, draws: int = DRAWS, seed: int = 0) -> Intervals:
    """Return percentile intervals over draws of images with replacement.

    A class's interval is over the draws in which it is present.

    Args:
        draws: number of draws.
        seed: seed of the random draws.
    """
    number, classes = margins.hits.shape
    if number < 2:
        return Intervals((None,) * classes, (None,) * classes, None, None, None)
    counts = np.concatenate([margins.hits, margins.truth, margins.predicted], axis=1)
    sums = draw_sums(counts, draws, seed)  # exact: whole numbers below 2**53
    drawn = scores_of(sums[:, :classes], sums[:, classes : 2 * classes], sums[:, 2 * classes :])
    return Intervals(
        tuple(interval_of(column) for column in drawn.iou.T),
        tuple(interval_of(column) for column in drawn.dice.T),
        interval_of(drawn.miou),
        interval_of(drawn.mean_dice),
        interval_of(drawn.accuracy),
    )


def draw_sums(values: np.ndarray, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Return sums (draws, k) float64 of rows (N, k), one an image, of which each draw takes N with replacement."""
    exact = values.astype(np.float64)
    return np.concatenate([times @ exact for times in draw_times(len(values), draws, seed)])


def draw_times(images: int, draws: int = DRAWS, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield how many times each image is in each of some draws, (some, images) float64."""
    random = np.random.default_rng(seed)
    for first in range(0, draws, _AT_ONCE):
        rows = min(_AT_ONCE, draws - first)
        chosen = random.integers(0, images, (rows, images)) + images * np.arange(rows)[:, None]
        yield np.bincount(chosen.ravel(), minlength=rows * images).reshape(rows, images).astype(np.float64)


def _share(part: np.ndarray, whole: np.ndarray, valid: np.ndarray) -> np.ndarray:
    empty = np.full(np.shape(whole), np.nan)
    return np.divide(part, whole, out=empty, where=valid)


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of what is not NaN."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    return _share(np.where(known, values, 0.0).sum(-1), count, count > 0)


def interval_of(values: np.ndarray) -> Interval | None:
    """Return the percentile interval of drawn scores, NaN where a draw has none; None where no draw has one."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
