"""Every format of data sets gives class ids that equal an independent oracle in every pixel, or is refused by name.

The first half reads the small folders of `formats/` among the real data sets; run this file to see them as a table. The
second half writes what those lack: every kind of COCO annotation, labelme's shapes, lists, colour tables, stacks.
"""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw
from real_sets import DATA, real

from keras_unetres.data import Record, Records, open_dataset, read_records
from keras_unetres.data.forms import camvid
from unetres_edge.errors import DataError, UnetresError
from unetres_edge.images.preprocessing import IGNORE

FORMATS = DATA / "formats"
with_folders = real("formats")


def read_all(place: Path | str, **changes: object) -> Records:
    return read_records(open_dataset(place, changes=changes), ["all"], progress=False)["all"]


def masks_of(place: Path | str, **changes: object) -> dict[str, np.ndarray]:
    return {record.name: record.mask for record in read_all(place, **changes)}


def same_objects(found: np.ndarray | None, right: np.ndarray) -> bool:
    """Whether two maps show the same objects, whatever their numbers; 0 is none in both."""
    if found is None or found.shape != right.shape or not ((found == 0) == (right == 0)).all():
        return False
    pairs = np.unique(np.stack([found.ravel(), right.ravel()]), axis=1)
    return len(set(pairs[0])) == len(set(pairs[1])) == pairs.shape[1]


# --- The real folders ------------------------------------------------------------------------------------------------

Oracle = Callable[[Path, Record], tuple[np.ndarray, np.ndarray | None]]


def coco_oracle(*files: str) -> Oracle:
    """pycocotools' COCO class, combined by the documented rule: crowds and boxes below, the smaller object on top."""

    def right(folder: Path, record: Record) -> tuple[np.ndarray, np.ndarray]:
        from pycocotools import mask as drawing
        from pycocotools.coco import COCO

        stdout, sys.stdout = sys.stdout, io.StringIO()  # it prints
        try:
            sets = [COCO(folder / file) for file in files]
        finally:
            sys.stdout = stdout
        coco, image = next((c, i) for c in sets for i in c.dataset["images"] if i["file_name"] == record.name)
        categories = sorted(c["id"] for c in coco.dataset["categories"] if c["name"] != "_background_")
        ids, objects = np.zeros((2, image["height"], image["width"]), int)
        chosen = []
        for annotation in coco.imgToAnns[image["id"]]:
            if annotation.get("segmentation"):
                runs = coco.annToRLE(annotation)
                assert (coco.annToMask(annotation) == drawing.decode(runs)).all()
                chosen.append((not annotation["iscrowd"], -int(drawing.area(runs)), drawing.decode(runs), annotation))
            else:
                box = drawing.frPyObjects(np.array([annotation["bbox"]]), image["height"], image["width"])
                chosen.append((False, 0, drawing.decode(box)[..., 0], annotation))
        for is_object, _, inside, annotation in sorted(chosen, key=lambda item: item[:2]):
            ids[inside > 0] = categories.index(annotation["category_id"]) + 1 if is_object else 255
            objects[inside > 0] = annotation["id"] + 1 if is_object else 0
        return ids, objects

    return right


def panoptic_oracle(folder: Path, record: Record) -> tuple[np.ndarray, np.ndarray]:
    """id = R + 256 G + 65536 B; 7 is category 1, the first; 20 is a crowd; 0 is not labelled."""
    assert record.name == "b.jpg"
    colors = np.array(Image.open(folder / "annotations" / "panoptic_val" / "b.png")).astype(int)
    ids = colors @ [1, 256, 65536]
    return np.select([ids == 7, ids == 20, ids == 0], [0, 255, 255]), ids * 0  # the categories are no things


def npy_oracle(folder: Path, record: Record) -> tuple[np.ndarray, np.ndarray | None]:
    """labelme's own arrays, -1 for not labelled; and what Pillow reads from the palette."""
    stem = Path(record.name).stem
    ids = np.load(folder / "SegmentationClassNpy" / f"{stem}.npy")
    ids = np.where(ids == -1, 255, ids)
    assert (ids == np.array(Image.open(folder / "SegmentationClass" / f"{stem}.png"))).all()
    objects = folder / "SegmentationObjectNpy" / f"{stem}.npy"
    return ids, np.load(objects) if objects.is_file() else None


def labelme_oracle(folder: Path, record: Record) -> tuple[np.ndarray, np.ndarray | None]:
    """The arrays that labelme made of the same pictures, its class numbers brought to alphabetical order by name."""
    other = folder.parent / "labelme_instance_voc"
    names = (other / "class_names.txt").read_text().split("\n")
    used = ["_background_", "bottle", "bus", "car", "chair", "person", "sofa"]
    ids, objects = npy_oracle(other, record)
    table = {names.index(name): place for place, name in enumerate(used)} | {255: 255}
    return np.vectorize(table.__getitem__)(ids), objects


CAMVID = {  # Brostow 2009: the place of the class in CamVid's list in alphabetical order
    (64, 128, 64): 0, (192, 0, 128): 1, (0, 128, 192): 2, (0, 128, 64): 3, (192, 128, 64): 7, (128, 64, 128): 17,
    (128, 128, 128): 21, (128, 128, 0): 26,
}  # fmt: skip


def camvid_oracle(folder: Path, record: Record) -> tuple[np.ndarray, None]:
    """Colours looked up one by one in a table written by hand."""
    file = next(folder.glob(f"*annot/{record.name}"))
    return np.array([[CAMVID[tuple(p)] for p in row] for row in np.array(Image.open(file)).tolist()]), None


def pillow_oracle(folder: Path, record: Record) -> tuple[np.ndarray, None]:
    return np.array(Image.open(folder / "labels" / record.name.replace(".png", "_P.png"))), None


def union_oracle(folder: Path, record: Record) -> tuple[np.ndarray, np.ndarray]:
    """The files of an image one after another, the smaller object on top; circle is class 1 and square 2."""
    stem = Path(record.name).stem
    files = sorted(folder.rglob(f"annotations/{stem}_*.png"))
    drawn = [(np.array(Image.open(file).convert("L")) > 0, file.stem.split("_")[1]) for file in files]
    ids, objects = np.zeros((2, *drawn[0][0].shape), int)
    for index in np.argsort([-inside.sum() for inside, _ in drawn], kind="stable"):
        inside, name = drawn[index]
        ids[inside], objects[inside] = {"circle": 1, "square": 2}[name], index + 1
    return ids, objects


def voc_oracle(folder: Path, record: Record) -> tuple[np.ndarray, np.ndarray]:
    """The one mask is green, (0, 128, 0), which is entry 2 of the palette: bicycle; its object is one colour."""
    return np.full((10, 20), 2), np.ones((10, 20), int)


INSTANCES = coco_oracle("annotations/instances_train.json", "annotations/instances_val.json")


class Row(NamedTuple):
    """A real folder: its format, number of images, what it is compared with, and how many pixels may differ."""

    folder: str
    format: str
    images: int
    oracle: Oracle
    compared: str
    differ: int = 0


ROWS = [
    Row("datumaro_coco/coco", "coco", 2, INSTANCES, "pycocotools.coco.COCO"),
    Row("datumaro_coco/coco_instances", "coco", 2, INSTANCES, "pycocotools.coco.COCO"),
    Row("datumaro_coco/mmdet_coco", "coco", 2, INSTANCES, "pycocotools.coco.COCO"),
    Row(
        "datumaro_coco/coco_roboflow", "coco", 2,
        coco_oracle("train/_annotations.coco.json", "val/_annotations.coco.json"), "pycocotools.coco.COCO",
    ),
    Row(
        "datumaro_coco/coco_person_keypoints", "coco", 2,
        coco_oracle("annotations/person_keypoints_train.json", "annotations/person_keypoints_val.json"),
        "pycocotools.coco.COCO",
    ),
    Row(
        "datumaro_coco/coco_panoptic", "coco", 1, panoptic_oracle,
        "R + 256 G + 65536 B (val; the map of train has another size, refused)",
    ),
    Row("icevision_coco", "coco", 6, coco_oracle("annotations.json"), "pycocotools.coco.COCO"),
    Row("labelme_instance_coco", "coco", 3, coco_oracle("annotations.json"), "pycocotools.coco.COCO"),
    Row("labelme_instance_voc", "voc", 3, npy_oracle, "labelme's .npy, and Pillow's indices"),
    Row("labelme_semantic_voc", "voc", 3, npy_oracle, "labelme's .npy, and Pillow's indices"),
    Row("datumaro_voc/voc_dataset1", "voc", 1, voc_oracle, "by hand: all of palette colour 2"),
    Row("labelme_json", "labelme", 3, labelme_oracle, "labelme's .npy of the same pictures", differ=2),
    Row("datumaro_camvid", "camvid", 4, camvid_oracle, "colours by a table written by hand"),
    Row("icevision_camvid_fastai", "folders", 5, pillow_oracle, "Pillow's values"),
    Row("pycococreator_examples", "objects", 2, union_oracle, "the files of an image, united"),
]  # fmt: skip

REFUSED = {
    "datumaro_coco/coco_stuff": "all of them crowds",
    "datumaro_coco/coco_labels": "the annotations hold no masks",
    "datumaro_coco/coco_captions": "the annotations hold no masks",
    "datumaro_coco/coco_image_info": "the annotations hold no masks",
    "datumaro_coco": "several data sets.*coco, coco_captions, coco_image_info",
    "datumaro_voc/voc_dataset2": "boxes, not masks",
    "datumaro_voc/voc_dataset3": "boxes, not masks",
    "datumaro_relaxed_voc1": "boxes, not masks",
    "icevision_fridge_voc": "boxes, not masks",
    "labelme_bbox_voc": "boxes, not masks",
}


