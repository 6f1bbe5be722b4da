"""Starts: own trained networks, from a file or by name, into networks of other channels and classes; as models, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from test_plan import GREY, made_for, values

from keras_unetres.choices.starts import STARTS, file_of, find_form, find_model
from keras_unetres.data.synthetic import write_cells
from keras_unetres.planning.rules import Budget, fitting_starts
from keras_unetres.runs import RunFolder
from keras_unetres.settings import TrainSettings
from keras_unetres.weights import build_unet, load_published
from keras_unetres.weights.starts import read_start, write_start
from keras_unetres.workflows.models import list_models
from keras_unetres.workflows.predict import predict
from keras_unetres.workflows.train import resume, train
from unetres_edge import Preprocessing
from unetres_edge.errors import RunFolderError, UsageError, WeightsError

FORM: dict[str, Any] = {"filters": 4, "depth": 1}
FEEDING = Preprocessing(value_range=(-1.0, 1.0), size=(64, 64))
NAMES = [f"{name}_{filters}" for name, start in STARTS.items() for filters in start.depths]


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    """A U-Net of colour pictures in which every tensor is its own."""
    keras.utils.set_random_seed(3)
    model = build_unet((32, 32, 3), 2, **FORM)
    rng = np.random.default_rng(3)
    for variable in model.weights:
        low = 0.5 if "variance" in variable.path or "gamma" in variable.path else -0.5
        variable.assign(rng.uniform(low, low + 1, variable.shape).astype(np.float16))
    return model


@pytest.fixture(scope="module")
def file(trained: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("starts") / "own.safetensors"
    write_start(path, tensors_of(trained), FEEDING, **FORM)
    return path


def tensors_of(model: keras.Model) -> dict[str, np.ndarray]:
    return {variable.path: np.array(variable) for variable in model.weights}


def test_a_network_of_the_same_form_answers_as_the_start_did(trained: keras.Model, file: Path) -> None:
    model = build_unet((32, 32, 3), 2, **FORM)
    assert load_published(model, file) == Preprocessing(value_range=(-1.0, 1.0), size=(32, 32))
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(model(picture), trained(picture))


def test_a_grey_picture_gives_what_it_gives_in_colour(trained: keras.Model, file: Path) -> None:
    grey = build_unet((32, 32, 1), 2, **FORM, weights=file)
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 1)).astype(np.float32)
    np.testing.assert_allclose(grey(picture), trained(np.repeat(picture, 3, -1)), rtol=1e-4, atol=1e-4)


def test_more_channels_take_the_kernels_in_turn(trained: keras.Model, file: Path) -> None:
    model = build_unet((32, 32, 5), 2, **FORM)
    assert load_published(model, file).channels == 5
    kernel = np.array(trained.get_layer("encoder1_1_conv").kernel)
    np.testing.assert_allclose(model.get_layer("encoder1_1_conv").kernel[:, :, 3], kernel[:, :, 0] * 0.6, rtol=1e-6)


def test_other_classes_keep_a_head_of_their_own(trained: keras.Model, file: Path) -> None:
    model = build_unet((32, 32, 3), 5, **FORM)
    before = np.array(model.get_layer("head_logits").kernel)
    load_published(model, file)
    np.testing.assert_array_equal(model.get_layer("head_logits").kernel, before)
    np.testing.assert_array_equal(model.get_layer("bridge_2_conv").kernel, trained.get_layer("bridge_2_conv").kernel)


@pytest.mark.parametrize(
    ("other", "found"),
    [
        ({"filters": 6, "depth": 1}, "--filters 6 --depth 1"),
        ({"filters": 4, "depth": 2}, "--filters 4 --depth 2"),
        ({**FORM, "residual": True}, "--filters 4 --depth 1"),
        ({**FORM, "upsampling": "bilinear"}, "--filters 4 --depth 1"),
        ({**FORM, "norm": None}, "--filters 4 --depth 1"),
    ],
)
def test_a_start_of_another_network_is_refused_by_name(file: Path, other: dict[str, Any], found: str) -> None:
    model = build_unet((32, 32, 3), 2, **other)
    before = tensors_of(model)
    with pytest.raises(UsageError, match=f"{found}.*fix: --filters 4 --depth 1, or --weights none"):
        load_published(model, file)
    for name, value in tensors_of(model).items():
        np.testing.assert_array_equal(value, before[name], err_msg="nothing was set")


def test_files_that_are_no_start_are_named(trained: keras.Model, tmp_path: Path) -> None:
    model = build_unet((32, 32, 3), 2, **FORM)
    run = RunFolder(tmp_path)
    run.write_weights(tensors_of(trained))
    with pytest.raises(WeightsError, match=r"does not say of which network.*--start RUN"):
        load_published(model, tmp_path / "weights.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((tmp_path / "weights.safetensors").read_bytes()[:40])
    with pytest.raises(WeightsError, match="not a sound start"):
        load_published(model, cut)
    with pytest.raises(WeightsError, match="no such weights file"):
        load_published(model, tmp_path / "none.safetensors")
    with pytest.raises(UsageError, match="the start is unknown; expected nuclei, shapes"):
        load_published(model, "imagenet")
    with pytest.raises(WeightsError, match="float16 does not hold"):
        write_start(tmp_path / "x.safetensors", {"a/kernel": np.full(2, 1e6)}, FEEDING, **FORM)
    broken = {**tensors_of(trained), "bridge_1_norm/moving_variance": np.full(8, -1.0)}
    write_start(tmp_path / "y.safetensors", broken, FEEDING, **FORM)
    with pytest.raises(WeightsError, match="below 0"):
        load_published(model, tmp_path / "y.safetensors")


def test_classifiers_and_encoders_take_no_start() -> None:
    for given in ({"encoder": "resnet18"}, {"network": "resnet18"}, {"network": "fcn"}):
        with pytest.raises(UsageError, match=r"--weights nuclei is a start of U-Nets.*fix: drop --encoder"):
            TrainSettings.from_flat({"weights": "nuclei", **given})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"filters": 32}, "--filters 8 --depth 4; found --filters 32"),
        ({"filters": 8, "depth": 2}, "found --filters 8 --depth 2; fix: drop --depth"),
        ({"residual": True}, "--residual is of another network"),
        ({"upsampling": "bilinear"}, "--upsampling bilinear is of another network"),
        ({"padding": "valid"}, "--padding valid is of another network"),
        ({"search": "quick"}, "--search quick is of another network"),
    ],
)
def test_settings_of_another_network_are_refused_before_anything_is_read(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        TrainSettings.from_flat({"weights": "shapes", **given})
    assert TrainSettings.from_flat({"weights": "none", **given}).network.start_weights is None


def test_weights_of_an_encoder_need_one() -> None:
    with pytest.raises(UsageError, match=r"--weights imagenet are those of an encoder; expected nuclei, shapes"):
        TrainSettings.from_flat({"weights": "imagenet"})


def test_what_is_left_open_is_that_of_the_start() -> None:
    for name, start in STARTS.items():
        for filters, depth in ((None, start.depths[start.filters]), *start.depths.items()):
            _, arguments = TrainSettings.from_flat({"weights": name, "filters": filters}).network.model(1, 2)
            assert (arguments["filters"], arguments["depth"]) == (filters or start.filters, depth)


def test_a_plan_names_the_starts_and_takes_networks_that_there_are() -> None:
    decision = next(each for each in made_for(GREY).decisions if each.setting == "weights")
    assert (decision.value, decision.option) == ("none", "--weights")
    assert all(name in decision.reason for name in STARTS)
    assert "weights" not in values(GREY, filters=5), "there is no start of such a network"
    quick = Budget(minutes=60.0, step_seconds={32: 0.1, 16: 0.05, 8: 0.02})
    assert values(GREY, quick)["filters"] == 32
    assert values(GREY, quick, weights="nuclei")["filters"] == STARTS["nuclei"].filters
    assert values(GREY, weights="nuclei")["learning_rate"] == 0.001
    assert fitting_starts(TrainSettings.from_flat({"search": "full"})) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_files_of_the_package_fit_their_networks(name: str) -> None:
    start, filters = find_form(name) or ("", 0)
    depth = STARTS[start].depths[filters]
    model = build_unet((32, 32, 1), 3, filters=filters, weights=start)
    read = read_start(start, filters)
    assert (read.filters, read.depth, read.preprocessing.channels) == (filters, depth, 3)
    np.testing.assert_array_equal(model.get_layer("bridge_1_conv").kernel, read.tensors["bridge_1_conv/kernel"])


def test_files_are_small_and_have_cards() -> None:
    files = [path for path in file_of("nuclei", "").parent.iterdir() if path.suffix in (".safetensors", ".tflite")]
    assert sum(path.stat().st_size for path in files) < 5_000_000
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert all(f'"**/*{path.suffix}"' in project for path in files), "the wheel holds them"
    lines: list[str] = []
    for name in NAMES:
        (card,) = list_models(name, say=lines.append)
        assert card["not_for"] and card["data_licence"] and card["scores"]["float16"]["miou"] > 0.25
        assert any(card["not_for"][0] in line for line in lines)
        assert ("int8" in card["scores"]) == file_of(name, ".tflite").is_file()
        receipt = file_of(name, ".receipt.json")
        assert receipt.is_file() == ("int8" in card["scores"])
        text = file_of(name, ".json").read_text() + (receipt.read_text() if receipt.is_file() else "")
        assert "/work" not in text and "/tmp" not in text and "/home" not in text
    with pytest.raises(UsageError, match="is a start, which is neither measured nor drawn"):
        list_models("nuclei", size=(64, 64), say=lines.append)


def test_starts_stand_below_the_networks() -> None:
    lines: list[str] = []
    list_models(say=lines.append)
    assert [line.split()[0] for line in lines[-len(NAMES) :]] == NAMES


def test_a_name_is_a_model_unless_a_file_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_model("nuclei") == find_model(f"nuclei_{STARTS['nuclei'].filters}")
    (tmp_path / "nuclei").mkdir()
    assert str(find_model("nuclei")).endswith(".tflite"), "a folder of pictures is no model"
    (tmp_path / "nuclei" / "run.json").write_text("{}")
    assert find_model("nuclei") == "nuclei"
    assert find_model("nucleus") == "nucleus"
    with pytest.raises(UsageError, match=r"shapes only begins trainings.*--weights shapes"):
        find_model("shapes")


def test_pictures_are_segmented_and_counted_without_a_label(tmp_path: Path) -> None:
    rows, cols = np.mgrid[:96, :96]
    picture = np.full((96, 96), 12.0)
    for row, col in ((24, 24), (24, 70), (66, 30), (70, 74)):
        picture += 150 * (np.hypot(rows - row, cols - col) < 10)
    picture += np.random.default_rng(0).normal(0, 2, picture.shape)
    Image.fromarray(np.uint8(picture.clip(0, 255))).save(tmp_path / "four.png")
    lines: list[str] = []
    predict("nuclei", tmp_path / "four.png", tmp_path / "out", instances="png", say=lines.append)
    labels = np.array(Image.open(next((tmp_path / "out").glob("*instances*.png"))))
    assert len(set(labels.flat) - {0}) == 4
    with pytest.raises(UsageError, match="drop it: this model says it itself"):
        predict("nuclei", tmp_path / "four.png", tmp_path / "again", classes=["a", "b"])


@pytest.mark.slow
def test_a_training_begins_with_a_start_and_is_gone_on_with(tmp_path: Path, file: Path) -> None:
    write_cells(tmp_path / "cells", num_images=8, size=(64, 64))
    chosen = {"size": 64, "epochs": 1, "batch": 4, "filters": 8, "plan": False, "weights": "nuclei"}
    lines: list[str] = []
    train(tmp_path / "cells", tmp_path / "run", TrainSettings.from_flat(chosen), say=lines.append)
    assert any("unet (nuclei)" in line for line in lines)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["settings"]["network"]["weights"] == "nuclei" and info["model"]["arguments"]["depth"] == 4
    (tmp_path / "run" / "weights.safetensors").unlink()
    for each in (tmp_path / "run" / "checkpoints").iterdir():
        each.unlink()
    resume(tmp_path / "run", say=lines.append)  # before the first checkpoint: the start comes with the package
    own = TrainSettings.from_flat({**chosen, **FORM, "weights": str(file)})
    train(tmp_path / "cells", tmp_path / "own", own, say=lines.append)
    for each in (tmp_path / "own" / "checkpoints").iterdir():
        each.unlink()
    with pytest.raises(RunFolderError, match="name them again: --weights"):
        resume(tmp_path / "own", say=lines.append)


def test_the_guide_says_what_the_files_say() -> None:
    root = Path(__file__).parents[1]
    rows = json.loads((root / "benchmarks" / "results" / "starts.json").read_text())["rows"]
    score = {(row["set"], row["images"], row["start"]): f"{row['test_miou']:.3f}" for row in rows}
    page = (root / "docs" / "tasks" / "few-images.md").read_text()
    table = [
        line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith(("| isbi", "| dsb", "| cells"))
    ]
    assert table
    for name, count, *scores in table:
        assert scores == [score[name, int(count), start] for start in ("none", "shapes", "nuclei")]
    networks = (root / "docs" / "networks.md").read_text()
    for name in NAMES:
        (card,) = list_models(name, say=lambda line: None)
        said = " and ".join(f"{form['miou']:.3f}" for form in card["scores"].values())
        assert f"| {said}" in networks, name
