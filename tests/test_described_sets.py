"""Data sets as people describe them: exports of tools, competitions and benchmarks, each read right or named."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from keras_unetres.data.dataset import open_dataset
from keras_unetres.data.findings import Finding
from keras_unetres.data.records import Records, read_records
from keras_unetres.doctor.check import check
from keras_unetres.doctor.fix import apply_fixes
from unetres_edge.errors import DataError

RNG = np.random.default_rng(0)
COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
SIDE = 16


def picture() -> np.ndarray:
    return RNG.integers(40, 220, (SIDE, SIDE, 3), np.uint8)


def drawn(number: int, classes: int = 1) -> np.ndarray:
    """Return ids 0..classes; class c has 8 + 4 c px and one more for each number."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for c in range(1, classes + 1):
        mask[2 * c, : 8 + 4 * (c % 2)] = c
        mask[2 * c + 1, : 1 + number % 4] = c
    return mask


def save(path: Path, pixels: np.ndarray | Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in (".tif", ".tiff"):
        tifffile.imwrite(path, np.asarray(pixels))
    else:
        (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path)


def save_pairs(root: Path, mask_of: Callable[[np.ndarray], np.ndarray | Image.Image], classes: int = 1) -> None:
    """Write eight images and masks made of ids."""
    for number in range(8):
        save(root / "images" / f"{number}.png", picture())
        save(root / "masks" / f"{number}.png", mask_of(drawn(number, classes)))


def read(root: Path) -> dict[str, Records]:
    dataset = open_dataset(root)
    return read_records(dataset, list(dataset.splits), progress=False)


def masks_of(root: Path) -> dict[str, np.ndarray]:
    """Return name without ending -> ids."""
    return {Path(record.name).stem: record.mask for records in read(root).values() for record in records}


def are_drawn(root: Path, classes: int = 1, ids: np.ndarray | None = None) -> bool:
    """Whether the mask of every image is what was drawn for the number that its name ends with."""
    lut = np.arange(256) if ids is None else ids
    found = masks_of(root)
    return bool(found) and all((mask == lut[drawn(int(name[-1]), classes)]).all() for name, mask in found.items())


def faults_of(root: Path) -> list[Finding]:
    return check(root, hashes="off", progress=False).faults


def paste(root: Path, text: str) -> None:
    """Write lines of a fix, the first of several ways, as a person pastes them."""
    (root / "dataset.yaml").write_text(text.split(" or ")[0].replace(" and ", "\n"))


def test_colours_of_palettes_in_any_order_are_a_class_each(tmp_path: Path) -> None:
    def shuffled(ids: np.ndarray) -> Image.Image:
        order = RNG.permutation(4)
        image = Image.fromarray(order[ids].astype(np.uint8), "P")
        image.putpalette(COLORS[np.argsort(order)].ravel().tolist())
        return image

    save_pairs(tmp_path, shuffled, 3)
    paste(tmp_path, faults_of(tmp_path)[0].fix.text)
    pixels = {name: np.bincount(mask.ravel()).tolist() for name, mask in masks_of(tmp_path).items()}
    assert all(
        sorted(found) == sorted(np.bincount(drawn(int(name), 3).ravel()).tolist()) for name, found in pixels.items()
    )
    assert len({len(found) for found in pixels.values()}) == 1 and faults_of(tmp_path) == []


def test_a_value_below_0_is_not_labelled(tmp_path: Path) -> None:
    for number in range(8):
        ids = drawn(number, 2).astype(np.int16)
        ids[-2:] = -1
        save(tmp_path / "images" / f"{number}.png", picture())
        save(tmp_path / "masks" / f"{number}.tif", ids)
    (fault,) = faults_of(tmp_path)
    assert fault.fix.text == "ignore: -1"
    paste(tmp_path, fault.fix.text)
    assert all((mask[-2:] == 255).all() and mask[:-2].max() == 2 for mask in masks_of(tmp_path).values())


def test_names_without_a_background_and_one_value_more_are_asked_about(tmp_path: Path) -> None:
    save_pairs(tmp_path, lambda ids: ids, 3)
    (tmp_path / "classes.txt").write_text("ground\ntree\nroof\n")
    fault = faults_of(tmp_path)[0]
    named, counted_from_1 = fault.fix.text.split(", or, if 0 is not labelled, ")
    assert fault.fix.patch is None
    paste(tmp_path, named)
    assert are_drawn(tmp_path, 3)
    paste(tmp_path, counted_from_1)
    assert are_drawn(tmp_path, 3, np.array([255, 0, 1, 2]))


def test_a_usual_value_with_a_gap_below_it_is_a_class(tmp_path: Path) -> None:
    save_pairs(tmp_path, lambda ids: np.array([0, 1, 13], np.uint8)[ids], 2)
    (fault,) = faults_of(tmp_path)
    assert fault.fix.text == "values: {0: 0, 1: 1, 13: 2}"
    paste(tmp_path, fault.fix.text)
    assert are_drawn(tmp_path, 2)


def test_masks_of_several_people_are_not_classes(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "images" / f"{number}.png", picture())
        for person in (1, 2, 3):
            save(tmp_path / "masks" / f"annotator{person}" / f"{number}.png", drawn(number + person - 1) * 255)
    (fault,) = faults_of(tmp_path)
    assert "several people" in fault.found
    paste(tmp_path, fault.fix.text)
    assert are_drawn(tmp_path)


def test_heights_are_not_the_images(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "1_DSM" / f"dsm_02_{number}.tif", picture()[..., 0].astype(np.float32))
        save(tmp_path / "2_Ortho_RGB" / f"top_2_{number}_RGB.tif", picture())
        save(tmp_path / "5_Labels_all" / f"top_2_{number}_label.tif", drawn(number))
    files = {sample.image.file.parent.name for sample in open_dataset(tmp_path).split("all")}
    assert files == {"2_Ortho_RGB"}


def test_a_category_that_is_the_group_of_all_others_is_no_class(tmp_path: Path) -> None:
    square = [2, 2, 8, 2, 8, 8, 2, 8]
    row = {"category_id": 1, "segmentation": [square], "bbox": [2, 2, 6, 6], "area": 36, "iscrowd": 0}
    images = [{"id": n, "file_name": f"{n}.png", "width": SIDE, "height": SIDE} for n in range(6)]
    for n in range(6):
        save(tmp_path / f"{n}.png", picture())
    categories = [{"id": 0, "name": "parts", "supercategory": "none"}]
    categories += [{"id": 1, "name": "bolt", "supercategory": "parts"}]
    said = {"images": images, "categories": categories, "annotations": [{"id": n, "image_id": n} | row for n in (0, 1)]}
    (tmp_path / "_annotations.coco.json").write_text(json.dumps(said))
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("background", "bolt")
    assert [note for note in dataset.notes if "4 images without an annotation" in note]


def test_several_kinds_of_masks_are_asked_about(tmp_path: Path) -> None:
    for number in range(6):
        name = f"aachen_{number}"
        save(tmp_path / "leftImg8bit" / "train" / "aachen" / f"{name}_leftImg8bit.png", picture())
        save(tmp_path / "gtFine" / "train" / "aachen" / f"{name}_gtFine_labelIds.png", drawn(number) + 7)
        save(tmp_path / "gtFine" / "train" / "aachen" / f"{name}_gtFine_labelTrainIds.png", drawn(number))
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.fix.patch) == ("ambiguous-names", None)
    (tmp_path / "dataset.yaml").write_text('exclude: ["*_gtFine_labelIds.png"]')
    found = masks_of(tmp_path)
    assert len(found) == 6 and all(set(np.unique(mask)) == {0, 1} for mask in found.values())


