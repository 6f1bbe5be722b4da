"""What people write into their networks and at their ends, each in a small network of (32, 32, 3) pixels in [0, 1].

`INSIDE` lies between the image and linear scores, `ENDS` behind features; of those the second is what Keras answers:
"scores", "probabilities", or "one" channel of the probability of one class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers as L
from keras import ops

CLASSES = 3
SIDE = 32


def conv(x: Any, filters: int = 8, kernel: int = 3, act: Any = "relu", **more: Any) -> Any:
    return L.Conv2D(filters, kernel, padding="same", activation=act, **more)(x)


def scores(x: Any, activation: Any = None, classes: int = CLASSES) -> Any:
    return L.Conv2D(classes, 1, activation=activation)(x)


def network(inside: Callable[[Any], Any], end: Callable[[Any], Any] = scores) -> keras.Model:
    """Return a network; features of an end come from a convolution."""
    image = keras.Input((SIDE, SIDE, 3))
    return keras.Model(image, end(inside(image)))


def tokens(x: Any) -> Any:
    return L.Reshape((64, 8))(conv(x, strides=4))


def back(x: Any) -> Any:
    return L.UpSampling2D(4, interpolation="bilinear")(L.Reshape((8, 8, 8))(x))


def preactivated(x: Any) -> Any:
    x = conv(x, act=None)
    for _ in range(2):
        y = conv(L.Activation("relu")(L.BatchNormalization()(x)), act=None)
        x = L.add([x, conv(L.Activation("relu")(L.BatchNormalization()(y)), act=None)])
    return x


def shared_at_two_scales(x: Any) -> Any:
    shared = L.Conv2D(8, 3, padding="same", activation="relu")
    return L.Concatenate()([shared(x), L.UpSampling2D()(shared(L.AveragePooling2D(2)(x)))])


def segformer_block(x: Any) -> Any:
    x = tokens(x)
    reduced = L.LayerNormalization()(L.Reshape((16, 8))(L.Conv2D(8, 2, strides=2)(L.Reshape((8, 8, 8))(x))))
    x = L.Add()([x, L.MultiHeadAttention(2, 4)(L.LayerNormalization()(x), reduced)])
    y = L.Reshape((8, 8, 16))(L.Dense(16)(L.LayerNormalization()(x)))
    y = L.Activation("gelu")(L.DepthwiseConv2D(3, padding="same")(y))
    return back(L.Add()([x, L.Dense(8)(L.Reshape((64, 16))(y))]))


def attention_gate(x: Any) -> Any:
    x = conv(x)
    gate = L.Add()([L.Conv2D(4, 2, strides=2)(x), L.Conv2D(4, 1)(conv(L.MaxPooling2D()(x)))])
    psi = L.UpSampling2D()(L.Conv2D(1, 1, activation="sigmoid")(L.ReLU()(gate)))
    return L.Multiply()([x, psi])


def atrous_pyramid(x: Any) -> Any:
    x = conv(x, strides=4)
    pooled = L.UpSampling2D(8, interpolation="bilinear")(conv(L.AveragePooling2D(8)(x), 8, 1))
    branches = [conv(x, 8, 1), *(conv(x, 8, dilation_rate=rate) for rate in (2, 4)), pooled]
    return L.UpSampling2D(4, interpolation="bilinear")(conv(L.Concatenate()(branches), 8, 1))


def shuffled_groups(x: Any) -> Any:
    x = L.Permute((1, 2, 4, 3))(L.Reshape((SIDE, SIDE, 2, 4))(conv(x)))
    return conv(L.Reshape((SIDE, SIDE, 8))(x), groups=2)


def nested(x: Any) -> Any:
    """An encoder that is a model within the model, and gives a dictionary of maps."""
    start = keras.Input((SIDE, SIDE, 3))
    high = conv(start)
    encoder = keras.Model(start, {"high": high, "low": conv(L.MaxPooling2D()(high), 16)})
    maps = encoder(x)
    return L.Concatenate()([maps["high"], L.UpSampling2D()(maps["low"])])


def nested_thrice(x: Any) -> Any:
    def within(filters: int, channels: int) -> keras.Model:
        start = keras.Input((None, None, channels))
        return keras.Model(start, conv(start, filters))

    start = keras.Input((None, None, 3))
    inner = keras.Model(start, within(8, 8)(within(8, 3)(start)))
    return keras.Sequential([inner, L.BatchNormalization(), L.ReLU()])(x)


def dropouts(x: Any) -> Any:
    x = L.AlphaDropout(0.3)(conv(L.SpatialDropout2D(0.5)(conv(L.GaussianNoise(0.1)(x)))))
    return L.Dropout(0.2, noise_shape=(None, 1, 1, 8))(L.GaussianDropout(0.3)(x))


def augmented(x: Any) -> Any:
    return conv(keras.Sequential([L.RandomFlip(), L.RandomRotation(0.1), L.RandomContrast(0.1)])(x))


def rows_by_a_recurrent_layer(x: Any) -> Any:
    rows = L.Bidirectional(L.LSTM(4, return_sequences=True))(L.Reshape((SIDE, SIDE * 3))(x))
    return conv(L.Reshape((SIDE, SIDE, 2))(L.Dense(2 * SIDE)(rows)))


def squeeze(x: Any) -> Any:
    x = conv(x)
    gate = L.Dense(8, activation="sigmoid")(ops.mean(x, axis=(1, 2)))
    return x * ops.expand_dims(ops.expand_dims(gate, 1), 1)


class OwnNorm(L.Layer):
    """Instance normalization, as it is copied from one repository to the next."""

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")
        self.shift = self.add_weight(shape=(input_shape[-1],), initializer="zeros")

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
        return self.scale * (x - mean) * tf.math.rsqrt(variance + 1e-5) + self.shift

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


def shuffled_by_tensorflow(x: Any) -> Any:
    import tensorflow as tf

    return L.Lambda(lambda t: tf.nn.depth_to_space(t, 2), output_shape=(SIDE, SIDE, 8))(conv(x, 32, strides=2))


def turned(x: Any) -> Any:
    return L.Conv2DTranspose(8, 3, strides=2, padding="same", output_padding=1)(conv(x, strides=2))


def turned_and_cropped(x: Any) -> Any:
    return L.Cropping2D(((0, 1), (1, 0)))(L.Conv2DTranspose(8, 3, strides=2, padding="valid")(conv(x, strides=2)))


def padded_on_one_side(x: Any) -> Any:
    return L.UpSampling2D(2)(L.Conv2D(8, 3, strides=2, activation="relu")(L.ZeroPadding2D(((0, 1), (0, 1)))(x)))


def pooled_at_the_edge(x: Any) -> Any:
    x = L.AveragePooling2D(3, strides=1, padding="same")(conv(x))
    return L.UpSampling2D()(L.MaxPooling2D(3, strides=2, padding="same")(x))


def leaking(x: Any) -> Any:
    for slope in (0.01, 0.9, 1.5):
        x = L.LeakyReLU(slope)(conv(x, act=None))
    return x


def normalised_first(x: Any) -> Any:
    x = L.BatchNormalization(scale=False)(conv(L.BatchNormalization()(x), act=None))
    return L.BatchNormalization(center=False)(L.ReLU()(x))


INSIDE: dict[str, Callable[[Any], Any]] = {
    each.__name__: each
    for each in (
        *(preactivated, shared_at_two_scales, segformer_block, attention_gate, atrous_pyramid, shuffled_groups, nested),
        *(nested_thrice, dropouts, augmented, squeeze, shuffled_by_tensorflow, turned),
        *(turned_and_cropped, padded_on_one_side, pooled_at_the_edge, leaking, normalised_first),
        rows_by_a_recurrent_layer,
    )
} | {
    "instance normalization of one's own": lambda x: L.ReLU()(OwnNorm()(conv(x, act=None))),
    "normalization of units": lambda x: L.UnitNormalization()(conv(x)),
    "spectral normalization": lambda x: L.SpectralNormalization(L.Conv2D(8, 3, padding="same"))(x),
    "slopes that are learned": lambda x: L.PReLU(alpha_initializer="uniform", shared_axes=[1, 2])(conv(x, act=None)),
    "capped": lambda x: L.ReLU(max_value=1.0)(conv(x, act=None)),
    "mirrored at the edge": lambda x: L.Conv2D(8, 3)(ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect")),
    "slices": lambda x: L.Concatenate()([conv(x[..., :1]), L.UpSampling2D()(conv(x[:, ::2, ::2, :]))]),
    "attention": lambda x: back(L.Attention(use_scale=True)([tokens(x)] * 2)),
    "many functions": lambda x: L.Concatenate()(
        [L.Conv2D(2, 1, activation=name)(conv(x)) for name in ("elu", "gelu", "silu", "softsign", "hard_silu", "mish")]
    ),
    "whatever is greater": lambda x: ops.where(x > 0.4, x, 0.2 * x),
    "scaled by the image's own mean": lambda x: conv(x - ops.mean(x, axis=(1, 2), keepdims=True)),
}


def mean_of_two(x: Any) -> Any:
    return L.Average()([scores(x, "softmax"), scores(conv(x), "softmax")])


def softmax_of_a_list(x: Any) -> Any:
    return L.Reshape((SIDE, SIDE, CLASSES))(L.Softmax()(L.Reshape((SIDE * SIDE, CLASSES))(scores(x))))


def separable(x: Any) -> Any:
    return L.SeparableConv2D(CLASSES, 3, padding="same", activation="softmax")(x)


def sides_of_one_map(x: Any) -> Any:
    return L.Average()([scores(x, "sigmoid", 1), scores(conv(x), "sigmoid", 1)])


def upsampled(activation: str, classes: int) -> Callable[[Any], Any]:
    def end(x: Any) -> Any:
        small = scores(L.AveragePooling2D(2)(x), activation, classes)
        return L.UpSampling2D(2, interpolation="bilinear")(small)

    return end


ENDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "two softmaxes": (lambda x: L.Softmax()(scores(x, "softmax")), "probabilities"),
    "a softmax of sigmoids": (lambda x: L.Softmax()(scores(x, "sigmoid")), "probabilities"),
    "two sigmoids": (lambda x: L.Activation("sigmoid")(scores(x, "sigmoid", 1)), "one"),
    "a mean of softmaxes": (mean_of_two, "probabilities"),
    "a softmax of a list of pixels": (softmax_of_a_list, "probabilities"),
    "a softmax, enlarged": (upsampled("softmax", CLASSES), "probabilities"),
    "a softmax of a temperature": (lambda x: ops.softmax(scores(x) / 2.0), "probabilities"),
    "a softmax behind a normalization": (lambda x: L.Softmax()(L.BatchNormalization()(scores(x))), "probabilities"),
    "a softmax behind a ReLU": (lambda x: L.Softmax()(scores(x, "relu")), "probabilities"),
    "a dense softmax": (lambda x: L.Dense(CLASSES, activation="softmax")(x), "probabilities"),
    "a separable softmax": (separable, "probabilities"),
    "sigmoids": (lambda x: scores(x, "sigmoid", 4), "probabilities"),
    "a sigmoid": (lambda x: scores(x, "sigmoid", 1), "one"),
    "a sigmoid, enlarged": (upsampled("sigmoid", 1), "one"),
    "a sigmoid of one's own": (lambda x: 1 / (1 + ops.exp(-scores(x, None, 1))), "one"),
    "a sigmoid without its axis": (lambda x: ops.squeeze(scores(x, "sigmoid", 1), -1), "one"),
    "a product of sigmoids": (lambda x: scores(x, "sigmoid", 1) * scores(x, "sigmoid", 1), "one"),
    "a mean of sigmoids": (sides_of_one_map, "one"),
    "a hard sigmoid": (lambda x: scores(x, "hard_sigmoid", 1), "one"),
    "a tanh in [0, 1]": (lambda x: (scores(x, "tanh", 1) + 1) / 2, "one"),
    "one of two softmaxes": (lambda x: scores(x, "softmax", 2)[..., 1:], "one"),
    "scores": (scores, "scores"),
    "scores behind dropout": (lambda x: L.Dropout(0.3)(scores(x)), "scores"),
    "scores of tanh": (lambda x: scores(x, "tanh"), "scores"),
}


def truth_of(answers: np.ndarray, kind: str) -> np.ndarray:
    """Return the probabilities (N, h, w, classes) that Keras's answers mean."""
    if kind == "one":
        answers = answers if answers.shape[-1] == 1 else answers[..., None]
        return np.concatenate([1 - answers, answers], -1)
    if kind == "probabilities":
        return answers
    powers = np.exp(answers - answers.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
