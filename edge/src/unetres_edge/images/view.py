"""Pictures for people: an image of any depth and number of channels as 8-bit RGB."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .preprocessing import Preprocessing

_STRETCH = (1.0, 99.0)  # percentiles of each channel shown that become black and full brightness


def to_view(image: np.ndarray, show: Sequence[int] = ()) -> np.ndarray:
    """Return an image as (H, W, 3) uint8.

    Grey and colour of 8 bits stay as they are. Other depths are stretched, each channel by its own percentiles. Of
    other numbers of channels those in `show` are red, green and blue, counted from 1; else the first three, or of two
    their mean.

    Args:
        image: (H, W) or (H, W, C) of any depth.
        show: three channels; none for the usual ones, also where the image does not have so many.
    """
    if image.ndim == 3 and image.shape[-1] > 1:
        image = _chosen(image, show)
    if image.dtype == np.uint8:
        return Preprocessing(channels=3).prepare(image)
    planes = image[..., None] if image.ndim == 2 else image
    stretch = Preprocessing(channels=1, per_image=_STRETCH)
    drawn = [stretch.prepare(planes[..., channel])[..., 0] for channel in range(planes.shape[-1])]
    return np.stack(drawn * (3 // len(drawn)), axis=-1)


def _chosen(image: np.ndarray, show: Sequence[int]) -> np.ndarray:
    """Return three of many channels (H, W, 3), or the mean of two (H, W)."""
    count = image.shape[-1]
    if len(show) == 3 and max(show) <= count:
        return image[..., [number - 1 for number in show]]
    if count == 2:
        mean = image.mean(-1)
        return np.rint(mean).astype(image.dtype) if image.dtype.kind != "f" else mean.astype(image.dtype)
    return image[..., :3]
