"""The repository as a whole: one version, small files, continuous integration that tests, and no private paths."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml

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
    assert read_project("pyproject.toml")["dynamic"] == ["version"]  # of the package itself
    assert read_project("edge/pyproject.toml")["dynamic"] == ["version"]
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


def test_continuous_integration_runs_one_list_of_steps() -> None:
    """The workflow has no list of its own: it asks the script, which has a target of the Makefile for every step."""
    script = ROOT / ".ci" / "run"
    listed = subprocess.run([script, "--list"], capture_output=True, text=True, check=True).stdout
    steps = json.loads(listed)
    assert steps == ["lint", "test", "slow", "docs", "browser"]
    text = script.read_text(encoding="utf-8")
    assert [step for step in steps if not re.search(rf"^{step}\(\) \{{", text, re.MULTILINE)] == []
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert workflow["step"]["strategy"]["matrix"]["step"] == "${{ fromJSON(needs.list.outputs.steps) }}"
    assert workflow["step"]["steps"][-1]["run"] == ".ci/run ${{ matrix.step }}"


def test_a_step_that_fails_fails_the_whole_and_the_others_run(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    script = Path(shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci"))
    make = tmp_path / "make"
    make.write_text('#!/bin/sh\necho "== 3 passed in 1.25s =="; echo "$1" >> made; test "$1" != test-slow\n')
    make.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([script], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert (tmp_path / "made").read_text().split()[:4] == ["lint", "test", "test-slow", "docs"]
    closing = done.stdout[done.stdout.index("==> lint") :]
    assert re.findall(r"==> (\w+) +(passed|FAILED)", closing)[:4] == [
        *(("lint", "passed"), ("test", "passed"), ("slow", "FAILED"), ("docs", "passed"))
    ]
    assert closing.count("3 passed in 1.25s") >= 4
    assert subprocess.run([script, "docs"], env=env, capture_output=True).returncode == 0


def test_the_workflow_and_the_guide_name_only_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        name
        for path in (".ci/run", ".github/workflows/ci.yml", "CONTRIBUTING.md")
        for name in re.findall(r"(?:run: |`|^|\{ |  )make ([a-z\d-]+)", (ROOT / path).read_text(encoding="utf-8"), re.M)
    }
    assert {"demo", "lint", "test", "test-edge", "test-slow", "test-web"} <= named <= targets


@pytest.mark.slow
def test_source_distributions_hold_what_their_tests_need(repository_files: list[Path], tmp_path: Path) -> None:
    """Built from what git tracks: that of the root holds all of it, that of the runtime its folder."""
    tracked = {path.relative_to(ROOT) for path in repository_files}
    for path in tracked:
        (tmp_path / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / "source" / path)
    for folder, expected in (
        (".", tracked),
        ("edge", {path.relative_to("edge") for path in tracked if path.is_relative_to("edge")}),
    ):
        command = [sys.executable, "-m", "build", "--sdist", "--outdir", tmp_path / "dist"]
        done = subprocess.run([*command, tmp_path / "source" / folder], capture_output=True, text=True)
        if "No matching distribution found" in done.stdout + done.stderr:
            pytest.skip("needs a package index, from which `build` takes setuptools")
        assert done.returncode == 0, done.stderr[-2000:]
        (archive,) = (tmp_path / "dist").iterdir()
        with tarfile.open(archive) as file:
            held = {Path(*Path(name).parts[1:]) for name in file.getnames()}
        assert expected - held == set()
        made = {"PKG-INFO", "setup.cfg"}
        extra = [path for path in held - expected if path.suffix and not any("egg-info" in part for part in path.parts)]
        assert {path.name for path in extra} <= made, extra
        archive.unlink()


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen, of OpenSSH")
def test_a_release_is_signed_by_the_key_that_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("release", ROOT / "tools" / "release.py")
    assert spec is not None and spec.loader is not None
    release = importlib.util.module_from_spec(spec)
    sys.modules["release"] = release  # where dataclasses look for it
    spec.loader.exec_module(release)
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.fspath(key)], check=True)
    out = tmp_path / "dist"
    out.mkdir()
    (out / "a.whl").write_bytes(b"wheel")
    (out / "SHA256SUMS").write_text(f"{hashlib.sha256(b'wheel').hexdigest()}  a.whl\n")
    release.sign(release.Release(out, (), tmp_path))
    assert "left out" in capsys.readouterr().out
    signed = release.Release(out, (), tmp_path, key)
    release.sign(signed)
    command = ["ssh-keygen", "-Y", "verify", "-f", os.fspath(tmp_path / "allowed_signers"), "-I", "keras-unetres"]
    command += ["-n", "keras-unetres", "-s", os.fspath(out / "SHA256SUMS.sig")]
    for text, code in (((out / "SHA256SUMS").read_bytes(), 0), (b"another", 255)):
        assert subprocess.run(command, input=text, capture_output=True).returncode == code
    (out / "a.whl").write_bytes(b"another")
    with pytest.raises(SystemExit, match="a.whl is not the file that was built"):
        release.sign(signed)
