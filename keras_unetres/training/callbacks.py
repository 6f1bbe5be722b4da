"""Keras callbacks: the rate of each step, a stop where the loss is not finite, the best weights, checkpoints.

They work on any `model.fit`. What they write, and where, is up to the functions they are given.
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from unetres_edge.errors import Stopped, TrainingError

from .state import averaged, norm_layers
from .stopping import StopRequest

_MOST_NAMES = 8  # files named for a batch with a loss that is not finite
_SAVING_SHARE = 0.05  # of the time that checkpoints may take


class LearningRate(keras.callbacks.Callback):
    """Set the learning rate before every step, and report it with the epoch's figures as "learning_rate".

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

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report the rate of the epoch's last step."""
        if logs is not None:
            logs["learning_rate"] = self._rate(self._step - 1)


class StopNonFinite(keras.callbacks.Callback):
    """Raise TrainingError at the first step whose loss is NaN or infinite.

    The loss is the unscaled one, so an overflow of mixed precision's loss scale, which the optimizer skips, does not
    stop training.

    Args:
        names: step counted from 0 -> the files of its batch, or None.
        first_step: the step that training starts with.
    """

    def __init__(self, names: Callable[[int], Sequence[str]] | None = None, first_step: int = 0) -> None:
        super().__init__()
        self._names = names
        self._step = first_step
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remember the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the loss."""
        step, self._step = self._step, self._step + 1
        loss = float((logs or {}).get("loss", 0.0))
        if np.isfinite(loss):
            return
        names = list(dict.fromkeys(self._names(step))) if self._names is not None else []
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        raise TrainingError(
            f"the loss is {loss} in epoch {self._epoch + 1}, step {step + 1}",
            expected="a finite loss",
            found=f"this batch: {', '.join(names[:_MOST_NAMES])}{more}" if names else None,
            fix="lower --learning-rate or look for broken images; weights that were kept before are still there",
        )


class FreezeNorm(keras.callbacks.Callback):
    """Train the last epochs with BatchNormalization as it is at inference: by its moving statistics, which then stay.

    Until then each batch is normalised by its own mean and variance. Where batches are small and images of several
    kinds, those are far from the moving ones, and a network that fits the first may fail with the second, at inference;
    training on with what inference uses lets the weights adapt (Wu and Johnson 2021, section 3). Scale and offset are
    trained on. The layers of this model object stay frozen after `fit`, in a later `fit` too; a copy, or a model built
    anew with the weights, is not.

    Args:
        epoch: the first epoch of it, counted from 0. From 0 on, a fresh network would be normalised by statistics that
            it has not gathered yet.
    """

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self._epoch = epoch
        self._frozen = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Freeze, once, and make the training step anew."""
        if self._frozen or epoch < self._epoch:
            return
        self._frozen = True
        norms = norm_layers(self.model)
        for layer in norms:
            layer.call = _at_inference(layer.call)
        if norms:
            self.model.make_train_function(force=True)


