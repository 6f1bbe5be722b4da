"""Mixed precision: what is float and what is int8, whose rounding costs the answer most, and the shortest way to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import TINY, silent
from small_models import PRE, make_calibration, user_model

from keras_unetres.cli import main
from keras_unetres.models import build_unet
from keras_unetres.runs import RunFolder
from keras_unetres.tasks.loading import load_run
from keras_unetres.tflite import MIXED, CalibratedModel, LayerGroup, calibrate_model, export_tflite
from keras_unetres.tflite.inspect import Graph, layers_of
from keras_unetres.verify.precision import search_precision
from keras_unetres.verify.receipt import receipt_files
from keras_unetres.workflows.export import export
from unetres_edge import Segmenter
from unetres_edge.errors import UsageError
from unetres_edge.model.card import read_card


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A small network, one tensor of which has a channel that nothing uses and whose values are huge."""
    keras.utils.set_random_seed(1)
    model = user_model(keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="wide"))
    rng = np.random.default_rng(2)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    plant(model.get_layer("wide"), model.get_layer("down"))
    return model


def plant(before: keras.layers.Layer, after: keras.layers.Layer) -> None:
    """Give the last channel between two convolutions values that fill the range of the tensor and mean nothing."""
    kernel, bias = before.get_weights()
    kernel[..., -1], bias[-1] = 0, 2000
    before.set_weights([kernel, bias])
    kernel, *rest = after.get_weights()
    kernel[:, :, -1] = 0
    after.set_weights([kernel, *rest])


@pytest.fixture(scope="module")
def calibrated(model: keras.Model) -> CalibratedModel:
    return calibrate_model(model, preprocessing=PRE, calibration=make_calibration())


