"""Training on what the data room offers: targets from instances, weights, class-balanced crops, arrays, a cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, silent

from keras_unetres import dataset_from_arrays
from keras_unetres.data import Dataset, Reading
from keras_unetres.data.synthetic import make_cells, write_cells
from keras_unetres.workflows.evaluate import evaluate
from keras_unetres.workflows.export import export
from keras_unetres.workflows.options import TrainOptions
from keras_unetres.workflows.train import resume, train
from unetres_edge import Segmenter
from unetres_edge.card import read_card
from unetres_edge.errors import RunFolderError, UsageError

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


def options(**changes: Any) -> TrainOptions:
    return TrainOptions(**{**TINY, "epochs": 1, **changes})


def test_three_classes_are_learned_from_instances_and_travel_to_the_device(tmp_path: Path) -> None:
    lines: list[str] = []
    data = cells(target="borders")
    train(data, tmp_path / "run", options(border_weight=(10, 5), class_weights="balanced"), say=lines.append)
    assert any(line.startswith("weights   background ") for line in lines)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["classes"]["names"] == ["background", "interior", "border"]
    assert info["reading"]["target"] == "borders"
    assert info["settings"]["border_weight"] == [10, 5]
    assert info["data"]["path"] is None
    export(tmp_path / "run", tmp_path / "m.tflite", recipe="float32", say=silent)
    assert read_card((tmp_path / "m.tflite").read_bytes()).dataset["target"] == "borders"
    scores = evaluate(tmp_path / "m.tflite", data, say=silent)
    assert list(scores["per_class_iou"]) == ["background", "interior", "border"]
    assert scores["num_images"] == 1


def test_borders_are_learned_from_a_folder_that_names_two_classes(tmp_path: Path) -> None:
    data = write_cells(tmp_path / "cells", num_images=6, size=(64, 64))
    assert (data / "classes.txt").read_text().split() == ["background", "cell"]
    train(data, tmp_path / "run", options(masks_are="instances", target="borders"), say=silent)
    scores = evaluate(tmp_path / "run", data, split="all", say=silent)
    assert list(scores["per_class_iou"]) == ["background", "interior", "border"]
    assert scores["num_images"] == 6


def test_weights_change_what_is_learned_and_the_same_command_learns_the_same(tmp_path: Path) -> None:
    weights = {}
    for name, changes in (("a", {}), ("b", {"border_weight": (10, 5)}), ("c", {"border_weight": (10, 5)})):
        train(cells(), tmp_path / name, options(**changes), say=silent)
        weights[name] = (tmp_path / name / "weights.safetensors").read_bytes()
    assert weights["a"] != weights["b"]
    assert weights["b"] == weights["c"]


def test_a_cache_changes_nothing_but_the_time(tmp_path: Path) -> None:
    for name, changes in (
        ("plain", {}),
        ("filled", {"cache": str(tmp_path / "c")}),
        ("used", {"cache": str(tmp_path / "c")}),
    ):
        train(cells(), tmp_path / name, options(border_weight=(10, 5), balance=0.5, **changes), say=silent)
    assert len(list((tmp_path / "c").glob("*.safetensors"))) == 4
    plain = (tmp_path / "plain" / "weights.safetensors").read_bytes()
    for name in ("filled", "used"):
        assert (tmp_path / name / "weights.safetensors").read_bytes() == plain


def test_a_run_on_arrays_goes_on_with_the_same_arrays_alone(tmp_path: Path) -> None:
    train(cells(), tmp_path / "run", options(), say=silent)
    assert resume(tmp_path / "run", data=cells(), say=silent)["epochs"] == 1
    with pytest.raises(UsageError, match="trained on arrays"):
        resume(tmp_path / "run", say=silent)
    with pytest.raises(RunFolderError, match="not the one"):
        resume(tmp_path / "run", data=cells(target="separated"), say=silent)


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
