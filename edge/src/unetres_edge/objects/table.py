"""What is written down of objects: the label map, a table, and a picture with their outlines."""

from __future__ import annotations

import colorsys
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from ..errors import DataError
from ..results.vector import Polygon, find_polygons
from ..terminal import table_cell
from .separate import Instances

LabelFormat = Literal["tif", "png"]
_COLUMNS = ("id", "class", "area_px", "centroid_x", "centroid_y", "left", "top", "width", "height")
_GOLDEN = (5**0.5 - 1) / 2  # steps of this along the circle of hues come near to no earlier one for long
_MOST_IN_PNG = 65535


@dataclass(frozen=True)
class Row:
    """One object in px, from the upper left corner of the image; (0, 0) is the centre of the first pixel.

    Args:
        number: its label.
        class_name: name of its class.
        area: number of its pixels.
        centroid: (x, y), the mean of its pixels.
        box: (left, top, width, height) of the smallest box around it.
    """

    number: int
    class_name: str
    area: int
    centroid: tuple[float, float]
    box: tuple[int, int, int, int]


def describe(instances: Instances) -> list[Row]:
    """Return one row an object, in the order of their numbers."""
    rows = []
    for number, ys, xs in pixels_of_objects(instances.labels):
        left, top = int(xs.min()), int(ys.min())
        rows.append(
            Row(
                number,
                instances.class_names[instances.class_ids[number - 1]],
                len(xs),
                (left + float((xs - left).mean()), top + float((ys - top).mean())),
                (left, top, int(xs.max()) + 1 - left, int(ys.max()) + 1 - top),
            )
        )
    return rows


def pixels_of_objects(labels: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield (number, y, x) of each object of a label map: where its pixels are, row by row."""
    places = np.flatnonzero(labels)
    numbers = labels.ravel()[places]
    order = np.argsort(numbers, kind="stable")
    places, numbers = places[order], numbers[order]
    starts = np.flatnonzero(np.diff(numbers, prepend=0))
    for start, piece in zip(starts, np.split(places, starts[1:]) if len(starts) else (), strict=True):
        yield int(numbers[start]), *np.divmod(piece, labels.shape[1])


def object_polygons(labels: np.ndarray) -> Iterator[tuple[int, list[Polygon]]]:
    """Yield (number, outlines in px) of each object; parts that touch by a corner alone are outlines of their own."""
    for number, ys, xs in pixels_of_objects(labels):
        top, left = ys.min(), xs.min()
        shape = np.zeros((ys.max() + 1 - top, xs.max() + 1 - left), np.uint8)
        shape[ys - top, xs - left] = 1
        shift = np.array([left, top], np.int32)
        yield (
            number,
            [
                Polygon(each.class_id, each.exterior + shift, tuple(hole + shift for hole in each.holes))
                for each in find_polygons(shape, [1])
            ],
        )


def geojson_of_objects(instances: Instances, class_colors: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return the objects as a GeoJSON FeatureCollection in px, a feature each, as QuPath reads them.

    Properties of a feature: "objectType" (a detection), "name" (its number), "classification" with name and colour,
    "class_id", "area_px". An object of several parts is a MultiPolygon.
    """
    features = []
    for number, polygons in object_polygons(instances.labels):
        class_id = instances.class_ids[number - 1]
        rings = [[_closed(ring) for ring in (each.exterior, *each.holes)] for each in polygons]
        alone = len(rings) == 1
        features.append({
            "type": "Feature",
            "id": number,
            "properties": {
                "objectType": "detection",
                "name": str(number),
                "classification": {"name": instances.class_names[class_id], "color": list(class_colors[class_id])},
                "class_id": class_id,
                "area_px": sum(each.area for each in polygons),
            },
            "geometry": {
                "type": "Polygon" if alone else "MultiPolygon",
                "coordinates": rings[0] if alone else rings,
            },
        })  # fmt: skip
    return {"type": "FeatureCollection", "features": features}


def _closed(ring: np.ndarray) -> list[list[int]]:
    return [[int(x), int(y)] for x, y in (*ring, ring[0])]


def encode_table(rows: Sequence[Row]) -> bytes:
    """Return rows as CSV (UTF-8): id, class, area_px, centroid_x, centroid_y, left, top, width, height."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        x, y = (f"{value:.3f}" for value in row.centroid)
        writer.writerow([row.number, table_cell(row.class_name), row.area, x, y, *row.box])
    return text.getvalue().encode("utf-8", "surrogateescape")


def encode_counts(counts: Mapping[str, Mapping[str, int]]) -> bytes:
    """Return the number of objects in each image as CSV (UTF-8): image, objects, and a column for each class.

    Args:
        counts: image -> class -> objects of it; of one model, so that all have the same classes.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    classes = list(next(iter(counts.values()), {}))
    writer.writerow(["image", "objects", *map(table_cell, classes)])
    for image, by_class in counts.items():
        writer.writerow([table_cell(image), sum(by_class.values()), *(by_class[name] for name in classes)])
    return text.getvalue().encode("utf-8", "surrogateescape")


def encode_label_map(labels: np.ndarray, form: LabelFormat) -> bytes:
    """Return an (H, W) int32 label map as a file that holds every number exactly.

    Args:
        form: "tif" (16 bits, or 32 beyond 65535 objects; deflate) or "png" (16 bits).

    Raises:
        DataError: more objects than a PNG can number.
    """
    fits = int(labels.max(initial=0)) <= _MOST_IN_PNG
    buffer = io.BytesIO()
    if form == "tif":
        import tifffile

        stored = labels.astype(np.uint16 if fits else np.uint32)
        tifffile.imwrite(buffer, stored, compression="zlib", photometric="minisblack", metadata=None)
        return buffer.getvalue()
    if not fits:
        raise DataError(
            "too many objects for a PNG of 16 bits",
            expected=f"at most {_MOST_IN_PNG}",
            found=int(labels.max()),
            fix="write them as TIFF: --instances tif",
        )
    Image.fromarray(labels.astype(np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def outline_instances(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the image with each object outlined in a colour of its own.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3) uint8.
        labels: (H, W) integers, 0 for none.

    Returns:
        (H, W, 3) uint8. The outline is the pixels of an object that have another object or background above, below,
        left or right of them, or the image's edge.
    """
    drawn = np.broadcast_to(image.reshape(*image.shape[:2], -1)[..., :3], (*labels.shape, 3)).copy()
    around = np.pad(labels, 1)
    sides = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
    edge = (labels > 0) & np.logical_or.reduce([labels != side for side in sides])
    numbers, which = np.unique(labels[edge], return_inverse=True)
    colors = np.array([colorsys.hsv_to_rgb(int(number) * _GOLDEN % 1.0, 0.85, 1.0) for number in numbers])
    if len(numbers):
        drawn[edge] = np.rint(255 * colors).astype(np.uint8)[which]
    return drawn
