"""What every reader gives: samples by part, what is known of the classes, and the faults seen on the way."""

from __future__ import annotations

import logging
import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from unetres_edge.errors import DataError
from unetres_edge.images.decode import HEADER_FORMATS, IMAGE_SUFFIXES
from unetres_edge.model.background import find_background

from ...choices.tasks import SEGMENT
from ..colortables import Color, ColorTable
from ..declaration import Declaration, lies_in
from ..findings import Finding
from ..fixes import declare
from ..sources import Sample

# Pillow logs each TIFF of more channels than it draws, which are read without it; unhandled, that goes to the screen.
logging.getLogger("PIL.TiffImagePlugin").addHandler(logging.NullHandler())

UNPARTED = ""
HELD_OUT = "held-out"  # the key of samples that are all there to be scored
OF_FOLDER = r"^(.+)/"  # the group of an image whose folder is the unit of the parts
_FEWEST_GROUPS = 3
OF_BOXES = "draw outlines of the objects, and export masks, polygons or COCO; boxes teach no pixel"
PART_NAMES = {
    "train": (
        *("train", "training", "trn", "entrenamiento", "entrainement", "entraînement", "addestramento", "treino"),
        *("treinamento", "训练", "训练集"),
    ),
    "val": (
        *("val", "valid", "validation", "dev", "validate", "eval", "evaluation", "validierung", "validacion"),
        *("validación", "validazione", "validacao", "validação", "验证", "验证集"),
    ),
    "test": ("test", "testing", "holdout", "prueba", "pruebas", "teste", "测试", "测试集"),
}
PARTS = {name: part for part, names in PART_NAMES.items() for name in names}
# Folders that systems, and programs that make previews, leave beside what is theirs.
NOT_DATA = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information")
_TRAIN_AND_VAL = ("trainval", "train_val", "train-val")  # folders of both, of which the validation part is drawn


@dataclass
class Layout:
    """The files of a data set as a reader found them.

    Args:
        task: task that it teaches: "segment", or "classify" where each image has one class.
        samples: part -> samples, or `UNPARTED` -> all of them.
        names: class names, or None if the masks themselves decide.
        colors: colours of the classes, or None.
        ignore: the stored value that means "not labelled" in this format, or None.
        values: stored value (or packed colour) -> class id or `IGNORE`, or None where ids are stored as they are.
        by_color: whether masks are given as packed colours.
        masks_are: "instances" where the names of the files say so, or None.
        group_by: a pattern for `Reading.group_by` where the folders are units, such as patients, or None.
        faults: findings that keep it from being used, so far.
        warnings: findings about what is read, but worth a look.
        notes: sentences that a person should know.
    """

    task: str = SEGMENT.name
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    names: tuple[str, ...] | None = None
    colors: tuple[Color, ...] | None = None
    ignore: int | None = None
    values: dict[int, int] | None = None
    by_color: bool = False
    masks_are: str | None = None
    group_by: str | None = None
    faults: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def take_table(self, table: ColorTable, *, by_color: bool, ignore: int) -> None:
        """Use the classes of a colour table: its colours as stored values if `by_color`, else grey levels or rows."""
        self.names, self.colors, self.by_color = table.names, table.colors, by_color
        self.values = table.values(ignore) if by_color else table.levels(ignore)


# Keys of a `dataset.yaml` that the readers of some formats heed, and those of others do not.
HEEDED_BY_SOME = ("splits", "images", "masks", "annotations", "crowds", "runs")


class Format(NamedTuple):
    """A format of data sets, and its reader.

    Args:
        recognises: whether a folder looks like the format.
        read: function that returns what there is, by names and annotations alone.
        by_name: whether classes are stored by name, so that declared `classes:` select and order them.
        task: task that such a data set teaches.
        lists_classes: whether a `classes.txt` has all classes, the background, too.
        takes: keys of a `dataset.yaml`, of `HEEDED_BY_SOME`, that `read` heeds; one with others is refused.
    """

    recognises: Callable[[Path], bool]
    read: Callable[[Declaration], Layout]
    by_name: bool = False
    task: str = SEGMENT.name
    lists_classes: bool = True
    takes: tuple[str, ...] = ()


def key_of(stem: str) -> str:
    """Return a name as file systems that fold case and compose accents would compare it."""
    return unicodedata.normalize("NFC", stem).casefold()


def is_image(file: Path) -> bool:
    """Return whether a file ends like an image and is not hidden."""
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") and file.is_file()


def list_images(folder: Path) -> list[Path]:
    """Return the files below a folder that end like images; see `list_files`."""
    return list_files(folder, IMAGE_SUFFIXES)


