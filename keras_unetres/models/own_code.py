"""Models and layers of the user's own code: followed with symbols where they can be, and asked for their answers.

A subclassed model has no graph. Where its `call` uses layers and `keras.ops`, calling it on symbols makes one; where it
uses functions of TensorFlow, all that can be known is what it answers.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from .answers import ask

_RANGES = ((-1.0, 1.0), (0.0, 1.0), (0.0, 255.0))  # in one of which networks see images
_OFF = 2e-3  # by which sums of float16 probabilities miss 1
_MOST_SIZE = 256  # px, of sides that are left open


def is_own(operation: Any) -> bool:
    """Whether something is a layer or model of the user's own code, made of layers and with no weight beside theirs."""
    if not isinstance(operation, keras.layers.Layer):
        return False
    if type(operation).__module__.partition(".")[0] in ("keras", "keras_unetres"):
        return False
    inner = list(operation._flatten_layers(include_self=False, recursive=True))
    held = {id(weight) for layer in inner for weight in layer.weights}
    return bool(inner) and all(id(weight) in held for weight in operation.weights)


def call_of(operation: Any, *args: Any, **kwargs: Any) -> Any:
    """Return what a layer's own `call` gives at inference, so that the layers in it are called one by one."""
    taken = inspect.signature(operation.call).parameters
    if "training" in taken:
        kwargs["training"] = False
    return operation.call(*args, **kwargs)


def follow_model(model: keras.Model, shape: tuple[Any, ...]) -> keras.Model | None:
    """Return the functional model of what a subclassed model does at inference, or None where that cannot be followed.

    Args:
        model: built; its layers and their weights are shared.
        shape: (h, w, C) of an image.
    """
    if not model.built:
        return None
    image = keras.Input(shape, name="image")
    try:
        graph = keras.Model(image, call_of(model, image), name=model.name)
    except Exception:  # of the user's own code, which is not made for symbols
        return None
    return graph if same_answers(model, graph, shape) else None


def same_answers(first: keras.Model, second: keras.Model, shape: tuple[Any, ...]) -> bool:
    """Whether two models give the same of noise."""
    try:
        for one, other in zip(answers(first, shape), answers(second, shape), strict=True):
            if len(one) != len(other):
                return False
            for left, right in zip(one, other, strict=True):
                if left.shape != right.shape or not np.allclose(left, right, rtol=1e-2, atol=1e-2 * np.ptp(left)):
                    return False
    except Exception:  # as above
        return False
    return True


def answers(model: keras.Model, shape: tuple[Any, ...]) -> Iterator[list[np.ndarray]]:
    """Yield the outputs, (1, ...) float32 each, that a model gives of an image of noise in each range of networks."""
    random = np.random.default_rng(0)
    size = tuple(_MOST_SIZE if side is None else side for side in shape)
    for low, high in _RANGES:
        image = random.uniform(low, high, (1, *size)).astype(np.float32)
        outputs = ask(model, image)
        yield [np.asarray(keras.ops.convert_to_numpy(each), np.float32) for each in keras.tree.flatten(outputs)]


def gives_probabilities(scores: list[np.ndarray]) -> bool:
    """Whether answers to noise of several ranges can be nothing but probabilities.

    Args:
        scores: (1, ..., classes) each.

    Returns:
        Whether all are from 0 to 1, and sum to 1 over the classes or are not one number throughout.
    """
    scores = [each for each in scores if np.isfinite(each).all()]  # networks may overflow beyond their own range
    if not scores or any(each.min() < 0 or each.max() > 1 + _OFF for each in scores):
        return False
    if scores[0].shape[-1] > 1 and all(np.abs(each.sum(-1) - 1).max() <= _OFF for each in scores):
        return True
    return max(float(np.ptp(each)) for each in scores) > 0
