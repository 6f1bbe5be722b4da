"""The `tf.data` pipeline of a classifier: whole images -> keyed order -> random changes -> batches.

Everything random is a function of (seed, epoch, position in the epoch), as in `pipeline`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from unetres_edge.errors import UsageError

from ..choices.augmentations import Augmentation
from .augment import augment_packed, pack, word_form
from .labelled import LabelledImages
from .pipeline import AT_ONCE, untuned


@dataclass(frozen=True)
class LabelOrder:
    """Which image comes when: a function of the seed and the step.

    Args:
        images: what is trained on.
        batch_size: images a step, over all workers.
        seed: of the order.
    """

    images: LabelledImages
    batch_size: int
    seed: int

    @property
    def steps(self) -> int:
        """Batches of an epoch, the last filled up from the epoch's start."""
        return -(-len(self.images) // self.batch_size)

    def names(self, step: int) -> list[str]:
        """Return the names of the images of a step, counted from 0."""
        epoch, within = divmod(step, self.steps)
        chosen, _ = self.epoch(tf.constant(epoch, tf.int64))
        places = chosen[within * self.batch_size : (within + 1) * self.batch_size]
        return [self.images.names[place] for place in places.numpy()]

    def epoch(self, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the places of an epoch's images in their order, and their numbers, each (steps * batch,) int64."""
        numbers = tf.range(self.steps * self.batch_size, dtype=tf.int64)
        seeds = tf.stack([tf.cast(self.seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(numbers % len(self.images), seed=seeds)
        return order, epoch * len(numbers) + numbers


def labelled_batches(
    order: LabelOrder,
    augmentation: Augmentation,
    *,
    class_weights: tuple[float, ...] | None = None,
    first_step: int = 0,
    last_step: int,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Return the batches of the steps [first_step, last_step).

    Args:
        class_weights: what images of each class weigh in the loss, or None.
        shard: (number of this worker, number of workers); each gets its part of every batch.

    Yields:
        (images (N, h, w, C) float32 as the network sees them, labels (N,) int64), and weights (N,) float32 if there
        are class weights. What a random change moves in from beyond the border is mirrored.

    Raises:
        UsageError: a batch that cannot be shared equally.
    """
    images, batch_size = order.images, order.batch_size
    worker, workers = shard
    if not 0 <= worker < workers or batch_size % workers:
        raise UsageError("a batch cannot be shared", expected=f"a multiple of {workers} workers", found=batch_size)
    word, depth = word_form(images.pre.channels)
    labels = tf.constant(images.labels)
    empty = np.zeros(images.pre.size, np.uint8)

    def positions(epoch: tf.Tensor) -> tf.data.Dataset:
        own = [tf.reshape(tf.reshape(p, [order.steps, workers, -1])[:, worker], [-1]) for p in order.epoch(epoch)]
        return tf.data.Dataset.from_tensor_slices(tuple(own))

    def sample(place: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        words = tf.numpy_function(lambda index: pack(images[int(index)], empty), [place], word, stateful=False)
        key = tf.stack([tf.cast(order.seed + 1, tf.int64), number])
        words = tf.ensure_shape(words, [*images.pre.size, depth])
        pixels = augment_packed(words, key, augmentation, images.pre, outside="reflect")[0]
        label = tf.gather(labels, place)
        return (pixels, label) if class_weights is None else (pixels, label, tf.gather(class_weights, label))

    own = batch_size // workers
    epoch, done = divmod(first_step, order.steps)
    data = tf.data.Dataset.range(epoch, last_step // order.steps + 1).flat_map(positions)
    data = data.skip(done * own).take(max(0, last_step - first_step) * own)
    data = data.map(sample, num_parallel_calls=AT_ONCE, deterministic=True)
    return untuned(data.batch(own, drop_remainder=True).prefetch(2))


def plain_batches(images: LabelledImages, *, batch_size: int) -> tf.data.Dataset:
    """Return every image once, in order, without random changes; the last batch may be smaller.

    Yields:
        (images (N, h, w, C) float32 as the network sees them, labels (N,) int64).
    """
    shape = (*images.pre.size, images.pre.channels)
    normalise: Callable[[np.ndarray], np.ndarray] = images.pre.normalise

    def sample(place: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels = tf.numpy_function(lambda index: normalise(images[int(index)]), [place], tf.float32, stateful=False)
        return tf.ensure_shape(pixels, shape), label

    data = tf.data.Dataset.from_tensor_slices((np.arange(len(images)), images.labels))
    return untuned(data.map(sample, num_parallel_calls=AT_ONCE, deterministic=True).batch(batch_size).prefetch(2))


def calibration_images(images: LabelledImages, *, count: int, max_bytes: int = 16 << 20) -> np.ndarray:
    """Return up to `count` images (N, h, w, C) uint8, spread evenly over them."""
    height, width = images.pre.size
    count = max(1, min(count, len(images), max_bytes // (height * width * images.pre.channels)))
    return np.stack([images[int(place)] for place in np.linspace(0, len(images) - 1, count)])
