"""Which unlabelled images are worth labelling: those of which the network is unsure, and of these such as differ.

Suggestive annotation (Yang 2017, section 2.3): of all images the most doubtful are kept, and of them those are chosen
one by one that are farthest from what is labelled and chosen already (k-centre, Sener 2018, algorithm 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from unetres_edge import Card

KEPT = 4  # times as many doubtful images are kept as are chosen
_FLOOR = 0.02  # of a feature's spread, as in `familiarity`
_FARTHEST = 5.0  # spreads from the mean; beyond, one feature would decide alone


@dataclass(frozen=True)
class Pick:
    """A chosen image.

    Args:
        place: its number in the pool.
        doubt_rank: its place by expected IoU, from 1 for the lowest; by its number, where that of none is known.
        distance: distance from the nearest labelled or chosen image, in mean spreads of a feature; None for one
            that had nothing to be far from.
    """

    place: int
    doubt_rank: int
    distance: float | None


def look_of(card: Card, image: np.ndarray, class_map: np.ndarray) -> np.ndarray:
    """Return what an image looks like to a network, and the roots of the shares of the classes, (F + classes,)."""
    from .familiarity import seen_features

    names = len(card.class_names)
    shares = np.bincount(class_map[class_map < names], minlength=names) / max(1, class_map.size)
    return np.concatenate([seen_features(card.preprocessing, image), np.sqrt(shares)])


def choose(expected_iou: np.ndarray | None, features: np.ndarray, labelled: np.ndarray, count: int) -> list[Pick]:
    """Return the images to label, the first first.

    Args:
        expected_iou: (N,) of the pool; None where no network is there to doubt: then what differs is chosen of all,
            and where nothing is labelled it begins with the image that is most like the others.
        features: (N, F) of the pool.
        labelled: (M, F) of images that are labelled already; M may be 0.
        count: number of images that are chosen; all, if there are no more.
    """
    order = np.arange(len(features)) if expected_iou is None else np.argsort(expected_iou, kind="stable")
    rank = np.empty(len(order), int)
    rank[order] = np.arange(1, len(order) + 1)
    kept = order if expected_iou is None else order[: max(count, KEPT * count)]
    both = np.concatenate([features, labelled.reshape(-1, features.shape[1])])
    placed = np.clip((both - both.mean(0)) / np.maximum(both.std(0), _FLOOR), -_FARTHEST, _FARTHEST)
    pool, centres = placed[: len(features)], placed[len(features) :]
    near = np.full(len(kept), np.inf)
    for centre in centres:
        near = np.minimum(near, _distances(pool[kept], centre))
    picks: list[Pick] = []
    free = np.ones(len(kept), bool)
    while free.any() and len(picks) < count:
        at = int(np.argmax(np.where(free, near, -1.0)))  # of equal ones the most doubtful
        if expected_iou is None and np.isinf(near[at]):
            at = int(np.argmin(_distances(pool[kept], np.median(pool, 0))))
        index = int(kept[at])
        picks.append(Pick(index, int(rank[index]), float(near[at]) if np.isfinite(near[at]) else None))
        free[at] = False
        near = np.minimum(near, _distances(pool[kept], pool[index]))
    return picks


def _distances(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return np.sqrt(((points - centre) ** 2).mean(-1))
