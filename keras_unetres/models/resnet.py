"""ResNet (He 2015), its pre-activation form (He 2016) and the plain networks that both are measured against.

Every network is a row of `DEPTHS` and a variant:

    v1      He 2015: a bottleneck block halves the size in its first 1x1 convolution
    v1.5    in the 3x3 convolution instead, as torchvision and timm do
    v2      He 2016: norm and ReLU before each convolution
    plain   v1 without shortcuts
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from unetres_edge.errors import UsageError

from .blocks import RESNET_EPSILON, Conv, batch_norm, conv_norm, post_activation_block, pre_activation_block
from .heads import add_activation, check_common

VARIANTS = ("v1", "v1.5", "v2", "plain")


@dataclass(frozen=True)
class Depth:
    """A row of He 2015, table 1 or section 4.2.

    Args:
        blocks: residual blocks in each stage.
        filters: channels of the 3x3 convolutions in each stage.
        bottleneck: 1x1, 3x3, 1x1 with four times the channels, instead of two 3x3.
        size: side of the published input, px: 224 (ImageNet: 7x7 stem and pooling) or 32 (CIFAR: 3x3 stem).
    """

    blocks: tuple[int, ...]
    filters: tuple[int, ...] = (64, 128, 256, 512)
    bottleneck: bool = False
    size: int = 224


DEPTHS: dict[int, Depth] = {
    18: Depth((2, 2, 2, 2)),
    34: Depth((3, 4, 6, 3)),
    50: Depth((3, 4, 6, 3), bottleneck=True),
    101: Depth((3, 4, 23, 3), bottleneck=True),
    152: Depth((3, 8, 36, 3), bottleneck=True),
    **{6 * n + 2: Depth((n, n, n), filters=(16, 32, 64), size=32) for n in (3, 5, 7, 9, 18)},
}


def build_resnet(
    depth: int = 50,
    input_shape: tuple[int | None, int | None, int] | None = None,
    num_classes: int = 1000,
    *,
    variant: str = "v1",
    include_top: bool = True,
    output_stride: int = 32,
    head_activation: str | None = None,
    weights: str | None = None,
    name: str | None = None,
) -> keras.Model:
    """Build a ResNet.

    Args:
        depth: 18, 34, 50, 101 or 152 (ImageNet form, He 2015 table 1), or 20, 32, 44, 56 or 110 (CIFAR form with
            parameter-free shortcuts, section 4.2).
        input_shape: (height, width, channels); height and width may be None. None for the published size.
        num_classes: ways of the classifier, at least 2.
        variant: "v1", "v1.5", "v2" or "plain"; see the module.
        include_top: end with global average pooling and the classifier, else with the deepest feature map.
        output_stride: stages beyond this stride are dilated instead of strided (Yu 2016); 8 or 16 for dense maps.
        head_activation: None for logits or "softmax".
        weights: None, or published ones as `load_published` takes them: "imagenet" downloads.
        name: the model's name; None for one such as "resnet50".

    Returns:
        A flat model, (N, H, W, channels) float32 -> (N, num_classes) float32, or (N, h, w, filters) without top.

    Raises:
        UsageError: an argument is outside what is stated above.
        WeightsError: the weights do not fit the network, or cannot be read.
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
    model = keras.Model(image, x, name=name or resnet_name(depth, variant))
    if weights is not None:
        from .weights import load_published  # which needs this module

        load_published(model, weights, encoder=resnet_name(depth, variant))
    return model


def resnet_name(depth: int, variant: str) -> str:
    """Return the name of a network: "resnet50", "resnet50_v1.5", "resnet50_v2" or "plain34"."""
    if variant == "plain":
        return f"plain{depth}"
    return f"resnet{depth}" + ("" if variant == "v1" else f"_{variant}")


def find_depth(depth: int, variant: str) -> Depth:
    """Return the row of a network.

    Raises:
        UsageError: there is no such network.
    """
    if isinstance(depth, float) or depth not in DEPTHS:
        raise UsageError("depth is wrong", expected=", ".join(map(str, sorted(DEPTHS))), found=repr(depth))
    if variant not in VARIANTS:
        raise UsageError("variant is unknown", expected=", ".join(VARIANTS), found=variant)
    if variant == "v1.5" and not DEPTHS[depth].bottleneck:
        raise UsageError(
            "v1.5 moves the stride inside bottleneck blocks",
            expected="depth 50, 101 or 152",
            found=depth,
            fix="use variant 'v1', which is the same network at this depth",
        )
    return DEPTHS[depth]


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
