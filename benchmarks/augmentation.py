"""Augmented crops a second: ours beside albumentations and Keras' own layers; figures to results/augmentation.json.

    pip install --target /tmp/albumentations albumentations==2.0.8 opencv-python-headless
    python benchmarks/augmentation.py --albumentations /tmp/albumentations [--repeats 5] [--seconds 2]

Crops of 256 x 256 px from isbi2012 (grey) and camvid (colour) below the folder that UNETRES_DATA names,
changed as the preset "microscopy" says: flips, quarter turns, for half of them rotation, scale and an elastic
displacement, then gamma, brightness and contrast. A set that is not there is left out, and so is albumentations, which
is no dependency; both say so.

- ours and Keras: `tf.data` with two parallel calls, batches of 8. Keras' layers change a whole batch at once (one image
  at a time they are many times as slow), every image of it; they have no quarter turns and no gamma.
- albumentations: two processes that each count their own crops and pass nothing on, OpenCV's threads off, no conversion
  to float. Four rows, one for each way it has to bend an image. The first two are smooth; "grid elastic" and "grid
  distortion" have folds along straight lines, and the last moves whole rows and columns only.

The rows take turns; medians over the turns, and ratios within each turn.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _data import DATA, left_out
from PIL import Image

from unetres_edge.files import make_folder, write_json

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parent.parent
SETS = {"isbi2012": ("isbi2012", "L"), "camvid": ("camvid/train", "RGB")}
SIZE, BATCH, WORKERS, IMAGES = 256, 8, 2, 24
BENDS = ("elastic", "elastic, approximate", "grid elastic", "grid distortion")


def main() -> None:
    """Measure every row on every set in turns and write the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--albumentations", default="", help="folder that albumentations was installed to")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    options = parser.parse_args()
    sets: dict[str, Any] = {}
    versions: dict[str, str] = {}
    for name in SETS:
        if not (DATA / name).is_dir():
            print(left_out(name))
            continue
        images, masks = read_set(name)
        rows = {"ours": ours(images, masks), "keras, batched": keras_layers(images, masks)}
        with Workers(name, options.albumentations) as workers:
            versions |= workers.versions
            rows |= workers.rows()
            rates: dict[str, list[float]] = {row: [] for row in rows}
            for _, row in itertools.product(range(options.repeats), rows):
                rates[row].append(rows[row](options.seconds))
                print(f"{name:10} {row:40} {rates[row][-1]:8.1f} crops/s", flush=True)
        sets[name] = {
            "image": list(images.shape[1:]),
            "crops_per_second": {row: round(median(values), 1) for row, values in rates.items()},
            "ours_over": {
                row: round(median(a / b for a, b in zip(rates["ours"], values, strict=True)), 2)
                for row, values in rates.items()
                if row != "ours"
            },
            "lowest_and_highest": {row: [round(min(v), 1), round(max(v), 1)] for row, v in rates.items()},
        }
    names = ("tensorflow", "keras", "numpy")
    result = {
        "command": f"python benchmarks/augmentation.py --repeats {options.repeats} --seconds {options.seconds:g}",
        "crop": [SIZE, SIZE],
        "cores": os.cpu_count(),
        "versions": {package: version(package) for package in names} | versions,
        "sets": sets,
    }
    write_json(make_folder(ROOT / "benchmarks" / "results") / "augmentation.json", result)
    print(json.dumps(sets, indent=1))


