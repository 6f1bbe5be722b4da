"""Multi-page TIFF stacks of slices and of masks, such as ISBI 2012's `train-volume.tif` and `train-labels.tif`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from unetres_edge.errors import DataError, Fix, UnetresError
from unetres_edge.images.decode import count_pages, pages_are_channels

from ..declaration import Declaration
from ..findings import Finding, Where, finding_of, relative
from ..sources import ImageFile, MaskFile, Sample
from .layout import PART_NAMES, UNPARTED, Layout, key_of, list_images
from .looks import partner_of

_VOLUME = ("volume", "images", "image", "imgs", "img", "raw", "input")
_LABELS = ("labels", "label", "masks", "mask", "gt", "groundtruth", "seg")
_TIFF = (".tif", ".tiff")


def recognises(base: Path) -> bool:
    """Whether there is a stack of images beside one of masks, or stacks of one name in `images/` and `masks/`."""
    return bool(_named(base)) or _are_stacks(base)


def _are_stacks(base: Path) -> bool:
    """Whether the first image of `images/` and its mask have the same number of pages, which are no channels."""
    if not ((base / "images").is_dir() and (base / "masks").is_dir()):
        return False
    image = next((path for path in list_images(base / "images") if path.suffix.lower() in _TIFF), None)
    mask = None if image is None else base / "masks" / image.name
    return image is not None and mask is not None and mask.is_file() and _have_pages(image, mask)


def read(declared: Declaration) -> Layout:
    """Pair the pages of the declared stacks (`images: A.tif`, `masks: B.tif`, or folders of stacks), or those found.

    Raises:
        DataError: no stacks.
    """
    base = declared.base
    layout = Layout()
    pairs = _declared(declared) if {"images", "masks"} & set(declared.given) else _named(base)
    pairs = pairs or _declared(declared)
    if not pairs:
        raise DataError("no stacks", file=base, expected="images: A.tif and masks: B.tif in a dataset.yaml")
    for part, images, masks in pairs:
        try:
            pages = count_pages(images), count_pages(masks)
        except DataError as error:
            file = Path(error.file or images)
            layout.faults.append(finding_of(error, file, base, file.name))
            continue
        if pages[0] != pages[1]:
            figures = {"pages": pages[1], "stack": images.name, "slices": pages[0]}
            where = Where(relative(masks, base), masks.name)
            layout.faults.append(Finding("frames", where, figures, Fix("complete the stack of masks")))
            continue
        layout.samples.setdefault(part, []).extend(
            Sample(f"{images.stem}_{page:04d}", ImageFile(images, page), MaskFile(masks, page))
            for page in range(pages[0])
        )
    if list(layout.samples) == ["train"]:
        layout.samples = {UNPARTED: layout.samples["train"]}
    return layout


def _declared(declared: Declaration) -> list[tuple[str, Path, Path]]:
    images, masks = declared.base / declared.images, declared.base / declared.masks
    if images.is_file() and masks.is_file():
        return [(UNPARTED, images, masks)]
    if not images.is_dir() or not masks.is_dir():
        return []
    labels = {key_of(path.stem): path for path in list_images(masks)}
    return [(UNPARTED, path, labels[key_of(path.stem)]) for path in list_images(images) if key_of(path.stem) in labels]


def _named(base: Path) -> list[tuple[str, Path, Path]]:
    """Return (part, images, masks) of TIFF files whose names differ in "volume" and "labels" or the like.

    One of two may have a word more, such as EPFL's `training.tif` and `training_groundtruth.tif`.
    """
    files = [path for path in sorted(base.iterdir()) if path.suffix.lower() in _TIFF] if base.is_dir() else []
    return _by_words(files) or _by_a_word_more(files)


def _by_a_word_more(files: Sequence[Path]) -> list[tuple[str, Path, Path]]:
    """Return (part, images, masks) of stacks of which one is called as the other and what says a mask."""
    there = {key_of(path.stem): path for path in files}
    pairs = [(there[name], path) for path in files if (name := partner_of(path.stem)) in there]
    if not pairs or not _have_pages(*pairs[0]):
        return []
    return [(_part_of(images.stem), images, masks) for images, masks in pairs]


def _have_pages(images: Path, masks: Path) -> bool:
    """Whether two files have the same number of pages, which are no channels."""
    try:
        pages = count_pages(images)
        return pages > 1 and count_pages(masks) == pages and not pages_are_channels(images)
    except UnetresError:
        return False


def _part_of(stem: str) -> str:
    words = re.split(r"[^a-z0-9]+", stem.lower())
    return next((part for part, names in PART_NAMES.items() if set(names) & set(words)), UNPARTED)


def _by_words(files: Sequence[Path]) -> list[tuple[str, Path, Path]]:
    volumes = []
    for path in files:
        words = re.split(r"[^a-z0-9]+", path.stem.lower())
        volume = next((word for word in _VOLUME if word in words), None)
        if volume is None:
            continue
        for other in _LABELS:
            partner = [p for p in files if p != path and p.stem.lower() == path.stem.lower().replace(volume, other)]
            if partner:
                volumes.append((_part_of(path.stem), path, partner[0]))
                break
    return volumes
