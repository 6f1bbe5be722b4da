"""The small pictures of a data set, which tell its near-duplicates: in memory, and of many in a temporary file."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence

import numpy as np

from unetres_edge.errors import FileSystemError

SIDE = 32  # px
_BYTES = SIDE * SIDE
_IN_MEMORY = 1 << 14  # pictures; of more, those beyond lie in a file


class Smalls:
    """Room for so many small pictures, uint8, of which a few at a time are asked for.

    They lie in one array, as a small one for each, among all that decoding takes and gives back, would leave memory in
    pieces too small to be used again. Those beyond lie in a file without a name, of which nothing is left at the end.
    """

    def __init__(self, count: int) -> None:
        beyond = max(0, count - _IN_MEMORY) * _BYTES
        has_room = shutil.disk_usage(tempfile.gettempdir()).free > 2 * beyond
        self._file = tempfile.TemporaryFile(prefix="unetres-") if beyond and has_room else None  # noqa: SIM115
        self._first = np.zeros((count if self._file is None else _IN_MEMORY, SIDE, SIDE), np.uint8)
        self._count = count
        if self._file is not None:
            self._file.truncate(beyond)
            weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return self._count

    def put(self, index: int, picture: np.ndarray) -> None:
        """Keep a picture (32, 32) uint8.

        Raises:
            FileSystemError: the disk is full.
        """
        if index < _IN_MEMORY or self._file is None:
            self._first[index] = picture
        else:
            try:
                os.pwrite(self._file.fileno(), picture.tobytes(), (index - _IN_MEMORY) * _BYTES)
            except OSError as error:
                raise FileSystemError(
                    f"cannot write a temporary file: {error.strerror}",
                    file=tempfile.gettempdir(),
                    fix="set TMPDIR to a folder with room",
                ) from error

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Return pictures (N, 32, 32) uint8; zeros for one that was never put."""
        if self._file is None:
            return self._first[indices]
        found = np.empty((len(indices), SIDE, SIDE), np.uint8)
        near = indices < _IN_MEMORY
        found[near] = self._first[indices[near]]
        for row in np.flatnonzero(~near).tolist():
            data = os.pread(self._file.fileno(), _BYTES, (int(indices[row]) - _IN_MEMORY) * _BYTES)
            found[row] = np.frombuffer(data, np.uint8).reshape(SIDE, SIDE)
        return found


class Chosen:
    """A selection of small pictures, (N, 32, 32) by a slice or an array of indices.

    Args:
        pictures: all pictures.
        places: indices of the selected ones.
    """

    def __init__(self, pictures: Smalls, places: Sequence[int]) -> None:
        self._pictures, self._places = pictures, np.asarray(places, np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, wanted: slice | np.ndarray) -> np.ndarray:
        return self._pictures.take(self._places[wanted])
