"""Quantization-aware copies of trained networks: fold, find ranges, insert fake quantization.

`quantize_aware` joins the steps: `folding` and `ranges`, then either `native`, which stays inside Keras 3, or
`tfmot.engine`, which trains with tensorflow-model-optimization and comes back by `to_keras`.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.errors import ConversionError, ModelError, UsageError
from unetres_edge.images.preprocessing import Preprocessing
from unetres_edge.model.card import MAX_CLASSES

from ..choices.arguments import checks_kinds
from ..choices.quantization import ENGINES
from ..data.calibration import collect_calibration, image_batches
from ..data.fresh import fresh_images
from ..machine.backend import check_tensorflow
from ..models.answers import ask, can_be_asked, labels_of
from ..models.inference import check_finite, flat_form, inference_form
from ..scores.agreement import Agreement, LabelComparison, check_agreement
from ..settings import QuantizeSettings
from .folding import fold
from .native import build_native, note_images, set_ranges
from .ranges import find_ranges
from .refining import refine_network

if TYPE_CHECKING:
    import keras

_IMAGES = 64
_NO_SCORES = (
    "the model gives {shape} of images {image}, which is not exported as scores of classes: before that, end it with "
    "one channel a class, at most {most}, (N, h, w, classes) at the size of the image or (N, classes), or with one "
    "channel and a sigmoid"
)
_COMPARED = 8  # images made of them, on which labels are compared


@checks_kinds
def quantize_aware(
    model: keras.Model,
    calibration: Any,
    *,
    engine: str = QuantizeSettings.engine,
    ranges: str = QuantizeSettings.ranges,
    keep_zeros: bool = QuantizeSettings.keep_zeros,
    preprocessing: Preprocessing | None = None,
    output: str | None = None,
    refine: bool = False,
    allow_disagreement: bool = False,
) -> Any:
    """Return a copy of a trained network that computes as its int8 file will, for an ordinary `compile` and `fit`.

    BatchNormalization is folded into the convolutions with the statistics it has, kernels are rounded to 8 bits with
    a scale for each output channel (one for all in transposed convolutions and dense layers), activations to 8 bits
    in ranges that the calibration images show. Train it for a short while at a low rate, such as 1e-4, then
    `export_tflite` it with the recipe "static_wi8_ai8" (which alone traces it as the converter has to see it). What it
    answers at inference is what the file answers on a processor, but for one value in many millions.

    Args:
        model: any functional or Sequential Keras 3 model of layers that have an int8 form; it is not changed. Models
            within it are taken apart, and other precisions than float32 become float32.
        calibration: images as the model sees them: an array (N, h, w, C), batches, a `tf.data` data set, or a
            representative-dataset function. The first 64 are used, or with `preprocessing` the 64 that cover the most.
        engine: "native" gives a Keras 3 model, which is what run folders keep and `export_tflite` takes. "tfmot" gives
            a tf_keras model of tensorflow-model-optimization, with ranges that go on moving. Its `compile` and `fit`
            take losses, metrics and callbacks of Keras 3; `to_keras` then turns it into the first form.
        ranges: way in which ranges are found, see `find_ranges`.
        keep_zeros: weights that are 0, as after pruning, stay 0.
        preprocessing: preparation of images for the network, by which the range of the calibration images is checked.
            Without it, `export_tflite` checks it, after training.
        output: name of the output that is trained and exported, of a model with several.
        refine: whether to refine without labels and in minutes, from the calibration images: equalize channels that
            share a scale, choose how ranges are found, learn how kernels are rounded, and correct biases
            (`refine_network`).
            For export as it is, or to train from there. Of the engine "native".
        allow_disagreement: whether to give a network whose labels are not those of the float one, to be trained, with a
            warning. Without it, one that gives fewer than 95 % of the clear ones is refused (`Agreement`); below 99 %
            of all is a warning. Both are of images that calibrated nothing. A file is compared with the quantized
            network alone.

    Raises:
        UsageError: a layer has no int8 form, it is named; an unknown engine or estimator; another backend than
            TensorFlow, which makes the file; `refine` with another engine, or with ranges, which it chooses.
        ConversionError: calibration images that are none, of another shape, or not finite; or the quantized network
            answers otherwise.
    """
    if engine not in ENGINES:
        raise UsageError("the engine is unknown", expected=" or ".join(ENGINES), found=engine)
    if refine and (engine, ranges) != (QuantizeSettings.engine, QuantizeSettings.ranges):
        raise UsageError(
            "refinement has its own engine and ranges",
            expected=f"engine {QuantizeSettings.engine}, ranges {QuantizeSettings.ranges}",
            found=f"{engine}, {ranges}",
        )
    check_tensorflow()
    original, model = model, flat_form(model, output, shape=_shape(preprocessing))
    check_finite(model)
    folded = fold(model)
    images = _first_images(calibration, model, preprocessing)
    if refine:
        quantized = refine_network(model, images, keep_zeros=keep_zeros)
    else:
        found_ranges = find_ranges(folded, images, method=ranges)
        quantized = build_native(folded, keep_zeros=keep_zeros, rounds_end=False)
        set_ranges(quantized, found_ranges)
    note_images(quantized, images)
    reference = original if output is None and can_be_asked(original) else model
    agreement = _compare(reference, model, quantized, fresh_images(images, preprocessing, _COMPARED))
    if agreement is not None:
        fix = f"pass {'' if refine else 'refine=True, or '}allow_disagreement=True, and train it"
        check_agreement(agreement, allowed=allow_disagreement, fix=fix, form="the quantized network")
    if engine == "native":
        return quantized
    from .tfmot.engine import quantize_tfmot

    trained = quantize_tfmot(folded, found_ranges, keep_zeros=keep_zeros)
    trained.folded = folded  # of which `to_keras` makes the native form
    trained.keeps_zeros = keep_zeros
    trained.calibration_ends = np.array([images.min(), images.max()])
    return trained


def _compare(
    reference: keras.Model, model: keras.Model, quantized: keras.Model, images: np.ndarray
) -> Agreement | None:
    """Compare the labels that networks give as they are exported; None of one that gives no scores of classes.

    Args:
        reference: the user's model, which says what is right.
        model: the same, flat and in float32.
    """
    forms = [inference_form(each, shape=images.shape[1:]) for each in (model, quantized)]
    shape, image = forms[0].model.output_shape, images.shape[1:]
    if not _is_exported(forms[0].model, image):
        warnings.warn(_NO_SCORES.format(shape=shape, image=image, most=MAX_CLASSES), stacklevel=4)
    if len(shape) not in (2, 4) or shape[-1] < 2:
        return None
    compared = LabelComparison(forms[0].activation)
    for image in images:
        before, after = (np.asarray(form.model(image[None], training=False), np.float32)[0] for form in forms)
        is_same = reference is model
        labels = before.argmax(-1) if is_same else labels_of(ask(reference, image[None]), before.shape[:-1])[0]
        compared.add(labels, before, after.argmax(-1), after)
    return compared.agreement()


def _is_exported(model: keras.Model, image: tuple[int, ...]) -> bool:
    """Whether a file can give what a network answers of an image (h, w, C): scores of classes."""
    import keras

    from ..models import crop_offset

    *_, classes = shape = model.compute_output_spec(keras.KerasTensor((1, *image))).shape
    if len(shape) != 4:
        return len(shape) == 2 and classes >= 2
    try:
        crop = 0 if shape[1:3] == image[:2] else 2 * crop_offset(model)
    except ModelError:
        return False
    return shape[1:3] == (image[0] - crop, image[1] - crop) and 2 <= classes <= MAX_CLASSES


def to_keras(quantized: Any) -> keras.Model:
    """Return the Keras 3 form of what `quantize_aware` gave for any engine.

    Weights and ranges are the same. Its answers are those of the file, where the engine "tfmot" sums in float.
    """
    folded = getattr(quantized, "folded", None)
    if folded is None:
        return quantized
    from .tfmot.engine import to_native

    native = to_native(quantized, folded, keep_zeros=quantized.keeps_zeros)
    note_images(native, np.asarray(quantized.calibration_ends))
    return native


def _shape(preprocessing: Preprocessing | None) -> tuple[int, int, int] | None:
    return None if preprocessing is None else (*preprocessing.size, preprocessing.channels)


def _first_images(calibration: Any, model: keras.Model, preprocessing: Preprocessing | None) -> np.ndarray:
    """Return (N, h, w, C) float32."""
    if preprocessing is not None:
        return collect_calibration(calibration, preprocessing, count=_IMAGES)
    images: list[np.ndarray] = []
    for batch in image_batches(calibration) if calibration is not None else ():
        expected = model.input_shape[1:]
        fits = batch.ndim == 4 and all(side in (None, n) for side, n in zip(expected, batch.shape[1:], strict=True))
        if not fits:
            raise ConversionError("calibration has another shape", expected=f"(N, {expected})", found=batch.shape)
        if not np.isfinite(batch.astype(np.float32)).all():
            raise ConversionError("calibration has values that are not finite")
        images += list(batch.astype(np.float32))
        if len(images) >= _IMAGES:
            break
    if not images:
        raise ConversionError("calibration is empty", expected="images as the model sees them")
    return np.stack(images[:_IMAGES])
