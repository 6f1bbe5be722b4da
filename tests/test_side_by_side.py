"""Folders of images and masks of any name, a mask a class, tables of run lengths: as published data sets have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_masks import SIZE, drawn
from PIL import Image

from keras_unetres.data.dataset import Dataset, open_dataset
from keras_unetres.data.records import Records, read_records
from keras_unetres.doctor.check import check
from keras_unetres.workflows.check import check as check_command
from unetres_edge.errors import DataError

COUNT = 12


def slow(*values: object) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


def picture(mask: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return an image (24, 32, 3) in which the classes of a mask show."""
    noise = np.random.default_rng(seed).integers(-20, 20, (*SIZE, 3))
    return (60 + 60 * mask[..., None].astype(int) + noise).clip(0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write(root: Path, image: str, mask: str, classes: int = 1, count: int = COUNT, white: int = 1) -> None:
    """Write pairs; the names have {0} for the number."""
    for number in range(count):
        ids = drawn(number, classes)
        save(root / image.format(number), picture(ids, number))
        save(root / mask.format(number), ids * np.uint8(white))


def read(root: Path | Dataset) -> Records:
    return read_records(open_dataset(root), ["all"], progress=False)["all"]


def is_right(records: Records, number_of: Callable[[str], int], classes: int = 1) -> bool:
    return len(records) == COUNT and all(
        np.array_equal(record.mask, drawn(number_of(record.name), classes)) for record in records
    )


def number_in(name: str) -> int:
    return int("".join(c for c in Path(name).stem if c.isdigit()))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("Original/{0}.png", "Ground Truth/{0}.png"),
        slow("Bilder/b{0}.png", "Masken/b{0}.png"),
        slow("stare-images/im{0:04d}.ppm", "labels-ah/im{0:04d}.ah.ppm"),
        slow("ISIC_Training_Input/ISIC_{0:03d}.png", "ISIC_Training_GroundTruth/ISIC_{0:03d}_segmentation.png"),
        slow("JPEGImages/x{0}.png", "SegmentationClassAug/x{0}.png"),
        slow("img_dir/x{0}.png", "ann_dir/x{0}.png"),
        slow("set/data/image_2/um_{0:06d}.png", "set/data/gt_image_2/um_road_{0:06d}.png"),
        slow("imagesTr/case_{0:03d}_0000.png", "labelsTr/case_{0:03d}.png"),
    ],
)
def test_folders_of_any_name_pair(tmp_path: Path, image: str, mask: str) -> None:
    write(tmp_path, image, mask, 2)
    (tmp_path / "README.txt").write_text("of whoever made it")

    def number_of(name: str) -> int:
        return int(name.split("_")[1]) if "case" in name else number_in(name)

    assert is_right(read(tmp_path), number_of, 2)
    assert check(tmp_path, hashes="off", progress=False).faults == []
    assert any(note.startswith("images are those of ") for note in open_dataset(tmp_path).notes)


def test_parts_and_places_above_both_folders(tmp_path: Path) -> None:
    for part, place, count in (("Train", "Urban", 3), ("Train", "Rural", 3), ("Val", "Urban", 2), ("Val", "Rural", 2)):
        write(tmp_path / part / place, "images_png/{0}.png", "masks_png/{0}.png", count=count)
    data = open_dataset(tmp_path)
    assert {part: len(samples) for part, samples in data.splits.items()} == {"train": 6, "val": 4}
    assert [sample.name for sample in data.splits["val"]][:2] == ["Rural/0.png", "Rural/1.png"]


def test_numbered_folders_stay_whole(tmp_path: Path) -> None:
    for fold in range(6):
        write(tmp_path / f"p{fold}", f"scans/{fold}_{{0}}.png", f"masks/{fold}_{{0}}.png", count=2)
    data = open_dataset(tmp_path)
    assert {part: len(samples) for part, samples in data.splits.items()} == {"train": 8, "val": 2, "test": 2}
    for samples in data.splits.values():
        assert all(sum(s.name.startswith(f"p{fold}/") for s in samples) in (0, 2) for fold in range(6))


