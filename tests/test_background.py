"""A background that is not class 0, as CVAT lists labels by alphabet: read, weighed and drawn by its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_unetres.data import Reading, open_dataset, read_records
from keras_unetres.data.classes import Classes
from keras_unetres.data.records import Record
from keras_unetres.data.weighting import Weighting, weight_map
from keras_unetres.objects import Separation, object_classes, separate
from keras_unetres.pages.cases import tint
from unetres_edge.errors import DataError, UsageError

NAMES = ("cat", "background", "dog")


def draw(folder: Path, classes: str, *, foreground: int = 255, count: int = 4) -> Path:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    (folder / "classes.txt").write_text(classes)
    for place in range(count):
        mask = np.zeros((16, 16), np.uint8)
        mask[4 : 8 + place, 4:12] = foreground
        Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8)).save(folder / "images" / f"{place}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{place}.png")
    return folder


def classes_of(folder: Path, **changes: object) -> Classes:
    return read_records(open_dataset(folder, changes=changes), ["all"], progress=False)["all"].classes


def test_objects_are_of_every_class_but_the_background() -> None:
    chances = np.full((8, 10, 3), 0.01, np.float32)
    chances[..., 1] = 0.98
    chances[1:4, 1:4] = 0.98, 0.01, 0.01
    chances[5:7, 6:9] = 0.01, 0.01, 0.98
    found = separate(chances, NAMES, Separation(min_size=0))
    assert found.class_ids == (0, 2)
    assert found.counts(["cat", "dog"]) == {"cat": 1, "dog": 1}
    assert object_classes(NAMES, Separation()) == [0, 2]
    assert object_classes(NAMES, Separation(), 0) == [1, 2]
    with pytest.raises(UsageError, match="expected cat, dog; found background"):
        object_classes(NAMES, Separation(objects=("background",)))


def test_border_weights_lie_on_the_background() -> None:
    instances = np.zeros((9, 12), np.int32)
    instances[3:6, 1:5], instances[3:6, 7:11] = 1, 2
    mask = np.where(instances == 0, 1, np.where(instances == 1, 0, 2)).astype(np.uint8)
    record = Record("a", np.zeros((9, 12), np.uint8), mask, instances)
    weights = weight_map(record, Weighting(border=(10, 5)), None, background=1)
    assert weights is not None
    assert weights[4, 5] > 5
    assert (weights[instances > 0] == 1).all()


def test_white_is_the_class_that_is_not_the_background(tmp_path: Path) -> None:
    classes = classes_of(draw(tmp_path, "cell\nbackground\n"))
    assert (classes.values, classes.background) == ({0: 1, 255: 0}, 1)
    assert "255 is class 0 (cell)" in classes.note


def test_a_declared_background_counts_and_one_that_is_no_class_is_refused(tmp_path: Path) -> None:
    folder = draw(tmp_path, "nothing\ncell\n", foreground=1)
    assert classes_of(folder).background == 0
    (folder / "dataset.yaml").write_text("background: cell\n")
    assert classes_of(folder).background == 1
    assert open_dataset(folder).reading.to_dict()["background"] == "cell"
    assert "background" not in Reading().to_dict()
    (folder / "dataset.yaml").write_text("background: sky\n")
    with pytest.raises(DataError, match=r"none of the classes.*found sky.*background: nothing"):
        classes_of(folder)


def test_where_0_is_no_object_the_background_has_to_be_class_0(tmp_path: Path) -> None:
    folder = draw(tmp_path, "cell\nbackground\n", foreground=7)
    with pytest.raises(DataError, match=r"0 is the background.*classes: \[background, cell\]"):
        classes_of(folder, masks_are="instances")


def test_pages_draw_every_class_but_the_background() -> None:
    ids = np.array([[0, 1, 1], [2, 1, 1]], np.uint8)
    layer = tint(ids, ((1, 1, 1), (2, 2, 2), (3, 3, 3)), 1)
    assert ((layer[..., 3] > 0) == (ids != 1)).all()
