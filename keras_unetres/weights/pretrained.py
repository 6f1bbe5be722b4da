"""The builders of `keras_unetres.models` with one more argument, `weights`: build a network and load published weights.

`ku.build_unet`, `ku.build_fcn` and `ku.build_resnet` are these.
"""

from __future__ import annotations

import os

import keras

from .. import models
from ..choices.arguments import checks_kinds
from ..choices.networks import resnet_name
from ..choices.starts import STARTS
from .loader import load_published


@checks_kinds
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
    weights: str | os.PathLike[str] | None = None,
    name: str = "unet",
) -> keras.Model:
    """Build a U-Net, and load published weights into its encoder, or a start into all of it, if any are given.

    Args:
        weights: None for random ones, or published weights for the encoder, as `load_published` takes them: "imagenet"
            downloads. Without an encoder a start: "nuclei" or "shapes", whose filters and depth are taken where these
            are None, or a file of one. Every other argument is that of `keras_unetres.models.build_unet`.

    Returns:
        The model that `keras_unetres.models.build_unet` returns.

    Raises:
        UsageError: an argument is outside what is stated there, or the start is of another network.
        WeightsError: the weights do not fit the encoder, or cannot be read.
    """
    if encoder is None and weights in STARTS:
        filters = filters or STARTS[str(weights)].filters
        depth = depth or STARTS[str(weights)].depths.get(filters)
    model = models.build_unet(
        input_shape,
        num_classes,
        encoder=encoder,
        filters=filters,
        depth=depth,
        padding=padding,
        upsampling=upsampling,
        norm=norm,
        dropout=dropout,
        residual=residual,
        head_activation=head_activation,
        name=name,
    )
    return _loaded(model, weights, encoder)


@checks_kinds
def build_fcn(
    input_shape: tuple[int | None, int | None, int] = (256, 256, 3),
    num_classes: int = 2,
    *,
    encoder: str = "resnet50",
    output_stride: int = 8,
    dropout: float = 0.0,
    head_activation: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    name: str = "fcn",
) -> keras.Model:
    """Build a fully convolutional network on a ResNet, and load published weights into that if any are given.

    Args:
        weights: None for random ones, or published weights for the encoder, as `load_published` takes them: "imagenet"
            downloads. Every other argument is that of `keras_unetres.models.build_fcn`.

    Returns:
        The model that `keras_unetres.models.build_fcn` returns.

    Raises:
        UsageError: an argument is outside what is stated there.
        WeightsError: the weights do not fit the encoder, or cannot be read.
    """
    model = models.build_fcn(
        input_shape,
        num_classes,
        encoder=encoder,
        output_stride=output_stride,
        dropout=dropout,
        head_activation=head_activation,
        name=name,
    )
    return _loaded(model, weights, encoder)


@checks_kinds
def build_resnet(
    depth: int = 50,
    input_shape: tuple[int | None, int | None, int] | None = None,
    num_classes: int = 1000,
    *,
    variant: str = "v1",
    include_top: bool = True,
    output_stride: int = 32,
    head_activation: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    name: str | None = None,
) -> keras.Model:
    """Build a ResNet, and load published weights into it if any are given.

    Args:
        weights: None for random ones, or published weights for the network, as `load_published` takes them: "imagenet"
            downloads. Every other argument is that of `keras_unetres.models.build_resnet`.

    Returns:
        The model that `keras_unetres.models.build_resnet` returns.

    Raises:
        UsageError: an argument is outside what is stated there.
        WeightsError: the weights do not fit the network, or cannot be read.
    """
    model = models.build_resnet(
        depth,
        input_shape,
        num_classes,
        variant=variant,
        include_top=include_top,
        output_stride=output_stride,
        head_activation=head_activation,
        name=name,
    )
    return _loaded(model, weights, resnet_name(depth, variant))


def _loaded(model: keras.Model, weights: str | os.PathLike[str] | None, encoder: str | None) -> keras.Model:
    if weights is not None:
        load_published(model, weights, encoder=encoder)
    return model
