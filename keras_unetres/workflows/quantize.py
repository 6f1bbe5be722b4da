"""`unetres quantize`: from a run to a run whose network was trained on as its int8 file computes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.errors import RunFolderError, UsageError
from unetres_edge.images.preprocessing import look_up

from ..runs import Compression, Engine, Plan, RunFolder, RunInfo
from ..settings import QUANTIZE_EPOCHS, QuantizeSettings, TrainSettings
from ..tasks import TASKS
from ..tasks.loading import QUANTIZE_AWARE, load_run, package_versions
from ..tasks.reading import read_again

if TYPE_CHECKING:
    import keras

    from ..data import Dataset
    from ..quantization import Folded
    from ..training.training_data import TrainingData

_PROBED = 4  # steps that are timed
_RANGES_FROM = 64  # calibration crops


def quantize(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | Dataset | None = None,
    engine: str = QuantizeSettings.engine,
    ranges: str = QuantizeSettings.ranges,
    keep_zeros: bool = QuantizeSettings.keep_zeros,
    epochs: int | None = None,
    minutes: float | None = None,
    learning_rate: float = QuantizeSettings.learning_rate,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train the network of a run on with fake quantization, and write it as a run of its own.

    What is validated, kept and scored is what the int8 file will compute; the quantized network before any training
    counts as a candidate for the weights that are kept. `unetres train --resume OUT` goes on after a stop (not with the
    engine "tfmot").

    Args:
        source: a run folder; it is not changed.
        out: the run folder to make.
        data: where the data set of the run is now; None for where it was.
        engine: "native" or "tfmot", see `keras_unetres.quantization.quantize_aware`.
        ranges: how ranges are found, see `keras_unetres.quantization.find_ranges`.
        keep_zeros: weights that are 0 stay 0.
        epochs: passes over the data; 5 if `minutes` is not given either.
        minutes: wall-clock budget instead of `epochs`.
        learning_rate: peak of the schedule.
        overwrite: replace an earlier run folder.
        say: called with lines for the user.

    Returns:
        As `train`.

    Raises:
        UsageError: a layer has no int8 form, it is named; or unknown settings. Nothing was written.
        RunFolderError: not a run, one that is quantized already, or its data changed.
    """
    from ..quantization import ENGINES, build_native, find_ranges, fold, set_ranges
    from ..training.devices import find_devices
    from ..training.trainer import train_run

    begun = time.perf_counter()
    if engine not in ENGINES:
        raise UsageError("the engine is unknown", expected=" or ".join(ENGINES), found=engine)
    if not overwrite:
        RunFolder.check_new(out)
    if os.path.realpath(source) == os.path.realpath(out):
        raise UsageError("a run cannot be written over itself", file=out, fix="choose another --out")
    run = RunFolder(source)
    info = run.read_info()
    if info.compress:
        raise RunFolderError("the run is quantized already", file=source, fix="name the run that it was made from")
    model = load_run(source).model
    folded = fold(model)  # refuses what has no int8 form before the data is read
    settings = _settings(info, source, epochs, minutes, learning_rate)
    pre = info.preprocessing
    found = read_again(TASKS[info.task], info, data, settings, say, pre)
    crops = run.read_calibration()
    chosen = crops[np.unique(np.linspace(0, len(crops) - 1, _RANGES_FROM).astype(int))]
    say(f"ranges    {ranges}, of {len(chosen)} crops ...")
    quantized = build_native(folded, keep_zeros=keep_zeros)
    limits = find_ranges(folded, look_up(pre.table(), chosen), method=ranges)
    set_ranges(quantized, limits)
    info = replace(
        info,
        compress=(Compression(QUANTIZE_AWARE, engine, ranges, keep_zeros),),
        source=os.path.abspath(source),
        settings=settings.to_dict(),
        versions=package_versions(),
        plan=None,
        speed=None,
        engine=Engine(),  # fake quantization computes in float32
    )
    initial = {v.path: np.asarray(v) for v in quantized.weights}
    found = replace(found, info=info, initial=initial, calibration=crops)
    target = RunFolder.create(out, overwrite=overwrite)
    with target.lock():
        target.write_info(info)
        target.write_calibration(crops)
        if engine == "native":
            return train_run(target, found, find_devices(settings.fit.devices, say), begun, say)
        return _train_tfmot(target, found, quantized, folded, limits, keep_zeros, begun, say)


