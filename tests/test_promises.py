"""Every promise of the guide has a test that is there; the searches for kinds of mistake find what the guide says."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


PACKAGES = {"keras_unetres": ROOT / "keras_unetres", "unetres_edge": ROOT / "edge" / "src" / "unetres_edge"}
# Whose text this process, or one that it started, has just written, or that comes with the package.
OWN_JSON = {
    "keras_unetres/data/groups.py",
    "keras_unetres/tflite/converter_worker.py",
    "keras_unetres/tflite/targets.py",
    "keras_unetres/verify/device.py",
    "keras_unetres/workflows/inspect.py",
    "keras_unetres/workflows/models.py",
    "unetres_edge/files.py",
    "unetres_edge/web/litertjs.py",
}


def rows() -> list[tuple[str, str]]:
    """Return the promises of the guide, and the kinds that were tried, each with the test that it names."""
    lines: list[str] = []
    for page in ("promises.md", "attacks.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8").partition("## Searches")[0]
        lines += [line for line in text.splitlines() if line.startswith("| ") and not line.endswith("| test |")]
    found = [re.fullmatch(r"\| (.+) \| `([\w/.]+\.py::\w+)` \|", line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    return [(match[1], match[2]) for match in found if match]


@functools.cache
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


def searches() -> list[tuple[str, str, list[str]]]:
    """Return what is searched for, the pattern, and the files in which it may be found."""
    text = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8").partition("## Searches")[2]
    lines = [line for line in text.splitlines() if line.startswith("| ") and "| pattern |" not in line]
    found = []
    for line in lines:
        title, pattern, files, why = re.split(r"(?<!\\) \| ", line.strip("| "))
        assert why
        found.append((title, pattern.strip("`").replace("\\|", "|"), re.findall(r"`([\w/.]+)`", files)))
    return found


@functools.cache
def sources() -> dict[str, str]:
    """Return file -> text of both packages, the modules of the page among them."""
    files = {
        f"{name}/{path.relative_to(folder).as_posix()}": path
        for name, folder in PACKAGES.items()
        for path in (*folder.rglob("*.py"), *(folder / "web").glob("*.js"))
    }
    return {name: path.read_text(encoding="utf-8") for name, path in files.items()}


def test_searches_find_what_the_page_says() -> None:
    lines = {name: set(text.splitlines()) for name, text in sources().items()}
    rows = searches()
    assert len(rows) > 20
    differ = {}
    for title, pattern, files in rows:
        found = {name for name, texts in lines.items() if any(map(re.compile(pattern).search, texts))}
        if found != set(files):
            differ[title] = sorted(found ^ set(files))
    assert differ == {}, "look at each new place, and name it in docs/attacks.md with the reason"


def test_json_is_read_where_damage_and_depth_are_caught() -> None:
    bare = []
    for name, text in sources().items():
        if not name.endswith(".py") or name in OWN_JSON or "json.loads" not in text:
            continue
        tree = ast.parse(text)
        guarded = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.Try) and any(_catches(handler) for handler in node.handlers)
            for each in node.body
            for inner in ast.walk(each)
        }
        calls = [
            node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "json.loads"
        ]
        bare += [f"{name}:{call.lineno}" for call in calls if id(call) not in guarded]
    assert bare == []


def _catches(handler: ast.ExceptHandler) -> bool:
    kinds = "Exception" if handler.type is None else ast.unparse(handler.type)
    return "Exception" in kinds or ("RecursionError" in kinds and "ValueError" in kinds)
