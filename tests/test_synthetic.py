"""The drawn cells: reproducible, labelled exactly, hard for a threshold, and read back as written."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from keras_unetres.data import synthetic
from keras_unetres.data.synthetic import CLASSES, CellPicture, make_cells, write_cells
from unetres_edge.errors import FileSystemError, UsageError

SIZES = [(64, 64), (65, 131), (256, 256), (97, 300), (301, 70)]


@pytest.fixture(scope="module")
def pictures() -> list[CellPicture]:
    return [make_cells(index) for index in range(8)]


def touching_pairs(instances: np.ndarray) -> set[tuple[int, int]]:
    """The pairs of cells that share at least one pixel edge."""
    pairs = set()
    for one, other in ((instances[1:], instances[:-1]), (instances[:, 1:], instances[:, :-1])):
        meet = (one != other) & (one > 0) & (other > 0)
        pairs.update((min(pair), max(pair)) for pair in zip(one[meet].tolist(), other[meet].tolist(), strict=True))
    return pairs


def best_threshold(picture: CellPicture) -> np.ndarray:
    """The confusion matrix (label, prediction) of the threshold and polarity with the highest mean IoU."""
    candidates = []
    for level in range(257):
        cell = picture.image >= level
        for prediction in (cell, ~cell):
            candidates.append(np.bincount(picture.mask.ravel() * 2 + prediction.ravel(), minlength=4).reshape(2, 2))
    return max(candidates, key=mean_iou)


def mean_iou(confusion: np.ndarray) -> float:
    both = np.diag(confusion)
    return float(np.mean(both / (confusion.sum(0) + confusion.sum(1) - both)))


def test_public_surface() -> None:
    assert synthetic.__all__ == sorted(["CLASSES", "CellPicture", "make_cells", "write_cells"])
    assert CLASSES == ("background", "cell")


def test_a_picture_depends_on_seed_and_index_alone(pictures: list[CellPicture]) -> None:
    np.random.seed(5)  # noqa: NPY002 - the global state of numpy must not matter
    for index in (7, 2, 5):
        again = make_cells(index, seed=0, size=(256, 256))
        np.testing.assert_array_equal(again.image, pictures[index].image)
        np.testing.assert_array_equal(again.instances, pictures[index].instances)


@pytest.mark.parametrize(("seed", "index"), [(0, 1), (1, 0), (1, 1)])
def test_another_seed_or_index_is_another_picture(pictures: list[CellPicture], seed: int, index: int) -> None:
    other = make_cells(index, seed=seed)
    assert np.mean(other.image != pictures[0].image) > 0.5
    assert np.mean(other.mask != pictures[0].mask) > 0.1


def test_seed_and_index_are_not_interchangeable() -> None:
    assert np.any(make_cells(3, seed=4).mask != make_cells(4, seed=3).mask)


@pytest.mark.parametrize("size", SIZES)
def test_forms(size: tuple[int, int]) -> None:
    picture = make_cells(11, seed=2, size=size)
    assert (picture.image.shape, picture.image.dtype) == (size, np.uint8)
    assert (picture.instances.shape, picture.instances.dtype) == (size, np.uint16)
    assert (picture.mask.shape, picture.mask.dtype) == (size, np.uint8)
    np.testing.assert_array_equal(picture.mask == 1, picture.instances > 0)
    assert set(np.unique(picture.mask)) == {0, 1}


def test_whole_numbers_of_numpy_are_taken(pictures: list[CellPicture]) -> None:
    picture = make_cells(np.int64(1), seed=np.uint8(0), size=(np.int32(256), np.int32(256)))
    np.testing.assert_array_equal(picture.image, pictures[1].image)


def test_a_picture_is_frozen(pictures: list[CellPicture]) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        pictures[0].image = pictures[1].image  # type: ignore[misc]


@pytest.mark.parametrize("size", SIZES)
def test_every_cell_is_numbered_connected_and_not_tiny(size: tuple[int, int]) -> None:
    for index in range(4):
        instances = make_cells(index, seed=3, size=size).instances
        numbers, areas = np.unique(instances[instances > 0], return_counts=True)
        assert numbers.tolist() == list(range(1, len(numbers) + 1))
        assert areas.min() >= 60
        assert [ndimage.label(instances == number)[1] for number in numbers] == [1] * len(numbers)


@pytest.mark.parametrize("size", SIZES)
def test_cells_cover_a_quarter_to_a_half_of_the_area(size: tuple[int, int]) -> None:
    for index in range(12):
        assert 0.25 <= make_cells(index, seed=5, size=size).mask.mean() <= 0.55


def test_most_cells_touch_another(pictures: list[CellPicture]) -> None:
    for picture in pictures:
        pairs = touching_pairs(picture.instances)
        assert len({number for pair in pairs for number in pair}) > 0.5 * picture.instances.max()


def test_cells_are_of_many_sizes(pictures: list[CellPicture]) -> None:
    areas = np.concatenate([np.bincount(picture.instances.ravel())[1:] for picture in pictures])
    smaller, larger = np.percentile(areas, (10, 90))
    assert larger > 3 * smaller


def test_some_cells_are_darker_some_brighter_some_neither(pictures: list[CellPicture]) -> None:
    """Compare each cell with the background around it, its rim and halo left out."""
    differences = []
    for picture in pictures:
        grey, background = picture.image.astype(float), ndimage.binary_erosion(picture.mask == 0, iterations=6)
        for number in range(1, int(picture.instances.max()) + 1):
            own = ndimage.binary_erosion(picture.instances == number, iterations=3)
            around = ndimage.binary_dilation(own, iterations=20) & background
            if own.sum() > 50 and around.sum() > 50:
                differences.append(grey[own].mean() / grey[around].mean() - 1.0)
    counts = np.histogram(differences, (-np.inf, -0.08, -0.04, 0.04, np.inf))[0] / len(differences)
    assert counts[0] > 0.25
    assert counts[2] > 0.1
    assert counts[3] > 0.1


def test_no_global_threshold_finds_the_cells(pictures: list[CellPicture]) -> None:
    confusions = [best_threshold(picture) for picture in pictures]
    assert mean_iou(np.sum(confusions, axis=0)) < 0.75
    assert np.mean([mean_iou(confusion) for confusion in confusions]) < 0.75


def test_the_outline_shows(pictures: list[CellPicture]) -> None:
    """On the free outline of the cells, the last pixel inside is darker than the second pixel outside."""
    for picture in pictures:
        cell = picture.mask == 1
        rim = cell & ~ndimage.binary_erosion(cell, border_value=1)
        halo = ndimage.binary_dilation(cell, iterations=2) & ~ndimage.binary_dilation(cell)
        step = picture.image[halo].mean() - picture.image[rim].mean()
        assert step > 0.08 * picture.image.mean()


def test_grey_levels_are_not_clipped(pictures: list[CellPicture]) -> None:
    for picture in pictures:
        assert np.mean((picture.image == 0) | (picture.image == 255)) < 0.002
        assert np.ptp(np.percentile(picture.image, (1, 99))) > 30


def test_files_are_read_back_as_made(tmp_path) -> None:
    folder = write_cells(tmp_path / "deep" / "cells", num_images=2, seed=4, size=(70, 90), first=3)
    assert folder == tmp_path / "deep" / "cells"
    names = ["cells_0003.png", "cells_0004.png"]
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    kinds = ("images", "instances", "masks")
    assert found == ["classes.txt"] + [f"{kind}/{name}" for kind in kinds for name in names]
    assert (folder / "classes.txt").read_text() == "background\ncell\n"
    for index, name in enumerate(names, start=3):
        expected = make_cells(index, seed=4, size=(70, 90))
        image, mask, instances = (Image.open(folder / kind / name) for kind in ("images", "masks", "instances"))
        assert (image.mode, mask.mode, instances.mode) == ("L", "P", "I;16")
        np.testing.assert_array_equal(np.asarray(image), expected.image)
        np.testing.assert_array_equal(np.asarray(mask), expected.mask)
        np.testing.assert_array_equal(np.asarray(instances), expected.instances)
        background, cell = np.reshape(mask.getpalette()[:6], (2, 3))
        assert np.abs(background - cell).max() > 100


def test_writing_again_gives_the_same_bytes(tmp_path) -> None:
    def write(name: str) -> list[bytes]:
        folder = write_cells(tmp_path / name, num_images=1, size=(64, 64))
        return [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]

    once = write("a")
    assert len(once) == 4
    assert write("a") == once
    assert write("b") == once


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"index": -1}, "index"),
        ({"index": 1.0}, "index"),
        ({"index": True}, "index"),
        ({"index": 2**63}, "index"),
        ({"index": 0, "seed": -1}, "seed"),
        ({"index": 0, "seed": None}, "seed"),
        ({"index": 0, "size": 256}, "size"),
        ({"index": 0, "size": (256, 256, 1)}, "size"),
        ({"index": 0, "size": (63, 256)}, "height in size"),
        ({"index": 0, "size": (256, 100.0)}, "width in size"),
        ({"index": 0, "size": (4097, 64)}, "height in size"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_cells(**arguments)
    assert str(caught.value).startswith(f"usage: {named} cannot be used; expected ")
    assert caught.value.found is not None


@pytest.mark.parametrize(
    "wrong", [{"num_images": 0}, {"num_images": 2.5}, {"first": -1}, {"seed": "0"}, {"size": (8, 8)}]
)
def test_wrong_arguments_write_nothing(tmp_path, wrong: dict) -> None:
    with pytest.raises(UsageError, match="expected"):
        write_cells(tmp_path / "cells", **{"num_images": 1, **wrong})
    assert not (tmp_path / "cells").exists()


def test_the_series_may_not_run_out(tmp_path) -> None:
    with pytest.raises(UsageError, match="last"):
        write_cells(tmp_path / "cells", num_images=2, first=2**63 - 1)
    assert not (tmp_path / "cells").exists()


def test_a_file_in_the_place_of_the_folder_is_left_alone(tmp_path) -> None:
    (tmp_path / "cells").write_text("mine")
    with pytest.raises(FileSystemError):
        write_cells(tmp_path / "cells", num_images=1, size=(64, 64))
    assert (tmp_path / "cells").read_text() == "mine"