def _settings(
    info: RunInfo, source: str | os.PathLike[str], epochs: int | None, minutes: float | None, learning_rate: float
) -> TrainSettings:
    """Return the settings of the run with those of a short training at its end."""
    before = info.train_settings(source)
    if epochs is None and minutes is None:
        epochs = QUANTIZE_EPOCHS
    fit = replace(
        before.fit,
        epochs=epochs,
        minutes=minutes,
        learning_rate=learning_rate,
        deep_supervision=False,
        freeze_norm=0.0,  # it is folded
        patience=None,
        warmup=None,
    )
    return replace(before, network=replace(before.network, weights=None), fit=fit)


def _train_tfmot(
    run: RunFolder,
    data: TrainingData,
    kept: keras.Model,
    folded: Folded,
    ranges: dict[str, tuple[float, float]],
    keep_zeros: bool,
    begun: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train by tensorflow-model-optimization, epoch by epoch, and keep the native form of the best one.

    Args:
        kept: the native form before any training.
    """
    import keras

    from ..models import assign
    from ..quantization.tfmot.engine import quantize_tfmot, to_native
    from ..training.callbacks import LearningRate, StopNonFinite
    from ..training.fit import compile_model, make_optimizer
    from ..training.stopping import StopRequest
    from ..training.trainer import told

    fit, monitor = data.settings.fit, data.task.monitor
    keras.utils.set_random_seed(fit.seed)
    model = quantize_tfmot(folded, ranges, keep_zeros=keep_zeros)
    model.compile(
        keras.optimizers.AdamW(fit.learning_rate, weight_decay=0.0, global_clipnorm=fit.clip_norm),
        data.task.loss(data.settings),
    )
    plan = _plan(model, data, begun)
    data = replace(data, info=replace(data.info, plan=plan))
    run.write_info(data.info)
    say(f"plan      {plan.epochs} epochs of {plan.steps_per_epoch} steps, batch {fit.batch}, by tfmot")
    loss, metrics = data.task.loss(data.settings), data.task.metrics(data.info.classes.names)
    validation = data.validation_batches()
    history: list[dict[str, float]] = []

    def score(native: keras.Model) -> dict[str, float]:
        compile_model(native, loss, metrics, make_optimizer(), xla=False)
        found = native.evaluate(validation, verbose=0, return_dict=True)
        return {f"val_{key}": float(value) for key, value in found.items()}

    best, best_epoch = score(kept)[monitor], 0
    say(f"start     validation {best:.4f}, before any training")
    run.write_weights({v.path: np.asarray(v) for v in kept.weights})
    with StopRequest(say).listening():
        for epoch in range(1, plan.epochs + 1):
            done = len(history) * plan.steps_per_epoch
            watching = [LearningRate(plan.rate, done), StopNonFinite(data.order.names, done)]
            batches = data.batches(done, done + plan.steps_per_epoch)
            figures = model.fit(batches, steps_per_epoch=plan.steps_per_epoch, verbose=0, callbacks=watching).history
            native = to_native(model, folded, keep_zeros=keep_zeros)
            history.append({"epoch": epoch, "loss": float(figures["loss"][0]), **score(native)})
            run.write_history(history)
            found = history[-1][monitor]
            if found >= best:
                best, best_epoch = found, epoch
                run.write_weights({v.path: np.asarray(v) for v in native.weights})
            say(f"epoch     {epoch}/{plan.epochs}  loss {history[-1]['loss']:.4f}  validation {found:.4f}")
    assign({v.path: v for v in kept.weights}, run.read_weights())
    data.task.finish(data, run, kept, history, say)
    return told(run, data, plan, best, best_epoch, begun, say)


def _plan(model: Any, data: TrainingData, begun: float) -> Plan:
    """Return the plan of a training by tfmot; a time budget is turned into steps by a few that count for nothing."""
    from ..training.schedule import make_plan, make_timed_plan

    fit, per_epoch = data.settings.fit, data.steps_per_epoch
    if fit.minutes is None:
        return make_plan(per_epoch, fit.learning_rate, epochs=fit.epochs or QUANTIZE_EPOCHS, schedule=fit.schedule)
    before = model.get_weights()
    batches = data.batches(0, 2 + _PROBED)
    model.fit(batches.take(2), verbose=0)
    start = time.perf_counter()
    model.fit(batches.skip(2), verbose=0)
    each = (time.perf_counter() - start) / _PROBED
    model.set_weights(before)
    left = max(1.0, 60 * fit.minutes - (time.perf_counter() - begun))
    validation = each * int(data.validation_batches().cardinality()) / 2
    return make_timed_plan(per_epoch, fit.learning_rate, seconds=left, step_seconds=each, validation_seconds=validation)
