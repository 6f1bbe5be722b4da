"""The gate: a file that was just made, scored on held-out images step by step, beside the Keras model it came from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from unetres_edge import Card, Classifier, Segmenter
from unetres_edge.errors import DataError

from ..runs import RunInfo
from ..scores.paired import Drop, drop_of_miou, drop_of_share
from ..tasks.loading import Loaded, keras_segmenter
from .device import classify_on_device, segment_on_device
from .receipt import classify_rows, image_rows, segment_rows

if TYPE_CHECKING:
    from ..data import Records
    from ..pages.receipt import ChangedImage

KERAS, AWARE, DEVICE = "Keras", "Keras, quantization-aware", "on the device's runtime"
_FALLBACK = (
    "There is no test part. These validation images also chose the weights: the scores are optimistic, the loss is not."
)


@dataclass(frozen=True)
class Scored:
    """What the forms of a model did on held-out images.

    Args:
        score: name of the score that counts: "mIoU" or "top-1".
        rows: one for each form, the Keras model first and the file last.
        drop: of the score, from the first form to the last.
        images: a row for each image; none for classifiers.
        losses: the images that lost most.
        device: file -> the row of the runtime in its own process.
    """

    score: str
    rows: list[dict[str, Any]]
    drop: Drop | None
    images: list[dict[str, Any]]
    losses: tuple[ChangedImage, ...]
    device: Callable[[Path], dict[str, Any]]


class HeldOut(Protocol):
    """Images that the network was not trained on, read as its training data was."""

    @property
    def about(self) -> dict[str, Any]:
        """Where they are: "path", "split", "num_images", "fingerprint" and "notes", JSON values."""

    def sample(self, count: int) -> list[np.ndarray]:
        """Return some of the images, as `read_image` gives them."""

    def score(self, models: Mapping[str, Loaded], files: Mapping[str, bytes]) -> Scored:
        """Score Keras models and the bytes of files, by title: the one to compare with first, the file last."""

    def judge(self, model: Loaded) -> Callable[[bytes], float]:
        """Return what tells by how many points of the score the bytes of a file are worse than a Keras model.

        Raises:
            DataError: no image has a label.
        """


@dataclass(frozen=True)
class HeldOutMasks:
    """Held-out images with masks."""

    records: Records
    about: dict[str, Any]

    def sample(self, count: int) -> list[np.ndarray]:
        """Return some of the images, spread over all."""
        return [self.records[place].image for place in _spread(len(self.records), count)]

    def score(self, models: Mapping[str, Loaded], files: Mapping[str, bytes]) -> Scored:
        """Score the forms by mIoU."""
        from .steps import count_maps, score_steps

        names = models[KERAS].card.class_names
        forms = {title: keras_segmenter(loaded) for title, loaded in models.items()}
        forms |= {title: Segmenter(data) for title, data in files.items()}
        found = score_steps(forms, self.records, total=len(self.records))
        first, last = found.steps[KERAS], list(found.steps.values())[-1]

        def device(file: Path) -> dict[str, Any]:
            pairs = list(segment_on_device(file, (record.image for record in self.records)))
            maps, ms = [class_map for class_map, _ in pairs], [time for _, time in pairs]
            step = count_maps(maps, self.records, found.maps, ms, len(names))
            row = segment_rows({KERAS: first, DEVICE: step}, names)[1]
            return {**row, "labels_as_file": row.pop("labels_equal")}

        return Scored(
            "mIoU",
            segment_rows(found.steps, names),
            drop_of_miou(first.margins, last.margins),
            image_rows(found),
            found.losses,
            device,
        )

    def judge(self, model: Loaded) -> Callable[[bytes], float]:
        """Return what tells the loss of mIoU."""
        from ..scores import score

        def miou(segmenter: Segmenter) -> float:
            pairs = ((record.image, record.mask) for record in self.records)
            found = score(segmenter, pairs, total=len(self.records))["miou"]
            if found is None:
                raise DataError("no pixel of these images is labelled", file=self.about["path"])
            return float(found)

        reference = miou(keras_segmenter(model))

        def points(data: bytes) -> float:
            with Segmenter(data) as segmenter:
                return 100 * (reference - miou(segmenter))

        return points


@dataclass(frozen=True)
class HeldOutClasses:
    """Held-out images, each of a class."""

    images: tuple[Any, ...]
    labels: np.ndarray
    about: dict[str, Any]

    def sample(self, count: int) -> list[np.ndarray]:
        """Return some of the images, spread over all."""
        return [self.images[place].image.read() for place in _spread(len(self.images), count)]

    def score(self, models: Mapping[str, Loaded], files: Mapping[str, bytes]) -> Scored:
        """Score the forms by top-1."""
        from ..tasks.keras_engine import KerasEngine
        from .steps import answers

        card = models[KERAS].card
        engines = {title: KerasEngine(loaded.model, card.preprocessing) for title, loaded in models.items()}
        forms = {title: Classifier(None, card=card, engine=engine) for title, engine in engines.items()}
        forms |= {title: Classifier(data) for title, data in files.items()}
        found = answers(forms, (image.image.read() for image in self.images), total=len(self.images))
        first, last = found[KERAS][0], list(found.values())[-1][0]

        def device(file: Path) -> dict[str, Any]:
            pairs = list(classify_on_device(file, (image.image.read() for image in self.images)))
            labels = np.array([card.class_names.index(name) for name, _ in pairs])
            forms = {KERAS: found[KERAS], DEVICE: (labels, np.array([ms for _, ms in pairs]))}
            row = classify_rows(forms, self.labels, card.class_names)[1]
            return {**row, "labels_as_file": float((labels == last).mean()), "labels_equal": None}

        return Scored(
            "top-1",
            classify_rows(found, self.labels, card.class_names),
            drop_of_share(first == self.labels, last == self.labels),
            [],
            (),
            device,
        )

    def judge(self, model: Loaded) -> Callable[[bytes], float]:
        """Return what tells the loss of top-1."""
        from ..tasks.keras_engine import KerasEngine
        from .steps import answers

        def top1(classifier: Classifier) -> float:
            images = (image.image.read() for image in self.images)
            labels, _ = answers({"": classifier}, images, total=len(self.images))[""]
            return float((labels == self.labels).mean())

        engine = KerasEngine(model.model, model.card.preprocessing)
        reference = top1(Classifier(None, card=model.card, engine=engine))

        def points(data: bytes) -> float:
            with Classifier(data) as classifier:
                return 100 * (reference - top1(classifier))

        return points


def read_held_out(loaded: Loaded, data: str | os.PathLike[str], split: str | None, info: RunInfo | None) -> HeldOut:
    """Read the images that a file is scored on, as the training data was read.

    Args:
        loaded: the model and its card.
        data: what `open_dataset` takes.
        split: "train", "val", "test" or "all"; None for the test part, or where there is none the validation part.
        info: what `run.json` says, or None.

    Raises:
        DataError: the data set has faults, other classes, or does not have this part.
    """
    if loaded.card.task == "classify":
        return _read_classes(loaded.card, data, split, info)
    return _read_masks(loaded, data, split, info)


def _read_masks(loaded: Loaded, data: str | os.PathLike[str], split: str | None, info: RunInfo | None) -> HeldOut:
    from ..data.records import fingerprint
    from ..tasks.reading import open_for, read_for
    from ..tasks.reports import changes_since

    dataset = open_for(loaded.card, data)
    chosen = split or ("test" if dataset.splits.get("test") else "val")
    records = read_for(loaded.card, dataset, chosen)
    notes = [] if info is None else changes_since(info, dataset, records)
    about = _about(data, chosen, len(records), fingerprint(dataset, records.classes), split, notes)
    return HeldOutMasks(records, about)


def _read_classes(card: Card, data: str | os.PathLike[str], split: str | None, info: RunInfo | None) -> HeldOut:
    from ..data.records import fingerprint
    from ..tasks.reading import open_for, read_for

    dataset = open_for(card, data)
    chosen = split or ("test" if dataset.splits.get("test") else "val")
    records = read_for(card, dataset, chosen)
    found, notes = fingerprint(dataset, records.classes), []
    if info is not None and found != info.data.fingerprint:
        notes.append("The data set is not the one, or not as it was, that the run was trained on.")
    about = _about(data, chosen, len(records), found, split, notes)
    return HeldOutClasses(records.samples, np.array([record.class_id for record in records]), about)


def _about(
    data: str | os.PathLike[str], chosen: str, count: int, fingerprint: str, asked: str | None, notes: list[str]
) -> dict[str, Any]:
    learned = ["The network was trained on these images, or on some of them."] if chosen in ("train", "all") else []
    fallback = [_FALLBACK] if chosen == "val" and asked is None else []
    path = os.fspath(data)
    return {
        "path": path if path.startswith("tfds:") else os.path.abspath(path),
        "split": chosen,
        "num_images": count,
        "fingerprint": fingerprint,
        "notes": [*notes, *fallback, *learned],
    }


def _spread(count: int, most: int) -> list[int]:
    return [int(place) for place in np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))]
