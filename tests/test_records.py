"""Mask values become class ids exactly, or every file at fault is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_sets import DATA, real

from keras_unetres.data import Records, open_dataset, read_records
from unetres_edge.errors import DataError

IDS = np.arange(12).reshape(3, 4) % 3


def make_folder(root: Path, masks: dict[str, np.ndarray], classes: str = "") -> Path:
    """Write one grey image and one mask, as they are, for each entry."""
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    for name, mask in masks.items():
        Image.fromarray(np.full(mask.shape, 77, np.uint8)).save(root / "images" / name)
        Image.fromarray(mask).save(root / "masks" / name)
    if classes:
        (root / "classes.txt").write_text(classes)
    return root


def read_all(folder: Path, class_names: tuple[str, ...] | None = None, **changes: object) -> Records:
    return read_records(open_dataset(folder, changes=changes), ["all"], class_names=class_names, progress=False)["all"]


def same(mask: np.ndarray, dtype: type = np.uint8) -> dict[str, np.ndarray]:
    return {f"{name}.png": mask.astype(dtype) for name in "abc"}


def test_contiguous_ids_need_no_names(tmp_path) -> None:
    records = read_all(make_folder(tmp_path, same(IDS)))
    assert len(records) == 3
    assert (records.classes.names, records.classes.note) == (("0", "1", "2"), "")
    assert (records.sizes, records.in_memory, records.grey) == (((3, 4),) * 3, (True,) * 3, True)
    for record in records:
        assert record.mask.dtype == np.uint8
        np.testing.assert_array_equal(record.mask, IDS)
        np.testing.assert_array_equal(record.image, np.full((3, 4), 77))
        assert (record.instances, record.weight) == (None, None)


def test_the_parts_share_their_classes(tmp_path) -> None:
    masks = {"a.png": IDS * 0, "b.png": IDS * 0 + 1, "c.png": IDS * 0 + 2}
    dataset = open_dataset(make_folder(tmp_path, {k: v.astype(np.uint8) for k, v in masks.items()}))
    parts = read_records(dataset, ["train", "val"], class_names=("x", "y", "z"), progress=False)
    assert [len(part) for part in parts.values()] == [1, 1]
    assert parts["train"].classes is parts["val"].classes
    for part in parts.values():
        assert np.unique(part[0].mask).tolist() == ["abc".index(part.samples[0].name[0])]
        assert part[0].name == part.samples[0].name


def test_255_is_the_second_of_two_classes_and_said_so(tmp_path) -> None:
    records = read_all(make_folder(tmp_path, same(np.where(IDS == 1, 255, 0)), "membrane\ncell\n"))
    np.testing.assert_array_equal(records[0].mask, IDS == 1)
    assert records.classes.note == "mask value 255 is class 1 (cell)"


def test_255_is_no_class_where_there_are_three(tmp_path) -> None:
    folder = make_folder(tmp_path, same(np.where(IDS == 1, 255, 0)), "a\nb\nc\n")
    with pytest.raises(
        DataError, match=r"masks/a\.png: mask values that are no class: 255 in 4 px.*values: {255: b, ...}"
    ):
        read_all(folder)


@pytest.mark.parametrize("ignore", [255, 11, 200])
def test_the_ignored_value_becomes_255(tmp_path, ignore: int) -> None:
    records = read_all(make_folder(tmp_path, same(np.where(IDS == 2, ignore, IDS))), ignore=ignore)
    np.testing.assert_array_equal(records[0].mask, np.where(IDS == 2, 255, IDS))
    assert records.classes.names == ("background", "foreground")


def test_an_ignored_value_below_zero_harms_no_class(tmp_path) -> None:
    mask = np.where(IDS == 2, -1, IDS).astype(np.int32)
    folder = make_folder(tmp_path, {f"{n}.tif": mask for n in "abc"}, "a\nb\nc\n")
    for path in (folder / "images").iterdir():
        Image.fromarray(np.zeros((3, 4), np.uint8)).save(path)
    np.testing.assert_array_equal(read_all(folder, ignore=-1)[0].mask, np.where(IDS == 2, 255, IDS))


def test_an_ignored_value_that_no_mask_holds_changes_nothing(tmp_path) -> None:
    records = read_all(make_folder(tmp_path, same(IDS)), ignore=-1)
    np.testing.assert_array_equal(records[0].mask, IDS)


def test_instances_are_one_class_over_the_background(tmp_path) -> None:
    mask = IDS * 300
    records = read_all(make_folder(tmp_path, same(mask, np.uint16)), masks_are="instances")
    np.testing.assert_array_equal(records[0].mask, IDS > 0)
    assert records.classes.names == ("background", "object")
    assert "masks are instances" in records.classes.note


def test_instances_may_have_an_ignored_value(tmp_path) -> None:
    records = read_all(make_folder(tmp_path, same(IDS)), masks_are="instances", ignore=2)
    np.testing.assert_array_equal(records[0].mask, np.where(IDS == 2, 255, IDS > 0))


def test_instances_make_two_classes(tmp_path) -> None:
    with pytest.raises(DataError, match="make 2 classes.*expected background, object.*found a, b, c"):
        read_all(make_folder(tmp_path, same(IDS), "a\nb\nc\n"), masks_are="instances")


def test_values_outside_the_classes_are_listed_file_by_file(tmp_path) -> None:
    masks = {**same(IDS), "d.png": (IDS + 1).astype(np.uint8), "e.png": np.full((2, 2), 9, np.uint8)}
    with pytest.raises(DataError, match="2 of 5 samples") as caught:
        read_all(make_folder(tmp_path, masks, "a\nb\nc\n"))
    assert "masks/d.png: mask values that are no class: 3 in 4 px" in str(caught.value)
    assert "masks/e.png: mask values that are no class: 9 in 4 px" in str(caught.value)
    assert caught.value.expected == "values 0, 1, 2"
    assert "a.png" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "fix"),
    [
        ((0, 2), "values: {0: 0, 2: 1}"),
        ((1, 2), "values: {1: 0, 2: 1}"),
        (
            (0, 100, 255),
            "values: {0: 0, 100: 1, 255: 2}, or, if 255 is not labelled, values: {0: 0, 100: 1, 255: ignore}",
        ),
        ((0, 128, 255), "values: {0: 0, 128: 1, 255: 2}"),
        ((3,), "classes: [background, object]"),
    ],
)
def test_ids_with_gaps_need_a_meaning(tmp_path, values: tuple[int, ...], fix: str) -> None:
    mask = np.resize(values, (3, 4))
    with pytest.raises(DataError, match="not class ids 0, 1, 2") as caught:
        read_all(make_folder(tmp_path, same(mask)))
    assert caught.value.found == ", ".join(map(str, values))
    assert caught.value.fix == fix
    if len(values) > 1:
        (tmp_path / "dataset.yaml").write_text(fix.partition(", or")[0])
        np.testing.assert_array_equal(read_all(tmp_path)[0].mask, np.searchsorted(values, mask))


def test_every_fault_of_every_file_is_in_one_error(tmp_path) -> None:
    folder = make_folder(tmp_path, {f"{n}.png": IDS.astype(np.uint8) for n in "abcdefg"}, "a\nb\n")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "images" / "b.png")
    Image.fromarray(noise).save(folder / "masks" / "c.png")
    for path in (folder / "images" / "b.png", folder / "masks" / "c.png"):
        path.write_bytes(path.read_bytes()[:-900])
    Image.fromarray(noise).save(folder / "images" / "d.png")
    (folder / "masks" / "e.png").write_bytes(b"")
    Image.fromarray(np.dstack([IDS, IDS, IDS + 1]).astype(np.uint8)).save(folder / "masks" / "f.png")
    with pytest.raises(DataError, match="7 of 7 samples cannot be used") as caught:
        read_all(folder)
    for part in (
        "masks/a.png: mask values that are no class: 2 in 4 px",
        "images/b.png: a file that cannot be decoded",
        "masks/c.png: a file that cannot be decoded",
        "masks/d.png: an image and a mask of different sizes: image 64 x 64, mask 4 x 3",
        "masks/e.png: a file of zero bytes",
        "masks/f.png: a mask of colours",
        "masks/g.png: mask values that are no class: 2 in 4 px",
    ):
        assert part in str(caught.value)


def test_faults_of_files_are_told_before_the_want_of_names(tmp_path) -> None:
    folder = make_folder(tmp_path, same(IDS))
    for path in (folder / "images").iterdir():
        Image.fromarray(np.zeros((5, 5), np.uint8)).save(path)
    with pytest.raises(DataError, match=r"3 of 3 samples cannot be used.*masks/a\.png: .* of different sizes"):
        read_all(folder)


def test_palette_masks_give_their_indices(tmp_path) -> None:
    folder = make_folder(tmp_path, same(IDS))
    for path in (folder / "masks").iterdir():
        mask = Image.fromarray(IDS.astype(np.uint8)).convert("L")
        mask.putpalette([255, 0, 0, 0, 255, 0, 9, 9, 9] + [0] * 759)
        mask.save(path)
        with Image.open(path) as written:
            assert written.mode == "P"
    np.testing.assert_array_equal(read_all(folder)[0].mask, IDS)


def test_classes_of_a_model(tmp_path) -> None:
    folder = make_folder(tmp_path, same(IDS % 2))
    records = read_all(folder, ("sky", "road", "tree"))
    assert records.classes.names == ("sky", "road", "tree")
    np.testing.assert_array_equal(records[0].mask, IDS % 2)
    (folder / "classes.txt").write_text("sky\nroad\n")
    with pytest.raises(DataError, match="differ in classes"):
        read_all(folder, ("sky", "road", "tree"))


def test_colour_in_one_image_makes_the_set_coloured(tmp_path) -> None:
    folder = make_folder(tmp_path, same(IDS))
    Image.fromarray(np.full((3, 4, 3), 9, np.uint8)).save(folder / "images" / "a.png")
    assert read_all(folder).grey
    Image.fromarray(np.full((3, 4, 3), (9, 9, 8), np.uint8)).save(folder / "images" / "a.png")
    assert not read_all(folder).grey


def test_samples_beyond_the_memory_limit_are_read_again(tmp_path, monkeypatch) -> None:
    folder = make_folder(tmp_path, same(np.where(IDS == 2, 9, IDS)))
    monkeypatch.setattr("keras_unetres.data.records._MEMORY", 30)
    records = read_all(folder, ignore=9)
    assert sum(records.in_memory) == 1  # that which was read first, by one of several threads
    for record in records:
        np.testing.assert_array_equal(record.mask, np.where(IDS == 2, 255, IDS))
        assert record.image.shape == (3, 4)


@pytest.mark.data
@real("isbi2012")
def test_isbi2012() -> None:
    records = read_all(DATA / "isbi2012")
    assert (len(records), set(records.sizes), records.grey) == (24, {(512, 512)}, True)
    assert "255 is class 1" in records.classes.note
    assert 0.75 < np.mean([record.mask.mean() for record in records]) < 0.81


@pytest.mark.data
@real("dsb2018")
def test_dsb2018() -> None:
    with pytest.raises(DataError, match="masks_are: instances"):
        read_all(DATA / "dsb2018")
    records = read_all(DATA / "dsb2018", masks_are="instances")
    assert (len(records), records.grey) == (220, False)
    assert all(set(np.unique(record.mask)) <= {0, 1} for record in records)


@pytest.mark.data
@real("camvid")
def test_camvid() -> None:
    dataset = open_dataset(DATA / "camvid", changes={"ignore": 11})
    assert {name: len(samples) for name, samples in dataset.splits.items()} == {"train": 92, "val": 26, "test": 59}
    records = read_records(dataset, ["val"], progress=False)["val"]
    assert set(records.sizes) == {(360, 480)}
    found = np.unique(np.stack([record.mask for record in records]))
    assert found.tolist() == [*range(11), 255]


def test_classes_in_another_order_than_a_models_are_refused(tmp_path) -> None:
    folder = make_folder(tmp_path, same(IDS), "sky\ncar\nroad\n")
    read_all(folder, ("sky", "car", "road"))
    read_all(folder, ("x", "car", "y"))  # other names say nothing
    with pytest.raises(DataError, match="differ in classes.*found sky, car, road") as caught:
        read_all(folder, ("sky", "road", "car"))
    assert caught.value.fix == "classes: [sky, road, car] and values: {0: 0, 1: 2, 2: 1}"
    (folder / "dataset.yaml").write_text(caught.value.fix.replace(" and ", "\n"))
    records = read_all(folder, ("sky", "road", "car"))
    np.testing.assert_array_equal(records[0].mask, np.array([0, 2, 1])[IDS])
