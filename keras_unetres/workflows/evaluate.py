"""`unetres evaluate`: the score of any model on any part of a data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetres_edge import Preprocessing, Segmenter
from unetres_edge.errors import DataError, FileSystemError
from unetres_edge.files import write_json

from .loading import open_segmenter

if TYPE_CHECKING:
    from ..data import Dataset, Records


def evaluate(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str] | Dataset,
    *,
    split: str = "test",
    json_file: str | os.PathLike[str] | None = None,
    preprocessing: Preprocessing | None = None,
    classes: list[str] | None = None,
    overlap: int | None = None,
    say: Callable[[str], None] = print,
    reading: Mapping[str, Any] | None = None,
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

    Returns:
        JSON values: "miou", "per_class_iou" (None for a class absent from the masks), "pixel_accuracy",
        "num_images", "ms_per_image", "model", "split".

    Raises:
        DataError: the data set has faults, or does not have this part.
        ModelError: the model cannot be used.
    """
    if json_file is not None and not Path(json_file).absolute().parent.is_dir():
        raise FileSystemError("the folder of the JSON file does not exist", file=json_file)
    with open_segmenter(model, preprocessing=preprocessing, classes=classes, overlap=overlap) as segmenter:
        records = read_for(segmenter, data, split, reading)
        from ..evaluate import score

        pairs = ((record.image, record.mask) for record in records)
        found = score(segmenter, pairs, name=f"scoring {os.path.basename(os.fspath(model))}", total=len(records))
    scores = {**found, "model": os.fspath(model), "split": split}
    for name, value in scores["per_class_iou"].items():
        say(f"IoU        {'absent' if value is None else f'{value:.4f}'}  {name}")
    for key, title in (("miou", "mIoU"), ("pixel_accuracy", "accuracy")):
        say(f"{title:10} {'absent' if scores[key] is None else f'{scores[key]:.4f}'}")
    say(f"images     {scores['num_images']} ({split}), {scores['ms_per_image']} ms each")
    if json_file is not None:
        write_json(json_file, scores)
    return scores


def read_for(
    segmenter: Segmenter, data: str | os.PathLike[str] | Dataset, split: str, changes: Mapping[str, Any] | None = None
) -> Records:
    """Read a part of a data set as the model's training data was read, except for `changes`."""
    from ..data import Reading, open_dataset, read_records

    card = segmenter.card
    reading = Reading(**card.dataset) if card.dataset else None
    dataset = open_dataset(data, reading, changes)
    records = read_records(dataset, [split], class_names=card.class_names)[split]
    if not len(records):
        raise DataError("no images to score", file=dataset.root)
    return records
