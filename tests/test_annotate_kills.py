"""A server, a training and a browser that are killed at any moment: what was answered is there, each once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from annotate_kills import kill_browser, kill_server, kill_training
from annotate_page import find_browser

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")


@pytest.mark.parametrize("kills", (2, pytest.param(60, marks=pytest.mark.long)))
def test_no_stroke_is_lost_when_the_server_is_killed(tmp_path: Path, kills: int) -> None:
    assert kill_server(tmp_path, kills, seed=7)["actions answered"] >= 25


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for the training's process in /proc")
def test_a_training_that_is_killed_beside_the_painting_comes_out_the_same(tmp_path: Path) -> None:
    found = kill_training(tmp_path, 8, seed=7)
    assert found["trainings the same"] >= 1
    assert found["differ"] == []


@pytest.mark.long
def test_no_stroke_is_lost_when_the_browser_is_killed(tmp_path: Path) -> None:
    find_browser()
    found = kill_browser(tmp_path, 6, seed=7)
    assert found["in the journal"] >= 6


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
