"""Which images belong together, such as those of a patient: what a regular expression finds in their names.

A data set may bring the expression along, and some take longer than anybody waits, by the names that they meet. One
that could is tried in a process of its own, which is ended after a while: nothing else ends a match.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from unetres_edge.errors import UsageError

SECONDS = 10  # for the names of a whole data set
_FEW_STEPS = 10_000_000  # of the matcher, about 0.2 s
_ONE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)  # an escape or a set: both are of one character
_CHOICE = re.compile(r"\||(?<![(*+?}])\?")
_REPEAT = re.compile(r"[*+{]")
_CHILD = """
import json, re, sys
pattern, names = json.loads(sys.stdin.read())
found = [re.search(pattern, name) for name in names]
json.dump([match and [match.group(), *match.groups()[:1]] for match in found], sys.stdout)
"""


def groups_of(names: Sequence[str], pattern: str, base: Path) -> list[str]:
    """Return what the name of each image says it belongs to: the first group of the expression, else all it finds.

    Raises:
        UsageError: a name says nothing, or the expression does not come to an end.
    """
    found = _search(names, pattern) if most_steps(names, pattern) <= _FEW_STEPS else _search_elsewhere(names, pattern)
    if found is None:
        raise UsageError(
            "group_by takes too long",
            file=base,
            expected=f"an answer for {len(names)} names within {SECONDS} s",
            found=pattern,
            fix="an expression with fewer * + ? |, that begins with ^",
        )
    missing = next((name for name, match in zip(names, found, strict=True) if match is None), None)
    if missing is not None:
        raise UsageError("an image belongs to no group", file=base, expected=pattern, found=missing)
    return [next(part for part in reversed(match) if part is not None) for match in found if match]


def most_steps(names: Sequence[str], pattern: str) -> float:
    """Return an upper bound of the steps that a backtracking matcher takes, about.

    Each repeat may end anywhere in a name, and the match begin anywhere: so many ways as there are to part it. Each
    alternative, and what may be left out, doubles them.
    """
    text = _ONE.sub("x", pattern)
    repeats, choices = len(_REPEAT.findall(text)), len(_CHOICE.findall(text))
    if choices > 60:
        return math.inf
    return float(sum(math.comb(len(name) + repeats + 1, repeats + 1) for name in names) << choices)


def _search(names: Sequence[str], pattern: str) -> list[list[str | None] | None]:
    """Return of each name what was found, and then what the first group is, if there is one; None where nothing was."""
    matches = (re.search(pattern, name) for name in names)
    return [None if match is None else [match.group(), *match.groups()[:1]] for match in matches]


def _search_elsewhere(names: Sequence[str], pattern: str) -> list[list[str | None] | None] | None:
    """Return the same from a process of its own; None where it takes too long, or comes to no end of another kind."""
    words = [sys.executable, "-I", "-S", "-c", _CHILD]
    given = json.dumps([pattern, list(names)])
    try:
        done = subprocess.run(words, input=given, capture_output=True, text=True, encoding="ascii", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return None
    return list(json.loads(done.stdout)) if done.returncode == 0 else None
