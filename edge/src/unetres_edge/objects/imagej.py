"""Outlines of objects as regions of interest of ImageJ: a zip of .roi files, which its ROI manager opens.

The format is that of ij/io/RoiDecoder.java: a head of 64 bytes, big-endian, then whole corners from the upper left of
their box (a polygon), or, of an object with holes or of several parts, a path of floats in px (a composite).
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from ..results.vector import Polygon
from .separate import Instances
from .table import object_polygons

_VERSION = 227
_POLYGON, _RECTANGLE = 0, 1
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0
_MOST = 32767  # px, the largest number that a box holds
_MOST_CORNERS = 65535
_DATE = (1980, 1, 1, 0, 0, 0)  # of every entry, so that the same objects are the same file


def encode_rois(instances: Instances) -> bytes:
    """Return the objects as a zip of ImageJ's ROIs, named by number and class, such as "0001-cell".

    Raises:
        DataError: the image is larger than ImageJ's regions can lie.
    """
    height, width = instances.labels.shape
    if max(height, width) > _MOST:
        raise DataError(
            "the image is too large for regions of ImageJ",
            expected=f"sides of at most {_MOST} px",
            found=f"{width} x {height} px",
            fix="use --geojson",
        )
    buffer = io.BytesIO()
    digits = max(4, len(str(len(instances.class_ids))))
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, polygons in object_polygons(instances.labels):
            name = re.sub(r"[^\w .-]", "_", instances.class_names[instances.class_ids[number - 1]])
            entry = zipfile.ZipInfo(f"{number:0{digits}}-{name}.roi", _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, encode_roi(polygons))
    return buffer.getvalue()


def encode_roi(polygons: Sequence[Polygon]) -> bytes:
    """Return one region of ImageJ, of one outline or of several with their holes."""
    corners = np.concatenate([each.exterior for each in polygons])
    (left, top), (right, bottom) = corners.min(0), corners.max(0)
    if len(polygons) == 1 and not polygons[0].holes and len(corners) <= _MOST_CORNERS:
        places = (corners - (left, top)).T.astype(">i2").tobytes()
        return _head(_POLYGON, top, left, bottom, right, corners=len(corners)) + places
    path: list[float] = []
    for each in polygons:
        for ring in (each.exterior, *each.holes):
            for at, (x, y) in enumerate(ring.tolist()):
                path += [_LINE if at else _MOVE, x, y]
            path.append(_CLOSE)
    return _head(_RECTANGLE, top, left, bottom, right, path=len(path)) + np.array(path, ">f4").tobytes()


def _head(kind: int, top: int, left: int, bottom: int, right: int, *, corners: int = 0, path: int = 0) -> bytes:
    """Return the 64 bytes before the coordinates; `path` is the number of floats of a composite."""
    start = struct.pack(">4shBx4hH", b"Iout", _VERSION, kind, top, left, bottom, right, corners)
    return (start.ljust(36, b"\0") + struct.pack(">i", path)).ljust(64, b"\0")
