"""Folders as people have them: masks beside images, in sibling folders, in a folder a patient; none are classes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_unetres.data import groups
from keras_unetres.data.dataset import open_dataset
from keras_unetres.data.records import Records, read_records
from keras_unetres.doctor.check import check
from unetres_edge.errors import DataError, ImageError, UsageError
from unetres_edge.images.preprocessing import Preprocessing

RNG = np.random.default_rng(0)


def picture() -> np.ndarray:
    return RNG.integers(0, 256, (16, 16, 3), np.uint8)


def drawn(number: int = 0, value: int = 255) -> np.ndarray:
    """Return a mask of one rectangle of 16 px more for each number."""
    mask = np.zeros((16, 16), np.uint8)
    mask[: 4 + number % 4, :4] = value
    return mask


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def read(root: Path) -> Records:
    return read_records(open_dataset(root), ["all"], progress=False)["all"]


def sizes(root: Path) -> dict[str, int]:
    return {part: len(samples) for part, samples in open_dataset(root).splits.items()}


# Masks beside their images


@pytest.mark.parametrize("ending", ["_mask", "-mask", "_Mask", "_label", ".seg", "_gt", " mask"])
@pytest.mark.parametrize("folders", [[""], ["a", "b"]])
def test_masks_beside_their_images(tmp_path: Path, ending: str, folders: list[str]) -> None:
    for folder in folders:
        for number in range(4):
            save(tmp_path / folder / f"x {number}.png", picture())
            save(tmp_path / folder / f"x {number}{ending}.png", drawn(number))
    records = read(tmp_path)
    for record in records:
        assert (record.mask > 0).sum() == (record.mask == 1).sum() == 16 + 4 * int(record.name[-5])
    assert len(records) == 4 * len(folders)
    assert records.classes.names == ("background", "foreground")
    assert check(tmp_path, hashes="off", progress=False).faults == []


def test_several_masks_of_an_image_are_its_objects(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / f"{number}.png", picture())
        save(tmp_path / f"{number}_mask.png", drawn())
    other = np.zeros((16, 16), np.uint8)
    other[10:, 10:] = 255
    save(tmp_path / "0_mask_1.png", other)
    first = next(record for record in read(tmp_path) if record.name == "0.png")
    assert first.instances is not None
    assert np.bincount(first.instances.ravel()).tolist() == [256 - 16 - 36, 16, 36]
    assert int(first.mask.sum()) == 16 + 36


def test_parts_of_pairs_side_by_side_and_a_table_of_values(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("valid", 2), ("test", 2)):
        for number in range(count):
            save(tmp_path / part / f"{number}.jpg", picture())
            save(tmp_path / part / f"{number}_mask.png", drawn(number, 2))
        (tmp_path / part / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, cat\n2, dog\n")
    assert sizes(tmp_path) == {"train": 4, "val": 2, "test": 2}
    assert read(tmp_path).classes.names == ("background", "cat", "dog")


def test_an_image_or_a_mask_without_its_partner_is_named(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / f"{number}.png", picture())
        save(tmp_path / f"{number}_mask.png", drawn())
    (tmp_path / "2_mask.png").unlink()
    (tmp_path / "3.png").unlink()
    faults = check(tmp_path, hashes="off", progress=False).faults
    assert {(fault.kind, fault.file) for fault in faults} == {
        ("missing-mask", "2.png"),
        ("missing-image", "3_mask.png"),
    }


# A folder a patient


def make_patients(root: Path, count: int = 8, each: int = 3) -> None:
    for patient in range(count):
        for number in range(each):
            save(root / f"case{patient}" / f"{number}.png", picture())
            save(root / f"case{patient}" / f"{number}_mask.png", drawn(number))


@pytest.mark.parametrize("seed", range(5))
def test_a_patient_stays_whole(tmp_path: Path, seed: int) -> None:
    make_patients(tmp_path)
    splits = open_dataset(tmp_path, changes={"seed": seed}).splits
    folders = [{sample.name.split("/")[0] for sample in part} for part in splits.values()]
    assert [len(found) for found in folders] == [4, 2, 2]
    assert not (folders[0] & folders[1] or folders[0] & folders[2] or folders[1] & folders[2])
    assert sorted(set().union(*folders)) == [f"case{n}" for n in range(8)]


# Sibling folders


@pytest.mark.parametrize(
    ("images", "masks"),
    [("{}", "{}_labels"), ("{}_images", "{}_masks"), ("{}", "{}annot"), ("images_{}", "masks_{}"), ("{}", "{} masks")],
)
def test_parts_in_sibling_folders(tmp_path: Path, images: str, masks: str) -> None:
    for part, count in (("train", 4), ("val", 2), ("test", 2)):
        for number in range(count):
            save(tmp_path / images.format(part) / f"{number}.png", picture())
            save(tmp_path / masks.format(part) / f"{number}.png", drawn(number))
    assert sizes(tmp_path) == {"train": 4, "val": 2, "test": 2}
    assert read(tmp_path).classes.names == ("background", "foreground")


@pytest.mark.parametrize(("images", "masks"), [("train", "mask"), ("photos", "labels"), ("data", "groundtruth")])
def test_a_folder_of_masks_beside_one_of_any_name(tmp_path: Path, images: str, masks: str) -> None:
    for number in range(5):
        save(tmp_path / images / f"{number}.png", picture())
        save(tmp_path / masks / f"{number}_mask.png", drawn(number))
    assert len(read(tmp_path)) == 5


# Several folders of masks, and names that differ


def make_pairs(root: Path, image: str, masks: dict[str, str], numbers: range = range(8, 14)) -> None:
    """Write images, and in each folder masks; the n-th folder's cover n more rows than the first's."""
    for number in numbers:
        save(root / "images" / image.format(number), picture())
        for more, (folder, name) in enumerate(masks.items()):
            mask = np.zeros((16, 16), np.uint8)
            mask[: 2 + more, : number - 4] = 255
            save(root / folder / name.format(number), mask)


@pytest.mark.parametrize(
    ("taken", "other"), [("1st_manual", "mask"), ("masks", "edges"), ("gt", "mask"), ("labels", "zones")]
)
def test_the_folder_that_is_taken_is_said(tmp_path: Path, taken: str, other: str) -> None:
    make_pairs(tmp_path, "{}.png", {taken: "{}.png", other: "{}.png"})
    dataset = open_dataset(tmp_path)
    assert {sample.target.file.parent.name for sample in dataset.split("all")} == {taken}
    assert any(f"those of {taken}/, not of {other}/" in note for note in dataset.notes)


@pytest.mark.parametrize(("first", "second"), [("mask", "vessels"), ("labels", "mask"), ("annotations", "label")])
def test_folders_that_may_both_be_meant_are_refused(tmp_path: Path, first: str, second: str) -> None:
    make_pairs(tmp_path, "{}.png", {first: "{}.png", second: "{}.png"})
    with pytest.raises(DataError, match="several folders may hold the masks") as caught:
        open_dataset(tmp_path)
    for name in (first, second):
        assert f"masks: {name}" in str(caught.value)
        (tmp_path / "dataset.yaml").write_text(f"masks: {name}\n")
        assert {sample.target.file.parent.name for sample in open_dataset(tmp_path).split("all")} == {name}
        (tmp_path / "dataset.yaml").unlink()


def test_a_test_part_with_other_masks_alone_has_none(tmp_path: Path) -> None:
    make_pairs(
        tmp_path / "training", "{}_training.png", {"1st_manual": "{}_manual1.png", "mask": "{}_training_mask.png"}
    )
    make_pairs(tmp_path / "test", "{}_test.png", {"mask": "{}_test_mask.png"})
    dataset = open_dataset(tmp_path)
    assert set(dataset.splits) == {"train", "val"}
    assert all(sample.image.file.stem[:2] == sample.target.file.stem[:2] for sample in dataset.split("all"))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("img_{:03}.png", "mask_{:03}.png"),
        ("{}_training.png", "{}_manual1.png"),
        ("a{}.png", "a{}_cp_masks.png"),
        ("scan-{}.png", "scan-{}-labels.png"),
        ("{}.png", "{:04}.png"),
    ],
)
def test_names_pair_by_what_differs(tmp_path: Path, image: str, mask: str) -> None:
    make_pairs(tmp_path, image, {"masks": mask})
    records = read(tmp_path)
    widths = {record.name: int(record.mask[0].sum()) for record in records}
    assert widths == {image.format(number): number - 4 for number in range(8, 14)}
    assert any("by what differs" in note for note in open_dataset(tmp_path).notes)


@pytest.mark.parametrize(("image", "mask"), [("a{}.png", "leaf of oak"), ("x{}.png", "z{}{}")])
def test_names_that_do_not_pair_are_refused(tmp_path: Path, image: str, mask: str) -> None:
    for number in range(5):
        save(tmp_path / "images" / image.format(number), picture())
        save(tmp_path / "masks" / f"{mask.format(number, 10 + number)} {'abcde'[number]}.png", drawn())
    with pytest.raises(DataError, match="an image without a mask"):
        open_dataset(tmp_path)


def test_a_test_part_without_masks_is_left_out(tmp_path: Path) -> None:
    make_pairs(tmp_path / "train", "{}.png", {"masks": "{}.png"})
    save(tmp_path / "test" / "images" / "1.png", picture())
    dataset = open_dataset(tmp_path)
    assert set(dataset.splits) == {"train", "val"}
    assert "the test part has no masks and is left out" in dataset.notes


# Classes of a classifier, and what is none


def test_faces_with_and_without_a_mask_are_classes(tmp_path: Path) -> None:
    for name in ("mask", "no_mask"):
        for number in range(4):
            save(tmp_path / name / f"{number}.png", picture())
    dataset = open_dataset(tmp_path)
    assert (dataset.task, dataset.class_names) == ("classify", ("mask", "no_mask"))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("{}.txt", "0 0.5 0.5 0.25 0.25\n", "YOLO"),
        ("{}.xml", "<annotation><object><bndbox/></object></annotation>", "boxes, not masks"),
        ("{}.json", "{}", ".json files"),
    ],
)
def test_annotations_beside_images_say_more_than_a_class(tmp_path: Path, name: str, text: str, words: str) -> None:
    for folder in ("a", "b"):
        for number in range(4):
            save(tmp_path / folder / f"{number}.png", picture())
            (tmp_path / folder / name.format(number)).write_text(text)
    for task in (None, "classify"):
        with pytest.raises(DataError, match="annotations") as caught:
            open_dataset(tmp_path, task=task)
        assert words in str(caught.value)


@pytest.mark.parametrize("table", ["class_dict.csv", "a/_classes.csv", "labelmap.txt"])
def test_a_table_of_classes_is_not_passed_over(tmp_path: Path, table: str) -> None:
    for folder in ("a", "b"):
        for number in range(4):
            save(tmp_path / folder / f"{number}.png", picture())
    (tmp_path / table).write_text("")
    with pytest.raises(DataError, match="table of the classes of masks"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(("images", "masks", "ending"), [("x", "y", "_left"), ("a", "my segs", "")])
def test_masks_that_are_not_understood_are_no_classes(tmp_path: Path, images: str, masks: str, ending: str) -> None:
    for number in range(6):
        save(tmp_path / images / f"{number}.png", picture())
        save(tmp_path / masks / f"{number}{ending}.png", drawn(number))
    for task in (None, "segment", "classify"):
        with pytest.raises(DataError, match="masks lie among the images of a classifier"):
            open_dataset(tmp_path, task=task)
    assert [fault.kind for fault in check(tmp_path, hashes="off", progress=False).faults] == ["mask-like"]


# Groups


def make_slices(root: Path) -> None:
    for patient in range(7):
        for number in range(3):
            save(root / "images" / f"pat{patient}_{number}.png", picture())
            save(root / "masks" / f"pat{patient}_{number}.png", drawn(number, 1))


@pytest.mark.parametrize("pattern", [r"pat\d+", r"^(\w+)_"])
def test_groups_by_a_pattern(tmp_path: Path, pattern: str) -> None:
    make_slices(tmp_path)
    splits = open_dataset(tmp_path, changes={"group_by": pattern}).splits
    patients = [name for part in splits.values() for name in {sample.name[:4] for sample in part}]
    assert sorted(patients) == [f"pat{n}" for n in range(7)]
    assert set(splits) == {"train", "val", "test"}
    (tmp_path / "dataset.yaml").write_text(f"group_by: '{pattern}'\n")
    assert open_dataset(tmp_path).splits == splits


def test_groups_that_are_torn_or_missing_are_refused(tmp_path: Path) -> None:
    make_slices(tmp_path)
    with pytest.raises(DataError, match=r"images of one group are in two parts.*pat1 in"):
        open_dataset(tmp_path, changes={"group_by": r"pat\d", "val_from": "pat1_0"})
    with pytest.raises(UsageError, match="an image belongs to no group"):
        open_dataset(tmp_path, changes={"group_by": "case"})
    with pytest.raises(UsageError, match="regular expression"):
        open_dataset(tmp_path, changes={"group_by": "("})


@pytest.mark.parametrize("pattern", ["(a+)+b", "a*a*a*a*a*b"])
def test_a_pattern_cannot_take_for_ever(tmp_path: Path, pattern: str) -> None:
    make_slices(tmp_path)
    with pytest.raises(UsageError, match="take for ever"):
        open_dataset(tmp_path, changes={"group_by": pattern})


@pytest.mark.parametrize("pattern", ["a?" * 40 + "a" * 40, "(?:a|a)" * 40 + "b", r"\w+\w+\w+\w+!"])
def test_a_pattern_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    monkeypatch.setattr(groups, "SECONDS", 0.3)
    with pytest.raises(UsageError, match="group_by takes too long.*2 names"):
        groups.groups_of(["a" * 250, "a" * 40], pattern, Path("d"))


@pytest.mark.parametrize("pattern", [r"(\w+?)-\w+", "b|(a+)", "-[ab]?.", r"[]?|(]*([^\]a-]+)\d?"])
def test_groups_are_the_same_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    names = ["a-1", "aaa-b2", "\u00fcb-a\udcff\n"]
    here = groups.groups_of(names, pattern, Path("d"))
    expected = [re.search(pattern, name) for name in names]
    assert here == [match[1] if match.re.groups and match[1] is not None else match[0] for match in expected if match]
    monkeypatch.setattr(groups, "_FEW_STEPS", 0)
    assert groups.groups_of(names, pattern, Path("d")) == here
    with pytest.raises(UsageError, match="an image belongs to no group.*found x"):
        groups.groups_of([*names, "x"], "[ab]", Path("d"))


# Lists of names


def write_lists(root: Path, form: str, folder: str = "") -> None:
    (root / folder).mkdir(exist_ok=True)
    for part, patients in (("train", "0235"), ("val", "1"), ("test", "46")):
        lines = [form.format(f"pat{patient}_{number}") for patient in patients for number in range(3)]
        (root / folder / f"{part}.txt").write_text("# patients\n" + "\n".join(lines) + "\n")


@pytest.mark.parametrize("form", ["{}", "{}.png", "images/{}.png", "./images/{}.png", "/data/old/images/{}.png"])
@pytest.mark.parametrize("folder", ["", "splits"])
@pytest.mark.parametrize("said", [False, True])
def test_lists_of_names_make_the_parts(tmp_path: Path, form: str, folder: str, said: bool) -> None:
    make_slices(tmp_path)
    write_lists(tmp_path, form, folder)
    if said:
        listed = ", ".join(f"{part}: {folder or '.'}/{part}.txt" for part in ("train", "val", "test"))
        (tmp_path / "dataset.yaml").write_text(f"splits: {{{listed}}}\n")
    dataset = open_dataset(tmp_path, changes={"group_by": r"pat\d"})
    patients = {part: {sample.name[3] for sample in samples} for part, samples in dataset.splits.items()}
    assert patients == {"train": set("0235"), "val": {"1"}, "test": set("46")}
    assert sizes(tmp_path) == {"train": 12, "val": 3, "test": 6}
    assert check(tmp_path, hashes="off", progress=False).faults == []


def test_what_lists_name_wrongly_or_not_at_all_is_said(tmp_path: Path) -> None:
    make_slices(tmp_path)
    write_lists(tmp_path, "{}")
    (tmp_path / "test.txt").unlink()
    assert any("6 images are in no list" in note for note in open_dataset(tmp_path).notes)
    (tmp_path / "val.txt").write_text("pat1_0\npat9_9\n")
    with pytest.raises(DataError, match=r"line 2 of val.txt names pat9_9, which is not there"):
        open_dataset(tmp_path)
    (tmp_path / "val.txt").write_text("pat1_0\npat0_0\n")
    with pytest.raises(DataError, match=r"in the lists of two parts.*pat0_0.png in train and val"):
        open_dataset(tmp_path)
    (tmp_path / "val.txt").unlink()
    (tmp_path / "train.txt").write_text("a photograph\nof something\n")
    assert any("train.txt names no image" in note for note in open_dataset(tmp_path).notes)


def patients_of(root: Path) -> dict[str, set[str]]:
    return {part: {sample.name[3] for sample in samples} for part, samples in open_dataset(root).splits.items()}


@pytest.mark.parametrize(
    ("name", "head", "parts"),
    [
        ("split.csv", "image,split", {"train": "train", "val": "val", "test": "test"}),
        ("splits/splits.csv", "image,age,Subset", {"train": "Training", "val": "valid", "test": "TEST"}),
        ("metadata.csv", "split,image", {"train": "train", "val": "val", "test": "test"}),
        ("split.json", "", {"train": "train", "val": "validation", "test": "test"}),
    ],
)
def test_one_table_of_names_makes_the_parts(tmp_path: Path, name: str, head: str, parts: dict[str, str]) -> None:
    make_slices(tmp_path)
    of_patient = dict.fromkeys("0235", "train") | {"1": "val", "4": "test", "6": "test"}
    (tmp_path / name).parent.mkdir(exist_ok=True)
    said = [(f"images/pat{n}_{k}.png", parts[part]) for n, part in of_patient.items() for k in range(3)]
    if head:
        columns = {"image": 0, "split": 1, "subset": 1}
        rows = [",".join(row[columns[c]] if c in columns else "7" for c in head.lower().split(",")) for row in said]
        (tmp_path / name).write_text("\n".join([head, *rows]))
    else:
        (tmp_path / name).write_text(json.dumps({part: [n for n, p in said if p == part] for part in parts.values()}))
    assert patients_of(tmp_path) == {"train": set("0235"), "val": {"1"}, "test": set("46")}


def test_a_table_of_other_parts_is_passed_over_and_said(tmp_path: Path) -> None:
    make_slices(tmp_path)
    (tmp_path / "split.csv").write_text("image,split\npat0_0,train\npat1_0,fold 3\n")
    assert any('"fold 3" in line 3 is not train' in note for note in open_dataset(tmp_path).notes)
    (tmp_path / "split.csv").write_text("image,split\npat0_0,train\npat0_0,val\n")
    with pytest.raises(DataError, match=r"in the lists of two parts.*pat0_0.png in train and val"):
        open_dataset(tmp_path)
    (tmp_path / "split.csv").unlink()
    (tmp_path / "split.json").write_text('{"train": ["pat0_0"], "folds": []}')
    assert any('"folds" is not train' in note for note in open_dataset(tmp_path).notes)


# Masks and names that look like others


def fix_and_read(root: Path) -> Records:
    """Write what the faults' fixes say, and read the set; a second check finds nothing."""
    for fault in check(root, hashes="off", progress=False).faults:
        (root / "dataset.yaml").write_text(fault.fix.text + "\n", encoding="utf-8")
    assert check(root, hashes="off", progress=False).faults == []
    return read(root)


