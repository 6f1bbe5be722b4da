"""Boundary F1 as a streaming Keras metric: how well outlines are met, within a tolerance in px."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import IGNORE

from .counting import count_dtype
from .distances import distance_within
from .masks import check_ignored, to_class_ids


@keras.saving.register_keras_serializable("keras_unetres")
class BoundaryF1(keras.metrics.Metric):
    """Mean over classes of the F1 of boundary pixels (Csurka 2013; Perazzi 2016), from logits.

    A boundary pixel of a class has a neighbour to its left, right, above or below that is labelled and of another
    class; ignored pixels and the border of the image make no boundary. Precision is the share of the predicted boundary
    pixels of a class that lie within `tolerance` of a true one, recall the reverse. Pixels are counted over all images,
    classes with no boundary in the masks do not count, and before anything is counted the score is 0. It is NaN where a
    mask holds what is no class. Sample weights do
    not count. `keras_unetres.evaluate.BoundaryCounts` is the same count outside of Keras.

    Args:
        num_classes: number of classes.
        tolerance: px, Euclidean, between centres of pixels.
        ignore_index: the id that means "not labelled", or None.
        name: the key in the logs.
    """

    def __init__(
        self,
        num_classes: int,
        tolerance: float = 2.0,
        ignore_index: int | None = IGNORE,
        name: str = "boundary_f1",
    ) -> None:
        super().__init__(name=name)
        check_ignored(num_classes, ignore_index, name)
        if not 0 <= tolerance < math.inf:
            raise UsageError("tolerance cannot be used", expected="px >= 0", found=tolerance)
        self.num_classes = num_classes
        self.tolerance = float(tolerance)
        self.ignore_index = ignore_index
        self.counts = self.add_variable((4, num_classes), initializer="zeros", name="counts", dtype=count_dtype())
        self.strange = self.add_variable((), initializer="zeros", name="strange", dtype=count_dtype())

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count masks (N, H, W) against logits (N, H, W, C). Sample weights do not count.

        Raises:
            UsageError: shapes that do not fit, such as one-hot masks.
        """
        masks, whole = to_class_ids(y_true, y_pred, self.name)
        known = ops.logical_and(whole, ops.logical_and(masks >= 0, masks < self.num_classes))
        strange = ops.logical_not(known)
        if self.ignore_index is not None:
            ignored = ops.logical_and(whole, masks == self.ignore_index)
            known, strange = (ops.logical_and(each, ops.logical_not(ignored)) for each in (known, strange))
        self.strange.assign_add(ops.cast(ops.sum(ops.cast(strange, "int32")), self.strange.dtype))
        truth = self._boundaries(masks, known)
        guess = self._boundaries(ops.cast(ops.argmax(y_pred, axis=-1), "int32"), known)
        reach = math.ceil(self.tolerance) + 1  # one more, so that what is clipped is out of tolerance
        recalled = ops.logical_and(truth, distance_within(guess, reach) <= self.tolerance)
        right = ops.logical_and(guess, distance_within(truth, reach) <= self.tolerance)
        sums = [ops.sum(ops.cast(each, "int32"), axis=(0, 1, 2)) for each in (right, guess, recalled, truth)]
        self.counts.assign_add(ops.cast(ops.stack(sums), self.counts.dtype))

    def result(self) -> Any:
        """Return the mean over classes as a float32 scalar."""
        right, guess, recalled, truth = (ops.cast(self.counts[row], "float32") for row in range(4))
        precision, recall = ops.divide_no_nan(right, guess), ops.divide_no_nan(recalled, truth)
        scores = ops.divide_no_nan(2 * precision * recall, precision + recall)
        present = ops.cast(truth > 0, "float32")
        mean = ops.divide_no_nan(ops.sum(scores * present), ops.sum(present))
        return ops.where(self.strange > 0, float("nan"), mean)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {
            "num_classes": self.num_classes,
            "tolerance": self.tolerance,
            "ignore_index": self.ignore_index,
            "name": self.name,
        }

    def _boundaries(self, labels: Any, known: Any) -> Any:
        """Return which pixels are boundaries of which class, (N, H, W, C) bool."""
        edges = ops.logical_and(known, _differs_from_neighbour(labels, known))
        members = ops.one_hot(ops.where(known, labels, 0), self.num_classes, dtype="bool")
        return ops.logical_and(members, edges[..., None])


def _differs_from_neighbour(labels: Any, known: Any) -> Any:
    """Return (N, H, W) bool: whether one of four neighbours is known and of another class."""
    vertical = ops.logical_and(labels[:, 1:] != labels[:, :-1], ops.logical_and(known[:, 1:], known[:, :-1]))
    across = ops.logical_and(labels[..., 1:] != labels[..., :-1], ops.logical_and(known[..., 1:], known[..., :-1]))
    below, above = ops.pad(vertical, ((0, 0), (0, 1), (0, 0))), ops.pad(vertical, ((0, 0), (1, 0), (0, 0)))
    right, left = ops.pad(across, ((0, 0), (0, 0), (0, 1))), ops.pad(across, ((0, 0), (0, 0), (1, 0)))
    return ops.logical_or(ops.logical_or(below, above), ops.logical_or(right, left))
