"""The network that learns beside the painting: rounds of training in a process of its own, at low priority.

A round trains on a snapshot of what is painted, and of what the last file is sure of on these images where nothing is
painted (self-training), and begins with the weights of the round before. It starts at the third
painted image or the fiftieth stroke, then whenever enough was painted since, or when it is asked for. One that was
stopped, or whose server was killed, goes on where it was; a failed one says why and leaves the file as it is.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unetres_edge.errors import UnetresError
from unetres_edge.files import make_folder, open_in_place, parse_state, write_json
from unetres_edge.images.preprocessing import IGNORE

from ..runs import RunFolder
from .folder import FOLDER
from .order import MOST_WANTED, unpainted
from .predictions import Predictions
from .project import Project
from .snapshot import LARGE, Snapshot, painted_images, write_snapshot

FEWEST_IMAGES = 3
FEWEST_STROKES = 50
FEWEST_NEW = 20  # actions since the last round after which there is another
SURE = 0.95  # probability of a class from which on a network learns from what it says itself
MOST_ASKED = 60  # painted images that it is asked about before a round, the last ones
_PATIENCE = 1.0  # seconds between two looks
_NICE = 10
_ROUNDS_KEPT = 2
_STATE = "learner.json"
_MOST_ROUNDS = 1_000_000


class Learner:
    """Trains, exports, and predicts by the newest file.

    Args:
        project: what is painted.
        command: words that start a round; the data set, the run folder and the file to write follow, then options.
        minutes: minutes of a round.
        by_itself: whether it starts when enough is painted; else only when asked.
    """

    def __init__(self, project: Project, command: Sequence[str], minutes: float, by_itself: bool = True) -> None:
        self._project, self._command, self._minutes = project, tuple(command), minutes
        self._folder = make_folder(project.folder / FOLDER / "learning")
        self.file = project.folder / FOLDER / "model.tflite"
        self.predictions = Predictions(project)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._by_itself, self._stopped, self._asked = by_itself, False, False
        self._reason = ""
        self._round, self._known = self._read()
        self._ended = threading.Event()
        self._told: dict[str, Any] = {}
        if self.file.is_file():
            self._use_file()
        self._thread = threading.Thread(target=self._watch, name="learner", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop a round, which goes on when the project is opened again, and end the threads."""
        self._ended.set()
        self._thread.join()
        self._end_process()
        self.predictions.close()

    def _end_process(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()  # a training writes a checkpoint
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def start(self) -> dict[str, Any]:
        """Start a round now, or go on with the one that was stopped; return the state."""
        with self._lock:
            self._asked, self._stopped, self._reason = True, False, ""
        self._step()
        return self.state()

    def stop(self) -> dict[str, Any]:
        """Stop the round at hand, and start no other until asked; return the state."""
        with self._lock:
            self._stopped, self._asked = True, False
        self._end_process()
        self._step()
        return self.state()

    def state(self) -> dict[str, Any]:
        """Return what `GET /api/learner` says."""
        run = self._run_folder()
        curve: list[list[float | None]] = []
        epochs = None
        with contextlib.suppress(UnetresError):
            folder = RunFolder(run)
            for row in folder.read_history():
                curve.append([int(row["epoch"]), row.get("loss"), row.get("val_miou")])
            plan = folder.read_info().plan if RunFolder.is_run(run) else None
            epochs = None if plan is None else plan.epochs
        running = self._process is not None  # or has just ended, which is not yet taken note of
        strokes, images = self._counts()
        waits = (
            f"{len(images)} of {FEWEST_IMAGES} images or {strokes} of {FEWEST_STROKES} strokes are painted"
            if self._round == 0
            else f"{self._new_actions()} of {FEWEST_NEW} actions since the last training"
        )
        name = "training" if running else "stopped" if self._stopped else "failed" if self._reason else "waiting"
        if name == "training" and self._last_line().startswith("export"):
            name = "exporting"
        return {
            "state": name,
            "round": self._round,
            "epoch": int(curve[-1][0] or 0) if curve else 0,
            "epochs": epochs,
            "curve": curve[-500:],
            "reason": self._reason or ("" if running or self._stopped else waits),
            "file": str(self.file) if self.file.is_file() else None,
            "counts": {"images": len(images), "strokes": strokes, "complete": self._known.get("complete", 0)},
            "flattered": bool(self._known.get("flattered", False)),
        }

    def finished_run(self) -> Path | None:
        """Return the run folder of the newest round that ended well, or None."""
        last = self._round - (self._known.get("ended") is False)
        runs = (self._round_folder(number) / "run" for number in (last, last - 1))
        return next((run for run in runs if (run / "weights.safetensors").is_file()), None)

    def tile(self, index: int, of: str, level: int, place: tuple[int, int]) -> tuple[bytes, int]:
        """As `Predictions.tile`."""
        return self.predictions.tile(index, of, level, place)

    def accepted(self, index: int, values: Any) -> Any:
        """As `Predictions.accepted`."""
        return self.predictions.accepted(index, values)

    # Rounds

    def _read(self) -> tuple[int, dict[str, Any]]:
        """Return the number of the last round, and what is known of it."""
        try:
            known = parse_state((self._folder / _STATE).read_bytes())
            start = known.get("start")
            if not _is_sound(known) or not isinstance(start, (str, type(None))):
                return 0, {}
            if start:  # of this project, wherever it lies by now
                known["start"] = str(self._folder / Path(start).parent.name / "run")
            return known["round"], known
        except (AttributeError, OSError, ValueError, KeyError, TypeError, RecursionError):
            return 0, {}

    def _keep(self, **changes: Any) -> None:
        self._known |= {"round": self._round, **changes}
        write_json(self._folder / _STATE, self._known)

    def _round_folder(self, number: int) -> Path:
        return self._folder / f"round-{number:04d}"

    def _run_folder(self) -> Path:
        return self._round_folder(self._round) / "run"

    def _counts(self) -> tuple[int, list[int]]:
        images = painted_images(self._project)
        return sum(len(state.done) for state in self._project.images), images

    def _new_actions(self) -> int:
        return max(0, self._project.revision - int(self._known.get("revision", 0)))

    def _watch(self) -> None:
        while not self._ended.wait(_PATIENCE):
            self._step()
            now = self.state()
            if now != self._told:
                self._told = now
                self._project.tell({"learner": now})

    def _step(self) -> None:
        """Take note of a round that ended; start one if it is time."""
        with self._lock:
            try:
                if self._process is not None and self._process.poll() is not None:
                    self._finish(self._process.returncode)
                    self._process = None
                begins = self._process is None and not self._stopped and not self._ended.is_set() and self._is_time()
                self._asked = False  # also where one is at work already, after which no other is asked for
                if begins:
                    self._begin()
            except (OSError, UnetresError) as error:
                self._reason, self._stopped = str(error), True

    def _is_time(self) -> bool:
        if self._asked or self._reason:
            return self._asked
        if self._known.get("ended") is False:  # one that was not done goes on
            return True
        if not self._by_itself:
            return False
        strokes, images = self._counts()
        if self._round == 0:
            return bool(images) and (len(images) >= FEWEST_IMAGES or strokes >= FEWEST_STROKES)
        return self._new_actions() >= FEWEST_NEW

    def _begin(self) -> None:
        self._reason = ""
        if self._known.get("ended") is not False:
            self._next_round()
        folder = self._round_folder(self._round)
        words = [*self._command, str(folder / "data"), str(folder / "run"), str(folder / "model.tflite")]
        words += ["--minutes", f"{self._minutes:g}", "--parent", str(os.getpid())]
        before = self._known.get("start")
        if before:
            words += ["--start", before]
        with os.fdopen(open_in_place(folder / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as log:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        if hasattr(os, "setpriority"):
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICE)

    def _next_round(self) -> None:
        """Make the folder of another round with a snapshot; remove those of earlier ones that nothing needs."""
        last = self._run_folder()
        start = str(last) if self._round and (last / "weights.safetensors").is_file() else self._known.get("start")
        number = self._round + 1
        folder = self._round_folder(number)
        shutil.rmtree(folder, ignore_errors=True)  # of one that was killed while it was made
        snapshot = self._write_snapshot(make_folder(folder / "data"))
        self._round = number
        about = {"images": snapshot.images, "complete": snapshot.complete, "flattered": snapshot.flattered}
        self._keep(ended=False, start=start, revision=snapshot.revision, begun=round(time.time()), **about)
        kept = {self._round_folder(number - back).name for back in range(_ROUNDS_KEPT)}
        if start:
            kept.add(Path(start).parent.name)
        for old in self._folder.glob("round-*"):
            if old.name not in kept:
                shutil.rmtree(old, ignore_errors=True)

    def _write_snapshot(self, folder: Path) -> Snapshot:
        """Write what is painted, and beside it what the newest file is sure of, if there is one."""
        if not self.predictions.ready:
            return write_snapshot(self._project, folder)
        from unetres_edge import Segmenter

        with Segmenter(self.file) as opened:
            few = set(painted_images(self._project)[-MOST_ASKED:])

            def sure(index: int) -> np.ndarray | None:
                picture = self._project.image(index).picture
                if index not in few or picture.width * picture.height > LARGE:
                    return None
                try:
                    result = opened.segment(self._project.picture_file(index), confidence=True)
                except UnetresError:
                    return None
                assert result.confidence is not None
                return np.where(result.confidence >= SURE, result.class_map, np.uint8(IGNORE))

            return write_snapshot(self._project, folder, sure)

    def _finish(self, code: int) -> None:
        made = self._round_folder(self._round) / "model.tflite"
        if code == 0 and made.is_file():
            for ending in (".receipt.json", ".receipt.html", ".tflite"):  # the model last
                source = made.with_name(made.stem + ending)
                if source.is_file():
                    os.replace(source, self.file.with_name(self.file.stem + ending))
            self._reason = ""
            self._keep(ended=True)
            self._use_file()
            return
        if self._stopped or self._ended.is_set() or code in (-signal.SIGTERM, 128 + signal.SIGTERM):
            return
        if code < 0:
            self._reason = (
                f"the training was ended by signal {-code}, perhaps for want of memory; it can be gone on with"
            )
            return
        self._keep(ended=True)
        self._reason = self._last_line().removeprefix("error").strip() or f"the training ended with {code}"

    def _last_line(self) -> str:
        try:
            lines = (self._round_folder(self._round) / "log.txt").read_bytes().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return next((line for line in reversed(lines) if line.strip()), "")

    def _use_file(self) -> None:
        try:
            self.predictions.use(self.file)
        except UnetresError as error:
            self._reason = str(error)
            return
        for index in (*unpainted(self._project), *painted_images(self._project)[:MOST_WANTED]):
            self.predictions.want(index, first=False)


def _is_sound(known: Mapping[str, Any]) -> bool:
    """Whether `learner.json` says of the last round what a learner writes."""
    numbers = (known["round"], *(known.get(name, 0) for name in ("revision", "images", "complete", "begun")))
    start = known.get("start") or "round-0001/run"
    return (
        all(type(number) is int and 0 <= number < 2**53 for number in numbers)
        and known["round"] <= _MOST_ROUNDS
        and all(type(known.get(name, False)) is bool for name in ("ended", "flattered"))
        and re.fullmatch(r"round-\d{4,7}", Path(start).parent.name) is not None
    )
