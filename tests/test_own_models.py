"""Keras models as people write them: what is answered in the file is what Keras answers, or the model is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import keras_unetres as ku
from keras_unetres.quantization import fold
from unetres_edge import Segmenter
from unetres_edge.errors import UsageError

PRE = ku.Preprocessing(channels=3, size=(32, 32))
INT8 = "static_wi8_ai8"


def pictures(count: int, *, seed: int = 0) -> np.ndarray:
    """Return smooth pictures (N, 32, 32, 3) uint8."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 6, 6, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(each).resize((32, 32), Image.Resampling.BILINEAR)) for each in small])


def seen(count: int = 16) -> np.ndarray:
    return PRE.normalise(pictures(count))


def with_layer(layer: Any) -> keras.Model:
    image = keras.Input((32, 32, 3))
    return keras.Model(image, layers.Conv2D(3, 1)(layer(layers.Conv2D(8, 3, padding="same")(image))))


def exported(model: keras.Model, path: Path, **options: Any) -> Any:
    options = {"recipe": INT8, "calibration": seen(), **options}
    return ku.export_tflite(model, path / "m.tflite", preprocessing=PRE, **options)


def share_as(model: keras.Model, path: Path) -> float:
    """Return the share of labels of a file that are those of a Keras model, on pictures that calibrated nothing."""
    images = pictures(6, seed=99)
    expected = np.asarray(model.predict(PRE.normalise(images), verbose=0)).argmax(-1)
    with Segmenter(path / "m.tflite") as segmenter:
        return float(np.mean([segmenter.segment(i).class_map == e for i, e in zip(images, expected, strict=True)]))


@pytest.mark.parametrize("size", [1e-6, 1e-20])
def test_filters_that_died_in_training_keep_their_bias(size: float, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    image, norm = keras.Input((32, 32, 3)), layers.BatchNormalization()
    middle = layers.Conv2D(8, 3, padding="same", use_bias=False)
    x = layers.ReLU()(norm(middle(layers.Conv2D(8, 3, padding="same", activation="relu")(image))))
    model = keras.Model(image, layers.Conv2D(4, 3, padding="same")(x))
    kernel = middle.get_weights()[0].copy()
    kernel[..., :4] *= size
    middle.set_weights([kernel])
    norm.moving_variance.assign([0.0] * 4 + [1.0] * 4)
    norm.beta.assign(np.linspace(0.2, 2, 8))
    aware = ku.quantize_aware(model, seen())
    done = exported(aware, tmp_path, calibration=None)
    assert done.agreement == 1
    assert share_as(model, tmp_path) > 0.96


def swish(x: Any) -> Any:
    return 2 * x


def relu(x: Any) -> Any:
    return -keras.ops.relu(x)


REFUSED: dict[str, Callable[[], Any]] = {
    "a function named swish": lambda: layers.Activation(swish, name="bad"),
    "a function named relu": lambda: layers.Conv2D(8, 1, activation=relu, name="bad"),
    "celu": lambda: layers.Activation("celu", name="bad"),
    "BatchNormalization over rows": lambda: layers.BatchNormalization(axis=1, name="bad"),
    "Normalization over rows": lambda: layers.Normalization(axis=1, name="bad"),
    "fractional resizing": lambda: layers.Resizing(48, 48, interpolation="bilinear", name="bad"),
    "antialiased resizing": lambda: layers.Resizing(64, 64, antialias=True, name="bad"),
    "dilated transposed convolution": lambda: layers.Conv2DTranspose(8, 3, dilation_rate=2, name="bad"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_compute_something_else_is_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=r"layer bad"):
        fold(with_layer(REFUSED[name]()))


def test_functions_of_keras_and_tensorflow_are_known_as_theirs() -> None:
    import tensorflow as tf

    for function in (keras.activations.relu, keras.ops.silu, tf.nn.relu6, tf.nn.swish):
        assert fold(with_layer(layers.Activation(function))).points
