"""Class folders that hold masks: a data set for a segmenter that was taken for one of a classifier."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from unetres_edge.errors import Fix

from ..data.findings import Finding, Where, relative
from .summaries import DatasetSummary, ImageSummary

_SHARE = 0.8  # of the images of two values that have the name of another image, so that these are masks
_FEWEST = 3
_OF_MASKS = ("annot", "gt", "label", "mask", "seg", "truth")  # in names of folders
_FIX = Fix("for a segmenter, put the images into images/ and their masks, of the same names, into masks/")


def find_masks(summary: DatasetSummary) -> Iterator[Finding]:
    """Yield a fault if images of two values are named after images of more: `a.png` beside `a_mask.png`."""
    if summary.dataset.task != "classify":
        return
    seen = [image for image in summary.images if image.content]
    pictures = {_stem(image) for image in seen if not image.two_values}
    two_values = [image for image in seen if image.two_values]
    masks = [image for image in two_values if _is_named_after(image, pictures)]
    if len(masks) < max(_FEWEST, _SHARE * len(two_values)):
        return
    base = summary.dataset.base
    example = relative(masks[0].sample.image.file, base)
    figures = {"masks": len(masks), "images": len(seen), "example": example}
    yield Finding("mask-like", Where(relative(base, base)), figures, _FIX)


def _stem(image: ImageSummary) -> str:
    return PurePath(image.sample.name).stem


def _is_named_after(image: ImageSummary, pictures: set[str]) -> bool:
    """Whether a name is that of a picture with a word or two behind it ("a_mask", "a_mask_1").

    The same name alone says nothing, as the images of every class may be numbered, except in a folder called "masks".
    """
    words = _stem(image).split("_")
    folder = PurePath(image.sample.name).parent.name.lower()
    same = _stem(image) in pictures and any(word in folder for word in _OF_MASKS)
    return same or any("_".join(words[:end]) in pictures for end in range(max(1, len(words) - 2), len(words)))
