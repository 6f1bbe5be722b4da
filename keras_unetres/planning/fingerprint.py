"""What a training part looks like, in figures that decide how a network is trained on it; no network is asked.

Of a large part some images are looked at, evenly chosen, so that the same part always gives the same figures.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.cluster.hierarchy import fcluster, linkage

from ..data import Records
from ..data.levels import find_few_levels
from ..data.records import count_ids

_MOST_IMAGES = 96
_MOST_SIDE = 256  # px; larger images are thinned out to it
_OBJECTS_IMAGES = 16  # whose objects are measured
_LEAST_AREA = 10  # px; smaller parts are specks
_MOST_OBJECTS_SIDE = 1024  # px; in larger masks, the middle is looked at
_GRID = 32  # rows and columns of the picture that tells which way is up
_LEAST_IMAGES = 8  # from which that can be told
_CONSISTENT = 0.4  # share of the images' own difference of top and bottom that is common to all
_UPRIGHT = 4.0  # how much stronger that is than the common difference of left and right
_VISIBLE = 0.3  # of the contrast in an image, what is common; less is a lamp that is not centred
_ALIKE = 0.1  # distance of (mean, spread, colour), each 0 to 1, within which two images are of one kind
_KIND_SHARE = 0.05  # of the images that make a kind


@dataclass(frozen=True)
class Objects:
    """What hangs together in the masks of some images, without the background.

    Args:
        an_image: median over the images of how many objects there are, each counted by its area: (sum of areas)^2 /
            (sum of squared areas), so that specks beside a large object count little.
        extent: equivalent diameter of the object that a foreground pixel is of, the mean over the pixels, px.
        width: median width of the class whose objects are thinnest, px; of a disc its radius, of a line its thickness.
        widest: the same of the class whose objects are widest, px; 0 in plans of earlier versions.
        spread: how many times as large as in one image the objects are in another: of the median diameters of the
            images, the 90th percentile over the 10th; 0 in plans of earlier versions.
        class_spread: the same of classes: of their median diameters, the largest over the smallest; 1 for one class.
    """

    an_image: float
    extent: float
    width: float
    widest: float = 0.0
    spread: float = 0.0
    class_spread: float = 1.0


@dataclass(frozen=True)
class Fingerprint:
    """The figures of a training part.

    Args:
        num_images: images in it.
        looked_at: images that the figures below are of.
        sizes: (smallest height, smallest width, median height, median width, largest height, largest width), px.
        areas: summed pixels of all images.
        grey: whether no image of the data set has colour.
        kinds: number of kinds of images that differ in brightness, spread or colour.
        brightness_spread: standard deviation over the images of their mean, as a share of full scale.
        used_range: median over the images of what lies between their 1st and 99th percentile, likewise.
        few_levels: (grey levels that are left at 8 bits, levels stored) where far too few are left, else None.
        upright: whether what is up is up in every image.
        class_names: the classes.
        class_shares: of the labelled pixels, one a class.
        object_sizes: median equivalent diameter of what hangs together in the mask, one a class, px; 0 where absent.
        objects: of the classes that are not the background.
        colour: median over the images of how far their channels are apart, as a share of full scale.
    """

    num_images: int
    looked_at: int
    sizes: tuple[int, int, int, int, int, int]
    areas: int
    grey: bool
    kinds: int
    brightness_spread: float
    used_range: float
    few_levels: tuple[int, int] | None
    upright: bool
    class_names: tuple[str, ...]
    class_shares: tuple[float, ...]
    object_sizes: tuple[float, ...]
    objects: Objects = Objects(0.0, 0.0, 0.0)
    colour: float = 0.0

    def crops(self, size: int, fit: str) -> int:
        """Return the samples of an epoch, about as `keras_unetres.data.samples.Samples` draws them."""
        if fit != "crop":
            return self.num_images
        return max(self.num_images, round(self.areas / (size * size)))


def describe(records: Records, *, grey: bool) -> Fingerprint:
    """Return the figures of a part of a mask data set.

    Args:
        records: the decoded part.
        grey: whether no image of the data set has colour.
    """
    chosen = np.unique(np.linspace(0, len(records) - 1, min(len(records), _MOST_IMAGES)).astype(int))
    num_classes, background = len(records.classes.names), records.classes.background
    counts, looks, pictures = np.zeros(num_classes, np.int64), [], []
    parts: list[list[np.ndarray]] = [[] for _ in range(num_classes)]  # of each class and image measured
    every = math.ceil(len(chosen) / _OBJECTS_IMAGES)
    for number, index in enumerate(chosen):
        record = records[int(index)]
        image = to_unit(thin_out(record.image, _MOST_SIDE))
        looks.append(look_of(image))
        pictures.append(small_picture(image))
        counts += count_ids(record.mask, num_classes)
        for class_id, of_class in enumerate(parts if number % every == 0 else []):
            of_class.append(measure_parts(record.mask == class_id))
        del record  # before the next one is decoded
    figures, few = np.array(looks), find_few_levels(records.samples)
    sizes = np.array(records.sizes)
    corners = (*sizes.min(0), *np.median(sizes, 0).astype(int), *sizes.max(0))
    return Fingerprint(
        num_images=len(records),
        looked_at=len(chosen),
        sizes=tuple(map(int, corners)),  # type: ignore[arg-type]  # six of them
        areas=int(sizes.prod(1).sum()),
        grey=grey,
        kinds=count_kinds(figures[:, :3]),
        brightness_spread=_rounded(figures[:, 0].std()),
        used_range=_rounded(np.median(figures[:, 3])),
        few_levels=None if few is None else (few.kept, few.stored),
        upright=is_upright(np.stack(pictures)),
        class_names=records.classes.names,
        class_shares=tuple(_rounded(share) for share in counts / max(1, counts.sum())),
        object_sizes=tuple(_median_diameter(np.concatenate(of_class)) for of_class in parts),
        objects=_summarize([of_class for class_id, of_class in enumerate(parts) if class_id != background]),
        colour=_rounded(np.median(figures[:, 2])),
    )


def to_unit(image: np.ndarray) -> np.ndarray:
    """Return an image as (H, W, C) float32, 0 to 1 of the full scale of its type; of floats, of its own range."""
    image = image[..., None] if image.ndim == 2 else image
    if np.issubdtype(image.dtype, np.integer):
        return image.astype(np.float32) / np.iinfo(image.dtype).max
    values = np.nan_to_num(image.astype(np.float32))
    low, high = float(values.min()), float(values.max())
    return np.clip((values - low) / (high - low or 1.0), 0, 1)


def thin_out(image: np.ndarray, side: int) -> np.ndarray:
    """Return every n-th row and column of an image, so that no side is longer than `side` by much."""
    step = max(1, round(max(image.shape[:2]) / side))
    return image[::step, ::step]


def look_of(image: np.ndarray) -> tuple[float, float, float, float]:
    """Return (mean, standard deviation, colourfulness, used range) of an image (H, W, C), each 0 to 1."""
    light = brightness(image)
    low, high = np.percentile(light, (1, 99))
    channels = [image[..., channel] for channel in range(image.shape[-1])]
    colour = float((functools.reduce(np.maximum, channels) - functools.reduce(np.minimum, channels)).mean())
    return float(light.mean()), float(light.std()), colour, float(high - low)


def brightness(image: np.ndarray) -> np.ndarray:
    """Return the mean of the channels (H, W) of an image (H, W, C)."""
    total: np.ndarray = image @ np.full(image.shape[-1], 1 / image.shape[-1], np.float32)
    return total


def small_picture(image: np.ndarray) -> np.ndarray:
    """Return the brightness of an image (H, W, C) as a picture (32, 32)."""
    light = brightness(image)
    for axis in (0, 1):
        edges = np.linspace(0, light.shape[axis], _GRID + 1).astype(int)[:-1]
        sums = np.add.reduceat(light, edges, axis)
        light = sums / np.diff(np.append(edges, light.shape[axis])).clip(1).reshape((-1, 1) if axis == 0 else (1, -1))
    return light


def is_upright(pictures: np.ndarray) -> bool:
    """Return whether top and bottom differ in all pictures (N, H, W) alike, and more than left and right do.

    A street has its sky above; a disc or a vignette looks the same upside down, light from one side is not what is up,
    and tissue has no up at all.
    """
    if len(pictures) < _LEAST_IMAGES:
        return False
    vertical, horizontal = pictures.mean(2), pictures.mean(1)
    down, across = vertical - vertical[:, ::-1], horizontal - horizontal[:, ::-1]
    energy, common, sideways = (down**2).mean(), (down.mean(0) ** 2).mean(), (across.mean(0) ** 2).mean()
    contrast = pictures.var((1, 2)).mean()
    is_seen = energy > 0 and common >= _VISIBLE**2 * contrast
    return bool(is_seen and common >= _CONSISTENT * energy and common >= _UPRIGHT * sideways)


def count_kinds(looks: np.ndarray) -> int:
    """Return the number of kinds among images of which (N, 3) mean, spread and colour are known.

    Two images are of one kind where steps of at most 0.1 lead from one to the other: daylight that fades is one kind,
    stained and fluorescent sections are two. Groups of a few images are none.
    """
    if len(looks) < 2:
        return 1
    kinds = fcluster(linkage(looks, "single"), _ALIKE, criterion="distance")
    members = np.bincount(kinds)[1:]
    return max(1, int(((members > 1) & (members >= _KIND_SHARE * len(looks))).sum()))


def measure_parts(there: np.ndarray) -> np.ndarray:
    """Return (area in px, width in px) of each of the parts that hang together in a mask (H, W), as (N, 2) float64.

    The width is twice the area over the length of the outline.
    """
    top, left = (max(0, (side - _MOST_OBJECTS_SIDE) // 2) for side in there.shape)
    there = there[top : top + _MOST_OBJECTS_SIDE, left : left + _MOST_OBJECTS_SIDE]
    if not there.any():
        return np.zeros((0, 2))
    labels, count = ndimage.label(there)
    outline = there & ~ndimage.binary_erosion(there)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    lengths = np.bincount(labels[outline], minlength=count + 1)[1:]
    parts: np.ndarray = np.stack([areas, 2 * areas / lengths], 1)[areas >= _LEAST_AREA]
    return parts


def _median_diameter(parts: np.ndarray) -> float:
    """Return the median of the diameters of circles as large as each part (N, 2); 0 for none."""
    return _rounded(np.median(2 * np.sqrt(parts[:, 0] / np.pi))) if len(parts) else 0.0


def _summarize(classes: list[list[np.ndarray]]) -> Objects:
    """Return what the parts of each class and image tell."""
    images = [np.concatenate(parts)[:, 0] for parts in zip(*classes, strict=True)]
    counts = [areas.sum() ** 2 / (areas**2).sum() for areas in images if len(areas)]
    every = np.concatenate([*images, np.zeros(0)])
    of_classes = [np.median(np.concatenate(parts), 0) for parts in classes if any(map(len, parts))]
    if not len(every):
        return Objects(0.0, 0.0, 0.0)
    extent = (every * 2 * np.sqrt(every / np.pi)).sum() / every.sum()
    small, large = np.percentile([np.median(areas) ** 0.5 for areas in images if len(areas)], (10, 90))
    areas, widths = zip(*of_classes, strict=True)
    spreads = large / small, (max(areas) / min(areas)) ** 0.5
    figures = (np.median(counts), extent, min(widths), max(widths), *spreads)
    return Objects(*map(_rounded, figures))


def _rounded(value: float) -> float:
    return round(float(value), 4)
