"""What an installation downloads and takes on the disk: of the runtime alone, and of both packages; and a demo's time.

    python benchmarks/install.py [--python python3.12] [--demo]

Each is installed into a fresh environment. What it needs is downloaded as wheels first, without pip's cache, whose
bytes are counted; then it is installed from these, and the bytes of its files are counted, those that Python compiles
apart. --demo also times `unetres demo` in the environment of both. Figures (bytes, s) to results/install.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _command import given_command

from unetres_edge.files import make_folder, write_json

RESULTS = Path(__file__).resolve().parent / "results"
ROOT = Path(__file__).resolve().parents[1]
INSTALLED = {"runtime": ["./edge"], "both": ["./edge", "."]}
OWN = ("keras_unetres",)  # how the names of the wheels of this repository begin; they are not downloaded


def main() -> None:
    """Install each, and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--demo", action="store_true")
    options = parser.parse_args()
    file = make_folder(RESULTS) / "install.json"
    figures: dict[str, Any] = {"command": given_command(), "machine": machine(options.python)}
    for name, projects in INSTALLED.items():
        with tempfile.TemporaryDirectory() as folder:
            python = make_environment(options.python, Path(folder) / "venv")
            figures[name] = install(python, projects, copy_source(Path(folder) / "source"), Path(folder) / "wheels")
            if options.demo and name == "both":
                figures["demo_seconds"] = time_demo(python, Path(folder) / "demo")
    write_json(file, figures)
    print(json.dumps(figures, indent=1))


def machine(python: str) -> dict[str, Any]:
    """Return what the figures depend on."""
    version = subprocess.run([python, "-V"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]
    return {"python": version, "system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()}


def make_environment(python: str, folder: Path) -> Path:
    """Make an environment and return its Python."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    return folder / "bin" / "python"


def copy_source(folder: Path) -> Path:
    """Copy what git tracks to a folder, since building a wheel leaves files behind, and return it."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    for name in filter(None, os.fsdecode(names).split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def install(python: Path, projects: list[str], source: Path, wheels: Path) -> dict[str, Any]:
    """Install projects of this repository and return what that downloaded and takes.

    Args:
        python: the Python of an environment that holds pip alone.
        projects: folders below that of the source.
        source: a copy of the repository.
        wheels: a folder to make.
    """
    before = size_of(python.parents[1])
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    start = time.perf_counter()
    subprocess.run([*pip, "wheel", "--no-cache-dir", "--wheel-dir", wheels, *projects], cwd=source, check=True)
    files = sorted(wheels.glob("*.whl"))
    subprocess.run([*pip, "install", "--no-index", "--no-deps", "--no-compile", *files], check=True)
    seconds = time.perf_counter() - start
    fetched = {file.name.split("-")[0]: file.stat().st_size for file in files if not file.name.startswith(OWN)}
    return {
        "download_bytes": sum(fetched.values()),
        "installed_bytes": size_of(python.parents[1]) - before,
        "packages": len(files),
        "seconds": round(seconds),
        "largest_downloads": dict(sorted(fetched.items(), key=lambda item: -item[1])[:5]),
    }


def size_of(folder: Path) -> int:
    """Return the bytes of the files below a folder, compiled ones and links left out."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.suffix != ".pyc")
    return sum(path.stat().st_size for path in files)


def time_demo(python: Path, out: Path) -> int:
    """Return the seconds of `unetres demo`."""
    start = time.perf_counter()
    subprocess.run([python.with_name("unetres"), "demo", "--out", out], check=True, stdout=subprocess.DEVNULL)
    return round(time.perf_counter() - start)


if __name__ == "__main__":
    main()
