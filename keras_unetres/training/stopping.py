"""A stop that was asked for: Ctrl-C or SIGTERM ends training after the step at hand, a second one at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Notes the first Ctrl-C or SIGTERM.

    Args:
        say: called with a line for the user when it comes.

    Attributes:
        signal: its number, or 0 while there was none.
        say: may be changed while a live line is shown.
    """

    def __init__(self, say: Callable[[str], None] = print) -> None:
        self.signal = 0
        self.say = say

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals for as long as it lasts; outside the main thread they stay as they are."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = number
        self.say("stopping after this step (or validation); once more to stop at once")
