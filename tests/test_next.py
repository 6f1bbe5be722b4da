"""Which images to label next: the choice, and the files that are written and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import silent
from PIL import Image
from scipy import ndimage

from keras_unetres.cli import main
from keras_unetres.data import open_dataset, read_records
from keras_unetres.data.synthetic import write_cells
from keras_unetres.data.tool_writers import coco_file, label_studio_tasks, labelme_file
from keras_unetres.settings.commands import PREMASKS
from keras_unetres.trust.choosing import choose
from keras_unetres.workflows import next_images as next_workflow
from keras_unetres.workflows.next_images import next_images
from unetres_edge.errors import ExistsError

NAMES = ("background", "cell", "nucleus")
GOLDEN_FILE = Path(__file__).resolve().parents[1] / "edge" / "tests" / "golden" / "web_cells.tflite"


def blobs(seed: int) -> np.ndarray:
    """A class map of ragged regions with holes, islands in them, single pixels and such as touch by a corner."""
    rng = np.random.default_rng(seed)
    first, second = (ndimage.gaussian_filter(rng.normal(size=(60, 70)), sigma) for sigma in (2.5, 2.0))
    found = np.zeros((60, 70), np.uint8)
    found[first > 0.05], found[second > 0.12], found[first < -0.25] = 1, 2, 0
    found[5, 5], found[6, 6], found[8, 5:7] = 1, 1, 2
    found[20:40, 20:40], found[24:36, 24:36], found[28:32, 28:32] = 1, 0, 2
    return found


@pytest.mark.parametrize("form", ["labelme", "coco", "label-studio"])
def test_what_is_written_is_read_back_to_the_pixel(form: str, tmp_path: Path) -> None:
    maps = {f"{seed}.png": blobs(seed) for seed in range(3)}
    (tmp_path / "images").mkdir()
    (tmp_path / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
    for name in maps:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 70), np.uint8)).save(tmp_path / "images" / name)
    if form == "labelme":
        for name, class_map in maps.items():
            written = labelme_file(f"images/{name}", class_map, NAMES, 0)
            (tmp_path / f"{name[0]}.json").write_text(json.dumps(written))
            kinds = [shape["shape_type"] for shape in written["shapes"]]
            assert kinds.count("polygon") > kinds.count("mask") > 0
    elif form == "coco":
        (tmp_path / "instances.json").write_text(json.dumps(coco_file(list(maps.items()), NAMES, 0)))
    else:
        tasks = label_studio_tasks([(f"/data/{name}", class_map) for name, class_map in maps.items()], NAMES, 0, "m")
        for task in tasks:  # what a person does who accepts the prediction
            task["annotations"] = [{"result": task.pop("predictions")[0]["result"]}]
        (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    dataset = open_dataset(tmp_path)
    assert dataset.format == form
    found = {each.name: each.mask for part in read_records(dataset, list(dataset.splits)).values() for each in part}
    for name, class_map in maps.items():
        np.testing.assert_array_equal(found[name], class_map)


def test_of_the_doubtful_images_those_are_chosen_that_differ() -> None:
    features = np.zeros((40, 2))
    features[:8] = [[0, 0], [0, 0.01], [9, 0], [9, 0.01], [0, 9], [0, 9.01], [9, 9], [9, 9.01]]
    features[8:] = 30  # far away, but the network is sure of them
    expected = np.r_[np.linspace(0.3, 0.5, 8), np.full(32, 0.9)]
    none = np.zeros((0, 2))
    picks = choose(expected, features, none, 2)
    assert [pick.place for pick in picks] == [0, 7]
    assert picks[0].distance is None
    assert picks[1].distance is not None
    assert (picks[0].doubt_rank, picks[1].doubt_rank) == (1, 8)
    beside = choose(expected, features, features[[0, 6]], 2)
    assert {pick.place for pick in beside} == {2, 5}
    assert [pick.place for pick in choose(expected[:3], features[:3], none, 9)] == [0, 2, 1]


@pytest.mark.parametrize("form", PREMASKS)
def test_picks_are_a_data_set_of_their_form(form: str, int8_file: Path, cells: Path, tmp_path: Path) -> None:
    pool = write_cells(tmp_path / "pool", num_images=7, size=(64, 64), seed=5) / "images"
    out = tmp_path / "picks"
    (pool / "deep").mkdir()
    next(pool.glob("*.png")).rename(pool / "deep" / "x.png")
    words = ["next", str(int8_file), str(pool), "--out", str(out), "--count", "3", "--form", form, "--data", str(cells)]
    words += ["--json", str(tmp_path / "a.json"), "--csv", str(tmp_path / "a.csv")]
    assert main(words) == 0
    told = json.loads((tmp_path / "a.json").read_text())["images"]
    assert len(told) == 3
    assert (tmp_path / "a.csv").read_text().count("\n") == 4
    assert all(0 <= row["expected_iou"] <= 1 and row["distance"] > 0 for row in told)
    if form == "label-studio":  # predictions are no annotations until a person says so
        tasks = json.loads((out / "tasks.json").read_text())
        for task in tasks:
            task["annotations"] = [{"result": task.pop("predictions")[0]["result"]}]
        (out / "tasks.json").write_text(json.dumps(tasks))
    dataset = open_dataset(out)
    records = [each for part in read_records(dataset, list(dataset.splits)).values() for each in part]
    assert len(records) == 3
    assert main(words) == 2  # the folder is not empty


def test_what_cannot_be_read_is_left_out(int8_file: Path, tmp_path: Path) -> None:
    pool = write_cells(tmp_path / "pool", num_images=3, size=(64, 64)) / "images"
    broken = sorted(pool.glob("*.png"))[0]
    broken.write_bytes(broken.read_bytes()[:60])
    said: list[str] = []
    rows = next_images(int8_file, pool, tmp_path / "out", count=5, say=said.append)
    assert len(rows) == 2
    assert any("left out" in line for line in said)
    next_images(int8_file, sorted(pool.glob("*.png"))[1:], tmp_path / "other", count=1, say=silent)


def test_two_that_choose_into_one_folder_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = write_cells(tmp_path / "pool", num_images=2, size=(64, 64)) / "images"
    looks = next_workflow._look

    def look(*given: Any) -> Any:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "classes.txt").write_text("of another")
        return looks(*given)

    monkeypatch.setattr(next_workflow, "_look", look)
    with pytest.raises(ExistsError, match="the output exists already"):
        next_images(GOLDEN_FILE, pool, tmp_path / "out", count=1, say=silent)
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["classes.txt"]
