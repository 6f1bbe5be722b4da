"""The fit loop of `unetres train`: Keras `fit` over the plan of a run, from any step on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from unetres_edge.errors import TrainingError, UsageError

from ..choices.fitting import OPTIMIZERS
from ..runs import Plan
from .state import arrays, put, state_variables

_TIMED_SECONDS, _TIMED_STEPS = 0.5, 8  # about what one call measures, and the most steps
_PROBE_STEPS = (3, 30)


def make_optimizer(
    name: str = "adamw", *, weight_decay: float = 1e-4, clip_norm: float | None = 1.0, ema: float | None = None
) -> keras.optimizers.Optimizer:
    """Return an optimizer whose rate is set from outside.

    Args:
        name: "adamw" (Loshchilov 2019) or "sgd" (Nesterov momentum 0.9).
        weight_decay: weight decay of kernels; biases and normalisation are left out.
        clip_norm: largest norm of all gradients together, or None.
        ema: momentum of the moving average of the weights, or None for no average.

    Raises:
        UsageError: an unknown name.
    """
    common = {
        "learning_rate": 1e-3,
        "weight_decay": weight_decay,
        "global_clipnorm": clip_norm,
        "use_ema": ema is not None,
        "ema_momentum": 0.99 if ema is None else ema,
        "name": name,
    }
    if name == "adamw":
        optimizer = keras.optimizers.AdamW(**common)
    elif name == "sgd":
        optimizer = keras.optimizers.SGD(momentum=0.9, nesterov=True, **common)
    else:
        raise UsageError("the optimizer is unknown", expected=" or ".join(OPTIMIZERS), found=name)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def compile_model(
    model: keras.Model,
    loss: keras.losses.Loss,
    metrics: list[keras.metrics.Metric],
    optimizer: keras.optimizers.Optimizer | None = None,
    *,
    xla: bool = True,
) -> None:
    """Compile with XLA, and make the optimizer's variables."""
    model.compile(optimizer or make_optimizer(), loss=loss, metrics=metrics, jit_compile=xla)
    model.optimizer.build(model.trainable_variables)


def timed_step(model: keras.Model, train: tf.data.Dataset) -> Callable[[], float]:
    """Return a function that trains for some steps and returns the seconds of one, in the middle.

    What a fit takes by itself, as to start the pipeline, is not counted; nor is, but for the first call, compiling.

    Args:
        model: compiled.
        train: batches without end.
    """
    ticks: list[float] = []
    seconds: list[float] = []

    def measure() -> float:
        ticks.clear()
        steps = int(np.clip(_TIMED_SECONDS / seconds[-1], 1, _TIMED_STEPS)) if seconds else 1
        model.fit(train, steps_per_epoch=1 + steps, shuffle=False, verbose=0, callbacks=[_noting(ticks)])
        seconds.append(max(1e-4, float(np.median(np.diff(ticks)))))
        return seconds[-1]

    return measure


def _noting(ticks: list[float]) -> keras.callbacks.Callback:
    """Return a callback that adds the time at the end of every step."""
    return keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ticks.append(time.perf_counter()))


def probe_speed(
    model: keras.Model, train: tf.data.Dataset, validation: tf.data.Dataset, seconds: float = 6.0
) -> tuple[float, float]:
    """Compile the training and validation steps, time them, and put every variable back.

    Args:
        model: compiled.
        train: batches without end.
        validation: the batches of a validation.
        seconds: about what the timed training steps may take.

    Returns:
        (seconds of a training step, seconds of a validation).
    """
    variables = state_variables(model)
    before = arrays(variables)
    ticks: list[float] = []
    clock = _noting(ticks)
    model.fit(train, steps_per_epoch=2, shuffle=False, verbose=0, callbacks=[clock])
    once = max(1e-4, ticks[1] - ticks[0])
    steps = int(np.clip(seconds / once, *_PROBE_STEPS))
    ticks.clear()
    model.fit(train, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[clock])
    step_seconds = float(np.median(np.diff(ticks)))
    mean_seconds = (ticks[-1] - ticks[0]) / (len(ticks) - 1)
    model.evaluate(validation, steps=1, verbose=0)
    start = time.perf_counter()
    model.evaluate(validation, verbose=0)
    validation_seconds = time.perf_counter() - start
    put(variables, before)
    return max(step_seconds, mean_seconds), validation_seconds


@contextlib.contextmanager
def named_memory() -> Iterator[None]:
    """Raise TrainingError, which says what to lower, where the memory does not suffice for a network and its steps."""
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError, tf.errors.InternalError) as error:
        if isinstance(error, tf.errors.InternalError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise TrainingError(
            "the memory does not suffice for a step",
            fix="lower --batch or --size, or --filters and --depth",
        ) from error


def fit(
    model: keras.Model,
    plan: Plan,
    train: Callable[[int], tf.data.Dataset],
    validation: tf.data.Dataset,
    callbacks: list[keras.callbacks.Callback],
    *,
    first_step: int = 0,
    validation_steps: int | None = None,
    last_epoch: int | None = None,
) -> None:
    """Run the plan from a step on.

    Args:
        train: first step -> the batches from there on.
        callbacks: callbacks that keep their own count of steps, as an epoch that is resumed is a `fit` of its own.
        first_step: steps done.
        validation_steps: batches of a validation, where the data set does not tell.
        last_epoch: the last one to be run, or None for that of the plan.
    """
    epoch, done = divmod(first_step, plan.steps_per_epoch)
    parts = [(epoch, epoch + 1, plan.steps_per_epoch - done)] if done else []
    parts.append((epoch + len(parts), last_epoch or plan.epochs, plan.steps_per_epoch))
    for first, end, steps in parts:
        if first >= end:
            continue
        trained = _Trained()
        model.fit(
            train(first_step if steps < plan.steps_per_epoch else first * plan.steps_per_epoch),
            validation_data=validation,
            validation_steps=validation_steps,
            initial_epoch=first,
            epochs=end,
            steps_per_epoch=steps,
            validation_freq=_ValidationEpochs(plan),
            shuffle=False,
            callbacks=[*callbacks, trained],
            verbose=0,
        )
        trained.put_back()
        if model.stop_training:
            break


class _ValidationEpochs(list[int]):
    """What Keras asks whether an epoch is validated; it takes a list, in which it looks for the epoch each time."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan

    def __contains__(self, epoch: object) -> bool:
        return isinstance(epoch, int) and self._plan.validates(epoch)


class _Trained(keras.callbacks.Callback):
    """Takes back what `fit` does last, which is to put the moving average in the place of the trained weights."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Remember the weights after the last epoch."""
        self._after: dict[str, np.ndarray] = {}
        averages = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer).use_ema
        if averages and (epoch + 1 == self.params["epochs"] or self.model.stop_training):
            self._after = arrays(self._trainable())

    def put_back(self) -> None:
        """Set them again."""
        if self._after:
            put(self._trainable(), self._after)

    def _trainable(self) -> dict[str, keras.Variable]:
        return {str(index): variable for index, variable in enumerate(self.model.trainable_variables)}
