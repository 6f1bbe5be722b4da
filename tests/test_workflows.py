"""The workflows: a run that was stopped goes on as if it had not been, and every model is opened by its name."""

from __future__ import annotations

import csv
import json
import math
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import TINY, silent
from PIL import Image
from safetensors.numpy import save as save_tensors

from keras_unetres.cli import main
from keras_unetres.models import build, build_unet
from keras_unetres.runs import RunFolder, Speed
from keras_unetres.settings import FitSettings, NetworkSettings, TrainSettings
from keras_unetres.tasks.loading import load_keras, load_run, open_segmenter, read_keras
from keras_unetres.tflite.inspect import read_ops
from keras_unetres.tflite.seal import add_card
from keras_unetres.training import deadline
from keras_unetres.training import fit as fitting
from keras_unetres.training.callbacks import LearningRate
from keras_unetres.training.schedule import make_plan
from keras_unetres.workflows.augment import augment
from keras_unetres.workflows.check import check
from keras_unetres.workflows.evaluate import evaluate
from keras_unetres.workflows.export import export
from keras_unetres.workflows.report import report
from keras_unetres.workflows.train import resume, train
from unetres_edge import Preprocessing
from unetres_edge.errors import (
    DataError,
    ExistsError,
    FileSystemError,
    ModelError,
    RunFolderError,
    TrainingError,
    UsageError,
    WeightsError,
)
from unetres_edge.files import write_bytes
from unetres_edge.model.card import read_card

PRE = Preprocessing(channels=1, value_range=(-1.0, 1.0), size=(16, 16))


