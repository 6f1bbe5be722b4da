"""Losses against float64 numpy written apart from them, gradients against finite differences, and constructed proofs.

The oracles go pixel by pixel or set by set: the Lovasz extension is integrated over level sets, and maximised over all
orders of the pixels; distances come from SciPy.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import distance_transform_edt

import keras_unetres as ku
from keras_unetres import training
from keras_unetres.choices.losses import LOSSES as NAMES
from keras_unetres.training.distances import distance_within
from keras_unetres.training.losses import (
    LOSSES,
    Boundary,
    CrossEntropy,
    Dice,
    Focal,
    FocalTversky,
    LovaszSoftmax,
    Tversky,
    make_loss,
)
from keras_unetres.training.metrics import MeanIoU, SegmentationScores
from keras_unetres.training.pixel_loss import PixelLoss, WeightedSum, pixel_weights
from unetres_edge.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
CLASSES = 4
IGNORED = 255
REACH = 3


def make_batch(seed: int = 0, *, side: int = 6, images: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Masks (N, H, W) with some ignored pixels and no pixel of the last class, and logits (N, H, W, 4)."""
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, CLASSES - 1, (images, side, side + 1)).astype(np.int32)
    masks[rng.random(masks.shape) < 0.2] = IGNORED
    return masks, rng.normal(0, 2, (*masks.shape, CLASSES)).astype(np.float32)


def weight_forms() -> dict[str, np.ndarray | None]:
    rng = np.random.default_rng(5)
    pixels = rng.random((3, 6, 7)).astype(np.float32)
    pixels[rng.random(pixels.shape) < 0.3] = 0
    return {"none": None, "by image": np.array([0.5, 0.0, 2.0], np.float32), "by pixel": pixels}


# ------------------------------------------------------------------------------------------------ oracles in float64


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


Oracle = Callable[[np.ndarray, np.ndarray, np.ndarray, list[float]], float]


def mean_over_pixels(cost: Callable[[float], float]) -> Oracle:
    """The oracle of a loss that is a mean of a cost of the true class's score."""

    def oracle(masks: np.ndarray, logits: np.ndarray, weights: np.ndarray, by_class: list[float]) -> float:
        total = total_weight = 0.0
        for place in np.argwhere(weights > 0):
            n, y, x = place
            label = masks[n, y, x]
            weight = float(weights[n, y, x]) * by_class[label]
            total += weight * cost(softmax(logits[n, y, x])[label])
            total_weight += weight
        return total / total_weight

    return oracle


def region_oracle(cost: Callable[[float, float, float], float]) -> Oracle:
    """The oracle of a loss of soft (TP, FP, FN) by class, averaged over the classes in the masks."""

    def oracle(masks: np.ndarray, logits: np.ndarray, weights: np.ndarray, by_class: list[float]) -> float:
        total = total_weight = 0.0
        scores = softmax(logits)
        for label in range(CLASSES):
            here, elsewhere = (weights > 0) & (masks == label), (weights > 0) & (masks != label)
            if here.any():
                right = (weights * scores[..., label])[here].sum()
                wrong = (weights * scores[..., label])[elsewhere].sum()
                missed = (weights * (1 - scores[..., label]))[here].sum()
                total += by_class[label] * cost(right, wrong, missed)
                total_weight += by_class[label]
        return total / total_weight

    return oracle


def squared_dice_oracle(masks: np.ndarray, logits: np.ndarray, weights: np.ndarray, by_class: list[float]) -> float:
    """Milletari 2016: 2 sum(p g) / (sum(p^2) + sum(g^2))."""
    total = total_weight = 0.0
    for label in range(CLASSES):
        p, g = softmax(logits)[..., label], ((masks == label) & (weights > 0)).astype(np.float64)
        if g.any():
            dice = (2 * (weights * p * g).sum() + 1) / ((weights * p**2).sum() + (weights * g**2).sum() + 1)
            total += by_class[label] * (1 - dice)
            total_weight += by_class[label]
    return total / total_weight


