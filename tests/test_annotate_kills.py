"""A server that is killed at any moment: every stroke that was answered is there, each once, and so is its picture."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_unetres.painting.canvas import Canvas
from keras_unetres.painting.project import Project
from unetres_edge.images.decode import read_mask

SHAPE = (90, 120)
START = "import sys; from keras_unetres.cli import main; sys.exit(main())"


class Server:
    """`unetres annotate` as a process of its own."""

    def __init__(self, pictures: Path, project: Path) -> None:
        words = ["annotate", str(pictures), "--out", str(project), "--no-browser", "--no-learn"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found = re.match(r"serving +http://127\.0\.0\.1:(\d+)/\?token=(\S+)", line)
            if found:
                self.port, self.token = int(found[1]), found[2]
                return
        raise AssertionError(f"the server ended with {self.process.wait()}")

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer, None where none came."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"X-Unetres-Token": self.token, "Content-Type": "application/json"}
        try:
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        assert answer.status == 200, data
        return dict(json.loads(data))

    def ended(self) -> int:
        assert self.process.stdout is not None
        with self.process.stdout:
            said = self.process.stdout.read()
            assert "Traceback" not in said, said
            return self.process.wait(30)


def random_action(rng: random.Random, number: int) -> tuple[str, dict[str, Any]]:
    """Return the last word of an address and a body; most are strokes."""
    own = {"id": f"a{number}"}
    if rng.random() < 0.2:
        return ("undo" if rng.random() < 0.7 else "redo"), own
    points = [[rng.uniform(0, SHAPE[1]), rng.uniform(0, SHAPE[0])] for _ in range(rng.randint(3, 12))]
    tool = rng.choice(("brush", "brush", "polygon", "lasso", "fill"))
    value = rng.choice((0, 1, 1, 255))
    number_of_object = "new" if value == 1 and rng.random() < 0.5 else 0
    return "strokes", own | {
        "tool": tool,
        "class": value,
        "object": number_of_object,
        "size": rng.uniform(1, 30),
        "points": points,
    }


def kill_again_and_again(tmp_path: Path, kills: int, seed: int) -> tuple[int, int]:
    """Paint while the server is killed at random moments; return how many actions were answered, and sent again."""
    rng = random.Random(seed)
    pictures, folder = tmp_path / "pictures", tmp_path / "project"
    pictures.mkdir()
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(pictures / "a.png")
    answers: list[tuple[dict[str, Any], str, dict[str, Any]]] = []
    again = 0
    waiting: tuple[str, dict[str, Any]] | None = None
    for turn in range(kills + 1):
        server = Server(pictures, folder)
        is_last = turn == kills
        if not is_last:
            threading.Timer(rng.uniform(0.02, 0.8), server.process.kill).start()
        enough = len(answers) + 25
        while not is_last or len(answers) < enough:
            word, body = waiting or random_action(rng, len(answers))
            waiting = (word, body)
            answer = server.post(f"/api/images/0/{word}", body)
            if answer is None:
                again += 1
                break
            answers.append((body, word, answer))
            waiting = None
        if not is_last:
            server.ended()
    events = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    events.request("GET", "/api/events", headers={"X-Unetres-Token": server.token})
    stream = events.getresponse()
    server.process.send_signal(signal.SIGINT)
    assert stream.read().endswith(b'data: {"ending": true}\n\n')  # and does not hold the server up
    events.close()
    assert server.ended() == 0
    check(folder, answers)
    return len(answers), again


def check(folder: Path, answers: list[tuple[dict[str, Any], str, dict[str, Any]]]) -> None:
    """Hold the project against a canvas on which the same was painted without a server."""
    lines = [json.loads(line) for line in (folder / "painting" / "journal.jsonl").read_bytes().splitlines()]
    ids = [line["id"] for line in lines]
    assert len(set(ids)) == len(ids), "an action was done twice"
    done = [(body, word, answer) for body, word, answer in answers if answer["box"] is not None or body["id"] in ids]
    assert ids == [body["id"] for body, _, _ in done], "an action that was answered is not in the journal"
    canvas = Canvas(SHAPE, None, lambda digest: (np.zeros(0), None))
    for line in lines:
        if line["do"] == "stroke":
            canvas.paint(line)
        else:
            (canvas.undo if line["do"] == "undo" else canvas.redo)()
    assert (canvas.classes != 255).any()
    assert (read_mask(folder / "masks" / "a.png") == canvas.classes).all()
    if canvas.objects is not None and canvas.objects.any():
        assert (read_mask(folder / "instances" / "a.png") == canvas.objects).all()
    with Project(folder) as project:
        assert (project.canvas(0).classes == canvas.classes).all()
    assert not [path for path in folder.rglob("*.tmp") if "masks" not in str(path)]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
@pytest.mark.parametrize("kills", (2, pytest.param(60, marks=pytest.mark.long)))
def test_no_stroke_is_lost_when_the_server_is_killed(tmp_path: Path, kills: int) -> None:
    answered, _ = kill_again_and_again(tmp_path, kills, seed=7)
    assert answered >= 25


ORPHAN = """
import subprocess, sys
code = "import sys; from keras_unetres.workflows.annotate_round import end_with; end_with(int(sys.argv[1]))"
child = subprocess.Popen([sys.executable, "-c", code, str({parent})], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.name != "posix", reason="processes without a parent are of POSIX")
def test_a_training_ends_with_the_server_that_was_killed() -> None:
    words = [sys.executable, "-c", ORPHAN.replace("{parent}", "__import__('os').getpid()")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        child = int(server.stdout.readline())
        time.sleep(0.3)
        os.kill(child, 0)
        server.kill()
    end = time.monotonic() + 60
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < end:
            time.sleep(0.05)
            os.kill(child, 0)
