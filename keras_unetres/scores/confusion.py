"""The confusion count: truth by prediction in pixels, summed over images, and the scores that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unetres_edge.images.bands import bands
from unetres_edge.images.preprocessing import IGNORE


@dataclass(frozen=True)
class Confusion:
    """Pixel counts (classes, classes) int64: `counts[t, p]` pixels of class t were given class p."""

    counts: np.ndarray

    @classmethod
    def empty(cls, num_classes: int) -> Confusion:
        """Return a count of nothing."""
        return cls(np.zeros((num_classes, num_classes), np.int64))

    @classmethod
    def of(cls, mask: np.ndarray, class_map: np.ndarray, num_classes: int) -> Confusion:
        """Count one image: (H, W) uint8 mask, where `IGNORE` does not count, against (H, W) uint8 class ids."""
        counts = np.zeros(num_classes**2, np.int64)
        for rows in bands(mask.shape):
            valid = mask[rows] != IGNORE
            pairs = mask[rows][valid].astype(np.int64) * num_classes + class_map[rows][valid]
            counts += np.bincount(pairs, minlength=num_classes**2)
        return cls(counts.reshape(num_classes, num_classes))

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.counts + other.counts)

    def iou(self) -> list[float | None]:
        """Return intersection over union by class; None for a class that is absent from the truth."""
        hits = np.diag(self.counts)
        truth = self.counts.sum(1)
        union = truth + self.counts.sum(0) - hits
        return [float(h / u) if t else None for h, u, t in zip(hits, union, truth, strict=True)]

    def mean_iou(self) -> float | None:
        """Return the mean of `iou` over the classes present."""
        present = [value for value in self.iou() if value is not None]
        return float(np.mean(present)) if present else None

    def dice(self) -> list[float | None]:
        """Return 2 intersection / (truth + prediction) by class; None for a class that is absent from the truth."""
        hits, truth, guess = np.diag(self.counts), self.counts.sum(1), self.counts.sum(0)
        return [float(2 * h / (t + g)) if t else None for h, t, g in zip(hits, truth, guess, strict=True)]

    def mean_dice(self) -> float | None:
        """Return the mean of `dice` over the classes present."""
        present = [value for value in self.dice() if value is not None]
        return float(np.mean(present)) if present else None

    def frequency_weighted_iou(self) -> float | None:
        """Return the mean of `iou`, each class weighing by its pixels in the truth (Long 2015)."""
        total = int(self.counts.sum())
        weighed = [value * int(t) for value, t in zip(self.iou(), self.counts.sum(1), strict=True) if value is not None]
        return sum(weighed) / total if total else None

    def pixel_accuracy(self) -> float | None:
        """Return the share of labelled pixels that are right."""
        total = self.counts.sum()
        return float(np.diag(self.counts).sum() / total) if total else None

    def to_dict(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """Return the scores as JSON values."""
        return {
            "miou": self.mean_iou(),
            "mean_dice": self.mean_dice(),
            "fwiou": self.frequency_weighted_iou(),
            "pixel_accuracy": self.pixel_accuracy(),
            "per_class_iou": dict(zip(class_names, self.iou(), strict=True)),
            "per_class_dice": dict(zip(class_names, self.dice(), strict=True)),
        }
