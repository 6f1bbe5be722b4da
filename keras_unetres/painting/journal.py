"""The journal of a project: one line of JSON for each action, on the disk before the action is answered.

A line ends with the CRC-32 of what is before it. A kill in the middle of a write leaves a last line without its end,
which is cut when the journal is opened; it was never answered. A line before it that is damaged is named, and nothing
is changed. Where the disk is full, the file is cut back to its last whole line, and the action is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unetres_edge.errors import DataError, FileSystemError
from unetres_edge.files import open_in_place, parse_state, write_bytes

FILE = "journal.jsonl"
_MARK = ',"crc":"'


def encode(action: Mapping[str, Any]) -> bytes:
    """Return the line of an action."""
    text = json.dumps(action, separators=(",", ":"), allow_nan=False)[:-1]
    return f'{text}{_MARK}{zlib.crc32(text.encode()):08x}"}}\n'.encode()


def decode(line: bytes) -> dict[str, Any]:
    """Return the action of a line, without its end.

    Raises:
        ValueError: the line is damaged.
    """
    text, mark, crc = line.decode().rpartition(_MARK)
    if not mark or crc != f'{zlib.crc32(text.encode()):08x}"}}':
        raise ValueError("its checksum is another")
    try:
        action = parse_state(text + "}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from error
    if not isinstance(action, dict):
        raise ValueError("not an action")
    return action


class Journal:
    """A journal that is open for writing; at most one in a project (its folder is locked by the caller).

    Args:
        path: the file; it is made where there is none.

    Raises:
        DataError: a line before the last is damaged.
        FileSystemError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._must_cut = False
        try:
            if not os.path.lexists(path):
                write_bytes(path, b"")
            self._handle = open_in_place(path, os.O_RDWR)
        except OSError as error:
            raise FileSystemError(f"cannot open the journal: {error.strerror or error}", file=path) from error
        try:
            self.actions, self._end, self.was_torn = _read(path)
            if self.was_torn:
                self._cut()
        except BaseException:
            os.close(self._handle)
            raise

    def append(self, action: Mapping[str, Any]) -> None:
        """Write an action and flush it to the disk.

        Raises:
            FileSystemError: it could not be written, such as to a full disk; the journal is as it was.
        """
        line = encode(action)
        with self._lock:
            try:
                if self._must_cut:
                    self._cut()
                self._must_cut = True
                os.lseek(self._handle, self._end, os.SEEK_SET)
                left = memoryview(line)
                while left:
                    left = left[os.write(self._handle, left) :]
                os.fsync(self._handle)
            except OSError as error:
                with contextlib.suppress(OSError):
                    self._cut()
                raise FileSystemError(
                    f"the action is not on the disk, and was not done: {error.strerror or error}",
                    file=self.path,
                    fix="make room on the disk, and do it again; all that was done before is there",
                    kind="not-written",
                ) from error
            self._must_cut = False
            self._end += len(line)

    def _cut(self) -> None:
        os.ftruncate(self._handle, self._end)
        os.fsync(self._handle)
        self._must_cut = False

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            os.close(self._handle)


def _read(path: Path) -> tuple[list[dict[str, Any]], int, bool]:
    """Return the actions, where the last whole line ends, and whether there is a torn one behind it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileSystemError(f"cannot read the journal: {error.strerror or error}", file=path) from error
    actions, end = [], 0
    for number, (start, stop) in enumerate(_lines(data), 1):
        try:
            actions.append(decode(data[start:stop]))
        except ValueError as error:
            is_last = stop + 1 >= len(data)
            if is_last:  # blocks of a file may reach the disk in any order: its end, and zeros before it
                return actions, end, True
            raise DataError(
                f"line {number} of the journal is damaged: {error}",
                file=path,
                fix=f"put back a copy of the file, or remove the line: the strokes of the other lines stay; "
                f"`sed -i {number}d {path}` does that",
                kind="journal",
            ) from error
        end = stop + 1
    return actions, end, end < len(data)


def _lines(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each line that is ended begins and ends."""
    start = 0
    while (stop := data.find(b"\n", start)) >= 0:
        yield start, stop
        start = stop + 1
