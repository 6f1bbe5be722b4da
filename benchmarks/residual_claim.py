"""Plain and residual networks of 20 and 56 layers on CIFAR-10 under one budget (He 2015, section 4.2 and figure 6).

    python benchmarks/residual_claim.py [--epochs 12] [--seed 0] [--out benchmarks/results/residual_claim.json]

Measures the norm of the gradient of the first layer's kernel, at initialisation (several seeds, every depth) and at
every training step, the training loss, and the accuracy on the test images; writes the figures as JSON and the curves
as docs/residual_claim.png. Every network gets the same images in the same order, steps, rates and augmentation (4 px
of padding, random crop, mirror). It takes about an hour; finished networks are kept in the JSON file, so that a run
that was stopped goes on.

Reads `cifar10/cifar10_10k.npz` below the folder that UNETRES_DATA names: 10,000 training and 1,000 test
images, a fifth of the original training set.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from _data import DATA, left_out

from keras_unetres.models import build_resnet
from unetres_edge.files import make_folder, write_bytes, write_json

ROOT = Path(__file__).resolve().parent.parent
FILE = DATA / "cifar10" / "cifar10_10k.npz"
NETWORKS = [(20, "v1"), (20, "plain"), (56, "plain"), (56, "v1")]
INIT_DEPTHS = (20, 32, 44, 56, 110)
BATCH, PEAK, DECAY = 64, 0.05, 1e-4
INIT_SEEDS = 5


class RecordingSGD(keras.optimizers.SGD):
    """SGD that keeps the gradient norm of the first variable: the kernel of the first convolution."""

    def __init__(self, rate: float, momentum: float, weight_decay: float) -> None:
        super().__init__(rate, momentum=momentum, weight_decay=weight_decay)
        self.first_norm = tf.Variable(0.0, trainable=False)

    def apply(self, grads: list[Any], trainable_variables: list[Any] | None = None) -> Any:
        self.first_norm.assign(tf.norm(grads[0]))
        return super().apply(grads, trainable_variables)


class Recorder(keras.callbacks.Callback):
    """Sets the rate of every step (one epoch of warm-up, then a cosine) and keeps gradient norms and losses."""

    def __init__(self, steps: int, warmup: int) -> None:
        super().__init__()
        self.steps, self.warmup, self.step = steps, warmup, 0
        self.norms: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        done = (self.step - self.warmup) / max(1, self.steps - self.warmup)
        rate = (self.step + 1) / self.warmup if self.step < self.warmup else 0.5 * (1 + math.cos(math.pi * done))
        self.model.optimizer.learning_rate.assign(PEAK * rate)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.step += 1
        self.norms.append(float(self.model.optimizer.first_norm))


def batches(x: np.ndarray, y: np.ndarray, seed: int, epochs: int) -> tf.data.Dataset:
    """Return the augmented batches of all epochs; the same for every network."""

    def generate() -> Any:
        for epoch in range(epochs):
            rng = np.random.default_rng([seed, epoch])
            order = rng.permutation(len(x))
            for start in range(0, len(x) - BATCH + 1, BATCH):
                chosen = order[start : start + BATCH]
                yield np.stack([augmented(x[i], rng) for i in chosen]), y[chosen]

    shapes = (tf.TensorSpec((BATCH, 32, 32, 3), tf.float32), tf.TensorSpec((BATCH,), tf.int64))
    return tf.data.Dataset.from_generator(generate, output_signature=shapes).prefetch(4)


def augmented(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random crop of the image padded by 4 px, mirrored half of the time (He 2015, section 4.2)."""
    top, left = rng.integers(0, 9, 2)
    crop = np.pad(image, ((4, 4), (4, 4), (0, 0)))[top : top + 32, left : left + 32]
    return crop[:, ::-1] if rng.random() < 0.5 else crop


def train(depth: int, variant: str, data: dict[str, np.ndarray], epochs: int, seed: int) -> dict[str, Any]:
    """Train one network and return what was measured."""
    keras.utils.set_random_seed(seed)
    model = build_resnet(depth, (32, 32, 3), 10, variant=variant)
    per_epoch = len(data["x_train"]) // BATCH
    model.compile(
        RecordingSGD(PEAK, 0.9, DECAY),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,  # on a CPU, XLA takes twice as long here
    )
    recorder = Recorder(epochs * per_epoch, per_epoch)
    start = time.perf_counter()
    history = model.fit(
        batches(data["x_train"], data["y_train"], seed, epochs),
        epochs=epochs,
        steps_per_epoch=per_epoch,
        validation_data=(data["x_test"], data["y_test"]),
        validation_batch_size=250,
        callbacks=[recorder],
        shuffle=False,  # the batches come in their order
        verbose=2,
    ).history
    return {
        "depth": depth,
        "variant": variant,
        "parameters": model.count_params(),
        "gradient_norm": [round(norm, 6) for norm in recorder.norms],
        "train_loss": history["loss"],
        "train_accuracy": history["accuracy"],
        "test_accuracy": history["val_accuracy"],
        "seconds": round(time.perf_counter() - start, 1),
    }


