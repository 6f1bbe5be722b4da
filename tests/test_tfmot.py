"""Training under tensorflow-model-optimization: where it rounds, to what, and the way to the native form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from own_networks import OWN_NETWORKS, tiny_segmenter, with_statistics

import keras_unetres as ku
from keras_unetres.models.fake_quant import as_converted
from keras_unetres.quantization.folding import Folded, fold
from keras_unetres.quantization.native import build_native, set_ranges
from keras_unetres.quantization.ranges import find_ranges
from keras_unetres.quantization.tfmot.engine import quantize_tfmot, to_native, trained_ranges
from unetres_edge.errors import ModelError, UsageError


@dataclass(frozen=True)
class Case:
    """A folded network with images, masks and ranges for it."""

    folded: Folded
    images: np.ndarray
    masks: np.ndarray
    ranges: dict[str, tuple[float, float]]


def case(model: keras.Model) -> Case:
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs[0], model.outputs[0])
    random = np.random.default_rng(0)
    images = random.uniform(0, 1, (4, *model.input_shape[1:])).astype(np.float32)
    folded = fold(with_statistics(model))
    outputs = np.asarray(model(images, training=False))
    masks = random.integers(0, outputs.shape[-1], outputs.shape[:-1])
    return Case(folded, images, masks, find_ranges(folded, images))


def answers(model: Any, images: np.ndarray) -> np.ndarray:
    return np.asarray(model(images, training=False))


def assert_equal_but_for_ties(model: Any, native: keras.Model, images: np.ndarray, share: float = 1e-3) -> None:
    """Equal outputs of the same sums in float, but where a value lies so close between two levels that bits decide.

    Bilinear resizing by 2 weighs levels by quarters and meets such values all the time. The native form also rounds
    biases to what the file's sums can hold.
    """
    expected = answers(model, images)
    with as_converted():
        found = answers(native, images)
    assert np.ptp(expected) > 0
    assert (np.abs(expected - found) > 1e-6 * np.abs(expected).max()).mean() <= share
    assert (expected.argmax(-1) != found.argmax(-1)).mean() <= max(1e-3, share / 10)


@pytest.fixture(scope="module")
def unet() -> Case:
    """A U-Net of this package."""
    keras.utils.set_random_seed(1)
    return case(ku.build_unet((16, 16, 3), 3, filters=4, depth=2))


@pytest.fixture(scope="module")
def tiny() -> Case:
    """A network of four layers."""
    keras.utils.set_random_seed(4)
    return case(tiny_segmenter())


@pytest.fixture(scope="module")
def trained(unet: Case) -> Any:
    """It, trained for some steps."""
    model = quantize_tfmot(unet.folded, unet.ranges, momentum=0.9)
    model.compile(keras.optimizers.Adam(0.003), ku.CrossEntropy() + 0.5 * ku.Dice(), metrics=[ku.MeanIoU(3)])
    model.fit(unet.images, unet.masks, batch_size=2, epochs=4, verbose=0)
    return model


def test_before_training_it_is_the_native_form(unet: Case) -> None:
    model = quantize_tfmot(unet.folded, unet.ranges)
    native = build_native(unet.folded)
    set_ranges(native, unet.ranges)
    # Biases of zeros, of transposed convolutions alone, are traced as a quarter of a step: more values meet a tie.
    assert_equal_but_for_ties(model, native, unet.images, share=0.03)
    assert_equal_but_for_ties(model, to_native(model, unet.folded), unet.images, share=0.03)
    assert len(model.trainable_weights) == len(unet.folded.model.trainable_weights)


def test_trained_weights_and_ranges_come_back(unet: Case, trained: Any) -> None:
    native = to_native(trained, unet.folded)
    assert_equal_but_for_ties(trained, native, unet.images)
    for layer in unet.folded.model.layers:
        if layer.weights:
            assert np.abs(np.asarray(native.get_layer(layer.name).kernel) - np.asarray(layer.kernel)).max() > 1e-3


def test_training_lowers_the_loss(unet: Case, trained: Any) -> None:
    fresh = quantize_tfmot(unet.folded, unet.ranges)
    fresh.compile("sgd", ku.CrossEntropy() + 0.5 * ku.Dice())
    before = fresh.evaluate(unet.images, unet.masks, verbose=0)
    assert trained.evaluate(unet.images, unet.masks, verbose=0, return_dict=True)["loss"] < 0.9 * before


def rounded(kernel: np.ndarray, axes: tuple[int, ...] | None) -> np.ndarray:
    """A kernel at the 255 levels of int8 that are symmetric about 0, by the formula of LiteRT's specification."""
    scale = np.abs(kernel).max(axes, keepdims=True) / 127
    return np.round(kernel / scale) * scale


