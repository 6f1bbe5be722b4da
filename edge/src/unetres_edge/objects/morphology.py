"""What the separation of objects is made of, on (H, W) arrays: regions, distances, reconstruction, maxima, watershed.

Where SciPy and scikit-image are installed, they compute it; without them numpy and this file do, to the same numbers,
more slowly. `connectivity` is 4 or 8: the neighbours through which pixels are connected.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator

import numpy as np


@functools.cache
def is_compiled() -> bool:
    """Return whether SciPy and scikit-image are installed."""
    return all(importlib.util.find_spec(name) for name in ("scipy", "skimage"))


def connected(mask: np.ndarray, connectivity: int) -> np.ndarray:
    """Return (H, W) int32: the regions of a bool mask, numbered 1, 2, ... in the order of their first pixel."""
    if is_compiled():
        from skimage.measure import label

        return np.asarray(label(mask, connectivity=connectivity // 4)).astype(np.int32)
    return connected_by_numpy(mask, connectivity)


def distance_inside(mask: np.ndarray) -> np.ndarray:
    """Return (H, W) float64: of pixels of the mask, the distance in px to the nearest that is none, or to the edge."""
    if is_compiled():
        from scipy import ndimage

        return np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1])
    return distance_by_numpy(mask)


def reconstruct(seed: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Return the reconstruction of `seed` by dilation under a map that it nowhere exceeds (Vincent 1993), 8 ways."""
    if is_compiled():
        from skimage.morphology import reconstruction

        return np.asarray(reconstruction(seed, under, method="dilation"))
    return reconstruct_by_numpy(seed, under)


def local_maxima(values: np.ndarray) -> np.ndarray:
    """Return (H, W) bool: plateaus above 0 that no neighbour of 8 rises from."""
    if is_compiled():
        from skimage import morphology

        return np.asarray(morphology.local_maxima(values)) & (values > 0)
    return maxima_by_numpy(values)


