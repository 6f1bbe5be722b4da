"""Augmentation: image, mask and weight in step, exact where nothing is bent, and never more labels than there were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from keras_unetres.choices.augmentations import AUGMENTATIONS, Augmentation
from keras_unetres.data.augment import Spline, augment, coordinates
from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import IGNORE, Preprocessing

SHAPE = (70, 90)
BENT = Augmentation(
    flip_up_down=True, quarter_turns=True, distorted=1, rotation=180, scale=(0.6, 1.6), shear=10, elastic=4
)
OFF = Augmentation(flip_left_right=False)


def draw_mask(index: int, shape: tuple[int, int] = SHAPE, classes: int = 3) -> np.ndarray:
    """Blobs of some classes, with a corner that is not labelled."""
    noise = np.random.default_rng(index).standard_normal((classes, *shape))
    mask = ndimage.gaussian_filter(noise, (0, 4, 4), mode="nearest").argmax(0).astype(np.uint8)
    mask[-12:, -12:] = IGNORE
    return mask


def planes_of(mask: np.ndarray, classes: int = 3) -> np.ndarray:
    """The picture of a mask: one channel a class, 255 where it is."""
    return np.stack([mask == n for n in range(classes)], -1).astype(np.uint8) * 255


def place_of(shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """A picture that says of each pixel where it is."""
    rows, columns = np.indices(shape)
    return np.stack([rows, columns, np.zeros(shape)], -1).astype(np.uint8)


def key_of(number: int, seed: int = 7) -> tf.Tensor:
    return tf.constant([seed, number], tf.int64)


def bytes_in(size: tuple[int, int], channels: int = 3) -> Preprocessing:
    return Preprocessing(channels=channels, size=size, value_range=(0, 255))


def run(image: np.ndarray, mask: np.ndarray, number: int, settings: Augmentation, pre: Preprocessing, **options):
    """Return what `augment` gives for one key, as arrays."""
    out = augment(tf.constant(image), tf.constant(mask), key_of(number), settings, pre, **options)
    return [None if part is None else part.numpy() for part in out]


def random_settings(seed: int) -> Augmentation:
    rng = np.random.default_rng(seed)
    low, high = np.sort(np.exp(rng.uniform(-0.7, 0.7, 2)))
    return Augmentation(
        flip_left_right=bool(rng.integers(2)),
        flip_up_down=bool(rng.integers(2)),
        quarter_turns=bool(rng.integers(2)),
        distorted=float(rng.uniform(0.3, 1)),
        rotation=float(rng.choice([0, 10, 45, 180])),
        scale=(low, high),
        shear=float(rng.choice([0, 15])),
        elastic=float(rng.choice([0, 3, 12])),
        elastic_grid=int(rng.integers(2, 6)),
    )


_CROPS = 40


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 2, 3, 4))])
def test_image_and_mask_move_together(seed: int) -> None:
    """Where a 3 x 3 neighbourhood of the mask is of one class, the picture of the mask must show that class, exactly.

    The pixels of the mask whose 3 x 3 neighbours (mirrored at the border) are all of their class are marked in a second
    mask, which is augmented by the same key. The four pixels that a place is blended from are among the 3 x 3
    neighbours of the nearest, so a marked pixel of the crop must have 255 in the channel of its label and 0 in others.
    """
    settings, size = random_settings(seed), [(48, 64), (64, 48), (96, 96)][seed % 3]
    outside = ["ignore", "reflect"][seed % 2]
    compared = 0
    for number in range(_CROPS):
        mask = draw_mask(number % 5)
        low, high = (f(mask, 3, mode="mirror") for f in (ndimage.minimum_filter, ndimage.maximum_filter))
        core = np.where(mask == IGNORE, IGNORE, low == high).astype(np.uint8)
        pixels, labels, _ = run(planes_of(mask), mask, number, settings, bytes_in(size), outside=outside)
        _, marked, _ = run(planes_of(mask), core, number, settings, bytes_in(size), outside=outside)
        np.testing.assert_array_equal(marked == IGNORE, labels == IGNORE)
        shown = labels[marked == 1]
        np.testing.assert_array_equal(pixels[marked == 1], np.eye(3, dtype=np.float32)[shown] * 255)
        assert set(np.unique(labels)) <= {0, 1, 2, IGNORE}
        compared += shown.size
    assert compared > 0.2 * _CROPS * size[0] * size[1]


def test_nothing_outside_the_image_is_labelled_or_has_weight() -> None:
    """Against the coordinates, but for places within a thousandth of a pixel of the border between two."""
    settings, pre = replace(BENT, distorted=0.8), bytes_in((80, 64))
    weight = tf.constant(np.random.default_rng(0).uniform(0.5, 9, SHAPE).astype(np.float32))
    beyond = 0
    for number in range(30):
        mask = draw_mask(number)
        place = coordinates(SHAPE, key_of(number), settings, pre).numpy()
        nearest = np.rint(place)
        sure = (np.abs(place - nearest) < 0.499).all(0)
        out = ((nearest < 0) | (nearest >= np.reshape(SHAPE, (2, 1, 1)))).any(0)
        _, labels, weights = run(planes_of(mask), mask, number, settings, pre, weight=weight)
        assert (labels[out & sure] == IGNORE).all()
        assert (weights[labels == IGNORE] == 0).all()
        assert (weights[labels != IGNORE] >= 0.5).all()
        rows, columns = nearest[:, ~out & sure].astype(int)
        np.testing.assert_array_equal(labels[~out & sure], mask[rows, columns])
        known = ~out & sure & (labels != IGNORE)
        rows, columns = nearest[:, known].astype(int)
        np.testing.assert_array_equal(weights[known], weight.numpy()[rows, columns])
        beyond += np.count_nonzero(out)
    assert beyond > 1000


def test_reflect_mirrors_mask_and_weight_with_the_image() -> None:
    settings, pre = replace(BENT, distorted=0.8), bytes_in((80, 64))
    weight = tf.constant(np.random.default_rng(0).uniform(0.5, 9, SHAPE).astype(np.float32))
    for number in range(10):
        mask = draw_mask(number)
        place = coordinates(SHAPE, key_of(number), settings, pre).numpy()
        sure = (np.abs(place - np.rint(place)) < 0.499).all(0)
        rows, columns = np.rint(place).astype(int) + 400
        _, labels, weights = run(planes_of(mask), mask, number, settings, pre, weight=weight, outside="reflect")
        np.testing.assert_array_equal(labels[sure], np.pad(mask, 400, "reflect")[rows, columns][sure])
        expected = np.where(labels == IGNORE, 0, np.pad(weight.numpy(), 400, "reflect")[rows, columns])
        np.testing.assert_array_equal(weights[sure], expected[sure])


@pytest.mark.parametrize("channels", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_the_same_key_gives_the_same_bits(channels: int) -> None:
    settings = replace(BENT, distorted=0.5, brightness=0.1, contrast=0.2, gamma=0.3, color=0.1, blur=0.3, noise=0.02)
    pre = Preprocessing(channels=channels, size=(40, 48), mean=(0.3,), std=(0.2,))
    mask = draw_mask(0)
    image = np.random.default_rng(0).integers(0, 256, (*SHAPE, channels), dtype=np.uint8)
    seen = []
    for number in range(4):
        one, other = run(image, mask, number, settings, pre), run(image, mask, number, settings, pre)
        for left, right in zip(one[:2], other[:2], strict=True):
            np.testing.assert_array_equal(left, right)
        assert one[2] is None
        assert (one[0].shape, one[0].dtype, one[1].dtype) == ((40, 48, channels), np.float32, np.int32)
        seen.append(one[0])
    assert min(np.mean(a != b) for a, b in zip(seen, seen[1:], strict=False)) > 0.5

    def sample(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return augment(tf.constant(image), tf.constant(mask), tf.stack([7, number]), settings, pre)[:2]

    data = tf.data.Dataset.range(4).map(sample, num_parallel_calls=2)
    for (pixels, _), expected in zip(data.as_numpy_iterator(), seen, strict=True):
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param((32, 48), id="smaller"),
        pytest.param((33, 48), id="odd", marks=pytest.mark.slow),
        pytest.param((80, 96), id="larger", marks=pytest.mark.slow),
    ],
)
def test_what_is_not_distorted_is_a_copy(size: tuple[int, int]) -> None:
    """Every crop is a block of the image (mirrored beyond its border), flipped or turned, to float32's rounding."""
    settings, pre = replace(BENT, distorted=0), bytes_in(size)
    image, mask = place_of(), draw_mask(1)
    seen = set()
    for number in range(60):
        pixels, labels, _ = run(image, mask, number, settings, pre)
        place = coordinates(SHAPE, key_of(number), settings, pre).numpy()
        np.testing.assert_array_equal(place, np.rint(place))
        steps = np.stack([place[:, 1, 0] - place[:, 0, 0], place[:, 0, 1] - place[:, 0, 0]], 1)
        assert sorted(np.abs(steps).ravel()) == [0, 0, 1, 1]
        seen.add(tuple(steps.ravel()))
        rows, columns = place.astype(int)
        np.testing.assert_allclose(
            pixels, np.pad(image, ((60, 60), (60, 60), (0, 0)), "reflect")[rows + 60, columns + 60], rtol=1e-6
        )
        np.testing.assert_array_equal(labels, np.pad(mask, 60, constant_values=IGNORE)[rows + 60, columns + 60])
        if size == (32, 48):
            assert (rows.min() >= 0, rows.max() < 70, columns.min() >= 0, columns.max() < 90) == (True,) * 4
    assert len(seen) == 8


