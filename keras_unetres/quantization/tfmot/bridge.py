"""From Keras 3 to tf_keras and back: a flat functional model, layer by layer, with equal outputs.

`LAYERS` says which layers are carried; a layer of the same name means the same in both, but for what stands there. Any
other layer, and any argument that tf_keras has no form of, is refused by its name. Initializers are not carried, as the
weights are; the random numbers of dropout and noise are other ones. Nothing here knows of quantization.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.errors import ModelError, UsageError

from .adapters import model_class
from .imports import load_tf_keras

if TYPE_CHECKING:
    import keras

# Layers, each with the arguments that tf_keras does not know and the value at which they do nothing.
_ANY = object()  # an argument that matters only beside another one of the line
_RESAMPLING = {
    "data_format": "channels_last",
    "pad_to_aspect_ratio": False,
    "fill_mode": _ANY,
    "fill_value": _ANY,
    "antialias": False,
}
_RENORM = {"synchronized": False, "renorm": False, "renorm_clipping": _ANY, "renorm_momentum": _ANY}
LAYERS: dict[str, dict[str, Any]] = {
    "Activation": {},
    "Add": {},
    "AlphaDropout": {"noise_shape": None},
    "Average": {},
    "AveragePooling2D": {},
    "BatchNormalization": _RENORM,
    "Concatenate": {},
    "Conv2D": {},
    "Conv2DTranspose": {},
    "Cropping2D": {},
    "Dense": {"quantization_config": None},
    "DepthwiseConv2D": {},
    "Dropout": {},
    "ELU": {},
    "Flatten": {},
    "GaussianDropout": {},
    "GaussianNoise": {},
    "GlobalAveragePooling2D": {},
    "GlobalMaxPooling2D": {},
    "GroupNormalization": {},
    "Identity": {},
    "LayerNormalization": {"rms_scaling": False},
    "LeakyReLU": {},
    "Maximum": {},
    "MaxPooling2D": {},
    "Minimum": {},
    "Multiply": {},
    "Normalization": {},
    "PReLU": {},
    "Permute": {},
    "ReLU": {},
    "RepeatVector": {},
    "Rescaling": {},
    "Reshape": {},
    "Resizing": _RESAMPLING,
    "SeparableConv2D": {},
    "Softmax": {},
    "SpatialDropout2D": {"seed": _ANY, "noise_shape": None},
    "Subtract": {},
    "UnitNormalization": {},
    "UpSampling2D": {},
    "ZeroPadding2D": {},
}
_RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}
_SAME_ACTIVATIONS = frozenset(
    ("elu", "exponential", "gelu", "linear", "mish", "relu", "selu", "sigmoid")
    + ("softmax", "softplus", "softsign", "swish", "tanh")
)
_DIFFERENCE = 1e-5  # relative, above which the answers of a carried model are taken for wrong ones
_SIDE = 64  # px, of the probe for models of any size

Wrap = Callable[[Any], Any]


def to_tf_keras(model: keras.Model) -> Any:
    """Return a `tf_keras.Model` with the layers, names, weights and outputs of a flat functional Keras 3 model.

    The weights are copies. Before it is returned, the model answers a random image as the original does. Its `compile`
    and `fit` take losses, metrics, optimizers and callbacks of Keras 3; see `adapters`.

    Raises:
        ModelError: the model is nested or has no graph, or a layer cannot be carried; the layer is named.
        UsageError: not a Keras 3 model, or Keras runs on another backend than TensorFlow.
    """
    carried = carry(model)
    _compare(model, carried)
    return carried


def carry(model: keras.Model, wrap: Wrap | None = None, after_input: Wrap | None = None) -> Any:
    """Return the model in tf_keras, with a wrapper around layers or a layer after each input.

    Args:
        wrap: takes each tf_keras layer, built and with its weights, and returns the layer to call in its place.
        after_input: takes the name of an input, and returns the tf_keras layer through which the input goes.

    Raises:
        ModelError, UsageError: as `to_tf_keras`.
    """
    tf_keras = load_tf_keras()
    model = _flat(model)
    tensors: dict[int, Any] = {}
    inputs = []
    for tensor in model.inputs:
        name = tensor._keras_history.operation.name
        inputs.append(tf_keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name))
        tensors[id(tensor)] = after_input(name)(inputs[-1]) if after_input else inputs[-1]
    twins: dict[int, Any] = {}
    for node in _nodes(model):
        layer = node.operation
        sources, arguments = _call(node, tensors)
        with _naming(layer):
            if id(layer) not in twins:
                twin = _twin(tf_keras, layer)
                _copy_in(layer, twin, sources)
                twins[id(layer)] = wrap(twin) if wrap else twin
            tensors[id(node.outputs[0])] = twins[id(layer)](sources, **arguments)
    outputs = [tensors[id(tensor)] for tensor in model.outputs]
    return model_class()(_one_or_all(inputs), _one_or_all(outputs), name=model.name)


def copy_weights(source: Any, target: keras.Model) -> keras.Model:
    """Set the weights of a Keras 3 model to those of its tf_keras twin, by layer name, and return it.

    Args:
        source: a tf_keras model from `to_tf_keras`; wrappers around its layers are looked through.
        target: a model with layers of the same names and shapes; the one that was carried, or a clone of it.

    Raises:
        ModelError: a layer with weights is missing in one of the two, or its weights have other shapes. Nothing is
            changed then.
    """
    return set_weights({layer.name: layer.get_weights() for layer in map(unwrapped, source.layers)}, target)


def set_weights(values: dict[str, list[np.ndarray]], target: keras.Model) -> keras.Model:
    """Set the weights of a Keras 3 model, given by layer name, and return it.

    Raises:
        ModelError: as `copy_weights`.
    """
    matched = []
    for layer in target.layers:
        if not layer.weights or type(layer).__name__ == "Normalization":  # statistics are arguments in tf_keras
            continue
        arrays = values.get(layer.name)
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if arrays is None or [value.shape for value in arrays] != shapes:
            raise ModelError(
                f"no weights for layer {layer.name!r} ({type(layer).__name__})",
                expected=shapes,
                found="no such layer" if arrays is None else [value.shape for value in arrays],
                fix="give the model that was carried to tf_keras, or a clone of it",
            )
        matched.append((layer, arrays))
    missing = sorted({name for name, arrays in values.items() if arrays} - {layer.name for layer, _ in matched})
    if missing:
        raise ModelError(f"the model has no layer {missing[0]!r}", expected="the layers of the model that was carried")
    for layer, arrays in matched:
        layer.set_weights(arrays)
    return target


def unwrapped(layer: Any) -> Any:
    """Return the layer inside a wrapper of tensorflow-model-optimization, or the layer itself."""
    return layer.layer if isinstance(layer, load_tf_keras().layers.Wrapper) else layer


def _flat(model: Any) -> Any:
    """Return a model with a graph, all of whose operations are layers."""
    import keras

    if not isinstance(model, keras.Model):
        raise UsageError("not a Keras 3 model", expected="keras.Model", found=type(model).__name__)
    if isinstance(model, keras.Sequential) and model.built:
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    if not hasattr(model, "operations"):
        raise ModelError(
            f"model {model.name!r} has no graph of layers",
            expected="a functional model, or a sequential one with an input shape",
            found=type(model).__name__,
        )
    for struct, what in ((model._inputs_struct, "inputs"), (model._outputs_struct, "outputs")):
        if isinstance(struct, dict):
            raise ModelError(f"the {what} of model {model.name!r} form a dict", expected="one tensor or a list of them")
    for operation in model.operations:
        if isinstance(operation, keras.Model):
            raise ModelError(
                f"layer {operation.name!r} is a model inside the model",
                fix="build it flat: pass the inner model's output tensor on",
            )
        if not isinstance(operation, keras.layers.Layer):
            raise ModelError(
                f"the operation {operation.name!r} ({type(operation).__name__}) is not a layer",
                fix="use a layer for it, such as keras.layers.Add for +",
            )
    return model


def _nodes(model: Any) -> Iterator[Any]:
    """Yield the calls of layers in an order in which each has its inputs."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if not node.is_input:
                yield node


