"""What a Keras model of any make answers: whether it can be asked as it is, and the labels that it gives."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from unetres_edge.errors import ConversionError


def can_be_asked(model: Any) -> bool:
    """Return whether a model gives one answer for a batch of any size."""
    outputs, inputs = getattr(model, "outputs", None), getattr(model, "inputs", None)
    if outputs is None or inputs is None:
        return True  # subclassed: what it answers is looked at when it is asked
    return len(outputs) == 1 and inputs[0].shape[0] in (None, 1)


def ask(model: keras.Model, images: np.ndarray) -> Any:
    """Return what a model answers at inference, called as it is: the user's names need be none of TensorFlow's."""
    structure = getattr(model, "_inputs_struct", None)  # of a functional model: a tensor, a list or a dictionary
    given = images if structure is None else keras.tree.pack_sequence_as(structure, [images])
    takes_training = bool(getattr(model, "_call_has_training_arg", True))
    return model(given, training=False) if takes_training else model(given)


def predict(model: keras.Model, images: np.ndarray) -> Any:
    """Return what a model answers for one batch by `predict_on_batch`, without what TensorFlow says of many models."""
    with _many_models():
        return model.predict_on_batch(images)


@contextlib.contextmanager
def _many_models() -> Iterator[None]:
    """Leave out TensorFlow's warning that a function is traced again, which it is for each model that is asked."""

    def keeps(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in str(record.msg)

    logger = logging.getLogger("tensorflow")
    logger.addFilter(keeps)
    try:
        yield
    finally:
        logger.removeFilter(keeps)


def labels_of(answer: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return the labels (N, ...) of a model's answer: of scores, or of one sigmoid channel.

    Args:
        answer: (N, ..., classes) in any shape of so many numbers, or a list or dictionary of one such.
        shape: of the labels of one image.

    Raises:
        ConversionError: it has another number of labels.
    """
    (scores,) = keras.tree.flatten(answer)
    values = np.asarray(keras.ops.convert_to_numpy(scores), np.float32)
    if values[0].size % math.prod(shape):
        raise ConversionError("the model answers in another shape", expected=shape, found=values.shape[1:])
    values = values.reshape(len(values), *shape, -1)
    return (values[..., 0] > 0.5).astype(np.int64) if values.shape[-1] == 1 else values.argmax(-1)
