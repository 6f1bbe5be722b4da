"""How much a mask is contradicted by a network that was not trained on it.

Two numbers of each image are compared with those of all others. One is how much worse the mask fits than the network's
own doubt makes one expect: the mean of -log p of the given class, less the entropy, nats a pixel. That finds masks of
other images, swapped classes, shifts. The other is the largest region that the network is sure to be another class,
once thin rims are taken off: its weight in px. That finds an object that was left out or added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from unetres_edge.images.preprocessing import IGNORE

_LEAST = 1e-3  # a probability below this counts as this, so that one sure error does not weigh more than many
_RIM = np.ones((3, 3), bool)  # a region that this does not fit into is a rim
_NARROWEST = 0.05  # of the spread of a number over all images, so that equal ones do not make all others outliers


@dataclass(frozen=True)
class Contradiction:
    """What a network says against a mask.

    Args:
        excess: nats a labelled pixel by which the mask fits worse than expected.
        weight: px of the largest region that is contradicted, each weighed by how sure the network is.
        box: (top, left, bottom, right) px around that region; None without one.
        given, answered: class ids of the mask and of the network in most of it.
    """

    excess: float
    weight: float
    box: tuple[int, int, int, int] | None = None
    given: int = 0
    answered: int = 0


def contradict(chances: np.ndarray, mask: np.ndarray) -> Contradiction:
    """Compare the probabilities of an image, (H, W, classes) float32, with its mask, (H, W) class ids."""
    labelled = mask != IGNORE
    if not labelled.any():
        return Contradiction(0.0, 0.0)
    chances = np.clip(chances, _LEAST, 1)
    mask_chances = np.take_along_axis(chances, np.where(labelled, mask, 0)[..., None], -1)[..., 0]
    surprise = -np.log(mask_chances) + (chances * np.log(chances)).sum(-1)
    excess = float(surprise[labelled].mean())
    answers = chances.argmax(-1)
    against = labelled & (answers != mask)
    sure = np.where(against, chances.max(-1) - mask_chances, 0)
    regions, count = ndimage.label(ndimage.binary_opening(against, _RIM))
    if not count:
        return Contradiction(excess, 0.0)
    weights = ndimage.sum_labels(sure, regions, np.arange(1, count + 1))
    largest = int(np.argmax(weights))
    rows, columns = ndimage.find_objects(regions)[largest]
    inside = regions == largest + 1
    return Contradiction(
        excess,
        float(weights[largest]),
        (rows.start, columns.start, rows.stop, columns.stop),
        int(np.bincount(mask[inside]).argmax()),
        int(np.bincount(answers[inside]).argmax()),
    )


def suspicion(contradictions: Sequence[Contradiction]) -> np.ndarray:
    """Return how suspicious each mask is, (N,): spreads above what is usual, by the stranger of its two numbers.

    The usual is the median, and the spread 1.48 times the median distance from it, which faults of some do not move.
    """

    def spreads(values: np.ndarray) -> np.ndarray:
        middle = np.median(values)
        return (values - middle) / max(1.4826 * float(np.median(np.abs(values - middle))), _NARROWEST)

    excess = spreads(np.array([each.excess for each in contradictions]))
    return np.maximum(excess, spreads(np.log1p([each.weight for each in contradictions])))
