"""The notebooks run, as they are committed, in a small setting; and what is committed is what the script writes."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "notebooks" / "make.py"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALLEST = "0.1"
# About a minute of CPU or more in the smallest setting: many networks are traced, many files converted.
LONG = {"02_why_residuals", "03_your_own_data", "04_quantize_and_export", "06_your_own_keras_model"}
RUNS = [
    pytest.param(path, marks=pytest.mark.long if path.stem in LONG else pytest.mark.slow, id=path.stem)
    for path in NOTEBOOKS
]


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks_make", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pictures(notebook: Any) -> dict[str, int]:
    """Return how many pictures each cell that draws has."""
    found = {}
    for cell in notebook.cells:
        number = sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
        if number:
            found[cell.id] = number
    return found


def run(path: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, os.fspath(SCRIPT), "--scale", SMALLEST, "--out", os.fspath(out), os.fspath(path)]
    return subprocess.run(command, capture_output=True, text=True)


def write(path: Path, *cells: Any) -> Path:
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), path)
    return path


@pytest.mark.parametrize("path", RUNS)
def test_it_runs_in_the_smallest_setting(path: Path, tmp_path: Path) -> None:
    done = run(path, tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    made = nbformat.read(tmp_path / path.name, 4)
    committed = nbformat.read(path, 4)
    assert pictures(made) == pictures(committed)
    assert [cell.source for cell in made.cells] == [cell.source for cell in committed.cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed_is_what_the_script_writes(path: Path, make: ModuleType) -> None:
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, 4)
    nbformat.validate(notebook)
    assert make.find_faults(notebook) == []
    assert text == nbformat.writes(notebook) + "\n"
    assert nbformat.writes(make.prepare(notebook)) + "\n" == text
    assert len(pictures(notebook)) >= 3
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


def test_they_install_from_a_checkout() -> None:
    """Nothing is published, so no notebook points at an index, a repository on the network, or a badge of one."""
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        cells = nbformat.read(path, 4).cells
        install = next(cell for cell in cells if cell.cell_type == "code")
        assert "%pip install -q ./keras-unetres/edge ./keras-unetres" in install.source
        elsewhere = ("git+", "colab.research", "github.com/keras-unetres")
        assert not any(word in cell.source for cell in cells for word in elsewhere)


@pytest.mark.long
def test_they_install_beside_what_colab_has(tmp_path: Path) -> None:
    """Of what Colab has, pip keeps all that `colab.txt` does not mark as replaced. Needs the network."""
    asked = tmp_path / "asked.txt"
    projects = [
        tomllib.loads((ROOT / path).read_text())["project"] for path in ("pyproject.toml", "edge/pyproject.toml")
    ]
    names = [each for project in projects for each in project["dependencies"] if not each.startswith("keras-unetres")]
    asked.write_text("\n".join(names))
    listing = ROOT / "notebooks" / "colab.txt"
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"]
    command += [
        "--only-binary",
        ":all:",
        "--python-version",
        "3.13",
        "--ignore-requires-python",
        "--target",
        os.fspath(tmp_path / "none"),
    ]
    command += ["--constraint", os.fspath(listing), "--requirement", os.fspath(asked), "--report", os.fspath(report)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = {
        canonical(row["metadata"]["name"]): row["metadata"]["version"]
        for row in json.loads(report.read_text())["install"]
    }
    has = dict(re.findall(r"^(?:# replaced: )?([\w.-]+)==(\S+)$", listing.read_text(), re.MULTILINE))
    replaced = {name for name, version in has.items() if found.get(canonical(name), version) != version}
    assert replaced == set(re.findall(r"^# replaced: ([\w.-]+)==", listing.read_text(), re.MULTILINE))


def canonical(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def test_every_notebook_is_listed() -> None:
    text = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in NOTEBOOKS if f"({path.name})" not in text] == []


@pytest.mark.slow
def test_a_warning_of_ours_and_an_error_fail(tmp_path: Path) -> None:
    scale = nbformat.v4.new_code_cell("SCALE = 1")
    ours = "import warnings\nwarnings.warn_explicit('planted', UserWarning, 'x.py', 1, module='{}')"
    for name, source, fails in (
        ("00_ours", ours.format("keras_unetres.models.unet"), True),
        ("01_edge", ours.format("unetres_edge.model.card"), True),
        ("02_error", "assert SCALE == 1, f'scale {SCALE}'", True),
        ("03_sound", "assert SCALE == 0.1", False),
    ):
        out = tmp_path / "out"
        done = run(write(tmp_path / f"{name}.ipynb", scale, nbformat.v4.new_code_cell(source)), out)
        assert (done.returncode != 0) == fails, (name, done.stderr)
        assert (out / f"{name}.ipynb").exists() != fails
        if fails:
            assert ("scale 0.1" if name == "02_error" else "planted") in done.stderr


def test_faults_are_found(make: ModuleType, tmp_path: Path) -> None:
    code = nbformat.v4.new_code_cell("SCALE = 1", id="code", execution_count=2)
    text = nbformat.v4.new_markdown_cell("[a paper](https://arxiv.org/abs/1505.04597), [above](#top)", id="text")
    sound = make.prepare(nbformat.v4.new_notebook(cells=[text, code]))
    sound.cells[1].execution_count = 1
    assert make.find_faults(sound) == []
    other = copy.deepcopy(sound)
    other.cells[1].source += " "
    assert make.find_faults(other) == ["the install cell is not what notebooks/make.py writes"]
    for link in ("../README.md#x", "02_other.ipynb", "/abs.png"):
        other = copy.deepcopy(sound)
        other.cells[0].source = f"see [there]({link})"
        assert make.find_faults(other) == [
            f"cell text links to {link}, which is not there where the notebook is opened alone"
        ]
    stream = nbformat.v4.new_output
    for output, expected in (
        (stream("stream", name="stderr", text="W0000"), "cell code wrote to stderr: W0000"),
        (stream("stream", text="1/4\r2/4"), "cell code printed a progress bar or colours"),
        (stream("stream", text=f"wrote {ROOT}/x"), f"names {ROOT}, which is of one machine"),
        (stream("error", ename="ValueError", evalue="", traceback=[]), "cell code failed: ValueError"),
        (stream("stream", text="x" * 700_000), "bytes, more than 600000"),
    ):
        broken = copy.deepcopy(sound)
        broken.cells[2].outputs = [output]
        assert [fault for fault in make.find_faults(broken) if expected in fault], expected
    broken = copy.deepcopy(sound)
    broken.cells[2].execution_count = None
    assert make.find_faults(broken) == ["cell code was not executed in its turn"]
