"""FCN (Long 2015): a ResNet that answers for every pixel, by dilated stages, a small head and bilinear upsampling."""

from __future__ import annotations

import keras
from keras import layers

from ..choices.networks import find_encoder
from .blocks import Conv, conv_norm
from .encoders import encode
from .heads import add_activation, check_common, check_dropout, check_side, pixel_head


def build_fcn(
    input_shape: tuple[int | None, int | None, int] = (256, 256, 3),
    num_classes: int = 2,
    *,
    encoder: str = "resnet50",
    output_stride: int = 8,
    dropout: float = 0.0,
    head_activation: str | None = None,
    name: str = "fcn",
) -> keras.Model:
    """Build a fully convolutional network on a ResNet.

    Args:
        input_shape: (height, width, channels); height and width are None or multiples of the deepest stride.
        num_classes: classes, at least 2.
        encoder: a ResNet among `ENCODERS`.
        output_stride: the deepest stride; stages beyond it are dilated. 8 sees finer than 16 and costs about twice.
        dropout: fraction dropped before the last convolution.
        head_activation: None for logits, or "softmax".
        name: the model's name.

    Returns:
        A flat model, (N, H, W, channels) float32 -> (N, H, W, num_classes) float32.

    Raises:
        UsageError: an argument is outside what is stated above.
    """
    check_common(input_shape, num_classes, head_activation)
    find_encoder(encoder)
    check_dropout(dropout)
    image = keras.Input(input_shape, name="image")
    stride, x = list(encode(encoder, image, output_stride=output_stride).items())[-1]
    for side in input_shape[:2]:
        check_side(side, step=stride, least=stride, why=f"output stride {stride}")
    x = conv_norm(x, Conv(x.shape[-1] // 4, 3), "head")
    x = layers.ReLU(name="head_relu")(x)
    if dropout:
        x = layers.Dropout(dropout, name="head_dropout")(x)
    x = pixel_head(x, num_classes, None)
    if stride > 1:
        x = layers.UpSampling2D(stride, interpolation="bilinear", dtype="float32", name="head_resize")(x)
    return keras.Model(image, add_activation(x, head_activation), name=name)
