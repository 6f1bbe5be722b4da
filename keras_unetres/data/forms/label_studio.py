"""Label Studio's JSON: a list of tasks, each with an image and its annotations; polygons, and brushes as run lengths.

Its shorter form, JSON-MIN, has the results of a task beside the address of its image.

The images lie in `images/` or beside the file, by the last part of their address, with or without the eight letters
that an upload puts before a name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from unetres_edge.errors import DataError
from unetres_edge.images.decode import MAX_PIXELS

from ..declaration import Declaration
from ..findings import Finding, Where
from ..fixes import leave_out
from .drawn import Picture, Shape, bad_shape, missing_image, ring_of, take_pictures
from .layout import UNPARTED, Layout, find_file, is_image, unnamed_note

_PEEK = 1 << 14
_UPLOADED = re.compile(r"[0-9a-f]{6,10}-")
_MOST = 4 * MAX_PIXELS  # values of a brush


def recognises(base: Path) -> bool:
    """Whether there is one file of this form."""
    return _find(base) is not None


def read(declared: Declaration) -> Layout:
    """Read the tasks of the file.

    Raises:
        DataError: no such file, or not of this form.
    """
    base = declared.base
    file = _find(base)
    if file is None:
        raise DataError("no JSON export of Label Studio", file=base)
    try:
        tasks = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read: {error}", file=file, expected="the JSON export of Label Studio") from error
    layout = Layout()
    pictures: list[Picture] = []
    several = 0
    for index, task in enumerate(map(_full, tasks) if isinstance(tasks, list) else ()):
        address = _address(task)
        image = None if address is None else _find_image(address, base, file)
        if image is None:
            missing_image(layout, file, str(address), base)
            continue
        try:
            done = [each for each in task.get("annotations") or () if not each.get("was_cancelled")]
            rows = (done[-1].get("result") or []) if done else []
            shapes = tuple(shape for row in rows for shape in _shapes(layout, row, image.name))
            size = _size(rows)
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
            bad_shape(layout, image.name, f"task {index} of {file.name}", str(error)[:60], "Label Studio's form")
            continue
        if not done:
            layout.notes.append(f"{image.name} is not annotated and left out")
            continue
        several += len(done) > 1
        pictures.append(Picture(image.name, image, file, size, shapes))
    if several:
        layout.notes.append(f"of {several} images with several annotations the last one is read")
    if not pictures and not layout.faults:
        raise DataError("no task is annotated", file=file)
    layout.notes += unnamed_note(picture.image for picture in pictures)
    labels = sorted({shape.label for picture in pictures for shape in picture.shapes if shape.label is not None})
    return take_pictures(layout, declared, {UNPARTED: pictures}, labels)


def _find(base: Path) -> Path | None:
    files = sorted(base.glob("*.json")) if base.is_dir() else []
    return next((file for file in files if file.is_file() and _looks_right(file)), None)


def _looks_right(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(_PEEK).lstrip()
    if not head.startswith(b"["):
        return False
    short = b'"annotation_id"' in head and b'"annotator"' in head
    return short or (b'"annotations"' in head and (b'"result"' in head or b'"data"' in head))


def _full(task: Any) -> Any:
    """Return a task of JSON-MIN as one of JSON; any other as it is."""
    if not isinstance(task, Mapping) or "annotations" in task or "annotation_id" not in task:
        return task
    rows = [row for rows in task.values() if isinstance(rows, list) for row in rows if isinstance(row, Mapping)]
    results = [{**row, "type": next((key for key in row if key.endswith("labels")), ""), "value": row} for row in rows]
    return {"data": task, "annotations": [{"result": results}]}


def _address(task: Any) -> str | None:
    """Return the address of a task's image: the first text of its data that ends like an image."""
    data = task.get("data") if isinstance(task, Mapping) else None
    texts = [text for text in data.values() if isinstance(text, str)] if isinstance(data, Mapping) else []
    cleaned = [unquote(text.split("?d=")[-1].split("?")[0]) for text in texts]
    return next((text for text in cleaned if Path(text).suffix.lower() in _ENDINGS), next(iter(cleaned), None))


_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif")


