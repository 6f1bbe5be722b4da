"""From a data set to samples: for training, and as the training data was read for a model that is there already."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge import Card, Preprocessing
from unetres_edge.errors import DataError, RunFolderError, UsageError
from unetres_edge.terminal import counted

from ..choices.fitting import CLASS_WEIGHTS
from ..choices.networks import unpadded_crop
from ..runs import ClassInfo, DataInfo, ModelInfo, RunInfo
from ..settings import DEPTH, TrainSettings
from ..training.training_data import TrainingData
from .loading import card_of_run, package_versions

if TYPE_CHECKING:
    from ..data import Dataset, Records
    from .task import Task

# (part -> records, settings, settings -> data ready for the network that they describe) -> settings
Choose = Callable[[Mapping[str, "Records"], TrainSettings, Callable[[TrainSettings], TrainingData]], TrainSettings]

_OF_SETTINGS = ("build_fcn", "build_resnet", "build_unet")  # builders that settings name
_CALIBRATION_CROPS = 128
_UNNAMED = ("0", "1")  # what two classes without names were called in runs of earlier versions
_SHOWN = 20  # classes named on a line


def _silent(line: str) -> None:
    """Print nothing: a `say` for data that is read on trial."""


def read_training_data(
    task: Task,
    data: str | os.PathLike[str] | Dataset,
    settings: TrainSettings,
    say: Callable[[str], None],
    pre: Preprocessing | None = None,
    *,
    again: bool = False,
    choose: Choose | None = None,
    model: ModelInfo | None = None,
    class_names: Sequence[str] | None = None,
) -> TrainingData:
    """Read a data set to train on.

    Args:
        task: task that the network is to learn.
        data: data set, as `open_dataset` takes it.
        settings: settings of the run.
        say: callback for lines to the user.
        pre: preparation of images for the network, of a run that has its published weights behind it; None to decide it
            and to read the weights.
        again: whether a run has begun with these settings, so that nothing is chosen that they leave open.
        choose: decides what the settings leave open, once the data is read.
        model: the network, where it is there already; None for what the settings say.
        class_names: its classes, which the data must fit; None to take them from the data set.

    Raises:
        DataError: the data set has faults.
        UsageError, WeightsError: the data set is of another task, or the settings or the published weights do not fit.
    """
    dataset, settings = _open(task, data, settings, again=again)
    if settings.fit.plan and choose is None and not again:
        settings = _stretch(dataset, settings, say)
    records = _read(task, dataset, settings, class_names)
    counts = ", ".join(f"{len(part)} {name}" for name, part in records.items())
    say(f"data      {counts} images, {counted(_channels(settings, records), 'channel')}")
    say(f"classes   {_listed([f'{i} {name}' for i, name in enumerate(records['train'].classes.names)])}")
    for note in task.notes(dataset, records, settings):
        say(f"note      {note}")
    if choose is not None:
        settings = choose(records, settings, lambda chosen: prepare_data(task, dataset, records, chosen, pre))
    return prepare_data(task, dataset, records, settings, pre, say, model)


def open_records(
    task: Task, data: str | os.PathLike[str] | Dataset, settings: TrainSettings
) -> tuple[Dataset, dict[str, Records], TrainSettings]:
    """Open a data set and decode the parts that a training looks at; return the settings with what they leave open.

    Raises:
        DataError: the data set has faults.
        UsageError: it is of another task.
    """
    dataset, settings = _open(task, data, settings)
    return dataset, _read(task, dataset, settings), settings


def _open(
    task: Task, data: str | os.PathLike[str] | Dataset, settings: TrainSettings, *, again: bool = False
) -> tuple[Dataset, TrainSettings]:
    """Open a data set, and return the settings with what its instances become."""
    from ..data import open_dataset

    changes = {**settings.data.reading(), "seed": settings.fit.seed}
    target = "separated" if settings.fit.plan and not again else None  # so that objects that touch can be counted
    dataset = open_dataset(data, changes=changes, task=task.name, target=target)
    if target is not None and dataset.reading.target == target:
        settings = settings.with_flat({"target": target})
    return dataset, settings


def _read(
    task: Task, dataset: Dataset, settings: TrainSettings, class_names: Sequence[str] | None = None
) -> dict[str, Records]:
    from ..data import read_records

    for name in ("train", "val"):
        dataset.split(name)  # refuses a data set without it
    parts = [name for name in ("train", "val", "test") if dataset.splits.get(name)]
    records = read_records(dataset, parts, class_names=class_names, scaled=task.scaled(settings))
    if not records["train"].labelled:
        raise DataError(
            "no pixel of the train part has a class",
            file=dataset.root,
            expected="masks in which something is labelled",
            fix="look at `ignore` and `values` of the dataset.yaml, or at the masks",
        )
    present, names = records["train"].present, records["train"].classes.names
    if len(present) == 1 and class_names is None:
        raise DataError(
            f"no pixel of the train part is of another class than {names[min(present)]}",
            file=dataset.root,
            expected="pixels of two classes or more",
            fix="look at the masks and at `values` of the dataset.yaml, or add masks in which something is drawn",
            kind="empty-class",
        )
    return records


def prepare_data(
    task: Task,
    dataset: Dataset,
    records: dict[str, Records],
    settings: TrainSettings,
    pre: Preprocessing | None,
    say: Callable[[str], None] = _silent,
    model: ModelInfo | None = None,
) -> TrainingData:
    """Return decoded data, ready for the network that the settings describe.

    Args:
        task: task that the network is to learn.
        dataset, records: as `open_records` gives them.
        settings: settings of the run.
        pre, model: as `read_training_data`.
        say: callback for lines to the user.
    """
    channels = _channels(settings, records)
    if model is None:
        model = ModelInfo(*settings.network.model(channels, len(records["train"].classes.names)))
    initial: dict[str, np.ndarray] = {}
    if pre is None:
        pre, initial = _start(model, settings)  # refuses wrong arguments before anything is written
    augment = task.usual_augment(channels) if settings.data.augment == "auto" else settings.data.augment
    info = _describe(task, dataset, records, settings, model, pre, augment)
    say(f"augment   {augment}")
    return _prepare(task, records, settings, info, initial, say)


def _channels(settings: TrainSettings, records: Mapping[str, Records]) -> int:
    if settings.network.channels:
        return settings.network.channels
    counts = {part.usual_channels for part in records.values()}
    return max(counts)


def read_again(
    task: Task,
    info: RunInfo,
    data: Any,
    settings: TrainSettings,
    say: Callable[[str], None],
    pre: Preprocessing | None,
) -> TrainingData:
    """Read the data set of a run again.

    Args:
        task: task of the run.
        info: content of `run.json`.
        data: present place of the data set, or the set itself, as `dataset_of` takes it; None for where it was.
        settings: settings of the run.
        say: callback for lines to the user.
        pre: as `read_training_data`.

    Raises:
        UsageError: the run was trained on arrays, which are not given.
        RunFolderError: the data changed.
    """
    source = data if data is not None else recorded_place(info)
    if source is None:
        raise UsageError("the run was trained on arrays", fix="pass data= with the same ones")
    source = dataset_of(source, card_of_run(info, halo=0))
    is_own = info.model.builder not in _OF_SETTINGS
    overrides: dict[str, Any] = {"model": info.model} if is_own else {}
    if is_own or info.classes.names == _UNNAMED:
        overrides["class_names"] = info.classes.names
    again = read_training_data(task, source, settings, say, pre, again=True, **overrides)
    refuse_changed(again.info, info.data.fingerprint, source)
    return replace(again, info=info)


def refuse_changed(info: RunInfo, fingerprint: str, source: Any) -> None:
    """Refuse a data set that is not the one a run was started with.

    Args:
        info: content of `run.json` for the data set as it is now.
        fingerprint: digest of what it was.
        source: place of the data set, for errors.

    Raises:
        RunFolderError: it changed.
    """
    if info.data.fingerprint != fingerprint:
        raise RunFolderError(
            "the data set is not the one the run was started with",
            file=source if isinstance(source, (str, os.PathLike)) else None,
            expected=fingerprint[:12],
            found=info.data.fingerprint[:12],
            fix="restore the files, or start a new run",
        )


def dataset_of(data: Any, card: Card) -> Any:
    """Return images with their labels, as `data.pairs.dataset_of_pairs` takes them, as a data set with seeded parts.

    What `open_dataset` takes is returned as it is.
    """
    from ..data import Dataset
    from ..data.pairs import dataset_of_pairs

    return data if isinstance(data, (str, os.PathLike, Dataset)) else dataset_of_pairs(data, card, parted=True)


def recorded_place(info: RunInfo) -> str | None:
    """Return where `run.json` says that the data set is, or None for one of arrays.

    Raises:
        DataError: as `place_in_file`.
    """
    return place_in_file(info.data.path, "run.json")


def place_in_file(source: str | None, file: str) -> str | None:
    """Return the place of a data set that a file of a run names, or None for one of arrays.

    Raises:
        DataError: in TensorFlow Datasets or at an address, which a file does not open.
    """
    from ..data.forms import tfds
    from ..data.shards.store import is_address, refuse_unasked

    if tfds.is_asked_for(source):
        tfds.refuse_unasked(source, file, "the run was trained on a data set of TensorFlow Datasets")
    if is_address(source):
        refuse_unasked(source, file, "the run was trained on a data set at an address")
    return source


def read_for(card: Card, data: Any, split: str, changes: Mapping[str, Any] | None = None) -> Records:
    """Read a part of a data set as the training data of a model was read, except for `changes`.

    Raises:
        DataError: the data set has faults, classes that the model does not know, or does not have this part.
        UsageError: the data set teaches another task.
    """
    from ..data import read_records

    dataset = open_for(card, data, changes)
    records = read_records(dataset, [split], class_names=card.class_names)[split]
    if not len(records):
        raise DataError("no images to score", file=dataset.root)
    return records


def open_for(card: Card, data: Any, changes: Mapping[str, Any] | None = None) -> Dataset:
    """Open a data set as the training data of a model was opened, except for `changes`.

    Args:
        data: data set, as `open_dataset` takes it, or images with their labels, as `data.pairs.dataset_of_pairs` takes
            them.
    """
    from ..data import Dataset, Reading, open_dataset
    from ..data.pairs import dataset_of_pairs

    reading = Reading.from_dict(card.dataset) if card.dataset else None
    if not isinstance(data, (str, os.PathLike, Dataset)):
        data = dataset_of_pairs(data, card, reading)
    return open_dataset(data, reading, changes, task=card.task)


def _stretch(dataset: Dataset, settings: TrainSettings, say: Callable[[str], None]) -> TrainSettings:
    """Return settings by which each image is stretched to its own range, where else too few grey levels are left."""
    from ..data.levels import STRETCH, find_few_levels

    few = find_few_levels(dataset.splits.get("train", ())) if settings.network.per_image is None else None
    if few is None:
        return settings
    low, high = (f"{percentile:g}" for percentile in STRETCH)
    left = f"{few.kept} of {few.stored} grey levels would be left at 8 bits"
    say(f"note      {left}; each image is stretched to its own range (--per-image {low} {high})")
    return settings.with_flat({"per_image": STRETCH})


def _start(model: ModelInfo, settings: TrainSettings) -> tuple[Preprocessing, dict[str, np.ndarray]]:
    """Return the preparation of images, and the weights that the network starts from, by variable."""
    from ..models import build
    from ..weights import load_published

    network = settings.network
    built = build(model.builder, dict(model.arguments))
    pre = Preprocessing(channels=model.arguments["input_shape"][-1], value_range=(-1.0, 1.0))
    initial = {}
    if network.start_weights is not None:
        before = {v.path: np.array(v.numpy()) for v in built.weights}
        encoder = model.arguments.get("encoder", None if network.name == "unet" else network.name)
        pre = load_published(built, network.start_weights, encoder=encoder)
        initial = {v.path: np.array(v.numpy()) for v in built.weights if not np.array_equal(before[v.path], v.numpy())}
    side = network.input_size
    return replace(pre, per_image=network.stretch, fit=network.image_fit, size=(side, side)), initial


def _describe(
    task: Task,
    dataset: Dataset,
    records: dict[str, Records],
    settings: TrainSettings,
    model: ModelInfo,
    pre: Preprocessing,
    augment: str,
) -> RunInfo:
    from ..data.records import fingerprint

    classes = records["train"].classes
    return RunInfo(
        model=model,
        classes=ClassInfo(classes.names, classes.colors, classes.note, classes.ignores),
        preprocessing=pre,
        reading=dataset.reading,
        data=DataInfo(
            _path_of(dataset),
            fingerprint(dataset, classes),
            {name: tuple(sample.name for sample in dataset.split(name)) for name in records},
        ),
        settings=settings.to_dict(),
        augment=augment,
        task=task.name,
        seed=settings.fit.seed,
        versions=package_versions(),
    )


def _path_of(dataset: Dataset) -> str | None:
    """Return where a data set can be opened again, or None for one of arrays."""
    if dataset.format == "arrays":
        return None
    from ..data.shards.store import address_of, is_address

    if is_address(dataset.root):
        return address_of(dataset.root)
    return str(dataset.root) if dataset.format == "tfds" else os.path.abspath(dataset.root)


def _prepare(
    task: Task,
    records: dict[str, Records],
    settings: TrainSettings,
    info: RunInfo,
    initial: dict[str, np.ndarray],
    say: Callable[[str], None],
) -> TrainingData:
    # Not before: a fault of the data is found and named without waiting for TensorFlow.
    from ..data.pipeline import Order, calibration_crops
    from ..data.samples import Samples
    from ..data.weighting import Weighting

    task.loss(settings)  # refuses an unknown name before anything is written
    weighting = Weighting(CLASS_WEIGHTS[settings.data.class_weights or "equal"], settings.data.border_weight)
    pre, margin = info.preprocessing, find_margin(info.model)
    train = Samples(records["train"], pre, weighting=weighting, cache=settings.data.cache, margin=margin)
    validation = Samples(records["val"], pre, margin=margin)
    if train.class_weights:
        weights = [f"{n} {w:.3g}" for n, w in zip(info.classes.names, train.class_weights, strict=True)]
        say(f"weights   {_listed(weights)}")
    return TrainingData(
        task=task,
        settings=settings,
        info=info,
        records=records,
        order=Order(train, settings.fit.batch_size, settings.fit.seed, settings.data.balance),
        validation=validation,
        calibration=calibration_crops(train, count=_CALIBRATION_CROPS),
        initial=initial,
    )


def find_margin(model: ModelInfo) -> int:
    """Return how many px of every side the output of a network leaves out."""
    arguments = model.arguments
    if model.builder == "build_unet":
        return unpadded_crop(arguments.get("depth", DEPTH)) if arguments.get("padding") == "valid" else 0
    if model.builder in _OF_SETTINGS:
        return 0
    from ..models import build
    from ..tflite.model_checks import find_crop

    return find_crop(build(model.builder, dict(arguments)))


def _listed(words: list[str]) -> str:
    more = f", {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more
