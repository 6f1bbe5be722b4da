"""Exports of Labelbox, Hasty, Datumaro, V7's Darwin, SuperAnnotate and VIA's CSV: read exactly, or refused by name."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_unetres.data.dataset import open_dataset
from keras_unetres.data.records import read_records
from keras_unetres.doctor.check import check
from unetres_edge.errors import DataError

SIDE, NAMES = 40, ("cat", "dog")
Box = tuple[str, int, int, int, int]  # class, left, top, width, height
Boxes = dict[str, list[Box]]


def drawn(count: int = 6) -> tuple[Boxes, dict[str, np.ndarray]]:
    """Return the boxes of each image, and the masks that they are."""
    rng = np.random.default_rng(3)
    boxes: Boxes = {}
    masks = {}
    for number in range(count):
        name, mask = f"x {number}.png", np.zeros((SIDE, SIDE), np.uint8)
        boxes[name] = []
        for index, label in enumerate(NAMES):
            left, top, width, height = (
                3 + 18 * index,
                *rng.integers(2, 20, 1).tolist(),
                *rng.integers(4, 14, 2).tolist(),
            )
            boxes[name].append((label, left, top, width, height))
            mask[top : top + height, left : left + width] = 1 + index
        masks[name] = mask
    return boxes, masks


def write_images(folder: Path, names: Boxes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(4)
    for name in names:
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(folder / name)


def flat(box: Box) -> list[float]:
    _, left, top, width, height = box
    return [left, top, left + width, top, left + width, top + height, left, top + height]


def corners(box: Box) -> list[list[float]]:
    values = flat(box)
    return [[x, y] for x, y in zip(values[::2], values[1::2], strict=True)]


def points(box: Box) -> list[dict[str, float]]:
    return [{"x": x, "y": y} for x, y in corners(box)]


def of_labelbox(root: Path, boxes: Boxes, **more: Any) -> None:
    write_images(root / "images", boxes)
    lines = []
    for name, of_image in boxes.items():
        objects = [{"name": box[0], "annotation_kind": "ImagePolygon", "polygon": points(box)} for box in of_image]
        labels = [{"annotations": {"objects": []}}, {"annotations": {"objects": objects + more.get("objects", [])}}]
        size = {"height": SIDE, "width": SIDE}
        row = {"data_row": {"external_id": name}, "media_attributes": size, "projects": {"p": {"labels": labels}}}
        lines.append(json.dumps(row))
    (root / "export.ndjson").write_text("\n".join(lines))


def of_old_labelbox(root: Path, boxes: Boxes) -> None:
    write_images(root / "images", boxes)
    rows = [
        {
            "External ID": name,
            "Label": {"objects": [{"title": box[0], "value": box[0], "polygon": points(box)} for box in of_image]},
        }
        for name, of_image in boxes.items()
    ]
    (root / "export.json").write_text(json.dumps(rows))


def of_hasty(root: Path, boxes: Boxes) -> None:
    write_images(root / "photos", boxes)
    images = [
        {
            "image_name": name,
            "dataset_name": "photos",
            "height": SIDE,
            "width": SIDE,
            "labels": [
                {"class_name": b[0], "bbox": [0, 0, 9, 9], "polygon": corners(b), "z_index": 1} for b in of_image
            ],
        }
        for name, of_image in boxes.items()
    ]
    classes = [{"class_name": name} for name in NAMES]
    (root / "hasty.json").write_text(json.dumps({"label_classes": classes, "images": images}))


def of_datumaro(root: Path, boxes: Boxes) -> None:
    write_images(root / "images" / "default", boxes)
    items = [
        {
            "id": name.removesuffix(".png"),
            "annotations": [
                {"type": "polygon", "label_id": NAMES.index(box[0]), "points": flat(box), "z_order": 0}
                if index
                else {"type": "mask", "label_id": NAMES.index(box[0]), "rle": runs(box), "z_order": 0}
                for index, box in enumerate(of_image)
            ],
            "image": {"path": name, "size": [SIDE, SIDE]},
        }
        for name, of_image in boxes.items()
    ]
    content = {"info": {}, "categories": {"label": {"labels": [{"name": name} for name in NAMES]}}, "items": items}
    (root / "annotations").mkdir()
    (root / "annotations" / "default.json").write_text(json.dumps(content))


def runs(box: Box) -> dict[str, Any]:
    from pycocotools import mask as drawing

    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    mask[box[2] : box[2] + box[4], box[1] : box[1] + box[3]] = 1
    packed = drawing.encode(mask)
    return {"counts": packed["counts"].decode(), "size": packed["size"]}


def of_darwin(root: Path, boxes: Boxes) -> None:
    write_images(root / "images", boxes)
    (root / "annotations").mkdir()
    for name, of_image in boxes.items():
        drawn_here = [{"name": b[0], "bounding_box": {}, "polygon": {"paths": [points(b)]}} for b in of_image]
        item = {"name": name, "slots": [{"width": SIDE, "height": SIDE}]}
        file = root / "annotations" / f"{Path(name).stem}.json"
        file.write_text(json.dumps({"version": "2.0", "item": item, "annotations": drawn_here}))


def of_old_darwin(root: Path, boxes: Boxes) -> None:
    write_images(root, boxes)
    for name, of_image in boxes.items():
        drawn_here = [{"name": box[0], "polygon": {"path": points(box)}} for box in of_image]
        image = {"filename": name, "workview_url": "https://example.com"}
        (root / f"{Path(name).stem}.json").write_text(json.dumps({"image": image, "annotations": drawn_here}))


def of_superannotate(root: Path, boxes: Boxes) -> None:
    write_images(root, boxes)
    for name, of_image in boxes.items():
        drawn_here = [{"type": "polygon", "className": box[0], "points": flat(box)} for box in of_image]
        said = {"metadata": {"name": name, "width": SIDE, "height": SIDE}, "instances": drawn_here}
        (root / f"{name}___objects.json").write_text(json.dumps(said))


def of_new_superannotate(root: Path, boxes: Boxes) -> None:
    of_superannotate(root / "images", boxes)
    (root / "annotations").mkdir()
    for name in boxes:
        (root / "images" / f"{name}___objects.json").rename(root / "annotations" / f"{name}.json")


def of_via(root: Path, boxes: Boxes) -> None:
    write_images(root / "images", boxes)
    head = "filename file_size file_attributes region_count region_id region_shape_attributes region_attributes"
    with (root / "via_export_csv.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(head.split())
        for name, of_image in boxes.items():
            for index, box in enumerate(of_image):
                x, y = flat(box)[::2], flat(box)[1::2]
                shape = {"name": "polygon", "all_points_x": x, "all_points_y": y}
                said = [json.dumps(each) for each in ({}, len(of_image), index, shape, {"class": box[0]})]
                table.writerow([name, "1", *said])


WRITERS: tuple[Callable[[Path, Boxes], None], ...] = (
    of_labelbox,
    of_old_labelbox,
    of_hasty,
    of_datumaro,
    of_darwin,
    of_old_darwin,
    of_superannotate,
    of_new_superannotate,
    of_via,
)


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_polygons_of_tools_are_read_exactly(tmp_path: Path, write: Callable[[Path, Boxes], None]) -> None:
    boxes, masks = drawn()
    write(tmp_path, boxes)
    records = read_records(open_dataset(tmp_path), ["all"], progress=False)["all"]
    assert records.classes.names == ("background", *NAMES)
    found = {Path(record.name).name: record.mask for record in records}
    assert found.keys() == masks.keys()
    for name, mask in masks.items():
        np.testing.assert_array_equal(found[name], mask)
    assert check(tmp_path, hashes="off", progress=False).faults == []


def test_a_polygon_inside_another_is_a_hole_and_a_box_is_not_labelled(tmp_path: Path) -> None:
    boxes, _ = drawn(5)
    of_darwin(tmp_path, boxes)
    outer, inner = ("cat", 10, 10, 20, 20), ("cat", 15, 15, 5, 5)
    rows = [
        {"name": "cat", "polygon": {"paths": [points(outer), points(inner)]}},
        {"name": "dog", "bounding_box": {"x": 0, "y": 0, "w": 4, "h": 4}},
        {"name": "seen", "tag": {}},
    ]
    file = tmp_path / "annotations" / "x 0.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": rows}))
    records = read_records(open_dataset(tmp_path), ["all"], progress=False)["all"]
    mask = next(record.mask for record in records if record.name.endswith("x 0.png"))
    assert np.bincount(mask.ravel(), minlength=256)[[0, 1, 2, 255]].tolist() == [1600 - 375 - 16, 375, 0, 16]


def test_masks_at_an_address_are_named(tmp_path: Path) -> None:
    boxes, _ = drawn(3)
    kept = [{"name": "dog", "annotation_kind": "ImageSegmentationMask", "mask": {"url": "https://example.com/1"}}]
    of_labelbox(tmp_path, boxes, objects=kept)
    faults = check(tmp_path, hashes="off", progress=False).faults
    assert [fault.kind for fault in faults] == ["bad-annotation"] * 3
    assert "masks at an address: save them as PNG" in faults[0].expected
    of_labelbox(tmp_path, dict.fromkeys(boxes, []), objects=kept)
    with pytest.raises(DataError, match="nothing that is read is drawn.*masks at an address"):
        open_dataset(tmp_path)


def test_images_that_no_row_names_are_said(tmp_path: Path) -> None:
    boxes, _ = drawn()
    of_hasty(tmp_path, boxes)
    write_images(tmp_path / "photos", {"y.png": []})
    assert any("an image beside those" in note and "y.png" in note for note in open_dataset(tmp_path).notes)
    (tmp_path / "photos" / "x 0.png").unlink()
    assert [fault.kind for fault in check(tmp_path, hashes="off", progress=False).faults] == ["missing-image"]
