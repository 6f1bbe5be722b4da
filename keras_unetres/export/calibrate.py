"""Calibration data: checked before the converter sees it, because the converter dies on bad numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from unetres_edge.errors import ConversionError, UsageError

_MOST_IMAGES = 256


def collect_calibration(calibration: Any, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the calibration images (N, h, w, C) float32 as the network sees them.

    Args:
        calibration: an array (N, h, w, C), or batches of images, or (images, ...) tuples as `model.fit` takes them.
            The first 256 images are used.
        shape: (h, w, C) of the network's input.

    Raises:
        UsageError: none given.
        ConversionError: another shape, values that are not finite, or every pixel the same.
    """
    if calibration is None:
        raise UsageError(
            "the recipe needs calibration images", fix="pass calibration=dataset, images as the model sees them"
        )
    images: list[np.ndarray] = []
    for batch in _batches(calibration):
        if batch.ndim != 4 or batch.shape[1:] != shape:
            raise ConversionError("calibration has another shape", expected=f"(N, {shape})", found=batch.shape)
        images += list(batch.astype(np.float32))
        if len(images) >= _MOST_IMAGES:
            break
    if not images:
        raise ConversionError("calibration is empty", expected="at least one image")
    values = np.stack(images[:_MOST_IMAGES])
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).any((1, 2, 3)).sum())
        raise ConversionError("calibration has values that are not finite", found=f"{bad} such images")
    if values.min() == values.max():
        raise ConversionError("calibration images are constant", found=f"every value is {values.flat[0]:g}")
    return values


def _batches(calibration: Any) -> Iterable[np.ndarray]:
    if isinstance(calibration, np.ndarray):
        yield calibration
        return
    for batch in calibration:
        if isinstance(batch, (tuple, list)):
            batch = batch[0]
        batch = np.asarray(batch)
        yield batch[None] if batch.ndim == 3 else batch