def test_names_that_are_left_over_on_both_sides_are_not_paired(tmp_path: Path) -> None:
    """`img_0` ... with `mask_1` ...: all but one would pair with the mask of another image."""
    for number in range(8):
        save(tmp_path / "images" / f"img_{number}.png", picture())
        save(tmp_path / "masks" / f"mask_{number + 1}.png", drawn(number))
    kinds = [fault.kind for fault in check(tmp_path, hashes="off", progress=False).faults]
    assert (kinds.count("missing-mask"), kinds.count("missing-image")) == (8, 8)


@pytest.mark.parametrize("how", ["smooth", "jpeg"])
def test_masks_of_blends_are_cut_in_the_middle(tmp_path: Path, how: str) -> None:
    whole = np.zeros((40, 40), np.uint8)
    whole[10:30, 5:25] = 255
    for number in range(6):
        save(tmp_path / "images" / f"{number}.png", np.repeat(np.repeat(picture(), 3, 0), 3, 1)[:40, :40])
        soft = Image.fromarray(np.roll(whole, number, 1))
        if how == "smooth":
            soft = soft.resize((80, 80), Image.Resampling.BICUBIC).resize((40, 40), Image.Resampling.BICUBIC)
        else:
            soft.save(tmp_path / "soft.jpg", quality=70)
            soft = Image.open(tmp_path / "soft.jpg")
        save(tmp_path / "masks" / f"{number}.png", np.asarray(soft))
    (fault,) = check(tmp_path, hashes="off", progress=False).faults
    assert (fault.kind, fault.fix.text) == ("smeared-mask", 'values: {"0-127": 0, "128-255": 1}')
    for record in fix_and_read(tmp_path):
        assert (record.mask == np.roll(whole, int(record.name[0]), 1) // 255).all()


def test_ranges_of_values(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "images" / f"{number}.png", picture())
        save(tmp_path / "masks" / f"{number}.png", np.arange(256, dtype=np.uint8).reshape(16, 16))
    text = "classes: [out, in]\nvalues: {0-99: out, 100-199: ignore, 200: in, 201-255: in}\n"
    (tmp_path / "dataset.yaml").write_text(text)
    assert np.bincount(read(tmp_path)[0].mask.ravel())[[0, 1, 255]].tolist() == [100, 56, 100]
    for wrong in ("9-1: out", "0-65536: out", "a-b: out", "0-9: out, 5: in"):
        (tmp_path / "dataset.yaml").write_text(f"classes: [out, in]\nvalues: {{{wrong}}}\n")
        with pytest.raises(DataError, match=r"values (is wrong|names a value)"):
            open_dataset(tmp_path)


def test_blends_of_colours_are_no_classes(tmp_path: Path) -> None:
    colors = np.array([(0, 0, 0), (200, 30, 30), (20, 200, 40)], np.uint8)
    ids = np.zeros((64, 64), np.uint8)
    ids[8:40, 8:40], ids[20:60, 44:60] = 1, 2
    for number in range(4):
        save(tmp_path / "images" / f"{number}.png", np.repeat(np.repeat(picture(), 4, 0), 4, 1))
        drawing = Image.fromarray(colors[np.roll(ids, number, 1)])
        soft = drawing.resize((128, 128), Image.Resampling.BICUBIC).resize((64, 64), Image.Resampling.BICUBIC)
        save(tmp_path / "masks" / f"{number}.png", np.asarray(soft))
    for record in fix_and_read(tmp_path):
        labelled = record.mask != 255
        assert labelled.mean() > 0.8
        assert len(np.unique(record.mask[labelled])) == 3
        assert len(np.unique(np.stack([record.mask, np.roll(ids, int(record.name[0]), 1)])[:, labelled], axis=1).T) == 3


def test_numbers_that_go_on_from_mask_to_mask_are_objects(tmp_path: Path) -> None:
    for number in range(10):
        save(tmp_path / "images" / f"{number}.png", picture())
        mask = np.zeros((16, 16), np.uint8)
        mask[2:6, 2:6], mask[9:12, 9:12] = 2 * number + 3, 2 * number + 4
        save(tmp_path / "masks" / f"{number}.png", mask)
    (fault,) = check(tmp_path, hashes="off", progress=False).faults
    assert (fault.kind, fault.fix.text) == ("instance-ids", "masks_are: instances")
    assert {int((record.mask == 1).sum()) for record in fix_and_read(tmp_path)} == {16 + 9}


@pytest.mark.parametrize("scale", [1.0, 255.0, 4095.0])
def test_floats_of_any_scale_are_stretched_or_as_they_are(tmp_path: Path, scale: float) -> None:
    for number in range(4):
        values = np.random.default_rng(number).random((16, 16), np.float32) * np.float32(scale)
        save(tmp_path / "images" / f"{number}.tif", values - np.float32(scale > 1))
        save(tmp_path / "masks" / f"{number}.png", drawn(number))
    found = check(tmp_path, hashes="off", progress=False)
    assert ([f.kind for f in found.warnings], found.faults) == (["few-levels"] if scale > 1 else [], [])
    image = read(tmp_path)[0].image
    stretched = Preprocessing(channels=1, per_image=(0, 100)).prepare(image)
    assert (stretched.min(), stretched.max()) == (0, 255)
    if scale > 1:
        with pytest.raises(ImageError, match=r"outside \[0, 1\].*--per-image 1 99"):
            Preprocessing(channels=1).prepare(image)


def test_shapes_in_a_folder_of_their_own_with_paths_of_windows(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "images" / f"a{number}.png", picture())
        shape = {"label": "cell", "points": [[2, 3], [8, 3], [8, 9], [2, 9]], "shape_type": "polygon", "group_id": None}
        said = {"version": "5.4.1", "flags": {}, "shapes": [shape], "imageHeight": 16, "imageWidth": 16}
        said["imagePath"] = ["..\\images\\a{}.png", "C:\\Users\\me\\pics\\a{}.png"][number % 2].format(number)
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"a{number}.json").write_text(json.dumps(said))
    records = read(tmp_path)
    assert [int((record.mask == 1).sum()) for record in records] == [49] * 4
    assert records.classes.names == ("background", "cell")


