"""The tests of `unetres_edge` on an emulated arm64 processor, and labels of arm64 held against those of this machine.

    python edge/tests/arm64.py [--folder DIR] [--model M.tflite ...] [-- PYTEST ARGUMENTS]

For Debian and Ubuntu on x86-64. QEMU's user-mode emulator, an arm64 Python and its libraries come from Debian's archive
through `apt-get`, with a state of its own below DIR: nothing is installed on the machine, and nothing needs root. The
aarch64 wheels of the runtime's dependencies come from PyPI. What is there already is not fetched again.

Every model file (the ones kept in golden/, and those given) segments 24 pictures on both processors; an int8
file must give the same label in every pixel on each emulated core, a float32 file in all but 1 of 10,000. So must the
command in C, where Debian's cross compiler (gcc-aarch64-linux-gnu) is. Then the tests run. QEMU 7.2, which Debian 12
has, dies in LiteRT 2.3; hence the emulator of Debian 13. Emulated times say nothing of a board.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SUITE, PYTHON = "trixie", "3.13"
ARCHIVE = "http://deb.debian.org/debian"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
CORES = ("cortex-a53", "cortex-a72", "neoverse-n1", "max")  # boards of 2012, 2015 and 2019, and all that QEMU knows
PICTURES, COMMAND_PICTURES = 24, 4
CROSS = "aarch64-linux-gnu-gcc"
LEAST_EQUAL = {"int8": 1.0, "float32": 0.9999}
TOOLS = ("pytest", "hypothesis", "dask", "distributed")  # of what the tests need, with the versions of `dev`


def main() -> int:
    """Set up what is missing, compare labels, run the tests; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / ".arm64", help="where the emulated system is kept")
    parser.add_argument("--model", type=Path, action="append", default=[], help="a further file to compare labels of")
    parser.add_argument("--labels", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("pytest", nargs="*", help="what pytest is told")
    options = parser.parse_args()
    models = [*sorted((ROOT / "edge" / "tests" / "golden").glob("*.tflite")), *options.model]
    if options.labels:
        write_labels(models, options.labels)
        return 0
    folder = options.folder.resolve()
    python = set_up(folder)
    more = [word for model in options.model for word in ("--model", str(model.resolve()))]
    wrong = compare_labels(python, folder, models, more) + compare_command(folder, models)
    print("==> the tests of the runtime, emulated", flush=True)
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", "edge/tests", *options.pytest]
    tests = subprocess.run(command, cwd=ROOT, env=environment(folder))
    return int(wrong or tests.returncode != 0)


def set_up(folder: Path) -> Path:
    """Fetch emulator, userland and wheels where they are missing; return a Python to start like any other."""
    system, site, python = folder / "system", folder / "site", folder / "python"
    if not (folder / "complete").is_file():
        missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
        if missing or not Path(KEYS).is_file():
            raise SystemExit(f"error: needs Debian or Ubuntu with {', '.join([*missing, KEYS])}")
        shutil.rmtree(folder, ignore_errors=True)
        system.mkdir(parents=True)
        print(f"==> fetching an arm64 Python {PYTHON} and QEMU from {ARCHIVE} ({SUITE})", flush=True)
        apt, emulator = folder / "apt", folder / "emulator"
        settings = set_up_apt(apt)
        emulator.mkdir()
        fetch = ["apt-get", "-qq", "-y", "--download-only", "install", "python3", "libstdc++6"]
        subprocess.run(fetch, env=settings, stdout=subprocess.DEVNULL, check=True)
        unpack(apt / "cache" / "archives", system)
        fetch = ["apt-get", "-qq", "download", "qemu-user:amd64"]
        subprocess.run(fetch, env=settings, cwd=emulator, check=True)
        unpack(emulator, emulator, "./usr/bin/qemu-aarch64")
        (system / "lib").symlink_to("usr/lib")
        print("==> fetching aarch64 wheels", flush=True)
        install_wheels(site)
        emulated = f"{emulator}/usr/bin/qemu-aarch64 -L {system} {system}/usr/bin/python{PYTHON}"
        python.write_text(f'#!/bin/sh\nexec {emulated} "$@"\n')
        python.chmod(0o755)
        # The kernel does not run an arm64 program that a test starts; this script it does.
        (site / "sitecustomize.py").write_text(f"import sys\n\nsys.executable = {str(python)!r}\n")
        shutil.rmtree(apt)
        (folder / "complete").touch()
    return python


def set_up_apt(apt: Path) -> dict[str, str]:
    """Make a state of apt's own in a folder, and return the environment in which apt-get uses it."""
    for part in ("state/lists/partial", "cache/archives/partial", "etc"):
        (apt / part).mkdir(parents=True)
    (apt / "state" / "status").touch()
    (apt / "etc" / "sources.list").write_text(f"deb [signed-by={KEYS}] {ARCHIVE} {SUITE} main\n")
    config = apt / "apt.conf"
    config.write_text(
        f'Dir::State "{apt}/state"; Dir::State::status "{apt}/state/status"; Dir::Cache "{apt}/cache";\n'
        f'Dir::Etc "{apt}/etc"; Dir::Etc::sourcelist "{apt}/etc/sources.list"; Dir::Etc::sourceparts "-";\n'
        'APT::Architecture "arm64"; APT::Architectures {"arm64"; "amd64";}; APT::Install-Recommends "false";\n'
        'APT::Sandbox::User "root"; Acquire::Languages "none"; Acquire::Retries "3";\n'
    )
    settings = {**os.environ, "APT_CONFIG": str(config)}
    subprocess.run(["apt-get", "-qq", "update"], env=settings, check=True)
    return settings


def unpack(archives: Path, target: Path, part: str = ".") -> None:
    """Unpack all packages of Debian in a folder, or of each one file or folder."""
    target.mkdir(exist_ok=True)
    for package in sorted(archives.glob("*.deb")):
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as stream:
            subprocess.run(["tar", "-x", "-C", target, part], stdin=stream.stdout, check=True)
        if stream.returncode:
            raise SystemExit(f"error: {package} cannot be read")


def install_wheels(site: Path) -> None:
    """Unpack the wheels of the runtime's dependencies and of what its tests need, for aarch64, with this pip."""
    import tomllib

    def project_of(folder: Path) -> dict[str, Any]:
        return dict(tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"])

    own = project_of(ROOT / "edge")["dependencies"]
    tools = [
        line for line in project_of(ROOT)["optional-dependencies"]["dev"] if re.split(r"[\[<>=]", line)[0] in TOOLS
    ]
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(39, 16, -1)]
    target = ["--target", str(site), "--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp"]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, *target, *platforms, *own, *tools], check=True)


