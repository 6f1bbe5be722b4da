"""Losses, metrics, optimizers and callbacks of Keras 3 on models of tf_keras.

tf_keras takes a Keras 3 loss for a plain function and drops the weights of pixels without a word. So the models of this
room adapt what their `compile` and `fit` are given: a Keras 3 loss is called as a loss, with its weights, and has the
value that it has in Keras 3. Nothing here knows what a loss or a metric computes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from unetres_edge.errors import UsageError

from .imports import load_tf_keras

# Arguments of Keras 3's optimizers that tf_keras does not know, and the values at which they do nothing.
_OPTIMIZER_EXTRAS = {"gradient_accumulation_steps": None, "loss_scale_factor": None}
_HOOKS = [
    *(f"on_{phase}_{edge}" for phase in ("train", "test", "predict") for edge in ("begin", "end")),
    *(f"on_{phase}_batch_{edge}" for phase in ("train", "test", "predict") for edge in ("begin", "end")),
    *("on_epoch_begin", "on_epoch_end"),
]


def adapt_loss(loss: Any) -> Any:
    """Return a `tf_keras.losses.Loss` with the values of a Keras 3 loss, weighted ones included.

    Args:
        loss: callback, called as `loss(y_true, y_pred, sample_weight)`, it returns a scalar: any `keras.losses.Loss`.
            Losses of tf_keras are returned as they are.

    Raises:
        UsageError: neither of the two.
    """
    import keras

    kinds = load_tf_keras().losses.Loss, keras.losses.Loss
    return _adapted(loss, *kinds, _loss_class, "a loss object such as keras_unetres.CrossEntropy()")


def adapt_metric(metric: Any) -> Any:
    """Return a `tf_keras.metrics.Metric` that counts in a Keras 3 metric and has its name and result.

    Args:
        metric: any `keras.metrics.Metric`; its result is a scalar or a dict of scalars. Those of tf_keras are returned
            as they are.

    Raises:
        UsageError: neither of the two.
    """
    import keras

    kinds = load_tf_keras().metrics.Metric, keras.metrics.Metric
    return _adapted(metric, *kinds, _metric_class, "a metric object such as keras_unetres.MeanIoU(2)")


def adapt_optimizer(optimizer: Any) -> Any:
    """Return the tf_keras optimizer of the same name and arguments; a name is returned as it is.

    Raises:
        UsageError: tf_keras does not know the optimizer, its schedule, or an argument that is set.
    """
    import keras

    tf_keras = load_tf_keras()
    if isinstance(optimizer, str) or not isinstance(optimizer, keras.optimizers.Optimizer):
        return optimizer
    name, config = type(optimizer).__name__, optimizer.get_config()
    for argument, neutral in _OPTIMIZER_EXTRAS.items():
        if config.pop(argument, neutral) != neutral:
            raise UsageError(f"tf_keras does not know the argument {argument} of {name}", fix="leave it out")
    rate = config["learning_rate"]
    if isinstance(rate, dict):
        config["learning_rate"] = _known(tf_keras.optimizers.schedules, rate["class_name"])(**rate["config"])
    return _known(tf_keras.optimizers, name)(**config)


def adapt_callback(callback: Any) -> Any:
    """Return a tf_keras callback that calls the hooks of a Keras 3 callback. Those of tf_keras are returned as is.

    What a callback does with its model must be known to tf_keras, such as `save_weights` and `stop_training`.

    Raises:
        UsageError: neither of the two.
    """
    import keras

    kinds = load_tf_keras().callbacks.Callback, keras.callbacks.Callback
    return _adapted(callback, *kinds, _callback_class, "keras.callbacks.Callback")


def _adapted(value: Any, known: type, adaptable: type, adapter: Callable[[], Any], expected: str) -> Any:
    """Return what is of a class of tf_keras as it is, and what is of Keras 3's in the class that adapts it."""
    if isinstance(value, known):
        return value
    if not isinstance(value, adaptable):
        raise UsageError("the object cannot be adapted to tf_keras", expected=expected, found=repr(value))
    return adapter()(value)


