"""From the faults of a check to a declaration without them: fixes merged, and files that no line mends left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from unetres_edge.images.preprocessing import IGNORE

from .check import Checkup

_DECLARED = {"exclude", "values", "ignore", "masks_are", "classes"}


def repair(given: Mapping[str, Any], found: Checkup) -> tuple[dict[str, Any], list[str]]:
    """Return (declaration with the fixes merged into it, lines about what a person has to decide).

    A fix that is a line of `dataset.yaml` is taken; a sample whose fault has none is left out, and so is one whose fix
    would read the other masks in another way: by colour, or as instances. Where two fixes give one value different
    meanings, the first is taken, and the samples of the others are left out.

    Args:
        given: the declaration so far.
        found: the check.
    """
    made = dict(given)
    values = _by_id(given.get("values", {}), found)
    ignored = {given["ignore"]} if given.get("ignore") is not None else set()
    exclude = set(map(str, given.get("exclude", ())))
    undecided = []
    fixes = [(fault, _declaration(fault.fix)) for fault in found.faults]
    way = _way_for_all([fix for _, fix in fixes], by_color=found.dataset is not None and found.dataset.by_color)
    for fault, fix in fixes:
        if fix is None or fault.kind == "leak" or _way(fix) != way:
            if fault in found.excusable:
                exclude.add(found.excusable[fault])
            elif fix is not None and "exclude" in fix:
                exclude |= set(map(str, fix["exclude"]))
            else:
                undecided.append(f"{fault}; {fault.fix}")
            continue
        differing = [v for v, target in fix.get("values", {}).items() if values.get(v, target) != target]
        if differing:
            exclude |= {found.excusable[fault]} if fault in found.excusable else set()
            targets = ", ".join(f"{v} is {values[v]} or {fix['values'][v]}" for v in differing)
            undecided.append(f"what the values mean: {targets}; see {fault.file}")
            continue
        values |= fix.get("values", {})
        ignored |= {fix["ignore"]} if "ignore" in fix else set()
        made |= {key: fix[key] for key in ("masks_are", "classes") if key in fix}
    if len(ignored) > 1 and not values and found.classes is not None and found.classes.values is not None:
        values = {value: target for value, target in found.classes.values.items() if target != IGNORE}
    if len(ignored) > 1 or (ignored and values):
        values |= dict.fromkeys(ignored, "ignore")
        made.pop("ignore", None)
    elif ignored:
        made["ignore"] = next(iter(ignored))
    if values:
        made["values"] = dict(sorted(values.items(), key=lambda item: str(item[0]).rjust(12)))
    if exclude:
        made["exclude"] = sorted(exclude)
    return made, undecided


def _by_id(values: Mapping[Any, Any], found: Checkup) -> dict[Any, Any]:
    """Return declared values with the ids of classes for their names."""
    names = () if found.classes is None else found.classes.names
    return {value: names.index(target) if target in names else target for value, target in values.items()}


def _way(fix: Mapping[str, Any]) -> str:
    """Return how a fix has the masks read, or "" if it says nothing of it."""
    if set(fix) == {"exclude"}:
        return ""
    if "masks_are" in fix:
        return "instances"
    return "colors" if any(isinstance(key, str) for key in fix.get("values", {})) else "values"


def _way_for_all(fixes: Sequence[Mapping[str, Any] | None], *, by_color: bool) -> str:
    """Return the one way in which all masks are to be read."""
    ways = {_way(fix) for fix in fixes if fix is not None}
    return next((way for way in ("colors" if by_color else "values", "colors", "instances") if way in ways), "")


def to_yaml(declared: Mapping[str, Any]) -> str:
    """Return a declaration as text, one key a line."""
    lines = []
    for key, value in declared.items():
        text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1 << 20, sort_keys=False)
        lines.append(f"{key}: {text.removesuffix('...' + chr(10)).strip()}")
    return "\n".join(lines) + "\n"


def _declaration(fix: str) -> dict[str, Any] | None:
    """Return a fix that is a line of `dataset.yaml` as values, or None."""
    try:
        values = yaml.safe_load(fix)
    except yaml.YAMLError:
        return None
    return values if isinstance(values, dict) and set(values) <= _DECLARED else None
