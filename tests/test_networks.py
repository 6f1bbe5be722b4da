"""What every network keeps to, whatever its form: each check runs on each row of the table that it applies to.

Nothing here needs TensorFlow: the checks hold on any backend of Keras.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from networks import ALIKE, NETWORKS, Row

from keras_unetres.models import (
    crop_offset,
    feature_pyramid,
    nearest_sizes,
    output_size,
    receptive_field,
    receptive_halo,
)
from keras_unetres.models.geometry import map_sizes
from unetres_edge.errors import UsageError

BATCH = 4


@functools.lru_cache(maxsize=1)
def built(name: str) -> keras.Model:
    """Return the network of a row with random weights and statistics. Not to be changed."""
    keras.utils.set_random_seed(0)
    model = NETWORKS[name].build()
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if not variable.path.endswith("kernel"):
            spread = variable.path.endswith(("gamma", "moving_variance"))
            variable.assign(rng.uniform(0.5 if spread else -0.5, 1.5 if spread else 0.5, variable.shape))
    return model


@functools.lru_cache(maxsize=1)
def opened(name: str) -> keras.Model:
    """Return the network of a row, built once more, for images of any size. A check that uses its weights sets them."""
    row = NETWORKS[name]
    return row.build(input_shape=(None, None, row.shape[2]))


def scores(model: keras.Model) -> Any:
    """Return the output before the softmax, which hides what is small or the same for all classes."""
    last = model.layers[-1]
    return last.input if isinstance(last, layers.Softmax) else last.output


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def run(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(images, training=False))


def run_to(model: keras.Model, tensors: list[Any], images: np.ndarray) -> list[np.ndarray]:
    """Return the values of tensors inside a model."""
    values = keras.Model(model.input, tensors)(images, training=False)
    return [keras.ops.convert_to_numpy(value) for value in (values if len(tensors) > 1 else [values])]


# ------------------------------------------------------------------------------------------------ what comes out


def check_output(name: str, row: Row, folder: Path) -> None:
    model = built(name)
    output = run(model, random_images(BATCH, *row.shape))
    assert output.shape == (BATCH, *row.output)
    assert output.dtype == np.float32
    assert np.isfinite(output).all()
    assert output.std() > 0
    assert model.input_shape == (None, *row.input_shape)
    assert model.output_shape == (None, *((None, None, row.output[-1]) if row.open else row.output))


def check_probabilities(name: str, row: Row, folder: Path) -> None:
    output = run(built(name), random_images(BATCH, *row.shape))
    assert output.min() >= 0
    np.testing.assert_allclose(output.sum(-1), 1, atol=1e-5)


def check_channels(name: str, row: Row, folder: Path) -> None:
    for channels in sorted({1, 2, 4, 7} - {row.shape[2]}):
        model = row.build(input_shape=(*row.shape[:2], channels))
        assert run(model, random_images(1, *row.shape[:2], channels)).shape == (1, *row.output)


def check_mixed_precision(name: str, row: Row, folder: Path) -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = row.build()
    finally:
        keras.config.set_dtype_policy(before)
    inner = [layer for layer in model.layers if isinstance(layer, layers.Conv2D) and layer.name != "head_logits"]
    assert {layer.compute_dtype for layer in inner} == {"float16"}
    assert {variable.dtype for variable in model.weights} == {"float32"}
    assert model.output.dtype == "float32"
    output = run(model, random_images(BATCH, *row.shape))
    assert output.dtype == np.float32
    assert np.isfinite(output).all()


def check_open_and_fixed_size_agree(name: str, row: Row, folder: Path) -> None:
    model, images = built(name), random_images(BATCH, *row.shape)
    other = row.build(input_shape=row.shape) if row.open else opened(name)
    other.set_weights(model.get_weights())
    np.testing.assert_array_equal(run(other, images), run(model, images))


# ------------------------------------------------------------------------------------------------ how it is made


def check_names(name: str, row: Row, folder: Path) -> None:
    model, again = built(name), opened(name)
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names)
    assert [layer.name for layer in again.layers] == names
    assert [weight.path for weight in again.weights] == [weight.path for weight in model.weights]
    assert {weight.path.rpartition("/")[0] for weight in model.weights} <= set(names)


def check_graph_is_flat(name: str, row: Row, folder: Path) -> None:
    for operation in built(name).operations:
        assert isinstance(operation, layers.Layer)
        assert not isinstance(operation, keras.Model)
        assert getattr(layers, type(operation).__name__, None) is type(operation)


def check_saved_file(name: str, row: Row, folder: Path) -> None:
    model, images = built(name), random_images(BATCH, *row.shape)
    model.save(folder / "model.keras")
    again = keras.models.load_model(folder / "model.keras", safe_mode=True)
    assert [weight.path for weight in again.weights] == [weight.path for weight in model.weights]
    np.testing.assert_array_equal(run(again, images), run(model, images))


# ------------------------------------------------------------------------------------------------ how it learns


@functools.lru_cache(maxsize=1)
def trained(name: str) -> tuple[list[str], list[float]]:
    """Train a row for two steps on one batch; return the weights that the first step left as they were, and the losses.

    Without dropout, whose noise is larger than what a step gains.
    """
    row = NETWORKS[name]
    keras.utils.set_random_seed(0)
    model = row.build(**({"dropout": 0.0} if row.dropout else {}))
    rng = np.random.default_rng(1)
    if row.classifier or row.dense:
        # Not the sparse form: after a softmax, Keras 3.15 on PyTorch cannot differentiate it for maps.
        loss: Any = keras.losses.CategoricalCrossentropy(from_logits=not row.softmax)
        targets = np.eye(row.output[-1], dtype=np.float32)[rng.integers(0, row.output[-1], (BATCH, *row.output[:-1]))]
    else:
        loss, targets = "mean_squared_error", rng.uniform(0, 1, (BATCH, *row.output)).astype(np.float32)
    model.compile(keras.optimizers.Adam(3e-5), loss, run_eagerly=True)
    images, before, losses = random_images(BATCH, *row.shape), model.get_weights(), []
    losses.append(float(model.train_on_batch(images, targets)))
    same = [
        w.path for w, old, new in zip(model.weights, before, model.get_weights(), strict=True) if (old == new).all()
    ]
    losses.append(float(model.train_on_batch(images, targets)))
    return same, losses


def check_a_step_changes_every_weight(name: str, row: Row, folder: Path) -> None:
    """Adam moves what has a gradient, however small, and leaves what has none exactly as it was."""
    statistics = [weight for weight in built(name).weights if "/moving_" in weight.path]
    assert len(built(name).trainable_weights) + len(statistics) == len(built(name).weights)
    assert trained(name)[0] == []


def check_training_lowers_the_loss(name: str, row: Row, folder: Path) -> None:
    before, after = trained(name)[1]
    assert after < before


def check_dropout(name: str, row: Row, folder: Path) -> None:
    model, images = built(name), random_images(BATCH, *row.shape)
    assert [layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)] == [row.dropout]
    kept = model.get_weights()  # of which training changes the statistics
    one, two = (keras.ops.convert_to_numpy(model(images, training=True)) for _ in range(2))
    model.set_weights(kept)
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(run(model, images), run(model, images))


# ------------------------------------------------------------------------------------------------ its geometry


def check_feature_pyramid(name: str, row: Row, folder: Path) -> None:
    model = built(name)
    maps = feature_pyramid(model)
    assert list(maps) == sorted(row.maps)
    assert {stride: tensor.shape[-1] for stride, tensor in maps.items()} == row.maps
    outputs = run_to(model, list(maps.values()), random_images(1, *row.shape))
    for (stride, channels), output in zip(row.maps.items(), outputs, strict=True):
        height, width = output.shape[1:3] if not row.padded else (side // stride for side in row.shape[:2])
        assert output.shape == (1, height, width, channels)


def check_map_sizes(name: str, row: Row, folder: Path) -> None:
    model = built(name)
    inner = [layer for layer in model.layers if len(layer.output.shape) == 4]
    outputs = run_to(model, [layer.output for layer in inner], random_images(1, *row.shape))
    seen = {layer.name: output.shape[1:3] for layer, output in zip(inner, outputs, strict=True)}
    assert map_sizes(model, row.shape[:2]) == seen


def check_sizes(name: str, row: Row, folder: Path) -> None:
    """Sizes that suit give an output of the size foretold; the others are refused, and the nearest are named."""
    model = opened(name)
    (height, width, _), step = row.shape, max(row.maps)
    for side in (1, height, height + 1, height + step // 2, height + step - 1, height + step):
        if nearest_sizes(model, side) == (side,):
            output = run(model, random_images(1, side, width, row.shape[2]))
            assert output.shape[1] == output_size(model, side)
            if row.dense:
                assert side - output.shape[1] == 2 * crop_offset(model)
        else:
            named = f"use {' or '.join(map(str, nearest_sizes(model, side)))}$"
            with pytest.raises(UsageError, match=named):
                row.build(input_shape=(side, width, row.shape[2]))
            with pytest.raises(UsageError, match=named):
                output_size(model, side)


def make_positive(model: keras.Model) -> None:
    """Set weights with which nothing cancels and black gives exactly 0."""
    for variable in model.weights:
        value = 0.0 if re.search("bias|beta|moving_mean", variable.path) else 1.0
        if variable.path.endswith("kernel"):
            value = 1 / np.prod(variable.shape[: 2 if "depthwise" in variable.path else -1])
        variable.assign(np.full(variable.shape, value, np.float32))


def check_reach(name: str, row: Row, folder: Path) -> None:
    """Lines of light, at every place within the deepest stride, move what the geometry says, and nothing else.

    The network does to a line shifted by the deepest stride what it does to the line, so these places are all.
    """
    model = opened(name)
    make_positive(model)
    maps = feature_pyramid(model)
    strides, tensors = [*maps], [*maps.values()]
    fields = [receptive_field(model, tensor) for tensor in tensors]
    if row.dense:
        strides.append(1)
        tensors.append(scores(model))
        fields.append(receptive_field(model))
    step = max(row.maps)
    length, thin = nearest_sizes(model, 2 * max(fields) + 4 * step)[-1], nearest_sizes(model, 1)[-1]
    start = length // 2
    images = np.zeros((step, length, thin, row.shape[2]), np.float32)
    images[np.arange(step), start + np.arange(step)] = 1
    parts = [run_to(model, tensors, images[first : first + 8]) for first in range(0, step, 8)]
    for stride, field, values in zip(strides, fields, zip(*parts, strict=True), strict=True):
        moved = np.concatenate(values).any((2, 3))
        line, place = np.nonzero(moved)
        assert place.min() > 0 and place.max() < moved.shape[1] - 1  # the image is long enough to see the end
        distance = start + line - stride * place
        phases = [distance[place % (step // stride) == phase] for phase in range(step // stride)]
        assert max(int(np.ptp(phase)) + 1 for phase in phases) == field
    if row.dense:
        offset = (length - moved.shape[1]) // 2
        assert crop_offset(model) == offset
        assert int(abs(distance - offset).max()) == receptive_halo(model)


def check_axes_are_alike(name: str, row: Row, folder: Path) -> None:
    """A picture that is turned gives a map that is turned, so what holds along one axis holds along the other."""
    model, side = opened(name), max(row.shape[:2])
    make_positive(model)
    images = abs(random_images(1, nearest_sizes(model, side)[-1], nearest_sizes(model, side + 1)[-1], row.shape[2]))
    tensor = [*feature_pyramid(model).values()][-1] if row.classifier else scores(model)
    output, turned = (run_to(model, [tensor], each)[0] for each in (images, images.swapaxes(1, 2)))
    assert output.max() > 0
    np.testing.assert_allclose(turned.swapaxes(1, 2), output, rtol=1e-4, atol=1e-6 * output.max())


# ------------------------------------------------------------------------------------------------ every pair


def applies(check: Callable[..., None], row: Row) -> bool:
    if check is check_probabilities:
        return row.softmax
    if check is check_dropout:
        return row.dropout > 0
    if check is check_channels:  # the table feeds 1, 2, 3, 4 and 7 channels to the larger stem
        return min(row.maps) == 1
    if check is check_mixed_precision:
        return row.classifier or row.dense
    if check is check_sizes:
        return not row.classifier
    return True


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]
LONG = {*ALIKE} - {"unet_open"}
# Of these many layers, the quick tests see what comes out; of the others, everything.
DEEP = {
    "unet_resnet18",
    "unet_resnet20_v2",
    "unet_efficientnet_lite0",
    "resnet20",
    "plain20",
    "resnet18_stride8",
    "fcn_resnet18",
    "fcn_softmax",
}
SLOW = {"unet_open", "resnet50_v2"}
BRIEF = (check_output, check_graph_is_flat, check_feature_pyramid)


def tier(name: str, check: Callable[..., None]) -> list[pytest.MarkDecorator]:
    # resnet20 but for its softmax
    if name in LONG or (name == "resnet20_softmax" and check not in (*BRIEF, check_probabilities)):
        return [pytest.mark.long]
    return [pytest.mark.slow] if name in SLOW or (name in DEEP and check not in BRIEF) else []


PAIRS = [
    pytest.param(name, check, marks=tier(name, check), id=f"{name}-{check.__name__}")
    for name, row in NETWORKS.items()
    for check in CHECKS
    if applies(check, row)
]


@pytest.mark.parametrize(("name", "check"), PAIRS)
def test_network(name: str, check: Callable[[str, Row, Path], None], tmp_path: Path) -> None:
    check(name, NETWORKS[name], tmp_path)
