"""labelme: a .json beside each image, with labelled shapes drawn as labelme itself draws them, later ones on top.

Class 0 is the background, the others are the labels in alphabetical order unless `classes:` or a `class_names.txt`
says otherwise. `__ignore__` is not labelled.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from unetres_edge.errors import DataError, ImageError, MaskError
from unetres_edge.files import parse_json
from unetres_edge.images.decode import MAX_PIXELS, pixels_of
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.model.background import is_background

from ..declaration import Declaration, read_names
from ..findings import Finding, Where, relative
from ..fixes import leave_out
from ..sources import ImageFile, Sample, Source
from .layout import (
    UNPARTED,
    Layout,
    find_file,
    find_parts,
    is_image,
    list_images,
    refuse_other_background,
    unnamed_note,
)
from .outlines import number, shown

_IGNORED = {"__ignore__", "_ignore_"}
_LEAST = {"polygon": 3, "linestrip": 2}
_EXACT = {"rectangle": 2, "circle": 2, "line": 2, "point": 1, "mask": 2}
_FARTHEST = 100_000  # px
_LINE_WIDTH = 10  # px, as in labelme
_POINT_RADIUS = 5
_LOOKED_AT = 1 << 20  # bytes
_SHAPES = re.compile(rb'"shapes"\s*:\s*\[')


@dataclass(frozen=True)
class Shape:
    """One labelled shape; `group` is what makes several shapes one object."""

    kind: str
    points: tuple[tuple[float, float], ...]
    label: str
    group: int | str | None
    mask: str | None


@dataclass(frozen=True)
class EmbeddedImage(Source):
    """The image that a .json holds as `imageData`, base64 of an image file."""

    file: Path

    def read(self) -> np.ndarray:
        try:
            data = base64.b64decode(parse_json(self.file.read_bytes())["imageData"], validate=True)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ImageError(f"cannot read imageData: {error}", file=self.file, kind="unreadable") from error
        try:
            return pixels_of(data)
        except ImageError as error:
            error.file = os.fspath(self.file)
            raise


@dataclass(frozen=True, eq=False)
class LabelmeMask(Source):
    """The mask of an image, drawn from its shapes; with `numbered`, the objects' numbers 1, 2, ... instead.

    Args:
        file: the .json.
        image: its image, which gives the size where the file does not.
        size: (height, width) in px, or None.
        shapes: shapes in the order of the file.
        class_of: label -> class id or `IGNORE`.
        numbered: whether to give instances, with 255 where not labelled.
    """

    file: Path
    image: Source
    size: tuple[int, int] | None
    shapes: tuple[Shape, ...]
    class_of: dict[str, int]
    numbered: bool = False
    unlabelled = IGNORE

    def read(self) -> np.ndarray:
        height, width = self.size or self.image.read().shape[:2]
        mask = np.zeros((height, width), np.int32 if self.numbered else np.uint8)
        canvas = Image.new("L", (width, height))
        numbers: dict[tuple[str, Any], int] = {}
        for index, shape in enumerate(self.shapes):
            (left, top), inside = _draw(shape, canvas, self.file)
            class_id = self.class_of[shape.label]
            key = (shape.label, (index,) if shape.group is None else shape.group)
            value = numbers.setdefault(key, number(len(numbers)))
            part = mask[top : top + inside.shape[0], left : left + inside.shape[1]]
            part[inside] = value if self.numbered and class_id not in (0, IGNORE) else class_id
        return mask

    def digest(self) -> str:
        said = [
            self.size,
            self.numbered,
            [[s.kind, s.points, s.label, s.group, s.mask] for s in self.shapes],
            self.class_of,
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def recognises(base: Path) -> bool:
    """Whether a .json in the folder, in its parts, or in its one folder of annotations has labelme's shapes."""
    return _has_shapes(base) or bool(find_parts(base, _has_shapes)) or _folder_of_shapes(base) is not None


