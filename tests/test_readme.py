"""The README says what is so: its Python runs, and its figures are those of the files that commands wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from keras_unetres.workflows.demo import table

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_python_form_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path)
    exec(compile(code[1], "README.md", "exec"), {})
    areas = capsys.readouterr().out.strip().splitlines()[-1]
    assert re.fullmatch(r"\{'background': \d+, 'cell': \d+\}", areas)
    assert sum(map(int, re.findall(r"\d+", areas))) == 256 * 256
    assert (tmp_path / "cells.tflite").stat().st_size > 10_000


def test_the_demo_table_is_that_of_the_file() -> None:
    summary = json.loads((ROOT / "docs" / "demo_summary.json").read_text())
    assert "\n".join(table(summary)) in README


def test_the_figures_of_real_data_are_those_of_the_file() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "real_data.json").read_text())["sets"]
    for name, row in results.items():
        line = next(line for line in README.splitlines() if line.startswith(f"| {name} "))
        for form in ("keras", "float32", "int8"):
            assert f"{row[form]['miou']:.3f}" in line, (name, form)


def test_every_link_to_a_file_leads_somewhere() -> None:
    for page in (README, (ROOT / "CONTRIBUTING.md").read_text(), (ROOT / "SECURITY.md").read_text()):
        for target in re.findall(r"\]\(([^)#:]+)\)", page):
            assert (ROOT / target).exists(), target
