"""What training a segmenter needs: a data set as batches, the loss and the scores, and pictures at the end."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge import Preprocessing, Segmenter
from unetres_edge.files import write_bytes
from unetres_edge.results import draw

from ..runs import RunFolder
from ..settings import TrainSettings
from .loading import Loaded, card_of_run, keras_segmenter, package_versions
from .material import Material

if TYPE_CHECKING:
    import keras

    from ..data import ClassFolders, Dataset, Records

_CALIBRATION_CROPS = 128
_SAMPLES = 4
_WATCHED = 3  # validation images that are looked at while a network is trained


def read_segmentation(
    data: str | os.PathLike[str] | Dataset | ClassFolders,
    options: TrainSettings,
    say: Callable[[str], None],
    pre: Preprocessing | None = None,
) -> Material:
    """Read a data set of images and masks.

    Args:
        data: what `open_dataset` takes.
        options: settings of the run.
        say: called with lines for the user.
        pre: how images meet the network, of a run that has its published weights behind it; None to decide it and to
            read the weights.

    Raises:
        DataError: the data set has faults.
        UsageError, WeightsError: the settings or the published weights do not fit.
    """
    from ..data import Dataset, open_dataset, read_records
    from ..data.class_folders import refuse_for_segmenter
    from ..data.records import fingerprint

    refuse_for_segmenter(data)
    assert isinstance(data, (str, os.PathLike, Dataset))
    dataset = open_dataset(data, changes={**options.data.reading(), "seed": options.fit.seed})
    splits = [name for name in ("train", "val", "test") if dataset.splits.get(name)]
    records = read_records(dataset, splits)
    classes = records["train"].classes
    channels = options.network.channels or (1 if all(part.grey for part in records.values()) else 3)
    builder, arguments = options.network.model(channels, len(classes.names))
    initial: dict[str, np.ndarray] = {}
    if pre is None:
        pre, initial = start(builder, arguments, options)  # refuses wrong arguments before anything is written
    augment = options.data.augment
    if augment == "auto":
        augment = "microscopy" if channels == 1 else "street"
    info = {
        "model": {"builder": builder, "arguments": arguments},
        "classes": {
            "names": list(classes.names),
            "colors": [list(c) for c in classes.colors],
            "note": classes.note,
            "ignored": classes.ignores,
        },
        "preprocessing": pre.to_dict(),
        "reading": dataset.reading.to_dict(),
        "data": {
            "path": _path_of(dataset),
            "fingerprint": fingerprint(dataset, classes),
            "splits": {name: [pair.name for pair in dataset.split(name)] for name in splits},
        },
        "settings": options.to_dict(),
        "augment": augment,
        "seed": options.fit.seed,
        "versions": package_versions(),
        "plan": None,
    }
    say(f"data      {', '.join(f'{len(part)} {name}' for name, part in records.items())} images, {channels} channels")
    say(f"classes   {', '.join(f'{i} {name}' for i, name in enumerate(classes.names))}")
    for note in [classes.note] * bool(classes.note) + list(dataset.notes):
        say(f"note      {note}")
    say(f"augment   {augment}")
    if options.data.border_weight and dataset.reading.masks_are == "instances" and dataset.reading.target == "semantic":
        say("note      objects that touch are joined in the masks; --target separated parts them, as in the paper")
    return _material(options, info, records, pre, initial, say)


def _material(
    options: TrainSettings,
    info: dict[str, Any],
    records: dict[str, Records],
    pre: Preprocessing,
    initial: dict[str, np.ndarray],
    say: Callable[[str], None],
) -> Material:
    # Not before: a fault of the data is found and named without waiting for TensorFlow.
    from ..choices.augmentations import AUGMENTATIONS
    from ..data.pipeline import Order, calibration_crops, training_batches, validation_batches
    from ..data.samples import Samples
    from ..data.weighting import Weighting
    from ..training import SegmentationScores, make_loss

    names = info["classes"]["names"]
    weighting = Weighting(options.data.class_weights == "balanced", options.data.border_weight)
    train = Samples(records["train"], pre, weighting=weighting, cache=options.data.cache)
    validation = Samples(records["val"], pre)
    if train.class_weights:
        say("weights   " + ", ".join(f"{n} {w:.3g}" for n, w in zip(names, train.class_weights, strict=True)))
    order = Order(train, options.fit.batch, options.fit.seed, options.data.balance)
    make_loss(options.fit.loss)  # refuses an unknown name before anything is written

    def batches(first_step: int, last_step: int, shard: tuple[int, int]) -> Any:
        augmentation = AUGMENTATIONS[info["augment"]]
        return training_batches(order, augmentation, first_step=first_step, last_step=last_step, shard=shard)

    return Material(
        options=options,
        info=info,
        steps_per_epoch=train.steps(options.fit.batch),
        batches=batches,
        names=order.names,
        validation=lambda: validation_batches(validation, batch_size=options.fit.batch),
        calibration=calibration_crops(train, count=_CALIBRATION_CROPS),
        initial=initial,
        loss=lambda: make_loss(options.fit.loss),
        metrics=lambda: [SegmentationScores(len(names), names)],
        monitor="val_miou",
        watch=lambda run, model: _watch(run, model, records["val"], options, names),
        finish=lambda run, model, history: _finish(run, model, records, history, say),
    )


def start(
    builder: str, arguments: dict[str, Any], options: TrainSettings
) -> tuple[Preprocessing, dict[str, np.ndarray]]:
    """Return how images meet the network, and the published weights it starts from, by variable."""
    from ..models import build
    from ..weights import load_published

    model = build(builder, arguments)
    pre = Preprocessing(channels=arguments["input_shape"][-1], value_range=(-1.0, 1.0))
    initial = {}
    if options.network.weights is not None:
        before = {v.path: np.array(v.numpy()) for v in model.weights}
        pre = load_published(model, options.network.weights, encoder=arguments.get("encoder", options.network.name))
        initial = {v.path: np.array(v.numpy()) for v in model.weights if not np.array_equal(before[v.path], v.numpy())}
    network = options.network
    return replace(pre, per_image=network.per_image, fit=network.image_fit, size=(network.size, network.size)), initial


def _path_of(dataset: Dataset) -> str | None:
    """Return where a data set can be opened again, or None for one of arrays."""
    if dataset.format == "arrays":
        return None
    return str(dataset.root) if dataset.format == "tfds" else os.path.abspath(dataset.root)


def watch_figures(run: RunFolder, options: TrainSettings, names: list[str]) -> list[keras.callbacks.Callback]:
    """Return the callback that writes figures for TensorBoard, if it is wanted."""
    from ..training.boards import TensorBoard

    return [TensorBoard(run.path / "tensorboard", names)] if options.fit.tensorboard else []


def _watch(
    run: RunFolder, model: keras.Model, records: Records, options: TrainSettings, names: list[str]
) -> list[keras.callbacks.Callback]:
    """Return callbacks that draw the predictions of some validation images now and then."""
    from ..pages.pictures import Filmstrip, Watched
    from ..training.boards import DrawPictures, TensorBoard

    places = np.unique(np.linspace(0, len(records) - 1, _WATCHED).astype(int))
    watched = Watched(_segmenter(run, model), [records[place] for place in places])
    strip = Filmstrip(run.samples, *next(iter(watched.truths.items())))
    if not options.fit.tensorboard:
        return [DrawPictures(watched, [strip.add])]
    board = TensorBoard(run.path / "tensorboard", names, watched.truths)
    return [DrawPictures(watched, [strip.add, board.show]), board]


def _segmenter(run: RunFolder, model: keras.Model) -> Segmenter:
    from ..models import receptive_halo

    return keras_segmenter(Loaded(model, card_of_run(run.read_info(), halo=receptive_halo(model))))


def _finish(
    run: RunFolder,
    model: keras.Model,
    records: dict[str, Records],
    history: list[dict[str, float]],
    say: Callable[[str], None],
) -> None:
    """Write curves, sample pictures and the report, made with the weights that are kept."""
    from ..pages.pictures import curves, sample_sheet
    from .reports import make_report

    write_bytes(run.samples / "curves.png", curves(history))
    segmenter = _segmenter(run, model)
    for index in range(min(_SAMPLES, len(records["val"]))):
        record = records["val"][index]
        sheet = sample_sheet(record.image, record.mask, {"prediction": segmenter})
        name = os.path.splitext(record.name)[0].replace("/", "_")
        write_bytes(run.samples / f"{name}.png", draw.encode_png(sheet))
    split = "test" if "test" in records else "val"
    make_report(run, segmenter, records[split], split, say)
