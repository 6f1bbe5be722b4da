"""`ku.check` and `unetres check`: look a data set over, say what is wrong, and write the declaration that mends it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetres_edge.errors import DataError, ExistsError, Fix, UsageError
from unetres_edge.files import check_output, write_bytes, write_report
from unetres_edge.terminal import counted, shown

from ..choices.arguments import checks_kinds

if TYPE_CHECKING:
    from ..doctor.check import Checkup

_SHOWN = 4  # files of one kind of fault on the screen
_NAMES = 12  # files to leave out in one line
_ROUNDS = 3  # of a declaration and a check; what one leaves is left out in the next


@checks_kinds
def check(
    data: str | os.PathLike[str],
    *,
    json_file: str | os.PathLike[str] | None = None,
    html_file: str | os.PathLike[str] | None = None,
    fix: bool = False,
    hashes: str = "keep",
    reading: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Decode every file of a data set once and report all that is wrong with it.

    Args:
        data: a folder, a `dataset.yaml`, an annotation file or `tfds:NAME`; or a folder of class folders.
        json_file: file for the report.
        html_file: file for the report as a page with pictures.
        fix: whether to write a `dataset.yaml` that mends what a declaration can mend; images and masks are never
            touched.
        hashes: "keep", "renew" or "off", see `keras_unetres.doctor.check.check`.
        reading: fields of `Reading` that differ from what the data set says.
        say: callback for lines to the user.

    Returns:
        The report, as in the JSON file: "faults" and "warnings", each with its kind, file, figures and fix, and what
        the data set is like. With `fix`, of the data set as the new declaration reads it.

    Raises:
        DataError: the data set cannot be opened at all; the report has been written.
        UsageError: an output has another ending, or a file of another kind is there.
        FileSystemError: the folder of an output does not exist.
    """
    from ..data.dataset import is_class_folders
    from ..data.findings import refuse
    from ..doctor.check import check as look_over

    for file, ending in ((json_file, ".json"), (html_file, ".html")):
        if file is not None:
            check_output(file, ending)
    if is_class_folders(data):
        _refuse_for_masks(data, {"html": html_file is not None, "fix": fix}, reading or {})
    checkup = look_over(data, changes=reading, hashes=hashes)
    report = checkup.to_dict()
    for line in _lines(report):
        say(shown(line))
    if json_file is not None:
        write_report(json_file, report)
    if html_file is not None:
        from ..doctor.check_page import check_page
        from ..pages.frame import write_page

        write_page(html_file, check_page(checkup))
        say(shown(f"page      {html_file}"))
    if fix and checkup.faults:
        checkup = _fix(data, checkup, reading, say)
        report = checkup.to_dict()
    if checkup.summary is None:
        refuse(checkup.faults, "the data set cannot be opened", data)
    return report


def _refuse_for_masks(data: str | os.PathLike[str], outputs: Mapping[str, bool], reading: Mapping[str, Any]) -> None:
    """Raise UsageError for options that are for masks, where the data set is one of class folders."""
    options = dict(outputs) | {name: reading.get(name) is not None for name in ("masks_are", "target", "ignore")}
    named = [name.replace("masks_are", "masks") for name, is_given in options.items() if is_given]
    if named:
        raise UsageError(f"--{named[0]} is for masks, and these are class folders", file=data, fix="drop it")


