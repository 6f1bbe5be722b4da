"""The images on which the last form of a model loses most against the first, as pictures."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from PIL import Image

from unetres_edge.images.view import to_view
from unetres_edge.results.draw import Color

from ..pages.cases import shrink_ids, tint
from ..pages.pictures import thinned
from ..pages.receipt import CHANGE_COLORS, ChangedImage
from ..tasks.review import Sample

_SIDE = 320  # px; longer sides are made smaller


class WorstImages:
    """Keeps the pictures of the images that lost most, as they come."""

    def __init__(self, most: int, colors: Sequence[Color], background: int = 0, show: Sequence[int] = ()) -> None:
        self._most, self._colors, self._background, self._show, self._seen = most, colors, background, show, 0
        self._heap: list[tuple[tuple[float, float, int], ChangedImage]] = []  # the first is the best of the worst

    def add(self, sample: Sample, first: np.ndarray, last: np.ndarray, points: float) -> None:
        """Look at an image, of which `points` of its own mIoU were lost, or NaN of one that is not labelled."""
        index, self._seen = self._seen, self._seen + 1
        equal = float((first == last).mean())
        points = 0.0 if np.isnan(points) else points
        key = (points, 1 - equal, -index)  # of equals the earlier image stays
        if equal == 1 or (len(self._heap) == self._most and key < self._heap[0][0]):
            return
        heapq.heappush(self._heap, (key, self._draw(index, sample, first, last, points, equal)))
        if len(self._heap) > self._most:
            heapq.heappop(self._heap)

    def images(self) -> tuple[ChangedImage, ...]:
        """Return what is kept, the worst first."""
        return tuple(image for _, image in sorted(self._heap, key=lambda pair: pair[0], reverse=True))

    def _draw(
        self, index: int, sample: Sample, first: np.ndarray, last: np.ndarray, points: float, equal: float
    ) -> ChangedImage:
        view = to_view(sample.image[thinned(max(first.shape), _SIDE)], self._show)
        scale = min(1.0, _SIDE / max(first.shape))
        size = (max(1, round(first.shape[0] * scale)), max(1, round(first.shape[1] * scale)))
        if scale < 1:
            view = np.asarray(Image.fromarray(view).resize(size[::-1], Image.Resampling.BOX))
        maps = (shrink_ids(ids, size) for ids in (sample.mask, first, last))
        truth, before, after = (tint(ids, self._colors, self._background) for ids in maps)
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
