"""PASCAL VOC: `JPEGImages/`, `SegmentationClass/`, perhaps `SegmentationObject/` and `ImageSets/Segmentation/*.txt`.

Masks are palette indices, or the palette's colours; 255 and its colour are the border that is not labelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetres_edge.errors import DataError
from unetres_edge.images.decode import read_colors, read_mask
from unetres_edge.images.preprocessing import IGNORE

from ..colortables import find_table, voc_color, voc_table
from ..declaration import Declaration, read_names
from ..findings import Finding, Where, relative
from ..fixes import leave_out
from ..sources import ColorFile, ImageFile, MaskFile, Sample, Source
from .layout import UNPARTED, Layout, have_colors, key_of, list_images

_LISTS = ("train", "val", "test")
_BORDER = 0xE0E0C0  # the colour of entry 255 in the palette


@dataclass(frozen=True)
class ObjectFile(Source):
    """A file whose numbers or colours are objects, with 255 for the border that belongs to none."""

    file: Path
    colored: bool
    unlabelled = IGNORE

    def read(self) -> np.ndarray:
        if not self.colored:
            return read_mask(self.file)
        colors = read_colors(self.file)
        return np.where(colors == _BORDER, IGNORE, np.where(colors == IGNORE, _BORDER, colors))


def recognises(base: Path) -> bool:
    """Whether there is a folder of class masks beside one of images."""
    return (base / "SegmentationClass").is_dir() and (base / "JPEGImages").is_dir()


def read(declared: Declaration) -> Layout:
    """Pair images and masks by the lists, or by name where there are none.

    Raises:
        DataError: no folders of that name, or a list that cannot be read.
    """
    base = declared.base
    if not recognises(base):
        raise DataError("not PASCAL VOC with masks", file=base, expected="JPEGImages/ and SegmentationClass/")
    layout = Layout(ignore=IGNORE)
    masks = _by_key(base / "SegmentationClass")
    table = find_table(base)
    colored = not declared.by_number and (declared.by_color or have_colors(masks.values(), table))
    names = declared.classes()[0] or read_names(base / "class_names.txt")
    if table is not None or names is None:
        layout.take_table(table or voc_table(), by_color=colored, ignore=IGNORE)
        if table is None:
            layout.notes.append("no list of classes, so they are the 21 of PASCAL VOC")
    else:
        layout.names = tuple(name for name in names if name not in ("__ignore__", "_ignore_"))
        layout.colors, layout.by_color = tuple(map(voc_color, range(len(layout.names)))), colored
        if colored:
            layout.values = {c[0] << 16 | c[1] << 8 | c[2]: i for i, c in enumerate(layout.colors)}
            layout.values[_BORDER] = IGNORE
    images = _by_key(base / "JPEGImages")
    objects = base / "SegmentationObject"
    known = set(images) | set(masks)
    listed = {part: _listed(base, part, known) for part in _LISTS}
    parts = {part: keys for part, keys in listed.items() if keys is not None}
    everything = _listed(base, "trainval", known) if not parts else None
    if everything is not None:
        parts = {UNPARTED: everything}
    for part, keys in (parts or {UNPARTED: sorted(known)}).items():
        if part == "test" and not any(key in masks for key in keys):
            layout.notes.append("the test part has no masks and is left out")
            continue
        layout.samples[part] = []
        for key in keys:
            if key not in masks or key not in images:
                kind, folder = (
                    ("missing-mask", "SegmentationClass") if key in images else ("missing-image", "JPEGImages")
                )
                there = images.get(key) or masks.get(key) or base / f"ImageSets/Segmentation/{part or 'trainval'}.txt"
                name = there.name if key in images or key in masks else key
                where = Where(relative(there, base), there.name)
                layout.faults.append(Finding(kind, where, {"stem": key, "folder": folder}, leave_out(name)))
                continue
            beside = objects / masks[key].relative_to(base / "SegmentationClass")
            instances = beside if beside.is_file() else None
            layout.samples[part].append(
                Sample(
                    images[key].relative_to(base / "JPEGImages").as_posix(),
                    ImageFile(images[key]),
                    (ColorFile if colored else MaskFile)(masks[key]),
                    None if instances is None else ObjectFile(instances, have_colors([instances])),
                )
            )
    return layout


def _by_key(folder: Path) -> dict[str, Path]:
    """Return path below a folder without its ending -> file."""
    return {key_of(path.relative_to(folder).with_suffix("").as_posix()): path for path in list_images(folder)}


def _listed(base: Path, part: str, known: set[str]) -> list[str] | None:
    """Return the names in a list; a line may hold more than a name, unless the whole line is one."""
    names = read_names(base / "ImageSets" / "Segmentation" / f"{part}.txt")
    if names is None:
        return None
    last = [key.rpartition("/")[2] for key in known]
    by_last = {name: key for name, key in zip(last, known, strict=True) if last.count(name) == 1}
    keys = (key if (key := key_of(name)) in known else key_of(name.split()[0]) for name in names)
    return [key if key in known else by_last.get(key, key) for key in keys]
