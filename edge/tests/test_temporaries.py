"""What killed processes leave beside a file goes with the next write; folders of many files are whole or not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from unetres_edge import temporaries
from unetres_edge.errors import ExistsError, FileSystemError
from unetres_edge.files import building, check_free, make_folder, write_bytes

KILLED = """
import os, signal, sys
from unetres_edge import files
files.os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
files.write_bytes(sys.argv[1], b"half")
"""
KILLED_FOLDER = """
import os, signal, sys
from pathlib import Path
from unetres_edge.files import building, write_bytes
with building(sys.argv[1]) as new:
    write_bytes(new / "a", b"a")
    os.kill(os.getpid(), int(sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def nothing_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be one that has written nowhere yet."""
    monkeypatch.setattr(temporaries, "_swept", set())


def run(code: str, *arguments: object) -> int:
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], timeout=60).returncode


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGKILL")
def test_the_next_write_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    assert run(KILLED, tmp_path / "a.png") == -signal.SIGKILL
    (left,) = names(tmp_path)
    assert left.startswith(".a.png.")
    write_bytes(tmp_path / "b.json", b"{}")
    assert names(tmp_path) == ["b.json"]


@pytest.mark.skipif(os.name != "posix", reason="whether a process lives cannot be asked there")
def test_what_others_write_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    here, dead = temporaries._this_machine(), 999999999
    stay = [
        f".a.{os.getpid()}.{here}.0123abcd.tmp",  # of a living process
        f".a.{dead}.{'f' * 8}.0123abcd.tmp",  # of another machine, which has processes of its own
        f".a.{dead}.tmp",
        f"a.{dead}.{here}.0123abcd.tmp",
        f".a.{'9' * 100}.png",
    ]
    gone = [f".a.{dead}.{here}.0123abcd.tmp", f".a.{'9' * 100}.{here}.0123abcd.tmp"]
    for name in stay + gone:
        (tmp_path / name).write_bytes(b"half")
    other = tmp_path.with_name("precious")
    other.mkdir()
    (other / "a").write_bytes(b"a")
    (tmp_path / f".l.{dead}.{here}.0123abcd.tmp").symlink_to(other)
    write_bytes(tmp_path / "b.json", b"{}")
    assert names(tmp_path) == sorted([*stay, "b.json"])
    assert names(other) == ["a"]


@pytest.mark.parametrize("there", [False, True], ids=["new", "empty"])
def test_a_folder_is_whole_or_not_there(there: bool, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    if there:
        out.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), building(out) as new:
        write_bytes(new / "a", b"a")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.rglob("*")] == (["deep", "out"] if there else ["deep"])
    if os.name == "posix":
        assert run(KILLED_FOLDER, out, int(signal.SIGKILL)) == -signal.SIGKILL
        check_free(out)
        temporaries._swept.clear()  # the next one is another process
    with building(out) as new:
        write_bytes(new / "b", b"b")
    assert names(out) == ["b"]
    assert names(out.parent) == ["out"]
    with pytest.raises(ExistsError, match="the output exists already"):
        check_free(out)


def test_of_two_that_build_one_folder_the_second_is_refused(tmp_path: Path) -> None:
    for out in (tmp_path / "new", tmp_path / "empty"):
        if out.name == "empty":
            out.mkdir()
        with pytest.raises(ExistsError), building(out) as new:
            (new / "a").write_bytes(b"a")
            out.mkdir(exist_ok=True)
            (out / "of_another").write_bytes(b"b")
        assert names(out) == ["of_another"]
    assert names(tmp_path) == ["empty", "new"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileSystemError, match="file"), building(tmp_path / "file" / "out"):
        pass
    with pytest.raises(ExistsError):
        check_free(tmp_path / "file")
    with pytest.raises(FileSystemError, match="cannot create the folder"):
        make_folder(tmp_path / ("a/" * 5000))
