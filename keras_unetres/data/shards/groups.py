"""Groups of samples that are read in one piece, and the few of them that stay in memory, encoded as they are stored."""

from __future__ import annotations

import abc
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unetres_edge.errors import DataError, ImageError, MaskError, shortened
from unetres_edge.images.decode import decode_image, decode_mask

from ..sources import Source, keeps_text

MEMORY = 128 << 20  # bytes of groups that are kept; one that is larger is kept alone


class Group(abc.ABC):
    """Samples that lie side by side in a shard.

    Attributes:
        number: place among all groups of a data set.
        nbytes: bytes that it takes in memory, about.
    """

    __slots__ = ("lock", "nbytes", "number")

    number: int
    nbytes: int
    lock: threading.Lock

    @abc.abstractmethod
    def load(self) -> Mapping[str, Any]:
        """Return column -> cells, one a sample: bytes of a file, or an array.

        Raises:
            DataError: it cannot be read.
        """


class _Kept:
    """The groups that were read last."""

    def __init__(self) -> None:
        self._groups: OrderedDict[int, tuple[Group, Mapping[str, Any]]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def cells(self, group: Group) -> Mapping[str, Any]:
        """Return what a group loads, read once by whoever comes first."""
        with group.lock:
            with self._lock:
                kept = self._groups.get(id(group))
                if kept is not None:
                    self._groups.move_to_end(id(group))
                    return kept[1]
            cells = group.load()
            with self._lock:
                self._groups[id(group)] = group, cells
                self._bytes += group.nbytes
                while self._bytes > MEMORY and len(self._groups) > 1:
                    _, (old, _) = self._groups.popitem(last=False)
                    self._bytes -= old.nbytes
            return cells


_KEPT = _Kept()


@keeps_text
@dataclass(frozen=True, eq=False, slots=True)
class Cell(Source):
    """An image or a mask of a sample in a shard.

    Args:
        file: name of the file in errors.
        group: group that it lies in.
        column: name of its column.
        row: place of the sample in the group.
        kind: "image", "mask", or "colors" of a mask whose colours are classes.
    """

    file: Path
    group: Group
    column: str
    row: int
    kind: str

    def stored(self) -> Any:
        """Return the bytes of a file, or an array.

        Raises:
            DataError: the shard cannot be read, or has nothing here.
        """
        value = _KEPT.cells(self.group)[self.column][self.row]
        if value is None:
            raise DataError("nothing is stored here", file=self.file, fix="write the set again without empty cells")
        if isinstance(value, str):
            raise DataError(
                "only the name of a file is stored here, and not the file",
                file=self.file,
                found=shortened(value, 100),
                fix="write the set by save_to_disk or push_to_hub, which put the images into it",
            )
        return value

    def read(self) -> np.ndarray:
        value = self.stored()
        if isinstance(value, bytes):
            if self.kind == "image":
                return decode_image(value, self.file)
            return decode_mask(value, self.file, colors=self.kind == "colors")
        return _pixels(value, self.file) if self.kind == "image" else _whole(value, self.file)

    def digest(self) -> str:
        value = self.stored()
        if isinstance(value, bytes):
            return hashlib.sha256(value).hexdigest()
        form = f"{value.dtype.str}{value.shape}".encode()
        return hashlib.sha256(form + np.ascontiguousarray(value).tobytes()).hexdigest()


def _pixels(values: np.ndarray, file: Path) -> np.ndarray:
    """Return an image that is stored as an array.

    Raises:
        ImageError: it is none.
    """
    kinds = (np.uint8, np.uint16, np.float32)
    if values.ndim not in (2, 3) or values.dtype not in kinds or not np.isfinite(values).all():
        found = f"{values.dtype} of {values.shape}"
        raise ImageError(
            "not an image", file=file, expected="(H, W) or (H, W, C) uint8, uint16 or float32", found=found
        )
    return values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values


def _whole(values: np.ndarray, file: Path) -> np.ndarray:
    """Return a mask that is stored as an array.

    Raises:
        MaskError: it is none.
    """
    values = values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise MaskError("not a mask", file=file, expected="(H, W) integers", found=f"{values.dtype} of {values.shape}")
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < -(2**31) or high >= 2**31:
        raise MaskError(
            "mask values outside 32 bits", file=file, expected=f"at most {2**31 - 1}", found=f"{low}..{high}"
        )
    return values.astype(np.uint8 if low >= 0 and high < 256 else np.uint16 if low >= 0 and high < 65536 else np.int32)
