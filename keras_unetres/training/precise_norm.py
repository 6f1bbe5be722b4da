"""Statistics of BatchNormalization measured over many crops, in the place of its moving averages (Wu and Johnson 2021).

The moving averages lag behind the weights, and where batches are small and images of several kinds they are those of
the last few batches. At inference a network that fits its batches may then fail: a validation score jumps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from .state import arrays, norm_layers, put


class PreciseStatistics:
    """Measures mean and variance of what each BatchNormalization layer is given, over fixed crops.

    Each batch is normalised by its own statistics, as in training; the batches' moments together are those of the
    crops (section 3.1). Nothing but the weights decides the result.

    Args:
        model: network of (N, H, W, C).
        crops: (N, H, W, C) uint8, before normalisation.
        normalise: crops -> what the network is given, (N, H, W, C) float32.
        batch_size: crops at once.
    """

    def __init__(
        self,
        model: keras.Model,
        crops: np.ndarray,
        normalise: Callable[[np.ndarray], np.ndarray],
        batch_size: int,
    ) -> None:
        self._model, self._crops, self._normalise, self._batch_size = model, crops, normalise, batch_size
        self.layers = norm_layers(model)
        self._moments = tf.function(self._moments_of, autograph=False)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the statistics that fit the weights in the place of the moving averages, for as long as it lasts."""
        variables = {
            f"{index}/{name}": variable
            for index, layer in enumerate(self.layers)
            for name, variable in (("mean", layer.moving_mean), ("variance", layer.moving_variance))
        }
        before = arrays(variables)
        put(variables, self.measure())
        try:
            yield
        finally:
            put(variables, before)

    def measure(self) -> dict[str, np.ndarray]:
        """Return mean and variance (C,) float32 of each layer's input, by "index/mean" and "index/variance"."""
        means: list[list[np.ndarray]] = [[] for _ in self.layers]
        squares: list[list[np.ndarray]] = [[] for _ in self.layers]
        for start in range(0, len(self._crops) - self._batch_size + 1, self._batch_size) or (0,):
            batch = self._normalise(self._crops[start : start + self._batch_size])
            for index, moments in enumerate(self._moments(tf.constant(batch))):
                for mean, variance in moments:  # of each time that the layer is used
                    means[index].append(mean.numpy().astype(np.float64))
                    squares[index].append(variance.numpy() + means[index][-1] ** 2)
        statistics = {}
        for index, (mean, square) in enumerate(zip(means, squares, strict=True)):
            average = np.mean(mean, 0)
            statistics[f"{index}/mean"] = average.astype(np.float32)
            statistics[f"{index}/variance"] = np.maximum(np.mean(square, 0) - average**2, 0).astype(np.float32)
        return statistics

    def _moments_of(self, images: tf.Tensor) -> list[list[tuple[tf.Tensor, tf.Tensor]]]:
        seen: list[list[tuple[tf.Tensor, tf.Tensor]]] = [[] for _ in self.layers]
        calls = [layer.call for layer in self.layers]
        try:
            for layer, moments in zip(self.layers, seen, strict=True):
                layer.call = _watched(layer, moments)
            self._model(images, training=False)
        finally:
            for layer, call in zip(self.layers, calls, strict=True):
                layer.call = call
        return seen


def _watched(layer: keras.layers.BatchNormalization, seen: list[Any]) -> Callable[..., Any]:
    """Return a layer's `call` that normalises by the statistics of the batch, and notes them."""

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        values = tf.cast(inputs, tf.float32)
        axes = [axis for axis in range(values.shape.rank) if axis != layer.axis % values.shape.rank]
        mean, variance = tf.nn.moments(values, axes)
        seen.append((mean, variance))
        normalised = ops.batch_normalization(
            values, mean, variance, layer.axis, offset=layer.beta, scale=layer.gamma, epsilon=layer.epsilon
        )
        return tf.cast(normalised, layer.compute_dtype)

    return call
