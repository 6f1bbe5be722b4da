"""Text files as people have them: UTF-8, or UTF-16 as Windows writes it; tables by commas, semicolons or tabs."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path


def encoding_of(file: Path) -> str:
    """Return the encoding of a file of text by its first bytes: UTF-16 where they are its mark, else UTF-8.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        return decoding_of(stream.read(2))


def decoding_of(data: bytes) -> str:
    """Return what `encoding_of` does, by the first bytes."""
    return "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def read_text(file: Path) -> str:
    """Return the text of a file.

    Raises:
        OSError, UnicodeDecodeError: it cannot be read, or is no text.
    """
    return file.read_text(encoding=encoding_of(file))


def rows_of(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield the rows of a table, whose first line tells what divides them: commas, or else semicolons or tabs.

    Raises:
        csv.Error: it is no table.
    """
    rest = iter(lines)
    first = next(rest, "")
    divides = next((sign for sign in ",;\t" if sign in first), ",")
    yield from csv.reader(chain([first], rest), delimiter=divides)
