"""Networks of other people: the labels of the file are those of Keras on fresh images, or the refusal has a name.

`UNETRES_TABLE=FILE` appends a line for each.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from foreign_models import APPLICATIONS, NETWORKS, SIZES, application, encoder_unet, with_statistics
from PIL import Image

import keras_unetres as ku
from unetres_edge import Classifier, Segmenter, UnetresError
from unetres_edge.engines.litert import LiteRTEngine
from unetres_edge.model.card import read_card

QUICK = ("sequential_autoencoder", "keras_unet_vanilla")
SLOW = ("divam_unet", "pix2pix_tutorial", "subclassed_of_tensorflow", "own_blocks", "hard_swish_unet")
_INT8 = "static_wi8_ai8"
_CLEAR = 0.05  # of the range of scores


def pictures(count: int, size: int, seed: int) -> np.ndarray:
    """Return smooth pictures (count, size, size, 3) uint8."""
    small = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(x).resize((size, size), Image.Resampling.BICUBIC)) for x in small])


def answers_of(model: keras.Model, pre: ku.Preprocessing, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of Keras's answers, and where it is sure of them."""
    (scores,) = keras.tree.flatten(model.predict(pre.normalise(images), batch_size=4, verbose=0))
    if scores.shape[-1] == 1:
        scores = np.concatenate([1 - scores, scores], -1)
    second, first = np.moveaxis(np.partition(scores, -2, axis=-1)[..., -2:], -1, 0)
    return scores.argmax(-1), first - second > _CLEAR * np.ptp(scores)


def labels_of(file: Path, images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) == 1:
        with Classifier(file) as classifier:
            return np.array([classifier.classify(each).class_id for each in images])
    if shape[1:] != images.shape[1:3]:  # unpadded: what it gives of the image alone
        data = file.read_bytes()
        engine = LiteRTEngine(data, read_card(data))
        return np.stack([engine.run(each).argmax(-1) for each in images]).reshape(shape)
    with Segmenter(file) as segmenter:
        return np.stack([segmenter.segment(each).class_map for each in images]).reshape(shape)


def outcome(
    make: Callable[[], Any], model: keras.Model, pre: ku.Preprocessing, images: np.ndarray, file: Path, **how: Any
) -> tuple[str, bool]:
    """Return what became of an export in words, and whether it disagrees in silence."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            ku.export_tflite(make(), file, preprocessing=pre, **how)
        except UnetresError as error:
            return f"refused: {str(error)[:150]}", False
    expected, sure = answers_of(model, pre, images)
    right = labels_of(file, images, expected.shape) == expected
    clear = float(right[sure].mean()) if sure.any() else 1.0
    warned = any("agreement: " in str(each.message) for each in caught)
    about = f"{100 * right.mean():.2f} % of labels, {100 * clear:.2f} % of {sure.sum()} clear ones"
    return about + ", warned" * warned, clear < 0.95 and not warned


def check(name: str, model: keras.Model, tmp_path: Path, *, size: int = 64, aware: bool = True) -> None:
    with_statistics(model)
    answer = model.predict(np.zeros((1, size, size, 3), np.float32), verbose=0)
    classifier = keras.tree.flatten(answer)[0].ndim == 2
    pre = ku.Preprocessing(channels=3, size=(size, size), fit="resize" if classifier else "crop")
    seen, fresh = pre.normalise(pictures(24, size, 0)), pictures(6, size, 99)
    found = {
        "float32": outcome(lambda: model, model, pre, fresh, tmp_path / "f.tflite", recipe="float32"),
        "int8": outcome(lambda: model, model, pre, fresh, tmp_path / "q.tflite", recipe=_INT8, calibration=seen),
    }
    if aware:
        found["aware"] = outcome(
            lambda: ku.quantize_aware(model, seen, preprocessing=pre),
            model,
            pre,
            fresh,
            tmp_path / "a.tflite",
            recipe=_INT8,
        )
    if "UNETRES_TABLE" in os.environ:
        with open(os.environ["UNETRES_TABLE"], "a") as table:
            table.write(f"{name} | " + " | ".join(f"{key}: {words}" for key, (words, _) in found.items()) + "\n")
    assert not any(silent for _, silent in found.values()), found
    if not found["float32"][0].startswith("refused"):
        assert float(found["float32"][0].split()[0]) > 99, found


def tiers(names: Any) -> list[Any]:
    marks = {**dict.fromkeys(SLOW, pytest.mark.slow), **dict.fromkeys(QUICK, ())}
    return [pytest.param(name, marks=marks.get(name, pytest.mark.long)) for name in names]


@pytest.mark.parametrize("name", tiers(NETWORKS))
def test_networks_of_public_repositories(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    check(name, NETWORKS[name](), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", APPLICATIONS)
def test_classifiers_of_keras_applications(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    check(name, application(name), tmp_path, size=SIZES.get(name, 64), aware=False)


@pytest.mark.long
@pytest.mark.parametrize("name", APPLICATIONS)
def test_encoders_of_keras_applications(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    check(f"{name} U-Net", encoder_unet(name), tmp_path, size=SIZES.get(name, 64))
