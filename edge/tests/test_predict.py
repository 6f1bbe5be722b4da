"""Files in, files out: nothing half written, nothing overwritten unasked, every fault told on one line."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from models import make_card, make_conv, make_identity
from PIL import Image

from unetres_edge import Segmenter
from unetres_edge.cli import main
from unetres_edge.commands.predict import sum_up
from unetres_edge.errors import DataError, ExistsError, FileSystemError, ImageError, UsageError
from unetres_edge.files import is_portable, make_folder, name_key, read_bytes, write_bytes, write_json
from unetres_edge.images.decode import read_image, read_mask
from unetres_edge.results import draw
from unetres_edge.results.result import Result
from unetres_edge.segment import files
from unetres_edge.segment.files import find_images, predict_files
from unetres_edge.segment.inputs import find_inputs
from unetres_edge.terminal import counted

WEIGHTS, BIAS = np.array([[1], [-1]]), np.array([0, 200])  # class 1 where the level is below 100


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (12, 15)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a model and three images, entered."""
    (tmp_path / "in").mkdir()
    for index, name in enumerate("abc"):
        Image.fromarray(picture(index)).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "m.tflite").write_bytes(make_conv(make_card(), WEIGHTS, BIAS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def segmenter() -> Segmenter:
    return Segmenter(make_conv(make_card(), WEIGHTS, BIAS), num_threads=1)


def stored(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.array(image)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writing_replaces_and_leaves_nothing_beside(tmp_path) -> None:
    path = tmp_path / "a.bin"
    for data in (b"one", b"", b"two" * 9999):
        write_bytes(path, data)
        assert path.read_bytes() == data
        assert names(tmp_path) == ["a.bin"]
    write_json(tmp_path / "a.json", {"a": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))


@pytest.mark.parametrize("step", ["replace", "fsync", "open"])
def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch, step: str) -> None:
    write_bytes(tmp_path / "a.bin", b"old")

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(FileSystemError, match=r"a\.bin: cannot write: No space left") as caught:
        write_bytes(tmp_path / "a.bin", b"new")
    assert caught.value.exit_code == 5
    monkeypatch.undo()
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_what_a_mount_lacks_is_left_out(tmp_path, monkeypatch) -> None:
    """FUSE and network shares refuse to flush folders (EINVAL) or to set rights (EPERM)."""
    fsync = os.fsync

    def of_files(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(handle)

    def refuse(*arguments: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fsync", of_files)
    monkeypatch.setattr(os, "chmod", refuse)
    monkeypatch.setattr(os, "fchmod", refuse)
    for data in (b"new", b"newer"):
        write_bytes(tmp_path / "a.bin", data)
        assert (tmp_path / "a.bin").read_bytes() == data
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.skipif(os.name != "posix", reason="rights of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o027])
def test_a_replaced_file_keeps_its_rights(tmp_path, mask: int) -> None:
    path = tmp_path / "a.bin"
    before = os.umask(mask)
    try:
        write_bytes(path, b"x")
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
        for rights in (0o600, 0o640, 0o664, 0o444):
            path.chmod(rights)
            write_bytes(path, b"y")
            assert stat.S_IMODE(path.stat().st_mode) == rights
    finally:
        os.umask(before)


@pytest.mark.skipif(os.name != "posix", reason="rights of files are of POSIX")
def test_a_private_file_is_never_open_to_others_while_it_is_replaced(tmp_path, monkeypatch) -> None:
    path, seen = tmp_path / "a.json", []
    path.write_bytes(b"old")
    path.chmod(0o600)
    monkeypatch.setattr(
        os, "fchmod", lambda handle, rights: seen.append((stat.S_IMODE(os.fstat(handle).st_mode), rights))
    )
    write_bytes(path, b"new")
    assert seen == [(0o600, 0o600)], "the rights of the new file before anything is in it, and those it is given"


def test_an_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch) -> None:
    write_bytes(tmp_path / "a.bin", b"old")

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a.bin", b"new")
    assert (names(tmp_path), (tmp_path / "a.bin").read_bytes()) == (["a.bin"], b"old")


def test_places_that_cannot_be_written(tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "folder", tmp_path / "none" / "a", tmp_path / "file" / "a"):
        with pytest.raises(FileSystemError, match="cannot write"):
            write_bytes(path, b"x")
    with pytest.raises(FileSystemError, match="cannot create"):
        make_folder(tmp_path / "file")
    assert names(tmp_path) == ["file", "folder"]


def test_a_name_as_long_as_the_system_allows_can_be_written(tmp_path) -> None:
    name = "図" * 83 + ".png"
    assert len(name.encode()) == 253
    write_bytes(tmp_path / name, b"x")
    assert names(tmp_path) == [name]


def test_only_files_are_read(tmp_path) -> None:
    for path, found in ((tmp_path, "a folder"), (tmp_path / "a", "nothing"), ("a\0b", "nothing")):
        with pytest.raises(FileSystemError, match=f"no such thing; expected a file; found {found}"):
            read_bytes(path, "thing")


def test_a_run_folder_where_a_file_is_asked_for_says_what_to_do(folder: Path, capsys) -> None:
    (folder / "run").mkdir()
    for command in ("inspect", "bench", "verify", "web"):
        assert main([command, "run"]) == 5
        assert "found a folder" in capsys.readouterr().err
    (folder / "run" / "run.json").write_text("{}")
    for command in ("inspect", "bench", "verify", "web", "seal"):
        assert main([command, "run"]) == 5
        error = capsys.readouterr().err
        assert "found a run folder; fix: unetres export run --out model.tflite, and name that" in error


def test_a_dark_colour_is_seen_on_a_dark_picture() -> None:
    class_map = np.zeros((6, 6), np.uint8)
    class_map[1:5, 1:3], class_map[1:5, 3:5] = 1, 2
    maroon, darker = (128, 0, 0), (64, 0, 0)
    mixed = draw.overlay(np.zeros((6, 6), np.uint8), class_map, ((0, 0, 0), maroon, darker))
    assert mixed[1, 1].max() > 180
    assert mixed[1, 1].tolist() != mixed[1, 4].tolist(), "two dark classes stay apart"
    bright = draw.overlay(np.zeros((6, 6), np.uint8), class_map, ((0, 0, 0), (250, 250, 0), (0, 200, 255)))
    assert bright[1, 1].tolist() == [250, 250, 64]


@pytest.mark.parametrize(
    ("number", "many", "said"), [(0, "classes", "0 classes"), (1, "classes", "1 class"), (2, "classes", "2 classes")]
)
def test_a_number_goes_with_its_noun(number: int, many: str | None, said: str) -> None:
    assert counted(number, "class", many) == said


def test_images_are_found_in_order_of_name(folder: Path) -> None:
    (folder / "in" / "notes.txt").touch()
    (folder / "in" / "D.PNG").touch()
    assert [path.name for path in find_images(["in"])] == ["D.PNG", "a.png", "b.png", "c.png"]
    assert find_images([folder / "in" / "b.png", "x.png"]) == [folder / "in" / "b.png", Path("x.png")]
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: no image found"):
        find_images(["empty"])
    (folder / "in" / "a.jpg").touch()
    with pytest.raises(UsageError, match=r"to one file.*take one kind, such as .in/\*\.png., or"):
        find_images(["in"])


@pytest.mark.parametrize("word", ["in", "in/**/*.png"])
def test_outputs_below_the_images_are_not_taken_for_images(
    word: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "m.tflite").write_bytes(make_conv(make_card((16, 24)), np.array([[0], [1]]), np.array([9, 0])))
    command = ["predict", "m.tflite", word, "--out", "in/maps", "--overlay", "--json", "in/maps/said/status.json"]
    for more in ([], ["--overwrite"]):
        assert main([*command, *more]) == 0
    said = capsys.readouterr().out
    assert said.count("3 class maps and 3 overlays in in/maps") == 2
    assert f"note  {6 if '*' in word else 7} files in in/maps not read: outputs lie there" in said
    assert len(json.loads(Path("in/maps/said/status.json").read_text())["images"]) == 3
    for out in ("in", folder):  # the folder itself, and one above it
        assert len(find_inputs(["in"], out).images) == 9


def test_class_maps_and_overlays_are_written(folder: Path, segmenter: Segmenter) -> None:
    seen = []
    written = predict_files(
        segmenter,
        find_images(["in"]),
        "out/deep",
        overlay=True,
        progress=lambda *told: seen.append((*told[:2], told[2].name, set(told[3]))),
        json_file="status.json",
    )
    assert written == [Path("out/deep") / f"{name}.png" for name in "abc"]
    for index, path in enumerate(written):
        np.testing.assert_array_equal(stored(path), picture(index) < 100)
        with Image.open(path.with_name(f"{path.stem}_overlay.png")) as image:
            assert (image.mode, image.size) == ("RGB", (15, 12))
    times = {"prepare", "infer", "post", "total"}
    assert seen == [(n, 3, f"{name}.png", times) for n, name in enumerate("abc", 1)]
    status = json.loads((folder / "status.json").read_text())["images"]
    assert [(s["image"], s["class_map"], s["error"]) for s in status] == [
        (f"in/{name}.png", f"out/deep/{name}.png", None) for name in "abc"
    ]
    assert all(set(s["ms"]) == times for s in status)


def test_bad_images_do_not_stop_the_others(folder: Path, segmenter: Segmenter) -> None:
    (folder / "in" / "b.png").write_bytes(b"x")
    with pytest.raises(ImageError, match=r"in/b\.png"):
        predict_files(segmenter, find_images(["in"]), "one", json_file="status.json")
    assert names(folder / "one") == ["a.png", "c.png"]
    status = json.loads((folder / "status.json").read_text())["images"]
    assert [s["error"] is None for s in status] == [True, False, True]
    assert (status[1]["class_map"], status[1]["ms"]) == (None, None)
    with pytest.raises(DataError, match=r"2 of 4 images.*in/b\.png.*nothing\.png.*the others are done"):
        predict_files(segmenter, [*find_images(["in"]), Path("nothing.png")], "two")
    assert names(folder / "two") == ["a.png", "c.png"]


@pytest.mark.parametrize("options", [{"overlay": True}, {"geojson": True}])
def test_a_name_that_is_too_long_costs_its_own_image(folder: Path, segmenter: Segmenter, options: dict) -> None:
    long = "x" * 250
    (folder / "in" / "b.png").rename(folder / "in" / f"{long}.png")
    with pytest.raises(FileSystemError, match="cannot write"):
        predict_files(segmenter, find_images(["in"]), "out", json_file="status.json", **options)
    assert len(names(folder / "out")) == 5
    status = json.loads((folder / "status.json").read_text())["images"]
    assert [row["error"] is None for row in status] == [True, True, False]
    assert status[2]["class_map"].endswith(f"{long}.png")  # this one could be written


@pytest.mark.parametrize(("number", "name"), [(errno.ENOSPC, "No space left"), (errno.EDQUOT, "quota exceeded")])
def test_a_full_disk_ends_the_work(folder: Path, segmenter: Segmenter, monkeypatch, number: int, name: str) -> None:
    write, calls = files.write_bytes, []

    def fail(path: Path, data: bytes) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise FileSystemError(f"cannot write: {os.strerror(number)}", file=path) from OSError(number, "")
        write(path, data)

    monkeypatch.setattr(files, "write_bytes", fail)
    with pytest.raises(FileSystemError, match=rf"b\.png: cannot write: .*{name}.*make room; 1 of 3 images are done"):
        predict_files(segmenter, find_images(["in"]), "out", json_file="status.json")
    assert len(calls) == 2
    errors = [row["error"] for row in json.loads((folder / "status.json").read_text())["images"]]
    assert (errors[0], errors[2]) == (None, "not reached")
    assert name in errors[1]


def test_an_output_that_is_not_taken_is_told_for_each_image(folder: Path, segmenter: Segmenter, monkeypatch) -> None:
    def fail(path: Path, data: bytes) -> None:
        raise FileSystemError("cannot write: Permission denied", file=path)

    monkeypatch.setattr(files, "write_bytes", fail)
    with pytest.raises(FileSystemError, match=r"3 of 3 images could not be segmented.*Permission denied"):
        predict_files(segmenter, find_images(["in"]), "out", json_file="status.json")
    status = json.loads((folder / "status.json").read_text())["images"]
    assert ["Permission denied" in row["error"] for row in status] == [True] * 3


def test_the_status_is_written_whatever_ends_the_work(folder: Path, segmenter: Segmenter) -> None:
    def stop(done: int, *rest: object) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_files(segmenter, find_images(["in"]), "out", json_file="status.json", progress=stop)
    status = json.loads((folder / "status.json").read_text())["images"]
    assert [row["error"] for row in status] == [None, "not reached", "not reached"]


def test_existing_files_are_left_alone_unless_asked(folder: Path, segmenter: Segmenter) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "b.png").write_bytes(b"mine")
    with pytest.raises(ExistsError, match="1 of 3 output files exist"):
        predict_files(segmenter, find_images(["in"]), "out")
    assert (names(folder / "out"), (folder / "out" / "b.png").read_bytes()) == (["b.png"], b"mine")
    predict_files(segmenter, find_images(["in"]), "out", overwrite=True)
    np.testing.assert_array_equal(stored(folder / "out" / "b.png"), picture(1) < 100)


def test_a_status_replaces_an_earlier_status_alone(folder: Path, segmenter: Segmenter) -> None:
    Path("mine.json").write_text('{"mine": 1}')
    for word, says in (("mine.json", "not replaced"), ("m.tflite", "expected a name ending in .json")):
        with pytest.raises((ExistsError, UsageError), match=says):
            predict_files(segmenter, find_images(["in"]), "out", overwrite=True, json_file=word)
    assert Path("mine.json").read_text() == '{"mine": 1}'
    for _ in range(2):
        predict_files(segmenter, find_images(["in"]), "out", overwrite=True, json_file="status.json")


def test_an_input_is_never_replaced(folder: Path, segmenter: Segmenter) -> None:
    before = (folder / "in" / "a.png").read_bytes()
    for out in ("in", "./in/../in"):
        with pytest.raises(ExistsError, match="replace an input"):
            predict_files(segmenter, find_images(["in"]), out, overwrite=True)
    assert (folder / "in" / "a.png").read_bytes() == before


def test_two_outputs_of_one_name_are_refused(folder: Path, segmenter: Segmenter) -> None:
    (folder / "in" / "c.png").rename(folder / "in" / "a_overlay.png")
    with pytest.raises(UsageError, match=r"out/a_overlay\.png: two outputs"):
        predict_files(segmenter, find_images(["in"]), "out", overlay=True)
    assert not (folder / "out").exists()
    assert len(predict_files(segmenter, find_images(["in"]), "out")) == 3


def run(arguments: list[str], capsys) -> tuple[int, str, str]:
    code = main(arguments)
    told = capsys.readouterr()
    return code, told.out, told.err


@pytest.mark.parametrize(
    ("one", "other", "same_on"),
    [
        ("a.png", "A.png", ("darwin", "win32")),
        ("\u00e9.png", "e\u0301.png", ("darwin", "win32")),
        ("\u00c9.png", "e\u0301.png", ("darwin", "win32")),
        ("stra\u00dfe", "STRASSE", ("darwin", "win32")),
        ("a", "a. .", ("win32",)),
        ("a.png", "b.png", ()),
    ],
)
def test_names_that_are_one_file_on_a_system(one: str, other: str, same_on: tuple[str, ...]) -> None:
    found = tuple(s for s in ("darwin", "linux", "win32") if name_key(one, s) == name_key(other, s))
    assert found == same_on


def test_two_outputs_that_are_one_file_here_are_refused(folder: Path, segmenter: Segmenter, monkeypatch) -> None:
    for name in ("x/A.png", "y/a.png"):
        (folder / name).parent.mkdir()
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / name)
    images = [folder / "x/A.png", folder / "y/a.png"]
    assert len(predict_files(segmenter, images, folder / "here")) == (2 if sys.platform == "linux" else 1)
    monkeypatch.setattr(files, "name_key", lambda name: name_key(name, "win32"))
    with pytest.raises(UsageError, match="two outputs would be written to one file"):
        predict_files(segmenter, images, folder / "there")


@pytest.mark.parametrize(
    ("name", "portable"),
    [
        *((name, False) for name in ("con", "NUL.png", "com1.txt", "lpt\u00b9", "aux .png", "a.", "a ", "a/b", "a\\b")),
        *(
            (name, False)
            for name in ("a:b", "a*b", "a\nb", "a\x1bb", "", "x" * 256, "\u00e9" * 128, 'a"b', "a<b", "a|b", "a?")
        ),
        *((name, True) for name in ("console", "com10", "a.b", "x" * 255, "\u00e9" * 127, ".a", "nul_1", "lpt")),
    ],
)
def test_names_that_every_system_takes(name: str, portable: bool) -> None:
    assert is_portable(name) is portable


def test_the_command_predicts_and_inspects(folder: Path, capsys) -> None:
    code, out, err = run(["predict", "m.tflite", "in", "--out", "out", "--overlay", "--overlap", "2"], capsys)
    assert (code, err, len(out.splitlines())) == (0, "", 4)
    assert re.fullmatch(r"3 class maps and 3 overlays in out, \d+ ms each", out.splitlines()[-1])
    assert sum_up({"class map": 1, "overlay video": 0}, 7.4, "x") == "1 class map in x, 7 ms"
    everything = {"class map": 2, "overlay": 1, "overlay video": 1, "file of polygons": 2}
    said = "2 class maps, 1 overlay, 1 overlay video and 2 files of polygons in x, 2 ms each"
    assert sum_up(everything, 1.5, "x") == said
    assert names(folder / "out") == sorted(f"{name}{end}.png" for name in "abc" for end in ("", "_overlay"))
    code, out, err = run(["inspect", "m.tflite"], capsys)
    assert (code, err) == (0, "")
    for part in ("8 x 8 x 1", "class      1  class 1  #800000", "(verified)"):
        assert part in out


FAULTS = {
    "no images": (2, ["predict", "m.tflite", "empty", "--out", "o"]),
    "overlap": (2, ["predict", "m.tflite", "in", "--out", "o", "--overlap", "8"]),
    "exists": (2, ["predict", "m.tflite", "in", "--out", "in"]),
    "bad image": (3, ["predict", "m.tflite", "bad.png", "--out", "o"]),
    "missing image": (3, ["predict", "m.tflite", "nothing.png", "--out", "o"]),
    "damaged": (4, ["predict", "damaged.tflite", "in", "--out", "o"]),
    "no card": (4, ["inspect", "bare.tflite"]),
    "not a model": (4, ["inspect", "bad.png"]),
    "missing model": (5, ["inspect", "nothing.tflite"]),
    "a file for the folder": (5, ["predict", "m.tflite", "in", "--out", "bad.png"]),
    "no folder for the status": (5, ["predict", "m.tflite", "in", "--out", "o", "--json", "bad.png/s.json"]),
}


@pytest.mark.parametrize(("code", "arguments"), FAULTS.values(), ids=FAULTS)
def test_faults_take_one_line_and_their_exit_code(folder: Path, capsys, code: int, arguments: list[str]) -> None:
    (folder / "empty").mkdir()
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "damaged.tflite").write_bytes((folder / "m.tflite").read_bytes()[:-1] + b"\x07")
    (folder / "bare.tflite").write_bytes(make_identity(None, (1, 8, 8, 1)))
    found, _, err = run(arguments, capsys)
    assert (found, err.count("\n"), err[:7]) == (code, 1, "error: ")
    with pytest.raises(Exception, match="."):
        main([*arguments, "--debug"])


@pytest.mark.parametrize(
    "arguments", [[], ["guess"], ["predict", "m.tflite"], ["predict", "m", "a", "--out", "o", "--x"]]
)
def test_a_wrong_command_exits_with_2(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_an_error_of_the_system_outside_of_the_files_is_named(folder: Path, capsys, monkeypatch) -> None:
    def fail(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied", "m.tflite")

    monkeypatch.setattr("unetres_edge.files.read_bytes", fail)
    assert run(["inspect", "m.tflite"], capsys)[::2] == (5, "error: system: m.tflite: Permission denied\n")


def test_an_error_survives_a_process_boundary() -> None:
    error = ImageError("a\nb", file=Path("c"), expected=1, found=[2], fix="d")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (ImageError, "image: c: a b; expected 1; found [2]; fix: d")


def test_the_import_is_light() -> None:
    code = "import sys, unetres_edge; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "unetres_edge" in loaded
    assert loaded.isdisjoint({"tensorflow", "keras", "ai_edge_litert", "tf_keras", "keras_unetres"})


def test_outlines_and_overlay() -> None:
    class_map = np.zeros((5, 6), np.uint8)
    class_map[1:4, 1:5] = 1
    edge = draw.outlines(class_map)
    expected = class_map.astype(bool)
    expected[2, 2:4] = False
    np.testing.assert_array_equal(edge, expected)
    image = np.full((5, 6, 3), 100, np.uint8)
    mixed = draw.overlay(image, class_map, ((0, 0, 0), (200, 0, 0)), opacity=0.5)
    assert mixed[0, 0].tolist() == [100, 100, 100]
    assert mixed[2, 2].tolist() == [150, 50, 50]
    assert mixed[1, 1].tolist() == [200, 64, 64]
    np.testing.assert_array_equal(draw.overlay(image[..., 0], class_map, ((0, 0, 0), (200, 0, 0)), opacity=0.5), mixed)
    assert draw.colorize(np.array([[0, 1, 255]], np.uint8), ((1, 2, 3), (4, 5, 6)))[0].tolist() == [
        [1, 2, 3],
        [4, 5, 6],
        [128, 128, 128],
    ]


def test_geojson_beside_each_class_map(tmp_path) -> None:
    class_map = np.zeros((16, 24), np.uint8)
    class_map[2:9, 3:20] = 1
    class_map[4, 5:8] = 0
    Image.fromarray(class_map * 255).save(tmp_path / "a.png")
    weights, bias = np.array([[0.0], [1.0]]), np.array([100.0, 0.0])
    (tmp_path / "m.tflite").write_bytes(make_conv(make_card((16, 24)), weights, bias))
    arguments = [str(tmp_path / "m.tflite"), str(tmp_path / "a.png"), "--out", str(tmp_path / "o"), "--geojson"]
    assert main(["predict", *arguments]) == 0
    (feature,) = json.loads((tmp_path / "o" / "a.geojson").read_text())["features"]
    outer, hole = feature["geometry"]["coordinates"]
    assert outer == [[3, 2], [20, 2], [20, 9], [3, 9], [3, 2]]
    assert sorted(hole[:-1]) == [[5, 4], [5, 5], [8, 4], [8, 5]]


def test_folders_are_entered_and_outputs_mirror_them(folder: Path, segmenter: Segmenter) -> None:
    for place in ("in/p1/left", "in/p2", "in/.cache"):
        (folder / place).mkdir(parents=True)
        (folder / place / "a.png").write_bytes((folder / "in" / "a.png").read_bytes())
    inputs = find_inputs(["in"])
    assert list(inputs.names) == ["a", "b", "c", "p1/left/a", "p2/a"]
    predict_files(segmenter, inputs.images, "out", overlay=True, geojson=True, names=inputs.names)
    made = sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*.png"))
    assert made == sorted(f"{name}{end}.png" for name in inputs.names for end in ("", "_overlay"))
    np.testing.assert_array_equal(stored(Path("out/p1/left/a.png")), stored(Path("out/a.png")))
    with pytest.raises(ExistsError, match="15 of 15 output files exist"):
        predict_files(segmenter, inputs.images, "out", overlay=True, geojson=True, names=inputs.names)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("in/**/a.png", ["a", "p1/left/a", "p2/a"]),
        ("in/p*/**/*.png", ["p1/left/a", "p2/a"]),
        ("./in/p[2]/a.png", ["p2/a"]),
        ("in/p2/*.png", ["a"]),
        ("*/p2/a.png", ["in/p2/a"]),
    ],
)
def test_outputs_mirror_the_folders_that_a_pattern_enters(folder: Path, pattern: str, names: list[str]) -> None:
    for place in ("in/p1/left", "in/p2"):
        (folder / place).mkdir(parents=True)
        (folder / place / "a.png").write_bytes((folder / "in" / "a.png").read_bytes())
    assert list(find_inputs([pattern]).names) == names
    assert list(find_inputs([str(folder / pattern)]).names) == names


def test_lines_name_images_by_their_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "in" / "p1" / "left").mkdir(parents=True)
    (folder / "in" / "p1" / "left" / "a.png").write_bytes((folder / "in" / "a.png").read_bytes())
    (folder / "m.tflite").write_bytes(make_conv(make_card((16, 24)), np.array([[0], [1]]), np.array([9, 0])))
    assert main(["predict", "m.tflite", "in/a.png", "in/p1", "--out", "out"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:2]] == ["a.png", os.path.join("left", "a.png")]


