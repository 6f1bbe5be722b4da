"""The run folder's files: made, refused, replaced, locked, read back, and named when they are damaged."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run_info
from safetensors.numpy import save as save_tensors

from keras_unetres.runs import PRUNE, SCHEMA, Compilation, Compression, RunFolder, picture_name, replacement
from unetres_edge.errors import ExistsError, FileSystemError, RunFolderError, UsageError
from unetres_edge.files import is_portable


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def tensors() -> dict[str, np.ndarray]:
    return {
        "a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b/seed": np.array([1, 2**31], np.uint32),
        "c/step": np.array(7, np.int64),
        "d/fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(3, 2)),
    }


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert set(one) == set(other)
    for name in one:
        assert (one[name].dtype, one[name].shape) == (other[name].dtype, other[name].shape)
        np.testing.assert_array_equal(one[name], other[name])


def test_a_new_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "deep" / "run")
    assert sorted(path.name for path in run.path.iterdir()) == ["checkpoints", "samples"]
    (tmp_path / "empty").mkdir()
    assert RunFolder.create(tmp_path / "empty").samples.is_dir()
    assert RunFolder.is_run(run.path)
    assert not RunFolder.is_run(tmp_path / "none")


@pytest.mark.parametrize("kind", ["run", "other", "file"])
def test_what_is_there_is_not_replaced_unasked(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "there"
    if kind == "file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / ("run.json" if kind == "run" else "thesis.tex")).write_text("mine")
    for refuse in (RunFolder.create, RunFolder.check_new):
        with pytest.raises(ExistsError, match="choose another --out"):
            refuse(path)
    assert [p.read_text() for p in (path, *path.rglob("*")) if p.is_file()] == ["mine"]


@pytest.mark.parametrize(
    "text",
    [
        "loss\n1\n",
        "epoch,loss\n1,2,3\n",
        "epoch\n0\n",
        "epoch\n1.5\n",
        "epoch\nnan\n",
        "epoch\ninf\n",
        "x" * 200_000 + "\n",
    ],
    ids=lambda text: text[:20],
)
def test_a_history_of_another_form_is_named(run: RunFolder, text: str) -> None:
    (run.path / "history.csv").write_text(text)
    with pytest.raises(RunFolderError, match=r"history\.csv is not readable"):
        run.read_history()


@pytest.mark.parametrize("text", ["null", "3", "[]", '{"sha256": 3}', "[" * 200_000], ids=lambda text: text[:16])
def test_weights_whose_metadata_has_another_form_are_named(run: RunFolder, text: str) -> None:
    (run.path / "weights.safetensors").write_bytes(save_tensors(tensors(), metadata={"keras_unetres": text}))
    with pytest.raises(RunFolderError, match="damaged"):
        run.read_weights()


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("preprocessing", "size"), [1e300, 32], "preprocessing"),
        (("preprocessing", "size"), [True, 32], "preprocessing size is wrong"),
        (("preprocessing", "size"), [10**30, 32], "preprocessing size is wrong"),
        (("preprocessing", "size"), [64, 64], r"at model; expected input_shape \[64, 64, 1\]; found .*32"),
        (("preprocessing", "channels"), True, "preprocessing.channels"),
        (("preprocessing", "mean"), True, "preprocessing mean is wrong"),
        (("preprocessing", "mean"), float("nan"), "preprocessing mean is wrong"),
        (("preprocessing", "mean"), 10**30, "at most 1e\\+09"),
        (("preprocessing", "std"), [1e-300], "preprocessing std is wrong"),
        (("preprocessing", "std"), [-0.0], "preprocessing std is wrong"),
        (("classes", "colors"), [[999, 0, 0], [0, 0, 0]], r"classes\.colors"),
        (("classes", "colors"), [[1, -2, 3], [0, 0, 0]], r"classes\.colors"),
        (("classes", "colors"), [[1, 2, 3]], "one for each of 2 names"),
        (("classes", "names"), ["a"], "one for each of 1 names|2 classes|1 classes"),
        (("model", "arguments", "num_classes"), 5, "at model; expected 2 classes; found num_classes 5"),
        (("seed",), -1, "at seed"),
        (("seed",), 10**30, "at seed"),
        (("augment",), "fog", "at augment"),
        (("compilation",), {"precision": "float7"}, "precision is 'float7'"),
        (("compilation",), {"tried": 5}, "compilation"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_values_that_cannot_be_meant_are_named(run: RunFolder, place: tuple[str, ...], value: Any, said: str) -> None:
    values = part = run_info().to_dict()
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = value
    (run.path / "run.json").write_text(json.dumps(values))
    with pytest.raises(RunFolderError, match=said):
        run.read_info()


def test_a_key_that_stands_twice_is_named(run: RunFolder) -> None:
    text = json.dumps(run_info().to_dict())
    (run.path / "run.json").write_text(text.replace('"seed": 3', '"seed": 3, "seed": 4'))
    with pytest.raises(RunFolderError, match="not readable: the key 'seed' stands twice"):
        run.read_info()


def test_calibration_that_unpacks_without_limit_is_refused(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_calibration(np.zeros((8, 64, 64, 1), np.uint8))
    assert (run.path / "calibration.npz").stat().st_size < 1000
    monkeypatch.setattr("keras_unetres.runs.folder._MOST_CALIBRATION", 10_000)
    with pytest.raises(RunFolderError, match="damaged: it is of more than"):
        run.read_calibration()


@pytest.mark.parametrize("arguments", [{"filters": 10**9}, {"depth": float("nan")}, {"input_shape": [10**7, 32, 1]}])
def test_numbers_of_a_network_that_cannot_be_meant_are_named(run: RunFolder, arguments: dict[str, Any]) -> None:
    values = run_info().to_dict()
    values["model"]["arguments"] |= arguments
    (run.path / "run.json").write_text(json.dumps(values))
    with pytest.raises(RunFolderError, match=rf"run\.json is wrong at model\.arguments\.{min(arguments)}.*65536"):
        run.read_info()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["curves.png", "progress.png"], ["image_1_curves", "image_2_progress"]),
        (["x/y.png", "x_y.png"], ["image_1_x_y", "image_2_x_y"]),
        (["a" * 130 + "/" + "b" * 130 + ".png"], ["image_1_" + "b" * 40]),
        (["..\\..\\x.png", "CON.png", "a:b\n\x1b[2J\u202e.png"], ["image_1_x", "image_2_CON", "image_3_a_b_2J"]),
        (["\u7ec6\u80de.png", ".png"], ["image_1", "image_2_png"]),
    ],
)
def test_names_of_pictures_are_short_unique_and_plain(names: list[str], expected: list[str]) -> None:
    found = [picture_name(index, name) for index, name in enumerate(names)]
    assert found == expected
    assert all(is_portable(f"{name}.png") for name in found)


@pytest.fixture
def earlier(run: RunFolder) -> RunFolder:
    """Return a run with weights, a report, and a file that the user put there."""
    run.write_info(run_info())
    run.write_weights(tensors())
    (run.samples / "curves.png").write_text("old")
    (run.path / "thesis.tex").write_text("mine")
    return RunFolder(run.path)


def test_the_run_that_is_replaced_goes_when_the_new_one_has_weights(earlier: RunFolder) -> None:
    before = files(earlier.path)
    run = RunFolder.create(earlier.path, overwrite=True)
    assert files(run.path) == before  # until it is locked
    with run.lock():
        assert files(run.path) == sorted([".lock", *(f if f == "thesis.tex" else f"replaced/{f}" for f in before)])
        run.write_info(run_info())
        run.write_weights(tensors())
        assert files(run.path) == [".lock", "run.json", "thesis.tex", "weights.safetensors"]


@pytest.mark.parametrize("error", [UsageError("no"), RuntimeError(), KeyboardInterrupt(), SystemExit()], ids=repr)
def test_the_earlier_run_comes_back_if_the_new_one_ends_before_it_began(
    earlier: RunFolder, error: BaseException
) -> None:
    before = {name: (earlier.path / name).read_bytes() for name in files(earlier.path)}
    run = RunFolder.create(earlier.path, overwrite=True)
    with pytest.raises(type(error)), run.lock():
        (run.samples / "other.png").write_text("new")
        run.write_calibration(np.zeros((1, 2, 2, 1), np.uint8))
        raise error
    assert {name: (earlier.path / name).read_bytes() for name in files(earlier.path)} == before


def test_a_run_with_a_checkpoint_stays_and_its_resumption_removes_the_earlier_one(earlier: RunFolder) -> None:
    with pytest.raises(KeyboardInterrupt), RunFolder.create(earlier.path, overwrite=True).lock():
        earlier.write_checkpoint(tensors(), {"step": 1})
        raise KeyboardInterrupt
    assert {"checkpoints/last.safetensors", "replaced/weights.safetensors"} <= set(files(earlier.path))
    with RunFolder(earlier.path).lock():
        earlier.write_weights(tensors())
    assert not (earlier.path / "replaced").exists()


def test_a_process_killed_before_the_new_run_had_weights_loses_nothing(earlier: RunFolder) -> None:
    killed = RunFolder.create(earlier.path, overwrite=True)
    with contextlib.suppress(KeyError), killed.lock():
        raise KeyError
    held = RunFolder.create(earlier.path, overwrite=True).lock()
    held.__enter__()
    earlier.write_info(run_info())
    copy = earlier.path.with_name("copy")
    shutil.copytree(earlier.path, copy)  # what lies there after a kill
    with pytest.raises(KeyError), RunFolder.create(copy, overwrite=True).lock():
        raise KeyError
    assert_same(RunFolder(copy).read_weights(), tensors())
    held.__exit__(None, None, None)


def test_what_cannot_be_moved_stays_whole(earlier: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    before, move = files(earlier.path), os.replace

    def refuse(source: Path, target: Path) -> None:
        if source.name == "samples" and target.parent.name == "replaced":
            raise PermissionError(13, "in use")
        move(source, target)

    run = RunFolder.create(earlier.path, overwrite=True)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(FileSystemError, match="cannot replace the run: in use"), run.lock():
        raise AssertionError("it was replaced")
    assert files(earlier.path) == before


def test_a_file_of_another_program_called_run_json_makes_no_run(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"script": "npm start"}')
    with pytest.raises(ExistsError, match="not a run folder"):
        RunFolder.create(tmp_path, overwrite=True)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_overwriting_replaces_nothing_but_a_run(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "there"
    if kind == "file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "thesis.tex").write_text("mine")
    with pytest.raises(ExistsError, match="not a run folder"):
        RunFolder.create(path, overwrite=True)
    assert [p.read_text() for p in (path, *path.rglob("*")) if p.is_file()] == ["mine"]


def test_a_run_that_is_being_written_is_not_replaced(earlier: RunFolder) -> None:
    with earlier.lock():
        before = files(earlier.path)
        with pytest.raises(RunFolderError, match=f"process {os.getpid()} is writing to it"):
            RunFolder.create(earlier.path, overwrite=True).lock().__enter__()
        assert files(earlier.path) == before


def test_what_is_said_of_a_run_that_is_there_works(tmp_path: Path) -> None:
    """The command that is named goes on with all of it, where that can be gone on with."""

    def said(path: Path) -> str:
        with pytest.raises(ExistsError) as caught:
            RunFolder.check_new(path)
        return str(caught.value.fix)

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    assert said(tmp_path / "mine") == "choose another --out"  # --overwrite refuses it, too
    folds = tmp_path / "my folds"
    run = RunFolder.create(folds / "fold1")
    run.write_info(run_info())
    assert said(run.path) == f"go on with it: {run.resumed_by}; or pass --overwrite, or choose another --out"
    assert run.resumed_by == f"unetres train --resume '{run.path}'"
    (folds / "folds.json").touch()
    (run.path / "search.json").touch()
    for part in (run, run.candidate("small"), RunFolder(folds)):  # of which one part alone would be trained
        assert part.resumed_by == f"unetres train --resume '{folds}'"
    assert said(folds) == f"go on with it: unetres train --resume '{folds}'; or choose another --out"
    pruned = RunFolder.create(tmp_path / "pruned")
    pruned.write_info(replace(run_info(), compress=(Compression(PRUNE, "tfmot", sparsity=0.5),)))
    assert said(pruned.path) == "pass --overwrite, or choose another --out"


def test_of_two_that_make_a_run_the_second_never_touches_that_of_the_first(tmp_path: Path) -> None:
    first, second = RunFolder.create(tmp_path / "run"), RunFolder.create(tmp_path / "run")
    with first.lock():
        first.write_info(run_info())
    with pytest.raises(ExistsError, match="exists already"), second.lock():
        raise AssertionError("two made one run")


def test_the_lock_is_held_and_freed(run: RunFolder) -> None:
    lock = run.path / ".lock"
    with run.lock():
        assert lock.read_text() == str(os.getpid())
    assert not lock.exists()
    with pytest.raises(KeyError), run.lock():
        raise KeyError
    assert not lock.exists()


def test_whoever_holds_the_lock_removes_what_a_killed_process_left(run: RunFolder) -> None:
    frames = run.samples / "epochs"
    frames.mkdir()
    for folder in (run.path, run.samples, frames):
        (folder / ".000002.png.999999999.x.tmp").write_bytes(b"half")
    (frames / "000001.png").write_bytes(b"whole")
    with RunFolder(run.path).lock():
        assert files(frames) == ["000001.png"]
        assert not list(run.path.rglob(".*.tmp"))


def test_a_living_process_keeps_others_out(run: RunFolder) -> None:
    code = "import sys; from keras_unetres.runs import RunFolder\nwith RunFolder(sys.argv[1]).lock(): print(); input()"
    command = [sys.executable, "-c", code, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "\n"
            with pytest.raises(RunFolderError, match=f"process {other.pid} is writing"), run.lock():
                raise AssertionError("two hold the lock")
            assert (run.path / ".lock").read_text() == str(other.pid)
        finally:
            other.communicate("\n")
    with run.lock():
        pass


def test_the_number_of_another_program_locks_nothing(run: RunFolder) -> None:
    (run.path / ".lock").write_text(str(os.getppid()))
    with run.lock():
        assert (run.path / ".lock").read_text() == str(os.getpid())


def test_a_run_whose_process_was_killed_is_free_at_once(run: RunFolder) -> None:
    code = "import sys; from keras_unetres.runs import RunFolder\nwith RunFolder(sys.argv[1]).lock(): print(); input()"
    command = [sys.executable, "-c", code, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "\n"
        other.kill()
    assert (run.path / ".lock").read_text() == str(other.pid)
    with run.lock():
        pass


def ended_process() -> str:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return str(child.pid)


@pytest.mark.parametrize(
    "text",
    [ended_process, "", "0", "-1", "what", "9" * 30],
    ids=lambda text: text if isinstance(text, str) else "ended",
)
def test_a_stale_lock_is_taken_over(run: RunFolder, text: str | Callable[[], str]) -> None:
    (run.path / ".lock").write_text(text if isinstance(text, str) else text())
    with run.lock():
        assert (run.path / ".lock").read_text() == str(os.getpid())


def test_locking_where_there_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileSystemError, match="cannot lock"), RunFolder(tmp_path / "none").lock():
        pass


def test_what_is_written_is_read_back(run: RunFolder) -> None:
    run.write_info(run_info())
    assert run.read_info() == run_info()
    run.write_weights(tensors())
    assert_same(run.read_weights(), tensors())
    assert run.read_checkpoint() is None
    state = {"epoch": 3, "history": [{"epoch": 1, "loss": 0.1 + 0.2}], "best": 1 / 3}
    run.write_checkpoint(tensors(), {"epoch": 2})
    run.write_checkpoint(tensors(), state)
    found = run.read_checkpoint()
    assert found is not None
    assert_same(found[0], tensors())
    assert found[1] == state
    crops = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 1), np.uint8)
    run.write_calibration(crops)
    np.testing.assert_array_equal(run.read_calibration(), crops)
    run.write_history([{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 0.25, "val_miou": 0.5}])
    assert files(run.path) == [
        "calibration.npz",
        "checkpoints/last.safetensors",
        "history.csv",
        "run.json",
        "weights.safetensors",
    ]
    with (run.path / "history.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"epoch": "1", "loss": "0.30000000000000004", "val_miou": ""},
            {"epoch": "2", "loss": "0.25", "val_miou": "0.5"},
        ]


def test_what_is_missing_is_named(run: RunFolder) -> None:
    with pytest.raises(RunFolderError, match="has no run.json"):
        run.read_info()
    with pytest.raises(RunFolderError, match=r"weights.safetensors: the run has no such file yet"):
        run.read_weights()
    with pytest.raises(RunFolderError, match="no calibration.npz"):
        run.read_calibration()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps({"schema": SCHEMA + 1}), "another schema; expected 1; found 2"),
        (json.dumps({"model": {}}), "another schema; expected 1$"),
        ("[1]", "another schema; expected 1; found list"),
        ('{"schema": 1', "run.json is not readable"),
        (b"\xff\xfe\x00", "run.json is not readable"),
        ("", "run.json is not readable"),
    ],
)
def test_a_run_json_of_another_kind_is_refused(run: RunFolder, text: str | bytes, words: str) -> None:
    (run.path / "run.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RunFolderError, match=words):
        run.read_info()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def empty(data: bytes) -> bytes:
    return b""


def flip_header(data: bytes) -> bytes:
    return data[:9] + bytes([data[9] ^ 0x40]) + data[10:]


@pytest.mark.parametrize("damage", [cut, empty, flip_header])
@pytest.mark.parametrize("name", ["weights.safetensors", "checkpoints/last.safetensors"])
def test_damaged_tensors_are_named(run: RunFolder, name: str, damage: Callable[[bytes], bytes]) -> None:
    run.write_weights(tensors())
    run.write_checkpoint(tensors(), {"epoch": 1})
    path = run.path / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunFolderError, match=f"^run-folder: .*{name}: damaged: "):
        run.read_weights() if name.startswith("weights") else run.read_checkpoint()


def test_weights_are_no_checkpoint(run: RunFolder) -> None:
    run.write_weights(tensors())
    (run.path / "weights.safetensors").rename(run.path / "checkpoints" / "last.safetensors")
    with pytest.raises(RunFolderError, match="holds no state"):
        run.read_checkpoint()
    (run.path / "checkpoints" / "last.safetensors").write_bytes(save_tensors(tensors()))
    with pytest.raises(RunFolderError, match="the digest differs"):
        run.read_checkpoint()


def flip_middle(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [cut, empty, flip_middle])
def test_damaged_calibration_is_named(run: RunFolder, damage: Callable[[bytes], bytes]) -> None:
    run.write_calibration(np.random.default_rng(0).integers(0, 256, (4, 16, 16, 1), np.uint8))
    path = run.path / "calibration.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunFolderError, match=r"calibration\.npz: damaged: "):
        run.read_calibration()


@pytest.mark.parametrize(
    "crops",
    [
        np.zeros((2, 4, 4), np.uint8),
        np.zeros((0, 4, 4, 1), np.uint8),
        np.zeros((2, 4, 4, 1), np.float32),
        np.zeros((2, 0, 4, 1), np.uint8),
        np.zeros((10**6, 1, 1, 1), np.uint8),  # a kilobyte, of which a million images would be made
    ],
)
def test_calibration_of_another_form_is_refused(run: RunFolder, crops: np.ndarray) -> None:
    run.write_calibration(crops)
    with pytest.raises(RunFolderError, match="wrong form; expected .N, H, W, C. uint8"):
        run.read_calibration()


def test_calibration_holds_no_code(run: RunFolder) -> None:
    with (run.path / "calibration.npz").open("wb") as file:
        np.savez(file, crops=np.array([{"a": 1}], object))
    with pytest.raises(RunFolderError, match="damaged: .*allow_pickle"):
        run.read_calibration()
    with (run.path / "calibration.npz").open("wb") as file:
        np.savez(file, images=np.zeros((1, 2, 2, 1), np.uint8))
    with pytest.raises(RunFolderError, match="damaged: .*crops"):
        run.read_calibration()


def test_the_last_good_file_survives_a_failed_write(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_checkpoint(tensors(), {"epoch": 1})
    before = (run.path / "checkpoints" / "last.safetensors").read_bytes()

    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FileSystemError, match="No space left on device"):
        run.write_checkpoint(tensors(), {"epoch": 2})
    assert files(run.path) == ["checkpoints/last.safetensors"]
    assert (run.path / "checkpoints" / "last.safetensors").read_bytes() == before


def rewrite(run: RunFolder, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the JSON values of a `run.json`."""
    values = run_info().to_dict()
    change(values)
    (run.path / "run.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    "missing", ["augment", "classes", "data", "model", "plan", "preprocessing", "reading", "settings"]
)
def test_a_run_json_that_lacks_something_is_refused(run: RunFolder, missing: str) -> None:
    rewrite(run, lambda values: values.pop(missing))
    with pytest.raises(RunFolderError, match=f"incomplete.*no {missing}"):
        run.read_info()


