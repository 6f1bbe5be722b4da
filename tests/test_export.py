"""Files: the labels of the Keras model, every op in int8, one partition, a card; and what is refused by name."""

from __future__ import annotations

import itertools
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from lite import assert_int8_between_quantizes, partitions
from small_models import INT8, PRE, make_calibration, make_levels, user_model

from keras_unetres.data.calibration import collect_calibration
from keras_unetres.models import build_unet
from keras_unetres.runs import RunFolder
from keras_unetres.tasks.keras_engine import KerasEngine
from keras_unetres.tasks.loading import load_run
from keras_unetres.tflite import Exported, Preprocessing, export_tflite
from keras_unetres.tflite.convert import _quiet, _reason, convert
from keras_unetres.tflite.inspect import Op, find_layer, float_islands, read_ops
from keras_unetres.tflite.seal import add_card
from unetres_edge import Card, Segmenter
from unetres_edge.errors import CardMissingError, ConversionError, FloatIslandError, ModelDamagedError, UsageError
from unetres_edge.model.card import default_colors, read_card


@pytest.fixture(scope="module")
def plain() -> keras.Model:
    keras.utils.set_random_seed(1)
    return user_model()


# ------------------------------------------------------------------------------------------------ files that are made


def test_float32_labels_are_those_of_keras(run_folder: Path, float32_file: Path) -> None:
    loaded = load_run(run_folder)
    assert {kind for op in read_ops(float32_file.read_bytes()) for kind in op.outputs} == {"FLOAT32"}
    pre = loaded.card.preprocessing
    engine = KerasEngine(loaded.model, pre)
    with Segmenter(float32_file) as segmenter:
        for tile in make_levels(4, side=pre.size[0]):
            result = segmenter.segment(tile, scores=True)
            scores = engine.run(tile)
            np.testing.assert_allclose(result.scores, scores, atol=1e-4)
            close = np.ptp(scores, -1) < 1e-4
            assert (result.class_map == scores.argmax(-1))[~close].all()
            assert close.mean() < 0.02


def test_int8_from_input_to_output_in_one_partition(int8_file: Path) -> None:
    data = int8_file.read_bytes()
    names = assert_int8_between_quantizes(data)
    assert set(names) == {"CONV_2D", "MAX_POOL_2D", "TRANSPOSE_CONV", "CONCATENATION"}
    assert len(names) == 2 * 5 + 2 + 2 + 2 + 1
    assert partitions(data) == 1


