"""Familiarity: whether a picture is like those of the training, and the network as sure of it as of others.

No image is kept, but of each feature the mean, the spread and the range, how features go together, and the features of
the training pictures: where these are of several kinds, what lies between the kinds is near the mean and like none.

A picture is strange where a worse mask is to be expected of it than of nearly all held-out pictures, as trees tell it
(`quality`); a mask counts as worse than another only by five points. One that is five times as far from the nearest
training picture as any held-out one is strange by that alone.

Cards without trees hold three numbers of each held-out picture: the distance from the nearest training picture, the
doubt of the network inside of regions, and the one at borders, by how far it is from the usual one, less or more. A
picture is strange where few of the held-out ones are as far away, few are as doubtful, and few have borders as unusual:
the product of the three numbers of them counts, that of borders, which tells bad masks best, twice.

How many are as strange is a conformal p-value (Vovk 2005), by which at most so many in a hundred pictures of the same
kind are called unfamiliar, whatever the numbers are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ..images.features import BLOCK, EARLIER_WINDOW, FEATURES, feature_names, picture_features, swapped
from ..results.doubt import SURE, Doubts
from .quality import WHOLE, QualityTrees

ALARM = 0.05  # familiarity up to which a picture is warned of
ALONE = 0.2  # of a distance, the largest other one: so far away, a picture is strange whatever the network says
BEYOND = 5.0  # what a spread beyond the range of the training images weighs against the distance from their mean
FEWEST = math.ceil(1 / ALARM) - 1  # held-out pictures below which no alarm can be promised
_MOST = 4096  # held-out distances, and training pictures, that a card may hold
_FARTHEST = 1 << 20  # sixteenths of a spread
_REASONS = 3
TOGETHER = "its levels, textures and colours do not go together as in the training images"
SWAPPED = "red and blue look swapped"
UNSURE = "the network is less sure than of any held-out image"
LESS_SURE = "the network is less sure than of most held-out images"
LESS_BORDERS = "the network is less sure of borders than usual"
MORE_BORDERS = "the network is surer of borders than usual"
POOR = "its mask is likely poor, with an mIoU of about {:d} %"
SIXTEENTHS = 16  # of a spread, in which the features of training pictures are kept
MARGIN = 500  # ten-thousandths of an mIoU by which a mask must look worse than those of held-out images
_STEPS = 64  # of a distance, in which trees are told of it
_FARTHEST_TOLD = 65535  # of those, and of the sixteenths of a spread
_FLOOR = 256  # added to doubts, 0 to 65535, that are compared: what is nearly nothing is no shift


class Verdict(NamedTuple):
    """What is told of a picture.

    Args:
        familiarity: share of held-out pictures that are as strange, the picture itself counted in; above 0, to 1.
        warnings: in words why it is low; () where it is not.
        quality: mIoU to expect of the mask, 0 to 1; None where the card cannot tell.
    """

    familiarity: float
    warnings: tuple[str, ...]
    quality: float | None


@dataclass(frozen=True)
class Familiarity:
    """Statistics of the features of training pictures, and the distances of held-out ones.

    The distance of features f is the least |W (z - z_i)| / sqrt(F) over the training pictures i, with
    z = (f - mean) / spread. In earlier cards, which do not hold them, it is |W z| / sqrt(F) +
    5 max(low - f, f - high, 0) / spread.

    Args:
        features: their names, in the order of `unetres_edge.images.features`.
        mean, spread, low, high: (F,) of the training pictures; the spread is the standard deviation, with a floor.
        whiten: (F, F) upper triangular W: W'W is the inverse of the shrunk covariance of z between pictures that are
            neighbours, in earlier cards of the correlation; its rows from the diagonal on.
        distances: those of held-out pictures.
        images: number of training pictures.
        window: px, as `unetres_edge.images.features` takes it.
        doubts: the doubt of the network about each of the held-out pictures, in their order; () where it is not told.
        borders: its doubt at the borders of regions, in the same order; () in earlier cards.
        pictures: z of each training picture, (N, F) in sixteenths; () in earlier cards.
        quality: trees that tell the mIoU to expect of a mask, with that of each held-out picture; None in earlier cards
            and where few pictures are held out.
        held_out: how many pictures the network was not trained on; 0 if not known. Of fewer than 19, the numbers are
            made of what there is, and that false alarms are few is no promise.

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
    window: int = EARLIER_WINDOW
    doubts: tuple[int, ...] = ()
    held_out: int = 0
    borders: tuple[int, ...] = ()
    pictures: tuple[tuple[int, ...], ...] = ()
    quality: QualityTrees | None = None

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
        if self.window % BLOCK or not BLOCK <= self.window <= _MOST or self.held_out < 0:
            raise ValueError("familiarity has no window")
        if self.doubts and (len(self.doubts) != len(self.distances) or not all(0 <= d <= SURE for d in self.doubts)):
            raise ValueError("familiarity has not one doubt for each distance")
        if self.borders and (len(self.borders) != len(self.doubts) or not all(0 <= b <= SURE for b in self.borders)):
            raise ValueError("familiarity has not one doubt at borders for each doubt")
        if len(self.pictures) > _MOST or any(len(picture) != count for picture in self.pictures):
            raise ValueError("familiarity has not one number a feature of each picture")
        if not all(abs(value) < _FARTHEST for picture in self.pictures for value in picture):
            raise ValueError("familiarity has a picture that is out of range")
        if self.quality and len(self.quality.held_out) != len(self.distances):
            raise ValueError("familiarity has not one expected mIoU for each distance")

    @property
    def known(self) -> bool:
        """Whether this version can compute the features; a later one may have others."""
        return self.features in (feature_names(1), feature_names(3))

    @property
    def promised(self) -> bool:
        """Whether at most one in twenty pictures of the same kind is called unfamiliar."""
        return self.held_out >= FEWEST

    @cached_property
    def _upper(self) -> np.ndarray:
        upper = np.zeros((len(self.whiten), len(self.whiten)))
        for index, row in enumerate(self.whiten):
            upper[index, index:] = row
        return upper

    def features_of(self, image: np.ndarray) -> np.ndarray:
        """Return the features (F,) of a prepared picture (H, W, C) uint8."""
        return picture_features(image, self.window)

    @cached_property
    def _turned(self) -> np.ndarray:
        """W z of the training pictures, (N, F)."""
        return np.array(self.pictures, np.float64) / SIXTEENTHS @ self._upper.T

    def standardised(self, features: np.ndarray) -> np.ndarray:
        """Return features (..., F) less their mean, in spreads."""
        z: np.ndarray = (features - np.array(self.mean)) / np.array(self.spread)
        return z

    def distance(self, features: np.ndarray) -> float:
        """Return how far (F,) features are from those of the training pictures."""
        turned, size = self._upper @ self.standardised(features), math.sqrt(len(features))
        if self.pictures:
            return float(np.linalg.norm(turned - self._turned, axis=1).min() / size)
        return float(np.linalg.norm(turned) / size + BEYOND * max(0.0, float(self._beyond(features).max())))

    def p_value(self, features: np.ndarray, doubts: Doubts | None = None) -> float:
        """Return the share of held-out pictures that are as strange, the picture itself counted in; above 0, to 1.

        Args:
            features: (F,) of the picture.
            doubts: what the network says of it; None where it gives no scores, and then the picture alone is judged.
        """
        return _share_as_strange(self.usualness(features, doubts, self.expected_quality(features, doubts)))

    def usualness(self, features: np.ndarray, doubts: Doubts | None, quality: int | None) -> np.ndarray:
        """Return how usual the held-out pictures are and, last, a picture among them, (N + 1,).

        Args:
            features, doubts: as for `p_value`.
            quality: what `expected_quality` gives of them.
        """
        usual = tails([*self.distances, self.distance(features)])
        usual = np.where(usual < ALONE, 0.0, usual)
        if doubts is None or not self.doubts:
            return usual
        if self.quality and quality is not None:
            lacks = [*(WHOLE - each for each in self.quality.held_out), max(0, WHOLE - quality - MARGIN)]
            return np.where(usual == 0, 0.0, tails(lacks))
        usual = usual * tails([*self.doubts, doubts.inside])
        if not self.borders:
            return usual
        of_borders = tails(border_shifts([*self.borders, doubts.border]))
        return usual * of_borders * of_borders

    def expected_quality(self, features: np.ndarray, doubts: Doubts | None) -> int | None:
        """Return the mIoU, in ten-thousandths, to expect of the mask of a picture; None where the card cannot tell.

        A card of a later version may tell its trees other numbers than this one knows.
        """
        if doubts is None or self.quality is None:
            return None
        told = self.told(features, doubts)
        return self.quality.expected(told) if self.quality.inputs == len(told) else None

    def told(self, features: np.ndarray, doubts: Doubts) -> list[int]:
        """Return the whole numbers that `QualityTrees` take: (F + 5,) of a picture and of what the network says."""
        sixteenths = np.floor(SIXTEENTHS * self.standardised(features))
        distance = min(_FARTHEST_TOLD, math.floor(_STEPS * self.distance(features)))
        told = np.clip(sixteenths, -_FARTHEST_TOLD, _FARTHEST_TOLD).astype(int).tolist()
        return [*told, distance, doubts.inside, doubts.border, doubts.at_borders, doubts.overlap]

    def judge(self, features: np.ndarray, doubts: Doubts | None = None) -> Verdict:
        """Return what is told of a picture; arguments as `p_value`."""
        quality = self.expected_quality(features, doubts)
        familiarity = _share_as_strange(self.usualness(features, doubts, quality))
        warnings = self.reasons(features, doubts, quality) if familiarity <= ALARM else ()
        return Verdict(familiarity, warnings, None if quality is None else quality / WHOLE)

    def reasons(self, features: np.ndarray, doubts: Doubts | None, quality: int | None) -> tuple[str, ...]:
        """Return what is unlike the training pictures, the farthest first, at most three; a doubt is said in front.

        Arguments as `usualness`.
        """
        words = []
        if self.features == feature_names(3) and self._is_near(swapped(features)) and not self._is_near(features):
            words.append(SWAPPED)
        if self.quality and quality is not None and self._is_poor(self.quality, quality):
            words.append(POOR.format((quality + WHOLE // 200) // (WHOLE // 100)))
        if doubts is not None and self.doubts:
            below = sum(each < doubts.inside for each in self.doubts)
            nearer = sum(each < self.distance(features) for each in self.distances)
            if below == len(self.doubts):
                words.append(UNSURE)
            elif below > nearer:
                words.append(LESS_SURE)
            words += self._of_borders(doubts.border, max(below, nearer))
        beyond = self._beyond(features)
        for index in np.argsort(-beyond, kind="stable"):
            word = FEATURES[self.features[index]][int(features[index] > self.high[index])]
            if beyond[index] > 0 and word and word not in words:
                words.append(word)
        return tuple(words[:_REASONS]) or (TOGETHER,)

    def _is_poor(self, trees: QualityTrees, quality: int) -> bool:
        """Return whether a mask is expected to be worse than nearly all of held-out images."""
        return (1 + sum(each <= quality + MARGIN for each in trees.held_out)) / (1 + len(trees.held_out)) <= ALARM

    def _of_borders(self, border: int, others: int) -> list[str]:
        """Return what borders say, where they are stranger than all, or stranger than so many by other numbers."""
        if not self.borders:
            return []
        *usual, own = border_shifts([*self.borders, border])
        below = int((np.array(usual) < own).sum())
        if below < len(usual) and below <= others:
            return []
        middle = _middle([*self.borders, border])
        return [LESS_BORDERS if border > middle else MORE_BORDERS]

    def _is_near(self, features: np.ndarray) -> bool:
        """Return whether more than one in twenty held-out pictures are as far away."""
        distance = self.distance(features)
        return (1 + sum(each >= distance for each in self.distances)) / (1 + len(self.distances)) > ALARM

    def _beyond(self, features: np.ndarray) -> np.ndarray:
        """Return how far each feature is outside of the range, in spreads; below 0 inside."""
        return np.maximum(np.array(self.low) - features, features - np.array(self.high)) / np.array(self.spread)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        listed = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
        rows = {key: [list(row) for row in values[key]] for key in ("whiten", "pictures")}
        return {**values, **listed, **rows, "quality": None if self.quality is None else self.quality.to_dict()}

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
        numbers: dict[str, Any] = {key: _numbers(values[key]) for key in ("mean", "spread", "low", "high", "distances")}
        whiten = tuple(_numbers(row) for row in values["whiten"])
        whole = {"window": EARLIER_WINDOW, "held_out": 0} | {
            k: values[k] for k in ("window", "held_out") if k in values
        }
        # Older cards have no doubts, borders and pictures, and neither of the two above.
        doubts, borders, pictures = (values.get(key, []) for key in ("doubts", "borders", "pictures"))
        if not all(isinstance(each, list) for each in (doubts, borders, pictures, *pictures)):
            raise TypeError("familiarity has doubts or pictures that are no list")
        counted = (*whole.values(), *doubts, *borders, *chain.from_iterable(pictures))
        if not all(type(value) is int for value in counted):
            raise TypeError("familiarity has a window, doubts or pictures that are no whole numbers")
        return cls(
            tuple(names),
            whiten=whiten,
            images=values["images"],
            doubts=tuple(doubts),
            borders=tuple(borders),
            pictures=tuple(map(tuple, pictures)),
            quality=None if values.get("quality") is None else QualityTrees.from_dict(values["quality"]),
            **numbers,
            **whole,
        )


def _share_as_strange(usual: np.ndarray) -> float:
    """Return the share that is as strange as the last of (N,) pictures, itself counted in."""
    return int((usual <= usual[-1]).sum()) / len(usual)


def border_shifts(borders: Sequence[int]) -> np.ndarray:
    """Return how far each of (N,) doubts at borders is from the middle one: 1 there, and more for less and for more.

    More doubt than usual is a worse sign than less: its quotient counts twice. Quotients of whole numbers and their
    products, which all runtimes get alike.
    """
    values, middle = np.asarray(borders, np.float64), _middle(borders)
    shifts = (np.maximum(values, middle) + _FLOOR) / (np.minimum(values, middle) + _FLOOR)
    return np.where(values > middle, shifts * shifts, shifts)


def _middle(values: Sequence[int]) -> int:
    return sorted(values)[len(values) // 2]


def tails(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return, for each of (N,) values, how many are at least as large, itself counted in.

    For the largest it is the share that the second is of it, from 0 to 1. So a number can stand out so far that the
    picture is strange whatever the other number says.
    """
    array = np.asarray(values, np.float64)
    ascending = np.sort(array)
    counts = len(array) - np.searchsorted(ascending, array).astype(np.float64)
    if len(array) > 1 and ascending[-1] > max(0.0, ascending[-2]):
        counts[array.argmax()] = max(0.0, ascending[-2]) / ascending[-1]
    return counts


def _numbers(values: Any) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise TypeError("familiarity has what is no number")
    return tuple(map(float, values))