def read(declared: Declaration) -> Layout:
    """Read every .json of the folder or of its parts.

    Raises:
        DataError: not labelme's form, or labels that the declared classes do not name.
    """
    base = declared.base
    folders = declared.splits() or ({UNPARTED: base} if _has_shapes(base) else find_parts(base, _has_shapes))
    apart = None if folders else _folder_of_shapes(base)
    folders = {UNPARTED: apart} if apart is not None else folders
    layout = Layout(ignore=IGNORE)
    contents = {part: [(file, _load(file)) for file in _files(folder)] for part, folder in folders.items()}
    labels = {shape["label"] for files in contents.values() for _, content in files for shape in content["shapes"]}
    behind = {label for label in labels if is_background(label)}
    names = declared.classes()[0] or read_names(base / "class_names.txt")
    if names is None:
        names = ["background", *sorted(labels - _IGNORED - behind)]
        layout.notes.append("classes are the labels in alphabetical order: " + ", ".join(names))
    names = tuple(name for name in names if name not in _IGNORED)
    refuse_other_background(names, declared.file)
    if names[0] in labels - behind:
        raise DataError(
            "class 0 is what no shape covers", file=declared.file, expected="the background first", found=names[0]
        )
    class_of = {name: i for i, name in enumerate(names)} | dict.fromkeys(behind, 0) | dict.fromkeys(_IGNORED, IGNORE)
    unknown = sorted(labels - set(class_of))
    if unknown:
        raise DataError("labels that are no class", file=base, expected=", ".join(names), found=", ".join(unknown))
    layout.names = names
    for part, files in contents.items():
        layout.samples[part] = [
            sample for file, content in files if (sample := _sample(layout, file, content, class_of, base)) is not None
        ]
    layout.notes += unnamed_note(sample.image.file for of_part in layout.samples.values() for sample in of_part)
    return layout


def _image_folders(base: Path) -> list[Path]:
    """Return `images/` and the other folders that images may lie in."""
    return [base / "images", *(base / name for name in ("imgs", "img", "JPEGImages", "image", "pictures", "photos"))]


def _has_shapes(folder: Path) -> bool:
    return any(map(_is_annotation, _files(folder)[:8]))


def _folder_of_shapes(base: Path) -> Path | None:
    """Return the one folder in `base` that holds files with shapes and no images, which lie beside it."""
    inside = [path for path in sorted(base.iterdir()) if path.is_dir()] if base.is_dir() else []
    candidates = [path for path in inside if _has_shapes(path) and not list_images(path)]
    beside = any(list_images(path) for path in inside if path not in candidates) or any(map(is_image, base.iterdir()))
    return candidates[0] if len(candidates) == 1 and beside else None


def _files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*.json")) if file.is_file() and not file.name.startswith(".")]


def _is_annotation(file: Path) -> bool:
    """Whether a file says that it holds shapes; of a large one, as with an image in it, both ends are looked at."""
    try:
        with file.open("rb") as stream:
            head = stream.read(_LOOKED_AT)
            if len(head) < _LOOKED_AT:
                return isinstance(json.loads(head).get("shapes"), list)
            stream.seek(-_LOOKED_AT, os.SEEK_END)
            return head.lstrip().startswith(b"{") and bool(_SHAPES.search(head) or _SHAPES.search(stream.read()))
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def _load(file: Path) -> dict[str, Any]:
    try:
        content = parse_json(file.read_bytes())
        for shape in content["shapes"]:
            if not isinstance(shape["label"], (str, int)):
                raise TypeError(f"a label is {shown(shape['label'])}")
            shape["label"] = str(shape["label"]).encode().decode()  # refuses what cannot be written
        return content
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"not labelme's form: {error}", file=file, expected='"shapes", each with a "label"') from error


def _sample(layout: Layout, file: Path, content: dict[str, Any], class_of: dict[str, int], base: Path) -> Sample | None:
    name = str(content.get("imagePath") or f"{file.stem}.jpg")
    image = find_file(name, [file.parent, file.parent / "images", base, *_image_folders(base)], [base, file.parent])
    source: Source = EmbeddedImage(file) if image is None else ImageFile(image)
    if image is None and isinstance(content.get("imageData"), str):
        image = Path(file.parent / name.replace("\\", "/").rpartition("/")[2])
    if image is None:
        where = Where(relative(file, base), file.name)
        layout.faults.append(Finding("missing-image", where, {"named": shown(name)}, leave_out(file.name)))
        return None
    where = Where(relative(file, base), image.name)
    shapes = []
    for index, shape in enumerate(content["shapes"]):
        kind = shape.get("shape_type") or "polygon"
        points = shape.get("points")
        fault = _fault(kind, points, shape)
        if fault:
            figures = {"part": f"shape {index} ({shape['label']})", "found": fault[1], "expected": fault[0]}
            layout.faults.append(Finding("bad-annotation", where, figures, leave_out(image.name)))
            continue
        placed = tuple((float(x), float(y)) for x, y in points)
        shapes.append(Shape(kind, placed, shape["label"], shape.get("group_id"), shape.get("mask")))
    height, width = content.get("imageHeight"), content.get("imageWidth")
    size = None
    if height is not None and width is not None:
        if not all(type(n) is int and 0 < n <= MAX_PIXELS for n in (height, width)) or height * width > MAX_PIXELS:
            side = {"height": shown(height), "width": shown(width), "most": MAX_PIXELS}
            layout.faults.append(Finding("bad-annotation", where, side, leave_out(image.name)))
            return None
        size = (height, width)
    drawn = (LabelmeMask(file, source, size, tuple(shapes), class_of, numbered) for numbered in (False, True))
    return Sample(image.name, source, *drawn)


