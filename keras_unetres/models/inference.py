"""The form in which a Keras model of any make is exported and scored: float32, flat, one image in, logits out.

Models come nested (an encoder of keras.applications), with lists and dictionaries at their ends, with a fixed batch, in
mixed precision, and with a softmax or sigmoid at the end, under which small scores are lost in int8. What they compute
at inference is kept; how they were trained is not.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import keras
import numpy as np
from keras import layers

from unetres_edge.errors import ConversionError, UsageError

from .fake_quant import KERNELS, FakeQuant
from .functions import as_layer
from .graph import Background, OneMinus, copy_layer, ordered_nodes
from .own_code import answers, call_of, follow_model, gives_probabilities, is_own, same_answers

_CHANNELS_LAST = (
    "build it for channels last, (H, W, C); or put it behind such an image: image = keras.Input({}); "
    "model = keras.Model(image, model(keras.layers.Permute((3, 1, 2))(image)))"
)
_SIDE = 16  # px, of a tensor of any size
_MOST_LEVELS = 8  # of the user's own models within models
_ENDS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}  # of layers and of functions of keras.ops
_WITHOUT_INT8 = ("Negative",)  # functions that the converter leaves in float32, and whose layer it does not
_PASS = (layers.Identity, layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise, layers.ActivityRegularization)
_REGULARISES = (*_PASS, layers.AlphaDropout, layers.GaussianDropout)
_PROBES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-1e4, 1e4))  # ranges of tensors
_MOVES = (layers.UpSampling2D, layers.Resizing, layers.Reshape, layers.Cropping2D, layers.ZeroPadding2D)
_WITH_KERNEL = (
    *(layers.Conv2D, layers.Conv2DTranspose, layers.Dense),
    *(layers.DepthwiseConv2D, layers.SeparableConv2D),
)


@dataclass(frozen=True)
class Inference:
    """A model ready for export.

    Args:
        model: gives scores, one channel a class.
        activation: function that makes probabilities of its scores: "softmax" over the classes, "sigmoid" of each by
            itself, or "none" where they are probabilities, of which the graph does not tell how they are made.
        binary: whether the model had one channel of probabilities, before which the background's score was put.
    """

    model: keras.Model
    activation: str = "softmax"
    binary: bool = False


def inference_form(model: keras.Model, output: str | None = None, *, shape: tuple[Any, ...] | None = None) -> Inference:
    """Return the form of a model that is exported; a plain model of logits is returned as it is.

    What a subclassed model does is followed with symbols. Where that cannot be done, for its `call` has functions of
    TensorFlow, it stays as it is, and its answers to noise tell whether they are probabilities.

    Args:
        output: name of the output that is meant, of a model with several.
        shape: (h, w, C) of an image; None for what the model says itself.

    Raises:
        UsageError: the model has several inputs or outputs, or a layer that cannot be exported; it is named.
    """
    graph = _graph_of(model, output, shape)
    if graph is None:
        return Inference(model)
    if len(graph.inputs) != 1:
        raise UsageError(
            f"the model has {len(graph.inputs)} inputs", expected="one image", fix="make a model of one input"
        )
    chosen = _output(graph, output)
    if _must_be_rebuilt(graph):
        graph, chosen = _rebuilt(graph, chosen)
    scores, activation = _before_activation(graph, _as_map(chosen))
    if not activation and _may_hide_activation(scores) and _gives_probabilities(graph, scores, shape):
        activation = "none"
    binary = activation in ("sigmoid", "none") and scores.shape[-1] == 1
    if binary:
        scores = (
            OneMinus(name="background")(scores) if activation == "none" else Background(name="background_score")(scores)
        )
    activation = "softmax" if binary and activation == "sigmoid" else activation or "softmax"
    if _is_plain(model, graph) and scores is chosen:
        return Inference(model, activation)
    return Inference(keras.Model(graph.inputs[0], scores, name=scope_name(model.name)), activation, binary)


def check_finite(model: keras.Model) -> None:
    """Refuse a model with a weight that is no number.

    Raises:
        ConversionError: it has one; it is named.
    """
    for weight in model.weights:
        if not np.isfinite(np.asarray(weight.value, dtype=np.float32)).all():
            raise ConversionError("a weight of the model is not finite", found=weight.path, fix="train again")


def _gives_probabilities(graph: Any, scores: Any, shape: tuple[Any, ...] | None) -> bool:
    model = keras.Model(graph.inputs[0], scores)
    try:
        return gives_probabilities([each[0] for each in answers(model, shape or model.input_shape[1:])])
    except Exception:  # another size than the model takes, which its check will say
        return False


def flat_form(model: keras.Model, output: str | None = None, *, shape: tuple[Any, ...] | None = None) -> keras.Model:
    """Return a model flat, in float32, with one image in and one map out; its last activation stays.

    Args:
        output, shape: as for `inference_form`.

    Raises:
        UsageError: as `inference_form`; or not a model whose graph is known.
    """
    graph = _graph_of(model, output, shape)
    if graph is None or len(graph.inputs) != 1:
        return model
    chosen = _output(graph, output)
    if _must_be_rebuilt(graph) or _has_functions(graph):
        graph, chosen = _rebuilt(graph, chosen)
    elif _is_plain(model, graph) and _as_map(chosen) is chosen:
        return model
    return keras.Model(graph.inputs[0], _as_map(chosen), name=scope_name(model.name))


def _graph_of(model: Any, output: str | None, shape: tuple[Any, ...] | None) -> Any:
    """Return the graph of a model, or None of one that is not built; with what is the user's own code in it followed.

    Raises:
        UsageError: it has a layer that cannot be exported, or no such output.
    """
    graph = find_graph(model)
    if graph is None:
        graph = _graph_of_call(model, shape or image_shape(model))
    elif any(is_own(operation) for operation in graph.operations):
        graph = _without_own(graph, shape)
    if graph is not None:
        _check_input(graph, shape)
        for layer in _all_layers(graph):
            _check_exports(layer)
    return graph


def _check_input(graph: Any, shape: tuple[Any, ...] | None) -> None:
    """Refuse a model of one input that takes images of another shape."""
    taken = tuple(graph.inputs[0].shape[1:])
    if shape is None or len(graph.inputs) != 1 or len(taken) != 3:
        return
    if any(None not in pair and pair[0] != pair[1] for pair in zip(taken, shape, strict=True)):
        first = taken[0] == shape[2] and taken[1:] == tuple(shape[:2]) and taken != tuple(shape)
        raise UsageError(
            "the model takes another input",
            expected=taken,
            found=tuple(shape),
            fix=_CHANNELS_LAST.format(tuple(shape)) if first else None,
        )


def _graph_of_call(model: Any, shape: tuple[Any, ...] | None) -> Any:
    """Return a functional model of a subclassed one, at least with it as a layer; None of one not built."""
    if not isinstance(model, keras.Model) or not model.built or shape is None:
        return None
    followed = follow_model(model, shape)
    if followed is not None:
        return _without_own(followed, shape) if any(is_own(each) for each in followed.operations) else followed
    image = keras.Input(shape, name="image")
    try:
        return keras.Model(image, model(image, training=False), name=model.name)
    except Exception:  # of the user's own code; what is wrong is said where it is traced
        return None


def image_shape(model: Any) -> tuple[Any, ...] | None:
    """Return (h, w, C) of the images that a model was built for, or None."""
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    shapes_of_images = [tuple(each) for each in shapes.values() if isinstance(each, (tuple, list)) and len(each) == 4]
    return shapes_of_images[0][1:] if len(shapes_of_images) == 1 else None


def _without_own(graph: Any, shape: tuple[Any, ...] | None) -> Any:
    """Return a graph in which layers and models of the user's own code are followed; the same where they cannot be."""
    flat = graph
    for _ in range(_MOST_LEVELS):
        if not any(is_own(operation) for operation in flat.operations):
            break
        source = flat.inputs[0]
        image = keras.Input(batch_shape=source.shape, dtype=source.dtype, name="image")
        try:
            symbols = {id(source): image}
            for operation, inputs, outputs in ordered_nodes(flat):
                node = outputs[0]._keras_history.operation._inbound_nodes[outputs[0]._keras_history.node_index]
                args, kwargs = node.arguments.fill_in({id(each): symbols[id(each)] for each in inputs})
                called = call_of(operation, *args, **kwargs) if is_own(operation) else operation(*args, **kwargs)
                symbols.update(zip(map(id, outputs), keras.tree.flatten(called), strict=True))
            ends = [symbols[id(each)] for each in flat.outputs]
            flat = keras.Model(image, keras.tree.pack_sequence_as(flat._outputs_struct, ends), name=graph.name)
        except Exception:  # of the user's own code, which is not made for symbols
            return graph
    return flat if same_answers(graph, flat, shape or graph.inputs[0].shape[1:]) else graph


