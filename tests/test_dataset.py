"""Which files pair up, how they are parted, and what a `dataset.yaml` may say. Pixels play no part here."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from keras_unetres.data import Dataset, Reading, open_dataset
from keras_unetres.data.declaration import Declaration
from keras_unetres.data.forms import FORMATS
from keras_unetres.data.forms.folders import _IMAGE_ENDINGS, _MASK_SUFFIXES
from keras_unetres.data.forms.layout import HEEDED_BY_SOME
from unetres_edge.errors import DataError, UsageError
from unetres_edge.images.decode import IMAGE_SUFFIXES

NAMES = [f"p{index:02}.png" for index in range(20)]

DATASET_PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats" / "dataset.md"


def make_folder(root: Path, images: list[str], masks: list[str] | None = None) -> Path:
    """Write empty files: opening a data set must not read a pixel."""
    for kind, names in (("images", images), ("masks", images if masks is None else masks)):
        (root / kind).mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / kind / name).touch()
    return root


def names_of(dataset: Dataset) -> dict[str, list[str]]:
    return {name: [sample.name for sample in samples] for name, samples in dataset.splits.items()}


@pytest.mark.parametrize("ending", ["", *_MASK_SUFFIXES, "_MASK", "_labelIds"])
def test_a_mask_may_have_an_ending(tmp_path, ending: str) -> None:
    make_folder(tmp_path, [f"{n}.jpg" for n in "abcde"], [f"{n}{ending}.png" for n in "abcde"])
    samples = open_dataset(tmp_path).split("all")
    assert sorted(sample.name for sample in samples) == [f"{n}.jpg" for n in "abcde"]
    assert all(sample.target.file.name == f"{sample.image.file.stem}{ending}.png" for sample in samples)


@pytest.mark.parametrize("image", _IMAGE_ENDINGS)
@pytest.mark.parametrize("mask", ["{0}", "{0}_mask", "{0}{1}", "{0}{1}_mask"])
def test_an_image_may_have_an_ending_too(tmp_path, image: str, mask: str) -> None:
    make_folder(tmp_path, [f"{n}{image}.png" for n in "abc"], [mask.format(n, image) + ".png" for n in "abc"])
    samples = open_dataset(tmp_path).split("all")
    assert {sample.name[0] + sample.target.file.name[0] for sample in samples} == {"aa", "bb", "cc"}


@pytest.mark.parametrize("suffix", [*IMAGE_SUFFIXES, ".PNG", ".Tif"])
def test_every_suffix_is_an_image(tmp_path, suffix: str) -> None:
    make_folder(tmp_path, [f"{n}{suffix}" for n in "abc"])
    assert len(open_dataset(tmp_path).split("all")) == 3


def test_an_image_whose_name_ends_like_a_mask_keeps_its_name(tmp_path) -> None:
    make_folder(tmp_path, ["a.png", "a_l.png", "b.png"], ["a.png", "a_l.png", "b_mask.png"])
    found = {sample.name: sample.target.file.name for sample in open_dataset(tmp_path).split("all")}
    assert found == {"a.png": "a.png", "a_l.png": "a_l.png", "b.png": "b_mask.png"}


def test_other_and_hidden_files_are_passed_over(tmp_path) -> None:
    make_folder(tmp_path, ["a.png", "b.png", "c.png", "Thumbs.db", "._a.png"])
    assert len(open_dataset(tmp_path).split("all")) == 3


def test_files_without_a_partner_are_all_listed(tmp_path) -> None:
    make_folder(tmp_path, ["a.png", "b.png", "c.png"], ["c_mask.png", "d_mask.png", "e.png"])
    with pytest.raises(DataError, match="4 faults") as caught:
        open_dataset(tmp_path)
    for part in (
        "images/a.png: an image without a mask",
        "images/b.png: an image without a mask",
        "masks/d_mask.png: a mask without an image",
        "masks/e.png: a mask without an image",
    ):
        assert part in str(caught.value)
    assert "c.png" not in caught.value.message
    assert "c_mask.png" not in caught.value.message


@pytest.mark.parametrize(
    ("images", "masks", "twins"),
    [
        (["a.png", "a.jpg"], ["a.png"], "a.jpg and a.png"),
        (["a.png", "a_img.png"], ["a.png"], "a.png and a_img.png"),
        (["a.png"], ["a_mask.png", "a_gt.png"], "a_gt.png and a_mask.png"),
        (["a.png"], ["a.png", "a_mask.png"], "a.png and a_mask.png"),
    ],
)
def test_two_files_of_one_name_are_refused(tmp_path, images: list[str], masks: list[str], twins: str) -> None:
    make_folder(tmp_path, images, masks)
    with pytest.raises(DataError, match=twins):
        open_dataset(tmp_path)


def test_what_is_missing_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match="no such data set"):
        open_dataset(tmp_path / "nothing")
    with pytest.raises(DataError, match="no folder images/"):
        open_dataset(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="no folder masks/"):
        open_dataset(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="no images"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("said", "patch"),
    [
        ("masks: mask", {"masks": "masks"}),
        ("masks: instances", {"masks": "masks", "masks_are": "instances"}),  # as the command line says it
        ("images: pictures", {"images": "images"}),
    ],
)
def test_a_declared_folder_that_is_not_there_is_mended_by_a_line(tmp_path, said: str, patch: dict) -> None:
    make_folder(tmp_path, NAMES)
    file = tmp_path / "dataset.yaml"
    file.write_text(said + "\n")
    with pytest.raises(DataError, match=f"there is no folder {said.split()[1]}/") as raised:
        open_dataset(tmp_path)
    assert raised.value.remedy is not None and raised.value.remedy.patch == patch
    file.write_text("".join(f"{key}: {value}\n" for key, value in patch.items()))
    assert open_dataset(tmp_path).reading.masks_are == patch.get("masks_are", "classes")


def test_a_file_is_no_data_set_though_one_lies_beside_it(tmp_path) -> None:
    make_folder(tmp_path, NAMES)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="no such data set"):
        open_dataset(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="cannot read"):
        open_dataset(tmp_path / "missing.yaml")


def test_seeded_parts_are_the_same_each_time_disjoint_and_complete(tmp_path) -> None:
    make_folder(tmp_path, NAMES)
    parts = names_of(open_dataset(tmp_path))
    assert {name: len(part) for name, part in parts.items()} == {"train": 14, "val": 3, "test": 3}
    assert sorted(sum(parts.values(), [])) == NAMES
    assert all(part == sorted(part) for part in parts.values())
    assert names_of(open_dataset(tmp_path)) == parts
    assert names_of(open_dataset(tmp_path, changes={"seed": 0})) == parts
    assert names_of(open_dataset(tmp_path, changes={"seed": 1})) != parts


def test_seeded_parts_depend_on_names_alone(tmp_path) -> None:
    here, there = make_folder(tmp_path / "a", NAMES), make_folder(tmp_path / "b", NAMES[::-1])
    assert names_of(open_dataset(here)) == names_of(open_dataset(there))


def test_a_name_that_is_no_text_is_parted(tmp_path) -> None:
    try:
        make_folder(tmp_path, [*NAMES, os.fsdecode(b"\xff.png")])
    except OSError:
        pytest.skip("the file system takes no names that are not UTF-8")
    assert len(open_dataset(tmp_path).split("all")) == 21


def test_globs_make_the_parts(tmp_path) -> None:
    make_folder(tmp_path, NAMES)
    parts = names_of(open_dataset(tmp_path, changes={"val_from": "p0[0-3]*", "test_from": "p1?"}))
    assert parts == {"train": NAMES[4:10], "val": NAMES[:4], "test": NAMES[10:]}
    parts = names_of(open_dataset(tmp_path, Reading(val_from="p00.png", test_from="none")))
    assert parts == {"train": NAMES[1:], "val": NAMES[:1]}
    parts = names_of(open_dataset(tmp_path, changes={"test_from": "p00"}))
    assert (len(parts["train"]), len(parts["val"]), parts["test"]) == (16, 3, NAMES[:1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"val_from": "q*"}, "no image name matches"),
        ({"test_from": "P*"}, "no image name matches"),
        ({"val_from": "p0*", "test_from": "p*0.png"}, "both|validation and the test part: p00.png"),
        ({"masks_are": "colours"}, "classes or instances"),
        ({"ignore": "255"}, "ignored mask value"),
        ({"ignore": 70000}, "ignored mask value"),
        ({"val_from": 3}, "val_from is wrong"),
        ({"val_from": "[" * 50_000}, "val_from is wrong; expected a glob .* of at most 1000 characters"),
    ],
)
def test_wrong_readings_are_refused(tmp_path, changes: dict, said: str) -> None:
    make_folder(tmp_path, NAMES)
    with pytest.raises(UsageError, match=said):
        open_dataset(tmp_path, changes=changes)


@pytest.mark.parametrize(("count", "sizes"), [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (4, (2, 1, 1))])
def test_so_few_images_that_parts_are_left_out(tmp_path, count: int, sizes: tuple[int, ...]) -> None:
    make_folder(tmp_path, NAMES[:count])
    parts = names_of(open_dataset(tmp_path))
    assert tuple(len(parts.get(part, [])) for part in ("train", "val", "test")) == sizes
    assert sorted(sum(parts.values(), [])) == NAMES[:count]


def test_two_images_without_a_test_part(tmp_path) -> None:
    make_folder(tmp_path, NAMES[:2])
    parts = names_of(open_dataset(tmp_path, changes={"test_from": "none"}))
    assert {name: len(part) for name, part in parts.items()} == {"train": 1, "val": 1}


def test_globs_that_leave_nothing_to_train_on(tmp_path) -> None:
    make_folder(tmp_path, NAMES[:2])
    with pytest.raises(DataError, match="no images are left to train on.*2 images, 1 for validation, 1 for the test"):
        open_dataset(tmp_path, changes={"val_from": "p00*", "test_from": "p01*"})


def test_given_folders_are_the_parts(tmp_path) -> None:
    for part, names in (("train", NAMES[:5]), ("val", NAMES[5:7]), ("test", NAMES[7:8])):
        make_folder(tmp_path / part, names)
    dataset = open_dataset(tmp_path)
    assert names_of(dataset) == {"train": NAMES[:5], "val": NAMES[5:7], "test": NAMES[7:8]}
    assert [sample.name for sample in dataset.split("all")] == NAMES[:8]
    with pytest.raises(DataError, match="no other part.*train, val, test, all"):
        dataset.split("other")


def test_parts_that_a_form_does_not_take_are_refused(tmp_path) -> None:
    make_folder(tmp_path, ["a.png", "b.png", "c.png"])
    (tmp_path / "images").rename(tmp_path / "JPEGImages")
    (tmp_path / "masks").rename(tmp_path / "SegmentationClass")
    assert open_dataset(tmp_path).format == "voc"
    (tmp_path / "dataset.yaml").write_text("splits: {train: fit.txt, val: held.txt}\n")
    with pytest.raises(DataError, match="splits are declared .*expected splits of coco, .*found format voc; fix: "):
        open_dataset(tmp_path)


def test_the_guide_says_which_forms_take_parts() -> None:
    (row,) = re.findall(r"^\| `splits` \| .* part; of (.*), refused", DATASET_PAGE.read_text(), re.MULTILINE)
    assert set(re.findall(r"`([^`]+)`", row)) == {name for name, known in FORMATS.items() if "splits" in known.takes}


@pytest.mark.parametrize(
    ("name", "key"),
    [(n, k) for n, known in FORMATS.items() for k in HEEDED_BY_SOME if k not in known.takes and n != "tfds"],
)
def test_what_a_form_does_not_heed_is_refused(name: str, key: str, tmp_path) -> None:
    value = {"splits": "{train: a}", "crowds": "objects", "runs": "columns"}.get(key, "elsewhere")
    (tmp_path / "dataset.yaml").write_text(f"format: {name}\n{key}: {value}\n")
    with pytest.raises(DataError, match=f"{key} are declared for a format .*found format {name}; fix: "):
        open_dataset(tmp_path)
    if key in ("images", "masks"):  # what is usual says nothing
        (tmp_path / "dataset.yaml").write_text(f"format: {name}\n{key}: {key}\n")
        with pytest.raises(DataError, match="^(?!.*declared for a format)"):
            open_dataset(tmp_path)


def test_images_in_a_folder_that_is_no_part_are_not_passed_over_in_silence(tmp_path) -> None:
    for part in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / kind / part).mkdir(parents=True)
            (tmp_path / kind / part / "a.png").touch()
    assert not any("passed over" in note for note in open_dataset(tmp_path).notes)
    (tmp_path / "images" / "extra").mkdir()
    (tmp_path / "images" / "extra" / "b.png").touch()
    (note,) = (note for note in open_dataset(tmp_path).notes if "passed over" in note)
    assert "images/extra/" in note


def test_a_validation_part_alone_is_not_enough(tmp_path) -> None:
    make_folder(tmp_path / "val", NAMES)
    with pytest.raises(DataError, match="no train part"):
        open_dataset(tmp_path)


def test_a_part_that_was_not_made_is_missed_by_name(tmp_path) -> None:
    make_folder(tmp_path, NAMES)
    dataset = open_dataset(tmp_path, changes={"test_from": "none"})
    with pytest.raises(DataError, match="no test part.*train, val, all"):
        dataset.split("test")


def test_a_description_says_it_all(tmp_path) -> None:
    make_folder(tmp_path / "base" / "fit", ["a.png"])
    for old, new in (("images", "pictures"), ("masks", "labels")):
        (tmp_path / "base" / "fit" / old).rename(tmp_path / "base" / "fit" / new)
    file = tmp_path / "cells.yaml"
    file.write_text(
        "path: base\nsplits: {train: fit, val: fit}\nimages: pictures\nmasks: labels\nclasses: [one, two]\n"
        "colors: [[0, 0, 0], [220, 60, 255]]\nignore: 7\nmasks_are: instances\nval_from: 'x*'\ntest_from: none\n"
    )
    dataset = open_dataset(file)
    assert names_of(dataset) == {"train": ["a.png"], "val": ["a.png"]}
    assert dataset.splits["train"][0].target.file == tmp_path / "base" / "fit" / "labels" / "a.png"
    assert (dataset.class_names, dataset.class_colors) == (("one", "two"), ((0, 0, 0), (220, 60, 255)))
    assert dataset.reading == Reading("instances", 7, "x*", "none", 0)
    assert open_dataset(file, changes={"ignore": 9, "seed": None}).reading == Reading("instances", 9, "x*", "none", 0)
    assert open_dataset(file, Reading(ignore=3)).reading == Reading(ignore=3)


def test_a_description_in_the_folder_is_found(tmp_path) -> None:
    make_folder(tmp_path, NAMES)
    (tmp_path / "dataset.yaml").write_text("val_from: 'p00*'\ntest_from: null\nclasses: {1: b, 0: a}\n")
    dataset = open_dataset(tmp_path)
    assert dataset.root == tmp_path / "dataset.yaml"
    assert names_of(dataset) == {"train": NAMES[1:], "val": NAMES[:1]}
    assert dataset.class_names == ("a", "b")
    (tmp_path / "dataset.yaml").write_text("{}")
    assert len(open_dataset(tmp_path).split("all")) == 20


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class: [a, b]", "unknown keys.*found class"),
        ("- a", "not a data set description"),
        (": : :", "cannot read"),
        ("path: 3", "path is wrong"),
        ("splits: [train]", "splits is wrong"),
        ("splits: {train: 3}", "splits is wrong"),
        ("splits: {train: ., valid: .}", "splits is wrong.*valid"),
        ("images: 3", "images is wrong"),
        ("masks: [m]", "masks is wrong"),
        ("classes: background", "classes is wrong"),
        ("classes: [one]", "2 to 255 different names"),
        ("classes: [one, one]", "2 to 255 different names"),
        ("classes: {0: a, 2: b}", "not contiguous"),
        ("classes: {0: a, x: b}", "not contiguous"),
        ("classes: [a, b]\ncolors: 3", "colors is wrong"),
        ("classes: [a, b]\ncolors: [[1, 2, 3]]", "differ in number"),
        ("classes: [a, b]\ncolors: [[1, 2], [3, 4]]", "colours are wrong"),
        ("classes: [a, b]\ncolors: [[1, 2, 3], [3, 4, 256]]", "colours are wrong"),
        ("classes: [a, b]\ncolors: [[1, 2, 3], [3, 4, x]]", "colours are wrong"),
        ("classes: [a, b]\ncolors: [[1, 2, 3], [3, 4, .inf]]", "colours are wrong"),
        ("classes: [a, b]\ncolors: [[1, 2, 3], [3, 4, true]]", "colours are wrong"),
        ("colors: [[1, 2, 3], [3, 4, 5]]", "no classes"),
        ("classes: [a, b]\nclasses: [c, d]", "key classes stands twice"),
        ("classes: {0: a, 1: b, 0x0: c}", "key 0 stands twice"),
        ("classes: ['', b]", "class names are wrong.*found ''"),
        ('classes: ["a\\nb", c]', "class names are wrong.*on a line"),
        ('classes: ["\\e[2J", c]', "class names are wrong"),
        ('classes: ["a\\u202eb", c]', "class names are wrong"),
        ("classes: [~, b]", "classes is wrong"),
        ("classes: &a [*a, b]", "aliases repeat too much"),
    ],
    ids=lambda text: text[:40],
)
def test_a_wrong_description_is_refused(tmp_path, text: str, said: str) -> None:
    make_folder(tmp_path, NAMES)
    (tmp_path / "dataset.yaml").write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        open_dataset(tmp_path)
    assert caught.value.file == str(tmp_path / "dataset.yaml")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("classes: [no, yes]", ("no", "yes")),
        ("classes: {0: off, 1: 1:30}", ("off", "1:30")),
        ("classes: [007, 1.50]", ("007", "1.50")),
        ("classes: [2001-01-01, null island]", ("2001-01-01", "null island")),
        ("base: &all {classes: [a, b]}\n<<: *all\nclasses: [c, d]", None),
        ("classes: [\u0643\u200f, \u7ec6\u80de]", ("\u0643\u200f", "\u7ec6\u80de")),
    ],
    ids=lambda text: str(text)[:30],
)
def test_names_of_a_description_are_what_is_written(tmp_path, text: str, names: tuple[str, ...] | None) -> None:
    make_folder(tmp_path, NAMES)
    (tmp_path / "dataset.yaml").write_text(text, encoding="utf-8")
    if names is None:  # what is merged may be overridden, but `base` is no key
        with pytest.raises(DataError, match="unknown keys"):
            open_dataset(tmp_path)
        return
    assert open_dataset(tmp_path).class_names == names


def test_a_pattern_nested_too_deep_is_named(tmp_path) -> None:
    make_folder(tmp_path, NAMES)
    (tmp_path / "dataset.yaml").write_text("group_by: '" + "(" * 3000 + "'")
    with pytest.raises(UsageError, match="group_by is wrong"):
        open_dataset(tmp_path)


def test_a_list_of_names_is_read_to_a_limit(tmp_path, monkeypatch) -> None:
    make_folder(tmp_path, NAMES)
    monkeypatch.setattr("keras_unetres.data.declaration._MOST_BYTES", 100)
    (tmp_path / "classes.txt").write_text("a\nb\n" + " " * 200)
    with pytest.raises(DataError, match=r"classes\.txt: the file is too large"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_classes_are_listed_one_a_line(tmp_path, encoding: str) -> None:
    make_folder(tmp_path, NAMES)
    assert open_dataset(tmp_path).class_names is None
    (tmp_path / "classes.txt").write_bytes("Untergrund\r\n\r\n  Zellwände \n".encode(encoding))
    assert open_dataset(tmp_path).class_names == ("Untergrund", "Zellwände")
    (tmp_path / "dataset.yaml").write_text("colors: [[1, 2, 3], [3, 4, 5]]")
    assert open_dataset(tmp_path).class_colors == ((1, 2, 3), (3, 4, 5))


def test_a_list_of_classes_that_is_not_utf8_is_refused(tmp_path) -> None:
    make_folder(tmp_path, NAMES)
    (tmp_path / "classes.txt").write_bytes("a\nZellwände\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"classes\.txt: cannot read"):
        open_dataset(tmp_path)


def test_a_missing_validation_folder_is_made_from_the_training_folder(tmp_path) -> None:
    make_folder(tmp_path / "train", NAMES[:10])
    make_folder(tmp_path / "test", NAMES[10:])
    parts = names_of(open_dataset(tmp_path))
    assert (len(parts["train"]), len(parts["val"]), parts["test"]) == (8, 2, NAMES[10:])
    assert sorted(parts["train"] + parts["val"]) == NAMES[:10]


@pytest.mark.parametrize(
    "text",
    ["path: {out}", "path: ..", "images: ../out/images", "splits: {{train: ../out}}", "annotations: ../out/a.json"],
)
def test_a_description_reads_nothing_outside_of_its_folder(tmp_path, text: str) -> None:
    make_folder(tmp_path / "out", NAMES)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset.yaml").write_text(text.format(out=tmp_path / "out"))
    with pytest.raises(DataError, match=r"leads out of the folder that the file lies in.*fix: .*link the data"):
        open_dataset(tmp_path / "set")


@pytest.mark.parametrize("text", ["path: 'tfds:mnist'", "format: tfds", "format: tfds\npath: 'tfds:mnist'"])
def test_a_description_fetches_nothing(tmp_path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    (tmp_path / "dataset.yaml").write_text(text)
    with pytest.raises(
        DataError, match="only when it is named on the command line; fix: .* name it as the data: tfds:"
    ):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '!!int ""',
        "ignore: !!bool x",
        "ignore: !!timestamp x",
        "ignore: !!float ''",
        "ignore: " + "1" * 5000,
        "ignore: " + "1:" * 100_000 + "1",
        "[" * 5000,
        "&a [*a]",
        "images: &a [*a]",
        "? [a]\n: b",
        "!!python/object/apply:os.system [true]",
        "images: !" + "x" * 100_000 + " y",
        "images: [" + ", ".join(["x" * 1000] * 200) + "]",
        "x" * 100_000 + ": 1",
        "images: [&a0 [x,x,x,x,x,x,x,x,x,x]"
        + "".join(f", &a{i} [" + ",".join([f"*a{i - 1}"] * 10) + "]" for i in range(1, 12))
        + "]",
    ],
    ids=lambda text: text[:20],
)
def test_a_description_that_cannot_be_read_is_one_short_error(tmp_path, text: str) -> None:
    (tmp_path / "dataset.yaml").write_text(text)
    start = time.process_time()
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    assert time.process_time() - start < 5
    assert len(str(caught.value)) < 3000


def test_aliases_of_a_description_are_followed(tmp_path) -> None:
    make_folder(tmp_path, NAMES)
    (tmp_path / "dataset.yaml").write_text("classes: [a, b]\ncolors: [&black [0, 0, 0], *black]\n")
    assert open_dataset(tmp_path).class_colors == ((0, 0, 0), (0, 0, 0))


def test_linked_folders_are_read(tmp_path) -> None:
    make_folder(tmp_path / "far", NAMES[:4])
    make_folder(tmp_path / "set", [f"own_{name}" for name in NAMES[:4]])
    for part in ("images", "masks"):
        (tmp_path / "set" / part / "linked").symlink_to(tmp_path / "far" / part, target_is_directory=True)
    assert len(open_dataset(tmp_path / "set").split("all")) == 8


@pytest.mark.parametrize("target", ["set/images", "set", "far/images"], ids=["circle", "circle above", "twice"])
def test_a_link_that_leads_somewhere_again_is_named(tmp_path, target: str) -> None:
    make_folder(tmp_path / "far", NAMES)
    make_folder(tmp_path / "set", NAMES)
    for name in ("a", "b"):
        (tmp_path / "set" / "images" / name).symlink_to(tmp_path / target, target_is_directory=True)
    with pytest.raises(DataError, match=r"images.*a link leads to a folder that is read already.*fix: remove the link"):
        open_dataset(tmp_path / "set")


def test_linked_class_folders_are_read(tmp_path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "far" / name).mkdir(parents=True)
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(4):
            (tmp_path / "far" / name / f"{index}.png").touch()
        (tmp_path / "set" / name / "linked").symlink_to(tmp_path / "far" / name, target_is_directory=True)
    assert len(open_dataset(tmp_path / "set", task="classify").split("all")) == 8


def test_what_a_description_lists_is_looked_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """20,000 lines of `values` took four minutes: each of them looked through all the others."""
    declared = Declaration(tmp_path, tmp_path, {"values": {f"{i}-{i}": 0 for i in range(500)}, "exclude": ["a"] * 500})
    assert len(declared.values(("a", "b")) or {}) == 500
    looked = 0

    class Counted(dict[str, int]):
        def __iter__(self) -> Iterator[str]:
            nonlocal looked
            looked += 1
            return super().__iter__()

    counted = Declaration(tmp_path, tmp_path, {"values": Counted(declared.given["values"])})
    counted.values(("a", "b"))
    assert looked <= 2
    assert declared.excluded is declared.excluded