def _find_image(address: str, base: Path, file: Path) -> Path | None:
    name = address.replace("\\", "/").rpartition("/")[2]
    places = [base / "images", base, file.parent]
    path = find_file(name, places, [base]) or find_file(_UPLOADED.sub("", name, count=1), places, [base])
    if path is not None:
        return path
    for parent in places:
        files = sorted(parent.iterdir()) if parent.is_dir() else []
        kept = [each for each in files if is_image(each) and _UPLOADED.sub("", each.name, count=1) == name]
        if len(kept) == 1:
            return kept[0]
    return None


def _size(rows: list[Any]) -> tuple[int, int] | None:
    sizes = [(row.get("original_height"), row.get("original_width")) for row in rows if isinstance(row, Mapping)]
    return next(((h, w) for h, w in sizes if type(h) is int and type(w) is int and min(h, w) > 0), None)


def _shapes(layout: Layout, row: Any, image: str) -> list[Shape]:
    """Return what a result draws."""
    kind, value = str(row.get("type", "")), row.get("value") or {}
    labels = [str(label) for label in value.get(kind) or value.get("labels") or ()]
    if "points" in value and kind.startswith("polygon"):
        size = _size([row]) or (100, 100)
        ring = ring_of(value["points"], (size[1] / 100, size[0] / 100))
        if ring is None or _size([row]) is None:
            bad_shape(layout, image, f"a polygon of {', '.join(labels)}", str(value["points"])[:60], "three corners")
            return []
        return [Shape(label, (ring,)) for label in labels[:1]]
    if value.get("format") == "rle":
        shape = _brush(row, labels[0] if labels else None)
        if shape is None:
            bad_shape(
                layout, image, f"a brush of {', '.join(labels)}", "run lengths of another size", "its image's size"
            )
        return [] if shape is None or not labels else [shape]
    if kind.startswith("rectangle"):
        figures = {"part": f"a rectangle of {', '.join(labels)}"}
        layout.warnings.append(Finding("box-only", Where(image, image), figures, leave_out(image)))
        whole = _size([row])
        box = [float(value.get(key, 0)) for key in ("x", "y", "width", "height")]
        x, y, w, h = box
        scale = (1.0, 1.0) if whole is None else (whole[1] / 100, whole[0] / 100)
        ring = ring_of([(x, y), (x + w, y), (x + w, y + h), (x, y + h)], scale)
        return [] if ring is None else [Shape(None, (ring,), level=-1)]
    return []  # choices and the like, which draw nothing


def _brush(row: Mapping[str, Any], label: str | None) -> Shape | None:
    """Return the shape of a brush, whose run lengths are packed into bits (RGBA, of which alpha is the brush)."""
    size = _size([row])
    values = None if size is None else _unpack(row["value"].get("rle") or [], 4 * size[0] * size[1])
    if size is None or values is None:
        return None
    inside = values.reshape(-1, 4)[:, 3] > 0
    edges = np.flatnonzero(np.diff(inside.astype(np.int8))) + 1
    first = [0, *edges.tolist(), len(inside)] if not inside[0] else [0, 0, *edges.tolist(), len(inside)]
    runs = tuple(np.diff(first).tolist())
    return Shape(label, box=(0, 0, size[1], size[0]), runs=runs)


def _unpack(packed: list[int], expected: int) -> np.ndarray | None:
    """Return the bytes that the run lengths of @thi.ng/rle-pack hold, or None if they are cut or of another number."""
    data = bytes(packed if isinstance(packed, list) else ())
    place = 0

    def take(count: int) -> int:
        nonlocal place
        if place + count > 8 * len(data):
            raise IndexError
        first, end = place // 8, (place + count + 7) // 8
        number = int.from_bytes(data[first:end]) >> (8 * end - place - count)
        place += count
        return number & ((1 << count) - 1)

    try:
        length, word = take(32), take(5) + 1
        sizes = [take(4) + 1 for _ in range(4)]
        if length != expected or length > _MOST:
            return None
        values = np.zeros(length, np.uint8)
        at = 0
        while at < length:
            repeats = take(1)
            end = at + 1 + take(sizes[take(2)])
            if repeats:
                values[at:end] = take(word)
                at = end
            while not repeats and at < end:
                values[at] = take(word)
                at += 1
    except (IndexError, ValueError):
        return None
    return values