def find_graph(model: Any) -> Any:
    """Return the functional model that a model is or, if Sequential and built, holds; None for any other."""
    if isinstance(model, keras.Sequential):
        return getattr(model, "_functional", None)
    functional = isinstance(model, keras.Model) and hasattr(model, "operations") and hasattr(model, "_nodes")
    return model if functional and not _calls_own(model) else None


def _calls_own(model: Any) -> bool:
    """Whether a functional model is of a class whose `call` is the user's, which its graph does not tell."""
    home = next(kind for kind in type(model).__mro__ if "call" in vars(kind))
    return home.__module__.partition(".")[0] != "keras"


def _is_plain(model: Any, graph: Any) -> bool:
    """Return whether a model is its own graph, with a tensor and no list or dictionary at both ends."""
    return graph is model and all(isinstance(end, keras.KerasTensor) for end in (model.input, model.output))


def _output(graph: Any, name: str | None) -> Any:
    """Return the output that is meant, a symbol."""
    names = _output_names(graph)
    if name is None and len(graph.outputs) == 1:
        return graph.outputs[0]
    if name is None:
        arguments = " or ".join(f'output="{each}"' for each in names)
        raise UsageError(
            f"the model has {len(names)} outputs",
            expected="one tensor of scores",
            fix=f"pass {arguments}; on the command line --output",
        )
    if name not in names:
        raise UsageError("the model has no such output", expected=" or ".join(names), found=name)
    return graph.outputs[names.index(name)]


