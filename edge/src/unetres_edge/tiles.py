"""Fixed-size tiles over an image of any size: where they lie, how they are joined, in memory of one row of tiles.

The last tile of a row is shifted back so that it ends at the image's edge; nothing is ever rescaled. An image smaller
than a tile is mirrored outwards, and the mirrored part is cut off again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np


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


def blended_rows(
    image: np.ndarray, tile: tuple[int, int], overlap: int, num_scores: int, run: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the scores of an image as finished rows, tiles blended by a linear ramp over their overlap.

    Args:
        image: (H, W, C) uint8, at least as large as a tile.
        run: (tile height, tile width, C) uint8 -> (tile height, tile width, num_scores) float32.

    Yields:
        (first row, scores (rows, W, num_scores) float32). The array is reused: copy what must stay.
    """
    height, width = tile
    window = ramp(height, overlap)[:, None] * ramp(width, overlap)[None, :]
    total = np.zeros((height, image.shape[1], num_scores), np.float32)
    weight = np.zeros((height, image.shape[1]), np.float32)
    rows = tile_origins(image.shape[0], height, overlap)
    for y, next_y in zip(rows, [*rows[1:], rows[-1] + height], strict=True):
        for x in tile_origins(image.shape[1], width, overlap):
            scores = run(image[y : y + height, x : x + width])
            total[:, x : x + width] += scores * window[..., None]
            weight[:, x : x + width] += window
        done = next_y - y
        yield y, total[:done] / weight[:done, :, None]
        for buffer in (total, weight):
            buffer[: height - done] = buffer[done:].copy()
            buffer[height - done :] = 0


def joined_rows(
    image: np.ndarray, tile: tuple[int, int], overlap: int, run: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the labels of an image row of tiles by row of tiles, cut in the middle of each overlap.

    Args:
        run: (tile height, tile width, C) uint8 -> (tile height, tile width) uint8 labels.

    Yields:
        (first row, labels (rows, W) uint8).
    """
    height, width = tile
    for y, top, bottom in _cores(image.shape[0], height, overlap):
        strip = np.empty((bottom - top, image.shape[1]), np.uint8)
        for x, left, right in _cores(image.shape[1], width, overlap):
            labels = run(image[y : y + height, x : x + width])
            strip[:, left:right] = labels[top - y : bottom - y, left - x : right - x]
        yield top, strip


def _cores(length: int, tile: int, overlap: int) -> list[tuple[int, int, int]]:
    """Return (origin, first, end) for each tile: the pixels [first, end) nearest to its middle."""
    origins = tile_origins(length, tile, overlap)
    cuts = [0, *((a + tile + b) // 2 for a, b in zip(origins, origins[1:], strict=False)), length]
    return list(zip(origins, cuts, cuts[1:], strict=False))


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
