"""The U-Net of Ronneberger 2015, unpadded, as a file: any image gets what the network gives of the whole of it."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_unetres as ku
from keras_unetres.choices.networks import unpadded_crop, unpadded_input
from keras_unetres.data.synthetic import write_cells
from keras_unetres.models import build_unet, crop_offset
from keras_unetres.runs import RunFolder
from keras_unetres.settings import NetworkSettings, TrainSettings
from unetres_edge import Preprocessing, Segmenter
from unetres_edge.errors import UnetresError

SIDE, CROP, DEPTH = 60, 20, 2  # of a network of two levels: 20 px are left of 60
PRE = Preprocessing(channels=1, size=(SIDE, SIDE))


@pytest.fixture(scope="module")
def pair() -> tuple[keras.Model, keras.Model]:
    """The network for one tile, and the same for an image of any size."""
    keras.utils.set_random_seed(3)
    tile = build_unet((SIDE, SIDE, 1), 3, filters=3, depth=DEPTH, padding="valid", norm=None)
    rng = np.random.default_rng(1)
    tile.set_weights([w if w.ndim > 1 else rng.normal(0, 0.05, w.shape) for w in tile.get_weights()])
    whole = build_unet((None, None, 1), 3, filters=3, depth=DEPTH, padding="valid", norm=None)
    whole.set_weights(tile.get_weights())
    return tile, whole


def picture(size: tuple[int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    knots = rng.integers(0, 256, (size[0] // 5 + 1, size[1] // 5 + 1))
    return knots.repeat(5, 0).repeat(5, 1)[: size[0], : size[1]].astype(np.uint8)


def whole_labels(model: keras.Model, image: np.ndarray) -> np.ndarray:
    """Return what a network gives of a whole image, mirrored outwards by what it leaves out and to a size it takes."""
    behind = [CROP + (-n) % 2**DEPTH for n in image.shape]
    padded = np.pad(image, [(CROP, each) for each in behind], mode="reflect")[..., None]
    scores = np.asarray(model.predict_on_batch(PRE.normalise(padded)[None]))[0]
    return scores[: image.shape[0], : image.shape[1]].argmax(-1)


def calibration() -> np.ndarray:
    return np.stack([PRE.normalise(picture((SIDE, SIDE), seed)[..., None]) for seed in range(8)])


def test_the_file_says_how_much_its_tiles_leave_out(pair: tuple[keras.Model, keras.Model], tmp_path: Path) -> None:
    tile, whole = pair
    assert crop_offset(tile) == CROP
    out = tmp_path / "m.tflite"
    ku.export_tflite(tile, out, preprocessing=PRE, recipe="float32")
    with Segmenter(out, num_threads=1) as segmenter:
        card = segmenter.card
        assert (card.crop, card.stride, card.output_size) == (CROP, 2**DEPTH, (20, 20))
        for seed, size in enumerate([(20, 20), (60, 60), (61, 83), (5, 90)]):
            image = picture(size, seed)
            expected = whole_labels(whole, image)
            found = segmenter.segment(image).class_map
            assert (found == expected).mean() > 0.999, "float sums may differ in their last bit"
            assert len(np.unique(expected)) > 1


@pytest.mark.slow
def test_the_int8_file_gives_nearly_what_the_network_does(
    pair: tuple[keras.Model, keras.Model], tmp_path: Path
) -> None:
    tile, whole = pair
    out = tmp_path / "m.tflite"
    ku.export_tflite(tile, out, preprocessing=PRE, recipe="static_wi8_ai8", calibration=calibration())
    image = picture((70, 50), 9)
    with Segmenter(out, num_threads=1) as segmenter:
        found = segmenter.segment(image).class_map
    assert (found == whole_labels(whole, image)).mean() > 0.9


def test_ways_that_do_not_suit_it_are_refused(pair: tuple[keras.Model, keras.Model], tmp_path: Path) -> None:
    tile, _ = pair
    scaled = Preprocessing(channels=1, size=(SIDE, SIDE), fit="resize")
    with pytest.raises(UnetresError, match="an unpadded network sees tiles with a border around them"):
        ku.export_tflite(tile, tmp_path / "a.tflite", preprocessing=scaled, recipe="float32")
    assert not (tmp_path / "a.tflite").exists()


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_sizes_are_those_of_the_built_network(depth: int) -> None:
    side = unpadded_input(depth, 20)
    network = NetworkSettings(size=side, depth=depth, filters=1, padding="valid")
    model = ku.models.build(*network.model(1, 2))
    assert crop_offset(model) == unpadded_crop(depth) == network.crop
    assert model.output_shape[1] == network.output_size
    assert 20 <= network.output_size < 20 + 2**depth


def test_an_input_is_as_large_as_the_output_of_a_padded_network() -> None:
    assert unpadded_input(4, 388) == 572  # the paper's
    assert NetworkSettings(padding="valid").output_size == 260
    assert NetworkSettings().output_size == 256


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"encoder": "resnet18"}, "contracting path"),
        ({"fit": "resize"}, "sees crops"),
        ({"deep_supervision": True}, "output alone"),
        ({"network": "fcn"}, "U-Nets"),
    ],
)
def test_what_does_not_go_with_it_is_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(UnetresError, match=words):
        TrainSettings().with_flat({"padding": "valid", **given})


@pytest.mark.slow
@pytest.mark.usefixtures("without_xla")
def test_it_is_trained_quantized_and_exported_by_the_commands(tmp_path: Path) -> None:
    data = write_cells(tmp_path / "cells", num_images=10, size=(70, 90))
    settings = {"padding": "valid", "depth": 2, "filters": 4, "epochs": 3, "seed": 1}
    ku.train(data, tmp_path / "run", TrainSettings().with_flat(settings), say=lambda line: None)
    info = RunFolder(tmp_path / "run").read_info()
    assert info.model.arguments["padding"] == "valid"
    ku.quantize(tmp_path / "run", tmp_path / "aware", epochs=1, say=lambda line: None)
    for run in ("run", "aware"):
        file = tmp_path / f"{run}.tflite"
        ku.export(tmp_path / run, file, gate=False)
        with Segmenter(file) as segmenter:
            assert segmenter.card.crop == 20
            labels = segmenter.segment(np.zeros((50, 61), np.uint8)).class_map
            assert labels.shape == (50, 61)
        exact, of_file = (ku.evaluate(model, data)["pixel_accuracy"] for model in (tmp_path / run, file))
        assert of_file == pytest.approx(exact, abs=0.02)
