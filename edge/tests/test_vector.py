"""Shapes of class maps: filled again they are the mask; run lengths are those of pycocotools."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from unetres_edge import Result, UnetresError
from unetres_edge.results.vector import Polygon, decode_rle, encode_rle, find_polygons, geojson, trace_rings

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))
COLORS = ((0, 0, 0), (128, 0, 0), (0, 128, 0))


def fill(rings: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Even-odd: a pixel is inside if a ray to the left crosses the rings an odd number of times."""
    crossings = np.zeros((shape[0], shape[1] + 1), int)
    for ring in rings:
        for (x, y), (x_next, y_next) in zip(ring, np.roll(ring, -1, 0), strict=True):
            assert (x == x_next) != (y == y_next)
            crossings[min(y, y_next) : max(y, y_next), x] += 1
    return crossings.cumsum(1)[:, : shape[1]] % 2 == 1


def count_regions(mask: np.ndarray, corners: bool) -> int:
    """Count connected regions with a search of its own, through sides or through corners too."""
    left, count = set(map(tuple, np.argwhere(mask).tolist())), 0
    while left:
        count += 1
        todo = [left.pop()]
        while todo:
            y, x = todo.pop()
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    near = (y + dy, x + dx)
                    if near in left and (corners or 0 in (dy, dx)):
                        left.remove(near)
                        todo.append(near)
    return count


def check(mask: np.ndarray) -> list[Polygon]:
    polygons = find_polygons(mask.astype(np.uint8), [1])
    np.testing.assert_array_equal(fill([r for p in polygons for r in (p.exterior, *p.holes)], mask.shape), mask)
    assert len(polygons) == count_regions(mask, corners=False)
    covered = np.zeros(mask.shape, int)
    for polygon in polygons:
        own = fill([polygon.exterior, *polygon.holes], mask.shape)
        assert polygon.area == own.sum() > 0
        assert count_regions(own, corners=False) == 1
        covered += own
        for ring in (polygon.exterior, *polygon.holes):
            assert len(set(map(tuple, ring.tolist()))) == len(ring)  # touches itself nowhere
            steps = np.diff(np.concatenate([ring, ring[:1]]), axis=0)
            assert ((steps != 0).sum(1) == 1).all()
            assert ((steps[:, 0] == 0) != (np.roll(steps, -1, 0)[:, 0] == 0)).all()  # every corner turns
    np.testing.assert_array_equal(covered, mask)
    return polygons


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_polygons_filled_again_are_the_mask(mask: np.ndarray) -> None:
    check(mask)


@pytest.mark.parametrize("share", [0.03, 0.4, 0.6, 0.97])
def test_polygons_of_larger_masks(share: float) -> None:
    check(np.random.default_rng(0).random((60, 83)) < share)


def test_a_ring_within_a_ring() -> None:
    mask = np.ones((9, 9), bool)
    mask[1:-1, 1:-1] = False
    mask[3:6, 3:6] = True
    mask[4, 4] = False
    outside, inside = check(mask)
    assert [outside.exterior.tolist(), len(outside.holes)] == [[[0, 0], [9, 0], [9, 9], [0, 9]], 1]
    assert outside.holes[0].tolist() == [[1, 1], [1, 8], [8, 8], [8, 1]]
    assert [inside.area, [hole.tolist() for hole in inside.holes]] == [8, [[[4, 4], [4, 5], [5, 5], [5, 4]]]]


