"""The statistics by which a file knows pictures unlike those that its network was trained on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from unetres_edge import Preprocessing
from unetres_edge.images.features import feature_names, picture_features
from unetres_edge.model.familiarity import ALARM, Familiarity

from ..machine.progress_bar import with_progress

FOLDS = 10
FEWEST = math.ceil(1 / ALARM) - 1  # held-out pictures below which none could be called unfamiliar
MOST_PICTURES = 400
_MOST = 255  # distances that are kept
_FLOOR = 0.02  # of a feature's spread: a feature that is the same in all pictures may still differ by a hair
_DIGITS = 5


def picture_table(pre: Preprocessing, training: Any, held_out: Any) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Return the names of the features, and those of training and held-out pictures, (N, F) and (M, F).

    Args:
        pre: how pictures meet the network; features are of what it sees.
        training, held_out: pictures, each with its `image`; of more than 400, as many are looked at, spread over all.
    """
    names = feature_names(pre.channels)

    def table(records: Any, title: str) -> np.ndarray:
        places = np.unique(np.linspace(0, len(records) - 1, min(len(records), MOST_PICTURES)).astype(int)).tolist()
        shown = with_progress(places, title, "image", len(places))
        return np.array([seen_features(pre, records[place].image) for place in shown]).reshape(-1, len(names))

    return names, table(training, "training images"), table(held_out, "held-out images")


def seen_features(pre: Preprocessing, image: np.ndarray) -> np.ndarray:
    """Return the features (F,) of a picture as the network sees it."""
    seen = pre.prepare(image)
    seen = seen if pre.fit == "crop" else pre.place(*seen.shape[:2]).image(seen)
    return picture_features(seen[..., ::-1] if pre.color_order == "bgr" and pre.channels == 3 else seen)


def fit_familiarity(training: np.ndarray, held_out: np.ndarray, names: tuple[str, ...]) -> Familiarity | None:
    """Return the statistics of pictures, or None where there are too few.

    Where fewer than 19 pictures are held out, both kinds are taken together, and the distances are those of each tenth
    by the statistics of the others.

    Args:
        training: (N, F) features of the pictures that the network was trained on.
        held_out: (M, F) of others.
        names: of the features.
    """
    if len(held_out) >= FEWEST and len(training) > 1:
        found = _statistics(training, names)
        distances = [found.distance(each) for each in held_out]
    else:
        both = np.concatenate([training, held_out])
        if len(both) < FEWEST:
            return None
        found = _statistics(both, names)
        distances = []
        for number in range(FOLDS):
            others = _statistics(np.delete(both, np.s_[number::FOLDS], 0), names)
            distances += [others.distance(each) for each in both[number::FOLDS]]
    kept = np.sort(distances)
    if len(kept) > _MOST:  # the largest of each group, so that no picture is called unfamiliar for what was left out
        kept = np.array([part[-1] for part in np.array_split(kept, _MOST)])
    values = found.to_dict()
    return Familiarity.from_dict({**values, "distances": [round(float(value), _DIGITS) for value in kept]})


def shrunk_correlation(standardised: np.ndarray) -> np.ndarray:
    """Return the covariance (F, F) of (N, F) standardised features, shrunk to the sphere by Ledoit and Wolf (2004)."""
    count, size = standardised.shape
    sample = standardised.T @ standardised / count
    sphere = np.trace(sample) / size * np.eye(size)
    apart = ((sample - sphere) ** 2).sum()
    noise = sum(((np.outer(row, row) - sample) ** 2).sum() for row in standardised) / count**2
    share = min(noise, apart) / apart if apart else 1.0
    return share * sphere + (1 - share) * sample


def _statistics(features: np.ndarray, names: tuple[str, ...]) -> Familiarity:
    mean, spread = features.mean(0), np.maximum(features.std(0), _FLOOR)
    correlation = shrunk_correlation((features - mean) / spread) + 1e-6 * np.eye(len(names))
    upper = np.linalg.cholesky(np.linalg.inv(correlation)).T  # upper' upper is the inverse

    def rounded(values: np.ndarray) -> tuple[float, ...]:
        return tuple(round(float(value), _DIGITS) for value in values)

    return Familiarity(
        names,
        rounded(mean),
        rounded(spread),
        rounded(features.min(0)),
        rounded(features.max(0)),
        tuple(rounded(row[place:]) for place, row in enumerate(upper)),
        (0.0,),
        len(features),
    )