@pytest.mark.parametrize("forms", [("tiff",), ("tiff", "png")])
def test_a_table_of_pairs_has_parts_forms_and_lines_without_a_mask(tmp_path: Path, forms: tuple[str, ...]) -> None:
    head = ["image_id", "split"] + [f"{form}_{what}_path" for form in forms for what in ("image", "label")]
    rows = [",".join(head)]
    for part, numbers in (("train", range(4)), ("valid", range(4, 6)), ("test", range(6, 8))):
        for n in numbers:
            save(tmp_path / part / f"{n}.tiff", picture())
            save(tmp_path / f"{part}_labels" / f"{n}.tif", np.repeat(drawn(n)[..., None] * np.uint8(255), 3, 2))
            files = [f"{part}/{n}.tiff,{part}_labels/{n}.tif"] + [f"{part}/{n}.png,{part}_labels/{n}.png"]
            rows.append(f"{n},{part},{','.join(files[: len(forms)])}")
    save(tmp_path / "test" / "9.tiff", picture())
    rows.append(f"9,test,test/9.tiff,{',,' * (len(forms) - 1)}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    dataset = open_dataset(tmp_path)
    assert {part: len(found) for part, found in dataset.splits.items()} == {"train": 4, "val": 2, "test": 2}
    assert are_drawn(tmp_path) and any("1 line" in note for note in dataset.notes)


def test_a_folder_of_training_and_validation_together(tmp_path: Path) -> None:
    for part, count in (("train_val", 6), ("TEST", 3)):
        for number in range(count):
            save(tmp_path / part / "images" / f"{number}.png", picture())
            save(tmp_path / part / "masks" / f"{number}.png", drawn(number))
    save(tmp_path / "TEST" / "masks" / "one_class" / "1.png", drawn(1))
    (fault,) = faults_of(tmp_path)
    assert fault.fix.patch == {"exclude": ["one_class/1.png"]}
    paste(tmp_path, fault.fix.text)
    assert {part: len(found) for part, found in read(tmp_path).items()} == {"train": 5, "val": 1, "test": 3}
    assert are_drawn(tmp_path)


def _table_of_runs(root: Path) -> None:
    rows = ["ImageId,ClassId,EncodedPixels"]
    for number in range(8):
        save(root / "train_images" / f"{number}.jpg", np.repeat(drawn(number)[..., None] * np.uint8(200), 3, 2))
        runs = [f"{x * SIDE + y + 1} 1" for x in range(SIDE) for y in range(SIDE) if drawn(number)[y, x]]
        rows += [f"{number}.jpg,1,{' '.join(runs)}"] * (number > 1)
    save(root / "test_images" / "t0.jpg", picture())
    (root / "train.csv").write_text("\n".join(rows))


def _without(name: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for number in range(8):
            beside = name == "beside"
            save(root / ("." if beside else "images") / f"{number}.png", picture())
            mask = root / (f"{number}_mask.png" if beside else f"masks/{number}.png")
            if name == "classes":
                mask = root / "masks" / "cell" / f"{number}.png"
                if number > 1:
                    save(root / "masks" / "gap" / f"{number}.png", np.zeros((SIDE, SIDE), np.uint8))
            if number > 1:
                save(mask, drawn(number) * np.uint8(255))

    return write


@pytest.mark.parametrize(
    "write", [_without("folders"), _without("beside"), _without("classes"), _table_of_runs], ids=["f", "b", "c", "runs"]
)
def test_images_without_a_mask_show_the_background_where_that_is_declared(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path)
    (tmp_path / "dataset.yaml").write_text("without_masks: background")
    found = masks_of(tmp_path)
    assert sorted(found) == [str(n) for n in range(8)]
    assert all((mask == drawn(int(name)) * (int(name) > 1)).all() for name, mask in found.items())


def test_the_other_line_for_images_without_a_mask_is_told(tmp_path: Path) -> None:
    _without("folders")(tmp_path)
    fault = faults_of(tmp_path)[0]
    assert fault.fix.text == 'exclude: ["0.png"]  # or, if nothing is on it, without_masks: background'


def test_an_image_and_its_mask_may_differ_in_the_ending_alone(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "defects" / f"{number}.jpg", picture())
        save(tmp_path / "defects" / f"{number}.png", drawn(number) * np.uint8(255))
    assert are_drawn(tmp_path) and faults_of(tmp_path) == []


def test_masks_of_two_people_in_one_folder_are_asked_about(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "images" / f"s{number}.png", picture())
        for person in (1, 2):
            save(tmp_path / "masks" / f"s{number}_anno{person}.png", drawn(number + person - 1) * np.uint8(255))
    paste(tmp_path, faults_of(tmp_path)[0].fix.text)
    assert are_drawn(tmp_path)


def test_folders_below_images_and_masks_may_say_the_part(tmp_path: Path) -> None:
    for part, numbers in (("train", range(4)), ("val", range(4, 6))):
        for n in numbers:
            save(tmp_path / "images" / f"{part}_images" / f"{n}.jpg", picture())
            save(tmp_path / "labels" / f"{part}_segmentations" / f"{n}.png", drawn(n))
    assert {part: len(found) for part, found in read(tmp_path).items()} == {"train": 4, "val": 2}
    assert are_drawn(tmp_path)


def test_names_of_folders_may_say_the_part(tmp_path: Path) -> None:
    for part, numbers in (("Training", range(4)), ("Validation", range(4, 6)), ("Test", range(6, 8))):
        for n in numbers:
            save(tmp_path / f"ISIC_Task1-2_{part}_Input" / f"ISIC_{n}.jpg", picture())
            save(tmp_path / f"ISIC_Task1_{part}_GroundTruth" / f"ISIC_{n}_segmentation.png", drawn(n) * np.uint8(255))
    assert {part: len(found) for part, found in read(tmp_path).items()} == {"train": 4, "val": 2, "test": 2}
    assert are_drawn(tmp_path)


def test_images_of_8_bits_that_hold_0_and_1_are_said(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "images" / f"{number}.png", RNG.integers(0, 2, (SIDE, SIDE), np.uint8))
        save(tmp_path / "masks" / f"{number}.png", drawn(number))
    found = check(tmp_path, hashes="off", progress=False)
    assert found.faults == [] and [f.kind for f in found.warnings] == ["few-levels"]
    assert "6 of 6 images of 8 bits" in found.warnings[0].found


def test_more_classes_than_255_have_a_line_that_reads(tmp_path: Path) -> None:
    save_pairs(tmp_path, lambda ids: ids.astype(np.uint16) * 299)
    (tmp_path / "classes.txt").write_text("\n".join(f"class {n}" for n in range(300)))
    (fault,) = faults_of(tmp_path)
    paste(tmp_path, fault.fix.text.partition("such as ")[2])
    assert are_drawn(tmp_path)


def test_numbers_of_objects_may_have_a_gap_in_a_few_masks(tmp_path: Path) -> None:
    for number in range(20):
        ids = np.zeros((SIDE, SIDE), np.uint8)
        for place in range(3 + number % 6):
            ids[2 * (7 - place) : 2 * (7 - place) + 1, 3:6] = place + 1
        ids[ids == 2] = 0 if number == 5 else 2
        save(tmp_path / f"train_{number}.bmp", picture())
        save(tmp_path / f"train_{number}_anno.bmp", ids)
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.fix.patch) == ("instance-ids", {"masks_are": "instances"})


def test_one_set_in_two_formats_is_not_joined(tmp_path: Path) -> None:
    for number in range(4):
        image = picture()
        for form, ending in (("PNG", "png"), ("TIF", "tif")):
            save(tmp_path / form / "Original" / f"{number}.{ending}", image)
            save(tmp_path / form / "Ground Truth" / f"{number}.{ending}", drawn(number))
    (fault,) = faults_of(tmp_path)
    assert fault.fix.patch is None and fault.fix.text.startswith("name one, such as")


def test_samples_of_several_arrays_have_names_of_their_own(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        masks = np.stack([np.pad(drawn(number), (0, 4)) for number in range(4)])
        masks[0] = 9 if part == "val" else masks[0]
        images = RNG.integers(0, 256, (4, SIDE + 4, SIDE + 4, 3), np.uint8)
        np.savez(tmp_path / f"set_{part}.npz", X=images, y=masks)
    checkup = check(tmp_path, hashes="off", progress=False)
    declared, undecided = apply_fixes({}, checkup)
    assert {fault.where.image for fault in checkup.faults} == {"set_val_0000"} and not undecided
    (tmp_path / "dataset.yaml").write_text(json.dumps(declared))
    assert faults_of(tmp_path) == []


def test_frames_of_the_cell_tracking_challenge(tmp_path: Path) -> None:
    root = tmp_path / "Fluo"
    for sequence in ("01", "02", "03"):
        gold, silver = (root / f"{sequence}_{truth}" for truth in ("GT", "ST"))
        for number in range(4):
            save(root / sequence / f"t{number:03d}.tif", picture()[..., 0])
            save(gold / "TRA" / f"man_track{number:03d}.tif", np.eye(SIDE, dtype=np.uint16))
            save(silver / "SEG" / f"man_seg{number:03d}.tif", drawn(number) * np.uint16(9))
            if number % 2 and sequence != "02":
                save(gold / "SEG" / f"man_seg{number:03d}.tif", drawn(number) * np.uint16(7))
    dataset = open_dataset(tmp_path)
    parts = {part: sorted({sample.name.split("/")[0] for sample in found}) for part, found in dataset.splits.items()}
    assert sorted(sum(parts.values(), [])) == ["01", "02", "03"]
    records = read_records(dataset, ["all"], progress=False)["all"]
    assert len(records) == 2 + 4 + 2 and records.classes.names == ("background", "object")
    assert all((record.mask == drawn(int(record.name[-5]))).all() for record in records)


def test_folders_deeper_than_usual_are_named(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "images" / "10k" / "train" / f"{number}.png", picture())
        save(tmp_path / "labels" / "sem_seg" / "masks" / "train" / f"{number}.png", drawn(number))
        save(tmp_path / "labels" / "sem_seg" / "colormaps" / "train" / f"{number}.png", COLORS[drawn(number)])
    text = faults_of(tmp_path)[0].fix.text
    assert 'images: "images/10k" and masks: "labels/sem_seg/masks"' in text.split(" or ")
    (tmp_path / "dataset.yaml").write_text('images: "images/10k"\nmasks: "labels/sem_seg/masks"\n')
    assert are_drawn(tmp_path)


def _with_files(files: Mapping[str, bytes | str], image: str = "image/{}.png") -> Callable[[Path], None]:
    """Return what writes six images, and beside them files whose names and texts have {} for the number."""

    def write(root: Path) -> None:
        for number in range(6):
            save(root / image.format(number), picture())
            for name, content in files.items():
                file = root / name.format(number)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def _mattes(root: Path) -> None:
    for number in range(6):
        save(root / "image" / f"{number}.jpg", picture())
        save(root / "matte" / f"{number}.png", picture()[..., 0])


def _bands(root: Path) -> None:
    for number in range(6):
        for band in ("B02", "B03", "B04"):
            save(root / f"patch_{number}" / f"{band}.tif", picture()[..., 0])
        save(root / f"patch_{number}" / "mask.tif", drawn(number) * np.uint8(255))


def _no_images(root: Path) -> None:
    for folder in ("SegmentationClass", "SegmentationObject"):
        for number in range(6):
            save(root / folder / f"{number}.png", COLORS[drawn(number)])
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\nleaf:255,0,0::\n")


def _in_degrees(root: Path) -> None:
    ring = [[13.30, 52.1], [13.31, 52.1], [13.31, 52.11], [13.30, 52.1]]
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    said: dict[str, Any] = {"type": "FeatureCollection", "features": [feature]}
    _with_files({"{}.geojson": json.dumps(said)}, "{}.png")(root)


def _nothing_drawn(root: Path) -> None:
    save_pairs(root, np.zeros_like)
    (root / "classes.txt").write_text("background\ncell\n")


ROW = '{"data_row": {"external_id": "0.png"}, "second": "1.png"}'
NAMED: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "MATLAB": (_with_files({"groundTruth/{}.mat": b"MATLAB", "seg/{}.seg": b""}), "6 files *.mat", "PNG of class ids"),
    "Cellpose": (_with_files({"{}_seg.npy": b"\x93NUMPY"}, "{}.png"), "0_seg.npy", "_cp_masks.png"),
    "Labelbox": (_with_files({"export.ndjson": ROW}, "images/{}.png"), "no form of masks", "COCO"),
    "polygons": (_with_files({"p.jsonl": '{"id": "00f0"}\n{"id": "00f1"}'}, "train/00f{}.png"), "no form", "COCO"),
    "places": (_with_files({"buildings/b_{}.geojson": "{}"}, "PS-RGB/i_{}.png"), ".geojson files", "masks"),
    "YOLO's": (_with_files({"dataset.yaml": "names: [a]\ntrain: x\nnc: 1\n"}), "unknown keys", "data.yaml"),
    "mattes": (_mattes, "as mattes have", "images: image and masks: matte"),
    "bands": (_bands, "3 images and mask.tif", "one TIFF"),
    "no images": (_no_images, "masks without their images", "Save images"),
    "degrees": (_in_degrees, "degrees?", "exclude"),
    "nothing drawn": (_nothing_drawn, "no class but background in any of 8 masks", "add masks"),
}


@pytest.mark.parametrize("case", NAMED)
def test_what_is_not_read_is_named(tmp_path: Path, case: str) -> None:
    write, found, fix = NAMED[case]
    write(tmp_path)
    fault = faults_of(tmp_path)[0]
    assert found in fault.found
    assert fix in fault.fix.text


def test_a_table_that_names_no_image_is_refused(tmp_path: Path) -> None:
    _table_of_runs(tmp_path)
    table = tmp_path / "train.csv"
    table.write_text(table.read_text().replace(".jpg", "_slice"))
    with pytest.raises(DataError, match="no line of the table names an image"):
        open_dataset(tmp_path)


def test_classes_that_are_there_are_known(tmp_path: Path) -> None:
    _nothing_drawn(tmp_path)
    assert read(tmp_path)["train"].present == {0}
    save(tmp_path / "masks" / "0.png", drawn(0))
    assert set().union(*(records.present for records in read(tmp_path).values())) == {0, 1}
