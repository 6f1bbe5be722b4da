"""The runtime for browsers, in Node: its labels are Python's in every pixel, and so are its errors and its polygons."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import json
import os
import re
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_runtime import draw_case, draw_unpadded
from models import make_card, make_conv, make_dense, replace_card
from node import WEB, need_package, node_path, run_node, script
from PIL import Image

from unetres_edge import Segmenter, UnetresError, read_card
from unetres_edge.cli import main
from unetres_edge.errors import ExistsError, FileSystemError, ImageError, ModelDamagedError, ModelError, UsageError
from unetres_edge.files import write_json
from unetres_edge.images.features import feature_names, picture_features
from unetres_edge.model.calibration import Calibration
from unetres_edge.model.familiarity import Familiarity
from unetres_edge.model.quality import QualityTrees
from unetres_edge.results.vector import find_polygons, geojson
from unetres_edge.web import HEADERS, PAGE_FILES, litertjs, make_server, page_file, web_folder, write_web
from unetres_edge.web import site as site_module
from unetres_edge.web.access import Access
from unetres_edge.web.site import POLICY, WORKER_POLICY

GOLDEN = Path(__file__).with_name("golden")
CLASSES = ["ground", "cells", "edge"]


def run_jobs(jobs: list[dict[str, Any]], folder: Path) -> None:
    """Run models on raw images, as test/segment_files.mjs says."""
    need_package("@litertjs/core")
    (folder / "jobs.json").write_text(json.dumps(jobs))
    run_node(script("segment_files.mjs"), folder / "jobs.json")


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
    return replace_card(data, dataclasses.replace(card, preprocessing=pre, halo=halo))


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
    run_jobs(jobs, tmp_path)
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


def check_drawn(seeds: range, folder: Path) -> None:
    """Check the page's labels, scores and confidence of a drawn image by a drawn network for each seed."""
    jobs, cases = [], {}
    for seed in seeds:
        data, _, image = (draw_unpadded if seed % 5 == 4 else draw_case)(np.random.default_rng(seed))
        if image.dtype == np.float32:
            continue  # as TIFF alone, which test_web_files.py reads
        out, pixels = folder / f"{seed}", image if image.ndim == 3 else image[..., None]
        out.with_suffix(".tflite").write_bytes(data)
        out.with_suffix(".raw").write_bytes(pixels.tobytes())
        scores = read_card(data).head == "logits"
        job = {"raw": f"{out}.raw", "width": pixels.shape[1], "height": pixels.shape[0], "channels": pixels.shape[2]}
        job |= {"bits": 8 * image.itemsize, "out": f"{out}", "scores": scores, "confidence": scores}
        jobs.append({"model": f"{out}.tflite", "error": f"{out}.error", "images": [job]})
        cases[out] = data, image, scores
    run_jobs(jobs, folder)
    compared = 0
    for out, (data, image, scores) in cases.items():
        if out.with_suffix(".error").is_file():
            assert "dtype" in out.with_suffix(".error").read_text(), out.name  # LiteRT.js takes no int8
            continue
        compared += 1
        with Segmenter(data, num_threads=1) as segmenter:
            expected = segmenter.segment(image, scores=scores, confidence=scores)
        np.testing.assert_array_equal(np.fromfile(f"{out}.labels", np.uint8), expected.class_map.ravel(), out.name)
        for name, right in (("scores", expected.scores), ("confidence", expected.confidence)):
            if scores:
                found = np.fromfile(f"{out}.{name}", np.float32)
                np.testing.assert_allclose(found, right.ravel(), rtol=1e-4, atol=1e-5 * np.abs(right).max())
    assert compared > len(seeds) / 3


def test_drawn_networks_answer_as_in_python(tmp_path: Path) -> None:
    """Of every fit, head, type and number of channels that a file may have, among them one that tells two classes."""
    check_drawn(range(20), tmp_path)


@pytest.mark.slow
def test_hundreds_of_drawn_networks_answer_as_in_python(tmp_path: Path) -> None:
    check_drawn(range(1000, 1300), tmp_path)


CALIBRATIONS = {
    "softmax": Calibration(2.5, (0.0, -1.5, 0.75), 7, "val"),
    "sigmoid": Calibration(0.4),
    "none": Calibration(3.0, (0.5, 0.0, -1.0)),
}


