"""CamVid's text lists: `train.txt` (or `.csv`) with lines of an image and its mask; classes by colour, or by number.

Lists are also Hugging Face's `metadata.jsonl` and `metadata.csv`, in the folder or in `train/`, `validation/`, `test/`.
Paths in a list start from the list's folder, also where they begin with / or with the name of that folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unetres_edge.errors import DataError, UnetresError
from unetres_edge.files import parse_json
from unetres_edge.images.decode import IMAGE_SUFFIXES, read_colors
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.terminal import counted

from ..colortables import camvid_table, find_table
from ..declaration import Declaration
from ..findings import Finding, Where, relative
from ..fixes import leave_out
from ..sources import ColorFile, ImageFile, MaskFile, Sample
from ..tables import encoding_of, read_text, rows_of
from .layout import PART_NAMES, PARTS, UNPARTED, Layout, find_file, have_colors, repeated
from .lists import PART_COLUMNS

_ENDINGS = "|".join(re.escape(suffix) for suffix in IMAGE_SUFFIXES)
_BETWEEN = re.compile(rf'({_ENDINGS})"?[\s,;]+"?', re.IGNORECASE)
_WHOLE = ("data", "dataset", "pairs", "metadata", "all")
_ENDINGS_OF_LISTS = (".csv", ".txt", ".jsonl")
_TABLES = ("metadata.jsonl", "metadata.csv")
_MASK_WORDS = ("mask", "label", "annotation", "seg", "truth")
_DATA_LISTS = ("dataset.json", "datalist.json", "dataset_0.json", "data.json")
_MOST_LIST = 64 << 20  # bytes
_LONGEST = 1 << 16  # characters of a first line that may be a pair


def recognises(base: Path) -> bool:
    """Whether there is a list whose first line names an image and a mask, or a MONAI data list."""
    return bool(_find_lists(base) or _find_data_list(base))


def read(declared: Declaration) -> Layout:
    """Read the declared lists, or `train.txt`, `val.txt` and `test.txt`.

    Raises:
        DataError: no list, or a line that is no pair.
    """
    base = declared.base
    lists = declared.splits() or _find_lists(base)
    rows = {} if lists else _find_data_list(base)
    if not lists and not rows:
        raise DataError("no lists of images and masks", file=base, expected="train.txt with lines IMAGE MASK")
    layout = Layout()
    named = {part: _pairs(file, base, layout) for part, file in lists.items()}
    named |= {part: _pairs(file, base, layout, of_part) for part, (file, of_part) in rows.items()}
    pairs = _by_column(named.get(UNPARTED, ())) or {part: [pair[:2] for pair in of] for part, of in named.items()}
    table = find_table(base)
    masks = [[mask for _, mask in part] for part in pairs.values()]
    colored = declared.by_color or (not declared.by_number and any(have_colors(files, table) for files in masks))
    if table is None and colored and not declared.by_color and _are_camvids(masks):
        table = camvid_table()
        layout.notes.append("no table of colours, so they are the 32 of CamVid (Brostow 2009), Void not labelled")
    if table is not None:
        layout.take_table(table, by_color=colored, ignore=IGNORE)
    colored = colored and (table is not None or declared.by_color)  # else it is a fault where masks have hues
    layout.by_color = colored
    for part, files in pairs.items():
        unique = not repeated(image.name for image, _ in files)
        layout.samples[part] = [
            Sample(
                image.name if unique else relative(image, base),
                ImageFile(image),
                (ColorFile if colored else MaskFile)(mask),
            )
            for image, mask in files
        ]
    return layout


def _are_camvids(masks: Sequence[Sequence[Path]]) -> bool:
    """Whether the first mask that can be read has CamVid's colours, and more than black."""
    known = camvid_table().values(IGNORE)
    for mask in (mask for of_part in masks for mask in of_part):
        try:
            colors = set(np.unique(read_colors(mask)).tolist())
        except UnetresError:
            continue
        return colors <= set(known) and colors != {0}
    return True


