"""One training beside the painting, in a process of its own: `python -m keras_unetres.workflows.annotate_round`.

It trains on a snapshot of what is painted, from the weights of the training before, or goes on where it was stopped,
and writes the int8 file. What it prints is kept as a log; its last line says how it ended.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unetres_edge.errors import RunFolderError, Stopped, UnetresError, UsageError

from ..runs import RunFolder
from ..runs.lock import hold
from ..settings import TrainSettings

MAX_DROP = 5.0  # points that the file may lose, which only helps to paint; the one for a device is held to the usual
_LONGEST_WAIT = 120  # s, for a training that writes its last checkpoint


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, export, and return the exit code."""
    parser = argparse.ArgumentParser(prog="annotate_round")
    for name in ("data", "run", "file"):
        parser.add_argument(name)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--start")
    parser.add_argument("--parent", type=int, help="process with which it ends, at a checkpoint")
    options = parser.parse_args(arguments)
    if options.parent is not None:
        threading.Thread(target=end_with, args=(options.parent,), name="parent", daemon=True).start()
    wait_for_other(Path(options.run))
    try:
        learn(options.data, options.run, options.file, options.minutes, options.start)
    except UnetresError as error:
        print(f"error     {error}", flush=True)
        return error.exit_code
    except Stopped as stop:
        return stop.exit_code
    return 0


def end_with(parent: int) -> None:
    """End this process as SIGTERM does when its parent is gone, such as a server that was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def wait_for_other(run: Path) -> None:
    """Wait while the training of a server that was killed writes its last checkpoint to the same run."""
    for _ in range(_LONGEST_WAIT if run.is_dir() else 0):
        try:
            with hold(run):
                return
        except RunFolderError:
            time.sleep(1)


def learn(data: str, run: str, file: str, minutes: float, start: str | None) -> None:
    """Train on a snapshot and write the int8 file.

    Raises:
        UnetresError: the training or the export failed.
    """
    from .export import export
    from .train import resume, train

    if RunFolder.is_run(run):
        resume(run, data=data, say=_say)
    else:
        settings = TrainSettings()
        settings = replace(settings, fit=replace(settings.fit, minutes=minutes))
        try:
            train(data, run, settings, start=start, say=_say)
        except UsageError as error:
            if start is None:
                raise
            _say(f"note      {error}; it begins anew")
            train(data, run, settings, overwrite=True, say=_say)
    _say("export    ...")
    export(run, file, max_drop=MAX_DROP, overwrite=True, say=_say)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