def _fault(kind: Any, points: Any, shape: dict[str, Any]) -> tuple[str, str] | None:
    """Return (expected, found) of what is wrong with a shape, or None."""
    kinds = _LEAST | _EXACT
    if not isinstance(kind, str) or kind not in kinds:
        return ", ".join(kinds), f"a shape of type {shown(kind)}"
    if not isinstance(points, list) or not all(map(_is_point, points)):
        return f"points of two numbers below {_FARTHEST}", "other points"
    if len(points) < kinds[kind] or (kind in _EXACT and len(points) != kinds[kind]):
        least = "at least " if kind in _LEAST else ""
        return f"{least}{kinds[kind]} points", f"a {kind} of {len(points)} points"
    if not isinstance(shape.get("group_id"), (int, str, type(None))):
        return "a number as group_id", f"group_id {shown(shape['group_id'])}"
    if kind == "mask" and not isinstance(shape.get("mask"), str):
        return "a mask in base64", "none"
    return None


def _is_point(point: Any) -> bool:
    pair = isinstance(point, list) and len(point) == 2
    return pair and all(type(n) in (int, float) and abs(n) < _FARTHEST for n in point)


def _draw(shape: Shape, canvas: Image.Image, file: Path) -> tuple[tuple[int, int], np.ndarray]:
    """Return the corner (x, y) of the box around a shape and the pixels (H, W) bool in it, as labelme draws them.

    Args:
        canvas: an empty image, on which it is drawn and wiped off again: the time is that of the box.
    """
    if shape.kind == "mask":
        return _stored(shape, (canvas.height, canvas.width), file)
    draw = ImageDraw.Draw(canvas)
    points = list(shape.points)
    reach = float(_LINE_WIDTH)
    if shape.kind == "circle":
        (cx, cy), (px, py) = points[:2]
        radius = math.hypot(cx - px, cy - py)
        reach += radius
        draw.ellipse([cx - radius, cy - radius, cx + radius, cy + radius], outline=1, fill=1)
    elif shape.kind == "rectangle":
        (x0, y0), (x1, y1) = points[:2]
        draw.rectangle([min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)], outline=1, fill=1)
    elif shape.kind in ("line", "linestrip"):
        draw.line(points, fill=1, width=_LINE_WIDTH)
    elif shape.kind == "point":
        (x, y), r = points[0], _POINT_RADIUS
        draw.ellipse([x - r, y - r, x + r, y + r], outline=1, fill=1)
    else:
        draw.polygon(points, outline=1, fill=1)
    left, top = (max(0, math.floor(min(values) - reach)) for values in zip(*points, strict=True))
    right, bottom = (math.ceil(max(values) + reach) + 1 for values in zip(*points, strict=True))
    box = (left, top, min(right, canvas.width), min(bottom, canvas.height))
    if box[0] >= box[2] or box[1] >= box[3]:
        return (0, 0), np.zeros((0, 0), bool)
    inside = np.array(canvas.crop(box), bool)
    canvas.paste(0, box)
    return (left, top), inside


def _stored(shape: Shape, size: tuple[int, int], file: Path) -> tuple[tuple[int, int], np.ndarray]:
    """Return a stored mask and its place: the first point is its upper left pixel."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape.mask or "", validate=True)), formats=("PNG",)) as image:
            stored = np.array(image) > 0 if image.width * image.height <= MAX_PIXELS else np.zeros(0)
    except Exception as error:  # of Pillow: any kind
        raise MaskError(f"a stored mask cannot be read: {error}", file=file) from error
    x, y = (round(n) for n in shape.points[0])
    if stored.ndim != 2 or x < 0 or y < 0 or y + stored.shape[0] > size[0] or x + stored.shape[1] > size[1]:
        raise MaskError("a stored mask lies outside the image", file=file, expected=size, found=(x, y, *stored.shape))
    return (x, y), stored
