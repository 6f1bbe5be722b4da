"""Conformal risk control: texts, curves against counting, the bound, and what it keeps over many draws."""

from __future__ import annotations

import numpy as np
import pytest

from keras_unetres.trust.risk import STEPS, THRESHOLDS, Curves, image_curve, keep_promise, read_promise
from unetres_edge.errors import DataError, UsageError
from unetres_edge.model.promise import Promise

NAMES = ("background", "cell", "debris")


@pytest.mark.parametrize(
    ("text", "risk", "classes", "level"),
    [
        ("miss<=0.05", "miss", (1, 2), 0.05),
        ("false(cell)<=0.1", "false", (1,), 0.1),
        ("miss(debris, cell) <= .2", "miss", (1, 2), 0.2),
        ("error<=0.02", "error", (), 0.02),
    ],
)
def test_a_promise_is_read(text: str, risk: str, classes: tuple[int, ...], level: float) -> None:
    found = read_promise(text, NAMES, 0)
    assert (found.risk, found.classes, found.level) == (risk, classes, level)


@pytest.mark.parametrize(
    "text",
    ["", "miss", "miss<0.05", "luck<=0.1", "miss<=2", "miss<=0", "miss<=0.1.2", "miss(cat)<=0.1", "error(cell)<=0.1"],
)
def test_what_is_no_promise_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_promise(text, NAMES, 0)


def drawn(seed: int, count: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Doubt of a miss, labels and truth of the pixels of an image: some images are harder than others."""
    rng = np.random.default_rng(seed)
    chance = rng.beta(0.4, 0.5, count)
    truth = (rng.random(count) < np.clip(chance + rng.normal(0, 0.1), 0, 1)).astype(int)
    labels = (chance > 0.5).astype(int)
    return np.where(labels == 1, 0, chance), labels, truth


@pytest.mark.parametrize("risk", ["miss", "false", "error"])
def test_the_curve_is_what_counting_gives(risk: str) -> None:
    _, labels, truth = drawn(1)
    doubt = np.random.default_rng(2).random(len(truth))
    promise = Promise(risk, () if risk == "error" else (1,), 0.1, 0.5, 9)
    curve = image_curve(promise, doubt, labels, truth)
    assert curve is not None
    risks, given_up = curve
    assert (np.diff(risks) >= 0).all()
    for at in (0, 3, 250, 777, STEPS):
        kept = doubt <= THRESHOLDS[at]
        assert given_up[at] == pytest.approx(1 - kept.mean())
        if risk == "miss":
            assert risks[at] == pytest.approx((kept & (truth == 1) & (labels != 1)).sum() / (truth == 1).sum())
        elif risk == "false":
            assert risks[at] == pytest.approx((kept & (truth != 1) & (labels == 1)).sum() / (truth != 1).sum())
        else:
            assert risks[at] >= (kept & (truth != labels)).sum() / max(1, kept.sum()) - 1e-12


def test_an_image_without_the_classes_says_nothing_of_misses() -> None:
    doubt, labels, truth = drawn(3)
    assert image_curve(Promise("miss", (2,), 0.1, 0.5, 9), doubt, labels, truth) is None


def test_the_threshold_is_the_largest_that_the_bound_allows() -> None:
    rising = np.tile(np.linspace(0, 0.4, STEPS + 1), (39, 1))
    found = keep_promise(Promise("miss", (1,), 0.1, 0, 1), Curves(rising, 1 - rising))
    at = int(round(found.threshold * STEPS))
    assert (39 * rising[0, at] + 1) / 40 <= 0.1 < (39 * rising[0, at + 1] + 1) / 40
    assert found.images == 39


def test_too_few_images_and_too_much_risk_are_refused_by_name() -> None:
    promise = Promise("miss", (1,), 0.05, 0, 1)
    zeros = np.zeros((18, STEPS + 1))
    with pytest.raises(DataError, match="at least 19 images"):
        keep_promise(promise, Curves(zeros, zeros))
    assert keep_promise(promise, Curves(zeros[:1].repeat(19, 0), zeros)).threshold == 1
    with pytest.raises(DataError, match="given up"):
        keep_promise(promise, Curves(zeros[:1].repeat(40, 0) + 0.5, zeros))
    with pytest.raises(DataError, match="no image"):
        keep_promise(promise, Curves(zeros[:0], zeros[:0]))


@pytest.mark.parametrize("level", [0.05, 0.1])
def test_over_many_splits_the_promise_is_kept(level: float) -> None:
    promise = Promise("miss", (1,), level, 0, 1)
    curves = [image_curve(promise, *drawn(seed)) for seed in range(120)]
    risks = np.array([curve[0] for curve in curves if curve is not None])
    rng, means = np.random.default_rng(0), []
    for _ in range(200):
        order = rng.permutation(len(risks))
        found = keep_promise(promise, Curves(risks[order[:60]], risks))
        means.append(risks[order[60:], int(round(found.threshold * STEPS))].mean())
    assert 0.4 * level < np.mean(means) <= level
