"""The guide and both READMEs: every block of code runs, every command's options exist, every link has an end.

What is not run has a comment above its block in the Markdown that says why; its commands are parsed all the same.
Trainings, and blocks marked `long`, are parsed here and run in the long test, with a tiny budget.
"""

from __future__ import annotations

import argparse
import inspect
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import keras_unetres
import unetres_edge
from keras_unetres import cli
from keras_unetres.data.faults import KINDS
from unetres_edge import cli as edge_cli
from unetres_edge import errors

ROOT = Path(__file__).resolve().parents[1]
GUIDE = sorted((ROOT / "docs").rglob("*.md"))
READMES = [ROOT / "README.md", ROOT / "edge" / "README.md"]
OTHERS = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "notebooks/README.md")]
TINY = ("--epochs", "1", "--size", "32", "--filters", "4", "--depth", "2", "--batch", "2")
MAINS = {"unetres": cli.main, "unetres-edge": edge_cli.main}
FENCE = re.compile(
    r'^(?:<!-- (?P<mark>not run|long): (?P<why>[^\n]+?) -->\n)?```(?P<kind>\w*)(?: title="(?P<title>[^"]+)")?\n'
    r"(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of code in a page: its line, kind, text, the file it is called, and how and why it is not run here."""

    page: Path
    line: int
    kind: str
    text: str
    title: str | None
    mark: str | None
    why: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[list[str]]:
        """Return the words of each command; comments are left out."""
        return [words for line in self.text.splitlines() if (words := shlex.split(line, comments=True))]


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text[: found.start()].count("\n") + 1, *(found[name] for name in names))
        for found in FENCE.finditer(text)
        for names in [("kind", "text", "title", "mark", "why")]
    ]


BLOCKS = [block for page in (*GUIDE, *READMES) for block in blocks_of(page)]


class ParsedError(Exception):
    """The command line has been parsed; nothing is to be run."""


def parse(words: list[str]) -> None:
    """Hold a command against its real parser, or against what it names in this repository."""
    while "=" in words[0]:  # variables before a command
        words = words[1:]
    name, *given = words
    if name in MAINS:
        real = argparse.ArgumentParser.parse_args

        def stop(self: argparse.ArgumentParser, *values: Any) -> None:
            real(self, *values)
            raise ParsedError

        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stderr(said):
            patch.setattr(argparse.ArgumentParser, "parse_args", stop)
            try:
                MAINS[name](given)
            except ParsedError:
                return
            except SystemExit:
                pytest.fail(f"{shlex.join(words)}: {said.getvalue()}")
    elif name == "make":
        assert re.search(rf"^{re.escape(given[0])}:.*##", (ROOT / "Makefile").read_text(), re.MULTILINE), words
    elif name == "pip":
        for target in given[1:]:
            check_install(target)
    else:
        assert name in ("scp", "python", "python3", "."), f"{words}: a command that no test knows"


def check_install(target: str) -> None:
    """Check that what is installed from the repository has the extra that is named."""
    found = re.fullmatch(r"(\./edge|\.|keras-unetres|keras-unetres-edge)(?:\[(\w[\w-]*)\])?", target)
    assert found, target
    project = ROOT / ("edge" if "edge" in found[1] else ".") / "pyproject.toml"
    if found[2]:
        assert re.search(rf"^{found[2]} = \[", project.read_text(), re.MULTILINE), f"{target} has no such extra"


def is_training(words: list[str]) -> bool:
    """Return whether a command trains, which takes minutes."""
    return words[0] == "unetres" and words[1] in ("train", "quantize")


def run_command(words: list[str], *, quickly: bool) -> None:
    """Run a command in this process; it has to exit with 0."""
    if is_training(words):
        words = shortened(words)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        code = MAINS[words[0]](words[1:])
    assert code == 0, f"{shlex.join(words)}\n{out.getvalue()[-2000:]}\n{err.getvalue()[-2000:]}"


