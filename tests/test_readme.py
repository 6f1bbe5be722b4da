"""The README says what is so: its Python runs, and its figures are those of the files that commands wrote."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

import keras_unetres
from keras_unetres.workflows.demo import table

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_python_form_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = README[README.index("## Python") : README.index("## Networks")]
    first, *others = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(first, "README.md", "exec"), names)
    areas = capsys.readouterr().out.strip().splitlines()[-1]
    assert re.fullmatch(r"\{'background': \d+, 'cell': \d+\}", areas)
    assert sum(map(int, re.findall(r"\d+", areas))) == 256 * 256
    assert (tmp_path / "cells.tflite").stat().st_size > 10_000
    before = (tmp_path / "cells.tflite").read_bytes()
    assert len(others) == 1
    exec(compile(others[0], "README.md", "exec"), names)
    assert (tmp_path / "cells.tflite").read_bytes() != before


def test_the_demo_table_is_that_of_the_file() -> None:
    summary = json.loads((ROOT / "docs" / "demo_summary.json").read_text())
    assert "\n".join(table(summary)) in README


def test_the_figures_of_real_data_are_those_of_the_file() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "real_data.json").read_text())["sets"]
    for name, row in results.items():
        line = next(line for line in README.splitlines() if line.startswith(f"| {name} "))
        for form in ("keras", "float32", "int8"):
            assert f"{row[form]['miou']:.3f}" in line, (name, form)


def test_the_networks_are_those_of_the_file() -> None:
    rows = {row["name"]: row for row in json.loads((ROOT / "docs" / "models.json").read_text())}
    section = README[README.index("## Networks") : README.index("## On the device")]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if " px | " in line]
    assert len(lines) > 9
    for name, size, parameters, multiply_adds, field, clean in lines:
        row = rows[name]
        assert size == "{} x {}".format(*row["size"])
        assert parameters == f"{row['parameters'] / 1e6:.2f} M"
        assert multiply_adds == f"{row['multiply_adds'] / 1e9:.2f} G"
        assert field == f"{row['receptive_field']} px"
        assert clean == ("no" if row["not_int8"] else "yes")


def test_the_figures_of_the_residual_claim_are_those_of_the_file() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "residual_claim.json").read_text())
    for row in result["networks"].values():
        kind = "plain" if row["variant"] == "plain" else "residual"
        line = next(line for line in README.splitlines() if line.startswith(f"| {kind}, {row['depth']} layers |"))
        _, norm, loss, accuracy = line.strip("| ").split(" | ")
        assert float(norm) == pytest.approx(row["gradient_norm"][0], rel=0.01)
        assert loss == f"{row['train_loss'][-1]:.3f}"
        assert accuracy == f"{100 * row['test_accuracy'][-1]:.1f} %"
    assert result["settings"]["epochs"] == 12
    growth = {kind: _median(result, kind, 110) / _median(result, kind, 20) for kind in ("plain", "v1")}
    assert "a factor of about a million (`at_start`), against nine" in README
    assert 0.7e6 < growth["plain"] < 1.4e6
    assert round(growth["v1"]) == 9


def _median(result: dict, variant: str, depth: int) -> float:
    return statistics.median(result["at_start"][f"{variant}_{depth}"])


def test_the_builders_shown_build() -> None:
    section = README[README.index("## Networks") :]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code is not None
    lines = [line for line in code[1].splitlines() if line.startswith("ku.")]
    assert len(lines) >= 6
    for line in lines:
        model = eval(line.split("  #")[0], {"ku": keras_unetres})
        if 'padding="valid"' in line:
            assert model.output_shape == (None, 388, 388, 2)


def test_every_link_to_a_file_leads_somewhere() -> None:
    for page in (README, (ROOT / "CONTRIBUTING.md").read_text(), (ROOT / "SECURITY.md").read_text()):
        for target in re.findall(r"\]\(([^)#:]+)\)", page):
            assert (ROOT / target).exists(), target


def test_the_crops_a_second_are_those_of_the_file() -> None:
    sets = json.loads((ROOT / "benchmarks" / "results" / "augmentation.json").read_text())["sets"]
    section = README[README.index("**Augmentation**") : README.index("How images meet the network")]
    grey, colour = (sets[name]["crops_per_second"] for name in ("isbi2012", "camvid"))
    rows = {
        "keras-unetres": "ours",
        "albumentations, two processes, elastic": "albumentations, elastic",
        "albumentations, two processes, elastic, approximate": "albumentations, elastic, approximate",
        "Keras' preprocessing layers, batched": "keras, batched",
    }
    for title, key in rows.items():
        assert f"| {title} | {grey[key]:.0f} | {colour[key]:.0f} |" in section
    other = "albumentations, grid distortion"
    assert f"({grey[other]:.0f} and {colour[other]:.0f})" in section
