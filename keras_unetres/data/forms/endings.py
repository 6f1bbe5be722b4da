"""Files of one picture in one folder, told by the ends of their names: `a.jpg` with `a_m.png`, `b_x.png`, `b_y.png`.

Names say which files belong together, pixels which of them are masks: those of few values.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from unetres_edge.errors import DataError, Fix

from ..declaration import Declaration
from ..fixes import declare, say_place
from .layout import key_of
from .looks import look_like_masks

_OTHER_USES = re.compile(r"colou?r|instance|weight|bound|edge|contour|cent(er|re)|overlay|watershed", re.IGNORECASE)
_CALLED = re.compile(r"label|mask|semantic|seg|truth|gt", re.IGNORECASE)
_MOST_LINES = 6
_MOST_IN_A_FOLDER = 8  # files of a folder of one picture
_FEWEST = 3  # files without a partner, of which an ending is left out


@dataclass(frozen=True)
class Endings:
    """What the files of each picture are called.

    Args:
        pictures: endings, such as ".jpg" and "_rgb.png", of files that look like pictures.
        masks: endings of files that look like masks.
        files: key of a picture -> ending -> file.
    """

    pictures: tuple[str, ...]
    masks: tuple[str, ...]
    files: Mapping[str, Mapping[str, Path]]

    def with_ending(self, ending: str) -> dict[str, Path]:
        """Return key of a picture -> its file of that ending."""
        return {key: files[ending] for key, files in self.files.items() if ending in files}


def find_endings(files: Sequence[Path]) -> Endings | None:
    """Return the endings that most pictures have, or None where pixels do not tell pictures and masks among them."""
    ways = (_by_shortest, _by_last_word, _by_folder)
    grouped = next((group for by in ways if (group := _common(by(files)))), {})
    by_ending: dict[str, list[Path]] = defaultdict(list)
    for of_picture in grouped.values():
        for ending, file in of_picture.items():
            by_ending[ending].append(file)
    looks = {ending: look_like_masks(of_ending) for ending, of_ending in by_ending.items()}
    pictures, masks = (
        tuple(sorted(e for e, is_mask in looks.items() if is_mask == wanted)) for wanted in (False, True)
    )
    if not pictures or not masks or (len(pictures) > 1 and not _of_endings(grouped)):
        return None  # of several pictures in a folder of their own, which may be bands of one
    return Endings(pictures, masks, grouped)


def _of_endings(grouped: Mapping[str, Mapping[str, Path]]) -> bool:
    """Whether files are told by the ends of their names, and not by their whole names in folders of their own."""
    return any(ending != file.name.lower() for of in grouped.values() for ending, file in of.items())


def choose_endings(endings: Endings, folder: Path, declared: Declaration) -> tuple[str, str]:
    """Return the ending of pictures and that of masks.

    Raises:
        DataError: there are several of one; which is meant is for a person to say.
    """
    if len(endings.pictures) == len(endings.masks) == 1:
        return endings.pictures[0], endings.masks[0]
    raise DataError(
        "several files belong to each picture",
        file=folder,
        expected="one image and one mask",
        found=f"images *{', *'.join(endings.pictures)}; masks *{', *'.join(endings.masks)}",
        fix=_keep_one_of_each(endings, declared),
        kind="ambiguous-names",
    )


def shared_ending(left: Sequence[Path], paired: Iterable[Path]) -> str:
    """Return the ending that all of several files without a partner have, and no file with one; "" where none is.

    It begins with a sign and has a letter before that of the format: "_superpixels.png".
    """
    names = [file.name for file in left]
    if len(names) < _FEWEST:
        return ""
    end = os.path.commonprefix([name[::-1] for name in names])[::-1]
    start = next((at for at, sign in enumerate(end) if not sign.isalnum()), len(end))
    ending = end[start:]
    says = any(c.isalpha() for c in ending.rpartition(".")[0])
    return ending if says and not any(file.name.endswith(ending) for file in paired) else ""


def _keep_one_of_each(endings: Endings, declared: Declaration) -> Fix:
    """Return the lines of which each leaves one ending of pictures and one of masks."""
    every = (*endings.pictures, *endings.masks)
    lines = []
    for kept in sorted(product(endings.pictures, endings.masks), key=lambda pair: _doubt(pair[1])):
        others = [f"*{ending}" for ending in every if ending not in kept]
        if not any(fnmatch.fnmatchcase(f"a{ending}", other) for ending in kept for other in others):
            lines.append(declare({"exclude": others}).text)
    if not lines:
        return Fix("move the files that are not meant away")
    return Fix(" or ".join(lines[:_MOST_LINES]), place=say_place({"exclude": []}, declared.file))


def _doubt(ending: str) -> tuple[bool, bool, str]:
    """Return by what masks are ordered: those called so first, those of another use last."""
    return bool(_OTHER_USES.search(ending)), not _CALLED.search(ending), ending


def _by_shortest(files: Iterable[Path]) -> dict[str, dict[str, Path]]:
    """Return key -> ending -> file, where the key is the shortest name that the others of a picture start with."""
    listed = list(files)
    stems = {(file.parent, key_of(file.stem)) for file in listed}

    def cut(file: Path, stem: str) -> int:
        return next((at for at in _signs(stem) if (file.parent, stem[:at]) in stems), len(stem))

    return _grouped(listed, cut)


def _by_last_word(files: Iterable[Path]) -> dict[str, dict[str, Path]]:
    """Return key -> ending -> file, where the last word of each name says what the file is."""
    return _grouped(files, lambda _, stem: _last_sign(stem))


def _by_folder(files: Iterable[Path]) -> dict[str, dict[str, Path]]:
    """Return folder -> name -> file of folders of one picture each, where names are words: `case01/image.png`."""
    grouped: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in files:
        grouped[str(file.parent)][file.name.lower()] = file
    small = all(len(of_folder) <= _MOST_IN_A_FOLDER for of_folder in grouped.values())
    words = all(any(c.isalpha() for c in file.stem) for of_folder in grouped.values() for file in of_folder.values())
    return grouped if small and words and len(grouped) >= _FEWEST else {}


def _grouped(files: Iterable[Path], cut: Callable[[Path, str], int]) -> dict[str, dict[str, Path]]:
    grouped: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in files:
        stem = key_of(file.stem)
        at = cut(file, stem)
        grouped[f"{file.parent}/{stem[:at]}"][stem[at:] + file.suffix.lower()] = file
    return grouped


def _last_sign(stem: str) -> int:
    """Return the place of the last sign, where a word of letters stands behind it; else the length of the name."""
    last = max((at for at, sign in enumerate(stem) if at and not sign.isalnum()), default=len(stem))
    return last if last in _signs(stem) else len(stem)


def _signs(stem: str) -> list[int]:
    """Return the places of a name behind which a word of letters may say what the file is."""
    return [at for at, sign in enumerate(stem) if at and not sign.isalnum() and any(c.isalpha() for c in stem[at:])]


def _common(grouped: Mapping[str, Mapping[str, Path]]) -> dict[str, dict[str, Path]]:
    """Return the groups with the endings that most have alone; empty where most have no two of them."""
    times = Counter(ending for of_picture in grouped.values() if len(of_picture) > 1 for ending in of_picture)
    most = max(times.values(), default=0)
    usual = {ending for ending, count in times.items() if 2 * count >= most}
    kept = {key: {e: file for e, file in of.items() if e in usual} for key, of in grouped.items()}
    whole = {key: of for key, of in kept.items() if of}
    several = sum(len(of) > 1 for of in whole.values())
    return whole if several >= max(2, len(whole) / 2) else {}
