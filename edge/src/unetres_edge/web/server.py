"""A server of the page for browsers, on this machine alone unless it is told otherwise.

Where others reach it, every address begins with a token, which it says when it starts. It gives the files of one
folder that were there when it started, and nothing else.
"""

from __future__ import annotations

import functools
import io
import os
import socket
import ssl
import tempfile
import webbrowser
from collections.abc import Callable
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from ..errors import FileSystemError, UsageError
from .access import LOOPBACK, PATIENCE, Access
from .connections import LimitedHTTPServer
from .site import POLICY, WORKER, WORKER_POLICY, write_web

HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-cache",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def serve(
    model: str | os.PathLike[str],
    *,
    host: str = LOOPBACK,
    port: int = 0,
    browser: bool = True,
    litert: str | os.PathLike[str] | None = None,
    sample: str | os.PathLike[str] | None = None,
    certificate: tuple[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Show a model in a browser, until Ctrl-C.

    Args:
        model: as for `write_web`.
        host: address to listen on. Where other machines reach it, the address of the page has a token. Over plain http
            their browsers give the page neither a camera nor threads.
        port: port to listen on; 0 for any that is free.
        browser: whether to open the page in the browser of this machine.
        litert: as for `write_web`.
        sample: as for `write_web`.
        certificate: files of a certificate and its key (PEM), for https; None for plain http.
        say: callback for lines to the user.

    Raises:
        UnetresError: as for `write_web`.
        UsageError: there is no such port.
        FileSystemError: the host is not one of this machine, or the port is taken.
    """
    if not 0 <= port <= 65535:
        raise UsageError("no such port", expected="0 to 65535", found=port)
    with tempfile.TemporaryDirectory(prefix="unetres-web-") as folder:
        write_web(model, folder, litert=litert, offline=False, sample=sample, say=lambda line: None)
        access = Access.of(host)
        with make_server(folder, port, host, access=access) as server:
            if certificate:
                server.socket = _secured(server.socket, certificate)
            address = access.address(server.server_address[1], "https" if certificate else "http")
            say(f"serving    {address} (Ctrl-C ends it)")
            if browser:
                webbrowser.open(address)
            server.serve_forever()


def make_server(
    folder: str | os.PathLike[str], port: int = 0, host: str = LOOPBACK, *, access: Access | None = None
) -> LimitedHTTPServer:
    """Return a server of a folder, with the headers that threads in a page need.

    Args:
        folder: folder that `write_web` wrote.
        port: port to listen on; 0 for any that is free.
        host: address to listen on.
        access: rule for who may see it; None for everyone who reaches the host.

    Raises:
        FileSystemError: the host is not one of this machine, or the port is taken.
    """
    handler = functools.partial(_Handler, directory=os.fspath(folder))
    try:
        return _Server((host, port), handler, Path(folder), access or Access(host))
    except OSError as error:
        raise FileSystemError(
            f"cannot listen on {host}, port {port}: {error.strerror}", fix="choose another --port or --host"
        ) from error


def _secured(plain: socket.socket, certificate: tuple[str, str]) -> socket.socket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(*certificate)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "strerror", None) or error
        raise FileSystemError(f"no certificate with its key: {reason}", file=certificate[0]) from error
    return context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)


class _Server(LimitedHTTPServer):
    def __init__(
        self,
        address: tuple[str, int],
        handler: Callable[..., SimpleHTTPRequestHandler],
        folder: Path,
        access: Access,
    ) -> None:
        self.names = {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.access = access
        super().__init__(address, handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing about a browser that went away, or that spoke plain http to https."""


class _Handler(SimpleHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE
    extensions_map = {  # not of the machine's own tables, which may call .js plain text
        ".css": "text/css",
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript",
        ".wasm": "application/wasm",
        "": "application/octet-stream",
    }

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """Answer, unless the request is for another host or for what is not a file of the page."""
        refused = self.server.access.refused(self.headers.get_all("Host", []), self.path)
        if refused is not None:
            self.send_error(refused)
            return None
        name = self._name()
        if ("index.html" if name == "" else name) not in self.server.names:
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def _name(self) -> str | None:
        """Return the name of the file that is asked for, "" for the page itself, None for what is no address."""
        try:
            path = unquote(urlsplit(getattr(self, "path", "")).path)
            return path.removeprefix(self.server.access.start).removeprefix("/")
        except ValueError:
            return None

    def translate_path(self, path: str) -> str:
        """Return the file of an address, without the token."""
        return super().translate_path("/" + path.removeprefix(self.server.access.start))

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            is_worker = name == "Content-Security-Policy" and self._name() == WORKER
            self.send_header(name, WORKER_POLICY if is_worker else value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""
