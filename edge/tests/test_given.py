"""In which ways models and images may be given: memory, open files, arrays of either byte order, other processes."""

from __future__ import annotations

import io
import mmap
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from models import make_card, make_conv
from nets import make_net, net_card
from PIL import Image

from unetres_edge import Classifier, Segmenter
from unetres_edge.engines.engine import Engine
from unetres_edge.errors import FileSystemError, ImageError, ModelDamagedError, ModelError, UsageError
from unetres_edge.segment.ensemble import join_segmenters

IMAGE = np.random.default_rng(0).integers(0, 65536, (30, 25, 3), np.uint16)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network."""
    file = tmp_path_factory.mktemp("given") / "m.tflite"
    file.write_bytes(make_net(net_card((16, 16))))
    return file


def label(file: object, image: object = IMAGE) -> np.ndarray:
    with Segmenter(file, num_threads=1) as segmenter:
        return segmenter.segment(image).class_map


def test_a_model_is_bytes_in_memory_or_an_open_file(model: Path) -> None:
    expected, data = label(model), model.read_bytes()
    assert len(np.unique(expected)) > 1
    for given in (data, bytearray(data), memoryview(data), np.frombuffer(data, np.uint8), io.BytesIO(data)):
        np.testing.assert_array_equal(label(given), expected)
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        np.testing.assert_array_equal(label(mapped), expected)
        np.testing.assert_array_equal(label(file), expected)
        with pytest.raises(ModelError, match=r"m\.tflite.*not a \.tflite.*empty"):  # read to its end already
            Segmenter(file)
    changed = bytearray(data)
    segmenter = Segmenter(changed, num_threads=1)
    changed[:] = bytes(len(changed))  # the segmenter has bytes of its own
    np.testing.assert_array_equal(segmenter.segment(IMAGE).class_map, expected)


def test_what_is_no_model_is_named(model: Path) -> None:
    with (
        model.open(encoding="latin-1") as file,
        pytest.raises(UsageError, match=r"open as text.*m\.tflite|m\.tflite.*rb"),
    ):
        Segmenter(file)
    with model.open("rb") as closed:
        pass
    with pytest.raises(FileSystemError, match="closed"):
        Segmenter(closed)
    for given in (17, ["m.tflite"], 1.5):
        with pytest.raises(UsageError, match="not a model file"):
            Segmenter(given)
    with pytest.raises(ModelDamagedError):
        Segmenter(memoryview(model.read_bytes())[:-40])


def test_an_image_is_bytes_in_memory_or_an_open_file(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray((IMAGE >> 8).astype(np.uint8)).save(path)
    expected, data = label(model, path), path.read_bytes()
    for given in (data, bytearray(data), memoryview(data), io.BytesIO(data)):
        np.testing.assert_array_equal(label(model, given), expected)
    with path.open("rb") as file:
        np.testing.assert_array_equal(label(model, file), expected)
    with path.open("rb") as file, pytest.raises(ImageError, match=r"image\.png.*cannot decode"):
        file.seek(3)
        label(model, file)
    with pytest.raises(ImageError, match="empty"):
        label(model, b"")
    for given in (memoryview(IMAGE), memoryview(data).cast("B", (1, len(data))), [[1]], None, 3):
        with pytest.raises(UsageError, match="not an image"):
            label(model, given)


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
@pytest.mark.parametrize("per_image", [None, (1.0, 99.0)])
def test_either_byte_order_gives_the_same_labels(dtype: str, per_image: tuple[float, float] | None) -> None:
    data = make_net(net_card((16, 16), pre={"per_image": per_image}))
    image = IMAGE.astype(f"<{dtype}") if dtype == "u2" else (IMAGE / 65535).astype(f"<{dtype}")
    swapped = image.astype(f">{dtype}")
    expected = label(data, image)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(label(data, swapped), expected)
    if dtype == "u2":
        with Segmenter(data) as segmenter:
            np.testing.assert_array_equal(
                segmenter.segment_large(swapped).class_map, segmenter.segment_large(image).class_map
            )


def test_a_pickled_segmenter_opens_the_same_again(model: Path, tmp_path: Path) -> None:
    own = tmp_path / "m.tflite"
    own.write_bytes(model.read_bytes())
    segmenter = Segmenter(own, num_threads=1, overlap=3)
    stored = pickle.dumps(segmenter)
    own.unlink()
    again = pickle.loads(stored)
    assert again.overlap == 3 and again.card == segmenter.card
    np.testing.assert_array_equal(again.segment(IMAGE).class_map, segmenter.segment(IMAGE).class_map)
    segmenter.close()
    with pytest.raises(ModelError, match="closed"):
        pickle.dumps(segmenter)


def test_a_pickled_classifier_and_an_engine_of_ones_own() -> None:
    from models import make_dense

    card = make_card((4, 4), 1, 2, task="classify", fit="resize")
    classifier = Classifier(make_dense(card, np.ones((2, 16)), np.array([0, 1])), num_threads=1)
    image = np.zeros((9, 9), np.uint8)
    assert pickle.loads(pickle.dumps(classifier)).classify(image).class_id == classifier.classify(image).class_id == 1
    segmenter = Segmenter(None, card=make_card((4, 4), 1, 2), engine=Threshold())
    bright = np.array([[0, 200]], np.uint8).repeat(5, 0)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(segmenter)).segment(bright).class_map[0], [0, 1])


class Threshold(Engine):
    """Bright is class 1."""

    def run(self, tile: np.ndarray) -> np.ndarray:
        bright = (tile[..., 0] > 127).astype(np.float32)
        return np.stack([1 - bright, bright], axis=-1)


def joined() -> tuple[list[Segmenter], Segmenter]:
    parts = [Segmenter(make_net(net_card((16, 16)), seed=seed), num_threads=1) for seed in (0, 1)]
    return parts, join_segmenters(parts, tta="flips")


def test_a_joined_segmenter_closes_its_models() -> None:
    parts, both = joined()
    both.close()
    for each in (*parts, both):
        with pytest.raises(ModelError, match="closed"):
            each.segment(IMAGE)
    with Segmenter(make_net(net_card((16, 16)))) as one:
        assert join_segmenters([one]) is one


def test_a_pickled_joined_segmenter_joins_again() -> None:
    _, both = joined()
    again = pickle.loads(pickle.dumps(both))
    np.testing.assert_array_equal(again.segment(IMAGE).class_map, both.segment(IMAGE).class_map)
    again.close()
    with pytest.raises(ModelError, match="closed"):
        pickle.dumps(again)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_a_pool_of_processes_takes_a_segmenter(model: Path, start: str) -> None:
    context = multiprocessing.get_context(start)
    with Segmenter(model, num_threads=1) as segmenter, ProcessPoolExecutor(2, mp_context=context) as pool:
        results = list(pool.map(segmenter.segment, [IMAGE, IMAGE[:9], IMAGE[::-1]]))
        for result, image in zip(results, (IMAGE, IMAGE[:9], IMAGE[::-1]), strict=True):
            np.testing.assert_array_equal(result.class_map, segmenter.segment(image).class_map)


def test_a_file_without_a_card_keeps_the_one_given_when_pickled() -> None:
    card = make_card((8, 8), 1, 2)
    data = make_conv(None, np.array([[1], [-1]]), np.array([-100, 100]))
    with Segmenter(data, card=card, num_threads=1) as segmenter:
        again = pickle.loads(pickle.dumps(segmenter))
        image = np.arange(100, dtype=np.uint8).reshape(10, 10) * 2
        np.testing.assert_array_equal(again.segment(image).class_map, segmenter.segment(image).class_map)
