"""One training beside the painting, in a process of its own: `python -m keras_unetres.workflows.annotate_round`.

It trains on a snapshot of what is painted, from the weights of the training before, or goes on where it was stopped,
and writes the int8 file. What it prints is kept as a log; its last line says how it ended.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from unetres_edge.errors import Stopped, UnetresError, UsageError

from ..runs import RunFolder
from ..settings import TrainSettings

MAX_DROP = 5.0  # points that the file may lose, which only helps to paint; the one for a device is held to the usual


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, export, and return the exit code."""
    parser = argparse.ArgumentParser(prog="annotate_round")
    for name in ("data", "run", "file"):
        parser.add_argument(name)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--start")
    options = parser.parse_args(arguments)
    try:
        learn(options.data, options.run, options.file, options.minutes, options.start)
    except UnetresError as error:
        print(f"error     {error}", flush=True)
        return error.exit_code
    except Stopped as stop:
        return stop.exit_code
    return 0


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
