"""U-Net (Ronneberger 2015): contracting path, bridge, expanding path with concatenated features, 1x1 head."""

from __future__ import annotations

import keras
from keras import layers

from unetres_edge.errors import UsageError

from .blocks import UPSAMPLINGS, double_conv, upsample


def build_unet(
    input_shape: tuple[int | None, int | None, int] = (256, 256, 3),
    num_classes: int = 2,
    *,
    filters: int = 64,
    depth: int = 4,
    upsampling: str = "transpose",
    norm: str | None = "batch",
    dropout: float = 0.0,
    name: str = "unet",
) -> keras.Model:
    """Build a U-Net with same padding, so that the output is as large as the input.

    Args:
        input_shape: (height, width, channels); height and width are None or multiples of 2**depth.
        num_classes: classes, at least 2.
        filters: channels of the first level, doubled at each of the `depth` levels below (64 and 4 in the paper).
        depth: how many times the size is halved.
        upsampling: "transpose" (2x2 up-convolution, as in the paper), "bilinear" or "nearest".
        norm: "batch", or None for the paper's form without normalisation.
        dropout: fraction dropped at the end of the contracting path (paper, section 3.1).
        name: the model's name.

    Returns:
        A flat model, (N, H, W, channels) float32 -> (N, H, W, num_classes) float32 logits.

    Raises:
        UsageError: an argument is outside what is stated above.
    """
    _check(input_shape, num_classes, filters, depth, upsampling, norm, dropout)
    x = inputs = keras.Input(input_shape, name="image")
    skips = []
    for level in range(depth):
        x = double_conv(x, filters * 2**level, f"encoder{level + 1}", norm=norm)
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"encoder{level + 1}_pool")(x)
    x = double_conv(x, filters * 2**depth, "bridge", norm=norm)
    if dropout:
        x = layers.Dropout(dropout, name="bridge_dropout")(x)
    for level in reversed(range(depth)):
        x = upsample(x, filters * 2**level, f"decoder{level + 1}", kind=upsampling, norm=norm)
        x = layers.Concatenate(name=f"decoder{level + 1}_skip")([skips[level], x])
        x = double_conv(x, filters * 2**level, f"decoder{level + 1}", norm=norm)
    logits = layers.Conv2D(num_classes, 1, kernel_initializer="he_normal", dtype="float32", name="head_logits")(x)
    return keras.Model(inputs, logits, name=name)


def _check(
    input_shape: tuple[int | None, int | None, int],
    num_classes: int,
    filters: int,
    depth: int,
    upsampling: str,
    norm: str | None,
    dropout: float,
) -> None:
    if len(input_shape) != 3 or not input_shape[2] or input_shape[2] < 1:
        raise UsageError("input_shape is wrong", expected="(height, width, channels)", found=input_shape)
    for argument, value, least in (("num_classes", num_classes, 2), ("filters", filters, 1), ("depth", depth, 1)):
        if value != int(value) or value < least:
            raise UsageError(f"{argument} is wrong", expected=f"a whole number, at least {least}", found=value)
    step = 2**depth
    for side in input_shape[:2]:
        if side is not None and (side % step or side < step):
            below, above = max(step, side // step * step), (side // step + 1) * step
            raise UsageError(
                f"input size {side} does not suit depth {depth}",
                expected=f"a multiple of {step}",
                fix=f"use {below} or {above}",
            )
    if upsampling not in UPSAMPLINGS:
        raise UsageError("upsampling is unknown", expected=" or ".join(UPSAMPLINGS), found=upsampling)
    if norm not in ("batch", None):
        raise UsageError("norm is unknown", expected="'batch' or None", found=norm)
    if not 0 <= dropout < 1:
        raise UsageError("dropout is wrong", expected="0 <= dropout < 1", found=dropout)
