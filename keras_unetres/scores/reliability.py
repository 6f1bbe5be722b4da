"""How far probabilities are from the shares that they promise: reliability diagrams and the calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unetres_edge.model.calibration import Calibration
from unetres_edge.results.softmax import probabilities

BINS = 15  # of equal width, as in Guo 2017


@dataclass(frozen=True)
class Bins:
    """Probabilities in bins of equal width, and how often they came true.

    Args:
        counts: (BINS,) pixels in each.
        claimed: (BINS,) sum of their probabilities.
        right: (BINS,) how many of them were so.
    """

    counts: np.ndarray
    claimed: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, claimed: np.ndarray, right: np.ndarray) -> Bins:
        """Sort (N,) probabilities and (N,) whether they came true."""
        bins = np.clip(np.ceil(claimed * BINS).astype(int) - 1, 0, BINS - 1)  # (0, 1/15], ..., (14/15, 1]

        def summed(weights: np.ndarray | None) -> np.ndarray:
            return np.bincount(bins, weights, BINS)

        return cls(summed(None), summed(claimed.astype(np.float64)), summed(right.astype(np.float64)))

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of the two shares, weighed by pixels (Guo 2017, eq. 3)."""
        total = self.counts.sum()
        return float(np.abs(self.claimed - self.right).sum() / total) if total else 0.0

    def __add__(self, other: Bins) -> Bins:
        return Bins(self.counts + other.counts, self.claimed + other.claimed, self.right + other.right)

    def to_dict(self) -> dict[str, list[float | None]]:
        """Return, for each bin, its share of the pixels, the mean probability and the share that was so."""
        total = max(1, self.counts.sum())
        filled = self.counts > 0

        def means(sums: np.ndarray) -> list[float | None]:
            return [round(float(s / n), 5) if n else None for s, n in zip(sums, self.counts, strict=True)]

        return {
            "share": [round(float(n / total), 5) if full else 0.0 for n, full in zip(self.counts, filled, strict=True)],
            "claimed": means(self.claimed),
            "right": means(self.right),
        }


@dataclass(frozen=True)
class Reliability:
    """The bins of the answers, and of the probability of each class.

    Args:
        answers: bins of the probability of the class that was answered.
        classes: class name -> bins of its probability, whether it was answered or not.
    """

    answers: Bins
    classes: dict[str, Bins]

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(
            self.answers + other.answers, {name: bins + other.classes[name] for name, bins in self.classes.items()}
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: "ece", "ece_by_class", and the bins of the answers."""
        return {
            "ece": round(self.answers.error, 6),
            "ece_by_class": {name: round(bins.error, 6) for name, bins in self.classes.items()},
            "bins": self.answers.to_dict(),
        }


def measure_reliability(
    scores: np.ndarray,
    labels: np.ndarray,
    activation: str,
    class_names: Sequence[str],
    parts: Sequence[tuple[np.ndarray, Calibration | None]] | None = None,
) -> Reliability:
    """Return how reliable a file's probabilities are.

    Args:
        scores: (N, classes) float32 of labelled pixels.
        labels: (N,) class ids.
        activation: function that makes probabilities of the scores, as the card says it.
        class_names: names of the classes, by id.
        parts: calibrations, each with the pixels, (N,) bool, that it is for; None for none.
    """
    chances = np.empty(scores.shape, np.float32)
    for chosen, calibration in parts or [(np.ones(len(labels), bool), None)]:
        chances[chosen] = probabilities(scores[chosen], activation, calibration)
    answers = scores.argmax(-1)
    claimed = np.take_along_axis(chances, answers[:, None], -1)[:, 0]
    classes = {name: Bins.of(chances[:, class_id], labels == class_id) for class_id, name in enumerate(class_names)}
    return Reliability(Bins.of(claimed, answers == labels), classes)
