"""A network of any make as rows of plain values, by which a run folder rebuilds it without the code that made it.

Only layers of a table are made, whatever a file says, and what they compute with is numbers and words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from unetres_edge.errors import RunFolderError, UsageError

from .graph import Background, ordered_nodes

LAYERS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(layers.Conv2D, layers.DepthwiseConv2D, layers.Conv2DTranspose, layers.SeparableConv2D, layers.Dense),
        *(layers.Add, layers.Multiply, layers.Subtract, layers.Concatenate),
        *(layers.BatchNormalization, layers.Normalization, layers.Rescaling),
        *(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.Softmax),
        *(layers.AveragePooling2D, layers.MaxPooling2D, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D),
        *(layers.Resizing, layers.UpSampling2D, layers.Cropping2D, layers.ZeroPadding2D),
        *(layers.Flatten, layers.Permute, layers.Reshape, Background),
        *(layers.ActivityRegularization, layers.AlphaDropout, layers.Dropout, layers.GaussianDropout),
        *(layers.GaussianNoise, layers.Identity, layers.SpatialDropout2D),
    )
}
LARGEST = 1 << 16  # of the numbers that a network is made from


def describe_network(model: keras.Model) -> dict[str, Any]:
    """Return the arguments by which `build_own` makes a network again, as JSON values; weights are not among them.

    Args:
        model: flat and functional, in float32, of layers of `LAYERS`, each used once; one image in, one output.

    Raises:
        UsageError: a layer of another kind, or one with a number that no run folder keeps; it is named.
    """
    rows = []
    for layer, inputs, _ in ordered_nodes(model):
        if LAYERS.get(type(layer).__name__) is not type(layer):
            raise UsageError(
                f"layer {layer.name} ({type(layer).__name__}) is of a kind that a run folder does not keep",
                expected=", ".join(LAYERS),
                fix="use quantize_aware and fit in Python",
            )
        config = _plain_config(layer)
        if any(abs(number) > LARGEST for number in numbers_in(config)):
            raise UsageError(f"layer {layer.name} is made from a number beyond {LARGEST}", fix="scale images before it")
        names = [each._keras_history.operation.name for each in inputs]
        rows.append({"layer": type(layer).__name__, "config": config, "inputs": names})
    source, end = model.inputs[0], model.outputs[0]
    return {
        "input_shape": list(source.shape[1:]),
        "num_classes": int(end.shape[-1]),
        "image": source._keras_history.operation.name,
        "layers": rows,
        "name": model.name,
    }


def build_own(
    *, input_shape: Sequence[int], num_classes: int, image: str, layers: Sequence[Mapping[str, Any]], name: str
) -> keras.Model:
    """Return a network from its description, with random weights.

    Args:
        input_shape: (H, W, C) of an image, px.
        num_classes: channels of the scores.
        image: name of the input.
        layers: kind of each layer, a key of `LAYERS`, its configuration and the names of what it takes, in an order
            in which they can be computed.
        name: name of the network.

    Raises:
        RunFolderError: a kind that is not in the table, a layer that takes what is not there, or another end.
    """
    source = keras.Input(tuple(input_shape), name=image)
    tensors, end = {image: source}, source
    for row in layers:
        if row["layer"] not in LAYERS:
            raise RunFolderError(
                "the network has a layer of another kind", expected=", ".join(LAYERS), found=row["layer"]
            )
        config = row["config"]
        missing = [each for each in row["inputs"] if each not in tensors]
        if missing or not row["inputs"] or config["name"] in tensors:
            raise RunFolderError(f"layer {config['name']} of the network is joined wrongly", found=missing)
        kind = LAYERS[row["layer"]]
        inputs = [tensors[each] for each in row["inputs"]]
        several = len(inputs) > 1 or kind is keras.layers.Concatenate
        end = tensors[config["name"]] = kind(**config)(inputs if several else inputs[0])
    if end.shape[-1] != num_classes:
        raise RunFolderError("the network ends otherwise", expected=f"{num_classes} channels", found=end.shape)
    return keras.Model(source, end, name=name)


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Give the layers of a network the weights of those of the same names in another."""
    for layer in target.layers:
        if layer.weights:
            layer.set_weights([keras.ops.convert_to_numpy(each) for each in source.get_layer(layer.name).weights])
            if hasattr(layer, "finalize_state"):  # Normalization computes with what it makes of its weights
                layer.finalize_state()


def numbers_in(values: Any) -> Iterator[float]:
    """Yield every number in JSON values, however deep."""
    if isinstance(values, Mapping):
        values = values.values()
    if isinstance(values, (int, float)):
        yield values
    elif isinstance(values, Iterable) and not isinstance(values, str):
        for each in values:
            yield from numbers_in(each)


def _plain_config(layer: Any) -> dict[str, Any]:
    """Return the configuration of a layer without what is of training alone: how weights begin and are held."""
    config: dict[str, Any] = {}
    for key, value in layer.get_config().items():
        if key == "activation":
            config[key] = None if value is None else str(getattr(layer.activation, "__name__", value))
        elif isinstance(value, (np.ndarray, np.generic)):
            config[key] = np.asarray(value).tolist()
        elif key != "dtype" and (value is None or isinstance(value, (bool, int, float, str, list, tuple))):
            config[key] = list(value) if isinstance(value, tuple) else value
    return config
