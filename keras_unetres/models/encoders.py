"""Encoders: the feature maps of a ResNet or an EfficientNet, by its name.

An encoder returns its feature maps as a dict keyed by stride, and that is all a decoder knows of it.
"""

from __future__ import annotations

import re
from typing import Any

import keras

from unetres_edge.errors import ModelError, UsageError

from ..choices.networks import EfficientNet, find_encoder
from .efficientnet import efficientnet_features
from .geometry import strides
from .resnet import resnet_features

_FEATURE = re.compile(r"(stem|stage\d+|encoder\d+|bridge)_out")


def encode(name: str, image: Any, *, output_stride: int = 32) -> dict[int, Any]:
    """Return the feature maps of an encoder, keyed by stride, finest first.

    Args:
        name: a name of `ENCODERS`, such as "resnet50" or "efficientnet_lite0".
        image: (N, H, W, C); H and W multiples of the deepest stride.
        output_stride: the deepest stride; further stages are dilated. Of an EfficientNet it is 32.

    Returns:
        {stride: (N, H / stride, W / stride, filters)}.

    Raises:
        UsageError: no such encoder, or another stride of an EfficientNet.
    """
    form = find_encoder(name)
    if not isinstance(form, EfficientNet):
        return resnet_features(image, *form, output_stride)
    if output_stride != 32:
        raise UsageError(
            f"{name} has no dilated form",
            expected="output stride 32",
            found=output_stride,
            fix="take a ResNet, or a U-Net on this encoder",
        )
    return efficientnet_features(image, form)


def feature_pyramid(model: keras.Model) -> dict[int, Any]:
    """Return the feature maps of a network made by one of the builders, keyed by stride, finest first.

    They are the maps that `encode` returns, or those of U-Net's own contracting path, so that
    `keras.Model(model.input, feature_pyramid(model)[8])` gives them.

    Raises:
        ModelError: the network has no such maps.
    """
    stride_of = strides(model)
    outs = [layer for layer in model.layers if _FEATURE.fullmatch(layer.name)]
    if not outs:
        raise ModelError("the model has no feature maps", expected="a network of this package", found=model.name)
    maps: dict[int, Any] = {}
    for layer in outs:
        maps[int(stride_of[layer.name])] = layer.output
    return dict(sorted(maps.items()))
