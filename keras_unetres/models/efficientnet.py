"""EfficientNet-Lite (Liu 2020) as an encoder: inverted residual blocks (Sandler 2018) without squeeze-and-excite.

Its blocks are those of EfficientNet-B0 (Tan 2019, table 1). ReLU6 for swish, and no squeeze-and-excite, keep all of it
int8.
"""

from __future__ import annotations

from typing import Any

from keras import initializers, layers

from ..choices.networks import EFFICIENTNET_STAGES, EfficientNet, InvertedStage
from .blocks import batch_norm


def efficientnet_features(image: Any, form: EfficientNet) -> dict[int, Any]:
    """Return the feature maps of an EfficientNet-Lite, keyed by stride, finest first.

    Args:
        image: (N, H, W, C); H and W multiples of 32.
        form: a row of `EFFICIENTNETS`.

    Returns:
        {stride: (N, H / stride, W / stride, filters)}: 2, 4, 8, 16 and 32 with 16, 24, 40, 112 and 320 filters, each
        the end of the last stage of its size. They are linear: an inverted residual block ends without activation.
    """
    x = _convolution(image, form, "stem", 3, strides=2, filters=form.stem)
    x = layers.ReLU(6.0, name="stem_out")(x)
    features, stride = {}, 2
    for number, stage in enumerate(EFFICIENTNET_STAGES, start=1):
        x = _stage(x, form, stage, f"stage{number}")
        stride *= stage.strides
        features[stride] = x
    return features


def _stage(x: Any, form: EfficientNet, stage: InvertedStage, name: str) -> Any:
    for number in range(1, stage.blocks + 1):
        block, strides = f"{name}_block{number}", stage.strides if number == 1 else 1
        before, channels = x, x.shape[-1]
        if stage.expansion > 1:
            x = _convolution(x, form, f"{block}_expand", 1, filters=stage.expansion * channels)
            x = layers.ReLU(6.0, name=f"{block}_expand_relu")(x)
        x = _convolution(x, form, f"{block}_depthwise", stage.kernel_size, strides=strides)
        x = layers.ReLU(6.0, name=f"{block}_depthwise_relu")(x)
        x = _convolution(x, form, f"{block}_project", 1, filters=stage.filters)
        if strides == 1 and channels == stage.filters:
            x = layers.Add(name=f"{block}_add")([before, x])
    return layers.Identity(name=f"{name}_out")(x)


def _convolution(
    x: Any, form: EfficientNet, name: str, kernel_size: int, *, strides: int = 1, filters: int | None = None
) -> Any:
    """Return Conv -> BatchNormalization; a depthwise convolution where `filters` is None.

    With strides, "same" puts one more row and column of zeros below and right of an even size; `form.centred` puts half
    a kernel on every side.
    """
    padding = "same"
    if strides > 1 and form.centred:
        padding, x = "valid", layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    # As in the paper's code; Keras's "he_normal" counts all channels among the inputs of a depthwise kernel.
    start = initializers.VarianceScaling(scale=2.0, mode="fan_out", distribution="truncated_normal")
    if filters is None:
        x = layers.DepthwiseConv2D(
            kernel_size,
            strides=strides,
            padding=padding,
            use_bias=False,
            depthwise_initializer=start,
            name=f"{name}_conv",
        )(x)
    else:
        x = layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding=padding,
            use_bias=False,
            kernel_initializer=start,
            name=f"{name}_conv",
        )(x)
    return batch_norm(x, name, form.epsilon)