@pytest.mark.parametrize(
    "settings", [pytest.param(replace(BENT, elastic=0), marks=pytest.mark.slow), BENT], ids=["affine", "elastic"]
)
@pytest.mark.parametrize("shape", [SHAPE, (20, 24), (1, 9), (400, 500)], ids=str)
def test_the_image_is_read_as_scipy_reads_it(settings: Augmentation, shape: tuple[int, int]) -> None:
    pre = Preprocessing(channels=3, size=(40, 56))
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for number in range(5):
        pixels, _, _ = run(image, np.zeros(shape, np.uint8), number, settings, pre)
        place = coordinates(shape, key_of(number), settings, pre).numpy().astype(np.float64)
        for channel in range(3):
            plane = image[..., channel].astype(np.float64) / 255
            expected = ndimage.map_coordinates(plane, place, order=1, mode="mirror")
            np.testing.assert_allclose(pixels[..., channel], expected, atol=1e-3)


def test_an_affine_map_stays_between_its_ends() -> None:
    pre = bytes_in((41, 57))
    settings = replace(BENT, elastic=0, rotation=30, scale=(0.5, 2.0), shear=0, quarter_turns=False)
    zooms, angles = [], []
    for number in range(200):
        place = coordinates((200, 200), key_of(number), settings, pre).numpy()
        down, right = place[:, 1, 0] - place[:, 0, 0], place[:, 0, 1] - place[:, 0, 0]
        rows, columns = np.indices((41, 57))
        plane = place[:, :1, :1] + down[:, None, None] * rows + right[:, None, None] * columns
        np.testing.assert_allclose(place, plane, atol=5e-3)
        zooms.append(1 / np.hypot(*down))
        angles.append(np.degrees(np.arctan2(right[0], right[1])) * np.sign(right[1]) * np.sign(down[0]))
        assert abs(down @ right) < 1e-3
        assert place.min() > -1
        assert place.max() < 200
    assert 0.5 <= min(zooms) < 0.55
    assert 1.85 < max(zooms) <= 2.001
    assert 25 < max(np.abs(angles) % 180) % 150 <= 30.01


