"""Where published ResNet weights come from: files, keras.applications and KerasHub, each read into plain arrays.

keras.applications has Caffe's networks: stride in the 1x1 convolution, BGR minus a mean. KerasHub's presets and the
state dicts of torchvision and timm have the stride in the 3x3 convolution, and RGB by mean and standard deviation.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from unetres_edge.errors import UsageError, WeightsError
from unetres_edge.files import read_bytes

from ..choices.networks import resnet_name

_HUB_PRESETS = {depth: f"resnet_{depth}_imagenet" for depth in (18, 50, 101, 152)}


@dataclass(frozen=True)
class Source:
    """A kind of published weights.

    Args:
        find: (part, stage, block, place, kind) of one of our layers -> the name of theirs. The part is "stem",
            "stage" or "head", the place "1", "2", "3" or "shortcut", the kind "conv" or "norm".
        variant: where its bottleneck networks have the stride.
        feeding: fields of `Preprocessing` that its images are made by.
    """

    find: Callable[[str, int, int, str, str], str]
    variant: str
    feeding: dict[str, Any]


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


_CAFFE = {"color_order": "bgr", "value_range": (0.0, 255.0), "mean": (103.939, 116.779, 123.68), "std": (1.0,) * 3}
_TORCH = {"color_order": "rgb", "value_range": (0.0, 1.0), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_SOURCES = {
    "torch": Source(_torch_name, "v1.5", _TORCH),
    "keras": Source(_keras_name, "v1", _CAFFE),
    "hub": Source(_hub_name, "v1.5", _TORCH),
}


def read_published(weights: str | os.PathLike[str], depth: int, variant: str) -> tuple[Source, dict[str, np.ndarray]]:
    """Return the kind of weights and their tensors, {"<their layer>/<tensor>": array} in Keras's layout.

    Args:
        weights: as in `load_published`.
        depth: depth of the network.
        variant: variant of the network.

    Raises:
        UsageError: such weights need another network, which is named.
        WeightsError: they cannot be read.
    """
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
        return _SOURCES["hub"], _hub(_HUB_PRESETS[depth], depth, name)
    path = Path(text)
    is_preset = text.startswith("hub:") or (text != "" and path.is_dir())  # "" would be the folder at hand
    kind = "hub" if is_preset else "torch" if path.suffix == ".safetensors" else "keras"
    if kind != "hub" and path.suffix not in (".safetensors", ".h5"):
        raise UsageError(
            "the weights are unknown",
            expected="'imagenet', a .safetensors or .h5 file, a KerasHub preset's folder or hub:NAME",
            found=text,
        )
    _check_variant(kind, depth, variant, text)
    if kind == "hub":
        return _SOURCES[kind], _hub(text.removeprefix("hub:"), depth, name)
    if not path.is_file():
        raise WeightsError("no such weights file", file=path)
    return _SOURCES[kind], _torch(path) if kind == "torch" else _applications(depth, text)


def _check_variant(kind: str, depth: int, variant: str, file: str) -> None:
    """Refuse a network whose strides lie elsewhere than where the weights were trained."""
    needed = _SOURCES[kind].variant if depth >= 50 else "v1"
    if variant != needed or (kind == "keras" and depth < 50):
        right = resnet_name(depth, needed)
        none = "an encoder that keras.applications has: resnet50, resnet101 or resnet152"
        what = none if right == resnet_name(depth, variant) else f"encoder {right}"
        raise UsageError("these weights are of another network", file=file, expected=what, found=f"{variant} {depth}")


def _torch(path: Path) -> dict[str, np.ndarray]:
    """Read a state dict and bring it to Keras's layout."""
    try:
        state = load_tensors(read_bytes(path, "weights file"))
    except (SafetensorError, KeyError, TypeError) as error:
        raise WeightsError(
            f"not a sound safetensors file: {error}", file=path, fix="copy or download it again"
        ) from error
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


def _hub(preset: str, depth: int, name: str) -> dict[str, np.ndarray]:
    """Return the tensors of a KerasHub preset: a name, which is downloaded, or a local folder."""
    try:
        import keras_hub
    except ImportError as error:
        raise WeightsError("reading a preset needs KerasHub", fix="pip install keras-hub") from error
    try:
        backbone = keras_hub.models.ResNetBackbone.from_preset(preset)
    except Exception as error:  # downloads and readers raise many kinds
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"KerasHub cannot load the preset: {first}", file=preset) from error
    deep = list(backbone.input_conv_filters) != [64]
    if deep or backbone.use_pre_activation or backbone.block_type.endswith("_vd"):
        what = "pre-activation (v2)" if backbone.use_pre_activation else "with the deep stem (vd)" if deep else "(vd)"
        raise WeightsError(f"the preset is a network {what}", file=preset, expected=name, found=preset)
    return _tensors(backbone)


def _tensors(model: keras.Model) -> dict[str, np.ndarray]:
    tensors = {f"{layer.name}/{w.name}": np.asarray(w) for layer in model.layers for w in layer.weights}
    epsilons = {
        f"{layer.name}/epsilon": np.asarray(layer.epsilon)
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    return {**tensors, **epsilons}
