"""Masks drawn from outlines and run lengths that other tools write, and the classes that their labels make.

Class 0 is the background; the others are the labels in a form's own order, or that of declared `classes:`. Of objects
that overlap, the one that its tool puts higher is on top, else the smaller one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unetres_edge.errors import DataError, MaskError
from unetres_edge.images.decode import MAX_PIXELS
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.model.background import is_background

from ..declaration import Declaration
from ..findings import Finding, Where, relative
from ..fixes import leave_out
from ..sources import ImageFile, Sample, Source
from .filled import fill
from .layout import Layout, refuse_other_background
from .outlines import LONGEST, encloses, number, places_of, places_of_runs

_FARTHEST = 1e6  # px
Ring = tuple[float, ...]  # x, y, x, y, ... in px


@dataclass(frozen=True)
class Shape:
    """One labelled object.

    Args:
        label: class of the shape; None for a place that is not labelled.
        rings: polygons whose union it is, (x, y, ...) in px, or as shares of the image's sides with `relative`.
        holes: polygons that are cut out of them.
        box: (left, top, width, height) px of run lengths.
        runs: lengths of what is not and what is the object, row by row in the box.
        level: height of the shape; of several that overlap, the higher one is on top.
        relative: whether rings are shares of the width and the height.
        closed: whether corners are pixels, so that the outline belongs to it.
    """

    label: str | None
    rings: tuple[Ring, ...] = ()
    holes: tuple[Ring, ...] = ()
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    runs: tuple[int, ...] = ()
    level: int = 0
    relative: bool = False
    closed: bool = False


@dataclass(frozen=True, eq=False)
class DrawnMask(Source):
    """The mask of an image, drawn from its shapes; with `numbered`, the objects' numbers 1, 2, ... instead.

    Args:
        file: file that the shapes stand in.
        image: its image, which gives the size where the file does not.
        size: (height, width) in px, or None.
        shapes: shapes, in the order of the file.
        class_of: label -> class id or `IGNORE`.
        numbered: whether to give instances, with 255 where not labelled.
    """

    file: Path
    image: ImageFile
    size: tuple[int, int] | None
    shapes: tuple[Shape, ...]
    class_of: Mapping[str, int]
    numbered: bool = False
    unlabelled = IGNORE

    def read(self) -> np.ndarray:
        height, width = self.size or self.image.read().shape[:2]
        drawn = [_draw(shape, (height, width), self.file) for shape in self.shapes]
        order = sorted(range(len(drawn)), key=lambda i: (self.shapes[i].level, -drawn[i].area, i))
        mask = np.zeros((height, width), np.int32 if self.numbered else np.uint8)
        for index in order:
            label = self.shapes[index].label
            class_id = IGNORE if label is None else self.class_of[label]
            value = number(index) if self.numbered and class_id not in (0, IGNORE) else class_id
            mask.reshape(-1)[drawn[index].places()] = value
        return mask

    def digest(self) -> str:
        said = [self.size, self.numbered, [list(vars(shape).values()) for shape in self.shapes], dict(self.class_of)]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


@dataclass(frozen=True)
class Picture:
    """An image and what is drawn on it.

    Args:
        name: name of the sample.
        image: its file.
        source: file that the shapes stand in.
        size: (height, width) in px that the source states, or None.
        shapes: shapes, in order.
    """

    name: str
    image: Path
    source: Path
    size: tuple[int, int] | None
    shapes: tuple[Shape, ...]


def take_pictures(
    layout: Layout, declared: Declaration, pictures: Mapping[str, Sequence[Picture]], labels: Iterable[str]
) -> Layout:
    """Add the samples of each part, and the classes that the labels make.

    Args:
        labels: labels in the order of the form; those used alone, where it has none of its own.

    Raises:
        DataError: labels that the declared classes do not name, or a background that is not the first.
    """
    known = list(dict.fromkeys(labels))
    declared_names = declared.classes()[0]
    refuse_other_background(declared_names, declared.file)
    names = declared_names or ("background", *(label for label in known if not is_background(label)))
    class_of = {label: 0 if is_background(label) else names.index(label) if label in names else -1 for label in known}
    strange = [label for label, class_id in class_of.items() if class_id < 0]
    if strange:
        raise DataError(
            "labels that are no class", file=declared.file, expected=", ".join(names), found=", ".join(strange)
        )
    layout.names, layout.ignore = names, IGNORE
    if declared_names is None:
        layout.notes.append("classes are the labels: " + ", ".join(names[:8]) + ", ..." * (len(names) > 8))
    for part, of_part in pictures.items():
        fit = [picture for picture in sorted(of_part, key=lambda each: each.name) if _can_be_drawn(layout, picture)]
        layout.samples[part] = [_sample(picture, class_of) for picture in fit]
        layout.warnings += [warning for picture in fit for warning in _flat(picture)]
    return layout


def _flat(picture: Picture) -> Iterator[Finding]:
    """Yield a warning of each shape that encloses nothing; one whose corners are pixels draws these."""
    where = Where(picture.name, picture.image.name)
    for count, shape in enumerate(picture.shapes, 1):
        if shape.rings and not shape.runs and not shape.closed and not any(map(encloses, shape.rings)):
            figures = {"part": f"object {count} ({shape.label or 'not labelled'})"}
            yield Finding("flat-outline", where, figures, leave_out(picture.image.name))


def missing_image(layout: Layout, source: Path, named: str, base: Path) -> None:
    """Add the fault of shapes whose image is not there."""
    here = Path(named).name or source.name
    figures = {"named": named}
    layout.faults.append(Finding("missing-image", Where(relative(source, base), here), figures, leave_out(here)))


def bad_shape(layout: Layout, image: str, part: str, found: str, expected: str) -> None:
    """Add the fault of a shape that cannot be drawn."""
    figures = {"part": part, "found": found, "expected": expected}
    layout.faults.append(
        Finding("bad-annotation", Where(image, Path(image).name), figures, leave_out(Path(image).name))
    )


def ring_of(points: object, scale: tuple[float, float] = (1.0, 1.0)) -> Ring | None:
    """Return pairs of numbers as a ring of three corners or more, or None if they are none."""
    try:
        values = np.array(points, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if values.ndim != 2 or values.shape[0] < 3 or values.shape[1] < 2 or not np.isfinite(values).all():
        return None
    scaled = values[:, :2] * scale
    return tuple(scaled.ravel().tolist()) if np.abs(scaled).max() <= _FARTHEST else None


def _can_be_drawn(layout: Layout, picture: Picture) -> bool:
    """Whether a picture has no more pixels than any image may have; else that is a fault."""
    if picture.size is None or picture.size[0] * picture.size[1] <= MAX_PIXELS:
        return True
    said = "{1} x {0} px".format(*picture.size)
    bad_shape(layout, picture.name, "the stated size", said, f"at most {MAX_PIXELS} px in all")
    return False


def _sample(picture: Picture, class_of: Mapping[str, int]) -> Sample:
    image = ImageFile(picture.image)
    drawn = (DrawnMask(picture.source, image, picture.size, picture.shapes, class_of, each) for each in (False, True))
    return Sample(picture.name, image, *drawn)


@dataclass(frozen=True)
class _Drawn:
    """The pixels of a shape: how many there are, and which, counted along the rows. Both take time as they are many."""

    area: int
    places: Callable[[], np.ndarray]


def _draw(shape: Shape, size: tuple[int, int], file: Path) -> _Drawn:
    if shape.runs:
        return _from_runs(shape, size, file)
    if shape.closed:
        return _from_pixels(shape, size, file)
    from pycocotools import mask as drawing

    outer = _filled(shape.rings, size, shape.relative, file)
    if not shape.holes:
        return _Drawn(int(drawing.area(outer)), lambda: _along_rows(outer, size))
    inner = _filled(shape.holes, size, shape.relative, file)
    area = int(drawing.area(outer)) - int(drawing.area(drawing.merge([outer, inner], intersect=True)))
    return _Drawn(area, lambda: np.setdiff1d(_along_rows(outer, size), _along_rows(inner, size), assume_unique=True))


def _filled(rings: Sequence[Ring], size: tuple[int, int], shares: bool, file: Path) -> Any:
    """Return polygons as one set of run lengths of pycocotools.

    Raises:
        MaskError: an outline is too long for it.
    """
    from pycocotools import mask as drawing

    height, width = size
    scale = np.array([width, height]) if shares else np.ones(2)
    drawn = [np.reshape(ring, (-1, 2)) * scale for ring in rings]
    for ring in drawn:
        _refuse_long(ring, file)
    return drawing.merge(drawing.frPyObjects([ring.ravel().tolist() for ring in drawn], height, width))


def _refuse_long(ring: np.ndarray, file: Path) -> None:
    length = float(np.abs(np.diff(ring, axis=0, append=ring[:1])).sum())
    if length > LONGEST:
        raise MaskError("an outline is too long", file=file, expected=f"at most {LONGEST:g} px", found=f"{length:g}")


def _from_pixels(shape: Shape, size: tuple[int, int], file: Path) -> _Drawn:
    """Return the pixels of polygons whose outlines belong to them; a hole takes its outline with it.

    Raises:
        MaskError: an outline is too long.
    """
    corners = [np.reshape(ring, (-1, 2)) for ring in (*shape.rings, *shape.holes)]
    for ring in corners:
        _refuse_long(ring, file)
    first, last = (np.rint(np.concatenate(corners)).clip(0, size[::-1])).min(0), np.concatenate(corners).max(0)
    left, top = (int(value) for value in first)
    right, bottom = (int(value) for value in np.minimum(np.rint(last) + 1, size[::-1]))
    box = (left, top, max(0, right - left), max(0, bottom - top))
    inside = np.zeros((box[3], box[2]), bool)
    for outer in shape.rings:
        inside |= fill(outer, box)
    for hole in shape.holes:
        inside &= ~fill(hole, box)
    rows, columns = np.nonzero(inside)
    return _Drawn(len(rows), lambda: (rows + top) * size[1] + columns + left)


def _along_rows(runs: Any, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels of pycocotools' run lengths, which go down the columns, counted along the rows."""
    columns, rows = np.divmod(places_of(runs["counts"]), size[0])
    return rows * size[1] + columns


def _from_runs(shape: Shape, size: tuple[int, int], file: Path) -> _Drawn:
    left, top, width, height = shape.box
    fits = min(left, top) >= 0 and left + width <= size[1] and top + height <= size[0]
    if not fits or sum(shape.runs) != width * height or min(shape.runs) < 0:
        raise MaskError(
            "run lengths do not fit the image", file=file, expected=f"{width * height} px", found=sum(shape.runs)
        )

    def places() -> np.ndarray:
        rows, columns = np.divmod(places_of_runs(np.array(shape.runs, np.int64)), width)
        return (rows + top) * size[1] + columns + left

    return _Drawn(sum(shape.runs[1::2]), places)
