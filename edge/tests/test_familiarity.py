"""Pictures unlike the training pictures: their features against plain sums, the p-value, the words, and `predict`."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from models import make_card, make_conv
from PIL import Image

from unetres_edge import Card, Segmenter
from unetres_edge.cli import main
from unetres_edge.commands.inspect import card_lines
from unetres_edge.errors import ModelError
from unetres_edge.images.features import EARLIER_WINDOW, WINDOW, feature_names, picture_features, swapped
from unetres_edge.model.calibration import Calibration
from unetres_edge.model.familiarity import (
    ALARM,
    BEYOND,
    LESS_BORDERS,
    LESS_SURE,
    MORE_BORDERS,
    SWAPPED,
    UNSURE,
    Familiarity,
    border_shifts,
    tails,
)
from unetres_edge.model.promise import Promise
from unetres_edge.model.quality import QualityTrees
from unetres_edge.results.doubt import SURE, Doubt, Doubts, doubt_of, doubts_of, expected_overlap
from unetres_edge.results.softmax import probabilities
from unetres_edge.segment.drift import FIRES, DriftTest, most_warnings
from unetres_edge.segment.stream import Stream

NAMES = feature_names(3)


def picture(seed: int, size: tuple[int, int] = (48, 56)) -> np.ndarray:
    """Smooth spots of warm colours on a dark ground, with a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    ground = np.zeros((*size, 3))
    for _ in range(6):
        center, radius = rng.uniform(0, 48, 2), rng.uniform(4, 9)
        spot = np.exp(-((y - center[0]) ** 2 + (x - center[1]) ** 2) / radius**2)
        ground += spot[..., None] * np.array([150, 90, 50]) * rng.uniform(0.8, 1.1)
    return np.clip(ground + 30 + rng.normal(0, 3, ground.shape), 0, 255).astype(np.uint8)


def known(count: int = 60) -> Familiarity:
    """Statistics of drawn pictures, without correlations, and the distances of as many others."""
    table = np.array([picture_features(picture(seed)) for seed in range(count)])
    spread = np.maximum(table.std(0), 0.02)
    whiten = tuple((1.0, *[0.0] * (len(NAMES) - place - 1)) for place in range(len(NAMES)))
    parts = (tuple(map(float, part)) for part in (table.mean(0), spread, table.min(0), table.max(0)))
    first = Familiarity(NAMES, *parts, whiten, (0.0,), count)
    others = sorted(first.distance(picture_features(picture(1000 + seed))) for seed in range(count))
    return dataclasses.replace(first, distances=tuple(others), window=WINDOW, held_out=count)


def test_features_are_those_of_plain_sums() -> None:
    image = picture(3, (40, 24))
    found = dict(zip(NAMES, picture_features(image), strict=True))
    values = image.astype(int)
    grey = (values.sum(-1) + 1) // 3
    steps = {
        step: np.mean([*np.abs(grey[:, step:] - grey[:, :-step]).ravel(), *np.abs(grey[step:] - grey[:-step]).ravel()])
        for step in (1, 2, 4, 8)
    }
    assert found["mean"] == pytest.approx(grey.mean() / 255)
    assert found["contrast"] == pytest.approx(np.log(grey.std() + 0.5))
    assert found["fine"] == pytest.approx(np.log((steps[1] + 0.05) / (steps[2] + 0.05)))
    assert found["coarse"] == pytest.approx(np.log((steps[4] + 0.05) / (steps[8] + 0.05)))
    assert found["detail"] == pytest.approx(np.log(steps[8] + 0.05))
    red, green, blue = (values[..., channel] for channel in range(3))
    assert found["red to blue"] == pytest.approx((red - blue).mean() / 255)
    assert found["tint"] == pytest.approx(np.log(np.abs(2 * green - red - blue).mean() + 0.5))
    assert found["middle"] == np.sort(grey.ravel())[grey.size // 2 - 1] / 255


def test_swapped_features_are_those_of_the_swapped_picture() -> None:
    image = picture(5)
    np.testing.assert_allclose(swapped(picture_features(image)), picture_features(image[..., ::-1]))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 3), (2, 2, 4), (300, 20, 1), (700, 900, 3)])
