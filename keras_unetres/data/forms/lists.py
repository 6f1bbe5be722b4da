"""Lists of the images of each part: `train.txt`, `val.txt` and `test.txt`, a name or a path a line.

They lie beside the folders of images and masks, in `splits/` or `lists/` there, or where a `dataset.yaml` says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from unetres_edge.errors import DataError, Fix

from ..declaration import Declaration
from ..findings import Finding, Where, relative
from ..sources import Sample
from .layout import PART_NAMES, UNPARTED, Layout, key_of

_MOST_SHOWN = 4


def declared_lists(declared: Declaration) -> dict[str, Path]:
    """Return the lists that a `dataset.yaml` names for the parts; empty where it names folders, or nothing."""
    places = declared.splits()
    return places if places and all(place.suffix.lower() == ".txt" for place in places.values()) else {}


def part_by_lists(layout: Layout, declared: Declaration) -> None:
    """Give the samples of a layout without parts to those that lists name them for.

    Names that are no image's are faults; images that no list names are left out, and said.

    Raises:
        DataError: a list that cannot be read, or an image in two of them.
    """
    lists = declared_lists(declared) or _find_lists(declared.base)
    if "train" not in lists or UNPARTED not in layout.samples:
        return
    samples = layout.samples[UNPARTED]
    by_name = _names(samples, declared.base)
    lines = {part: _lines(file) for part, file in lists.items()}
    taken: dict[str, str] = {}
    parts: dict[str, list[Sample]] = {}
    unknown: list[Finding] = []
    for part, file in lists.items():
        parts[part] = []
        for number, line in lines[part]:
            sample = by_name.get(key_of(line)) or by_name.get(key_of(PurePosixPath(line).name))
            if sample is None:
                named = {"line": number, "list": file.name, "named": line}
                where = Where(relative(file, declared.base), "", number)
                unknown.append(Finding("missing-image", where, named, Fix("correct or remove the line")))
            elif taken.setdefault(sample.name, part) != part:
                raise DataError(
                    "an image is in the lists of two parts",
                    file=file,
                    expected="every image in one",
                    found=f"{sample.name} in {taken[sample.name]} and {part}",
                    fix="remove it from one of them",
                )
            elif sample not in parts[part]:
                parts[part].append(sample)
    if not taken and not declared_lists(declared):
        layout.notes.append(f"{lists['train'].name} names no image and is passed over")
        return
    layout.faults += unknown
    layout.samples = {part: sorted(found, key=lambda sample: sample.name) for part, found in parts.items()}
    layout.notes.append("parts are those of " + ", ".join(file.name for file in lists.values()))
    rest = [sample.name for sample in samples if sample.name not in taken]
    if rest:
        shown = ", ".join(rest[:_MOST_SHOWN]) + (", ..." if len(rest) > _MOST_SHOWN else "")
        layout.notes.append(f"{len(rest)} images are in no list and are left out: {shown}")


def _find_lists(base: Path) -> dict[str, Path]:
    places = (base, base / "splits", base / "lists")
    return {
        part: file
        for part, names in PART_NAMES.items()
        if (file := next((f for p in places for n in names if (f := p / f"{n}.txt").is_file()), None)) is not None
    }


def _lines(file: Path) -> list[tuple[int, str]]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read: {error}", file=file, expected="lines of names") from error
    said = ((number, line.strip().replace("\\", "/").removeprefix("./")) for number, line in enumerate(lines, 1))
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
