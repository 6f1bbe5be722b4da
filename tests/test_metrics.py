"""Metrics against scikit-learn and against the counts on the evaluation side; boundary F1 against SciPy's distances."""

from __future__ import annotations

import csv
import json
import math
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score

from keras_unetres.scores.boundaries import BoundaryCounts
from keras_unetres.scores.confusion import Confusion
from keras_unetres.training.losses import CrossEntropy, Dice
from keras_unetres.training.metrics import (
    BoundaryF1,
    ClassIoU,
    FrequencyWeightedIoU,
    MeanDice,
    MeanIoU,
    PixelAccuracy,
    SegmentationScores,
)
from unetres_edge.errors import UsageError

CLASSES = 4
IGNORED = 255
PRESENT = [0, 1, 2]


def make_batch(seed: int = 0, *, side: int = 6, images: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Masks (N, H, W) with some ignored pixels and no pixel of the last class, and logits right in half of them."""
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, CLASSES - 1, (images, side, side + 1)).astype(np.int32)
    logits = rng.normal(0, 1, (*masks.shape, CLASSES)) + 1.5 * np.eye(CLASSES)[masks]
    masks[rng.random(masks.shape) < 0.2] = IGNORED
    return masks, logits.astype(np.float32)


BATCHES = [make_batch(seed, side=side) for seed, side in ((0, 6), (1, 9), (2, 4))]


def flat(ignore: int | None = IGNORED) -> tuple[np.ndarray, np.ndarray]:
    """All labelled pixels of the batches: true and predicted ids."""
    masks = np.concatenate([masks.ravel() for masks, _ in BATCHES])
    labels = np.concatenate([logits.argmax(-1).ravel() for _, logits in BATCHES])
    assert (labels == 3).any()
    return masks[masks != ignore], labels[masks != ignore]


def jaccard_of_all(truth: np.ndarray, guess: np.ndarray) -> float:
    return float(jaccard_score(truth, guess, labels=PRESENT, average="macro"))


ORACLES = {
    "miou": (MeanIoU, jaccard_of_all),
    "dice": (MeanDice, lambda t, g: f1_score(t, g, labels=PRESENT, average="macro")),
    "fwiou": (FrequencyWeightedIoU, lambda t, g: jaccard_score(t, g, labels=PRESENT, average="weighted")),
    "pixel_accuracy": (PixelAccuracy, accuracy_score),
}


@pytest.mark.parametrize("name", ORACLES)
def test_each_score_streams_to_that_of_scikit_learn(name: str) -> None:
    make, oracle = ORACLES[name]
    metric = make(CLASSES)
    assert metric.name == name
    assert float(metric.result()) == 0
    for masks, logits in BATCHES:
        metric.update_state(masks[..., None].astype(np.uint8), logits)
    truth, guess = flat()
    assert float(metric.result()) == pytest.approx(oracle(truth, guess), rel=1e-6)
    counts = confusion_matrix(truth, guess, labels=range(CLASSES))
    np.testing.assert_array_equal(np.asarray(metric.confusion), counts)
    with pytest.warns(UserWarning, match=f"{name}: no pixel of class 3 was counted in the first epoch"):
        metric.reset_state()
    assert float(metric.result()) == 0


def test_all_scores_at_once() -> None:
    metric = SegmentationScores(CLASSES, ["sky", "a road", "tree, or bush", "none/at all"])
    for masks, logits in BATCHES:
        metric.update_state(masks, logits)
    truth, guess = flat()
    expected = {name: oracle(truth, guess) for name, (_, oracle) in ORACLES.items()}
    by_class = jaccard_score(truth, guess, labels=PRESENT, average=None)
    expected |= {"iou_sky": by_class[0], "iou_a road": by_class[1], "iou_tree, or bush": by_class[2]}
    found = {key: float(value) for key, value in metric.result().items()}
    assert math.isnan(found.pop("iou_none/at all"))
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("ignore", [1, None])
def test_another_ignored_id_and_none(ignore: int | None) -> None:
    replaced = 0 if ignore is None else ignore
    metric = MeanIoU(CLASSES, ignore_index=ignore)
    pairs = []
    for masks, logits in BATCHES:
        masks = np.where(masks == IGNORED, replaced, masks)
        metric.update_state(masks, logits)
        pairs.append((masks.ravel(), logits.argmax(-1).ravel()))
    truth, guess = (np.concatenate(each) for each in zip(*pairs, strict=True))
    known = truth != ignore
    present = sorted(set(truth[known].tolist()))
    expected = jaccard_score(truth[known], guess[known], labels=present, average="macro")
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)


ALL = (MeanIoU, MeanDice, FrequencyWeightedIoU, PixelAccuracy, BoundaryF1)


@pytest.mark.parametrize("make", ALL)
def test_masks_that_hold_what_is_no_class_make_scores_nan(make: type) -> None:
    """As they make the losses NaN; fractions are not cut to class ids."""
    right, logits = np.array([[[0, 0, 1, 1, 0]]]), np.zeros((1, 1, 5, 2), np.float32)
    for wrong in (np.array([[[0, 2, -1, 255, 1]]]), right * 0.5, right * np.nan, right / 255 + 0.25):
        metric = make(2, ignore_index=None)
        metric.update_state(wrong, logits)
        assert math.isnan(float(metric.result()))
        assert math.isnan(float(CrossEntropy(ignore_index=None)(wrong, logits)))
    for same in (right.astype(np.float32), right == 1, right[..., None].astype(np.float64), right.astype(np.uint8)):
        metric = make(2)
        metric.update_state(same, logits)
        assert float(metric.result()) >= 0
        assert float(CrossEntropy()(same, logits)) == pytest.approx(math.log(2))


@pytest.mark.parametrize("make", ALL)
def test_one_hot_masks_are_named(make: type) -> None:
    masks = np.eye(3, dtype=np.float32)[np.zeros((2, 4, 4), int)]
    with pytest.raises(UsageError, match=r"found masks \(2, 4, 4, 3\).*fix: masks.argmax\(-1\)"):
        make(3).update_state(masks, np.zeros((2, 4, 4, 3), np.float32))


def test_ids_that_are_no_class_do_not_count() -> None:
    metric = MeanIoU(2, ignore_index=None)
    metric.update_state(np.array([[[0, 2, -1, 255, 1]]]), np.zeros((1, 1, 5, 2), np.float32))
    np.testing.assert_array_equal(np.asarray(metric.confusion), [[1, 0], [1, 0]])
    with pytest.warns(UserWarning, match=r"3 pixels of the masks hold no class id 0\.\.1"):
        metric.reset_state()


@pytest.mark.parametrize("eager", [False, True])
def test_fit_says_that_masks_hold_0_and_255_alone(eager: bool) -> None:
    """Their foreground is the ignored id: the loss falls to 0, and nothing is learned of it."""
    masks = np.zeros((4, 8, 8), np.uint8)
    masks[:, 2:6, 2:6] = 255
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 1)])
    model.compile("sgd", CrossEntropy(), metrics=[MeanIoU(2), SegmentationScores(2)], run_eagerly=eager)
    with pytest.warns(UserWarning, match=r"the masks hold 0 and 255 alone, and 64 pixels of 255 were ignored") as said:
        model.fit(masks[..., None] / 255.0, masks, epochs=2, verbose=0)
    assert sum("alone" in str(each.message) for each in said) == 2  # each metric once
    with warnings.catch_warnings(action="error"):
        model.fit(masks[..., None] / 255.0, masks // 255, epochs=2, verbose=0)


def test_one_class_by_itself() -> None:
    truth, guess = flat()
    for class_id in PRESENT:
        metric = ClassIoU(CLASSES, class_id)
        assert metric.name == f"iou_{class_id}"
        assert math.isnan(float(metric.result()))
        for masks, logits in BATCHES:
            metric.update_state(masks, logits)
        expected = jaccard_score(truth == class_id, guess == class_id)
        assert float(metric.result()) == pytest.approx(expected, rel=1e-6)
    absent = ClassIoU(CLASSES, 3, name="mine")
    absent.update_state(*BATCHES[0])
    assert math.isnan(float(absent.result()))
    with pytest.raises(UsageError, match="expected an id from 0 to 3; found 4"):
        ClassIoU(CLASSES, 4)


def test_a_large_batch_and_a_long_run_are_counted_exactly() -> None:
    metric = MeanIoU(2)
    metric.confusion.assign(np.array([[2**60, 0], [0, 5]], np.int64))
    masks = np.zeros((5, 2048, 2048), np.uint8)  # more pixels of one kind than float32 can count
    masks[0, 0, :3] = 1
    logits = np.zeros((*masks.shape, 2), np.float16)
    metric.update_state(masks, logits)
    assert masks.size > 2**24
    np.testing.assert_array_equal(np.asarray(metric.confusion), [[2**60 + masks.size - 3, 0], [3, 5]])


def test_half_precision_and_compiled_counts_are_the_same() -> None:
    masks, logits = BATCHES[1]
    plain, compiled = SegmentationScores(CLASSES), SegmentationScores(CLASSES)
    plain.update_state(masks, logits.astype(np.float16))
    tf.function(compiled.update_state, jit_compile=True)(tf.constant(masks), tf.constant(logits, tf.float16))
    np.testing.assert_array_equal(np.asarray(plain.confusion), np.asarray(compiled.confusion))
    assert int(np.asarray(plain.confusion).sum()) == (masks != IGNORED).sum()
    masks, logits = make_blobs(0)
    edges, fast = BoundaryF1(CLASSES), BoundaryF1(CLASSES)
    edges.update_state(masks, logits)
    tf.function(fast.update_state, jit_compile=True)(tf.constant(masks), tf.constant(logits))
    np.testing.assert_array_equal(np.asarray(edges.counts), np.asarray(fast.counts))
    assert (np.asarray(fast.counts)[:, :3] > 0).all()


def test_names_have_to_fit() -> None:
    for names in (["a"], ["a", "a"], ["a", "b", "c"]):
        with pytest.raises(UsageError, match="expected 2 different names"):
            SegmentationScores(2, names)


@pytest.mark.parametrize(
    "metric",
    [
        MeanIoU(3, None, name="mine"),
        MeanDice(3, 7),
        FrequencyWeightedIoU(3),
        PixelAccuracy(3),
        ClassIoU(3, 2),
        ClassIoU(3, 2, None, "mine"),
        SegmentationScores(3, ["a", "b b", "c/c"], 9),
        SegmentationScores(2),
        BoundaryF1(3, 1.5, None, "mine"),
    ],
    ids=lambda metric: type(metric).__name__,
)
def test_each_metric_is_restored_from_its_configuration(metric: keras.metrics.Metric) -> None:
    again = keras.metrics.deserialize(json.loads(json.dumps(keras.metrics.serialize(metric))))
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()


@pytest.mark.parametrize("seed", range(3))
def test_the_evaluation_counts_the_same(seed: int) -> None:
    masks, logits = make_batch(seed)
    names = tuple("abcd")
    metric = SegmentationScores(CLASSES, names)
    metric.update_state(masks, logits)
    confusion = Confusion.empty(CLASSES)
    for mask, scores in zip(masks, logits, strict=True):
        confusion += Confusion.of(mask.astype(np.uint8), scores.argmax(-1).astype(np.uint8), CLASSES)
    found = {key: float(value) for key, value in metric.result().items()}
    other = confusion.to_dict(names)
    for mine, theirs in (("miou", "miou"), ("dice", "mean_dice"), ("fwiou", "fwiou"), ("pixel_accuracy",) * 2):
        assert found[mine] == pytest.approx(other[theirs], rel=1e-6)
    for name in "abc":
        assert found[f"iou_{name}"] == pytest.approx(other["per_class_iou"][name], rel=1e-6)
    assert math.isnan(found["iou_d"])
    assert other["per_class_iou"]["d"] is None
    assert other["per_class_dice"]["d"] is None
    truth = np.where(masks == IGNORED, -1, masks).ravel()
    labels = logits.argmax(-1).ravel()
    dice = f1_score(truth[truth >= 0], labels[truth >= 0], labels=PRESENT, average=None)
    assert [other["per_class_dice"][name] for name in "abc"] == pytest.approx(dice, rel=1e-12)


def test_nothing_counted_has_no_score_in_evaluation() -> None:
    found = Confusion.empty(2).to_dict(("a", "b"))
    assert {found[key] for key in ("miou", "mean_dice", "fwiou", "pixel_accuracy")} == {None}


# ------------------------------------------------------------------------------------------------------ boundary F1


def boundary_oracle(masks: np.ndarray, labels: np.ndarray, tolerance: float) -> float:
    """By definition: neighbours one by one, distances by SciPy, counts over all images."""

    def edges(ids: np.ndarray, known: np.ndarray) -> np.ndarray:
        found = np.zeros(ids.shape, bool)
        for y, x in np.argwhere(known):
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < ids.shape[0] and 0 <= u < ids.shape[1] and known[v, u] and ids[v, u] != ids[y, x]:
                    found[y, x] = True
        return found

    scores = []
    for label in range(CLASSES):
        near_guess = guesses = near_truth = truths = 0
        for mask, guess in zip(masks, labels, strict=True):
            known = mask != IGNORED
            true, guessed = edges(mask, known) & (mask == label), edges(guess, known) & (guess == label)
            truths, guesses = truths + true.sum(), guesses + guessed.sum()
            if true.any() and guessed.any():
                near_guess += (distance_transform_edt(~true)[guessed] <= tolerance).sum()
                near_truth += (distance_transform_edt(~guessed)[true] <= tolerance).sum()
        if truths:
            precision, recall = near_guess / guesses if guesses else 0.0, near_truth / truths
            scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return float(np.mean(scores))


def make_blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks of large areas, and logits of the same areas shifted by some pixels."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, CLASSES - 1, (2, 4, 5))
    masks = coarse.repeat(6, 1).repeat(6, 2).astype(np.int32)
    moved = np.roll(masks, (1 + seed, 2), (1, 2))
    logits = np.eye(CLASSES)[moved] + rng.normal(0, 0.3, (*masks.shape, CLASSES))
    masks[:, 3:9, 10:14] = IGNORED
    return masks, logits.astype(np.float32)


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2, 5])
def test_boundary_f1_is_that_of_its_definition_on_both_sides(tolerance: float) -> None:
    batches = [make_blobs(seed) for seed in range(2)]
    metric, counts = BoundaryF1(CLASSES, tolerance), BoundaryCounts.empty(CLASSES)
    assert float(metric.result()) == 0
    for masks, logits in batches:
        metric.update_state(masks[..., None], logits)
        for mask, scores in zip(masks, logits, strict=True):
            guess = scores.argmax(-1).astype(np.uint8)
            counts += BoundaryCounts.of(mask.astype(np.uint8), guess, CLASSES, tolerance=tolerance)
    masks = np.concatenate([masks for masks, _ in batches])
    labels = np.concatenate([logits.argmax(-1) for _, logits in batches])
    expected = boundary_oracle(masks, labels, tolerance)
    assert 0 < expected < 1
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)
    assert counts.mean_f1() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_array_equal(np.asarray(metric.counts), counts.counts)
    assert counts.f1()[3] is None


def test_boundaries_within_the_tolerance_are_met() -> None:
    """An edge that is moved by 2 px is met at a tolerance of 2 px and not below."""
    mask = np.zeros((1, 12, 12), np.int32)
    mask[:, :, 6:] = 1
    scores = np.eye(2, dtype=np.float32)[np.roll(mask, 2, axis=2) * (np.arange(12) > 2)]
    for tolerance, expected in ((1.9, 0.0), (2.0, 1.0)):
        metric = BoundaryF1(2, tolerance)
        metric.update_state(mask, scores)
        assert float(metric.result()) == expected


def test_boundary_edge_cases() -> None:
    empty = np.zeros((1, 5, 5), np.int32)
    one = empty.copy()
    one[0, 2, 2] = 1
    for mask, guess, expected in (
        (empty, empty, (0, None, None)),
        (empty, one, (0, None, None)),
        (one, empty, (0, 0.0, 0.0)),
        (one, one, (1, 1.0, 1.0)),
        (np.full_like(empty, IGNORED), one, (0, None, None)),
    ):
        metric = BoundaryF1(2)
        metric.update_state(mask, np.eye(2, dtype=np.float32)[guess])
        counts = BoundaryCounts.of(mask[0].astype(np.uint8), guess[0].astype(np.uint8), 2)
        assert (float(metric.result()), *counts.f1()) == expected
    for wrong in (-1, math.nan):
        with pytest.raises(UsageError):
            BoundaryF1(2, wrong)
        with pytest.raises(UsageError):
            BoundaryCounts.of(empty[0], empty[0], 2, tolerance=wrong)


# ----------------------------------------------------------------------------------------------------- in model.fit


@pytest.mark.filterwarnings("ignore:.*no pixel of class 3:UserWarning")
def test_scores_reach_the_logs_of_fit_and_the_history_file(tmp_path: Path) -> None:
    """Names with spaces, commas and slashes, on (x, y) and on (x, y, weights), with validation."""
    names = ["back ground", "a,b", "c/d", 'quote"']
    masks, logits = make_batch()
    model = keras.Sequential([keras.Input((None, None, CLASSES)), keras.layers.Conv2D(CLASSES, 1)])
    model.set_weights([np.eye(CLASSES, dtype=np.float32)[None, None], np.zeros(CLASSES, np.float32)])
    loss, metrics = CrossEntropy() + Dice(), [SegmentationScores(CLASSES, names), BoundaryF1(CLASSES)]
    model.compile(keras.optimizers.SGD(0.0), loss=loss, metrics=metrics, jit_compile=False)
    weights = np.random.default_rng(0).random(masks.shape)
    keys = {"miou", "dice", "fwiou", "pixel_accuracy", "boundary_f1", *(f"iou_{name}" for name in names)}
    expected = Confusion.empty(CLASSES)
    for mask, scores in zip(masks, logits, strict=True):
        expected += Confusion.of(mask.astype(np.uint8), scores.argmax(-1).astype(np.uint8), CLASSES)
    callbacks = [keras.callbacks.CSVLogger(tmp_path / "log.csv")]
    for data in ((logits, masks), (logits, masks, weights)):
        dataset = tf.data.Dataset.from_tensor_slices(data).batch(3)
        history = model.fit(
            dataset, validation_data=dataset, epochs=2, shuffle=False, verbose=0, callbacks=callbacks
        ).history
        assert set(history) == {"loss", "val_loss"} | keys | {f"val_{key}" for key in keys}
        for curve in (history["miou"], history["val_miou"]):
            assert curve == pytest.approx([expected.mean_iou()] * 2, rel=1e-6)
        assert history["val_iou_a,b"] == pytest.approx([expected.iou()[1]] * 2, rel=1e-6)
        found = model.evaluate(dataset, verbose=0, return_dict=True)
        assert set(found) == {"loss"} | keys
        assert found["dice"] == pytest.approx(expected.mean_dice(), rel=1e-6)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["val_iou_a,b"]) == pytest.approx(expected.iou()[1], rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*no pixel of class 3:UserWarning")
def test_a_model_is_saved_with_its_metrics(tmp_path: Path) -> None:
    masks, logits = make_batch()
    model = keras.Sequential([keras.Input((None, None, CLASSES)), keras.layers.Conv2D(CLASSES, 1)])
    model.compile("sgd", loss=Dice(), metrics=[SegmentationScores(CLASSES, list("abcd")), BoundaryF1(CLASSES)])
    model.fit(logits, masks, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    found, expected = (each.evaluate(logits, masks, verbose=0, return_dict=True) for each in (again, model))
    assert found.keys() == expected.keys()
    for key in expected:
        np.testing.assert_equal(found[key], expected[key])
