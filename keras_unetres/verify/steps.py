"""One model in several forms, scored on the same images: Keras, float32 file, quantized file, the device's process.

Every image is read once, and goes through all forms before the next. What is kept of an image is its counts, and of
those on which the last form loses most, pictures.
"""

from __future__ import annotations

import heapq
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from unetres_edge.classify.classifier import Classifier
from unetres_edge.images.preprocessing import Preprocessing
from unetres_edge.results.draw import Color

from ..pages.cases import shrink_ids, tint
from ..pages.receipt import CHANGE_COLORS, ChangedImage
from ..pages.review import Sample, Segments
from ..scores.bootstrap import Margins
from ..scores.confusion import Confusion

SHOWN = 6
T = TypeVar("T")

_SIDE = 320  # px; longer sides are made smaller


@dataclass(frozen=True)
class Step:
    """What one form of a segmenter did.

    Args:
        margins: of each image.
        equal: (N,) share of the pixels of each image with the label of the first form.
        pixels: (N,) of each image, labelled or not.
        ms: (N,) milliseconds of each image; empty where they were not measured.
    """

    margins: Margins
    equal: np.ndarray
    pixels: np.ndarray
    ms: np.ndarray


@dataclass(frozen=True)
class Steps:
    """What all forms did.

    Args:
        names: of the images.
        steps: title -> what that form did, in order.
        losses: images that lost most between the first form and the last, the worst first.
        maps: class map of each image by the last form, packed; see `unpack`.
    """

    names: tuple[str, ...]
    steps: dict[str, Step]
    losses: tuple[ChangedImage, ...]
    maps: tuple[bytes, ...]


def score_steps(
    forms: Mapping[str, Segments], samples: Iterable[Sample], *, total: int | None = None, shown: int = SHOWN
) -> Steps:
    """Segment every image by every form.

    Args:
        forms: title -> segmenter; the first is what the others are compared with.
        total: number of images, for the progress bar.
        shown: how many of the worst images are kept as pictures.
    """
    card = next(iter(forms.values())).card
    classes = len(card.class_names)
    rows: dict[str, list[tuple[Margins, float, float]]] = {title: [] for title in forms}
    names: list[str] = []
    packed: list[bytes] = []
    pixels: list[int] = []
    worst = _Worst(shown, card.class_colors)
    for sample in _with_progress(samples, total):
        maps: list[np.ndarray] = []
        for title, segmenter in forms.items():
            result = segmenter.segment(sample.image)
            maps.append(result.class_map)
            margins = Margins.of(Confusion.of(sample.mask, result.class_map, classes))
            rows[title].append((margins, float((maps[0] == result.class_map).mean()), result.timing["total"]))
        ends = [found[-1][0] for found in rows.values()]
        worst.add(sample, maps[0], maps[-1], 100 * float(ends[0].total().miou - ends[-1].total().miou))
        names.append(sample.name)
        packed.append(pack(maps[-1]))
        pixels.append(maps[-1].size)
    steps = {
        title: Step(
            Margins.joined([margins for margins, _, _ in found], classes),
            np.array([equal for _, equal, _ in found]),
            np.array(pixels),
            np.array([ms for _, _, ms in found]),
        )
        for title, found in rows.items()
    }
    return Steps(tuple(names), steps, worst.losses(), tuple(packed))