def _call(node: Any, tensors: dict[int, Any]) -> tuple[Any, dict[str, Any]]:
    """Return what a layer is called on, and `training` where it was given."""
    args, kwargs = node.arguments.args, node.arguments.kwargs
    options = {name: value for name, value in kwargs.items() if value is not None}
    training = {"training": options.pop("training")} if isinstance(options.get("training"), bool) else {}
    rest = [value for value in args[1:] if value is not None]
    if rest or options or len(node.outputs) != 1:
        raise _refusal(node.operation, "it is called with other things than tensors to work on")
    if isinstance(args[0], list | tuple):
        return [tensors[id(tensor)] for tensor in args[0]], training
    return tensors[id(args[0])], training


def _twin(tf_keras: Any, layer: Any) -> Any:
    """Return the tf_keras layer of the same name and meaning, not built."""
    import keras

    name = type(layer).__name__
    if name not in LAYERS or type(layer) is not getattr(keras.layers, name, None):
        raise _refusal(layer, "tf_keras has no layer of the same meaning")
    if layer.dtype_policy.compute_dtype != "float32":
        raise _refusal(layer, f"it computes in {layer.dtype_policy.compute_dtype}", "use the policy float32")
    config = layer.get_config()
    if config.get("data_format") == "channels_first":
        raise _refusal(layer, "its channels come first", "use channels_last")
    arguments: dict[str, Any] = {}
    for key, value in {**config, **_values(layer, name)}.items():
        key = _RENAMED.get(name, {}).get(key, key)
        neutral = LAYERS[name].get(key, arguments)  # no value is that dict
        if neutral is not arguments:
            if neutral is not _ANY and value != neutral:
                raise _refusal(layer, f"tf_keras does not know {key}={value!r}")
        elif not (key == "dtype" or key.endswith("initializer")):
            arguments[key] = _argument(tf_keras, layer, key, value)
    return getattr(tf_keras.layers, name)(**arguments)


