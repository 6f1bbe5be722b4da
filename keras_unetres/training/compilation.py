"""How the steps of a training are computed: in which precision, whether compiled by XLA, with which normalisation.

Without a time budget the choice is a function of processor and settings alone, so that the same command gives the same
weights on the same machine. With one, the candidates that are close are tried. Either way `run.json` keeps the choice,
and whoever goes on with the run goes on with that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf

from ..machine.processor import count_cores, cpu_flags, multiplies_bfloat16
from ..runs import Compilation
from ..settings import FitSettings
from .step_times import StepTimes

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
_SHARE = 0.05  # of a time budget, for trials
_LEAST_SECONDS = {False: 15.0, True: 60.0}  # for trials of which none or one is compiled by XLA, which takes 20 s
_COMPILING = {False: 1.0, True: 3.0}  # how much longer than the one before it a way takes, by whether XLA compiles it
_MOST_TURNS = 6

# Pairs of precision and XLA by kind of processor, the fastest first as `benchmarks/training.py` measures them. On CPUs
# the first two may be close; on GPUs nothing has been measured.
_ORDER = {
    "gpu": (("mixed_float16", True), ("float32", True), ("mixed_bfloat16", True)),
    "bfloat16": (("mixed_bfloat16", False), ("float32", False), ("float32", True), ("mixed_bfloat16", True)),
    "avx512": (("float32", False), ("float32", True)),
    "cpu": (("float32", True), ("float32", False)),
}


@dataclass(frozen=True)
class Processor:
    """The processors of this machine, as far as they decide how steps are computed fastest.

    Args:
        kind: "gpu"; or of CPUs "bfloat16" where the processor multiplies such numbers, "avx512", or "cpu".
        several: whether several devices share each batch; those do not work with XLA.
        usual: dtype policy that Keras is set to; another one than float32 is the user's choice.
    """

    kind: str
    several: bool = False
    usual: str = "float32"


def find_gpus() -> list[Any]:
    """Return the GPUs of this machine; their memory is taken as it is needed from here on, if none is in use yet."""
    gpus: list[Any] = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        with contextlib.suppress(RuntimeError):  # it is in use already
            tf.config.experimental.set_memory_growth(gpu, True)
    return gpus


def find_processor(*, several: bool = False) -> Processor:
    """Return the processors of this machine."""
    gpus = find_gpus()
    usual = keras.config.dtype_policy().name
    if gpus:
        return Processor("gpu", several, usual)
    if multiplies_bfloat16():
        return Processor("bfloat16", several, usual)
    return Processor("avx512" if "avx512f" in cpu_flags() else "cpu", several, usual)


def candidates(processor: Processor, settings: FitSettings) -> list[Compilation]:
    """Return the one or two ways that the settings allow and that may be the fastest, the likely best first."""
    precision, xla = _asked(processor, settings)
    pairs = [
        pair
        for pair in _ORDER[processor.kind]
        if precision in (None, pair[0]) and xla in (None, pair[1]) and not (processor.several and pair[1])
    ]
    if not pairs:  # nobody's first choice, but somebody's wish
        usual = _ORDER[processor.kind][0]
        pairs = [(precision or usual[0], xla if xla is not None else usual[1] and not processor.several)]
    if processor.kind == "gpu" or processor.several:
        pairs = pairs[:1]
    return [_way(processor, *pair) for pair in pairs[:2]]


def _way(processor: Processor, precision: str, xla: bool) -> Compilation:
    own = not (xla or processor.several or processor.kind == "gpu")
    return Compilation(precision, xla, fused_norm=own, wide_depthwise=own and precision == "mixed_bfloat16")


def _asked(processor: Processor, settings: FitSettings) -> tuple[str | None, bool | None]:
    """Return the precision and whether XLA is asked for; None where that is left open."""
    precision = None if settings.precision == "auto" else _POLICIES[settings.precision]
    if precision is None and processor.usual != "float32":
        precision = processor.usual
    if precision is None and processor.several and processor.kind != "gpu":
        precision = "float32"  # the CPUs of several machines may differ
    return precision, {"auto": None, "xla": True, "graph": False}[settings.compile]


def as_before(known: Compilation, *, several: bool = False, mixed: bool = True) -> Compilation:
    """Return how the first version computed the steps of a run, where `run.json` leaves it open.

    Args:
        known: content of `run.json`.
        several: whether several devices share each batch.
        mixed: whether half precision may be used.
    """
    precision = known.precision
    if precision is None:
        gpu = mixed and tf.config.list_physical_devices("GPU")
        precision = "mixed_float16" if gpu else keras.config.dtype_policy().name
    xla = known.jit_compile is not False and not several
    return replace(known, precision=precision, jit_compile=xla)


def trial_seconds(minutes: float | None, ways: list[Compilation]) -> float:
    """Return the seconds that trials may take of a time budget; 0 where there is nothing to try, or no time."""
    seconds = 0.0 if minutes is None else _SHARE * 60 * minutes
    enough = seconds >= _LEAST_SECONDS[any(way.jit_compile for way in ways)]
    return seconds if len(ways) > 1 and enough else 0.0


def try_ways(
    ways: list[Compilation],
    make_step: Callable[[Compilation], Callable[[], float]],
    times: StepTimes,
    filters: int = 0,
) -> Compilation:
    """Return the fastest of several ways, with the seconds of a step of each.

    Args:
        ways: the ways to try, the likely best first.
        make_step: way -> a function that trains the network of the run a little and returns the seconds of a step.
        times: measures. A way that there is no time left to compile is left out.
        filters: filters of the network, by which `times` tells it.
    """
    for way in ways:
        if not times.lowest or times.left > _COMPILING[bool(way.jit_compile)] * max(times.compiling.values()):
            times.add((filters, way.name), lambda way=way: make_step(way))  # type: ignore[misc]
    tried = [way for way in ways if (filters, way.name) in times.lowest]
    if len(tried) < 2:
        return tried[0]
    times.take_turns(_MOST_TURNS)
    seconds = {way.name: round(times.lowest[filters, way.name], 4) for way in tried}
    return replace(min(tried, key=lambda way: seconds[way.name]), tried=seconds)


def describe_tried(tried: Mapping[str, float]) -> str:
    """Return the figures of trials in words, the fastest first."""
    return ", ".join(f"{name} {seconds:.3f} s" for name, seconds in sorted(tried.items(), key=lambda pair: pair[1]))


def describe_device(compilation: Compilation, devices: int = 1) -> str:
    """Return what computes the steps, and how, in words: "CPU, 2 cores (no GPU), bfloat16"."""
    gpus = len(tf.config.list_physical_devices("GPU"))
    cores = count_cores()
    if gpus:
        used = min(gpus, devices)
        return f"{used} GPU{'s' if used > 1 else ''}, {compilation.name}"
    return f"CPU, {cores} core{'s' if cores > 1 else ''} (no GPU), {compilation.name}"


@contextlib.contextmanager
def precision_policy(precision: str | None) -> Iterator[None]:
    """Build and train in a precision, a dtype policy of Keras; None for the one that Keras is set to."""
    before = keras.config.dtype_policy()
    if precision is not None:
        keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
