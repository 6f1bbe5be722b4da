"""This package: the bare planned command, and the int8 file that it exports."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from _job import kilobytes, read_job, report

from unetres_edge import Segmenter

job = read_job()


def unetres(*words: object) -> None:
    """Run one command, and stop where it fails."""
    subprocess.run([sys.executable, "-m", "keras_unetres.cli", *map(str, words)], check=True)


def write_own_maps(model: Path, form: str) -> None:
    """Write the class map of each picture by `unetres predict`."""
    unetres("predict", model, job.pictures, "--out", job.out / form)


run, file = job.out / "run", job.out / "int8.tflite"
settings = ["--minutes", f"{job.minutes:g}", "--seed", str(job.seed)]
begun = time.perf_counter()
unetres("train", job.data, "--out", run, *settings)
seconds = round(time.perf_counter() - begun, 1)
unetres("export", run, "--out", file, "--no-gate", "--allow-disagreement")
write_own_maps(run, "float")
write_own_maps(file, "int8")
with Segmenter(file, num_threads=job.threads) as segmenter:
    ms = job.milliseconds(lambda image: segmenter.segment(image.squeeze()))
told = json.loads((run / "run.json").read_text())
start = ", from ImageNet weights" if told["settings"]["network"]["weights"] == "imagenet" else ""
report(
    job,
    ("keras-unetres", "keras", "tensorflow"),
    seconds=seconds,
    steps=told["plan"]["epochs"] * told["plan"]["steps_per_epoch"],
    parameters=None,
    settings=shlex.join(["unetres", "train", "DATA", "--out", "RUN", *settings]) + start,
    files=[{"form": "int8", "kind": "LiteRT int8", "int8": True, "kb": kilobytes(file), "ms": ms}],
)
