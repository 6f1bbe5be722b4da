"""How far two forms of one model differ on the same images: the drop of a score, with a paired bootstrap interval.

Both forms are scored on every draw of images (Efron and Tibshirani 1993, chapter 13), so what makes an image hard for
both does not widen the interval. Drops are in points: hundredths of the score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .bootstrap import DRAWS, Interval, Margins, draw_times, interval_of, scores_of


@dataclass(frozen=True)
class Drop:
    """How much lower a score is, in points; negative where it is higher.

    Args:
        points: over all images.
        interval: percentile interval of it, or None for fewer than two images.
    """

    points: float
    interval: Interval | None


def signed(points: float, *, minus: str = "-") -> str:
    """Return a change in points as text; one that shows as 0.00 has no sign.

    Args:
        points: the change: below 0 where something was lost.
        minus: sign of a minus, such as "\u2212" on a page.
    """
    return "0.00" if abs(points) < 0.005 else f"{points:+.2f}".replace("-", minus)


def drop_of_miou(before: Margins, after: Margins, *, draws: int = DRAWS) -> Drop | None:
    """Return the drop of mIoU between two forms scored on the same images, or None where nothing is labelled."""
    counts = np.stack([[m.hits, m.truth, m.predicted] for m in (before, after)])  # (form, margin, image, class)
    images = counts.shape[2]

    def difference(times: np.ndarray) -> np.ndarray:
        sums = np.einsum("di,fmic->fmdc", times, counts.astype(np.float64), optimize=True)
        first, second = (scores_of(*side).miou for side in sums)
        return 100 * (first - second)

    return _drop(difference, images, draws)


def drop_of_share(before: np.ndarray, after: np.ndarray) -> Drop | None:
    """Return the drop of the share of images that are right, (N,) bool each, or None without an image."""
    change = np.asarray(before, np.float64) - np.asarray(after, np.float64)
    return _drop(lambda times: 100 * (times @ change) / times.sum(1), len(change), DRAWS)


def _drop(difference: Callable[[np.ndarray], np.ndarray], images: int, draws: int) -> Drop | None:
    """Return the drop over all images once each, and its interval over draws of them."""
    if not images:
        return None
    points = float(difference(np.ones((1, images)))[0])
    if np.isnan(points):
        return None
    if images < 2:
        return Drop(points, None)
    drawn = [difference(times) for times in draw_times(images, draws)]  # the same draws as those of `find_intervals`
    return Drop(points, interval_of(np.concatenate(drawn)))