def natural_spline(values: np.ndarray, knots: np.ndarray, at: float) -> float:
    """Evaluate a natural cubic spline from its second derivatives (Burden and Faires, Numerical Analysis, sec. 3.5)."""
    step, count = knots[1] - knots[0], len(knots)
    system, right = np.eye(count), np.zeros(count)
    for n in range(1, count - 1):
        system[n, n - 1 : n + 2] = 1, 4, 1
        right[n] = 6 * (values[n - 1] - 2 * values[n] + values[n + 1]) / step**2
    bend = np.linalg.solve(system, right)
    n = min(int((at - knots[0]) / step), count - 2)
    a, b = (knots[n + 1] - at) / step, (at - knots[n]) / step
    return a * values[n] + b * values[n + 1] + ((a**3 - a) * bend[n] + (b**3 - b) * bend[n + 1]) * step**2 / 6


@pytest.mark.parametrize("points", [2, 3, 5])
def test_a_displacement_is_a_natural_cubic_spline(points: int) -> None:
    size = (23, 31)
    spline = Spline(size, points)
    grid = spline.draw(key_of(points), 0.5)
    field, grid = spline.field(grid).numpy(), grid.numpy().astype(np.float64)
    knots = [np.linspace(0, n - 1, points) for n in size]
    for axis in range(2):
        for row in (0, 1, 10, 22):
            for column in (0, 7, 15, 30):
                along = [natural_spline(grid[axis, :, n], knots[0], row) for n in range(points)]
                expected = natural_spline(np.array(along), knots[1], column)
                assert field[axis, row, column] == pytest.approx(expected, abs=1e-5)


