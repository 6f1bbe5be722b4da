"""Pictures drawn by formula, with the mask of each, for a start that has seen no data: `shapes`.

Networks that were trained on contours drawn by formula transfer about as well as on photographs (Nakashima 2022, radial
contours; SegRCDB 2023, the same with a mask for segmentation). Here a figure is a closed curve
r(t) = R (1 + sum_k a_k cos(k t + p_k)), squeezed and turned, and a thread is a smooth open curve of some px. What is
asked is what pictures through a microscope ask: figures that are told by their level, by their rim or by their texture
alone, and thin lines, in any polarity, under uneven light, blur and noise. No picture of anything is used.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from unetres_edge.files import make_folder, write_bytes

CLASSES = ("background", "filled", "outlined", "textured", "thread")
_WAVES = 6  # of a contour
_LEAST_CONTRAST, _MOST_CONTRAST = 0.12, 0.5  # of full scale
_GREY_SHARE = 0.6  # of the pictures
_LEAST_AREA = 40  # px

_Floats = NDArray[np.float64]


def draw_shapes(index: int, *, seed: int = 0, size: int = 256) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw picture `index` of the series `seed`; the same arguments give the same picture.

    Returns:
        The picture (H, W, 3) uint8, of most of which the channels are equal, and its mask (H, W) uint8 of class ids.
    """
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))
    scene = _Scene(rng, size)
    scale = rng.uniform(7, 45)  # px, the usual radius of this picture
    kinds = rng.permutation([1, 2, 3])[: rng.integers(1, 4)]
    for _ in range(int(rng.uniform(0.2, 0.8) * size**2 / (np.pi * scale**2)) + 1):
        scene.add_figure(int(rng.choice(kinds)), scale * rng.uniform(0.6, 1.5))
    if rng.random() < 0.4:
        for _ in range(rng.integers(1, 9)):
            scene.add_thread()
    return scene.exposed(), scene.mask


def write_shapes(folder: Path, *, num_images: int, seed: int = 0, size: int = 256) -> Path:
    """Write pictures 0 to `num_images - 1` of a series as a data set, and return its folder."""
    images, masks = make_folder(folder / "images"), make_folder(folder / "masks")
    write_bytes(folder / "classes.txt", "".join(f"{name}\n" for name in CLASSES).encode())
    for index in range(num_images):
        for place, array in zip((images, masks), draw_shapes(index, seed=seed, size=size), strict=True):
            write_bytes(place / f"shapes_{index:04d}.png", _png(array))
    return folder


