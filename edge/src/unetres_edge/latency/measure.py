"""Timing the operations of networks on this device, one by one."""

from __future__ import annotations

import datetime
import math
import os
import platform
import time
from collections.abc import Callable, Iterator

import numpy as np

from ..engines.pool import available_cores
from ..errors import UsageError
from .graph import read_ops
from .profile import Cost, Profile

_DTYPES = ("float32", "int8")
_LEAST_CALLS, _MOST_CALLS = 5, 400
_CONVS, _SEED = 160, 7  # convolutions of each type, drawn from this seed
_MOST_WORK, _MOST_ELEMENTS = 3e8, 6e6
_SIDES = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 320)
_WIDTHS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
# Type of the activations, shape of the input, what adds the operation, and the type of an input that has another.
_Case = tuple[str, tuple[int, ...], Callable[..., int], str | None]


def measure_profile(
    *, threads: int = 1, seconds: float = 180, progress: Callable[[int, int], None] | None = None
) -> Profile:
    """Time some hundred operations and return what they take.

    A time is that of `time_call`, so that what else runs on the device hardly counts.

    Args:
        threads: number of threads of one inference.
        seconds: about how long it may take; less time means fewer calls of each.
        progress: callback, called with (operations done, all).

    Raises:
        UsageError: `threads` or `seconds` not above 0.
    """
    if threads < 1 or not 0 < seconds < math.inf:
        raise UsageError("the profile's threads or seconds are wrong", expected="numbers above 0")
    cases = list(_cases())
    share = seconds / (len(cases) + 10)
    costs = []
    for number, case in enumerate(cases):
        data = _build(case)
        ms = time_call(data, threads, share)
        ops = read_ops(data)
        assert len(ops) >= 1
        if len(ops) == 2:  # CAST follows ARG_MAX, and takes its share by the elements it moves
            costs.append(Cost(ops[1], max(ms * 0.1, 1e-6)))
        costs.append(Cost(ops[0], ms * (0.9 if len(ops) == 2 else 1)))
        if progress:
            progress(number + 1, len(cases))
    call = time_call(_nothing(), threads, share)
    left = tuple(Cost(cost.op, max(cost.ms - call, 0.02 * cost.ms)) for cost in costs)
    return Profile(_device(), threads, call, tuple(_load(size, threads) for size in (16, 48, 128)), left)


def time_call(data: bytes, threads: int, seconds: float) -> float:
    """Return what one call of a network takes, in ms: the lower quartile of calls within some seconds.

    With one thread it is the time that the thread had a processor, so that what else runs there does not count.
    """
    from ai_edge_litert.interpreter import Interpreter

    end = time.perf_counter() + seconds
    interpreter = Interpreter(model_content=data, num_threads=threads)
    interpreter.allocate_tensors()
    for _ in range(2):
        interpreter.invoke()
    now = time.thread_time if threads == 1 else time.perf_counter
    times: list[float] = []
    while len(times) < _LEAST_CALLS or (time.perf_counter() < end and len(times) < _MOST_CALLS):
        start = now()
        interpreter.invoke()
        times.append(now() - start)
    return 1e3 * float(np.percentile(times, 25))


def _build(case: _Case) -> bytes:
    """Return a network of one operation, or of the few that cannot be alone."""
    from .writer import NetworkWriter

    dtype, shape, build, input_dtype = case
    writer = NetworkWriter(dtype)
    source = writer.activation(shape, input_dtype)
    return writer.to_bytes([source], [build(writer, source)])


