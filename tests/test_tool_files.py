"""Files that annotation tools wrote themselves (`golden/make_tool_files.py`), and documented forms of others."""

from __future__ import annotations

import base64
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from keras_unetres.data.dataset import open_dataset
from keras_unetres.data.records import read_records
from keras_unetres.doctor.check import check
from unetres_edge.errors import DataError

GOLDEN = Path(__file__).with_name("golden") / "tool_files.zip"
TOOLS = {
    "labelme": "labelme",
    "datumaro_coco": "coco",
    "datumaro_cvat": "cvat",
    "datumaro_labelme_xml": "xml",
    "datumaro_voc": "voc",
    "datumaro_camvid": "camvid",
    "datumaro_cityscapes": "folders",
    "datumaro_kitti": "folders",
    "label_studio": "label-studio",
    "imagej": "imagej",
    "ome_yxs": "folders",
    "ome_cyx": "folders",
    "supervision_yolo": "yolo",
    "supervision_coco": "coco",
    "supervision_voc": "xml",
    "ultralytics_masks": "yolo",
    "ultralytics_coco": "yolo",
}
QUICK = ("labelme", "datumaro_cvat", "label_studio", "supervision_yolo", "ome_cyx")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tools")
    with zipfile.ZipFile(GOLDEN) as packed:
        packed.extractall(root)
    return root


def masks_of(root: Path) -> dict[str, np.ndarray]:
    """Return the number in each image's name -> its class ids."""
    records = read_records(open_dataset(root), ["all"], progress=False)["all"]
    return {"".join(c for c in Path(record.name).name if c.isdigit())[:1]: record.mask for record in records}


@pytest.mark.parametrize(
    "tool", [tool if tool in QUICK else pytest.param(tool, marks=pytest.mark.slow) for tool in TOOLS]
)
def test_files_of_the_tools_are_read_exactly(written: Path, tool: str) -> None:
    assert open_dataset(written / tool).format == TOOLS[tool]
    assert not check(written / tool, hashes="off", progress=False).faults
    found = masks_of(written / tool)
    assert sorted(found) == ["0", "1", "2", "3"]
    for number, mask in found.items():
        truth = np.asarray(Image.open(written / f"truth/pic{number}.png"))
        if tool == "imagej":  # whose ROIs have no class
            truth = truth > 0
        if tool.startswith(("supervision", "ultralytics_masks")):  # outlines through the middle of the outermost pixels
            inner = np.where(ndimage.minimum_filter(truth, 3) == ndimage.maximum_filter(truth, 3), truth, 255)
            assert np.array_equal(mask[inner < 255], truth[inner < 255])
            assert np.isin(mask[inner == 255], (0, 1, 2)).all()
        else:
            assert np.array_equal(mask, truth)


# Forms that are documented, of tools that are services or need a screen

SIZE = (20, 24)
BOXES = {"cat": (2, 3, 10, 11), "dog": (6, 14, 17, 21)}  # top, left, bottom, right


def truth(order: tuple[str, ...] = ("cat", "dog")) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    for name, (top, left, bottom, right) in BOXES.items():
        mask[top:bottom, left:right] = 1 + order.index(name)
    return mask


def corners(name: str) -> list[tuple[int, int]]:
    top, left, bottom, right = BOXES[name]
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def pictures(folder: Path, count: int = 4) -> list[Path]:
    folder.mkdir(parents=True)
    files = [folder / f"a{number}.png" for number in range(count)]
    for number, file in enumerate(files):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)).save(file)
    return files


def via(root: Path) -> None:
    told: dict[str, Any] = {}
    for file in pictures(root / "images"):
        top, left, bottom, right = BOXES["dog"]
        points = corners("cat")
        polygon = {"name": "polygon", "all_points_x": [x for x, _ in points], "all_points_y": [y for _, y in points]}
        box = {"name": "rect", "x": left, "y": top, "width": right - left, "height": bottom - top}
        regions = [
            {"shape_attributes": polygon, "region_attributes": {"class": "cat"}},
            {"shape_attributes": box, "region_attributes": {"class": {"dog": True}}},
        ]
        told[f"{file.name}123"] = {"filename": file.name, "size": 123, "regions": regions, "file_attributes": {}}
    (root / "via_export.json").write_text(json.dumps({"_via_settings": {}, "_via_img_metadata": told}))


def supervisely(root: Path) -> None:
    (root / "ds/ann").mkdir(parents=True)
    pixels = [(x - (x == BOXES["cat"][3]), y - (y == BOXES["cat"][2])) for x, y in corners("cat")]  # at the corners
    for file in pictures(root / "ds/img"):
        top, left, bottom, right = BOXES["dog"]
        packed = io.BytesIO()
        Image.fromarray(np.full((bottom - top, right - left), 255, np.uint8)).convert("1").save(packed, "PNG")
        data = base64.b64encode(zlib.compress(packed.getvalue())).decode()
        objects = [
            {"classTitle": "cat", "geometryType": "polygon", "points": {"exterior": pixels, "interior": []}},
            {"classTitle": "dog", "geometryType": "bitmap", "bitmap": {"data": data, "origin": [left, top]}},
        ]
        size = {"height": SIZE[0], "width": SIZE[1]}
        (root / f"ds/ann/{file.name}.json").write_text(json.dumps({"size": size, "tags": [], "objects": objects}))
    (root / "meta.json").write_text(json.dumps({"classes": [], "tags": []}))


