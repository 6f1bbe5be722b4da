"""The page in a real browser (`make test-web`): its mask is Python's, its errors have names, and it works offline."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from node import WEB, need_package, node_path
from PIL import Image

from unetres_edge import Segmenter
from unetres_edge.web import make_server, write_web
from unetres_edge.web.access import Access

MODEL = Path(__file__).with_name("golden") / "web_cells.tflite"
PICTURE = Path(__file__).with_name("golden") / "web_cells.png"
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What the browser was seen to do, and the folder of its downloads and screenshots."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium, or name it in CHROMIUM")
    need_package("playwright-core")
    folder = tmp_path_factory.mktemp("browser")
    whole = MODEL.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    (folder / "flipped.tflite").write_bytes(flipped)
    (folder / "truncated.tflite").write_bytes(whole[: len(whole) // 2])
    (folder / "other.tflite").write_bytes(b"\x89PNG\r\n")
    models = {name: f"{folder / name}.tflite" for name in ("flipped", "truncated", "other")}
    site = write_web(MODEL, folder / "site", litert=WEB, sample=PICTURE, say=lambda line: None)
    pages = make_stack()
    tifffile.imwrite(folder / "stack.tif", pages, photometric="minisblack")
    frames = [Image.fromarray((page >> 8).astype(np.uint8)) for page in pages]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    access = Access.of("0.0.0.0")
    with make_server(site) as server, make_server(site, host="0.0.0.0", access=access) as open_server:
        threads = [threading.Thread(target=each.serve_forever) for each in (server, open_server)]
        for thread in threads:
            thread.start()
        try:
            job = {
                "url": f"http://127.0.0.1:{server.server_address[1]}/",
                "elsewhere": access.address(open_server.server_address[1]),
                "chromium": chromium,
                "image": f"{PICTURE}",
                "stack": f"{folder / 'stack.tif'}",
                "animated": f"{folder / 'animated.gif'}",
                "models": models,
                "out": f"{folder}",
            }
            (folder / "job.json").write_text(json.dumps(job))
            command = [node_path(), f"{WEB / 'test' / 'browser.mjs'}", f"{folder / 'job.json'}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=400)
        finally:
            for each, thread in zip((server, open_server), threads, strict=True):
                each.shutdown()
                thread.join()
    assert done.returncode == 0, done.stderr
    keep = os.environ.get("UNETRES_SCREENSHOTS")
    if keep:
        Path(keep).mkdir(parents=True, exist_ok=True)
        for name in (
            "empty.png",
            "desktop.jpg",
            "dark.png",
            "phone.png",
            "error.png",
            "camera.png",
            "stack.png",
            "elsewhere.png",
        ):
            shutil.copy(folder / name, Path(keep) / f"web_{name}")
    return folder, json.loads((folder / "report.json").read_text())


def make_stack() -> np.ndarray:
    """(2, H, W) uint16: the picture, and the picture turned upside down, in 16 bits."""
    picture = np.array(Image.open(PICTURE).convert("L")).astype(np.uint16) * 257
    return np.stack([picture, picture[::-1]])


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    with Segmenter(MODEL) as segmenter:
        return segmenter.segment(PICTURE).class_map


@pytest.mark.parametrize("name", ["mask", "second", "offline", "sample", "elsewhere"])
def test_the_downloaded_mask_is_that_of_python(
    name: str, seen: tuple[Path, dict[str, Any]], labels: np.ndarray
) -> None:
    assert len(np.unique(labels)) > 1
    np.testing.assert_array_equal(np.array(Image.open(seen[0] / f"{name}.png")), labels)


def test_a_stack_of_16_bits_is_segmented_page_by_page(seen: tuple[Path, dict[str, Any]]) -> None:
    folder, report = seen
    assert (report["stack"]["error"], report["stack"]["pages"]) == (None, "2")
    assert report["stack"]["status"].startswith("stack_1, ")
    with Segmenter(MODEL) as segmenter:
        for number, page in enumerate(make_stack()):
            expected = segmenter.segment(page).class_map
            assert len(np.unique(expected)) > 1
            np.testing.assert_array_equal(np.array(Image.open(folder / f"stack_{number}.png")), expected)


def test_the_overlay_is_the_picture_with_its_classes(seen: tuple[Path, dict[str, Any]], labels: np.ndarray) -> None:
    overlay = np.array(Image.open(seen[0] / "overlay.png").convert("RGB"))
    picture = np.array(Image.open(PICTURE).convert("RGB"))
    assert overlay.shape == picture.shape
    np.testing.assert_array_equal(overlay[labels == 0], picture[labels == 0])
    assert (overlay[labels == 1] != picture[labels == 1]).any(-1).mean() > 0.99


def test_what_python_refuses_is_refused(seen: tuple[Path, dict[str, Any]]) -> None:
    assert seen[1]["animated"]["code"] == "image"
    assert "More than one frame" in seen[1]["animated"]["text"]


def test_another_machine_has_the_page_without_threads_and_camera(seen: tuple[Path, dict[str, Any]]) -> None:
    elsewhere = seen[1]["elsewhere"]
    assert (elsewhere["load"], elsewhere["secure"]) == (None, False), "the address is not this machine's own"
    assert elsewhere["backend"] == "WebAssembly, 1 thread"
    assert "plain http" in elsewhere["camera"]["text"]


def test_nothing_went_wrong_that_should_not(seen: tuple[Path, dict[str, Any]]) -> None:
    report = seen[1]
    assert report["console"] == []
    assert [report[name] for name in ("load", "first", "second", "offlineLoad", "offline")] == [None] * 5
    assert report["backend"] == "WebAssembly, threads", "the server's headers isolate the page"


def test_the_page_may_load_nothing_from_elsewhere(seen: tuple[Path, dict[str, Any]]) -> None:
    """What would come in by a card, were it not checked: a script, a style, a picture or a call of another host."""
    found = list(dict.fromkeys(seen[1]["policy"]["violations"]))  # each twice: by the page, and by its server
    assert found == ["img-src", "script-src-elem", "style-src-attr", "connect-src"]
    assert seen[1]["policy"]["ran"] is False


def test_the_page_says_which_model_it_has(seen: tuple[Path, dict[str, Any]]) -> None:
    served, kept = seen[1]["model"]
    assert served == {"model": "served", "status": "Ready."}
    assert kept["model"] == "kept"
    assert re.fullmatch(r"Ready, with the model kept on \d{4}-\d\d-\d\d: the network does not answer\.", kept["status"])


def test_the_webcam_is_segmented_until_it_is_stopped(seen: tuple[Path, dict[str, Any]]) -> None:
    camera = seen[1]["camera"]
    assert camera["error"] is None
    assert (camera["pressed"], camera["released"]) == ("true", "false")
    assert set(camera["seen"]) == {"webcam, 640 × 480 px"}


def test_a_gpu_gives_nearly_the_same_mask_and_can_be_left_again(
    seen: tuple[Path, dict[str, Any]], labels: np.ndarray
) -> None:
    if not seen[1]["adapter"]:
        pytest.skip("this Chromium has no WebGPU adapter, not even one in software")
    on_gpu, back = seen[1]["gpu"]
    assert (on_gpu["error"], back["error"]) == (None, None)
    assert on_gpu["backend"].startswith("WebGPU") and back["backend"] == "WebAssembly, threads"
    np.testing.assert_array_equal(np.array(Image.open(seen[0] / "wasm.png")), labels)
    same = np.mean(np.array(Image.open(seen[0] / "webgpu.png")) == labels)
    print(f"labels on WebGPU equal to Python's: {same:.6f}")
    assert same > 0.999


def test_legend_and_label_say_the_areas(seen: tuple[Path, dict[str, Any]], labels: np.ndarray) -> None:
    report = seen[1]
    for class_id, row in enumerate(report["legend"]):
        count = int((labels == class_id).sum())
        assert f"{100 * count / labels.size:.1f} %" in row
        assert f"{count:,}" in row
    assert f"{100 * (labels == 1).mean():.1f} %" in report["label"]


def test_wrong_models_show_the_named_error(seen: tuple[Path, dict[str, Any]]) -> None:
    wrong = seen[1]["wrong"]
    assert {name: error["code"] for name, error in wrong.items()} == {
        "flipped": "model-damaged",
        "truncated": "model-damaged",
        "other": "model",
    }
    assert "copy the model file again" in wrong["truncated"]["text"]


def test_the_page_answers_while_the_worker_computes(seen: tuple[Path, dict[str, Any]]) -> None:
    assert seen[1]["ticks"]["ticks"] >= 3


def test_a_phone_need_not_scroll_sideways(seen: tuple[Path, dict[str, Any]]) -> None:
    assert seen[1]["phoneOverflow"] <= 0


def test_polygons_are_written(seen: tuple[Path, dict[str, Any]]) -> None:
    geojson = json.loads((seen[0] / "mask.geojson").read_text())
    assert geojson["type"] == "FeatureCollection"
    assert geojson["features"]
