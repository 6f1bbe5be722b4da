"""Kill an export at each step of writing, or let the disk be full there, and look at what lies in its folder then.

    python tests/write_faults.py RUN FOLDER

An earlier export is in the folder. A parent that has imported TensorFlow, but not used it, forks a child for each
attempt; the first one keeps what the converter made for the others. Steps are the calls of `unetres_edge.files`: a new
temporary file, the rights of the file that it replaces, half of its bytes, the other half, fsync, rename, fsync of the
folder.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from kills import fork, prepare

NAME = "m.tflite"
FILES = (NAME, "m.receipt.json", "m.receipt.html")
NO_ROOM = 3  # exit status of a child that met the full disk and said so


class Fault:
    """Stands for `os` where files are written, counts the steps of writing below a folder, and fails at one of them.

    Args:
        folder: where steps count.
        at: the step that fails, from 1; 0 for none.
        kill: whether the process is killed there; else there is no room on the disk.
    """

    def __init__(self, folder: Path, at: int, kill: bool) -> None:
        self._folder, self._at, self._kill, self._inside = str(folder), at, kill, False
        self.steps = 0

    def __getattr__(self, name: str) -> Any:
        given = getattr(os, name)
        if name not in ("fsync", "fchmod", "replace"):
            return given

        def counted(*arguments: Any) -> Any:
            self._step()
            return given(*arguments)

        return counted

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            self._inside = os.fspath(path.parent) == self._folder
            self._step()
        return os.open(path, flags, mode)

    def fdopen(self, handle: int, mode: str) -> Any:
        file = os.fdopen(handle, mode, buffering=0)
        write = file.write

        class Halves:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *error: object) -> None:
                file.close()

            def write(_, data: bytes) -> None:
                for half in (data[: len(data) // 2], data[len(data) // 2 :]):
                    write(half)
                    self._step()

            flush, fileno = file.flush, file.fileno

        return Halves()

    def _step(self) -> None:
        if not self._inside:
            return
        self.steps += 1
        if self.steps != self._at:
            return
        if self._kill:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def export_with(fault: Fault, run: Path, folder: Path, kept: Path, head: str = "logits") -> int:
    """Export over the earlier file; return the exit status that a command line would have."""
    from keras_unetres.tflite import convert
    from keras_unetres.workflows.export import export
    from unetres_edge import files, temporaries
    from unetres_edge.errors import FileSystemError

    numbers = iter(range(99))
    run_worker = convert._run_worker

    def run_once(*given: Any) -> list[bytes]:
        place = kept / str(next(numbers))
        if not place.is_dir():
            made = run_worker(*given)
            place.mkdir(parents=True)
            for number, data in enumerate(made):
                (place / str(number)).write_bytes(data)
        return [part.read_bytes() for part in sorted(place.iterdir())]

    convert._run_worker = run_once
    files.os = temporaries.os = fault
    try:
        export(
            run,
            folder / NAME,
            recipe="static_wi8_ai8",
            head=head,
            split="all",
            max_drop=50.0,
            overwrite=True,
            say=print,
        )
    except FileSystemError as error:
        print(error)
        return NO_ROOM if "No space left" in str(error) else 1
    return 0


def attempt(work: Callable[[], int], log: Path) -> int:
    """Run it in a child; return its exit status, or the signal that ended it, negative."""
    process = fork(lambda: os._exit(work()), log)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def campaign(run: Path, folder: Path) -> dict[str, object]:
    """Fail at every step, once by a kill and once for want of room; raise AssertionError where a file is not whole."""
    from unetres_edge import Segmenter

    kept, log = folder / "converted", folder / "log"
    count = folder / "count"
    old = folder / "old"
    old.mkdir(parents=True)

    def make_earlier() -> int:
        """Make the earlier export, which answers in another form."""
        return export_with(Fault(old, 0, False), run, old, folder / "converted_before", head="argmax")

    def undisturbed() -> int:
        """Count the steps of an export that takes its place."""
        place = folder / "undisturbed"
        shutil.copytree(old, place)
        fault = Fault(place, 0, False)
        code = export_with(fault, run, place, kept)
        count.write_text(str(fault.steps))
        return code

    for work in (make_earlier, undisturbed):
        assert attempt(work, log) == 0, log.read_text()[-3000:]
    steps = int(count.read_text())
    earlier = {name: (old / name).read_bytes() for name in FILES}
    found = Counter({f"{fault}, {file} file": 0 for fault in ("killed", "no room") for file in ("earlier", "new")})
    for kill in (True, False):
        for at in range(1, steps + 1):
            place = folder / f"{'kill' if kill else 'full'}{at}"
            shutil.copytree(old, place)
            code = attempt(partial(export_with, Fault(place, at, kill), run, place, kept), log)
            allowed = (-signal.SIGKILL,) if kill else (NO_ROOM, 0)  # 0: rights, and flushing a folder, are left out
            assert code in allowed, f"{place.name}: {code}; {log.read_text()[-2000:]}"
            left = [path.name for path in place.iterdir() if path.name not in FILES]
            assert all(name.startswith(".") and name.endswith(".tmp") for name in left), left
            assert kill or not left, f"{place.name}: left {left}"
            with Segmenter(place / NAME) as segmenter:
                assert segmenter.card.recipe == "static_wi8_ai8"
            json.loads((place / "m.receipt.json").read_text())
            assert (place / "m.receipt.html").read_text().rstrip().endswith("</html>")
            same = (place / NAME).read_bytes() == earlier[NAME]
            assert code or not same, f"{place.name}: it said that all went well"
            found["left out"] += not code
            found[f"{'killed' if kill else 'no room'}, {'earlier' if same else 'new'} file"] += 1
            found["temporaries left by kills"] += len(left)
            if left and at % 3 == 0:  # the next export takes them away
                assert attempt(partial(export_with, Fault(place, 0, False), run, place, kept), log) == 0
                assert sorted(path.name for path in place.iterdir()) == sorted(FILES)
                found["cleaned by the next export"] += 1
            shutil.rmtree(place)
    return {"steps": steps, **found}


if __name__ == "__main__":
    prepare()
    print(json.dumps(campaign(Path(sys.argv[1]), Path(sys.argv[2])), indent=1))
