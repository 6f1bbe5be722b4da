"""The nodes of a functional model in an order in which they can be computed, and copies of its layers.

Layers may be used more than once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import keras
from keras import layers

_STORED = ("build_config", "quantization_config")
_TRAINED = ("_initializer", "_regularizer", "_constraint")


def ordered_nodes(model: keras.Model) -> Iterator[tuple[Any, list[Any], list[Any]]]:
    """Yield (layer, its input tensors, its output tensors) of each use of a layer, the inputs of the model left out."""
    reached = {id(tensor) for tensor in model.inputs}
    left = [(layer, node) for layer in model.operations for node in layer._inbound_nodes if node.input_tensors]
    while True:
        ready = [pair for pair in left if all(id(tensor) in reached for tensor in pair[1].input_tensors)]
        if not ready:
            return  # what is left belongs to other models that share the layers
        for layer, node in ready:
            yield layer, list(node.input_tensors), list(node.output_tensors)
            reached.update(id(tensor) for tensor in node.output_tensors)
        left = [pair for pair in left if id(pair[1].output_tensors[0]) not in reached]


def copy_layer(layer: Any, **changes: Any) -> Any:
    """Return a new layer that computes the same at inference, without its weights.

    How weights begin and are held is left out, and functions are taken as they are: they may be the user's own, which
    Keras makes of no configuration.

    Args:
        changes: what differs in its configuration.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"The object being serialized includes a `lambda`")  # is not stored
        config = {key: value for key, value in layer.get_config().items() if key not in _STORED}
    if not type(layer).__module__.startswith("keras."):
        return type(layer).from_config({**config, **changes})
    config = {key: value for key, value in config.items() if not key.endswith(_TRAINED)}
    if callable(getattr(layer, "activation", None)):
        config["activation"] = layer.activation
    config |= changes
    if not isinstance(layer, layers.Lambda):
        return type(layer).from_config(config)
    given = {"output_shape": layer._output_shape, "mask": layer.mask, "arguments": layer.arguments}
    return layers.Lambda(layer.function, **given, name=config["name"], dtype=config["dtype"])


@keras.saving.register_keras_serializable(package="keras_unetres")
class Background(layers.Layer):
    """Puts a score of 0 before the one logit of a binary network: the background's, so that two classes are scored.

    The softmax of (0, logit) is the sigmoid of the logit, and the larger of the two is its threshold of 0.5.
    """

    def call(self, x: Any) -> Any:
        """Return (..., 2) scores of (..., 1) logits."""
        return keras.ops.pad(x, [[0, 0]] * (len(x.shape) - 1) + [[1, 0]])

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape with two channels."""
        return (*input_shape[:-1], 2)


@keras.saving.register_keras_serializable(package="keras_unetres")
class OneMinus(layers.Layer):
    """Puts 1 - p before the one probability p of a binary network: the background's."""

    def call(self, x: Any) -> Any:
        """Return (..., 2) probabilities of (..., 1)."""
        return keras.ops.concatenate([1 - x, x], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape with two channels."""
        return (*input_shape[:-1], 2)