def _lines(report: dict[str, Any]) -> list[str]:
    from ..data.kinds import KINDS

    parts = ", ".join(f"{n} {name}" for name, n in report["parts"].items())
    lines = [f"data      {parts} ({report['format']})"] if parts else []
    if report["sizes"]:
        sizes = [f"{row['width']} x {row['height']} ({row['images']})" for row in report["sizes"]]
        lines.append("sizes     " + ", ".join(sizes[:5]) + (f", {len(sizes) - 5} more" if len(sizes) > 5 else ""))
        lines.append("images    " + ", ".join(f"{n} {mode}" for mode, n in report["modes"].items()))
    lines += [f"note      {note}" for note in report["notes"] if note]
    for row in report["classes"]:
        if "share" not in row:  # of class folders
            counts = ", ".join(f"{n} {part}" for part, n in row["images"].items())
            lines.append(f"class     {row['id']:3d} {row['name']:20} {counts}")
            continue
        images = counted(row["images"], "image")
        share = f"{100 * row['share']:8.3f} %"
        lines.append(f"class     {row['id']:3d} {row['name']:20} {share} {row['pixels']:12d} px {images:>13}")
    if report["ignored_share"]:
        lines.append(f"ignored   {100 * report['ignored_share']:.3f} % of the pixels are not labelled")
    for title in ("warnings", "faults"):
        for kind, group in groupby(sorted(report[title], key=lambda f: f["kind"]), key=lambda f: f["kind"]):
            rows = list(group)
            lines.append(f"{title[:-1]:9} {kind} ({len(rows)}): {KINDS[kind].title}")
            for row in rows[:_SHOWN]:
                lines.append(f"          {row['file']}: {row['found']}; expected {row['expected']}")
            lines += [f"          ... and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
            fixes = _fix_lines(rows)
            lines += [f"     fix: {line}" for line in fixes[:_SHOWN]]
            lines += [f"          ... and {len(fixes) - _SHOWN} more"] if len(fixes) > _SHOWN else []
    if report["hashes"]:
        lines.append(f"hashes    {report['hashes']}")
    lines.append(f"result    {counted(len(report['faults']), 'fault')}, {counted(len(report['warnings']), 'warning')}")
    return lines


def _fix_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the fixes of findings of one kind, each once; names to leave out stand in one line."""
    from ..data.fixes import declare

    is_out = [set(row["patch"] or ()) == {"exclude"} for row in rows]
    out = [row for row, left_out in zip(rows, is_out, strict=True) if left_out]
    others = [row for row, left_out in zip(rows, is_out, strict=True) if not left_out]
    fixes = [str(Fix(row["fix"], place=row["place"])) for row in others]
    names = list(dict.fromkeys(name for row in out for name in row["patch"]["exclude"]))
    if names:
        more = f"; {len(names) - _NAMES} more, which --fix writes" if len(names) > _NAMES else ""
        fixes.append(str(Fix(declare({"exclude": names[:_NAMES]}).text + more, place=out[0]["place"])))
    return list(dict.fromkeys(fixes))


def _fix(
    data: str | os.PathLike[str], checkup: Checkup, reading: Mapping[str, Any] | None, say: Callable[[str], None]
) -> Checkup:
    """Write a `dataset.yaml` with the fixes that are declarations, and return what a check finds then."""
    from ..data.declaration import read_declaration
    from ..data.fixes import to_yaml
    from ..doctor.check import check as look_over
    from ..doctor.fix import apply_fixes

    root = Path(data)
    file = root / "dataset.yaml" if root.is_dir() else root
    if file.suffix.lower() not in (".yaml", ".yml"):
        raise DataError("--fix needs a folder or a dataset.yaml", file=data)
    declaration = dict(read_declaration(file).given) if file.is_file() else {}
    chosen, undecided = apply_fixes(declaration, checkup)
    for line in undecided:
        say(shown(f"undecided {line}"))
    if chosen == declaration:
        say("result    no declaration mends this")
        return checkup
    if file.is_file():
        kept = file.with_name(file.name + ".before")
        if kept.exists():
            raise ExistsError("an earlier declaration is kept there", file=kept, fix="remove or rename it")
        write_bytes(kept, file.read_bytes())
        say(shown(f"kept      {kept}"))
    for _ in range(_ROUNDS):
        write_bytes(file, to_yaml(chosen).encode())
        checkup = look_over(root, changes=reading, hashes="off", progress=False)
        more, _ = apply_fixes(chosen, checkup)
        if more == chosen:
            break
        chosen = more
    say(shown(f"wrote     {file}"))
    for fault in checkup.faults[:_SHOWN]:
        say(shown(f"left      {fault}; {fault.fix}"))
    say(f"result    {counted(len(checkup.faults), 'fault')} left")
    return checkup
