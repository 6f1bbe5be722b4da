"""Published weights: outputs against keras.applications, PyTorch and KerasHub; refusals; nothing is fetched unasked."""

from __future__ import annotations

import contextlib
import inspect
import re
import socket
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format
from safetensors.numpy import save_file
from state_dicts import RandomState, State

import keras_unetres as ku
from keras_unetres import models
from keras_unetres.models import feature_pyramid
from keras_unetres.weights import build_fcn, build_resnet, build_unet, load_published
from unetres_edge import Preprocessing
from unetres_edge.errors import UnetresError, UsageError, WeightsError

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}  # He 2015, table 1
# The means of Caffe's networks (B, G, R) and those of torchvision, as both document them.
CAFFE_MEAN = (103.939, 116.779, 123.68)
TORCH_MEAN, TORCH_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def torch_state(depth: int, seed: int = 0) -> State:
    """A state dict with torchvision's names and shapes, (out, in, height, width), and random numbers."""
    made = RandomState(seed)
    rng, state, conv, norm = made.rng, made.state, made.conv, made.norm
    conv("conv1", 3, 64, 7)
    norm("bn1", 64)
    channels = 64
    for stage, number in enumerate(BLOCKS[depth], start=1):
        filters = 32 * 2**stage
        out = 4 * filters if depth >= 50 else filters
        for block in range(number):
            name = f"layer{stage}.{block}"
            if depth >= 50:
                forms = [(channels, filters, 1), (filters, filters, 3), (filters, out, 1)]
            else:
                forms = [(channels, filters, 3), (filters, filters, 3)]
            for place, form in enumerate(forms, start=1):
                conv(f"{name}.conv{place}", *form)
                norm(f"{name}.bn{place}", form[1])
            if channels != out:
                conv(f"{name}.downsample.0", channels, out, 1)
                norm(f"{name}.downsample.1", out)
            channels = out
    state["fc.weight"] = rng.standard_normal((1000, channels), np.float32) * np.float32(channels**-0.5)
    state["fc.bias"] = rng.standard_normal(1000, np.float32)
    return state


