"""What measured statistics of BatchNormalization change, epoch by epoch; figures to results/norm_statistics.json.

    python benchmarks/norm_statistics.py [--epochs N]

One training on dsb2018, the nuclei of two kinds, as `unetres train dsb2018 --masks instances --epochs N` plans it. Each
validation is made twice: by the moving averages, and by statistics measured over training crops, which is what counts.
The training itself is the same either way. The seconds of each are beside them, and those of the epochs.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras
from _command import given_command
from _data import DATA, left_out
from real_data import ROOT, machine

import keras_unetres.training.trainer as trainer
from keras_unetres.settings import TrainSettings
from keras_unetres.training.training_data import TrainingData
from keras_unetres.workflows.train import train
from unetres_edge.files import make_folder, write_json

RESULTS = ROOT / "benchmarks" / "results" / "norm_statistics.json"


def main() -> None:
    """Train, and write each epoch's scores."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12, help="of the training (12)")
    options = parser.parse_args()
    if not (DATA / "dsb2018").is_dir():
        print(left_out("dsb2018"))
        return
    rows: list[dict[str, Any]] = []
    trainer._statistics = _noted(trainer._statistics, rows)
    settings = TrainSettings.from_flat({"masks_are": "instances", "epochs": options.epochs})
    with tempfile.TemporaryDirectory() as folder:
        train(DATA / "dsb2018", Path(folder) / "run", settings)
    write_json(
        make_folder(RESULTS.parent) / RESULTS.name,
        {"command": given_command(), "machine": machine(), "validations": rows},
    )
    for row in rows:
        print(f"moving {row['moving']:.4f}  measured {row['measured']:.4f}  {row['measuring_seconds']:.1f} s")


def _noted(
    usual: Callable[..., Callable[[], AbstractContextManager[None]]], rows: list[dict[str, Any]]
) -> Callable[..., Callable[[], AbstractContextManager[None]]]:
    """Return what makes the context of a validation, and validates by the moving averages before it."""

    def make(trained: keras.Model, data: TrainingData) -> Callable[[], AbstractContextManager[None]]:
        measured, validation = usual(trained, data), data.validation_batches()
        monitor = data.task.monitor.removeprefix("val_")

        def score() -> float:
            return round(float(trained.evaluate(validation, verbose=0, return_dict=True)[monitor]), 4)

        @contextlib.contextmanager
        def both() -> Iterator[None]:
            row = {"moving": score()}
            begun = time.perf_counter()
            with measured():
                seconds = round(time.perf_counter() - begun, 2)
                rows.append(row | {"measured": score(), "measuring_seconds": seconds})
                yield

        return both

    return make


if __name__ == "__main__":
    main()
