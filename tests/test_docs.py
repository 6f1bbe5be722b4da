"""Every block of code in the README and the guide is run, page by page, in a folder with small data.

A comment above a block says where it is not: `<!-- not run: REASON -->`, or `<!-- long: REASON -->` for what the long
tests alone run. Of commands that train, convert or measure, the quick tests only parse the options, as they do of what
is not run; the long tests run them, trainings with a tiny network and one epoch.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import keras_unetres.cli
import unetres_edge.cli
from keras_unetres.data.synthetic import make_cells, write_cells
from unetres_edge.model.card import Card

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "edge" / "README.md", ROOT / "notebooks" / "README.md"]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
MAIN = {"unetres": keras_unetres.cli.main, "unetres-edge": unetres_edge.cli.main}
SLOW = ("train", "distil", "quantize", "prune", "cluster", "export", "bench", "demo", "report", "--resume")
TINY = ("--size", "32", "--filters", "4", "--depth", "2", "--batch", "8")
LANGUAGES = ("", "c", "sh", "python", "js", "yaml", "json", "text", "toml")


@dataclass(frozen=True)
class Block:
    """A fenced block, its language and title, and the mark above it."""

    language: str
    title: str
    text: str
    mark: str
    reason: str


def blocks(page: Path) -> list[Block]:
    pattern = r"(?:<!-- (not run|long): (.+?) -->\n)?^```(\w*)([^\n]*)\n(.*?)^```$"
    found = re.findall(pattern, page.read_text(), re.DOTALL | re.MULTILINE)
    return [Block(kind, "".join(re.findall('title="(.+?)"', more)), text, *mark) for *mark, kind, more, text in found]


def commands(block: Block) -> list[list[str]]:
    lines = block.text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [[word for word in line if not re.fullmatch(r"[A-Z_]+=.*", word)] for line in words if line]


@pytest.fixture(scope="module")
def prepared(cells: Path, run_folder: Path, int8_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages speak of: mydata, runs, model.tflite with its receipt, pictures, and masks of every kind."""
    root = tmp_path_factory.mktemp("docs")
    shutil.copytree(cells, root / "mydata")
    shutil.copytree(cells / "images", root / "pictures")
    shutil.copy(cells / "images" / "cells_0000.png", root / "cells.png")
    shutil.copytree(run_folder, root / "run")
    shutil.copytree(run_folder, root / "run_cells")
    shutil.copy(int8_file, root / "model.tflite")
    shutil.copy(int8_file.with_suffix(".receipt.json"), root / "model.receipt.json")
    tables = {
        "numbers": np.array([1, 2, 7, 9], np.uint8),
        "scans": np.array([(0, 0, 0), (220, 20, 60)], np.uint8),
        "partial": np.array([0, 1, 255], np.uint8),
        "declared": np.array([0, 1, 7], np.uint8),
    }
    for name, table in tables.items():
        for part in ("images", "masks"):
            (root / name / part).mkdir(parents=True)
        for number in range(8):
            picture = make_cells(number, size=(64, 64))
            labels = picture.instances % len(table) if len(table) > 2 else picture.mask
            file = f"cells_{number:04}.png"
            Image.fromarray(picture.image).save(root / name / "images" / file)
            Image.fromarray(table[labels]).save(root / name / "masks" / file)
    (root / "declared" / "images" / "broken.png").write_bytes(b"not a picture")
    data = write_cells(root / "instance_ids", num_images=8, size=(64, 64))
    shutil.rmtree(data / "masks")
    (data / "instances").rename(data / "masks")
    rng = np.random.default_rng(0)
    for kind, step in (("discs", 1), ("squares", 2)):
        (root / "shapes" / kind).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(rng.integers(0, 100 * step, (32, 32, 3)).astype(np.uint8)).save(
                root / "shapes" / kind / f"{number}.png"
            )
    return root


class _Parsed(Exception):
    """Options that were taken."""


@contextlib.contextmanager
def only_parsing(patch: pytest.MonkeyPatch) -> Iterator[None]:
    whole = argparse.ArgumentParser.parse_known_args

    def parse(parser: argparse.ArgumentParser, *given: Any, **how: Any) -> Any:
        options, unknown = whole(parser, *given, **how)
        if " " in parser.prog or unknown:  # of a command, called by the parser of all
            return options, unknown
        raise _Parsed(options)

    with patch.context() as inner:
        inner.setattr(argparse.ArgumentParser, "parse_known_args", parse)
        yield