@pytest.fixture
def run_copy(run_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("keras") / "mine.keras"
    build_unet((None, None, 1), 2, filters=2, depth=1).save(path)
    return path


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# -------------------------------------------------------------------------------------------------------- train, resume


def test_a_run_folder_is_complete(trained: tuple[Path, dict[str, Any]], cells: Path) -> None:
    run, told = trained
    assert sorted(path.name for path in run.iterdir()) == [
        "calibration.npz",
        "checkpoints",
        "history.csv",
        "report.html",
        "report.json",
        "run.json",
        "samples",
        "weights.safetensors",
    ]
    validation = json.loads((run / "run.json").read_text())["data"]["splits"]["val"]
    assert sorted(path.name for path in (run / "samples").iterdir()) == [
        "curves.png",
        "epochs",
        *[f"image_{place}_{Path(name).stem}.png" for place, name in enumerate(validation, 1)],
        "progress.png",
    ]
    rows = history(run)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    scores = [float(row["val_miou"]) for row in rows if row["val_miou"]]
    assert told["best_miou"] in scores
    assert told["best_miou"] >= max(scores) - 0.005
    assert (told["run"], told["epochs"], told["steps"]) == (str(run), 3, 9)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    info = RunFolder(run).read_info()
    assert info.train_settings() == TrainSettings.from_flat(TINY)
    assert info.plan == make_plan(3, 0.01, epochs=3, validation_seconds=(1 + 16 / 8) / 3)
    assert info.model.arguments["input_shape"] == [32, 32, 1]
    assert info.classes.names == ("background", "cell")
    assert {name: len(part) for name, part in info.data.splits.items()} == {"train": 6, "val": 1, "test": 1}
    crops = RunFolder(run).read_calibration()
    assert crops.shape == (24, 32, 32, 1)
    parts = [np.array(Image.open(path)) for path in sorted((cells / "images").iterdir())]
    corners = {part[y : y + 32, x : x + 32].tobytes() for part in parts for y in (0, 32) for x in (0, 32)}
    assert {crop.tobytes() for crop in crops} <= corners  # training pictures as they are, nothing drawn at random


@pytest.mark.slow
@pytest.mark.usefixtures("without_xla")
def test_a_budget_becomes_a_plan_that_is_written_down(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "probe_speed", lambda *arguments: (1.0, 2.0))
    monkeypatch.setattr(deadline, "_EARLY", 0.0)  # which a step that takes less would be
    options = TrainSettings(NetworkSettings(size=32, filters=2, depth=1), FitSettings(batch=8, minutes=1.0))
    told = train(cells, tmp_path / "run", options, say=silent)
    info = RunFolder(tmp_path / "run").read_info()
    assert info.speed == Speed(1.0, 2.0)
    assert info.plan is not None
    assert 15 <= info.plan.steps <= 44  # of 60 s, some are gone already
    assert told["steps"] == info.plan.steps
    assert len(history(tmp_path / "run")) == info.plan.epochs


class Stop(keras.callbacks.Callback):
    """The user presses Ctrl-C in the second step of the second epoch."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if int(np.asarray(self.model.optimizer.iterations)) == 5:
            raise KeyboardInterrupt


@pytest.mark.slow  # test_fit.py does it with a network of a few weights
def test_a_stopped_run_goes_on_bit_for_bit(
    run_folder: Path, cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The undisturbed run is the shared one: another network of the same process must not matter either."""
    run = tmp_path / "run"
    said: list[str] = []
    with monkeypatch.context() as patch:
        whole = fitting.fit

        def stopped(model: Any, plan: Any, batches: Any, validation: Any, callbacks: list[Any], **named: Any) -> None:
            whole(model, plan, batches, validation, [*callbacks, Stop()], **named)

        patch.setattr(fitting, "fit", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(cells, run, TrainSettings.from_flat({**TINY, "checkpoint_seconds": 0.0}), say=said.append)
    assert said[-1].endswith(f"unetres train --resume {run}")
    assert not (run / ".lock").exists()
    checkpoint = RunFolder(run).read_checkpoint()
    assert checkpoint is not None
    assert checkpoint[1]["step"] == 5
    said.clear()
    told = resume(run, say=said.append)
    assert any("after step 5 of 9 (epoch 1)" in line for line in said)
    for name in ("weights.safetensors", "history.csv", "calibration.npz", "checkpoints/last.safetensors"):
        assert (run / name).read_bytes() == (run_folder / name).read_bytes(), name
    ended = RunFolder(run_folder).read_checkpoint()
    assert ended is not None
    assert told["best_miou"] == ended[1]["best"]


def test_resuming_a_finished_run_changes_nothing(run_copy: Path, run_folder: Path) -> None:
    told = resume(run_copy, say=silent)
    assert told["epochs"] == 3
    for name in ("weights.safetensors", "history.csv", "run.json", "checkpoints/last.safetensors"):
        assert (run_copy / name).read_bytes() == (run_folder / name).read_bytes(), name


def change_mask(data: Path) -> None:
    path = sorted((data / "masks").iterdir())[0]
    mask = Image.open(path)
    mask.putpixel((0, 0), 1 - mask.getpixel((0, 0)))
    mask.save(path)


def add_image(data: Path) -> None:
    for part in ("images", "masks"):
        shutil.copy(data / part / "cells_0001.png", data / part / "extra.png")


@pytest.mark.parametrize("change", [change_mask, add_image])
def test_a_run_does_not_go_on_with_other_data(
    run_copy: Path, cells: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    data = Path(shutil.copytree(cells, tmp_path / "data"))
    info = json.loads((run_copy / "run.json").read_text())
    info["data"]["path"] = str(data)
    (run_copy / "run.json").write_text(json.dumps(info))
    change(data)
    with pytest.raises(RunFolderError, match="not the one the run was started with.*restore the files"):
        resume(run_copy, say=silent)
    assert not (run_copy / ".lock").exists()


def test_what_cannot_be_resumed_is_named(run_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not a run folder"):
        resume(tmp_path / "none", say=silent)
    checkpoint = run_copy / "checkpoints" / "last.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(RunFolderError, match=r"last\.safetensors: damaged"):
        resume(run_copy, say=silent)


def test_a_run_alone_opens_no_published_weights(run_copy: Path, tmp_path: Path, cells: Path) -> None:
    """Those that a `run.json` names are asked for by name again; others than those are refused."""
    (run_copy / "checkpoints" / "last.safetensors").unlink()
    values = json.loads((run_copy / "run.json").read_text())
    values["settings"]["network"] |= {"encoder": "resnet18", "weights": str(tmp_path / "theirs.h5")}
    (run_copy / "run.json").write_text(json.dumps(values))
    (tmp_path / "theirs.h5").write_bytes(b"not to be opened")
    with pytest.raises(RunFolderError, match="published weights; fix: name them again: --weights .*theirs"):
        resume(run_copy, say=silent)
    assert main(["train", "--resume", str(run_copy), "--weights", str(tmp_path / "ours.h5")]) == 2


def test_a_run_that_another_process_changes_while_it_is_opened_is_named(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = RunFolder(run_copy).read_info()
    found = iter([replace(before, plan=None), before])
    monkeypatch.setattr(RunFolder, "read_info", lambda run: next(found))
    with pytest.raises(RunFolderError, match="another process just changed the run"):
        resume(run_copy, say=silent)


def stem_and_first_stage() -> dict[str, np.ndarray]:
    """The part of a torchvision ResNet-18 that a U-Net of depth 2 needs."""
    rng = np.random.default_rng(5)
    tensors = {}
    convs = {"conv1": (64, 3, 7, 7)} | {f"layer1.{b}.conv{i}": (64, 64, 3, 3) for b in (0, 1) for i in (1, 2)}
    for name, shape in convs.items():
        tensors[f"{name}.weight"] = rng.normal(0, 0.05, shape).astype(np.float32)
        norm = name.replace("conv", "bn")
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{norm}.{part}"] = rng.uniform(0.5, 1.5, 64).astype(np.float32)
    return tensors


@pytest.mark.slow
@pytest.mark.usefixtures("without_xla")
def test_published_weights_start_a_run_and_bring_their_preprocessing(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, run = tmp_path / "resnet18.safetensors", tmp_path / "run"
    state = stem_and_first_stage()
    write_bytes(file, save_tensors(state))
    network = {"encoder": "resnet18", "weights": str(file), "depth": 2, "filters": 2, "channels": 3}
    options = TrainSettings.from_flat({"size": 32, "batch": 8, "epochs": 1, "learning_rate": 1e-7, **network})
    lines: list[str] = []
    train(cells, run, options, say=lines.append)
    assert any(line.startswith(f"model     unet on resnet18 ({file}), ") for line in lines)
    loaded = load_run(run)
    kernel = np.asarray(loaded.model.get_layer("stage1_block2_2_conv").kernel)
    np.testing.assert_allclose(kernel, state["layer1.1.conv2.weight"].transpose(2, 3, 1, 0), atol=1e-5)
    pre = loaded.card.preprocessing
    assert (pre.value_range, pre.size) == ((0.0, 1.0), (32, 32))
    assert pre.mean == (0.485, 0.456, 0.406)
    arguments = RunFolder(run).read_info().model.arguments
    assert arguments["encoder"] == "resnet18"
    assert "weights" not in arguments  # rebuilding the model needs no file

    file.unlink()
    resume(run, say=silent)
    assert load_run(run).card.preprocessing == pre
    export(run, tmp_path / "m.tflite", recipe="static_wi8_ai8", say=silent)
    assert read_card((tmp_path / "m.tflite").read_bytes()).preprocessing == pre


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({}, {"filters": 32}),
        ({"filters": 8, "residual": True, "depth": 3}, {"filters": 8, "residual": True, "depth": 3}),
        ({"encoder": "resnet20"}, {"encoder": "resnet20"}),
        ({"network": "fcn"}, {"encoder": "resnet50"}),
        ({"network": "fcn", "encoder": "resnet20", "dropout": 0.5}, {"encoder": "resnet20", "dropout": 0.5}),
    ],
)
def test_the_network_of_the_settings(settings: dict[str, Any], arguments: dict[str, Any]) -> None:
    builder, given = TrainSettings.from_flat({"size": 64, **settings}).network.model(3, 5)
    assert builder == f"build_{settings.get('network', 'unet')}"
    common = {"input_shape": [64, 64, 3], "num_classes": 5, "dropout": 0.0}
    if builder == "build_unet":
        common |= {"residual": False, "upsampling": "transpose"}
    assert given == common | arguments
    model = build(builder, given)
    assert model.output_shape == (None, 64, 64, 5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 2, "minutes": 1.0}, "exclude each other"),
        ({"epochs": 0}, "--epochs is wrong; expected a whole number, 1 to 1000000; found 0"),
        ({"batch": -1}, "--batch is wrong"),
        ({"learning_rate": 0.0}, "--learning-rate is wrong"),
        ({"learning_rate": math.nan}, "--learning-rate is wrong"),
        ({"augment": "some"}, "--augment is unknown"),
        ({"size": 33}, "use 32 or 36"),
        ({"dropout": 1.0}, "dropout is wrong"),
        ({"encoder": "vgg16"}, "encoder is unknown"),
        ({"weights": "imagenet"}, "--weights imagenet are those of an encoder"),
        ({"network": "fcn"}, "--filters is an option of U-Nets"),
        ({"network": "pspnet"}, "--network is unknown"),
        ({"encoder": "resnet18", "weights": "none.safetensors"}, "no such weights file"),
        ({"fit": "stretch"}, "fit"),
        ({"masks_are": "colours"}, "--masks is unknown"),
        ({"val_from": "nothing*"}, "no image name matches"),
    ],
)
def test_wrong_settings_leave_nothing(settings: dict[str, Any], words: str, cells: Path, tmp_path: Path) -> None:
    with pytest.raises((UsageError, WeightsError), match=words):
        chosen = TrainSettings.from_flat({"size": 32, "filters": 2, "depth": 2, **settings})
        train(cells, tmp_path / "run", chosen, say=silent)
    assert list(tmp_path.iterdir()) == []


def test_overwriting_waits_until_the_data_is_read(run_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ExistsError, match="train --resume .* pass --overwrite"):
        train(tmp_path / "none", run_copy, say=silent)
    before = {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()}
    with pytest.raises(DataError):
        train(tmp_path / "none", run_copy, overwrite=True, say=silent)
    assert {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()} == before


# ------------------------------------------------------------------------------------------------------------- loading


def test_a_run_is_loaded_as_it_was_saved(run_folder: Path) -> None:
    loaded = load_run(run_folder)
    saved = RunFolder(run_folder).read_weights()
    for variable in loaded.model.weights:
        np.testing.assert_array_equal(np.asarray(variable), saved[variable.path])
    assert loaded.card.preprocessing == Preprocessing(channels=1, value_range=(-1, 1), size=(32, 32))
    assert loaded.card.class_names == ("background", "cell")


@pytest.mark.parametrize("kind", ["cut", "gone", "other network", "not finite"])
def test_a_damaged_run_is_named(run_copy: Path, kind: str) -> None:
    path = run_copy / "weights.safetensors"
    run = RunFolder(run_copy)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    elif kind == "gone":
        path.unlink()
    elif kind == "other network":
        info = json.loads((run_copy / "run.json").read_text())
        info["model"]["arguments"]["filters"] = 5
        (run_copy / "run.json").write_text(json.dumps(info))
    else:
        tensors = run.read_weights()
        tensors["head_logits/bias"] = np.full_like(tensors["head_logits/bias"], np.inf)
        run.write_weights(tensors)
    words = {"cut": "damaged", "gone": "no such file", "other network": "another form", "not finite": "not finite"}
    with pytest.raises(RunFolderError, match=rf"weights\.safetensors: .*{words[kind]}"):
        load_run(run_copy)


def test_a_keras_file_needs_its_preprocessing(keras_file: Path) -> None:
    with pytest.raises(UsageError, match="does not say how images are fed.*--size, --channels, --value-range"):
        open_segmenter(keras_file)
    with open_segmenter(keras_file, preprocessing=PRE, classes=["no", "yes"]) as segmenter:
        assert segmenter.card.class_names == ("no", "yes")
        assert segmenter.segment(np.zeros((20, 30), np.uint8)).class_map.shape == (20, 30)
    with pytest.raises(UsageError, match="class names differs from the model; expected 2; found 3"):
        load_keras(keras_file, PRE, ["a", "b", "c"])


def test_a_damaged_keras_file_is_named(keras_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.keras"
    for data in (keras_file.read_bytes()[: keras_file.stat().st_size // 2], b"", b"PK\x03\x04 not a zip"):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"half\.keras: not a \.keras file; expected a sound \.keras file; found"):
            load_keras(path, PRE, None)
    with pytest.raises(ModelError, match="no such model file"):
        load_keras(tmp_path / "none.keras", PRE, None)


def test_a_keras_file_that_runs_code_or_is_no_segmenter_is_refused(tmp_path: Path) -> None:
    inputs = keras.Input((None, None, 1))
    code = keras.layers.Lambda(lambda x: x, output_shape=(None, None, 1))(inputs)
    keras.Model(inputs, keras.layers.Conv2D(2, 1)(code)).save(tmp_path / "code.keras")
    with pytest.raises(ModelError, match=r"code\.keras: the model has a Lambda layer, whose code is in the file"):
        load_keras(tmp_path / "code.keras", PRE, None)
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)).save(tmp_path / "flat.keras")
    with pytest.raises(ModelError, match="gives no score for every class at every pixel"):
        load_keras(tmp_path / "flat.keras", PRE, None)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"config.json": b" " * (65 << 20) + b"{}"}, "config.json in it is too large"),
        ({"config.json": b"{}", "model.weights.h5": bytes(65 << 20)}, "model.weights.h5 in it is too large"),
        ({"config.json": b"{}", "assets/../../a": b""}, r"a name in it leads out of it; .*; found assets/\.\./\.\./a"),
        ({"config.json": b"{}", "assets\\..\\..\\a": b""}, "leads out of it"),
        ({"config.json": b"{}", "/a": b""}, "leads out of it"),
        ({"config.json": b"{}", **{f"assets/{n}": b"" for n in range(10_000)}}, "too many files"),
        ({"a.txt": b""}, "expected an archive with config.json; found a.txt"),
        ({}, "found an empty archive"),
        ({"config.json": b"[" * 200_000}, "Keras cannot make the model"),
    ],
    ids=["text", "weights", "out", "backslashes", "root", "many", "other", "empty", "deep"],
)
def test_a_keras_file_of_an_archive_that_lies_is_refused(members: dict[str, bytes], words: str, tmp_path: Path) -> None:
    file = tmp_path / "m.keras"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ModelError, match=words):
        read_keras(file)
    assert [path.name for path in tmp_path.iterdir()] == ["m.keras"]


