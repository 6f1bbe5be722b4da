"""`unetres quantize`: from a run to a run that computes as its int8 file does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_unetres.models.fake_quant import is_quantization_aware
from keras_unetres.runs import Compilation, Compression, RunFolder
from keras_unetres.tasks.keras_engine import KerasEngine
from keras_unetres.tasks.loading import load_run
from keras_unetres.workflows.evaluate import evaluate
from keras_unetres.workflows.export import export
from keras_unetres.workflows.quantize import quantize
from keras_unetres.workflows.train import resume
from unetres_edge import Segmenter
from unetres_edge.errors import ExistsError, RunFolderError, UsageError

pytestmark = pytest.mark.usefixtures("without_xla")


def silent(line: str) -> None:
    """Print nothing."""


@pytest.fixture(scope="module")
def aware(
    run_folder: Path, tmp_path_factory: pytest.TempPathFactory, without_xla: None
) -> tuple[Path, dict[str, Any], list[str]]:
    """A run made of another by two epochs, what `quantize` returned, and what it said."""
    out, said = tmp_path_factory.mktemp("aware") / "run", []
    return out, quantize(run_folder, out, epochs=2, learning_rate=1e-3, say=said.append), said


def test_the_new_run_is_rebuilt_with_fake_quantization(aware: Any, run_folder: Path) -> None:
    out, done, said = aware
    info = RunFolder(out).read_info()
    assert info.compress == (Compression("quantize_aware", "native", "minmax", keep_zeros=False),)
    assert info.compilation == Compilation("float32", True)
    assert info.model == RunFolder(run_folder).read_info().model
    loaded = load_run(out)
    assert is_quantization_aware(loaded.model)
    assert loaded.card.halo == load_run(run_folder).card.halo
    assert done["epochs"] == 2
    assert any(line.startswith("start") for line in said)
    assert (out / "report.html").is_file()


def test_what_is_kept_is_at_least_as_good_as_quantization_without_training(aware: Any) -> None:
    _, done, said = aware
    start = float(next(line for line in said if line.startswith("start")).split()[2].rstrip(","))
    assert done["best_miou"] >= start - 5e-5  # as it was printed


@pytest.mark.slow
def test_its_file_computes_what_it_computes(aware: Any, cells: Path, tmp_path: Path) -> None:
    out = aware[0]
    export(out, tmp_path / "m.tflite", recipe="static_wi8_ai8", gate=False, say=silent)
    loaded = load_run(out)
    engine = KerasEngine(loaded.model, loaded.card.preprocessing)
    images = np.random.default_rng(0).integers(0, 256, (4, *loaded.card.preprocessing.size, 1), np.uint8)
    with Segmenter(tmp_path / "m.tflite") as file:
        pairs = [(engine.run(image), file.segment(image, scores=True).scores) for image in images]
    expected, found = (np.stack(scores) for scores in zip(*pairs, strict=True))
    assert (expected.argmax(-1) == found.argmax(-1)).all()
    step = np.ptp(expected) / 200
    assert (np.abs(expected - found) < step / 2).all()
    scores = [evaluate(model, cells, say=silent)["miou"] for model in (out, tmp_path / "m.tflite")]
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_it_goes_on_from_its_checkpoint_to_the_same_end(aware: Any, run_folder: Path, tmp_path: Path) -> None:
    class Enough(Exception):
        """Stop here."""

    def stop_after_the_first_epoch(line: str) -> None:
        if line.startswith("epoch") and "1/2" in line:
            raise Enough

    out = tmp_path / "run"
    with pytest.raises(Enough):
        quantize(run_folder, out, epochs=2, learning_rate=1e-3, say=stop_after_the_first_epoch)
    resume(out, say=silent)
    for file in ("weights.safetensors", "history.csv"):
        assert (out / file).read_bytes() == (aware[0] / file).read_bytes()


@pytest.mark.slow
def test_by_tfmot_it_comes_back_in_the_same_form(run_folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    done = quantize(
        run_folder, tmp_path / "run", engine="tfmot", epochs=1, learning_rate=1e-3, ranges="mse", say=said.append
    )
    assert RunFolder(tmp_path / "run").read_info().compress[0].engine == "tfmot"
    loaded = load_run(tmp_path / "run")
    assert is_quantization_aware(loaded.model)
    assert 0 < done["best_miou"] <= 1
    assert (tmp_path / "run" / "history.csv").read_text().count("\n") == 2
    start = float(next(line for line in said if line.startswith("start")).split()[2].rstrip(","))
    assert done["best_miou"] >= start - 5e-5


def test_what_cannot_be_quantized_is_refused_before_anything_is_written(
    aware: Any, run_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(RunFolderError, match="quantized already"):
        quantize(aware[0], out, say=silent)
    with pytest.raises(UsageError, match="engine is unknown"):
        quantize(run_folder, out, engine="none", say=silent)
    with pytest.raises(UsageError, match="range estimator is unknown"):
        quantize(run_folder, out, ranges="none", epochs=1, say=silent)
    with pytest.raises(UsageError, match="over itself"):
        quantize(run_folder, run_folder, overwrite=True, say=silent)
    with pytest.raises(ExistsError):
        quantize(run_folder, aware[0], say=silent)
    assert not out.exists()


def test_a_run_that_was_stopped_before_it_began_says_so(aware: Any, tmp_path: Path) -> None:
    out = shutil.copytree(aware[0], tmp_path / "run")
    (out / "checkpoints" / "last.safetensors").unlink()
    with pytest.raises(RunFolderError, match="stopped before it began"):
        resume(out, say=silent)
