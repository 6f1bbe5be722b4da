"""How well an image is cut into segments: V_rand and V_info as scored by ISBI 2012 (Arganda-Carreras 2015).

Both compare two partitions of the same pixels and know nothing of object ids. Only pixels inside true segments count
(foreground-restricted): where the truth is membrane, a proposal may be anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from unetres_edge.errors import UsageError

from .instances import known_pixels

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))


@dataclass(frozen=True)
class PartitionScore:
    """Scores in [0, 1], 1 for the same partition.

    Args:
        v_rand: sum p_ij^2 / ((sum s_i^2 + sum t_j^2) / 2), with p_ij the share of pixels in proposed segment i and true
            segment j, s and t its sums: the F-score of Rand split and merge (alpha = 0.5).
        v_info: mutual information / mean of both entropies: the F-score of information split and merge.
    """

    v_rand: float
    v_info: float


def partition_score(truth: np.ndarray, proposal: np.ndarray, ignore: np.ndarray | None = None) -> PartitionScore | None:
    """Compare two label maps over the pixels where the truth is not 0.

    Pixels where the proposal is 0 (its membrane) are each a segment of one pixel: a proposal pays for borders that are
    wider than the true ones. To score a cut without its borders' width, thin them first, see `segments_of_membrane`.

    Args:
        truth: (H, W) integer segments, 0 for membrane.
        proposal: (H, W) integer segments, 0 for membrane.
        ignore: (H, W) bool, pixels that do not count, or None.

    Returns:
        None if no pixel counts.

    Raises:
        UsageError: the maps differ in size, or are not of integers.
    """
    counted = known_pixels(truth, proposal, ignore) & (truth != 0)
    total = int(counted.sum())
    if not total:
        return None
    true_ids = np.unique(truth[counted], return_inverse=True)[1].ravel()
    ids = np.unique(proposal[counted], return_inverse=True)[1].ravel()
    single = proposal[counted] == 0
    ids[single] = ids.max() + 1 + np.arange(single.sum())
    pairs = np.unique(true_ids * (ids.max() + 1) + ids, return_counts=True)[1]
    joint, cuts, parts = (counts[counts > 0] / total for counts in (pairs, np.bincount(ids), np.bincount(true_ids)))
    v_rand = (joint**2).sum() / (((cuts**2).sum() + (parts**2).sum()) / 2)
    entropies = _entropy(cuts) + _entropy(parts)
    shared = entropies - _entropy(joint)
    return PartitionScore(float(v_rand), float(np.clip(2 * shared / entropies, 0, 1)) if entropies else 1.0)


def segments_of_membrane(membrane: np.ndarray, threshold: float = 0.5, *, thin: bool = True) -> np.ndarray:
    """Return the segments that a membrane map separates, (H, W) int32 from 1, 0 for membrane.

    Segments are the parts of what is below the threshold that hang together by the sides of pixels.

    Args:
        membrane: (H, W) float scores in [0, 1].
        threshold: score from which on a pixel is membrane.
        thin: whether segments grow by watershed of the map until they meet, so that no membrane is left, as the
            challenge thins borders before it scores. Where no segment is found, the whole image is one.
    """
    segments = ndimage.label(membrane < threshold)[0].astype(np.int32)
    if not thin:
        return segments
    if not segments.any():
        return np.ones_like(segments)
    return watershed(membrane, segments).astype(np.int32)


@dataclass(frozen=True)
class BestScores:
    """The best mean score over images that one threshold for all of them reaches, for either score by itself."""

    v_rand: float
    v_rand_threshold: float
    v_info: float
    v_info_threshold: float


def best_over_thresholds(
    maps: Iterable[tuple[np.ndarray, np.ndarray]], thresholds: Sequence[float] = THRESHOLDS, *, thin: bool = True
) -> BestScores:
    """Score membrane maps at every threshold, as ISBI 2012 does, and return the best.

    A threshold chosen on the images that are scored flatters the map a little; state it beside the score.

    Args:
        maps: (membrane (H, W) float in [0, 1], truth (H, W) integer segments with 0 for membrane) of each image, read
            once.
        thin: see `segments_of_membrane`.

    Raises:
        UsageError: there is no image with a true segment.
    """
    rows = []
    for membrane, truth in maps:
        scores = [partition_score(truth, segments_of_membrane(membrane, each, thin=thin)) for each in thresholds]
        rows.append([(score.v_rand, score.v_info) for score in scores if score is not None])
    rows = [row for row in rows if row]
    if not rows:
        raise UsageError("nothing to score", expected="an image with a true segment and a threshold")
    means = np.mean(rows, axis=0)
    rand, info = means.argmax(axis=0)
    return BestScores(float(means[rand, 0]), thresholds[rand], float(means[info, 1]), thresholds[info])


class PartitionScores:
    """The mean of `partition_score` over a set of images, added one by one."""

    def __init__(self) -> None:
        self.images: list[PartitionScore] = []

    def add(self, truth: np.ndarray, proposal: np.ndarray, ignore: np.ndarray | None = None) -> None:
        """Score one image; one without a pixel that counts is left out."""
        score = partition_score(truth, proposal, ignore)
        if score is not None:
            self.images.append(score)

    def to_dict(self) -> dict[str, float | None]:
        """Return the means as JSON values."""
        return {
            "v_rand": float(np.mean([each.v_rand for each in self.images])) if self.images else None,
            "v_info": float(np.mean([each.v_info for each in self.images])) if self.images else None,
        }


def _entropy(shares: np.ndarray) -> float:
    """Return the entropy of shares above 0, nats."""
    return float(-(shares * np.log(shares)).sum())
