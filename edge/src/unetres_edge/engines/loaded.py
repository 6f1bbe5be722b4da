"""A model file in memory, ready to run: verified, its card read, and loaded on an engine.

What `Segmenter` and `Classifier` share: how a file is opened, and the end of its life.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import ClassVar, TypeVar

from ..errors import CardMissingError, ModelError, UnetresError, UsageError
from ..files import read_bytes
from ..model.card import Card, read_card
from .engine import Engine, complete
from .table import open_engine

_Loaded = TypeVar("_Loaded", bound="LoadedModel")


class LoadedModel:
    """A model with its card and engine, which is closed at the end of a `with`.

    Args:
        model: path or bytes of a `.tflite`; None with an engine of your own.
        card: how to feed a file that has no card of its own. A file with a card must match its digest regardless.
        num_threads: threads of one inference; None for every core this process may use.
        engine: name of what runs the network, one of `engines.table.NAMES`; None for "litert". Or an `Engine`, which
            stays open when this is closed; `model` is None then, and `card` is needed.
        fallback: run LiteRT where the engine of this name cannot run here, instead of raising.

    Raises:
        UsageError: neither or both of a model and an engine, an engine without a card, or too many threads.
        FileSystemError: the file cannot be read.
        ModelDamagedError: the file is not the one that was sealed.
        CardMissingError: the file has no card and none was given.
        EngineError: the engine is not installed, or cannot run the file.
        ModelError: the file cannot be run, or is for another task.
    """

    task: ClassVar[str]
    role: ClassVar[str]  # how errors call the object

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | None,
        *,
        card: Card | None = None,
        num_threads: int | None = None,
        engine: Engine | str | None = None,
        fallback: bool = False,
    ) -> None:
        named = engine is None or isinstance(engine, str)
        if (model is None) == named:
            raise UsageError("give a model or an engine", expected="exactly one of the two")
        self._closes = named
        self._engine: Engine | None
        if model is not None:
            assert engine is None or isinstance(engine, str)  # for the type checker
            card, self._engine = load_model(model, card, num_threads, engine or "litert", fallback)
        elif card is None:
            raise UsageError("an engine needs a card")
        else:
            assert engine is not None and not isinstance(engine, str)
            self._engine = complete(engine)
        if card.task != self.task:
            raise ModelError(f"the model is not a {self.role}", expected=f"task {self.task!r}", found=card.task)
        self.card = card

    @property
    def engine(self) -> Engine:
        """What runs the network on one prepared tile; raises ModelError when the model is closed."""
        if self._engine is None:
            raise ModelError(f"the {self.role} is closed")
        return self._engine

    def close(self) -> None:
        """Free the model; a call under way ends right or raises ModelError, and a later one raises it."""
        engine, self._engine = self._engine, None
        if self._closes and engine is not None:
            engine.close()

    def __enter__(self: _Loaded) -> _Loaded:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load_model(
    model: str | os.PathLike[str] | bytes,
    card: Card | None,
    num_threads: int | None,
    engine: str = "litert",
    fallback: bool = False,
) -> tuple[Card, Engine]:
    """Verify a model file and load it on an engine; the arguments are those of `LoadedModel`.

    Returns:
        The file's card, or the given one where it has none, and the engine.
    """
    file = None if isinstance(model, bytes) else os.fspath(model)
    data = model if isinstance(model, bytes) else read_bytes(model, "model file")
    try:
        card = read_card(data, file=file)
    except CardMissingError:
        if card is None:
            raise
    try:
        return card, open_engine(engine, data, card, num_threads=num_threads, fallback=fallback)
    except UnetresError as error:
        error.file = error.file or file
        raise
