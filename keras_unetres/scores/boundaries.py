"""Boundary F1 of class maps: how well outlines are met within a tolerance in px, counted over images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import IGNORE


@dataclass(frozen=True)
class BoundaryCounts:
    """Boundary pixels by class, from which F1 follows (Csurka 2013; Perazzi 2016).

    A boundary pixel of a class has a neighbour to its left, right, above or below that is labelled and of another
    class; ignored pixels and the border of the image make no boundary.

    Args:
        counts: (4, classes) int64: predicted pixels near a true one, predicted ones, true ones near a predicted one,
            true ones.
    """

    counts: np.ndarray

    @classmethod
    def empty(cls, num_classes: int) -> BoundaryCounts:
        """Return a count of nothing."""
        return cls(np.zeros((4, num_classes), np.int64))

    @classmethod
    def of(cls, mask: np.ndarray, class_map: np.ndarray, num_classes: int, *, tolerance: float = 2.0) -> BoundaryCounts:
        """Count one image: (H, W) uint8 mask, where `IGNORE` does not count, against (H, W) uint8 class ids.

        Args:
            tolerance: px between centres of pixels, Euclidean, within which a pixel is near.

        Raises:
            UsageError: `tolerance` is negative.
        """
        if not tolerance >= 0:
            raise UsageError("tolerance cannot be used", expected="px >= 0", found=tolerance)
        known = mask != IGNORE
        true_edges, guessed_edges = _edges(mask, known), _edges(class_map, known)
        counts = np.zeros((4, num_classes), np.int64)
        for label in range(num_classes):
            truth, guess = true_edges & (mask == label), guessed_edges & (class_map == label)
            counts[1, label], counts[3, label] = guess.sum(), truth.sum()
            if guess.any() and truth.any():
                counts[0, label] = (distance_transform_edt(~truth)[guess] <= tolerance).sum()
                counts[2, label] = (distance_transform_edt(~guess)[truth] <= tolerance).sum()
        return cls(counts)

    def __add__(self, other: BoundaryCounts) -> BoundaryCounts:
        return BoundaryCounts(self.counts + other.counts)

    def f1(self) -> list[float | None]:
        """Return F1 by class; None for a class without a boundary in the truth."""
        scores: list[float | None] = []
        for right, guess, recalled, truth in self.counts.T.tolist():
            precision, recall = right / max(guess, 1), recalled / max(truth, 1)
            both = precision + recall
            scores.append(None if not truth else 2 * precision * recall / both if both else 0.0)
        return scores

    def mean_f1(self) -> float | None:
        """Return the mean of `f1` over the classes that have a boundary."""
        present = [value for value in self.f1() if value is not None]
        return float(np.mean(present)) if present else None


def _edges(labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the known pixels with a known neighbour of another label, (H, W) bool."""
    edges = np.zeros(labels.shape, bool)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        apart = (labels[here] != labels[there]) & known[here] & known[there]
        edges[here] |= apart
        edges[there] |= apart
    return edges
