"""`unetres prune` and `unetres cluster`: a run trained on while its kernels come to hold less.

Pruning makes most of their weights 0, clustering leaves them few different values. Both work by
tensorflow-model-optimization in tf_keras, write a run of its own, and cannot be resumed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..choices.arguments import checks_kinds
from ..runs import CLUSTER, PRUNE, Compression
from ..settings import ClusterSettings, PruneSettings
from .retraining import Source, new_run, open_source, read_data
from .tf_keras_training import TfKerasNetwork, train_in_tf_keras

if TYPE_CHECKING:
    from ..data import Dataset

_GROWING = 2 / 3  # of the training, while the share of zeros grows; in the rest the network makes up for it


@checks_kinds
def prune(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    sparsity: float = PruneSettings.sparsity,
    layers: Sequence[str] | None = None,
    data: str | os.PathLike[str] | Dataset | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    learning_rate: float = PruneSettings.learning_rate,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train the network of a run on while its smallest weights become 0 (Zhu 2017), and write it as a run of its own.

    The share of zeros grows over the first two thirds of the steps. Kept are the weights of the best epoch that ends
    after that. `quantize` with `keep_zeros=True` takes the zeros along. A training that is stopped cannot be resumed.

    Args:
        source: a run folder; it is not changed.
        out: the run folder to make.
        sparsity: final share of zeros in each kernel, in (0, 1).
        layers: names of the layers to prune; None for all with large kernels but those that give the scores.
        data: present place of the data set of the run; None for where it was.
        epochs: passes over the data; 5 if `minutes` is not given either.
        minutes: wall-clock budget instead of `epochs`.
        learning_rate: peak of the schedule.
        overwrite: whether to replace an earlier run folder.
        say: callback for lines to the user.

    Returns:
        As `train`.

    Raises:
        UsageError: a sparsity out of range, or a layer that cannot be pruned. Nothing was written.
        ModelError: a layer has no form in tf_keras, it is named. Nothing was written.
        RunFolderError: not a run, one that is quantized, or its data changed.
    """
    from ..quantization import prune_model

    begun = time.perf_counter()
    opened = open_source(source, out, overwrite=overwrite)

    def make(steps: int) -> TfKerasNetwork:
        growing = max(1, int(steps * _GROWING))
        pruned = prune_model(opened.model, sparsity=sparsity, steps=growing, layers=layers)
        return TfKerasNetwork(pruned.model, pruned.strip, pruned.callbacks, growing)

    step = Compression(PRUNE, "tfmot", sparsity=sparsity)
    budget = {"epochs": epochs, "minutes": minutes, "learning_rate": learning_rate}
    done = _train_on(opened, out, make, step, data, budget, overwrite=overwrite, begun=begun, say=say)
    say(f"zeros     {100 * sparsity:.0f} % of the kernels; unetres quantize --keep-zeros keeps them")
    return done


@checks_kinds
def cluster(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    clusters: int = ClusterSettings.clusters,
    keep_zeros: bool = ClusterSettings.keep_zeros,
    layers: Sequence[str] | None = None,
    data: str | os.PathLike[str] | Dataset | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    learning_rate: float = ClusterSettings.learning_rate,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train the network of a run on with few different values in each kernel (Han 2016), and write it as another run.

    The values begin where k-means++ puts them; the network clustered so before any training counts as a candidate for
    the weights that are kept. A training that is stopped cannot be resumed.

    Args:
        source: a run folder; it is not changed.
        out: the run folder to make.
        clusters: number of different values in a kernel; 16 make 4 bits a weight.
        keep_zeros: weights that are 0, as those of a pruned run, stay 0; 0 is one of the values then.
        layers: names of the layers to cluster; None for all with large kernels but those that give the scores.
        data: present place of the data set of the run; None for where it was.
        epochs: passes over the data; 5 if `minutes` is not given either.
        minutes: wall-clock budget instead of `epochs`.
        learning_rate: peak of the schedule.
        overwrite: whether to replace an earlier run folder.
        say: callback for lines to the user.

    Returns:
        As `train`.

    Raises:
        UsageError: too few clusters, or a layer that cannot be clustered. Nothing was written.
        ModelError: a layer has no form in tf_keras, it is named. Nothing was written.
        RunFolderError: not a run, one that is quantized, or its data changed.
    """
    from ..quantization import cluster_model

    begun = time.perf_counter()
    opened = open_source(source, out, overwrite=overwrite)

    def make(steps: int) -> TfKerasNetwork:
        clustered = cluster_model(opened.model, clusters=clusters, keep_zeros=keep_zeros, layers=layers)
        return TfKerasNetwork(clustered.model, clustered.strip)

    step = Compression(CLUSTER, "tfmot", keep_zeros=keep_zeros, clusters=clusters)
    budget = {"epochs": epochs, "minutes": minutes, "learning_rate": learning_rate}
    return _train_on(opened, out, make, step, data, budget, overwrite=overwrite, begun=begun, say=say)


def _train_on(
    opened: Source,
    out: str | os.PathLike[str],
    make: Callable[[int], TfKerasNetwork],
    step: Compression,
    data: Any,
    budget: dict[str, Any],
    *,
    overwrite: bool,
    begun: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train a run on with the network that is made for a number of steps, and write it as another run."""
    make(1)  # refuses what has no such form before the data is read
    prepared = read_data(opened, data, step, **budget, say=say)
    with new_run(out, prepared, overwrite=overwrite) as run:
        return train_in_tf_keras(run, prepared, make, begun=begun, say=say)