def environment(folder: Path, core: str = "max") -> dict[str, str]:
    """Return the environment of an emulated Python, which finds our package and the aarch64 wheels."""
    path = os.pathsep.join([str(folder / "site"), str(ROOT / "edge" / "src")])
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "QEMU_CPU": core}


def compare_labels(python: Path, folder: Path, models: list[Path], more: list[str]) -> int:
    """Print how many labels of each emulated core equal this machine's; return for how many files they do not."""
    import numpy as np

    words = [str(Path(__file__).resolve()), *more, "--labels"]
    here = folder / "labels.npz"
    subprocess.run([sys.executable, *words, str(here)], check=True)
    right = dict(np.load(here))
    wrong = 0
    for core in CORES:
        file = folder / f"labels_{core}.npz"
        subprocess.run([python, *words, str(file)], env=environment(folder, core), check=True)
        found = np.load(file)
        for model in models:
            kind = "float32" if right[f"{model.name} float"] else "int8"
            equal = float((found[model.name] == right[model.name]).mean())
            failed = equal < LEAST_EQUAL[kind]
            wrong += failed
            count = f"{right[model.name].size} labels, {100 * equal:.4f} % as on this machine"
            print(f"{core:12} {model.name:24} {kind:8} {count}{'  WRONG' if failed else ''}", flush=True)
    return wrong


def compare_command(folder: Path, models: list[Path]) -> int:
    """Print how many labels the emulated `unetres-c` gives as Python does here; return for how many files too few."""
    import numpy as np
    from PIL import Image

    from unetres_edge import Segmenter
    from unetres_edge.model.selftest import make_images

    if shutil.which(CROSS) is None:
        print(f"the command in C is left out: needs {CROSS} (apt-get install gcc-aarch64-linux-gnu)", flush=True)
        return 0
    program, wrong = build_command(folder), 0
    run = [str(folder / "emulator" / "usr" / "bin" / "qemu-aarch64"), "-L", str(folder / "system"), str(program)]
    picture, mask = folder / "picture.ppm", folder / "mask.pgm"
    for model in models:
        equal = count = 0
        with Segmenter(model, num_threads=1) as segmenter:
            for image in make_images(segmenter.card, count=COMMAND_PICTURES):
                tiled = image.repeat(2, 0).repeat(2, 1)[:-7, :-5]
                Image.fromarray(tiled.squeeze()).save(picture)
                words = [*run, str(model), str(picture), str(mask), "--threads", "1"]
                subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                labels = segmenter.segment(tiled).class_map
                equal += int((np.asarray(Image.open(mask)) == labels).sum())
                count += labels.size
            kind = "float32" if segmenter.card.recipe.startswith("float") else "int8"
        failed = equal < LEAST_EQUAL[kind] * count
        wrong += failed
        told = f"{count} labels, {100 * equal / count:.4f} % as Python's on this machine"
        print(f"{'unetres-c':12} {model.name:24} {kind:8} {told}{'  WRONG' if failed else ''}", flush=True)
    return wrong


def build_command(folder: Path) -> Path:
    """Compile `unetres-c` for arm64 with the LiteRT of the aarch64 wheel; return the program."""
    program, shared = folder / "unetres-c", folder / "site" / "ai_edge_litert" / "libLiteRt.so"
    sources = [str(ROOT / "edge" / "c" / name) for name in ("unetres.c", "unetres_litert.c", "pnm.c", "command.c")]
    words = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", f"-Wl,-rpath,{shared.parent}"]
    words += ["-Wl,--allow-shlib-undefined"]  # what LiteRT needs of the C++ library is found where it runs
    subprocess.run([CROSS, *words, *sources, str(shared), "-lm", "-o", str(program)], check=True)
    return program


def write_labels(models: list[Path], file: Path) -> None:
    """Segment drawn pictures of several sizes with each model, and write all labels to one .npz file."""
    import numpy as np

    from unetres_edge import Segmenter
    from unetres_edge.model.selftest import make_images

    found = {}
    for model in models:
        with Segmenter(model, num_threads=1) as segmenter:
            images = make_images(segmenter.card, count=PICTURES)
            images[::2] = [each.repeat(2, 0).repeat(2, 1)[:-7, :-5] for each in images[::2]]  # resized or tiled
            found[model.name] = np.concatenate([segmenter.segment(each).class_map.ravel() for each in images])
            found[f"{model.name} float"] = np.array(segmenter.card.recipe.startswith("float"))
    np.savez(file, **found)


if __name__ == "__main__":
    sys.exit(main())
