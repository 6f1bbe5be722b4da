"""The formulas of losses as pure functions of tensors: masks, logits and pixel weights in, one scalar out.

What all of them share:
    masks: (N, H, W) int32 class ids in 0..C-1; where the weight is 0, any of them.
    logits: (N, H, W, C) float; the result has their dtype.
    weights: (N, H, W) of the same dtype, 0 for pixels that do not count. A pixel of weight 2 counts as two pixels.
    class_weights: C numbers, or None for all 1.

Sums run over the whole batch, on whatever number of devices it lies. Where nothing counts, the loss is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from .distances import distance_within
from .replicas import across_replicas

# The gradient of a power below 1 is infinite at 0, where a perfect answer lies; this far from 0 it is not.
_TINY = 1e-7


def cross_entropy(
    masks: Any,
    logits: Any,
    weights: Any,
    class_weights: Sequence[float] | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Any:
    """Return the weighted mean over pixels of softmax cross-entropy (Ronneberger 2015 eq. 1).

    Args:
        class_weights: a factor on the weight of each pixel, by its class.
        label_smoothing: share of each target that is spread over all classes (Szegedy 2016).
    """
    targets = one_hot(masks, logits)
    weights = weights * weights_of_pixels(targets, class_weights)
    if label_smoothing:
        targets = (1 - label_smoothing) * targets + label_smoothing / logits.shape[-1]
    losses = -ops.sum(targets * ops.log_softmax(logits, axis=-1), axis=-1)
    return weighted_mean(losses, weights)


def focal(
    masks: Any, logits: Any, weights: Any, class_weights: Sequence[float] | None = None, *, gamma: float = 2.0
) -> Any:
    """Return the weighted mean over pixels of (1 - p)^gamma times cross-entropy (Lin 2017 eq. 5).

    Args:
        class_weights: a factor on the weight of each pixel, by its class: alpha in the paper. Unlike there the mean is
            over the weights, so that doubling all of them changes nothing.
    """
    targets = one_hot(masks, logits)
    weights = weights * weights_of_pixels(targets, class_weights)
    log_score = ops.sum(targets * ops.log_softmax(logits, axis=-1), axis=-1)
    missing = ops.maximum(-ops.expm1(log_score), _TINY)
    return weighted_mean(-(missing**gamma) * log_score, weights)


def tversky(
    masks: Any,
    logits: Any,
    weights: Any,
    class_weights: Sequence[float] | None = None,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 1.0,
    smooth: float = 0.5,
) -> Any:
    """Return the mean over the classes in the batch of (1 - Tversky index)^gamma (Salehi 2017; Abraham 2018).

    The index of a class is TP / (TP + alpha FP + beta FN) of soft counts over the whole batch.

    Args:
        class_weights: weights of the mean over the classes.
        smooth: pixels added to numerator and denominator of the index.
    """
    targets, scores = one_hot(masks, logits), ops.softmax(logits, axis=-1)
    hits, size, claimed = class_sums(weights, scores * targets, targets, scores)
    wrong = alpha * (claimed - hits) + beta * (size - hits)
    losses = wrong / ops.maximum(hits + wrong + smooth, _TINY)
    if gamma != 1:
        losses = ops.maximum(losses, _TINY) ** gamma
    return _mean_of_present(losses, size, class_weights)


def dice(
    masks: Any,
    logits: Any,
    weights: Any,
    class_weights: Sequence[float] | None = None,
    *,
    squared: bool = False,
    smooth: float = 1.0,
) -> Any:
    """Return the mean over the classes in the batch of 1 - soft Dice over the whole batch (Milletari 2016).

    Args:
        class_weights: weights of the mean over the classes.
        squared: the denominator sums squares of scores, as in the paper. Otherwise it sums the scores: the form whose
            value for scores of 0 and 1 is the same, and whose gradient does not vanish for scores near 0.
        smooth: pixels added to numerator and denominator.
    """
    targets, scores = one_hot(masks, logits), ops.softmax(logits, axis=-1)
    hits, size, claimed = class_sums(weights, scores * targets, targets, scores * scores if squared else scores)
    losses = (size + claimed - 2 * hits) / ops.maximum(size + claimed + smooth, _TINY)
    return _mean_of_present(losses, size, class_weights)


def lovasz_softmax(masks: Any, logits: Any, weights: Any, class_weights: Sequence[float] | None = None) -> Any:
    """Return the Lovasz-Softmax loss (Berman 2018), of each image by itself, averaged over the images.

    The loss of a class in an image is the Lovasz extension of the Jaccard loss at the errors |target - score|, with
    sets of pixels measured by the sum of their weights: a pixel of weight 2 is two pixels, one of weight 0 is none. The
    loss of an image is the mean over the classes in its mask. An image counts by the mean weight of those of its pixels
    that count, so that an image of constant weight 2 is that image twice.

    Args:
        class_weights: weights of the mean over the classes.
    """
    pixels = (ops.shape(logits)[0], -1, logits.shape[-1])
    targets = ops.reshape(one_hot(masks, logits), pixels)
    scores = ops.reshape(ops.softmax(logits, axis=-1), pixels)
    amount = ops.reshape(weights, (pixels[0], -1, 1))
    counted = amount > 0
    errors = ops.where(counted, ops.abs(targets - scores), 0.0)
    # Pixels that do not count come last, behind errors of 0, where they change no difference.
    order = ops.argsort(ops.where(counted, -errors, 1.0), axis=1)
    errors = ops.take_along_axis(errors, order, axis=1)
    inside = ops.take_along_axis(targets * amount, order, axis=1)
    outside = ops.take_along_axis((1 - targets) * amount, order, axis=1)
    size = ops.sum(inside, axis=1, keepdims=True)
    left = size - ops.cumsum(inside, axis=1)
    union = size + ops.cumsum(outside, axis=1)
    # What each pixel adds to the Jaccard loss, not as a difference of nearly equal numbers: a pixel of the class makes
    # the intersection smaller, any other makes the union larger.
    union = ops.maximum(union, _TINY)
    added = (inside + outside * left / ops.maximum(union - outside, _TINY)) / union
    losses = ops.sum(errors * added, axis=1)
    present = ops.cast(size[:, 0] > 0, losses.dtype) * _as_row(class_weights, losses)
    images = ops.divide_no_nan(ops.sum(losses * present, axis=1), ops.sum(present, axis=1))
    pixels_counted = ops.sum(ops.cast(counted, losses.dtype), axis=(1, 2))
    return weighted_mean(images, ops.divide_no_nan(ops.sum(amount, axis=(1, 2)), pixels_counted))


def boundary(
    masks: Any, logits: Any, weights: Any, class_weights: Sequence[float] | None = None, *, reach: int = 16
) -> Any:
    """Return the boundary loss (Kervadec 2019 eq. 5) as a weighted mean over pixels, in [0, 1].

    Of each class, the score minus the target, times the signed distance to the outline of the class in the mask, in
    units of `reach`: positive outside, negative inside, clipped to 1. The target is the constant that the paper drops
    in eq. 6; with it a perfect answer costs 0, and gradients are the same. Outlines run between pixels, and only
    between pixels that count. A class farther away than `reach`, or absent, is at distance 1.

    Args:
        class_weights: weights of the mean over the classes.
        reach: px at which distances are clipped.
    """
    targets, scores = one_hot(masks, logits), ops.softmax(logits, axis=-1)
    by_class = _as_row(class_weights, logits)
    by_class = by_class / ops.maximum(ops.sum(by_class), _TINY)
    distances = ops.cast(signed_distance(targets > 0, weights > 0, reach), logits.dtype)
    return weighted_mean(ops.sum(by_class * distances * (scores - targets), axis=-1), weights)


def signed_distance(members: Any, counted: Any, reach: int) -> Any:
    """Return signed distances to the outline of each class in units of `reach`, clipped to [-1, 1], negative inside.

    Args:
        members: (N, H, W, C) bool, whether a pixel is of the class.
        counted: (N, H, W) bool. Other pixels belong to no class, and to no complement of one.

    Returns:
        (N, H, W, C) float32: half a pixel less than the distance to the nearest pixel on the other side.
    """
    counted = counted[..., None]
    inside, outside = ops.logical_and(members, counted), ops.logical_and(ops.logical_not(members), counted)
    # The half pixel must not shorten what is clipped, so the search goes one pixel beyond the reach.
    signed = ops.where(members, 0.5 - distance_within(outside, reach + 1), distance_within(inside, reach + 1) - 0.5)
    return ops.clip(signed / reach, -1.0, 1.0)


def one_hot(masks: Any, logits: Any) -> Any:
    """Return the masks as (N, H, W, C) of the dtype of the logits, 1 at the class of each pixel."""
    return ops.one_hot(masks, logits.shape[-1], dtype=logits.dtype)


def _as_row(class_weights: Sequence[float] | None, like: Any) -> Any:
    """Return (C,) class weights, all 1 for None."""
    values = [1.0] * like.shape[-1] if class_weights is None else list(class_weights)
    return ops.convert_to_tensor(values, dtype=like.dtype)


def weights_of_pixels(targets: Any, class_weights: Sequence[float] | None) -> Any:
    """Return the weight of the class of each pixel, (N, H, W) or 1."""
    return 1.0 if class_weights is None else ops.sum(targets * _as_row(class_weights, targets), axis=-1)


def weighted_mean(values: Any, weights: Any) -> Any:
    """Return sum(values * weights) / sum(weights) over all replicas, 0 if no weight is positive."""
    sums = across_replicas(ops.stack([ops.sum(values * weights), ops.sum(weights)]))
    return ops.divide_no_nan(sums[0], sums[1])


def class_sums(weights: Any, hits: Any, targets: Any, scores: Any) -> tuple[Any, Any, Any]:
    """Return the weighted sums of three (N, H, W, C) maps by class, over all replicas, (C,) each."""
    sums = ops.stack([ops.sum(values * weights[..., None], axis=(0, 1, 2)) for values in (hits, targets, scores)])
    sums = across_replicas(sums)
    return sums[0], sums[1], sums[2]


def _mean_of_present(losses: Any, size: Any, class_weights: Sequence[float] | None) -> Any:
    """Return the mean over the classes (C,) whose size is not 0, weighted by class."""
    present = ops.cast(size != 0, losses.dtype) * _as_row(class_weights, losses)
    return ops.divide_no_nan(ops.sum(losses * present), ops.sum(present))
