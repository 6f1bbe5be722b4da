"""Training on several devices: of one machine, or of several machines that run the same command with `TF_CONFIG` set.

The engine is `tf.distribute`, and `model.fit` stays the way in. One thing is done in another way than Keras does it.
A model that was made under a strategy reduces the batch and the logs of each step by operations that fail with several
workers (Keras 3.15), and its optimizer clips, and looks for overflows, before gradients are summed over the devices.
So the model that is trained here is made outside the strategy, from layers made inside it; it is fed a distributed data
set; and the functions that Keras asks for a step, `make_train_function` and `make_test_function`, run the strategy.

What comes out is the training of one device with the same global batch, within float tolerance, as long as the loss
sums over the batch with `across_replicas` and batch normalisation is synchronised; with statistics of each device it is
another training, that of smaller batches. Dropout differs, too: its seeds are the same on every device, so each device
drops the same places of its own part. XLA does not compile a step of several devices.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from unetres_edge.errors import TrainingError, UsageError

from .compilation import find_gpus


@dataclass(frozen=True)
class Distribution:
    """Several devices that train one model in step.

    Args:
        strategy: a strategy of `tf.distribute`.
        worker: number of this machine.
        workers: number of machines.
    """

    strategy: tf.distribute.Strategy
    worker: int = 0
    workers: int = 1

    @property
    def replicas(self) -> int:
        """Devices of all machines; each gets an equal part of every batch."""
        return int(self.strategy.num_replicas_in_sync)

    @property
    def xla(self) -> bool:
        """Whether XLA compiles a step: not one of several devices."""
        return False

    @property
    def is_chief(self) -> bool:
        """Whether this machine is the one that writes files."""
        return self.worker == 0

    @property
    def shard(self) -> tuple[int, int]:
        """(number of this machine, number of machines), as `training_batches` takes it."""
        return self.worker, self.workers

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context in which the model's layers are made and in which it is compiled."""
        return self.strategy.scope()

    def build(self, make: Callable[[], keras.Model]) -> keras.Model:
        """Return a model whose layers have their weights on every device, and which itself is one of this device.

        Args:
            make: makes a functional model.
        """
        with self.scope():
            model = make()
        # Made anew outside the scope, it predicts here and now, without waiting for the other machines.
        return keras.Model(model.input, model.output, name=model.name)

    def replicate(self, model: keras.Model) -> keras.Model:
        """Return a model of the same layers whose `fit` and `evaluate` use all devices.

        The batch normalisation of these layers is synchronised from here on.

        Args:
            model: model that `build` returned. Call this outside of `scope()`, and `compile` inside.
        """
        if tf.distribute.has_strategy():
            raise ValueError("replicate() was called inside scope()")
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True
        return ReplicatedModel(self, model)

    def check_batch(self, batch_size: int) -> None:
        """Raise UsageError for a global batch that the devices cannot share equally."""
        if batch_size % self.replicas:
            raise UsageError(
                "the batch cannot be shared by the devices",
                expected=f"a multiple of {self.replicas} devices",
                found=batch_size,
                fix="change --batch or --devices",
            )

    def spread(self, batches: tf.data.Dataset, *, whole: bool = False) -> tf.distribute.DistributedDataset:
        """Return batches for `fit` and `evaluate`: each device gets its rows of each global batch, in order.

        Args:
            batches: batches of one size; the part of this machine of each global batch, as `training_batches` makes it.
            whole: whether they are whole global batches, of which this machine takes its part.

        Raises:
            UsageError: a batch that the devices cannot share equally.
        """
        size = tf.nest.flatten(batches.element_spec)[0].shape[0]
        if size is None:
            raise UsageError("the batches have no fixed size", fix="batch with drop_remainder=True")
        size = size if whole else size * self.workers
        self.check_batch(size)
        if self.workers == 1:
            return self.strategy.experimental_distribute_dataset(batches)
        # Not that function here: it would have every machine make all of every batch.
        number, devices = int(batches.cardinality()), self.replicas // self.workers
        if whole:
            batches = batches.rebatch(size // self.workers, drop_remainder=True).shard(self.workers, self.worker)
        parts = batches.rebatch(size // self.replicas, drop_remainder=True)
        if number > 0:
            parts = parts.apply(tf.data.experimental.assert_cardinality(number * devices))
        return self.strategy.distribute_datasets_from_function(lambda context: parts.prefetch(devices))

    def from_chief(self, values: Sequence[float]) -> list[float]:
        """Return the chief's values; every machine must call this at the same place."""
        return self._summed(values if self.is_chief else [0.0] * len(values))

    def any_machine(self, flag: bool) -> bool:
        """Return whether a flag is set on any machine; every machine must call this at the same place."""
        return self._summed([float(flag)])[0] > 0

    def check_same(self, text: str, what: str) -> None:
        """Raise UsageError on every machine if a text is not the same on all; all must call this at the same place.

        Args:
            what: words for what the text describes, for the message.
        """
        digest = float(int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big"))  # exact as a float64
        if self.any_machine(self.from_chief([digest]) != [digest]):
            raise UsageError(
                f"the machines differ in {what}", fix="run the same command on the same files with the same versions"
            )

    def put_sums(self, variables: Mapping[str, keras.Variable], values: Mapping[str, np.ndarray]) -> None:
        """Set what metrics have summed up over all devices; the first one takes all of it.

        An assignment would give each device an equal part, and a count that the devices do not divide would change.
        """
        for name, variable in variables.items():
            for index, part in enumerate(self.strategy.experimental_local_results(variable.value)):
                first = self.is_chief and index == 0
                part.assign(values[name] if first else np.zeros_like(values[name]))

    def _summed(self, values: Sequence[float]) -> list[float]:
        if self.workers == 1:
            return [float(value) for value in values]
        with self.guard():
            total = _all_reduce(self.strategy, tf.constant(values, tf.float64))
        return [float(value) for value in total.numpy() / (self.replicas // self.workers)]

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Turn TensorFlow's error for a machine that is gone into TrainingError."""
        try:
            yield
        except _GONE as error:
            if self.workers == 1:
                raise
            lines = [line.strip() for line in str(error).splitlines() if "abort" in line or "imed out" in line]
            raise TrainingError(
                f"a machine does not answer any more: {lines[0] if lines else type(error).__name__}",
                fix="look at the other machines, then go on with --resume on all of them",
            ) from error


_GONE = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError, tf.errors.InternalError)


def find_distribution(devices: int = 1, say: Callable[[str], None] = print) -> Distribution | None:
    """Return the devices to train on, or None for the one that TensorFlow uses anyway.

    Call it first: several machines have to be found before TensorFlow has done anything.

    Args:
        devices: devices of this machine. GPUs where there are any, else CPU devices.
        say: callback for a line to the user before waiting for other machines, which has no end.

    Raises:
        UsageError: more devices than there are, or a `TF_CONFIG` that does not say who takes part.
    """
    cluster = read_cluster(os.environ.get("TF_CONFIG"))
    gpus = find_gpus()
    if cluster is not None:
        available = max(1, len(gpus))
        _check_devices(devices, available, "CPU" if not gpus else "GPU")
        if gpus:
            tf.config.set_visible_devices(gpus[:devices], "GPU")
        say(f"machines  waiting for all {cluster[1]} of TF_CONFIG; this is number {cluster[0]}")
        # No time limit on collective operations: each leaves a thread that sleeps until its limit, and of hundreds
        # a second a machine runs out of threads. The strategy itself looks every half a minute whether all are there.
        return Distribution(tf.distribute.MultiWorkerMirroredStrategy(), *cluster)
    if devices == 1:
        return None
    kind = "GPU" if gpus else "CPU"
    names = [f"{kind}:{number}" for number, _ in enumerate(tf.config.list_logical_devices(kind))]
    _check_devices(devices, len(names), kind)
    return Distribution(tf.distribute.MirroredStrategy(names[:devices]))


def _check_devices(devices: int, available: int, kind: str) -> None:
    if not 1 <= devices <= available:
        raise UsageError("--devices is wrong", expected=f"1 to {available} {kind} of this machine", found=devices)


def read_cluster(text: str | None) -> tuple[int, int] | None:
    """Return (number of this machine, number of machines) of a `TF_CONFIG`, or None where it names no other machine.

    Raises:
        UsageError: it is not JSON, or does not say who takes part and which one this is.
    """
    if not text:
        return None
    example = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        config = json.loads(text)
        kinds, task = config["cluster"], config["task"]
        machines = [(kind, number) for kind in ("chief", "worker") for number in range(len(kinds.get(kind, [])))]
        if set(kinds) - {"chief", "worker"}:
            raise ValueError(f"only chief and worker, not {', '.join(sorted(set(kinds) - {'chief', 'worker'}))}")
        index = machines.index((task["type"], int(task["index"])))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"TF_CONFIG is wrong: {error!r}", expected=example, found=text) from error
    return (index, len(machines)) if len(machines) > 1 else None


class ReplicatedModel(keras.Model):
    """A functional model whose `fit` and `evaluate` take a step on all devices; see `Distribution.replicate`."""

    train_function: Callable[[Any], dict[str, tf.Tensor]] | None
    test_function: Callable[[Any], dict[str, tf.Tensor]] | None

    def __init__(self, distribution: Distribution, model: keras.Model) -> None:
        super().__init__(model.input, model.output, name=model.name)
        self.distribution = distribution

    def make_train_function(self, force: bool = False) -> None:
        """Set the function that trains on the next batch."""
        self._check()
        if force or self.train_function is None:
            self.train_function = tf.function(self._train, autograph=False, reduce_retracing=True)

    def make_test_function(self, force: bool = False) -> None:
        """Set the function that scores the next batch."""
        self._check()
        if force or self.test_function is None:
            self.test_function = tf.function(self._test, autograph=False, reduce_retracing=True)

    def _check(self) -> None:
        if self.jit_compile or self.run_eagerly or self.steps_per_execution != 1:
            raise ValueError("compile with jit_compile=False, run_eagerly=False and steps_per_execution=1")
        if not isinstance(self.optimizer.iterations.value, tf.distribute.DistributedValues):
            raise ValueError("make the optimizer and compile inside scope()")

    def _train(self, iterator: Any) -> dict[str, tf.Tensor]:
        strategy = self.distribution.strategy
        gradients = strategy.run(self._gradients, args=(iterator.get_next(),))
        # They are the same on every device. Outside the strategy the optimizer does not sum them once more, and clips
        # and looks for overflows with all of the gradient before it; the weights of all devices are updated.
        self.optimizer.apply([strategy.experimental_local_results(g)[0] for g in gradients], self.trainable_variables)
        return self.get_metrics_result()

    def _test(self, iterator: Any) -> dict[str, tf.Tensor]:
        self.distribution.strategy.run(self._score, args=(iterator.get_next(),))
        return self.get_metrics_result()

    def _gradients(self, batch: Any) -> list[tf.Tensor]:
        weights = [variable.value for variable in self.trainable_variables]
        with tf.GradientTape() as tape:
            loss = self.optimizer.scale_loss(self._loss(batch, training=True))
        gradients = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return tf.distribute.get_replica_context().all_reduce("sum", gradients)

    def _score(self, batch: Any) -> None:
        self._loss(batch, training=False)

    def _loss(self, batch: Any, *, training: bool) -> tf.Tensor:
        """Return the share of one device of the loss, and update the metrics."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        y_pred = self(x, training=training)
        loss = self.compute_loss(x, y, y_pred, sample_weight, training=training)
        tracker = next(metric for metric in self.metrics if metric.name == "loss")
        tracker.update_state(loss * self.distribution.replicas, sample_weight=tf.shape(y_pred)[0])
        self.compute_metrics(x, y, y_pred, sample_weight)
        return loss


@tf.function(autograph=False)
def _all_reduce(strategy: tf.distribute.Strategy, values: tf.Tensor) -> tf.Tensor:
    def total(part: tf.Tensor) -> tf.Tensor:
        return tf.distribute.get_replica_context().all_reduce("sum", tf.identity(part))

    return strategy.experimental_local_results(strategy.run(total, args=(values,)))[0]
