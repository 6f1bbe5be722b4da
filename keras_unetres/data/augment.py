"""Random changes of a training sample: one field of coordinates, sampled once, image, mask and weight alike.

Crop, flips, quarter turns, rotation, scale, shear and elastic displacement are one map from the pixels of the crop to
places in the image. The image is read there bilinearly, mask and weight at the nearest pixel. Then the light of the
image alone is changed. Everything random is a function of the key. The whole is two programs compiled by XLA: one that
draws, and one that samples a window of the image, of a fixed size, so that images of any size share the program.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.interpolate import CubicSpline

from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import IGNORE, Preprocessing

from ..choices.augmentations import Augmentation

_FURTHEST = 3.0  # standard deviations; the normal draws of the control points are cut off there
_STEEPEST = 0.8  # largest |d/dy| + |d/dx| of a displacement; below 1 nothing folds over
_BENT, _GRAINY = 1, 2  # what the keys of the control points and of the noise are told apart by


def augment(
    image: tf.Tensor,
    mask: tf.Tensor,
    key: tf.Tensor,
    settings: Augmentation,
    pre: Preprocessing,
    *,
    weight: tf.Tensor | None = None,
    centre: tf.Tensor | None = None,
    outside: str = "ignore",
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Sample one crop from a prepared pair and change it at random. The same key gives the same bits.

    A sample that is not distorted is an exact copy: each of its pixels lies on a pixel of the image.

    Args:
        image: (H, W, C) uint8, as `Preprocessing.prepare` gives it.
        mask: (H, W) uint8 class ids and `IGNORE`.
        key: (2,) int64.
        weight: (H, W) float32, or None.
        centre: None to place the crop anywhere, or (row, column) of a place that it shall contain: in its middle half
            where the border of the image allows.
        outside: content beyond the border. The image is always mirrored there about its outermost pixels. "ignore"
            makes the mask `IGNORE` and the weight 0, "reflect" mirrors them too.

    Returns:
        (pixels (h, w, C) float32 as the network sees them, labels (h, w) int32, weights (h, w) float32, 0 wherever the
        label is `IGNORE`, or None).

    Raises:
        UsageError: `outside` is something else.
    """
    word, depth = word_form(pre.channels)
    words = tf.ensure_shape(tf.numpy_function(pack, [image, mask], word, stateful=False), [None, None, depth])
    return augment_packed(words, key, settings, pre, weight=weight, centre=centre, outside=outside)


