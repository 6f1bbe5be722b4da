"""keras-unet-collection: unet_2d of its user guide at half the filters, trained by Keras, exported by Keras."""

from __future__ import annotations

import math

import numpy as np
from _job import BATCH, CROP, IGNORE, Clock, crops, kilobytes, padded, read_job, report, use_threads, write_maps

job = read_job()
use_threads(job)

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras_unet_collection import models  # noqa: E402

RATE, FILTERS, MULTIPLE = 1e-3, [32, 64, 128, 256, 512], 16


class ByTheClock(keras.callbacks.Callback):
    """Ends the training after the minutes; the learning rate is a cosine over them."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.steps = Clock(job.minutes), 0

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        self.model.optimizer.learning_rate = RATE * (1 + math.cos(math.pi * min(1.0, self.clock.share()))) / 2

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.steps += 1
        self.model.stop_training = self.clock.share() >= 1


def build(side: int | None) -> keras.Model:
    """Return the network for pictures of this side, or of any."""
    return models.unet_2d(
        (side, side, job.channels),
        FILTERS,
        n_labels=len(job.classes),
        stack_num_down=2,
        stack_num_up=2,
        activation="ReLU",
        output_activation="Softmax",
        batch_norm=True,
        pool=True,
        unpool=True,
    )


def whole(image: np.ndarray) -> np.ndarray:
    """Segment a picture in one piece."""
    values = padded(image, MULTIPLE).astype(np.float32)[None] / 255
    return np.asarray(model(values, training=False))[0, : image.shape[0], : image.shape[1]].argmax(-1)


def tiles(image: np.ndarray) -> np.ndarray:
    """Segment a picture by the file, in tiles side by side."""
    values = padded(image, CROP).astype(np.float32) / 255
    ids = np.zeros(values.shape[:2], np.uint8)
    for top in range(0, values.shape[0], CROP):
        for left in range(0, values.shape[1], CROP):
            window = np.s_[top : top + CROP, left : left + CROP]
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values[window][None])
            interpreter.invoke()
            ids[window] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0].argmax(-1)
    return ids[: image.shape[0], : image.shape[1]]


tf.config.threading.set_intra_op_parallelism_threads(job.threads)
keras.utils.set_random_seed(job.seed)
model = build(None)
model.compile(keras.optimizers.Adam(RATE), keras.losses.SparseCategoricalCrossentropy(ignore_class=IGNORE))
pairs = job.pairs("train")
ending = ByTheClock()
model.fit(crops(pairs, job.seed), steps_per_epoch=1_000_000, epochs=1, callbacks=[ending], verbose=0)
seconds = round(ending.clock.passed(), 1)
write_maps(job, "float", whole)
fixed = build(CROP)
fixed.set_weights(model.get_weights())
file = job.out / "model.tflite"
fixed.export(str(file), format="litert")
interpreter = tf.lite.Interpreter(model_path=str(file), num_threads=job.threads)
interpreter.allocate_tensors()
write_maps(job, "litert", tiles)
report(
    job,
    ("keras-unet-collection", "keras", "tensorflow"),
    seconds=seconds,
    steps=ending.steps,
    parameters=model.count_params(),
    settings=f"unet_2d {FILTERS}, crops of {CROP} px, flips, batch {BATCH}, cross-entropy, Adam {RATE:g} by a cosine",
    files=[
        {
            "form": "litert",
            "kind": "LiteRT float32",
            "int8": False,
            "kb": kilobytes(file),
            "ms": job.milliseconds(tiles),
        }
    ],
    no_int8="neither it nor Keras makes int8 convolutions",
)
