"""Which pixels a stroke paints, as arithmetic in float64 that the page repeats in JavaScript, bit for bit.

Pixel (x, y) has its centre at (x + 0.5, y + 0.5). Points of strokes are rounded to quarters of a pixel, so that sums
and differences of them are exact. What a tool paints is a statement about one centre (`covers_brush`, the even-odd rule
of `polygon`); rows are filled between the places where the statement changes, so that a brush of 10,000 px costs its
rows and not its pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unetres_edge.errors import UsageError

MAX_SIZE = 10_000  # px, of a brush
MAX_POINTS = 20_000
FILL_REACH = 2048  # px that a fill goes from its seed, to each side
_MOST_SPANS = 20_000_000  # rows of all segments of a stroke
_FARTHEST = 1_000_000  # px from the origin
_CUT = "lift the pen earlier: paint it as several strokes"

Box = tuple[int, int, int, int]  # x0, y0, x1, y1; the last column and row are x1 - 1 and y1 - 1


@dataclass(frozen=True)
class Area:
    """The pixels that a tool covers.

    Args:
        box: the part of the image that `inside` lies on.
        inside: (y1 - y0, x1 - x0) bool.
    """

    box: Box
    inside: np.ndarray

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the box."""
        x0, y0, x1, y1 = self.box
        return slice(y0, y1), slice(x0, x1)


