"""The same network on several engines: milliseconds, share of labels equal to LiteRT's, and mean IoU, in one run.

    python benchmarks/edge_engines.py [--int8 M8.tflite --float M.tflite] [--images DIR --masks DIR] [--count 20]

Both files hold one trained network; without them, one with random weights is exported, whose labels agree less. The
engines take turns on each image. Labels are compared with those of LiteRT on the same file; the mean IoU is against
masks (indexed PNG of class ids, 255 left out) of the images' names, where given. Without images, those of the self-test
are used. `--onnx` is the int8 network as ONNX Runtime reads it, if you have it. Figures (medians) to
results/edge_engines.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from _command import given_command
from edge_overhead import make_model

from unetres_edge import Preprocessing, Segmenter
from unetres_edge.engines.pool import available_cores
from unetres_edge.files import make_folder, write_json
from unetres_edge.images.decode import read_image, read_mask
from unetres_edge.model.selftest import make_images
from unetres_edge.segment.files import find_images

RESULTS = Path(__file__).resolve().parent / "results"
IGNORE = 255


class OnnxEngine:
    """ONNX Runtime on a file that takes (1, h, w, C) float32 as the network sees it and gives scores in that layout."""

    name = "onnxruntime"

    def __init__(self, path: str, pre: Preprocessing, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._pre, self._input = pre, self._session.get_inputs()[0].name

    def run(self, tile: np.ndarray) -> np.ndarray:
        scores: np.ndarray = self._session.run(None, {self._input: self._pre.normalise(tile)[None]})[0][0]
        return scores


def main() -> None:
    """Run every engine that is there on every image, in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--int8", metavar="F")
    parser.add_argument("--float", metavar="F")
    parser.add_argument("--onnx", metavar="F")
    parser.add_argument("--images", metavar="DIR")
    parser.add_argument("--masks", metavar="DIR")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--threads", type=int, default=available_cores())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # "auto" measures in this run
        options.trained = bool(options.int8 and options.float)
        if not options.trained:
            options.int8 = make_model(Path(cache) / "int8.tflite", "static_wi8_ai8", "logits")
            options.float = make_model(Path(cache) / "float.tflite", "float32", "logits")
        result = compare(options)
    write_json(make_folder(RESULTS) / "edge_engines.json", result)
    print(json.dumps(result, indent=1))


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of each engine, and what "auto" took."""
    threads = options.threads
    sides = {
        "LiteRT float32": Segmenter(options.float, num_threads=threads),
        "LiteRT int8": Segmenter(options.int8, num_threads=threads),
        "OpenVINO float32": Segmenter(options.float, num_threads=threads, engine="openvino"),
        "OpenVINO int8": Segmenter(options.int8, num_threads=threads, engine="openvino"),
    }
    card = sides["LiteRT int8"].card
    if options.onnx:
        engine = OnnxEngine(options.onnx, card.preprocessing, threads)
        sides["ONNX Runtime int8"] = Segmenter(None, card=card, engine=engine)
    paths = find_images([options.images])[: options.count] if options.images else []
    images = [read_image(path) for path in paths] or make_images(card, count=options.count)
    masks = [read_mask(Path(options.masks) / f"{path.stem}.png") for path in paths] if options.masks else []
    classes = len(card.class_names)
    times: dict[str, list[float]] = {name: [] for name in sides}
    equal: dict[str, list[float]] = {name: [] for name in sides}
    confusion = {name: np.zeros((classes, classes), np.int64) for name in sides}
    for name in sides:
        sides[name].segment(images[0])
    for number, image in enumerate(images):
        maps = {}
        for name, segmenter in sides.items():
            start = time.perf_counter()
            answer = segmenter.segment(image)
            times[name].append(1e3 * (time.perf_counter() - start))
            maps[name] = answer.class_map
        for name, found in maps.items():
            reference = maps["LiteRT float32" if "float32" in name else "LiteRT int8"]
            equal[name].append(float((found == reference).mean()))
            if masks:
                kept = (masks[number] != IGNORE) & (masks[number] < classes)  # some sets leave out another id
                pairs = masks[number][kept].astype(np.int64) * classes + found[kept]
                confusion[name] += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    with Segmenter(options.int8, num_threads=threads, engine="auto") as segmenter:
        first = segmenter.segment(images[0])
    return {
        "command": given_command(),
        "trained": options.trained,
        "images": len(images),
        "classes": classes,
        "input": list(card.preprocessing.size),
        "threads": threads,
        "versions": {name: _version(name) for name in ("ai-edge-litert", "openvino", "onnxruntime")},
        "engines": {
            name: {
                "ms": round(float(np.median(times[name])), 2),
                "labels_equal_percent": round(100 * float(np.mean(equal[name])), 4),
                "least_of_an_image_percent": round(100 * min(equal[name]), 4),
                "mean_iou": mean_iou(confusion[name]) if masks else None,
            }
            for name in sides
        },
        "auto": {"took": first.engine, "agreement": first.agreement},
    }


def mean_iou(confusion: np.ndarray) -> float:
    """Return the mean IoU over the classes that occur in masks or answers."""
    inside, either = np.diag(confusion), confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    return round(float((inside[either > 0] / either[either > 0]).mean()), 5)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
