"""A Keras model scored on what `model.fit` takes: arrays, `tf.data`, generators, normalised already or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import keras_unetres as ku
from unetres_edge.errors import DataError, UsageError

SIGNED = ku.Preprocessing(channels=3, value_range=(-1, 1), size=(16, 16))
PLAIN = ku.Preprocessing(channels=3, size=(16, 16))
BYTES = ku.Preprocessing(channels=3, value_range=(0, 255), size=(16, 16))
NAMES = ["dark", "bright"]


def silent(line: str) -> None:
    pass


def images_and_masks() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (6, 16, 16, 1), np.uint8)
    return np.repeat(grey, 3, -1), (grey[..., 0] > 127).astype(np.uint8)


def by_brightness(pre: ku.Preprocessing) -> keras.Model:
    """Return the model that calls a pixel bright from level 128 on."""
    image, head = keras.Input((16, 16, 3)), layers.Conv2D(2, 1)
    model = keras.Model(image, head(image))
    middle = float(pre.table()[127:129].mean())
    head.set_weights(
        [np.stack([np.zeros(3), np.ones(3) / 3], -1)[None, None].astype(np.float32), np.float32([middle, 0])]
    )
    return model


class Batches(keras.utils.PyDataset):
    def __init__(self, x: Any, y: Any) -> None:
        super().__init__()
        self.x, self.y = x, y

    def __len__(self) -> int:
        return 3

    def __getitem__(self, place: int) -> Any:
        part = slice(2 * place, 2 * place + 2)
        return self.x[part], self.y[part]


def forms() -> dict[str, Callable[[np.ndarray, np.ndarray], Any]]:
    import tensorflow as tf

    def generator(x: np.ndarray, y: np.ndarray) -> Iterator[Any]:
        for place in range(0, 6, 2):
            yield x[place : place + 2], y[place : place + 2]

    return {
        "arrays": lambda x, y: (x, y),
        "lists": lambda x, y: (list(x), list(y)),
        "tf.data": lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)),
        "batches of tf.data": lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).batch(4),
        "dictionaries": lambda x, y: tf.data.Dataset.from_tensor_slices({"image": x, "mask": y}),
        "a generator": generator,
        "a list of batches": lambda x, y: list(generator(x, y)),
        "PyDataset": Batches,
    }


@pytest.mark.parametrize("pre", [SIGNED, PLAIN, BYTES], ids=["-1..1", "0..1", "0..255"])
def test_every_form_in_every_range_scores_alike(pre: ku.Preprocessing) -> None:
    x, y = images_and_masks()
    model = by_brightness(pre)
    for name, form in forms().items() if pre is SIGNED else [("arrays", forms()["arrays"])]:
        for images in (x, pre.normalise(x)):
            scores = ku.evaluate(model, form(images, y), preprocessing=pre, classes=NAMES, say=silent)
            assert (scores["miou"], scores["num_images"]) == (1, 6), (name, images.dtype)


@pytest.mark.parametrize("labels", ["one-hot", "floats", "a channel", "truths"])
def test_labels_as_keras_takes_them(labels: str) -> None:
    x, y = images_and_masks()
    made = {
        "one-hot": np.eye(2, dtype=np.float32)[y],
        "floats": y.astype(np.float32),
        "a channel": y[..., None],
        "truths": y == 1,
    }[labels]
    assert ku.evaluate(by_brightness(PLAIN), (x, made), preprocessing=PLAIN, classes=NAMES, say=silent)["miou"] == 1


def test_images_whose_range_tells_nothing_are_named() -> None:
    x, y = images_and_masks()
    for pre, images in ((BYTES, x / np.float32(255)), (SIGNED, x * np.float32(2.5)), (PLAIN, x * np.float32(-1))):
        with pytest.raises(DataError, match="range that does not tell.*pass the pixels"):
            ku.evaluate(by_brightness(pre), (images, y), preprocessing=pre, say=silent)


def test_what_holds_no_images_with_labels_is_named() -> None:
    x, y = images_and_masks()

    def broken() -> Iterator[Any]:
        yield x[:2], y[:2]
        raise KeyError("no such file")

    cases = {
        "is not a mask": (x, x),
        "differ in number": (x, y[:3]),
        "cannot be read: KeyError.*batch 2": broken(),
        "not images with": [x, x, x, x],
        "not images with their": 5,
        "not images with their labels": {"a": x},
        "no images to": [],
    }
    for words, data in cases.items():
        with pytest.raises(
            (DataError, UsageError), match=words.split(" w")[0] if words.startswith("not images w") else words
        ):
            ku.evaluate(by_brightness(PLAIN), data, preprocessing=PLAIN, classes=NAMES, say=silent)
    with pytest.raises(UsageError, match="does not say how images are fed"):
        ku.evaluate(by_brightness(PLAIN), (x, y), say=silent)
    with pytest.raises(UsageError, match="not a model; expected a run folder"):
        ku.evaluate(5, (x, y), preprocessing=PLAIN, say=silent)


def test_a_classifier_and_an_export_are_scored_on_them(tmp_path: Path) -> None:
    x, _ = images_and_masks()
    x[:3] //= 4
    y = np.int64([0, 0, 0, 1, 1, 1])
    image, dense = keras.Input((16, 16, 3)), layers.Dense(2)
    model = keras.Model(image, dense(layers.GlobalAveragePooling2D()(image)))
    dense.set_weights([np.float32([[0, 1], [0, 1], [0, 1]]), np.float32([0.9, 0])])
    pre = ku.Preprocessing(channels=3, size=(16, 16), fit="resize")
    for labels in (y, np.eye(2)[y]):
        assert ku.evaluate(model, (x, labels), preprocessing=pre, classes=NAMES, say=silent)["top1"] == 1
    receipt = ku.export(
        model,
        tmp_path / "m.tflite",
        recipe="float32",
        preprocessing=pre,
        classes=NAMES,
        data=(x, y),
        say=silent,
    )
    assert receipt.passed and receipt.scored_on is not None and receipt.scored_on.path == "data in memory"
    assert "data in memory" in receipt._repr_html_()
