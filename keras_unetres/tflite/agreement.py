"""How far a converted file gives the labels of its Keras model, measured on this machine before it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from unetres_edge.engines.litert import LiteRTEngine
from unetres_edge.errors import ConversionError, UnetresError
from unetres_edge.images.preprocessing import Preprocessing
from unetres_edge.model.card import Card

from ..data.calibration import to_levels

if TYPE_CHECKING:
    import keras

_CHECKED_IMAGES = 16


def label_agreement(
    model: keras.Model, data: bytes, card: Card, preprocessing: Preprocessing, images: np.ndarray | None
) -> float:
    """Run a `.tflite` on LiteRT and return the share of its labels that equal the Keras model's.

    Images are brought back to the uint8 levels the device starts from; calibration that is not made of such levels
    is compared at the nearest.

    Args:
        data: the sealed file.
        images: calibration images as the model sees them, (N, h, w, C) float32; None for noise.

    Raises:
        ConversionError: the file does not run.
    """
    try:
        engine = LiteRTEngine(data, card)
        equal = []
        for tile in _test_tiles(images, preprocessing):
            scores = np.asarray(model.predict_on_batch(preprocessing.normalise(tile)[None]))[0]
            values = engine.run(tile)
            equal.append((scores.argmax(-1) == (values if card.head == "argmax" else values.argmax(-1))).mean())
    except UnetresError as error:
        raise ConversionError(f"the converted file does not run: {error.message}") from error
    return float(np.mean(equal))


def _test_tiles(images: np.ndarray | None, pre: Preprocessing) -> np.ndarray:
    """Return the tiles that are compared, (N, h, w, C) uint8: some of the calibration images, or noise."""
    if images is None:
        return np.random.default_rng(0).integers(0, 256, (4, *pre.size, pre.channels), np.uint8)
    images = images[np.linspace(0, len(images) - 1, min(_CHECKED_IMAGES, len(images))).astype(int)]
    return np.rint(to_levels(images, pre)).astype(np.uint8)
