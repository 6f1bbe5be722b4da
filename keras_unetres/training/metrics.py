"""Metrics for `model.fit`, from one streaming confusion matrix: pixels are counted once, every score follows.

All take masks (N, H, W) or (N, H, W, 1) of whole numbers and logits (N, H, W, C), and count over all batches since the
last reset, so that a score is that of the whole set and not a mean over batches. What they have in common:

- pixels with the ignored id do not count;
- as the losses are, scores are NaN where a mask holds an id that is no class, or a number that is not whole;
- after the first epoch, a class without a counted pixel is warned of, and masks of 0 and 255 alone are named;
- a class that is absent from the masks does not count in a mean, and a score of its own is NaN;
- before anything is counted, means are 0;
- sample weights do not count.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import IGNORE

from .boundary_f1 import BoundaryF1
from .counting import count_dtype, counted_words
from .masks import check_ignored, to_class_ids
from .replicas import is_traced

__all__ = [
    "BoundaryF1",
    "ClassIoU",
    "FrequencyWeightedIoU",
    "MeanDice",
    "MeanIoU",
    "PixelAccuracy",
    "SegmentationScores",
]


class ConfusionMetric(keras.metrics.Metric):
    """The streaming confusion matrix; subclasses say in `result` what follows from it.

    Args:
        num_classes: number of classes.
        ignore_index: the id that means "not labelled", or None.
        name: the key in the logs.

    Attributes:
        warns: whether it warns of classes without a counted pixel after the first epoch.
    """

    def __init__(self, num_classes: int, ignore_index: int | None, name: str) -> None:
        super().__init__(name=name)
        check_ignored(num_classes, ignore_index, name)
        self.warns = True
        self._traced = False
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.confusion = self.add_variable(
            (num_classes, num_classes), initializer="zeros", name="confusion", dtype=count_dtype()
        )
        # Pixels with the ignored id, and pixels that are no class.
        self.left_out = self.add_variable((2,), initializer="zeros", name="left_out", dtype=count_dtype())

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count masks (N, H, W) against logits (N, H, W, C). Sample weights do not count.

        Raises:
            UsageError: shapes that do not fit, such as one-hot masks.
        """
        classes = self.num_classes
        self._traced = is_traced(y_pred)
        masks, whole = (ops.reshape(each, (-1,)) for each in to_class_ids(y_true, y_pred, self.name))
        labels = ops.cast(ops.argmax(ops.reshape(y_pred, (-1, classes)), axis=-1), "int32")
        counted = ops.logical_and(whole, ops.logical_and(masks >= 0, masks < classes))
        ignored = ops.zeros_like(counted)
        if self.ignore_index is not None:
            ignored = ops.logical_and(whole, masks == self.ignore_index)
            counted = ops.logical_and(counted, masks != self.ignore_index)
        strange = ops.logical_not(ops.logical_or(counted, ignored))
        left_out = ops.stack([ops.sum(ops.cast(each, "int32")) for each in (ignored, strange)])
        self.left_out.assign_add(ops.cast(left_out, self.left_out.dtype))
        # Integers are exact, and summed by pair they are faster than a product of one-hot maps.
        pairs = ops.where(counted, masks * classes + labels, classes**2)
        counts = ops.segment_sum(ops.ones_like(pairs), pairs, num_segments=classes**2 + 1)
        self.confusion.assign_add(ops.cast(ops.reshape(counts[:-1], (classes, classes)), self.confusion.dtype))

    def result(self) -> Any:
        """Return the score, or a dict of scores."""
        raise NotImplementedError

    def reset_state(self) -> None:
        """Start anew; what the first epoch counted is looked at before."""
        self._look_at_counts()
        super().reset_state()

    def checked(self, score: Any) -> Any:
        """Return a score, NaN where a mask held what is no class."""
        if self._traced and not is_traced(self.confusion.value):  # Keras asks after an epoch whose steps were traced
            self._look_at_counts()
        return ops.where(self.left_out[1] > 0, float("nan"), score)

    def _look_at_counts(self) -> None:
        """Warn, once, of what no score tells."""
        if not self.warns or is_traced(self.confusion.value):
            return
        present = np.asarray(ops.convert_to_numpy(self.confusion)).sum(1) > 0
        ignored, strange = (int(count) for count in np.asarray(ops.convert_to_numpy(self.left_out)))
        if not (present.any() or ignored or strange):
            return
        self.warns = False
        said = counted_words(present.tolist(), ignored, strange, self.ignore_index)
        if said:
            warnings.warn(f"{self.name}: {said}", stacklevel=3)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"num_classes": self.num_classes, "ignore_index": self.ignore_index, "name": self.name}


@keras.saving.register_keras_serializable("keras_unetres")
class MeanIoU(ConfusionMetric):
    """Mean intersection over union of the classes in the masks; see `ConfusionMetric`."""

    def __init__(self, num_classes: int, ignore_index: int | None = IGNORE, name: str = "miou") -> None:
        super().__init__(num_classes, ignore_index, name)

    def result(self) -> Any:
        """Return the mean over classes as a float32 scalar."""
        return self.checked(mean_of_present(iou(self.confusion), self.confusion))


@keras.saving.register_keras_serializable("keras_unetres")
class MeanDice(ConfusionMetric):
    """Mean Dice (F1) of the classes in the masks; see `ConfusionMetric`."""

    def __init__(self, num_classes: int, ignore_index: int | None = IGNORE, name: str = "dice") -> None:
        super().__init__(num_classes, ignore_index, name)

    def result(self) -> Any:
        """Return the mean over classes as a float32 scalar."""
        return self.checked(mean_of_present(dice(self.confusion), self.confusion))