def test_crowds_are_objects_where_that_is_declared(tmp_path: Path) -> None:
    images, annotations = [], []
    for number in range(4):
        save(tmp_path / "images" / f"a{number}.png", picture())
        images.append({"id": number, "file_name": f"a{number}.png", "width": 16, "height": 16})
        runs = {"size": [16, 16], "counts": [32, 40, 256 - 72]}
        annotations.append({"id": number, "image_id": number, "category_id": 1, "iscrowd": 1, "segmentation": runs})
    said = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    (tmp_path / "instances.json").write_text(json.dumps(said))
    (fault,) = check(tmp_path, hashes="off", progress=False).faults
    assert (fault.kind, fault.fix.text) == ("empty-class", "crowds: objects")
    assert {int((record.mask == 1).sum()) for record in fix_and_read(tmp_path)} == {40}
    (tmp_path / "dataset.yaml").write_text("crowds: yes\n")
    with pytest.raises(DataError, match=r"crowds is wrong"):
        open_dataset(tmp_path)


def test_files_that_are_not_read_are_said_in_training(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "images" / f"{number}.png", picture())
        save(tmp_path / "masks" / f"{number}.png", drawn(number))
    (tmp_path / "images" / "9.HEIC").write_bytes(b"0")
    (note,) = open_dataset(tmp_path).notes
    assert note.startswith("1 .heic file in images/ not read, such as 9.HEIC")


