"""Running the tiles of one image: how long the engine takes, how far it is, and whether to go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import CancelledError
from .engine import Engine, argmax_labels


class TimedEngine:
    """An engine that adds up its running time, reports progress, and stops when it is asked to.

    Args:
        engine: runs the network.
        total: number of tiles that it will run.
        progress: callback, called after each tile with (tiles done, all tiles).
        cancel: callback, asked before each tile; true ends the work with a CancelledError.

    Attributes:
        seconds: running time so far.
    """

    def __init__(
        self,
        engine: Engine,
        total: int = 1,
        progress: Callable[[int, int], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> None:
        self._engine, self._progress, self._cancel = engine, progress, cancel
        self._done, self._total = 0, total
        self.seconds = 0.0

    def run(self, tile: np.ndarray) -> np.ndarray:
        """Return the scores of a tile."""
        return self._time(self._engine.run, tile)

    def run_labels(self, tile: np.ndarray) -> np.ndarray:
        """Return the labels (h, w) uint8 of a tile."""
        return argmax_labels(self._time(self._engine.run_labels, tile))

    def run_sampled(self, tile: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the labels (h, w) uint8 of a tile, and the scores of every `step`-th pixel of each side."""
        labels, scores = self._time(lambda each: self._engine.run_sampled(each, step), tile)
        return argmax_labels(labels), scores

    @property
    def name(self) -> str:
        """Name of what ran the network so far."""
        return self._engine.name

    @property
    def agreement(self) -> float | None:
        """Share of labels that equal LiteRT's, where that was compared."""
        return self._engine.agreement

    @property
    def reason(self) -> str:
        """Why "auto" took what ran the network, in words."""
        return self._engine.reason

    def timing(self, start: float, ready: float) -> dict[str, float]:
        """Return milliseconds by stage of an image that ends now.

        Args:
            start: `time.perf_counter()` before the image was prepared.
            ready: the same after that.
        """
        end = time.perf_counter()
        return {
            "prepare": 1e3 * (ready - start),
            "infer": 1e3 * self.seconds,
            "post": 1e3 * (end - ready - self.seconds),
            "total": 1e3 * (end - start),
        }

    def _time(self, run: Callable[[np.ndarray], Any], tile: np.ndarray) -> Any:
        if self._cancel is not None and self._cancel():
            raise CancelledError("segmenting was cancelled", found=f"{self._done} of {self._total} tiles done")
        start = time.perf_counter()
        values = run(tile)
        self.seconds += time.perf_counter() - start
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
        return values