@pytest.mark.skipif(os.name != "posix", reason="links and pipes as Linux and macOS have them")
def test_a_link_that_leads_nowhere_and_a_pipe_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "in" / "gone.png").symlink_to("nowhere.png")
    (folder / "m.tflite").write_bytes(make_conv(make_card((16, 24)), np.array([[0], [1]]), np.array([9, 0])))
    assert main(["predict", "m.tflite", "in", "--out", "out"]) == 3
    assert "gone.png: no such image" in capsys.readouterr().err
    assert len(list(Path("out").glob("*.png"))) == 3  # the others are done
    for name in ("pipe.png", "pipe"):
        os.mkfifo(folder / "in" / name)
    assert main(["predict", "m.tflite", "in/*.png", "--out", "other"]) == 3
    told = capsys.readouterr()
    assert "2 of 5 images could not be segmented; fix: the lines above say why" in told.err
    assert "[4/5] failed  image: in/gone.png: no such image" in told.out and "3 class maps in other" in told.out


@pytest.mark.skipif(os.name != "posix", reason="links as Linux and macOS have them")
def test_links_that_lead_to_themselves_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "in" / "loop.png").symlink_to("loop.png")
    (folder / "m.tflite").write_bytes(make_conv(make_card((16, 24)), np.array([[0], [1]]), np.array([9, 0])))
    (folder / "out").mkdir()
    (folder / "out" / "a.png").symlink_to("a.png")
    assert main(["predict", "m.tflite", "in", "--out", "out", "--overwrite"]) == 3
    assert "loop.png: no such image" in capsys.readouterr().err
    assert len([path for path in Path("out").glob("*.png") if path.is_file()]) == 3  # the others are done


