"""The bridge to tf_keras: every layer, every network, the way back, what is refused, and losses on the other side."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from networks import NETWORKS
from own_networks import OWN_NETWORKS, with_statistics

import keras_unetres as ku
from keras_unetres.quantization.tfmot.adapters import adapt_callback, adapt_loss, adapt_metric, adapt_optimizer
from keras_unetres.quantization.tfmot.bridge import LAYERS, copy_weights, to_tf_keras
from unetres_edge.errors import ModelError, UsageError

# Rows like another one, or of many layers.
LONG = {
    *("unet_no_norm", "unet_residual", "unet_resnet18", "unet_resnet20", "unet_plain20", "unet_resnet50_v1.5"),
    *("resnet18", "resnet50", "resnet50_v1.5", "resnet20", "resnet20_v2", "plain20", "plain18", "resnet18_features"),
    *("resnet18_stride8", "resnet18_v2_stride16", "fcn_resnet18", "fcn_resnet18_stride16", "fcn_resnet20"),
    *("fcn_resnet20_v2_stride1", "unet_resnet18_depth3"),
}
SLOW = {
    *("resnet50_v2", "unet_resnet20_v2", "unet_efficientnet_lite0", "unet_efficientnet_lite0_timm"),
    *("resnet20_softmax", "unet", "unet_nearest", "unet_open"),
}
TIERS = {name: pytest.mark.long if name in LONG else pytest.mark.slow for name in LONG | SLOW}
ROWS = [pytest.param(name, marks=TIERS.get(name, ())) for name in NETWORKS]
APPLICATIONS = [
    pytest.param("ResNet50", marks=pytest.mark.long),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("ResNet50V2", "MobileNetV2")),
]
TOLERANCE = 1e-6  # of the largest output


def assert_carried(model: keras.Model, shape: tuple[int, ...]) -> None:
    """A model with statistics as after training has a twin with its answers and names, and gets its weights back."""
    images = np.random.default_rng(1).uniform(-1, 1, (2, *shape)).astype(np.float32)
    expected = np.asarray(with_statistics(model)(images, training=False))
    twin = to_tf_keras(model)
    found = np.asarray(twin(images, training=False))
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
    names = {layer.name for layer in model.layers} | {tensor._keras_history.operation.name for tensor in model.inputs}
    assert {layer.name for layer in twin.layers} == names
    clone = keras.models.clone_model(model)
    for weight in clone.weights:
        weight.assign(np.zeros(weight.shape))
    assert copy_weights(twin, clone) is clone
    np.testing.assert_array_equal(np.asarray(clone(images, training=False)), expected)


@pytest.mark.parametrize("name", ROWS)
def test_every_network_of_the_package_is_carried(name: str) -> None:
    keras.utils.set_random_seed(0)
    assert_carried(NETWORKS[name].build(), NETWORKS[name].shape)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_networks_of_keras_are_carried(name: str) -> None:
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), include_top=False)
    assert_carried(model, (64, 64, 3))


@pytest.mark.parametrize("name", OWN_NETWORKS)
def test_networks_of_users_are_carried(name: str) -> None:
    keras.utils.set_random_seed(0)
    model = OWN_NETWORKS[name]()
    assert_carried(model, model.input_shape[1:])


# One layer by itself, for every class that is carried: its arguments, and those of other forms of it.
EVERY = {
    "Activation": [("relu",)],
    "Add": [()],
    "AlphaDropout": [(0.2,)],
    "Average": [()],
    "AveragePooling2D": [(2,), {"pool_size": 3, "strides": 1, "padding": "same"}, {"pool_size": (3, 2), "strides": 2}],
    "BatchNormalization": [(), {"epsilon": 0.1, "scale": False, "center": False}],
    "Concatenate": [(), {"axis": 1}],
    "Conv2D": [
        (5, 3),
        {"filters": 4, "kernel_size": (3, 2), "strides": 2, "padding": "same", "activation": "silu"},
        {"filters": 4, "kernel_size": 3, "dilation_rate": 2, "groups": 2, "use_bias": False},
        {"filters": 2, "kernel_size": 1, "kernel_regularizer": "l2", "bias_constraint": "non_neg"},
    ],
    "Conv2DTranspose": [
        (5, 2),
        {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same"},
        {"filters": 3, "kernel_size": (2, 3), "strides": (1, 2), "padding": "valid", "use_bias": False},
        {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 1},
    ],
    "Cropping2D": [(1,), (((0, 1), (2, 0)),)],
    "Dense": [(3,), {"units": 2, "activation": "tanh", "use_bias": False}],
    "DepthwiseConv2D": [(3,), {"kernel_size": 3, "strides": 2, "depth_multiplier": 2, "padding": "same"}],
    "Dropout": [(0.5,)],
    "ELU": [(0.7,)],
    "Flatten": [()],
    "GaussianDropout": [(0.2,)],
    "GaussianNoise": [(0.2,)],
    "GlobalAveragePooling2D": [(), {"keepdims": True}],
    "GlobalMaxPooling2D": [(), {"keepdims": True}],
    "GroupNormalization": [(2,)],
    "Identity": [()],
    "LayerNormalization": [(), {"axis": (1, 2, 3), "epsilon": 0.01}],
    "LeakyReLU": [(), {"negative_slope": 0.1}],
    "Maximum": [()],
    "MaxPooling2D": [(2,), {"pool_size": 3, "strides": 2, "padding": "same"}],
    "Minimum": [()],
    "Multiply": [()],
    "Normalization": [
        {"mean": [0.1, 0.2, 0.3, 0.4], "variance": [1.0, 2.0, 3.0, 4.0]},
        {"axis": None, "mean": 0.5, "variance": 4.0},
        {"mean": 0.5, "variance": 4.0, "invert": True},
    ],
    "PReLU": [(), {"shared_axes": [1, 2]}],
    "Permute": [((2, 1, 3),)],
    "ReLU": [(6.0,), {"negative_slope": 0.1, "threshold": 0.2}],
    "RepeatVector": [(3,)],
    "Rescaling": [(0.5,), {"scale": [1.0, 2.0, 3.0, 4.0], "offset": [0.0, 1.0, 0.0, -1.0]}],
    "Reshape": [((8, -1),)],
    "Resizing": [(10, 5), {"height": 12, "width": 16, "interpolation": "nearest"}],
    "SeparableConv2D": [
        (5, 3),
        {"filters": 3, "kernel_size": 3, "strides": 2, "depth_multiplier": 2, "use_bias": False},
    ],
    "Softmax": [(), {"axis": 1}],
    "SpatialDropout2D": [(0.3,)],
    "Subtract": [()],
    "UnitNormalization": [()],
    "UpSampling2D": [(2,), {"size": (2, 3), "interpolation": "bilinear"}],
    "ZeroPadding2D": [(1,), (((0, 1), (2, 0)),)],
}
MERGES = {"Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"}


def one_layer(layer: Any, shape: tuple[int, ...] = (6, 8, 4)) -> keras.Model:
    """A model of one layer, its weights away from where they begin."""
    images = layers.Input(shape)
    count = 2 if type(layer).__name__ in MERGES else 1
    sources = [images, *(layers.Rescaling(-0.5, offset=0.1)(images) for _ in range(count - 1))]
    model = keras.Model(images, layer(sources if count > 1 else images))
    random = np.random.default_rng(3)
    for weight in model.weights:
        if weight.dtype == "float32":
            weight.assign(random.uniform(0.2, 1, weight.shape))
    return model


def made(name: str, arguments: Any) -> Any:
    kind = getattr(layers, name)
    return kind(**arguments) if isinstance(arguments, dict) else kind(*arguments)


def answers(model: Any, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(model(np.random.default_rng(4).normal(size=(2, *shape)).astype(np.float32), training=False))


def test_every_layer_that_is_carried_is_tested() -> None:
    assert set(EVERY) == set(LAYERS)


@pytest.mark.parametrize("name", EVERY)
def test_every_layer_answers_alike(name: str) -> None:
    shape = (5,) if name == "RepeatVector" else (6, 8, 4)
    for arguments in EVERY[name]:
        model = one_layer(made(name, arguments), shape)
        expected, found = answers(model, shape), answers(to_tf_keras(model), shape)
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max(), err_msg=str(arguments)
        )


def test_every_activation_answers_alike() -> None:
    names = [name for name in dir(keras.activations) if name[0] != "_"]
    names = sorted(set(names) - {"deserialize", "get", "serialize", "glu", "threshold"})  # the last two have arguments
    assert {"relu6", "hard_sigmoid", "silu", "leaky_relu"} <= set(names)
    image = layers.Input((2, 3, 4))
    model = keras.Model(image, [layers.Activation(name, name=name)(image) for name in names])
    images = np.random.default_rng(5).normal(0, 4, (2, 2, 3, 4)).astype(np.float32)
    twin = to_tf_keras(model)
    for name, expected, found in zip(names, model(images), twin(images), strict=True):
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-6, atol=1e-6, err_msg=name)


def test_shared_layers_and_several_inputs_and_outputs() -> None:
    keras.utils.set_random_seed(0)
    first, second = layers.Input((8, 8, 2), name="first"), layers.Input((8, 8, 2), name="second")
    shared = layers.Conv2D(3, 3, name="shared")
    dropped = layers.Dropout(0.5)(shared(first), training=True)
    model = keras.Model([first, second], [shared(second), layers.Add()([dropped, dropped])])
    quiet = keras.Model([first, second], [shared(first), shared(second)])
    twin = to_tf_keras(quiet)
    images = np.random.default_rng(6).normal(size=(2, 2, 8, 8, 2)).astype(np.float32)
    for expected, found in zip(quiet(list(images)), twin(list(images)), strict=True):
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=1e-6)
    assert len(twin.get_layer("shared").weights) == 2
    with pytest.raises(ModelError, match="something else"):  # its dropout is random at inference, too
        to_tf_keras(model)


@keras.saving.register_keras_serializable("tests")
class Twice(layers.Layer):
    def call(self, x: Any) -> Any:
        return 2 * x


def shifted(x: Any) -> Any:
    return x + 1


def free(weights: Any) -> float:
    return 0.0


def nested() -> keras.Model:
    image = layers.Input((8, 8, 2))
    return keras.Model(image, keras.Sequential([layers.Conv2D(2, 1)], name="inner")(image))


def function() -> keras.Model:
    image = layers.Input((8, 8, 2))
    return keras.Model(image, keras.ops.add(image, 1.0))


def named_inputs() -> keras.Model:
    image = layers.Input((8, 8, 2), name="image")
    return keras.Model({"image": image}, layers.Conv2D(2, 1)(image), name="named")


def subclassed() -> keras.Model:
    class Own(keras.Model):
        def call(self, x: Any) -> Any:
            return x

    return Own(name="own")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: one_layer(Twice(name="double")), r"'double' \(Twice\)"),
        (lambda: one_layer(layers.Lambda(lambda x: x, name="anything")), r"'anything' \(Lambda\)"),
        (lambda: one_layer(layers.Conv1D(2, 1, name="line"), (8, 2)), r"'line' \(Conv1D\)"),
        (lambda: one_layer(layers.Conv2D(2, 1, activation=shifted, name="odd")), "'odd'.*activation"),
        (lambda: one_layer(layers.Conv2D(2, 1, dtype="mixed_bfloat16", name="half")), "'half'.*bfloat16"),
        (lambda: one_layer(layers.Resizing(4, 4, antialias=True, name="small")), "'small'.*antialias"),
        (lambda: one_layer(layers.BatchNormalization(synchronized=True, name="norm")), "'norm'.*synchronized"),
        (lambda: one_layer(layers.MaxPooling2D(2, data_format="channels_first", name="pool")), "'pool'.*channels"),
        (lambda: one_layer(layers.Conv2D(2, 1, kernel_regularizer=free, name="kept")), "'kept'.*kernel_reg"),
        (nested, "'inner' is a model"),
        (function, r"\(Add\) is not a layer"),
        (named_inputs, "'named' form a dict"),
        (subclassed, "'own' has no graph"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_carried_is_refused_by_name(make: Any, named: str) -> None:
    with pytest.raises(ModelError, match=named):
        to_tf_keras(make())


def test_other_things_than_keras_models_are_refused() -> None:
    with pytest.raises(UsageError, match=r"keras\.Model.*int"):
        to_tf_keras(3)


def test_weights_of_another_model_are_refused_and_nothing_is_changed() -> None:
    twin = to_tf_keras(one_layer(layers.Conv2D(3, 3, name="conv")))
    for other in (one_layer(layers.Conv2D(4, 3, name="conv")), one_layer(layers.Conv2D(3, 3, name="other"))):
        before = [np.array(weight) for weight in other.weights]
        with pytest.raises(ModelError, match=other.layers[-1].name):
            copy_weights(twin, other)
        for weight, value in zip(other.weights, before, strict=True):
            np.testing.assert_array_equal(np.asarray(weight), value)
    with pytest.raises(ModelError, match="'conv'"):
        copy_weights(twin, one_layer(layers.ReLU(name="relu")))


# Losses, metrics, optimizers and callbacks


@pytest.fixture(scope="module")
def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, masks with pixels to ignore, and weights of pixels."""
    random = np.random.default_rng(7)
    masks = random.integers(0, 3, (4, 16, 16))
    masks[:, :3] = 255
    weights = random.uniform(0, 3, (4, 16, 16)).astype(np.float32)
    return random.uniform(0, 1, (4, 16, 16, 3)).astype(np.float32), masks, weights


