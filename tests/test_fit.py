"""Plans, the fit loop, its callbacks and its probe, on networks of a few weights."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_unetres.models import build_unet
from keras_unetres.runs import Compilation, Plan, RunFolder
from keras_unetres.training import fit as fitting
from keras_unetres.training.callbacks import AfterEpoch, Averaged, FreezeNorm, KeepBest, LearningRate, StopNonFinite
from keras_unetres.training.checkpoints import CheckpointWriter, is_stalled
from keras_unetres.training.compilation import precision_policy
from keras_unetres.training.fused_norm import fuse_norms
from keras_unetres.training.losses import CrossEntropy, Dice
from keras_unetres.training.metrics import MeanIoU
from keras_unetres.training.schedule import make_plan, make_timed_plan
from keras_unetres.training.state import arrays, averaged, state_variables
from keras_unetres.training.stopping import StopRequest
from keras_unetres.training.supervision import FirstHead, SupervisedLoss, add_side_heads
from unetres_edge.errors import Stopped, TrainingError, UsageError

# Masks here hold one class of four, which a metric says.
pytestmark = pytest.mark.filterwarnings("ignore:miou. no pixel of class:UserWarning")

CLASSES = 4


def make_images() -> np.ndarray:
    """Logits (3, 6, 7, 4)."""
    return np.random.default_rng(0).normal(0, 2, (3, 6, 7, CLASSES)).astype(np.float32)


@pytest.fixture
def pointwise() -> keras.Model:
    """A 1 x 1 convolution that passes its input on, compiled with a loss and a metric."""
    model = keras.Sequential([keras.Input((None, None, CLASSES)), keras.layers.Conv2D(CLASSES, 1, name="only")])
    model.compile(keras.optimizers.SGD(0.1), loss=CrossEntropy(), metrics=[MeanIoU(CLASSES)])
    model.set_weights([np.eye(CLASSES, dtype=np.float32)[None, None], np.zeros(CLASSES, np.float32)])
    return model


# ----------------------------------------------------------------------------------------------------------- the plan


def test_the_rate_warms_up_and_falls_as_a_cosine() -> None:
    plan = Plan(epochs=10, steps_per_epoch=11, validate_every=3, warmup_steps=10, learning_rate=0.5)
    assert plan.steps == 110
    rates = [plan.rate(step) for step in range(plan.steps)]
    np.testing.assert_allclose(rates[:10], [0.05 * n for n in range(1, 11)])
    assert rates[10] == 0.5
    np.testing.assert_allclose(rates[10:], 0.25 + 0.25 * np.cos(np.pi * np.arange(100) / 100), rtol=1e-12)
    assert 0 < rates[-1] < 0.001
    assert plan.rate(110) == plan.rate(1000) == 0
    assert Plan(**plan.to_dict()) == plan


def test_other_schedules() -> None:
    poly = Plan(epochs=1, steps_per_epoch=100, validate_every=1, warmup_steps=0, learning_rate=2.0, schedule="poly")
    np.testing.assert_allclose([poly.rate(n) for n in (0, 50, 100)], [2, 2 * 0.5**0.9, 0])
    flat = Plan(epochs=1, steps_per_epoch=100, validate_every=1, warmup_steps=4, learning_rate=2.0, schedule="constant")
    np.testing.assert_allclose([flat.rate(n) for n in (0, 3, 4, 99)], [0.5, 2, 2, 2])
    assert make_plan(50, 0.1, epochs=4, warmup=7, schedule="poly").warmup_steps == 7
    assert make_plan(5, 0.1, epochs=1, warmup=70).warmup_steps == 5


@pytest.mark.parametrize(
    ("epochs", "every", "expected"),
    [(10, 3, [3, 6, 9, 10]), (10, 5, [5, 10]), (1, 1, [1]), (3, 1, [1, 2, 3]), (7, 7, [7]), (2, 9, [2])],
)
def test_the_last_epoch_always_validates(epochs: int, every: int, expected: list[int]) -> None:
    plan = Plan(epochs, 5, every, 1, 0.1)
    assert [epoch for epoch in range(epochs + 2) if plan.validates(epoch)] == expected
    asked = fitting._ValidationEpochs(plan)
    assert [epoch for epoch in range(epochs + 2) if epoch in asked] == expected
    assert [plan.validations(first) for first in range(1, epochs + 2)] == [
        sum(epoch >= first for epoch in expected) for first in range(1, epochs + 2)
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"epochs": 10**30},
        {"validate_every": 0},
        {"steps_per_epoch": -1},
        {"warmup_steps": -1},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"learning_rate": 0.0},
    ],
    ids=str,
)
def test_a_plan_has_numbers_that_can_be_meant(wrong: dict[str, float]) -> None:
    good = {"epochs": 2, "steps_per_epoch": 3, "validate_every": 1, "warmup_steps": 0, "learning_rate": 0.1}
    Plan(**good)
    with pytest.raises(ValueError, match="a plan"):
        Plan(**{**good, **wrong})


def test_ten_million_epochs_cost_no_more_than_ten() -> None:
    plan = Plan(10**7, 10, 3, 0, 0.1)
    start = time.process_time()
    asked = fitting._ValidationEpochs(plan)
    assert sum(epoch in asked for epoch in range(1, 10_000)) == 3333
    assert plan.validations() == 3_333_334
    assert time.process_time() - start < 1


def test_validation_takes_a_small_share() -> None:
    plan = make_plan(50, 0.1, epochs=100, step_seconds=0.2, validation_seconds=4.0)
    assert (plan.validate_every, plan.warmup_steps, plan.steps) == (5, 100, 5000)
    assert plan.validations() * 4.0 <= 0.09 * plan.steps * 0.2
    assert make_plan(50, 0.1, epochs=100).validate_every == 1
    assert make_plan(1, 0.1, epochs=2, step_seconds=0.01, validation_seconds=9.0).validate_every == 2
    assert make_plan(5, 0.1, epochs=1).warmup_steps == 1


@pytest.mark.parametrize("seconds", [20.0, 100.0, 3600.0])
@pytest.mark.parametrize("step", [0.01, 0.3, 2.0])
@pytest.mark.parametrize("validation", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("per_epoch", [1, 7, 400])
def test_a_timed_plan_fits_its_budget_and_uses_it(
    seconds: float, step: float, validation: float, per_epoch: int
) -> None:
    plan = make_timed_plan(per_epoch, 0.1, seconds=seconds, step_seconds=step, validation_seconds=validation)
    planned = plan.steps * step + plan.validations() * validation
    assert planned <= seconds + validation  # the last epoch validates in any case
    assert plan.steps_per_epoch <= per_epoch
    assert planned >= 0.9 * seconds - plan.steps_per_epoch * step


@pytest.mark.parametrize("seconds", [0.0, -5.0, 0.5])
def test_a_budget_already_spent_still_makes_a_step(seconds: float) -> None:
    plan = make_timed_plan(9, 0.1, seconds=seconds, step_seconds=1.0, validation_seconds=1.0)
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
    fit_pointwise(pointwise, make_images(), LearningRate(lambda step: 0.5**step, 2), spy)
    np.testing.assert_allclose(used, [0.5**step for step in range(2, 8)])


def test_what_goes_with_the_average_is_asked_for_validations_alone(pointwise: keras.Model) -> None:
    asked = []

    @contextlib.contextmanager
    def statistics() -> Iterator[None]:
        asked.append("in")
        yield
        asked.append("out")

    images, masks = make_images(), np.zeros((3, 6, 7), np.int32)
    seen = AfterEpoch(lambda epoch, figures: asked.append(epoch) or False)
    pointwise.fit(
        images,
        masks,
        validation_data=(images, masks),
        validation_freq=2,
        epochs=3,
        verbose=0,
        callbacks=[Averaged([seen], statistics)],
    )
    assert asked == [1, "in", 2, "out", 3]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_training_at_its_step(pointwise: keras.Model, value: float) -> None:
    images = make_images()
    steps = []
    spy = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
    fit_pointwise(pointwise, images, StopNonFinite(), spy)
    assert steps == [0, 1, 2] * 2
    images[1, 2, 2] = value
    names = [["a.png"], ["b.png", "c.png", "b.png"], ["d.png"]]
    named = r"the loss is (nan|inf) in epoch 1, step 2; .*batch: b\.png, c\.png; .*lower --learning-rate"
    with pytest.raises(TrainingError, match=named):
        fit_pointwise(pointwise, images, spy, StopNonFinite(names.__getitem__))
    assert steps == [0, 1, 2] * 2 + [0, 1]


def test_keep_best_keeps_what_is_better_and_finite() -> None:
    kept = []
    writer = KeepBest(lambda epoch, score: kept.append((epoch, score)), best=0.2, tolerance=0.0)
    for epoch, score in enumerate([0.1, None, 0.3, 0.3, math.nan, 0.25, 0.5]):
        writer.on_epoch_end(epoch, {"loss": 1.0} if score is None else {"val_miou": score})
    writer.on_epoch_end(9, None)
    assert kept == [(3, 0.3), (4, 0.3), (7, 0.5)]
    assert writer.best == 0.5


def test_of_equally_good_epochs_the_latest_is_kept() -> None:
    kept = []
    writer = KeepBest(lambda epoch, score: kept.append((epoch, score)), tolerance=0.01)
    for epoch, score in enumerate([0.5, 0.495, 0.489, 0.6, 0.593, 0.591, 0.589]):
        writer.on_epoch_end(epoch, {"val_miou": score})
    assert kept == [(1, 0.5), (2, 0.495), (4, 0.6), (5, 0.593), (6, 0.591)]  # measured from the highest, so no drift
    assert writer.best == 0.6


def test_after_epoch_hands_on_the_figures_and_may_end_training(pointwise: keras.Model) -> None:
    told = []

    def record(epoch: int, figures: dict[str, float]) -> bool:
        told.append((epoch, figures))
        return epoch == 2

    fit_pointwise(pointwise, make_images(), LearningRate(lambda step: 0.5**step), AfterEpoch(record), epochs=5)
    assert [epoch for epoch, _ in told] == [1, 2]
    assert all(set(figures) == {"loss", "miou", "learning_rate"} for _, figures in told)
    assert [figures["learning_rate"] for _, figures in told] == [0.5**2, 0.5**5]
    assert all(type(value) is float for _, figures in told for value in figures.values())


@pytest.mark.slow
def test_frozen_norms_train_as_they_answer() -> None:
    """Two kinds of images, one in a batch: what training sees is what inference sees from the frozen epoch on."""
    model = build_unet((8, 8, 1), filters=2, depth=1)
    rng = np.random.default_rng(0)
    images = rng.random((8, 8, 8, 1), np.float32) + np.repeat([0, 5], 4)[:, None, None, None].astype(np.float32)
    masks = (images[..., 0] % 1 > 0.5).astype(np.int32)
    model.compile(keras.optimizers.SGD(0.0), loss=CrossEntropy())
    norm = next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    means = []
    spy = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: means.append(np.array(norm.moving_mean)))
    losses = model.fit(
        images, masks, batch_size=4, epochs=4, shuffle=False, verbose=0, callbacks=[FreezeNorm(2), spy]
    ).history["loss"]
    answered = model.evaluate(images, masks, batch_size=4, verbose=0)
    assert losses[2] == losses[3] == pytest.approx(answered, rel=1e-5)
    assert abs(losses[1] - answered) > 1e-3
    assert not np.array_equal(means[0], means[1])
    np.testing.assert_array_equal(means[1], means[3])
    model.optimizer.learning_rate = 0.1
    before = np.array(norm.gamma)
    model.fit(images, masks, epochs=1, verbose=0)
    assert not np.array_equal(np.array(norm.gamma), before)


@pytest.mark.slow
def test_the_probe_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_unet((8, 8, 1), filters=2, depth=1, dropout=0.5)
    fitting.compile_model(model, CrossEntropy() + Dice(), [MeanIoU(2)])
    rng = np.random.default_rng(0)
    images, masks = rng.random((8, 8, 8, 1), np.float32), rng.integers(0, 2, (8, 8, 8)).astype(np.int32)
    data = tf.data.Dataset.from_tensor_slices((images, masks)).batch(2, drop_remainder=True)
    variables = state_variables(model)
    assert "model/seed_0" in variables
    assert any("velocity" in name for name in variables)
    before = arrays(variables)
    trained = []
    monkeypatch.setattr(model, "fit", watch(model.fit, lambda: trained.append(np.array(model.weights[0]))))
    step, validation = fitting.probe_speed(model, data.repeat(), data, 0.01)
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
    fitting.compile_model(model, CrossEntropy() + Dice(), [MeanIoU(2)])
    model.optimizer.learning_rate = 1.0
    before = {v.path: np.array(v) for v in model.trainable_variables}
    model.optimizer.apply([np.zeros(v.shape, np.float32) for v in model.trainable_variables])
    moved = {v.path for v in model.trainable_variables if not np.array_equal(np.array(v), before[v.path])}
    assert moved == {path for path in before if path.endswith("kernel")}


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_average_is_put_in_place_and_taken_out_again(name: str) -> None:
    model = build_unet((8, 8, 1), filters=1, depth=1)
    fitting.compile_model(model, CrossEntropy(), [MeanIoU(2)], fitting.make_optimizer(name, ema=0.75))
    kernel = model.trainable_variables[0]
    seen = []
    model.optimizer.learning_rate = 0.1
    rng = np.random.default_rng(0)
    for _ in range(5):
        model.optimizer.apply([rng.normal(size=v.shape).astype(np.float32) for v in model.trainable_variables])
        seen.append(np.array(kernel))
    expected = seen[0]
    for value in seen[1:]:
        expected = 0.75 * expected + 0.25 * value
    before = arrays(state_variables(model))
    with averaged(model):
        np.testing.assert_allclose(np.asarray(kernel), expected, rtol=1e-5, atol=1e-7)
        assert not np.allclose(np.asarray(kernel), seen[-1])
    for path, value in arrays(state_variables(model)).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)


def test_without_an_average_nothing_is_put_in_place(pointwise: keras.Model) -> None:
    before = np.array(pointwise.weights[0])
    with averaged(pointwise):
        np.testing.assert_array_equal(np.asarray(pointwise.weights[0]), before)


def test_an_unknown_optimizer_is_named() -> None:
    with pytest.raises(UsageError, match="optimizer.*adamw or sgd.*lion"):
        fitting.make_optimizer("lion")


def test_side_heads_share_the_network_and_come_after_its_scores() -> None:
    model = build_unet((32, 32, 1), num_classes=3, filters=2, depth=3)
    joined = add_side_heads(model, 3)
    image = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype(np.float32)
    scores = np.asarray(joined(image))
    assert scores.shape == (2, 32, 32, 9)
    np.testing.assert_array_equal(scores[..., :3], np.asarray(model(image)))
    assert {v.path for v in model.weights} < {v.path for v in joined.weights}
    masks = np.random.default_rng(1).integers(0, 3, (2, 32, 32)).astype(np.int32)
    plain = [float(CrossEntropy()(masks, scores[..., 3 * n : 3 * n + 3])) for n in range(3)]
    expected = (plain[0] + plain[1] / 2 + plain[2] / 4) / 1.75
    assert float(SupervisedLoss(CrossEntropy(), 3)(masks, scores)) == pytest.approx(expected, rel=1e-6)
    metric, first = MeanIoU(3), FirstHead(MeanIoU(3), 3)
    metric.update_state(masks, scores[..., :3])
    first.update_state(masks, scores)
    assert float(first.result()) == float(metric.result()) > 0
    first.reset_state()
    assert float(first.result()) == 0
    with pytest.raises(UsageError, match="deep supervision"):
        add_side_heads(build_unet((32, 32, 1), filters=2, depth=1), 2)


def test_a_supervised_loss_is_restored_from_its_configuration() -> None:
    loss = keras.losses.deserialize(keras.losses.serialize(SupervisedLoss(Dice(), 3)))
    assert isinstance(loss.loss, Dice)
    assert loss.num_classes == 3


# --------------------------------------------------------------------------------------------- stop, keep, and go on


def test_training_is_stalled_when_nothing_gets_better() -> None:
    rows = [{"val_miou": score} for score in (0.1, 0.3, 0.2, 0.3)]
    assert not is_stalled(rows[:3], "val_miou", 2)
    assert is_stalled(rows, "val_miou", 2)  # as good is not better
    assert not is_stalled([*rows, {"loss": 1.0}, {"val_miou": 0.31}], "val_miou", 2)
    assert not is_stalled([], "val_miou", 1)


GRAPH = Compilation("float32", False)


def make_run(
    folder: Path,
    *,
    stop_at: int | None = None,
    seconds: float = 0.0,
    patience: int | None = None,
    ema: float = 0.9,
    way: Compilation = GRAPH,
) -> CheckpointWriter:
    """Train a U-Net with dropout for 3 epochs of 4 steps into a folder, from wherever it stands."""
    keras.utils.set_random_seed(7)
    with precision_policy(way.precision):
        model = build_unet((8, 8, 1), filters=2, depth=2, dropout=0.5)
        trained = add_side_heads(model, 2)
    loss, metric = SupervisedLoss(CrossEntropy() + Dice(), 2), FirstHead(MeanIoU(2), 2)
    fitting.compile_model(trained, loss, [metric], fitting.make_optimizer(ema=ema), xla=bool(way.jit_compile))
    if way.fused_norm:
        fuse_norms(trained)
    plan = make_plan(4, 0.01, epochs=3)
    run = RunFolder(folder)
    for path in (folder, folder / "checkpoints"):
        path.mkdir(exist_ok=True)
    writer = CheckpointWriter(
        run, trained, metrics=[metric], weights=model, plan=plan, monitor="val_miou", patience=patience
    )
    first = writer.restore()
    stop = StopRequest(lambda line: None)

    class Press(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            if int(np.asarray(trained.optimizer.iterations)) == stop_at:
                stop.signal = signal.SIGTERM

    rng = np.random.default_rng(3)
    images, masks = rng.random((24, 8, 8, 1), np.float32), rng.integers(0, 2, (24, 8, 8)).astype(np.int32)
    batches = tf.data.Dataset.from_tensor_slices((images, masks)).batch(2, drop_remainder=True)
    callbacks = [
        FreezeNorm(2),
        LearningRate(plan.rate, first),
        Press(),
        *writer.callbacks(first_step=first, seconds=seconds, stop=stop),
    ]
    if not writer.finished:
        fitting.fit(trained, plan, batches.skip, batches.take(2), callbacks, first_step=first)
    return writer


FILES = ("weights.safetensors", "history.csv", "checkpoints/last.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> CheckpointWriter:
    """A training that nothing has disturbed."""
    return make_run(tmp_path_factory.mktemp("whole") / "run", seconds=1e9)


@pytest.mark.parametrize(
    "stop_at",
    [pytest.param(5, marks=pytest.mark.slow), *(pytest.param(n, marks=pytest.mark.long) for n in (1, 3, 4, 8, 11))],
)
def test_a_stop_at_any_step_loses_nothing(whole: CheckpointWriter, tmp_path: Path, stop_at: int) -> None:
    assert whole.finished
    with pytest.raises(Stopped) as stopped:
        make_run(tmp_path / "run", stop_at=stop_at, seconds=1e9)
    assert stopped.value.exit_code == 143
    checkpoint = RunFolder(tmp_path / "run").read_checkpoint()
    assert checkpoint is not None
    assert checkpoint[1]["step"] == stop_at
    again = make_run(tmp_path / "run", seconds=1e9)
    assert again.history == whole.history
    for name in FILES:
        assert (tmp_path / "run" / name).read_bytes() == (whole._run.path / name).read_bytes(), name


# A low precision with each way of computing steps; the same two ways in float32 are left to the long tests.
@pytest.mark.parametrize(
    "way",
    [
        pytest.param(Compilation("mixed_bfloat16", False, fused_norm=True), marks=pytest.mark.slow),
        pytest.param(Compilation("mixed_float16", True), marks=pytest.mark.slow),
        pytest.param(Compilation("float32", False, fused_norm=True), marks=pytest.mark.long),
        pytest.param(Compilation("float32", True), marks=pytest.mark.long),
    ],
    ids=lambda way: way.name,
)
def test_a_stop_loses_nothing_however_steps_are_computed(way: Compilation, tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole", way=way, seconds=1e9)
    with pytest.raises(Stopped):
        make_run(tmp_path / "run", way=way, stop_at=5, seconds=1e9)
    assert make_run(tmp_path / "run", way=way, seconds=1e9).history == whole.history
    for name in FILES:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.slow
def test_a_stop_in_the_last_step_ends_as_planned(tmp_path: Path) -> None:
    assert make_run(tmp_path / "run", stop_at=12).finished


@pytest.mark.slow
def test_patience_ends_training_for_good(tmp_path: Path) -> None:
    writer = make_run(tmp_path / "run", patience=1)
    scores = [row["val_miou"] for row in writer.history]
    expected = next((n + 1 for n in range(1, 3) if scores[n] <= max(scores[:n])), 3)
    assert len(scores) == expected
    again = make_run(tmp_path / "run", patience=1)
    assert again.finished
    assert again.history == writer.history


@pytest.mark.slow
def test_weights_that_are_not_finite_are_never_written(whole: CheckpointWriter, tmp_path: Path) -> None:
    shutil.copytree(whole._run.path, tmp_path / "run")
    writer = make_run(tmp_path / "run")  # which is at its end, and has its weights
    before = {name: (tmp_path / "run" / name).read_bytes() for name in FILES}
    kernel = writer._model.trainable_variables[0]
    kernel.assign(np.full(kernel.shape, np.nan, np.float32))
    for write in (lambda: writer._save(13, True), lambda: writer._keep_best(4, 0.9)):
        with pytest.raises(TrainingError, match="not finite.*last good weights"):
            write()
    assert before == {name: (tmp_path / "run" / name).read_bytes() for name in FILES}


def test_the_first_signal_is_noted_and_the_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    lines: list[str] = []
    stop = StopRequest(lines.append)
    with stop.listening():
        assert stop.signal == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        assert lines == ["stopping after this step (or validation); once more to stop at once"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