class _Worst:
    """Keeps the pictures of the images that lost most, as they come."""

    def __init__(self, most: int, colors: Sequence[Color]) -> None:
        self._most, self._colors, self._seen = most, colors, 0
        self._heap: list[tuple[tuple[float, float, int], ChangedImage]] = []  # the first is the best of the worst

    def add(self, sample: Sample, first: np.ndarray, last: np.ndarray, points: float) -> None:
        """Look at an image, of which `points` of its own mIoU were lost, or NaN of one that is not labelled."""
        index, self._seen = self._seen, self._seen + 1
        equal = float((first == last).mean())
        points = 0.0 if np.isnan(points) else points
        key = (points, 1 - equal, -index)  # of equals the earlier image stays
        if equal == 1 or (len(self._heap) == self._most and key < self._heap[0][0]):
            return
        heapq.heappush(self._heap, (key, self._loss(index, sample, first, last, points, equal)))
        if len(self._heap) > self._most:
            heapq.heappop(self._heap)

    def losses(self) -> tuple[ChangedImage, ...]:
        """Return what is kept, the worst first."""
        return tuple(loss for _, loss in sorted(self._heap, key=lambda pair: pair[0], reverse=True))

    def _loss(
        self, index: int, sample: Sample, first: np.ndarray, last: np.ndarray, points: float, equal: float
    ) -> ChangedImage:
        view = Preprocessing(channels=3).prepare(sample.image)
        scale = min(1.0, _SIDE / max(first.shape))
        size = (max(1, round(first.shape[0] * scale)), max(1, round(first.shape[1] * scale)))
        if scale < 1:
            view = np.asarray(Image.fromarray(view).resize(size[::-1], Image.Resampling.BOX))
        truth, before, after = (tint(shrink_ids(ids, size), self._colors) for ids in (sample.mask, first, last))
        changes = mark_changes(first, last, sample.mask, size)
        return ChangedImage(index, sample.name, points, equal, view, truth, before, after, changes)


def mark_changes(first: np.ndarray, last: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return (h, w, 4) uint8 that darkens what both say alike and marks what they do not.

    A pixel of the smaller picture is marked if any that it stands for differs: red where the first was right, yellow
    where the last is, white where neither is or nothing is labelled.

    Args:
        first, last, mask: (H, W) uint8.
        size: (h, w), at most (H, W).
    """
    layer = np.zeros((*size, 4), np.uint8)
    layer[..., 3] = 165
    rows, columns = np.nonzero(first != last)
    right = (first[rows, columns] == mask[rows, columns], last[rows, columns] == mask[rows, columns])
    places = rows * size[0] // first.shape[0], columns * size[1] // first.shape[1]
    for chosen, color in zip((~right[0] & ~right[1], right[1], right[0]), CHANGE_COLORS.values(), strict=True):
        layer[places[0][chosen], places[1][chosen]] = (*color, 255)
    return layer


def count_maps(
    maps: Iterable[np.ndarray], samples: Iterable[Sample], reference: Sequence[bytes], ms: Sequence[float], classes: int
) -> Step:
    """Return the step of class maps that another process made; `equal` compares with packed ones.

    Args:
        maps: (H, W) uint8 of each image.
        samples: the images with their masks.
        reference: as `Steps.maps`.
        ms: milliseconds of each image.
        classes: number of them.
    """
    rows, equal, pixels = [], [], []
    for class_map, sample, packed in zip(maps, samples, reference, strict=True):
        rows.append(Margins.of(Confusion.of(sample.mask, class_map, classes)))
        equal.append(float((unpack(packed, class_map.shape) == class_map).mean()))
        pixels.append(class_map.size)
    return Step(Margins.joined(rows, classes), np.array(equal), np.array(pixels), np.array(ms))


def pack(class_map: np.ndarray) -> bytes:
    """Return a class map (H, W) uint8 in few bytes."""
    return zlib.compress(np.ascontiguousarray(class_map).tobytes(), 1)


def unpack(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Return what `pack` was given."""
    return np.frombuffer(zlib.decompress(data), np.uint8).reshape(shape)


def answers(
    forms: Mapping[str, Classifier], images: Iterable[np.ndarray], *, total: int | None = None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Classify every image by every form and return title -> ((N,) class ids, (N,) milliseconds)."""
    found: dict[str, list[tuple[int, float]]] = {title: [] for title in forms}
    for image in _with_progress(images, total):
        for title, classifier in forms.items():
            answer = classifier.classify(image)
            found[title].append((answer.class_id, answer.timing["total"]))
    return {
        title: (np.array([label for label, _ in rows], int), np.array([ms for _, ms in rows], float))
        for title, rows in found.items()
    }


def _with_progress(items: Iterable[T], total: int | None) -> Iterable[T]:
    progress: Iterable[T] = tqdm(
        items, total=total, desc="gate", unit="image", disable=None, leave=False, file=sys.stderr
    )
    return progress