def test_several_folders_of_masks_are_asked_for(tmp_path: Path) -> None:
    for organ in ("human kidney", "mouse liver"):
        write(tmp_path / organ, f"tissue images/{organ} {{0}}.png", f"mask binary/{organ} {{0}}.png", 2, COUNT // 2)
        write(tmp_path / organ, f"overlay/{organ} {{0}}.png", f"label masks/{organ} {{0}}.png", 2, COUNT // 2)
    with pytest.raises(DataError, match="images: tissue images and masks: mask binary or images: "):
        open_dataset(tmp_path)
    (tmp_path / "dataset.yaml").write_text("images: tissue images\nmasks: label masks\n")
    assert is_right(read(tmp_path), number_in, 2)
    notes = " ".join(open_dataset(tmp_path).notes)
    assert "passed over: human kidney/mask binary/, human kidney/overlay/" in notes


def test_folders_whose_names_say_nothing_are_asked_for_and_the_line_mends_it(tmp_path: Path) -> None:
    write(tmp_path, "x/{0}.png", "y/{0}.png")
    faults = check(tmp_path, hashes="off", progress=False).faults
    assert [(fault.kind, fault.fix.patch) for fault in faults] == [("mask-like", {"images": "x", "masks": "y"})]
    report = check_command(tmp_path, fix=True, hashes="off", say=lambda line: None)
    assert report["faults"] == []
    assert is_right(read(tmp_path), number_in)


def test_masks_whose_names_pair_with_none_are_no_class(tmp_path: Path) -> None:
    for number in range(COUNT):
        save(tmp_path / f"pics/a{number}.png", picture(drawn(number), number))
        save(tmp_path / f"anno/lab{7 * number + 3}.png", drawn(number))
    assert [fault.kind for fault in check(tmp_path, hashes="off", progress=False).faults] == ["mask-like"]
    lines = [f"pics/a{number}.png,anno/lab{7 * number + 3}.png" for number in range(COUNT)]
    (tmp_path / "data.csv").write_text("\n".join(["image,mask", *lines]))
    assert is_right(read(tmp_path), number_in)


@pytest.mark.parametrize("form", ["masks/a{1}_{0}.png", slow("masks/{0}/a{1}.png"), slow("masks/{0}/a{1}_{0}.png")])
def test_a_mask_for_every_class(tmp_path: Path, form: str) -> None:
    for number in range(COUNT):
        ids = drawn(number, 2)
        save(tmp_path / f"images/a{number}.png", picture(ids, number))
        for class_id, name in enumerate(("leaf", "spot"), 1):
            save(tmp_path / form.format(name, number), (ids == class_id) * np.uint8(255))
    records = read(tmp_path)
    assert records.classes.names == ("background", "leaf", "spot")
    assert is_right(records, number_in, 2)
    (tmp_path / "images/new.png").write_bytes((tmp_path / "images/a0.png").read_bytes())
    assert [fault.kind for fault in check(tmp_path, hashes="off", progress=False).faults] == ["missing-mask"]


def test_classes_in_folders_far_from_the_images_are_declared_by_the_line(tmp_path: Path) -> None:
    for number in range(COUNT):
        ids = drawn(number, 2)
        save(tmp_path / f"1. Images/a. Training Set/I_{number:02d}.png", picture(ids, number))
        for class_id, (name, ending) in enumerate((("1. Spots", "SP"), ("2. Veins", "VE")), 1):
            mask = f"2. Groundtruths/a. Training Set/{name}/I_{number:02d}_{ending}.png"
            save(tmp_path / mask, (ids == class_id) * np.uint8(255))
    report = check_command(tmp_path, fix=True, hashes="off", say=lambda line: None)
    assert report["faults"] == []
    records = read(tmp_path)
    assert is_right(records, number_in, 2)
    assert records.classes.names == ("background", "1. Spots", "2. Veins")


@pytest.mark.parametrize(
    ("image", "mask"),
    [("{0}.png", "{0}_1stHO.png"), slow("{0}_img.png", "{0}_masks.png"), slow("{0}_sat.png", "{0}_mask.png")],
)
def test_masks_beside_images_whose_names_end_differently(tmp_path: Path, image: str, mask: str) -> None:
    write(tmp_path, image, mask)
    if "HO" in mask:
        write(tmp_path, image, "{0}_2ndHO.png", 2)  # of a second person
    assert is_right(read(tmp_path), lambda name: int(Path(name).stem.split("_")[0]))


def test_masks_of_cellpose_number_objects(tmp_path: Path) -> None:
    write(tmp_path, "{0}.png", "{0}_cp_masks.png", 2)
    assert open_dataset(tmp_path).reading.masks_are == "instances"
    assert open_dataset(tmp_path, changes={"masks_are": "classes"}).reading.masks_are == "classes"


# Tables of run lengths


def runs_of(inside: np.ndarray, by_rows: bool = False) -> str:
    """Return the run lengths of a mask, counted by a loop over its pixels."""
    flat = inside.ravel() if by_rows else inside.T.ravel()
    found: list[int] = []
    for place, value in enumerate(flat.tolist()):
        if value and (place == 0 or not flat[place - 1]):
            found += [place + 1, 0]
        if value:
            found[-1] += 1
    return " ".join(map(str, found))


@pytest.mark.parametrize("form", ["severstal", slow("carvana"), slow("clouds"), slow("cells")])
def test_tables_of_run_lengths(tmp_path: Path, form: str) -> None:
    classes = 2 if form in ("severstal", "clouds") else 1
    head = {
        "carvana": "img,rle_mask",
        "severstal": "ImageId,ClassId,EncodedPixels",
        "clouds": "Image_Label,EncodedPixels",
        "cells": "id,annotation,width,height,cell_type",
    }[form]
    lines = [head]
    for number in range(COUNT):
        ids = drawn(number, classes)
        save(tmp_path / f"train/a{number}.png", picture(ids, number))
        for class_id in range(1, classes + 1):
            runs = runs_of(ids == class_id, by_rows=form == "cells")
            lines.append(
                {
                    "carvana": f"a{number}.png,{runs}",
                    "severstal": f"a{number}.png,{class_id},{runs}",
                    "clouds": f"a{number}.png_{('', 'Fish', 'Sugar')[class_id]},{runs}",
                    "cells": f"a{number},{runs},32,24,cort",
                }[form]
            )
    table = tmp_path / "train.csv"
    table.write_text("\n".join(lines))
    records = read(tmp_path)
    assert is_right(records, number_in, classes)
    expected = {"carvana": ("object",), "severstal": ("1", "2"), "clouds": ("Fish", "Sugar"), "cells": ("object",)}
    assert records.classes.names == ("background", *expected[form])
    assert check(tmp_path, hashes="off", progress=False).faults == []


def test_run_lengths_that_go_the_other_way_are_refused_and_the_line_mends_it(tmp_path: Path) -> None:
    lines = ["ImageId,EncodedPixels"]
    for number in range(COUNT):
        save(tmp_path / f"train/a{number}.png", picture(drawn(number), number))
        lines.append(f"a{number},{runs_of(drawn(number) > 0, by_rows=True)}")
    (tmp_path / "train.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match="the run lengths seem to go along rows.*fix: runs: rows"):
        open_dataset(tmp_path)
    check_command(tmp_path, fix=True, hashes="off", say=lambda line: None)
    assert is_right(read(tmp_path), number_in)


def test_run_lengths_that_do_not_fit_name_the_image(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / f"train/a{number}.png", picture(drawn(number), number))
    rows = ["a0.png,700 70", "a1.png,700 69", "a2.png,5 2 4 1", "a3.png,x 1", "a4.png,1 1"]
    (tmp_path / "train.csv").write_text("\n".join(["ImageId,EncodedPixels", *rows]))
    faults = check(tmp_path, hashes="off", progress=False).faults
    assert sorted((fault.kind, fault.where.image) for fault in faults) == [
        *(("bad-annotation", f"a{number}.png") for number in (0, 2, 3)),
        ("missing-image", "a4.png"),
    ]


# What the fix of a doctor makes of masks that are no class ids as they stand


def colored_objects(number: int) -> np.ndarray:
    """Return a mask (24, 32, 3) in which every object has a colour of its own."""
    colors = np.random.default_rng(number).integers(30, 256, (3, 3)).astype(np.uint8)
    colors[0] = 0
    return colors[drawn(number, 2)]


def ids_in_red(number: int) -> np.ndarray:
    """Return RGBA in which red holds the number of each object, as BBBC039's masks do."""
    ids = drawn(number, 2 + number % 2)
    return np.dstack([ids, np.zeros((*SIZE, 2), np.uint8), np.full(SIZE, 255, np.uint8)])


@pytest.mark.parametrize("make", [colored_objects, ids_in_red], ids=lambda make: make.__name__)
def test_colours_that_number_objects_are_objects(tmp_path: Path, make: Callable[[int], np.ndarray]) -> None:
    for number in range(COUNT):
        save(tmp_path / f"images/{number}.png", picture(drawn(number, 2), number))
        save(tmp_path / f"masks/{number}.png", make(number))
    report = check_command(tmp_path, fix=True, hashes="off", say=lambda line: None)
    assert report["faults"] == []
    records = read(tmp_path)
    assert records.classes.names == ("background", "object")
    for record in records:
        assert np.array_equal(record.mask, make(number_in(record.name))[..., :3].any(-1))


def test_jpeg_masks_of_black_and_white_are_cut_in_the_middle_by_the_line(tmp_path: Path) -> None:
    write(tmp_path, "images/{0}.png", "masks/{0}.jpg", white=255)
    report = check_command(tmp_path, hashes="off", say=lambda line: None)
    assert {fault["kind"] for fault in report["faults"]} == {"lossy-mask"}
    assert check_command(tmp_path, fix=True, hashes="off", say=lambda line: None)["faults"] == []
    assert is_right(read(tmp_path), number_in)


def test_one_name_alone_is_that_of_the_foreground(tmp_path: Path) -> None:
    write(tmp_path, "images/{0}.png", "masks/{0}.png")
    (tmp_path / "classes.txt").write_text("cell\n")
    check_command(tmp_path, fix=True, hashes="off", say=lambda line: None)
    records = read(tmp_path)
    assert records.classes.names == ("background", "cell")
    assert is_right(records, number_in)


# Images and masks that lie within each other, and folders of one case each


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{0}.png", "masks/{0}.png"),
        slow("images/{0}.png", "images/masks/{0}.png"),
        slow("{0}.png", "Segmentations/{0}_seg.png"),
    ],
)
def test_masks_below_the_images(tmp_path: Path, image: str, mask: str) -> None:
    write(tmp_path, image, mask)
    assert is_right(read(tmp_path), number_in)


@pytest.mark.parametrize(("images", "masks"), [("x_{}", "y_{}"), slow("{}_img", "{}_lab")])
def test_parts_of_short_names(tmp_path: Path, images: str, masks: str) -> None:
    for part, count in (("train", 4), ("val", 2), ("test", 2)):
        write(tmp_path, images.format(part) + "/{0}.png", masks.format(part) + "/{0}.png", count=count)
    assert {part: len(of) for part, of in open_dataset(tmp_path).splits.items()} == {"train": 4, "val": 2, "test": 2}


def test_a_folder_for_each_case_with_image_and_mask(tmp_path: Path) -> None:
    write(tmp_path, "case{0:02d}/img.png", "case{0:02d}/label.png", 2)
    for number in range(COUNT):
        save(tmp_path / f"case{number:02d}/label_viz.png", picture(drawn(number, 2)))
    assert is_right(read(tmp_path), lambda name: int(name[4:6]), 2)


def test_a_table_of_pairs_may_have_other_columns(tmp_path: Path) -> None:
    write(tmp_path, "pics/a{0}.png", "drawn/lab{0}.png")
    rows = [f"{number},pics/a{number}.png,drawn/lab{number}.png,44" for number in range(COUNT)]
    (tmp_path / "metadata.csv").write_text("\n".join(["id,image_path,mask_path,age", *rows]))
    assert is_right(read(tmp_path), number_in)


def test_an_ignored_value_that_is_all_there_is_leaves_no_class_empty(tmp_path: Path) -> None:
    write(tmp_path, "images/{0}.png", "masks/{0}.png", white=255)
    (tmp_path / "dataset.yaml").write_text("ignore: 255\n")
    faults = check(tmp_path, hashes="off", progress=False).faults
    assert [(fault.kind, fault.fix.patch) for fault in faults] == [("not-contiguous", None)]
    assert "255 is the foreground" in faults[0].fix.text
