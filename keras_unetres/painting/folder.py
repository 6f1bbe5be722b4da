"""The folder of a project: an ordinary data set, and beside it what painting needs.

`classes.txt` and `dataset.yaml`; `images/`, links to the pictures, copies where links do not work, and pages of stacks;
`masks/`, class ids, 255 where nothing is painted, of painted images alone; `instances/`, numbers of objects, where
there are any; `painting/`, with `project.json`, `journal.jsonl` and `accepted/`, pixels that the journal names by
digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from unetres_edge.errors import DataError, ExistsError, UnetresError, UsageError, shortened
from unetres_edge.files import (
    is_portable,
    make_folder,
    name_key,
    parse_state,
    read_bytes,
    write_bytes,
    write_json,
)
from unetres_edge.images.decode import IMAGE_SUFFIXES, MAX_PIXELS, read_image
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.model.card import default_colors

from ..data.declaration import check_names
from ..runs.typed import of_known
from .pictures import MOST_PIXELS, pages_of, read_picture
from .stored import is_digest, store_pixels

FOLDER = "painting"
FILE = "project.json"
VERSION = 1
CLASSES = ("background", "object")
MOST_CLASSES = 250
_LONGEST_STEM = 200
_KEYS = {"version", "source", "classes", "colors", "pictures"}

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Picture:
    """An image of a project.

    Args:
        name: name by which people and the journal call it: its path below the pictures' folder; `NAME#3` of a page.
        file: its name in `images/`.
        width: width in px, upright as EXIF says; `height` likewise.
        dtype: type of its pixels, such as uint16.
        size: size of the file, in bytes.
        modified: time at which the file was modified, in ns.
        sha256: SHA-256 of the file, in hexadecimal.
        ground: digest of the pixels that painting starts from, or "".
    """

    name: str
    file: str
    width: int
    height: int
    channels: int
    dtype: str
    size: int
    modified: int
    sha256: str
    ground: str = ""

    @property
    def stem(self) -> str:
        """The name of its mask, without the ending."""
        return Path(self.file).stem


@dataclass(frozen=True)
class About:
    """What `project.json` says.

    Args:
        source: the folder of the pictures.
        classes: names, by class id.
        colors: likewise.
        pictures: pictures in the order in which they were added.
    """

    source: str
    classes: tuple[str, ...]
    colors: tuple[Color, ...]
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Found:
    """A picture to add.

    Args:
        path: the file.
        name: name by which it is called.
        page: page of a stack, or None.
        mask: gives class ids and objects, or objects None, that painting starts from, or None where they cannot be
            read; None for nothing painted.
    """

    path: Path
    name: str
    page: int | None = None
    mask: Callable[[], tuple[Any, Any] | None] | None = None


def is_project(folder: Path) -> bool:
    """Whether a folder is a project."""
    return (folder / FOLDER / FILE).is_file()


def read_project(folder: Path) -> About:
    """Read `project.json`.

    Raises:
        DataError: there is none, or it is damaged, or of a later version.
    """
    path = folder / FOLDER / FILE
    try:
        values = parse_state(path.read_bytes())
    except FileNotFoundError as error:
        fix = f"unetres annotate PICTURES --out {folder}"
        raise DataError("not a project for painting", file=folder, expected=f"{FOLDER}/{FILE}", fix=fix) from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot be read: {error}", file=path, fix="put back a copy of it", kind="project") from error
    try:
        if type(values["version"]) is int and values["version"] > VERSION:
            raise DataError(
                "the project is of a later version",
                file=path,
                expected=VERSION,
                found=values["version"],
                kind="project",
            )
        return _about(values, path)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"a value is wrong: {error}", file=path, fix="put back a copy of it", kind="project") from error


def _about(values: Any, path: Path) -> About:
    """Return what the values of `project.json` say; ValueError, KeyError or TypeError where they cannot be meant."""
    if values["version"] != VERSION or type(values["source"]) is not str:
        raise ValueError("version or source")
    classes, colors = values["classes"], values["colors"]
    if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise ValueError("classes")
    if not (isinstance(colors, list) and len(colors) == len(classes) and all(map(_is_color, colors))):
        raise ValueError("colors")
    pictures = tuple(map(_picture, values["pictures"]))
    for what in ([each.name for each in pictures], [name_key(each.stem, "win32") for each in pictures]):
        if len(set(what)) < len(what):
            raise ValueError("two pictures have one name")
    return About(values["source"], check_names(tuple(classes), path), tuple(map(tuple, colors)), pictures)


def _is_color(color: Any) -> bool:
    return isinstance(color, list) and len(color) == 3 and all(type(v) is int and 0 <= v <= 255 for v in color)


def _picture(values: Mapping[str, Any]) -> Picture:
    """Return a picture of `project.json`, whose file lies in `images/` whoever wrote it."""
    picture = of_known(Picture, values)
    wrong = [
        name
        for name, right in {
            "name": bool(picture.name) and "\0" not in picture.name and _is_text(picture.name),
            "file": is_portable(picture.file) and not picture.file.startswith(".") and _is_text(picture.file),
            "width": picture.width > 0 < picture.height and picture.width * picture.height <= MOST_PIXELS,
            "channels": 0 < picture.channels < 2**16,
            "dtype": re.fullmatch("[a-z0-9]{1,16}", picture.dtype) is not None,
            "size": picture.size >= 0,
            "sha256": is_digest(picture.sha256),
            "ground": picture.ground == "" or is_digest(picture.ground),
        }.items()
        if not right
    ]
    if wrong:
        raise ValueError(f"{wrong[0]} of the picture {shortened(picture.name, 60)}")
    return picture


def _is_text(name: str) -> bool:
    """Whether a file can have a name: no halves of characters but those that stand for bytes that are no text."""
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def check_classes(names: Sequence[str], file: Path) -> tuple[str, ...]:
    """Return class names.

    Raises:
        UsageError: fewer than two, or more than `MOST_CLASSES`.
        DataError: names that no data set can have.
    """
    if not 2 <= len(names) <= MOST_CLASSES:
        raise UsageError("a project needs classes", expected=f"2 to {MOST_CLASSES} names", found=" ".join(names))
    return check_names(tuple(names), file)


def make_project(
    folder: Path,
    source: Path,
    classes: Sequence[str],
    colors: Sequence[Color] | None,
    found: Iterable[Found],
    say: Callable[[str], None],
) -> None:
    """Make a project of pictures, or add to one what it does not have yet; nothing in it is changed.

    Args:
        folder: an empty folder, none yet, or a project of these pictures.
        colors: colours of the classes; None for the usual ones.
        say: callback for sentences to the user.

    Raises:
        ExistsError: something else is in the folder.
        DataError: no picture can be read.
        FileSystemError: it cannot be written.
    """
    is_new = not is_project(folder)
    if is_new:
        inside = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if inside - {FOLDER, "images", "masks", "classes.txt", "dataset.yaml"} or (
            inside and not (folder / FOLDER).is_dir()  # what a kill left of one that was being made
        ):
            raise ExistsError(
                "something else is in the folder, so no project is made there",
                file=folder,
                found=", ".join(sorted(inside)[:8]),
                fix="name another folder with --out",
            )
        make_folder(folder / FOLDER)
        about = About(str(source), tuple(classes), tuple(colors or default_colors(len(classes))), ())
    else:
        about = read_project(folder)
    for name in ("images", "masks"):
        make_folder(folder / name)
    added, refused = _add(folder, about.pictures, found, say)
    if not about.pictures and not added:
        raise DataError(
            "no picture can be read",
            file=source,
            expected=" ".join(IMAGE_SUFFIXES),
            found="; ".join(refused[:4]) or None,
        )
    about = replace(about, pictures=(*about.pictures, *added))
    if is_new:
        write_bytes(folder / "classes.txt", "".join(f"{name}\n" for name in about.classes).encode())
    if is_new or added:
        write_bytes(folder / "dataset.yaml", _declaration(about).encode())
        values = asdict(about) | {"version": VERSION}
        write_json(folder / FOLDER / FILE, {key: values[key] for key in sorted(_KEYS)})


def _declaration(about: About) -> str:
    """Return the `dataset.yaml` of a project."""
    values: dict[str, Any] = {
        "classes": list(about.classes),
        "colors": [list(color) for color in about.colors],
        "format": "folders",
        "ignore": IGNORE,
        "images": "images",
        "masks": "masks",
        "masks_on": "seen",
        "without_masks": "leave out",
    }
    large = [picture.file for picture in about.pictures if picture.width * picture.height > MAX_PIXELS]
    if large:
        values["exclude"] = large
    return "# written by `unetres annotate`; images that nothing is painted on have no mask, and are left out\n" + str(
        yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None)
    )


def _add(
    folder: Path, known: Sequence[Picture], pictures: Iterable[Found], say: Callable[[str], None]
) -> tuple[list[Picture], list[str]]:
    """Link pictures that are not known; return them, and what was wrong with others."""
    names = {picture.name for picture in known}
    stems = {name_key(picture.stem, "win32") for picture in known}
    added: list[Picture] = []
    refused: list[str] = []
    copied = 0
    for each in pictures:
        if each.name in names:
            continue
        names.add(each.name)
        try:
            pixels = read_picture(each.path) if each.page is None else read_image(each.path, each.page)
            ground = each.mask() if each.mask is not None else None
            if ground is not None and ground[0].shape != pixels.shape[:2]:
                raise DataError(
                    "its mask is of another size", file=each.path, expected=pixels.shape[:2], found=ground[0].shape
                )
        except UnetresError as error:
            refused.append(str(error))
            say(f"left out   {error}")
            continue
        stem = _free_stem(each, stems)
        stems.add(name_key(stem, "win32"))
        file = stem + (each.path.suffix if each.page is None else ".tif")
        target = folder / "images" / file
        if each.page is None:
            copied += _link(each.path, target)
        else:
            _write_page(target, pixels)
        about = os.stat(target)
        added.append(
            Picture(
                each.name,
                file,
                pixels.shape[1],
                pixels.shape[0],
                1 if pixels.ndim == 2 else pixels.shape[2],
                str(pixels.dtype),
                about.st_size,
                about.st_mtime_ns,
                hashlib.sha256(target.read_bytes()).hexdigest(),
                "" if ground is None else store_pixels(folder / FOLDER, *ground),
            )
        )
        if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
            say(f"note       {each.name} is larger than a training reads ({MAX_PIXELS} px), which leaves it out")
    if copied:
        say(f"note       links do not work in {folder}: {copied} pictures are copied")
    return added, refused


def _free_stem(each: Found, taken: set[str]) -> str:
    """Return a name for a picture and its mask that no other one has, and every system takes."""
    path = Path(each.name.partition("#")[0])
    plain = "__".join([*path.parts[:-1], path.stem]) + (f"_page{each.page:04d}" if each.page is not None else "")
    ending = path.suffix.removeprefix(".").lower()
    tries = [plain, f"{plain}_{ending}", *(f"{plain}_{number}" for number in range(2, 10_000))]
    for stem in tries:
        length = len(stem.encode("utf-8", "replace"))
        fits = length <= _LONGEST_STEM and is_portable(f"{stem}.png") and stem.isprintable()
        if fits and name_key(stem, "win32") not in taken:
            return stem
    digest = hashlib.sha256(each.name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"picture_{digest}"


def _link(path: Path, target: Path) -> bool:
    """Link to a picture; copy it where links do not work. Return whether it was copied."""
    with contextlib.suppress(FileNotFoundError):
        target.unlink()  # of an earlier try that was killed
    try:
        os.symlink(os.path.abspath(path), target)
        return False
    except OSError:
        pass
    write_bytes(target, read_bytes(path, "picture"))
    return True


def _write_page(target: Path, pixels: Any) -> None:
    """Write a page of a stack as a TIFF of its own."""
    import io

    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="rgb" if pixels.ndim == 3 and pixels.shape[2] == 3 else "minisblack")
    write_bytes(target, buffer.getvalue())


def find_pictures(source: Path, say: Callable[[str], None]) -> list[Found]:
    """Return the pictures in and below a folder, in order of name; each page of a stack is one.

    Raises:
        UsageError: there is no such folder.
        DataError: links lead in a circle.
    """
    from ..data.forms.layout import list_images

    if not source.is_dir():
        raise UsageError("no such folder of pictures", file=source, expected="a folder, a data set, or a project")
    pictures = []
    for path in list_images(source):
        name = path.relative_to(source).as_posix()
        try:
            pages = pages_of(path)
        except UnetresError as error:
            say(f"left out   {error}")
            continue
        if pages == 1:
            pictures.append(Found(path, name))
        else:
            say(f"note       {name} is a stack: each of its {pages} pages is an image, copied into images/")
            pictures += [Found(path, f"{name}#{page}", page) for page in range(pages)]
    return pictures
