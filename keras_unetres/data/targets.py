"""What a network learns from instance maps: classes, parted cells, touching borders, the weights of Ronneberger 2015.

An instance map is (H, W) integers: 0 is background, every other number one object, but for `ignore`, the number that
marks pixels that are not labelled. They belong to no object and become `IGNORE` (255), their weight 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from unetres_edge.errors import DataError, UsageError
from unetres_edge.images.preprocessing import IGNORE

_NEGLIGIBLE = 1e-7  # share of w0 below which the border term is 0


def semantic(instances: np.ndarray, ignore: int | None = None) -> np.ndarray:
    """Return (H, W) uint8: 0 background, 1 object, `IGNORE` where not labelled."""
    objects, ignored = _split(instances, ignore)
    return _finish(objects > 0, ignored)


def separated(instances: np.ndarray, ignore: int | None = None) -> np.ndarray:
    """Return `semantic` with touching objects parted by background.

    Background are also the object pixels that have a pixel of another object among their 8 neighbours, so that objects
    that touch are parted by a line two pixels wide, one of each (Ronneberger 2015 sec. 3, the separation border).
    """
    objects, ignored = _split(instances, ignore)
    return _finish((objects > 0) & ~_near_two(objects, 1), ignored)


def with_borders(instances: np.ndarray, width: int = 1, ignore: int | None = None) -> np.ndarray:
    """Return (H, W) uint8: 0 background, 1 interior, 2 touching border, `IGNORE` where not labelled.

    Border are the pixels that have pixels of two objects or more no further than `width` px along either axis
    (Chebyshev distance); a pixel of an object counts as near to that object. So it takes in the object pixels with
    another object within `width`, and the background between two objects that are within `width` of it.

    Raises:
        UsageError: `width` is not a whole number above 0.
    """
    if not isinstance(width, (int, np.integer)) or isinstance(width, bool) or width < 1:
        raise UsageError("width of borders is wrong", expected="whole px above 0", found=repr(width))
    objects, ignored = _split(instances, ignore)
    return _finish(np.where(_near_two(objects, int(width)), 2, objects > 0), ignored)


def border_weight_map(
    instances: np.ndarray,
    w0: float = 10.0,
    sigma: float = 5.0,
    class_weights: Sequence[float] | None = None,
    ignore: int | None = None,
) -> np.ndarray:
    """Return the weight of each pixel's loss, w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2)) (Ronneberger 2015 eq. 2).

    d1 and d2 are the distances between pixel centres, in px, to the nearest and the second nearest cell. A cell is what
    `separated` leaves of an object; one that it leaves nothing of is not counted. The exponential term is on background
    pixels of `separated` alone, as in fig. 3d, and nowhere with fewer than two cells. It is left out where it is below
    1e-7 of w0, which makes the work on a cell that on its surroundings.

    Args:
        instances: (H, W) integers.
        w0: weight of the border term.
        sigma: its reach in px.
        class_weights: w_c of background and object, or None for 1 and 1. The paper balances the classes' frequencies.
        ignore: the number that marks pixels that are not labelled.

    Returns:
        (H, W) float32, 0 where not labelled.

    Raises:
        UsageError: a weight is negative, or `sigma` is not above 0.
    """
    weights = (1.0, 1.0) if class_weights is None else tuple(float(weight) for weight in class_weights)
    if len(weights) != 2 or not all(0 <= weight < math.inf for weight in (*weights, w0)) or not 0 < sigma < math.inf:
        raise UsageError(
            "a weight map's numbers are wrong",
            expected="w0 >= 0, sigma > 0, two class weights >= 0",
            found=f"w0 {w0}, sigma {sigma}, class weights {weights}",
        )
    objects, ignored = _split(instances, ignore)
    cells = np.where(_near_two(objects, 1), 0, objects)
    first, second = _two_distances(cells, sigma * math.sqrt(2 * math.log(1 / _NEGLIGIBLE)))
    border = w0 * np.exp(-np.square((first + second) / sigma) / 2)
    total = np.where(cells > 0, weights[1], weights[0] + border)
    return np.where(ignored, 0.0, total).astype(np.float32)


def _two_distances(cells: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances (H, W) float64 to the nearest and second nearest cell, infinite beyond `reach` px."""
    first = np.full(cells.shape, np.inf)
    second = np.full(cells.shape, np.inf)
    margin = math.ceil(reach)
    for number, box in enumerate(ndimage.find_objects(cells), 1):
        if box is None:  # nothing is left of it
            continue
        around = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in box)
        distance = ndimage.distance_transform_edt(cells[around] != number)
        distance[distance > reach] = np.inf
        second[around] = np.minimum(second[around], np.maximum(first[around], distance))
        first[around] = np.minimum(first[around], distance)
    return first, second


def _split(instances: np.ndarray, ignore: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the objects, 1, 2, ... in their order, 0 elsewhere, and where nothing is labelled."""
    instances = np.asarray(instances)
    if instances.ndim != 2 or not np.issubdtype(instances.dtype, np.integer):
        raise DataError(
            "array is not an instance map",
            expected="(H, W) integers",
            found=f"shape {instances.shape}, {instances.dtype}",
        )
    ignored = np.zeros(instances.shape, bool) if ignore is None else instances == ignore
    numbers, objects = np.unique(np.where(ignored, 0, instances), return_inverse=True)
    objects = objects.reshape(instances.shape).astype(np.int32)
    if numbers.size and numbers[0] < 0:
        raise DataError("an instance map has numbers below 0", found=int(numbers[0]))
    return objects if numbers.size == 0 or numbers[0] == 0 else objects + 1, ignored


def _near_two(objects: np.ndarray, width: int) -> np.ndarray:
    """Return where pixels of two objects or more lie within `width` px along either axis."""
    none = np.iinfo(objects.dtype).max
    size = 2 * width + 1
    most = ndimage.maximum_filter(objects, size, mode="nearest")
    least = ndimage.minimum_filter(np.where(objects > 0, objects, none), size, mode="nearest")
    return (most > 0) & (least != most)


def _finish(classes: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    return np.where(ignored, IGNORE, classes).astype(np.uint8)
