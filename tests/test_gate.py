"""The gate: a file that loses too much is not used, one that is not scored says so, and no failure loses anything."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from conftest import silent
from PIL import Image

import keras_unetres as ku
from keras_unetres.cli import main
from keras_unetres.runs import RunFolder
from keras_unetres.tasks import TASKS
from keras_unetres.tasks.loading import Loaded, load_run
from keras_unetres.tflite import export_tflite
from keras_unetres.verify.device import segment_on_device
from keras_unetres.verify.held_out import HeldOut
from keras_unetres.verify.receipt import Calibration, Receipt, read_receipt, receipt_files
from keras_unetres.verify.rows import AWARE, DEVICE, KERAS, ScoredOn
from keras_unetres.workflows.evaluate import evaluate
from keras_unetres.workflows.export import export
from unetres_edge import Card, Classifier, Preprocessing, Segmenter
from unetres_edge.errors import DataError, ExistsError, FileSystemError, GateError, UsageError
from unetres_edge.images.preprocessing import look_up
from unetres_edge.model.card import default_colors, read_card

INT8 = "static_wi8_ai8"


@pytest.fixture(scope="module")
def passed(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Receipt, list[str]]:
    """The run as int8, scored on all of its 8 pictures, and what was said. Copy the folder before changing it."""
    said: list[str] = []
    path = tmp_path_factory.mktemp("passed") / "m.tflite"
    told = export(run_folder, path, recipe=INT8, split="all", max_drop=5.0, say=said.append)
    return path, told, said


@pytest.fixture(scope="module")
def receipt(passed: tuple[Path, Receipt, list[str]]) -> dict[str, Any]:
    return json.loads(receipt_files(passed[0])[0].read_text())


@pytest.fixture(scope="module")
def poor_run(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose calibration is all but flat, so that its int8 file cuts off most of what it should see."""
    run = Path(shutil.copytree(run_folder, tmp_path_factory.mktemp("poor") / "run"))
    crops = RunFolder(run).read_calibration()
    RunFolder(run).write_calibration((crops // 32 + 124).astype(np.uint8))
    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, int8_file: Path, float32_file: Path) -> Iterator[None]:
    """Conversion gives files that were made before, whatever is asked for; they are of the run that tests share."""

    def make(model: keras.Model, path: Path, *, recipe: str, **rest: Any) -> Any:
        shutil.copy(float32_file if recipe == "float32" else int8_file, path)
        return SimpleNamespace(path=os.fspath(path), head="logits", num_calibration=24, agreement=0.99)

    monkeypatch.setattr("keras_unetres.tflite.export_tflite", make)
    yield


# ------------------------------------------------------------------------------------------------- a file that passes


def test_scores_are_those_of_evaluate(
    passed: tuple[Path, Receipt, list[str]], receipt: dict[str, Any], run_folder: Path, cells: Path
) -> None:
    path, told, _ = passed
    file, model = (evaluate(each, cells, split="all", say=silent) for each in (path, run_folder))
    rows = {row["title"]: row for row in receipt["steps"]}
    assert list(rows)[:4] == [KERAS, "float32 .tflite", f"{INT8} .tflite", DEVICE]  # then OpenVINO, if it is there
    assert list(rows)[4:] == [f"on {cost.engine}" for cost in read_card(path.read_bytes()).engines]
    assert rows[KERAS]["score"] == pytest.approx(model["miou"], abs=1e-12)
    assert rows[f"{INT8} .tflite"]["score"] == pytest.approx(file["miou"], abs=1e-12)
    assert rows[f"{INT8} .tflite"]["per_class_iou"] == pytest.approx(file["per_class_iou"])
    assert told.drop.points == pytest.approx(100 * (model["miou"] - file["miou"]))
    assert receipt["gate"]["drop"] == told.drop.points
    low, high = receipt["gate"]["drop_interval"]
    assert low <= told.drop.points <= high
    assert rows["float32 .tflite"]["labels_equal"] > 0.9999
    assert 0.9 < rows[f"{INT8} .tflite"]["labels_equal"] < 1
    assert told.passed is True


def test_the_card_says_the_scores(passed: tuple[Path, Receipt, list[str]], receipt: dict[str, Any]) -> None:
    path, told, _ = passed
    card = read_card(path.read_bytes())
    keras_row, _, row, *_ = receipt["steps"]
    assert card.scores == told.scores
    assert (card.scores["split"], card.scores["num_images"]) == ("all", 8)
    assert (card.scores["miou"], card.scores["miou_keras"]) == (row["score"], keras_row["score"])
    assert (card.scores["drop_points"], card.scores["labels_equal"]) == (row["drop"], row["labels_equal"])


def test_the_device_gives_the_labels_of_the_file(
    passed: tuple[Path, Receipt, list[str]], receipt: dict[str, Any]
) -> None:
    file, row = receipt["steps"][2:4]
    assert row["labels_as_file"] == 1
    assert row["score"] == file["score"]
    assert row["ms"] > 0


@pytest.mark.parametrize("form", ["grey", "rgb", "deep", "float", "one channel"])
def test_every_kind_of_pixel_reaches_the_device_as_it_is(form: str, int8_file: Path) -> None:
    random = np.random.default_rng(3)
    image = {
        "grey": random.integers(0, 256, (40, 30)).astype(np.uint8),
        "rgb": random.integers(0, 256, (40, 30, 3)).astype(np.uint8),
        "deep": random.integers(0, 65536, (40, 30)).astype(np.uint16),
        "float": random.random((40, 30)).astype(np.float32),
        "one channel": random.integers(0, 256, (40, 30, 1)).astype(np.uint8),
    }[form]
    ((class_map, ms),) = segment_on_device(int8_file, [image])
    with Segmenter(int8_file) as segmenter:
        np.testing.assert_array_equal(class_map, segmenter.segment(image).class_map)
    assert ms > 0


def test_the_receipt_names_the_file_and_how_it_was_made(
    passed: tuple[Path, Receipt, list[str]], receipt: dict[str, Any], run_folder: Path, cells: Path
) -> None:
    path, told, said = passed
    data = path.read_bytes()
    info = RunFolder(run_folder).read_info()
    assert receipt["file"]["sha256"] == read_card(data).sha256
    assert (receipt["file"]["bytes"], receipt["file"]["name"]) == (len(data), "m.tflite")
    assert receipt["data"]["path"] == str(cells)
    assert receipt["data"]["fingerprint"] == info.data.fingerprint
    assert receipt["data"]["notes"] == ["The network was trained on these images, or on some of them."]
    assert (receipt["calibration"]["images"], receipt["steps"][2]["kb"]) == (24, round(len(data) / 1000, 1))
    assert {"tensorflow", "keras", "ai-edge-litert", "python"} <= set(receipt["versions"])
    assert receipt["command"].split()[:3] == ["unetres", "export", str(run_folder)]
    assert "--split all --max-drop 5.0" in receipt["command"]
    assert len(receipt["images"]) == 8
    assert "head_logits" in receipt["noise_db"]
    assert [row["target"] for row in receipt["targets"]][0] == "LiteRT, CPU (XNNPACK)"
    assert told.path == path
    assert read_receipt(path) == told
    lines = told.table()
    assert len(lines) == 6 + len(read_card(data).engines)  # a row each
    assert lines[-1].endswith("float32, on the machine that scored it")  # the machine decides which is faster
    assert set(lines) <= set(said)
    page = path.with_suffix(".receipt.html").read_text()
    for words in ("Passed", f"{receipt['steps'][2]['score']:.4f}", receipt["file"]["sha256"], "encoder1_1_relu"):
        assert words in page
    assert sorted(file.name for file in path.parent.iterdir()) == ["m.receipt.html", "m.receipt.json", "m.tflite"]


def apart_from_time(receipt: Receipt) -> Receipt:
    """A receipt without what differs from one export to the next."""
    return replace(receipt, rows=tuple(replace(row, ms=None) for row in receipt.rows))


def test_the_command_and_the_function_give_one_receipt(
    run_folder: Path, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--recipe", INT8, "--split", "all", "--max-drop", "5"]
    for folder in ("command", "function"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "command")
    assert main(["export", str(run_folder), "--out", "m.tflite", *options]) == 0
    monkeypatch.chdir(tmp_path / "function")
    told = ku.export(run_folder, "m.tflite", recipe=INT8, split="all", max_drop=5.0, say=silent)
    written = [read_receipt(tmp_path / folder / "m.tflite") for folder in ("command", "function")]
    assert apart_from_time(written[0]) == apart_from_time(written[1])
    assert written[1] == told


@pytest.mark.slow
def test_a_model_in_memory_passes_the_same_gate(
    passed: tuple[Path, Receipt, list[str]], run_folder: Path, cells: Path, tmp_path: Path
) -> None:
    loaded, run = load_run(run_folder), RunFolder(run_folder)
    pre = loaded.card.preprocessing
    receipt = ku.export(
        loaded.model,
        tmp_path / "m.tflite",
        preprocessing=pre,
        classes=["background", "cell"],
        calibration=look_up(pre.table(), run.read_calibration()),
        data=cells,
        split="all",
        max_drop=5.0,
        say=silent,
    )
    usual = passed[1]
    assert [row.score for row in receipt.rows] == [row.score for row in usual.rows]
    assert receipt.passed and receipt.drop is not None and usual.drop is not None
    assert receipt.drop.points == usual.drop.points  # its interval depends on the order of the images
    assert (receipt.source, receipt.command) == ("a model in memory", "")
    assert receipt.calibration == Calibration(24, "images that the caller gave", "smallest to largest")
    cards = [read_card(path.read_bytes()) for path in (passed[0], tmp_path / "m.tflite")]
    assert [(card.halo, card.stride, card.preprocessing, card.scores) for card in cards[:1]] == [
        (card.halo, card.stride, card.preprocessing, card.scores) for card in cards[1:]
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preprocessing": None}, "does not say how images are fed"),
        ({"classes": ["a"]}, "number of class names"),
        ({"max_drop": 1.0}, "nothing says which images to score; found a model names no data set"),
        ({"size": (16, 16), "calibration": np.zeros((1, 32, 32, 1))}, "calibration images are of another size"),
    ],
)
def test_what_a_model_in_memory_lacks_is_named(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    inputs = keras.Input((32, 32, 1))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs))
    given = {"preprocessing": Preprocessing(channels=1, size=(32, 32)), "recipe": "float32", **changes}
    with pytest.raises(UsageError, match=words):
        ku.export(model, tmp_path / "m.tflite", **given, say=silent)
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------- a file that does not


