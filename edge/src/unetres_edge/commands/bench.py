"""`unetres-edge bench`: how fast a model file is on this device, by stage and number of threads."""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import command_line
from ..engines.litert import LiteRTEngine
from ..engines.pool import MOST_THREADS, available_cores
from ..files import read_bytes, write_json
from ..model.card import read_card
from ..model.selftest import make_images
from ..segment.segmenter import Segmenter
from ..settings import Settings, setting
from .options import add_engine, add_model

STAGES = ("prepare", "infer", "post", "total")
_WARM_UP = 3


@dataclass(frozen=True, kw_only=True)
class BenchSettings(Settings):
    """What is timed, and where the figures go."""

    count: int = setting(50, "timed calls for each number of threads", least=1, most=10**6, metavar="N")
    threads: tuple[int, ...] | None = setting(
        None,
        "numbers of threads to try",
        least=1,
        most=MOST_THREADS,
        metavar="N",
        unset="1, 2, 4, ... up to all cores",
    )
    json: str | None = setting(None, "write the figures to this file, too", metavar="F")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the model and what is tried."""
    add_model(parser)
    command_line.add_options(parser, BenchSettings)
    add_engine(parser)


def run(options: argparse.Namespace) -> None:
    """Time a model file and print the figures."""
    settings = command_line.read(BenchSettings, options)
    figures = bench(options.model, count=settings.count, threads=settings.threads, engine=options.engine)
    print(f"engine     {figures['engine']}, {figures['count']} calls each, ms as p50 / p95")
    print("threads    " + "".join(f"{stage:>20}" for stage in STAGES) + f"{'load':>12}")
    for row in figures["runs"]:
        cells = (f"{row[stage]['p50']:.2f} / {row[stage]['p95']:.2f}" for stage in STAGES)
        print(f"{row['threads']:<11}" + "".join(f"{cell:>20}" for cell in cells) + f"{row['load_ms']:>12.1f}")
    if figures["peak_memory_bytes"] is not None:
        print(f"memory     {figures['peak_memory_bytes'] / 1e6:.0f} MB resident at most, Python and all")
    for row in figures["ops"]:
        work = f"{row['multiply_adds'] / 1e6:>12.1f} M multiply-adds {100 * row['share']:>6.1f} %"
        print(f"op         {row['op']:24}{row['count']:>4}{work}")
    print("           how long one op takes is not told: LiteRT's Python has no profiler, and XNNPACK joins ops")
    if settings.json:
        write_json(settings.json, figures)


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
        engine: one of `engines.table.NAMES`.

    Returns:
        JSON values: "engine", "runs" (one for each number of threads: "threads", "load_ms", and for each stage "p50"
        and "p95" in ms), "fastest" (threads), "peak_memory_bytes" (of this process; None where the system does not
        tell) and "ops" (one row for each kind: "op", "count", "multiply_adds", "share").

    Raises:
        UsageError: `count` or `threads` below 1, or beyond what can be meant.
        ModelError, FileSystemError: as `Segmenter`.
    """
    BenchSettings(count=count, threads=None if threads is None else tuple(threads))  # checks them
    sweep = list(threads) if threads is not None else _doubling(available_cores())
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