@pytest.mark.parametrize("activation", [*CALIBRATIONS, None])
def test_confidence_is_that_of_python(activation: str | None, files: dict[str, bytes], tmp_path: Path) -> None:
    """Calibrated and not, over tiles and scaled; of another activation, scores are taken as what they then mean."""
    rng, jobs, cases = np.random.default_rng(11), [], []
    for fit in ("crop", "resize"):
        card = read_card(with_card(files["int8"], fit=fit))
        names = len(card.class_names)
        calibration = CALIBRATIONS.get(activation or "")
        if calibration and calibration.bias:
            calibration = dataclasses.replace(calibration, bias=calibration.bias[:names])
        card = dataclasses.replace(card, activation=activation or "softmax", calibration=calibration)
        data = replace_card(files["int8"], card)
        (tmp_path / f"{fit}.tflite").write_bytes(data)
        pixels, out = draw_scene(rng, 41, 70, 3, 8), tmp_path / fit
        out.with_suffix(".raw").write_bytes(pixels.tobytes())
        image = {"raw": f"{out}.raw", "width": 70, "height": 41, "channels": 3, "bits": 8, "out": f"{out}"}
        jobs.append({"model": f"{out}.tflite", "images": [{**image, "confidence": True}], "error": f"{out}.error"})
        cases.append((data, pixels, out))
    run_jobs(jobs, tmp_path)
    for data, pixels, out in cases:
        with Segmenter(data, num_threads=1) as segmenter:
            expected = segmenter.segment(pixels, confidence=True)
        np.testing.assert_array_equal(np.fromfile(f"{out}.labels", np.uint8), expected.class_map.ravel())
        assert expected.confidence is not None
        assert np.ptp(expected.confidence) > 0
        found = np.fromfile(f"{out}.confidence", np.float32).reshape(expected.confidence.shape)
        np.testing.assert_allclose(found, expected.confidence, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("way", ["crop", "resize", "bgr", "older"])
def test_familiarity_is_that_of_python(way: str, files: dict[str, bytes], tmp_path: Path) -> None:
    """Small and large pictures, some of the kind that the statistics were made of and some of another."""
    rng = np.random.default_rng(5)
    changes: dict[str, Any] = {"fit": "resize"} if way == "resize" else {"color_order": "bgr"} if way == "bgr" else {}
    card = read_card(with_card(files["int8"], **changes))
    with Segmenter(files["int8"], num_threads=1) as segmenter:
        assert segmenter.card.preprocessing.channels == 3
    kinds = [draw_scene(rng, 40 + number, 60, 3, 8) for number in range(30)]
    table = np.array([picture_features(image) for image in kinds])
    spread = np.maximum(table.std(0), 0.02)
    whiten = tuple(tuple(np.r_[1.0, np.full(len(spread) - at - 1, 0.1)]) for at in range(len(spread)))
    parts = (tuple(map(float, each)) for each in (table.mean(0), spread, table.min(0), table.max(0)))
    known = Familiarity(feature_names(3), *parts, whiten, tuple(np.linspace(0, 40, 30)), 30)
    if way != "older":
        known = dataclasses.replace(known, window=16, doubts=tuple(range(40, 60_000, 2000))[::-1], held_out=30)
    if way in ("crop", "resize"):  # cards from before do not know borders
        known = dataclasses.replace(known, borders=tuple(range(30_000, 30_300, 10)))
    if way in ("crop", "bgr"):  # nor the pictures that they were trained on
        seen = np.round(16 * known.standardised(table[:20])).astype(int).tolist()
        known = dataclasses.replace(known, pictures=tuple(map(tuple, seen)))
    if way == "crop":  # nor trees
        known = dataclasses.replace(known, quality=draw_trees(rng, len(spread), len(known.distances)))
    data = replace_card(files["int8"], dataclasses.replace(card, familiarity=known))
    (tmp_path / "m.tflite").write_bytes(data)
    pictures = [*kinds[:3], kinds[3][..., ::-1].copy(), kinds[4] // 3, draw_scene(rng, 300, 500, 3, 8)]
    pictures += [np.zeros((5, 3, 3), np.uint8), rng.integers(0, 256, (50, 50, 3), np.uint8)]
    images = []
    for number, pixels in enumerate(pictures):
        out = tmp_path / f"{number}"
        out.with_suffix(".raw").write_bytes(pixels.tobytes())
        height, width = pixels.shape[:2]
        images.append(
            {"raw": f"{out}.raw", "width": width, "height": height, "channels": 3, "bits": 8, "out": f"{out}"}
        )
    run_jobs([{"model": f"{tmp_path / 'm.tflite'}", "images": images, "error": f"{tmp_path / 'error'}"}], tmp_path)
    said, alarms = set(), set()
    with Segmenter(data, num_threads=1) as segmenter:
        for number, pixels in enumerate(pictures):
            expected = segmenter.segment(pixels)
            alarms.add(bool(expected.warnings))
            value, warnings, doubt, quality = json.loads((tmp_path / f"{number}.familiarity").read_text())
            assert value == pytest.approx(expected.familiarity)
            assert tuple(warnings) == expected.warnings
            assert quality == expected.quality
            assert (quality is not None) == (way == "crop")
            assert (doubt is None) == (expected.doubt is None) == (way == "older")
            if doubt is not None:
                assert doubt == pytest.approx(expected.doubt, abs=1e-4)
            said |= set(warnings)
    assert len(said) > 2, "pictures that are all alike prove nothing"
    assert alarms == {True, False} or way != "crop", "by the trees some masks look poor, and some do not"


def draw_trees(rng: np.random.Generator, features: int, held_out: int) -> QualityTrees:
    """Trees of depth 4 that ask for all that they are told, with limits as these numbers are."""
    places = rng.integers(0, features + 5, (20, 15))
    limits = np.where(places < features, rng.integers(-40, 40, places.shape), rng.integers(0, 30_000, places.shape))
    limits = np.where(places == features, rng.integers(0, 600, places.shape), limits)
    splits = np.stack([places, limits], -1).reshape(20, 30).tolist()
    leaves = rng.integers(0, 10_001, (20, 16)).tolist()
    held = rng.integers(5300, 5900, held_out).tolist()  # some pictures look better, some worse
    return QualityTrees(features + 5, tuple(map(tuple, splits)), tuple(map(tuple, leaves)), tuple(held))


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
    run_jobs(jobs, tmp_path)
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
    run_jobs([{"model": f"{tmp_path / 'm.tflite'}", "images": images, "error": ""}], tmp_path)
    for name, pixels in (("clear", clear), ("two", clear[..., :2])):
        told = json.loads((tmp_path / f"{name}.error").read_text())
        with Segmenter(files["int8"]) as segmenter, pytest.raises(UnetresError) as caught:
            segmenter.segment(pixels)
        assert (told["code"], told["message"]) == (caught.value.code, caught.value.message)


@pytest.fixture(scope="module")
def site(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with the int8 model."""
    need_package("@litertjs/core")
    folder = tmp_path_factory.mktemp("site")
    (folder / "m.tflite").write_bytes(files["int8"])
    return write_web(folder / "m.tflite", folder / "site", litert=WEB, say=lambda line: None)


@contextmanager
def served(folder: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve a folder and give its address."""
    with make_server(folder, host=host) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def status_of(address: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        assert {name: error.headers[name] for name in HEADERS} == HEADERS
        return error.code


def test_the_folder_is_whole(site: Path, files: dict[str, bytes]) -> None:
    line, worker = (site / "sw.js").read_text().split("\n", 1)
    assert worker == page_file("sw.js").decode()
    offline = json.loads(line.removeprefix("self.OFFLINE = ").removesuffix(";"))
    assert re.fullmatch("[0-9a-f]{12}", offline["version"])
    assert all((site / name).is_file() for name in offline["files"] if name != "./")
    assert {"./", "index.html", "model.tflite", "litert/dist/index.js", "segmenter.js"} <= set(offline["files"])
    assert offline["policies"] == {"page": POLICY, "worker.js": WORKER_POLICY}
    assert (site / "model.tflite").read_bytes() == files["int8"]
    for name in set(PAGE_FILES) - {"sw.js"}:
        assert (site / name).read_bytes() == page_file(name) == (web_folder() / name).read_bytes()
    with pytest.raises(ExistsError):
        write_web(site / "model.tflite", site, litert=WEB)


def test_it_is_served_with_the_headers_that_threads_need(site: Path) -> None:
    with served(site) as address:
        for name, kind in (
            ("", "text/html"),
            ("page.js", "text/javascript"),
            ("litert/wasm/litert_wasm_internal.wasm", "application/wasm"),
        ):
            with urllib.request.urlopen(f"{address}{name}", timeout=10) as answer:
                assert answer.headers["Content-Type"].startswith(kind)
                assert {header: answer.headers[header] for header in HEADERS} == HEADERS
                assert answer.read() == (site / (name or "index.html")).read_bytes()


def test_the_page_and_its_server_allow_nothing_from_elsewhere(small: Path) -> None:
    """One policy: in the page for any host, and in a header of the server; the worker alone fetches from elsewhere."""
    found = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page_file("index.html").decode())
    assert found == [POLICY]
    rules = dict(rule.strip().split(" ", 1) for rule in POLICY.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert all("unsafe-inline" not in value and "http" not in value for value in rules.values())
    (small / "worker.js").write_text("1")
    with served(small) as address:
        for name, policy in (("", f"{POLICY}; frame-ancestors 'none'"), ("worker.js?a", WORKER_POLICY)):
            with urllib.request.urlopen(f"{address}{name}", timeout=10) as answer:
                assert answer.headers["Content-Security-Policy"] == policy
                assert answer.headers["Permissions-Policy"].startswith("camera=(self)")
    for page in PAGE_FILES:  # nothing in the page that the policy would refuse
        if page.endswith((".js", ".html")):
            text = page_file(page).decode()
            assert not re.search(r"\bstyle=|<script>|\bon\w+=\"|\beval\(|new Function", text), page


@pytest.mark.parametrize(
    "line", ["GET //[x HTTP/1.1", "GET /%00 HTTP/1.1", "GET http://[ HTTP/1.1", "nonsense", "GET / HTTP/9"]
)
def test_what_is_no_address_is_refused(small: Path, line: str, capfd: pytest.CaptureFixture[str]) -> None:
    with (
        served(small) as address,
        socket.create_connection(("127.0.0.1", int(address[:-1].rpartition(":")[2])), 10) as one,
    ):
        one.sendall(f"{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = one.makefile("rb").read()
    assert re.search(rb"(?:404|400|505)", answer.splitlines()[0] if b"HTTP" in answer[:5] else answer)
    assert "Traceback" not in capfd.readouterr().err


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder to serve, with a file beside it that is not to be seen."""
    (tmp_path / "secret").write_text("not for browsers")
    folder = tmp_path / "page"
    (folder / "sub").mkdir(parents=True)
    (folder / "index.html").write_text("page")
    (folder / "sub" / "a.js").write_text("1")
    (folder / "link.txt").symlink_to(tmp_path / "secret")
    return folder


def test_only_the_folders_own_files_are_served(small: Path) -> None:
    with served(small) as address:
        assert [status_of(f"{address}{name}") for name in ("", "index.html", "sub/a.js", "index.html?a=b")] == [200] * 4
        (small / "later.txt").write_text("written after the start")
        for name in (
            "sub",
            "sub/",
            "link.txt",
            "later.txt",
            "../secret",
            "%2e%2e/secret",
            "sub/../../secret",
            "//etc/passwd",
        ):
            assert status_of(f"{address}{name}") == 404, name
        with pytest.raises(urllib.error.HTTPError, match="501"):
            urllib.request.urlopen(address, data=b"x", timeout=10)


def test_a_name_that_was_made_to_point_here_is_refused(small: Path) -> None:
    with served(small) as address:
        for host in ("localhost", "localhost:8000", "127.0.0.1", "[::1]:80", "LOCALHOST"):
            assert status_of(address, Host=host) == 200, host
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "[", "10.0.0.1"):
            assert status_of(address, Host=host) == 421, host
        with socket.create_connection(("127.0.0.1", int(address[:-1].rpartition(":")[2])), 10) as one:
            one.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
            assert b" 421 " in one.makefile("rb").readline()
    with served(small, "0.0.0.0") as address:
        assert status_of(address, Host="board.local") == 200


def test_a_page_that_others_reach_has_a_token_in_its_address(site: Path) -> None:
    access = Access.of("0.0.0.0")
    assert Access.of("127.0.0.1").token == Access.of("::1").token == ""
    assert access.token != Access.of("0.0.0.0").token and len(access.token) == 16
    with make_server(site, host="0.0.0.0", access=access) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            port = server.server_address[1]
            assert access.address(port).endswith(f":{port}/{access.token}/")
            here = f"http://127.0.0.1:{port}/"
            for name in ("", "page.js", "model.tflite", "sample.json"):
                assert status_of(f"{here}{access.token}/{name}", Host="board.local") == 200, name
            with urllib.request.urlopen(f"{here}{access.token}/worker.js", timeout=10) as answer:
                assert answer.headers["Content-Security-Policy"].startswith(WORKER_POLICY)
            wrong = access.token[:-1] + ("a" if access.token[-1] != "a" else "b")
            for name in ("", "page.js", access.token, f"{wrong}/", f"{access.token}/../page.js"):
                assert status_of(here + name) == 404, name
        finally:
            server.shutdown()
            thread.join()


def test_the_page_offers_a_sample(site: Path, tmp_path: Path) -> None:
    assert json.loads((site / "sample.json").read_text()) == {"name": None}
    model = site / "model.tflite"
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "some cells.PNG")
    with_sample = write_web(model, tmp_path / "out", litert=WEB, sample=tmp_path / "some cells.PNG", say=str)
    assert json.loads((with_sample / "sample.json").read_text()) == {"name": "sample.png"}
    assert (with_sample / "sample.png").read_bytes() == (tmp_path / "some cells.PNG").read_bytes()
    kept = (with_sample / "sw.js").read_text().splitlines()[0].removeprefix("self.OFFLINE = ").removesuffix(";")
    assert {"sample.png", "sample.json"} <= set(json.loads(kept)["files"])
    (tmp_path / "bad.png").write_bytes(b"x")
    with pytest.raises(ImageError, match=r"bad\.png"):
        write_web(model, tmp_path / "bad", litert=WEB, sample=tmp_path / "bad.png", say=str)
    assert not (tmp_path / "bad").exists()


def test_a_certificate_goes_with_its_key(small: Path, tmp_path: Path, capsys: Any) -> None:
    model = f"{small / 'model.tflite'}"
    assert main(["web", model, "--cert", "a.pem"]) == 2
    assert "a certificate and its key go together" in capsys.readouterr().err


def test_what_cannot_be_served_is_named(small: Path, files: dict[str, bytes], tmp_path: Path, capsys: Any) -> None:
    with make_server(small) as server, pytest.raises(FileSystemError, match="cannot listen on 127.0.0.1"):
        make_server(small, server.server_address[1])
    with pytest.raises(FileSystemError, match="cannot listen on 192.0.2.1"):
        make_server(small, host="192.0.2.1")
    model = tmp_path / "m.tflite"
    model.write_bytes(files["int8"][:-100])
    with pytest.raises(ModelDamagedError):
        write_web(model, tmp_path / "site")
    model.write_bytes(files["int8"])
    with pytest.raises(UsageError, match="not the LiteRT.js that was tested"):
        write_web(model, tmp_path / "site", litert=tmp_path)
    assert not (tmp_path / "site").exists()
    assert main(["web", f"{model}", "--port", "70000"]) == 2
    assert "--port is wrong; expected a whole number, 0 to 65535" in capsys.readouterr().err
    assert main(["web", f"{tmp_path / 'none.tflite'}", "--no-browser"]) == 5
    assert "no such model file" in capsys.readouterr().err
    card = make_card((4, 4), 1, 2, task="classify", fit="resize")
    model.write_bytes(make_dense(card, np.zeros((2, 16), np.float32), np.zeros(2, np.float32)))
    with pytest.raises(ModelError, match="the page shows segmenters"):
        write_web(model, tmp_path / "site")


def test_the_command_writes_the_page_or_serves_it(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    need_package("@litertjs/core")
    model = tmp_path / "m.tflite"
    model.write_bytes(files["int8"])
    assert main(["web", f"{model}", "--out", f"{tmp_path / 'site'}", "--litert", f"{WEB}"]) == 0
    assert (tmp_path / "site" / "index.html").is_file()
    seen: list[int] = []

    def ask(server: Any) -> None:
        threading.Thread(target=server._handle_request_noblock, daemon=True).start()
        with urllib.request.urlopen(f"http://localhost:{server.server_address[1]}/model.tflite", timeout=10) as answer:
            seen.append(len(answer.read()))
        raise KeyboardInterrupt

    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", ask)
    assert main(["web", f"{model}", "--litert", f"{WEB}", "--no-browser"]) == 130
    assert seen == [len(files["int8"])]
    assert "serving    http://127.0.0.1:" in capsys.readouterr().out


def test_every_module_of_the_page_is_shipped() -> None:
    own = {path.name for path in web_folder().iterdir() if path.suffix in (".js", ".html", ".css", ".ts")}
    assert sorted(own) == list(PAGE_FILES)


def test_modules_import_nothing_that_is_not_sent() -> None:
    sources = {name: page_file(name).decode() for name in PAGE_FILES if not name.endswith(".css")}
    pattern = r"""(?:from|import\(|new URL\(|importScripts\(|src=|href=) ?"(?:\./)?([\w.]+\.(?:js|css))\""""
    named = {name: set(re.findall(pattern, text)) for name, text in sources.items()}
    own = {
        "background.js",
        "client.js",
        "errors.js",
        "files.js",
        "pixels.js",
        "png.js",
        "regions.js",
        "tiff.js",
        "vector.js",
    }
    assert named["page.js"] == own
    assert {"page.js", "style.css"} <= named["index.html"]
    of_litert = {"litert_wasm_threaded_internal.js"}
    assert set().union(*named.values()) <= {*PAGE_FILES} | of_litert


def test_our_own_code_stays_below_51_kb_over_the_wire() -> None:
    """The modules are sent as they are written, comments and all; what a browser loads of them, compressed."""
    loaded = [name for name in PAGE_FILES if not name.endswith((".d.ts", "node.js"))]
    sizes = {name: len(gzip.compress(page_file(name), 9)) for name in loaded}
    assert sum(sizes.values()) < 51_000, sizes


@pytest.mark.slow
def test_declarations_are_those_of_the_modules(tmp_path: Path) -> None:
    """tsc finds no fault in the modules, and the declarations beside them are what it writes of them."""
    need_package("typescript")
    run_node(script("types.mjs"), tmp_path)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert sorted(written) == [name for name in PAGE_FILES if name.endswith(".d.ts")]
    for name, text in written.items():
        assert page_file(name).decode() == text, f"{name} is old: npm run types"


@pytest.mark.slow
def test_a_program_in_typescript_uses_the_modules() -> None:
    run_node(need_package("typescript") / "bin" / "tsc", "-p", script("tsconfig.json"))


@pytest.mark.slow
def test_tsc_finds_a_wrong_type(tmp_path: Path) -> None:
    """The check can fail: a module with a misspelt property is named."""
    tsc = need_package("typescript") / "bin" / "tsc"
    for name in (
        "errors.js",
        "familiarity.js",
        "client.js",
        "card.js",
        "segmenter.js",
        "engine.js",
        "node.js",
        "pixels.js",
        "tiles.js",
    ):
        (tmp_path / name).write_text(page_file(name).decode().replace("this.accelerator &&", "this.acelerator &&"))
    settings = json.loads((WEB / "tsconfig.json").read_text())
    (tmp_path / "tsconfig.json").write_text(json.dumps({**settings, "files": ["client.js"]}))
    done = subprocess.run([node_path(), tsc, "-p", tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode
    assert "acelerator" in done.stdout


def drawn_maps() -> Iterator[np.ndarray]:
    """Class maps whose polygons are hard: corners that touch, holes in holes, holes that touch, one pixel, nothing."""
    rng = np.random.default_rng(3)
    for height, width, classes in (
        (1, 1, 2),
        (1, 9, 3),
        (9, 1, 3),
        (2, 2, 2),
        (13, 17, 2),
        (24, 31, 3),
        (40, 33, 5),
        (64, 64, 8),
    ):
        for density in (0.1, 0.5, 0.9):
            drawn = np.where(rng.random((height, width)) < density, rng.integers(1, classes, (height, width)), 0)
            yield drawn.astype(np.uint8)
    yield np.zeros((5, 4), np.uint8)
    yield np.ones((5, 4), np.uint8)
    y, x = np.mgrid[:41, :37]
    yield (np.maximum(abs(y - 20), abs(x - 18)) // 3 % 3).astype(np.uint8)  # rings within rings
    yield ((y // 2 + x // 2) % 2).astype(np.uint8)  # squares that touch by their corners
    yield (np.hypot(y - 20, x - 18) // 4 % 2).astype(np.uint8)


def test_both_writers_of_geojson_give_one_file(tmp_path: Path) -> None:
    """The page's GeoJSON is, byte for byte, that of `unetres-edge predict --geojson`."""
    names = ["ground", "Zellkern µ", 'a "quoted"\n name', "🌱", "\x7f\x01", *map(str, range(5, 8))]
    colors = [(n * 31 % 256, n, 255 - n) for n in range(8)]
    maps = list(drawn_maps())
    jobs = []
    for number, class_map in enumerate(maps):
        (tmp_path / f"{number}.raw").write_bytes(class_map.tobytes())
        jobs.append({
            "raw": f"{tmp_path / f'{number}.raw'}", "out": f"{tmp_path / f'{number}.js.geojson'}",
            "width": class_map.shape[1], "height": class_map.shape[0],
        })  # fmt: skip
        write_json(tmp_path / f"{number}.geojson", geojson(find_polygons(class_map, range(1, 8)), names, colors))
    classes = [{"name": name, "color": color} for name, color in zip(names, colors, strict=True)]
    (tmp_path / "jobs.json").write_text(json.dumps({"classes": classes, "maps": jobs}))
    run_node(script("write_geojson.mjs"), tmp_path / "jobs.json")
    for number, class_map in enumerate(maps):
        theirs, ours = ((tmp_path / f"{number}{end}").read_bytes() for end in (".js.geojson", ".geojson"))
        assert theirs == ours, class_map.tolist()
    assert max(len(json.loads((tmp_path / f"{n}.geojson").read_bytes())["features"]) for n in range(len(maps))) > 100


def test_a_colour_of_a_card_is_no_style(tmp_path: Path) -> None:
    """The page draws with the colours of a card: a text in their place would be CSS, and call other hosts."""
    module = (WEB / "card.js").as_uri()
    code = f"""
        import {{ readFileSync }} from "node:fs"; import {{ readCard }} from "{module}";
        try {{ await readCard(new Uint8Array(readFileSync(process.argv[2]))); console.log("taken"); }}
        catch (error) {{ console.log(error.code + ": " + error.message); }}"""
    (tmp_path / "go.mjs").write_text(code)

    def said(**changes: object) -> str:
        card = dataclasses.replace(make_card(), **changes)
        (tmp_path / "m.tflite").write_bytes(make_conv(card, np.array([[1], [-1]]), np.array([0, 200])))
        return run_node(tmp_path / "go.mjs", tmp_path / "m.tflite").strip()

    assert said() == "taken"
    assert said(scores={"note": "x" * 200_000}) == "taken"
    for color in (("0", "0", "0) url(http://other.example/a.png"), (0, 0, 256), (0, 0.5, 1), (0, 0)):
        assert "whole numbers 0..255" in said(class_colors=((1, 2, 3), color))


_WORKER = """
import { readFileSync } from "node:fs"; import vm from "node:vm";
const base = "http://127.0.0.1:8765/"; let site = "A"; const stores = new Map(), on = {};
const address = (r) => new URL(typeof r === "string" ? r : r.url, base).href;
const fetchNow = async (r) => {
  if (site === "none") throw new TypeError("no network");
  const headers = { Date: "Sun, 29 Nov 2026 10:00:00 GMT" };
  return new Response(site + " " + address(r).slice(base.length), { headers });
};
const caches = { keys: async () => [...stores.keys()], delete: async (n) => stores.delete(n), open: async (n) => {
  if (!stores.has(n)) stores.set(n, new Map()); const s = stores.get(n);
  return { match: async (r) => s.get(address(r))?.clone(),
    addAll: async (all) => { for (const r of all) s.set(address(r), await fetchNow(r)); } }; } };
const self = { registration: { scope: base }, addEventListener: (n, f) => { on[n] = f; }, skipWaiting: async () => {},
  OFFLINE: { version: "1", files: ["./", "index.html", "model.tflite"],
    policies: { page: "policy of all", "index.html": "policy of one" } } };
const told = [];
const clients = { claim: async () => {}, matchAll: async () => [{ postMessage: (text) => told.push(text) }] };
vm.runInNewContext(readFileSync(process.argv[2], "utf8"),
  { self, caches, clients, fetch: fetchNow,
    URL, Headers, Response, Promise });
for (const n of ["install", "activate"]) { let p; on[n]({ waitUntil: (x) => { p = x; } }); await p; }
for (site of ["A", "B", "none"]) for (const url of ["", "index.html", "model.tflite", "docs/"]) {
  let p; on.fetch({ request: { method: "GET", url: base + url }, respondWith: (x) => { p = x; } });
  const found = p && await p;
  console.log(found ? await found.text() : "network");
  if (found && found.headers.get("Content-Security-Policy") !== `policy of ${url === "index.html" ? "one" : "all"}`)
    throw new Error(`${url} has another policy`);
}
console.log(JSON.stringify(told));
"""


def test_the_worker_asks_which_model_is_served_now(tmp_path: Path) -> None:
    """What is served now goes first; what was kept is for no network; other addresses of the port are left alone."""
    (tmp_path / "go.mjs").write_text(_WORKER)
    lines = [line.strip() for line in run_node(tmp_path / "go.mjs", WEB / "sw.js").splitlines()]
    files = ["", "index.html", "model.tflite"]
    assert lines[:3] == [f"A {name}".strip() for name in files]
    assert lines[4:7] == [f"B {name}".strip() for name in files]
    assert lines[9:11] == ["A index.html", "A model.tflite"]
    assert {lines[3], lines[7], lines[11]} == {"network"}
    assert json.loads(lines[12]) == [{"kept": "Sun, 29 Nov 2026 10:00:00 GMT"}], "said once, where it is the kept one"


def test_only_a_page_of_ours_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_module, "runtime_files", lambda litert, say: {"dist/index.js": b"1"})
    model, out = tmp_path / "m.tflite", tmp_path / "site"
    model.write_bytes(make_conv(make_card(), np.array([[1], [-1]]), np.array([0, 200])))

    def write(overwrite: bool = True) -> None:
        write_web(model, out, overwrite=overwrite, say=lambda line: None)

    out.mkdir()
    (out / "notes.txt").write_text("theirs")
    with pytest.raises(ExistsError, match="not empty"):
        write(False)
    for name in ("index.html", "sw.js", "model.tflite", "litert"):
        (out / name).write_text("theirs")
        with pytest.raises(ExistsError, match=f"{name}: not a page of ours"):
            write()
        assert sorted(path.name for path in out.iterdir()) == sorted([name, "notes.txt"])
        (out / name).unlink()
    write()
    (out / "index.html").write_text("damaged")
    write()
    assert (out / "index.html").read_bytes() == page_file("index.html")
    assert (out / "notes.txt").read_text() == "theirs"


def test_a_demo_leaves_no_worker_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_module, "runtime_files", lambda litert, say: {})
    (tmp_path / "m.tflite").write_bytes(make_conv(make_card(), np.array([[1], [-1]]), np.array([0, 200])))
    write_web(tmp_path / "m.tflite", tmp_path / "demo", offline=False, say=lambda line: None)
    worker = (tmp_path / "demo" / "sw.js").read_text()
    assert "unregister" in worker and "OFFLINE" not in worker


def test_no_room_for_what_is_fetched_names_the_place_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(litertjs, "_download", lambda name, package: b"")

    def full(data: bytes, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "half").write_bytes(b"x")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(litertjs, "_unpack", full)
    with pytest.raises(FileSystemError, match=f"{tmp_path}.*cannot keep LiteRT.js: No space left.*--litert DIR"):
        litertjs._fetched(lambda line: None)
    assert list((tmp_path / "unetres").iterdir()) == []
    monkeypatch.setattr(litertjs, "_unpack", lambda data, folder: folder.mkdir(parents=True))
    assert litertjs._fetched(lambda line: None).parent == tmp_path / "unetres"
