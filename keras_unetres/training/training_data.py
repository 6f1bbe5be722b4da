"""A data set that is ready for a network: batches by step, validation, calibration, and what `run.json` says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..runs import RunInfo
from ..settings import TrainSettings

if TYPE_CHECKING:
    import keras

    from unetres_edge.errors import UnetresError

    from ..data import Records
    from ..data.pipeline import Order
    from ..data.samples import Samples
    from ..runs import RunFolder
    from .distillation import Teachers


class TrainingTask(Protocol):
    """What training asks of a task.

    Attributes:
        name: "segment" or "classify".
        monitor: the score of the validation part that decides which weights are kept; higher is better.
    """

    name: str
    monitor: str

    def build_network(self, info: RunInfo) -> keras.Model:
        """Return the network of a run; its weights are still to be set."""

    def loss(self, settings: TrainSettings) -> keras.losses.Loss:
        """Return the loss."""

    def metrics(self, class_names: tuple[str, ...]) -> list[keras.metrics.Metric]:
        """Return the metrics."""

    def callbacks(self, data: TrainingData, run: RunFolder, model: keras.Model) -> list[keras.callbacks.Callback]:
        """Return callbacks that draw while a model is trained, with the weights that would be kept."""

    def finish(
        self,
        data: TrainingData,
        run: RunFolder,
        model: keras.Model,
        history: list[dict[str, float]],
        say: Callable[[str], None],
    ) -> None:
        """Write pictures and reports of a model that has the weights that are kept."""


@dataclass(frozen=True)
class TrainingData:
    """A data set, ready for a network.

    Args:
        task: task that the network is to learn.
        settings: settings of the run.
        info: `run.json`; without its plan where the run begins.
        records: part -> decoded images and what is known of them.
        order: order of the crops; its samples are those trained on.
        validation: samples of the validation part.
        calibration: training crops (N, h, w, C) uint8, before normalisation.
        initial: variable path -> published weights that the network starts from.
        teachers: networks that it learns from beside the labels; None without.
    """

    task: TrainingTask
    settings: TrainSettings
    info: RunInfo
    records: dict[str, Records]
    order: Order
    validation: Samples
    calibration: np.ndarray
    initial: dict[str, np.ndarray]
    teachers: Teachers | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return self.order.samples.steps(self.order.batch_size)

    @property
    def fault(self) -> UnetresError | None:
        """What kept images from being read again, or None."""
        return self.order.samples.fault or self.validation.fault

    def batches(self, first_step: int, last_step: int, shard: tuple[int, int] = (0, 1)) -> Any:
        """Return the batches of some steps, for one of several workers, as a `tf.data.Dataset`."""
        from ..choices.augmentations import AUGMENTATIONS
        from ..data.pipeline import training_batches

        augmentation = AUGMENTATIONS[self.info.augment]
        return training_batches(self.order, augmentation, first_step=first_step, last_step=last_step, shard=shard)

    def validation_batches(self) -> Any:
        """Return fixed batches, as a `tf.data.Dataset`."""
        from ..data.pipeline import validation_batches

        return validation_batches(self.validation, batch_size=self.order.batch_size)
