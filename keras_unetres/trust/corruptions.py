"""Pictures gone wrong as they do on devices, by which a file learns what tells a bad mask."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

_DARKER, _BRIGHTER = (0.15, 0.8), (1.25, 4.0)
_LEAST_SIDE = 32  # px, of a picture that is made smaller


def corrupt(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture with one thing gone wrong, drawn with its strength, and the mask that goes with it.

    Args:
        image: (H, W) or (H, W, C), any dtype of real numbers; the picture keeps its dtype and its lowest and highest
            value at most. Of uint8 these are 0 and 255.
        mask: (H, W) class ids.
        rng: source of the draws.
    """
    low, high = (0.0, 255.0) if image.dtype == np.uint8 else (float(image.min()), float(image.max()))
    values = (np.atleast_3d(image).astype(np.float32) - low) / max(high - low, 1e-12)
    values = KINDS[rng.integers(len(KINDS))](values, rng)
    if values.shape[:2] != mask.shape:
        rows, columns = (_nearest(before, after) for before, after in zip(mask.shape, values.shape, strict=False))
        mask = mask[np.ix_(rows, columns)]
    values = np.clip(values, 0, 1) * (high - low) + low
    if np.issubdtype(image.dtype, np.integer):
        values = np.rint(values)
    return values.astype(image.dtype).reshape(*values.shape[:2], *image.shape[2:]), mask


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _blurred(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sigma = _log_uniform(rng, 0.5, 6)
    return ndimage.gaussian_filter(values, (sigma, sigma, 0))


def _moved(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The camera moved: the mean along a line."""
    length = int(_log_uniform(rng, 3, 24))
    return ndimage.uniform_filter1d(values, length, axis=int(rng.integers(2)))


def _noisy(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of the sensor: of each pixel, or of grains of a few pixels; the same in all channels or not."""
    shape = (*values.shape[:2], values.shape[2] if rng.random() < 0.5 else 1)
    noise = rng.normal(0, 1, shape)
    if rng.random() < 0.3:
        noise = ndimage.gaussian_filter(noise, (1, 1, 0))
        noise /= noise.std()
    return values + _log_uniform(rng, 0.01, 0.3) * noise


def _specked(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pixels that are dead or hot."""
    which = rng.random(values.shape[:2])
    share = _log_uniform(rng, 0.002, 0.1)
    return np.where((which < share)[..., None], np.float32(rng.integers(2)), values)


def _exposed(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Too dark, or too bright and cut off."""
    return values * _log_uniform(rng, *(_DARKER if rng.random() < 0.5 else _BRIGHTER))


def _bent(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another gamma."""
    power = _log_uniform(rng, 1.2, 5)
    return values ** (power if rng.random() < 0.5 else 1 / power)


def _faded(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Less contrast: haze, a lens against the light."""
    kept = _log_uniform(rng, 0.1, 0.8)
    return kept * values + (1 - kept) * rng.uniform(0, 1)


def _shaded(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light from one side."""
    y, x = np.mgrid[: values.shape[0], : values.shape[1]] / np.array(values.shape[:2]).reshape(2, 1, 1)
    angle = rng.uniform(0, 2 * np.pi)
    slope = (y - 0.5) * np.sin(angle) + (x - 0.5) * np.cos(angle)
    return values * np.exp(_log_uniform(rng, 0.5, 4) * slope)[..., None]


def _stained(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Dirt on the glass: dark or bright round spots with soft rims."""
    height, width = values.shape[:2]
    y, x = np.mgrid[:height, :width]
    kept = np.ones((height, width), np.float32)
    for _ in range(int(_log_uniform(rng, 1, 40))):
        radius = rng.uniform(0.02, 0.15) * min(height, width)
        far = np.hypot(y - rng.uniform(0, height), x - rng.uniform(0, width)) / radius
        kept *= 1 - rng.uniform(0.3, 0.9) * np.clip(1.5 - far, 0, 1)
    return 1 - (1 - values) * kept[..., None] if rng.random() < 0.3 else values * kept[..., None]


def _compressed(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """JPEG of low quality; channel by channel where there are not one or three."""
    quality = int(_log_uniform(rng, 3, 50))
    pixels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    planes = [pixels] if pixels.shape[-1] == 3 else np.split(pixels, pixels.shape[-1], -1)
    decoded = []
    for plane in planes:
        buffer = io.BytesIO()
        Image.fromarray(plane if plane.shape[-1] == 3 else plane[..., 0]).save(buffer, "JPEG", quality=quality)
        decoded.append(np.atleast_3d(np.asarray(Image.open(buffer, formats=("JPEG",)))))
    return np.concatenate(decoded, -1).astype(np.float32) / 255


def _coloured(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another lamp or stain: channels mixed anew; of one channel, the negative."""
    channels = values.shape[-1]
    if channels == 1:
        return 1 - values
    share = rng.uniform(0.1, 1)
    return (1 - share) * values + share * values[..., rng.permutation(channels)] * rng.uniform(0.6, 1.4, channels)


def _resized(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another magnification or distance."""
    factor = max(_log_uniform(rng, 0.3, 3), _LEAST_SIDE / min(values.shape[:2]))
    return ndimage.zoom(values, (factor, factor, 1), order=1)


def _nearest(before: int, after: int) -> np.ndarray:
    """Return which of so many pixels each of another number shows, the first and the last ones meeting, (after,)."""
    return np.rint(np.linspace(0, before - 1, after)).astype(int)


KINDS: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (
    _blurred,
    _moved,
    _noisy,
    _specked,
    _exposed,
    _bent,
    _faded,
    _shaded,
    _stained,
    _compressed,
    _coloured,
    _resized,
)
