"""How far two forms of one network give the same labels, and from when on that is too few.

Every rounding flips labels where two classes are nearly equal, as all over the map of an untrained network. So all
labels are counted, and what is too few of them is said; but only labels that are clearly wrong refuse a file.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from unetres_edge.errors import ConversionError

WARNED, REFUSED = 0.99, 0.95
DISAGREES = "disagrees"  # kind of the error
_CLEAR, _WIDEST = 0.1, 0.99  # of a margin that this share of labels does not exceed
_ENOUGH = 100  # labels; of fewer, such as one an image, a single one is too large a share: scores are compared
_FAR = 0.5  # of the scores' own spread; int8 of a sound network is within a tenth
_CALLER = 4  # frames above a warning here: this, who compares, the check of its arguments, its caller


@dataclass(frozen=True)
class Agreement:
    """How many labels of one form of a network are those of another.

    Args:
        share: share of all labels, 0 to 1.
        clear: of the labels of which the network is sure, or of those at which a class is clearly wrong, whichever is
            less; 1 where there are none. Clear is a difference of scores of a tenth of its widest margins.
        classes: number of classes that the network gives on the images.
        count: at how many labels a class is clearly wrong.
        distance: root mean square of what the scores differ by, in parts of their spread; None of labels alone.
    """

    share: float
    clear: float
    classes: int
    count: int
    distance: float | None = None

    @property
    def few(self) -> bool:
        """Whether too few labels are clear to judge by."""
        return self.count < _ENOUGH

    @property
    def far(self) -> bool:
        """Whether the scores are known to be far apart."""
        return self.distance is not None and not self.distance <= _FAR

    def __str__(self) -> str:
        all_of_them = f"{100 * self.share:.2f} % of the labels are those of Keras"
        apart = "" if self.distance is None else f", its scores {100 * self.distance:.0f} % of their spread apart"
        return f"{all_of_them}, {100 * self.clear:.2f} % of the clear ones{apart}"


class LabelComparison:
    """Collects images of which a network and another form of it give labels.

    Args:
        activation: function that makes probabilities of the scores; a softmax does not see what is added to all of
            them.
    """

    def __init__(self, activation: str) -> None:
        self._shift = activation == "softmax"
        self._right: list[np.ndarray] = []
        self._margins: list[np.ndarray] = []  # between the first class and the second
        self._widths: list[np.ndarray] = []  # between the first class and the last
        self._losses: list[np.ndarray] = []  # between the class that is expected and the one that is given
        self._classes: set[int] = set()
        self._moments = np.zeros(4)  # of the scores: how many, sum, sum of squares; squares of differences
        self._largest, self._scored = 0.0, True

    def add(self, expected: np.ndarray, scores: np.ndarray, found: np.ndarray, given: np.ndarray | None) -> None:
        """Count an image.

        Args:
            expected, found: labels (...) of the network and of its other form.
            scores: the network's (..., classes) float32.
            given: scores of the other form, likewise; None where it gives labels alone.
        """
        ordered = np.partition(scores, -2, axis=-1)
        self._margins.append(ordered[..., -1] - ordered[..., -2])
        self._widths.append(np.ptp(scores, axis=-1))
        chosen = (np.take_along_axis(scores, np.asarray(ids)[..., None], -1)[..., 0] for ids in (expected, found))
        self._losses.append(np.abs(np.subtract(*chosen)))
        self._right.append(np.equal(expected, found))
        self._classes |= set(np.unique(expected).tolist())
        if given is None:
            self._scored = False
            return
        if self._shift:
            scores, given = (each - each.mean(-1, keepdims=True) for each in (scores, given))
        apart = np.square(given - scores, dtype=np.float64).sum()
        self._moments += [scores.size, scores.sum(dtype=np.float64), np.square(scores, dtype=np.float64).sum(), apart]
        self._largest = max(self._largest, float(np.abs(scores).max()))

    def agreement(self) -> Agreement:
        """Return the agreement over all images so far."""
        right, margins, widths, losses = map(np.stack, (self._right, self._margins, self._widths, self._losses))
        least = _CLEAR * float(np.quantile(margins, _WIDEST))
        wrong, sure, able = losses > least, margins > least, widths > least
        clear = min(1 - float(wrong[where].mean()) if where.any() else 1.0 for where in _judging(sure, able))
        distance = self._distance() if self._scored else None
        return Agreement(float(right.mean()), clear, len(self._classes), int(able.sum()), distance)

    def _distance(self) -> float:
        count, total, squares, apart = self._moments
        spread = np.sqrt(max(squares / count - (total / count) ** 2, 0.0))
        return float(np.sqrt(apart / count) / max(spread, 1e-4 * self._largest, 1e-9))


def _judging(sure: np.ndarray, able: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the masks of the labels that are judged by: those the network is sure of only where they are enough."""
    return (sure, able) if sure.sum() >= _ENOUGH or able.sum() < _ENOUGH else (able,)


def check_agreement(agreement: Agreement, *, allowed: bool, fix: str, form: str = "the file") -> None:
    """Warn of a form of a network that answers otherwise, and refuse one that does so clearly.

    Args:
        allowed: warn only.
        fix: remedy.
        form: the name of the form.

    Raises:
        ConversionError: fewer than 95 % of the clear labels are those of the network; or, where these are fewer than
            100, as a classifier's are, its scores are far from those of the network.
    """
    far = agreement.few and agreement.far
    if (far or agreement.clear < REFUSED and not agreement.few) and not allowed:
        least = f"scores within {100 * _FAR:.0f} % of their spread"
        raise ConversionError(
            f"{form} answers otherwise than the Keras model",
            expected=least if far else f"at least {100 * REFUSED:.0f} % of its clear labels",
            found=str(agreement),
            fix=fix,
            kind=DISAGREES,
        )
    sentence = f"agreement: of {form}, {agreement}"
    if agreement.share < WARNED or far or agreement.clear < WARNED and not agreement.few:
        warnings.warn(sentence, stacklevel=_CALLER)
    elif agreement.classes < 2:
        warnings.warn(f"{sentence}, which tells little: it gives one class everywhere", stacklevel=_CALLER)
