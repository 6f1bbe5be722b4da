"""What does not fit in memory at once: the temporary file of prepared samples, pieces of large images, near copies."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_unetres.choices.augmentations import AUGMENTATIONS
from keras_unetres.data import open_dataset, overflow, read_records, records, samples, smears
from keras_unetres.data.overflow import Overflow
from keras_unetres.data.pipeline import Order, calibration_crops, training_batches, validation_batches
from keras_unetres.data.samples import Samples
from keras_unetres.data.weighting import Weighting
from keras_unetres.doctor import copies, smalls
from keras_unetres.doctor.check import check
from keras_unetres.doctor.nearest import find_nearest
from keras_unetres.doctor.smalls import Chosen, Smalls
from keras_unetres.doctor.summaries import flips
from keras_unetres.pages.pictures import sample_sheet
from keras_unetres.scores.confusion import Confusion
from keras_unetres.tasks import review
from unetres_edge import Preprocessing
from unetres_edge.images import decode
from unetres_edge.images.bands import bands
from unetres_edge.images.decode import read_image, read_mask, read_orientation, read_pixel_count
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.results import draw

WORDS = (np.dtype(np.int32), 2)
WEIGHTS = (np.dtype(np.float32), 1)


def planes_of(index: int, height: int, width: int) -> list[np.ndarray]:
    rng = np.random.default_rng(index)
    return [
        rng.integers(0, 2**31, (height, width, 2)).astype(np.int32),
        rng.random((height, width, 1)).astype(np.float32),
    ]


def test_a_window_of_a_sample_is_read_from_the_file() -> None:
    shapes = {3: (5, 7), 4: (9, 4)}
    kept = Overflow(shapes, [WORDS, WEIGHTS])
    assert kept.read(3) is None  # nothing was written yet
    for index, shape in shapes.items():
        kept.write(index, planes_of(index, *shape))
    for index, (height, width) in shapes.items():
        for (y, x), (rows, columns) in [((0, 0), (height, width)), ((1, 2), (3, 2)), ((2, 0), (2, width))]:
            found = kept.read(index, (y, x), (rows, columns))
            assert found is not None
            for plane, window in zip(planes_of(index, height, width), found, strict=True):
                np.testing.assert_array_equal(window, plane[y : y + rows, x : x + columns])
    assert kept.read(0) is None


def test_what_has_no_room_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Usage:
        free = 2 * (5 * 7 * 8 + 10)

    monkeypatch.setattr("shutil.disk_usage", lambda place: Usage)
    kept = Overflow({0: (5, 7), 1: (5, 7)}, [WORDS], tmp_path)
    for index in range(2):
        kept.write(index, planes_of(index, 5, 7)[:1])
    assert kept.read(0) is not None
    assert kept.read(1) is None
    assert not list(tmp_path.iterdir())  # it has no name


def test_a_disk_that_is_full_after_all_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(28, "no space left on device")

    kept = Overflow({0: (5, 7)}, [WORDS])
    monkeypatch.setattr("os.pwrite", refuse)
    kept.write(0, planes_of(0, 5, 7)[:1])
    assert kept.read(0) is None


def write_set(folder: Path, count: int = 6) -> Path:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        mask = (rng.random((24, 20)) < 0.4).astype(np.uint8)
        Image.fromarray(rng.integers(0, 256, (24, 20, 3)).astype(np.uint8)).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    return folder


def seen(folder: Path) -> list[np.ndarray]:
    """Return all that training and validation see, and the calibration crops."""
    read = read_records(open_dataset(folder), ["train", "val"], progress=False)
    pre = Preprocessing(channels=3, size=(16, 16))
    train = Samples(read["train"], pre, weighting=Weighting(by_class=1.0))
    batches = training_batches(Order(train, 4, 0, balance=0.5), AUGMENTATIONS["light"], last_step=5)
    found = [part.numpy() for batch in batches for part in batch]
    found += [part.numpy() for batch in validation_batches(Samples(read["val"], pre), batch_size=4) for part in batch]
    return [*found, calibration_crops(train, count=8)]


@pytest.mark.slow  # compiles what draws crops
def test_batches_are_the_same_wherever_samples_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_set(tmp_path / "set")
    in_memory = seen(folder)
    monkeypatch.setattr(records, "_MEMORY", 0)
    in_file = seen(folder)
    monkeypatch.setattr(overflow, "_SHARE", 0.0)
    decoded_again = seen(folder)
    for one, other, third in zip(in_memory, in_file, decoded_again, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, third)


def test_every_pixel_is_validated_once(tmp_path: Path) -> None:
    read = read_records(open_dataset(write_set(tmp_path / "set")), ["all"], progress=False)["all"]
    samples = Samples(read, Preprocessing(channels=3, size=(16, 16)))
    masks = np.concatenate([mask.numpy() for _, mask in validation_batches(samples, batch_size=7)])
    assert len(masks) % 7 == 0
    found = np.bincount(masks[masks != 255].ravel(), minlength=2)
    wanted = sum(np.bincount(record.mask.ravel(), minlength=2) for record in read)
    np.testing.assert_array_equal(found, wanted)


def test_pieces_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 4, (37, 23)).astype(np.uint8)
    colored = np.repeat(rng.integers(0, 256, (37, 23, 1)).astype(np.uint8), 3, -1)
    whole = [smears.steps_over_classes(mask, ignore) for ignore in (None, 2)]
    assert whole[0][0] > 0 < whole[0][1]
    monkeypatch.setattr(smears, "_AT_ONCE", 100)
    monkeypatch.setattr(records, "_AT_ONCE", 100)
    assert [smears.steps_over_classes(mask, ignore) for ignore in (None, 2)] == whole
    values, counts = np.unique(mask, return_counts=True)
    assert list(records.count_values(mask).items()) == list(zip(values.tolist(), counts.tolist(), strict=True))
    assert records.is_grey(colored)
    colored[36, 22, 2] ^= 1
    assert not records.is_grey(colored)


def test_the_number_of_pixels_is_read_from_the_header(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((7, 5), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"nothing")
    assert (read_pixel_count(tmp_path / "a.png"), read_pixel_count(tmp_path / "b.png")) == (35, 0)


def smooth(number: int) -> np.ndarray:
    """Return a picture (32, 32) uint8 of a few waves and some grain."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:32, :32] / 32
    waves = sum(
        rng.normal() * np.cos(2 * np.pi * (u * y + v * x) + rng.uniform(0, 6)) for u in range(4) for v in range(4)
    )
    return np.clip(128 + 15 * waves + rng.normal(0, 12, (32, 32)), 0, 255).astype(np.uint8)


