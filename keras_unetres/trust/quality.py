"""Trees that tell what mIoU is to be expected of a mask, grown on training pictures that were spoilt.

Robinson (2018) has a network tell the overlap of a mask; here the picture's features, its distance from the training
pictures and what the network says of its own answer tell it, to a few thousand whole numbers in the card. They are
grown on training pictures alone: held-out ones, by which an alarm is judged, are as new to them as any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from unetres_edge import Preprocessing, Segmenter
from unetres_edge.model.familiarity import Familiarity
from unetres_edge.model.quality import WHOLE, QualityTrees
from unetres_edge.results.doubt import Doubts, doubts_of

from ..machine.progress_bar import with_progress
from ..scores.confusion import Confusion
from .corruptions import corrupt
from .familiarity import seen_features, spread_places
from .scored_pixels import MOST_IMAGES

MOST_SPOILT, FEWEST_SPOILT = 500, 150
_MOST_TILES = 2000  # that the network is asked about, as far as that leaves pictures enough
_UNTOUCHED = 9  # of so many pictures one is left as it is
_LARGEST = 512  # px of a side; of larger pictures a part is spoilt
_TREES, _DEPTH, _LEAST = 40, 5, 2  # spoilt pictures of a leaf, at least


def grow_trees(
    known: Familiarity, opened: Segmenter, training: Any, held_out: Sequence[tuple[np.ndarray, Doubts]]
) -> QualityTrees | None:
    """Return the trees, or None where no training picture has a mask.

    Args:
        known: statistics of the training pictures.
        opened: the file, which gives scores.
        training: pictures that the network was trained on, each with its `image` and `mask`.
        held_out: features and doubts of others, in the order of the distances of `known`.
    """
    card = opened.card
    count = how_many(card.preprocessing, training[0].mask.shape) if len(training) else 0
    told, scores = [], []
    shown = with_progress(spoilt_pictures(card.preprocessing, training, count), "spoilt images", "image", count)
    for image, mask in shown:
        result = opened.segment(image, scores=True)
        assert result.scores is not None  # they were asked for
        miou = Confusion.of(mask, result.class_map, len(card.class_names)).mean_iou()
        if miou is not None:
            doubts = doubts_of(result.scores, card.activation, card.calibration)
            told.append(known.told(seen_features(card.preprocessing, image), doubts))
            scores.append(miou)
    if not told:
        return None
    forest = ExtraTreesRegressor(_TREES, max_depth=_DEPTH, min_samples_leaf=_LEAST, random_state=0)
    forest.fit(np.array(told), np.array(scores))
    trees = [complete_tree(each.tree_) for each in forest.estimators_]
    splits, leaves = (tuple(map(tuple, each)) for each in zip(*trees, strict=True))
    plain = QualityTrees(len(told[0]), splits, leaves, ())
    return QualityTrees(len(told[0]), splits, leaves, tuple(plain.expected(known.told(*each)) for each in held_out))


def measure_quality(opened: Segmenter, records: Any) -> dict[str, Any] | None:
    """Return what a file expects of its masks beside what they have, JSON values; None where it expects nothing.

    Args:
        opened: the file, with its trees.
        records: images that the network was not trained on, each with its `mask`; of many some, spread over all.

    Returns:
        "images": the mIoU that is expected and the true one of each, 0 to 1; "mean_error": how far the one is from the
        other in the mean; "correlation" of both, None where it is not defined.
    """
    places = spread_places(len(records), MOST_IMAGES)
    pairs = []
    for index in with_progress(places, "expected", "image", len(places)):
        result = opened.segment(records[index].image)
        miou = Confusion.of(records[index].mask, result.class_map, len(opened.card.class_names)).mean_iou()
        if miou is not None and result.quality is not None:
            pairs.append((result.quality, miou))
    if not pairs:
        return None
    both = np.array(pairs)
    varied = len(pairs) > 2 and both.std(0).min() > 0
    return {
        "images": [[round(value, 4) for value in pair] for pair in both.tolist()],
        "mean_error": round(float(np.abs(both[:, 0] - both[:, 1]).mean()), 4),
        "correlation": round(float(np.corrcoef(both.T)[0, 1]), 4) if varied else None,
    }


def how_many(pre: Preprocessing, shape: tuple[int, int]) -> int:
    """Return how many pictures are spoilt: fewer where the network has to be asked about many tiles of each.

    Args:
        pre: preparation of pictures for the network.
        shape: height and width of a picture, px.
    """
    if pre.fit != "crop":
        return MOST_SPOILT
    tiles = math.prod(math.ceil(min(length, _LARGEST) / tile) for length, tile in zip(shape, pre.size, strict=True))
    return min(MOST_SPOILT, max(FEWEST_SPOILT, _MOST_TILES // tiles))


def spoilt_pictures(pre: Preprocessing, training: Any, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield so many training pictures with one thing gone wrong each, or, one in nine, none, and their masks.

    Of large ones it is a part, or, where the network sees a picture scaled, every n-th row and column.

    Args:
        pre: preparation of pictures for the network.
        training: pictures, each with its `image` and `mask`; all in turn, of many some that are spread over all.
        count: number of pictures.
    """
    rng = np.random.default_rng(0)
    places = spread_places(len(training), count)
    for number in range(count):
        record = training[places[number % len(places)]]
        image, mask = record.image, record.mask
        if pre.fit == "crop":
            rows, columns = (_window(size, rng) for size in mask.shape)
        else:
            step = max(1, max(mask.shape) // _LARGEST)
            rows = columns = slice(step // 2, None, step)
        part = image[rows, columns], mask[rows, columns]
        yield part if number % _UNTOUCHED == 0 else corrupt(*part, rng)


def _window(size: int, rng: np.random.Generator) -> slice:
    start = int(rng.integers(max(1, size - _LARGEST + 1)))
    return slice(start, start + _LARGEST)


def complete_tree(tree: Any) -> tuple[list[int], list[int]]:
    """Return the splits and leaves of a tree of scikit-learn as `QualityTrees` have them.

    Where it has a leaf higher up, the splits below part nothing: all their leaves are that one.

    Args:
        tree: `tree_` of an estimator.
    """
    splits, leaves = [], []
    level = [0]
    for _ in range(_DEPTH):
        below = []
        for node in level:
            is_leaf = tree.children_left[node] < 0
            splits += [0, 0] if is_leaf else [int(tree.feature[node]), int(np.floor(tree.threshold[node]))]
            below += [node, node] if is_leaf else [tree.children_left[node], tree.children_right[node]]
        level = below
    for node in level:
        leaves.append(round(WHOLE * float(np.clip(tree.value[node].item(), 0, 1))))
    return splits, leaves
