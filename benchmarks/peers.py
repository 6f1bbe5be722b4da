"""This package beside what a user would take instead: the same pictures and minutes; figures to results/peers.json.

    python benchmarks/peers.py --environments FOLDER [SET ...] [--tools TOOL ...] [--minutes M ...] [--seeds N]
        [--runs FOLDER]
    python benchmarks/peers.py --page

Each tool has an environment below the folder, made from the package index where it is not there yet; one that cannot be
made, or a run that fails, is left out, and the reason is printed and kept. The parts of a set are made once and are the
same for all; no tool is given the masks of the test part. A tool trains for the minutes by its script in
benchmarks/peers/, with the settings of its makers, and writes class maps as PNG, by its network and by each file that
its own export makes; they are all scored here, by one confusion count. A row takes the place of the row of the same
set, tool, minutes and seed. Sets that are not below the folder that UNETRES_DATA names are left out; "cells" are drawn.
--page writes docs/peers.md of the figures that are there. Nothing else should run beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _command import given_command
from _data import left_out
from _peers_page import write_page
from PIL import Image
from plan import drawn, stored
from real_data import ROOT, machine

from keras_unetres.data import Record, open_dataset, read_records
from keras_unetres.scores.confusion import Confusion
from unetres_edge.engines.pool import available_cores
from unetres_edge.files import make_folder, write_json

RESULTS = ROOT / "benchmarks" / "results" / "peers.json"
SCRIPTS = ROOT / "benchmarks" / "peers"
OURS = "keras-unetres"
_GRACE = 3600  # seconds beyond the minutes, for preparation, export and class maps
_KEY = ("set", "tool", "minutes", "seed")
_TORCH = ("torch==2.13.0", "torchvision==0.28.0")
_ONNX = ("onnx==1.23.2", "onnxscript==0.7.2", "onnxruntime==1.32.0")


class PeerError(Exception):
    """A tool that cannot be installed or run, or that gave something that cannot be scored; the text says why."""


@dataclass(frozen=True)
class Environment:
    """Requirements for pip, and Python that fails where they do not work together (run beside the scripts)."""

    requirements: tuple[str, ...]
    check: str


@dataclass(frozen=True)
class Tool:
    """A script of benchmarks/peers/, its environment (None: that of this package), and what the script is told."""

    script: str
    environment: str | None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Set:
    """A set as every tool is given it.

    Args:
        data: holds train and val, each with images and masks, of objects also instances, and a dataset.yaml.
        pictures: of the test part.
        truth: their masks.
        classes: their names.
        channels: 1 or 3.
        digest: of the pictures and the truth.
    """

    data: Path
    pictures: Path
    truth: Path
    classes: list[str]
    channels: int
    digest: str


ENVIRONMENTS = {
    "smp": Environment(
        (*_TORCH, *_ONNX, "segmentation-models-pytorch==0.6.0"), "import _torch, segmentation_models_pytorch"
    ),
    "monai": Environment((*_TORCH, *_ONNX, "monai==1.6.1"), "import _torch, monai.networks.nets"),
    "nnunet": Environment((*_TORCH, "nnunetv2==2.8.1"), "import _torch, nnunetv2.training.nnUNetTrainer.nnUNetTrainer"),
    "ultralytics": Environment(
        (*_TORCH, "ultralytics==8.4.190", "openvino==2026.4.1", "nncf==3.4.0", "onnx==1.23.2"),
        "import _torch; from ultralytics.models.yolo import semantic",
    ),
    "kuc": Environment(
        ("tensorflow==2.21.0", "keras==3.15.1", "keras-unet-collection==0.1.13", "pillow"),
        "from keras_unet_collection import models; models.unet_2d((64, 64, 1), [4, 8], 2, batch_norm=True)",
    ),
}
TOOLS = {
    OURS: Tool("own.py", None),
    "SMP ResNet-34": Tool("smp_unet.py", "smp", {"encoder": "resnet34"}),
    "SMP MobileNetV2": Tool("smp_unet.py", "smp", {"encoder": "mobilenet_v2"}),
    "nnU-Net": Tool("nnunet_2d.py", "nnunet"),
    "MONAI FlexibleUNet": Tool("monai_unet.py", "monai", {"network": "FlexibleUNet"}),
    "MONAI DynUNet": Tool("monai_unet.py", "monai", {"network": "DynUNet"}),
    "Ultralytics semantic": Tool("ultralytics_semantic.py", "ultralytics"),
    "keras-unet-collection": Tool("keras_collection.py", "kuc"),
}
# name -> where it is, fields of `Reading`
SETS: dict[str, tuple[Any, dict[str, Any]]] = {
    "isbi2012": (stored("isbi2012"), {"val_from": "19.png", "test_from": "2[0-3].png"}),
    "dsb2018": (stored("dsb2018"), {"masks_are": "instances"}),
    "camvid": (stored("camvid"), {"ignore": 11}),
    "cells": (drawn, {}),
}


def main() -> None:
    """Train and score the tools named, or all, on the sets named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "names", nargs="*", choices=[*SETS, []], metavar="SET", help=f"data sets: {', '.join(SETS)} (all)"
    )
    parser.add_argument("--environments", type=Path, metavar="FOLDER", help="of the tools' environments")
    parser.add_argument("--tools", nargs="+", choices=TOOLS, metavar="TOOL", help=f"{', '.join(TOOLS)} (all)")
    parser.add_argument("--minutes", type=float, nargs="+", default=[10.0, 25.0], help="of each training (10 25)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each (1)")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="keep the sets and the runs here")
    parser.add_argument("--page", action="store_true", help="only write docs/peers.md of the figures that are there")
    options = parser.parse_args()
    if not options.page and options.environments is None:
        print("peers: left out; name a folder for the tools' environments with --environments")
        return
    results = read_results(RESULTS)
    if not options.page:
        with tempfile.TemporaryDirectory() as temporary:
            compare(options, make_folder(options.runs or temporary).resolve(), results)
    write_page(results, ROOT / "docs" / "peers.md")