WRONG: list[tuple[str, Any]] = [
    ("augment", 3),
    ("classes", None),
    ("classes.colors", [[0, 0]]),
    ("classes.ignored", "yes"),
    ("classes.names", "ab"),
    ("compress", ["quantize_aware"]),
    ("compress.0", None),
    ("data.fingerprint", None),
    ("data.path", 1),
    ("data.splits", []),
    ("data.splits.train", [1]),
    ("compilation", {"jit_compile": "no"}),
    ("model.arguments", []),
    ("model.builder", None),
    ("plan", {"epochs": 3}),
    ("plan", {"epochs": "3"}),
    ("plan", 3),
    ("preprocessing", {"channels": 7}),
    ("reading", {"masks_are": "bananas"}),
    ("reading", {"ignore": "x"}),
    ("seed", True),
    ("settings", []),
    ("source", 3),
    ("speed", {"step_seconds": 1.0}),
    ("task", 0),
    ("task", "detect"),
    ("versions", "1"),
]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=lambda value: str(value)[:30])
def test_a_run_json_that_is_wrong_names_the_key(run: RunFolder, key: str, value: Any) -> None:
    *above, last = key.split(".")

    def change(values: dict[str, Any]) -> None:
        place: Any = values
        for name in above:
            place = place[int(name)] if name.isdigit() else place.setdefault(name, [{"step": "quantize_aware"}])
        if isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value

    rewrite(run, change)
    with pytest.raises(RunFolderError, match=f"run.json is wrong at {key.partition('.0')[0]}"):
        run.read_info()


