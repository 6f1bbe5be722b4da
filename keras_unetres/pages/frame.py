"""Pages from templates: figures go in, one HTML file comes out.

A page opens without a network, in light and dark, runs no script, and holds its style and its pictures. The templates
and the style sheets lie in `templates/`. Everything that a template shows is escaped, names of files and classes too.
"""

from __future__ import annotations

import base64
import os
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from unetres_edge.errors import ExistsError
from unetres_edge.files import check_output, write_bytes
from unetres_edge.results import draw

from ..scores.paired import signed

_MARKS = (b'<body class="page">', b"unetres")  # pages of versions before have the second alone


def render(template: str, **figures: Any) -> str:
    """Return the text of a template of `templates/`, filled with figures.

    Args:
        template: name of the file, such as "report.html.j2".
        figures: values by the names that the template gives them; one that it misses is an error.
    """
    return _environment().get_template(template).render(**figures)


def write_page(file: str | os.PathLike[str], page: bytes) -> None:
    """Write a page, in the place of nothing or of an earlier one.

    Raises:
        ExistsError: the file that is there is no page of this package.
    """
    _refuse_other(Path(file))
    write_bytes(file, page)


def check_page(file: str | os.PathLike[str]) -> None:
    """Raise what `write_page` would raise, and what `check_output` does, before any work is done.

    Raises:
        UsageError, FileSystemError, ExistsError: as they say.
    """
    _refuse_other(check_output(file, ".html"))


def _refuse_other(path: Path) -> None:
    if os.path.lexists(path) and not (path.is_file() and any(mark in path.read_bytes() for mark in _MARKS)):
        raise ExistsError("not a page of ours, so it is not replaced", file=path, fix="choose another")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("keras_unetres.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        png=embed_png, score=_score, signed=partial(signed, minus="\u2212"), size=_size, count=_count
    )
    return environment


def printable(value: object) -> object:
    """Return a value as text that a page may hold.

    File names can hold bytes that are no text (lone surrogates in Python) and control characters, which no page may
    hold; each becomes a question mark.
    """
    if hasattr(value, "__html__"):  # what a macro made
        return value
    text = str(value).encode("utf-8", "replace").decode()
    return "".join("?" if ord(c) < 32 and c not in "\t\n\r" else c for c in text)


def embed_png(picture: np.ndarray) -> str:
    """Return an (H, W), (H, W, 3) or (H, W, 4) uint8 picture as a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(draw.encode_png(picture)).decode()


def _score(value: float | None) -> str:
    """Return a score from 0 to 1; that of a class without a pixel is absent."""
    return "absent" if value is None else f"{value:.4f}"


def _size(count: int) -> str:
    """Return a number of bytes in kB or MB."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1000:,.0f} kB"


def _count(number: int) -> str:
    """Return a number in thousands, millions or billions."""
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= scale:
            return f"{number / scale:.3g} {letter}"
    return str(number)
