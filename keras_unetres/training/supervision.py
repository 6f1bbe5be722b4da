"""Deep supervision: while a U-Net is trained, coarser levels of its decoder are asked for the mask, too (Lee 2015)."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from unetres_edge.errors import UsageError

_LEVELS = (2, 3)  # of the decoder, whose maps are 2 and 4 times coarser than the output


def add_side_heads(model: keras.Model, num_classes: int) -> keras.Model:
    """Return a model that shares the layers of a U-Net and appends scores made from coarser levels.

    Args:
        model: network that `build_unet` returns, (N, H, W, C) -> (N, H, W, num_classes) logits.

    Returns:
        (N, H, W, C) -> (N, H, W, num_classes * (1 + levels)) float32: the model's own logits first, then those of the
        decoder's levels 2 and 3, where it has them, scaled to full size.

    Raises:
        UsageError: the model has no decoder of at least two levels.
    """
    names = {layer.name for layer in model.layers}
    scores = [model.output]
    for level in _LEVELS:
        if f"decoder{level}_out" not in names:
            continue
        x = model.get_layer(f"decoder{level}_out").output
        name = f"side{level}"
        x = layers.Conv2D(num_classes, 1, kernel_initializer="he_normal", dtype="float32", name=f"{name}_logits")(x)
        scale = (model.output.shape[1] or 0) // (x.shape[1] or 1) or 2 ** (level - 1)
        scores.append(layers.UpSampling2D(scale, interpolation="bilinear", dtype="float32", name=f"{name}_up")(x))
    if len(scores) == 1:
        raise UsageError("deep supervision needs a decoder of at least two levels", fix="drop --deep-supervision")
    joined = layers.Concatenate(dtype="float32", name="all_scores")(scores)
    return keras.Model(model.input, joined, name=f"{model.name}_supervised")


@keras.saving.register_keras_serializable("keras_unetres")
class SupervisedLoss(keras.losses.Loss):
    """A loss of the output and, each weighing half as much as the one before, of the side heads' scores.

    Args:
        loss: loss of masks and (N, H, W, num_classes) logits.
        num_classes: channels of each head.

    Call with (N, H, W, num_classes * heads) logits. The weights of the heads sum to 1.
    """

    def __init__(self, loss: keras.losses.Loss, num_classes: int, name: str = "supervised") -> None:
        super().__init__(name=name)
        self.loss = loss
        self.num_classes = num_classes

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        heads = ops.split(y_pred, y_pred.shape[-1] // self.num_classes, axis=-1)
        weights = [0.5**index for index in range(len(heads))]
        losses = [w * self.loss(y_true, head, sample_weight) for w, head in zip(weights, heads, strict=True)]
        return sum(losses[1:], losses[0]) / sum(weights)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss without sample weights."""
        return self(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        loss = keras.saving.serialize_keras_object(self.loss)
        return {"loss": loss, "num_classes": self.num_classes, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SupervisedLoss:
        """Restore from the arguments."""
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})


class FirstHead(keras.metrics.Metric):
    """A metric of the output alone, where side heads' scores are appended to it.

    Args:
        metric: metric of masks and (N, H, W, num_classes) logits.
        num_classes: channels of the output.
    """

    def __init__(self, metric: keras.metrics.Metric, num_classes: int) -> None:
        super().__init__(name=metric.name)
        self.metric = metric
        self.num_classes = num_classes

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of the metric."""
        return list(self.metric.variables)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count (N, H, W) masks against the first `num_classes` channels."""
        self.metric.update_state(y_true, y_pred[..., : self.num_classes], sample_weight)

    def result(self) -> Any:
        """Return the metric's result."""
        return self.metric.result()

    def reset_state(self) -> None:
        """Start anew."""
        self.metric.reset_state()
