"""Where a quantized file loses accuracy: the signal-to-quantization-noise ratio of each layer's output."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from unetres_edge.engines.probe import record_tensors

from .inspect import Graph, layers_of


def noise_by_layer(
    reference: bytes,
    data: bytes,
    images: tuple[np.ndarray, np.ndarray],
    layer_names: Iterable[str] | None = None,
) -> dict[str, float]:
    """Return layer -> 10 log10(sum of squares of the float output / sum of squares of the error), in dB.

    The errors of the layers before are in it: a layer is fed with what the file itself computed. Layers are those that
    end an op in both files; one without any error or signal is left out.

    Args:
        reference: the float32 `.tflite` of the same model.
        data: the quantized `.tflite`.
        images: the same images as each file takes them, both (N, h, w, C) float32; a few are enough.
        layer_names: names of the model's layers, as for `layers_of`.
    """
    names = None if layer_names is None else list(layer_names)
    graphs = Graph(reference), Graph(data)
    exact, rounded = (_outputs(graph, names) for graph in graphs)
    shared = [
        layer
        for layer, tensor in exact.items()
        if layer in rounded and graphs[0].shape(tensor) == graphs[1].shape(rounded[layer])
    ]
    signal, error = np.zeros(len(shared)), np.zeros(len(shared))
    pairs = zip(
        record_tensors(reference, images[0], [exact[layer] for layer in shared]),
        record_tensors(data, images[1], [rounded[layer] for layer in shared]),
        strict=True,
    )
    for tensors in pairs:
        for index, (true, stored) in enumerate(zip(*tensors, strict=True)):
            value = _real(graphs[1], rounded[shared[index]], stored)
            signal[index] += np.sum(np.square(true, dtype=np.float64))
            error[index] += np.sum(np.square(true - value, dtype=np.float64))
    return {
        layer: float(10 * np.log10(s / e)) for layer, s, e in zip(shared, signal, error, strict=True) if s > 0 and e > 0
    }


def _outputs(graph: Graph, names: list[str] | None) -> dict[str, int]:
    """Return layer -> the tensor that is its output; of several ops that end in a layer, the last one's."""
    outputs = {}
    for op, operator in zip(graph.ops(), graph.operators, strict=True):
        layers = layers_of(op, names)
        if layers and (op.outputs[0] == "FLOAT32" or graph.quantization(int(operator.outputs[0]))):
            outputs[layers[-1]] = int(operator.outputs[0])
    return outputs


def _real(graph: Graph, tensor: int, stored: np.ndarray) -> np.ndarray:
    quantization = graph.quantization(tensor)
    if quantization is None or stored.dtype.kind == "f":
        return stored.astype(np.float64)
    scale, zero_point = quantization
    return (stored.astype(np.float64) - zero_point) * scale
