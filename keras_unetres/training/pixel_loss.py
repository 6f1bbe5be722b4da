"""What the losses of this package share: which pixels count and how much, and sums of losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from unetres_edge.errors import UsageError

from .masks import check_ignored, to_class_ids
from .replicas import share_of_replica


class Summable(keras.losses.Loss):
    """A loss that can be added to others and multiplied by a number."""

    def __add__(self, other: Any) -> WeightedSum:
        if not isinstance(other, keras.losses.Loss):
            return NotImplemented
        (losses, factors), (more, more_factors) = _flat(self), _flat(other)
        return WeightedSum([*losses, *more], [*factors, *more_factors])

    def __mul__(self, factor: Any) -> WeightedSum:
        if not isinstance(factor, int | float):
            return NotImplemented
        losses, factors = _flat(self)
        return WeightedSum(losses, [factor * each for each in factors])

    __rmul__ = __mul__


class PixelLoss(Summable):
    """A loss over the labelled pixels of masks. Subclasses give `term`, a function of tensors from `terms`.

    Args:
        ignore_index: the id that means "not labelled", or None if there is none.
        class_weights: weight of each class, or None for all 1. What they weigh is said by each loss.
        name: the name in logs of models with several outputs.

    Call with masks (N, H, W) or (N, H, W, 1) of whole numbers, logits (N, H, W, C) of any float type, and optionally
    weights, (N,) by image or (N, H, W) by pixel. Returns a float32 scalar over the whole batch, computed in float32.
    Under `tf.distribute` it is the loss of the batch on all replicas, and each replica returns its share of it, as
    Keras's own losses do. An id that is neither a class nor ignored, or a number that is not whole, makes it NaN.
    A compiled loss keeps no count and sees no end of an epoch, so it cannot tell that a class had no pixel, as where
    masks of 0 and 255 lose all of their foreground to `ignore_index`: compile a metric of this package with it, such as
    `MeanIoU`, which warns of that after the first epoch.

    Raises:
        UsageError: arguments out of range, or shapes that do not fit.
    """

    def __init__(self, ignore_index: int | None, class_weights: Sequence[float] | None, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self.ignore_index = ignore_index
        self.class_weights = None if class_weights is None else [float(weight) for weight in class_weights]
        for weight in self.class_weights or ():
            check(weight >= 0 and math.isfinite(weight), "class_weights", "numbers >= 0", weight)

    def term(self, masks: Any, logits: Any, weights: Any) -> Any:
        """Return the loss of (N, H, W) class ids, (N, H, W, C) float32 logits and (N, H, W) float32 weights."""
        raise NotImplementedError

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        logits = ops.cast(y_pred, "float32")
        masks, whole = to_class_ids(y_true, logits, self.name)
        self._check_classes(logits.shape)
        weights = pixel_weights(masks, sample_weight, self.ignore_index, logits.shape[-1], whole)
        counted = weights > 0
        # With logits of 0, nothing that a network says of pixels that do not count comes through, not even NaN.
        logits = ops.where(counted[..., None], logits, 0.0)
        return share_of_replica(self.term(ops.where(counted, masks, 0), logits, weights))

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss without sample weights."""
        return self(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"ignore_index": self.ignore_index, "class_weights": self.class_weights, "name": self.name}

    def _check_classes(self, logits: tuple[int | None, ...]) -> None:
        """Raise a `UsageError` for logits of one class, or of more or fewer than have weights."""
        wanted = "two channels or more, the first for background"
        check_ignored(logits[-1], self.ignore_index, self.name)
        check(logits[-1] != 1, f"one channel of logits in {self.name}", wanted, 1)
        if self.class_weights is not None:
            count = len(self.class_weights)
            check(count == logits[-1], "class_weights", f"{logits[-1]} numbers, one a class", f"{count} of them")


@keras.saving.register_keras_serializable("keras_unetres")
class WeightedSum(Summable):
    """A sum of losses, each times a factor: what `CrossEntropy() + 0.5 * Dice()` makes.

    Args:
        losses: any Keras losses that return a scalar.
        factors: factor of each loss.
    """

    def __init__(
        self, losses: Sequence[keras.losses.Loss], factors: Sequence[float], name: str = "weighted_sum"
    ) -> None:
        super().__init__(name=name, dtype="float32")
        self.losses, self.factors = list(losses), [float(factor) for factor in factors]
        check(len(self.losses) == len(self.factors) > 0, "factors", "one for each loss", f"{len(self.factors)}")
        for factor in self.factors:
            check(math.isfinite(factor), "factors", "finite numbers", factor)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        parts = [loss(y_true, y_pred, sample_weight) for loss in self.losses]
        return sum(factor * part for factor, part in zip(self.factors, parts, strict=True))

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the sum without sample weights."""
        return self(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        losses = [keras.saving.serialize_keras_object(loss) for loss in self.losses]
        return {"losses": losses, "factors": self.factors, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WeightedSum:
        """Return the sum that `get_config` describes."""
        losses = [keras.saving.deserialize_keras_object(loss) for loss in config["losses"]]
        return cls(losses, config["factors"], config["name"])


def pixel_weights(masks: Any, sample_weight: Any, ignore_index: int | None, num_classes: int, whole: Any = True) -> Any:
    """Return (N, H, W) float32 weights of pixels.

    They are the sample weights, (N,) or (N, H, W) or (N, H, W, 1) or None for 1; 0 where ignored; and NaN where an id
    is not a class, or the mask's number not `whole`, unless its weight is 0.
    """
    weights = ops.ones_like(masks, dtype="float32")
    if sample_weight is not None:
        factors = ops.cast(sample_weight, "float32")
        if len(factors.shape) == 4:
            factors = ops.squeeze(factors, -1)
        while len(factors.shape) < 3:  # not a reshape: in `fit` the batch size is unknown
            factors = ops.expand_dims(factors, -1)
        weights = weights * factors
    if ignore_index is not None:
        weights = ops.where(ops.logical_and(masks == ignore_index, whole), 0.0, weights)
    known = ops.logical_and(ops.logical_and(masks >= 0, masks < num_classes), whole)
    return ops.where(ops.logical_or(known, weights == 0), weights, math.nan)


def check(right: bool, argument: str, expected: str, found: object) -> None:
    """Raise a `UsageError` unless an argument is right."""
    if not right:
        raise UsageError(f"{argument} cannot be used", expected=expected, found=found)


def _flat(loss: keras.losses.Loss) -> tuple[list[keras.losses.Loss], list[float]]:
    """Return the losses and factors of a sum, or one loss and 1."""
    return (loss.losses, loss.factors) if isinstance(loss, WeightedSum) else ([loss], [1.0])
