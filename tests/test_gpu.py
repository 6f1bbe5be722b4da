"""Training on a GPU, where TensorFlow sees one: the network learns, and its file gives its labels.

Without a GPU these are skipped; `test_compilation.py` has the choice of precision and of memory, and
`test_distribution.py` two devices of a CPU.
"""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY, silent

from keras_unetres.settings import TrainSettings
from keras_unetres.tasks.loading import load_run
from keras_unetres.training.compilation import find_processor
from keras_unetres.workflows.evaluate import evaluate
from keras_unetres.workflows.export import export
from keras_unetres.workflows.train import train

pytestmark = [pytest.mark.gpu, pytest.mark.slow]


@pytest.fixture(autouse=True)
def gpu() -> None:
    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("needs a GPU that TensorFlow sees: tf.config.list_physical_devices('GPU') is empty here")


def test_its_memory_is_taken_as_it_is_needed() -> None:
    assert find_processor().kind == "gpu"
    for device in tf.config.list_physical_devices("GPU"):
        assert tf.config.experimental.get_memory_growth(device)


@pytest.mark.parametrize(
    ("precision", "policy"),
    [("auto", "mixed_float16"), ("float32", "float32"), ("bfloat16", "mixed_bfloat16")],
)
def test_a_network_learns_in_every_precision(precision: str, policy: str, cells: Path, tmp_path: Path) -> None:
    settings = TrainSettings.from_flat({**TINY, "epochs": 20, "precision": precision})
    told = train(cells, tmp_path / "run", settings, say=silent)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["compilation"]["precision"] == policy
    assert told["best_miou"] > 0.6
    loaded = load_run(tmp_path / "run")
    assert {weight.dtype for weight in loaded.model.weights} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"
    receipt = export(tmp_path / "run", tmp_path / "m.tflite", recipe="float32", gate=False, say=silent)
    assert receipt.file.agreement is not None and receipt.file.agreement > 0.999
    scores = evaluate(tmp_path / "m.tflite", cells, split="all", say=silent)
    assert np.isfinite(scores["miou"])
