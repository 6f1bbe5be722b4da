"""The score of an answer that has looked at nothing: the most frequent class, everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Baseline:
    """The score of always answering one class.

    Args:
        class_name: the most frequent class.
        score: mIoU over the classes that are there, or of a classifier the share of right answers.
    """

    class_name: str
    score: float

    def __str__(self) -> str:
        return f'always "{self.class_name}": {self.score:.2f}'


def baseline_of_miou(pixels: np.ndarray, class_names: Sequence[str]) -> Baseline | None:
    """Return the baseline of a segmenter, or None where fewer than two classes are there.

    Args:
        pixels: (classes,) labelled pixels of each class.
        class_names: names of the classes, by id.
    """
    share = baseline_of_share(pixels, class_names)
    if share is None:
        return None
    # The IoU of the class that is always given is its share; that of the others is 0.
    return Baseline(share.class_name, share.score / np.count_nonzero(pixels))


def baseline_of_share(counts: np.ndarray, class_names: Sequence[str]) -> Baseline | None:
    """Return the baseline of a classifier, or None where fewer than two classes are there.

    Args:
        counts: (classes,) images of each class.
        class_names: names of the classes, by id.
    """
    if np.count_nonzero(counts) < 2:
        return None
    most = int(np.argmax(counts))
    return Baseline(class_names[most], float(counts[most] / counts.sum()))
