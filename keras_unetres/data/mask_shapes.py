"""What the pixels of masks tell that their values do not: a few numbered objects, and blended edges."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from scipy import ndimage

from unetres_edge.errors import UnetresError

from .dataset import Dataset
from .smears import is_smeared

_LOOKED_AT = 24  # masks, spread over the samples
_FEWEST_MASKS, _FEWEST_OBJECTS = 6, 12
_MOST_ALIKE = 0.8  # of the masks that hold as many objects as each other
_FEWEST_NUMBERS = 3
_SURE = 1e-3  # chance that masks which lack classes lack the last ones alone
_SCATTERED, _MAY_BE = 0.6, 0.3  # of the variance of all numbers, what those of one have, where they are no classes
_APART = 0.05  # of a mask's side; what lies nearer says nothing of places
_PLATEAU = 0.02  # of a mask's pixels; a value that has as many was drawn
_MOST_PLATEAUS = 32
_INSIDE_OF = 512  # px of a side; of larger masks, fewer rows and columns are looked at
_FEWEST_INSIDE, _INSIDE_SHARE = 3, 0.8  # masks with both values, and of them those in which one surrounds the other
_LOOSE = 0.1  # of what surrounds them, what may be apart
_FRAME, _COMPACT = 0.25, 0.4  # of the frame of a mask at most, and of their boxes at least, what pieces inside have


def number_in_order(dataset: Dataset, masks: Sequence[Collection[int]]) -> bool:
    """Return whether small ids number objects, as labelling of what hangs together does.

    Each mask then holds 0 and 1, 2, ... up to its own number, each number is one piece, and they come in the order of
    their first pixels. Classes are numbered alike in all masks: some masks lack one that is not the last.

    Args:
        masks: values of each mask.
    """
    counts = [len(values) - 1 for values in masks if set(values) == set(range(len(values)))]
    if len(counts) < max(_FEWEST_MASKS, len(masks)) or max(counts) < 3 or sum(counts) < _FEWEST_OBJECTS:
        return False
    if Counter(counts).most_common(1)[0][1] > _MOST_ALIKE * len(counts):
        return False
    seen = 0
    for mask in _some_masks(dataset):
        first = []
        for number in range(1, int(mask.max(initial=0)) + 1):
            there = mask == number
            if ndimage.label(there, np.ones((3, 3)))[1] != 1:
                return False
            first.append(int(there.argmax()))
        if first != sorted(first):
            return False
        seen += 1
    return seen >= _FEWEST_MASKS


def lies_inside(dataset: Dataset, value: int, ignore: int | None) -> bool:
    """Return whether one of two mask values lies in compact pieces that the other one surrounds, in most masks.

    Of masks in which objects are drawn on a background it is the objects that lie so, also where many are cut by the
    border; a network of membranes, or ground between large objects, does not.
    """
    said = [
        _surrounded(mask == value)
        for mask in _some_masks(dataset)
        if {value} < set(np.unique(mask).tolist()) - {ignore}
    ]
    return len(said) >= _FEWEST_INSIDE and sum(said) >= _INSIDE_SHARE * len(said)


def _surrounded(there: np.ndarray) -> bool:
    """Return whether pixels (H, W) lie in compact pieces, most away from the border, in a rest that hangs together."""
    step = -(-max(there.shape) // _INSIDE_OF)
    there = there[::step, ::step]
    frame = np.concatenate([there[0], there[-1], there[:, 0], there[:, -1]])
    if there.mean() > 0.5 or frame.mean() > _FRAME:
        return False
    pieces, _ = ndimage.label(there)
    height, width = there.shape
    boxes = ndimage.find_objects(pieces)
    areas = np.bincount(pieces.ravel())[1:]
    sides = np.array([[rows.start, columns.start, rows.stop, columns.stop] for rows, columns in boxes])
    inner = (sides[:, :2] > 0).all(1) & (sides[:, 2:] < (height, width)).all(1)
    of_boxes = ((sides[:, 2] - sides[:, 0]) * (sides[:, 3] - sides[:, 1]))[inner].sum()
    around = np.bincount(ndimage.label(~there)[0].ravel())[1:]
    return bool(
        2 * areas[inner].sum() >= areas.sum()
        and areas[inner].sum() >= _COMPACT * of_boxes
        and around.max() >= (1 - _LOOSE) * around.sum()
    )


def number_pieces(dataset: Dataset, masks: Sequence[Collection[int]]) -> bool | None:
    """Return whether small ids number objects in any order: True where it is sure, None where it may be, else False.

    Each mask then holds 0 and 1, 2, ... up to its own number, each number is one piece, and the places and sizes of one
    number differ from mask to mask as those of all do. The parts of a body, too, are one piece each; their places and
    sizes are alike. It is sure where classes would hardly lack the last numbers alone.

    Args:
        masks: values of each mask.
    """
    counts = [len(values) - 1 for values in masks]
    if max(counts, default=0) < _FEWEST_NUMBERS or any(set(v) != set(range(len(v))) for v in masks):
        return False
    pieces = [_pieces(mask) for mask in _some_masks(dataset)]
    known = [rows for rows in pieces if rows is not None and len(rows) > 1]
    if len(masks) < 2 or not known or any(rows is None for rows in pieces):
        return False
    scatter = _scatter(known)
    if scatter < _MAY_BE:
        return False
    chance = math.prod(1 / math.comb(max(counts), count) for count in counts)
    return True if chance < _SURE and scatter >= _SCATTERED else None


def _pieces(mask: np.ndarray) -> np.ndarray | None:
    """Return (y, x, logarithm of the area) of each number of a mask, sides as 1; None if one is not in one piece."""
    rows = []
    for number in range(1, int(mask.max(initial=0)) + 1):
        there = mask == number
        if ndimage.label(there, np.ones((3, 3)))[1] != 1:
            return None
        y, x = np.nonzero(there)
        rows.append((y.mean() / mask.shape[0], x.mean() / mask.shape[1], np.log(len(y))))
    return np.array(rows).reshape(-1, 3)


def _scatter(masks: Sequence[np.ndarray]) -> float:
    """Return how much of the variance of all numbers those of one have, in places and in sizes: the lesser share.

    Places are from the middle of all numbers of a mask.
    """
    relative = [rows - rows.mean(0) * (1, 1, 0) for rows in masks]
    every = np.concatenate(relative)
    numbers = np.concatenate([np.arange(len(rows)) for rows in relative])
    residual, freedom = np.zeros(3), 0
    for number in np.unique(numbers):
        of_one = every[numbers == number]
        residual += ((of_one - of_one.mean(0)) ** 2).sum(0)
        freedom += len(of_one) - 1
    if freedom < 2:
        return 0.0
    total = every.var(0, ddof=1)
    share = residual / freedom / np.maximum(total, 1e-12)
    apart = total[:2] ** 0.5 > _APART
    return float(min((share[:2] * apart).max(), share[2]))


def blend_at_edges(dataset: Dataset) -> bool:
    """Return whether most masks hold a few values, and between them at the edges what interpolation leaves."""
    smeared = seen = 0
    for mask in _some_masks(dataset):
        values, pixels = np.unique(mask, return_counts=True)
        drawn = values[pixels >= _PLATEAU * mask.size].tolist()
        seen += 1
        smeared += len(drawn) <= _MOST_PLATEAUS and is_smeared(mask, drawn)
    return 2 * smeared > seen


def _some_masks(dataset: Dataset) -> Iterator[np.ndarray]:
    """Yield the masks of a few samples; what cannot be read is passed over, as whoever reads them all names it."""
    samples = dataset.split("all")
    for sample in samples[:: -(-len(samples) // _LOOKED_AT)] if samples else ():
        try:
            yield sample.target.read()
        except UnetresError:
            continue
