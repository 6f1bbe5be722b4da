"""`unetres train`: from a data set to a run folder, and on from wherever a run was stopped."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unetres_edge import Preprocessing
from unetres_edge.errors import RunFolderError, TrainingError, UsageError

from ..runs import RunFolder
from ..settings import EPOCHS, TrainSettings, flat_options
from ..tasks.classify import read_classification
from ..tasks.loading import build_network
from ..tasks.material import Material
from ..tasks.segment import read_segmentation

if TYPE_CHECKING:
    from ..data import ClassFolders, Dataset
    from ..training.devices import Devices
    from ..training.keeper import Keeper
    from ..training.schedule import Plan
    from ..training.stopping import StopRequest

_FORWARD_SHARE = 1 / 3  # of the time of a training step that the forward pass takes, roughly
_RESERVE = 10.0  # seconds of a --minutes budget kept for pictures
_TITLES = {"miou": "mIoU"}


def train(
    data: str | os.PathLike[str] | Dataset | ClassFolders,
    out: str | os.PathLike[str],
    options: TrainSettings | None = None,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a network on a data set and write a run folder.

    A segmenter learns from images and masks, a classifier (`network="resnet50"` and the like) from class folders.
    Ctrl-C or SIGTERM end it after the step at hand; `resume` goes on from there.

    Args:
        data: what `open_dataset` takes: a folder, a `dataset.yaml`, an annotation file, `tfds:NAME`, or a `Dataset`;
            for a classifier what `open_class_folders` takes.
        out: the run folder to make.
        options: settings.
        overwrite: replace an earlier run folder, once the data has been read without fault.
        say: called with lines for the user.

    Returns:
        "run" (folder), "best_miou" (validation; "best_accuracy" of a classifier), "epochs", "steps", "seconds".

    Raises:
        DataError: the data set has faults; nothing was written.
        UsageError, WeightsError: the settings or the published weights do not fit; nothing was written.
        ExistsError: the run folder exists and `overwrite` is false.
        TrainingError: the loss became NaN or infinite.
        FileSystemError: the disk is full; the last checkpoint is whole.
    """
    from ..training.devices import find_devices

    begun = time.perf_counter()
    options = options or TrainSettings()
    devices = find_devices(options.fit.devices, say)
    _check_devices(devices, options)
    if devices.is_chief and not overwrite:
        RunFolder.check_new(out)
    material = _read(data, options, say)
    devices.check_same(_said(material), "settings, data or versions")
    run = RunFolder.create(out, overwrite=overwrite) if devices.is_chief else RunFolder(out)
    devices.any_machine(False)  # all wait here for the folder
    with run.lock() if devices.is_chief else contextlib.nullcontext():
        if devices.is_chief:
            run.write_info(material.info)
            run.write_calibration(material.calibration)
        return _Session(run, material, devices, begun, say).train()


