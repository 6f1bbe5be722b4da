"""Train, export and score on the real data sets, by the commands a user would type; figures to results/real_data.json.

    python benchmarks/real_data.py [NAME ...] [--runs FOLDER]

Reads the data sets below the folder that UNETRES_DATA names. A set that is not there is left out, and says so.
A run that is finished in FOLDER is scored, not trained again; one that is not is gone on with. The epochs are what half
an hour on the two cores of a slow machine allows.

Each row holds the command, the scores of the held-out part for the Keras model, the float32 and the int8 file, and the
drop of int8 in points of mIoU. Of isbi2012 also V_rand and V_info at the best of 19 thresholds of the membrane's
probability, with borders thinned as the challenge does and without; of dsb2018 the objects, by watershed and as what
hangs together.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _data import DATA, left_out

from unetres_edge.engines.pool import available_cores
from unetres_edge.files import make_folder, write_json

ROOT = Path(__file__).resolve().parent.parent
COMMON = "--filters 16 --learning-rate 0.002 --ema 0.99"
NUCLEI = f"{COMMON} --per-image 1 99 --masks instances --target separated --augment microscopy"
SETS: dict[str, tuple[str, str]] = {
    "isbi2012": (
        "isbi2012",
        f"--epochs 50 --batch 2 {COMMON} --per-image 1 99 --val-from 19.png --test-from '2[0-3].png'",
    ),
    "dsb2018, border weights": ("dsb2018", f"--epochs 12 --batch 8 {NUCLEI} --border-weight"),
    "dsb2018": ("dsb2018", f"--epochs 12 --batch 8 {NUCLEI}"),
    "dsb2018, border weights, batches of 2": ("dsb2018", f"--epochs 12 --batch 2 {NUCLEI} --border-weight"),
    "dsb2018, batches of 2": ("dsb2018", f"--epochs 12 --batch 2 {NUCLEI}"),
    "camvid": ("camvid", f"--epochs 40 --batch 2 {COMMON} --ignore 11 --fit resize"),
}
OBJECTS = {"watershed": [], "connected": ["--no-split"]}
CELL = 255  # of the masks of isbi2012


def main() -> None:
    """Run the sets named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*SETS, []], help="data sets (all)")
    parser.add_argument("--runs", type=Path, help="keep the run folders here")
    options = parser.parse_args()
    results = make_folder(ROOT / "benchmarks" / "results") / "real_data.json"
    rows = json.loads(results.read_text())["sets"] if results.is_file() else {}
    rows = {name: row for name, row in rows.items() if name in SETS}
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.names or SETS:
            if not (DATA / SETS[name][0]).is_dir():
                print(left_out(name))
                continue
            rows[name] = run_set(name, make_folder(options.runs or temporary))
            write_json(results, {"machine": machine(), "sets": rows})
    for name, row in rows.items():
        scores = "  ".join(f"{form} {row[form]['miou']:.4f}" for form in ("keras", "float32", "int8"))
        print(f"{name:24} {scores}  int8 drop {row['int8_drop_points']:+.3f} points")


def run_set(name: str, folder: Path) -> dict[str, Any]:
    """Train on one set and score every form of the model on its held-out part."""
    source, settings = SETS[name]
    data, run = str(DATA / source), folder / name.replace(", ", "_").replace(" ", "_")
    train_run(data, run, shlex.split(settings))
    row: dict[str, Any] = {"command": f"unetres train {source} --out RUN {settings}"}
    forms = {"keras": str(run)}
    for form, recipe in (("float32", "float32"), ("int8", "static_wi8_ai8")):
        forms[form] = f"{run}_{form}.tflite"
        unetres(
            "export", run, "--out", forms[form], "--recipe", recipe, "--no-gate", "--allow-disagreement", "--overwrite"
        )
    for form, model in forms.items():
        row[form] = scored(model, data)
        if form != "keras":
            row[form]["kb"] = round(Path(model).stat().st_size / 1000, 1)
        if source == "isbi2012":
            row[form]["partitions"] = partitions(model, data)
        if source == "dsb2018":
            row[form]["objects"] = {
                how: scored(model, data, "--instances", *more)["instances"] for how, more in OBJECTS.items()
            }
    row["int8_drop_points"] = round(100 * (row["keras"]["miou"] - row["int8"]["miou"]), 3)
    row["steps"] = json.loads((run / "run.json").read_text())["plan"]
    return row


def train_run(data: str, run: Path, settings: list[str]) -> None:
    """Train a run folder, or go on with it; nothing is done to one that is finished."""
    started = (run / "run.json").is_file()
    unetres("train", *(["--resume", run] if started else [data, "--out", run, *settings]))


def scored(model: str, data: str, *options: str) -> dict[str, Any]:
    """Return what `unetres evaluate` says of the test part."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scores.json"
        unetres("evaluate", model, data, "--json", file, *options)
        return {k: v for k, v in json.loads(file.read_text()).items() if k not in ("model", "split")}


def partitions(model: str, data: str) -> dict[str, Any]:
    """Return V_rand and V_info of the membrane map of a model, with borders thinned and as they are."""
    from dataclasses import asdict

    from scipy import ndimage

    from keras_unetres.scores.partitions import best_over_thresholds
    from keras_unetres.tasks.loading import open_segmenter
    from keras_unetres.tasks.reading import read_for

    def maps() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for record in read_for(segmenter.card, data, "test"):
            scores = segmenter.segment(record.image, scores=True).scores
            assert scores is not None
            cell = segmenter.card.class_names.index(str(CELL))
            truth = ndimage.label(record.mask == cell)[0]
            yield 1 / (1 + np.exp(scores[..., cell] - scores[..., 1 - cell])), truth

    with open_segmenter(model) as segmenter:
        pairs = list(maps())
    return {
        name: asdict(best_over_thresholds(pairs, thin=thin)) for name, thin in (("thinned", True), ("as is", False))
    }


def unetres(*arguments: object) -> None:
    """Run one `unetres` command, its output passed on; stop where it fails."""
    words = list(map(str, arguments))
    print("$ unetres " + shlex.join(words), flush=True)
    subprocess.run([sys.executable, "-m", "keras_unetres.cli", *words], check=True)


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {"processor": platform.machine(), "cores": available_cores(), "python": platform.python_version()}


if __name__ == "__main__":
    main()
