"""The runtime for browsers, in Node: its labels are Python's in every pixel, and so are its errors."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import re
import shutil
import subprocess
import threading
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_unetres.cli import main
from keras_unetres.tflite.seal import add_card
from keras_unetres.workflows.web import PAGE_FILES, make_server, page_file, web_folder, write_web
from unetres_edge import Segmenter, UnetresError, read_card
from unetres_edge.errors import ExistsError, ModelDamagedError, UsageError

WEB = Path(__file__).resolve().parents[1] / "edge" / "web"
GOLDEN = Path(__file__).with_name("golden")
CLASSES = ["ground", "cells", "edge"]


def _node() -> str:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node 20 or newer on PATH (https://nodejs.org)")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version[1:].split(".")[0]) < 20:
        pytest.skip(f"needs Node 20 or newer, found {version}")
    if not (WEB / "node_modules" / "@litertjs" / "core").is_dir():
        pytest.skip("needs LiteRT.js: run `npm ci` in edge/web, or `make test-web`")
    return node


def run_node(jobs: list[dict[str, Any]], folder: Path) -> None:
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [_node(), os.fspath(WEB / "test" / "segment_files.mjs"), os.fspath(folder / "jobs.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def draw_scene(rng: np.random.Generator, height: int, width: int, channels: int, bits: int = 8) -> np.ndarray:
    """(H, W, channels) uint8 or uint16: smooth waves with grain."""
    y, x = np.mgrid[:height, :width]
    waves = [
        np.sin(y / rng.uniform(3, 20) + rng.uniform(0, 6)) * np.cos(x / rng.uniform(3, 20)) for _ in range(channels)
    ]
    levels = np.clip(0.5 + 0.4 * np.stack(waves, -1) + rng.normal(0, 0.08, (height, width, channels)), 0, 1)
    return (levels * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """One network in three forms, made by golden/make_web_models.py: int8, argmax in the graph, float32."""
    return {name: (GOLDEN / f"web_{name}.tflite").read_bytes() for name in ("int8", "argmax", "float32")}


def with_card(data: bytes, *, halo: int = 9, **changes: Any) -> bytes:
    """The same graph, fed in another way."""
    card = read_card(data)
    pre = dataclasses.replace(card.preprocessing, **changes)
    return add_card(data, dataclasses.replace(card, preprocessing=pre, halo=halo))


WAYS: dict[str, dict[str, Any]] = {
    "crop": {},
    "bgr": {"color_order": "bgr", "halo": 5},
    "percentiles": {"per_image": (1.0, 99.0)},
    "resize": {"fit": "resize"},
    "letterbox": {"fit": "letterbox", "per_image": (2.5, 97.0)},
}
SIZES = ((32, 48), (33, 50), (20, 30), (7, 90), (100, 61), (1, 1), (150, 211), (64, 96), (31, 49), (97, 40))


@pytest.mark.parametrize("form", ["int8", "argmax", "float32"])
def test_labels_are_those_of_python(form: str, files: dict[str, bytes], tmp_path: Path) -> None:
    """Fifty images of an int8 file: ten sizes in five ways, grey, RGB and RGBA, of 8 and 16 bits."""
    rng, jobs, cases = np.random.default_rng(7), [], []
    for way, changes in WAYS.items():
        data = with_card(files[form], **changes)
        model = tmp_path / f"{way}.tflite"
        model.write_bytes(data)
        images = []
        for number, (height, width) in enumerate(SIZES):
            channels, bits = (3, 1, 4)[number % 3], (8, 8, 16)[number % 3 if way != "crop" else 0]
            pixels = draw_scene(rng, height, width, channels, bits)
            if channels == 4:
                pixels[..., 3] = 2**bits - 1
            out = tmp_path / f"{way}{number}"
            out.with_suffix(".raw").write_bytes(pixels.tobytes())
            scores = form != "argmax" and number != 0
            images.append({
                "raw": f"{out}.raw", "width": width, "height": height, "channels": channels, "bits": bits,
                "out": f"{out}", "scores": scores,
            })  # fmt: skip
            cases.append((data, pixels, out, scores))
        jobs.append({"model": f"{model}", "images": images, "error": f"{model}.error"})
    run_node(jobs, tmp_path)
    seen: set[int] = set()
    for data, pixels, out, scores in cases:
        with Segmenter(data, num_threads=1) as segmenter:
            expected = segmenter.segment(pixels, scores=scores)
        labels = np.fromfile(f"{out}.labels", np.uint8).reshape(expected.class_map.shape)
        seen |= set(np.unique(labels))
        if form == "float32":
            found = np.fromfile(f"{out}.scores", np.float32) if scores else np.zeros(0, np.float32)
            if scores:
                assert np.abs(found - expected.scores.ravel()).max() < 1e-4, out.name
            assert (labels == expected.class_map).mean() > 0.999, out.name
        else:
            np.testing.assert_array_equal(labels, expected.class_map, err_msg=out.name)
            if scores:
                np.testing.assert_array_equal(np.fromfile(f"{out}.scores", np.float32), expected.scores.ravel())
        np.testing.assert_array_equal(np.array(Image.open(f"{out}.png")), labels)
        np.testing.assert_array_equal(fill(json.loads(Path(f"{out}.geojson").read_text()), labels.shape), labels)
    assert len(seen) > 1, "a network that gives one class everywhere proves nothing"


def fill(geojson: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """Paint polygons with holes back into a class map, by the even-odd rule at pixel centres."""
    found = np.zeros(shape, np.uint8)
    for feature in geojson["features"]:
        inside = np.zeros(shape, bool)
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]
            for (x0, y0), (x1, y1) in zip(ring, ring[1:], strict=False):
                assert (x0 == x1) != (y0 == y1), "edges are horizontal or vertical"
                if x0 == x1:
                    inside[min(y0, y1) : max(y0, y1), x0:] ^= True
        assert inside.sum() == feature["properties"]["area_px"]
        assert not found[inside].any()
        assert feature["properties"]["class"] == CLASSES[feature["properties"]["class_id"]]
        found[inside] = feature["properties"]["class_id"]
    return found


def _refused(data: bytes) -> UnetresError:
    with pytest.raises(UnetresError) as caught:
        Segmenter(data)
    return caught.value


def test_refusals_carry_the_codes_of_python(files: dict[str, bytes], tmp_path: Path) -> None:
    whole = files["int8"]
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    broken = {
        "flipped": bytes(flipped),
        "truncated": whole[: len(whole) // 2],
        "stub": whole[:20],
        "empty": b"",
        "page": b"<!doctype html>",
        "bare": whole.replace(b"KERAS_UNETRES_CARD", b"KERAS_UNETRES_CARE"),
    }
    jobs = []
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        jobs.append({"model": f"{tmp_path / name}", "error": f"{tmp_path / name}.json", "images": []})
    run_node(jobs, tmp_path)
    for name, data in broken.items():
        told = json.loads((tmp_path / f"{name}.json").read_text())
        expected = _refused(data)
        assert (told["code"], told["message"]) == (expected.code, expected.message), name
        assert told["file"] == f"{tmp_path / name}"
        assert told["line"].startswith(f"{expected.code}: {tmp_path / name}: {expected.message}")


def test_images_are_refused_as_python_does(files: dict[str, bytes], tmp_path: Path) -> None:
    clear = np.full((8, 8, 4), 200, np.uint8)
    clear[3, 3, 3] = 254
    (tmp_path / "m.tflite").write_bytes(files["int8"])
    images = []
    for name, pixels in (("clear", clear), ("two", clear[..., :2])):
        (tmp_path / f"{name}.raw").write_bytes(pixels.tobytes())
        images.append({
            "raw": f"{tmp_path / name}.raw", "width": 8, "height": 8, "channels": pixels.shape[-1], "bits": 8,
            "out": f"{tmp_path / name}", "scores": False,
        })  # fmt: skip
    run_node([{"model": f"{tmp_path / 'm.tflite'}", "images": images, "error": ""}], tmp_path)
    for name, pixels in (("clear", clear), ("two", clear[..., :2])):
        told = json.loads((tmp_path / f"{name}.error").read_text())
        with Segmenter(files["int8"]) as segmenter, pytest.raises(UnetresError) as caught:
            segmenter.segment(pixels)
        assert (told["code"], told["message"]) == (caught.value.code, caught.value.message)


def _litert() -> Path:
    if not (WEB / "node_modules" / "@litertjs" / "core").is_dir():
        pytest.skip("needs LiteRT.js: run `npm ci` in edge/web, or `make test-web`")
    return WEB


def test_the_folder_is_whole_and_is_served_with_the_headers_that_threads_need(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(files["int8"])
    folder = write_web(model, tmp_path / "site", litert=_litert(), say=lambda line: None)
    worker = (folder / "sw.js").read_text()
    assert "VERSION" not in worker
    needed = json.loads(worker.split("FILES = ")[1].split(";")[0])
    assert all((folder / name).is_file() for name in needed if name != "./")
    assert (folder / "model.tflite").read_bytes() == files["int8"]
    with make_server(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            for name, kind in (
                ("", "text/html"),
                ("page.js", "text/javascript"),
                ("litert/wasm/litert_wasm_internal.wasm", "application/wasm"),
            ):
                with urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/{name}") as answer:
                    assert answer.headers["Content-Type"].startswith(kind)
                    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
                    assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        finally:
            server.shutdown()
            thread.join()
    with pytest.raises(ExistsError):
        write_web(model, folder, litert=_litert())


def test_what_cannot_be_shown_is_refused(files: dict[str, bytes], tmp_path: Path, capsys: Any) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(files["int8"][:-100])
    with pytest.raises(ModelDamagedError):
        write_web(model, tmp_path / "site")
    model.write_bytes(files["int8"])
    with pytest.raises(UsageError, match="not the LiteRT.js that was tested"):
        write_web(model, tmp_path / "site", litert=tmp_path)
    assert not (tmp_path / "site").exists()
    assert main(["serve-demo", f"{tmp_path / 'none.tflite'}", "--no-browser"]) == 5
    assert "no such model file" in capsys.readouterr().err


def test_every_module_of_the_page_is_shipped() -> None:
    own = {path.name for path in web_folder().iterdir() if path.suffix in (".js", ".html", ".css", ".ts")}
    parts = [part for joined in PAGE_FILES.values() for part in joined]
    assert sorted(own - {"node.js"}) == sorted([*PAGE_FILES, *parts])


def test_joined_modules_need_nothing_that_is_not_sent() -> None:
    for name, parts in PAGE_FILES.items():
        sent = page_file(name).decode()
        assert set(re.findall(r'(?:from|import\() ?"\./([^"]+)"', sent)) <= {*PAGE_FILES, "node.js"}
        sources = [(web_folder() / part).read_text() for part in (*parts, name)]
        pattern = r"^(?:export )?(?:async )?(?:const|let|class|function\*?) (\w+)"
        given = [word for source in sources for word in re.findall(pattern, source, re.M)]
        assert len(given) == len(set(given)), "two modules give one name"


def test_our_own_code_stays_below_20_kb_over_the_wire() -> None:
    sizes = {name: len(gzip.compress(page_file(name), 9)) for name in PAGE_FILES if name != "segmenter.d.ts"}
    assert sum(sizes.values()) < 20_000, sizes
