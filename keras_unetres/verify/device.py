"""A model file on the device's runtime: `unetres-edge predict` in a process that has no TensorFlow and no Keras.

The images go over as TIFF files, which hold every kind of pixel exactly, a few at a time.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from unetres_edge.errors import ModelError
from unetres_edge.images.decode import read_mask

_AT_ONCE = 32  # images


def segment_on_device(file: str | os.PathLike[str], images: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, float]]:
    """Yield the class map (H, W) uint8 of each image, and the milliseconds it took.

    Args:
        file: `.tflite`.
        images: (H, W) or (H, W, C), as `read_image` gives them.

    Raises:
        ModelError: the runtime failed.
    """
    for folder, rows in _predicted(file, images):
        yield from ((read_mask(folder / f"{Path(row['image']).stem}.png"), row["ms"]["total"]) for row in rows)


def classify_on_device(file: str | os.PathLike[str], images: Iterable[np.ndarray]) -> Iterator[tuple[str, float]]:
    """Yield the name of each image's class, and the milliseconds it took; arguments as for `segment_on_device`."""
    for _, rows in _predicted(file, images):
        yield from ((row["top"][0]["name"], row["ms"]["total"]) for row in rows)


def _predicted(
    file: str | os.PathLike[str], images: Iterable[np.ndarray]
) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """Yield, for a few images at a time, the folder of what was written and the status of each image."""
    from ..tflite.isolated_python import failure_reason, run_python

    waiting = iter(images)
    while some := list(itertools.islice(waiting, _AT_ONCE)):
        with tempfile.TemporaryDirectory(prefix="unetres-") as name:
            folder = Path(name)
            (folder / "images").mkdir()
            for index, image in enumerate(some):
                _write(folder / "images" / f"{index:04}.tif", image)
            status = folder / "status.json"
            command = ["-m", "unetres_edge.cli", "predict", os.fspath(file), str(folder / "images")]
            done = run_python([*command, "--engine", "litert", "--out", str(folder / "out"), "--json", str(status)])
            if done is None or done.returncode:
                raise ModelError(f"unetres-edge predict failed: {failure_reason(done)}", file=file)
            yield folder / "out", json.loads(status.read_text())["images"]


def _write(path: Path, image: np.ndarray) -> None:
    color = image.ndim == 3 and image.shape[-1] == 3
    image = image[..., 0] if image.shape[2:] == (1,) else image
    kind = "rgb" if color else "minisblack"
    tifffile.imwrite(path, image, photometric=kind, planarconfig="contig" if image.ndim == 3 else None)
