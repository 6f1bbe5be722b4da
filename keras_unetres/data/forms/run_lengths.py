"""Run lengths in a table, as Kaggle's competitions have them: a line an object, or a line a class of an image.

    ImageId,EncodedPixels       img,rle_mask           ImageId,ClassId,EncodedPixels       Image_Label,EncodedPixels
    a.png,1 3 65 4              a.png,1 3 65 4         a.png,2,1 3 65 4                    a.png_Fish,1 3 65 4

Pairs of the first pixel, from 1, and a length; pixels go down the columns, or along the rows where the column is called
`annotation` or `runs: rows` is declared. Class 0 is what no run covers; of objects that overlap, the smaller one is on
top.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unetres_edge.errors import DataError, MaskError, UnetresError
from unetres_edge.images.decode import IMAGE_SUFFIXES
from unetres_edge.terminal import counted

from ..declaration import BACKGROUND, Declaration
from ..findings import Finding, Where, relative
from ..fixes import declare, leave_out
from ..sources import ImageFile, Sample, Source
from ..tables import encoding_of, rows_of
from ..turned import BETTER, edges_of, on_outlines
from .layout import PART_NAMES, UNPARTED, Layout, key_of, list_images, refuse_other_background
from .outlines import number

_RUNS = ("encodedpixels", "rlemask", "rle", "maskrle", "rles", "annotation", "segmentation", "encodedmask")
_IMAGES = ("imageid", "img", "image", "id", "filename", "imagelabel", "imageidclassid", "name", "imagename", "file")
_CLASSES = ("classid", "class", "label", "category", "classname")
_BY_ROWS = "annotation"  # of Sartorius' cells
_ORDERS = ("columns", "rows", "columns from 0", "rows from 0")
_NOT_TRUTH = re.compile(r"sample|submission|solution|test", re.IGNORECASE)
_ENDINGS = "|".join(re.escape(suffix) for suffix in IMAGE_SUFFIXES)
_WITH_CLASS = re.compile(rf"(.+?(?:{_ENDINGS}))_(.+)", re.IGNORECASE)
_LONGEST = 1 << 24  # characters of the run lengths of an object
_LOOKED_AT = 5  # images, to see whether runs go down or along


@dataclass(frozen=True, eq=False)
class RunMask(Source):
    """The mask of an image from run lengths; with `numbered`, the objects' numbers 1, 2, ... instead.

    Args:
        file: the table.
        image: its image, which gives the size.
        runs: (class id, run lengths) of each object.
        order: order of the runs, one of `_ORDERS`.
        numbered: whether to give instances.
    """

    file: Path
    image: ImageFile
    runs: tuple[tuple[int, str], ...]
    order: str
    numbered: bool = False

    def read(self) -> np.ndarray:
        return self.drawn(self.image.read().shape[:2])

    def drawn(self, size: Sequence[int]) -> np.ndarray:
        """Return the mask (H, W) for an image of a size."""
        inside = [self._inside(text, (size[0], size[1])) for _, text in self.runs]
        mask = np.zeros(tuple(size), np.int32 if self.numbered else np.uint8)
        for index in sorted(range(len(inside)), key=lambda i: (-int(inside[i].sum()), i)):
            mask[inside[index]] = number(index) if self.numbered else self.runs[index][0]
        return mask

    def digest(self) -> str:
        said = f"{self.order}{self.numbered}{self.runs}".encode()
        return hashlib.sha256(said + self.image.digest().encode()).hexdigest()

    def _inside(self, text: str, size: tuple[int, int]) -> np.ndarray:
        """Return (H, W) bool, the pixels of an object."""
        try:
            values = np.array(text.split(), dtype=np.int64)
        except (ValueError, OverflowError):
            values = np.zeros(1, np.int64)
        starts, lengths = (values[::2], values[1::2]) if len(values) % 2 == 0 else (values, values[:0])
        starts = starts - ("from 0" not in self.order)
        area = size[0] * size[1]
        sound = len(starts) == len(lengths) and (lengths > 0).all() and (starts >= 0).all()
        if not sound or (starts[1:] < (starts + lengths)[:-1]).any() or (starts + lengths > area).any():
            from_0 = len(starts) == len(lengths) and len(starts) > 0 and starts.min() == -1
            raise MaskError(
                f"run lengths of {self.image.file.name} do not fit the image",
                file=self.file,
                expected=f"pairs of a first pixel from 1 and a length, within {area} px",
                found=text[:40] + "..." * (len(text) > 40),
                fix=declare({"runs": self.order.split()[0] + " from 0"}) if from_0 else "correct or remove the line",
                kind="bad-annotation",
            )
        flat = np.zeros(area + 1, np.int8)
        np.add.at(flat, starts, 1)
        np.add.at(flat, starts + lengths, -1)
        covered = flat[:-1].cumsum() > 0
        return covered.reshape(size) if self.order.startswith("rows") else covered.reshape(size[::-1]).T


@dataclass(frozen=True)
class _Table:
    """A table of run lengths: what its columns are, by place."""

    file: Path
    image: int
    runs: int
    label: int | None
    by_rows: bool


def recognises(base: Path) -> bool:
    """Whether a table in the folder has a column of images and one of run lengths, and images lie below."""
    return bool(_tables(base)) and any(True for _ in list_images(base))


def read(declared: Declaration) -> Layout:
    """Read the tables: one a part where they are called so, else one.

    Raises:
        DataError: no table, a line that is none, an unknown order, or runs that go the other way.
    """
    base = declared.base
    tables = _by_part(declared)
    order = declared.given.get("runs")
    if order not in (None, *_ORDERS):
        raise DataError("runs is wrong", file=declared.file, expected=", ".join(_ORDERS), found=order)
    layout = Layout()
    rows = {part: list(_rows(table)) for part, table in tables.items()}
    labels = sorted({label for of_part in rows.values() for _, label, _ in of_part}, key=_as_number)
    declared_names = declared.classes()[0]
    refuse_other_background(declared_names, declared.file)
    names = declared_names or ("background", *(("object",) if labels == [""] else labels))
    if len(names) != 1 + len(labels) or (declared_names and labels != [""] and not _fit(labels, declared_names)):
        raise DataError(
            "the declared classes are not those of the table",
            file=declared.file,
            expected="the background first, then " + ", ".join(labels),
            found=", ".join(names),
        )
    by_place = labels == [""] or not set(labels) <= set(names)
    ids = {label: 1 + index if by_place else names.index(label) for index, label in enumerate(labels)}
    layout.names = tuple(names)
    images = {key_of(path.stem): path for path in list_images(base)}
    for part, table in tables.items():
        way = order or ("rows" if table.by_rows else "columns")
        layout.samples[part] = _samples(layout, declared, table, rows[part], images, ids, way)
    way = order or ("rows" if any(table.by_rows for table in tables.values()) else "columns")
    start = way.partition(" from ")[2] or "1"
    layout.notes.append(f"run lengths of {', '.join(t.file.name for t in tables.values())}: {way}, from pixel {start}")
    if order is None:
        _refuse_other_way([sample for part in layout.samples.values() for sample in part], way, declared)
    return layout


def _fit(labels: Sequence[str], declared_names: Sequence[str]) -> bool:
    """Whether declared classes are the labels in any order, or numbers of which they are the names."""
    return set(labels) == set(declared_names[1:]) or all(label.isdigit() for label in labels)


def _as_number(label: str) -> tuple[int, str]:
    return (int(label), "") if label.isdigit() else (-1, label)


def _key(named: str) -> str:
    return key_of(Path(named).stem if Path(named).suffix.lower() in IMAGE_SUFFIXES else named)


def _samples(
    layout: Layout,
    declared: Declaration,
    table: _Table,
    rows: Sequence[tuple[str, str, str]],
    images: dict[str, Path],
    ids: dict[str, int],
    order: str,
) -> list[Sample]:
    """Return the samples of a table; images that are not there are faults."""
    objects: dict[str, list[tuple[int, str]]] = defaultdict(list)
    if images and rows and not any(_key(named) in images for named, _, _ in rows):
        raise DataError(
            "no line of the table names an image",
            file=table.file,
            expected=f"names of images, such as {next(iter(images.values())).name}",
            found=rows[0][0],
            fix="name the images as the table does, or write their names into it",
        )
    for named, label, runs in rows:
        key = _key(named)
        objects[key] += [(ids[label], runs)] if runs else []
        if key not in images and not declared.excludes(named):
            where = Where(relative(table.file, declared.base), named)
            layout.faults.append(Finding("missing-image", where, {"named": named}, leave_out(named)))
            images[key] = Path()  # said once
    beside = {images[key].parent for key in objects if key in images} - {Path().parent}
    empty = [key for key, file in images.items() if key not in objects and file.parent in beside]
    if empty and declared.has_empty_masks:
        layout.notes.append(f"{counted(len(empty), 'image')} that no line names: background alone")
        objects |= {key: [] for key in empty}
    samples = []
    for key in sorted(objects):
        file = images.get(key, Path())  # none of a name that is left out
        if file != Path() and not declared.excludes(file.name):
            image = ImageFile(file)
            drawn = [RunMask(table.file, image, tuple(objects[key]), order, each) for each in (False, True)]
            samples.append(Sample(file.name, image, *drawn))
    rest = [file.name for key, file in images.items() if key not in objects]
    if rest:
        more = f"; if nothing is on them: without_masks: {BACKGROUND}" if empty and not declared.has_empty_masks else ""
        said = f"{len(rest)} images that no line of {table.file.name} names are left out, as {rest[0]}"
        layout.notes.append(said + more)
    return samples


def _refuse_other_way(samples: Sequence[Sample], order: str, declared: Declaration) -> None:
    """Raise DataError if edges of some images lie where the runs would put them if they went the other way.

    Raises:
        DataError: they do.
    """
    other = "columns" if order == "rows" else "rows"
    scores = {order: 0.0, other: 0.0}
    with_objects = [sample for sample in samples if isinstance(sample.target, RunMask) and sample.target.runs]
    for sample in with_objects[:: -(-len(with_objects) // _LOOKED_AT) or 1]:
        assert isinstance(sample.target, RunMask)
        try:
            image = sample.image.read()
            for way in scores:
                mask = replace(sample.target, order=way).drawn(image.shape[:2])
                scores[way] += on_outlines(edges_of(image), mask)
        except UnetresError:
            continue  # it is named when it is read
    if scores[other] > BETTER * scores[order]:
        raise DataError(
            f"the run lengths seem to go along {other}",
            file=declared.base,
            expected=f"edges of the images on those of the masks, as with {other}",
            found=f"{scores[order]:.2f} with {order}, {scores[other]:.2f} with {other}",
            fix=declare({"runs": other}, declared.file),
        )


def _by_part(declared: Declaration) -> dict[str, _Table]:
    """Return part -> its table.

    Raises:
        DataError: none, or several of which nothing says which one is meant.
    """
    tables = _tables(declared.base)
    by_name = {
        part: table for part, names in PART_NAMES.items() for table in tables if table.file.stem.casefold() in names
    }
    if "train" in by_name and len(by_name) == len(tables) > 1:
        return by_name
    if len(tables) != 1:
        raise DataError(
            "no table of run lengths" if not tables else "several tables of run lengths",
            file=declared.base,
            expected="one, or train.csv, val.csv and test.csv",
            found=", ".join(table.file.name for table in tables) or None,
            fix="move the others away",
        )
    return {UNPARTED: tables[0]}


def _tables(base: Path) -> list[_Table]:
    files = sorted(path for path in base.glob("*.csv") if path.is_file() and not path.name.startswith("."))
    tables = [table for file in files if (table := _table(file)) is not None]
    return [table for table in tables if not _NOT_TRUTH.search(table.file.stem)] or tables


def _table(file: Path) -> _Table | None:
    try:
        with file.open(encoding=encoding_of(file), newline="") as lines:
            head = next(rows_of([lines.readline(_LONGEST)]), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    columns = [re.sub(r"[\W_]", "", name).casefold() for name in head]
    runs, image, label = (_first(columns, names) for names in (_RUNS, _IMAGES, _CLASSES))
    if runs is None or image is None:
        return None
    return _Table(file, image, runs, label, columns[runs] == _BY_ROWS)


def _first(columns: Sequence[str], names: Iterable[str]) -> int | None:
    return next((columns.index(name) for name in names if name in columns), None)


def _rows(table: _Table) -> Iterator[tuple[str, str, str]]:
    """Yield (image, label or "", run lengths or "") of each line.

    Raises:
        DataError: a line that has too few columns, or is no text.
    """
    before = csv.field_size_limit(_LONGEST)  # of the whole process
    last = max(table.image, table.runs, table.label or 0)
    try:
        with table.file.open(encoding=encoding_of(table.file), newline="") as lines:
            for line, row in enumerate(rows_of(lines)):
                if line == 0 or not any(row):
                    continue
                if len(row) <= last:
                    raise DataError(f"line {line + 1} has too few columns", file=table.file, expected=last + 1)
                runs = row[table.runs].strip()
                named, label = row[table.image].strip(), row[table.label].strip() if table.label is not None else ""
                match = _WITH_CLASS.fullmatch(named) if table.label is None else None
                named, label = match.groups() if match else (named, label)
                yield named, label, "" if runs in ("-1", "nan", "None", "1 1 -1") else runs
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read: {error}", file=table.file, expected="a table of run lengths") from error
    finally:
        csv.field_size_limit(before)
