"""The lock of a folder: where the disk has locks, where it has none, and on Windows."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from keras_unetres.runs import lock
from unetres_edge.errors import FileSystemError, RunFolderError

ROUNDS = 40


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a disk that knows no locks."""

    def refuse(handle: int) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_lock", refuse)
    monkeypatch.setattr(lock, "_SETTLE", 0.01)


@pytest.fixture(params=["with locks", "without"])
def disk(request: pytest.FixtureRequest) -> str:
    if request.param == "without":
        request.getfixturevalue("no_locks")
    return str(request.param)


@pytest.mark.usefixtures("disk")
def test_one_holds_it_and_another_is_refused(tmp_path: Path) -> None:
    with lock.hold(tmp_path):
        with (
            pytest.raises(RunFolderError, match=f"process {os.getpid()} is writing to it; fix: wait for it"),
            lock.hold(tmp_path),
        ):
            raise AssertionError("two hold it")
        assert (tmp_path / ".lock").exists()
    assert list(tmp_path.iterdir()) == []


def _race(folder: Path, start: Any, inside: Any, twice: Any) -> None:
    for _ in range(ROUNDS):
        start.wait()
        with contextlib.suppress(RunFolderError), lock.hold(folder):
            with inside.get_lock():
                inside.value += 1
                twice.value += inside.value > 1
            time.sleep(0.001)
            with inside.get_lock():
                inside.value -= 1


@pytest.mark.skipif(os.name != "posix", reason="forks")
@pytest.mark.parametrize("before", [None, "999999999"], ids=["new", "after a kill"])
def test_of_two_that_start_at_one_moment_one_holds_it(tmp_path: Path, before: str | None) -> None:
    fork = multiprocessing.get_context("fork")
    path = tmp_path / ".lock"
    start = fork.Barrier(2, action=None if before is None else lambda: path.write_text(before), timeout=60)
    inside, twice = fork.Value("i", 0), fork.Value("i", 0)
    both = [fork.Process(target=_race, args=(tmp_path, start, inside, twice)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(90)
    assert [process.exitcode for process in both] == [0, 0]
    assert twice.value == 0


def owner(**changes: object) -> dict[str, object]:
    return {"process": os.getpid(), **lock.machine(), "started": lock._started(os.getpid()), "token": "a", **changes}


def left_behind(folder: Path, text: str, *, age: float) -> None:
    path = folder / ".lock"
    path.write_text(text)
    os.utime(path, (time.time() - age, time.time() - age))


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize(
    ("text", "age", "held"),
    [
        (json.dumps(owner()), 10_000, sys.platform == "linux"),  # it lives, however long it was silent
        (json.dumps(owner(started="1")), 0, sys.platform != "linux"),  # its number is another program's by now
        (json.dumps(owner(process=2**22 + 1)), 0, sys.platform != "linux"),
        (json.dumps(owner(host="far")), 10, True),
        (json.dumps(owner(host="far")), 10_000, False),
        (json.dumps(owner(boot="before")), 10, True),
        (json.dumps(owner(space="pid:[1]")), 10_000, False),  # another container
        (str(os.getpid()), 10, True),  # of an earlier version
        (str(os.getpid()), 10_000, False),
        ("[" * 100_000, 10_000, False),
    ],
    ids=[
        "silent",
        "number of another",
        "number of none",
        "another host",
        "another host, silent",
        "before a restart",
        "another container, silent",
        "earlier version",
        "earlier version, silent",
        "not readable",
    ],
)
def test_whether_a_lock_on_a_disk_without_locks_is_held(tmp_path: Path, text: str, age: float, held: bool) -> None:
    left_behind(tmp_path, text, age=age)
    with pytest.raises(RunFolderError, match="is writing") if held else contextlib.nullcontext(), lock.hold(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["process"] == os.getpid()
    assert [path.name for path in tmp_path.iterdir()] == ([".lock"] if held else [])


@pytest.mark.usefixtures("no_locks")
def test_the_holder_touches_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.02)
    with lock.hold(tmp_path):
        left_behind(tmp_path, (tmp_path / ".lock").read_text(), age=10_000)
        end = time.monotonic() + 20
        while time.time() - (tmp_path / ".lock").stat().st_mtime > 5_000:
            assert time.monotonic() < end, "never touched"
            time.sleep(0.01)
    assert not any(thread.name == "lock of a run" for thread in threading.enumerate())


@pytest.mark.usefixtures("no_locks")
def test_who_takes_over_a_lock_that_became_another_ones_puts_it_back(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.write_text(json.dumps(owner(token="new")))
    lock._remove(path, owner(token="dead"))
    assert json.loads(path.read_text())["token"] == "new"
    lock._remove(path, owner(token="new"))
    assert list(tmp_path.iterdir()) == []


def test_on_windows_a_byte_far_behind_the_text_is_locked(tmp_path: Path) -> None:
    code = f"""
import os, sys, types
import keras_unetres.runs.lock as lock
calls = []
def locking(handle, mode, count):
    calls.append((os.lseek(handle, 0, os.SEEK_CUR), mode, count))
    if len(calls) > 1: raise PermissionError(13, "Permission denied")
sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=locking)
lock.sys = types.SimpleNamespace(platform="win32")
handle = os.open({str(tmp_path / "x")!r}, os.O_CREAT | os.O_RDWR)
assert lock._lock(handle) and not lock._lock(handle)
assert calls == [(1 << 30, 2, 1)] * 2, calls
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileSystemError, match="cannot lock"), lock.hold(tmp_path / "none"):
        pass
