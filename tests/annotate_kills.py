"""Kill the server of a painting, the training beside it, and the browser, at random moments, and count what is lost.

    python tests/annotate_kills.py [--server 150] [--training 50] [--browser 50] [--seed 7] [--minutes M]
        [--json FILE]

`--server` kills the server while strokes are sent to it. `--training` kills, while a network learns, in turn
the training and the server; every training is then held, byte for byte, against one that went on from the same plan and
was never killed. `--browser` kills Chromium, all of its processes, while a mouse paints in it.

After all kills the journal must hold every action that was answered, each once and in order, and the masks must be, in
every pixel, what a canvas shows on which the same was painted without a server.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_unetres.cli import main as main_of_command
from keras_unetres.data.synthetic import make_cells
from keras_unetres.painting.canvas import Canvas
from keras_unetres.painting.project import Project
from keras_unetres.runs import RunFolder
from unetres_edge.files import write_json
from unetres_edge.images.decode import read_mask

SHAPE = (96, 96)
START = "import sys; from keras_unetres.cli import main; sys.exit(main())"
TRAINED = ("weights.safetensors", "history.csv", "checkpoints/last.safetensors", "calibration.npz")
MINUTES = 0.6  # of a training
LONGEST = 600.0  # seconds until a training that nobody kills must have ended

Sent = tuple[int, str, dict[str, Any], dict[str, Any]]  # image, last word of the address, body, answer


class Fork:
    """A command in a child of this process, which has imported what it needs: a kill then costs little."""

    def __init__(self, words: list[str]) -> None:
        read, write = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.dup2(write, 1)
            os.dup2(write, 2)
            code = 1
            try:
                code = main_of_command(words)
            finally:
                sys.stdout.flush()
                os._exit(code)
        os.close(write)
        self.stdout = os.fdopen(read)
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, seconds: float = 90) -> int:
        wait_until(lambda: self.poll() is not None, seconds)
        assert self._code is not None
        return self._code

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class Server:
    """`unetres annotate` as a process of its own."""

    def __init__(self, pictures: Path, project: Path, *more: str, forked: bool = False) -> None:
        words = ["annotate", str(pictures), "--out", str(project), "--no-browser", *(more or ("--no-learn",))]
        self.process = (
            Fork(words)
            if forked
            else subprocess.Popen(
                [sys.executable, "-c", START, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            found = re.match(r"serving +http://127\.0\.0\.1:(\d+)/\?token=(\S+)", line)
            if found:
                self.port, self.token = int(found[1]), found[2]
                return
        raise AssertionError(f"the server ended with {self.process.wait()}: {said}")

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Return the answer, None where none came."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"X-Unetres-Token": self.token, "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        assert answer.status == 200, data
        return dict(json.loads(data))

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def ended(self) -> int:
        """Return the exit code; what was printed has no traceback."""
        assert self.process.stdout is not None
        with self.process.stdout:
            said = self.process.stdout.read()
            assert "Traceback" not in said, said
            return self.process.wait(90)

    def end(self) -> None:
        """End as Ctrl-C does, while a page listens, which must not hold it up."""
        events = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        events.request("GET", "/api/events", headers={"X-Unetres-Token": self.token})
        stream = events.getresponse()
        self.process.send_signal(signal.SIGINT)
        assert stream.read().endswith(b'data: {"ending": true}\n\n')
        events.close()
        assert self.ended() == 0


def write_pictures(folder: Path, count: int) -> Path:
    """Draw pictures of cells."""
    folder.mkdir()
    for number in range(count):
        Image.fromarray(make_cells(number, size=SHAPE).image).save(folder / f"{number}.png")
    return folder


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


class Painter:
    """Sends one action after the other, and each that was not answered again, as the page does."""

    def __init__(self, rng: random.Random, images: int) -> None:
        self._rng, self._images = rng, images
        self.answers: list[Sent] = []
        self.again = 0
        self._waiting: tuple[int, str, dict[str, Any]] | None = None

    def paint(self, server: Server) -> bool:
        """Send an action; return whether it was answered."""
        if self._waiting is None:
            word, body = random_action(self._rng, len(self.answers))
            self._waiting = (self._rng.randrange(self._images), word, body)
        image, word, body = self._waiting
        answer = server.ask("POST", f"/api/images/{image}/{word}", body)
        if answer is None:
            self.again += 1
            return False
        self.answers.append((image, word, body, answer))
        self._waiting = None
        return True


def kill_server(folder: Path, kills: int, seed: int, minutes: float = 1e9, forked: bool = False) -> dict[str, int]:
    """Paint while the server is killed at random moments; return what was counted."""
    rng, end = random.Random(seed), time.monotonic() + 60 * minutes
    pictures, project = write_pictures(folder / "pictures", 2), folder / "project"
    painter = Painter(rng, 2)
    done = 0
    while done < kills and time.monotonic() < end:
        if done % 10 == 0:
            print(f"{done} kills, {len(painter.answers)} actions answered", flush=True)
        with Server(pictures, project, forked=forked) as server:
            begun, before = time.monotonic(), rng.randint(1, 12)
            for _ in range(before):
                assert painter.paint(server)
            usual = (time.monotonic() - begun) / before
            threading.Timer(rng.uniform(0, 3 * usual), server.process.kill).start()
            while painter.paint(server):
                pass
            server.ended()
        done += 1
    with Server(pictures, project) as server:
        for _ in range(25):
            assert painter.paint(server)
        server.end()
    check(project, painter.answers)
    return {"kills": done, "actions answered": len(painter.answers), "sent again": painter.again, "lost or twice": 0}


def check(folder: Path, answers: list[Sent]) -> None:
    """Hold a project against canvases on which the same was painted without a server."""
    lines = [json.loads(line) for line in (folder / "painting" / "journal.jsonl").read_bytes().splitlines()]
    ids = [line["id"] for line in lines]
    assert len(set(ids)) == len(ids), "an action was done twice"
    done = [body["id"] for _, _, body, answer in answers if answer["box"] is not None or body["id"] in ids]
    assert ids == done, "an action that was answered is not in the journal"
    with Project(folder) as project:
        for index, state in enumerate(project.images):
            canvas = replayed(lines, state.picture.name)
            assert (project.canvas(index).classes == canvas.classes).all()
            if (canvas.classes != 255).any():
                assert (read_mask(project.mask_file(index)) == canvas.classes).all()
            if canvas.objects is not None and canvas.objects.any():
                assert (read_mask(project.objects_file(index)) == canvas.objects).all()
    left = [path for path in folder.glob("*/*.tmp") if path.parent.name not in ("masks", "instances")]
    assert not left, f"left behind: {left}"  # of masks the next writing takes them away


def replayed(lines: list[dict[str, Any]], name: str) -> Canvas:
    """Return a canvas with the actions on one image."""
    canvas = Canvas(SHAPE, None, lambda digest: (np.zeros(0), None))
    for line in lines:
        if line["image"] != name:
            continue
        if line["do"] == "stroke":
            canvas.paint(line)
        else:
            (canvas.undo if line["do"] == "undo" else canvas.redo)()
    return canvas


class Trainings:
    """The trainings beside a painting: which process is at work, on which run, and a copy that nobody kills."""

    def __init__(self, project: Path, copies: Path) -> None:
        self._learning, self._copies = project / "painting" / "learning", copies
        copies.mkdir()

    def process(self, server: Server) -> int | None:
        """Return the id of the training's process."""
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
            for task in Path(f"/proc/{server.process.pid}/task").iterdir():
                children += (task / "children").read_text().split()
            for child in children:
                if b"annotate_round" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
        return None

    def rounds(self) -> list[Path]:
        """Return the folders of trainings that are there, the oldest first."""
        return sorted(self._learning.glob("round-*"))

    def watch(self, seconds: float) -> None:
        """Wait, and copy each run that has got its plan meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._copy_planned()
            time.sleep(0.05)

    def _copy_planned(self) -> None:
        for folder in self.rounds():
            copy, run = self._copies / folder.name, folder / "run"
            has_begun = (run / "checkpoints" / "last.safetensors").exists()
            if copy.exists() or has_begun or not RunFolder.is_run(run):
                continue
            part = self._copies / "part"
            with contextlib.suppress(OSError, shutil.Error):  # a temporary file that is renamed meanwhile
                shutil.copytree(folder, part, symlinks=True)
                _keep_start(part, copy)
                os.rename(part, copy)
            shutil.rmtree(part, ignore_errors=True)

    def compare(self) -> list[str]:
        """Let the copies come to their end; return of each "same", or what differs."""
        found = []
        for copy in sorted(self._copies.iterdir()):
            folder = self._learning / copy.name
            if not (copy / "data").is_dir() or not folder.is_dir():
                continue
            words = [sys.executable, "-m", "keras_unetres.workflows.annotate_round"]
            words += [f"{copy / name}" for name in ("data", "run", "model.tflite")]
            done = subprocess.run([*words, "--minutes", f"{MINUTES}"], capture_output=True, text=True)
            assert done.returncode == 0 or "error     gate:" in done.stdout, done.stdout + done.stderr
            names = [
                name for name in TRAINED if (copy / "run" / name).read_bytes() != (folder / "run" / name).read_bytes()
            ]
            shutil.rmtree(copy / "data")
            found.append(f"{folder.name}: {', '.join(names)}" if names else "same")
        return found


def _keep_start(part: Path, copy: Path) -> None:
    """Copy into `part` the run that its own begins with, which it reads when it lies at `copy`.

    Two trainings later the learner removes the first, which may be before the copy of the second is at its turn.
    """
    about = json.loads((part / "run" / "run.json").read_bytes())
    if about.get("source"):
        shutil.copytree(about["source"], part / "start", ignore=shutil.ignore_patterns("checkpoints"))
        write_json(part / "run" / "run.json", about | {"source": str(copy / "start")})


def kill_training(folder: Path, kills: int, seed: int, minutes: float = 1e9) -> dict[str, Any]:
    """Kill, while a network learns, in turn the training and the server, three to six times in each training."""
    rng, last = random.Random(seed), time.monotonic() + 60 * minutes
    pictures, project = write_pictures(folder / "pictures", 4), folder / "project"
    painter, trainings = Painter(rng, 4), Trainings(project, folder / "copies")
    counts: Counter[str] = Counter()
    differ: list[str] = []
    with ExitStack() as closing:

        def serve() -> Server:
            return closing.enter_context(Server(pictures, project, "--minutes", f"{MINUTES}"))

        server, done, usual = serve(), 0, 20.0
        while done < kills and time.monotonic() < last:
            for _ in range(30):  # enough for another training
                assert painter.paint(server)
            start(server)
            for _ in range(min(rng.randint(3, 6), kills - done)):
                trainings.watch(rng.uniform(0.1, usual))
                place, child = where(trainings.rounds()[-1]), trainings.process(server)
                if child is None:
                    counts["too late"] += 1
                    break
                name = ("training", "server")[done % 2]
                if name == "server":
                    server.process.kill()
                    server.ended()
                    server = serve()
                else:
                    os.kill(child, signal.SIGKILL)
                    painter.paint(server)
                    wait_until(lambda server=server: state_of(server)["state"] == "failed", LONGEST)
                start(server)
                done += 1
                counts[f"{name} killed {place}"] += 1
            begun = time.monotonic()
            wait_until(lambda server=server: trainings.watch(0.1) or is_done(server), LONGEST)
            usual = min(60.0, max(15.0, time.monotonic() - begun))
            counts["trainings that the gate refused"] += state_of(server)["reason"].startswith("gate:")
            found = trainings.compare()
            counts["trainings the same"] += found.count("same")
            differ += [each for each in found if each != "same"]
            print(f"{done} kills, {dict(counts)}", flush=True)
        server.end()
    check(project, painter.answers)
    strokes = {"actions answered": len(painter.answers), "sent again": painter.again, "lost or twice": 0}
    return {"kills": done, **dict(sorted(counts.items())), "differ": differ, **strokes}


def start(server: Server) -> None:
    """Start a training, or go on with the one that was killed, unless it goes on by itself."""
    if state_of(server)["state"] not in ("training", "exporting"):
        server.ask("POST", "/api/learner", {"do": "start"})


def is_done(server: Server) -> bool:
    """Return whether the last training has come to its end, and none is at work.

    A busy machine has few steps in its minutes, so the gate may refuse the file, which says nothing of kills.
    """
    state = state_of(server)
    if state["state"] == "failed":
        assert state["reason"].startswith("gate:"), state
        return True
    return state["state"] == "waiting" and state["file"] is not None


def state_of(server: Server) -> dict[str, Any]:
    """Return what the server says of the training."""
    state = server.ask("GET", "/api/learner")
    assert state is not None
    return state


def where(folder: Path) -> str:
    """Return how far a training is."""
    if not (folder / "data" / "dataset.yaml").exists():
        return "in the snapshot"
    if not RunFolder.is_run(folder / "run"):
        return "before its plan"
    if (folder / "run" / "calibration.npz").exists():
        return "in its export"
    return "in its epochs" if (folder / "run" / "checkpoints" / "last.safetensors").exists() else "before an epoch"


def wait_until(is_so: Callable[[], object], seconds: float) -> None:
    """Wait for something, and raise AssertionError where it does not come."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not so after {seconds:.0f} s"
        time.sleep(0.1)


