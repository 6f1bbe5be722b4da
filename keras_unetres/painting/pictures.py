"""Pictures as tiles at every level of detail, with channels and contrast of choice. Nothing is written here.

Level 0 is the picture; level k halves it k times, each pixel the mean of four. Decoded pictures are kept up to
`MOST_HELD` bytes, the last used ones.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from unetres_edge.errors import ImageError, UsageError
from unetres_edge.images.decode import (
    HEADER_FORMATS,
    MAX_PIXELS,
    count_pages,
    pages_are_channels,
    read_image,
    read_pixel_count,
)

TILE = 512  # px
MAX_LEVEL = 16
MOST_PIXELS = 400_000_000
MOST_HELD = 1 << 30  # bytes of decoded pictures
MOST_SHOWN = 3  # channels
_PERCENTILES = (1.0, 99.0)
_ROWS = 256  # halved at a time
_SAMPLE = 1 << 20  # pixels from which percentiles are taken


def read_picture(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the pixels of a picture, those that are larger than a training reads included.

    Returns:
        (H, W, C) uint8, uint16 or float32.

    Raises:
        ImageError: as `read_image`, or more than `MOST_PIXELS` pixels.
    """
    values = _read_large(Path(path)) if read_pixel_count(path) > MAX_PIXELS else read_image(path)
    return values if values.ndim == 3 else values[..., None]


def _read_large(path: Path) -> np.ndarray:
    count = read_pixel_count(path)
    if count > MOST_PIXELS:
        raise ImageError("too many pixels", file=path, expected=f"at most {MOST_PIXELS}", found=count, kind="too-large")
    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            import tifffile

            values = tifffile.imread(path)
        else:
            with warnings.catch_warnings(action="ignore"), Image.open(path, formats=HEADER_FORMATS) as image:
                values = np.asarray(image.convert("RGB") if image.mode in ("P", "RGBA", "CMYK") else image)
    except Exception as error:  # of Pillow's and tifffile's readers: any kind
        raise ImageError(f"cannot decode: {error}", file=path, kind="unreadable") from error
    if values.ndim not in (2, 3) or values.dtype not in (np.uint8, np.uint16, np.float32):
        found = f"{values.shape} {values.dtype}"
        raise ImageError("no picture of this size is read", file=path, expected="grey or colours", found=found)
    return values


def pages_of(path: Path) -> int:
    """Return how many pictures a file holds: more than 1 for a stack whose pages are no channels."""
    if path.suffix.lower() not in (".tif", ".tiff") or read_pixel_count(path) > MAX_PIXELS:
        return 1
    pages = count_pages(path)
    return 1 if pages == 1 or pages_are_channels(path) else pages


@dataclass
class _Held:
    """A decoded picture: its levels so far, and the usual contrast of each channel."""

    levels: list[np.ndarray]
    limits: list[tuple[float, float]]

    @property
    def size(self) -> int:
        return sum(level.nbytes for level in self.levels)


