"""Writes `tool_files.zip`: one drawn data set, as the annotation tools themselves write it, with the true class ids.

Made once, by Python 3.11 with labelme 6.3.1, datumaro 1.13.12, label-studio-converter 0.0.59, supervision 0.31.2,
roifile 2026.2.10 and tifffile 2026.3.3, and later, of the two of its own alone, with ultralytics 8.4.190:

    python -m venv tools && tools/bin/pip install labelme datumaro label-studio-converter supervision roifile tifffile
    tools/bin/python tests/golden/make_tool_files.py
    tools/bin/pip install ultralytics
    tools/bin/python tests/golden/make_tool_files.py ultralytics_masks ultralytics_coco

With names of tools, these are added to the file, and the others stay as they are.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH, COUNT = 24, 32, 4
_PACKED = zipfile.ZIP_DEFLATED
NAMES = ("background", "cat", "dog")
RNG = np.random.default_rng(5)


def scene() -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, int, int, int]]]:
    """Return an image, its class ids, and (class, top, left, height, width) of each rectangle."""
    ids, boxes = np.zeros((HEIGHT, WIDTH), np.uint8), []
    for class_id in (1, 2):
        top, left = int(RNG.integers(1, 12)), int(RNG.integers(1, 6)) + 15 * (class_id - 1)
        height, width = int(RNG.integers(5, 10)), int(RNG.integers(5, 10))
        ids[top : top + height, left : left + width] = class_id
        boxes.append((class_id, top, left, height, width))
    return np.array([(60, 70, 60), (200, 60, 60), (60, 60, 200)], np.uint8)[ids], ids, boxes


SCENES = [(f"pic{number}", *scene()) for number in range(COUNT)]


def corners(box: tuple[int, int, int, int, int]) -> list[list[int]]:
    _, top, left, height, width = box
    return [[left, top], [left + width, top], [left + width, top + height], [left, top + height]]


def inside(box: tuple[int, int, int, int, int]) -> np.ndarray:
    _, top, left, height, width = box
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def save_images(folder: Path, ending: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, image, _, _ in SCENES:
        Image.fromarray(image).save(folder / f"{stem}{ending}")


def labelme(root: Path) -> None:
    from labelme._label_file import LabelFile

    save_images(root)
    for stem, _, _, boxes in SCENES:
        shapes = [
            {"label": NAMES[box[0]], "points": [[x - (x > box[2]), y - (y > box[1])] for x, y in corners(box)]}
            | {"shape_type": "polygon", "group_id": None, "description": "", "flags": {}, "mask": None}
            for box in boxes
        ]
        LabelFile().save(str(root / f"{stem}.json"), shapes, f"{stem}.png", HEIGHT, WIDTH, None, {}, {})


def datumaro(root: Path, form: str, *, masks: bool, background: bool = False, **options: object) -> None:
    from datumaro.components import annotation
    from datumaro.components.dataset import Dataset
    from datumaro.components.dataset_base import DatasetItem
    from datumaro.components.media import Image as Picture

    names = NAMES if background else NAMES[1:]
    items = []
    for number, (stem, image, _, boxes) in enumerate(SCENES, 1):
        drawn = []
        for place, box in enumerate(boxes):
            told = {"label": box[0] - (not background), "id": place + 1, "group": place + 1, "z_order": place}
            flat = [value for corner in corners(box) for value in corner]
            drawn.append(annotation.Mask(inside(box), **told) if masks else annotation.Polygon(flat, **told))
        media = Picture.from_numpy(image[..., ::-1])
        items.append(DatasetItem(stem, subset="train", media=media, annotations=drawn, attributes={"id": number}))
    labels = annotation.LabelCategories()
    for name in names:
        labels.add(name)
    categories = {annotation.AnnotationType.label: labels}
    if background:
        colors = {0: (0, 0, 0), 1: (128, 64, 128), 2: (0, 128, 0)}
        categories[annotation.AnnotationType.mask] = annotation.MaskCategories(colors)
    data = Dataset.from_iterable(items, categories=categories, media_type=Picture)
    data.export(str(root), form, save_media=True, **options)


def label_studio(root: Path) -> None:
    from label_studio_converter.brush import mask2rle

    save_images(root / "images")
    tasks = []
    for number, (stem, _, _, boxes) in enumerate(SCENES, 1):
        results = [
            {
                "id": f"r{box[0]}",
                "type": "brushlabels",
                "from_name": "tag",
                "to_name": "image",
                "original_width": WIDTH,
                "original_height": HEIGHT,
                "value": {
                    "format": "rle",
                    "rle": mask2rle(inside(box) * np.uint8(255)),
                    "brushlabels": [NAMES[box[0]]],
                },
            }
            for box in boxes
        ]
        made = [{"id": number, "result": results, "was_cancelled": False}]
        tasks.append({"id": number, "data": {"image": f"/data/upload/1/1a2b3c4d-{stem}.png"}, "annotations": made})
    (root / "project.json").write_text(json.dumps(tasks))


def supervision(root: Path, form: str) -> None:
    import supervision

    images, found = {}, {}
    for stem, image, _, boxes in SCENES:
        masks = np.stack([inside(box) for box in boxes])
        where = supervision.mask_to_xyxy(masks).astype(float)
        of_class = np.array([box[0] - 1 for box in boxes])
        images[f"{stem}.png"] = image[..., ::-1].copy()
        found[f"{stem}.png"] = supervision.Detections(xyxy=where, mask=masks, class_id=of_class)
    data = supervision.DetectionDataset(classes=list(NAMES[1:]), images=images, annotations=found)
    if form == "yolo":
        data.as_yolo(str(root / "images"), str(root / "labels"), str(root / "data.yaml"))
    elif form == "coco":
        data.as_coco(str(root / "images"), str(root / "annotations.json"))
    else:
        data.as_pascal_voc(str(root / "images"), str(root / "annotations"))


def ultralytics_masks(root: Path) -> None:
    from ultralytics.data.converter import convert_segment_masks_to_yolo_seg

    save_images(root / "images")
    (root / "labels").mkdir()
    with tempfile.TemporaryDirectory() as masks:
        for stem, _, ids, _ in SCENES:
            Image.fromarray(ids).save(Path(masks) / f"{stem}.png")
        convert_segment_masks_to_yolo_seg(masks, str(root / "labels"), len(NAMES) - 1)
    (root / "data.yaml").write_text("train: images\nval: images\nnames: {0: cat, 1: dog}\n")


def ultralytics_coco(root: Path) -> None:
    from ultralytics.data.converter import convert_coco

    images = [
        {"id": number, "file_name": f"{stem}.png", "height": HEIGHT, "width": WIDTH}
        for number, (stem, _, _, _) in enumerate(SCENES)
    ]
    rows = [
        {"id": 10 * number + box[0], "image_id": number, "category_id": box[0], "iscrowd": 0, "area": box[3] * box[4]}
        | {"bbox": [box[2], box[1], box[4], box[3]], "segmentation": [sum(corners(box), [])]}
        for number, (_, _, _, boxes) in enumerate(SCENES)
        for box in boxes
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES[1:], 1)]
    with tempfile.TemporaryDirectory() as place:
        told = {"images": images, "annotations": rows, "categories": categories}
        (Path(place) / "coco").mkdir()
        (Path(place) / "coco" / "instances.json").write_text(json.dumps(told))
        made = Path(place) / "made"
        convert_coco(str(Path(place) / "coco"), str(made), use_segments=True, cls91to80=False)
        shutil.copytree(made / "labels" / "instances", root / "labels")
    save_images(root / "images")
    (root / "data.yaml").write_text("train: images\nval: images\nnames: {0: cat, 1: dog}\n")


def imagej(root: Path) -> None:
    import roifile

    save_images(root, ".tif")
    for stem, _, _, boxes in SCENES:
        rois = [roifile.ImagejRoi.frompoints(np.array(corners(box), np.float32), name=str(box[0])) for box in boxes]
        roifile.roiwrite(root / f"{stem}_RoiSet.zip", rois)


def ome(root: Path, axes: str) -> None:
    import tifffile

    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for stem, image, ids, _ in SCENES:
        values = image if axes == "YXS" else np.moveaxis(image, -1, 0).astype(np.uint16) * 257
        color = "rgb" if axes == "YXS" else "minisblack"
        tifffile.imwrite(root / f"images/{stem}.ome.tif", values, photometric=color, metadata={"axes": axes})
        tifffile.imwrite(root / f"masks/{stem}.ome.tif", ids, metadata={"axes": "YX"})


WRITERS = {
    "labelme": labelme,
    "datumaro_coco": lambda root: datumaro(root, "coco_instances", masks=False),
    "datumaro_cvat": lambda root: datumaro(root, "cvat", masks=False),
    "datumaro_labelme_xml": lambda root: datumaro(root, "label_me", masks=False),
    "datumaro_voc": lambda root: datumaro(
        root, "voc_segmentation", masks=True, background=True, label_map="source", apply_colormap=True
    ),
    "datumaro_camvid": lambda root: datumaro(root, "camvid", masks=True, background=True),
    "datumaro_cityscapes": lambda root: datumaro(root, "cityscapes", masks=True, background=True),
    "datumaro_kitti": lambda root: datumaro(root, "kitti_segmentation", masks=True, background=True),
    "label_studio": label_studio,
    "supervision_yolo": lambda root: supervision(root, "yolo"),
    "supervision_coco": lambda root: supervision(root, "coco"),
    "supervision_voc": lambda root: supervision(root, "voc"),
    "ultralytics_masks": ultralytics_masks,
    "ultralytics_coco": ultralytics_coco,
    "imagej": imagej,
    "ome_yxs": lambda root: ome(root, "YXS"),
    "ome_cyx": lambda root: ome(root, "CYX"),
}


def main() -> None:
    asked = sys.argv[1:]
    file = Path(__file__).with_name("tool_files.zip")
    with tempfile.TemporaryDirectory() as place, zipfile.ZipFile(file, "a" if asked else "w", _PACKED) as packed:
        for name in asked or WRITERS:
            root = Path(place) / name
            root.mkdir()
            WRITERS[name](root)
            for path in sorted(root.rglob("*")):
                packed.write(path, path.relative_to(place))
            shutil.rmtree(root)
        for stem, _, ids, _ in () if asked else SCENES:
            Image.fromarray(ids).save(Path(place) / f"{stem}.png")
            packed.write(Path(place) / f"{stem}.png", f"truth/{stem}.png")


if __name__ == "__main__":
    main()
