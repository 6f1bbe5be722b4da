"""Mixed precision: files in which some layers compute in float32 and the rest in int8, all from one calibration.

The converter calibrates once; each choice of layers then takes it less than a second. Which layers to choose is not
decided here, only what each one's rounding does to the answer.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from unetres_edge.engines.probe import run_images
from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import Preprocessing

from .convert import convert, requantize
from .heads import Head
from .inspect import Graph, layers_of
from .recipes import RECIPES

if TYPE_CHECKING:
    import keras

MIXED = "mixed_wi8_ai8_afp32"
# What moves or compares values and rounds nothing of its own.
_MOVERS = {
    *("AVERAGE_POOL_2D", "CONCATENATION", "MAX_POOL_2D", "PAD", "PADV2", "RELU", "RELU6", "RESHAPE"),
    *("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SHAPE", "SLICE", "STRIDED_SLICE", "TILE", "TRANSPOSE"),
}
_TOGETHER = "TRANSPOSE_CONV"  # the converter quantizes them whatever their names are
_MOST_BYTES = 1 << 28  # of the files made at a time


@dataclass(frozen=True)
class Mixable:
    """A layer that can compute in float32 or in int8; or all transposed convolutions, which the converter takes as one.

    Args:
        layers: Keras names; of what was fused into one op, the layer with the kernel.
        multiply_adds: of one run.
        moved: values that go in and out, which a change of precision has to pass over.
    """

    layers: tuple[str, ...]
    multiply_adds: int
    moved: int

    @property
    def name(self) -> str:
        """What people call it."""
        return " + ".join(self.layers)

    @property
    def cost(self) -> int:
        """What it costs to have it in float, in operations: its own, and one for each value that changes its form."""
        return self.multiply_adds + self.moved


class Mixer:
    """Makes files of one model that differ in which layers compute in float32.

    Args:
        calibrated: the float `.tflite` with the ranges of its tensors, as `calibrate` returns it.
        layer_names: of the Keras model.
        head: in what form the files take the image and give the answer.
    """

    def __init__(self, calibrated: bytes, layer_names: Sequence[str], head: Head) -> None:
        self._calibrated = calibrated
        self._names = list(layer_names)
        self._head = head
        self.layers = tuple(_mixables(Graph(calibrated), self._names))

    def make(self, choices: Sequence[Collection[str]]) -> Iterator[bytes]:
        """Yield a file for each choice of layers that compute in float32.

        Raises:
            UsageError: a choice names a layer that is no `Mixable`.
            ConversionError: the converter refused.
        """
        at_a_time = max(1, _MOST_BYTES // len(self._calibrated))
        graph = Graph(self._calibrated)
        floats = [float_ops(graph, choice, self._names) for choice in choices]
        for start in range(0, len(floats), at_a_time):
            yield from requantize(self._calibrated, floats[start : start + at_a_time], self._head, self._names)

    def noise(self, reference: bytes, images: np.ndarray) -> dict[str, float]:
        """Return the name of each `Mixable` -> signal to noise of the answer where that alone is in int8, in dB.

        Signal is the variance of the float scores over all pixels of the images, noise the mean squared error.

        Args:
            reference: the float32 `.tflite` of the same model with scores for an answer.
            images: (N, h, w, C) float32 as the network sees them.
        """
        every = [layer for each in self.layers for layer in each.layers]
        exact = np.stack(list(run_images(reference, images))).astype(np.float64)
        power = exact.var(axis=tuple(range(exact.ndim - 1))).sum()
        found = {}
        files = self.make([[layer for layer in every if layer not in each.layers] for each in self.layers])
        progress = tqdm(self.layers, desc="layers", unit="layer", disable=None, leave=False, file=sys.stderr)
        for each, data in zip(progress, files, strict=True):
            scores = np.stack(list(run_images(data, images)))
            error = np.square(scores - exact).mean(axis=tuple(range(exact.ndim - 1))).sum()
            found[each.name] = float(10 * np.log10(power / error)) if error > 0 and power > 0 else float("inf")
        return found


def calibrate(
    model: keras.Model, shape: tuple[int, int, int], head: Head, calibration: np.ndarray, pixels: Preprocessing | None
) -> Mixer:
    """Return what makes files of mixed precision of a model.

    Args:
        shape: (h, w, C).
        head: of the files.
        calibration: (N, h, w, C) float32 as the graph's input sees it.
        pixels: as for `convert`.

    Raises:
        ConversionError: as `convert`.
    """
    data = convert(
        model, shape, recipe=RECIPES[MIXED], head=head, calibration=calibration, pixels=pixels, only_calibrate=True
    )
    return Mixer(data, [layer.name for layer in model.layers], head)


def float_ops(graph: Graph, floats: Collection[str], layer_names: Iterable[str]) -> dict[str, list[str]]:
    """Return what computes in float32 where the layers `floats` do: "nodes", names of tensors, and "kinds" of ops.

    What only moves values, such as a concatenation, is float where all around it is.

    Raises:
        UsageError: no op of the graph comes from such a layer, or not all transposed convolutions are among them.
    """
    names = list(layer_names)
    layers = [layers_of(op, names) for op in graph.ops()]
    known = {layer for found in layers for layer in found}
    if set(floats) - known:
        raise UsageError(
            "the model has no such layer to keep in float",
            expected="the name of a convolution, a dense layer or a sum",
            found=", ".join(sorted(set(floats) - known)),
        )
    maker = {int(tensor): place for place, op in enumerate(graph.operators) for tensor in op.outputs}
    near: dict[int, set[int]] = {place: set() for place in range(len(layers))}
    for place, op in enumerate(graph.operators):
        for tensor in op.inputs:
            if int(tensor) in maker:
                near[place].add(maker[int(tensor)])
                near[maker[int(tensor)]].add(place)
    movers = {place for place, op in enumerate(graph.operators) if graph.op_name(op) in _MOVERS}
    chosen = {place for place, found in enumerate(layers) if set(found) & set(floats)}
    together = {place for place, op in enumerate(graph.operators) if graph.op_name(op) == _TOGETHER}
    if chosen & together and not together <= chosen:
        raise UsageError(
            "transposed convolutions are in float all together, or none",
            expected=", ".join(layers[place][0] for place in sorted(together) if layers[place]),
            found=", ".join(layers[place][0] for place in sorted(chosen & together)),
        )
    inside = chosen | movers
    while True:
        kept = {place for place in inside if place in chosen or near[place] <= inside}
        if kept == inside:
            break
        inside = kept
    nodes = [graph.name(int(graph.operators[place].outputs[0])) for place in sorted(inside)]
    return {"nodes": nodes, "kinds": [_TOGETHER] if chosen & together else []}


def _mixables(graph: Graph, names: list[str]) -> Iterator[Mixable]:
    sums: dict[tuple[str, ...], list[int]] = {}
    ops = graph.ops()
    together = tuple(layers_of(op, names)[0] for op in ops if op.name == _TOGETHER and layers_of(op, names))
    for op, operator in zip(ops, graph.operators, strict=True):
        layers = layers_of(op, names)
        if not layers or op.name in _MOVERS:
            continue
        moved = sum(_size(graph, tensor) for tensor in (*operator.inputs, *operator.outputs) if tensor >= 0)
        found = sums.setdefault(together if layers[0] in together else layers[:1], [0, 0])
        found[0] += op.multiply_adds
        found[1] += moved
    for key, (multiply_adds, moved) in sums.items():
        yield Mixable(key, multiply_adds, moved)


def _size(graph: Graph, tensor: Any) -> int:
    return 0 if graph.is_constant(int(tensor)) else int(np.prod(graph.shape(int(tensor))))