@pytest.mark.parametrize(
    ("make", "axes"),
    [
        (lambda: layers.Conv2D(5, 3, name="conv"), (0, 1, 2)),
        (lambda: layers.DepthwiseConv2D(3, name="conv"), (0, 1, 3)),
        (lambda: layers.Conv2DTranspose(5, 3, name="conv"), None),
    ],
    ids=["a scale a channel", "a scale a channel, depthwise", "one scale"],
)
def test_kernels_and_outputs_lie_on_their_levels(make: Callable[[], Any], axes: tuple[int, ...] | None) -> None:
    keras.utils.set_random_seed(3)  # before the layer is made, which draws the seed of its weights
    image = layers.Input((8, 8, 4), name="image")
    one = case(keras.Model(image, make()(image)))
    low, high = one.ranges["conv"]
    model = quantize_tfmot(one.folded, {"image": (0.0, 255 / 256), "conv": (low, high)})
    step = 1 / 256
    images = np.minimum(np.round(one.images / step), 255) * step
    float_model = keras.models.clone_model(one.folded.model)
    float_layer = float_model.get_layer("conv")
    float_layer.kernel.assign(rounded(np.asarray(one.folded.model.get_layer("conv").kernel, np.float64), axes))
    float_layer.bias.assign(one.folded.model.get_layer("conv").bias)
    # The range that is rounded to holds the one given, and 0 is one of its levels.
    first, last = trained_ranges(model)["conv"]
    scale = (last - first) / 255
    assert first <= low + 1e-6 and last >= high - 1e-6 and last - first < 1.02 * (high - low)
    assert abs(first / scale - round(first / scale)) < 1e-4
    found = answers(model, images)
    levels = found / scale
    assert np.abs(levels - np.round(levels)).max() < 1e-3
    assert len(np.unique(np.round(levels))) <= 256
    assert np.abs(found - np.clip(answers(float_model, images), first, last)).max() <= 0.51 * scale


def test_ranges_follow_the_batches_as_a_moving_average(tiny: Case) -> None:
    model = quantize_tfmot(tiny.folded, tiny.ranges, momentum=0.75)
    before = trained_ranges(model)
    model.compile(keras.optimizers.SGD(0.0), ku.CrossEntropy())
    model.fit(tiny.images, tiny.masks, batch_size=4, epochs=1, verbose=0)
    after = trained_ranges(model)
    # The first tensor behind the input has the same values in every step, as nothing is learned at a rate of 0.
    name = next(point.name for point in tiny.folded.points if "re_lu" in point.name)
    native = build_native(tiny.folded)
    set_ranges(native, before)
    probe = keras.Model(native.inputs, native.get_layer(name).output)
    most = float(np.asarray(probe([tiny.images], training=True)).max())  # at inference it is rounded
    np.testing.assert_allclose(after[name][1], 0.75 * before[name][1] + 0.25 * most, rtol=1e-5)
    assert after[name][1] != before[name][1]
    assert after["image"] == before["image"]  # a device feeds all levels


def test_tensors_of_one_point_share_the_widest_range(unet: Case, trained: Any) -> None:
    point = next(point for point in unet.folded.points if len(point.layers) > 2)
    quantizers = [trained.get_layer(name).quantize_config.output for name in point.layers]
    shared = quantizers[0].shared
    assert all(each.shared is shared for each in quantizers)
    assert sorted(each.place for each in quantizers) == list(range(len(point.layers)))
    highs = shared.variables["high"].numpy()
    assert len(set(highs)) > 1
    np.testing.assert_allclose(float(shared.limits()[1]), highs.max())


def test_zeros_are_kept(tiny: Case) -> None:
    pruned = keras.models.clone_model(tiny.folded.model)
    random = np.random.default_rng(5)
    for target, source in zip(pruned.layers, tiny.folded.model.layers, strict=True):
        target.set_weights([np.where(random.uniform(size=v.shape) < 0.5, 0, v) for v in source.get_weights()])
    folded = Folded(pruned, tiny.folded.points)
    model = quantize_tfmot(folded, tiny.ranges, keep_zeros=True)
    model.compile(keras.optimizers.Adam(0.01), ku.CrossEntropy())
    model.fit(tiny.images, tiny.masks, batch_size=2, epochs=1, verbose=0)
    native = to_native(model, folded, keep_zeros=True)
    assert_equal_but_for_ties(model, native, tiny.images)
    for layer in pruned.layers:
        if layer.weights:
            before, after = np.asarray(layer.kernel), np.asarray(native.get_layer(layer.name).kernel)
            np.testing.assert_array_equal(after == 0, before == 0)
            assert (after != before).any()


