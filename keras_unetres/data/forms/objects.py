"""A mask file for every object.

They are in `ID/images/` and `ID/masks/` for each picture (Data Science Bowl 2018), or are named
`PICTURE_CLASS_NUMBER.png` in a folder beside the pictures (pycococreator).

Each file has two values, and the pixels of the larger one are the object. Smaller objects lie on top of larger ones.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetres_edge.errors import DataError, MaskError
from unetres_edge.images.decode import IMAGE_SUFFIXES, read_mask

from ..declaration import Declaration
from ..findings import Finding, Where, relative
from ..fixes import leave_out
from ..sources import ImageFile, Sample, Source, file_digest
from .layout import PARTS, UNPARTED, Layout, find_parts, key_of, list_images, refuse_other_background, repeated


@dataclass(frozen=True)
class ObjectMasks(Source):
    """The mask of an image, put together from one file an object; with `numbered`, the objects' numbers instead."""

    file: Path
    files: tuple[Path, ...]
    classes: tuple[int, ...]
    numbered: bool = False

    def read(self) -> np.ndarray:
        objects = [_object(file) for file in self.files]
        for file, inside in zip(self.files, objects, strict=True):
            if inside.shape != objects[0].shape:
                raise MaskError(
                    "masks of one image differ in size", file=file, expected=objects[0].shape, found=inside.shape
                )
        mask = np.zeros(objects[0].shape, np.int32 if self.numbered else np.uint8)
        for index in sorted(range(len(objects)), key=lambda i: (-int(objects[i].sum()), i)):
            mask[objects[index]] = index + 1 if self.numbered else self.classes[index]
        return mask

    def digest(self) -> str:
        parts = [f"{file.name}/{file_digest(file)}/{c}" for file, c in zip(self.files, self.classes, strict=True)]
        return hashlib.sha256(f"{self.numbered}{parts}".encode()).hexdigest()


def _object(file: Path) -> np.ndarray:
    values = read_mask(file)
    levels = np.unique(values)
    if len(levels) > 2 or (len(levels) == 2 and levels[0] != 0):
        raise MaskError("the mask of an object has more than two values", file=file, expected="0 and one other")
    return values != 0


def recognises(base: Path) -> bool:
    """Whether there are folders of one picture each, or a folder of masks named after pictures, classes and numbers."""
    return any(map(_is_pile, [base, *find_parts(base, _is_pile).values()]))


def read(declared: Declaration) -> Layout:
    """Find the pictures and the masks of their objects.

    Raises:
        DataError: neither of the two forms.
    """
    base = declared.base
    folders = declared.splits() or ({UNPARTED: base} if _is_pile(base) else find_parts(base, _is_pile))
    if not folders:
        raise DataError("no masks of single objects", file=base, expected="ID/images/ and ID/masks/, or A_class_0.png")
    piles = {part: _piles(folder) or _named(folder) for part, folder in folders.items()}
    names = sorted({name for pile in piles.values() for _, objects in pile for _, name in objects})
    usual = ("background", *names)
    layout = Layout(names=usual)
    declared_names = declared.classes()[0]
    refuse_other_background(declared_names, declared.file)
    if names == ["object"] and declared_names is not None and len(declared_names) == 2:
        declared_names = None  # whatever it is called
    if declared_names is not None and not set(names) <= set(declared_names[1:]):
        raise DataError(
            "objects of a class that is not declared",
            file=declared.file,
            expected=", ".join(names),
            found=declared_names,
        )
    ids = {name: (declared_names or usual).index(name) for name in names}
    for part, pile in piles.items():
        layout.samples[part] = []
        unique = not repeated(image.name for image, _ in pile)
        for image, objects in pile:
            if not objects:
                pictures = 1 if image.is_file() else len(list_images(image / "images"))
                figures = {"pictures": pictures, "masks": 0}
                here = Where(relative(image, base), image.name)
                layout.faults.append(Finding("missing-mask", here, figures, leave_out(image.name)))
                continue
            files = tuple(file for file, _ in objects)
            classes = tuple(ids[name] for _, name in objects)
            where = files[0].parent
            layout.samples[part].append(
                Sample(
                    image.name if unique else relative(image, base),
                    ImageFile(image),
                    ObjectMasks(where, files, classes),
                    ObjectMasks(where, files, classes, numbered=True),
                )
            )
    return layout


def _is_pile(folder: Path) -> bool:
    piles = _piles(folder, most=9)
    return 2 * sum(bool(masks) for _, masks in piles) > len(piles) or bool(_named(folder))


def _piles(folder: Path, most: int | None = None) -> list[tuple[Path, list[tuple[Path, str]]]]:
    """Return (image, masks) of every folder of one picture, without masks where there are none or several pictures."""
    piles: list[tuple[Path, list[tuple[Path, str]]]] = []
    for home in sorted(path for path in folder.iterdir() if path.is_dir() and path.name.lower() not in PARTS):
        if not (home / "images").is_dir():
            continue
        images = list_images(home / "images")
        masks = list_images(home / "masks") if (home / "masks").is_dir() and len(images) == 1 else []
        piles += [(images[0] if images else home, [(file, "object") for file in masks])]
        if most is not None and len(piles) == most:
            break
    return piles


def _named(folder: Path) -> list[tuple[Path, list[tuple[Path, str]]]]:
    """Return (image, masks) where masks are named PICTURE_CLASS_NUMBER and lie in a folder beside that of pictures."""
    places = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    masks = next((p for p in places if p.name.lower() in ("annotations", "masks", "labels")), None)
    if masks is None:
        return []
    images = {key_of(p.stem): p for place in places if place != masks for p in place.iterdir() if _is_image(p)}
    objects: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    for file in list_images(masks):
        words = file.stem.split("_")
        ends = (end for end in range(1, len(words) - 1) if key_of("_".join(words[:end])) in images)
        end = next(ends, None)
        if end is None or not words[-1].isdigit():
            return []
        objects[key_of("_".join(words[:end]))].append((file, "_".join(words[end:-1])))
    return [(images[key], objects.get(key, [])) for key in sorted(images)] if objects else []


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
