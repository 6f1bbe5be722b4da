"""Keras models as people write them: what is answered in the file is what Keras answers, or the model is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import keras_unetres as ku
from keras_unetres.choices.recipes import find_recipe
from keras_unetres.cli import main
from keras_unetres.models.inference import Inference, inference_form
from keras_unetres.objects import find_instances
from keras_unetres.quantization import fold
from keras_unetres.tasks.keras_engine import KerasEngine
from keras_unetres.tflite.model_checks import check_model
from unetres_edge import Classifier, Segmenter
from unetres_edge.errors import ConversionError, ModelError, UnetresError, UsageError
from unetres_edge.segment.ensemble import join_segmenters

PRE = ku.Preprocessing(channels=3, size=(32, 32))
INT8 = "static_wi8_ai8"


def pictures(count: int, *, seed: int = 0) -> np.ndarray:
    """Return smooth pictures (N, 32, 32, 3) uint8."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 6, 6, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(each).resize((32, 32), Image.Resampling.BILINEAR)) for each in small])


def seen(count: int = 16) -> np.ndarray:
    return PRE.normalise(pictures(count))


def slow(case: Any) -> Any:
    """Return a case of a parametrization that is left to the slow tests."""
    return pytest.param(case, marks=pytest.mark.slow)


def with_layer(layer: Any) -> keras.Model:
    image = keras.Input((32, 32, 3))
    return keras.Model(image, layers.Conv2D(3, 1)(layer(layers.Conv2D(8, 3, padding="same")(image))))


def exported(model: keras.Model, path: Path, **options: Any) -> Any:
    options = {"recipe": INT8, "calibration": seen(), **options}
    return ku.export_tflite(model, path / "m.tflite", preprocessing=PRE, **options)


def share_as(model: keras.Model, path: Path) -> float:
    """Return the share of labels of a file that are those of a Keras model, on pictures that calibrated nothing."""
    images = pictures(6, seed=99)
    expected = np.asarray(model.predict(PRE.normalise(images), verbose=0)).argmax(-1)
    with Segmenter(path / "m.tflite") as segmenter:
        return float(np.mean([segmenter.segment(i).class_map == e for i, e in zip(images, expected, strict=True)]))


