"""One stretch of training, in the order in which it happens: from where a run stands to its end, or to a stop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from unetres_edge.errors import Fix, TrainingError

from ..models import assign
from ..runs import Compilation, Plan, RunFolder, Speed, too_few_steps
from ..settings import EPOCHS
from . import compilation as compiling
from . import fit as fitting
from .callbacks import FreezeNorm, LearningRate, StopNonFinite
from .checkpoints import CheckpointWriter
from .deadline import Deadline
from .depthwise import widen_depthwise
from .devices import Devices
from .distillation import DistilledLoss, add_teachers
from .fused_norm import fuse_norms
from .precise_norm import PreciseStatistics
from .progress import Progress
from .schedule import make_plan, make_timed_plan
from .state import norm_layers
from .step_times import StepTimes
from .stopping import StopRequest
from .supervision import FirstHead, SupervisedLoss, add_side_heads
from .training_data import TrainingData

_FORWARD_SHARE = 1 / 3  # of the time of a training step that the forward pass takes, roughly
_PROBE_SECONDS, _PROBE_SHARE = 6.0, 0.02  # that training steps are timed for, the lesser; the share of --minutes
_NORM_CROPS, _NORM_SHARE = (16, 64), 1 / 8  # by which BatchNormalization's statistics are measured; of an epoch's
_RESERVE = 10.0  # seconds of a --minutes budget kept for pictures
_TITLES = {"miou": "mIoU"}


def train_run(
    run: RunFolder,
    data: TrainingData,
    devices: Devices,
    begun: float,
    say: Callable[[str], None],
    *,
    until: Callable[[Plan], int] | None = None,
    minutes: float | None = None,
) -> dict[str, Any]:
    """Train from the last checkpoint of a run, or from its start, to its end.

    Args:
        run: the folder, locked, with its `run.json`.
        data: ready for the network.
        devices: the devices to train on.
        begun: time at which the command was given, by `time.perf_counter`.
        say: callback for lines to the user.
        until: plan -> the epoch after which it is left, to be gone on with later; None to train to its end.
        minutes: since `begun`, that a run which is gone on with is held to; one that begins is held to its own.

    Returns:
        As `keras_unetres.train`.

    Raises:
        TrainingError: the loss became NaN or infinite, or no epoch gave a valid score.
        Stopped: a stop was asked for; a checkpoint is written.
    """
    task, fit = data.task, data.settings.fit
    compilation = _choose_compilation(data, devices, say)
    devices.check_same(repr(compilation), "how steps are computed; --precision and --compile choose it")
    stop = StopRequest(say)
    say(f"device    {compiling.describe_device(compilation, fit.devices)}")
    with compiling.precision_policy(compilation.precision), stop.listening(), devices.guard(), fitting.named_memory():
        model = _build(data, devices, say)
        trained, metrics = _compile(model, data, devices, compilation)
        validation = data.validation_batches()

        plan, deadline = data.info.plan, None
        if plan is None:
            minutes = fit.minutes
            plan, speed = _make_plan(trained, data, validation, devices, begun, say)
            data = replace(data, info=replace(data.info, plan=plan, speed=speed, compilation=compilation))
            if devices.is_chief:
                run.write_info(data.info)
        if minutes is not None and until is None:
            deadline = Deadline(plan, begun, begun + 60 * minutes - _RESERVE)

        drawing = task.callbacks(data, run, model) if devices.is_chief else []
        session = _Session(run, model, trained, metrics, validation, drawing, devices, stop, say)
        if until is not None:
            writer = session.follow(data, None, until(plan))
            return figures_of(run, plan, writer.best, begun, task.monitor)
        writer = session.follow(data, deadline)
        while deadline is not None and deadline.changed is not None:
            data = replace(data, info=replace(data.info, plan=deadline.go_on(say)))
            if devices.is_chief:
                run.write_info(data.info)
            writer = session.follow(data, deadline)

        if writer.best < 0:
            raise TrainingError("no epoch gave a valid score", file=run.path, fix="look at history.csv")
        if devices.is_chief:
            model = _in_float32(model, data, compilation)
            assign({v.path: v for v in model.weights}, run.read_weights())
            task.finish(data, run, model, writer.history, say)
    return told(run, data, data.info.plan or plan, writer.best, writer.best_epoch, begun, say)


@dataclass(frozen=True)
class _Session:
    """What stays the same while the plans of a run are followed, of which a deadline may give another one."""

    run: RunFolder
    model: keras.Model
    trained: keras.Model
    metrics: list[keras.metrics.Metric]
    validation: Any
    drawing: list[keras.callbacks.Callback]
    devices: Devices
    stop: StopRequest
    say: Callable[[str], None]

    def follow(self, data: TrainingData, deadline: Deadline | None, end: int | None = None) -> CheckpointWriter:
        """Train from the last checkpoint to the end of the plan, or to an epoch, or to where it is changed."""
        run, devices, say, fit = self.run, self.devices, self.say, data.settings.fit
        plan, quantized = data.info.plan, data.info.quantized
        assert plan is not None
        writer = CheckpointWriter(
            run,
            self.trained,
            metrics=self.metrics,
            weights=self.model,
            plan=plan,
            monitor=data.task.monitor,
            patience=fit.patience,
            devices=devices,
            tolerance=0.0 if quantized else None,
            statistics=_statistics(self.trained, data),
        )
        if quantized and run.read_checkpoint() is None:
            writer.keep_start(_score(self.trained, data, self.validation, devices, say))
        done = writer.restore()
        devices.check_same(repr((done, writer.history)), "the checkpoint that they go on from")
        if done and deadline is None:
            say(f"resume    after step {done} of {plan.steps} (epoch {done // plan.steps_per_epoch})")
        say(f"plan      {plan.describe(fit.batch_size)}")
        if writer.finished or (end or plan.epochs) * plan.steps_per_epoch <= done:
            return writer

        writing = writer.callbacks(
            first_step=done,
            seconds=fit.checkpoint_seconds,
            stop=self.stop,
            pictures=self.drawing,
            last_epoch=end,
        )
        progress = _progress(plan, fit.batch_size, done, writer, say)
        self.stop.say = progress.say
        *keeping, checkpoints = writing
        ending = [] if deadline is None else [deadline]
        with _say_how_to_go_on(run, data, say), contextlib.closing(progress):
            fitting.fit(
                self.trained,
                plan,
                lambda first: devices.spread(data.batches(first, plan.steps, devices.shard)),
                devices.spread(self.validation, whole=True),
                # Progress comes after those that keep weights, of which it tells, and before that which stops.
                [*_watching(plan, data, done), *keeping, *ending, progress, checkpoints],
                first_step=done,
                validation_steps=int(self.validation.cardinality()),
                last_epoch=end,
            )
        return writer


def _in_float32(model: keras.Model, data: TrainingData, compilation: Compilation) -> keras.Model:
    """Return the network as export and evaluation will build it; its weights are still to be set."""
    if compilation.precision in (None, "float32"):
        return model
    with compiling.precision_policy("float32"):
        return data.task.build_network(data.info)


def told(
    run: RunFolder,
    data: TrainingData,
    plan: Plan,
    best: float,
    best_epoch: int,
    begun: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Say how a training ended, and return it as values."""
    values = figures_of(run, plan, best, begun, data.task.monitor)
    name = data.task.monitor.removeprefix("val_")
    score = f"{_TITLES.get(name, name)} {best:.4f} (epoch {best_epoch})"
    say(f"best      validation {score}, after {values['seconds'] / 60:.1f} min, in {run.path}")
    return values


