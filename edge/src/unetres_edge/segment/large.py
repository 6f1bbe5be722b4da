"""Images too large for memory: read strip by strip from anything that slices, segmented, written into any array.

What is held is one strip as high as a tile: its pixels, and its scores in the mode "blend". So memory grows with the
image's width and not with its height. In the mode "exact" only those pixels of a tile are kept that no border of the
tile can have reached, and tiles lie on the grid of the network's smallest map. The class map is then the one that the
network gives of the whole image at once, mirrored outwards to a multiple of that grid.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ..engines.engine import Engine, argmax_labels
from ..engines.timed import TimedEngine
from ..errors import ImageError, UsageError
from ..images.preprocessing import Preprocessing
from ..model.card import Card
from ..results.result import Result
from .tiles import Core, blended_rows, cut_rows, exact_cores, grow, middle_cores

MODES = ("blend", "exact")
_PIECE = 1 << 20  # bytes or so that are prepared at a time


class Source(Protocol):
    """What an image can be read from: a memmap, zarr, HDF5, a dask array, `WindowSource`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W) or (H, W, C)."""
        ...

    def __getitem__(self, rows: slice, /) -> Any:
        """Return some rows, as `Preprocessing.prepare` takes images."""
        ...


class Target(Protocol):
    """What a class map can be written into: an array, a memmap, zarr, HDF5."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W)."""
        ...

    @property
    def dtype(self) -> Any:
        """uint8."""
        ...

    def __setitem__(self, rows: slice, values: np.ndarray, /) -> None: ...


