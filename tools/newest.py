"""Test with the newest of every dependency, whatever the ranges say, and print which versions these were.

    python tools/newest.py [--venv .venv-newest] [-- PYTEST ARGUMENTS]

Upper bounds of both `pyproject.toml` are left out, and no others: what a dependency asks of another one holds
(litert-quantizer names one version of LiteRT). The table, in Markdown, has each dependency with the range that is
promised and the version that was tested. The exit code is that of the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def dependencies() -> dict[str, str]:
    """Return name -> range of what both distributions and the tests need."""
    found = {}
    for file in ("edge/pyproject.toml", "pyproject.toml"):
        project = tomllib.loads((ROOT / file).read_text(encoding="utf-8"))["project"]
        for line in (*project["dependencies"], *project["optional-dependencies"]["dev"]):
            name, bounds = re.fullmatch(r"([\w.-]+(?:\[[\w,]+\])?)(.*)", line).groups()  # type: ignore[union-attr]
            if not name.startswith("keras-unetres"):
                found[name] = bounds
    return found


def without_upper(bounds: str) -> str:
    """Return a range without its upper bounds."""
    return ",".join(bound for bound in bounds.split(",") if bound and not bound.startswith(("<", "==", "~=")))


def canonical(name: str) -> str:
    """Return a name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()


def table(asked: dict[str, str], installed: dict[str, str]) -> str:
    """Return what was tested as a table in Markdown."""
    lines = ["| dependency | range | tested |", "|---|---|---|"]
    rows = ((name, bounds or "any", installed.get(canonical(name), "none")) for name, bounds in sorted(asked.items()))
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def main() -> int:
    """Install, print the table, run the quick tests."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-newest", help="environment to make")
    parser.add_argument("tests", nargs="*", default=["tests", "edge/tests"], help="arguments of pytest")
    options = parser.parse_args()
    python = options.venv / ("Scripts" if os.name == "nt" else "bin") / "python"
    asked = dependencies()
    newest = [name + without_upper(bounds) for name, bounds in asked.items()]
    for command in (
        [sys.executable, "-m", "venv", options.venv],
        [python, "-m", "pip", "install", "--quiet", "--upgrade", *newest],
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "-e", ROOT / "edge", "-e", ROOT],
    ):
        subprocess.run(command, check=True)
    listed = subprocess.run([python, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True).stdout
    print(table(asked, {canonical(row["name"]): row["version"] for row in json.loads(listed)}), flush=True)
    return subprocess.run([python, "-m", "pytest", "-q", *options.tests], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