def every(pictures: np.ndarray) -> Chosen:
    kept = Smalls(len(pictures))
    for index, picture in enumerate(pictures):
        kept.put(index, picture)
    return Chosen(kept, range(len(pictures)))


def test_a_flipped_and_brightened_picture_is_the_nearest() -> None:
    known = np.stack([smooth(n) for n in range(300)])
    ways = [flips(known[n].reshape(1, -1))[n % 8].reshape(32, 32) for n in range(40)]
    others = np.stack([np.clip(way * 0.9 + 8, 0, 255).astype(np.uint8) for way in ways])
    nearest = find_nearest(every(known), every(others), 4)
    assert [int(row[0]) for row in nearest] == list(range(40))
    strangers = find_nearest(every(known), every(np.stack([smooth(n) for n in range(1000, 1040)])), 4)
    assert (strangers == -1).mean() > 0.9  # hardly any picture is worth a comparison


def test_copies_are_found_among_many_that_are_much_alike() -> None:
    """More of them are within reach of each other than are compared."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    far = np.hypot(y - rng.uniform(10, 22, (2000, 1, 1)), x - rng.uniform(10, 22, (2000, 1, 1)))
    discs = 30 + 150 * np.clip(rng.uniform(4, 7, (2000, 1, 1)) - far, 0, 1) + rng.normal(0, 2, far.shape)
    known, copies = discs.astype(np.uint8), np.arange(0, 2000, 20)
    changed = np.clip(0.9 * known[copies, ::-1] + rng.normal(0, 1, (len(copies), 32, 32)), 0, 255).astype(np.uint8)
    nearest = find_nearest(every(known), every(changed), 16)
    assert np.mean([len(set(row) - {-1}) for row in nearest]) > 15
    assert all(copy in row for copy, row in zip(copies, nearest, strict=True))


def test_near_copies_are_those_of_comparing_each_with_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "set"
    for part in ("train", "val"):
        for name in ("images", "masks"):
            (folder / part / name).mkdir(parents=True)
    for number in range(12):
        picture, mask = smooth(number), (smooth(number) > 128).astype(np.uint8)
        Image.fromarray(picture).save(folder / "train" / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "train" / "masks" / f"{number}.png")
    for number, values in enumerate([smooth(3)[:, ::-1], np.rot90(smooth(7)), smooth(50), smooth(5)]):
        brighter = np.clip(values.astype(int) + 9, 0, 255).astype(np.uint8)
        Image.fromarray(np.ascontiguousarray(brighter)).save(folder / "val" / "images" / f"v{number}.png")
        Image.fromarray(np.ascontiguousarray(values > 128).astype(np.uint8)).save(
            folder / "val" / "masks" / f"v{number}.png"
        )

    def twins() -> set[tuple[str, str]]:
        found = check(folder, hashes="off", progress=False).warnings
        return {(f.file, f.figures["twin"]) for f in found if f.kind == "near-duplicate"}

    each_with_each = twins()
    monkeypatch.setattr(copies, "_ALL_PAIRS", 0)
    assert twins() == each_with_each
    monkeypatch.setattr(smalls, "_IN_MEMORY", 5)  # of 16: the others lie in a file
    assert twins() == each_with_each
    assert each_with_each == {
        (f"val/images/v{one}.png", f"train/images/{other}.png") for one, other in ((0, 3), (1, 7), (3, 5))
    }


PEAK = """
import contextlib, io, re, sys
from pathlib import Path
from keras_unetres.cli import main
with contextlib.redirect_stdout(io.StringIO()):
    status = main(sys.argv[1:])
