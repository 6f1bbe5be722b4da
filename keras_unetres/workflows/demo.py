"""`unetres demo`: the whole path on pictures made here, ending in a table and pictures."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unetres_edge import Segmenter
from unetres_edge.errors import ExistsError
from unetres_edge.files import make_folder, read_bytes, write_bytes, write_json
from unetres_edge.results import draw
from unetres_edge.segment.files import predict_files
from unetres_edge.terminal import counted

from ..pages.pictures import sample_sheet
from ..scores.paired import signed
from ..settings import DemoSettings, FitSettings, NetworkSettings, TrainSettings
from ..tasks.loading import open_segmenter
from ..tasks.reading import read_for
from ..verify.receipt import Receipt
from .export import export
from .train import train

_TRAINED, _VALIDATION, _TEST = 64, 12, 24
_DRAWN = 2
_MARK = ".unetres-demo"
_WRITTEN = ("model_float32.*", "model_int8.*", "summary.json", "overlay.png", "cells_*.png")


def demo(
    out: str | os.PathLike[str] = DemoSettings.out,
    *,
    epochs: int = DemoSettings.epochs,
    seed: int = DemoSettings.seed,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Make pictures of cells, train, export, score every form of the model on the same held-out pictures.

    Args:
        out: folder to write; what an earlier demo wrote there is replaced.
        epochs: passes over the pictures; a fixed number, so that the figures are the same on every run of a machine.
        seed: seed of pictures and training.

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
        _clear(folder)
    make_folder(folder)
    write_bytes(folder / _MARK, b"")
    say("1/4  pictures of touching cells")
    for first, count, part in ((0, _TRAINED, "train"), (1000, _VALIDATION, "val"), (2000, _TEST, "test")):
        write_cells(folder / "cells" / part, num_images=count, seed=seed, first=first)
    write_bytes(folder / "cells" / "classes.txt", read_bytes(folder / "cells" / "train" / "classes.txt"))
    say(f"2/4  training, {counted(epochs, 'epoch')}")
    network = NetworkSettings(size=128, filters=16, depth=3)
    # Its figures are to be the same on every processor.
    fit = FitSettings(batch=8, epochs=epochs, seed=seed, precision="float32", compile="xla")
    options = TrainSettings(network, fit)
    train(folder / "cells", folder / "run", options, say=lambda line: say("     " + line))
    say(f"3/4  export, scored on {_TEST} held-out pictures")
    files = {"float32": folder / "model_float32.tflite", "int8": folder / "model_int8.tflite"}
    export(folder / "run", files["float32"], recipe="float32", gate=False, say=lambda line: say("     " + line))
    receipt = export(folder / "run", files["int8"], recipe="static_wi8_ai8", say=lambda line: say("     " + line))
    summary = summarise(receipt, folder / "run" / "weights.safetensors", files)
    write_json(folder / "summary.json", summary)
    say("4/4  pictures")
    overlay, predicted = _draw(folder, files)
    say("")
    for line in table(summary):
        say(line)
    say("")
    say(f"overlay    {overlay}")
    say(f"prediction {predicted}")
    say(f"model      {files['int8']}")
    say(f"summary    {folder / 'summary.json'}   ({(time.perf_counter() - start) / 60:.1f} min)")
    say(f"next       look at it in the browser: unetres serve-demo {shlex.quote(str(files['int8']))}")
    say("           your own pictures: unetres check FOLDER (with images/ and masks/), unetres train FOLDER --out run")
    return summary


def _clear(folder: Path) -> None:
    """Remove what an earlier demo wrote; other files in its folder stay."""
    for name in ("cells", "run", "predictions"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in (path for pattern in _WRITTEN for path in folder.glob(pattern)):
        path.unlink()


def table(summary: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the lines of the table that ends a demo."""
    reference = summary["keras"]["miou"]
    lines = [f"{'':10}{'mIoU':>8}{'vs Keras':>10}{'kB':>8}{'ms/image':>10}"]
    for name, scores in summary.items():
        change = signed(100 * (scores["miou"] - reference))
        lines.append(f"{name:10}{scores['miou']:>8.4f}{change:>10}{scores['kb']:>8.0f}{scores['ms']:>10.1f}")
    return lines


def summarise(receipt: Receipt, weights: Path, files: Mapping[str, Path]) -> dict[str, dict[str, float]]:
    """Return the scores of each form, as the receipt of the int8 file has them, with the sizes of their files.

    Args:
        receipt: receipt of the int8 file.
        weights: file of the Keras model's weights.
        files: "float32" and "int8" -> file.
    """
    titles = ("keras", "float32", "int8", "edge")  # behind them are other engines, where they are installed
    forms = dict(zip(titles, receipt.rows[: len(titles)], strict=True))
    sizes = {"keras": weights, "float32": files["float32"], "int8": files["int8"], "edge": files["int8"]}
    summary = {}
    for name, row in forms.items():
        assert row.score is not None and row.ms is not None
        kb = round(sizes[name].stat().st_size / 1000, 1)
        summary[name] = {"miou": row.score, "kb": kb, "ms": round(row.ms, 3)}
    assert forms["edge"].labels_as_file is not None
    summary["edge"]["labels_as_predict"] = forms["edge"].labels_as_file
    return summary


def _draw(folder: Path, files: Mapping[str, Path]) -> tuple[Path, Path]:
    """Write `overlay.png` (image, truth, Keras, float32, int8), all predictions, and one of them with its overlay."""
    segmenters = {
        "Keras": open_segmenter(folder / "run"),
        "float32 .tflite": Segmenter(files["float32"]),
        "int8 .tflite": Segmenter(files["int8"]),
    }
    records = read_for(segmenters["Keras"].card, folder / "cells", "test")
    card = segmenters["Keras"].card
    rows = []
    for record in (records[index] for index in range(_DRAWN)):
        maps = {title: segmenter.segment(record.image).class_map for title, segmenter in segmenters.items()}
        rows.append(
            sample_sheet(record.image, record.mask, maps, card.class_colors, background=card.background, show=card.show)
        )
    overlay = folder / "overlay.png"
    write_bytes(overlay, draw.encode_png(draw.stack(rows)))
    predict_files(segmenters["int8 .tflite"], [sample.image.file for sample in records.samples], folder / "predictions")
    image = records.samples[0].image.file
    predict_files(segmenters["int8 .tflite"], [image], folder, overlay=True)
    return overlay, folder / f"{image.stem}.png"
