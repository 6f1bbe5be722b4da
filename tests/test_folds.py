"""Folds: every image in one, whole groups, runs that go on where they were stopped, and scores of unseen images."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_unetres.cli import main
from keras_unetres.data import Reading, open_dataset
from keras_unetres.data.synthetic import write_cells
from keras_unetres.runs import RunFolder
from keras_unetres.settings import TrainSettings
from keras_unetres.workflows import folds as workflow
from keras_unetres.workflows.evaluate import evaluate
from unetres_edge.errors import DataError, ExistsError, RunFolderError, Stopped, UsageError

TINY = {
    "size": 32,
    "filters": 2,
    "depth": 2,
    "batch": 2,
    "epochs": 2,
    "augment": "none",
    "plan": False,
    "compile": "graph",
    "precision": "float32",
}


def silent(line: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 drawn pictures of 5 patients."""
    folder = write_cells(tmp_path_factory.mktemp("patients") / "cells", num_images=12, size=(64, 64))
    for place, path in enumerate(sorted((folder / "images").iterdir())):
        mask = next(each for each in (folder / "masks").iterdir() if each.stem == path.stem)
        name = f"p{(place * place) % 5}_{place}"
        mask.rename(mask.with_stem(name))
        path.rename(path.with_stem(name))
    return folder


def parts(data: Path, number: int, count: int, **changes: Any) -> dict[str, list[str]]:
    dataset = open_dataset(data, changes={"fold": (number, count), **changes})
    return {part: [sample.name for sample in samples] for part, samples in dataset.splits.items()}


def group(name: str) -> str:
    return name.split("/")[-1].split("_")[0]


# ------------------------------------------------------------------------------------------------ parts


def test_every_image_is_in_the_test_part_of_one_fold_and_in_no_other_part_of_it(patients: Path) -> None:
    found = [parts(patients, number, 4) for number in range(1, 5)]
    everything = sorted(name for part in found[0].values() for name in part)
    assert len(everything) == 12
    assert sorted(name for each in found for name in each["test"]) == everything
    for each in found:
        assert len(each["test"]) == 3
        assert sorted([*each["train"], *each["val"], *each["test"]]) == everything
        assert each["val"]
    assert found == [parts(patients, number, 4) for number in range(1, 5)]
    assert found != [parts(patients, number, 4, seed=1) for number in range(1, 5)]


def test_images_of_one_group_are_in_one_part(patients: Path) -> None:
    pattern = r"p\d"
    found = [parts(patients, number, 3, group_by=pattern) for number in range(1, 4)]
    names = {name for part in found[0].values() for name in part}
    groups = {group(name) for name in names}
    assert len(groups) == 3  # squares modulo 5
    assert sorted(group(each["test"][0]) for each in found) == sorted(groups)
    for each in found:
        for part, others in (("train", ("val", "test")), ("val", ("test",))):
            assert not {group(n) for n in each[part]} & {group(n) for other in others for n in each[other]}
    with pytest.raises(DataError, match=r"too few groups of p\\d for 4 folds; .*found 3; fix: --folds 3"):
        parts(patients, 1, 4, group_by=pattern)
    with pytest.raises(DataError, match="too few images for 13 folds"):
        parts(patients, 1, 13)


def test_what_is_kept_for_a_test_is_in_no_fold(patients: Path, tmp_path: Path) -> None:
    found = [parts(patients, number, 3, test_from="p0*") for number in range(1, 4)]
    assert not any(group(name) == "p0" for each in found for part in each.values() for name in part)
    for part, names in (("train", "abcd"), ("val", "ef"), ("test", "gh")):
        for kind in ("images", "masks"):
            (tmp_path / part / kind).mkdir(parents=True)
            for name in names:
                Image.fromarray(np.eye(32, dtype=np.uint8)).save(tmp_path / part / kind / f"{name}.png")
    found = [parts(tmp_path, number, 3) for number in range(1, 4)]
    assert sorted(Path(name).stem for each in found for name in each["test"]) == list("abcdef")


