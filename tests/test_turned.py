"""Images that EXIF turns: masks and annotations on the pixels as stored are turned, too; what is unclear is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_unetres.choices.reading import MASKS_TURNED
from keras_unetres.data.dataset import open_dataset
from keras_unetres.data.records import Record, Records, read_records
from keras_unetres.data.turned import find_turned, lie_of
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


def write_turned(root: Path, way: str, count: int = 8, side: int = 48) -> None:
    """Write pictures of blobs whose masks all lie turned, of square images or, for "left" and its like, of others."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        mask = blobs(rng, side)
        image = (60 + 70 * mask + rng.normal(0, 25, mask.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / f"a{number}.png")
        back = {6: 8, 8: 6}.get(MASKS_TURNED[way], MASKS_TURNED[way])
        Image.fromarray(upright(mask, back)).save(root / "masks" / f"a{number}.png")


def blob_of(record: Record, side: int) -> np.ndarray:
    """Return the mask that `write_turned` drew for an image."""
    return blobs(np.random.default_rng(int(record.name[1])), side)


def blobs(rng: np.random.Generator, side: int, width: int = 48) -> np.ndarray:
    """Return (side, width) uint8 with three rectangles somewhere."""
    mask = np.zeros((side, width), np.uint8)
    for _ in range(3):
        y, x = rng.integers(0, side - 14), rng.integers(0, width - 14)
        mask[y : y + rng.integers(5, 14), x : x + rng.integers(5, 14)] = 1
    return mask


@pytest.mark.parametrize("way", [way for way in MASKS_TURNED if way != "none"])
def test_masks_that_all_lie_turned_are_a_fault_whose_line_turns_them_back(way: str, tmp_path: Path) -> None:
    write_turned(tmp_path, way)
    (fault,) = check(tmp_path, hashes="off", progress=False).faults
    assert (fault.kind, fault.fix.patch) == ("turned-masks", {"masks_turned": way})
    with pytest.raises(DataError, match=f"masks_turned: {way}"):
        read(tmp_path)
    (tmp_path / "dataset.yaml").write_text(fault.fix.text)
    assert check(tmp_path, hashes="off", progress=False).faults == []
    assert all(np.array_equal(record.mask, blob_of(record, 48)) for record in read(tmp_path))


@pytest.mark.parametrize("way", ["left", "transposed"])
def test_masks_whose_sides_are_exchanged_are_turned_back_by_a_line(way: str, tmp_path: Path) -> None:
    write_turned(tmp_path, way, side=36)
    faults = check(tmp_path, hashes="off", progress=False).faults
    assert {(fault.kind, fault.fix.text) for fault in faults} == {("size-differs", f"masks_turned: {way}")}
    (tmp_path / "dataset.yaml").write_text(faults[0].fix.text)
    assert check(tmp_path, hashes="off", progress=False).faults == []
    assert all(np.array_equal(record.mask, blob_of(record, 36)) for record in read(tmp_path))


def test_masks_that_are_said_to_be_right_are_left_as_they_are(tmp_path: Path) -> None:
    write_turned(tmp_path, "mirrored")
    (tmp_path / "dataset.yaml").write_text("masks_turned: none\n")
    assert check(tmp_path, hashes="off", progress=False).faults == []
    assert all(np.array_equal(record.mask, blob_of(record, 48)[:, ::-1]) for record in read(tmp_path))


@pytest.mark.parametrize("kind", ["right", "noise", "same scene", "symmetric"])
def test_masks_that_lie_right_or_of_which_nothing_is_known_are_no_fault(kind: str) -> None:
    for count in (4, 5, 8, 20):
        for seed in range(8):
            rng = np.random.default_rng(100 * seed + count)
            pairs = [pair(kind, rng) for _ in range(count)]
            assert find_turned(lie_of(image, mask) for image, mask in pairs) == []


def pair(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and a mask, both (48, 48)."""
    noise = rng.normal(0, 25, (48, 48))
    if kind == "right":
        mask = blobs(rng, 48)
        return 60 + 50 * mask + noise, mask
    if kind == "noise":
        return noise, blobs(rng, 48)
    if kind == "same scene":  # stripes below, masks above: what all images share tells nothing of masks
        rows = np.arange(48)[:, None]
        return 120 * (rows > 28) * (np.arange(48) % 8 < 4) + noise, blobs(rng, 48) * (rows < 20).astype(np.uint8)
    y, x = np.mgrid[:48, :48] - 23.5
    disc = np.hypot(y, x) < rng.uniform(8, 20)
    return 60 + 50 * disc + noise, disc.astype(np.uint8)
