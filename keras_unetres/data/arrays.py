"""Data sets from Python: arrays, and any `tf.data.Dataset` of images and masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.errors import DataError, MaskError

from ..choices.reading import SPLITS
from ..choices.tasks import CLASSIFY
from .dataset import Dataset, make_dataset
from .declaration import Reading
from .forms.layout import HELD_OUT, UNPARTED, Layout
from .sources import ArraySource, ClassId, Sample

if TYPE_CHECKING:
    import tensorflow as tf


def dataset_from_arrays(
    images: Sequence[np.ndarray] | np.ndarray,
    masks: Sequence[np.ndarray] | np.ndarray,
    *,
    instances: Sequence[np.ndarray] | np.ndarray | None = None,
    weights: Sequence[np.ndarray] | np.ndarray | None = None,
    names: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    reading: Reading | None = None,
) -> Dataset:
    """Return a data set of arrays, to be given to `train`, `evaluate` or `read_records`.

    Args:
        images: N of (H, W) or (H, W, C), uint8, uint16, or float in [0, 1]. Sizes may differ.
        masks: N of (H, W) or (H, W, 1) integers: class ids, or instance ids if the reading says so.
        instances: N of (H, W) integers, 0 for no object, or None.
        weights: N of (H, W) float, the weight of each pixel in the loss, or None.
        names: N different names; None for "0000", "0001", ...
        splits: "train", "val" or "test" for each; None for seeded parts, or those of the reading's globs.
        classes: names of the classes, or None if the masks decide.
        reading: meaning of mask values, and the way in which parts are made.

    Raises:
        DataError: lengths, shapes or dtypes that do not fit.
    """
    arguments: dict[str, Any] = {
        "images": images,
        "masks": masks,
        "instances": instances,
        "weights": weights,
        "names": names,
    }
    arguments |= {"splits": splits, "classes": classes}
    for what, values in arguments.items():
        if not _is_list(values) and (values is not None or what in ("images", "masks")):
            raise DataError(f"{what} is wrong", expected="a list or an array", found=type(values).__name__)
    if not isinstance(reading, (Reading, NoneType)):
        raise DataError("reading is wrong", expected="Reading(...)", found=type(reading).__name__)
    count = len(images)
    for what in ("masks", "instances", "weights", "names"):
        if arguments[what] is not None and len(arguments[what]) != count:
            raise DataError(f"{what} and images differ in number", expected=count, found=len(arguments[what]))
    if splits is not None and (len(splits) != count or not set(splits) <= {*SPLITS, HELD_OUT}):
        raise DataError("splits is wrong", expected=f"{count} of {', '.join(SPLITS)}", found=list(splits)[:8])
    called = [f"{i:04d}" for i in range(count)] if names is None else list(map(str, names))
    if count == 0 or len(set(called)) != count:
        raise DataError("no images, or two of one name", expected="different names", found=f"{count} images")
    layout = Layout(names=None if classes is None else tuple(map(str, classes)))
    for index, name in enumerate(called):
        sample = Sample(
            name,
            ArraySource(Path(name), _image(images[index], name)),
            ArraySource(Path(name), _flat(masks[index], name, "a mask")),
            None if instances is None else ArraySource(Path(name), _flat(instances[index], name, "an instance map")),
            None if weights is None else ArraySource(Path(name), _weights(weights[index], name)),
        )
        layout.samples.setdefault(UNPARTED if splits is None else splits[index], []).append(sample)
    return make_dataset(layout, "arrays", reading or Reading())


def class_folders_from_arrays(
    images: Sequence[np.ndarray] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    *,
    classes: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    reading: Reading | None = None,
) -> Dataset:
    """Return a data set of arrays for a classifier, to be given to `train` or `evaluate`.

    Args:
        images: N of (H, W) or (H, W, C), uint8, uint16, or float in [0, 1]. Sizes may differ.
        labels: (N,) class ids from 0.
        classes: names of the classes; None for "0", "1", ...
        names: N different names of the images; None for "00000", "00001", ...
        splits: "train", "val" or "test" for each; None for seeded parts, or those of the reading's globs.
        reading: way in which parts are made.

    Raises:
        DataError: lengths, shapes, dtypes or ids that do not fit.
    """
    ids = np.asarray(labels)
    if ids.ndim != 1 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer) or ids.min() < 0:
        found = f"{ids.dtype} of shape {ids.shape}"
        raise DataError("labels are wrong", expected="(N,) class ids, whole numbers from 0", found=found)
    count = int(ids.max()) + 1 if classes is None else len(classes)
    if ids.max() >= count:
        raise DataError("labels are wrong", expected=f"ids below {count}, one a class", found=int(ids.max()))
    called = [f"{i:05d}" for i in range(len(ids))] if names is None else list(map(str, names))
    for what, values in (("images", images), ("names", called), ("splits", splits)):
        if values is not None and len(values) != len(ids):
            raise DataError(f"{what} and labels differ in number", expected=len(ids), found=len(values))
    if len(set(called)) != len(called) or (splits is not None and not set(splits) <= {*SPLITS, HELD_OUT}):
        raise DataError("names or splits are wrong", expected=f"different names; splits of {', '.join(SPLITS)}")
    layout = Layout(task=CLASSIFY.name, names=tuple(map(str, range(count) if classes is None else classes)))
    for index, (name, class_id) in enumerate(zip(called, ids.tolist(), strict=True)):
        sample = Sample(name, ArraySource(Path(name), np.asarray(images[index])), ClassId(Path(name), class_id))
        layout.samples.setdefault(UNPARTED if splits is None else splits[index], []).append(sample)
    return make_dataset(layout, "arrays", reading or Reading())


def dataset_from_tf(
    data: tf.data.Dataset,
    *,
    classes: Sequence[str] | None = None,
    reading: Reading | None = None,
    limit: int | None = None,
) -> Dataset:
    """Return a data set of what a `tf.data.Dataset` yields, read once into memory.

    Args:
        data: a data set of (image, mask) or (image, mask, weight), or of dicts with "image", "mask" (or
            "segmentation_mask") and perhaps "weight"; one example each, or batches.
        classes: as `dataset_from_arrays`.
        reading: as `dataset_from_arrays`.
        limit: the largest number of examples; None for all, which must be finitely many.

    Raises:
        DataError: other elements, an endless data set without a limit, or arrays that do not fit.
    """
    import tensorflow as tf

    if not isinstance(data, tf.data.Dataset):
        raise DataError("not a tf.data.Dataset", found=type(data).__name__, fix="dataset_from_arrays takes arrays")
    if limit is not None and limit < 1:
        raise DataError("limit is wrong", expected="at least 1", found=limit)
    if limit is None and int(data.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise DataError("the data set has no end", fix="pass limit=N")
    images: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    try:
        for element in data.as_numpy_iterator():
            image, mask, weight = _parts(element)
            for what, target, value in (
                ("images", images, image),
                ("masks", masks, mask),
                ("weights", weights, weight),
            ):
                if value is not None:
                    target.extend(_single(value, what, image))
            if limit is not None and len(images) >= limit:
                images, masks, weights = images[:limit], masks[:limit], weights[:limit]
                break
    except (tf.errors.OpError, TypeError) as error:  # in a function of the data set, or of ragged elements
        raise DataError(f"the data set cannot be read: {str(error).splitlines()[0]}") from error
    return dataset_from_arrays(images, masks, weights=weights or None, classes=classes, reading=reading)


def _is_list(values: Any) -> bool:
    if isinstance(values, np.ndarray):
        return values.ndim > 0
    return isinstance(values, Sequence) and not isinstance(values, (str, bytes))


def _parts(element: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    if isinstance(element, dict):
        mask = next((element[key] for key in ("mask", "segmentation_mask") if key in element), None)
        image, weight = element.get("image"), element.get("weight")
    elif isinstance(element, tuple) and len(element) in (2, 3):
        image, mask, weight = (*element, None)[:3]
    else:
        image = mask = weight = None
    if image is None or mask is None:
        raise DataError("elements are not images and masks", expected="(image, mask), or a dict with both")
    return np.asarray(image), np.asarray(mask), None if weight is None else np.asarray(weight)


def _single(values: np.ndarray, what: str, images: np.ndarray) -> Sequence[np.ndarray]:
    """Return the examples of an element, which is a batch if its images are (N, H, W, C)."""
    if images.ndim != 4:
        return [values]
    if values.ndim < 3 or len(values) != len(images):
        raise DataError(f"{what} and images of a batch differ in number", expected=len(images), found=values.shape)
    return list(values)


def _image(values: Any, name: str) -> np.ndarray:
    values = _array(values, name, "an image")
    right = values.ndim in (2, 3) and 0 not in values.shape
    if not right or values.dtype not in (np.uint8, np.uint16, np.float16, np.float32, np.float64):
        found = f"{values.dtype} of shape {values.shape}"
        expected = "(H, W) or (H, W, C) of uint8, uint16, or float in [0, 1]"
        raise DataError("array is not an image", file=name, expected=expected, found=found)
    if values.dtype.kind == "f" and not (values.min() >= 0 and values.max() <= 1):
        found = f"{values.min():g}..{values.max():g}"
        raise DataError("float image is outside [0, 1]", file=name, expected="finite values in [0, 1]", found=found)
    return values


def _array(values: Any, name: str, what: str) -> np.ndarray:
    """Return values as an array, one channel without its axis."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"array is not {what}", file=name, expected="numbers in rows", found="ragged rows") from error
    return array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array


def _flat(values: Any, name: str, what: str) -> np.ndarray:
    values = _array(values, name, what)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        found = f"{values.dtype} of shape {values.shape}"
        one_hot = values.ndim == 3 and what == "a mask"
        fix = "masks.argmax(-1), if each channel is a class" if one_hot else "masks.astype(int), if all are whole"
        raise MaskError(f"array is not {what}", file=name, expected="(H, W) integers", found=found, fix=fix)
    if values.size and (values.min() < -(2**31) or values.max() >= 2**31):
        raise MaskError("mask values outside 32 bits", file=name, found=f"{values.min()}..{values.max()}")
    return values


def _weights(values: Any, name: str) -> np.ndarray:
    values = _array(values, name, "a map of weights")
    right = values.ndim == 2 and values.size > 0 and values.dtype.kind in "fiu"
    if not right or not np.isfinite(values).all() or values.min() < 0:
        found = f"{values.dtype} of shape {values.shape}"
        raise DataError("array is not a map of weights", file=name, expected="(H, W), finite, at least 0", found=found)
    return values.astype(np.float32)
