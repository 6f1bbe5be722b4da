"""Statistics of BatchNormalization that are measured over crops: their values, and the weights that a run keeps."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import silent

from keras_unetres.models import build_unet
from keras_unetres.runs import RunFolder
from keras_unetres.settings import TrainSettings
from keras_unetres.training.compilation import precision_policy
from keras_unetres.training.fused_norm import fuse_norms
from keras_unetres.training.precise_norm import PreciseStatistics
from keras_unetres.training.state import norm_layers
from keras_unetres.workflows.train import resume, train

CROPS = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8)
TINY = {"size": 32, "depth": 1, "filters": 4, "epochs": 2, "batch": 2, "seed": 3}


def normalise(crops: np.ndarray) -> np.ndarray:
    return crops.astype(np.float32) / 127.5 - 1


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_unet((16, 16, 3), 3, filters=4, depth=1)


def test_the_first_layer_has_the_statistics_of_what_it_is_given(network: keras.Model) -> None:
    first = norm_layers(network)[0]
    before = keras.Model(network.input, first.input)
    seen = before(normalise(CROPS[:8])).numpy()
    found = PreciseStatistics(network, CROPS, normalise, 4).measure()
    np.testing.assert_allclose(found["0/mean"], seen.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(found["0/variance"], seen.var((0, 1, 2)), rtol=1e-4)


def test_one_batch_is_normalised_as_in_training(network: keras.Model) -> None:
    statistics = PreciseStatistics(network, CROPS[:4], normalise, 4)
    images = normalise(CROPS[:4])
    before = [np.array(weight) for weight in network.get_weights()]
    with statistics.in_place():
        inference = network(images, training=False).numpy()
    for weight, value in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)  # put back
    np.testing.assert_allclose(inference, network(images, training=True).numpy(), atol=1e-4)


def test_fused_layers_in_half_precision_are_measured() -> None:
    with precision_policy("mixed_bfloat16"):
        keras.utils.set_random_seed(0)
        half = build_unet((16, 16, 3), 3, filters=4, depth=1)
    keras.utils.set_random_seed(0)
    full = build_unet((16, 16, 3), 3, filters=4, depth=1)
    assert fuse_norms(half)
    found, expected = (PreciseStatistics(model, CROPS, normalise, 4).measure() for model in (half, full))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0.1, atol=0.05)


def test_fewer_crops_than_a_batch_are_measured(network: keras.Model) -> None:
    found = PreciseStatistics(network, CROPS[:2], normalise, 4).measure()
    assert all(np.isfinite(value).all() for value in found.values())


@pytest.mark.slow
def test_training_is_the_same_and_the_kept_statistics_are_measured(cells: Path, tmp_path: Path) -> None:
    for kind in ("precise", "moving"):
        settings = TrainSettings.from_flat({**TINY, "norm_statistics": kind})
        train(cells, tmp_path / kind, settings, say=silent)
    checkpoints = [RunFolder(tmp_path / kind).read_checkpoint() for kind in ("precise", "moving")]
    assert checkpoints[0] is not None and checkpoints[1] is not None
    for name, value in checkpoints[0][0].items():
        np.testing.assert_array_equal(value, checkpoints[1][0][name])
    weights = [RunFolder(tmp_path / kind).read_weights() for kind in ("precise", "moving")]
    same = {name.rpartition("/")[2] for name in weights[0] if np.array_equal(weights[0][name], weights[1][name])}
    assert not {"moving_mean", "moving_variance"} & same
    # What an earlier version began does not say, and is gone on with as it was.
    info = RunFolder(tmp_path / "moving").read_info()
    info.settings["fit"].pop("norm_statistics")
    RunFolder(tmp_path / "moving").write_info(info)
    resume(tmp_path / "moving", say=silent)
    assert info.train_settings(tmp_path).fit.norm_statistics == "moving"
