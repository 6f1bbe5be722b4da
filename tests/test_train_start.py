"""A run that begins with the weights of another."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, silent

from keras_unetres.data.synthetic import write_cells
from keras_unetres.runs import RunFolder
from keras_unetres.settings import TrainSettings
from keras_unetres.workflows.train import resume, train
from unetres_edge.errors import UsageError

STILL = TINY | {"epochs": 1, "learning_rate": 1e-9, "warmup": 0, "norm_statistics": "moving"}


def kernels(run: Path) -> dict[str, np.ndarray]:
    weights = RunFolder(run).read_weights()
    return {name: value for name, value in weights.items() if name.endswith("kernel")}


@pytest.mark.slow
def test_a_run_begins_with_the_weights_of_another(tmp_path: Path, run_folder: Path, without_xla: None) -> None:
    data = write_cells(tmp_path / "more", num_images=9, size=(64, 64), seed=5)
    options = TrainSettings.from_flat({name: value for name, value in STILL.items() if name not in NETWORK})
    train(data, tmp_path / "run", options, start=run_folder, say=silent)
    before, after = kernels(run_folder), kernels(tmp_path / "run")
    assert set(before) == set(after) and len(before) > 4
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=0, atol=1e-5)
    assert RunFolder(tmp_path / "run").read_info().source == str(run_folder)
    # Stopped before its first checkpoint, it still begins there.
    (tmp_path / "again").mkdir()
    for name in ("run.json", "calibration.npz"):
        shutil.copy(tmp_path / "run" / name, tmp_path / "again" / name)
    resume(tmp_path / "again", say=silent)
    for name, value in kernels(tmp_path / "again").items():
        assert (value == after[name]).all()


NETWORK = ("size", "filters", "depth", "dropout")


@pytest.mark.slow
def test_a_run_of_other_classes_or_another_network_is_refused(tmp_path: Path, run_folder: Path, cells: Path) -> None:
    with pytest.raises(UsageError, match="the network is that of --start"):
        train(cells, tmp_path / "run", TrainSettings.from_flat({"filters": 8}), start=run_folder, say=silent)
    other = shutil.copytree(cells, tmp_path / "cells")
    (other / "classes.txt").write_text("background\nblob\n")
    for file in other.glob("dataset.yaml"):
        file.unlink()
    options = TrainSettings.from_flat({"plan": False, "epochs": 1})
    with pytest.raises(UsageError, match="other classes; expected .*cell.*found .*blob"):
        train(other, tmp_path / "run", options, start=run_folder, say=silent)
    assert not (tmp_path / "run").exists()
