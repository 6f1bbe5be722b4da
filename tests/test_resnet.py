"""ResNets: published counts, the identity of a block bit for bit, where strides lie, and dilation against striding."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from keras_unetres.choices.networks import VARIANTS
from keras_unetres.models import build_resnet, encode, feature_pyramid, receptive_field
from keras_unetres.models.blocks import Conv, post_activation_block, pre_activation_block
from keras_unetres.models.catalog import multiply_adds
from unetres_edge.errors import UsageError

# He 2015, table 1: blocks in each stage, and whether they are bottlenecks.
TABLE_1 = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
# Torchvision's documentation of its ResNets.
IMAGENET_PARAMETERS = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}
# Of a PyTorch implementation with parameter-free shortcuts (akamaster/pytorch_resnet_cifar10); He 2015, table 6,
# rounds them to 0.27, 0.46, 0.66, 0.85 and 1.7 million.
CIFAR_PARAMETERS = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}
# He 2015, table 1, last row, at 224 x 224.
MULTIPLY_ADDS = {18: 1.8e9, 34: 3.6e9, 50: 3.8e9, 101: 7.6e9, 152: 11.3e9}
# Araujo, Norris and Sim 2019 for 50, 101 and 152.
RECEPTIVE_FIELDS = {18: 435, 34: 899, 50: 483, 101: 1027, 152: 1507}


def quick(rows: Iterable[Any], *kept: Any) -> list[Any]:
    """The rows of a parametrization; all but those kept, of many layers, are left to the slow tests."""
    tiers = [() if row in kept else pytest.mark.slow for row in rows]
    rows = [row if isinstance(row, tuple) else (row,) for row in rows]
    return [pytest.param(*row, marks=tier) for row, tier in zip(rows, tiers, strict=True)]


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_weights)


def count_imagenet(depth: int, variant: str) -> int:
    """Parameters of a network of 1000 classes, counted block by block from He 2015, table 1, and He 2016, figure 1."""
    blocks, bottleneck = TABLE_1[depth]
    total, channels = 7 * 7 * 3 * 64 + 2 * 64, 64
    for number, filters in zip(blocks, (64, 128, 256, 512), strict=True):
        out = 4 * filters if bottleneck else filters
        for block in range(number):
            three = (3, channels if not bottleneck else filters, filters)
            convs = [(1, channels, filters), three, (1, filters, out)] if bottleneck else [three, (3, filters, out)]
            total += sum(kernel * kernel * before * after for kernel, before, after in convs)
            if variant == "v2":
                total += sum(2 * before for _, before, _ in (convs[1:] if block == 0 else convs))
            else:
                total += sum(2 * after for *_, after in convs)
            if channels != out and variant != "plain":
                total += channels * out + (0 if variant == "v2" else 2 * out)
            channels = out
        total += 2 * out if variant == "v2" else 0
    return total + channels * 1000 + 1000


def randomise(model: keras.Model, seed: int = 0) -> None:
    """Give every norm statistics, scale and shift of its own; kernels keep their He initialisation."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            for variable in (layer.gamma, layer.moving_variance):
                variable.assign(rng.uniform(0.5, 1.5, variable.shape))
            for variable in (layer.beta, layer.moving_mean):
                variable.assign(rng.normal(0, 0.3, variable.shape))


