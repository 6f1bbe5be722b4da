"""A small segmenter as a user may write it, images for it, and calibration of these."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from keras_unetres.tflite import Preprocessing
from unetres_edge.images.preprocessing import look_up

PRE = Preprocessing(channels=1, value_range=(-1.0, 1.0), size=(16, 16))
INT8 = "static_wi8_ai8"


def make_levels(count: int = 12, *, channels: int = 1, side: int = 16) -> np.ndarray:
    """Images (N, side, side, channels) uint8 of smooth random stripes."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    phases = rng.uniform(0, 6, (count, 3, channels))
    waves = np.sin(3 * y[None, ..., None] + phases[:, None, None, 0]) * np.cos(
        5 * x[None, ..., None] * phases[:, None, None, 1] + phases[:, None, None, 2]
    )
    return np.rint(127.5 + 127.5 * waves).astype(np.uint8)


def make_calibration(pre: Preprocessing = PRE, count: int = 12) -> np.ndarray:
    return look_up(pre.table(), make_levels(count, channels=pre.channels, side=pre.size[0]))


def user_model(*middle: keras.Layer, channels: int = 1) -> keras.Model:
    """A segmenter as a user may write it: an encoder-decoder with a skip, and layers of the test's choice in it."""
    inputs = keras.Input((None, None, channels))
    x = skip = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(inputs)
    for layer in middle:
        x = layer(x)
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="down")(x)
    x = layers.Conv2DTranspose(4, 2, strides=2, name="up")(x)
    x = layers.Add(name="join")([x, skip])
    return keras.Model(inputs, layers.Conv2D(3, 1, name="scores")(x))
