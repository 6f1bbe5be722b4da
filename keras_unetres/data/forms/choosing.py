"""Which of several folders beside the images holds the masks, and which mask belongs to which image by what differs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from unetres_edge.errors import DataError, Fix

from .layout import key_of, list_images
from .looks import MASK_FOLDERS, look_like_masks

_WORD = re.compile(r"[^\W_]+")
TRUTHS = ("1st_manual", "manual", "manual1", "ground_truth", "groundtruth", "gt")
_OTHER_USES = ("instances", "weights", "color", "colors", "overlay", "overlays", "preview", "previews")


def choose_masks(images: Path, masks: Path) -> tuple[Path, str]:
    """Return the folder of masks, and which others were passed over, in words or "".

    A folder called `masks` is that; where one beside it is called the truth, as in DRIVE, whose `mask/` is the field of
    view, that one is.

    Args:
        images: the folder of images.
        masks: the folder that was found by its name.

    Raises:
        DataError: several folders have as many files as there are images and look like masks, and no name decides
            (`mask/` may be the part of the picture that counts).
    """
    count = len(list_images(images))
    others = [
        folder
        for folder in sorted(masks.parent.iterdir())
        if folder.is_dir()
        and folder not in (images, masks)
        and not folder.name.startswith((".", "__"))
        and folder.name.casefold() not in _OTHER_USES
        and 2 * len(files := list_images(folder)) >= count > 0
        and look_like_masks(files)
    ]
    if not others:
        return masks, ""
    truths = [folder for folder in (masks, *others) if folder.name.casefold() in TRUTHS]
    doubtful = masks.name.casefold() == "mask" or any(folder.name.casefold() in MASK_FOLDERS for folder in others)
    if len(truths) != 1 and doubtful and masks.name.casefold() != "masks":
        names = [folder.name for folder in (masks, *others)]
        raise DataError(
            "several folders may hold the masks",
            file=masks.parent,
            expected="one, named in a dataset.yaml",
            found=", ".join(f"{name}/" for name in names),
            fix=Fix(" or ".join(f"masks: {name}" for name in names)),
        )
    taken = truths[0] if len(truths) == 1 else masks
    passed_over = " and ".join(f"{folder.name}/" for folder in (masks, *others) if folder != taken)
    return taken, f"masks are those of {taken.name}/, not of {passed_over}; for others: masks: NAME in a dataset.yaml"


def pair_by_difference(images: Mapping[str, Path], masks: Mapping[str, Path]) -> dict[str, str]:
    """Return key of mask -> key of image by what is left of each name without what all names of its folder share.

    `img_001` and `mask_001` are a pair, and so are `21_training` and `21_manual1`. One image and one mask alone are a
    pair if the name of the mask only adds to that of the image, as `mask_cell_7` does to `cell_7`. Empty where that is
    no pairing of nearly all of them, or where names of both are left over, as of `img_0` ... and `mask_1` ...
    """
    if len(images) == 1 == len(masks):
        (image,), (mask,) = images, masks
        return {mask: image} if _adds_to(key_of(mask.rpartition("/")[2]), key_of(image.rpartition("/")[2])) else {}
    for names in (_differences, _without_shared_words):
        pairs = _same(names(images, masks), names(masks, images), min(len(images), len(masks)))
        if pairs:
            return pairs
    return {}


def _same(pictures: Mapping[str, str], others: Mapping[str, str], fewest: int) -> dict[str, str]:
    """Return key of mask -> key of image, where what is left of their names is the same for nearly all of them."""
    both = pictures.keys() & others.keys()
    if len(both) < 2 or len(both) < 0.8 * fewest:
        return {}
    if pictures.keys() - both and others.keys() - both:
        return {}  # what is left over on both sides may be counted from another number
    return {others[part]: pictures[part] for part in both}


def _adds_to(longer: str, name: str) -> bool:
    """Return whether a name is another one with words before or behind it."""
    before, match, behind = longer.rpartition(name) if longer.endswith(name) else longer.partition(name)
    return bool(match) and not before[-1:].isalnum() and not behind[:1].isalnum()


def _without_shared_words(keys: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """Return name without the words that all have and no other name has -> the name; as `um_road_07` is `um_07`."""
    words = {key: _WORD.findall(key_of(key.rpartition("/")[2])) for key in keys}
    other = {word for key in others for word in _WORD.findall(key_of(key.rpartition("/")[2]))}
    shared = set.intersection(*map(set, words.values())) - other if words else set[str]()
    left = {" ".join(word for word in of if word not in shared): key for key, of in words.items()}
    return left if len(left) == len(words) else {}


def _differences(keys: Iterable[str], others: Iterable[str] = ()) -> dict[str, str]:
    """Return what differs in a name -> the name; empty where that is not one for each. Numbers are never cut."""
    names = list(keys)
    stems = [key_of(name.rpartition("/")[2]) for name in names]
    if len(stems) < 2:
        return {}
    start = os.path.commonprefix(stems).rstrip("0123456789")
    end = os.path.commonprefix([stem[len(start) :][::-1] for stem in stems])[::-1].lstrip("0123456789")
    parts = [stem[len(start) : len(stem) - len(end)] for stem in stems]
    by_difference = {
        (part.lstrip("0") or "0") if part.isdigit() else part: name for part, name in zip(parts, names, strict=True)
    }
    return by_difference if len(by_difference) == len(names) and "" not in by_difference else {}
