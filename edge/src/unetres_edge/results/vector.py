"""Class maps as shapes: polygons with holes, COCO's run lengths, GeoJSON. Numpy only, exact to the pixel.

A polygon runs along the cracks between pixels, so its corners are whole numbers, the pixel (row, column) is the square
from (column, row) to (column + 1, row + 1), and filling the polygons gives the mask back. A region
hangs together by the sides of its pixels: pixels that touch only by a corner are two polygons. No ring touches itself,
so that every polygon is a valid one of OGC Simple Features; two rings may touch in points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError

Transform = Sequence[float]


@dataclass(frozen=True)
class Polygon:
    """One region of a class.

    Args:
        class_id: class of its pixels.
        exterior: (N, 2) int32, x and y px of the corners, without the first again; clockwise as one sees the image,
            whose y points down.
        holes: (M, 2) int32 each, counter-clockwise.
    """

    class_id: int
    exterior: np.ndarray
    holes: tuple[np.ndarray, ...] = ()

    @property
    def area(self) -> int:
        """Pixels of the region."""
        return (_twice_area(self.exterior) + sum(map(_twice_area, self.holes))) // 2


def find_polygons(class_map: np.ndarray, class_ids: Sequence[int]) -> list[Polygon]:
    """Return the regions of the classes, class by class, from the top down.

    Args:
        class_map: (H, W) whole numbers.
    """
    class_map = _map(class_map)
    return [polygon for class_id in class_ids for polygon in _polygons(class_map == class_id, class_id)]


def _polygons(mask: np.ndarray, class_id: int) -> list[Polygon]:
    rings = trace_rings(mask)
    areas = [_twice_area(ring) for ring in rings]
    outer = [n for n, area in enumerate(areas) if area > 0]
    inner = [n for n, area in enumerate(areas) if area < 0]
    owner = _regions_of(mask, rings, outer, inner)
    holes: dict[int, list[np.ndarray]] = {n: [] for n in outer}
    for n in inner:
        holes[owner[n]].append(rings[n])
    return [Polygon(class_id, rings[n], tuple(holes[n])) for n in outer]


def trace_rings(mask: np.ndarray) -> list[np.ndarray]:
    """Return the border of an (H, W) bool mask as closed rings of corners (N, 2) int32 (x, y).

    The mask lies to the right of the way, as one sees the image: outer rings run clockwise, holes counter-clockwise.
    Where two pixels touch by a corner the way stays with the pixel it came along, and a ring that comes to a point
    twice is parted there.
    """
    padded = np.pad(mask.astype(bool), 1)
    # A step leaves a corner to the right, down, to the left or up: 0, 1, 2, 3, with the mask on its right.
    above, below = padded[:-1], padded[1:]
    left, right = padded[:, :-1], padded[:, 1:]
    # Corner (y, x) is the upper left one of pixel (y, x), whose indices in `padded` are one more.
    starts = (
        np.argwhere(below & ~above) - (0, 1),  # along the top of a pixel, from its left corner
        np.argwhere(left & ~right) - (1, 0),  # along its right side, from the upper corner
        np.argwhere(above & ~below),  # along the bottom, from the right corner
        np.argwhere(right & ~left),  # along its left side, from the lower corner
    )
    side = padded.shape[1]  # corners of a row, or more
    codes = np.sort(np.concatenate([(at[:, 0] * side + at[:, 1]) * 4 + turn for turn, at in enumerate(starts)]))
    return _rings(codes, _following(codes, side), side) if len(codes) else []


def _following(codes: np.ndarray, side: int) -> np.ndarray:
    """Return for each step the index of the step that goes on from its end, a turn to the right before others."""
    ahead = np.array([1, side, -1, -side])
    turn = codes % 4
    end = codes // 4 + ahead[turn]
    following = np.full(len(codes), -1)
    for change in (1, 0, 3):  # right, straight on, left
        wanted = end * 4 + (turn + change) % 4
        nearest = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
        matched = (codes[nearest] == wanted) & (following < 0)
        following[matched] = nearest[matched]
    return following


def _rings(codes: np.ndarray, following: np.ndarray, side: int) -> list[np.ndarray]:
    """Return the corners of each cycle of steps, parted where it comes to a point twice; none on a straight line."""
    turn, goes_on = (codes % 4).tolist(), following.tolist()
    x, y = (codes // 4 % side).tolist(), (codes // 4 // side).tolist()
    seen = bytearray(len(goes_on))
    rings = []
    for first in range(len(goes_on)):
        if seen[first]:
            continue
        corners: list[tuple[int, int]] = []
        places: dict[tuple[int, int], int] = {}
        step, before = first, -1  # the uppermost corner, and of these the leftmost: the way turns there
        while not seen[step]:
            seen[step] = 1
            if turn[step] != before:
                corner = (x[step], y[step])
                start = places.get(corner)
                if start is not None:
                    rings.append(np.array(corners[start:], np.int32))
                    for gone in corners[start:]:
                        del places[gone]
                    del corners[start:]
                places[corner] = len(corners)
                corners.append(corner)
            before, step = turn[step], goes_on[step]
        rings.append(np.array(corners, np.int32))
    return rings


def _twice_area(ring: np.ndarray) -> int:
    """Return twice the signed area: above 0 clockwise, as one sees the image."""
    x, y = ring[:, 0].astype(np.int64), ring[:, 1].astype(np.int64)
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def _regions_of(mask: np.ndarray, rings: list[np.ndarray], outer: list[int], inner: list[int]) -> dict[int, int]:
    """Return which outer ring the region around each hole has.

    The pixel above a hole's uppermost and leftmost corner belongs to the region. Going left from it along the row, the
    first border met is of the region's outer ring or of another of its holes, which begins further up.
    """
    if not inner:
        return {}
    ring_of = _left_borders(mask.shape, rings)
    owner = {n: n for n in outer}
    for n in sorted(inner, key=lambda n: int(rings[n][:, 1].min())):
        x, y = _top_left(rings[n])
        columns, numbers = ring_of[y - 1]
        owner[n] = owner[int(numbers[np.searchsorted(columns, x, side="right") - 1])]
    return owner


def _top_left(ring: np.ndarray) -> tuple[int, int]:
    top = ring[ring[:, 1] == ring[:, 1].min()]
    return int(top[:, 0].min()), int(top[0, 1])


def _left_borders(shape: tuple[int, ...], rings: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each row of pixels the x of the borders that have the mask on their right side, and their rings."""
    rows: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    numbers: list[np.ndarray] = []
    for n, ring in enumerate(rings):
        after = np.roll(ring, -1, 0)
        for x, low, high in zip(ring[:, 0], after[:, 1], ring[:, 1], strict=True):
            if low < high:  # upwards: the mask lies to the right
                rows.append(np.arange(low, high))
                columns.append(np.full(high - low, x))
                numbers.append(np.full(high - low, n))
    row, column, number = (np.concatenate(each) for each in (rows, columns, numbers))
    order = np.lexsort((column, row))
    row, column, number = row[order], column[order], number[order]
    bounds = np.searchsorted(row, np.arange(shape[0] + 1))
    return [(column[a:b], number[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)]


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """Return an (H, W) mask as COCO's compressed run lengths: {"size": [H, W], "counts": text}.

    Runs go down the columns, zeros first (pycocotools, `maskApi.c`, `rleEncode` and `rleToString`).
    """
    mask = _map(mask).astype(bool)
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0] if flat.size == 0 or not flat[0] else [0, 0], changes, [flat.size]])
    counts = np.diff(edges).astype(np.int64)
    return {"size": [int(n) for n in mask.shape], "counts": _packed(counts)}