# What lies beside the parts


@pytest.mark.parametrize(
    "names",
    [
        ("train", "eval", "test"),
        ("training", "evaluation", "testing"),
        ("Train", "Validate", "Test"),
        ("entrenamiento", "validación", "prueba"),
        ("Entrainement", "Validation", "Test"),
        ("训练集", "验证集", "测试集"),
    ],
)
@pytest.mark.parametrize("form", ["{0}/{1}", "{1}/{0}"])
def test_parts_in_other_words_are_parts(tmp_path: Path, names: tuple[str, ...], form: str) -> None:
    for part, count in zip(names, (4, 2, 2), strict=True):
        for number in range(count):
            save(tmp_path / form.format(part, "images") / f"{number}.png", picture())
            save(tmp_path / form.format(part, "masks") / f"{number}.png", drawn(number))
    assert sizes(tmp_path) == {"train": 4, "val": 2, "test": 2}


@pytest.mark.parametrize("home", ["train/", ""])
def test_images_and_masks_of_no_part_are_said(tmp_path: Path, home: str) -> None:
    for folder in (home, "Fluo/"):
        for number in range(5):
            save(tmp_path / f"{folder}images" / f"{number}.png", picture())
            save(tmp_path / f"{folder}masks" / f"{number}.png", drawn(number))
    assert "images and masks in Fluo/ belong to no part and are passed over" in open_dataset(tmp_path).notes


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("_annotations.csv", "_annotations.csv is of no form.*COCO Segmentation"),
        ("", "parts without masks.*train/masks/"),
    ],
)
def test_parts_without_masks_are_no_classes(tmp_path: Path, table: str, words: str) -> None:
    for part in ("train", "valid"):
        for number in range(3):
            save(tmp_path / part / f"{number}.jpg", picture())
        if table:
            (tmp_path / part / table).write_text("filename,class,xmin\n0.jpg,cat,1\n")
    with pytest.raises(DataError, match=f"(?s){words}"):
        open_dataset(tmp_path)


