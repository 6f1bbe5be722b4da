"""Outlines as other tools write them, read exactly: YOLO, CVAT, Label Studio, GeoJSON and ImageJ's ROIs."""

from __future__ import annotations

import base64
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_unetres.data.dataset import Dataset, open_dataset
from keras_unetres.data.forms import label_studio as label_studio_form
from keras_unetres.data.forms import outline_files
from keras_unetres.data.forms.drawn import DrawnMask, Shape
from keras_unetres.data.records import read_records
from keras_unetres.data.sources import ImageFile
from keras_unetres.doctor.check import check
from unetres_edge.errors import DataError

HEIGHT, WIDTH = 24, 40
BOXES = [(4, 3, 14, 11, "leaf"), (20, 8, 33, 20, "spot")]  # left, top, right, bottom of image 0; image n is n px lower
NAMES = ("background", "leaf", "spot")

# What the tools themselves wrote, of masks and corners drawn here: `mask2rle` of label-studio-sdk 2.1.2, base64; and
# `ImagejRoi.frompoints` of roifile 2026.2.10, deflated, base64.
BRUSH = (
    "AAAXcDkb/wM7AMz/+XwDM//l8AzP/5fAMz/+XwDM//l8AzP/5fAMJ/+HwDGf/l8Awn/4fAMZ/+XwDCf/h8Axn/5fAMJ/+HwDGf/l"
    "8AzP/5fAMz/+XwDM//l8AzP/5fAMz/+XwDM//wJzAMR/+owDEf/qMAxH/6jAMR/+owDEf/qMAxH/8BkwAA=="
)
ROIS = {
    "whole": (
        "eJzzzC8tYXjKzsDAwsDMIMkgysDKQAisQGLXALEgEHJA+XwMIgx8Dg4MDI4LoNiAgQHEd2iAYMcJQHwAQmMBe4BYhaALYMCQwYjB"
        "nCENiE2BMJVBF4iTgTwQyxAI04BYl8ECqCqJIRHIMgCy0oAqDFCgIQAfpBVs"
    ),
    "subpixel": (
        "eJzzzC8tYXjKzsDAyiDHIMagy8DCQAisQGIXADEfEEKAAIOA4xcGBicjCAaxHVZAsOMyCMYCNgCxCkFbYcCQwYjBnCENjFMYzIAu"
        "TmVIBvJSgSxDIEwDYl0GC6CqJIZEIMsAyEoDqjBAgYYAroYVMQ=="
    ),
}


def boxes(number: int) -> list[tuple[int, int, int, int, str]]:
    return [(x0, y0 + number, x1, y1 + number, label) for x0, y0, x1, y1, label in BOXES]


def truth(number: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for x0, y0, x1, y1, label in boxes(number):
        mask[y0:y1, x0:x1] = NAMES.index(label)
    return mask


def images(folder: Path, names: str = "a{}.png", count: int = 4) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH), np.uint8)
        Image.fromarray(pixels).save(folder / names.format(number))


def corners(box: tuple[int, int, int, int, str]) -> list[tuple[int, int]]:
    x0, y0, x1, y1, _ = box
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def yolo(root: Path, *, parts: bool = False) -> None:
    for number in range(4):
        part = ("train" if number < 3 else "val") if parts else ""
        images(root / "images" / part, count=0)
        pixels = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH), np.uint8)
        Image.fromarray(pixels).save(root / "images" / part / f"a{number}.png")
        rows = []
        for box in boxes(number):
            shares = " ".join(f"{x / WIDTH:.8f} {y / HEIGHT:.8f}" for x, y in corners(box))
            rows.append(f"{NAMES.index(box[4]) - 1} {shares}")
        (root / "labels" / part).mkdir(parents=True, exist_ok=True)
        (root / "labels" / part / f"a{number}.txt").write_text("\n".join(rows) + "\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnc: 2\nnames: {0: leaf, 1: spot}\n")


def cvat(root: Path) -> None:
    images(root / "images")
    rows = []
    for number in range(4):
        leaf, spot = boxes(number)
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners(leaf))
        x0, y0, x1, y1, _ = spot
        cells = np.pad(np.ones((y1 - y0, x1 - x0), int), 1).ravel()
        edges = np.flatnonzero(np.diff(cells)) + 1
        runs = np.diff([0, *edges, len(cells)])
        size = f'left="{x0 - 1}" top="{y0 - 1}" width="{x1 - x0 + 2}" height="{y1 - y0 + 2}"'
        rows.append(
            f'<image id="{number}" name="a{number}.png" width="{WIDTH}" height="{HEIGHT}">'
            f'<polygon label="leaf" source="manual" occluded="0" points="{points}" z_order="0"></polygon>'
            f'<mask label="spot" source="manual" rle="{", ".join(map(str, runs))}" {size} z_order="0"></mask>'
            "</image>"
        )
    labels = "".join(f"<label><name>{name}</name></label>" for name in NAMES[1:])
    meta = f"<version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
    (root / "annotations.xml").write_text(f'<?xml version="1.0"?><annotations>{meta}{"".join(rows)}</annotations>')