def test_classes_are_spread_over_the_folds(tmp_path: Path) -> None:
    for name, count in (("cat", 6), ("dog", 9)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.fromarray(np.full((32, 32), number, np.uint8)).save(tmp_path / name / f"{name}{number}.png")
    for number in (1, 2, 3):
        dataset = open_dataset(tmp_path, changes={"fold": (number, 3)})
        assert np.bincount([s.class_id or 0 for s in dataset.splits["test"]]).tolist() == [2, 3]


@pytest.mark.parametrize("fold", [(0, 3), (4, 3), (1, 1), (1,), "12", (1.0, 3), (True, 2)])
def test_a_fold_that_is_none_is_refused(fold: Any) -> None:
    with pytest.raises(UsageError, match="the fold is wrong; expected K N"):
        Reading(fold=fold)


def test_a_fold_is_kept_as_json_and_its_absence_as_before() -> None:
    reading = Reading(fold=(2, 5), group_by="p")
    assert Reading.from_dict(json.loads(json.dumps(reading.to_dict()))) == reading
    assert "fold" not in Reading().to_dict()
    with pytest.raises(UsageError, match="a fold has no val_from"):
        Reading(fold=(1, 2), val_from="a*")


# ------------------------------------------------------------------------------------------------ runs


@pytest.fixture(scope="module")
def folded(patients: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    """Three folds of five patients that were stopped in the second and went on: folder, figures, lines."""
    out = tmp_path_factory.mktemp("folds") / "run"
    settings = TrainSettings.from_flat({**TINY, "group_by": r"p\d"})
    lines: list[str] = []
    begin = workflow.train

    def stops(data: Any, run: Any, options: Any, **named: Any) -> Any:
        if Path(run).name == "fold2":
            raise Stopped(15)
        return begin(data, run, options, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "train", stops)
        with pytest.raises(Stopped):
            workflow.train_folds(patients, out, settings, folds=3, say=silent)
    assert json.loads((out / "folds.json").read_text())["done"] == [1]
    figures = workflow.resume_folds(out, say=lines.append)
    return out, figures, lines


@pytest.mark.slow
def test_every_image_is_scored_by_the_network_that_did_not_see_it(
    folded: tuple[Path, dict[str, Any], list[str]], patients: Path
) -> None:
    out, figures, lines = folded
    assert "fold      1 of 3 is trained" in lines[0]
    assert figures == json.loads((out / "report.json").read_text())
    assert figures["num_images"] == 12
    assert len({image["name"] for image in figures["images"]}) == 12
    total = np.zeros((2, 2), int)
    for number, row in enumerate(figures["folds"], start=1):
        info = json.loads((out / f"fold{number}" / "run.json").read_text())
        assert info["reading"]["fold"] == [number, 3]
        scores = evaluate(out / f"fold{number}", patients, split="test", say=silent)
        assert scores["num_images"] == row["images"] == len(info["data"]["splits"]["test"])
        assert scores["miou"] == pytest.approx(row["miou"], abs=1e-4)
        report = json.loads((out / f"fold{number}" / "report.json").read_text())
        total += np.array(report["confusion"])
    assert figures["confusion"] == total.tolist()
    assert figures["intervals"]["over"] == "groups"
    low, high = figures["miou_interval"]
    assert low <= figures["miou"] <= high
    assert "groups were drawn with replacement" in (out / "report.html").read_text()


@pytest.mark.slow
def test_the_folds_have_one_network_so_that_their_mean_is_taken(
    folded: tuple[Path, dict[str, Any], list[str]], patients: Path
) -> None:
    runs = workflow.fold_runs(folded[0])
    settings = [json.loads((Path(run) / "run.json").read_text())["settings"] for run in runs]
    assert all({**each, "data": None} == {**settings[0], "data": None} for each in settings)
    scores = evaluate(runs[0], patients, split="all", others=runs[1:], say=silent)
    assert scores["others"] == runs[1:]
    assert f"--with {runs[1]} {runs[2]}" in folded[2][-2]


@pytest.mark.slow
def test_folds_that_are_done_are_scored_again_and_others_are_refused(
    folded: tuple[Path, dict[str, Any], list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(folded[0], out)
    again = workflow.resume_folds(out, say=silent)
    assert {**again, "folds": None, "title": None, "command": None, "ms_per_image": None} == {
        **folded[1],
        "folds": None,
        "title": None,
        "command": None,
        "ms_per_image": None,
    }
    with pytest.raises(UsageError, match="the folds are others; expected 3; found 4"):
        workflow.resume_folds(out, folds=4, say=silent)
    with pytest.raises(UsageError, match="started with another --filters"):
        workflow.resume_folds(out, settings={"filters": 3}, say=silent)
    (out / "folds.json").write_text('{"folds": 1}')
    with pytest.raises(RunFolderError, match=r"folds\.json is not readable"):
        workflow.resume_folds(out, say=silent)


def test_what_folds_do_not_go_with_is_refused(
    patients: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = TrainSettings.from_flat(TINY)
    with pytest.raises(UsageError, match="--folds is for segmenters"):
        classifier = replace(options, network=replace(options.network, name="resnet20", filters=None, depth=None))
        workflow.train_folds(patients, tmp_path / "a", classifier, say=silent)
    for word, changes in (("--fold", {"fold": (1, 2)}), ("--val-from", {"val_from": "p0*"})):
        with pytest.raises(UsageError, match=f"--folds and {word} exclude each other"):
            workflow.train_folds(patients, tmp_path / "a", TrainSettings.from_flat({**TINY, **changes}), say=silent)
    assert not (tmp_path / "a").exists()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "kept.txt").write_text("x")
    with pytest.raises(ExistsError, match="exists already"):
        workflow.train_folds(patients, tmp_path / "b", options, say=silent)
    assert main(["train", str(patients), "--out", str(tmp_path / "c"), "--folds", "2", "--overwrite"]) == 2
    assert "--folds replaces nothing" in capsys.readouterr().err
    assert main(["train", str(patients), "--out", str(tmp_path / "c"), "--folds", "2", "--start", "run"]) == 2
    assert "may have seen any image" in capsys.readouterr().err


def test_a_folder_of_folds_as_a_model_is_told_to_name_its_runs(tmp_path: Path) -> None:
    (tmp_path / "fold1").mkdir()
    with pytest.raises(RunFolderError, match=r"name a run of its folds, such as .*fold1, and the others after --with"):
        RunFolder(tmp_path).read_info()


def test_published_weights_are_named_again(patients: Path, tmp_path: Path) -> None:
    """As of one run: what a file says opens no other file."""
    options = TrainSettings.from_flat({**TINY, "filters": None, "depth": None, "encoder": "resnet20"})
    options = replace(options, network=replace(options.network, weights="w.safetensors"))
    with pytest.raises(Exception, match=re.escape("w.safetensors")):
        workflow.train_folds(patients, tmp_path / "run", options, folds=2, say=silent)
    with pytest.raises(RunFolderError, match=r"name them again: --weights w\.safetensors"):
        workflow.resume_folds(tmp_path / "run", data=patients, say=silent)
