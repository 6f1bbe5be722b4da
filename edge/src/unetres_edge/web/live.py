"""A page with the newest frame of a stream, as MJPEG, which every browser shows in an `<img>`."""

from __future__ import annotations

import functools
import json
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType

from ..errors import FileSystemError
from ..files import read_bytes
from .access import LOOPBACK, PATIENCE, Access
from .connections import LimitedHTTPServer

_FILES = {"": "text/html; charset=utf-8", "live.css": "text/css", "live.js": "text/javascript"}
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
_WATCHERS = 16  # at a time
_BOUNDARY = "frame"
_SECONDS = 1.0  # after which one who waits looks whether the stream has ended


class LivePage:
    """A server of the newest frame; use it as a context manager.

    Args:
        host: address to listen on; of other than this machine alone, the address has a token.
        port: port; 0 for any.

    Raises:
        FileSystemError: the host is not one of this machine, or the port is taken.
    """

    def __init__(self, host: str = LOOPBACK, port: int = 0) -> None:
        self._access = Access.of(host)
        self.changed = threading.Condition()
        self.jpeg, self.number, self.ended = b"", 0, False
        self.watchers = 0
        self.now = json.dumps({"line": "Waiting for a frame …", "classes": []}).encode()
        handler = functools.partial(_Handler, self, self._access)
        try:
            self._server = _Server((host, port), handler)
        except OSError as error:
            raise FileSystemError(
                f"cannot listen on {host}, port {port}: {error.strerror}", fix="choose another --port or --host"
            ) from error
        serve = functools.partial(self._server.serve_forever, 0.1)  # s until it sees that it is to end
        self._thread = threading.Thread(target=serve, name="unetres-live", daemon=True)

    @property
    def address(self) -> str:
        """Where browsers find it."""
        return self._access.address(self._server.server_address[1])

    def show(self, encode: Callable[[], bytes], line: str, classes: list[dict[str, object]]) -> None:
        """Send a frame to every browser that watches.

        Args:
            encode: callback that returns the JPEG; called only if somebody watches.
            line: text that is shown beside it.
            classes: "name", "color" and "share" of the pixels of each class.
        """
        self.now = json.dumps({"line": line, "classes": classes}).encode()
        jpeg = encode() if self.watchers else b""
        with self.changed:
            self.jpeg, self.number = jpeg, self.number + 1
            self.changed.notify_all()

    def __enter__(self) -> LivePage:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(LimitedHTTPServer):
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: Callable[..., BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing about a browser that went away."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE

    def __init__(self, page: LivePage, access: Access, *arguments: object) -> None:
        self._page, self._access = page, access
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer with a file of the page, what is known now, or the stream."""
        path = self.path.partition("?")[0]
        refused = self._access.refused(self.headers.get_all("Host", []), path)
        name = path[len(self._access.start) :]
        if refused is None and name == "stream.mjpg":
            self._stream()
        elif refused is None and name == "now.json":
            self._answer(self._page.now, "application/json")
        elif refused is None and name in _FILES:
            self._answer(read_bytes(Path(__file__).parent / "live" / (name or "index.html")), _FILES[name])
        else:
            self.send_error(refused or HTTPStatus.NOT_FOUND)

    def _answer(self, data: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self) -> None:
        page = self._page
        with page.changed:
            full = page.watchers >= _WATCHERS
            page.watchers += not full
        if full:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, f"{_WATCHERS} watch already")
            return
        self.server.keep(self.connection)
        try:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
            self.end_headers()
            seen = 0
            while not page.ended:
                with page.changed:
                    page.changed.wait_for(lambda: page.ended or (page.number != seen and page.jpeg), _SECONDS)  # noqa: B023
                    jpeg, number = page.jpeg, page.number
                if jpeg and number != seen:
                    seen = number
                    head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
            self.wfile.write(f"--{_BOUNDARY}--\r\n".encode())
        except OSError:
            pass  # who watched went away
        finally:
            with page.changed:
                page.watchers -= 1

    def end_headers(self) -> None:
        """Add what every answer has."""
        for name, value in (
            ("Content-Security-Policy", _POLICY),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
        ):
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""
