"""Training that is killed, runs out of disk, or meets numbers that are not finite; and the same command twice."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, silent

from keras_unetres.data import pipeline
from keras_unetres.runs import RunFolder
from keras_unetres.settings import TrainSettings
from keras_unetres.workflows.train import resume, train
from unetres_edge.errors import TrainingError

HERE = Path(__file__).parent
ROOT = HERE.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'edge' / 'src'}", "TF_CPP_MIN_LOG_LEVEL": "3"}


def python(*words: object, env: dict[str, str] = ENVIRONMENT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=3000)


def digests(run: Path) -> dict[str, str]:
    names = ("weights.safetensors", "history.csv", "checkpoints/last.safetensors", "calibration.npz")
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in names}


@pytest.mark.parametrize("kills", [pytest.param(1, marks=pytest.mark.slow), pytest.param(60, marks=pytest.mark.long)])
def test_a_killed_run_comes_out_as_if_nothing_had_been(kills: int) -> None:
    done = python(HERE / "kills.py", kills, 7)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert found["kills"] == kills
    assert kills < 60 or found["killed in a write"] >= 5, "too few kills came where there was something to lose"


@pytest.mark.long
def test_an_export_that_is_stopped_at_any_write_leaves_whole_files(run_folder: Path, tmp_path: Path) -> None:
    done = python(HERE / "write_faults.py", run_folder, tmp_path / "exports")
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout[done.stdout.index("{\n") :])
    print(found)
    assert found["steps"] >= 3 * 7  # model, receipt, page
    for fault in ("killed", "no room"):
        assert found[f"{fault}, earlier file"] + found[f"{fault}, new file"] == found["steps"]
        assert found[f"{fault}, earlier file"] >= 5  # up to the rename of the model
    assert found["cleaned by the next export"] >= 1


WRITES = ("write", "fsync", "rename", "renameat", "renameat2", "chmod", "fchmodat", "unlink")
REWRITE = """
import sys
from keras_unetres.runs import RunFolder
run = RunFolder(sys.argv[1])
tensors, state = run.read_checkpoint()
with run.lock():
    run.write_checkpoint({name: value + 1 for name, value in tensors.items()}, {**state, "step": state["step"] + 1})
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace, which kills a process at a system call")
def test_a_kill_at_every_write_of_a_checkpoint_leaves_the_old_or_the_new_one(run_folder: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    file = run.path / "checkpoints" / "last.safetensors"
    shutil.copytree(run_folder, run.path)
    old = file.read_bytes()
    assert python("-c", REWRITE, run.path).returncode == 0
    new = file.read_bytes()
    assert new != old
    outcomes = {}
    for call, number in ((call, number) for call in WRITES for number in range(1, 20)):
        if (call, number - 1) not in outcomes and number > 1:
            continue  # the process came to its end
        file.write_bytes(old)
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}"]
        command = ["strace", "-f", "-qq", "-o", os.devnull, *inject, sys.executable, "-c", REWRITE, os.fspath(run.path)]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
        if "ptrace" in done.stderr:
            pytest.skip("strace is not allowed to trace here")
        if done.returncode == 0:
            assert file.read_bytes() == new
            continue
        assert done.returncode == -signal.SIGKILL, done.stderr
        outcomes[call, number] = file.read_bytes()
        assert outcomes[call, number] in (old, new), f"killed at {call} {number}"
        assert run.read_checkpoint() is not None
    print(f"{len(outcomes)} places, new after {[place for place, found in outcomes.items() if found == new]}")
    assert {call for call, _ in outcomes} >= {"write", "fsync", "unlink"}
    assert outcomes["write", 1] == outcomes["fsync", 1] == old
    assert outcomes["fsync", 2] == new  # of the folder, after the rename
    assert list((run.path / "checkpoints").iterdir()) == [file]  # the last process took away what the others left


def test_a_run_killed_before_its_calibration_was_written_has_it_after_all(run_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    (run / "calibration.npz").unlink()
    resume(run, say=silent)
    assert digests(run) == digests(run_folder)


def test_what_a_run_killed_at_its_start_leaves_is_no_run(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    (run.path / ".lock").write_text("999999999")
    (run.path / ".run.json.x.tmp").write_text("{")
    RunFolder.check_new(run.path)
    RunFolder.create(run.path)
    (run.samples / "mine.png").write_text("")
    with pytest.raises(Exception, match="exists already"):
        RunFolder.check_new(run.path)


class _Poisoned:
    """Makes the images of one step's batch NaN."""

    def __init__(self, step: int) -> None:
        self.step = step
        self._whole = pipeline.training_batches

    def __call__(self, order: Any, augmentation: Any, *, first_step: int = 0, **named: Any) -> Any:
        import tensorflow as tf

        batches = self._whole(order, augmentation, first_step=first_step, **named).enumerate()

        def poison(number: Any, batch: Any) -> Any:
            factor = tf.where(number + first_step == self.step, np.float32(np.nan), np.float32(1))
            return (batch[0] * factor, *batch[1:])

        return batches.map(poison)


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.long)])
def test_a_loss_that_is_not_finite_names_the_images_and_harms_nothing(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    settings = TrainSettings.from_flat({**TINY, "batch": 2, "epochs": 1, "checkpoint_seconds": 0.0})
    steps = np.random.default_rng(5).integers(0, 12, count)
    for number, step in enumerate(int(n) for n in steps):
        poisoned = _Poisoned(step)
        orders: list[Any] = []

        def watched(
            order: Any, *given: Any, poisoned: _Poisoned = poisoned, orders: list[Any] = orders, **named: Any
        ) -> Any:
            orders.append(order)
            return poisoned(order, *given, **named)

        run = tmp_path / f"run{number}"
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, "training_batches", watched)
            with pytest.raises(TrainingError, match=rf"the loss is nan in epoch 1, step {step + 1};") as caught:
                train(cells, run, settings, say=silent)
        found = re.findall(r"cells_\d+\.png", str(caught.value.found))
        assert found == list(dict.fromkeys(orders[0].names(step)))
        if step:
            checkpoint = RunFolder(run).read_checkpoint()
            assert checkpoint is not None
            assert checkpoint[1]["step"] == step
            assert all(np.isfinite(value).all() for value in checkpoint[0].values())
        assert not (run / "weights.safetensors").exists()
        if number == 0:  # without what was wrong it goes on
            assert resume(run, say=silent)["steps"] == 12