def test_a_file_that_loses_too_much_is_rejected(
    poor_run: Path, passed: tuple[Path, Receipt, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The good file of before and its receipt stay; the new one is kept under another name, with the reason."""
    shutil.copytree(passed[0].parent, tmp_path, dirs_exist_ok=True)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    out = tmp_path / "m.tflite"
    assert main(["export", str(poor_run), "--out", str(out), "--overwrite", "--split", "all", "--no-refine"]) == 4
    error = capsys.readouterr().err
    assert "error: gate: " in error
    assert "m.tflite.rejected: Its mIoU of 0." in error and " The file loses" in error
    assert "--max-drop" in error
    after = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert {name: data for name, data in after.items() if "rejected" not in name} == before
    assert sorted(set(after) - set(before)) == [
        "m.rejected.receipt.html",
        "m.rejected.receipt.json",
        "m.tflite.rejected",
    ]
    found = json.loads(after["m.rejected.receipt.json"])
    assert found["verdict"]["passed"] is False
    assert found["gate"]["drop"] > 0.3
    assert found["file"]["sha256"] == read_card(after["m.tflite.rejected"]).sha256
    assert b"Rejected" in after["m.rejected.receipt.html"]
    with Segmenter(after["m.tflite.rejected"]) as segmenter:  # it can be looked into
        assert segmenter.card.scores["drop_points"] == found["gate"]["drop"]


def test_of_a_file_beyond_its_limits_alone_the_way_is_a_smaller_one(
    run_folder: Path, tmp_path: Path, quick: None
) -> None:
    with pytest.raises(GateError, match="kB, and 1 are allowed") as caught:
        export(run_folder, tmp_path / "m.tflite", max_drop=100, max_kb=1, split="all", calibrate=False, say=silent)
    fix = str(caught.value.fix)
    assert "fewer filters" in fix and "unetres distil" in fix
    assert "train longer" not in fix and "--max-drop" not in fix and "--no-gate" not in fix


@pytest.mark.slow
def test_what_is_allowed_decides(
    run_folder: Path, receipt: dict[str, Any], tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras_unetres.scores.paired import Drop

    for points, allowed, kept in ((0.4, None, False), (0.4, 0.5, True), (0.2, None, True), (0.2, 0.1, False)):
        monkeypatch.setattr("keras_unetres.verify.rows.drop_of_miou", lambda *sides, p=points: Drop(p, None))
        out = tmp_path / f"{points}_{allowed}.tflite"
        if kept:
            assert export(run_folder, out, recipe=INT8, max_drop=allowed, refine=False, say=silent).passed
        else:
            with pytest.raises(GateError):
                export(run_folder, out, recipe=INT8, max_drop=allowed, refine=False, say=silent)
        assert out.exists() is kept
        assert out.with_name(out.name + ".rejected").exists() is not kept


# ----------------------------------------------------------------------------------------- a file that is not scored


def test_a_run_whose_data_is_gone_is_exported_and_says_so(
    run_folder: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(run_folder, tmp_path / "run"))
    info = json.loads((run / "run.json").read_text())
    info["data"]["path"] = str(tmp_path / "gone")
    (run / "run.json").write_text(json.dumps(info))
    out = tmp_path / "m.tflite"
    assert main(["export", str(run), "--out", str(out)]) == 0
    assert f"not scored: there is no data set at {tmp_path / 'gone'}; name the data set with --data" in (
        capsys.readouterr().out
    )
    found = json.loads(receipt_files(out)[0].read_text())
    assert found["verdict"] == {"passed": None, "line": f"Not scored: there is no data set at {tmp_path / 'gone'}."}
    assert (found["steps"], found["gate"]["drop"]) == ([], None)
    assert len(found["contents"]["ops"]) == 19
    assert "Not scored" in receipt_files(out)[1].read_text()
    assert read_card(out.read_bytes()).scores == {}


@pytest.mark.parametrize("options", [["--max-drop", "0.3"], ["--data", "none"], ["--split", "val"]])
def test_scores_that_were_asked_for_and_cannot_be_had_are_an_error(
    run_folder: Path, tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path(shutil.copytree(run_folder, tmp_path / "run"))
    info = json.loads((run / "run.json").read_text())
    info["data"]["path"] = str(tmp_path / "gone")
    (run / "run.json").write_text(json.dumps(info))
    assert main(["export", "run", "--out", "m.tflite", *options]) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_run_of_arrays_names_no_data(run_folder: Path, tmp_path: Path, quick: None) -> None:
    run = Path(shutil.copytree(run_folder, tmp_path / "run"))
    info = json.loads((run / "run.json").read_text())
    info["data"]["path"] = None
    (run / "run.json").write_text(json.dumps(info))
    told = export(run, tmp_path / "m.tflite", recipe=INT8, say=silent)
    assert told.passed is None
    with pytest.raises(UsageError, match="nothing says which images to score.*--data"):
        export(run, tmp_path / "n.tflite", recipe=INT8, max_drop=1.0, say=silent)


def test_the_data_and_its_part_can_be_named(run_folder: Path, cells: Path, tmp_path: Path, quick: None) -> None:
    """A data set that was copied elsewhere is another one to the run, unless its files are the same."""
    moved = Path(shutil.copytree(cells, tmp_path / "moved"))
    out = tmp_path / "m.tflite"
    told = export(run_folder, out, recipe=INT8, data=moved, split="val", max_drop=50, say=silent)
    assert (told.scores["split"], told.scores["num_images"]) == ("val", 1)
    found = json.loads(receipt_files(out)[0].read_text())
    assert found["data"]["path"] == str(moved)
    assert found["data"]["notes"] == []
    assert found["gate"]["drop_interval"] is None  # of one image
    image = next((moved / "images").iterdir())
    Image.fromarray(255 - np.asarray(Image.open(image))).save(image)
    export(run_folder, out, recipe=INT8, data=moved, split="val", max_drop=100, overwrite=True, say=silent)
    assert "another data set" in json.loads(receipt_files(out)[0].read_text())["data"]["notes"][0]


def test_without_the_gate_nothing_is_scored(run_folder: Path, tmp_path: Path, quick: None) -> None:
    out = tmp_path / "m.tflite"
    assert main(["export", str(run_folder), "--out", str(out), "--no-gate"]) == 0
    assert json.loads(receipt_files(out)[0].read_text())["verdict"]["line"] == "Not scored: --no-gate was given."
    for options in (["--max-drop", "1"], ["--data", "x"], ["--split", "val"]):
        assert main(["export", str(run_folder), "--out", str(out), "--overwrite", "--no-gate", *options]) == 2


@pytest.mark.parametrize("wrong", [-0.1, 101.0, float("nan")])
def test_a_limit_that_is_none_is_refused(wrong: float, run_folder: Path, tmp_path: Path, quick: None) -> None:
    with pytest.raises(UsageError, match="largest loss is wrong"):
        export(run_folder, tmp_path / "m.tflite", max_drop=wrong, say=silent)


# ------------------------------------------------------------------------------------------------- nothing is lost


def test_a_receipt_that_is_there_is_not_replaced_unasked(run_folder: Path, tmp_path: Path, quick: None) -> None:
    (tmp_path / "m.receipt.html").write_text("mine")
    with pytest.raises(ExistsError, match=r"m\.receipt\.html.*--overwrite"):
        export(run_folder, tmp_path / "m.tflite", recipe=INT8, gate=False, say=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["m.receipt.html"]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_disk_that_is_full_at_any_write_loses_nothing(
    failing: int, run_folder: Path, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file comes first, then its receipt, each whole or as it was."""
    folder = tmp_path / "out"
    folder.mkdir()
    names = ["m.tflite", "m.receipt.json", "m.receipt.html"]
    for name in names:
        (folder / name).write_text("before")
    replaced: list[str] = []
    real = os.replace

    def replace(source: str, target: Any) -> None:
        if Path(target).parent == folder:
            if len(replaced) == failing:
                raise OSError(28, "No space left on device")
            replaced.append(Path(target).name)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(FileSystemError, match="No space left"):
        export(run_folder, folder / "m.tflite", recipe=INT8, gate=False, overwrite=True, say=silent)
    assert replaced == names[:failing]
    for name in names[failing:]:
        assert (folder / name).read_text() == "before"
    if failing:
        read_card((folder / "m.tflite").read_bytes())
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


# ------------------------------------------------------------------------------------------------------- classifiers


@dataclass(frozen=True)
class Labelled:
    """An image of a class, as a data set of class folders has it."""

    image: np.ndarray
    class_id: int


def test_a_classifier_is_scored_by_its_first_answer(tmp_path: Path) -> None:
    keras.utils.set_random_seed(4)
    names = ("red", "green", "blue")
    pre = Preprocessing(channels=3, fit="resize", size=(8, 8))
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="relu")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    tiles = np.random.default_rng(1).uniform(0, 1, (64, 8, 8, 3)).astype(np.float32)
    model.layers[-1].bias.assign(-np.asarray(model(tiles)).mean(0))  # so that each class is given now and then
    card = Card(names, default_colors(3), pre, task="classify")
    path = tmp_path / "c.tflite"
    export_tflite(model, path, recipe="float32", preprocessing=pre, card=card)
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (12, 9, 3), np.uint8) for _ in range(40)]
    labels = random.integers(0, 3, 40)
    labelled = tuple(Labelled(image, int(label)) for image, label in zip(images, labels, strict=True))
    held = HeldOut(labelled, ScoredOn("/d", "test", 40, "cd"), TASKS["classify"])
    scored = held.score({KERAS: Loaded(model, card)}, {"float32 .tflite": path.read_bytes()})
    with Classifier(path) as classifier:
        given = np.array([classifier.classify(image).class_id for image in images])
    assert len({*given.tolist()}) > 1
    assert scored.score == "top-1"
    assert [row.score for row in scored.rows] == [pytest.approx((given == labels).mean())] * 2
    assert scored.drop is not None
    assert (scored.drop.points, scored.rows[1].labels_equal) == (0, 1)
    row = scored.device(path)  # more images than go over at once
    assert (row.title, row.labels_as_file) == (DEVICE, 1)
    assert row.score == scored.rows[1].score