def test_int8_of_the_bilinear_form(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = build_unet((16, 16, 1), 3, filters=2, depth=1, upsampling="bilinear")
    path = tmp_path / "bilinear.tflite"
    done = export_tflite(model, path, recipe=INT8, preprocessing=PRE, calibration=make_calibration())
    names = assert_int8_between_quantizes(path.read_bytes())
    assert "RESIZE_BILINEAR" in names
    assert partitions(path.read_bytes()) == 1
    assert done.agreement > 0.9


def test_int8_labels_are_mostly_those_of_keras(run_folder: Path, int8_file: Path) -> None:
    loaded = load_run(run_folder)
    engine = KerasEngine(loaded.model, loaded.card.preprocessing)
    tiles = RunFolder(run_folder).read_calibration()
    with Segmenter(int8_file) as segmenter:
        equal = [(segmenter.segment(tile).class_map == engine.run(tile).argmax(-1)).mean() for tile in tiles]
    assert 0.95 < np.mean(equal) < 1


def test_the_card_of_a_run(int8_file: Path, run_folder: Path) -> None:
    from keras_unetres.models import receptive_halo

    loaded = load_run(run_folder)
    card = read_card(int8_file.read_bytes())
    assert card.class_names == ("background", "cell")
    assert card.preprocessing == loaded.card.preprocessing
    assert (card.preprocessing.channels, card.preprocessing.size) == (1, (32, 32))
    assert (card.task, card.head, card.recipe, card.ignore_index) == ("segment", "logits", INT8, None)
    assert card.halo == receptive_halo(loaded.model) > 0
    assert card.dataset["masks_are"] == "classes"
    assert {"keras", "tensorflow", "numpy"} <= set(card.versions)
    assert len(card.sha256) == 64
    assert set(card.sha256) != {"0"}, "sealed"


def test_a_users_functional_model_with_a_card_of_its_own(plain: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "user.tflite"
    card = Card(("sky", "sea", "land"), default_colors(3), PRE, halo=9, scores={"miou": 0.5})
    batches = [(images, None) for images in make_calibration().reshape(3, 4, 16, 16, 1)]  # as `fit` takes them
    done = export_tflite(plain, path, preprocessing=PRE, calibration=iter(batches), card=card)  # with images: int8
    assert isinstance(done, Exported)
    found = read_card(path.read_bytes())
    assert (found.class_names, found.halo, found.recipe, found.scores) == (card.class_names, 9, INT8, {"miou": 0.5})
    assert found.class_colors == default_colors(3)
    assert (done.num_bytes, list(done.ops)) == (path.stat().st_size, read_ops(path.read_bytes()))
    assert 0.9 < done.agreement <= 1
    names = assert_int8_between_quantizes(path.read_bytes())
    assert names.count("CONV_2D") == 3
    layers_found = [find_layer(op.tensor, [layer.name for layer in plain.layers]) for op in done.ops[1:-1]]
    assert layers_found[:4] == ["first", "down", "up", "join"]  # the output tensor has the name of the signature
    with Segmenter(path) as segmenter:
        tile = make_levels(1)[0]
        expected = KerasEngine(plain, PRE).run(tile).argmax(-1)
        assert (segmenter.segment(tile).class_map == expected).mean() > 0.9


def test_a_sequential_model_with_class_names(tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    pre = Preprocessing(channels=3, color_order="bgr", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), size=(16, 24))
    model = keras.Sequential([layers.Conv2D(4, 3, padding="same", activation="relu"), layers.Conv2D(2, 1)])
    path = tmp_path / "sequential.tflite"
    with pytest.raises(ConversionError, match="not yet been built"):
        export_tflite(model, path, recipe="float32", preprocessing=pre)
    model.build((None, None, None, 3))
    done = export_tflite(model, path, preprocessing=pre, classes=["no", "yes"])  # without images: float32
    assert done.agreement > 0.999
    card = read_card(path.read_bytes())
    assert (card.class_names, card.preprocessing, card.recipe) == (("no", "yes"), pre, "float32")
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    values = ((image[..., ::-1] / 255.0 - pre.mean) / pre.std).astype(np.float32)
    with Segmenter(path) as segmenter:
        np.testing.assert_allclose(
            segmenter.segment(image, scores=True).scores, np.asarray(model(values[None]))[0], atol=1e-5
        )


def test_a_new_card_replaces_the_old_one(float32_file: Path) -> None:
    data = float32_file.read_bytes()
    pre = replace(PRE, size=(32, 32))
    card = Card(("a", "b"), default_colors(2), pre, halo=77)
    again = add_card(add_card(data, card), Card(("c", "d"), default_colors(2), pre, halo=78))
    found = read_card(again)
    assert (found.class_names, found.halo) == (("c", "d"), 78)
    assert read_ops(again) == read_ops(data)
    middle = len(again) // 2
    with pytest.raises(ModelDamagedError, match="changed since it was sealed"):
        read_card(again[:middle] + bytes([again[middle] ^ 1]) + again[middle + 1 :])


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """The converter must not be reached."""

    def fail(*arguments: object, **named: object) -> None:
        raise AssertionError("converted")

    monkeypatch.setattr(sys.modules["keras_unetres.tflite.export"], "convert", fail)


def test_calibration_of_every_form_is_collected_alike() -> None:
    images = make_calibration(count=6)
    forms = (images, images.astype(np.float64), [images[:4], images[4:]], list(images), [(images, None, None)])
    for form in forms:
        np.testing.assert_array_equal(collect_calibration(form, PRE), images)
    assert collect_calibration(images, PRE).dtype == np.float32
    assert len(collect_calibration(itertools.repeat(images), PRE)) == 128  # endless, as a data set may be


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"recipe": "int5"}, "float32 or .* or static_wi8_ai8 or .*; found int5"),
        ({"head": "softmax"}, "logits or .*argmax or mediapipe; found softmax"),
        ({"classes": ["a", "b"]}, "class names differs from the model; expected 3; found 2"),
        ({"card": Card(("a",) * 4, default_colors(4), PRE)}, "expected 3; found 4"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: dict, words: str, plain: keras.Model, tmp_path: Path, never: None
) -> None:
    with pytest.raises(UsageError, match=words):
        export_tflite(plain, tmp_path / "m.tflite", **{"recipe": "float32", "preprocessing": PRE, **arguments})
    assert list(tmp_path.iterdir()) == []


def test_preprocessing_is_not_guessed(plain: keras.Model, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="preprocessing"):
        export_tflite(plain, tmp_path / "m.tflite", recipe="float32")


def half_size() -> keras.Model:
    return keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(2, 3, strides=2, padding="same")])


def one_channel() -> keras.Model:
    return keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(1, 1)])


