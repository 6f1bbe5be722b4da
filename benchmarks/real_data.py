"""Train, export and score on the real data sets, by the commands a user would type; figures to results/real_data.json.

    python benchmarks/real_data.py [NAME ...] [--scale 1.0]

Reads the data sets below the folder that UNETRES_DATA names (default ../shared/data). A set that is not there is left
out, and says so. Each row holds the commands, the scores of the held-out part for the Keras model, the float32 and
the int8 file, and the drop of int8 in points of mIoU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from unetres_edge.files import make_folder, write_json

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("UNETRES_DATA", ROOT.parent / "shared" / "data"))
SETS: dict[str, tuple[float, str]] = {
    "isbi2012": (20, "--filters 16 --per-image 1 99 --learning-rate 0.002 --val-from 19.png --test-from 2[0-3].png"),
    "dsb2018": (10, "--filters 16 --per-image 1 99 --learning-rate 0.002 --masks instances --augment microscopy"),
    "camvid": (10, "--filters 16 --learning-rate 0.002 --ignore 11 --fit resize"),
}


def main() -> None:
    """Run the sets named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*SETS, []], help="data sets (all)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the minutes of training")
    parser.add_argument("--runs", type=Path, help="keep the run folders here")
    options = parser.parse_args()
    results = make_folder(ROOT / "benchmarks" / "results") / "real_data.json"
    rows = json.loads(results.read_text())["sets"] if results.is_file() else {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.names or SETS:
            if not (DATA / name).is_dir():
                print(f"{name}: left out, there is no {DATA / name}")
                continue
            rows[name] = run_set(name, make_folder(options.runs or temporary), options.scale)
            write_json(results, {"machine": machine(), "sets": rows})
    for name, row in rows.items():
        scores = "  ".join(f"{form} {row[form]['miou']:.4f}" for form in ("keras", "float32", "int8"))
        print(f"{name:10} {scores}  int8 drop {row['int8_drop_points']:+.3f} points")


def run_set(name: str, folder: Path, scale: float) -> dict[str, Any]:
    """Train on one set and score every form of the model on its held-out part."""
    minutes, settings = SETS[name]
    data, run = str(DATA / name), str(folder / name)
    train = ["train", data, "--out", run, "--overwrite", "--minutes", f"{minutes * scale:g}", *shlex.split(settings)]
    unetres(*train)
    row: dict[str, Any] = {"command": "unetres " + shlex.join(["train", name, *train[2:3], "RUN", *train[5:]])}
    forms = {"keras": run}
    for form, recipe in (("float32", "float32"), ("int8", "static_wi8_ai8")):
        forms[form] = f"{run}_{form}.tflite"
        unetres("export", run, "--out", forms[form], "--recipe", recipe, "--no-gate", "--overwrite")
    for form, model in forms.items():
        scores = f"{run}_{form}.json"
        unetres("evaluate", model, data, "--json", scores)
        row[form] = {k: v for k, v in json.loads(Path(scores).read_text()).items() if k not in ("model", "split")}
        if form != "keras":
            row[form]["kb"] = round(Path(model).stat().st_size / 1000, 1)
    row["int8_drop_points"] = round(100 * (row["keras"]["miou"] - row["int8"]["miou"]), 3)
    row["steps"] = json.loads((Path(run) / "run.json").read_text())["plan"]
    return row


def unetres(*arguments: str) -> None:
    """Run one `unetres` command, its output passed on; stop where it fails."""
    print("$ unetres " + shlex.join(arguments), flush=True)
    subprocess.run([sys.executable, "-m", "keras_unetres.cli", *arguments], check=True)


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}


if __name__ == "__main__":
    main()
