"""Pruning and clustering: how many zeros and values, where, and what comes back to Keras 3."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from own_networks import separable_fcn, tiny_segmenter, with_statistics

import keras_unetres as ku
from keras_unetres.quantization.tfmot.cluster import Clustered, cluster_model
from keras_unetres.quantization.tfmot.prune import Pruned, choose_layers, deflated_size, prune_model
from unetres_edge.errors import ModelError, UsageError

STEPS = 10


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return with_statistics(tiny_segmenter())


@pytest.fixture(scope="module")
def batch() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    return random.uniform(0, 1, (4, 16, 16, 3)).astype(np.float32), random.integers(0, 3, (4, 16, 16))


@pytest.fixture(scope="module")
def pruned(model: keras.Model, batch: tuple[np.ndarray, ...]) -> Pruned:
    """It, pruned while it was trained, and for some steps after."""
    made = prune_model(model, sparsity=0.75, steps=STEPS, frequency=2)
    made.model.compile(keras.optimizers.Adam(0.01), ku.CrossEntropy())
    made.model.fit(*batch, batch_size=2, epochs=STEPS // 2 + 1, verbose=0, callbacks=made.callbacks)
    return made


@pytest.fixture(scope="module")
def sparse(pruned: Pruned) -> keras.Model:
    return pruned.strip()


@pytest.fixture(scope="module")
def clustered(sparse: keras.Model, batch: tuple[np.ndarray, ...]) -> Clustered:
    """What was pruned, clustered while it was trained."""
    made = cluster_model(sparse, clusters=8, keep_zeros=True)
    made.model.compile(keras.optimizers.Adam(0.001), ku.CrossEntropy())
    made.model.fit(*batch, batch_size=2, epochs=2, verbose=0)
    return made


def answers(model: Any, images: np.ndarray) -> np.ndarray:
    return np.asarray(model(images, training=False))


def kernels(model: keras.Model) -> dict[str, np.ndarray]:
    return {layer.name: np.asarray(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")}


def test_each_chosen_kernel_has_the_share_of_zeros_that_was_asked_for(pruned: Pruned, sparse: keras.Model) -> None:
    assert pruned.layers
    found = kernels(sparse)
    for name, kernel in found.items():
        share = 0.75 if name in pruned.layers else 0.0
        assert abs(np.sum(kernel == 0) - share * kernel.size) <= 1, name


def test_the_largest_weights_stay(model: keras.Model, batch: tuple[np.ndarray, ...]) -> None:
    made = prune_model(model, sparsity=0.5, steps=2, frequency=1)
    made.model.compile(keras.optimizers.SGD(0.0), ku.CrossEntropy())
    made.model.fit(*batch, batch_size=2, epochs=1, verbose=0, callbacks=made.callbacks)
    before, after = kernels(model), kernels(made.strip())
    for name in made.layers:
        size = before[name].size
        largest = np.argsort(-np.abs(before[name]).ravel())[: size - size // 2]
        expected = np.zeros(size, np.float32)
        expected[largest] = before[name].ravel()[largest]
        np.testing.assert_array_equal(after[name].ravel(), expected)


def test_what_is_stripped_answers_as_what_was_trained(
    pruned: Pruned, sparse: keras.Model, clustered: Clustered, batch: tuple[np.ndarray, ...]
) -> None:
    for trained, stripped in ((pruned.model, sparse), (clustered.model, clustered.strip())):
        assert isinstance(stripped, keras.Model)
        expected = answers(trained, batch[0])
        np.testing.assert_allclose(answers(stripped, batch[0]), expected, atol=1e-6 * np.abs(expected).max())


def test_the_original_is_left_as_it_was(model: keras.Model, sparse: keras.Model) -> None:
    assert all(kernel.all() for kernel in kernels(model).values())
    for layer, other in zip(model.layers[1:], sparse.layers[1:], strict=True):
        assert (type(layer), layer.name) == (type(other), other.name)


def test_kernels_have_as_many_values_as_clusters_and_keep_their_zeros(
    sparse: keras.Model, clustered: Clustered
) -> None:
    before, after = kernels(sparse), kernels(clustered.strip())
    assert clustered.layers
    for name in clustered.layers:
        assert 1 < len(np.unique(after[name])) <= 8
        # A weight that was not 0 may come to 0, whose cluster is the nearest.
        assert (after[name][before[name] == 0] == 0).all()
        assert not np.array_equal(after[name], before[name])
    for name in before.keys() - set(clustered.layers):
        assert len(np.unique(after[name])) > 8


def test_clusters_of_a_dense_model(model: keras.Model, batch: tuple[np.ndarray, ...]) -> None:
    made = cluster_model(model, clusters=4, layers=["first"])
    assert made.layers == ("first",)
    after = kernels(made.strip())
    assert len(np.unique(after["first"])) == 4
    assert len(np.unique(after["second"])) == kernels(model)["second"].size


def test_which_layers_are_chosen() -> None:
    model = separable_fcn()
    chosen = choose_layers(model)
    kinds = {layer.name: type(layer).__name__ for layer in model.layers}
    assert {kinds[name] for name in chosen} == {"Conv2D", "SeparableConv2D", "Conv2DTranspose"}
    assert model.layers[-1].name not in chosen  # the scores
    model.get_layer(chosen[0]).trainable = False
    assert choose_layers(model) == chosen[1:]
    image = layers.Input((8, 8, 16))
    depthwise = keras.Model(image, layers.Conv2D(2, 1)(layers.DepthwiseConv2D(3)(image)))
    with pytest.raises(UsageError, match="no layer to prune"):
        choose_layers(depthwise)


def test_separable_convolutions_lose_pointwise_weights_alone(batch: tuple[np.ndarray, ...]) -> None:
    keras.utils.set_random_seed(0)
    image = layers.Input((16, 16, 3))
    x = layers.SeparableConv2D(32, 3, padding="same", name="separable")(image)
    made = prune_model(keras.Model(image, layers.Conv2D(3, 1)(x)), sparsity=0.5, steps=2)
    made.model.compile("sgd", ku.CrossEntropy())
    made.model.fit(*batch, batch_size=2, epochs=1, verbose=0, callbacks=made.callbacks)
    depthwise, pointwise, _ = made.strip().get_layer("separable").get_weights()
    assert (np.mean(pointwise == 0), np.mean(depthwise == 0)) == (0.5, 0)


def test_size_of_a_deflated_file(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 3, 10000, np.uint8).tobytes()
    path = tmp_path / "model.tflite"
    path.write_bytes(data)
    # RFC 1950 and 1952: around the same deflated data zlib has 6 bytes, gzip 18.
    assert deflated_size(path) == deflated_size(data) == len(gzip.compress(data, 9)) - 12


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"sparsity": 1.0, "steps": 5}, "sparsity"),
        ({"sparsity": 0.2, "first": 0.3, "steps": 5}, "sparsity"),
        ({"steps": 0}, "steps"),
        ({"steps": 5, "frequency": 6}, "steps"),
        ({"steps": 5, "layers": ["nothing"]}, "nothing"),
        ({"steps": 5, "layers": []}, "no layer"),
    ],
)
def test_arguments_that_cannot_be_used(model: keras.Model, arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        prune_model(model, **arguments)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"clusters": 1}, "clusters"),
        ({"clusters": 2, "keep_zeros": True}, "clusters"),
        ({"clusters": 3.0}, "clusters"),
        ({"clusters": 300, "layers": ["first"]}, "'first' has only 216"),
        ({"clusters": 10**6}, "has only"),
        ({"layers": ["input"]}, "'input'"),
    ],
)
def test_clusters_that_cannot_be_made(model: keras.Model, arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        cluster_model(model, **arguments)


def test_a_layer_that_tf_keras_does_not_have_is_named() -> None:
    image = layers.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, name="kept")(image)
    model = keras.Model(image, layers.Conv2D(2, 1)(layers.Lambda(keras.ops.abs, name="folded")(x)))
    for change in (lambda: prune_model(model, steps=5), lambda: cluster_model(model)):
        with pytest.raises(ModelError, match="'folded'"):
            change()
