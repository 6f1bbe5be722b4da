"""What training needs of a data set, whatever the task: batches, names, a loss, a score, and what to do at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..settings import TrainSettings

if TYPE_CHECKING:
    import keras

    from ..runs import RunFolder


@dataclass(frozen=True)
class Material:
    """The data, ready for a network, and what `run.json` says of it.

    Args:
        options: settings of the run.
        info: `run.json` without its plan.
        steps_per_epoch: batches of an epoch.
        batches: (first step, last step, (worker, workers)) -> the batches of these steps, a `tf.data.Dataset`.
        names: step -> names of the images in its batch.
        validation: () -> fixed batches, a `tf.data.Dataset`.
        calibration: training crops (N, h, w, C) uint8, before normalisation.
        initial: variable path -> published weights that the network starts from.
        loss: () -> the loss.
        metrics: () -> the metrics.
        monitor: the score of the validation part that decides which weights are kept; higher is better.
        watch: (run, model) -> callbacks that draw while it is trained, with the weights that would be kept.
        finish: called at the end with the run, the model with the weights that are kept, and the figures of each epoch.
    """

    options: TrainSettings
    info: dict[str, Any]
    steps_per_epoch: int
    batches: Callable[[int, int, tuple[int, int]], Any]
    names: Callable[[int], list[str]]
    validation: Callable[[], Any]
    calibration: np.ndarray
    initial: dict[str, np.ndarray]
    loss: Callable[[], keras.losses.Loss]
    metrics: Callable[[], list[keras.metrics.Metric]]
    monitor: str
    watch: Callable[[RunFolder, keras.Model], list[keras.callbacks.Callback]]
    finish: Callable[[RunFolder, keras.Model, list[dict[str, float]]], None]