@functools.cache
def model_class() -> Any:
    """Return a class of functional tf_keras models whose `compile` and `fit` take what Keras 3's do."""
    tf_keras = load_tf_keras()

    class AdaptingModel(tf_keras.Model):  # type: ignore[name-defined]
        """A tf_keras model that is compiled and fitted with losses, metrics, optimizers and callbacks of Keras 3."""

        def compile(
            self,
            optimizer: Any = "rmsprop",
            loss: Any = None,
            metrics: Any = None,
            *,
            loss_weights: Any = None,
            weighted_metrics: Any = None,
            run_eagerly: bool = False,
            steps_per_execution: int = 1,
            jit_compile: bool | str = "auto",
        ) -> None:
            """Configure for training, as `keras.Model.compile`.

            Args:
                jit_compile: "auto" and False mean no XLA, under which fake quantization rounds otherwise.

            Raises:
                UsageError: XLA is asked for, or an object that tf_keras has no form of.
            """
            if jit_compile not in ("auto", False, None):
                raise UsageError("models in tf_keras are not compiled by XLA", expected="jit_compile=False", found=True)
            super().compile(
                optimizer=adapt_optimizer(optimizer),
                loss=_mapped(adapt_loss, loss),
                metrics=_mapped(adapt_metric, metrics),
                loss_weights=loss_weights,
                weighted_metrics=_mapped(adapt_metric, weighted_metrics) or [],
                run_eagerly=run_eagerly,
                steps_per_execution=steps_per_execution,
                jit_compile=False,
            )

        def fit(self, *args: Any, callbacks: Any = None, **kwargs: Any) -> Any:
            """Train, as `tf_keras.Model.fit`, with callbacks of either Keras."""
            return super().fit(*args, callbacks=_mapped(adapt_callback, callbacks), **kwargs)

    return AdaptingModel


def _mapped(adapt: Any, nested: Any) -> Any:
    """Adapt every object in lists and dicts; None and names are tf_keras's own affair."""
    if nested is None or isinstance(nested, str):
        return nested
    if isinstance(nested, dict):
        return {key: _mapped(adapt, value) for key, value in nested.items()}
    if isinstance(nested, list | tuple):
        return [_mapped(adapt, value) for value in nested]
    return adapt(nested)


def _known(module: Any, name: str) -> Any:
    attribute = getattr(module, name, None)
    if attribute is None:
        raise UsageError(f"tf_keras does not know {name}", fix="use another, such as Adam at a constant rate")
    return attribute


@functools.cache
def _loss_class() -> Any:
    tf_keras = load_tf_keras()

    class AdaptedLoss(tf_keras.losses.Loss):  # type: ignore[name-defined]
        """A Keras 3 loss in tf_keras."""

        def __init__(self, loss: Any) -> None:
            # Of tf_keras's reductions, this one leaves the scalar alone on one device, and on several takes it for the
            # share of one, which is what losses of Keras 3 return.
            super().__init__(reduction=tf_keras.losses.Reduction.SUM, name=loss.name)
            self._loss = loss

        def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
            return self._loss(y_true, y_pred, sample_weight)

        def call(self, y_true: Any, y_pred: Any) -> Any:
            """Return the loss without sample weights."""
            return self._loss(y_true, y_pred)

    return AdaptedLoss


@functools.cache
def _metric_class() -> Any:
    import tensorflow as tf

    tf_keras = load_tf_keras()
    as_written = tf.autograph.experimental.do_not_convert  # Keras 3's code is no code for AutoGraph

    class AdaptedMetric(tf_keras.metrics.Metric):  # type: ignore[name-defined]
        """A Keras 3 metric in tf_keras."""

        def __init__(self, metric: Any) -> None:
            super().__init__(name=metric.name)
            self._metric = metric

        @as_written
        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            """Count a batch."""
            self._metric.update_state(y_true, y_pred, sample_weight)

        @as_written
        def result(self) -> Any:
            """Return the metric's result."""
            return self._metric.result()

        def reset_state(self) -> None:
            """Start anew."""
            self._metric.reset_state()

    return AdaptedMetric


@functools.cache
def _callback_class() -> Any:
    tf_keras = load_tf_keras()

    class AdaptedCallback(tf_keras.callbacks.Callback):  # type: ignore[name-defined]
        """A Keras 3 callback in tf_keras."""

        def __init__(self, callback: Any) -> None:
            super().__init__()
            self._callback = callback

        def set_params(self, params: Any) -> None:
            """Pass the parameters on."""
            self._callback.set_params(params)

        def set_model(self, model: Any) -> None:
            """Pass the model on."""
            self._callback.set_model(model)

    def hook(name: str) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> None:
            getattr(self._callback, name)(*args, **kwargs)

        return call

    for name in _HOOKS:
        setattr(AdaptedCallback, name, hook(name))
    return AdaptedCallback
