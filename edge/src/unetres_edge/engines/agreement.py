"""Whether another engine computes LiteRT's labels: the comparison, and an engine that makes it on its first tile.

Another engine is taken only while at least 99.5 % of its labels are LiteRT's, and the rest lie within two output steps
of a tie in LiteRT's scores.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from ..model.selftest import LEAST_EQUAL
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

    @property
    def passes(self) -> bool:
        return self.equal >= LEAST_EQUAL and (self.steps is None or self.steps <= MOST_STEPS + 1e-3)


def compare(reference: np.ndarray, values: np.ndarray, step: float | None) -> Agreement:
    """Compare what two engines gave for one tile.

    Args:
        reference: LiteRT's scores (..., classes) float32, or labels uint8.
        values: the other's.
        step: how far apart neighbouring scores of a quantized output are; None for float scores.
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


class CheckedEngine(Engine):
    """An engine beside LiteRT, until the first tile has shown that it computes the same labels; else LiteRT goes on.

    Args:
        litert: the reference.
        other: the faster one.
        equal: share of labels that were equal on the self-test.
    """

    def __init__(self, litert: LiteRTEngine, other: Engine, equal: float) -> None:
        self._lock = threading.Lock()
        self._litert: LiteRTEngine | None = litert
        self._engine: Engine = other
        self.name, self.agreement = other.name, equal

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
            if compared.passes:
                self.agreement = min(self.agreement, compared.equal)
                litert.close()
            else:
                self._engine, self.name, self.agreement = litert, litert.name, None
                other.close()
            self._litert = None

    def close(self) -> None:
        """Free both."""
        litert, self._litert = self._litert, None
        self._engine.close()
        if litert is not None:
            litert.close()