def output_names(model: keras.Model, shape: tuple[Any, ...] | None = None) -> list[str]:
    """Return the names by which outputs of a model are meant; none of one whose graph is not known.

    Args:
        shape: as for `inference_form`.
    """
    graph = _graph_of(model, None, shape)
    return [] if graph is None else _output_names(graph)


def _output_names(graph: Any) -> list[str]:
    """Return the names of the outputs: the keys of a dictionary, or the names of the layers that give them."""
    if isinstance(graph._outputs_struct, dict):
        return [str(key) for key in keras.tree.flatten({key: key for key in graph._outputs_struct})]
    names = list(graph.output_names)
    return names if len(set(names)) == len(names) else [str(index) for index in range(len(names))]


def _all_layers(graph: Any) -> Iterator[Any]:
    """Yield the operations of a graph and of the models within it."""
    for operation in graph.operations:
        inner = find_graph(operation)
        if inner is None:
            yield from operation._flatten_layers() if isinstance(operation, layers.Layer) else (operation,)
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
    if any(each.name != scope_name(each.name) for each in (graph, *graph.operations)):
        return True
    for operation in graph.operations:
        if find_graph(operation) is not None or type(operation).__name__ in _WITHOUT_INT8:
            return True
        if isinstance(operation, layers.Layer) and operation.compute_dtype not in ("float32", None):
            return True
    return False


def scope_name(name: str) -> str:
    """Return a name that a scope of TensorFlow's graphs may have, as those of other backends and of eager calls."""
    name = re.sub(r"[^A-Za-z0-9_.\\/>-]", "_", name)
    return name if re.match(r"[A-Za-z0-9.]", name) else f"x{name}"


def _has_functions(graph: Any) -> bool:
    """Whether a graph has functions in the place of layers, or layers without weights that are used more than once."""
    uses = Counter(id(operation) for operation, _, _ in ordered_nodes(graph))
    return any(
        not isinstance(each, layers.Layer) or (uses[id(each)] > 1 and not each.weights) or _is_idle(each)
        for each in graph.operations
    )


