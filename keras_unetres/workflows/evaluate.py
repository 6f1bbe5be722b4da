"""`unetres evaluate`: the score of any model on any part of a data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge import Preprocessing
from unetres_edge.errors import DataError, FileSystemError, UsageError
from unetres_edge.files import write_json

from ..objects import Separation, object_classes
from ..settings import EvaluateSettings
from ..tasks.classify import evaluate_classifier, is_classifier
from ..tasks.loading import open_segmenter, refuse_for_own
from ..tasks.reading import read_for

if TYPE_CHECKING:
    from ..data import ClassFolders, Dataset, Records


def evaluate(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str] | Dataset | ClassFolders,
    *,
    split: str = EvaluateSettings.split,
    json_file: str | os.PathLike[str] | None = None,
    preprocessing: Preprocessing | None = None,
    classes: list[str] | None = None,
    overlap: int | None = None,
    say: Callable[[str], None] = print,
    reading: Mapping[str, Any] | None = None,
    turns: str = EvaluateSettings.turns,
    others: Sequence[str | os.PathLike[str]] = (),
    separation: Separation | None = None,
) -> dict[str, Any]:
    """Score a model on labelled images.

    Args:
        model: run folder, `.tflite` or `.keras` file.
        data: what `open_dataset` takes.
        split: "train", "val", "test" or "all".
        json_file: where to write the scores, too.
        preprocessing: for `.keras` files: how images meet the network.
        classes: for `.keras` files: class names.
        overlap: px shared by neighbouring tiles.
        reading: fields of `Reading` that differ from how the model's training data was read.
        turns: "none", "flips" or "all": on which turns of each tile the network is asked.
        others: more models, whose mean with the first is scored.
        separation: how pixels become objects, if objects are scored too.

    Returns:
        JSON values: "miou", "per_class_iou" (None for a class absent from the masks), "pixel_accuracy",
        "num_images", "ms_per_image", "model", "split"; "turns" and "others" if given; "instances" with a separation.

    Raises:
        DataError: the data set has faults, does not have this part, or names no objects to score.
        ModelError: the model cannot be used.
    """
    if json_file is not None and not Path(json_file).absolute().parent.is_dir():
        raise FileSystemError("the folder of the JSON file does not exist", file=json_file)
    if is_classifier(model):
        refuse_for_own(model, preprocessing=preprocessing, classes=classes)
        if overlap is not None or turns != "none" or others or separation is not None:
            raise UsageError(
                "a classifier gives one class for the whole image, as it is",
                file=model,
                fix="drop the options for tiles, turns, other models and objects",
            )
        return evaluate_classifier(model, data, split=split, json_file=json_file, say=say, reading=reading)
    with open_segmenter(
        model, preprocessing=preprocessing, classes=classes, overlap=overlap, turns=turns, others=others
    ) as segmenter:
        if separation is not None:
            object_classes(segmenter.card.class_names, separation)  # a name that is wrong is refused before any work
        records = read_for(segmenter, data, split, reading)
        from ..scores import score

        each = _with_objects(records) if separation else ((record.image, record.mask) for record in records)
        name = f"scoring {os.path.basename(os.fspath(model))}"
        found = score(segmenter, each, name=name, total=len(records), separation=separation)
    scores = {**found, "model": os.fspath(model), "split": split}
    if turns != "none":
        scores["turns"] = turns
    if others:
        scores["others"] = [os.fspath(other) for other in others]
    for name, value in scores["per_class_iou"].items():
        say(f"IoU        {'absent' if value is None else f'{value:.4f}'}  {name}")
    for key, title in (("miou", "mIoU"), ("pixel_accuracy", "accuracy")):
        say(f"{title:10} {'absent' if scores[key] is None else f'{scores[key]:.4f}'}")
    for key, title in _OF_OBJECTS.items() if separation else ():
        value = scores["instances"][key]
        say(f"{title:10} {'absent' if value is None else f'{value:.4f}'}")
    say(f"images     {scores['num_images']} ({split}), {scores['ms_per_image']} ms each")
    if json_file is not None:
        write_json(json_file, scores)
    return scores


_OF_OBJECTS = {"ap50": "AP@0.5", "map": "mean AP", "pq": "PQ", "v_rand": "V_rand", "v_info": "V_info"}


def _with_objects(records: Records) -> Iterator[tuple[np.ndarray, ...]]:
    for record in records:
        if record.instances is None:
            raise DataError(
                "the data set does not tell objects apart",
                file=record.name,
                expected="masks of instances, or a folder instances/ beside the masks",
                fix="pass --masks instances if each number in a mask is an object",
            )
        yield record.image, record.mask, record.instances
