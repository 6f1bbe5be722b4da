"""The command line: a mistake is one line and an exit code, and leaves nothing behind; what is right exits with 0."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_unetres import __version__
from keras_unetres.cli import main
from keras_unetres.tflite.inspect import read_ops
from unetres_edge import Segmenter
from unetres_edge.errors import UsageError
from unetres_edge.files import write_bytes
from unetres_edge.model.card import read_card

TRAIN = ["--no-plan", "--size", "32", "--filters", "2", "--depth", "1", "--epochs", "1", "--batch", "8"]


def fails(arguments: list[str | Path], code: int, name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail with an exit code and one line `error: <name>: ...`, and return the line."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith(f"error: {name}: "), error
    assert "Traceback" not in error
    return error


def runs(arguments: list[str | Path]) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def data(cells: Path, tmp_path: Path) -> Path:
    """A copy of the cells that may be spoilt."""
    return Path(shutil.copytree(cells, tmp_path / "data"))


@pytest.fixture
def run_copy(run_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_folder, tmp_path / "copy"))


# --------------------------------------------------------------------------------------------------------------- train


def test_train_and_evaluate(cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    runs(["train", cells, "--out", run, *TRAIN])
    out = capsys.readouterr().out
    assert "6 train, 1 val, 1 test images, 1 channel\n" in out
    assert "best      validation mIoU" in out
    assert {"run.json", "weights.safetensors", "history.csv", "calibration.npz"} <= set(names(run))
    runs(["evaluate", run, cells, "--split", "val", "--json", tmp_path / "scores.json"])
    assert "mIoU" in capsys.readouterr().out
    assert 0 <= json.loads((tmp_path / "scores.json").read_text())["miou"] <= 1


def empty_folder(data: Path) -> None:
    shutil.rmtree(data)
    data.mkdir()


def empty_images(data: Path) -> None:
    for path in (data / "images").iterdir():
        path.unlink()


def missing_mask(data: Path) -> None:
    (data / "masks" / "cells_0003.png").unlink()


def other_size(data: Path) -> None:
    path = data / "masks" / "cells_0003.png"
    Image.open(path).crop((0, 0, 63, 64)).save(path)


def strange_value(data: Path) -> None:
    path = data / "masks" / "cells_0003.png"
    mask = np.array(Image.open(path))
    mask[5, 5] = 7
    Image.fromarray(mask).save(path)


def truncated(data: Path) -> None:
    path = data / "images" / "cells_0003.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_folder(data: Path) -> None:
    shutil.rmtree(data)


SPOILT = [
    (empty_folder, "images/"),
    (empty_images, "no images"),
    (missing_mask, "cells_0003.png: an image without a mask"),
    (other_size, "cells_0003.png: an image and a mask of different sizes: image 64 x 64, mask 63 x 64"),
    (strange_value, "cells_0003.png: mask values that are no class: 7 in 1 px; expected values 0, 1; fix: ignore: 7"),
    (truncated, "cells_0003.png"),
    (no_folder, "data"),
]


@pytest.mark.parametrize(("spoil", "words"), SPOILT, ids=[spoil.__name__ for spoil, _ in SPOILT])
def test_spoilt_data_is_refused(
    spoil: Callable[[Path], None],
    words: str,
    data: Path,
    int8_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs(["evaluate", int8_file, data, "--split", "all"])
    spoil(data)
    assert words in fails(["train", data, "--out", tmp_path / "run", *TRAIN], 3, "data", capsys)
    command = ["evaluate", int8_file, data, "--split", "all", "--json", tmp_path / "scores.json"]
    assert words in fails(command, 3, "data", capsys)
    assert set(names(tmp_path)) <= {"data"}


def test_a_run_folder_that_exists_is_kept(
    cells: Path, run_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()}
    line = fails(["train", cells, "--out", run_copy, *TRAIN], 2, "exists", capsys)
    assert f"go on with it: unetres train --resume {run_copy}; or pass --overwrite" in line
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("mine")
    fails(["train", cells, "--out", foreign, "--overwrite", *TRAIN], 2, "exists", capsys)
    assert names(foreign) == ["thesis.tex"]
    assert {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("by_name", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_is_resumed_by_name_or_by_out(
    by_name: bool, run_copy: Path, cells: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs(["train", "--resume", run_copy] if by_name else ["train", cells, "--out", run_copy, "--resume"])
    assert "resume    after step 9 of 9" in capsys.readouterr().out
    line = fails(["train", "--resume", run_copy, "--filters", "64", "--per-image", "1", "99"], 2, "usage", capsys)
    assert "the run was started with another --filters" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out", "OUT", "--size", "33"], "multiple of"),
        (["--out", "OUT", "--filters", "0"], "--filters"),
        (["--out", "OUT", "--seed", "-1"], "seed"),
        (["--resume", "OUT", "--overwrite"], "goes on with one run"),
        (["--resume", "OUT", "--out", "b"], "goes on with one run"),
        (["--resume"], "goes on with one run"),
        ([], "--out RUN"),
    ],
)
def test_wrong_options_of_train(
    options: list[str], words: str, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(tmp_path / "run") if option == "OUT" else option for option in options]
    assert words in fails(["train", cells, *arguments], 2, "usage", capsys)
    assert names(tmp_path) == []


# --------------------------------------------------------------------------------------------------------- model files


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


def text(data: bytes) -> bytes:
    return b"not a model at all"


@pytest.mark.parametrize(
    ("damage", "name"),
    [(half, "model-damaged"), (flipped, "model-damaged"), (text, "model")],
)
def test_a_file_that_is_not_the_sealed_one_does_not_run(
    damage: Callable[[bytes], bytes],
    name: str,
    int8_file: Path,
    cells: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(int8_file.read_bytes())
    runs(["inspect", path])
    path.write_bytes(damage(int8_file.read_bytes()))
    fails(["inspect", path], 4, name, capsys)
    fails(["evaluate", path, cells, "--json", tmp_path / "scores.json"], 4, name, capsys)
    fails(["predict", path, cells / "images", "--out", tmp_path / "out"], 4, name, capsys)
    assert names(tmp_path) == ["model.tflite"]


def test_inspect_prints_the_card(int8_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs(["inspect", int8_file])
    out = capsys.readouterr().out
    assert "head logits, recipe static_wi8_ai8" in out
    assert "1  cell" in out
    assert f"{read_card(int8_file.read_bytes()).sha256} (verified)" in out


def test_missing_files_are_named(tmp_path: Path, cells: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(["inspect", tmp_path / "none.tflite"], 5, "system", capsys)
    fails(["evaluate", tmp_path / "none.tflite", cells], 5, "system", capsys)
    fails(["evaluate", tmp_path, cells], 4, "run-folder", capsys)
    fails(["train", "--resume", tmp_path], 4, "run-folder", capsys)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        main(["export", str(tmp_path), "--out", str(tmp_path / "m.bin"), "--debug"])


# -------------------------------------------------------------------------------------------------------------- export


@pytest.mark.slow
def test_an_argmax_head_gives_the_labels_of_the_logits(
    run_folder: Path, int8_file: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "argmax.tflite"
    runs(["export", run_folder, "--out", path, "--head", "argmax"])
    data = path.read_bytes()
    ops = [op.name for op in read_ops(data)]
    assert ops[-2:] == ["ARG_MAX", "CAST"]
    assert read_ops(data)[-1].outputs == ("UINT8",)
    assert read_card(data).head == "argmax"
    with Segmenter(path, overlap=8) as labels, Segmenter(int8_file, overlap=8) as logits:
        tiles = [np.array(Image.open(image))[:32, :32] for image in sorted((cells / "images").iterdir())]
        equal = [(labels.segment(tile).class_map == logits.segment(tile).class_map).mean() for tile in tiles]
    assert np.mean(equal) > 0.97
    fails(["export", run_folder, "--out", path], 2, "exists", capsys)
    fails(["export", run_folder, "--out", path, "--overwrite", "--recipe", "int3"], 2, "usage", capsys)
    fails(["export", run_folder, "--out", path, "--overwrite", "--size", "30"], 2, "usage", capsys)
    assert path.read_bytes() == data
    assert names(tmp_path) == ["argmax.receipt.html", "argmax.receipt.json", "argmax.tflite"]


@pytest.mark.parametrize("option", [["--channels", "1"], ["--mean", "0.5"], ["--size", "64"], ["--fit", "resize"]])
def test_what_a_model_says_itself_cannot_be_said_again(
    int8_file: Path, cells: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(["evaluate", int8_file, cells, *option], 2, "usage", capsys)
    assert f"without a card: {option[0]}" in line


def test_class_names_are_those_of_the_run(run_folder: Path, cells: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(["evaluate", run_folder, cells, "--classes", "a", "b"], 2, "usage", capsys)
    assert "classes given for a model that says it itself" in line


def test_scores_that_cannot_be_written_are_not_computed(
    run_folder: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(["evaluate", run_folder, cells, "--json", tmp_path / "no" / "scores.json"], 5, "system", capsys)


def test_a_keras_file_with_its_preprocessing(cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    model = tmp_path / "mine.keras"
    keras.Model(inputs, keras.layers.Conv2D(2, 1)(x)).save(model)
    feeding = ["--size", "16", "32", "--channels", "1", "--value-range", "-1", "1", "--classes", "background", "cell"]
    calibration = ["--calibration", cells / "images"]
    out = tmp_path / "mine.tflite"
    fails(["export", model, "--out", out, *calibration], 2, "usage", capsys)
    fails(["export", model, "--out", out, *feeding], 2, "usage", capsys)
    fails(["evaluate", model, cells], 2, "usage", capsys)
    assert names(tmp_path) == ["mine.keras"]
    runs(["export", model, "--out", out, *calibration, *feeding])
    card = read_card(out.read_bytes())
    assert (card.preprocessing.size, card.preprocessing.value_range) == ((16, 32), (-1.0, 1.0))
    assert (card.class_names, card.recipe) == (("background", "cell"), "static_wi8_ai8")
    scores = []
    for arguments in ([model, cells, *feeding], [out, cells]):
        runs(["evaluate", *arguments, "--split", "all", "--json", tmp_path / "scores.json"])
        scores.append(json.loads((tmp_path / "scores.json").read_text())["miou"])
    assert scores[0] == pytest.approx(scores[1], abs=0.05)
    model.write_bytes(half(model.read_bytes()))
    fails(["evaluate", model, cells, *feeding], 4, "model", capsys)


# ---------------------------------------------------------------------------------------------------- evaluate, predict


def test_evaluate_writes_its_scores(
    run_folder: Path, int8_file: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in (run_folder, int8_file):
        runs(["evaluate", model, cells, "--split", "all", "--json", tmp_path / "scores.json"])
        found = json.loads((tmp_path / "scores.json").read_text())
        assert set(found) == {
            "miou",
            "mean_dice",
            "fwiou",
            "per_class_iou",
            "per_class_dice",
            "pixel_accuracy",
            "num_images",
            "ms_per_image",
            "model",
            "split",
        }
        assert found["num_images"] == 8
        assert f"mIoU       {found['miou']:.4f}" in capsys.readouterr().out
    line = fails(["evaluate", int8_file, cells, "--json", tmp_path / "none" / "scores.json"], 5, "system", capsys)
    assert "scores.json" in line


def test_predict_writes_class_ids_as_a_palette(
    int8_file: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    wide = np.tile(np.array(Image.open(cells / "images" / "cells_0000.png")), (1, 2))[:50]
    Image.fromarray(wide).save(images / "wide.png")
    shutil.copy(cells / "images" / "cells_0001.png", images / "square.png")
    out = tmp_path / "out"
    command = ["predict", int8_file, images, "--out", out, "--overlay", "--json", tmp_path / "status.json"]
    runs(command)
    assert "[2/2] wide.png" in capsys.readouterr().out
    assert names(out) == ["square.png", "square_overlay.png", "wide.png", "wide_overlay.png"]
    with Segmenter(int8_file) as segmenter:
        for path in images.iterdir():
            image, found = Image.open(path), Image.open(out / path.name)
            assert (found.mode, found.size) == ("P", image.size)
            np.testing.assert_array_equal(np.array(found), segmenter.segment(np.array(image)).class_map)
            palette = np.reshape(found.getpalette()[:6], (2, 3))
            np.testing.assert_array_equal(palette, segmenter.card.class_colors)
    status = json.loads((tmp_path / "status.json").read_text())["images"]
    assert [row["error"] for row in status] == [None, None]
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert "output files exist already" in fails(command, 2, "exists", capsys)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    runs([*command, "--overwrite"])
    (out / "other.txt").write_text("mine")
    shutil.copy(cells / "images" / "cells_0002.png", images / "new.png")
    runs(["predict", int8_file, images / "new.png", "--out", out])  # only files of the same name are in the way
    assert {"new.png", "other.txt", "wide.png"} <= set(names(out))


def test_predict_goes_on_after_an_image_that_cannot_be_read(
    run_folder: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    good = (cells / "images" / "cells_0000.png").read_bytes()
    (images / "a.png").write_bytes(half(good))
    (images / "b.png").write_bytes(good)
    out = tmp_path / "out"
    assert "a.png" in fails(["predict", run_folder, images, "--out", out], 3, "image", capsys)
    assert names(out) == ["b.png"]
    (tmp_path / "empty").mkdir()
    fails(["predict", run_folder, tmp_path / "empty", "--out", tmp_path / "out2"], 2, "usage", capsys)
    assert not (tmp_path / "out2").exists()


# --------------------------------------------------------------------------------------------------- demo, and the rest


def test_demo_refuses_a_folder_that_is_not_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    fails(["demo", "--out", tmp_path], 2, "exists", capsys)
    assert names(tmp_path) == ["thesis.tex"]


def test_demo_replaces_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from keras_unetres.workflows import demo

    def stop(*arguments: object, **named: object) -> None:
        raise UsageError("stopped here")

    monkeypatch.setattr(demo, "train", stop)
    for part in ("_TRAINED", "_VALIDATION", "_TEST"):
        monkeypatch.setattr(demo, part, 1)
    fails(["demo", "--out", tmp_path / "demo"], 2, "usage", capsys)
    write_bytes(tmp_path / "demo" / "mine", b"")
    write_bytes(tmp_path / "demo" / "cells" / "old", b"")
    fails(["demo", "--out", tmp_path / "demo"], 2, "usage", capsys)
    assert "old" not in names(tmp_path / "demo" / "cells")
    assert "mine" in names(tmp_path / "demo")  # what no demo wrote stays


@pytest.mark.long
def test_demo_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    runs(["demo", "--out", out, "--epochs", "1"])
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary) == {"keras", "float32", "int8", "edge"}
    assert all({"miou", "kb", "ms"} <= set(row) for row in summary.values())
    assert all(0.3 < row["miou"] < 1 for row in summary.values())
    assert summary["float32"]["miou"] == pytest.approx(summary["keras"]["miou"], abs=0.001)
    assert summary["int8"]["miou"] == pytest.approx(summary["keras"]["miou"], abs=0.03)
    assert summary["edge"]["labels_as_predict"] == 1
    assert summary["int8"]["kb"] < 0.5 * summary["float32"]["kb"]
    assert {"overlay.png", "model_int8.tflite", "model_float32.tflite", "run", "cells"} <= set(names(out))
    printed = capsys.readouterr().out
    assert f"{summary['int8']['miou']:.4f}" in printed


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("command", [[], ["train"], ["export"], ["evaluate"], ["predict"], ["inspect"], ["demo"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {' '.join(['unetres', *command])} ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train cells --ouut run", "unetres train: error: unrecognized arguments: --ouut run; did you mean --out?"),
        ("evaluate run cells --splti=val", "unrecognized arguments: --splti=val; did you mean --split?"),
        ("models a b", "unetres models: error: unrecognized arguments: b\n"),
        ("", "suspects"),
    ],
)
def test_words_that_are_no_options_are_named_with_what_is_near(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("package", ["keras_unetres", "unetres_edge"])
def test_packages_run_as_their_commands(package: str) -> None:
    assert python("-m", package, "--version").stdout.strip() == __version__


def test_help_and_inspect_load_no_tensorflow(int8_file: Path) -> None:
    code = "\n".join(
        [
            "import sys",
            "from keras_unetres.cli import main",
            f"assert main(['inspect', {str(int8_file)!r}]) == 0",
            "try: main(['--help'])",
            "except SystemExit as end: assert not end.code",
            "print('loaded', sorted({name.partition('.')[0] for name in sys.modules} & {'tensorflow', 'keras'}))",
        ]
    )
    done = python("-c", code)
    noted = [line for line in done.stderr.splitlines() if not line.startswith("INFO: Created TensorFlow Lite")]
    assert (done.returncode, noted) == (0, [])
    assert done.stdout.splitlines()[-1] == "loaded []"


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = python("-m", "keras_unetres.cli", "inspect", str(tmp_path / "none.tflite"))
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith("error: system: ")
    assert done.stderr.count("\n") == 1
    assert python("-m", "keras_unetres.cli", "inspect").returncode == 2
