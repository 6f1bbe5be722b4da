"""The pieces networks are made of: functions from tensor to tensor, every layer named.

Convolution, BatchNormalization, ReLU in this order, and no BatchNormalization after a transposed convolution: this is
what converts to int8 without a float op left over.
"""

from __future__ import annotations

from typing import Any

from keras import layers

UPSAMPLINGS = ("transpose", "bilinear", "nearest")

# Statistics must settle within a few hundred steps, as many small data sets allow no more.
_NORM_MOMENTUM = 0.9


def conv_norm_act(x: Any, filters: int, name: str, *, kernel_size: int = 3, norm: str | None = "batch") -> Any:
    """Return Conv -> BatchNormalization (if `norm`) -> ReLU of an (N, H, W, C) tensor, (N, H, W, filters)."""
    x = layers.Conv2D(
        filters,
        kernel_size,
        padding="same",
        use_bias=norm is None,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    if norm == "batch":
        x = layers.BatchNormalization(momentum=_NORM_MOMENTUM, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def double_conv(x: Any, filters: int, name: str, *, norm: str | None = "batch") -> Any:
    """Return two 3x3 convolutions with norm and ReLU (Ronneberger 2015, figure 1), (N, H, W, filters)."""
    x = conv_norm_act(x, filters, f"{name}_1", norm=norm)
    return conv_norm_act(x, filters, f"{name}_2", norm=norm)


def upsample(x: Any, filters: int, name: str, *, kind: str, norm: str | None = "batch") -> Any:
    """Return an (N, H, W, C) tensor at twice the size with `filters` channels, (N, 2H, 2W, filters).

    Args:
        kind: "transpose" is the 2x2 up-convolution of Ronneberger 2015. "bilinear" and "nearest" resize and then
            convolve with 2x2. "nearest" converts to several reshaping ops and leaves the XNNPACK partition.
    """
    if kind == "transpose":
        return layers.Conv2DTranspose(
            filters, 2, strides=2, padding="same", kernel_initializer="he_normal", name=f"{name}_up"
        )(x)
    x = layers.UpSampling2D(2, interpolation=kind, name=f"{name}_up")(x)
    return conv_norm_act(x, filters, f"{name}_up", kernel_size=2, norm=norm)
