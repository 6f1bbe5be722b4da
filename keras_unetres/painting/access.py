"""Who may see and change a project over HTTP: whoever has the token of its address, from a page of this server alone.

Every request needs the token, and a Host that this server goes by, so that a page of another site whose name points
here is refused (DNS rebinding). What changes something needs the token in a header, which no page of another site can
send, and no Origin but this server's own (CSRF).
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from unetres_edge.web.access import LOOPBACK, Access, is_loopback

COOKIE = "unetres"
HEADER = "x-unetres-token"
READING = ("GET", "HEAD")
_HOST = re.compile(r"[A-Za-z0-9._\-:\[\]]+")


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused.

    Args:
        status: HTTP status.
        error: mistake, in words.
        fix: remedy.
    """

    status: int
    error: str
    fix: str


@dataclass(frozen=True)
class Gate:
    """What every request is held against.

    Args:
        host: address that the server listens on.
        token: token of the address.
        names: further names that it may be called by.
    """

    host: str = LOOPBACK
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    names: tuple[str, ...] = ()

    @property
    def cookie(self) -> str:
        """Name of the cookie. Servers on other ports of one machine share cookies, so each has its own."""
        return f"{COOKIE}-{self.token[:8]}"

    def address(self, port: int) -> str:
        """Return the address of the page, with the token."""
        return f"{Access(self.host).address(port)}?token={self.token}"

    def refused(
        self, method: str, headers: Mapping[str, str], cookies: Mapping[str, str], query: Mapping[str, str], path: str
    ) -> Refusal | None:
        """Return why a request is refused, or None.

        Args:
            headers: headers by their names in small letters.
        """
        host = headers.get("host", "")
        if not self._is_own(host):
            fix = "open the address that the server said when it started"
            return Refusal(421, f"this server is not called {host or 'nothing'}", fix)
        origin = headers.get("origin")
        if origin is not None and _place(origin) != host.lower():
            return Refusal(403, f"the request comes from a page of {origin}", "use the page of this server")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") and path != "/":
            return Refusal(403, "the request comes from a page of another site", "use the page of this server")
        in_header = headers.get(HEADER)
        tokens = [in_header] if method not in READING else [in_header, cookies.get(self.cookie)]
        if path == "/" and method in READING:
            tokens.append(query.get("token"))
        said = [each for each in tokens if each]
        fix = "open the address that the server said when it started, with its token"
        if not said:
            return Refusal(401, "the request has no token", fix)
        if not any(map(self._is_token, said)):
            return Refusal(403, "the token is another one, such as that of an earlier start", fix)
        return None

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode("utf-8", "surrogateescape"), self.token.encode())

    def _is_own(self, host: str) -> bool:
        name = _name(host)
        if is_loopback(name):  # also through a tunnel, whose end has another port
            return True
        if is_loopback(self.host):
            return False
        return _is_address(name) or name in self._own_names()  # no name that others made points to an address

    def _own_names(self) -> set[str]:
        hostname = urlsplit(Access(self.host).address(80)).hostname or ""
        return {name.lower() for name in (self.host, hostname, socket.gethostname(), socket.getfqdn(), *self.names)}


def _place(origin: str) -> str:
    """Return host and port of an Origin, "" where it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _name(host: str) -> str:
    """Return the name in a Host, "" where more is in it than a name and a port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower() if _HOST.fullmatch(host) else ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
