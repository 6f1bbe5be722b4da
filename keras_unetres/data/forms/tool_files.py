"""A file of a tool's own for each image: XML with polygons, and Supervisely's JSON.

    Annotations/a.xml Images/a.jpg        ds/ann/a.jpg.json ds/img/a.jpg

XML is that of LabelMe (MIT), of PASCAL VOC with polygons, of Aperio's ImageScope (as MoNuSeg's) or of ASAP. Boxes are
not labelled inside.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from unetres_edge.errors import DataError

from ..declaration import Declaration
from .drawn import Ring, Shape, bad_shape, ring_of
from .layout import Layout
from .outline_files import OBJECT, read_outlines, recognises_outlines

_PEEK = 1 << 14
_MOST = 1 << 26  # bytes of a bitmap, unpacked
_POLYGONS = (b"<polygon>", b"<Vertices", b"<Coordinates")


def recognises_xml(base: Path) -> bool:
    """Whether there are XML files with polygons that belong to images."""
    return recognises_outlines(base, (".xml",), _has_polygons)


def recognises_supervisely(base: Path) -> bool:
    """Whether there are JSON files of Supervisely that belong to images."""
    return recognises_outlines(base, (".json",), _is_of_supervisely)


def read_xml(declared: Declaration) -> Layout:
    """Read the XML of every image; see `read_outlines`."""
    return read_outlines(declared, (".xml",), _xml_shapes)


def read_supervisely(declared: Declaration) -> Layout:
    """Read the JSON of every image; see `read_outlines`."""
    return read_outlines(declared, (".json",), _objects, _is_of_supervisely)


def parse_xml(file: Path, expected: str) -> ElementTree.Element:
    """Return the root of an XML file.

    Raises:
        DataError: it cannot be read, or declares names of its own.
    """
    try:
        return ElementTree.parse(file, ElementTree.XMLParser(target=_WithoutEntities())).getroot()
    except (LookupError, OSError, ElementTree.ParseError, ValueError) as error:
        raise DataError(f"cannot read: {error}", file=file, expected=expected) from error


class _WithoutEntities(ElementTree.TreeBuilder):
    """Refuses what declares names of its own, which a few bytes can let grow without end; no tool writes any."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it declares a document type")


