"""Every promise of the guide's table has a test that is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def rows() -> list[tuple[str, str]]:
    """Return the promises of the page, each with the test that it names."""
    text = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| promise |")]
    found = [re.fullmatch(r"\| (.+) \| `([\w/.]+\.py::\w+)` \|", line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    return [(match[1], match[2]) for match in found if match]


def names_in(file: Path) -> set[str]:
    """Return the names of the tests of a file, and none of those that are skipped whatever happens."""
    functions = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    return {
        each.name
        for each in functions
        if each.name.startswith("test_") and not any("mark.skip(" in ast.unparse(mark) for mark in each.decorator_list)
    }


def test_every_test_that_is_named_is_there() -> None:
    missing = [test for _, test in rows() if test.partition("::")[2] not in names_in(ROOT / test.partition("::")[0])]
    assert missing == []


def test_every_promise_stands_once() -> None:
    promises = [promise for promise, _ in rows()]
    assert len(promises) > 40
    assert len(set(promises)) == len(promises)
