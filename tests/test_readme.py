"""The README and the guide say what is so: the Python runs, and figures are those of the files that commands wrote."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

import keras_unetres
from keras_unetres.scores.paired import signed
from keras_unetres.workflows.demo import table

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
MEASURED = (ROOT / "docs" / "measured.md").read_text()
NETWORKS = (ROOT / "docs" / "networks.md").read_text()
RESULTS = ROOT / "benchmarks" / "results"


@pytest.mark.slow
def test_the_python_form_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = README[README.index("## Python") : README.index("## On the device")]
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


def test_what_an_installation_takes_is_what_the_file_says() -> None:
    figures = json.loads((RESULTS / "install.json").read_text())
    section = " ".join(README[README.index("## Two commands") : README.index("## Your own pictures")].split())
    both, runtime = figures["both"], figures["runtime"]
    assert f"downloads {both['download_bytes'] / 1e6:.0f} MB" in section
    assert f"take {both['installed_bytes'] / 1e9:.1f} GB on the disk" in section
    assert f"is {runtime['download_bytes'] / 1e6:.0f} MB to download" in section
    assert f"and {runtime['installed_bytes'] / 1e6:.0f} MB installed" in section


def test_what_you_get_is_what_the_files_say() -> None:
    def read(name: str) -> Any:
        return json.loads((RESULTS / f"{name}.json").read_text())

    section = README[README.index("## What you get") : README.index("## Python")]
    sets = read("real_data")["sets"]
    for title, name in (("isbi2012", "isbi2012"), ("camvid", "camvid"), ("dsb2018", "dsb2018, border weights")):
        assert f"{title} {sets[name]['keras']['miou']:.3f} and {sets[name]['int8']['miou']:.3f}" in section
    demo = json.loads((ROOT / "docs" / "demo_summary.json").read_text())
    small, plain, large = re.findall(r"(\d+) kB and ([\d.]+) ms", section)
    assert f"{small[0]}      {small[1]}" in "\n".join(table(demo))
    assert re.search(rf"float32 .* {plain[0]} +{plain[1]}", "\n".join(table(demo)))
    assert re.search(rf"keras .* {large[0]} +{large[1]}", "\n".join(table(demo)))
    integrity = read("edge_integrity")
    assert f"`{integrity['command']}`" in section
    every = integrity["damaged"]["all"]
    refused = every["with the digest"]["refused"]
    assert set(every["with the digest"]) == {"refused"}
    assert f"of {refused:,} damaged files {refused:,} are refused" in section
    assert f"without the digest {every['without']['silently wrong']:,} would" in section
    grey = read("augmentation")["sets"]["isbi2012"]["crops_per_second"]
    assert f"{grey['ours']:.0f} grey crops" in section
    other, approximate = (grey[f"albumentations, elastic{mode}"] for mode in ("", ", approximate"))
    assert f"two processes {other:.0f}, with its approximate mode {approximate:.0f} |" in section
    networks = read("residual_claim")["networks"].values()
    by = {row["variant"] == "plain": row for row in networks if row["depth"] == 56}
    for plain, words in ((False, "with shortcuts"), (True, "without")):
        assert f"{100 * by[plain]['test_accuracy'][-1]:.1f} % {words}" in section


def test_the_figures_of_real_data_are_those_of_the_file() -> None:
    results = json.loads((RESULTS / "real_data.json").read_text())["sets"]
    for name, row in results.items():
        line = next(line for line in MEASURED.splitlines() if line.startswith(f"| {name} |"))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[0] == name
        assert cells[4:7] == [f"{row[form]['miou']:.3f}" for form in ("keras", "float32", "int8")], name


def test_the_figures_beside_another_tool_are_those_of_its_file() -> None:
    rows = json.loads((RESULTS / "peers.json").read_text())["rows"]
    for name in ("isbi2012", "dsb2018", "camvid"):
        ours, other = (
            [row for row in rows if (row["set"], row["tool"], row["minutes"]) == (name, tool, 10)]
            for tool in ("keras-unetres", "SMP ResNet-34")
        )
        file = statistics.fmean(row["files"][0]["miou"] for row in ours)
        network = statistics.fmean(row["miou"] for row in other)
        assert re.search(rf"{name}[^,|]*? {file:.3f} and {network:.3f}", README)


def test_the_objects_are_those_of_the_file() -> None:
    sets = json.loads((RESULTS / "real_data.json").read_text())["sets"]
    whole = sets["isbi2012"]["keras"]["partitions"]["thinned"]
    assert f"V_rand {whole['v_rand']:.3f} and V_info {whole['v_info']:.3f} (borders thinned" in MEASURED
    large, unweighted, small, plain = (
        sets["dsb2018" + name]["keras"]["objects"]
        for name in (", border weights", "", ", border weights, batches of 2", ", batches of 2")
    )
    text = MEASURED.replace("\n", " ")
    assert f"AP@0.5 {large['watershed']['ap50']:.3f} by watershed and {large['connected']['ap50']:.3f} as" in text
    words = " and ".join(f"{unweighted[how]['ap50']:.3f}" for how in ("watershed", "connected"))
    assert f"without border weights {words};" in text
    assert f"{small['watershed']['ap50']:.3f} by watershed, and {plain['watershed']['ap50']:.3f} without" in text


def test_the_figures_of_sparse_paint_are_those_of_the_file() -> None:
    section = MEASURED[MEASURED.index("## Sparse paint") :]
    keys = ("forest", "network_on_paint", "network_on_full_masks")
    for file, how in (("annotate", ""), ("annotate_corrected", ", corrected")):
        results = json.loads((RESULTS / f"{file}.json").read_text())
        assert f"`{results['command']}`" in section
        for name, (row,) in results["sets"].items():  # of one seed
            line = next(line for line in section.splitlines() if line.startswith(f"| {name}{how} |"))
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert cells[1:4] == [str(row["images"]), str(row["strokes"]), f"{row['painted_percent']:.1f} %"]
            assert cells[4:] == [*(f"{row[key]:.3f}" for key in keys), f"{100 * row['share_of_full']:.1f} %"]


def test_the_figures_of_smaller_files_are_those_of_the_file() -> None:
    sets = json.loads((RESULTS / "quantization.json").read_text())["sets"]
    header = next(line for line in MEASURED.splitlines() if line.startswith("| form | "))
    titles = [cell.strip() for cell in header.strip("|").split("|")][1:-2]
    assert titles == list(sets)
    first = sets[titles[0]]
    for name, row in first.items():
        line = next(line for line in MEASURED.splitlines() if line.startswith(f"| {name} | "))
        cells = [cell.strip() for cell in line.strip("|").split("|")][1:]
        for rows, cell in zip(sets.values(), cells, strict=False):
            lost = "" if name == "Keras" else f" ({signed(rows[name]['drop_points'])})"
            assert cell == f"{rows[name]['miou']:.4f}{lost}", name
        assert cells[len(sets) :] == (
            [f"{row['kb']:.0f}", f"{row['deflated_kb']:.0f}"] if name != "Keras" else ["", ""]
        )
    found = [row["fake_quantization"] for rows in sets.values() for row in rows.values() if "fake_quantization" in row]
    slow, quick = (first[form]["ms"] for form in ("float32", "static_wi8_ai8"))
    assert f"takes {slow:.0f} ms in float32 and {quick:.0f} ms in int8" in MEASURED
    equal = min(row["labels_equal"] for row in found)
    assert f"gives {100 * equal:.3f} % of the pixels" in README
    assert f"gives {100 * equal:.3f} % of the pixels" in MEASURED


def test_the_figures_of_the_device_are_those_of_the_files() -> None:
    def read(name: str) -> Any:
        return json.loads((RESULTS / f"{name}.json").read_text())

    found = read("edge_overhead")
    rows = {"unetres_edge, int8": (found["invoke_ms"], found["segment_ms"], found["ratio"])}
    for title, peer in (
        ("MediaPipe Image Segmenter, float32", "mediapipe"),
        ("OpenVINO Model API, int8", "openvino-model-api"),
    ):
        rows[title] = tuple(found["peers"][peer][key] for key in ("bare_ms", "segment_ms", "ratio"))
    for title, (bare, whole, ratio) in rows.items():
        assert f"| {title} | {bare:.1f} | {whole:.1f} | {ratio:.2f} |" in MEASURED
    found = read("edge_engines")
    for name, row in found["engines"].items():
        same = f"{row['labels_equal_percent']:.2f} %"
        assert f"| {name} | {row['ms']:.1f} | {same} | {row['mean_iou']:.4f} |" in MEASURED
    assert found["auto"]["took"] == "litert"
    found = read("edge_large")
    assert found["side"] == 12_000 and found["exact"]["labels_equal_to_quarters"] == 1
    for mode in ("exact", "blend"):
        row = found[mode]
        ratio, grown = row["seconds_over_tiles_x_invoke"], row["anonymous_growth_mb"]
        assert f"| {mode} | {row['tiles']} | {row['seconds']:.0f} | {ratio:.2f} | {grown} MB |" in MEASURED
    text = MEASURED.replace("\n", " ")
    found = read("web")
    times = found["browser_to_python"]
    assert f"first mask comes {found['ms']['first_mask'] / 1000:.1f} s after" in text
    assert (
        f"takes {times['all_cores']:.1f} times as long as in Python on all cores, {times['one_thread']:.1f} times"
        in text
    )
    own, page = (found["gzip_bytes"][part] / 1000 for part in ("own_modules", "own_code"))
    assert f"{own:.1f} kB over the wire, with the page and its style {page:.1f}" in text
    found = read("training_speed")
    ours, best = (found["seconds_per_step"][name] for name in ("ours", found["fastest_peer"]))
    assert (
        f"{ours:.2f} s a step, torch eager at its best {best:.2f} s, {found['peer_over_ours']:.2f} times ours" in text
    )


def test_the_networks_are_those_of_the_file() -> None:
    rows = {row["name"]: row for row in json.loads((ROOT / "keras_unetres" / "models" / "costs.json").read_text())}
    lines = [line.strip("| ").split(" | ") for line in NETWORKS.splitlines() if " px | " in line]
    assert len(lines) > 9
    for name, size, parameters, multiply_adds, field, clean in lines:
        row = rows[name]
        assert size == "{} x {}".format(*row["size"])
        assert parameters == f"{row['parameters'] / 1e6:.2f} M"
        assert multiply_adds == f"{row['multiply_adds'] / 1e9:.2f} G"
        assert field == f"{row['receptive_field']} px"
        assert clean == ("no" if row["not_int8"] else "yes")


def test_the_figures_of_the_residual_claim_are_those_of_the_file() -> None:
    result = json.loads((RESULTS / "residual_claim.json").read_text())
    for row in result["networks"].values():
        kind = "plain" if row["variant"] == "plain" else "residual"
        line = next(line for line in NETWORKS.splitlines() if line.startswith(f"| {kind}, {row['depth']} layers |"))
        _, norm, loss, accuracy = line.strip("| ").split(" | ")
        assert float(norm) == pytest.approx(row["gradient_norm"][0], rel=0.01)
        assert loss == f"{row['train_loss'][-1]:.3f}"
        assert accuracy == f"{100 * row['test_accuracy'][-1]:.1f} %"
    assert result["settings"]["epochs"] == 12
    growth = {kind: _median(result, kind, 110) / _median(result, kind, 20) for kind in ("plain", "v1")}
    assert "a factor of about a million (`at_start`), against nine" in NETWORKS
    assert 0.7e6 < growth["plain"] < 1.4e6
    assert round(growth["v1"]) == 9


def _median(result: dict, variant: str, depth: int) -> float:
    return statistics.median(result["at_start"][f"{variant}_{depth}"])


@pytest.mark.slow
def test_the_builders_shown_build() -> None:
    code = re.search(r"```python\n(.*?)```", NETWORKS, re.DOTALL)
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
    sets = json.loads((RESULTS / "augmentation.json").read_text())["sets"]
    section = MEASURED[MEASURED.index("## Augmentation") :]
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