def figures_of(run: RunFolder, plan: Plan, best: float, begun: float, monitor: str) -> dict[str, Any]:
    """Return what `keras_unetres.train` returns."""
    return {
        "run": str(run.path),
        f"best_{monitor.removeprefix('val_')}": best,
        "epochs": plan.epochs,
        "steps": plan.steps,
        "seconds": round(time.perf_counter() - begun, 1),
    }


def _choose_compilation(data: TrainingData, devices: Devices, say: Callable[[str], None]) -> Compilation:
    """Return how steps are computed: as `run.json` says; else by the settings, the processor and, given time, trials.

    Fake quantization computes in float32, as its int8 file is compared with that.
    """
    info, fit, several = data.info, data.settings.fit, not devices.xla
    if info.compress or info.plan is not None:
        return compiling.as_before(info.compilation, several=several, mixed=not info.quantized)
    if info.compilation.precision is not None:  # the plan tried them
        return info.compilation
    ways = compiling.candidates(compiling.find_processor(several=several), fit)
    seconds = compiling.trial_seconds(fit.minutes, ways)
    if not seconds:
        return ways[0]
    say(f"compile   trying {' and '.join(way.name for way in ways)} ...")
    chosen = compiling.try_ways(ways, lambda way: make_step(data, devices, way), StepTimes(seconds))
    if chosen.tried:
        say(f"tried     {compiling.describe_tried(chosen.tried)} a step")
    return chosen


