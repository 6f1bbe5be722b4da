"""Batches: the same each time, image and mask in step, every pixel counted once where it counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from keras_unetres.data import open_dataset, read_records
from keras_unetres.data.pipeline import (
    AUGMENTATIONS,
    Augmentation,
    Samples,
    calibration_crops,
    training_batches,
    validation_batches,
)
from unetres_edge import Preprocessing

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


def make_samples(root: Path, pre: Preprocessing, *, picture: str = "mask", shapes=SHAPES) -> Samples:
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
    return Samples(read_records(dataset, ["val"], progress=False)["val"], pre)


def grey(size: tuple[int, int] = (16, 24), fit: str = "crop") -> Preprocessing:
    return Preprocessing(channels=1, size=size, fit=fit)


def take(samples: Samples, augmentation: Augmentation, first: int, last: int, *, seed: int = 3, batch_size: int = 4):
    """Return the batches of some epochs as (images, masks), stacked."""
    data = training_batches(
        samples, augmentation, batch_size=batch_size, seed=seed, first_epoch=first, epochs=last
    ).as_numpy_iterator()
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