def test_names_that_are_one_file_there_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "in" / "deep").mkdir()
    (folder / "in" / "deep" / "A.png").write_bytes((folder / "in" / "a.png").read_bytes())
    assert len(find_inputs(["in/a.png", "in/deep/A.png"]).images) == 2
    monkeypatch.setattr("unetres_edge.segment.inputs.name_key", lambda name: name_key(name, "darwin"))
    with pytest.raises(UsageError, match="two images would be written to one file"):
        find_inputs(["in/a.png", "in/deep/A.png"])


def test_what_is_not_read_is_said_by_its_ending(folder: Path) -> None:
    (folder / "in" / "deep").mkdir()
    for name in ("x.HEIC", "deep/y.heic", "z.npy", "deep/v.nii.gz", "notes.txt", "Thumbs.db", "a.json", "cell.0001"):
        (folder / "in" / name).write_bytes(b"0")
    (folder / "in" / "unnamed").write_bytes((folder / "in" / "a.png").read_bytes())
    notes = find_inputs(["in"]).notes
    assert [note.split(",")[0] for note in notes] == [
        "1 unnamed file not read",
        "2 .heic files not read",
        "1 .nii file not read",
        "1 .npy file not read",
    ]
    assert [note.split(",")[0] for note in find_inputs(["in/*.*"]).notes] == [
        "1 .heic file not read",
        "1 .npy file not read",
    ]
    (folder / "other").mkdir()
    (folder / "other" / "k.jp2").touch()
    with pytest.raises(UsageError, match=r"no image found.*found 1 \.jp2 file not read.*convert them to PNG or TIFF"):
        find_inputs(["other"])