def segmenter() -> keras.Model:
    keras.utils.set_random_seed(2)
    image = layers.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    return keras.Model(image, layers.Conv2D(3, 1, name="logits")(x))


@pytest.mark.parametrize(
    "loss",
    [
        ku.CrossEntropy(class_weights=[1, 2, 0.5]) + 0.5 * ku.Dice(),
        ku.Focal(ignore_index=255),
        pytest.param(ku.Tversky(class_weights=[0, 1, 1]) + ku.LovaszSoftmax(), marks=pytest.mark.slow),
        pytest.param(ku.CrossEntropy(label_smoothing=0.1), marks=pytest.mark.slow),
    ],
    ids=["cross_entropy+dice", "focal", "tversky+lovasz", "smoothed"],
)
def test_weighted_losses_and_steps_are_those_of_keras_3(loss: Any, batch: tuple[np.ndarray, ...]) -> None:
    images, masks, weights = batch
    model = segmenter()
    twin = to_tf_keras(model)
    for each, rate in ((model, keras.optimizers.SGD(0.5)), (twin, keras.optimizers.SGD(0.5))):
        each.compile(rate, loss, jit_compile=False)
    values = [m.evaluate(images, masks, sample_weight=weights, batch_size=4, verbose=0) for m in (model, twin)]
    np.testing.assert_allclose(values[1], values[0], rtol=1e-6)
    plain = twin.evaluate(images, masks, batch_size=4, verbose=0)
    assert abs(plain - values[1]) > 1e-4 * abs(plain)  # the weights count
    for each in (model, twin):
        each.fit(images, masks, sample_weight=weights, batch_size=4, epochs=2, verbose=0)
    trained = copy_weights(twin, keras.models.clone_model(model))
    for found, expected in zip(trained.weights, model.weights, strict=True):
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=2e-6)