def _cases() -> Iterator[_Case]:
    """Yield the operations that are timed: those of U-Nets and ResNets, of both types."""
    for dtype in _DTYPES:
        for side, channels, filters, size, stride in _convolutions():
            yield dtype, (1, side, side, channels), lambda w, s, m=filters, k=size, d=stride: w.conv(s, m, k, d), None
        for side, width in (
            (4, 512),
            (8, 256),
            (16, 32),
            (16, 128),
            (32, 64),
            (64, 16),
            (64, 48),
            (128, 32),
            (256, 16),
        ):
            shape = (1, side, side, width)
            half = (1, max(1, side // 2), max(1, side // 2), width)
            yield dtype, half, lambda w, s: w.transpose_conv(s, w.shape(s)[-1] // 2), None
            yield dtype, half, lambda w, s: w.transpose_conv(s, w.shape(s)[-1], 3), None
            yield dtype, shape, lambda w, s: w.depthwise_conv(s), None
            yield dtype, shape, lambda w, s: w.depthwise_conv(s, stride=2), None
            yield dtype, shape, lambda w, s: w.pool(s), None
            yield dtype, shape, lambda w, s: w.pool(s, 3, 2), None
            yield dtype, half, lambda w, s: w.resize(s), None
            yield dtype, half, lambda w, s: w.resize(s, kind="RESIZE_NEAREST_NEIGHBOR"), None
            yield dtype, shape, lambda w, s: w.concatenate(s, s), None
            yield dtype, shape, lambda w, s: w.join(s, s), None
            yield dtype, shape, lambda w, s: w.join(s, s, "MUL"), None
            yield dtype, shape, lambda w, s: w.pad(s), None
            yield dtype, shape, lambda w, s: w.mean(s), None
            yield dtype, shape, lambda w, s: w.pool(s, kind="AVERAGE_POOL_2D"), None
        for side in (32, 64, 128, 256):
            for width in (1, 2, 4, 12):
                shape = (1, side, side, width)
                yield dtype, shape, lambda w, s: w.resize(s), None
                yield dtype, shape, lambda w, s: w.resize(s, 4), None
                if width > 1:
                    yield dtype, shape, lambda w, s: w.argmax(s), None
                    yield dtype, shape, lambda w, s: w.activate(s, "SOFTMAX"), None
                yield dtype, shape, lambda w, s: w.activate(s, "LOGISTIC"), None
                if dtype == "int8":
                    yield "int8", shape, lambda w, s: w.convert(s, "float32"), None
                    yield "int8", shape, lambda w, s: w.convert(s, "uint8"), None
                    yield "int8", shape, lambda w, s: w.convert(s, "int8"), "uint8"
                    yield "int8", shape, lambda w, s: w.convert(s, "int8"), "float32"
        for width, units in ((64, 10), (256, 10), (512, 100), (512, 1000), (1024, 512)):
            yield dtype, (1, width), lambda w, s, n=units: w.fully_connected(s, n), None


def _convolutions() -> Iterator[tuple[int, int, int, int, int]]:
    """Yield side, channels taken and made, size and stride: those of U-Nets of every width, then some by chance."""
    for side in (256, 192, 128, 96):
        for width in (8, 12, 16, 24, 32, 64):
            yield side, 3, width, 3, 1
            yield side, 1, width, 3, 1
            yield side, 3, width, 7, 2
            yield side, 1, width, 7, 2
            if width < 64:
                yield side, width, width, 3, 1
                yield side, 2 * width, width, 3, 1
                yield side // 2, width, 2 * width, 3, 1
                yield side, width, 3, 1, 1
    rng = np.random.default_rng(_SEED)
    count = 0
    while count < _CONVS:
        side, channels, filters = (int(rng.choice(each)) for each in (_SIDES, _WIDTHS, _WIDTHS))
        size, stride = ((3, 1), (3, 1), (3, 1), (1, 1), (3, 2), (1, 2))[int(rng.integers(6))]
        pixels = math.ceil(side / stride) ** 2
        work = pixels * channels * filters * size * size
        if 1e5 <= work <= _MOST_WORK and pixels * filters + side * side * channels <= _MOST_ELEMENTS:
            count += 1
            yield side, channels, filters, size, stride


def _nothing() -> bytes:
    from .writer import NetworkWriter

    writer = NetworkWriter("float32")
    source = writer.activation((1, 1, 1, 1))
    return writer.to_bytes([source], [writer.join(source, source)])


def _load(width: int, threads: int) -> dict[str, float]:
    """Return what loading a network of six convolutions takes."""
    from ai_edge_litert.interpreter import Interpreter

    from .writer import NetworkWriter

    writer = NetworkWriter("int8")
    source = last = writer.activation((1, 64, 64, 3))
    for times in (1, 1, 2, 2, 4, 4):
        last = writer.conv(last, width * times)
    data = writer.to_bytes([source], [last])
    before, start = _resident(), time.perf_counter()
    interpreter = Interpreter(model_content=data, num_threads=threads)
    interpreter.allocate_tensors()
    interpreter.invoke()
    taken = time.perf_counter() - start
    memory = max(0, _resident() - before)
    return {"model_bytes": float(len(data)), "load_ms": 1e3 * taken, "memory_bytes": float(memory)}


def _resident() -> int:
    """Return the memory that this process has resident, in bytes; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0


def _device() -> dict[str, str]:
    from importlib.metadata import version

    from ..engines.auto import _processor

    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor().partition(":")[2].strip() or _processor(),
        "cores": str(available_cores()),
        "runtime": f"ai-edge-litert {version('ai-edge-litert')}",
        "made": datetime.date.today().isoformat(),
    }
