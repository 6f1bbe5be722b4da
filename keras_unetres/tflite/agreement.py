"""How far a converted file gives the labels of its Keras model, measured on this machine before it is written.

It is measured where it can fail: on images that calibrated nothing, half of them stretched over the whole range of
pixels, and against the model as the user has it, not as it was prepared for the converter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from unetres_edge.engines.litert import LiteRTEngine
from unetres_edge.errors import ConversionError, UnetresError
from unetres_edge.images.preprocessing import Preprocessing
from unetres_edge.model.card import Card

from ..data.fresh import fresh_tiles
from ..scores.agreement import Agreement, LabelComparison, check_agreement

if TYPE_CHECKING:
    import keras

_CHECKED_MAPS, _CHECKED_IMAGES, _NOISE = 16, 32, 4
_FIX = (
    "train it quantization-aware, export with refine=True (--refine) or recipe static_wi8_ai16, or pass "
    "allow_disagreement=True (--allow-disagreement)"
)


def check_labels(agreement: Agreement, *, allowed: bool) -> None:
    """Warn of a file that answers otherwise than its model, and refuse one that does so clearly.

    Args:
        allowed: warn only.

    Raises:
        ConversionError: as `check_agreement` says.
    """
    check_agreement(agreement, allowed=allowed, fix=_FIX)


def label_agreement(
    reference: keras.Model,
    model: keras.Model,
    data: bytes,
    card: Card,
    preprocessing: Preprocessing,
    images: np.ndarray | None,
) -> Agreement:
    """Run a `.tflite` on LiteRT and compare its labels with the Keras model's.

    Args:
        reference: the user's model, which says what is right.
        model: the same as it was converted, which gives logits.
        data: the sealed file.
        images: calibration images as the model sees them, (N, h, w, C) float32, of which fresh ones are made; None for
            noise.

    Raises:
        ConversionError: the file does not run.
    """
    from ..models.answers import ask, labels_of, predict

    compared = LabelComparison(card.activation)
    try:
        engine = LiteRTEngine(data, card)
        for tile in _test_tiles(images, preprocessing, _CHECKED_MAPS if card.per_pixel else _CHECKED_IMAGES):
            seen = preprocessing.normalise(tile)[None]
            scores = np.asarray(predict(model, seen), np.float32)[0]
            values = engine.run(tile)
            labels, given = (values, None) if card.head == "argmax" else (values.argmax(-1), values)
            is_same = reference is model
            wanted = scores.argmax(-1) if is_same else labels_of(ask(reference, seen), labels.shape)[0]
            compared.add(wanted, scores, labels, given)
    except UnetresError as error:
        raise ConversionError(f"the converted file does not run: {error.message}") from error
    return compared.agreement()


def _test_tiles(images: np.ndarray | None, pre: Preprocessing, most: int) -> np.ndarray:
    """Return the tiles that are compared, (N, h, w, C) uint8; noise where there are no images."""
    if images is not None:
        return fresh_tiles(images, pre, most)
    return np.random.default_rng(0).integers(0, 256, (_NOISE, *pre.size, pre.channels), np.uint8)