def test_a_weighted_loss_has_the_value_of_its_formula(batch: tuple[np.ndarray, ...]) -> None:
    images, masks, weights = batch
    twin = to_tf_keras(segmenter())
    logits = np.asarray(twin(images), np.float64)
    log_scores = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    known = masks != 255
    of_class = np.take_along_axis(log_scores, np.where(known, masks, 0)[..., None], -1)[..., 0]
    counts = weights * known * np.array([1, 2, 0.5])[np.where(known, masks, 0)]
    twin.compile("sgd", ku.CrossEntropy(class_weights=[1, 2, 0.5]))
    found = twin.evaluate(images, masks, sample_weight=weights, batch_size=4, verbose=0)
    np.testing.assert_allclose(found, -(counts * of_class).sum() / counts.sum(), rtol=1e-5)


def test_metrics_are_those_of_keras_3(batch: tuple[np.ndarray, ...]) -> None:
    images, masks, _ = batch
    model = segmenter()
    twin = to_tf_keras(model)
    scores = []
    for each in (model, twin):
        each.compile("sgd", ku.CrossEntropy(), metrics=[ku.MeanIoU(3), ku.SegmentationScores(3, name="all")])
        each.evaluate(images, masks, batch_size=2, verbose=0)  # counts are reset between two evaluations
        scores.append(each.evaluate(images, masks, batch_size=2, verbose=0, return_dict=True))
    assert {"miou", "dice", "iou_2"} <= set(scores[1])
    assert scores[0].keys() == scores[1].keys()
    for name, expected in scores[0].items():
        np.testing.assert_allclose(scores[1][name], expected, rtol=1e-6, err_msg=name)
    confusion = np.zeros((3, 3), int)
    labels = np.asarray(model(images)).argmax(-1)
    np.add.at(confusion, (masks[masks != 255], labels[masks != 255]), 1)
    hits = confusion.diagonal()
    np.testing.assert_allclose(
        scores[1]["miou"], (hits / (confusion.sum(0) + confusion.sum(1) - hits)).mean(), rtol=1e-6
    )


