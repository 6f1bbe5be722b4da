"""The images a model does best and worst on: which they are, what was taken for what, and pictures that show it."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.images.view import to_view
from unetres_edge.results import draw

from ..scores.confusion import Confusion
from .charts import largest_confusions
from .pictures import thinned

_SIDE = 384  # px; longer sides are made smaller
_SHOWN_MISTAKES = 3
MISTAKE_COLORS = ((230, 60, 40), (255, 190, 20), (40, 150, 255))  # the commonest first
OTHER_MISTAKES = (235, 235, 235)


@dataclass(frozen=True)
class Mistake:
    """Pixels of one class taken for another: ids, and their share of the labelled pixels."""

    truth: int
    predicted: int
    share: float


@dataclass(frozen=True)
class Case:
    """An image with what became of it.

    Args:
        index: place among the records.
        name: name of the sample.
        miou: mean IoU of this image alone.
        accuracy: share of its labelled pixels that are right.
        mistakes: the commonest first.
        picture: (h, w, 3) uint8.
        truth, prediction, errors: (h, w, 4) uint8 to be laid over the picture.
    """

    index: int
    name: str
    miou: float
    accuracy: float
    mistakes: tuple[Mistake, ...]
    picture: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    errors: np.ndarray


class Extremes:
    """Keeps the cases of the best and of the worst images as they come, and no more.

    Args:
        most: largest number of each; no image is kept twice in what `best` and `worst` return.
        colors: colours of the classes.
        background: the class that is not drawn.
        show: the channels that are shown, see `to_view`.
    """

    def __init__(self, most: int, colors: Sequence[draw.Color], background: int = 0, show: Sequence[int] = ()) -> None:
        self._most, self._colors, self._background, self._show = most, colors, background, show
        self._low: list[tuple[float, int, Case]] = []  # a heap whose first is the best of the worst
        self._high: list[tuple[float, int, Case]] = []
        self._seen = 0

    def add(self, name: str, image: np.ndarray, mask: np.ndarray, class_map: np.ndarray, count: Confusion) -> None:
        """Look at an image: (H, W) or (H, W, C) as `read_image` gives it, (H, W) uint8 mask and class map."""
        index, self._seen = self._seen, self._seen + 1
        miou, accuracy = count.mean_iou(), count.pixel_accuracy()
        if miou is None or accuracy is None:  # nothing of it is labelled
            return
        low, high = (-miou, -index), (miou, -index)  # of equals the earlier image stays
        wanted = [
            (heap, key)
            for heap, key in ((self._low, low), (self._high, high))
            if len(heap) < self._most or key > heap[0][:2]
        ]
        if wanted:
            case = make_case(index, name, image, mask, class_map, count, self._colors, self._background, self._show)
            for heap, key in wanted:
                heapq.heappush(heap, (*key, case))
                if len(heap) > self._most:
                    heapq.heappop(heap)

    def everything(self) -> list[Case]:
        """Return the cases that are kept, the worst first, each once."""
        cases = {case.index: case for _, _, case in (*self._low, *self._high)}
        return sorted(cases.values(), key=lambda case: (case.miou, case.index))


def make_case(
    index: int,
    name: str,
    image: np.ndarray,
    mask: np.ndarray,
    class_map: np.ndarray,
    count: Confusion,
    colors: Sequence[draw.Color],
    background: int = 0,
    show: Sequence[int] = (),
) -> Case:
    """Return the case of one image, its pictures at most 384 px wide and high."""
    labelled = max(1, int(count.counts.sum()))
    pairs = largest_confusions(count.counts, len(count.counts) ** 2)
    mistakes = tuple(Mistake(truth, label, pixels / labelled) for truth, label, pixels, _ in pairs)
    view = to_view(image[thinned(max(mask.shape), _SIDE)], show)
    scale = min(1.0, _SIDE / max(mask.shape))
    size = (max(1, round(mask.shape[0] * scale)), max(1, round(mask.shape[1] * scale)))
    if scale < 1:
        view = np.asarray(Image.fromarray(view).resize(size[::-1], Image.Resampling.BOX))
    truth, prediction = shrink_ids(mask, size), shrink_ids(class_map, size)
    return Case(
        index,
        name,
        count.mean_iou() or 0.0,
        count.pixel_accuracy() or 0.0,
        mistakes,
        view,
        tint(truth, colors, background),
        tint(prediction, colors, background),
        mark_errors(truth, prediction, mistakes),
    )


def tint(ids: np.ndarray, colors: Sequence[draw.Color], background: int = 0) -> np.ndarray:
    """Return class ids (H, W) as (h, w, 4) uint8 to be laid over a picture: all but the background, outlined."""
    layer = np.zeros((*ids.shape, 4), np.uint8)
    layer[..., :3] = draw.colorize(ids, colors)
    layer[..., 3] = np.where(ids == background, 0, 110)
    edge = draw.outlines(ids, background)
    layer[edge, :3] = np.maximum(layer[edge, :3], 64)
    layer[edge, 3] = 255
    layer[ids == background] = 0
    return layer


def mark_errors(mask: np.ndarray, class_map: np.ndarray, mistakes: Sequence[Mistake]) -> np.ndarray:
    """Return (H, W, 4) uint8 that darkens what is right and colours what is wrong, the commonest mistakes apart."""
    layer = np.zeros((*mask.shape, 4), np.uint8)
    layer[..., 3] = 150
    layer[(mask != class_map) & (mask != IGNORE)] = (*OTHER_MISTAKES, 235)
    for mistake, color in zip(mistakes[:_SHOWN_MISTAKES], MISTAKE_COLORS, strict=False):
        layer[(mask == mistake.truth) & (class_map == mistake.predicted)] = (*color, 235)
    layer[mask == IGNORE] = (0, 0, 0, 205)
    return layer


def shrink_ids(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return class ids (H, W) at another size, each pixel that of the nearest one."""
    rows = ((np.arange(size[0]) + 0.5) * (ids.shape[0] / size[0])).astype(int)
    columns = ((np.arange(size[1]) + 0.5) * (ids.shape[1] / size[1])).astype(int)
    return ids[rows[:, None], columns[None, :]]
