"""Polygons of Labelbox, Hasty and Datumaro in one file, and of V7's Darwin and SuperAnnotate in a file for each image.

    images/a.png export.ndjson        images/a.png annotations/a.json        a.png a.png___objects.json

The images lie in `images/`, beside the file, or in a folder that the file names. Boxes are not labelled inside; what is
no area, as points and lines, is passed over; masks at an address, or in a form of the tool's own, are faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unetres_edge.errors import DataError
from unetres_edge.files import parse_json

from ..declaration import Declaration
from ..findings import refuse
from ..tables import decoding_of
from .annotations import part_in
from .drawn import Picture, Ring, Shape, bad_shape, missing_image, ring_of, take_pictures
from .layout import UNPARTED, Layout, find_file, unnamed_note
from .outline_files import read_outlines, recognises_outlines

_PEEK = 1 << 16
_NO_AREAS = ("tag", "line", "polyline", "keypoint", "point", "skeleton", "string", "label", "caption", "points")
_AREA = "a polygon or a box"
Make = Callable[[str, Mapping[str, Any], int], Shape | None]  # (label, object, its place in the order) -> its area


class Entry(NamedTuple):
    """What a file says of one image.

    Args:
        name: path of the image, as the file names it.
        folder: folder that the file names, or "".
        size: (height, width) in px, or None.
        rows: (label, the object) of each in order.
    """

    name: str
    folder: str
    size: tuple[int, int] | None
    rows: Sequence[tuple[str, Mapping[str, Any]]]


class Tool(NamedTuple):
    """A tool whose export is one file.

    Args:
        title: its name.
        marks: texts of which all stand at the head of its files.
        entries: function that returns what the content of a file says of each image.
        shape: function that returns what an object draws; None where it is no area that is read.
        way: which export works instead of objects that are not read.
    """

    title: str
    marks: tuple[bytes, ...]
    entries: Callable[[Any], Iterable[Entry]]
    shape: Make
    way: str


def recogniser(tool: Tool) -> Callable[[Path], bool]:
    """Return whether a folder, or `annotations/` in it, holds a file of a tool."""
    return lambda base: bool(_find(base, tool))


def reader(tool: Tool) -> Callable[[Declaration], Layout]:
    """Return the reader of the files of a tool."""

    def read(declared: Declaration) -> Layout:
        files = _find(declared.base, tool)
        if not files:
            raise DataError(f"no export of {tool.title}", file=declared.base)
        layout = Layout()
        parts = [part_in(file.stem) for file in files]
        parted = "train" in parts and UNPARTED not in parts
        pictures: dict[str, list[Picture]] = {}
        for file, part in zip(files, parts, strict=True):
            found = pictures.setdefault(part if parted else UNPARTED, [])
            found += _pictures(layout, tool, file, declared.base)
        layout.notes += unnamed_note(picture.image for of_part in pictures.values() for picture in of_part)
        labels = {s.label for of_part in pictures.values() for each in of_part for s in each.shapes if s.label}
        if not labels:
            refuse(layout.faults, f"nothing that is read is drawn in the export of {tool.title}", files[0])
            raise DataError(f"nothing is drawn in the export of {tool.title}", file=files[0], expected=_AREA)
        return take_pictures(layout, declared, pictures, sorted(labels))

    return read


def _find(base: Path, tool: Tool) -> list[Path]:
    folders = [folder for folder in (base, base / "annotations") if folder.is_dir()]
    files = (path for folder in folders for path in sorted(folder.iterdir()))
    return [path for path in files if path.suffix.lower() in _ENDINGS and path.is_file() and _has(path, tool.marks)]


def _has(file: Path, marks: Iterable[bytes]) -> bool:
    with file.open("rb") as stream:
        head = stream.read(_PEEK)
    return all(mark in head for mark in marks)


def _pictures(layout: Layout, tool: Tool, file: Path, base: Path) -> Iterator[Picture]:
    try:
        entries = list(tool.entries(_load(file)))
    except (AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        expected = f"the export of {tool.title}"
        raise DataError(f"cannot read: {str(error)[:80]}", file=file, expected=expected) from error
    for entry in entries:
        folders = [folder for top in (base / "images", base, file.parent) for folder in (top / entry.folder, top)]
        image = find_file(entry.name, [*(f / file.stem for f in folders[:2]), *folders], [base])
        if image is None:
            missing_image(layout, file, entry.name, base)
            continue
        shapes = _draw_all(layout, image.name, image.name, entry.rows, tool.shape, tool.way)
        yield Picture(image.relative_to(base).as_posix(), image, file, entry.size, tuple(shapes))


def _draw_all(
    layout: Layout, image: str, place: str, rows: Iterable[tuple[str, Mapping[str, Any]]], make: Make, way: str
) -> list[Shape]:
    """Return what the objects of an image draw; those that are no area that is read are faults.

    Args:
        image: name of the image.
        place: name of what the objects stand in.
        rows: (label, the object) of each in order.
        make: function that returns what an object draws.
        way: which export works instead.
    """
    shapes = []
    for index, (label, row) in enumerate(rows):
        try:
            shape = make(label, row, index)
        except (AttributeError, LookupError, TypeError, ValueError):
            shape = None
        if shape is None:
            bad_shape(layout, image, f"object {index} ({label}) of {place}", str(dict(row))[:60], f"{_AREA}; {way}")
        elif shape.rings or shape.runs:
            shapes.append(shape)
    return shapes


def _load(file: Path) -> Any:
    """Return the content of a file; of lines of JSON, a list."""
    content = file.read_bytes()
    if file.suffix.lower() == ".json":
        return parse_json(content)
    return [parse_json(line) for line in content.decode(decoding_of(content)).splitlines() if line.strip()]


_ENDINGS = (".json", ".ndjson", ".jsonl")


# Shapes


def _corners(points: Iterable[Mapping[str, Any]]) -> list[tuple[Any, Any]]:
    """Return the corners that {"x": ..., "y": ...} give."""
    return [(point["x"], point["y"]) for point in points]


def _pairs(values: Sequence[float]) -> list[tuple[Any, Any]]:
    """Return the corners of x, y, x, y, ..."""
    return list(zip(values[::2], values[1::2], strict=True))


def _box(left: Any, top: Any, width: Any, height: Any) -> Shape | None:
    """Return a box, inside of which nothing is labelled."""
    left, top, right, bottom = float(left), float(top), float(left) + float(width), float(top) + float(height)
    ring = ring_of([(left, top), (right, top), (right, bottom), (left, bottom)])
    return None if ring is None else Shape(None, (ring,), level=-1)


def _of_rings(label: str, corners: Iterable[Sequence[Any]], level: int = 0) -> Shape | None:
    """Return the area of several polygons of which those that lie in an odd number of others are holes, or None."""
    rings = [ring_of(list(each)) for each in corners]
    sound: list[Ring] = [ring for ring in rings if ring is not None]
    if not sound or len(sound) != len(rings):
        return None
    within = [sum(_is_in(ring[:2], other) for other in sound if other is not ring) for ring in sound]
    outer = tuple(ring for ring, count in zip(sound, within, strict=True) if count % 2 == 0)
    holes = tuple(ring for ring, count in zip(sound, within, strict=True) if count % 2)
    return Shape(label, outer, holes, level=level)


def _is_in(point: Sequence[float], ring: Ring) -> bool:
    """Whether a point lies in a polygon: a ray to the right crosses its sides an odd number of times."""
    x, y = point
    corners = np.reshape(ring, (-1, 2)).tolist()
    crossings = 0
    for (x0, y0), (x1, y1) in pairwise([*corners, corners[0]]):
        crossings += (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0)
    return crossings % 2 == 1


# Labelbox: a row for each image, with the labels of each project; the last one counts


def _labelbox_entries(content: Any) -> Iterator[Entry]:
    for row in content if isinstance(content, list) else [content]:
        if "Label" in row:  # as written until 2023
            label = row["Label"] if isinstance(row["Label"], Mapping) else {}
            yield Entry(_file_of(row["External ID"]), "", None, _titled(label.get("objects") or ()))
            continue
        labels = [label for project in row["projects"].values() for label in project.get("labels") or ()]
        if labels:
            objects = labels[-1]["annotations"].get("objects") or ()
            media = row.get("media_attributes") or {}
            size = (media["height"], media["width"]) if {"height", "width"} <= media.keys() else None
            yield Entry(_file_of(row["data_row"]["external_id"]), "", size, _titled(objects))


def _file_of(name: Any) -> str:
    return str(name).partition("?")[0]


def _titled(objects: Iterable[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(str(each.get("name") or each.get("title")), each) for each in objects]


def _labelbox_shape(label: str, row: Mapping[str, Any], index: int) -> Shape | None:
    if row.get("polygon"):
        return _of_rings(label, [_corners(row["polygon"])], index)
    box = row.get("bounding_box") or row.get("bbox")
    if box:
        return _box(box["left"], box["top"], box["width"], box["height"])
    return Shape(None) if {"point", "line"} & row.keys() else None


# Hasty


def _hasty_entries(content: Any) -> Iterator[Entry]:
    for row in content["images"]:
        rows = sorted(row.get("labels") or (), key=lambda each: each.get("z_index") or 0)
        named = [(str(each["class_name"]), each) for each in rows]
        yield Entry(str(row["image_name"]), str(row.get("dataset_name") or ""), (row["height"], row["width"]), named)


def _hasty_shape(label: str, row: Mapping[str, Any], index: int) -> Shape | None:
    if row.get("polygon"):
        return _of_rings(label, [row["polygon"]], index)
    if row.get("mask"):
        return None
    left, top, right, bottom = row["bbox"]
    return _box(left, top, right - left, bottom - top)


# Datumaro's own form


def _datumaro_entries(content: Any) -> Iterator[Entry]:
    names = [str(each["name"]) for each in content["categories"]["label"]["labels"]]
    for item in content["items"]:
        image = item.get("image") or {}
        size = tuple(image["size"]) if image.get("size") else None
        rows = [
            (names[each["label_id"]] if each.get("label_id") is not None else "", each)
            for each in item.get("annotations") or ()
        ]
        yield Entry(str(image.get("path") or f"{item['id']}.png"), "", size, rows)


def _datumaro_shape(label: str, row: Mapping[str, Any], index: int) -> Shape | None:
    kind = row["type"]
    if kind in _NO_AREAS:
        return Shape(None)
    level = int(row.get("z_order") or 0)
    if kind == "bbox":
        return _box(*row["bbox"])
    if not label:
        return None
    if kind == "mask":
        return _of_runs(label, row["rle"], level)
    return _of_rings(label, [_pairs(row["points"])], level) if kind == "polygon" else None


def _of_runs(label: str, packed: Mapping[str, Any], level: int) -> Shape:
    """Return the area of COCO's run lengths, packed as text or not."""
    from pycocotools import mask as drawing

    height, width = packed["size"]
    counts = packed["counts"]
    runs = drawing.frPyObjects(dict(packed), height, width) if isinstance(counts, list) else dict(packed)
    flat = drawing.decode(runs).ravel()
    cuts = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], cuts, [flat.size]])).tolist()
    return Shape(label, box=(0, 0, width, height), runs=tuple([0, *lengths] if flat[0] else lengths), level=level)