def _is_idle(operation: Any) -> bool:
    """Whether a layer computes in training alone, as augmentation within a model does, and no regulariser of Keras."""
    if isinstance(operation, _REGULARISES) or not isinstance(operation, layers.Layer):
        return False
    if operation.trainable_weights or "training" not in inspect.signature(operation.call).parameters:
        return False
    shape = getattr(operation.input, "shape", None)
    if len(operation._inbound_nodes) != 1 or shape is None or operation.output.shape != shape:
        return False
    sides, random = [each or _SIDE for each in shape[1:]], np.random.default_rng(0)
    try:
        for low, high in _PROBES:
            image = random.uniform(low, high, (1, *sides)).astype(np.float32)
            if not np.array_equal(np.asarray(operation(image, training=False), np.float32), image):
                return False
    except Exception:  # of the user's own code
        return False
    return True


def _rebuilt(graph: Any, chosen: Any) -> tuple[Any, Any]:
    """Return a copy of a graph, flat and in float32, and the output in it."""
    source = graph.inputs[0]
    image = keras.Input(source.shape[1:], name=source.name if source.name.isidentifier() else "image")
    symbols = _Rebuilding().follow(graph, {id(source): image})
    flat = keras.Model(image, symbols[id(chosen)], name=scope_name(graph.name))
    return flat, flat.outputs[0]


class _Rebuilding:
    """Calls copies of the layers of a model, and of the models within it, on new symbols."""

    def __init__(self) -> None:
        self._copies: dict[int, Any] = {}
        self._names: set[str] = set()

    def follow(self, graph: Any, symbols: dict[int, Any], prefix: str = "") -> dict[int, Any]:
        """Return the new symbols of a graph, by the id of the old ones."""
        for operation, inputs, outputs in ordered_nodes(graph):
            node = outputs[0]._keras_history.operation._inbound_nodes[outputs[0]._keras_history.node_index]
            inner = find_graph(operation)
            if inner is not None:
                within = dict(zip(map(id, inner.inputs), (symbols[id(each)] for each in inputs), strict=True))
                inner_symbols = self.follow(inner, within, f"{operation.name}_")
                results = [inner_symbols[id(each)] for each in inner.outputs]
            else:
                args, kwargs = node.arguments.fill_in({id(each): symbols[id(each)] for each in inputs})
                kwargs = {key: value for key, value in kwargs.items() if key not in ("training", "mask")}
                same = as_layer(operation, args, kwargs)
                if _is_idle(operation):
                    called = symbols[id(inputs[0])]
                elif same is not None:
                    called = same[0](same[1])
                else:
                    called = self._copy(operation, prefix)(*args, **kwargs)
                    self._give_weights(operation)
                results = keras.tree.flatten(called)
            symbols.update(zip(map(id, outputs), results, strict=True))
        return symbols

    def _copy(self, operation: Any, prefix: str) -> Any:
        if id(operation) in self._copies and (_has_weights(operation) or self._copies[id(operation)] is operation):
            return self._copies[id(operation)]
        copy = operation
        if isinstance(operation, layers.Layer):
            usual = scope_name(operation.name)
            name = usual if usual not in self._names else f"{prefix}{usual}"
            name = next(each for each in chain([name], (f"{name}_{n}" for n in count(1))) if each not in self._names)
            self._names.add(name)
            try:
                copy = copy_layer(operation, name=name, dtype="float32")
            except Exception as error:  # layers raise what they like
                if name != operation.name or operation.dtype_policy.name != "float32":
                    raise UsageError(
                        f"layer {operation.name} ({type(operation).__name__}) cannot be copied: {error}",
                        fix="give it get_config(), or build the model flat, in float32, without a fixed batch",
                    ) from error
        self._copies[id(operation)] = copy
        return copy

    def _give_weights(self, operation: Any) -> None:
        copy = self._copies[id(operation)]
        if copy is operation or not _has_weights(operation):
            return
        copy.set_weights([np.asarray(keras.ops.convert_to_numpy(value)) for value in operation.weights])
        if hasattr(copy, "finalize_state"):  # Normalization computes with what it makes of its weights
            copy.finalize_state()


