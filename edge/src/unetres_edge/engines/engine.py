"""The engine contract: what anything that runs a network on one prepared tile has to give.

LiteRT on the device, OpenVINO, and a Keras model during training all keep it, so every score is made by the same pre-
and post-processing. `table` opens the engines that have a name; `Segmenter` and `Classifier` take one of your own.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

_BYTES_AT_A_TIME = 1 << 20  # of scores, whose argmax numpy copies


@runtime_checkable
class Engine(Protocol):
    """Runs a network on one prepared tile.

    Subclass it and write `run`; the rest has a default. One engine may be called by several threads at a time.

    Attributes:
        name: name of what ran the network, as `Result.engine` says it; "" for an engine that says nothing.
        agreement: share of labels, 0 to 1, that equal LiteRT's, where that was compared; else None.
        reason: why "auto" took it, in words; "" where it was asked for by name.

    Example:
        >>> class Threshold(Engine):
        ...     name = "threshold"
        ...
        ...     def run(self, tile):
        ...         bright = (tile[..., 0] > 127).astype(np.float32)
        ...         return np.stack([1 - bright, bright], axis=-1)
    """

    name: str = ""
    agreement: float | None = None
    reason: str = ""

    def run(self, tile: np.ndarray) -> np.ndarray:
        """Return what the network gives of a tile.

        Args:
            tile: (H, W, C) uint8 of the network's size, prepared.

        Returns:
            (H, W, classes) float32 scores; of a network with an argmax head, (H, W) uint8 labels; of a classifier,
            (classes,) float32 scores.
        """
        ...

    def run_labels(self, tile: np.ndarray) -> np.ndarray:
        """Return the labels (H, W) uint8 of a tile; of equal scores the lower id.

        An engine that can tell them faster than by the argmax of `run` overrides this.
        """
        return argmax_labels(self.run(tile))

    def run_sampled(self, tile: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the labels (H, W) uint8 of a tile, and the scores (h, w, classes) of some of its pixels.

        They are every `step`-th of each side, from the middle of the first `step` on. An engine that can tell them
        faster than from all of `run` overrides this.
        """
        scores = self.run(tile)
        return argmax_labels(scores), scores[step // 2 :: step, step // 2 :: step]

    def close(self) -> None:
        """Free what was loaded, if anything.

        Of an engine in `table`, a later call of `run` or `run_labels` raises ModelError; a `Pool` does that by itself.
        """
        return


def argmax_labels(values: np.ndarray) -> np.ndarray:
    """Return the labels (h, w) uint8 of (h, w, classes) scores, a few rows at a time; labels as they are."""
    if values.ndim == 2:
        return values
    labels = np.empty(values.shape[:2], np.uint8)
    step = max(1, _BYTES_AT_A_TIME // (8 * values.shape[1]))
    for row in range(0, len(values), step):
        labels[row : row + step] = values[row : row + step].argmax(-1)
    return labels
