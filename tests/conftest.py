"""What several files of tests share, each made once: drawn cells, a run trained on them, and files exported from it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

LONGEST = (
    "test_networks_export.py",
    "test_notebooks.py",
    "test_fit.py",
    "test_kills.py",
    "test_quantize.py",
    "test_distribution.py",
    "test_train_data.py",
    "test_mixed.py",
    "test_gate.py",
    "test_networks.py",
    "test_weights.py",
    "test_readme.py",
    "test_docs.py",
    "test_fake_quant.py",
    "test_pipeline.py",
    "test_workflows.py",
)

TINY = {"size": 32, "filters": 4, "depth": 2, "batch": 8, "epochs": 3, "dropout": 0.1, "learning_rate": 0.01, "seed": 3}


def pytest_configure(config: pytest.Config) -> None:
    """Let XLA optimise little and compile a graph once, for all the processes of a run of the quick tests.

    A training of a few steps spends its time in the compiler. The long tests run what users run.
    """
    if "not long" not in config.option.markexpr or "XLA_FLAGS" in os.environ or "TF_XLA_FLAGS" in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="unetres-xla-")
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={folder}"
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the files that take longest first, so that no worker is left alone with one at the end."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def silent(line: str) -> None:
    """Take a line for the user and print nothing."""


@pytest.fixture
def real_converter() -> Iterator[None]:
    """Start the converter's process anew: it is what the test is about."""
    from keras_unetres.tflite import converter_process

    converter_process.end()
    yield
    converter_process.end()


@pytest.fixture(scope="module")
def without_xla() -> Iterator[None]:
    """Train without XLA, where a test is about something else: to compile a step takes longer than all steps."""
    from keras_unetres.training import fit

    compile_model = fit.compile_model

    def compile_quickly(*given: Any, xla: bool = False, **named: Any) -> None:
        compile_model(*given, xla=False, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "compile_model", compile_quickly)
        yield


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 8 drawn pictures of 64 x 64: 6 to train on, 1 to validate on, 1 to test on."""
    from keras_unetres.data.synthetic import write_cells

    return write_cells(tmp_path_factory.mktemp("data") / "cells", num_images=8, size=(64, 64))


@pytest.fixture(scope="session")
def trained(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run folder trained for 3 epochs, and what `train` returned. Copy the folder before changing it."""
    from keras_unetres.settings import TrainOptions
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
    export(run_folder, path, recipe="float32", gate=False, say=silent)
    return path


@pytest.fixture(scope="session")
def int8_file(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as an int8 .tflite with logits."""
    from keras_unetres.workflows.export import export

    path = tmp_path_factory.mktemp("int8") / "cells_int8.tflite"
    export(run_folder, path, recipe="static_wi8_ai8", gate=False, say=silent)
    return path
