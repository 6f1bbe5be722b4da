"""`export_tflite`: any Keras segmenter or classifier -> one sealed `.tflite`, checked before it is written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.engines.litert import LiteRTEngine
from unetres_edge.errors import ConversionError, ModelError, UnetresError, UsageError
from unetres_edge.files import remove_left_over, write_bytes
from unetres_edge.images.preprocessing import Preprocessing
from unetres_edge.model.card import Card, default_colors

from .calibrate import collect_calibration
from .constants import check_constants
from .convert import convert, first_line
from .heads import Head, check_head, find_head
from .inspect import Graph, Op, read_ops, refuse_float_islands
from .mediapipe import LABELS_FILE, METADATA_NAME, labels_text, segmenter_metadata, take_pixels
from .mixed import MIXED, Mixer, calibrate
from .recipes import Recipe, find_recipe
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
        head: name of the head, as asked for.
        num_calibration: how many calibration images the ranges come from; 0 where they come from none.
    """

    path: str
    card: Card
    num_bytes: int
    ops: tuple[Op, ...]
    agreement: float
    head: str = "logits"
    num_calibration: int = 0


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
    floats: Sequence[str] = (),
) -> Exported:
    """Write a Keras segmenter or classifier as a sealed `.tflite`.

    Args:
        model: (N, h, w, C) float32 -> (N, h, w, classes), or (N, classes) for a classifier, for h and w of
            `preprocessing.size`.
        path: the file to write; an earlier one is replaced only by a complete new one.
        recipe: a name of `RECIPES`. A quantization-aware model has the ranges of "static_wi8_ai8" and takes no other.
        preprocessing: how images meet the network. Nothing is guessed.
        calibration: images as the model sees them: an array (N, h, w, C), batches, or (images, ...) tuples. Needed
            for the static recipes, unless the model is quantization-aware; the others use it for `agreement` alone.
            Of more than 128 images, those that cover the most are used.
        classes: class names; None for "0", "1", ...
        head: a name of `HEADS`: what the file takes and gives.
        card: everything else the file says about itself (colours, halo, ignore index, scores); None for what the
            model itself tells.
        floats: for "mixed_wi8_ai8_afp32": names of the layers that compute in float32.

    Returns:
        What was written, and how far it agrees with the Keras model.

    Raises:
        UsageError: unknown recipe, head or layer, no calibration, a wrong number of class names, or a classifier that
            is to see crops.
        ConversionError: the model is no such network, calibration is bad, or the converter refused it.
        FloatIslandError: an op of a quantized file would stay float; nothing is written.
    """
    chosen, ends = find_recipe(recipe), find_head(head)
    if bool(floats) != (chosen.activations == "mixed"):
        raise UsageError(
            "layers to keep in float belong to one recipe, and it to them", expected=f"floats and {MIXED}", found=recipe
        )
    checked = _check(model, chosen, ends, preprocessing, classes, card)
    aware = _is_aware(model, chosen)
    calibrates = chosen.quantized and not aware
    images = collect_calibration(calibration, preprocessing) if calibrates or calibration is not None else None
    if floats:
        assert images is not None
        (data,) = _mixer(model, ends, preprocessing, images).make([floats])
    else:
        data = convert(
            model,
            (*preprocessing.size, preprocessing.channels),
            recipe=chosen,
            head=ends,
            calibration=_seen_by_graph(images, preprocessing, ends) if calibrates else None,
            quantization_aware=aware,
            pixels=preprocessing if ends.raw else None,
        )
    data = _sealed(model, data, checked)
    agreement = _agreement(model, data, checked.card, preprocessing, images)
    publish(path, data)
    used = len(images) if calibrates and images is not None else 0
    return Exported(os.fspath(path), checked.card, len(data), tuple(read_ops(data)), agreement, ends.name, used)