def randomise(model: keras.Model, seed: int = 0) -> None:
    """Give a foreign network weights in which every tensor counts, biases before norms too."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        shape = variable.shape
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, shape))
        elif variable.name == "kernel":
            scale = np.float32(np.sqrt(2 / np.prod(shape[:-1])))
            variable.assign(scale * rng.standard_normal(shape, np.float32))
        else:
            variable.assign(rng.normal(0, 0.3, shape))


def slow(*rows: Any) -> list[Any]:
    """Rows of a parametrization that are left to the slow tests."""
    return [pytest.param(*row, marks=pytest.mark.slow) for row in rows]


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def assert_close(found: Any, expected: Any, relative: float = 1e-4) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    scale = np.abs(expected).max()
    assert found.shape == expected.shape
    assert scale > 0
    assert np.abs(found - expected).max() <= relative * scale


def features(model: keras.Model) -> keras.Model:
    return keras.Model(model.input, list(feature_pyramid(model).values()))


@contextlib.contextmanager
def refused(model: keras.Model, kind: type[UnetresError], words: str) -> Iterator[None]:
    """Expect an error and weights left as they were."""
    before = model.get_weights()
    with pytest.raises(kind, match=words):
        yield
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


KerasSource = Callable[[int], tuple[keras.Model, Path]]


@pytest.fixture(scope="session")
def keras_source(tmp_path_factory: pytest.TempPathFactory) -> KerasSource:
    """Networks of keras.applications with random weights, and a file of these; not to be changed."""
    made: dict[int, tuple[keras.Model, Path]] = {}

    def source(depth: int) -> tuple[keras.Model, Path]:
        if depth not in made:
            builder = getattr(keras.applications, f"ResNet{depth}")
            model = builder(weights=None, input_shape=(64, 96, 3), classifier_activation=None)
            randomise(model)
            path = tmp_path_factory.mktemp("keras") / f"resnet{depth}.weights.h5"
            model.save_weights(path)
            made[depth] = model, path
        return made[depth]

    return source


@pytest.fixture(scope="session")
def state18() -> State:
    return torch_state(18)


@pytest.fixture(scope="session")
def torch18(state18: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torch") / "resnet18.safetensors"
    save_file(state18, path)
    return path


@pytest.fixture(scope="module")
def ours18() -> keras.Model:
    return build_resnet(18, (64, 64, 3))


@pytest.mark.parametrize(
    "depth", [pytest.param(50, marks=pytest.mark.slow), *(pytest.param(n, marks=pytest.mark.long) for n in (101, 152))]
)
def test_outputs_are_those_of_keras_applications(keras_source: KerasSource, depth: int) -> None:
    theirs, path = keras_source(depth)
    ours = build_resnet(depth, (64, 96, 3), weights=str(path))
    pictures = images(2, 64, 96, 3)
    assert_close(ours(pictures), theirs(pictures))


@pytest.mark.slow
def test_features_are_those_of_keras_applications(keras_source: KerasSource) -> None:
    theirs, path = keras_source(50)
    names = ("conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out")
    pictures = images(1, 64, 96, 3)
    expected = keras.Model(theirs.input, [theirs.get_layer(name).output for name in names])(pictures)
    without_top = build_resnet(50, (64, 96, 3), include_top=False, weights=str(path))
    unet = build_unet((64, 96, 3), 3, encoder="resnet50", filters=2, weights=str(path))
    for model in (without_top, unet):
        found = features(model)(pictures)
        assert len(found) == 5
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
    assert_close(without_top(pictures), expected[-1])


@pytest.mark.slow
def test_a_file_without_top_gives_the_features_and_leaves_the_head(tmp_path: Path) -> None:
    theirs = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(64, 64, 3))
    randomise(theirs, seed=1)
    theirs.save_weights(tmp_path / "notop.weights.h5")
    ours = build_resnet(50, (64, 64, 3))
    head = ours.get_layer("head_logits").get_weights()
    load_published(ours, tmp_path / "notop.weights.h5", encoder="resnet50")
    for found, expected in zip(ours.get_layer("head_logits").get_weights(), head, strict=True):
        np.testing.assert_array_equal(found, expected)
    pictures = images(1, 64, 64, 3)
    assert_close(features(ours)(pictures)[-1], theirs(pictures))


@pytest.mark.slow
def test_the_older_h5_form_in_which_imagenet_weights_are_published(keras_source: KerasSource, tmp_path: Path) -> None:
    theirs, _ = keras_source(50)
    with h5py.File(tmp_path / "resnet50_tf_kernels.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, theirs)
    ours = build_resnet(50, (64, 96, 3), weights=str(tmp_path / "resnet50_tf_kernels.h5"))
    pictures = images(1, 64, 96, 3)
    assert_close(ours(pictures), theirs(pictures))


@pytest.mark.slow
def test_bias_and_epsilon_are_absorbed_exactly(tmp_path: Path) -> None:
    """With variances near the epsilons (1.001e-5 theirs, 1e-5 ours) a wrong one would show in the fourth digit."""
    theirs = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3))
    randomise(theirs, seed=2)
    norm, conv = theirs.get_layer("conv2_block1_2_bn"), theirs.get_layer("conv2_block1_2_conv")
    norm.moving_variance.assign(np.random.default_rng(0).uniform(0, 2e-7, 64))
    assert norm.epsilon == 1.001e-5
    theirs.save_weights(tmp_path / "w.weights.h5")
    ours = build_resnet(50, (32, 32, 3), include_top=False, weights=str(tmp_path / "w.weights.h5"))
    mine = ours.get_layer("stage1_block1_2_norm")
    assert mine.epsilon == 1e-5
    variance = np.asarray(norm.moving_variance, np.float64) + 1.001e-5 - 1e-5
    np.testing.assert_allclose(np.asarray(mine.moving_variance), variance, rtol=1e-6)
    mean = np.asarray(norm.moving_mean, np.float64) - np.asarray(conv.bias, np.float64)
    np.testing.assert_allclose(np.asarray(mine.moving_mean), mean, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(mine.gamma), np.asarray(norm.gamma))
    np.testing.assert_array_equal(np.asarray(mine.beta), np.asarray(norm.beta))
    pictures = images(1, 32, 32, 3)
    expected = keras.Model(theirs.input, norm.output)(pictures)
    assert_close(keras.Model(ours.input, mine.output)(pictures), expected, 2e-5)


def torch_resnet(depth: int) -> Any:
    """An independent ResNet in PyTorch with torchvision's names; bottlenecks have the stride in the 3x3 convolution."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, channels: int, filters: int, stride: int) -> None:
            super().__init__()
            out = 4 * filters if depth >= 50 else filters
            basic = [(channels, filters, 3, stride), (filters, filters, 3, 1)]
            bottleneck = [(channels, filters, 1, 1), (filters, filters, 3, stride), (filters, out, 1, 1)]
            self.places = len(bottleneck if depth >= 50 else basic)
            for place, (a, b, kernel, step) in enumerate(bottleneck if depth >= 50 else basic, start=1):
                self.add_module(f"conv{place}", nn.Conv2d(a, b, kernel, step, kernel // 2, bias=False))
                self.add_module(f"bn{place}", nn.BatchNorm2d(b))
            self.downsample = None
            if stride > 1 or channels != out:
                self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

        def forward(self, x: Any) -> Any:
            identity = x if self.downsample is None else self.downsample(x)
            for place in range(1, self.places + 1):
                x = getattr(self, f"bn{place}")(getattr(self, f"conv{place}")(x))
                x = torch.relu(x) if place < self.places else x
            return torch.relu(x + identity)

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
            self.pool, channels = nn.MaxPool2d(3, 2, 1), 64
            for stage, number in enumerate(BLOCKS[depth], start=1):
                filters, blocks = 32 * 2**stage, []
                for block in range(number):
                    blocks.append(Block(channels, filters, 2 if stage > 1 and block == 0 else 1))
                    channels = 4 * filters if depth >= 50 else filters
                self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            self.fc = nn.Linear(channels, 1000)

        def forward(self, x: Any) -> Any:
            x = self.pool(torch.relu(self.bn1(self.conv1(x))))
            for stage in range(1, 5):
                x = getattr(self, f"layer{stage}")(x)
            return self.fc(x.mean((2, 3)))

    return ResNet().eval()


@pytest.mark.torch
@pytest.mark.parametrize(("depth", "variant"), [(18, "v1"), (34, "v1"), (50, "v1.5")])
def test_outputs_are_those_of_pytorch(depth: int, variant: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    state = torch_state(depth)
    theirs = torch_resnet(depth)
    theirs.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()}, strict=True)
    saved = {name: value.numpy().copy() for name, value in theirs.state_dict().items()}
    save_file(saved, tmp_path / "w.safetensors")
    ours = build_resnet(depth, (64, 96, 3), variant=variant, weights=str(tmp_path / "w.safetensors"))
    pictures = images(2, 64, 96, 3)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())).numpy()
    assert_close(ours(pictures), expected)


