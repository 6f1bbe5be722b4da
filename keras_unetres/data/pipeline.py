"""The `tf.data` pipeline: decoded pairs -> keyed order -> one affine sampling of image and mask -> batches.

Everything random is a function of (seed, epoch, position in the epoch), so a run that is resumed sees what an
undisturbed one would have seen. Cropping, flips, rotation and scale are one resampling of the prepared uint8 image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from unetres_edge.errors import DataError, ImageError
from unetres_edge.preprocessing import IGNORE, Preprocessing
from unetres_edge.tiles import pad_to_tile, tile_origins

from .records import Records


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training sample.

    Args:
        flip_left_right: mirror half of the samples.
        flip_up_down: mirror half of the samples.
        quarter_turns: turn by a random multiple of 90 degrees, which moves pixels and changes none.
        distorted: share of the samples that are rotated and scaled as follows.
        rotation: largest rotation either way, in degrees.
        scale: smallest and largest magnification.
        brightness: largest shift, as a fraction of full scale.
        contrast: largest change of the contrast factor.
        gamma: largest change of the exponent's logarithm.
    """

    flip_left_right: bool = True
    flip_up_down: bool = False
    quarter_turns: bool = False
    distorted: float = 0.5
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0


AUGMENTATIONS = {
    "none": Augmentation(flip_left_right=False),
    "natural": Augmentation(rotation=5, scale=(0.75, 1.5), brightness=0.12, contrast=0.25, gamma=0.2),
    "microscopy": Augmentation(
        flip_up_down=True,
        quarter_turns=True,
        rotation=45,
        scale=(0.8, 1.25),
        brightness=0.1,
        contrast=0.2,
        gamma=0.2,
    ),
}


class Samples:
    """The prepared pairs of a split, and how many crops of each make an epoch.

    Args:
        records: decoded pairs.
        pre: how images meet the network. For "resize" and "letterbox" a pair is scaled to the network's size here.
    """

    def __init__(self, records: Records, pre: Preprocessing) -> None:
        self.pre = pre
        self.pairs = records.pairs
        self._records = records
        self._kept: list[tuple[np.ndarray, np.ndarray] | None] = [None] * len(records)
        area = pre.size[0] * pre.size[1]
        crops = [max(1, round(h * w / area)) if pre.fit == "crop" else 1 for h, w in records.sizes]
        self._prepare_kept()
        self.owners = np.repeat(np.arange(len(records)), crops).astype(np.int64)

    def pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ((H, W, C) uint8 prepared image, (H, W) uint8 mask) of record `index`."""
        kept = self._kept[index]
        if kept is not None:
            return kept
        image, mask = self._records[index]
        image = self.pre.prepare(image)
        if self.pre.fit != "crop":
            place = self.pre.place(*mask.shape)
            image, mask = place.image(image), place.mask(mask)
        if self._records.in_memory[index]:
            self._kept[index] = (image, mask)
        return image, mask

    def _prepare_kept(self) -> None:
        """Prepare the pairs that stay in memory now, so that faults are named before training, all at once."""
        faults = []
        for index, pair in enumerate(self.pairs):
            if self._records.in_memory[index]:
                try:
                    self.pair(index)
                except ImageError as error:
                    faults.append(f"{pair.name}: {error.message}" + (f" ({error.found})" if error.found else ""))
        if faults:
            raise DataError(f"{len(faults)} of {len(self.pairs)} images cannot be prepared: " + " | ".join(faults))

    def steps(self, batch_size: int) -> int:
        """Return the number of batches in an epoch, the last filled up from the epoch's start."""
        return math.ceil(len(self.owners) / batch_size)


