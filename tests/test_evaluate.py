"""One confusion count and what follows from it, against numpy that goes class by class; scoring; pictures."""

from __future__ import annotations

import io
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_unetres.pages.pictures import curves, sample_sheet
from keras_unetres.scores import score
from keras_unetres.scores.confusion import Confusion
from keras_unetres.tasks.keras_engine import KerasEngine
from unetres_edge import Card, Preprocessing, Segmenter
from unetres_edge.errors import ModelError
from unetres_edge.model.card import default_colors

IGNORED = 255
COLORS = default_colors(4)


def make_pair(seed: int, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """A mask with ignored pixels and without the last class, and a prediction that is right in about half of it."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, classes - 1, (9, 11)).astype(np.uint8)
    mask[rng.random(mask.shape) < 0.2] = IGNORED
    guess = np.where(rng.random(mask.shape) < 0.5, mask % classes, rng.integers(0, classes, mask.shape))
    return mask, guess.astype(np.uint8)


def test_counts_and_scores_are_those_of_sets_of_pixels() -> None:
    pairs = [make_pair(seed) for seed in range(3)]
    confusion = Confusion.empty(4)
    for mask, guess in pairs:
        confusion += Confusion.of(mask, guess, 4)
    masks, guesses = (np.concatenate([pair[n].ravel() for pair in pairs]) for n in (0, 1))
    known = masks != IGNORED
    assert (guesses[known] == 3).any()
    for truth in range(4):
        for label in range(4):
            assert confusion.counts[truth, label] == ((masks == truth) & (guesses == label) & known).sum()
    ious = confusion.iou()
    for label in range(3):
        both = ((masks == label) & (guesses == label)).sum()
        either = (((masks == label) | (guesses == label)) & known).sum()
        assert ious[label] == pytest.approx(both / either, rel=1e-12)
    assert ious[3] is None
    assert confusion.mean_iou() == pytest.approx(np.mean(ious[:3]), rel=1e-12)
    assert confusion.pixel_accuracy() == pytest.approx((masks == guesses)[known].mean(), rel=1e-12)
    assert confusion.to_dict(("a", "b", "c", "d")) == {
        "miou": confusion.mean_iou(),
        "mean_dice": confusion.mean_dice(),
        "fwiou": confusion.frequency_weighted_iou(),
        "pixel_accuracy": confusion.pixel_accuracy(),
        "per_class_iou": dict(zip("abcd", ious, strict=True)),
        "per_class_dice": dict(zip("abcd", confusion.dice(), strict=True)),
    }


def test_the_count_is_over_all_pixels_not_a_mean_of_images() -> None:
    small = Confusion.of(np.zeros((1, 1), np.uint8), np.ones((1, 1), np.uint8), 2)
    large = Confusion.of(np.zeros((3, 3), np.uint8), np.zeros((3, 3), np.uint8), 2)
    assert (small + large).iou() == [0.9, None]


def test_nothing_counted_has_no_score() -> None:
    nothing = Confusion.of(np.full((4, 4), IGNORED, np.uint8), np.ones((4, 4), np.uint8), 2)
    for confusion in (nothing, Confusion.empty(2)):
        assert confusion.counts.sum() == 0
        assert (confusion.mean_iou(), confusion.pixel_accuracy(), confusion.iou()) == (None, None, [None, None])


def test_the_last_of_many_classes_does_not_overflow() -> None:
    mask = np.full((2, 2), 254, np.uint8)
    assert Confusion.of(mask, mask, 255).counts[254, 254] == 4


class Threshold:
    """An engine that calls what is above the middle class 1."""

    def run(self, tile: np.ndarray) -> np.ndarray:
        light = tile[..., 0].astype(np.float32) - 127.5
        return np.stack([-light, light], -1)


def make_card(**fields) -> Card:
    pre = Preprocessing(channels=1, size=(16, 16))
    return Card(**{"class_names": ("dark", "light"), "class_colors": default_colors(2), "preprocessing": pre, **fields})


def test_scoring_goes_through_the_segmenter() -> None:
    rng = np.random.default_rng(0)
    records = []
    for size in ((16, 16), (9, 40), (33, 20)):
        image = rng.integers(0, 256, size, np.uint8)
        mask = (image >= 128).astype(np.uint8)
        mask[rng.random(size) < 0.25] ^= 1
        mask[rng.random(size) < 0.1] = IGNORED
        records.append((image, mask))
    found = score(Segmenter(None, card=make_card(), engine=Threshold()), records)
    confusion = sum(
        (Confusion.of(mask, (image >= 128) + np.uint8(0), 2) for image, mask in records), Confusion.empty(2)
    )
    expected = confusion.to_dict(("dark", "light"))
    assert {key: found[key] for key in expected} == expected
    assert 0.5 < found["miou"] < 0.75
    assert found["num_images"] == 3
    assert found["ms_per_image"] > 0


def test_scoring_nothing() -> None:
    found = score(Segmenter(None, card=make_card(), engine=Threshold()), [])
    assert (found["miou"], found["num_images"], found["ms_per_image"]) == (None, 0, None)


def test_the_keras_engine_feeds_the_model_as_the_card_says() -> None:
    pre = Preprocessing(channels=3, value_range=(-1, 1), mean=(0.1, 0.2, 0.3), std=(1, 2, 3), size=(8, 8))
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Identity()(inputs))
    tile = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    expected = (tile / 127.5 - 1 - [0.1, 0.2, 0.3]) / [1, 2, 3]
    np.testing.assert_allclose(KerasEngine(model, pre).run(tile), expected, atol=1e-6)


def test_scores_that_are_not_finite_are_refused() -> None:
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Rescaling(float("nan"))(inputs))
    with pytest.raises(ModelError, match="not finite"):
        KerasEngine(model, Preprocessing(channels=1, size=(8, 8))).run(np.ones((8, 8, 1), np.uint8))


def test_keras_and_float32_file_score_alike(run_folder: Path, float32_file: Path, cells: Path) -> None:
    from keras_unetres.tasks.loading import open_segmenter
    from keras_unetres.tasks.reading import read_for

    scores = []
    for model in (run_folder, float32_file):
        with open_segmenter(model) as segmenter:
            records = read_for(segmenter.card, cells, "all")
            scores.append(score(segmenter, ((record.image, record.mask) for record in records)))
    assert scores[0]["num_images"] == scores[1]["num_images"] == 8
    assert scores[0]["miou"] == pytest.approx(scores[1]["miou"], abs=1e-4)


def test_a_sheet_shows_every_panel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    mask = (image >= 128).astype(np.uint8)
    narrow = sample_sheet(image, mask, {"one": mask}, COLORS, height=64)
    wide = sample_sheet(image, mask, {"one": mask, "two": mask}, COLORS, height=64)
    assert (narrow.dtype, narrow.shape[2]) == (np.uint8, 3)
    assert wide.shape[0] == narrow.shape[0]
    assert wide.shape[1] > narrow.shape[1] >= 4 * 64


def test_a_sheet_marks_wrong_pixels_but_not_ignored_ones() -> None:
    image = np.zeros((16, 16), np.uint8)

    def red(mask: np.ndarray) -> int:
        sheet = sample_sheet(image, mask, {"one": image}, COLORS, height=64)[:, -64:]
        return int((sheet == [255, 0, 0]).all(-1).sum())

    mask = np.zeros((16, 16), np.uint8)
    assert red(mask) == 0
    mask[:4, :4] = IGNORED
    assert red(mask) == 0
    mask[8:, 8:] = 1
    assert 0.7 * 32 * 32 < red(mask) <= 32 * 32  # a quarter of the panel, its edges smoothed


def test_curves_are_a_picture() -> None:
    history = [{"epoch": 1, "loss": 1.0, "miou": 0.2}, {"epoch": 2, "loss": 0.5, "miou": 0.4, "val_miou": 0.3}]
    picture = Image.open(io.BytesIO(curves(history)))
    assert picture.format == "PNG"
    assert picture.width > picture.height > 200
    assert curves(history) != curves([{**history[0]}])