def _find_lists(base: Path) -> dict[str, Path]:
    """Return part -> its list; a list for all is called `data.csv`, `pairs.csv`, ..."""
    named = ((part, base / f"{part}{ending}") for part in ("train", "val", "test") for ending in _ENDINGS_OF_LISTS)
    lists = {part: file for part, file in named if _is_list(file)}
    tables = ((part, base / name / table) for part, names in PART_NAMES.items() for name in names for table in _TABLES)
    lists = lists or {part: file for part, file in tables if _is_list(file)}
    wholes = (f"{each}{ending}" for each in _WHOLE for ending in (".csv", ".jsonl"))
    whole = next((file for name in (*wholes, *_TABLES) if _is_list(file := base / name)), None)
    return lists or ({} if whole is None else {UNPARTED: whole})


def _find_data_list(base: Path) -> dict[str, tuple[Path, list[str]]]:
    """Return part -> (file, rows as lines of JSON) of MONAI's data list, {"training": [{"image": ..., "label": ...}]}.

    That of nnU-Net, whose names lack the channels, is none.
    """
    files = [base / name for name in _DATA_LISTS if (base / name).is_file() and not (base / "imagesTr").is_dir()]
    for file in files:
        try:
            said = parse_json(file.read_bytes()) if file.stat().st_size < _MOST_LIST else None
        except (OSError, RecursionError, ValueError):
            continue
        of_parts = {PARTS[name]: rows for name, rows in said.items() if name in PARTS} if isinstance(said, dict) else {}
        lines = {part: [json.dumps(row) for row in rows] for part, rows in of_parts.items() if isinstance(rows, list)}
        lines = {part: of_part for part, of_part in lines.items() if of_part and all(map(_names, of_part))}
        if "train" in lines:
            return {part: (file, of_part) for part, of_part in lines.items()}
    return {}


def _is_list(file: Path) -> bool:
    if not file.is_file():
        return False
    try:
        with file.open(encoding=encoding_of(file)) as lines:
            first, second = lines.readline(_LONGEST), lines.readline(_LONGEST)
        return _names(first) is not None or (file.suffix == ".csv" and _names(second) is not None)
    except (OSError, ValueError):
        return False


def _names(line: str) -> tuple[str, str] | None:
    """Return the image and the mask that a line names, perhaps in quotes or among other cells, or None."""
    if line.lstrip().startswith("{"):
        return _names_of_row(line)
    for sign in (sign for sign in ",;\t" if line.count(sign) > 1):
        named = [cell.strip().strip('"') for cell in line.split(sign)]
        named = [cell for cell in named if cell.lower().endswith(IMAGE_SUFFIXES)]
        if len(named) == 2:
            return named[0], named[1]
    line = line.strip().removeprefix('"').removesuffix('"')
    between = _BETWEEN.search(line, 1)
    if between is None:
        return None
    image, mask = line[: between.end(1)], line[between.end() :]
    return (image, mask) if len(mask) > 4 and mask.lower().endswith(IMAGE_SUFFIXES) else None


def _names_of_row(line: str) -> tuple[str, str] | None:
    """Return the image and the mask that a line of JSON names, or None where there is not one of each."""
    try:
        row = parse_json(line.encode())
    except (RecursionError, ValueError):
        return None
    image = row.get("file_name", row.get("image"))
    named = {
        key.lower(): text
        for key, text in row.items()
        if isinstance(text, str) and text != image and text.lower().endswith(IMAGE_SUFFIXES)
    }
    masks = [text for key, text in named.items() if any(word in key for word in _MASK_WORDS)] or [*named.values()]
    return (image, masks[0]) if isinstance(image, str) and len(masks) == 1 else None


