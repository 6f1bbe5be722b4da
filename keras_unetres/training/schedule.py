"""From a budget to the plan of a run: how many steps, and how often it is validated."""

from __future__ import annotations

import math

from ..runs import Plan

_VALIDATION_SHARE = 0.08
_MOST_WARMUP = 100
_LEAST_EPOCHS = 12  # of a time budget


def make_plan(
    steps_per_epoch: int,
    learning_rate: float,
    *,
    epochs: int,
    schedule: str = "cosine",
    warmup: int | None = None,
    step_seconds: float = 1.0,
    validation_seconds: float = 0.0,
) -> Plan:
    """Return the plan for a number of epochs; validation takes at most about 8 % of the time.

    Args:
        warmup: steps; None for a tenth of all, at most 100.
        step_seconds, validation_seconds: times of a step and a validation; only their ratio counts.
    """
    every = math.ceil(validation_seconds / (_VALIDATION_SHARE * step_seconds * steps_per_epoch))
    every = max(1, min(every, epochs))
    steps = epochs * steps_per_epoch
    warmup = max(1, min(_MOST_WARMUP, steps // 10) if warmup is None else min(warmup, steps))
    return Plan(epochs, steps_per_epoch, every, warmup, learning_rate, schedule)


def make_timed_plan(
    steps_per_epoch: int,
    learning_rate: float,
    *,
    seconds: float,
    schedule: str = "cosine",
    warmup: int | None = None,
    step_seconds: float,
    validation_seconds: float,
) -> Plan:
    """Return the plan that fills a number of seconds, validation included.

    Where a pass over the data takes much of it, epochs are parts of a pass, so that it is validated some times.
    """
    steps = max(1, int((seconds - validation_seconds) / (step_seconds * (1 + _VALIDATION_SHARE))))
    per_epoch = min(steps_per_epoch, math.ceil(steps / _LEAST_EPOCHS))
    return make_plan(
        per_epoch,
        learning_rate,
        epochs=max(1, steps // per_epoch),
        schedule=schedule,
        warmup=warmup,
        step_seconds=step_seconds,
        validation_seconds=validation_seconds,
    )