def watershed(height: np.ndarray, markers: np.ndarray, mask: np.ndarray, connectivity: int) -> np.ndarray:
    """Return markers grown downhill from their places over the mask, the highest pixel first (Soille & Ansoult 1990).

    Args:
        height: (H, W) floats.
        markers: (H, W) int32, 0 where there is none.
        mask: (H, W) bool.
    """
    if is_compiled():
        from skimage import segmentation

        grown = segmentation.watershed(-height, markers, mask=mask, connectivity=connectivity // 4)
        return np.asarray(grown).astype(np.int32)
    return watershed_by_numpy(-height, markers, mask, connectivity)


def neighbours(values: np.ndarray, connectivity: int, outside: float) -> Iterator[np.ndarray]:
    """Yield (H, W) views of the neighbours of each pixel, `outside` beyond the edge."""
    height, width = values.shape
    padded = np.pad(values, 1, constant_values=outside)
    for y, x in _steps(connectivity):
        yield padded[1 + y : 1 + y + height, 1 + x : 1 + x + width]


def _steps(connectivity: int) -> list[tuple[int, int]]:
    """Return (y, x) of the neighbours, sides before corners."""
    sides = [(-1, 0), (0, -1), (0, 1), (1, 0)]
    return sides if connectivity == 4 else [*sides, (-1, -1), (-1, 1), (1, -1), (1, 1)]


def connected_by_numpy(mask: np.ndarray, connectivity: int) -> np.ndarray:
    """See `connected`."""
    mask = np.asarray(mask, bool)
    parent = np.arange(mask.size)
    number = parent.reshape(mask.shape)
    pairs = [(slice(None), slice(None, -1), slice(None), slice(1, None))]
    pairs += [(slice(None, -1), slice(None), slice(1, None), slice(None))]
    if connectivity == 8:
        pairs += [(slice(None, -1), slice(None, -1), slice(1, None), slice(1, None))]
        pairs += [(slice(None, -1), slice(1, None), slice(1, None), slice(None, -1))]
    first, second = [], []
    for a, b, c, d in pairs:
        both = mask[a, b] & mask[c, d]
        first.append(number[a, b][both])
        second.append(number[c, d][both])
    one, other = np.concatenate(first), np.concatenate(second)
    while len(one):
        low, high = np.minimum(parent[one], parent[other]), np.maximum(parent[one], parent[other])
        np.minimum.at(parent, high, low)
        while not np.array_equal(shorter := parent[parent], parent):
            parent = shorter
        left = parent[one] != parent[other]
        one, other = one[left], other[left]
    labels = np.zeros(mask.size, np.int32)
    inside = mask.ravel()
    roots = np.unique(parent[inside])  # the first pixel of each region, in order
    labels[inside] = np.searchsorted(roots, parent[inside]) + 1
    return labels.reshape(mask.shape)


def distance_by_numpy(mask: np.ndarray) -> np.ndarray:
    """See `distance_inside`: first down the columns, then the least of all parabolas along the rows."""
    padded = np.pad(np.asarray(mask, bool), 1)
    height, width = padded.shape
    down = np.zeros((height, width), np.int64)
    for y in range(1, height):
        down[y] = np.where(padded[y], down[y - 1] + 1, 0)
    for y in range(height - 2, -1, -1):
        down[y] = np.minimum(down[y], down[y + 1] + 1)
    squares = down * down
    least = squares.copy()
    step = 1
    while step < width and step * step < least.max():
        np.minimum(least[:, step:], squares[:, :-step] + step * step, out=least[:, step:])
        np.minimum(least[:, :-step], squares[:, step:] + step * step, out=least[:, :-step])
        step += 1
    return np.asarray(np.sqrt(least[1:-1, 1:-1].astype(np.float64)))


def reconstruct_by_numpy(seed: np.ndarray, under: np.ndarray) -> np.ndarray:
    """See `reconstruct`."""
    values = np.asarray(seed, np.float64)
    while True:
        grown = values.copy()
        for other in neighbours(values, 8, -np.inf):
            np.maximum(grown, other, out=grown)
        np.minimum(grown, under, out=grown)
        if np.array_equal(grown, values):
            return values
        values = grown


def maxima_by_numpy(values: np.ndarray) -> np.ndarray:
    """See `local_maxima`: what has a higher neighbour is none, and neither is what lies level with such a pixel."""
    lower = values <= 0
    for other in neighbours(values, 8, -np.inf):
        lower |= other > values
    while True:
        before = lower.copy()
        around = zip(neighbours(values, 8, -np.inf), neighbours(before, 8, False), strict=True)
        for other, is_lower in around:
            lower |= (other == values) & is_lower.astype(bool)
        if np.array_equal(before, lower):
            return ~lower


def watershed_by_numpy(image: np.ndarray, markers: np.ndarray, mask: np.ndarray, connectivity: int) -> np.ndarray:
    """See `watershed`; `image` is lowest where the flood begins.

    The order of pixels of one level is that of scikit-image: by their time in the queue, and of markers, which have no
    time, as its binary heap happens to hold them. So the heap is that one, too.
    """
    padded = np.pad(np.asarray(image, np.float64), 1)
    side = padded.shape[1]
    level = padded.ravel().tolist()
    free = np.pad(np.asarray(mask, bool), 1).ravel()
    flooded = np.where(free, np.pad(markers, 1).ravel(), 0)
    starts = np.flatnonzero(flooded).tolist()
    taken = (~free | (flooded > 0)).tolist()
    owner = flooded.tolist()
    around = [y * side + x for y, x in _steps(connectivity)]
    heap = _Heap()
    for start in starts:
        heap.push((level[start], 0, start))
    age = 0
    while heap.items:
        reached, _, pixel = heap.pop()
        for step in around:
            there = pixel + step
            if taken[there]:
                continue
            taken[there] = True
            owner[there] = owner[pixel]
            age += 1
            heap.push((max(level[there], reached), age, there))  # a way costs no less than what it led over
    return np.array(owner, np.int32).reshape(padded.shape)[1:-1, 1:-1]


class _Heap:
    """A binary heap of (level, age, pixel), compared by level and age alone."""

    def __init__(self) -> None:
        self.items: list[tuple[float, int, int]] = []

    def push(self, item: tuple[float, int, int]) -> None:
        items = self.items
        at = len(items)
        items.append(item)
        level, age, _ = item
        while at > 0:
            above = (at - 1) >> 1
            other = items[above]
            if not (level < other[0] or (level == other[0] and age < other[1])):
                break
            items[at] = other
            at = above
        items[at] = item

    def pop(self) -> tuple[float, int, int]:
        items = self.items
        top, item = items[0], items.pop()
        count = len(items)
        if not count:
            return top
        at = 0
        level, age, _ = item
        while (child := 2 * at + 1) < count:
            least, smallest = (level, age), at
            other = items[child]
            if other[0] < least[0] or (other[0] == least[0] and other[1] < least[1]):
                least, smallest = (other[0], other[1]), child
            if child + 1 < count:
                other = items[child + 1]
                if other[0] < least[0] or (other[0] == least[0] and other[1] < least[1]):
                    smallest = child + 1
            if smallest == at:
                break
            items[at] = items[smallest]
            at = smallest
        items[at] = item
        return top
