"""A file of outlines for each image, of the same name: GeoJSON (QuPath, and what `predict` writes) and ImageJ's ROIs.

    slides/ a.tif a.geojson  b.tif b.geojson         plates/ a.tif a.zip  b.tif b_RoiSet.zip  c.tif c.roi

The files may lie in a folder of their own beside that of the images. Coordinates are px.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unetres_edge.errors import DataError
from unetres_edge.images.decode import IMAGE_SUFFIXES

from ..declaration import Declaration
from .drawn import Picture, Ring, Shape, bad_shape, missing_image, ring_of, take_pictures
from .layout import UNPARTED, Layout, find_parts, key_of, list_files, list_images

OBJECT = "object"
_ENDINGS = ("_roiset", "-roiset", " roiset", "_rois", "_roi", "_annotations", "_annotation")
_LOOKED_AT = 64  # files
_MOST = 1 << 26  # bytes of all ROIs of an image, unpacked
_POLYGONS = (0, 7, 8)  # ImageJ's types: polygon, freehand, traced
_RECTANGLE, _OVAL = 1, 2
_SUBPIXEL, _CORNERS_OF_OVAL = 128, 90

Check = Callable[[Path], bool]


def recognises_geojson(base: Path) -> bool:
    """Whether there are `.geojson` files that belong to images."""
    return recognises_outlines(base, (".geojson",))


def recognises_imagej(base: Path) -> bool:
    """Whether there are ROIs of ImageJ that belong to images."""
    return recognises_outlines(base, (".roi", ".zip"))


def read_geojson(declared: Declaration) -> Layout:
    """Read the GeoJSON of every image; see `read_outlines`."""
    return read_outlines(declared, (".geojson",), _features)


def read_imagej(declared: Declaration) -> Layout:
    """Read the ROIs of every image; see `read_outlines`."""
    return read_outlines(declared, (".roi", ".zip"), _rois)


def recognises_outlines(base: Path, endings: tuple[str, ...], looks_right: Check | None = None) -> bool:
    """Whether files of some endings belong to images, by their names and by what `looks_right` says of them."""
    looks_right = looks_right or _looks_right

    def fits(folder: Path) -> bool:
        images = {key_of(path.stem) for path in list_images(folder)}
        return any(
            _stem(file, endings) in images and looks_right(file) for file in _files(folder, endings)[:_LOOKED_AT]
        )

    return base.is_dir() and bool(find_parts(base, fits) or fits(base))


def read_outlines(
    declared: Declaration,
    endings: tuple[str, ...],
    shapes_of: Callable[[Layout, Path, str], list[Shape]],
    looks_right: Check | None = None,
) -> Layout:
    """Pair images with their files, those that `looks_right` takes, and draw what `shapes_of` finds in each.

    Raises:
        DataError: no file belongs to an image.
    """
    base = declared.base
    layout = Layout()
    parts = find_parts(base, lambda folder: bool(_files(folder, endings)) and bool(list_images(folder)))
    places = parts if "train" in parts else {UNPARTED: base}
    pictures: dict[str, list[Picture]] = {}
    for part, home in places.items():
        images = {key_of(path.stem): path for path in list_images(home)}
        files: dict[str, list[Path]] = {}
        for file in _files(home, endings):
            if looks_right is not None and not looks_right(file):
                continue
            files.setdefault(_stem(file, endings), []).append(file)
        for key in sorted(files.keys() - images.keys()):
            missing_image(layout, files[key][0], f"{files[key][0].stem}.*", base)
        without = sorted(images[key].name for key in images.keys() - files.keys())
        if without:
            layout.notes.append(
                f"{len(without)} images have no file of outlines and are left out, such as {without[0]}"
            )
        for key in sorted(files.keys() & images.keys()):
            name = images[key].relative_to(home).as_posix()
            shapes = tuple(shape for file in files[key] for shape in shapes_of(layout, file, name))
            pictures.setdefault(part, []).append(Picture(name, images[key], files[key][0], None, shapes))
    if not pictures:
        raise DataError("no file of outlines belongs to an image", file=base, expected="a.tif with a" + endings[-1])
    labels = sorted({s.label for found in pictures.values() for each in found for s in each.shapes if s.label})
    return take_pictures(layout, declared, pictures, labels or [OBJECT])


def _looks_right(file: Path) -> bool:
    """Return whether a zip holds ROIs; other files are what their endings say."""
    if file.suffix.lower() != ".zip":
        return True
    try:
        with zipfile.ZipFile(file) as packed:
            return any(name.lower().endswith(".roi") for name in packed.namelist())
    except Exception:  # of zipfile: any kind
        return False


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    return [path for path in list_files(folder, endings) if path.is_file()]


def _stem(file: Path, endings: tuple[str, ...]) -> str:
    stem = key_of(file.stem)
    stem = stem.removesuffix("___objects")  # of SuperAnnotate
    if stem.endswith(IMAGE_SUFFIXES):
        stem = stem.rpartition(".")[0]  # of `a.jpg.json`
    return next((stem.removesuffix(ending) for ending in _ENDINGS if stem.endswith(ending)), stem)


# GeoJSON


def _features(layout: Layout, file: Path, image: str) -> list[Shape]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        bad_shape(layout, image, file.name, str(error)[:60], "GeoJSON")
        return []
    rows = content.get("features", [content]) if isinstance(content, dict) else content
    shapes = []
    for index, row in enumerate(rows if isinstance(rows, list) else []):
        shape = _feature(row)
        if shape is None:
            bad_shape(layout, image, f"feature {index} of {file.name}", str(row)[:60], "a polygon in px")
        elif shape.rings:
            shapes.append(shape)
    if shapes and max(map(_extent, shapes)) < 1:
        expected = "px; draw places on the earth into masks first, as gdal_rasterize does"
        bad_shape(layout, image, file.name, f"all shapes within {max(map(_extent, shapes)):.2g} px: degrees?", expected)
        return []
    return shapes


def _extent(shape: Shape) -> float:
    """Return the longer side of what a shape covers."""
    corners = [np.reshape(ring, (-1, 2)) for ring in shape.rings]
    return max(float(np.ptp(ring, axis=0).max()) for ring in corners)


def _feature(row: Any) -> Shape | None:
    """Return a polygon or several, or None; points and lines draw nothing."""
    try:
        geometry, properties = row["geometry"], row.get("properties") or {}
        kind = geometry["type"]
        if kind in ("Point", "MultiPoint", "LineString", "MultiLineString"):
            return Shape(None)
        polygons = [geometry["coordinates"]] if kind == "Polygon" else geometry["coordinates"]
        rings = [[ring_of(ring) for ring in polygon] for polygon in polygons]
    except (AttributeError, KeyError, TypeError):
        return None
    if kind not in ("Polygon", "MultiPolygon") or any(ring is None for polygon in rings for ring in polygon):
        return None
    outer: tuple[Ring, ...] = tuple(polygon[0] for polygon in rings if polygon)  # type: ignore[misc]
    holes: tuple[Ring, ...] = tuple(ring for polygon in rings for ring in polygon[1:])  # type: ignore[misc]
    return Shape(_label(properties), outer, holes)


def _label(properties: Any) -> str:
    """Return the class of a feature, as QuPath or others write it."""
    named = properties.get("classification") if isinstance(properties, dict) else None
    if isinstance(named, dict) and isinstance(named.get("name"), str):
        return str(named["name"])
    texts = (
        (properties.get(key) for key in ("class", "label", "name", "Name", "category"))
        if isinstance(properties, dict)
        else ()
    )
    return next((text for text in texts if isinstance(text, str) and text), OBJECT)


# ImageJ


def _rois(layout: Layout, file: Path, image: str) -> list[Shape]:
    shapes = []
    try:
        for name, data in _entries(file):
            ring = _roi(data)
            if ring is None:
                bad_shape(layout, image, f"{name} of {file.name}", "another ROI", "a polygon, rectangle or oval")
            else:
                shapes.append(Shape(OBJECT, (ring,)))
    except Exception as error:  # of zipfile and zlib: any kind
        bad_shape(layout, image, file.name, str(error)[:60], "ROIs of ImageJ")
    return shapes


def _entries(file: Path) -> Iterator[tuple[str, bytes]]:
    if file.suffix.lower() == ".roi":
        yield file.name, file.read_bytes()
        return
    with zipfile.ZipFile(file) as packed:
        entries = [entry for entry in packed.infolist() if entry.filename.lower().endswith(".roi")]
        if sum(entry.file_size for entry in entries) > _MOST:
            raise ValueError(f"of more than {_MOST >> 20} MiB, unpacked")
        for entry in entries:
            yield entry.filename, packed.read(entry)


def _roi(data: bytes) -> Ring | None:
    """Return the ring of a ROI (ij.io.RoiDecoder), or None of a kind that is no such area."""
    if data[:4] != b"Iout" or len(data) < 64:
        return None
    kind = data[6]
    top, left, bottom, right, count = struct.unpack_from(">hhhhH", data, 8)
    composite, options = struct.unpack_from(">i", data, 36)[0], struct.unpack_from(">H", data, 50)[0]
    if composite > 0:
        return None
    if kind == _RECTANGLE:
        return ring_of([(left, top), (right, top), (right, bottom), (left, bottom)])
    if kind == _OVAL:
        turns = np.linspace(0, 2 * np.pi, _CORNERS_OF_OVAL, endpoint=False)
        x = (left + right) / 2 + (right - left) / 2 * np.cos(turns)
        y = (top + bottom) / 2 + (bottom - top) / 2 * np.sin(turns)
        return ring_of(np.stack([x, y], -1))
    if kind not in _POLYGONS or len(data) < 64 + 4 * count:
        return None
    if options & _SUBPIXEL and len(data) >= 64 + 12 * count:
        corners = np.frombuffer(data, ">f4", 2 * count, 64 + 4 * count).reshape(2, count).T
    else:
        corners = np.frombuffer(data, ">i2", 2 * count, 64).reshape(2, count).T + (left, top)
    return ring_of(corners)
