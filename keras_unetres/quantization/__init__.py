"""Smaller and faster networks: quantization-aware training, pruning and clustering.

Quantization-aware training is done inside Keras 3 by default. Pruning and clustering, and a second engine for
quantization-aware training, work by tensorflow-model-optimization on models of tf_keras; both packages are imported in
`tfmot` alone, and only when used.
"""

from ..choices.quantization import ENGINES
from .aware import quantize_aware, to_keras
from .folding import Folded, Point, fold
from .native import build_native, set_ranges
from .ranges import METHODS, find_ranges
from .tfmot.adapters import adapt_loss, adapt_metric
from .tfmot.cluster import Clustered, cluster_model
from .tfmot.prune import Pruned, deflated_size, prune_model

__all__ = [
    "Clustered",
    "ENGINES",
    "Folded",
    "METHODS",
    "Point",
    "Pruned",
    "adapt_loss",
    "adapt_metric",
    "build_native",
    "cluster",
    "cluster_model",
    "deflated_size",
    "find_ranges",
    "fold",
    "prune",
    "prune_model",
    "quantize_aware",
    "set_ranges",
    "to_keras",
]

cluster, prune = cluster_model, prune_model  # their names in the version before
