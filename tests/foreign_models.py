"""Networks of public repositories and tutorials, written anew and small from their descriptions; keras.applications.

Each takes (64, 64, 3), or what `SIZES` says, of pixels in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers as L

SIZES = {"Xception": 96, "InceptionV3": 96, "InceptionResNetV2": 96}
CLASSES = 4


def image(size: int = 64) -> Any:
    return keras.Input((size, size, 3))


def conv(x: Any, filters: int, kernel: Any = 3, *, norm: bool = False, act: str | None = "relu", **more: Any) -> Any:
    x = L.Conv2D(filters, kernel, padding="same", use_bias=not norm, **more)(x)
    x = L.BatchNormalization()(x) if norm else x
    return L.Activation(act)(x) if act else x


def double(x: Any, filters: int, **how: Any) -> Any:
    return conv(conv(x, filters, **how), filters, **how)


def scores(x: Any, activation: str | None = "softmax", classes: int = CLASSES) -> Any:
    return L.Conv2D(classes, 1, activation=activation)(x)


def u_shaped(
    block: Callable[[Any, int], Any],
    up: Callable[[Any, int], Any],
    *,
    depth: int = 3,
    filters: int = 8,
    join: Callable[[Any, Any], Any] | None = None,
    end: Callable[[Any], Any] = scores,
    pool: Callable[[Any], Any] | None = None,
) -> keras.Model:
    start = image()
    x, skips = start, []
    for level in range(depth):
        x = block(x, filters << level)
        skips.append(x)
        x = pool(x) if pool else L.MaxPooling2D()(x)
    x = block(x, filters << depth)
    for level in reversed(range(depth)):
        x = up(x, filters << level)
        x = join(skips[level], x) if join else L.Concatenate()([skips[level], x])
        x = block(x, filters << level)
    return keras.Model(start, end(x))


def transposed(x: Any, filters: int) -> Any:
    return L.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)


def nearest(x: Any, filters: int) -> Any:
    return L.UpSampling2D()(x)


def bilinear(x: Any, filters: int) -> Any:
    return L.UpSampling2D(interpolation="bilinear")(x)


def zhixuhao_unet() -> keras.Model:
    def up(x: Any, filters: int) -> Any:
        return conv(L.UpSampling2D(size=(2, 2))(x), filters, 2, kernel_initializer="he_normal")

    def end(x: Any) -> Any:
        return L.Conv2D(1, 1, activation="sigmoid")(conv(L.Dropout(0.5)(x), 2))

    return u_shaped(double, up, end=end)


def keras_unet_vanilla() -> keras.Model:
    """Without padding: the map is smaller than the image."""
    start = image()
    first = L.Conv2D(8, 3, activation="relu")(L.Conv2D(8, 3, activation="relu")(start))
    x = L.Conv2D(16, 3, activation="relu")(L.MaxPooling2D()(first))
    x = L.Conv2DTranspose(8, 2, strides=2)(x)
    x = L.Concatenate()([L.Cropping2D(2)(first), x])
    return keras.Model(start, L.Conv2D(2, 1, activation="softmax")(x))


def keras_unet_custom() -> keras.Model:
    def block(x: Any, filters: int) -> Any:
        x = L.Dropout(0.3)(conv(x, filters, norm=True, kernel_initializer="he_normal"))
        return conv(x, filters, norm=True)

    return u_shaped(block, transposed, end=lambda x: scores(x, "sigmoid", 1))


def keras_unet_satellite() -> keras.Model:
    def block(x: Any, filters: int) -> Any:
        return conv(x, filters, norm=True)

    def up(x: Any, filters: int) -> Any:
        x = L.Conv2DTranspose(filters, 3, strides=2, padding="same")(L.BatchNormalization()(x))
        return L.Activation("relu")(x)

    return u_shaped(block, up, end=lambda x: scores(x, "sigmoid", 1))


def attention_unet() -> keras.Model:
    def gate(skip: Any, x: Any) -> Any:
        filters = skip.shape[-1] // 2
        both = L.Add()([conv(skip, filters, 1, act=None), conv(x, filters, 1, act=None)])
        share = L.Conv2D(1, 1, activation="sigmoid")(L.Activation("relu")(both))
        return L.Concatenate()([L.Multiply()([skip, share]), x])

    return u_shaped(double, bilinear, join=gate)


def unet_plus_plus() -> keras.Model:
    start = image()
    nodes: dict[tuple[int, int], Any] = {}
    for level in range(3):
        x = start if level == 0 else L.MaxPooling2D()(nodes[level - 1, 0])
        nodes[level, 0] = double(x, 8 << level, norm=True)
        for step in range(1, level + 1):
            at = level - step
            before = [nodes[at, each] for each in range(step)]
            nodes[at, step] = double(L.Concatenate()([*before, transposed(nodes[at + 1, step - 1], 8 << at)]), 8 << at)
    ends = [scores(nodes[0, step], None) for step in (1, 2)]
    return keras.Model(start, L.Softmax()(L.Average()(ends)))


def r2_unet() -> keras.Model:
    def block(x: Any, filters: int) -> Any:
        x = conv(x, filters, 1, act=None)
        layer, norm, state = L.Conv2D(filters, 3, padding="same"), L.BatchNormalization(), x
        for _ in range(2):  # the same weights again
            state = L.Activation("relu")(norm(layer(L.Add()([x, state]))))
        return L.Add()([x, state])

    return u_shaped(block, transposed, depth=2)


def resunet_a() -> keras.Model:
    def block(x: Any, filters: int) -> Any:
        x = conv(x, filters, 1, act=None)
        ways = [
            conv(L.Activation("relu")(L.BatchNormalization()(x)), filters, act=None, dilation_rate=n) for n in (1, 3)
        ]
        return L.Add()([x, *ways])

    def end(x: Any) -> Any:
        pooled = [bilinear(conv(L.AveragePooling2D(2)(x), 4, 1), 0), conv(x, 4, 1)]
        return scores(L.Concatenate()([x, *pooled]))

    return u_shaped(block, bilinear, depth=2, end=end)


def unet_3_plus() -> keras.Model:
    start = image()
    one = double(start, 8)
    two = double(L.MaxPooling2D()(one), 16)
    three = double(L.MaxPooling2D()(two), 32)
    joined = [conv(L.MaxPooling2D()(one), 8), conv(two, 8), conv(bilinear(three, 0), 8)]
    middle = conv(L.Concatenate()(joined), 24, norm=True)
    joined = [conv(one, 8), conv(bilinear(middle, 0), 8), conv(L.UpSampling2D(4, interpolation="bilinear")(three), 8)]
    return keras.Model(start, scores(conv(L.Concatenate()(joined), 24, norm=True)))


def u2net() -> keras.Model:
    def rsu(x: Any, filters: int) -> Any:
        first = conv(x, filters, norm=True)
        low = conv(L.MaxPooling2D()(first), filters // 2, norm=True)
        deep = conv(low, filters // 2, norm=True, dilation_rate=2)
        x = conv(L.Concatenate()([low, deep]), filters // 2, norm=True)
        return L.Add()([first, conv(L.Concatenate()([first, bilinear(x, 0)]), filters, norm=True)])

    return u_shaped(rsu, bilinear, depth=2, end=lambda x: scores(x, "sigmoid", 1))


def residual_unit(x: Any, filters: int, strides: int = 1) -> Any:
    """As in classification_models: pre-activation, with a projection where the shape changes."""
    y = L.Activation("relu")(L.BatchNormalization(scale=False)(x))
    short = L.Conv2D(filters, 1, strides=strides, use_bias=False)(y)
    y = L.Conv2D(filters, 3, strides=strides, use_bias=False)(L.ZeroPadding2D(1)(y))
    y = L.Activation("relu")(L.BatchNormalization()(y))
    return L.Add()([short, L.Conv2D(filters, 3, use_bias=False)(L.ZeroPadding2D(1)(y))])


def pyramid() -> tuple[Any, list[Any]]:
    start = image()
    x = L.BatchNormalization(scale=False)(start)
    maps = [residual_unit(x, 8)]
    for level in (1, 2, 3):
        maps.append(residual_unit(maps[-1], 8 << level, 2))
    return start, maps


def sm_unet() -> keras.Model:
    start, maps = pyramid()
    x = maps[-1]
    for skip in reversed(maps[:-1]):
        x = double(L.Concatenate()([L.UpSampling2D()(x), skip]), skip.shape[-1], norm=True)
    return keras.Model(start, L.Activation("softmax")(conv(x, CLASSES, act=None)))


def sm_fpn() -> keras.Model:
    start, maps = pyramid()
    merged = [conv(maps[-1], 16, 1, act=None)]
    for skip in reversed(maps[:-1]):
        merged.append(L.Add()([L.UpSampling2D()(merged[-1]), conv(skip, 16, 1, act=None)]))
    ways = [L.UpSampling2D(64 // x.shape[1])(double(x, 8, norm=True)) for x in merged]
    x = L.SpatialDropout2D(0.2)(L.Concatenate()(ways))
    return keras.Model(start, L.Activation("softmax")(conv(x, CLASSES, act=None)))


def sm_linknet() -> keras.Model:
    start, maps = pyramid()
    x = maps[-1]
    for skip in reversed(maps[:-1]):
        x = conv(L.UpSampling2D()(conv(x, x.shape[-1] // 4, 1, norm=True)), skip.shape[-1], norm=True)
        x = L.Add()([x, skip])
    return keras.Model(start, scores(x, "sigmoid", 1))


def sm_pspnet() -> keras.Model:
    start, maps = pyramid()
    x = maps[-2]
    ways = [x]
    for bins in (1, 2, 4):
        pooled = conv(L.AveragePooling2D(16 // bins)(x), 8, 1, norm=True)
        ways.append(L.UpSampling2D(16 // bins, interpolation="bilinear")(pooled))
    x = conv(L.Concatenate()(ways), 16, 1, norm=True)
    x = L.UpSampling2D(4, interpolation="bilinear")(conv(x, CLASSES, act=None))
    return keras.Model(start, L.Activation("softmax")(x))


def divam_unet(full: bool = True) -> keras.Model:
    """image-segmentation-keras: flattened scores, at half size unless `full`."""

    def block(x: Any, filters: int) -> Any:
        x = L.Conv2D(filters, 3, padding="valid")(L.ZeroPadding2D((1, 1))(x))
        return L.Activation("relu")(L.BatchNormalization()(x))

    start = image()
    maps = [start]
    for level in range(3):
        maps.append(L.MaxPooling2D()(block(maps[-1], 8 << level)))
    x = maps[-1]
    for level in (2, 1) if not full else (2, 1, 0):
        x = block(L.Concatenate()([L.UpSampling2D()(x), maps[level]]), 8 << level)
    x = L.Conv2D(CLASSES, 3, padding="same")(x)
    side = x.shape[1]
    return keras.Model(start, L.Activation("softmax")(L.Reshape((side * side, -1))(x)))


def divam_half_size() -> keras.Model:
    return divam_unet(full=False)


def divam_fcn8() -> keras.Model:
    start = image()
    maps = [start]
    for level in range(4):
        maps.append(L.MaxPooling2D()(conv(maps[-1], 8 << level)))
    x = L.Conv2D(CLASSES, 1)(L.Dropout(0.5)(conv(maps[4], 64, 7)))
    for level in (3, 2):
        x = L.Conv2DTranspose(CLASSES, 4, strides=2, use_bias=False)(x)
        x = L.Add()([L.Cropping2D(((0, 2), (0, 2)))(x), L.Conv2D(CLASSES, 1)(maps[level])])
    x = L.Cropping2D(((0, 4), (0, 4)))(L.Conv2DTranspose(CLASSES, 8, strides=4, use_bias=False)(x))
    return keras.Model(start, L.Activation("softmax")(L.Reshape((64 * 64, -1))(x)))


def segnet() -> keras.Model:
    start = image()
    x = start
    for filters in (8, 16, 32):
        x = L.MaxPooling2D()(conv(x, filters, norm=True))
    for filters in (32, 16, 8):
        x = conv(L.UpSampling2D()(x), filters, norm=True)
    return keras.Model(start, scores(x))


def keras_io_pets() -> keras.Model:
    start = image()
    x = L.Activation("relu")(L.BatchNormalization()(L.Conv2D(8, 3, strides=2, padding="same")(start)))
    before = x
    for filters in (16, 32):
        for _ in range(2):
            x = L.BatchNormalization()(L.SeparableConv2D(filters, 3, padding="same")(L.Activation("relu")(x)))
        x = L.MaxPooling2D(3, strides=2, padding="same")(x)
        before = x = L.add([x, L.Conv2D(filters, 1, strides=2, padding="same")(before)])
    for filters in (32, 16, 8):
        for _ in range(2):
            x = L.BatchNormalization()(L.Conv2DTranspose(filters, 3, padding="same")(L.Activation("relu")(x)))
        x = L.UpSampling2D(2)(x)
        before = x = L.add([x, L.Conv2D(filters, 1, padding="same")(L.UpSampling2D(2)(before))])
    return keras.Model(start, L.Conv2D(3, 3, activation="softmax", padding="same")(x))


def keras_io_deeplab() -> keras.Model:
    start = image()
    low = conv(conv(start, 8, norm=True, strides=2), 16, norm=True, strides=2)
    x = conv(low, 32, norm=True, strides=2)
    side = x.shape[1]
    pooled = conv(L.AveragePooling2D(pool_size=(side, side))(x), 16, 1, norm=True)
    ways = [L.UpSampling2D(size=(side, side), interpolation="bilinear")(pooled)]
    ways += [conv(x, 16, 1 if rate == 1 else 3, norm=True, dilation_rate=rate) for rate in (1, 2, 4)]
    x = conv(L.Concatenate()(ways), 16, 1, norm=True)
    x = L.Concatenate()([L.UpSampling2D(2, interpolation="bilinear")(x), conv(low, 12, 1, norm=True)])
    x = L.UpSampling2D(4, interpolation="bilinear")(double(x, 16, norm=True))
    return keras.Model(start, L.Conv2D(CLASSES, 1, padding="same")(x))


def bisenet() -> keras.Model:
    def refine(x: Any) -> Any:
        gate = L.GlobalAveragePooling2D(keepdims=True)(x)
        gate = L.Activation("sigmoid")(L.BatchNormalization()(L.Conv2D(x.shape[-1], 1)(gate)))
        return L.Multiply()([x, gate])

    start = image()
    spatial = conv(conv(start, 8, norm=True, strides=2), 16, norm=True, strides=2)
    context = conv(spatial, 24, norm=True, strides=2)
    deep = conv(context, 32, norm=True, strides=2)
    joined = L.Concatenate()([L.UpSampling2D(2)(refine(context)), L.UpSampling2D(4)(refine(deep)), spatial])
    x = conv(joined, 16, norm=True)
    gate = conv(conv(L.GlobalAveragePooling2D(keepdims=True)(x), 16, 1), 16, 1, act="sigmoid")
    x = L.Add()([x, L.Multiply()([x, gate])])
    return keras.Model(start, L.UpSampling2D(4, interpolation="bilinear")(scores(x, None)))


def enet() -> keras.Model:
    def prelu(x: Any) -> Any:
        return L.PReLU(shared_axes=[1, 2])(x)

    def bottleneck(x: Any, kernel: Any = 3, dilation: int = 1) -> Any:
        filters = x.shape[-1]
        y = prelu(L.BatchNormalization()(L.Conv2D(filters // 4, 1, use_bias=False)(x)))
        if kernel == 5:
            y = L.Conv2D(filters // 4, (1, 5), padding="same", use_bias=False)(
                L.Conv2D(filters // 4, (5, 1), padding="same", use_bias=False)(y)
            )
        else:
            y = L.Conv2D(filters // 4, 3, padding="same", dilation_rate=dilation)(y)
        y = L.Conv2D(filters, 1, use_bias=False)(prelu(L.BatchNormalization()(y)))
        return prelu(L.Add()([x, L.SpatialDropout2D(0.1)(L.BatchNormalization()(y))]))

    start = image()
    x = L.Concatenate()([L.Conv2D(13, 3, strides=2, padding="same")(start), L.MaxPooling2D()(start)])
    x = prelu(L.BatchNormalization()(x))
    x = bottleneck(bottleneck(bottleneck(x), 5), dilation=2)
    return keras.Model(start, L.Conv2DTranspose(CLASSES, 2, strides=2, activation="softmax")(x))


def pix2pix_tutorial() -> keras.Model:
    """tensorflow.org's segmentation tutorial: MobileNetV2 as a model of several outputs within the model."""
    base = keras.applications.MobileNetV2(input_shape=(64, 64, 3), include_top=False, weights=None, alpha=0.35)
    names = (
        "block_1_expand_relu",
        "block_3_expand_relu",
        "block_6_expand_relu",
        "block_13_expand_relu",
        "block_16_project",
    )
    stack = keras.Model(inputs=base.input, outputs=[base.get_layer(name).output for name in names])
    stack.trainable = False
    start = image()
    *skips, x = stack(start)
    for filters, skip in zip((32, 16, 16, 8), reversed(skips), strict=True):
        upsample = keras.Sequential(
            [
                L.Conv2DTranspose(filters, 3, strides=2, padding="same", use_bias=False),
                L.BatchNormalization(),
                L.ReLU(),
            ]
        )
        x = L.Concatenate()([upsample(x), skip])
    return keras.Model(inputs=start, outputs=L.Conv2DTranspose(3, 3, strides=2, padding="same")(x))


