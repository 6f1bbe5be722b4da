"""The rows of a receipt: what each form of a model scored, and what became of each image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..scores.paired import Drop, drop_of_miou, drop_of_share

if TYPE_CHECKING:
    from .compare import Comparison, FormScores

KERAS, AWARE, DEVICE = "Keras", "Keras, quantization-aware", "on the device's runtime"
MIOU, TOP1 = "mIoU", "top-1"
PER_CLASS = {MIOU: "per_class_iou", TOP1: "per_class_accuracy"}  # score -> the key of its parts


@dataclass(frozen=True)
class ScoredOn:
    """Which images a file was scored on.

    Args:
        path: path of the data set.
        split: the part of it.
        num_images: number of images.
        fingerprint: fingerprint of the data set.
        notes: sentences that a reader has to know before the scores are believed.
    """

    path: str
    split: str
    num_images: int
    fingerprint: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        part = {"all": "", "train": "training ", "val": "validation "}.get(self.split, f"{self.split} ")
        return f"{self.num_images} {part}image{'s' * (self.num_images != 1)}"


@dataclass(frozen=True)
class Row:
    """The scores of one form of a model.

    Args:
        title: title of the form, such as "Keras" or "static_wi8_ai8 .tflite".
        score: mIoU, or top-1 of a classifier, 0 to 1; None where nothing is labelled.
        per_class: class name -> IoU, or accuracy of a classifier; None for a class that is absent.
        drop: points by which the score fell from the first form to this one.
        labels_equal: share of all pixels (of a classifier: of images) with the label of the first form.
        ms: milliseconds of an image, median; None where they were not measured.
        pixel_accuracy: share of the labelled pixels that are right; None for a classifier.
        labels_as_file: share of the device runtime's labels that equal the file's here; None for other forms.
        kb: size of the file; None for a Keras model.
    """

    title: str
    score: float | None
    per_class: Mapping[str, float | None]
    drop: Drop | None
    labels_equal: float | None
    ms: float | None
    pixel_accuracy: float | None = None
    labels_as_file: float | None = None
    kb: float | None = None

    def to_dict(self, score: str) -> dict[str, Any]:
        """Return JSON values; `score` is the name of the score."""
        return {
            "title": self.title,
            "score": self.score,
            **({"pixel_accuracy": self.pixel_accuracy} if score == MIOU else {}),
            PER_CLASS[score]: dict(self.per_class),
            **drop_values(self.drop),
            "labels_equal": self.labels_equal,
            "ms": self.ms,
            **({} if self.labels_as_file is None else {"labels_as_file": self.labels_as_file}),
            "kb": self.kb,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Row:
        """Return the row of which `values` are the JSON values."""
        per_class: Mapping[str, float | None] = next((values[key] for key in PER_CLASS.values() if key in values), {})
        return cls(
            values["title"],
            values["score"],
            dict(per_class),
            read_drop(values),
            values["labels_equal"],
            values["ms"],
            values.get("pixel_accuracy"),
            values.get("labels_as_file"),
            values.get("kb"),
        )


@dataclass(frozen=True)
class ImageRow:
    """What became of one image.

    Args:
        name: name of the image.
        first: its own mIoU by the first form; None where nothing of it is labelled.
        last: the same by the last form.
        drop: drop from the one to the other, in points.
        labels_equal: share of its pixels with the same label.
    """

    name: str
    first: float | None
    last: float | None
    drop: float | None
    labels_equal: float


def drop_values(drop: Drop | None) -> dict[str, Any]:
    """Return a drop as JSON values, in points."""
    interval = None if drop is None or drop.interval is None else list(drop.interval)
    return {"drop": None if drop is None else drop.points, "drop_interval": interval}


def read_drop(values: Mapping[str, Any]) -> Drop | None:
    """Return the drop of which `values` hold the JSON values."""
    if values["drop"] is None:
        return None
    interval = values["drop_interval"]
    return Drop(values["drop"], None if interval is None else (interval[0], interval[1]))


def segment_rows(forms: Mapping[str, FormScores], class_names: Sequence[str]) -> tuple[Row, ...]:
    """Return a row for each form of a segmenter: its scores, and how far they are from the first form's."""
    first = next(iter(forms.values()))
    rows = []
    for title, form in forms.items():
        total = form.margins.total()
        ious = zip(class_names, np.atleast_1d(total.iou), strict=True)
        rows.append(
            Row(
                title,
                _number(total.miou),
                {name: _number(value) for name, value in ious},
                drop_of_miou(first.margins, form.margins),
                _number(_pixels_equal(form)),
                _number(np.median(form.ms)) if len(form.ms) else None,
                _number(total.accuracy),
            )
        )
    return tuple(rows)


def classify_rows(
    forms: Mapping[str, tuple[np.ndarray, np.ndarray]], truth: np.ndarray, class_names: Sequence[str]
) -> tuple[Row, ...]:
    """Return a row for each form of a classifier.

    Args:
        forms: title -> ((N,) class ids, (N,) milliseconds or none).
        truth: (N,) class ids.
        class_names: names of the classes, by id.
    """
    first = next(iter(forms.values()))[0]
    rows = []
    for title, (labels, ms) in forms.items():
        right = labels == truth
        accuracies = {
            name: _number(right[truth == class_id].mean()) if (truth == class_id).any() else None
            for class_id, name in enumerate(class_names)
        }
        rows.append(
            Row(
                title,
                _number(right.mean()) if len(right) else None,
                accuracies,
                drop_of_share(first == truth, right),
                _number((labels == first).mean()) if len(right) else None,
                _number(np.median(ms)) if len(ms) else None,
            )
        )
    return tuple(rows)


def file_row(rows: Sequence[Row]) -> Row:
    """Return the row of the file itself: the last that is not the device's runtime."""
    return [row for row in rows if row.labels_as_file is None][-1]


def engine_title(engine: str) -> str:
    """Return the title of the row of an engine other than LiteRT."""
    return f"on {engine}"


def device_row(row: Row, *, labels_as_file: float | None, labels_equal: float | None) -> Row:
    """Return the row of the device's runtime, whose labels are compared with the file's in this process."""
    return replace(row, labels_as_file=labels_as_file, labels_equal=labels_equal)


def image_rows(compared: Comparison) -> tuple[ImageRow, ...]:
    """Return a row for each image of a segmenter."""
    first, last = list(compared.forms.values())[0], list(compared.forms.values())[-1]
    pairs = zip(compared.names, first.margins.single().miou, last.margins.single().miou, last.equal, strict=True)
    return tuple(
        ImageRow(name, _number(before), _number(after), _number(100 * (before - after)), float(equal))
        for name, before, after, equal in pairs
    )


def _pixels_equal(form: FormScores) -> float:
    """Return the share of all pixels with the first form's label; images count by their size."""
    return float(np.average(form.equal, weights=form.pixels)) if len(form.equal) else math.nan


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