def pack(values: np.ndarray) -> list[int]:
    """Return bytes as @thi.ng/rle-pack writes them, in runs of equal values alone."""
    edges = np.flatnonzero(np.diff(values.astype(int))) + 1
    starts, ends = [0, *edges.tolist()], [*edges.tolist(), len(values)]
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    for start, end in zip(starts, ends, strict=True):
        while start < end:
            length = min(end - start, 1 << 16)
            bits += f"1{3:02b}{length - 1:016b}{int(values[start]):08b}"
            start += length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def label_studio(root: Path) -> None:
    images(root / "images", "8f{:02x}1c2d-a.png")
    tasks = []
    for number in range(4):
        leaf, spot = boxes(number)
        points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners(leaf)]
        alpha = (truth(number) == 2).astype(np.uint8) * 255
        size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
        result = [
            {"type": "polygonlabels", **size, "value": {"points": points, "polygonlabels": ["leaf"]}},
            {
                "type": "brushlabels",
                **size,
                "value": {"format": "rle", "rle": pack(np.repeat(alpha.ravel(), 4)), "brushlabels": ["spot"]},
            },
        ]
        address = f"/data/upload/1/8f{number:02x}1c2d-a.png"
        tasks.append({"id": number, "annotations": [{"id": 1, "result": result}], "data": {"image": address}})
    (root / "project-1.json").write_text(json.dumps(tasks))


def geojson(root: Path) -> None:
    images(root / "slides")
    for number in range(4):
        rows = []
        for box in boxes(number):
            ring = [*corners(box), corners(box)[0]]
            told = {"objectType": "annotation", "classification": {"name": box[4], "color": [200, 0, 0]}}
            geometry = {"type": "Polygon", "coordinates": [ring]}
            rows.append({"type": "Feature", "id": "x", "geometry": geometry, "properties": told})
        content = {"type": "FeatureCollection", "features": rows}
        (root / "slides" / f"a{number}.geojson").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("write", "form"), [(yolo, "yolo"), (cvat, "cvat"), (label_studio, "label-studio"), (geojson, "geojson")]
)
def test_each_form_gives_the_masks_that_it_was_drawn_from(
    write: Callable[[Path], None], form: str, tmp_path: Path
) -> None:
    write(tmp_path)
    dataset = open_dataset(tmp_path)
    records = read_records(dataset, ["all"], progress=False)["all"]
    assert (dataset.format, records.classes.names, len(records)) == (form, NAMES, 4)
    for number, record in enumerate(sorted(records, key=lambda each: each.name)):
        np.testing.assert_array_equal(record.mask, truth(number))
        assert record.instances is not None
        np.testing.assert_array_equal(record.instances, truth(number))  # two objects, numbered 1 and 2
    assert check(tmp_path, hashes="off", progress=False).faults == []


def test_yolo_in_parts_with_images_without_objects(tmp_path: Path) -> None:
    yolo(tmp_path, parts=True)
    Image.fromarray(np.random.default_rng(9).integers(0, 255, (HEIGHT, WIDTH), np.uint8)).save(
        tmp_path / "images" / "val" / "empty.png"
    )
    dataset = open_dataset(tmp_path)
    assert {part: len(found) for part, found in dataset.splits.items()} == {"train": 3, "val": 2}
    records = read_records(dataset, ["val"], progress=False)["val"]
    assert [int(record.mask.any()) for record in records] == [1, 0]
    (tmp_path / "labels" / "train" / "zz.txt").write_text("0 0.1 0.1 0.2 0.1 0.2 0.2\n")
    (tmp_path / "labels" / "train" / "a0.txt").write_text("0 0.1 0.1 0.2\nx\n1 0.5 0.5 0.2 0.2\n")
    found = check(tmp_path, hashes="off", progress=False)
    kinds = sorted(fault.kind for fault in found.faults)
    assert kinds == ["bad-annotation", "bad-annotation", "missing-image"]
    assert [each.kind for each in found.warnings if each.kind == "box-only"] == ["box-only"]


