"""Distillation: a network learns, beside the labels, what the mean of larger ones says (Hinton 2015; Liu 2019).

While it is trained, the teachers' scores are appended to its own as further channels, as those of side heads are; they
are computed in each step from the same augmented crop. The network that is kept knows nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from .terms import weighted_mean

_LEAST = 1e-7  # probability, whose logarithm is taken


@dataclass(frozen=True)
class Teachers:
    """Networks whose mean a smaller one learns from.

    Args:
        networks: (network, scale (C,), offset (C,)): images of the student times scale plus offset are the network's,
            (N, H, W, C) float32 -> (N, H, W, classes) logits.
        temperature: number by which scores are divided before the softmax; above 1, small probabilities count more.
        share: share of the loss that the teachers have; the labels have the rest.
    """

    networks: tuple[tuple[keras.Model, np.ndarray, np.ndarray], ...]
    temperature: float
    share: float

    def answer(self, images: Any) -> Any:
        """Return the log of the mean probability, (N, H, W, classes) float32, of images as the student sees them."""
        total: Any = 0.0
        for network, scale, offset in self.networks:
            scores = network(images * scale + offset, training=False)
            total = total + ops.softmax(ops.cast(scores, "float32"), axis=-1)
        return ops.log(ops.maximum(total / len(self.networks), _LEAST))


class _Answers(layers.Layer):
    """What the teachers say, as a layer without weights of its own."""

    def __init__(self, answer: Callable[[Any], Any], num_classes: int) -> None:
        super().__init__(dtype="float32", name="teachers")
        self._answer = answer  # a function, in which Keras does not look for weights
        self._num_classes = num_classes

    def call(self, images: Any) -> Any:
        return ops.stop_gradient(self._answer(images))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self._num_classes)


def add_teachers(model: keras.Model, teachers: Teachers) -> keras.Model:
    """Return a model that shares the layers of a network and appends what the teachers say.

    Args:
        model: (N, H, W, C) -> (N, H, W, num_classes) logits.

    Returns:
        (N, H, W, C) -> (N, H, W, 2 * num_classes) float32: the network's logits, then the teachers' log-probabilities.
    """
    answers = _Answers(teachers.answer, model.output_shape[-1])(model.input)
    joined = layers.Concatenate(dtype="float32", name="all_scores")([model.output, answers])
    return keras.Model(model.input, joined, name=f"{model.name}_taught")


@keras.saving.register_keras_serializable("keras_unetres")
class DistilledLoss(keras.losses.Loss):
    """A loss of the labels, and the divergence of a network's probabilities from its teachers'.

    (1 - share) * loss + share * T^2 * KL(teachers || network), both softened by the temperature T (Hinton 2015, section
    2); the divergence is the mean over all pixels, labelled or not.

    Args:
        loss: loss of masks and (N, H, W, num_classes) logits.
        num_classes: channels of the network's logits, behind which as many of the teachers follow.
        temperature: T.
        share: share of the teachers, 0 to 1.
    """

    def __init__(
        self, loss: keras.losses.Loss, num_classes: int, temperature: float, share: float, name: str = "distilled"
    ) -> None:
        super().__init__(name=name)
        self.loss = loss
        self.num_classes = num_classes
        self.temperature = temperature
        self.share = share

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        y_pred = ops.cast(y_pred, "float32")
        logits, taught = y_pred[..., : self.num_classes], y_pred[..., self.num_classes :]
        goal = ops.softmax(taught / self.temperature, axis=-1)
        said = ops.log_softmax(logits / self.temperature, axis=-1)
        apart = ops.sum(goal * (ops.log(ops.maximum(goal, _LEAST)) - said), axis=-1)
        divergence = self.temperature**2 * weighted_mean(apart, ops.ones_like(apart))
        return (1 - self.share) * self.loss(y_true, logits, sample_weight) + self.share * divergence

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss without sample weights."""
        return self(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        loss = keras.saving.serialize_keras_object(self.loss)
        return {
            "loss": loss,
            "num_classes": self.num_classes,
            "temperature": self.temperature,
            "share": self.share,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DistilledLoss:
        """Restore from the arguments."""
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})
