"""Folders of class folders: what is found, how it is parted, how images are read, and every fault by name."""

from __future__ import annotations

import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.utils.class_weight import compute_class_weight

from keras_unetres.cli import main
from keras_unetres.data import (
    Dataset,
    Reading,
    class_folders_from_arrays,
    dataset_from_arrays,
    open_dataset,
    read_records,
)
from keras_unetres.data.copies import find_copies
from keras_unetres.data.dataset import is_class_folders
from keras_unetres.data.records import Records, fingerprint
from keras_unetres.data.samples import Samples
from keras_unetres.data.weighting import Weighting
from keras_unetres.doctor.check import check as look_over
from unetres_edge import Preprocessing
from unetres_edge.errors import DataError, UsageError
from unetres_edge.images.decode import read_image

RNG = np.random.default_rng(0)


def save(path: Path, values: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = RNG.integers(0, 256, (6, 7, 3), np.uint8) if values is None else values
    Image.fromarray(values).save(path)
    return path


def make(root: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        for number in range(count):
            save(root / name / f"{number}.png")
    return root


def open_class_folders(path: object, reading: Reading | None = None, changes: object = None) -> Dataset:
    return open_dataset(path, reading, changes, task="classify")  # type: ignore[arg-type]


def read(dataset: Dataset, scaled: Preprocessing | None = None) -> dict[str, Records]:
    return read_records(dataset, list(dataset.splits), scaled=scaled, progress=False)


def digest(dataset: Dataset) -> str:
    return fingerprint(dataset, read(dataset)["train"].classes)


def names(dataset: Dataset, part: str = "all") -> list[str]:
    return sorted(image.name for image in dataset.split(part))


def test_folders_are_classes_in_order_of_name(tmp_path: Path) -> None:
    make(tmp_path, {"dog": 4, "cat": 4, "Zebra": 4})
    save(tmp_path / "cat" / "kittens" / "young" / "x.jpg")
    save(tmp_path / "cat" / ".hidden" / "y.png")
    save(tmp_path / ".thumbs" / "z.png")
    (tmp_path / "cat" / ".DS_Store").write_text("")
    (tmp_path / "cat" / "notes.txt").write_text("")
    found = open_class_folders(tmp_path)
    assert found.class_names == ("Zebra", "cat", "dog")
    expected = {f"{name}/{n}.png" for name in found.class_names for n in range(4)} | {"cat/kittens/young/x.jpg"}
    assert set(names(found)) == expected
    for image in found.split("all"):
        assert found.class_names[image.class_id] == image.name.partition("/")[0]


def test_a_list_fixes_the_order(tmp_path: Path) -> None:
    make(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "classes.txt").write_text("b\n\na\n")
    assert open_class_folders(tmp_path).class_names == ("b", "a")
    (tmp_path / "classes.txt").write_text("b\n")
    with pytest.raises(DataError, match="classes.txt.*'a'.*add the line 'a'"):
        open_class_folders(tmp_path)
    (tmp_path / "classes.txt").write_text("b\na\nc\n")
    with pytest.raises(DataError, match="c: a class without an image"):
        open_class_folders(tmp_path)


def test_folders_above_are_parts(tmp_path: Path) -> None:
    for part, counts in (("training", {"a": 2, "b": 3}), ("Val", {"a": 1, "b": 1}), ("test", {"b": 2})):
        make(tmp_path / part, counts)
    found = open_class_folders(tmp_path)
    assert {part: len(images) for part, images in found.splits.items()} == {"train": 5, "val": 2, "test": 2}
    assert [fault.kind for fault in found.warnings] == ["absent-class"]
    assert [image.class_id for image in found.split("test")] == [1, 1]
    with pytest.raises(UsageError, match="has split folders"):
        open_class_folders(tmp_path, changes={"val_from": "*"})


def test_a_train_folder_alone_gives_the_validation_part(tmp_path: Path) -> None:
    make(tmp_path / "train", {"a": 10, "b": 20})
    make(tmp_path / "test", {"a": 1, "b": 1})
    found = open_class_folders(tmp_path)
    assert Counter(image.class_id for image in found.split("val")) == {0: 2, 1: 3}
    assert len(found.split("test")) == 2


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    make(tmp_path, {"train": 3, "bus": 3, "car": 3})
    assert open_class_folders(tmp_path).class_names == ("bus", "car", "train")


def test_classes_and_parts_side_by_side_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "train", {"steam": 3, "diesel": 3})
    make(tmp_path, {"bus": 3})
    with pytest.raises(DataError, match="not clear whether the folders are classes or parts.*bus, train"):
        open_class_folders(tmp_path)
    assert not is_class_folders(tmp_path)


@given(st.lists(st.integers(1, 60), min_size=2, max_size=5), st.integers(0, 3))
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_every_class_is_parted_alike(counts: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.zeros((len(labels), 2, 2), np.uint8)
    if max(counts) < 2:
        with pytest.raises(DataError, match="left for validation"):
            class_folders_from_arrays(images, labels, reading=Reading(seed=seed))
        return
    found = class_folders_from_arrays(images, labels, reading=Reading(seed=seed))
    assert names(found) == [f"{i:05d}" for i in range(len(labels))]
    by_part = {part: Counter(image.class_id for image in of) for part, of in found.splits.items()}
    for label, count in enumerate(counts):
        share = round(0.15 * count)
        test = max(share, 1) if count > 2 else 0
        val = max(share, 1) if count > 1 else 0
        assert by_part.get("test", {}).get(label, 0) == test
        assert by_part["val"][label] == val
        assert by_part["train"][label] == count - test - val


def test_parts_hang_on_the_seed_and_on_nothing_else(tmp_path: Path) -> None:
    make(tmp_path, {"a": 20, "b": 20})
    first = open_class_folders(tmp_path)
    assert open_class_folders(tmp_path) == first
    assert names(open_class_folders(tmp_path, Reading(seed=1)), "val") != names(first, "val")
    for number in range(9):
        save(tmp_path / "b" / f"more{number}.png")
    later = open_class_folders(tmp_path)
    for part in ("train", "val", "test"):
        of_a = [name for name in names(first, part) if name.startswith("a/")]
        assert [name for name in names(later, part) if name.startswith("a/")] == of_a


def test_globs_make_parts(tmp_path: Path) -> None:
    make(tmp_path, {"a": 10, "b": 10})
    found = open_class_folders(tmp_path, changes={"val_from": "a/[01].png", "test_from": "9"})
    assert names(found, "val") == ["a/0.png", "a/1.png"]
    assert names(found, "test") == ["a/9.png", "b/9.png"]
    assert len(found.split("train")) == 16
    assert "test" not in open_class_folders(tmp_path, changes={"test_from": "none"}).splits
    with pytest.raises(UsageError, match="no image name matches"):
        open_class_folders(tmp_path, changes={"val_from": "c/*"})
    with pytest.raises(UsageError, match="in the validation and the test part"):
        open_class_folders(tmp_path, changes={"val_from": "a/0.png", "test_from": "a/*"})


def test_all_faults_are_in_one_error(tmp_path: Path) -> None:
    make(tmp_path, {"a": 3, "b": 3, "empty": 0, "A": 3})
    (tmp_path / "empty").mkdir()
    save(tmp_path / "stray.png")
    with pytest.raises(DataError) as error:
        open_class_folders(tmp_path)
    for part in ("empty: a class without", "stray.png: an image that lies in no class", "classes A and a"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("counts", "what"), [({}, "no images"), ({"a": 3}, "two classes or more"), ({"a": 1, "b": 1}, "for validation")]
)
def test_too_little_is_refused(tmp_path: Path, counts: dict[str, int], what: str) -> None:
    with pytest.raises(DataError, match=what):
        open_class_folders(make(tmp_path, counts))
    with pytest.raises(DataError, match="no such data set"):
        open_class_folders(tmp_path / "nothing")


def test_odd_names(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Ä rösti") for form in ("NFC", "NFD"))
    make(tmp_path / "train", {composed: 4, "[b] 100 %": 4, "c\nd": 4})
    make(tmp_path / "val", {apart: 2, "[b] 100 %": 2, "c\nd": 2})
    save(tmp_path / "train" / "[b] 100 %" / os.fsdecode(b"\xff\xfe.png"))
    found = open_class_folders(tmp_path)
    assert found.class_names == ("[b] 100 %", "c\nd", composed)
    assert Counter(image.class_id for image in found.split("val")) == {0: 2, 1: 2, 2: 2}
    assert len(read(found)["train"]) == 13
    json.dumps(found.class_names)
    assert len(digest(found)) == 64


def test_the_fingerprint_knows_bytes_labels_and_parts(tmp_path: Path) -> None:
    root = make(tmp_path / "data", {"a": 4, "b": 4})
    seen = [digest(open_class_folders(root))]
    seen.append(digest(open_class_folders(root, Reading(seed=5))))
    (root / "a" / "0.png").rename(root / "b" / "10.png")
    seen.append(digest(open_class_folders(root)))
    save(root / "a" / "1.png")
    seen.append(digest(open_class_folders(root)))
    assert len(set(seen)) == 4
    assert digest(open_class_folders(root)) == seen[-1]


FORMS = [
    Preprocessing(channels=3, fit="resize", size=(8, 5)),
    Preprocessing(channels=3, fit="letterbox", size=(8, 9), color_order="bgr", mean=(1, 2, 3), std=(4.0,)),
    Preprocessing(channels=3, fit="resize", size=(4, 4), per_image=(2, 98)),
    Preprocessing(channels=1, fit="letterbox", size=(16, 12)),
]


def tricky(root: Path) -> Path:
    """Grey, colour, 16 bits, turned by EXIF, an opaque alpha, a palette, a grey picture stored in colour."""
    save(root / "a" / "grey.png", RNG.integers(0, 256, (9, 6), np.uint8))
    save(root / "a" / "colour.png")
    save(root / "a" / "deep.png", RNG.integers(0, 65536, (5, 5), np.uint16))
    turned = Image.fromarray(RNG.integers(0, 256, (6, 10, 3), np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(root / "a" / "turned.png", exif=exif)
    save(
        root / "b" / "alpha.png", np.dstack([RNG.integers(0, 256, (5, 6, 3), np.uint8), np.full((5, 6), 255, np.uint8)])
    )
    Image.fromarray(RNG.integers(0, 256, (6, 6, 3), np.uint8)).quantize(8).save(root / "b" / "palette.png")
    save(root / "b" / "same.png", np.repeat(RNG.integers(0, 256, (7, 7, 1), np.uint8), 3, 2))
    save(root / "b" / "wide.png", RNG.integers(0, 256, (3, 30, 3), np.uint8))
    return root


@pytest.mark.parametrize("pre", FORMS, ids=lambda pre: f"{pre.channels}-{pre.fit}")
@pytest.mark.parametrize("memory", [1 << 30, 0])
def test_images_are_what_the_device_makes_of_the_file(
    tmp_path: Path, pre: Preprocessing, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keras_unetres.data.records._MEMORY", memory)
    dataset = open_class_folders(tricky(tmp_path))
    asked = Preprocessing(channels=pre.channels, fit=pre.fit, size=pre.size, per_image=pre.per_image)
    records = read(dataset, asked)
    for part in dataset.splits:
        images = Samples(records[part], pre)
        assert set(records[part].in_memory) == {memory > 0}
        for index, sample in enumerate(dataset.split(part)):
            image = images[index].image
            stored = read_image(sample.image.file)
            expected = pre.place(*stored.shape[:2]).image(pre.prepare(stored))
            np.testing.assert_array_equal(image, expected, err_msg=sample.name)


def test_pictures_without_colour_are_known(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / name / "grey.png", RNG.integers(0, 256, (9, 6), np.uint8))
        save(tmp_path / name / "same.png", np.repeat(RNG.integers(0, 256, (7, 7, 1), np.uint8), 3, 2))
    pre = Preprocessing(channels=1, fit="resize", size=(5, 5))
    dataset = open_class_folders(tmp_path)
    records = read(dataset, Preprocessing(channels=3, fit="resize", size=(5, 5)))
    for part in dataset.splits:
        assert records[part].grey
        images = Samples(records[part], pre)
        for index, sample in enumerate(dataset.split(part)):
            stored = read_image(sample.image.file)
            np.testing.assert_array_equal(images[index].image, pre.place(*stored.shape[:2]).image(pre.prepare(stored)))


def test_every_image_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    make(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "a" / "empty.png").write_bytes(b"")
    (tmp_path / "b" / "text.jpg").write_text("no picture")
    save(tmp_path / "b" / "clear.png", np.zeros((4, 4, 4), np.uint8))
    (tmp_path / "a" / "folder.png").mkdir()
    (tmp_path / "a" / "link.png").symlink_to(tmp_path / "nothing")
    with pytest.raises(DataError) as error:
        read(open_class_folders(tmp_path))
    assert "5 of 11 samples" in str(error.value)
    for name in ("a/empty.png", "b/text.jpg", "b/clear.png", "a/folder.png", "a/link.png"):
        assert name in str(error.value)


def test_copies_are_told_apart(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("val", 2)):
        make(tmp_path / part, {"a": count, "b": count})
    original = read_image(tmp_path / "train" / "a" / "0.png")
    save(tmp_path / "val" / "a" / "leak.bmp", original)
    save(tmp_path / "train" / "b" / "contradiction.png", original)
    save(tmp_path / "train" / "a" / "twice.tif", original)
    dataset = open_class_folders(tmp_path)
    copies = find_copies(dataset, {part: records.contents for part, records in read(dataset).items()})
    assert {(fault.kind, fault.file) for fault in copies} == {
        ("leak", "val/a/leak.bmp"),
        ("two-classes", "train/b/contradiction.png"),
        ("duplicate", "train/a/twice.tif"),
    }
    assert all("train/a/0.png" in fault.found for fault in copies)


def test_class_weights_are_those_of_scikit_learn() -> None:
    labels = np.array([0] * 30 + [1] * 20 + [2] * 10)
    dataset = class_folders_from_arrays(RNG.integers(0, 256, (60, 4, 4), np.uint8), labels)
    pre = Preprocessing(channels=1, fit="resize", size=(4, 4))
    images = Samples(read(dataset, pre)["train"], pre, weighting=Weighting(by_class=1.0))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=images.class_ids)
    np.testing.assert_allclose(images.class_weights, expected)


def test_arrays() -> None:
    images = RNG.integers(0, 256, (12, 5, 5, 3), np.uint8)
    labels = np.arange(12) % 3
    parts = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    found = class_folders_from_arrays(images, labels, classes=["x", "y", "z"], splits=parts)
    assert [image.class_id for image in found.split("val")] == [0, 1, 2]
    np.testing.assert_array_equal(found.split("test")[2].image.read(), images[11])
    assert open_class_folders(found, changes={"seed": 9}).splits == found.splits  # its parts are its own
    loose = class_folders_from_arrays(images, labels)
    assert loose.class_names == ("0", "1", "2")
    other = open_class_folders(loose, changes={"seed": 9})
    assert names(other) == names(loose)
    assert other.splits != loose.splits
    with pytest.raises(UsageError, match="has split folders"):
        open_class_folders(found, changes={"val_from": "0000*"})


WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: class_folders_from_arrays(np.zeros((3, 2, 2)), [0, 1]), "differ in number"),
    (lambda: class_folders_from_arrays(np.zeros((2, 2, 2)), [0.5, 1.0]), "labels are wrong"),
    (lambda: class_folders_from_arrays(np.zeros((2, 2, 2)), [-1, 1]), "labels are wrong"),
    (lambda: class_folders_from_arrays(np.zeros((2, 2, 2)), [0, 2], classes=["a", "b"]), "ids below 2"),
    (lambda: class_folders_from_arrays(np.zeros((2, 2, 2)), [0, 0]), "two classes or more"),
    (lambda: class_folders_from_arrays(np.zeros((2, 2, 2)), [0, 1], names=["x", "x"]), "different names"),
    (lambda: class_folders_from_arrays(np.zeros((2, 2, 2)), [0, 1], splits=["train", "dev"]), "splits of train"),
]


@pytest.mark.parametrize(("call", "what"), WRONG)
def test_arrays_that_do_not_fit_are_refused(call: Callable[[], object], what: str) -> None:
    with pytest.raises(DataError, match=what):
        call()


def test_each_kind_of_data_set_is_known(tmp_path: Path, cells: Path) -> None:
    shapes = make(tmp_path / "shapes", {"a": 3, "b": 3})
    parted = make(tmp_path / "parted" / "train", {"a": 3, "b": 3}).parent
    assert is_class_folders(shapes)
    assert is_class_folders(parted)
    masks = dataset_from_arrays(np.zeros((4, 2, 2), np.uint8), np.zeros((4, 2, 2), np.uint8))
    for other in (cells, masks, tmp_path / "nothing", "tfds:mnist", 3):
        assert not is_class_folders(other)
    assert open_dataset(shapes) == open_class_folders(shapes)
    wrapped = make(tmp_path / "wrapped" / "flowers", {"a": 3, "b": 3}).parent
    assert is_class_folders(wrapped)
    assert names(open_class_folders(wrapped)) == names(open_class_folders(shapes))
    assert open_dataset(cells, task="segment").task == "segment"
    for other in (cells, masks, "tfds:mnist"):
        with pytest.raises(UsageError, match="pass --network unet"):
            open_class_folders(other)
    for data in (shapes, parted, open_class_folders(shapes)):
        with pytest.raises(UsageError, match="pass --network resnet50"):
            open_dataset(data, task="segment")


def test_check_reports_on_class_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make(tmp_path / "data", {"a": 4, "b": 7})
    report = tmp_path / "report.json"
    assert main(["check", str(root), "--json", str(report)]) == 0
    shown = capsys.readouterr().out
    assert "2 test (class folders)" in shown
    assert "7 x 6 (11)" in shown
    rows = json.loads(report.read_text())["classes"]
    assert [(row["name"], sum(row["images"].values())) for row in rows] == [("a", 4), ("b", 7)]
    save(root / "a" / "same.png", read_image(root / "b" / "0.png"))
    (root / "b" / "broken.png").write_bytes(b"\x89PNG")
    assert main(["check", str(root), "--json", str(report)]) == 3
    assert {row["kind"] for row in json.loads(report.read_text())["faults"]} == {"two-classes", "not-an-image"}
    for option in (["--fix"], ["--masks", "instances"]):
        assert main(["check", str(root), *option]) == 2


def test_pictures_of_two_values_may_be_a_class(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / "text" / f"{number}.png", RNG.integers(0, 2, (12, 12), np.uint8) * np.uint8(255))
        save(tmp_path / "photo" / f"{number}.png", RNG.integers(0, 256, (12, 12), np.uint8))
    assert look_over(tmp_path, hashes="off", progress=False).faults == []
