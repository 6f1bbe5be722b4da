"""Fixed-size tiles over an image of any size: where they lie, how they are joined, in memory of one row of tiles.

The last tile of a row is shifted back so that it ends at the image's edge; nothing is ever rescaled. An image smaller
than a tile is mirrored outwards, and the mirrored part is cut off again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from ..errors import UsageError


class Pixels(Protocol):
    """An (H, W, C) uint8 array, or what hands out its tiles like one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, tile: tuple[slice, slice], /) -> np.ndarray: ...


class Core(NamedTuple):
    """A tile along one axis: its first pixel, and the pixels [first, end) of the image that are taken from it."""

    origin: int
    first: int
    end: int


def tile_origins(length: int, tile: int, overlap: int) -> list[int]:
    """Return the first pixel of each tile along one axis; neighbours share at least `overlap` px.

    >>> tile_origins(512, 256, 64)
    [0, 192, 256]
    """
    if length <= tile:
        return [0]
    step = tile - overlap
    origins = list(range(0, length - tile, step))
    return [*origins, length - tile]


def ramp(tile: int, overlap: int) -> np.ndarray:
    """Return (tile,) float32 weights: 1 inside, falling linearly over `overlap` px to just above 0 at both ends."""
    distance = np.minimum(np.arange(tile), np.arange(tile)[::-1]) + 1.0
    return np.minimum(distance / (overlap + 1), 1.0).astype(np.float32)


def pad_to_tile(image: np.ndarray, tile: tuple[int, int]) -> np.ndarray:
    """Mirror an (H, W, C) image below and to the right where it is smaller than `tile`."""
    rows, columns = (max(0, t - n) for t, n in zip(tile, image.shape[:2], strict=True))
    if rows or columns:
        image = np.pad(image, ((0, rows), (0, columns), (0, 0)), mode="reflect")
    return image