def shortened(words: list[str]) -> list[str]:
    """Return a training with a tiny budget."""
    kept: list[str] = []
    skip = False
    for word in words:
        skip = not skip and word in ("--minutes", "--epochs", "--filters", "--depth", "--size") if not skip else False
        if not skip and (not kept or kept[-1] != "\0"):
            kept.append(word)
        elif skip:
            kept.append("\0")
        else:
            kept.pop()
    words = [word for word in kept if word != "\0"]
    if words[1] == "quantize":
        return [*words, "--epochs", "1", "--overwrite"]
    if "--resume" in words:
        return words
    if "--network" in words:
        return [*words, "--epochs", "1", "--size", "32", "--batch", "2", "--overwrite"]
    return [*words, *TINY, "--overwrite"]


@pytest.fixture(scope="module")
def material(
    cells: Path, run_folder: Path, int8_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A folder with all that the pages speak of, made from drawn cells."""
    folder = tmp_path_factory.mktemp("guide")
    shutil.copytree(cells, folder / "mydata", ignore=shutil.ignore_patterns(".unetres*"))
    shutil.copytree(run_folder, folder / "run")
    shutil.copy(int8_file, folder / "model.tflite")
    (folder / "pictures").mkdir()
    names = sorted(path.name for path in (cells / "images").iterdir())
    shutil.copy(cells / "images" / names[0], folder / "pictures")
    masks = {name: np.asarray(Image.open(cells / "masks" / name)) for name in names}
    objects = {name: np.asarray(Image.open(cells / "instances" / name)) for name in names}
    made = {
        "numbers": {name: np.array([1, 7], np.uint8)[mask] for name, mask in masks.items()},
        "scans": {name: np.array([[0, 0, 0], [220, 20, 60]], np.uint8)[mask] for name, mask in masks.items()},
        "instance_ids": objects,
        "partial": {name: with_unlabelled(mask) for name, mask in masks.items()},
        "declared": masks,
    }
    for data, pictures in made.items():
        shutil.copytree(cells / "images", folder / data / "images")
        (folder / data / "masks").mkdir()
        for name, values in pictures.items():
            Image.fromarray(values).save(folder / data / "masks" / name)
    for number, name in enumerate(names):
        kind = folder / "shapes" / ("discs", "squares")[number % 2]
        kind.mkdir(parents=True, exist_ok=True)
        shutil.copy(cells / "images" / name, kind)
    yield folder


def with_unlabelled(mask: np.ndarray) -> np.ndarray:
    """Return a mask whose first rows nobody has labelled."""
    mask = mask.copy()
    mask[:4] = 255
    return mask


@pytest.fixture(scope="module")
def receipt(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The receipt of an export."""
    from keras_unetres.workflows.export import export

    path = tmp_path_factory.mktemp("receipt") / "model.tflite"
    export(run_folder, path, gate=False, say=lambda line: None)
    return path.with_name("model.receipt.json")


def run_page(page: Path, folder: Path, *, long: bool) -> None:
    """Run the blocks of a page in their order, in one folder and one name space."""
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks_of(page):
        if block.mark == "not run" or (block.mark == "long" and not long):
            continue
        try:
            if block.kind == "sh":
                for words in block.commands():
                    if words[0] in MAINS and (long or not is_training(words)):
                        run_command(words, quickly=not long)
            elif block.kind == "python":
                with redirect_stdout(io.StringIO()):
                    exec(compile(block.text, str(block), "exec"), names)
            elif block.kind == "yaml":
                assert block.title, f"{block}: name the file with title="
                (folder / block.title).write_text(block.text, encoding="utf-8")
                assert isinstance(yaml.safe_load(block.text), dict)
            elif block.kind == "json":
                unetres_edge.Card.from_json(block.text)
        except Exception as error:
            raise AssertionError(f"{block}: {type(error).__name__}: {error}") from error


RUNNABLE = [page for page in GUIDE if any(block.kind in ("sh", "python", "yaml", "json") for block in blocks_of(page))]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.relative_to(ROOT / "docs").as_posix())
def test_the_blocks_of_a_page_run(
    page: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    folder = shutil.copytree(material, tmp_path / "page")
    if page.name == "receipt.md":
        shutil.copy(request.getfixturevalue("receipt"), folder)
    if page.name == "index.md":  # the export of this page is that of many others
        monkeypatch.setitem(MAINS, "unetres", lambda words: 0 if words[0] == "export" else cli.main(words))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "cache"))
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    run_page(page, folder, long=False)


