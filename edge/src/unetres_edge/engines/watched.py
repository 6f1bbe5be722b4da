"""An engine at work on one image: what ran, how long it took, how far it is, and whether to go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CancelledError

if TYPE_CHECKING:
    from ..segment.segmenter import Engine

_PIECE = 1 << 20  # bytes or so that are labelled at a time


class Watched:
    """An engine that adds up its time, tells how far it is, and ends when it is asked to.

    Args:
        engine: runs the network.
        total: tiles that it will run.
        progress: called after each tile with (tiles done, all tiles).
        cancel: asked before each tile; true ends it with a CancelledError.

    Attributes:
        seconds: that the engine took so far.
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

    @property
    def name(self) -> str:
        """Name of what runs the network; "" for an engine of the caller's own."""
        return str(getattr(self._engine, "name", ""))

    @property
    def agreement(self) -> float | None:
        """Share of labels that equal LiteRT's, where that was compared."""
        found: float | None = getattr(self._engine, "agreement", None)
        return found

    def run(self, tile: np.ndarray) -> np.ndarray:
        """Return what the engine gives of a tile."""
        return self._watch(self._engine.run, tile)

    def labels(self, tile: np.ndarray) -> np.ndarray:
        """Return the labels (h, w) uint8 of a tile, from the engine itself where it gives them."""
        given: Callable[[np.ndarray], np.ndarray] | None = getattr(self._engine, "run_labels", None)
        return labels_of(self._watch(given or self._engine.run, tile))

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

    def _watch(self, run: Callable[[np.ndarray], np.ndarray], tile: np.ndarray) -> np.ndarray:
        if self._cancel is not None and self._cancel():
            raise CancelledError("segmenting was cancelled", found=f"{self._done} of {self._total} tiles done")
        start = time.perf_counter()
        values = run(tile)
        self.seconds += time.perf_counter() - start
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
        return values


def labels_of(values: np.ndarray) -> np.ndarray:
    """Return the labels (h, w) uint8 of (h, w, classes) scores, a few rows at a time; labels as they are."""
    if values.ndim == 2:
        return values
    labels = np.empty(values.shape[:2], np.uint8)
    step = max(1, _PIECE // (8 * values.shape[1]))
    for row in range(0, len(values), step):
        labels[row : row + step] = values[row : row + step].argmax(-1)
    return labels
