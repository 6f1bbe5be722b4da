"""Quantization-aware training by tensorflow-model-optimization of networks that it refuses or gets wrong by itself.

The network comes folded: no BatchNormalization, no scaling and no fused activation is left in it, so it needs none of
the graph transforms with which tensorflow-model-optimization looks for patterns. Every layer gets a `QuantizeConfig` of
ours that rounds its kernel, and its output where the folded network has a point; ranges begin at calibration, not at
+-6. What is trained goes back into the native form, which is what is stored and exported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.errors import ModelError, UsageError

from ..folding import Folded
from ..graph import read_calls
from ..native import build_native, range_name, set_ranges
from .bridge import carry
from .imports import load_tf_keras

if TYPE_CHECKING:
    import keras

# Where the kernel is, and along which of its axes each element has a scale of its own.
KERNELS: dict[str, tuple[str, int | None]] = {
    "Conv2D": ("kernel", 3),
    "Conv2DTranspose": ("kernel", None),  # the converter refuses a scale for each channel here
    "Dense": ("kernel", None),  # here too
    "DepthwiseConv2D": ("depthwise_kernel", 2),
}


def quantize_tfmot(
    folded: Folded,
    ranges: Mapping[str, tuple[float, float]],
    *,
    momentum: float = 0.999,
    keep_zeros: bool = False,
) -> Any:
    """Return a tf_keras model of the folded network with fake quantization, for `compile` and `fit`.

    Layers keep their names. XLA must stay off, under which fake quantization rounds otherwise; `compile` sees to it.

    Args:
        ranges: ranges of the points that have no fixed range, from calibration.
        momentum: momentum of the ranges in training, but for that of the input; 1 keeps those given.
        keep_zeros: weights that are 0 stay 0 in training.

    Raises:
        UsageError: a range is missing, not finite or of no point, or the momentum is not in [0, 1].
        ModelError: a layer cannot be carried to tf_keras; it is named.
    """
    if not 0 <= momentum <= 1:
        raise UsageError("momentum cannot be used", expected="a number in [0, 1]", found=momentum)
    _check_ranges(folded, ranges)
    from .quantizers import KernelQuantizer, LayerConfig, QuantizedLayer, RangeQuantizer, SharedRange

    image = folded.model.inputs[0]
    outputs: dict[str, RangeQuantizer] = {}
    for point in folded.points:
        moves = 1.0 if image._keras_history.operation.name in point.layers else momentum  # a device feeds all levels
        shared = point.fixed or SharedRange(point.name, ranges[point.name], len(point.layers), moves)
        outputs.update({name: RangeQuantizer(shared, index) for index, name in enumerate(point.layers)})
    makers = {id(image): image._keras_history.operation.name}
    sources: dict[str, Any] = {}  # the range of what a layer is given
    for call in read_calls(folded.model):
        makers[id(call.output)] = call.layer.name
        maker = outputs.get(makers[id(call.inputs[0])])
        sources[call.layer.name] = None if maker is None else maker.shared

    def wrap(layer: Any) -> Any:
        kernel = None
        if type(layer).__name__ in KERNELS:
            attribute, axis = KERNELS[type(layer).__name__]
            kept = (getattr(layer, attribute).numpy() != 0).astype(np.float32) if keep_zeros else None
            kernel = (attribute, KernelQuantizer(axis, kept))
        elif layer.weights:
            raise ModelError(
                f"layer {layer.name!r} ({type(layer).__name__}) has weights that are not quantized",
                expected=" or ".join(KERNELS),
                fix="fold the model first",
            )
        output = outputs.get(layer.name)
        return QuantizedLayer(layer, LayerConfig(kernel, sources[layer.name], output)) if kernel or output else layer

    def after_input(name: str) -> Any:
        layer = load_tf_keras().layers.Activation("linear", name=range_name(name))
        return QuantizedLayer(layer, LayerConfig(None, None, outputs.get(name)))

    return carry(folded.model, wrap, after_input)


def to_native(model: Any, folded: Folded, *, keep_zeros: bool = False) -> keras.Model:
    """Return the native form of what was trained: a Keras 3 model with the same weights, ranges and outputs.

    Args:
        model: model from `quantize_tfmot(folded, ...)`, trained or not.
        keep_zeros: as it was given there.

    Raises:
        ModelError: the model is not one of that folded network.
    """
    native = build_native(folded, keep_zeros=keep_zeros)
    twins = {layer.name: layer for layer in model.layers}
    for layer in folded.model.layers:
        if type(layer).__name__ not in KERNELS:
            continue
        twin, target = twins.get(layer.name), native.get_layer(layer.name)
        config: Any = getattr(twin, "quantize_config", None)
        shape = tuple(config.variables[0].shape) if config is not None and config.variables else None
        if shape != tuple(target.kernel.shape):
            raise ModelError(
                f"the model has no quantized layer {layer.name!r} of this shape",
                expected=tuple(target.kernel.shape),
                found=shape,
                fix="give the folded network from which the model was made",
            )
        kernel, bias = config.variables
        target.kernel.assign(config.kernel[1].masked(kernel).numpy())
        target.bias.assign(bias.numpy())
    for name, (low, high) in trained_ranges(model).items():
        rounds = native.get_layer(range_name(name))
        rounds.low.assign(low)  # bit for bit, so that values halfway between two levels are rounded alike
        rounds.high.assign(high)
    set_ranges(native, {})  # the steps of the biases follow
    return native


def trained_ranges(model: Any) -> dict[str, tuple[float, float]]:
    """Return the range of each point of a model from `quantize_tfmot`, but for those that are fixed."""
    from .quantizers import SharedRange

    configs = [layer.quantize_config for layer in model.layers if hasattr(layer, "quantize_config")]
    shared = [config.output.shared for config in configs if config.output is not None]
    limits = {each.name: each.limits() for each in shared if isinstance(each, SharedRange)}
    return {name: (float(low), float(high)) for name, (low, high) in limits.items()}


def _check_ranges(folded: Folded, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raise a `UsageError` unless there is one range for each point that has none."""
    wanted = {point.name for point in folded.points if point.fixed is None}
    known = {point.name for point in folded.points}
    if wanted - set(ranges):
        raise UsageError(f"no range for the point {min(wanted - set(ranges))!r}", fix="calibrate the folded network")
    if set(ranges) - known:
        raise UsageError(f"the network has no point {min(set(ranges) - known)!r}", expected="ranges of its points")
    for name in wanted:
        low, high = ranges[name]
        if not -np.inf < low <= high < np.inf:
            raise UsageError(
                f"the range of the point {name!r} cannot be used", expected="low <= high", found=(low, high)
            )
