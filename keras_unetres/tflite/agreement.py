"""How far a converted file gives the labels of its Keras model, measured on this machine before it is written.

It is measured where it can fail: on images that calibrated nothing, half of them stretched over the whole range of
pixels, and against the model as the user has it, not as it was prepared for the converter.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.engines.litert import LiteRTEngine
from unetres_edge.errors import ConversionError, UnetresError
from unetres_edge.images.preprocessing import Preprocessing
from unetres_edge.model.card import Card

from ..data.calibration import to_levels

if TYPE_CHECKING:
    import keras

_CHECKED_IMAGES = 16
_CLEAR = 0.05  # margin over the second class, of the range of scores: a dozen levels of int8
WARNED, REFUSED = 0.99, 0.95
_ENOUGH = 100  # labels; of fewer, such as one an image, a single one is too large a share to refuse a file for


@dataclass(frozen=True)
class Agreement:
    """How many labels of a file are those of Keras.

    Args:
        share: of all labels, 0 to 1.
        clear: of the labels of which the network itself is sure, whose score is well above that of the second class; 1
            where it is sure of none. An untrained network wavers between its classes, and so may its file.
        classes: how many classes Keras gives on the images.
        count: how many labels the network is sure of.
    """

    share: float
    clear: float
    classes: int
    count: int


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
    try:
        engine = LiteRTEngine(data, card)
        found, expected, clear = [], [], []
        for tile in _test_tiles(images, preprocessing):
            seen = preprocessing.normalise(tile)[None]
            logits = np.asarray(model.predict_on_batch(seen))[0]
            expected.append(logits.argmax(-1) if reference is model else _labels(reference.predict_on_batch(seen)))
            values = engine.run(tile)
            found.append(values if card.head == "argmax" else values.argmax(-1))
            second, first = np.moveaxis(np.partition(logits, -2, axis=-1)[..., -2:], -1, 0)
            clear.append(first - second > _CLEAR * np.ptp(logits))
    except UnetresError as error:
        raise ConversionError(f"the converted file does not run: {error.message}") from error
    right, sure = np.equal(found, expected), np.array(clear)
    certain = float(right[sure].mean()) if sure.any() else 1.0
    return Agreement(float(right.mean()), certain, len(np.unique(expected)), int(sure.sum()))


def check_agreement(agreement: Agreement, *, allowed: bool) -> None:
    """Warn of a file that answers otherwise than its model, and refuse one that does so where the model is sure.

    Args:
        allowed: warn only.

    Raises:
        ConversionError: fewer than 95 % of the labels, of which the network is sure, are those of Keras; of at least
            100, which a classifier does not give on the images that are compared: it is warned of.
    """
    told = f"{100 * agreement.share:.1f} % of the labels are those of Keras"
    if agreement.clear < REFUSED and agreement.count >= _ENOUGH and not allowed:
        raise ConversionError(
            "the file answers otherwise than the Keras model",
            expected=f"at least {100 * REFUSED:.0f} % of its clear labels",
            found=f"{100 * agreement.clear:.1f} % of those, {100 * agreement.share:.1f} % of all",
            fix="train it quantization-aware, use recipe static_wi8_ai16, or pass allow_disagreement=True",
        )
    if agreement.share < WARNED:
        warnings.warn(f"agreement: {told}, {100 * agreement.clear:.1f} % of the clear ones", stacklevel=3)
    elif agreement.classes < 2:
        warnings.warn(f"agreement: {told}, which tells little: it gives one class everywhere", stacklevel=3)


def _labels(answer: Any) -> np.ndarray:
    """Return the labels of one image that a model of the user's gives: of scores, or of one sigmoid channel."""
    import keras

    (scores,) = keras.tree.flatten(answer)
    values = np.asarray(scores, np.float32)[0]
    return (values[..., 0] > 0.5).astype(np.int64) if values.shape[-1] == 1 else values.argmax(-1)


def _test_tiles(images: np.ndarray | None, pre: Preprocessing) -> np.ndarray:
    """Return the tiles that are compared, (N, h, w, C) uint8; noise where there are no images.

    Calibration images are mirrored, and every second one is stretched over the whole range of pixels.
    """
    if images is None:
        return np.random.default_rng(0).integers(0, 256, (4, *pre.size, pre.channels), np.uint8)
    images = images[np.linspace(0, len(images) - 1, min(_CHECKED_IMAGES, len(images))).astype(int)]
    levels = to_levels(images, pre)[:, :, ::-1]
    low, high = (find(levels[1::2], axis=(1, 2), keepdims=True) for find in (np.min, np.max))
    levels = levels.copy()
    levels[1::2] = (levels[1::2] - low) * (255 / np.maximum(high - low, 1))
    return np.rint(levels).astype(np.uint8)