class Pictures:
    """Decoded pictures by path, the last used ones; safe for several threads."""

    def __init__(self, most_held: int = MOST_HELD) -> None:
        self._most = most_held
        self._lock = threading.Lock()
        self._held: OrderedDict[Path, _Held] = OrderedDict()
        self._reading: dict[Path, threading.Lock] = {}

    def forget(self, path: Path) -> None:
        """Read a picture anew when it is next asked for."""
        with self._lock:
            self._held.pop(path, None)

    def level(self, path: Path, level: int) -> np.ndarray:
        """Return (H, W, C) pixels of a picture, halved `level` times.

        Raises:
            ImageError: it cannot be read.
        """
        return self._find(path, level).levels[level]

    def _find(self, path: Path, level: int = 0) -> _Held:
        with self._lock:
            reading = self._reading.setdefault(path, threading.Lock())
        with reading:
            with self._lock:
                held = self._held.get(path)
                if held is not None:
                    self._held.move_to_end(path)
            if held is None:
                values = read_picture(path)
                held = _Held([values], [_limits(values[..., c]) for c in range(values.shape[2])])
            while len(held.levels) <= level:
                held.levels.append(halved(held.levels[-1]))
            with self._lock:
                self._held[path] = held
                self._held.move_to_end(path)
                while len(self._held) > 1 and sum(each.size for each in self._held.values()) > self._most:
                    self._held.popitem(last=False)
        return held

    def limits(self, path: Path) -> list[tuple[float, float]]:
        """Return the usual contrast of each channel: 0 and 255 of 8 bits, else the 1st and the 99th percentile."""
        return self._find(path).limits

    def in_colours(self, path: Path) -> np.ndarray:
        """Return (H, W, 3) uint8 of a picture in its usual contrast: its first three channels, or one three times.

        Raises:
            ImageError: it cannot be read.
        """
        held = self._find(path)
        values = held.levels[0]
        shown = (0, 1, 2) if values.shape[2] > 2 else (0, 0, 0)
        return np.stack([_stretched(values[..., channel], *held.limits[channel]) for channel in shown], axis=-1)

    def tile(
        self,
        path: Path,
        level: int,
        place: tuple[int, int],
        show: Sequence[int] = (),
        low: Sequence[float] = (),
        high: Sequence[float] = (),
    ) -> bytes:
        """Return a tile as a PNG of 8 bits, grey or colours.

        Args:
            level: number of times that the picture is halved.
            place: column and row of the tile.
            show: the channels, one as grey, two or three as red, green and blue; empty for the first ones.
            low: value that is black, for each channel or for all; empty for the usual contrast.
            high: value that is white, likewise.

        Raises:
            UsageError: there is no such tile or channel, or the contrast is wrong.
            ImageError: the picture cannot be read.
        """
        held = self._find(path, check_level(level))
        values = held.levels[level]
        rows, columns = tile_slices(values.shape[:2], place)
        count = values.shape[2]
        shown = tuple(show) or ((0,) if count < 3 else (0, 1, 2))
        if len(shown) > MOST_SHOWN or not all(0 <= channel < count for channel in shown):
            raise UsageError("no such channels", expected=f"1 to {MOST_SHOWN} of 0 to {count - 1}", found=list(show))
        planes = []
        for at, channel in enumerate(shown):
            black, white = held.limits[channel]
            black = low[min(at, len(low) - 1)] if low else black
            white = high[min(at, len(high) - 1)] if high else white
            if not (np.isfinite(black) and np.isfinite(white) and black < white):
                raise UsageError("the contrast is wrong", expected="low below high", found=(black, white))
            planes.append(_stretched(values[rows, columns, channel], black, white))
        if len(planes) == 1:
            return png(planes[0])
        planes += [np.zeros_like(planes[0])] * (3 - len(planes))
        return png(np.stack(planes, axis=-1))


def check_level(level: int) -> int:
    """Return a level.

    Raises:
        UsageError: there is none of this number.
    """
    if not 0 <= level <= MAX_LEVEL:
        raise UsageError("no such level", expected=f"0 to {MAX_LEVEL}", found=level, kind="no-such-tile")
    return level


def tile_slices(shape: Sequence[int], place: tuple[int, int]) -> tuple[slice, slice]:
    """Return the rows and columns of a tile.

    Raises:
        UsageError: it does not lie on the picture.
    """
    x, y = place[0] * TILE, place[1] * TILE
    height, width = shape[:2]
    if not (0 <= x < width and 0 <= y < height):
        raise UsageError("no such tile", found=list(place), kind="no-such-tile")
    return slice(y, min(height, y + TILE)), slice(x, min(width, x + TILE))


def halved(values: np.ndarray) -> np.ndarray:
    """Return (ceil(H / 2), ceil(W / 2), C): the mean of each four pixels, halves up; rims repeat their last pixels."""
    height, width = values.shape[:2]
    if height % 2 or width % 2:
        values = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    small = np.empty((values.shape[0] // 2, values.shape[1] // 2, values.shape[2]), values.dtype)
    for row in range(0, len(small), _ROWS):  # so that sums take little memory
        part = values[2 * row : 2 * (row + _ROWS)]
        four = [part[y::2, x::2] for y in (0, 1) for x in (0, 1)]
        if values.dtype == np.float32:
            small[row : row + _ROWS] = sum(four[1:], four[0]) * np.float32(0.25)
        else:
            total = sum((each.astype(np.uint32) for each in four[1:]), four[0].astype(np.uint32))
            small[row : row + _ROWS] = (total + 2) >> 2
    return small


def _limits(values: np.ndarray) -> tuple[float, float]:
    if values.dtype == np.uint8:
        return 0.0, 255.0
    step = max(1, int((values.size / _SAMPLE) ** 0.5))
    low, high = np.percentile(values[::step, ::step], _PERCENTILES)
    if low == high:
        low, high = float(values.min()), float(values.max())
    return (float(low), float(high)) if low < high else (float(low), float(low) + 1.0)


def _stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    if values.dtype == np.uint8 and (low, high) == (0.0, 255.0):
        return values
    scaled = (values.astype(np.float32) - np.float32(low)) * np.float32(255.0 / (high - low))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def png(values: np.ndarray) -> bytes:
    """Return (H, W) uint8 or uint16, or (H, W, 3) uint8, as a quickly packed PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(values)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