def images(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def values(model: keras.Model, tensors: Any, pictures: np.ndarray) -> Any:
    found = keras.Model(model.input, tensors)(pictures)
    return [np.asarray(value) for value in found] if isinstance(found, (list, tuple)) else np.asarray(found)


def sources(layer: keras.Layer) -> list[keras.Layer]:
    """Return the layers that feed a layer, padding and the stem's pooling looked through."""
    found = []
    for tensor in layer._inbound_nodes[0].input_tensors:
        source = tensor._keras_history.operation
        found += sources(source) if source.name.endswith("_pad") or source.name == "stem_pool" else [source]
    return found


def assert_close(found: np.ndarray, expected: np.ndarray, relative: float) -> None:
    scale = np.abs(expected).max()
    assert found.shape == expected.shape
    assert scale > 0
    assert np.abs(found - expected).max() <= relative * scale


@pytest.fixture(scope="module")
def v1() -> Callable[[int], keras.Model]:
    """Build each network once; no test changes its weights."""
    return functools.cache(build_resnet)


@pytest.mark.parametrize("depth", quick(IMAGENET_PARAMETERS, 18, 50))
def test_parameters_of_the_imagenet_form_are_those_published(v1: Callable[[int], keras.Model], depth: int) -> None:
    assert trainable(v1(depth)) == IMAGENET_PARAMETERS[depth]


@pytest.mark.parametrize("depth", quick(CIFAR_PARAMETERS, 20))
def test_parameters_of_the_cifar_form_are_those_published(depth: int) -> None:
    assert trainable(build_resnet(depth, num_classes=10)) == CIFAR_PARAMETERS[depth]


@pytest.mark.parametrize(
    "depth", [pytest.param(50, marks=pytest.mark.slow), *(pytest.param(n, marks=pytest.mark.long) for n in (101, 152))]
)
def test_v15_moves_strides_and_adds_no_parameter(depth: int) -> None:
    assert trainable(build_resnet(depth, variant="v1.5")) == IMAGENET_PARAMETERS[depth]


@pytest.mark.parametrize("depth", quick(CIFAR_PARAMETERS, 20))
def test_the_shortcuts_of_the_cifar_form_have_no_parameter(depth: int) -> None:
    assert trainable(build_resnet(depth, num_classes=10, variant="plain")) == CIFAR_PARAMETERS[depth]


@pytest.mark.parametrize(
    "depth", [*quick((18, 34, 50), 18), *(pytest.param(n, marks=pytest.mark.long) for n in (101, 152))]
)
def test_plain_networks_have_all_but_the_projections(depth: int) -> None:
    _, bottleneck = TABLE_1[depth]
    outs = [(4 if bottleneck else 1) * filters for filters in (64, 128, 256, 512)]
    projections = sum(
        before * after + 2 * after for before, after in zip([64, *outs], outs, strict=False) if before != after
    )
    assert trainable(build_resnet(depth, variant="plain")) == IMAGENET_PARAMETERS[depth] - projections


@pytest.mark.parametrize("depth", quick((18, 34, 50, 101), 18))
def test_parameters_of_v2_are_those_counted_block_by_block(depth: int) -> None:
    assert count_imagenet(depth, "v1") == IMAGENET_PARAMETERS[depth]  # the counting itself is right
    assert trainable(build_resnet(depth, variant="v2")) == count_imagenet(depth, "v2")


@pytest.mark.parametrize("depth", quick(CIFAR_PARAMETERS, 20))
def test_parameters_of_v2_in_cifar_form(depth: int) -> None:
    """Of each stage, v2 leaves out the norm of its first block's input and adds one at its end (He 2016, appendix)."""
    first, last = 16 + 16 + 32, 16 + 32 + 64
    n = (depth - 2) // 6
    moved = 2 * (last - first) + 2 * (n - 1) * (16 + 32 + 64) + 2 * n * (16 + 32 + 64) + 2 * first
    norms = 2 * 2 * n * (16 + 32 + 64)
    expected = CIFAR_PARAMETERS[depth] - norms + moved
    assert trainable(build_resnet(depth, num_classes=10, variant="v2")) == expected


@pytest.mark.parametrize("depth", quick(MULTIPLY_ADDS, 18, 50))
def test_multiply_adds_are_those_of_the_paper(v1: Callable[[int], keras.Model], depth: int) -> None:
    assert multiply_adds(v1(depth), (224, 224)) == pytest.approx(MULTIPLY_ADDS[depth], rel=0.03)


def test_multiply_adds_counted_by_hand() -> None:
    image = keras.Input((8, 6, 2))
    x = layers.Conv2D(3, 3, strides=2, padding="same")(image)  # 4 x 3 places of 3x3, 2 -> 3 channels
    x = layers.BatchNormalization()(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)  # 4 x 3 places of 3x3, each of 3 channels
    x = layers.Conv2DTranspose(5, 2, strides=2)(x)  # 4 x 3 places of 2x2, 3 -> 5 channels
    x = layers.Conv2DTranspose(4, 3, strides=1, padding="same")(x)  # 8 x 6 places of 3x3, 5 -> 4 channels
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(10)(x)
    model = keras.Model(image, x)
    expected = 12 * 9 * 2 * 3 + 12 * 9 * 3 + 12 * 4 * 3 * 5 + 48 * 9 * 5 * 4 + 4 * 10
    assert multiply_adds(model, (8, 6)) == expected
    assert multiply_adds(keras.Model(image, model.layers[4].output), (8, 6)) == 648 + 324 + 720


def test_multiply_adds_of_a_transposed_convolution_whose_kernel_overlaps() -> None:
    image = keras.Input((4, 4, 2))
    model = keras.Model(image, layers.Conv2DTranspose(3, 3, strides=2)(image))
    assert multiply_adds(model, (4, 4)) == 4 * 4 * 3 * 3 * 2 * 3


IDENTITY_BLOCKS = {"basic": (4, [Conv(4, 3), Conv(4, 3)]), "bottleneck": (8, [Conv(4, 1), Conv(4, 3), Conv(8, 1)])}
# The stride of a bottleneck in its 1x1 convolution (v1) and in its 3x3 convolution (v1.5, v2).
HALVING_BLOCKS = {
    "basic": (4, [Conv(8, 3, 2), Conv(8, 3)]),
    "bottleneck-1x1": (4, [Conv(2, 1, 2), Conv(2, 3), Conv(8, 1)]),
    "bottleneck-3x3": (4, [Conv(2, 1), Conv(2, 3, 2), Conv(8, 1)]),
}


def block_model(channels: int, convs: list[Conv], shortcut: str | None, *, v2: bool) -> keras.Model:
    keras.utils.set_random_seed(1)  # of few channels, some seeds let nothing through
    image = keras.Input((8, 6, channels))
    if v2:
        x = pre_activation_block(image, convs, "block", shortcut=shortcut, activated=False)
    else:
        x = post_activation_block(image, convs, "block", shortcut=shortcut, out="out")
    model = keras.Model(image, x)
    randomise(model)
    return model


def zero_residual(model: keras.Model, block: str, last: int) -> None:
    """Make the residual branch of a block give exactly 0: by its last norm in v1, by its last kernel in v2."""
    norm = next((layer for layer in model.layers if layer.name == f"{block}_{last}_norm"), None)
    kernel = model.get_layer(f"{block}_{last}_conv")
    if norm is not None and sources(norm)[0] is kernel:
        norm.gamma.assign(np.zeros(norm.gamma.shape))
        norm.beta.assign(np.zeros(norm.beta.shape))
    else:
        kernel.kernel.assign(np.zeros(kernel.kernel.shape))


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


@pytest.mark.parametrize("v2", [False, True], ids=["v1", "v2"])
@pytest.mark.parametrize("name", IDENTITY_BLOCKS)
def test_a_block_without_residual_is_the_identity_bit_for_bit(name: str, v2: bool) -> None:
    channels, convs = IDENTITY_BLOCKS[name]
    model, pictures = block_model(channels, convs, "projection", v2=v2), images(2, 8, 6, channels)
    expected = pictures if v2 else relu(pictures)
    assert not np.array_equal(np.asarray(model(pictures)), expected)
    zero_residual(model, "block", len(convs))
    np.testing.assert_array_equal(np.asarray(model(pictures)), expected)


@pytest.mark.parametrize("name", IDENTITY_BLOCKS)
def test_a_plain_block_without_residual_is_zero(name: str) -> None:
    channels, convs = IDENTITY_BLOCKS[name]
    model = block_model(channels, convs, None, v2=False)
    assert np.asarray(model(images(1, 8, 6, channels))).any()
    zero_residual(model, "block", len(convs))
    assert not np.asarray(model(images(1, 8, 6, channels))).any()


@pytest.mark.parametrize("v2", [False, True], ids=["v1", "v2"])
@pytest.mark.parametrize("name", HALVING_BLOCKS)
def test_the_free_shortcut_takes_every_second_pixel_and_appends_zeros_bit_for_bit(name: str, v2: bool) -> None:
    channels, convs = HALVING_BLOCKS[name]
    model, pictures = block_model(channels, convs, "free", v2=v2), images(2, 8, 6, channels)
    zero_residual(model, "block", len(convs))
    every_second = pictures[:, ::2, ::2]
    expected = np.concatenate([every_second, np.zeros_like(every_second)], -1)
    np.testing.assert_array_equal(np.asarray(model(pictures)), expected if v2 else relu(expected))


@pytest.mark.parametrize("v2", [False, True], ids=["v1", "v2"])
@pytest.mark.parametrize("name", HALVING_BLOCKS)
def test_the_projection_is_a_1x1_convolution_of_every_second_pixel(name: str, v2: bool) -> None:
    channels, convs = HALVING_BLOCKS[name]
    model, pictures = block_model(channels, convs, "projection", v2=v2), images(2, 8, 6, channels)
    zero_residual(model, "block", len(convs))
    shortcut = model.get_layer("block_shortcut_conv" if v2 else "block_shortcut_norm")
    found, projected = values(model, [model.output, shortcut.output], pictures)
    np.testing.assert_array_equal(found, projected if v2 else relu(projected))
    kernel = np.asarray(model.get_layer("block_shortcut_conv").kernel, np.float64)[0, 0]
    expected = pictures[:, ::2, ::2].astype(np.float64) @ kernel
    if not v2:
        norm = [np.asarray(v, np.float64) for v in shortcut.weights]
        gamma, beta, mean, variance = norm
        expected = gamma * (expected - mean) / np.sqrt(variance + shortcut.epsilon) + beta
    assert_close(projected, expected, 1e-5)


NETWORKS = [(18, "v1"), (50, "v1"), (50, "v1.5"), (18, "v2"), (50, "v2"), (20, "v1"), (20, "v2")]


@pytest.mark.parametrize(("depth", "variant"), quick(NETWORKS, *[row for row in NETWORKS if row[0] < 50]))
def test_every_block_adds_its_input_to_its_residual(depth: int, variant: str) -> None:
    """H(x) = R(x) + x (He 2015, section 3.1), bit for bit; ReLU follows in v1 only."""
    model = build_resnet(depth, (32, 64, 3), include_top=False, variant=variant)
    randomise(model)
    adds = [layer for layer in model.layers if isinstance(layer, layers.Add)]
    blocks = TABLE_1[depth][0] if depth in TABLE_1 else (3, 3, 3)
    assert len(adds) == sum(blocks)
    outs = [add if variant == "v2" else add._outbound_nodes[0].operation for add in adds]
    assert all(variant == "v2" or isinstance(out, layers.ReLU) for out in outs)
    tensors = [(*add._inbound_nodes[0].input_tensors, out.output) for add, out in zip(adds, outs, strict=True)]
    found = values(model, [tensor for three in tensors for tensor in three], images(1, 32, 64, 3))
    for identity, residual, out in zip(found[::3], found[1::3], found[2::3], strict=True):
        total = identity + residual
        assert residual.any() and identity.any()
        np.testing.assert_array_equal(out, total if variant == "v2" else relu(total))
    identities = [sources(add)[0] for add in adds]
    passed = [
        identity.name
        for identity, add in zip(identities, adds, strict=True)
        if not identity.name.startswith(add.name.removesuffix("_add"))
    ]
    changes = {18: 3, 50: 4, 20: 2}[depth]  # only the first blocks of stages change size or channels
    assert len(passed) == len(adds) - changes


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_a_cifar_network_without_residuals_is_its_stem_subsampled(variant: str) -> None:
    model = build_resnet(20, (16, 24, 3), include_top=False, variant=variant)
    randomise(model)
    for layer in model.layers:
        if match := re.fullmatch(r"(stage\d_block\d)_add", layer.name):
            zero_residual(model, match[1], 2)
    last = [layer for layer in model.layers if isinstance(layer, layers.Add)][-1]
    stem, found = values(model, [model.get_layer("stem_out").output, last.output], images(2, 16, 24, 3))
    if variant == "v1":
        expected = np.concatenate([stem[:, ::4, ::4], *[np.zeros_like(stem[:, ::4, ::4])] * 3], -1)
        np.testing.assert_array_equal(found, expected)
    else:  # stages end in norm and ReLU, by which the next one's shortcut is fed
        for number in (1, 2):
            norm = model.get_layer(f"stage{number}_out_norm")
            gamma, beta, mean, variance = (np.asarray(v, np.float64) for v in norm.weights)
            stem = relu(gamma * (stem - mean) / np.sqrt(variance + norm.epsilon) + beta)[:, ::2, ::2]
            stem = np.concatenate([stem, np.zeros_like(stem)], -1)
        assert_close(found, stem, 1e-5)


@pytest.mark.parametrize("depth", quick((18, 50, 20), 18, 20))
def test_v2_has_norm_and_relu_before_every_convolution(depth: int) -> None:
    """He 2016, figure 1b, and its appendix for the first block of a stage and the end of the network."""
    model = build_resnet(depth, variant="v2")
    convs = [layer for layer in model.layers if isinstance(layer, layers.Conv2D) and layer.name != "stem_conv"]
    assert len(convs) == {18: 16 + 3, 50: 48 + 4, 20: 18}[depth]
    for conv in convs:
        (relu_layer,) = sources(conv)
        assert isinstance(relu_layer, layers.ReLU), conv.name
        assert [type(layer) for layer in sources(relu_layer)] == [layers.BatchNormalization], conv.name
    stages = 3 if depth == 20 else 4
    for number in range(1, stages + 1):
        (first,) = sources(model.get_layer(f"stage{number}_block1_1_conv"))
        assert first.name == (f"stage{number - 1}_out" if number > 1 else "stem_out")
        identity = sources(model.get_layer(f"stage{number}_block1_add"))[0]
        while identity.name.startswith(f"stage{number}_block1_shortcut"):
            identity = sources(identity)[0]
        assert identity is first
    (after,) = (node.operation for node in model.get_layer(f"stage{stages}_out")._outbound_nodes)
    assert after.name == "head_pool"
    (norm,) = sources(model.get_layer(f"stage{stages}_out"))
    assert isinstance(norm, layers.BatchNormalization)
    assert isinstance(sources(norm)[0], layers.Add)
    second = sources(model.get_layer(f"stage{stages}_block2_add"))[0]
    assert second.name == f"stage{stages}_block1_add"  # between blocks the sum is passed on untouched


@pytest.mark.parametrize(
    ("depth", "variant", "place", "kernel"),
    [
        *[(18, "v1", 1, 3), (18, "v2", 1, 3), (20, "v1", 1, 3), (50, "v1.5", 2, 3)],
        *quick([(50, "v1", 1, 1), (50, "plain", 1, 1), (50, "v2", 2, 3)]),
    ],
)
def test_where_a_stage_halves_the_size(depth: int, variant: str, place: int, kernel: int) -> None:
    model = build_resnet(depth, variant=variant)
    strided = {
        layer.name: layer.kernel_size
        for layer in model.layers
        if isinstance(layer, layers.Conv2D) and layer.strides != (1, 1)
    }
    stages = (2, 3) if depth == 20 else (2, 3, 4)
    expected = {f"stage{stage}_block1_{place}_conv": (kernel, kernel) for stage in stages}
    if depth != 20:
        expected["stem_conv"] = (7, 7)
    if depth != 20 and variant != "plain":
        expected |= {f"stage{stage}_block1_shortcut_conv": (1, 1) for stage in stages}
    assert strided == expected


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    assert [v.path for v in target.weights] == [v.path for v in source.weights]
    target.set_weights(source.get_weights())


DILATIONS = [
    (18, "v1", (4, 8, 16)),
    *[pytest.param(18, variant, (4, 8, 16), marks=pytest.mark.slow) for variant in ("v2", "plain")],
    *[pytest.param(50, variant, (8, 16), marks=pytest.mark.slow) for variant in ("v1", "v2")],
    *[pytest.param(50, variant, (8, 16), marks=pytest.mark.long) for variant in ("v1.5", "plain")],
    *[
        pytest.param(20, variant, (1, 2), marks=() if variant == "v1" else pytest.mark.long)
        for variant in VARIANTS
        if variant != "v1.5"
    ],
]


@pytest.mark.parametrize(("depth", "variant", "output_strides"), DILATIONS)
def test_a_dilated_network_sampled_is_the_strided_network(
    depth: int, variant: str, output_strides: tuple[int, ...]
) -> None:
    """Dilation computes at every pixel what striding computes at some (Yu 2016)."""
    open_shape = {"input_shape": (None, None, 3), "include_top": False, "variant": variant}
    strided = build_resnet(depth, **open_shape)
    randomise(strided)
    deepest, size = (4, (16, 10)) if depth == 20 else (32, (64, 40))  # a multiple of the deepest stride, and not
    pictures = images(1, *size, 3)
    sparse = np.asarray(strided(pictures))
    for output_stride in output_strides:
        dilated = build_resnet(depth, **open_shape, output_stride=output_stride)
        copy_weights(strided, dilated)
        assert max(feature_pyramid(dilated)) == output_stride
        dense, step = np.asarray(dilated(pictures)), deepest // output_stride
        assert dense.shape[1:3] == tuple(-(-side // output_stride) for side in size)
        assert_close(dense[:, ::step, ::step], sparse, 1e-4)


@pytest.mark.parametrize(
    ("depth", "variant"), quick(((18, "plain"), (34, "v1"), (50, "v1.5"), (50, "v2")), (18, "plain"))
)
def test_feature_maps_of_the_imagenet_form(depth: int, variant: str) -> None:
    """Channels and sizes of He 2015, table 1."""
    widths = (64, *((256, 512, 1024, 2048) if depth == 50 else (64, 128, 256, 512)))
    model = build_resnet(depth, (224, 192, 3), variant=variant)
    pyramid = feature_pyramid(model)
    expected = {
        stride: (None, 224 // stride, 192 // stride, width)
        for stride, width in zip((2, 4, 8, 16, 32), widths, strict=True)
    }
    assert {stride: tuple(x.shape) for stride, x in pyramid.items()} == expected
    assert list(pyramid) == [2, 4, 8, 16, 32]
    name = model.name
    found = encode(name, keras.Input((224, 192, 3)))
    assert {stride: tuple(x.shape) for stride, x in found.items()} == expected
    owner = {stride: x._keras_history.operation.name for stride, x in found.items()}
    assert {stride: x._keras_history.operation.name for stride, x in pyramid.items()} == owner
    assert pyramid[32] is sources(model.get_layer("head_pool"))[0].output


@pytest.mark.parametrize("variant", ["v1", "v2", "plain"])
def test_feature_maps_of_the_cifar_form(variant: str) -> None:
    """He 2015, section 4.2: sizes 32, 16, 8 with 16, 32, 64 channels."""
    expected = {1: (None, 32, 32, 16), 2: (None, 16, 16, 32), 4: (None, 8, 8, 64)}
    model = build_resnet(20, variant=variant)
    assert model.input_shape == (None, 32, 32, 3)
    pyramid = feature_pyramid(model)
    assert {stride: tuple(x.shape) for stride, x in pyramid.items()} == expected
    assert pyramid[1] is model.get_layer("stage1_out").output
    found = encode(model.name, keras.Input((32, 32, 3)))
    assert {stride: tuple(x.shape) for stride, x in found.items()} == expected


def test_dilated_stages_share_the_deepest_stride() -> None:
    found = encode("resnet18", keras.Input((64, 64, 3)), output_stride=8)
    assert {stride: tuple(x.shape) for stride, x in found.items()} == {
        2: (None, 32, 32, 64),
        4: (None, 16, 16, 64),
        8: (None, 8, 8, 512),
    }


def field(depth: int, variant: str) -> int:
    """Araujo, Norris and Sim 2019, eq. 2: 1 + sum of (kernel - 1) times the strides before it."""
    blocks, bottleneck = TABLE_1[depth]
    steps = [(7, 2), (3, 2)]
    for stage, number in enumerate(blocks):
        for block in range(number):
            stride = 2 if stage and not block else 1
            if not bottleneck:
                steps += [(3, stride), (3, 1)]
            elif variant == "v1":
                steps += [(1, stride), (3, 1), (1, 1)]
            else:
                steps += [(1, 1), (3, stride), (1, 1)]
    size, jump = 1, 1
    for kernel, stride in steps:
        size, jump = size + (kernel - 1) * jump, jump * stride
    return size


@pytest.mark.parametrize("depth", quick(RECEPTIVE_FIELDS, 18, 50))
def test_the_receptive_field_is_that_published(v1: Callable[[int], keras.Model], depth: int) -> None:
    pyramid = feature_pyramid(v1(depth))
    assert field(depth, "v1") == RECEPTIVE_FIELDS[depth]
    assert receptive_field(v1(depth), pyramid[32]) == RECEPTIVE_FIELDS[depth]
    assert receptive_field(v1(depth), pyramid[2]) == 7


@pytest.mark.parametrize("variant", quick(("v1.5", "v2"), "v1.5"))
def test_the_receptive_field_where_the_3x3_convolutions_are_strided(variant: str) -> None:
    model = build_resnet(50, (None, None, 3), include_top=False, variant=variant)
    assert receptive_field(model) == field(50, variant)


def test_the_heads() -> None:
    keras.utils.set_random_seed(3)
    logits, softmax = (build_resnet(20, num_classes=5, head_activation=head) for head in (None, "softmax"))
    softmax.set_weights(logits.get_weights())
    pictures = images(3, 32, 32, 3)
    found, raw = np.asarray(softmax(pictures)), np.asarray(logits(pictures), np.float64)
    assert found.shape == (3, 5) and found.dtype == np.float32
    np.testing.assert_allclose(found, np.exp(raw) / np.exp(raw).sum(-1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize(
    ("depth", "variant"),
    [(18, "v1"), (20, "v1"), *quick([(34, "plain"), (50, "v1.5"), (50, "v2")])],
)
def test_a_network_is_flat_named_and_neither_compiled_nor_nested(depth: int, variant: str) -> None:
    model = build_resnet(depth, variant=variant)
    prefix = "plain" if variant == "plain" else "resnet"
    assert model.name == f"{prefix}{depth}" + ("" if variant in ("v1", "plain") else f"_{variant}")
    assert not model.compiled
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    names = [layer.name for layer in model.layers]
    assert [name for name in names if not re.fullmatch(r"image|stem_\w+|stage\d_\w+|head_\w+", name)] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depth": 19}, r"depth is wrong; expected 18, 20, 32, 34, 44, 50, 56, 101, 110, 152; found 19"),
        ({"variant": "v3"}, r"variant is unknown; expected v1, v1\.5, v2, plain; found v3"),
        ({"depth": 18, "variant": "v1.5"}, r"expected depth 50, 101 or 152; found 18; fix: use variant 'v1'"),
        ({"depth": 20, "variant": "v1.5"}, r"fix: use variant 'v1'"),
        ({"output_stride": 12}, r"output_stride is wrong; expected 4 or 8 or 16 or 32; found 12"),
        ({"output_stride": 2}, r"expected 4 or 8 or 16 or 32; found 2"),
        ({"output_stride": 64}, r"expected 4 or 8 or 16 or 32; found 64"),
        ({"depth": 20, "output_stride": 0}, r"expected 1 or 2 or 4 or 8 or 16 or 32; found 0"),
        ({"input_shape": (64, 64)}, r"input_shape is wrong; expected \(height, width, channels\); found \(64, 64\)"),
        ({"input_shape": (64, 64, None)}, r"input_shape is wrong; expected \(height, width, channels\)"),
        ({"input_shape": (64, 64, 0)}, r"input_shape is wrong; expected \(height, width, channels\)"),
        ({"input_shape": (0, 64, 3)}, r"input_shape is wrong; expected \(height, width, channels\)"),
        ({"num_classes": 1}, r"num_classes is wrong; expected a whole number, at least 2; found 1"),
        ({"num_classes": 2.5}, r"num_classes is wrong; expected a whole number, at least 2; found 2\.5"),
        ({"head_activation": "sigmoid"}, r"head_activation is unknown; expected None or 'softmax'; found sigmoid"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_resnet(**{"depth": 18, **arguments})


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(UsageError, match=r"encoder is unknown; expected resnet18, .*resnet50_v1\.5.*; found resnet51"):
        encode("resnet51", keras.Input((64, 64, 3)))