@keras.saving.register_keras_serializable("keras_unetres")
class FrequencyWeightedIoU(ConfusionMetric):
    """Mean IoU, classes weighing by their pixels in the masks (Long 2015); see `ConfusionMetric`."""

    def __init__(self, num_classes: int, ignore_index: int | None = IGNORE, name: str = "fwiou") -> None:
        super().__init__(num_classes, ignore_index, name)

    def result(self) -> Any:
        """Return the mean as a float32 scalar."""
        return self.checked(frequency_weighted_iou(self.confusion))


@keras.saving.register_keras_serializable("keras_unetres")
class PixelAccuracy(ConfusionMetric):
    """The share of labelled pixels that are right; see `ConfusionMetric`."""

    def __init__(self, num_classes: int, ignore_index: int | None = IGNORE, name: str = "pixel_accuracy") -> None:
        super().__init__(num_classes, ignore_index, name)

    def result(self) -> Any:
        """Return the share as a float32 scalar."""
        return self.checked(pixel_accuracy(self.confusion))


@keras.saving.register_keras_serializable("keras_unetres")
class ClassIoU(ConfusionMetric):
    """Intersection over union of one class, NaN while the masks have none of it; see `ConfusionMetric`.

    Args:
        num_classes: number of classes.
        class_id: the class, from 0.
        name: the key in the logs; None for `iou_` and the class.
    """

    def __init__(
        self, num_classes: int, class_id: int, ignore_index: int | None = IGNORE, name: str | None = None
    ) -> None:
        super().__init__(num_classes, ignore_index, name or f"iou_{class_id}")
        if not 0 <= class_id < num_classes:
            raise UsageError("no such class", expected=f"an id from 0 to {num_classes - 1}", found=class_id)
        self.class_id = class_id

    def result(self) -> Any:
        """Return the score as a float32 scalar."""
        return self.checked(score_or_nan(iou(self.confusion), self.confusion)[self.class_id])

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "class_id": self.class_id}


@keras.saving.register_keras_serializable("keras_unetres")
class SegmentationScores(ConfusionMetric):
    """All scores of one confusion matrix at once; see `ConfusionMetric`.

    The logs get "miou", "dice", "fwiou", "pixel_accuracy", and "iou_NAME" for each class, as `MeanIoU` and the others
    give them; with `val_` before them in validation.

    Args:
        num_classes: number of classes.
        class_names: names of the classes, any text; None for their ids.
        name: name of the metric, which is no key in the logs.
    """

    def __init__(
        self,
        num_classes: int,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = IGNORE,
        name: str = "segmentation_scores",
    ) -> None:
        super().__init__(num_classes, ignore_index, name)
        self.class_names = [str(each) for each in (range(num_classes) if class_names is None else class_names)]
        if not len(self.class_names) == len(set(self.class_names)) == num_classes:
            raise UsageError("class_names do not fit", expected=f"{num_classes} different names", found=class_names)

    def result(self) -> dict[str, Any]:
        """Return float32 scalars by the key in the logs."""
        ious = iou(self.confusion)
        by_class = score_or_nan(ious, self.confusion)
        scores = {
            "miou": mean_of_present(ious, self.confusion),
            "dice": mean_of_present(dice(self.confusion), self.confusion),
            "fwiou": frequency_weighted_iou(self.confusion),
            "pixel_accuracy": pixel_accuracy(self.confusion),
            **{f"iou_{name}": by_class[index] for index, name in enumerate(self.class_names)},
        }
        return {name: self.checked(score) for name, score in scores.items()}

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "class_names": self.class_names}


# Scores as functions of a confusion matrix: (C, C) counts, truth by prediction.


def iou(confusion: Any) -> Any:
    """Return intersection over union by class, (C,) float32; 0 for a class without a pixel."""
    hits, truth, guess = _sums(confusion)
    return ops.divide_no_nan(hits, truth + guess - hits)


def dice(confusion: Any) -> Any:
    """Return 2 intersection / (truth + prediction) by class, (C,) float32; 0 for a class without a pixel."""
    hits, truth, guess = _sums(confusion)
    return ops.divide_no_nan(2 * hits, truth + guess)


def mean_of_present(scores: Any, confusion: Any) -> Any:
    """Return the mean of (C,) scores over the classes in the truth; 0 if there is none."""
    present = _present(confusion)
    return ops.divide_no_nan(ops.sum(ops.where(present, scores, 0.0)), ops.sum(ops.cast(present, "float32")))


def score_or_nan(scores: Any, confusion: Any) -> Any:
    """Return (C,) scores, NaN for classes that are not in the truth."""
    return ops.where(_present(confusion), scores, float("nan"))


def frequency_weighted_iou(confusion: Any) -> Any:
    """Return the mean of IoU by class, weighted by the pixels of the class in the truth; 0 if nothing is counted."""
    _, truth, _ = _sums(confusion)
    return ops.divide_no_nan(ops.sum(truth * iou(confusion)), ops.sum(truth))


def pixel_accuracy(confusion: Any) -> Any:
    """Return the share of right pixels; 0 if nothing is counted."""
    hits, truth, _ = _sums(confusion)
    return ops.divide_no_nan(ops.sum(hits), ops.sum(truth))


def _sums(confusion: Any) -> tuple[Any, Any, Any]:
    """Return right pixels, true pixels and predicted pixels by class, (C,) float32 each, summed as integers."""
    sums = (ops.diagonal(confusion), ops.sum(confusion, axis=1), ops.sum(confusion, axis=0))
    hits, truth, guess = (ops.cast(each, "float32") for each in sums)
    return hits, truth, guess


def _present(confusion: Any) -> Any:
    """Return whether each class is in the truth, (C,) bool."""
    return ops.sum(confusion, axis=1) > 0
