"""U-Net against Ronneberger 2015: its figures, a forward pass computed apart from Keras, and the sizes that suit."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy.signal import correlate

from keras_unetres.models import build_fcn, build_unet, crop_offset, nearest_sizes, output_size
from keras_unetres.models.geometry import _fits, map_sizes
from keras_unetres.models.heads import check_side
from keras_unetres.models.unet import _sizes
from unetres_edge.errors import UsageError

PAPER: dict[str, Any] = {"padding": "valid", "norm": None, "dropout": 0.5, "head_activation": "softmax"}
SMALL: dict[str, Any] = {"input_shape": (None, None, 1), "filters": 1}


@pytest.fixture(scope="module")
def paper() -> keras.Model:
    """The network of the paper. No test changes its weights."""
    keras.utils.set_random_seed(0)
    return build_unet((572, 572, 1), 2, **PAPER)


def count_parameters() -> int:
    """Parameters of figure 1, kernels and biases, from the numbers written in it."""
    down = [(1, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512), (512, 1024)]
    up = [(1024, 1024), (1024, 512), (512, 512), (512, 256), (256, 256), (256, 128), (128, 128), (128, 64), (64, 64)]
    total = sum(9 * before * after + after for before, after in down + up)
    total += sum(4 * 2 * after * after + after for after in (512, 256, 128, 64))
    return total + 64 * 2 + 2


def convolutions(model: keras.Model) -> list[keras.Layer]:
    return [layer for layer in model.layers if isinstance(layer, (layers.Conv2D, layers.Conv2DTranspose))]


def test_the_network_has_the_parameters_of_the_paper(paper: keras.Model) -> None:
    assert count_parameters() == 31_030_658
    assert paper.count_params() == 31_030_658
    assert len(paper.trainable_weights) == len(paper.weights)


def test_the_network_has_23_convolutional_layers(paper: keras.Model) -> None:
    """Ronneberger 2015, section 2."""
    assert len(convolutions(paper)) == 23
    assert all(layer.use_bias for layer in convolutions(paper))
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in paper.layers)


def test_the_maps_have_the_sizes_of_figure_1(paper: keras.Model) -> None:
    sizes = map_sizes(paper, (572, 572))
    assert all(height == width for height, width in sizes.values())
    found = [sizes[layer.name][0] for layer in convolutions(paper)]
    assert found == [
        *(570, 568, 282, 280, 138, 136, 66, 64, 30, 28),
        *(56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388, 388),
    ]
    assert found == [layer.output.shape[1] for layer in convolutions(paper)]  # geometry agrees with Keras
    assert paper.output_shape == (None, 388, 388, 2)


def test_skips_are_cropped_as_in_figure_1(paper: keras.Model) -> None:
    """64 to 56, 136 to 104, 280 to 200, 568 to 392 px."""
    crops = {layer.name: layer.cropping for layer in paper.layers if isinstance(layer, layers.Cropping2D)}
    assert crops == {f"decoder{level}_crop": ((n, n), (n, n)) for level, n in zip((4, 3, 2, 1), (4, 16, 40, 88))}  # noqa: B905
    for level, (before, after) in {4: (64, 56), 3: (136, 104), 2: (280, 200), 1: (568, 392)}.items():
        layer = paper.get_layer(f"decoder{level}_crop")
        assert (layer.input.shape[1], layer.output.shape[1]) == (before, after)
        assert layer.input is paper.get_layer(f"encoder{level}_out").output
        skip = paper.get_layer(f"decoder{level}_skip")
        assert [x.shape[1] for x in skip.input] == [after, after]
        assert skip.input[0] is layer.output


@pytest.mark.parametrize("name", ["encoder2_2", "encoder4_1", "bridge_2", "decoder4_1", "decoder2_2"])
def test_convolutions_start_as_he_2015_prescribes(paper: keras.Model, name: str) -> None:
    """Ronneberger 2015, section 3: standard deviation sqrt(2 / N), N the incoming nodes of one neuron."""
    kernel = np.asarray(paper.get_layer(f"{name}_conv").kernel)
    incoming = kernel.shape[0] * kernel.shape[1] * kernel.shape[2]
    # The deviation of n samples scatters by 1 / sqrt(2 n); five times that is allowed.
    assert kernel.std() == pytest.approx(np.sqrt(2 / incoming), rel=5 / np.sqrt(2 * kernel.size))
    assert abs(kernel.mean()) < 5 * kernel.std() / np.sqrt(kernel.size)
    assert not np.asarray(paper.get_layer(f"{name}_conv").bias).any()


def test_up_convolutions_start_as_he_2015_prescribes(paper: keras.Model) -> None:
    """A pixel of a 2x2 up-convolution with stride 2 has one incoming node for each channel of its input."""
    ups = [paper.get_layer(f"decoder{level}_up") for level in (4, 3, 2, 1)]
    expected = [np.sqrt(2 / up.input.shape[-1]) for up in ups]
    assert [np.asarray(up.kernel).std() for up in ups] == pytest.approx(expected, rel=0.02)


def test_dropout_is_at_the_end_of_the_contracting_path() -> None:
    """Ronneberger 2015, section 3.1."""
    keras.utils.set_random_seed(1)
    model = build_unet((188, 188, 1), filters=4, **PAPER)
    drops = [layer for layer in model.layers if isinstance(layer, layers.Dropout)]
    assert [layer.rate for layer in drops] == [0.5]
    assert drops[0].input is model.get_layer("bridge_out").output
    assert model.get_layer("decoder4_up").input is drops[0].output
    inner = keras.Model(model.input, [drops[0].input, drops[0].output])
    images = np.random.default_rng(1).random((1, 188, 188, 1), np.float32)
    before, after = (np.asarray(x) for x in inner(images, training=True))
    kept = after != 0
    np.testing.assert_array_equal(after[kept], 2 * before[kept])
    assert 0.4 < (after[before > 0] == 0).mean() < 0.6
    before, after = (np.asarray(x) for x in inner(images, training=False))
    np.testing.assert_array_equal(after, before)


class Reference:
    """A forward pass of one image, (H, W, C) float64, by scipy's correlation, with the weights of a model by name."""

    def __init__(self, model: keras.Model, *, padding: str, residual: bool) -> None:
        self.weights = {v.path: np.asarray(v, np.float64) for v in model.weights}
        self.epsilon = {x.name: x.epsilon for x in model.layers if isinstance(x, layers.BatchNormalization)}
        self.valid, self.residual = padding == "valid", residual

    def conv(self, x: np.ndarray, name: str) -> np.ndarray:
        kernel = self.weights[f"{name}_conv/kernel"]
        if not self.valid:
            margin = kernel.shape[0] // 2
            x = np.pad(x, ((margin, margin), (margin, margin), (0, 0)))
        x = np.concatenate(
            [correlate(x, kernel[..., o], mode="valid", method="direct") for o in range(kernel.shape[-1])], -1
        )
        return self.norm(x + self.weights.get(f"{name}_conv/bias", 0), name)

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        if f"{name}_norm" not in self.epsilon:
            return x
        gamma, beta, mean, variance = (
            self.weights[f"{name}_norm/{kind}"] for kind in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (x - mean) / np.sqrt(variance + self.epsilon[f"{name}_norm"]) + beta

    def double(self, x: np.ndarray, name: str) -> np.ndarray:
        y = self.conv(np.maximum(self.conv(x, f"{name}_1"), 0), f"{name}_2")
        if self.residual:
            shortcut = x[2:-2, 2:-2] if self.valid else x
            if f"{name}_shortcut_conv/kernel" in self.weights:
                shortcut = self.conv(shortcut, f"{name}_shortcut")
            y = y + shortcut
        return np.maximum(y, 0)

    def up(self, x: np.ndarray, name: str) -> np.ndarray:
        kernel = self.weights[f"{name}/kernel"]  # (2, 2, after, before)
        height, width, _ = x.shape
        y = np.einsum("hwc,abfc->hawbf", x, kernel).reshape(2 * height, 2 * width, -1)
        return y + self.weights[f"{name}/bias"]

    def logits(self, x: np.ndarray, depth: int) -> np.ndarray:
        skips = []
        for level in range(1, depth + 1):
            x = self.double(x, f"encoder{level}")
            skips.append(x)
            height, width, channels = x.shape
            x = x.reshape(height // 2, 2, width // 2, 2, channels).max((1, 3))
        x = self.double(x, "bridge")
        for level in range(depth, 0, -1):
            x = self.up(x, f"decoder{level}_up")
            skip = skips[level - 1]
            lost = [(before - after) // 2 for before, after in zip(skip.shape[:2], x.shape[:2], strict=True)]
            skip = skip[lost[0] : lost[0] + x.shape[0], lost[1] : lost[1] + x.shape[1]]
            x = self.double(np.concatenate([skip, x], -1), f"decoder{level}")
        return x @ self.weights["head_logits/kernel"][0, 0] + self.weights["head_logits/bias"]


@pytest.mark.parametrize(
    ("shape", "depth", "padding", "norm", "residual"),
    [
        ((188, 204, 1), 4, "valid", None, False),
        ((44, 52, 2), 2, "valid", None, False),
        ((44, 44, 3), 2, "valid", "batch", False),
        ((44, 44, 3), 2, "valid", None, True),
        ((48, 32, 1), 4, "same", None, False),
        ((16, 24, 3), 2, "same", "batch", False),
        ((16, 24, 3), 2, "same", "batch", True),
    ],
)
def test_the_forward_pass_is_that_of_an_independent_one(
    shape: tuple[int, int, int], depth: int, padding: str, norm: str | None, residual: bool
) -> None:
    keras.utils.set_random_seed(4)
    arguments = {"filters": 2, "depth": depth, "padding": padding, "norm": norm, "residual": residual}
    model = build_unet(shape, 3, dropout=0.5, **arguments)
    rng = np.random.default_rng(5)
    for variable in model.weights:
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif not variable.path.endswith("kernel"):
            variable.assign(rng.normal(0, 0.3, variable.shape))
    image = rng.normal(size=shape).astype(np.float32)
    found = np.asarray(model(image[None]))[0]
    expected = Reference(model, padding=padding, residual=residual).logits(image.astype(np.float64), depth)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert expected.std() > 0.01 * np.abs(expected).max()  # it is a picture, not one number
    softmax = build_unet(shape, 3, head_activation="softmax", **arguments)
    softmax.set_weights(model.get_weights())
    exponents = np.exp(expected - expected.max(-1, keepdims=True))
    probabilities = exponents / exponents.sum(-1, keepdims=True)
    np.testing.assert_allclose(np.asarray(softmax(image[None]))[0], probabilities, atol=1e-5)


@pytest.mark.slow
def test_sizes_around_the_paper_s() -> None:
    """A size suits if every map to be pooled is even: 16 k - 4, of which 572 = 16 x 36 - 4 is the paper's."""
    model = build_unet(**SMALL, **PAPER)
    assert nearest_sizes(model, 600) == (588, 604)
    assert nearest_sizes(model, 572) == (572,)
    assert nearest_sizes(model, 100) == (188,)
    assert output_size(model, 572) == 388
    assert output_size(model, 588) == 404
    assert output_size(model, 188) == 4
    assert crop_offset(model) == 92
    with pytest.raises(UsageError, match="input size 600 does not suit the model; fix: use 588 or 604"):
        output_size(model, 600)
    with pytest.raises(UsageError, match="input size 1 does not suit the model; fix: use 188"):
        output_size(model, 1)


def test_sizes_with_same_padding() -> None:
    model = build_unet(**SMALL)
    assert nearest_sizes(model, 600) == (592, 608)
    assert output_size(model, 592) == 592
    assert crop_offset(model) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input_shape": (600, 572, 1), **PAPER}, "input size 600 does not suit depth 4 unpadded; .* use 588 or 604$"),
        (
            {"input_shape": (572, 600, 1), **PAPER},
            "expected a multiple of 16 plus 12, at least 188; .* use 588 or 604$",
        ),
        ({"input_shape": (172, 572, 1), **PAPER}, "input size 172 .* fix: use 188$"),
        (
            {"input_shape": (600, 592, 1)},
            "size 600 does not suit depth 4; expected a multiple of 16, at .* 592 or 608$",
        ),
        ({"input_shape": (64, 80, 3), "encoder": "resnet18"}, "size 80 does not suit depth 5; .* fix: use 64 or 96$"),
        ({"input_shape": (30, 32, 3), "encoder": "resnet20"}, "size 30 does not suit depth 2; .* fix: use 28 or 32$"),
    ],
)
def test_the_builder_refuses_a_size_and_names_the_nearest(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_unet(**arguments)


def next_to(side: int, suits: list[int]) -> tuple[int, ...]:
    """Return the sizes that suit next to `side`: itself, or the next below (if any) and above."""
    below, above = max((n for n in suits if n <= side), default=None), min(n for n in suits if n >= side)
    return tuple(sorted({n for n in (below, above) if n is not None}))


def named_sizes(side: int, sizes: dict[str, int]) -> tuple[int, ...]:
    """Return the sizes that the builders' check names: `side` itself if it is accepted."""
    try:
        check_side(side, **sizes, why="this")
    except UsageError as error:
        assert error.fix is not None
        return tuple(int(number) for number in re.findall(r"\d+", error.fix))
    return (side,)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("depth", [1, 2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4))])
