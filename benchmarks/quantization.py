"""What each way of making a file smaller costs on real data: mIoU, size, time; figures to results/quantization.json.

    python benchmarks/real_data.py --runs FOLDER
    python benchmarks/quantization.py --runs FOLDER [NAME ...] [--steps 150] [--only-times]

Takes the runs that benchmarks/real_data.py has left in FOLDER. The same held-out images are scored for every form. Each
training behind "QAT" and "pruned" has so many steps, at a tenth of the run's rate and below. A row tells the loss in
points of mIoU against the float network, negative where it gains; "fake_quantization" the share of the pixels that have
in the file the label that the trained Keras network gives them. At the end all files segment the same image in turn, on
one thread: "ms" is the median of each. That is worth something where nothing else runs: `--only-times` makes the files
again, with a step of training at most and no scoring, and measures it alone, for sets that have rows already. For that,
a run of one epoch with the same settings will do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _data import DATA
from real_data import ROOT, SETS, machine, unetres

from unetres_edge.files import make_folder, write_json

ROUNDS = 7
RECIPES = ("float32", "float16", "dynamic_wi8_afp32", "weight_only_wi8_afp32", "dynamic_wi4_afp32", "static_wi8_ai8")
INT8 = "static_wi8_ai8"


def main() -> None:
    """Make and score the files of every run that is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*SETS, []], help="data sets (all)")
    parser.add_argument("--runs", type=Path, required=True, help="where benchmarks/real_data.py left its runs")
    parser.add_argument("--steps", type=int, default=150, help="of each training")
    parser.add_argument("--only-times", action="store_true", help="measure milliseconds; all else stays as it is")
    options = parser.parse_args()
    results = make_folder(ROOT / "benchmarks" / "results") / "quantization.json"
    kept = json.loads(results.read_text()) if results.is_file() else {"steps": {}, "sets": {}}
    sets, steps = kept["sets"], kept["steps"]
    for name in options.names or SETS:
        run = options.runs / name.replace(", ", "_").replace(" ", "_")
        if not (run / "weights.safetensors").is_file():
            print(f"{name}: left out, there is no run {run}")
            continue
        if options.only_times and name not in sets:
            print(f"{name}: left out, it has no rows yet; run without --only-times first")
            continue
        with tempfile.TemporaryDirectory() as folder:
            if options.only_times:
                for title, row in compare(run, str(DATA / SETS[name][0]), Path(folder), 1, score=False).items():
                    sets[name][title] |= row
            else:
                sets[name] = compare(run, str(DATA / SETS[name][0]), Path(folder), options.steps)
                steps[name] = options.steps
        write_json(results, {"machine": machine(), "steps": steps, "sets": sets})
    for name, rows in sets.items():
        print(name)
        for title, row in rows.items():
            kb, drop, ms = row.get("kb", ""), row.get("drop_points", 0), row.get("ms", "")
            print(f"  {title:28} {row['miou']:.4f} {drop:+7.3f} points {kb:>8} kB {ms:>8} ms")


