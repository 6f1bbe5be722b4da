"""Kill training again and again, resume it, and compare what comes out with a run that nothing disturbed.

    python tests/kills.py [KILLS] [SEED]

A parent that has imported TensorFlow, but not used it, forks a child for each attempt. Half of the kills come at any
time of a run, a quarter a random moment after a random step, and a quarter as soon as a random write has begun. Bytes
in shared memory tell how far the child is, and whether it was inside a write when it was killed.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

FILES = ("weights.safetensors", "history.csv", "checkpoints/last.safetensors", "calibration.npz")
SETTINGS = {
    "plan": False,
    "size": 32,
    "filters": 4,
    "depth": 2,
    "batch": 8,
    "epochs": 6,
    "dropout": 0.2,
    "learning_rate": 0.01,
    "seed": 3,
    "ema": 0.9,
    "checkpoint_seconds": 0.0,
    "balance": 0.5,
    "deep_supervision": True,
}
STEPS = 18


class Shared:
    """What a child tells its parent while it lives: steps done, whether it is inside a write, and writes begun."""

    def __init__(self) -> None:
        self._bytes = mmap.mmap(-1, 3)

    @property
    def steps(self) -> int:
        return self._bytes[0]

    @property
    def writing(self) -> bool:
        return self._bytes[1] != 0

    def clear(self) -> None:
        self._bytes[:] = b"\0\0\0"

    @property
    def writes(self) -> int:
        return self._bytes[2]

    def watch(self) -> None:
        """Note every step and every write of this process."""
        import keras_unetres.runs as runs
        from keras_unetres.training.callbacks import LearningRate
        from unetres_edge import files

        write, begin = files.write_bytes, LearningRate.on_train_batch_begin

        def noted(path: os.PathLike[str], data: bytes) -> None:
            self._bytes[1] = 1
            self._bytes[2] += 1
            write(path, data)
            self._bytes[1] = 0

        def step(callback: LearningRate, batch: int, logs: object = None) -> None:
            begin(callback, batch)
            self._bytes[0] += 1

        runs.write_bytes = files.write_bytes = noted
        LearningRate.on_train_batch_begin = step


def attempt(data: Path, run: Path) -> None:
    """Do what a user does: start the run, or go on with it if it is there."""
    from keras_unetres.runs import RunFolder
    from keras_unetres.settings import TrainSettings
    from keras_unetres.workflows.train import resume, train

    if (run / "run.json").is_file():
        RunFolder(run).read_info()
        resume(run, settings={"checkpoint_seconds": 0.0}, say=lambda line: None)
    else:
        train(data, run, TrainSettings.from_flat(SETTINGS), say=lambda line: None)


def fork(work: Callable[[], None], log: Path) -> int:
    """Run `work` in a child and return its process id; what it prints goes to a file."""
    process = os.fork()
    if process:
        return process
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finish(data: Path, run: Path, log: Path, seconds: float = 240.0) -> float:
    """Let the run come to its end in a child, and return how long it took."""
    start = time.perf_counter()
    process = fork(lambda: attempt(data, run), log)
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            break
        if time.perf_counter() - start > seconds:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            raise AssertionError(f"{run}: not done after {seconds:.0f} s; {log.read_text()[-2000:]}")
        time.sleep(0.05)
    if status:
        raise AssertionError(f"{run}: ended with {status}; {log.read_text()[-3000:]}")
    return time.perf_counter() - start


def kill_once(data: Path, run: Path, log: Path, rng: random.Random, shared: Shared, usual: float) -> str:
    """Start or resume, kill, and return where it was hit: "before a step", "in a step", "in a write" or "too late"."""
    shared.clear()

    def work() -> None:
        shared.watch()
        attempt(data, run)

    kind = rng.random()
    limit = usual * rng.random() if kind < 0.5 else 120.0
    number = rng.randrange(1, STEPS + 1)
    process = fork(work, log)
    limit += time.perf_counter()
    while time.perf_counter() < limit:
        if kind >= 0.5 and (shared.steps if kind < 0.75 else shared.writes) >= number:
            break
        if os.waitpid(process, os.WNOHANG)[0]:
            return "too late"
        if kind < 0.75 or shared.writes < number - 1:
            time.sleep(0.0005)
    if 0.5 <= kind < 0.75:
        time.sleep(rng.random() * 0.04)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if not os.WIFSIGNALED(status):
        return "too late"
    return "in a write" if shared.writing else "in a step" if shared.steps else "before a step"


def campaign(folder: Path, kills: int, seed: int) -> dict[str, object]:
    """Kill `kills` times, one to four times a run; raise AssertionError where a run does not come out as it should."""
    from keras_unetres.data.synthetic import write_cells

    rng = random.Random(seed)
    shared = Shared()
    data = write_cells(folder / "cells", num_images=8, size=(64, 64))
    whole = folder / "whole"
    usual = finish(data, whole, folder / "whole.log")
    expected = {name: (whole / name).read_bytes() for name in FILES}
    steps = json.loads((whole / "run.json").read_text())["plan"]
    assert steps["epochs"] * steps["steps_per_epoch"] == STEPS
    hits: Counter[str] = Counter()
    runs = 0
    while sum(hits.values()) - hits["too late"] < kills:
        run, log = folder / f"run{runs}", folder / f"run{runs}.log"
        for _ in range(rng.randint(1, 4)):
            hits[kill_once(data, run, log, rng, shared, usual)] += 1
            if sum(hits.values()) - hits["too late"] == kills:
                break
        finish(data, run, log)
        for name in FILES:
            assert (run / name).read_bytes() == expected[name], f"{run}: {name} differs"
        assert not list(run.rglob(".*")), f"{run}: left behind {list(run.rglob('.*'))}"
        runs += 1
        print(f"{runs} runs, {dict(hits)}", flush=True)
    return {"kills": kills, "runs": runs, **{f"killed {where}": count for where, count in sorted(hits.items())}}


def prepare() -> None:
    """Import what a child needs, without using TensorFlow."""
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    import keras_unetres.data.pipeline
    import keras_unetres.training.fit
    import keras_unetres.workflows.train  # noqa: F401


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    wanted = [int(word) for word in sys.argv[1:]]
    prepare()
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(campaign(Path(place), *(wanted + [60, 1][len(wanted) :])), indent=2))
