"""A small network of every form that the builders make, with facts known before it is built; other files check them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras

from keras_unetres import models

# Channels by stride: He 2015, table 1 and section 4.2.
BASIC = {2: 64, 4: 64, 8: 128, 16: 256, 32: 512}
BOTTLENECK = {2: 64, 4: 256, 8: 512, 16: 1024, 32: 2048}
CIFAR = {1: 16, 2: 32, 4: 64}
# Tan 2019, table 1, of EfficientNet-B0.
LITE = {2: 16, 4: 24, 8: 40, 16: 112, 32: 320}
# Ronneberger 2015, figure 1, with 4 channels for 64 and two levels for four.
OWN = {1: 4, 2: 8, 4: 16}


@dataclass(frozen=True)
class Row:
    """A network and what is known of it before it is built.

    Args:
        builder: the builder's name.
        shape: (height, width, channels) of the images it is fed with; unequal sides, the smallest batch of four that
            BatchNormalization can learn from.
        output: shape of the output for one such image.
        maps: {stride: channels} of the feature maps.
        arguments: of the builder, without `input_shape`.
        open: built for (None, None, channels).
    """

    builder: str
    shape: tuple[int, int, int]
    output: tuple[int, ...]
    maps: dict[int, int]
    arguments: dict[str, Any] = field(default_factory=dict)
    open: bool = False

    @property
    def input_shape(self) -> tuple[int | None, int | None, int]:
        return (None, None, self.shape[2]) if self.open else self.shape

    @property
    def classifier(self) -> bool:
        return len(self.output) == 1

    @property
    def dense(self) -> bool:
        """Answers for every pixel, or for every pixel in the middle of an unpadded network."""
        return not self.classifier and self.arguments.get("include_top", True)

    @property
    def padded(self) -> bool:
        return self.arguments.get("padding") != "valid"

    @property
    def dropout(self) -> float:
        return self.arguments.get("dropout", 0.0)

    @property
    def softmax(self) -> bool:
        return self.arguments.get("head_activation") == "softmax"

    def build(self, **changes: Any) -> keras.Model:
        return getattr(models, self.builder)(**{"input_shape": self.input_shape, **self.arguments, **changes})


def _row(
    builder: str,
    shape: tuple[int, int, int],
    output: tuple[int, ...],
    maps: dict[int, int],
    *,
    open: bool = False,
    **arguments: Any,
) -> Row:
    return Row(f"build_{builder}", shape, output, maps, {"num_classes": output[-1], **arguments}, open)


NETWORKS: dict[str, Row] = {
    "unet": _row("unet", (16, 24, 1), (16, 24, 3), OWN, filters=4, depth=2),
    # Ronneberger 2015
    "unet_paper": _row(
        "unet",
        (44, 48, 1),
        (4, 8, 2),
        OWN,
        filters=4,
        depth=2,
        padding="valid",
        norm=None,
        dropout=0.5,
        head_activation="softmax",
    ),
    "unet_bilinear": _row("unet", (16, 24, 4), (16, 24, 2), OWN, filters=4, depth=2, upsampling="bilinear"),
    "unet_nearest": _row("unet", (16, 24, 7), (16, 24, 2), OWN, filters=4, depth=2, upsampling="nearest"),
    "unet_no_norm": _row("unet", (16, 24, 3), (16, 24, 5), OWN, filters=4, depth=2, norm=None),
    "unet_residual": _row("unet", (16, 24, 2), (16, 24, 2), OWN, filters=4, depth=2, residual=True),
    "unet_residual_valid": _row(
        "unet", (18, 24, 3), (2, 8, 2), {1: 4, 2: 8}, filters=4, depth=1, residual=True, padding="valid"
    ),
    "unet_open": _row("unet", (16, 24, 2), (16, 24, 2), OWN, open=True, filters=4, depth=2),
    "unet_resnet18": _row("unet", (64, 32, 3), (64, 32, 2), BASIC, filters=4, encoder="resnet18"),
    "unet_resnet20": _row("unet", (32, 16, 1), (32, 16, 2), CIFAR, filters=4, encoder="resnet20"),
    "unet_resnet20_v2": _row("unet", (32, 16, 4), (32, 16, 2), CIFAR, filters=4, encoder="resnet20_v2", dropout=0.1),
    "unet_plain20": _row("unet", (32, 16, 2), (32, 16, 2), CIFAR, filters=4, encoder="plain20", residual=True),
    # upper stages
    "unet_resnet50_v1.5": _row(
        "unet", (64, 32, 1), (64, 32, 2), {2: 64, 4: 256, 8: 512, 16: 1024}, filters=4, encoder="resnet50_v1.5", depth=4
    ),
    "unet_resnet18_depth3": _row(
        "unet", (32, 16, 7), (32, 16, 2), {2: 64, 4: 64, 8: 128}, filters=4, encoder="resnet18", depth=3
    ),
    "unet_efficientnet_lite0": _row("unet", (64, 32, 3), (64, 32, 2), LITE, filters=4, encoder="efficientnet_lite0"),
    "unet_efficientnet_lite0_timm": _row(
        "unet", (32, 32, 1), (32, 32, 3), {2: 16, 4: 24, 8: 40}, filters=4, encoder="efficientnet_lite0_timm", depth=3
    ),
    "resnet18": _row("resnet", (64, 32, 3), (5,), BASIC, depth=18),
    "resnet50": _row("resnet", (64, 32, 3), (5,), BOTTLENECK, depth=50),
    "resnet50_v1.5": _row("resnet", (64, 32, 4), (5,), BOTTLENECK, depth=50, variant="v1.5"),
    "resnet50_v2": _row("resnet", (64, 32, 1), (5,), BOTTLENECK, depth=50, variant="v2"),
    "resnet20": _row("resnet", (32, 16, 3), (10,), CIFAR, depth=20),
    "resnet20_v2": _row("resnet", (32, 16, 7), (10,), CIFAR, depth=20, variant="v2"),
    "plain20": _row("resnet", (32, 16, 1), (10,), CIFAR, depth=20, variant="plain"),
    "plain18": _row("resnet", (64, 32, 2), (5,), BASIC, depth=18, variant="plain"),
    "resnet20_softmax": _row("resnet", (32, 16, 3), (10,), CIFAR, depth=20, head_activation="softmax"),
    # feature maps
    "resnet18_features": _row("resnet", (64, 32, 3), (2, 1, 512), BASIC, open=True, depth=18, include_top=False),
    "resnet18_stride8": _row(
        "resnet", (32, 16, 3), (4, 2, 512), {2: 64, 4: 64, 8: 512}, depth=18, output_stride=8, include_top=False
    ),
    "resnet18_v2_stride16": _row(
        "resnet", (64, 32, 3), (5,), {2: 64, 4: 64, 8: 128, 16: 512}, depth=18, variant="v2", output_stride=16
    ),
    "fcn_resnet18": _row("fcn", (32, 16, 3), (32, 16, 2), {2: 64, 4: 64, 8: 512}, encoder="resnet18", dropout=0.1),
    "fcn_resnet18_stride16": _row(
        "fcn", (64, 32, 1), (64, 32, 3), {2: 64, 4: 64, 8: 128, 16: 512}, encoder="resnet18", output_stride=16
    ),
    "fcn_resnet20": _row("fcn", (16, 24, 3), (16, 24, 2), CIFAR, encoder="resnet20"),
    # no resizing
    "fcn_resnet20_v2_stride1": _row("fcn", (16, 24, 2), (16, 24, 2), {1: 64}, encoder="resnet20_v2", output_stride=1),
    "fcn_softmax": _row("fcn", (16, 24, 4), (16, 24, 3), CIFAR, encoder="plain20", head_activation="softmax"),
}

# Rows that are made of the same parts as others: what takes long is left to the long tests for them.
ALIKE = {
    "unet_no_norm": "unet_paper",
    "unet_open": "unet",
    "unet_resnet50_v1.5": "unet_resnet18 and resnet50_v2",
    "unet_resnet20": "unet_resnet20_v2",
    "unet_efficientnet_lite0_timm": "unet_efficientnet_lite0",
    "unet_plain20": "unet_resnet20_v2",
    "unet_resnet18_depth3": "unet_resnet18",
    "resnet18": "unet_resnet18",
    "resnet50": "resnet50_v2",
    "resnet50_v1.5": "resnet50_v2",
    "resnet20_v2": "unet_resnet20_v2",
    "plain18": "plain20",
    "resnet18_features": "resnet18_stride8",
    "resnet18_v2_stride16": "resnet18_stride8 and resnet50_v2",
    "fcn_resnet18_stride16": "fcn_resnet18",
    "fcn_resnet20": "fcn_softmax",
    "fcn_resnet20_v2_stride1": "unet_resnet20_v2",
}
