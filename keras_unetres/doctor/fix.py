"""Applies the fixes of a check: patches are merged into one declaration; samples that no patch mends are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unetres_edge.images.preprocessing import IGNORE

from ..data.findings import Finding
from ..data.fixes import values_patch
from .check import Checkup

_MOST_LEFT_OUT = 0.5  # share of the samples with findings of one kind; of more a person decides


def apply_fixes(declaration: Mapping[str, Any], checkup: Checkup) -> tuple[dict[str, Any], list[str]]:
    """Return (declaration with the fixes merged into it, lines about what a person has to decide).

    A sample whose fault no declaration mends is left out, and so is one whose fix would read the other masks in
    another way: by colour, or as instances. Where two fixes give one value different meanings, the first is taken, and
    the samples of the others are left out.

    Args:
        declaration: the declaration so far.
        checkup: the faults.
    """
    merged = _Merged(declaration, checkup)
    faults = checkup.faults
    way = _way_for_all([f.fix.patch for f in faults], by_color=merged.by_color)
    for fault in faults:
        patch = fault.fix.patch
        if patch is not None and set(patch) == {"exclude"}:
            merged.exclude |= set(map(str, patch["exclude"]))
        elif patch is None or _way(patch) != way:
            merged.leave_out(fault)
        else:
            merged.take(fault, patch)
    return merged.declaration(), merged.undecided


class _Merged:
    """A declaration into which patches are merged one by one.

    Args:
        declaration: the declaration so far.
        checkup: the faults.
    """

    def __init__(self, declaration: Mapping[str, Any], checkup: Checkup) -> None:
        summary = checkup.summary
        classes = None if summary is None else summary.classes
        self.by_color = summary is not None and summary.dataset.by_color
        self.exclude = set(map(str, declaration.get("exclude", ())))
        self.undecided: list[str] = []
        self._given = dict(declaration)
        self._names = () if classes is None else classes.names
        self._known = {} if classes is None else classes.values or {}
        self._values = {value: self._id(target) for value, target in declaration.get("values", {}).items()}
        self._ignored = {declaration["ignore"]} if declaration.get("ignore") is not None else set()
        self._faults = checkup.faults
        self._samples = len(checkup.images)

    def _id(self, target: Any) -> Any:
        """Return the id of a class for its name."""
        return self._names.index(target) if target in self._names else target

    def leave_out(self, fault: Finding) -> None:
        """Leave the sample of a fault out, unless that would take most samples away."""
        same = {f.where.image for f in self._faults if f.kind == fault.kind and f.where.image}
        if fault.where.image and (fault.fix.patch is not None or len(same) <= _MOST_LEFT_OUT * self._samples):
            self.exclude.add(fault.where.image)
        else:
            self.undecided.append(f"{fault}; {fault.fix}")

    def take(self, fault: Finding, patch: Mapping[str, Any]) -> None:
        """Merge a patch, unless it gives a value another meaning than an earlier one."""
        values = patch.get("values", {})
        differing = [value for value, target in values.items() if self._values.get(value, target) != target]
        if differing:
            self.exclude |= {fault.where.image} if fault.where.image else set()
            targets = ", ".join(f"{v} is {self._values[v]} or {values[v]}" for v in differing)
            self.undecided.append(f"what the values mean: {targets}; see {fault.file}")
            return
        self._values |= values
        self._ignored |= {patch["ignore"]} if "ignore" in patch else set()
        self._given |= {key: patch[key] for key in patch if key not in ("values", "ignore")}

    def declaration(self) -> dict[str, Any]:
        """Return the declaration; several ignored values, or one beside others, stand under `values`."""
        declared, values, ignored = self._given, dict(self._values), self._ignored
        if len(ignored) > 1 and not values:
            values = values_patch({v: target for v, target in self._known.items() if target != IGNORE})["values"]
        if len(ignored) > 1 or (ignored and values):
            values |= dict.fromkeys(ignored, "ignore")
            declared.pop("ignore", None)
        elif ignored:
            declared["ignore"] = next(iter(ignored))
        if values:
            declared["values"] = dict(sorted(values.items(), key=lambda item: str(item[0]).rjust(12)))
        if self.exclude:
            declared["exclude"] = sorted(self.exclude)
        return declared


def _way(patch: Mapping[str, Any]) -> str:
    """Return how a patch has the masks read."""
    if "masks_are" in patch:
        return "instances"
    return (
        "colors" if any(isinstance(key, str) and key.startswith("#") for key in patch.get("values", {})) else "values"
    )


def _way_for_all(patches: Sequence[Mapping[str, Any] | None], *, by_color: bool) -> str:
    """Return the one way in which all masks are to be read."""
    ways = {_way(patch) for patch in patches if patch is not None and set(patch) != {"exclude"}}
    return next((way for way in ("colors" if by_color else "values", "colors", "instances") if way in ways), "")
