"""Times of training steps that are compared: they take turns, so that what else the machine does hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable

STEPS = 2  # training steps that measuring one takes, at least
Key = tuple[int, str]  # filters of a network, 0 where only one is looked at; and the name of how it is computed


class StepTimes:
    """The lowest time of each of several steps.

    Args:
        seconds: time that all of it may take.
        clock: function that returns seconds.

    Attributes:
        lowest: key -> seconds of the fastest step so far, without the first one, which compiles.
        compiling: key -> seconds that making and compiling it took.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._end = clock() + seconds
        self._steps: dict[Key, Callable[[], float]] = {}
        self.lowest: dict[Key, float] = {}
        self.compiling: dict[Key, float] = {}

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self._end - self._clock()

    def add(self, key: Key, make_step: Callable[[], Callable[[], float]]) -> None:
        """Make a function that measures a step, and call it once, which compiles it, and once more."""
        start = self._clock()
        step = make_step()
        step()
        self.compiling[key] = self._clock() - start
        self._steps[key] = step
        self._take(key)

    def take_turns(self, most: int) -> None:
        """Measure each step once in every turn, while there is time."""
        for _ in range(most):
            if self.left <= 0:
                return
            for key in self._steps:
                self._take(key)

    def keep(self, key: Key) -> None:
        """Measure no other step any more."""
        self._steps = {key: self._steps[key]}

    def _take(self, key: Key) -> None:
        self.lowest[key] = min(self._steps[key](), self.lowest.get(key, float("inf")))
