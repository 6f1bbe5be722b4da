"""The self-test of a model file: does this device compute the labels that the file was made with?

The images are made from a seed, so no training image is in the file; the labels that LiteRT gave for them when the file
was exported lie, packed, in a metadata buffer of their own. Devices round differently, so a tolerance is stated.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..engines.engine import Engine
from ..errors import ModelError
from ..files import parse_state
from .card import Card

SELFTEST_NAME = "KERAS_UNETRES_SELFTEST"
LEAST_EQUAL = 0.995
_SCHEMA = 1
_MOST = 1 << 28  # labels in bytes, so that a damaged length cannot ask for all memory


@dataclass(frozen=True)
class SelfTest:
    """What a file expects of the device.

    Args:
        seed: seed of the images.
        labels: (N, H, W) uint8, or (N, 1, 1) of a classifier.
        least_equal: the least share of labels that have to be equal.
    """

    seed: int
    labels: np.ndarray
    least_equal: float = LEAST_EQUAL

    def to_bytes(self) -> bytes:
        """Return the buffer: one line of JSON, then the labels packed by zlib."""
        head = {
            "schema": _SCHEMA,
            "seed": self.seed,
            "shape": list(self.labels.shape),
            "least_equal": self.least_equal,
        }
        return json.dumps(head).encode() + b"\n" + zlib.compress(self.labels.tobytes(), 9)

    @classmethod
    def from_bytes(cls, data: bytes) -> SelfTest:
        """Read the buffer.

        Raises:
            ModelError: it is not a self-test of this schema.
        """
        try:
            head, _, packed = data.partition(b"\n")
            values = parse_state(head)
            if values["schema"] != _SCHEMA:
                raise ModelError("self-test is of another schema", expected=_SCHEMA, found=values["schema"])
            raw = zlib.decompressobj().decompress(packed, _MOST)
            labels = np.frombuffer(raw, np.uint8).reshape(values["shape"])
            return cls(int(values["seed"]), labels, float(values["least_equal"]))
        except (KeyError, OverflowError, TypeError, ValueError, RecursionError, zlib.error) as error:
            raise ModelError(f"self-test is not readable: {type(error).__name__}: {error}") from error


def make_images(card: Card, *, seed: int = 0, count: int = 2) -> list[np.ndarray]:
    """Return `count` prepared images (h, w, channels) uint8 of the network's size, made from a seed.

    They are smooth fields with some grain, so that the network finds regions in them. Made with whole numbers from
    SplitMix64 alone, so that they are equal on every machine and version of numpy.
    """
    height, width = card.preprocessing.size
    images = []
    for number in range(count):
        planes = []
        for channel in range(card.preprocessing.channels):
            stream = (seed * 64 + number) * 64 + channel
            total = np.zeros((height, width), np.int64)
            for weight, cell in ((8, 64), (4, 16), (1, 1)):
                rows, columns = height // cell + 2, width // cell + 2
                knots = (_numbers(stream * 3 + cell, rows * columns) % np.uint64(256)).astype(np.int64)
                total += weight * _between(knots.reshape(rows, columns), cell, height, width)
            planes.append(total // 13)
        images.append(np.stack(planes, -1).astype(np.uint8))
    return images


def expected_labels(engine: Engine, images: Sequence[np.ndarray]) -> np.ndarray:
    """Return the labels (N, H, W) uint8 that an engine gives; of a classifier (N, 1, 1)."""
    label_maps = []
    for image in images:
        values = engine.run(image)
        labels = values if values.dtype == np.uint8 else values.argmax(-1).astype(np.uint8)
        label_maps.append(np.atleast_2d(labels))
    return np.stack(label_maps)


def make_selftest(engine: Engine, card: Card, *, seed: int = 0) -> bytes:
    """Return the buffer for a model file, from what an engine that runs it computes."""
    return SelfTest(seed, expected_labels(engine, make_images(card, seed=seed))).to_bytes()


def _between(knots: np.ndarray, cell: int, height: int, width: int) -> np.ndarray:
    """Return (height, width) whole numbers, linear between knots that lie `cell` px apart."""
    if cell == 1:
        return knots[:height, :width]
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    row, column, b, a = y // cell, x // cell, y % cell, x % cell
    upper = knots[row, column] * (cell - a) + knots[row, column + 1] * a
    lower = knots[row + 1, column] * (cell - a) + knots[row + 1, column + 1] * a
    return (upper * (cell - b) + lower * b) // (cell * cell)


def _numbers(stream: int, count: int) -> np.ndarray:
    """Return (count,) uint64 of SplitMix64 (Steele 2014), from one stream."""
    with np.errstate(over="ignore"):
        start = np.uint64((stream * 0xD1342543DE82EF95 + 1) % 2**64)
        z = start + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
