"""How long a training step of each size of network takes: some are measured for a few seconds, the others derived."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..runs import Compilation

if TYPE_CHECKING:
    from ..training.step_times import StepTimes

TRIED = (16, 32, 8)  # filters, in the order in which they are measured while there is time
SHARE = 0.05  # of a time budget, for measuring
MOST_SECONDS = 40.0  # that measuring takes, with what the network under way needs
_MOST_TURNS = 4
# Seconds of a step of so many filters over those of half as many: four times the multiply-adds, twice the memory.
_OVER_HALF = 2.8


def measure_steps(
    sizes: Sequence[int],
    ways: list[Compilation],
    make_step: Callable[[int, Compilation], Callable[[], float]],
    times: StepTimes,
) -> tuple[dict[int, float], Compilation]:
    """Return the seconds of a training step of some networks, and how it is computed fastest.

    Args:
        sizes: filters of each, in the order in which they are measured; the first one always is, in every way.
        ways: ways in which a step may be computed, the likely best first.
        make_step: filters, way -> a function that trains a little and returns the seconds of a step.
        times: measures. A network that would not be through while there is time is left out.
    """
    from ..training.compilation import try_ways
    from ..training.step_times import STEPS

    first = sizes[0]
    way = try_ways(ways, lambda way: make_step(first, way), times, first)
    times.keep((first, way.name))
    for filters in sizes[1:]:
        slower = max(1.0, derive_steps({first: 1.0}, (filters,))[filters])
        turns = _MOST_TURNS * STEPS * times.lowest[first, way.name]
        if times.left > slower * (times.compiling[first, way.name] + turns):
            times.add((filters, way.name), lambda filters=filters: make_step(filters, way))  # type: ignore[misc]
    times.take_turns(_MOST_TURNS)
    return {filters: round(seconds, 4) for (filters, name), seconds in times.lowest.items() if name == way.name}, way


def derive_steps(measured: Mapping[int, float], sizes: Sequence[int]) -> dict[int, float]:
    """Return the seconds of a step of each size: as measured, or by the rule of thumb from the nearest that was."""
    seconds = {}
    for filters in sizes:
        nearest = min(measured, key=lambda known: abs(known.bit_length() - filters.bit_length()))
        doublings = filters.bit_length() - nearest.bit_length()
        seconds[filters] = measured.get(filters, measured[nearest] * _OVER_HALF**doublings)
    return seconds
