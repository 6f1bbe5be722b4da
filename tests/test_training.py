"""Losses and metrics against float64 numpy written apart from them; plans; the fit loop's callbacks and its probe."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_unetres.models import build_unet
from keras_unetres.training import CrossEntropyDice, MeanIoU
from keras_unetres.training import fit as fitting
from keras_unetres.training.callbacks import AfterEpoch, KeepBest, LearningRate, StopNonFinite
from keras_unetres.training.losses import pixel_weights
from unetres_edge.errors import TrainingError

CLASSES = 4
IGNORED = 255


def make_batch(seed: int = 0, *, side: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Masks (3, H, W) with some ignored pixels and no pixel of the last class, and logits (3, H, W, 4)."""
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, CLASSES - 1, (3, side, side + 1)).astype(np.int32)
    masks[rng.random(masks.shape) < 0.2] = IGNORED
    return masks, rng.normal(0, 2, (*masks.shape, CLASSES)).astype(np.float32)


def weight_forms() -> dict[str, np.ndarray | None]:
    rng = np.random.default_rng(5)
    pixels = rng.random((3, 6, 7)).astype(np.float32)
    pixels[rng.random(pixels.shape) < 0.3] = 0
    return {"none": None, "by sample": np.array([0.5, 0.0, 2.0], np.float32), "by pixel": pixels}


def reference_loss(
    masks: np.ndarray, logits: np.ndarray, given: np.ndarray | None, *, ignore: int | None, dice_weight: float
) -> float:
    """Cross-entropy plus Dice, pixel by pixel in float64."""
    total = total_weight = 0.0
    hits, truth, guess = np.zeros(CLASSES), np.zeros(CLASSES), np.zeros(CLASSES)
    for place in np.ndindex(masks.shape):
        weight = 1.0 if given is None else float(given[place] if given.ndim == 3 else given[place[0]])
        if masks[place] == ignore or weight == 0:
            continue
        powers = np.exp(logits[place].astype(np.float64))
        scores = powers / powers.sum()
        label = masks[place]
        total -= weight * math.log(scores[label])
        total_weight += weight
        hits[label] += weight * scores[label]
        truth[label] += weight
        guess += weight * scores
    dice = [1 - (2 * h + 1) / (t + g + 1) for h, t, g in zip(hits, truth, guess, strict=True) if t > 0]
    return total / total_weight + dice_weight * float(np.mean(dice))