def test_previews_that_a_file_server_keeps_are_no_images(tmp_path: Path) -> None:
    for number in range(5):
        for folder in ("images", "masks"):
            save(tmp_path / folder / f"{number}.png", picture() if folder == "images" else drawn(number))
            save(tmp_path / folder / "@eaDir" / f"{number}.png" / "SYNOPHOTO_THUMB_M.jpg", picture())
    assert len(read(tmp_path)) == 5
    assert check(tmp_path, hashes="off", progress=False).findings == ()


@pytest.mark.parametrize("name", ["split.xlsx", "train_ids.npy", "lists/Fold1.pkl"])
def test_lists_of_forms_that_are_not_read_are_said(tmp_path: Path, name: str) -> None:
    for number in range(5):
        save(tmp_path / "images" / f"{number}.png", picture())
        save(tmp_path / "masks" / f"{number}.png", drawn(number))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"PK")
    (note,) = (note for note in open_dataset(tmp_path).notes if Path(name).name in note)
    assert "is not read: save it as train.txt, val.txt and test.txt" in note


@pytest.mark.parametrize(
    "row", ["{0}", "images/{0}.png,7", "{1},{0}.png", '"{0}.png";x', "/home/a/images/{0}.png,0", "C:\\\\a\\{0}.png,b"]
)
@pytest.mark.parametrize("head", ["image,other\n", ""])
def test_tables_of_names_make_the_parts(tmp_path: Path, row: str, head: str) -> None:
    for number in range(8):
        save(tmp_path / "images" / f"{number}.png", picture())
        save(tmp_path / "masks" / f"{number}.png", drawn(number))
    for part, numbers in (("train", [0, 2, 4, 6, 7]), ("val", [1, 3, 5])):
        lines = [row.format(number, index) for index, number in enumerate(numbers)]
        (tmp_path / f"{part}.csv").write_text(
            (head.replace(",", ";" if ";" in row else ",") if set(",;") & set(row) else head and "id\n")
            + "\n".join(lines)
        )
    splits = open_dataset(tmp_path).splits
    assert {part: [sample.name[0] for sample in samples] for part, samples in splits.items()} == {
        "train": list("02467"),
        "val": list("135"),
    }


