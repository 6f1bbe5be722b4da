"""Masks painted in the browser: pixels of strokes, the journal, the project as a data set, and who is refused."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import logging
import os
import socket
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_unetres.painting import raster
from keras_unetres.painting.folder import find_pictures, make_project
from keras_unetres.painting.project import Project
from unetres_edge.errors import DataError, FileSystemError, RunFolderError, UnetresError, UsageError
from unetres_edge.files import make_folder
from unetres_edge.images.decode import read_mask

silent: Callable[[str], None] = lambda line: None  # noqa: E731
SHAPE = (40, 60)
GOLDEN_FILE = Path(__file__).resolve().parents[1] / "edge" / "tests" / "golden" / "web_cells.tflite"


def draw_pictures(folder: Path, count: int = 2) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(3)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (*SHAPE, 3), np.uint8)).save(folder / f"p{number}.png")
    return folder


def make(tmp_path: Path, classes: tuple[str, ...] = ("background", "cell", "dirt")) -> Path:
    pictures, folder = draw_pictures(tmp_path / "pictures"), tmp_path / "project"
    make_project(folder, pictures, classes, None, find_pictures(pictures, silent), silent)
    return folder


def stroke(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"s{number}",
        "tool": "brush",
        "class": 1,
        "object": 0,
        "size": 5,
        "points": [[9, 9], [30, 20]],
    } | changes


# Pixels


def by_the_rule(points: list[tuple[float, float]], size: float, shape: tuple[int, int]) -> np.ndarray:
    """The distance to every segment, by a formula of its own: the nearest of 1 + 2 candidates."""
    made = np.zeros(shape, bool)
    for y in range(shape[0]):
        for x in range(shape[1]):
            centre = np.array((x + 0.5, y + 0.5))
            for a, b in zip(map(np.array, points), map(np.array, points[1:] or points), strict=False):
                near = [a, b]
                if (a != b).any() and 0 < (centre - a) @ (b - a) < (b - a) @ (b - a):
                    near.append(a + (b - a) * ((centre - a) @ (b - a)) / ((b - a) @ (b - a)))
                made[y, x] |= min((centre - p) @ (centre - p) for p in near) <= (size / 2) ** 2
    return made


def whole(area: raster.Area | None, shape: tuple[int, int]) -> np.ndarray:
    made = np.zeros(shape, bool)
    if area is not None:
        made[area.slices] = area.inside
    return made


@pytest.mark.parametrize("size", (1, 3.3, 12, 90))
def test_a_brush_paints_what_is_near_its_line(size: float) -> None:
    rng = np.random.default_rng(int(size))
    for count in (1, 2, 5):
        shape = (21, 17)
        points = raster.rounded([[float(x), float(y)] for x, y in rng.uniform(-8, 28, (count, 2))])
        assert (whole(raster.brush(points, size, shape), shape) == by_the_rule(points, size, shape)).all()


def test_a_brush_of_ten_thousand_pixels_is_exact_at_its_rim() -> None:
    shape, size = (1200, 1500), 9999.0
    points = raster.rounded([[-3000.0, -3300.25], [-2400.5, -3300.0]])
    px, py = np.arange(shape[1])[None] + 0.5, np.arange(shape[0])[:, None] + 0.5
    inside = raster.covers_brush(px, py, points[0], points[1], size)
    assert 0 < inside.sum() < inside.size
    assert (whole(raster.brush(points, size, shape), shape) == inside).all()


def test_polygons_are_filled_by_the_even_odd_rule() -> None:
    rng = np.random.default_rng(1)
    for count in (3, 4, 9):
        points = raster.rounded([[float(x), float(y)] for x, y in rng.uniform(-5, 25, (count, 2))])
        expected = np.zeros((18, 22), bool)
        for y in range(18):
            for x in range(22):
                for (x1, y1), (x2, y2) in zip(points, points[1:] + points[:1], strict=True):
                    if (y1 > y + 0.5) != (y2 > y + 0.5):
                        expected[y, x] ^= x + 0.5 < (x2 - x1) * (y + 0.5 - y1) / (y2 - y1) + x1
        assert expected.any()
        assert (whole(raster.polygon(points, expected.shape), expected.shape) == expected).all()


def test_halves_of_a_quarter_are_rounded_up_as_in_javascript() -> None:
    assert raster.rounded([[0.125, -0.125], [0.375, 7.1]]) == [(0.25, 0.0), (0.5, 7.0)]


@pytest.mark.parametrize(
    ("changes", "why"),
    (
        ({"points": []}, "without points"),
        ({"points": [[1, float("nan")]]}, "point is wrong"),
        ({"points": [[1, 2, 3]]}, "point is wrong"),
        ({"points": [[True, 2]]}, "point is wrong"),
        ({"points": [[1, 2]] * 20_001}, "too many points"),
        ({"size": 10_001}, "size of the brush"),
        ({"size": "5"}, "size of the brush"),
        ({"class": 3}, "class is unknown"),
        ({"class": True}, "class is unknown"),
        ({"class": 255, "object": 2}, "no object"),
        ({"object": -1}, "object is wrong"),
        ({"tool": "hammer"}, "tool is unknown"),
        ({"tool": "polygon"}, "three points"),
        ({"tool": "split", "object": 1}, "no such object"),
        ({"tool": "merge", "object": 1, "other": 2}, "no such object"),
        ({"id": ""}, "id of a request"),
        ({"size": 10_000, "points": [[i % 2 * 12_000, i % 3 * 12_000] for i in range(20_000)]}, None),
    ),
)
def test_wrong_strokes_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], why: str | None) -> None:
    with Project(make(tmp_path), silent) as project:
        if why is None:  # of segments that repeat, each is drawn once
            assert project.stroke(0, stroke(0, **changes))["box"] == [0, 0, 60, 40]
            return
        with pytest.raises(UsageError, match=why):
            project.stroke(0, stroke(0, **changes))
        assert project.images[0].revision == 0


# The project


def everything(project: Project) -> dict[str, Any]:
    """Do one of each action; return the classes and the objects of the first image."""
    for number, changes in enumerate(
        (
            {"tool": "fill", "class": 0, "points": [[1, 1]]},
            {"object": "new", "size": 14},
            {"object": "new", "class": 2, "points": [[40, 10]], "size": 11.5},
            {"tool": "split", "object": 1, "points": [[18, 2], [18, 38]]},
            {"tool": "merge", "object": 2, "other": 1},
            {"tool": "lasso", "class": 255, "points": [[0, 30], [60, 30], [60, 40], [0, 40]]},
            {"tool": "polygon", "class": 2, "object": "new", "points": [[30, 20], [58, 22.4], [40, 33]]},
        )
    ):
        project.stroke(0, stroke(number, **changes))
    project.undo(0, {"id": "u1"})
    project.undo(0, {"id": "u2"})
    project.redo(0, {"id": "r1"})
    project.stroke(1, stroke(0, points=[[5, 5]]))
    return pixels(project)


def pixels(project: Project) -> dict[str, Any]:
    canvas = project.canvas(0)
    objects = canvas.objects
    return {"classes": canvas.classes.copy(), "objects": None if objects is None else objects.copy()}


def test_masks_are_what_the_journal_says_after_any_end(tmp_path: Path) -> None:
    folder = make(tmp_path)
    with Project(folder, silent) as project:
        before = everything(project)
    assert sorted(path.name for path in (folder / "masks").iterdir()) == ["p0.png", "p1.png"]
    assert (read_mask(folder / "masks" / "p0.png") == before["classes"]).all()
    assert (read_mask(folder / "instances" / "p0.png") == before["objects"]).all()
    assert set(np.unique(before["objects"])) == {0, 2, 3}
    written = (folder / "masks" / "p0.png").read_bytes()
    (folder / "masks" / "p0.png").unlink()  # the server was killed before it was written
    (folder / "masks" / "p1.png").write_bytes(written)  # that of another revision
    with Project(folder, silent) as project:
        for name, values in pixels(project).items():
            assert (values == before[name]).all()
        assert (read_mask(folder / "masks" / "p0.png") == before["classes"]).all()
        while project.images[0].done:
            project.undo(0, {"id": f"v{len(project.images[0].done)}"})
        assert (project.canvas(0).classes == 255).all()
    assert sorted(path.name for path in (folder / "masks").iterdir()) == ["p1.png"]


def test_undo_without_kept_pixels_replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras_unetres.painting.canvas.MOST_KEPT", 0)
    with Project(make(tmp_path), silent) as project:
        states = []
        for number in range(5):
            states.append(project.canvas(0).classes.copy())
            project.stroke(0, stroke(number, points=[[5 + 9 * number, 20]], size=8, **{"class": number % 2}))
        for number in reversed(range(5)):
            project.undo(0, {"id": f"u{number}"})
            assert (project.canvas(0).classes == states[number]).all()


def test_a_repeated_request_is_done_once(tmp_path: Path) -> None:
    folder = make(tmp_path)
    with Project(folder, silent) as project:
        first = project.stroke(0, stroke(0, object="new"))
        assert project.stroke(0, stroke(0, object="new")) == first
    with Project(folder, silent) as project:
        again = project.stroke(0, stroke(0, object="new"))
        assert (again["revision"], again["object"], project.images[0].revision) == (1, 1, 1)


def test_strokes_of_two_tabs_come_in_the_order_of_arrival(tmp_path: Path) -> None:
    with Project(make(tmp_path), silent) as project:
        project.stroke(0, stroke(0, base=0))
        answer = project.stroke(0, stroke(1, base=0, points=[[50, 30]], **{"class": 2}))
    assert answer["revision"] == 2 and len(answer["boxes"]) == 2 and answer["boxes"][1] == answer["box"]


def test_a_torn_line_is_cut_and_a_damaged_one_named(tmp_path: Path) -> None:
    folder = make(tmp_path)
    with Project(folder, silent) as project:
        project.stroke(0, stroke(0))
        project.stroke(0, stroke(1, points=[[50, 30]]))
        both = project.canvas(0).classes.copy()
    path = folder / "painting" / "journal.jsonl"
    whole_file = path.read_bytes()
    for torn in (b'{"image":"p0.png","do"', b"\0" * 40, b'{"image":"p0.png","crc":"00000000"}\n'):
        path.write_bytes(whole_file + torn)
        with Project(folder, silent) as project:
            assert (project.canvas(0).classes == both).all()
        assert path.read_bytes() == whole_file
    path.write_bytes(whole_file.replace(b'"s0"', b'"s9"'))
    with pytest.raises(DataError, match="line 1 of the journal is damaged"):
        Project(folder, silent)


def test_on_a_full_disk_the_stroke_is_refused_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    folder = make(tmp_path)
    with Project(folder, silent) as project:
        project.stroke(0, stroke(0))
        before, write = project.canvas(0).classes.copy(), os.write

        def full(handle: int, data: Any) -> int:
            write(handle, bytes(data[:7]))
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("keras_unetres.painting.journal.os.write", full)
        with pytest.raises(FileSystemError, match="not on the disk, and was not done: No space left"):
            project.stroke(0, stroke(1, points=[[50, 30]]))
        monkeypatch.undo()
        assert (project.canvas(0).classes == before).all()
        project.stroke(0, stroke(2, points=[[50, 30]]))
        after = project.canvas(0).classes.copy()
    with Project(folder, silent) as project:
        assert project.images[0].revision == 2 and (project.canvas(0).classes == after).all()


def test_masks_that_cannot_be_written_are_told_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_unetres.painting import project as projects

    folder = make(tmp_path)
    told: list[str] = []

    def full(path: Path, data: bytes) -> None:
        raise FileSystemError("cannot write: No space left on device", file=path)

    for name in ("QUIET", "LONGEST"):
        monkeypatch.setattr(projects, name, 0.04)
    with Project(folder, silent) as project:
        project.listen(lambda event: told.append(event["unwritten"]) if "unwritten" in event else None)
        with monkeypatch.context() as patch:
            patch.setattr(projects, "write_bytes", full)
            project.stroke(0, stroke(0))
            wait_for(lambda: bool(told))
            assert "No space left" in told[0] and "No space left" in project.summary()["unwritten"]
        wait_for(lambda: told[-1] == "")
        assert (read_mask(folder / "masks" / "p0.png") == project.canvas(0).classes).all()


def test_a_second_server_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path)
    with Project(folder, silent), pytest.raises(RunFolderError, match="is writing to it"):
        Project(folder, silent)


def test_a_replaced_picture_is_not_painted_on(tmp_path: Path) -> None:
    folder = make(tmp_path)
    picture = tmp_path / "pictures" / "p0.png"
    earlier = picture.read_bytes()
    with Project(folder, silent) as project:
        project.stroke(0, stroke(0))
        Image.fromarray(np.zeros((50, 60), np.uint8)).save(picture)
        with pytest.raises(DataError, match="replaced by another"):
            project.stroke(0, stroke(1))
        picture.unlink()
        with pytest.raises(DataError, match="is not there"):
            project.stroke(0, stroke(1))
        picture.write_bytes(earlier)
        assert project.stroke(0, stroke(1))["revision"] == 2
    picture.write_bytes(earlier + b"\0")
    with Project(folder, silent) as project:
        assert "replaced" in project.summary()["images"][0]["changed"]
    picture.write_bytes(earlier[:-1] + b"\0")  # as large and as old as it was
    os.utime(picture, ns=(0, project.images[0].picture.modified))
    with Project(folder, silent) as project:
        with pytest.raises(DataError, match="replaced by another"):
            project.stroke(0, stroke(2))
        picture.write_bytes(earlier)
        project.stroke(0, stroke(2))


def test_a_mask_that_was_changed_elsewhere_is_taken_over_and_can_be_undone(tmp_path: Path) -> None:
    folder, mask = make(tmp_path), tmp_path / "project" / "masks" / "p0.png"
    with Project(folder, silent) as project:
        project.stroke(0, stroke(0))
        before = project.canvas(0).classes.copy()
    other = np.full(SHAPE, 2, np.uint8)
    Image.fromarray(other).save(mask)
    with Project(folder, silent) as project:
        assert (project.canvas(0).classes == other).all()
        Image.fromarray(other // 2).save(mask)  # while it is open here
        project.undo(0, {"id": "u"})
        assert (project.canvas(0).classes == before).all()
    assert (read_mask(mask) == before).all()
    (found,) = (folder / "painting" / "found").iterdir()
    assert (read_mask(found) == 1).all()
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(mask)
    with pytest.raises(DataError, match="another size"):
        Project(folder, silent)


def test_objects_that_were_changed_elsewhere_are_put_aside_and_made_anew(tmp_path: Path) -> None:
    folder = make(tmp_path)
    objects, mask = folder / "instances" / "p0.png", folder / "masks" / "p0.png"
    with Project(folder, silent) as project:
        project.stroke(0, stroke(0, object="new"))
        project.stroke(0, stroke(1, object="new", points=[[50, 30]]))
        before = project.canvas(0).objects.copy()  # type: ignore[union-attr]
        classes = project.canvas(0).classes.copy()
    Image.fromarray(np.full(SHAPE, 7, np.uint16)).save(objects)
    edited = np.where(np.arange(SHAPE[1]) < 40, classes, 2).astype(np.uint8)
    Image.fromarray(edited).save(mask)
    with Project(folder, silent) as project:
        canvas = project.canvas(0)
        assert (canvas.classes == edited).all()
        assert (canvas.objects == np.where(edited == classes, before, 0)).all()  # of pixels that are what they were
    assert (read_mask(objects) == canvas.objects).all()
    (found,) = (folder / "painting" / "found").iterdir()
    assert (read_mask(found) == 7).all()
    objects.unlink()
    with Project(folder, silent):
        assert (read_mask(objects) == canvas.objects).all()


def test_what_is_left_of_a_complete_image_is_background(tmp_path: Path) -> None:
    folder = make(tmp_path)
    with Project(folder, silent) as project:
        project.stroke(0, stroke(0))
        project.complete(0, {"complete": True})
        painted = project.canvas(0).classes == 1
        assert (project.canvas(0).classes[~painted] == 255).all()
    assert (read_mask(folder / "masks" / "p0.png") == painted).all()
    other = make_named(tmp_path, ("sky", "road"))
    with Project(other, silent) as project, pytest.raises(UsageError, match="no class is called background"):
        project.complete(0, {"complete": True})


def make_named(tmp_path: Path, classes: tuple[str, ...]) -> Path:
    folder = tmp_path / "other"
    make_project(folder, tmp_path, classes, None, find_pictures(tmp_path / "pictures", silent), silent)
    return folder


# HTTP


class Client:
    """Asks a server as a browser would."""

    def __init__(self, port: int, token: str, cookie: str) -> None:
        self.port, self.token, self.cookie = port, token, cookie

    def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = "", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        given = {} if token is None else {"X-Unetres-Token": token or self.token}
        data = None
        if body is not None:
            given["Content-Type"] = "application/json"
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, data, given | {name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        found = answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()
        connection.close()
        return found


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Project, Client]]:
    import uvicorn

    from keras_unetres.painting.access import Gate
    from keras_unetres.painting.connections import Connection
    from keras_unetres.painting.server import make_app
    from keras_unetres.workflows.annotate import listen

    gate, listening = Gate(), listen("127.0.0.1", 0)
    with Project(make(tmp_path), silent) as project:
        app = make_app(project, gate)
        server = uvicorn.Server(uvicorn.Config(app, http=Connection, log_level="error", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield project, Client(listening.getsockname()[1], gate.token, gate.cookie)
        server.should_exit = True
        thread.join()
        listening.close()


def test_who_does_not_come_to_the_end_of_a_request_is_let_go(
    served: tuple[Project, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_unetres.painting import connections

    monkeypatch.setattr(connections, "PATIENCE", 0.3)
    _, client = served
    head = f"Host: 127.0.0.1\r\nX-Unetres-Token: {client.token}\r\n"
    whole, half = f"GET /api/project HTTP/1.1\r\n{head}\r\n", f"GET / HTTP/1.1\r\n{head}X: "

    def ask(text: str) -> socket.socket:
        one = socket.create_connection(("127.0.0.1", client.port), 20)
        one.sendall(text.encode())
        return one

    with ask(f"GET /api/events HTTP/1.1\r\n{head}\r\n") as listens:  # which may last
        for text in ("", half, whole + half):
            with ask(text) as one:
                answered = one.makefile("rb").read()  # to the end
            assert answered.count(b"HTTP/1.1 200") == text.startswith(whole)
        assert b"retry: 1000" in listens.recv(10_000)
        client.ask("POST", "/api/images/0/strokes", stroke(0))
        assert b"boxes" in listens.recv(10_000)


def test_a_body_or_a_reader_that_does_not_come_to_an_end_is_let_go(
    served: tuple[Project, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_unetres.painting import connections

    monkeypatch.setattr(connections, "PATIENCE", 0.3)
    _, client = served
    head = f"Host: 127.0.0.1\r\nX-Unetres-Token: {client.token}\r\nContent-Type: application/json\r\n"
    post = f"POST /api/images/0/strokes HTTP/1.1\r\n{head}"
    for body in ("Content-Length: 100\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"):
        with socket.create_connection(("127.0.0.1", client.port), 20) as one:
            one.sendall((post + body).encode())
            with contextlib.suppress(ConnectionResetError):  # or it is closed; one that stays open times out
                while one.recv(1000):
                    pass
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(20)
        one.connect(("127.0.0.1", client.port))
        asked = f"GET /page.js HTTP/1.1\r\n{head}\r\n".encode() * 100
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(1000):  # much more than all buffers hold
                one.sendall(asked)


def test_of_many_connections_those_go_that_have_waited_longest(
    served: tuple[Project, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_unetres.painting import connections

    monkeypatch.setattr(connections, "MOST", 10)
    _, client = served
    with contextlib.ExitStack() as closing:
        many = [closing.enter_context(socket.create_connection(("127.0.0.1", client.port), 20)) for _ in range(40)]
        assert client.ask("GET", "/api/project")[0] == 200
        assert [one.recv(1) if place < 29 else b"" for place, one in enumerate(many)] == [b""] * 40
        many[-1].setblocking(False)
        with pytest.raises(BlockingIOError):
            many[-1].recv(1)


def test_what_is_no_http_behind_a_request_is_no_fault_of_ours(
    served: tuple[Project, Client], caplog: pytest.LogCaptureFixture
) -> None:
    _, client = served
    logging.getLogger("uvicorn.error").addHandler(caplog.handler)
    head = f"Host: 127.0.0.1\r\nX-Unetres-Token: {client.token}\r\n"
    for text, garbage in (
        ("GET /api/project", ""),
        ("POST /api/images/0/strokes", "Transfer-Encoding: chunked\r\n"),
    ):
        with socket.create_connection(("127.0.0.1", client.port), 20) as one:
            one.sendall(f"{text} HTTP/1.1\r\n{head}{garbage}\r\n".encode() + b"\xff\x00\r\n" * 50)
            with contextlib.suppress(ConnectionResetError):
                while one.recv(1000):
                    pass
    assert client.ask("GET", "/api/project")[0] == 200
    logging.getLogger("uvicorn.error").removeHandler(caplog.handler)
    assert [record.getMessage() for record in caplog.records if record.name in ("uvicorn.error", "asyncio")] == []


def test_a_stroke_is_answered_told_to_the_other_tab_and_seen_in_tiles(served: tuple[Project, Client]) -> None:
    project, client = served
    stream = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    stream.request("GET", "/api/events", headers={"X-Unetres-Token": client.token})
    events = stream.getresponse()
    assert events.readline() == b"retry: 1000\n"
    status, _, data = client.ask("POST", "/api/images/0/strokes", stroke(0, base=0, object="new"))
    answer = json.loads(data)
    assert (status, answer["revision"], answer["object"]) == (200, 1, 1)
    lines = [events.readline(), events.readline()]
    event = json.loads(lines[1].removeprefix(b"data: "))
    assert (event["image"], event["boxes"]) == (0, [answer["box"]])
    stream.close()
    status, headers, data = client.ask("GET", "/api/images/0/mask/0/0/0.png?of=classes")
    assert (status, headers["x-revision"]) == (200, "1")
    assert (np.asarray(Image.open(io.BytesIO(data))) == project.canvas(0).classes).all()
    _, _, data = client.ask("GET", "/api/images/0/mask/1/0/0.png?of=objects")
    assert (np.asarray(Image.open(io.BytesIO(data))) == project.canvas(0).objects[::2, ::2]).all()
    _, _, data = client.ask("GET", "/api/images/0/tile/0/0/0.png")
    assert (np.asarray(Image.open(io.BytesIO(data))) == np.asarray(Image.open(project.picture_file(0)))).all()
    _, _, data = client.ask("GET", "/api/images/0/tile/0/0/0.png?show=2&low=100&high=101")
    blue = np.asarray(Image.open(project.picture_file(0)))[..., 2]
    assert (np.asarray(Image.open(io.BytesIO(data))) == np.where(blue > 100, 255, 0)).all()


def test_the_page_has_a_policy_and_gives_the_token_as_a_cookie(served: tuple[Project, Client]) -> None:
    _, client = served
    status, headers, _ = client.ask("GET", f"/?token={client.token}", token=None)
    assert status == 200 and headers["content-security-policy"].startswith("default-src 'self';")
    assert "HttpOnly" in headers["set-cookie"] and "samesite=strict" in headers["set-cookie"].lower()
    cookie = headers["set-cookie"].partition(";")[0]
    assert client.ask("GET", "/api/project", token=None, Cookie=cookie)[0] == 200
    assert client.ask("POST", "/api/images/0/strokes", stroke(0), token=None, Cookie=cookie)[0] == 401


HOSTILE: tuple[tuple[str, str, Any, dict[str, Any], int, str], ...] = (
    ("GET", "/", None, {"token": None}, 401, "no token"),
    ("GET", "/?token=wrong", None, {"token": None}, 403, "another one"),
    ("GET", "/api/project", None, {"token": None}, 401, "no token"),
    ("GET", "/api/project", None, {"token": "wrong"}, 403, "another one"),
    ("GET", "/api/project?token=TOKEN", None, {"token": None}, 401, "no token"),
    ("GET", "/api/project", None, {"Host": "evil.example"}, 421, "not called evil.example"),
    ("GET", "/api/project", None, {"Origin": "http://evil.example"}, 403, "page of http://evil.example"),
    ("GET", "/api/project", None, {"Origin": "null"}, 403, "page of null"),
    ("POST", "/api/images/0/undo", {"id": "x"}, {"Origin": "http://127.0.0.1:1"}, 403, "page of"),
    ("POST", "/api/images/0/undo", {"id": "x"}, {"Sec_Fetch_Site": "cross-site"}, 403, "another site"),
    ("POST", "/api/images/0/strokes", b"{", {}, 400, "no JSON"),
    ("POST", "/api/images/0/strokes", b"[]", {}, 400, "no JSON object"),
    ("POST", "/api/images/0/strokes", b'{"id": NaN}', {}, 400, "NaN is no number"),
    ("POST", "/api/images/0/strokes", b"[" * 100_000, {}, 400, "no JSON"),
    ("POST", "/api/images/0/strokes", b'"' + b"x" * (5 << 20), {}, 400, "too large"),
    ("POST", "/api/images/7/strokes", {"id": "x"}, {}, 404, "no such image"),
    ("GET", "/api/images/0/tile/0/1/0.png", None, {}, 404, "no such tile"),
    ("GET", "/api/images/0/tile/99/0/0.png", None, {}, 404, "no such level"),
    ("GET", "/api/images/0/tile/0/0/0.png?show=9", None, {}, 400, "no such channels"),
    ("GET", "/api/images/0/tile/0/0/0.png?low=inf", None, {}, 400, "low is wrong"),
    ("GET", "/api/images/0/tile/0/0/0.png?low=9&high=2", None, {}, 400, "contrast"),
    ("GET", "/api/images/0/mask/0/0/0.png?of=..", None, {}, 404, "no such mask"),
    ("GET", "/page/../server.py", None, {}, 404, "no such file"),
    ("GET", "/page/%2e%2e/server.py", None, {}, 404, "no such file"),
    ("GET", "/page/%2e%2e%2fserver.py", None, {}, 404, "no such file"),
    ("GET", "/page//etc/passwd", None, {}, 404, "no such file"),
    ("GET", "/masks/p0.png", None, {}, 404, "no such address"),
    ("PUT", "/api/project", None, {}, 405, "no such address"),
    ("GET", f"/api/images/{'9' * 5000}/levels", None, {}, 414, "too long"),
    ("GET", f"/api/images/0/tile/0/{'9' * 5000}/0.png", None, {}, 414, "too long"),
    ("GET", f"/api/images/0/tile/0/{'9' * 400}/0.png", None, {}, 404, "no such tile"),
    ("GET", f"/api/images/0/tile/0/0/0.png?show={'9' * 400}", None, {}, 400, "show is wrong"),
    ("GET", "/api/project", None, {"Origin": "http://["}, 403, "page of http://["),
    ("GET", "/api/project", None, {"Host": "evil@127.0.0.1"}, 421, "not called"),
    ("GET", "/api/project", None, {"Host": "127.0.0.1/evil"}, 421, "not called"),
    ("POST", "/api/images/0/strokes", b'{"id": "x", "tool": "\\ud800"}', {}, 400, "the tool is unknown"),
    ("POST", "/api/images/0/strokes", b'{"id": "x", "size": 1e400}', {}, 400, "1e400 is no number"),
    ("POST", "/api/images/0/undo", b'{"id": "x", "base": 1%s}' % (b"0" * 400), {}, 400, "is no number"),
    ("POST", "/api/images/0/undo", b'{"id": "x", "id": "y"}', {}, 400, "stands twice"),
    ("POST", "/api/review", {"key": [1], "done": True}, {}, 404, "nothing to look at"),
)


def test_hostile_requests_are_refused_by_name(served: tuple[Project, Client]) -> None:
    project, client = served
    for method, path, body, headers, status, said in HOSTILE:
        found, _, data = client.ask(method, path.replace("TOKEN", client.token), body, **headers)
        assert (found, said in json.loads(data)["error"]) == (status, True), (method, path, body, headers, data)
    assert project.revision == 0


def test_who_goes_away_in_the_middle_of_a_request_is_no_error(
    served: tuple[Project, Client], capfd: pytest.CaptureFixture[str]
) -> None:
    project, client = served
    head = f"POST /api/images/0/strokes HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Unetres-Token: {client.token}\r\n"
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{".encode())
        time.sleep(0.1)
    assert client.ask("GET", "/api/project")[0] == 200
    time.sleep(0.1)
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="names that are no text, as on Linux")
def test_a_picture_whose_name_is_no_text_is_painted_on(tmp_path: Path) -> None:
    from keras_unetres.painting.exports import FORMS, export_project
    from keras_unetres.painting.server import _json

    pictures, folder = draw_pictures(tmp_path / "pictures"), tmp_path / "project"
    os.rename(pictures / "p0.png", os.fsencode(pictures) + b"/caf\xe9.png")
    make_project(folder, pictures, ("background", "cell"), None, find_pictures(pictures, silent), silent)
    with Project(folder, silent) as project:
        said = json.loads(bytes(_json(project.summary()).body))
        assert [image["name"] for image in said["images"]] == ["caf\udce9.png", "p1.png"]
        project.stroke(0, stroke(0))
        project.complete(0, {"complete": True})
        for form in FORMS:
            assert export_project(project, form)["images"] == 1
    with Project(folder, silent) as project:
        assert project.images[0].complete


@pytest.mark.parametrize(
    ("host", "name", "is_own"),
    (
        ("127.0.0.1", "localhost:8000", True),
        ("127.0.0.1", "[::1]:8000", True),
        ("127.0.0.1", "10.1.2.3", False),
        ("127.0.0.1", "localhost.evil.example", False),
        ("0.0.0.0", "10.1.2.3:8000", True),
        ("0.0.0.0", f"{socket.gethostname()}:8000", True),
        ("0.0.0.0", "10.1.2.3.evil.example", False),
        ("0.0.0.0", "evil.example", False),
        ("0.0.0.0", "[", False),
        ("0.0.0.0", "", False),
    ),
)
def test_a_server_knows_its_names(host: str, name: str, is_own: bool) -> None:
    from keras_unetres.painting.access import HEADER, Gate

    gate = Gate(host)
    refusal = gate.refused("POST", {"host": name, HEADER: gate.token}, {}, {}, "/api/images/0/undo")
    assert (refusal is None) == is_own and (is_own or refusal.status == 421)  # type: ignore[union-attr]


# Levels


@pytest.mark.parametrize("kind", (np.uint8, np.uint16, np.float32))
def test_a_level_is_the_mean_of_four_pixels(kind: type) -> None:
    from keras_unetres.painting.pictures import halved

    values = (np.random.default_rng(0).random((1027, 5, 2)) * 60_000).astype(kind)
    padded = np.pad(values.astype(np.float64), ((0, 1), (0, 1), (0, 0)), mode="edge")
    mean = padded.reshape(514, 2, 3, 2, 2).mean((1, 3))
    expected = mean if kind is np.float32 else np.floor(mean + 0.5)
    assert halved(values).dtype == kind
    np.testing.assert_allclose(halved(values), expected, rtol=1e-6)


# A data set


def test_a_project_is_a_data_set(tmp_path: Path) -> None:
    from keras_unetres.data.dataset import open_dataset
    from keras_unetres.data.records import read_records

    folder = make(tmp_path)
    with Project(folder, silent) as project:
        project.stroke(1, stroke(0, object="new"))
        painted = project.canvas(1).classes.copy()
    dataset = open_dataset(folder)
    assert dataset.class_names == ("background", "cell", "dirt") and dataset.reading.ignore == 255
    assert dataset.notes == ("1 image without a mask left out, such as p0.png",)
    (record,) = read_records(dataset, ["all"], progress=False)["all"]
    assert record.name == "p1.png" and (record.mask == painted).all()
    assert set(np.unique(record.instances)) == {0, 1}


def test_a_check_finds_no_fault_in_what_was_painted_since_the_last(tmp_path: Path) -> None:
    from keras_unetres.doctor.check import check

    folder = make(tmp_path)
    for number in range(2):
        with Project(folder, silent) as project:
            for index in range(2):
                project.stroke(index, stroke(3 * number + index))
                project.stroke(index, stroke(3 * number + index + 10, points=[[50, 30 - number]], **{"class": 0}))
        checkup = check(folder, progress=False)
        assert not checkup.faults and (folder / ".unetres-hashes.json").is_file()
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(folder / "masks" / "p0.png")  # by something else
    assert [fault.kind for fault in check(folder, progress=False).faults] == ["changed"]


def test_a_data_set_is_opened_for_correction(tmp_path: Path, cells: Path) -> None:
    from keras_unetres.data.dataset import open_dataset
    from keras_unetres.data.records import read_records
    from keras_unetres.workflows.annotate import prepare_project

    folder = prepare_project(cells, tmp_path / "project", None, silent)
    records = read_records(open_dataset(cells), ["all"], progress=False)["all"]
    with Project(folder, silent) as project:
        assert project.classes == records.classes.names and len(project.images) == len(records)
        for index, state in enumerate(project.images):
            record = next(each for each in records if each.name == state.picture.name)
            canvas = project.canvas(index)
            assert (canvas.classes == record.mask).all()
            assert canvas.objects is not None and ((canvas.objects > 0) == (record.instances > 0)).all()
        answer = project.stroke(0, stroke(0, object="new", points=[[9, 9]]))
        assert answer["object"] == records[0].instances.max() + 1
        project.undo(0, {"id": "u"})
        assert project.summary()["images"][0]["painted"] == 1 and not project.images[0].done
    again = read_records(open_dataset(folder), ["all"], progress=False)["all"]
    assert all((a.mask == b.mask).all() for a, b in zip(again, records, strict=True))


def test_folders_that_cannot_be_are_named(tmp_path: Path) -> None:
    from keras_unetres.workflows.annotate import prepare_project

    pictures = draw_pictures(tmp_path / "pictures")
    for source, out, classes, why in (
        (pictures, None, None, "say where the project is to be"),
        (pictures, pictures / "project", None, "lie in each other"),
        (tmp_path / "none", tmp_path / "project", None, "no such folder"),
        (pictures, tmp_path / "project", ("cell",), "needs classes"),
    ):
        with pytest.raises(UsageError, match=why):
            prepare_project(source, out, classes, silent)
    folder = prepare_project(pictures, tmp_path / "project", ("background", "cell"), silent)
    with pytest.raises(UsageError, match="has other classes"):
        prepare_project(folder, None, ("background", "dog"), silent)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(pictures / "added.png")
    (pictures / "broken.png").write_bytes(b"\x89PNG")
    lines: list[str] = []
    prepare_project(pictures, folder, None, lines.append)
    with Project(folder, silent) as project:
        assert [state.picture.name for state in project.images] == ["p0.png", "p1.png", "added.png"]
    assert len(lines) == 1 and lines[0].startswith("left out") and "broken.png" in lines[0]


def test_pages_of_a_stack_and_twins_are_images_of_their_own(tmp_path: Path) -> None:
    import tifffile

    (tmp_path / "pictures" / "sub").mkdir(parents=True)
    stack = np.random.default_rng(0).integers(0, 60_000, (3, 20, 30), np.uint16)
    tifffile.imwrite(tmp_path / "pictures" / "stack.tif", stack, photometric="minisblack")
    tifffile.imwrite(tmp_path / "pictures" / "z.tif", stack, photometric="minisblack", metadata={"axes": "CYX"})
    for name in ("a.png", "a.jpg", "sub/a.png"):
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "pictures" / name)
    folder = tmp_path / "project"
    found = find_pictures(tmp_path / "pictures", silent)
    make_project(folder, tmp_path / "pictures", ("background", "cell"), None, found, silent)
    with Project(folder, silent) as project:
        names = [state.picture.name for state in project.images]
        assert names == ["a.jpg", "a.png", "stack.tif#0", "stack.tif#1", "stack.tif#2", "sub/a.png", "z.tif"]
        assert len({state.picture.stem for state in project.images}) == 7
        channels = project.pictures.level(project.picture_file(6), 0)
        assert (channels == np.moveaxis(stack, 0, -1)).all()
        page = project.pictures.level(project.picture_file(3), 0)
        assert (page[..., 0] == stack[1]).all() and project.images[3].picture.dtype == "uint16"


def test_on_a_photo_that_exif_turns_masks_lie_as_it_is_seen(tmp_path: Path) -> None:
    from keras_unetres.data.dataset import open_dataset
    from keras_unetres.data.records import read_records

    (tmp_path / "pictures").mkdir()
    values = np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(tmp_path / "pictures" / "photo.png", exif=exif)
    folder = tmp_path / "project"
    found = find_pictures(tmp_path / "pictures", silent)
    make_project(folder, tmp_path / "pictures", ("background", "cell"), None, found, silent)
    with Project(folder, silent) as project:
        project.stroke(0, stroke(0, points=[[4, 4], [4, 20]]))
        project.stroke(0, stroke(1, points=[[20, 20]], **{"class": 0}))
        seen, painted = project.pictures.level(project.picture_file(0), 0), project.canvas(0).classes
        assert (seen == np.rot90(values, -1)).all()
    (record,) = read_records(open_dataset(folder), ["all"], progress=False)["all"]
    assert (record.image == seen).all() and (record.mask == painted).all()


def test_what_a_kill_left_of_a_new_project_is_gone_on_with(tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / "painting" / "project.json").unlink()
    pictures = tmp_path / "pictures"
    make_project(folder, pictures, ("background", "cell"), None, find_pictures(pictures, silent), silent)
    with Project(folder, silent) as project:
        assert [state.picture.name for state in project.images] == ["p0.png", "p1.png"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(UnetresError, match="something else is in the folder"):
        make_project(tmp_path / "full", pictures, ("a", "b"), None, find_pictures(pictures, silent), silent)


# The forest


def test_the_forest_learns_two_textures_from_two_strokes(tmp_path: Path) -> None:
    from keras_unetres.painting.forest import Forest

    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    smooth, rough = rng.integers(118, 138, (300, 300)), rng.integers(0, 256, (300, 300))  # of one mean
    right = np.broadcast_to(np.arange(300) >= 150, (300, 300))
    Image.fromarray(np.where(right, rough, smooth).astype(np.uint8)).save(tmp_path / "pictures" / "a.png")
    folder = tmp_path / "project"
    found = find_pictures(tmp_path / "pictures", silent)
    make_project(folder, tmp_path / "pictures", ("background", "rough"), None, found, silent)
    with Project(folder, silent) as project:
        forest = Forest(project)
        told: list[dict[str, Any]] = []
        project.listen(lambda event: told.append(event) if "forest" in event else None)
        try:
            forest.ask(0, {"box": [0, 0, 300, 300], "level": 0})
            wait_for(lambda: any("two classes" in event["waits"] for event in told))
            project.stroke(0, stroke(0, points=[[40, 40], [60, 90]], size=9, **{"class": 0}))
            told.clear()
            project.stroke(0, stroke(1, points=[[220, 200], [250, 230]], size=9))
            wait_for(lambda: len([event for event in told if event.get("box")]) >= 4)
            data, _ = forest.tile(0, 0, (0, 0))
            answer = np.asarray(Image.open(io.BytesIO(data)))
            assert ((answer == 1) == right)[:, np.r_[:142, 158:300]].mean() > 0.97
            classes, _, box = forest.accepted(0, {"point": [280, 10]})
            project.accept(0, {"id": "all"}, classes, None, box, of="forest", unseen=True)
            canvas = project.canvas(0).classes.copy()
            assert canvas[65, 50] == 0 and canvas[10, 280] == 1 and not project.images[0].seen
            assert canvas[200, 75] == 255  # of the other class, which was not accepted
        finally:
            forest.close()
    with Project(folder, silent) as project:
        assert (project.canvas(0).classes == canvas).all() and not project.images[0].seen


def wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_newer_view_ends_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from keras_unetres.painting import forest as forests

    seen: list[int] = []
    begun, going = threading.Event(), threading.Event()

    def slow(values: np.ndarray, inner: tuple[slice, slice]) -> np.ndarray:
        begun.set()
        assert going.wait(60)
        return values[inner]

    monkeypatch.setattr(forests, "features", slow)
    monkeypatch.setattr(forests, "BLOCK", 16)
    with Project(make(tmp_path), silent) as project:
        project.stroke(0, stroke(0))
        project.stroke(0, stroke(1, points=[[50, 30]], **{"class": 0}))
        project.stroke(1, stroke(0))
        project.stroke(1, stroke(1, points=[[50, 30]], **{"class": 0}))
        project.listen(lambda event: seen.append(event["forest"]) if "forest" in event else None)
        forest = forests.Forest(project)
        forest.ask(0, {"box": [0, 0, 60, 40], "level": 0})
        assert begun.wait(60)
        forest.ask(1, {"box": [0, 0, 60, 40], "level": 0})
        going.set()
        wait_for(lambda: len(seen) == 24)  # twice 12 blocks
        forest.close()
    assert set(seen) == {1}


def test_a_large_view_is_answered_on_a_coarser_level_and_the_newest_answer_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_unetres.painting import forest as forests

    monkeypatch.setattr(forests, "features", lambda values, inner: values[inner])
    monkeypatch.setattr(forests, "MOST_PIXELS", 1000)
    with Project(make(tmp_path), silent) as project:
        project.stroke(0, stroke(0, points=[[10, 10], [30, 10]]))
        project.stroke(0, stroke(1, points=[[50, 30]], **{"class": 0}))
        told: list[dict[str, Any]] = []
        project.listen(lambda event: told.append(event) if event.get("box") else None)
        forest = forests.Forest(project)
        monkeypatch.setattr(forests, "predict", lambda model, found: np.ones(len(found), np.uint8))
        forest.ask(0, {"box": [0, 0, 60, 40], "level": 0})  # 2400 px
        wait_for(lambda: bool(told))
        assert told[0]["level"] == 1 and told[0]["box"] == [0, 0, 60, 40]
        assert (read_tile(forest, 0) == np.ones((40, 60))).all()
        assert read_tile(forest, 2).shape == (10, 15)
        told.clear()
        monkeypatch.setattr(forests, "BLOCK", 20)
        monkeypatch.setattr(forests, "predict", lambda model, found: np.zeros(len(found), np.uint8))
        forest.ask(0, {"box": [0, 0, 20, 20], "level": 0})  # nearer: elsewhere what was said from afar stays
        wait_for(lambda: bool(told))
        expected = np.ones((40, 60), np.uint8)
        expected[:20, :20] = 0
        assert (read_tile(forest, 0) == expected).all()
        assert (forest.accepted(0, {})[0] == expected).all()
        forest.close()


def test_where_many_blocks_are_seen_a_quarter_of_the_pixels_comes_first_and_all_come_out_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_unetres.painting import forest as forests

    models: list[Any] = []
    fit = forests.fit_forest
    monkeypatch.setattr(forests, "fit_forest", lambda *given: models.append(fit(*given)) or models[-1])
    monkeypatch.setattr(forests, "BLOCK", 11)  # of odd sides
    with Project(make(tmp_path), silent) as project:
        told: list[dict[str, Any]] = []
        answers: list[np.ndarray] = []

        def hear(event: dict[str, Any]) -> None:
            if event.get("box"):
                told.append(event)
                answers.append(forest.accepted(0, {})[0])

        for number, values in enumerate(({}, {"class": 0, "points": [[50, 30]]}, {"class": 2, "points": [[30, 35]]})):
            project.stroke(0, stroke(number, **values))
        forest = forests.Forest(project)
        project.listen(lambda event: hear(event) if "forest" in event else None)
        forest.ask(0, {"box": [0, 0, 60, 40], "level": 0})
        wait_for(lambda: len(answers) == 48)  # each of 24 blocks twice
        found = np.empty((40, 60, 13 * project.image(0).picture.channels), np.float32)
        for (_, _, x, y), block in forest._kept.items():
            found[y * 11 : y * 11 + block.shape[0], x * 11 : x * 11 + block.shape[1]] = block
        forest.close()
    expected = models[0].predict(found.reshape(2400, -1)).reshape(40, 60)
    assert len(np.unique(expected)) == 3
    coarse = answers[23]
    assert {tuple(event["box"]) for event in told[:24]} == {tuple(event["box"]) for event in told[24:]}
    for y in range(0, 40, 11):
        for x in range(0, 60, 11):
            block = expected[y : min(y + 11, 40) : 2, x : min(x + 11, 60) : 2].repeat(2, 0).repeat(2, 1)
            assert (coarse[y : y + 11, x : x + 11] == block[: min(11, 40 - y), : min(11, 60 - x)]).all()
    assert (answers[-1] == expected).all() and (coarse != expected).any()


@pytest.mark.parametrize("classes", (2, 5))
def test_trees_that_can_change_nothing_are_left_out(classes: int) -> None:
    from keras_unetres.painting.forest import fit_forest, predict

    rng = np.random.default_rng(classes)
    samples = rng.normal(size=(900, 6)).astype(np.float32)
    labels = np.digitize(samples[:, 0] + rng.normal(0, 0.6, 900), np.linspace(-1, 1, classes - 1)) * 3
    model, found = fit_forest(samples, labels), rng.normal(size=(20_000, 6)).astype(np.float32)
    assert (predict(model, found) == model.predict(found)).all()
    assert predict(model, found[:0]).shape == (0,)


def test_a_forest_of_grey_pictures_answers_one_in_colours(tmp_path: Path) -> None:
    from keras_unetres.painting.forest import Forest

    (tmp_path / "pictures").mkdir()
    grey = np.where(np.arange(64) < 32, 40, 200).astype(np.uint8)[None].repeat(48, 0)
    Image.fromarray(grey).save(tmp_path / "pictures" / "a.png")
    Image.fromarray(np.stack([grey[:, ::-1], grey[:, ::-1], grey[:, ::-1] // 2], -1)).save(
        tmp_path / "pictures" / "b.png"
    )
    found = find_pictures(tmp_path / "pictures", silent)
    make_project(tmp_path / "project", tmp_path / "pictures", ("dark", "bright"), None, found, silent)
    with Project(tmp_path / "project", silent) as project:
        told: list[dict[str, Any]] = []
        project.listen(lambda event: told.append(event) if "forest" in event else None)
        forest = Forest(project)
        try:
            project.stroke(0, stroke(0, points=[[8, 8], [8, 40]], **{"class": 0}))
            project.stroke(0, stroke(1, points=[[56, 8], [56, 40]]))
            forest.ask(0, {"box": [0, 0, 64, 48], "level": 0})
            wait_for(lambda: any(event.get("box") for event in told))
            told.clear()
            forest.ask(1, {"box": [0, 0, 64, 48], "level": 0})  # on which nothing is painted
            wait_for(lambda: bool(told))
            assert told[0]["waits"] == ""
            answer = forest.accepted(1, {})[0]
            assert answer[:, :20].mean() > 0.9 and answer[:, -20:].mean() < 0.1
        finally:
            forest.close()


def test_a_picture_that_cannot_be_read_is_named_in_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from keras_unetres.painting import order as orders

    def refuse(pixels: np.ndarray) -> np.ndarray:
        raise ValueError("damaged")

    with Project(make(tmp_path), silent) as project:
        assert not any("again" in row for row in orders.Order(project)())
        monkeypatch.setattr(orders, "picture_features", refuse)
        assert {row["why"] for row in orders.Order(project)()} == {"its picture cannot be read"}
        monkeypatch.setattr(orders, "_PATIENCE", -1.0)
        assert all(row["again"] for row in orders.Order(project)())


def read_tile(forest: Any, level: int) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(forest.tile(0, level, (0, 0))[0])))


# The network beside it

ROUND = """
import os, shutil, sys, time
from pathlib import Path
golden, then, data, run, file = sys.argv[1:6]
assert sorted(p.name for p in Path(data).iterdir()) == ["dataset.yaml", "train", "val"]
seen = Path(data).parent.parent / "seen.txt"
earlier = seen.read_text() if seen.exists() else ""
seen.write_text(earlier + Path(data).parent.name + " " + " ".join(sys.argv[10:]) + "\\n")
if then == "fail":
    print("error     data: it is all one colour")
    sys.exit(3)
