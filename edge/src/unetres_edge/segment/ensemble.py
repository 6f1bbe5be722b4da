"""Test-time augmentation and ensembles: one answer of a network on turns of a tile, or of several networks on one tile.

The answers are joined as the logarithm of their mean softmax probability, so that scores go on being logits. What has
no scores, an argmax head, cannot be joined.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..engines.engine import Engine
from ..errors import UsageError
from ..model.card import Card
from ..moved import renamed_argument
from ..results.softmax import probabilities
from .segmenter import Segmenter
from .symmetries import SYMMETRIES

_LEAST = float(np.finfo(np.float32).tiny)  # a probability below this counts as this, about exp(-87)
_EXPORT_LOGITS = "export the model with --head logits"
_MAY_DIFFER = ("value_range", "mean", "std", "color_order")  # each engine normalises by itself


def turn(values: np.ndarray, mirrored: bool, quarters: int) -> np.ndarray:
    """Return (h, w, ...) values mirrored left to right, if so, and then turned by quarters counter-clockwise."""
    return np.rot90(values[:, ::-1] if mirrored else values, quarters)


def turn_back(values: np.ndarray, mirrored: bool, quarters: int) -> np.ndarray:
    """Undo `turn`."""
    values = np.rot90(values, -quarters)
    return values[:, ::-1] if mirrored else values


def join_scores(answers: Iterable[np.ndarray], activation: str = "softmax") -> np.ndarray:
    """Return the scores of the mean probabilities of several (..., classes) scores, float32.

    Args:
        activation: what makes probabilities of the scores. Of "softmax", the log of the mean; of "sigmoid", its
            logit; of "none", the mean itself.

    Raises:
        UsageError: labels in the place of scores.
    """
    total, count = np.zeros(1, np.float32), 0
    for scores in answers:
        if not np.issubdtype(scores.dtype, np.floating):
            raise UsageError("labels cannot be joined", expected="scores", found=scores.dtype, fix=_EXPORT_LOGITS)
        total, count = total + probabilities(scores, activation), count + 1
    mean = total / np.float32(count)
    if activation == "none":
        return mean
    joined = np.log(np.maximum(mean, _LEAST))
    return joined - np.log(np.maximum(1 - mean, _LEAST)) if activation == "sigmoid" else joined


class TurnedEngine(Engine):
    """An engine that runs another on every turn of the tile.

    Args:
        engine: runs the network.
        tta: "none", "flips" (as it is, left-right, up-down and both) or "all" (the 8 symmetries of the square).
        size: (height, width) of the tile in px.
        activation: what makes probabilities of the scores.

    Raises:
        UsageError: unknown `tta`, or "all" for a tile that is not square.
    """

    def __init__(self, engine: Engine, tta: str, size: tuple[int, int], activation: str = "softmax") -> None:
        if tta not in SYMMETRIES:
            raise UsageError("the test-time augmentation is unknown", expected=" or ".join(SYMMETRIES), found=repr(tta))
        if tta == "all" and size[0] != size[1]:
            raise UsageError(
                "a tile that is not square cannot be turned by a quarter",
                found=f"{size[0]} x {size[1]} px",
                fix="use 'flips', or a model with a square input",
            )
        self._engine = engine
        self._turns = SYMMETRIES[tta]
        self._activation = activation

    def run(self, tile: np.ndarray) -> np.ndarray:
        """Return the joined scores (h, w, classes) float32 of a tile (h, w, channels) uint8."""
        answers = (turn_back(self._engine.run(np.ascontiguousarray(turn(tile, *each))), *each) for each in self._turns)
        return join_scores(answers, self._activation)


class JoinedEngine(Engine):
    """An engine that runs several on the same tile.

    Args:
        engines: one or more, that agree in what they take and give.
        activation: what makes probabilities of the scores.
    """

    def __init__(self, engines: Sequence[Engine], activation: str = "softmax") -> None:
        self._engines = tuple(engines)
        self._activation = activation

    def run(self, tile: np.ndarray) -> np.ndarray:
        """Return the joined scores (h, w, classes) float32 of a tile (h, w, channels) uint8."""
        return join_scores((engine.run(tile) for engine in self._engines), self._activation)


class _ReversedChannels(Engine):
    """An engine whose network wants the colours in the other order."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, tile: np.ndarray) -> np.ndarray:
        return self._engine.run(np.ascontiguousarray(tile[..., ::-1]))


