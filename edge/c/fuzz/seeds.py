"""Inputs that the fuzzing of the C runtime begins with: drawn cards and images, whole model files, PGM files.

Run as `python edge/c/fuzz/seeds.py corpus`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from unetres_edge import Card, Preprocessing
from unetres_edge.model.card import default_colors

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
CARDS = 48


def main(folder: Path) -> int:
    """Write the inputs into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(CARDS):
        (folder / f"card_{number}").write_bytes(draw_input(np.random.default_rng(number)))
    for model in sorted(GOLDEN.glob("*.tflite")):
        (folder / model.stem).write_bytes(b"\x01" + model.read_bytes())
    for name, header, depth in (("grey", b"P5 # a word\n7 5\n255\n", 1), ("deep", b"P6\n3 4\n4095\n", 6)):
        (folder / name).write_bytes(b"\x00" + header + bytes(range(12)) * 3 * depth)
    return 0


def draw_input(rng: np.random.Generator) -> bytes:
    """Return a card and an image as `fuzz.c` reads them."""
    channels, classes = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    count = int(rng.choice([1, channels]))
    pre = Preprocessing(
        channels=channels,
        color_order=str(rng.choice(["rgb", "bgr"])),
        value_range=(-1.0, float(rng.integers(1, 255))),
        mean=tuple(rng.random(count).round(3).tolist()),
        std=tuple((rng.random(count) + 0.1).round(3).tolist()),
        per_image=(1.0, 99.8) if rng.random() < 0.5 else None,
        fit=str(rng.choice(["crop", "resize", "letterbox"])),
        size=(int(rng.integers(1, 24)), int(rng.integers(1, 24))),
    )
    names = tuple(f"class {n} \u00e9\u4e2d" for n in range(classes))
    head = str(rng.choice(["logits", "logits", "argmax"]))
    activation = str(rng.choice(["softmax", "sigmoid", "none"]))
    card = Card(names, default_colors(classes), pre, head=head, halo=int(rng.integers(0, 9)), activation=activation)
    if pre.fit == "crop" and min(pre.size) > 4:
        card = replace(card, crop=int(rng.integers(0, 3)), stride=int(rng.integers(1, min(pre.size) - 3)))
    text = card.to_json() if rng.random() < 0.7 else json.dumps(json.loads(card.to_json()), ensure_ascii=False)
    height, width = (int(n) for n in rng.integers(1, 60, 2))
    image = bytes([int(rng.integers(6)), height, 0, width, 0, int(rng.integers(2)) * channels, 1, 1])
    return (
        bytes([2, int(rng.choice([0, 64])) + int(rng.integers(16))]) + text.encode() + b"\xff" + image + rng.bytes(64)
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
