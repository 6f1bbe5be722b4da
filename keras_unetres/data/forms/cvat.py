"""CVAT for images: an `annotations.xml` with polygons and masks of run lengths, beside the images or `images/`.

Boxes are not labelled inside. The classes are the labels of the task, in its order.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from unetres_edge.errors import DataError

from ..declaration import Declaration
from ..findings import Finding, Where
from ..fixes import leave_out
from .drawn import Picture, Shape, bad_shape, missing_image, ring_of, take_pictures
from .layout import PART_NAMES, UNPARTED, Layout, find_file, unnamed_note
from .tool_files import parse_xml

_PEEK = 1 << 14


def recognises(base: Path) -> bool:
    """Whether there is one file of this form."""
    return _find(base) is not None


def read(declared: Declaration) -> Layout:
    """Read the images of the file, and the shapes on each.

    Raises:
        DataError: no such file, or not of this form.
    """
    base = declared.base
    file = _find(base)
    if file is None:
        raise DataError("no annotations.xml of CVAT for images", file=base)
    tree = parse_xml(file, "CVAT for images 1.1")
    layout = Layout()
    pictures: dict[str, list[Picture]] = {}
    labels = [str(name.text) for name in tree.findall("./meta//labels/label/name")]
    for image in tree.iter("image"):
        name = str(image.get("name", ""))
        subset = (image.get("subset") or "").casefold()
        part = next((part for part, words in PART_NAMES.items() if subset in words), UNPARTED)
        places = [base / "images" / subset, base / "images", base, file.parent, base / "images" / "default"]
        path = find_file(name, places, [base])
        if path is None:
            missing_image(layout, file, name, base)
            continue
        size = _whole(image.get("height")), _whole(image.get("width"))
        shapes = tuple(shape for row in image if (shape := _shape(layout, row, name)) is not None)
        labels += sorted({shape.label for shape in shapes if shape.label is not None} - set(labels))
        entry = Picture(name.replace("\\", "/"), path, file, size if min(size) > 0 else None, shapes)
        pictures.setdefault(part, []).append(entry)
    if not pictures and not layout.faults:
        is_video = tree.find("track") is not None
        fix = "it is CVAT for video: export CVAT for images 1.1, or COCO" if is_video else None
        raise DataError("the file names no image", file=file, expected='<image name="..."> rows', fix=fix)
    if UNPARTED in pictures and len(pictures) > 1:
        pictures = {UNPARTED: [picture for of_part in pictures.values() for picture in of_part]}
    layout.notes += unnamed_note(picture.image for of_part in pictures.values() for picture in of_part)
    return take_pictures(layout, declared, pictures, labels)


def _find(base: Path) -> Path | None:
    files = [base / "annotations.xml", *sorted(base.glob("*.xml"))] if base.is_dir() else []
    return next((file for file in files if file.is_file() and _looks_right(file)), None)


def _looks_right(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(_PEEK)
    return b"<annotations>" in head and any(mark in head for mark in (b"<image ", b"<labels>", b"<track "))


def _shape(layout: Layout, row: ElementTree.Element, image: str) -> Shape | None:
    """Return what a row draws; None for tags and for what is no area, which is a fault where it is a line."""
    label, level = row.get("label"), _whole(row.get("z_order"))
    if row.tag in ("tag", "points", "skeleton"):
        return None
    if row.tag == "mask":
        box = tuple(_whole(row.get(key)) for key in ("left", "top", "width", "height"))
        runs = tuple(_whole(each) for each in (row.get("rle") or "").split(","))
        return Shape(label, box=(box[0], box[1], box[2], box[3]), runs=runs, level=level)
    if row.tag == "box":
        left, top, right, bottom = (_number(row.get(key)) for key in ("xtl", "ytl", "xbr", "ybr"))
        ring = ring_of([(left, top), (right, top), (right, bottom), (left, bottom)])
        figures = {"part": f"a box of {label} in {PurePosixPath(image).name}"}
        layout.warnings.append(Finding("box-only", Where(image, Path(image).name), figures, leave_out(image)))
        return None if ring is None else Shape(None, (ring,), level=level)
    points = [pair.split(",") for pair in (row.get("points") or "").split(";")]
    ring = ring_of(points) if row.tag == "polygon" else None
    if ring is None:
        bad_shape(layout, image, f"a {row.tag} of {label}", (row.get("points") or "")[:60], "a polygon or a mask")
        return None
    return Shape(label, (ring,), level=level)


def _whole(text: str | None) -> int:
    return int(_number(text)) if abs(_number(text)) < 1e9 else -1


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return -1.0