def records_of(row: Row, work: Path) -> Records:
    """Read a real folder; of the panoptic one the part that can be read."""
    place: Path = FORMATS / row.folder
    if row.folder.endswith("panoptic"):
        place = work / "val.yaml"
        (work / "panoptic").symlink_to(FORMATS / row.folder)  # a file may name places below its own folder alone
        place.write_text("path: panoptic\nsplits: {train: annotations/panoptic_val.json}\nformat: coco\n")
    return read_all(place)


def table_rows(work: Path) -> Iterator[tuple[str, str, int, str, str]]:
    """Yield (format, folder, images, class ids, oracle) of each real folder."""
    for row in ROWS:
        records = records_of(row, work)
        ids = sorted({int(value) for record in records for value in np.unique(record.mask)})
        worst = max(int((record.mask != row.oracle(FORMATS / row.folder, record)[0]).sum()) for record in records)
        said = f"{row.compared}: " + ("every pixel equal" if worst == 0 else f"at most {worst} px of an image differ")
        yield row.format, row.folder, len(records), " ".join(map(str, ids)), said
    for folder in REFUSED:
        try:
            read_all(FORMATS / folder)
        except DataError as error:
            yield "none", folder, 0, "", f"refused: {error.message}"


@with_folders
@pytest.mark.data
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.folder)
def test_a_real_folder_equals_its_oracle(row: Row, tmp_path: Path) -> None:
    records = records_of(row, tmp_path)
    assert len(records) == row.images
    found = {record.name for record in records}
    assert len(found) == row.images
    for record in records:
        ids, objects = row.oracle(FORMATS / row.folder, record)
        assert record.mask.dtype == np.uint8
        # Pillow has changed by a pixel how it draws outlines since labelme wrote its arrays.
        assert (record.mask != ids).sum() <= row.differ
        if objects is None:
            assert record.instances is None
        elif row.differ:
            assert record.instances is not None and (record.instances != objects).sum() <= row.differ
        else:
            assert same_objects(record.instances, objects)


@with_folders
@pytest.mark.data
@pytest.mark.parametrize("row", [row for row in ROWS if "panoptic" not in row.folder], ids=lambda row: row.folder)
def test_the_format_is_found_by_looking(row: Row) -> None:
    assert open_dataset(FORMATS / row.folder).format == row.format


@with_folders
@pytest.mark.data
def test_tiny_annotations_by_hand() -> None:
    masks = masks_of(FORMATS / "datumaro_coco" / "coco")
    right = np.zeros((10, 5), int)
    right[:, :2] = 255  # a crowd of 20 px in columns, as run lengths without compression
    right[:2, 0] = 1
    np.testing.assert_array_equal(masks["b.jpg"], right)
    right = np.zeros((5, 10), int)
    right[2, 2:5] = 255  # a box alone
    np.testing.assert_array_equal(masks["a.jpg"], right)
    classes = read_all(FORMATS / "datumaro_coco" / "coco").classes
    assert classes.names == ("background", "a", "b", "c")  # ids 1, 2 and 4


@with_folders
@pytest.mark.data
def test_a_panoptic_map_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match=r"panoptic_train/a\.png.*different sizes: image 10 x 5, mask 5 x 5"):
        read_all(FORMATS / "datumaro_coco" / "coco_panoptic")


@with_folders
@pytest.mark.data
@pytest.mark.parametrize("folder", REFUSED)
def test_a_folder_without_masks_is_refused_by_name(folder: str) -> None:
    with pytest.raises(DataError, match=REFUSED[folder]):
        open_dataset(FORMATS / folder)


# --- COCO ------------------------------------------------------------------------------------------------------------

SIZE = (12, 16)


