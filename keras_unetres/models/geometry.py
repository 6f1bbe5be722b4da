"""Geometry read from a built graph: how far an input pixel reaches, and which input sizes fit.

Each tensor is followed from the input with its stride (px of the input between neighbouring elements) and its reach
(px of the input, either way, that an element depends on; Araujo 2019). At a merge the larger reach counts.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import keras
from keras import layers

from unetres_edge.errors import ModelError

_POINTWISE = (
    layers.Activation,
    layers.Add,
    layers.BatchNormalization,
    layers.Concatenate,
    layers.Dropout,
    layers.InputLayer,
    layers.LayerNormalization,
    layers.LeakyReLU,
    layers.Multiply,
    layers.ReLU,
    layers.Rescaling,
    layers.Softmax,
    layers.SpatialDropout2D,
)


def receptive_halo(model: keras.Model) -> int:
    """Return how far, in px, an input pixel can influence the output of a flat functional model.

    Raises:
        ModelError: a layer whose reach is not known, such as global pooling.
    """
    reaches = _follow(model)
    return max(int(-(-_of(reaches, output)[1] // 1)) for output in model.outputs)


def input_multiple(model: keras.Model) -> int:
    """Return the number that input height and width must be a multiple of: the deepest stride."""
    return max(int(stride) for stride, _ in _follow(model).values())


def _follow(model: keras.Model) -> dict[int, tuple[Fraction, Fraction]]:
    """Return (stride, reach) for the tensors of the graph, by `id`."""
    reaches: dict[int, tuple[Fraction, Fraction]] = {}
    if not hasattr(model, "operations"):
        raise ModelError("the model has no graph to follow", expected="a functional model", found=type(model).__name__)
    for operation in model.operations:
        for node in operation._inbound_nodes:
            sources = [_of(reaches, tensor) for tensor in node.input_tensors if id(tensor) in reaches]
            if len(sources) != len(node.input_tensors):
                continue  # a node of another model that shares the layer
            stride = max((s for s, _ in sources), default=Fraction(1))
            reach = max((r for _, r in sources), default=Fraction(0))
            for tensor in node.output_tensors:
                reaches[id(tensor)] = _step(operation, stride, reach)
    return reaches


def _of(reaches: dict[int, tuple[Fraction, Fraction]], tensor: Any) -> tuple[Fraction, Fraction]:
    return reaches[id(tensor)]


def _step(layer: Any, stride: Fraction, reach: Fraction) -> tuple[Fraction, Fraction]:
    if isinstance(layer, layers.Conv2DTranspose):
        # The element at i depends on inputs within (kernel - 1) / stride of i / stride.
        factor, kernel = max(layer.strides), max(layer.kernel_size)
        return stride / factor, reach + stride * Fraction(max(kernel - 1, 0), factor)
    if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)):
        extent = (max(layer.kernel_size) - 1) * max(layer.dilation_rate)
        return stride * max(layer.strides), reach + stride * (extent - extent // 2)
    if isinstance(layer, (layers.MaxPooling2D, layers.AveragePooling2D)):
        return stride * max(layer.strides), reach + stride * (max(layer.pool_size) - 1)
    if isinstance(layer, layers.UpSampling2D):
        return stride / max(layer.size), reach + (stride if layer.interpolation == "bilinear" else 0)
    if isinstance(layer, _POINTWISE):
        return stride, reach
    raise ModelError(
        f"the reach of layer {layer.name!r} ({type(layer).__name__}) is not known", fix="pass halo= when exporting"
    )
