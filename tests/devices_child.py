"""A process of the tests of training on several devices: it trains tiny networks and writes what came of it.

    python devices_child.py DATA OUT.npz DEVICES

With `TF_CONFIG` it is one of several machines. DEVICES are CPU devices of this process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from keras_unetres.choices.augmentations import AUGMENTATIONS
from keras_unetres.data import open_dataset, read_records
from keras_unetres.data.pipeline import Order, training_batches, validation_batches
from keras_unetres.data.samples import Samples
from keras_unetres.models import build_unet
from keras_unetres.training import losses
from keras_unetres.training.callbacks import LearningRate
from keras_unetres.training.distribution import Distribution, find_distribution
from keras_unetres.training.fit import compile_model, make_optimizer
from keras_unetres.training.metrics import MeanIoU
from keras_unetres.training.state import arrays, metric_variables, put, state_variables
from unetres_edge import Preprocessing
from unetres_edge.errors import UsageError

BATCH, STEPS = 4, 3
SIZE = (32, 32)
CLIP = 0.05  # far below the norm of any gradient here, so that clipping matters in every step


class Trainer:
    """A compiled network and its data, on one device or several."""

    def __init__(self, data: str, distribution: Distribution | None, norm: str | None, loss: Callable[[], Any]) -> None:
        self.distribution = distribution
        records = read_records(open_dataset(data), ["train", "val"], progress=False)
        pre = Preprocessing(channels=3, size=SIZE, value_range=(-1.0, 1.0))
        self._order = Order(Samples(records["train"], pre), BATCH, 5)
        self._validation = validation_batches(Samples(records["val"], pre), batch_size=BATCH)
        keras.utils.set_random_seed(3)

        def make() -> keras.Model:
            return build_unet((*SIZE, pre.channels), len(records["train"].classes.names), filters=4, depth=1, norm=norm)

        self.model = distribution.replicate(distribution.build(make)) if distribution else make()
        with distribution.scope() if distribution else contextlib.nullcontext():
            self.metrics = [MeanIoU(len(records["train"].classes.names))]
            compile_model(self.model, loss(), self.metrics, make_optimizer("sgd", clip_norm=CLIP, ema=0.9), xla=False)

    def fit(self, first: int = 0, *, validate: bool = True, pause: float = 0.0) -> dict[str, np.ndarray]:
        """Train STEPS steps from a step on, validate, and return curve, scores and state."""
        shard = self.distribution.shard if self.distribution else (0, 1)
        train = training_batches(
            self._order, AUGMENTATIONS["microscopy"], first_step=first, last_step=first + STEPS, shard=shard
        )
        validation = self._validation
        if self.distribution:
            train, validation = self.distribution.spread(train), self.distribution.spread(validation, whole=True)
        curve: list[list[float]] = []

        def after(batch: int, logs: dict[str, Any]) -> None:
            curve.append([float(logs["loss"]), float(logs["miou"])])
            say(f"step {first + batch + 1}  loss {curve[-1][0]:.7f}  mIoU {curve[-1][1]:.7f}")
            time.sleep(pause)

        callbacks = [
            LearningRate(lambda step: 0.1 / (1 + step), first),
            keras.callbacks.LambdaCallback(on_train_batch_end=after),
        ]
        done = self.model.fit(
            train,
            steps_per_epoch=STEPS,
            validation_data=validation if validate else None,
            validation_steps=int(self._validation.cardinality()) if validate else None,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )
        scores = [done.history[name][0] for name in ("val_loss", "val_miou") if validate]
        if validate:
            say(f"validation  loss {scores[0]:.7f}  mIoU {scores[1]:.7f}")
        state = arrays(state_variables(self.model))
        weights = b"".join(value.tobytes() for name, value in state.items() if name.startswith("model/"))
        say(f"weights     {hashlib.sha256(weights).hexdigest()[:16]}")
        return {"curve": np.array(curve), "scores": np.array(scores), **state}


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def cross_entropy_dice() -> Any:
    return losses.CrossEntropy() + losses.Dice()


def main(data: str, out: str, devices: int, pause: float = 0.0) -> None:
    parts = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    distribution = find_distribution(devices)
    if distribution:
        say(f"machine {distribution.worker} of {distribution.workers}, {distribution.replicas} devices in step")
    found: dict[str, np.ndarray] = {}

    def keep(case: str, results: dict[str, np.ndarray]) -> None:
        found.update({f"{case}:{name}": value for name, value in results.items()})

    with distribution.guard() if distribution else contextlib.nullcontext():
        # Gradients are clipped in every step: their norm is far above the limit.
        say("no normalisation, cross-entropy")
        trainer = Trainer(data, distribution, None, losses.CrossEntropy)
        keep("bare", trainer.fit(validate=False, pause=pause))
        say("batch normalisation, cross-entropy and Dice")
        trainer = Trainer(data, distribution, "batch", cross_entropy_dice)
        keep("norm", trainer.fit())
        if distribution and distribution.workers > 1:
            keep("words", _agreement(distribution))
        if distribution and distribution.workers == 1:
            uneven = tf.data.Dataset.from_tensor_slices(np.zeros((6, 2), np.float32)).batch(3, drop_remainder=True)
            say("the same, with statistics of each device")
            other = Trainer(data, distribution, "batch", cross_entropy_dice)
            for layer in other.model.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = False
            keep("apart", other.fit(validate=False))
            keep("uneven", {"refused": np.array(_refused(lambda: distribution.spread(uneven)))})
            keep("again", _resumed(trainer, Trainer(data, distribution, "batch", cross_entropy_dice), distribution))
    np.savez(out, **found)


def _resumed(trainer: Trainer, other: Trainer, distribution: Distribution) -> dict[str, np.ndarray]:
    """Go on with a trainer, and with a new one that is given its state, and say what is equal bit for bit."""
    sums = metric_variables(trainer.model, trainer.metrics)
    odd = {name: np.full_like(value, 7) for name, value in arrays(sums).items()}  # two devices cannot share it equally
    distribution.put_sums(sums, odd)
    after = arrays(sums)
    put(state_variables(other.model), arrays(state_variables(trainer.model)))
    one, two = (each.fit(STEPS, validate=False) for each in (trainer, other))
    return {
        "sums": np.array([np.array_equal(odd[name], after[name]) for name in odd]),
        "equal": np.array([np.array_equal(one[name], two[name]) for name in one]),
    }


def _agreement(distribution: Distribution) -> dict[str, np.ndarray]:
    number = distribution.worker
    distribution.check_same("the same", "words")
    return {
        "chief": np.array(distribution.from_chief([number + 1, 0.1])),
        "any": np.array([distribution.any_machine(number == 1), distribution.any_machine(False)]),
        "refused": np.array(_refused(lambda: distribution.check_same(f"machine {number}", "words"))),
    }


def _refused(action: Callable[[], object]) -> bool:
    try:
        action()
    except UsageError as error:
        say(str(error))
        return True
    return False


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *map(float, sys.argv[4:]))
