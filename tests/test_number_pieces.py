"""Masks whose small numbers are objects, one piece each, in few masks and any order; parts of a body are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_unetres.doctor.check import Checkup, check

SIDE = 96


def scattered(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return (96, 96) uint8 of rectangles that do not touch, numbered in no order."""
    mask, centres = np.zeros((SIDE, SIDE), np.uint8), list[tuple[int, int]]()
    while len(centres) < count:
        y, x = (int(value) for value in rng.integers(6, SIDE - 6, 2))
        if all(max(abs(y - other_y), abs(x - other_x)) > 11 for other_y, other_x in centres):
            centres.append((y, x))
            above, below, left, right = rng.integers(2, 5, 4)
            mask[y - above : y + below, x - left : x + right] = len(centres)
    return mask


def heart(rng: np.random.Generator) -> np.ndarray:
    """Return (96, 96) uint8 of up to four parts that lie on each other alike; the last are not in every slice."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE // 2 + rng.normal(0, 8, 2))[:, None, None]
    radius, mask = rng.uniform(12, 20), np.zeros((SIDE, SIDE), np.uint8)
    parts = [
        np.hypot(y, x) < radius + 7,
        np.hypot(y, x) < radius,
        np.hypot(y, x - radius - 14) < 9,
        np.hypot(y + radius + 12, x) < 6,
    ]
    for number, part in enumerate(parts[: int(rng.integers(1, 5))], 1):
        mask[part] = number
    return mask


def layers(rng: np.random.Generator) -> np.ndarray:
    """Return (96, 96) uint8 of layers from the top down, of which the last may be out of view."""
    mask, top = np.zeros((SIDE, SIDE), np.uint8), int(rng.integers(8, 30))
    for number in range(1, 9):
        height = int(rng.integers(8, 14))
        mask[top : top + height] = number
        top += height
    return mask


def checked(root: Path, masks: list[np.ndarray], names: str = "") -> Checkup:
    for name in ("images", "masks"):
        (root / name).mkdir()
    for number, mask in enumerate(masks):
        noise = np.random.default_rng(number).normal(0, 10, mask.shape)
        image = (60 + 80 * (mask > 0) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    if names:
        (root / "classes.txt").write_text(names)
    return check(root, hashes="off", progress=False)


@pytest.mark.parametrize(("counts", "names"), [((5, 12, 7), ""), ((3, 9, 5, 6, 2), ""), ((3, 2), "background\ncell\n")])
def test_objects_in_few_masks_are_named(counts: tuple[int, ...], names: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    (fault,) = checked(tmp_path, [scattered(rng, count) for count in counts], names).faults
    assert (fault.kind, fault.fix.patch) == ("instance-ids", {"masks_are": "instances"})
    (tmp_path / "dataset.yaml").write_text(fault.fix.text)
    found = check(tmp_path, hashes="off", progress=False)
    assert found.faults == [] and [row["images"] for row in found.class_rows()] == [len(counts)] * 2


def test_where_three_masks_cannot_tell_a_note_says_what_to_do(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    found = checked(tmp_path, [scattered(rng, count) for count in (3, 2, 3)])
    assert found.faults == [] and any("--masks instances" in note for note in found.to_dict()["notes"])


@pytest.mark.parametrize("drawn", [heart, layers])
@pytest.mark.parametrize("count", [2, 5, 12])
def test_parts_that_lie_alike_stay_classes(drawn, count: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(count)
    found = checked(tmp_path, [drawn(rng) for _ in range(count)])
    assert found.faults == [] and not any("instances" in note and "piece" in note for note in found.to_dict()["notes"])
