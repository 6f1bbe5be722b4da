"""A mask of two values for every class of an image: `masks/CLASS/a.png`, or `masks/a_CLASS.png`, beside `images/a.png`.

Class 0 is what no mask marks, the others are in alphabetical order, or in that of declared `classes:`. Where masks of
classes overlap, the one of fewer pixels is on top.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unetres_edge.errors import DataError, Fix
from unetres_edge.model.background import is_background

from ..declaration import Declaration
from ..findings import Finding, Where, relative
from ..fixes import leave_out_or_empty
from ..sources import EmptyMask, ImageFile, Sample
from .layout import (
    PARTS,
    UNPARTED,
    Layout,
    find_parts,
    group_by_folder,
    key_of,
    list_images,
    refuse_other_background,
)
from .looks import partner_of
from .objects import ObjectMasks
from .parallel import named_below, parts_of

_IMAGES = ("images", "image", "imgs", "img", "jpegimages", "original", "originals", "input", "inputs")
_MASKS = ("masks", "mask", "labels", "label", "annotations", "gt", "ground_truth", "groundtruth")
_MOST_CLASSES = 64
_FEWEST_OF_SEVERAL, _SHARE_OF_SEVERAL = 2, 0.1  # pictures with masks of more than one class, where each has a folder
_PEOPLE = re.compile(r"annotat|rater|expert|reader|observer|grader|doctor|user|radiolog|patholog", re.IGNORECASE)

Marks = dict[str, dict[str, Path]]  # key of a picture -> class -> mask


class Place(NamedTuple):
    """Where images of a part and their masks lie.

    Args:
        part: its name, or `UNPARTED`.
        above: what names of samples start with.
        images, masks: the folders.
        marks: what lies in the folder of masks.
    """

    part: str
    above: str
    images: Path
    masks: Path
    marks: Marks


def recognises(base: Path) -> bool:
    """Whether masks beside a folder of images are of one class each."""
    return are_declared(Declaration(base, base, {}))


def are_declared(declared: Declaration) -> bool:
    """Whether masks in the folders that are declared, or usual, are of one class each."""
    return bool(_places(declared))


def read(declared: Declaration) -> Layout:
    """Put the masks of each image's classes together.

    Raises:
        DataError: no such masks, or classes that are not declared.
    """
    places = _places(declared)
    if not places:
        raise DataError(
            "no masks of single classes", file=declared.base, expected="images/ with masks/CLASS/ or masks/a_CLASS.png"
        )
    every = (name for place in places for of_picture in place.marks.values() for name in of_picture)
    classes = sorted({name for name in every if not is_background(name)})
    _refuse_people(declared, places[0].masks, classes)
    declared_names = declared.classes()[0]
    refuse_other_background(declared_names, declared.file)
    names = declared_names or ("background", *classes)
    strange = [name for name in classes if name not in names[1:]]
    if strange:
        raise DataError(
            "masks of a class that is not declared",
            file=declared.file,
            expected=", ".join(names[1:]),
            found=", ".join(strange),
        )
    layout = Layout(names=tuple(names))
    layout.notes.append(
        f"a mask for every class: {', '.join(classes[:8])}{', ...' * (len(classes) > 8)}; where two overlap, "
        "the one of fewer pixels is on top"
    )
    for place in places:
        layout.samples.setdefault(place.part, []).extend(_samples(layout, declared, place, names))
    group_by_folder(layout, {place.above.rstrip("/") for place in places})
    return layout


def _samples(layout: Layout, declared: Declaration, place: Place, names: Sequence[str]) -> Iterator[Sample]:
    """Yield the samples of a place in order of name; a picture without a mask is a fault, or empty."""
    for image in list_images(place.images):
        name = place.above + image.relative_to(place.images).as_posix()
        if declared.excludes(name):
            continue
        of_picture = place.marks.get(key_of(image.stem), {})
        masks = [(mask, names.index(label)) for label, mask in of_picture.items() if not is_background(label)]
        if masks:
            target = ObjectMasks(masks[0][0], tuple(mask for mask, _ in masks), tuple(label for _, label in masks))
            yield Sample(name, ImageFile(image), target)
        elif declared.has_empty_masks:
            yield Sample(name, ImageFile(image), EmptyMask(image))
        else:
            figures = {"stem": image.stem, "folder": relative(place.masks, declared.base)}
            where = Where(relative(image, declared.base), image.name)
            layout.faults.append(Finding("missing-mask", where, figures, leave_out_or_empty(image.name)))


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
    if len(folders) < 2 or any(path.name in same or key_of(path.name) in PARTS for path in folders):
        return {}
    marks: Marks = defaultdict(dict)
    for folder in folders:
        files = list_images(folder)
        ending = _ending_of(stems, files)
        for file in files:
            key = key_of(file.stem).removesuffix(ending)
            if key not in stems:
                return {}
            marks[key][folder.name] = file
    several = sum(len(of_picture) > 1 for of_picture in marks.values())
    return marks if several >= max(_FEWEST_OF_SEVERAL, _SHARE_OF_SEVERAL * len(marks)) else {}


def _ending_of(stems: set[str], files: Sequence[Path]) -> str:
    """Return what the names of a folder's masks have behind those of their pictures, as "_MA"."""
    first = key_of(files[0].stem) if files else ""
    return next((first[end:] for end in range(len(first), 0, -1) if first[:end] in stems), "")


