"""Masks that are probably wrong: what contradicts them, with planted faults."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from keras_unetres.cli import main
from keras_unetres.data import open_dataset
from keras_unetres.data.synthetic import write_cells
from keras_unetres.trust.suspects import Contradiction, contradict, suspicion
from keras_unetres.workflows.suspects import _folds
from unetres_edge.images.preprocessing import IGNORE


def discs(seed: int, count: int = 6) -> np.ndarray:
    """(64, 64) class ids: round objects of two classes on a ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    found = np.zeros((64, 64), np.uint8)
    for number in range(count):
        at, radius = rng.uniform(8, 56, 2), rng.uniform(5, 8)
        found[np.hypot(y - at[0], x - at[1]) < radius] = 1 + number % 2
    return found


def answered(truth: np.ndarray, seed: int) -> np.ndarray:
    """(64, 64, 3) probabilities of a network that is right but for blurred borders and some noise."""
    rng = np.random.default_rng(seed)
    shares = np.stack([ndimage.gaussian_filter((truth == each).astype(float), 1.2) for each in range(3)], -1)
    raised = np.exp(5 * shares + rng.normal(0, 0.5, shares.shape))
    return (raised / raised.sum(-1, keepdims=True)).astype(np.float32)


def dropped(mask: np.ndarray) -> np.ndarray:
    numbers, count = ndimage.label(mask > 0)
    sizes = ndimage.sum_labels(mask > 0, numbers, np.arange(1, count + 1))
    return np.where(numbers == 1 + int(np.argmax(sizes)), 0, mask)


FAULTS = {
    "object dropped": dropped,
    "shifted": lambda mask: np.roll(mask, 8, 1),
    "another image's": lambda mask: np.ascontiguousarray(mask[::-1, ::-1].T),
    "classes swapped": lambda mask: np.array([0, 2, 1], np.uint8)[mask],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_come_first(fault: str) -> None:
    truths = [discs(seed, 3 + seed % 5) for seed in range(40)]
    masks = [FAULTS[fault](truth) if number % 10 == 3 else truth for number, truth in enumerate(truths)]
    found = [contradict(answered(truth, n), mask) for n, (truth, mask) in enumerate(zip(truths, masks, strict=True))]
    first = np.argsort(-suspicion(found))[:4]
    assert set(first.tolist()) == {3, 13, 23, 33}


def test_the_region_that_is_contradicted_is_told() -> None:
    truth = np.zeros((64, 64), np.uint8)
    truth[10:22, 30:50] = 2
    found = contradict(answered(truth, 0), np.zeros_like(truth))
    assert found.box is not None
    np.testing.assert_allclose(found.box, (10, 30, 22, 50), atol=1)
    assert (found.given, found.answered) == (0, 2)
    assert 120 < found.weight < 240
    assert contradict(answered(truth, 0), truth).box is None


def test_what_is_not_labelled_contradicts_nothing() -> None:
    truth = discs(1)
    assert contradict(answered(truth, 0), np.full_like(truth, IGNORE)) == Contradiction(0.0, 0.0)
    half = truth.copy()
    half[:, :32] = IGNORE
    assert contradict(answered(truth, 0), half).box is None


def test_equal_images_are_not_suspicious() -> None:
    assert not suspicion([Contradiction(0.1, 5.0)] * 6).any()


@pytest.mark.slow
def test_suspects_of_drawn_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 40 pictures 4 have another one's mask, or miss their largest object."""
    data = write_cells(tmp_path / "cells", num_images=40, size=(64, 64))
    masks = sorted((data / "masks").glob("*.png"))
    wrong = [masks[at] for at in (4, 15, 26, 37)]
    kept = Image.open(masks[8]).copy()
    for file in wrong[:2]:
        kept.save(file)
    for file in wrong[2:]:
        image = Image.open(file)
        changed = Image.fromarray(dropped(np.array(image)))
        if image.mode == "P":
            changed.putpalette(image.getpalette() or [])
        changed.save(file)
    out = {kind: tmp_path / f"list.{kind}" for kind in ("json", "csv", "html")}
    words = ["suspects", str(data), "--folds", "2", "--epochs", "25", "--runs", str(tmp_path / "runs")]
    assert main([*words, *(word for kind, file in out.items() for word in (f"--{kind}", str(file)))]) == 0
    rows = json.loads(out["json"].read_text())["images"]
    assert len(rows) == 40
    assert {Path(row["image"]).stem for row in rows[:6]} >= {file.stem for file in wrong}
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert out["csv"].read_text().count("\n") == 41
    assert out["html"].read_text().count("<figure>") == 40
    assert "suspect   " in capsys.readouterr().out
    assert (tmp_path / "runs" / "fold2" / "run.json").is_file()
    shutil.rmtree(tmp_path / "runs")


@pytest.mark.parametrize("pattern", [None, r"(\d)\.png"])
def test_each_image_is_left_out_once_and_groups_together(pattern: str | None, tmp_path: Path) -> None:
    data = write_cells(tmp_path / "cells", num_images=30, size=(64, 64))
    dataset = open_dataset(data, changes={"group_by": pattern})
    folds = list(_folds(dataset, 3))
    left_out = [sample.name for fold in folds for sample in fold["val"]]
    assert sorted(left_out) == [f"cells_{number:04}.png" for number in range(30)]
    for fold in folds:
        inside, outside = ({sample.name for sample in fold[part]} for part in ("train", "val"))
        assert len(inside | outside) == 30
        torn = {name[9] for name in inside} & {name[9] for name in outside}
        assert bool(torn) == (pattern is None)


def test_too_few_images_are_refused(cells: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suspects", str(cells), "--folds", "5"]) == 3
    assert "at least 10" in capsys.readouterr().err
