"""Node, for the tests of the page's modules; a test is skipped where there is none, or no npm packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from unetres_edge.web import web_folder

WEB = web_folder()
_INSTALL = "run `npm ci` in edge/src/unetres_edge/web, or `make test-web`"


def need_package(name: str) -> Path:
    """Return the folder of an npm package, or skip the test."""
    folder = WEB / "node_modules" / name
    if not folder.is_dir():
        pytest.skip(f"needs {name}: {_INSTALL}")
    return folder


def node_path() -> str:
    """Return the path of Node 20 or newer, or skip the test."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node 20 or newer on PATH (https://nodejs.org)")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version[1:].split(".")[0]) < 20:
        pytest.skip(f"needs Node 20 or newer, found {version}")
    return node


def script(name: str) -> Path:
    """Return a script of the page's tests, or skip the test: wheels do not hold them."""
    path = WEB / "test" / name
    if not path.is_file():
        pytest.skip("the page is installed from a wheel, without its tests: pip install -e the folder of the runtime")
    return path


def run_node(*words: str | os.PathLike[str], timeout: float = 300) -> str:
    """Run a script and return what it printed; the test fails where it does."""
    command = [node_path(), *map(os.fspath, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
