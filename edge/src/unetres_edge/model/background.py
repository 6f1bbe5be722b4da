"""Which class is the background, of which no objects, outlines and colours are made: by its name, else class 0."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NAMES = frozenset(
    ("background", "backgrounds", "backgrnd", "bg", "bkg", "bkgd", "bgd")
    + ("hintergrund", "fond", "arrièreplan", "fondo", "sfondo", "fundo", "achtergrond", "tło", "фон", "背景", "배경")
)
_MARKS = re.compile(r"[\W_]+")


def is_background(name: str) -> bool:
    """Return whether a name says background, such as `background`, `_background_` or `BG`."""
    return _MARKS.sub("", name).casefold() in _NAMES


def find_background(class_names: Sequence[str]) -> int:
    """Return the id of the first class whose name says background; 0 where none does."""
    return next((number for number, name in enumerate(class_names) if is_background(name)), 0)
