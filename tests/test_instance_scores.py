"""Instance and partition scores against scikit-learn, scikit-image and sets of pixels, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information
from sklearn.metrics import normalized_mutual_info_score

from keras_unetres.scores.instances import InstanceScores, match_instances
from keras_unetres.scores.partitions import PartitionScores, best_over_thresholds, partition_score, segments_of_membrane
from unetres_edge.errors import UsageError


def make_objects(seed: int, *, size: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Two label maps of squares: some shared, some moved, some missing, some cut in two; ids with gaps."""
    rng = np.random.default_rng(seed)
    truth, proposal = np.zeros((size, size), np.int32), np.zeros((size, size), np.uint16)
    for place, (y, x) in enumerate(np.argwhere(np.ones((4, 4))) * 10):
        side = rng.integers(4, 9)
        if rng.random() < 0.85:
            truth[y : y + side, x : x + side] = 7 * place + 3
        if rng.random() < 0.85:
            dy, dx = rng.integers(0, 3, 2)
            proposal[y + dy : y + dy + side, x + dx : x + side] = 1000 - 11 * place
            if rng.random() < 0.3:
                proposal[y + dy : y + side // 2, x + dx : x + side] = 40 + place
    return truth, proposal


def sets_of(labels: np.ndarray, known: np.ndarray | None = None) -> list[set[int]]:
    flat = labels.ravel()
    inside = np.ones(flat.shape, bool) if known is None else known.ravel()
    return [set(np.flatnonzero((flat == each) & inside).tolist()) for each in np.unique(flat) if each]


def reference_counts(truth: np.ndarray, proposal: np.ndarray, threshold: float) -> tuple[int, int, int, float]:
    """(TP, FP, FN, sum of the IoU of the TP) from sets of pixels."""
    trues, proposed = sets_of(truth), sets_of(proposal)
    ious = [len(t & p) / len(t | p) for t in trues for p in proposed]
    hits = [iou for iou in ious if iou > threshold]
    return len(hits), len(proposed) - len(hits), len(trues) - len(hits), sum(hits)


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.75, 0.95])
def test_matches_are_those_of_sets_of_pixels(threshold: float) -> None:
    scores = InstanceScores()
    each = []
    for seed in range(6):
        pair = make_objects(seed)
        scores.add(*pair)
        each.append(reference_counts(*pair, threshold))
        assert match_instances(*pair).counts(threshold) == each[-1][:3]
    true, false, missed, total = np.sum(each, axis=0)
    if threshold < 0.8:
        assert min(true, false, missed) > 0
    assert scores.counts(threshold) == (true, false, missed)
    assert scores.average_precision(threshold) == pytest.approx(true / (true + false + missed))
    by_image = np.mean([t / (t + f + m) for t, f, m, _ in each])
    assert scores.average_precision(threshold, by_image=True) == pytest.approx(by_image)
    assert scores.f1(threshold) == pytest.approx(true / (true + false / 2 + missed / 2))
    if threshold == 0.5:
        assert scores.segmentation_quality() == pytest.approx(total / true)
        assert scores.panoptic_quality() == pytest.approx(total / (true + false / 2 + missed / 2))


def test_the_mean_over_thresholds_is_that_of_the_challenge() -> None:
    scores = InstanceScores()
    for seed in range(4):
        scores.add(*make_objects(seed))
    values = [scores.average_precision(t) for t in np.arange(0.5, 0.99, 0.05)]
    assert len(values) == 10
    assert scores.mean_average_precision() == pytest.approx(np.mean(values))
    images = [scores.average_precision(t, by_image=True) for t in np.arange(0.5, 0.99, 0.05)]
    assert scores.mean_average_precision(by_image=True) == pytest.approx(np.mean(images))
    found = scores.to_dict()
    assert (found["ap50"], found["map"]) == (values[0], scores.mean_average_precision())
    assert found["num_objects"] == sum(len(sets_of(make_objects(seed)[0])) for seed in range(4))
    counts = [(len(sets_of(truth)), len(sets_of(proposal))) for truth, proposal in map(make_objects, range(4))]
    assert found["num_proposed"] == sum(proposed for _, proposed in counts)
    assert found["count_error"] == np.mean([abs(proposed - true) for true, proposed in counts])