def norms_at_start(depth: int, variant: str, data: dict[str, np.ndarray]) -> list[float]:
    """Return the gradient norm of the first kernel of fresh networks, one a seed, on 128 images."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    norms = []
    for seed in range(INIT_SEEDS):
        keras.utils.set_random_seed(seed)
        model = build_resnet(depth, (32, 32, 3), 10, variant=variant)
        with tf.GradientTape() as tape:
            value = loss(data["y_train"][:128], model(data["x_train"][:128], training=True))
        norms.append(float(tf.norm(tape.gradient(value, model.trainable_variables[0].value))))
    return norms


def draw(result: dict[str, Any]) -> bytes:
    """Return the curves as a PNG."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.8), layout="constrained")
    axes = figure.subplots(1, 4)
    for row in result["networks"].values():
        residual = row["variant"] == "v1"
        style = {"color": "C0" if residual else "C3", "ls": "-" if row["depth"] == 56 else "--"}
        style["label"] = f"{'residual' if residual else 'plain'} {row['depth']}"
        norms = np.asarray(row["gradient_norm"])
        window = 50
        smooth = np.exp(np.convolve(np.log(norms), np.ones(window) / window, "valid"))
        axes[1].semilogy(np.arange(len(smooth)) + window / 2, smooth, **style)
        epochs = np.arange(1, len(row["train_loss"]) + 1)
        axes[2].plot(epochs, row["train_loss"], **style)
        axes[3].plot(epochs, 100 * np.asarray(row["test_accuracy"]), **style)
    for variant, colour in (("v1", "C0"), ("plain", "C3")):
        rows = [result["at_start"][f"{variant}_{depth}"] for depth in INIT_DEPTHS]
        axes[0].semilogy(INIT_DEPTHS, np.median(rows, 1), "o-", color=colour)
        axes[0].fill_between(INIT_DEPTHS, np.min(rows, 1), np.max(rows, 1), color=colour, alpha=0.2)
    for axis, title, label in zip(
        axes,
        ("gradient norm, first layer, at start", "gradient norm, first layer", "training loss", "test accuracy, %"),
        ("layers", "step (geometric mean of 50)", "epoch", "epoch"),
        strict=True,
    ):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].legend(handles=axes[0].lines[:2], labels=["residual", "plain"], fontsize=8)
    axes[3].legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    return buffer.getvalue()


def main() -> None:
    """Train what is not yet in the results, and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "residual_claim.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "residual_claim.png")
    options = parser.parse_args()
    if not FILE.is_file():
        print(left_out("cifar10"))
        return
    with np.load(FILE) as file:
        data = {name: file[name] for name in file.files}
    mean, std = data["x_train"].mean((0, 1, 2)), data["x_train"].std((0, 1, 2))
    for part in ("train", "test"):
        data[f"x_{part}"] = ((data[f"x_{part}"] - mean) / std).astype(np.float32)
        data[f"y_{part}"] = data[f"y_{part}"].astype(np.int64).reshape(-1)
    settings = {"epochs": options.epochs, "seed": options.seed, "batch": BATCH, "peak_rate": PEAK, "decay": DECAY}
    make_folder(options.out.parent)
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {}
    if result.get("settings") != settings or len(result["networks"]) == len(NETWORKS):
        machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
        command = f"python benchmarks/residual_claim.py --epochs {options.epochs} --seed {options.seed}"
        result = {"command": command, "settings": settings, "machine": machine, "versions": versions}
    result.setdefault("at_start", {})
    result.setdefault("networks", {})
    for variant in ("v1", "plain"):
        for depth in INIT_DEPTHS:
            name = f"{variant}_{depth}"
            if name not in result["at_start"]:
                result["at_start"][name] = norms_at_start(depth, variant, data)
                print(f"{name}: gradient norm at start {np.median(result['at_start'][name]):.4g}")
    for depth, variant in NETWORKS:
        name = f"{variant}_{depth}"
        if name not in result["networks"]:
            print(name)
            result["networks"][name] = train(depth, variant, data, options.epochs, options.seed)
            write_json(options.out, result)
    write_json(options.out, result)
    write_bytes(options.picture, draw(result))
    for name, row in result["networks"].items():
        print(
            f"{name:9} train loss {row['train_loss'][-1]:.3f}  test accuracy {100 * row['test_accuracy'][-1]:.1f} %  "
            f"gradient norm {row['gradient_norm'][0]:.3g} at start, "
            f"{np.exp(np.mean(np.log(row['gradient_norm'][-100:]))):.3g} at the end"
        )


if __name__ == "__main__":
    main()
