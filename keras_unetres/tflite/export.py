"""Export a Keras segmenter or classifier as one sealed `.tflite`, which is checked before it is written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.errors import ConversionError, ModelError, UsageError
from unetres_edge.files import write_bytes
from unetres_edge.images.preprocessing import Preprocessing
from unetres_edge.model.card import Card, default_colors

from ..choices.arguments import checks_kinds
from ..choices.heads import Head, check_head, find_head
from ..choices.recipes import MIXED, Recipe, find_recipe
from ..data.calibration import check_range, collect_calibration, to_levels
from ..machine.backend import check_tensorflow
from .agreement import check_labels, label_agreement
from .constants import check_constants
from .convert import convert
from .inspect import Graph, Op, read_ops, refuse_float_islands
from .mediapipe import LABELS_FILE, METADATA_NAME, labels_text, segmenter_metadata, take_pixels
from .mixed_precision import MixedPrecisionConverter, calibrate
from .model_checks import check_fit, check_model, check_names, find_crop
from .seal import add_card

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        path: the file.
        card: its card; the file also holds the digest over it.
        num_bytes: the file's size.
        ops: its ops, in order.
        agreement: share of pixels (of a classifier: of images) with the label of the Keras model on images made of the
            calibration images (or noise without any), as LiteRT ran the written bytes on this machine.
        head: name of the head.
        num_calibration: number of calibration images that the ranges come from; 0 where they come from none.
    """

    path: str
    card: Card
    num_bytes: int
    ops: tuple[Op, ...]
    agreement: float
    head: str = "logits"
    num_calibration: int = 0


@checks_kinds
def export_tflite(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    recipe: str | None = None,
    preprocessing: Preprocessing,
    calibration: Any = None,
    classes: Sequence[str] | None = None,
    head: str = "logits",
    card: Card | None = None,
    floats: Sequence[str] = (),
    output: str | None = None,
    allow_disagreement: bool = False,
) -> Exported:
    """Write a Keras segmenter or classifier as a sealed `.tflite`.

    Args:
        model: (N, h, w, C) -> (N, h, w, classes), or (N, classes) for a classifier, for h and w of
            `preprocessing.size`. The file gives logits: a softmax or sigmoid at the end is left out, and the card says
            which of them makes probabilities. One sigmoid channel becomes two classes, with a score of 0 for the first.
            Where code of your own hides the end, and the answers are probabilities, the file gives those.
        path: the file to write; an earlier one is replaced only by a complete new one.
        recipe: a name of `RECIPES`; None for "static_wi8_ai8" where there is `calibration`, or the model is
            quantization-aware and takes no other, and else for "float32".
        preprocessing: preparation of images for the network. Nothing is guessed.
        calibration: images as the model sees them: an array (N, h, w, C), batches, or (images, ...) tuples. Needed
            for the static recipes, unless the model is quantization-aware; the others use it for `agreement` alone.
            Of more than 128 images, those that cover the most are used.
        classes: class names; None for "0", "1", ... Of a model with one sigmoid channel, the name of what it finds is
            enough.
        head: a name of `HEADS`: what the file takes and gives.
        card: everything else the file says about itself (colours, halo, ignore index, scores); None for what the
            model itself tells.
        floats: names of the layers that compute in float32; for "mixed_wi8_ai8_afp32".
        output: name of the output that is exported, of a model with several.
        allow_disagreement: whether to write a file whose labels are not those of the Keras model, with a warning.
            Without it, one that gives fewer than 95 % of the clear ones is refused (`Agreement`); below 99 % of all is
            a warning. Of a quantization-aware model these are its own; `quantize_aware` has compared it with the float
            one.

    Returns:
        What was written, and how far it agrees with the Keras model.

    Raises:
        UsageError: unknown recipe, head or layer, no calibration, a wrong number of class names, or a classifier that
            is to see crops.
        ConversionError: the model is no such network, calibration is bad, the converter refused it, or the file answers
            otherwise than the model.
        FloatIslandError: an op of a quantized file would stay float; nothing is written.
    """
    from ..models.answers import can_be_asked

    chosen, ends = find_recipe(recipe or _usual_recipe(model, calibration)), find_head(head)
    if chosen.name == MIXED and not floats:
        raise UsageError(f"the recipe {MIXED} needs the names of layers that compute in float32", fix="pass floats=")
    if floats and chosen.name != MIXED:
        raise UsageError("only one recipe keeps some layers in float32", expected=f"recipe {MIXED}", found=recipe)
    original = model
    model, checked = _prepare(model, chosen, ends, preprocessing, classes, card, output)
    aware = _is_aware(model, chosen)
    if aware:
        _check_input_range(model, preprocessing)
    calibrates = chosen.quantized and not aware
    images = collect_calibration(calibration, preprocessing) if calibrates or calibration is not None else None
    if floats:
        assert images is not None
        (data,) = _mixed_precision(model, ends, preprocessing, images).convert([floats])
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
    reference = model if aware or output is not None or not can_be_asked(original) else original
    agreement = label_agreement(reference, model, data, checked.card, preprocessing, images)
    check_labels(agreement, allowed=allow_disagreement)
    write_bytes(path, data)
    used = len(images) if calibrates and images is not None else 0
    return Exported(os.fspath(path), checked.card, len(data), tuple(read_ops(data)), agreement.share, ends.name, used)


