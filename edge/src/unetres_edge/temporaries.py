"""Temporary files and folders beside what they become: their names, and what happens to those of killed processes.

A name says which process of which start of which machine writes it, so that the next process that writes to the folder
removes what one that was killed has left there, and nothing that a living one, here or on another machine that shares
the folder, is writing.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"\..*\.(?P<process>\d+)\.(?P<machine>[0-9a-f]{8})\.[0-9a-f]{8}\.tmp", re.DOTALL)
_swept: set[str] = set()


def is_temporary(path: Path) -> bool:
    """Return whether a file is what a `write_bytes` that was killed leaves behind."""
    return path.name.startswith(".") and path.suffix == ".tmp" and path.is_file()


def create_file(path: Path, mode: int) -> tuple[int, str]:
    """Make a new file beside `path` with these rights, less those of the umask; return its handle and its name."""
    _sweep(path.parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    while True:
        name = _new_name(path)
        with contextlib.suppress(FileExistsError):
            return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), mode), os.fspath(name)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; what is still there at the end goes."""
    import shutil

    _sweep(path.parent)
    folder = _new_name(path)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_left_over(folder: str | os.PathLike[str]) -> None:
    """Remove what processes of this machine that live no more were writing into a folder."""
    import shutil

    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _NAME.fullmatch(entry.name)
            if found is None or found["machine"] != _this_machine() or _is_alive(found["process"]):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def machine() -> dict[str, str]:
    """Return what tells this start of this machine, or this container, from all others."""
    boot = space = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
    return {"host": platform.node(), "boot": boot, "space": space}


@functools.cache
def _this_machine() -> str:
    return hashlib.sha256("\0".join(machine().values()).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _new_name(path: Path) -> Path:
    return path.parent / f".{path.name[:32]}.{os.getpid()}.{_this_machine()}.{secrets.token_hex(4)}.tmp"


def _sweep(folder: Path) -> None:
    """Remove what is left over in a folder, once in each that this process writes to."""
    name = os.fspath(folder)
    if name not in _swept:
        _swept.add(name)
        remove_left_over(folder)


def _is_alive(process: str) -> bool:
    """Return whether this is the number of a process of this machine; where that cannot be told, it is one."""
    if os.name != "posix":
        return True
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError, ValueError):
        return False
    except OSError:
        return True
    return True
