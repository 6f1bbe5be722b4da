"""Checkpoints, best weights and history: written to the run folder, and restored so that nothing shows a stop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from unetres_edge.errors import RunFolderError

from ..runs import Plan, RunFolder
from .callbacks import AfterEpoch, Averaged, Checkpoints, KeepBest
from .devices import Devices, OneDevice
from .state import arrays, metric_variables, refuse_non_finite, state_variables
from .stopping import StopRequest


class CheckpointWriter:
    """Writes the best weights, the history and checkpoints to the run folder, and restores the last checkpoint.

    Args:
        run: the folder.
        model: the compiled model that is trained.
        metrics: those it was compiled with.
        weights: the model whose weights are kept as the best; it may share only a part of the layers of `model`.
        plan: plan of the run.
        monitor: the score of the validation part, higher is better.
        patience: validations without a better score after which training ends, or None.
        devices: devices on which the model is trained; only the chief writes to the folder.
        tolerance: difference of the score within which the later epoch is kept; None for that of `KeepBest`.
        statistics: as `Averaged` takes it.

    Attributes:
        history: the figures of the epochs so far.
        best, best_epoch: the score of the weights that are kept, -1 before there are any, and their epoch.
        finished: whether training has come to its end.
    """

    def __init__(
        self,
        run: RunFolder,
        model: keras.Model,
        *,
        metrics: Sequence[keras.metrics.Metric],
        weights: keras.Model,
        plan: Plan,
        monitor: str,
        patience: int | None = None,
        devices: Devices | None = None,
        tolerance: float | None = None,
        statistics: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._statistics = statistics
        self._tolerance = {} if tolerance is None else {"tolerance": tolerance}
        self._run, self._model, self._metrics, self._weights = run, model, list(metrics), weights
        self._plan, self._patience, self._devices = plan, patience, devices or OneDevice()
        self.monitor = monitor
        self.history: list[dict[str, float]] = []
        self.best, self.best_epoch = -1.0, 0
        self.finished = False
        self._partial: dict[str, np.ndarray] = {}

    def restore(self) -> int:
        """Set the state of the last checkpoint, if there is one, and return the number of steps done.

        Raises:
            RunFolderError: the checkpoint is damaged, or that of another model.
        """
        from ..models import assign

        checkpoint = self._run.read_checkpoint()
        if checkpoint is None:
            return 0
        tensors, state = checkpoint
        self._partial = {name: tensors.pop(name) for name in list(tensors) if name.startswith("metric/")}
        file = self._run.path / "checkpoints"
        assign(state_variables(self._model), tensors, file=file)
        wrong = [key for key, fits in _STATE.items() if key not in state or not fits(state[key])]
        if wrong or state["step"] > self._plan.steps:
            raise RunFolderError(
                f"the checkpoint is of another version: no {', '.join(wrong) or 'such step in the plan'}", file=file
            )
        self.history, self.best, self.best_epoch = state["history"], state["best"], state["best_epoch"]
        self.finished = state["finished"]
        step: int = state["step"]
        return step

    def keep_start(self, score: float) -> None:
        """Keep the weights before any training as the best so far, and a checkpoint to begin from.

        For a start that is not a function of the seed; a better epoch replaces it.
        """
        self._keep_best(0, score)
        self._save(0, False)

    def callbacks(
        self,
        *,
        first_step: int,
        seconds: float,
        stop: StopRequest,
        pictures: Sequence[keras.callbacks.Callback] = (),
        last_epoch: int | None = None,
    ) -> list[keras.callbacks.Callback]:
        """Return the callbacks that keep everything.

        Args:
            first_step: the step that training starts with.
            seconds: between two checkpoints.
            stop: request of a stop.
            pictures: callbacks that look at the averaged weights after an epoch.
            last_epoch: epoch that this call of `fit` ends with, or None for that of the plan.
        """
        start = self.best if self.best_epoch == 0 else -1.0
        highest = max((row[self.monitor] for row in self.history if self.monitor in row), default=-1.0)
        return [
            _Resumed(self._partial, self._metrics, self._devices),
            Averaged(
                [KeepBest(self._keep_best, max(start, highest), monitor=self.monitor, **self._tolerance), *pictures],
                self._statistics,
            ),
            AfterEpoch(self._after_epoch),
            Checkpoints(
                self._save,
                steps=(last_epoch or self._plan.epochs) * self._plan.steps_per_epoch,
                steps_per_epoch=self._plan.steps_per_epoch,
                seconds=seconds,
                stop=stop,
                first_step=first_step,
                agree=self._devices.any_machine,
            ),
        ]

    def _keep_best(self, epoch: int, score: float) -> None:
        tensors = arrays({v.path: v for v in self._weights.weights})
        refuse_non_finite(tensors)
        self.best, self.best_epoch = score, epoch
        if self._devices.is_chief:
            self._run.write_weights(tensors)

    def _after_epoch(self, epoch: int, figures: dict[str, float]) -> bool:
        self.history.append({"epoch": epoch, **figures})
        if self._devices.is_chief:
            self._run.write_history(self.history)
        stalled = self._patience is not None and is_stalled(self.history, self.monitor, self._patience)
        self.finished = stalled or epoch == self._plan.epochs
        return stalled

    def _save(self, step: int, within: bool) -> None:
        tensors = arrays(state_variables(self._model))
        refuse_non_finite(tensors)
        if within:
            tensors |= arrays(metric_variables(self._model, self._metrics))
        if not self._devices.is_chief:
            return
        state = {
            "step": step,
            "history": self.history,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "finished": self.finished,
        }
        self._run.write_checkpoint(tensors, state)


def _is_history(rows: object) -> bool:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return False
    return all(
        type(row.get("epoch")) is int and all(type(value) in (int, float) for value in row.values()) for row in rows
    )


# What the state of a checkpoint holds -> whether a value is one.
_STATE: dict[str, Callable[[Any], bool]] = {
    "history": _is_history,
    "best": lambda value: type(value) in (int, float),
    "best_epoch": lambda value: type(value) is int and value >= 0,
    "finished": lambda value: type(value) is bool,
    "step": lambda value: type(value) is int and value >= 0,
}


class _Resumed(keras.callbacks.Callback):
    """Give the first epoch what its loss and metrics had summed up before the stop."""

    def __init__(
        self, partial: dict[str, np.ndarray], metrics: Sequence[keras.metrics.Metric], devices: Devices
    ) -> None:
        super().__init__()
        self._partial, self._sums, self._devices = partial, metrics, devices

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Set the sums once; `fit` has just set them to zero."""
        if self._partial:
            variables = metric_variables(self.model, self._sums)
            if not set(variables) >= set(self._partial):
                raise RunFolderError("the checkpoint is of other metrics", fix="train again")
            # Earlier versions counted less, and what came later stands behind: it starts at 0.
            known = {name: variable for name, variable in variables.items() if name in self._partial}
            self._devices.put_sums(known, self._partial)
            self._partial = {}


def is_stalled(history: list[dict[str, float]], monitor: str, patience: int) -> bool:
    """Return whether the last `patience` validations brought nothing better than those before them."""
    scores = [row[monitor] for row in history if monitor in row]
    return len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])