def decode_rle(rle: dict[str, Any]) -> np.ndarray:
    """Return the (H, W) bool mask of COCO's run lengths, compressed or as a list.

    Raises:
        UsageError: the runs do not add up to the size.
    """
    height, width = rle["size"]
    counts = rle["counts"]
    if not isinstance(counts, list):
        counts = _unpacked(counts if isinstance(counts, str) else counts.decode("ascii"))
    if sum(counts) != height * width or min(counts, default=0) < 0:
        raise UsageError("run lengths do not fit their size", expected=height * width, found=sum(counts))
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def _packed(counts: np.ndarray) -> str:
    """Return numbers as COCO's text: differences to the last but one, 5 bits a character."""
    values = counts.copy()
    values[3:] -= counts[1:-2]
    text = bytearray()
    for value in values.tolist():
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != -1 if bits & 0x10 else value != 0
            text.append((bits | 0x20 if more else bits) + 48)
    return text.decode("ascii")


def _unpacked(text: str) -> list[int]:
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    return counts


def geojson(
    polygons: Sequence[Polygon],
    class_names: Sequence[str],
    class_colors: Sequence[Sequence[int]],
    transform: Transform | None = None,
) -> dict[str, Any]:
    """Return polygons as a GeoJSON FeatureCollection, a feature each with its class, name, colour and area in px.

    Args:
        transform: (a, b, c, d, e, f), from the corner (x, y) px to X = a x + b y + c and Y = d x + e y + f; an `Affine`
            adds 0, 0, 1. None keeps px. RFC 7946 wants longitude and latitude (WGS 84), and outer rings
            counter-clockwise in them: rings are turned round where the transform mirrors.

    Raises:
        UsageError: the transform is not six finite numbers, or takes the plane to a line.
    """
    numbers = np.array([1, 0, 0, 0, 1, 0] if transform is None else tuple(transform), np.float64)
    if numbers.shape == (9,) and (numbers[6:] == (0, 0, 1)).all():
        numbers = numbers[:6]
    if numbers.shape != (6,) or not np.isfinite(numbers).all():
        raise UsageError("the transform is wrong", expected="six finite numbers (a, b, c, d, e, f)", found=transform)
    turn = numbers[0] * numbers[4] - numbers[1] * numbers[3]
    if turn == 0:
        raise UsageError("the transform takes the plane to a line", found=transform)

    def ring(corners: np.ndarray) -> list[list[float]]:
        closed = np.concatenate([corners, corners[:1]])[:: -1 if turn < 0 else 1]
        if transform is None:
            return [[int(x), int(y)] for x, y in closed]
        x, y = closed[:, 0], closed[:, 1]
        a, b, c, d, e, f = numbers
        return np.stack([a * x + b * y + c, d * x + e * y + f], -1).tolist()

    features = [
        {
            "type": "Feature",
            "properties": {
                "class_id": polygon.class_id,
                "class": class_names[polygon.class_id],
                "color": "#" + bytes(class_colors[polygon.class_id]).hex(),
                "area_px": polygon.area,
            },
            "geometry": {"type": "Polygon", "coordinates": [ring(polygon.exterior), *map(ring, polygon.holes)]},
        }
        for polygon in polygons
    ]
    return {"type": "FeatureCollection", "features": features}


def _map(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2:
        raise UsageError("not a class map", expected="(H, W)", found=f"shape {values.shape}")
    return values
