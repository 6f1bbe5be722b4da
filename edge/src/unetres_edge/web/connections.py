"""A server of threads that holds so many connections at a time: each takes a thread and a file of the process."""

from __future__ import annotations

import contextlib
import socket
import threading
from http.server import ThreadingHTTPServer
from typing import Any

MOST = 128  # connections at a time, without those that are kept


class LimitedHTTPServer(ThreadingHTTPServer):
    """A server that lets the oldest connection go for one too many, such as one that never comes to its end.

    An answer is sent in a moment. One that lasts is kept by `keep`, and counted by whoever keeps it.
    """

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._held: dict[Any, None] = {}  # sockets, the oldest first
        self._lock = threading.Lock()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a connection; end the oldest where they are too many."""
        with self._lock:
            oldest = next(iter(self._held)) if len(self._held) >= MOST else None
            self._held.pop(oldest, None)
            self._held[request] = None
        if oldest is not None:
            with contextlib.suppress(OSError):  # it has just ended by itself
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        self.keep(request)
        super().shutdown_request(request)

    def keep(self, request: Any) -> None:
        """Never end this connection for the sake of another."""
        with self._lock:
            self._held.pop(request, None)