def test_the_builder_and_the_graph_agree_on_every_size(depth: int, padding: str) -> None:
    model = build_unet(**SMALL, depth=depth, padding=padding)
    sizes = _sizes(depth, padding)
    suits = [side for side in range(1, 340) if _fits(model, side)]
    for side in range(1, 301):
        assert named_sizes(side, sizes) == next_to(side, suits), side
    for side in (1, sizes["least"], 187, 188, 189, 300):
        assert nearest_sizes(model, side) == next_to(side, suits)


ENCODERS = [
    *[pytest.param("resnet18", depth, marks=pytest.mark.slow) for depth in (1, 3, 4, 5)],
    *[("resnet18", 2), ("resnet20_v2", 2)],
    *[pytest.param(*row, marks=pytest.mark.slow) for row in (("resnet20", 1), ("resnet50_v2", 5))],
]


@pytest.mark.parametrize(("encoder", "depth"), ENCODERS)
def test_the_builder_and_the_graph_agree_on_encoders(encoder: str, depth: int) -> None:
    model = build_unet((None, None, 3), filters=1, encoder=encoder, depth=depth)
    suits = [side for side in range(1, 129) if _fits(model, side)]
    for side in range(1, 97):
        assert named_sizes(side, _sizes(depth, "same")) == next_to(side, suits), side


