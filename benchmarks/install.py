"""What an installation downloads and takes on the disk: of the runtime alone, and of both packages; and a demo's time.

    python benchmarks/install.py [--python python3.12]
    python benchmarks/install.py --demo

Each is installed into a fresh environment. What it needs is downloaded as wheels first, without pip's cache, whose
bytes are counted; then it is installed from these, and the bytes of its files are counted, those that Python compiles
apart. --demo runs `unetres demo` in this environment instead, and counts the time of all its processes on the
processor, which does not depend on what else the machine does. Figures (bytes, s) to results/install.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
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
    figures: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if options.demo:
        figures["demo"] = {"command": given_command(), "machine": machine(sys.executable), **time_demo()}
        write_json(file, figures)
        print(json.dumps(figures, indent=1))
        return
    figures |= {"command": given_command(), "machine": machine(options.python)}
    for name, projects in INSTALLED.items():
        with tempfile.TemporaryDirectory() as folder:
            python = make_environment(options.python, Path(folder) / "venv")
            figures[name] = install(python, projects, copy_source(Path(folder) / "source"), Path(folder) / "wheels")
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
    subprocess.run([*pip, "wheel", "--no-cache-dir", "--wheel-dir", wheels, *projects], cwd=source, check=True)
    files = sorted(wheels.glob("*.whl"))
    subprocess.run([*pip, "install", "--no-index", "--no-deps", "--no-compile", *files], check=True)
    fetched = {file.name.split("-")[0]: file.stat().st_size for file in files if not file.name.startswith(OWN)}
    return {
        "download_bytes": sum(fetched.values()),
        "installed_bytes": size_of(python.parents[1]) - before,
        "packages": len(files),
        "largest_downloads": dict(sorted(fetched.items(), key=lambda item: -item[1])[:5]),
    }


def size_of(folder: Path) -> int:
    """Return the bytes of the files below a folder, compiled ones and links left out."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.suffix != ".pyc")
    return sum(path.stat().st_size for path in files)


def time_demo() -> dict[str, int]:
    """Return how long `unetres demo` and its processes compute."""
    with tempfile.TemporaryDirectory() as folder:
        command = [Path(sys.executable).with_name("unetres"), "demo", "--out", Path(folder) / "demo"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"processor_seconds": round(used.ru_utime + used.ru_stime)}


if __name__ == "__main__":
    main()