def test_a_keras_file_in_which_a_name_stands_twice_is_refused(tmp_path: Path) -> None:
    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 1)]).save(tmp_path / "m.keras")
    assert read_keras(tmp_path / "m.keras").count_params() == 4
    with zipfile.ZipFile(tmp_path / "m.keras", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.json", b"{}")
    with pytest.raises(ModelError, match="stands twice in it.*found config.json"):
        read_keras(tmp_path / "m.keras")


# ----------------------------------------------------------------------------------------------------- export, evaluate


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The converter must not be reached."""

    def fail(*arguments: object, **named: object) -> None:
        raise AssertionError("converted")

    with monkeypatch.context() as patch:
        patch.setattr("keras_unetres.tflite.export_tflite", fail)
        yield


@pytest.mark.slow
def test_a_run_is_exported_at_another_size(run_folder: Path, tmp_path: Path, cells: Path) -> None:
    path = tmp_path / "wide.tflite"
    told = export(run_folder, path, recipe="float32", size=(16, 48), say=silent)
    assert told.file.agreement is not None and told.file.agreement > 0.999
    assert told.file.num_bytes == path.stat().st_size
    assert len(told.contents["ops"]) == len(read_ops(path.read_bytes()))
    card = read_card(path.read_bytes())
    assert card.preprocessing.size == (16, 48)
    assert card.class_names == ("background", "cell")
    scores = [evaluate(model, cells, split="all", overlap=8, say=silent)["miou"] for model in (path, run_folder)]
    assert scores[0] == pytest.approx(scores[1], abs=0.05)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"path": "m.bin"}, UsageError, r"not a \.tflite"),
        ({"path": "there.tflite"}, ExistsError, "exists already.*--overwrite"),
        ({"path": "folder.tflite", "overwrite": True}, ExistsError, "exists already"),
        ({"path": "none/m.tflite"}, FileSystemError, "folder does not exist"),
        ({"recipe": "int3"}, UsageError, "recipe is unknown"),
        ({"size": (30, 32)}, UsageError, "does not suit the model; fix: use 28 or 32"),
        ({"source": "none"}, ModelError, "no such model file"),
        ({"source": "none", "preprocessing": PRE}, ModelError, "no such model file"),
    ],
)
def test_what_cannot_be_exported_is_named(
    changes: dict[str, Any],
    kind: type[Exception],
    words: str,
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    never: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.tflite").write_bytes(b"mine")
    Path("folder.tflite").mkdir()
    arguments = {"source": run_folder, "path": "m.tflite", **changes}
    with pytest.raises(kind, match=words):
        export(**arguments, say=silent)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.tflite", "there.tflite"]
    assert Path("there.tflite").read_bytes() == b"mine"


def test_an_int8_export_needs_the_calibration_of_the_run(run_copy: Path, tmp_path: Path, never: None) -> None:
    (run_copy / "calibration.npz").unlink()
    with pytest.raises(RunFolderError, match="no calibration.npz"):
        export(run_copy, tmp_path / "m.tflite", recipe="static_wi8_ai8", say=silent)


def test_evaluation_tells_what_it_writes(int8_file: Path, cells: Path, tmp_path: Path) -> None:
    said: list[str] = []
    found = evaluate(int8_file, cells, json_file=tmp_path / "scores.json", say=said.append)
    assert json.loads((tmp_path / "scores.json").read_text()) == found
    assert (found["num_images"], found["split"], found["model"]) == (1, "test", str(int8_file))
    assert set(found["per_class_iou"]) == {"background", "cell"}
    assert found["miou"] == pytest.approx(np.mean(list(found["per_class_iou"].values())))
    assert f"mIoU       {found['miou']:.4f}" in said


def test_a_card_of_a_later_version_is_read(int8_file: Path, cells: Path, tmp_path: Path) -> None:
    data = int8_file.read_bytes()
    card = read_card(data)
    later = replace(card, dataset={**card.dataset, "of_a_later_version": 1}, versions={**card.versions, "new": "9"})
    (tmp_path / "m.tflite").write_bytes(add_card(data, later))
    before = evaluate(int8_file, cells, split="val", say=silent)
    found = evaluate(tmp_path / "m.tflite", cells, split="val", say=silent)
    assert found["per_class_iou"] == before["per_class_iou"]
    report(tmp_path / "m.tflite", data=cells, out=tmp_path / "r.html", say=silent)
    assert (tmp_path / "r.html").is_file()


def test_a_model_scores_only_data_of_its_classes(int8_file: Path, cells: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(cells, tmp_path / "data"))
    (data / "classes.txt").write_text("a\nb\nc\n")
    with pytest.raises(DataError, match="differ in classes"):
        evaluate(int8_file, data, say=silent)


@pytest.fixture
def tiny() -> TrainSettings:
    return TrainSettings(NetworkSettings(size=16, depth=1, filters=2), FitSettings(batch=2, epochs=1))


def write_pair(root: Path, name: str, mask: np.ndarray) -> None:
    for part, values in (("images", mask * 90), ("masks", mask)):
        file = root / part / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.astype(np.uint8)).save(file)


def half(side: int = 16) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    mask[: side // 2] = 1
    return mask


def test_one_image_is_too_few_to_train_on(tmp_path: Path, tiny: TrainSettings) -> None:
    write_pair(tmp_path / "set", "a", half())
    with pytest.raises(DataError, match=r"no val part.*fix: add images"):
        train(tmp_path / "set", tmp_path / "run", tiny, say=silent)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("balance", [0.0, 0.5])
def test_masks_in_which_nothing_is_labelled_teach_nothing(tmp_path: Path, tiny: TrainSettings, balance: float) -> None:
    for name in "abcdefgh":
        write_pair(tmp_path / "set", name, np.full((16, 16), 255, np.uint8))
    (tmp_path / "set" / "dataset.yaml").write_text("classes: [a, b]\nignore: 255\n")
    with pytest.raises(DataError, match="no pixel of the train part has a class.*fix: look at `ignore`"):
        train(tmp_path / "set", tmp_path / "run", tiny.with_flat({"balance": balance}), say=silent)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_pictures_of_any_name_end_a_training(
    tmp_path: Path, tiny: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "l" * 130 + "/" + "m" * 130
    for name in ("progress", "x/y", "x_y", long, *"abcd"):
        write_pair(tmp_path / "set", name, half())
    (tmp_path / "set" / "dataset.yaml").write_text('val_from: "[plx]*"\ntest_from: none\n')
    refused = []

    def refuse_one(path: Path, data: bytes) -> None:
        if path.name.startswith("image_2_"):
            raise FileSystemError("cannot write", file=path)
        write_bytes(path, data)

    monkeypatch.setattr("keras_unetres.tasks.segment.write_bytes", refuse_one)
    train(tmp_path / "set", tmp_path / "run", tiny, say=refused.append)
    drawn = sorted(path.name for path in (tmp_path / "run" / "samples").glob("*.png"))
    assert drawn == ["curves.png", "image_1_" + "m" * 40 + ".png", "image_3_x_y.png", "image_4_x_y.png", "progress.png"]
    assert (tmp_path / "run" / "report.html").is_file()
    assert [line for line in refused if line.startswith("note") and "image_2_progress.png" in line]


def test_data_that_goes_away_is_named_in_a_line_that_says_how_to_go_on(
    tmp_path: Path, tiny: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcdefgh":
        write_pair(tmp_path / "set", name, half())
    monkeypatch.setattr("keras_unetres.data.records._MEMORY", 0)
    monkeypatch.setattr("keras_unetres.data.overflow._SHARE", 0.0)
    begin = LearningRate.on_train_batch_begin

    def take_away(self: LearningRate, batch: int, logs: object = None) -> None:
        begin(self, batch, logs)
        if (tmp_path / "set").exists() and batch == 1:
            (tmp_path / "set").rename(tmp_path / "gone")

    monkeypatch.setattr(LearningRate, "on_train_batch_begin", take_away)
    settings = tiny.with_flat({"epochs": 30, "checkpoint_seconds": 0})
    with pytest.raises(DataError, match=r"a sample has changed.*fix: .*go on with: unetres train --resume") as caught:
        train(tmp_path / "set", tmp_path / "run", settings, say=silent)
    assert caught.value.__suppress_context__
    (tmp_path / "gone").rename(tmp_path / "set")
    monkeypatch.setattr(LearningRate, "on_train_batch_begin", begin)
    assert RunFolder(tmp_path / "run").read_checkpoint() is not None


def test_the_earlier_run_comes_back_where_the_network_is_refused(run_copy: Path, cells: Path) -> None:
    before = (run_copy / "weights.safetensors").read_bytes()
    wrong = TrainSettings(NetworkSettings(size=16, depth=1, filters=2), FitSettings(epochs=1, deep_supervision=True))
    with pytest.raises(UsageError, match="deep supervision"):
        train(cells, run_copy, wrong, overwrite=True, say=silent)
    assert (run_copy / "weights.safetensors").read_bytes() == before
    assert not (run_copy / "replaced").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("history", 3),
        ("history", [3]),
        ("history", [{"loss": 1}]),
        ("history", [{"epoch": 1, "loss": "x"}]),
        ("best", None),
        ("best_epoch", "x"),
        ("finished", 1),
        ("step", -1),
        ("step", 10**30),
        ("step", 1.5),
        ("step", True),
    ],
    ids=str,
)
def test_a_checkpoint_whose_state_has_another_form_is_named(run_copy: Path, key: str, value: object) -> None:
    run = RunFolder(run_copy)
    checkpoint = run.read_checkpoint()
    assert checkpoint is not None
    run.write_checkpoint(checkpoint[0], {**checkpoint[1], key: value})
    with pytest.raises(RunFolderError, match="the checkpoint is of another version"):
        resume(run_copy, say=silent)


def test_a_run_names_no_folder_that_is_written_to_and_fetches_nothing(run_copy: Path, tmp_path: Path) -> None:
    values = json.loads((run_copy / "run.json").read_text())
    values["settings"]["data"]["cache"] = str(tmp_path / "cache")
    (run_copy / "run.json").write_text(json.dumps(values))
    resume(run_copy, say=silent)
    assert not (tmp_path / "cache").exists()
    values["data"]["path"] = "tfds:mnist"
    (run_copy / "run.json").write_text(json.dumps(values))
    for call in (resume, report, lambda run, say: export(run, tmp_path / "m.tflite", max_drop=1.0, say=say)):
        with pytest.raises(DataError, match="only when it is named on the command line.*tfds:mnist"):
            call(run_copy, say=silent)


def test_memory_that_does_not_suffice_is_one_error_that_says_what_to_lower() -> None:
    import tensorflow as tf

    for error in (MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM")):
        with pytest.raises(TrainingError, match="memory does not suffice.*fix: lower --batch"), fitting.named_memory():
            raise error


@pytest.mark.parametrize("option", ["json", "html"])
def test_a_report_replaces_an_earlier_one_and_nothing_else(option: str, cells: Path, tmp_path: Path) -> None:
    """`check --html images/a.png` was a lost image, `--json instances.json` lost annotations."""
    shutil.copytree(cells, tmp_path / "cells")
    image = next((tmp_path / "cells").rglob("*.png"))
    before = image.read_bytes()
    name = f"{option}_file"
    with pytest.raises(UsageError, match=f"not a .{option}"):
        check(tmp_path / "cells", hashes="off", say=silent, **{name: image})
    assert image.read_bytes() == before
    file = tmp_path / f"report.{option}"
    for text in ('{"images": [], "annotations": [], "categories": []}', "<html>mine</html>", ""):
        file.write_text(text)
        with pytest.raises(ExistsError, match="so it is not replaced"):
            check(tmp_path / "cells", hashes="off", say=silent, **{name: file})
        assert file.read_text() == text
    file.unlink()
    for _ in range(2):
        check(tmp_path / "cells", hashes="off", say=silent, **{name: file})
    assert file.stat().st_size > 100


def test_a_sheet_of_crops_replaces_no_image(cells: Path, tmp_path: Path) -> None:
    shutil.copytree(cells, tmp_path / "cells")
    for image in sorted((tmp_path / "cells").rglob("*.png"))[::20]:
        with pytest.raises(ExistsError, match="is not replaced"):
            augment(tmp_path / "cells", image, say=silent)