def fast_scnn() -> keras.Model:
    def separable(x: Any, filters: int, strides: int) -> Any:
        x = L.BatchNormalization()(L.DepthwiseConv2D(3, strides=strides, padding="same")(x))
        return conv(x, filters, 1, norm=True)

    def inverted(x: Any, filters: int, strides: int) -> Any:
        y = conv(x, x.shape[-1] * 4, 1, norm=True)
        y = L.ReLU()(L.BatchNormalization()(L.DepthwiseConv2D(3, strides=strides, padding="same")(y)))
        y = conv(y, filters, 1, norm=True, act=None)
        return L.Add()([x, y]) if strides == 1 and x.shape[-1] == filters else y

    start = image()
    fast = separable(conv(start, 8, norm=True, strides=2), 16, 2)
    x = inverted(inverted(fast, 24, 2), 24, 1)
    pooled = [
        L.UpSampling2D(8 // n, interpolation="bilinear")(conv(L.AveragePooling2D(8 // n)(x), 6, 1)) for n in (1, 2)
    ]
    x = conv(L.Concatenate()([x, *pooled]), 16, 1, norm=True)
    x = L.DepthwiseConv2D(3, padding="same")(L.UpSampling2D(2)(x))
    x = L.ReLU()(L.Add()([conv(fast, 16, 1, act=None), conv(x, 16, 1, act=None)]))
    return keras.Model(start, L.UpSampling2D(4, interpolation="bilinear")(scores(L.Dropout(0.3)(x))))


def kaggle_nuclei() -> keras.Model:
    start = image()
    x = L.Lambda(lambda x: x * 255 / 255)(start)

    def block(x: Any, filters: int) -> Any:
        return conv(L.Dropout(0.1)(conv(x, filters, act="elu")), filters, act="elu")

    one = block(x, 8)
    two = block(L.MaxPooling2D()(one), 16)
    x = block(L.concatenate([transposed(two, 8), one]), 8)
    return keras.Model(inputs=[start], outputs=[scores(x, "sigmoid", 1)])


def multires_unet() -> keras.Model:
    def block(x: Any, filters: int) -> Any:
        short = conv(x, filters, 1, norm=True, act=None)
        three = conv(x, filters // 4, norm=True)
        five = conv(three, filters // 4, norm=True)
        seven = conv(five, filters // 2, norm=True)
        y = L.BatchNormalization()(L.Concatenate()([three, five, seven]))
        return L.BatchNormalization()(L.Activation("relu")(L.add([short, y])))

    return u_shaped(block, transposed, depth=2)


def residual_unet() -> keras.Model:
    def block(x: Any, filters: int) -> Any:
        y = L.BatchNormalization()(conv(L.Activation("relu")(L.BatchNormalization()(x)), filters))
        return L.Add()([conv(y, filters, act=None), L.BatchNormalization()(conv(x, filters, 1, act=None))])

    return u_shaped(block, nearest)


def tiramisu() -> keras.Model:
    def block(x: Any, filters: int) -> Any:
        for _ in range(2):
            y = conv(L.Activation("relu")(L.BatchNormalization()(x)), 8, act=None)
            x = L.Concatenate()([x, L.Dropout(0.2)(y)])
        return x

    return u_shaped(block, lambda x, filters: L.Conv2DTranspose(8, 3, strides=2, padding="same")(x), depth=2)


def hard_swish_unet() -> keras.Model:
    def block(x: Any, filters: int) -> Any:
        x = L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(conv(x, filters, 1, act=None)))
        return L.Multiply()([x, L.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)])

    return u_shaped(block, bilinear, depth=2)


def squeeze_excite_unet() -> keras.Model:
    def block(x: Any, filters: int) -> Any:
        x = double(x, filters, norm=True)
        gate = L.Reshape((1, 1, filters))(L.GlobalAveragePooling2D()(x))
        gate = L.Dense(filters, activation="sigmoid")(L.Dense(filters // 4, activation="relu")(gate))
        return L.multiply([x, gate])

    return u_shaped(block, transposed, depth=2)


def cbam_unet() -> keras.Model:
    def block(x: Any, filters: int) -> Any:
        x = conv(x, filters, norm=True)
        means, most = keras.ops.mean(x, axis=-1, keepdims=True), keras.ops.max(x, axis=-1, keepdims=True)
        return x * L.Conv2D(1, 7, padding="same", activation="sigmoid")(L.Concatenate()([means, most]))

    return u_shaped(block, nearest, depth=2)


def group_norm_unet() -> keras.Model:
    def block(x: Any, filters: int) -> Any:
        return L.Activation("gelu")(L.GroupNormalization(4)(conv(x, filters, act=None)))

    return u_shaped(block, nearest, depth=2)


def instance_norm_unet() -> keras.Model:
    def block(x: Any, filters: int) -> Any:
        return L.LeakyReLU(negative_slope=0.2)(L.GroupNormalization(groups=-1)(conv(x, filters, act=None)))

    return u_shaped(block, transposed, depth=2)


def convnext_unet() -> keras.Model:
    def block(x: Any, filters: int) -> Any:
        x = conv(x, filters, 1, act=None)
        y = L.LayerNormalization()(L.DepthwiseConv2D(7, padding="same")(x))
        return L.Add()([x, L.Dense(filters)(L.Dense(4 * filters, activation="gelu")(y))])

    return u_shaped(block, bilinear, depth=2)


def transformer_unet() -> keras.Model:
    start = image()
    x = conv(start, 16, 8, strides=8, act=None)
    tokens = L.LayerNormalization()(L.Reshape((64, 16))(x))
    tokens = L.Add()([tokens, L.MultiHeadAttention(2, 8)(tokens, tokens)])
    x = L.Reshape((8, 8, 16))(tokens)
    return keras.Model(start, scores(L.UpSampling2D(8, interpolation="bilinear")(x), None))


def pixel_shuffle_unet() -> keras.Model:
    def up(x: Any, filters: int) -> Any:
        x = conv(x, 4 * filters, act=None)
        side = x.shape[1]
        x = keras.ops.reshape(x, (-1, side, side, 2, 2, filters))
        return keras.ops.reshape(keras.ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 2 * side, 2 * side, filters))

    return u_shaped(double, up, depth=2)


def hrnet() -> keras.Model:
    start = image()
    high = conv(start, 8, norm=True, strides=2)
    low = conv(high, 16, norm=True, strides=2)
    for _ in range(2):
        up = nearest(conv(low, 8, 1, norm=True, act=None), 0)
        down = conv(high, 16, norm=True, strides=2, act=None)
        high, low = L.ReLU()(L.Add()([double(high, 8), up])), L.ReLU()(L.Add()([double(low, 16), down]))
    return keras.Model(start, L.Resizing(64, 64, interpolation="bilinear")(scores(high, None)))


def selu_fcn() -> keras.Model:
    start = image()
    x = conv(conv(start, 8, act="selu"), 8, act="softplus", strides=2)
    return keras.Model(start, scores(bilinear(conv(x, 8, act="tanh"), 0)))


class TutorialBlock(L.Layer):
    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conv1, self.conv2 = (L.Conv2D(filters, 3, padding="same", activation="relu") for _ in range(2))
        self.norm = L.BatchNormalization()

    def call(self, x: Any, training: Any = None) -> Any:
        return self.norm(self.conv2(self.conv1(x)), training=training)


class TutorialUNet(keras.Model):
    def __init__(self, end: str) -> None:
        super().__init__()
        self.down, self.mid, self.up = TutorialBlock(8), TutorialBlock(16), TutorialBlock(8)
        self.rise, self.head, self.end = L.Conv2DTranspose(8, 2, strides=2), L.Conv2D(CLASSES, 1), end

    def call(self, x: Any, training: Any = None) -> Any:
        import tensorflow as tf

        first = self.down(x, training=training)
        if self.end == "tensorflow":
            low = self.mid(tf.nn.max_pool2d(first, 2, 2, "SAME"), training=training)
            x = tf.concat([first, self.rise(low)], -1)
            return tf.nn.softmax(self.head(self.up(x, training=training)))
        low = self.mid(keras.ops.max_pool(first, 2), training=training)
        return keras.ops.softmax(
            self.head(self.up(keras.ops.concatenate([first, self.rise(low)], -1), training=training))
        )


def subclassed_of_keras() -> keras.Model:
    model = TutorialUNet("keras")
    model(np.zeros((1, 64, 64, 3), np.float32))
    return model


def subclassed_of_tensorflow() -> keras.Model:
    model = TutorialUNet("tensorflow")
    model(np.zeros((1, 64, 64, 3), np.float32))
    return model


def sequential_autoencoder() -> keras.Model:
    return keras.Sequential(
        [
            image(),
            L.Conv2D(8, 3, activation="relu", padding="same"),
            L.MaxPooling2D(),
            L.Conv2D(16, 3, activation="relu", padding="same"),
            L.UpSampling2D(),
            L.Conv2D(1, 3, activation="sigmoid", padding="same"),
        ]
    )


def own_blocks() -> keras.Model:
    return u_shaped(lambda x, filters: TutorialBlock(filters)(x), transposed, depth=2)


def resized_inside() -> keras.Model:
    """An image that is scaled down within the network, and its scores up again."""
    start = image()
    x = L.Resizing(32, 32)(L.Rescaling(2.0, -1.0)(start))
    return keras.Model(start, L.Resizing(64, 64)(scores(double(x, 8), "softmax")))


def linknet_of_any_size() -> keras.Model:
    start = keras.Input((None, None, 3))
    maps = [conv(start, 8, 7, norm=True, strides=2)]
    for filters in (16, 32):
        maps.append(conv(maps[-1], filters, norm=True, strides=2))
    x = maps[-1]
    for skip in (maps[1], maps[0], None):
        x = conv(x, x.shape[-1] // 4, 1, norm=True)
        x = L.Conv2DTranspose(x.shape[-1], 3, strides=2, padding="same", use_bias=False)(x)
        x = conv(L.ReLU()(L.BatchNormalization()(x)), 8 if skip is None else skip.shape[-1], 1, norm=True)
        x = x if skip is None else L.add([x, skip])
    return keras.Model(start, L.Conv2D(3, 2, padding="same", activation="softmax")(x))


class OwnSoftmax(L.Layer):
    def call(self, x: Any) -> Any:
        powers = keras.ops.exp(x - keras.ops.max(x, axis=-1, keepdims=True))
        return powers / keras.ops.sum(powers, axis=-1, keepdims=True)


def own_softmax() -> keras.Model:
    return u_shaped(double, nearest, depth=1, end=lambda x: OwnSoftmax()(scores(x, None)))


def softmax_before_resizing() -> keras.Model:
    start = image()
    return keras.Model(start, bilinear(scores(conv(start, 8, norm=True, strides=2)), 0))


def clipped_softmax() -> keras.Model:
    return u_shaped(double, nearest, depth=1, end=lambda x: keras.ops.clip(scores(x), 1e-7, 1 - 1e-7))


def log_softmax() -> keras.Model:
    return u_shaped(double, nearest, depth=1, end=lambda x: scores(x, "log_softmax"))


class ScalesItself(keras.Model):
    def call(self, x: Any, training: Any = None) -> Any:
        return super().call(2 * x - 1, training=training)


def scaled_by_its_class() -> keras.Model:
    start = image()
    return ScalesItself(start, scores(conv(start, 8, norm=True)))


class Turned(L.Layer):
    """A transposed convolution with the kernel of another layer."""

    def __init__(self, forward: L.Conv2D) -> None:
        super().__init__()
        self.forward = forward

    def call(self, x: Any) -> Any:
        return keras.ops.conv_transpose(x, self.forward.kernel, strides=2, padding="same")


def tied_autoencoder() -> keras.Model:
    start, forward = image(), L.Conv2D(8, 3, strides=2, padding="same", activation="relu")
    return keras.Model(start, Turned(forward)(forward(start)))


class Affine(L.Layer):
    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")
        self.shift = self.add_weight(shape=(input_shape[-1],))

    def call(self, x: Any) -> Any:
        return self.scale * x + self.shift


def own_weights() -> keras.Model:
    start = image()
    return keras.Model(start, scores(L.ReLU()(Affine()(conv(start, 8, act=None)))))


class ResizedAs(L.Layer):
    def call(self, pair: Any) -> Any:
        import tensorflow as tf

        return tf.image.resize(pair[0], tf.shape(pair[1])[1:3])

    def compute_output_shape(self, shapes: Any) -> Any:
        return (*shapes[1][:3], shapes[0][-1])


def resized_as_the_skip() -> keras.Model:
    start = keras.Input((None, None, 3))
    first = conv(start, 8, norm=True)
    x = ResizedAs()([conv(L.MaxPooling2D()(first), 16, norm=True), first])
    return keras.Model(start, scores(L.Concatenate()([x, first]), None))


def batches_of_two() -> keras.Model:
    start = keras.Input(batch_shape=(2, 64, 64, 3))
    return keras.Model(start, scores(conv(start, 8, norm=True)))


def prelu_of_each_pixel() -> keras.Model:
    start = image()
    return keras.Model(start, scores(L.PReLU(alpha_initializer="uniform")(conv(start, 8, act=None)), None))


def hard_swish_of_keras() -> keras.Model:
    def block(x: Any, filters: int) -> Any:
        x = conv(x, filters, norm=True, act="hard_silu")
        gate = conv(L.GlobalAveragePooling2D(keepdims=True)(x), filters // 4, 1)
        return L.Multiply()([x, L.Conv2D(filters, 1, activation="hard_sigmoid")(gate)])

    return u_shaped(block, bilinear, depth=2)


def nested_in_sequential() -> keras.Model:
    base = keras.applications.MobileNetV2(input_shape=(64, 64, 3), include_top=False, weights=None, alpha=0.35)
    rises = [L.Conv2DTranspose(f, 4, strides=s, padding="same", activation="relu") for f, s in ((32, 4), (16, 4))]
    last = L.Conv2DTranspose(3, 4, strides=2, padding="same", activation="softmax")
    return keras.Sequential([image(), L.Rescaling(2.0, -1.0), base, *rises, last])


def backbone(name: str, **more: Any) -> Any:
    size = SIZES.get(name, 64)
    small = {"alpha": 0.35} if name in ("MobileNetV2",) else {"alpha": 0.25} if name == "MobileNet" else {}
    make = getattr(keras.applications, name)
    return make(input_shape=(size, size, 3), weights=None, **small, **more)


def application(name: str) -> keras.Model:
    return backbone(name, classes=10)


def encoder_unet(name: str) -> keras.Model:
    """A U-Net on a backbone: of each size of map the last is a skip."""
    base = backbone(name, include_top=False)
    size = SIZES.get(name, 64)
    last: dict[int, Any] = {}
    for layer in base.layers:
        shape = getattr(layer.output, "shape", ())
        if len(shape) == 4 and shape[1] == shape[2] and shape[1] < size:
            last[shape[1]] = layer.output
    sides = sorted(last)[-4:]
    x = last[sides[0]]
    for side in sides[1:]:
        x = conv(x, 16, 1, norm=True)
        x = L.UpSampling2D()(x) if 2 * x.shape[1] == side else L.Resizing(side, side, interpolation="nearest")(x)
        x = conv(L.Concatenate()([x, conv(last[side], 16, 1)]), 16, norm=True)
    x = L.UpSampling2D()(x) if 2 * x.shape[1] == size else L.Resizing(size, size, interpolation="nearest")(x)
    return keras.Model(base.input, scores(x, "softmax"))


APPLICATIONS = (
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large", "EfficientNetB0", "EfficientNetV2B0"),
    *("ResNet50", "ResNet50V2", "DenseNet121", "VGG16", "NASNetMobile", "Xception", "InceptionV3", "ConvNeXtTiny"),
    "InceptionResNetV2",
)
NETWORKS: dict[str, Callable[[], keras.Model]] = {
    make.__name__: make
    for make in (
        *(zhixuhao_unet, keras_unet_vanilla, keras_unet_custom, keras_unet_satellite, attention_unet, unet_plus_plus),
        *(r2_unet, resunet_a, unet_3_plus, u2net, sm_unet, sm_fpn, sm_linknet, sm_pspnet, divam_unet, divam_half_size),
        *(divam_fcn8, segnet, keras_io_pets, keras_io_deeplab, bisenet, enet, pix2pix_tutorial, fast_scnn),
        *(kaggle_nuclei, multires_unet, residual_unet, tiramisu, hard_swish_unet, squeeze_excite_unet, cbam_unet),
        *(group_norm_unet, instance_norm_unet, convnext_unet, transformer_unet, pixel_shuffle_unet, hrnet, selu_fcn),
        *(linknet_of_any_size, own_softmax, softmax_before_resizing, clipped_softmax, log_softmax, scaled_by_its_class),
        *(tied_autoencoder, own_weights, resized_as_the_skip, batches_of_two, prelu_of_each_pixel),
        *(hard_swish_of_keras, nested_in_sequential),
        *(subclassed_of_keras, subclassed_of_tensorflow, sequential_autoencoder, own_blocks, resized_inside),
    )
}


def with_statistics(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give each BatchNormalization, wherever it is, statistics, scales and shifts as training leaves them."""
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            for weight in layer.weights:
                low, high = (0.7, 1.3) if weight.name in ("gamma", "moving_variance") else (-0.2, 0.2)
                weight.assign(random.uniform(low, high, weight.shape))
    return model
