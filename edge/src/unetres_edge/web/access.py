"""Who may see a server of this package: this machine alone by its names, or who knows the token in the address."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
PATIENCE = 30.0  # s without a byte, after which one who asks or watches is let go


@dataclass(frozen=True)
class Access:
    """Who may see a server.

    Args:
        host: address that it listens on.
        token: first part of the path of every request, where others than this machine reach the host; "" for
            none.
    """

    host: str
    token: str = ""

    @classmethod
    def of(cls, host: str) -> Access:
        """Return the access for a host: with a new token unless only this machine reaches it."""
        return cls(host, "" if is_loopback(host) else secrets.token_urlsafe(12))

    def refused(self, hosts: Sequence[str], path: str) -> HTTPStatus | None:
        """Return why a request is refused, or None.

        Args:
            hosts: its Host headers, of which there has to be one.
            path: path of its address.
        """
        if is_loopback(self.host) and not (len(hosts) == 1 and is_loopback(_name_of(hosts[0]))):
            return HTTPStatus.MISDIRECTED_REQUEST  # a page of another site, whose name points here (DNS rebinding)
        start = path[: len(self.start)].encode("utf-8", "surrogateescape")
        return None if hmac.compare_digest(start, self.start.encode()) else HTTPStatus.NOT_FOUND

    @property
    def start(self) -> str:
        """What the path of every request begins with."""
        return f"/{self.token}/" if self.token else "/"

    def address(self, port: int, scheme: str = "http") -> str:
        """Return the address of the page, for a browser."""
        host = _outward(self.host) if self.host in ("0.0.0.0", "::", "") else self.host
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{self.start}"


def is_loopback(name: str) -> bool:
    """Return whether a name or an address means this machine alone."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _name_of(host: str) -> str:
    """Return the name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _outward(host: str) -> str:
    """Return the address of this machine that others reach, where it listens on all; its name if that is not known."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    there = "2001:db8::1" if ":" in host else "192.0.2.1"  # of documentation (RFC 3849, 5737): nothing is sent
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((there, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()