@pytest.mark.parametrize("dice_weight", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("form", weight_forms())
def test_the_loss_is_the_reference(form: str, dice_weight: float) -> None:
    masks, logits = make_batch()
    weights = weight_forms()[form]
    expected = reference_loss(masks, logits, weights, ignore=IGNORED, dice_weight=dice_weight)
    loss = CrossEntropyDice(dice_weight=dice_weight)
    assert float(loss(masks, logits, weights)) == pytest.approx(expected, rel=2e-6)
    assert float(loss(masks.astype(np.uint8), logits.astype(np.float64), weights)) == pytest.approx(expected, rel=2e-6)


def test_the_loss_of_half_precision_is_computed_in_single() -> None:
    masks, logits = make_batch()
    half = logits.astype(np.float16)
    assert CrossEntropyDice()(masks, half).dtype == "float32"
    assert float(CrossEntropyDice()(masks, half)) == float(CrossEntropyDice()(masks, half.astype(np.float32)))


@pytest.mark.parametrize("weight", [0.1, 1.0, 10.0])
def test_a_right_answer_costs_nothing_and_a_wrong_one_much(weight: float) -> None:
    masks, _ = make_batch()
    weights = np.full(masks.shape, weight, np.float32)
    right = 50.0 * np.eye(CLASSES, dtype=np.float32)[np.where(masks == IGNORED, 0, masks)]
    assert float(CrossEntropyDice()(masks, right, weights)) == pytest.approx(0, abs=1e-6)
    assert float(CrossEntropyDice()(masks, -right, weights)) > 50


def loss_and_gradient(masks: np.ndarray, logits: np.ndarray, weights: np.ndarray | None) -> tuple[float, np.ndarray]:
    values = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(values)
        loss = CrossEntropyDice()(masks, values, weights)
    return float(loss), tape.gradient(loss, values).numpy()


@pytest.mark.parametrize("form", weight_forms())
def test_pixels_that_do_not_count_change_neither_loss_nor_gradient(form: str) -> None:
    masks, logits = make_batch()
    weights = weight_forms()[form]
    out = masks == IGNORED
    if weights is not None:
        out |= np.broadcast_to((weights if weights.ndim == 3 else weights[:, None, None]) == 0, masks.shape)
    loss, gradient = loss_and_gradient(masks, logits, weights)
    assert (gradient[out] == 0).all()
    assert (gradient[~out] != 0).all()
    others = logits.copy()
    others[out] = np.random.default_rng(9).normal(0, 1e4, (out.sum(), CLASSES))
    other_masks = np.where(out & (masks != IGNORED), 1, masks)
    again, same = loss_and_gradient(other_masks, others, weights)
    assert again == loss
    np.testing.assert_array_equal(same, gradient)


def test_nothing_labelled_is_a_loss_of_zero() -> None:
    masks, logits = make_batch()
    loss, gradient = loss_and_gradient(np.full_like(masks, IGNORED), logits, None)
    assert loss == 0
    assert (gradient == 0).all()


def test_without_an_ignored_id_every_class_counts() -> None:
    masks, logits = make_batch()
    masks = np.where(masks == IGNORED, 3, masks)
    loss = CrossEntropyDice(ignore_index=None)
    expected = reference_loss(masks, logits, None, ignore=None, dice_weight=1.0)
    assert float(loss(masks, logits)) == pytest.approx(expected, rel=2e-6)
    other = CrossEntropyDice(ignore_index=3)
    expected = reference_loss(masks, logits, None, ignore=3, dice_weight=1.0)
    assert float(other(masks, logits)) == pytest.approx(expected, rel=2e-6)


def test_pixel_weights_by_hand() -> None:
    masks = np.array([[[0, 255]], [[1, 2]]])
    for given, expected in (
        (None, [[[1, 0]], [[1, 1]]]),
        ([2.0, 3.0], [[[2, 0]], [[3, 3]]]),
        ([[[2.0, 3.0]], [[4.0, 5.0]]], [[[2, 0]], [[4, 5]]]),
    ):
        np.testing.assert_array_equal(np.asarray(pixel_weights(masks, given, 255)), expected)


def reference_iou(masks: np.ndarray, labels: np.ndarray, ignore: int | None) -> float:
    """Mean IoU over the classes that the masks hold, set by set."""
    known = masks != ignore
    present = [c for c in range(CLASSES) if ((masks == c) & known).any()]
    return float(
        np.mean(
            [
                ((masks == c) & (labels == c) & known).sum() / (((masks == c) | (labels == c)) & known).sum()
                for c in present
            ]
        )
    )


@pytest.mark.parametrize("ignore", [255, 1, None])
def test_mean_iou_streams_to_the_reference(ignore: int | None) -> None:
    batches = [make_batch(seed, side=side) for seed, side in ((0, 6), (1, 9), (2, 4))]
    if ignore is None:
        batches = [(np.where(masks == IGNORED, 0, masks), logits) for masks, logits in batches]
    elif ignore == 1:
        batches = [(np.where(masks == IGNORED, 1, masks), logits) for masks, logits in batches]
    metric = MeanIoU(CLASSES, ignore_index=ignore)
    for masks, logits in batches:
        metric.update_state(masks, logits)
    masks = np.concatenate([masks.ravel() for masks, _ in batches])
    labels = np.concatenate([logits.argmax(-1).ravel() for _, logits in batches])
    assert set(np.unique(masks)) <= {0, 1, 2, 255}  # the last class is absent
    assert (labels == 3).any()
    assert float(metric.result()) == pytest.approx(reference_iou(masks, labels, ignore), rel=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0
    metric.update_state(*batches[0])
    once = reference_iou(batches[0][0], batches[0][1].argmax(-1), ignore)
    assert float(metric.result()) == pytest.approx(once, rel=1e-6)


def test_mean_iou_counts_beyond_float32() -> None:
    metric = MeanIoU(2)
    metric.confusion.assign(np.array([[2**40, 0], [0, 0]], np.int64))
    metric.update_state(np.zeros((1, 1, 1), np.int32), np.array([[[[1.0, 0.0]]]], np.float32))
    assert int(np.asarray(metric.confusion)[0, 0]) == 2**40 + 1


def test_loss_and_metric_are_restored_from_their_configuration() -> None:
    loss = keras.losses.deserialize(keras.losses.serialize(CrossEntropyDice(7, 0.25, name="mine")))
    assert isinstance(loss, CrossEntropyDice)
    assert (loss.ignore_index, loss.dice_weight, loss.name) == (7, 0.25, "mine")
    metric = keras.metrics.deserialize(keras.metrics.serialize(MeanIoU(3, None, name="iou")))
    assert isinstance(metric, MeanIoU)
    assert (metric.num_classes, metric.ignore_index, metric.name) == (3, None, "iou")


@pytest.fixture
def pointwise() -> keras.Model:
    """A 1 x 1 convolution that passes its input on, compiled with the loss and the metric."""
    model = keras.Sequential([keras.Input((None, None, CLASSES)), keras.layers.Conv2D(CLASSES, 1, name="only")])
    model.compile(keras.optimizers.SGD(0.1), loss=CrossEntropyDice(dice_weight=0.0), metrics=[MeanIoU(CLASSES)])
    model.set_weights([np.eye(CLASSES, dtype=np.float32)[None, None], np.zeros(CLASSES, np.float32)])
    return model


@pytest.mark.parametrize("form", weight_forms())
def test_in_compiled_fit_weights_of_every_form_count(pointwise: keras.Model, form: str) -> None:
    """`fit` hands batches of unknown size to the loss."""
    masks, logits = make_batch()
    weights = weight_forms()[form]
    expected = reference_loss(masks, logits, weights, ignore=IGNORED, dice_weight=0.0)
    history = pointwise.fit(logits, masks, sample_weight=weights, batch_size=3, epochs=2, shuffle=False, verbose=0)
    losses = history.history["loss"]
    assert losses[0] == pytest.approx(expected, rel=2e-6)
    assert losses[1] < losses[0]
    assert history.history["miou"][0] == pytest.approx(reference_iou(masks, logits.argmax(-1), IGNORED), rel=1e-6)


def test_a_compiled_model_is_saved_with_loss_and_metric(pointwise: keras.Model, tmp_path) -> None:
    pointwise.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert isinstance(again.loss, CrossEntropyDice)
    masks, logits = make_batch()
    assert again.evaluate(logits, masks, verbose=0) == pointwise.evaluate(logits, masks, verbose=0)


# ----------------------------------------------------------------------------------------------------------- the plan


def test_the_rate_warms_up_and_falls_as_a_cosine() -> None:
    plan = fitting.Plan(epochs=10, steps_per_epoch=11, validate_every=3, warmup_steps=10, learning_rate=0.5)
    assert plan.steps == 110
    rates = [plan.rate(step) for step in range(plan.steps)]
    np.testing.assert_allclose(rates[:10], [0.05 * n for n in range(1, 11)])
    assert rates[10] == 0.5
    np.testing.assert_allclose(rates[10:], 0.25 + 0.25 * np.cos(np.pi * np.arange(100) / 100), rtol=1e-12)
    assert 0 < rates[-1] < 0.001
    assert plan.rate(110) == plan.rate(1000) == 0
    assert fitting.Plan(**plan.to_dict()) == plan


@pytest.mark.parametrize(
    ("epochs", "every", "expected"),
    [(10, 3, [3, 6, 9, 10]), (10, 5, [5, 10]), (1, 1, [1]), (3, 1, [1, 2, 3]), (7, 7, [7]), (2, 9, [2])],
)
def test_the_last_epoch_always_validates(epochs: int, every: int, expected: list[int]) -> None:
    assert fitting.Plan(epochs, 5, every, 1, 0.1).validation_epochs() == expected


def test_validation_takes_a_small_share() -> None:
    plan = fitting.make_plan(50, 0.1, epochs=100, step_seconds=0.2, validation_seconds=4.0)
    assert (plan.validate_every, plan.warmup_steps, plan.steps) == (5, 100, 5000)
    assert len(plan.validation_epochs()) * 4.0 <= 0.09 * plan.steps * 0.2
    assert fitting.make_plan(50, 0.1, epochs=100).validate_every == 1
    assert fitting.make_plan(1, 0.1, epochs=2, step_seconds=0.01, validation_seconds=9.0).validate_every == 2
    assert fitting.make_plan(5, 0.1, epochs=1).warmup_steps == 1


@pytest.mark.parametrize("seconds", [20.0, 100.0, 3600.0])
@pytest.mark.parametrize("step", [0.01, 0.3, 2.0])
@pytest.mark.parametrize("validation", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("per_epoch", [1, 7, 400])
def test_a_timed_plan_fits_its_budget_and_uses_it(
    seconds: float, step: float, validation: float, per_epoch: int
) -> None:
    plan = fitting.make_timed_plan(per_epoch, 0.1, seconds=seconds, step_seconds=step, validation_seconds=validation)
    planned = plan.steps * step + len(plan.validation_epochs()) * validation
    assert planned <= seconds + validation  # the last epoch validates in any case
    assert plan.steps_per_epoch <= per_epoch
    assert planned >= 0.9 * seconds - plan.steps_per_epoch * step


@pytest.mark.parametrize("seconds", [0.0, -5.0, 0.5])
def test_a_budget_already_spent_still_makes_a_step(seconds: float) -> None:
    plan = fitting.make_timed_plan(9, 0.1, seconds=seconds, step_seconds=1.0, validation_seconds=1.0)
    assert (plan.epochs, plan.steps) == (1, 1)


# ------------------------------------------------------------------------------------------------------ the callbacks


def fit_pointwise(model: keras.Model, images: np.ndarray, *callbacks: keras.callbacks.Callback, epochs: int = 2):
    masks = np.zeros(images.shape[:3], np.int32)
    return model.fit(images, masks, batch_size=1, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks))


def test_the_rate_is_set_before_every_step(pointwise: keras.Model) -> None:
    used = []
    spy = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: used.append(float(np.asarray(pointwise.optimizer.learning_rate)))
    )
    fit_pointwise(pointwise, make_batch()[1], LearningRate(lambda step: 0.5**step, 2), spy)
    np.testing.assert_allclose(used, [0.5**step for step in range(2, 8)])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_training_at_its_step(pointwise: keras.Model, value: float) -> None:
    images = make_batch()[1]
    steps = []
    spy = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
    fit_pointwise(pointwise, images, StopNonFinite(), spy)
    assert steps == [0, 1, 2] * 2
    images[1, 2, 2] = value
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) in epoch 1, step 2; .*lower --learning-rate"):
        fit_pointwise(pointwise, images, spy, StopNonFinite())
    assert steps == [0, 1, 2] * 2 + [0, 1]


