"""The statistics by which a file knows pictures unlike those that its network was trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats
from scipy.spatial import cKDTree

from unetres_edge import Preprocessing, Segmenter
from unetres_edge.images.features import WINDOW, feature_names, picture_features
from unetres_edge.model.familiarity import FEWEST, SIXTEENTHS, Familiarity
from unetres_edge.results.doubt import SURE, Doubts, doubts_of

from ..machine.progress_bar import with_progress

FOLDS = 10
MOST_PICTURES = 255  # of a kind that are looked at
_MOST = 255  # held-out pictures that are kept, two numbers each
_DOUBT_FLOOR = 0.1  # of the spread of a doubt's logarithm, of a few pictures that happen to be alike
_FLOOR = 0.02  # of a feature's spread: a feature that is the same in all pictures may still differ by a hair
_DIGITS = 5
_NEIGHBOURS = 5
_ALIKE = 0.9  # of the differences between neighbours, the smallest
_LEAST_VARIANCE = 1e-4  # of a feature's own: what is the same in all neighbours may still differ by a hair


def picture_table(pre: Preprocessing, training: Any, held_out: Any) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Return the names of the features, and those of training and held-out pictures, (N, F) and (M, F).

    Args:
        pre: preparation of pictures for the network; features are of what it sees.
        training, held_out: pictures, each with its `image`; of more than 255, as many are looked at, spread over all.
    """
    names = feature_names(pre.channels)

    def table(records: Any, title: str) -> np.ndarray:
        places = spread_places(len(records), MOST_PICTURES)
        shown = with_progress(places, title, "image", len(places))
        return np.array([seen_features(pre, records[index].image) for index in shown]).reshape(-1, len(names))

    return names, table(training, "training images"), table(held_out, "held-out images")


def network_doubts(opened: Segmenter, held_out: Any) -> list[Doubts]:
    """Return what the network says of the pictures that `picture_table` looks at.

    None are told of an argmax head.
    """
    card = opened.card
    if card.head == "argmax":
        return []
    places, doubts = spread_places(len(held_out), MOST_PICTURES), []
    for index in with_progress(places, "doubts", "image", len(places)):
        scores = opened.segment(held_out[index].image, scores=True).scores
        assert scores is not None  # they were asked for
        doubts.append(doubts_of(scores, card.activation, card.calibration))
    return doubts