def _by_column(pairs: Sequence[tuple[Path, Path, str]]) -> dict[str, list[tuple[Path, Path]]]:
    """Return part -> pairs of a table that says the part of each line; empty where it does not."""
    said = {part for _, _, part in pairs}
    if "train" not in said or UNPARTED in said or len(said) < 2:
        return {}
    return {part: [pair[:2] for pair in pairs if pair[2] == part] for part in PART_NAMES if part in said}


class _Columns(NamedTuple):
    """What the columns of a table are, by place; None where the lines tell, or nothing does."""

    image: int | None = None
    mask: int | None = None
    part: int | None = None


def _columns(lines: Sequence[str]) -> _Columns:
    """Return the columns of a table whose first line names them; of several forms of one file, the first is taken."""
    if len(lines) < 2 or _names(lines[0]) is not None:
        return _Columns()
    head = [cell.lower() for cell in _cells(lines[0])]
    row = dict(enumerate(_cells(lines[1])))
    files = [column for column in range(len(head)) if row.get(column, "").lower().endswith(IMAGE_SUFFIXES)]
    masks = [column for column in files if any(word in head[column] for word in _MASK_WORDS)]
    images = [column for column in files if column not in masks]
    part = next((head.index(name) for name in PART_COLUMNS if name in head), None)
    if len(files) < 3 or not masks or not images:
        return _Columns(part=part)
    return _Columns(images[0], masks[0], part)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in next(rows_of([line]), [])]


def _cell(cells: Sequence[str], column: int | None) -> str:
    return cells[column] if column is not None and column < len(cells) else ""


def _pairs(file: Path, base: Path, layout: Layout, lines: Sequence[str] | None = None) -> list[tuple[Path, Path, str]]:
    """Return (image, mask, part or `UNPARTED`) of each line, given or of the file; what is not there is a fault."""
    try:
        lines = read_text(file).splitlines() if lines is None else lines
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read: {error}", file=file, expected="lines of an image and its mask") from error
    pairs, alone = [], 0
    columns = _columns(lines) if file.suffix == ".csv" else _Columns()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        cells = _cells(line) if file.suffix == ".csv" else []
        names = _names(line)
        if number > 1 and columns.image is not None and columns.mask is not None:
            image_and_mask = _cell(cells, columns.image), _cell(cells, columns.mask)
            names = image_and_mask if all(image_and_mask) else None
        if names is None and number == 1 and file.suffix == ".csv":
            continue  # what the columns are called
        if names is None and file.suffix == ".csv" and _lacks_a_mask(line):
            alone += 1
            continue
        if names is None:
            raise DataError(f"line {number} is no pair", file=file, expected="IMAGE MASK", found=line.strip())
        image, mask = (_find(file, name, base) for name in names)
        for path, kind in ((image, "missing-image"), (mask, "missing-mask")):
            if not path.is_file():
                there = image if kind == "missing-mask" else mask
                where = Where(relative(there, base), there.name, number)
                figures = {"line": number, "list": file.name, "named": relative(path, base)}
                layout.faults.append(Finding(kind, where, figures, leave_out(there.name)))
        if image.is_file() and mask.is_file():
            pairs.append((image, mask, PARTS.get(_cell(cells, columns.part).lower(), UNPARTED)))
    if alone:
        layout.notes.append(f"{counted(alone, 'line')} of {file.name} without a mask left out")
    return pairs


def _lacks_a_mask(line: str) -> bool:
    """Whether a line of a table names one image, and has an empty cell where others have the mask."""
    cells = [cell.strip().strip('"').lower() for cell in line.split(",")]
    return "" in cells and sum(cell.endswith(IMAGE_SUFFIXES) for cell in cells) == 1


def _find(file: Path, name: str, base: Path) -> Path:
    """Return the file that a list means: below the list's folder, also with leading folders that are not there."""
    parts = Path(name.replace("\\", "/").lstrip("/")).parts
    candidates = (find_file("/".join(parts[start:]), [file.parent], [base, file.parent]) for start in range(len(parts)))
    return next((path for path in candidates if path is not None), file.parent / parts[-1])
