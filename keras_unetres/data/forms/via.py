"""VGG Image Annotator: a JSON or CSV of regions beside the images or `images/`, or one each in `train/` and `val/`.

Polygons, rectangles, circles and ellipses are drawn. The class is the attribute of regions that is called so, or the
only one.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unetres_edge.errors import DataError
from unetres_edge.files import parse_json

from ..declaration import Declaration
from ..tables import encoding_of
from .drawn import Picture, Ring, Shape, bad_shape, missing_image, ring_of, take_pictures
from .layout import UNPARTED, Layout, find_file, find_parts, unnamed_note

_PEEK = 1 << 16
_CALLED = ("class", "label", "name", "type", "category", "object_name")
_CORNERS = 90  # of a circle
_OBJECT = "object"


def recognises(base: Path) -> bool:
    """Whether there is one file of this form, in the folder or in its parts."""
    return _find(base) is not None or "train" in find_parts(base, lambda folder: _find(folder) is not None)


def read(declared: Declaration) -> Layout:
    """Read the regions of each image.

    Raises:
        DataError: no such file, or not of this form.
    """
    base = declared.base
    places = {UNPARTED: base} if _find(base) else find_parts(base, lambda folder: _find(folder) is not None)
    if not places:
        raise DataError("no JSON or CSV of the VGG Image Annotator", file=base)
    layout = Layout()
    contents = {part: _load(_find(place) or place) for part, place in places.items()}
    named = _attribute(entry for entries in contents.values() for entry in entries)
    pictures = {part: list(_pictures(layout, entries, places[part], named, base)) for part, entries in contents.items()}
    layout.notes += unnamed_note(picture.image for of_part in pictures.values() for picture in of_part)
    labels = sorted({s.label for found in pictures.values() for each in found for s in each.shapes if s.label})
    if named:
        layout.notes.append(f"classes are the values of the attribute {named}")
    return take_pictures(layout, declared, pictures, labels or [_OBJECT])


def _find(folder: Path) -> Path | None:
    files = sorted([*folder.glob("*.json"), *folder.glob("*.csv")]) if folder.is_dir() else []
    return next((file for file in files if file.is_file() and _looks_right(file)), None)


def _looks_right(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(_PEEK)
    if file.suffix.lower() == ".csv":
        return b"region_shape_attributes" in head and b"filename" in head
    return b'"shape_attributes"' in head or b'"_via_img_metadata"' in head


def _load(file: Path) -> list[Mapping[str, Any]]:
    """Return the entries of a file, an image each."""
    try:
        content = _rows_of_table(file) if file.suffix.lower() == ".csv" else json.loads(file.read_bytes())
        rows = content.get("_via_img_metadata", content)
        entries = list(rows.values() if isinstance(rows, Mapping) else rows)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError, csv.Error) as error:
        raise DataError(
            f"cannot read: {error}", file=file, expected="JSON or CSV of the VGG Image Annotator"
        ) from error
    return [entry for entry in entries if isinstance(entry, Mapping) and "filename" in entry]


def _rows_of_table(file: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of a CSV, of which each row is a region, or says that an image has none."""
    entries: dict[str, dict[str, Any]] = {}
    with file.open(encoding=encoding_of(file), newline="") as lines:
        for row in csv.DictReader(line for line in lines if not line.startswith("# ")):
            name = row.get("filename") or row["#filename"]
            entry = entries.setdefault(name, {"filename": name, "regions": []})
            shape = parse_json(row["region_shape_attributes"] or "{}")
            if shape:
                said = {"shape_attributes": shape, "region_attributes": parse_json(row["region_attributes"] or "{}")}
                entry["regions"].append(said)
    return entries


def _regions(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    regions = entry.get("regions") or ()
    return [row for row in (regions.values() if isinstance(regions, Mapping) else regions) if isinstance(row, Mapping)]


def _attribute(entries: Iterable[Mapping[str, Any]]) -> str:
    """Return the attribute of regions that is the class; "" where they have none."""
    rows = [row for entry in entries for row in _regions(entry)]
    counts = Counter(name for row in rows for name in (row.get("region_attributes") or {}))
    called = [name for name in counts if name.casefold() in _CALLED]
    return called[0] if called else counts.most_common(1)[0][0] if counts else ""


def _pictures(
    layout: Layout, entries: Iterable[Mapping[str, Any]], folder: Path, named: str, base: Path
) -> Iterable[Picture]:
    source = _find(folder) or folder
    without = 0
    for entry in entries:
        name = str(entry["filename"])
        image = find_file(name, [folder, folder / "images", base / "images", base], [base])
        if image is None:
            missing_image(layout, source, name, base)
            continue
        shapes = []
        for row in _regions(entry):
            ring = _ring(row.get("shape_attributes"))
            if ring is None:
                said = str(row.get("shape_attributes"))[:60]
                bad_shape(layout, name, f"a region of {name}", said, "a polygon, rectangle, circle or ellipse")
            else:
                shapes.append(Shape(_label(row.get("region_attributes"), named), (ring,)))
        without += not shapes
        yield Picture(image.name, image, source, None, tuple(shapes))
    if without:
        layout.notes.append(f"{without} images have no region, and are background all over")


def _label(attributes: Any, named: str) -> str:
    value = attributes.get(named) if isinstance(attributes, Mapping) else None
    if isinstance(value, Mapping):  # of check boxes: the one that is set
        value = next((key for key, is_set in value.items() if is_set), None)
    return str(value) if value else _OBJECT


def _ring(shape: Any) -> Ring | None:
    try:
        kind = shape["name"]
        if kind in ("polygon", "polyline"):
            return ring_of(list(zip(shape["all_points_x"], shape["all_points_y"], strict=True)))
        if kind == "rect":
            left, top, width, height = (float(shape[key]) for key in ("x", "y", "width", "height"))
            return ring_of([(left, top), (left + width, top), (left + width, top + height), (left, top + height)])
        if kind in ("circle", "ellipse"):
            radii = (shape["r"], shape["r"]) if kind == "circle" else (shape["rx"], shape["ry"])
            turns = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
            x = float(shape["cx"]) + float(radii[0]) * np.cos(turns)
            y = float(shape["cy"]) + float(radii[1]) * np.sin(turns)
            return ring_of(np.stack([x, y], -1))
    except (KeyError, TypeError, ValueError):
        return None
    return None
