"""An engine of the caller's own: completed with the contract's defaults, and its answers held against the card.

A network that is wired wrongly answers with something; what is not an answer to the tile is refused by name.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ModelError
from ..model.card import Card
from .engine import Engine, argmax_labels


class OwnEngine(Engine):
    """Runs an engine that somebody else wrote, whatever part of the contract it has beside `run`.

    Args:
        engine: the engine.
        card: card of the file, against which its answers are held.
    """

    def __init__(self, engine: Any, card: Card) -> None:
        self._engine, self._card = engine, card

    @property
    def name(self) -> str:  # type: ignore[override]
        """What ran the network."""
        return str(getattr(self._engine, "name", ""))

    @property
    def agreement(self) -> float | None:  # type: ignore[override]
        """Share of labels that equal LiteRT's, where that was compared."""
        return getattr(self._engine, "agreement", None)

    @property
    def reason(self) -> str:  # type: ignore[override]
        """Why it was taken, in words; "" for an engine that does not say it."""
        return str(getattr(self._engine, "reason", ""))

    def run(self, tile: np.ndarray) -> np.ndarray:
        """Return scores or labels, as `Engine.run`; raise ModelError for what is neither."""
        return self._checked(self._engine.run(tile))

    def run_labels(self, tile: np.ndarray) -> np.ndarray:
        """Return labels, as `Engine.run_labels`; raise ModelError for what is none."""
        method = getattr(self._engine, "run_labels", None)
        return argmax_labels(self.run(tile)) if method is None else self._labels(method(tile))

    def run_sampled(self, tile: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return labels and some scores, as `Engine.run_sampled`; raise ModelError for what is none."""
        method = getattr(self._engine, "run_sampled", None)
        if method is None:
            return super().run_sampled(tile, step)
        labels, scores = method(tile, step)
        self._check_numbers(scores)
        return self._labels(labels), scores

    def close(self) -> None:
        """Free what was loaded."""
        getattr(self._engine, "close", lambda: None)()

    def _checked(self, values: Any) -> np.ndarray:
        card = self._card
        if card.head == "argmax":
            return self._labels(values)
        shape = (*card.output_size, len(card.class_names)) if card.per_pixel else (len(card.class_names),)
        self._check_shape(values, shape)
        self._check_numbers(values)
        return np.asarray(values)

    def _labels(self, values: Any) -> np.ndarray:
        """Return labels that are some; of scores in their place, the class of the largest."""
        if isinstance(values, np.ndarray) and values.ndim == 3:
            return argmax_labels(self._checked(values)) if self._card.head == "logits" else self._refuse(values)
        self._check_shape(values, self._card.output_size)
        if values.dtype.kind not in "iu":
            self._refuse(values)
        if values.size and not 0 <= values.min() <= values.max() < len(self._card.class_names):
            raise ModelError("the engine gave a class id that the card does not name", found=values.max())
        return np.asarray(values).astype(np.uint8, copy=False)

    def _check_shape(self, values: Any, shape: tuple[int, ...]) -> None:
        if not isinstance(values, np.ndarray) or values.shape != shape:
            self._refuse(values)

    def _check_numbers(self, values: Any) -> None:
        if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
            self._refuse(values)
        if not np.isfinite(values).all():
            raise ModelError("the engine gave scores that are not finite")

    def _refuse(self, values: Any) -> np.ndarray:
        card = self._card
        size = " x ".join(map(str, card.output_size))
        scores = f"float32 scores, {size} x {len(card.class_names)}" if card.per_pixel else "a float32 score a class"
        raise ModelError(
            "the engine gave no answer to the tile",
            expected=scores if card.head == "logits" else f"uint8 labels, {size}",
            found=f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__,
        )
