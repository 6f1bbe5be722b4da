"""Whether a picture is like those that a network was trained on: statistics of their features, what they say of one.

No image is kept, but of each feature the mean, the spread and the range, and how features go together. The distance of
a picture is compared with those of held-out pictures: a conformal p-value (Vovk 2005), by which at most so many in a
hundred pictures of the same kind are called unfamiliar.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..images.features import FEATURES, feature_names, picture_features, swapped

ALARM = 0.05  # familiarity up to which a picture is warned of
BEYOND = 5.0  # what a spread beyond the range of the training images weighs against the distance from their mean
_MOST = 4096  # held-out distances that a card may hold
_REASONS = 3
TOGETHER = "its levels, textures and colours do not go together as in the training images"
SWAPPED = "red and blue look swapped"


@dataclass(frozen=True)
class Familiarity:
    """Statistics of the features of training pictures, and the distances of held-out ones.

    The distance of features f is |W z| / sqrt(F) + 5 max(low - f, f - high, 0) / spread, with z = (f - mean) / spread.

    Args:
        features: their names, in the order of `unetres_edge.images.features`.
        mean, spread, low, high: (F,) of the training pictures; the spread is the standard deviation, with a floor.
        whiten: (F, F) upper triangular W: W'W is the inverse of the shrunk correlation; its rows from the diagonal on.
        distances: those of held-out pictures, ascending.
        images: how many training pictures there were.

    Raises:
        ValueError: lists that do not belong together, or numbers that cannot be meant.
    """

    features: tuple[str, ...]
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    whiten: tuple[tuple[float, ...], ...]
    distances: tuple[float, ...]
    images: int

    def __post_init__(self) -> None:
        count = len(self.features)
        lists = (self.mean, self.spread, self.low, self.high, self.distances, *self.whiten)
        if any(len(each) != count for each in (*lists[:4], self.whiten)):
            raise ValueError("familiarity has not one number a feature")
        if [len(row) for row in self.whiten] != list(range(count, 0, -1)):
            raise ValueError("familiarity has no triangle of numbers")
        if not all(math.isfinite(value) and abs(value) < 1e9 for each in lists for value in each):
            raise ValueError("familiarity has a number that is out of range")
        if not all(value > 0 for value in self.spread) or not 0 < len(self.distances) <= _MOST or self.images < 1:
            raise ValueError("familiarity has no spread, distances or images")

    @property
    def known(self) -> bool:
        """Whether this version can compute the features; a later one may have others."""
        return self.features in (feature_names(1), feature_names(3))

    def distance(self, features: np.ndarray) -> float:
        """Return how far (F,) features are from those of the training pictures."""
        spread = np.array(self.spread)
        z = (features - np.array(self.mean)) / spread
        upper = np.zeros((len(z), len(z)))
        for place, row in enumerate(self.whiten):
            upper[place, place:] = row
        return float(
            np.linalg.norm(upper @ z) / math.sqrt(len(z)) + BEYOND * max(0.0, float(self._beyond(features).max()))
        )

    def p_value(self, features: np.ndarray) -> float:
        """Return the share of held-out pictures that are as far away, the picture itself counted in; above 0, to 1."""
        distance = self.distance(features)
        farther = sum(each >= distance for each in self.distances)
        return (1 + farther) / (1 + len(self.distances))

    def judge(self, image: np.ndarray) -> tuple[float, tuple[str, ...]]:
        """Return the familiarity of a prepared picture (H, W, C) uint8, and in words why it is low, if it is."""
        features = picture_features(image)
        familiarity = self.p_value(features)
        return familiarity, self.reasons(features) if familiarity <= ALARM else ()

    def reasons(self, features: np.ndarray) -> tuple[str, ...]:
        """Return what is unlike the training pictures, the farthest first, at most three."""
        words = []
        if self.features == feature_names(3) and self.p_value(swapped(features)) > ALARM:
            words.append(SWAPPED)
        beyond = self._beyond(features)
        for place in np.argsort(-beyond, kind="stable"):
            word = FEATURES[self.features[place]][int(features[place] > self.high[place])]
            if beyond[place] > 0 and word and word not in words:
                words.append(word)
        return tuple(words[:_REASONS]) or (TOGETHER,)

    def _beyond(self, features: np.ndarray) -> np.ndarray:
        """Return how far each feature is outside of the range, in spreads; below 0 inside."""
        return np.maximum(np.array(self.low) - features, features - np.array(self.high)) / np.array(self.spread)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        listed = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
        return {**values, **listed, "whiten": [list(row) for row in self.whiten]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Familiarity:
        """Read what `to_dict` gives; keys of a later version are left out.

        Raises:
            KeyError, TypeError, ValueError: it is not that.
        """
        names = values["features"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError("features are no names")
        if type(values["images"]) is not int:
            raise TypeError("images is no number")
        numbers = {key: _numbers(values[key]) for key in ("mean", "spread", "low", "high", "distances")}
        whiten = tuple(_numbers(row) for row in values["whiten"])
        return cls(tuple(names), whiten=whiten, images=values["images"], **numbers)


def _numbers(values: Any) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise TypeError("familiarity has what is no number")
    return tuple(map(float, values))
