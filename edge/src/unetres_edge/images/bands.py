"""The rows of an array in bands, so that what is computed of each stays small, however large the image is."""

from __future__ import annotations

from collections.abc import Iterator

AT_ONCE = 1 << 20  # px of a band


def bands(shape: tuple[int, ...], pixels: int = AT_ONCE) -> Iterator[slice]:
    """Yield the rows of an array (H, W) or (H, W, ...) from the top down, as slices.

    Args:
        shape: shape of the array.
        pixels: about as many are in a band; it has one row at least.
    """
    height, width = shape[:2]
    rows = max(1, pixels // max(1, width))
    for top in range(0, height, rows):
        yield slice(top, min(height, top + rows))