def save(path: Path, values: np.ndarray | None = None) -> Path:
    """Write an image: the values, or a grey one of SIZE."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(SIZE, 77, np.uint8) if values is None else values).save(path)
    return path


def coco(*annotations: Mapping[str, Any], names: Mapping[int, str] | None = None, **changes: Any) -> dict[str, Any]:
    """Return the content of an annotation file of one image, a.png with id 7."""
    names = names or {1: "cat", 2: "dog"}
    return {
        "images": [{"id": 7, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": key, "name": name} for key, name in names.items()],
        "annotations": [
            {"id": place, "image_id": 7, "category_id": 1, "iscrowd": 0, **annotation}
            for place, annotation in enumerate(annotations, 1)
        ],
        **changes,
    }


def write_coco(root: Path, content: object, file: str = "annotations.json", image: str | None = "images/a.png") -> Path:
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(content))
    if image:
        save(root / image)
    return root


def box(x: int, y: int, width: int, height: int) -> list[list[int]]:
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def filled(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    """Return zeros of SIZE with boxes (value, x, y, width, height), later ones on top."""
    mask = np.zeros(SIZE, int)
    for value, x, y, width, height in boxes:
        mask[y : y + height, x : x + width] = value
    return mask


def runs(mask: np.ndarray) -> list[int]:
    """Return run lengths in columns, background first."""
    flat = np.concatenate([[0], mask.T.ravel() > 0, [2]])
    ends = np.flatnonzero(np.diff(flat))
    return np.diff([0, *ends]).tolist() if flat[1] in (0, 1) else []


def one_mask(root: Path) -> np.ndarray:
    return read_all(root)[0].mask


SHAPE = filled((1, 3, 2, 6, 5), (0, 5, 3, 2, 2))


def compressed(mask: np.ndarray) -> dict[str, Any]:
    from pycocotools import mask as drawing

    made = drawing.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(made["size"]), "counts": made["counts"].decode()}


@pytest.mark.parametrize("crowd", [0, 1])
@pytest.mark.parametrize("form", ["counts", "string"])
def test_both_forms_of_run_lengths(tmp_path: Path, form: str, crowd: int) -> None:
    drawn = {"size": list(SIZE), "counts": runs(SHAPE)} if form == "counts" else compressed(SHAPE)
    write_coco(tmp_path, coco({"segmentation": drawn, "iscrowd": crowd}, {"segmentation": box(14, 0, 2, 2)}))
    np.testing.assert_array_equal(one_mask(tmp_path), SHAPE * (255 if crowd else 1) + filled((1, 14, 0, 2, 2)))


def test_compressed_runs_of_noise(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((300, 200)) < 0.5
    mask[:, 50:150] = True
    content = coco({"segmentation": compressed(mask)})
    content["images"][0] |= {"height": 300, "width": 200}
    write_coco(tmp_path, content)
    save(tmp_path / "images" / "a.png", np.zeros(mask.shape, np.uint8))
    np.testing.assert_array_equal(one_mask(tmp_path), mask)


def test_a_polygon_of_several_parts_is_one_object(tmp_path: Path) -> None:
    write_coco(tmp_path, coco({"segmentation": box(0, 0, 4, 4) + box(2, 2, 5, 5) + box(12, 9, 2, 2)}))
    right = filled((1, 0, 0, 4, 4), (1, 2, 2, 5, 5), (1, 12, 9, 2, 2))
    record = read_all(tmp_path)[0]
    np.testing.assert_array_equal(record.mask, right)
    assert same_objects(record.instances, right)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2]])
def test_smaller_objects_lie_on_top_and_crowds_below(tmp_path: Path, order: list[int]) -> None:
    annotations = [
        {"segmentation": box(0, 0, 10, 10), "iscrowd": 1},
        {"segmentation": box(2, 2, 9, 8), "category_id": 2},
        {"segmentation": box(4, 4, 3, 3)},
    ]
    write_coco(tmp_path, coco(*(annotations[i] for i in order)))
    record = read_all(tmp_path)[0]
    np.testing.assert_array_equal(record.mask, filled((255, 0, 0, 10, 10), (2, 2, 2, 9, 8), (1, 4, 4, 3, 3)))
    assert same_objects(record.instances, filled((2, 2, 2, 9, 8), (1, 4, 4, 3, 3)))
    instances = read_all(tmp_path, masks_are="instances")[0].mask
    np.testing.assert_array_equal(instances, filled((255, 0, 0, 10, 10), (1, 2, 2, 9, 8)))


def test_of_two_objects_of_one_size_the_later_is_on_top(tmp_path: Path) -> None:
    write_coco(tmp_path, coco({"segmentation": box(0, 0, 4, 4)}, {"segmentation": box(2, 2, 4, 4), "category_id": 2}))
    np.testing.assert_array_equal(one_mask(tmp_path), filled((1, 0, 0, 4, 4), (2, 2, 2, 4, 4)))


def test_an_outline_that_encloses_nothing_is_said(tmp_path: Path) -> None:
    line, point = [[1, 1, 5, 3, 9, 5]], [[4, 4, 4, 4, 4, 4]]
    drawn = [box(2, 2, 2, 2), line, point, line + box(6, 6, 2, 2)]
    write_coco(tmp_path, coco(*({"segmentation": each} for each in drawn)))
    np.testing.assert_array_equal(one_mask(tmp_path), filled((1, 2, 2, 2, 2), (1, 6, 6, 2, 2)))
    warnings = open_dataset(tmp_path).warnings
    assert [(w.file, w.kind) for w in warnings] == [("a.png", "flat-outline")] * 2
    assert "all corners of annotation" in str(warnings[0])


def test_a_box_alone_is_not_labelled_and_said_so(tmp_path: Path) -> None:
    write_coco(tmp_path, coco({"bbox": [1, 1, 5.0, 4.0]}, {"segmentation": box(2, 2, 2, 2)}))
    np.testing.assert_array_equal(one_mask(tmp_path), filled((255, 1, 1, 5, 4), (1, 2, 2, 2, 2)))
    assert [(w.file, w.kind) for w in open_dataset(tmp_path).warnings] == [("a.png", "box-only")]


def test_categories_are_classes_in_order_of_their_ids(tmp_path: Path) -> None:
    content = coco({"segmentation": box(0, 0, 4, 4), "category_id": 70}, names={90: "z", 3: "y", 70: "x", 0: "w"})
    write_coco(tmp_path, content)
    records = read_all(tmp_path)
    assert records.classes.names == ("background", "w", "y", "x", "z")
    np.testing.assert_array_equal(records[0].mask, filled((3, 0, 0, 4, 4)))
    assert open_dataset(tmp_path).notes == (
        "classes are the categories in order of their ids: 0 -> 1 w, 3 -> 2 y, 70 -> 3 x, 90 -> 4 z",
    )


def test_a_category_named_background_is_class_0(tmp_path: Path) -> None:
    drawn = [{"segmentation": box(0, 0, 8, 8), "category_id": 5}, {"segmentation": box(2, 2, 2, 2), "category_id": 0}]
    write_coco(tmp_path, coco(*drawn, names={5: "cat", 0: "_background_"}))
    record = read_all(tmp_path)[0]
    np.testing.assert_array_equal(record.mask, filled((1, 0, 0, 8, 8), (0, 2, 2, 2, 2)))
    assert same_objects(record.instances, filled((1, 0, 0, 8, 8), (0, 2, 2, 2, 2)))


def test_declared_classes_are_met_by_name(tmp_path: Path) -> None:
    write_coco(tmp_path, coco({"segmentation": box(0, 0, 4, 4)}))
    (tmp_path / "dataset.yaml").write_text("classes: [ground, dog, bird, cat]")
    np.testing.assert_array_equal(one_mask(tmp_path), filled((3, 0, 0, 4, 4)))
    for classes in ("[ground, dog, bird]", "[cat, dog]"):
        (tmp_path / "dataset.yaml").write_text(f"classes: {classes}")
        with pytest.raises(DataError, match="declared classes do not name.*found cat"):
            open_dataset(tmp_path)


def test_more_objects_than_a_byte_numbers(tmp_path: Path) -> None:
    places = [(x, y) for y in range(20) for x in range(20)]
    content = coco(*({"segmentation": [[2 * x, 2 * y, 2 * x + 1, 2 * y, 2 * x + 1, 2 * y + 1, 2 * x, 2 * y + 1]]}
                     for x, y in places))  # fmt: skip
    content["images"][0] |= {"height": 40, "width": 40}
    write_coco(tmp_path, content)
    save(tmp_path / "images" / "a.png", np.zeros((40, 40), np.uint8))
    record = read_all(tmp_path)[0]
    assert record.instances is not None and len(np.unique(record.instances)) == 401
    assert read_all(tmp_path, masks_are="instances")[0].mask.sum() == 400  # none of them is 255, "not labelled"


@pytest.mark.parametrize(
    ("file", "image", "name"),
    [
        ("annotations.json", "a.png", "a.png"),
        ("annotations.json", "images/a.png", "a.png"),
        ("annotations.json", "images/a.png", "images/a.png"),
        ("annotations/instances_train2017.json", "train2017/a.png", "a.png"),
        ("annotations/instances_train2017.json", "images/train2017/a.png", "a.png"),
        ("annotations/instances_train.json", "images/train/a.png", "a.png"),
        ("annotations/x.json", "images/a.png", "a.png"),
        ("train/_annotations.coco.json", "train/a.png", "a.png"),
        ("annotations.json", "images/b/a.png", "b/a.png"),
        ("annotations.json", "images/a.png", "/home/somebody/data/a.png"),
        ("annotations.json", "images/a.png", "C:\\data\\a.png"),
    ],
)
def test_images_in_the_usual_places(tmp_path: Path, file: str, image: str, name: str) -> None:
    content = coco({"segmentation": box(0, 0, 4, 4)})
    content["images"][0]["file_name"] = name
    write_coco(tmp_path, content, file, image)
    for place in (tmp_path, *([tmp_path / file] if "train/" not in file else [])):
        found = read_all(place)
        assert found.samples[0].image.file == tmp_path / image
        np.testing.assert_array_equal(found[0].mask, filled((1, 0, 0, 4, 4)))


def test_declared_places_reach_outside_by_a_link_alone(tmp_path: Path) -> None:
    write_coco(tmp_path / "said", coco({"segmentation": box(0, 0, 4, 4)}), "x.json", None)
    save(tmp_path / "seen" / "deep" / "a.png")
    (tmp_path / "set").mkdir()
    place = (tmp_path / "seen" / "deep").as_posix()
    yaml(tmp_path / "set", f"annotations: ../said/x.json\nimages: {place}")
    with pytest.raises(DataError, match="images leads out of the folder that the file lies in"):
        open_dataset(tmp_path / "set")
    (tmp_path / "set" / "seen").symlink_to(place, target_is_directory=True)
    (tmp_path / "set" / "x.json").symlink_to(tmp_path / "said" / "x.json")
    yaml(tmp_path / "set", "annotations: x.json\nimages: seen")
    np.testing.assert_array_equal(one_mask(tmp_path / "set"), filled((1, 0, 0, 4, 4)))


@pytest.mark.parametrize("name", ["../secret.png", "{0}/secret.png", "images/../../secret.png", "..\\secret.png"])
def test_an_annotation_leads_to_no_file_outside(tmp_path: Path, name: str) -> None:
    save(tmp_path / "secret.png")
    content = coco({"segmentation": box(0, 0, 4, 4)})
    content["images"][0]["file_name"] = name.format(tmp_path.as_posix())
    write_coco(tmp_path / "set", content, image="images/other.png")
    with pytest.raises(DataError, match="found in none of the usual folders"):
        open_dataset(tmp_path / "set")
    labelme = tmp_path / "labelme"
    write_labelme(labelme, [shape("polygon", (0, 0), (5, 0), (5, 5))], imagePath=name.format(tmp_path.as_posix()))
    (labelme / "a.png").unlink()
    with pytest.raises(DataError, match="a mask without an image"):
        open_dataset(labelme)


def test_parts_share_their_categories(tmp_path: Path) -> None:
    for part, names in (("train", {1: "cat"}), ("val", {2: "dog", 1: "cat"})):
        content = coco({"segmentation": box(0, 0, 4, 4), "category_id": max(names)}, names=names)
        write_coco(tmp_path, content, f"annotations/instances_{part}.json", f"images/{part}/a.png")
    dataset = open_dataset(tmp_path)
    assert ({part: len(found) for part, found in dataset.splits.items()}, dataset.class_names) == (
        {"train": 1, "val": 1},
        ("background", "cat", "dog"),
    )
    content = coco({"segmentation": box(0, 0, 4, 4)}, names={1: "horse"})
    write_coco(tmp_path, content, "annotations/instances_val.json", None)
    with pytest.raises(DataError, match="category 1 has two names.*cat and horse"):
        open_dataset(tmp_path)


def test_several_files_for_one_part_are_not_guessed_between(tmp_path: Path) -> None:
    for year in (2014, 2017):
        write_coco(tmp_path, coco({"segmentation": box(0, 0, 4, 4)}), f"annotations/instances_train{year}.json")
    with pytest.raises(DataError, match="several annotation files.*train2014.json.*annotations: FILE"):
        open_dataset(tmp_path)
    (tmp_path / "dataset.yaml").write_text("annotations: annotations/instances_train2017.json")
    assert len(open_dataset(tmp_path).split("all")) == 1


BAD = {
    "image": ({"image_id": 8}, "image_id 8"),
    "image-null": ({"image_id": None}, "image_id None"),
    "image-list": ({"image_id": [7]}, r"image_id \[7\]"),
    "category": ({"category_id": 9}, "category_id 9"),
    "category-text": ({"category_id": "1"}, "category_id '1'"),
    "category-true": ({"category_id": True}, "category_id True"),
    "2-points": ({"segmentation": [[1, 1, 5, 5]]}, "polygon of 2 points"),
    "odd": ({"segmentation": [[1, 1, 5, 5, 5, 1, 3]]}, "polygon of 3.5 points"),
    "second-part": ({"segmentation": [*box(0, 0, 4, 4), []]}, "polygon of 0 points"),
    "nan": ({"segmentation": [[1, 1, 5, float("nan"), 5, 1]]}, "other coordinates"),
    "infinite": ({"segmentation": [[1, 1, 5, float("inf"), 5, 1]]}, "other coordinates"),
    "huge": ({"segmentation": [[1, 1, 5, 10**400, 5, 1]]}, "other coordinates"),
    "long": ({"segmentation": [[0, 0, 9e5, 9e5] * 50]}, "polygon that is longer"),
    "text": ({"segmentation": [["1", "1", "5", "5", "5", "1"]]}, "other coordinates"),
    "null": ({"segmentation": [None]}, "polygon given as NoneType"),
    "flat": ({"segmentation": [1, 1, 5, 5, 5, 1]}, "polygon given as int"),
    "string": ({"segmentation": "a.png"}, "a str"),
    "rle-keys": ({"segmentation": {"size": list(SIZE)}}, "a dict"),
    "rle-size": ({"segmentation": {"size": [5, 5], "counts": [25]}}, r"for \[5, 5\]"),
    "rle-size-null": ({"segmentation": {"size": None, "counts": [25]}}, "for None"),
    "rle-sum": ({"segmentation": {"size": list(SIZE), "counts": [25]}}, "sum 25"),
    "rle-negative": ({"segmentation": {"size": list(SIZE), "counts": [-8, 200]}}, "damaged run lengths"),
    "rle-huge": ({"segmentation": {"size": list(SIZE), "counts": [10**300]}}, "sum 1000"),
    "rle-float": ({"segmentation": {"size": list(SIZE), "counts": [192.0]}}, "damaged run lengths"),
    "rle-string": ({"segmentation": {"size": list(SIZE), "counts": "o"}}, "damaged run lengths"),
    "rle-string-sum": ({"segmentation": {"size": list(SIZE), "counts": "15"}}, "sum 6"),
    "rle-accents": ({"segmentation": {"size": list(SIZE), "counts": "äöü"}}, "damaged run lengths"),
    "rle-null": ({"segmentation": {"size": list(SIZE), "counts": None}}, "damaged run lengths"),
    "nothing": ({}, "neither an outline nor a box"),
    "box-text": ({"bbox": ["1", 2, 3, 4]}, "neither an outline nor a box"),
    "box-negative": ({"bbox": [1, 2, -3, 4]}, "neither an outline nor a box"),
    "crowd": ({"segmentation": box(0, 0, 4, 4), "iscrowd": "0"}, "iscrowd '0'"),
    "segments": ({"segments_info": None, "file_name": "a.png"}, "segments_info None"),
    "segment-id": ({"segments_info": [{"id": "1", "category_id": 1}], "file_name": "a.png"}, "segments_info"),
    "segment-name": ({"segments_info": [], "file_name": 3}, "file_name 3"),
    "segment-category": ({"segments_info": [{"id": 1, "category_id": 9}], "file_name": "a.png"}, "category_id 9"),
}  # fmt: skip


def test_a_key_that_stands_twice_in_annotations_is_named(tmp_path: Path) -> None:
    write_coco(tmp_path, coco({"segmentation": box(9, 9, 2, 2)}))
    file = tmp_path / "annotations.json"
    file.write_text(file.read_text().replace('"images":', '"images": [], "images":', 1))
    with pytest.raises(DataError, match="cannot read: the key 'images' stands twice"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_annotation_is_named(tmp_path: Path, kind: str) -> None:
    bad, said = BAD[kind]
    good = {"segments_info": [], "file_name": "b.png"} if "segment" in kind else {"segmentation": box(9, 9, 2, 2)}
    write_coco(tmp_path, coco(good, {"id": 55, **bad}))
    with pytest.raises(DataError, match=rf"annotation 55 of .*{said}") as caught:
        open_dataset(tmp_path)
    known = not kind.startswith("image")
    assert ("a.png" if known else "annotations.json") in caught.value.message
    faults = open_dataset(tmp_path, strict=False).faults if not known or "segment" not in kind else ()
    assert all(fault.kind == "bad-annotation" for fault in faults)
    assert caught.value.fix == ('exclude: ["a.png"]' if known else "remove annotation 55 of annotations.json")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": None}, 'expected a list "images"'),
        ({"annotations": {}}, 'expected a list "annotations"'),
        ({"categories": [3]}, 'expected a list "categories"'),
        ({"categories": [{"id": "1", "name": "cat"}]}, "entry of categories is wrong"),
        ({"categories": [{"id": 1, "name": None}]}, "entry of categories is wrong"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "categories share an id"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "class names are wrong"),
        ({"categories": []}, "class names are wrong"),
        ({"images": [{"id": 7, "file_name": "a.png", "height": "12", "width": 16}]}, "entry of images is wrong"),
        ({"images": [{"id": 7, "file_name": "a.png", "height": 10**9, "width": 10**9}]}, "entry of images is wrong"),
        ({"images": [{"id": 7, "file_name": "a.png", "height": 12.5, "width": 16}]}, "entry of images is wrong"),
        ({"images": [{"id": 7, "file_name": "a.png", "height": -12, "width": -16}]}, "entry of images is wrong"),
        ({"images": [{"id": [7], "file_name": "a.png", "height": 12, "width": 16}]}, "entry of images is wrong"),
        ({"images": [{"id": 7, "file_name": None, "height": 12, "width": 16}]}, "entry of images is wrong"),
        ({"images": [{"id": 7, "file_name": "\ud800.png", "height": 12, "width": 16}]}, "entry of images is wrong"),
        ({"images": [{"id": 7, "file_name": "a\0.png", "height": 12, "width": 16}]}, "entry of images is wrong"),
        ({"images": [{"id": 7, "file_name": "a" * 5000, "height": 12, "width": 16}]}, "found in none of the usual"),
        ({"images": [{"id": 7, "file_name": "a.png"}]}, "entry of images is wrong"),
        (
            {"images": [{"id": i, "file_name": "a.png", "height": 12, "width": 16} for i in (7, 8)]},
            "several files that belong to one name",
        ),
    ],
)
def test_a_wrong_annotation_file_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    write_coco(tmp_path, coco({"segmentation": box(0, 0, 4, 4)}, **changes))
    with pytest.raises(DataError, match=said):
        read_all(tmp_path / "annotations.json")


@pytest.mark.parametrize("text", ["", "[", "[1]", "null", "[" * 100_000, '{"images": 1e999}', "\xff", "9" * 5000])
def test_what_is_no_annotation_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="cannot read|not COCO's form"):
        open_dataset(tmp_path / "x.json")


def mutations(content: Any, seed: int) -> Any:
    """Return a copy of JSON content in which one value, chosen at random, is another."""
    rng = np.random.default_rng(seed)
    copy = json.loads(json.dumps(content))
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], (dict, list)):
                walk(node[key])

    walk(copy)
    node, key = places[rng.integers(len(places))]
    strange = [
        None,
        True,
        "",
        "x",
        -1,
        0,
        10**30,
        1.5,
        [],
        {},
        [[]],
        [None],
        {"a": []},
        "../../x",
        float("nan"),
        "\ud8ff",
    ]
    value = strange[rng.integers(len(strange))]
    if rng.random() < 0.2:
        del node[key]
    else:
        node[key] = value
    return copy


@pytest.mark.parametrize("count", [250, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", ["coco", "panoptic", "labelme"])
def test_no_mutated_annotation_raises_anything_unnamed(tmp_path: Path, kind: str, count: int) -> None:
    content: Any
    file = tmp_path / "annotations.json"
    save(tmp_path / "a.png")
    if kind == "coco":
        content = coco({"segmentation": box(0, 0, 4, 4)}, {"segmentation": compressed(SHAPE)}, {"bbox": [1, 2, 3, 4]})
    elif kind == "panoptic":
        save(tmp_path / "m.png", np.full((*SIZE, 3), (7, 0, 0), np.uint8))
        content = coco({"file_name": "m.png", "segments_info": [{"id": 7, "category_id": 1}]})
    else:
        shapes = [shape("polygon", (0, 0), (5, 0), (5, 5), group_id=3), shape("circle", (5, 5), (7, 7))]
        content = labelme_content(shapes)
    outcomes = set()
    for seed in range(count):
        file.write_text(json.dumps(mutations(content, seed)))
        try:
            read_all(tmp_path)
            outcomes.add("read")
        except UnetresError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_panoptic_maps(tmp_path: Path) -> None:
    ids = filled((0x010203, 0, 0, 8, 8), (5, 8, 0, 4, 4), (9, 8, 8, 4, 4))
    segments = [
        {"id": 0x010203, "category_id": 4}, {"id": 5, "category_id": 2}, {"id": 9, "category_id": 2, "iscrowd": 1}
    ]  # fmt: skip
    content = coco({"file_name": "a.png", "segments_info": segments}, names={4: "car", 2: "road"})
    content["categories"][1]["isthing"] = 0
    write_coco(tmp_path, content, "annotations/panoptic_train.json", "images/train/a.png")
    colors = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
    save(tmp_path / "annotations" / "panoptic_train" / "a.png", colors)
    record = read_all(tmp_path)[0]
    np.testing.assert_array_equal(record.mask, np.select([ids == 0x010203, ids == 5], [1, 0], 255))
    assert same_objects(record.instances, (ids == 0x010203).astype(int))
    save(tmp_path / "annotations" / "panoptic_train" / "a.png", colors + np.uint8(1))
    with pytest.raises(DataError, match="segments that no annotation names"):
        read_all(tmp_path)
    content["annotations"] = [{**content["annotations"][0], "file_name": "b.png"}]
    write_coco(tmp_path, content, "annotations/panoptic_train.json", None)
    with pytest.raises(DataError, match=r"a\.png: an image without a mask.*b\.png"):
        open_dataset(tmp_path)


# --- labelme ---------------------------------------------------------------------------------------------------------


def shape(kind: str, *points: tuple[float, float], label: str = "cat", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": [list(point) for point in points], "shape_type": kind, **more}


def labelme_content(shapes: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {"imagePath": "a.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1], "shapes": shapes, **changes}


def write_labelme(root: Path, shapes: list[dict[str, Any]], **changes: Any) -> Path:
    save(root / "a.png")
    (root / "a.json").write_text(json.dumps(labelme_content(shapes, **changes)))
    return root


def drawn(draw: Callable[[ImageDraw.ImageDraw], None]) -> np.ndarray:
    canvas = Image.new("L", SIZE[::-1])
    draw(ImageDraw.Draw(canvas))
    return np.array(canvas)


def png64(mask: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


# What labelme's documentation of shapes says: filled outlines with their edge, lines 10 px wide, points of radius 5 px.
DRAWN = {
    "polygon": (shape("polygon", (1, 1), (8, 2), (4.5, 9)), lambda d: d.polygon([(1, 1), (8, 2), (4.5, 9)], 1, 1)),
    "rectangle": (shape("rectangle", (2, 3), (9, 6)), lambda d: d.rectangle([2, 3, 9, 6], 1, 1)),
    "rectangle-turned": (shape("rectangle", (9, 6), (2, 3)), lambda d: d.rectangle([2, 3, 9, 6], 1, 1)),
    "circle": (shape("circle", (6, 6), (9, 10)), lambda d: d.ellipse([1, 1, 11, 11], 1, 1)),
    "line": (shape("line", (1, 6), (14, 6)), lambda d: d.line([(1, 6), (14, 6)], 1, 10)),
    "linestrip": (
        shape("linestrip", (1, 6), (9, 6), (9, 11)),
        lambda d: d.line([(1, 6), (9, 6), (9, 11)], 1, 10),
    ),
    "point": (shape("point", (7, 6)), lambda d: d.ellipse([2, 1, 12, 11], 1, 1)),
    "mask": (
        shape("mask", (4, 2), (6, 3), mask=png64(np.array([[255, 0, 255], [0, 255, 0]]))),
        lambda d: d.point([(4, 2), (6, 2), (5, 3)], 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DRAWN)
def test_labelme_shapes(tmp_path: Path, kind: str) -> None:
    said, draw = DRAWN[kind]
    right = drawn(draw)
    assert 0 < right.sum() < right.size
    np.testing.assert_array_equal(one_mask(write_labelme(tmp_path, [said])), right)


def test_labelme_by_hand(tmp_path: Path) -> None:
    """Both corners of a rectangle are inside, and later shapes lie on top."""
    shapes = [
        shape("rectangle", (1, 1), (6, 6), label="dog"),
        shape("rectangle", (4, 4), (8, 8)),
        shape("rectangle", (5, 5), (5, 5), label="__ignore__"),
        shape("rectangle", (6, 6), (7, 7), label="_background_"),
    ]
    records = read_all(write_labelme(tmp_path, shapes))
    right = filled((2, 1, 1, 6, 6), (1, 4, 4, 5, 5), (255, 5, 5, 1, 1), (0, 6, 6, 2, 2))
    assert records.classes.names == ("background", "cat", "dog")
    np.testing.assert_array_equal(records[0].mask, right)
    assert same_objects(records[0].instances, np.where(right == 255, 0, right))
    instances = read_all(tmp_path, masks_are="instances")[0].mask
    np.testing.assert_array_equal(instances, np.where(right == 255, 255, right > 0))


def test_a_group_is_one_object(tmp_path: Path) -> None:
    boxes = [((0, 0), (1, 1)), ((4, 0), (5, 1)), ((8, 0), (9, 1)), ((12, 0), (13, 1))]
    groups = [1, 1, None, None]
    shapes = [shape("rectangle", *b, group_id=g) for b, g in zip(boxes, groups, strict=True)]
    shapes.append(shape("rectangle", (0, 5), (1, 6), label="dog", group_id=1))
    right = filled((1, 0, 0, 2, 2), (1, 4, 0, 2, 2), (2, 8, 0, 2, 2), (3, 12, 0, 2, 2), (4, 0, 5, 2, 2))
    assert same_objects(read_all(write_labelme(tmp_path, shapes))[0].instances, right)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (shape("spline", (1, 1), (2, 2)), "shape of type 'spline'"),
        (shape("polygon", (1, 1), (2, 2)), "polygon of 2 points"),
        (shape("rectangle", (1, 1), (2, 1), (2, 2), (1, 2)), "rectangle of 4 points"),
        (shape("point", (1, 1), (2, 2)), "point of 2 points"),
        (shape("polygon", (1, 1), (2, 2), (3, float("nan"))), "other points"),
        (shape("polygon", (1, 1), (2, 2), (3, 10**400)), "other points"),
        (shape("circle", (1, 1), (2, 1e9)), "other points"),
        (shape("mask", (1, 1), (2, 2)), "mask in base64|none"),
        (shape("polygon", (1, 1), (5, 2), (3, 3), group_id=[1]), r"group_id \[1\]"),
        ({"label": "cat", "points": "abc", "shape_type": "polygon"}, "other points"),
        ({"label": "cat", "shape_type": ["polygon"]}, "shape of type"),
    ],
)
def test_a_wrong_shape_is_named(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=rf"a\.json: .*shape 0 \(cat\): .*({said})"):
        open_dataset(write_labelme(tmp_path, [wrong]))


@pytest.mark.parametrize("mask", ["AAAA", "not base64", png64(np.ones((40, 40)))])
def test_a_stored_mask_that_does_not_fit_is_refused(tmp_path: Path, mask: str) -> None:
    write_labelme(tmp_path, [shape("mask", (0, 0), (3, 3), mask=mask)])
    with pytest.raises(DataError, match=r"a\.json.*(stored mask|annotation that cannot be drawn)"):
        read_all(tmp_path)


def test_labelme_files_that_are_wrong(tmp_path: Path) -> None:
    write_labelme(tmp_path, [shape("point", (1, 1))], imageHeight=10**9, imageWidth=10**9)
    with pytest.raises(DataError, match=r"a\.json.*1000000000 x 1000000000"):
        open_dataset(tmp_path)
    for shapes in ([{"label": None}], [{"points": []}], ["x"], [{"label": ["a"]}]):
        (tmp_path / "a.json").write_text(json.dumps({"shapes": shapes}))
        with pytest.raises(DataError, match=r"a\.json: not labelme's form"):
            open_dataset(tmp_path)


def test_labelme_without_a_size_or_a_name_of_the_image(tmp_path: Path) -> None:
    content = labelme_content([shape("rectangle", (1, 1), (3, 3))], imageHeight=None, imagePath="..\\a.png")
    save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(json.dumps(content))
    (tmp_path / ".unetres-hashes.json").write_text("{}")
    np.testing.assert_array_equal(one_mask(tmp_path), filled((1, 1, 1, 3, 3)))


def test_labelme_classes_that_are_declared(tmp_path: Path) -> None:
    write_labelme(tmp_path, [shape("rectangle", (1, 1), (3, 3))])
    (tmp_path / "class_names.txt").write_text("__ignore__\n_background_\ndog\ncat\n")
    np.testing.assert_array_equal(one_mask(tmp_path), filled((2, 1, 1, 3, 3)))
    (tmp_path / "class_names.txt").write_text("_background_\ndog\n")
    with pytest.raises(DataError, match="labels that are no class.*found cat"):
        open_dataset(tmp_path)
    (tmp_path / "class_names.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match="class 0 is what no shape covers"):
        open_dataset(tmp_path)


# --- PASCAL VOC ------------------------------------------------------------------------------------------------------

IDS = filled((1, 0, 0, 5, 5), (2, 4, 4, 6, 6), (255, 9, 0, 2, 12)).astype(np.uint8)


def palette(values: np.ndarray) -> Image.Image:
    """Return a palette image; colours of VOC's first classes and its border."""
    image = Image.fromarray(values.astype(np.uint8)).convert("L")
    table = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [0] * 753 + [224, 224, 192]
    image.putpalette(table)
    return image


