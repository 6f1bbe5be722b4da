"""Everything that a step of training changes, by name; and the averaged weights in the place of the last ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import keras
import numpy as np

from unetres_edge.errors import TrainingError


def norm_layers(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Return the BatchNormalization layers of a model, those within nested models too."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def state_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Return everything that a step changes, by name: weights, statistics, seeds and the optimizer's state."""
    named = {f"model/{variable.path}": variable for variable in model.weights}
    # Seeds are named by a counter of the process, so they are told apart by their place.
    seeds = [variable for variable in model.variables if f"model/{variable.path}" not in named]
    named |= {f"model/seed_{index}": variable for index, variable in enumerate(seeds)}
    named |= {f"optimizer/{variable.path}": variable for variable in model.optimizer.variables}
    if len(named) != len(model.variables) + len(model.optimizer.variables):
        raise ValueError("variables of the model or the optimizer share a path")
    return named


def metric_variables(model: keras.Model, metrics: Sequence[keras.metrics.Metric]) -> dict[str, keras.Variable]:
    """Return what the loss and the metrics of the epoch have summed up so far, by place.

    Args:
        metrics: those that the model was compiled with. Keras lists them only once a step was traced.
    """
    trackers = [next(metric for metric in model.metrics if metric.name == "loss"), *metrics]
    summed = [variable for metric in trackers for variable in metric.variables]
    return {f"metric/{index}": variable for index, variable in enumerate(summed)}


def arrays(variables: dict[str, keras.Variable]) -> dict[str, np.ndarray]:
    """Return copies of the values of variables, which later steps do not change."""
    return {name: np.array(variable.numpy()) for name, variable in variables.items()}


def put(variables: Mapping[str, keras.Variable], values: Mapping[str, np.ndarray]) -> None:
    """Set variables to the values that `arrays` returned."""
    for name, variable in variables.items():
        variable.assign(values[name])


def refuse_non_finite(tensors: dict[str, np.ndarray]) -> None:
    """Raise TrainingError if a weight is NaN or infinite, so that such weights are never written."""
    for name, value in tensors.items():
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            raise TrainingError(
                f"the weights are not finite: {name}",
                fix="the last good weights are kept; lower --learning-rate",
            )


@contextlib.contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Put the optimizer's moving average (Polyak 1992) in the place of the trained weights, for as long as it lasts.

    Without `use_ema` nothing changes. Statistics of normalisation, averages themselves, stay as they are.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not optimizer.use_ema:
        yield
        return
    trained = {str(index): variable for index, variable in enumerate(model.trainable_variables)}
    before = arrays(trained)
    optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        put(trained, before)
