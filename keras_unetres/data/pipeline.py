"""The `tf.data` pipeline: prepared samples -> keyed order -> one sampling of image, mask and weight -> batches.

Everything random is a function of (seed, epoch, position in the epoch), so a run that is resumed sees what an
undisturbed one would have seen, and several workers see what one would.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.segment.tiles import pad_to_tile, tile_origins

from ..choices.augmentations import Augmentation
from .augment import augment_packed, word_form
from .samples import Samples

AT_ONCE = os.cpu_count() or 1  # samples that are made side by side


@dataclass(frozen=True)
class Order:
    """Which sample each crop of training is cut from, and where: a function of the seed and the crop's number.

    Args:
        samples: what is trained on; an epoch of it has `samples.steps(batch_size)` batches.
        batch_size: crops a step, over all workers.
        seed: seed of the order.
        balance: share of the crops that hold a pixel of a class drawn at random, each class alike; the others are cut
            from any place.

    Raises:
        UsageError: a balance outside 0..1, or without crops.
    """

    samples: Samples
    batch_size: int
    seed: int
    balance: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.balance <= 1 or (self.balance and self.samples.pre.fit != "crop"):
            raise UsageError("balance is wrong", expected="0..1, and above 0 for crops only", found=self.balance)

    def names(self, step: int) -> list[str]:
        """Return the names of the images that the crops of a step, counted from 0, are cut from."""
        epoch, within = divmod(step, self.samples.steps(self.batch_size))
        crops = slice(within * self.batch_size, (within + 1) * self.batch_size)
        owners, keys = self.epoch(tf.constant(epoch, tf.int64))
        choose = self.chooser()
        chosen = [int(choose(o, k)[0]) for o, k in zip(owners[crops], keys[crops], strict=True)]
        return [self.samples.samples[owner].name for owner in chosen]

    def epoch(self, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the samples of an epoch's crops in their order, and the crops' numbers, each (crops,) int64."""
        total = self.samples.steps(self.batch_size) * self.batch_size
        owners = tf.gather(self.samples.owners, tf.range(total, dtype=tf.int64) % len(self.samples.owners))
        order = tf.random.experimental.stateless_shuffle(owners, seed=tf.stack([tf.cast(self.seed, tf.int64), epoch]))
        return order, epoch * total + tf.range(total, dtype=tf.int64)

    def chooser(self) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
        """Return a function (sample, crop's number) -> (sample, place of the crop's middle in px, place as a share).

        The place in px is (2,) float32, NaN where the crop may lie anywhere. The share, (2,) in [0, 1), says where
        such a crop lies.
        """
        if not self.balance:
            return lambda owner, key: (owner, tf.fill([2], np.float32(np.nan)), tf.zeros([2]))
        groups = self.samples.points()
        sizes = tf.constant([len(group) for group in groups], tf.int64)
        starts = tf.cumsum(sizes, exclusive=True)
        points = tf.constant(np.concatenate(groups))

        def choose(owner: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            draw = tf.random.stateless_uniform([5], seed=tf.stack([tf.cast(self.seed + 2, tf.int64), key]))
            group = tf.cast(draw[1] * len(groups), tf.int64)
            size = tf.gather(sizes, group)
            nth = tf.minimum(tf.cast(draw[2] * tf.cast(size, tf.float32), tf.int64), size - 1)
            point = tf.gather(points, tf.gather(starts, group) + nth)
            by_class = draw[0] < self.balance
            position = tf.where(by_class, tf.cast(point[1:], tf.float32), np.float32(np.nan))
            return tf.where(by_class, point[0], owner), position, draw[3:]

        return choose


def training_batches(
    order: Order,
    augmentation: Augmentation,
    *,
    first_step: int = 0,
    last_step: int,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Return the batches of the steps [first_step, last_step).

    Args:
        shard: (number of this worker, number of workers); each gets its part of every batch.

    Yields:
        (images (N, h, w, C) float32 as the network sees them, masks (N, h, w) int32), and weights (N, h, w) float32 if
        the samples are weighted. Of images that have one class each, class ids (N,) int64 and weights (N,); what a
        random change moves in from beyond their border is mirrored.

    Raises:
        UsageError: a batch that cannot be shared equally.
    """
    samples, batch_size, seed = order.samples, order.batch_size, order.seed
    worker, workers = shard
    if not 0 <= worker < workers or batch_size % workers:
        raise UsageError("a batch cannot be shared", expected=f"a multiple of {workers} workers", found=batch_size)
    steps = samples.steps(batch_size)
    word, depth = word_form(samples.pre.channels)
    choose = order.chooser()

    def positions(epoch: tf.Tensor) -> tf.data.Dataset:
        parts = [tf.reshape(tf.reshape(part, [steps, workers, -1])[:, worker], [-1]) for part in order.epoch(epoch)]
        return tf.data.Dataset.from_tensor_slices(tuple(parts))

    def labelled(owner: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, ...]:
        words = tf.numpy_function(lambda index: samples[int(index)].words, [owner], word, stateful=False)
        words = tf.ensure_shape(words, [*samples.pre.size, depth])
        seeds = tf.stack([tf.cast(seed + 1, tf.int64), key])
        pixels = augment_packed(words, seeds, augmentation, samples.pre, outside="reflect")[0]
        class_id = tf.gather(samples.class_ids, owner)
        weights = samples.class_weights
        return (pixels, class_id) if weights is None else (pixels, class_id, tf.gather(weights, class_id))

    def sample(owner: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, ...]:
        owner, position, share = choose(owner, key)
        kinds = (word, tf.float32) if samples.weighted else (word,)
        given = tf.numpy_function(lambda index: _arrays(samples, index), [owner], kinds, stateful=False)
        words = tf.ensure_shape(given[0], [None, None, depth])
        weight = tf.ensure_shape(given[1], [None, None]) if samples.weighted else None
        anywhere = share * tf.cast(tf.shape(words)[:2], tf.float32)
        centre = tf.where(tf.math.is_nan(position), anywhere, position) if order.balance else None
        seeds = tf.stack([tf.cast(seed + 1, tf.int64), key])
        example = augment_packed(words, seeds, augmentation, samples.pre, weight=weight, centre=centre)
        return example if samples.weighted else example[:2]

    worker_batch = batch_size // workers
    epoch, done = divmod(first_step, steps)
    data = tf.data.Dataset.range(epoch, last_step // steps + 1).flat_map(positions)
    data = data.skip(done * worker_batch).take(max(0, last_step - first_step) * worker_batch)
    make = sample if samples.class_ids is None else labelled
    data = data.map(make, num_parallel_calls=AT_ONCE, deterministic=True)
    return untuned(data.batch(worker_batch, drop_remainder=True).prefetch(2))


def untuned(data: tf.data.Dataset) -> tf.data.Dataset:
    """Return a data set without the thread that tunes it.

    That thread wakes up ever more rarely, and TensorFlow 2.21 waits for it where an iterator ends: `fit` would go on
    for as long again as it took, up to a minute.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def draw_crop(
    samples: Samples, index: int, augmentation: Augmentation, key: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return one random crop of a sample: (h, w, C) float32 as the network sees it, (h, w) uint8 mask."""
    found = samples[index]
    pixels, labels, _ = augment_packed(tf.constant(found.words), tf.constant(key, tf.int64), augmentation, samples.pre)
    return pixels.numpy(), labels.numpy().astype(np.uint8)


def _arrays(samples: Samples, index: int) -> tuple[np.ndarray, ...]:
    prepared = samples[int(index)]
    return (prepared.words,) if prepared.weight is None else (prepared.words, prepared.weight)


def validation_batches(samples: Samples, *, batch_size: int) -> tf.data.Dataset:
    """Return fixed crops that cover every pixel once, filled up to whole batches with crops that are all `IGNORE`.

    Images that have one class each come whole, in order; their last batch may be smaller.

    Yields:
        (images (N, h, w, C) float32, masks (N, h, w) int32 or class ids (N,) int64).
    """
    if samples.class_ids is not None:
        return _whole_images(samples, samples.class_ids, batch_size)
    crops = [crop for index in range(len(samples)) for crop in _cover(samples, index)]
    missing = -len(crops) % batch_size
    crops += [(crops[0][0], np.full_like(crops[0][1], IGNORE))] * missing
    images, masks = (np.stack(part) for part in zip(*crops, strict=True))
    data = tf.data.Dataset.from_tensor_slices((images, masks)).batch(batch_size, drop_remainder=True)
    table = tf.constant(samples.pre.table())

    def values(image: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        planes = [tf.gather(table[:, c], tf.cast(image[..., c], tf.int32)) for c in range(samples.pre.channels)]
        return tf.stack(planes, -1), tf.cast(mask, tf.int32)

    return untuned(data.map(values, num_parallel_calls=1).prefetch(1))


def _whole_images(samples: Samples, class_ids: np.ndarray, batch_size: int) -> tf.data.Dataset:
    def sample(index: tf.Tensor, class_id: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels = tf.numpy_function(
            lambda n: samples.pre.normalise(samples[int(n)].image), [index], tf.float32, stateful=False
        )
        return tf.ensure_shape(pixels, (*samples.pre.size, samples.pre.channels)), class_id

    data = tf.data.Dataset.from_tensor_slices((np.arange(len(samples)), class_ids))
    return untuned(data.map(sample, num_parallel_calls=AT_ONCE, deterministic=True).batch(batch_size).prefetch(2))


def calibration_crops(samples: Samples, *, count: int, max_bytes: int = 16 << 20) -> np.ndarray:
    """Return up to `count` plain crops (N, h, w, C) uint8 of training images, spread evenly over them."""
    height, width = samples.pre.size
    count = max(1, min(count, max_bytes // (height * width * samples.pre.channels)))
    cover: list[tuple[int, int]] = []
    for index in range(len(samples)):
        cover += [(index, n) for n in range(len(_origins(samples, index)))]
    chosen = cover if len(cover) <= count else [cover[i] for i in np.linspace(0, len(cover) - 1, count).astype(int)]
    crops = []
    for index, number in chosen:
        y, x = _origins(samples, index)[number]
        crops.append(pad_to_tile(samples[index].image, (height, width))[y : y + height, x : x + width])
    return np.stack(crops)


def _origins(samples: Samples, index: int) -> list[tuple[int, int]]:
    if samples.pre.fit != "crop":
        return [(0, 0)]  # it has the network's size, and need not be read
    shape = samples[index].mask.shape
    rows, columns = (tile_origins(n, t, 0) for n, t in zip(shape, samples.pre.size, strict=True))
    return [(y, x) for y in rows for x in columns]


def _cover(samples: Samples, index: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return crops over one pair; a pixel seen in an earlier crop is `IGNORE` in later ones."""
    height, width = samples.pre.size
    image, mask = samples[index].image, samples[index].mask
    image = pad_to_tile(image, (height, width))
    left = np.full(image.shape[:2], IGNORE, np.uint8)
    left[: mask.shape[0], : mask.shape[1]] = mask
    crops = []
    for y, x in _origins(samples, index):
        part = np.s_[y : y + height, x : x + width]
        crops.append((image[part], left[part].copy()))
        left[part] = IGNORE
    return crops
