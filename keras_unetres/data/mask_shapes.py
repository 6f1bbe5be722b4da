"""What the pixels of masks tell that their values do not: a few numbered objects, and blended edges."""

from __future__ import annotations

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
_PLATEAU = 0.02  # of a mask's pixels; a value that has as many was drawn
_MOST_PLATEAUS = 32


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
