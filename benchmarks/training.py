"""What a training step costs in every way it can be computed, beside torch; figures to results/training.json.

    python benchmarks/training.py [--torch PYTHON] [--batch 4] [--filters 32] [--repeats 5]
    python benchmarks/training.py --encoder efficientnet_lite0 [--batch 4] [--repeats 5] [--ways WAY ...]

U-Net (depth 4, 256 x 256 px, one channel, 2 classes), AdamW with clipped gradients, on one batch that stays; ours with
cross-entropy + Dice and mIoU, as `unetres train` compiles it. The pipeline is left out (`training_speed.py` has it).
With --encoder ours is a U-Net on that, of three channels, and the figures go to results/training_ENCODER.json.

The ways take turns, so that what else the machine does hits all alike. Of each the lowest and the middle are given, of
seconds by the clock and of processor seconds of all threads, which say more where the machine is shared; the load of
the machine stands beside them. Those of torch hold the waiting of its threads, which spin.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _command import given_command
from training_speed import THREADS, Child, torch_unet

ROOT = Path(__file__).resolve().parent.parent
SIZE = 256
WAYS = {
    "bfloat16": ("mixed_bfloat16", False, True, True),
    "bfloat16, Keras's normalisation": ("mixed_bfloat16", False, False, True),
    "bfloat16, depthwise gradients too": ("mixed_bfloat16", False, True, False),
    "float32": ("float32", False, True, False),
    "float32, Keras's normalisation": ("float32", False, False, False),
    "float32, XLA": ("float32", True, False, False),
}  # name -> precision, XLA, fused BatchNormalization, depthwise gradients in float32
TORCH = {"torch eager, channels last, bfloat16": "bfloat16", "torch eager, channels last, float32": "float32"}


def main() -> None:
    """Measure all ways in turns and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--torch", default="", help="a Python that has torch")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--filters", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--encoder", default=None, help="of the U-Net")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        answer_torch(options.filters, int(options.child[1]), options.child[2])
        return
    loads = [os.getloadavg()[0]]
    steps: dict[str, Callable[[], tuple[float, float]]] = {
        name: timed(make_step(*WAYS[name], options)) for name in options.ways
    }
    children = []
    for name, precision in TORCH.items() if options.torch else ():
        child = Child(options.torch, options.filters, "torch", Path(str(options.batch)), precision, script=__file__)
        children.append(child)
        steps[name] = lambda child=child: tuple(json.loads(child.ask("step")))  # type: ignore[misc]
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn, name in itertools.product(range(options.repeats + 1), steps):
        found = steps[name]()
        if turn:  # the first one compiles
            figures[name].append(found)
        loads.append(os.getloadavg()[0])
        print(
            f"{name:40} {found[0]:7.3f} s, processors {found[1]:7.3f} s{'' if turn else '  (warming up)'}", flush=True
        )
    for child in children:
        child.close()
    write(options, figures, loads)


def write(options: argparse.Namespace, figures: dict[str, list[tuple[float, float]]], loads: list[float]) -> None:
    """Write and print the figures."""
    import keras
    import tensorflow as tf

    from keras_unetres.machine.processor import cpu_flags
    from unetres_edge.files import make_folder, write_json

    told = {
        name: {
            kind: {"lowest": round(min(values), 3), "middle": round(median(values), 3)}
            for kind, values in zip(("seconds", "processor_seconds"), zip(*rows, strict=True), strict=True)
        }
        for name, rows in figures.items()
    }
    channels, form = (3, f"on {options.encoder}") if options.encoder else (1, f"{options.filters} filters, depth 4")
    result = {
        "command": given_command(),
        "network": f"U-Net, {form}, {SIZE} x {SIZE} x {channels}, 2 classes, batch {options.batch}",
        "processor": sorted(cpu_flags() & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}),
        "cores": os.cpu_count(),
        "load": {"lowest": round(min(loads), 1), "highest": round(max(loads), 1)},
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
        "step": told,
    }
    name = f"training_{options.encoder}.json" if options.encoder else "training.json"
    write_json(make_folder(ROOT / "benchmarks" / "results") / name, result)
    print(json.dumps(result, indent=1))


def timed(step: Callable[[], None]) -> Callable[[], tuple[float, float]]:
    """Return a function that takes a step and returns its seconds by the clock and those of all processors."""

    def measure() -> tuple[float, float]:
        start, used = time.perf_counter(), time.process_time()
        step()
        return time.perf_counter() - start, time.process_time() - used

    return measure


def make_step(precision: str, xla: bool, fused: bool, wide: bool, options: argparse.Namespace) -> Callable[[], None]:
    """Return a function that trains our network for one step."""
    import tensorflow as tf

    from keras_unetres import SegmentationScores, build_unet, make_loss
    from keras_unetres.training.compilation import precision_policy
    from keras_unetres.training.depthwise import widen_depthwise
    from keras_unetres.training.fit import compile_model
    from keras_unetres.training.fused_norm import fuse_norms

    with precision_policy(precision):
        if options.encoder:
            model = build_unet((SIZE, SIZE, 3), 2, encoder=options.encoder)
        else:
            model = build_unet((SIZE, SIZE, 1), 2, filters=options.filters)
    compile_model(model, make_loss("cross_entropy + dice"), [SegmentationScores(2)], xla=xla)
    if fused:
        fuse_norms(model)
    if wide:
        widen_depthwise(model)
    batches = tf.data.Dataset.from_tensors(draw(options.batch, model.input_shape[-1])).repeat()
    return lambda: model.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0)


def draw(batch: int, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, H, W, C) float32 of noise, and masks (N, H, W) uint8."""
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (batch, SIZE, SIZE)).astype(np.uint8)
    return rng.normal(size=(batch, SIZE, SIZE, channels)).astype(np.float32), masks


def answer_torch(filters: int, batch: int, precision: str) -> None:
    """Train in torch as often as standard input says, and tell the seconds of each step."""
    import torch

    torch.set_num_threads(THREADS)
    model = torch_unet(filters, 1, 2).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1e-4)
    images, masks = draw(batch)
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(memory_format=torch.channels_last)
    labels = torch.from_numpy(masks.astype(np.int64))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits: Any = model(pixels)
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    measure = timed(step)
    for line in sys.stdin:
        print("> " + json.dumps({} if line.strip() == "end" else measure()), flush=True)
        if line.strip() == "end":
            return


if __name__ == "__main__":
    main()
