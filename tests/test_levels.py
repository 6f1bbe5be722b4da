"""Images of more than 8 bits that use a small part of their scale are stretched, where nothing else is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_unetres.data.dataset import open_dataset
from keras_unetres.data.levels import count_levels, find_few_levels
from keras_unetres.settings import TrainOptions
from keras_unetres.tasks import TASKS
from keras_unetres.tasks.reading import read_training_data


def make_set(root: Path, most: int, dtype: type = np.uint16) -> Path:
    """Write pairs of an image of levels up to `most` and its mask."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(6):
        mask = np.zeros((40, 40), np.uint8)
        mask[8 : 20 + number, 8:24] = 1
        image = np.where(mask, most * 0.9, most * 0.3) + rng.normal(0, most * 0.03, mask.shape)
        Image.fromarray(image.clip(0, most).astype(dtype)).save(root / "images" / f"{number}.tif")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("image", "kept"),
    [
        (np.arange(4096, dtype=np.uint16).reshape(64, 64), 17),
        (np.arange(256, dtype=np.uint16).reshape(16, 16) * 257, 256),
        (np.linspace(0, 0.01, 100, dtype=np.float32).reshape(10, 10), 4),
    ],
)
def test_levels_are_those_that_eight_bits_keep(image: np.ndarray, kept: int) -> None:
    assert count_levels(image) == (kept, image.size)


def test_images_of_eight_bits_lose_none() -> None:
    assert count_levels(np.zeros((4, 4, 3), np.uint8)) is None


@pytest.mark.parametrize(("most", "few"), [(200, True), (4095, True), (60000, False)])
def test_few_levels_are_found(tmp_path: Path, most: int, few: bool) -> None:
    samples = open_dataset(make_set(tmp_path, most)).split("all")
    assert (find_few_levels(samples) is not None) == few


@pytest.mark.parametrize(
    ("most", "said", "again", "expected"),
    [
        (4095, None, False, (1, 99)),
        (4095, (5, 95), False, (5, 95)),
        (4095, None, True, None),
        (60000, None, False, None),
    ],
)
def test_the_stretch_is_chosen_where_nothing_is_said(
    tmp_path: Path, most: int, said: tuple[float, float] | None, again: bool, expected: tuple[float, float] | None
) -> None:
    lines: list[str] = []
    settings = TrainOptions(size=32, filters=2, depth=1, per_image=said)
    data = read_training_data(TASKS["segment"], make_set(tmp_path, most), settings, lines.append, again=again)
    assert data.info.preprocessing.per_image == data.settings.network.per_image == expected
    assert any("stretched" in line for line in lines) == (expected != said)
    spread = np.ptp(data.calibration)
    assert (spread > 150) == (expected is not None or most == 60000)
