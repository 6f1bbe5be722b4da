"""`quantize` of Keras models of any make: a run that needs no code of theirs, as good as the model, and its file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import keras_unetres as ku
from keras_unetres.cli import main
from keras_unetres.models import build
from keras_unetres.models.own_network import LAYERS, copy_weights, describe_network
from keras_unetres.quantization.folding import _Folding
from keras_unetres.runs import RunFolder
from unetres_edge import Segmenter, read_card
from unetres_edge.errors import RunFolderError, UnetresError, UsageError

pytestmark = pytest.mark.usefixtures("without_xla")

SIZE = 16
PRE = ku.Preprocessing(channels=3, size=(SIZE, SIZE), value_range=(-1, 1))


def silent(line: str) -> None:
    """Say nothing."""


def bright_parts(count: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Return smooth images (N, 16, 16, 3) uint8 and their masks (N, 16, 16): where they are bright."""
    rng = np.random.default_rng(0)
    waves = rng.uniform(0.1, 0.5, (count, 2, 1, 1)) * np.mgrid[:SIZE, :SIZE][None]
    grey = (127.5 + 127.5 * np.sin(waves.sum(1) + rng.uniform(0, 6, (count, 1, 1)))).astype(np.uint8)
    return np.repeat(grey[..., None], 3, -1), (grey > 127).astype(np.uint8)


def by_brightness(end: Callable[[Any], Any] = lambda x: x, channels: int = 2) -> keras.Model:
    """Return a network that tells bright pixels exactly, in floats."""
    image = keras.Input((SIZE, SIZE, 3))
    first, head = layers.Conv2D(4, 1, activation="relu"), layers.Conv2D(channels, 1)
    model = keras.Model(image, end(head(first(image))))
    side = np.float32([1, -1, 0, 0]) / 3
    first.set_weights([np.tile(side, (1, 1, 3, 1)).astype(np.float32), np.zeros(4, np.float32)])
    weights = np.zeros((1, 1, 4, channels), np.float32)
    weights[0, 0, :2, -1] = 20, -20
    head.set_weights([weights, np.zeros(channels, np.float32)])
    return model


def every_kind() -> keras.Model:
    """Return a network that has each kind of layer that has an int8 form."""
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])(layers.Rescaling(2.0, -0.5)(image))
    x = layers.Conv2D(4, 3, padding="same", kernel_regularizer="l2")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    for layer in (
        *(layers.DepthwiseConv2D(3, padding="same"), layers.LeakyReLU(0.1), layers.Dense(4, activation=keras.ops.silu)),
        *(layers.SeparableConv2D(4, 3, padding="same"), layers.SpatialDropout2D(0.1), layers.Dropout(0.1)),
        *(layers.GaussianNoise(0.1), layers.GaussianDropout(0.1), layers.AlphaDropout(0.1), layers.Identity()),
        *(layers.ActivityRegularization(0.1), layers.ZeroPadding2D(1), layers.Cropping2D(1), layers.Permute((2, 1, 3))),
        *(layers.MaxPooling2D(), layers.UpSampling2D(), layers.AveragePooling2D(2), layers.Conv2DTranspose(4, 2, 2)),
        layers.Resizing(SIZE, SIZE),
    ):
        x = layer(x)
    gate = layers.Dense(4, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    most = layers.Reshape((1, 1, 4))(layers.Flatten()(layers.GlobalMaxPooling2D(keepdims=True)(x)))
    x = layers.Subtract()([layers.Multiply()([x, gate]), layers.Add()([x, most])])
    x = layers.Softmax()(layers.Activation("tanh")(layers.Concatenate()([x, layers.Conv2D(2, 1)(x)])))
    return keras.Model(image, layers.Conv2D(3, 1)(x), name="every_kind")


def test_each_layer_with_an_int8_form_is_kept_by_a_run_folder() -> None:
    assert {kind.__name__ for kind in _Folding(by_brightness())._steps} == set(LAYERS)
    model = every_kind()
    kinds = {type(layer).__name__ for layer in model.layers}
    assert set(LAYERS) - kinds == {"Background"}
    made = build("build_own", json.loads(json.dumps(describe_network(model))))
    copy_weights(model, made)
    image = np.random.default_rng(0).uniform(0, 1, (2, SIZE, SIZE, 3)).astype(np.float32)
    np.testing.assert_array_equal(made.predict(image, verbose=0), model.predict(image, verbose=0))


def test_a_file_makes_no_other_layer() -> None:
    described = describe_network(by_brightness())
    described["layers"][0]["layer"] = "Lambda"
    with pytest.raises(RunFolderError, match="layer of another kind.*Lambda"):
        build("build_own", described)


def quantized(source: Any, out: Path, data: Any, **how: Any) -> dict[str, Any]:
    return ku.quantize(source, out, data=data, epochs=1, preprocessing=PRE, say=silent, **how)


def check_run(run: Path, path: Path, data: Any) -> ku.Receipt:
    """Check that a run scores, exports and predicts by itself."""
    assert ku.evaluate(run, data, say=silent)["miou"] > 0.97
    receipt = ku.export(run, path / "own.tflite", data=data, split="test", say=silent)
    assert receipt.rows[-1].labels_equal is None or receipt.rows[-1].labels_equal > 0.99
    return receipt


@pytest.mark.slow
def test_a_model_and_arrays_become_a_run_and_its_file(tmp_path: Path) -> None:
    data = bright_parts()
    result = quantized(by_brightness(layers.Softmax()), tmp_path / "run", data, classes=["dark", "bright"])
    assert result["best_miou"] > 0.97
    check_run(tmp_path / "run", tmp_path, data)
    with Segmenter(tmp_path / "own.tflite") as segmenter:
        assert segmenter.card.class_names == ("dark", "bright")
        assert (segmenter.segment(data[0][0]).class_map == data[1][0]).mean() > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("form", ["tf.data", "generator", "PyDataset", "normalised"])
def test_one_sigmoid_channel_and_data_of_any_form(form: str, tmp_path: Path) -> None:
    import tensorflow as tf

    images, masks = bright_parts()

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, place: int) -> tuple[np.ndarray, np.ndarray]:
            chosen = slice(4 * place, 4 * place + 4)
            return images[chosen], masks[chosen]

    data: Any = {
        "tf.data": tf.data.Dataset.from_tensor_slices((images, masks[..., None])).batch(5),
        "generator": ((image, mask) for image, mask in zip(images, masks, strict=True)),
        "PyDataset": Batches(),
        "normalised": tf.data.Dataset.from_tensor_slices((PRE.normalise(images), masks)).batch(8),
    }[form]
    model = by_brightness(layers.Activation("sigmoid"), channels=1)
    assert quantized(model, tmp_path / "run", data, classes=["bright"])["best_miou"] > 0.97
    assert RunFolder(tmp_path / "run").read_info().classes.names == ("background", "bright")
    if form == "tf.data":  # the run is the same of every form
        check_run(tmp_path / "run", tmp_path, (images, masks))
        assert read_card((tmp_path / "own.tflite").read_bytes()).class_names == ("background", "bright")


