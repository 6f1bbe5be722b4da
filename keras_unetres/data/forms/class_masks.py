"""A mask of two values for every class of an image: `masks/CLASS/a.png`, or `masks/a_CLASS.png`, beside `images/a.png`.

Class 0 is what no mask marks, the others are in alphabetical order, or in that of declared `classes:`. Where masks of
classes overlap, the one of fewer pixels is on top.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from unetres_edge.errors import DataError, Fix
from unetres_edge.model.background import is_background

from ..declaration import Declaration
from ..findings import Finding, Where, relative
from ..fixes import leave_out_or_empty
from ..sources import EmptyMask, ImageFile, Sample
from .layout import PART_NAMES, UNPARTED, Layout, key_of, list_images, refuse_other_background
from .looks import partner_of
from .objects import ObjectMasks

_IMAGES = ("images", "image", "imgs", "img", "jpegimages", "original", "originals", "input", "inputs")
_MASKS = ("masks", "mask", "labels", "label", "annotations", "gt", "ground_truth", "groundtruth")
_PARTS = {name for names in PART_NAMES.values() for name in names}
_MOST_CLASSES = 64
_PEOPLE = re.compile(r"annotat|rater|expert|reader|observer|grader|doctor|user|radiolog|patholog", re.IGNORECASE)

Marks = dict[str, dict[str, Path]]  # key of a picture -> class -> mask


def recognises(base: Path) -> bool:
    """Whether masks beside a folder of images are of one class each."""
    return are_declared(Declaration(base, base, {}))


def are_declared(declared: Declaration) -> bool:
    """Whether masks in the folders that are declared, or usual, are of one class each."""
    both = _both(declared)
    return both is not None and bool(find_marks(*both))


def read(declared: Declaration) -> Layout:
    """Put the masks of each image's classes together.

    Raises:
        DataError: no such masks, or classes that are not declared.
    """
    both = _both(declared)
    marks = {} if both is None else find_marks(*both)
    if both is None or not marks:
        raise DataError(
            "no masks of single classes", file=declared.base, expected="images/ with masks/CLASS/ or masks/a_CLASS.png"
        )
    found = sorted({name for of_picture in marks.values() for name in of_picture if not is_background(name)})
    _refuse_people(declared, both[1], found)
    given = declared.classes()[0]
    refuse_other_background(given, declared.file)
    names = given or ("background", *found)
    strange = [name for name in found if name not in names[1:]]
    if strange:
        raise DataError(
            "masks of a class that is not declared",
            file=declared.file,
            expected=", ".join(names[1:]),
            found=", ".join(strange),
        )
    layout = Layout(names=tuple(names))
    layout.notes.append(
        f"a mask for every class: {', '.join(found[:8])}{', ...' * (len(found) > 8)}; where two overlap, "
        "the one of fewer pixels is on top"
    )
    layout.samples[UNPARTED] = []
    for image in list_images(both[0]):
        name = image.relative_to(both[0]).as_posix()
        if declared.excludes(name):
            continue
        of_picture = marks.get(key_of(image.stem), {})
        masks = [(mask, names.index(label)) for label, mask in of_picture.items() if not is_background(label)]
        if not masks and declared.has_empty_masks:
            layout.samples[UNPARTED].append(Sample(name, ImageFile(image), EmptyMask(image)))
            continue
        if not masks:
            figures = {"stem": image.stem, "folder": relative(both[1], declared.base)}
            where = Where(relative(image, declared.base), image.name)
            layout.faults.append(Finding("missing-mask", where, figures, leave_out_or_empty(image.name)))
            continue
        target = ObjectMasks(masks[0][0], tuple(mask for mask, _ in masks), tuple(label for _, label in masks))
        layout.samples[UNPARTED].append(Sample(name, ImageFile(image), target))
    return layout


def _refuse_people(declared: Declaration, masks: Path, names: Sequence[str]) -> None:
    """Raise DataError if masks are called after those who drew them, of whom one is to be chosen.

    Raises:
        DataError: they are.
    """
    if declared.classes()[0] is not None or not names or not all(map(_PEOPLE.match, names)):
        return
    folders = [relative(masks / name, declared.base) for name in names if (masks / name).is_dir()]
    lines = " or ".join(f"masks: {folder}" for folder in folders)
    raise DataError(
        "the masks are of several people, not of several classes",
        file=masks,
        expected="the masks of one",
        found=", ".join(names),
        fix=Fix(lines, place=f"in {declared.base / 'dataset.yaml'}") if lines else "keep the masks of one of them",
    )


def find_marks(images: Path, masks: Path) -> Marks:
    """Return the masks of each picture by class; empty where the masks are not of one class each."""
    stems = {key_of(image.stem) for image in list_images(images)}
    folders = [path for path in sorted(masks.iterdir()) if path.is_dir() and not path.name.startswith((".", "__"))]
    direct = [path for path in list_images(masks) if path.parent == masks]
    if direct:
        return _by_ending(stems, direct) if not folders else {}
    same = {path.name for path in images.iterdir() if path.is_dir()}
    if len(folders) < 2 or any(path.name in same or path.name.casefold() in _PARTS for path in folders):
        return {}
    found: Marks = defaultdict(dict)
    for folder in folders:
        files = list_images(folder)
        ending = _ending_of(stems, files)
        for file in files:
            key = key_of(file.stem).removesuffix(ending)
            if key not in stems:
                return {}
            found[key][folder.name] = file
    return found if 2 * sum(len(of_picture) > 1 for of_picture in found.values()) > len(found) else {}


def _ending_of(stems: set[str], files: Sequence[Path]) -> str:
    """Return what the names of a folder's masks have behind those of their pictures, as "_MA"."""
    first = key_of(files[0].stem) if files else ""
    return next((first[end:] for end in range(len(first), 0, -1) if first[:end] in stems), "")


def _by_ending(stems: set[str], masks: Sequence[Path]) -> Marks:
    found: Marks = defaultdict(dict)
    for mask in masks:
        stem = mask.stem
        ends = [end for end in range(1, len(stem)) if stem[end] in "_-" and key_of(stem[:end]) in stems]
        if not ends:
            return {}
        found[key_of(stem[: ends[-1]])][stem[ends[-1] + 1 :]] = mask
    return found if _are_classes(found) else {}


def _are_classes(found: Mapping[str, Mapping[str, Path]]) -> bool:
    """Whether endings of names are classes: two or more words, most of them at most pictures, and no numbers."""
    times = Counter(word for of_picture in found.values() for word in of_picture)
    words = [word for word in times if not any(c.isdigit() for c in word) and partner_of(f"a_{word}") is None]
    several = 2 * sum(len(of_picture) > 1 for of_picture in found.values()) > len(found)
    return 2 <= len(words) == len(times) <= _MOST_CLASSES and several and min(times.values()) > 1


def _both(declared: Declaration) -> tuple[Path, Path] | None:
    """Return the folders of images and of masks, those declared or of the usual names."""
    base = declared.base
    if not base.is_dir():
        return None
    there = {path.name.casefold(): path for path in sorted(base.iterdir()) if path.is_dir()}
    usual = [next((there[name] for name in names if name in there), None) for names in (_IMAGES, _MASKS)]
    named = [base / str(declared.given[key]) if key in declared.given else None for key in ("images", "masks")]
    images, masks = (given or found for given, found in zip(named, usual, strict=True))
    return (images, masks) if images and masks and images.is_dir() and masks.is_dir() else None
