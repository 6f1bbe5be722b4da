"""Which images a command is asked about, what the outputs of each are called, and what is passed over."""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..images.decode import IMAGE_SUFFIXES
from ..images.unread import is_unread, unread_ending

_FIX = "convert them to PNG or TIFF"


@dataclass(frozen=True)
class Inputs:
    """Images to predict.

    Args:
        images: the files.
        names: of the outputs of each, without an ending: the image's stem, below a folder given with the folders
            between, joined by /.
        notes: what is passed over, in sentences.
    """

    images: tuple[Path, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def find_images(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the images of `find_inputs`."""
    return list(find_inputs(paths).images)


def find_inputs(paths: Iterable[str | os.PathLike[str]]) -> Inputs:
    """Return the images named: files as they are, folders by the image files in and below them, patterns by matches.

    A folder and a pattern (`*`, `?` and `[...]`, `**` for folders below) give their files in order of name. A file
    whose name has such characters is itself.

    Raises:
        UsageError: nothing found, or two images whose outputs would have one name.
    """
    images_and_names: list[tuple[Path, str]] = []
    unread: list[Path] = []
    given = list(map(Path, paths))
    for path in given:
        if path.is_dir():
            files = [(file, _name_below(file, path)) for file in _files_below(path)]
        elif not path.exists() and glob.has_magic(os.fspath(path)):
            matches = sorted(map(Path, glob.glob(os.fspath(path), recursive=True)))
            files = [(file, file.stem) for file in matches if file.is_file()]
        else:
            images_and_names.append((path, path.stem))
            continue
        images_and_names += [(file, name) for file, name in files if file.suffix.lower() in IMAGE_SUFFIXES]
        unread += [file for file, _ in files if is_unread(file)]
    notes = _notes(unread)
    if not images_and_names:
        raise UsageError(
            "no image found",
            file=", ".join(str(path) for path in given),
            expected=" ".join(IMAGE_SUFFIXES),
            found="; ".join(notes) or None,
            fix=_FIX if notes else None,
        )
    named: dict[str, Path] = {}
    for path, name in images_and_names:
        if name in named:
            raise UsageError(
                "two images would be written to one file",
                file=path,
                found=f"{named[name]} has the name {name!r} too",
                fix="predict them into different folders",
            )
        named[name] = path
    images, names = zip(*images_and_names, strict=True)
    return Inputs(images, names, notes)


def _files_below(folder: Path) -> list[Path]:
    """Return the files in and below a folder in order of name, hidden ones left out; no folder is entered twice."""
    files: list[Path] = []
    seen: set[str] = set()
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        real = os.path.realpath(place)
        if real in seen:
            continue
        seen.add(real)
        inside = [path for path in place.iterdir() if not path.name.startswith((".", "__MACOSX"))]
        waiting += [path for path in inside if path.is_dir()]
        files += [path for path in inside if path.is_file()]
    return sorted(files)


def _name_below(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _notes(files: Iterable[Path]) -> tuple[str, ...]:
    """Return a sentence for each ending that is not read."""
    by_ending: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        by_ending[unread_ending(file)].append(file)
    return tuple(
        f"{len(each)} {ending or 'unnamed'} file{'s' * (len(each) != 1)} not read, such as {min(each)}: {_FIX}"
        for ending, each in sorted(by_ending.items())
    )
