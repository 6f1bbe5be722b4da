"""Quantization-aware training of every network: `quantize_aware`, an ordinary `fit`, an int8 file of one piece.

What the Keras network answers after it is what the file answers, in every value.

By both engines, on every builder, on networks of keras.applications and on networks of users. Each takes half a minute
and more, so all but a few are left to the long tests.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from lite import answer, assert_int8_between_quantizes, partitions
from networks import NETWORKS
from own_networks import OWN_NETWORKS, with_statistics

import keras_unetres as ku
from keras_unetres import models
from keras_unetres.choices.recipes import RECIPES
from keras_unetres.models.catalog import not_int8
from keras_unetres.quantization import ENGINES, to_keras
from keras_unetres.tflite.convert import convert
from keras_unetres.tflite.inspect import read_ops
from unetres_edge.errors import UsageError

INT8 = RECIPES["static_wi8_ai8"]
APPLICATIONS = ("ResNet50", "ResNet50V2", "MobileNetV2")
TIERS = {("own separable_fcn", "native"): pytest.mark.slow, ("unet", "tfmot"): pytest.mark.slow}
Build = Callable[[], keras.Model]


def networks() -> dict[str, tuple[Build, tuple[int, int, int] | None]]:
    """Every network by name, with the (height, width, channels) it is fed with; None for its own input shape."""
    found: dict[str, tuple[Build, tuple[int, int, int] | None]] = {n: (r.build, r.shape) for n, r in NETWORKS.items()}
    for name in APPLICATIONS:
        make = getattr(keras.applications, name)
        found[f"keras {name}"] = (lambda make=make: make(weights=None, input_shape=(64, 64, 3), classes=5)), None
    return found | {f"own {name}": (build, None) for name, build in OWN_NETWORKS.items()}


ALL = networks()
CASES = [
    pytest.param(name, engine, marks=TIERS.get((name, engine), pytest.mark.long), id=f"{name}-{engine}")
    for name in ALL
    for engine in ENGINES
]


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_it_is_quantized_trained_and_exported_in_one_piece(name: str, engine: str) -> None:
    keras.utils.set_random_seed(0)
    build, shape = ALL[name]
    model = with_statistics(build())
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs)
    shape = shape or model.input_shape[1:]
    images = np.random.default_rng(0).uniform(-1, 1, (8, *shape)).astype(np.float32)
    before = np.asarray(model.predict_on_batch(images))

    aware = ku.quantize_aware(model, images, engine=engine)
    aware.compile(keras.optimizers.SGD(1e-3, clipnorm=1.0), keras.losses.MeanSquaredError())
    losses = aware.fit(images, before * 0.9, batch_size=4, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    trained = to_keras(aware)
    data = convert(trained, shape, recipe=INT8, quantization_aware=True)

    faults = [fault for fault in not_int8(model) if "AVERAGE_POOL" not in fault]  # which are convolutions here
    ops = read_ops(data)
    assert all("FLOAT" not in kind for op in ops for kind in (*op.inputs, *op.outputs))
    if not faults:
        assert_int8_between_quantizes(data)
        assert partitions(data) == 1
    interpreter = Interpreter(model_content=data)
    (scale, zero), (step, offset) = (
        ends[0]["quantization"] for ends in (interpreter.get_input_details(), interpreter.get_output_details())
    )
    levels = np.clip(np.round(images / scale) + zero, 0, 255).astype(np.uint8)
    expected = np.asarray(trained.predict_on_batch((levels.astype(np.float32) - zero) * scale))
    expected = np.round(expected / step) + offset
    found = answer(data, levels).astype(np.float32).reshape(expected.shape)
    equal = (found == expected).mean()
    print(f"{name} by {engine}: loss {losses[0]:.2e} to {losses[-1]:.2e}, equal {equal:.6f}")
    assert equal == 1


def test_every_builder_is_here() -> None:
    assert {row.builder for row in NETWORKS.values()} == {name for name in models.__all__ if name.startswith("build_")}
    assert {name for name, _ in TIERS} <= set(ALL)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_has_no_int8_form_is_refused_by_name(engine: str) -> None:
    image = keras.Input((16, 16, 3))
    x = layers.LayerNormalization(name="odd_one")(layers.Conv2D(4, 3, padding="same")(image))
    model = keras.Model(image, layers.Conv2D(2, 1)(x))
    with pytest.raises(UsageError, match="odd_one"):
        ku.quantize_aware(model, np.zeros((2, 16, 16, 3), np.float32), engine=engine)