def test_what_is_drawn_of_an_outline_that_encloses_nothing_is_said(tmp_path: Path) -> None:
    yolo(tmp_path, parts=True)
    (tmp_path / "labels" / "train" / "a0.txt").write_text("0 0.1 0.1 0.2 0.2 0.4 0.4\n1 0.5 0.5 0.7 0.5 0.7 0.7\n")
    found = check(tmp_path, hashes="off", progress=False)
    flat = [each for each in found.warnings if each.kind == "flat-outline"]
    assert len(flat) == 1
    assert "a0" in flat[0].file and "object 1" in str(flat[0])


def rois(folder: Path, number: int) -> list[tuple[str, bytes]]:
    made = []
    for kind, box in zip((0, 1), boxes(number), strict=True):
        x0, y0, x1, y1, _ = box
        data = bytearray(64 + 4 * 4)
        data[:4], data[6] = b"Iout", kind
        struct.pack_into(">hhhhhH", data, 4, 227, 0, y0, x0, y1, x1)
        data[6] = kind
        struct.pack_into(">hhhhH", data, 8, y0, x0, y1, x1, 4 * (kind == 0))
        struct.pack_into(">8h", data, 64, *(x - x0 for x, _ in corners(box)), *(y - y0 for _, y in corners(box)))
        made.append((f"{kind}.roi", bytes(data)))
    return made


def test_rois_of_imagej(tmp_path: Path) -> None:
    images(tmp_path)
    for number in range(4):
        with zipfile.ZipFile(tmp_path / f"a{number}_RoiSet.zip", "w") as packed:
            for name, data in rois(tmp_path, number):
                packed.writestr(name, data)
    dataset = open_dataset(tmp_path)
    assert dataset.format == "imagej"
    records = read_records(dataset, ["all"], progress=False)["all"]
    assert records.classes.names == ("background", "object")
    for number, record in enumerate(sorted(records, key=lambda each: each.name)):
        np.testing.assert_array_equal(record.instances, truth(number))
        np.testing.assert_array_equal(record.mask, truth(number) > 0)


def test_declared_classes_select_and_order(tmp_path: Path) -> None:
    cvat(tmp_path)
    (tmp_path / "dataset.yaml").write_text("classes: [background, spot, leaf]\n")
    records = read_records(open_dataset(tmp_path), ["all"], progress=False)["all"]
    assert (records[0].mask == np.array([0, 2, 1])[truth(0)]).all()
    (tmp_path / "dataset.yaml").write_text("classes: [background, leaf]\n")
    with pytest.raises(DataError, match="labels that are no class.*found spot"):
        open_dataset(tmp_path)
    (tmp_path / "dataset.yaml").write_text("classes: [leaf, background, spot]\n")
    with pytest.raises(DataError, match=r"what nothing covers.*classes: \[background, leaf, spot\]"):
        open_dataset(tmp_path)


def test_shapes_without_their_image_or_an_area_are_named(tmp_path: Path) -> None:
    cvat(tmp_path)
    (tmp_path / "images" / "a1.png").unlink()
    file = tmp_path / "annotations.xml"
    file.write_text(file.read_text().replace("<polygon", "<polyline", 1).replace("</polygon", "</polyline", 1))
    found = check(tmp_path, hashes="off", progress=False).faults
    assert sorted((fault.kind, fault.where.image) for fault in found) == [
        ("bad-annotation", "a0.png"),
        ("missing-image", "a1.png"),
    ]
    names = [name for fault in found for name in fault.fix.patch["exclude"]]
    (tmp_path / "dataset.yaml").write_text(f"exclude: {json.dumps(names)}\n")
    assert check(tmp_path, hashes="off", progress=False).faults == []


