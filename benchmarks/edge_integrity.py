"""Damaged model files, many threads, many calls: what `unetres_edge` refuses, and what would happen without its digest.

    python benchmarks/edge_integrity.py [--count 10000] [--calls 16000] [--row 20000]

Four small models (float32 and int8, U-Net and ResNet-FCN, random weights) are damaged COUNT times each, from a seed:
bits flipped, bytes overwritten, spans zeroed, repeated or swapped, files cut short. Each damaged file goes to
`Segmenter`, which has to refuse it. The control runs the same files with the digest check left out, in child processes,
for some crash, and compares the scores with those of the sound file. Then 8 threads share a segmenter, and one is
called many times while its file is truncated and replaced. Figures to results/edge_integrity.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from unetres_edge import Segmenter, UnetresError, read_card
from unetres_edge.engines.litert import LiteRTEngine
from unetres_edge.files import make_folder, write_json

RESULTS = Path(__file__).resolve().parent / "results"
SIZE = 32
KINDS = ("flip a bit", "overwrite bytes", "zero a span", "repeat a span", "swap spans", "cut short", "insert bytes")
_HANGS_AFTER = 10  # seconds


def main() -> None:
    """Run the campaigns and write what became of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--calls", type=int, default=16_000)
    parser.add_argument("--row", type=int, default=20_000)
    parser.add_argument("--control", metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.control:
        run_control(Path(options.control), options.first, options.count)
        return
    counts = f"--count {options.count} --calls {options.calls} --row {options.row}"
    result: dict[str, Any] = {"command": f"python benchmarks/edge_integrity.py {counts}", "damaged": {}}
    with tempfile.TemporaryDirectory() as folder:
        models = make_models(Path(folder))
        for name, path in models.items():
            row = {"with the digest": with_digest(path, options.count), "without": without(path, options.count)}
            result["damaged"][name] = row
            print(name, json.dumps(row), flush=True)
        totals = {
            side: dict(sum((Counter(row[side]) for row in result["damaged"].values()), Counter()))
            for side in ("with the digest", "without")
        }
        result["damaged"]["all"] = totals
        tiny = models["int8 U-Net"]
        result["threads"] = share(tiny, options.calls)
        result["in a row"] = call_in_a_row(tiny, options.row)
    write_json(make_folder(RESULTS) / "edge_integrity.json", result)
    print(json.dumps(result, indent=1))


def make_models(folder: Path) -> dict[str, Path]:
    """Export the four models."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    from keras_unetres.models import build_resnet, build_unet
    from keras_unetres.tflite import export_tflite
    from unetres_edge import Preprocessing

    keras.utils.set_random_seed(0)
    shape = (SIZE, SIZE, 3)
    pre = Preprocessing(channels=3, value_range=(-1, 1), size=shape[:2])
    noise = np.random.default_rng(0).uniform(-1, 1, (16, *shape)).astype(np.float32)
    networks = {"U-Net": build_unet(shape, 4, filters=4, depth=2), "ResNet-FCN": build_fcn(build_resnet, shape)}
    models = {}
    for name, network in networks.items():
        for word, recipe in (("float32", "float32"), ("int8", "static_wi8_ai8")):
            path = folder / f"{word}_{name}.tflite"
            export_tflite(network, path, recipe=recipe, preprocessing=pre, calibration=noise)
            models[f"{word} {name}"] = path
    return models


def build_fcn(build_resnet: Any, shape: tuple[int, int, int]) -> Any:
    """Return a fully convolutional ResNet-20: scores of the last stage, brought to full size (Long 2015)."""
    import keras

    network = build_resnet(20, shape, 4)
    last = next(layer.output for layer in reversed(network.layers) if len(layer.output.shape) == 4)
    scores = keras.layers.Conv2D(4, 1, name="scores")(last)
    factor = SIZE // last.shape[1]
    full = keras.layers.UpSampling2D(factor, interpolation="bilinear", name="full_size")(scores)
    return keras.Model(network.input, full)


def damaged(data: bytes, number: int) -> bytes:
    """Return the file damaged in one way, which `number` decides; never equal to the sound one."""
    draw = np.random.default_rng([7, number])
    while True:
        changed = bytearray(data)
        at, length = int(draw.integers(len(data))), int(2 ** draw.integers(0, 10))
        other = int(draw.integers(len(data)))
        match KINDS[int(draw.integers(len(KINDS)))]:
            case "flip a bit":
                changed[at] ^= 1 << int(draw.integers(8))
            case "overwrite bytes":
                changed[at : at + length] = draw.bytes(len(changed[at : at + length]))
            case "zero a span":
                changed[at : at + length] = bytes(len(changed[at : at + length]))
            case "repeat a span":
                changed[at:at] = changed[at : at + length]
            case "swap spans":
                length = min(length, len(data) - max(at, other))
                one, two = data[at : at + length], data[other : other + length]
                changed[at : at + length], changed[other : other + length] = two, one
            case "cut short":
                del changed[at:]
            case "insert bytes":
                changed[at:at] = draw.bytes(length)
        if bytes(changed) != data:
            return bytes(changed)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)


def with_digest(path: Path, count: int) -> dict[str, int]:
    """Give each damaged file to `Segmenter`; what is not refused is run and compared."""
    data = path.read_bytes()
    right = Segmenter(data, num_threads=1).segment(picture(0), scores=True).scores
    found: Counter[str] = Counter()
    for number in range(count):
        try:
            with Segmenter(damaged(data, number), num_threads=1) as segmenter:
                scores = segmenter.segment(picture(0), scores=True).scores
            found["ran, same scores" if np.array_equal(scores, right) else "silently wrong"] += 1
        except UnetresError:
            found["refused"] += 1
    return dict(found)


def without(path: Path, count: int) -> dict[str, int]:
    """Run each damaged file with no check of the digest, in child processes that are started anew when they die."""
    found: Counter[str] = Counter()
    first = 0
    while first < count:
        command = [sys.executable, __file__, "--control", str(path), "--first", str(first), "--count", str(count)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        said = done.stdout.splitlines()
        found.update(said)
        first += len(said)
        if done.returncode and first < count:
            found["hung" if done.returncode == -signal.SIGALRM else "crashed the process"] += 1
            first += 1
    return dict(found)


def run_control(path: Path, first: int, count: int) -> None:
    """Print one line for each damaged file: what LiteRT makes of it."""
    data = path.read_bytes()
    card = read_card(data)
    right = LiteRTEngine(data, card, num_threads=1).run(picture(0))
    for number in range(first, count):
        signal.alarm(_HANGS_AFTER)
        try:
            scores = LiteRTEngine(damaged(data, number), card, num_threads=1).run(picture(0))
            print("ran, same scores" if np.array_equal(scores, right) else "silently wrong", flush=True)
        except Exception:  # without a check, errors of any kind come
            print("refused", flush=True)


def share(path: Path, calls: int) -> dict[str, int]:
    """Let 8 threads share a segmenter; count the wrong masks."""
    with Segmenter(path, num_threads=1) as segmenter:
        right = [segmenter.segment(picture(seed)).class_map for seed in range(20)]
        start = threading.Barrier(8)

        def work(worker: int) -> int:
            start.wait()
            order = ((worker * 7 + turn) % 20 for turn in range(calls // 8))
            return sum(not np.array_equal(segmenter.segment(picture(n)).class_map, right[n]) for n in order)

        with ThreadPoolExecutor(8) as pool:
            wrong = sum(pool.map(work, range(8)))
    return {"threads": 8, "calls": calls // 8 * 8, "wrong": wrong}


def call_in_a_row(path: Path, count: int) -> dict[str, int]:
    """Call one segmenter many times, its file truncated after a third and replaced after two; watch the memory."""
    wrong, after_warm_up, image = 0, 0, picture(0)
    with Segmenter(path, num_threads=1) as segmenter:
        right = segmenter.segment(image).class_map
        for number in range(count):
            wrong += not np.array_equal(segmenter.segment(image).class_map, right)
            if number == count // 10:
                after_warm_up = resident_kb()
            if number == count // 3:
                os.truncate(path, 100)
            if number == 2 * count // 3:
                path.write_bytes(b"something else" * 10_000)
    return {"calls": count, "wrong": wrong, "growth_kb": resident_kb() - after_warm_up}


def resident_kb() -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    main()
