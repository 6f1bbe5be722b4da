"""Scores of objects: average precision, F1 and panoptic quality from one matching of label maps, image by image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unetres_edge.errors import UsageError

from .bootstrap import Interval, draw_sums, interval_of

# Above this IoU an object has at most one partner (Kirillov 2019), so that matching needs no choice.
LEAST_THRESHOLD = 0.5
DSB_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


@dataclass(frozen=True)
class Matches:
    """The objects of one image.

    Args:
        ious: IoU of each pair with IoU above 0.5, float64.
        excused: whether most of the proposed object of each pair is ignored, bool.
        unmatched: proposed objects without a partner, without those of which most is ignored.
        truths: true objects.
    """

    ious: np.ndarray
    excused: np.ndarray
    unmatched: int
    truths: int

    @property
    def proposed(self) -> int:
        """Proposed objects, without those of which most is ignored and that are no match."""
        return len(self.ious) + self.unmatched

    def counts(self, threshold: float) -> tuple[int, int, int]:
        """Return (true positives, false positives, false negatives) at an IoU above a threshold in [0.5, 1)."""
        if not LEAST_THRESHOLD <= threshold < 1:
            raise UsageError("no such IoU threshold", expected="a number in [0.5, 1)", found=threshold)
        hit = self.ious > threshold
        true = int(hit.sum())
        return true, self.unmatched + int((~hit & ~self.excused).sum()), self.truths - true


def match_instances(truth: np.ndarray, proposal: np.ndarray, ignore: np.ndarray | None = None) -> Matches:
    """Pair the objects of two label maps whose intersection over union is above 0.5.

    Ignored pixels belong to no object. A proposed object of which more than half is ignored is a match or nothing, but
    not a false positive (Kirillov 2019, void labels).

    Args:
        truth: (H, W) integer, 0 where there is no object, and a number for each object; any numbers.
        proposal: (H, W), likewise.
        ignore: (H, W) bool, or None.

    Raises:
        UsageError: the maps differ in size, or are not of integers.
    """
    known = known_pixels(truth, proposal, ignore)
    whole = np.bincount(_renumber(proposal))
    true_ids, proposed = _renumber(truth), _renumber(proposal)
    true_ids, proposed = true_ids[known.ravel()], proposed[known.ravel()]
    overlap = np.zeros((int(true_ids.max(initial=0)) + 1, len(whole)), np.int64)
    np.add.at(overlap, (true_ids, proposed), 1)
    sizes, areas = overlap.sum(1), overlap.sum(0)
    mostly_ignored = areas * 2 < whole
    rows, columns = np.nonzero(overlap[1:, 1:])
    rows, columns = rows + 1, columns + 1
    shared = overlap[rows, columns]
    ious = shared / (sizes[rows] + areas[columns] - shared)
    hit = ious > LEAST_THRESHOLD
    alone = ~mostly_ignored
    alone[0] = False
    alone[columns[hit]] = False
    return Matches(ious[hit], mostly_ignored[columns[hit]], int(alone.sum()), int((sizes[1:] > 0).sum()))


class InstanceScores:
    """Matches of a whole set of images, added one by one, and the scores that follow."""

    def __init__(self) -> None:
        self.images: list[Matches] = []

    def add(self, truth: np.ndarray, proposal: np.ndarray, ignore: np.ndarray | None = None) -> None:
        """Match one image; see `match_instances`."""
        self.images.append(match_instances(truth, proposal, ignore))

    def counts(self, threshold: float = 0.5) -> tuple[int, int, int]:
        """Return (true positives, false positives, false negatives) of all images."""
        true, false, missed = np.sum([(0, 0, 0), *(image.counts(threshold) for image in self.images)], axis=0).tolist()
        return true, false, missed

    def average_precision(self, threshold: float = 0.5, *, by_image: bool = False) -> float | None:
        """Return TP / (TP + FP + FN) at an IoU above a threshold, as the Data Science Bowl 2018 calls precision.

        Args:
            by_image: the mean of each image's score, as the challenge has it, where an image with few objects counts as
                much as one with many; images with neither true nor proposed objects are left out. Otherwise counts are
                summed over the images first.

        Returns:
            None if there are no objects at all.
        """
        each = [image.counts(threshold) for image in self.images] if by_image else [self.counts(threshold)]
        scores = [counts[0] / sum(counts) for counts in each if sum(counts)]
        return float(np.mean(scores)) if scores else None

    def mean_average_precision(self, *, by_image: bool = False) -> float | None:
        """Return the mean of `average_precision` over the thresholds 0.5, 0.55, ... 0.95."""
        scores = [self.average_precision(threshold, by_image=by_image) for threshold in DSB_THRESHOLDS]
        present = [score for score in scores if score is not None]
        return float(np.mean(present)) if present else None

    def f1(self, threshold: float = 0.5) -> float | None:
        """Return 2 TP / (2 TP + FP + FN) over all images, the recognition quality of Kirillov 2019."""
        true, false, missed = self.counts(threshold)
        return 2 * true / (2 * true + false + missed) if true + false + missed else None

    def segmentation_quality(self) -> float | None:
        """Return the mean IoU of the matched pairs of all images (Kirillov 2019)."""
        ious = np.concatenate([image.ious for image in self.images]) if self.images else np.zeros(0)
        return float(ious.mean()) if len(ious) else None

    def panoptic_quality(self) -> float | None:
        """Return segmentation quality times recognition quality over all images (Kirillov 2019 eq. 1)."""
        recognition = self.f1()
        return None if recognition is None else recognition * (self.segmentation_quality() or 0.0)

    def count_error(self) -> float | None:
        """Return by how many objects the count of an image is wrong, the mean over images; None without an image."""
        return float(np.mean([abs(image.proposed - image.truths) for image in self.images])) if self.images else None

    def intervals(self) -> dict[str, Interval | None]:
        """Return percentile intervals of "ap50", "pq" and "count_error" over draws of images with replacement.

        None where nothing can be said: fewer than two images, or no object.
        """
        names = ("ap50", "pq", "count_error")
        if len(self.images) < 2:
            return dict.fromkeys(names)
        rows = [
            (*image.counts(LEAST_THRESHOLD), image.ious.sum(), abs(image.proposed - image.truths))
            for image in self.images
        ]
        true, false, missed, ious, off = draw_sums(np.array(rows, np.float64)).T
        some = true + false + missed > 0
        nothing = np.full(len(true), np.nan)
        precision = np.divide(true, true + false + missed, out=nothing.copy(), where=some)
        quality = np.divide(2 * ious, 2 * true + false + missed, out=nothing, where=some)  # eq. 1: SQ x RQ
        draws = (precision, quality, off / len(self.images))
        return {name: interval_of(values) for name, values in zip(names, draws, strict=True)}

    def to_dict(self) -> dict[str, float | int | None]:
        """Return the scores as JSON values."""
        return {
            "ap50": self.average_precision(),
            "ap50_by_image": self.average_precision(by_image=True),
            "map": self.mean_average_precision(),
            "f1": self.f1(),
            "pq": self.panoptic_quality(),
            "sq": self.segmentation_quality(),
            "rq": self.f1(),
            "num_objects": sum(image.truths for image in self.images),
            "num_proposed": sum(image.proposed for image in self.images),
            "count_error": self.count_error(),
        }


def known_pixels(truth: np.ndarray, proposal: np.ndarray, ignore: np.ndarray | None) -> np.ndarray:
    """Return (H, W) bool, which pixels count, of two label maps that fit together.

    Raises:
        UsageError: the maps differ in size, or are not of integers.
    """
    maps = [truth, proposal] if ignore is None else [truth, proposal, ignore]
    right = all(each.ndim == 2 and each.shape == truth.shape for each in maps)
    if not right or any(each.dtype.kind not in "biu" for each in maps):
        raise UsageError(
            "label maps do not fit",
            expected="integer (H, W) of one size",
            found=", ".join(f"{each.dtype} {each.shape}" for each in maps),
        )
    return np.ones(truth.shape, bool) if ignore is None else ~ignore.astype(bool)


def _renumber(labels: np.ndarray) -> np.ndarray:
    """Return flat ids counted from 1 for objects, and 0 where there is none."""
    ids, places = np.unique(labels, return_inverse=True)
    numbers = np.where(ids != 0, np.cumsum(ids != 0), 0)
    return numbers[places.ravel()]
