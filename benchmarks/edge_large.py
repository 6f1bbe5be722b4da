"""An image of 12,000 x 12,000 px segmented in bounded memory; figures to results/edge_large.json.

    python benchmarks/edge_large.py [--side PX] [--model M.tflite]

The image is a memory-mapped file and so is the class map. In the mode "exact" the map is held against the one made of
four overlapping quarters, and, of a smaller image, against the network exported at that image's own size. In the mode
"blend" the agreement with the exact map is counted. Memory is the anonymous resident part of the process (`RssAnon` of
Linux), looked at after every tile, beyond what it is with the model loaded and run once. Time is held against as many
bare `invoke()` of the same file, sampled in between every few tiles. Without a model, a U-Net of 8 filters, three
levels deep, with random weights is exported at 256 x 256 x 3; agreement in the mode "blend" says more of a trained one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _command import given_command
from ai_edge_litert.interpreter import Interpreter

from unetres_edge import Segmenter
from unetres_edge.engines.pool import available_cores
from unetres_edge.files import make_folder, write_json
from unetres_edge.segment.large import label_agreement

HERE = Path(__file__).resolve().parent
SMALL = 768  # px, the side of the image that also goes through a network of its own size
EVERY = 16  # tiles between two bare inferences


def main() -> None:
    """Segment the image in both modes, and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", type=int, default=12_000)
    parser.add_argument("--model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        result: dict[str, Any] = {
            "command": given_command(),
            "model": Path(options.model).name if options.model else "U-Net, 8 filters, depth 3, random weights, int8",
            "side": options.side,
            "threads": available_cores(),
            "processor": platform.processor() or platform.machine(),
        }
        if options.model:
            model = Path(options.model)
        else:
            network = make_network()
            model = export(network, folder / "m.tflite", "static_wi8_ai8", 256)
            result["whole"] = dict(compare_with_whole(network, folder))
        image = make_image(folder / "image", options.side)
        maps = {}
        for mode in ("exact", "blend"):
            maps[mode] = np.memmap(folder / mode, np.uint8, "w+", shape=image.shape[:2])
            result[mode] = measure(model, image, maps[mode], mode)
            print(mode, json.dumps(result[mode]), flush=True)
        result["blend"]["labels_equal_to_exact"] = label_agreement(maps["blend"], maps["exact"])
        result["exact"]["labels_equal_to_quarters"] = label_agreement(by_quarters(model, image, folder), maps["exact"])
        result["labels"] = np.bincount(maps["exact"][::7, ::7].ravel()).tolist()
    write_json(make_folder(HERE / "results") / "edge_large.json", result)
    print(json.dumps(result, indent=1))


def make_network() -> Any:
    """Build the network."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    keras.utils.set_random_seed(0)
    return build(256)


def build(side: int) -> Any:
    """Return the network with an input of this side, px, with weights yet to be set."""
    from keras_unetres.models import build_unet

    return build_unet((side, side, 3), 3, filters=8, depth=3)


def export(network: Any, path: Path, recipe: str, side: int) -> Path:
    """Export the network's weights at an input of this side, px."""
    from keras_unetres.models import deepest_stride, receptive_halo
    from keras_unetres.tflite import export_tflite
    from unetres_edge import Card, Preprocessing
    from unetres_edge.model.card import default_colors

    sized = build(side)
    sized.set_weights(network.get_weights())
    pre = Preprocessing(channels=3, value_range=(-1, 1), size=(side, side))
    names = ("a", "b", "c")
    card = Card(names, default_colors(3), pre, halo=receptive_halo(sized), stride=deepest_stride(sized))
    noise = np.concatenate([pre.normalise(make_pixels(side, seed))[None] for seed in range(4)])
    calibration = None if recipe == "float32" else noise
    export_tflite(sized, path, recipe=recipe, preprocessing=pre, calibration=calibration, card=card)
    return path


