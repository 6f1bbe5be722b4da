"""`unetres-edge bench`: how fast a model file is on this device, by stage and number of threads.

What is timed is one tile, or with `--image` a whole frame through everything: preparing, tiles, joining, labels.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import command_line
from ..engines.litert import LiteRTEngine
from ..engines.pool import MOST_THREADS, available_cores
from ..engines.table import usual_engine
from ..errors import UsageError
from ..files import check_report, read_bytes, write_report
from ..images.decode import MAX_PIXELS
from ..model.card import Card, read_card
from ..model.selftest import make_images
from ..segment.segmenter import Segmenter
from ..segment.tiles import tile_origins, unpadded_starts
from ..settings import Settings, setting
from .energy import EnergyMeter
from .options import add_engine, add_model

STAGES = ("prepare", "infer", "post", "total")
_WARM_UP = 3
_CALLS, _CALLS_OF_A_FRAME = 50, 10
_SIZE = re.compile(r"(\d{1,9})[xX\u00d7](\d{1,9})")


def _check_size(text: str) -> None:
    match = _SIZE.fullmatch(text)
    width, height = (int(side) for side in match.groups()) if match else (0, 0)
    if not 0 < width * height <= MAX_PIXELS:
        raise UsageError(
            "--image is wrong",
            expected=f"width x height in px, such as 1920x1080, at most {MAX_PIXELS} pixels",
            found=repr(text),
        )


@dataclass(frozen=True, kw_only=True)
class BenchSettings(Settings):
    """What is timed, and where the figures go."""

    image: str | None = setting(
        None,
        "size of a whole frame to time through everything",
        metavar="WxH",
        unset="one tile, of the model's own size",
        check=_check_size,
    )
    count: int | None = setting(
        None,
        "timed calls for each number of threads",
        least=1,
        most=10**6,
        metavar="N",
        unset=f"{_CALLS}, of a frame {_CALLS_OF_A_FRAME}",
    )
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
    if settings.json:
        check_report(settings.json, dict.fromkeys(("image_px", "runs", "fastest")))
    figures = bench(
        options.model, image=settings.image, count=settings.count, threads=settings.threads, engine=options.engine
    )
    print(f"times      {figures['times']}")
    why = f" ({figures['engine_reason']})" if figures["engine_reason"] else ""
    print(f"engine     {figures['engine']}{why}, {figures['count']} calls each, ms as p50 / p95")
    print("threads    " + "".join(f"{stage:>20}" for stage in STAGES) + f"{'load':>12}{'energy':>12}")
    for row in figures["runs"]:
        cells = (f"{row[stage]['p50']:.2f} / {row[stage]['p95']:.2f}" for stage in STAGES)
        energy = "" if row["millijoules"] is None else f"{row['millijoules']:>9.1f} mJ"
        print(f"{row['threads']:<11}" + "".join(f"{cell:>20}" for cell in cells) + f"{row['load_ms']:>12.1f}{energy}")
    source = figures["energy_source"]
    print("energy     " + (f"of a call, by {source}, the whole of it" if source else "no sensor tells it here"))
    if figures["peak_memory_bytes"] is not None:
        print(f"memory     {figures['peak_memory_bytes'] / 1e6:.0f} MB resident at most, Python and all")
    for row in figures["ops"]:
        work = f"{row['multiply_adds'] / 1e6:>12.1f} M multiply-adds {100 * row['share']:>6.1f} %"
        print(f"op         {row['op']:24}{row['count']:>4}{work}")
    print("           how long one op takes is not told: LiteRT's Python has no profiler, and XNNPACK joins ops")
    if settings.json:
        write_report(settings.json, figures)


def bench(
    model: str | os.PathLike[str],
    *,
    image: str | None = None,
    count: int | None = None,
    threads: Sequence[int] | None = None,
    engine: str | None = None,
) -> dict[str, Any]:
    """Time `segment` on an image of the model's own size, or on a frame of another size.

    Args:
        model: path of a `.tflite` with a card, of a segmenter.
        image: size of the frame, "1920x1080" for its width and height in px; None for one tile.
        count: timed calls for each number of threads, after a few that are not; None for 50, of a frame 10.
        threads: numbers of threads to try; None for 1, 2, 4, ... up to the cores of this process.
        engine: name of `engines.table.NAMES`; None for what `predict` takes of itself.

    Returns:
        JSON values: "times" (what, in words), "image_px" ([width, height]), "tiles" (of an image), "engine",
        "engine_reason" (why it was taken, or ""), "count",
        "runs" (one for each number of threads: "threads", "load_ms", for each stage "p50" and "p95" in ms, and
        "millijoules" of a call, None where nothing tells), "fastest" (threads), "energy_source" (the sensors, or None),
        "peak_memory_bytes" (of this process; None where the system does not tell) and "ops" (one row for each kind:
        "op", "count", "multiply_adds", "share").

    Raises:
        UsageError: `image`, `count` or `threads` that cannot be meant.
        ModelError, FileSystemError: as `Segmenter`.
    """
    BenchSettings(image=image, count=count, threads=None if threads is None else tuple(threads))  # checks them
    sweep = list(threads) if threads is not None else _doubling(available_cores())
    data = read_bytes(model, "model file")
    card = read_card(data, file=os.fspath(model))
    engine = engine or usual_engine(card)
    picture = _picture(card, image)
    calls = count or (_CALLS if image is None else _CALLS_OF_A_FRAME)
    runs: list[dict[str, Any]] = []
    ran, reason, tiles, source = "", "", 1, None
    for number in sweep:
        start = time.perf_counter()
        with Segmenter(data, num_threads=number, engine=engine) as segmenter:
            loaded = time.perf_counter()
            tiles = _tiles(segmenter, picture)
            for _ in range(_WARM_UP):
                segmenter.segment(picture)
            with EnergyMeter() as meter:
                timings = [segmenter.segment(picture) for _ in range(calls)]
        ran, reason = timings[0].engine, timings[0].engine_reason
        source = meter.source if meter.joules is not None else None
        stages = {stage: percentiles([one.timing[stage] for one in timings]) for stage in STAGES}
        energy = None if meter.joules is None else round(1e3 * meter.joules / calls, 3)
        runs.append({"threads": number, "load_ms": round(1e3 * (loaded - start), 3), **stages, "millijoules": energy})
    height, width = picture.shape[:2]
    return {
        "times": _in_words(card, width, height, tiles, image is None),
        "image_px": [width, height],
        "tiles": tiles,
        "engine": ran,
        "engine_reason": reason,
        "count": calls,
        "runs": runs,
        "fastest": min(runs, key=lambda run: run["total"]["p50"])["threads"],
        "energy_source": source,
        "peak_memory_bytes": peak_memory(),
        "ops": _op_table(LiteRTEngine(data, card, num_threads=1)),
    }


def _picture(card: Card, size: str | None) -> np.ndarray:
    """Return an image (H, W, channels) uint8 of a frame's size, or of the model's own."""
    image = make_images(card, count=1)[0]
    if card.preprocessing.color_order == "bgr":
        image = np.ascontiguousarray(image[..., ::-1])
    if size is None:
        return image
    match = _SIZE.fullmatch(size)
    assert match is not None  # it has been checked
    width, height = (int(side) for side in match.groups())
    times = -(-height // image.shape[0]), -(-width // image.shape[1]), 1
    return np.ascontiguousarray(np.tile(image, times)[:height, :width])


def _tiles(segmenter: Segmenter, image: np.ndarray) -> int:
    """Return how often the network runs for an image."""
    pre = segmenter.card.preprocessing
    if pre.fit != "crop":
        return 1
    card = segmenter.card
    high, wide = (
        len(unpadded_starts(n, side, card.crop, card.stride) if card.crop else tile_origins(n, side, segmenter.overlap))
        for n, side in zip(image.shape[:2], pre.size, strict=True)
    )
    return high * wide


def _in_words(card: Card, width: int, height: int, tiles: int, own_size: bool) -> str:
    rows, columns = card.preprocessing.size
    if own_size:
        return f"one tile of {width} x {height} px, the network's own size; --image WxH times a frame"
    if card.preprocessing.fit != "crop":
        return f"a frame of {width} x {height} px through everything, scaled to {columns} x {rows} px"
    parts = f"{tiles} tile{'s' * (tiles > 1)} of {columns} x {rows} px"
    return f"a frame of {width} x {height} px through everything, in {parts}"


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