def jaccard_loss(chosen: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """Of a set of wrong pixels: 1 - |intersection| / |union| of the truth and what is then predicted, as measured."""
    predicted = truth ^ chosen
    union = weights[truth | predicted].sum()
    return float(1 - weights[truth & predicted].sum() / union) if union else 0.0


def lovasz_extension(errors: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """The integral over t of the Jaccard loss of the pixels with errors of at least t (Choquet)."""
    levels = np.unique(np.concatenate([[0.0], errors]))
    parts = zip(levels[:-1], levels[1:], strict=True)
    return sum((above - below) * jaccard_loss(errors >= above, truth, weights) for below, above in parts)


def lovasz_oracle(masks: np.ndarray, logits: np.ndarray, weights: np.ndarray, by_class: list[float]) -> float:
    total = total_weight = 0.0
    for mask, scores, weight in zip(masks, softmax(logits), weights.astype(np.float64), strict=True):
        counted = weight > 0
        if not counted.any():
            continue
        losses, factors = [], []
        for label in set(mask[counted].tolist()):
            truth = mask[counted] == label
            losses.append(lovasz_extension(abs(truth - scores[counted][:, label]), truth, weight[counted]))
            factors.append(by_class[label])
        total += weight[counted].mean() * np.average(losses, weights=factors)
        total_weight += weight[counted].mean()
    return total / total_weight


def boundary_oracle(masks: np.ndarray, logits: np.ndarray, weights: np.ndarray, by_class: list[float]) -> float:
    total = 0.0
    for mask, scores, weight in zip(masks, softmax(logits), weights, strict=True):
        counted = weight > 0
        for label in range(CLASSES):
            member = mask == label
            # Where there is no pixel to measure from, SciPy measures from outside of the image.
            outside = distance_transform_edt(~(member & counted)) if (member & counted).any() else np.inf
            inside = distance_transform_edt(~(~member & counted)) if (~member & counted).any() else np.inf
            signed = np.clip(np.where(member, 0.5 - inside, outside - 0.5) / REACH, -1, 1)
            total += by_class[label] * (weight * signed * (scores[..., label] - member))[counted].sum()
    return total / (sum(by_class) * weights.sum())


CASES: dict[str, tuple[Callable[..., PixelLoss], Oracle]] = {
    "cross-entropy": (CrossEntropy, mean_over_pixels(lambda p: -math.log(p))),
    "focal": (Focal, mean_over_pixels(lambda p: -((1 - p) ** 2) * math.log(p))),
    "focal 0.5": (lambda **k: Focal(0.5, **k), mean_over_pixels(lambda p: -((1 - p) ** 0.5) * math.log(p))),
    "dice": (Dice, region_oracle(lambda tp, fp, fn: 1 - (2 * tp + 1) / (2 * tp + fp + fn + 1))),
    "squared dice": (lambda **k: Dice(squared=True, **k), squared_dice_oracle),
    "tversky": (Tversky, region_oracle(lambda tp, fp, fn: 1 - (tp + 0.5) / (tp + 0.3 * fp + 0.7 * fn + 0.5))),
    "focal tversky": (
        lambda **k: FocalTversky(0.4, 0.9, 0.6, 2.0, **k),
        region_oracle(lambda tp, fp, fn: (1 - (tp + 2) / (tp + 0.4 * fp + 0.9 * fn + 2)) ** 0.6),
    ),
    "lovasz": (LovaszSoftmax, lovasz_oracle),
    "boundary": (lambda **k: Boundary(REACH, **k), boundary_oracle),
}
BY_CLASS = [0.5, 1.0, 3.0, 2.0]
cases = pytest.mark.parametrize("case", CASES)


@cases
@pytest.mark.parametrize("by_class", [None, BY_CLASS], ids=["", "class weights"])
@pytest.mark.parametrize("form", weight_forms())
def test_each_loss_is_its_oracle(case: str, form: str, by_class: list[float] | None) -> None:
    make, oracle = CASES[case]
    masks, logits = make_batch()
    given = weight_forms()[form]
    weights = np.ones(masks.shape) if given is None else given if given.ndim == 3 else given[:, None, None]
    weights = np.where(masks == IGNORED, 0, np.broadcast_to(weights, masks.shape)).astype(np.float64)
    expected = oracle(masks, logits, weights, by_class or [1.0] * CLASSES)
    loss = make(class_weights=by_class)
    assert float(loss(masks, logits, given)) == pytest.approx(expected, rel=3e-6)
    again = loss(
        masks[..., None].astype(np.uint8), logits.astype(np.float64), None if given is None else given[..., None]
    )
    assert float(again) == pytest.approx(expected, rel=3e-6)


def test_label_smoothing_spreads_the_target() -> None:
    masks, logits = make_batch()
    known = masks != IGNORED
    targets = 0.9 * np.eye(CLASSES)[masks[known]] + 0.1 / CLASSES
    expected = -(targets * np.log(softmax(logits)[known])).sum(-1).mean()
    assert float(CrossEntropy(0.1)(masks, logits)) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("seed", range(4))
def test_lovasz_is_the_greatest_over_all_orders(seed: int) -> None:
    """The extension of a submodular function is the maximum over orders of the pixels (Berman 2018 def. 1, prop. 1)."""
    rng = np.random.default_rng(seed)
    mask, weights = rng.integers(0, 2, 6), rng.integers(1, 4, 6).astype(np.float64)
    mask[:2] = 0, 1
    logits = rng.normal(0, 1, (1, 1, 6, 2))
    losses = []
    for label in range(2):
        truth = mask == label
        errors = abs(truth - softmax(logits)[0, 0, :, label])
        sums = []
        for order in itertools.permutations(range(6)):
            chosen, total, before = np.zeros(6, bool), 0.0, 0.0
            for pixel in order:
                chosen[pixel] = True
                after = jaccard_loss(chosen, truth, weights)
                total, before = total + errors[pixel] * (after - before), after
            sums.append(total)
        losses.append(max(sums))
    found = LovaszSoftmax()(mask[None, None], logits, weights[None, None])
    assert float(found) == pytest.approx(np.mean(losses), rel=2e-6)


@pytest.mark.parametrize("share", [0.0, 0.002, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("reach", [1, 2, 5, 16])
def test_distances_are_exact_up_to_the_reach(reach: int, share: float) -> None:
    sources = np.random.default_rng(reach).random((2, 37, 29, 3)) < share
    found = np.asarray(distance_within(sources, reach))
    for n, c in itertools.product(range(2), range(3)):
        here = sources[n, ..., c]
        expected = np.minimum(distance_transform_edt(~here), reach) if here.any() else np.full(here.shape, reach)
        np.testing.assert_allclose(found[n, ..., c], expected, rtol=1e-6)


# ------------------------------------------------------------------------------------------------------- gradients


def smoothed(**arguments: Any) -> CrossEntropy:
    return CrossEntropy(0.1, **arguments)


WITH_GRADIENTS: dict[str, Callable[..., PixelLoss]] = {name: make for name, (make, _) in CASES.items()}
WITH_GRADIENTS["smoothed cross-entropy"] = smoothed


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    """In float64, for every logit of a batch with ignored pixels, pixel weights and class weights."""
    masks, logits = make_batch(3, side=4, images=2)
    weights = np.where(masks == IGNORED, 0, np.random.default_rng(1).random(masks.shape) + 0.1)
    masks = np.where(masks == IGNORED, 0, masks)
    loss = WITH_GRADIENTS[name](class_weights=BY_CLASS)

    def value(values: tf.Tensor) -> tf.Tensor:
        return loss.term(tf.constant(masks), values, tf.constant(weights))

    @tf.function
    def each(several: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(value, several)

    values = tf.constant(logits.astype(np.float64))
    with tf.GradientTape() as tape:
        tape.watch(values)
        found = value(values)
    assert found.dtype == tf.float64
    gradient = tape.gradient(found, values).numpy()
    step = 1e-6
    moves = step * np.eye(logits.size).reshape(-1, *logits.shape)
    above, below = (each(tf.constant(logits.astype(np.float64) + sign * moves)).numpy() for sign in (1, -1))
    expected = ((above - below) / (2 * step)).reshape(logits.shape)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-9)
    assert (abs(gradient[weights > 0]).max(-1) > 1e-6).all()


# ------------------------------------------------------------------------------------ what counts, by construction


def loss_and_gradient(
    loss: keras.losses.Loss, masks: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    values = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(values)
        value = loss(masks, values, weights)
    return float(value), tape.gradient(value, values).numpy()


@cases
@pytest.mark.parametrize("form", weight_forms())
def test_pixels_that_do_not_count_change_neither_loss_nor_gradient(case: str, form: str) -> None:
    loss = CASES[case][0]()
    masks, logits = make_batch()
    weights = weight_forms()[form]
    out = masks == IGNORED
    if weights is not None:
        out |= np.broadcast_to((weights if weights.ndim == 3 else weights[:, None, None]) == 0, masks.shape)
    value, gradient = loss_and_gradient(loss, masks, logits, weights)
    assert (gradient[out] == 0).all()
    assert (abs(gradient[~out]).max(-1) > 0).all()
    others = logits.copy()
    others[out] = np.random.default_rng(9).normal(0, 1e4, (out.sum(), CLASSES))
    others[tuple(np.argwhere(out)[0])] = np.nan
    others[tuple(np.argwhere(out)[1])] = np.inf
    for other_masks in (np.where(out & (masks != IGNORED), 3, masks), np.where(out, IGNORED, masks)):
        again, same = loss_and_gradient(loss, other_masks, others, weights)
        assert again == value
        np.testing.assert_array_equal(same, gradient)


@cases
def test_an_ignored_frame_is_as_if_it_were_not_there(case: str) -> None:
    loss = CASES[case][0]()
    masks, logits = make_batch(1)
    padded = np.pad(masks, ((0, 0), (2, 1), (0, 3)), constant_values=IGNORED)
    around = np.random.default_rng(2).normal(0, 5, (*padded.shape, CLASSES)).astype(np.float32)
    around[:, 2:-1, :-3] = logits
    value, gradient = loss_and_gradient(loss, masks, logits)
    framed, in_frame = loss_and_gradient(loss, padded, around)
    assert framed == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(in_frame[:, 2:-1, :-3], gradient, rtol=1e-4, atol=1e-8)
    weights = np.where(padded == IGNORED, 0, 1).astype(np.float32)
    assert float(loss(np.where(padded == IGNORED, 2, padded), around, weights)) == framed


@cases
def test_an_image_of_weight_two_is_that_image_twice(case: str) -> None:
    loss = CASES[case][0]()
    masks, logits = make_batch(2, images=2)
    twice = float(loss(masks[[0, 0, 1]], logits[[0, 0, 1]]))
    assert float(loss(masks, logits, np.array([2.0, 1.0]))) == pytest.approx(twice, rel=1e-6)
    assert abs(float(loss(masks, logits)) - twice) > 1e-4 * twice


def pixels_twice(chosen: np.ndarray, masks: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One row of pixels in which the chosen ones stand twice."""
    order = np.repeat(np.arange(len(chosen)), 1 + chosen)
    return masks.reshape(1, 1, -1)[:, :, order], logits.reshape(1, 1, -1, CLASSES)[:, :, order]


@pytest.mark.parametrize("case", [name for name in CASES if name != "boundary"])
def test_a_pixel_of_weight_two_is_that_pixel_twice(case: str) -> None:
    loss = CASES[case][0]()
    masks, logits = make_batch(4, images=1)
    chosen = np.random.default_rng(0).random(masks.size) < 0.4
    expected = float(loss(*pixels_twice(chosen, masks, logits)))
    rows = masks.reshape(1, 1, -1), logits.reshape(1, 1, -1, CLASSES)
    assert float(loss(*rows, (1.0 + chosen).reshape(1, 1, -1))) == pytest.approx(expected, rel=2e-6)
    assert abs(float(loss(*rows)) - expected) > 1e-4


@pytest.mark.parametrize("case", ["cross-entropy", "focal"])
def test_a_class_of_weight_two_is_its_pixels_twice(case: str) -> None:
    make = CASES[case][0]
    masks, logits = make_batch(4, images=1)
    expected = float(make()(*pixels_twice(masks.ravel() == 1, masks, logits)))
    assert float(make(class_weights=[1, 2, 1, 1])(masks, logits)) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("case", ["dice", "squared dice", "tversky", "focal tversky", "lovasz", "boundary"])
def test_class_weights_weigh_the_mean_over_classes(case: str) -> None:
    make = CASES[case][0]
    masks, logits = make_batch(4, images=1)
    alone = [float(make(class_weights=row)(masks, logits)) for row in np.eye(CLASSES)]
    present = [1.0, 1.0, 1.0, float(case == "boundary")]  # the last class is in no mask, which only distances notice
    assert (alone[3] == 0) == (not present[3])
    assert float(make()(masks, logits)) == pytest.approx(np.average(alone, weights=present), rel=2e-6)
    by_class = np.multiply(BY_CLASS, present)
    assert float(make(class_weights=BY_CLASS)(masks, logits)) == pytest.approx(
        np.average(alone, weights=by_class), rel=2e-6
    )


def test_pixel_weights_by_hand() -> None:
    masks = np.array([[[0, 255]], [[1, 2]]])
    for given, expected in (
        (None, [[[1, 0]], [[1, 1]]]),
        ([2.0, 3.0], [[[2, 0]], [[3, 3]]]),
        ([[[2.0, 3.0]], [[4.0, 5.0]]], [[[2, 0]], [[4, 5]]]),
        ([[[[2.0], [3.0]]], [[[4.0], [5.0]]]], [[[2, 0]], [[4, 5]]]),
    ):
        np.testing.assert_array_equal(np.asarray(pixel_weights(masks, given, 255, 3)), expected)
    np.testing.assert_array_equal(np.asarray(pixel_weights(masks, None, 0, 2)), [[[0, np.nan]], [[1, np.nan]]])
    np.testing.assert_array_equal(np.asarray(pixel_weights(masks, [0.0, 1.0], None, 3)), [[[0, 0]], [[1, 1]]])


# ------------------------------------------------------------------------------------------------------ edge cases


def edge_masks() -> dict[str, np.ndarray]:
    mask = np.zeros((1, 8, 8), np.int32)
    dots, absent = mask.copy(), mask.copy()
    dots[0, ::3, ::3] = 1
    absent[0, :4] = 3
    one = mask.copy()
    one[0, 4, 5] = 2
    almost = np.full_like(mask, IGNORED)
    almost[0, 7, 7] = 1
    return {
        "empty": mask,
        "one-pixel objects": dots,
        "one pixel": one,
        "absent classes": absent,
        "full": mask + 2,
        "one known pixel": almost,
        "first image ignored": np.concatenate([np.full_like(mask, IGNORED), dots]),
        "all ignored": np.full_like(mask, IGNORED),
        "of one pixel": np.ones((1, 1, 1), np.int32),
    }


@cases
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("edge", edge_masks())
def test_edge_cases_have_finite_losses_and_gradients(case: str, edge: str, scale: float) -> None:
    loss = CASES[case][0]()
    masks = edge_masks()[edge]
    logits = np.random.default_rng(0).normal(0, 1, (*masks.shape, CLASSES))
    logits = (scale * np.clip(np.sign(logits) * 1e9, -1, 1) if scale == 1e4 else scale * logits).astype(np.float32)
    value, gradient = loss_and_gradient(loss, masks, logits)
    assert math.isfinite(value)
    assert value >= 0
    assert np.isfinite(gradient).all()
    if edge == "all ignored":
        assert value == 0
        assert (gradient == 0).all()
    else:
        assert value > 0


@cases
def test_a_right_answer_costs_nothing_and_a_wrong_one_something(case: str) -> None:
    loss = CASES[case][0]()
    masks, _ = make_batch()
    right = 1e4 * np.eye(CLASSES, dtype=np.float32)[np.where(masks == IGNORED, 0, masks)]
    assert float(loss(masks, right)) == pytest.approx(0, abs=1e-4)
    assert float(loss(masks, -right)) > 0.05
    value, gradient = loss_and_gradient(loss, masks, right)
    assert np.isfinite(gradient).all()


def test_one_channel_is_refused() -> None:
    """Softmax over one channel is 1 everywhere: nothing would be learned, and nothing said."""
    with pytest.raises(UsageError, match="two channels or more"):
        Dice()(np.zeros((2, 5, 4), np.int32), np.ones((2, 5, 4, 1), np.float32))


@cases
def test_an_id_that_is_no_class_makes_the_loss_nan(case: str) -> None:
    loss = CASES[case][0]()
    masks, logits = make_batch()
    masks[0, 0, 0] = CLASSES
    assert math.isnan(float(loss(masks, logits)))
    weights = np.ones(masks.shape, np.float32)
    weights[0, 0, 0] = 0
    assert math.isfinite(float(loss(masks, logits, weights)))


@cases
def test_half_precision_is_computed_in_single(case: str) -> None:
    loss = CASES[case][0]()
    masks, logits = make_batch()
    for dtype in ("float16", "bfloat16"):
        half = tf.cast(logits, dtype)
        assert loss(masks, half).dtype == tf.float32
        assert float(loss(masks, half)) == float(loss(masks, tf.cast(half, "float32")))


@cases
def test_compiled_is_eager(case: str) -> None:
    """Compiled by XLA for a batch of unknown size, loss and gradient are those of eager ops."""
    loss = CASES[case][0]()
    masks, logits = make_batch()
    weights = weight_forms()["by pixel"]
    shape = (None, *masks.shape[1:])

    @tf.function(
        jit_compile=True,
        input_signature=[tf.TensorSpec(shape, tf.int32), tf.TensorSpec((*shape, CLASSES)), tf.TensorSpec(shape)],
    )
    def compiled(masks: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(masks, logits, weights)
        return value, tape.gradient(value, logits)

    value, gradient = loss_and_gradient(loss, masks, logits, weights)
    found, same = compiled(masks, logits, weights)
    assert float(found) == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(same.numpy(), gradient, rtol=1e-4, atol=1e-7)


def test_another_ignored_id_and_none() -> None:
    masks, logits = make_batch()
    three = np.where(masks == IGNORED, 3, masks)
    assert float(CrossEntropy(ignore_index=3)(three, logits)) == float(CrossEntropy()(masks, logits))
    weights = np.ones(masks.shape)
    expected = CASES["cross-entropy"][1](three, logits, weights, [1.0] * CLASSES)
    assert float(CrossEntropy(ignore_index=None)(three, logits)) == pytest.approx(expected, rel=2e-6)
    assert math.isnan(float(CrossEntropy(ignore_index=None)(masks, logits)))


@pytest.mark.parametrize(
    ("masks", "logits"),
    [((2, 4, 4, 3), (2, 4, 4, 3)), ((2, 4, 5), (2, 4, 4, 3)), ((2, 4), (2, 4, 3)), ((1, 4, 4), (2, 4, 4, 3))],
)
def test_shapes_that_do_not_fit_are_named(masks: tuple[int, ...], logits: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"expected masks \(N, H, W\) of class ids.*found masks \(.* and logits"):
        CrossEntropy()(np.zeros(masks, np.int32), np.zeros(logits, np.float32))


def test_arguments_out_of_range_are_named() -> None:
    for make in (
        lambda: CrossEntropy(1.5),
        lambda: Focal(-1),
        lambda: Dice(smooth=-1),
        lambda: Tversky(alpha=-0.1),
        lambda: Tversky(beta=math.inf),
        lambda: FocalTversky(gamma=0),
        lambda: Boundary(0),
        lambda: Boundary(2.5),
        lambda: Dice(class_weights=[1, -1]),
        lambda: LovaszSoftmax(class_weights=[1, math.nan]),
        lambda: WeightedSum([Dice()], []),
        lambda: WeightedSum([], []),
        lambda: math.nan * Dice(),
    ):
        with pytest.raises(UsageError):
            make()
    with pytest.raises(UsageError, match="expected 4 numbers, one a class; found 3 of them"):
        Dice(class_weights=[1, 2, 3])(*make_batch())


# ------------------------------------------------------------------------------------------------------------ sums


def test_sums_are_sums() -> None:
    masks, logits = make_batch()
    weights = weight_forms()["by pixel"]
    parts = [float(loss(masks, logits, weights)) for loss in (CrossEntropy(), Dice(), Boundary())]
    loss = CrossEntropy() + 0.5 * Dice() + 2 * (Boundary() + Dice()) * 3
    assert isinstance(loss, WeightedSum)
    assert [type(part) for part in loss.losses] == [CrossEntropy, Dice, Boundary, Dice]
    assert loss.factors == [1, 0.5, 6, 6]
    expected = parts[0] + 6.5 * parts[1] + 6 * parts[2]
    assert float(loss(masks, logits, weights)) == pytest.approx(expected, rel=1e-6)
    for wrong in ("dice", None):
        with pytest.raises(TypeError):
            Dice() + wrong
        with pytest.raises(TypeError):
            Dice() * wrong


@cases
def test_each_loss_is_restored_from_its_configuration(case: str) -> None:
    loss = CASES[case][0](ignore_index=7, class_weights=BY_CLASS, name="mine")
    again = keras.losses.deserialize(json.loads(json.dumps(keras.losses.serialize(loss))))
    assert type(again) is type(loss)
    assert vars(again) == vars(loss)
    assert again.get_config() == loss.get_config()


@pytest.mark.parametrize(
    ("text", "kinds", "factors"),
    [
        ("cross_entropy+dice", [CrossEntropy, Dice], [1, 1]),
        ("cross_entropy + 0.5*dice", [CrossEntropy, Dice], [1, 0.5]),
        (" 2 * lovasz+1e-3*boundary + focal ", [LovaszSoftmax, Boundary, Focal], [2, 1e-3, 1]),
        ("0.5*tversky", [Tversky], [0.5]),
    ],
)
def test_losses_are_made_from_texts(text: str, kinds: list[type], factors: list[float]) -> None:
    loss = make_loss(text, ignore_index=9, class_weights=[1, 2])
    assert isinstance(loss, WeightedSum)
    assert [type(part) for part in loss.losses] == kinds
    assert loss.factors == factors
    assert all((part.ignore_index, part.class_weights) == (9, [1, 2]) for part in loss.losses)


def test_every_name_alone_is_its_loss() -> None:
    assert {name: type(make_loss(name)) for name in LOSSES} == LOSSES
    assert tuple(LOSSES) == NAMES


def test_the_room_passes_on_losses_and_metrics_alone() -> None:
    names = {"Dice": Dice, "LOSSES": LOSSES, "MeanIoU": MeanIoU, "PixelLoss": PixelLoss, "make_loss": make_loss}
    assert {name: getattr(training, name) for name in names} == names
    for name in ("nothing", "Nothing", "keras"):
        assert not hasattr(training, name)


@pytest.mark.parametrize(
    "text", ["", "dise", "dice+", "dice*2", "0*dice", "-1*dice", "x*dice", "nan*dice", "Dice", "2 dice"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="a sum of boundary, cross_entropy, dice, .* such as") as caught:
        make_loss(text)
    assert caught.value.found == repr(text)


# ----------------------------------------------------------------------------------------------------- in model.fit


@pytest.fixture
def pointwise() -> keras.Model:
    """A 1 x 1 convolution that passes its input on."""
    model = keras.Sequential([keras.Input((None, None, CLASSES)), keras.layers.Conv2D(CLASSES, 1, name="only")])
    model.set_weights([np.eye(CLASSES, dtype=np.float32)[None, None], np.zeros(CLASSES, np.float32)])
    return model


# Masks here hold three classes of four, which a metric says.
says_absent_classes = pytest.mark.filterwarnings("ignore:.*no pixel of class 3 was counted:UserWarning")


@says_absent_classes
@pytest.mark.parametrize("form", weight_forms())
def test_in_fit_weights_of_every_form_count(pointwise: keras.Model, form: str) -> None:
    """`fit` hands batches of unknown size to the loss."""
    masks, logits = make_batch()
    weights = weight_forms()[form]
    loss = CrossEntropy(class_weights=BY_CLASS) + Dice()
    expected = float(loss(masks, logits, weights))
    pointwise.compile(keras.optimizers.SGD(0.1), loss=loss, metrics=[SegmentationScores(CLASSES)])
    history = pointwise.fit(logits, masks, sample_weight=weights, batch_size=3, epochs=2, shuffle=False, verbose=0)
    losses = history.history["loss"]
    assert losses[0] == pytest.approx(expected, rel=1e-5)
    assert losses[1] < losses[0]


# Of each loss, compiled and eager gradients are compared above.
@pytest.mark.parametrize("case", [pytest.param(c, marks=() if c == "lovasz" else pytest.mark.long) for c in CASES])
def test_each_loss_trains_compiled(pointwise: keras.Model, case: str) -> None:
    masks, logits = make_batch()
    pointwise.compile(keras.optimizers.SGD(0.1), loss=CASES[case][0](), jit_compile=True)
    losses = pointwise.fit(logits, masks, batch_size=3, epochs=3, shuffle=False, verbose=0).history["loss"]
    assert losses[0] > losses[1] > losses[2]


def test_mixed_precision_trains(pointwise: keras.Model) -> None:
    masks, logits = make_batch()
    model = keras.Sequential(
        [keras.Input((None, None, CLASSES)), keras.layers.Conv2D(CLASSES, 1, dtype="mixed_float16")]
    )
    model.set_weights(pointwise.get_weights())
    model.compile(keras.optimizers.SGD(0.1), loss=CrossEntropy() + LovaszSoftmax() + Boundary())
    expected = float((CrossEntropy() + LovaszSoftmax() + Boundary())(masks, logits))
    losses = model.fit(logits, masks, batch_size=3, epochs=2, shuffle=False, verbose=0).history["loss"]
    assert losses[0] == pytest.approx(expected, rel=1e-3)
    assert losses[1] < losses[0]


@says_absent_classes
def test_a_compiled_model_is_saved_with_its_loss(pointwise: keras.Model, tmp_path: Path) -> None:
    masks, logits = make_batch()
    loss = CrossEntropy(class_weights=BY_CLASS) + 0.5 * FocalTversky(gamma=0.6) + Boundary(4)
    pointwise.compile("sgd", loss=loss, metrics=[MeanIoU(CLASSES)])
    pointwise.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert again.loss.get_config() == loss.get_config()
    assert again.evaluate(logits, masks, verbose=0) == pointwise.evaluate(logits, masks, verbose=0)


# ------------------------------------------------------------------------------------------------ on other backends

ON_BACKEND = """
import json
import sys
import numpy as np
from keras_unetres.training.losses import LOSSES, make_loss
from keras_unetres.training.metrics import BoundaryF1, SegmentationScores

data = np.load(sys.argv[1])
batch = [data[key] for key in ("masks", "logits")]
found = {name: float(make_loss(name, class_weights=[0.5, 1, 3, 2])(*batch, data["weights"])) for name in LOSSES}
for metric in (SegmentationScores(4, list("abcd")), BoundaryF1(4, 1)):
    metric.update_state(*batch)
    result = metric.result()
    found |= {key: float(value) for key, value in (result.items() if isinstance(result, dict) else [("bf1", result)])}
print(json.dumps(found))
"""


@pytest.mark.backend
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_losses_and_metrics_are_the_same_on(backend: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed; pip install {backend} to compare losses on it")
    masks, logits = make_batch()
    np.savez(tmp_path / "batch.npz", masks=masks, logits=logits, weights=weight_forms()["by pixel"])
    results = []
    for name in ("tensorflow", backend):
        command = [sys.executable, "-W", "error::UserWarning", "-c", ON_BACKEND, str(tmp_path / "batch.npz")]
        env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'edge/src'}", "KERAS_BACKEND": name}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        results.append(json.loads(done.stdout.splitlines()[-1]))
    assert results[1] == pytest.approx(results[0], rel=1e-5, nan_ok=True)


# ------------------------------------------------------------------------------------------------ on two devices

TWO_DEVICES = """
import json
import keras
import numpy as np
import tensorflow as tf
from keras_unetres.training.losses import LOSSES, make_loss
from keras_unetres.training.metrics import SegmentationScores

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
mirrored = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
rng = np.random.default_rng(0)
images = rng.normal(size=(8, 6, 6, 3)).astype(np.float32)
masks = rng.integers(0, 3, (8, 6, 6)).astype(np.int32)
masks[::4] = 255  # one device has much less to learn from than the other
masks[1::4, 2:] = 0
weights = rng.random(masks.shape).astype(np.float32)


def call(loss, part):
    logits = tf.constant(images)[part]
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(tf.constant(masks)[part], logits, tf.constant(weights)[part])
    return value, tape.gradient(value, logits)


@tf.function
def call_on_two(losses):
    def step():
        first = 4 * tf.distribute.get_replica_context().replica_id_in_sync_group
        return [call(loss, slice(first, first + 4)) for loss in losses]

    return mirrored.run(step)


def train(strategy):
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(3, 3, padding="same")])
        loss = make_loss("cross_entropy + 0.5*dice + lovasz", class_weights=[1, 2, 3])
        optimizer = keras.optimizers.SGD(0.5, momentum=0.9)
        model.compile(optimizer, loss=loss, metrics=[SegmentationScores(3)], jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices((images, masks, weights)).batch(4)
    history = model.fit(data, epochs=3, validation_data=data, verbose=0).history
    return {"history": history, "weights": [w.ravel().tolist() for w in model.get_weights()]}


losses = [make_loss(name, class_weights=[1, 2, 3]) for name in [*LOSSES, "cross_entropy + 0.5*dice"]]
for loss, on_two in zip(losses, call_on_two(losses), strict=True):
    value, gradient = call(loss, slice(None))
    shares, gradients = (mirrored.experimental_local_results(each) for each in on_two)
    np.testing.assert_allclose(shares[0] + shares[1], value, rtol=1e-5, err_msg=loss.name)
    np.testing.assert_allclose(np.concatenate(gradients), gradient, rtol=1e-4, atol=1e-8, err_msg=loss.name)
    assert np.abs(gradient).max() > 1e-4, loss.name
print(json.dumps([train(tf.distribute.OneDeviceStrategy("/cpu:0")), train(mirrored)]))
"""


@pytest.mark.slow
def test_two_devices_are_one() -> None:
    """Each loss and its gradient, and a loss curve with weights and scores, are those of one device at that batch."""
    command = [sys.executable, "-c", TWO_DEVICES]
    path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'edge/src'}", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    compiler = {name: os.environ[name] for name in ("XLA_FLAGS", "TF_XLA_FLAGS") if name in os.environ}
    done = subprocess.run(command, env={"PATH": "", **path, **compiler}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = json.loads(done.stdout.splitlines()[-1])
    assert set(one["history"]) == set(two["history"]) >= {"loss", "miou", "val_loss", "val_iou_2"}
    assert one["history"]["loss"][0] > one["history"]["loss"][1] > one["history"]["loss"][2]
    for key, curve in one["history"].items():
        np.testing.assert_allclose(two["history"][key], curve, rtol=1e-4, err_msg=key)
    for mine, other in zip(one["weights"], two["weights"], strict=True):
        np.testing.assert_allclose(other, mine, rtol=1e-3, atol=1e-5)


def test_class_255_is_not_left_out_without_a_word() -> None:
    """255 stands for "not labelled"; of 256 classes or more it is one of them."""
    masks, logits = np.full((1, 4, 4), 255), np.zeros((1, 4, 4, 256), np.float32)
    for loss in (ku.CrossEntropy(), ku.Dice(), ku.LovaszSoftmax()):
        with pytest.raises(UsageError, match="would leave out class 255.*fix: pass ignore_index=None"):
            loss(masks, logits)
    assert float(ku.CrossEntropy(ignore_index=None)(masks, logits)) == pytest.approx(math.log(256), rel=1e-5)
    assert float(ku.CrossEntropy()(masks, logits[..., :255])) == 0
    for make in (ku.MeanIoU, ku.BoundaryF1, ku.PixelAccuracy):
        with pytest.raises(UsageError, match="would leave out class 255"):
            make(256)
        make(256, ignore_index=None)