def _has_weights(operation: Any) -> bool:
    return isinstance(operation, layers.Layer) and bool(operation.weights)


def _before_activation(graph: Any, tensor: Any) -> tuple[Any, str]:
    """Return the logits under an output, and the activation that they were given, or "" for none.

    Of two in a row, such as a softmax of a softmax, both stay: the answers are probabilities.
    """
    layer, inputs = _layer_of(tensor)
    if not inputs:
        return tensor, ""
    before = inputs[0]
    kind = _last_activation(layer, len(tensor.shape))
    if kind and getattr(layer, "kernel_size", None) is None and not isinstance(layer, layers.Dense):
        return (tensor, "") if _before_activation(graph, before)[1] else (before, kind)
    if kind:
        linear = copy_layer(layer, activation=None)
        logits = linear(before)
        linear.set_weights(layer.get_weights())
        return logits, kind
    if len(inputs) != 1 or not (isinstance(layer, (*_PASS, FakeQuant)) or _is_linear(layer) or moves_pixels(tensor)):
        return tensor, ""
    logits, kind = _before_activation(graph, before)
    if kind and moves_pixels(tensor):
        logits = copy_layer(layer)(logits)
    return (logits, kind) if kind else (tensor, "")


def moves_pixels(tensor: Any) -> bool:
    """Whether the layer that gives a tensor puts pixels elsewhere and leaves their channels as they are."""
    layer, inputs = _layer_of(tensor)
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return False
    if isinstance(layer, layers.Reshape):
        return bool(inputs[0].shape[-1] == tensor.shape[-1])
    nearest = isinstance(layer, layers.UpSampling2D) and layer.interpolation == "nearest"
    return nearest or isinstance(layer, layers.Cropping2D)


def _as_map(tensor: Any) -> Any:
    """Return scores (N, h, w, classes) that a model has flattened to (N, h * w, classes); others as they are.

    A softmax over the classes that comes after that is put before it. One channel that a model has left out the axis
    of, (N, h, w), has it again.
    """
    if len(tensor.shape) != 3:
        return tensor
    layer, before = _layer_of(tensor)
    squeezes = isinstance(layer, layers.Reshape) or type(layer).__name__ == "Squeeze"
    if squeezes and tuple(before[0].shape) == (*tensor.shape, 1):
        return before[0]
    kind = _last_activation(layer, 3) if len(before) == 1 and not isinstance(layer, _WITH_KERNEL) else ""
    if kind:
        layer, before = _layer_of(before[0])
    if not isinstance(layer, layers.Reshape) or len(before[0].shape) != 4 or before[0].shape[-1] != tensor.shape[-1]:
        return tensor
    return layers.Activation(kind, name="map_" + kind)(before[0]) if kind else before[0]


def _layer_of(tensor: Any) -> tuple[Any, list[Any]]:
    """Return the layer that gives a tensor, and what it was called on there."""
    layer = tensor._keras_history.operation
    return layer, list(layer._inbound_nodes[tensor._keras_history.node_index].input_tensors)


def _may_hide_activation(tensor: Any) -> bool:
    """Whether the graph does not tell that a tensor is no probability, as it does of a linear layer of Keras."""
    layer, before = _layer_of(tensor)
    if not before or isinstance(layer, layers.BatchNormalization):
        return False
    if isinstance(layer, layers.DepthwiseConv2D) and layer.kernel_size == (1, 1):
        return True  # a scale for each channel, such as that of a hard sigmoid
    if type(layer) in _WITH_KERNEL or isinstance(layer, KERNELS):
        return layer.activation not in (None, keras.activations.linear, keras.activations.relu)
    passes = isinstance(layer, (*_PASS, *_MOVES, FakeQuant)) or _is_linear(layer)
    return _may_hide_activation(before[0]) if passes else True


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
    if not known or type(layer) not in (layers.Activation, *_WITH_KERNEL):
        return ""
    name = "softmax" if name == "log_softmax" else name  # of the same logits
    return str(name) if name in _ENDS.values() else ""