def write_voc(root: Path, names: str = "abc", colored: bool = False) -> Path:
    for name in names:
        save(root / "JPEGImages" / f"{name}.png")
        for kind, values in (("SegmentationClass", IDS), ("SegmentationObject", IDS)):
            (root / kind).mkdir(parents=True, exist_ok=True)
            image = palette(values)
            (image.convert("RGB") if colored else image).save(root / kind / f"{name}.png")
    return root


def write_lists(root: Path, **parts: str) -> None:
    for part, lines in parts.items():
        file = root / "ImageSets" / "Segmentation" / f"{part}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(lines)


@pytest.mark.parametrize("colored", [False, True])
@pytest.mark.parametrize("table", ["", "labelmap.txt", "class_names.txt"])
def test_voc(tmp_path: Path, colored: bool, table: str) -> None:
    write_voc(tmp_path, colored=colored)
    lines = {
        "labelmap.txt": "# label:color_rgb:parts:actions\nground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n"
        "ignored:224,224,192::\n",
        "class_names.txt": "__ignore__\nground\ncat\ndog\n",
    }
    if table:
        (tmp_path / table).write_text(lines[table])
    records = read_all(tmp_path)
    names = records.classes.names
    assert names == ("ground", "cat", "dog") if table else (len(names), names[1]) == (21, "aeroplane")
    for record in records:
        np.testing.assert_array_equal(record.mask, IDS)
        assert same_objects(record.instances, np.where(IDS == 255, 0, IDS).astype(int))
    instances = read_all(tmp_path, masks_are="instances")[0].mask
    np.testing.assert_array_equal(instances, np.where(IDS == 255, 255, IDS > 0))