SMALL_DISK = """
import sys
from keras_unetres.cli import main
sys.exit(main(sys.argv[1:]))
"""
SETTINGS: list[object] = [
    "--no-plan",
    "--size",
    32,
    "--filters",
    8,
    "--depth",
    2,
    "--batch",
    8,
    "--epochs",
    3,
    "--checkpoint-seconds",
    0,
]


@pytest.mark.slow
def test_a_file_that_may_not_grow_leaves_the_old_checkpoint(cells: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk, which needs rights to mount one."""
    run = tmp_path / "run"
    limited = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    env = {name: value for name, value in ENVIRONMENT.items() if name != "TF_XLA_FLAGS"}  # its cache would be first
    done = python("-c", limited + SMALL_DISK, "train", cells, "--out", run, *SETTINGS, env=env)
    assert done.returncode == 5, done.stderr[-2000:]
    assert "error: system: " in done.stderr
    assert "cannot write: File too large" in done.stderr
    assert not list(run.rglob(".*.tmp"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def _can_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    words = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", os.fspath(folder)]
    return subprocess.run(words, capture_output=True).returncode == 0


FULL = """
mount -t tmpfs -o size="$1" tmpfs "$2" || exit 99
shift
mkdir "$1/run"
"$3" -m keras_unetres.cli train "$2" --out "$1/run" ${@:5} > "$4.log" 2> "$4.err"
echo $? > "$4.code"
cp -r "$1/run" "$4.full"
"""


@pytest.mark.long
def test_a_full_disk_leaves_the_last_checkpoint(cells: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not _can_mount(disk):
        pytest.skip("mounting a small file system is not allowed here")
    whole = python("-m", "keras_unetres.cli", "train", cells, "--out", tmp_path / "whole", *SETTINGS)
    assert whole.returncode == 0, whole.stderr[-2000:]
    size = sum(path.stat().st_size for path in (tmp_path / "whole").rglob("*") if path.is_file())
    one = (tmp_path / "whole" / "checkpoints" / "last.safetensors").stat().st_size
    stopped = 0
    for number, room in enumerate(np.linspace(0.9 * one, size + 0.9 * one, 6).astype(int)):
        out = tmp_path / f"out{number}"
        words = ["unshare", "-m", "bash", "-c", FULL, "bash", f"{room // 1024}k", disk, cells, sys.executable, out]
        subprocess.run([*map(str, [*words, *SETTINGS])], env=ENVIRONMENT, check=True, timeout=300, cwd=ROOT)
        code = int(Path(f"{out}.code").read_text())
        assert code in (0, 5), Path(f"{out}.err").read_text()[-2000:]
        if code == 0:
            continue
        stopped += 1
        assert "No space left on device" in Path(f"{out}.err").read_text()
        run = Path(f"{out}.full")
        assert not list(run.rglob(".*.tmp"))
        if not (run / "run.json").is_file():
            continue
        RunFolder(run).read_checkpoint()  # whole, or not there
        again = python("-m", "keras_unetres.cli", "train", cells, "--resume", run, "--checkpoint-seconds", 0)
        assert again.returncode == 0, again.stderr[-2000:]
        assert digests(run) == digests(tmp_path / "whole")
    assert stopped >= 3


@pytest.mark.long
def test_the_same_command_gives_the_same_weights(cells: Path, tmp_path: Path) -> None:
    words = ["--ema", 0.9, "--dropout", 0.3, "--class-weights", "balanced", "--balance", 0.5]
    for number, seed in enumerate(("1", "2")):
        ENVIRONMENT["PYTHONHASHSEED"] = seed
        done = python("-m", "keras_unetres.cli", "train", cells, "--out", tmp_path / str(number), *SETTINGS, *words)
        assert done.returncode == 0, done.stderr[-2000:]
    assert digests(tmp_path / "0") == digests(tmp_path / "1")
