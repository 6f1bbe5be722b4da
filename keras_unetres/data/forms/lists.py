"""Lists of the images of each part: `train.txt`, `val.txt` and `test.txt`, a name or a path a line.

They lie beside the folders of images and masks, in `splits/` or `lists/` there, or where a `dataset.yaml` says. Where
there are none, `split.csv` (a column of names and one of parts) or `split.json` ({"train": [names], ...}) is read.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from unetres_edge.errors import DataError, Fix
from unetres_edge.files import parse_json
from unetres_edge.images.decode import IMAGE_SUFFIXES

from ..declaration import Declaration
from ..findings import Finding, Where, relative
from ..sources import Sample
from ..tables import encoding_of, read_text, rows_of
from .layout import PART_NAMES, PARTS, UNPARTED, Layout, key_of

_MOST_SHOWN = 4
_MOST_TABLE, _MOST_LIST = 64 << 20, 1 << 20  # bytes
_TABLES = ("split", "splits", "subsets", "partition", "partitions", "metadata")  # names of tables, without their ending
_PLACES = ("splits", "lists")  # folders beside those of the images
_NOT_READ = (".xlsx", ".xls", ".ods", ".npy", ".npz", ".pkl", ".pickle", ".mat", ".pt", ".pth")  # which may hold lists
_AS_TEXT = "save it as train.txt, val.txt and test.txt, or as split.csv with a column split"
_DEEPER = ("metadata", "annotations", "ImageSets", "ImageSets/Segmentation", "split", "sets")
_OF_NAMES = re.compile("class|label|name|code", re.IGNORECASE)  # in names of files that list classes
_SHARE_KNOWN = 0.8  # of the cells of a column, which name images
_SURE_TABLES = ("split", "splits", "partition", "partitions")
PART_COLUMNS = ("split", "subset", "set", "partition", "part", "phase")  # of a table, that say the part


@dataclass(frozen=True)
class NameList:
    """The names of a part.

    Args:
        file: file that they stand in.
        lines: (number of the line, or of the name, from 1; the name).
    """

    file: Path
    lines: Sequence[tuple[int, str]]


def declared_lists(declared: Declaration) -> dict[str, Path]:
    """Return the lists that a `dataset.yaml` names for the parts; empty where it names folders, or nothing."""
    places = declared.splits()
    return places if places and all(path.suffix.lower() == ".txt" for path in places.values()) else {}


def part_by_lists(layout: Layout, declared: Declaration) -> None:
    """Give the samples of a layout without parts to those that lists name them for.

    Names that are no image's are faults; images that no list names are left out, and said.

    Raises:
        DataError: a list that cannot be read, or an image in two of them.
    """
    if UNPARTED not in layout.samples:
        return
    samples = layout.samples[UNPARTED]
    by_name = _names(samples, declared.base)
    files = declared_lists(declared) or _find_lists(declared.base)
    lists = {part: NameList(file, _lines(file)) for part, file in files.items()} or _find_table(layout, declared.base)
    lists = lists or _lists_below(declared.base, by_name) or _tables_of_parts(declared.base, by_name)
    used = {names.file for names in lists.values()} if _make_parts(lists, by_name) else set[Path]()
    layout.notes += _say_passed_over(declared.base, used, by_name)
    if not used:
        return
    taken: dict[str, str] = {}
    parts: dict[str, list[Sample]] = {}
    unknown: list[Finding] = []
    for part, names in lists.items():
        parts[part] = []
        for number, line in names.lines:
            sample = _meant(line, by_name)
            if sample is None:
                named = {"line": number, "list": names.file.name, "named": line}
                where = Where(relative(names.file, declared.base), "", number)
                unknown.append(Finding("missing-image", where, named, Fix("correct or remove the line")))
            elif taken.setdefault(sample.name, part) != part:
                raise DataError(
                    "an image is in the lists of two parts",
                    file=names.file,
                    expected="every image in one",
                    found=f"{sample.name} in {taken[sample.name]} and {part}",
                    fix="remove it from one of them",
                )
            elif sample not in parts[part]:
                parts[part].append(sample)
    if not taken and not declared_lists(declared):
        layout.notes.append(f"{lists['train'].file.name} {_say_strange(lists['train'], by_name)} and is passed over")
        return
    layout.faults += unknown
    if "train" not in lists:
        parts["train"] = [sample for sample in samples if sample.name not in taken]
        taken |= dict.fromkeys((sample.name for sample in parts["train"]), "train")
    layout.samples = {part: sorted(found, key=lambda sample: sample.name) for part, found in parts.items()}
    said = ", ".join(dict.fromkeys(names.file.name for names in lists.values()))
    layout.notes.append(f"parts are those of {said}" + ("" if "train" in lists else "; what is left is the train part"))
    rest = [sample.name for sample in samples if sample.name not in taken]
    if rest:
        shown = ", ".join(rest[:_MOST_SHOWN]) + (", ..." if len(rest) > _MOST_SHOWN else "")
        layout.notes.append(f"{len(rest)} images are in no list and are left out: {shown}")


def _make_parts(lists: Mapping[str, NameList], by_name: Mapping[str, Sample]) -> bool:
    """Whether lists make parts: one of them trains, or every line of them names an image and what is left trains."""
    lines = [line for names in lists.values() for _, line in names.lines]
    return "train" in lists or (0 < len(lines) < len(by_name) and all(_meant(line, by_name) for line in lines))


def _say_passed_over(base: Path, used: Collection[Path], by_name: Mapping[str, Sample]) -> Iterator[str]:
    """Yield a sentence for each list beside the images of which every line names one, and which is not read."""
    inside = [file for place in (base, *(base / name for name in _PLACES)) for file in _files_in(place)]
    for file in filter(_is_called_list, inside):
        yield f"{file.name} is called like a list of parts and is not read: {_AS_TEXT}"
    for file in (each for each in inside if each.suffix.lower() in (".csv", ".tsv") and each not in used):
        if file.stat().st_size <= _MOST_LIST and _column_of_names(file, by_name):
            yield f"{file.name} names images and is passed over: a table of parts is split.csv with a column split"
    for file in (file for file in inside if file.suffix.lower() == ".txt" and file.parent == base):
        if _OF_NAMES.search(file.stem):
            continue
        if file not in used and file.stat().st_size <= _MOST_LIST:
            try:
                lines = _lines(file)
            except DataError:
                continue
            if len(lines) > 1 and all(_meant(line, by_name) for _, line in lines):
                yield f"{file.name} names images and is passed over: lists of parts are train.txt, val.txt and test.txt"


def _files_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file()] if folder.is_dir() else []


def _is_called_list(file: Path) -> bool:
    """Whether a file of a form that is not read is called like a list of parts."""
    if file.suffix.lower() in (".yaml", ".yml"):
        return file.stem in _SURE_TABLES
    return file.suffix.lower() in _NOT_READ and _says_parts(file.stem)


def _says_parts(name: str) -> bool:
    """Whether a word of a name is that of a part, or of a table of parts."""
    return not {*PARTS, *_TABLES, "fold", "folds"}.isdisjoint(re.split(r"[^a-z]+", name.lower()))


def _meant(line: str, by_name: Mapping[str, Sample]) -> Sample | None:
    """Return the sample that a line names, perhaps by the name of its mask, or before other columns."""
    path = PurePosixPath(line)
    ways = [line, path.name]
    ways += [path.stem] if path.suffix.lower() in IMAGE_SUFFIXES else []
    ways += [line.split()[0]] if " " in line else []
    return next((by_name[key] for way in ways if (key := key_of(way)) in by_name), None)


def _say_strange(names: NameList, by_name: Mapping[str, Sample]) -> str:
    """Return what is wrong with a list that names no image, in words."""
    for _, line in names.lines[:_MOST_SHOWN]:
        whole = next((line[:at] for at in range(len(line) - 1, 0, -1) if key_of(line[:at]) in by_name), None)
        if whole is not None and line[len(whole)] in "_-":
            return f"names pieces of images that are not cut yet, such as {line} of {whole},"
    return "names no image"


def _lists_below(base: Path, by_name: Mapping[str, Sample]) -> dict[str, NameList]:
    """Return the lists of a folder such as metadata/ or annotations/, where every line names an image."""
    for folder in (base / name for name in _DEEPER):
        files = _lists_in((folder,))
        if not {"train", "val"} & set(files) and (both := folder / "trainval.txt").is_file():
            files = {"train": both, **files}
        lists = {part: NameList(file, _lines(file)) for part, file in files.items()}
        if "train" in lists and all(_meant(line, by_name) for names in lists.values() for _, line in names.lines):
            return lists
    return {}


def _tables_of_parts(base: Path, by_name: Mapping[str, Sample]) -> dict[str, NameList]:
    """Return the lists of `train.csv`, `val.csv` and `test.csv` that have a column of names of images."""
    files = _lists_in((base, *(base / name for name in _PLACES)), ".csv")
    lists = {part: _column_of_names(file, by_name) for part, file in files.items()}
    return {part: names for part, names in lists.items() if names is not None} if lists.get("train") else {}


def _column_of_names(file: Path, by_name: Mapping[str, Sample]) -> NameList | None:
    """Return the column of a table, perhaps below a head, of which most cells name an image, each another one.

    Of several, such as numbers of lines beside names, it is the one with endings of images; None where that is not one.
    """
    rows = _rows(file) if file.stat().st_size <= _MOST_TABLE else []
    found: list[tuple[bool, list[tuple[int, str]]]] = []
    for column in range(min(map(len, rows), default=0)):
        cells = [(number, _as_name(row[column])) for number, row in enumerate(rows, 1)]
        names = cells if _meant(cells[0][1], by_name) else cells[1:]
        known = [_meant(name, by_name) for _, name in names]
        different = {sample.name for sample in known if sample is not None}
        each_once = known.count(None) + len(different) == len(names)
        if len(names) > 1 and each_once and len(different) >= _SHARE_KNOWN * len(names):
            found.append((all(name.lower().endswith(IMAGE_SUFFIXES) for _, name in names), names))
    sure = found if len(found) == 1 else [each for each in found if each[0]]
    return NameList(file, sure[0][1]) if sure else None


def _rows(file: Path) -> list[list[str]]:
    """Return the rows of a table; none of what is no table."""
    try:
        with file.open(encoding=encoding_of(file), newline="") as lines:
            return [row for row in rows_of(lines) if row]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _find_lists(base: Path) -> dict[str, Path]:
    return _lists_in((base, *(base / name for name in _PLACES)))


def _lists_in(places: Sequence[Path], ending: str = ".txt") -> dict[str, Path]:
    """Return part -> the first list of its name, in letters of any size."""
    there = [
        {file.name.casefold(): file for file in sorted(place.iterdir(), reverse=True) if file.is_file()}
        for place in places
        if place.is_dir()
    ]
    found = {
        part: next((files[key] for files in there for name in names if (key := f"{name}{ending}") in files), None)
        for part, names in PART_NAMES.items()
    }
    return {part: file for part, file in found.items() if file is not None}


def _find_table(layout: Layout, base: Path) -> dict[str, NameList]:
    """Return the parts of `split.csv` or `split.json`; empty where there is none that says parts."""
    for folder in (base, *(base / name for name in _PLACES)):
        for name in _TABLES:
            for ending, read in ((".csv", _read_csv), (".json", _read_json)):
                file = folder / f"{name}{ending}"
                if file.is_file() and file.stat().st_size <= _MOST_TABLE and (found := read(file, layout.notes)):
                    return found
    return {}


def _read_csv(file: Path, notes: list[str]) -> dict[str, NameList]:
    """Return the parts of a table with a column of parts; the names are those of the first other column."""
    rows = _rows(file)
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    column = next((head.index(name) for name in PART_COLUMNS if name in head), None)
    if column is None or len(head) < 2:
        return {}
    said = [(number, row) for number, row in enumerate(rows[1:], 2) if len(row) == len(head)]
    parts: dict[str, list[tuple[int, str]]] = {}
    for number, row in said:
        part = PARTS.get(row[column].strip().lower())
        if part is None:
            notes.append(f'{file.name} is passed over: "{row[column][:40]}" in line {number} is not train, val or test')
            return {}
        parts.setdefault(part, []).append((number, _as_name(row[0 if column else 1])))
    return {part: NameList(file, lines) for part, lines in parts.items()}


def _read_json(file: Path, notes: list[str]) -> dict[str, NameList]:
    """Return the parts of an object that holds a list of names for each."""
    try:
        said: Any = parse_json(file.read_bytes())
    except (OSError, RecursionError, ValueError):
        return {}
    if isinstance(said, dict) and said and all(isinstance(part, str) for part in said.values()):
        said = _by_part(said)  # {"a.png": "train", ...}
    known = isinstance(said, dict) and all(str(name).lower() in PARTS for name in said)
    other = next((name for name in said if name.lower() not in PARTS), None) if isinstance(said, dict) else None
    if other is not None and "train" in said:
        notes.append(f'{file.name} is passed over: "{other[:40]}" is not train, val or test')
    elif not known and file.stem in _SURE_TABLES:
        notes.append(f'{file.name} is passed over: {{"train": [names], "val": [names]}} is read')
    if not known or not all(
        isinstance(names, list) and all(isinstance(n, str) for n in names) for names in said.values()
    ):
        return {}
    return {
        PARTS[name.lower()]: NameList(file, [(number, _as_name(n)) for number, n in enumerate(names, 1)])
        for name, names in said.items()
    }


def _by_part(said: Mapping[str, str]) -> dict[str, list[str]]:
    """Return part -> names of an object that says the part of each name; keys that are no part stay."""
    names: dict[str, list[str]] = {}
    for name, part in said.items():
        names.setdefault(part.strip().lower(), []).append(name)
    return names


def _as_name(text: str) -> str:
    return text.strip().replace("\\", "/").removeprefix("./")


def _lines(file: Path) -> list[tuple[int, str]]:
    try:
        lines = read_text(file).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read: {error}", file=file, expected="lines of names") from error
    said = ((number, _as_name(line)) for number, line in enumerate(lines, 1))
    return [(number, line) for number, line in said if line and not line.startswith("#")]


def _names(samples: Sequence[Sample], base: Path) -> Mapping[str, Sample]:
    """Return every way to name a sample that names no other -> the sample."""
    said: list[tuple[str, Sample]] = []
    for sample in samples:
        ways = {sample.name, relative(sample.image.file, base), PurePosixPath(sample.name).name}
        ways |= {str(PurePosixPath(way).with_suffix("")) for way in ways}
        said += [(key_of(way), sample) for way in ways]
    times = Counter(way for way, _ in said)
    return {way: sample for way, sample in said if times[way] == 1}
