"""What the guide says of the code: every code, field, key and public name, and what docstrings have to tell."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import keras_unetres
import unetres_edge
from keras_unetres.choices.recipes import RECIPES
from keras_unetres.data.forms import CLASS_FOLDERS
from keras_unetres.data.forms import FORMATS as FORMS
from keras_unetres.data.kinds import KINDS
from unetres_edge.engines.table import NAMES
from unetres_edge.errors import UnetresError
from unetres_edge.model.engine_cost import EngineCost

ROOT = Path(__file__).resolve().parents[1]
FORMATS = ROOT / "docs" / "formats"


def errors_of(base: type[UnetresError] = UnetresError) -> list[type[UnetresError]]:
    """Return a class of errors and all below it, those of tests left out."""
    found = [base, *(each for below in base.__subclasses__() for each in errors_of(below))]
    return [kind for kind in found if kind.__module__.split(".")[0] in ("keras_unetres", "unetres_edge")]


def test_the_page_of_errors_has_all_codes_and_no_others() -> None:
    text = (FORMATS / "errors.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| `(\w+)` \| (\d) \|", text, re.MULTILINE)
    assert sorted(rows) == sorted((kind.code, kind.__name__, str(kind.exit_code)) for kind in errors_of())


def test_the_page_of_errors_has_all_kinds_of_faults() -> None:
    text = (FORMATS / "errors.md").read_text().partition("## What `check` finds")[2]
    rows = re.findall(r"^\| `([\w-]+)` \| (.+) \| (.+) \| (\w+) \|$", text, re.MULTILINE)
    assert rows == [(name, kind.title, kind.meaning, kind.severity) for name, kind in KINDS.items()]


def test_every_kind_of_fault_leads_to_a_place_in_the_guide() -> None:
    for kind in KINDS.values():
        page, _, anchor = kind.anchor.partition("#")
        titles = re.findall(r"^#+ (.+)$", (ROOT / "docs" / page).read_text(), re.MULTILINE)
        slugs = [re.sub(r"[^\w]+", "-", re.sub(r"[^\w\s-]", "", title).lower()).strip("-") for title in titles]
        assert not anchor or anchor in slugs, kind.anchor


def test_the_page_of_the_card_has_all_fields_in_their_order() -> None:
    text = (FORMATS / "card.md").read_text()
    cost = EngineCost("openvino", "1", 1, 0.0, 1.0, 1.0, 1.0)
    unpadded = unetres_edge.Card(("a",), ((0, 0, 0),), unetres_edge.Preprocessing(), stride=1, crop=1, engines=(cost,))
    card = json.loads(unpadded.to_json())
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(card)
    shown = json.loads(re.findall(r"^```json[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0])
    assert list(shown["preprocessing"]) == list(card["preprocessing"])


def test_the_page_of_the_receipt_has_all_keys(float32_file: Path) -> None:
    text = (FORMATS / "receipt.md").read_text()
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", text, re.MULTILINE)
    keys = [key for row in rows for key in re.findall(r"`(\w+)`", row)]
    assert keys == list(json.loads(float32_file.with_suffix(".receipt.json").read_bytes()))


def test_the_page_of_run_folders_names_all_files(run_folder: Path) -> None:
    text = (FORMATS / "run-folder.md").read_text()
    for path in run_folder.iterdir():
        assert f"`{path.name}" in text, path.name


def first_cells(page: str, heading: str) -> set[str]:
    """Return the names in the first column of the tables after a heading, or a line in bold, up to the next heading."""
    text = (ROOT / page).read_text().partition(f"{heading}\n")[2].partition("\n#")[0]
    assert text, f"{page} has no line {heading!r}"
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize(
    ("page", "heading", "names"),
    [
        ("docs/formats/dataset.md", "## Forms that are read", set(FORMS) - {CLASS_FOLDERS}),
        ("docs/tasks/worse-int8.md", "**5. Take another recipe.**", set(RECIPES)),
        ("docs/tasks/engines.md", "# OpenVINO, and which engine", set(NAMES)),
        ("edge/README.md", "## Engines", set(NAMES)),
    ],
    ids=["forms", "recipes", "engines", "engines of the runtime's page"],
)
def test_tables_of_the_guide_are_complete(page: str, heading: str, names: set[str]) -> None:
    listed = first_cells(page, heading)
    missing, strange = sorted(names - listed), sorted(listed - names)
    assert missing == [], f"{page}: add a row for each to the table below {heading!r}"
    assert strange == [], f"{page}: below {heading!r} are rows of what is not in the code"


def public() -> list[tuple[str, Any]]:
    """Return every public name of both packages with what it is."""
    both = (keras_unetres, unetres_edge)
    return [(f"{package.__name__}.{name}", getattr(package, name)) for package in both for name in package.__all__]


def functions() -> list[tuple[str, Any]]:
    """Return the public functions of both packages, and the public methods of their classes."""
    found = []
    for name, value in public():
        if inspect.isfunction(value):
            found.append((name, value))
            continue
        methods = {key: each for key, each in vars(value).items() if not key.startswith("_")}
        found += [(f"{name}.{key}", each) for key, each in methods.items() if inspect.isfunction(each)]
    return found


def test_every_public_name_is_in_the_api() -> None:
    pages = [page.read_text() for page in (ROOT / "docs" / "api").glob("*.md")]
    listed = {name.rpartition(".")[::2] for page in pages for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE)}
    for name, value in public():
        at = [module for module, last in listed if last == value.__name__]
        assert any(getattr(importlib.import_module(module), value.__name__) is value for module in at), name


def test_no_sub_package_takes_the_place_of_a_public_name() -> None:
    for path in (ROOT / "keras_unetres").iterdir():
        if path.name in keras_unetres.__all__ or path.stem in keras_unetres.__all__:
            importlib.import_module(f"keras_unetres.{path.stem}")
            assert callable(getattr(keras_unetres, path.stem)), path.stem


def test_public_names_have_docstrings_that_begin_with_a_sentence() -> None:
    for name, value in [*public(), *functions()]:
        first = (value.__doc__ or "").strip().split("\n\n")[0]
        assert re.search(r"[.:]$", first.splitlines()[0] if first else ""), name


def test_functions_that_raise_say_so() -> None:
    silent = []
    for name, function in functions():
        raises = re.search(r"^\s+raise \w+Error", inspect.getsource(function), re.MULTILINE)
        if raises and not re.search(r"^\s+Raises:$|\brais(?:e|es)\b", function.__doc__ or "", re.MULTILINE):
            silent.append(name)
    assert not silent


def test_functions_that_take_arrays_say_their_shapes() -> None:
    shapeless = []
    for name, function in functions():
        takes = any("ndarray" in str(kind) for key, kind in function.__annotations__.items() if key != "return")
        # A shape, as in (H, W, C) or (..., channels), or the one function that tells it for all.
        if takes and not re.search(r"\((?:[A-Z]|\.\.\.), ?[\w, ]+\)|`Preprocessing.prepare`", function.__doc__ or ""):
            shapeless.append(name)
    assert not shapeless


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the guide as `make docs` does, in a folder with `docs/` and `mkdocs.yml`."""
    (line,) = re.findall(r"\$\(BIN\)/python (-m mkdocs .+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    command = [sys.executable, *line.split()]
    known = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=folder, env=known, capture_output=True, text=True, check=False)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the guide beside links to both packages, whose docstrings it shows."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    for name in ("keras_unetres", "edge"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.long
def test_the_guide_builds_and_loads_nothing_from_elsewhere(copied: Path) -> None:
    done = build(copied)
    assert done.returncode == 0, done.stderr
    pages = list((copied / "site").rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"((?:https?:)?//[^\"]+)", page.read_text())
        assert not loaded, (page.name, loaded)


@pytest.mark.long
@pytest.mark.parametrize("line", ["[dead](nowhere.md)", "[dead](../index.md#nowhere)", "::: unetres_edge.nothing"])
def test_a_dead_link_or_name_fails_the_build(copied: Path, line: str) -> None:
    with (copied / "docs" / "tasks" / "index.md").open("a") as page:
        page.write(f"\n{line}\n")
    assert build(copied).returncode != 0
