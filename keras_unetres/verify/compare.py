"""One model in several forms, scored on the same images: Keras, float32 file, quantized file, the device's process.

Every image is read once, and goes through all forms before the next. What is kept of an image is its counts, and of
those on which the last form loses most, pictures.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from unetres_edge.classify.classifier import Classifier

from ..machine.progress_bar import with_progress
from ..pages.receipt import ChangedImage
from ..scores.bootstrap import Margins
from ..scores.confusion import Confusion
from ..tasks.review import Sample, Segments
from .changes import WorstImages

SHOWN = 6  # images that lost most
T = TypeVar("T")


@dataclass(frozen=True)
class FormScores:
    """The counts of one form of a segmenter.

    Args:
        margins: margins of each image.
        equal: (N,) share of the pixels of each image with the label of the first form.
        pixels: (N,) of each image, labelled or not.
        ms: (N,) milliseconds of each image; empty where they were not measured.
    """

    margins: Margins
    equal: np.ndarray
    pixels: np.ndarray
    ms: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """The counts of all forms on the same images.

    Args:
        names: names of the images.
        forms: title -> counts of that form, in order.
        changed: images that lost most between the first form and the last, the worst first.
        maps: class map of each image by the last form, packed; see `unpack`.
    """

    names: tuple[str, ...]
    forms: dict[str, FormScores]
    changed: tuple[ChangedImage, ...]
    maps: tuple[bytes, ...]


def compare_segmenters(
    forms: Mapping[str, Segments], samples: Iterable[Sample], *, total: int | None = None, shown: int = SHOWN
) -> Comparison:
    """Segment every image by every form.

    Args:
        forms: title -> segmenter; the first is what the others are compared with.
        total: number of images, for the progress bar.
        shown: number of the worst images that are kept as pictures.
    """
    card = next(iter(forms.values())).card
    classes = len(card.class_names)
    rows: dict[str, list[tuple[Margins, float, float]]] = {title: [] for title in forms}
    names: list[str] = []
    packed: list[bytes] = []
    pixels: list[int] = []
    worst = WorstImages(shown, card.class_colors, card.background, card.show)
    for sample in with_progress(samples, "gate", "image", total):
        maps: list[np.ndarray] = []
        for title, segmenter in forms.items():
            result = segmenter.segment(sample.image)
            maps.append(result.class_map)
            margins = Margins.of(Confusion.of(sample.mask, result.class_map, classes))
            rows[title].append((margins, float((maps[0] == result.class_map).mean()), result.timing["total"]))
        ends = [counted[-1][0] for counted in rows.values()]
        worst.add(sample, maps[0], maps[-1], 100 * float(ends[0].total().miou - ends[-1].total().miou))
        names.append(sample.name)
        packed.append(pack(maps[-1]))
        pixels.append(maps[-1].size)
    counts = {
        title: FormScores(
            Margins.joined([margins for margins, _, _ in images], classes),
            np.array([equal for _, equal, _ in images]),
            np.array(pixels),
            np.array([ms for _, _, ms in images]),
        )
        for title, images in rows.items()
    }
    return Comparison(tuple(names), counts, worst.images(), tuple(packed))


def count_maps(
    maps: Iterable[np.ndarray], samples: Iterable[Sample], reference: Sequence[bytes], ms: Sequence[float], classes: int
) -> FormScores:
    """Return the counts of class maps that another process made; `equal` compares with packed ones.

    Args:
        maps: (H, W) uint8 of each image.
        samples: the images with their masks.
        reference: as `Comparison.maps`.
        ms: milliseconds of each image.
        classes: number of them.
    """
    rows, equal, pixels = [], [], []
    for class_map, sample, packed in zip(maps, samples, reference, strict=True):
        rows.append(Margins.of(Confusion.of(sample.mask, class_map, classes)))
        equal.append(float((unpack(packed, class_map.shape) == class_map).mean()))
        pixels.append(class_map.size)
    return FormScores(Margins.joined(rows, classes), np.array(equal), np.array(pixels), np.array(ms))


def pack(class_map: np.ndarray) -> bytes:
    """Return a class map (H, W) uint8 in few bytes."""
    return zlib.compress(np.ascontiguousarray(class_map).tobytes(), 1)


def unpack(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Return what `pack` was given."""
    return np.frombuffer(zlib.decompress(data), np.uint8).reshape(shape)


def compare_classifiers(
    forms: Mapping[str, Classifier], images: Iterable[np.ndarray], *, total: int | None = None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Classify every image by every form and return title -> ((N,) class ids, (N,) milliseconds)."""
    answers: dict[str, list[tuple[int, float]]] = {title: [] for title in forms}
    for image in with_progress(images, "gate", "image", total):
        for title, classifier in forms.items():
            answer = classifier.classify(image)
            answers[title].append((answer.class_id, answer.timing["total"]))
    return {
        title: (np.array([label for label, _ in rows], int), np.array([ms for _, ms in rows], float))
        for title, rows in answers.items()
    }