def two_outputs() -> keras.Model:
    inputs = keras.Input((None, None, 1))
    return keras.Model(inputs, [layers.Conv2D(2, 1)(inputs), layers.Conv2D(2, 1)(inputs)])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (half_size, r"no score for every class at every pixel; expected .*16, 16.*; found .*8, 8, 2"),
        (one_channel, "no score for every class"),
        (two_outputs, "the model has 2 outputs"),
        (lambda: build_unet((32, 32, 1), filters=1, depth=1), r"the model takes another input; expected \(32, 32, 1\)"),
    ],
    ids=["half size", "one channel", "two outputs", "another size"],
)
def test_what_is_no_segmenter_of_such_images_is_refused(make, words: str, tmp_path: Path, never: None) -> None:
    with pytest.raises((ConversionError, UsageError), match=words):
        export_tflite(make(), tmp_path / "m.tflite", recipe="float32", preprocessing=PRE)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_other_channels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the model takes another input; expected \(16, 16, 3\); found \(16, 16, 1\)"):
        export_tflite(
            build_unet((16, 16, 3), filters=1, depth=1), tmp_path / "m.tflite", recipe="float32", preprocessing=PRE
        )
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_keras_model_is_refused(tmp_path: Path, never: None) -> None:
    with pytest.raises(UsageError, match=r"not a Keras 3 model; expected keras\.Model; found function"):
        export_tflite(lambda x: x, tmp_path / "m.tflite", recipe="float32", preprocessing=PRE)


def test_an_op_that_stays_float_is_named_with_its_layer(tmp_path: Path) -> None:
    """A layer beside it has the name that tracing gives the layer which is at fault."""
    model = user_model(layers.LayerNormalization(name="norm"), layers.Conv2D(4, 1, name="norm_1"))
    path = tmp_path / "m.tflite"
    path.write_bytes(b"the last good file")
    with pytest.raises(FloatIslandError) as caught:
        export_tflite(model, path, recipe=INT8, preprocessing=PRE, calibration=make_calibration())
    assert "(layer norm)" in str(caught.value.found)
    assert "norm_1" not in str(caught.value)
    assert "tfl." not in str(caught.value)
    assert caught.value.fix is not None
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("m.tflite", b"the last good file")]


@keras.saving.register_keras_serializable("test_export")
class InverseErrorFunction(layers.Layer):
    """What TFLite has no op for."""

    def call(self, x):
        return keras.ops.erfinv(x)


def test_an_op_that_the_converter_does_not_know_is_named_with_its_layer(tmp_path: Path) -> None:
    with pytest.raises(ConversionError) as caught:
        export_tflite(
            user_model(InverseErrorFunction(name="strange")),
            tmp_path / "m.tflite",
            recipe=INT8,
            preprocessing=PRE,
            calibration=make_calibration(),
        )
    assert type(caught.value) is ConversionError
    assert "refused the model: 'tf.Erfinv' op is neither a custom op nor a flex op (layer strange)" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_converter_imports_nothing_of_the_users_folder(
    plain: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_converter: None
) -> None:
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.chdir(tmp_path)
    for name in ("random.py", "keras.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('the user folder was imported')")
    data = convert(plain, (16, 16, 1))
    assert "CONV_2D" in [op.name for op in read_ops(data)]
    with pytest.raises(CardMissingError):
        read_card(data)


def test_find_layer() -> None:
    names = ["conv2d", "conv2d_1", "head_logits", "strange"]
    for tensor, expected in {
        "unet_1/head_logits_1/BiasAdd": "head_logits",
        "unet_1/conv2d_1/Relu;unet_1/conv2d_1/BiasAdd": "conv2d",
        "unet_1/conv2d_1_1/Relu": "conv2d_1",
        "unet_1/conv2d_1_2/Relu": "conv2d_1",
        "strange/Neg": "strange",
        "tfl.dequantize": None,
        "unet_1/other_1/Add": None,
        "": None,
    }.items():
        assert find_layer(tensor, names) == expected, tensor


def test_the_reason_is_told_in_one_line() -> None:
    assert _reason("", []) == "no reason given"
    assert _reason("Traceback\n  in f\nValueError: odd\n", []) == "ValueError: odd"
    told = _reason("x\n<unknown>:0: error: loc(\"net_1/norm_1/Neg@__inference\"): 'tf.Foo' op is wrong\nmore", ["norm"])
    assert told == "'tf.Foo' op is wrong (layer norm)"
    assert len(_reason("a " * 2000, [])) <= 500


def test_float_islands() -> None:
    inner, outer = Op("NEG", ("FLOAT32",), ("FLOAT32",), "a"), Op("QUANTIZE", ("UINT8",), ("INT8",), "b")
    half = Op("CAST", ("INT8",), ("FLOAT16",), "c")
    assert float_islands([outer, inner, half, outer]) == [inner, half]


@pytest.mark.parametrize("name", ["absl", "tensorflow"])
def test_saving_says_nothing(name: str) -> None:
    """TensorFlow's own logger writes to stdout in a notebook."""
    logger = logging.getLogger(name)
    before = logger.level
    try:
        logger.setLevel(logging.INFO)
        with _quiet():
            assert not logger.isEnabledFor(logging.WARNING)
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(before)
