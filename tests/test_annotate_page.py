"""The modules of the page for painting, in Node: they draw what Python draws in every pixel, and tsc finds no fault."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from node import need_package, run_node

from keras_unetres.painting import raster

PAGE = Path(str(resources.files("keras_unetres.painting"))) / "page"
COUNT = 600


def draw_strokes(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Strokes of every tool and size: across rims, along rows, through centres of pixels, on every level."""
    strokes = []
    for number in range(COUNT):
        width, height = (int(side) for side in rng.integers(1, (300, 40)[number % 2], 2))
        count = int(rng.integers(1, 12))
        points = np.round(rng.uniform(-20, (320, 60)[number % 2], (count, 2)) * 4) / 4
        if number % 5 == 0:
            points = np.floor(points) + 0.5
        if number % 7 == 0:
            points[:, 1] = points[0, 1]
        tool = ("brush", "polygon", "lasso")[number % 3] if count > 2 else "brush"
        size = (float(rng.integers(1, 12)), float(rng.uniform(1, 60)), 10_000.0, 2.5, 5.0)[number % 11 % 5]
        level = int(rng.integers(0, 5))
        stroke = {"tool": tool, "points": points.tolist(), "size": size}
        strokes.append(stroke | {"width": width, "height": height, "level": level})
    return strokes


def run_page(jobs: list[dict[str, Any]], folder: Path) -> list[list[list[int]]]:
    """Return the runs (y, begin, end) of each job."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    run_node(
        Path(__file__).with_name("annotate_raster.mjs"), PAGE / "raster.js", folder / "jobs.json", folder / "o.json"
    )
    runs: list[list[list[int]]] = json.loads((folder / "o.json").read_text())
    return runs


def filled(runs: list[list[int]], shape: tuple[int, int]) -> np.ndarray:
    made = np.zeros(shape, bool)
    for y, begin, end in runs:
        assert 0 <= begin < end <= shape[1]
        made[y, begin:end] = True
    return made


def inside_brush(points: np.ndarray, size: float, shape: tuple[int, int]) -> np.ndarray:
    """The rule at every centre, without any shortcut."""
    px, py = np.arange(shape[1])[None] + 0.5, np.arange(shape[0])[:, None] + 0.5
    made = np.zeros(shape, bool)
    for a, b in zip(points, points[1:] if len(points) > 1 else points, strict=False):
        (dx, dy), length2 = b - a, float(((b - a) ** 2).sum())
        t = np.clip(((px - a[0]) * dx + (py - a[1]) * dy) / length2, 0, 1) if length2 else 0.0
        made |= (px - (a[0] + t * dx)) ** 2 + (py - (a[1] + t * dy)) ** 2 <= size * size / 4
    return made


def inside_polygon(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The rule at every centre, without any shortcut."""
    px, py = np.arange(shape[1])[None] + 0.5, np.arange(shape[0])[:, None] + 0.5
    made = np.zeros(shape, bool)
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y1 != y2:
            made ^= ((y1 > py) != (y2 > py)) & (px < (x2 - x1) * (py - y1) / (y2 - y1) + x1)
    return made


def test_the_page_draws_what_python_and_the_rule_draw(tmp_path: Path) -> None:
    strokes = draw_strokes(np.random.default_rng(7))
    painted = 0
    for stroke, runs in zip(strokes, run_page(strokes, tmp_path), strict=True):
        shape, step = (stroke["height"], stroke["width"]), 2 ** stroke["level"]
        points = np.array(stroke["points"])
        is_brush = stroke["tool"] == "brush"
        expected = inside_brush(points, stroke["size"], shape) if is_brush else inside_polygon(points, shape)
        pairs = [(float(x), float(y)) for x, y in points]
        area = raster.brush(pairs, stroke["size"], shape) if is_brush else raster.polygon(pairs, shape)
        by_python = np.zeros(shape, bool)
        if area is not None:
            by_python[area.slices] = area.inside
        np.testing.assert_array_equal(by_python, expected)
        seen = expected[::step, ::step]
        np.testing.assert_array_equal(filled(runs, seen.shape), seen)
        painted += int(seen.sum())
    assert painted > 100_000


def test_the_page_fills_what_python_fills(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    maps = [rng.integers(0, 2, rng.integers(1, 40, 2)).astype(np.uint8) for _ in range(100)]
    seeds = [[int(rng.integers(side)) for side in each.shape[::-1]] for each in maps]
    jobs = [
        {"values": each.ravel().tolist(), "width": each.shape[1], "height": each.shape[0], "seed": seed}
        for each, seed in zip(maps, seeds, strict=True)
    ]
    for values, seed, runs in zip(maps, seeds, run_page(jobs, tmp_path), strict=True):
        area = raster.fill((seed[0] + 0.5, seed[1] + 0.5), values, None)
        assert area is not None
        expected = np.zeros(values.shape, bool)
        expected[area.slices] = area.inside
        np.testing.assert_array_equal(filled(runs, values.shape), expected)


@pytest.mark.slow
def test_tsc_finds_no_fault_in_the_page() -> None:
    run_node(need_package("typescript") / "bin" / "tsc", "-p", Path(__file__).with_name("annotate_tsconfig.json"))