_COCO = "export it as COCO"
TOOLS = {
    "labelbox": Tool(
        "Labelbox",
        (b'"data_row"', b'"projects"'),
        _labelbox_entries,
        _labelbox_shape,
        "masks at an address: save them as PNG in masks/",
    ),
    "labelbox json": Tool(
        "Labelbox", (b'"External ID"', b'"Label"'), _labelbox_entries, _labelbox_shape, "save masks as PNG in masks/"
    ),
    "hasty": Tool("Hasty", (b'"label_classes"', b'"images"'), _hasty_entries, _hasty_shape, _COCO),
    "datumaro": Tool("Datumaro", (b'"categories"', b'"items"', b'"labels"'), _datumaro_entries, _datumaro_shape, _COCO),
}


# A file for each image


def recognises_darwin(base: Path) -> bool:
    """Whether there are files of V7's Darwin JSON that belong to images."""
    return recognises_outlines(base, (".json",), _is_darwin)


def recognises_superannotate(base: Path) -> bool:
    """Whether there are files of SuperAnnotate that belong to images."""
    return recognises_outlines(base, (".json",), _is_superannotate)


def read_darwin(declared: Declaration) -> Layout:
    """Read the Darwin JSON of every image; see `read_outlines`."""
    return read_outlines(declared, (".json",), _darwin_shapes, _is_darwin)


