"""Calibration after int8: what is fitted against known answers; what a file, its receipt and its runtime say of it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import silent
from scipy.optimize import minimize

from keras_unetres.cli import main
from keras_unetres.scores.reliability import Bins, measure_reliability
from keras_unetres.tflite.seal import add_card
from keras_unetres.trust.calibrate import fit_calibration, left_out_calibrations, log_loss
from keras_unetres.trust.scored_pixels import ScoredPixels, score_pixels
from keras_unetres.verify.held_out import HeldOut, read_held_out
from keras_unetres.verify.receipt import read_receipt
from keras_unetres.verify.rows import ScoredOn
from keras_unetres.workflows.calibrate import calibrate_file
from keras_unetres.workflows.export import export
from unetres_edge import Segmenter, read_card
from unetres_edge.model.calibration import Calibration
from unetres_edge.model.card import seal
from unetres_edge.results.softmax import largest_probability, probabilities


def drawn(temperature: float, bias: tuple[float, ...], images: int = 6, count: int = 4000) -> ScoredPixels:
    """Scores whose labels are drawn from the probabilities of scores / temperature + bias."""
    rng = np.random.default_rng(3)
    scores = rng.normal(0, 4, (images * count, len(bias))).astype(np.float32)
    chances = probabilities(scores, "softmax", Calibration(temperature, bias))
    labels = (rng.random((len(scores), 1)) > chances.cumsum(-1)[:, :-1]).sum(-1)
    return ScoredPixels(scores, labels, np.repeat(np.arange(images), count))


def test_the_temperature_that_drew_the_labels_is_found() -> None:
    pixels = drawn(3.0, (0.0, 0.0, 0.0))
    found = fit_calibration(pixels, biases=False, split="val")
    assert found is not None
    assert found.temperature == pytest.approx(3.0, rel=0.03)
    assert (found.bias, found.images, found.split) == ((), 6, "val")
    assert log_loss(pixels, found) < log_loss(pixels)


def test_biases_are_found_where_they_pay_and_only_there() -> None:
    found = fit_calibration(drawn(2.0, (0.0, -1.5, 1.0)))
    assert found is not None
    np.testing.assert_allclose(np.array(found.bias) - found.bias[0], [0.0, -1.5, 1.0], atol=0.12)
    plain = fit_calibration(replace(drawn(1.0, (0.0, 0.0)), image=np.repeat(np.arange(12), 2000)))
    assert plain is not None
    assert abs(np.ptp(plain.bias) if plain.bias else 0) < 0.1


def test_probabilities_that_are_right_are_left_as_they_are_or_nearly() -> None:
    found = fit_calibration(drawn(1.0, (0.0, 0.0, 0.0)))
    assert found is not None
    assert found.temperature == pytest.approx(1.0, rel=0.02)


def test_the_fit_is_the_smallest_loss_that_another_search_finds() -> None:
    pixels = drawn(1.7, (0.0, 0.0), count=500)
    found = fit_calibration(pixels, biases=False)
    assert found is not None
    other = minimize(lambda t: log_loss(pixels, Calibration(float(t[0]))), [1.0], method="Nelder-Mead")
    assert log_loss(pixels, found) <= other.fun + 1e-7


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["sigmoid", "none"])
def test_other_ends_are_calibrated_too(activation: str) -> None:
    pixels = drawn(2.5, (0.0, 0.0, 0.0))
    if activation == "none":
        claimed = replace(pixels, scores=probabilities(pixels.scores), activation="none")
        found = fit_calibration(claimed, biases=False)
        assert found is not None
        assert found.temperature == pytest.approx(2.5, rel=0.04)
    else:
        claimed = replace(pixels, activation="sigmoid")
        found = fit_calibration(claimed)
        assert found is not None
        assert log_loss(claimed, found) < log_loss(claimed)


def test_scores_that_are_never_wrong_get_a_temperature_within_bounds() -> None:
    scores = np.eye(2, dtype=np.float32)[[0, 1] * 50] * 3
    found = fit_calibration(ScoredPixels(scores, scores.argmax(-1), np.arange(100) // 25))
    assert found is not None
    assert 1 / 64 <= found.temperature < 1


def test_nothing_labelled_is_no_calibration_and_one_image_a_temperature() -> None:
    pixels = drawn(2.0, (0.0, 1.0), images=1)
    assert fit_calibration(pixels.of(pixels.labels > 9)) is None
    found = fit_calibration(pixels)
    assert found is not None
    assert found.bias == ()


def test_each_fold_is_left_out_once() -> None:
    pixels = drawn(2.0, (0.0, 0.0), images=7, count=100)
    parts = left_out_calibrations(pixels, like=Calibration(2.0))
    assert np.array_equal(sum(own.astype(int) for own, _ in parts), np.ones(700))
    assert all(len(set(pixels.image[own]) & set(pixels.image[~own])) == 0 for own, _ in parts)


def test_the_calibration_error_is_that_of_the_paper() -> None:
    claimed = np.array([0.95, 0.95, 0.95, 0.95, 0.6, 0.6])
    right = np.array([1, 1, 1, 0, 1, 0], bool)
    assert Bins.of(claimed, right).error == pytest.approx((4 * abs(0.95 - 0.75) + 2 * abs(0.6 - 0.5)) / 6)
    assert Bins.of(np.array([0.0, 1.0, 1 / 15]), np.ones(3, bool)).counts[[0, -1]].tolist() == [2, 1]
    assert Bins.of(np.zeros(0), np.zeros(0, bool)).error == 0


def test_calibration_brings_the_error_down_and_keeps_labels() -> None:
    pixels = drawn(4.0, (0.0, 0.5, 0.0))
    found = fit_calibration(pixels)
    assert found is not None
    before = measure_reliability(pixels.scores, pixels.labels, pixels.activation, "abc")
    after = measure_reliability(
        pixels.scores, pixels.labels, pixels.activation, "abc", left_out_calibrations(pixels, like=found)
    )
    assert after.answers.error < 0.02 < before.answers.error
    assert all(after.classes[name].error < before.classes[name].error for name in "abc")
    assert after.answers.right.sum() == before.answers.right.sum()


def test_confidence_is_of_the_label_that_the_scores_give() -> None:
    scores = np.array([[[1.0, 0.9]]], np.float32)
    calibration = Calibration(1.0, (0.0, 2.0))
    expected = np.exp(1.0) / (np.exp(1.0) + np.exp(2.9))
    assert largest_probability(scores, "softmax", calibration)[0, 0] == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def exported(
    run_folder: Path, int8_file: Path, float32_file: Path, cells: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """An int8 file that went through the gate, and its data set; conversion gives files that were made before."""

    def make(model: Any, path: Path, *, recipe: str, **rest: Any) -> Any:
        shutil.copy(float32_file if recipe == "float32" else int8_file, path)
        return SimpleNamespace(path=os.fspath(path), head="logits", num_calibration=24, agreement=0.99)

    path = tmp_path_factory.mktemp("calibrated") / "m.tflite"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_unetres.tflite.export_tflite", make)
        export(run_folder, path, split="val", max_drop=5.0, say=silent)
    return path, cells


def test_export_calibrates_and_the_receipt_says_so(exported: tuple[Path, Path]) -> None:
    file, _ = exported
    card = read_card(file.read_bytes())
    receipt = json.loads(file.with_name(file.stem + ".receipt.json").read_text())
    assert card.calibration is not None
    assert receipt["reliability"]["calibration"] == card.calibration.to_dict()
    assert receipt["reliability"]["measured_on"].startswith("1 validation image")
    assert read_receipt(file).to_dict() == receipt
    assert receipt["file"]["sha256"] == card.sha256
    page = file.with_name(file.stem + ".receipt.html").read_text()
    assert "Whether probabilities are right" in page
    assert page.count('class="chart reliability"') == 2


def test_calibrate_changes_probabilities_alone(exported: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    file, data = exported
    plain = tmp_path / "plain.tflite"
    plain.write_bytes(add_card(file.read_bytes(), replace(read_card(file.read_bytes()), calibration=None)))
    out = tmp_path / "calibrated.tflite"
    words = ["calibrate", str(plain), "--data", str(data), "--out", str(out)]
    assert main([*words, "--json", str(tmp_path / "f.json")]) == 0
    assert "calibrated on" in capsys.readouterr().out
    before, after = read_card(plain.read_bytes()), read_card(out.read_bytes())
    assert after.calibration is not None
    assert replace(after, calibration=None, sha256=before.sha256) == before
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["calibration"] == after.calibration.to_dict()
    image = np.random.default_rng(0).integers(0, 256, (70, 50), np.uint8)
    if before.preprocessing.channels == 3:
        image = np.repeat(image[..., None], 3, -1)
    with Segmenter(plain) as first, Segmenter(out) as second:
        a, b = (each.segment(image, scores=True, confidence=True) for each in (first, second))
    np.testing.assert_array_equal(a.class_map, b.class_map)
    np.testing.assert_array_equal(a.scores, b.scores)
    expected = np.take_along_axis(b.probabilities(), b.class_map[..., None].astype(int), -1)[..., 0]
    np.testing.assert_allclose(b.confidence, expected, rtol=1e-5)
    assert main(words) == 2
    assert main(["calibrate", str(plain), "--data", str(tmp_path / "nowhere")]) == 3


def test_the_receipt_beside_a_file_follows_it(exported: tuple[Path, Path], tmp_path: Path) -> None:
    file, data = exported
    for each in file.parent.iterdir():
        shutil.copy(each, tmp_path)
    model = tmp_path / file.name
    assert main(["calibrate", str(model), "--data", str(data), "--split", "test"]) == 0
    card, receipt = read_card(model.read_bytes()), read_receipt(model)
    assert card.calibration is not None
    assert card.calibration.split == "test"
    assert receipt.file.sha256 == card.sha256
    assert receipt.reliability is not None
    assert receipt.reliability["calibration"] == card.calibration.to_dict()
    assert receipt.rows == read_receipt(file).rows


@pytest.mark.slow
def test_a_promise_is_put_on_the_card_and_given_up_for(
    exported: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    file, data = exported
    out = tmp_path / "m.tflite"
    words = ["calibrate", str(file), "--data", str(data), "--split", "all", "--out", str(out), "--risk"]
    assert main([*words, "miss<=0.01"]) == 3
    assert "at least 99 images" in capsys.readouterr().err
    assert not out.exists()
    assert main([*words, "lose<=0.3"]) == 2
    assert main([*words, "miss<=0.3", "error<=0.4"]) == 0
    assert "promised   miss<=0.3, by 8 images" in capsys.readouterr().out
    promises = read_card(out.read_bytes()).promises
    assert [(each.risk, each.level, each.images) for each in promises] == [("miss", 0.3, 8), ("error", 0.4, 8)]
    image = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    with Segmenter(out) as segmenter:
        image = image if segmenter.card.preprocessing.channels == 1 else np.repeat(image[..., None], 3, -1)
        plain, careful = segmenter.segment(image).class_map, segmenter.segment(image, abstain=True).class_map
    np.testing.assert_array_equal(careful[careful != 255], plain[careful != 255])


def test_what_makes_test_images_worse_is_left_out(exported: tuple[Path, Path]) -> None:
    """Labels that are all right want sharper probabilities, labels that are all wrong want softer ones."""
    file, data = exported
    plain = file.read_bytes()
    validation = read_held_out(read_card(plain), str(data), "val", None)
    with Segmenter(plain) as segmenter:
        picture = validation.records[0].image
        labels = segmenter.segment(picture).class_map
    about = ScoredOn("x", "test", 1, "", ())
    kept = {}
    for name, mask in (("right", labels), ("wrong", (1 - labels).astype(np.uint8))):
        test = HeldOut([SimpleNamespace(name=name, image=picture, mask=mask)], about, validation.task)
        calibrated, figures = calibrate_file(plain, validation, test, say=silent)
        found = read_card(calibrated).calibration
        assert (found is None) == ("why_not" in figures)
        kept[name] = found
    temperature = fit_calibration(score_pixels_of(plain, validation), biases=True).temperature
    assert temperature != 1
    left_out = "right" if temperature > 1 else "wrong"
    assert [name for name, found in kept.items() if found is None] == [left_out]


def score_pixels_of(data: bytes, held: HeldOut) -> ScoredPixels:
    with held.task.open_file(data) as opened:
        return score_pixels(opened, held.task, held.records)


def test_a_file_without_scores_is_refused_by_name(exported: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    file, data = exported
    model = tmp_path / "labels.tflite"
    model.write_bytes(seal(_with_head(file.read_bytes())))
    assert main(["calibrate", str(model), "--data", str(data)]) == 2
    assert "--head logits" in capsys.readouterr().err


def _with_head(data: bytes) -> bytes:
    return data.replace(b'"head": "logits"', b'"head": "argmax"')