def read_set(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the first images (N, H, W, C) uint8 and their masks (N, H, W) uint8."""
    folder, mode = SETS[name]
    paths = sorted((DATA / folder / "images").iterdir())[:IMAGES]
    images = np.stack([np.asarray(Image.open(path).convert(mode)) for path in paths])
    masks = np.stack([np.asarray(Image.open(DATA / folder / "masks" / path.name)) for path in paths])
    return images.reshape(*masks.shape, -1), (masks > 0).astype(np.uint8) if mode == "L" else masks.astype(np.uint8)


def ours(images: np.ndarray, masks: np.ndarray) -> Callable[[float], float]:
    """Return what measures the batches that `unetres train` learns from."""
    from keras_unetres.choices.augmentations import AUGMENTATIONS
    from keras_unetres.data import dataset_from_arrays, read_records
    from keras_unetres.data.pipeline import Order, training_batches
    from keras_unetres.data.samples import Samples
    from unetres_edge.images.preprocessing import Preprocessing

    names = [str(n) for n in range(int(masks.max()) + 1)]
    parts = ["train"] * (len(images) - 1) + ["val"]
    dataset = dataset_from_arrays(images, masks, splits=parts, classes=names)
    records = read_records(dataset, ["train"], progress=False)["train"]
    samples = Samples(records, Preprocessing(channels=images.shape[-1], size=(SIZE, SIZE)))
    settings = AUGMENTATIONS["microscopy"]
    return counter(training_batches(Order(samples, BATCH, 1), settings, last_step=1 << 40))


def keras_layers(images: np.ndarray, masks: np.ndarray) -> Callable[[float], float]:
    """Return what measures Keras' preprocessing layers on batches of images and masks."""
    import keras
    import tensorflow as tf

    layers = [
        keras.layers.RandomCrop(SIZE, SIZE),
        keras.layers.RandomFlip("horizontal_and_vertical"),
        keras.layers.RandomRotation(45 / 360, fill_mode="reflect"),
        keras.layers.RandomZoom((-0.2, 0.25), fill_mode="reflect"),
        keras.layers.RandomElasticTransform(factor=0.5),
        keras.layers.RandomBrightness(0.1, value_range=(0, 255)),
        keras.layers.RandomContrast(0.2, value_range=(0, 255)),
    ]

    def change(image: Any, mask: Any) -> dict[str, Any]:
        batch = {"images": tf.cast(image, tf.float32), "segmentation_masks": mask[..., None]}
        for layer in layers:
            batch = layer(batch, training=True)
        return batch

    pairs = tf.data.Dataset.from_tensor_slices((images, masks)).cache().repeat()
    return counter(pairs.batch(BATCH).map(change, num_parallel_calls=WORKERS).prefetch(2))


def counter(data: Any) -> Callable[[float], float]:
    """Return what counts the crops a second of batches, once they flow."""

    def measure(seconds: float) -> float:
        batches = iter(data)
        for _ in range(4):
            next(batches)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            next(batches)
            count += BATCH
        return count / (time.perf_counter() - start)

    return measure


class Workers:
    """Processes that run albumentations, each on its own."""

    def __init__(self, name: str, folder: str) -> None:
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(WORKERS)]
        self._ends = [mine for mine, _ in pipes]
        self._processes = [context.Process(target=work, args=(theirs, name, folder)) for _, theirs in pipes]
        for process in self._processes:
            process.start()
        self.versions: dict[str, str] = [end.recv() for end in self._ends][0]
        if not self.versions:
            print("albumentations: left out, it cannot be imported; see the first lines of this file")

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        for end, process in zip(self._ends, self._processes, strict=True):
            end.send(None)
            process.join()

    def rows(self) -> dict[str, Callable[[float], float]]:
        """Return what measures each way to bend."""

        def measure(bend: str) -> Callable[[float], float]:
            return lambda seconds: self._run(bend, seconds)

        return {f"albumentations, {bend}": measure(bend) for bend in BENDS} if self.versions else {}

    def _run(self, bend: str, seconds: float) -> float:
        for end in self._ends:
            end.send((bend, seconds))
        return sum(end.recv() for end in self._ends)


def work(end: Connection, name: str, folder: str) -> None:
    """Answer each (bend, seconds) with the crops a second of this process."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    sys.path.extend([folder] if folder else [])
    try:
        import albumentations
        import cv2
    except ImportError:
        end.send({})
        end.recv()
        return
    cv2.setNumThreads(0)
    images, masks = read_set(name)
    transforms = {bend: transform(bend) for bend in BENDS}
    end.send({"albumentations": albumentations.__version__, "opencv": cv2.__version__})
    while (asked := end.recv()) is not None:
        bend, seconds = asked
        pairs: Iterator[Any] = itertools.cycle(zip(images, masks, strict=True))
        for image, mask in itertools.islice(pairs, 20):
            transforms[bend](image=image, mask=mask)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            image, mask = next(pairs)
            transforms[bend](image=image, mask=mask)
            count += 1
        end.send(count / (time.perf_counter() - start))


def transform(bend: str) -> Any:
    """Return the preset "microscopy" in albumentations' terms."""
    import albumentations as A
    import cv2

    bends = {
        "elastic": lambda: A.ElasticTransform(alpha=300, sigma=50, p=1),
        "elastic, approximate": lambda: A.ElasticTransform(alpha=300, sigma=50, approximate=True, p=1),
        "grid elastic": lambda: A.GridElasticDeform(num_grid_xy=(3, 3), magnitude=10, p=1),
        "grid distortion": lambda: A.GridDistortion(num_steps=3, distort_limit=0.1, p=1),
    }
    affine = A.Affine(rotate=(-45, 45), scale=(0.8, 1.25), border_mode=cv2.BORDER_REFLECT_101, fill_mask=255, p=1)
    return A.Compose(
        [
            A.RandomCrop(SIZE, SIZE),
            A.HorizontalFlip(p=0.5),
            A.VerticalFlip(p=0.5),
            A.RandomRotate90(p=1),
            A.Sequential([affine, bends[bend]()], p=0.5),
            A.RandomGamma(gamma_limit=(82, 122), p=1),
            A.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.2, p=1),
        ]
    )


if __name__ == "__main__":
    main()