def spread_places(count: int, most: int) -> list[int]:
    """Return so many of 0 to `count` - 1, or all, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist()


def seen_features(pre: Preprocessing, image: np.ndarray) -> np.ndarray:
    """Return the features (F,) of a picture as the network sees it."""
    seen = pre.prepare(image)
    seen = seen if pre.fit == "crop" else pre.place(*seen.shape[:2]).image(seen)
    return picture_features(seen[..., ::-1] if pre.color_order == "bgr" and pre.channels == 3 else seen)


def fit_familiarity(
    training: np.ndarray, held_out: np.ndarray, names: tuple[str, ...], doubts: Sequence[Doubts] = ()
) -> Familiarity | None:
    """Return the statistics of pictures, or None where there are too few.

    Where fewer than 19 pictures are held out, both kinds are taken together, and the distances are those of each tenth
    by the statistics of the others. The network has learned the training pictures by heart, and what it doubts of them
    says nothing: the doubts are then the quantiles of the next one by those that there are, if their logarithms are
    normal (a t distribution). No promise follows from either.

    Args:
        training: (N, F) features of the pictures that the network was trained on.
        held_out: (M, F) of others.
        names: names of the features.
        doubts: (M,) of the network about the latter; () where it gives no scores.
    """
    if len(held_out) >= FEWEST and len(training) > 1:
        statistics = _statistics(training, names)
        distances = [statistics.distance(held_out[index]) for index in spread_places(len(held_out), _MOST)]
        known = [doubts[index] for index in spread_places(len(doubts), _MOST)]
    else:
        both = np.concatenate([training, held_out])
        if len(both) < FEWEST:
            return None
        statistics, kept = _statistics(both, names), []
        for number in range(FOLDS):
            others = _statistics(np.delete(both, np.s_[number::FOLDS], 0), names)
            kept += [others.distance(each) for each in both[number::FOLDS]]
        distances = kept[:: -(-len(kept) // _MOST)]
        inside = _next_doubts([each.inside for each in doubts], len(distances), 0)
        borders = _next_doubts([each.border for each in doubts], len(distances), 1)
        known = list(map(Doubts, inside, borders))
    return replace(
        statistics,
        distances=tuple(round(float(value), _DIGITS) for value in distances),
        doubts=tuple(each.inside for each in known),
        borders=tuple(each.border for each in known),
        held_out=len(held_out),
    )


def _next_doubts(doubts: Sequence[int], count: int, seed: int) -> list[int]:
    """Return so many quantiles of the next doubt after a few, in an order that goes with nothing; of one, none."""
    if len(doubts) < 2:
        return []
    logs = np.log(np.asarray(doubts, np.float64) + 1)
    spread = max(float(logs.std(ddof=1)), _DOUBT_FLOOR) * math.sqrt(1 + 1 / len(logs))
    shares = np.arange(1, count + 1) / (count + 1)
    values = np.exp(np.clip(logs.mean() + spread * stats.t.ppf(shares, len(logs) - 1), 0, math.log(SURE + 1))) - 1
    return np.random.default_rng(seed).permutation(np.round(values).astype(int)).tolist()


def shrunk_covariance(standardised: np.ndarray) -> np.ndarray:
    """Return the covariance (F, F) of (N, F) standardised features, shrunk to the sphere by Ledoit and Wolf (2004)."""
    count, size = standardised.shape
    sample = standardised.T @ standardised / count
    sphere = np.trace(sample) / size * np.eye(size)
    apart = ((sample - sphere) ** 2).sum()
    noise = sum(((np.outer(row, row) - sample) ** 2).sum() for row in standardised) / count**2
    share = min(noise, apart) / apart if apart else 1.0
    return share * sphere + (1 - share) * sample


def neighbour_differences(standardised: np.ndarray) -> np.ndarray:
    """Return the differences (M, F) of (N, F) features from those of their 5 nearest, but for the largest tenth.

    They tell how pictures of one kind differ, however far the kinds are apart; one that is like no other tells nothing.
    """
    others = min(_NEIGHBOURS, len(standardised) - 1)
    nearest = cKDTree(standardised).query(standardised, others + 1)[1][:, 1:]
    apart = (standardised[:, None] - standardised[nearest]).reshape(-1, standardised.shape[1])
    lengths = np.linalg.norm(apart, axis=1)
    kept: np.ndarray = apart[lengths <= np.quantile(lengths, _ALIKE)]
    return kept


def _statistics(features: np.ndarray, names: tuple[str, ...]) -> Familiarity:
    mean, spread = features.mean(0), np.maximum(features.std(0), _FLOOR)
    differences = neighbour_differences((features - mean) / spread)
    covariance = shrunk_covariance(differences) + _LEAST_VARIANCE * np.eye(len(names))
    upper = np.linalg.cholesky(np.linalg.inv(covariance)).T  # upper' upper is the inverse

    def rounded(values: np.ndarray) -> tuple[float, ...]:
        return tuple(round(float(value), _DIGITS) for value in values)

    statistics = Familiarity(
        names,
        rounded(mean),
        rounded(spread),
        rounded(features.min(0)),
        rounded(features.max(0)),
        tuple(rounded(row[index:]) for index, row in enumerate(upper)),
        (0.0,),
        len(features),
        WINDOW,
    )
    pictures = np.round(SIXTEENTHS * statistics.standardised(features)).astype(int).tolist()
    return replace(statistics, pictures=tuple(map(tuple, pictures)))
