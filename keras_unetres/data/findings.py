"""Findings: what is wrong with a data set, as a kind with its figures, the file, and the fix.

Readers collect findings instead of stopping at the first one; `refuse` raises one error that lists them all, and
`unetres check` shows them. What a finding says to a person is made here, from the wordings of its kind.
"""

from __future__ import annotations

import json
import os
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetres_edge.errors import DataError, Fix, UnetresError

from .fixes import placed
from .kinds import KINDS

_MOST_LISTED = 12


@dataclass(frozen=True)
class Where:
    """The place that a finding is about.

    Args:
        file: relative to the data set's folder where it lies inside; "." for the folder itself.
        image: the name by which the sample is left out, or "" if that would not help.
        line: line in a file of text, counted from 1, or None.
    """

    file: str
    image: str = ""
    line: int | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a data set, or worth a look.

    Args:
        kind: kind of the finding, one of `KINDS`.
        where: image, class or file that it is about.
        figures: the numbers and names that its wording is made of, as JSON values.
        fix: remedy.
    """

    kind: str
    where: Where
    figures: Mapping[str, Any]
    fix: Fix

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of finding: {self.kind}")
        self._wording()  # raises where the figures suit none

    def __hash__(self) -> int:
        return hash((self.kind, self.where))

    def __str__(self) -> str:
        return f"{self.file}: {KINDS[self.kind].title}: {self.found}"

    @property
    def file(self) -> str:
        """The file that it is about."""
        return self.where.file

    @property
    def is_fault(self) -> bool:
        """Whether the data set cannot be used with it; else it is a warning."""
        return KINDS[self.kind].severity == "fault"

    @property
    def found(self) -> str:
        """What is there, in words."""
        return _WORDS.format(self._wording()[0], **self.figures)

    @property
    def expected(self) -> str:
        """What would be right, in words."""
        return _WORDS.format(self._wording()[1], **self.figures)

    def _wording(self) -> tuple[str, str]:
        """Return the first wording of the kind for which all figures are there."""
        kind = KINDS[self.kind]
        expected = "{expected}" if "expected" in self.figures else kind.expected
        of_errors = (("{message} ({found})", expected), ("{message}", expected))
        for wording in (*kind.wordings, *of_errors):
            if _names(wording) <= self.figures.keys():
                return wording
        raise ValueError(f"no wording of {self.kind} for {', '.join(self.figures) or 'no figures'}")

    def to_dict(self, root: str | os.PathLike[str] | None = None) -> dict[str, Any]:
        """Return the finding as JSON values; `root` is the data set, for the place of the fix."""
        patch = self.fix.patch
        fix = self.fix if root is None else placed(self.fix, root)
        return {
            "file": self.file,
            "kind": self.kind,
            "found": self.found,
            "expected": self.expected,
            "fix": self.fix.text,
            "patch": None if patch is None else json_patch(patch),
            "place": fix.place,
            "figures": dict(self.figures),
            "image": self.where.image,
            "line": self.where.line,
        }


def json_patch(patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a patch with the keys of its mappings as text, as JSON has them."""
    return {
        key: {str(k): v for k, v in value.items()} if isinstance(value, Mapping) else value
        for key, value in patch.items()
    }


class _Words(string.Formatter):
    """Formats lists as a person writes them; `{files:and}` joins by "and"."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, (list, tuple)):
            return " and ".join(map(str, value)) if format_spec == "and" else shorten(value)
        return str(super().format_field(value, format_spec))


_WORDS = _Words()


def _names(wording: Iterable[str]) -> set[str]:
    """Return the figures that a wording needs."""
    return {name for text in wording for _, name, _, _ in _WORDS.parse(text) if name is not None}


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by file, each once."""
    return sorted(set(findings), key=lambda f: (f.file, f.kind, json.dumps(f.figures, sort_keys=True), f.fix.text))


def finding_of(error: UnetresError, file: str | os.PathLike[str], base: Path, image: str = "") -> Finding:
    """Return the finding that an error of reading a file stands for."""
    kind = error.kind
    if kind not in KINDS:
        kind = "unsupported-mode" if error.code in ("image", "mask") else "bad-annotation"
    figures = {"message": error.message, "found": error.found, "expected": error.expected}
    figures = {key: str(value) for key, value in figures.items() if value is not None}
    return Finding(kind, Where(relative(file, base), image), figures, error.remedy or Fix(KINDS[kind].fix))


def relative(file: str | os.PathLike[str], base: Path) -> str:
    """Return the path of a file below `base`, else the path itself; with / between folders."""
    path = Path(file)
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()


def refuse(findings: Sequence[Finding], what: str, file: str | os.PathLike[str]) -> None:
    """Raise one error that lists all findings, or return if there are none.

    Raises:
        DataError: an error of the kind of the first finding, with its fix; of several, the first two as one line.
    """
    if not findings:
        return
    expected = sorted({finding.expected for finding in findings})
    fixes = list({finding.fix.text: finding.fix for finding in findings}.values())
    text = "; or ".join(fix.text for fix in fixes[:2]) + ("; see: unetres check" if len(fixes) > 2 else "")
    patch = fixes[0].patch if len(fixes) == 1 else None
    raise DataError(
        f"{what}: " + " | ".join(map(str, findings)),
        file=file,
        expected=expected[0] if len(expected) == 1 else None,
        fix=placed(Fix(text, patch), file),
        kind=findings[0].kind,
    )


def shorten(values: Sequence[object]) -> str:
    """Return values as text, those after the first dozen by their number."""
    shown = ", ".join(map(str, values[:_MOST_LISTED]))
    return f"{shown}, ... {values[-1]} ({len(values)} values)" if len(values) > _MOST_LISTED else shown or "none"
