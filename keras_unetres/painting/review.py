"""What is to be looked at in a project: faults and suspects, each at its place, open until somebody says it is done.

They lie in `painting/review.json`. They come from the reports that `unetres check --json` and `unetres suspects --json`
write, and from the check of a data set that is opened for correction. One that is added again keeps whether it is done.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from unetres_edge.errors import DataError, UsageError, shortened
from unetres_edge.files import parse_state, read_bytes, write_json

from ..data.kinds import KINDS
from ..runs.lock import hold
from .folder import FOLDER, Picture, is_project, read_project
from .raster import Box

FILE = "review.json"
VERSION = 1
SUSPECT = "suspect"
OF_VALUES = ("unknown-values", "unknown-colors", "smeared-mask")  # kinds of findings about some pixels of a mask
LEAST_SCORE = 2.5  # spreads above what is usual, from which a suspect is listed
MOST_SUSPECTS = 200
_KEYS = {"image", "box", "kind", "says", "fix", "done"}


@dataclass(frozen=True)
class Place:
    """Something to look at.

    Args:
        image: name of the image in the project; "" where it is about no single one.
        box: part of it, px; None for all of it.
        kind: kind of the finding, or `SUSPECT`.
        says: words for what is there.
        fix: remedy, by the check.
        done: whether it is dealt with.
    """

    image: str
    box: Box | None
    kind: str
    says: str
    fix: str = ""
    done: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for what no report says, whoever wrote it."""
        texts = (self.image, self.kind, self.says, self.fix)
        if not all(isinstance(text, str) for text in texts) or type(self.done) is not bool:
            raise ValueError("a place to look at has a value of another kind")
        box = self.box
        if box is not None and not (
            isinstance(box, tuple) and len(box) == 4 and all(type(n) is int and abs(n) < 2**31 for n in box)
        ):
            raise ValueError(f"the box of a place to look at is {shortened(box, 60)}")

    @property
    def key(self) -> str:
        """What tells it from others."""
        said = json.dumps([self.image, self.box, self.kind, self.says])
        return hashlib.sha256(said.encode()).hexdigest()[:16]


@dataclass
class _Names:
    """The images of a project, by whatever a report calls them."""

    pictures: Sequence[Picture]
    _known: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for picture in self.pictures:
            plain = picture.name.partition("#")[0]
            for called in (picture.name, plain, str(Path(plain).with_suffix("")), picture.file, picture.stem):
                self._known.setdefault(called, set()).add(picture.name)

    def find(self, *called: str) -> str:
        """Return the name of the one image that is called so, by the first of the names that says it; "" for none."""
        for each in called:
            for name in (each, Path(each).stem) if each else ():
                found = self._known.get(name, set())
                if len(found) == 1:
                    return next(iter(found))
        return ""


def read_reports(folder: Path, files: Iterable[Path]) -> list[Place]:
    """Return what reports say of the images of a project.

    Args:
        folder: folder of the project.
        files: JSON of `unetres check` and of `unetres suspects`.

    Raises:
        DataError: a file is no such report, or is about none of the images.
        FileSystemError: it cannot be read.
    """
    names = _Names(read_project(folder).pictures)
    found: list[Place] = []
    for file in files:
        try:
            report = parse_state(read_bytes(file, "report"))
            places = _suspects(report, names) if "images" in report else _findings(report, names, {})
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            fix = f"unetres suspects DATA --json {file}; or unetres check DATA --json {file}"
            raise DataError("no report to look through", file=file, found=str(error) or None, fix=fix) from error
        if places and not any(place.image for place in places):
            raise DataError("the report is about other images than those of the project", file=file)
        found += places
    return found


