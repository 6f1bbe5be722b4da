"""The pieces networks are made of: functions from tensor to tensor, every layer named.

Convolution, BatchNormalization, ReLU in this order, and no BatchNormalization after a transposed convolution: this is
what converts to int8 without a float op left over. The last layer of a level is called `<level>_out`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import initializers, layers

# Statistics must settle within a few hundred steps, as many small data sets allow no more.
_NORM_MOMENTUM = 0.9
_EPSILON = 1e-3
# Of the published ResNets, whose variances are too small for more.
RESNET_EPSILON = 1e-5


class Conv(NamedTuple):
    """One convolution of a residual block."""

    filters: int
    kernel_size: int
    strides: int = 1
    dilation_rate: int = 1


def conv(x: Any, form: Conv, name: str, *, padding: str = "same", bias: bool = False) -> Any:
    """Return a convolution of an (N, H, W, C) tensor.

    With strides it is padded by half a kernel on every side, as in the published networks, so that element i of the
    output lies on element `strides * i` of the input ("same" would shift it by the parity of the size).
    """
    if padding == "same" and form.strides > 1:
        padding = "valid"
        if form.kernel_size > 1:
            x = layers.ZeroPadding2D(form.dilation_rate * (form.kernel_size // 2), name=f"{name}_pad")(x)
    return layers.Conv2D(
        form.filters,
        form.kernel_size,
        strides=form.strides,
        dilation_rate=form.dilation_rate,
        padding=padding,
        use_bias=bias,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)


def batch_norm(x: Any, name: str, epsilon: float = _EPSILON) -> Any:
    """Return BatchNormalization (Ioffe 2015) over N, H and W."""
    return layers.BatchNormalization(momentum=_NORM_MOMENTUM, epsilon=epsilon, name=f"{name}_norm")(x)


def conv_norm(
    x: Any, form: Conv, name: str, *, padding: str = "same", norm: str | None = "batch", epsilon: float = _EPSILON
) -> Any:
    """Return Conv -> BatchNormalization, or a convolution with bias where `norm` is None."""
    x = conv(x, form, name, padding=padding, bias=norm is None)
    return x if norm is None else batch_norm(x, name, epsilon)


def double_conv(x: Any, filters: int, name: str, *, padding: str = "same", norm: str | None = "batch") -> Any:
    """Return two 3x3 convolutions with norm and ReLU (Ronneberger 2015, figure 1), (N, H, W, filters).

    With padding "valid" the result is 2 px smaller on every side.
    """
    x = conv_norm(x, Conv(filters, 3), f"{name}_1", padding=padding, norm=norm)
    x = layers.ReLU(name=f"{name}_1_relu")(x)
    x = conv_norm(x, Conv(filters, 3), f"{name}_2", padding=padding, norm=norm)
    return layers.ReLU(name=f"{name}_out")(x)


def residual_double_conv(x: Any, filters: int, name: str, *, padding: str = "same", norm: str | None = "batch") -> Any:
    """Return ReLU(double_conv without its last ReLU + x), x projected where the channels differ (He 2015, eq. 1, 2)."""
    shortcut = x
    x = conv_norm(x, Conv(filters, 3), f"{name}_1", padding=padding, norm=norm)
    x = layers.ReLU(name=f"{name}_1_relu")(x)
    x = conv_norm(x, Conv(filters, 3), f"{name}_2", padding=padding, norm=norm)
    if padding == "valid":
        shortcut = layers.Cropping2D(2, name=f"{name}_shortcut_crop")(shortcut)
    if shortcut.shape[-1] != filters:
        shortcut = conv_norm(shortcut, Conv(filters, 1), f"{name}_shortcut", norm=norm)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.ReLU(name=f"{name}_out")(x)


def post_activation_block(x: Any, convs: Sequence[Conv], name: str, *, shortcut: str | None, out: str) -> Any:
    """Return ReLU(F(x) + x) with F = Conv-Norm-ReLU-...-Conv-Norm (He 2015, figures 2 and 5), or ReLU(F(x)) if plain.

    Args:
        shortcut: "projection", "free" (parameter-free) or None for a plain block.
        out: name of the last layer.
    """
    identity = x
    for number, form in enumerate(convs, start=1):
        x = conv_norm(x, form, f"{name}_{number}", epsilon=RESNET_EPSILON)
        if number < len(convs):
            x = layers.ReLU(name=f"{name}_{number}_relu")(x)
    if shortcut is not None:
        identity = _shortcut(identity, convs, name, kind=shortcut, norm=True)
        x = layers.Add(name=f"{name}_add")([identity, x])
    return layers.ReLU(name=out)(x)


def pre_activation_block(x: Any, convs: Sequence[Conv], name: str, *, shortcut: str, activated: bool) -> Any:
    """Return F(x) + x with F = Norm-ReLU-Conv-...-Norm-ReLU-Conv (He 2016, figure 1b).

    Args:
        shortcut: "projection" or "free".
        activated: x has been through Norm-ReLU already and feeds both paths, as in the first block of a stage.
    """
    identity = x
    for number, form in enumerate(convs, start=1):
        if number > 1 or not activated:
            x = batch_norm(x, f"{name}_{number}", RESNET_EPSILON)
            x = layers.ReLU(name=f"{name}_{number}_relu")(x)
        x = conv(x, form, f"{name}_{number}")
    identity = _shortcut(identity, convs, name, kind=shortcut, norm=False)
    return layers.Add(name=f"{name}_add")([identity, x])


def _shortcut(x: Any, convs: Sequence[Conv], name: str, *, kind: str, norm: bool) -> Any:
    """Return x in the size and channels of the block's output: x itself where these do not change.

    "projection" is a 1x1 convolution (He 2015, option B). "free" takes every second pixel and appends channels of
    zeros (option A), with layers that stay in one int8 partition: pooling by 1x1, and x - x.
    """
    strides = max(form.strides for form in convs)
    filters, channels = convs[-1].filters, x.shape[-1]
    if strides == 1 and filters == channels:
        return x
    name = f"{name}_shortcut"
    if kind == "projection":
        form = Conv(filters, 1, strides)
        return conv_norm(x, form, name, epsilon=RESNET_EPSILON) if norm else conv(x, form, name)
    if strides > 1:
        x = layers.AveragePooling2D(1, strides, name=f"{name}_pool")(x)
    if filters == channels:
        return x
    zeros = layers.Subtract(name=f"{name}_zeros")([x, x])
    return layers.Concatenate(name=f"{name}_widen")([x, *[zeros] * (filters // channels - 1)])


def _he_transposed() -> initializers.Initializer:
    """Return He 2015's initialisation for a 2x2 up-convolution: each output has one tap, so N is the input's channels.

    Keras's "he_normal" would take the kernel's other side for the input; its fan_out is 4 times the input's channels.
    """
    return initializers.VarianceScaling(scale=8.0, mode="fan_out", distribution="truncated_normal")


def upsample(x: Any, filters: int, name: str, *, kind: str, norm: str | None = "batch") -> Any:
    """Return an (N, H, W, C) tensor at twice the size with `filters` channels, (N, 2H, 2W, filters).

    Args:
        kind: "transpose" is the 2x2 up-convolution of Ronneberger 2015. "bilinear" and "nearest" resize and then
            convolve with 2x2. "nearest" is not int8-clean: it converts to reshaping ops that leave the partition.
    """
    if kind == "transpose":
        return layers.Conv2DTranspose(
            filters, 2, strides=2, padding="same", kernel_initializer=_he_transposed(), name=f"{name}_up"
        )(x)
    x = layers.UpSampling2D(2, interpolation=kind, name=f"{name}_up")(x)
    x = conv_norm(x, Conv(filters, 2), f"{name}_up", norm=norm)
    return layers.ReLU(name=f"{name}_up_relu")(x)
