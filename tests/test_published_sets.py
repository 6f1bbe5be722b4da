"""Layouts of published sets and of tools' exports, drawn small: each is read right, asked about, or named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from drawn_masks import SIZE, drawn
from PIL import Image

from keras_unetres.data.dataset import open_dataset
from keras_unetres.data.findings import Finding
from keras_unetres.data.records import read_records
from keras_unetres.doctor.check import check
from unetres_edge.errors import DataError

COUNT = 8
Write = Callable[[Path], None]


def picture(number: int, classes: int = 1) -> np.ndarray:
    noise = np.random.default_rng(number).integers(-20, 20, (*SIZE, 3))
    return (60 + 50 * drawn(number, classes)[..., None].astype(int) + noise).clip(0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels)
    elif path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path)


def write(root: Path, image: str, mask: str, numbers: range = range(COUNT), classes: int = 1) -> None:
    """Write pairs; the names have {0} for the number."""
    for number in numbers:
        save(root / image.format(number), picture(number, classes))
        save(root / mask.format(number), drawn(number, classes))


def masks_of(root: Path) -> dict[str, dict[int, np.ndarray]]:
    """Return part -> number of the picture, told by its pixels, -> ids."""
    dataset = open_dataset(root)
    known = {picture(n, classes).tobytes(): n for n in range(COUNT) for classes in range(1, 4)}
    read = read_records(dataset, list(dataset.splits), progress=False)
    return {part: {known[r.image.tobytes()]: r.mask for r in records} for part, records in read.items()}


def are_drawn(root: Path, classes: int = 1) -> bool:
    found = {number: mask for of_part in masks_of(root).values() for number, mask in of_part.items()}
    return sorted(found) == list(range(COUNT)) and all(
        np.array_equal(mask, drawn(number, classes)) for number, mask in found.items()
    )


def faults_of(root: Path) -> list[Finding]:
    return check(root, hashes="off", progress=False).faults


def paste(root: Path, text: str) -> None:
    """Write the first of the lines of a fix, as a person pastes them."""
    (root / "dataset.yaml").write_text(text.split(" or ")[0].replace(" and ", "\n"))


# Files of one picture in one folder, told by their endings


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("output/M-33_{0}.png", "output/M-33_{0}_m.png"),
        ("x{0}.tif", "x{0}_Simple Segmentation.tif"),
        ("slide [x={0},y=0,w=9].png", "slide [x={0},y=0,w=9]-labelled.png"),
        ("a{0}_rgb.png", "a{0}_fg.png"),
    ],
)
def test_pixels_tell_which_ending_is_that_of_masks(tmp_path: Path, image: str, mask: str) -> None:
    write(tmp_path, image, mask)
    assert are_drawn(tmp_path) and faults_of(tmp_path) == []
    assert any("by their pixels" in note for note in open_dataset(tmp_path).notes)


def test_several_masks_of_a_picture_are_asked_about_the_likely_one_first(tmp_path: Path) -> None:
    for number in range(COUNT):
        of_one = (("rgb", picture(number)), ("label", drawn(number)), ("fg", drawn(number + 1)), ("centers", drawn(2)))
        for ending, pixels in of_one:
            save(tmp_path / "A1" / f"plant{number}_{ending}.png", pixels)
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.fix.patch) == ("ambiguous-names", None)
    paste(tmp_path, fault.fix.text)
    assert are_drawn(tmp_path)


def test_no_line_leaves_out_what_it_is_to_keep(tmp_path: Path) -> None:
    for number in range(COUNT):
        for ending, pixels in (("", picture(number)), ("_mask", drawn(number)), ("_color_mask", drawn(number + 1))):
            save(tmp_path / "v1" / f"f_{number}_endo{ending}.png", pixels)
    assert faults_of(tmp_path)[0].fix.text == 'exclude: ["*_endo_color_mask.png"]'
    paste(tmp_path, faults_of(tmp_path)[0].fix.text)
    assert are_drawn(tmp_path)


def test_folders_of_one_picture_each_whose_names_say_no_mask(tmp_path: Path) -> None:
    write(tmp_path, "case{0}/ct.png", "case{0}/lesion.png")
    assert are_drawn(tmp_path) and faults_of(tmp_path) == []
    for number in range(COUNT):
        save(tmp_path / f"case{number}" / "liver.png", drawn(number + 1))
    assert [fault.kind for fault in faults_of(tmp_path)] == ["ambiguous-names"]
    paste(tmp_path, faults_of(tmp_path)[0].fix.text)
    assert are_drawn(tmp_path)


@pytest.mark.parametrize("name", ["{}.png", "view {}.png"])
def test_folders_of_pictures_alone_stay_classes(tmp_path: Path, name: str) -> None:
    for folder in ("cat", "dog", "owl"):
        for number in range(4):
            save(tmp_path / folder / name.format("abcd"[number]), picture(number + 4 * len(folder)))
    assert open_dataset(tmp_path).task == "classify"


def test_pictures_of_one_thing_from_several_sides_are_no_masks(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(4):
            for side in ("left", "right"):
                save(tmp_path / name / f"{number}_{side}.png", picture(number + 4 * (side == "left")))
    assert open_dataset(tmp_path).task == "classify"


@pytest.mark.parametrize("folder", ["images/", ""])
def test_files_that_share_an_ending_are_left_out_by_one_line(tmp_path: Path, folder: str) -> None:
    write(tmp_path, folder + "a{0}.png", ("masks/" if folder else "") + "a{0}_mask.png")
    for number in range(COUNT):
        save(tmp_path / folder / f"a{number}_superpixels.png", picture(number + COUNT))
    assert {fault.fix.text for fault in faults_of(tmp_path)} == {'exclude: ["*_superpixels.png"]'}
    paste(tmp_path, 'exclude: ["*_superpixels.png"]')
    assert are_drawn(tmp_path) and faults_of(tmp_path) == []


def test_a_copy_of_an_image_is_left_out_without_its_mask(tmp_path: Path) -> None:
    write(tmp_path, "images/a{0}.bmp", "masks/a{0}.png")
    for number in range(COUNT):
        save(tmp_path / "images" / f"a{number}.png", picture(number))
    lines = [fault.fix.patch for fault in faults_of(tmp_path)]
    assert lines == [{"exclude": [f"images/a{number}.png"]} for number in range(COUNT)]
    names = ", ".join(f'"images/a{number}.png"' for number in range(COUNT))
    (tmp_path / "dataset.yaml").write_text(f"exclude: [{names}]")
    assert are_drawn(tmp_path) and faults_of(tmp_path) == []


# Parts


@pytest.mark.parametrize("form", ["DUTS-{}/DUTS-{}-{}", "DUTS-{1}-{2}"])
def test_short_words_say_the_parts(tmp_path: Path, form: str) -> None:
    for part, numbers in (("TR", range(6)), ("TE", range(6, 8))):
        images, masks = (form.format(part, part, what) for what in ("Image", "Mask"))
        write(tmp_path, images + "/{0}.png", masks + "/{0}.png", numbers)
    assert sorted(masks_of(tmp_path)["test"]) == [6, 7] and are_drawn(tmp_path)


def test_folders_above_say_the_parts_by_a_word(tmp_path: Path) -> None:
    for folder, numbers in (("uav_train/seq1", range(3)), ("uav_train/seq2", range(3, 5)), ("uav_val/seq3", [5, 6])):
        write(tmp_path / folder, "Images/{0}.png", "Labels/{0}.png", numbers)
    write(tmp_path / "uav_val/seq4", "Images/{0}.png", "Labels/{0}.png", range(7, 8))  # one image alone
    assert {part: sorted(of) for part, of in masks_of(tmp_path).items()} == {"train": [0, 1, 2, 3, 4], "val": [5, 6, 7]}


@pytest.mark.parametrize("names", [("training", "test"), ("trainval", "test")])
@pytest.mark.parametrize("line", ["{}.png", "{} 1 2 1"])
def test_lists_in_a_folder_of_their_own_make_the_parts(tmp_path: Path, names: tuple[str, str], line: str) -> None:
    write(tmp_path, "images/x{0}.tif", "annotations/trimaps/x{0}.png")
    for name, numbers in zip(names, (range(6), range(6, 8)), strict=True):
        lines = [line.format(f"x{number}") for number in numbers]
        (tmp_path / "annotations" / f"{name}.txt").write_text("\n".join(lines))
    assert sorted(masks_of(tmp_path)["test"]) == [6, 7] and are_drawn(tmp_path)


def test_lists_of_tiles_of_whole_images_are_named(tmp_path: Path) -> None:
    write(tmp_path, "images/M-{0}.png", "masks/M-{0}.png")
    (tmp_path / "train.txt").write_text("M-0_0\nM-0_1\nM-1_0\n")
    assert any("pieces of images that are not cut yet, such as M-0_0 of M-0" in n for n in open_dataset(tmp_path).notes)


@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_lists_of_rows_in_json_pair_and_part(tmp_path: Path, form: str) -> None:
    write(tmp_path, "pics/a{0}.png", "gt/b{0}7.png")
    rows = [{"image": f"./pics/a{n}.png", "label": f"./gt/b{n}7.png"} for n in range(COUNT)]
    parts = {"train": rows[:6], "val": rows[6:]}
    if form == "json":
        (tmp_path / "dataset.json").write_text(json.dumps({"training": parts["train"], "validation": parts["val"]}))
    else:
        for part, of_part in parts.items():
            (tmp_path / f"{part}.jsonl").write_text("\n".join(map(json.dumps, of_part)))
    assert sorted(masks_of(tmp_path)["val"]) == [6, 7] and are_drawn(tmp_path)


# Folders that belong together


def test_folders_of_one_number_pair(tmp_path: Path) -> None:
    for slide in range(4):
        numbers = range(2 * slide, 2 * slide + 2)
        write(tmp_path, f"Slide_0{slide}/0{slide}_{{0}}.png", f"GT_0{slide}/0{slide}_{{0}}.png", numbers)
    assert are_drawn(tmp_path)
    for of_part in masks_of(tmp_path).values():  # a slide stays whole
        assert all(number ^ 1 in of_part for number in of_part)


def test_of_two_folders_called_masks_pixels_tell_the_images(tmp_path: Path) -> None:
    write(tmp_path, "frames-with-annotations/{0}.png", "annotations_x/{0}.png")
    assert are_drawn(tmp_path)


def test_masks_below_a_folder_that_the_images_do_not_have(tmp_path: Path) -> None:
    for part, numbers in (("train", range(6)), ("val", range(6, 8))):
        write(tmp_path / part, "images/P{0}.png", "Semantic_masks/images/P{0}_color.png", numbers)
        write(tmp_path / part, "images/P{0}.png", "Instance_masks/images/P{0}_id.png", numbers)
    assert sorted(masks_of(tmp_path)["val"]) == [6, 7] and are_drawn(tmp_path)


# A mask for every class


def write_classes(root: Path, images: str, masks: str, numbers: range = range(COUNT)) -> None:
    for number in numbers:
        save(root / images / f"{number}.png", picture(number, 2))
        for class_id, name in enumerate(("leaf", "spot"), 1):
            save(root / masks / name / f"{number}.png", (drawn(number, 2) == class_id) * np.uint8(255))


def test_masks_of_classes_in_parts(tmp_path: Path) -> None:
    for part, numbers in (("train", range(6)), ("val", range(6, 8))):
        write_classes(tmp_path / part, "images", "labels", numbers)
    assert sorted(masks_of(tmp_path)["val"]) == [6, 7] and are_drawn(tmp_path, 2)


def test_masks_of_classes_in_folders_of_any_name_are_declared_by_the_line(tmp_path: Path) -> None:
    for video in range(4):
        write_classes(tmp_path / f"video{video}", "frames", "truths", range(2 * video, 2 * video + 2))
    fault = faults_of(tmp_path)[0]
    assert fault.fix.patch == {"images": "frames", "masks": "truths"}
    paste(tmp_path, fault.fix.text)
    assert are_drawn(tmp_path, 2)
    assert open_dataset(tmp_path).class_names == ("background", "leaf", "spot")


def test_images_in_two_bands_are_asked_about_colour_first(tmp_path: Path) -> None:
    for band in ("nir", "rgb"):
        write(tmp_path, f"images/{band}/{{0}}.png", "masks/{0}.png")
    assert faults_of(tmp_path)[0].fix.text.startswith('images: "images/rgb" and masks: masks or images: "images/nir"')
    paste(tmp_path, faults_of(tmp_path)[0].fix.text)
    assert are_drawn(tmp_path)


# Arrays and stacks


def test_stacks_of_which_one_has_a_word_more(tmp_path: Path) -> None:
    for name, numbers in (("training", range(6)), ("testing", range(6, 8))):
        save(tmp_path / f"{name}.tif", np.stack([picture(n)[..., 0] for n in numbers]))
        save(tmp_path / f"{name}_groundtruth.tif", np.stack([drawn(n) * np.uint8(255) for n in numbers]))
    dataset = open_dataset(tmp_path)
    assert {part: len(of) for part, of in dataset.splits.items()} == {"train": 5, "val": 1, "test": 2}
    records = read_records(dataset, ["test"], progress=False)["test"]
    assert [np.array_equal(r.mask, drawn(n)) for r, n in zip(records, (6, 7), strict=True)] == [True, True]


def test_channels_that_number_objects_of_a_class_each(tmp_path: Path) -> None:
    ids = np.stack([drawn(n, 2) for n in range(COUNT)])
    masks = np.stack([(ids == 1) * 5, (ids == 2) * 9, ids == 0], axis=-1).astype(float)
    save(tmp_path / "images.npy", np.stack([picture(n, 2) for n in range(COUNT)]))
    save(tmp_path / "masks.npy", masks)
    found = masks_of(tmp_path)
    assert all(
        np.array_equal(np.array([1, 2, 0])[mask], drawn(n, 2)) for of in found.values() for n, mask in of.items()
    )
    save(tmp_path / "masks.npy", (masks[..., :2] + [3, 0]).astype(np.uint16))  # a pixel with two numbers
    assert "holds class ids" in faults_of(tmp_path)[0].fix.text


@pytest.mark.parametrize("shape", [(COUNT,), (COUNT, 1)])
def test_labels_of_whole_images_are_named(tmp_path: Path, shape: tuple[int, ...]) -> None:
    save(tmp_path / "x_train.npy", np.stack([picture(n) for n in range(COUNT)]))
    save(tmp_path / "y_train.npy", np.arange(COUNT).reshape(shape) % 3)
    (fault,) = faults_of(tmp_path)
    assert "one label for each image" in fault.found and "class_folders_from_arrays" in fault.fix.text


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("train.h5", "h5py"),
        ("img/a.h5", "h5py"),
        ("ct/a.nii.gz", "nibabel"),
        ("x/a.mat", "scipy"),
        ("x.dcm", "dicom"),
    ],
)
def test_files_of_other_libraries_have_a_line_that_reads_them(tmp_path: Path, name: str, way: str) -> None:
    for place in (name, name.replace("img", "mask").replace("ct", "seg").replace("x/", "y/")):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(b"\x89HDF")
    assert way in faults_of(tmp_path)[0].fix.text


# COCO


def write_coco(root: Path, images: str, file: str, change: Callable[[dict], None] = lambda said: None) -> None:
    rows = []
    for number in range(COUNT):
        save(root / images.format(number), picture(number))
        inside = drawn(number).T.ravel()
        cuts = np.flatnonzero(np.diff(inside.astype(int))) + 1
        runs = np.diff([0, *cuts, inside.size]).tolist()
        rows.append({"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "area": 72})
        rows[-1]["segmentation"] = {"size": list(SIZE), "counts": [0, *runs] if inside[0] else runs}
    names = [Path(images.format(number)).name for number in range(COUNT)]
    said = {"images": [{"id": n, "file_name": name, "height": 24, "width": 32} for n, name in enumerate(names)]}
    said |= {"annotations": rows, "categories": [{"id": 1, "name": "cell"}]}
    change(said)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(said))


def _by_id(said: dict) -> None:
    said["annotations"] = {str(row["id"]): row for row in said["annotations"]}


def _by_address(said: dict) -> None:
    for row in said["images"]:
        row["coco_url"] = f"http://images.example.org/train2017/{row.pop('file_name')}"


@pytest.mark.parametrize(
    ("images", "file", "change"),
    [
        ("images/train_val/A172/{0}.png", "annotations/LIVECell/coco.json", lambda said: None),
        ("images/{0}.png", "annotations.json", _by_id),
        ("train2017/{0}.png", "lvis_v1_train.json", _by_address),
    ],
    ids=["deeper", "by id", "by address"],
)
def test_coco_as_published_sets_have_it(tmp_path: Path, images: str, file: str, change: Callable[[dict], None]) -> None:
    write_coco(tmp_path, images, file, change)
    assert are_drawn(tmp_path) and faults_of(tmp_path) == []


def test_a_name_that_is_there_twice_deeper_is_not_guessed(tmp_path: Path) -> None:
    write_coco(tmp_path, "images/a/b/{0}.png", "coco.json")
    save(tmp_path / "images" / "c" / "d" / "0.png", picture(1))
    assert [(fault.kind, fault.file) for fault in faults_of(tmp_path)] == [("missing-image", "0.png")]


# Values


def write_values(root: Path, values: list[int]) -> None:
    lut = np.array(values, np.uint8)
    for number in range(COUNT):
        save(root / "images" / f"{number}.png", picture(number, 3))
        ids = drawn(number, 3)
        mask = lut[ids]
        mask[:2] = values[-1]
        save(root / "masks" / f"{number}.png", mask)


@pytest.mark.parametrize("values", [[0, 8, 10, 13, 255], [1, 2, 3, 4, 255], [0, 5, 6, 7, 255]])
def test_255_behind_class_ids_is_not_labelled_by_the_line(tmp_path: Path, values: list[int]) -> None:
    write_values(tmp_path, values)
    (fault,) = faults_of(tmp_path)
    assert fault.kind == "not-contiguous"
    paste(tmp_path, fault.fix.text)
    found = {n: mask for of in masks_of(tmp_path).values() for n, mask in of.items()}
    assert all((mask[:2] == 255).all() and np.array_equal(mask[2:], drawn(n, 3)[2:]) for n, mask in found.items())


def test_where_255_may_be_a_grey_level_both_lines_are_told(tmp_path: Path) -> None:
    write_values(tmp_path, [0, 95, 140, 181, 255])
    other = "or, if 255 is not labelled, values: {0: 0, 95: 1, 140: 2, 181: 3, 255: ignore}"
    assert other in faults_of(tmp_path)[0].fix.text


def test_values_in_quotes_are_numbers(tmp_path: Path) -> None:
    write_values(tmp_path, [0, 5, 9, 13, 7])
    (tmp_path / "dataset.yaml").write_text('values: {"0": 0, "5": 1, "9": 2, "13": 3, "7": ignore}')
    assert faults_of(tmp_path) == []
    (tmp_path / "dataset.yaml").write_text('values: {"0": 0, 0: 1}')
    with pytest.raises(DataError, match="twice"):
        open_dataset(tmp_path)


def test_a_part_of_one_picture_with_its_mask_is_read_and_one_without_masks_said(tmp_path: Path) -> None:
    for part, numbers in (("train", range(5)), ("valid", range(5, 7)), ("test", range(7, 8))):
        write(tmp_path / part, "a{0}_jpg.rf.png", "a{0}_jpg.rf_mask.png", numbers)
    assert are_drawn(tmp_path) and {part: len(of_part) for part, of_part in masks_of(tmp_path).items()} == {
        "train": 5,
        "val": 2,
        "test": 1,
    }
    (tmp_path / "test" / "a7_jpg.rf_mask.png").unlink()
    assert "test/ has no masks and is left out" in open_dataset(tmp_path).notes


def test_masks_in_a_folder_of_a_version_below_that_of_the_images(tmp_path: Path) -> None:
    for part, numbers in (("training", range(5)), ("validation", range(5, COUNT))):
        write(tmp_path / part, "images/x{0}.png", "v1.2/labels/x{0}.png", numbers, classes=3)
        for number in numbers:
            save(tmp_path / part / f"v1.2/instances/x{number}.png", drawn(number, 3).astype(np.uint16) * 256)
            save(tmp_path / part / f"v1.2/panoptic/x{number}.png", drawn(number, 3)[..., None].repeat(3, -1))
    assert are_drawn(tmp_path, 3) and faults_of(tmp_path) == []


def test_masks_of_arrays_are_named_with_what_saves_them(tmp_path: Path) -> None:
    write(tmp_path, "images/a{0}.png", "masks/a{0}.png")
    for mask in (tmp_path / "masks").iterdir():
        mask.rename(mask.with_suffix(".mat"))
    (fault,) = faults_of(tmp_path)
    assert "a0.mat" in fault.found and "scipy.io.loadmat(FILE)" in fault.fix.text


def test_masks_numbered_from_another_number_have_no_line_that_pairs_them_wrongly(tmp_path: Path) -> None:
    for number in range(COUNT):
        save(tmp_path / "images" / f"{number}.png", picture(number))
        save(tmp_path / "masks" / f"{number + 1}.png", drawn(number))
    faults = faults_of(tmp_path)
    assert {fault.file for fault in faults} == {"images/0.png", "masks/8.png"}
    assert all(fault.fix.patch is None and "1.png is the mask of 0.png" in fault.fix.text for fault in faults)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("divides", [";", "\t", ","])
def test_tables_of_a_spreadsheet_make_the_parts(divides: str, encoding: str, tmp_path: Path) -> None:
    write(tmp_path, "images/a{0}.png", "masks/a{0}.png")
    rows = [("name", "split"), *((f"a{n}.png", "train" if n < 6 else "val") for n in range(COUNT))]
    (tmp_path / "split.csv").write_text("\n".join(map(divides.join, rows)), encoding=encoding)
    assert are_drawn(tmp_path) and sorted(masks_of(tmp_path)["val"]) == [6, 7]


def test_lists_and_colours_as_programs_of_windows_write_them(tmp_path: Path) -> None:
    write(tmp_path, "images/a{0}.png", "masks/a{0}.png", classes=2)
    for mask in (tmp_path / "masks").iterdir():
        save(mask, np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)[np.asarray(Image.open(mask))])
    (tmp_path / "class_dict.csv").write_text("name;r;g;b\nbg;0;0;0\na;255;0;0\nb;0;255;0\n", encoding="utf-8-sig")
    for part, numbers in (("train", range(6)), ("val", range(6, COUNT))):
        (tmp_path / f"{part}.txt").write_text("\n".join(f"a{n}" for n in numbers), encoding="utf-16")
    assert are_drawn(tmp_path, 2) and sorted(masks_of(tmp_path)["val"]) == [6, 7]
    assert open_dataset(tmp_path).class_names == ("bg", "a", "b")


def test_a_few_blends_at_the_edges_are_no_classes(tmp_path: Path) -> None:
    write(tmp_path, "images/a{0}.png", "masks/a{0}.png")
    for mask in (tmp_path / "masks").iterdir():
        wide = Image.open(mask).point(lambda value: value * 255).resize((64, 48), Image.Resampling.BILINEAR)
        wide.resize((32, 24), Image.Resampling.BILINEAR).save(mask)
    (fault,) = faults_of(tmp_path)
    assert fault.kind == "smeared-mask"


def test_a_list_of_the_test_part_alone_makes_it_in_letters_of_any_size(tmp_path: Path) -> None:
    write(tmp_path, "images/a{0}.png", "masks/a{0}.png")
    (tmp_path / "TEST.TXT").write_text("a6\na7\n")
    assert are_drawn(tmp_path) and sorted(masks_of(tmp_path)["test"]) == [6, 7]
    (tmp_path / "TEST.TXT").rename(tmp_path / "my_test_ids.txt")
    assert any(
        note.startswith("my_test_ids.txt names images and is passed over") for note in open_dataset(tmp_path).notes
    )


def test_a_table_of_pairs_and_parts_by_semicolons(tmp_path: Path) -> None:
    write(tmp_path, "d/a{0}.png", "e/x{0}.png")
    rows = ("image;mask;split", *(f"d/a{n}.png;e/x{n}.png;{'train' if n < 6 else 'val'}" for n in range(COUNT)))
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    assert are_drawn(tmp_path) and sorted(masks_of(tmp_path)["val"]) == [6, 7]