def resume(
    run_path: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | Dataset | ClassFolders | None = None,
    settings: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Go on with a run from its last checkpoint, with the settings it was started with.

    On a CPU, with the same versions, the end is bit for bit that of a run that was never stopped.

    Args:
        run_path: the run folder.
        data: where its data set is now; None for where it was.
        settings: settings by name that must be those of the run; "checkpoint_seconds", "cache", "tensorboard" and
            "devices" may differ.
        say: called with lines for the user.

    Returns:
        As `train`.

    Raises:
        UsageError: a setting differs from that of the run.
        RunFolderError: not a run folder, its data changed, or a process is writing to it.
    """
    from ..training.devices import find_devices

    begun = time.perf_counter()
    run = RunFolder(run_path)
    info = run.read_info()
    options = _options_of(run, info, dict(settings or {}))
    devices = find_devices(options.fit.devices, say)
    _check_devices(devices, options)
    with run.lock() if devices.is_chief else contextlib.nullcontext():
        started = run.read_checkpoint() is not None  # and needs no published weights any more
        pre = Preprocessing.from_dict(info["preprocessing"]) if started else None
        if not started and info.get("compress"):
            raise RunFolderError("the run was stopped before it began", file=run.path, fix="start it anew")
        material = read_again(info, data, options, say, pre)
        if devices.is_chief and not run.has_calibration:
            run.write_calibration(material.calibration)
        known = {key: value for key, value in info.items() if key != "schema"}
        return _Session(run, replace(material, info=known), devices, begun, say).train()


def read_again(
    info: Mapping[str, Any],
    data: str | os.PathLike[str] | Dataset | ClassFolders | None,
    options: TrainSettings,
    say: Callable[[str], None],
    pre: Preprocessing | None,
) -> Material:
    """Read the data set of a run again.

    Args:
        info: what `run.json` says.
        data: where the data set is now; None for where it was.
        pre: how images meet the network; None to decide it, and to read published weights.

    Raises:
        UsageError: the run was trained on arrays, which are not given.
        RunFolderError: the data changed.
    """
    data = data if data is not None else info["data"]["path"]
    if data is None:
        raise UsageError("the run was trained on arrays", fix="pass data= with the same ones")
    material = _read(data, options, say, pre)
    if material.info["data"]["fingerprint"] != info["data"]["fingerprint"]:
        raise RunFolderError(
            "the data set is not the one the run was started with",
            file=data if isinstance(data, (str, os.PathLike)) else None,
            expected=info["data"]["fingerprint"][:12],
            found=material.info["data"]["fingerprint"][:12],
            fix="restore the files, or start a new run",
        )
    return material


def train_material(run: RunFolder, material: Material, begun: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Train on prepared data into a run folder that is locked and has its `run.json`; returns what `train` returns."""
    from ..training.devices import find_devices

    return _Session(run, material, find_devices(material.options.fit.devices, say), begun, say).train()


def _check_devices(devices: Devices, options: TrainSettings) -> None:
    devices.check_batch(options.fit.batch)
    if options.fit.minutes is not None and devices.shard[1] > 1:
        raise UsageError("several machines cannot agree on a wall-clock budget", fix="pass --epochs, not --minutes")


def _said(material: Material) -> str:
    """Return what has to be the same on all machines."""
    info = material.info
    return repr((material.options.fixed(), info["data"]["fingerprint"], sorted(info["versions"].items())))


def _read(
    data: str | os.PathLike[str] | Dataset | ClassFolders,
    options: TrainSettings,
    say: Callable[[str], None],
    pre: Preprocessing | None = None,
) -> Material:
    return (read_classification if options.network.classifies else read_segmentation)(data, options, say, pre)


def _options_of(run: RunFolder, info: dict[str, Any], settings: dict[str, Any]) -> TrainSettings:
    """Return the settings of a run, after checking that those given are the same."""
    options = TrainSettings.from_dict(info["settings"], file=run.path)
    asked = options.with_flat(settings)
    fixed = options.fixed()
    for option in flat_options().values():
        if option.path in fixed and asked.fixed()[option.path] != fixed[option.path]:
            raise UsageError(
                f"the run was started with another {option.word}",
                file=run.path,
                expected=fixed[option.path],
                found=asked.fixed()[option.path],
                fix="drop the option, or start a new run",
            )
    return asked


class _Session:
    """One stretch of training: from where a run stands to its end, or to a stop.

    Args:
        run: the run folder.
        material: the data, ready for the network.
        devices: to train on.
        begun: when the command was given, by `time.perf_counter`.
        say: called with lines for the user.
    """

    def __init__(
        self, run: RunFolder, material: Material, devices: Devices, begun: float, say: Callable[[str], None]
    ) -> None:
        self._run, self._material, self._devices = run, material, devices
        self._begun, self._say = begun, say
        self._validation = material.validation()

    def train(self) -> dict[str, Any]:
        """Train, and return what `train` says of the run."""
        from ..models import assign
        from ..training import fit as fitting
        from ..training.keeper import Keeper
        from ..training.stopping import StopRequest

        run, material, options = self._run, self._material, self._material.options
        stop = StopRequest(self._say)
        quantizes = bool(material.info.get("compress"))
        with fitting.precision_policy(mixed=not quantizes), stop.listening(), self._devices.guard():
            self._build()
            plan = self._plan()
            keeper = Keeper(
                run,
                self._trained,
                metrics=self._metrics,
                weights=self._model,
                plan=plan,
                monitor=material.monitor,
                patience=options.fit.patience,
                devices=self._devices,
                tolerance=0.0 if quantizes else None,
            )
            if quantizes and run.read_checkpoint() is None:
                keeper.keep_start(self._score_start())
            done = keeper.restore()
            self._devices.check_same(repr((done, keeper.history)), "the checkpoint that they go on from")
            if done:
                self._say(f"resume    after step {done} of {plan.steps} (epoch {done // plan.steps_per_epoch})")
            self._say(f"plan      {plan.epochs} epochs of {plan.steps_per_epoch} steps, batch {options.fit.batch}")
            if not keeper.finished:
                self._fit(plan, keeper, stop, done)
            if keeper.best < 0:
                raise TrainingError("no epoch gave a valid score", file=run.path, fix="look at history.csv")
            if self._devices.is_chief:
                assign({v.path: v for v in self._model.weights}, run.read_weights())
                material.finish(run, self._model, keeper.history)
        seconds = time.perf_counter() - self._begun
        name = material.monitor.removeprefix("val_")
        score = f"{_TITLES.get(name, name)} {keeper.best:.4f} (epoch {keeper.best_epoch})"
        self._say(f"best      validation {score}, {seconds / 60:.1f} min, {run.path}")
        return {
            "run": str(run.path),
            f"best_{name}": keeper.best,
            "epochs": plan.epochs,
            "steps": plan.steps,
            "seconds": round(seconds, 1),
        }

    def _build(self) -> None:
        """Make the network, and the model that is trained: with side heads where there is deep supervision."""
        import keras

        from ..training import fit as fitting
        from ..training.supervision import FirstHead, SupervisedLoss, add_side_heads

        material, devices, options = self._material, self._devices, self._material.options
        keras.utils.set_random_seed(options.fit.seed)
        model = devices.build(lambda: build_network(material.info))
        for variable in model.weights:
            if variable.path in material.initial:
                variable.assign(material.initial[variable.path])
        num_classes = model.output_shape[-1]
        trained = devices.build(lambda: add_side_heads(model, num_classes)) if options.fit.deep_supervision else model
        trained = devices.replicate(trained)
        with devices.scope():
            loss, metrics = material.loss(), material.metrics()
            if options.fit.deep_supervision:
                loss, metrics = SupervisedLoss(loss, num_classes), [FirstHead(m, num_classes) for m in metrics]
            optimizer = fitting.make_optimizer(
                options.fit.optimizer,
                weight_decay=options.fit.weight_decay,
                clip_norm=options.fit.clip_norm,
                ema=options.fit.ema,
            )
            fitting.compile_model(trained, loss, metrics, optimizer, xla=devices.xla)
        encoder = material.info["model"]["arguments"].get("encoder")
        weights = options.network.weights
        on = f" on {encoder}" + (f" ({weights})" if weights else "") if encoder else ""
        self._say(f"model     {model.name}{on}, {model.count_params() / 1e6:.2f} M parameters")
        self._model, self._trained, self._metrics = model, trained, metrics

    def _score_start(self) -> float:
        """Return the score of the weights that training starts with."""
        found = self._trained.evaluate(self._devices.spread(self._validation, whole=True), verbose=0, return_dict=True)
        score = float(found[self._material.monitor.removeprefix("val_")])
        self._say(f"start     validation {score:.4f}, before any training")
        return score

    def _plan(self) -> Plan:
        """Return the plan of the run, which is made and written down where there is none yet."""
        from ..training.schedule import Plan

        info = self._material.info
        if info["plan"] is not None:
            return Plan(**info["plan"])
        plan, speed = self._make_plan()
        if self._devices.is_chief:
            self._run.write_info({**info, "plan": plan.to_dict(), "speed": speed})
        return plan

    def _make_plan(self) -> tuple[Plan, dict[str, float] | None]:
        """Return the plan, and the speed if it was measured, which only a time budget needs."""
        from ..training import fit as fitting
        from ..training.schedule import make_plan, make_timed_plan

        options, per_epoch = self._material.options, self._material.steps_per_epoch
        if options.fit.minutes is None:
            # Nothing measured goes into this plan, so the same command gives the same weights.
            return make_plan(
                per_epoch,
                options.fit.learning_rate,
                epochs=options.fit.epochs or EPOCHS,
                schedule=options.fit.schedule,
                warmup=options.fit.warmup,
                validation_seconds=int(self._validation.cardinality()) * _FORWARD_SHARE,
            ), None
        self._say("compile   ...")
        batches = self._devices.spread(self._material.batches(0, 1 << 40, self._devices.shard))
        validation = self._devices.spread(self._validation, whole=True)
        step, whole_validation = fitting.probe_speed(self._trained, batches, validation)
        self._say(f"speed     {step:.3f} s a step, {whole_validation:.1f} s a validation")
        plan = make_timed_plan(
            per_epoch,
            options.fit.learning_rate,
            seconds=60 * options.fit.minutes - (time.perf_counter() - self._begun) - _RESERVE,
            schedule=options.fit.schedule,
            warmup=options.fit.warmup,
            step_seconds=step,
            validation_seconds=whole_validation,
        )
        return plan, {"step_seconds": round(step, 4), "validation_seconds": round(whole_validation, 3)}

    def _fit(self, plan: Plan, keeper: Keeper, stop: StopRequest, done: int) -> None:
        """Train from a step on."""
        from ..training import fit as fitting
        from ..training.callbacks import FreezeNorm, LearningRate, StopNonFinite
        from ..training.progress import Progress

        material, devices, options = self._material, self._devices, self._material.options
        progress = Progress(
            plan.epochs,
            plan.steps_per_epoch,
            options.fit.batch,
            done // plan.steps_per_epoch,
            self._say,
            validation_epochs=plan.validation_epochs(),
            kept=lambda: keeper.best_epoch,
        )
        pictures = material.watch(self._run, self._model) if devices.is_chief else []
        keeping = keeper.callbacks(
            first_step=done, seconds=options.fit.checkpoint_seconds, stop=stop, pictures=pictures
        )
        callbacks = [LearningRate(plan.rate, done), StopNonFinite(material.names, done), *keeping]
        if options.fit.freeze_norm:
            last = max(1, round(options.fit.freeze_norm * plan.epochs))
            callbacks.insert(0, FreezeNorm(max(1, plan.epochs - last)))  # the first one gathers the statistics
        # Progress comes after those that keep weights, of which it tells, and before the one that raises a stop.
        callbacks.insert(-1, progress)
        try:
            fitting.fit(
                self._trained,
                plan,
                lambda first: devices.spread(material.batches(first, plan.steps, devices.shard)),
                devices.spread(self._validation, whole=True),
                callbacks,
                first_step=done,
                validation_steps=int(self._validation.cardinality()),
            )
        except KeyboardInterrupt:
            self._say(f"stopped; go on with: unetres train --resume {self._run.path}")
            raise
        finally:
            progress.close()