def list_files(folder: Path, endings: Collection[str] | None) -> list[Path]:
    """Return what below a folder has one of the endings, sorted, hidden files left out; links are followed.

    Args:
        endings: such as ".txt", in small letters; None for every file.

    Raises:
        DataError: the folder cannot be listed, or links lead to one folder twice or in a circle.
    """
    files: list[Path] = []
    seen: dict[str, Path] = {}
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        real = os.path.realpath(current)
        if real in seen:
            raise DataError(
                "a link leads to a folder that is read already",
                file=current,
                expected="every folder once",
                found=seen[real],
                fix="remove the link",
            )
        seen[real] = current
        try:
            listed = current.iterdir() if current.is_dir() else ()
            inside = [path for path in listed if not path.name.startswith(".") and path.name not in NOT_DATA]
            waiting += [path for path in inside if path.is_dir()]
        except OSError as error:
            raise DataError(f"cannot list the folder: {error.strerror or error}", file=current) from error
        files += [path for path in inside if endings is None or path.suffix.lower() in endings]
    return sorted(files)


def find_parts(base: Path, fits: Callable[[Path], bool]) -> dict[str, Path]:
    """Return part -> the folder in `base` that is named after it and fits."""
    parts = {}
    inside = sorted(base.iterdir(), reverse=True) if base.is_dir() else []
    there = {key_of(path.name): path for path in inside if path.is_dir()}
    for part, names in PART_NAMES.items():
        folders = (there[name] for name in names if name in there)
        match = next((folder for folder in folders if fits(folder)), None)
        if match is not None:
            parts[part] = match
    both = next((there[name] for name in _TRAIN_AND_VAL if name in there and fits(there[name])), None)
    if both is not None and not {"train", "val"} & set(parts):
        parts["train"] = both
    return parts


def unnamed_note(named: Iterable[Path]) -> list[str]:
    """Return a sentence on the images beside those that annotations name, which are passed over; none where none is."""
    files = set(named)
    folders = sorted({file.parent for file in files})
    rest = [path for folder in folders for path in sorted(folder.iterdir()) if is_image(path) and path not in files]
    if not rest:
        return []
    what = "an image beside those" if len(rest) == 1 else f"{len(rest)} images beside those"
    return [f"{what} that annotations name {'is' if len(rest) == 1 else 'are'} left out, such as {rest[0].name}"]


def find_file(name: str, places: Sequence[Path], within: Sequence[Path]) -> Path | None:
    """Return the first of `places` / `name` that is a file, by the name as it stands or its last part.

    A name in an annotation never leads out of the folders `within`: of one that does, only the last part counts.
    """
    name = name.replace("\\", "/")
    for tried in (name, name.rpartition("/")[2]):
        for parent in places:
            path = Path(os.path.normpath(parent / tried))
            if tried and os.path.isfile(path) and any(lies_in(path, folder) for folder in within):
                return path
    return None


def refuse_other_background(names: Sequence[str] | None, file: Path) -> None:
    """Raise DataError if declared classes have the background elsewhere than first, where class 0 is what is not drawn.

    Raises:
        DataError: they do.
    """
    if names is not None and find_background(names) != 0:
        behind = names[find_background(names)]
        raise DataError(
            "class 0 is what nothing covers",
            file=file,
            expected="the background first",
            found=", ".join(names),
            fix=declare({"classes": [behind, *(name for name in names if name != behind)]}, file),
        )


def group_by_folder(layout: Layout, folders: Iterable[str]) -> bool:
    """Keep the images of a folder in one part where folders are numbered, as those of patients; return whether."""
    names = [Path(folder).name for folder in folders]
    numbered = len(names) >= _FEWEST_GROUPS and all(any(c.isdigit() for c in name) for name in names)
    if numbered:
        layout.group_by = OF_FOLDER
    return numbered


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def have_colors(masks: Iterable[Path], table: ColorTable | None = None) -> bool:
    """Whether the first mask that can be opened holds colours; the others are named when they are decoded."""
    return next((said for mask in masks if (said := _has_colors(mask, table)) is not None), False)


def _has_colors(mask: Path, table: ColorTable | None) -> bool | None:
    """Whether a file's header says that it holds colours, or None if it cannot be opened.

    Of a palette image with a table, the colours count unless the palette is the table's rows in order, or greys.
    """
    if not mask.is_file():
        return None
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(mask, formats=HEADER_FORMATS) as image:
            if image.mode != "P" or table is None:
                return image.mode in ("RGB", "RGBA")
            values = image.getpalette("RGB") or []
            palette = list(zip(values[::3], values[1::3], values[2::3], strict=True))
            rows = len(table.rows)
            return tuple(palette[:rows]) != table.rows and any(c != (i, i, i) for i, c in enumerate(palette[:rows]))
    except Exception:  # of Pillow's readers: any kind
        return None