def kill_browser(folder: Path, kills: int, seed: int, minutes: float = 1e9) -> dict[str, Any]:
    """Kill Chromium at random moments while a mouse paints; return what was counted."""
    from annotate_page import look_at_page

    from keras_unetres.painting import folder as folders

    pictures, project = write_pictures(folder / "pictures", 1), folder / "project"
    silent = lambda line: None  # noqa: E731
    folders.make_project(
        project, pictures, ("background", "cell"), None, folders.find_pictures(pictures, silent), silent
    )
    report = look_at_page(
        "annotate_browser_kills.mjs", project, folder, timeout=60 + 60 * kills, kills=kills, seed=seed
    )
    lines = [json.loads(line) for line in (project / "painting" / "journal.jsonl").read_bytes().splitlines()]
    began = Counter("{:g},{:g}".format(*line["points"][0]) for line in lines)
    assert set(began.values()) <= {1}, "a stroke was painted twice"
    lost = [stroke for stroke in report["strokes"] if stroke["id"] not in began]
    early = [stroke for stroke in lost if stroke["before"] > 200]
    assert not early, f"lost although they were ended more than 200 ms before the kill: {early}"
    with Project(project) as opened:
        assert (opened.canvas(0).classes == replayed(lines, "0.png").classes).all()
    return {
        "kills": len(report["down"]) - 1,
        "of them with the button down": sum(report["down"]),
        "strokes ended": len(report["strokes"]),
        "lost, ended more than 200 ms before the kill": len(early),
        "lost, ended less than 200 ms before the kill": len(lost) - len(early),
        "in the journal": len(lines),
        "of it sent after the kill, by the next browser": report["adopted"],
        "twice": 0,
    }


