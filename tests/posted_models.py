"""Networks as people post them, of every make and size: what each takes, what it answers, and how images meet it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers as L
from keras import ops

CLASSES = 3


@dataclass(frozen=True)
class Posted:
    """A network and how it is used.

    Args:
        build: makes it.
        shape: (h, w, C) of an image, px.
        kind: what Keras answers: "scores", "probabilities", "sigmoids", or "one" channel of the probability of one
            class.
        value_range: lowest and highest value of a pixel as the network sees it.
        output: name of the output that is meant, of several.
        refused: part of the error of an export, of a network that no file takes.
    """

    build: Callable[[], keras.Model]
    shape: tuple[int, int, int] = (32, 32, 3)
    kind: str = "scores"
    value_range: tuple[float, float] = (0, 1)
    output: str | None = None
    refused: str = ""


POSTED: dict[str, Posted] = {}


def posted(**how: Any) -> Callable[[Callable[[], keras.Model]], Callable[[], keras.Model]]:
    """Enter the network that a function builds in the table."""

    def enter(build: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
        POSTED[build.__name__] = Posted(build, **how)
        return build

    return enter


def conv(x: Any, filters: int = 8, kernel: Any = 3, act: Any = "relu", **more: Any) -> Any:
    return L.Conv2D(filters, kernel, padding="same", activation=act, **more)(x)


def normed(
    x: Any, filters: int = 8, kernel: Any = 3, norm: Any = L.BatchNormalization, act: str = "relu", **more: Any
) -> Any:
    return L.Activation(act)(norm()(L.Conv2D(filters, kernel, padding="same", use_bias=False, **more)(x)))


def end(x: Any, act: Any = None, classes: int = CLASSES) -> Any:
    return L.Conv2D(classes, 1, activation=act, name="mask")(x)


def image(*shape: int | None) -> Any:
    return keras.Input(shape or (32, 32, 3))


# U-Nets


@posted(kind="one")
def attention_unet_of_additive_gates() -> keras.Model:
    def gate(x: Any, g: Any, filters: int) -> Any:
        theta = L.Conv2D(filters, 2, strides=2, padding="same", use_bias=False)(x)
        phi = L.Conv2D(filters, 1)(g)
        psi = L.Conv2D(1, 1)(L.Activation("relu")(L.add([theta, phi])))
        psi = L.UpSampling2D(2, interpolation="bilinear")(L.Activation("sigmoid")(psi))
        return L.BatchNormalization()(L.Conv2D(filters, 1)(L.multiply([psi, x])))

    i = image()
    a = normed(normed(i, 8), 8)
    b = normed(normed(L.MaxPooling2D()(a), 16), 16)
    c = normed(L.MaxPooling2D()(b), 16)
    x = L.concatenate([L.Conv2DTranspose(8, 2, strides=2)(c), gate(b, c, 16)])
    x = normed(x, 8)
    x = L.concatenate([L.Conv2DTranspose(8, 2, strides=2)(x), gate(a, x, 8)])
    return keras.Model(inputs=[i], outputs=[end(normed(x), "sigmoid", 1)])


@posted(kind="one", output="mask_2")
def unet_plus_plus_deeply_supervised() -> keras.Model:
    i = image()
    x00 = normed(i, 8)
    x10 = normed(L.MaxPooling2D()(x00), 12)
    x20 = normed(L.MaxPooling2D()(x10), 16)
    x01 = normed(L.concatenate([x00, L.UpSampling2D()(x10)]), 8)
    x11 = normed(L.concatenate([x10, L.UpSampling2D()(x20)]), 12)
    x02 = normed(L.concatenate([x00, x01, L.UpSampling2D()(x11)]), 8)
    ends = [L.Conv2D(1, 1, activation="sigmoid", name=f"mask_{n}")(x) for n, x in ((1, x01), (2, x02))]
    return keras.Model(i, ends)


@posted(kind="probabilities", output="fine")
def outputs_in_a_dictionary() -> keras.Model:
    i = image()
    x = conv(i)
    coarse = L.Conv2D(3, 1, activation="softmax")(L.AveragePooling2D(4)(x))
    return keras.Model(i, {"coarse": coarse, "fine": L.Conv2D(3, 1, activation="softmax")(conv(x))})


@posted(kind="probabilities", refused="TFLite has no such operation")
def unet3_plus_with_classification_guided_module() -> keras.Model:
    i = image()
    a = normed(i, 8)
    b = normed(L.MaxPooling2D()(a), 12)
    c = normed(L.MaxPooling2D()(b), 16)
    guide = L.GlobalMaxPooling2D()(L.Conv2D(2, 1)(L.Dropout(0.5)(c)))
    guide = ops.cast(ops.argmax(L.Activation("sigmoid")(guide), axis=-1), "float32")
    d = normed(L.concatenate([L.MaxPooling2D(2)(a), b, L.UpSampling2D(2, interpolation="bilinear")(c)]), 12)
    x = normed(L.concatenate([a, L.UpSampling2D(2, interpolation="bilinear")(d)]), 8)
    x = L.Conv2D(CLASSES, 3, padding="same")(x)
    x = L.multiply([x, L.Reshape((1, 1, 1))(guide + 0.5)])
    return keras.Model(i, L.Activation("softmax")(x))


@posted(kind="one")
def resunet_plus_plus() -> keras.Model:
    def squeeze(x: Any, ratio: int = 4) -> Any:
        c = x.shape[-1]
        s = L.Reshape((1, 1, c))(L.GlobalAveragePooling2D()(x))
        s = L.Dense(c // ratio, activation="relu", use_bias=False)(s)
        return x * L.Dense(c, activation="sigmoid", use_bias=False)(s)

    def block(x: Any, filters: int, strides: int) -> Any:
        y = L.Conv2D(filters, 3, padding="same", strides=strides)(L.ReLU()(L.BatchNormalization()(x)))
        y = L.Conv2D(filters, 3, padding="same")(L.ReLU()(L.BatchNormalization()(y)))
        return squeeze(y + L.BatchNormalization()(L.Conv2D(filters, 1, strides=strides, padding="same")(x)))

    def aspp(x: Any, filters: int) -> Any:
        parts = [L.BatchNormalization()(L.Conv2D(filters, 3, dilation_rate=r, padding="same")(x)) for r in (6, 12, 18)]
        return L.Conv2D(filters, 1, padding="same")(
            L.Add()([*parts, L.BatchNormalization()(conv(x, filters, act=None))])
        )

    i = image()
    a = squeeze(conv(i, 8))
    b = block(a, 16, 2)
    c = aspp(block(b, 24, 2), 24)
    pooled = L.MaxPooling2D()(L.ReLU()(L.BatchNormalization()(b)))
    c = c * conv(L.ReLU()(L.BatchNormalization()(pooled + conv(c, 16))), 24)
    x = block(L.Concatenate()([L.UpSampling2D()(c), b]), 16, 1)
    x = aspp(block(L.Concatenate()([L.UpSampling2D()(x), a]), 8, 1), 8)
    return keras.Model(i, end(x, "sigmoid", 1))


@posted(kind="probabilities", shape=(48, 32, 4))
def multires_unet_of_four_channels() -> keras.Model:
    def block(x: Any, u: int) -> Any:
        a = normed(x, u // 6 + 1)
        b = normed(a, u // 3)
        c = normed(b, u // 2)
        y = L.BatchNormalization(axis=3)(L.concatenate([a, b, c], axis=3))
        shortcut = L.BatchNormalization()(L.Conv2D(y.shape[-1], 1, use_bias=False)(x))
        return L.BatchNormalization(axis=3)(L.Activation("relu")(L.add([shortcut, y])))

    i = image(48, 32, 4)
    a = block(i, 12)
    b = block(L.MaxPooling2D()(a), 18)
    path = normed(a, 12)
    for _ in range(2):
        path = L.BatchNormalization()(L.Activation("relu")(L.add([normed(path, 12), conv(path, 12, 1, None)])))
    x = block(L.concatenate([L.Conv2DTranspose(12, (2, 2), strides=(2, 2), padding="same")(b), path], axis=3), 12)
    return keras.Model(inputs=[i], outputs=[end(x, "softmax")])


@posted(kind="one", shape=(64, 64, 1))
def double_unet() -> keras.Model:
    """Two U-Nets, of which the second sees the image times the mask of the first (Jha 2020)."""

    def unet(x: Any, skips: list[Any]) -> tuple[Any, list[Any]]:
        a = normed(x, 6)
        b = normed(L.MaxPooling2D()(a), 8)
        y = L.UpSampling2D(2, interpolation="bilinear")(b)
        y = normed(L.Concatenate()([y, a, *skips]), 6)
        return L.Conv2D(1, 1, activation="sigmoid")(y), [a]

    i = image(64, 64, 1)
    first, skips = unet(i, [])
    second, _ = unet(i * first, skips)
    return keras.Model(i, L.Conv2D(1, 1, activation="sigmoid")(L.Concatenate()([first, second])))


@posted(kind="probabilities", shape=(32, 32, 1), value_range=(0, 255))
def unet_with_lambda_that_scales() -> keras.Model:
    i = image(32, 32, 1)
    x = L.Lambda(lambda t: t / 255)(i)
    a = conv(L.Dropout(0.1)(conv(x, kernel_initializer="he_normal", act="elu")), act="elu")
    b = conv(L.MaxPooling2D((2, 2))(a), 16, act="elu")
    x = L.concatenate([L.Conv2DTranspose(8, (2, 2), strides=(2, 2), padding="same")(b), a])
    return keras.Model(inputs=[i], outputs=[end(conv(x, act="elu"), "softmax", 2)])


@posted()
def sharp_skips_by_depthwise_kernels() -> keras.Model:
    """Sharp U-Net: skips pass a fixed sharpening kernel (Zunair 2021)."""
    kernel = np.array([[-1, -1, -1], [-1, 9, -1], [-1, -1, -1]], np.float32)
    i = image()
    a = conv(i)
    b = conv(L.MaxPooling2D()(a), 12)
    sharp = L.DepthwiseConv2D(
        3,
        use_bias=False,
        padding="same",
        depthwise_initializer=lambda shape, dtype=None: np.broadcast_to(kernel[..., None, None], shape),
    )
    x = L.concatenate([sharp(a), L.UpSampling2D()(b)])
    return keras.Model(i, end(conv(x)))


@posted(kind="probabilities", shape=(32, 64, 3))
def unet_of_pixel_shuffles() -> keras.Model:
    import tensorflow as tf

    i = image(32, 64, 3)
    a = normed(i, 8)
    b = normed(L.Conv2D(8, 3, strides=2, padding="same")(a), 16)
    x = L.Lambda(lambda t: tf.nn.depth_to_space(t, 2))(L.Conv2D(32, 1)(b))
    return keras.Model(i, end(normed(L.Concatenate()([x, a])), "softmax"))


@posted(shape=(64, 64, 3))
def linknet() -> keras.Model:
    def decode(x: Any, filters: int, size: int) -> Any:
        x = normed(x, x.shape[-1] // 4, 1)
        x = L.Conv2DTranspose(x.shape[-1], 3, strides=size, padding="same")(x)
        return normed(L.ReLU()(L.BatchNormalization()(x)), filters, 1)

    i = image(64, 64, 3)
    s = normed(i, 8, 7, strides=2)
    e1 = normed(L.MaxPooling2D(3, strides=2, padding="same")(s), 8)
    e2 = normed(e1, 16, strides=2)
    x = L.Add()([decode(e2, 8, 2), e1])
    x = decode(x, 8, 2)
    x = L.Conv2DTranspose(8, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(i, L.Conv2D(3, 2, padding="same")(x))


@posted(kind="probabilities", shape=(64, 64, 3))
def fpn_with_assembly() -> keras.Model:
    i = image(64, 64, 3)
    maps = [normed(i, 8, strides=2)]
    for filters in (12, 16):
        maps.append(normed(maps[-1], filters, strides=2))
    p = conv(maps[-1], 12, 1, None)
    pyramid = [p]
    for m in maps[-2::-1]:
        p = L.Add()([L.UpSampling2D()(p), conv(m, 12, 1, None)])
        pyramid.append(p)
    size = pyramid[-1].shape[1]
    out = [L.UpSampling2D(size // p.shape[1])(normed(normed(p, 6), 6)) for p in pyramid]
    x = L.SpatialDropout2D(0.2)(normed(L.Concatenate()(out), 8))
    x = L.UpSampling2D(2, interpolation="bilinear")(conv(x, 3, act=None))
    return keras.Model(i, L.Activation("softmax")(x))


@posted(kind="probabilities", shape=(48, 48, 3))
def pspnet_with_resizing() -> keras.Model:
    i = image(48, 48, 3)
    f = normed(normed(i, 8, strides=2), 16, strides=2)
    branches = [f]
    for size in (1, 2, 3, 6):
        p = L.AveragePooling2D(12 // size)(f)
        branches.append(L.Resizing(12, 12, interpolation="bilinear")(normed(p, 4, 1)))
    x = normed(L.Concatenate()(branches), 8)
    return keras.Model(i, L.Activation("softmax")(L.Resizing(48, 48, interpolation="bilinear")(conv(x, 3, 1, None))))


@posted(kind="scores", shape=(64, 64, 3))
def deeplab_v3_plus_by_tf_image_resize() -> keras.Model:
    import tensorflow as tf

    i = image(64, 64, 3)
    low = normed(i, 8, strides=2)
    x = normed(normed(low, 12, strides=2), 16, strides=2)
    pool = L.Lambda(
        lambda t: tf.image.resize(tf.reduce_mean(t, [1, 2], keepdims=True), (8, 8)), output_shape=(8, 8, 16)
    )(x)
    x = L.Concatenate()([normed(x, 8, 1), *(normed(x, 8, dilation_rate=r) for r in (2, 4)), normed(pool, 8, 1)])
    x = L.Lambda(lambda t: tf.image.resize(t, (32, 32), method="bilinear"), output_shape=(32, 32, 32))(x)
    x = normed(L.Concatenate()([x, normed(low, 4, 1)]), 8)
    return keras.Model(i, L.Lambda(lambda t: tf.image.resize(t, (64, 64)), output_shape=(64, 64, 3))(end(x)))


@posted(kind="scores", shape=(64, 64, 3), refused="TFLite has no such operation")
def deeplab_v3_plus_by_ops() -> keras.Model:
    i = image(64, 64, 3)
    low = normed(i, 8, strides=2)
    x = normed(normed(low, 12, strides=2), 16, strides=2)
    pool = L.UpSampling2D((8, 8), interpolation="bilinear")(normed(ops.mean(x, axis=(1, 2), keepdims=True), 8, 1))
    x = ops.concatenate([normed(x, 8, 1), normed(x, 8, dilation_rate=2), pool], axis=-1)
    x = ops.image.resize(x, (32, 32), interpolation="bilinear")
    x = normed(ops.concatenate([x, normed(low, 4, 1)], axis=-1), 8)
    return keras.Model(i, ops.image.resize(end(x), (64, 64), interpolation="bicubic"))


class MaxPoolingWithArgmax2D(L.Layer):
    """As in the many copies of SegNet and ENet with pooling indices."""

    def __init__(self, pool_size: Any = (2, 2), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pool_size = pool_size

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        size = [1, *self.pool_size, 1]
        pooled, where = tf.nn.max_pool_with_argmax(x, size, size, "SAME", include_batch_in_index=False)
        return pooled, tf.cast(where, "float32")

    def compute_output_shape(self, shape: Any) -> Any:
        small = (shape[0], shape[1] // 2, shape[2] // 2, shape[3])
        return small, small


class MaxUnpooling2D(L.Layer):
    def call(self, pair: Any) -> Any:
        import tensorflow as tf

        values, where = pair
        where = tf.cast(where, "int32")
        b, h, w, c = tf.shape(values)[0], values.shape[1], values.shape[2], values.shape[3]
        flat = tf.reshape(where, (b, -1))
        batch = tf.repeat(tf.range(b)[:, None], h * w * c, axis=1)
        indices = tf.stack([tf.reshape(batch, [-1]), tf.reshape(flat, [-1])], 1)
        out = tf.scatter_nd(indices, tf.reshape(values, [-1]), tf.stack([b, h * 2 * w * 2 * c]))
        return tf.reshape(out, (-1, h * 2, w * 2, c))

    def compute_output_shape(self, shapes: Any) -> Any:
        b, h, w, c = shapes[0]
        return b, h * 2, w * 2, c


@posted(kind="probabilities", refused="TFLite has no such operation")
def segnet_with_pooling_indices() -> keras.Model:
    i = image()
    a, where = MaxPoolingWithArgmax2D()(normed(i))
    b, deeper = MaxPoolingWithArgmax2D()(normed(a))
    x = normed(MaxUnpooling2D()([b, deeper]))
    x = normed(MaxUnpooling2D()([x, where]))
    x = L.Reshape((32 * 32, 3))(L.Conv2D(3, 1, padding="valid")(x))
    return keras.Model(i, L.Activation("softmax")(x))


@posted(kind="probabilities", shape=(64, 64, 3))
def enet_with_prelu() -> keras.Model:
    def prelu(x: Any) -> Any:
        return L.PReLU(shared_axes=[1, 2], alpha_initializer=keras.initializers.Constant(0.2))(x)

    def bottleneck(x: Any, filters: int, down: bool = False, asymmetric: int = 0, dilated: int = 1) -> Any:
        inner = filters // 4
        y = L.Conv2D(inner, 2 if down else 1, strides=2 if down else 1, use_bias=False)(x)
        y = prelu(L.BatchNormalization(momentum=0.1)(y))
        if asymmetric:
            y = L.Conv2D(inner, (1, asymmetric), padding="same", use_bias=False)(y)
            y = L.Conv2D(inner, (asymmetric, 1), padding="same")(y)
        else:
            y = L.Conv2D(inner, 3, dilation_rate=dilated, padding="same")(y)
        y = L.Conv2D(filters, 1, use_bias=False)(prelu(L.BatchNormalization()(y)))
        y = L.SpatialDropout2D(0.1)(L.BatchNormalization()(y))
        if down:
            x = L.MaxPooling2D()(x)
            x = L.Permute((1, 3, 2))(
                L.ZeroPadding2D(padding=((0, 0), (0, filters - x.shape[-1])))(L.Permute((1, 3, 2))(x))
            )
        return prelu(L.add([y, x]))

    i = image(64, 64, 3)
    x = L.concatenate([L.Conv2D(13, 3, strides=2, padding="same")(i), L.MaxPooling2D()(i)], axis=3)
    x = bottleneck(x, 32, down=True)
    x = bottleneck(bottleneck(x, 32, dilated=2), 32, asymmetric=5)
    x = L.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu")(x)
    x = L.Conv2DTranspose(3, 2, strides=2, padding="same")(x)
    return keras.Model(i, L.Activation("softmax")(x))


@posted(shape=(64, 64, 3), output="out_full")
def icnet() -> keras.Model:
    i = image(64, 64, 3)
    half = L.Lambda(lambda t: ops.image.resize(t, (32, 32)), output_shape=(32, 32, 3))(i)
    quarter = L.Lambda(lambda t: ops.image.resize(t, (16, 16)), output_shape=(16, 16, 3))(i)
    start = image(None, None, 3)
    backbone = keras.Model(start, normed(start, 8, strides=2))
    a, b = backbone(quarter), backbone(half)
    c = normed(normed(i, 8, strides=2), 8, strides=2)

    def fuse(low: Any, high: Any, name: str) -> tuple[Any, Any]:
        low = L.UpSampling2D(2, interpolation="bilinear")(low)
        aux = L.Conv2D(3, 1, name=name)(low)
        low = L.BatchNormalization()(L.Conv2D(8, 3, dilation_rate=2, padding="same")(low))
        return L.ReLU()(L.Add()([low, L.BatchNormalization()(L.Conv2D(8, 1)(high))])), aux

    x, aux_low = fuse(a, b, "out_low")
    c2 = L.AveragePooling2D(1)(c)
    x = L.Add()([x, c2]) if x.shape[1] == c2.shape[1] else x
    x = L.UpSampling2D(4, interpolation="bilinear")(L.Conv2D(3, 1)(x))
    full = L.Activation("linear", name="out_full")(x)
    return keras.Model(i, [aux_low, full])


@posted(shape=(64, 64, 3), kind="probabilities")
def bisenet_v2_like() -> keras.Model:
    i = image(64, 64, 3)
    d = normed(normed(i, 8, strides=2), 12, strides=2)
    s = normed(L.Concatenate()([conv(i, 4, strides=4), L.MaxPooling2D(4)(i)]), 8)
    e = L.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2, use_bias=False)(s)
    e = conv(L.BatchNormalization()(e), 12, 1, None)
    ctx = L.Add()([e, L.GlobalAveragePooling2D(keepdims=True)(L.BatchNormalization()(e))])
    s = normed(ctx, 12)
    left = L.DepthwiseConv2D(3, padding="same")(d) * L.UpSampling2D(2, interpolation="bilinear")(
        L.Activation("sigmoid")(s)
    )
    right = L.AveragePooling2D(3, strides=2, padding="same")(d) * L.Activation("sigmoid")(
        L.DepthwiseConv2D(3, padding="same")(s)
    )
    x = normed(left + L.UpSampling2D(2, interpolation="bilinear")(right), 12)
    x = L.UpSampling2D(4, interpolation="bilinear")(L.Conv2D(3, 1)(x))
    return keras.Model(i, L.Softmax(axis=-1)(x))


@posted(shape=(64, 64, 3))
def hrnet_of_three_branches() -> keras.Model:
    i = image(64, 64, 3)
    a = normed(i, 8, strides=2)
    b = normed(a, 12, strides=2)
    c = normed(b, 16, strides=2)

    def up(x: Any, n: int, f: int) -> Any:
        return L.UpSampling2D(n)(L.BatchNormalization()(L.Conv2D(f, 1, use_bias=False)(x)))

    def down(x: Any, f: int) -> Any:
        return L.BatchNormalization()(L.Conv2D(f, 3, strides=2, padding="same", use_bias=False)(x))

    for _ in range(2):
        a, b, c = (
            L.ReLU()(L.Add()([a, up(b, 2, 8), up(c, 4, 8)])),
            L.ReLU()(L.Add()([down(a, 12), b, up(c, 2, 12)])),
            L.ReLU()(L.Add()([down(L.ReLU()(down(a, 8)), 16), down(b, 16), c])),
        )
    x = L.Concatenate()(
        [a, L.UpSampling2D(2, interpolation="bilinear")(b), L.UpSampling2D(4, interpolation="bilinear")(c)]
    )
    return keras.Model(i, L.UpSampling2D(2, interpolation="bilinear")(end(normed(x, 12, 1))))


# Transformers and what comes with them


class Patches(L.Layer):
    def __init__(self, patch_size: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.patch_size = patch_size

    def call(self, images: Any) -> Any:
        shape = ops.shape(images)
        p = self.patch_size
        x = ops.image.extract_patches(images, size=p)
        return ops.reshape(x, (shape[0], (shape[1] // p) * (shape[2] // p), p * p * shape[3]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "patch_size": self.patch_size}


class PatchEncoder(L.Layer):
    def __init__(self, num_patches: int = 64, projection_dim: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_patches, self.projection_dim = num_patches, projection_dim
        self.projection = L.Dense(units=projection_dim)
        self.position_embedding = L.Embedding(input_dim=num_patches, output_dim=projection_dim)

    def call(self, patch: Any) -> Any:
        positions = ops.expand_dims(ops.arange(start=0, stop=self.num_patches, step=1), axis=0)
        return self.projection(patch) + self.position_embedding(positions)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_patches": self.num_patches, "projection_dim": self.projection_dim}


@posted()
def unetr_like_of_keras_io_vit() -> keras.Model:
    i = image()
    x = PatchEncoder()(Patches()(i))
    skips = []
    for _ in range(2):
        y = L.LayerNormalization(epsilon=1e-6)(x)
        x = L.Add()([L.MultiHeadAttention(num_heads=2, key_dim=8, dropout=0.1)(y, y), x])
        y = L.Dropout(0.1)(L.Dense(32, activation=keras.activations.gelu)(L.LayerNormalization(epsilon=1e-6)(x)))
        x = L.Add()([L.Dense(16, activation=keras.activations.gelu)(y), x])
        skips.append(L.Reshape((8, 8, 16))(x))
    z = L.Conv2DTranspose(8, 2, strides=2)(L.Concatenate()(skips))
    z = L.Conv2DTranspose(8, 2, strides=2)(normed(z))
    return keras.Model(i, end(normed(L.Concatenate()([z, conv(i)]))))


@posted(kind="probabilities", shape=(64, 64, 3))
def transunet() -> keras.Model:
    i = image(64, 64, 3)

    def group() -> Any:
        return L.GroupNormalization(4)

    a = normed(i, 8, norm=group)
    b = normed(L.MaxPooling2D()(a), 16, norm=group)
    c = normed(L.MaxPooling2D()(b), 16, norm=group)
    x = L.Reshape((64, 32))(L.Conv2D(32, 2, strides=2)(c))
    x = x + L.Embedding(64, 32)(ops.arange(64))
    y = L.LayerNormalization()(x)
    x = x + L.MultiHeadAttention(4, 8)(y, y)
    x = x + L.Dense(32)(L.Dense(64, activation="gelu")(L.LayerNormalization()(x)))
    x = L.Reshape((8, 8, 32))(L.LayerNormalization()(x))
    for skip in (c, b, a):
        x = L.UpSampling2D(2, interpolation="bilinear")(x)
        x = normed(L.Concatenate()([x, skip]), 8)
    return keras.Model(i, end(x, "softmax"))


@posted(shape=(32, 48, 3))
def mix_transformer() -> keras.Model:
    """SegFormer's efficient self attention and mixed feed forward, and its all-MLP decoder."""
    i = image(32, 48, 3)
    maps = []
    x = i
    for stage, (dim, patch, stride, ratio) in enumerate(((8, 7, 4, 2), (16, 3, 2, 1))):
        x = L.Conv2D(dim, patch, strides=stride, padding="same", name=f"embed_{stage}")(x)
        h, w = x.shape[1:3]
        t = L.LayerNormalization(epsilon=1e-5)(L.Reshape((h * w, dim))(x))
        y = L.LayerNormalization()(t)
        k = y
        if ratio > 1:
            k = L.Conv2D(dim, ratio, strides=ratio)(L.Reshape((h, w, dim))(y))
            k = L.LayerNormalization()(L.Reshape((-1, dim))(k))
        t = t + L.MultiHeadAttention(2, dim // 2)(y, k, k)
        z = L.Dense(dim * 2)(L.LayerNormalization()(t))
        z = L.DepthwiseConv2D(3, padding="same")(L.Reshape((h, w, dim * 2))(z))
        t = t + L.Dense(dim)(L.Reshape((h * w, dim * 2))(ops.gelu(z)))
        x = L.Reshape((h, w, dim))(L.LayerNormalization()(t))
        maps.append(x)
    size = maps[0].shape[1:3]
    out = [L.Resizing(*size, interpolation="bilinear")(L.Dense(12)(m)) for m in maps]
    x = normed(L.Concatenate()(out[::-1]), 12, 1)
    return keras.Model(i, L.Resizing(32, 48, interpolation="bilinear")(L.Conv2D(3, 1)(L.Dropout(0.1)(x))))


@posted()
def linear_attention_by_einsum() -> keras.Model:
    i = image()
    x = normed(i, 8, strides=2)
    q, k, v = (L.Reshape((256, 8))(conv(x, 8, 1, None)) for _ in range(3))
    weights = ops.softmax(ops.einsum("bnc,bmc->bnm", q, k) * 8**-0.5, axis=-1)
    y = L.Reshape((16, 16, 8))(ops.einsum("bnm,bmc->bnc", weights, v))
    return keras.Model(i, end(L.UpSampling2D(interpolation="bilinear")(x + y)))


@posted()
def einsum_dense_mixer() -> keras.Model:
    i = image()
    x = L.Reshape((64, 8))(L.Conv2D(8, 4, strides=4)(i))
    y = L.Permute((2, 1))(L.LayerNormalization()(x))
    y = L.Permute((2, 1))(L.Dense(64)(L.Dense(32, activation="gelu")(y)))
    x = L.Add()([x, y])
    x = L.Add()([x, L.EinsumDense("abc,cd->abd", output_shape=(None, 8), bias_axes="d")(L.LayerNormalization()(x))])
    return keras.Model(i, end(L.UpSampling2D(4, interpolation="bilinear")(L.Reshape((8, 8, 8))(x))))


class LayerScale(L.Layer):
    def __init__(self, init: float = 1e-1, dim: int = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.init, self.dim = init, dim

    def build(self, shape: Any) -> None:
        self.gamma = self.add_weight(shape=(self.dim,), initializer=keras.initializers.Constant(self.init))

    def call(self, x: Any) -> Any:
        return x * self.gamma

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "init": self.init, "dim": self.dim}


class StochasticDepth(L.Layer):
    def __init__(self, drop: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.drop = drop

    def call(self, x: Any, training: Any = None) -> Any:
        if training:
            keep = 1 - self.drop
            shape = (ops.shape(x)[0], 1, 1, 1)
            return x / keep * ops.floor(keep + keras.random.uniform(shape))
        return x

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "drop": self.drop}


@posted()
def convnext_unet_of_own_layers() -> keras.Model:
    def block(x: Any, dim: int) -> Any:
        y = L.LayerNormalization(epsilon=1e-6)(L.DepthwiseConv2D(7, padding="same")(x))
        y = L.Dense(dim)(L.Activation("gelu")(L.Dense(2 * dim)(y)))
        return L.Add()([x, StochasticDepth()(LayerScale(dim=dim)(y))])

    i = image()
    a = block(L.LayerNormalization(epsilon=1e-6)(L.Conv2D(8, 4, strides=4)(i)), 8)
    b = block(L.Conv2D(16, 2, strides=2)(L.LayerNormalization(epsilon=1e-6)(a)), 16)
    x = block(L.Concatenate()([L.UpSampling2D()(conv(b, 8, 1, None)), a]), 16)
    return keras.Model(i, L.UpSampling2D(4, interpolation="bilinear")(end(x)))


# Norms, activations, weights


@keras.saving.register_keras_serializable(package="posted")
class InstanceNormalization(L.Layer):
    """As in the CycleGAN tutorials."""

    def __init__(self, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(
            name="scale", shape=shape[-1:], initializer=keras.initializers.RandomNormal(1.0, 0.02)
        )
        self.offset = self.add_weight(name="offset", shape=shape[-1:], initializer="zeros")

    def call(self, x: Any) -> Any:
        mean, variance = ops.moments(x, axes=[1, 2], keepdims=True)
        return self.scale * ((x - mean) * ops.rsqrt(variance + self.epsilon)) + self.offset


@posted(shape=(64, 64, 3), value_range=(-1, 1))
def pix2pix_generator_with_instance_norm() -> keras.Model:
    i = image(64, 64, 3)
    skips = []
    x = i
    for filters in (8, 12, 16):
        x = L.Conv2D(filters, 4, strides=2, padding="same", use_bias=False)(x)
        x = L.LeakyReLU()(InstanceNormalization()(x))
        skips.append(x)
    for filters, skip in zip((12, 8), reversed(skips[:-1]), strict=True):
        x = L.Conv2DTranspose(filters, 4, strides=2, padding="same", use_bias=False)(x)
        x = L.Concatenate()([L.ReLU()(L.Dropout(0.5)(InstanceNormalization()(x))), skip])
    return keras.Model(i, L.Conv2DTranspose(3, 4, strides=2, padding="same")(x))


class WeightStandardizedConv2D(L.Conv2D):
    """Qiao 2019, as people subclass it."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        mean, var = ops.moments(kernel, axes=[0, 1, 2], keepdims=True)
        return super().convolution_op(inputs, (kernel - mean) / ops.sqrt(var + 1e-5))


@posted()
def weight_standardization_and_group_norm() -> keras.Model:
    i = image()
    x = L.ReLU()(
        L.GroupNormalization(4)(
            WeightStandardizedConv2D(
                8, 3, padding="same", kernel_initializer=keras.initializers.RandomNormal(3.0, 0.1)
            )(i)
        )
    )
    return keras.Model(i, end(conv(x)))


class ReflectionPadding2D(L.Layer):
    def __init__(self, padding: Any = (1, 1), **kwargs: Any) -> None:
        self.padding = tuple(padding)
        super().__init__(**kwargs)

    def call(self, x: Any, mask: Any = None) -> Any:
        import tensorflow as tf

        w, h = self.padding
        return tf.pad(x, [[0, 0], [h, h], [w, w], [0, 0]], mode="REFLECT")

    def compute_output_shape(self, s: Any) -> Any:
        return s[0], s[1] + 2 * self.padding[1], s[2] + 2 * self.padding[0], s[3]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding": self.padding}


@posted()
def johnson_net_with_reflection() -> keras.Model:
    i = image()
    x = L.Conv2D(8, 9)(ReflectionPadding2D((4, 4))(i))
    x = L.ReLU()(L.BatchNormalization()(x))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(12, 3, strides=2)(ReflectionPadding2D()(x))))
    y = L.Conv2D(12, 3)(ReflectionPadding2D()(x))
    x = L.add([x, L.BatchNormalization()(y)])
    x = L.Conv2D(8, 3, activation="relu")(ReflectionPadding2D()(L.UpSampling2D()(x)))
    return keras.Model(i, end(x))


def mish(x: Any) -> Any:
    return x * ops.tanh(ops.softplus(x))


def hswish(x: Any) -> Any:
    return x * keras.activations.relu6(x + 3.0) / 6.0


@posted()
def activations_of_ones_own() -> keras.Model:
    i = image()
    x = conv(i, act=mish)
    x = L.Activation(hswish)(conv(x, act=None))
    x = L.Activation(lambda t: ops.maximum(t, 0.2 * t))(conv(x, act=None))
    x = L.Lambda(lambda t: t * ops.sigmoid(1.702 * t))(conv(x, act=None))
    return keras.Model(i, end(x))


@posted()
def swish_with_a_learned_slope() -> keras.Model:
    class Swish(L.Layer):
        def build(self, shape: Any) -> None:
            self.beta = self.add_weight(shape=(), initializer=keras.initializers.Constant(1.5), name="beta")

        def call(self, x: Any) -> Any:
            return x * ops.sigmoid(self.beta * x)

    i = image()
    x = Swish()(conv(i, act=None))
    return keras.Model(i, end(Swish()(conv(x, act=None))))


@posted()
def relus_of_every_make() -> keras.Model:
    i = image()
    x = L.ReLU(max_value=6.0, negative_slope=0.1, threshold=0.2)(conv(i, act=None))
    x = conv(x, act="leaky_relu")
    x = L.ELU(alpha=0.7)(conv(x, act=None))
    x = conv(x, act=keras.layers.LeakyReLU(0.05))
    x = conv(x, act="celu")
    x = L.Activation("squareplus")(conv(x, act="softplus"))
    return keras.Model(i, end(conv(x, act="hard_tanh")))


@posted()
def more_functions() -> keras.Model:
    i = image()
    parts = [
        conv(i, 2, act=name) for name in ("exponential", "log_sigmoid", "sparse_plus", "tanh_shrink", "hard_shrink")
    ]
    return keras.Model(i, end(conv(L.Concatenate()([*parts, conv(i, 4, act="soft_shrink")]))))


@posted()
def selu_with_alpha_dropout() -> keras.Model:
    i = image()
    x = i
    for _ in range(3):
        x = L.AlphaDropout(0.1)(conv(x, act="selu", kernel_initializer="lecun_normal"))
    return keras.Model(i, end(x))


@posted()
def scse_blocks() -> keras.Model:
    def scse(x: Any) -> Any:
        c = x.shape[-1]
        cse = L.Dense(c, activation="sigmoid")(L.Dense(c // 2, activation="relu")(L.GlobalAveragePooling2D()(x)))
        cse = L.Multiply()([x, L.Reshape((1, 1, c))(cse)])
        sse = L.Multiply()([x, L.Conv2D(1, 1, activation="sigmoid", use_bias=False)(x)])
        return L.Add()([cse, sse])

    i = image()
    a = scse(normed(i))
    b = scse(normed(L.MaxPooling2D()(a), 12))
    return keras.Model(i, end(scse(normed(L.Concatenate()([a, L.UpSampling2D()(b)])))))


@posted(kind="one")
def cbam_by_lambdas() -> keras.Model:
    def cbam(x: Any) -> Any:
        c = x.shape[-1]
        one, two = L.Dense(c // 2, activation="relu"), L.Dense(c)
        avg = two(one(L.Reshape((1, 1, c))(L.GlobalAveragePooling2D()(x))))
        top = two(one(L.Reshape((1, 1, c))(L.GlobalMaxPooling2D()(x))))
        x = L.multiply([x, L.Activation("sigmoid")(L.Add()([avg, top]))])
        mean = L.Lambda(lambda t: keras.ops.mean(t, axis=3, keepdims=True))(x)
        most = L.Lambda(lambda t: keras.ops.max(t, axis=3, keepdims=True))(x)
        return L.multiply(
            [
                x,
                L.Conv2D(1, 7, padding="same", activation="sigmoid", use_bias=False)(
                    L.Concatenate(axis=3)([mean, most])
                ),
            ]
        )

    i = image()
    a = cbam(normed(i))
    b = cbam(normed(L.MaxPooling2D()(a), 12))
    x = normed(L.concatenate([a, L.Conv2DTranspose(8, 2, strides=2)(b)]))
    return keras.Model(i, end(x, "sigmoid", 1))


# Sizes, strides, shapes


@posted(shape=(36, 60, 13))
def sentinel_of_thirteen_channels() -> keras.Model:
    i = image(36, 60, 13)
    a = normed(i, 12)
    b = normed(L.MaxPooling2D((3, 3))(a), 16)
    x = L.Conv2DTranspose(12, 3, strides=3)(b)
    return keras.Model(i, end(normed(L.Concatenate()([x, a]))))


@posted(shape=(40, 40, 3), refused="TFLite has no such operation")
def bicubic_upsampling() -> keras.Model:
    i = image(40, 40, 3)
    a = conv(i, strides=2)
    x = L.UpSampling2D(2, interpolation="bicubic")(a)
    return keras.Model(i, end(x))


@posted(shape=(40, 40, 3), refused="TFLite has no such operation")
def lanczos_upsampling() -> keras.Model:
    i = image(40, 40, 3)
    return keras.Model(i, end(L.UpSampling2D(2, interpolation="lanczos3")(conv(i, strides=2))))


@posted(shape=(32, 32, 3), refused="channels")
def channels_first() -> keras.Model:
    i = keras.Input((3, 32, 32))
    x = L.Conv2D(8, 3, padding="same", data_format="channels_first", activation="relu")(i)
    return keras.Model(i, L.Conv2D(3, 1, data_format="channels_first")(x))


# Ends


@posted(refused="one channel")
def one_channel_of_logits() -> keras.Model:
    i = image()
    return keras.Model(i, end(normed(i), None, 1))


@posted(refused="one channel")
def one_channel_of_softmax() -> keras.Model:
    """The classic mistake: a softmax of one channel is 1 everywhere."""
    i = image()
    return keras.Model(i, end(normed(i), "softmax", 1))


@posted(kind="probabilities", refused="UpSampling2D")
def half_resolution() -> keras.Model:
    i = image()
    return keras.Model(i, end(normed(i, strides=2), "softmax"))


@posted(kind="probabilities", refused="more classes")
def classes_256() -> keras.Model:
    i = image()
    return keras.Model(i, end(normed(i, 16), "softmax", 256))


@posted(kind="probabilities", refused="more classes")
def classes_300() -> keras.Model:
    i = image()
    return keras.Model(i, end(normed(i, 16), "softmax", 300))


@posted(refused="2 inputs")
def two_inputs() -> keras.Model:
    i, j = image(), image(32, 32, 1)
    return keras.Model([i, j], end(conv(L.Concatenate()([i, j]))))


@posted(refused="leave out the argmax")
def argmax_at_the_end() -> keras.Model:
    i = image()
    return keras.Model(i, ops.argmax(end(normed(i)), axis=-1))


# Makes


class Decorated(keras.Model):
    """A functional model of a class of one's own with a train_step."""

    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


@posted(kind="probabilities")
def functional_subclass_with_train_step() -> keras.Model:
    i = image()
    return Decorated(i, end(normed(i), "softmax"))
