"""Pruning by magnitude with tensorflow-model-optimization (Zhu 2017): the smallest weights become 0 while others train.

Which layers: convolutions, transposed ones, the pointwise part of separable ones, and dense layers. Left alone are
depthwise kernels and the layers that give the scores; `choose_layers` says why. A file is not smaller or faster for its
zeros until it is packed: `deflated_size` tells what a zip or an app store makes of it. Quantization-aware training
afterwards keeps the zeros where its `keep_zeros` is set; tensorflow-model-optimization's own scheme for both (PCQAT)
zeroes 1x1 kernels whole (its issue 979) and is not used.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.errors import UsageError

from ...choices.arguments import checks_kinds
from .bridge import carry, copy_weights, unwrapped
from .imports import load_tfmot

if TYPE_CHECKING:
    import keras

# The kernel that is pruned or clustered, by the class of its layer.
KERNELS = {
    "Conv2D": "kernel",
    "Conv2DTranspose": "kernel",
    "Dense": "kernel",
    "SeparableConv2D": "pointwise_kernel",
}
_LEAST_WEIGHTS = 64  # in a kernel, below which there is nothing to gain


@dataclass(frozen=True)
class Pruned:
    """A model that is pruned while it trains.

    Args:
        model: a model of tf_keras, to `compile` and `fit`; losses, metrics and callbacks of Keras 3 will do.
        callbacks: callbacks that `fit` must have, beside your own.
        layers: names of the layers that are pruned.
        original: the model it was made from.
    """

    model: Any
    callbacks: list[Any]
    layers: tuple[str, ...]
    original: keras.Model

    def strip(self) -> keras.Model:
        """Return a Keras 3 model with the weights as they are now, those that are pruned being 0."""
        import keras

        for layer in self.model.layers:
            if unwrapped(layer) is not layer:
                layer.pruning_obj.weight_mask_op()
        return copy_weights(self.model, keras.models.clone_model(self.original))


@checks_kinds
def prune_model(
    model: keras.Model,
    *,
    sparsity: float = 0.5,
    steps: int,
    first: float = 0.0,
    frequency: int | None = None,
    layers: Sequence[str] | None = None,
) -> Pruned:
    """Return a copy of a model that is pruned while it trains; its share of zeros grows by Zhu 2017 eq. 1.

    Args:
        model: a flat functional Keras 3 model, trained.
        sparsity: final share of zeros in each kernel, in (0, 1).
        steps: training steps until then. Train on for a third as long and more, for the rest to make up for it.
        first: share of zeros at the first step.
        frequency: steps between two choices of what is 0; None for a hundredth of `steps`.
        layers: names of the layers to prune; None for those of `choose_layers`.

    Raises:
        UsageError: a number out of range, a layer that is not there or has no kernel to prune, or nothing to prune.
        ModelError: a layer cannot be carried to tf_keras; it is named.
    """
    if not 0 < sparsity < 1 or not 0 <= first < 1 or first > sparsity:
        raise UsageError("sparsity cannot be used", expected="0 <= first <= sparsity < 1", found=(first, sparsity))
    if not 1 <= (frequency or 1) <= steps:
        raise UsageError("steps cannot be used", expected="1 <= frequency <= steps", found=(frequency, steps))
    chosen = choose_layers(model, layers)
    sparsity_tools = load_tfmot().sparsity.keras
    every = frequency or max(1, steps // 100)
    end = steps - steps % every  # at each multiple of `every` it is chosen anew what is 0; the last one is the end
    schedule = sparsity_tools.PolynomialDecay(first, sparsity, 0, end, power=3, frequency=every)

    def wrap(layer: Any) -> Any:
        return sparsity_tools.prune_low_magnitude(layer, schedule) if layer.name in chosen else layer

    return Pruned(carry(model, wrap), [sparsity_tools.UpdatePruningStep()], chosen, model)


def choose_layers(model: keras.Model, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return which layers are pruned or clustered: those named, or all that are worth it.

    Left out are depthwise kernels and kernels of few weights, in which there is nothing to gain, and the layers that
    make the scores, in which every weight is a class's.

    Raises:
        UsageError: a layer that is not there or has no such kernel, or nothing is left.
    """
    able = [layer for layer in model.layers if type(layer).__name__ in KERNELS and layer.trainable]
    if names is not None:
        missing = sorted(set(names) - {layer.name for layer in able})
        if missing:
            raise UsageError(
                f"layer {missing[0]!r} cannot be pruned or clustered",
                expected=f"a trainable layer that is a {', '.join(KERNELS)}",
            )
        chosen = tuple(layer.name for layer in able if layer.name in names)
    else:
        heads, kernels = _heads(model), kernels_by_layer(model)
        worth = [layer.name for layer in able if kernels[layer.name].size >= _LEAST_WEIGHTS]
        chosen = tuple(name for name in worth if name not in heads)
    if not chosen:
        raise UsageError(f"model {model.name!r} has no layer to prune or cluster")
    return chosen


def kernels_by_layer(model: keras.Model) -> dict[str, np.ndarray]:
    """Return each kernel that can be pruned or clustered, by layer name."""
    able = [layer for layer in model.layers if type(layer).__name__ in KERNELS]
    return {layer.name: np.asarray(getattr(layer, KERNELS[type(layer).__name__])) for layer in able}


def deflated_size(file: str | os.PathLike[str] | bytes) -> int:
    """Return the bytes of a file, or of the bytes given, once deflated (zlib, level 9)."""
    if not isinstance(file, bytes):
        with open(file, "rb") as opened:
            file = opened.read()
    return len(zlib.compress(file, 9))


def _heads(model: keras.Model) -> set[str]:
    """Return the layers with kernels that no other one with a kernel lies behind."""
    tensors, heads = list(model.outputs), set()
    seen: set[int] = set()
    while tensors:
        tensor = tensors.pop()
        layer, index, _ = tensor._keras_history
        if id(tensor) in seen or layer is None:
            continue
        seen.add(id(tensor))
        if type(layer).__name__ in KERNELS:
            heads.add(layer.name)
        else:
            tensors.extend(layer._inbound_nodes[index].input_tensors)
    return heads