def make_pixels(side: int, seed: int) -> np.ndarray:
    """Return (side, side, 3) uint8: smooth spots of many sizes with noise on them."""
    rng = np.random.default_rng(seed)
    total = np.zeros((side, side, 3), np.float32)
    for step in (4, 16, 64):
        few = rng.normal(size=(-(-side // step), -(-side // step), 3)).astype(np.float32)
        total += few.repeat(step, 0).repeat(step, 1)[:side, :side]
    return np.clip(128 + 40 * total, 0, 255).astype(np.uint8)


def make_image(path: Path, side: int) -> np.ndarray:
    """Write the image to a file, block by block, and return it mapped read-only."""
    image = np.memmap(path, np.uint8, "w+", shape=(side, side, 3))
    block = 1000
    for y in range(0, side, block):
        for x in range(0, side, block):
            pixels = make_pixels(block, 1000 + y * side + x)
            image[y : y + block, x : x + block] = pixels[: side - y, : side - x]
    image.flush()
    return np.memmap(path, np.uint8, "r", shape=(side, side, 3))


def compare_with_whole(network: Any, folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield for each recipe how tiles of a small image agree with the network exported at that image's size."""
    image = make_pixels(SMALL, 99)
    yield "side", SMALL
    for recipe in ("float32", "static_wi8_ai8"):
        tiles = export(network, folder / f"{recipe}_tiles.tflite", recipe, 256)
        whole = export(network, folder / f"{recipe}_whole.tflite", recipe, SMALL)
        with Segmenter(whole) as segmenter:
            expected = segmenter.segment(image).class_map
        with Segmenter(tiles) as segmenter:
            found = {mode: segmenter.segment_large(image, mode=mode).class_map for mode in ("exact", "blend")}
        yield recipe, {f"labels_equal_{mode}": label_agreement(each, expected) for mode, each in found.items()}


def anonymous() -> int:
    """Return the anonymous resident memory of this process in kB."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def measure(model: Path, image: np.ndarray, out: np.ndarray, mode: str) -> dict[str, Any]:
    """Segment the image, and return time and memory."""
    bare = Interpreter(model_content=model.read_bytes(), num_threads=available_cores())
    bare.allocate_tensors()
    invokes: list[float] = []
    most = tiles = 0

    def invoke() -> None:
        start = time.perf_counter()
        bare.invoke()
        invokes.append(time.perf_counter() - start)

    def watch(done: int, total: int) -> None:
        nonlocal most, tiles
        most, tiles = max(most, anonymous()), total
        if done % EVERY == 0:
            invoke()

    with Segmenter(model) as segmenter:
        segmenter.segment_large(image[:300, :300], mode=mode)
        for _ in range(5):
            invoke()
        invokes.clear()
        before = anonymous()
        start = time.perf_counter()
        result = segmenter.segment_large(image, out=out, mode=mode, progress=watch)
        seconds = time.perf_counter() - start - sum(invokes)
        return {
            "tiles": tiles,
            "seconds": round(seconds, 2),
            "megapixels_a_second": round(image.shape[0] * image.shape[1] / 1e6 / seconds, 3),
            "invoke_ms": round(1e3 * median(invokes), 3),
            "invoke_mean_ms": round(1e3 * sum(invokes) / len(invokes), 3),
            "seconds_over_tiles_x_invoke": round(seconds / (tiles * sum(invokes) / len(invokes)), 4),
            "seconds_over_tiles_x_median_invoke": round(seconds / (tiles * median(invokes)), 4),
            "infer_share": round(result.timing["infer"] / 1e3 / seconds, 4),
            "anonymous_growth_mb": round((most - before) / 1000, 1),
            "image_mb": round(image.nbytes / 1e6, 1),
        }


def by_quarters(model: Path, image: np.ndarray, folder: Path) -> np.ndarray:
    """Return the map made of four quarters that overlap by as much as the network reaches."""
    joined = np.memmap(folder / "joined", np.uint8, "w+", shape=image.shape[:2])
    with Segmenter(model) as segmenter:
        halo, stride = segmenter.card.halo, segmenter.card.stride
        margin = -(-halo // stride) * stride
        side = image.shape[0]
        middle = side // (2 * stride) * stride
        halves = ((0, middle), (middle, side))
        spans = [(max(0, first - margin), min(side, end + margin), first, end) for first, end in halves]
        for y, y_end, top, bottom in spans:
            for x, x_end, left, right in spans:
                part = segmenter.segment_large(image[y:y_end, x:x_end], mode="exact").class_map
                joined[top:bottom, left:right] = part[top - y : bottom - y, left - x : right - x]
    return joined


if __name__ == "__main__":
    main()
