"""The calls of a flat Keras network, in an order in which they can be computed."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

import keras

from unetres_edge.errors import UsageError

from ..models.graph import ordered_nodes


@dataclass(frozen=True)
class Call:
    """One use of a layer: its input tensors and its output tensor, as symbols."""

    layer: Any
    inputs: tuple[Any, ...]
    output: Any


def read_calls(model: keras.Model, *, again: tuple[type, ...] = ()) -> list[Call]:
    """Return the calls that lead from the input of a functional model to its output.

    Args:
        again: kinds of layers that may be used more than once.

    Raises:
        UsageError: not a functional model with one input and one output, a model within the model, a layer with several
            outputs, a function of `keras.ops` in the place of a layer, or a layer used twice; it is named.
    """
    if not isinstance(model, keras.Model) or not hasattr(model, "operations"):
        raise UsageError(
            "not a functional Keras model",
            expected="keras.Model(inputs, outputs), or a Sequential that is built",
            found=type(model).__name__,
            fix=_way_to_a_graph(model),
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        found = f"{len(model.inputs)} inputs and {len(model.outputs)} outputs"
        raise UsageError(
            "the model must have one input and one output", found=found, fix="make a model of one image and one output"
        )
    for operation in model.operations:
        _check_layer(operation)
    calls = []
    for layer, inputs, outputs in ordered_nodes(model):
        if len(outputs) != 1:
            raise UsageError(f"layer {layer.name} has several outputs")
        calls.append(Call(layer, tuple(inputs), outputs[0]))
    for name, count in Counter(call.layer.name for call in calls if not isinstance(call.layer, again)).items():
        if count > 1:
            raise UsageError(f"layer {name} is used {count} times", fix="give each use a layer of its own")
    return calls


def _way_to_a_graph(model: Any) -> str | None:
    if isinstance(model, (str, os.PathLike)):
        return "pass the model that keras.models.load_model gives of it; or ku.quantize, which takes a file"
    return "call it on images first, so that it is built: model(images)" if isinstance(model, keras.Model) else None


def _check_layer(operation: Any) -> None:
    if isinstance(operation, keras.Model):
        raise UsageError(
            f"what model {operation.name} does is not made of layers alone, and cannot be followed",
            fix="write its call with layers and keras.ops in the place of functions of TensorFlow and of the images' "
            "own size; or ku.export it, which quantizes without training",
        )
    if not isinstance(operation, keras.layers.Layer):
        kind = type(operation).__name__
        instead = _INSTEAD.get(kind, "convolutions, sums, products and poolings of layers")
        raise UsageError(
            f"{operation.name} is a function, not a layer",
            found=kind,
            fix=f"write it by {instead}; or ku.export it, which quantizes without training",
        )


_INSTEAD = {  # of functions of keras.ops
    **dict.fromkeys(("Add", "Subtract", "Multiply"), "the layer of that name, of equal shapes"),
    **dict.fromkeys(("GetItem", "Slice", "Split"), "layers.Cropping2D, or by convolutions of their own"),
    **dict.fromkeys(("ExpandDims", "Squeeze"), "layers.Reshape, or GlobalAveragePooling2D(keepdims=True)"),
    **dict.fromkeys(("Mean", "AveragePool"), "layers.GlobalAveragePooling2D or AveragePooling2D"),
    **dict.fromkeys(("Max", "MaxPool"), "layers.GlobalMaxPooling2D or MaxPooling2D"),
    "Pad": "layers.ZeroPadding2D",
    "Resize": "layers.Resizing or UpSampling2D",
    "Reshape": "layers.Reshape",
    "Transpose": "layers.Permute",
}
