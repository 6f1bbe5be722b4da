"""How fast a model file is on this device, by stage and number of threads, and whether it computes the same labels."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engines.litert import LiteRTEngine, available_cores
from ..engines.table import open_engine
from ..errors import ModelError, UsageError
from ..files import read_bytes
from ..model.card import Card, read_card, read_metadata
from ..model.selftest import SELFTEST_NAME, SelfTest, expected_labels, make_images
from ..segment.segmenter import Segmenter

STAGES = ("prepare", "infer", "post", "total")
_WARM_UP = 3


def bench(
    model: str | os.PathLike[str],
    *,
    count: int = 50,
    threads: Sequence[int] | None = None,
    engine: str = "litert",
) -> dict[str, Any]:
    """Time `segment` on an image of the model's own size.

    Args:
        model: path of a `.tflite` with a card, of a segmenter.
        count: timed calls for each number of threads, after a few that are not.
        threads: numbers of threads to try; None for 1, 2, 4, ... up to the cores of this process.
        engine: a name of `engines.NAMES`.

    Returns:
        JSON values: "engine", "runs" (one for each number of threads: "threads", "load_ms", and for each stage "p50"
        and "p95" in ms), "fastest" (threads), "peak_memory_bytes" (of this process; None where the system does not
        tell) and "ops" (one row for each kind: "op", "count", "multiply_adds", "share").

    Raises:
        UsageError: `count` or `threads` below 1.
        ModelError, FileSystemError: as `Segmenter`.
    """
    sweep = list(threads) if threads is not None else _doubling(available_cores())
    if count < 1 or not sweep or min(sweep) < 1:
        raise UsageError("count or threads is wrong", expected="at least 1", found=f"{count} and {sweep}")
    data = read_bytes(model, "model file")
    card = read_card(data, file=os.fspath(model))
    image = make_images(card, count=1)[0]
    if card.preprocessing.color_order == "bgr":
        image = np.ascontiguousarray(image[..., ::-1])
    runs: list[dict[str, Any]] = []
    ran = ""
    for number in sweep:
        start = time.perf_counter()
        with Segmenter(data, num_threads=number, engine=engine) as segmenter:
            loaded = time.perf_counter()
            timings = [segmenter.segment(image) for _ in range(_WARM_UP + count)][_WARM_UP:]
        ran = timings[0].engine
        stages = {stage: percentiles([one.timing[stage] for one in timings]) for stage in STAGES}
        runs.append({"threads": number, "load_ms": round(1e3 * (loaded - start), 3), **stages})
    return {
        "engine": ran,
        "count": count,
        "runs": runs,
        "fastest": min(runs, key=lambda run: run["total"]["p50"])["threads"],
        "peak_memory_bytes": peak_memory(),
        "ops": _op_table(LiteRTEngine(data, card, num_threads=1)),
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the 95th percentile, ms."""
    middle, high = np.percentile(values, (50, 95))
    return {"p50": round(float(middle), 3), "p95": round(float(high), 3)}


def peak_memory() -> int | None:
    """Return the most memory that this process has had resident so far, in bytes; None if the system does not say."""
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


def verify(model: str | os.PathLike[str], *, engine: str = "litert", num_threads: int | None = None) -> dict[str, Any]:
    """Run a file's self-test and return whether this device computes the labels it was made with.

    Returns:
        JSON values: "same" (whether the share is within the tolerance), "equal" (share of labels), "least_equal",
        "images" and "engine".

    Raises:
        ModelDamagedError: the file is not the one that was sealed.
        ModelError: the file has no self-test, or one that does not fit it.
        EngineError: as `open_engine`.
    """
    data = read_bytes(model, "model file")
    card = read_card(data, file=os.fspath(model))
    test = _read_selftest(data, card, os.fspath(model))
    runs = open_engine(engine, data, card, num_threads=num_threads)
    found = expected_labels(runs, make_images(card, seed=test.seed, count=len(test.labels)))
    equal = float((found == test.labels).mean())
    return {
        "same": equal >= test.least_equal,
        "equal": equal,
        "least_equal": test.least_equal,
        "images": len(test.labels),
        "engine": str(getattr(runs, "name", "")),
    }


def _read_selftest(data: bytes, card: Card, file: str) -> SelfTest:
    packed = read_metadata(data, SELFTEST_NAME, file=file)
    if packed is None:
        raise ModelError("the file has no self-test", file=file, fix="export it again")
    test = SelfTest.from_bytes(packed)
    place = card.preprocessing.size if card.task == "segment" else (1, 1)
    if test.labels.ndim != 3 or not len(test.labels) or test.labels.shape[1:] != place:
        raise ModelError("the self-test does not fit the model", file=file, expected=place, found=test.labels.shape)
    return test


def _op_table(engine: LiteRTEngine) -> list[dict[str, Any]]:
    ops = engine.ops()
    counts, work = Counter(op["op"] for op in ops), Counter[str]()
    for op in ops:
        work[op["op"]] += op["multiply_adds"]
    total = max(1, sum(work.values()))
    rows = [
        {"op": name, "count": counts[name], "multiply_adds": work[name], "share": round(work[name] / total, 4)}
        for name in counts
    ]
    return sorted(rows, key=lambda row: (-row["multiply_adds"], row["op"]))


def _doubling(most: int) -> list[int]:
    return sorted({1 << n for n in range(most.bit_length())} | {most})
