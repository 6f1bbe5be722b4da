"""The profile of a device: what operations cost there, as a file of JSON with a schema of its own.

{"schema": 1, "device": {...}, "threads": 1, "call_ms": 0.01, "ops": [{"kind": "CONV_2D", "dtype": "int8", ...,
 "ms": 1.23}, ...]}
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import ModelError
from ..files import parse_state, read_bytes, write_json
from .graph import Op

SCHEMA = 1
_DEVICE = ("system", "machine", "processor", "cores", "runtime", "made")
_MOST = 1e9  # of any number in a profile


@dataclass(frozen=True)
class Cost:
    """What an operation takes on a device, in ms."""

    op: Op
    ms: float


@dataclass(frozen=True)
class Profile:
    """What operations cost on a device.

    Args:
        device: description: "system", "machine", "processor", "cores", "runtime" (and version), "made" (the day).
        threads: number of threads of one inference; a profile holds for one number of them.
        call_ms: milliseconds that calling a network takes by itself.
        load: {"model_bytes", "load_ms", "memory_bytes"} of some networks: what loading takes, and how much memory.
        costs: costs of the operations that were timed.
    """

    device: dict[str, str]
    threads: int
    call_ms: float
    load: tuple[dict[str, float], ...]
    costs: tuple[Cost, ...]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file."""
        ops = [{**asdict(cost.op), "ms": cost.ms} for cost in self.costs]
        head = {"schema": SCHEMA, "device": self.device, "threads": self.threads, "call_ms": self.call_ms}
        write_json(path, {**head, "load": list(self.load), "ops": ops})

    @classmethod
    def load_file(cls, path: str | os.PathLike[str]) -> Profile:
        """Read a file, everything in it checked.

        Raises:
            FileSystemError: it cannot be read.
            ModelError: it is no profile, or one of another schema.
        """
        try:
            return cls.from_values(parse_state(read_bytes(path, "profile")))
        except (ValueError, RecursionError) as error:
            raise ModelError(f"not a profile of a device: {error}", file=path) from error
        except ModelError as error:
            error.file = os.fspath(path)
            raise

    @classmethod
    def from_values(cls, values: Any) -> Profile:
        """Return the profile of the file's JSON values.

        Raises:
            ModelError: a field is missing or wrong; the error names it.
        """
        _check(isinstance(values, dict), "the file", "an object with schema, device, threads, call_ms, load and ops")
        if values.get("schema") != SCHEMA:
            raise ModelError(
                "the profile is of another schema",
                expected=SCHEMA,
                found=values.get("schema"),
                fix="make it again: unetres-edge profile --out device.json",
            )
        device = values.get("device")
        _check(
            isinstance(device, dict) and all(isinstance(device.get(name), str) for name in _DEVICE),
            "device",
            "an object with " + ", ".join(_DEVICE),
        )
        assert isinstance(device, dict)  # for the type checker
        threads, ops, load = values.get("threads"), values.get("ops"), values.get("load")
        _check(type(threads) is int and 1 <= threads <= 4096, "threads", "a whole number above 0")
        _check(_is_number(values.get("call_ms")), "call_ms", "ms")
        _check(
            isinstance(load, list) and all(map(_is_load, load)), "load", "a list of model_bytes, load_ms, memory_bytes"
        )
        _check(isinstance(ops, list) and len(ops) > 0, "ops", "a list of operations")
        assert isinstance(threads, int) and isinstance(ops, list) and isinstance(load, list)
        return cls(
            {name: device[name] for name in _DEVICE},
            threads,
            float(values["call_ms"]),
            tuple({name: float(number) for name, number in each.items()} for each in load),
            tuple(_cost(number, each) for number, each in enumerate(ops)),
        )


def _cost(number: int, values: Any) -> Cost:
    kinds: dict[str, Any] = {each.name: each.type for each in fields(Op)}
    _check(isinstance(values, dict) and set(values) == {*kinds, "ms"}, f"ops[{number}]", ", ".join([*kinds, "ms"]))
    for name, kind in kinds.items():
        right = isinstance(values[name], str) if kind == "str" else _is_number(values[name])
        whole = kind != "int" or type(values[name]) is int
        _check(right and whole, f"ops[{number}].{name}", "text" if kind == "str" else "a number, 0 or more")
    _check(_is_number(values["ms"]) and values["ms"] > 0, f"ops[{number}].ms", "ms above 0")
    _check(values["pixels"] > 0 and values["stride"] > 0, f"ops[{number}]", "pixels and a stride above 0")
    return Cost(Op(**{name: values[name] for name in kinds}), float(values["ms"]))


def _is_load(values: Any) -> bool:
    names = {"model_bytes", "load_ms", "memory_bytes"}
    return isinstance(values, dict) and set(values) == names and all(map(_is_number, values.values()))


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _MOST * 1e3  # False of NaN
    )


def _check(right: bool, name: str, expected: str) -> None:
    if not right:
        raise ModelError(f"the profile's {name} is wrong", expected=expected)
