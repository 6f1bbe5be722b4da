"""How long building takes: a U-Net on ResNet-50 and ResNet-50 itself, beside keras.applications' in the same process.

    python benchmarks/build_time.py [--repeats 7]

Figures (medians, seconds) to results/build_time.json. The networks take turns, and the first turn is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from keras_unetres.models import build_resnet, build_unet
from unetres_edge.files import make_folder, write_json

RESULTS = Path(__file__).resolve().parent / "results"
NETWORKS: dict[str, Callable[[], keras.Model]] = {
    "unet_resnet50": lambda: build_unet((256, 256, 3), 2, encoder="resnet50"),
    "resnet50": lambda: build_resnet(50),
    "keras.applications.ResNet50": lambda: keras.applications.ResNet50(weights=None),
}


def main() -> None:
    """Build each network in turn and write the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in NETWORKS}
    for _ in range(options.repeats + 1):
        for name, build in NETWORKS.items():
            start = time.perf_counter()
            build()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: round(median(values[1:]), 3) for name, values in seconds.items()}
    ratio = round(medians["resnet50"] / medians["keras.applications.ResNet50"], 3)
    result = {
        "command": f"python benchmarks/build_time.py --repeats {options.repeats}",
        "backend": keras.backend.backend(),
        "cores": os.cpu_count(),
        "median_seconds": medians,
        "first_seconds": {name: round(values[0], 3) for name, values in seconds.items()},
        "resnet50_over_keras_applications": ratio,
    }
    write_json(make_folder(RESULTS) / "build_time.json", result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
