"""A Keras model in the place of LiteRT, so that it is scored by the same pre- and post-processing as the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from unetres_edge.engines.engine import Engine
from unetres_edge.errors import ModelError
from unetres_edge.images.preprocessing import Preprocessing

if TYPE_CHECKING:
    import keras


class KerasEngine(Engine):
    """Runs a Keras model on prepared tiles.

    Args:
        model: (N, h, w, channels) -> (N, h, w, classes); a softmax or sigmoid that is seen at its end is left out.
        pre: preparation of images for the network.
    """

    name = "keras"

    def __init__(self, model: keras.Model, pre: Preprocessing) -> None:
        from ..models.inference import inference_form

        self._model = inference_form(model, shape=(*pre.size, pre.channels)).model
        self._pre = pre

    def run(self, tile: np.ndarray) -> np.ndarray:
        """Return scores (h, w, classes) float32 of a tile (h, w, channels) uint8."""
        from ..models.answers import predict

        scores = np.asarray(predict(self._model, self._pre.normalise(tile)[None]), np.float32)[0]
        if not np.isfinite(scores).all():
            raise ModelError("the model gave scores that are not finite", fix="train it again with a lower rate")
        return scores
