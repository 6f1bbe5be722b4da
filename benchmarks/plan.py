"""What a training that decides for itself is worth, beside settings picked by hand; figures to results/plan.json.

    python benchmarks/plan.py [NAME ...] [--minutes M] [--seeds N] [--only planned|picked] [--runs FOLDER]

Each set is trained by the bare command, `unetres train DATA --out RUN --minutes M` and what the labels mean, and by
settings that were picked by hand for it, at equal minutes; the int8 file of each is scored on the part that took no
part in the training. Sets that are not below the folder that UNETRES_DATA names are left out; "cells" are drawn. Two
sets are made of others: the nuclei in three classes by their size, and camvid in four classes. Nothing else should run
beside it: what a training reaches hangs on its steps.
"""

from __future__ import annotations

import argparse
import json
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _command import given_command
from _data import DATA, left_out
from PIL import Image
from real_data import COMMON, NUCLEI, ROOT, machine, scored, unetres

from keras_unetres.data.synthetic import write_cells
from unetres_edge.files import make_folder, write_json

RESULTS = ROOT / "benchmarks" / "results" / "plan.json"
_AREAS = (200, 600)  # px; smaller nuclei are of the first class, larger ones of the third
# camvid's sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist and unlabelled
_FOUR = (0, 1, 1, 2, 2, 1, 1, 1, 3, 3, 3, 255)


def main() -> None:
    """Train and score the sets named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*SETS, []], help="data sets (all)")
    parser.add_argument("--minutes", type=float, default=25.0, help="of each training (25)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each (1)")
    parser.add_argument("--only", choices=("planned", "picked"), help="one of the two")
    parser.add_argument("--runs", type=Path, help="keep the run folders here")
    options = parser.parse_args()
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.is_file() else []
    with tempfile.TemporaryDirectory() as temporary:
        runs = make_folder(options.runs or temporary)
        for name in options.names or SETS:
            source, labels, picked = SETS[name]
            data = source(runs / "data")
            if data is None:
                print(left_out(name))
                continue
            ways = {"planned": "", "picked": f"--no-plan {picked}"}
            for seed in range(options.seeds):
                for way, settings in ways.items():
                    if options.only in (None, way):
                        command = f"{labels} {settings} --minutes {options.minutes:g} --seed {seed}"
                        row = {"set": name, "way": way, "minutes": options.minutes, "seed": seed}
                        run = runs / f"{name}_{way}_{options.minutes:g}_{seed}".replace(" ", "_")
                        rows = [old for old in rows if {key: old.get(key) for key in row} != row]
                        rows.append(row | run_set(data, run, shlex.split(command)))
                        write_json(
                            make_folder(RESULTS.parent) / RESULTS.name,
                            {"command": given_command(), "machine": machine(), "rows": rows},
                        )
    for row in rows:
        print(
            f"{row['set']:20} {row['way']:8} {row['minutes']:4g} min  int8 mIoU {row['int8']:.4f}  "
            f"(network {row['keras']:.4f}, validation {row['validation']:.4f}, {row['filters']} filters, "
            f"{row['steps']} steps)"
        )


def run_set(data: Path, run: Path, settings: list[str]) -> dict[str, Any]:
    """Train, export and score; return the figures."""
    unetres("train", data, "--out", run, "--overwrite", *settings)
    file = run.with_suffix(".tflite")
    unetres("export", run, "--out", file, "--no-gate", "--allow-disagreement", "--overwrite")
    info = json.loads((run / "run.json").read_text())
    int8, network = scored(str(file), str(data)), scored(str(run), str(data))
    history = (run / "history.csv").read_text().splitlines()
    column = history[0].split(",").index("val_miou")
    validation = [float(cells[column]) for cells in (line.split(",") for line in history[1:]) if cells[column]]
    return {
        "command": shlex.join(["unetres", "train", data.name, "--out", "RUN", *settings]),
        "int8": round(int8["miou"], 4),
        "keras": round(network["miou"], 4),
        "validation": round(max(validation), 4),
        "per_class": int8["per_class_iou"],
        "filters": info["model"]["arguments"].get("filters"),
        "steps": info["plan"]["epochs"] * info["plan"]["steps_per_epoch"],
        "compilation": info["compilation"],
    }


def stored(name: str) -> Callable[[Path], Path | None]:
    """Return a function that names a stored set, or returns None where it is not there."""
    return lambda folder: DATA / name if (DATA / name).is_dir() else None


def drawn(folder: Path) -> Path:
    """Draw cells, unless that was done."""
    target = folder / "cells"
    return target if target.is_dir() else write_cells(target, num_images=60, size=(256, 256))


def nuclei_by_size(folder: Path) -> Path | None:
    """Write the nuclei in three classes by their area."""
    return _relabelled(folder / "nuclei_by_size", "dsb2018", _by_size, ("background", "small", "middle", "large"))


def four_classes(folder: Path) -> Path | None:
    """Write camvid in four classes."""
    table = np.array(_FOUR, np.uint8)
    names = ("sky", "upright", "ground", "moving")
    return _relabelled(folder / "camvid_four", "camvid", lambda mask: table[np.minimum(mask, 11)], names)


def _by_size(mask: np.ndarray) -> np.ndarray:
    areas = np.bincount(mask.ravel())
    kinds = 1 + np.digitize(areas, _AREAS).astype(np.uint8)
    kinds[0] = 0
    return kinds[mask]


def _relabelled(
    target: Path, source: str, change: Callable[[np.ndarray], np.ndarray], names: tuple[str, ...]
) -> Path | None:
    origin = DATA / source
    if not origin.is_dir():
        return None
    if target.is_dir():
        return target
    for mask in sorted(origin.rglob("*.png")):
        if not any(part.startswith(("mask", "label")) or part.endswith("annot") for part in mask.parts):
            continue
        place = target / mask.relative_to(origin)
        Image.fromarray(change(np.asarray(Image.open(mask)).astype(np.int64))).save(
            make_folder(place.parent) / mask.name
        )
    for file in origin.rglob("*"):
        if file.is_file() and not (target / file.relative_to(origin)).exists() and file.suffix in (".png", ".jpg"):
            place = target / file.relative_to(origin)
            make_folder(place.parent)
            place.symlink_to(file.resolve())
    (target / "classes.txt").write_text("\n".join(names) + "\n")
    return target


# name -> where it is, what its labels mean, settings picked by hand (benchmarks/real_data.py has those of three)
SETS: dict[str, tuple[Callable[[Path], Path | None], str, str]] = {
    "isbi2012": (
        stored("isbi2012"),
        "--val-from 19.png --test-from '2[0-3].png'",
        f"--batch 2 {COMMON} --per-image 1 99",
    ),
    "dsb2018": (
        stored("dsb2018"),
        "--masks instances",
        f"--batch 8 {NUCLEI.replace('--masks instances ', '')}",
    ),
    "camvid": (stored("camvid"), "--ignore 11", f"--batch 2 {COMMON} --fit resize"),
    "cells": (drawn, "", f"--batch 4 {COMMON} --per-image 1 99"),
    "nuclei by size": (
        nuclei_by_size,
        "",
        f"--batch 8 {COMMON} --per-image 1 99 --augment microscopy",
    ),
    "camvid four": (four_classes, "--ignore 255", f"--batch 2 {COMMON} --fit resize"),
}


if __name__ == "__main__":
    main()
