"""What COCO's annotations draw: masks from polygons and run lengths by pycocotools, masks from panoptic maps.

An annotation is checked before pycocotools sees it, which trusts its input.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unetres_edge.errors import MaskError
from unetres_edge.images.decode import read_colors
from unetres_edge.images.preprocessing import IGNORE

from ..sources import Source, file_digest

_FARTHEST = 1e6  # px
_SHARE = 8  # an object on less than this part of an image is drawn pixel by pixel
_ON_ONE_LINE = 1e-9  # of the square of the longest distance from the first corner
_SURELY_APART = 1e-2  # twice the area of the first three corners
LONGEST = 5e6  # px of an outline; pycocotools takes 40 bytes a px


def encloses(ring: Sequence[float]) -> bool:
    """Return whether a polygon (x, y, ...), in px or as shares, encloses anything: not all corners are on one line."""
    x, y, x1, y1, x2, y2 = ring[:6]
    if abs((x1 - x) * (y2 - y) - (x2 - x) * (y1 - y)) > _SURELY_APART:  # most do; large sets have a million
        return True
    apart = np.reshape(np.asarray(ring, np.float64), (-1, 2))
    apart = apart - apart[0]
    along = apart[np.square(apart).sum(1).argmax()]
    across = np.abs(apart[:, 0] * along[1] - apart[:, 1] * along[0])
    return bool(across.max() > _ON_ONE_LINE * (along @ along))


@dataclass(frozen=True)
class Outline:
    """One annotation, ready to be drawn: polygons, or run lengths as COCO stores them."""

    segmentation: Any
    class_id: int
    crowd: bool


@dataclass(frozen=True, eq=False)
class CocoMask(Source):
    """The mask of an image, drawn from its annotations; with `numbered`, the objects' numbers 1, 2, ... instead.

    Args:
        file: the annotation file.
        image: name of the image.
        size: (height, width) in px.
        outlines: outlines in the order of the file.
        numbered: whether to give instances, with 255 where not labelled.
    """

    file: Path
    image: str
    size: tuple[int, int]
    outlines: tuple[Outline, ...]
    numbered: bool = False
    unlabelled = IGNORE

    def read(self) -> np.ndarray:
        from pycocotools import mask as drawing

        drawn = [self._runs(outline) for outline in self.outlines]
        areas = [float(drawing.area(runs)) for runs in drawn]
        order = sorted(range(len(drawn)), key=lambda i: (not self.outlines[i].crowd, -areas[i], i))
        columns = np.zeros(self.size[::-1], np.int32 if self.numbered else np.uint8)  # run lengths go down them
        for index in order:
            outline = self.outlines[index]
            value = number(index) if self.numbered and outline.class_id else outline.class_id
            value = IGNORE if outline.crowd else value
            if areas[index] > columns.size / _SHARE:
                columns[drawing.decode(drawn[index]).astype(bool).T] = value
            else:
                columns.reshape(-1)[places_of(drawn[index]["counts"])] = value
        return np.ascontiguousarray(columns.T)

    def _runs(self, outline: Outline) -> dict[str, Any]:
        """Return an annotation as one set of compressed run lengths."""
        from pycocotools import mask as drawing

        drawn = outline.segmentation
        try:
            if isinstance(drawn, list):
                return drawing.merge(drawing.frPyObjects(drawn, *self.size))
            if isinstance(drawn["counts"], str):
                return {"size": list(self.size), "counts": drawn["counts"].encode()}
            return drawing.frPyObjects({"size": list(self.size), "counts": drawn["counts"]}, *self.size)
        except Exception as error:  # C code: any kind
            raise MaskError(f"an annotation cannot be drawn: {error}", file=self.file, found=self.image) from error

    def digest(self) -> str:
        said = [self.size, self.numbered, [[o.segmentation, o.class_id, o.crowd] for o in self.outlines]]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


@dataclass(frozen=True)
class Segment:
    """A segment of a panoptic map."""

    class_id: int
    is_object: bool


@dataclass(frozen=True, eq=False)
class PanopticMask(Source):
    """A panoptic map: red + 256 green + 65536 blue is a segment's id, 0 is not labelled."""

    file: Path
    segments: Mapping[int, Segment]
    numbered: bool = False
    unlabelled = IGNORE

    def read(self) -> np.ndarray:
        packed = read_colors(self.file)
        ids = packed >> 16 | (packed & 0xFF00) | (packed & 0xFF) << 16
        distinct, places = np.unique(ids, return_inverse=True)
        unknown = [int(i) for i in distinct if i != 0 and int(i) not in self.segments]
        if unknown:
            raise MaskError("segments that no annotation names", file=self.file, found=unknown[:8])
        nothing = Segment(IGNORE, False)
        segments = [nothing if i == 0 else self.segments[int(i)] for i in distinct]
        if self.numbered:
            values = [IGNORE if s.class_id == IGNORE else number(n) * s.is_object for n, s in enumerate(segments)]
            return np.array(values, np.int32)[places].reshape(ids.shape)
        return np.array([s.class_id for s in segments], np.uint8)[places].reshape(ids.shape)

    def digest(self) -> str:
        said = sorted((i, s.class_id, s.is_object) for i, s in self.segments.items())
        return hashlib.sha256(f"{file_digest(self.file)}{self.numbered}{said}".encode()).hexdigest()


