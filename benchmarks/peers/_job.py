"""What the peers' scripts share: the job, pictures in, class maps out, crops, the clock. NumPy and Pillow alone."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

IGNORE = 255  # "not labelled" in a mask; counts in no loss
CROP, BATCH = 256, 8  # of the peers whose makers leave it to the user
_TIMED_SECONDS, _MOST_TIMES, _LEAST_TIMES = 10.0, 20, 3


@dataclass(frozen=True)
class Job:
    """What a peer is to do.

    Args:
        data: holds train and val, each with images and masks: PNGs of one name, uint8 class ids, `IGNORE`.
        pictures: folder of the PNGs to segment; their masks are not there.
        out: where class maps go, a folder a form, and files.
        classes: their names.
        channels: 1 or 3, of every picture.
        minutes: of training, wall time.
        seed: of the training.
        threads: of a timed inference.
        options: of the tool.
    """

    data: Path
    pictures: Path
    out: Path
    classes: list[str]
    channels: int
    minutes: float
    seed: int
    threads: int
    options: dict[str, Any] = field(default_factory=dict)

    def pairs(self, part: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return (H, W, C) uint8 pictures and (H, W) uint8 masks of a part."""
        names = sorted(path.name for path in (self.data / part / "images").glob("*.png"))
        folder = self.data / part
        return [(self.read(folder / "images" / n), np.asarray(Image.open(folder / "masks" / n))) for n in names]

    def read(self, path: Path) -> np.ndarray:
        """Return a picture as (H, W, C) uint8."""
        image = np.asarray(Image.open(path).convert("L" if self.channels == 1 else "RGB"))
        return image.reshape(*image.shape[:2], self.channels)

    def to_segment(self) -> list[Path]:
        """Return the pictures to segment."""
        return sorted(self.pictures.glob("*.png"))

    def milliseconds(self, segment: Callable[[np.ndarray], object]) -> float:
        """Return the median time of the first picture, from its pixels to its class map, after one to warm up."""
        image = self.read(self.to_segment()[0])
        segment(image)
        times: list[float] = []
        begun = time.perf_counter()
        while len(times) < _LEAST_TIMES or (len(times) < _MOST_TIMES and time.perf_counter() - begun < _TIMED_SECONDS):
            start = time.perf_counter()
            segment(image)
            times.append(1e3 * (time.perf_counter() - start))
        return round(median(times), 1)


def read_job() -> Job:
    """Return the job that the command line names."""
    told = json.loads(Path(sys.argv[1]).read_text())
    return Job(**{**told, **{name: Path(told[name]) for name in ("data", "pictures", "out")}})


class Clock:
    """Wall time of a training, from when this is made."""

    def __init__(self, minutes: float) -> None:
        self.begun, self.seconds = time.perf_counter(), 60 * minutes

    def share(self) -> float:
        """Return how much of the minutes is over: 1 at their end."""
        return self.passed() / self.seconds

    def passed(self) -> float:
        """Return the seconds since the beginning."""
        return time.perf_counter() - self.begun


def crops(pairs: list[tuple[np.ndarray, np.ndarray]], seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches for ever: random crops, flipped, as (B, S, S, C) float32 in [0, 1] and (B, S, S) uint8."""
    draw = np.random.default_rng(seed)
    while True:
        order = [i for _ in range(BATCH // len(pairs) + 1) for i in draw.permutation(len(pairs))][:BATCH]
        images, masks = zip(*(_crop(*pairs[i], draw) for i in order), strict=True)
        yield np.stack(images).astype(np.float32) / 255, np.stack(masks)


def _crop(image: np.ndarray, mask: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    more = [(0, max(0, CROP - side)) for side in mask.shape]
    image = np.pad(image, [*more, (0, 0)], mode="symmetric")
    mask = np.pad(mask, more, constant_values=IGNORE)
    top, left = (int(draw.integers(side - CROP + 1)) for side in mask.shape)
    window = np.s_[top : top + CROP, left : left + CROP]
    rows, columns = (slice(None, None, int(draw.choice((-1, 1)))) for _ in range(2))
    return image[window][rows, columns], mask[window][rows, columns]


def padded(image: np.ndarray, multiple: int) -> np.ndarray:
    """Return a picture continued by its mirror image below and to the right, to a multiple of px."""
    return np.pad(image, [*((0, -side % multiple) for side in image.shape[:2]), (0, 0)], mode="symmetric")


def write_maps(job: Job, form: str, segment: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write the class map of each picture below out/form.

    Args:
        form: name of what segments.
        segment: (H, W, C) uint8 -> (H, W) class ids.
    """
    folder = job.out / form
    folder.mkdir(parents=True, exist_ok=True)
    for path in job.to_segment():
        Image.fromarray(np.asarray(segment(job.read(path))).astype(np.uint8)).save(folder / path.name)


def kilobytes(*files: Path) -> float:
    """Return the size of a model file, and of those that belong to it."""
    return round(sum(file.stat().st_size for file in files) / 1000, 1)


def report(job: Job, packages: tuple[str, ...], **figures: Any) -> None:
    """Write what came of a job.

    Args:
        packages: whose versions are kept.
        figures: "seconds" and "steps" of the training, "parameters", "settings" in words, and "files": a row for each
            exported form, {"form", "kind", "int8", "kb", "ms"}; "no_file" or "no_int8": why there is none.
    """
    versions = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    (job.out / "report.json").write_text(json.dumps({**figures, "versions": versions}))


def use_threads(job: Job) -> None:
    """Have numeric libraries take as many threads as the job says; to be called before they are imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(job.threads)
