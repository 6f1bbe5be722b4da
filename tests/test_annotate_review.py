"""A data set with faults opens for correction: what can be read is kept, and the page goes from place to place."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_unetres.painting.access import Gate
from keras_unetres.painting.folder import read_project
from keras_unetres.painting.project import Project
from keras_unetres.painting.review import Review, add_places, read_reports
from keras_unetres.painting.server import Helpers, make_app
from keras_unetres.workflows.annotate import EXPORTS, SITE, prepare_project, write_site
from unetres_edge.errors import DataError, FileSystemError, UsageError

SHAPE = (24, 32)
IGNORE = 255


def silent(line: str) -> None:
    pass


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four images: a good one, one with a value that is no class, one of another size, one without a mask."""
    folder = tmp_path / "data"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in "abcd":
        Image.fromarray(rng.integers(0, 256, (*SHAPE, 3), np.uint8)).save(folder / "images" / f"{name}.png")
        mask = np.zeros(SHAPE, np.uint8)
        mask[4:9, 6:20] = 1
        if name == "b":
            mask[10:13, 20:27] = 7
        shown = mask[:-2] if name == "c" else mask
        if name != "d":
            Image.fromarray(shown).save(folder / "masks" / f"{name}.png")
    (folder / "classes.txt").write_text("background\ncell\n")
    return folder


def test_faults_are_places_and_what_is_known_of_a_mask_is_kept(data: Path, tmp_path: Path) -> None:
    folder = prepare_project(data, tmp_path / "project", None, silent)
    assert [Path(each.name).stem for each in read_project(folder).pictures] == list("abcd")
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:9, 6:20] = 1
    with Project(folder, silent) as project:
        np.testing.assert_array_equal(project.canvas(0).classes, mask)
        mask[10:13, 20:27] = IGNORE
        np.testing.assert_array_equal(project.canvas(1).classes, mask)
        for unread in (2, 3):
            assert (project.canvas(unread).classes == IGNORE).all()
    rows = {(row["index"], row["kind"]): row for row in Review(folder).rows()}
    assert {(1, "unknown-values"), (2, "size-differs"), (3, "missing-mask")} <= set(rows)
    assert rows[1, "unknown-values"]["box"] == (20, 10, 27, 13)
    assert rows[2, "size-differs"]["box"] is None and "32 x 22" in rows[2, "size-differs"]["says"]


def test_what_is_done_stays_done_when_it_is_named_again(data: Path, tmp_path: Path) -> None:
    folder = prepare_project(data, tmp_path / "project", None, silent)
    review = Review(folder)
    before = review.rows()
    assert before and not any(row["done"] for row in before)
    assert review.mark({"key": before[1]["key"], "done": True})["done"]
    with pytest.raises(UsageError, match="nothing of that key"):
        review.mark({"key": "0" * 16, "done": True})
    prepare_project(data, folder, None, silent)
    assert [row["done"] for row in Review(folder).rows()] == [number == 1 for number in range(len(before))]


def suspects(folder: Path, *rows: dict[str, Any]) -> Path:
    file = folder / "suspects.json"
    usual = {"part": "all", "excess": 0.1, "weight": 9.0, "given": "cell", "answered": "background"}
    file.write_text(json.dumps({"images": [usual | row for row in rows]}))
    return file


def test_suspects_are_places_with_their_boxes(data: Path, tmp_path: Path) -> None:
    folder = prepare_project(data, tmp_path / "project", None, silent)
    file = suspects(
        tmp_path,
        {"image": "a.png", "score": 9.5, "box": [4, 6, 9, 20]},
        {"image": "b.png", "score": 3.0, "box": None},
        {"image": "c.png", "score": 1.0, "box": [0, 0, 2, 2]},
    )
    places = read_reports(folder, [file])
    assert [(place.image, place.box) for place in places] == [("a.png", (6, 4, 20, 9)), ("b.png", None)]
    assert "cell" in places[0].says and "9.5 spreads" in places[0].says
    assert (add_places(folder, places), add_places(folder, places)) == (2, 0)


