"""Held-out images, read as the training data was, on which the forms of a model are scored side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from unetres_edge import Card, Classifier, Segmenter
from unetres_edge.errors import DataError

from ..choices.tasks import CLASSIFY, SEGMENT
from ..runs import RunInfo
from ..scores.baseline import Baseline, baseline_of_miou, baseline_of_share
from ..scores.paired import Drop
from ..tasks import TASKS
from ..tasks.task import Loaded, Task
from .compare import compare_classifiers, compare_segmenters, count_maps
from .device import classify_on_device, segment_on_device
from .rows import (
    DEVICE,
    KERAS,
    MIOU,
    TOP1,
    ImageRow,
    Row,
    ScoredOn,
    classify_rows,
    device_row,
    engine_title,
    file_row,
    image_rows,
    segment_rows,
)

if TYPE_CHECKING:
    from ..pages.receipt import ChangedImage

DATA_IN_MEMORY = "data in memory"  # what stands for the path of such data
_FALLBACK = (
    "There is no test part. These validation images also chose the weights: the scores are optimistic, the loss is not."
)


@dataclass(frozen=True)
class Scored:
    """The scores of the forms of a model on held-out images.

    Args:
        score: name of the score that counts: "mIoU" or "top-1".
        rows: scores of each form, the Keras model first and the file last, or before the device's runtime.
        images: a row for each image; none for classifiers.
        changed: the images that lost most.
        device: file -> the row of the runtime in its own process.
        engine: (bytes of the file, name of an engine) -> the row of that engine, and the share of labels equal to the
            file's of the image where it is least.
        baseline: score of always answering one class on the same images, or None where there is but one.
    """

    score: str
    rows: tuple[Row, ...]
    images: tuple[ImageRow, ...]
    changed: tuple[ChangedImage, ...]
    device: Callable[[Path], Row]
    engine: Callable[[bytes, str], tuple[Row, float]]
    baseline: Baseline | None = None

    @property
    def drop(self) -> Drop | None:
        """How much lower the file's score is than that of the Keras model."""
        return file_row(self.rows).drop


