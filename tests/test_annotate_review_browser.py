"""Many tabs, places to look at, and the exported file run by the page, in a real browser (`make test-web`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotate_page import find_browser, look_at_page
from node import WEB, need_package
from PIL import Image
from test_annotate_browser import decoded, draw_cells

pytestmark = pytest.mark.long

SIZE = (400, 300)
BOX = (120, 60, 180, 130)
MODEL = Path(__file__).resolve().parents[1] / "edge" / "tests" / "golden" / "web_cells.tflite"
PATIENCE = int(os.environ.get("UNETRES_PATIENCE", "30"))  # seconds for one thing on the page


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the browser saw."""
    find_browser()
    from keras_unetres.painting.review import Place, add_places
    from keras_unetres.workflows.annotate import prepare_project
    from unetres_edge.web import write_web

    folder = tmp_path_factory.mktemp("review")
    data = folder / "data"
    for name in ("images", "masks"):
        (data / name).mkdir(parents=True)
    for number in range(3):
        picture = draw_cells(*SIZE, number)
        Image.fromarray(picture).save(data / "images" / f"cells_{number}.png")
        Image.fromarray((picture > 100).astype(np.uint8)).save(data / "masks" / f"cells_{number}.png")
    (data / "classes.txt").write_text("background\ncell\n")
    project = prepare_project(data, folder / "project", None, lambda line: None)
    says = "mask: cell; a network that was not trained on it: background"
    add_places(
        project,
        [
            Place("cells_1.png", BOX, "suspect", says),
            Place("cells_2.png", None, "size-differs", "another size", "make both the same size"),
        ],
    )
    litert = need_package("@litertjs/core").parents[2]
    assert litert == WEB
    sample = data / "images" / "cells_0.png"
    write_web(MODEL, project / "exports" / "site", litert=litert, offline=False, sample=sample, say=lambda line: None)
    timeout = 10 * PATIENCE + 120
    return look_at_page(
        "annotate_review_browser.mjs", project, folder, timeout=timeout, image=1, patience=1000 * PATIENCE
    )


def test_more_tabs_than_connections_hear_of_a_stroke(seen: dict[str, Any]) -> None:
    assert seen["heard"] == [True] * 8


def test_keys_go_from_place_to_place_and_say_what_is_done(seen: dict[str, Any]) -> None:
    open_ones, all_ones = map(int, seen["count"][0].split(" open of "))
    assert open_ones == all_ones >= 2
    assert seen["count"][1] == f"{open_ones - 1} open of {all_ones}"
    assert all(" of " in each for each in seen["says"])
    assert seen["framed"] == ("cells_1" in seen["says"][0])


def test_what_is_in_the_frame_is_unknown(seen: dict[str, Any]) -> None:
    if "cells_1" not in seen["says"][0]:
        pytest.fail(f"the suspect is not the first place: {seen['says']}")
    expected = (draw_cells(*SIZE, 1) > 100).astype(np.uint8)
    x0, y0, x1, y1 = BOX
    expected[y0:y1, x0:x1] = 255
    np.testing.assert_array_equal(decoded(seen["mask"]), expected)


def test_the_exported_file_runs_on_the_sample_and_on_a_camera(seen: dict[str, Any]) -> None:
    run = seen["run"]
    assert (run["error"], run["isolated"]) == (False, True)
    assert run["camera"] == ["true", False]


def test_axe_finds_nothing_serious_and_nothing_overflows(seen: dict[str, Any]) -> None:
    assert [each for each in seen["axe"] if each[2] in ("serious", "critical")] == []
    assert seen["overflow"] <= 0 and seen["console"] == []
