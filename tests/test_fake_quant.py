"""Fake quantization: the folded network computes what the original did, the native form what its int8 file does."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from lite import assert_int8_between_quantizes, partitions
from networks import NETWORKS
from own_networks import OWN_NETWORKS, every_op, with_statistics

import keras_unetres as ku
from keras_unetres.models.fake_quant import QUANTIZED, FakeQuant, QuantizedConv2D, int8_range, is_quantization_aware
from keras_unetres.quantization.folding import fold
from keras_unetres.quantization.native import build_native, range_name, set_ranges
from keras_unetres.quantization.ranges import METHODS, _least_squares, _percentile, find_ranges
from unetres_edge import Preprocessing
from unetres_edge.engines.litert import LiteRTEngine
from unetres_edge.errors import ConversionError, UnetresError, UsageError
from unetres_edge.model.card import read_card

GOLDEN = Path(__file__).with_name("golden")
QUICK = ("unet_residual", "fcn_softmax", "every_op")
FOLDED = ("unet", "unet_paper", "unet_residual", "unet_bilinear", "resnet20_v2", "fcn_softmax")


def numbers(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def flat(model: keras.Model) -> keras.Model:
    return keras.Model(model.inputs, model.outputs) if isinstance(model, keras.Sequential) else model


def networks() -> dict[str, Any]:
    rows = {name: NETWORKS[name].build for name in FOLDED if name in NETWORKS}
    return rows | {"every_op": every_op} | {f"own_{name}": build for name, build in OWN_NETWORKS.items()}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in networks()]
)
def test_folded_network_has_the_outputs_of_the_original(name: str) -> None:
    keras.utils.set_random_seed(0)
    model = with_statistics(flat(networks()[name]()))
    images = numbers((2, *model.input_shape[1:])) if None not in model.input_shape[1:] else numbers((2, 32, 32, 3))
    expected = model.predict(images, verbose=0)
    found = fold(model).model.predict(images, verbose=0)
    assert np.abs(expected - found).max() <= 3e-6 * np.abs(expected).max()


@pytest.mark.parametrize("name", networks())
def test_nothing_but_kernels_is_left_and_every_tensor_has_a_range_or_a_relu(name: str) -> None:
    folded = fold(flat(networks()[name]()))
    kinds = {type(layer) for layer in folded.model.layers}
    assert not kinds & {layers.BatchNormalization, layers.Rescaling, layers.SeparableConv2D, layers.Normalization}
    quantized = [layer for point in folded.points for layer in point.layers]
    assert len(quantized) == len(set(quantized))
    for layer in folded.model.layers:
        if layer.name not in quantized:
            (user,) = (node.operation for node in layer._outbound_nodes)
            assert isinstance(user, layers.ReLU), f"{layer.name} is neither quantized nor fused with a ReLU"


def with_layer(layer: Any) -> keras.Model:
    image = keras.Input((8, 8, 4))
    return keras.Model(image, layers.Conv2D(2, 1)(layer(layers.Conv2D(4, 3, padding="same")(image))))


@pytest.mark.parametrize(
    "layer",
    [
        layers.LayerNormalization(name="bad"),
        layers.GroupNormalization(2, name="bad"),
        layers.PReLU(name="bad"),
        layers.ELU(name="bad"),
        layers.Activation("gelu", name="bad"),
        layers.Conv2D(4, 3, padding="same", groups=2, name="bad"),
        layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="bad"),
        layers.SeparableConv2D(4, 3, padding="same", depth_multiplier=2, name="bad"),
        layers.Conv2D(4, 3, padding="same", activation="gelu", name="bad"),
        layers.UpSampling2D(2, interpolation="bicubic", name="bad"),
        layers.ReLU(max_value=3, name="bad"),
        layers.Lambda(lambda x: x, name="bad"),
        keras.Sequential([layers.Input((8, 8, 4)), layers.ReLU()], name="bad"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_has_no_int8_form_is_refused_by_name(layer: Any) -> None:
    with pytest.raises(UsageError, match="bad"):
        fold(with_layer(layer))


def test_a_layer_used_twice_and_a_function_are_refused() -> None:
    image, shared = keras.Input((8, 8, 4)), layers.Conv2D(4, 3, padding="same", name="bad")
    with pytest.raises(UsageError, match="bad is used 2 times"):
        fold(keras.Model(image, layers.Conv2D(2, 1)(shared(shared(image)))))
    with pytest.raises(UsageError, match="is a function"):
        fold(keras.Model(image, layers.Conv2D(2, 1)(keras.ops.abs(image))))


def test_sigmoid_joined_with_other_values_is_refused() -> None:
    image = keras.Input((8, 8, 4))
    gate = layers.Activation("sigmoid", name="gate")(layers.Conv2D(4, 1)(image))
    joined = layers.Concatenate(name="joined")([gate, layers.Conv2D(4, 1)(image)])
    with pytest.raises(UsageError, match="one int8 range"):
        fold(keras.Model(image, layers.Conv2D(2, 1)(joined)))


@pytest.mark.parametrize("low, high", [(0, 1), (-1, 1), (-3, 0), (-0.001, 7), (-5, 0.001), (2, 3), (-1e-3, 1e5)])
def test_int8_range_holds_the_values_and_zero_on_its_levels(low: float, high: float) -> None:
    first, last = int8_range(low, high)
    step = (last - first) / 255
    assert first <= min(low, 0) + 1e-9 and last >= max(high, 0) - 1e-9
    assert abs(first / step - round(first / step)) < 1e-6
    assert last - first <= (max(high, 0) - min(low, 0)) * 256 / 253  # not wider than it must be


def test_fake_quantization_rounds_to_levels_and_passes_gradients_inside_its_range() -> None:
    import tensorflow as tf

    layer = FakeQuant(-1, 1)
    x = tf.constant([-2.0, -0.51, 0.0031, 0.7, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    step = 1 / 127
    expected = np.clip(np.round(x.numpy() / step), -128, 127) * step
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-6)
    np.testing.assert_array_equal(tape.gradient(y, x).numpy(), [0, 1, 1, 1, 0])
    assert not layer.trainable_weights


def test_kernels_have_a_scale_for_each_channel_and_zeros_stay() -> None:
    layer = QuantizedConv2D(filters=3, kernel_size=1, keep_zeros=True)
    layer.build((None, 4, 4, 5))
    kernel = numbers((1, 1, 5, 3)) * np.array([1.0, 0.01, 100.0], np.float32)
    kernel[0, 0, 1] = 0
    layer.kernel.assign(kernel)
    layer.freeze_zeros()
    layer.kernel.assign(kernel + (kernel == 0) * 0.3)
    found = np.asarray(layer.rounded(layer.kernel)[0])
    step = np.abs(kernel).max((0, 1, 2)) / 127
    np.testing.assert_allclose(found, np.round(kernel / step) * step, rtol=1e-5, atol=1e-9)
    assert (found[0, 0, 1] == 0).all()


def exported(model: keras.Model, path: Path) -> tuple[bytes, LiteRTEngine]:
    size = model.input_shape[1:3]
    pre = Preprocessing(channels=model.input_shape[-1], value_range=(-1, 1), size=size, fit="resize")
    ku.export_tflite(model, path, recipe="static_wi8_ai8", preprocessing=pre)
    data = path.read_bytes()
    return data, LiteRTEngine(data, read_card(data))


BIT_FOR_BIT = {
    "unet": lambda: ku.build_unet((32, 32, 3), 4, filters=4, depth=2),
    "unet_bilinear": lambda: ku.build_unet((32, 32, 3), 4, filters=4, depth=2, upsampling="bilinear"),
    "every_op": every_op,
    "own_squeeze_unet": OWN_NETWORKS["squeeze_unet"],
}


# A U-Net is compared with its file by `test_quantize.py`, too.
BY_TIER = {"every_op": (), "unet": pytest.mark.long}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=BY_TIER.get(name, pytest.mark.slow)) for name in BIT_FOR_BIT]
)
def test_the_int8_file_computes_what_the_native_form_computes(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    model = with_statistics(flat(BIT_FOR_BIT[name]()))
    levels = np.random.default_rng(1).integers(0, 256, (6, *model.input_shape[1:]), np.uint8)
    pre = Preprocessing(channels=levels.shape[-1], value_range=(-1, 1))
    images = pre.normalise(levels)
    native = ku.quantize_aware(model, images)
    assert is_quantization_aware(native) and not is_quantization_aware(model)
    data, engine = exported(native, tmp_path / "m.tflite")
    assert_int8_between_quantizes(data)
    assert partitions(data) == (2 if name == "every_op" else 1)  # XNNPACK has no mean with padding
    expected = native.predict(images, verbose=0)
    found = np.stack([engine.run(tile) for tile in levels])
    np.testing.assert_allclose(found, expected, atol=engine.codec.step / 100)
    assert len(np.unique(found)) > 50


@pytest.mark.parametrize("jit", [False, True])
def test_a_level_is_that_of_float32_products_taken_in_the_kernels_order(jit: bool) -> None:
    """One value in a million lies so near the middle of two levels that the last bit of a factor decides."""
    import tensorflow as tf

    rng = np.random.default_rng(1)
    layer = QuantizedConv2D(filters=64, kernel_size=1)
    layer.build((None, 64, 64, 4))
    x = rng.integers(-127, 128, (1, 64, 64, 4)).astype(np.float32)
    compute = tf.function(lambda x: layer(x, training=False), jit_compile=jit)
    for _ in range(40):
        layer.kernel.assign(rng.normal(0, 1, (1, 1, 4, 64)))
        taken, given = (np.float32(factor * rng.uniform(0.005, 0.05)) for factor in (1, 3))
        layer.set_steps([taken], given, 0)
        kernel, _, step = (np.asarray(each) for each in layer.rounded(layer.kernel))
        sums = x.reshape(-1, 4).astype(np.float64) @ np.round(kernel.reshape(4, 64) / step)
        expected = np.round(sums.astype(np.float32) * (taken * step / given))
        found = np.round(compute(x * taken).numpy().reshape(expected.shape) / given)
        assert (found != expected).sum() == 0


def test_training_computes_the_same_but_for_values_between_two_levels() -> None:
    keras.utils.set_random_seed(1)
    images = numbers((4, 32, 32, 3))
    native = ku.quantize_aware(with_statistics(BIT_FOR_BIT["unet"]()), images)
    step = native.layers[-1].step
    exact, quick = (np.asarray(native(images, training=training)) for training in (False, True))
    assert (np.abs(exact - quick) < step / 2).mean() > 0.98
    assert np.abs(exact - quick).max() < 2 * step


def test_the_gradient_at_inference_is_that_of_training() -> None:
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    native = ku.quantize_aware(
        with_statistics(ku.build_unet((16, 16, 1), 2, filters=4, depth=1)), numbers((4, 16, 16, 1))
    )
    images = tf.constant(numbers((2, 16, 16, 1), seed=3))
    gradients = []
    for training in (False, True):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(native(images, training=training) ** 2)
        gradients.append(np.concatenate([g.numpy().ravel() for g in tape.gradient(loss, native.trainable_weights)]))
    assert np.abs(gradients[0] - gradients[1]).max() < 0.05 * np.abs(gradients[1]).max()
    assert np.abs(gradients[1]).max() > 0


@pytest.mark.parametrize("end", ["softmax", "sigmoid"])
def test_probabilities_at_the_end_are_not_rounded_as_the_file_leaves_them_out(end: str) -> None:
    """Of 151 classes most would be a multiple of 1/256 that others are, too."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    model = keras.Model(inputs, layers.Conv2D(151, 1, activation=end)(x))
    images = np.random.default_rng(0).uniform(0, 1, (8, 16, 16, 3)).astype(np.float32)
    aware = ku.quantize_aware(model, images, allow_disagreement=True)
    scores = keras.Model(aware.inputs, aware.layers[-1].input)
    labels = aware.predict(images, verbose=0).argmax(-1)
    assert (labels == scores.predict(images, verbose=0).argmax(-1)).mean() > 0.999
    end = f"{model.layers[-1].name}_{end}_range"  # which the weights of runs hold
    assert end in {layer.name for layer in build_native(fold(model)).layers} - {layer.name for layer in aware.layers}