def test_masks_beside_outlines_are_read_as_masks(tmp_path: Path) -> None:
    """What `predict` writes beside a data set, or an export of another tool, does not take its place."""

    def opened() -> Dataset:
        return open_dataset(tmp_path)

    images(tmp_path / "images")
    (tmp_path / "masks").mkdir()
    for number in range(4):
        Image.fromarray(truth(number)).save(tmp_path / "masks" / f"a{number}.png")
        (tmp_path / "images" / f"a{number}.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    (tmp_path / "annotations.xml").write_text("<annotations><image /></annotations>")
    assert opened().format == "folders"


def test_a_brush_that_label_studio_packed() -> None:
    mask = np.zeros((30, 50), bool)
    mask[4:20, 7:33], mask[10:14, 12:20], mask[22:28, 40:49] = True, False, True
    values = label_studio_form._unpack(list(base64.b64decode(BRUSH)), 4 * mask.size)
    assert values is not None
    np.testing.assert_array_equal(values.reshape(30, 50, 4)[..., 3] > 0, mask)
    assert label_studio_form._unpack(list(base64.b64decode(BRUSH))[:40], 4 * mask.size) is None


@pytest.mark.parametrize(
    ("name", "corners"),
    [
        ("whole", (3, 4, 20, 4, 20, 18, 11, 24, 3, 18)),
        ("subpixel", (30.5, 5.25, 44.5, 5.25, 44.5, 20.75, 30.5, 20.75)),
    ],
)
def test_rois_that_roifile_wrote(name: str, corners: tuple[float, ...]) -> None:
    assert outline_files._roi(zlib.decompress(base64.b64decode(ROIS[name]))) == corners


def test_lines_and_outlines_in_folders_that_are_links(tmp_path: Path) -> None:
    """Of images whose lines are passed over, every pixel would be background."""
    yolo(tmp_path / "set", parts=True)
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        (tmp_path / "set" / part / "train").rename(tmp_path / part / "kept")
        (tmp_path / "set" / part / "train").mkdir()
        (tmp_path / "set" / part / "train" / "linked").symlink_to(tmp_path / part / "kept")
    records = read_records(open_dataset(tmp_path / "set"), ["train"], progress=False)["train"]
    assert [bool(record.mask.any()) for record in records] == [True] * 3
    geojson(tmp_path / "slides")
    (tmp_path / "seen").mkdir()
    (tmp_path / "seen" / "linked").symlink_to(tmp_path / "slides" / "slides")
    assert len(open_dataset(tmp_path / "seen").split("all")) == 4


@pytest.mark.parametrize(
    "text",
    [
        "names: [&a [x, x], &b [*a, *a, *a, *a], &c [*b, *b, *b, *b], " + "*c, " * 70_000 + "]",
        "names: {0: leaf, 2: spot}",
        "names: leaf",
        "names: [leaf",
    ],
    ids=["aliases", "a gap", "a word", "not YAML"],
)
def test_names_of_yolo_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match="data.yaml") as caught:
        open_dataset(tmp_path)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("class_id", ["99999999999", "\u00b2", "1e3"])
def test_a_class_of_yolo_that_no_network_has_is_named(class_id: str, tmp_path: Path) -> None:
    yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "labels" / "a3.txt").write_text(f"{class_id} 0.1 0.1 0.2 0.1 0.2 0.2\n", encoding="utf-8")
    (tmp_path / "dataset.yaml").write_text("format: yolo\n")
    (fault,) = check(tmp_path, hashes="off", progress=False).faults
    assert (fault.kind, fault.where.image) == ("bad-annotation", "a3.png")


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE annotations [<!ENTITY a "xxxxxxxxxx"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        '<!DOCTYPE annotations SYSTEM "file:///etc/hostname">',
        '<?xml version="1.0" encoding="none-such"?>',
    ],
    ids=["entities", "a file", "an encoding"],
)
def test_xml_that_declares_more_than_rows_is_refused(head: str, tmp_path: Path) -> None:
    cvat(tmp_path)
    file = tmp_path / "annotations.xml"
    file.write_text(head + file.read_text().partition("?>")[2])
    with pytest.raises(DataError, match=r"annotations.xml: cannot read"):
        open_dataset(tmp_path)


def _of_row(change: Callable[[dict], None]) -> Callable[[list], None]:
    return lambda tasks: change(tasks[0]["annotations"][0]["result"][1])


@pytest.mark.parametrize(
    "change",
    [
        lambda tasks: tasks[0].update(annotations=[5]),
        lambda tasks: tasks[0].update(annotations={"a": 1}),
        lambda tasks: tasks[0]["annotations"][0].update(result=[5]),
        _of_row(lambda row: row.update(value=[1])),
        _of_row(lambda row: row["value"].update(rle=[300, -1])),
        _of_row(lambda row: row["value"].update(rle=10**9)),
        _of_row(lambda row: row["value"].update(rle=[255] * 400)),
        _of_row(lambda row: row["value"].update(brushlabels=5)),
        _of_row(lambda row: row.update(type="rectanglelabels", value={"x": "?", "rectanglelabels": ["leaf"]})),
    ],
)
def test_a_task_of_label_studio_of_another_form_is_named(change: Callable[[list], None], tmp_path: Path) -> None:
    label_studio(tmp_path)
    file = tmp_path / "project-1.json"
    tasks = json.loads(file.read_text())
    change(tasks)
    file.write_text(json.dumps(tasks))
    (fault,) = check(tmp_path, hashes="off", progress=False).faults
    assert (fault.kind, fault.where.image) == ("bad-annotation", "8f001c2d-a.png")