def _suspects(report: Mapping[str, Any], names: _Names) -> list[Place]:
    made = []
    for row in [row for row in report["images"] if row["score"] >= LEAST_SCORE][:MOST_SUSPECTS]:
        top, left, bottom, right = row["box"] or (0,) * 4
        box = row["box"] and (left, top, right, bottom)
        says = f"mask: {row['given']}; a network that was not trained on it: {row['answered']}"
        says = says if box else "the mask fits the image worse than others do"
        image = names.find(f"{row['part']}/{row['image']}", row["image"])
        made.append(Place(image, box, SUSPECT, f"{says} ({row['score']:.1f} spreads above the usual)"))
    return made


def places_of(folder: Path, report: Mapping[str, Any], boxes: Mapping[str, Box]) -> list[Place]:
    """Return what a check says of the images of a project.

    Args:
        folder: folder of the project.
        report: report of the check, as its JSON.
        boxes: boxes in which values of a mask are no classes, px, by the name of the image in the data set.
    """
    return _findings(report, _Names(read_project(folder).pictures), boxes)


def _findings(report: Mapping[str, Any], names: _Names, boxes: Mapping[str, Box]) -> list[Place]:
    return [
        Place(
            names.find(row["image"], row["file"]),
            boxes.get(row["image"]) if row["kind"] in OF_VALUES else None,
            row["kind"],
            _said(row),
            row["fix"],
        )
        for row in [*report["faults"], *report["warnings"]]
    ]


def _said(row: Mapping[str, Any]) -> str:
    return f"{KINDS[row['kind']].title}: {row['found']}; expected {row['expected']} ({row['file']})"


def add_places(folder: Path, places: Iterable[Place]) -> int:
    """Add to what is to be looked at in a project that no server has open; return how many are new.

    Raises:
        RunFolderError: a server has it open.
        DataError: `review.json` is damaged.
        FileSystemError: it cannot be written.
    """
    with hold(folder / FOLDER):
        known = _read(folder)
        keys = {place.key for place in known}
        new = list({place.key: place for place in places if place.key not in keys}.values())
        if new:
            _write(folder, [*known, *new])
    return len(new)


class Review:
    """What is to be looked at in an open project; safe for several threads.

    Args:
        folder: folder of the project.

    Raises:
        DataError: `review.json` is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, threading.Lock()
        self._places = _read(folder)
        self._index = {picture.name: index for index, picture in enumerate(read_project(folder).pictures)}

    def rows(self) -> list[dict[str, Any]]:
        """Return JSON values of each place: its fields, and `key` and `index`, the number of the image or None."""
        with self._lock:
            return [self._row(place) for place in self._places]

    def mark(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Say that a place is done, or open again; return its row.

        Args:
            values: `key` and `done`.

        Raises:
            UsageError: there is no such place.
            FileSystemError: it could not be written; nothing has changed.
        """
        key, done = values.get("key"), values.get("done")
        if type(done) is not bool:
            raise UsageError("done is wrong", expected="true or false", found=done)
        with self._lock:
            places = [replace(place, done=done) if place.key == key else place for place in self._places]
            marked = [place for place in places if place.key == key]
            if not marked:
                raise UsageError("nothing of that key is to be looked at", found=key, kind="no-answer")
            _write(self._folder, places)
            self._places = places
            return self._row(marked[0])

    def _row(self, place: Place) -> dict[str, Any]:
        return asdict(place) | {"key": place.key, "index": self._index.get(place.image)}


def _read(folder: Path) -> list[Place]:
    file = folder / FOLDER / FILE
    if not is_project(folder) or not file.is_file():
        return []
    try:
        values = parse_state(read_bytes(file, "list"))
        version, places = values["version"], values["places"]
        if type(version) is not int or version > VERSION or any(set(row) != _KEYS for row in places):
            raise ValueError("of a later version")
        return [Place(**{**row, "box": row["box"] and tuple(row["box"])}) for row in places]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        fix = "remove the file, and name the reports again with --review"
        raise DataError(f"cannot be read: {error}", file=file, fix=fix, kind="project") from error


def _write(folder: Path, places: Sequence[Place]) -> None:
    write_json(folder / FOLDER / FILE, {"version": VERSION, "places": [asdict(place) for place in places]})
