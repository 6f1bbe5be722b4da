"""What tells a mask from a picture: words in its name, and how few values its pixels have."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from unetres_edge.images.decode import HEADER_FORMATS

from .layout import key_of

# Names of folders that say "masks". Alone they decide nothing: "mask" may be a class of faces.
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annots", "annot", "gt", "gtfine", "ground_truth"),
    *("groundtruth", "targets", "segmentation", "segmentations", "seg", "1st_manual", "manual"),
)
_WORDS = "mask|masks|label|labels|gt|groundtruth|ground_truth|seg|segmentation|annotation|anno|matte|1stho|manual1"
_MASK_NAME = re.compile(rf"(.+?)(?:[ _.-]+cp)?[ _.-]+(?:{_WORDS})(?:[ _-]?\d+)?")
_PICTURE_NAME = re.compile(r"(.+?)[ _.-]+(?:img|image|sat|rgb|leftimg8bit)")
_MASK_ALONE = re.compile(rf"(?:{_WORDS})(?:[ _-]?\d+)?")
_SECOND_RATERS = ("_2ndho", "_manual2")
_DRAWINGS = ("_viz", "_overlay", "_vis", "_color")
_MOST_VALUES = 32  # of a mask of classes
_LOOKED_AT = 5  # files of a folder


def partner_of(stem: str) -> str | None:
    """Return the name of the picture that a mask's name starts with: "a" of "a_mask" and "a_mask_1", else None."""
    match = _MASK_NAME.fullmatch(key_of(stem))
    return match.group(1) if match else None


def picture_of(stem: str) -> str:
    """Return the name of a picture without what says that it is one: "a" of "a_img" and "a_sat"."""
    match = _PICTURE_NAME.fullmatch(key_of(stem))
    return match.group(1) if match else key_of(stem)


def is_mask_alone(stem: str) -> bool:
    """Whether a file is the mask of whatever else lies in its folder: "mask" beside "image"."""
    return _MASK_ALONE.fullmatch(key_of(stem)) is not None


def is_second_rater(stem: str) -> bool:
    """Whether a mask is of a second person, beside that of the first: "a_2ndHO" beside "a_1stHO"."""
    return key_of(stem).endswith(_SECOND_RATERS)


def is_drawing(stem: str) -> bool:
    """Whether a file is a drawing of a mask over its image, as "label_viz"."""
    return is_mask_alone(key_of(stem).rpartition("_")[0]) and key_of(stem).endswith(_DRAWINGS)


def is_of_cellpose(stem: str) -> bool:
    """Whether a mask's name is one that Cellpose gives to its maps of objects."""
    return key_of(stem).endswith("_cp_masks")


def look_like_masks(files: Sequence[Path]) -> bool:
    """Whether some of the files, spread over all, have as few values as masks of classes; unreadable ones say nothing.

    Masks that were saved as JPEG have more values, but nearly all of their pixels have one of two.
    """
    shown = files[:: -(-len(files) // _LOOKED_AT)] if files else ()
    said = [verdict for file in shown if (verdict := _has_few_values(file)) is not None]
    return bool(said) and all(said)


def _has_few_values(file: Path) -> bool | None:
    if not file.is_file():
        return None
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=HEADER_FORMATS) as image:
            pixels = np.asarray(image if image.mode in ("1", "L", "P", "I", "I;16", "F") else image.convert("RGB"))
    except Exception:  # of Pillow's readers: any kind
        return None
    flat = pixels.reshape(-1, 1 if pixels.ndim == 2 else pixels.shape[-1])
    if len(np.unique(flat, axis=0)) <= _MOST_VALUES:
        return True
    extreme = (flat < 16) | (flat >= 240)
    return pixels.dtype == np.uint8 and bool(extreme.mean() > 0.95)
