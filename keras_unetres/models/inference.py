"""The form in which a Keras model of any make is exported and scored: float32, flat, one image in, logits out.

Models come nested (an encoder of keras.applications), with lists and dictionaries at their ends, with a fixed batch, in
mixed precision, and with a softmax or sigmoid at the end, under which small scores are lost in int8. What they compute
at inference is kept; how they were trained is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from unetres_edge.errors import UsageError

from .fake_quant import FakeQuant
from .graph import Background, ordered_nodes

_ENDS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}  # of layers and of functions of keras.ops
_PASS = (layers.Identity, layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise, layers.ActivityRegularization)
_WITH_KERNEL = (
    *(layers.Conv2D, layers.Conv2DTranspose, layers.Dense),
    *(layers.DepthwiseConv2D, layers.SeparableConv2D),
)


@dataclass(frozen=True)
class Inference:
    """A model ready for export.

    Args:
        model: gives logits, two or more channels where the graph is known.
        activation: what makes probabilities of its logits: "softmax" over the classes, or "sigmoid" of each by itself.
        binary: whether the model had one sigmoid channel, before which the background's score was put.
    """

    model: keras.Model
    activation: str = "softmax"
    binary: bool = False


def inference_form(model: keras.Model, output: str | None = None) -> Inference:
    """Return the form of a model that is exported; a plain model of logits is returned as it is.

    A subclassed model has no graph that could be changed, and stays as it is.

    Args:
        output: of several outputs, the name of the one that is meant.

    Raises:
        UsageError: the model has several inputs or outputs, or a layer that cannot be exported; it is named.
    """
    graph = find_graph(model)
    if graph is None:
        return Inference(model)
    for layer in _all_layers(graph):
        _check_exports(layer)
    if len(graph.inputs) != 1:
        raise UsageError(
            f"the model has {len(graph.inputs)} inputs", expected="one image", fix="make a model of one input"
        )
    chosen = _output(graph, output)
    if _must_be_rebuilt(graph):
        graph, chosen = _rebuilt(graph, chosen)
    logits, activation = _before_activation(graph, chosen)
    binary = activation == "sigmoid" and logits.shape[-1] == 1
    if binary:
        logits = Background(name="background_score")(logits)
    if _is_plain(model, graph) and logits is chosen:
        return Inference(model)
    made = keras.Model(graph.inputs[0], logits, name=model.name)
    return Inference(made, "sigmoid" if activation == "sigmoid" and not binary else "softmax", binary)


def flat_form(model: keras.Model, output: str | None = None) -> keras.Model:
    """Return a model flat, in float32, with one image in and one tensor out; its last activation stays.

    Raises:
        UsageError: as `inference_form`; or not a model whose graph is known.
    """
    graph = find_graph(model)
    if graph is None:
        return model
    for layer in _all_layers(graph):
        _check_exports(layer)
    if len(graph.inputs) != 1:
        return model
    chosen = _output(graph, output)
    if _must_be_rebuilt(graph):
        graph, chosen = _rebuilt(graph, chosen)
    elif _is_plain(model, graph):
        return model
    return keras.Model(graph.inputs[0], chosen, name=model.name)


def find_graph(model: Any) -> Any:
    """Return the functional model that a model is or, if Sequential and built, holds; None for any other."""
    if isinstance(model, keras.Sequential):
        return getattr(model, "_functional", None)
    functional = isinstance(model, keras.Model) and hasattr(model, "operations") and hasattr(model, "_nodes")
    return model if functional else None


def _is_plain(model: Any, graph: Any) -> bool:
    """Return whether a model is its own graph, with a tensor and no list or dictionary at both ends."""
    return graph is model and all(isinstance(end, keras.KerasTensor) for end in (model.input, model.output))


def _output(graph: Any, name: str | None) -> Any:
    """Return the output that is meant, a symbol."""
    names = list(graph.output_names)
    if name is None and len(graph.outputs) == 1:
        return graph.outputs[0]
    if name is None:
        given = " or ".join(f'output="{each}"' for each in names)
        raise UsageError(f"the model has {len(names)} outputs", expected="one tensor of scores", fix=f"pass {given}")
    if name not in names:
        raise UsageError("the model has no such output", expected=" or ".join(names), found=name)
    return graph.outputs[names.index(name)]


def _all_layers(graph: Any) -> Iterator[Any]:
    """Yield the operations of a graph and of the models within it."""
    for operation in graph.operations:
        inner = find_graph(operation)
        if inner is None:
            yield operation
        else:
            yield from _all_layers(inner)


def _check_exports(layer: Any) -> None:
    if getattr(layer, "quantization_mode", None) is not None:
        raise UsageError(
            f"layer {layer.name} ({type(layer).__name__}) is quantized by Keras, which has no form in the file",
            found=f"quantize({layer.quantization_mode!r})",
            fix="export the model as it was before model.quantize(); the recipe quantizes it",
        )
    if getattr(layer, "lora_enabled", False):
        raise UsageError(
            f"layer {layer.name} ({type(layer).__name__}) has a LoRA beside its kernel",
            found=f"enable_lora({layer.lora_rank})",
            fix="model.save_weights() merges them: load those weights into the model without LoRA, and export that",
        )


def _must_be_rebuilt(graph: Any) -> bool:
    source = graph.inputs[0]
    if source.dtype != "float32" or source.shape[0] not in (None, 1):
        return True
    for operation in graph.operations:
        if find_graph(operation) is not None:
            return True
        if isinstance(operation, layers.Layer) and operation.compute_dtype not in ("float32", None):
            return True
    return False


def _rebuilt(graph: Any, chosen: Any) -> tuple[Any, Any]:
    """Return a copy of a graph, flat and in float32, and the output in it."""
    source = graph.inputs[0]
    image = keras.Input(source.shape[1:], name=source.name if source.name.isidentifier() else "image")
    made = _Rebuilding().follow(graph, {id(source): image})
    flat = keras.Model(image, made[id(chosen)], name=graph.name)
    return flat, flat.outputs[0]


class _Rebuilding:
    """Calls copies of the layers of a model, and of the models within it, on new symbols."""

    def __init__(self) -> None:
        self._copies: dict[int, Any] = {}
        self._names: set[str] = set()

    def follow(self, graph: Any, made: dict[int, Any], prefix: str = "") -> dict[int, Any]:
        """Return the new symbols of a graph, by the id of the old ones."""
        for operation, inputs, outputs in ordered_nodes(graph):
            node = outputs[0]._keras_history.operation._inbound_nodes[outputs[0]._keras_history.node_index]
            inner = find_graph(operation)
            if inner is not None:
                within = dict(zip(map(id, inner.inputs), (made[id(each)] for each in inputs), strict=True))
                found = self.follow(inner, within, f"{operation.name}_")
                results = [found[id(each)] for each in inner.outputs]
            else:
                args, kwargs = node.arguments.fill_in({id(each): made[id(each)] for each in inputs})
                kwargs = {key: value for key, value in kwargs.items() if key not in ("training", "mask")}
                called = self._copy(operation, prefix)(*args, **kwargs)
                self._give_weights(operation)
                results = keras.tree.flatten(called)
            made.update(zip(map(id, outputs), results, strict=True))
        return made

    def _copy(self, operation: Any, prefix: str) -> Any:
        if id(operation) in self._copies:
            return self._copies[id(operation)]
        copy = operation
        if isinstance(operation, layers.Layer):
            name = operation.name if operation.name not in self._names else f"{prefix}{operation.name}"
            self._names.add(name)
            try:
                config = {**operation.get_config(), "name": name, "dtype": "float32"}
                config = {
                    key: value for key, value in config.items() if key not in ("build_config", "quantization_config")
                }
                copy = type(operation).from_config(config)
            except Exception as error:  # layers raise what they like
                raise UsageError(
                    f"layer {operation.name} ({type(operation).__name__}) cannot be copied: {error}",
                    fix="give it get_config(), or build the model flat, in float32, without a fixed batch",
                ) from error
        self._copies[id(operation)] = copy
        return copy

    def _give_weights(self, operation: Any) -> None:
        copy = self._copies[id(operation)]
        if copy is operation or not operation.weights:
            return
        copy.set_weights([np.asarray(keras.ops.convert_to_numpy(value)) for value in operation.weights])
        if hasattr(copy, "finalize_state"):  # Normalization computes with what it makes of its weights
            copy.finalize_state()


def _before_activation(graph: Any, tensor: Any) -> tuple[Any, str]:
    """Return the logits under an output, and the activation that they were given, or "" for none."""
    layer = tensor._keras_history.operation
    node = layer._inbound_nodes[tensor._keras_history.node_index]
    if not node.input_tensors:
        return tensor, ""
    before = node.input_tensors[0]
    kind = _last_activation(layer, len(tensor.shape))
    if kind and getattr(layer, "kernel_size", None) is None and not isinstance(layer, layers.Dense):
        return before, kind
    if kind:
        config = {key: v for key, v in layer.get_config().items() if key not in ("build_config", "quantization_config")}
        linear = type(layer).from_config({**config, "activation": None})
        logits = linear(before)
        linear.set_weights(layer.get_weights())
        return logits, kind
    if isinstance(layer, (*_PASS, FakeQuant)) or _is_linear(layer):
        logits, kind = _before_activation(graph, before) if len(node.input_tensors) == 1 else (tensor, "")
        return (logits, kind) if kind else (tensor, "")
    return tensor, ""


def _is_linear(layer: Any) -> bool:
    return isinstance(layer, layers.Activation) and layer.activation is keras.activations.linear


def _last_activation(layer: Any, rank: int) -> str:
    """Return "softmax" over the channels or "sigmoid" if that is what a layer ends with, else ""."""
    home = type(layer).__module__.partition(".")[0]
    if home == "keras" and type(layer).__name__ in _ENDS:
        axis = getattr(layer, "axis", -1)
        return _ENDS[type(layer).__name__] if axis in (-1, rank - 1) else ""
    function = getattr(layer, "activation", None)
    known = str(getattr(function, "__module__", "")).partition(".")[0] in ("keras", "tensorflow")
    name = getattr(function, "__name__", "")
    return str(name) if known and type(layer) in (layers.Activation, *_WITH_KERNEL) and name in _ENDS.values() else ""
