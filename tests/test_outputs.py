"""Files that a person names for results: nothing else than an earlier result of the kind is replaced."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import silent

import keras_unetres.cli as unetres
import keras_unetres.workflows.export as export_workflow
from keras_unetres.runs import RunFolder
from keras_unetres.runs.lock import hold
from keras_unetres.settings import TrainSettings
from keras_unetres.workflows.calibrate import calibrate
from keras_unetres.workflows.compress import cluster, prune
from keras_unetres.workflows.distil import distil
from keras_unetres.workflows.evaluate import evaluate
from keras_unetres.workflows.export import export
from keras_unetres.workflows.folds import train_folds
from keras_unetres.workflows.next_images import _free_stems, next_images
from keras_unetres.workflows.plan import plan
from keras_unetres.workflows.quantize import quantize
from keras_unetres.workflows.report import report
from keras_unetres.workflows.suspects import suspects
from keras_unetres.workflows.train import train
from unetres_edge import cli as edge
from unetres_edge.errors import DataError, ExistsError, FileSystemError, RunFolderError, UsageError
from unetres_edge.files import name_key, write_report, write_table

COCO = {"images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}], "annotations": [], "categories": []}
CSV = "image,label\na.png,cell\n"
NOWHERE = "no such place"  # a mistake that is found later

Call = Callable[[Path], object]
CALLS: dict[str, tuple[Call, str]] = {
    "plan": (lambda file: plan(NOWHERE, file), ".json"),
    "suspects --json": (lambda file: suspects(NOWHERE, json_file=file), ".json"),
    "suspects --csv": (lambda file: suspects(NOWHERE, csv_file=file), ".csv"),
    "suspects --html": (lambda file: suspects(NOWHERE, html_file=file), ".html"),
    "next --json": (lambda file: next_images(NOWHERE, NOWHERE, file.parent / "out", json_file=file), ".json"),
    "next --csv": (lambda file: next_images(NOWHERE, NOWHERE, file.parent / "out", csv_file=file), ".csv"),
    "calibrate --json": (lambda file: calibrate("m.tflite", NOWHERE, json_file=file), ".json"),
}
TEXTS = {".json": json.dumps(COCO), ".csv": CSV, ".html": "<p>a page of the user's</p>"}


@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_earlier_result_is_not_replaced(call: str, tmp_path: Path) -> None:
    write, ending = CALLS[call]
    file = tmp_path / f"precious{ending}"
    for text in (TEXTS[ending], "", "\0\xff"):
        file.write_text(text)
        with pytest.raises(ExistsError, match=r"not (an earlier|a page of)"):
            write(file)
        assert file.read_text() == text
    picture = tmp_path / "a.png"
    picture.write_bytes(b"pixels")
    with pytest.raises(UsageError, match=f"the output is not a {ending}"):
        write(picture)
    assert picture.read_bytes() == b"pixels"


NO_FILES = Path("/proc")  # a folder in which nobody can make a file


@pytest.mark.skipif(not NO_FILES.is_dir(), reason="needs a folder in which nobody can make a file")
@pytest.mark.parametrize("call", [*CALLS, "calibrate", "export", "evaluate"])
def test_a_place_that_cannot_be_written_is_found_before_any_work(call: str) -> None:
    write, ending = {
        **CALLS,
        "calibrate": (lambda file: calibrate("m.tflite", NOWHERE, out=file), ".tflite"),
        "export": (lambda file: export(NOWHERE, file), ".tflite"),
        "evaluate": (lambda file: evaluate(NOWHERE, NOWHERE, json_file=file), ".json"),
    }[call]
    with pytest.raises(FileSystemError, match=r"/proc/result.*: cannot write"):
        write(NO_FILES / f"result{ending}")


RUNS: dict[str, Callable[..., object]] = {  # what makes a run, of another one and of the data set's place
    "train": lambda run, out, **more: train(NOWHERE, out, **more),
    "train --search": lambda run, out, **more: train(
        NOWHERE, out, TrainSettings.from_flat({"search": "quick"}), **more
    ),
    "distil": lambda run, out, **more: distil([run], out, data=NOWHERE, **more),
    "prune": lambda run, out, **more: prune(run, out, data=NOWHERE, **more),
    "cluster": lambda run, out, **more: cluster(run, out, data=NOWHERE, **more),
    "quantize": lambda run, out, **more: quantize(run, out, data=NOWHERE, **more),
}


@pytest.mark.skipif(not NO_FILES.is_dir(), reason="needs a folder in which nobody can make a file")
@pytest.mark.parametrize("call", RUNS)
def test_a_run_that_cannot_be_written_is_found_before_any_work(call: str, run_folder: Path, tmp_path: Path) -> None:
    make, kept = RUNS[call], tmp_path / "mine.txt"
    kept.write_text("mine")
    for out in (NO_FILES / "run", NO_FILES / "deep" / "run"):
        with pytest.raises(FileSystemError, match=rf"{out}: cannot write"):
            make(run_folder, out)
    with pytest.raises(FileSystemError, match=r"mine\.txt: cannot create the folder: Not a directory"):
        make(run_folder, kept / "run")
    with pytest.raises(ExistsError, match="not a run folder, so it is not replaced"):
        make(run_folder, tmp_path, overwrite=True)
    other = RunFolder.create(tmp_path / "other")
    (other.path / "run.json").write_text('{"schema": 1}')
    with hold(other.path), pytest.raises(RunFolderError, match="is writing to it"):
        make(run_folder, other.path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "other"]


@pytest.mark.skipif(not NO_FILES.is_dir(), reason="needs a folder in which nobody can make a file")
def test_a_folder_that_cannot_be_written_is_found_before_any_work(run_folder: Path, tmp_path: Path) -> None:
    out = NO_FILES / "new"
    for work in (
        lambda: train_folds(NOWHERE, out),
        lambda: suspects(NOWHERE, runs=out),
        lambda: next_images(NOWHERE, NOWHERE, out),
        lambda: report(run_folder, data=NOWHERE, out=NO_FILES / "new.html"),
    ):
        with pytest.raises(FileSystemError, match=rf"{out}.*: cannot write"):
            work()
    (tmp_path / "r.json").write_text(json.dumps(COCO))
    with pytest.raises(ExistsError, match="not an earlier file of this kind"):
        report(run_folder, data=NOWHERE, out=tmp_path / "r.html")


@pytest.mark.slow
def test_a_file_that_came_while_an_export_worked_is_not_replaced(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.tflite"
    find_form = export_workflow.find_form

    def slowly(*given: object) -> object:
        proof = find_form(*given)  # type: ignore[arg-type]
        file.write_bytes(b"of another process")
        return proof

    monkeypatch.setattr(export_workflow, "find_form", slowly)
    with pytest.raises(ExistsError, match="the output exists already"):
        export(run_folder, file, recipe="float32", gate=False, say=silent)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"of another process"]


def test_neither_by_the_commands_of_the_runtime(
    tmp_path: Path, int8_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(COCO))
    for words in (["bench", str(int8_file), "--json", str(file)], ["profile", "--out", str(file), "--seconds", "1"]):
        assert edge.main(words) == 2
        assert "not an earlier file of this kind" in capsys.readouterr().err
    assert json.loads(file.read_text()) == COCO
    assert unetres.main(["plan", str(tmp_path), "--out", str(file)]) == 2


def test_an_earlier_result_is_replaced(tmp_path: Path) -> None:
    file, table = tmp_path / "list.json", tmp_path / "list.csv"
    for score in (1.0, 2.0):
        write_report(file, {"images": [{"image": "a", "score": score, "box": None}]})
        write_table(table, f"image,score\na,{score}\n".encode())
    assert json.loads(file.read_text())["images"][0]["score"] == 2.0
    assert table.read_text() == "image,score\na,2.0\n"
    write_table(table, b"image,score,box\na,3.0,\n")  # of a later version


def test_chosen_images_of_one_name_are_all_there() -> None:
    for names in (
        ["a_3", "a", "a"],
        ["a", "a", "a_2", "a_2"],
        ["a", "A", "\u00e9", "e\u0301"],
        ["a", "a_2", "a", "a_3"],
    ):
        made = _free_stems(names)
        assert len({name_key(each, "win32") for each in made}) == len(names)
        assert made[names.index("a")] == "a"
        assert all(each.startswith(name) for each, name in zip(made, names, strict=True))
    assert _free_stems(["b", "a_2", "a", "a"]) == ["b", "a_2", "a", "a_3"]


def test_runs_that_are_there_are_not_replaced_by_those_of_suspects(tmp_path: Path) -> None:
    for number in range(1, 5):
        (tmp_path / f"fold{number}").mkdir()
        (tmp_path / f"fold{number}" / "run.json").write_text('{"schema": 1}')
    (tmp_path / "fold1").rename(tmp_path / "fold9")
    with pytest.raises(ExistsError, match="fold2: a run is there already.* remove it if a stop left it"):
        suspects(NOWHERE, runs=tmp_path)
    with pytest.raises(DataError):  # no such data set; fold 4 is in nobody's way
        suspects(NOWHERE, folds=1, runs=tmp_path)
