"""The ResNets of He 2015 and He 2016 and EfficientNet-Lite0 as rows of tables, and the names under which they serve.

Every ResNet is a row of `DEPTHS` and a variant:

    v1      He 2015: a bottleneck block halves the size in its first 1x1 convolution
    v1.5    in the 3x3 convolution instead, as torchvision and timm do
    v2      He 2016: norm and ReLU before each convolution
    plain   v1 without shortcuts

A U-Net and an FCN are segmenters, on such an encoder or their own; a ResNet by itself is a classifier.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field

from unetres_edge.errors import UsageError

from .tasks import CLASSIFY, SEGMENT, TaskTraits

VARIANTS = ("v1", "v1.5", "v2", "plain")
UPSAMPLINGS = ("transpose", "bilinear", "nearest")  # of a U-Net's expanding path
PADDINGS = ("same", "valid")  # of a U-Net's convolutions


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


def resnet_name(depth: int, variant: str) -> str:
    """Return the name of a network: "resnet50", "resnet50_v1.5", "resnet50_v2" or "plain34"."""
    if variant == "plain":
        return f"plain{depth}"
    return f"resnet{depth}" + ("" if variant == "v1" else f"_{variant}")


# name -> (depth, variant) of `build_resnet`.
RESNETS: dict[str, tuple[int, str]] = {
    resnet_name(depth, variant): (depth, variant)
    for variant in VARIANTS
    for depth, form in DEPTHS.items()
    if variant != "v1.5" or form.bottleneck
}


@dataclass(frozen=True)
class InvertedStage:
    """A row of Tan 2019, table 1: a stage of inverted residual blocks.

    Args:
        kernel_size: side of the kernels of the depthwise convolutions.
        blocks: number of blocks.
        filters: channels at the end of each.
        strides: strides of the first block.
        expansion: factor by which a depthwise convolution sees more channels; 1 without a convolution before it.
    """

    kernel_size: int
    blocks: int
    filters: int
    strides: int
    expansion: int


EFFICIENTNET_STAGES = (
    InvertedStage(3, 1, 16, 1, 1),
    InvertedStage(3, 2, 24, 2, 6),
    InvertedStage(5, 2, 40, 2, 6),
    InvertedStage(3, 3, 80, 2, 6),
    InvertedStage(5, 3, 112, 1, 6),
    InvertedStage(5, 4, 192, 2, 6),
    InvertedStage(3, 1, 320, 1, 6),
)


@dataclass(frozen=True)
class EfficientNet:
    """A form of EfficientNet-Lite0; published weights fit one of them, which differ in no tensor.

    Args:
        centred: whether strided convolutions pad half a kernel on every side, as PyTorch does; else TensorFlow's
            "same".
        epsilon: epsilon of BatchNormalization.
        stem: channels of the stem.
    """

    centred: bool
    epsilon: float
    stem: int = 32


EFFICIENTNETS: dict[str, EfficientNet] = {
    "efficientnet_lite0": EfficientNet(centred=False, epsilon=1e-3),
    "efficientnet_lite0_timm": EfficientNet(centred=True, epsilon=1e-5),
}

# The encoder whose ImageNet weights are at hand wherever this package is installed, and the name of none.
LITE, NO_ENCODER = "efficientnet_lite0", "none"

# What can be a contracting path, ResNets first.
ENCODERS: Mapping[str, tuple[int, str] | EfficientNet] = ChainMap(EFFICIENTNETS, RESNETS)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Network:
    """A network that `--network` names.

    Args:
        task: name of its task.
        lacks: tag of settings that it does not take -> what takes them.
    """

    task: TaskTraits
    lacks: Mapping[str, str] = field(default_factory=dict)


SEGMENTERS: dict[str, Network] = {"unet": Network(SEGMENT), "fcn": Network(SEGMENT, {"unet": "U-Nets"})}
_RESNET = Network(CLASSIFY, {"masks": "segmenters"})


def find_network(name: str) -> Network:
    """Return the network of a name: a segmenter, or a ResNet as a classifier."""
    return SEGMENTERS.get(name, _RESNET)


def find_encoder(name: str) -> tuple[int, str] | EfficientNet:
    """Return (depth, variant) of a ResNet by name, or the form of an EfficientNet.

    Raises:
        UsageError: no such encoder.
    """
    if name not in ENCODERS:
        raise UsageError("encoder is unknown", expected=", ".join(ENCODERS), found=name)
    return ENCODERS[name]


def count_halvings(encoder: str) -> int:
    """Return how many times an encoder halves the size.

    Raises:
        UsageError: no such encoder.
    """
    form = find_encoder(encoder)
    return 5 if isinstance(form, EfficientNet) or DEPTHS[form[0]].size == 224 else 2


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


def unpadded_crop(depth: int) -> int:
    """Return how many px of every side a U-Net without padding leaves out: 92 of the paper's, whose depth is 4.

    Two 3x3 convolutions take 2 px each at every level of either path, which are 2**level px of the input.
    """
    return 6 * 2**depth - 4


def unpadded_input(depth: int, output: int) -> int:
    """Return the least side that such a network takes and whose output has a side of at least `output` px."""
    step = 2**depth
    return step * -(-(output + 2 * unpadded_crop(depth) + 4) // step) - 4