def _usual_recipe(model: keras.Model, calibration: Any) -> str:
    from ..models.fake_quant import is_quantization_aware

    aware = hasattr(model, "layers") and is_quantization_aware(model)
    return "static_wi8_ai8" if aware or calibration is not None else "float32"


@dataclass(frozen=True)
class CalibratedModel:
    """A model calibrated once for a mixed precision search, which converts it many times.

    Args:
        converter: makes a file for each choice of layers.
        images: the calibration images, (N, h, w, C) float32 as the model sees them.
    """

    converter: MixedPrecisionConverter
    images: np.ndarray
    _model: keras.Model
    _checked: _Checked

    def seal(self, data: bytes) -> bytes:
        """Return a file of the converter with its card and digest, as the runtime takes it."""
        return _sealed(self._model, data, self._checked)


def calibrate_model(
    model: keras.Model,
    *,
    preprocessing: Preprocessing,
    calibration: Any,
    card: Card | None = None,
) -> CalibratedModel:
    """Calibrate a model for a mixed precision search, whose files have the head "logits".

    Args:
        model, preprocessing, calibration, card: as for `export_tflite`.

    Raises:
        UsageError, ConversionError: as `export_tflite`, and for a quantization-aware model, whose ranges are its own.
    """
    chosen, ends = find_recipe(MIXED), find_head("logits")
    model, checked = _prepare(model, chosen, ends, preprocessing, None, card)
    _is_aware(model, chosen)
    images = collect_calibration(calibration, preprocessing)
    return CalibratedModel(_mixed_precision(model, ends, preprocessing, images), images, model, checked)


@dataclass(frozen=True)
class _Checked:
    """The settings of an export that are known to fit its model."""

    recipe: Recipe
    head: Head
    preprocessing: Preprocessing
    card: Card


def _prepare(
    model: keras.Model,
    recipe: Recipe,
    head: Head,
    preprocessing: Preprocessing,
    classes: Sequence[str] | None,
    card: Card | None,
    output: str | None = None,
) -> tuple[keras.Model, _Checked]:
    """Return the model in the form that is exported, and the settings once they are known to fit it."""
    from ..models.inference import inference_form

    check_tensorflow()
    shape = (*preprocessing.size, preprocessing.channels)
    original, form = model, inference_form(model, output, shape=shape)
    model = form.model
    num_classes, task = check_model(model, shape)
    check_head(head, recipe, preprocessing, task)
    crop = find_crop(model)
    check_fit(preprocessing, task, crop)
    if crop and head.raw:
        raise ConversionError("MediaPipe takes no unpadded network", found=f"crop {crop} px", fix="use --head logits")
    names = tuple(classes or (card.class_names if card else map(str, range(num_classes))))
    names = ("background", *names) if form.binary and len(names) == 1 else names
    if len(names) != num_classes:
        raise UsageError("number of class names differs from the model", expected=num_classes, found=len(names))
    check_names(names)
    full = _card(model, card, names, preprocessing, head, recipe, task)
    seen = card is None or form.model is not original or form.activation == "none"
    activation = form.activation if seen or card is None else card.activation
    return model, _Checked(recipe, head, preprocessing, replace(full, task=task, activation=activation))