def test_a_name_in_a_table_that_is_no_image_is_a_fault_and_other_tables_are_said(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / "images" / f"{number}.png", picture())
        save(tmp_path / "masks" / f"{number}.png", drawn(number))
    (tmp_path / "folds.csv").write_text("image,fold\n" + "".join(f"{number}.png,{number % 3}\n" for number in range(8)))
    (tmp_path / "split.json").write_text(json.dumps([[0, 1], [2]]))
    notes = open_dataset(tmp_path).notes
    assert any(note.startswith("folds.csv names images and is passed over") for note in notes)
    assert any(note.startswith("split.json is passed over") for note in notes)
    (tmp_path / "split.json").write_text(json.dumps({f"{n}.png": "valid" if n > 5 else "train" for n in range(8)}))
    assert sizes(tmp_path) == {"train": 6, "val": 2}
    (tmp_path / "split.json").unlink()
    (tmp_path / "train.csv").write_text("name\n" + "".join(f"{number}.png\n" for number in range(6)) + "nowhere.png\n")
    (tmp_path / "val.csv").write_text("name\n6.png\n7.png\n")
    with pytest.raises(DataError, match="line 8 of train.csv names nowhere.png"):
        open_dataset(tmp_path)


def test_a_class_that_some_images_lack_has_no_mask_there(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / "images" / f"{number}.png", picture())
        save(tmp_path / "masks" / "cat" / f"{number}.png", drawn(number))
        if number < 2:
            save(tmp_path / "masks" / "dog" / f"{number}.png", drawn()[::-1, ::-1].copy())
    records = read(tmp_path)
    assert records.classes.names == ("background", "cat", "dog")
    assert [int((record.mask == 2).sum()) for record in records] == [16, 16] + [0] * 6