def compare(run: Path, data: str, folder: Path, steps: int, *, score: bool = True) -> dict[str, Any]:
    """Return a row for every form of a run; without `score` of milliseconds alone."""
    from keras_unetres.runs import RunFolder

    info = RunFolder(run).read_info()
    assert info.plan is not None
    per_epoch, rate = info.plan.steps_per_epoch, info.plan.learning_rate
    epochs = max(1, round(steps / per_epoch))
    rows: dict[str, Any] = {"Keras": scored(run, data) if score else {}}
    files: dict[str, Path] = {}

    def add(title: str, model: Path, recipe: str) -> Path:
        file = files[title] = folder / f"{len(rows)}.tflite"
        unetres("export", model, "--out", file, "--recipe", recipe, "--no-gate", "--allow-disagreement")
        rows[title] = {}
        if score:
            rows[title] = {**scored(file, data), "kb": kilobytes(file), "deflated_kb": deflated(file)}
            rows[title]["drop_points"] = round(100 * (rows["Keras"]["miou"] - rows[title]["miou"]), 3)
        return file

    for recipe in RECIPES:
        add(recipe, run, recipe)
    begin = [*(["--epochs", epochs] if score else ["--minutes", 0.02]), "--learning-rate", rate / 20]
    for title, more in (
        ("QAT native", []),
        ("QAT native, ranges by mse", ["--ranges", "mse"]),
        ("QAT tfmot", ["--engine", "tfmot"]),
    ):
        made = folder / title.replace(" ", "_").replace(",", "")
        unetres("quantize", run, "--out", made, *begin, *more)
        file = add(title, made, INT8)
        if score:
            rows[title]["fake_quantization"] = agreement(made, file, data)
    begin[-1] = rate / 10
    for title, command in (("pruned 50 %", ["prune", "--sparsity", 0.5]), ("clustered, 16 values", ["cluster"])):
        made = folder / command[0]
        unetres(*command, run, "--out", made, *begin)
        add(title, made, INT8)
        if command[0] == "prune":
            unetres("quantize", made, "--out", folder / "pruned_aware", *begin[:-1], rate / 20, "--keep-zeros")
            add("pruned 50 %, QAT native", folder / "pruned_aware", INT8)
    for title, milliseconds in in_turn(files, run, data).items():
        rows[title]["ms"] = milliseconds
    return rows


def in_turn(files: dict[str, Path], run: Path, data: str) -> dict[str, float]:
    """Return the median milliseconds in which each file segments the first image of the test part, on one thread."""
    from keras_unetres.tasks.loading import open_segmenter
    from keras_unetres.tasks.reading import read_for
    from unetres_edge import Segmenter

    with open_segmenter(run) as trained:
        image = next(iter(read_for(trained.card, data, "test"))).image
    found: dict[str, list[float]] = {title: [] for title in files}
    for _ in range(ROUNDS + 1):
        for title, file in files.items():
            with Segmenter(file, num_threads=1) as segmenter:
                segmenter.segment(image)
                start = time.perf_counter()
                segmenter.segment(image)
                found[title].append(1e3 * (time.perf_counter() - start))
    return {title: round(statistics.median(times[1:]), 1) for title, times in found.items()}


def agreement(run: Path, file: Path, data: str) -> dict[str, float]:
    """Return the share of pixels with the label of the Keras network, of all and of those ahead by two output steps."""
    from keras_unetres.tasks.loading import open_segmenter
    from keras_unetres.tasks.reading import read_for
    from unetres_edge import Segmenter

    same, clear_same, clear = [], 0, 0
    with open_segmenter(run) as trained, Segmenter(file) as device:
        step = device.engine.codec.step  # type: ignore[union-attr]
        for record in read_for(trained.card, data, "test"):
            expected = trained.segment(record.image, scores=True)
            found = device.segment(record.image)
            equal = expected.class_map == found.class_map
            best = np.sort(expected.scores, -1)
            ahead = best[..., -1] - best[..., -2] >= 2 * step
            same.append(equal.mean())
            clear_same, clear = clear_same + int((equal & ahead).sum()), clear + int(ahead.sum())
    return {"labels_equal": float(np.mean(same)), "labels_equal_where_clear": clear_same / max(1, clear)}


def scored(model: Path, data: str) -> dict[str, Any]:
    """Return the scores of the test part."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scores.json"
        unetres("evaluate", model, data, "--json", file)
        found = json.loads(file.read_text())
    return {"miou": found["miou"], "per_class_iou": found["per_class_iou"]}


def kilobytes(file: Path) -> float:
    """Return the size of a file in kB."""
    return round(file.stat().st_size / 1000, 1)


def deflated(file: Path) -> float:
    """Return what is left of a file in a zip, kB."""
    from keras_unetres.quantization.tfmot.prune import deflated_size

    return round(deflated_size(file) / 1000, 1)


if __name__ == "__main__":
    main()
