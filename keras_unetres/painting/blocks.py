"""Predictions of large pictures, in blocks: which are there, which are wanted, and what tiles are made of them.

A block has the size of those that a training reads of a large picture. Blocks are kept compressed, up to `MOST_BYTES`,
those that were seen last; small copies of them, for views from afar, are kept of all.
"""

from __future__ import annotations

import time
import zlib
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import IGNORE

from .pictures import check_level, tile_slices
from .raster import Box
from .snapshot import BLOCK

MOST_BYTES = 256 << 20
MOST_WANTED = 512
_COARSE = 3  # level from which on small copies do
_PAUSE = 0.5  # seconds between two events about blocks
_AROUND = 2048  # px around a point in which its region is looked for

Place = tuple[int, int, int]  # number of the image, column and row of the block


@dataclass(frozen=True)
class _Kept:
    classes: bytes
    confidence: bytes
    shape: tuple[int, int]

    @property
    def size(self) -> int:
        return len(self.classes) + len(self.confidence)

    def values(self, of: str) -> np.ndarray:
        data = self.confidence if of == "confidence" else self.classes
        return np.frombuffer(zlib.decompress(data), np.uint8).reshape(self.shape)


class Blocks:
    """Blocks of large pictures. Its owner calls it from one thread at a time."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all blocks; what is wanted stays so."""
        self._kept: OrderedDict[Place, _Kept] = OrderedDict()
        self._small: dict[Place, dict[str, np.ndarray]] = {}
        self._bytes = 0
        self._unsaid: dict[int, list[Box]] = {}
        self._said = 0.0
        self.wanted: deque[Place] = getattr(self, "wanted", deque())

    def forget(self, index: int) -> None:
        """Want no block of an image any more."""
        self.wanted = deque(place for place in self.wanted if place[0] != index)

    @staticmethod
    def corner(place: Place) -> tuple[int, int]:
        """Return the left and the upper px of a block."""
        return place[1] * BLOCK, place[2] * BLOCK

    @staticmethod
    def slices(place: Place, shape: Sequence[int]) -> tuple[slice, slice]:
        """Return the rows and columns of a block in a picture (height, width)."""
        left, top = Blocks.corner(place)
        return slice(top, min(shape[0], top + BLOCK)), slice(left, min(shape[1], left + BLOCK))

    @staticmethod
    def spread(index: int, shape: tuple[int, int], side: int) -> list[Place]:
        """Return up to `side` times `side` blocks of a picture (height, width), spread over all of it."""
        counts = [-(-length // BLOCK) for length in shape]
        rows, columns = (sorted({(2 * n + 1) * count // (2 * side) for n in range(side)}) for count in counts)
        return [(index, column, row) for row in rows for column in columns]

    def want(self, places: Iterable[Place]) -> None:
        """Want blocks before all others, in this order."""
        first = [place for place in places if place not in self._kept]
        rest = [place for place in self.wanted if place not in set(first)]
        self.wanted = deque([*first, *rest][:MOST_WANTED])

    def next(self) -> Place | None:
        """Return the block that is wanted most, which is wanted no more; None where none is."""
        return self.wanted.popleft() if self.wanted else None

    def put(self, place: Place, classes: np.ndarray, confidence: np.ndarray) -> None:
        """Keep a block: (h, w) uint8 classes and probabilities in 255ths."""
        packed = [zlib.compress(np.ascontiguousarray(values).tobytes(), 1) for values in (classes, confidence)]
        kept = _Kept(packed[0], packed[1], (classes.shape[0], classes.shape[1]))
        self._bytes += kept.size
        self._kept[place] = kept
        step = 1 << _COARSE
        self._small[place] = {
            "network": classes[::step, ::step].copy(),
            "confidence": confidence[::step, ::step].copy(),
        }
        while self._bytes > MOST_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].size
        left, top = self.corner(place)
        box = (left, top, left + classes.shape[1], top + classes.shape[0])
        self._unsaid.setdefault(place[0], []).append(box)

    def say(self) -> list[Box]:
        """Return the boxes that were put since they were last said; [] a moment after that, if more will follow."""
        if self.wanted and time.monotonic() - self._said < _PAUSE:
            return []
        self._said = time.monotonic()
        boxes = [box for each in self._unsaid.values() for box in each]
        self._unsaid = {}
        return boxes

    def tile(
        self, index: int, shape: tuple[int, int], of: str, level: int, place: tuple[int, int]
    ) -> tuple[np.ndarray, list[Place]]:
        """Return a tile, 255 where nothing is predicted, and the blocks that it lacks, the middle ones first.

        Args:
            shape: (height, width) of the picture.
            of: "network" or "confidence".

        Raises:
            UsageError: there is no such tile.
        """
        step = 1 << check_level(level)
        rows, columns = tile_slices([-(-length // step) for length in shape], place)
        tile = np.full((rows.stop - rows.start, columns.stop - columns.start), IGNORE, np.uint8)
        missing = []
        box = (columns.start * step, rows.start * step, columns.stop * step, rows.stop * step)
        for block in _over(index, (box[0], box[1], min(box[2], shape[1]), min(box[3], shape[0]))):
            values = self._values(block, of, level)
            if values is None:
                missing.append(block)
                continue
            left, top = (corner // step for corner in self.corner(block))
            _paste(tile, values, top - rows.start, left - columns.start)
        x, y = (box[0] + box[2] - BLOCK) / 2, (box[1] + box[3] - BLOCK) / 2
        missing.sort(key=lambda each: abs(self.corner(each)[0] - x) + abs(self.corner(each)[1] - y))
        return tile, missing

    def _values(self, place: Place, of: str, level: int) -> np.ndarray | None:
        """Return every 2**level-th pixel of a block; None where it is not there."""
        if level >= _COARSE and place in self._small:
            step = 1 << min(level - _COARSE, BLOCK.bit_length())
            return self._small[place][of][::step, ::step]
        kept = self._kept.get(place)
        if kept is None:
            return None
        self._kept.move_to_end(place)
        return kept.values(of)[:: 1 << level, :: 1 << level]

    def classes(self, index: int, box: Box) -> np.ndarray:
        """Return the classes in a box of a picture, 255 where nothing is predicted.

        Raises:
            UsageError: a part of it is not predicted yet.
        """
        x0, y0, x1, y1 = box
        classes = np.full((y1 - y0, x1 - x0), IGNORE, np.uint8)
        for block in _over(index, box):
            kept = self._kept.get(block)
            if kept is None:
                raise UsageError(
                    "not all of it is predicted yet", fix="wait until it is, or choose a part", kind="no-answer"
                )
            left, top = self.corner(block)
            _paste(classes, kept.values("network"), top - y0, left - x0)
        return classes


def _over(index: int, box: Box) -> Iterator[Place]:
    """Yield the blocks that a box lies on."""
    x0, y0, x1, y1 = box
    for row in range(y0 // BLOCK, -(-y1 // BLOCK)):
        for column in range(x0 // BLOCK, -(-x1 // BLOCK)):
            yield index, column, row


def _paste(target: np.ndarray, values: np.ndarray, top: int, left: int) -> None:
    """Copy values to a place of a target that they may reach beyond."""
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(target.shape[0], top + values.shape[0]), min(target.shape[1], left + values.shape[1])
    if y0 < y1 and x0 < x1:
        target[y0:y1, x0:x1] = values[y0 - top : y1 - top, x0 - left : x1 - left]


def shown_part(values: Mapping[str, Any], shape: tuple[int, int]) -> Box:
    """Return the part of a large picture (height, width) in which a request accepts: its box, or that of its region.

    Raises:
        UsageError: it names none, or one beside the picture.
    """
    point, box = values.get("point"), values.get("within") or values.get("box")
    if box is None and isinstance(point, list) and len(point) == 2:
        box = [point[0] - _AROUND, point[1] - _AROUND, point[0] + _AROUND, point[1] + _AROUND]
    if not (isinstance(box, list) and len(box) == 4 and all(type(n) in (int, float) and abs(n) < 1e9 for n in box)):
        raise UsageError("the box is wrong", expected="[x0, y0, x1, y1] in px", found=box)
    x0, y0 = max(0, int(box[0])), max(0, int(box[1]))
    x1, y1 = min(shape[1], int(np.ceil(box[2]))), min(shape[0], int(np.ceil(box[3])))
    if x0 >= x1 or y0 >= y1:
        raise UsageError("the box lies beside the picture", found=box)
    return x0, y0, x1, y1