# Masks with the two values exchanged


def make_discs(root: Path, inside: int, around: int, count: int = 6, *, classes: str = "") -> None:
    rows, columns = np.mgrid[:64, :64]
    for number in range(count):
        centres = RNG.integers(8, 56, (5, 2))
        there = np.any([(rows - y) ** 2 + (columns - x) ** 2 < 36 for y, x in centres], axis=0)
        save(root / "images" / f"{number}.png", RNG.integers(0, 256, (64, 64, 3), np.uint8))
        save(root / "masks" / f"{number}.png", np.where(there, inside, around).astype(np.uint8))
    if classes:
        (root / "classes.txt").write_text(classes)


@pytest.mark.parametrize(("around", "classes"), [(255, ""), (1, ""), (255, "background\ncell\n")])
def test_masks_whose_background_is_objects_are_said_with_the_line(tmp_path: Path, around: int, classes: str) -> None:
    make_discs(tmp_path, 0, around, classes=classes)
    note = read(tmp_path).classes.note
    line = f"values: {{0: 1, {around}: 0}}"
    assert "value 0 lies in compact pieces" in note and note.endswith(line)
    (tmp_path / "dataset.yaml").write_text(line)
    mended = read(tmp_path)
    assert "compact" not in mended.classes.note
    assert all(0 < (record.mask == 1).mean() < 0.2 for record in mended)


def test_masks_of_other_shapes_are_not_called_exchanged(tmp_path: Path) -> None:
    def network(root: Path) -> None:  # membranes between cells
        for number in range(6):
            mask = np.full((64, 64), 255, np.uint8)
            mask[4 + number :: 12] = mask[:, 5 + number :: 12] = 0
            save(root / "images" / f"{number}.png", RNG.integers(0, 256, (64, 64, 3), np.uint8))
            save(root / "masks" / f"{number}.png", mask)

    make_discs(tmp_path / "right", 255, 0)
    make_discs(tmp_path / "named", 0, 255, classes="pore\nrock\n")
    network(tmp_path / "network")
    for name in ("right", "named", "network"):
        assert "compact" not in read(tmp_path / name).classes.note


# Annotations as tools leave them


def test_images_that_no_annotation_names_are_said(tmp_path: Path) -> None:
    shape = {"label": "cat", "points": [[1, 1], [9, 1], [9, 9]], "shape_type": "polygon", "group_id": None, "flags": {}}
    for number in range(6):
        save(tmp_path / f"{number}.png", picture())
        content = {
            "imagePath": f"{number}.png",
            "imageData": None,
            "imageHeight": 16,
            "imageWidth": 16,
            "shapes": [shape],
        }
        (tmp_path / f"{number}.json").write_text(json.dumps(content))
    for number in (2, 4):
        (tmp_path / f"{number}.json").unlink()
    notes = open_dataset(tmp_path).notes
    assert "2 images beside those that annotations name are left out, such as 2.png" in notes


