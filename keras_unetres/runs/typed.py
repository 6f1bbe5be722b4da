"""Dataclasses made of JSON values, whose types are those of the fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")

_NONE = type(None)
_KINDS: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "bool | None": (bool, _NONE),
    "float": (int, float),
    "float | None": (int, float, _NONE),
    "int": (int,),
    "int | None": (int, _NONE),
    "str": (str,),
    "str | None": (str, _NONE),
}


def of_known(kind: type[T], section: Mapping[str, Any]) -> T:
    """Return a dataclass of those values that it has fields for, after checking that they are of the fields' types.

    Raises:
        TypeError: a value is of another type, or one that has no default is missing.
        ValueError, UnetresError: as the class.
    """
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    values = {name: value for name, value in section.items() if name in known}
    for name, value in values.items():
        kinds = _KINDS.get(str(known[name].type))
        if kinds is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            raise TypeError(f"{name} is {value!r}, not {known[name].type}")
    return kind(**values)