def small(words: list[str]) -> list[str]:
    """A command with a tiny network, one epoch, and no gate, as the network of three epochs is at the mercy of int8."""
    command = words[1]
    if command == "train" and "--resume" not in words:
        words = [w for n, w in enumerate(words) if "--minutes" not in (w, words[n - 1])]
        given = {"nuclei", "shapes", "--network"} & set(words)  # whose network is not another
        words += ["--epochs", "1", *(["--batch", "8"] if given else TINY)]
    elif command in ("distil", "quantize", "prune", "cluster"):
        words = [*words, "--epochs", "1"]
    elif command == "export" and "--max-drop" not in words:
        words = [*words, "--max-drop", "100"]
    return words


def run_command(words: list[str], patch: pytest.MonkeyPatch, *, run: bool) -> None:
    """Run a command of a block, or parse it; of others, look whether what they name is there."""
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
    if words[:2] == ["pip", "install"]:
        for name in (word for word in words[2:] if word != "-e"):
            folder, extra = re.fullmatch(r"([\w./-]+)(?:\[(.+)\])?", name).groups()  # type: ignore[union-attr]
            if "/" not in folder and folder != ".":  # a distribution, of the ranges that are tested
                assert re.search(rf'^    "{folder}[\[<>=]', (ROOT / "edge" / "pyproject.toml").read_text(), re.M), words
                continue
            text = (ROOT / folder / "pyproject.toml").read_text()
            assert extra is None or re.search(rf"^{extra} = ", text, re.MULTILINE), words
    if words[0] not in MAIN:
        return
    main = MAIN[words[0]]
    serves = words[1:2] in (["serve-demo"], ["annotate"]) or (
        words[:2] == ["unetres-edge", "web"] and "--out" not in words
    )
    if serves or not run:
        with only_parsing(patch), pytest.raises(_Parsed):
            main(words[1:])
        return
    words = small(words)
    if "--out" in words and words[1] in ("train", "distil", "quantize", "prune", "cluster", "export"):
        out = Path(words[words.index("--out") + 1])
        for made in (out, out.with_suffix(".receipt.json"), out.with_suffix(".receipt.html")):
            shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)
    assert main(words[1:]) == 0, words


def run_page(page: Path, folder: Path, patch: pytest.MonkeyPatch, *, long: bool) -> None:
    patch.chdir(folder)
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.language == "yaml" and block.title and Path(block.title).parent.is_dir():
            Path(block.title).write_text(block.text)
    for block in blocks(page):
        run = block.mark == "" or (long and block.mark == "long")
        if block.language == "sh":
            for words in commands(block):
                slow = any(word in SLOW for word in words)
                run_command(words, patch, run=run and (long or not slow))
        elif block.language == "python":
            code = compile(block.text, f"{page.name}", "exec")
            if run and page.name != "README.md" and (long or "resume" not in block.text):
                exec(code, names)
        elif block.language == "json":
            assert Card.from_json(block.text).class_names


QUICK = ("docs/index.md", "docs/tasks/own-model.md", "docs/tasks/engines.md")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize(
    "page", [pytest.param(p, id=name_of(p), marks=() if name_of(p) in QUICK else pytest.mark.slow) for p in PAGES]
)
def test_the_code_of_a_page_runs(page: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(prepared, tmp_path / "docs")
    run_page(page, folder, monkeypatch, long=False)


@pytest.mark.long
@pytest.mark.parametrize("page", [p for p in PAGES if "```" in p.read_text()], ids=name_of)
def test_what_takes_long_runs_too(page: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(prepared, tmp_path / "docs")
    run_page(page, folder, monkeypatch, long=True)


def test_the_python_of_the_front_page_of_the_runtime_runs(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(prepared)
    found = [block for block in blocks(ROOT / "edge" / "README.md") if block.language == "python"]
    assert found
    names: dict[str, Any] = {}
    for block in found:
        exec(compile(block.text, "edge/README.md", "exec"), names)
    assert names["result"].class_map.shape == (64, 64)


def test_marks_say_why_and_languages_are_known() -> None:
    every = [(name_of(page), block) for page in PAGES for block in blocks(page)]
    assert sum(page.read_text().count("\n```") for page in PAGES) == 2 * len(every)
    for page, block in every:
        assert block.language in LANGUAGES, page
        assert not block.mark or len(block.reason) > 5, page
    left_out = [f"{page}: {block.reason}" for page, block in every if block.mark == "not run"]
    print("not run:", *left_out, sep="\n  ")
    assert len(left_out) <= len(every) / 4


def test_a_misspelt_option_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_command(["unetres", "train", "mydata", "--out", "run", "--epoch-s", "3"], monkeypatch, run=False)
    assert "--epoch-s" in capsys.readouterr().err


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        other = (page.parent / file).resolve() if file else page
        assert other.exists(), target
        if "." not in anchor:  # those of names in the API are made by mkdocstrings; `make docs` checks them
            assert not anchor or anchor in anchors(other), target
