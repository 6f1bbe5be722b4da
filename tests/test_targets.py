"""What instance maps become: classes, parted cells, touching borders, and the weight map of Ronneberger 2015."""

from __future__ import annotations

import math

import numpy as np
import pytest

from keras_unetres.data.targets import border_weight_map, semantic, separated, with_borders
from unetres_edge.errors import DataError, UsageError

PAIR = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [0, 0, 2, 2], [0, 0, 0, 0]])
IGNORED = 65535


def drawn(*rows: str) -> np.ndarray:
    """An instance map as one letter a pixel: '.' background, 'a' 1, 'b' 2, ..., '?' not labelled."""
    return np.array([[0 if c == "." else IGNORED if c == "?" else ord(c) - 96 for c in row] for row in rows])


def written(classes: np.ndarray) -> list[str]:
    return ["".join("?" if value == 255 else str(value) for value in row) for row in classes]


def discs(seed: int, shape: tuple[int, int], count: int, radius: tuple[float, float]) -> np.ndarray:
    """Discs at random places, later ones over earlier ones, so that many touch and some reach the border."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    cells = np.zeros(shape, np.uint16)
    for number in range(1, count + 1):
        row, column = rng.uniform((0, 0), shape)
        cells[np.hypot(rows - row, columns - column) < rng.uniform(*radius)] = 7 * number
    return cells


def direct(instances: np.ndarray, w0: float, sigma: float, weights: tuple[float, float], ignore: int | None):
    """Eq. 2 pixel by pixel, with the distance to every pixel of every cell."""
    cells = instances.astype(np.int64)
    if ignore is not None:
        cells[instances == ignore] = 0
    height, width = cells.shape
    parted = cells.copy()
    for y in range(height):
        for x in range(width):
            near = cells[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            if cells[y, x] and ((near != cells[y, x]) & (near != 0)).any():
                parted[y, x] = 0
    places = [np.argwhere(parted == number) for number in np.unique(parted[parted > 0])]
    out = np.zeros(cells.shape)
    for y in range(height):
        for x in range(width):
            if ignore is not None and instances[y, x] == ignore:
                continue
            out[y, x] = weights[int(parted[y, x] > 0)]
            if parted[y, x] == 0 and len(places) > 1:
                d1, d2 = sorted(np.sqrt(((place - (y, x)) ** 2).sum(1).min()) for place in places)[:2]
                out[y, x] += w0 * math.exp(-((d1 + d2) ** 2) / (2 * sigma**2))
    return out


def test_semantic() -> None:
    cells = drawn("aa.b", "a?.b")
    assert written(semantic(cells, IGNORED)) == ["1101", "1?01"]
    assert written(semantic(cells)) == ["1101", "1101"]
    assert semantic(cells).dtype == np.uint8


def test_separated_parts_touching_cells_by_one_pixel_of_each() -> None:
    cells = drawn(
        "aaabbb..",
        "aaabbb..",
        "aaa..b..",
        ".....b.c",
        "dd......",
        "dd?e....",
    )
    assert written(separated(cells, IGNORED)) == [
        "11001100",
        "11001100",
        "11000100",
        "00000101",
        "11000000",
        "11?10000",
    ]


def test_cells_that_touch_by_a_corner_are_parted() -> None:
    assert written(separated(drawn("aa..", "aa..", "..bb", "..bb"))) == ["1100", "1000", "0001", "0011"]


def test_touching_borders_of_one_pixel() -> None:
    cells = drawn(
        "aaabbb...",
        "aaabbb...",
        "aaa......",
        "......c.d",
        "e?.......",
        "..ff...gg",
    )
    assert written(with_borders(cells, 1, IGNORED)) == [
        "112211000",
        "112211000",
        "112202220",
        "220000121",
        "1?0000222",
        "021100011",
    ]


def test_touching_borders_reach_as_far_as_their_width() -> None:
    row = drawn("aaa...bbb")
    assert written(with_borders(row, 1)) == ["111000111"]
    assert written(with_borders(row, 2)) == ["111020111"]
    assert written(with_borders(row, 3)) == ["111222111"]
    assert written(with_borders(row, 4)) == ["112222211"]


@pytest.mark.parametrize(
    ("seed", "count", "sigma", "weights"),
    [
        (0, 6, 5.0, (1.0, 1.0)),
        (1, 12, 2.0, (0.3, 2.5)),
        (2, 1, 5.0, (1.0, 1.0)),
        (3, 0, 5.0, (2.0, 3.0)),
        (4, 30, 0.7, (1, 1)),
    ],
)
def test_weight_map_is_equation_2(seed: int, count: int, sigma: float, weights: tuple[float, float]) -> None:
    cells = discs(seed, (30, 38), count, (2, 6))
    for ignore in (None, IGNORED):
        if ignore is not None:
            cells[10:14, 5:30] = ignore
        found = border_weight_map(cells, 10.0, sigma, weights, ignore=ignore)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, direct(cells, 10.0, sigma, weights, ignore), atol=1e-5)
        assert ignore is None or (found[cells == ignore] == 0).all()


def test_weight_map_between_touching_cells_and_at_the_border() -> None:
    for cells in (PAIR, drawn("ab", "ab"), drawn("a.......b"), drawn("ac", "b."), drawn("aaabbb", "aaabbb", "......")):
        np.testing.assert_allclose(border_weight_map(cells), direct(cells, 10.0, 5.0, (1, 1), None), atol=1e-5)


def test_weight_map_by_hand() -> None:
    """Two cells of one pixel, 8 px apart: between them d1 + d2 = 8, below the middle twice the hypotenuse."""
    cells = np.zeros((5, 20), np.int32)
    cells[0, 4], cells[0, 12] = 3, 9
    found = border_weight_map(cells, w0=10, sigma=5)
    assert found[0, 5:12] == pytest.approx(1 + 10 * math.exp(-64 / 50))
    assert found[3, 8] == pytest.approx(1 + 10 * math.exp(-((2 * 5) ** 2) / 50))
    assert found[0, 0] == pytest.approx(1 + 10 * math.exp(-((4 + 12) ** 2) / 50))
    assert (found[0, 4], found[0, 12]) == (1, 1)


def test_weight_map_is_that_of_the_classes_with_fewer_than_two_cells() -> None:
    cells = drawn("....", ".aa.", "....")
    np.testing.assert_array_equal(border_weight_map(cells, class_weights=(0.5, 2)), np.where(cells == 1, 2, 0.5))
    np.testing.assert_array_equal(border_weight_map(np.zeros((3, 4), np.uint8)), np.ones((3, 4)))


def test_weight_map_of_hundreds_of_cells() -> None:
    """Each pixel against the two nearest of all cells, by whole-image distances of every fifth row and column."""
    cells = discs(5, (200, 260), 300, (3, 8))
    found = border_weight_map(cells)
    parted = np.where(separated(cells) == 1, cells, 0)
    numbers = np.unique(parted[parted > 0])
    assert numbers.size > 150
    rows, columns = (part[::5, ::5].ravel() for part in np.indices(cells.shape))
    distances = []
    for number in numbers:
        place = np.argwhere(parted == number)
        distances.append(np.sqrt((rows[:, None] - place[:, 0]) ** 2 + (columns[:, None] - place[:, 1]) ** 2).min(1))
    nearest = np.sort(distances, axis=0)[:2].sum(0)
    expected = 1 + 10 * np.exp(-(nearest**2) / 50) * (parted[rows, columns] == 0)
    np.testing.assert_allclose(found[rows, columns], expected, atol=1e-5)


@pytest.mark.parametrize("make", [semantic, separated, with_borders, border_weight_map])
def test_what_is_not_an_instance_map_is_refused(make) -> None:
    for wrong in (np.zeros((2, 2)), np.zeros((2, 2, 1), int), np.full((2, 2), -1)):
        with pytest.raises(DataError, match="instance map"):
            make(wrong)


def test_numbers_out_of_range_are_refused() -> None:
    for options in ({"w0": -1}, {"sigma": 0}, {"class_weights": (1, 2, 3)}, {"class_weights": (1, -1)}):
        with pytest.raises(UsageError, match="weight map"):
            border_weight_map(PAIR, **options)
    for width in (0, 1.5, True):
        with pytest.raises(UsageError, match="width"):
            with_borders(PAIR, width)


def test_objects_that_leave_no_background_are_numbered_too() -> None:
    full = drawn("aabb", "aabb")
    assert written(semantic(full)) == ["1111", "1111"]
    assert written(separated(full)) == ["1001", "1001"]
    assert semantic(np.zeros((0, 3), np.int32)).shape == (0, 3)


def test_a_weight_of_zero_is_a_weight_and_the_border_ends_where_it_is_negligible() -> None:
    """exp(-d^2 / 2) falls below 1e-7 at 5.68 px: what is further from one of two cells has the class's weight alone."""
    pair = np.zeros((3, 14), np.int32)
    pair[:, 0], pair[:, 7] = 1, 2
    weights = border_weight_map(pair, sigma=1.0, class_weights=(0, 1))[1]
    np.testing.assert_array_equal(weights[[0, 7]], 1)
    np.testing.assert_array_equal(weights[2:6] > 0, True)  # within 5 px of both
    np.testing.assert_array_equal(weights[[1, 6, *range(8, 14)]], 0)  # 6 px and more from the further one
    assert border_weight_map(pair, w0=0.0).max() == 1
