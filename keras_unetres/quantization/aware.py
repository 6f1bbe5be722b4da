"""Quantization-aware copies of trained networks: fold, find ranges, insert fake quantization.

`quantize_aware` joins the steps: `folding` and `ranges`, then either `native`, which stays inside Keras 3, or
`tfmot.engine`, which trains with tensorflow-model-optimization and comes back by `to_keras`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.errors import ConversionError, UsageError

from ..choices.quantization import ENGINES
from ..settings import QuantizeSettings
from .folding import fold
from .native import build_native, set_ranges
from .ranges import find_ranges

if TYPE_CHECKING:
    import keras

_IMAGES = 64


def quantize_aware(
    model: keras.Model,
    calibration: Any,
    *,
    engine: str = QuantizeSettings.engine,
    ranges: str = QuantizeSettings.ranges,
    keep_zeros: bool = QuantizeSettings.keep_zeros,
) -> Any:
    """Return a copy of a trained network that computes as its int8 file will, for an ordinary `compile` and `fit`.

    BatchNormalization is folded into the convolutions with the statistics it has, kernels are rounded to 8 bits with
    a scale for each output channel (one for all in transposed convolutions and dense layers), activations to 8 bits
    in ranges that the calibration images show. Train it for a short while at a low rate, such as 1e-4, then
    `export_tflite` it with the recipe "static_wi8_ai8" (which alone traces it as the converter has to see it). What it
    answers at inference is what the file answers on a processor, but for one value in many millions.

    Args:
        model: any flat functional Keras 3 model of layers that have an int8 form; it is not changed.
        calibration: images as the model sees them: an array (N, h, w, C), or batches of images or of (images, ...)
            tuples. The first 64 are used.
        engine: "native" gives a Keras 3 model, which is what run folders keep and `export_tflite` takes. "tfmot" gives
            a tf_keras model of tensorflow-model-optimization, with ranges that go on moving. Its `compile` and `fit`
            take losses, metrics and callbacks of Keras 3; `to_keras` then turns it into the first form.
        ranges: how the ranges are found, see `find_ranges`.
        keep_zeros: weights that are 0, as after pruning, stay 0.

    Raises:
        UsageError: a layer has no int8 form, it is named; or an unknown engine or estimator.
        ConversionError: calibration images that are none, of another shape, or not finite.
    """
    if engine not in ENGINES:
        raise UsageError("the engine is unknown", expected=" or ".join(ENGINES), found=engine)
    folded = fold(model)
    found = find_ranges(folded, _first_images(calibration, model), method=ranges)
    if engine == "native":
        quantized = build_native(folded, keep_zeros=keep_zeros)
        set_ranges(quantized, found)
        return quantized
    from .tfmot.engine import quantize_tfmot

    trained = quantize_tfmot(folded, found, keep_zeros=keep_zeros)
    trained.folded = folded  # of which `to_keras` makes the native form
    trained.keeps_zeros = keep_zeros
    return trained


def to_keras(quantized: Any) -> keras.Model:
    """Return the Keras 3 form of what `quantize_aware` gave for any engine.

    Weights and ranges are the same. Its answers are those of the file, where the engine "tfmot" sums in float.
    """
    folded = getattr(quantized, "folded", None)
    if folded is None:
        return quantized
    from .tfmot.engine import to_native

    return to_native(quantized, folded, keep_zeros=quantized.keeps_zeros)


def _first_images(calibration: Any, model: keras.Model) -> np.ndarray:
    """Return (N, h, w, C) float32."""
    batches = [calibration] if isinstance(calibration, np.ndarray) else calibration
    images: list[np.ndarray] = []
    for batch in batches if batches is not None else ():
        first = np.asarray(batch[0] if isinstance(batch, (tuple, list)) else batch)
        expected = model.input_shape[1:]
        fits = first.ndim == 4 and all(own in (None, n) for own, n in zip(expected, first.shape[1:], strict=True))
        if not fits:
            raise ConversionError("calibration has another shape", expected=f"(N, {expected})", found=first.shape)
        if not np.isfinite(first.astype(np.float32)).all():
            raise ConversionError("calibration has values that are not finite")
        images += list(first.astype(np.float32))
        if len(images) >= _IMAGES:
            break
    if not images:
        raise ConversionError("calibration is empty", expected="images as the model sees them")
    return np.stack(images[:_IMAGES])