@pytest.fixture(scope="module")
def reference(model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("reference") / "m.tflite"
    export_tflite(model, path, recipe="float32", preprocessing=PRE)
    return path.read_bytes()


def forms(data: bytes, model: keras.Model) -> dict[str, str]:
    """Layer -> dtype of what the op that ends in it takes."""
    names = [layer.name for layer in model.layers]
    return {layers_of(op, names)[0]: op.inputs[0] for op in Graph(data).ops() if layers_of(op, names)}


# ------------------------------------------------------------------------------------------------------------- files


def test_the_named_layers_compute_in_float_and_no_other(calibrated: CalibratedModel, model: keras.Model) -> None:
    every = [each.name for each in calibrated.converter.groups]
    assert every == ["first", "wide", "down", "up", "join", "scores"]
    for chosen, data in zip(every, calibrated.converter.convert([[layer] for layer in every]), strict=True):
        found = forms(data, model)
        assert found == {layer: "FLOAT32" if layer == chosen else "INT8" for layer in every}


def test_what_only_moves_values_is_float_between_float_layers(tmp_path: Path) -> None:
    model = user_model(keras.layers.MaxPooling2D(2, name="pool"), keras.layers.UpSampling2D(2, name="grow"))
    calibrated = calibrate_model(model, preprocessing=PRE, calibration=make_calibration())
    assert [each.name for each in calibrated.converter.groups] == ["first", "down", "up", "join", "scores"]
    alone, around = calibrated.converter.convert([["first"], ["first", "down", "join"]])
    assert (forms(alone, model)["pool"], forms(alone, model)["grow"]) == ("INT8", "INT8")
    assert (forms(around, model)["pool"], forms(around, model)["grow"]) == ("FLOAT32", "FLOAT32")
    assert forms(around, model)["up"] == "INT8"


def test_all_layers_in_float_are_the_float_file_and_none_the_int8_one(
    calibrated: CalibratedModel, model: keras.Model, reference: bytes, tmp_path: Path
) -> None:
    every = [each.name for each in calibrated.converter.groups]
    whole, none = (calibrated.seal(data) for data in calibrated.converter.convert([every, []]))
    path = tmp_path / "int8.tflite"
    export_tflite(model, path, recipe="static_wi8_ai8", preprocessing=PRE, calibration=make_calibration())
    image = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    with Segmenter(whole) as a, Segmenter(reference) as b, Segmenter(none) as c, Segmenter(path) as d:
        found = [each.segment(image, scores=True).scores for each in (a, b, c, d)]
    np.testing.assert_allclose(found[0], found[1], atol=0.01 * np.abs(found[1]).max())  # the image is still int8
    np.testing.assert_allclose(found[2], found[3], atol=1e-5)
    assert np.abs(found[0] - found[2]).max() > 0.05 * np.abs(found[1]).max()


@pytest.mark.parametrize(
    "head", ["logits", *(pytest.param(n, marks=pytest.mark.slow) for n in ("logits_float", "argmax"))]
)
def test_a_file_says_what_it_is_and_runs(model: keras.Model, tmp_path: Path, head: str) -> None:
    path = tmp_path / "m.tflite"
    done = export_tflite(
        model,
        path,
        recipe=MIXED,
        floats=["wide", "down"],
        preprocessing=PRE,
        calibration=make_calibration(),
        head=head,
    )
    assert read_card(path.read_bytes()).recipe == MIXED
    assert done.agreement > 0.97
    assert {name for name, kind in forms(path.read_bytes(), model).items() if kind == "FLOAT32"} == {"wide", "down"}
    with Segmenter(path) as segmenter:
        assert segmenter.segment(np.zeros((40, 30), np.uint8)).class_map.shape == (40, 30)


def test_transposed_convolutions_go_together(tmp_path: Path) -> None:
    grow = keras.layers.Conv2DTranspose(4, 2, strides=2, name="grow")
    model = user_model(keras.layers.MaxPooling2D(2), grow)
    calibrated = calibrate_model(model, preprocessing=PRE, calibration=make_calibration())
    assert [each.name for each in calibrated.converter.groups] == ["first", "grow + up", "down", "join", "scores"]
    (data,) = calibrated.converter.convert([["up", "grow"]])
    assert {name for name, kind in forms(data, model).items() if kind == "FLOAT32"} == {"grow", "up"}
    with pytest.raises(UsageError, match="all together, or none; expected grow, up; found up"):
        list(calibrated.converter.convert([["up"]]))


def test_layers_that_are_not_there_and_recipes_without_layers_are_refused(model: keras.Model, tmp_path: Path) -> None:
    asked = {"preprocessing": PRE, "calibration": make_calibration()}
    with pytest.raises(UsageError, match="no such layer to keep in float.*found nowhere"):
        export_tflite(model, tmp_path / "m.tflite", recipe=MIXED, floats=["first", "nowhere"], **asked)
    for recipe, floats in ((MIXED, ()), ("static_wi8_ai8", ["first"])):
        with pytest.raises(UsageError, match="needs the names of layers|only one recipe keeps some layers"):
            export_tflite(model, tmp_path / "m.tflite", recipe=recipe, floats=floats, **asked)
    assert not list(tmp_path.iterdir())


def test_noise_is_that_of_the_layer_alone(calibrated: CalibratedModel, model: keras.Model, reference: bytes) -> None:
    images = make_calibration(count=4)
    noise = calibrated.converter.noise(reference, images)
    exact = np.asarray(model(images), np.float64)
    every = [each.name for each in calibrated.converter.groups]
    (data,) = calibrated.converter.convert([[layer for layer in every if layer != "up"]])
    with Segmenter(calibrated.seal(data)) as segmenter:
        found = np.stack([segmenter.engine.run(np.rint((image + 1) * 127.5).astype(np.uint8)) for image in images])
    by_hand = 10 * np.log10(exact.var((0, 1, 2)).sum() / np.square(found - exact).mean((0, 1, 2)).sum())
    assert noise["up"] == pytest.approx(by_hand, abs=0.5)
    worst = sorted(noise, key=noise.__getitem__)[:2]
    assert set(worst) == {"wide", "down"}  # on either side of the tensor that cannot be rounded
    assert min(noise[layer] for layer in every if layer not in worst) > noise[worst[1]] + 10


# ------------------------------------------------------------------------------------------------------------ search


class FakeConverter:
    """Layers that cost the same, and files that say how many of them are float."""

    def __init__(self, count: int) -> None:
        self.groups = tuple(LayerGroup((f"layer{n}",), 100, 0) for n in range(count))
        self.made = 0

    def convert(self, choices: list[tuple[str, ...]]) -> Iterator[bytes]:
        self.made += len(choices)
        return (str(len(choice)).encode() for choice in choices)

    def noise(self, reference: bytes, images: np.ndarray) -> dict[str, float]:
        return {each.name: float(place) for place, each in enumerate(self.groups)}


def fake(count: int) -> SimpleNamespace:
    return SimpleNamespace(converter=FakeConverter(count), images=np.zeros((3, 1)), seal=lambda data: data)


def needs(least: int) -> Callable[[bytes], float]:
    return lambda data: 0.1 if int(data) >= least else 0.2


@pytest.mark.parametrize("count", [1, 2, 5, 13, 60])
def test_the_shortest_beginning_that_holds_is_found(count: int) -> None:
    for least in range(count + 1):
        calibrated = fake(count)
        found = search_precision(calibrated, b"", [("val", needs(least))], 0.15, silent)
        assert found.count == least
        assert found.floats == tuple(f"layer{n}" for n in range(least))
        assert len(found.tried) <= 2 * (count.bit_length() + 1)
        assert len({row["floats"] for row in found.tried}) == len(found.tried)


def test_where_none_holds_all_are_float() -> None:
    found = search_precision(fake(13), b"", [("val", needs(99))], 0.15, silent)
    assert found.count == 13


def test_the_images_that_decide_can_only_ask_for_more() -> None:
    for first, second in ((3, 7), (7, 3), (0, 5), (4, 4), (6, 13)):
        found = search_precision(fake(13), b"", [("val", needs(first)), ("test", needs(second))], 0.15, silent)
        assert found.count == max(first, second)
        assert {row["part"] for row in found.tried} == {"val", "test"}


def test_layers_come_in_the_order_of_their_noise_over_their_cost() -> None:
    calibrated = fake(3)
    calibrated.converter.groups = (
        LayerGroup(("dear",), 10_000, 0),
        LayerGroup(("cheap",), 90, 10),
        LayerGroup(("quiet",), 100, 0),
    )
    calibrated.converter.noise = lambda *_: {"dear": 10.0, "cheap": 20.0, "quiet": 40.0}
    assert search_precision(calibrated, b"", [("val", needs(3))], 0.15, silent).order == ("cheap", "dear", "quiet")


# ------------------------------------------------------------------------------------------------------- command line


@pytest.fixture(scope="module")
def hard_run(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with a tensor that cannot be rounded, though the float network does not mind."""
    run = Path(shutil.copytree(run_folder, tmp_path_factory.mktemp("hard") / "run"))
    weights = RunFolder(run).read_weights()
    weights["decoder1_1_norm/beta"][-1] = 3000
    weights["decoder1_1_norm/gamma"][-1] = 0
    weights["decoder1_2_conv/kernel"][:, :, -1] = 0
    RunFolder(run).write_weights(weights)
    return run


@pytest.mark.slow
def test_auto_keeps_the_layers_in_float_that_lose_the_picture(hard_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.tflite"
    given = ["export", str(hard_run), "--out", str(out), "--recipe", "auto", "--split", "all", "--max-drop", "1"]
    assert main(given) == 0
    receipt = json.loads(receipt_files(out)[0].read_text())
    assert receipt["gate"]["drop"] <= 1.0
    floats = [row["layer"] for row in receipt["mixed"]["layers"] if row["float"]]
    assert {"decoder1_1_conv", "decoder1_2_conv"} <= set(floats)
    assert len(floats) < len(receipt["mixed"]["layers"]) / 2
    assert 0 < receipt["mixed"]["float_multiply_adds"] < 1
    first, *_, last = receipt["mixed"]["tried"]
    assert (first["floats"], first["drop"] > 1.0, last["drop"] <= 1.0) == (0, True, True)
    assert read_card(out.read_bytes()).recipe == MIXED
    page = receipt_files(out)[1].read_text()
    assert "Precision by layer" in page
    assert page.count('<rect class="float"') == len(floats)


@pytest.mark.parametrize(
    "head", [pytest.param("argmax", marks=pytest.mark.slow), pytest.param("logits_float", marks=pytest.mark.long)]
)
def test_auto_serves_any_head(hard_run: Path, tmp_path: Path, head: str) -> None:
    out = tmp_path / "m.tflite"
    told = export(hard_run, out, recipe="auto", head=head, split="all", max_drop=1.0, say=silent)
    assert told.file.recipe == MIXED
    assert told.drop is not None and told.drop.points <= 1.0


@pytest.mark.long
def test_auto_serves_mediapipe_which_takes_colour_pixels_as_they_are(
    hard_run: Path, cells: Path, tmp_path: Path
) -> None:
    loaded = load_run(hard_run)
    kernel = loaded.model.get_layer("encoder1_1_conv").kernel
    of_grey = {v.path: np.asarray(v) for v in loaded.model.weights}
    of_grey[kernel.path] = np.repeat(of_grey[kernel.path], 3, 2) / 3
    grey = loaded.card.preprocessing
    model = build_unet((*grey.size, 3), 2, filters=TINY["filters"], depth=TINY["depth"])
    for weight in model.weights:
        weight.assign(of_grey[weight.path])
    model.save(tmp_path / "colour.keras")
    told = export(
        tmp_path / "colour.keras",
        tmp_path / "m.tflite",
        recipe="auto",
        head="mediapipe",
        preprocessing=replace(grey, channels=3),
        classes=list(loaded.card.class_names),
        calibration=cells / "images",
        data=cells,
        split="all",
        max_drop=1.0,
        say=silent,
    )
    assert told.file.recipe == MIXED
    assert told.drop is not None and told.drop.points <= 1.0


@pytest.mark.slow
def test_auto_is_plain_int8_where_that_is_good_enough(run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.tflite"
    told = export(run_folder, out, recipe="auto", split="all", max_drop=20, say=silent)
    assert told.file.recipe == "static_wi8_ai8"
    receipt = json.loads(receipt_files(out)[0].read_text())
    assert not any(row["float"] for row in receipt["mixed"]["layers"])
    assert [row["floats"] for row in receipt["mixed"]["tried"]] == [0]


def test_auto_has_to_score(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="recipe auto needs images to score on"):
        export(run_folder, tmp_path / "m.tflite", recipe="auto", gate=False, say=silent)
    with pytest.raises(UsageError, match="has no int8 at its ends"):
        export(run_folder, tmp_path / "m.tflite", recipe="auto", head="logits_int8", say=silent)
    with pytest.raises(UsageError, match="found by --recipe auto"):
        export(run_folder, tmp_path / "m.tflite", recipe=MIXED, say=silent)
