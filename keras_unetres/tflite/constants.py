"""The numbers that a file carries: all finite, and stored as the recipe says."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from unetres_edge.errors import ConversionError

from ..choices.recipes import Recipe
from .inspect import BORDERS, Graph, find_layer

_FLOATS = {"FLOAT16": np.float16, "FLOAT32": np.float32}
_KERNELS = {"float16": ("FLOAT16",), "int8": ("INT8",), "int4": ("INT4",)}


def check_constants(data: bytes, recipe: Recipe, layer_names: Iterable[str]) -> None:
    """Check the constants of a file that was just converted.

    Raises:
        ConversionError: a constant is not finite (such as a weight beyond 65504 in float16), or no kernel at all is
            stored as the recipe says.
    """
    graph = Graph(data)
    names = list(layer_names)
    kinds = set()
    for op in graph.operators:
        for tensor in op.inputs:
            if tensor < 0 or not graph.is_constant(tensor):
                continue
            kinds.add(graph.kind(tensor))
            dtype = _FLOATS.get(graph.kind(tensor))
            values = None if dtype is None else np.frombuffer(bytes(_bytes(graph, tensor)), dtype)
            if values is not None and not np.isfinite(values).all():
                layer = find_layer(_user(graph, op), names)
                raise ConversionError(
                    f"a weight is not finite in {graph.kind(tensor).lower()}",
                    found=f"{int((~np.isfinite(values)).sum())} such weights" + (f" (layer {layer})" if layer else ""),
                    fix="export with recipe float32" if dtype is np.float16 else "train again",
                )
    wanted = _KERNELS.get(recipe.weights, ())
    if wanted and not kinds.intersection(wanted):
        raise ConversionError(
            f"recipe {recipe.name} changes nothing in this model",
            expected=f"a layer whose kernel has a form in {recipe.weights}",
            found=", ".join(sorted({graph.op_name(op) for op in graph.operators})) or "no layer that computes",
            fix="export with another recipe",
        )


def _bytes(graph: Graph, tensor: int) -> bytes:
    return bytes(graph.model.buffers[graph.tensors[tensor].buffer].data)


def _user(graph: Graph, op: object) -> str:
    """Return the name of what an op makes, or of what is made from it where the op only changes a dtype."""
    output = op.outputs[0]  # type: ignore[attr-defined]
    if graph.op_name(op) in BORDERS:
        for later in graph.operators:
            if output in later.inputs:
                return graph.name(later.outputs[0])
    return graph.name(output)