@pytest.mark.parametrize(
    ("encoder", "output_stride"),
    [pytest.param("resnet18", 8, marks=pytest.mark.slow), ("resnet18", 32), ("resnet20", 1), ("resnet20", 8)],
)
def test_the_builder_and_the_graph_agree_on_fcn(encoder: str, output_stride: int) -> None:
    arguments = {"encoder": encoder, "output_stride": output_stride}
    model = build_fcn((None, None, 3), **arguments)
    stride = {"resnet20": min(output_stride, 4)}.get(encoder, output_stride)
    suits = [side for side in range(1, 129) if _fits(model, side)]
    for side in range(1, 97):
        assert named_sizes(side, {"step": stride, "least": stride}) == next_to(side, suits), side
    if stride > 1:
        with pytest.raises(UsageError, match=rf"input size {2 * stride + 1} does not suit output stride {stride}; "):
            build_fcn((2 * stride, 2 * stride + 1, 3), **arguments)
    assert build_fcn((2 * stride, 3 * stride, 3), **arguments).output_shape == (None, 2 * stride, 3 * stride, 2)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("depth", [1, 2])
def test_the_sizes_accepted_are_those_that_run(depth: int, padding: str) -> None:
    """What is accepted runs and gives an output in the middle; the rest fails or is off the input's grid.

    Shapes that are inferred show convolutions of too small maps (TensorFlow 2.21 lets such maps through as they are),
    pixels show maps that differ where they meet.
    """
    model = build_unet(**SMALL, depth=depth, padding=padding)
    for side in range(1, 61):
        try:
            found = model.compute_output_spec(keras.KerasTensor((1, side, side, 1))).shape[1]
            assert model(np.zeros((1, side, side, 1), np.float32)).shape[1] == found
        except (ValueError, tf.errors.InvalidArgumentError):
            found = 0
        accepted = named_sizes(side, _sizes(depth, padding)) == (side,)
        assert accepted == (found > 0 and found % 2 == side % 2), side
        if accepted:
            assert found == output_size(model, side) == side - 2 * crop_offset(model)