def test_voc_lists_make_the_parts(tmp_path: Path) -> None:
    write_voc(tmp_path, "abcde")
    save(tmp_path / "JPEGImages" / "t.png")
    write_lists(tmp_path, train="a\nb\n\nc\n", val="d\n", test="t\n")
    dataset = open_dataset(tmp_path)
    assert {part: [s.name for s in found] for part, found in dataset.splits.items()} == {
        "train": ["a.png", "b.png", "c.png"],
        "val": ["d.png"],
    }
    assert "the test part has no masks and is left out" in dataset.notes
    write_lists(tmp_path, val="d\nt\nzz\n")
    with pytest.raises(DataError, match="2 faults") as caught:
        open_dataset(tmp_path)
    assert "JPEGImages/t.png: an image without a mask: no file t.* in SegmentationClass/" in caught.value.message
    assert "no file zz.* in JPEGImages/" in caught.value.message


def test_voc_with_one_list_for_all(tmp_path: Path) -> None:
    write_voc(tmp_path, "abcdefgh")
    write_lists(tmp_path, trainval="".join(f"{name} 1\n" for name in "abcdef"))
    assert sorted(sample.name for sample in open_dataset(tmp_path).split("all")) == [f"{n}.png" for n in "abcdef"]


def test_voc_colours_outside_the_table_are_named(tmp_path: Path) -> None:
    write_voc(tmp_path, colored=True)
    (tmp_path / "labelmap.txt").write_text("ground:0,0,0::\ncat:128,0,0::\nignored:224,224,192::\n")
    with pytest.raises(DataError, match=r"SegmentationClass/a\.png.*#008000 in 30 px"):
        read_all(tmp_path)


