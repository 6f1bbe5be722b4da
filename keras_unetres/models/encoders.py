"""The table of encoders by name.

An encoder returns its feature maps as a dict keyed by stride, and that is all a decoder knows of it.
"""

from __future__ import annotations

import re
from typing import Any

import keras

from unetres_edge.errors import ModelError, UsageError

from .geometry import strides
from .resnet import DEPTHS, VARIANTS, resnet_features, resnet_name

# name -> (depth, variant) of `build_resnet`.
ENCODERS: dict[str, tuple[int, str]] = {
    resnet_name(depth, variant): (depth, variant)
    for variant in VARIANTS
    for depth, form in DEPTHS.items()
    if variant != "v1.5" or form.bottleneck
}

_FEATURE = re.compile(r"(stem|stage\d+|encoder\d+|bridge)_out")


def encode(name: str, image: Any, *, output_stride: int = 32) -> dict[int, Any]:
    """Return the feature maps of an encoder, keyed by stride, finest first.

    Args:
        name: a name of `ENCODERS`, such as "resnet50" or "resnet20_v2".
        image: (N, H, W, C); H and W multiples of the deepest stride.
        output_stride: the deepest stride; further stages are dilated.

    Returns:
        {stride: (N, H / stride, W / stride, filters)}.

    Raises:
        UsageError: no such encoder.
    """
    return resnet_features(image, *find_encoder(name), output_stride)


def find_encoder(name: str) -> tuple[int, str]:
    """Return (depth, variant) of an encoder by name.

    Raises:
        UsageError: no such encoder.
    """
    if name not in ENCODERS:
        raise UsageError("encoder is unknown", expected=", ".join(ENCODERS), found=name)
    return ENCODERS[name]


def feature_pyramid(model: keras.Model) -> dict[int, Any]:
    """Return the feature maps of a network made by one of the builders, keyed by stride, finest first.

    They are the maps that `encode` returns, or those of U-Net's own contracting path, so that
    `keras.Model(model.input, feature_pyramid(model)[8])` gives them.

    Raises:
        ModelError: the network has no such maps.
    """
    found = strides(model)
    outs = [layer for layer in model.layers if _FEATURE.fullmatch(layer.name)]
    if not outs:
        raise ModelError("the model has no feature maps", expected="a network of this package", found=model.name)
    maps: dict[int, Any] = {}
    for layer in outs:
        maps[int(found[layer.name])] = layer.output
    return dict(sorted(maps.items()))