def make_step(data: TrainingData, devices: Devices, way: Compilation) -> Callable[[], float]:
    """Return a function that measures the training step of a network of its own, computed in a certain way."""
    with compiling.precision_policy(way.precision):
        model = _build(data, devices, lambda line: None)
        trained, _ = _compile(model, data, devices, way)
    batches = data.batches(0, 1 << 40, devices.shard)
    return fitting.timed_step(trained, batches)


def _build(data: TrainingData, devices: Devices, say: Callable[[str], None]) -> keras.Model:
    """Return the network with the weights that it starts from."""
    keras.utils.set_random_seed(data.settings.fit.seed)
    model = devices.build(lambda: data.task.build_network(data.info))
    for variable in model.weights:
        if variable.path in data.initial:
            variable.assign(data.initial[variable.path])
    encoder, weights = data.info.model.arguments.get("encoder"), data.settings.network.start_weights
    on = f" on {encoder}" * bool(encoder) + f" ({weights})" * bool(weights)
    number = model.count_params()
    size = f"{number / 1e6:.2f} M" if number >= 1e5 else f"{number:,}"
    say(f"model     {model.name}{on}, {size} parameters")
    return model


def _compile(
    model: keras.Model, data: TrainingData, devices: Devices, compilation: Compilation
) -> tuple[keras.Model, list[keras.metrics.Metric]]:
    """Return the model that is trained, with side heads or teachers where there are some, and its metrics."""
    fit, num_classes = data.settings.fit, model.output_shape[-1]
    trained = devices.build(lambda: add_side_heads(model, num_classes)) if fit.deep_supervision else model
    if data.teachers is not None:
        trained = add_teachers(trained, data.teachers)
    trained = devices.replicate(trained)
    with devices.scope():
        loss, metrics = data.task.loss(data.settings), data.task.metrics(data.info.classes.names)
        if fit.deep_supervision:
            loss, metrics = SupervisedLoss(loss, num_classes), [FirstHead(m, num_classes) for m in metrics]
        if data.teachers is not None:
            loss = DistilledLoss(loss, num_classes, data.teachers.temperature, data.teachers.share)
            metrics = [FirstHead(m, num_classes) for m in metrics]
        optimizer = fitting.make_optimizer(
            fit.optimizer, weight_decay=fit.weight_decay, clip_norm=fit.clip_norm, ema=fit.ema or None
        )
        fitting.compile_model(trained, loss, metrics, optimizer, xla=bool(compilation.jit_compile))
    if compilation.fused_norm:
        fuse_norms(trained)
    if compilation.wide_depthwise:
        widen_depthwise(trained)
    return trained, metrics


def _statistics(trained: keras.Model, data: TrainingData) -> Callable[[], AbstractContextManager[None]]:
    """Return a context in which BatchNormalization has the statistics that validate, and that are kept."""
    if not _measures_norms(trained, data):
        return contextlib.nullcontext
    count, batch_size = len(data.calibration), data.settings.fit.batch_size
    crops = data.calibration[np.linspace(0, count - 1, min(count, _norm_crops(data))).astype(int)]
    return PreciseStatistics(trained, crops, data.info.preprocessing.normalise, batch_size).in_place