@pytest.mark.parametrize("order", ["ground cat dog", "dog ground cat"])
def test_a_palette_that_is_not_in_the_order_of_the_table(tmp_path: Path, order: str) -> None:
    """The table is of colours, so colours decide, not the places they have in a palette."""
    write_voc(tmp_path)
    colors = {"ground": "0,0,0", "cat": "128,0,0", "dog": "0,128,0"}
    rows = [f"{name}:{colors[name]}::" for name in order.split()]
    (tmp_path / "labelmap.txt").write_text("\n".join([*rows, "ignored:224,224,192::"]))
    right = np.array([order.split().index(name) for name in ("ground", "cat", "dog")] + [255])
    np.testing.assert_array_equal(one_mask(tmp_path), right[np.minimum(IDS, 3)])
    rows[0] = f"{order.split()[0]}:1,2,3::"
    (tmp_path / "labelmap.txt").write_text("\n".join([*rows, "ignored:224,224,192::"]))
    with pytest.raises(DataError, match="colours that are not in the colour table"):
        read_all(tmp_path)
    yaml(tmp_path, "values: {0: ground, 1: cat, 2: dog, 255: ignore}\nclasses: [dog, cat, ground]")
    np.testing.assert_array_equal(one_mask(tmp_path), np.array([2, 1, 0, 255])[np.minimum(IDS, 3)])


# --- CamVid ----------------------------------------------------------------------------------------------------------

COLORS = {0: (128, 128, 128), 1: (128, 0, 0), 2: (192, 192, 128), 255: (0, 0, 0)}
TABLES = {
    "label_colors.txt": "128 128 128\tSky\n128 0 0\tBuilding\n0 0 0\tVoid\n192 192 128\tPole\n",
    "class_dict.csv": "name,r,g,b\nSky, 128,128,128\nBuilding,128,0,0\nVoid,0,0,0\nPole,192,192,128\n\n",
    "labelmap.txt": "Sky:128,128,128\nBuilding:128,0,0\nVoid:0,0,0\nPole:192,192,128\n",
}


def painted(ids: np.ndarray) -> np.ndarray:
    return np.array([[COLORS[int(i)] for i in row] for row in ids], np.uint8)


def write_camvid(root: Path, lines: Mapping[str, str], ids: np.ndarray = IDS) -> Path:
    for part, text in lines.items():
        root.mkdir(exist_ok=True)
        (root / f"{part}.txt").write_text(text)
        for name in "abc":
            save(root / part / f"{name} 1.png")
            save(root / f"{part}annot" / f"{name} 1.png", painted(ids))
    return root


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "line",
    [
        "/train/{0} 1.png /trainannot/{0} 1.png",
        '"train/{0} 1.png" "trainannot/{0} 1.png"',
        "train\\{0} 1.png trainannot\\{0} 1.png",
        "C:\\data\\set\\train\\{0} 1.png;C:\\data\\set\\trainannot\\{0} 1.png",
        "/SegNet/CamVid/train/{0} 1.png\t/SegNet/CamVid/trainannot/{0} 1.png",
    ],
)
def test_camvid_lists_and_tables(tmp_path: Path, line: str, table: str) -> None:
    write_camvid(tmp_path, {"train": "\ufeff" + "\r\n".join(line.format(n) for n in "abc") + "\r\n"})
    (tmp_path / table).write_text(TABLES[table])
    records = read_all(tmp_path)
    assert open_dataset(tmp_path).format == "camvid"
    assert records.classes.names == ("Sky", "Building", "Pole")
    assert len(records) == 3
    for record in records:
        np.testing.assert_array_equal(record.mask, IDS)


def test_a_file_that_a_camvid_list_misses(tmp_path: Path) -> None:
    write_camvid(tmp_path, {"train": "train/a 1.png trainannot/a 1.png\ntrain/z.png trainannot/b 1.png\n"})
    with pytest.raises(DataError, match=r"line 2 of train\.txt names .*z\.png, which is not there"):
        open_dataset(tmp_path)
    (tmp_path / "train.txt").write_text("train/a 1.png trainannot/a 1.png\nnonsense\n")
    with pytest.raises(DataError, match=r"train\.txt: line 2 is no pair.*found nonsense"):
        open_dataset(tmp_path)


