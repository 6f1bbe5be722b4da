"""Files in the folders of a data set that are not read, by folder and ending."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from unetres_edge.errors import Fix
from unetres_edge.images.decode import IMAGE_SUFFIXES
from unetres_edge.images.unread import is_unread, unread_ending

from .findings import Finding, Where, relative
from .sources import Sample

FIX = Fix("convert them to PNG or TIFF, or move them away")


class Unread(NamedTuple):
    """Files of one ending, "" for none, in one folder."""

    folder: Path
    ending: str
    files: tuple[Path, ...]


def find_unread(samples: Iterable[Sample]) -> Iterator[Unread]:
    """Yield what is not read in the folders of the images and masks of some samples, and in those between them."""
    sources = [source for sample in samples for source in (sample.image, sample.target)]
    read = {source.file.parent for source in sources if source.file.suffix.lower() in IMAGE_SUFFIXES}
    for folder in sorted(read):
        yield from unread_in(folder)


def unread_in(folder: Path) -> Iterator[Unread]:
    """Yield what is not read in a folder."""
    passed_over: dict[str, list[Path]] = defaultdict(list)
    for path in folder.iterdir() if folder.is_dir() else ():
        if is_unread(path) and path.is_file():
            passed_over[unread_ending(path)].append(path)
    for ending, files in sorted(passed_over.items()):
        yield Unread(folder, ending, tuple(sorted(files)))


def unread_finding(unread: Unread, base: Path) -> Finding:
    """Return the warning that files are passed over."""
    figures = {"count": len(unread.files), "ending": unread.ending or " without an ending"}
    figures |= {"example": unread.files[0].name, "endings": " ".join(IMAGE_SUFFIXES)}
    return Finding("unread-file", Where(relative(unread.folder, base)), figures, FIX)


def unread_note(unread: Unread, base: Path) -> str:
    """Return a sentence on files that are passed over."""
    count = len(unread.files)
    what = f"{count} {unread.ending or 'unnamed'} file{'s' * (count != 1)}"
    return f"{what} in {relative(unread.folder, base)}/ not read, such as {unread.files[0].name}: {FIX.text}"
