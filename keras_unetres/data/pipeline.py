"""The `tf.data` pipeline: prepared samples -> keyed order -> one sampling of image, mask and weight -> batches.

Everything random is a function of (seed, epoch, position in the epoch), so a run that is resumed sees what an
undisturbed one would have seen, and several workers see what one would.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from unetres_edge.errors import UsageError
from unetres_edge.preprocessing import IGNORE
from unetres_edge.tiles import pad_to_tile, tile_origins

from .augment import Augmentation, augment_packed, word_form
from .samples import Samples


def training_batches(
    samples: Samples,
    augmentation: Augmentation,
    *,
    batch_size: int,
    seed: int,
    first_epoch: int,
    epochs: int,
    balance: float = 0.0,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Return the batches of epochs [first_epoch, epochs), endless epochs of `samples.steps(batch_size)` batches each.

    Args:
        batch_size: crops a step, over all workers.
        balance: share of the crops that hold a pixel of a class drawn at random, each class alike; the others are cut
            from any place.
        shard: (number of this worker, number of workers); each gets its part of every batch.

    Yields:
        (images (N, h, w, C) float32 as the network sees them, masks (N, h, w) int32), and weights (N, h, w) float32 if
        the samples are weighted.

    Raises:
        UsageError: a batch that cannot be shared equally, a balance outside 0..1 or without crops.
    """
    worker, workers = shard
    if not 0 <= worker < workers or batch_size % workers:
        raise UsageError("a batch cannot be shared", expected=f"a multiple of {workers} workers", found=batch_size)
    if not 0 <= balance <= 1 or (balance and samples.pre.fit != "crop"):
        raise UsageError("balance is wrong", expected="0..1, and above 0 for crops only", found=balance)
    steps = samples.steps(batch_size)
    total = steps * batch_size
    groups = samples.points() if balance else []
    sizes = tf.constant([len(group) for group in groups] or [1], tf.int64)
    starts = tf.cumsum(sizes, exclusive=True)
    points = tf.constant(np.concatenate(groups) if groups else np.zeros((1, 3), np.int64))

    word, depth = word_form(samples.pre.channels)

    def positions(epoch: tf.Tensor) -> tf.data.Dataset:
        owners = tf.gather(samples.owners, tf.range(total, dtype=tf.int64) % len(samples.owners))
        order = tf.random.experimental.stateless_shuffle(owners, seed=tf.stack([tf.cast(seed, tf.int64), epoch]))
        keys = epoch * total + tf.range(total, dtype=tf.int64)
        own = [tf.reshape(tf.reshape(part, [steps, workers, -1])[:, worker], [-1]) for part in (order, keys)]
        return tf.data.Dataset.from_tensor_slices(tuple(own))

    def sample(owner: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, ...]:
        by_class, place = tf.constant(False), tf.zeros([2])
        draw = tf.zeros([5])
        if balance:
            draw = tf.random.stateless_uniform([5], seed=tf.stack([tf.cast(seed + 2, tf.int64), key]))
            group = tf.cast(draw[1] * len(groups), tf.int64)
            size = tf.gather(sizes, group)
            chosen = tf.gather(starts, group) + tf.minimum(
                tf.cast(draw[2] * tf.cast(size, tf.float32), tf.int64), size - 1
            )
            point = tf.gather(points, chosen)
            by_class = draw[0] < balance
            owner, place = tf.where(by_class, point[0], owner), tf.cast(point[1:], tf.float32)
        kinds = (word, tf.float32) if samples.weighted else (word,)
        given = tf.numpy_function(lambda index: _arrays(samples, index), [owner], kinds, stateful=False)
        words = tf.ensure_shape(given[0], [None, None, depth])
        weight = tf.ensure_shape(given[1], [None, None]) if samples.weighted else None
        anywhere = draw[3:] * tf.cast(tf.shape(words)[:2], tf.float32)
        centre = tf.where(by_class, place, anywhere) if balance else None
        seeds = tf.stack([tf.cast(seed + 1, tf.int64), key])
        made = augment_packed(words, seeds, augmentation, samples.pre, weight=weight, centre=centre)
        return made if samples.weighted else made[:2]

    data = tf.data.Dataset.range(first_epoch, epochs).flat_map(positions)
    data = data.map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return data.batch(batch_size // workers, drop_remainder=True).prefetch(2)


def draw_crop(
    samples: Samples, index: int, augmentation: Augmentation, key: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return one random crop of a sample: (h, w, C) float32 as the network sees it, (h, w) uint8 mask."""
    found = samples[index]
    pixels, labels, _ = augment_packed(tf.constant(found.words), tf.constant(key, tf.int64), augmentation, samples.pre)
    return pixels.numpy(), labels.numpy().astype(np.uint8)


def _arrays(samples: Samples, index: int) -> tuple[np.ndarray, ...]:
    found = samples[int(index)]
    return (found.words,) if found.weight is None else (found.words, found.weight)


def validation_batches(samples: Samples, *, batch_size: int) -> tf.data.Dataset:
    """Return fixed crops that cover every pixel once, filled up to whole batches with crops that are all `IGNORE`.

    Yields:
        (images (N, h, w, C) float32, masks (N, h, w) int32).
    """
    crops = [crop for index in range(len(samples)) for crop in _cover(samples, index)]
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
    for index in range(len(samples)):
        cover += [(index, n) for n in range(len(_origins(samples, index)))]
    chosen = cover if len(cover) <= count else [cover[i] for i in np.linspace(0, len(cover) - 1, count).astype(int)]
    crops = []
    for index, number in chosen:
        y, x = _origins(samples, index)[number]
        crops.append(pad_to_tile(samples[index].image, (height, width))[y : y + height, x : x + width])
    return np.stack(crops)


def _origins(samples: Samples, index: int) -> list[tuple[int, int]]:
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
