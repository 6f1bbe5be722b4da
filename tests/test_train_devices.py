"""`unetres train` on several machines: two processes on loopback that write one run folder."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from keras_unetres.settings import FitSettings, TrainSettings
from keras_unetres.workflows.train import train
from unetres_edge.errors import TrainingError, UsageError

ROOT = Path(__file__).parent.parent
SETTINGS: list[object] = ["--no-plan", "--size", 32, "--filters", 4, "--depth", 2, "--batch", 8, "--epochs", 3]
SETTINGS += ["--precision", "float32"]  # which several CPUs take, and one need not
SETTINGS += ["--optimizer", "sgd", "--learning-rate", 0.05]  # Adam makes much of gradients that are nearly zero


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def machines(folder: Path, words: list[object]) -> list[subprocess.Popen[str]]:
    """Start the same command on two machines of this machine."""
    hosts = [f"127.0.0.1:{port}" for port in free_ports(2)]
    started = []
    for index in range(2):
        config = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'edge' / 'src'}",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_CONFIG": json.dumps(config),
        }
        command = [sys.executable, "-m", "keras_unetres.cli", "train", *map(str, words)]
        with (folder / f"machine{index}.log").open("a") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment, text=True))
    return started


def wait(folder: Path, processes: list[subprocess.Popen[str]]) -> list[int]:
    try:
        return [process.wait(timeout=240) for process in processes]
    except subprocess.TimeoutExpired:
        logs = "\n".join((folder / f"machine{index}.log").read_text()[-2000:] for index in range(2))
        raise AssertionError(logs) from None
    finally:
        for process in processes:
            process.kill()


def history(run: Path) -> list[list[float]]:
    with (run / "history.csv").open(newline="") as file:
        return [[float(value) for value in row if value] for row in list(csv.reader(file))[1:]]


@pytest.mark.long
def test_two_machines_learn_what_one_learns(cells: Path, tmp_path: Path) -> None:
    run = tmp_path / "two"
    codes = wait(tmp_path, machines(tmp_path, [cells, "--out", run, *SETTINGS]))
    logs = [(tmp_path / f"machine{index}.log").read_text() for index in range(2)]
    assert codes == [0, 0], logs
    for index, log in enumerate(logs):
        assert f"waiting for all 2 of TF_CONFIG; this is number {index}" in log
    assert "report " in logs[0]
    assert "report " not in logs[1]  # one of them writes
    alone = subprocess.run(
        [sys.executable, "-m", "keras_unetres.cli", "train", *map(str, [cells, "--out", tmp_path / "one", *SETTINGS])],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'edge' / 'src'}", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert alone.returncode == 0, alone.stderr
    for row, other in zip(history(run), history(tmp_path / "one"), strict=True):
        np.testing.assert_allclose(row, other, rtol=1e-4)
    weights = [load_file(folder / "weights.safetensors") for folder in (run, tmp_path / "one")]
    assert set(weights[0]) == set(weights[1])
    worst = max(float(np.abs(weights[0][name] - weights[1][name]).max()) for name in weights[0])
    print(f"largest difference of a weight {worst:.1e}")
    assert worst < 2e-5


@pytest.mark.long
def test_a_signal_to_one_machine_stops_both_and_both_go_on(cells: Path, tmp_path: Path) -> None:
    runs = [tmp_path / "whole" / "run", tmp_path / "stopped" / "run"]
    words: list[object] = [*SETTINGS, "--epochs", 40]
    for run in runs:
        run.parent.mkdir()
    assert wait(runs[0].parent, machines(runs[0].parent, [cells, "--out", runs[0], *words])) == [0, 0]
    started = machines(runs[1].parent, [cells, "--out", runs[1], *words])
    until = time.monotonic() + 120
    while not (runs[1] / "history.csv").is_file() and time.monotonic() < until:
        time.sleep(0.05)
    started[1].send_signal(signal.SIGTERM)
    assert wait(runs[1].parent, started) == [143, 143]
    assert len(history(runs[1])) < 40
    assert wait(runs[1].parent, machines(runs[1].parent, ["--resume", runs[1]])) == [0, 0]
    for name in ("weights.safetensors", "history.csv", "checkpoints/last.safetensors"):
        assert (runs[0] / name).read_bytes() == (runs[1] / name).read_bytes(), name


@pytest.mark.long
def test_a_lost_machine_ends_the_other_and_threads_do_not_pile_up(cells: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    started = machines(tmp_path, [cells, "--out", run, *SETTINGS, "--epochs", 2000])
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and not ((run / "history.csv").is_file() and len(history(run)) > 20):
            time.sleep(0.2)
        if sys.platform == "linux":
            assert len(os.listdir(f"/proc/{started[0].pid}/task")) < 500
        started[1].kill()
        assert started[0].wait(timeout=120) == TrainingError.exit_code
        assert "a machine does not answer any more" in (tmp_path / "machine0.log").read_text()
    finally:
        for process in started:
            process.kill()


def test_more_devices_than_there_are_is_named(cells: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--devices is wrong.*found 7"):
        train(cells, tmp_path / "run", TrainSettings(fit=FitSettings(batch=7, devices=7)))
    assert not (tmp_path / "run").exists()