class Sums:
    """Writes the sum of each class map."""

    def names(self, stem: str) -> list[str]:
        return [f"{stem}_sum.txt"]

    def make(self, stem: str, image: np.ndarray, result: Result) -> tuple[dict[str, bytes], dict[str, int]]:
        assert image.shape == (*result.class_map.shape, 3)
        assert result.scores is not None
        return {f"{stem}_sum.txt": str(result.class_map.sum()).encode()}, {}


def test_more_files_of_a_stack_are_those_of_its_pages(folder: Path, segmenter: Segmenter) -> None:
    pages = np.stack([picture(number) for number in range(3)])
    tifffile.imwrite(folder / "in" / "s.tif", pages, photometric="minisblack")
    inputs = find_inputs(["in/s.tif"])
    predict_files(segmenter, inputs.images, "out", names=inputs.names, more=Sums(), json_file="status.json")
    for number in range(3):
        expected = read_mask(Path("out/s.tif"), number).sum()
        assert Path(f"out/s/{number:04d}_sum.txt").read_text() == str(expected)
    said = json.loads(Path("status.json").read_text())["images"][0]["files"]
    assert [Path(file).name for file in said] == [f"{number:04d}_sum.txt" for number in range(3)]
    with pytest.raises(ExistsError):
        predict_files(segmenter, inputs.images, "out", names=inputs.names, more=Sums())


