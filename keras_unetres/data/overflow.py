"""A temporary file for prepared samples that do not fit in memory, of which any window is read without the rest.

The file has no name, so that nothing is left of it however a process ends. It takes half of what is free on its disk
at most; samples beyond that are not in it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

_SHARE = 0.5  # of the free bytes of a disk
_LARGE = 1 << 24  # px; larger samples are decoded one at a time
_AT_ONCE = 1 << 24  # bytes written at a time


class Overflow:
    """Planes of samples in a file; each is written when it was first made.

    Args:
        shapes: sample -> (height, width) in px, of those that shall be kept here.
        forms: (dtype, values of a pixel) of each plane that a sample has.
        folder: folder that the file is made in; None for the system's folder of temporary files.
    """

    def __init__(
        self, shapes: Mapping[int, tuple[int, int]], forms: Sequence[tuple[np.dtype, int]], folder: Path | None = None
    ) -> None:
        self._shapes, self._forms = shapes, forms
        self._places: dict[int, int] = {}
        self._written: set[int] = set()
        self._one = threading.Lock()
        target = folder or Path(tempfile.gettempdir())
        room = int(_SHARE * shutil.disk_usage(target).free) if shapes else 0
        at = 0
        for index, (height, width) in shapes.items():
            needed = height * width * sum(dtype.itemsize * depth for dtype, depth in forms)
            if at + needed <= room:
                self._places[index], at = at, at + needed
        self._file = tempfile.TemporaryFile(dir=target, prefix="unetres-") if self._places else None  # noqa: SIM115
        if self._file is not None:
            weakref.finalize(self, self._file.close)

    @contextlib.contextmanager
    def alone(self, index: int) -> Iterator[None]:
        """Hold back other large samples while one is decoded, which takes several times its size in memory."""
        height, width = self._shapes.get(index, (0, 0))
        with self._one if height * width > _LARGE else contextlib.nullcontext():
            yield

    def is_large(self, index: int) -> bool:
        """Whether a sample that has room here is decoded alone."""
        height, width = self._shapes.get(index, (0, 0))
        return index in self._places and height * width > _LARGE

    def write(self, index: int, planes: Sequence[np.ndarray]) -> None:
        """Keep the planes (H, W, n) of a sample if there is room; a disk that is full after all keeps nothing."""
        at = self._places.get(index)
        if at is None or index in self._written or self._file is None:
            return
        try:
            for plane in planes:
                data = np.ascontiguousarray(plane).data.cast("B")
                for start in range(0, len(data), _AT_ONCE):
                    at += _write_all(self._file.fileno(), data[start : start + _AT_ONCE], at)
        except OSError:
            return
        self._written.add(index)

    def read(
        self, index: int, begin: tuple[int, int] = (0, 0), size: tuple[int, int] | None = None
    ) -> list[np.ndarray] | None:
        """Return a window of each plane of a sample, (h, w, n), or None of one that is not here.

        Args:
            begin: first row and column.
            size: rows and columns; None for all.
        """
        if index not in self._written or self._file is None:
            return None
        (height, width), (y, x) = self._shapes[index], begin
        rows, columns = size or (height, width)
        at, planes = self._places[index], []
        for dtype, depth in self._forms:
            pixel = dtype.itemsize * depth
            window = np.empty((rows, columns, depth), dtype)
            data = window.data.cast("B")
            whole = columns == width
            for row in range(1 if whole else rows):
                count = (rows if whole else 1) * columns * pixel
                _read_all(
                    self._file.fileno(), data[row * count : (row + 1) * count], at + ((y + row) * width + x) * pixel
                )
            planes.append(window)
            at += height * width * pixel
        return planes


def _write_all(file: int, data: memoryview, at: int) -> int:
    done = 0
    while done < len(data):
        done += os.pwrite(file, data[done:], at + done)
    return done


def _read_all(file: int, data: memoryview, at: int) -> None:
    done = 0
    while done < len(data):
        got = os.preadv(file, [data[done:]], at + done)
        if not got:
            raise OSError("a temporary file of samples is shorter than it was")
        done += got
