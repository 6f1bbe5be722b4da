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

_CHECKED_MAPS, _CHECKED_IMAGES = 16, 32
_CLEAR = 0.05  # margin over the second class, of the range of scores: a dozen levels of int8
WARNED, REFUSED = 0.99, 0.95
_ENOUGH = 100  # labels; of fewer, such as one an image, a single one is too large a share: scores are compared
_FIX = "train it quantization-aware, use recipe static_wi8_ai16, or pass allow_disagreement=True"
_CALLER = 4  # frames above a warning here: this, `export_tflite`, the check of its arguments, its caller
_FAR = 0.5  # of the scores' own spread; int8 of a sound network is within a tenth


@dataclass(frozen=True)
class Agreement:
    """How many labels of a file are those of Keras.

    Args:
        share: of all labels, 0 to 1.
        clear: of the labels of which the network itself is sure, whose score is well above that of the second class; 1
            where it is sure of none. An untrained network wavers between its classes, and so may its file.
        classes: how many classes Keras gives on the images.
        count: how many labels the network is sure of.
        distance: root mean square of what the file's scores differ by, in parts of their spread; None of labels alone.
    """

    share: float
    clear: float
    classes: int
    count: int
    distance: float | None = None


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
        found, expected, clear, scores, files = [], [], [], [], []
        for tile in _test_tiles(images, preprocessing, _CHECKED_MAPS if card.per_pixel else _CHECKED_IMAGES):
            seen = preprocessing.normalise(tile)[None]
            logits = np.asarray(model.predict_on_batch(seen), np.float32)[0]
            values = engine.run(tile)
            found.append(values if card.head == "argmax" else values.argmax(-1))
            asked = logits.argmax(-1) if reference is model else _labels(reference.predict_on_batch(seen))
            expected.append(asked.reshape(found[-1].shape))
            second, first = np.moveaxis(np.partition(logits, -2, axis=-1)[..., -2:], -1, 0)
            clear.append(first - second > _CLEAR * np.ptp(logits))
            scores.append(logits)
            files.append(values)
    except UnetresError as error:
        raise ConversionError(f"the converted file does not run: {error.message}") from error
    right, sure = np.equal(found, expected), np.array(clear)
    certain = float(right[sure].mean()) if sure.any() else 1.0
    distance = None if card.head == "argmax" else _distance(np.stack(scores), np.stack(files), card.activation)
    return Agreement(float(right.mean()), certain, len(np.unique(expected)), int(sure.sum()), distance)


def check_agreement(agreement: Agreement, *, allowed: bool) -> None:
    """Warn of a file that answers otherwise than its model, and refuse one that does so where the model is sure.

    Args:
        allowed: warn only.

    Raises:
        ConversionError: fewer than 95 % of the labels, of which the network is sure, are those of Keras; or, where
            these are fewer than 100, as a classifier's are, its scores are far from those of Keras.
    """
    told = f"{100 * agreement.share:.1f} % of the labels are those of Keras"
    few, far = agreement.count < _ENOUGH, agreement.distance is not None and not agreement.distance <= _FAR
    apart = "" if agreement.distance is None else f", its scores {100 * agreement.distance:.0f} % of their spread apart"
    if few and far and not allowed:
        raise ConversionError(
            "the file answers otherwise than the Keras model",
            expected=f"scores within {100 * _FAR:.0f} % of their spread",
            found=f"{100 * agreement.share:.1f} % of the labels{apart}",
            fix=_FIX,
        )
    if agreement.clear < REFUSED and not few and not allowed:
        raise ConversionError(
            "the file answers otherwise than the Keras model",
            expected=f"at least {100 * REFUSED:.0f} % of its clear labels",
            found=f"{100 * agreement.clear:.1f} % of those, {100 * agreement.share:.1f} % of all",
            fix=_FIX,
        )
    if agreement.share < WARNED or few and far:
        warnings.warn(f"agreement: {told}, {100 * agreement.clear:.1f} % of the clear ones{apart}", stacklevel=_CALLER)
    elif agreement.classes < 2:
        warnings.warn(f"agreement: {told}, which tells little: it gives one class everywhere", stacklevel=_CALLER)


def _labels(answer: Any) -> np.ndarray:
    """Return the labels of one image that a model of the user's gives: of scores, or of one sigmoid channel."""
    import keras

    (scores,) = keras.tree.flatten(answer)
    values = np.asarray(scores, np.float32)[0]
    return (values[..., 0] > 0.5).astype(np.int64) if values.shape[-1] == 1 else values.argmax(-1)


def _distance(scores: np.ndarray, file: np.ndarray, activation: str) -> float:
    """Return how far the scores of a file are from those of Keras, (N, ..., classes) each, in parts of their spread."""
    if activation == "softmax":  # which a sum over all classes does not change
        scores, file = (each - each.mean(-1, keepdims=True) for each in (scores, file))
    spread = max(float(np.std(scores)), 1e-4 * float(np.abs(scores).max()), 1e-9)
    return float(np.sqrt(np.square(file - scores, dtype=np.float64).mean())) / spread


def _test_tiles(images: np.ndarray | None, pre: Preprocessing, most: int) -> np.ndarray:
    """Return the tiles that are compared, (N, h, w, C) uint8; noise where there are no images.

    Calibration images are mirrored, and every second one is stretched over the whole range of pixels.
    """
    if images is None:
        return np.random.default_rng(0).integers(0, 256, (4, *pre.size, pre.channels), np.uint8)
    images = images[np.linspace(0, len(images) - 1, min(most, len(images))).astype(int)]
    levels = to_levels(images, pre)[:, :, ::-1]
    low, high = (find(levels[1::2], axis=(1, 2), keepdims=True) for find in (np.min, np.max))
    levels = levels.copy()
    levels[1::2] = (levels[1::2] - low) * (255 / np.maximum(high - low, 1))
    return np.rint(levels).astype(np.uint8)
