"""Train a run in tf_keras, where tensorflow-model-optimization works, and keep the best epoch in the Keras 3 form.

It has no checkpoints: what is stopped is started anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..runs import Plan, RunFolder

if TYPE_CHECKING:
    import keras

    from ..training.training_data import TrainingData

_TIMED_STEPS = 4


@dataclass(frozen=True)
class TfKerasNetwork:
    """A network in tf_keras, and the way back.

    Args:
        model: a model of tf_keras, to `compile` and `fit`.
        to_keras: () -> the Keras 3 model with the weights as they are now.
        callbacks: callbacks that `fit` must have.
        settled: steps after which the weights have the form that was asked for; those of earlier epochs are not kept.
    """

    model: Any
    to_keras: Callable[[], keras.Model]
    callbacks: Sequence[Any] = ()
    settled: int = 0


def train_in_tf_keras(
    run: RunFolder,
    data: TrainingData,
    make: Callable[[int], TfKerasNetwork],
    *,
    begun: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train epoch by epoch, write the Keras 3 weights of the best one into the run, and finish the run.

    Weights that need no training to have their form are a candidate before the first epoch.

    Args:
        run: the run folder; its `run.json` gets the plan.
        data: data that it is trained on.
        make: number of steps -> a network to be trained for as many.
        begun: time at which the command began, by `time.perf_counter`.
        say: callback for lines to the user.

    Returns:
        As `train`.
    """
    import keras

    from ..models import assign
    from ..training.callbacks import LearningRate, StopNonFinite
    from ..training.trainer import told

    fit, monitor = data.settings.fit, data.task.monitor
    plan = _plan(data, make, begun)
    data = replace(data, info=replace(data.info, plan=plan))
    run.write_info(data.info)
    keras.utils.set_random_seed(fit.seed)
    network = make(plan.steps)
    _compile(network, data)
    say(f"plan      {plan.describe(fit.batch_size)}, by tfmot")
    best, best_epoch = -1.0, 0
    history: list[dict[str, float]] = []
    kept = network.to_keras()
    validate = _validation(kept, data)
    if network.settled == 0:
        best = validate()[monitor]
        run.write_weights({v.path: np.asarray(v) for v in kept.weights})
        say(f"start     validation {best:.4f}, before any training")
    try:
        for epoch in range(1, plan.epochs + 1):
            done = len(history) * plan.steps_per_epoch
            callbacks = [*network.callbacks, LearningRate(plan.rate, done), StopNonFinite(data.order.names, done)]
            batches = data.batches(done, done + plan.steps_per_epoch)
            figures = network.model.fit(
                batches, steps_per_epoch=plan.steps_per_epoch, verbose=0, callbacks=callbacks
            ).history
            weights = {v.path: np.asarray(v) for v in network.to_keras().weights}
            assign({v.path: v for v in kept.weights}, weights)
            history.append({"epoch": epoch, "loss": float(figures["loss"][0]), **validate()})
            run.write_history(history)
            score = history[-1][monitor]
            if done + plan.steps_per_epoch >= network.settled and score >= best:
                best, best_epoch = score, epoch
                run.write_weights(weights)
            say(f"epoch     {epoch}/{plan.epochs}  loss {history[-1]['loss']:.4f}  validation {score:.4f}")
    except KeyboardInterrupt:
        say(f"stopped; {run.path} cannot be resumed: start it anew, with --overwrite")
        raise
    except Exception:
        if data.fault is None:
            raise
        raise data.fault from None  # TensorFlow wraps it
    assign({v.path: v for v in kept.weights}, run.read_weights())
    data.task.finish(data, run, kept, history, say)
    return told(run, data, plan, best, best_epoch, begun, say)


def _compile(network: TfKerasNetwork, data: TrainingData) -> None:
    import keras

    fit = data.settings.fit
    network.model.compile(
        keras.optimizers.AdamW(fit.peak_rate, weight_decay=0.0, global_clipnorm=fit.clip_norm),
        data.task.loss(data.settings),
    )


def _validation(model: keras.Model, data: TrainingData) -> Callable[[], dict[str, float]]:
    """Compile a Keras 3 model, and return what scores it on the validation part with the weights that it then has."""
    from ..training.fit import compile_model, make_optimizer

    loss, metrics = data.task.loss(data.settings), data.task.metrics(data.info.classes.names)
    batches = data.validation_batches()

    compile_model(model, loss, metrics, make_optimizer(), xla=False)

    def validate() -> dict[str, float]:
        scores = model.evaluate(batches, verbose=0, return_dict=True)
        return {f"val_{key}": float(value) for key, value in scores.items()}

    return validate


def _plan(data: TrainingData, make: Callable[[int], TfKerasNetwork], begun: float) -> Plan:
    """Return the plan of the training; for a time budget, a network of its own is timed for a few steps."""
    from ..training.schedule import make_plan, make_timed_plan

    fit, per_epoch = data.settings.fit, data.steps_per_epoch
    if fit.minutes is None:
        assert fit.epochs is not None  # one of the two is set
        return make_plan(per_epoch, fit.peak_rate, epochs=fit.epochs, schedule=fit.schedule)
    network = make(1000)
    _compile(network, data)
    batches, callbacks = data.batches(0, 2 + _TIMED_STEPS), list(network.callbacks)
    network.model.fit(batches.take(2), verbose=0, callbacks=callbacks)
    start = time.perf_counter()
    network.model.fit(batches.skip(2), verbose=0, callbacks=callbacks)
    each = (time.perf_counter() - start) / _TIMED_STEPS
    left = max(1.0, 60 * fit.minutes - (time.perf_counter() - begun))
    validation = each * int(data.validation_batches().cardinality()) / 2
    return make_timed_plan(per_epoch, fit.peak_rate, seconds=left, step_seconds=each, validation_seconds=validation)