def _has_polygons(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(_PEEK)
    return any(mark in head for mark in _POLYGONS)


def _xml_shapes(layout: Layout, file: Path, image: str) -> list[Shape]:
    try:
        root = parse_xml(file, "polygons")
    except DataError as error:
        bad_shape(layout, image, file.name, error.message[:60], "XML with polygons")
        return []
    shapes = []
    for index, (label, points, level) in enumerate((*_of_objects(root), *_of_regions(root), *_of_asap(root))):
        ring = ring_of(points)
        if ring is None:
            bad_shape(layout, image, f"polygon {index} of {file.name}", str(points)[:60], "three corners in px")
        else:
            shapes.append(Shape(label, (ring,), level=level))
    return shapes


Outline = tuple[str | None, list[list[str]], int]  # label, corners as text, level


def _of_objects(root: ElementTree.Element) -> Iterator[Outline]:
    """Yield the polygons of LabelMe (`pt`) and PASCAL VOC (`x1 y1 x2 y2 ...`); of boxes alone, without a label."""
    for row in root.iter("object"):
        label = (row.findtext("name") or OBJECT).strip()
        if (row.findtext("deleted") or "0").strip() == "1":
            continue
        polygon, box = row.find("polygon"), row.find("bndbox")
        if polygon is not None and polygon.find("pt") is not None:
            yield label, [[pt.findtext("x") or "", pt.findtext("y") or ""] for pt in polygon.iter("pt")], 0
        elif polygon is not None:
            values = {each.tag: each.text or "" for each in polygon}
            count = sum(tag.startswith("x") for tag in values)
            yield label, [[values.get(f"{axis}{i}", "") for axis in "xy"] for i in range(1, count + 1)], 0
        elif box is not None:
            left, top, right, bottom = (box.findtext(key) or "" for key in ("xmin", "ymin", "xmax", "ymax"))
            yield None, [[left, top], [right, top], [right, bottom], [left, bottom]], 0


def _of_regions(root: ElementTree.Element) -> Iterator[Outline]:
    """Yield the regions of Aperio's ImageScope; negative ones are cut out of what lies below."""
    for layer in root.iter("Annotation"):
        label = layer.get("Name") or OBJECT
        for region in layer.iter("Region"):
            points = [[vertex.get("X", ""), vertex.get("Y", "")] for vertex in region.iter("Vertex")]
            is_hole = region.get("NegativeROA") == "1"
            yield ("background" if is_hole else label), points, int(is_hole)


def _of_asap(root: ElementTree.Element) -> Iterator[Outline]:
    """Yield the polygons of ASAP, whose classes are its groups."""
    for row in root.iter("Annotation"):
        if row.find("Coordinates") is not None and row.get("Type") != "Dot":
            group = row.get("PartOfGroup") or "None"
            points = [[each.get("X", ""), each.get("Y", "")] for each in row.iter("Coordinate")]
            yield (OBJECT if group == "None" else group), points, 0


# Supervisely


def _is_of_supervisely(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(_PEEK)
    return b'"objects"' in head and b'"size"' in head and b'"shapes"' not in head


def _objects(layout: Layout, file: Path, image: str) -> list[Shape]:
    try:
        content = json.loads(file.read_bytes())
        rows = content["objects"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        bad_shape(layout, image, file.name, str(error)[:60], "Supervisely's JSON")
        return []
    shapes = []
    for level, row in enumerate(rows if isinstance(rows, list) else []):
        try:
            shape = _shape(row, level)
        except (AttributeError, KeyError, TypeError, ValueError, zlib.error, OSError):
            shape = None
        if shape is None:
            bad_shape(layout, image, f"object {level} of {file.name}", str(row)[:60], "a polygon or a bitmap")
        elif shape.rings or shape.runs:
            shapes.append(shape)
    return shapes


def _shape(row: Any, level: int) -> Shape | None:
    """Return what an object draws, None of what is no area; a box draws what is not labelled."""
    label, kind = str(row["classTitle"]), row.get("geometryType", "bitmap" if row.get("bitmap") else "polygon")
    if kind == "bitmap":
        return _bitmap(row["bitmap"], label, level)
    points = row["points"]
    outer = [tuple(point) for point in points["exterior"]]
    if kind == "rectangle":
        (left, top), (right, bottom) = outer
        box = ring_of([(left, top), (right, top), (right, bottom), (left, bottom)])
        return None if box is None else Shape(None, (box,), level=level)
    if kind != "polygon":
        return Shape(None)
    rings = [ring_of(ring) for ring in (outer, *points.get("interior", ()))]
    sound: list[Ring] = [ring for ring in rings if ring is not None]
    if len(sound) != len(rings):
        return None
    return Shape(label, (sound[0],), tuple(sound[1:]), level=level, closed=True)  # corners are pixels


def _bitmap(bitmap: Any, label: str, level: int) -> Shape | None:
    """Return the object of a packed PNG that lies at an origin."""
    unpacked = zlib.decompressobj().decompress(base64.b64decode(bitmap["data"]), _MOST)
    with Image.open(io.BytesIO(unpacked), formats=("PNG",)) as picture:
        if picture.width * picture.height > _MOST:
            return None
        has_alpha = "A" in picture.getbands()
        values = np.asarray(picture.getchannel("A") if has_alpha else picture.convert("L")) > 0
    left, top = (int(value) for value in bitmap["origin"])
    flat = values.ravel()
    cuts = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], cuts, [flat.size]])).tolist()
    runs = [0, *runs] if flat[0] else runs
    return Shape(label, box=(left, top, values.shape[1], values.shape[0]), runs=tuple(runs), level=level)