def test_the_same_objects_by_other_numbers_score_one() -> None:
    truth = make_objects(0)[0]
    renamed = np.random.default_rng(0).permutation(1000)[truth] + 1
    renamed[truth == 0] = 0
    scores = InstanceScores()
    scores.add(truth, renamed)
    assert scores.average_precision(0.95) == scores.f1() == scores.panoptic_quality() == 1


def test_objects_by_hand() -> None:
    truth, proposal = np.zeros((4, 6), int), np.zeros((4, 6), int)
    truth[0, 0] = 1  # one pixel, found
    proposal[0, 0] = 9
    truth[2, :4] = 2  # 3 of 4 px: IoU 0.75
    proposal[2, :3] = 4
    truth[3, :2], proposal[3, 1:3] = 3, 5  # IoU 1/3
    matches = match_instances(truth, proposal)
    assert sorted(matches.ious) == [0.75, 1]
    assert matches.counts(0.5) == (2, 1, 1)
    assert matches.counts(0.75) == (1, 2, 2)
    halves = np.array([[1, 1, 1, 1]])
    assert match_instances(halves, np.array([[1, 1, 0, 0]])).counts(0.5) == (0, 1, 1)  # IoU of 0.5 is not above it


def test_without_objects() -> None:
    nothing, something = np.zeros((5, 5), int), np.eye(5, dtype=int)
    scores = InstanceScores()
    assert scores.to_dict() == dict.fromkeys(scores.to_dict(), None) | {"num_objects": 0, "num_proposed": 0}
    scores.add(nothing, nothing)
    assert scores.average_precision() is scores.average_precision(by_image=True) is scores.panoptic_quality() is None
    scores.add(something, nothing)
    assert (scores.counts(), scores.average_precision(), scores.panoptic_quality()) == ((0, 0, 1), 0, 0)
    scores.add(nothing, something)
    assert scores.counts() == (0, 1, 1)
    scores.add(np.ones((3, 3), int), np.full((3, 3), 8))  # an object everywhere, and no background
    assert scores.counts() == (1, 1, 1)
    assert scores.average_precision(by_image=True) == pytest.approx(1 / 3)


def test_ignored_pixels_belong_to_no_object() -> None:
    truth, proposal = make_objects(1)
    ignore = np.zeros(truth.shape, bool)
    ignore[:, :13] = True
    ignore[26:] = True
    found = match_instances(truth, proposal, ignore).counts(0.5)
    # Nothing that is proposed under them matters, as long as most of it lies there.
    others = proposal.copy()
    others[ignore] = 0
    clean = np.where(ignore, 0, truth)
    trues, seen = sets_of(clean), sets_of(proposal, ~ignore)
    sizes = [len(each) for each in sets_of(proposal)]
    hits = sum(any(len(t & p) / len(t | p) > 0.5 for p in seen) for t in trues)
    matched = [any(len(t & p) / len(t | p) > 0.5 for t in trues) for p in seen]
    false = sum(len(p) * 2 >= size and not m for p, size, m in zip(seen, sizes, matched, strict=True))
    assert found == (hits, false, len(trues) - hits)
    assert found != match_instances(truth, proposal).counts(0.5)
    others[ignore & (np.random.default_rng(0).random(ignore.shape) < 0.3)] = 60000
    assert match_instances(clean, others, ignore).counts(0.5)[0] == hits
    everything = np.ones(truth.shape, bool)
    assert match_instances(truth, proposal, everything).counts(0.5) == (0, 0, 0)