def test_every_tensor_of_a_state_dict_finds_its_place(torch18: Path, state18: State, ours18: keras.Model) -> None:
    load_published(ours18, torch18, encoder="resnet18")
    kernel = np.asarray(ours18.get_layer("stem_conv").kernel)
    assert kernel.shape == (7, 7, 3, 64)
    for y, x, before, after in ((0, 6, 2, 63), (3, 1, 0, 17), (6, 0, 1, 0)):
        assert kernel[y, x, before, after] == state18["conv1.weight"][after, before, y, x]
    pairs = {
        "stage1_block2_1_conv": "layer1.1.conv1",
        "stage2_block1_1_conv": "layer2.0.conv1",
        "stage2_block1_shortcut_conv": "layer2.0.downsample.0",
        "stage4_block2_2_conv": "layer4.1.conv2",
    }
    for mine, theirs in pairs.items():
        expected = np.einsum("oihw->hwio", state18[f"{theirs}.weight"])
        np.testing.assert_array_equal(np.asarray(ours18.get_layer(mine).kernel), expected)
    norms = {"stem_norm": "bn1", "stage3_block1_2_norm": "layer3.0.bn2"}
    norms |= {"stage4_block1_shortcut_norm": "layer4.0.downsample.1"}
    kinds = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    for mine, theirs in norms.items():
        for kind, their_kind in kinds.items():
            found = np.asarray(getattr(ours18.get_layer(mine), kind))
            np.testing.assert_array_equal(found, state18[f"{theirs}.{their_kind}"])
    head = ours18.get_layer("head_logits")
    np.testing.assert_array_equal(np.asarray(head.kernel), state18["fc.weight"].T)
    np.testing.assert_array_equal(np.asarray(head.bias), state18["fc.bias"])
    total = sum(value.size for name, value in state18.items() if not name.endswith("num_batches_tracked"))
    assert ours18.count_params() == total


def test_a_head_of_other_classes_is_left_as_it_was(torch18: Path, state18: State) -> None:
    model = build_resnet(18, (64, 64, 3), num_classes=7)
    before = model.get_layer("head_logits").get_weights()
    load_published(model, torch18, encoder="resnet18")
    for found, expected in zip(model.get_layer("head_logits").get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.asarray(model.get_layer("stem_norm").beta), state18["bn1.bias"])


@pytest.mark.parametrize("builder", [build_unet, build_fcn])
def test_builders_of_dense_networks_take_weights(
    builder: Callable[..., keras.Model], torch18: Path, state18: State
) -> None:
    model = builder((64, 64, 3), 1000, encoder="resnet18", weights=str(torch18))
    expected = np.einsum("oihw->hwio", state18["layer4.1.conv2.weight"])
    np.testing.assert_array_equal(np.asarray(model.get_layer("stage4_block2_2_conv").kernel), expected)
    assert not np.asarray(model.get_layer("head_logits").bias).any()  # a head for pixels is not one for images


def test_every_layer_of_the_encoder_is_set_and_no_other(torch18: Path) -> None:
    model = build_unet((64, 64, 3), encoder="resnet18", filters=2)
    before = {variable.path: np.asarray(variable) for variable in model.weights}
    load_published(model, torch18, encoder="resnet18")
    kept = {v.path for v in model.weights if np.array_equal(np.asarray(v), before[v.path])}
    assert len(kept) < len(before)
    assert kept == {path for path in before if path.startswith(("decoder", "head"))}