def test_frozen_layers_and_ranges_of_momentum_1_do_not_change(tiny: Case) -> None:
    frozen = keras.models.clone_model(tiny.folded.model)
    frozen.set_weights(tiny.folded.model.get_weights())
    names = [layer.name for layer in frozen.layers if layer.weights]
    frozen.get_layer(names[0]).trainable = False
    folded = Folded(frozen, tiny.folded.points)
    model = quantize_tfmot(folded, tiny.ranges, momentum=1)
    before = trained_ranges(model)
    model.compile(keras.optimizers.SGD(0.1), ku.CrossEntropy())
    model.fit(tiny.images, tiny.masks, batch_size=4, epochs=1, verbose=0)
    assert trained_ranges(model) == before
    native = to_native(model, folded)
    for name in names[:2]:
        equal = np.array_equal(np.asarray(native.get_layer(name).kernel), np.asarray(frozen.get_layer(name).kernel))
        assert equal == (name == names[0])


NETWORKS = {
    "resnet20_v2": lambda: ku.build_unet((32, 16, 3), 2, filters=4, encoder="resnet20_v2"),  # pre-activation
    "bilinear": lambda: ku.build_unet((16, 16, 3), 2, filters=4, depth=2, upsampling="bilinear"),
    **OWN_NETWORKS,
    **{
        name: lambda name=name: getattr(keras.applications, name)(  # type: ignore[misc]
            weights=None, input_shape=(64, 64, 3), classes=3, classifier_activation=None
        )
        for name in ("ResNet50", "ResNet50V2", "MobileNetV2")
    },
}
LONG = {"resnet20_v2", "bilinear", "ResNet50", "ResNet50V2", "MobileNetV2"}
SLOW = {"inception_net", "squeeze_unet"}
TIERS = {name: pytest.mark.long if name in LONG else pytest.mark.slow for name in LONG | SLOW}


@pytest.mark.parametrize("name", [pytest.param(name, marks=TIERS.get(name, ())) for name in NETWORKS])
def test_networks_that_it_refuses_by_itself_are_trained(name: str) -> None:
    keras.utils.set_random_seed(2)
    one = case(NETWORKS[name]())
    model = quantize_tfmot(one.folded, one.ranges, momentum=0.9)
    loss = ku.CrossEntropy() if one.masks.ndim == 3 else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.001), loss)
    history = model.fit(one.images, one.masks, batch_size=2, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    resizes = any(isinstance(layer, layers.UpSampling2D) for layer in one.folded.model.layers)
    assert_equal_but_for_ties(model, to_native(model, one.folded), one.images, 0.05 if resizes else 1e-3)


@pytest.mark.parametrize(
    ("ranges", "momentum", "named"),
    [
        ({}, 0.9, "no range for the point"),
        ({"extra": (0.0, 1.0)}, 0.9, "no point 'extra'"),
        ({"image": (0.0, float("nan"))}, 0.9, "'image'.*nan"),
        ({"image": (1.0, 0.0)}, 0.9, "'image'"),
        ({"image": (0.0, 1.0)}, 1.5, "momentum"),
    ],
)
def test_ranges_that_cannot_be_used_are_refused(unet: Case, ranges: Any, momentum: float, named: str) -> None:
    given = {**unet.ranges, **ranges} if ranges else {}
    with pytest.raises(UsageError, match=named):
        quantize_tfmot(unet.folded, given, momentum=momentum)


def test_what_is_not_folded_or_of_another_network_is_refused(unet: Case, trained: Any) -> None:
    image = layers.Input((16, 16, 3))
    raw = keras.Model(image, layers.BatchNormalization(name="norm")(image))
    with pytest.raises(ModelError, match="'norm'"):
        quantize_tfmot(Folded(raw, ()), {})
    other = fold(keras.Model(image, layers.Conv2D(2, 3, name="other")(image)))
    with pytest.raises(ModelError, match="'other'"):
        to_native(trained, other)