def test_keep_best_keeps_what_is_better_and_finite() -> None:
    kept = []
    keeper = KeepBest(lambda epoch, score: kept.append((epoch, score)), best=0.2, tolerance=0.0)
    for epoch, score in enumerate([0.1, None, 0.3, 0.3, math.nan, 0.25, 0.5]):
        keeper.on_epoch_end(epoch, {"loss": 1.0} if score is None else {"val_miou": score})
    keeper.on_epoch_end(9, None)
    assert kept == [(3, 0.3), (4, 0.3), (7, 0.5)]
    assert keeper.best == 0.5


def test_of_equally_good_epochs_the_latest_is_kept() -> None:
    kept = []
    keeper = KeepBest(lambda epoch, score: kept.append((epoch, score)), tolerance=0.01)
    for epoch, score in enumerate([0.5, 0.495, 0.489, 0.6, 0.593, 0.591, 0.589]):
        keeper.on_epoch_end(epoch, {"val_miou": score})
    assert kept == [(1, 0.5), (2, 0.495), (4, 0.6), (5, 0.593), (6, 0.591)]  # measured from the highest, so no drift
    assert keeper.best == 0.6


def test_after_epoch_tells_the_last_one(pointwise: keras.Model) -> None:
    told = []
    fit_pointwise(pointwise, make_batch()[1], AfterEpoch(lambda *row: told.append(row)), epochs=3)
    assert [(epoch, last) for epoch, last, _ in told] == [(1, False), (2, False), (3, True)]
    assert all(set(figures) == {"loss", "miou"} for _, _, figures in told)
    assert all(type(value) is float for _, _, figures in told for value in figures.values())


