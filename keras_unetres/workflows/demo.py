"""`unetres demo`: the whole path on pictures made here, ending in a table and pictures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge import Segmenter
from unetres_edge.errors import ExistsError, ModelError
from unetres_edge.files import make_folder, write_bytes, write_json
from unetres_edge.images.decode import read_mask
from unetres_edge.results import draw
from unetres_edge.segment.files import predict_files

from ..pages.pictures import sample_sheet
from ..scores import score
from ..scores.confusion import Confusion
from ..settings import DemoSettings, FitSettings, NetworkSettings, TrainSettings
from ..tasks.loading import open_segmenter
from ..tasks.reading import read_for
from .export import export
from .train import train

if TYPE_CHECKING:
    from ..data import Records

_TRAINED, _VALIDATION, _TEST = 64, 12, 24
_DRAWN = 2
_MARK = ".unetres-demo"


def demo(
    out: str | os.PathLike[str] = DemoSettings.out,
    *,
    epochs: int = DemoSettings.epochs,
    seed: int = DemoSettings.seed,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Make pictures of cells, train, export, score every form of the model on the same held-out pictures.

    Args:
        out: folder to write; an earlier demo's folder is replaced.
        epochs: passes over the pictures; a fixed number, so that the figures are the same on every run of a machine.
        seed: of pictures and training.

    Returns:
        What is written to `summary.json`: "keras", "float32", "int8" and "edge", each with "miou", "kb" and "ms".

    Raises:
        ExistsError: the folder exists and was not made by a demo.
    """
    from ..data.synthetic import write_cells

    start = time.perf_counter()
    folder = Path(out)
    if folder.exists():
        if not (folder / _MARK).is_file():
            raise ExistsError("the folder exists and is not a demo's", file=folder, fix="choose another --out")
        shutil.rmtree(folder)
    make_folder(folder)
    write_bytes(folder / _MARK, b"")
    say("1/5  pictures of touching cells")
    for first, count, part in ((0, _TRAINED, "train"), (1000, _VALIDATION, "val"), (2000, _TEST, "test")):
        write_cells(folder / "cells" / part, num_images=count, seed=seed, first=first)
    shutil.copy(folder / "cells" / "train" / "classes.txt", folder / "cells" / "classes.txt")
    say(f"2/5  training, {epochs} epochs")
    network = NetworkSettings(size=128, filters=16, depth=3)
    options = TrainSettings(network, FitSettings(batch=8, epochs=epochs, seed=seed))
    train(folder / "cells", folder / "run", options, say=lambda line: say("     " + line))
    say("3/5  export")
    files = {"float32": folder / "model_float32.tflite", "int8": folder / "model_int8.tflite"}
    for name, recipe in (("float32", "float32"), ("int8", "static_wi8_ai8")):
        scored = name == "int8"  # beside Keras and the float32 file
        export(folder / "run", files[name], recipe=recipe, gate=scored, say=lambda line: say("     " + line))
    say(f"4/5  scoring on {_TEST} held-out pictures")
    summary = _score_all(folder, files)
    write_json(folder / "summary.json", summary)
    say("5/5  pictures")
    overlay, predicted = _draw(folder, files)
    say("")
    for line in table(summary):
        say(line)
    say("")
    say(f"overlay    {overlay}")
    say(f"prediction {predicted}")
    say(f"model      {files['int8']}")
    say(f"summary    {folder / 'summary.json'}   ({(time.perf_counter() - start) / 60:.1f} min)")
    return summary


def table(summary: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the lines of the table that ends a demo."""
    reference = summary["keras"]["miou"]
    lines = [f"{'':10}{'mIoU':>8}{'vs Keras':>10}{'kB':>8}{'ms/image':>10}"]
    for name, scores in summary.items():
        drop = 100 * (scores["miou"] - reference)
        lines.append(f"{name:10}{scores['miou']:>8.4f}{drop:>+10.2f}{scores['kb']:>8.0f}{scores['ms']:>10.1f}")
    return lines


def _score_all(folder: Path, files: Mapping[str, Path]) -> dict[str, dict[str, float]]:
    """Score the Keras model, both files by the evaluation's reader, and the int8 file by the device's own reader."""
    weights = folder / "run" / "weights.safetensors"
    forms = {"keras": (folder / "run", weights), "float32": (files["float32"],) * 2, "int8": (files["int8"],) * 2}
    summary = {}
    for name, (model, file) in forms.items():
        with open_segmenter(model) as segmenter:
            records = read_for(segmenter.card, folder / "cells", "test")
            pairs = ((record.image, record.mask) for record in records)
            scores = score(segmenter, pairs, name=name, total=len(records))
        summary[name] = _row(scores["miou"], file, scores["ms_per_image"])
    summary["edge"] = _score_device(folder, files["int8"], records)
    return summary


def _row(miou: float, file: Path, ms: float) -> dict[str, float]:
    return {"miou": miou, "kb": round(file.stat().st_size / 1000, 1), "ms": ms}


def _score_device(folder: Path, model: Path, records: Records) -> dict[str, float]:
    """Run `unetres-edge predict` as a process, score what it wrote, and compare it with `unetres predict`."""
    images, out = folder / "cells" / "test" / "images", folder / "predictions"
    command = [sys.executable, "-m", "unetres_edge.cli", "predict", str(model), str(images), "--out", str(out)]
    done = subprocess.run(
        [*command, "--json", str(out) + ".json"], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise ModelError(f"unetres-edge predict failed: {done.stderr.strip()}", file=model)
    status = {row["image"]: row for row in json.loads(Path(str(out) + ".json").read_text())["images"]}
    confusion = Confusion.empty(len(records.classes.names))
    equal = pixels = 0
    with Segmenter(model) as segmenter:
        for record in records:
            class_map = read_mask(out / f"{Path(record.name).stem}.png")
            confusion += Confusion.of(record.mask, class_map, len(records.classes.names))
            equal += int((segmenter.segment(record.image).class_map == class_map).sum())
            pixels += record.mask.size
    times = [status[str(sample.image.file)]["ms"]["total"] for sample in records.samples]
    row = _row(confusion.mean_iou() or 0.0, model, float(np.median(times)))
    return {**row, "labels_as_predict": equal / pixels}


def _draw(folder: Path, files: Mapping[str, Path]) -> tuple[Path, Path]:
    """Write `overlay.png` (image, truth, Keras, float32, int8) and one prediction with its overlay."""
    segmenters = {
        "Keras": open_segmenter(folder / "run"),
        "float32 .tflite": Segmenter(files["float32"]),
        "int8 .tflite": Segmenter(files["int8"]),
    }
    records = read_for(segmenters["Keras"].card, folder / "cells", "test")
    drawn = [records[index] for index in range(_DRAWN)]
    rows = [sample_sheet(record.image, record.mask, segmenters) for record in drawn]
    overlay = folder / "overlay.png"
    write_bytes(overlay, draw.encode_png(draw.stack(rows)))
    image = records.samples[0].image.file
    predict_files(segmenters["int8 .tflite"], [image], folder, overlay=True)
    return overlay, folder / f"{image.stem}.png"
