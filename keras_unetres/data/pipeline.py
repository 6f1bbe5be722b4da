"""The `tf.data` pipeline: prepared samples -> keyed order -> one sampling of image, mask and weight -> batches.

Everything random is a function of (seed, epoch, position in the epoch), so a run that is resumed sees what an
undisturbed one would have seen, and several workers see what one would.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.segment.tiles import pad_to_tile, tile_origins

from ..choices.augmentations import Augmentation
from .augment import augment_packed, augment_window, unpack, word_form
from .group_order import order_by_groups
from .samples import Samples

AT_ONCE = os.cpu_count() or 1  # samples that are made side by side


@dataclass(frozen=True)
class Order:
    """Which sample each crop of training is cut from, and where: a function of the seed and the crop's number.

    Args:
        samples: samples that are trained on; an epoch of it has `samples.steps(batch_size)` batches.
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
        if self.samples.groups is None:
            seed = tf.stack([tf.cast(self.seed, tf.int64), epoch])
            order = tf.random.experimental.stateless_shuffle(owners, seed=seed)
        else:
            order = tf.numpy_function(self._by_groups, [owners, epoch], tf.int64, stateful=False)
            order = tf.ensure_shape(order, [total])
        return order, epoch * total + tf.range(total, dtype=tf.int64)

    def _by_groups(self, owners: np.ndarray, epoch: np.ndarray) -> np.ndarray:
        assert self.samples.groups is not None
        return order_by_groups(owners, self.samples.groups, self.batch_size, (self.seed, int(epoch)))

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
        the samples are weighted; masks and weights are smaller by the samples' margin on every side. Of images that
        have one class each, class ids (N,) int64 and weights (N,); what a random change moves in from beyond their
        border is mirrored.

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
    shapes = tf.constant([samples.shape(index) for index in range(len(samples))], tf.int32)

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
        shape = tf.gather(shapes, owner)
        anywhere = share * tf.cast(shape, tf.float32)
        centre = tf.where(tf.math.is_nan(position), anywhere, position) if order.balance else None
        seeds = tf.stack([tf.cast(seed + 1, tf.int64), key])

        def read(begin: tf.Tensor, size: tf.Tensor) -> list[tf.Tensor]:
            kinds = (word, tf.float32) if samples.weighted else (word,)
            cut = tf.numpy_function(samples.window, [owner, begin, size], kinds, stateful=False)
            return [tf.ensure_shape(part, [None, None, n]) for part, n in zip(cut, (depth, 1), strict=False)]

        example = augment_window(
            read, shape, seeds, augmentation, samples.pre, weighted=samples.weighted, centre=centre
        )
        pixels, *labels = example if samples.weighted else example[:2]
        return (pixels, *(_within(values, samples.margin) for values in labels))

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
    sample = samples[index]
    pixels, labels, _ = augment_packed(tf.constant(sample.words), tf.constant(key, tf.int64), augmentation, samples.pre)
    return pixels.numpy(), labels.numpy().astype(np.uint8)


def validation_batches(samples: Samples, *, batch_size: int) -> tf.data.Dataset:
    """Return fixed crops that cover every pixel once, filled up to whole batches with crops that are all `IGNORE`.

    Images that have one class each come whole, in order; their last batch may be smaller.

    Yields:
        (images (N, h, w, C) float32, masks (N, h, w) int32 or class ids (N,) int64); masks are smaller by the samples'
        margin on every side.
    """
    if samples.class_ids is not None:
        return _whole_images(samples, samples.class_ids, batch_size)
    starts = _starts(samples)
    total = int(starts[-1])
    table = tf.constant(samples.pre.table())

    def cut(number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        index = int(np.searchsorted(starts, int(number) % total, side="right")) - 1
        image, mask = _cover(samples, index, int(number) % total - int(starts[index]))
        return image, mask if number < total else np.full_like(mask, IGNORE)

    def crop(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, mask = tf.numpy_function(cut, [number], (tf.uint8, tf.uint8), stateful=False)
        image = tf.ensure_shape(image, (*samples.pre.size, samples.pre.channels))
        return image, tf.ensure_shape(mask, samples.output)

    def values(image: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        planes = [tf.gather(table[:, c], tf.cast(image[..., c], tf.int32)) for c in range(samples.pre.channels)]
        return tf.stack(planes, -1), tf.cast(mask, tf.int32)

    data = tf.data.Dataset.range(total + -total % batch_size)
    data = data.map(crop, num_parallel_calls=AT_ONCE, deterministic=True).batch(batch_size, drop_remainder=True)
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
    """Return up to `count` plain crops (N, h, w, C) uint8 of training images, spread evenly over them.

    Of one image alone, such as the first that somebody paints on, they are that and its mirror images: ranges are told
    by several, and a network that is trained on it sees it mirrored, too.
    """
    height, width = samples.pre.size
    count = max(1, min(count, max_bytes // (height * width * samples.pre.channels)))
    starts = _starts(samples)
    total = int(starts[-1])
    chosen = range(total) if total <= count else np.linspace(0, total - 1, count).astype(int)
    crops = []
    for crop in chosen:
        index = int(np.searchsorted(starts, crop, side="right")) - 1
        crops.append(_cut(samples, index, _origins(samples, index)[crop - int(starts[index])])[0])
    if count > 1 and all(np.array_equal(crop, crops[0]) for crop in crops):
        crops = [crops[0][::down, ::right] for down in (1, -1) for right in (1, -1)][:count]
    return np.stack(crops)


def _starts(samples: Samples) -> np.ndarray:
    """Return (N + 1,) int64: of the crops that cover all samples, the first of each, and how many there are."""
    return np.cumsum([0, *(len(_origins(samples, index)) for index in range(len(samples)))])


def _origins(samples: Samples, index: int) -> list[tuple[int, int]]:
    if samples.pre.fit != "crop":
        return [(0, 0)]
    rows, columns = _axes(samples, index)
    return [(y, x) for y in rows for x in columns]


def _axes(samples: Samples, index: int) -> tuple[list[int], list[int]]:
    """Return the first rows and the first columns of the crops that cover a sample."""
    lengths = (length - 2 * samples.margin for length in samples.shape(index))
    rows, columns = (tile_origins(n, t, 0) for n, t in zip(lengths, samples.output, strict=True))
    return rows, columns


def _cover(samples: Samples, index: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one of the crops that cover a sample; in its mask, a pixel seen in an earlier crop is `IGNORE`."""
    rows, columns = _axes(samples, index)
    row, column = divmod(number, len(columns))
    y, x = rows[row], columns[column]
    image, mask = _cut(samples, index, (y, x))
    mask, (height, width) = _within(mask, samples.margin), samples.output
    mask[: rows[row - 1] + height - y if row else 0] = IGNORE
    mask[:, : columns[column - 1] + width - x if column else 0] = IGNORE
    return image, mask


def _within(values: Any, margin: int) -> Any:
    """Return values (h, w) without a margin on every side."""
    return values[margin:-margin, margin:-margin] if margin else values


def _cut(samples: Samples, index: int, origin: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a crop (h, w, C) uint8 and its mask (h, w) uint8, filled up by `pad_to_tile` and `IGNORE`."""
    size = np.array(samples.pre.size)
    room = np.minimum(size, np.array(samples.shape(index)) - origin)
    image, mask = unpack(samples.window(index, np.array(origin), room)[0], samples.pre.channels)
    filled = np.full(samples.pre.size, IGNORE, np.uint8)
    filled[: room[0], : room[1]] = mask
    return pad_to_tile(image, samples.pre.size), filled