@dataclass(frozen=True)
class Mixing:
    """A model calibrated once, of which files of mixed precision are made until one is good enough.

    Args:
        mixer: makes the bytes.
        images: the calibration images, (N, h, w, C) float32 as the model sees them.
    """

    mixer: Mixer
    images: np.ndarray
    _model: keras.Model
    _checked: _Checked

    def seal(self, data: bytes) -> bytes:
        """Return a file of the mixer's as the runtime takes it."""
        return _sealed(self._model, data, self._checked)


def begin_mixing(
    model: keras.Model,
    *,
    preprocessing: Preprocessing,
    calibration: Any,
    card: Card | None = None,
) -> Mixing:
    """Calibrate a model for files of mixed precision with the head "logits".

    Args:
        model, preprocessing, calibration, card: as for `export_tflite`.

    Raises:
        UsageError, ConversionError: as `export_tflite`, and for a quantization-aware model, whose ranges are its own.
    """
    chosen, ends = find_recipe(MIXED), find_head("logits")
    checked = _check(model, chosen, ends, preprocessing, None, card)
    _is_aware(model, chosen)
    images = collect_calibration(calibration, preprocessing)
    return Mixing(_mixer(model, ends, preprocessing, images), images, model, checked)


@dataclass(frozen=True)
class _Checked:
    """What was asked for, once it is known to fit the model."""

    recipe: Recipe
    head: Head
    preprocessing: Preprocessing
    card: Card


def _check(
    model: keras.Model,
    recipe: Recipe,
    head: Head,
    preprocessing: Preprocessing,
    classes: Sequence[str] | None,
    card: Card | None,
) -> _Checked:
    num_classes, task = _check_model(model, (*preprocessing.size, preprocessing.channels))
    check_head(head, recipe, preprocessing, task)
    if task == "classify":
        _check_classifier(preprocessing)
    names = tuple(classes or (card.class_names if card else map(str, range(num_classes))))
    if len(names) != num_classes:
        raise UsageError("number of class names differs from the model", expected=num_classes, found=len(names))
    made = replace(_card(model, card, names, preprocessing, head, recipe), task=task)
    return _Checked(recipe, head, preprocessing, made)


def _mixer(model: keras.Model, head: Head, preprocessing: Preprocessing, images: np.ndarray) -> Mixer:
    shape = (*preprocessing.size, preprocessing.channels)
    seen = _seen_by_graph(images, preprocessing, head)
    assert seen is not None
    return calibrate(model, shape, head, seen, preprocessing if head.raw else None)


def _sealed(model: keras.Model, data: bytes, checked: _Checked) -> bytes:
    data = _checked_file(data, model, checked.recipe, checked.head)
    return add_card(data, checked.card, **(_for_mediapipe(model, checked.card) if checked.head.raw else {}))


