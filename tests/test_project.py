"""The repository as a whole: one version, small files, continuous integration that tests, and no private paths."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import keras_unetres
import unetres_edge

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = 2 * 1024 * 1024


@pytest.fixture(scope="module")
def repository_files() -> list[Path]:
    """Every file that git tracks or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs git and a git checkout: {error}")
    paths = [ROOT / os.fsdecode(name) for name in listing.split(b"\0") if name]
    return [path for path in paths if path.is_file()]


def read_project(path: str) -> dict[str, object]:
    return tomllib.loads((ROOT / path).read_text(encoding="utf-8"))["project"]


def test_one_version_everywhere() -> None:
    version = keras_unetres.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert unetres_edge.__version__ == version
    assert read_project("pyproject.toml")["version"] == version
    assert read_project("edge/pyproject.toml")["dynamic"] == ["version"]  # of the package itself
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_training_side_asks_for_the_runtime_of_its_own_minor_version() -> None:
    minor = keras_unetres.__version__.rpartition(".")[0]
    assert f"keras-unetres-edge=={minor}.*" in read_project("pyproject.toml")["dependencies"]


def test_both_distributions_carry_the_licence() -> None:
    text = (ROOT / "LICENSE").read_bytes()
    assert b"Apache License" in text
    assert b"END OF TERMS AND CONDITIONS" in text
    assert (ROOT / "edge" / "LICENSE").read_bytes() == text


def test_both_packages_are_typed() -> None:
    for package in (keras_unetres, unetres_edge):
        assert (Path(package.__file__).parent / "py.typed").is_file()


def test_no_file_is_large(repository_files: list[Path]) -> None:
    assert Path(__file__).resolve() in repository_files
    assert {path: path.stat().st_size for path in repository_files if path.stat().st_size > MAX_BYTES} == {}


def test_no_text_names_a_path_of_one_machine(repository_files: list[Path]) -> None:
    private = b"/" + b"work" + b"/"
    assert [path for path in repository_files if private in path.read_bytes()] == []


def test_continuous_integration_runs_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = script.read_text(encoding="utf-8").splitlines()
    assert "set -euo pipefail" in commands
    assert {"make lint", "make test"} <= set(commands)


def test_the_workflow_and_the_guide_name_only_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        name
        for path in (".ci/run", ".github/workflows/ci.yml", "CONTRIBUTING.md")
        for name in re.findall(r"(?:run: |`|^)make ([a-z\d-]+)", (ROOT / path).read_text(encoding="utf-8"), re.M)
    }
    assert {"demo", "lint", "test"} <= named <= targets
