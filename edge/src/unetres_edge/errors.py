"""Errors that a user can cause, each with a stable code, the file, what was expected, what was found, and the fix.

Both distributions raise these and nothing else for mistakes in arguments, data, model files and the system.
The command line prints `str(error)` on one line and exits with `exit_code`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_SHOWN = 800  # characters of what was expected or found


@dataclass(frozen=True)
class Fix:
    """What to do about a mistake: for a person as text, for a program as a change of the data set's declaration.

    Args:
        text: a line to paste, or a sentence that says what to do.
        patch: keys of `dataset.yaml` with the values they should have, or None where no declaration helps.
        place: home of the line ("in mydata/dataset.yaml, or pass --masks instances"), or "".
    """

    text: str
    patch: Mapping[str, Any] | None = None
    place: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.place})" if self.place else self.text


class UnetresError(Exception):
    """A mistake that a user can make or meet, with a stable kind and what to do about it.

    Args:
        message: the mistake, in one sentence without a full stop.
        file: the file or folder concerned.
        expected: values that would have been right.
        found: value that was there instead.
        fix: remedy of the mistake. The attribute `fix` is its text, `remedy` the whole of it.
        kind: a stable name, finer than the code of the class; the code where there is none.
    """

    code = "error"
    exit_code = 5

    def __init__(
        self,
        message: str,
        *,
        file: str | os.PathLike[str] | None = None,
        expected: object = None,
        found: object = None,
        fix: str | Fix | None = None,
        kind: str | None = None,
    ) -> None:
        self.message = message
        self.file = None if file is None else os.fspath(file)
        self.expected = expected
        self.found = found
        self.remedy = Fix(fix) if isinstance(fix, str) else fix
        self.kind = kind or self.code
        super().__init__(str(self))

    @property
    def fix(self) -> str | None:
        """What to do about it, as text."""
        return None if self.remedy is None else self.remedy.text

    def __str__(self) -> str:
        parts = [f"{self.code}: " + (f"{self.file}: " if self.file else "") + self.message]
        if self.expected is not None:
            parts.append(f"expected {shortened(self.expected)}")
        if self.found is not None:
            parts.append(f"found {shortened(self.found)}")
        if self.remedy is not None:
            parts.append(f"fix: {self.remedy}")
        return "; ".join(" ".join(part.split()) for part in parts)

    def __reduce__(self) -> tuple[object, ...]:
        fields = {"file": self.file, "expected": self.expected, "found": self.found}
        return _restore, (type(self), self.message, {**fields, "fix": self.remedy, "kind": self.kind})


def shortened(value: object, most: int = MOST_SHOWN) -> str:
    """Return a value as an error shows it: on one line, of at most `most` characters."""
    try:
        text = str(value)
    except (RecursionError, ValueError):  # of a number of thousands of digits
        text = f"a {type(value).__name__} too large to be shown"
    text = " ".join(text[: 2 * most].split()) + ("" if len(text) <= 2 * most else " ...")
    return text if len(text) <= most else text[: most - 4] + " ..."


def _restore(kind: type[UnetresError], message: str, fields: dict[str, Any]) -> UnetresError:
    return kind(message, **fields)


class UsageError(UnetresError):
    """An argument or option that cannot be used as given."""

    code = "usage"
    exit_code = 2


class DataError(UnetresError):
    """A data set that cannot be used as it is."""

    code = "data"
    exit_code = 3


class ImageError(DataError):
    """An image that cannot be read or has a form that is refused."""

    code = "image"


class MaskError(DataError):
    """A mask that cannot be read as class ids."""

    code = "mask"


class ModelError(UnetresError):
    """A model or model file that cannot be used."""

    code = "model"
    exit_code = 4


class ModelDamagedError(ModelError):
    """A model file whose bytes are not those that were sealed."""

    code = "model-damaged"


class CardMissingError(ModelError):
    """A `.tflite` file without a card, where nothing else says how to feed it."""

    code = "card-missing"


class EngineError(ModelError):
    """An engine that was asked for and is not installed, or cannot run the file."""

    code = "engine"


class ConversionError(ModelError):
    """A model that could not be converted to `.tflite`."""

    code = "conversion"


class FloatIslandError(ConversionError):
    """A quantized file in which an op would stay float."""

    code = "float-island"


class GateError(ModelError):
    """A model file that loses more on held-out images than is allowed."""

    code = "gate"


class ReceiptError(ModelError):
    """A file that is not the receipt of a model file, or one of another version."""

    code = "receipt"


class RunFolderError(ModelError):
    """A run folder that is incomplete, damaged, locked, or of another version."""

    code = "run-folder"


class WeightsError(ModelError):
    """Published weights that cannot be read, or do not fit the network."""

    code = "weights"


class TrainingError(ModelError):
    """Training that cannot go on, such as a loss that is not finite."""

    code = "training"


class ExistsError(UsageError):
    """An output that exists already and was not to be replaced."""

    code = "exists"


class FileSystemError(UnetresError):
    """A read or write that the operating system refused."""

    code = "system"
    exit_code = 5


class CancelledError(UnetresError):
    """Work that its caller asked to end before it was done."""

    code = "cancelled"


class Stopped(KeyboardInterrupt):
    """Work that was ended by a signal after everything was saved.

    Args:
        signal: its number.
    """

    def __init__(self, signal: int) -> None:
        self.signal = signal
        self.exit_code = 128 + signal
        super().__init__(f"stopped by signal {signal}")