def _values(layer: Any, name: str) -> dict[str, Any]:
    """Return arguments that a config does not hold, or holds in Keras 3's own form."""
    if name == "BatchNormalization":
        return {"fused": False}  # the fused op rounds otherwise, and moves the variance by another estimate
    if name == "Rescaling":
        return {"scale": np.asarray(layer.scale), "offset": np.asarray(layer.offset)}
    if name == "Normalization":
        mean, variance = np.asarray(layer.mean), np.asarray(layer.variance)
        axes = () if layer.axis is None else np.atleast_1d(layer.axis)
        shape = tuple(mean.shape[axis] for axis in axes)
        return {"mean": mean.reshape(shape), "variance": variance.reshape(shape)}
    return {}


def _argument(tf_keras: Any, layer: Any, key: str, value: Any) -> Any:
    """Return an argument in the form of tf_keras."""
    if key == "activation":
        return _activation(layer)
    for kind in ("regularizer", "constraint"):
        if key.endswith(kind) and value is not None:
            known = getattr(getattr(tf_keras, f"{kind}s"), value["class_name"], None)
            if known is None or value.get("module") != f"keras.{kind}s":
                raise _refusal(layer, f"tf_keras does not know its {key} {value['class_name']}")
            return known(**value["config"])
    return value


def _activation(layer: Any) -> Any:
    """Return the name of an activation, or Keras 3's own function, which works on the same tensors."""
    function = layer.activation
    if function is None:
        return "linear"
    if not inspect.isfunction(function) or not function.__module__.startswith("keras."):
        raise _refusal(layer, "its activation is not one of Keras's functions", "use a layer for the activation")
    name = {"silu": "swish"}.get(function.__name__, function.__name__)
    return name if name in _SAME_ACTIVATIONS else function


def _copy_in(layer: Any, twin: Any, sources: Any) -> None:
    """Build the twin of a layer and give it the weights."""
    import tensorflow as tf

    twin.trainable = layer.trainable
    if not layer.weights or type(layer).__name__ == "Normalization":
        return
    with tf.name_scope(twin.name):
        twin.build(sources.shape)
    twin.set_weights(layer.get_weights())


def _compare(model: keras.Model, carried: Any) -> None:
    """Raise a `ModelError` that names the first layer whose answer to noise differs."""
    import keras

    random = np.random.default_rng(0)
    shapes = [tuple(side or _SIDE for side in tensor.shape[1:]) for tensor in model.inputs]
    dtypes = [tensor.dtype for tensor in model.inputs]
    probes = [random.uniform(0, 1, (1, *s)).astype(d) for s, d in zip(shapes, dtypes, strict=True)]
    try:
        expected = model(_one_or_all(probes), training=False)
    except ValueError:
        if any(None in tensor.shape[1:] for tensor in model.inputs):
            return  # a network of any size that does not take this one
        raise
    if _equal(expected, carried(_one_or_all(probes), training=False)):
        return
    flat = _flat(model)
    for layer in flat.layers:
        if len(layer._inbound_nodes) == 1 and type(layer).__name__ != "InputLayer":
            part = keras.Model(flat.inputs, layer.output)(_one_or_all(probes), training=False)
            other = load_tf_keras().Model(carried.inputs, carried.get_layer(layer.name).output)
            if not _equal(part, other(_one_or_all(probes), training=False)):
                raise _refusal(layer, "it computes something else in tf_keras")
    raise ModelError(f"model {model.name!r} computes something else in tf_keras")


def _equal(expected: Any, found: Any) -> bool:
    pairs = zip(_all(expected), _all(found), strict=True)
    return all(
        a.shape == b.shape and np.abs(a - b).max(initial=0) <= _DIFFERENCE * np.abs(a).max(initial=1e-30)
        for a, b in ((np.asarray(a), np.asarray(b)) for a, b in pairs)
    )


def _all(struct: Any) -> list[Any]:
    return list(struct) if isinstance(struct, list | tuple) else [struct]


def _one_or_all(items: list[Any]) -> Any:
    return items[0] if len(items) == 1 else items


def _refusal(layer: Any, why: str, fix: str | None = None) -> ModelError:
    kind = type(layer).__name__
    return ModelError(f"layer {layer.name!r} ({kind}) cannot be carried to tf_keras: {why}", fix=fix)


class _naming:
    """Names the layer in whatever tf_keras raises while the layer is made and called."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, TypeError | ValueError | NotImplementedError):
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise _refusal(self.layer, lines[0] if lines else kind.__name__) from error