@pytest.mark.long
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.relative_to(ROOT / "docs").as_posix())
def test_the_blocks_of_a_page_run_with_their_trainings(
    page: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    folder = shutil.copytree(material, tmp_path / "page")
    if page.name == "receipt.md":
        shutil.copy(request.getfixturevalue("receipt"), folder)
    if page.name == "own-model.md":
        import keras

        image = keras.Input((64, 64, 1))
        keras.Model(image, keras.layers.Conv2D(2, 3, padding="same")(image)).save(folder / "own.keras")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    monkeypatch.setattr(sys.modules[__name__], "TINY", (*TINY, "--learning-rate", "0.01"))
    if page.name == "index.md":
        real = cli.main
        monkeypatch.setitem(
            MAINS,
            "unetres",
            lambda words: real([*words, "--max-drop", "100", "--overwrite"] if words[0] == "export" else words),
        )
    run_page(page, folder, long=True)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.kind == "sh"], ids=str)
def test_commands_have_the_options_they_are_given(block: Block) -> None:
    assert block.commands()
    for words in block.commands():
        parse(words)


def test_a_misspelt_option_or_extra_is_found() -> None:
    with pytest.raises(pytest.fail.Exception, match="--epoch-count"):
        parse(["unetres", "train", "mydata", "--out", "run", "--epoch-count", "4"])
    with pytest.raises(AssertionError, match="no such extra"):
        parse(["pip", "install", "./edge[openvno]"])


def test_a_shortened_training_has_one_budget() -> None:
    words = shortened(["unetres", "train", "d", "--out", "r", "--minutes", "20", "--loss", "dice", "--epochs", "9"])
    assert words == ["unetres", "train", "d", "--out", "r", "--loss", "dice", *TINY, "--overwrite"]


def test_what_is_not_run_says_why() -> None:
    left_out = {str(block): block.why for block in BLOCKS if block.mark == "not run"}
    for place, why in left_out.items():
        print(place, why)
    assert all(re.match(r"(needs|installs|downloads|fetches|serves) ", why or "") for why in left_out.values()), (
        left_out
    )
    assert len(left_out) == 14
    marks = sum(page.read_text().count("<!-- not run:") for page in GUIDE)
    assert marks == len(left_out), "a mark that stands above no block"


def test_python_in_the_readmes_compiles() -> None:
    for block in BLOCKS:
        if block.page in READMES and block.kind == "python":
            compile(block.text, str(block), "exec")


# Links ---------------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub and Python-Markdown make them of headings, and those of API entries."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    made = set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        made.add(re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.replace("`", "").strip().lower())))
    return {re.sub(r"-+", "-", name) for name in made}