def imagescope(root: Path) -> None:
    layers = ""
    for name in BOXES:
        vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in corners(name))
        region = f'<Region Id="1" NegativeROA="0"><Vertices>{vertices}</Vertices></Region>'
        layers += f'<Annotation Id="1" Name="{name}"><Regions>{region}</Regions></Annotation>'
    (root / "Annotations").mkdir()
    for file in pictures(root / "Tissue Images"):
        (root / f"Annotations/{file.stem}.xml").write_text(f"<Annotations>{layers}</Annotations>")


def asap(root: Path) -> None:
    rows = ""
    for name in BOXES:
        points = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(corners(name)))
        row = f"<Coordinates>{points}</Coordinates>"
        rows += f'<Annotation Name="n" Type="Polygon" PartOfGroup="{name}">{row}</Annotation>'
    for file in pictures(root / "slides"):
        text = f"<ASAP_Annotations><Annotations>{rows}</Annotations></ASAP_Annotations>"
        (root / f"slides/{file.stem}.xml").write_text(text)


@pytest.mark.parametrize("write", [via, supervisely, imagescope, asap], ids=lambda write: write.__name__)
def test_documented_forms_are_read_exactly(tmp_path: Path, write: Any) -> None:
    write(tmp_path)
    data = open_dataset(tmp_path, changes={"test_from": "none"})
    records = read_records(data, ["all"], progress=False)["all"]
    assert records.classes.names == ("background", "cat", "dog")
    assert len(records) == 4
    for record in records:
        assert np.array_equal(record.mask, truth())
        assert sorted(np.unique(record.instances)) == [0, 1, 2]
    assert not check(tmp_path, hashes="off", progress=False).faults


def test_what_a_tool_wrote_wrongly_is_named(tmp_path: Path) -> None:
    imagescope(tmp_path)
    (tmp_path / "Annotations/a1.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><Annotations><Vertices/></Annotations>')
    (tmp_path / "Annotations/a2.xml").write_text(
        '<Annotations><Annotation><Regions><Region><Vertices><Vertex X="1" Y="nan"/></Vertices></Region></Regions>'
        "</Annotation></Annotations>"
    )
    (tmp_path / "Tissue Images/a3.png").unlink()
    faults = check(tmp_path, hashes="off", progress=False).faults
    assert sorted((fault.kind, fault.where.image) for fault in faults) == [
        ("bad-annotation", "a1.png"),
        ("bad-annotation", "a2.png"),
        ("missing-image", "a3.*"),
    ]


@pytest.mark.parametrize("channels", [1, 2])
def test_nnunet_names_the_classes_and_joins_the_channels(tmp_path: Path, channels: int) -> None:
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (tmp_path / folder).mkdir()
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 256, (4, channels, *SIZE)).astype(np.uint8)
    masks = rng.integers(0, 3, (4, *SIZE)).astype(np.uint8)
    for number in range(4):
        for channel in range(channels):
            Image.fromarray(stored[number, channel]).save(tmp_path / f"imagesTr/case_{number}_{channel:04d}.png")
        Image.fromarray(masks[number]).save(tmp_path / f"labelsTr/case_{number}.png")
    labels = {"background": 0, "tumor": 1, "vessel": 2}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".png"}))
    records = read_records(open_dataset(tmp_path, changes={"test_from": "none"}), ["all"], progress=False)["all"]
    assert records.classes.names == tuple(labels)
    for record in records:
        number = int(Path(record.name).stem[-1])
        assert np.array_equal(record.mask, masks[number])
        assert np.array_equal(record.image, np.moveaxis(stored[number], 0, -1).squeeze())


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("data.zip", b"PK\x03\x04", "the data set is packed.*unpack data.zip"),
        ("train.h5", b"\x89HDF\r\n", r"files that are not read.*train\.h5.*X\.npy and Y\.npy"),
    ],
)
def test_what_is_packed_is_said(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        open_dataset(tmp_path)


def test_the_names_of_yolo_lie_above_the_lines(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    for file in pictures(tmp_path / "images"):
        rows = [
            f"{number} " + " ".join(f"{x / SIZE[1]} {y / SIZE[0]}" for x, y in corners(name))
            for number, name in enumerate(BOXES)
        ]
        (tmp_path / f"labels/{file.stem}.txt").write_text("\n".join(rows))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    records = read_records(open_dataset(tmp_path), ["all"], progress=False)["all"]
    assert records.classes.names == ("background", "cat", "dog")
    assert all(np.array_equal(record.mask, truth()) for record in records)


def test_an_image_inside_the_file_of_labelme(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 256, (4, *SIZE, 3), np.uint8)
    for number in range(4):
        packed = io.BytesIO()
        Image.fromarray(stored[number]).save(packed, "PNG")
        shape = {"label": "cat", "points": [[3, 3], [9, 3], [9, 9], [3, 9]], "shape_type": "polygon"}
        told = {"shapes": [shape], "imagePath": f"..\\pics\\a{number}.png", "imageHeight": 20, "imageWidth": 24}
        told |= {"imageData": base64.b64encode(packed.getvalue()).decode()}
        (tmp_path / f"a{number}.json").write_text(json.dumps(told))
    records = read_records(open_dataset(tmp_path), ["all"], progress=False)["all"]
    assert sorted(record.name for record in records) == [f"a{number}.png" for number in range(4)]
    for record in records:
        assert np.array_equal(record.image, stored[int(record.name[1])])
        assert record.mask.sum() == 49
    (tmp_path / "a0.json").write_text((tmp_path / "a0.json").read_text().replace('"imageData": "', '"imageData": "!'))
    assert [f.kind for f in check(tmp_path, hashes="off", progress=False).faults] == ["unreadable"]
