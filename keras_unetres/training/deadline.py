"""A wall-clock budget that holds while training: where the machine becomes slower or faster, the epochs change."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras

from ..runs import Plan

_LATE = 0.03  # of the budget, by which the end may be late
_EARLY = 0.85  # of what is left, below which more is trained
_LAST = 8  # epochs that tell how long one takes


class Deadline(keras.callbacks.Callback):
    """End a `fit` after an epoch from which on the plan would end late, or much too early, and hold a plan that fits.

    It looks from the middle of the plan on, where enough has been seen, and only there for more epochs. Whoever called
    `fit` goes on with `changed` from the last checkpoint. It comes after what may end training for another reason.

    Args:
        plan: plan that is followed.
        begun, end: start and end of the budget, by `clock`.
        clock: seconds.

    Attributes:
        changed: the plan to go on with, or None.
    """

    def __init__(self, plan: Plan, begun: float, end: float, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        self.changed: Plan | None = None
        self._plan, self._begun, self._end, self._clock = plan, begun, end, clock
        self._ends: list[float] = []
        self._lengthens = True

    def go_on(self, say: Callable[[str], None]) -> Plan:
        """Return the plan to go on with, say why, and watch over it from now on."""
        assert self.changed is not None
        before, self._plan, self.changed = self._plan, self.changed, None
        became, now = "slower" if self._plan.epochs < before.epochs else "faster", self._plan.epochs
        say(f"note      the machine became {became}: {now} epochs instead of {before.epochs} keep to the minutes")
        self._ends.clear()  # what lies between the two is no epoch
        return self._plan

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare what is left to do with what is left of the time."""
        now, done, epochs = self._clock(), epoch + 1, self._plan.epochs
        self._ends = [*self._ends[-_LAST:], now]  # the first epoch of a fit may hold compiling, and is not timed
        if self.model.stop_training or done >= epochs or 2 * done < epochs or len(self._ends) == 1:
            return
        an_epoch = (now - self._ends[0]) / (len(self._ends) - 1)
        left, needed = self._end - now, (epochs - done) * an_epoch
        late = needed > left + _LATE * (self._end - self._begun)
        early = self._lengthens and needed < _EARLY * left
        self._lengthens = False
        if not late and not early:
            return
        fitting = done + max(1, math.floor(left / max(an_epoch, 1e-6)))
        if fitting != epochs:
            self.changed = replace(self._plan, epochs=fitting)
            self.model.stop_training = True