@pytest.mark.parametrize("page", [*GUIDE, *READMES, *OTHERS], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_have_an_end(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file) if file else page
        assert found.exists(), f"{page.relative_to(ROOT)}: {target}"
        if anchor:
            assert re.sub(r"-+", "-", anchor) in anchors(found), f"{page.relative_to(ROOT)}: {target}"


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"^\s+- (?:\w+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == [page.relative_to(ROOT / "docs").as_posix() for page in GUIDE]


# What the pages say of the code ----------------------------------------------------------------------------------------


def kinds_of_errors(base: type[errors.UnetresError] = errors.UnetresError) -> list[type[errors.UnetresError]]:
    """Return a class of errors and all below it."""
    return [base, *(each for below in base.__subclasses__() for each in kinds_of_errors(below))]


def test_the_page_of_errors_has_all_codes() -> None:
    text = (ROOT / "docs" / "formats" / "errors.md").read_text()
    rows = set(re.findall(r"^\| `([\w-]+)` \| `(\w+)` \| (\d) \|", text, re.MULTILINE))
    kinds = [kind for kind in kinds_of_errors() if kind.__module__.split(".")[0] in ("unetres_edge", "keras_unetres")]
    assert rows == {(kind.code, kind.__name__, str(kind.exit_code)) for kind in kinds}
    for kind, about in KINDS.items():
        assert f"| `{kind}` | {about} |" in text


def test_the_page_of_the_card_has_all_fields() -> None:
    text = (ROOT / "docs" / "formats" / "card.md").read_text()
    pre = unetres_edge.Preprocessing(channels=1)
    card = json.loads(unetres_edge.Card(("a",), ((0, 0, 0),), pre).to_json())
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(card)
    shown = json.loads(next(block.text for block in BLOCKS if block.kind == "json" and block.page.name == "card.md"))
    assert list(shown) == list(card)
    assert list(shown["preprocessing"]) == list(card["preprocessing"])


def test_the_page_of_the_receipt_has_all_keys(receipt: Path) -> None:
    text = (ROOT / "docs" / "formats" / "receipt.md").read_text()
    keys = [key for row in re.findall(r"^\| (`.+?`) \|", text, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)]
    assert keys == list(json.loads(receipt.read_bytes()))


def test_the_page_of_run_folders_names_all_files(run_folder: Path) -> None:
    text = (ROOT / "docs" / "formats" / "run-folder.md").read_text()
    for path in run_folder.iterdir():
        assert f"`{path.name}" in text, path.name


def public() -> list[tuple[str, Any]]:
    """Return every public name of both packages with what it is."""
    return [
        (f"{package.__name__}.{name}", getattr(package, name))
        for package in (keras_unetres, unetres_edge)
        for name in package.__all__
    ]


def test_every_public_name_is_in_the_api() -> None:
    listed = set()
    for page in (ROOT / "docs" / "api").glob("*.md"):
        listed |= anchors(page)
    for name, value in public():
        home = f"{value.__module__}.{value.__qualname__}"
        assert home in listed, f"{name} ({home})"


def functions() -> list[tuple[str, Any]]:
    """Return the public functions, and the public methods of public classes, of both packages."""
    found = []
    for name, value in public():
        if inspect.isfunction(value):
            found.append((name, value))
        else:
            found += [
                (f"{name}.{key}", method)
                for key, method in vars(value).items()
                if not key.startswith("_") and inspect.isfunction(method)
            ]
    return found


def test_public_names_have_docstrings() -> None:
    for name, value in [*public(), *functions()]:
        first = (value.__doc__ or "").strip().splitlines()
        assert first, name
        assert first[0].endswith((".", ":")), name


def test_public_functions_say_what_they_raise_and_what_shapes_they_take() -> None:
    silent, shapeless = [], []
    for name, function in functions():
        said, source = function.__doc__ or "", inspect.getsource(function)
        if (
            re.search(r"^\s+raise \w+Error", source, re.MULTILINE)
            and "Raises:" not in said
            and " raise" not in said.lower()
        ):
            silent.append(name)
        arrays = [key for key, kind in function.__annotations__.items() if "ndarray" in str(kind)]
        if arrays and not re.search(r"\([A-Z][\w, /]*\)|\(H, W", said) and "`Preprocessing.prepare`" not in said:
            shapeless.append(name)
    assert not silent, silent
    assert not shapeless, shapeless


@pytest.mark.long
def test_make_docs_builds_the_guide(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        os.fspath(tmp_path / "site"),
    ]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        assert not re.search(r'(?:src|href)="(?:https?:)?//[^"]+\.(?:js|css|woff2?)"', page.read_text()), page


@pytest.mark.long
def test_the_figures_are_those_of_the_script(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "docs" / "figures.py", tmp_path], check=True, capture_output=True)
    kept = {path.name for path in (ROOT / "docs" / "concepts").iterdir() if path.suffix in (".svg", ".png")}
    assert {path.name for path in tmp_path.iterdir()} == kept
    for svg in tmp_path.glob("*.svg"):
        assert svg.read_bytes() == (ROOT / "docs" / "concepts" / svg.name).read_bytes(), svg.name