def test_pixels_that_touch_by_a_corner_are_two_and_holes_too() -> None:
    mask = np.array([[1, 0], [0, 1]], bool)
    assert [polygon.area for polygon in check(mask)] == [1, 1]
    (polygon,) = check(np.pad(~mask, 1, constant_values=True))
    assert len(polygon.holes) == 2
    assert len(trace_rings(np.zeros((3, 3), bool))) == 0
    closing = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool)  # the hole meets the outside in a point
    (polygon,) = check(closing)
    assert [len(polygon.holes), polygon.area] == [1, 7]


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_run_lengths_are_pycocotools(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools comes with keras-unetres")
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = encode_rle(mask)
    assert ours == {"size": list(theirs["size"]), "counts": theirs["counts"].decode()}
    json.dumps(ours)
    np.testing.assert_array_equal(decode_rle(ours), mask)
    np.testing.assert_array_equal(decode_rle(theirs), mask)


def test_long_runs_are_pycocotools() -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools comes with keras-unetres")
    mask = np.zeros((3000, 2000), np.uint8)
    mask[:, 700:701], mask[100:, 1500:] = 1, 1
    ours = encode_rle(mask)
    assert ours["counts"] == coco.encode(np.asfortranarray(mask))["counts"].decode()
    np.testing.assert_array_equal(decode_rle(ours), mask)
    np.testing.assert_array_equal(decode_rle({"size": [2, 2], "counts": [1, 2, 1]}), [[0, 1], [1, 0]])
    with pytest.raises(UnetresError, match="do not fit their size; expected 5; found 4"):
        decode_rle({"size": [1, 5], "counts": [1, 2, 1]})


def test_a_result_gives_shapes() -> None:
    class_map = np.zeros((6, 8), np.uint8)
    class_map[1:4, 2:7], class_map[2, 3:5], class_map[4:, :2] = 1, 0, 2
    result = Result(class_map, None, ("none", "road", "tree"), COLORS)
    assert [(p.class_id, p.area, len(p.holes)) for p in result.polygons()] == [(1, 13, 1), (2, 4, 0)]
    assert [p.class_id for p in result.polygons([2, 0])] == [2, 0, 0]
    assert decode_rle(result.rle(1)).sum() == 13
    found = result.geojson()
    assert found == json.loads(json.dumps(found))
    assert [f["properties"]["class"] for f in found["features"]] == ["road", "tree"]
    assert found["features"][0]["properties"] == {"class_id": 1, "class": "road", "color": "#800000", "area_px": 13}
    assert found["features"][0]["geometry"]["coordinates"] == [
        [[2, 1], [7, 1], [7, 4], [2, 4], [2, 1]],
        [[3, 2], [3, 3], [5, 3], [5, 2], [3, 2]],
    ]
    for wrong in (3, -1):
        with pytest.raises(UnetresError, match="no such class; expected 0 to 2"):
            result.rle(wrong)


def test_a_transform_places_shapes_on_the_map_counter_clockwise() -> None:
    polygons = find_polygons(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]]), [1])
    for north_up in ((0.5, 0, 100, 0, -0.25, 50), (0.5, 0, 100, 0, -0.25, 50, 0, 0, 1)):
        (feature,) = geojson(polygons, ("a", "b"), COLORS, north_up)["features"]
        outer, hole = (np.array(ring) for ring in feature["geometry"]["coordinates"])
        assert {tuple(c) for c in outer} == {(100, 50), (101.5, 50), (101.5, 49.25), (100, 49.25)}
        assert {tuple(c) for c in hole} == {(100.5, 49.75), (101, 49.75), (101, 49.5), (100.5, 49.5)}
        for ring, sign in ((outer, 1), (hole, -1)):  # RFC 7946, 3.1.6
            assert (ring[0] == ring[-1]).all()
            x, y = ring[:-1].T
            assert np.sign((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) == sign
    for wrong in ((1, 2, 3), (1, 0, 0, 0, np.nan, 0), (0, 0, 0, 0, 0, 0)):
        with pytest.raises(UnetresError, match="transform"):
            geojson(polygons, ("a", "b"), COLORS, wrong)


def test_a_transform_may_turn() -> None:
    polygons = find_polygons(np.array([[0, 1, 1]]), [1])
    (feature,) = geojson(polygons, ("a", "b"), COLORS, (2, 1, 100, -3, 5, 50))["features"]
    (ring,) = feature["geometry"]["coordinates"]
    expected = {(100 + 2 * x + y, 50 - 3 * x + 5 * y) for x in (1, 3) for y in (0, 1)}
    assert {tuple(corner) for corner in ring} == expected


def test_a_mask_of_no_pixels_has_runs_of_none() -> None:
    for shape in ((0, 5), (5, 0)):
        rle = encode_rle(np.zeros(shape, bool))
        assert rle == {"size": list(shape), "counts": "0"}
        assert decode_rle(rle).shape == shape
