"""What is written down of objects: the label map, a table, and a picture with their outlines."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage
from skimage.color import hsv2rgb

from unetres_edge.errors import DataError
from unetres_edge.terminal import table_cell

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
    for number, (box, class_id) in enumerate(
        zip(ndimage.find_objects(instances.labels), instances.class_ids, strict=True), 1
    ):
        top, left = box[0].start, box[1].start
        ys, xs = np.nonzero(instances.labels[box] == number)
        rows.append(
            Row(
                number,
                instances.class_names[class_id],
                len(xs),
                (left + float(xs.mean()), top + float(ys.mean())),
                (left, top, box[1].stop - left, box[0].stop - top),
            )
        )
    return rows


def encode_table(rows: Sequence[Row]) -> bytes:
    """Return rows as CSV (UTF-8): id, class, area_px, centroid_x, centroid_y, left, top, width, height."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        x, y = (f"{value:.3f}" for value in row.centroid)
        writer.writerow([row.number, table_cell(row.class_name), row.area, x, y, *row.box])
    return text.getvalue().encode()


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
    return text.getvalue().encode()


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
    hue = labels[edge] * _GOLDEN % 1.0
    colors = hsv2rgb(np.stack([hue, np.full_like(hue, 0.85), np.ones_like(hue)], -1))
    drawn[edge] = np.rint(255 * colors).astype(np.uint8)
    return drawn