def rounded(points: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Return points rounded to quarters of a pixel, halves up, as JavaScript's `Math.round(4 * x) / 4`.

    Raises:
        UsageError: they are no points, too many, not finite, or too far away.
    """
    if not isinstance(points, (list, tuple)) or not points:
        raise UsageError("a stroke without points", expected="points: [[x, y], ...]", found=points)
    if len(points) > MAX_POINTS:
        raise UsageError("too many points", expected=f"at most {MAX_POINTS}", found=len(points), fix=_CUT)
    corners = []
    for point in points:
        if not isinstance(point, (list, tuple)) or len(point) != 2 or not all(map(_is_place, point)):
            raise UsageError("a point is wrong", expected=f"[x, y] in px, within {_FARTHEST}", found=point)
        corners.append((math.floor(4.0 * point[0] + 0.5) / 4.0, math.floor(4.0 * point[1] + 0.5) / 4.0))
    return corners


def _is_place(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return -_FARTHEST <= value <= _FARTHEST  # False of NaN


def check_size(size: object) -> float:
    """Return the diameter of a brush in px.

    Raises:
        UsageError: it is no number of 1 to `MAX_SIZE`.
    """
    if not isinstance(size, (int, float)) or isinstance(size, bool) or not 1 <= size <= MAX_SIZE:
        raise UsageError("the size of the brush is wrong", expected=f"1 to {MAX_SIZE} px", found=size)
    return float(size)


def covers_brush(
    px: np.ndarray | float, py: np.ndarray | float, a: tuple[float, float], b: tuple[float, float], size: float
) -> np.ndarray:
    """Return whether centres are within size / 2 of the segment from a to b. The page computes the same, in this order.

    Args:
        px: x of centres, float64; `py` likewise, of a shape that broadcasts.
        size: diameter in px.
    """
    dx, dy = b[0] - a[0], b[1] - a[1]
    length2 = dx * dx + dy * dy
    t: np.ndarray | float = 0.0
    if length2 > 0:
        t = np.minimum(np.maximum(((px - a[0]) * dx + (py - a[1]) * dy) / length2, 0.0), 1.0)
    qx, qy = px - (a[0] + t * dx), py - (a[1] + t * dy)
    return np.asarray(qx * qx + qy * qy <= size * size / 4.0)


def brush(points: Sequence[tuple[float, float]], size: float, shape: tuple[int, int]) -> Area | None:
    """Return the pixels whose centres are within size / 2 of a polyline; None where none is on the image.

    Args:
        points: points as `rounded` returns them; one is a disc.
        size: diameter in px.
        shape: (height, width) of the image.

    Raises:
        UsageError: so long and so wide a stroke that it would take seconds.
    """
    radius = size / 2.0
    height, width = shape
    pairs = list(dict.fromkeys(zip(points, points[1:], strict=False))) or [(points[0], points[0])]
    pieces, spans = [], 0
    for a, b in pairs:
        top = max(0, math.floor(min(a[1], b[1]) - radius) - 1)
        end = min(height, math.ceil(max(a[1], b[1]) + radius) + 1)
        spans += max(0, end - top)
        if spans > _MOST_SPANS:
            raise UsageError("the stroke is too long for so large a brush", found=f"{len(points)} points", fix=_CUT)
        if end > top:
            pieces.append(_spans(a, b, size, top, end, width))
    if not pieces:
        return None
    rows, first, last = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    return _filled(rows, first, last)


def _spans(
    a: tuple[float, float], b: tuple[float, float], size: float, top: int, end: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows with their first and last + 1 column inside one segment's brush; a row of a convex shape is one span.

    The ends are found by geometry and settled by `covers_brush` on the three centres around each.
    """
    rows = np.arange(top, end)
    py = rows + 0.5
    low, high = np.full(len(rows), np.inf), np.full(len(rows), -np.inf)
    radius2 = size * size / 4.0
    for x, y in (a, b):  # the discs
        rest = radius2 - (py - y) * (py - y)
        half = np.sqrt(np.maximum(rest, 0.0))
        there = rest >= -1e-6 * radius2
        low, high = np.where(there, np.minimum(low, x - half), low), np.where(there, np.maximum(high, x + half), high)
    dx, dy = b[0] - a[0], b[1] - a[1]
    if dy != 0:  # the two sides
        scale = size / 2.0 / math.hypot(dx, dy)
        for sign in (-1.0, 1.0):
            ax, ay = a[0] - sign * dy * scale, a[1] + sign * dx * scale
            t = (py - ay) / dy
            x_side = ax + t * dx
            there = (t >= 0) & (t <= 1)
            low = np.where(there, np.minimum(low, x_side), low)
            high = np.where(there, np.maximum(high, x_side), high)
    there = low <= high
    rows, py, low, high = rows[there], py[there], low[there], high[there]
    near_low, near_high = np.floor(low - 0.5).astype(np.int64), np.floor(high - 0.5).astype(np.int64)
    first, last = near_low + 3, near_high - 2  # of the centres that are inside for certain, if there are any
    for step in (2, 1, 0, -1):
        inside = covers_brush(near_low + step + 0.5, py, a, b, size)
        first = np.where(inside, near_low + step, first)
    for step in (-1, 0, 1, 2):
        inside = covers_brush(near_high + step + 0.5, py, a, b, size)
        last = np.where(inside, near_high + step, last)
    first, last = np.maximum(first, 0), np.minimum(last + 1, width)
    there = first < last
    return rows[there], first[there], last[there]


def _filled(rows: np.ndarray, first: np.ndarray, last: np.ndarray) -> Area | None:
    """Return the union of spans of rows."""
    if not len(rows):
        return None
    x0, x1, y0, y1 = int(first.min()), int(last.max()), int(rows.min()), int(rows.max()) + 1
    order = np.lexsort((first, rows))
    base = (rows[order] - y0) * (x1 - x0 + 1)  # places in a row after row, with a gap between
    start, reach = base + first[order] - x0, np.maximum.accumulate(base + last[order] - x0)
    begins = np.concatenate([[True], start[1:] > reach[:-1]])
    ends = reach[np.concatenate([begins[1:], [True]])]
    return _drawn((x0, y0, x1, y1), start[begins], ends)


def _drawn(box: Box, starts: np.ndarray, ends: np.ndarray) -> Area:
    """Return an area of spans that do not overlap, as places in rows one longer than those of the box."""
    x0, y0, x1, y1 = box
    inside = np.zeros((y1 - y0, x1 - x0 + 1), bool)
    flat = inside.ravel()
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        flat[start:end] = True
    return Area(box, inside[:, :-1])


def polygon(points: Sequence[tuple[float, float]], shape: tuple[int, int]) -> Area | None:
    """Return the pixels whose centres are inside a closed line by the even-odd rule; None where none is on the image.

    A centre (px, py) is crossed by the edge from (x1, y1) to (x2, y2) if
    `(y1 > py) != (y2 > py) and px < (x2 - x1) * (py - y1) / (y2 - y1) + x1`, and inside if crossed an odd number of
    times. The last point is joined to the first.

    Raises:
        UsageError: fewer than three points, or so long a line that it would take seconds.
    """
    if len(points) < 3:
        raise UsageError("an area needs three points", found=len(points))
    height, width = shape
    ys, xs = [y for _, y in points], [x for x, _ in points]
    y0, y1 = max(0, math.floor(min(ys))), min(height, math.ceil(max(ys)))
    x0, x1 = max(0, math.floor(min(xs))), min(width, math.ceil(max(xs)))
    if x0 >= x1 or y0 >= y1:
        return None
    toggles, spans = [], 0
    for (xa, ya), (xb, yb) in zip(points, [*points[1:], points[0]], strict=True):
        rows = np.arange(max(y0, math.floor(min(ya, yb)) - 1), min(y1, math.ceil(max(ya, yb)) + 1))
        py = rows + 0.5
        crossed = (ya > py) != (yb > py)
        rows, py = rows[crossed], py[crossed]
        spans += len(rows)
        if spans > _MOST_SPANS:
            raise UsageError("the line is too long", found=f"{len(points)} points", fix="draw it as several areas")
        if len(rows):
            cross = (xb - xa) * (py - ya) / (yb - ya) + xa
            toggles.append((rows, np.clip(np.ceil(cross - 0.5).astype(np.int64), x0, x1)))
    if not toggles:
        return None
    rows, ends = (np.concatenate(parts) for parts in zip(*toggles, strict=True))
    places = np.sort((rows - y0) * (x1 - x0 + 1) + ends - x0)  # a closed line crosses each row an even number of times
    area = _drawn((x0, y0, x1, y1), places[::2], places[1::2])
    return area if area.inside.any() else None


def fill(seed: tuple[float, float], classes: np.ndarray, objects: np.ndarray | None) -> Area | None:
    """Return the 4-connected pixels of one class and one object around a point, at most `FILL_REACH` px from it.

    Args:
        classes: (H, W) uint8.
        objects: (H, W) uint16, or None where there are none.

    Returns:
        The area, or None if the point is not on the image.
    """
    x, y = math.floor(seed[0]), math.floor(seed[1])
    height, width = classes.shape
    if not (0 <= x < width and 0 <= y < height):
        return None
    x0, y0 = max(0, x - FILL_REACH), max(0, y - FILL_REACH)
    x1, y1 = min(width, x + FILL_REACH), min(height, y + FILL_REACH)
    equal = classes[y0:y1, x0:x1] == classes[y, x]
    if objects is not None:
        equal &= objects[y0:y1, x0:x1] == objects[y, x]
    return component(equal, (x - x0, y - y0), (x0, y0))


def component(mask: np.ndarray, at: tuple[int, int], corner: tuple[int, int]) -> Area | None:
    """Return the 4-connected part of a mask that a pixel (x, y) of it belongs to; None if the pixel is not in it.

    Args:
        mask: (H, W) bool.
        corner: (x, y) of the mask in the image.
    """
    from scipy import ndimage

    labels, _ = ndimage.label(mask)
    number = labels[at[1], at[0]]
    if not number:
        return None
    rows, columns = ndimage.find_objects(labels, number)[number - 1]
    x, y = corner
    return Area((x + columns.start, y + rows.start, x + columns.stop, y + rows.stop), labels[rows, columns] == number)


def beyond(a: tuple[float, float], b: tuple[float, float], box: Box) -> np.ndarray:
    """Return (y1 - y0, x1 - x0) bool: the centres of a box that lie on one side of the line through two points.

    It is the side on which `(bx - ax) * (py - ay) - (by - ay) * (px - ax) > 0`: on the right of who goes from a to b,
    as y points down.
    """
    x0, y0, x1, y1 = box
    px, py = np.arange(x0, x1)[None, :] + 0.5, np.arange(y0, y1)[:, None] + 0.5
    return np.asarray((b[0] - a[0]) * (py - a[1]) - (b[1] - a[1]) * (px - a[0]) > 0)