def _norm_crops(data: TrainingData) -> int:
    return int(np.clip(_NORM_SHARE * data.steps_per_epoch * data.settings.fit.batch_size, *_NORM_CROPS))


def _measures_norms(trained: keras.Model, data: TrainingData) -> bool:
    fit = data.settings.fit
    return fit.norm_statistics == "precise" and not fit.freeze_norm and bool(norm_layers(trained))


def _make_plan(
    trained: keras.Model,
    data: TrainingData,
    validation: Any,
    devices: Devices,
    begun: float,
    say: Callable[[str], None],
) -> tuple[Plan, Speed | None]:
    """Return the plan, and the speed if it was measured, which only a time budget needs."""
    fit, per_epoch = data.settings.fit, data.steps_per_epoch
    norm_batches = _norm_crops(data) / fit.batch_size if _measures_norms(trained, data) else 0.0
    if fit.minutes is None:
        # Nothing measured goes into this plan, so the same command gives the same weights.
        return make_plan(
            per_epoch,
            fit.peak_rate,
            epochs=fit.epochs or EPOCHS,
            schedule=fit.schedule,
            warmup=fit.warmup,
            validation_seconds=(int(validation.cardinality()) + norm_batches) * _FORWARD_SHARE,
        ), None
    say("compile   ...")
    batches = devices.spread(data.batches(0, 1 << 40, devices.shard))
    probing = min(_PROBE_SECONDS, _PROBE_SHARE * 60 * fit.minutes)
    step, whole_validation = fitting.probe_speed(trained, batches, devices.spread(validation, whole=True), probing)
    say(f"speed     {step:.3f} s a step, {whole_validation:.1f} s a validation")
    plan = make_timed_plan(
        per_epoch,
        fit.peak_rate,
        seconds=60 * fit.minutes - (time.perf_counter() - begun) - _RESERVE,
        schedule=fit.schedule,
        warmup=fit.warmup,
        step_seconds=step,
        validation_seconds=whole_validation + norm_batches * _FORWARD_SHARE * step,
    )
    warning = too_few_steps(fit.minutes, plan.steps)
    if warning is not None:
        say(f"warning   {warning}")
    return plan, Speed(round(step, 4), round(whole_validation, 3))


def _score(
    trained: keras.Model, data: TrainingData, validation: Any, devices: Devices, say: Callable[[str], None]
) -> float:
    """Return the score of the weights that training starts with."""
    logs = trained.evaluate(devices.spread(validation, whole=True), verbose=0, return_dict=True)
    score = float(logs[data.task.monitor.removeprefix("val_")])
    say(f"start     validation {score:.4f}, before any training")
    return score


def _watching(plan: Plan, data: TrainingData, done: int) -> list[keras.callbacks.Callback]:
    """Return the callbacks that set what changes from step to step, and look at the loss."""
    callbacks: list[keras.callbacks.Callback] = [LearningRate(plan.rate, done), StopNonFinite(data.order.names, done)]
    share = data.settings.fit.freeze_norm
    if share:
        last = max(1, round(share * plan.epochs))
        callbacks.insert(0, FreezeNorm(max(1, plan.epochs - last)))  # the first one gathers the statistics
    return callbacks


def _progress(plan: Plan, batch: int, done: int, writer: CheckpointWriter, say: Callable[[str], None]) -> Progress:
    return Progress(
        plan.epochs,
        plan.steps_per_epoch,
        batch,
        done // plan.steps_per_epoch,
        say,
        validations=plan.validations,
        kept=lambda: writer.best_epoch,
    )


@contextlib.contextmanager
def _say_how_to_go_on(run: RunFolder, data: TrainingData, say: Callable[[str], None]) -> Iterator[None]:
    """Say, where training is stopped, how to go on; raise what the data was stopped by as it was raised."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"stopped; go on with: {run.resumed_by}")
        raise
    except Exception:
        fault = data.fault
        if fault is None:
            raise
        fault.remedy = Fix(f"restore it, and go on with: {run.resumed_by}")
        raise fault from None