def test_ranges_by_all_methods_hold_most_of_the_values() -> None:
    model = with_statistics(ku.build_unet((16, 16, 1), 2, filters=4, depth=1))
    images = numbers((8, 16, 16, 1))
    images[0, 0, 0] = 9.0  # far out
    folded = fold(model)
    found = {method: find_ranges(folded, images, method=method) for method in METHODS}
    for name, (low, high) in found["minmax"].items():
        for method in ("percentile", "mse"):
            inner = found[method][name]
            assert low - 1e-6 <= inner[0] <= inner[1] <= high + 1e-6
    head = [point.name for point in folded.points][-1]
    outputs = folded.model.predict(images, verbose=0)
    assert found["minmax"][head] == pytest.approx((outputs.min(), outputs.max()), rel=1e-5)


def test_percentiles_and_least_squares_are_those_of_the_values() -> None:
    values = np.random.default_rng(0).normal(0, 1, 200_000)
    values[:5] = 40.0
    low, high = values.min(), values.max()
    counts = np.histogram(values, 2048, (low, high))[0]
    bin_width = (high - low) / 2048
    first, last = _percentile(counts, low, high)
    assert first == pytest.approx(np.percentile(values, 0.01), abs=2 * bin_width)
    assert last == pytest.approx(np.percentile(values, 99.99), abs=2 * bin_width)

    def error(bounds: tuple[float, float]) -> float:
        begin, end = int8_range(*bounds)
        step = (end - begin) / 255
        rounded = np.clip(np.round(values / step), round(begin / step), round(end / step)) * step
        return float(np.mean((rounded - values) ** 2))

    cuts = np.linspace(0.1, 1, 19)
    tried = [error((low * below, high * above)) for below in cuts for above in cuts]
    assert error(_least_squares(counts, low, high)) <= 1.02 * min(tried)
    assert min(tried) < 0.95 * error((low, high))


