"""Keras callbacks: the learning rate of each step, a stop at the first loss that is not finite, the best weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from unetres_edge.errors import TrainingError


class LearningRate(keras.callbacks.Callback):
    """Set the learning rate before every step.

    Args:
        rate: step counted from 0 -> learning rate.
        first_step: the step that training starts with.
    """

    def __init__(self, rate: Callable[[int], float], first_step: int = 0) -> None:
        super().__init__()
        self._rate = rate
        self._step = first_step

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the rate of this step."""
        self.model.optimizer.learning_rate = self._rate(self._step)
        self._step += 1


class StopNonFinite(keras.callbacks.Callback):
    """Raise TrainingError at the first step whose loss is NaN or infinite.

    The loss is the unscaled one, so an overflow of mixed precision's loss scale, which the optimizer skips, does not
    stop training.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remember the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the loss."""
        loss = float((logs or {}).get("loss", 0.0))
        if not np.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} in epoch {self._epoch + 1}, step {batch + 1}",
                expected="a finite loss",
                fix="the best weights so far are kept; lower --learning-rate or look for broken images",
            )


class KeepBest(keras.callbacks.Callback):
    """Call `keep` after an epoch whose validation mIoU is the best so far, or within `tolerance` of it.

    A validation score is noisy, most of all while the learning rate is high, and the highest of many is a lucky one.
    Among epochs that are equally good within the tolerance the latest is kept, as its rate was the lowest.

    Args:
        keep: called with (epoch counted from 1, mIoU).
        best: the highest mIoU of earlier epochs.
        tolerance: difference of mIoU that does not count; 0 keeps the highest score itself.
    """

    def __init__(self, keep: Callable[[int, float], None], best: float = -1.0, tolerance: float = 0.005) -> None:
        super().__init__()
        self._keep = keep
        self.best = best
        self.tolerance = tolerance

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare and keep."""
        score = (logs or {}).get("val_miou")
        if score is None or not score >= self.best - self.tolerance:
            return
        self.best = max(self.best, float(score))
        self._keep(epoch + 1, float(score))


class AfterEpoch(keras.callbacks.Callback):
    """Call `record` with (epoch counted from 1, whether it is the last, the epoch's figures) after every epoch."""

    def __init__(self, record: Callable[[int, bool, dict[str, float]], None]) -> None:
        super().__init__()
        self._record = record

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record."""
        figures = {key: float(value) for key, value in (logs or {}).items()}
        self._record(epoch + 1, epoch + 1 == self.params["epochs"], figures)