def test_a_stack_gives_a_stack_of_class_maps(folder: Path, segmenter: Segmenter) -> None:
    pages = np.stack([picture(number) for number in range(3)])
    tifffile.imwrite(folder / "in" / "s.tif", pages, photometric="minisblack")
    inputs = find_inputs(["in"])
    written = predict_files(segmenter, inputs.images, "out", overlay=True, geojson=True, names=inputs.names)
    assert [path.name for path in written] == ["a.png", "b.png", "c.png", "s.tif"]
    for number in range(3):
        found = read_mask(Path("out/s.tif"), number)
        np.testing.assert_array_equal(found, picture(number) < 100)
        np.testing.assert_array_equal(found, stored(written[number]))
        drawn = read_image(Path("out/s_overlay.tif"), number)
        np.testing.assert_array_equal(drawn, read_image(Path(f"out/{'abc'[number]}_overlay.png")))
    features = json.loads(Path("out/s.geojson").read_text())["features"]
    assert {each["properties"]["page"] for each in features} == {0, 1, 2}
    with tifffile.TiffWriter(folder / "in" / "t.tif") as file:
        file.write(pages[0], photometric="minisblack", contiguous=False)
        file.write(pages[1][:5], photometric="minisblack", contiguous=False)
    with pytest.raises(ImageError, match="pages of a stack differ in size"):
        predict_files(segmenter, [folder / "in" / "t.tif"], "out2")