def test_a_range_is_set_by_the_name_of_its_point() -> None:
    native = build_native(fold(ku.build_unet((16, 16, 1), 2, filters=4, depth=1)))
    with pytest.raises(UsageError, match="nowhere"):
        set_ranges(native, {"nowhere": (0, 1)})
    set_ranges(native, {"image": (0.0, 1.0)})
    assert native.get_layer(range_name("image")).step == pytest.approx(1 / 255)
    assert float(native.get_layer("encoder1_1_conv").input_step) == pytest.approx(1 / 255)


@pytest.mark.parametrize(
    "calibration, error",
    [
        (None, ConversionError),
        ([], ConversionError),
        (np.zeros((2, 8, 8, 1), np.float32), ConversionError),
        (np.full((2, 16, 16, 1), np.nan, np.float32), ConversionError),
    ],
    ids=["none", "empty", "size", "nan"],
)
def test_bad_calibration_is_a_named_error(calibration: Any, error: type[UnetresError]) -> None:
    with pytest.raises(error, match="calibration"):
        ku.quantize_aware(ku.build_unet((16, 16, 1), 2, filters=4, depth=1), calibration)


@pytest.mark.slow
def test_it_learns_by_an_ordinary_fit_and_survives_a_file(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = ku.build_unet((16, 16, 1), 2, filters=4, depth=1)
    images = numbers((8, 16, 16, 1))
    masks = (images[..., 0] > 0).astype(np.uint8)
    native = ku.quantize_aware(model, images)
    native.compile(keras.optimizers.Adam(0.03), loss=ku.CrossEntropy())
    losses = native.fit(images, masks, epochs=25, verbose=0).history["loss"]
    assert losses[-1] < 0.6 * losses[0]
    ranges = native.get_layer(range_name("image")).step
    native.save(tmp_path / "native.keras")
    with warnings.catch_warnings():
        # Keras 3.15 misses the second place of a layer that is called twice, whose weights it has set at the first.
        warnings.filterwarnings("ignore", "Skipping nested container")
        again = keras.models.load_model(tmp_path / "native.keras", safe_mode=True)
    np.testing.assert_array_equal(again.predict(images, verbose=0), native.predict(images, verbose=0))
    assert again.get_layer(range_name("image")).step == ranges


# ----------------------------------------------------------------------------------------- files of earlier versions


def test_a_keras_file_of_the_first_version_loads_and_answers_as_it_did() -> None:
    """Every registered layer by its name; `golden/make_quantization_aware.py` made it with version 0.1.0."""
    model = keras.models.load_model(GOLDEN / "quantization_aware.keras")
    kinds = {type(layer) for layer in model.layers}
    assert set(QUANTIZED.values()) | {FakeQuant} <= kinds
    assert is_quantization_aware(model)
    images = np.random.default_rng(7).uniform(-1, 1, (8, 16, 16, 3)).astype(np.float32)
    assert np.array_equal(model.predict(images, verbose=0), np.load(GOLDEN / "quantization_aware.npy"))