def test_float16_tensors_are_taken(state18: State, ours18: keras.Model, tmp_path: Path) -> None:
    halved = {name: v.astype(np.float16) if v.dtype == np.float32 else v for name, v in state18.items()}
    save_file(halved, tmp_path / "half.safetensors")
    load_published(ours18, tmp_path / "half.safetensors", encoder="resnet18")
    norm = ours18.get_layer("stage2_block1_1_norm")
    np.testing.assert_array_equal(np.asarray(norm.moving_variance), halved["layer2.0.bn1.running_var"])
    kernel = np.asarray(ours18.get_layer("stage4_block1_1_conv").kernel)
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, np.einsum("oihw->hwio", halved["layer4.0.conv1.weight"]))


def test_num_batches_tracked_is_ignored(torch18: Path, state18: State, ours18: keras.Model, tmp_path: Path) -> None:
    load_published(ours18, torch18, encoder="resnet18")
    before = ours18.get_weights()
    without = {name: value for name, value in state18.items() if not name.endswith("num_batches_tracked")}
    assert len(without) == len(state18) - 20
    save_file(without, tmp_path / "w.safetensors")
    for variable in ours18.weights:
        variable.assign(np.zeros(variable.shape))
    load_published(ours18, tmp_path / "w.safetensors", encoder="resnet18")
    for found, expected in zip(ours18.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


Encoder = Callable[[str, int], tuple[keras.Model, Preprocessing]]


@pytest.fixture(scope="module")
def encoder(torch18: Path, keras_source: KerasSource) -> Encoder:
    """Networks of n channels with the weights of a source, and their preprocessing; not to be changed."""
    made: dict[tuple[str, int], tuple[keras.Model, Preprocessing]] = {}

    def build(source: str, channels: int) -> tuple[keras.Model, Preprocessing]:
        if (source, channels) not in made:
            depth, path = (18, torch18) if source == "torch" else (50, keras_source(50)[1])
            model = build_resnet(depth, (64, 96, channels), include_top=False)
            made[source, channels] = model, load_published(model, path, encoder=f"resnet{depth}")
        return made[source, channels]

    return build


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(8).integers(0, 256, shape, np.uint8)


@pytest.mark.slow
def test_the_preprocessing_of_keras_applications(encoder: Encoder) -> None:
    _, feeding = encoder("keras", 3)
    assert feeding == Preprocessing(
        channels=3, color_order="bgr", value_range=(0, 255), mean=CAFFE_MEAN, std=(1, 1, 1), size=(64, 96)
    )
    image = picture(5, 4, 3)
    expected = keras.applications.resnet.preprocess_input(image.astype(np.float32))
    np.testing.assert_allclose(feeding.normalise(feeding.prepare(image)), expected, atol=1e-4)


def test_the_preprocessing_of_torch(torch18: Path) -> None:
    model = build_resnet(18, (None, None, 3), include_top=False)
    feeding = load_published(model, torch18, encoder="resnet18")
    assert feeding == Preprocessing(
        channels=3, color_order="rgb", value_range=(0, 1), mean=TORCH_MEAN, std=TORCH_STD, size=(224, 224)
    )
    image = picture(5, 4, 3)
    expected = (image / 255 - np.array(TORCH_MEAN)) / np.array(TORCH_STD)
    np.testing.assert_allclose(feeding.normalise(feeding.prepare(image)), expected, atol=1e-6)


def stem(model: keras.Model, feeding: Preprocessing, image: np.ndarray) -> np.ndarray:
    return np.asarray(
        keras.Model(model.input, feature_pyramid(model)[2])(feeding.normalise(feeding.prepare(image))[None])
    )


@pytest.mark.parametrize("source", ["torch", pytest.param("keras", marks=pytest.mark.slow)])
def test_a_grey_image_gives_what_it_gives_as_a_colour_image(source: str, encoder: Encoder) -> None:
    image = picture(64, 96)
    grey, colour = (stem(*encoder(source, channels), image) for channels in (1, 3))
    np.testing.assert_array_equal(colour, stem(*encoder(source, 3), np.repeat(image[..., None], 3, -1)))
    inside = (slice(None), slice(2, -2), slice(2, -2))  # the 7x7 kernel reaches 3 px, 2 outputs, beyond the border
    assert_close(grey[inside], colour[inside], 1e-5)
    model, feeding = encoder(source, 1)
    assert model.get_layer("stem_conv").kernel.shape == (7, 7, 1, 64)
    assert feeding.channels == len(feeding.mean) == len(feeding.std) == 1
    assert feeding.value_range == encoder(source, 3)[1].value_range


@pytest.mark.parametrize(
    ("source", "channels"),
    [("torch", 2), ("torch", 7), *slow(("keras", 4), ("keras", 7))],
)
def test_more_channels_repeat_the_colours_in_turn(source: str, channels: int, encoder: Encoder) -> None:
    (three, colour), (model, feeding) = encoder(source, 3), encoder(source, channels)
    of_three, found = (np.asarray(m.get_layer("stem_conv").kernel) for m in (three, model))
    for channel in range(channels):
        np.testing.assert_allclose(found[:, :, channel], of_three[:, :, channel % 3] * 3 / channels, rtol=1e-6)
    assert feeding.channels == channels
    assert feeding.color_order == "rgb"
    assert feeding.mean == tuple(colour.mean[channel % 3] for channel in range(channels))
    assert feeding.std == tuple(colour.std[channel % 3] for channel in range(channels))
    assert feeding.value_range == colour.value_range
    for name in ("stem_norm", "stage1_block1_1_conv"):
        for one, other in zip(model.get_layer(name).get_weights(), three.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def changed(state: State, fault: str) -> State:
    """Return a state dict with one fault."""
    state = dict(state)
    if fault == "nan":
        state["layer2.0.bn1.running_var"] = np.where(np.arange(128) == 5, np.nan, 1).astype(np.float32)
    elif fault == "inf":
        state["layer4.1.conv2.weight"] = np.full((512, 512, 3, 3), np.inf, np.float32)
    elif fault == "norm missing":
        del state["layer2.0.bn1.running_var"]
    elif fault == "convolution missing":
        del state["layer4.1.conv2.weight"]
    elif fault == "shape":
        state["layer3.0.bn2.bias"] = np.zeros(128, np.float32)
    elif fault == "transposed":
        state["layer3.0.conv1.weight"] = np.ascontiguousarray(np.swapaxes(state["layer3.0.conv1.weight"], 0, 1))
    elif fault == "deep stem":
        for place in (0, 3, 6):
            state[f"conv1.{place}.weight"] = state["layer1.0.conv1.weight"]
        del state["conv1.weight"]
    elif fault == "prefix":
        state = {f"module.{name}": value for name, value in state.items()}
    elif fault == "integers":
        state["conv1.weight"] = state["conv1.weight"].astype(np.int32)
    return state


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("nan", "tensor moving_variance of layer stage2_block1_1_norm has values that are not finite"),
        (
            "transposed",
            r"stage3_block1_1_conv has another shape; expected \(3, 3, 128, 256\); found \(3, 3, 256, 128\)",
        ),
        ("deep stem", r"another stem \(such as timm's resnet50d\); expected conv1\.weight alone"),
        ("integers", r"layer stem_conv are missing; expected conv1 with kernel"),
        *slow(
            ("inf", "tensor kernel of layer stage4_block2_2_conv has values that are not finite"),
            ("norm missing", r"layer stage2_block1_1_norm are missing; expected layer2\.0\.bn1 with .*moving_variance"),
            (
                "convolution missing",
                r"layer stage4_block2_2_conv are missing; expected layer4\.1\.conv2 with kernel; found no",
            ),
            ("shape", r"beta of layer stage3_block1_2_norm has another shape; expected \(256,\); found \(128,\)"),
            ("prefix", r"layer stem_conv are missing; expected conv1 with kernel; found no such layer"),
        ),
    ],
)
def test_a_state_dict_with_a_fault_is_refused(
    fault: str, words: str, state18: State, ours18: keras.Model, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    save_file(changed(state18, fault), path)
    with refused(ours18, WeightsError, f"^weights: {re.escape(str(path))}: .*{words}"):
        load_published(ours18, path, encoder="resnet18")


@pytest.mark.parametrize(
    ("of_file", "depth", "variant"),
    [
        (34, 18, "v1"),
        *slow((18, 34, "v1"), (34, 50, "v1.5"), (101, 50, "v1.5")),
    ],
)
def test_a_state_dict_of_another_depth_is_refused(of_file: int, depth: int, variant: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(torch_state(of_file), path)
    model = build_resnet(depth, (64, 64, 3), variant=variant)
    with refused(model, WeightsError, f"{re.escape(str(path))}: .*depth"):
        load_published(model, path, encoder=model.name)


@pytest.mark.slow
def test_a_keras_file_of_another_depth_is_refused(keras_source: KerasSource) -> None:
    _, path = keras_source(101)
    model = build_resnet(50, (64, 64, 3))
    with refused(model, WeightsError, rf"{re.escape(str(path))}: keras\.applications\.ResNet50 cannot load it"):
        load_published(model, path, encoder="resnet50")


@pytest.mark.parametrize("damage", ["truncated", "random", "empty", "header", "missing"])
def test_a_damaged_safetensors_file_is_refused(damage: str, torch18: Path, ours18: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    sound = torch18.read_bytes()
    contents = {
        "truncated": sound[: len(sound) // 2],
        "random": np.random.default_rng(0).bytes(1000),
        "empty": b"",
        "header": sound[:100],
    }
    if damage in contents:
        path.write_bytes(contents[damage])
    words = "no such weights file" if damage == "missing" else "not a sound safetensors file: .*; fix: copy or download"
    with refused(ours18, WeightsError, f"^weights: {re.escape(str(path))}: {words}"):
        load_published(ours18, path, encoder="resnet18")


def test_tensors_in_bfloat16_are_taken_or_refused_by_name(state18: State, ours18: keras.Model, tmp_path: Path) -> None:
    """Numpy has no bfloat16; the file is written by hand: the length of the header, the header, the numbers."""
    header = b'{"conv1.weight":{"dtype":"BF16","shape":[64,3,7,7],"data_offsets":[0,18816]}}'
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(18816))
    with refused(ours18, WeightsError, f"{re.escape(str(path))}: .*"):
        load_published(ours18, path, encoder="resnet18")


@pytest.fixture(scope="module")
def ours50() -> keras.Model:
    return build_resnet(50, (64, 64, 3))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("truncated", marks=pytest.mark.slow),
        "random",
        pytest.param("empty", marks=pytest.mark.long),  # no more of that form than what is random
        "missing",
        "other",
    ],
)
def test_a_damaged_keras_file_is_refused(
    damage: str, keras_source: KerasSource, ours50: keras.Model, tmp_path: Path
) -> None:
    path = tmp_path / "w.weights.h5"
    if damage == "truncated":
        sound = keras_source(50)[1].read_bytes()
        path.write_bytes(sound[: len(sound) // 2])
    elif damage == "random":
        path.write_bytes(np.random.default_rng(0).bytes(1000))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other":
        with h5py.File(path, "w") as file:
            file["numbers"] = np.arange(3)
    words = "no such weights file" if damage == "missing" else r"keras\.applications\.ResNet50 cannot load it: \w+"
    with refused(ours50, WeightsError, f"^weights: {re.escape(str(path))}: {words}"):
        load_published(ours50, path, encoder="resnet50")


@pytest.mark.slow
def test_a_keras_file_with_nan_is_refused(keras_source: KerasSource, ours50: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "w.weights.h5"
    path.write_bytes(keras_source(50)[1].read_bytes())
    spoilt = []

    def spoil(name: str, item: Any) -> None:
        if not spoilt and isinstance(item, h5py.Dataset) and item.shape == (2048,):
            item[7] = np.nan
            spoilt.append(name)

    with h5py.File(path, "r+") as file:
        file.visititems(spoil)
    assert spoilt
    with refused(ours50, WeightsError, r"layer stage4_block\d_\w+ has values that are not finite"):
        load_published(ours50, path, encoder="resnet50")


@pytest.mark.parametrize("name", ["w.bin", "w.npz", "w.keras", "nothing", "ImageNet"])
def test_unknown_weights_are_refused(name: str, ours18: keras.Model, tmp_path: Path) -> None:
    if "." in name:
        (tmp_path / name).write_bytes(b"x")
    words = r"the weights are unknown; expected 'imagenet', a \.safetensors, \.pth or \.h5 file, .*hub:NAME; found .*"
    with refused(ours18, UsageError, words + re.escape(name)):
        load_published(ours18, str(tmp_path / name), encoder="resnet18")


@pytest.mark.parametrize(
    ("suffix", "encoder_name", "words"),
    [
        (".h5", "resnet50_v1.5", r"expected encoder resnet50; found v1\.5 50"),
        (".h5", "resnet101_v2", r"expected encoder resnet101; found v2 101"),
        (".h5", "plain50", r"expected encoder resnet50; found plain 50"),
        (".h5", "resnet18", r"expected an encoder that keras\.applications has: resnet50.*found v1 18"),
        (".safetensors", "resnet50", r"expected encoder resnet50_v1\.5; found v1 50"),
        (".safetensors", "resnet152", r"expected encoder resnet152_v1\.5; found v1 152"),
        (".safetensors", "resnet18_v2", r"expected encoder resnet18; found v2 18"),
        (".safetensors", "plain34", r"expected encoder resnet34; found plain 34"),
        (".safetensors", "plain50", r"expected encoder resnet50_v1\.5; found plain 50"),
    ],
)
def test_weights_of_another_variant_are_refused_and_the_right_encoder_named(
    suffix: str, encoder_name: str, words: str, ours18: keras.Model, tmp_path: Path
) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(b"x")
    with refused(ours18, UsageError, f"{re.escape(str(path))}: these weights are of another network; .*{words}"):
        load_published(ours18, path, encoder=encoder_name)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_without_such_an_encoder_is_refused(channels: int, torch18: Path) -> None:
    """Else nothing would be set, and the caller would train on noise."""
    model = build_unet((64, 64, channels), filters=2, depth=2)
    with refused(model, UnetresError, "encoder"):
        load_published(model, torch18, encoder="resnet18")


@pytest.mark.slow
def test_the_encoder_named_has_to_be_that_of_the_network(keras_source: KerasSource) -> None:
    """v1 and v1.5 differ in no tensor, so that only the strides of the network tell them apart."""
    model = build_resnet(50, (64, 64, 3), variant="v1.5")
    with refused(model, UnetresError, r"resnet50_v1\.5"):
        load_published(model, keras_source(50)[1], encoder="resnet50")


@pytest.mark.parametrize(
    ("depth", "variant"),
    [
        (34, "v1"),
        (20, "v1"),
        (50, "plain"),
        (18, "v2"),
        *slow((50, "v2"), (110, "v1")),
    ],
)
def test_imagenet_weights_that_nobody_published_are_refused(
    depth: int, variant: str, ours18: keras.Model, no_network: list[str]
) -> None:
    name = "plain50" if variant == "plain" else f"resnet{depth}" + ("_v2" if variant == "v2" else "")
    words = f"no ImageNet weights are published for {name}; expected resnet18, or resnet50, 101 or 152"
    with refused(ours18, UsageError, words):
        load_published(ours18, "imagenet", encoder=name)
    with pytest.raises(UsageError, match=words):
        build_resnet(depth, (32, 32, 3), variant=variant, weights="imagenet")
    assert no_network == []


def test_an_unknown_encoder_is_refused(torch18: Path, ours18: keras.Model) -> None:
    with refused(ours18, UsageError, "encoder is unknown; expected resnet18, .*; found resnet19"):
        load_published(ours18, torch18, encoder="resnet19")


def test_a_unet_without_encoder_takes_no_published_weights(torch18: Path, no_network: list[str]) -> None:
    with pytest.raises(UsageError, match="the start is unknown; expected nuclei, shapes.*published weights need"):
        build_unet((64, 64, 3), weights="imagenet")
    with pytest.raises(WeightsError, match="does not say of which network.*published weights need --encoder"):
        build_unet((64, 64, 3), weights=torch18)
    assert no_network == []


@pytest.mark.parametrize("builder", [build_unet, build_fcn, build_resnet], ids=lambda builder: builder.__name__)
def test_the_builders_with_weights_take_what_the_builders_take(builder: Callable[..., keras.Model]) -> None:
    taken = dict(inspect.signature(builder).parameters)
    assert taken.pop("weights").default is None
    plain = getattr(models, builder.__name__)
    assert list(taken.items()) == list(inspect.signature(plain).parameters.items())
    assert getattr(ku, builder.__name__) is builder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of whatever reached for the network; it gets an error."""
    reached: list[str] = []

    def get_file(fname: str | None = None, origin: str | None = None, **_: Any) -> None:
        reached.append(str(origin))
        raise OSError(f"URL fetch failure on {origin}")

    def connect(_: socket.socket, address: object) -> None:
        reached.append(str(address))
        raise OSError("no network")

    monkeypatch.setattr("keras.utils.get_file", get_file)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    monkeypatch.setattr(socket.socket, "connect", connect)
    return reached


@pytest.mark.slow
def test_nothing_is_fetched_unless_asked(monkeypatch: pytest.MonkeyPatch, torch18: Path, no_network: list[str]) -> None:
    for depth in (50, 101, 152):
        monkeypatch.setattr(f"keras.applications.ResNet{depth}", lambda **arguments: no_network.append(str(arguments)))
    fake = types.SimpleNamespace(models=types.SimpleNamespace(ResNetBackbone=None))
    monkeypatch.setitem(sys.modules, "keras_hub", fake)
    build_resnet(50, (64, 64, 3))
    build_resnet(18, (64, 64, 3), weights=str(torch18))
    build_unet((64, 64, 3), encoder="resnet18")
    build_fcn((64, 64, 3), encoder="resnet18")
    assert no_network == []


@pytest.mark.slow
def test_imagenet_asks_keras_applications(
    monkeypatch: pytest.MonkeyPatch, keras_source: KerasSource, no_network: list[str]
) -> None:
    theirs, _ = keras_source(50)
    asked: list[dict[str, Any]] = []

    def builder(**arguments: Any) -> keras.Model:
        asked.append(arguments)
        return theirs

    monkeypatch.setattr("keras.applications.ResNet50", builder)
    ours = build_resnet(50, (64, 96, 3), weights="imagenet")
    assert [arguments["weights"] for arguments in asked] == ["imagenet"]
    pictures = images(1, 64, 96, 3)
    assert_close(ours(pictures), theirs(pictures))
    assert no_network == []


def test_a_failing_download_is_named(ours50: keras.Model, no_network: list[str]) -> None:
    with refused(
        ours50, WeightsError, "the download failed: URL fetch failure on https.*resnet50_.*; fix: pass a local"
    ):
        load_published(ours50, "imagenet", encoder="resnet50")
    assert len(no_network) == 1


@pytest.mark.parametrize(
    ("weights", "encoder_name", "preset"),
    [
        ("imagenet", "resnet18", "resnet_18_imagenet"),
        ("imagenet", "resnet50_v1.5", "resnet_50_imagenet"),
        ("imagenet", "resnet101_v1.5", "resnet_101_imagenet"),
        ("imagenet", "resnet152_v1.5", "resnet_152_imagenet"),
        ("hub:hf://someone/resnet", "resnet34", "hf://someone/resnet"),
    ],
)
def test_presets_are_asked_of_keras_hub_and_a_failing_download_is_named(
    weights: str, encoder_name: str, preset: str, ours18: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Backbone:
        @classmethod
        def from_preset(cls, name: str) -> None:
            asked.append(name)
            raise ValueError("No route to kaggle\nTraceback follows")

    fake = types.SimpleNamespace(models=types.SimpleNamespace(ResNetBackbone=Backbone))
    monkeypatch.setitem(sys.modules, "keras_hub", fake)
    with refused(ours18, WeightsError, f"{preset}: KerasHub cannot load the preset: No route to kaggle$"):
        load_published(ours18, weights, encoder=encoder_name)
    assert asked == [preset]


def test_presets_need_keras_hub(ours18: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras_hub", None)  # as if it were not installed
    for weights in ("imagenet", str(tmp_path), "hub:resnet_18_imagenet"):
        with refused(ours18, WeightsError, r"needs KerasHub; fix: pip install keras-hub"):
            load_published(ours18, weights, encoder="resnet18")


def hub_backbone(blocks: tuple[int, ...], kind: str = "basic_block", *, deep: bool = False, v2: bool = False) -> Any:
    keras_hub = pytest.importorskip("keras_hub", reason="needs KerasHub: pip install keras-hub")
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[32, 32, 64] if deep else [64],
        input_conv_kernel_sizes=[3, 3, 3] if deep else [7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=list(blocks),
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=kind,
        use_pre_activation=v2,
        image_shape=(None, None, 3),
    )
    randomise(backbone)
    return backbone


@pytest.mark.parametrize(("depth", "encoder_name"), [(18, "resnet18"), (50, "resnet50_v1.5")])
def test_features_are_those_of_keras_hub(depth: int, encoder_name: str, tmp_path: Path) -> None:
    theirs = hub_backbone(BLOCKS[depth], "basic_block" if depth == 18 else "bottleneck_block")
    theirs.save_to_preset(str(tmp_path))
    ours = build_unet((64, 96, 3), encoder=encoder_name, filters=2)
    feeding = load_published(ours, tmp_path, encoder=encoder_name)
    assert (feeding.color_order, feeding.mean, feeding.std) == ("rgb", TORCH_MEAN, TORCH_STD)
    pictures = images(1, 64, 96, 3)
    expected = keras.Model(theirs.input, [theirs.pyramid_outputs[f"P{level}"] for level in (2, 3, 4, 5)])(pictures)
    found = features(ours)(pictures)[1:]  # without the stem's
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"blocks": (2, 2, 2, 2), "kind": "basic_block_vd", "deep": True}, r"with the deep stem \(vd\); .*resnet18"),
        ({"blocks": (2, 2, 2, 2), "v2": True}, r"pre-activation \(v2\); expected resnet18"),
        ({"blocks": (2, 2, 2, 2), "kind": "basic_block_vd"}, r"vd"),
        ({"blocks": (2, 2, 2, 1)}, "layer stage4_block2_1_conv are missing"),
        ({"blocks": (2, 2, 3, 2)}, "depth"),
    ],
    ids=["vd", "v2", "vd behind a plain stem", "fewer blocks", "more blocks"],
)
def test_presets_of_other_networks_are_refused(
    form: dict[str, Any], words: str, ours18: keras.Model, tmp_path: Path
) -> None:
    hub_backbone(**form).save_to_preset(str(tmp_path))
    with refused(ours18, WeightsError, f"{re.escape(str(tmp_path))}: .*{words}"):
        load_published(ours18, tmp_path, encoder="resnet18")


def test_a_folder_that_is_no_preset_is_refused(ours18: keras.Model, tmp_path: Path, no_network: list[str]) -> None:
    pytest.importorskip("keras_hub", reason="needs KerasHub: pip install keras-hub")
    with refused(ours18, WeightsError, f"{re.escape(str(tmp_path))}: KerasHub cannot load the preset: "):
        load_published(ours18, tmp_path, encoder="resnet18")
    assert no_network == []


def test_the_presets_named_are_those_of_keras_hub() -> None:
    keras_hub = pytest.importorskip("keras_hub", reason="needs KerasHub: pip install keras-hub")
    presets = keras_hub.models.ResNetBackbone.presets
    assert {f"resnet_{depth}_imagenet" for depth in (18, 50, 101, 152)} <= set(presets)
