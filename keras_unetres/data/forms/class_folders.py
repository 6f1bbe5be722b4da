"""Class folders: a folder of images for each class, perhaps below `train/ val/ test/`.

    flowers/ daisy/*.jpg  tulip/*.png          or          flowers/ train/daisy/ train/tulip/ val/... test/...

The folders are the classes, in order of name or as `classes.txt` lists them, one name a line. What lies deeper in a
class folder counts to it.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from unetres_edge.errors import DataError, Fix

from ...choices.tasks import CLASSIFY
from ..declaration import SPLITS, Declaration, read_names
from ..findings import Finding, Where, relative
from ..sources import ClassId, ImageFile, Sample
from .layout import NOT_DATA, PARTS, UNPARTED, Layout, key_of, list_images

EXPECTED = "a folder for each class with its images, or train/, val/ and test/ with such folders"

Found = Mapping[str, Mapping[str, list[Path]]]  # part -> class name -> images


def recognises(base: Path) -> bool:
    """Whether there are two or more folders of images, side by side or in a folder named after a part."""
    try:
        return any(len(_classes_in(folder)) > 1 for folder in _parts(base).values())
    except (OSError, DataError):
        return False


def read(declared: Declaration) -> Layout:
    """Find the images of every class.

    Raises:
        DataError: no images, or folders that may be classes or parts.
    """
    root = declared.base
    places = _parts(root)
    by_class = {part: _classes_in(folder) for part, folder in places.items()}
    layout = Layout(task=CLASSIFY.name)
    layout.names, layout.faults = _names(root, places, by_class)
    ids = {name: class_id for class_id, name in enumerate(layout.names)}
    for part, folder in places.items():
        samples = [
            Sample(path.relative_to(folder).as_posix(), ImageFile(path), ClassId(path, ids[name]))
            for name, paths in by_class[part].items()
            for path in paths
        ]
        if samples:
            layout.samples[part] = sorted(samples, key=lambda sample: sample.name)
    if not layout.samples:
        raise DataError("no images", file=root, expected=EXPECTED)
    layout.faults += _misplaced(root, places, by_class, layout.names)
    if UNPARTED not in places:
        layout.warnings += _absent(root, layout.samples, layout.names)
    return layout


def _parts(root: Path) -> dict[str, Path]:
    """Return part -> the folder that holds its class folders; `UNPARTED` alone where there are no parts.

    Raises:
        DataError: folders named after parts hold class folders, and others that are no parts hold images, too.
    """
    inside = _folders(root)
    parts = {PARTS[key]: f for f in inside if (key := key_of(f.name)) in PARTS and _holds_folders(f)}
    if "train" not in parts:
        return {UNPARTED: root}
    others = [f.name for f in inside if f not in parts.values() and list_images(f)]
    if others:
        raise DataError(
            "it is not clear whether the folders are classes or parts",
            file=root,
            expected="train/, val/ and test/ alone, or class folders alone",
            found=", ".join(sorted([*(f.name for f in parts.values()), *others])),
            fix="move the other folders away, or rename the classes that are named after parts",
        )
    return {part: parts[part] for part in SPLITS if part in parts}


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name not in NOT_DATA)


def _holds_folders(folder: Path) -> bool:
    """Whether a folder holds folders of images and no image itself."""
    images = list_images(folder)
    return bool(images) and all(path.parent != folder for path in images)


def _classes_in(parent: Path) -> dict[str, list[Path]]:
    """Return class name -> the images in and below its folders, for every folder in `parent`."""
    by_class: dict[str, list[Path]] = defaultdict(list)
    for folder in _folders(parent):
        by_class[unicodedata.normalize("NFC", folder.name)] += list_images(folder)
    return dict(by_class)


def _names(root: Path, places: Mapping[str, Path], by_class: Found) -> tuple[tuple[str, ...], list[Finding]]:
    """Return the class names in their order, and what is wrong with `classes.txt`."""
    present = sorted({name for part in by_class.values() for name in part})
    file = next((f for f in [root / "classes.txt", *(p / "classes.txt" for p in places.values())] if f.is_file()), None)
    if file is None:
        return tuple(present), []
    listed = [unicodedata.normalize("NFC", name) for name in read_names(file) or ()]
    faults = []
    for name in (*(n for n in present if n not in listed), *(n for n in listed if listed.count(n) > 1)):
        fix = f"add the line {name!r}, or remove the folder" if name not in listed else "name it once"
        faults.append(Finding("declaration", Where(relative(file, root)), {"name": name}, Fix(fix)))
    names = dict.fromkeys([*listed, *present])
    return tuple(names), list(dict.fromkeys(faults))


def _misplaced(root: Path, places: Mapping[str, Path], by_class: Found, names: Sequence[str]) -> Iterator[Finding]:
    """Yield a fault for each class without an image to train on, image without a class, and name that is another's."""
    first = next(iter(places))
    for name in names:
        if not by_class[first].get(name):
            where = Where(relative(places[first] / name, root))
            yield Finding("empty-class", where, {}, Fix("add images, or remove the class"))
    for folder in places.values():
        for path in list_images(folder):
            if path.parent == folder:
                fix = Fix("move it into the folder of its class, or remove it")
                yield Finding("no-class", Where(relative(path, root)), {}, fix)
    same: dict[str, list[str]] = defaultdict(list)
    for name in names:
        same[key_of(name)].append(name)
    for twins in same.values():
        if len(twins) > 1:
            fix = Fix("give every class one folder")
            yield Finding("ambiguous-names", Where(twins[1]), {"classes": twins}, fix)


def _absent(root: Path, samples: Mapping[str, Sequence[Sample]], names: Sequence[str]) -> Iterator[Finding]:
    """Yield a fault for each class that a part other than that of training has no image of."""
    for part, of_part in samples.items():
        there = {sample.class_id for sample in of_part}
        for class_id, name in enumerate(names):
            if class_id not in there and part != "train":
                where = Where(relative(root / part, root))
                yield Finding("absent-class", where, {"class_name": name}, Fix("add images of the class to the part"))
