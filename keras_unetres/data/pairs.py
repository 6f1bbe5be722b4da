"""Images with their labels as `model.fit` takes them: arrays, `tf.data`, generators; normalised already, or not yet.

What a network sees is turned back into the pixels that it was made of, so that all is scored by one preprocessing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from unetres_edge import Card, Preprocessing
from unetres_edge.errors import DataError, UnetresError

from .arrays import class_folders_from_arrays, dataset_from_arrays
from .calibration import to_levels
from .dataset import Dataset
from .declaration import Reading
from .forms.layout import HELD_OUT

_MOST_BYTES = 4 << 30  # of images that are read before a stream of them is taken for endless
_EXPECTED = "a path, (images, masks), or batches of such as model.fit takes"


def dataset_of_pairs(data: Any, card: Card, reading: Reading | None = None, *, parted: bool = False) -> Dataset:
    """Return images with their labels as a data set of one part, "test".

    Args:
        data: (images, labels), a `tf.data.Dataset`, a `keras.utils.PyDataset`, or an iterable of such, in batches or
            one by one. Images are pixels, floats in [0, 1], or what the network sees; labels are class ids or one-hot.
        card: the model that is scored on them.
        reading: meaning of mask values.
        parted: seeded parts to train on instead.

    Raises:
        DataError: no images and labels, or images in a range that is neither.
    """
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    size = 0
    for image, label in _pairs(data, card):
        images.append(image)
        labels.append(_as_ids(label, card))
        size += image.nbytes
        if size > _MOST_BYTES:
            raise DataError("the data have no end, or do not fit into memory", fix="pass itertools.islice(data, N)")
    if not images:
        raise DataError("no images to score", expected=_EXPECTED)
    images = _as_pixels(images, card.preprocessing)
    parts = None if parted else [HELD_OUT] * len(images)
    if card.per_pixel:
        return dataset_from_arrays(images, labels, splits=parts, reading=reading)
    return class_folders_from_arrays(images, np.array(labels), splits=parts, classes=card.class_names, reading=reading)


def _pairs(data: Any, card: Card) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (image, label) one by one."""
    for element in _elements(data):
        parts = list(element.values()) if isinstance(element, dict) else element
        if not isinstance(parts, (tuple, list)) or len(parts) < 2:
            raise DataError("not images with their labels", expected=_EXPECTED, found=type(element).__name__)
        image, label = _array(parts[0]), _array(parts[1])
        grey_batch = image.ndim == 3 and card.preprocessing.channels == 1 and image.shape[-1] != 1
        if image.ndim == 4 or grey_batch:
            if len(label) != len(image):
                raise DataError("images and labels differ in number", expected=len(image), found=len(label))
            yield from zip(image, label, strict=True)
        elif image.ndim in (2, 3):
            yield image, label
        else:
            raise DataError("not images", expected="(H, W, C), or batches of such", found=image.shape)


def _elements(data: Any) -> Iterator[Any]:
    """Yield what data of any form hold, with what the caller's own code raises named."""
    if isinstance(data, (tuple, list)) and len(data) in (2, 3) and not isinstance(data[0], (tuple, dict)):
        yield data
        return
    if hasattr(data, "as_numpy_iterator"):
        if getattr(data.cardinality(), "numpy", int)() == -1:  # tf.data.INFINITE_CARDINALITY
            raise DataError("the data set has no end", fix="pass data.take(N)")
        data = data.as_numpy_iterator()
    elif (
        hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, (Sequence, np.ndarray, dict))
    ):
        data = map(data.__getitem__, range(len(data)))  # keras.utils.PyDataset
    elif isinstance(data, (str, bytes, dict, np.ndarray)) or not isinstance(data, Iterable):
        raise DataError("not images with their labels", expected=_EXPECTED, found=type(data).__name__)
    elements = iter(data)
    for number in itertools.count(1):
        try:
            element = next(elements)
        except StopIteration:
            return
        except UnetresError:
            raise
        except Exception as error:  # of the caller's own code
            raise DataError(
                f"the data cannot be read: {type(error).__name__}: {error}", found=f"in batch {number}"
            ) from error
        yield element


def _array(values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except Exception as error:
        raise DataError("not images with their labels", expected=_EXPECTED, found=type(values).__name__) from error
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise DataError("not images with their labels", expected=_EXPECTED, found=f"values of {array.dtype}")
    return array


def _as_ids(label: np.ndarray, card: Card) -> np.ndarray:
    """Return class ids: one-hot labels and ids in floats are taken for what they are, others left for the reader."""
    rank = 3 if card.per_pixel else 1
    is_one_hot = label.ndim == rank and label.shape[-1] == len(card.class_names) > 1 and np.isin(label, (0, 1)).all()
    if is_one_hot and (label.sum(-1) == 1).all():
        return label.argmax(-1)
    if label.ndim == rank and label.shape[-1] == 1:
        label = label[..., 0]
    if label.dtype.kind == "b" or (
        label.dtype.kind == "f" and (label == np.rint(label)).all() and np.abs(label).max() < 2**31
    ):
        return label.astype(np.int64)
    return label


def _as_pixels(images: list[np.ndarray], pre: Preprocessing) -> list[np.ndarray]:
    """Return images as a folder would hold them: uint8 and uint16 as they are, floats as the levels they stand for.

    Raises:
        DataError: floats that may be pixels as well as what the network sees, or are neither.
    """
    if all(image.dtype.kind in "iu" for image in images):
        few = all(image.min() >= 0 and image.max() <= 255 for image in images)
        return [image.astype(np.uint8) for image in images] if few else images
    images = [image.astype(np.float32) for image in images]
    low, high = min(float(image.min()) for image in images), max(float(image.max()) for image in images)
    table = pre.table()
    step = float(np.abs(table[1] - table[0]).max())
    least, most = float(table.min()) - step / 2, float(table.max()) + step / 2
    seen, whole = least <= low and high <= most, all((image == np.rint(image)).all() for image in images)
    if low >= 0 and high <= 1 and not (seen and most > 2 and least > -most / 4):
        return images  # floats in [0, 1], which the reader takes for pixels
    if low >= 0 and 1 < high <= 255 and whole:
        return [image.astype(np.uint8) for image in images]
    if not seen or (low >= 0 and high <= 1) or pre.per_image is not None:
        raise DataError(
            "images are in a range that does not tell what they are",
            expected=f"pixels 0..255, floats in 0..1, or what the network sees, {table.min():.4g}..{table.max():.4g}",
            found=f"{low:.4g}..{high:.4g}",
            fix="pass the pixels, uint8",
        )
    return [_undone(image, pre) for image in images]


def _undone(image: np.ndarray, pre: Preprocessing) -> np.ndarray:
    """Return the pixels, uint8, that preprocessing has turned into what a network sees."""
    levels = np.rint(to_levels(image if image.ndim == 3 else image[..., None], pre)).astype(np.uint8)
    return levels[..., ::-1] if pre.color_order == "bgr" else levels
