"""What `Segmenter.segment` costs beyond the bare `invoke()` of the interpreter, on an image of the model's own size.

    python benchmarks/edge_overhead.py [--model M.tflite] [--count 200] [--threads N] [--peers PYTHON]

Without a model, a U-Net with 32 filters at 256 x 256 x 3 and random weights is exported to int8; what a network answers
does not change what it costs. The two sides take turns. PYTHON is a Python with mediapipe, openvino-model-api, openvino
and ai-edge-litert, whose wrappers are timed against their own bare inference in the same way. Figures (medians, ms) to
results/edge_overhead.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _command import given_command
from ai_edge_litert.interpreter import Interpreter

from unetres_edge import Segmenter
from unetres_edge.engines.codec import TensorCodec
from unetres_edge.engines.pool import available_cores
from unetres_edge.files import make_folder, write_json

HERE = Path(__file__).resolve().parent
WARM_UP = 5


def main() -> None:
    """Time both sides in turn, each stage alone, and the peers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--peers", metavar="PYTHON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(options.model or make_model(Path(folder) / "unet32.tflite", "static_wi8_ai8", "logits"))
        result: dict[str, Any] = {
            "command": given_command(),
            "model": model.name if options.model else "U-Net, 32 filters, 256 x 256 x 3, int8, random weights",
            "count": options.count,
            "threads": options.threads,
            "processor": platform.processor() or platform.machine(),
            **time_own(model, options.count, options.threads),
        }
        if options.peers:
            float_model = make_model(Path(folder) / "mediapipe.tflite", "float32", "mediapipe")
            result["peers"] = time_peers(options.peers, float_model, model, options.count // 4, options.threads)
    write_json(make_folder(HERE / "results") / "edge_overhead.json", result)
    print(json.dumps(result, indent=1))


def make_model(path: Path, recipe: str, head: str) -> Path:
    """Export the network with random weights."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from keras_unetres.models import build_unet
    from keras_unetres.tflite import export_tflite
    from unetres_edge import Preprocessing

    pre = Preprocessing(channels=3, value_range=(-1, 1), size=(256, 256))
    noise = np.random.default_rng(0).uniform(-1, 1, (4, 256, 256, 3)).astype(np.float32)
    network = build_unet((256, 256, 3), 2, filters=32, depth=4)
    export_tflite(network, path, recipe=recipe, preprocessing=pre, calibration=noise, head=head)
    return path


def time_own(model: Path, count: int, threads: int) -> dict[str, Any]:
    """Return the medians of bare `invoke()` and of `segment()`, and of each stage by itself."""
    interpreter = Interpreter(model_content=model.read_bytes(), num_threads=threads)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    with Segmenter(model, num_threads=threads) as segmenter:
        pre = segmenter.card.preprocessing
        image = np.random.default_rng(1).integers(0, 256, (*pre.size, pre.channels)).astype(np.uint8)
        codec = TensorCodec(segmenter.card, source, target)
        codec.write(pre.prepare(image), interpreter.tensor(source["index"])()[0])
        bare, whole = alternate(interpreter.invoke, lambda: segmenter.segment(image), count)
        stages = {
            "prepare": timed(lambda: pre.prepare(image), count),
            "table into the tensor": timed(lambda: codec.write(image, interpreter.tensor(source["index"])()[0]), count),
            "invoke": median(bare),
            "labels from the tensor": timed(lambda: codec.labels(interpreter.tensor(target["index"])()[0]), count),
        }
    extra = [b - a for a, b in zip(bare, whole, strict=True)]
    return {
        "invoke_ms": round(median(bare), 3),
        "segment_ms": round(median(whole), 3),
        "ratio": round(median(whole) / median(bare), 4),
        "extra_ms": round(median(whole) - median(bare), 3),
        "median_of_pairs_extra_ms": round(median(extra), 3),
        "stages_ms": {name: round(value, 3) for name, value in stages.items()},
    }


def alternate(one: Callable[[], object], other: Callable[[], object], count: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of two calls that take turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(WARM_UP + count):
        for side, call in enumerate((one, other)):
            start = time.perf_counter()
            call()
            if turn >= WARM_UP:
                times[side].append(1e3 * (time.perf_counter() - start))
    return times


def timed(call: Callable[[], object], count: int) -> float:
    return median(alternate(call, lambda: None, count)[0])


def time_peers(python: str, mediapipe: Path, quantized: Path, count: int, threads: int) -> dict[str, Any]:
    """Return what the peers' wrappers cost; what keeps one from running is told in its place."""
    found = {}
    for peer, model in (("mediapipe", mediapipe), ("openvino-model-api", quantized)):
        command = [python, str(HERE / "_edge_peers.py"), peer, str(model), str(count), str(threads)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
        lines = done.stdout.strip().splitlines()
        found[peer] = json.loads(lines[-1]) if done.returncode == 0 else {"error": done.stderr.strip()[-300:]}
    return found


if __name__ == "__main__":
    main()
