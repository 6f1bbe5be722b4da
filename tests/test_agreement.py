"""From how many labels on two forms of a network are said, and refused, to answer otherwise: the borders."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

import keras_unetres as ku
from keras_unetres.data.fresh import fresh_images, fresh_tiles
from keras_unetres.scores.agreement import Agreement, LabelComparison, check_agreement
from unetres_edge.errors import ConversionError

SOUND = Agreement(1.0, 1.0, 2, 10_000, 0.01)


def said(agreement: Agreement, *, allowed: bool = False) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_agreement(agreement, allowed=allowed, fix="train it")
    return [str(each.message) for each in caught]


@pytest.mark.parametrize(
    ("changed", "says", "refuses"),
    [
        ({}, "", False),
        ({"share": 0.99}, "", False),
        ({"share": 0.9899}, "98.99 % of the labels are those of Keras", False),
        ({"share": 0.9}, "90.00 % of the labels", False),  # a flat map: nothing clear is wrong
        ({"share": 0.995, "clear": 0.985}, "98.50 % of the clear ones", False),
        ({"share": 0.9, "clear": 0.95}, "95.00 % of the clear ones", False),
        ({"share": 0.9, "clear": 0.9499}, "94.99 % of the clear ones", True),
        ({"clear": 0.5, "count": 99}, "", False),  # too few to judge by
        ({"clear": 0.5, "count": 99, "distance": 0.5}, "", False),
        ({"clear": 0.5, "count": 99, "distance": 0.51}, "51 % of their spread apart", True),
        ({"distance": 0.9}, "", False),
        ({"distance": float("nan"), "count": 0}, "nan % of their spread apart", True),
        ({"classes": 1}, "one class everywhere", False),
    ],
)
def test_borders(changed: dict[str, float], says: str, refuses: bool) -> None:
    found = replace(SOUND, **changed)  # type: ignore[arg-type]
    if refuses:
        with pytest.raises(ConversionError, match=says) as refused:
            check_agreement(found, allowed=False, fix="train it")
        assert refused.value.fix == "train it"
    told = said(found, allowed=refuses)
    assert len(told) == (says != "") and says in "".join(told)


def scores(margins: np.ndarray, classes: int = 2, beside: float = 0.0) -> np.ndarray:
    """Return scores (n, classes) whose first class is above the second by the margins, and above others by 5 more."""
    rest = np.full((len(margins), classes - 2), beside - 5, np.float32)
    return np.concatenate([margins[:, None], np.zeros((len(margins), 1)), rest], 1).astype(np.float32)


def compared(expected: np.ndarray, found: np.ndarray, activation: str = "softmax") -> Agreement:
    comparison = LabelComparison(activation)
    comparison.add(expected.argmax(-1), expected, found.argmax(-1), found)
    return comparison.agreement()


def test_what_a_level_of_int8_flips_on_a_flat_map_is_not_clearly_wrong() -> None:
    margins = np.random.default_rng(0).normal(0, 1, 10_000).astype(np.float32)
    step = 6 / 255
    expected = scores(margins)
    found = np.rint((expected + np.random.default_rng(1).normal(0, 2 * step, expected.shape)) / step) * step
    agreement = compared(expected, found.astype(np.float32))
    assert 0.95 < agreement.share < 0.99 and agreement.clear == 1
    assert len(said(agreement)) == 1


@pytest.mark.parametrize("wrong", [499, 500, 501])
def test_labels_that_are_clearly_wrong_are_counted(wrong: int) -> None:
    expected = scores(np.ones(10_000, np.float32))
    found = expected.copy()
    found[:wrong] = found[:wrong, ::-1]
    agreement = compared(expected, found)
    assert agreement.count == 10_000
    assert agreement.share == agreement.clear == pytest.approx(1 - wrong / 10_000)
    if wrong > 500:
        with pytest.raises(ConversionError, match="94.99 % of the clear ones"):
            said(agreement)
    else:
        assert len(said(agreement)) == 1


def test_a_third_class_in_place_of_two_that_tie_is_clearly_wrong() -> None:
    expected = scores(np.zeros(1000, np.float32), classes=3)
    found = expected.copy()
    found[:100, 2] = 9
    assert compared(expected, found).clear == pytest.approx(0.9)


def test_a_class_far_below_does_not_hide_what_the_others_lose() -> None:
    """Scores from -1000 up leave int8 one level for the difference of the others."""
    margins = np.tile([1.0, -1.0], 500).astype(np.float32)
    expected = scores(margins, classes=3, beside=-995.0)
    step = 1001 / 255
    agreement = compared(expected, np.rint(expected / step) * np.float32(step))
    assert agreement.clear < 0.6 and agreement.distance is not None and agreement.distance < 0.5
    with pytest.raises(ConversionError):
        said(agreement)


def test_a_label_that_the_form_of_the_network_gives_and_the_users_does_not_is_wrong() -> None:
    given = scores(np.ones(1000, np.float32))
    comparison = LabelComparison("softmax")
    comparison.add(np.ones(1000, np.int64), given, given.argmax(-1), given)
    assert comparison.agreement().clear == 0


def test_labels_alone_are_judged_by_the_scores_of_the_network() -> None:
    expected = scores(np.ones(1000, np.float32))
    comparison = LabelComparison("softmax")
    comparison.add(expected.argmax(-1), expected, np.ones(1000, np.int64), None)
    assert comparison.agreement() == Agreement(0.0, 0.0, 1, 1000, None)


def test_a_softmax_does_not_see_what_is_added_to_all_scores() -> None:
    expected = scores(np.random.default_rng(0).normal(0, 1, 1000).astype(np.float32))
    for activation, far in (("softmax", False), ("sigmoid", True)):
        assert compared(expected, expected + 100, activation).far == far


def test_images_that_calibrated_nothing_are_made_of_those_that_did() -> None:
    pre = ku.Preprocessing(channels=3, size=(8, 8), value_range=(-1, 1))
    levels = np.random.default_rng(0).integers(60, 120, (5, 8, 8, 3)).astype(np.uint8)
    images = pre.normalise(levels)
    tiles = fresh_tiles(images, pre, 4)
    assert tiles.dtype == np.uint8 and len(tiles) == 4
    np.testing.assert_array_equal(tiles[0], levels[0, :, ::-1])
    assert (tiles[1].min(), tiles[1].max()) == (0, 255)
    np.testing.assert_allclose(fresh_images(images, pre, 4), pre.normalise(tiles))
    without = fresh_images(images, None, 4)
    np.testing.assert_array_equal(without[0], images[0, :, ::-1])
    np.testing.assert_allclose((without[1].min(), without[1].max()), (images.min(), images.max()), atol=1e-6)
    constant = np.full((2, 8, 8, 3), 0.5, np.float32)
    np.testing.assert_array_equal(fresh_images(constant, None, 2), constant)