def _by_ending(stems: set[str], masks: Sequence[Path]) -> Marks:
    marks: Marks = defaultdict(dict)
    for mask in masks:
        stem = mask.stem
        ends = [end for end in range(1, len(stem)) if stem[end] in "_-" and key_of(stem[:end]) in stems]
        if not ends:
            return {}
        marks[key_of(stem[: ends[-1]])][stem[ends[-1] + 1 :]] = mask
    return marks if _are_classes(marks) else {}


def _are_classes(marks: Mapping[str, Mapping[str, Path]]) -> bool:
    """Whether endings of names are classes: two or more words, most of them at most pictures, and no numbers."""
    times = Counter(word for of_picture in marks.values() for word in of_picture)
    words = [word for word in times if not any(c.isdigit() for c in word) and partner_of(f"a_{word}") is None]
    several = 2 * sum(len(of_picture) > 1 for of_picture in marks.values()) > len(marks)
    return 2 <= len(words) == len(times) <= _MOST_CLASSES and several and min(times.values()) > 1


def _places(declared: Declaration) -> list[Place]:
    """Return where images and masks of single classes lie: in the folder, in its parts, or where their names are."""
    base, values = declared.base, declared.given
    whole = _place(base, declared)
    if whole is not None:
        return [whole]
    parts = declared.splits() or find_parts(base, lambda folder: _place(folder, declared) is not None)
    candidates = [place for part, folder in parts.items() if (place := _place(folder, declared, part)) is not None]
    if any(place.part == "train" for place in candidates):
        return candidates
    deeper = named_below(base, declared.images, declared.masks) if {"images", "masks"} <= set(values) else None
    by_part = parts_of(deeper, base) if deeper is not None else {}
    every = [
        Place(part, f"{above}/" if above else "", images, masks, marks)
        for part, pairs in by_part.items()
        for images, masks, above in pairs
        if (marks := find_marks(images, masks))
    ]
    return every if deeper is not None and len(every) == len(deeper.pairs) else []


def _place(folder: Path, declared: Declaration, part: str = UNPARTED) -> Place | None:
    """Return the folders of images and of masks, those declared or of the usual names, and the masks by class."""
    if not folder.is_dir():
        return None
    there = {path.name.casefold(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    usual = [next((there[name] for name in names if name in there), None) for names in (_IMAGES, _MASKS)]
    named = [folder / str(declared.given[key]) if key in declared.given else None for key in ("images", "masks")]
    images, masks = (by_declaration or by_name for by_declaration, by_name in zip(named, usual, strict=True))
    if images is None or masks is None or not images.is_dir() or not masks.is_dir():
        return None
    marks = find_marks(images, masks)
    return Place(part, "", images, masks, marks) if marks else None
