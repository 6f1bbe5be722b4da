"""The fit loop of `unetres train`: a plan of steps, then Keras `fit` with callbacks that keep everything.

The plan is made once and written down. With a time budget, the speed of compiled steps is measured first; the probe
leaves no trace in the weights. From the plan on, everything is a function of the seed and the step.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .callbacks import LearningRate

_PROBE_SECONDS = 6.0
_PROBE_STEPS = (3, 30)
_VALIDATION_SHARE = 0.08


@dataclass(frozen=True)
class Plan:
    """What a run will do, in steps.

    Args:
        epochs: number of epochs.
        steps_per_epoch: optimizer steps in each.
        validate_every: epochs between two validations; the last epoch always validates.
        warmup_steps: steps over which the learning rate rises to its peak, before it falls to 0 as a cosine.
        learning_rate: the peak.
    """

    epochs: int
    steps_per_epoch: int
    validate_every: int
    warmup_steps: int
    learning_rate: float

    @property
    def steps(self) -> int:
        """All optimizer steps."""
        return self.epochs * self.steps_per_epoch

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step counted from 0: linear warm-up, then cosine to 0 (Loshchilov 2017)."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def validation_epochs(self) -> list[int]:
        """Return the epochs, counted from 1, after which validation is run."""
        return sorted({*range(self.validate_every, self.epochs + 1, self.validate_every), self.epochs})


def make_plan(
    steps_per_epoch: int,
    learning_rate: float,
    *,
    epochs: int,
    step_seconds: float = 1.0,
    validation_seconds: float = 0.0,
) -> Plan:
    """Return the plan for a number of epochs; validation takes at most about 8 % of the time.

    Only the ratio of `validation_seconds` to `step_seconds` counts.
    """
    every = math.ceil(validation_seconds / (_VALIDATION_SHARE * step_seconds * steps_per_epoch))
    every = max(1, min(every, epochs))
    steps = epochs * steps_per_epoch
    return Plan(epochs, steps_per_epoch, every, max(1, min(100, steps // 10)), learning_rate)


def make_timed_plan(
    steps_per_epoch: int, learning_rate: float, *, seconds: float, step_seconds: float, validation_seconds: float
) -> Plan:
    """Return the plan that fills a number of seconds, validation included."""
    steps = max(1, int((seconds - validation_seconds) / (step_seconds * (1 + _VALIDATION_SHARE))))
    per_epoch = min(steps_per_epoch, steps)
    return make_plan(
        per_epoch,
        learning_rate,
        epochs=max(1, steps // per_epoch),
        step_seconds=step_seconds,
        validation_seconds=validation_seconds,
    )


def compile_model(model: keras.Model, loss: keras.losses.Loss, metric: keras.metrics.Metric) -> None:
    """Compile with AdamW, gradients clipped to norm 1, and XLA."""
    optimizer = keras.optimizers.AdamW(learning_rate=1e-3, weight_decay=1e-4, global_clipnorm=1.0, name="adamw")
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(optimizer, loss=loss, metrics=[metric], jit_compile=True)
    model.optimizer.build(model.trainable_variables)


@contextlib.contextmanager
def precision_policy() -> Iterator[None]:
    """Build and train in mixed float16 where a GPU is present, in float32 elsewhere."""
    before = keras.config.dtype_policy()
    if tf.config.list_physical_devices("GPU"):
        keras.config.set_dtype_policy("mixed_float16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def state_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Return everything that a step changes, by name: weights, statistics, seeds and the optimizer's state."""
    named = {f"model/{variable.path}": variable for variable in model.weights}
    # Seeds are named by a counter of the process, so they are told apart by their place.
    seeds = [variable for variable in model.variables if f"model/{variable.path}" not in named]
    named |= {f"model/seed_{place}": variable for place, variable in enumerate(seeds)}
    named |= {f"optimizer/{variable.path}": variable for variable in model.optimizer.variables}
    if len(named) != len(model.variables) + len(model.optimizer.variables):
        raise ValueError("variables of the model or the optimizer share a path")
    return named


def probe_speed(model: keras.Model, train: tf.data.Dataset, validation: tf.data.Dataset) -> tuple[float, float]:
    """Compile the training and validation steps, time them, and put every variable back.

    Returns:
        (seconds of a training step, seconds of a validation).
    """
    variables = state_variables(model)
    before = {name: np.array(variable) for name, variable in variables.items()}
    ticks: list[float] = []
    clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ticks.append(time.perf_counter()))
    model.fit(train, steps_per_epoch=2, shuffle=False, verbose=0, callbacks=[clock])
    once = max(1e-4, ticks[1] - ticks[0])
    steps = int(np.clip(_PROBE_SECONDS / once, *_PROBE_STEPS))
    ticks.clear()
    model.fit(train, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[clock])
    step_seconds = float(np.median(np.diff(ticks)))
    mean_seconds = (ticks[-1] - ticks[0]) / (len(ticks) - 1)
    model.evaluate(validation, steps=1, verbose=0)
    start = time.perf_counter()
    model.evaluate(validation, verbose=0)
    validation_seconds = time.perf_counter() - start
    for name, variable in variables.items():
        variable.assign(before[name])
    return max(step_seconds, mean_seconds), validation_seconds


def fit(
    model: keras.Model,
    plan: Plan,
    train: Callable[[int, int], tf.data.Dataset],
    validation: tf.data.Dataset,
    callbacks: list[keras.callbacks.Callback],
    *,
    first_epoch: int = 0,
) -> None:
    """Run the plan from an epoch on.

    Args:
        train: (first epoch, end) -> the batches of these epochs.
    """
    model.fit(
        train(first_epoch, plan.epochs),
        validation_data=validation,
        initial_epoch=first_epoch,
        epochs=plan.epochs,
        steps_per_epoch=plan.steps_per_epoch,
        validation_freq=plan.validation_epochs(),
        shuffle=False,
        callbacks=[LearningRate(plan.rate, first_epoch * plan.steps_per_epoch), *callbacks],
        verbose=1 if sys.stdout.isatty() else 2,
    )
