"""Which images a command is asked about, what the outputs of each are called, and what is passed over."""

from __future__ import annotations

import glob
import itertools
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import UsageError
from ..files import name_key
from ..frames.source import VIDEO_PACKAGE, FrameSource, can_read_videos, find_frames, is_video, shown_word
from ..images.decode import IMAGE_SUFFIXES
from ..images.unread import is_unread, unread_ending
from ..terminal import counted

_FIX = "convert them to PNG or TIFF"


@dataclass(frozen=True)
class Inputs:
    """Images to predict, and videos, cameras and addresses whose frames are.

    Args:
        images: the files.
        names: of the outputs of each, without an ending: the image's stem, below a folder given, or that in which a
            pattern begins, with the folders between, joined by /.
        notes: sentences about what is passed over.
        frames: sources of frames, with names of their own.
    """

    images: tuple[Path, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    frames: tuple[FrameSource, ...] = ()

    @property
    def all(self) -> tuple[Path | FrameSource, ...]:
        """Everything, sources of frames last."""
        return (*self.images, *self.frames)

    @property
    def all_names(self) -> tuple[str, ...]:
        """The names of `all`."""
        return (*self.names, *(each.name for each in self.frames))

    def images_alone(self, asks: str) -> Inputs:
        """Return the images alone, with a note on videos that were found beside them.

        Raises:
            UsageError: a video, a camera or an address was named.
        """
        named = next((each for each in self.frames if not each.found), None)
        if named is not None or (self.frames and not self.images):
            word = shown_word((named or self.frames[0]).word)
            raise UsageError(f"{asks} takes images, and no videos or cameras", found=word, fix="drop it")
        videos = [f"not read: {shown_word(each.word)}; {asks} takes images alone" for each in self.frames]
        return replace(self, frames=(), notes=(*self.notes, *videos))


def find_images(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the images of `find_inputs`, where there are images alone."""
    return list(find_inputs(paths).images_alone("this").images)


def find_inputs(paths: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None) -> Inputs:
    """Return what is named: files as they are, folders by the images and videos in and below them, patterns by matches.

    A folder and a pattern (`*`, `?` and `[...]`, `**` for folders below) give their files in order of name. A file
    whose name has such characters is itself. A number is a camera, and `http://`, `rtsp://` an address of one; of a
    folder, videos are taken where PyAV is installed.

    Args:
        paths: words of a user.
        out: folder of the outputs; where it lies in a folder that is named, what is in it is passed over.

    Raises:
        UsageError: nothing found, or two images whose outputs would have one name.
    """
    pictures: list[tuple[Path, str]] = []
    frames: list[FrameSource] = []
    unread: list[Path] = []
    earlier: set[Path] = set()  # outputs
    words = [os.fspath(path) for path in paths]
    for word in words:
        path = Path(word)
        if path.is_dir():
            begin, matches = path, _files_below(path)
        elif not path.exists() and glob.has_magic(word) and "://" not in word:
            begin, matches = _fixed_part(path), sorted(map(Path, glob.glob(word, recursive=True)))
        else:
            source = find_frames(word)
            if source is not None:
                frames.append(source)
            else:
                pictures.append((path, path.stem))
            continue
        written = _outputs_among(matches, begin, out)
        earlier |= written
        files = [(file, _name_below(file, begin)) for file in matches if not file.is_dir() and file not in written]
        pictures += [(file, name) for file, name in files if file.suffix.lower() in IMAGE_SUFFIXES]
        if can_read_videos():
            frames += [FrameSource(os.fspath(file), name, found=True) for file, name in files if is_video(file)]
        unread += [file for file, _ in files if is_unread(file) and not (is_video(file) and can_read_videos())]
    notes = _notes(unread)
    if earlier:
        notes = (f"{counted(len(earlier), 'file')} in {out} not read: outputs lie there", *notes)
    if not pictures and not frames:
        raise UsageError(
            "no image found",
            file=", ".join(words),
            expected=" ".join(IMAGE_SUFFIXES),
            found="; ".join(notes) or None,
            fix=_FIX if unread else None,
        )
    _refuse_twins([*pictures, *((each.file, each.name) for each in frames)])
    return Inputs(tuple(file for file, _ in pictures), tuple(name for _, name in pictures), notes, tuple(frames))


def _refuse_twins(files: Iterable[tuple[Path, str]]) -> None:
    named: dict[str, Path] = {}
    for path, name in files:
        key = name_key(name)
        if key in named:
            kinds = named[key].suffix != path.suffix
            pattern = f"take one kind, such as '{path.parent / f'*{path.suffix}'}', or " if kinds else ""
            raise UsageError(
                "two images would be written to one file",
                file=path,
                found=f"{named[key]} has the name {name!r} too",
                fix=f"{pattern}predict them into different folders",
            )
        named[key] = path


def _files_below(folder: Path) -> list[Path]:
    """Return the files in and below a folder in order of name, hidden ones left out; no folder is entered twice.

    Links that lead nowhere and pipes are among them: one with the ending of an image costs itself, by name.
    """
    files: list[Path] = []
    seen: set[str] = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        real = os.path.realpath(current)
        if real in seen:
            continue
        seen.add(real)
        inside = [path for path in current.iterdir() if not path.name.startswith((".", "__MACOSX"))]
        waiting += [path for path in inside if path.is_dir()]
        files += [path for path in inside if not path.is_dir()]
    return sorted(files)


def _outputs_among(files: Iterable[Path], folder: Path, out: str | os.PathLike[str] | None) -> set[Path]:
    """Return the files that lie in the folder of the outputs, if that lies in the one that was searched."""
    if out is None:
        return set()
    here, there = (Path(os.path.realpath(place)) for place in (folder, out))
    if here not in there.parents:
        return set()
    return {file for file in files if there in Path(os.path.realpath(file)).parents}


def _fixed_part(pattern: Path) -> Path:
    """Return the folder in which a pattern begins: what stands before its first `*`, `?` or `[`."""
    parts = pattern.parts[:-1]
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), parts))


def _name_below(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _notes(files: Iterable[Path]) -> tuple[str, ...]:
    """Return a sentence for each ending that is not read."""
    by_ending: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        by_ending[unread_ending(file)].append(file)
    return tuple(
        f"{len(each)} {ending or 'unnamed'} file{'s' * (len(each) != 1)} not read, such as {min(each)}: "
        + (f"pip install {VIDEO_PACKAGE}" if is_video(min(each)) else _FIX)
        for ending, each in sorted(by_ending.items())
    )
