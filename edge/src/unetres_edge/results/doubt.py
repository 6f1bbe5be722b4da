"""How much a network doubts its answers of an image: a whole number, which every runtime gets alike.

Of some pixels, evenly spread, the calibrated scores of the two likeliest classes are compared. How far they are apart
is a level, a sixteenth of a nat each, and each level has its entropy, as if there were but these two classes. The doubt
is the mean, rounded down, over the pixels whose four neighbours among them have the same label: at borders every
network is unsure, and an image with many of them is no worse for that. It is 0 where the network is sure of all, and
65535 where it could as well throw a coin. The mean over the other pixels, those at borders, says how sharp they are to
the network: of a picture that is blurred they are less sure than usual, and where cells are no longer seen, surer.

By the same pixels the answer is told in two more whole numbers: how many are at borders, and how well the regions would
meet the true ones if each pixel were right as often as its two likeliest classes say.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..model.calibration import Calibration

SURE = 65535  # the doubt of a coin; a doubt divided by it is in bits a pixel
LEVELS, STEPS = 256, 16  # of how far two scores are apart; in a nat
_PIXELS = 4096  # about as many of an image are looked at
_LEAST = float(np.finfo(np.float32).tiny)  # a probability below this counts as this


def _entropy(level: int) -> int:
    other = 1 / (1 + math.exp(level / STEPS))
    return math.floor(-SURE * (other * math.log2(other) + (1 - other) * math.log2(1 - other)) + 0.5)


TABLE = np.array([_entropy(level) for level in range(LEVELS)], np.int64)
_RIGHT = np.array([math.floor(SURE / (1 + math.exp(-level / STEPS)) + 0.5) for level in range(LEVELS)], np.int64)


class Doubts(NamedTuple):
    """What a network says of one image, in whole numbers.

    Args:
        inside: mean doubt, 0 to 65535, over the pixels inside of regions; over all where there are none.
        border: mean doubt over the pixels at borders, 0 without any.
        at_borders: share of the pixels that are at borders, of 65535.
        overlap: expected mIoU, of 65535, by the two likeliest classes of each pixel.
    """

    inside: int
    border: int = 0
    at_borders: int = 0
    overlap: int = 0


class Doubt:
    """The doubt of one image, gathered as its rows are done.

    Args:
        height, width: px of the image.
        activation: function that makes probabilities of the scores, as the card says it.
        calibration: calibration of the probabilities, as the card says it.
    """

    def __init__(
        self, height: int, width: int, activation: str = "softmax", calibration: Calibration | None = None
    ) -> None:
        self.step = max(1, math.isqrt(height * width // _PIXELS))
        self._activation, self._calibration = activation, calibration
        self._levels: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._classes = 0

    def add(self, row: int, scores: np.ndarray) -> None:
        """Take the scores (rows, W, classes) of rows from `row` on; all rows come once, from the top down."""
        first = self.step // 2
        self.add_seen(scores[(first - row) % self.step :: self.step, first :: self.step])

    def add_seen(self, scores: np.ndarray) -> None:
        """Take the scores (h, w, classes) of pixels that are looked at, every `step`-th from the middle of one on."""
        levels = doubt_levels(scores.reshape(-1, scores.shape[-1]), self._activation, self._calibration)
        self._levels.append(levels.reshape(scores.shape[:2]))
        self._labels.append(scores.argmax(-1))
        self._classes = scores.shape[-1]

    @property
    def value(self) -> int:
        """The mean, 0 to 65535, over the pixels inside of regions; over all where there are none."""
        return self.values.inside

    @property
    def values(self) -> Doubts:
        """What is told of the image, of all the rows so far."""
        levels, labels = (
            np.concatenate(each) if each else np.zeros((0, 0), int) for each in (self._levels, self._labels)
        )
        inside = np.ones(labels.shape, bool)
        across, down = labels[:, 1:] == labels[:, :-1], labels[1:] == labels[:-1]
        inside[:, 1:] &= across
        inside[:, :-1] &= across
        inside[1:] &= down
        inside[:-1] &= down
        return Doubts(
            _mean(levels[inside] if inside.any() else levels.ravel()),
            _mean(levels[~inside]),
            SURE * int((~inside).sum()) // max(1, labels.size),
            expected_overlap(levels.ravel(), labels.ravel(), self._classes),
        )


def expected_overlap(levels: np.ndarray, labels: np.ndarray, classes: int) -> int:
    """Return the expected mIoU, of 65535, over the classes that occur among the labels.

    A pixel has its label with the chance that its level gives, and else each other class alike.

    Args:
        levels: (N,) how far apart the two likeliest classes are.
        labels: (N,) class ids.
        classes: number of classes.
    """
    right = _RIGHT[levels]
    wrong = SURE - right
    overlaps = []
    for label in np.unique(labels):
        its = labels == label
        missed = int(wrong[~its].sum()) // max(1, classes - 1)
        overlaps.append(SURE * int(right[its].sum()) // (SURE * int(its.sum()) + missed))
    return sum(overlaps) // max(1, len(overlaps))


def _mean(levels: np.ndarray) -> int:
    return int(TABLE[levels].sum()) // max(1, levels.size)


def doubts_of(scores: np.ndarray, activation: str = "softmax", calibration: Calibration | None = None) -> Doubts:
    """Return what a network says of an image by its scores (H, W, classes)."""
    doubt = Doubt(scores.shape[0], scores.shape[1], activation, calibration)
    doubt.add(0, scores)
    return doubt.values


def doubt_of(scores: np.ndarray, activation: str = "softmax", calibration: Calibration | None = None) -> int:
    """Return the doubt of an image by its scores (H, W, classes)."""
    return doubts_of(scores, activation, calibration).inside


def doubt_levels(scores: np.ndarray, activation: str, calibration: Calibration | None) -> np.ndarray:
    """Return how far apart the two likeliest of (N, classes) scores are, (N,) levels from 0 to 255.

    Of sigmoids it is how far the likeliest class, by itself, is from a half.
    """
    moved = scores.astype(np.float64)
    if activation == "none":
        moved = np.log(np.maximum(moved, _LEAST))
    if calibration is not None:
        moved *= 1 / calibration.temperature
        if calibration.bias:
            moved += np.array(calibration.bias)
    if activation == "sigmoid":
        apart = np.abs(moved.max(-1))
    elif moved.shape[-1] == 2:
        apart = np.abs(moved[:, 1] - moved[:, 0])
    elif moved.shape[-1] == 1:
        apart = np.full(len(moved), float(LEVELS))
    else:
        two = np.partition(moved, -2, axis=-1)[:, -2:]
        apart = two[:, 1] - two[:, 0]
    return np.minimum(np.floor(STEPS * apart), LEVELS - 1).astype(np.int64)
