"""`unetres train`: from a data set to a run folder, and on from wherever a run was stopped."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unetres_edge.errors import RunFolderError, UsageError

from ..choices.arguments import checks_kinds
from ..choices.starts import NO_WEIGHTS
from ..planning import TrainingPlan, plan_training
from ..runs import Distillation, RunFolder
from ..settings import NetworkSettings, TrainSettings, flat_options
from ..tasks import TASKS
from ..tasks.reading import read_again, read_training_data
from ..tasks.teachers import with_teachers
from .baseline import say_baseline

if TYPE_CHECKING:
    from ..data import Dataset, Records
    from ..runs import RunInfo
    from ..training.devices import Devices
    from ..training.training_data import TrainingData


@checks_kinds
def train(
    data: str | os.PathLike[str] | Dataset,
    out: str | os.PathLike[str],
    options: TrainSettings | None = None,
    *,
    start: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    distil: Distillation | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a network on a data set and write a run folder.

    A segmenter learns from images and masks, a classifier (`network="resnet50"` and the like) from class folders.
    What the settings of a segmenter leave open is decided from data, minutes and processor, and written down.
    Ctrl-C or SIGTERM end it after the step at hand; `resume` goes on from there.

    Args:
        data: data set, as `open_dataset` takes it: a folder, a `dataset.yaml`, an annotation file, `tfds:NAME`, or a
            `Dataset`.
        out: the run folder to make.
        options: settings.
        start: a run of the same classes whose network and weights this one begins with, such as that of the data set
            before more was labelled. Its folder has to stay until the first checkpoint.
        overwrite: whether to replace an earlier run, which is removed when the new one has weights, and comes back if
            the new one ends before it has anything to go on from.
        distil: teachers that the network learns from beside the labels, as `distil` names them.
        say: callback for lines to the user.

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
    from ..training.trainer import train_run

    begun = time.perf_counter()
    options = options or TrainSettings()
    begins_with = None if start is None else RunFolder(start).read_info()
    if start is not None and begins_with is not None:
        options = _of_network(RunFolder(start), begins_with, options)
    profile = options.limits.read_profile()
    devices = find_devices(options.fit.devices, say)
    _check_devices(devices, options)
    if devices.is_chief:
        RunFolder.check_out(out, overwrite=overwrite)
    if options.fit.search != "none":
        from .search import search

        if not options.fit.plan:
            raise UsageError("--search starts from what the rules choose", fix="drop --no-plan, or --search")
        if start is not None:
            raise UsageError("--search is for a network, and --start has one", file=start, fix="drop one of the two")
        return search(data, out, options, devices, begun, say, overwrite=overwrite)
    plans: list[TrainingPlan] = []

    def choose(
        records: Mapping[str, Records], settings: TrainSettings, prepare: Callable[[TrainSettings], TrainingData]
    ) -> TrainSettings:
        plans.append(plan_training(records, settings, prepare, devices, say))
        for line in plans[0].lines():
            say(line)
        return plans[0].apply(settings)

    task = TASKS[options.network.task]
    planned = options.fit.plan and task.planned
    training_data = read_training_data(task, data, options, say, choose=choose if planned else None)
    for plan in plans:
        if plan.compilation is not None:
            training_data = replace(training_data, info=replace(training_data.info, compilation=plan.compilation))
    if start is not None and begins_with is not None:
        training_data = _beginning_with(RunFolder(start), begins_with, training_data)
    if distil is not None:
        training_data = with_teachers(replace(training_data, info=replace(training_data.info, distil=distil)), say)
    say_baseline(training_data, say)
    devices.check_same(_decides(training_data), "settings, data or versions")
    run = RunFolder.create(out, overwrite=overwrite) if devices.is_chief else RunFolder(out)
    devices.any_machine(False)  # all wait here for the folder
    with run.lock() if devices.is_chief else contextlib.nullcontext():
        if devices.is_chief:
            run.write_info(training_data.info)
            run.write_calibration(training_data.calibration)
            if profile is not None:
                profile.save(run.device)
            for plan in plans:
                run.write_decisions(plan.to_dict())
        return train_run(run, training_data, devices, begun, say)


@checks_kinds
def resume(
    run_path: str | os.PathLike[str],
    *,
    data: Any = None,
    settings: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Go on with a run from its last checkpoint, with the settings it was started with.

    On a CPU, with the same versions, the end is bit for bit that of a run that was never stopped.

    Args:
        run_path: the run folder.
        data: present place of its data set, or the images and labels themselves, as `quantize` takes them; None for
            where it was.
        settings: settings by name that must be those of the run; "checkpoint_seconds", "cache", "tensorboard" and
            "devices" may differ.
        say: callback for lines to the user.

    Returns:
        As `train`.

    Raises:
        UsageError: a setting differs from that of the run.
        RunFolderError: not a run folder, its data changed, or a process is writing to it.
    """
    from ..training.devices import find_devices
    from ..training.trainer import train_run

    begun = time.perf_counter()
    run = RunFolder(run_path)
    if run.is_searching:
        return _resume_search(run, data, settings or {}, begun, say)
    info = run.read_info()
    # A file names no folder that is written to, so the cache is the one that is asked for now.
    options = same_settings(run, info.train_settings(run.path), {"cache": None, **(settings or {})})
    devices = find_devices(options.fit.devices, say)
    _check_devices(devices, options)
    with run.lock() if devices.is_chief else contextlib.nullcontext():
        if devices.is_chief and run.read_info() != info:
            raise RunFolderError("another process just changed the run", file=run.path, fix="give the command again")
        started = run.read_checkpoint() is not None  # and needs no published weights any more
        if info.compress and info.compress[-1].engine == "tfmot":
            raise RunFolderError(
                "a run made with tensorflow-model-optimization cannot be resumed", file=run.path, fix="make it anew"
            )
        if not started and info.compress:
            raise RunFolderError("the run was stopped before it began", file=run.path, fix="start it anew")
        if not started and options.network.starts_elsewhere and "weights" not in (settings or {}):
            raise RunFolderError(  # run.json alone causes no download, and opens no file outside
                "the run was stopped before its first checkpoint, and starts from published weights",
                file=run.path,
                fix=f"name them again: --weights {options.network.weights}",
            )
        training_data = read_again(TASKS[info.task], info, data, options, say, info.preprocessing if started else None)
        training_data = with_teachers(training_data, say)
        if not started and info.source is not None:
            training_data = replace(training_data, initial=RunFolder(info.source).read_weights())
        if devices.is_chief and not run.has_calibration:
            run.write_calibration(training_data.calibration)
        return train_run(run, training_data, devices, begun, say)