def test_the_probe_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_PROBE_SECONDS", 0.01)
    model = build_unet((8, 8, 1), filters=2, depth=1, dropout=0.5)
    fitting.compile_model(model, CrossEntropyDice(), MeanIoU(2))
    rng = np.random.default_rng(0)
    images, masks = rng.random((8, 8, 8, 1), np.float32), rng.integers(0, 2, (8, 8, 8)).astype(np.int32)
    data = tf.data.Dataset.from_tensor_slices((images, masks)).batch(2, drop_remainder=True)
    variables = fitting.state_variables(model)
    assert "model/seed_0" in variables
    assert any("velocity" in name for name in variables)
    before = {name: np.array(variable) for name, variable in variables.items()}
    trained = []
    monkeypatch.setattr(model, "fit", watch(model.fit, lambda: trained.append(np.array(model.weights[0]))))
    step, validation = fitting.probe_speed(model, data.repeat(), data)
    assert step > 0
    assert validation > 0
    assert not np.array_equal(trained[-1], before["model/" + model.weights[0].path])  # the steps were real ones
    for name, variable in variables.items():
        np.testing.assert_array_equal(np.asarray(variable), before[name], err_msg=name)


def watch(function, after):
    """Return a function that calls another one, and then `after`."""

    def watched(*arguments, **named):
        result = function(*arguments, **named)
        after()
        return result

    return watched


def test_biases_and_norms_do_not_decay() -> None:
    model = build_unet((8, 8, 1), filters=1, depth=1)
    fitting.compile_model(model, CrossEntropyDice(), MeanIoU(2))
    model.optimizer.learning_rate = 1.0
    before = {v.path: np.array(v) for v in model.trainable_variables}
    model.optimizer.apply([np.zeros(v.shape, np.float32) for v in model.trainable_variables])
    moved = {v.path for v in model.trainable_variables if not np.array_equal(np.array(v), before[v.path])}
    assert moved == {path for path in before if path.endswith("kernel")}


def test_the_precision_policy_is_put_back() -> None:
    before = keras.config.dtype_policy().name
    with pytest.raises(KeyError), fitting.precision_policy():
        expected = "mixed_float16" if tf.config.list_physical_devices("GPU") else before
        assert keras.config.dtype_policy().name == expected
        keras.config.set_dtype_policy("bfloat16")
        raise KeyError
    assert keras.config.dtype_policy().name == before