@pytest.mark.parametrize(
    ("images", "lines", "names"),
    [
        ("images/{}.png", "labels/{}.txt", "labels/classes.txt"),
        ("images/{}.png", "labels/{}.txt", "classes.txt"),
        ("{}.png", "{}.txt", "classes.txt"),
    ],
)
def test_lines_of_yolo_with_a_list_of_classes_among_them(tmp_path: Path, images: str, lines: str, names: str) -> None:
    for number in range(6):
        save(tmp_path / images.format(number), picture())
        (tmp_path / lines.format(number)).parent.mkdir(exist_ok=True)
        (tmp_path / lines.format(number)).write_text("1 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n")
    (tmp_path / names).write_text("cat\ndog\n")
    (tmp_path / "README.txt").write_text("A set.\n")
    records = read(tmp_path)
    assert records.classes.names == ("background", "cat", "dog")
    assert [int((record.mask == 2).sum()) for record in records] == [64] * 6


def test_lines_of_boxes_alone_are_named(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "images" / f"{number}.png", picture())
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(DataError, match="(?s)boxes, not masks.*YOLO's boxes"):
        open_dataset(tmp_path)


def test_a_video_of_cvat_is_named(tmp_path: Path) -> None:
    save(tmp_path / "images" / "frame_000000.png", picture())
    box = '<track id="0" label="cat"><polygon frame="0" points="1,1;5,1;5,5"></polygon></track>'
    (tmp_path / "annotations.xml").write_text(f"<annotations><meta></meta>{box}</annotations>")
    with pytest.raises(DataError, match="export CVAT for images 1.1"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("names", [("train", "val"), ("Train", "Valid", "Test")])
def test_folders_far_below_say_the_parts(tmp_path: Path, names: tuple[str, ...]) -> None:
    for part, count in zip(names, (6, 3, 2), strict=False):
        for number in range(count):
            save(tmp_path / "set" / "images" / "10k" / part / f"{part}{number}.png", picture())
            save(tmp_path / "set" / "labels" / "sem" / part / f"{part}{number}.png", drawn(number))
    wanted = dict(zip(("train", "val", "test"), (6, 3, 2), strict=True))
    assert sizes(tmp_path) == {part: count for (part, count), _ in zip(wanted.items(), names, strict=False)}


def test_images_and_masks_above_the_parts_are_said(tmp_path: Path) -> None:
    for home in ("train/", "val/", ""):
        for number in range(4):
            save(tmp_path / f"{home}images" / f"{number}.png", picture())
            save(tmp_path / f"{home}masks" / f"{number}.png", drawn(number))
    assert "images and masks in ./ belong to no part and are passed over" in open_dataset(tmp_path).notes


@pytest.mark.parametrize("sign", [" ", ": ", ",", "\t"])
def test_numbers_before_names_of_classes_are_their_ids(tmp_path: Path, sign: str) -> None:
    for number in range(5):
        save(tmp_path / "images" / f"{number}.png", picture())
        save(tmp_path / "masks" / f"{number}.png", drawn(number, 1))
    (tmp_path / "classes.txt").write_text(f"0{sign}background\n1{sign}2 euro\n")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("background", "2 euro")
    assert not any("passed over" in note for note in dataset.notes)
    (tmp_path / "classes.txt").write_text("1 euro\n2 euro\n")
    assert open_dataset(tmp_path).class_names == ("1 euro", "2 euro")


@pytest.mark.parametrize("name", ["id2label.json", "labels.txt", "label_map.pbtxt", "class_names.txt", "obj.names"])
def test_files_that_may_name_the_classes_are_said(tmp_path: Path, name: str) -> None:
    for number in range(5):
        save(tmp_path / "images" / f"{number}.png", picture())
        save(tmp_path / "masks" / f"{number}.png", drawn(number))
    (tmp_path / name).write_text('{"0": "sky", "1": "bird"}')
    said = f"{name} may name the classes and is not read: list them in classes.txt, a name a line"
    assert said in open_dataset(tmp_path).notes
    (tmp_path / "classes.txt").write_text("sky\nbird\n")
    assert said not in open_dataset(tmp_path).notes


@pytest.mark.parametrize("first", [0, 10])
def test_folders_of_two_parts_that_are_called_alike(tmp_path: Path, first: int) -> None:
    for part, folders, start in (("train", 3, 0), ("val", 1, first)):
        for folder in range(folders):
            for number in range(start, start + 3):
                save(tmp_path / part / f"vid{folder}" / "frames" / f"{number}.png", picture())
                save(tmp_path / part / f"vid{folder}" / "masks" / f"{number}.png", drawn(number))
    if first:  # frames 0 to 2 and 10 to 12 of one video
        with pytest.raises(DataError, match="vid0 in train and val.*rename folders that are but called alike"):
            open_dataset(tmp_path)
    else:  # two videos, whose frames are counted from 0
        assert sizes(tmp_path) == {"train": 9, "val": 3}