def compare(options: argparse.Namespace, runs: Path, results: dict[str, Any]) -> None:
    """Run what the options ask for; the results are written after each row."""
    tools = options.tools or list(TOOLS)
    pythons = ready_environments(options.environments.resolve(), tools, results)
    for name in options.names or SETS:
        source, reading = SETS[name]
        data = source(runs / "data")
        if data is None:
            print(left_out(name))
            continue
        given = make_set(data, reading, runs / "sets" / name)
        refuse_other_split(results["rows"], name, given.digest)
        for minutes in options.minutes:
            for seed in range(options.seeds):
                for tool in (tool for tool in tools if tool in pythons):
                    key = {"set": name, "tool": tool, "minutes": minutes, "seed": seed}
                    out = runs / "_".join(map(str, key.values())).replace(" ", "_").replace(".0_", "_")
                    try:
                        replace_row(results, key, run_tool(TOOLS[tool], pythons[tool], given, key, out))
                    except PeerError as error:
                        leave_out(results, key, str(error))
                    results |= {"command": given_command(), "machine": machine()}
                    write_json(make_folder(RESULTS.parent) / RESULTS.name, results)


def read_results(file: Path) -> dict[str, Any]:
    """Return what an earlier run found, or nothing yet."""
    return json.loads(file.read_text()) if file.is_file() else {"rows": [], "left_out": []}


def ready_environments(folder: Path, tools: Iterable[str], results: dict[str, Any]) -> dict[str, Path]:
    """Return the Python of each tool that has one; the others are left out."""
    pythons = {}
    for tool in tools:
        name = TOOLS[tool].environment
        try:
            pythons[tool] = (
                Path(sys.executable) if name is None else make_environment(folder / name, ENVIRONMENTS[name])
            )
        except PeerError as error:
            leave_out(results, {"tool": tool}, str(error))
    return pythons


def make_environment(folder: Path, wanted: Environment) -> Path:
    """Make a virtual environment, unless it is there with the same requirements, and return its Python.

    Raises:
        PeerError: pip cannot install them, or what is installed does not work.
    """
    python, marker = folder / "bin" / "python", folder / "requirements.txt"
    told = "\n".join(wanted.requirements) + "\n"
    if marker.is_file() and marker.read_text() == told:
        return python
    print(f"making {folder.name}: {' '.join(wanted.requirements)}", flush=True)
    for words in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", *wanted.requirements],
        [str(python), "-c", wanted.check],
    ):
        done = subprocess.run(words, cwd=SCRIPTS, env=clean_environment(), capture_output=True, text=True)
        if done.returncode:
            raise PeerError(f"its environment cannot be made: {last_error(done.stderr or done.stdout)}")
    marker.write_text(told)
    return python


def make_set(source: Path, reading: Mapping[str, Any], folder: Path) -> Set:
    """Write a set as every tool is given it, unless that was done."""
    marker = folder / "set.json"
    if not marker.is_file():
        dataset = open_dataset(source, changes=dict(reading))
        parts = read_records(dataset, ["train", "val", "test"])
        classes, channels = list(parts["train"].classes.names), max(part.channels for part in parts.values())
        for name, part in parts.items():
            place = folder / ("test" if name == "test" else f"data/{name}")
            for index, record in enumerate(part):
                write_record(record, place, f"{index:04}.png", parted=name != "test")
        declare_set(folder / "data", classes, objects=reading.get("masks_are") == "instances")
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted((folder / "test").rglob("*.png"))))
        write_json(marker, {"classes": classes, "channels": channels, "digest": digest.hexdigest()})
    test = folder / "test"
    return Set(folder / "data", test / "images", test / "masks", **json.loads(marker.read_text()))


def write_record(record: Record, folder: Path, name: str, *, parted: bool) -> None:
    """Write the picture, its class map, and where objects are to be `parted` in training, their numbers, too."""
    arrays = {"images": record.image, "masks": record.mask}
    if parted and record.instances is not None:
        arrays["instances"] = record.instances.astype(np.uint16)
    for kind, array in arrays.items():
        Image.fromarray(array.squeeze()).save(make_folder(folder / kind) / name)