@pytest.mark.parametrize("size", [1e-20, slow(1e-6)])
def test_filters_that_died_in_training_keep_their_bias(size: float, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    image, norm = keras.Input((32, 32, 3)), layers.BatchNormalization()
    middle = layers.Conv2D(8, 3, padding="same", use_bias=False)
    x = layers.ReLU()(norm(middle(layers.Conv2D(8, 3, padding="same", activation="relu")(image))))
    model = keras.Model(image, layers.Conv2D(4, 3, padding="same")(x))
    kernel = middle.get_weights()[0].copy()
    kernel[..., :4] *= size
    middle.set_weights([kernel])
    norm.moving_variance.assign([0.0] * 4 + [1.0] * 4)
    norm.beta.assign(np.linspace(0.2, 2, 8))
    aware = ku.quantize_aware(model, seen())
    done = exported(aware, tmp_path, calibration=None)
    assert done.agreement == 1
    assert share_as(model, tmp_path) > 0.96


def swish(x: Any) -> Any:
    return 2 * x


def relu(x: Any) -> Any:
    return -keras.ops.relu(x)


REFUSED: dict[str, Callable[[], Any]] = {
    "a function named swish": lambda: layers.Activation(swish, name="bad"),
    "a function named relu": lambda: layers.Conv2D(8, 1, activation=relu, name="bad"),
    "celu": lambda: layers.Activation("celu", name="bad"),
    "BatchNormalization over rows": lambda: layers.BatchNormalization(axis=1, name="bad"),
    "Normalization over rows": lambda: layers.Normalization(axis=1, name="bad"),
    "fractional resizing": lambda: layers.Resizing(48, 48, interpolation="bilinear", name="bad"),
    "antialiased resizing": lambda: layers.Resizing(64, 64, antialias=True, name="bad"),
    "dilated transposed convolution": lambda: layers.Conv2DTranspose(8, 3, dilation_rate=2, name="bad"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_compute_something_else_is_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=r"layer bad"):
        fold(with_layer(REFUSED[name]()))


def test_functions_of_keras_and_tensorflow_are_known_as_theirs() -> None:
    import tensorflow as tf

    for function in (keras.activations.relu, keras.ops.silu, tf.nn.relu6, tf.nn.swish):
        assert fold(with_layer(layers.Activation(function))).points


def pixels_of(model: keras.Model) -> np.ndarray:
    """Return the labels of a Keras model on fresh pictures; it may return a tensor, a list or a dict of one."""
    (scores,) = keras.tree.flatten(model.predict(PRE.normalise(pictures(6, seed=99)), verbose=0))
    return scores[..., 0] > 0.5 if scores.shape[-1] == 1 else scores.argmax(-1)


def body(image: Any, channels: int = 3, **head: Any) -> Any:
    x = layers.Conv2D(8, 3, padding="same", activation="tanh")(layers.Rescaling(2.0, -1.0)(image))
    return layers.Conv2D(channels, 1, **head)(layers.UpSampling2D()(layers.MaxPooling2D()(x)))


def nested() -> keras.Model:
    inner = keras.Input((None, None, 3))
    encoder = keras.Model(inner, layers.Conv2D(8, 3, padding="same", activation="tanh")(inner), name="encoder")
    image = keras.Input((32, 32, 3))
    return keras.Model(image, layers.Conv2D(3, 1)(encoder(2.0 * image - 1.0, training=False)))


def in_precision(policy: str) -> keras.Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        image = keras.Input((32, 32, 3))
        return keras.Model(image, layers.Activation("softmax", dtype="float32")(body(image)))
    finally:
        keras.config.set_dtype_policy(before)


def sequential() -> keras.Model:
    start = [keras.Input((32, 32, 3)), layers.Rescaling(2.0, -1.0), layers.Conv2D(8, 3, padding="same")]
    return keras.Sequential([*start, layers.MaxPooling2D(), layers.UpSampling2D(), layers.Conv2D(3, 1)])


def functional(end: Callable[[Any], Any], **ends: Any) -> keras.Model:
    image = keras.Input((32, 32, 3), **ends)
    return keras.Model(image, end(image))


def lists() -> keras.Model:
    image = keras.Input((32, 32, 3))
    return keras.Model(inputs=[image], outputs=[body(image)])


TAKEN: dict[str, Callable[[], keras.Model]] = {
    "lists of one": lists,
    "a dictionary of one": lambda: functional(lambda image: {"mask": body(image)}),
    "Sequential": sequential,
    "a model within the model": nested,
    "mixed_float16": lambda: in_precision("mixed_float16"),
    "float64": lambda: in_precision("float64"),
    "a fixed batch": lambda: functional(body, batch_size=6),
    "softmax in the head": lambda: functional(lambda image: body(image, activation="softmax")),
    "softmax of keras.ops": lambda: functional(lambda image: keras.ops.softmax(body(image))),
    "a sigmoid of each class": lambda: functional(lambda image: body(image, activation="sigmoid")),
    "one sigmoid channel": lambda: functional(lambda image: body(image, 1, activation="sigmoid")),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in ("float64", "a fixed batch") else ()) for n in TAKEN]
)
def test_models_as_people_write_them_keep_their_labels(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    model = TAKEN[name]()
    expected = pixels_of(model)
    assert len(np.unique(expected)) > 1
    exported(model, tmp_path, recipe="float32", calibration=None)
    with Segmenter(tmp_path / "m.tflite") as segmenter:
        found = np.stack([segmenter.segment(image).class_map for image in pictures(6, seed=99)])
        reach = 1 if name == "a model within the model" else 2
        assert (segmenter.card.halo, segmenter.card.stride) == (reach, reach)
    assert (found == expected).mean() > 0.998


class TwoMaps(keras.Model):
    """A model of the user's own class that gives a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.mask, self.edge = (layers.Conv2D(n, 3, padding="same") for n in (4, 3, 2))

    def call(self, x: Any) -> Any:
        x = self.inner(x)
        return {"mask": self.mask(x), "edge": self.edge(x)}


def test_of_several_outputs_of_an_own_class_one_is_compared(tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    model = TwoMaps()
    model(seen(1))
    assert exported(model, tmp_path, recipe="float32", calibration=None, output="mask").agreement > 0.99


def test_a_log_softmax_ends_in_the_scores_of_a_softmax() -> None:
    form = inference_form(functional(lambda image: body(image, activation="log_softmax")))
    assert form.activation == "softmax"
    assert form.model.layers[-1].activation is keras.activations.linear


@pytest.mark.parametrize("end", ["a logit", "labels"])
def test_scores_of_one_class_and_labels_are_told_what_to_end_with(end: str) -> None:
    model = functional(lambda image: body(image, 1) if end == "a logit" else keras.ops.argmax(body(image), axis=-1))
    with pytest.raises(ConversionError, match=r"Activation\('sigmoid'\).*leave out the argmax.*head='argmax'"):
        check_model(model, (32, 32, 3))


def test_a_model_of_logits_is_exported_as_it_is() -> None:
    model = functional(body)
    form = inference_form(model)
    assert form == Inference(model) and form.model is model


@pytest.mark.parametrize(
    "name", ["a model within the model", "one sigmoid channel", slow("lists of one"), slow("mixed_float16")]
)
def test_they_are_quantized_alike(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    model = TAKEN[name]() if name != "a model within the model" else nested_of_layers()
    aware = ku.quantize_aware(model, seen(), preprocessing=PRE)
    shapes = [keras.tree.flatten(each.output_shape) for each in (aware, model)]
    assert shapes[0] == shapes[1]
    done = exported(aware, tmp_path, calibration=None)
    assert done.agreement > 0.999
    with Segmenter(tmp_path / "m.tflite") as segmenter:
        found = np.stack([segmenter.segment(image).class_map for image in pictures(6, seed=99)])
    assert (found == pixels_of(model)).mean() > 0.95


def joined_with_features(image: Any) -> Any:
    """Return scores of an image that is joined with features, of which some are beyond its range."""
    features = layers.Conv2D(4, 3, padding="same", kernel_initializer="he_uniform")(image)
    return layers.Conv2D(3, 1)(layers.Concatenate()([image, layers.Rescaling(3.0)(features)]))


def gated(image: Any) -> Any:
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    return layers.Multiply()([layers.Conv2D(3, 1, activation=end)(x) for end in ("softmax", "sigmoid")])


def risen_without_bias(image: Any) -> Any:
    x = layers.Conv2D(8, 3, strides=2, padding="same")(image)
    return layers.Conv2D(3, 1)(layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu")(x))


AWARE = {"joined": joined_with_features, "gated": gated, "risen": risen_without_bias}


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "joined" else pytest.mark.slow) for n in AWARE])
def test_what_is_trained_quantization_aware_can_be_exported(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    model = functional(AWARE[name])
    aware = ku.quantize_aware(model, seen())
    aware.save(tmp_path / "aware.keras")
    done = exported(keras.models.load_model(tmp_path / "aware.keras"), tmp_path, calibration=None)
    assert done.agreement > 0.999
    assert share_as(model, tmp_path) > 0.95


def test_the_range_of_images_is_known_where_features_share_it(tmp_path: Path) -> None:
    aware = ku.quantize_aware(functional(joined_with_features), 2 * seen() - 1)
    with pytest.raises(ConversionError, match="images of another range; expected 0..1; found -"):
        exported(aware, tmp_path, calibration=None)


@pytest.mark.parametrize("shape", [(32, 32, 1), (3, 32, 32)])
def test_a_model_of_other_images_is_named_everywhere(shape: tuple[int, int, int], tmp_path: Path) -> None:
    image = keras.Input(shape)
    model = keras.Model(image, layers.Conv2D(3, 1)(image))
    for call in (
        lambda: exported(model, tmp_path),
        lambda: ku.quantize_aware(model, seen(), preprocessing=PRE),
        lambda: ku.export(model, tmp_path / "m.tflite", preprocessing=PRE, recipe="float32", say=lambda line: None),
    ):
        with pytest.raises(
            UsageError, match="takes another input.*channels last" if shape[0] == 3 else "another input"
        ):
            call()


def nested_of_layers() -> keras.Model:
    inner = keras.Input((32, 32, 3))
    encoder = keras.Model(inner, layers.Conv2D(8, 3, padding="same", activation="tanh")(inner), name="encoder")
    image = keras.Input((32, 32, 3))
    return keras.Model(image, layers.Conv2D(3, 1)(encoder(layers.Rescaling(2.0, -1.0)(image))))


@pytest.mark.parametrize("activation", ["softmax", slow("sigmoid")])
def test_probabilities_are_those_of_the_network(activation: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    image = keras.Input((32, 32, 3))
    scores = layers.Dense(10, activation=activation)(layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(image)))
    classifier = keras.Model(image, scores)
    pre = ku.Preprocessing(channels=3, size=(32, 32), fit="resize")
    ku.export_tflite(classifier, tmp_path / "c.tflite", recipe="float32", preprocessing=pre)
    picture = pictures(1)[0]
    truth = classifier.predict(pre.normalise(picture)[None], verbose=0)[0]
    (best,) = Classifier(tmp_path / "c.tflite").classify(picture, top=1).top
    assert best[0] == truth.argmax() and best[2] == pytest.approx(truth.max(), abs=1e-5)

    model = functional(lambda image: body(image, activation=activation))
    exported(model, tmp_path, recipe="float32", calibration=None)
    truth = model.predict(PRE.normalise(picture)[None], verbose=0)[0].max(-1)
    for tta in ("none", "flips"):
        joined = join_segmenters([Segmenter(tmp_path / "m.tflite")], tta=tta)
        found = joined.segment(picture, confidence=True).confidence
        assert joined.card.activation == activation
        if tta == "none":
            np.testing.assert_allclose(found, truth, atol=1e-5)
        assert found is not None and found.min() > 0 and found.max() <= 1


@pytest.mark.parametrize("ends", [("softmax", "softmax"), ("sigmoid", "softmax"), ("sigmoid", "sigmoid")])
def test_of_two_activations_in_a_row_both_stay(ends: tuple[str, str]) -> None:
    """The form that is exported is made of one that was made before, too: by `export`, of what it opened."""
    keras.utils.set_random_seed(3)
    for channels in (3, 1)[: 1 + ("softmax" not in ends)]:
        image = keras.Input((8, 8, 3))
        x = layers.Conv2D(channels, 3, padding="same", activation=ends[0])(image)
        model = keras.Model(image, layers.Activation(ends[1])(x))
        seen = np.random.default_rng(0).uniform(0, 1, (2, 8, 8, 3)).astype(np.float32)
        truth = np.asarray(model(seen))
        truth = np.concatenate([1 - truth, truth], -1) if channels == 1 else truth
        form = inference_form(model)
        for each in (form, inference_form(form.model)):
            assert each.activation == "none"
            np.testing.assert_allclose(np.asarray(each.model(seen)), truth, atol=1e-6)


def test_one_channel_has_two_classes_and_a_threshold_of_a_half(tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    model = TAKEN["one sigmoid channel"]()
    picture = pictures(1, seed=5)[0]
    share = model.predict(PRE.normalise(picture)[None], verbose=0)[0, ..., 0]
    exported(model, tmp_path, recipe="float32", calibration=None, classes=["cell"])
    with Segmenter(tmp_path / "m.tflite") as segmenter:
        assert segmenter.card.class_names == ("background", "cell")
        result = segmenter.segment(picture, confidence=True)
    np.testing.assert_array_equal(result.class_map, share > 0.5)
    np.testing.assert_allclose(result.confidence, np.maximum(share, 1 - share), atol=1e-5)
    np.testing.assert_array_equal(KerasEngine(model, PRE).run(picture).argmax(-1), share > 0.5)


def test_with_many_classes_int8_tells_apart_what_softmax_would_round_away(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = functional(lambda image: body(image, 100, activation="softmax"))
    assert exported(model, tmp_path).agreement > 0.8  # 0.4 with the softmax in the file
    assert share_as(model, tmp_path) > 0.8


def lora() -> keras.Model:
    image = keras.Input((32, 32, 3))
    head = layers.Conv2D(3, 1, name="bad")
    model = keras.Model(image, head(image))
    head.enable_lora(2)
    return model


def quantized() -> keras.Model:
    image = keras.Input((32, 32, 3))
    dense = layers.Dense(8, name="bad")
    model = keras.Model(image, layers.Conv2D(3, 1)(dense(image)))
    dense.quantize("int8")
    return model


def two_outputs() -> keras.Model:
    image = keras.Input((32, 32, 3))
    mask, edge = (layers.Conv2D(n, 1, name=name)(image) for n, name in ((3, "mask"), (2, "edge")))
    return keras.Model(image, [mask, edge])


NAMED: dict[str, tuple[Callable[[], keras.Model], str]] = {
    "LoRA": (lora, "layer bad .*LoRA.*save_weights"),
    "quantize()": (quantized, "layer bad .*quantize"),
    "two outputs": (two_outputs, r'2 outputs.*output="mask" or output="edge"'),
    "scores of a quarter of the size": (
        lambda: functional(lambda image: layers.Conv2D(3, 3, strides=4, padding="same")(image)),
        r"UpSampling2D\(4, interpolation='bilinear'\)",
    ),
    "one pixel of scores": (
        lambda: functional(lambda image: layers.GlobalAveragePooling2D(keepdims=True)(body(image))),
        r"end a classifier with keras.layers.Flatten",
    ),
    "more classes than uint8": (lambda: functional(lambda image: body(image, 300)), "at most 255; found 300"),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_has_no_form_in_a_file_is_named_with_what_to_write_instead(name: str, tmp_path: Path) -> None:
    make, words = NAMED[name]
    with pytest.raises(UnetresError, match=words):
        exported(make(), tmp_path)


def test_one_of_several_outputs_is_exported(tmp_path: Path) -> None:
    done = exported(two_outputs(), tmp_path, recipe="float32", calibration=None, output="edge")
    assert len(done.card.class_names) == 2


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two classes have one name; found crane"):
        exported(functional(body), tmp_path, classes=["crane", "road", "crane"])


def calibrations() -> dict[str, Any]:
    import tensorflow as tf

    images = seen()
    return {
        "batches": [images[:8], images[8:]],
        "unbatched tf.data": tf.data.Dataset.from_tensor_slices(images),
        "tf.data with masks": tf.data.Dataset.from_tensor_slices((images, np.zeros(16))).batch(4),
        "a generator": (each for each in images),
        "a representative data set": lambda: ([each[None]] for each in images),
        "a representative data set with names": lambda: ({"image": each[None]} for each in images),
    }


@pytest.mark.slow
def test_every_form_of_calibration_gives_the_same_ranges() -> None:
    model = functional(body)
    first = ku.quantize_aware(model, seen()).get_weights()
    for name, form in calibrations().items():
        for given, expected in zip(ku.quantize_aware(model, form).get_weights(), first, strict=True):
            np.testing.assert_array_equal(given, expected, err_msg=name)


@pytest.mark.parametrize("other", ["levels", "floats", "one side"])
def test_calibration_in_another_range_is_refused(other: str, tmp_path: Path) -> None:
    signed = ku.Preprocessing(channels=3, size=(32, 32), value_range=(-1, 1))
    pre, images = {
        "levels": (PRE, pictures(16)),
        "floats": (PRE, pictures(16).astype(np.float32)),
        "one side": (signed, seen()),
    }[other]
    model = functional(body)
    with pytest.raises(ConversionError):
        ku.quantize_aware(model, images, preprocessing=pre)
    aware = ku.quantize_aware(model, images)
    with pytest.raises(ConversionError, match="images of another range"):
        ku.export_tflite(aware, tmp_path / "m.tflite", recipe=INT8, preprocessing=pre)


def test_everyday_words_are_names_of_recipes() -> None:
    for word, name in (
        ("int8", INT8),
        ("fp16", "float16"),
        ("dynamic", "dynamic_wi8_afp32"),
        ("int4", "dynamic_wi4_afp32"),
    ):
        assert find_recipe(word).name == name


def test_a_file_that_answers_otherwise_is_refused_and_one_class_everywhere_is_said(tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    image, head = keras.Input((32, 32, 3)), layers.Conv2D(2, 1)
    model = keras.Model(image, head(layers.Concatenate()([layers.Rescaling(1e4)(image), image])))
    kernel = np.zeros((1, 1, 6, 2), np.float32)
    kernel[0, 0, 3:, 0], kernel[0, 0, 3:, 1] = [4, -4, 0], [0, -4, 4]  # what tells is lost beside 10000 times as much
    head.set_weights([kernel, np.zeros(2, np.float32)])
    with pytest.raises(ConversionError, match="answers otherwise than the Keras model"):
        exported(model, tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.warns(UserWarning, match=r"agreement: .* % of the labels are those of Keras"):
        assert exported(model, tmp_path, allow_disagreement=True).agreement < 0.95

    head.set_weights([kernel * 0, np.float32([0, 1])])
    with pytest.warns(UserWarning, match="one class everywhere"):
        exported(model, tmp_path, recipe="float32")


class Block(layers.Layer):
    """Two convolutions and a normalisation, as tutorials write them."""

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first, self.second = (layers.Conv2D(filters, 3, padding="same") for _ in range(2))
        self.norm, self.act = layers.BatchNormalization(), layers.ReLU()

    def call(self, x: Any, training: bool = False) -> Any:
        return self.act(self.norm(self.second(self.act(self.first(x))), training=training))


class Subclassed(keras.Model):
    """A U-Net of one level as a class; `end` is what its call does last, in Keras or in TensorFlow."""

    def __init__(self, channels: int, end: Callable[[Any], Any]) -> None:
        super().__init__()
        self.down, self.up = Block(8), Block(6)
        self.pool, self.rise, self.join = layers.MaxPooling2D(), layers.UpSampling2D(), layers.Concatenate()
        self.scale, self.head, self.end = layers.Rescaling(2.0, -1.0), layers.Conv2D(channels, 1), end

    def call(self, x: Any, training: bool = False) -> Any:
        down = self.down(self.scale(x), training=training)
        up = self.up(self.rise(self.pool(down)), training=training)
        return self.end(self.head(self.join([down, up])))


def of_tensorflow(name: str) -> Callable[[Any], Any]:
    def end(x: Any) -> Any:
        import tensorflow as tf

        return getattr(tf.nn, name)(x)

    return end


SUBCLASSED: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "softmax of Keras": (3, keras.activations.softmax),
    "softmax of TensorFlow": (3, of_tensorflow("softmax")),
    "one sigmoid of Keras": (1, keras.activations.sigmoid),
    "one sigmoid of TensorFlow": (1, of_tensorflow("sigmoid")),
    "sigmoids of TensorFlow": (3, of_tensorflow("sigmoid")),
    "logits": (3, keras.activations.linear),
}


QUICK = ("softmax of TensorFlow", "one sigmoid of Keras")  # a function that is not seen into, and one that is


@pytest.mark.parametrize("name", [name if name in QUICK else slow(name) for name in SUBCLASSED])
def test_subclassed_models_keep_their_labels_and_probabilities(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(4)
    model = Subclassed(*SUBCLASSED[name])
    scores = np.asarray(model(seen(6)))
    images = pictures(6)
    expected = scores[..., 0] > 0.5 if scores.shape[-1] == 1 else scores.argmax(-1)
    assert len(np.unique(expected)) > 1
    sure = np.maximum(scores, 1 - scores)[..., 0] if scores.shape[-1] == 1 else scores.max(-1)
    if name == "logits":
        sure = np.asarray(keras.ops.softmax(scores)).max(-1)
    exported(model, tmp_path, recipe="float32", calibration=None)
    with Segmenter(tmp_path / "m.tflite") as segmenter:
        results = [segmenter.segment(image, confidence=True) for image in images]
        unseen = "TensorFlow" in name
        assert segmenter.card.activation == ("none" if unseen else "softmax")
        assert (segmenter.card.halo > 0) != unseen
    np.testing.assert_allclose([each.confidence for each in results], sure, atol=1e-4)
    assert np.mean([each.class_map for each in results] == expected) > 0.999
    np.testing.assert_allclose(KerasEngine(model, PRE).run(images[0]).argmax(-1), expected[0])


@pytest.mark.slow
def test_a_subclassed_model_is_quantized_as_its_graph_is(tmp_path: Path) -> None:
    keras.utils.set_random_seed(4)
    model = Subclassed(*SUBCLASSED["softmax of Keras"])
    expected = np.asarray(model(seen(6))).argmax(-1)
    assert exported(model, tmp_path).agreement > 0.95
    aware = ku.quantize_aware(model, seen(), preprocessing=PRE)
    assert exported(aware, tmp_path, calibration=None).agreement > 0.999
    with Segmenter(tmp_path / "m.tflite") as segmenter:
        found = [segmenter.segment(image).class_map for image in pictures(6)]
    assert np.mean(found == expected) > 0.95


class Scale(layers.Layer):
    """A layer with a weight of its own, which no layer of Keras has."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x: Any) -> Any:
        return x * self.factor


def test_own_code_is_followed_only_where_it_is_made_of_layers(tmp_path: Path) -> None:
    keras.utils.set_random_seed(4)
    model = functional(lambda image: layers.Softmax()(Scale(name="bad")(body(Block(4)(image)))))
    assert exported(model, tmp_path, recipe="float32", calibration=None).agreement > 0.999
    form = inference_form(model)
    names = [layer.name for layer in form.model.layers]
    assert "bad" in names and not any(isinstance(layer, Block) for layer in form.model.layers)
    with pytest.raises(UsageError, match="layer bad"):
        ku.quantize_aware(model, seen())

    end = functional(lambda image: layers.UpSampling2D(2)(layers.MaxPooling2D()(body(image, activation="softmax"))))
    assert inference_form(end).activation == "none"
    assert (
        inference_form(functional(lambda image: layers.UpSampling2D(2)(layers.MaxPooling2D()(body(image))))).activation
        == "softmax"
    )


def test_a_map_that_the_model_flattens_is_a_map_in_the_file(tmp_path: Path) -> None:
    keras.utils.set_random_seed(4)
    model = functional(lambda image: layers.Activation("softmax")(layers.Reshape((32 * 32, 3))(body(image))))
    expected = model.predict(PRE.normalise(pictures(6, seed=99)), verbose=0).argmax(-1).reshape(6, 32, 32)
    done = exported(model, tmp_path, recipe="float32", calibration=None)
    assert done.agreement > 0.999 and done.card.activation == "softmax" and done.card.halo > 0
    with Segmenter(tmp_path / "m.tflite") as segmenter:
        found = [segmenter.segment(image).class_map for image in pictures(6, seed=99)]
    assert np.mean(found == expected) > 0.998
    aware = ku.quantize_aware(model, seen(), preprocessing=PRE)
    assert aware.output_shape == (None, 32, 32, 3)
    assert exported(aware, tmp_path, calibration=None).agreement > 0.999


def test_objects_of_a_file_with_sigmoids_are_those_of_its_class_map(tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    model = functional(lambda image: body(image, activation="sigmoid"))
    exported(model, tmp_path, recipe="float32", calibration=None)
    with Segmenter(tmp_path / "m.tflite") as segmenter:
        result = segmenter.segment(pictures(1)[0], scores=True)
    how = ku.Separation(split=False, min_size=0, fill_holes=False, threshold=0.34)
    objects = find_instances(result, how)
    ids = np.concatenate([[0], objects.class_ids])[objects.labels]
    chances = model.predict(PRE.normalise(pictures(1)), verbose=0)[0]
    share = chances / chances.sum(-1, keepdims=True)
    above = np.where(share[..., 1:].max(-1) > 0.34, 1 + share[..., 1:].argmax(-1), 0)
    np.testing.assert_array_equal(ids, above)


def test_a_classifier_that_answers_otherwise_is_refused_by_its_scores(tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    image, head = keras.Input((32, 32, 3)), layers.Dense(3)
    pooled = layers.GlobalAveragePooling2D()
    model = keras.Model(image, head(pooled(layers.Concatenate()([layers.Rescaling(1e4)(image), image]))))
    kernel = np.zeros((6, 3), np.float32)
    kernel[3:] = 8 * np.eye(3)
    head.set_weights([kernel, np.float32([-4, -4, -4])])
    pre = ku.Preprocessing(channels=3, size=(32, 32), fit="resize")
    with pytest.raises(ConversionError, match="answers otherwise .* of their spread apart"):
        ku.export_tflite(model, tmp_path / "c.tflite", recipe=INT8, preprocessing=pre, calibration=seen())
    sound = keras.Model(image, layers.Dense(3)(pooled(layers.Conv2D(8, 3, activation="relu")(image))))
    ku.export_tflite(sound, tmp_path / "c.tflite", recipe=INT8, preprocessing=pre, calibration=seen())


def test_a_network_that_quantization_changes_is_refused_or_warned_of() -> None:
    """Scores of 1000 leave no level of int8 for a difference of 0.2."""
    head = layers.Conv2D(3, 1)
    model = functional(lambda x: head(layers.Conv2D(4, 3, padding="same", activation="relu")(x)))
    head.set_weights([0.01 * head.kernel, np.float32([1000, 1000.2, 1000.4])])
    with pytest.raises(ConversionError, match="the quantized network answers otherwise") as refused:
        ku.quantize_aware(model, seen())
    assert refused.value.fix is not None and "refine=True" in refused.value.fix
    with pytest.warns(UserWarning, match="agreement: of the quantized network, .* % of the labels are those of Keras"):
        ku.quantize_aware(model, seen(), allow_disagreement=True)


def test_one_sigmoid_channel_is_compared_as_two_classes() -> None:
    """Beside 10000 times the image, int8 has one level for what tells."""
    head = layers.Conv2D(1, 1, activation="sigmoid")
    model = functional(lambda x: head(layers.Concatenate()([layers.Conv2D(3, 1, name="wide")(x), x])))
    model.get_layer("wide").set_weights([np.full((1, 1, 3, 3), 1e4, np.float32), np.zeros(3, np.float32)])
    head.set_weights([np.float32([0, 0, 0, 4, -4, 0]).reshape(1, 1, 6, 1), np.zeros(1, np.float32)])
    with pytest.raises(ConversionError, match="the quantized network answers otherwise"):
        ku.quantize_aware(model, seen())


def quantized_labels(model: keras.Model) -> float:
    """Return the share of labels that the quantized network gives as the float one does, on other pictures."""
    images = PRE.normalise(pictures(6, seed=99))
    expected, found = (np.asarray(each(images)) for each in (model, ku.quantize_aware(model, seen())))
    if expected.shape[-1] == 1:
        return float(np.mean((expected > 0.5) == (found > 0.5)))
    return float(np.mean(expected.argmax(-1) == found.argmax(-1)))


@pytest.mark.slow
def test_a_hard_sigmoid_at_the_end_is_one_of_probabilities_when_quantized_too() -> None:
    keras.utils.set_random_seed(2)
    model = functional(lambda image: body(image, 1, activation="hard_sigmoid"))
    assert quantized_labels(model) > 0.97
    form = inference_form(ku.quantize_aware(model, seen(), preprocessing=PRE))
    assert form.binary and form.model.output_shape[-1] == 2


MOVED = {
    "reshaped": lambda x: layers.Reshape((32, 32, 3))(layers.Activation("softmax")(layers.Reshape((32 * 32, 3))(x))),
    "cropped": lambda x: layers.Cropping2D(2)(layers.ZeroPadding2D(2)(layers.Softmax()(x))),
    "cropped at once": lambda x: layers.Cropping2D(2)(layers.Softmax()(layers.ZeroPadding2D(2)(x))),
    "enlarged": lambda x: layers.UpSampling2D(2)(layers.Softmax()(layers.MaxPooling2D()(x))),
}


@pytest.mark.parametrize("name", MOVED)
def test_a_softmax_before_pixels_are_moved_is_left_out(name: str) -> None:
    keras.utils.set_random_seed(2)
    model = functional(lambda image: MOVED[name](body(image)))
    form = inference_form(model)
    assert form.activation == ("none" if name == "cropped" else "softmax")
    scores, expected = (np.asarray(each(seen(2))) for each in (form.model, model))
    if form.activation == "softmax":
        assert scores.min() < 0
        scores = np.asarray(keras.ops.softmax(scores))
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_one_sigmoid_channel_without_its_axis_is_taken(tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    for squeeze in (lambda x: keras.ops.squeeze(x, -1), layers.Reshape((32, 32))):
        model = functional(lambda image, end=squeeze: end(body(image, 1, activation="sigmoid")))
        assert exported(model, tmp_path, recipe="float32", calibration=None).agreement > 0.999
        expected = np.asarray(model(PRE.normalise(pictures(6, seed=99)))) > 0.5
        with Segmenter(tmp_path / "m.tflite") as segmenter:
            found = [segmenter.segment(each).class_map for each in pictures(6, seed=99)]
        assert np.mean(found == expected.astype(np.uint8)) > 0.999


@pytest.mark.slow
def test_functions_of_numbers_and_means_over_maps_are_quantized() -> None:
    keras.utils.set_random_seed(2)
    spread = np.linspace(0.5, 1.5, 6, dtype=np.float32)

    def made(image: Any) -> Any:
        x = layers.Conv2D(6, 3, padding="same", activation="relu")(image)
        gate = keras.ops.sigmoid(layers.Conv2D(6, 1)(keras.ops.mean(x, axis=(1, 2), keepdims=True)))
        x = (x * gate) * spread + spread.reshape(1, 1, 1, -1)
        return -layers.Conv2D(3, 1)(x / np.float32(2) - spread.astype(np.float64))

    model = functional(made)
    assert quantized_labels(model) > 0.97
    assert not any(type(each).__name__ == "Negative" for each in inference_form(model).model.operations)


NO_SCORES: dict[str, Callable[[Any], Any]] = {
    "one linear channel": lambda x: body(x, 1),
    "flattened in another order": lambda x: layers.Permute((2, 1))(layers.Reshape((3, 32 * 32))(body(x))),
    "more classes than a map holds": lambda x: body(x, 256),
    "at half the size": lambda x: layers.AveragePooling2D(2)(body(x)),
}


@pytest.mark.parametrize(
    "end", [pytest.param(e, marks=() if e == "at half the size" else pytest.mark.slow) for e in NO_SCORES]
)
def test_what_no_file_takes_as_scores_is_said_before_training(end: str) -> None:
    with pytest.warns(UserWarning, match="not exported as scores of classes"):
        ku.quantize_aware(functional(NO_SCORES[end]), seen(), allow_disagreement=True)


def ones(shape: Any, dtype: Any = None) -> Any:
    return keras.ops.ones(shape, dtype)


class Scaled(layers.Layer):
    """With an argument that Keras does not know, as without `get_config`."""

    def __init__(self, scale: Any) -> None:
        super().__init__()
        self.scale = scale

    def call(self, x: Any) -> Any:
        return x * self.scale(x)


OWN_CODE: dict[str, Callable[[Any], Any]] = {
    "an initializer": lambda x: layers.DepthwiseConv2D(3, depthwise_initializer=lambda s, dtype=None: ones(s))(x),
    "a regularizer": lambda x: layers.Conv2D(3, 3, kernel_regularizer=lambda k: keras.ops.sum(k), bias_constraint=ones)(
        x
    ),
    "an activation": lambda x: layers.Conv2D(3, 3, activation=lambda t: keras.ops.maximum(t, 0.2 * t))(x),
    "a layer of a function": lambda x: layers.Lambda(lambda t, by: t[:, ::by], arguments={"by": 2})(x),
    "an own layer that says no arguments": lambda x: Scaled(lambda t: keras.ops.mean(t, axis=-1, keepdims=True))(x),
}


@pytest.mark.parametrize("what", OWN_CODE)
def test_models_within_models_may_have_functions_of_ones_own(what: str) -> None:
    """They have to be copied, and Keras makes no function of a configuration."""
    start = keras.Input((32, 32, 3))
    inner = keras.Model(start, OWN_CODE[what](start))
    image = keras.Input((32, 32, 3))
    model = keras.Model(image, layers.Conv2D(3, 1)(inner(image)))
    flat = inference_form(model).model
    assert all(not isinstance(each, keras.Model) for each in flat.operations)
    np.testing.assert_allclose(flat(seen(2)), model(seen(2)), rtol=1e-4, atol=1e-5)


def test_an_initializer_of_ones_own_has_no_part_in_a_quantized_network() -> None:
    ku.quantize_aware(functional(lambda x: body(OWN_CODE["an initializer"](x))), seen(4), allow_disagreement=True)


@pytest.mark.parametrize(
    "kind",
    ["cropped", pytest.param("enlarged", marks=pytest.mark.slow), pytest.param("reshaped", marks=pytest.mark.slow)],
)
def test_probabilities_are_not_rounded_before_their_pixels_are_moved(kind: str) -> None:
    """The file leaves the softmax out, and moves scores."""
    moves = {
        "cropped": lambda x: layers.Cropping2D(4)(layers.Softmax()(body(layers.ZeroPadding2D(4)(x), name="scores"))),
        "enlarged": lambda x: layers.UpSampling2D(2)(
            layers.Softmax()(body(layers.AveragePooling2D(2)(x), name="scores"))
        ),
        "reshaped": lambda x: layers.Reshape((32, 32, 3))(
            layers.Softmax()(layers.Reshape((64, 16, 3))(body(x, name="scores")))
        ),
    }
    model = functional(moves[kind])
    model.get_layer("scores").set_weights([each / 50 for each in model.get_layer("scores").get_weights()])
    quantized = ku.quantize_aware(model, seen(4), allow_disagreement=True)
    scores = np.asarray(inference_form(quantized).model(seen(4)))
    assert len(np.unique(scores)) > 20  # which probabilities near to each other would not tell apart
    np.testing.assert_array_equal(np.asarray(quantized(seen(4))).argmax(-1), scores.argmax(-1))


def test_a_map_in_another_order_is_refused_with_the_line_that_mends_it(tmp_path: Path) -> None:
    model = functional(lambda x: layers.Permute((2, 1))(layers.Reshape((3, 32 * 32))(body(x))))
    with pytest.raises(ConversionError) as refused:
        exported(model, tmp_path, recipe="float32", calibration=None)
    assert refused.value.fix is not None and "leave out Reshape and Permute" in refused.value.fix


class StochasticDepth(layers.Layer):
    """Drops a branch in training, as tutorials write it; without a weight."""

    def call(self, x: Any, training: bool = False) -> Any:
        return x * keras.ops.floor(0.8 + keras.random.uniform((keras.ops.shape(x)[0], 1, 1, 1))) if training else x


class Clips(layers.Layer):
    """Does something at inference, too, if rarely."""

    def call(self, x: Any, training: bool = False) -> Any:
        return keras.ops.clip(x, -500, 500)


@pytest.mark.slow
def test_what_computes_in_training_alone_is_left_out_of_the_quantized_network() -> None:
    keras.utils.set_random_seed(2)

    def made(image: Any) -> Any:
        augment = keras.Sequential(
            [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1), layers.RandomZoom(0.1)]
        )
        x = layers.RandomContrast(0.2)(augment(image))
        return body(layers.Add()([x, StochasticDepth()(layers.Conv2D(3, 3, padding="same")(x))]))

    model = functional(made)
    assert quantized_labels(model) > 0.9
    assert not any("Random" in type(each).__name__ for each in ku.quantize_aware(model, seen()).layers)
    with pytest.raises(UsageError, match="Clips"):
        ku.quantize_aware(functional(lambda image: body(Clips()(image))), seen())


def test_names_that_tensorflow_has_no_scope_for_are_taken(tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    image = keras.Input((32, 32, 3), name="my image")
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv 1")(image)
    x = layers.Conv2D(6, 3, padding="same", name="conv:1")(x)
    model = keras.Model(image, layers.Conv2D(3, 1, name="_mask")(x), name="my U-Net")
    assert exported(model, tmp_path, recipe="float32", calibration=None).agreement > 0.999
    assert share_as(ask_eagerly(model), tmp_path) > 0.999
    aware = ku.quantize_aware(model, seen(), preprocessing=PRE)
    assert {"conv_1", "conv_1_1"} <= {layer.name for layer in aware.layers}


def ask_eagerly(model: keras.Model) -> Any:
    """Return what has a `predict` that needs no graph."""

    class Asked:
        def predict(self, images: np.ndarray, verbose: int) -> np.ndarray:
            return np.asarray(model(images, training=False))

    return Asked()


def test_the_command_refuses_other_labels_with_the_option_that_allows_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scores of 1000 leave no level of int8 for a difference of 0.2; that a file is not scored allows nothing."""
    keras.utils.set_random_seed(2)
    head = layers.Conv2D(3, 1)
    model = functional(lambda x: head(layers.Conv2D(4, 3, padding="same", activation="relu")(x)))
    head.set_weights([0.01 * head.kernel, np.float32([1000, 1000.2, 1000.4])])
    model.save(tmp_path / "m.keras")
    (tmp_path / "images").mkdir()
    for number, each in enumerate(pictures(4)):
        Image.fromarray(each).save(tmp_path / "images" / f"{number}.png")
    command = ["export", str(tmp_path / "m.keras"), "--channels", "3", "--size", "32", "--value-range", "0", "1"]
    command += ["--calibration", str(tmp_path / "images"), "--no-gate"]
    assert main(command) == 4
    assert "--allow-disagreement" in capsys.readouterr().err
    assert not (tmp_path / "m.tflite").exists()
    assert main([*command, "--allow-disagreement"]) == 0
    assert "% of the labels are those of Keras" in capsys.readouterr().out
    assert (tmp_path / "m.tflite").exists()


def test_a_file_with_a_lambda_is_refused_with_the_line_that_loads_it(tmp_path: Path) -> None:
    functional(lambda x: layers.Lambda(lambda v: v * 2.0)(body(x))).save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match="Lambda layer") as refused:
        ku.export(tmp_path / "m.keras", tmp_path / "m.tflite", recipe="float32", preprocessing=PRE, gate=False)
    assert refused.value.fix is not None and "safe_mode=False" in refused.value.fix
    assert keras.models.load_model(tmp_path / "m.keras", safe_mode=False).output_shape == (None, 32, 32, 3)
