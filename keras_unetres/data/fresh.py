"""Images that calibrated nothing, made of those that did: on them a file is compared with its network."""

from __future__ import annotations

import numpy as np

from unetres_edge.images.preprocessing import Preprocessing

from .calibration import to_levels


def fresh_tiles(images: np.ndarray, pre: Preprocessing, most: int) -> np.ndarray:
    """Return tiles (N, h, w, C) uint8: images mirrored, every second one stretched over the whole range of pixels.

    Args:
        images: images as the network sees them, (N, h, w, C) float32.
        most: largest number of them; of more images, some over all of them are taken.
    """
    return np.rint(_stretched(_mirrored(to_levels(_some(images, most), pre)), 0.0, 255.0)).astype(np.uint8)


def fresh_images(images: np.ndarray, pre: Preprocessing | None, most: int) -> np.ndarray:
    """Return images (N, h, w, C) float32 as the network sees them; without `pre`, stretched over what they all span."""
    if pre is not None:
        return np.stack([pre.normalise(tile) for tile in fresh_tiles(images, pre, most)])
    return _stretched(_mirrored(_some(images, most)), float(images.min()), float(images.max()))


def _some(images: np.ndarray, most: int) -> np.ndarray:
    return images[np.linspace(0, len(images) - 1, min(most, len(images))).astype(int)]


def _mirrored(images: np.ndarray) -> np.ndarray:
    return images[:, :, ::-1].copy()


def _stretched(images: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return images of which every second one spans [low, high]; one of a single value stays."""
    darkest, brightest = (find(images[1::2], axis=(1, 2), keepdims=True) for find in (np.min, np.max))
    width = brightest - darkest
    spread = low + (images[1::2] - darkest) * ((high - low) / np.where(width > 0, width, 1))
    images[1::2] = np.where(width > 0, spread, images[1::2])
    return images
