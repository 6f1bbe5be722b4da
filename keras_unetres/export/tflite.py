"""`export_tflite`: any Keras segmenter or classifier -> one sealed `.tflite`, checked before it is written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.card import HEADS, Card, default_colors
from unetres_edge.engine import LiteRTEngine
from unetres_edge.errors import ConversionError, ModelError, UnetresError, UsageError
from unetres_edge.files import write_bytes
from unetres_edge.preprocessing import Preprocessing

from .calibrate import collect_calibration
from .convert import convert, first_line
from .inspect import Op, read_ops, refuse_float_islands
from .recipes import find_recipe
from .seal import add_card

if TYPE_CHECKING:
    import keras

_CHECKED_IMAGES = 16


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        path: the file.
        card: its card as asked for; the digest is in the file.
        num_bytes: the file's size.
        ops: its ops, in order.
        agreement: share of pixels (of a classifier: of images) with the label of the Keras model on calibration images
            (or noise without any), as LiteRT ran the written bytes on this machine.
    """

    path: str
    card: Card
    num_bytes: int
    ops: tuple[Op, ...]
    agreement: float


def export_tflite(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    recipe: str = "float32",
    preprocessing: Preprocessing,
    calibration: Any = None,
    classes: Sequence[str] | None = None,
    head: str = "logits",
    card: Card | None = None,
) -> Exported:
    """Write a Keras segmenter or classifier as a sealed `.tflite`.

    Args:
        model: (N, h, w, C) float32 -> (N, h, w, classes), or (N, classes) for a classifier, for h and w of
            `preprocessing.size`.
        path: the file to write; an earlier one is replaced only by a complete new one.
        recipe: "float32" or "static_wi8_ai8".
        preprocessing: how images meet the network. Nothing is guessed.
        calibration: images as the model sees them: an array (N, h, w, C), batches, or (images, ...) tuples. Needed
            for quantized recipes.
        classes: class names; None for "0", "1", ...
        head: "logits", or "argmax" for class ids made in the graph, which is for segmenters.
        card: everything else the file says about itself (colours, halo, ignore index, scores); None for what the
            model itself tells.

    Returns:
        What was written, and how far it agrees with the Keras model.

    Raises:
        UsageError: unknown recipe or head, no calibration, a wrong number of class names, or a classifier that is to
            see crops.
        ConversionError: the model is no such network, calibration is bad, or the converter refused it.
        FloatIslandError: an op of a quantized file would stay float; nothing is written.
    """
    chosen = find_recipe(recipe)
    if head not in HEADS:
        raise UsageError("the head is unknown", expected=" or ".join(HEADS), found=head)
    shape = (*preprocessing.size, preprocessing.channels)
    num_classes, task = _check_model(model, shape)
    if task == "classify":
        _check_classifier(preprocessing, head)
    names = tuple(classes or (card.class_names if card else map(str, range(num_classes))))
    if len(names) != num_classes:
        raise UsageError("number of class names differs from the model", expected=num_classes, found=len(names))
    images = collect_calibration(calibration, shape) if chosen.quantized else None
    data = convert(model, shape, head=head, quantized=chosen.quantized, calibration=images)
    if chosen.quantized:
        refuse_float_islands(data, [layer.name for layer in model.layers])
    card = replace(_card(model, card, names, preprocessing, head, recipe), task=task)
    data = add_card(data, card)
    agreement = _agreement(model, data, card, images)
    write_bytes(path, data)
    return Exported(os.fspath(path), card, len(data), tuple(read_ops(data)), agreement)


def _check_model(model: keras.Model, shape: tuple[int, int, int]) -> tuple[int, str]:
    """Return the number of classes and the task: a segmenter gives (1, h, w, classes), a classifier (1, classes)."""
    import keras

    if not isinstance(model, keras.Model):
        raise UsageError("not a Keras 3 model", expected="keras.Model", found=type(model).__name__)
    try:
        output = model.compute_output_spec(keras.KerasTensor((1, *shape))).shape
    except Exception as error:  # layers raise what they like
        fix = _nearest(model, shape)
        raise ConversionError(f"the model does not take (1, {shape}): {first_line(error)}", fix=fix) from error
    if len(output) == 2 and output[1] >= 2:
        return int(output[1]), "classify"
    if len(output) != 4 or tuple(output[1:3]) != shape[:2] or output[3] < 2:
        raise ConversionError(
            "the model gives no score for every class at every pixel",
            expected=f"(1, {shape[0]}, {shape[1]}, classes >= 2), or (1, classes >= 2) of a classifier",
            found=output,
            fix="end the model at full size with one channel a class",
        )
    return int(output[3]), "segment"


def _check_classifier(preprocessing: Preprocessing, head: str) -> None:
    if head != "logits":
        raise UsageError("a classifier gives scores", expected="head 'logits'", found=head)
    if preprocessing.fit == "crop":
        raise UsageError(
            "a classifier sees the whole image", expected="fit 'resize' or 'letterbox'", found="fit 'crop', by tiles"
        )


def _nearest(model: keras.Model, shape: tuple[int, int, int]) -> str | None:
    """Return which size to use instead, if that is what is wrong with the shape."""
    from ..models import check_size

    try:
        check_size(model, shape[:2])
    except UsageError as error:
        return error.fix
    except ModelError:
        pass
    return None


def _card(
    model: keras.Model, card: Card | None, names: tuple[str, ...], preprocessing: Preprocessing, head: str, recipe: str
) -> Card:
    if card is None:
        card = Card(names, default_colors(len(names)), preprocessing, halo=_halo(model))
    return replace(card, class_names=names, preprocessing=preprocessing, head=head, recipe=recipe)


def _halo(model: keras.Model) -> int:
    """Return the receptive halo, or 0 (unknown) for a model whose graph does not tell it."""
    from ..models import receptive_halo

    try:
        return receptive_halo(model)
    except ModelError:
        return 0


def _agreement(model: keras.Model, data: bytes, card: Card, images: np.ndarray | None) -> float:
    """Run the bytes on LiteRT and return the share of labels that equal the Keras model's.

    Images are brought back to the uint8 levels the device starts from; calibration that is not made of such levels
    is compared at the nearest.
    """
    pre = card.preprocessing
    tiles = _tiles(images, pre)
    try:
        engine = LiteRTEngine(data, card)
        equal = []
        for tile in tiles:
            scores = np.asarray(model.predict_on_batch(pre.normalise(tile)[None]))[0]
            values = engine.run(tile)
            equal.append((scores.argmax(-1) == (values if card.head == "argmax" else values.argmax(-1))).mean())
    except UnetresError as error:
        raise ConversionError(f"the converted file does not run: {error.message}") from error
    return float(np.mean(equal))


def _tiles(images: np.ndarray | None, pre: Preprocessing) -> np.ndarray:
    if images is None:
        return np.random.default_rng(0).integers(0, 256, (4, *pre.size, pre.channels), np.uint8)
    table = pre.table()
    images = images[np.linspace(0, len(images) - 1, min(_CHECKED_IMAGES, len(images))).astype(int)]
    planes = []
    for channel in range(pre.channels):
        low, step = table[0, channel], table[1, channel] - table[0, channel]
        planes.append(np.clip(np.rint((images[..., channel] - low) / step), 0, 255).astype(np.uint8))
    return np.stack(planes, -1)