def _of_network(start: RunFolder, info: RunInfo, options: TrainSettings) -> TrainSettings:
    """Return settings with the network of a run.

    Raises:
        UsageError: the settings name another network.
        RunFolderError: the run is compressed.
    """
    if info.compress:
        fix = "name the run that it was made from" + (f": {info.source}" if info.source else "")
        raise RunFolderError("a compressed run is not trained on in this way", file=start.path, fix=fix)
    network = replace(info.train_settings(start.path).network, weights=None, channels=info.preprocessing.channels)
    if replace(options.network, weights=options.network.start_weights) not in (NetworkSettings(), network):
        raise UsageError("the network is that of --start", file=start.path, fix="drop the options of the network")
    return replace(options, network=replace(network, weights=NO_WEIGHTS))


def _beginning_with(start: RunFolder, info: RunInfo, data: TrainingData) -> TrainingData:
    """Return data for a network that begins with the weights of a run.

    Raises:
        UsageError: the run has other classes, or the data asks for another network.
    """
    for what, expected, got in (
        ("classes", info.classes.names, data.info.classes.names),
        ("layers", info.model, data.info.model),
    ):
        if expected != got:
            raise UsageError(
                f"the run to begin with has other {what}",
                file=start.path,
                expected=expected,
                found=got,
                fix="drop --start",
            )
    begun = replace(data.info, source=os.path.abspath(start.path))
    return replace(data, info=begun, initial=start.read_weights())


def _resume_search(
    run: RunFolder, data: Any, settings: Mapping[str, Any], begun: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """Go on with the search for a network, and then with its run."""
    from ..training.devices import find_devices
    from .search import go_on_searching

    if settings:
        raise UsageError(
            "a search goes on as it was started", file=run.path, found=", ".join(settings), fix="drop them"
        )
    search = run.read_search()
    with run.lock():
        devices = find_devices(1 if search is None else search.given.fit.devices, say)
        return go_on_searching(run, data, devices, begun, say)


def _check_devices(devices: Devices, options: TrainSettings) -> None:
    devices.check_batch(options.fit.batch_size)
    if options.fit.minutes is not None and devices.shard[1] > 1:
        raise UsageError("several machines cannot agree on a wall-clock budget", fix="pass --epochs, not --minutes")


def _decides(data: TrainingData) -> str:
    """Return what has to be the same on all machines."""
    return repr((data.settings.fixed(), data.info.data.fingerprint, sorted(data.info.versions.items())))


def same_settings(run: RunFolder, options: TrainSettings, settings: Mapping[str, Any]) -> TrainSettings:
    """Return the settings of a run with those that may differ as given, after checking that the others do not.

    Raises:
        UsageError: one does.
    """
    changed = options.with_flat(settings)
    fixed, values = options.fixed(), changed.fixed()
    for option in flat_options().values():
        if option.path in fixed and values[option.path] != fixed[option.path]:
            raise UsageError(
                f"the run was started with another {option.word}",
                file=run.path,
                expected=fixed[option.path],
                found=values[option.path],
                fix="drop the option, or start a new run",
            )
    return changed