class WindowSource:
    """An image read by windows with its bands first, as rasterio reads.

    Args:
        dataset: has `height`, `width`, `count`, and `read(window=((row, end), (column, end)))` that gives
            (bands, rows, columns).
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.shape = (int(dataset.height), int(dataset.width), int(dataset.count))

    def __getitem__(self, rows: slice) -> np.ndarray:
        first, end, _ = rows.indices(self.shape[0])
        return np.moveaxis(self._dataset.read(window=((first, end), (0, self.shape[1]))), 0, -1)


class Strips:
    """A large image in the working form, mirrored outwards to a size, of which one strip is held.

    Args:
        source: the image.
        preprocessing: preparation of the image.
        size: (height, width) px of the whole, at least the source's.
        height: rows of the strip.
        limits: as `Preprocessing.prepare` takes them.
    """

    def __init__(
        self,
        source: Source,
        preprocessing: Preprocessing,
        size: tuple[int, int],
        height: int,
        limits: tuple[float, float] | None = None,
    ) -> None:
        self.shape = (*size, preprocessing.channels)
        self._source, self._preprocessing, self._limits = source, preprocessing, limits
        self._strip = np.empty((height, size[1], preprocessing.channels), np.uint8)
        self._first = -height

    def __getitem__(self, tile: tuple[slice, slice]) -> np.ndarray:
        """Return the pixels of a tile, as high as the strip; a view that is good until the next strip is read."""
        rows, columns = tile
        if rows.start != self._first:
            self._read(rows.start)
        return self._strip[:, columns]

    def _read(self, first: int) -> None:
        height = len(self._strip)
        kept = max(0, self._first + height - first) if first > self._first else 0
        self._first = -height  # whatever happens now, the strip is not what it was
        for row in range(kept):
            self._strip[row] = self._strip[height - kept + row]
        end = min(first + height, int(self._source.shape[0]))
        values = np.asarray(self._source[first + kept : end])
        if values.shape != (end - first - kept, *self._source.shape[1:]):
            raise ImageError(
                "the source gave other rows than were asked for",
                expected=(end - first - kept, *self._source.shape[1:]),
                found=values.shape,
            )
        width = values.shape[1] if values.ndim > 1 else 0
        step = max(1, _PIECE // max(1, values[:1].nbytes))
        for row in range(0, len(values), step):
            part = self._preprocessing.prepare(values[row : row + step], self._limits)
            self._strip[kept + row : kept + row + len(part), :width] = part
        self._mirror(end - first, width)
        self._first = first

    def _mirror(self, rows: int, columns: int) -> None:
        """Fill what lies below `rows` and to the right of `columns`."""
        down, right = (_mirrored(n, total) for n, total in ((rows, len(self._strip)), (columns, self.shape[1])))
        if len(right):
            self._strip[:rows, columns:] = self._strip[:rows, right]
        if len(down):
            self._strip[rows:] = self._strip[down]


def _mirrored(length: int, total: int) -> np.ndarray:
    """Return which of `length` pixels stand at the places from `length` to `total`, as `numpy.pad` reflects."""
    period = max(1, 2 * (length - 1))
    offset = np.arange(length, total) % period
    return np.minimum(offset, period - offset) if length > 1 else np.zeros(total - length, int)


def segment_large(
    engine: Engine,
    card: Card,
    source: Source,
    *,
    out: Target | None = None,
    mode: str = "blend",
    overlap: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Result:
    """Give every pixel of an image a class, strip by strip; `Segmenter.segment_large` says more.

    Args:
        engine: runs the network.
        card: card of the model.
        source: the image.
        out: (H, W) uint8, what the class map is written into; None makes an array.
        mode: "blend" or "exact".
        overlap: px shared by neighbouring tiles in the mode "blend"; None in the mode "exact".
        progress: callback, called after each tile with (tiles done, all tiles).
        cancel: callback, asked before each tile; true ends the work.
    """
    start = time.perf_counter()
    shape = image_shape(source)
    size = shape[0], shape[1]
    cores = plan(card, size, mode, overlap)
    target: Target = np.empty(size, np.uint8) if out is None else out
    if tuple(target.shape) != size or np.dtype(target.dtype) != np.uint8:
        raise UsageError(
            "out does not suit the image", expected=f"{size} uint8", found=f"{target.shape} {target.dtype}"
        )
    pre = card.preprocessing
    strips = Strips(source, pre, padded_size(card, size, mode), pre.size[0], stretch_limits(source, pre))
    ready = time.perf_counter()
    timed = TimedEngine(engine, len(cores[0]) * len(cores[1]), progress, cancel)
    if mode == "exact" or card.head == "argmax":
        rows = cut_rows(strips, pre.size, cores, timed.run_labels)
    else:
        rows = blended_rows(strips, pre.size, overlap or 0, len(card.class_names), timed.run)
    for row, values in rows:
        wanted = values[: shape[0] - row, : shape[1]]
        if len(wanted):
            target[row : row + len(wanted)] = argmax_labels(wanted)
    return Result(
        target,  # type: ignore[arg-type]
        None,
        card.class_names,
        card.class_colors,
        timed.timing(start, ready),
        engine=timed.name,
        agreement=timed.agreement,
        engine_reason=timed.reason,
        background=card.background,
        activation=card.activation,
    )


def image_shape(source: Source) -> tuple[int, ...]:
    """Return the shape of a source.

    Raises:
        UsageError: it is no image of one or more pixels.
    """
    shape = tuple(int(n) for n in getattr(source, "shape", ()))
    if len(shape) not in (2, 3) or 0 in shape:
        raise UsageError(
            "not an image that can be read in parts",
            expected="something with a shape (H, W) or (H, W, C), whose rows can be sliced",
            found=f"{type(source).__name__} of shape {shape}",
        )
    return shape


def plan(card: Card, size: tuple[int, int], mode: str, overlap: int | None) -> tuple[list[Core], list[Core]]:
    """Return the tiles of both axes, and which pixels of each are kept where labels are not blended.

    Raises:
        UsageError: another mode; an overlap that is wrong, or given for the mode "exact", which finds its own; or an
            image that this model cannot take in this mode, with the reason.
    """
    tile = card.preprocessing.size
    if mode not in MODES:
        raise UsageError("the mode is not known", expected=" or ".join(MODES), found=repr(mode))
    if card.preprocessing.fit != "crop":
        raise UsageError(
            "the model sees the whole image, scaled to its input, and cannot see it in tiles",
            expected="fit 'crop'",
            found=f"fit {card.preprocessing.fit!r}",
            fix="use segment(), or train with --fit crop",
        )
    if card.crop:
        raise UsageError(
            "a network without padding is not read strip by strip", found=f"crop {card.crop} px", fix="use segment()"
        )
    if mode == "exact":
        if overlap is not None:
            raise UsageError("the mode 'exact' takes its overlap from the card", found=f"overlap {overlap}")
        if card.stride < 1:
            raise UsageError(
                "the model file does not say how its tiles must lie",
                expected="a card with the halo and the stride of the network",
                fix="export it again, or use the mode 'blend'",
            )
        high, wide = (
            exact_cores(n, side, card.halo, card.stride)
            for n, side in zip(padded_size(card, size, mode), tile, strict=True)
        )
        return high, wide
    if type(overlap) is not int or not 0 <= overlap < min(tile):
        raise UsageError("overlap is wrong", expected=f"0 to {min(tile) - 1} px", found=overlap)
    high, wide = (middle_cores(max(n, side), side, overlap) for n, side in zip(size, tile, strict=True))
    return high, wide


def padded_size(card: Card, size: tuple[int, int], mode: str) -> tuple[int, int]:
    """Return the (height, width) px that an image is mirrored outwards to."""
    step = card.stride if mode == "exact" else 1
    height, width = (grow(n, side, step) for n, side in zip(size, card.preprocessing.size, strict=True))
    return height, width


def stretch_limits(source: Source, preprocessing: Preprocessing) -> tuple[float, float] | None:
    """Return the percentiles of a whole image that its preprocessing stretches, counted strip by strip; or None.

    Raises:
        ImageError: an image of floats, whose percentiles cannot be counted.
    """
    if preprocessing.per_image is None:
        return None
    shape = image_shape(source)
    counts: np.ndarray | None = None
    for row in range(0, shape[0], preprocessing.size[0]):
        of_rows = level_counts(np.asarray(source[row : row + preprocessing.size[0]]), preprocessing.channels)
        counts = of_rows if counts is None else counts + of_rows
    assert counts is not None  # an image has rows
    return percentiles_of(counts, preprocessing.per_image)


def level_counts(rows: np.ndarray, channels: int) -> np.ndarray:
    """Return how often each level of uint8 or uint16 rows occurs, without their alpha channel.

    Raises:
        ImageError: another dtype.
    """
    if not rows.dtype.isnative:
        rows = rows.astype(rows.dtype.newbyteorder("="))
    if rows.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            "the model stretches percentiles of the whole image, which are counted for whole numbers only",
            expected="uint8 or uint16",
            found=rows.dtype,
            fix="convert the image to uint16, or use segment()",
        )
    if rows.ndim == 3 and rows.shape[-1] == 4 and channels in (1, 3):
        rows = rows[..., :3]
    levels = np.iinfo(rows.dtype).max + 1
    counts = np.zeros(levels, np.int64)
    step = max(1, _PIECE // max(1, rows[:1].size))
    for row in range(0, len(rows), step):
        counts += np.bincount(rows[row : row + step].ravel(), minlength=levels)
    return counts


def percentiles_of(counts: np.ndarray, percentiles: tuple[float, float]) -> tuple[float, float]:
    """Return what `numpy.percentile` gives for numbers of which counts[n] are n."""
    upto = np.cumsum(counts)

    def value(percentile: float) -> float:
        rank = percentile / 100 * (int(upto[-1]) - 1)
        low = int(np.floor(rank))
        part = rank - low
        before, after = (int(np.searchsorted(upto, n, side="right")) for n in (low, min(low + 1, int(upto[-1]) - 1)))
        return after - (after - before) * (1 - part) if part >= 0.5 else before + (after - before) * part

    return value(percentiles[0]), value(percentiles[1])


def label_agreement(first: Any, second: Any) -> float:
    """Return the share of pixels, 0 to 1, that have one label in both of two (H, W) class maps, read in parts.

    Raises:
        UsageError: they differ in shape.
    """
    if tuple(first.shape) != tuple(second.shape):
        raise UsageError("maps of different shapes cannot be compared", expected=first.shape, found=second.shape)
    equal, step = 0, max(1, _PIECE // max(1, first.shape[1]))
    for row in range(0, first.shape[0], step):
        equal += int((np.asarray(first[row : row + step]) == np.asarray(second[row : row + step])).sum())
    return equal / max(1, first.shape[0] * first.shape[1])
