"""Where a project was last served: the next server takes the same port and token again.

A page that is open then goes on by itself, and strokes that only a browser has, which it keeps for one address, are
sent. The file is for its owner alone, and counts for this folder, this machine and this host alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from unetres_edge.errors import FileSystemError
from unetres_edge.files import open_in_place

from .folder import FOLDER

FILE = "server.json"
_MOST_BYTES = 4096
_FEWEST_LETTERS = 32  # of a token


@dataclass(frozen=True)
class Start:
    """How a server was reached.

    Args:
        port: port.
        token: token of its address.
    """

    port: int
    token: str


def read_start(folder: Path, host: str) -> Start | None:
    """Return how a project was last served, or None if it was not, or if others may have read or written the file.

    Args:
        folder: folder of the project.
        host: host that the next server listens on.
    """
    try:
        with os.fdopen(open_in_place(folder / FOLDER / FILE, os.O_RDONLY), "rb") as file:
            about = os.fstat(file.fileno())
            if os.name == "posix" and (about.st_uid != os.getuid() or stat.S_IMODE(about.st_mode) & 0o077):
                return None
            values = json.loads(file.read(_MOST_BYTES))
        port, token = values["port"], values["token"]
        fits = values["of"] == _mark(folder, host) and type(port) is int and 0 < port < 2**16
        return Start(port, token) if fits and type(token) is str and len(token) >= _FEWEST_LETTERS else None
    except (OSError, FileSystemError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write_start(folder: Path, host: str, start: Start) -> None:
    """Write how a project is served; where that cannot be, the next server has another address."""
    values = {"of": _mark(folder, host), "port": start.port, "token": start.token}
    with contextlib.suppress(OSError):
        handle, temporary = tempfile.mkstemp(dir=folder / FOLDER)  # for its owner alone
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(values, file)
            os.replace(temporary, folder / FOLDER / FILE)
        except OSError:
            os.unlink(temporary)
            raise


def _mark(folder: Path, host: str) -> str:
    return hashlib.sha256(f"{socket.gethostname()}\0{host}\0{os.path.realpath(folder)}".encode()).hexdigest()
