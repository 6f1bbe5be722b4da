"""Own starts: trained U-Nets that come with the package, or that `write_start` wrote, into a network.

A start is a `.safetensors` file of the network's weights by variable, in float16, whose metadata says of which network
they are and how pictures met it. Beside one that comes with the package lie its model card, `.json`, and where it
segments something as it is, its verified int8 `.tflite` with the receipt.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from unetres_edge import Preprocessing
from unetres_edge.errors import UnetresError, UsageError, WeightsError
from unetres_edge.files import write_bytes

from ..choices.starts import NO_WEIGHTS, STARTS, file_of
from .stems import adapt_stem

_METADATA = "keras_unetres.start"
_KERNEL, _MEAN, _HEAD = "encoder1_1_conv/kernel", "encoder1_1_norm/moving_mean", "head_logits/"


@dataclass(frozen=True)
class StartFile:
    """A start, read.

    Args:
        file: where it is.
        filters: of its network.
        depth: of its network.
        preprocessing: how pictures met it.
        tensors: by variable, float32.
    """

    file: str
    filters: int
    depth: int
    preprocessing: Preprocessing
    tensors: dict[str, np.ndarray]


def write_start(
    file: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    preprocessing: Preprocessing,
    *,
    filters: int,
    depth: int,
) -> None:
    """Write the weights of a U-Net of colour pictures as a start.

    Args:
        file: `.safetensors` to write.
        tensors: by variable.
        preprocessing: how pictures meet the network.
        filters, depth: of the network, which has what `build_unet` gives it otherwise.

    Raises:
        WeightsError: values that are not finite in float16.
    """
    said = {"filters": filters, "depth": depth, "preprocessing": preprocessing.to_dict()}
    for name, value in tensors.items():
        if not (np.abs(value) <= np.finfo(np.float16).max).all():
            raise WeightsError(f"tensor {name} has values that float16 does not hold", file=file)
    halves = {name: np.asarray(value).astype(np.float16) for name, value in sorted(tensors.items())}
    write_bytes(file, save(halves, {_METADATA: json.dumps(said)}))


def read_start(weights: str | os.PathLike[str], filters: int | None = None) -> StartFile:
    """Read a start.

    Args:
        weights: a name of `STARTS`, or a file.
        filters: of the network that it is for, which tell the forms of a name apart; None for the usual one.

    Raises:
        UsageError: there is no such start.
        WeightsError: the file cannot be read, or is none.
    """
    path = _path_of(os.fspath(weights), filters)
    try:
        with safe_open(path, "numpy") as file:
            said = json.loads((file.metadata() or {})[_METADATA])
            tensors = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118
        pre = Preprocessing.from_dict(said["preprocessing"])
        return StartFile(os.fspath(path), int(said["filters"]), int(said["depth"]), pre, tensors)
    except KeyError as error:
        raise WeightsError(
            "the file does not say of which network its weights are",
            file=path,
            expected=f"a start such as {' or '.join(STARTS)}",
            fix="go on from a run of the same classes by --start RUN; published weights need --encoder",
        ) from error
    except (SafetensorError, UnetresError, OSError, RecursionError, TypeError, ValueError) as error:
        raise WeightsError(f"not a sound start: {error}", file=path, fix="copy or install it again") from error


def load_start(model: keras.Model, weights: str | os.PathLike[str]) -> Preprocessing:
    """Set a U-Net to a start and return how pictures met that.

    The first kernel is adapted to other channels as that of published weights is, and the head is set if it has as many
    classes.

    Args:
        model: a U-Net of this package with its own contracting path.
        weights: as for `read_start`.

    Raises:
        UsageError: the start is of another network, which is named.
        WeightsError: as `read_start`, or tensors are not finite.
    """
    filters, depth = _form(model)
    start = read_start(weights, filters)
    tensors, pre = _adapted(start, int(model.input_shape[-1]))
    paths = {variable.path: variable for variable in model.weights}
    fits = {path for path, variable in paths.items() if path in tensors and _shape(variable) == tensors[path].shape}
    other = sorted(path for path in {*paths, *tensors} - fits if not path.startswith(_HEAD))
    if other or (filters, depth) != (start.filters, start.depth) or _padding(model) != "same":
        raise UsageError(
            f"{weights} is a start of another network",
            expected=f"a U-Net with --filters {start.filters} --depth {start.depth}, and nothing else than usual",
            found=f"--filters {filters} --depth {depth}" + (f", {other[0]}" if other else ""),
            fix=f"--filters {start.filters} --depth {start.depth}, or --weights {NO_WEIGHTS}",
        )
    for path in sorted(fits):
        if not np.isfinite(tensors[path]).all():
            raise WeightsError(f"tensor {path} has values that are not finite", file=start.file)
        if path.endswith("/moving_variance") and tensors[path].min() < 0:
            raise WeightsError(f"the variance {path} is below 0", file=start.file, found=float(tensors[path].min()))
    for path in fits:
        paths[path].assign(tensors[path])
    height, width = (side or own for side, own in zip(model.input_shape[1:3], pre.size, strict=True))
    return replace(pre, size=(height, width))


def _path_of(text: str, filters: int | None) -> Path:
    if text in STARTS:
        start = STARTS[text]
        start.check(text, filters, None)
        return file_of(f"{text}_{filters or start.filters}", ".safetensors")
    if Path(text).suffix != ".safetensors":
        raise UsageError(
            "the start is unknown",
            expected=f"{', '.join(STARTS)}, or the .safetensors file of one; published weights need an encoder",
            found=text,
        )
    if not Path(text).is_file():
        raise WeightsError("no such weights file", file=text)
    return Path(text)


def _form(model: keras.Model) -> tuple[int, int]:
    """Return (filters, depth) of a U-Net with its own contracting path.

    Raises:
        UsageError: it is another network.
    """
    layers = {layer.name: layer for layer in model.layers}
    depth = sum(f"encoder{level}_1_conv" in layers for level in range(1, len(layers)))
    if not depth:
        expected = "a U-Net with its own contracting path; of an encoder, pass encoder="
        raise UsageError("the model is none that starts are of", expected=expected, found=model.name)
    return int(layers["encoder1_1_conv"].filters), depth


def _padding(model: keras.Model) -> str:
    return str(model.get_layer("encoder1_1_conv").padding)


def _shape(variable: keras.Variable) -> tuple[int, ...]:
    return tuple(variable.shape)


def _adapted(start: StartFile, channels: int) -> tuple[dict[str, np.ndarray], Preprocessing]:
    """Return the tensors of a start for another number of channels, and how such pictures are fed."""
    pre = start.preprocessing
    if channels == pre.channels or _KERNEL not in start.tensors or start.tensors[_KERNEL].shape[2] != 3:
        return start.tensors, pre
    mean, std = (np.broadcast_to(value, 3).astype(np.float64) for value in (pre.mean, pre.std))
    kernel, shift, mean, std = adapt_stem(start.tensors[_KERNEL], channels, mean, std)
    tensors = {**start.tensors, _KERNEL: kernel, _MEAN: start.tensors[_MEAN] - shift}
    return tensors, replace(
        pre, channels=channels, color_order="rgb", mean=tuple(mean.tolist()), std=tuple(std.tolist())
    )