# The peak that getrusage gives may be that of the parent process.
print(status, int(re.search("VmHWM: *([0-9]+)", Path("/proc/self/status").read_text().replace(chr(9), " "))[1]) // 1024)
"""
A_PICTURE = 80  # MB of one prepared sample of 4,500 px
TINY = ["--no-plan", "--filters", "2", "--depth", "2", "--epochs", "1", "--augment", "none", "--precision", "float32"]


def peak_of(*words: str | Path) -> int:
    """Return the peak resident memory of a command in a process of its own, MB."""
    found = subprocess.run([sys.executable, "-c", PEAK, *map(str, words)], capture_output=True, text=True, check=True)
    status, peak = found.stdout.split()
    assert status in ("0", "None"), found.stderr
    return int(peak)


def write_large(folder: Path, count: int) -> Path:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    grain = np.random.default_rng(0).integers(0, 256, (4500, 4500, 3)).astype(np.uint8)
    for number in range(count):
        mask = np.zeros((4500, 4500), np.uint8)
        mask[300 * number : 300 * number + 2000, 1000:3000] = 1
        image = Image.fromarray(np.roll(grain, number, 0) // 2 + mask[..., None] * np.uint8(100))
        image.save(folder / "images" / f"{number}.png", compress_level=1)
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.slow  # decodes and trains on pictures of 20 million pixels
def test_twice_as_many_large_pictures_take_no_more_memory(tmp_path: Path) -> None:
    three, six = write_large(tmp_path / "three", 3), write_large(tmp_path / "six", 6)
    checked = [peak_of("check", folder) for folder in (three, six)]
    trained = [
        peak_of("train", folder, "--out", folder / "run", "--size", "512", "--batch", "4", *TINY)
        for folder in (three, six)
    ]
    assert checked[1] - checked[0] < A_PICTURE, checked
    assert trained[1] - trained[0] < A_PICTURE, trained
    assert checked[1] < 500, checked  # decoded by Pillow and as an array, 140 MB, beside the package itself


def test_bands_are_all_rows_once() -> None:
    for shape, pixels in (((7, 5), 10), ((7, 5), 3), ((1, 1), 1), ((0, 4), 8), ((6, 2, 3), 100)):
        rows = np.concatenate([np.arange(shape[0])[band] for band in bands(shape, pixels)] or [np.zeros(0)])
        np.testing.assert_array_equal(rows, np.arange(shape[0]))


def test_bands_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), (37, 23))
    image = rng.integers(0, 65536, (37, 23, 3)).astype(np.uint16)
    colors = [(0, 0, 0), (250, 10, 10), (90, 0, 0)]
    Image.fromarray((image >> 8).astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(mask > 0).save(tmp_path / "b.png")
    Image.fromarray(image[..., 0]).save(tmp_path / "c.png")

    def computed() -> list[np.ndarray]:
        found = [Preprocessing(channels=3, per_image=stretch).prepare(image) for stretch in (None, (1, 99))]
        found += [Preprocessing(channels=1).prepare(image), draw.overlay(found[0], mask, colors)]
        found += [Confusion.of(mask, np.roll(mask, 1, 0) % 3, 3).counts, records.count_ids(mask, 3)]
        found += [samples._spread_over(mask, class_id, most) for class_id, most in ((0, 5), (1, 10**6), (9, 4))]
        found += [read_image(tmp_path / "a.png"), read_mask(tmp_path / "b.png"), read_image(tmp_path / "c.png")]
        return [*found, np.array(smears.is_smeared(mask, [0, 2]))]

    whole = computed()
    monkeypatch.setattr(bands, "__defaults__", (60,))
    monkeypatch.setattr(decode, "AT_ONCE", 60)
    monkeypatch.setattr(smears, "_AT_ONCE", 60)
    monkeypatch.setattr(records, "_AT_ONCE", 60)
    for one, other in zip(whole, computed(), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    flat = np.flatnonzero(mask == 0)
    places = flat[np.linspace(0, len(flat) - 1, 5).astype(int)]
    np.testing.assert_array_equal(whole[6], np.stack(np.divmod(places, 23), 1))
    np.testing.assert_array_equal(whole[9], (image >> 8).astype(np.uint8))


def test_the_turn_of_a_png_is_read_without_its_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (8, 6)).save(tmp_path / "turned.png", exif=exif)
    Image.new("L", (8, 6)).save(tmp_path / "plain.png")
    data = (tmp_path / "turned.png").read_bytes()
    at = data.index(b"eXIf") - 4
    chunk = data[at : at + 12 + int.from_bytes(data[at : at + 4], "big")]
    rest = data.replace(chunk, b"")
    end = rest.index(b"IEND") - 4
    (tmp_path / "late.png").write_bytes(rest[:end] + chunk + rest[end:])  # EXIF after the pixels
    assert [read_orientation(tmp_path / f"{name}.png") for name in ("turned", "plain", "late")] == [6, 1, 6]
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", None)
    assert [read_orientation(tmp_path / f"{name}.png") for name in ("turned", "plain")] == [6, 1]


@pytest.mark.parametrize(("shape", "share"), [((3, 5), 0.0), ((3, 5), 1.0), ((70, 90), 0.8), ((2100, 900), 0.3)])
def test_the_pixels_whose_probabilities_are_counted_are_those_of_the_whole(
    shape: tuple[int, int], share: float
) -> None:
    mask = np.where(np.random.default_rng(0).random(shape) < share, 1, IGNORE).astype(np.uint8)
    places = np.flatnonzero(mask != IGNORE)
    if len(places) > review._MOST_PIXELS:
        places = np.sort(np.random.default_rng(7).choice(places, review._MOST_PIXELS, replace=False))
    assert np.array_equal(review._some_labelled(mask, 7), places)


@pytest.mark.parametrize("what", ["places", "pictures"])
def test_what_is_drawn_and_counted_of_a_large_image_takes_little_beside_it(what: str) -> None:
    mask = np.ones((4000, 4000), np.uint8)
    image = np.repeat(mask[..., None], 3, 2)
    tracemalloc.start()
    try:
        if what == "places":
            review._some_labelled(mask, 0)
        else:
            sample_sheet(image, mask, {"one": mask}, [(0, 0, 0), (255, 0, 0)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * mask.nbytes, f"{peak} bytes"  # nine times with all places as int64, four with whole comparisons