def number(index: int) -> int:
    """Return the number of an object, counted from 1, that is not 255."""
    return index + 1 if index + 1 < IGNORE else index + 2


def find_fault(annotation: Mapping[str, Any], size: tuple[int, int]) -> tuple[str, str] | None:
    """Return (expected, found) of what keeps an annotation from being drawn, or None.

    Args:
        annotation: a dict with "segmentation", or "bbox" alone.
        size: (height, width) of its image, px.
    """
    if annotation.get("iscrowd") not in (None, 0, 1):
        return "iscrowd 0 or 1", f"iscrowd {shown(annotation['iscrowd'])}"
    drawn = annotation.get("segmentation")
    if not drawn:
        box = annotation.get("bbox")
        right = isinstance(box, list) and len(box) == 4 and _are_coordinates(box) and min(box[2:]) >= 0
        return None if right else ("polygons or run lengths", "neither an outline nor a box")
    if isinstance(drawn, list):
        return next((fault for fault in map(_polygon_fault, drawn) if fault), None)
    if not isinstance(drawn, dict) or not {"size", "counts"} <= set(drawn):
        return "polygons or run lengths", f"a {type(drawn).__name__}"
    if drawn["size"] != list(size):
        return f"run lengths for {list(size)}", f"for {shown(drawn['size'])}"
    runs = _runs(drawn["counts"])
    if runs is None or min(runs, default=0) < 0:
        return "run lengths", "damaged run lengths"
    if sum(runs) != size[0] * size[1]:
        return f"run lengths that sum up to {size[0] * size[1]}", f"sum {shown(sum(runs))}"
    return None


def places_of(counts: bytes) -> np.ndarray:
    """Return the pixels that compressed run lengths cover, counted down the columns; takes time as they are many."""
    return places_of_runs(np.array(_runs(counts.decode()), np.int64))


def places_of_runs(runs: np.ndarray) -> np.ndarray:
    """Return the pixels that run lengths (N,) int64 cover, of which every other one, from the second on, does."""
    starts, lengths = (np.cumsum(runs) - runs)[1::2], runs[1::2]
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


def shown(value: object) -> str:
    """Return a value as a message may show it."""
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        text = "a huge number"
    return text if len(text) < 80 else text[:77] + "..."


def _polygon_fault(polygon: Any) -> tuple[str, str] | None:
    if not isinstance(polygon, list):
        return "lists of x, y pairs", f"a polygon given as {type(polygon).__name__}"
    if len(polygon) < 6 or len(polygon) % 2:
        return "x, y pairs of at least 3 points", f"a polygon of {len(polygon) / 2:g} points"
    if not _are_coordinates(polygon):
        return f"finite numbers below {_FARTHEST:g}", "a polygon with other coordinates"
    steps = zip(polygon, polygon[2:] + polygon[:2], strict=True)
    if sum(abs(a - b) for a, b in steps) > LONGEST:
        return f"an outline of at most {LONGEST:g} px", "a polygon that is longer"
    return None


def _are_coordinates(numbers: list[Any]) -> bool:
    return all(type(n) in (int, float) and abs(n) < _FARTHEST for n in numbers)


def _runs(counts: Any) -> list[int] | None:
    """Return run lengths, those of a string decoded (5 bits a character, each run less the one but last), or None."""
    if isinstance(counts, list):
        return counts if all(type(n) is int for n in counts) else None
    if not isinstance(counts, str):
        return None
    runs: list[int] = []
    at = 0
    while at < len(counts):
        value = shift = 0
        more = True
        while more:
            if at == len(counts):
                return None
            bits = ord(counts[at]) - 48
            if not 0 <= bits < 64 or shift > 40:
                return None
            value |= (bits & 31) << shift
            more, at, shift = bool(bits & 32), at + 1, shift + 5
            if not more and bits & 16:
                value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs
