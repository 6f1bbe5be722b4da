"""A stop that was asked for: Ctrl-C, SIGTERM or a closed terminal ends training after a step, a second one at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class StopRequest:
    """Notes the first Ctrl-C, SIGTERM or closed terminal.

    Args:
        say: callback for a line to the user when it comes.

    Attributes:
        signal: its number, or 0 while there was none.
        say: may be changed while a live line is shown.
    """

    def __init__(self, say: Callable[[str], None] = print) -> None:
        self.signal = 0
        self.say = say

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals for as long as it lasts; outside the main thread, and where they are ignored, they stay."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        taken = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._note) for number in taken}
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