@pytest.mark.slow
@pytest.mark.usefixtures("without_xla")
def test_a_quantization_aware_run_is_compared_with_the_run_it_was_made_from(
    run_folder: Path, cells: Path, tmp_path: Path
) -> None:
    quantize = pytest.importorskip("keras_unetres.workflows.quantize", reason="needs `unetres quantize`").quantize
    quantize(run_folder, tmp_path / "aware", epochs=1, learning_rate=1e-5, say=silent)
    export(tmp_path / "aware", tmp_path / "m.tflite", recipe=INT8, split="all", max_drop=50.0, say=silent)
    found = json.loads(receipt_files(tmp_path / "m.tflite")[0].read_text())
    rows = {row["title"]: row for row in found["steps"]}
    assert list(rows) == [KERAS, AWARE, "float32 .tflite", f"{INT8} .tflite", DEVICE]
    assert rows[KERAS]["score"] == pytest.approx(evaluate(run_folder, cells, split="all", say=silent)["miou"])
    aware = evaluate(tmp_path / "aware", cells, split="all", say=silent)
    assert rows[AWARE]["score"] == pytest.approx(aware["miou"])
    assert found["calibration"] == {"images": 0, "from": None, "ranges": "learned with the model"}
    with pytest.raises(DataError):
        export(tmp_path / "aware", tmp_path / "n.tflite", recipe=INT8, data=tmp_path / "none", say=silent)
