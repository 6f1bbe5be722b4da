"""Pictures that are spoilt as on devices, and the trees that tell from them what mIoU a mask has."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.ensemble import ExtraTreesRegressor

from keras_unetres.scores.confusion import Confusion
from keras_unetres.trust import corruptions
from keras_unetres.trust.corruptions import corrupt
from keras_unetres.trust.familiarity import fit_familiarity, seen_features
from keras_unetres.trust.quality import complete_tree, grow_trees, how_many, measure_quality, spoilt_pictures
from unetres_edge import Preprocessing
from unetres_edge.images.features import feature_names
from unetres_edge.model.familiarity import Familiarity
from unetres_edge.model.quality import WHOLE, QualityTrees
from unetres_edge.results.doubt import doubts_of


def scene(seed: int, shape: tuple[int, ...] = (48, 56)) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs on a dark ground with some noise, and where they are."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = np.zeros(shape[:2], np.uint8)
    for _ in range(5):
        mask |= np.hypot(y - rng.uniform(0, shape[0]), x - rng.uniform(0, shape[1])) < rng.uniform(5, 9)
    values = 60.0 + 120 * mask.reshape(*mask.shape, *[1] * (len(shape) - 2)) + rng.normal(0, 6, shape)
    return np.clip(values, 0, 255).astype(np.uint8), mask


@pytest.mark.parametrize("wrong", corruptions.KINDS, ids=lambda wrong: wrong.__name__)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_each_kind_keeps_what_a_picture_is(wrong: object, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruptions, "KINDS", (wrong,))
    for shape in ((48, 56), (48, 56, 3), (48, 56, 5)):
        image, mask = scene(0, shape)
        image = (image * {"uint8": 1, "uint16": 16, "float32": 1 / 255}[dtype]).astype(dtype)
        changed = 0
        for seed in range(4):
            spoilt, its_mask = corrupt(image, mask, np.random.default_rng(seed))
            assert spoilt.dtype == image.dtype
            assert spoilt.shape[:2] == its_mask.shape
            assert spoilt.shape[2:] == image.shape[2:]
            assert set(np.unique(its_mask)) <= {0, 1}
            low, high = (0, 255) if dtype == "uint8" else (image.min(), image.max())
            assert spoilt.min() >= low
            assert spoilt.max() <= high * (1 + 1e-6)
            changed += spoilt.shape != image.shape or not np.array_equal(spoilt, image)
        assert changed > 1


def test_a_draw_is_that_of_its_seed_and_leaves_the_picture_alone() -> None:
    image, mask = scene(1)
    kept = image.copy()
    first, second = (corrupt(image, mask, np.random.default_rng(7))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(image, kept)


def test_complete_trees_say_what_those_of_scikit_learn_say() -> None:
    rng = np.random.default_rng(0)
    told = rng.integers(-200, 60_000, (120, 4))
    forest = ExtraTreesRegressor(12, max_depth=5, min_samples_leaf=2, random_state=0)
    forest.fit(told, rng.random(120))
    splits, leaves = zip(*(complete_tree(each.tree_) for each in forest.estimators_), strict=True)
    trees = QualityTrees(4, splits, leaves, ())
    others = rng.integers(-300, 61_000, (300, 4))
    expected = forest.predict(others)
    np.testing.assert_allclose([trees.expected(row) / WHOLE for row in others], expected, atol=2 / WHOLE)
    np.testing.assert_allclose([trees.expected(row) / WHOLE for row in told], forest.predict(told), atol=2 / WHOLE)


@dataclass
class Threshold:
    """A segmenter that takes what is brighter than 120 for the class, and is less sure near it."""

    card: FakeCard
    known: Familiarity | None = None
    quality: float | None = None

    def segment(self, image: np.ndarray, scores: bool = False) -> Threshold:
        logit = (image.astype(np.float32) - 120) / 20
        self.scores = np.stack([-logit / 2, logit / 2], -1)
        self.class_map = (logit > 0).astype(np.uint8)
        if self.known is not None:
            doubts = doubts_of(self.scores)
            expected = self.known.expected_quality(seen_features(self.card.preprocessing, image), doubts)
            self.quality = None if expected is None else expected / WHOLE
        else:
            self.quality = None
        return self


@dataclass
class FakeCard:
    preprocessing: Preprocessing
    class_names: tuple[str, ...] = ("background", "disc")
    activation: str = "softmax"
    calibration: None = None


@dataclass
class Pair:
    image: np.ndarray
    mask: np.ndarray


@pytest.mark.parametrize(("fit", "shape"), [("crop", (512, 400)), ("resize", (501, 525))])
def test_of_large_pictures_a_part_is_spoilt(fit: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruptions, "KINDS", (corruptions.KINDS[0],))
    pre = Preprocessing(channels=1, size=(32, 32), fit=fit)
    large = [Pair(*scene(1, (2004, 2100) if fit == "resize" else (900, 400)))]
    pictures = list(spoilt_pictures(pre, large, 2))
    assert [(image.shape, mask.shape) for image, mask in pictures] == [(shape, shape)] * 2


@pytest.mark.parametrize(
    ("fit", "shape", "expected"),
    [("resize", (4000, 4000), 500), ("crop", (100, 64), 500), ("crop", (300, 500), 222), ("crop", (4000, 4000), 150)],
)
def test_of_pictures_of_many_tiles_fewer_are_spoilt(fit: str, shape: tuple[int, int], expected: int) -> None:
    size = (128, 192) if shape != (4000, 4000) else (64, 64)
    assert how_many(Preprocessing(channels=1, size=size, fit=fit), shape) == expected


def test_trees_tell_which_masks_are_poor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras_unetres.trust.quality.MOST_SPOILT", 150)
    pre = Preprocessing(channels=1, size=(32, 32), fit="crop")
    opened = Threshold(FakeCard(pre))
    training, held = ([Pair(*scene(seed)) for seed in range(*span)] for span in ((0, 40), (100, 130)))
    features = [np.array([seen_features(pre, pair.image) for pair in part]) for part in (training, held)]
    said = [doubts_of(opened.segment(pair.image).scores) for pair in held]
    known = fit_familiarity(*features, feature_names(1), said)
    assert known is not None
    trees = grow_trees(known, opened, training, list(zip(features[1], said, strict=True)))  # type: ignore[arg-type]
    assert trees is not None
    assert len(trees.held_out) == len(known.distances)
    known = replace(known, quality=trees)
    rng, told, true, alarms = np.random.default_rng(9), [], [], []
    for seed in range(100):
        image, mask = corrupt(*scene(500 + seed), rng)
        doubts = doubts_of(opened.segment(image).scores)
        told.append(known.expected_quality(seen_features(pre, image), doubts))
        true.append(Confusion.of(mask, opened.class_map, 2).mean_iou())
        alarms.append(known.p_value(seen_features(pre, image), doubts) <= 0.05)
    assert spearmanr(told, true)[0] > 0.8
    poor = np.array(true) < 0.7
    assert np.mean(np.array(alarms)[poor]) > 0.8
    opened.known = known
    measured = measure_quality(opened, held)  # type: ignore[arg-type]
    assert measured is not None
    assert len(measured["images"]) == len(held)
    assert 0 <= measured["mean_error"] < 0.1
    opened.known = None
    assert measure_quality(opened, held) is None  # type: ignore[arg-type]
    untouched = [known.p_value(row, each) <= 0.05 for row, each in zip(features[1], said, strict=True)]
    assert np.mean(untouched) <= 0.05