def read_superannotate(declared: Declaration) -> Layout:
    """Read SuperAnnotate's JSON of every image; see `read_outlines`."""
    return read_outlines(declared, (".json",), _superannotate_shapes, _is_superannotate)


def _is_darwin(file: Path) -> bool:
    return _has(file, (b'"annotations"', b'"name"')) and (_has(file, (b'"slots"',)) or _has(file, (b'"workview_url"',)))


def _is_superannotate(file: Path) -> bool:
    return _has(file, (b'"instances"', b'"metadata"'))


def _darwin_shapes(layout: Layout, file: Path, image: str) -> list[Shape]:
    return _shapes_of(layout, file, image, "annotations", "name", _darwin_shape)


def _superannotate_shapes(layout: Layout, file: Path, image: str) -> list[Shape]:
    return _shapes_of(layout, file, image, "instances", "className", _superannotate_shape)


def _shapes_of(
    layout: Layout,
    file: Path,
    image: str,
    key: str,
    named: str,
    make: Make,
) -> list[Shape]:
    """Return what the rows under a key draw, each of a class under `named`."""
    try:
        rows = [(str(row[named]), row) for row in _load(file)[key]]
    except (LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        bad_shape(layout, image, file.name, str(error)[:60], f'a list "{key}" of objects')
        return []
    return _draw_all(layout, image, file.name, rows, make, _COCO)


def _darwin_shape(label: str, row: Mapping[str, Any], index: int) -> Shape | None:
    drawn = row.get("polygon") or row.get("complex_polygon")
    if drawn:
        paths = drawn.get("paths") or drawn["path"]
        paths = [paths] if isinstance(paths[0], Mapping) else paths
        every = [*paths, *(drawn.get("additional_paths") or ())]
        return _of_rings(label, map(_corners, every), index)
    if "bounding_box" in row and not {"mask", "raster_layer", "ellipse"} & row.keys():
        return _box(*(row["bounding_box"][key] for key in ("x", "y", "w", "h")))
    return Shape(None) if set(_NO_AREAS) & row.keys() else None


def _superannotate_shape(label: str, row: Mapping[str, Any], index: int) -> Shape | None:
    kind, points = row["type"], row.get("points")
    if kind == "polygon":
        rings = [points, *(row.get("exclude") or ())]
        return _of_rings(label, map(_pairs, rings), index)
    if kind == "bbox" and points is not None:
        return _box(points["x1"], points["y1"], points["x2"] - points["x1"], points["y2"] - points["y1"])
    return Shape(None) if kind in _NO_AREAS else None
