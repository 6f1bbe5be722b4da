"""Painting in a real browser (`make test-web`), with mouse, keys, fingers and a pen, and servers that die meanwhile.

What is seen, what the server has, and what another rasterizer makes of the journal are the same in every pixel.
"""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotate_page import find_browser, look_at_page
from PIL import Image
from scipy import ndimage
from test_annotate_page import inside_brush, inside_polygon

pytestmark = pytest.mark.long

SIZES = [(400, 300)] * 5 + [(3000, 2200)]
STROKES = int(os.environ.get("UNETRES_STROKES", "100"))
UNKNOWN = 255


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The project that was painted, and what the browser saw."""
    find_browser()
    from keras_unetres.painting import folder as folders

    folder = tmp_path_factory.mktemp("annotate")
    (folder / "pictures").mkdir()
    for number, (width, height) in enumerate(SIZES):
        Image.fromarray(draw_cells(width, height, number)).save(folder / "pictures" / f"cells_{number}.png")
    project = folder / "project"
    names = ("background", "cell", "debris", "dust")
    found = folders.find_pictures(folder / "pictures", print)
    folders.make_project(project, folder / "pictures", names, None, found, print)
    report = look_at_page("annotate_browser.mjs", project, folder, timeout=1800, sizes=SIZES, strokes=STROKES)
    return project, report


def draw_cells(width: int, height: int, seed: int) -> np.ndarray:
    """(height, width) uint8: bright ellipses on a dark ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    levels = np.full((height, width), 30.0)
    for _ in range(width * height // 9000):
        row, column, a, b = rng.uniform(0, height), rng.uniform(0, width), *rng.uniform(10, 24, 2)
        part = np.s_[max(0, int(row) - 30) : int(row) + 30, max(0, int(column) - 30) : int(column) + 30]
        inside = ((x[part] - column) / a) ** 2 + ((y[part] - row) / b) ** 2
        levels[part] = np.maximum(levels[part], np.where(inside < 1, 210 - 60 * inside, 0))
    return np.clip(levels + rng.normal(0, 5, levels.shape), 0, 255).astype(np.uint8)


def replay(project: Path, index: int, most: int | None = None) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Classes and objects that the journal says, by a rasterizer of its own; and the first `most` actions in effect."""
    width, height = SIZES[index]
    lines = [json.loads(line) for line in (project / "painting" / "journal.jsonl").read_text().splitlines()]
    done: list[dict[str, Any]] = []
    undone: list[dict[str, Any]] = []
    for line in lines:
        if line.get("image") != f"cells_{index}.png":
            continue
        if line["do"] == "undo":
            undone.append(done.pop())
        elif line["do"] == "redo":
            done.append(undone.pop())
        elif line["do"] == "stroke":
            done.append(line)
            undone = []
    classes = np.full((height, width), UNKNOWN, np.uint8)
    objects = np.zeros((height, width), np.uint16)
    done = done[:most]
    for line in done:
        points = np.array(line.get("points", [[0, 0]]))
        if line["tool"] == "brush":
            area = inside_brush(points, line["size"], classes.shape)
        elif line["tool"] in ("polygon", "lasso"):
            area = inside_polygon(points, classes.shape)
        elif line["tool"] == "fill":
            x, y = np.floor(points[0]).astype(int)
            same = (classes == classes[y, x]) & (objects == objects[y, x])
            labels = ndimage.label(same)[0]
            area = labels == labels[y, x]
        elif line["tool"] == "split":
            (ax, ay), (bx, by) = points[0], points[-1]
            px, py = np.arange(width)[None] + 0.5, np.arange(height)[:, None] + 0.5
            area = (objects == line["object"]) & ((bx - ax) * (py - ay) - (by - ay) * (px - ax) > 0)
            objects[area] = line["new"]
            continue
        else:
            objects[objects == line["other"]] = line["object"]
            continue
        classes[area], objects[area] = line["class"], line["object"]
    return classes, objects, done


def numbers(text: str, shape: tuple[int, int]) -> np.ndarray:
    """What the page showed, pixel by pixel."""
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape)


def decoded(text: str) -> np.ndarray:
    """A tile of the server."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


SHAPE = SIZES[0][::-1]


def test_every_tool_paints_what_was_drawn(seen: tuple[Path, dict[str, Any]]) -> None:
    project, report = seen
    classes, _, done = replay(project, 0)
    tools = [(line["tool"], line["class"]) for line in done]
    assert tools == [
        ("brush", 1), ("brush", 1), ("brush", 0), ("brush", 255), ("brush", 255), ("polygon", 2), ("polygon", 2),
        ("lasso", 1), ("fill", 0), ("fill", 0),
    ]  # fmt: skip
    assert done[0]["points"][0] == [40, 50] and done[0]["points"][-1] == [160, 110]
    assert done[5]["points"] == [[300, 40], [360, 60], [350, 120], [310, 90]]
    assert done[6]["points"] == [[30, 120], [70, 130], [50, 160]]
    assert done[1]["size"] < done[0]["size"] < done[2]["size"]
    assert set(np.unique(classes)) >= {0, 1, 2}
    np.testing.assert_array_equal(decoded(report["tools"]["mask"]), classes)
    np.testing.assert_array_equal(numbers(report["tools"]["seen"], SHAPE), classes)
    np.testing.assert_array_equal(np.asarray(Image.open(project / "masks" / "cells_0.png")), classes)
    assert (report["picked"], report["tool"]) == ("debris", "brush")


def test_undo_and_redo_go_all_the_way(seen: tuple[Path, dict[str, Any]]) -> None:
    project, report = seen
    classes, _, done = replay(project, 1, STROKES)
    assert len(done) == STROKES
    np.testing.assert_array_equal(decoded(report["many"]["mask"]), classes)
    np.testing.assert_array_equal(numbers(report["many"]["seen"], SHAPE), classes)
    same, nothing_left, shown = report["undone"]
    assert (same, nothing_left) == (True, True)
    assert (numbers(shown, SHAPE) == UNKNOWN).all()
    assert report["redone"] == [True, True, True]


def test_objects_have_numbers_and_are_split_and_merged(seen: tuple[Path, dict[str, Any]]) -> None:
    project, report = seen
    _, objects, done = replay(project, 2, 7)
    assert [line["tool"] for line in done] == ["brush", "brush", "brush", "lasso", "lasso", "split", "merge"]
    assert done[0]["object"] == done[1]["object"]
    found = decoded(report["objects"]["mask"])
    np.testing.assert_array_equal(found, objects)
    assert len(np.unique(found)) == 1 + 4  # the bent one in two parts, another, and two that became one


def test_nothing_is_lost_when_the_server_dies_while_one_paints(seen: tuple[Path, dict[str, Any]]) -> None:
    _, report = seen
    dead, alive = report["dead"], report["alive"]
    assert dead["saved"] == "5 changes waiting" and dead["kept"] >= 5
    assert "The server does not answer" in dead["notice"] and "5 changes kept here" in dead["notice"]
    mask = decoded(alive["mask"])
    assert set(np.unique(mask)) >= {1, 2, UNKNOWN} and 0 not in mask  # the 0 was undone
    np.testing.assert_array_equal(numbers(dead["seen"], SHAPE), mask)
    np.testing.assert_array_equal(numbers(alive["seen"], SHAPE), mask)
    assert alive["kept"] == 0


def test_nothing_is_lost_by_a_reload_or_a_closed_tab(seen: tuple[Path, dict[str, Any]]) -> None:
    _, report = seen
    assert report["waiting"] == "2 changes waiting", "one was drawn, one was being drawn"
    mask = decoded(report["reloaded"]["mask"])
    np.testing.assert_array_equal(numbers(report["before"], SHAPE), mask)
    np.testing.assert_array_equal(numbers(report["reloaded"]["seen"], SHAPE), mask)
    assert report["spilled"] == 0, "there was no room for it in localStorage"
    adopted = decoded(report["adopted"]["mask"])
    assert (adopted != mask).sum() > 500
    np.testing.assert_array_equal(numbers(report["adopted"]["seen"], SHAPE), adopted)


def test_two_tabs_see_the_same(seen: tuple[Path, dict[str, Any]]) -> None:
    project, report = seen
    classes, _, _ = replay(project, 3)
    tabs = report["tabs"]
    for shown in (numbers(tabs["seen"], SHAPE), numbers(tabs["other"], SHAPE), decoded(tabs["mask"])):
        np.testing.assert_array_equal(shown, classes)


def test_keys_alone_accept_reject_classify_and_go_on(seen: tuple[Path, dict[str, Any]]) -> None:
    project, report = seen
    keys = report["keys"]
    assert keys["image"].endswith("image=5")
    first, accepted, rejected, classified, chosen, _ = keys["says"]
    assert first.startswith("Suggested: cell, ")
    assert [line.partition(":")[0] for line in (accepted, rejected, classified, chosen)] == ["Suggested"] * 4
    picture = np.asarray(Image.open(project / "images" / "cells_4.png"))
    labels = ndimage.label(picture > 100)[0]
    mask = decoded(keys["mask"])
    given = [set(np.unique(mask[labels == number])) for number in range(1, labels.max() + 1)]
    assert [given.count({value}) for value in (0, 2)] == [1, 1]
    assert {1} in given
    assert (mask[labels == 0] != UNKNOWN).any(), "the crosshair painted"
    assert keys["complete"] == "true"
    assert keys["suggested"] == ["the file is least sure here"] or "image=3" in keys["suggested"][0]
    assert "the file is least sure here" in keys["suggested"][1]
    assert keys["help"] > 40
    assert {"stage", "previous", "complete", "undo", "size", "opacity", "learn", "export"} <= set(report["reached"])


def test_wheel_space_fingers_and_pen(seen: tuple[Path, dict[str, Any]]) -> None:
    _, report = seen
    whole, near, natural, pinched = report["zoom"]
    assert near > 1.5 * whole and natural == 100 and pinched > 150
    (x0, _), (x1, _) = report["moved"]
    assert abs(x0 - x1) <= 1, "the picture moved with the mouse"
    start, finger, pinch, pen, palm = report["touch"]
    assert (finger - start, pinch - finger, pen - pinch, palm - pen) == (1, 0, 1, 0)


def test_what_is_drawn_from_afar_is_what_the_server_shows(seen: tuple[Path, dict[str, Any]]) -> None:
    project, report = seen
    (local, painted), (server, _) = report["far"]["local"], report["far"]["server"]
    assert painted > 10_000
    assert local == server
    classes, _, done = replay(project, 5)
    assert [line["tool"] for line in done][:2] == ["brush", "lasso"]
    np.testing.assert_array_equal(np.asarray(Image.open(project / "masks" / "cells_5.png")), classes)


def test_a_server_with_another_token_is_named(seen: tuple[Path, dict[str, Any]]) -> None:
    _, report = seen
    assert "token" in report["token"] and "1 change kept here" in report["token"]
    assert report["after"] == 0, "it was sent from the new address"


def test_what_was_painted_outlives_the_browser(seen: tuple[Path, dict[str, Any]]) -> None:
    assert seen[1]["killed"] == [5] * 4


def test_nothing_went_wrong_that_should_not(seen: tuple[Path, dict[str, Any]]) -> None:
    report = seen[1]
    assert report["console"] == []
    assert report["phoneOverflow"] <= 0


def test_axe_finds_nothing_serious(seen: tuple[Path, dict[str, Any]]) -> None:
    assert [each for each in seen[1]["axe"] if each[3] in ("serious", "critical")] == []


def test_a_dab_on_a_4k_screen_costs_no_more_than_on_a_small_one(tmp_path: Path) -> None:
    find_browser()
    from keras_unetres.painting import folder as folders

    (tmp_path / "pictures").mkdir()
    Image.fromarray(draw_cells(3840, 2160, 0)).save(tmp_path / "pictures" / "large.png")
    found = folders.find_pictures(tmp_path / "pictures", print)
    folders.make_project(tmp_path / "project", tmp_path / "pictures", ("ground", "cell"), None, found, print)
    views = {"4k": {"image": 1, "width": 3840, "height": 2160, "size": 20}}
    more: dict[str, Any] = {"seconds": 3, "strokes": 0, "learn": False, "views": views}
    report = look_at_page("annotate_frames.mjs", tmp_path / "project", tmp_path, 300, **more)["4k"]
    assert report["view"] > 7e6
    drawn, held = np.array(report["frames"])[1:, 1:].T
    assert (drawn > 0).sum() >= 5
    assert np.median(drawn[drawn > 0]) < 60_000, "px drawn in a frame, for a brush of 20 px"
    assert drawn.max() < report["view"] / 20
    assert held.max() <= 4 * 512**2, "px of the canvases that a browser copies"
    composed = report["composed"]
    assert composed["painted"] < 10 * composed["draws"], "the page under the canvases is painted anew with every frame"
