"""Pixels that are given up for a promise: the doubt, the class map, the card, and `predict --abstain`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from models import make_card, make_conv
from PIL import Image

from unetres_edge import Card, Segmenter
from unetres_edge.cli import main
from unetres_edge.errors import ModelError, UsageError
from unetres_edge.model.calibration import Calibration
from unetres_edge.model.promise import Promise
from unetres_edge.results.softmax import probabilities

MISS = Promise("miss", (1,), 0.1, 0.3, 40)
CHANCES = np.array([[[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.1, 0.9]]], np.float32)
LABELS = CHANCES.argmax(-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("risk", "classes", "expected"),
    [("miss", (1,), [0.2, 0.4, 0, 0]), ("false", (1,), [0, 0, 0.3, 0.1]), ("error", (), [0.2, 0.4, 0.3, 0.1])],
)
def test_the_doubt_is_the_probability_of_adding_to_the_risk(
    risk: str, classes: tuple[int, ...], expected: list[float]
) -> None:
    doubt = Promise(risk, classes, 0.1, 0.5, 20).doubt(CHANCES, LABELS)
    np.testing.assert_allclose(doubt[0], expected, atol=1e-6)


def make_file(*promises: Promise, calibration: Calibration | None = None) -> bytes:
    """A file whose second score is the level of the pixel, less 100, over 40."""
    card = dataclasses.replace(make_card(), promises=promises, calibration=calibration)
    return make_conv(card, np.array([[0.0], [1 / 40]], np.float32), np.array([0, -2.5], np.float32))


@pytest.mark.parametrize("calibration", [None, Calibration(2.0, (0.0, 0.5))])
def test_pixels_are_given_up_where_the_doubt_is_larger(calibration: Calibration | None) -> None:
    image = np.arange(0, 250, 2, dtype=np.uint8).reshape(5, 25)
    with Segmenter(make_file(MISS, calibration=calibration)) as segmenter:
        plain = segmenter.segment(image, scores=True)
        found = segmenter.segment(image, abstain=True).class_map
    chances = probabilities(plain.scores, "softmax", calibration)[..., 1]
    up = (plain.class_map == 0) & (chances > MISS.threshold)
    assert up.any()
    assert not up.all()
    np.testing.assert_array_equal(found == 255, up)
    np.testing.assert_array_equal(found[~up], plain.class_map[~up])


def test_two_promises_give_up_what_either_does() -> None:
    image = np.arange(0, 250, 2, dtype=np.uint8).reshape(5, 25)
    false = Promise("false", (1,), 0.1, 0.2, 40)
    maps = []
    for promises in ([MISS], [false], [MISS, false]):
        with Segmenter(make_file(*promises)) as segmenter:
            maps.append(segmenter.segment(image, abstain=True).class_map == 255)
    np.testing.assert_array_equal(maps[0] | maps[1], maps[2])


def test_a_file_that_promises_nothing_says_how_it_could() -> None:
    with Segmenter(make_file()) as segmenter, pytest.raises(UsageError, match="--risk"):
        segmenter.segment(np.zeros((8, 8), np.uint8), abstain=True)


def test_the_expected_iou_is_that_of_sums() -> None:
    image = np.arange(0, 250, 2, dtype=np.uint8).reshape(5, 25)
    with Segmenter(make_file()) as segmenter:
        result = segmenter.segment(image, scores=True)
    p, one = result.probabilities()[..., 1].astype(float), result.class_map == 1
    first = p[one].sum() / (one.sum() + p[~one].sum())
    other = (1 - p)[~one].sum() / ((~one).sum() + (1 - p)[one].sum())
    assert result.expected_iou() == pytest.approx((first + other) / 2, rel=1e-5)


def test_a_card_holds_promises_and_older_cards_none() -> None:
    card = dataclasses.replace(make_card(), promises=(MISS, Promise("error", (), 0.05, 1.0, 19)))
    assert Card.from_json(card.to_json()) == card
    values = json.loads(card.to_json())
    del values["promises"]
    assert Card.from_json(json.dumps(values)).promises == ()


@pytest.mark.parametrize(
    "change",
    [
        {"risk": "luck"},
        {"classes": []},
        {"classes": [7]},
        {"classes": [-1]},
        {"classes": [0.0]},
        {"classes": None},
        {"level": 0},
        {"level": 1},
        {"threshold": -0.1},
        {"threshold": float("nan")},
        {"threshold": "0.1"},
        {"images": 0},
        {"images": 2.5},
    ],
    ids=str,
)
def test_a_promise_that_cannot_be_meant_is_refused(change: dict) -> None:
    values = json.loads(dataclasses.replace(make_card(), promises=(MISS,)).to_json())
    values["promises"][0].update(change)
    with pytest.raises(ModelError):
        Card.from_json(json.dumps(values))
    with pytest.raises(ModelError):
        Card.from_json(json.dumps(values | {"promises": {}}))


def test_predict_gives_up_pixels_and_says_how_many(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(make_file(MISS))
    Image.fromarray(np.arange(0, 250, 2, dtype=np.uint8).reshape(5, 25)).save(tmp_path / "a.png")
    words = ["predict", f"{tmp_path / 'm.tflite'}", f"{tmp_path / 'a.png'}", "--out", f"{tmp_path / 'out'}"]
    assert main([*words, "--abstain", "--overlay", "--json", f"{tmp_path / 's.json'}"]) == 0
    found = np.array(Image.open(tmp_path / "out" / "a.png"))
    (row,) = json.loads((tmp_path / "s.json").read_text())["images"]
    assert row["given_up"] == pytest.approx((found == 255).mean(), abs=1e-5)
    assert 0 < row["given_up"] < 1
