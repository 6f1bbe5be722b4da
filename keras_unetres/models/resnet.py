"""ResNet (He 2015), its pre-activation form (He 2016) and the plain networks that both are measured against.

Every network is a row of `DEPTHS` and a variant of `VARIANTS`; `keras_unetres.choices.networks` lists them.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from unetres_edge.errors import UsageError

from ..choices.networks import Depth, find_depth, resnet_name
from .blocks import RESNET_EPSILON, Conv, batch_norm, conv_norm, post_activation_block, pre_activation_block
from .heads import add_activation, check_common


def build_resnet(
    depth: int = 50,
    input_shape: tuple[int | None, int | None, int] | None = None,
    num_classes: int = 1000,
    *,
    variant: str = "v1",
    include_top: bool = True,
    output_stride: int = 32,
    head_activation: str | None = None,
    name: str | None = None,
) -> keras.Model:
    """Build a ResNet.

    Args:
        depth: 18, 34, 50, 101 or 152 (ImageNet form, He 2015 table 1), or 20, 32, 44, 56 or 110 (CIFAR form with
            parameter-free shortcuts, section 4.2).
        input_shape: (height, width, channels); height and width may be None. None for the published size.
        num_classes: ways of the classifier, at least 2.
        variant: "v1", "v1.5" (a bottleneck block halves the size in its 3x3 convolution, as torchvision and timm do),
            "v2" (pre-activation) or "plain" (no shortcuts).
        include_top: whether to end with global average pooling and the classifier, else with the deepest feature map.
        output_stride: stages beyond this stride are dilated instead of strided (Yu 2016); 8 or 16 for dense maps.
        head_activation: None for logits or "softmax".
        name: the model's name; None for one such as "resnet50".

    Returns:
        A flat model, (N, H, W, channels) float32 -> (N, num_classes) float32, or (N, h, w, filters) without top.

    Raises:
        UsageError: an argument is outside what is stated above.
    """
    form = find_depth(depth, variant)
    input_shape = input_shape or (form.size, form.size, 3)
    check_common(input_shape, num_classes, head_activation)
    image = keras.Input(input_shape, name="image")
    x = list(resnet_features(image, depth, variant, output_stride).values())[-1]
    if include_top:
        x = layers.GlobalAveragePooling2D(name="head_pool")(x)
        x = layers.Dense(num_classes, dtype="float32", name="head_logits")(x)
        x = add_activation(x, head_activation)
    return keras.Model(image, x, name=name or resnet_name(depth, variant))


def resnet_features(image: Any, depth: int, variant: str = "v1", output_stride: int = 32) -> dict[int, Any]:
    """Return the feature maps of a ResNet, keyed by stride, finest first.

    Args:
        image: (N, H, W, C).
        depth: as in `build_resnet`.
        variant: as in `build_resnet`.
        output_stride: the deepest stride; further stages are dilated, so that their maps, sampled at the stride that
            they would have had, equal the strided network's.

    Returns:
        {stride: (N, H / stride, W / stride, filters)}: 2 (stem), 4, 8, 16, 32 in ImageNet form, and 1, 2, 4 in CIFAR
        form. Dilated stages share the deepest stride; the last one's map is returned.
    """
    form = find_depth(depth, variant)
    x, stride = _stem(image, form)
    features = {stride: x}
    if form.size == 224:
        x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)  # after ReLU, so zeros are as good as -inf
        x = layers.MaxPooling2D(3, 2, name="stem_pool")(x)
        stride = 4
    if output_stride not in (1, 2, 4, 8, 16, 32) or output_stride < stride:
        expected = " or ".join(str(s) for s in (1, 2, 4, 8, 16, 32) if s >= stride)
        raise UsageError("output_stride is wrong", expected=expected, found=output_stride)
    dilation = 1
    for number, (blocks, filters) in enumerate(zip(form.blocks, form.filters, strict=True), start=1):
        strides = 1 if number == 1 else 2
        stage_dilation = dilation
        if stride * strides > output_stride:
            strides, stage_dilation = 1, dilation * 2
        x = _stage(x, form, variant, f"stage{number}", blocks, filters, strides, (dilation, stage_dilation))
        stride, dilation = stride * strides, stage_dilation
        features[stride] = x
    return features


def _stem(image: Any, form: Depth) -> tuple[Any, int]:
    first = Conv(64, 7, 2) if form.size == 224 else Conv(form.filters[0], 3)
    x = conv_norm(image, first, "stem", epsilon=RESNET_EPSILON)
    return layers.ReLU(name="stem_out")(x), first.strides


def _stage(
    x: Any,
    form: Depth,
    variant: str,
    name: str,
    blocks: int,
    filters: int,
    strides: int,
    dilations: tuple[int, int],
) -> Any:
    """Return the output of a stage; `dilations` are those before and after the place where it halves the size."""
    before, after = dilations
    kind = "projection" if form.size == 224 else "free"
    for number in range(1, blocks + 1):
        convs = _convs(form.bottleneck, variant, filters, strides, before, after)
        block = f"{name}_block{number}"
        if variant == "v2":
            x = pre_activation_block(x, convs, block, shortcut=kind, activated=number == 1)
        else:
            out = f"{name}_out" if number == blocks else f"{block}_relu"
            x = post_activation_block(x, convs, block, shortcut=None if variant == "plain" else kind, out=out)
        strides, before = 1, after
    if variant == "v2":
        x = layers.ReLU(name=f"{name}_out")(batch_norm(x, f"{name}_out", RESNET_EPSILON))
    return x


def _convs(bottleneck: bool, variant: str, filters: int, strides: int, before: int, after: int) -> list[Conv]:
    """Return the convolutions of a block: up to the strided one with the dilation before it, then with that after."""
    if not bottleneck:
        return [Conv(filters, 3, strides, before), Conv(filters, 3, 1, after)]
    if variant in ("v1", "plain"):
        return [Conv(filters, 1, strides), Conv(filters, 3, 1, after), Conv(4 * filters, 1)]
    return [Conv(filters, 1), Conv(filters, 3, strides, before), Conv(4 * filters, 1)]
