"""The lock of a folder: at most one process writes to it, and a process that died never keeps it.

It is a lock of the operating system on the file `.lock`, which ends with the process that holds it, whatever number
that process had and whichever container it ran in. On a disk that has no such locks the file itself is the lock: it
says which process of which start of which machine holds it, and is touched every few seconds while that process lives.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unetres_edge.errors import FileSystemError, RunFolderError
from unetres_edge.files import open_in_place
from unetres_edge.temporaries import machine

FILE = ".lock"
BEAT = 15.0  # seconds between two touches of a lock on a disk without locks
SILENCE = 120.0  # seconds without a touch after which such a lock is that of a dead process
_SETTLE = 0.5  # seconds after which a lock that was taken over is looked at again
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK, errno.EWOULDBLOCK}
_WINDOWS_PLACE = 1 << 30  # of the byte that is locked: Windows lets nobody read what is locked


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a folder for writing.

    Raises:
        RunFolderError: another process holds it, or another lock of this one.
        FileSystemError: the folder does not exist or is not writable.
    """
    path = folder / FILE
    try:
        handle = _take(path)
        if handle is None:
            raise _held(folder, path)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise FileSystemError(f"cannot lock: {error.strerror or error}", file=path) from error
        with _hold_by_file(folder, path):
            yield
        return
    try:
        yield
    finally:
        if os.name == "posix":  # while it is held: who waits at this file then sees that it is gone
            path.unlink(missing_ok=True)
        os.close(handle)
        if os.name != "posix":  # which removes no file that somebody holds
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _take(path: Path) -> int | None:
    """Return the open, locked file, or None if somebody else has locked it.

    Raises:
        OSError: the file cannot be made, or the disk has no locks.
    """
    while True:
        created = True
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        except FileExistsError:
            created = False
            try:
                handle = open_in_place(path, os.O_RDWR)
            except FileNotFoundError:
                continue
        try:
            if not _lock(handle):
                os.close(handle)
                return None
            if _is_same(handle, path):
                os.ftruncate(handle, 0)
                os.write(handle, str(os.getpid()).encode())
                return handle
        except OSError:
            os.close(handle)
            if created:  # it locks nothing here
                path.unlink(missing_ok=True)
            raise
        os.close(handle)  # its holder has removed it


def _lock(handle: int) -> bool:
    """Lock an open file for this process; return whether it could be had.

    Raises:
        OSError: the disk has no locks.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, _WINDOWS_PLACE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def _is_same(handle: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _held(folder: Path, path: Path) -> RunFolderError:
    owner = _owner(path)
    who = f"process {owner['process']}" if owner.get("process") else "another process"
    if owner.get("host") not in (None, machine()["host"]):
        who += f" of {owner['host']}"
    return RunFolderError(f"{who} is writing to it", file=folder, fix="wait for it, or stop it")


@contextlib.contextmanager
def _hold_by_file(folder: Path, path: Path) -> Iterator[None]:
    """Hold a folder on a disk without locks."""
    owner = {"process": os.getpid(), **machine(), "started": _started(os.getpid()), "token": secrets.token_hex(8)}
    try:
        while not _make(path, owner):
            holder = _owner(path)
            if _lives(holder, path):
                raise _held(folder, path)
            _remove(path, holder)
        time.sleep(_SETTLE)
    except OSError as error:
        raise FileSystemError(f"cannot lock: {error.strerror or error}", file=path) from error
    if _owner(path) != owner:  # two found the same dead lock
        raise _held(folder, path)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(path, ended), name="lock of a run", daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        if _owner(path) == owner:
            path.unlink(missing_ok=True)


def _make(path: Path, owner: dict[str, Any]) -> bool:
    """Make the file with its text, unless there is one; return whether it was made."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as file:
        file.write(json.dumps(owner))
    return True


def _remove(path: Path, dead: dict[str, Any]) -> None:
    """Remove the lock of a dead process; one that somebody else has made in the meantime is put back."""
    aside = path.with_name(f"{FILE}.{secrets.token_hex(8)}")
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, aside)
        if _owner(aside) != dead and not path.exists():
            os.replace(aside, path)
        aside.unlink(missing_ok=True)


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(path)


def _owner(path: Path) -> dict[str, Any]:
    """Return what a lock says of its holder; versions before this one wrote the number of the process alone."""
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(4096))
    except (OSError, RecursionError, ValueError):
        return {}
    if isinstance(content, dict):
        return content
    return {"process": content} if type(content) is int and content > 0 else {}


def _lives(owner: dict[str, Any], path: Path) -> bool:
    """Whether the holder of a lock by file lives: told by its start if it ran here, else by its last touch."""
    here = machine()
    if owner.get("started") and all(owner.get(key) == value for key, value in here.items()):
        return _started(owner.get("process")) == owner["started"]
    probe = path.with_name(f"{FILE}.{secrets.token_hex(8)}")
    probe.touch()  # the clock of the disk, which may not be that of this machine
    try:
        return probe.stat().st_mtime - path.stat().st_mtime < SILENCE
    except FileNotFoundError:
        return False
    finally:
        probe.unlink(missing_ok=True)


def _started(process: object) -> str:
    """Return when a process of this machine was started, in ticks of the system; "" where that cannot be told."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (IndexError, OSError, ValueError):
        return ""
