"""Training on what the data room offers: targets from instances, weights, class-balanced crops, arrays, a cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, silent

from keras_unetres import dataset_from_arrays
from keras_unetres.data import Dataset, Reading
from keras_unetres.data.synthetic import make_cells, write_cells
from keras_unetres.settings import TrainSettings
from keras_unetres.workflows.evaluate import evaluate
from keras_unetres.workflows.export import export
from keras_unetres.workflows.train import resume, train
from unetres_edge import Segmenter
from unetres_edge.errors import RunFolderError, UsageError
from unetres_edge.model.card import read_card

pytestmark = pytest.mark.usefixtures("without_xla")

SPLITS = ["train"] * 4 + ["val", "test"]


def cells(**reading: Any) -> Dataset:
    pictures = [make_cells(index, size=(64, 64)) for index in range(6)]
    masks = [picture.instances.astype(np.int32) for picture in pictures]
    return dataset_from_arrays(
        [picture.image for picture in pictures],
        masks,
        splits=SPLITS,
        reading=Reading(masks_are="instances", **reading),
    )


def options(**changes: Any) -> TrainSettings:
    return TrainSettings.from_flat({**TINY, "epochs": 1, **changes})


@pytest.mark.slow
def test_three_classes_are_learned_from_instances_and_travel_to_the_device(tmp_path: Path) -> None:
    lines: list[str] = []
    data = cells(target="borders")
    train(data, tmp_path / "run", options(border_weight=(10, 5), class_weights="balanced"), say=lines.append)
    assert any(line.startswith("weights   background ") for line in lines)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["classes"]["names"] == ["background", "interior", "border"]
    assert info["reading"]["target"] == "borders"
    assert info["settings"]["data"]["border_weight"] == [10, 5]
    assert info["data"]["path"] is None
    export(tmp_path / "run", tmp_path / "m.tflite", recipe="float32", say=silent)
    assert read_card((tmp_path / "m.tflite").read_bytes()).dataset["target"] == "borders"
    scores = evaluate(tmp_path / "m.tflite", data, say=silent)
    assert list(scores["per_class_iou"]) == ["background", "interior", "border"]
    assert scores["num_images"] == 1


@pytest.mark.slow
def test_borders_are_learned_from_a_folder_that_names_two_classes(tmp_path: Path) -> None:
    data = write_cells(tmp_path / "cells", num_images=6, size=(64, 64))
    assert (data / "classes.txt").read_text().split() == ["background", "cell"]
    train(data, tmp_path / "run", options(masks_are="instances", target="borders"), say=silent)
    scores = evaluate(tmp_path / "run", data, split="all", say=silent)
    assert list(scores["per_class_iou"]) == ["background", "interior", "border"]
    assert scores["num_images"] == 6


@pytest.fixture(scope="module")
def weighted_run(tmp_path_factory: pytest.TempPathFactory, without_xla: None) -> Path:
    """A run on arrays, with border weights and balanced crops."""
    run = tmp_path_factory.mktemp("weighted") / "run"
    train(cells(), run, options(border_weight=(10, 5), balance=0.5), say=silent)
    return run


def learned(run: Path) -> bytes:
    return (run / "weights.safetensors").read_bytes()


@pytest.mark.slow
def test_weights_change_what_is_learned(weighted_run: Path, tmp_path: Path) -> None:
    train(cells(), tmp_path / "run", options(balance=0.5), say=silent)
    assert learned(tmp_path / "run") != learned(weighted_run)


@pytest.mark.slow
def test_a_cache_changes_nothing_but_the_time(weighted_run: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for name in ("filled", "used"):
        train(cells(), tmp_path / name, options(border_weight=(10, 5), balance=0.5, cache=str(cache)), say=silent)
        assert learned(tmp_path / name) == learned(weighted_run)
    assert len(list(cache.glob("*.safetensors"))) == 4


def test_a_run_on_arrays_goes_on_with_the_same_arrays_alone(weighted_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(weighted_run, tmp_path / "run")
    assert resume(run, data=cells(), say=silent)["epochs"] == 1
    with pytest.raises(UsageError, match="trained on arrays"):
        resume(run, say=silent)
    with pytest.raises(RunFolderError, match="not the one"):
        resume(run, data=cells(target="separated"), say=silent)


@pytest.mark.slow
def test_images_of_sixteen_bits_are_learned_and_segmented(tmp_path: Path) -> None:
    pictures = [make_cells(index, size=(64, 64)) for index in range(6)]
    images = [picture.image.astype(np.uint16) * 200 + 31 for picture in pictures]
    data = dataset_from_arrays(images, [p.mask for p in pictures], splits=SPLITS, classes=["background", "cell"])
    train(data, tmp_path / "run", options(per_image=(1, 99)), say=silent)
    export(tmp_path / "run", tmp_path / "m.tflite", recipe="float32", say=silent)
    with Segmenter(tmp_path / "m.tflite") as segmenter:
        assert segmenter.segment(images[5]).class_map.shape == (64, 64)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"balance": 1.5}, "--balance is wrong"),
        ({"balance": 0.5, "fit": "resize"}, "--balance is wrong"),
        ({"class_weights": "median"}, "--class-weights is unknown"),
        ({"border_weight": (10, 0)}, "--border-weight is wrong"),
        ({"border_weight": (10,)}, "--border-weight is wrong"),
        ({"augment": "natural"}, "--augment is unknown"),
    ],
)
def test_wrong_options_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        options(**changes)