class LabelledImages(Protocol):
    """Images in an order, each with its `name`, its `image`, and its `mask` or its `class_id`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


@dataclass(frozen=True)
class HeldOut:
    """Images that the network was not trained on, each with its mask or its class.

    Args:
        records: the images; each is read anew when it is asked for.
        about: description of the images.
        task: task of the model.
    """

    records: LabelledImages
    about: ScoredOn
    task: Task

    def sample(self, count: int) -> list[np.ndarray]:
        """Return some of the images, spread over all, as `read_image` gives them."""
        places = np.linspace(0, len(self.records) - 1, min(len(self.records), count)).astype(int)
        return [self.records[int(index)].image for index in np.unique(places)]

    def score(self, models: Mapping[str, Loaded], files: Mapping[str, bytes]) -> Scored:
        """Score Keras models and the bytes of files, by title: the one to compare with first, the file last."""
        forms: dict[str, Any] = {title: self.task.run_keras(loaded) for title, loaded in models.items()}
        forms |= {title: self.task.open_file(data) for title, data in files.items()}
        names = models[KERAS].card.class_names
        return _SCORE[self.task.name](forms, self.records, names)

    def judge(self, model: Loaded) -> Callable[[bytes], float]:
        """Return what tells by how many points of the score the bytes of a file are worse than a Keras model.

        Raises:
            DataError: no image has a label.
        """

        def score(opened: Any) -> float:
            value = self.task.score(opened, self.records)[self.task.score_key]  # type: ignore[arg-type]
            if value is None:
                raise DataError("no pixel of these images is labelled", file=self.about.path)
            return float(value)

        reference = score(self.task.run_keras(model))

        def points(data: bytes) -> float:
            with self.task.open_file(data) as opened:
                return 100 * (reference - score(opened))

        return points


def _score_masks(forms: Mapping[str, Any], records: LabelledImages, names: Sequence[str]) -> Scored:
    """Score segmenters by mIoU."""
    compared = compare_segmenters(forms, records, total=len(records))

    def device(file: Path) -> Row:
        pairs = list(segment_on_device(file, (record.image for record in records)))
        maps, ms = [class_map for class_map, _ in pairs], [time for _, time in pairs]
        counts = count_maps(maps, records, compared.maps, ms, len(names))
        row = segment_rows({KERAS: compared.forms[KERAS], DEVICE: counts}, names)[1]
        return device_row(row, labels_as_file=row.labels_equal, labels_equal=row.labels_equal)

    def on_engine(data: bytes, name: str) -> tuple[Row, float]:
        ms: list[float] = []

        def maps() -> Iterator[np.ndarray]:
            with Segmenter(data, engine=name) as segmenter:
                for record in records:
                    result = segmenter.segment(record.image)
                    ms.append(result.timing["total"])
                    yield result.class_map

        counts = count_maps(maps(), records, compared.maps, ms, len(names))
        row = segment_rows({KERAS: compared.forms[KERAS], engine_title(name): counts}, names)[1]
        compared_row = device_row(row, labels_as_file=row.labels_equal, labels_equal=row.labels_equal)
        return compared_row, float(counts.equal.min())

    baseline = baseline_of_miou(compared.forms[KERAS].margins.truth.sum(0), names)
    rows = segment_rows(compared.forms, names)
    return Scored(MIOU, rows, image_rows(compared), compared.changed, device, on_engine, baseline)


def _score_classes(forms: Mapping[str, Any], records: LabelledImages, names: Sequence[str]) -> Scored:
    """Score classifiers by top-1."""
    truth = np.array([record.class_id for record in records])
    answers = compare_classifiers(forms, (record.image for record in records), total=len(records))
    last = list(answers.values())[-1][0]

    def device(file: Path) -> Row:
        pairs = list(classify_on_device(file, (record.image for record in records)))
        labels = np.array([names.index(name) for name, _ in pairs])
        both = {KERAS: answers[KERAS], DEVICE: (labels, np.array([ms for _, ms in pairs]))}
        row = classify_rows(both, truth, names)[1]
        return device_row(row, labels_as_file=float((labels == last).mean()), labels_equal=None)

    def on_engine(data: bytes, name: str) -> tuple[Row, float]:
        title = engine_title(name)
        with Classifier(data, engine=name) as classifier:
            answered = compare_classifiers({title: classifier}, (record.image for record in records))[title]
        row = classify_rows({KERAS: answers[KERAS], title: answered}, truth, names)[1]
        equal = answered[0] == last
        return device_row(row, labels_as_file=float(equal.mean()), labels_equal=None), float(equal.min())

    baseline = baseline_of_share(np.bincount(truth, minlength=len(names)), names)
    return Scored(TOP1, classify_rows(answers, truth, names), (), (), device, on_engine, baseline)


_SCORE = {SEGMENT.name: _score_masks, CLASSIFY.name: _score_classes}


def read_held_out(card: Card, data: Any, split: str | None, info: RunInfo | None) -> HeldOut:
    """Read the images that a file is scored on, as the training data was read.

    Args:
        card: the card of the model.
        data: data set, as `open_for` takes it.
        split: "train", "val", "test" or "all"; None for the test part, or where there is none the validation part.
        info: content of `run.json`, or None.

    Raises:
        DataError: the data set has faults, other classes, or does not have this part.
    """
    from ..data.records import fingerprint
    from ..data.shards.store import is_address
    from ..tasks.reading import open_for, read_for
    from ..tasks.reports import changes_since

    dataset = open_for(card, data)
    chosen = split or ("test" if dataset.splits.get("test") else "val")
    records = read_for(card, dataset, chosen)
    notes = [] if info is None else changes_since(info, dataset, records)
    if chosen == "val" and split is None:
        notes.append(_FALLBACK)
    if chosen in ("train", "all"):
        notes.append("The network was trained on these images, or on some of them.")
    path = DATA_IN_MEMORY
    if isinstance(data, (str, os.PathLike)):
        text = os.fspath(data)
        path = text if text.startswith("tfds:") or is_address(text) else os.path.abspath(text)
    about = ScoredOn(path, chosen, len(records), fingerprint(dataset, records.classes), tuple(notes))
    return HeldOut(records, about, TASKS[card.task])
