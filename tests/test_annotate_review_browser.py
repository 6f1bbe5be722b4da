"""Many tabs, places to look at, and the exported file run by the page, in a real browser (`make test-web`)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from node import WEB, need_package, node_path
from PIL import Image
from test_annotate_browser import decoded, draw_cells

pytestmark = pytest.mark.long

SIZE = (400, 300)
TOKEN = "a-token-of-the-test"
BOX = (120, 60, 180, 130)
MODEL = Path(__file__).resolve().parents[1] / "edge" / "tests" / "golden" / "web_cells.tflite"
PATIENCE = int(os.environ.get("UNETRES_PATIENCE", "30"))  # seconds for one thing on the page


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the browser saw."""
    pytest.importorskip("starlette", reason="needs pip install -e '.[annotate]'")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium, or name it in CHROMIUM")
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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {
        "playwright": f"{need_package('playwright-core') / 'index.mjs'}",
        "axe": f"{need_package('axe-core') / 'axe.min.js'}",
        "chromium": chromium,
        "serve": [sys.executable, f"{Path(__file__).with_name('annotate_server.py')}", f"{project}", f"{port}", TOKEN],
        "url": f"http://127.0.0.1:{port}/?token={TOKEN}",
        "image": 1,
        "patience": 1000 * PATIENCE,
        "out": f"{folder}",
    }
    (folder / "job.json").write_text(json.dumps(job))
    command = [node_path(), f"{Path(__file__).with_name('annotate_review_browser.mjs')}", f"{folder / 'job.json'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10 * PATIENCE + 120)
    keep = os.environ.get("UNETRES_SCREENSHOTS")
    if keep:
        Path(keep).mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.png"):
            shutil.copy(path, Path(keep) / f"annotate_{path.name}")
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


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
