"""What several files of tests share, each made once: drawn cells, a run trained on them, and files exported from it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

TINY = {"size": 32, "filters": 4, "depth": 2, "batch": 8, "epochs": 3, "dropout": 0.1, "learning_rate": 0.01, "seed": 3}


def silent(line: str) -> None:
    """Take a line for the user and print nothing."""


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 8 drawn pictures of 64 x 64: 6 to train on, 1 to validate on, 1 to test on."""
    from keras_unetres.data.synthetic import write_cells

    return write_cells(tmp_path_factory.mktemp("data") / "cells", num_images=8, size=(64, 64))


@pytest.fixture(scope="session")
def trained(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run folder trained for 3 epochs, and what `train` returned. Copy the folder before changing it."""
    from keras_unetres.workflows.options import TrainOptions
    from keras_unetres.workflows.train import train

    run = tmp_path_factory.mktemp("trained") / "run"
    return run, train(cells, run, TrainOptions(**TINY), say=silent)


@pytest.fixture(scope="session")
def run_folder(trained: tuple[Path, dict[str, Any]]) -> Path:
    """The run folder alone."""
    return trained[0]


@pytest.fixture(scope="session")
def float32_file(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as a float32 .tflite."""
    from keras_unetres.workflows.export import export

    path = tmp_path_factory.mktemp("float32") / "cells_float32.tflite"
    export(run_folder, path, recipe="float32", say=silent)
    return path


@pytest.fixture(scope="session")
def int8_file(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as an int8 .tflite with logits."""
    from keras_unetres.workflows.export import export

    path = tmp_path_factory.mktemp("int8") / "cells_int8.tflite"
    export(run_folder, path, recipe="static_wi8_ai8", say=silent)
    return path
