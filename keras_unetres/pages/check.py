"""The report of a check of a data set as one HTML page: a pure function of its figures and of small pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from unetres_edge.results.draw import Color

from .frame import render

_MOST_ROWS = 200  # of one kind of fault; all of them are in the JSON report


@dataclass(frozen=True)
class FaultRow:
    """A fault or a warning as a row of the page.

    Args:
        kind: stable name of what is wrong.
        file: file that it is in.
        found: value that is there.
        expected: value that should be there.
        fix: remedy.
        picture: picture of the image, (h, w, 3) uint8, or None.
    """

    kind: str
    file: str
    found: str
    expected: str
    fix: str
    picture: np.ndarray | None = None


@dataclass(frozen=True)
class Thumbnail:
    """A small picture, (h, w, 3) uint8, and what stands below it."""

    picture: np.ndarray
    caption: str


@dataclass(frozen=True)
class CheckFigures:
    """The figures of the page of a check.

    Args:
        report: the report, as in the JSON file.
        kinds: kind of fault -> what it means.
        faults, warnings: rows of the page.
        class_colors: colours of the classes of `report`, by id; empty where the classes are not known.
        gallery: pictures with their masks.
    """

    report: Mapping[str, Any]
    kinds: Mapping[str, str]
    faults: Sequence[FaultRow]
    warnings: Sequence[FaultRow]
    class_colors: Sequence[Color] = ()
    gallery: Sequence[Thumbnail] = ()


@dataclass(frozen=True)
class _Kind:
    """The rows of one kind of fault."""

    name: str
    text: str
    rows: list[FaultRow]


def check_page(figures: CheckFigures) -> bytes:
    """Return the page as UTF-8 HTML."""
    report = figures.report
    return render(
        "check.html.j2",
        title=f"Check of {report['data'] or 'a data set'}",
        summary=_summary(report),
        report=report,
        num_faults=len(figures.faults),
        num_warnings=len(figures.warnings),
        faults=_by_kind(figures.faults, figures.kinds),
        warnings=_by_kind(figures.warnings, figures.kinds),
        class_colors=figures.class_colors,
        gallery=figures.gallery,
        most_rows=_MOST_ROWS,
    ).encode()


def _by_kind(rows: Sequence[FaultRow], kinds: Mapping[str, str]) -> list[_Kind]:
    groups = groupby(sorted(rows, key=lambda row: row.kind), key=lambda row: row.kind)
    return [_Kind(kind, kinds[kind], list(group)) for kind, group in groups]


def _summary(report: Mapping[str, Any]) -> str:
    parts = ", ".join(f"{count} {name}" for name, count in report["parts"].items())
    sizes = [f"{row['width']} x {row['height']}" for row in report["sizes"]]
    modes = ", ".join(f"{count} {mode}" for mode, count in report["modes"].items())
    shown = ", ".join(sizes[:4]) + (f" and {len(sizes) - 4} more sizes" if len(sizes) > 4 else "")
    return " · ".join(filter(None, [f"format {report['format']}", parts, shown, modes]))