def test_settings_that_are_wrong_are_named(run: RunFolder) -> None:
    for settings, words in (
        ({"bananas": 3}, "another version: bananas"),
        ({"batch": "x"}, "wrong at settings.*--batch"),
    ):
        rewrite(run, lambda values, settings=settings: values.update(settings=settings))
        with pytest.raises(RunFolderError, match=words):
            run.read_info().train_settings()


def test_a_run_json_nested_without_end_is_refused(run: RunFolder) -> None:
    (run.path / "run.json").write_text('{"schema": 1, "data": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(RunFolderError, match="not readable"):
        run.read_info()


def test_run_files_of_earlier_and_later_versions_are_read(run: RunFolder) -> None:
    def earlier(values: dict[str, Any]) -> None:
        for name in ("task", "compilation", "seed", "versions"):
            del values[name]
        del values["classes"]["ignored"], values["classes"]["note"]
        del values["reading"]["target"]
        values["reading"]["ignore"] = 9

    rewrite(run, earlier)
    info = run.read_info()
    assert (info.task, info.compilation, info.seed, info.classes.ignored) == ("segment", Compilation(), 0, True)

    rewrite(run, lambda values: values.update(budget={"minutes": 3}, compilation={"precision": "float32", "cores": 4}))
    info = run.read_info()
    assert info.compilation == Compilation("float32")
    run.write_info(replace(info, seed=4))
    assert json.loads((run.path / "run.json").read_text())["budget"] == {"minutes": 3}
    assert run.read_info() == replace(info, seed=4)


def test_any_changed_byte_of_the_weights_is_noticed(run: RunFolder) -> None:
    run.write_weights(tensors())
    path = run.path / "weights.safetensors"
    sound = path.read_bytes()
    run.read_weights()
    for place in np.random.default_rng(0).integers(0, len(sound), 100):
        damaged = bytearray(sound)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        with pytest.raises(RunFolderError):
            run.read_weights()


def test_every_file_of_a_run_is_put_aside(earlier: RunFolder) -> None:
    """What stayed would be the new run's: a plan that is not its own."""
    listed = re.findall(r"^    ([\w./, ]+?)  ", sys.modules[RunFolder.__module__].__doc__ or "", re.MULTILINE)
    names = {name.split("/")[0] for row in listed for name in row.split(", ")} - {"replaced"}
    assert {"run.json", "plan.json", "samples"} <= names == set(replacement._FILES)


def test_a_run_that_was_stopped_says_so(run_folder: Path, tmp_path: Path) -> None:
    run_copy = Path(shutil.copytree(run_folder, tmp_path / "run"))
    run = RunFolder(run_copy)
    assert run.unfinished() is None
    checkpoint = run.read_checkpoint()
    assert checkpoint is not None
    tensors, state = checkpoint
    epochs = len(state["history"])
    for rows, words in ((state["history"][:1], f"after epoch 1 of {epochs}"), ([], "in its first epoch")):
        run.write_checkpoint(tensors, {**state, "finished": False, "history": rows})
        said = run.unfinished()
        assert said is not None
        assert f"training was stopped {words}" in said
        assert f"unetres train --resume {run_copy}" in said
    run.write_checkpoint(tensors, {**state, "history": state["history"][:1]})  # that stopped early by itself
    assert run.unfinished() is None
    (run_copy / "checkpoints" / "last.safetensors").write_bytes(b"damaged")
    assert run.unfinished() is None
