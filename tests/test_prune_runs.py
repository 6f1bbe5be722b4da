"""`unetres prune` and `unetres cluster`: from a run to a run whose kernels have many zeros, or few values."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keras_unetres as ku
from keras_unetres.quantization.tfmot.prune import choose_layers, kernels_by_layer
from keras_unetres.runs import Compression, RunFolder
from keras_unetres.tasks.loading import load_run
from unetres_edge.errors import ExistsError, RunFolderError, UsageError

pytestmark = pytest.mark.usefixtures("without_xla")
QUICK: dict[str, Any] = {"epochs": 2, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def pruned(run_folder: Path, tmp_path_factory: pytest.TempPathFactory, without_xla: None) -> tuple[Path, list[str]]:
    """A run with three quarters of its weights 0, and what was said while it was made."""
    out, said = tmp_path_factory.mktemp("pruned") / "run", []
    done = ku.prune(run_folder, out, sparsity=0.75, **QUICK, say=said.append)
    assert done["run"] == str(out) and done["epochs"] == 2
    return out, said


@pytest.mark.slow
def test_three_quarters_of_each_kernel_are_zero_and_no_more(pruned: tuple[Path, list[str]]) -> None:
    model = load_run(pruned[0]).model
    kernels, chosen = kernels_by_layer(model), choose_layers(model)
    for name in chosen:
        assert np.mean(kernels[name] == 0) == pytest.approx(0.75, abs=1 / kernels[name].size), name
    assert all(np.mean(kernel == 0) < 0.01 for name, kernel in kernels.items() if name not in chosen)
    assert model.layers[-1].name not in chosen


@pytest.mark.slow
def test_the_run_says_how_it_was_made_and_its_source_is_as_it_was(
    pruned: tuple[Path, list[str]], run_folder: Path
) -> None:
    info, before = RunFolder(pruned[0]).read_info(), RunFolder(run_folder).read_info()
    assert info.compress == (Compression("prune", "tfmot", sparsity=0.75),)
    assert not info.quantized and before.compress == ()
    assert info.source == str(run_folder)
    assert (info.model, info.data, info.preprocessing) == (before.model, before.data, before.preprocessing)
    assert max(np.mean(kernel == 0) for kernel in kernels_by_layer(load_run(run_folder).model).values()) < 0.01
    assert (pruned[0] / "report.html").is_file()


@pytest.mark.slow
def test_what_is_kept_is_an_epoch_after_the_zeros_had_come(pruned: tuple[Path, list[str]]) -> None:
    kept = next(line for line in pruned[1] if line.startswith("best"))
    assert "(epoch 2)" in kept  # the zeros come in the first two thirds of the steps
    assert not any(line.startswith("start") for line in pruned[1])


@pytest.mark.slow
def test_quantization_takes_the_zeros_along(pruned: tuple[Path, list[str]], tmp_path: Path) -> None:
    ku.quantize(pruned[0], tmp_path / "q", epochs=1, keep_zeros=True, say=lambda line: None)
    info = RunFolder(tmp_path / "q").read_info()
    assert [step.step for step in info.compress] == ["prune", "quantize_aware"]
    before = load_run(pruned[0]).model
    after = load_run(tmp_path / "q").model
    for name in choose_layers(before):
        kernel, kept = np.asarray(after.get_layer(name).kernel), np.asarray(after.get_layer(name).kept)
        assert ((kernel * kept == 0) >= (np.asarray(before.get_layer(name).kernel) == 0)).all(), name


@pytest.mark.slow
def test_each_kernel_has_as_many_values_as_asked_for(run_folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    done = ku.cluster(run_folder, tmp_path / "c", clusters=8, epochs=1, learning_rate=1e-3, say=said.append)
    model = load_run(tmp_path / "c").model
    kernels = kernels_by_layer(model)
    for name in choose_layers(model):
        assert 2 <= len(np.unique(kernels[name])) <= 8, name
    assert RunFolder(tmp_path / "c").read_info().compress == (Compression("cluster", "tfmot", clusters=8),)
    start = float(next(line for line in said if line.startswith("start")).split()[2].rstrip(","))
    assert done["best_miou"] >= start - 5e-5  # as it was printed


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"sparsity": 1.5}, "sparsity cannot be used"),
        ({"layers": ["nothing"]}, "layer 'nothing' cannot be pruned or clustered"),
    ],
)
def test_what_cannot_be_pruned_is_refused_before_anything_is_written(
    given: dict[str, Any], match: str, run_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=match):
        ku.prune(run_folder, tmp_path / "p", **given, say=lambda line: None)
    assert not (tmp_path / "p").exists()


def test_too_few_clusters_and_taken_places_are_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="clusters cannot be used"):
        ku.cluster(run_folder, tmp_path / "c", clusters=1, say=lambda line: None)
    with pytest.raises(UsageError, match="over itself"):
        ku.cluster(run_folder, run_folder, overwrite=True, say=lambda line: None)
    shutil.copytree(run_folder, tmp_path / "taken")
    with pytest.raises(ExistsError):
        ku.prune(run_folder, tmp_path / "taken", say=lambda line: None)


@pytest.mark.slow
def test_a_pruned_run_is_not_resumed(pruned: tuple[Path, list[str]]) -> None:
    weights = (pruned[0] / "weights.safetensors").read_bytes()
    with pytest.raises(RunFolderError, match="cannot be resumed"):
        ku.resume(pruned[0], say=lambda line: None)
    assert (pruned[0] / "weights.safetensors").read_bytes() == weights