def unpadded_starts(length: int, tile: int, crop: int, stride: int) -> range:
    """Return where the parts of an axis begin that the tiles of an unpadded network give, each to where the next does.

    They lie on the grid of the network's smallest map, for its pooling would see other pixels beside it.

    >>> list(unpadded_starts(512, 572, 92, 16))
    [0, 384]
    """
    return range(0, length, (tile - 2 * crop) // stride * stride)


def unpadded_rows(
    image: np.ndarray, tile: tuple[int, int], crop: int, stride: int, run: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the scores or labels of an image by an unpadded network, each pixel by a tile that sees all around it.

    The overlap-tile strategy of Ronneberger 2015, figure 2: the image is mirrored outwards, so each pixel has what the
    network gives of the whole mirrored image at once.

    Args:
        image: (H, W, C) uint8.
        tile: (height, width) of the network's input.
        crop: px of each side of the input that have no output.
        stride: px of the input between neighbouring elements of the network's smallest map.
        run: tile (height, width, C) uint8 -> (height - 2 crop, width - 2 crop[, classes]) scores or labels.

    Yields:
        (first row, values (rows, W or more[, classes])).
    """
    rows, columns = (unpadded_starts(n, side, crop, stride) for n, side in zip(image.shape[:2], tile, strict=True))
    behind = (starts[-1] + side - crop - n for starts, n, side in zip((rows, columns), image.shape, tile, strict=False))
    padded = np.pad(image, (*((crop, each) for each in behind), (0, 0)), mode="reflect")
    for y in rows:
        parts = [run(padded[y : y + tile[0], x : x + tile[1]])[: rows.step, : columns.step].copy() for x in columns]
        yield y, np.concatenate(parts, axis=1)


def blended_rows(
    image: Pixels, tile: tuple[int, int], overlap: int, num_scores: int, run: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the scores of an image as finished rows, tiles blended by a linear ramp over their overlap.

    Args:
        image: (H, W, C) uint8, at least as large as a tile.
        run: (tile height, tile width, C) uint8 -> (tile height, tile width, num_scores) float32.

    Yields:
        (first row, scores (rows, W, num_scores) float32). The array is reused: copy what must stay.
    """
    height, width = tile
    rows, columns = _windows(image.shape[0], height, overlap), _windows(image.shape[1], width, overlap)
    total = np.zeros((height, image.shape[1], num_scores), np.float32)
    weighted = np.empty((height, width, num_scores), np.float32)
    for (y, down), next_y in zip(rows, [*(y for y, _ in rows[1:]), rows[-1][0] + height], strict=True):
        for x, across in columns:
            scores = run(image[y : y + height, x : x + width])
            np.multiply(scores, (down[:, None] * across)[..., None], out=weighted)
            total[:, x : x + width] += weighted
        done = next_y - y
        yield y, total[:done]
        for row in range(height - done):  # one by one, for the two parts may overlap
            total[row] = total[row + done]
        total[height - done :] = 0


def _windows(length: int, tile: int, overlap: int) -> list[tuple[int, np.ndarray]]:
    """Return (origin, (tile,) float32 weights) for each tile of an axis; the weights of each pixel sum to one."""
    origins = tile_origins(length, tile, overlap)
    window = ramp(tile, overlap)
    total = np.zeros(length, np.float32)
    for origin in origins:
        total[origin : origin + tile] += window
    return [(origin, window / total[origin : origin + tile]) for origin in origins]


def joined_rows(
    image: Pixels, tile: tuple[int, int], overlap: int, run: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the labels of an image row of tiles by row of tiles, cut in the middle of each overlap.

    Args:
        run: (tile height, tile width, C) uint8 -> (tile height, tile width) uint8 labels.

    Yields:
        (first row, labels (rows, W) uint8).
    """
    high, wide = (middle_cores(n, side, overlap) for n, side in zip(image.shape[:2], tile, strict=True))
    yield from cut_rows(image, tile, (high, wide), run)


def cut_rows(
    image: Pixels,
    tile: tuple[int, int],
    cores: tuple[Sequence[Core], Sequence[Core]],
    run: Callable[[np.ndarray], np.ndarray],
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield labels row of tiles by row of tiles, each pixel from the one tile whose core it lies in.

    Args:
        cores: cores of the rows and of the columns, each without gaps.

    Yields:
        (first row, labels (rows, columns) uint8 from the first column of the cores).
    """
    height, width = tile
    start, stop = cores[1][0].first, cores[1][-1].end
    for y, top, bottom in cores[0]:
        strip = np.empty((bottom - top, stop - start), np.uint8)
        for x, left, right in cores[1]:
            labels = run(image[y : y + height, x : x + width])
            strip[:, left - start : right - start] = labels[top - y : bottom - y, left - x : right - x]
        yield top, strip


def middle_cores(length: int, tile: int, overlap: int) -> list[Core]:
    """Return the tiles of an axis, each keeping the pixels nearest to its middle."""
    origins = tile_origins(length, tile, overlap)
    cuts = [0, *((a + tile + b) // 2 for a, b in zip(origins, origins[1:], strict=False)), length]
    return [Core(*each) for each in zip(origins, cuts, cuts[1:], strict=False)]


def exact_cores(length: int, tile: int, halo: int, stride: int) -> list[Core]:
    """Return the tiles of an axis, each keeping only pixels that no border inside the image can have reached.

    Args:
        length: length of the axis, px; a multiple of the stride, at least a tile.
        halo: distance at which an input pixel can influence the output, px.
        stride: px of the input between neighbouring elements of the network's smallest map, on which tiles lie.

    Raises:
        UsageError: a tile has no such pixels, with the size that it would need.
    """
    needed = grow(2 * halo + stride, 0, stride)
    if length > tile and (tile % stride or tile < needed):
        raise UsageError(
            "no pixel of a tile is out of reach of the tile's borders",
            expected=f"tiles of {needed} px or more, a multiple of {stride}",
            found=f"tiles of {tile} px, halo {halo} px",
            fix=f"export the model with an input of {needed} px or more, or use the mode 'blend'",
        )
    origins = tile_origins(length, tile, tile - (tile - 2 * halo) // stride * stride)
    cuts = [0, *((a + tile + b) // 2 for a, b in zip(origins, origins[1:], strict=False)), length]
    return [Core(*each) for each in zip(origins, cuts, cuts[1:], strict=False)]


def grow(length: int, least: int, step: int) -> int:
    """Return the least multiple of `step` that is not below `length`, but `least` if that is more."""
    return max(least, -(-length // step) * step)


def resize_scores(scores: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (h, w, K) float32 scores to (height, width, K): bilinear, half-pixel centres, borders repeated."""
    return _lerp(_lerp(scores, height, 0), width, 1)


def _lerp(values: np.ndarray, length: int, axis: int) -> np.ndarray:
    if values.shape[axis] == length:
        return values
    position = (np.arange(length) + 0.5) * (values.shape[axis] / length) - 0.5
    low = np.clip(np.floor(position).astype(int), 0, values.shape[axis] - 1)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    shape = [1] * values.ndim
    shape[axis] = length
    fraction = np.clip(position - low, 0, 1).astype(np.float32).reshape(shape)
    return np.take(values, low, axis) * (1 - fraction) + np.take(values, high, axis) * fraction