def test_an_object_mostly_ignored_is_a_match_or_nothing() -> None:
    truth, proposal = np.zeros((1, 10), int), np.zeros((1, 10), int)
    ignore = np.zeros((1, 10), bool)
    ignore[0, :5] = True
    proposal[0, :8] = 1  # 5 of 8 px ignored, IoU with what is left 3/4
    truth[0, 5:9] = 1
    matches = match_instances(truth, proposal, ignore)
    assert matches.counts(0.5) == (1, 0, 0)
    assert matches.counts(0.8) == (0, 0, 1)
    assert match_instances(np.zeros_like(truth), proposal, ignore).counts(0.5) == (0, 0, 0)
    ignore[0, :2] = False  # now 3 of 8
    assert match_instances(np.zeros_like(truth), proposal, ignore).counts(0.5) == (0, 1, 0)


def test_wrong_arguments_are_named() -> None:
    map8 = np.zeros((8, 8), int)
    for wrong in (np.zeros((8, 9), int), np.zeros((8, 8)), np.zeros((1, 8, 8), int)):
        for function in (match_instances, partition_score):
            with pytest.raises(UsageError, match="label maps do not fit"):
                function(map8, wrong)
            with pytest.raises(UsageError, match="label maps do not fit"):
                function(map8, map8, wrong)
    for threshold in (0.49, 1.0, math.nan):
        with pytest.raises(UsageError, match="IoU threshold"):
            match_instances(map8, map8).counts(threshold)
    with pytest.raises(UsageError, match="nothing to score"):
        best_over_thresholds([(np.zeros((8, 8)), map8)])


# ------------------------------------------------------------------------------------------------ V_rand and V_info