def _mixed_precision(
    model: keras.Model, head: Head, preprocessing: Preprocessing, images: np.ndarray
) -> MixedPrecisionConverter:
    shape = (*preprocessing.size, preprocessing.channels)
    seen = _seen_by_graph(images, preprocessing, head)
    assert seen is not None
    return calibrate(model, shape, head, seen, preprocessing if head.raw else None)


def _sealed(model: keras.Model, data: bytes, checked: _Checked) -> bytes:
    data = _checked_file(data, model, checked.recipe, checked.head)
    return add_card(data, checked.card, **(_for_mediapipe(checked.card) if checked.head.raw else {}))


def _is_aware(model: keras.Model, recipe: Recipe) -> bool:
    """Return whether the model is quantization-aware; such a model has its own int8 ranges and fits one recipe."""
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


def _check_input_range(model: keras.Model, preprocessing: Preprocessing) -> None:
    """Refuse a quantization-aware model that was calibrated with images of another range than preprocessing gives.

    One of an earlier version does not say what its images were. Its range of the input tells, but where features share
    it, with which the image is joined.
    """
    from ..models.fake_quant import FakeQuant

    (first,) = (node.operation for node in model.inputs[0]._keras_history.operation._outbound_nodes[:1])
    if not isinstance(first, FakeQuant):
        return
    if first.seen is not None:
        check_range(*first.seen, preprocessing, of_images=True)
    elif len(first._inbound_nodes) == 1:
        check_range(float(np.asarray(first.low)), float(np.asarray(first.high)), preprocessing)


def _checked_file(data: bytes, model: keras.Model, recipe: Recipe, head: Head) -> bytes:
    """Return the converter's file, once its types and ops are found to be those of the recipe and the head."""
    names = [layer.name for layer in model.layers]
    mixed = recipe.activations == "mixed"
    if recipe.quantized and not mixed:
        refuse_float_islands(data, names)
    check_constants(data, recipe, names)
    if recipe.activations != "int8" and not mixed:
        return data
    graph = Graph(data)
    types = tuple(graph.kind(tensors[0]).lower() for tensors in (graph.inputs, graph.outputs))
    expected = (head.image, "float32" if mixed and not head.argmax else head.answer)
    if types != expected:
        raise ConversionError("the file has other ends than asked for", expected=expected, found=types)
    return take_pixels(data) if head.raw else data


def _seen_by_graph(images: np.ndarray | None, pre: Preprocessing, ends: Head) -> np.ndarray | None:
    """Return calibration images in the form of the graph's input: pixel levels where preprocessing is in the graph."""
    return to_levels(images, pre) if ends.raw and images is not None else images


def _card(
    model: keras.Model,
    card: Card | None,
    names: tuple[str, ...],
    preprocessing: Preprocessing,
    head: Head,
    recipe: Recipe,
    task: str,
) -> Card:
    if card is None:
        halo, stride = find_reach(model)
        card = Card(names, default_colors(len(names)), preprocessing, task, halo=halo, stride=stride)
    crop = find_crop(model)
    if head.raw:  # the rest is in the graph
        preprocessing = replace(preprocessing, value_range=(0, 255), mean=(0,), std=(1,))
    colors = card.class_colors if len(card.class_names) == len(names) else default_colors(len(names))
    return replace(
        card,
        class_names=names,
        class_colors=colors,
        preprocessing=preprocessing,
        head=head.on_card,
        background=card.background if card.class_names == names else -1,
        recipe=recipe.name,
        crop=crop,
        stride=card.stride or (find_reach(model)[1] if crop else 0),
    )


def _for_mediapipe(card: Card) -> dict[str, dict[str, bytes]]:
    """Return what MediaPipe reads, as `add_card` takes it."""
    metadata = segmenter_metadata(card.preprocessing.size, activation=card.activation, author="keras-unetres")
    return {"metadata": {METADATA_NAME: metadata}, "files": {LABELS_FILE: labels_text(card.class_names)}}


def find_reach(model: keras.Model) -> tuple[int, int]:
    """Return the receptive halo and the deepest stride, or zeros (unknown) for a model whose graph does not tell."""
    from ..models import deepest_stride, receptive_halo

    if getattr(model, "outputs", None) is None:  # never built, as its conversion will say
        return 0, 0
    try:
        return receptive_halo(model), deepest_stride(model)
    except ModelError:
        return 0, 0