@pytest.mark.slow
def test_a_keras_file_and_a_folder_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    for place, values in zip(("images", "masks"), bright_parts(), strict=True):
        (tmp_path / "set" / place).mkdir(parents=True)
        for number, each in enumerate(values):
            Image.fromarray(each).save(tmp_path / "set" / place / f"{number}.png")
    by_brightness(layers.Softmax()).save(tmp_path / "own.keras")
    file, out = str(tmp_path / "own.keras"), str(tmp_path / "run")
    assert main(["quantize", file, "--out", out]) == 2
    line = capsys.readouterr().err
    assert "--size 16 --channels 3 --value-range LOW HIGH" in line and "--data DIR" in line
    words = ["--size", "16", "--channels", "3", "--value-range", "-1", "1", "--data", str(tmp_path / "set")]
    assert main(["quantize", file, "--out", out, "--epochs", "1", *words]) == 0, capsys.readouterr().err
    Path(file).unlink()
    assert main(["export", out, "--out", str(tmp_path / "own.tflite")]) == 0
    assert (tmp_path / "own.receipt.html").is_file()


@pytest.mark.slow
def test_a_classifier_with_the_engine_of_tensorflow_model_optimization(tmp_path: Path) -> None:
    images, masks = bright_parts(40)
    dense = layers.Dense(2, activation="softmax")
    image = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(image, dense(layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1)(image))))
    model.layers[1].set_weights([np.eye(3, dtype=np.float32)[None, None], np.zeros(3, np.float32)])
    dense.set_weights([np.float32([[-30, 30], [0, 0], [0, 0]]), np.zeros(2, np.float32)])
    labels = (images.mean((1, 2, 3)) > 127.5).astype(int)
    pre = ku.Preprocessing(channels=3, size=(SIZE, SIZE), value_range=(-1, 1), fit="resize")
    run = tmp_path / "run"
    ku.quantize(model, run, data=(images, labels), epochs=1, preprocessing=pre, engine="tfmot", say=silent)
    assert ku.evaluate(run, (images, labels), say=silent)["top1"] > 0.9


@pytest.mark.slow
def test_a_run_of_a_model_is_resumed_with_its_arrays(tmp_path: Path) -> None:
    data = bright_parts()
    quantized(by_brightness(), tmp_path / "run", data)
    assert ku.resume(tmp_path / "run", data=data, say=silent)["epochs"] == 1
    with pytest.raises(RunFolderError, match="not the one the run was started with"):
        ku.resume(tmp_path / "run", data=bright_parts(12), say=silent)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "several labels a pixel": (lambda: by_brightness(layers.Activation("sigmoid")), "each of its channels is a label"),
    "a layer without an int8 form": (lambda: by_brightness(layers.LayerNormalization()), "layer_normalization"),
    "hidden probabilities": (
        lambda: by_brightness(layers.Lambda(lambda x: keras.ops.softmax(x))),
        "code that the graph",
    ),
    "something else": (lambda: 5, "not a model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_on_is_named_before_the_data_is_read(name: str, tmp_path: Path) -> None:
    make, words = REFUSED[name]
    with pytest.raises(UnetresError, match=words):
        quantized(make(), tmp_path / "run", tmp_path / "no such data")
    assert not (tmp_path / "run").exists()


def test_data_that_does_not_fit_a_model_is_named(tmp_path: Path) -> None:
    images, masks = bright_parts()
    with pytest.raises(UsageError, match="names no data set"):
        quantized(by_brightness(), tmp_path / "run", None)
    with pytest.raises(UnetresError, match="class"):
        quantized(by_brightness(), tmp_path / "run", (images, masks * 5))
    with pytest.raises(UsageError, match="preprocessing=ku.Preprocessing"):
        ku.quantize(by_brightness(), tmp_path / "run", data=(images, masks), say=silent)
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
