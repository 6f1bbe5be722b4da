"""How long a training step of each size of network takes: some are measured for a few seconds, the others derived."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

TRIED = (16, 32, 8)  # filters, in the order in which they are measured while there is time
SHARE = 0.05  # of a time budget, for measuring
_STEPS = 4
# Seconds of a step of so many filters over those of half as many: four times the multiply-adds, twice the memory.
_OVER_HALF = 2.8


def measure_steps(
    sizes: Sequence[int],
    make_step: Callable[[int], Callable[[], object]],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, float]:
    """Return the seconds of a training step of some networks.

    Args:
        sizes: filters of each, in the order in which they are measured; the first one always is.
        make_step: filters -> a function that takes one step.
        seconds: that all may take. A network that would not be through by then is left out.
    """
    begun = last = clock()
    measured: dict[int, float] = {}
    for filters in sizes:
        start = clock()
        if measured:
            slower = max(1.0, derive_steps(measured, (filters,))[filters] / measured[next(reversed(measured))])
            if start - begun + slower * (start - last) > seconds:
                continue
        last = start
        step = make_step(filters)
        step()  # compiles
        lowest = float("inf")
        for turn in range(_STEPS):
            before = clock()
            step()
            lowest = min(lowest, clock() - before)
            if turn and clock() - begun > seconds:
                break
        measured[filters] = round(lowest, 4)
    return measured


def derive_steps(measured: dict[int, float], sizes: Sequence[int]) -> dict[int, float]:
    """Return the seconds of a step of each size: as measured, or by the rule of thumb from the nearest that was."""
    derived = {}
    for filters in sizes:
        nearest = min(measured, key=lambda known: abs(known.bit_length() - filters.bit_length()))
        doublings = filters.bit_length() - nearest.bit_length()
        derived[filters] = measured.get(filters, measured[nearest] * _OVER_HALF**doublings)
    return derived