def make_cuts(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two partitions of the same plane with lines of 0 in the truth and none in the proposal."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(48, 40)), 3)
    other = noise + ndimage.gaussian_filter(rng.normal(size=noise.shape), 3) * 0.6
    truth = ndimage.label(abs(noise) > 0.02)[0]
    return truth, ndimage.label(other > 0)[0] + 100 * (other <= 0)


def rand_of(error: float, truth: np.ndarray, proposal: np.ndarray) -> float:
    """V_rand from scikit-image's adapted Rand error, which counts pairs of different pixels only."""
    known = truth > 0
    n = int(known.sum())
    pairs = sum((np.unique(each[known], return_counts=True)[1].astype(float) ** 2).sum() for each in (proposal, truth))
    shared = (1 - error) * (pairs - 2 * n) / 2
    return 2 * (shared + n) / pairs


@pytest.mark.parametrize("seed", range(4))
def test_partition_scores_are_those_of_scikit_image_and_scikit_learn(seed: int) -> None:
    truth, proposal = make_cuts(seed)
    assert (truth == 0).any()
    score = partition_score(truth, proposal)
    assert score is not None
    error = adapted_rand_error(truth, proposal, ignore_labels=(0,))[0]
    assert score.v_rand == pytest.approx(rand_of(error, truth, proposal), rel=1e-9)
    known = truth > 0
    expected = normalized_mutual_info_score(truth[known], proposal[known], average_method="arithmetic")
    assert score.v_info == pytest.approx(expected, rel=1e-9)
    split, merge = variation_of_information(truth, proposal, ignore_labels=(0,))
    shares = [np.unique(each[known], return_counts=True)[1] / known.sum() for each in (truth, proposal)]
    entropies = sum(-(p * np.log2(p)).sum() for p in shares)
    assert score.v_info == pytest.approx((entropies - split - merge) / entropies, rel=1e-9)
    assert 0.1 < score.v_rand < 0.99


def test_partitions_by_hand() -> None:
    truth = np.array([[1, 1, 0, 2, 2]])
    assert partition_score(truth, truth) == partition_score(truth, 5 - truth)
    assert partition_score(truth, truth).v_rand == partition_score(truth, truth).v_info == 1
    merged = partition_score(truth, np.ones_like(truth))
    assert merged.v_rand == pytest.approx(0.5 / 0.75)  # sum p^2 = 2 / 4, sum s^2 = 1, sum t^2 = 1 / 2
    assert merged.v_info == 0
    # Proposed membrane inside a true segment: each of its pixels is a segment.
    wide = partition_score(truth, np.array([[1, 0, 0, 0, 2]]))
    assert wide == partition_score(truth, np.array([[1, 3, 9, 4, 2]]))
    assert wide.v_rand == pytest.approx(2 * (4 / 16) / (4 / 16 + 8 / 16))
    assert wide.v_info == pytest.approx(2 * math.log(2) / (math.log(4) + math.log(2)))
    assert partition_score(np.zeros_like(truth), truth) is None
    one = partition_score(np.ones_like(truth), np.full_like(truth, 4))
    assert (one.v_rand, one.v_info) == (1, 1)


def test_ignored_pixels_do_not_count_in_partitions() -> None:
    truth, proposal = make_cuts(0)
    ignore = np.zeros(truth.shape, bool)
    ignore[:20] = True
    expected = partition_score(truth[20:], proposal[20:])
    assert partition_score(truth, proposal, ignore) == expected
    assert expected != partition_score(truth, proposal)
    assert partition_score(truth, proposal, np.ones_like(ignore)) is None


def test_the_set_scores_are_means_of_the_images() -> None:
    scores = PartitionScores()
    assert scores.to_dict() == {"v_rand": None, "v_info": None}
    each = []
    for seed in range(3):
        scores.add(*make_cuts(seed))
        each.append(partition_score(*make_cuts(seed)))
    scores.add(np.zeros((4, 4), int), np.ones((4, 4), int))
    assert scores.to_dict()["v_rand"] == pytest.approx(np.mean([s.v_rand for s in each]))
    assert scores.to_dict()["v_info"] == pytest.approx(np.mean([s.v_info for s in each]))


def make_membrane() -> tuple[np.ndarray, np.ndarray]:
    """A map of 3 x 3 cells with walls 3 px wide, weak in one place, and the true cells with walls 1 px wide."""
    truth = np.zeros((36, 36), int)
    scores = np.full(truth.shape, 0.1)
    for place, (y, x) in enumerate(np.argwhere(np.ones((3, 3))) * 12):
        truth[y + 1 : y + 12, x + 1 : x + 12] = place + 1
    scores[ndimage.binary_dilation(truth == 0)] = 0.6
    scores[truth == 0] = 0.9
    scores[11:14, 3:6] = 0.4  # a hole in a wall at thresholds above 0.4
    return scores, truth


def test_segments_are_what_membranes_separate() -> None:
    scores, truth = make_membrane()
    wide = segments_of_membrane(scores, 0.35, thin=False)
    assert wide.max() == 9
    np.testing.assert_array_equal(wide == 0, scores >= 0.35)
    assert segments_of_membrane(scores, 0.5, thin=False).max() == 8
    grown = segments_of_membrane(scores, 0.35)
    assert (grown > 0).all()
    np.testing.assert_array_equal(grown[wide > 0], wide[wide > 0])
    assert partition_score(truth, grown).v_rand == 1  # walls of any width are thinned to where they are highest
    assert partition_score(truth, wide).v_rand < 0.9
    for thin, expected in ((True, 1), (False, 0)):
        assert (segments_of_membrane(np.ones((4, 4)), thin=thin) == expected).all()


def test_the_best_threshold_is_found() -> None:
    scores, truth = make_membrane()
    best = best_over_thresholds([(scores, truth), (scores.T, truth.T)])
    assert (best.v_rand, best.v_info) == (1, 1)
    assert 0.1 < best.v_rand_threshold <= 0.4
    one = best_over_thresholds([(scores, truth)], [0.5])
    expected = partition_score(truth, segments_of_membrane(scores, 0.5))
    assert (one.v_rand, one.v_info) == (expected.v_rand, expected.v_info)
    assert one.v_rand < 0.95
    assert best_over_thresholds([(scores, truth)], thin=False).v_rand < best.v_rand
