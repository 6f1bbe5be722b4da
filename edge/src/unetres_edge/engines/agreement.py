"""Whether another engine computes LiteRT's labels: the comparison, and an engine that makes it on its first tile.

Another engine is taken only while at least 99.5 % of its labels are LiteRT's, and the rest lie within two output steps
of a tie in LiteRT's scores. Where the file's card says that the engine costs nothing on held-out images, what counts is
that it computes here what it computed there.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from ..model.card import Card
from ..model.selftest import LEAST_EQUAL, make_images
from .engine import Engine
from .litert import LiteRTEngine

MOST_STEPS = 2.0


@dataclass(frozen=True)
class Agreement:
    """How the labels of an engine compare with LiteRT's.

    Args:
        equal: share of equal labels.
        steps: the largest distance between LiteRT's scores of two labels that differ, in steps of the output (of float
            scores, 1/255 of their range); None where there are no scores.
    """

    equal: float
    steps: float | None


@dataclass(frozen=True)
class Allowed:
    """How far the labels of another engine may be from LiteRT's.

    Args:
        equal: the least share of equal labels.
        steps: the largest distance from a tie of those that differ, in steps of the output; None for any.
    """

    equal: float = LEAST_EQUAL
    steps: float | None = MOST_STEPS

    @classmethod
    def like(cls, share: float) -> Allowed:
        """Return what is allowed of an engine of which that share of labels was equal where its score was measured.

        At most twice as many labels may differ, or 0.5 % where that is more.
        """
        return cls(1 - max(2 * (1 - share), 1 - LEAST_EQUAL), None)

    def holds(self, agreement: Agreement) -> bool:
        """Return whether a comparison is within what is allowed."""
        close = self.steps is None or agreement.steps is None or agreement.steps <= self.steps + 1e-3
        return agreement.equal >= self.equal - 1e-9 and close


def compare(reference: np.ndarray, values: np.ndarray, step: float | None) -> Agreement:
    """Compare what two engines gave for one tile.

    Args:
        reference: LiteRT's scores (..., classes) float32, or labels uint8.
        values: the other's.
        step: distance of neighbouring scores of a quantized output; None for float scores.
    """
    if reference.dtype == np.uint8:
        return Agreement(float((reference == values).mean()), None)
    labels, other = reference.argmax(-1), values.argmax(-1)
    differ = labels != other
    if not differ.any():
        return Agreement(1.0, 0.0)
    if step is None:
        step = float(reference.max() - reference.min()) / 255 or 1.0
    scores = reference[differ]
    pixels = np.arange(len(scores))
    apart = scores[pixels, np.atleast_1d(labels[differ])] - scores[pixels, np.atleast_1d(other[differ])]
    return Agreement(float(1 - differ.mean()), float(apart.max()) / step)


def compare_on_selftest(litert: LiteRTEngine, other: Engine, card: Card) -> list[Agreement]:
    """Compare what two engines give for each image of the self-test."""
    return [compare(litert.run(image), other.run(image), litert.codec.step) for image in make_images(card)]


class CheckedEngine(Engine):
    """An engine beside LiteRT, until the first tile has shown that it computes the same labels; else LiteRT goes on.

    Args:
        litert: the reference.
        other: the faster one.
        equal: share of labels that were equal on the self-test.
        allowed: most by which the labels of the first tile may differ.
        reason: why the other is taken, in words.
    """

    def __init__(
        self,
        litert: LiteRTEngine,
        other: Engine,
        equal: float,
        *,
        allowed: Allowed | None = None,
        reason: str = "",
    ) -> None:
        self._lock = threading.Lock()
        self._litert: LiteRTEngine | None = litert
        self._engine: Engine = other
        self._allowed = allowed or Allowed()
        self.name, self.agreement, self.reason = other.name, equal, reason

    def run(self, tile: np.ndarray) -> np.ndarray:
        """Return scores or labels, as `LiteRTEngine.run`."""
        self._check(tile)
        return self._engine.run(tile)

    def run_labels(self, tile: np.ndarray) -> np.ndarray:
        """Return labels, as `LiteRTEngine.run_labels`."""
        self._check(tile)
        return self._engine.run_labels(tile)

    def run_sampled(self, tile: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return labels and some scores, as `LiteRTEngine.run_sampled`."""
        self._check(tile)
        return self._engine.run_sampled(tile, step)

    def _check(self, tile: np.ndarray) -> None:
        if self._litert is None:
            return
        with self._lock:
            if self._litert is None or self.agreement is None:
                return
            litert, other = self._litert, self._engine
            compared = compare(litert.run(tile), other.run(tile), litert.codec.step)
            if self._allowed.holds(compared):
                self.agreement = min(self.agreement, compared.equal)
                litert.close()
            else:
                self.reason = f"{other.name} gave other labels for {1 - compared.equal:.2%} of the first tile"
                self._engine, self.name, self.agreement = litert, litert.name, None
                other.close()
            self._litert = None

    def close(self) -> None:
        """Close both engines."""
        litert, self._litert = self._litert, None
        self._engine.close()
        if litert is not None:
            litert.close()
