"""Arrays of NumPy as data sets, and masks whose channels are classes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from keras_unetres.data.dataset import open_dataset
from keras_unetres.data.forms import array_files
from keras_unetres.data.records import Records, read_records
from keras_unetres.data.sources import file_digest
from keras_unetres.doctor.check import check
from unetres_edge.errors import DataError, UnetresError

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 3, (10, 20, 24)).astype(np.uint8)
IDS[:, 0, :3] = (0, 1, 2)
PICTURES = RNG.integers(0, 256, (10, 20, 24, 3)).astype(np.uint8)


def one_hot(ids: np.ndarray, rest: bool = False) -> np.ndarray:
    """Return (..., C) bool; with `rest`, class 0 has no channel."""
    return np.stack([ids == class_id for class_id in range(int(rest), 3)], -1)


def read(root: Path) -> Records:
    return read_records(open_dataset(root, changes={"test_from": "none"}), ["all"], progress=False)["all"]


def is_right(root: Path, pictures: np.ndarray = PICTURES) -> bool:
    """Whether every image and mask of a folder are those of its number."""
    records = read(root)
    numbers = [int("".join(c for c in Path(record.name).stem if c.isdigit())) for record in records]
    return sorted(numbers) == list(range(len(IDS))) and all(
        np.array_equal(record.mask, IDS[number]) and np.array_equal(record.image, pictures[number])
        for number, record in zip(numbers, records, strict=True)
    )


def save(file: Path, values: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, values)


def big_arrays(root: Path) -> None:
    save(root / "X.npy", PICTURES)
    save(root / "Y.npy", IDS)


def named_arrays(root: Path) -> None:
    save(root / "train_images.npy", PICTURES.transpose(0, 3, 1, 2))
    save(root / "train_masks.npy", IDS[..., None].astype(np.float64))


def archive(root: Path) -> None:
    np.savez_compressed(root / "data.npz", images=PICTURES, masks=IDS.astype(np.int64))


def arrays_in_folders(root: Path) -> None:
    save(root / "images/images.npy", PICTURES)
    save(root / "masks/masks.npy", one_hot(IDS).astype(np.float32))


def cases(root: Path) -> None:
    for number, (image, mask) in enumerate(zip(PICTURES, IDS, strict=True)):
        np.savez(root / f"case{number}.npz", image=image, label=mask)


def files(root: Path) -> None:
    for number, (image, mask) in enumerate(zip(PICTURES, IDS, strict=True)):
        save(root / f"images/{number}.npy", image)
        save(root / f"masks/{number}_mask.npy", one_hot(mask, rest=True).transpose(2, 0, 1))


def masks_alone(root: Path) -> None:
    (root / "images").mkdir()
    for number, (image, mask) in enumerate(zip(PICTURES, IDS, strict=True)):
        Image.fromarray(image).save(root / f"images/{number}.png")
        save(root / f"labels/{number}.npy", mask.astype(np.int64))


@pytest.mark.parametrize(
    "write", [big_arrays, named_arrays, archive, arrays_in_folders, cases, files, masks_alone], ids=lambda f: f.__name__
)
def test_arrays_of_every_form_are_read_exactly(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    assert open_dataset(tmp_path).format == "numpy"
    assert is_right(tmp_path)
    assert not check(tmp_path, hashes="off", progress=False).faults


def test_parts_by_the_names_of_arrays(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("val", 3), ("test", 1)):
        save(tmp_path / f"X_{part}.npy", PICTURES[:count])
        save(tmp_path / f"y_{part}.npy", IDS[:count])
    assert {part: len(of) for part, of in open_dataset(tmp_path).splits.items()} == {"train": 6, "val": 3, "test": 1}
    np.savez(tmp_path / "set.npz", x_train=PICTURES[:7], y_train=IDS[:7], x_test=PICTURES[7:], y_test=IDS[7:])
    for file in tmp_path.glob("*.npy"):
        file.unlink()
    assert {part: len(of) for part, of in open_dataset(tmp_path).splits.items()} == {"train": 6, "val": 1, "test": 3}


def test_floats_are_images_as_they_are(tmp_path: Path) -> None:
    save(tmp_path / "images.npy", PICTURES / 255)
    save(tmp_path / "masks.npy", IDS > 0)
    record = read(tmp_path)[0]
    assert record.image.dtype == np.float32
    np.testing.assert_allclose(record.image, PICTURES[0] / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "masks", "words"),
    [
        (PICTURES[:9], IDS, "arrays of images and masks differ in number.*expected 9.*found 10"),
        (PICTURES.astype(np.int64), IDS, "which value of the array is white is not known.*array.astype"),
        (PICTURES, IDS / 2, "mask holds fractions"),
        (np.where(PICTURES > 250, np.nan, PICTURES / 255), IDS, "values that are not finite"),
        (PICTURES, np.repeat(IDS[..., None], 3, -1), "a mask of several channels"),
        (PICTURES, np.repeat(IDS[..., None] > 0, 3, -1), "the channels of a mask overlap.* px of several channels"),
        (PICTURES.reshape(-1).astype(object), IDS, "Python objects, which could run code.*numpy.stack"),
    ],
)
def test_arrays_that_are_not_understood_are_refused_with_the_way_out(
    tmp_path: Path, images: np.ndarray, masks: np.ndarray, words: str
) -> None:
    np.save(tmp_path / "X.npy", images, allow_pickle=True)
    save(tmp_path / "Y.npy", masks)
    with pytest.raises(UnetresError, match=words):
        read(tmp_path)
    assert check(tmp_path, hashes="off", progress=False).faults


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    big_arrays(tmp_path)
    (tmp_path / "Y.npy").write_bytes((tmp_path / "Y.npy").read_bytes()[:2000])
    with pytest.raises(DataError, match=r"Y\.npy: .*cannot read the array"):
        read(tmp_path)


# Channels of TIFFs


@pytest.mark.parametrize("rest", [False, True])
@pytest.mark.parametrize("pages", [True, False], ids=["pages", "channels"])
def test_channels_of_a_tiff_are_classes(tmp_path: Path, rest: bool, pages: bool) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number, (image, mask) in enumerate(zip(PICTURES, IDS, strict=True)):
        Image.fromarray(image).save(tmp_path / f"images/{number}.png")
        values = one_hot(mask, rest) * np.uint8(255)
        file = tmp_path / f"masks/{number}.tif"
        if pages:
            tifffile.imwrite(file, values.transpose(2, 0, 1), photometric="minisblack")
        else:
            tifffile.imwrite(file, values, photometric="minisblack", planarconfig="contig")
    assert is_right(tmp_path)
    first = "1, 2, ..., and pixels of none are class 0" if rest else "0, 1, ..."
    assert f"the channels of masks (one-hot) are classes {first}" in open_dataset(tmp_path).notes
    assert not check(tmp_path, hashes="off", progress=False).faults


def test_channels_that_overlap_are_named(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number, image in enumerate(PICTURES):
        Image.fromarray(image).save(tmp_path / f"images/{number}.png")
        values = one_hot(IDS[number]).transpose(2, 0, 1).astype(np.uint8)
        values[1] |= np.uint8(number == 3)
        tifffile.imwrite(tmp_path / f"masks/{number}.tif", values, photometric="minisblack")
    faults = check(tmp_path, hashes="off", progress=False).faults
    assert [fault.where.image for fault in faults] == ["3.png"]
    assert faults[0].found.startswith("the channels of a mask overlap")


def test_arrays_in_folders_that_are_links_are_read(tmp_path: Path) -> None:
    for part, values in (("images", PICTURES), ("masks", IDS)):
        for number, each in enumerate(values):
            save(tmp_path / "kept" / part / f"a{number}.npy", each)
        (tmp_path / "set" / part).mkdir(parents=True)
        (tmp_path / "set" / part / "linked").symlink_to(tmp_path / "kept" / part)
    assert is_right(tmp_path / "set")


@pytest.mark.parametrize("shape", [(10**9, 0, 1000), (10**12, 0, 17), (4, 0, 32)])
def test_images_without_a_pixel_are_not_listed(tmp_path: Path, shape: tuple[int, ...]) -> None:
    for name in ("X", "Y"):
        with (tmp_path / f"{name}.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with pytest.raises(DataError, match=r"X\.npy: (a file of more images|an array has no pixels)"):
        read(tmp_path)


def test_an_archive_that_memory_does_not_hold_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive(tmp_path)
    monkeypatch.setattr(array_files, "free_bytes", lambda: 1000)
    with pytest.raises(DataError, match=r"data\.npz: an array of an \.npz is too large; expected at most 1000 bytes"):
        read(tmp_path)


def test_an_archive_that_cannot_be_unpacked_is_named(tmp_path: Path) -> None:
    archive(tmp_path)
    file = tmp_path / "data.npz"
    data = bytearray(file.read_bytes())
    data[200:400] = bytes(200)
    file.write_bytes(data)
    with pytest.raises(UnetresError, match=r"data\.npz"):
        read(tmp_path)


@pytest.mark.parametrize("ending", [".npz", ".png"])
def test_another_file_of_the_same_size_and_age_is_read_anew(ending: str, tmp_path: Path) -> None:
    """A copy keeps the time of its original, and a clock may be set back."""
    file = tmp_path / f"a{ending}"

    def write(value: int) -> None:
        if ending == ".npz":
            np.savez(file, a=np.full((4, 4), value, np.uint8))
        else:
            Image.fromarray(np.full((4, 4), value, np.uint8)).save(file, compress_level=0)
        os.utime(file, (0, 0))

    def read() -> object:
        return array_files.load(file, "a").tolist() if ending == ".npz" else file_digest(file)

    seen = []
    for value in (1, 2):
        write(value)
        seen.append((read(), file.stat().st_size, file.stat().st_mtime_ns))
    assert seen[0][1:] == seen[1][1:]
    assert seen[0][0] != seen[1][0]