def _at_inference(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a layer's `call` that does not know of training."""

    def frozen(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return call(inputs, training=False, mask=mask)

    return frozen


class Averaged(keras.callbacks.Callback):
    """Validate, and let what follows an epoch see, the moving average of the weights where the optimizer keeps one.

    The average is in place from the start of validation until the callbacks of the epoch's end are through; put
    `Averaged(...)` around those that read the weights.

    Args:
        inner: callbacks whose `on_epoch_end` reads the weights.
        statistics: callback that returns a context in which what goes with the average is in place, too; asked for
            validations.
    """

    def __init__(
        self,
        inner: Sequence[keras.callbacks.Callback] = (),
        statistics: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        super().__init__()
        self._inner = list(inner)
        self._statistics = statistics
        self._place: contextlib.ExitStack | None = None

    def set_model(self, model: keras.Model) -> None:
        """Hand the model on to the inner callbacks."""
        super().set_model(model)
        for callback in self._inner:
            callback.set_model(model)

    def set_params(self, params: dict[str, Any]) -> None:
        """Hand the parameters on to the inner callbacks."""
        super().set_params(params)
        for callback in self._inner:
            callback.set_params(params)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Tell the inner callbacks of the end."""
        for callback in self._inner:
            callback.on_train_end(logs)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Put the average, and what goes with it, in place."""
        with contextlib.ExitStack() as contexts:
            contexts.enter_context(averaged(self.model))
            contexts.enter_context(self._statistics())
            self._place = contexts.pop_all()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Run the inner callbacks, then take the average out again."""
        in_place, self._place = self._place, None
        with averaged(self.model) if in_place is None else in_place:  # None after an epoch without validation
            for callback in self._inner:
                callback.on_epoch_end(epoch, logs)


class KeepBest(keras.callbacks.Callback):
    """Call `keep` after an epoch whose score on the validation part is the best so far, or close to it.

    A validation score is noisy, most of all while the learning rate is high, and the highest of many is a lucky one.
    Among epochs that are equally good within the tolerance the latest is kept, as its rate was the lowest.

    Args:
        keep: callback, called with (epoch counted from 1, score).
        best: the highest score of earlier epochs.
        tolerance: difference of the score that does not count; 0 keeps the highest score itself.
        monitor: the score's name in the logs; higher is better.
    """

    def __init__(
        self,
        keep: Callable[[int, float], None],
        best: float = -1.0,
        tolerance: float = 0.005,
        monitor: str = "val_miou",
    ) -> None:
        super().__init__()
        self._keep = keep
        self.best = best
        self.tolerance = tolerance
        self.monitor = monitor

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare and keep."""
        score = (logs or {}).get(self.monitor)
        if score is None or not score >= self.best - self.tolerance:
            return
        self.best = max(self.best, float(score))
        self._keep(epoch + 1, float(score))


class AfterEpoch(keras.callbacks.Callback):
    """Call `record` with (epoch counted from 1, the epoch's figures) after every epoch; True ends training there."""

    def __init__(self, record: Callable[[int, dict[str, float]], bool]) -> None:
        super().__init__()
        self._record = record

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record."""
        figures = {key: float(value) for key, value in (logs or {}).items()}
        # A class that is absent has no score of its own.
        figures = {key: value for key, value in figures.items() if not ("iou_" in key and math.isnan(value))}
        if self._record(epoch + 1, figures):
            self.model.stop_training = True


class Checkpoints(keras.callbacks.Callback):
    """Call `save` every so often, at the end of training, and before a stop that was asked for.

    Within an epoch a checkpoint also has to hold what the epoch's loss and metrics have summed up. Between the last
    step of an epoch and the end of its validation there is none: a stop asked for then waits for the validation.

    Args:
        save: callback, called with (steps done, whether that is within an epoch).
        steps: steps of the whole training.
        steps_per_epoch: steps of an epoch.
        seconds: between two checkpoints; longer where saving takes more than a twentieth of the time.
        stop: request of a stop.
        first_step: the step that training starts with.
        agree: flag -> whether this process, or another one that trains in step and asks the same, has it set.
    """

    def __init__(
        self,
        save: Callable[[int, bool], None],
        *,
        steps: int,
        steps_per_epoch: int,
        seconds: float,
        stop: StopRequest,
        first_step: int = 0,
        agree: Callable[[bool], bool] = bool,
    ) -> None:
        super().__init__()
        self._agree = agree
        self._save = save
        self._steps = steps
        self._steps_per_epoch = steps_per_epoch
        self._seconds = seconds
        self._stop = stop
        self._step = first_step
        self._last = time.perf_counter()
        self._cost = 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Save within an epoch."""
        self._step += 1
        if self._step % self._steps_per_epoch == 0:
            return
        stop = self._agree(self._stop.signal != 0)
        if stop or self._agree(self._due()):
            self._now(True)
        if stop:
            raise Stopped(self._stop.signal or signal.SIGTERM)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save after an epoch."""
        last = self._step >= self._steps or self.model.stop_training
        stop = self._agree(self._stop.signal != 0)
        if last or stop or self._agree(self._due()):
            self._now(False)
        if stop and not last:
            raise Stopped(self._stop.signal or signal.SIGTERM)

    def _due(self) -> bool:
        return time.perf_counter() - self._last >= max(self._seconds, self._cost / _SAVING_SHARE * (self._seconds > 0))

    def _now(self, within: bool) -> None:
        start = time.perf_counter()
        self._save(self._step, within)
        self._last = time.perf_counter()
        self._cost = self._last - start
