"""Images that EXIF turns: masks and annotations on the pixels as stored are turned, too; what is unclear is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_unetres.data.dataset import open_dataset
from keras_unetres.data.records import Records, read_records
from keras_unetres.doctor.check import check
from unetres_edge.errors import DataError
from unetres_edge.images.tiff import upright


def draw(root: Path, orientations: list[int], *, stored: bool, shape: tuple[int, int] = (24, 40)) -> None:
    """Write pictures of one bright rectangle each, turned by EXIF, and their masks."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number, orientation in enumerate(orientations):
        mask = np.zeros(shape, np.uint8)
        mask[3:11, 5 : 12 + number] = 1
        rng = np.random.default_rng(number)
        pixels = (60 + 120 * mask + rng.integers(0, 20, shape)).astype(np.uint8)
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(root / "images" / f"a{number}.jpg", quality=95, exif=exif)
        Image.fromarray(mask if stored else upright(mask, orientation)).save(root / "masks" / f"a{number}.png")


def read(root: Path) -> Records:
    return read_records(open_dataset(root), ["all"], progress=False)["all"]


def lie_right(records: Records) -> bool:
    """Whether every mask lies on the bright pixels of its image."""
    return all(((record.image > 115) == (record.mask == 1)).mean() > 0.97 for record in records)


@pytest.mark.parametrize("stored", [True, False])
def test_where_the_sides_tell_masks_are_read_as_they_fit(stored: bool, tmp_path: Path) -> None:
    draw(tmp_path, [6, 8, 5, 7, 1, 6], stored=stored)
    found = check(tmp_path, hashes="off", progress=False)
    assert found.faults == []
    notes = [note for note in found.to_dict()["notes"] if "EXIF" in note]
    assert notes == ["EXIF turns 5 images: the masks of 5 lie on the pixels as stored and are turned, too"] * stored
    records = read(tmp_path)
    assert lie_right(records)
    assert bool(records.classes.note) == stored


@pytest.mark.parametrize(("shape", "turns"), [((24, 24), [6, 8, 3, 2, 1, 6]), ((24, 40), [3, 3, 2, 4, 1, 3])])
@pytest.mark.parametrize("stored", [True, False])
def test_where_both_fit_the_edges_tell(shape: tuple[int, int], turns: list[int], stored: bool, tmp_path: Path) -> None:
    draw(tmp_path, turns, stored=stored, shape=shape)
    faults = check(tmp_path, hashes="off", progress=False).faults
    assert [(fault.kind, fault.fix.text) for fault in faults] == [("turned-image", "masks_on: stored")] * 5 * stored
    if stored:
        with pytest.raises(DataError, match="masks_on: stored"):
            read(tmp_path)
        (tmp_path / "dataset.yaml").write_text("masks_on: stored\n")
        assert check(tmp_path, hashes="off", progress=False).faults == []
    assert lie_right(read(tmp_path))


def test_sizes_in_an_annotation_file_are_those_stored(tmp_path: Path) -> None:
    draw(tmp_path, [6, 8, 6, 1], stored=True)
    images, annotations = [], []
    for number in range(4):
        images.append({"id": number, "file_name": f"a{number}.jpg", "width": 40, "height": 24})
        polygon = [[5, 3, 12 + number, 3, 12 + number, 11, 5, 11]]
        row = {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "segmentation": polygon}
        annotations.append(row)
    said = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    (tmp_path / "instances.json").write_text(json.dumps(said))
    for mask in (tmp_path / "masks").iterdir():
        mask.unlink()
    (tmp_path / "masks").rmdir()
    records = read(tmp_path)
    assert lie_right(records)
    assert all((record.instances > 0).sum() == (record.mask == 1).sum() for record in records)


def test_a_mask_of_swapped_sides_of_an_image_that_nothing_turns_is_a_fault(tmp_path: Path) -> None:
    draw(tmp_path, [1, 1, 1, 1], stored=True)
    Image.fromarray(np.zeros((40, 24), np.uint8)).save(tmp_path / "masks" / "a2.png")
    (fault,) = check(tmp_path, hashes="off", progress=False).faults
    assert (fault.kind, fault.where.image) == ("size-differs", "a2.jpg")
