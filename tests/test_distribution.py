"""Training on several devices: two of one process, and two processes that stand for two machines.

Both must do what one device does with the same batches. The processes run once for all tests; their script is
`devices_child.py`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from unetres_edge.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
CHILD = Path(__file__).with_name("devices_child.py")
SEVERAL = ("two devices", "machine 0", "machine 1")

# The largest differences seen are 3e-7 in the curve and 6e-7 in the weights: sums of float32 in another order.
CURVE_TOLERANCE, WEIGHTS_TOLERANCE = 2e-6, 2e-6
SECONDS = 300


def start(data: Path, out: Path, *, devices: int = 1, config: dict | None = None, pause: float = 0.0):
    path = os.pathsep.join([str(ROOT), str(ROOT / "edge" / "src")])
    env = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    env.pop("TF_CONFIG", None)
    if config is not None:
        env["TF_CONFIG"] = json.dumps(config)
    command = [sys.executable, str(CHILD), str(data), str(out), str(devices), str(pause)]
    with out.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)


def two_machines(data: Path, folder: Path, *, pause: float = 0.0) -> dict[str, subprocess.Popen]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    return {
        f"machine {index}": start(
            data,
            folder / f"machine {index}.npz",
            config={"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}},
            pause=pause,
        )
        for index in range(2)
    }


def finish(processes: dict[str, subprocess.Popen], folder: Path, *, good: bool = True) -> dict[str, str]:
    """Wait for all, end what is left, and return what each said."""
    end = time.monotonic() + SECONDS
    try:
        for process in processes.values():
            process.wait(max(0.1, end - time.monotonic()))
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    said = {name: (folder / f"{name}.log").read_text(errors="replace") for name in processes}
    for name, process in processes.items():
        assert not good or process.returncode == 0, f"{name}: {said[name][-3000:]}"
    return said


@pytest.fixture(scope="module")
def results(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("devices")
    processes = {
        "one device": start(cells, folder / "one device.npz"),
        "two devices": start(cells, folder / "two devices.npz", devices=2),
        **two_machines(cells, folder),
    }
    finish(processes, folder)
    return {name: dict(np.load(folder / f"{name}.npz")) for name in processes}


def difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray], prefix: str) -> float:
    names = [name for name in one if name.startswith(prefix)]
    assert names
    return max(float(np.abs(one[name].astype(np.float64) - other[name]).max()) for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("where", SEVERAL)
@pytest.mark.parametrize("case", ["bare", "norm"])
def test_the_loss_curve_and_the_weights_are_those_of_one_device(
    results: dict[str, dict[str, np.ndarray]], case: str, where: str
) -> None:
    one, other = results["one device"], results[where]
    curve = difference(one, other, f"{case}:curve")
    weights = difference(one, other, f"{case}:model/")
    moments = difference(one, other, f"{case}:optimizer/")
    print(f"{case} on {where}: curve {curve:.1e}, weights {weights:.1e}, optimizer {moments:.1e}")
    assert np.ptp(one[f"{case}:curve"][:, 0]) > 1e-3  # it moves
    assert curve <= CURVE_TOLERANCE
    assert max(weights, moments) <= WEIGHTS_TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("where", SEVERAL)
def test_validation_scores_are_those_of_one_device(results: dict[str, dict[str, np.ndarray]], where: str) -> None:
    one, other = results["one device"], results[where]
    assert one["norm:scores"].shape == (2,)
    assert difference(one, other, "norm:scores") <= 10 * CURVE_TOLERANCE


@pytest.mark.slow
def test_machines_end_with_equal_weights(results: dict[str, dict[str, np.ndarray]]) -> None:
    one, other = results["machine 0"], results["machine 1"]
    assert {name for name in one if not name.startswith("words")}
    assert [name for name in one if not name.startswith("words:") and not np.array_equal(one[name], other[name])] == []


@pytest.mark.slow
def test_statistics_of_each_device_give_another_result(results: dict[str, dict[str, np.ndarray]]) -> None:
    found = results["two devices"]
    apart = {name.replace("apart", "norm"): value for name, value in found.items() if name.startswith("apart:")}
    assert difference({"norm:curve": apart["norm:curve"]}, found, "norm:curve") > 100 * CURVE_TOLERANCE


@pytest.mark.slow
def test_state_that_was_saved_goes_on_bit_for_bit(results: dict[str, dict[str, np.ndarray]]) -> None:
    found = results["two devices"]
    assert found["again:equal"].all()
    assert found["again:sums"].all()


@pytest.mark.slow
def test_a_batch_that_the_devices_cannot_share_is_refused(results: dict[str, dict[str, np.ndarray]]) -> None:
    assert results["two devices"]["uneven:refused"]


@pytest.mark.slow
def test_machines_agree(results: dict[str, dict[str, np.ndarray]]) -> None:
    for name in ("machine 0", "machine 1"):
        found = results[name]
        assert found["words:chief"].tolist() == [1.0, 0.1]
        assert found["words:any"].tolist() == [True, False]
        assert found["words:refused"]


@pytest.mark.long
@pytest.mark.parametrize("dead", [0, 1])
def test_a_machine_that_dies_ends_the_other_by_name(cells: Path, tmp_path: Path, dead: int) -> None:
    processes = two_machines(cells, tmp_path, pause=1.0)
    log = tmp_path / "machine 0.log"
    end = time.monotonic() + SECONDS
    while "step 1" not in log.read_text() and time.monotonic() < end:
        time.sleep(0.1)
    processes[f"machine {dead}"].send_signal(signal.SIGKILL)
    said = finish(processes, tmp_path, good=False)[f"machine {1 - dead}"]
    assert "TrainingError: training: a machine does not answer any more" in said
    assert processes[f"machine {1 - dead}"].returncode == 1


GOOD = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, None),
        ("", None),
        (GOOD, (1, 2)),
        ({"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "task": {"type": "chief", "index": 0}}, (0, 3)),
        ({"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "task": {"type": "worker", "index": 0}}, (1, 3)),
        ({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}, None),
    ],
)
def test_a_cluster_is_read(config: dict | str | None, expected: tuple[int, int] | None) -> None:
    from keras_unetres.training.distribution import read_cluster

    assert read_cluster(json.dumps(config) if isinstance(config, dict) else config) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        json.dumps({"cluster": GOOD["cluster"]}),
        json.dumps({**GOOD, "task": {"type": "worker", "index": 2}}),
        json.dumps({**GOOD, "task": {"type": "worker", "index": -1}}),
        json.dumps({**GOOD, "task": {"type": "chief", "index": 0}}),
        json.dumps({**GOOD, "task": {"type": "worker", "index": "first"}}),
        json.dumps({**GOOD, "cluster": {"worker": ["a:1", "b:1"], "ps": ["c:1"]}}),
        json.dumps({**GOOD, "cluster": {"worker": 2}}),
        json.dumps({**GOOD, "cluster": ["a:1", "b:1"]}),
    ],
)
def test_a_wrong_cluster_is_refused(text: str) -> None:
    from keras_unetres.training.distribution import read_cluster

    with pytest.raises(UsageError, match="TF_CONFIG is wrong"):
        read_cluster(text)


@pytest.mark.parametrize("devices", [0, 3])
def test_more_devices_than_there_are_is_refused(devices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from keras_unetres.training.distribution import find_distribution

    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UsageError, match="--devices is wrong"):
        find_distribution(devices)


def test_one_device_needs_no_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    from keras_unetres.training.distribution import find_distribution

    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert find_distribution(1) is None
