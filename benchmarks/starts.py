"""What a start changes where few images are labelled: from noise, from `shapes` and from `nuclei`, at equal steps.

    python benchmarks/starts.py [--sets isbi2012 dsb2018 cells] [--images 5 10 20] [--seeds N] [--steps N]

For each set and number of images: U-Net of 8 filters, crops of 128 px, what else the plan decides. The images are drawn
from a part that no start has seen: of dsb2018 from the fifth that `nuclei` was not trained on. Four more images, one of
isbi2012, choose the epoch; scores are of others again. Rows that are in results/starts.json already stay; the plot is
docs/tasks/starts.svg.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from _command import given_command
from _data import DATA, left_out
from real_data import ROOT, machine

from keras_unetres.data import Reading, open_dataset
from keras_unetres.data.synthetic import write_cells
from keras_unetres.settings import TrainSettings
from keras_unetres.workflows.train import train
from unetres_edge.files import make_folder, write_bytes, write_json

RESULTS = ROOT / "benchmarks" / "results" / "starts.json"
PLOT = ROOT / "docs" / "tasks" / "starts.svg"
STARTS = ("none", "shapes", "nuclei")
TESTED, CHOOSING = 12, 4  # images, where there are enough
SIZE, BATCH = 128, 4
SETS: dict[str, dict[str, Any]] = {
    "isbi2012": {},
    "dsb2018": {"masks_are": "instances"},
    "cells": {"masks_are": "instances"},
}


def main() -> None:
    """Train every row that is not there yet, and write what each reached."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="data sets (all)")
    parser.add_argument("--images", nargs="+", type=int, default=[5, 10, 20], help="images to train on (5 10 20)")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, from 0 (1)")
    parser.add_argument("--steps", type=int, default=150, help="of each training, about (150)")
    options = parser.parse_args()
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.is_file() else []
    asked = [(seed, name, count) for seed in range(options.seeds) for count in options.images for name in options.sets]
    with tempfile.TemporaryDirectory() as scratch:
        for seed, name, count in asked:
            if name != "cells" and not (DATA / name).is_dir():
                print(left_out(name))
                continue
            for start in STARTS:
                key = {"set": name, "images": count, "seed": seed, "start": start}
                if any(key.items() <= row.items() for row in rows):
                    continue
                rows.append({**key, **trained(name, count, seed, start, options.steps, Path(scratch))})
                print(rows[-1], flush=True)
                found = {"command": given_command(), "machine": machine(), "rows": rows}
                write_json(make_folder(RESULTS.parent) / RESULTS.name, found)
    draw(rows)


def trained(name: str, count: int, seed: int, start: str, steps: int, scratch: Path) -> dict[str, Any]:
    """Train one network, and return its steps and scores."""
    data = prepared(name, count, seed, scratch / f"{name}_{count}_{seed}")
    crops = sum(size_of(path) for path in (data / "train" / "images").iterdir()) / SIZE**2
    a_pass = -(-max(count, round(crops)) // BATCH)
    given = {"weights": start, "filters": 8, "size": SIZE, "fit": "crop", "batch": BATCH, "seed": seed}
    given |= {"epochs": max(1, round(steps / a_pass))}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        told = train(data, run, TrainSettings.from_flat({**given, **SETS[name]}), say=lambda line: None)
        report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert report["split"] == "test"
    return {"steps": told["steps"], "test_images": report["num_images"], "test_miou": round(report["miou"], 4)}


def prepared(name: str, count: int, seed: int, folder: Path) -> Path:
    """Write the images of a training, drawn by a seed, as a data set with parts of its own, and return its folder."""
    if folder.is_dir():
        return folder
    pairs = pool(name, folder.parent)
    order = np.random.default_rng([seed, 28]).permutation(len(pairs))
    choosing, tested = (1, 3) if name == "isbi2012" else (CHOOSING, TESTED)
    # Slices of isbi2012 that follow each other are alike: the last ones are held out, not random ones.
    held = np.arange(len(pairs)) if name == "isbi2012" else np.random.default_rng(28).permutation(len(pairs))
    held = held[-choosing - tested :]
    drawn = [place for place in order if place not in set(held.tolist())][:count]
    parts = {"train": drawn, "val": held[:choosing], "test": held[choosing:]}
    for part, places in parts.items():
        images, masks = make_folder(folder / part / "images"), make_folder(folder / part / "masks")
        for place in places:
            image, mask = pairs[int(place)]
            write_bytes(images / image.name, image.read_bytes())
            write_bytes(masks / image.name, mask.read_bytes())
    return folder


def pool(name: str, scratch: Path) -> list[tuple[Path, Path]]:
    """Return (image, mask) of the images of a set that no start has seen."""
    if name == "cells":
        folder = scratch / "cells"
        if not folder.is_dir():
            write_cells(folder, num_images=20 + CHOOSING + TESTED, seed=28)
        return [(path, folder / "instances" / path.name) for path in sorted((folder / "images").iterdir())]
    folder = DATA / name
    names = {path.stem for path in (folder / "images").iterdir()}
    if name == "dsb2018":
        unseen = open_dataset(folder, Reading(masks_are="instances", fold=(1, 5))).split("test")
        names = {Path(sample.name).stem for sample in unseen}
    files = [folder / "images" / f"{each}.png" for each in sorted(names)]
    return [(path, next((folder / "masks").glob(f"{path.stem}.*"))) for path in files]


def size_of(image: Path) -> int:
    """Return the pixels of an image."""
    from PIL import Image

    with Image.open(image) as opened:
        return opened.width * opened.height


def draw(rows: list[dict[str, Any]]) -> None:
    """Draw the scores of all rows over the number of images."""
    from matplotlib import pyplot as plt

    names = [name for name in SETS if any(row["set"] == name for row in rows)]
    figure, axes = plt.subplots(1, len(names), figsize=(3.4 * len(names), 3), squeeze=False)
    for name, each in zip(names, axes[0], strict=True):
        for start, color in zip(STARTS, ("#90a4ae", "#ef6c00", "#00796b"), strict=True):
            of_start = [row for row in rows if row["set"] == name and row["start"] == start]
            counts = sorted({row["images"] for row in of_start})
            points = [[row["test_miou"] for row in of_start if row["images"] == count] for count in counts]
            label = "from noise" if start == "none" else f"from {start}"
            each.plot(counts, [np.mean(values) for values in points], "o-", color=color, label=label)
        every = sorted({row["images"] for row in rows if row["set"] == name})
        each.set(title=name, xlabel="training images", xticks=every)
    axes[0, 0].set_ylabel("mIoU of held-out images")
    axes[0, -1].legend(frameon=False)
    figure.tight_layout()
    with io.BytesIO() as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
        write_bytes(PLOT, file.getvalue())


if __name__ == "__main__":
    main()
