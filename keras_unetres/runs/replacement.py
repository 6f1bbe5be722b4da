"""Replacing a run: the earlier one is put aside, and removed once its successor has weights.

It lies in `replaced/`, inside the run folder, so that the folder stays what it is: a link, a mount.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from unetres_edge.errors import FileSystemError

REPLACED = "replaced"
WEIGHTS = "weights.safetensors"
SEARCH = "search.json"  # of a run whose network is still sought, or was
_CHECKPOINTS = "checkpoints"
# All that a run writes; `run.json`, which makes a folder a run, goes first and the weights last.
_FILES = (
    "run.json",
    "plan.json",
    "device.json",
    SEARCH,
    "search",
    "history.csv",
    "report.html",
    "report.json",
    "calibration.npz",
    "samples",
    "tensorboard",
    _CHECKPOINTS,
    WEIGHTS,
)


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run, or one that was put aside by a process that was killed then."""
    return any(_is_info(path / name) for path in (folder, folder / REPLACED) for name in ("run.json", SEARCH))


def _is_info(file: Path) -> bool:
    try:
        values = json.loads(file.read_bytes())
    except (OSError, RecursionError, ValueError):
        return False
    return isinstance(values, dict) and "schema" in values


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[None]:
    """Put the run of a folder aside; put it back if what follows fails and leaves nothing to go on from.

    Raises:
        FileSystemError: a file cannot be moved; the run is as it was.
    """
    try:
        _put_aside(folder)
    except OSError as error:
        _put_back(folder, whole=False)
        raise FileSystemError(f"cannot replace the run: {error.strerror or error}", file=folder) from error
    try:
        yield
    except BaseException:
        going = (WEIGHTS, SEARCH, f"{_CHECKPOINTS}/last.safetensors")
        if not any((folder / name).is_file() for name in going):
            _put_back(folder, whole=True)
        raise


def drop_replaced(folder: Path) -> None:
    """Remove the run that was put aside, if there is one."""
    if (folder / REPLACED).exists():
        with contextlib.suppress(OSError):  # it is in nobody's way
            _remove(folder / REPLACED)


def _put_aside(folder: Path) -> None:
    aside = folder / REPLACED
    if (folder / WEIGHTS).is_file() and (aside / WEIGHTS).is_file():
        _remove(aside)  # by a process that was killed before it could
    there = [name for name in _FILES if os.path.lexists(folder / name)]
    if there:
        aside.mkdir(exist_ok=True)
    for name in there:
        if os.path.lexists(aside / name):  # that of a run that has weights; this one was stopped before it had any
            _remove(folder / name)
        else:
            os.replace(folder / name, aside / name)


def _put_back(folder: Path, *, whole: bool) -> None:
    """Put back what was put aside; if that was the whole run, what lies there instead is of the one that failed."""
    aside = folder / REPLACED
    with contextlib.suppress(OSError):  # it can still be moved by hand
        for name in reversed(_FILES):
            there = os.path.lexists(aside / name)
            if there or (whole and aside.is_dir()):
                _remove(folder / name)
            if there:
                os.replace(aside / name, folder / name)
        aside.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
