"""Build both distributions and try them as strangers will: from an index, in environments with nothing else in them.

    python tools/release.py [--out dist] [--python 3.11 3.12 3.13] [--key ~/.ssh/id_ed25519]
                            [--steps build check resolve runtime sdist commands sign]

    build      sdists and wheels, of what git tracks alone; SHA256SUMS; an index of them on this disk
    check      twine reads their metadata and descriptions strictly; a wheel holds what git tracks of its package
    resolve    there is a wheel of every dependency for Windows, macOS and Linux on arm64
    runtime    keras-unetres-edge from the index into an empty environment of every Python: it predicts, no TensorFlow
    sdist      the source distribution of the runtime passes its own tests where it is unpacked
    commands   keras-unetres from the index into an empty environment of every Python: the README's first commands
    sign       SHA256SUMS is signed with --key, an SSH key, and the signature verified; without one it is left out

Steps run in this order, and the first that fails ends all. Nothing is published; what lies in `--out` afterwards is
ready for `twine upload`. Attestations of an index (PEP 740) are not made here: they need the identity of a workflow
that publishes, and there is none yet. Whoever has the maker's public key verifies the sums so:

    ssh-keygen -Y verify -f allowed_signers -I keras-unetres -n keras-unetres -s SHA256SUMS.sig < SHA256SUMS
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECTS = {"keras_unetres_edge": "edge", "keras_unetres": "."}  # distribution -> its folder
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = ("x86_64-pc-windows-msvc", "aarch64-apple-darwin")  # as uv calls them
RUNTIME_PLATFORMS = (*PLATFORMS, "aarch64-manylinux_2_28")
SIGNER = "keras-unetres"  # whose signature it is, and what for
GOLDEN = ROOT / "edge" / "tests" / "golden"
# What makes the README's commands short: a budget of minutes and a network of the usual size are for people.
SHORTER = {
    "--minutes 20": "--epochs 2 --size 64 --depth 2 --filters 8",
    "--out model.tflite": "--max-drop 100 --out model.tflite",
}


@dataclass(frozen=True)
class Release:
    """What the steps work on.

    Args:
        out: folder of the distributions, with `index/` in it.
        pythons: versions of Python to try.
        scratch: folder for environments, removed at the end.
        key: an SSH key to sign with, or None.
    """

    out: Path
    pythons: Sequence[str]
    scratch: Path
    key: Path | None = None

    @property
    def index(self) -> Path:
        """The index, which pip reads as it reads one on the network."""
        return self.out / "index"

    def one(self, ending: str, name: str) -> Path:
        """Return the only file of a distribution with an ending."""
        (found,) = [path for path in self.out.glob(f"*{ending}") if re.match(rf"{name}-\d", path.name)]
        return found


def run(*command: str | Path, folder: Path | None = None, **more: str) -> str:
    """Run a command and return what it printed; one that fails ends the script with all that it said."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_", "VIRTUAL"))
    }
    given = {
        name: value for name, value in os.environ.items() if name in ("PIP_INDEX_URL", "PIP_CERT", "PIP_TRUSTED_HOST")
    }
    done = subprocess.run(
        [os.fspath(word) for word in command],
        cwd=folder,
        env={**environment, **given, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nfailed ({done.returncode}): {shlex.join(map(str, command))}")
    return done.stdout


def tracked(folder: str = ".") -> list[Path]:
    """Return the files that git tracks below a folder of the repository, relative to the repository."""
    listing = subprocess.run(["git", "ls-files", "-z", "--", folder], cwd=ROOT, capture_output=True, check=True).stdout
    return [Path(os.fsdecode(name)) for name in listing.split(b"\0") if name and (ROOT / os.fsdecode(name)).is_file()]


def build(release: Release) -> None:
    """Build sdists and wheels of what git tracks, and an index of them."""
    source = release.scratch / "source"
    for path in tracked():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, source / path)
    shutil.rmtree(release.out, ignore_errors=True)
    for folder in PROJECTS.values():  # the wheel is made from the sdist
        run(sys.executable, "-m", "build", "--outdir", release.out, source / folder)
    files = sorted(path for path in release.out.iterdir() if path.suffix in (".whl", ".gz"))
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (release.out / "SHA256SUMS").write_text(sums)
    for name in PROJECTS:
        page = release.index / name.replace("_", "-")
        page.mkdir(parents=True)
        own = [path for path in files if re.match(rf"{name}-\d", path.name)]
        page.joinpath("index.html").write_text(
            "".join(f'<a href="../../{path.name}">{path.name}</a>\n' for path in own)
        )
    print(sums, end="")


def check(release: Release) -> None:
    """Read metadata and descriptions as the index will, and compare the wheels with what git tracks."""
    files = sorted(path for path in release.out.iterdir() if path.suffix in (".whl", ".gz"))
    print(run(sys.executable, "-m", "twine", "check", "--strict", *files), end="")
    for name, package in (("keras_unetres_edge", "edge/src/unetres_edge"), ("keras_unetres", "keras_unetres")):
        with zipfile.ZipFile(release.one(".whl", name)) as wheel:
            held = {path for path in wheel.namelist() if ".dist-info/" not in path}
        above = Path(package).parent
        wanted = {path.relative_to(above).as_posix() for path in tracked(package)}
        wanted = {
            path for path in wanted if "/web/test/" not in path and not path.endswith(("tsconfig.json", ".gitignore"))
        }
        if held != wanted:
            sys.exit(f"{name}: the wheel differs from what git tracks: {sorted(held ^ wanted)}")
        print(f"{name}: {len(held)} files, those that git tracks")


def resolve(release: Release) -> None:
    """Find a wheel of every dependency for systems that the tests do not run on."""
    for name, platforms in (("keras-unetres-edge", RUNTIME_PLATFORMS), ("keras-unetres", PLATFORMS)):
        for platform in platforms:
            for python in release.pythons:
                asked = release.scratch / "asked.in"
                asked.write_text(f"{name}\n")
                listing = run(
                    *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"),
                    *("--find-links", release.out, "--only-binary", ":all:"),
                    *("--python-platform", platform, "--python-version", python, asked),
                )
                found = [line for line in listing.splitlines() if "==" in line]
                print(f"{name} on {platform}, Python {python}: {len(found)} wheels")


def environment(release: Release, python: str, *words: str | Path) -> Path:
    """Return the folder of commands of an empty environment into which pip has installed some things."""
    folder = Path(tempfile.mkdtemp(prefix=f"env-{python}-", dir=release.scratch))
    run(find_python(python), "-m", "venv", folder)
    bin = folder / ("Scripts" if os.name == "nt" else "bin")
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    run(bin / "python", "-m", "pip", "install", *quiet, "--extra-index-url", release.index.as_uri(), *words)
    return bin


def find_python(version: str) -> str:
    """Return the command of a version of Python."""
    for command in (f"python{version}", sys.executable):
        with_version = [command, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
        try:
            done = subprocess.run(with_version, capture_output=True, text=True)
        except OSError:
            continue
        if done.stdout.strip() == version:
            return command
    sys.exit(f"Python {version} is not installed; leave it out with --python")


def check_installed(release: Release, bin: Path, name: str) -> None:
    """End the script unless what is installed is, file by file, the wheel that was built."""
    code = f"import importlib.metadata as m; print(m.distribution('{name}').read_text('RECORD'))"
    installed = set(run(bin / "python", "-c", code).splitlines())
    with zipfile.ZipFile(release.one(".whl", name)) as wheel:
        (record,) = [path for path in wheel.namelist() if path.endswith(".dist-info/RECORD")]
        built = {line for line in wheel.read(record).decode().splitlines() if "/RECORD," not in line}
    if not built <= installed:
        sys.exit(f"{name}: another file than the one that was built is installed: {sorted(built - installed)[:3]}")


def runtime(release: Release) -> None:
    """Install the runtime alone, and run a file."""
    for python in release.pythons:
        bin, folder = environment(release, python, "keras-unetres-edge"), Path(tempfile.mkdtemp(dir=release.scratch))
        check_installed(release, bin, "keras_unetres_edge")
        code = "import importlib.util as u; assert not u.find_spec('tensorflow') and not u.find_spec('keras')"
        run(bin / "python", "-c", code)
        model = shutil.copy(GOLDEN / "web_cells.tflite", folder / "model.tflite")
        image = shutil.copy(GOLDEN / "web_cells.png", folder / "cells.png")
        run(bin / "unetres-edge", "predict", model, image, "--out", folder / "maps", "--overlay", "--geojson")
        run(bin / "unetres-edge", "bench", model, "--count", "3")
        said = run(bin / "unetres-edge", "inspect", model)
        assert "(verified)" in said and (folder / "maps" / "cells.png").is_file(), said
        print(
            f"keras-unetres-edge on Python {python}: {version_of(bin, 'unetres-edge')}, installed, inspects, predicts"
        )


def version_of(bin: Path, command: str) -> str:
    """Return what `--version` says."""
    return run(bin / command, "--version").strip()


def sdist(release: Release) -> None:
    """Run the tests of the runtime where its source distribution is unpacked."""
    with tarfile.open(release.one(".tar.gz", "keras_unetres_edge")) as archive:
        archive.extractall(release.scratch, filter="data")
        folder = release.scratch / archive.getnames()[0].split("/")[0]
    bin = environment(release, release.pythons[0], f"{folder}[dev]")
    print(run(bin / "python", "-m", "pytest", "-q", folder=folder).splitlines()[-1])


def commands(release: Release) -> None:
    """Run the first commands of the README, made shorter, where the packages come from the index."""
    for python in release.pythons:
        bin, folder = environment(release, python, "keras-unetres"), Path(tempfile.mkdtemp(dir=release.scratch))
        for name in PROJECTS:
            check_installed(release, bin, name)
        code = (
            "from keras_unetres.data.synthetic import write_cells; write_cells('mydata', num_images=12, size=(96, 96))"
        )
        run(bin / "python", "-c", code, folder=folder)
        shutil.copytree(folder / "mydata" / "images", folder / "pictures")
        begun = time.perf_counter()
        for line in first_commands((ROOT / "README.md").read_text(encoding="utf-8")):
            command, *words = shlex.split(line)
            run(bin / command, *words, folder=folder)
            print(f"    {line}")
        assert (folder / "model.receipt.html").is_file() and (folder / "run" / "report.html").is_file()
        took = time.perf_counter() - begun
        print(f"keras-unetres on Python {python}: {version_of(bin, 'unetres')}, the README's commands in {took:.0f} s")


def sign(release: Release) -> None:
    """Sign the sums of the files with an SSH key, and verify the signature with its public half."""
    sums = release.out / "SHA256SUMS"
    for line in sums.read_text().splitlines():
        digest, name = line.split()
        if hashlib.sha256((release.out / name).read_bytes()).hexdigest() != digest:
            sys.exit(f"{name} is not the file that was built")
    if release.key is None:
        print("left out: name an SSH key with --key")
        return
    signature = release.out / "SHA256SUMS.sig"
    signature.unlink(missing_ok=True)
    run("ssh-keygen", "-q", "-Y", "sign", "-f", release.key, "-n", SIGNER, sums)
    known = release.scratch / "allowed_signers"
    public = Path(f"{release.key}.pub")
    shown = public.read_text() if public.is_file() else run("ssh-keygen", "-y", "-f", release.key)
    known.write_text(f"{SIGNER} {shown}")
    command = ["ssh-keygen", "-Y", "verify", "-f", known, "-I", SIGNER, "-n", SIGNER, "-s", signature]
    with sums.open("rb") as opened:
        done = subprocess.run(command, stdin=opened, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the signature is not that of the key: {done.stdout}{done.stderr}")
    print(f"{sums.name}: signed and verified, {signature.name}")


def first_commands(readme: str) -> list[str]:
    """Return the commands of the section on one's own pictures, in order, made shorter."""
    section = readme.partition("## Your own pictures")[2].partition("\n## ")[0]
    lines = [line.partition("  #")[0].strip() for line in section.splitlines() if line.startswith("unetres")]
    for long, short in SHORTER.items():
        lines = [line.replace(long, short) for line in lines]
    return lines


STEPS: dict[str, Callable[[Release], None]] = {
    step.__name__: step for step in (build, check, resolve, runtime, sdist, commands, sign)
}


def main() -> int:
    """Run the steps."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the distributions (default dist)")
    parser.add_argument("--python", nargs="+", default=PYTHONS, metavar="V", help="versions of Python to try")
    parser.add_argument("--key", type=Path, help="SSH key to sign the sums with")
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS, help="steps to run (default all)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="unetres-release-") as scratch:
        release = Release(options.out.absolute(), options.python, Path(scratch), options.key)
        for name, step in STEPS.items():
            if name in options.steps:
                print(f"==> {name}", flush=True)
                begun = time.perf_counter()
                step(release)
                print(f"    {name} passed, {time.perf_counter() - begun:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