def test_a_camvid_list_leads_to_no_file_outside(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    write_camvid(tmp_path / "set", {"train": f"{tmp_path.as_posix()}/a.png ../a.png\n"})
    with pytest.raises(DataError, match="2 faults"):
        open_dataset(tmp_path / "set")


def test_pictures_of_one_name_in_two_folders(tmp_path: Path) -> None:
    lines = []
    for place in "xyz":
        save(tmp_path / place / "a.png")
        save(tmp_path / place / "a_mask.png", painted(IDS))
        lines.append(f"{place}/a.png {place}/a_mask.png")
    (tmp_path / "train.txt").write_text("\n".join(lines))
    (tmp_path / "label_colors.txt").write_text(TABLES["label_colors.txt"])
    assert sorted(s.name for s in open_dataset(tmp_path).split("all")) == ["x/a.png", "y/a.png", "z/a.png"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("label_colors.txt", "Sky 128 128 128", "a line is no class with a colour"),
        ("label_colors.txt", "128 128 999 Sky\n0 0 0 Void", "each 0..255"),
        ("label_colors.txt", f"128 128 {'9' * 5000} Sky", "a line is no class with a colour"),
        ("label_colors.txt", "1 1 1 Sky\n1 1 1 Road", "classes share colours"),
        ("label_colors.txt", "1 1 1 Sky\n2 2 2 Sky", "classes share names"),
        ("labelmap.txt", "Sky:1,2", "a line is no class with a colour"),
        ("class_dict.csv", "name,r,g,b\nSky,1,2", "not a table of colours"),
        ("class_dict.csv", "name,r,g,b\nSky,1,2,x", "not a table of colours"),
        ("class_dict.csv", "name,r,g,b\nSky,1,2,-3\nRoad,1,1,1", "each 0..255"),
        ("class_dict.csv", f"name,r,g,b\n{'x' * 200_000},1,2,3", "not a table of colours"),
        ("class_dict.csv", "\xff", "cannot read"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    write_camvid(tmp_path, {"train": "train/a 1.png trainannot/a 1.png\n"})
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=said):
        open_dataset(tmp_path)


def test_a_csv_without_a_header_loses_no_class(tmp_path: Path) -> None:
    write_camvid(tmp_path, {"train": "\n".join(f"train/{n} 1.png trainannot/{n} 1.png" for n in "abc")})
    (tmp_path / "class_dict.csv").write_text(TABLES["class_dict.csv"].split("\n", 1)[1])
    np.testing.assert_array_equal(one_mask(tmp_path), IDS)


# --- Folders ---------------------------------------------------------------------------------------------------------


def write_folders(
    root: Path, masks: Mapping[str, np.ndarray], images: str = "images", labels: str = "masks", ending: str = ""
) -> Path:
    for name, mask in masks.items():
        path = Path(name)
        save(root / images / path, np.full(mask.shape[:2], 77, np.uint8))
        save(root / labels / path.with_name(path.stem + ending + path.suffix), mask)
    return root


def thrice(mask: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{name}.png": mask for name in "abc"}


def yaml(root: Path, text: str) -> None:
    (root / "dataset.yaml").write_text(text)


def test_colours_declared_as_values(tmp_path: Path) -> None:
    write_folders(tmp_path, thrice(painted(IDS)))
    yaml(tmp_path, 'classes: [a, b, c]\nvalues: {"#808080": 0, "#800000": b, "#C0C080": 2, "#000000": ignore}')
    np.testing.assert_array_equal(one_mask(tmp_path), IDS)
    assert read_all(tmp_path).classes.colors == ((128, 128, 128), (128, 0, 0), (192, 192, 128))
    with (tmp_path / "dataset.yaml").open("a") as file:
        file.write("\ncolors: [[1, 2, 3], [4, 5, 6], [7, 8, 9]]\n")
    assert read_all(tmp_path).classes.colors == ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    yaml(tmp_path, 'values: {"#808080": 0, "#800000": 1, "#c0c080": 2}')
    with pytest.raises(DataError, match=r"masks/a\.png.*#000000 in 24 px.*values: .*\"#000000\": ignore"):
        read_all(tmp_path)


def test_numbers_declared_as_values(tmp_path: Path) -> None:
    stored = np.select([IDS == 0, IDS == 1, IDS == 2], [1, 2, 1], 7).astype(np.uint8)
    write_folders(tmp_path, thrice(stored))
    yaml(tmp_path, "values: {1: 0, 2: 1, 7: ignore}")
    np.testing.assert_array_equal(one_mask(tmp_path), np.select([stored == 1, stored == 2], [0, 1], 255))


@pytest.mark.parametrize(
    "values",
    ["{0: 0, red: 1}", "{0: 0, 1.5: 1}", "{0: 0, 1: 300}", "{0: 0, 1: dog}", "{yes: 1}", "{0: yes}", "{0: [1]}"]
    + ['{"#000000": 0, 1: 1}', '{"#12345": 0}', '{"#abcdef": 0, "#ABCDEF": 1}', f"{{{10**30}: 1}}", "[1]"],
)
def test_wrong_values_are_refused(tmp_path: Path, values: str) -> None:
    write_folders(tmp_path, thrice(IDS))
    yaml(tmp_path, f"classes: [ground, cat]\nvalues: {values}")
    with pytest.raises(DataError, match="values"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["formats: coco", "format: foo", "format: [coco]", "[" * 20_000, "ignore: 2020-99-99", "ignore: yes", "? [a]\n: b"]
    + ["classes: [[a], b]", "path: nowhere", "splits: {train: nowhere}", "val_from: 3", "exclude: a.png", "9" * 5000]
    + ["target: lines", "target: borders", 'path: "a\\0b"', "annotations: nothing.json", "masks_are: null"]
    + ['format: camvid\nsplits: {train: "a\\0b"}'],
)
def test_a_wrong_declaration_is_refused(tmp_path: Path, text: str) -> None:
    write_folders(tmp_path, thrice(IDS))
    yaml(tmp_path, text)
    with pytest.raises(UnetresError):
        open_dataset(tmp_path)
    if text == "format: foo":
        with pytest.raises(DataError, match="format is unknown; expected voc, .*coco, .*; found foo"):
            open_dataset(tmp_path)


@pytest.mark.parametrize("ending", ["", "_mask"])
def test_folders_in_folders(tmp_path: Path, ending: str) -> None:
    masks = {"x/a.png": filled((1, 0, 0, 3, 3)), "y/a.png": filled((1, 5, 5, 3, 3)), "c.png": filled((1, 9, 9, 2, 2))}
    write_folders(tmp_path, {name: mask.astype(np.uint8) for name, mask in masks.items()}, ending=ending)
    found = masks_of(tmp_path)
    assert set(found) == set(masks)
    for name, mask in masks.items():
        np.testing.assert_array_equal(found[name], mask)
    yaml(tmp_path, "exclude: [x/a.png]")
    if not ending:
        assert sorted(masks_of(tmp_path)) == ["c.png", "y/a.png"]


def test_parts_below_images_and_masks(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_folders(tmp_path, thrice(IDS), f"images/{part}", f"masks/{part}")
    assert {part: len(found) for part, found in open_dataset(tmp_path).splits.items()} == {"train": 3, "val": 3}


def test_parts_in_capitals(tmp_path: Path) -> None:
    for part in ("Train", "Validation"):
        write_folders(tmp_path / part, thrice(IDS), "Images", "Labels")
    assert {part: len(found) for part, found in open_dataset(tmp_path).splits.items()} == {"train": 3, "val": 3}


def test_cityscapes(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("ulm_0_1", "ulm_0_2"):
            save(tmp_path / "leftImg8bit" / part / "ulm" / f"{name}_leftImg8bit.png")
            for kind, mask in (("labelIds", IDS), ("color", painted(IDS)), ("instanceIds", IDS)):
                save(tmp_path / "gtFine" / part / "ulm" / f"{name}_gtFine_{kind}.png", mask)
            (tmp_path / "gtFine" / part / "ulm" / f"{name}_gtFine_polygons.json").write_text("{}")
    dataset = open_dataset(tmp_path)
    assert {part: len(found) for part, found in dataset.splits.items()} == {"train": 2, "val": 2}
    assert all(s.target.file.name.endswith("labelIds.png") for s in dataset.split("all"))
    np.testing.assert_array_equal(read_all(tmp_path, ignore=255)[0].mask, IDS)


@pytest.mark.parametrize("images", ["imgs", "image", "Images", "input"])
@pytest.mark.parametrize("labels", ["labels", "mask", "gt", "annotations"])
def test_names_of_folders(tmp_path: Path, images: str, labels: str) -> None:
    write_folders(tmp_path, thrice(IDS), images, labels)
    np.testing.assert_array_equal(read_all(tmp_path, ignore=255)[0].mask, IDS)


def test_declared_names_of_folders(tmp_path: Path) -> None:
    write_folders(tmp_path, thrice(IDS), "pictures", "truth")
    save(tmp_path / "images" / "other.png")
    (tmp_path / "truth" / "boxes.xml").write_text("<x/>")
    yaml(tmp_path, "images: pictures\nmasks: truth\nignore: 255\nexclude: [c.png]")
    assert sorted(masks_of(tmp_path)) == ["a.png", "b.png"]


def test_an_image_is_left_out_with_its_mask(tmp_path: Path) -> None:
    write_folders(tmp_path, thrice(IDS), ending="_mask")
    save(tmp_path / "images" / "d.tif")
    save(tmp_path / "masks" / "d_mask.png", IDS)
    yaml(tmp_path, "exclude: [a.png, d.tif]\nignore: 255")
    assert sorted(masks_of(tmp_path)) == ["b.png", "c.png"]


def test_the_first_mask_need_not_be_readable(tmp_path: Path) -> None:
    write_folders(tmp_path, thrice(painted(IDS)))
    (tmp_path / "label_colors.txt").write_text(TABLES["label_colors.txt"])
    (tmp_path / "masks" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 3 samples cannot be used: masks/a\.png"):
        read_all(tmp_path)


def test_names_that_differ_in_case_or_accents(tmp_path: Path) -> None:
    for name in ("Zellwände", "B", "c"):
        save(tmp_path / "images" / (unicodedata.normalize("NFC", name) + ".PNG"))
        save(tmp_path / "masks" / (unicodedata.normalize("NFD", name.upper()) + ".png"), IDS)
    assert len(read_all(tmp_path, ignore=255)) == 3


def test_a_folder_with_one_folder_in_it(tmp_path: Path) -> None:
    write_folders(tmp_path / "a" / "b", thrice(IDS))
    (tmp_path / "__MACOSX").mkdir()
    assert len(read_all(tmp_path, ignore=255)) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    write_folders(tmp_path, thrice(IDS))
    for name in ("a.json", "train.txt", "label_colors.txt", "classes.txt", "masks/d.png", "images/d.png"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="1 of 4 samples cannot be used.*d.png"):
        read_all(tmp_path, ignore=255)


def test_several_data_sets_in_a_folder(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_folders(tmp_path / name, thrice(IDS))
    with pytest.raises(
        DataError,
        match="several data sets; expected one of them, .*; found first, second; fix: .*images: images and",
    ):
        open_dataset(tmp_path)


def test_masks_beside_boxes_of_coco_are_masks(tmp_path: Path) -> None:
    write_folders(tmp_path, thrice(IDS))
    write_coco(tmp_path, coco({"bbox": [1, 1, 3, 3]}))
    assert open_dataset(tmp_path).format == "folders"


@pytest.mark.parametrize("rows", ["0,0,0 1,1,1", "255,255,255 0,0,0"])
def test_a_table_of_greys_is_of_levels(tmp_path: Path, rows: str) -> None:
    """`building 255, background 0`: the levels say which class, not the order of the rows."""
    colors = [row.split(",") for row in rows.split()]
    mask = np.where(filled((1, 0, 0, 3, 3)), int(colors[1][0]), int(colors[0][0])).astype(np.uint8)
    write_folders(tmp_path, thrice(mask))
    (tmp_path / "class_dict.csv").write_text(
        "name,r,g,b\n" + "".join(f"c{i},{','.join(c)}\n" for i, c in enumerate(colors))
    )
    np.testing.assert_array_equal(one_mask(tmp_path), filled((1, 0, 0, 3, 3)))


def test_rows_of_a_table_that_are_not_labelled_shift_no_class(tmp_path: Path) -> None:
    stored = np.select([IDS == 2, IDS == 255], [3, 2], IDS.astype(int)).astype(np.uint8)  # row 2 is Void, row 3 Pole
    write_folders(tmp_path, thrice(stored))
    (tmp_path / "label_colors.txt").write_text(TABLES["label_colors.txt"])
    records = read_all(tmp_path)
    assert records.classes.names == ("Sky", "Building", "Pole")
    np.testing.assert_array_equal(records[0].mask, IDS)


def test_declared_classes_reorder_a_table_of_colours(tmp_path: Path) -> None:
    write_folders(tmp_path, thrice(painted(IDS)))
    (tmp_path / "label_colors.txt").write_text(TABLES["label_colors.txt"])
    yaml(tmp_path, "classes: [Pole, Building, Sky]")
    np.testing.assert_array_equal(one_mask(tmp_path), np.select([IDS == 0, IDS == 2], [2, 0], IDS.astype(int)))
    yaml(tmp_path, "classes: [Pole, Building, Water]")
    with pytest.raises(DataError, match="declared classes are not those of the data set's own table"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("target", ["separated", "borders"])
def test_targets_of_instances(tmp_path: Path, target: str) -> None:
    objects = filled((1, 2, 2, 5, 8), (2, 7, 2, 5, 8)).astype(np.uint8)
    write_folders(tmp_path, thrice(objects))
    yaml(tmp_path, f"masks_are: instances\ntarget: {target}")
    record = read_all(tmp_path)[0]
    np.testing.assert_array_equal(record.instances, objects)
    assert (record.mask[:, [1, 3, 10, 13]] == filled((1, 2, 2, 10, 8))[:, [1, 3, 10, 13]]).all()
    between = record.mask[5, 6:8]
    assert (between == 0).any() if target == "separated" else (between == 2).any()


# --- A file an object, and stacks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("same_name", [False, True])
def test_a_file_for_each_object(tmp_path: Path, same_name: bool) -> None:
    """The layout of the 2018 Data Science Bowl."""
    objects = [filled((255, 0, 0, 9, 9)), filled((255, 5, 5, 3, 3)), filled()]
    for name in "abc":
        save(tmp_path / name / "images" / ("image.png" if same_name else f"{name}.png"))
        for i, mask in enumerate(objects):
            save(tmp_path / name / "masks" / f"{i}.png", mask.astype(np.uint8))
    records = read_all(tmp_path)
    assert open_dataset(tmp_path).format == "objects"
    assert sorted(record.name for record in records) == [
        f"{n}/images/image.png" if same_name else f"{n}.png" for n in "abc"
    ]
    np.testing.assert_array_equal(records[0].mask, filled((1, 0, 0, 9, 9)))
    assert same_objects(records[0].instances, filled((1, 0, 0, 9, 9), (2, 5, 5, 3, 3)))
    yaml(tmp_path, "classes: [ground, nucleus]")
    assert read_all(tmp_path).classes.names == ("ground", "nucleus")


def test_faults_of_files_of_objects(tmp_path: Path) -> None:
    for name in "abcde":
        save(tmp_path / name / "images" / f"{name}.png")
        save(tmp_path / name / "masks" / "0.png", filled((255, 0, 0, 9, 9)).astype(np.uint8))
    (tmp_path / "b" / "masks" / "0.png").unlink()
    save(tmp_path / "c" / "images" / "second.png")
    with pytest.raises(DataError, match="2 faults.*b.png: an image without a mask.*c.png: an image without a mask"):
        open_dataset(tmp_path)
    yaml(tmp_path, "exclude: [b.png, c.png]")
    save(tmp_path / "a" / "masks" / "1.png", filled((255, 0, 0, 9, 9), (7, 1, 1, 2, 2)).astype(np.uint8))
    with pytest.raises(DataError, match="more than two values"):
        read_all(tmp_path)


def write_stack(path: Path, pages: np.ndarray, imagej: bool = False) -> None:
    """Write pages (N, H, W) as a TIFF of N pages."""
    tifffile.imwrite(path, pages, imagej=imagej, **({} if imagej else {"photometric": "minisblack"}))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("imagej", [False, True])
def test_stacks_of_pages(tmp_path: Path, dtype: type, imagej: bool) -> None:
    rng = np.random.default_rng(0)
    volume = rng.integers(0, np.iinfo(dtype).max, (5, *SIZE)).astype(dtype)
    labels = (rng.integers(0, 2, (5, *SIZE)) * 255).astype(np.uint8)
    write_stack(tmp_path / "train-volume.tif", volume, imagej)
    write_stack(tmp_path / "train-labels.tif", labels, imagej)
    dataset = open_dataset(tmp_path)
    assert (dataset.format, set(dataset.splits)) == ("stack", {"train", "val", "test"})
    records = sorted(read_all(tmp_path), key=lambda record: record.name)
    assert [record.name for record in records] == [f"train-volume_{page:04d}" for page in range(5)]
    for page, record in enumerate(records):
        np.testing.assert_array_equal(record.image, volume[page])
        np.testing.assert_array_equal(record.mask, labels[page] // 255)


def test_stacks_of_parts_declared_or_unequal(tmp_path: Path) -> None:
    for name, pages in (("train-volume", 3), ("train-labels", 3), ("val-volume", 2), ("val-labels", 2)):
        write_stack(tmp_path / f"{name}.tif", np.full((pages, *SIZE), pages % 2, np.uint8))
    assert {part: len(found) for part, found in open_dataset(tmp_path).splits.items()} == {"train": 3, "val": 2}
    write_stack(tmp_path / "truth.tif", np.stack([filled((1, 0, 0, 3, 3))] * 3).astype(np.uint8))
    yaml(tmp_path, "images: train-volume.tif\nmasks: truth.tif")
    np.testing.assert_array_equal(one_mask(tmp_path), filled((1, 0, 0, 3, 3)))
    yaml(tmp_path, "images: val-volume.tif\nmasks: truth.tif")
    with pytest.raises(DataError, match=r"truth\.tif: .*3 pages, val-volume\.tif has 2"):
        open_dataset(tmp_path)


def test_grey_images_of_16_bits(tmp_path: Path) -> None:
    write_folders(tmp_path, thrice(IDS))
    image = np.arange(IDS.size, dtype=np.uint16).reshape(IDS.shape) * 300
    for path in (tmp_path / "images").iterdir():
        Image.fromarray(image).save(path)
    record = read_all(tmp_path, ignore=255)[0]
    assert record.image.dtype == np.uint16
    np.testing.assert_array_equal(record.image, image)


if __name__ == "__main__":
    import tempfile

    print("| format | folder | images | class ids | oracle |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        for cells in table_rows(Path(work)):
            print("| " + " | ".join(map(str, cells)) + " |")


@pytest.mark.parametrize("layout", ["{kind}", "train/{kind}", "{kind}/train"])
def test_instances_and_weights_beside_the_masks(tmp_path: Path, layout: str) -> None:
    instances = np.zeros((6, 8), np.uint16)
    instances[1:3, 1:4], instances[4:, 5:] = 300, 7
    weights = np.linspace(0, 4, 48, dtype=np.float32).reshape(6, 8)
    arrays = {"images": np.full((6, 8), 9, np.uint8), "masks": (instances > 0).astype(np.uint8), "instances": instances}
    for name in ("a", "b"):
        for kind, values in arrays.items():
            place = tmp_path / layout.format(kind=kind)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(place / f"{name}.png")
    place = tmp_path / layout.format(kind="weights")
    place.mkdir(parents=True)
    tifffile.imwrite(place / "b.tif", weights)
    for record in read_all(tmp_path):
        np.testing.assert_array_equal(record.mask, arrays["masks"])
        np.testing.assert_array_equal(record.instances, instances)
        if record.name == "b.png":
            np.testing.assert_array_equal(record.weight, weights)
        else:
            assert record.weight is None
    for record in read_all(tmp_path, masks_are="instances", target="borders"):
        assert np.argwhere(record.mask == 2).tolist() == [[3, 4]]  # the pixel between the corners of the two
        np.testing.assert_array_equal(record.mask == 1, instances > 0)
        np.testing.assert_array_equal(record.instances, instances)
    tifffile.imwrite(place / "b.tif", -weights)
    with pytest.raises(DataError, match=r"b\.tif.*none below 0"):
        read_all(tmp_path)


@pytest.mark.parametrize("length", [2_000, 200_000])
def test_a_list_of_one_long_line_is_no_list(tmp_path: Path, length: int) -> None:
    (tmp_path / "train.txt").write_text("a.png" + "," * length + "x")
    start = time.process_time()
    assert not camvid.recognises(tmp_path)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("a.png b.png", ("a.png", "b.png")),
        (' "a b.png" ,\t"c d.PNG" ', ("a b.png", "c d.PNG")),
        ("x.png.tif;y.jpeg", ("x.png.tif", "y.jpeg")),
        ("a.png.png", None),
        (".png b.png", None),
        ("a.png .png", None),
        ("a.png b.txt", None),
        ("", None),
    ],
)
def test_a_line_of_a_list_is_a_pair_or_none(line: str, names: tuple[str, str] | None) -> None:
    assert camvid._names(line) == names


def test_an_outline_takes_time_as_its_pixels_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small objects are never decoded over the whole image, and come out as pycocotools decodes them."""
    from pycocotools import mask as drawing

    from keras_unetres.data.forms.outlines import CocoMask, Outline

    rng = np.random.default_rng(3)
    corners = rng.uniform(0, 90, (40, 2)).tolist()
    small = [[[x, y, x + 9.5, y + 1, x + 8, y + 9, x - 1, y + 7]] for x, y in corners]
    large = [[[2, 2, 80, 5, 85, 90, 1, 70]]]
    runs = {"size": [97, 101], "counts": [3, 5, 97 * 101 - 8]}
    outlines = [Outline(drawn, 1 + n % 5, n % 7 == 0) for n, drawn in enumerate([*large, *small, runs])]
    source = CocoMask(Path("x.json"), "a", (97, 101), tuple(outlines), False)
    expected = np.zeros((97, 101), np.uint8)
    decoded = [drawing.decode(source._runs(o)).astype(bool) for o in outlines]
    for o, inside in sorted(zip(outlines, decoded, strict=True), key=lambda pair: (not pair[0].crowd, -pair[1].sum())):
        expected[inside] = IGNORE if o.crowd else o.class_id
    calls, decode = [], drawing.decode
    monkeypatch.setattr(drawing, "decode", lambda runs: calls.append(runs) or decode(runs))
    np.testing.assert_array_equal(source.read(), expected)
    assert len(calls) == 1
