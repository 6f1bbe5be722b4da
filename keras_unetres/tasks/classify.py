"""Classifiers: what training one needs of a folder of class folders, and their score."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge import Card, Classifier, Preprocessing
from unetres_edge.errors import DataError
from unetres_edge.files import read_bytes, write_bytes, write_json
from unetres_edge.model.card import default_colors, read_card

from ..runs import RunFolder
from ..settings import TrainSettings
from .loading import load_run, package_versions
from .material import Material
from .segment import start, watch_figures

if TYPE_CHECKING:
    import keras

    from ..data import ClassFolders, Dataset
    from ..data.labelled import LooksOf

_CALIBRATION_IMAGES = 128
_SHOWN = 10  # classes or copies named on a line


def read_classification(
    data: str | os.PathLike[str] | Dataset | ClassFolders,
    options: TrainSettings,
    say: Callable[[str], None],
    pre: Preprocessing | None = None,
) -> Material:
    """Read a data set of images and their classes.

    Args:
        data: what `open_class_folders` takes.
        options: settings of the run.
        say: called with lines for the user.
        pre: how images meet the network, of a run that has its published weights behind it; None to decide it and to
            read the weights.

    Raises:
        DataError: the data set has faults.
        UsageError, WeightsError: the data set is one of masks, or the settings or the published weights do not fit.
    """
    from ..data.class_folders import ClassFolders, open_class_folders, refuse_for_classifier
    from ..data.labelled import look_at_images

    refuse_for_classifier(data)
    assert isinstance(data, (str, os.PathLike, ClassFolders))
    network, reading = options.network, options.data
    dataset = open_class_folders(
        data, changes={"val_from": reading.val_from, "test_from": reading.test_from, "seed": options.fit.seed}
    )
    size = (network.size, network.size)
    form = Preprocessing(channels=network.channels or 3, per_image=network.per_image, fit=network.image_fit, size=size)
    looks = look_at_images(dataset, form)
    channels = network.channels or (1 if looks.grey else 3)
    builder, arguments = network.model(channels, len(dataset.class_names))
    initial: dict[str, np.ndarray] = {}
    if pre is None:
        pre, initial = start(builder, arguments, options)  # refuses wrong arguments before anything is written
    names = list(dataset.class_names)
    info = {
        "task": "classify",
        "model": {"builder": builder, "arguments": arguments},
        "classes": {
            "names": names,
            "colors": [list(color) for color in default_colors(len(names))],
            "note": "",
            "ignored": False,
        },
        "preprocessing": pre.to_dict(),
        "reading": dataset.reading.to_dict(),
        "data": {
            "path": None if dataset.in_memory else os.path.abspath(dataset.root),
            "fingerprint": dataset.fingerprint(),
            "splits": {part: [image.name for image in images] for part, images in dataset.splits.items()},
        },
        "settings": options.to_dict(),
        "augment": "street" if options.data.augment == "auto" else options.data.augment,
        "seed": options.fit.seed,
        "versions": package_versions(),
        "plan": None,
    }
    parts = ", ".join(f"{len(images)} {part}" for part, images in dataset.splits.items())
    say(f"data      {parts} images, {channels} channels")
    more = f", {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    say(f"classes   {', '.join(f'{i} {name}' for i, name in enumerate(names[:_SHOWN]))}{more}")
    for note in _notes(looks):
        say(f"note      {note}")
    say(f"augment   {info['augment']}")
    return _material(options, info, looks, pre, initial, say)


def _notes(looks: LooksOf) -> list[str]:
    """Return sentences on copies that make scores better or worse than they are, and on classes that are not there."""
    titles = {"leak": "pictures are in two parts, so scores are too good", "two-classes": "pictures are in two classes"}
    notes = []
    for kind, title in titles.items():
        found = [f"{fault.file} ({fault.found})" for fault in looks.copies if fault.kind == kind]
        if found:
            more = f" and {len(found) - 2} more" if len(found) > 2 else ""
            notes.append(f"{len(found)} {title}: {'; '.join(found[:2])}{more}")
    return notes + [f"{fault.file}: {fault.found}" for fault in looks.dataset.warnings]


def _material(
    options: TrainSettings,
    info: dict[str, Any],
    looks: LooksOf,
    pre: Preprocessing,
    initial: dict[str, np.ndarray],
    say: Callable[[str], None],
) -> Material:
    # Not before: a fault of the data is found and named without waiting for TensorFlow.
    import keras

    from ..choices.augmentations import AUGMENTATIONS
    from ..data.label_batches import LabelOrder, calibration_images, labelled_batches, plain_batches

    names = info["classes"]["names"]
    train, validation = looks.images("train", pre), looks.images("val", pre)
    weights = train.class_weights() if options.data.class_weights == "balanced" else None
    if weights:
        say("weights   " + ", ".join(f"{n} {w:.3g}" for n, w in zip(names[:_SHOWN], weights, strict=False)))
    order = LabelOrder(train, options.fit.batch, options.fit.seed)

    def batches(first_step: int, last_step: int, shard: tuple[int, int]) -> Any:
        augmentation = AUGMENTATIONS[info["augment"]]
        return labelled_batches(
            order, augmentation, class_weights=weights, first_step=first_step, last_step=last_step, shard=shard
        )

    def metrics() -> list[keras.metrics.Metric]:
        made: list[keras.metrics.Metric] = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
        if len(names) > 5:
            made.append(keras.metrics.SparseTopKCategoricalAccuracy(5, name="top5"))
        return made

    return Material(
        options=options,
        info=info,
        steps_per_epoch=order.steps,
        batches=batches,
        names=order.names,
        validation=lambda: plain_batches(validation, batch_size=options.fit.batch),
        calibration=calibration_images(train, count=_CALIBRATION_IMAGES),
        initial=initial,
        loss=lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=metrics,
        monitor="val_accuracy",
        watch=lambda run, model: watch_figures(run, options, names),
        finish=_draw,
    )


def _draw(run: RunFolder, model: keras.Model, history: list[dict[str, float]]) -> None:
    """Write the curves."""
    from ..pages.pictures import curves

    write_bytes(run.samples / "curves.png", curves(history, "accuracy"))


def is_classifier(model: str | os.PathLike[str]) -> bool:
    """Return whether a run folder or a `.tflite` says that it gives a class for the whole image.

    Raises:
        ModelError: it cannot be read.
    """
    if RunFolder.is_run(model):
        return RunFolder(model).read_info().get("task") == "classify"
    if Path(model).suffix != ".tflite":
        return False
    return read_card(read_bytes(model, "model file"), file=os.fspath(model)).task == "classify"


def open_classifier(model: str | os.PathLike[str]) -> Classifier:
    """Return a classifier for a run folder or a `.tflite` file.

    Raises:
        ModelError: it cannot be used, or is no classifier.
    """
    if not RunFolder.is_run(model):
        return Classifier(model)
    from .keras_engine import KerasEngine

    loaded = load_run(model)
    return Classifier(None, card=loaded.card, engine=KerasEngine(loaded.model, loaded.card.preprocessing))


def evaluate_classifier(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str] | Dataset | ClassFolders,
    *,
    split: str = "test",
    json_file: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = print,
    reading: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score a classifier on images of known classes.

    Args:
        model: run folder or `.tflite` file.
        data: what `open_class_folders` takes; its classes are those of the model, or some of them.
        split: "train", "val", "test" or "all".
        json_file: where to write the scores, too.
        reading: fields of `Reading` that differ from how the model's training data was read.

    Returns:
        JSON values, as `score_classifier` gives them, and "model" and "split".

    Raises:
        DataError: the data set has faults, classes that the model does not know, or does not have this part.
        UsageError: the data set is one of masks.
        ModelError: the model cannot be used.
    """
    from ..scores.classification import score_classifier

    with open_classifier(model) as classifier:
        images, ids = images_for(classifier.card, data, split, reading)
        pairs = ((image.image.read(), ids[image.label]) for image in images)
        found = score_classifier(
            classifier, pairs, name=f"scoring {os.path.basename(os.fspath(model))}", total=len(images)
        )
    scores = {**found, "model": os.fspath(model), "split": split}
    for name, row in scores["per_class"].items():
        recall, precision = ("absent" if row[key] is None else f"{row[key]:.4f}" for key in ("accuracy", "precision"))
        say(f"class      accuracy {recall}, precision {precision}, {row['images']} images  {name}")
    for key, title in (("top1", "top-1"), ("top5", "top-5"), ("mean_class_accuracy", "mean class")):
        if scores[key] is not None:
            say(f"{title:10} {scores[key]:.4f}")
    say(f"images     {scores['num_images']} ({split}), {scores['ms_per_image']} ms each")
    if json_file is not None:
        write_json(json_file, scores)
    return scores


def images_for(
    card: Card,
    data: str | os.PathLike[str] | Dataset | ClassFolders,
    split: str,
    changes: Mapping[str, Any] | None,
) -> tuple[tuple[Any, ...], list[int]]:
    """Return the images of a part, and for each class id of the data set that of the model."""
    from ..data import Reading
    from ..data.class_folders import ClassFolders, open_class_folders, refuse_for_classifier
    from ..data.labelled import look_at_images

    refuse_for_classifier(data)
    assert isinstance(data, (str, os.PathLike, ClassFolders))
    given = {name: value for name, value in (changes or {}).items() if value is not None}
    dataset = open_class_folders(data, Reading(**card.dataset) if card.dataset else None, given)
    strange = [name for name in dataset.class_names if name not in card.class_names]
    if strange:
        raise DataError(
            "the data set has classes that the model does not know",
            file=dataset.root,
            expected=", ".join(card.class_names[:_SHOWN]),
            found=", ".join(strange[:_SHOWN]),
        )
    images = dataset.split(split)
    look_at_images(dataset.only(split), None)  # names every fault before the first score
    return images, [card.class_names.index(name) for name in dataset.class_names]
