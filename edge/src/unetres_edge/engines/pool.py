"""Loaded runtimes that threads share: none is thread-safe, so each is lent to one thread at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from ..errors import ModelError, UsageError

MOST_THREADS = 512  # of one inference; a runtime that cannot start its threads ends the process
_T = TypeVar("_T")


class Pool(Generic[_T]):
    """Up to `limit` runtimes, each used by one thread at a time and made when first needed."""

    def __init__(self, make: Callable[[], _T], limit: int) -> None:
        self._make = make
        self._free = threading.Semaphore(limit)
        self._idle: list[_T] = []
        self._process = os.getpid()
        self._closed = False

    @contextmanager
    def borrow(self) -> Iterator[_T]:
        """Lend a runtime to this thread; wait while all are lent.

        Raises:
            ModelError: closed, or this process is a fork of the one that loaded the model.
        """
        if os.getpid() != self._process:  # before the semaphore, which another thread may have held at the fork
            raise ModelError(
                "the model was loaded before this process was forked, and a runtime's threads do not survive a fork",
                fix="open it in the child process, or start processes with 'spawn'",
            )
        with self._free:
            if self._closed:
                raise ModelError("the model is closed")
            try:
                runtime = self._idle.pop()
            except IndexError:
                runtime = self._make()
            yield runtime
            if not self._closed:  # nor after an error: its traceback may hold a view of the tensors, and bars invoke()
                self._idle.append(runtime)

    def close(self) -> None:
        """Free the runtimes that are idle; `borrow` raises from then on."""
        self._closed = True
        if os.getpid() == self._process:
            self._idle.clear()


def threads_of(num_threads: int | None) -> int:
    """Return how many threads one inference gets: as many as are asked for, or one for every core.

    Raises:
        UsageError: below 1, or more than a runtime can be trusted to start.
    """
    if num_threads is not None and not 1 <= num_threads <= MOST_THREADS:
        raise UsageError("num_threads is wrong", expected=f"1 to {MOST_THREADS}", found=num_threads)
    return num_threads or available_cores()


def available_cores() -> int:
    """Return how many cores this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