if then == "wait":
    time.sleep(60)
Path(run).mkdir()
(Path(run) / "weights.safetensors").write_bytes(b"")
shutil.copy(golden, file)
"""


def learner(project: Project, then: str) -> Any:
    from keras_unetres.painting.learner import Learner

    return Learner(project, [sys.executable, "-S", "-c", ROUND, str(GOLDEN_FILE), then], 1.0)


def paint_images(project: Project, first: int, count: int) -> None:
    for index in range(count):
        project.stroke(index, stroke(first))
        project.stroke(index, stroke(first + 1, points=[[50, 30]], **{"class": 0}))


def make_with(tmp_path: Path, count: int) -> Path:
    folder = tmp_path / "project"
    found = find_pictures(draw_pictures(tmp_path / "pictures", count), silent)
    make_project(folder, tmp_path / "pictures", ("background", "cell"), None, found, silent)
    return folder


def test_a_network_learns_from_the_third_image_on_and_each_round_begins_with_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_unetres.painting import learner as learning

    monkeypatch.setattr(learning, "_PATIENCE", 0.02)
    folder = make_with(tmp_path, 6)
    with Project(folder, silent) as project:
        own = learner(project, "end")
        paint_images(project, 0, 2)
        time.sleep(0.2)
        assert own.state()["state"] == "waiting" and "2 of 3 images" in own.state()["reason"]
        paint_images(project, 2, 4)
        wait_for(lambda: own.file.is_file() and own.predictions.ready)
        wait_for(lambda: 5 in own.predictions.opinions)
        assert own.state()["round"] == 1 and "of 20 actions" in own.state()["reason"]
        data, _ = own.tile(5, "confidence", 0, (0, 0))
        assert np.asarray(Image.open(io.BytesIO(data))).shape == SHAPE
        classes, objects, box = own.accepted(5, {"objects": True})
        project.accept(5, {"id": "all"}, classes, objects, box, of="network", unseen=True)
        canvas = project.canvas(5)
        assert (canvas.classes == own.predictions.find(5).classes).all() and not project.images[5].seen
        paint_images(project, 10, 6)
        paint_images(project, 20, 6)
        wait_for(lambda: own._known["round"] == 2 and own._known["ended"])
        own.close()
    seen = (folder / "painting" / "learning" / "seen.txt").read_text().splitlines()
    assert seen == ["round-0001 ", f"round-0002 --start {folder / 'painting' / 'learning' / 'round-0001' / 'run'}"]


def test_a_round_that_failed_says_why_and_one_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_unetres.painting import learner as learning

    monkeypatch.setattr(learning, "_PATIENCE", 0.02)
    folder = make_with(tmp_path, 3)
    with Project(folder, silent) as project:
        own = learner(project, "fail")
        paint_images(project, 0, 3)
        wait_for(lambda: own.state()["state"] == "failed")
        assert own.state()["reason"] == "data: it is all one colour"
        own.close()
    with Project(folder, silent) as project:
        own = learner(project, "wait")
        assert own.start()["state"] == "training"
        assert own.stop()["state"] == "stopped"
        own.start()
        own.close()  # and so it is stopped in the middle
    with Project(folder, silent) as project:
        own = learner(project, "end")
        wait_for(lambda: own.predictions.ready)
        own.close()
    seen = (folder / "painting" / "learning" / "seen.txt").read_text().split()
    assert seen[0] == "round-0001" and set(seen[1:]) == {"round-0002"}


def test_what_is_asked_for_while_a_round_is_at_work_does_not_begin_another_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_unetres.painting import learner as learning

    monkeypatch.setattr(learning, "_PATIENCE", 0.02)
    with Project(make_with(tmp_path, 3), silent) as project:
        own = learner(project, "wait")
        paint_images(project, 0, 3)
        wait_for(lambda: own.state()["state"] == "training")
        assert own.start()["state"] == "training"
        own._process.kill()
        wait_for(lambda: own.state()["state"] == "failed")
        time.sleep(0.2)
        assert own.state()["state"] == "failed"
        own.close()


def test_what_validates_is_complete_and_trained_on_by_nobody(tmp_path: Path) -> None:
    from keras_unetres.data.dataset import open_dataset
    from keras_unetres.painting.snapshot import write_snapshot

    with Project(make_with(tmp_path, 5), silent) as project:
        paint_images(project, 0, 5)
        for index in range(3):
            project.complete(index, {"complete": True})
        snapshot = write_snapshot(project, make_folder(tmp_path / "data"))
    splits = open_dataset(tmp_path / "data").splits
    parts = {part: {sample.name for sample in found} for part, found in splits.items()}
    assert (snapshot.images, snapshot.complete, snapshot.flattered) == (5, 3, False)
    assert len(parts["val"]) == 1 and parts["val"] < {"p0.png", "p1.png", "p2.png"}
    assert len(parts["train"]) == 4 and not parts["train"] & parts["val"]


def test_of_large_pictures_the_blocks_with_paint_are_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_unetres.data.dataset import open_dataset
    from keras_unetres.data.records import read_records
    from keras_unetres.painting import snapshot as snapshots

    monkeypatch.setattr(snapshots, "LARGE", 1000)
    monkeypatch.setattr(snapshots, "BLOCK", 16)
    with Project(make_with(tmp_path, 1), silent) as project:
        project.stroke(0, stroke(0, points=[[3, 3]], size=4))
        project.stroke(0, stroke(1, points=[[50, 35]], size=4, **{"class": 0}))
        snapshots.write_snapshot(project, make_folder(tmp_path / "data"))
        picture, classes = np.asarray(Image.open(project.picture_file(0))), project.canvas(0).classes
    records = read_records(open_dataset(tmp_path / "data"), ["train"], progress=False)["train"]
    assert [record.name for record in records] == ["p0_0_0.tif", "p0_48_32.tif"]
    assert (records[1].image == picture[32:40, 48:60]).all() and (records[1].mask == classes[32:40, 48:60]).all()


def test_what_a_network_is_sure_of_is_learned_where_nothing_is_painted(tmp_path: Path) -> None:
    from keras_unetres.painting.snapshot import write_snapshot

    with Project(make(tmp_path), silent) as project:
        for index in range(2):
            project.stroke(index, stroke(2 * index))
            project.stroke(index, stroke(2 * index + 1, points=[[50, 35]], **{"class": 0}))
        paint = project.canvas(0).classes.copy()
        sure = np.full(SHAPE, 255, np.uint8)
        sure[:20] = 2
        write_snapshot(project, make_folder(tmp_path / "data"), lambda index: sure if index == 0 else None)
    learned, validating = (read_mask(tmp_path / "data" / part / "masks" / "p0.png") for part in ("train", "val"))
    np.testing.assert_array_equal(learned, np.where(paint == 255, sure, paint))
    np.testing.assert_array_equal(validating, paint)
    np.testing.assert_array_equal(
        read_mask(tmp_path / "data" / "train" / "masks" / "p1.png"),
        read_mask(tmp_path / "data" / "val" / "masks" / "p1.png"),
    )


def test_what_is_unlike_the_painted_comes_first(tmp_path: Path) -> None:
    from keras_unetres.painting.order import Order

    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for name, level in (("a", 60), ("b", 64), ("c", 200), ("d", 62)):
        values = np.clip(rng.normal(level, 9, (40, 40)), 0, 255).astype(np.uint8)
        Image.fromarray(values).save(tmp_path / "pictures" / f"{name}.png")
    folder = tmp_path / "project"
    found = find_pictures(tmp_path / "pictures", silent)
    make_project(folder, tmp_path / "pictures", ("background", "cell"), None, found, silent)
    with Project(folder, silent) as project:
        assert project.image(Order(project)()[0]["index"]).picture.name in ("a.png", "b.png", "d.png")
        project.stroke(0, stroke(0))
        first, *others = Order(project)()
        assert (first["index"], first["score"], first["why"]) == (2, 1.0, "it is unlike all that is painted")
        assert {row["index"] for row in others} == {1, 3}


# Other forms


@pytest.mark.parametrize("form", ("png", "coco", "labelme", "labelstudio", "geojson"))
def test_every_form_is_read_as_it_was_painted(tmp_path: Path, form: str) -> None:
    from keras_unetres.data.dataset import open_dataset
    from keras_unetres.data.records import read_records
    from keras_unetres.painting.exports import export_project

    with Project(make(tmp_path), silent) as project:
        project.stroke(0, stroke(0, object="new", size=14))
        project.stroke(0, stroke(1, object="new", size=6, points=[[12, 10]], **{"class": 2}))  # a hole in the first
        project.stroke(0, stroke(2, size=8, points=[[50, 30]]))
        if form in ("png", "coco", "labelme"):
            project.stroke(0, stroke(3, size=20, points=[[45, 10]], **{"class": 0}))
        else:
            project.complete(0, {"complete": True})
        expected = project.written(project.canvas(0), project.image(0))[0]
        told = export_project(project, form)
        assert (told["images"], told["note"]) == (1, "")
        assert export_project(project, form)["path"] == told["path"]
    dataset = open_dataset(told["path"])
    (record,) = read_records(dataset, ["all"], progress=False)["all"]
    assert dataset.class_names == ("background", "cell", "dirt")
    assert (record.mask == expected).all()
    if record.instances is not None:
        assert len(np.unique(record.instances[record.instances > 0])) == 3


def test_an_export_that_nobody_painted_and_one_that_is_in_the_way_are_refused(tmp_path: Path) -> None:
    from keras_unetres.painting.exports import export_project

    with Project(make(tmp_path), silent) as project:
        with pytest.raises(DataError, match="nothing is painted"):
            export_project(project, "coco")
        with pytest.raises(UsageError, match="the form is unknown"):
            export_project(project, "../coco")
        project.stroke(0, stroke(0))
        told = export_project(project, "rois")
        assert "1 images some pixels" in told["note"]
        with zipfile.ZipFile(Path(told["path"]) / "p0.zip") as archive:
            assert archive.namelist() == ["0001-cell.roi"]
        mine = tmp_path / "project" / "exports" / "coco" / "thesis.txt"
        mine.parent.mkdir()
        mine.write_text("mine")
        with pytest.raises(FileSystemError, match="something else"):
            export_project(project, "coco")
        assert mine.read_text() == "mine"


def test_what_is_not_installed_is_named_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from keras_unetres.cli import main

    monkeypatch.setitem(sys.modules, "starlette", None)
    assert main(["annotate", str(draw_pictures(tmp_path / "pictures")), "--out", str(tmp_path / "project")]) == 2
    assert "pip install 'keras-unetres[annotate]'" in capsys.readouterr().err
    assert not (tmp_path / "project").exists()