def augment_packed(
    words: tf.Tensor,
    key: tf.Tensor,
    settings: Augmentation,
    pre: Preprocessing,
    *,
    weight: tf.Tensor | None = None,
    centre: tf.Tensor | None = None,
    outside: str = "ignore",
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Do what `augment` does, from what `pack` gives."""
    if outside not in ("ignore", "reflect"):
        raise UsageError("augmentation outside is wrong", expected="'ignore' or 'reflect'", found=repr(outside))
    sampler = _sampler(settings, pre, centre is not None, weight is not None, outside)
    planes = [words] if weight is None else [words, weight[..., None]]

    def cut(begin: tf.Tensor, size: tf.Tensor) -> list[tf.Tensor]:
        begin = tf.pad(begin, [[0, 1]])
        return [tf.slice(values, begin, tf.concat([size, [values.shape[2]]], 0)) for values in planes]

    with tf.device("CPU:0"):
        return sampler(cut, tf.shape(words)[:2], key, centre)


def augment_window(
    read: Callable[[tf.Tensor, tf.Tensor], list[tf.Tensor]],
    shape: tf.Tensor,
    key: tf.Tensor,
    settings: Augmentation,
    pre: Preprocessing,
    *,
    weighted: bool = False,
    centre: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Do what `augment` does, from the window alone that the crop shows, so that the rest need not be in memory.

    Args:
        read: (first row and column (2,) int32, rows and columns (2,) int32) -> that window of what `pack` gives, and if
            `weighted` that of the weights (h, w, 1).
        shape: (2,) int32, of the whole sample.
        key, settings, pre, centre: as for `augment`.
        weighted: whether there are weights.
    """
    with tf.device("CPU:0"):
        return _sampler(settings, pre, centre is not None, weighted, "ignore")(read, shape, key, centre)


def pack(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Put the channels of each pixel and its class side by side, so that one look-up brings them all.

    Args:
        image: (H, W, C) uint8.
        mask: (H, W) uint8.

    Returns:
        (H, W, n): one uint16 for a grey pixel, else int32 words of four bytes each. `unpack` gives views of it.
    """
    channels = image.shape[2]
    word, depth = word_form(channels)
    pixels = np.zeros((*mask.shape, word.size * depth), np.uint8)
    pixels[..., :channels] = image
    pixels[..., channels] = mask
    return pixels.view(word.as_numpy_dtype)


def unpack(words: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the image (H, W, C) uint8 and the mask (H, W) uint8 in what `pack` gave, as views."""
    pixels = words.view(np.uint8)
    return pixels[..., :channels], pixels[..., channels]


def word_form(channels: int) -> tuple[tf.DType, int]:
    """Return the dtype of the words that `pack` gives, and how many there are for a pixel."""
    return (tf.uint16, 1) if channels == 1 else (tf.int32, channels // 4 + 1)


def coordinates(
    shape: tuple[int, int],
    key: tf.Tensor,
    settings: Augmentation,
    pre: Preprocessing,
    *,
    centre: tf.Tensor | None = None,
) -> tf.Tensor:
    """Return the (row, column) of an image of this shape that each pixel of `augment`'s crop shows: (2, h, w) float32.

    Pixel centres lie at whole numbers. Places beyond the border are returned as they are, not mirrored.
    """
    sampler = _sampler(settings, pre, centre is not None, False, "ignore")
    with tf.device("CPU:0"):
        return tf.stack(sampler.field(sampler.plan(key, tf.constant(shape), centre)))


@lru_cache(maxsize=32)
def _sampler(settings: Augmentation, pre: Preprocessing, centred: bool, weighted: bool, outside: str) -> _Sampler:
    return _Sampler(settings, pre, centred, weighted, outside)


class _Sampler:
    """Draws and applies one way of augmenting, by one compiled function each."""

    def __init__(self, settings: Augmentation, pre: Preprocessing, centred: bool, weighted: bool, outside: str) -> None:
        self.settings, self.pre, self.outside = settings, pre, outside
        self.spline = Spline(pre.size, settings.elastic_grid) if settings.distorts and settings.elastic else None
        self.window = _window(settings, pre.size, self.spline)
        self._centred, self._weighted = centred, weighted
        self._plan = tf.function(self._draw, jit_compile=True, autograph=False)
        self._fill = tf.function(self._sample, jit_compile=True, autograph=False)

    def __call__(
        self,
        read: Callable[[tf.Tensor, tf.Tensor], list[tf.Tensor]],
        shape: tf.Tensor,
        key: tf.Tensor,
        centre: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        plan = self.plan(key, shape, centre)
        begin = plan.pop("begin")
        size = tf.minimum(tf.constant(self.window), shape)

        def filled(window: tf.Tensor) -> tf.Tensor:
            """Return a window (h, w, n) as one row, filled up to its fixed length."""
            length = self.window[0] * self.window[1] * window.shape[2]
            row = tf.reshape(window, [-1])
            row = tf.concat([row, tf.zeros([length - tf.size(row)], row.dtype)], 0)
            return tf.ensure_shape(row, [length])

        planes = [filled(window) for window in read(begin, size)]
        pixels, labels, *weights = self._fill(planes, plan, key, shape, begin, size[1])
        return pixels, labels, weights[0] if weights else None

    def plan(self, key: tf.Tensor, shape: tf.Tensor, centre: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """Return what was drawn for a key."""
        return self._plan(key, shape, tf.zeros([2]) if centre is None else tf.cast(centre, tf.float32))

    def _draw(self, key: tf.Tensor, shape: tf.Tensor, centre: tf.Tensor) -> dict[str, tf.Tensor]:
        """Draw everything but the noise, and place the crop."""
        settings = self.settings
        draw = tf.random.stateless_uniform([14 + self.pre.channels], seed=key, alg="philox")
        distorted = draw[0] < (settings.distorted if settings.distorts else 0.0)
        matrix = _matrix(draw[1:7], distorted, settings)
        plan = {"distorted": distorted, "matrix": matrix, "light": draw[9:]}
        middle = self._middle(draw[7:9], distorted, matrix, tf.cast(shape, tf.float32), centre)
        plan["middle"] = middle
        if self.spline is not None:
            plan["grid"] = self.spline.draw(key, settings.elastic) * tf.cast(distorted, tf.float32)
        window = tf.constant(self.window)
        begin = tf.cast(tf.floor(middle - tf.cast(window, tf.float32) / 2), tf.int32) + 1
        plan["begin"] = tf.clip_by_value(begin, 0, tf.maximum(shape - window, 0))
        return plan

    def _middle(
        self, draw: tf.Tensor, distorted: tf.Tensor, matrix: tf.Tensor, room: tf.Tensor, centre: tf.Tensor
    ) -> tf.Tensor:
        """Return the place in the image of the crop's middle, so that the crop shows as little else as can be."""
        size = tf.constant(self.pre.size, tf.float32)
        reach = tf.linalg.matvec(tf.abs(matrix), size)
        low, high = (reach - 1) / 2, room - (reach + 1) / 2
        centre = tf.clip_by_value(centre, 0.0, room - 1)
        if self._centred:
            wanted = centre - tf.linalg.matvec(matrix, (draw - 0.5) * size / 2)
        else:
            wanted = low + draw * (room - reach + 1) - 0.5
        fraction = low - tf.floor(low)  # of a pixel; keeps a crop that is not distorted on the pixels of the image
        wanted = tf.where(distorted, wanted, tf.round(wanted - fraction) + fraction)
        middle = tf.where(high > low, tf.clip_by_value(wanted, low, high), tf.floor((room - reach) / 2) + low)
        if not self._centred:
            return middle
        # A turned crop does not fill its bounding box: it may leave the image rather than miss the place.
        away = middle - centre
        area = tf.abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0])
        most = 0.35 * tf.reduce_min(size) * tf.sqrt(area)
        near = centre + away * tf.minimum(1.0, most / tf.maximum(tf.norm(away), 1e-6))
        return tf.where(distorted, near, middle)

    def _sample(
        self,
        planes: list[tf.Tensor],
        plan: dict[str, tf.Tensor],
        key: tf.Tensor,
        shape: tf.Tensor,
        begin: tf.Tensor,
        stride: tf.Tensor,
    ) -> list[tf.Tensor]:
        """Read the window at the coordinates of the crop and change its light."""
        channels = self.pre.channels
        places, inside = [], True
        for axis, position in enumerate(self.field(plan)):
            last = tf.cast(shape[axis] - 1, tf.float32)
            inside &= tf.abs(position - last / 2) <= (last + 1) / 2
            places.append(_mirror(position, last) - tf.cast(begin[axis], tf.float32))
        y, x = places
        nearest = tf.cast(y + 0.5, tf.int32) * stride + tf.cast(x + 0.5, tf.int32)
        depth = word_form(channels)[1]
        words = [tf.reshape(planes[0], [-1, depth])[:, n] for n in range(depth)]

        def byte(at: tf.Tensor, number: int) -> tf.Tensor:
            """Return a byte of the pixels at some places of the window, (h, w) int32: a channel, or the class."""
            word = tf.cast(tf.gather(words[number // 4], at), tf.int32)
            return tf.bitwise.bitwise_and(tf.bitwise.right_shift(word, 8 * (number % 4)), 255)

        def read(at: tf.Tensor) -> list[tf.Tensor]:
            return [tf.cast(byte(at, channel), tf.float32) for channel in range(channels)]

        def copied() -> tf.Tensor:
            return tf.stack(read(nearest))

        def blended() -> tf.Tensor:
            top, left = tf.floor(y), tf.floor(x)
            down, right = y - top, x - left  # 0 on the last row and column, where the next pixel is another's
            first = tf.cast(top, tf.int32) * stride + tf.cast(left, tf.int32)
            corners = [read(first + offset) for offset in (0, 1, stride, stride + 1)]
            blends = []
            for a, b, c, d in zip(*corners, strict=True):
                upper, lower = a + right * (b - a), c + right * (d - c)
                blends.append(upper + down * (lower - upper))
            return tf.stack(blends)

        def blank() -> tf.Tensor:
            return tf.zeros([channels, *self.pre.size])

        # What a branch returns is computed once. Else XLA would sample anew wherever the pixels are used, several times
        # as slowly: that is why there is a branch even if nothing is ever distorted.
        pixels = tf.cond(plan["distorted"], blended if self.settings.distorts else blank, copied)
        labels = byte(nearest, channels)
        if self.outside == "ignore":
            labels = tf.where(inside, labels, IGNORE)
        pixels = _change_light(pixels / 255.0, plan["light"], key, self.settings)
        out = [self._values(tf.transpose(pixels, [1, 2, 0])), labels]
        if self._weighted:
            out.append(tf.where(labels == IGNORE, 0.0, tf.gather(planes[1], nearest)))
        return out

    def field(self, plan: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the row and the column of the image that each pixel of the crop shows, (h, w) float32."""
        rows, columns = (tf.range(n, dtype=tf.float32) - (n - 1) / 2 for n in self.pre.size)
        down, right = rows[:, None], columns[None]
        if self.spline is not None:
            moved = self.spline.field(plan["grid"])
            down, right = down + moved[0], right + moved[1]
        matrix, middle = plan["matrix"], plan["middle"]
        y = middle[0] + matrix[0, 0] * down + matrix[0, 1] * right
        x = middle[1] + matrix[1, 0] * down + matrix[1, 1] * right
        return y, x

    def _values(self, pixels: tf.Tensor) -> tf.Tensor:
        low, high = self.pre.value_range
        return (low + (high - low) * pixels - self.pre.mean) / self.pre.std


class Spline:
    """A smooth displacement of a crop from that of a few control points, by two matrix products.

    Args:
        size: (height, width) of the crop in px.
        points: control points a side; the outermost lie on the outermost pixels.
    """

    def __init__(self, size: tuple[int, int], points: int) -> None:
        self.points = points
        self._at = [_spline(np.arange(n), n, points) for n in size]
        coarse = [np.linspace(0, n - 1, 4 * points - 3) for n in size]
        self._coarse = [_spline(at, n, points) for at, n in zip(coarse, size, strict=True)]
        self._slope = [_spline(at, n, points, 1) for at, n in zip(coarse, size, strict=True)]
        self.gain = float(np.prod([np.abs(at).sum(1).max() for at in self._at]))  # furthest pixel / furthest point

    def draw(self, key: tf.Tensor, std: float) -> tf.Tensor:
        """Return the displacement (2, points, points) of the control points, rows then columns, in px."""
        seed = tf.random.experimental.stateless_fold_in(key, _BENT)
        grid = tf.random.stateless_normal([2, self.points, self.points], seed=seed, alg="philox")
        grid = std * tf.clip_by_value(grid, -_FURTHEST, _FURTHEST)
        steep = tf.abs(_products(self._slope[0], grid, self._coarse[1]))
        steep += tf.abs(_products(self._coarse[0], grid, self._slope[1]))
        return grid * tf.minimum(1.0, _STEEPEST / tf.maximum(tf.reduce_max(steep), 1e-6))

    def field(self, grid: tf.Tensor) -> tf.Tensor:
        """Return the displacement (2, h, w) of every pixel, rows then columns, in px."""
        return _products(self._at[0], grid, self._at[1])


def _products(left: np.ndarray, grid: tf.Tensor, right: np.ndarray) -> tf.Tensor:
    return tf.linalg.matmul(left @ grid, right, transpose_b=True)


def _spline(at: np.ndarray, length: int, points: int, derivative: int = 0) -> np.ndarray:
    """Return the matrix (len(at), points) float32 that evaluates a natural cubic spline over 0 to length - 1."""
    knots = np.linspace(0, max(length - 1, 1), points)
    return CubicSpline(knots, np.eye(points), bc_type="natural")(at, derivative).astype(np.float32)


def _window(settings: Augmentation, size: tuple[int, int], spline: Spline | None) -> tuple[int, int]:
    """Return (height, width) of the largest part of an image that a crop can show, with a margin for its neighbours."""
    moved = 0.0 if spline is None else 2 * _FURTHEST * settings.elastic * spline.gain
    height, width = size[0] + moved, size[1] + moved
    if settings.quarter_turns:
        height = width = max(height, width)
    if settings.distorts:
        angle = math.radians(min(settings.rotation, 90))
        lean = math.tan(math.radians(settings.shear))

        def reach(along: float, across: float) -> float:
            best = min(angle, math.atan2(across, along))
            return (along * math.cos(best) + across * math.sin(best)) / settings.scale[0]

        height, width = (
            reach(height + lean * width, width + lean * height),
            reach(width + lean * height, height + lean * width),
        )
    return math.ceil(height) + 4, math.ceil(width) + 4


def _matrix(draw: tf.Tensor, distorted: tf.Tensor, settings: Augmentation) -> tf.Tensor:
    """Return the (2, 2) matrix from steps in the crop to steps in the image, both (row, column)."""
    quarter = tf.cast(4 * draw[5], tf.int32) if settings.quarter_turns else tf.constant(0)
    cosine, sine = tf.gather([1.0, 0.0, -1.0, 0.0], quarter), tf.gather([0.0, 1.0, 0.0, -1.0], quarter)
    matrix = _square(cosine, sine, -sine, cosine)
    if settings.distorts:
        low, high = np.log(settings.scale)
        zoom = tf.exp(low + (high - low) * draw[0])
        angle = (2 * draw[1] - 1) * math.radians(settings.rotation)
        lean = tf.tan((2 * draw[2] - 1) * math.radians(settings.shear))
        cosine, sine = tf.cos(angle) / zoom, tf.sin(angle) / zoom
        bent = _square(cosine, sine, -sine, cosine) @ _square(1.0, 0.0, lean, 1.0) @ matrix
        matrix = tf.where(distorted, bent, matrix)
    signs = tf.stack([_sign(draw[4], settings.flip_up_down), _sign(draw[3], settings.flip_left_right)])
    return matrix * signs[None]


def _square(a: Any, b: Any, c: Any, d: Any) -> tf.Tensor:
    return tf.reshape(tf.stack([a, b, c, d]), [2, 2])


def _sign(draw: tf.Tensor, wanted: bool) -> tf.Tensor:
    return tf.where(draw < 0.5, -1.0, 1.0) if wanted else tf.constant(1.0)


def _mirror(position: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """Fold coordinates into [0, last] by mirroring at 0 and at `last`; those inside stay as they are, bit for bit."""
    period = tf.maximum(2 * last, 1.0)
    return tf.minimum(tf.abs(position - period * tf.round(position / period)), last)


def _change_light(pixels: tf.Tensor, draw: tf.Tensor, key: tf.Tensor, settings: Augmentation) -> tf.Tensor:
    """Change the light of (C, h, w) pixels in [0, 1], then their sharpness, then their noise."""
    sign = 2 * draw - 1
    if settings.gamma:
        power = tf.exp(settings.gamma * sign[0])
        pixels = tf.exp(power * tf.math.log(tf.maximum(pixels, 1e-12)))  # many times as fast as tf.pow
    if settings.contrast or settings.brightness:
        middle = tf.reduce_mean(pixels)
        pixels = (pixels - middle) * (1 + settings.contrast * sign[1]) + middle + settings.brightness * sign[2]
    if settings.color and pixels.shape[0] > 1:
        pixels *= 1 + settings.color * sign[5:, None, None]
    if settings.blur:
        pixels = _blur(pixels, settings.blur * draw[3], math.ceil(3 * settings.blur))
    if settings.noise:
        seed = tf.random.experimental.stateless_fold_in(key, _GRAINY)
        pixels += settings.noise * draw[4] * tf.random.stateless_normal(pixels.shape, seed=seed, alg="philox")
    return tf.clip_by_value(pixels, 0.0, 1.0)


def _blur(pixels: tf.Tensor, std: tf.Tensor, radius: int) -> tf.Tensor:
    """Filter (C, h, w) pixels by a Gaussian cut off at `radius`, mirrored at the border."""
    for axis in (1, 2):
        length = pixels.shape[axis]
        reach = min(radius, length - 1)
        taps = tf.exp(-0.5 * tf.square(tf.range(-reach, reach + 1, dtype=tf.float32) / tf.maximum(std, 1e-3)))
        taps /= tf.reduce_sum(taps)
        padded = tf.pad(pixels, [[reach, reach] if n == axis else [0, 0] for n in range(3)], "REFLECT")
        parts = [padded[:, n : n + length] if axis == 1 else padded[..., n : n + length] for n in range(2 * reach + 1)]
        pixels = tf.add_n([taps[n] * part for n, part in enumerate(parts)])
    return pixels
