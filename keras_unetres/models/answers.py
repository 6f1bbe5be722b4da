"""What a Keras model of any make answers: whether it can be asked as it is, and the labels that it gives."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


def can_be_asked(model: Any) -> bool:
    """Return whether a model gives one answer for a batch of any size."""
    outputs, inputs = getattr(model, "outputs", None), getattr(model, "inputs", None)
    if outputs is None or inputs is None:
        return True  # subclassed: what it answers is looked at when it is asked
    return len(outputs) == 1 and inputs[0].shape[0] in (None, 1)


def labels_of(answer: Any) -> np.ndarray:
    """Return the labels (N, ...) of a model's answer: of scores (N, ..., classes), or of one sigmoid channel."""
    (scores,) = keras.tree.flatten(answer)
    values = np.asarray(keras.ops.convert_to_numpy(scores), np.float32)
    return (values[..., 0] > 0.5).astype(np.int64) if values.shape[-1] == 1 else values.argmax(-1)