def training_batches(
    samples: Samples, augmentation: Augmentation, *, batch_size: int, seed: int, first_epoch: int, epochs: int
) -> tf.data.Dataset:
    """Return the batches of epochs [first_epoch, epochs), endless epochs of `samples.steps(batch_size)` batches each.

    Yields:
        (images (N, h, w, C) float32 as the network sees them, masks (N, h, w) int32).
    """
    total = samples.steps(batch_size) * batch_size

    def positions(epoch: tf.Tensor) -> tf.data.Dataset:
        owners = tf.gather(samples.owners, tf.range(total, dtype=tf.int64) % len(samples.owners))
        order = tf.random.experimental.stateless_shuffle(owners, seed=tf.stack([tf.cast(seed, tf.int64), epoch]))
        keys = epoch * total + tf.range(total, dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices((order, keys))

    def sample(owner: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, mask = tf.numpy_function(samples.pair, [owner], (tf.uint8, tf.uint8), stateful=False)
        image.set_shape([None, None, samples.pre.channels])
        mask.set_shape([None, None])
        return _augment(image, mask, tf.stack([tf.cast(seed + 1, tf.int64), key]), augmentation, samples.pre)

    data = tf.data.Dataset.range(first_epoch, epochs).flat_map(positions)
    data = data.map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return data.batch(batch_size, drop_remainder=True).prefetch(2)


def validation_batches(samples: Samples, *, batch_size: int) -> tf.data.Dataset:
    """Return fixed crops that cover every pixel once, filled up to whole batches with crops that are all `IGNORE`.

    Yields:
        (images (N, h, w, C) float32, masks (N, h, w) int32).
    """
    crops = [crop for index in range(len(samples.pairs)) for crop in _cover(samples, index)]
    missing = -len(crops) % batch_size
    crops += [(crops[0][0], np.full_like(crops[0][1], IGNORE))] * missing
    images, masks = (np.stack(part) for part in zip(*crops, strict=True))
    data = tf.data.Dataset.from_tensor_slices((images, masks)).batch(batch_size, drop_remainder=True)
    table = tf.constant(samples.pre.table())

    def values(image: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        planes = [tf.gather(table[:, c], tf.cast(image[..., c], tf.int32)) for c in range(samples.pre.channels)]
        return tf.stack(planes, -1), tf.cast(mask, tf.int32)

    return data.map(values, num_parallel_calls=1).prefetch(1)


def calibration_crops(samples: Samples, *, count: int, max_bytes: int = 16 << 20) -> np.ndarray:
    """Return up to `count` plain crops (N, h, w, C) uint8 of training images, spread evenly over them."""
    height, width = samples.pre.size
    count = max(1, min(count, max_bytes // (height * width * samples.pre.channels)))
    cover: list[tuple[int, int]] = []
    for index in range(len(samples.pairs)):
        cover += [(index, n) for n in range(len(_origins(samples, index)))]
    chosen = cover if len(cover) <= count else [cover[i] for i in np.linspace(0, len(cover) - 1, count).astype(int)]
    crops = []
    for index, number in chosen:
        y, x = _origins(samples, index)[number]
        crops.append(pad_to_tile(samples.pair(index)[0], (height, width))[y : y + height, x : x + width])
    return np.stack(crops)


def _origins(samples: Samples, index: int) -> list[tuple[int, int]]:
    shape = samples.pair(index)[1].shape
    rows, columns = (tile_origins(n, t, 0) for n, t in zip(shape, samples.pre.size, strict=True))
    return [(y, x) for y in rows for x in columns]


def _cover(samples: Samples, index: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return crops over one pair; a pixel seen in an earlier crop is `IGNORE` in later ones."""
    height, width = samples.pre.size
    image, mask = samples.pair(index)
    image = pad_to_tile(image, (height, width))
    left = np.full(image.shape[:2], IGNORE, np.uint8)
    left[: mask.shape[0], : mask.shape[1]] = mask
    crops = []
    for y, x in _origins(samples, index):
        part = np.s_[y : y + height, x : x + width]
        crops.append((image[part], left[part].copy()))
        left[part] = IGNORE
    return crops


def _augment(
    image: tf.Tensor, mask: tf.Tensor, key: tf.Tensor, augmentation: Augmentation, pre: Preprocessing
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sample one crop from a prepared pair and change it at random, mask with image."""
    height, width = pre.size
    draw = tf.random.stateless_uniform([11], seed=key)
    transform = _transform(tf.cast(tf.shape(mask), tf.float32), draw, augmentation, pre.size)

    def resample(values: tf.Tensor, interpolation: str, fill_mode: str) -> tf.Tensor:
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=values[None],
            transforms=transform[None],
            output_shape=[height, width],
            interpolation=interpolation,
            fill_mode=fill_mode,
            fill_value=float(IGNORE),
        )[0]

    pixels = resample(tf.cast(image, tf.float32), "BILINEAR", "REFLECT")
    labels = resample(mask[..., None], "NEAREST", "CONSTANT")[..., 0]
    pixels.set_shape([height, width, pre.channels])
    labels.set_shape([height, width])
    pixels = _change_light(pixels / 255.0, draw[8:11], augmentation)
    low, high = pre.value_range
    return (low + (high - low) * pixels - pre.mean) / pre.std, tf.cast(labels, tf.int32)


def _transform(shape: tf.Tensor, draw: tf.Tensor, augmentation: Augmentation, size: tuple[int, int]) -> tf.Tensor:
    """Return the 8 numbers that map a pixel of the crop to a place in the image (both counted from 0).

    Without distortion every pixel of the crop lies on a pixel of the image, so nothing is blurred.
    """
    distorted = tf.cast(draw[7] < augmentation.distorted, tf.float32)
    low, high = np.log(augmentation.scale)
    zoom = tf.exp(distorted * (low + (high - low) * draw[0]))
    angle = distorted * (2 * draw[1] - 1) * (augmentation.rotation * math.pi / 180)
    if augmentation.quarter_turns:
        angle += tf.floor(4 * draw[6]) * (math.pi / 2)
    mirror_x = _sign(draw[2], augmentation.flip_left_right)
    mirror_y = _sign(draw[3], augmentation.flip_up_down)
    cosine, sine = tf.cos(angle) / zoom, tf.sin(angle) / zoom
    a, b, d, e = cosine * mirror_x, -sine * mirror_y, sine * mirror_x, cosine * mirror_y
    half_y, half_x = (size[0] - 1) / 2, (size[1] - 1) / 2
    room = shape - tf.cast(size, tf.float32)
    corner = tf.where(room > 0, tf.floor(draw[4:6] * (room + 1)), tf.floor(room / 2))
    c = corner[1] + half_x - a * half_x - b * half_y
    f = corner[0] + half_y - d * half_x - e * half_y
    return tf.stack([a, b, c, d, e, f, 0.0, 0.0])


def _sign(draw: tf.Tensor, wanted: bool) -> tf.Tensor:
    return tf.where(draw < 0.5, -1.0, 1.0) if wanted else tf.constant(1.0)


def _change_light(pixels: tf.Tensor, draw: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """Change gamma, contrast and brightness of (h, w, C) pixels in [0, 1]."""
    draw = 2 * draw - 1
    if augmentation.gamma:
        pixels = tf.pow(tf.clip_by_value(pixels, 0.0, 1.0), tf.exp(augmentation.gamma * draw[0]))
    if augmentation.contrast or augmentation.brightness:
        middle = tf.reduce_mean(pixels)
        pixels = (pixels - middle) * (1 + augmentation.contrast * draw[1]) + middle + augmentation.brightness * draw[2]
    return tf.clip_by_value(pixels, 0.0, 1.0)
