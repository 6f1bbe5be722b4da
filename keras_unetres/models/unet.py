"""U-Net (Ronneberger 2015): contracting path, bridge, expanding path with concatenated features, 1x1 head.

The contracting path is the paper's, or any encoder; the expanding path knows only its feature maps by stride.
"""

from __future__ import annotations

import keras
from keras import layers

from unetres_edge.errors import UsageError

from ..choices.networks import UPSAMPLINGS, count_halvings, unpadded_crop
from .blocks import double_conv, residual_double_conv, upsample
from .encoders import encode
from .heads import check_common, check_dropout, check_side, check_whole, pixel_head


def build_unet(
    input_shape: tuple[int | None, int | None, int] = (256, 256, 3),
    num_classes: int = 2,
    *,
    encoder: str | None = None,
    filters: int | None = None,
    depth: int | None = None,
    padding: str = "same",
    upsampling: str = "transpose",
    norm: str | None = "batch",
    dropout: float = 0.0,
    residual: bool = False,
    head_activation: str | None = None,
    name: str = "unet",
) -> keras.Model:
    """Build a U-Net.

    The paper's network is `build_unet((572, 572, 1), padding="valid", norm=None, dropout=0.5,
    head_activation="softmax")`.

    Args:
        input_shape: (height, width, channels); height and width are None or multiples of 2**depth (of the paper's
            unpadded network: 4 less than such a multiple).
        num_classes: classes, at least 2.
        encoder: None for the paper's contracting path, or a name of `ENCODERS` such as "resnet34". ImageNet forms have
            no map at stride 1, so the finest level of the expanding path has no skip.
        filters: channels of the finest level, doubled at each level below; None for 64, or 16 with an encoder.
        depth: number of times that the size is halved; None for 4, or as often as the encoder does.
        padding: "same", or "valid" for the paper's unpadded convolutions and cropped skips, whose output is smaller
            than the input (`output_size`, `crop_offset`).
        upsampling: "transpose" (2x2 up-convolution, as in the paper), "bilinear" or "nearest" (not int8-clean).
        norm: "batch", or None for the paper's form without normalisation; encoders need "batch".
        dropout: fraction dropped at the end of the contracting path (paper, section 3.1).
        residual: whether the blocks of both paths are residual (an encoder is as it is).
        head_activation: None for logits, or "softmax" as in the paper.
        name: the model's name.

    Returns:
        A flat model, (N, H, W, channels) float32 -> (N, H, W, num_classes) float32.

    Raises:
        UsageError: an argument is outside what is stated above.
    """
    check_common(input_shape, num_classes, head_activation)
    deepest = _check_encoder(encoder, padding, norm)
    filters = filters if filters is not None else 16 if encoder else 64
    depth = depth if depth is not None else deepest
    _check(filters, depth, deepest if encoder else None, padding, upsampling, norm, dropout)
    for side in input_shape[:2]:
        check_side(side, **_sizes(depth, padding), why=f"depth {depth}" + (" unpadded" if padding == "valid" else ""))

    double = residual_double_conv if residual else double_conv
    image = keras.Input(input_shape, name="image")
    if encoder is None:
        features = {}
        x = image
        for level in range(depth):
            x = double(x, filters * 2**level, f"encoder{level + 1}", padding=padding, norm=norm)
            features[2**level] = x
            x = layers.MaxPooling2D(2, name=f"encoder{level + 1}_pool")(x)
        features[2**depth] = double(x, filters * 2**depth, "bridge", padding=padding, norm=norm)
    else:
        features = encode(encoder, image)
    x = features[2**depth]
    if dropout:
        x = layers.Dropout(dropout, name="bridge_dropout")(x)
    crops = _crops(depth)
    for level in reversed(range(depth)):
        step = f"decoder{level + 1}"
        x = upsample(x, filters * 2**level, step, kind=upsampling, norm=norm)
        skip = features.get(2**level)
        if skip is not None and padding == "valid":
            skip = layers.Cropping2D(crops[level], name=f"{step}_crop")(skip)
        if skip is not None:
            x = layers.Concatenate(name=f"{step}_skip")([skip, x])
        x = double(x, filters * 2**level, step, padding=padding, norm=norm)
    return keras.Model(image, pixel_head(x, num_classes, head_activation), name=name)


def _crops(depth: int) -> list[int]:
    """Return by how many px the skip of each level is cropped on every side in the unpadded network.

    Two 3x3 convolutions take 2 px of every side: of the bridge, of the blocks above it, and, seen from the next
    level, twice as many. The paper's network: 88, 40, 16, 4.
    """
    crops, lost = [], 2
    for _ in range(depth):
        crops.append(2 * lost)
        lost = 2 * lost + 4
    return crops[::-1]


def _sizes(depth: int, padding: str) -> dict[str, int]:
    """Return which input sizes suit: `offset` plus a multiple of `step`, at least `least` px."""
    step = 2**depth
    if padding == "same":
        return {"step": step, "least": step}
    return {"step": step, "offset": -4, "least": 2 * unpadded_crop(depth) + 1}


def _check_encoder(encoder: str | None, padding: str, norm: str | None) -> int:
    """Return how many times the contracting path halves the size by default."""
    if encoder is None:
        return 4
    halvings = count_halvings(encoder)
    for argument, value, needed in (("padding", padding, "same"), ("norm", norm, "batch")):
        if value != needed:
            raise UsageError(f"an encoder does not go with this {argument}", expected=needed, found=value)
    return halvings


def _check(
    filters: int, depth: int, deepest: int | None, padding: str, upsampling: str, norm: str | None, dropout: float
) -> None:
    check_whole("filters", filters, 1)
    check_whole("depth", depth, 1)
    if deepest is not None and depth > deepest:
        raise UsageError("depth is more than the encoder has", expected=f"1 to {deepest}", found=depth)
    for argument, value, allowed in (
        ("padding", padding, ("same", "valid")),
        ("upsampling", upsampling, UPSAMPLINGS),
        ("norm", norm, ("batch", None)),
    ):
        if value not in allowed:
            raise UsageError(f"{argument} is unknown", expected=" or ".join(map(str, allowed)), found=value)
    check_dropout(dropout)
