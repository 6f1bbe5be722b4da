"""Losses from logits that leave out ignored pixels. Pure functions of tensors, and a Keras class around them."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from unetres_edge.preprocessing import IGNORE


def cross_entropy(masks: Any, logits: Any, weights: Any) -> Any:
    """Return the weighted mean over pixels of softmax cross-entropy (Ronneberger 2015 eq. 1), a scalar.

    Args:
        masks: (N, H, W) integer class ids; any value where the weight is 0.
        logits: (N, H, W, C) float.
        weights: (N, H, W) float, 0 for pixels that do not count.
    """
    targets = ops.one_hot(masks, logits.shape[-1], dtype=logits.dtype)
    losses = -ops.sum(targets * ops.log_softmax(logits, axis=-1), axis=-1)
    return ops.sum(losses * weights) / ops.maximum(ops.sum(weights), 1e-6)


def dice_loss(masks: Any, logits: Any, weights: Any, *, smooth: float = 1.0) -> Any:
    """Return 1 - soft Dice over the batch (Milletari 2016), averaged over the classes present in it, a scalar.

    Args:
        masks: (N, H, W) integer class ids.
        logits: (N, H, W, C) float.
        weights: (N, H, W) float, 0 for pixels that do not count.
        smooth: pixels added to numerator and denominator.
    """
    targets = ops.one_hot(masks, logits.shape[-1], dtype=logits.dtype) * weights[..., None]
    scores = ops.softmax(logits, axis=-1)
    axes = (0, 1, 2)
    size = ops.sum(targets, axis=axes)
    claimed = ops.sum(scores * weights[..., None], axis=axes)
    dice = (2 * ops.sum(scores * targets, axis=axes) + smooth) / (size + claimed + smooth)
    present = ops.cast(size > 0, logits.dtype)
    return ops.sum((1 - dice) * present) / ops.maximum(ops.sum(present), 1.0)


@keras.saving.register_keras_serializable("keras_unetres")
class CrossEntropyDice(keras.losses.Loss):
    """Cross-entropy plus Dice, from logits, over the pixels that are labelled.

    Args:
        ignore_index: the id that means "not labelled", or None.
        dice_weight: factor of the Dice part; 0 for cross-entropy alone.

    Call with masks (N, H, W) or (N, H, W, 1) integer, logits (N, H, W, C), and optionally weights (N,) or (N, H, W).
    Returns a scalar.
    """

    def __init__(
        self, ignore_index: int | None = IGNORE, dice_weight: float = 1.0, name: str = "cross_entropy_dice"
    ) -> None:
        super().__init__(name=name)
        self.ignore_index = ignore_index
        self.dice_weight = dice_weight

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        y_pred = ops.cast(y_pred, "float32")
        masks = ops.cast(y_true, "int32")
        if len(masks.shape) == 4:
            masks = ops.squeeze(masks, -1)
        weights = pixel_weights(masks, sample_weight, self.ignore_index)
        loss = cross_entropy(masks, y_pred, weights)
        if self.dice_weight:
            loss = loss + self.dice_weight * dice_loss(masks, y_pred, weights)
        return loss

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss without sample weights."""
        return self(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"ignore_index": self.ignore_index, "dice_weight": self.dice_weight, "name": self.name}


def pixel_weights(masks: Any, sample_weight: Any, ignore_index: int | None) -> Any:
    """Return (N, H, W) float32 weights: the sample weights, (N,) or (N, H, W) or None, and 0 where ignored."""
    weights = ops.ones_like(masks, dtype="float32")
    if ignore_index is not None:
        weights = ops.cast(masks != ignore_index, "float32")
    if sample_weight is not None:
        given = ops.cast(sample_weight, "float32")
        while len(given.shape) < 3:  # not a reshape: in `fit` the batch size is unknown
            given = ops.expand_dims(given, -1)
        weights = weights * given
    return weights
