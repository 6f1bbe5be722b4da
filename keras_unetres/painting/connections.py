"""Connections of the page's server: who does not come to an end is let go, and who has waited longest for the next."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from unetres_edge.web.access import PATIENCE

MOST = 256  # connections at a time
BACKLOG = 64  # connections that are taken at once


class Connection(H11Protocol):
    """A connection that may wait no longer than `PATIENCE`: for a request, for its body, for who reads the answer.

    uvicorn has a limit for the time between two requests alone: connections that do not come to their end would take
    all files that the process may open, and then no stroke could be written.
    """

    _limit: asyncio.TimerHandle | None = None
    _awaited: Any = None  # the request whose body is waited for

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()
        held = [each for each in self.connections if isinstance(each, Connection) and not each.transport.is_closing()]
        if len(held) > MOST:
            since = {each: each._limit.when() for each in held if each._limit is not None}  # none answered just now
            min(since, key=since.__getitem__, default=self).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes; wait for the rest of a request, and no longer once it is there."""
        super().data_received(data)
        if self._is_idle:
            return
        if not self.cycle.more_body:
            self._stop_waiting()
        elif self._awaited is not self.cycle:
            self._awaited = self.cycle
            self._wait()

    def pause_writing(self) -> None:
        """Begin to wait for who reads."""
        super().pause_writing()
        self._wait()

    def resume_writing(self) -> None:
        """Wait no longer for who reads."""
        super().resume_writing()
        if self._is_idle:
            self._wait()
        else:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        if self._is_idle:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing."""
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; the answer to what stood before it has nobody to go to any more."""
        answering = None if self._is_idle else self.cycle
        if answering is None or not answering.response_started:
            super().send_400_response(msg)
        else:
            self.transport.close()
        if answering is not None:
            answering.disconnected = True
            answering.message_event.set()

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait(self) -> None:
        self._stop_waiting()
        self._limit = self.loop.call_later(PATIENCE, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