class _Scene:
    """A picture as it is drawn: light (H, W, 3), 0 to 1, and the mask."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self._rng, self._size = rng, size
        self._rows, self._cols = np.mgrid[:size, :size].astype(np.float64)
        self._grey = rng.random() < _GREY_SHARE
        self._base = self._tone(rng.uniform(0.05, 0.95))
        self._contrast = rng.uniform(_LEAST_CONTRAST, _MOST_CONTRAST)
        self._sign = 1 if self._base.mean() < rng.uniform(0.3, 0.7) else -1
        self._light = self._base + rng.uniform(0, 0.06) * self._field(rng.uniform(1, 12))[..., None]
        self._rim, self._grain = rng.uniform(1.0, 3.0), rng.uniform(0.8, 2.5)
        self.mask: NDArray[np.uint8] = np.zeros((size, size), np.uint8)

    def add_figure(self, kind: int, radius: float) -> None:
        """Draw a figure that is told by its level (1), by its rim (2) or by its texture (3)."""
        box, depth = self._contour(radius)
        light, mask = self._light[box], self.mask[box]
        # One that touches another is parted from it by a line of background.
        inside = (depth > 0) & ~ndimage.binary_dilation(mask > 0, iterations=2)
        if inside.sum() < _LEAST_AREA:
            return
        step = self._sign * self._contrast * self._rng.uniform(0.6, 1.3)
        if kind == 1:
            shade = (1 - self._rng.uniform(0, 0.4) * np.clip(depth / radius, 0, 1)) * inside
        elif kind == 2:
            shade = np.exp(-((depth / self._rim) ** 2)) * (inside | ((depth < 0) & (mask == 0)))
        else:
            shade = 0.7 * self._field(self._grain, depth.shape) * inside
        light += self._hue(step) * shade[..., None]
        mask[inside] = kind

    def add_thread(self) -> None:
        """Draw a smooth open curve of 1 to 4 px over what is there."""
        start, angle = self._rng.uniform(0, self._size, 2), self._rng.uniform(0, 2 * np.pi)
        bends = ndimage.gaussian_filter1d(self._rng.normal(0, 1, self._size), 12) * self._rng.uniform(0.1, 0.5)
        turned = angle + np.cumsum(bends)
        places = start[:, None] + np.cumsum(np.stack([np.sin(turned), np.cos(turned)]), 1)
        far = np.ones((self._size, self._size))
        rows, cols = places.round().astype(int)
        there = (rows >= 0) & (cols >= 0) & (rows < self._size) & (cols < self._size)
        far[rows[there], cols[there]] = 0
        if not there.any():
            return
        far = ndimage.distance_transform_edt(far)
        width = self._rng.uniform(0.7, 2.2)
        shade = np.clip(width + 0.5 - far, 0, 1)[..., None]
        self._light += self._hue(self._sign * self._contrast * self._rng.uniform(0.6, 1.2)) * shade
        self.mask[far <= width] = 4

    def exposed(self) -> NDArray[np.uint8]:
        """Return the picture under uneven light, blurred, with noise, as bytes."""
        rng = self._rng
        uneven = ndimage.zoom(self._field(rng.uniform(3, 6), (32, 32)), self._size / 32, order=1)
        light = self._light * (1 + rng.uniform(0, 0.25) * uneven)[..., None]
        light = ndimage.gaussian_filter(light, (*[rng.uniform(0.2, 1.4)] * 2, 0))
        noise = rng.normal(0, rng.uniform(0.005, 0.06), (self._size, self._size, 1 if self._grey else 3))
        return np.uint8(np.clip(255 * (light + noise), 0, 255).round())

    def _contour(self, radius: float) -> tuple[tuple[slice, slice], _Floats]:
        """Return a box, and how many px each of its pixels lies inside of a new contour, about."""
        rng, reach = self._rng, int(2.2 * radius) + 8
        row, col = rng.integers(0, self._size, 2)
        box = slice(max(0, row - reach), row + reach), slice(max(0, col - reach), col + reach)
        turn, squeeze = rng.uniform(0, np.pi), rng.uniform(1.0, 1.8)
        down, across = self._rows[box] - row, self._cols[box] - col
        y = (down * np.cos(turn) + across * np.sin(turn)) * squeeze
        x = across * np.cos(turn) - down * np.sin(turn)
        waves = np.arange(2, 2 + _WAVES)
        heights = rng.normal(0, rng.uniform(0.02, 0.35), _WAVES) / waves
        phases = rng.uniform(0, 2 * np.pi, _WAVES)
        angle = np.arctan2(y, x)
        edge = 1 + sum(a * np.cos(k * angle + p) for k, a, p in zip(waves, heights, phases, strict=True))
        depth: _Floats = radius * np.clip(edge, 0.3, 2.0) - np.hypot(x, y)
        return box, depth

    def _field(self, smooth: float, shape: tuple[int, ...] | None = None) -> _Floats:
        """Return a random field (H, W) of mean 0 and spread 1 that is smooth over some px."""
        noise = self._rng.normal(0, 1, shape or (self._size, self._size))
        field = ndimage.gaussian_filter(noise, smooth, mode="wrap")
        return np.asarray((field - field.mean()) / field.std())

    def _tone(self, level: float) -> _Floats:
        """Return a colour (3,) of some brightness."""
        return level + (0 if self._grey else 1) * self._rng.uniform(-0.2, 0.2, 3)

    def _hue(self, step: float) -> _Floats:
        """Return a change of level (3,), in a picture with colour another in each channel."""
        return step * (np.ones(3) if self._grey else self._rng.uniform(0.3, 1.7, 3))


def _png(array: NDArray[np.uint8]) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(array).save(file, "PNG")
        return file.getvalue()