CAMPAIGNS = {"server": kill_server, "training": kill_training, "browser": kill_browser}


def prepare() -> Callable[..., dict[str, Any]]:
    """Import what a server needs, and return the campaign in which each is a fork of this process."""
    import uvicorn  # noqa: F401

    import keras_unetres.painting.forest
    import keras_unetres.painting.order
    import keras_unetres.painting.server
    import keras_unetres.workflows.annotate  # noqa: F401

    return partial(kill_server, forked=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, count in (("server", 150), ("training", 50), ("browser", 50)):
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=1e9, help="after which a campaign ends with what it has done")
    parser.add_argument("--json", type=Path, help="file in which the figures of the campaigns that were run are put")
    given = parser.parse_args()
    sys.path.append(str(Path(__file__).resolve().parents[1] / "edge" / "tests"))  # for node.py
    for name, campaign in CAMPAIGNS.items():
        count = getattr(given, name)
        if not count:
            continue
        with tempfile.TemporaryDirectory() as place:
            campaign = prepare() if name == "server" else campaign
            found = campaign(Path(place), count, given.seed, given.minutes)
        print(name, json.dumps(found), flush=True)
        if given.json:
            known = json.loads(given.json.read_text()) if given.json.exists() else {}
            command = f"python tests/annotate_kills.py --{name} {count} --seed {given.seed}"
            command += f" --minutes {given.minutes:g}" if given.minutes < 1e9 else ""
            write_json(given.json, known | {name: {"command": command, **found}})


if __name__ == "__main__":
    main()
