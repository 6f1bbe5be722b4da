"""YOLO's segments: `labels/a.txt` for `images/a.jpg`, a line an object: class, and a polygon as shares of the sides.

The files may lie beside the images, too. An image without a file, or with an empty one, has no objects. The classes are
those of `data.yaml` or `classes.txt`.
"""

from __future__ import annotations

import re
from pathlib import Path

from unetres_edge.errors import DataError

from ..declaration import Declaration, load_yaml, read_names, without_numbers
from ..findings import Finding, Where, relative
from ..fixes import leave_out
from ..tables import read_text
from .drawn import Picture, Shape, bad_shape, missing_image, ring_of, take_pictures
from .layout import PART_NAMES, UNPARTED, Layout, find_parts, is_image, key_of, list_files, list_images

_LABELS = ("labels", "label")
_NO_LINES = ("classes", "labels", "obj.names", "predefined_classes")  # files of text that have no lines of objects
_LOOKED_AT = 12  # files
_CLASS = re.compile("[0-9]{1,3}")  # a network has 255 at most


def recognises(base: Path) -> bool:
    """Whether there is a folder of images beside one of lines with polygons."""
    return any(_hold_polygons(list(_line_files(*place).values())) for place in _places(base).values())


def read(declared: Declaration) -> Layout:
    """Read every image and its lines.

    Raises:
        DataError: no such folders, or numbers of classes that have no name.
    """
    base = declared.base
    layout = Layout()
    places = _places(base)
    if not places:
        raise DataError("no images/ beside labels/", file=base, expected="labels/a.txt for images/a.jpg")
    pictures: dict[str, list[Picture]] = {}
    highest = 0
    for part, (images, labels) in places.items():
        files = _line_files(images, labels)
        there = {key_of(path.relative_to(images).with_suffix("").as_posix()): path for path in list_images(images)}
        pictures[part] = []
        for key in sorted(files.keys() - there.keys()):
            missing_image(layout, files[key], f"{files[key].stem}.*", base)
        for key, image in there.items():
            name = image.relative_to(images).as_posix()
            shapes = _shapes(layout, files.get(key), name, base)
            highest = max([highest, *(int(shape.label) + 1 for shape in shapes if shape.label is not None)])
            pictures[part].append(Picture(name, image, files.get(key, image), None, shapes))
    names = _names(base, [labels for _, labels in places.values()]) or [str(place) for place in range(highest)]
    if highest > len(names):
        raise DataError("a class has no name", file=base, expected=f"{highest} names in data.yaml", found=len(names))
    named = {part: [_renamed(picture, names) for picture in found] for part, found in pictures.items() if found}
    return take_pictures(layout, declared, named, names)


def _places(base: Path) -> dict[str, tuple[Path, Path]]:
    """Return part -> (images, labels): `images/ labels/`, `images/train/ labels/train/` or `train/images/ ...`."""
    places: dict[str, tuple[Path, Path]] = {}
    for part, words in PART_NAMES.items():
        for word in words:
            for label in _LABELS:
                for images, labels in ((base / "images" / word, base / label / word),) + (
                    (base / word / "images", base / word / label),
                ):
                    if images.is_dir() and labels.is_dir() and part not in places:
                        places[part] = (images, labels)
    whole = next(((base / "images", base / label) for label in _LABELS if (base / label).is_dir()), None)
    if "train" not in places:
        places = {UNPARTED: whole} if whole is not None and whole[0].is_dir() else {}
    if not places and base.is_dir():
        parts = find_parts(base, _has_lines_beside)
        parts = parts if "train" in parts else {UNPARTED: base} if _has_lines_beside(base) else {}
        places = {part: (folder, folder) for part, folder in parts.items()}
    return places


def _has_lines_beside(folder: Path) -> bool:
    images = [path for path in sorted(folder.iterdir()) if is_image(path)]
    return any(path.with_suffix(".txt").is_file() for path in images[: 4 * _LOOKED_AT])


def _line_files(images: Path, labels: Path) -> dict[str, Path]:
    """Return name -> file of lines, without lists of classes; among images, those alone that are named like one."""
    files = {
        key_of(path.relative_to(labels).with_suffix("").as_posix()): path
        for path in list_files(labels, (".txt",))
        if path.stem.casefold() not in _NO_LINES
    }
    if images != labels:
        return files
    there = {key_of(path.relative_to(images).with_suffix("").as_posix()) for path in list_images(images)}
    return {key: path for key, path in files.items() if key in there}


def _hold_polygons(files: list[Path]) -> bool:
    lines = [line.split() for file in files[:_LOOKED_AT] for line in _lines(file)]
    return any(len(words) >= 7 and len(words) % 2 for words in lines) and all(map(_is_row, lines))


def _is_row(words: list[str]) -> bool:
    try:
        return _CLASS.fullmatch(words[0]) is not None and len(words) >= 5 and bool([float(word) for word in words])
    except ValueError:
        return False


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in read_text(file).splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return ["?"]


def _shapes(layout: Layout, file: Path | None, image: str, base: Path) -> tuple[Shape, ...]:
    shapes = []
    for number, line in enumerate([] if file is None else _lines(file), 1):
        words = line.split()
        if not _is_row(words) or (len(words) > 5 and (len(words) < 7 or len(words) % 2 == 0)):
            bad_shape(
                layout, image, f"line {number} of {relative(file or base, base)}", line[:60], "a class and x y ..."
            )
            continue
        numbers = [float(word) for word in words[1:]]
        if len(words) == 5:  # a box alone is not labelled
            x, y, w, h = numbers
            corners = [(x - w / 2, y - h / 2), (x + w / 2, y - h / 2), (x + w / 2, y + h / 2), (x - w / 2, y + h / 2)]
            part = {"part": f"line {number} of {relative(file or base, base)}"}
            layout.warnings.append(Finding("box-only", Where(image, Path(image).name), part, leave_out(image)))
            ring = ring_of(corners)
        else:
            ring = ring_of(list(zip(numbers[::2], numbers[1::2], strict=True)))
        if ring is None or max(map(abs, ring)) > 2:
            bad_shape(
                layout, image, f"line {number} of {relative(file or base, base)}", line[:60], "shares of the sides"
            )
            continue
        label = None if len(words) == 5 else words[0]
        shapes.append(Shape(label, (ring,), relative=True))
    return tuple(shapes)


def _renamed(picture: Picture, names: list[str]) -> Picture:
    shapes = (
        shape if shape.label is None else Shape(names[int(shape.label)], shape.rings, relative=True)
        for shape in picture.shapes
    )
    return Picture(picture.name, picture.image, picture.source, None, tuple(shapes))


def _names(base: Path, labels: list[Path]) -> list[str]:
    """Return the names of `data.yaml`, or of a `classes.txt` in a folder of the lines or above it.

    Raises:
        DataError: the file cannot be read, or numbers of classes are missing in it.
    """
    for file in (base / "data.yaml", base / "data.yml", base.parent / "data.yaml"):
        values = load_yaml(file) if file.is_file() else None
        names = values.get("names") if isinstance(values, dict) else None
        if isinstance(names, dict) and all(type(key) is int for key in names):
            if sorted(names) != list(range(len(names))):
                raise DataError("class numbers are not contiguous from 0", file=file, found=list(names))
            names = [names[key] for key in sorted(names)]
        if names is not None and not isinstance(names, list):
            raise DataError("names is wrong", file=file, expected="a list of names, or number: name lines")
        if names is not None:
            return [str(name) for name in names]
    lists = (without_numbers(read_names(folder / "classes.txt")) for folder in (base / "labels", base, *labels))
    return next((names for names in lists if names), [])