def test_a_file_that_is_no_report_is_refused(data: Path, tmp_path: Path) -> None:
    folder = prepare_project(data, tmp_path / "project", None, silent)
    file = suspects(tmp_path, {"image": "zebra.png", "score": 9.0, "box": None})
    with pytest.raises(DataError, match="other images"):
        read_reports(folder, [file])
    for text in ("[]", '{"images": [{"score": 9}]}', '{"faults": 3}', "nothing"):
        file.write_text(text)
        with pytest.raises(DataError, match="no report"):
            read_reports(folder, [file])


def ask(app: Any, gate: Gate, path: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and content of a request to the application itself."""
    sent: list[dict[str, Any]] = []
    asked = [{"type": "http.request", "body": b"" if body is None else json.dumps(body).encode(), "more_body": False}]

    async def receive() -> dict[str, Any]:
        return asked.pop()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    given = {"host": "localhost", "x-unetres-token": gate.token, "content-type": "application/json"}
    scope = {
        "type": "http", "method": "GET" if body is None else "POST", "path": path, "raw_path": path.encode(),
        "query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1", "server": ("localhost", 80),
        "headers": [(name.encode(), text.encode()) for name, text in given.items()],
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    headers = {name.decode(): text.decode() for name, text in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


def test_the_server_lists_and_marks_and_tells(data: Path, tmp_path: Path) -> None:
    folder = prepare_project(data, tmp_path / "project", None, silent)
    gate, helpers = Gate(), Helpers()
    helpers.review = Review(folder)
    told: list[dict[str, Any]] = []
    with Project(folder, silent) as project:
        project.listen(told.append)
        app = make_app(project, gate, helpers)
        rows = json.loads(ask(app, gate, "/api/review")[2])
        status, _, row = ask(app, gate, "/api/review", {"key": rows[0]["key"], "done": True})
        assert (status, json.loads(row)["done"]) == (200, True)
        assert told[-1]["review"]["key"] == rows[0]["key"]
        assert ask(app, gate, "/api/review", {"key": rows[0]["key"], "done": "yes"})[0] == 400


def test_no_page_runs_an_earlier_file(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import unetres_edge.web

    def write_web(model: Path, folder: Path, **about: Any) -> None:
        raise FileSystemError("LiteRT.js cannot be fetched")

    monkeypatch.setattr(unetres_edge.web, "write_web", write_web)
    folder = prepare_project(data, tmp_path / "project", None, silent)
    site = folder / EXPORTS / SITE
    site.mkdir(parents=True)
    (site / "index.html").write_text("that of an earlier file")
    with Project(folder, silent) as project:
        address, why = write_site(folder / EXPORTS / "model.tflite", project)
    assert address == "" and "LiteRT.js cannot be fetched" in why and "unetres-edge web" in why
    assert not (site / "index.html").exists()


def test_the_page_that_runs_a_file_is_served_with_its_own_policy(data: Path, tmp_path: Path) -> None:
    folder = prepare_project(data, tmp_path / "project", None, silent)
    site, gate, helpers = tmp_path / "site", Gate(), Helpers()
    helpers.site = site
    with Project(folder, silent) as project:
        app = make_app(project, gate, helpers)
        assert ask(app, gate, "/run/")[0] == 404
        (site / "litert").mkdir(parents=True)
        (site / "index.html").write_text("<p>page</p>")
        (site / "litert" / "a.wasm").write_bytes(b"\0asm")
        (tmp_path / "secret").write_text("no")
        (site / "link").symlink_to(tmp_path / "secret")
        status, headers, content = ask(app, gate, "/run/")
        assert (status, content) == (200, b"<p>page</p>")
        assert "wasm-unsafe-eval" in headers["content-security-policy"]
        assert ask(app, gate, "/run/litert/a.wasm")[1]["content-type"] == "application/wasm"
        for name in ("link", "../secret", "litert/../../secret", ""):
            assert ask(app, gate, f"/run/{name}")[0] == (200 if name == "" else 404)
        assert "wasm" not in str(ask(app, gate, "/")[1])