@renamed_argument(turns="tta")
def join_segmenters(
    segmenters: Sequence[Segmenter], *, tta: str = "none", files: Sequence[str | os.PathLike[str]] = ()
) -> Segmenter:
    """Return one segmenter that asks all of them, on every turn of each tile.

    They may differ in how they normalise (range, mean, standard deviation, order of colours), for each engine does that
    by itself, and in nothing else of what decides the scores' meaning: classes, channels, size, fit and percentiles.
    Card and colours are those of the first, but for calibration, promises and what doubt is usual, which were found for
    one answer and not for a mean of several, and are left out; tiles overlap as much as those of any. To close the one
    that is returned closes all of them.

    Args:
        segmenters: one or more. A single one without test-time augmentation is returned as it is.
        tta: "none", "flips" or "all", as `TurnedEngine` takes them.
        files: how errors name them.

    Raises:
        UsageError: they cannot be joined; the error names the field that differs. Or `tta` is unknown.
        ModelError: one of them is closed.
    """
    if not segmenters:
        raise UsageError("no model to join", expected="one or more")
    first = segmenters[0]
    if len(segmenters) == 1 and tta == "none":
        return first
    pre = first.card.preprocessing
    engines: list[Engine] = []
    for number, each in enumerate(segmenters):
        _check_joins(first.card, each.card, files[number] if files else None)
        other_order = pre.channels == 3 and each.card.preprocessing.color_order != pre.color_order
        engines.append(_ReversedChannels(each.engine) if other_order else each.engine)
    engine: Engine = JoinedEngine(engines, first.card.activation) if len(engines) > 1 else engines[0]
    if tta != "none":
        engine = TurnedEngine(engine, tta, pre.size, first.card.activation)
    known = first.card.familiarity
    card = replace(
        first.card,
        halo=max(each.card.halo for each in segmenters),
        scores={},
        calibration=None,
        familiarity=None if known is None else replace(known, doubts=(), borders=(), quality=None),
        promises=(),
    )
    return _JoinedSegmenter(segmenters, tta, card, engine, max(each.overlap for each in segmenters))


class _JoinedSegmenter(Segmenter):
    """Several segmenters as one, which closes them when it is closed and takes them along when it is pickled."""

    def __init__(self, segmenters: Sequence[Segmenter], tta: str, card: Card, engine: Engine, overlap: int) -> None:
        super().__init__(None, card=card, engine=engine, overlap=overlap)
        self._segmenters, self._tta = tuple(segmenters), tta

    def __reduce__(self) -> tuple[Any, ...]:
        assert self.engine is not None  # raises where it is closed
        return _join_again, (self._segmenters, self._tta)

    def close(self) -> None:
        super().close()
        for each in self._segmenters:
            each.close()


def _join_again(segmenters: tuple[Segmenter, ...], tta: str) -> Segmenter:
    return join_segmenters(segmenters, tta=tta)


def _check_joins(first: Card, other: Card, file: str | os.PathLike[str] | None) -> None:
    if other.head == "argmax":
        raise UsageError(
            "an argmax head gives no scores, which flips and ensembles need", file=file, fix=_EXPORT_LOGITS
        )
    if other.class_names != first.class_names:
        raise UsageError(
            "models of different classes cannot be joined",
            file=file,
            expected=", ".join(first.class_names),
            found=", ".join(other.class_names),
            fix="join models that were trained on the same classes",
        )
    if other.activation != first.activation:
        raise UsageError(
            "models whose scores mean different probabilities cannot be joined",
            file=file,
            expected=first.activation,
            found=other.activation,
            fix="join models that end alike",
        )
    ours, theirs = first.preprocessing.to_dict(), other.preprocessing.to_dict()
    for name, expected in ours.items():
        if name not in _MAY_DIFFER and theirs[name] != expected:
            raise UsageError(
                f"models that differ in the preprocessing's {name} cannot be joined",
                file=file,
                expected=expected,
                found=theirs[name],
                fix="join models that see the images alike",
            )
