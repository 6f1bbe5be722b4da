"""Calibration images: checked before the converter sees them, because it dies of bad numbers or makes a bad file."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from unetres_edge.errors import ConversionError, UnetresError, UsageError
from unetres_edge.images.preprocessing import Preprocessing

from .coverage import choose_for_coverage

CALIBRATION_IMAGES = 128
_MOST_CANDIDATES = 1024
_MOST_BYTES = 1 << 28  # of candidates, in float32
_OFF_LEVEL = 0.01  # of a level; float32 is exact to 1e-4 of one
_EXAMINED = 64  # images whose levels are looked at one by one
_OTHER_RANGES = {"0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0), "0..255": (0.0, 255.0)}


def collect_calibration(
    calibration: Any, preprocessing: Preprocessing, *, count: int = CALIBRATION_IMAGES
) -> np.ndarray:
    """Return calibration images (N, h, w, C) float32 as the network sees them.

    Args:
        calibration: images, as `image_batches` takes them. At most the first 1024 images are looked at.
        preprocessing: preparation of images for the network; nothing else can have made the values.
        count: number of images to keep; of more, those that cover the most (`choose_for_coverage`).

    Raises:
        UsageError: none given, or something that holds no images.
        ConversionError: images that cannot be what this network sees, or that tell no ranges.
    """
    if calibration is None:
        raise UsageError(
            "the recipe needs calibration images", fix="pass calibration=dataset, images as the model sees them"
        )
    shape = (*preprocessing.size, preprocessing.channels)
    most = max(count, min(_MOST_CANDIDATES, _MOST_BYTES // (4 * int(np.prod(shape)))))
    images: list[np.ndarray] = []
    for batch in image_batches(calibration):
        images += list(_checked(batch, shape, preprocessing))
        if len(images) >= most:
            break
    if not images:
        raise ConversionError("calibration is empty", expected="at least two different images")
    values = np.stack(images[:most])
    _check_range(values, preprocessing)
    _check_variety(values)
    return values[choose_for_coverage(values, count)]


def image_batches(calibration: Any) -> Iterator[np.ndarray]:
    """Yield batches of images as arrays of rank 4; what the user's own code raises is named.

    Args:
        calibration: an array (N, h, w, C); a data set or generator of batches, of single images, of (images, ...)
            tuples as `model.fit` takes them or of {name: images}; or a function that returns one, such as the
            `representative_dataset` of TFLiteConverter.

    Raises:
        UsageError: something that holds no images.
        ConversionError: the user's own code raised.
    """
    if callable(calibration) and not isinstance(calibration, Iterable):
        calibration = _called(calibration)
    if isinstance(calibration, np.ndarray) or hasattr(calibration, "__array__"):
        calibration = [calibration]
    elif isinstance(calibration, (str, bytes, dict)) or not isinstance(calibration, Iterable):
        raise UsageError(
            "calibration holds no images",
            expected="an array (N, h, w, C), or batches of such",
            found=type(calibration).__name__,
        )
    batches = iter(calibration)
    for number in itertools.count(1):
        try:
            batch = next(batches)
            if isinstance(batch, Mapping) and len(batch) == 1:
                batch = next(iter(batch.values()))
            if isinstance(batch, (tuple, list)) and len(batch):
                batch = batch[0]
            batch = np.asarray(batch)
        except StopIteration:
            return
        except UnetresError:
            raise
        except Exception as error:  # a generator of the user's raises what it likes
            raise ConversionError(
                f"calibration cannot be read: {type(error).__name__}: {error}", found=f"in batch {number}"
            ) from error
        yield batch[None] if batch.ndim == 3 else batch


def _called(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:  # a function of the user's raises what it likes
        raise ConversionError(f"calibration cannot be read: {type(error).__name__}: {error}") from error


def _checked(batch: np.ndarray, shape: tuple[int, int, int], pre: Preprocessing) -> np.ndarray:
    """Return a batch as float32 if its form is right."""
    if batch.dtype.kind not in "fiu" or batch.dtype.itemsize > 8:
        raise ConversionError("calibration has another dtype", expected="float32", found=batch.dtype)
    if batch.ndim != 4 or batch.shape[1:] != shape:
        raise ConversionError("calibration has another shape", expected=f"(N, {shape})", found=batch.shape)
    if batch.dtype.kind in "iu" and not _sees_levels(pre):
        raise ConversionError(
            "calibration is whole numbers, which this network does not see",
            expected=f"float32 in {_range(pre)}",
            found=batch.dtype,
            fix="pass preprocessing.normalise(images)",
        )
    with np.errstate(over="ignore"):  # what is too large for float32 is infinite, and named so
        values = batch.astype(np.float32)
    bad = int((~np.isfinite(values)).any((1, 2, 3)).sum())
    if bad:
        raise ConversionError("calibration has values that are not finite", found=f"{bad} such images")
    return values


def _sees_levels(pre: Preprocessing) -> bool:
    """Whether the network sees the uint8 levels as they are."""
    return bool((pre.table() == np.arange(256, dtype=np.float32)[:, None]).all())


def _range(pre: Preprocessing) -> str:
    table = pre.table()
    return f"{table.min():.4g}..{table.max():.4g}"


def check_range(low: float, high: float, pre: Preprocessing, *, of_images: bool = False) -> None:
    """Refuse an int8 range of a network's input that was not found on images after this preprocessing.

    Args:
        low, high: the range, which holds 0; or the least and the largest value of the images themselves.
        of_images: whether images are meant, and not values.
        pre: preparation of images for the network.

    Raises:
        ConversionError: it holds what no image can be, or a small part of what images are.
    """
    table = pre.table()
    least, most = float(table.min()), float(table.max())
    width = most - least
    below, above = low < least - 0.05 * width - abs(least) * 1e-3, high > most + 0.05 * width
    beyond = below and (of_images or least < 0) or above and (of_images or most > 0)
    low, high = min(low, 0.0), max(high, 0.0)
    one_sided = low >= 0 and least < -0.25 * width
    if beyond or one_sided or min(high, most) - max(low, least) < width / 16:
        raise ConversionError(
            "the network was made quantization-aware with images of another range",
            expected=_range(pre),
            found=f"{low:.4g}..{high:.4g}",
            fix="pass quantize_aware(..., preprocessing=), which checks its calibration images, and train again",
        )


def _check_range(values: np.ndarray, pre: Preprocessing) -> None:
    """Refuse values that no image has after this preprocessing."""
    table = pre.table()
    step = table[1] - table[0]
    least, most = values.min((0, 1, 2)), values.max((0, 1, 2))
    found = f"{least.min():.4g}..{most.max():.4g}"
    if (least < table[0] - step / 2).any() or (most > table[255] + step / 2).any():
        raise ConversionError(
            "calibration is outside of what an image can be for this network",
            expected=_range(pre),
            found=found,
            fix=_advice(least.min(), most.max()),
        )
    some = values[np.linspace(0, len(values) - 1, min(_EXAMINED, len(values))).astype(int)]
    if _on_levels((some - table[0]) / step):
        return
    for name, (low, high) in _OTHER_RANGES.items():
        if least.min() < low or most.max() > high:
            continue
        # Images that are all on the brighter side of the middle alone are those of a range that begins there.
        one_sided = low == 0 and table.min() < -0.25 * np.ptp(table)
        if one_sided or _on_levels((some - low) * (255 / (high - low))):
            raise ConversionError(
                "calibration was made by other preprocessing",
                expected=f"values in {_range(pre)}",
                found=f"{found}, as images in {name} have",
                fix="pass preprocessing.normalise(images)",
            )


def _on_levels(levels: np.ndarray) -> bool:
    """Whether all but a few values are whole levels."""
    return bool((np.abs(levels - np.rint(levels)) > _OFF_LEVEL).mean() < 0.01)


def _advice(low: float, high: float) -> str:
    if low >= 0 and 1 < high <= 255:
        return "these look like pixels of 0..255: pass preprocessing.normalise(images)"
    return "make them by preprocessing.normalise, as training does"


def _check_variety(values: np.ndarray) -> None:
    if values.min() == values.max():
        raise ConversionError("calibration images are constant", found=f"every value is {values.flat[0]:g}")
    if (values == values[:1]).all():
        raise ConversionError(
            "calibration is one image, which tells no ranges",
            expected="at least two different images, better a hundred",
            found=f"{len(values)} times the same",
        )


def to_levels(images: np.ndarray, pre: Preprocessing) -> np.ndarray:
    """Return the pixel levels 0..255, float32 and not rounded, of images that preprocessing has normalised."""
    table = pre.table()
    return np.clip((images - table[0]) / (table[1] - table[0]), 0, 255).astype(np.float32)
