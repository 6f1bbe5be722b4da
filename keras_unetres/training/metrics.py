"""Metrics for `model.fit`, from one streaming confusion matrix."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from unetres_edge.preprocessing import IGNORE


@keras.saving.register_keras_serializable("keras_unetres")
class MeanIoU(keras.metrics.Metric):
    """Mean intersection over union from logits; ignored pixels and classes absent from the masks do not count.

    Args:
        num_classes: number of classes.
        ignore_index: the id that means "not labelled", or None.
    """

    def __init__(self, num_classes: int, ignore_index: int | None = IGNORE, name: str = "miou") -> None:
        super().__init__(name=name)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.confusion = self.add_variable(
            (num_classes, num_classes), initializer="zeros", name="confusion", dtype="int64"
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count masks (N, H, W) integer against logits (N, H, W, C). Sample weights do not count."""
        masks = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        labels = ops.argmax(ops.reshape(y_pred, (-1, self.num_classes)), axis=-1)
        truth = ops.one_hot(masks, self.num_classes, dtype="float32")
        if self.ignore_index is not None:
            truth = truth * ops.cast(masks != self.ignore_index, "float32")[:, None]
        # Within a batch counts stay below 2**24, where float32 is exact.
        counts = ops.matmul(ops.transpose(truth), ops.one_hot(labels, self.num_classes, dtype="float32"))
        self.confusion.assign_add(ops.cast(counts, "int64"))

    def result(self) -> Any:
        """Return the mean over classes as a float32 scalar."""
        confusion = ops.cast(self.confusion, "float32")
        hits, truth = ops.diagonal(confusion), ops.sum(confusion, axis=1)
        union = truth + ops.sum(confusion, axis=0) - hits
        present = ops.cast(truth > 0, "float32")
        return ops.sum(present * hits / ops.maximum(union, 1.0)) / ops.maximum(ops.sum(present), 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"num_classes": self.num_classes, "ignore_index": self.ignore_index, "name": self.name}
