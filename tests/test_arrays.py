"""Data sets from arrays and from `tf.data`: what goes in comes back exactly, and what does not fit is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_unetres.data import Dataset, Reading, dataset_from_arrays, dataset_from_tf, open_dataset, read_records
from unetres_edge.errors import DataError, UsageError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (8, 6, 5, 3)).astype(np.uint8)
MASKS = RNG.integers(0, 3, (8, 6, 5)).astype(np.uint8)
WEIGHTS = RNG.random((8, 6, 5)).astype(np.float32)
OBJECTS = RNG.integers(0, 900, (8, 6, 5)).astype(np.int64)
NAMES = [f"slice {i}" for i in range(8)]


def records_of(dataset: Dataset) -> dict[str, Any]:
    return {record.name: record for record in read_records(dataset, ["all"], progress=False)["all"]}


def names_of(dataset: Dataset) -> dict[str, list[str]]:
    return {part: [sample.name for sample in samples] for part, samples in dataset.splits.items()}


@pytest.mark.parametrize("kind", [np.ndarray, list])
def test_everything_comes_back_exactly(kind: type) -> None:
    arrays = (IMAGES, MASKS, OBJECTS, WEIGHTS)
    images, masks, objects, weights = arrays if kind is np.ndarray else map(list, arrays)
    records = records_of(dataset_from_arrays(images, masks, instances=objects, weights=weights, names=NAMES))
    assert sorted(records) == NAMES
    for place, name in enumerate(NAMES):
        record = records[name]
        for found, right in zip((record.image, record.mask, record.instances, record.weight), arrays, strict=True):
            np.testing.assert_array_equal(found, right[place])
        assert (record.image.dtype, record.mask.dtype, record.weight.dtype) == (np.uint8, np.uint8, np.float32)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [(), (1,), (3,), (7,)])
def test_images_of_every_form(dtype: type, channels: tuple[int, ...]) -> None:
    images = RNG.random((3, 6, 5, *channels)) * (1 if dtype in (np.float32, np.float64) else np.iinfo(dtype).max)
    images = images.astype(dtype)
    records = records_of(dataset_from_arrays(images, MASKS[:3]))
    for place, record in enumerate(records[f"{i:04d}"] for i in range(3)):
        assert record.image.dtype == dtype
        np.testing.assert_array_equal(record.image, images[place, ..., 0] if channels == (1,) else images[place])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint16, np.int32, np.int64, np.uint64])
def test_masks_of_every_form(dtype: type) -> None:
    masks = (MASKS % 2).astype(dtype)
    for given in (masks, masks[..., None]):
        records = records_of(dataset_from_arrays(IMAGES, given))
        np.testing.assert_array_equal(records["0003"].mask, MASKS[3] % 2)


def test_sizes_may_differ() -> None:
    images = [IMAGES[0], IMAGES[1][:4], IMAGES[2][:, :3]]
    masks = [MASKS[0], MASKS[1][:4], MASKS[2][:, :3]]
    records = records_of(dataset_from_arrays(images, masks))
    assert [records[f"{i:04d}"].mask.shape for i in range(3)] == [(6, 5), (4, 5), (6, 3)]


def test_classes_and_reading() -> None:
    masks = np.where(MASKS == 2, 255, MASKS)
    dataset = dataset_from_arrays(IMAGES, masks, classes=["a", "b"], reading=Reading(ignore=255))
    assert (dataset.class_names, dataset.format, dataset.reading.ignore) == (("a", "b"), "arrays", 255)
    np.testing.assert_array_equal(records_of(dataset)["0000"].mask, masks[0])
    numbered = dataset_from_arrays(IMAGES, OBJECTS, reading=Reading(masks_are="instances"))
    np.testing.assert_array_equal(records_of(numbered)["0000"].mask, OBJECTS[0] > 0)
    np.testing.assert_array_equal(records_of(numbered)["0000"].instances, OBJECTS[0])
    apart = dataset_from_arrays(IMAGES, MASKS, instances=OBJECTS, reading=Reading(masks_are="instances"))
    np.testing.assert_array_equal(records_of(apart)["0000"].mask, OBJECTS[0] > 0)


def test_parts() -> None:
    given = ["train"] * 5 + ["val"] * 2 + ["test"]
    assert names_of(dataset_from_arrays(IMAGES, MASKS, names=NAMES, splits=given)) == {
        "train": NAMES[:5],
        "val": NAMES[5:7],
        "test": NAMES[7:],
    }
    seeded = names_of(dataset_from_arrays(IMAGES, MASKS))
    assert {part: len(found) for part, found in seeded.items()} == {"train": 6, "val": 1, "test": 1}
    assert names_of(dataset_from_arrays(IMAGES, MASKS)) == seeded
    globs = Reading(val_from="slice [01]", test_from="none")
    assert names_of(dataset_from_arrays(IMAGES, MASKS, names=NAMES, reading=globs)) == {
        "train": NAMES[2:],
        "val": NAMES[:2],
    }


def test_a_data_set_is_opened_again_with_changes() -> None:
    dataset = dataset_from_arrays(IMAGES, MASKS, names=NAMES)
    assert open_dataset(dataset).splits == dataset.splits
    changed = open_dataset(dataset, changes={"val_from": "slice 7", "test_from": "slice [56]", "seed": None})
    assert names_of(changed) == {"train": NAMES[:5], "val": NAMES[7:], "test": NAMES[5:7]}
    assert names_of(open_dataset(changed, changes={"test_from": "none"})) == {"train": NAMES[:7], "val": NAMES[7:]}
    assert open_dataset(dataset, Reading(ignore=2)).reading == Reading(ignore=2)
    ignoring = records_of(open_dataset(dataset, changes={"ignore": 2}))
    np.testing.assert_array_equal(ignoring[NAMES[0]].mask, np.where(MASKS[0] == 2, 255, MASKS[0]))
    with pytest.raises(UsageError, match="no image name matches"):
        open_dataset(dataset, changes={"val_from": "nothing"})


def test_declared_parts_stay_when_it_is_opened_again() -> None:
    dataset = dataset_from_arrays(IMAGES, MASKS, splits=["train"] * 6 + ["val"] * 2)
    assert open_dataset(dataset, changes={"ignore": 2}).splits == dataset.splits
    assert open_dataset(dataset, changes={"seed": 3}).splits == dataset.splits  # no reading makes parts of its own anew
    with pytest.raises(UsageError, match="has split folders"):
        open_dataset(dataset, changes={"val_from": "0000"})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": []}, "masks and images differ in number; expected 0"),
        ({"images": IMAGES[0, 0, 0, 0]}, "images is wrong"),
        ({"images": "abc"}, "images is wrong.*found str"),
        ({"images": iter(IMAGES)}, "images is wrong"),
        ({"images": None}, "images is wrong.*found NoneType"),
        ({"images": IMAGES[:, 0, 0]}, "0000: array is not an image.*found uint8 of shape"),
        ({"images": IMAGES[:, None]}, "array is not an image"),
        ({"images": IMAGES[:, :0]}, "array is not an image"),
        ({"images": IMAGES.astype(np.int64)}, "array is not an image.*int64"),
        ({"images": IMAGES.astype(str)}, "array is not an image.*<U"),
        ({"images": IMAGES > 5}, "array is not an image.*bool"),
        ({"images": IMAGES.astype(np.complex64)}, "array is not an image.*complex64"),
        ({"images": IMAGES.astype(np.float32)}, r"float image is outside \[0, 1\]"),
        ({"images": np.full(IMAGES.shape, np.nan)}, r"float image is outside \[0, 1\]"),
        ({"images": [[[1, 2], [3]]] * 8}, "array is not an image.*ragged"),
        ({"masks": MASKS[:7]}, "masks and images differ in number; expected 8; found 7"),
        ({"masks": MASKS.astype(np.float32)}, "mask: 0000: array is not a mask.*float32"),
        ({"masks": MASKS[:, 0]}, "array is not a mask"),
        ({"masks": np.stack([MASKS] * 3, -1)}, "array is not a mask"),
        ({"masks": MASKS.astype(np.int64) << 40}, "mask values outside 32 bits"),
        ({"masks": None}, "masks is wrong.*found NoneType"),
        ({"instances": OBJECTS[:3]}, "instances and images differ in number"),
        ({"instances": WEIGHTS}, "array is not an instance map"),
        ({"weights": WEIGHTS[:3]}, "weights and images differ in number"),
        ({"weights": -WEIGHTS}, "array is not a map of weights"),
        ({"weights": WEIGHTS * np.inf}, "array is not a map of weights"),
        ({"weights": WEIGHTS.astype(str)}, "array is not a map of weights"),
        ({"weights": WEIGHTS[:, 0]}, "array is not a map of weights"),
        ({"names": NAMES[:3]}, "names and images differ in number"),
        ({"names": ["a"] * 8}, "two of one name"),
        ({"names": "abcdefgh"}, "names is wrong"),
        ({"splits": ["train"] * 3}, "splits is wrong"),
        ({"splits": ["train", "valid"] * 4}, "splits is wrong"),
        ({"splits": ["val"] * 8}, "no train part"),
        ({"classes": ["one"]}, "2 to 255 different names"),
        ({"classes": "ab"}, "classes is wrong"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        dataset_from_arrays(**{"images": IMAGES, "masks": MASKS, **changes})


@pytest.mark.parametrize(
    ("what", "values"), [("masks", MASKS), ("instances", OBJECTS), ("weights", WEIGHTS)], ids=lambda v: str(v)[:9]
)
def test_sizes_that_differ_are_named_when_read(what: str, values: np.ndarray) -> None:
    given: dict[str, Any] = {"images": IMAGES, "masks": MASKS, what: [values[0][:3], *values[1:]]}
    dataset = dataset_from_arrays(**given)
    said = what.removesuffix("s") if what != "instances" else what
    with pytest.raises(DataError, match=rf"1 of 8 samples.*0000: .*image 5 x 6, {said} 5 x 3"):
        records_of(dataset)


# --- tf.data ---------------------------------------------------------------------------------------------------------


def same_pixels(dataset: Dataset, count: int = 8, weights: bool = False) -> None:
    records = records_of(dataset)
    assert sorted(records) == [f"{i:04d}" for i in range(count)]
    for place in range(count):
        record = records[f"{place:04d}"]
        np.testing.assert_array_equal(record.image, IMAGES[place])
        np.testing.assert_array_equal(record.mask, MASKS[place])
        assert (record.weight is not None) == weights
        if weights:
            np.testing.assert_array_equal(record.weight, WEIGHTS[place])


@pytest.mark.parametrize("batch", [None, 1, 3, 8])
@pytest.mark.parametrize("key", ["", "mask", "segmentation_mask"])
@pytest.mark.parametrize("weights", [False, True])
def test_elements_of_every_form(batch: int | None, key: str, weights: bool) -> None:
    masks = MASKS[..., None]
    values = {"image": IMAGES, key: masks} if key else (IMAGES, masks)
    if weights:
        values = values | {"weight": WEIGHTS} if isinstance(values, dict) else (*values, WEIGHTS)
    data = tf.data.Dataset.from_tensor_slices(values)
    data = data if batch is None else data.batch(batch)
    same_pixels(dataset_from_tf(data), weights=weights)


def test_masks_of_a_batch_without_channels() -> None:
    same_pixels(dataset_from_tf(tf.data.Dataset.from_tensor_slices((IMAGES, MASKS)).batch(3)))


def test_a_limit() -> None:
    data = tf.data.Dataset.from_tensor_slices((IMAGES, MASKS))
    same_pixels(dataset_from_tf(data, limit=5), 5)
    same_pixels(dataset_from_tf(data.batch(3), limit=5), 5)
    same_pixels(dataset_from_tf(data.repeat(), limit=8))
    same_pixels(dataset_from_tf(data, limit=99))
    with pytest.raises(DataError, match="no end; fix: pass limit=N"):
        dataset_from_tf(data.repeat())
    with pytest.raises(DataError, match="limit is wrong"):
        dataset_from_tf(data, limit=0)


def test_a_generator_of_images_of_many_sizes() -> None:
    def give() -> Any:
        for place in range(8):
            yield IMAGES[place][: 3 + place % 3], MASKS[place][: 3 + place % 3]

    signature = (tf.TensorSpec((None, 5, 3), tf.uint8), tf.TensorSpec((None, 5), tf.uint8))
    dataset = dataset_from_tf(tf.data.Dataset.from_generator(give, output_signature=signature))
    assert records_of(dataset)["0002"].mask.shape == (5, 5)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (tf.data.Dataset.from_tensor_slices(IMAGES), r"elements are not images and masks.*\(image, mask\)"),
        (tf.data.Dataset.from_tensor_slices({"image": IMAGES}), "elements are not images and masks"),
        (tf.data.Dataset.from_tensor_slices((IMAGES, MASKS, WEIGHTS, WEIGHTS)), "elements are not images and masks"),
        (tf.data.Dataset.from_tensor_slices((IMAGES[..., 0], MASKS)).batch(4), "array is not a mask"),
        (tf.data.Dataset.from_tensors((IMAGES, MASKS[:5])), "masks and images of a batch differ in number"),
        (tf.data.Dataset.from_tensors((IMAGES, "mask")), "masks and images of a batch differ in number"),
        (tf.data.Dataset.from_tensors((b"image", MASKS[0])), "array is not an image"),
        (tf.data.Dataset.from_tensor_slices((IMAGES, MASKS)).take(0), "no images"),
        ([(IMAGES[0], MASKS[0])], "not a tf.data.Dataset; found list"),
    ],
    ids=str,
)
def test_elements_that_do_not_fit_are_named(data: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        dataset_from_tf(data)


def test_a_function_that_fails_is_named() -> None:
    def fail(image: tf.Tensor, mask: tf.Tensor) -> Any:
        with tf.control_dependencies([tf.debugging.assert_less(mask, tf.constant(0, tf.uint8))]):
            return image, tf.identity(mask)

    with pytest.raises(DataError, match="the data set cannot be read"):
        dataset_from_tf(tf.data.Dataset.from_tensor_slices((IMAGES, MASKS)).map(fail))