def test_a_damaged_or_endless_archive_of_rois_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images(tmp_path)
    for number in range(4):
        with zipfile.ZipFile(tmp_path / f"a{number}_RoiSet.zip", "w", zipfile.ZIP_DEFLATED) as packed:
            for name, data in rois(tmp_path, number):
                packed.writestr(name, data)
    file = tmp_path / "a1_RoiSet.zip"
    data = bytearray(file.read_bytes())
    data[40:60] = bytes(20)
    file.write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a2_RoiSet.zip", "a", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("big.roi", bytes(70_000))
    monkeypatch.setattr(outline_files, "_MOST", 60_000)
    found = check(tmp_path, hashes="off", progress=False).faults
    assert [(fault.kind, fault.where.image) for fault in found] == [
        ("bad-annotation", "a1.png"),
        ("bad-annotation", "a2.png"),
    ]


@pytest.mark.parametrize(("width", "points"), [(10**7, ""), (WIDTH, "0,0;900000,9;0,18;900000,27;0,36;900000,45;0,54")])
def test_a_shape_beyond_what_can_be_held_is_named(width: int, points: str, tmp_path: Path) -> None:
    """The drawing of pycocotools takes 40 bytes a px of an outline, and the size that is stated is that of the mask."""
    cvat(tmp_path)
    file = tmp_path / "annotations.xml"
    text = file.read_text().replace(f'width="{WIDTH}" height', f'width="{width}" height', 1)
    file.write_text(text if not points else text.replace(text.split('points="')[1].split('"')[0], points, 1))
    (fault,) = check(tmp_path, hashes="off", progress=False).faults
    assert fault.where.image == "a0.png"


def test_holes_and_overlaps_are_drawn_as_the_whole_image_would_be(tmp_path: Path) -> None:
    images(tmp_path / "slides")
    outer, inner = [[0, 0], [30, 0], [30, 20], [0, 20]], [[5, 5], [20, 5], [20, 15], [5, 15]]
    small, outside = [[10, 7], [40, 7], [40, 12], [10, 12]], [[100, 100], [120, 100], [120, 120]]
    rows = [
        {"geometry": {"type": "Polygon", "coordinates": rings}, "properties": {"class": name}}
        for rings, name in (([outer, inner], "leaf"), ([small], "spot"), ([outside], "spot"))
    ]
    (tmp_path / "slides" / "a0.geojson").write_text(json.dumps({"features": rows}))
    for number in range(1, 4):
        (tmp_path / "slides" / f"a{number}.geojson").write_text('{"features": []}')
    records = read_records(open_dataset(tmp_path), ["all"], progress=False)["all"]
    (record,) = (each for each in records if each.name.endswith("a0.png"))
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[:20, :30] = 1
    expected[5:15, 5:20] = 0
    expected[7:12, 10:40] = 2
    np.testing.assert_array_equal(record.mask, expected)


def test_a_name_in_exclude_that_is_not_there_is_refused(tmp_path: Path) -> None:
    cvat(tmp_path)
    (tmp_path / "dataset.yaml").write_text("exclude: [a0.png, A1.png]\n")
    with pytest.raises(DataError, match=r"exclude names images that are not there.*found A1.png; fix: a1.png in place"):
        open_dataset(tmp_path)
    (tmp_path / "dataset.yaml").write_text("exclude: [a0.png, a1.png]\n")
    assert len(open_dataset(tmp_path).split("all")) == 2


def test_polygons_of_pixels_are_filled_as_opencv_fills_them() -> None:
    with np.load(Path(__file__).with_name("golden") / "opencv_polygons.npz") as golden:
        corners, masks = golden["corners"].astype(float), np.unpackbits(golden["masks"]).reshape(-1, 32, 32)
    shapes = [Shape("cell", (tuple(a.ravel()),), (tuple(b.ravel()),), closed=True) for a, b in corners]
    for shape, mask in zip(shapes, masks, strict=True):
        drawn = DrawnMask(Path("a.json"), ImageFile(Path("a.png")), (32, 32), (shape,), {"cell": 1})
        assert np.array_equal(drawn.read(), mask)
