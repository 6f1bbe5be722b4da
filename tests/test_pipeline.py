"""Batches: the same each time, image and mask in step, every pixel counted once where it counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image
from scipy import ndimage

from keras_unetres.choices.augmentations import AUGMENTATIONS, Augmentation
from keras_unetres.data import Reading, dataset_from_arrays, open_dataset, read_records
from keras_unetres.data import samples as samples_module
from keras_unetres.data.pipeline import Order, calibration_crops, training_batches, validation_batches
from keras_unetres.data.samples import Samples
from keras_unetres.data.targets import border_weight_map
from keras_unetres.data.weighting import Weighting, class_weights
from unetres_edge import Preprocessing
from unetres_edge.errors import DataError, UsageError

SHAPES = [(40, 50), (20, 70), (33, 16)]
TURNING = Augmentation(flip_up_down=True, rotation=180, scale=(0.7, 1.4))
BLOBS = 3.0  # px; width of the filter that makes the drawn masks


def draw_mask(index: int, shape: tuple[int, int]) -> np.ndarray:
    noise = np.random.default_rng(index).standard_normal(shape)
    return (ndimage.gaussian_filter(noise, BLOBS, mode="nearest") > 0).astype(np.uint8)


def place_of(index: int, shape: tuple[int, int]) -> np.ndarray:
    """An image that says of each pixel where it is: (row, column, index of the image)."""
    rows, columns = np.indices(shape)
    return np.stack([rows, columns, np.full(shape, index)], -1).astype(np.uint8)


def make_samples(root: Path, pre: Preprocessing, *, picture: str = "mask", shapes=SHAPES, margin: int = 0) -> Samples:
    """Write masks with pictures that show the mask, or the place of each pixel, and open all but the spare one."""
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    for index, shape in enumerate([*shapes, (8, 8)]):
        mask = draw_mask(index, shape)
        name = f"{index}.png" if index < len(shapes) else "spare.png"
        Image.fromarray(mask * 255 if picture == "mask" else place_of(index, shape)).save(root / "images" / name)
        Image.fromarray(mask).save(root / "masks" / name)
    (root / "classes.txt").write_text("background\nblob\n")
    dataset = open_dataset(root, changes={"val_from": "[0-9]*", "test_from": "none"})
    return Samples(read_records(dataset, ["val"], progress=False)["val"], pre, margin=margin)


def grey(size: tuple[int, int] = (16, 24), fit: str = "crop") -> Preprocessing:
    return Preprocessing(channels=1, size=size, fit=fit)


def take(samples: Samples, augmentation: Augmentation, first: int, last: int, *, seed: int = 3, batch_size: int = 4):
    """Return the batches of some epochs as (images, masks), stacked."""
    steps = samples.steps(batch_size)
    order = Order(samples, batch_size, seed)
    data = training_batches(order, augmentation, first_step=first * steps, last_step=last * steps).as_numpy_iterator()
    images, masks = zip(*data, strict=True)
    return np.stack(images), np.stack(masks)


def test_a_batch_is_a_function_of_seed_and_epoch(tmp_path) -> None:
    samples = make_samples(tmp_path, grey())
    images, masks = take(samples, AUGMENTATIONS["microscopy"], 0, 3)
    steps = samples.steps(4)
    assert images.shape == (3 * steps, 4, 16, 24, 1)
    assert (images.dtype, masks.dtype) == (np.float32, np.int32)
    again = take(samples, AUGMENTATIONS["microscopy"], 0, 3)
    np.testing.assert_array_equal(again[0], images)
    np.testing.assert_array_equal(again[1], masks)
    for first in (1, 2):
        tail = take(samples, AUGMENTATIONS["microscopy"], first, 3)
        np.testing.assert_array_equal(tail[0], images[first * steps :])
        np.testing.assert_array_equal(tail[1], masks[first * steps :])
    assert np.mean(images[:steps] != images[steps : 2 * steps]) > 0.1
    assert np.mean(take(samples, AUGMENTATIONS["microscopy"], 0, 1, seed=4)[0] != images[:steps]) > 0.1


def test_an_epoch_takes_each_image_by_its_area(tmp_path) -> None:
    samples = make_samples(tmp_path, grey())
    assert np.bincount(samples.owners).tolist() == [5, 4, 1]
    assert samples.steps(4) == 3
    assert (samples.steps(10), samples.steps(11), samples.steps(1)) == (1, 1, 10)


def test_an_epoch_shows_every_crop_and_fills_up_from_its_start(tmp_path) -> None:
    samples = make_samples(tmp_path, Preprocessing(size=(16, 24), value_range=(0, 255)), picture="place")
    images, _ = take(samples, AUGMENTATIONS["none"], 0, 2)
    owners = np.rint(images[..., 2].mean((2, 3))).astype(int).reshape(2, -1)
    expected = np.bincount(samples.owners) + [2, 0, 0]
    for epoch in owners:
        assert np.bincount(epoch).tolist() == expected.tolist()
    assert owners[0].tolist() != owners[1].tolist()


@pytest.mark.parametrize("augmentation", [TURNING, AUGMENTATIONS["none"], Augmentation()], ids=["turn", "none", "flip"])
@pytest.mark.parametrize("size", [(16, 24), (48, 40)], ids=["smaller", "larger"])
def test_image_and_mask_move_together(tmp_path, augmentation: Augmentation, size: tuple[int, int]) -> None:
    """Where a 3 x 3 neighbourhood of the mask is of one class, the picture of the mask must show that class."""
    samples = make_samples(tmp_path, grey(size))
    last = -(-100 // (4 * samples.steps(4)))
    images, masks = (part.reshape(-1, *size) for part in take(samples, augmentation, 0, last))
    assert len(images) >= 100
    compared = 0
    for image, mask in zip(images, masks, strict=True):
        low, high = (f(mask, 3, mode="constant", cval=255) for f in (ndimage.minimum_filter, ndimage.maximum_filter))
        inside = (low == high) & (mask != 255)
        np.testing.assert_array_equal(image[inside] > 0.5, mask[inside] == 1)
        compared += np.count_nonzero(inside)
    assert compared > 0.2 * masks.size
    assert set(np.unique(masks)) <= {0, 1, 255}


@pytest.mark.parametrize("size", [(28, 36), (60, 52)], ids=["smaller", "larger"])
def test_a_margin_is_seen_and_not_labelled(tmp_path, size: tuple[int, int]) -> None:
    """The output of an unpadded network is asked for every pixel once, and its input shows what lies around."""
    samples = make_samples(tmp_path, Preprocessing(size=size, value_range=(0, 255)), picture="place", margin=6)
    assert samples.shape(0) == (52, 62)
    seen = [np.zeros(shape, int) for shape in SHAPES]

    def count(images: np.ndarray, masks: np.ndarray) -> None:
        assert masks.shape[1:] == (size[0] - 12, size[1] - 12)
        labelled = masks != 255
        rows, columns, index = np.rint(images[:, 6:-6, 6:-6][labelled]).astype(int).T
        for which, counts in enumerate(seen):
            here = index == which
            places = rows[here], columns[here]
            np.testing.assert_array_equal(masks[labelled][here], draw_mask(which, counts.shape)[places])
            np.add.at(counts, places, 1)

    for batch in validation_batches(samples, batch_size=2).as_numpy_iterator():
        count(*batch)
    assert [set(counts.ravel()) for counts in seen] == [{1}, {1}, {1}]
    for images, masks in zip(*take(samples, AUGMENTATIONS["none"], 0, 80), strict=True):
        count(images, masks)
    for counts in seen:  # the crops of training reach every border, too
        assert min(edge.max() for edge in (counts[0], counts[-1], counts[:, 0], counts[:, -1])) > 1


def test_a_margin_is_of_crops_only(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"(?s)sees crops.*--fit crop"):
        make_samples(tmp_path, grey(fit="resize"), margin=6)


def test_a_crop_of_an_images_own_size_is_that_image(tmp_path) -> None:
    samples = make_samples(tmp_path, grey((40, 50)), shapes=SHAPES[:1])
    images, masks = take(samples, AUGMENTATIONS["none"], 0, 1, batch_size=1)
    mask = draw_mask(0, (40, 50))
    np.testing.assert_array_equal(masks[0, 0], mask)
    np.testing.assert_allclose(images[0, 0, ..., 0], mask, atol=1e-6)
    flipped = take(samples, Augmentation(), 0, 12, batch_size=1)[1][:, 0]
    kinds = {("same" if (m == mask).all() else "mirrored" if (m == mask[:, ::-1]).all() else "other") for m in flipped}
    assert kinds == {"same", "mirrored"}


def test_crops_without_change_reach_every_border_and_never_beyond(tmp_path) -> None:
    pre = Preprocessing(size=(16, 24), value_range=(0, 255))
    samples = make_samples(tmp_path, pre, picture="place", shapes=SHAPES[:1])
    images, masks = take(samples, AUGMENTATIONS["none"], 0, 60)
    assert 255 not in masks
    rows, columns = images[..., 0], images[..., 1]
    assert (rows.min() < 2, rows.max() > 37, columns.min() < 2, columns.max() > 47) == (True,) * 4


def test_outside_of_the_image_is_ignored(tmp_path) -> None:
    samples = make_samples(tmp_path, grey((64, 64)), shapes=SHAPES[:1])
    _, masks = take(samples, AUGMENTATIONS["none"], 0, 4)
    assert np.unique((masks != 255).sum((-1, -2))).tolist() == [40 * 50]
    known = masks[0, 0] != 255
    rows, columns = np.flatnonzero(known.any(1)), np.flatnonzero(known.any(0))
    assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == (12, 52, 7, 57)
    np.testing.assert_array_equal(masks[0, 0][12:52, 7:57], draw_mask(0, (40, 50)))


def test_scale_is_magnification_and_stays_between_its_ends(tmp_path) -> None:
    pre = Preprocessing(size=(16, 16), value_range=(0, 255))
    samples = make_samples(tmp_path, pre, picture="place", shapes=[(60, 60)])
    images, _ = take(samples, Augmentation(flip_left_right=False, scale=(1.0, 2.0)), 0, 10)
    step = np.diff(images[..., 1], axis=-1).mean((-1, -2))
    assert 0.49 < step.min() < 0.65
    assert 0.85 < step.max() < 1.01


def test_no_thread_that_tunes_holds_up_the_end_of_an_iterator(tmp_path) -> None:
    samples = make_samples(tmp_path, grey())
    for batches in (
        training_batches(Order(samples, 3, 1), AUGMENTATIONS["none"], last_step=2),
        validation_batches(samples, batch_size=2),
    ):
        assert batches.options().autotune.enabled is False


def test_light_changes_the_image_alone_and_stays_in_range(tmp_path) -> None:
    samples = make_samples(tmp_path, grey())
    light = Augmentation(brightness=0.3, contrast=0.3, gamma=0.3)
    plain, changed = take(samples, Augmentation(), 0, 1), take(samples, light, 0, 1)
    np.testing.assert_array_equal(plain[1], changed[1])
    assert np.mean(np.abs(plain[0] - changed[0]) > 0.01) > 0.3
    assert (changed[0].min() >= 0, changed[0].max() <= 1) == (True, True)


def test_training_sees_the_values_of_the_table(tmp_path) -> None:
    pre = Preprocessing(size=(40, 50), value_range=(-1, 1), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    samples = make_samples(tmp_path, pre, picture="place", shapes=SHAPES[:1])
    image = take(samples, AUGMENTATIONS["none"], 0, 1, batch_size=1)[0][0, 0]
    np.testing.assert_allclose(image, pre.normalise(place_of(0, (40, 50))), atol=2e-6)
    validation = next(iter(validation_batches(samples, batch_size=1)))[0].numpy()[0]
    np.testing.assert_array_equal(validation, pre.normalise(place_of(0, (40, 50))))


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("size", [(16, 24), (10, 10), (64, 64)])
def test_validation_counts_every_pixel_once(tmp_path, batch_size: int, size: tuple[int, int]) -> None:
    samples = make_samples(tmp_path, Preprocessing(size=size, value_range=(0, 255)), picture="place")
    batches = list(validation_batches(samples, batch_size=batch_size).as_numpy_iterator())
    assert {images.shape for images, _ in batches} == {(batch_size, *size, 3)}
    images, masks = (np.concatenate(part) for part in zip(*batches, strict=True))
    counted = masks != 255
    places = np.rint(images[counted]).astype(int)
    seen = sorted(map(tuple, places.tolist()))
    assert seen == sorted((r, c, n) for n, (h, w) in enumerate(SHAPES) for r in range(h) for c in range(w))
    truth = [draw_mask(n, shape) for n, shape in enumerate(SHAPES)]
    expected = np.array([truth[n][r, c] for r, c, n in places])
    np.testing.assert_array_equal(masks[counted], expected)


def test_validation_can_be_read_again(tmp_path) -> None:
    data = validation_batches(make_samples(tmp_path, grey()), batch_size=4)
    once, again = list(data.as_numpy_iterator()), list(data.as_numpy_iterator())
    assert len(once) == len(again) > 1
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize("count", [1, 4, 1000])
def test_calibration_crops_are_cut_as_they_are(tmp_path, count: int) -> None:
    samples = make_samples(tmp_path, Preprocessing(size=(16, 14)), picture="place")
    crops = calibration_crops(samples, count=count)
    assert (crops.dtype, crops.shape[1:]) == (np.uint8, (16, 14, 3))
    assert len(crops) == min(count, 28)
    for crop in crops:
        row, column, index = crop[0, 0].tolist()
        whole = place_of(index, SHAPES[index])
        np.testing.assert_array_equal(crop, whole[row : row + 16, column : column + 14])
    if count > 3:
        assert set(crops[:, 0, 0, 2]) == {0, 1, 2}
    if count > 28:
        assert len({crop.tobytes() for crop in crops}) == 28


def test_calibration_of_one_image_has_its_mirror_images(tmp_path) -> None:
    samples = make_samples(tmp_path, Preprocessing(size=SHAPES[0]), picture="place", shapes=SHAPES[:1])
    crops = calibration_crops(samples, count=8)
    assert len({crop.tobytes() for crop in crops}) == len(crops) == 4
    np.testing.assert_array_equal(crops[0], place_of(0, SHAPES[0]))
    assert all(np.array_equal(np.sort(crop, None), np.sort(crops[0], None)) for crop in crops)


def test_calibration_keeps_to_its_memory(tmp_path) -> None:
    samples = make_samples(tmp_path, grey((16, 16)))
    assert len(calibration_crops(samples, count=100, max_bytes=3 * 256)) == 3


@pytest.mark.parametrize("fit", ["resize", "letterbox"])
def test_whole_images_are_scaled_with_their_masks(tmp_path, fit: str) -> None:
    pre = grey((32, 48), fit)
    samples = make_samples(tmp_path, pre)
    assert (samples.owners.tolist(), samples.steps(2)) == ([0, 1, 2], 2)
    batches = list(validation_batches(samples, batch_size=1).as_numpy_iterator())
    assert len(batches) == 3
    scaled = {"resize": [(32, 48)] * 3, "letterbox": [(32, 40), (14, 48), (32, 16)]}[fit]
    for (image, mask), shape, (height, width) in zip(batches, SHAPES, scaled, strict=True):
        assert (image.shape, mask.shape) == ((1, 32, 48, 1), (1, 32, 48))
        inside = np.zeros((32, 48), bool)
        inside[:height, :width] = True
        np.testing.assert_array_equal(mask[0] == 255, ~inside)
        assert np.mean((image[0, ..., 0] > 0.5)[inside] == (mask[0] == 1)[inside]) > 0.93
        rows, columns = ((np.arange(n) + 0.5) * m / n for n, m in zip((height, width), shape, strict=True))
        whole = draw_mask(SHAPES.index(shape), shape)
        nearest = whole[np.floor(rows).astype(int)[:, None], np.floor(columns).astype(int)]
        np.testing.assert_array_equal(mask[0, :height, :width], nearest)
    masks = take(samples, AUGMENTATIONS["none"], 0, 1, batch_size=3)[1][0]
    known = sorted(np.count_nonzero(mask != 255) for mask in masks)
    assert known == sorted(height * width for height, width in scaled)


def from_arrays(masks: list[np.ndarray], pre: Preprocessing, *, weights=None, **settings) -> Samples:
    """Return samples of pictures that show their masks, all in the training part."""
    images = [(mask * 50).astype(np.uint8) for mask in masks]
    classes = None if settings.pop("instances", False) else ["a", "b", "c"]
    reading = Reading(masks_are="classes" if classes else "instances")
    dataset = dataset_from_arrays(
        images, masks, weights=weights, splits=["train"] * len(masks[1:]) + ["val"], classes=classes, reading=reading
    )
    return Samples(read_records(dataset, ["all"], progress=False)["all"], pre, **settings)


def spots(count: int = 4) -> list[np.ndarray]:
    """Masks of 64 x 64 that are class 0 but for a strip of class 1, and in the first one 4 px of class 2."""
    masks = [np.zeros((64, 64), np.uint8) for _ in range(count)]
    for mask in masks:
        mask[:, :8] = 1
    masks[0][40:42, 50:52] = 2
    return masks


def test_class_weights_are_inverse_to_the_pixels() -> None:
    masks = [np.array([[0, 0, 0, 1], [0, 0, 255, 255]], np.uint8)]
    weights = class_weights(masks, 3)
    assert weights == (6 / (2 * 5), 6 / (2 * 1), 1.0)
    counts = np.array([5, 1, 0])
    assert (counts * weights).sum() / counts.sum() == pytest.approx(1)


def test_balanced_weights_reach_the_batches_and_nothing_ignored_weighs() -> None:
    masks = spots()
    masks[1][10:20] = 255
    images = [np.zeros((64, 64), np.uint8)] * 4
    dataset = dataset_from_arrays(
        images, masks, splits=["train"] * 3 + ["val"], classes=["a", "b", "c"], reading=Reading(ignore=255)
    )
    samples = Samples(
        read_records(dataset, ["train"], progress=False)["train"], grey((48, 80)), weighting=Weighting(by_class=1.0)
    )
    expected = class_weights(masks[:3], 3)
    assert samples.class_weights == expected
    batches = training_batches(Order(samples, 3, 1), AUGMENTATIONS["light"], last_step=2)
    for _, labels, weights in batches.as_numpy_iterator():
        assert weights.dtype == np.float32
        for class_id in range(3):
            np.testing.assert_allclose(weights[labels == class_id], expected[class_id], rtol=1e-6)
        assert (labels == 255).any()
        assert (weights[labels == 255] == 0).all()


def test_given_weights_multiply_the_others() -> None:
    weights = [np.full((64, 64), 1 + index, np.float32) for index in range(4)]
    samples = from_arrays(spots(), grey((64, 64)), weights=weights, weighting=Weighting(by_class=1.0))
    plain = from_arrays(spots(), grey((64, 64)), weighting=Weighting(by_class=1.0))
    for index in range(4):
        np.testing.assert_allclose(samples[index].weight, plain[index].weight * (1 + index), rtol=1e-6)


def cells() -> np.ndarray:
    """Numbered cells of which two nearly touch."""
    instances = np.zeros((48, 48), np.int32)
    instances[10:30, 8:20], instances[10:30, 23:40] = 1, 2
    return instances


def test_border_weights_need_objects_and_are_those_of_the_paper() -> None:
    samples = from_arrays([cells()] * 2, grey((48, 48)), instances=True, weighting=Weighting(border=(10, 5)))
    np.testing.assert_allclose(samples[0].weight, border_weight_map(cells(), w0=10, sigma=5), rtol=1e-6)
    assert samples[0].weight[20, 21] > 5
    with pytest.raises(DataError, match="border weights need to know the objects"):
        from_arrays(spots(), grey(), weighting=Weighting(border=(10, 5)))
    with pytest.raises(UsageError, match="sigma"):
        Weighting(border=(10, 0))


def test_border_weights_never_teach_to_join_objects_that_touch() -> None:
    instances = np.zeros((32, 32), np.int32)
    instances[8:24, 6:16], instances[8:24, 16:28] = 1, 2
    whole = border_weight_map(instances)
    assert whole[15, 16] > 9  # between the two
    for target, heavy in (("semantic", False), ("separated", True), ("borders", True)):
        dataset = dataset_from_arrays(
            [np.zeros((32, 32), np.uint8)] * 2,
            [instances] * 2,
            splits=["train", "val"],
            reading=Reading(masks_are="instances", target=target),
        )
        records = read_records(dataset, ["train"], progress=False)["train"]
        sample = Samples(records, grey((32, 32)), weighting=Weighting(border=(10, 5)))[0]
        assert (sample.weight[15, 16] > 9) == heavy
        assert (sample.weight[sample.mask == 1] == 1).all()
        np.testing.assert_allclose(sample.weight[sample.mask == 0], whole[sample.mask == 0], rtol=1e-6)


def test_half_of_the_crops_hold_the_rarest_class_as_often_as_the_others() -> None:
    samples = from_arrays(spots(), grey((16, 16)))
    shares = {}
    for balance in (0.0, 1.0):
        order = Order(samples, 16, 5, balance)
        batches = training_batches(order, AUGMENTATIONS["none"], last_step=6 * samples.steps(16))
        labels = np.concatenate([mask for _, mask in batches.as_numpy_iterator()])
        shares[balance] = [(labels == class_id).any((1, 2)).mean() for class_id in range(3)]
    assert shares[0.0][2] < 0.1
    assert 0.25 < shares[1.0][2] < 0.45  # 1 in 3, and those that hold it by chance
    assert shares[1.0][1] > 0.3


def test_balance_is_for_crops_alone() -> None:
    with pytest.raises(UsageError, match="balance"):
        Order(from_arrays(spots(), grey(fit="resize")), 2, 0, 0.5)
    with pytest.raises(UsageError, match="balance"):
        Order(from_arrays(spots(), grey()), 2, 0, 1.5)


@pytest.mark.parametrize("balance", [0.0, pytest.param(0.7, marks=pytest.mark.slow)])
def test_workers_share_the_batches_of_one(tmp_path, balance: float) -> None:
    samples = make_samples(tmp_path, grey())
    order = Order(samples, 4, 3, balance)
    last = 2 * samples.steps(4)
    whole = list(training_batches(order, AUGMENTATIONS["microscopy"], last_step=last).as_numpy_iterator())
    parts = [
        list(training_batches(order, AUGMENTATIONS["microscopy"], last_step=last, shard=(i, 2)).as_numpy_iterator())
        for i in range(2)
    ]
    assert len(whole) == len(parts[0]) == len(parts[1])
    for one, *shares in zip(whole, *parts, strict=True):
        for array, halves in zip(one, zip(*shares, strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(halves), array)
    with pytest.raises(UsageError, match="shared"):
        training_batches(Order(samples, 3, 3), AUGMENTATIONS["none"], last_step=1, shard=(0, 2))


@pytest.mark.parametrize("balance", [pytest.param(0.0, marks=pytest.mark.slow), 0.7])
def test_batches_start_at_any_step(balance: float) -> None:
    samples = from_arrays(spots(), grey((16, 16)))
    order = Order(samples, 3, 3, balance)
    steps = samples.steps(3)
    whole = list(training_batches(order, AUGMENTATIONS["light"], last_step=2 * steps).as_numpy_iterator())
    assert len(whole) == 2 * steps
    for first in (1, steps - 1, steps, steps + 1, 2 * steps - 1):
        rest = training_batches(order, AUGMENTATIONS["light"], first_step=first, last_step=2 * steps)
        for one, again in zip(whole[first:], rest.as_numpy_iterator(), strict=True):
            for array, same in zip(one, again, strict=True):
                np.testing.assert_array_equal(same, array)


@pytest.mark.parametrize("balance", [0.0, 0.7])
def test_the_images_of_a_batch_are_named(balance: float) -> None:
    """Every picture has a grey level of its own, which tells from which one a crop was cut."""
    masks = spots()
    images = [np.full((*mask.shape, 1), 10 * (index + 1), np.uint8) for index, mask in enumerate(masks)]
    dataset = dataset_from_arrays(images, masks, splits=["train"] * (len(masks) - 1) + ["val"], classes=["a", "b", "c"])
    samples = Samples(read_records(dataset, ["train"], progress=False)["train"], grey((16, 16)))
    order = Order(samples, 5, 3, balance)
    levels = {sample.name: 10 * (index + 1) for index, sample in enumerate(samples.samples)}
    last = 2 * samples.steps(5)
    for step, (crops, _) in enumerate(
        training_batches(order, AUGMENTATIONS["none"], last_step=last).as_numpy_iterator()
    ):
        low, high = samples.pre.value_range
        found = (crops[:, 8, 8, 0] - low) / (high - low) * 255
        np.testing.assert_allclose(found, [levels[name] for name in order.names(step)], atol=0.01)


def test_a_cache_gives_the_same_samples_and_knows_what_they_depend_on(tmp_path) -> None:
    plain = from_arrays([cells()] * 2, grey((48, 48)), instances=True, weighting=Weighting(border=(10, 5)))

    def cached(sigma: float = 5, pre: Preprocessing | None = None) -> Samples:
        weighting = Weighting(border=(10, sigma))
        pre = pre or grey((48, 48))
        return from_arrays([cells()] * 2, pre, instances=True, weighting=weighting, cache=tmp_path / "cache")

    def files() -> int:
        return len(list((tmp_path / "cache").glob("*.safetensors")))

    first = cached()
    assert files() == 1  # both samples are the same
    for again in (first, cached()):
        for index in range(2):
            for name in ("image", "mask", "weight"):
                np.testing.assert_array_equal(getattr(again[index], name), getattr(plain[index], name))
    assert files() == 1
    cached(sigma=4)
    assert files() == 2
    cached(pre=Preprocessing(channels=1, size=(48, 48), per_image=(1, 99)))
    assert files() == 3
    for file in (tmp_path / "cache").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
    np.testing.assert_array_equal(cached()[0].weight, plain[0].weight)  # damaged: made anew
    assert not list((tmp_path / "cache").glob("*.tmp"))


@pytest.mark.parametrize("change", ["bits", "size", "classes", "kind", "no weight", "no digest"])
def test_a_cache_file_that_is_not_what_was_written_is_made_anew(tmp_path, change: str) -> None:
    def cached() -> Samples:
        return from_arrays(
            [cells()] * 2, grey((48, 48)), instances=True, weighting=Weighting(border=(10, 5)), cache=tmp_path
        )

    plain = cached()[0]
    (file,) = tmp_path.glob("*.safetensors")
    good = file.read_bytes()
    tensors = safetensors.numpy.load(good)
    if change == "bits":
        file.write_bytes(good[:-5] + bytes([good[-5] ^ 1]) + good[-4:])
    else:
        if change == "size":
            tensors = {name: values[:9, :9].copy() for name, values in tensors.items()}
        elif change == "classes":
            tensors["words"] = tensors["words"] | np.array(7 << 8, tensors["words"].dtype)
        elif change == "kind":
            tensors["words"] = tensors["words"].astype(np.float32)
        elif change == "no weight":
            del tensors["weight"]
        digest = {"sha256": samples_module._digest(tensors)}
        file.write_bytes(safetensors.numpy.save(tensors, {} if change == "no digest" else digest))
    assert file.read_bytes() != good
    for name in ("image", "mask", "weight"):
        np.testing.assert_array_equal(getattr(cached()[0], name), getattr(plain, name))
    assert file.read_bytes() == good


def test_a_sample_read_from_the_cache_is_not_decoded_again(tmp_path, monkeypatch) -> None:
    from keras_unetres.data import samples as module

    first = from_arrays([cells()] * 2, grey((48, 48)), instances=True, cache=tmp_path)
    monkeypatch.setattr(module.Samples, "_prepare", lambda self, index: pytest.fail("prepared again"))
    again = from_arrays([cells()] * 2, grey((48, 48)), instances=True, cache=tmp_path)
    np.testing.assert_array_equal(again[0].image, first[0].image)


@pytest.mark.parametrize("fit", ["resize", "letterbox"])
def test_weights_are_scaled_with_their_masks(fit: str) -> None:
    samples = from_arrays(spots(), grey((32, 48), fit), weighting=Weighting(by_class=1.0))
    table = np.append(np.array(samples.class_weights, np.float32), np.zeros(253, np.float32))
    for index in range(4):
        np.testing.assert_array_equal(samples[index].weight, table[samples[index].mask])
