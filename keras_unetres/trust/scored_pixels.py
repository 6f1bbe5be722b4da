"""The scores of a model on labelled images, a draw of pixels of each, on which all that follows works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..machine.progress_bar import with_progress

if TYPE_CHECKING:
    from ..tasks.task import Opened, Task

MOST_IMAGES, MOST_PIXELS = 64, 4_096  # of a part, spread over it; of an image, drawn from a seed


@dataclass(frozen=True)
class ScoredPixels:
    """Labelled pixels with what a model says of them; of a classifier, images.

    Args:
        scores: (N, classes) float32, as `Result.scores` has them.
        labels: (N,) class ids.
        image: (N,) the number of the image of each.
        activation: function that makes probabilities of the scores, as the card says it.
    """

    scores: np.ndarray
    labels: np.ndarray
    image: np.ndarray
    activation: str = "softmax"

    @property
    def num_images(self) -> int:
        """How many images have a labelled pixel."""
        return len(np.unique(self.image))

    def of(self, chosen: np.ndarray) -> ScoredPixels:
        """Return those of which `chosen`, (N,) bool, is true."""
        return ScoredPixels(self.scores[chosen], self.labels[chosen], self.image[chosen], self.activation)


def score_pixels(
    opened: Opened,
    task: Task,
    records: Any,
    *,
    pixels: int = MOST_PIXELS,
    name: str = "calibrating",
) -> ScoredPixels:
    """Ask a model about labelled images, and keep the scores of some pixels.

    Args:
        opened: the model, which gives scores.
        task: task of the model.
        records: the images, in an order; of many some are looked at, spread over all.
        pixels: the most that are kept of an image, drawn from a seed without replacement.
        name: text of the progress bar.
    """
    places = np.unique(np.linspace(0, len(records) - 1, min(len(records), MOST_IMAGES)).astype(int))
    scores, labels, numbers = [], [], []
    for index in with_progress(places.tolist(), name, "image", len(places)):
        pixel_scores, truth = task.labelled_scores(opened, records[index])
        if len(truth) > pixels:
            some = np.sort(np.random.default_rng(index).choice(len(truth), pixels, replace=False))
            pixel_scores, truth = pixel_scores[some], truth[some]
        scores.append(np.asarray(pixel_scores, np.float32))
        labels.append(truth)
        numbers.append(np.full(len(truth), index, np.int32))
    classes = len(opened.card.class_names)
    if not scores:
        return ScoredPixels(
            np.zeros((0, classes), np.float32), np.zeros(0, np.uint8), np.zeros(0, np.int32), opened.card.activation
        )
    return ScoredPixels(np.concatenate(scores), np.concatenate(labels), np.concatenate(numbers), opened.card.activation)
