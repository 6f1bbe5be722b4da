"""The statistics of training pictures that a card gets: shrinkage against scikit-learn, distances, calibrate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import silent
from sklearn.covariance import ledoit_wolf
from sklearn.neighbors import NearestNeighbors

from keras_unetres.data.synthetic import write_cells
from keras_unetres.tflite.seal import add_card
from keras_unetres.trust.familiarity import FEWEST, fit_familiarity, seen_features, shrunk_covariance
from keras_unetres.workflows.calibrate import calibrate
from unetres_edge import Preprocessing, Segmenter, read_card
from unetres_edge.images.decode import read_image
from unetres_edge.model.familiarity import ALARM
from unetres_edge.results.doubt import Doubts

NAMES = tuple("abcdef")


def table(count: int, seed: int) -> np.ndarray:
    """Features that go together in pairs."""
    values = np.random.default_rng(seed).normal(size=(count, len(NAMES)))
    values[:, 1::2] = values[:, ::2] + 0.3 * values[:, 1::2]
    return values


def test_the_shrunk_covariance_is_that_of_scikit_learn() -> None:
    values = table(40, 0)
    values = (values - values.mean(0)) / values.std(0)
    np.testing.assert_allclose(shrunk_covariance(values), ledoit_wolf(values, assume_centered=True)[0], rtol=1e-10)


def test_the_distance_is_mahalanobis_from_the_nearest_training_picture() -> None:
    training = table(500, 1)
    found = fit_familiarity(training, table(60, 2), NAMES)
    assert found is not None
    assert (found.images, len(found.pictures), len(found.distances)) == (500, 500, 60)
    point = np.array([0.5, 0.6, -0.2, 0.0, 0.1, 0.3])
    z = (training - point) / training.std(0)
    standardised = (training - training.mean(0)) / training.std(0)
    nearest = NearestNeighbors(n_neighbors=6).fit(standardised).kneighbors(return_distance=False)[:, :5]
    apart = (standardised[:, None] - standardised[nearest]).reshape(-1, len(NAMES))
    lengths = np.linalg.norm(apart, axis=1)
    usual = apart[lengths <= np.quantile(lengths, 0.9)]
    inverse = np.linalg.inv(ledoit_wolf(usual, assume_centered=True)[0] + 1e-4 * np.eye(len(NAMES)))
    expected = np.sqrt(np.einsum("nf,fg,ng->n", z, inverse, z).min() / len(point))
    assert found.distance(point) == pytest.approx(expected, abs=0.15), "pictures are kept in sixteenths of a spread"
    assert found.distance(training[7]) < 0.05


def test_what_lies_between_two_kinds_of_pictures_is_like_neither() -> None:
    """Its features are near the mean of all, and within the range of each."""
    kinds = np.where(np.arange(300) % 2, 6.0, -6.0)[:, None] * np.array([1, 1, 0, 0, 0, 0])
    found = fit_familiarity(table(300, 3) + kinds, table(200, 4) + kinds[:200], NAMES)
    assert found is not None
    assert found.p_value(np.zeros(6)) <= ALARM
    assert np.mean([found.p_value(row) <= ALARM for row in table(300, 5) + kinds]) < 0.09


def test_one_in_twenty_pictures_of_the_same_kind_is_an_alarm() -> None:
    found = fit_familiarity(table(300, 3), table(200, 4), NAMES)
    assert found is not None
    alarms = np.mean([found.p_value(row) <= ALARM for row in table(2000, 5)])
    assert 0.02 < alarms < 0.09
    against = np.array([[1.5, -1.5, 0, 0, 0, 0]])  # each within its range, but not together
    assert found.p_value(against[0]) <= ALARM


def test_few_held_out_pictures_are_judged_by_the_others() -> None:
    found = fit_familiarity(table(30, 6), table(4, 7), NAMES)
    assert found is not None
    assert (found.images, len(found.distances), found.held_out) == (34, 34, 4)
    assert not found.promised
    assert found.doubts == ()
    assert fit_familiarity(table(FEWEST - 5, 6), table(4, 7), NAMES) is None


def test_of_few_doubts_the_next_one_is_guessed() -> None:
    doubts = [1000, 1500, 2000, 3000]
    found = fit_familiarity(table(200, 6), table(4, 7), NAMES, [Doubts(each, 9 * each) for each in doubts])
    assert found is not None
    assert len(found.doubts) == len(found.borders) == len(found.distances) == 204
    assert np.median(found.borders) == pytest.approx(9 * np.exp(np.log(doubts).mean()), rel=0.02)
    assert abs(np.corrcoef(found.doubts, found.borders)[0, 1]) < 0.3, "of the two, neither is said to follow the other"
    assert np.median(found.doubts) == pytest.approx(np.exp(np.log(doubts).mean()), rel=0.02)
    assert np.quantile(found.doubts, 0.95) > max(doubts), "four pictures do not show the largest of twenty"
    alike = fit_familiarity(table(200, 6), table(2, 7), NAMES, [Doubts(1000, 9000)] * 2)
    assert alike is not None
    assert np.ptp(alike.doubts) > 0
    single = fit_familiarity(table(200, 6), table(1, 7), NAMES, [Doubts(1000, 9000)])
    assert single is not None
    assert single.doubts == ()


def test_doubts_stay_with_the_distances_of_their_pictures() -> None:
    full = table(1000, 9)
    found = fit_familiarity(table(300, 8), full, NAMES, [Doubts(each, each + 7) for each in range(1000)])
    assert found is not None
    assert found.promised
    assert len(found.distances) == 255
    for distance, doubt, border in zip(found.distances, found.doubts, found.borders, strict=True):
        assert border == doubt + 7
        assert distance == pytest.approx(found.distance(full[doubt]), abs=1e-4)


def test_features_are_of_what_the_network_sees() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 40, 3), np.uint8)
    pre = Preprocessing(channels=3, size=(32, 32), fit="resize")
    rgb, bgr = seen_features(pre, image), seen_features(replace(pre, color_order="bgr"), image)
    np.testing.assert_allclose(rgb, bgr)
    assert not np.allclose(rgb, seen_features(replace(pre, fit="crop"), image))


@pytest.mark.slow
def test_calibrate_puts_trees_on_the_card_and_says_how_right_they_are(int8_file: Path, tmp_path: Path) -> None:
    data = write_cells(tmp_path / "cells", num_images=130, size=(64, 64))
    said: list[str] = []
    model = tmp_path / "m.tflite"
    figures = calibrate(int8_file, data, out=model, say=said.append)
    known = read_card(model.read_bytes()).familiarity
    assert known is not None
    assert known.quality is not None
    assert known.promised
    assert len(json.dumps(known.to_dict())) < 64_000
    quality = figures["quality"]
    assert len(quality["images"]) == known.held_out
    assert quality["mean_error"] < 0.15
    (line,) = [line for line in said if line.startswith("expects")]
    assert f"off by {quality['mean_error']:.3f} in the mean ({known.held_out} validation images)" in line
    with Segmenter(model) as segmenter:
        noise = segmenter.segment(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
        untouched = [value for value, _ in quality["images"]]
        assert noise.quality is not None
        assert noise.quality < min(untouched)
        assert noise.familiarity is not None
        assert noise.familiarity <= ALARM


@pytest.mark.slow
def test_calibrate_puts_it_on_the_card(int8_file: Path, tmp_path: Path) -> None:
    data = write_cells(tmp_path / "cells", num_images=40, size=(64, 64))
    model = tmp_path / "m.tflite"
    plain = int8_file.read_bytes()
    model.write_bytes(add_card(plain, replace(read_card(plain), familiarity=None)))
    calibrate(model, data, say=silent)
    found = read_card(model.read_bytes()).familiarity
    assert found is not None
    assert found.known
    assert len(found.doubts) == len(found.borders) == len(found.distances)
    picture = next(path for path in sorted((data).rglob("images/*")) if path.is_file())
    with Segmenter(model) as segmenter:
        image = read_image(picture)
        assert segmenter.segment(image).familiarity > ALARM
        noisy = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
        odd = segmenter.segment(noisy)
        assert odd.familiarity <= ALARM
        assert odd.warnings