def publish(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a finished file in place of an earlier one, and take away what an export that was killed left there."""
    remove_left_over(path)
    write_bytes(path, data)


def _is_aware(model: keras.Model, recipe: Recipe) -> bool:
    """Return whether the ranges are in the model, which then fits one recipe."""
    from ..models.fake_quant import is_quantization_aware

    aware = is_quantization_aware(model)
    if aware and (recipe.weights, recipe.activations) != ("int8", "int8"):
        raise UsageError(
            "a quantization-aware model has int8 ranges",
            expected="recipe static_wi8_ai8",
            found=recipe.name,
            fix="export with that recipe, or export the model it was made from",
        )
    return aware


def _checked_file(data: bytes, model: keras.Model, recipe: Recipe, head: Head) -> bytes:
    """Return what the converter made if it is what was asked for."""
    names = [layer.name for layer in model.layers]
    mixed = recipe.activations == "mixed"
    if recipe.quantized and not mixed:
        refuse_float_islands(data, names)
    check_constants(data, recipe, names)
    if recipe.activations != "int8" and not mixed:
        return data
    graph = Graph(data)
    found = tuple(graph.kind(ends[0]).lower() for ends in (graph.inputs, graph.outputs))
    expected = (head.image, "float32" if mixed and not head.argmax else head.answer)
    if found != expected:
        raise ConversionError("the file has other ends than asked for", expected=expected, found=found)
    return take_pixels(data) if head.raw else data


def _seen_by_graph(images: np.ndarray | None, pre: Preprocessing, ends: Head) -> np.ndarray | None:
    """Return calibration images as the graph's input sees them."""
    return _levels(images, pre) if ends.raw and images is not None else images


def _check_model(model: keras.Model, shape: tuple[int, int, int]) -> tuple[int, str]:
    """Return the number of classes and the task: a segmenter gives (1, h, w, classes), a classifier (1, classes)."""
    import keras

    if not isinstance(model, keras.Model):
        raise UsageError("not a Keras 3 model", expected="keras.Model", found=type(model).__name__)
    for weight in model.weights:
        if not np.isfinite(np.asarray(weight.value, dtype=np.float32)).all():
            raise ConversionError("a weight of the model is not finite", found=weight.path, fix="train again")
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


def _check_classifier(preprocessing: Preprocessing) -> None:
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
    model: keras.Model,
    card: Card | None,
    names: tuple[str, ...],
    preprocessing: Preprocessing,
    head: Head,
    recipe: Recipe,
) -> Card:
    if card is None:
        halo, stride = _reach(model)
        card = Card(names, default_colors(len(names)), preprocessing, halo=halo, stride=stride)
    if head.raw:  # the rest is in the graph
        preprocessing = replace(preprocessing, value_range=(0, 255), mean=(0,), std=(1,))
    return replace(card, class_names=names, preprocessing=preprocessing, head=head.on_card, recipe=recipe.name)


def _for_mediapipe(model: keras.Model, card: Card) -> dict[str, dict[str, bytes]]:
    """Return what MediaPipe reads, as `add_card` takes it."""
    import keras

    last = model.layers[-1]
    probable = isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax
    metadata = segmenter_metadata(card.preprocessing.size, softmax=not probable, author="keras-unetres")
    return {"metadata": {METADATA_NAME: metadata}, "files": {LABELS_FILE: labels_text(card.class_names)}}


def _reach(model: keras.Model) -> tuple[int, int]:
    """Return the receptive halo and the deepest stride, or zeros (unknown) for a model whose graph does not tell."""
    from ..models import deepest_stride, receptive_halo

    if getattr(model, "outputs", None) is None:  # never built, as its conversion will say
        return 0, 0
    try:
        return receptive_halo(model), deepest_stride(model)
    except ModelError:
        return 0, 0


def _agreement(
    model: keras.Model, data: bytes, card: Card, preprocessing: Preprocessing, images: np.ndarray | None
) -> float:
    """Run the bytes on LiteRT and return the share of labels that equal the Keras model's.

    Images are brought back to the uint8 levels the device starts from; calibration that is not made of such levels
    is compared at the nearest.
    """
    try:
        engine = LiteRTEngine(data, card)
        equal = []
        for tile in _tiles(images, preprocessing):
            scores = np.asarray(model.predict_on_batch(preprocessing.normalise(tile)[None]))[0]
            values = engine.run(tile)
            equal.append((scores.argmax(-1) == (values if card.head == "argmax" else values.argmax(-1))).mean())
    except UnetresError as error:
        raise ConversionError(f"the converted file does not run: {error.message}") from error
    return float(np.mean(equal))


def _tiles(images: np.ndarray | None, pre: Preprocessing) -> np.ndarray:
    if images is None:
        return np.random.default_rng(0).integers(0, 256, (4, *pre.size, pre.channels), np.uint8)
    images = images[np.linspace(0, len(images) - 1, min(_CHECKED_IMAGES, len(images))).astype(int)]
    return np.rint(_levels(images, pre)).astype(np.uint8)


def _levels(images: np.ndarray, pre: Preprocessing) -> np.ndarray:
    """Return the pixels 0..255 of images as the network sees them, not rounded."""
    table = pre.table()
    return np.clip((images - table[0]) / (table[1] - table[0]), 0, 255).astype(np.float32)
