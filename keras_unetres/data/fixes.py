"""Fixes that are declarations: the line of `dataset.yaml` to paste, and where it goes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from unetres_edge.errors import Fix
from unetres_edge.images.preprocessing import IGNORE

_PLAIN = re.compile(r"[A-Za-z_][\w -]*")
_OPTIONS = {"masks_are": "--masks", "ignore": "--ignore"}  # of the command line, for keys that have one


def declare(patch: Mapping[str, Any], root: str | os.PathLike[str] | None = None) -> Fix:
    """Return the fix that changes a declaration.

    Args:
        patch: keys of `dataset.yaml` with the values they should have; "exclude" adds names to those left out.
        root: the data set's folder or `dataset.yaml`, for the text to say where the line goes.
    """
    text = " and ".join(to_yaml(patch).splitlines())
    return Fix(text, dict(patch), "" if root is None else say_place(patch, root))


def leave_out(name: str) -> Fix:
    """Return the fix that leaves an image or a mask out."""
    return declare({"exclude": [name]})


def leave_out_or_empty(name: str) -> Fix:
    """Return the fix that leaves an image without a mask out; its text names the other way, too."""
    fix = leave_out(name)
    return replace(fix, text=f"{fix.text}  # or, if nothing is on it, without_masks: background")


def values_patch(values: Mapping[int, int], *, by_color: bool = False) -> dict[str, Any]:
    """Return the change that says what stored values, or packed colours, mean: class ids, or `IGNORE`."""
    return {
        "values": {
            f"#{value:06x}" if by_color else value: "ignore" if values[value] == IGNORE else values[value]
            for value in sorted(values)
        }
    }


def placed(fix: Fix, root: str | os.PathLike[str]) -> Fix:
    """Return a fix with the place that its line goes to, in the data set at `root`."""
    return fix if fix.patch is None else replace(fix, place=say_place(fix.patch, root))


def say_place(patch: Mapping[str, Any], root: str | os.PathLike[str]) -> str:
    """Return where the lines of a patch go: the file, and the option of the command line that says the same."""
    path = Path(root)
    if path.suffix.lower() == ".json":
        path = path.parent  # of an annotation file
    file = path if path.suffix.lower() in (".yaml", ".yml") else path / "dataset.yaml"
    options = [f"{_OPTIONS[key]} {value}" for key, value in patch.items() if key in _OPTIONS]
    return f"in {file}" + (f", or pass {' '.join(options)}" if len(options) == len(patch) else "")


def to_yaml(declared: Mapping[str, Any]) -> str:
    """Return a declaration as text, one key a line."""
    return "".join(f"{key}: {_flow(value)}\n" for key, value in declared.items())


def _flow(value: Any) -> str:
    """Return a value as YAML on one line; names that YAML might read as something else stand in quotes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and yaml.safe_load(value) == value:
        return value
    style = '"' if isinstance(value, str) else None
    text: str = yaml.safe_dump(value, default_style=style, default_flow_style=True, allow_unicode=True, width=1 << 20)
    return text.removesuffix("...\n").strip()
