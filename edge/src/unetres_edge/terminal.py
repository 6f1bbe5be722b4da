"""What commands show: names of others' files and classes come out as text, and output that is lost ends no work.

A name may hold line breaks, escape codes, and characters that the terminal's encoding lacks; a reader such as `head`
may go away, a log's disk may be full, and a service may have no standard error at all. While `guarded` holds, both
standard streams are writers that take all of this.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

_CURSOR_UP = re.compile("(\x1b\\[A)+")  # what progress bars below each other write, and nothing else beside it
_COMMANDS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")  # to a terminal, in a name
_READER_LEFT = (errno.EPIPE, errno.EINVAL, errno.ECONNRESET)  # EINVAL: on Windows


def shown(text: str, encoding: str | None = None, *, keep: str = "") -> str:
    """Return text as a terminal may show it: line breaks, other controls, and what its encoding lacks are escaped.

    Args:
        text: a line, with names in it.
        encoding: encoding of the stream; None for that of standard output.
        keep: controls that stay.
    """
    encoding = encoding or getattr(sys.stdout, "encoding", None) or "utf-8"
    plain = "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )
    return plain.encode(encoding, "backslashreplace").decode(encoding)


def counted(number: int, noun: str, many: str | None = None) -> str:
    """Return a number with its noun: "1 fault", "2 faults", and "2 classes" where `many` is given."""
    return f"{number} {noun if number == 1 else many or f'{noun}s'}"


def in_words(value: Any) -> str:
    """Return a JSON value as a line for people: numbers to four digits, without quotes and braces."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        nested = {
            key: f"({in_words(each)})" if isinstance(each, Mapping) else in_words(each) for key, each in value.items()
        }
        return ", ".join(f"{key} {each}" for key, each in nested.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(in_words, value))
    return "none" if value is None else str(value)


def table_cell(name: object) -> str:
    """Return a name as a cell of a table.

    No spreadsheet takes it for a formula, which begins with one of =+-@, and no terminal that shows the table obeys it:
    controls, line breaks and marks that turn the direction of text are escaped. What else a name has stays.
    """
    text = _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), str(name))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


class Writer:
    """A stream that escapes, and that goes on where the stream below it cannot.

    Args:
        stream: stream that is written to; None where there is none.
        lines: whether each piece that is written is one line, so that a line break within it is a name's.
    """

    def __init__(self, stream: TextIO | None, *, lines: bool) -> None:
        self._stream, self._lines = stream, lines
        self.lost: OSError | None = None

    @property
    def encoding(self) -> str:
        """That of the stream below."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write a piece of text; return its length, whatever became of it."""
        if self._stream is not None and self.lost is None:
            if self._lines:
                end = "\n" if text.endswith("\n") else ""
                plain = shown(text.removesuffix("\n"), self.encoding) + end
            else:
                plain = text if _CURSOR_UP.fullmatch(text) else shown(text, self.encoding, keep="\n\r\t")
            self._try("write", plain)
        return len(text)

    def flush(self) -> None:
        """Flush, if there is what to flush to."""
        if self._stream is not None and self.lost is None:
            self._try("flush")

    def isatty(self) -> bool:
        """Whether a person is looking on."""
        return self._stream is not None and self.lost is None and self._stream.isatty()

    def fileno(self) -> int:
        """Return the number of the file below; OSError where there is none."""
        if self._stream is None:
            raise OSError(errno.EBADF, "no stream")
        return self._stream.fileno()

    def writable(self) -> bool:
        """Whether it can be written to, as it always can."""
        return True

    def writelines(self, lines: Any) -> None:
        """Write each of several pieces."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, what: str, *arguments: str) -> None:
        try:
            getattr(self._stream, what)(*arguments)
        except (OSError, ValueError) as error:  # ValueError: closed
            self.lost = error if isinstance(error, OSError) else OSError(errno.EPIPE, str(error))
            _send_nowhere(self._stream)


def _send_nowhere(stream: TextIO | None) -> None:
    """Let what is left in a stream's buffer go, so that the interpreter's own flush at the end does not fail again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        number = stream.fileno()  # type: ignore[union-attr]
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def open_closed() -> None:
    """Open the standard streams that were closed at the start, to nothing.

    The next file that is opened would get the number of one, and what a library logs would be written into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)


@contextlib.contextmanager
def guarded(*, lines: bool = True) -> Iterator[tuple[Writer, Writer]]:
    """Put writers in the place of both standard streams; yield them.

    Args:
        lines: whether what is printed to standard output is printed line by line. Standard error always takes text
            of several lines, as warnings are.
    """
    before = sys.stdout, sys.stderr
    out, err = Writer(sys.stdout, lines=lines), Writer(sys.stderr, lines=False)
    sys.stdout, sys.stderr = out, err
    try:
        yield out, err
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


def is_lost_work(error: OSError | None) -> bool:
    """Whether output was lost in another way than by a reader that had seen enough."""
    return error is not None and error.errno not in _READER_LEFT
