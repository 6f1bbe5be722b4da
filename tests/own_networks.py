"""Networks as people write them who have never seen this package: what has to work on them, too."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers


def separable_fcn() -> keras.Model:
    """A sequential network of separable convolutions with a transposed one at the end; (64, 64, 3) -> (64, 64, 4)."""
    return keras.Sequential(
        [
            layers.Input((64, 64, 3)),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6),
            layers.SeparableConv2D(12, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.SeparableConv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(scale=False),
            layers.Activation("relu"),
            layers.SpatialDropout2D(0.1),
            layers.Conv2DTranspose(8, 4, strides=2, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.UpSampling2D(interpolation="bilinear"),
            layers.Conv2D(4, 1),
        ],
        name="separable_fcn",
    )


def inception_net() -> keras.Model:
    """Branches of several kernels and an average pooling, joined, twice; (32, 48, 3) -> (32, 48, 3)."""

    def branches(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
        one = layers.Conv2D(filters, 1, activation="relu")(x)
        three = layers.Conv2D(filters, 3, padding="same", dilation_rate=2, activation="relu")(x)
        wide = layers.Conv2D(filters, (1, 5), padding="same", activation="relu")(x)
        pooled = layers.AveragePooling2D(3, strides=1, padding="same")(x)
        return layers.Concatenate()([one, three, wide, layers.Conv2D(filters, 1)(pooled)])

    image = layers.Input((32, 48, 3))
    x = branches(layers.BatchNormalization()(image), 4)
    x = layers.AveragePooling2D(2)(x)
    x = layers.LeakyReLU(negative_slope=0.1)(layers.BatchNormalization()(branches(x, 6)))
    x = layers.UpSampling2D(2, interpolation="nearest")(x)
    x = layers.Dropout(0.2)(layers.ZeroPadding2D(1)(x))
    return keras.Model(image, layers.Conv2D(3, 3)(x), name="inception_net")


def squeeze_unet() -> keras.Model:
    """A U-Net with squeeze and excitation (Hu 2018) and a residual sum; (32, 32, 1) -> (32, 32, 2)."""

    def excite(x: keras.KerasTensor) -> keras.KerasTensor:
        channels = x.shape[-1]
        gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
        gate = layers.Conv2D(channels // 2, 1, activation="relu")(gate)
        return layers.Multiply()([x, layers.Conv2D(channels, 1, activation="sigmoid")(gate)])

    def double(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.Activation("relu")(layers.BatchNormalization()(x))
        return excite(x)

    image = layers.Input((32, 32, 1))
    first = double(image, 4)
    second = double(layers.MaxPooling2D()(first), 8)
    second = layers.Add()([second, layers.Conv2D(8, 1)(second)])
    x = layers.Conv2DTranspose(4, 2, strides=2)(second)
    x = double(layers.Concatenate()([first, x]), 4)
    return keras.Model(image, layers.Conv2D(2, 1)(x), name="squeeze_unet")


def tiny_segmenter() -> keras.Model:
    """Four layers with kernels of 3x3, 1x1 and, transposed, 2x2, for tests that train; (16, 16, 3) -> (16, 16, 3)."""
    image = layers.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="first")(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(12, 1, activation="relu", name="second")(layers.MaxPooling2D()(x))
    x = layers.Conv2DTranspose(8, 2, strides=2, name="up")(x)
    return keras.Model(image, layers.Conv2D(3, 1, name="scores")(x), name="tiny_segmenter")


def every_op() -> keras.Model:
    """A network of all that has arithmetic of its own in int8."""
    image = keras.Input((16, 24, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu6")(image)
    other = layers.Conv2D(8, 1)(layers.LeakyReLU(0.1)(layers.Conv2D(8, 3, padding="same")(image)))
    x = layers.Add()([x, other, layers.SeparableConv2D(8, 3, padding="same")(x)])
    gate = layers.Conv2D(8, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.ReLU()(layers.Subtract()([layers.Multiply()([x, gate]), other]))
    small = layers.Conv2D(6, 3, padding="same", dilation_rate=2, activation="silu")(layers.AveragePooling2D(2)(x))
    small = layers.Conv2D(6, 1)(layers.AveragePooling2D(2, strides=1, padding="same")(small))
    up = layers.Conv2D(6, 1)(layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="tanh")(small))
    x = layers.Concatenate()([layers.UpSampling2D(2, interpolation="bilinear")(layers.MaxPooling2D(2)(x)), up])
    x = layers.UpSampling2D(2, interpolation="bilinear")(layers.MaxPooling2D(1, strides=2)(x))
    return keras.Model(image, layers.Conv2D(4, 3, padding="same")(x))


OWN_NETWORKS = {make.__name__: make for make in (separable_fcn, inception_net, squeeze_unet)}


def with_statistics(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give each BatchNormalization statistics, scales and shifts as training leaves them, and return the model."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            for weight in layer.weights:
                positive = weight.name in ("gamma", "moving_variance")
                low, high = (0.5, 1.5) if positive else (-0.3, 0.3)
                weight.assign(random.uniform(low, high, weight.shape))
    return model