def areas(place: np.ndarray) -> np.ndarray:
    """The signed area in the image, in px, of each square between four pixels of the crop (halves of its two sides)."""
    down, right = np.diff(place, axis=1), np.diff(place, axis=2)
    corners = [
        down[0][:, a] * right[1][b] - down[1][:, a] * right[0][b]
        for a in (np.s_[:-1], np.s_[1:])
        for b in (np.s_[:-1], np.s_[1:])
    ]
    return np.stack(corners)


@pytest.mark.parametrize("name", ["microscopy", "street", "aerial"])
def test_presets_fold_nothing_and_keep_areas(name: str) -> None:
    settings, pre = replace(AUGMENTATIONS[name], distorted=1), bytes_in((256, 256))
    plain = replace(settings, elastic=0)
    ratios, moves = [], []
    for number in range(200 if settings.elastic else 20):
        bent, straight = (
            coordinates((512, 512), key_of(number), s, pre).numpy()[:, ::4, ::4] for s in (settings, plain)
        )
        area, base = areas(bent), areas(straight)
        assert (np.sign(area) == np.sign(base)).all()
        ratios.append((area / base).mean())
        moves.append(bent - straight)
        assert (area / base).min() > 0.3
    assert abs(np.mean(ratios) - 1) < 0.02
    assert max(abs(np.array(ratios) - 1)) < 0.25
    assert (np.std(moves) > 2) == (settings.elastic > 0)


def test_no_displacement_folds_however_large() -> None:
    for points in (2, 3, 9):
        settings = replace(OFF, distorted=1, elastic=500, elastic_grid=points)
        for number in range(20):
            place = coordinates((300, 300), key_of(number), settings, bytes_in((64, 80))).numpy()
            assert areas(place).min() > 0
            assert areas(place).std() > 0.01


def test_a_crop_contains_the_place_asked_for() -> None:
    places = np.random.default_rng(3).uniform(0, 1, (60, 2)) * np.subtract(SHAPE, 1)
    for settings in (replace(BENT, distorted=0), replace(BENT, distorted=1, elastic=1)):
        pre, seen = bytes_in((32, 40)), []
        for number, (row, column) in enumerate(places):
            asked = tf.constant([row, column], tf.float32)
            place = coordinates(SHAPE, key_of(number), settings, pre, centre=asked).numpy()
            away = np.hypot(place[0] - row, place[1] - column)
            assert away.min() < 1.2
            seen.append(np.unravel_index(away.argmin(), away.shape))
            if settings.distorted == 0:
                assert (place.min() >= 0, place[0].max() <= 69, place[1].max() <= 89) == (True,) * 3
                if number < 5:
                    pixels, _, _ = run(place_of(), draw_mask(2), number, settings, pre, centre=asked)
                    np.testing.assert_allclose(pixels[..., :2], np.moveaxis(place, 0, -1), rtol=1e-6)
        assert np.std(seen, axis=0).min() > 3
        assert np.abs(np.mean(seen, axis=0) - (16, 20)).max() < 4


def test_light_changes_the_image_alone_and_stays_in_range() -> None:
    pre, mask = Preprocessing(channels=3, size=(48, 48)), draw_mask(4)
    image = np.random.default_rng(4).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    plain = run(image, mask, 5, OFF, pre)
    for change in ({"brightness": 0.3, "contrast": 0.5, "gamma": 0.5, "color": 0.4}, {"blur": 0.6, "noise": 0.2}):
        pixels, labels, _ = run(image, mask, 5, replace(OFF, **change), pre)
        np.testing.assert_array_equal(labels, plain[1])
        assert np.mean(np.abs(pixels - plain[0]) > 0.002) > 0.3, change
        assert (pixels.min() >= 0, pixels.max() <= 1) == (True, True)


