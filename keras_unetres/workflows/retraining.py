"""What quantizing, pruning and clustering a run have in common: its network is trained on for a short while.

The source run is not changed. The new run has its data set, preprocessing and calibration crops, and names it as
`source`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from unetres_edge.errors import RunFolderError, UsageError
from unetres_edge.files import read_bytes, write_bytes

from ..runs import Compilation, Compression, RunFolder, RunInfo
from ..settings import RETRAIN_EPOCHS, TrainSettings
from ..tasks import TASKS
from ..tasks.loading import load_run, package_versions
from ..tasks.reading import read_again

if TYPE_CHECKING:
    import keras

    from ..training.training_data import TrainingData


@dataclass(frozen=True)
class Source:
    """A run that is trained on.

    Args:
        folder: the run folder.
        info: its `run.json`.
        model: its network with the weights that were kept.
    """

    folder: RunFolder
    info: RunInfo
    model: keras.Model


def open_source(path: str | os.PathLike[str], out: str | os.PathLike[str], *, overwrite: bool) -> Source:
    """Open a run, after checking that another can be written to `out`.

    Raises:
        RunFolderError: not a run, or one that is quantized already.
        ExistsError: there is a run at `out`, and it is not to be replaced.
    """
    refuse_itself([path], out)
    RunFolder.check_out(out, overwrite=overwrite)
    folder = RunFolder(path)
    info = folder.read_info()
    if info.quantized:
        raise RunFolderError("the run is quantized already", file=path, fix="name the run that it was made from")
    return Source(folder, info, load_run(path).model)


def refuse_itself(runs: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str]) -> None:
    """Raise UsageError if a run that is learned from would be written over."""
    if os.path.realpath(out) in map(os.path.realpath, runs):
        raise UsageError("a run cannot be written over itself", file=out, fix="choose another --out")


def read_data(
    source: Source,
    data: Any,
    step: Compression,
    *,
    epochs: int | None,
    minutes: float | None,
    learning_rate: float,
    say: Callable[[str], None],
) -> TrainingData:
    """Read the data set of a run again, for a training that is a step of compression.

    Raises:
        RunFolderError: the data changed.
    """
    settings = _settings(source, epochs, minutes, learning_rate)
    prepared = read_again(TASKS[source.info.task], source.info, data, settings, say, source.info.preprocessing)
    info = replace(
        source.info,
        compress=(*source.info.compress, step),
        source=os.path.abspath(source.folder.path),
        settings=settings.to_dict(),
        versions=package_versions(),
        plan=None,
        speed=None,
        distil=None,
        compilation=Compilation(),  # fake quantization and tf_keras compute in float32
    )
    return replace(prepared, info=info, calibration=source.folder.read_calibration())


@contextlib.contextmanager
def new_run(out: str | os.PathLike[str], data: TrainingData, *, overwrite: bool) -> Iterator[RunFolder]:
    """Make a run folder for a training that begins, and hold its lock."""
    run = RunFolder.create(out, overwrite=overwrite)
    with run.lock():
        run.write_info(data.info)
        run.write_calibration(data.calibration)
        profile = RunFolder(data.info.source or "").device
        if profile.is_file():  # the file is held to the same device
            write_bytes(run.device, read_bytes(profile))
        yield run


def _settings(source: Source, epochs: int | None, minutes: float | None, learning_rate: float) -> TrainSettings:
    """Return the settings of the run with those of a short training at its end."""
    before = source.info.train_settings(source.folder.path)
    if epochs is None and minutes is None:
        epochs = RETRAIN_EPOCHS
    fit = replace(
        before.fit,
        epochs=epochs,
        minutes=minutes,
        learning_rate=learning_rate,
        deep_supervision=False,
        freeze_norm=0.0,  # quantization folds it
        patience=None,
        warmup=None,
    )
    data = replace(before.data, cache=None)  # a file names no folder that is written to
    return replace(before, network=replace(before.network, weights=None), fit=fit, data=data)
