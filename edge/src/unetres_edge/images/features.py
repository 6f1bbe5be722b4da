"""A few numbers that say what a picture is like: levels, contrast, detail at several scales, noise, blocks, colours.

They are taken of whole numbers, so that every runtime gets the same ones. Small pictures are looked at whole, of large
ones 16 windows, evenly spread: a sixteenth of a picture of 512 x 512 px tells as much of it, at the cost of as little.
"""

from __future__ import annotations

import math

import numpy as np

WINDOW, GRID = 32, 4  # px; windows along each side of a large picture
EARLIER_WINDOW = 64  # px, of cards that do not say it
_STEPS = (1, 2, 4, 8)  # px between the pixels whose difference is taken
BLOCK = 8  # px, of JPEG
# What a value below those of all training images means, and one above; "" where the feature alone has no name.
FEATURES: dict[str, tuple[str, str]] = {
    "mean": ("darker than any training image", "brighter than any training image"),
    "shadows": ("shadows darker than in any training image", "no shadows as dark as in the training images"),
    "middle": ("darker than any training image", "brighter than any training image"),
    "lights": ("no lights as bright as in the training images", "lights brighter than in any training image"),
    "contrast": ("less contrast than any training image", "more contrast than any training image"),
    "black": ("", "more black than any training image"),
    "white": ("", "more white than any training image"),
    "detail": ("less detail than any training image", "more detail than any training image"),
    "fine": ("blurred, or larger than the training images", "noisier, or of finer grain than any training image"),
    "medium": ("blurred, or larger than the training images", "of finer grain than any training image"),
    "coarse": ("blurred, or larger than the training images", "of finer grain than any training image"),
    "noise": ("smoother than any training image", "noisier than any training image"),
    "edges": ("noisier than any training image", ""),
    "blocks": ("", "blocks of a stronger compression than in any training image"),
    "red to blue": ("bluer than any training image", "redder than any training image"),
    "green": ("less green than any training image", "greener than any training image"),
    "colour": ("less colourful than any training image", "more colourful than any training image"),
    "tint": ("less colourful than any training image", "more colourful than any training image"),
}
_GREY = 14


def feature_names(channels: int) -> tuple[str, ...]:
    """Return the names of the features of pictures with so many channels."""
    return tuple(FEATURES) if channels == 3 else tuple(FEATURES)[:_GREY]  # the last are of colours


def picture_features(image: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Return the features of a picture, (F,) float64.

    Args:
        image: (H, W, C) uint8, as `Preprocessing.prepare` gives it; three channels are red, green and blue, or the
            other way round.
        window: px; a side of more than four windows is looked at by four of them, any other one whole.
    """
    seen = _windows(image, window)
    channels = image.shape[-1]
    planes = [np.ascontiguousarray(seen[..., channel], np.int32) for channel in range(channels)]
    grey = planes[0] if channels == 1 else (sum(planes[1:], planes[0]) + channels // 2) // channels
    grey = grey.astype(np.int16)
    # sums and counts of |difference| at each step, of its square, of second differences, and at edges of blocks
    sums, counts = np.zeros(len(_STEPS) + 3, np.int64), np.zeros(len(_STEPS) + 3, np.int64)
    for each in (grey, np.ascontiguousarray(grey.swapaxes(1, 2))):
        _add_differences(each, sums, counts)
    features = [*_of_levels(np.bincount(grey.ravel(), minlength=256)), *_of_differences(sums / np.maximum(counts, 1))]
    if channels == 3:
        red, green, blue = (plane.astype(np.int16) for plane in planes)
        warm, leaf = red - blue, 2 * green - red - blue
        totals = (_sum(warm), _sum(leaf), _sum(np.abs(warm)), _sum(np.abs(leaf)))
        means = [total / max(grey.size, 1) for total in totals]
        features += [means[0] / 255, means[1] / 510, math.log(means[2] + 0.5), math.log(means[3] + 0.5)]
    return np.array(features)


def swapped(features: np.ndarray) -> np.ndarray:
    """Return the features (F,) of the same picture with red and blue swapped."""
    changed = features.copy()
    changed[_GREY] *= -1  # red to blue; the others take both alike
    return changed


def _windows(image: np.ndarray, window: int) -> np.ndarray:
    """Return the parts of (H, W, C) that are looked at, (windows, h, w, C); all are of one size."""
    height, width = image.shape[:2]
    rows, columns = _spans(height, window), _spans(width, window)
    if len(rows) == len(columns) == 1:
        return image[None]
    return np.stack([image[top:bottom, left:right] for top, bottom in rows for left, right in columns])


def _spans(size: int, window: int) -> list[tuple[int, int]]:
    """Return [start, end) along a side; starts are multiples of a block, so that edges of blocks are found."""
    if size <= window * GRID:
        return [(0, size)]
    starts = [(size - window) * number // (GRID - 1) // BLOCK * BLOCK for number in range(GRID)]
    return [(start, start + window) for start in starts]


def _add_differences(grey: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> None:
    """Add the differences along the last axis of (windows, h, w) int16."""
    for index, step in enumerate(_STEPS):
        difference = grey[..., step:] - grey[..., :-step]
        apart = np.abs(difference)
        sums[index] += _sum(apart)
        counts[index] += apart.size
        if step == 1:
            edges = apart[..., BLOCK - 1 :: BLOCK]
            bent = np.abs(difference[..., 1:] - difference[..., :-1])
            exact = apart.astype(np.float64).ravel()  # its dot product is, of whole numbers
            for number, (total, part) in enumerate(
                ((int(exact @ exact), apart), (_sum(bent), bent), (_sum(edges), edges)), len(_STEPS)
            ):
                sums[number] += total
                counts[number] += part.size


def _sum(values: np.ndarray) -> int:
    return int(values.sum(dtype=np.int64))


def _of_levels(levels: np.ndarray) -> list[float]:
    total = max(1, int(levels.sum()))
    below = levels.cumsum()
    mean = float(levels @ np.arange(256)) / total
    spread = math.sqrt(max(0.0, float(levels @ (np.arange(256) ** 2)) / total - mean * mean))
    shares = [int(np.searchsorted(below * 100, total * percent)) for percent in (5, 50, 95)]
    return [
        mean / 255,
        *(level / 255 for level in shares),
        math.log(spread + 0.5),
        math.sqrt(float(levels[:2].sum()) / total),
        math.sqrt(float(levels[254:].sum()) / total),
    ]


def _of_differences(means: np.ndarray) -> list[float]:
    one, two, four, eight, square, bent, edges = (float(value) for value in means)

    def ratio(a: float, b: float) -> float:
        return math.log((a + 0.05) / (b + 0.05))

    return [
        math.log(eight + 0.05),
        ratio(one, two),
        ratio(two, four),
        ratio(four, eight),
        ratio(bent, one),
        ratio(math.sqrt(square), one),
        ratio(edges, one),
    ]
