"""Masks of several channels, each 0 where it is not and another number where it is the class of a pixel (one-hot).

Where every pixel of all masks has a channel, the channels are the classes 0, 1, ...; else what has none is class 0, and
the channels are 1, 2, ... Which of the two is decided over the masks of a data set, not by each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unetres_edge.errors import MaskError, UnetresError
from unetres_edge.files import read_bytes
from unetres_edge.images import tiff
from unetres_edge.images.decode import read_image

from .sources import ImageFile, MaskFile, Sample, Source, file_digest

MOST_CLASSES = 255
_LOOKED_AT = 32  # masks, spread over all


def are_channels(values: np.ndarray) -> bool:
    """Whether each channel of a mask (H, W, C) has no other values than 0 and one more, the same in all."""
    return values.ndim == 3 and values.shape[-1] > 1 and len(np.unique(values[values != 0])) <= 1


def number_objects(values: np.ndarray) -> bool:
    """Whether each channel of a mask (H, W, C) numbers objects of a class, and no pixel has two, as PanNuke's do.

    Bytes of three or four channels are not, which may be colours.
    """
    colors = values.dtype == np.uint8 and values.shape[-1] in (3, 4)
    if values.ndim != 3 or values.shape[-1] < 2 or colors:
        return False
    whole = values.dtype.kind in "iu" or bool((values == np.floor(values)).all())
    return whole and bool((values >= 0).all()) and int((values != 0).sum(-1).max(initial=0)) == 1


def has_rest(values: np.ndarray) -> bool:
    """Whether a mask (H, W, C) has pixels of no channel."""
    return not bool((values != 0).any(-1).all())


def class_ids(values: np.ndarray, rest: bool, file: Path) -> np.ndarray:
    """Return the class ids (H, W) uint8 of a one-hot mask (H, W, C).

    Args:
        rest: whether pixels of no channel are class 0, and the channels 1, 2, ...

    Raises:
        MaskError: not one-hot: other values, or pixels of several channels, or of none where each should have one.
    """
    expected = "channels of 0 and one other number, of which each pixel has one"
    if not (are_channels(values) or number_objects(values)) or values.shape[-1] >= MOST_CLASSES:
        levels = np.unique(values)
        found = f"{values.shape[-1]} channels of {len(levels)} values, from {levels[0]:g} to {levels[-1]:g}"
        one_class = "if each channel is a class, save the number of the largest one: masks.argmax(-1)"
        fix = one_class + ("" if len(levels) < 3 else "; if one of them holds class ids, or numbers objects, save it")
        fix += "" if len(levels) < 3 else " alone: masks[..., 0]"
        raise MaskError("a mask of several channels", file=file, expected=expected, found=found, fix=fix)
    channels = (values != 0).sum(-1)
    if channels.max() > 1:
        raise MaskError(
            "the channels of a mask overlap",
            file=file,
            expected=expected,
            found=f"{int((channels > 1).sum())} px of several channels",
            fix="save class ids, in which each pixel has one class: mask = numpy.zeros(...); mask[channel] = id",
        )
    if not rest and channels.min() == 0:
        raise MaskError(
            "pixels of a mask have no channel, as those of no other mask that was looked at",
            file=file,
            expected=expected,
            found=f"{int((channels == 0).sum())} px of none",
            fix="set a channel in every pixel, or leave the mask out",
        )
    ids: np.ndarray = (values != 0).argmax(-1).astype(np.uint8)
    return np.where(channels > 0, ids + 1, 0).astype(np.uint8) if rest else ids


@dataclass(frozen=True)
class OneHotFile(Source):
    """A TIFF whose channels or pages are classes; gives class ids (H, W) uint8."""

    file: Path
    rest: bool = False

    def read(self) -> np.ndarray:
        return class_ids(read_image(self.file, stacked=True), self.rest, self.file)

    def digest(self) -> str:
        return hashlib.sha256(f"one-hot {self.rest} {file_digest(self.file)}".encode()).hexdigest()


def with_one_hot(samples: Mapping[str, list[Sample]]) -> tuple[dict[str, list[Sample]], str]:
    """Return samples whose masks are read as one-hot where the first of them is, and a sentence on it or ""."""
    masks = [s.target for part in samples.values() for s in part if isinstance(s.target, MaskFile)]
    first = next((mask for mask in masks if mask.page is None and mask.file.suffix.lower() in (".tif", ".tiff")), None)
    if first is None or not _has_channels(first.file):
        return dict(samples), ""
    rest = decide_rest(OneHotFile(mask.file) for mask in spread(masks))

    def changed(sample: Sample) -> Sample:
        is_file = isinstance(sample.target, MaskFile) and isinstance(sample.image, ImageFile)
        return replace(sample, target=OneHotFile(sample.target.file, rest)) if is_file else sample

    return {part: [changed(sample) for sample in of_part] for part, of_part in samples.items()}, note(rest)


def note(rest: bool) -> str:
    """Return what the channels of masks are, in words."""
    which = "1, 2, ..., and pixels of none are class 0" if rest else "0, 1, ..."
    return f"the channels of masks (one-hot) are classes {which}"


def spread(masks: list[MaskFile]) -> list[MaskFile]:
    """Return some masks, spread over all."""
    return masks[:: -(-len(masks) // _LOOKED_AT)] if masks else []


def decide_rest(masks: Iterable[OneHotFile]) -> bool:
    """Whether any of some masks has pixels of no channel; those that cannot be read say nothing."""
    for mask in masks:
        try:
            if has_rest(read_image(mask.file, stacked=True)):
                return True
        except (UnetresError, ValueError):
            continue
    return False


def _has_channels(file: Path) -> bool:
    """Whether a TIFF has several channels or pages that are no colours, and they are 0 and one other number."""
    try:
        data = read_bytes(file)
        if not tiff.is_tiff(data):
            return False
        page = tiff.find_page(data, 0)[0]
        if tiff.count_pages(data) == 1 and (page.samples < 2 or page.photometric not in (0, 1)):
            return False
        return are_channels(read_image(file, stacked=True))
    except Exception:  # damaged files are named when they are read
        return False
