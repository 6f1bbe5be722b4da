"""Forms, and masks whose values mislead: Hugging Face's tables, JSON-MIN, a few numbered objects, blended edges."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from keras_unetres.data import open_dataset, read_records
from keras_unetres.doctor.check import check
from unetres_edge.errors import DataError

COUNT = 8


def write_images(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        grain = np.random.default_rng(number).integers(0, 256, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(grain).save(folder / name)


def square(number: int, value: int = 1) -> np.ndarray:
    mask = np.zeros((40, 50), np.uint8)
    mask[4 : 8 + number, 5:15] = value
    return mask


def pixels_of(folder: Path) -> dict[str, int]:
    """Return class -> pixels of a data set, which is read without a fault."""
    report = check(folder, hashes="off", progress=False).to_dict()
    assert report["faults"] == []
    return {row["name"]: row["pixels"] for row in report["classes"]}


def only_fault(folder: Path) -> dict[str, Any]:
    (fault,) = check(folder, hashes="off", progress=False).to_dict()["faults"]
    return fault


@pytest.mark.parametrize("place", ["", "train"])
@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_the_table_of_an_imagefolder_says_which_mask_is_whose(tmp_path: Path, place: str, ending: str) -> None:
    base = tmp_path / place
    write_images(base / "images", [f"{n}.png" for n in range(COUNT)])
    (base / "masks").mkdir()
    rows = []
    for number in range(COUNT):
        name = f"masks/{(3 * number) % COUNT}.png"  # another number than the image has
        Image.fromarray(square(number)).save(base / name)
        rows.append({"file_name": f"images/{number}.png", "mask_file_name": name, "text": "a, b"})
    lines = {
        "jsonl": [json.dumps(row) for row in rows],
        "csv": ["file_name,mask_file_name", *(f"{row['file_name']},{row['mask_file_name']}" for row in rows)],
    }
    (base / f"metadata.{ending}").write_text("\n".join(lines[ending]) + "\n")
    summary = check(tmp_path, hashes="off", progress=False).summary
    assert summary is not None
    found = {image.sample.image.file.stem: (image.counts or {})[1] for image in summary.images}
    assert found == {str(n): int(square(n).sum()) for n in range(COUNT)}


def test_a_table_without_masks_is_no_list_of_pairs(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [f"{n}.png" for n in range(COUNT)])
    (tmp_path / "masks").mkdir()
    for number in range(COUNT):
        Image.fromarray(square(number)).save(tmp_path / "masks" / f"{number}.png")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "images/0.png", "text": "a cell"}) + "\n")
    assert pixels_of(tmp_path)["foreground"] == sum(int(square(n).sum()) for n in range(COUNT))


def test_json_min_is_read_as_json_is(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [f"{n}.png" for n in range(COUNT)])
    corners = [[10, 10], [10, 60], [50, 60], [50, 10]]  # percent
    value = {"points": corners, "closed": True, "polygonlabels": ["cell"]}
    size = {"original_width": 50, "original_height": 40}
    about = {"annotator": 1, "annotation_id": 1, "created_at": "", "updated_at": "", "lead_time": 1.0}
    short = [{"image": f"/data/upload/1/{n}.png", "id": n, "label": [value | size], **about} for n in range(COUNT)]
    file = tmp_path / "project.json"
    file.write_text(json.dumps(short))
    found = pixels_of(tmp_path)
    results = [{"type": "polygonlabels", "value": value, **size}]
    data = [{"image": f"/data/upload/1/{n}.png"} for n in range(COUNT)]
    file.write_text(json.dumps([{"data": each, "annotations": [{"result": results}]} for each in data]))
    assert found == pixels_of(tmp_path)
    assert found["cell"] == COUNT * 20 * 20


def write_masks(folder: Path, draw: Callable[[int], np.ndarray]) -> Path:
    write_images(folder / "images", [f"{n}.png" for n in range(COUNT)])
    (folder / "masks").mkdir()
    for number in range(COUNT):
        Image.fromarray(draw(number)).save(folder / "masks" / f"{number}.png")
    return folder


def bars(number: int, count: int) -> np.ndarray:
    mask = np.zeros((40, 50), np.uint8)
    for n in range(count):
        mask[2 + 9 * n : 8 + 9 * n, 3 + number : 20] = n + 1
    return mask


def test_a_few_objects_that_are_numbered_in_order_are_asked_about(tmp_path: Path) -> None:
    fault = only_fault(write_masks(tmp_path, lambda n: bars(n, 2 + n % 3)))
    assert (fault["kind"], fault["patch"]) == ("instance-ids", {"masks_are": "instances"})
    (tmp_path / "dataset.yaml").write_text("masks_are: instances\n")
    assert set(pixels_of(tmp_path)) == {"background", "object"}
    (tmp_path / "dataset.yaml").write_text("classes: [background, a, b, c, d]\n")
    assert set(pixels_of(tmp_path)) == {"background", "a", "b", "c", "d"}


@pytest.mark.parametrize("kind", ["in every mask", "in another order", "in two pieces"])
def test_classes_are_not_taken_for_objects(tmp_path: Path, kind: str) -> None:
    def draw(number: int) -> np.ndarray:
        mask = bars(number, 4 if kind == "in every mask" else 2 + number % 3)
        if kind == "in another order":
            return np.ascontiguousarray(mask[::-1])
        if kind == "in two pieces":
            mask[2:8, 30:40] = 1
        return mask

    assert set(pixels_of(write_masks(tmp_path, draw))) == {"0", "1", "2", "3", "4"}


def test_edges_that_are_blended_between_several_classes_are_no_objects(tmp_path: Path) -> None:
    def draw(number: int) -> np.ndarray:
        mask = Image.new("L", (50, 40))
        ImageDraw.Draw(mask).ellipse((3, 3, 18 + number, 20), fill=100)
        ImageDraw.Draw(mask).ellipse((24, 10, 44, 34), fill=200)
        return np.asarray(mask.filter(ImageFilter.GaussianBlur(1)))

    fault = only_fault(write_masks(tmp_path, draw))
    assert fault["kind"] == "smeared-mask"
    assert fault["patch"] is None  # between 0 and 200 lies 100, so that no range is safe


def test_a_table_of_polygons_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [f"{n}.png" for n in range(COUNT)])
    (tmp_path / "annotations.csv").write_text('filename,label,points\n0.png,cell,"[[1,1],[9,1],[9,9]]"\n')
    fault = only_fault(tmp_path)
    assert fault["file"].endswith("annotations.csv")
    assert "COCO" in fault["fix"]
    assert fault["found"] is not None


def test_two_colours_are_two_classes_also_where_they_are_those_of_a_known_table(tmp_path: Path) -> None:
    purple = np.array([128, 0, 128], np.uint8)  # PASCAL VOC's bottle, class 5
    fault = check(
        write_masks(tmp_path, lambda n: square(n)[..., None] * purple), hashes="off", progress=False
    ).to_dict()["faults"][0]
    assert fault["patch"] == {"values": {"#000000": 0, "#800080": 1}}


def write_objects(folder: Path, colored: set[int]) -> Path:
    """Write masks that number objects: those of some images by colours, of two objects in one."""
    palette = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]], np.uint8)
    write_masks(folder, lambda n: palette[bars(n, 4) % 4] if n in colored else bars(n, 4))
    (folder / "dataset.yaml").write_text("masks_are: instances\n")
    return folder


def test_a_mask_in_colours_among_those_that_number_objects_is_named(tmp_path: Path) -> None:
    fault = only_fault(write_objects(tmp_path, {3}))
    assert (fault["kind"], fault["file"]) == ("color-mask", "masks/3.png")
    with pytest.raises(DataError, match="colours"):
        read_records(open_dataset(tmp_path), ["all"], progress=False)


def test_masks_that_are_all_in_colours_number_objects_by_them(tmp_path: Path) -> None:
    folder = write_objects(tmp_path, set(range(COUNT)))
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(folder / "masks" / "1.png")  # no object
    assert set(pixels_of(folder)) == {"background", "object"}
