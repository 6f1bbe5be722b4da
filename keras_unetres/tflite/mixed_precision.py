"""Mixed precision: convert a model to files in which chosen layers compute in float32 and all others in int8.

The model is calibrated once; a file for another choice of layers then takes less than a second. This module also
measures how much noise the int8 form of each layer adds to the output. The search for the layers to choose is in
`keras_unetres.verify`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.engines.probe import run_images
from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import Preprocessing

from ..choices.heads import Head
from ..choices.recipes import MIXED, RECIPES
from ..machine.progress_bar import with_progress
from .convert import convert, requantize
from .inspect import Graph, layers_of

if TYPE_CHECKING:
    import keras

# Ops that move or compare values and round nothing of their own.
_MOVERS = {
    *("AVERAGE_POOL_2D", "CONCATENATION", "MAX_POOL_2D", "PAD", "PADV2", "RELU", "RELU6", "RESHAPE"),
    *("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SHAPE", "SLICE", "STRIDED_SLICE", "TILE", "TRANSPOSE"),
}
_TRANSPOSED = "TRANSPOSE_CONV"  # the converter lets only all of them stay in float, by kind, not one by its name
_MOST_BYTES = 1 << 28  # of the files made at a time


@dataclass(frozen=True)
class LayerGroup:
    """Layers that compute in float32 or in int8 together: one layer, or all transposed convolutions of the model.

    Args:
        layers: names of the Keras layers; of layers fused into one op, that with the kernel.
        multiply_adds: multiply-adds of one run.
        moved: number of values in its inputs and outputs, each of which a change of precision converts.
    """

    layers: tuple[str, ...]
    multiply_adds: int
    moved: int

    @property
    def name(self) -> str:
        """The names of its layers, for people."""
        return " + ".join(self.layers)

    @property
    def cost(self) -> int:
        """The cost of float32, in operations: its multiply-adds, and one for each value that is converted."""
        return self.multiply_adds + self.moved


class MixedPrecisionConverter:
    """Converts one calibrated model to files that differ in which layers compute in float32.

    Args:
        calibrated: the float `.tflite` with the ranges of its tensors, as `calibrate` returns it.
        layer_names: names of the Keras model's layers.
        head: the form of the files' input and output.
    """

    def __init__(self, calibrated: bytes, layer_names: Sequence[str], head: Head) -> None:
        self._calibrated = calibrated
        self._names = list(layer_names)
        self._head = head
        self.groups = tuple(_layer_groups(Graph(calibrated), self._names))

    def convert(self, choices: Sequence[Collection[str]]) -> Iterator[bytes]:
        """Yield a `.tflite` for each choice of layers that compute in float32.

        Raises:
            UsageError: a choice names a layer of no `LayerGroup`.
            ConversionError: the converter refused.
        """
        at_a_time = max(1, _MOST_BYTES // len(self._calibrated))
        graph = Graph(self._calibrated)
        floats = [float_ops(graph, choice, self._names) for choice in choices]
        for start in range(0, len(floats), at_a_time):
            yield from requantize(self._calibrated, floats[start : start + at_a_time], self._head, self._names)

    def noise(self, reference: bytes, images: np.ndarray) -> dict[str, float]:
        """Return the name of each `LayerGroup` -> signal to noise of the scores with that group alone in int8, in dB.

        Signal is the variance of the float scores over all pixels of the images, noise the mean squared error.

        Args:
            reference: the float32 `.tflite` of the same model, with the head "logits".
            images: (N, h, w, C) float32 as the network sees them.
        """
        every = [layer for group in self.groups for layer in group.layers]
        exact = np.stack(list(run_images(reference, images))).astype(np.float64)
        power = exact.var(axis=tuple(range(exact.ndim - 1))).sum()
        decibels = {}
        files = self.convert([[layer for layer in every if layer not in group.layers] for group in self.groups])
        for group, data in zip(with_progress(self.groups, "layers", "layer"), files, strict=True):
            scores = np.stack(list(run_images(data, images)))
            error = np.square(scores - exact).mean(axis=tuple(range(exact.ndim - 1))).sum()
            decibels[group.name] = float(10 * np.log10(power / error)) if error > 0 and power > 0 else float("inf")
        return decibels


def calibrate(
    model: keras.Model, shape: tuple[int, int, int], head: Head, calibration: np.ndarray, pixels: Preprocessing | None
) -> MixedPrecisionConverter:
    """Calibrate a model and return the converter that makes files of it in mixed precision.

    Args:
        shape: (h, w, C).
        head: head of the files.
        calibration: (N, h, w, C) float32 as the graph's input sees it.
        pixels: as for `convert`.

    Raises:
        ConversionError: as `convert`.
    """
    data = convert(
        model, shape, recipe=RECIPES[MIXED], head=head, calibration=calibration, pixels=pixels, only_calibrate=True
    )
    return MixedPrecisionConverter(data, [layer.name for layer in model.layers], head)


def float_ops(graph: Graph, floats: Collection[str], layer_names: Iterable[str]) -> dict[str, list[str]]:
    """Return which ops stay in float32 when the layers `floats` do, as the converter takes it.

    Ops that only move values, such as concatenations, stay in float32 where all their neighbours do.

    Returns:
        "nodes", names of the first outputs of ops, and "kinds", ops of which all stay in float32.

    Raises:
        UsageError: no op of the graph comes from such a layer, or not all transposed convolutions are among them.
    """
    names = list(layer_names)
    layers = [layers_of(op, names) for op in graph.ops()]
    known = {layer for of_op in layers for layer in of_op}
    if set(floats) - known:
        raise UsageError(
            "the model has no such layer to keep in float",
            expected="the name of a convolution, a dense layer or a sum",
            found=", ".join(sorted(set(floats) - known)),
        )
    maker = {int(tensor): index for index, op in enumerate(graph.operators) for tensor in op.outputs}
    near: dict[int, set[int]] = {index: set() for index in range(len(layers))}
    for index, op in enumerate(graph.operators):
        for tensor in op.inputs:
            if int(tensor) in maker:
                near[index].add(maker[int(tensor)])
                near[maker[int(tensor)]].add(index)
    movers = {index for index, op in enumerate(graph.operators) if graph.op_name(op) in _MOVERS}
    chosen = {index for index, of_op in enumerate(layers) if set(of_op) & set(floats)}
    together = {index for index, op in enumerate(graph.operators) if graph.op_name(op) == _TRANSPOSED}
    if chosen & together and not together <= chosen:
        raise UsageError(
            "transposed convolutions are in float all together, or none",
            expected=", ".join(layers[index][0] for index in sorted(together) if layers[index]),
            found=", ".join(layers[index][0] for index in sorted(chosen & together)),
        )
    inside = chosen | movers
    while True:
        kept = {index for index in inside if index in chosen or near[index] <= inside}
        if kept == inside:
            break
        inside = kept
    nodes = [graph.name(int(graph.operators[index].outputs[0])) for index in sorted(inside)]
    return {"nodes": nodes, "kinds": [_TRANSPOSED] if chosen & together else []}


def _layer_groups(graph: Graph, names: list[str]) -> Iterator[LayerGroup]:
    sums: dict[tuple[str, ...], list[int]] = {}
    ops = graph.ops()
    together = tuple(layers_of(op, names)[0] for op in ops if op.name == _TRANSPOSED and layers_of(op, names))
    for op, operator in zip(ops, graph.operators, strict=True):
        layers = layers_of(op, names)
        if not layers or op.name in _MOVERS:
            continue
        moved = sum(_size(graph, tensor) for tensor in (*operator.inputs, *operator.outputs) if tensor >= 0)
        group = sums.setdefault(together if layers[0] in together else layers[:1], [0, 0])
        group[0] += op.multiply_adds
        group[1] += moved
    for key, (multiply_adds, moved) in sums.items():
        yield LayerGroup(key, multiply_adds, moved)


def _size(graph: Graph, tensor: Any) -> int:
    return 0 if graph.is_constant(int(tensor)) else int(np.prod(graph.shape(int(tensor))))