def test_light_is_what_its_fields_say() -> None:
    """Each change alone, over many keys, against its formula with the parameter found from the result."""
    rng, mask = np.random.default_rng(5), np.zeros((24, 24), np.uint8)
    pre = Preprocessing(channels=3, size=(24, 24))
    image = rng.integers(90, 160, (24, 24, 3), dtype=np.uint8)
    x = image / 255
    found: dict[str, list[float]] = {"brightness": [], "contrast": [], "gamma": [], "color": []}
    for number in range(40):
        outs = {n: run(image, mask, number, replace(OFF, **{n: 0.2}), pre)[0].astype(np.float64) for n in found}
        found["brightness"].append(float((outs["brightness"] - x).mean()))
        np.testing.assert_allclose(outs["brightness"], x + found["brightness"][-1], atol=1e-5)
        found["contrast"].append(float((outs["contrast"] - x.mean()).std() / x.std() - 1))
        np.testing.assert_allclose(outs["contrast"], (x - x.mean()) * (1 + found["contrast"][-1]) + x.mean(), atol=1e-5)
        found["gamma"].append(float(np.log(np.log(outs["gamma"][0, 0, 0]) / np.log(x[0, 0, 0]))))
        np.testing.assert_allclose(outs["gamma"], x ** np.exp(found["gamma"][-1]), atol=1e-4)
        gains = (outs["color"] / x).mean((0, 1))
        np.testing.assert_allclose(outs["color"], x * gains, atol=1e-5)
        found["color"] += list(gains - 1)
    for values in found.values():
        assert max(np.abs(values)) <= 0.2 + 1e-3
        assert min(values) < -0.15
        assert max(values) > 0.15


def test_blur_is_a_gaussian_and_noise_has_its_spread() -> None:
    pre, mask = Preprocessing(channels=1, size=(41, 41)), np.zeros((41, 41), np.uint8)
    point = np.zeros((41, 41, 1), np.uint8)
    point[20, 20] = 255
    rows = np.arange(41) - 20
    spreads = []
    for number in range(20):
        spot = run(point, mask, number, replace(OFF, blur=2.0), pre)[0][..., 0].astype(np.float64)
        assert spot.sum() == pytest.approx(1, abs=1e-4)
        variance = (spot.sum(1) * rows**2).sum()
        assert (spot.sum(0) * rows**2).sum() == pytest.approx(variance, abs=1e-4)
        spreads.append(np.sqrt(variance))
    assert 0 < min(spreads) < 0.5
    assert 1.7 < max(spreads) < 2.01
    grey = np.full((41, 41, 1), 128, np.uint8)
    noises = [run(grey, mask, number, replace(OFF, noise=0.1), pre)[0] - 128 / 255 for number in range(20)]
    stds = [float(noise.std()) for noise in noises]
    assert (0 < min(stds) < 0.03, 0.08 < max(stds) < 0.106) == (True, True)
    assert max(abs(float(noise.mean())) for noise in noises) < 0.01


@pytest.mark.parametrize(
    "fields",
    [
        {"distorted": 1.1},
        {"rotation": -1},
        {"rotation": float("nan")},
        {"scale": (1.2, 0.8)},
        {"scale": (0.0, 1.0)},
        {"scale": 1.0},
        {"elastic_grid": 1},
        {"elastic_grid": 2.5},
        {"elastic": "10"},
        {"flip_up_down": 1},
        {"noise": -0.1},
    ],
    ids=str,
)
def test_a_field_out_of_range_is_refused_by_name(fields: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"augmentation {next(iter(fields))} is wrong"):
        Augmentation(**fields)


def test_outside_is_one_of_two() -> None:
    with pytest.raises(UsageError, match="'ignore' or 'reflect'"):
        run(place_of(), draw_mask(0), 0, OFF, bytes_in((8, 8)), outside="wrap")


def test_presets() -> None:
    assert list(AUGMENTATIONS) == ["none", "light", "microscopy", "microscopes", "street", "aerial"]
    assert not AUGMENTATIONS["none"].distorts
    assert not AUGMENTATIONS["light"].distorts
    assert Augmentation().scale == (1.0, 1.0)
    assert not Augmentation().distorts
    assert Augmentation(scale=[0.5, 2]).scale == (0.5, 2.0)  # type: ignore[arg-type]