def test_pictures_of_any_size_have_features(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    found = picture_features(image)
    assert found.shape == (len(feature_names(shape[-1])),)
    assert np.isfinite(found).all()


def test_a_large_picture_is_seen_by_windows_that_tell_of_all_of_it() -> None:
    image = np.tile(picture(2), (16, 20, 1))
    np.testing.assert_allclose(picture_features(image)[[0, 4, 7]], picture_features(picture(2))[[0, 4, 7]], atol=0.25)


def test_a_picture_of_the_kind_is_familiar_and_one_in_twenty_is_not() -> None:
    familiarity = known()
    values = [familiarity.judge(picture_features(picture(5000 + seed)))[0] for seed in range(100)]
    assert np.mean(np.array(values) <= ALARM) < 0.15
    assert 0.2 < np.mean(values) < 0.8


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda image: np.clip(image.astype(int) + 110, 0, 255), "brighter"),
        (lambda image: image // 4, "contrast"),
        (lambda image: image + np.random.default_rng(0).integers(0, 60, image.shape), "nois"),
        (lambda image: image[..., ::-1], SWAPPED),
        (lambda image: np.array(Image.fromarray(image).resize((14, 12)).resize((56, 48))), "blurred"),
    ],
    ids=["bright", "dim", "noise", "swapped", "blurred"],
)
def test_the_reason_is_said_in_words(change: object, word: str) -> None:
    image = np.asarray(change(picture(7))).astype(np.uint8)  # type: ignore[operator]
    value, reasons, _ = known().judge(picture_features(image))
    assert value <= ALARM
    assert any(word in reason for reason in reasons), reasons
    assert 1 <= len(reasons) <= 3


def test_the_distance_is_that_of_its_formula() -> None:
    familiarity = known()
    features = np.array(familiarity.high) + 2 * np.array(familiarity.spread)
    z = (features - np.array(familiarity.mean)) / np.array(familiarity.spread)
    assert familiarity.distance(features) == pytest.approx(np.sqrt((z**2).mean()) + BEYOND * 2)
    assert familiarity.p_value(features) == 1 / 61
    assert familiarity.p_value(np.array(familiarity.mean)) == 1


def with_doubts(count: int = 60) -> Familiarity:
    """Statistics of drawn pictures, and as many doubts, shuffled."""
    doubts = np.random.default_rng(3).permutation(np.linspace(2000, 9000, count).astype(int))
    return dataclasses.replace(known(count), doubts=tuple(doubts.tolist()))


def test_the_doubt_is_the_mean_entropy_of_two_classes() -> None:
    scores = np.random.default_rng(0).normal(0, 3, (64, 64, 2)).astype(np.float32)
    scores[..., 1] = scores[..., 0] + np.abs(scores[..., 1])  # one label throughout, so that all is inside
    how = Calibration(1.7, (0.2, -0.1))
    chances = probabilities(scores, "softmax", how).astype(np.float64)
    entropy = -(chances * np.log2(chances)).sum(-1).mean()
    assert doubt_of(scores, "softmax", how) / SURE == pytest.approx(entropy, abs=0.01)
    assert doubt_of(np.zeros((9, 9, 4), np.float32)) == SURE
    assert doubt_of(np.array([[[0, 90.0]]], np.float32)) == 0
    certain = np.array([[[1.0, 0.0]]], np.float32)
    assert doubt_of(certain, "none") == 0
    assert doubt_of(np.zeros((9, 9, 3), np.float32), "sigmoid") == SURE


def test_borders_of_regions_are_not_doubted() -> None:
    scores = np.zeros((20, 20, 2), np.float32)
    scores[:, :10, 0], scores[:, 10:, 1] = 3, 3
    inside = doubt_of(scores)
    scores[:, 9:11] *= 0.01  # unsure along the border
    assert doubt_of(scores) == inside
    scores[5:8, 3:6, 0] = 0.5
    assert doubt_of(scores) > inside
    checkers = np.zeros((6, 6, 2), np.float32)
    checkers[..., 0] = np.indices((6, 6)).sum(0) % 2
    checkers[..., 1] = 1 - checkers[..., 0]
    assert doubt_of(checkers) == 55046  # all of them, of which none is inside: the entropy of one nat