def declare_set(folder: Path, classes: list[str], *, objects: bool) -> None:
    """Write the dataset.yaml (JSON is YAML) by which this package reads the set."""
    masks = {"masks": "instances", "masks_are": "instances"} if objects else {"classes": classes, "ignore": 255}
    (folder / "dataset.yaml").write_text(json.dumps({"splits": {"train": "train", "val": "val"}, **masks}))


def refuse_other_split(rows: list[dict[str, Any]], name: str, digest: str) -> None:
    """Refuse figures of one set that were made on other pictures."""
    if any(row["set"] == name and row["digest"] != digest for row in rows):
        raise SystemExit(
            f"error: {RESULTS.name} has rows of {name} on other test pictures; take them out, or restore the pictures"
        )


def run_tool(tool: Tool, python: Path, given: Set, key: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Train a tool, and score what it wrote.

    Raises:
        PeerError: it failed, or its class maps cannot be scored.
    """
    make_empty(out)
    job = {
        **{name: str(getattr(given, name)) for name in ("data", "pictures")},
        "out": str(out),
        "classes": given.classes,
        "channels": given.channels,
        "minutes": key["minutes"],
        "seed": key["seed"],
        "threads": available_cores(),
        "options": dict(tool.options),
    }
    write_json(out / "job.json", job)
    print(f"{key['set']}, {key['tool']}, {key['minutes']:g} minutes, seed {key['seed']}", flush=True)
    with (out / "log.txt").open("w+") as log:
        words = [str(python), str(SCRIPTS / tool.script), str(out / "job.json")]
        try:
            done = subprocess.run(
                words, cwd=out, env=clean_environment(), stdout=log, stderr=log, timeout=60 * key["minutes"] + _GRACE
            )
        except subprocess.TimeoutExpired:
            raise PeerError(f"had not ended {_GRACE // 60} minutes after its time") from None
        log.seek(0)
        if done.returncode or not (out / "report.json").is_file():
            raise PeerError(f"its script failed: {last_error(log.read())}")
    told = json.loads((out / "report.json").read_text())
    network = score(given.truth, out / "float", given.classes)
    files = [row | {"miou": score(given.truth, out / row["form"], given.classes)["miou"]} for row in told["files"]]
    return {"digest": given.digest, "threads": job["threads"], **network, **told, "files": files}


def score(truth: Path, maps: Path, classes: list[str]) -> dict[str, Any]:
    """Score class maps by one confusion count over all pictures.

    Args:
        truth: folder of PNGs (H, W) uint8, class ids, 255 where not labelled.
        maps: folder of class maps of the same names and sizes.
        classes: names.

    Returns:
        "miou" and "per_class_iou", in which a class that is not in the truth is None.

    Raises:
        PeerError: a map is missing, of another size, or holds something that is no class.
    """
    total = Confusion.empty(len(classes))
    for file in sorted(truth.glob("*.png")):
        mask, place = np.asarray(Image.open(file)), maps / file.name
        if not place.is_file():
            raise PeerError(f"wrote no class map of {file.name} below {maps.name}")
        found = np.asarray(Image.open(place))
        if found.shape != mask.shape:
            raise PeerError(f"its class map {maps.name}/{file.name} is {found.shape}, the picture {mask.shape}")
        if found.max() >= len(classes):
            raise PeerError(f"its class map {maps.name}/{file.name} holds {found.max()}, of {len(classes)} classes")
        total += Confusion.of(mask, found, len(classes))
    scores = total.to_dict(tuple(classes))
    return {name: scores[name] for name in ("miou", "per_class_iou")}


def replace_row(results: dict[str, Any], key: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """Put a row in the place of that of the same key; nothing says any more that its tool is left out of it."""
    results["rows"] = _without(results["rows"], key) + [{**key, **row}]
    for told in (key, {"tool": key["tool"]}):
        results["left_out"] = _without(results["left_out"], told)
    print(f"  mIoU {row['miou']:.4f}  " + "  ".join(f"{f['kind']} {f['miou']:.4f}" for f in row["files"]), flush=True)


def leave_out(results: dict[str, Any], key: Mapping[str, Any], reason: str) -> None:
    """Print and keep why a tool is left out, of one row or, where the key names none, of all."""
    print(f"{', '.join(map(str, key.values()))}: left out; {reason}", flush=True)
    results["left_out"] = _without(results["left_out"], key) + [{**key, "reason": reason}]


def _without(rows: Iterable[dict[str, Any]], key: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [row for row in rows if {name: row[name] for name in _KEY if name in row} != key]


def last_error(text: str) -> str:
    """Return the last line of an output that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["nothing was printed"])[-1][:300]


def clean_environment() -> dict[str, str]:
    """Return the variables of this process without those that lead Python elsewhere."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }


def make_empty(folder: Path) -> None:
    """Make a folder, without what an earlier run left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)


if __name__ == "__main__":
    main()