def test_callbacks_of_keras_3_are_called(batch: tuple[np.ndarray, ...]) -> None:
    images, masks, _ = batch
    seen: list[str] = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(f"batch {batch}")

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen.append(f"epoch {epoch} {sorted(logs)}")
            self.model.stop_training = epoch == 1

    twin = to_tf_keras(segmenter())
    twin.compile(keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.01, 10)), ku.CrossEntropy())
    twin.fit(images, masks, batch_size=2, epochs=5, verbose=0, callbacks=[Watch()])
    assert seen == [line for epoch in (0, 1) for line in ("batch 0", "batch 1", f"epoch {epoch} ['loss']")]


def test_optimizers_keep_their_arguments() -> None:
    adam = adapt_optimizer(keras.optimizers.Adam(0.02, beta_1=0.8, clipnorm=1.0, weight_decay=0.1))
    config = adam.get_config()
    assert (type(adam).__name__, config["beta_1"], config["clipnorm"], config["weight_decay"]) == (
        "Adam",
        0.8,
        1.0,
        0.1,
    )
    np.testing.assert_allclose(config["learning_rate"], 0.02, rtol=1e-6)
    assert adapt_optimizer("adam") == "adam"
    assert adapt_optimizer(adam) is adam


@pytest.mark.parametrize(
    ("use", "named"),
    [
        (lambda: adapt_loss("cross_entropy"), "cross_entropy"),
        (lambda: adapt_loss(lambda y, p: 0.0), "loss"),
        (lambda: adapt_metric(print), "metric"),
        (lambda: adapt_callback(print), "callback"),
        (lambda: adapt_optimizer(keras.optimizers.Adam(gradient_accumulation_steps=2)), "gradient_accumulation_steps"),
        (lambda: adapt_optimizer(keras.optimizers.Muon()), "Muon"),
        (lambda: to_tf_keras(segmenter()).compile("sgd", ku.Dice(), jit_compile=True), "XLA"),
    ],
    ids=["text", "function", "no metric", "no callback", "accumulation", "muon", "xla"],
)
def test_what_cannot_be_adapted_is_refused(use: Any, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        use()


CHILD = """
import os, sys
before = dict(os.environ)
import keras_unetres.quantization
assert not {"tf_keras", "tensorflow_model_optimization"} & set(sys.modules), "imported with the room"
from keras_unetres.quantization.tfmot.imports import load_tfmot
load_tfmot()
assert {"tf_keras", "tensorflow_model_optimization"} <= set(sys.modules)
import keras, tensorflow as tf
for module in (tf.keras, tf.compat.v1.keras, tf.compat.v2.keras):
    assert module.__version__ == keras.__version__, module
assert issubclass(tf.losses.Loss, keras.losses.Loss)
after = {key: value for key, value in os.environ.items() if key.startswith("TF_USE")}
assert after == {key: value for key, value in before.items() if key.startswith("TF_USE")}, after
"""


@pytest.mark.slow
def test_loading_it_changes_no_other_keras_and_no_environment() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD], env=environment, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr[-2000:]
