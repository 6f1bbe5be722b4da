"""A result counts and names what is in its class map, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from unetres_edge import Result
from unetres_edge.results.draw import overlay
from unetres_edge.results.vector import decode_rle

COLORS = ((0, 0, 0), (200, 30, 10), (10, 90, 240))


def result(class_map: np.ndarray) -> Result:
    return Result(class_map, None, ("sky", "road", "car"), COLORS, {})


def test_areas_are_counts_of_the_whole_map() -> None:
    """Of more rows than are counted at once, with a pixel of 255, which is no class."""
    class_map = np.random.default_rng(0).integers(0, 3, (200, 7)).astype(np.uint8)
    class_map[-1, -1] = 255
    areas = result(class_map).areas()
    assert areas == {name: int((class_map == number).sum()) for number, name in enumerate(("sky", "road", "car"))}
    assert all(type(area) is int for area in areas.values())
    assert sum(areas.values()) == class_map.size - 1


@pytest.mark.parametrize("class_id", [0, 1, 2])
def test_run_lengths_are_those_of_the_class(class_id: int) -> None:
    class_map = np.random.default_rng(1).integers(0, 3, (9, 11)).astype(np.uint8)
    np.testing.assert_array_equal(decode_rle(result(class_map).rle(class_id)), class_map == class_id)


def test_an_overlay_lets_two_thirds_of_the_image_through() -> None:
    class_map = np.zeros((8, 8), np.uint8)
    class_map[2:7, 2:7] = 1
    image = np.full((8, 8), 100, np.uint8)
    seen = result(class_map).overlay(image)
    np.testing.assert_array_equal(seen, overlay(image, class_map, COLORS, opacity=0.35))
    np.testing.assert_array_equal(seen[4, 4], np.rint(0.65 * 100 + 0.35 * np.array(COLORS[1])))
    np.testing.assert_array_equal(seen[0, 0], [100] * 3)
