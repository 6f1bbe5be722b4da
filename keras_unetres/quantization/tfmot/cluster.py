"""Clustering with tensorflow-model-optimization (Han 2016): the weights of a kernel take few values, which are trained.

Which layers: those of `prune.choose_layers`. A file is smaller for it only where it is packed; see
`prune.deflated_size`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.errors import UsageError

from ...choices.arguments import checks_kinds
from .bridge import carry, set_weights, unwrapped
from .imports import load_tfmot
from .prune import choose_layers, kernels_by_layer

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Clustered:
    """A model whose kernels have few values while it trains.

    Args:
        model: a model of tf_keras, to `compile` and `fit`; losses, metrics and callbacks of Keras 3 will do.
        layers: names of the layers that are clustered.
        original: the model it was made from.
    """

    model: Any
    layers: tuple[str, ...]
    original: keras.Model

    def strip(self) -> keras.Model:
        """Return a Keras 3 model with the weights as they are now, the kernels being those of the clusters."""
        import keras

        values = {}
        for layer in self.model.layers:
            inner = unwrapped(layer)
            values[inner.name] = inner.get_weights()
            if inner is layer:
                continue
            layer.update_clustered_weights_associations()  # puts a tensor where the layer's own kernel was
            for index, name in layer.position_original_weights.items():
                values[inner.name].insert(index, np.asarray(getattr(inner, name)))
        return set_weights(values, keras.models.clone_model(self.original))


@checks_kinds
def cluster_model(
    model: keras.Model, *, clusters: int = 16, keep_zeros: bool = False, layers: Sequence[str] | None = None
) -> Clustered:
    """Return a copy of a model in which each kernel has at most `clusters` different values while it trains.

    k-means++ chooses the initial values; the kernels are clustered from the first step on. Train at a tenth of the
    learning rate that the model was trained with.

    Args:
        model: a flat functional Keras 3 model, trained.
        clusters: number of different values in a kernel; 16 make 4 bits a weight.
        keep_zeros: weights that are 0, as those of a pruned model, stay 0; 0 is one of the values then.
        layers: names of the layers to cluster; None for those of `prune.choose_layers` that have more weights than
            clusters.

    Raises:
        UsageError: too few clusters, a layer that is not there or has no kernel to cluster, or nothing to cluster.
        ModelError: a layer cannot be carried to tf_keras; it is named.
    """
    least = 3 if keep_zeros else 2
    if not isinstance(clusters, int) or clusters < least:
        raise UsageError("clusters cannot be used", expected=f"a whole number >= {least}", found=clusters)
    sizes = {name: kernel.size for name, kernel in kernels_by_layer(model).items()}
    chosen = tuple(name for name in choose_layers(model, layers) if layers or sizes[name] > clusters)
    if not chosen or min(sizes[name] for name in chosen) <= clusters:
        small = min(chosen or sizes, key=lambda name: sizes[name])
        raise UsageError(f"layer {small!r} has only {sizes[small]} weights", expected=f"more than {clusters} clusters")
    tools = load_tfmot().clustering.keras
    start = tools.CentroidInitialization.KMEANS_PLUS_PLUS

    def wrap(layer: Any) -> Any:
        if layer.name not in chosen:
            return layer
        return tools.cluster_weights(layer, clusters, start, preserve_sparsity=keep_zeros)

    return Clustered(carry(model, wrap), chosen, model)