def test_the_doubt_does_not_depend_on_how_rows_come() -> None:
    scores = np.random.default_rng(1).normal(size=(301, 217, 3)).astype(np.float32)
    doubt = Doubt(301, 217)
    assert doubt.step > 1
    for row in range(0, 301, 37):
        doubt.add(row, scores[row : row + 37])
    assert doubt.value == doubt_of(scores)
    at_once = Doubt(301, 217)
    at_once.add_seen(scores[at_once.step // 2 :: at_once.step, at_once.step // 2 :: at_once.step])
    assert at_once.value == doubt.value


def test_tails_count_those_as_large_and_how_far_the_largest_stands_out() -> None:
    np.testing.assert_allclose(tails([3, 1, 1, 9]), [2, 4, 4, 3 / 9])
    np.testing.assert_allclose(tails([2, 5, 5]), [3, 2, 2])
    np.testing.assert_allclose(tails([7]), [1])
    np.testing.assert_allclose(tails([0, 0, 4]), [3, 3, 0])


def test_a_doubt_beyond_all_is_an_alarm_and_so_is_a_picture_of_another_kind() -> None:
    familiarity, usual = with_doubts(), picture_features(picture(5001))
    assert familiarity.judge(usual, Doubts(5000))[0] > ALARM
    value, words, _ = familiarity.judge(usual, Doubts(30000))
    assert value <= ALARM
    assert words[0] == UNSURE
    other = picture_features(picture(7)[..., ::-1])
    value, words, _ = familiarity.judge(other, Doubts(0))
    assert value <= ALARM, "a network that is sure of it does not make a picture familiar"
    assert UNSURE not in words
    assert words[0] == SWAPPED
    less = familiarity.reasons(usual, Doubts(sorted(familiarity.doubts)[-2] + 1), None)
    assert less[0] == LESS_SURE


def with_borders(count: int = 60) -> Familiarity:
    """Statistics of drawn pictures, and as many doubts inside and at borders."""
    borders = np.random.default_rng(4).permutation(np.linspace(18_000, 22_000, count).astype(int))
    return dataclasses.replace(with_doubts(count), borders=tuple(borders.tolist()))


def test_more_doubt_at_borders_is_twice_as_far_from_usual_as_less() -> None:
    found = border_shifts([20_000, 20_000, 40_256, 9872, 20_000])
    np.testing.assert_allclose(found, [1, 1, 2**2, 2, 1])


def test_borders_that_are_blurred_or_gone_are_an_alarm_and_said_in_words() -> None:
    familiarity, usual = with_borders(), picture_features(picture(5001))
    assert familiarity.judge(usual, Doubts(8000, 20_000))[0] > ALARM
    for border, word in ((60_000, LESS_BORDERS), (5000, MORE_BORDERS), (0, MORE_BORDERS)):
        value, words, _ = familiarity.judge(usual, Doubts(8000, border))
        assert value <= ALARM
        assert word in words
    assert UNSURE in familiarity.judge(usual, Doubts(30_000, 40_000))[1]
    assert familiarity.judge(usual, Doubts(30_000, 20_000))[0] < 0.3, (
        "one number alone, of a picture with most usual borders"
    )


def test_doubt_at_borders_is_that_of_the_pixels_with_other_neighbours() -> None:
    scores = np.zeros((8, 8, 2), np.float32)
    scores[..., 1] = np.where(np.arange(8) < 4, -9, 9)[None]
    scores[:, 3:5, 1] /= 9  # one nat apart on both sides of the border
    inside, border, *_ = doubts_of(scores)
    assert (inside, border) == (doubt_of(scores), 55046)
    assert inside < 200
    assert doubts_of(np.zeros((8, 8, 2), np.float32))[:2] == (SURE, 0)


def test_inspect_says_what_a_file_knows_of_itself() -> None:
    promises = (Promise("miss", (1,), 0.05, 0.3, 40), Promise("error", (), 0.1, 0.2, 40))
    card = dataclasses.replace(
        make_card(channels=3), familiarity=with_borders(), calibration=Calibration(1.7, (0.2, -0.1), 33, "val")
    )
    lines = card_lines(dataclasses.replace(card, promises=promises), 1000)
    for line in (
        "calibrated temperature 1.7 and a bias a class, found on 33 val images",
        "unfamiliar told by 60 training images and 60 held out",
        "promise    miss(class 1)<=0.05, kept with --abstain; found on 40 images",
        "promise    error<=0.1, kept with --abstain; found on 40 images",
    ):
        assert line in lines
    expects = card_lines(dataclasses.replace(card, familiarity=with_quality()), 1000)
    assert set(expects) - set(lines) >= {"quality    tells the mIoU to expect of each mask"}
    few = card_lines(dataclasses.replace(card, familiarity=dataclasses.replace(with_borders(), held_out=1)), 1000)
    assert any("too few to promise that false alarms are few" in line for line in few)
    assert not any(line.startswith(("calibrated", "unfamiliar", "promise")) for line in card_lines(make_card(), 1000))


def test_false_alarms_are_few_whatever_the_two_numbers_are() -> None:
    """Of pictures of the same kind, with doubt that goes with the distance, and as few as promise anything."""
    rng = np.random.default_rng(0)
    first, alarms, of_borders = known(40), [], []
    for _ in range(400):
        both = rng.lognormal(size=(20, 2)) @ np.array([[1.0, 0.6], [0.0, 0.4]])
        doubts = np.minimum(1000 * both[:, 1], SURE).astype(int).tolist()
        held = dataclasses.replace(first, distances=tuple(both[:-1, 0]), doubts=tuple(doubts[:-1]), held_out=19)
        usual = tails(both[:, 0]) * tails(doubts)
        alarms.append((usual <= usual[-1]).sum() / 20 <= ALARM)
        borders = rng.integers(0, 9000, 20).tolist()
        usual = usual * tails(border_shifts(borders)) ** 2
        of_borders.append((usual <= usual[-1]).sum() / 20 <= ALARM)
        assert held.promised
    assert 0 < np.mean(alarms) < 0.075
    assert 0 < np.mean(of_borders) < 0.075


def test_the_distance_is_that_from_the_nearest_training_picture() -> None:
    table = np.array([picture_features(picture(seed)) for seed in range(20)])
    plain = known(20)
    pictures = np.round(16 * plain.standardised(table)).astype(int).tolist()
    familiarity = dataclasses.replace(plain, pictures=tuple(map(tuple, pictures)))
    features = picture_features(picture(77))
    apart = plain.standardised(features) - np.array(pictures) / 16
    assert familiarity.distance(features) == pytest.approx(np.sqrt((apart**2).mean(1)).min())
    assert familiarity.distance(table[3]) < 0.05 < plain.distance(table[3])
    assert Familiarity.from_dict(json.loads(json.dumps(familiarity.to_dict()))) == familiarity


def test_a_picture_far_beyond_all_others_is_strange_by_that_alone() -> None:
    familiarity = with_borders()
    noise = np.random.default_rng(5).integers(0, 256, (48, 56, 3), np.uint8)
    features = picture_features(noise)
    assert familiarity.distance(features) > 9 * max(familiarity.distances)
    assert familiarity.p_value(features, Doubts(min(familiarity.doubts), 20_000)) <= ALARM, (
        "surer than all, with usual borders"
    )


def with_quality(count: int = 60) -> Familiarity:
    """Two trees by the doubt inside of regions: below 9000 a good mask, above 20,000 none; and of held-out pictures."""
    inside = len(NAMES) + 1
    splits = ((inside, 9000, inside, 4000, inside, 20_000), (inside, 9000, 0, 0, inside, 30_000))
    leaves = ((9000, 9000, 5000, 1000), (9200, 9200, 6000, 2000))
    held = tuple(np.random.default_rng(5).permutation(np.linspace(8800, 9400, count).astype(int)).tolist())
    trees = QualityTrees(len(NAMES) + 5, splits, leaves, held)
    return dataclasses.replace(with_borders(count), quality=trees)


def test_trees_tell_the_mean_of_their_leaves() -> None:
    familiarity, usual = with_quality(), picture_features(picture(5001))
    for doubt, expected in ((3000, 9100), (9000, 9100), (9001, 5500), (25_000, 3500), (60_000, 1500)):
        assert familiarity.expected_quality(usual, Doubts(doubt, 20_000)) == expected
    assert with_borders().expected_quality(usual, Doubts(3000, 20_000)) is None


def test_trees_are_told_whole_numbers() -> None:
    familiarity, features = with_quality(), picture_features(picture(5001))
    told = familiarity.told(features, Doubts(10, 20, 30, 40))
    z = familiarity.standardised(features)
    assert told[:-5] == np.floor(16 * z).astype(int).tolist()
    assert told[-5:] == [int(64 * familiarity.distance(features)), 10, 20, 30, 40]
    far = familiarity.told(np.full(len(NAMES), 1e9), Doubts(10))
    assert max(map(abs, far)) == 65535
    assert far[-3] == 0


def test_a_mask_that_is_expected_to_be_poor_is_an_alarm_and_said_in_words() -> None:
    familiarity, usual = with_quality(), picture_features(picture(5001))
    assert familiarity.judge(usual, Doubts(3000, 60_000)) == (1, (), 0.91), "borders are for the trees to judge"
    value, words, _ = familiarity.judge(usual, Doubts(60_000, 20_000))
    assert value <= ALARM
    assert words[0] == "its mask is likely poor, with an mIoU of about 15 %"
    value, words, _ = familiarity.judge(picture_features(picture(7)[..., ::-1] // 9), Doubts(3000, 20_000))
    assert value <= ALARM, "a picture that is far from all is strange whatever is expected"
    assert not any("likely poor" in word for word in words)


def test_a_mask_counts_as_worse_only_by_five_points() -> None:
    usual = picture_features(picture(5001))
    for least, is_alarm in ((9599, False), (9601, True)):
        held = dataclasses.replace(with_quality().quality, held_out=(least,) * 60)  # type: ignore[type-var]
        value, *_ = dataclasses.replace(with_quality(), quality=held).judge(usual, Doubts(3000, 20_000))
        assert (value <= ALARM) == is_alarm


def test_trees_of_a_later_version_tell_nothing() -> None:
    familiarity, usual = with_quality(), picture_features(picture(5001))
    assert familiarity.quality is not None
    later = dataclasses.replace(familiarity.quality, inputs=len(NAMES) + 6)
    assert dataclasses.replace(familiarity, quality=later).judge(usual, Doubts(5000, 20_000)) == with_borders().judge(
        usual, Doubts(5000, 20_000)
    )


def test_the_expected_overlap_is_that_of_its_chances() -> None:
    levels, labels = np.array([0, 0, 255, 255, 32]), np.array([0, 1, 0, 1, 0])
    right = 1 / (1 + np.exp(-levels / 16))
    ious = []
    for label in (0, 1):
        its = labels == label
        ious.append(right[its].sum() / (its.sum() + (1 - right[~its]).sum()))
    assert expected_overlap(levels, labels, 2) / SURE == pytest.approx(np.mean(ious), abs=1e-3)
    assert expected_overlap(np.array([255]), np.array([2]), 3) == SURE
    scores = np.random.default_rng(0).normal(0, 2, (40, 40, 3)).astype(np.float32)
    told = doubts_of(scores)
    assert 0 < told.overlap < 0.7 * SURE
    assert told.at_borders > 0.9 * SURE


def test_older_cards_look_through_larger_windows() -> None:
    values = known(20).to_dict()
    for key in ("window", "doubts", "held_out"):
        del values[key]
    older = Familiarity.from_dict(values)
    assert (older.window, older.doubts, older.promised) == (EARLIER_WINDOW, (), False)
    image = np.random.default_rng(2).integers(0, 256, (300, 310, 3), np.uint8)
    np.testing.assert_array_equal(older.features_of(image), picture_features(image, EARLIER_WINDOW))
    assert not np.array_equal(older.features_of(image), known(20).features_of(image))


def test_the_segmenter_tells_the_doubt_that_its_scores_have() -> None:
    card = dataclasses.replace(make_card(channels=3), familiarity=with_doubts())
    for size in (card.preprocessing.size, (150, 140)):
        with Segmenter(make_file(card)) as segmenter:
            image = picture(1, size)
            plain, full = segmenter.segment(image), segmenter.segment(image, scores=True)
        assert full.scores is not None
        assert plain.doubt == full.doubt == doubt_of(full.scores) / SURE
        np.testing.assert_array_equal(plain.class_map, full.class_map)
        assert (plain.familiarity, plain.warnings) == (full.familiarity, full.warnings)
    with Segmenter(make_file(dataclasses.replace(card, familiarity=known()))) as segmenter:
        assert segmenter.segment(picture(1)).doubt is None


def test_a_card_holds_it_and_older_cards_do_not() -> None:
    for familiarity in (with_quality(), with_doubts()):
        card = dataclasses.replace(make_card(channels=3), familiarity=familiarity)
        assert Card.from_json(card.to_json()) == card
    values = json.loads(card.to_json())
    assert len(json.dumps(values["familiarity"])) < 9500
    del values["familiarity"]
    assert Card.from_json(json.dumps(values)).familiarity is None


GOOD_TREES = {"inputs": 23, "splits": [[0, 5]], "leaves": [[1, 2]], "held_out": [5000] * 20}
BAD_TREES: list[dict] = [
    {"inputs": "23"},
    {"inputs": 0},
    {"splits": []},
    {"splits": [1]},
    {"splits": [[0, 5, 1]]},
    {"splits": [[0, 5.5]]},
    {"splits": [[23, 5]]},
    {"splits": [[-1, 5]]},
    {"splits": [[0, 1 << 20]]},
    {"leaves": [[1, 2, 3]], "splits": [[0, 5, 0, 5]]},
    {"leaves": [[1, 10_001]]},
    {"leaves": [[1, True]]},
    {"leaves": [[1] * 512], "splits": [[0, 5] * 511]},
    {"held_out": [5000]},
    {"held_out": [-1] * 20},
]


def test_trees_that_can_be_meant_are_read() -> None:
    values = json.loads(dataclasses.replace(make_card(channels=3), familiarity=known(20)).to_json())
    values["familiarity"]["quality"] = GOOD_TREES
    assert Card.from_json(json.dumps(values)).familiarity.quality.leaves == ((1, 2),)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "change",
    [
        {"spread": [0.0] * len(NAMES)},
        {"mean": [0.0]},
        {"mean": [float("nan")] * len(NAMES)},
        {"distances": []},
        {"distances": [0.0] * 5000},
        {"whiten": [[1.0]]},
        {"features": "mean"},
        {"images": 0},
        {"images": True},
        {"low": None},
        {"window": 0},
        {"window": 12},
        {"window": 64.0},
        {"doubts": [1]},
        {"doubts": [-1] * 20},
        {"doubts": [0.5] * 20},
        {"held_out": -1},
        {"borders": [1]},
        {"borders": "1"},
        {"doubts": [1] * 20, "borders": [-1] * 20},
        {"doubts": [1] * 20, "borders": [1.5] * 20},
        {"pictures": 1},
        {"pictures": [1]},
        {"pictures": [[1]]},
        {"pictures": [[0.5] * len(NAMES)]},
        {"pictures": [[1 << 20] * len(NAMES)]},
        {"quality": 1},
        {"quality": {}},
        *[{"quality": GOOD_TREES | change} for change in BAD_TREES],
    ],
    ids=str,
)
def test_statistics_that_cannot_be_meant_are_refused(change: dict) -> None:
    values = json.loads(dataclasses.replace(make_card(channels=3), familiarity=known(20)).to_json())
    values["familiarity"].update(change)
    with pytest.raises(ModelError):
        Card.from_json(json.dumps(values))


def test_features_of_a_later_version_tell_nothing() -> None:
    names = (*NAMES[:-1], "something new")
    card = dataclasses.replace(make_card(channels=3), familiarity=dataclasses.replace(known(20), features=names))
    with Segmenter(make_file(card)) as segmenter:
        result = segmenter.segment(picture(1))
    assert (result.familiarity, result.warnings) == (None, ())


def make_file(card: Card) -> bytes:
    rng = np.random.default_rng(0)
    names = len(card.class_names)
    channels = card.preprocessing.channels
    return make_conv(card, rng.normal(size=(names, channels)).astype(np.float32), np.zeros(names, np.float32))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.tflite"
    path.write_bytes(make_file(dataclasses.replace(make_card(channels=3), familiarity=known())))
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(picture(90)).save(folder / "a.png")
    Image.fromarray(picture(91)[..., ::-1].copy()).save(folder / "b.png")
    return folder


@pytest.mark.parametrize("how", ["warn", "skip", "fail"])
def test_predict_says_what_is_unlike(how: str, model: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, status = images.parent / "out", images.parent / "status.json"
    words = ["predict", str(model), str(images), "--out", str(out), "--json", str(status), "--on-unfamiliar", how]
    assert main(words) == (3 if how == "fail" else 0)
    said = capsys.readouterr()
    assert f"warning  b.png: {SWAPPED}" in said.out
    assert "a.png:" not in said.out
    assert (SWAPPED in said.err) == (how == "fail")
    rows = json.loads(status.read_text())["images"]
    assert rows[0]["familiarity"] > ALARM
    assert rows[0]["warnings"] == []
    assert (out / "a.png").is_file()
    assert (out / "b.png").is_file() == (how == "warn")
    if how != "fail":
        assert rows[1]["familiarity"] <= ALARM
        assert rows[1]["warnings"][0] == SWAPPED
        assert (rows[1]["class_map"] is None) == (how == "skip")


def test_predict_says_where_images_became_unlike(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, status = tmp_path / "images", tmp_path / "status.json"
    folder.mkdir()
    for number in range(18):
        image = picture(300 + number)
        Image.fromarray(image if number < 6 else image[..., ::-1].copy()).save(folder / f"{number:02}.png")
    assert main(["predict", str(model), str(folder), "--out", str(tmp_path / "out"), "--json", str(status)]) == 0
    rows = json.loads(status.read_text())["images"]
    fired = rows[-1]["drift"]["fired_at"]
    assert rows[5]["drift"]["fired_at"] is None
    assert 6 < fired < 18
    assert rows[-1]["drift"]["since"] in (5, 6)
    assert rows[fired - 1]["drift"]["gain"] < FIRES <= rows[fired]["drift"]["gain"]
    said = capsys.readouterr().out
    assert said.count("than chance explains") == 1
    assert f"warning  {fired:02}.png: more are unlike" in said


def test_a_stream_says_it_once() -> None:
    card = dataclasses.replace(make_card(channels=3), familiarity=known())
    frames = [picture(seed)[..., :: 1 if seed < 8 else -1] for seed in range(20)]
    with Segmenter(make_file(card)) as segmenter:
        seen = list(Stream(segmenter, frames, drop=False))
        plain = dataclasses.replace(card, familiarity=None)
    assert sum(each.drifts for each in seen) == 1
    assert seen[-1].drift is not None
    assert seen[-1].drift.fired_at == [each.drifts for each in seen].index(True) > 8
    with Segmenter(make_file(plain)) as segmenter:
        assert {each.drift for each in Stream(segmenter, frames[:2], drop=False)} == {None}


def test_frames_like_the_held_out_ones_seldom_drift_and_a_few_more_warnings_do() -> None:
    """Of 100 draws of 60 held-out numbers and 400 frames of the same kind; then half of the frames are strange."""
    rng, fired, found, some = np.random.default_rng(1), 0, [], known(20)
    for _ in range(100):
        held = np.sort(rng.uniform(size=60))
        values = (61 - np.searchsorted(held, rng.uniform(size=700))) / 61
        values[400:][rng.uniform(size=300) < 0.5] = 1 / 61
        test = DriftTest(dataclasses.replace(some, distances=tuple(held), held_out=60))
        at = [test.add(value) for value in values[:400]]
        fired += any(at)
        if not any(at):
            found.append(any(test.add(value) for value in values[400:]))
    assert fired <= 5  # 2 in 100 are promised
    assert all(found)


@pytest.mark.parametrize(("count", "limit"), [(19, 1 - 0.01 ** (1 / 19)), (59, 0.13496), (255, 0.08255)])
def test_the_limit_of_warnings_is_that_of_a_beta_variable(count: int, limit: float) -> None:
    assert most_warnings(count) == pytest.approx(limit, abs=2e-4)


def test_without_a_promise_it_takes_more_than_half() -> None:
    few = DriftTest(dataclasses.replace(known(), held_out=4))
    assert not any(few.add(0.01 if number % 2 else 0.5) for number in range(200))
    assert any(few.add(0.01) for _ in range(60))


def test_skipping_all_says_that_nothing_is_written(
    model: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(model), str(images / "b.png"), "--out", str(images.parent / "o"), "--on-unfamiliar", "skip"]
    assert main(words) == 0
    assert "nothing is written" in capsys.readouterr().out


def test_a_file_that_cannot_tell_refuses_to_skip(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plain.tflite").write_bytes(make_file(make_card(channels=3)))
    words = ["predict", str(tmp_path / "plain.tflite"), str(images), "--out", str(tmp_path / "o")]
    assert main([*words, "--on-unfamiliar", "skip"]) == 2
    assert "unetres calibrate" in capsys.readouterr().err
    assert main(words) == 0
    with Segmenter(tmp_path / "plain.tflite") as segmenter:
        assert segmenter.segment(io.BytesIO((images / "a.png").read_bytes())).familiarity is None
