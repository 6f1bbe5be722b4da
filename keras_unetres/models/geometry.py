"""Geometry read from a built graph: receptive field, halo, valid input sizes, output size, crop offset.

Each answer is measured on lines of input pixels that are sent through the graph (`lines`), long enough that their
middle sees no border.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import keras
import numpy as np

from unetres_edge.errors import ModelError, UsageError

from .lines import NOTHING, Line, SizesDifferError, Unknown, follow

_AXES = (0, 1)


def receptive_halo(model: keras.Model) -> int:
    """Return how far, in px, an input pixel can influence the output of a flat functional model.

    Raises:
        ModelError: a layer whose reach is not known, such as global pooling, or an output that is not at full size.
    """
    halo = 0
    for axis in _AXES:
        line, length = _whole_field(model, model.outputs[0], axis)
        if line.stride != 1:
            raise ModelError("the output is not at full size, so it has no halo", found=f"stride {line.stride}")
        position = np.arange(len(line)) + (length - len(line)) // 2
        seen = line.first < NOTHING
        halo = max(halo, int((position - line.first)[seen].max()), int((line.last - position)[seen].max()))
    return halo


def deepest_stride(model: keras.Model) -> int:
    """Return how many px of the input lie between neighbouring elements of the model's smallest map.

    Raises:
        ModelError: a layer whose reach is not known, such as global pooling.
    """
    lines = [line for axis in _AXES for line in follow(model, _some_size(model), axis).values()]
    unknown = next((line for line in lines if isinstance(line, Unknown)), None)
    if unknown is not None:
        raise _not_known(unknown)
    return int(max(line.stride for line in lines if isinstance(line, Line)))


def receptive_field(model: keras.Model, tensor: Any = None) -> int:
    """Return the side, px, of the input square that an element depends on at most.

    Args:
        model: a flat functional model.
        tensor: a map inside it; None for the model's output.

    Raises:
        ModelError: a layer whose reach is not known, such as global pooling.
    """
    tensor = model.outputs[0] if tensor is None else tensor
    return max(_width(_whole_field(model, tensor, axis)[0]) for axis in _AXES)


def output_size(model: keras.Model, side: int) -> int:
    """Return the side of the output, px, for a side of the input.

    Raises:
        UsageError: the network does not take this size; the nearest ones are named.
        ModelError: a layer whose reach is not known.
    """
    check_size(model, (side, side))
    return len(_line(follow(model, side, 0), model.outputs[0]))


def crop_offset(model: keras.Model) -> int:
    """Return how many px of each side of the input have no output: 0, or 92 for the paper's U-Net.

    Raises:
        ModelError: the output is not at full size, or a layer's reach is not known.
    """
    line, length = _whole_field(model, model.outputs[0], 0)
    if line.stride != 1:
        raise ModelError("the output is not at full size", found=f"stride {line.stride}")
    return (length - len(line)) // 2


def check_size(model: keras.Model, size: tuple[int, int]) -> None:
    """Check that a model takes an input of (height, width) px.

    Raises:
        UsageError: it does not; the nearest sizes are named.
        ModelError: the model is not functional.
    """
    for side in size:
        sizes = nearest_sizes(model, side)
        if side not in sizes:
            raise UsageError(f"input size {side} does not suit the model", fix=f"use {' or '.join(map(str, sizes))}")


def nearest_sizes(model: keras.Model, side: int) -> tuple[int, ...]:
    """Return the valid sizes, px, next to `side`: itself if it is valid, else the next below (if any) and above.

    A size is valid if the maps that meet have equal sizes, and a dense output lies in the middle of the input.
    """
    if _fits(model, side):
        return (side,)
    below = next((n for n in range(side - 1, 0, -1) if _fits(model, n)), None)
    limit = 4 * side + 4096
    above = next((n for n in range(side + 1, limit) if _fits(model, n)), None)
    return tuple(n for n in (below, above) if n is not None)


def strides(model: keras.Model) -> dict[str, Fraction]:
    """Return, by layer name, how many px of the input lie between neighbouring elements of the layer's output.

    Layers behind one whose reach is not known are left out.
    """
    lines = follow(model, _some_size(model), 0)
    lines_of = {layer.name: lines.get(id(layer.output)) for layer in model.layers}
    return {name: line.stride for name, line in lines_of.items() if isinstance(line, Line)}


def map_sizes(model: keras.Model, size: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Return, by layer name, the (height, width) of each layer's map for an input of this size, px.

    Layers without a map, such as those behind global pooling, are left out.

    Raises:
        UsageError: the network does not take this size.
    """
    check_size(model, size)
    lines = [follow(model, side, axis) for axis, side in zip(_AXES, size, strict=True)]
    sizes = {}
    for layer in model.layers:
        height, width = (axis_lines.get(id(layer.output)) for axis_lines in lines)
        if isinstance(height, Line) and isinstance(width, Line):
            sizes[layer.name] = (len(height), len(width))
    return sizes


def _whole_field(model: keras.Model, tensor: Any, axis: int) -> tuple[Line, int]:
    """Return the line of a tensor for an input so long that its middle sees no border, and that length."""
    length = _some_size(model)
    while True:
        line = _line(follow(model, length, axis), tensor)
        if 2 * _width(line) <= length:
            return line, length
        length = nearest_sizes(model, 2 * length)[-1]


def _width(line: Line) -> int:
    return int(max(0, (line.last - line.first).max() + 1))


def _some_size(model: keras.Model) -> int:
    return nearest_sizes(model, 256)[-1]


def _fits(model: keras.Model, side: int) -> bool:
    rest, step = _rest(model, side)
    if rest is None or rest <= 0:
        return rest == 0
    # Unpadded convolutions take as much of every size; what a stride drops besides, other sizes keep.
    rests = (_rest(model, side + more)[0] for more in range(1, step))
    return rest % 2 == 0 and all(other is None or other < 0 or other >= rest for other in rests)


def _rest(model: keras.Model, side: int) -> tuple[int | None, int]:
    """Return by how much a dense output is smaller than the input, and the deepest stride.

    0 stands for any output that is not dense, None for a size that the network does not take.
    """
    try:
        lines = follow(model, side, 0)
    except SizesDifferError:
        return None, 1
    output = lines[id(model.outputs[0])]
    if isinstance(output, Unknown) or output.stride != 1:
        return 0, 1
    step = max(line.stride for line in lines.values() if isinstance(line, Line))
    return (side - len(output) if len(output) else None), int(step)


def _line(lines: dict[int, Line | Unknown], tensor: Any) -> Line:
    line = lines[id(tensor)]
    if isinstance(line, Unknown):
        raise _not_known(line)
    return line


def _not_known(unknown: Unknown) -> ModelError:
    layer = unknown.layer
    return ModelError(
        f"the reach of layer {layer.name!r} ({type(layer).__name__}) is not known", fix="pass halo= when exporting"
    )
