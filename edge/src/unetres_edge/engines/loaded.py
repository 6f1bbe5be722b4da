"""A model file in memory, ready to run: verified, its card read, and loaded on an engine.

What `Segmenter` and `Classifier` share: how a file is opened, and the end of its life.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, ClassVar, TypeVar

from ..errors import CardMissingError, ModelError, UnetresError, UsageError
from ..files import Contents, read_contents
from ..model.card import Card, read_card
from .engine import Engine
from .own import OwnEngine
from .table import open_engine

_Loaded = TypeVar("_Loaded", bound="LoadedModel")


class LoadedModel:
    """A model with its card and engine, which is closed at the end of a `with`.

    It can be pickled, as `multiprocessing` and Dask do: its file is opened once more where it is unpickled.

    Args:
        model: path or bytes of a `.tflite`, or the open file; None with an engine of your own.
        card: card of a file that has none of its own. A file with a card must match its digest regardless.
        num_threads: threads of one inference; None for every core this process may use.
        engine: name of what runs the network, one of `engines.table.NAMES`; None for "litert". Or an `Engine`, which
            stays open when this is closed; `model` is None then, and `card` is needed.
        fallback: whether to run LiteRT where the engine of this name cannot run here, instead of raising.

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
        model: Contents | None,
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
            data, file = read_contents(model, "model file")
            card, self._engine = load_model(data, file, card, num_threads, engine or "litert", fallback)
            self._arguments: dict[str, Any] = {"model": data, "num_threads": num_threads, "fallback": fallback}
        elif card is None:
            raise UsageError("an engine needs a card")
        else:
            assert engine is not None and not isinstance(engine, str)
            self._engine = OwnEngine(engine, card)
            self._arguments = {"model": None}
        if card.task != self.task:
            raise ModelError(f"the model is not a {self.role}", expected=f"task {self.task!r}", found=card.task)
        self.card = card
        self._arguments.update(card=card, engine=engine)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how another process opens the same.

        Raises:
            ModelError: it is closed.
        """
        assert self.engine is not None
        return _open_again, (type(self), self._arguments)

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


def _open_again(kind: type[LoadedModel], arguments: dict[str, Any]) -> LoadedModel:
    return kind(**arguments)


def load_model(
    data: bytes, file: str | None, card: Card | None, num_threads: int | None, engine: str, fallback: bool
) -> tuple[Card, Engine]:
    """Verify a model file and load it on an engine.

    Args:
        data: the file's bytes.
        file: name of the file in errors.

    Returns:
        The file's card, or the given one where it has none, and the engine.
    """
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
