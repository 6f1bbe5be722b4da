"""Seconds of a training step, ours beside torch, on the same network; figures to results/training_speed.json.

    python -m venv /tmp/torch && /tmp/torch/bin/pip install torch numpy pillow --index-url https://download.pytorch.org/whl/cpu
    python benchmarks/training_speed.py --torch /tmp/torch/bin/python [--steps 4] [--repeats 5] [--filters 32]

U-Net (32 filters, depth 4, 256 x 256 x 3, 11 classes), batches of 4, cross-entropy, AdamW with clipped gradients,
float32, 2 threads. Both sides read the same 24 drawn pictures of 512 x 512 px, cut random crops, flip and turn them by
quarters, and change gamma and contrast; the pipeline runs inside of what is measured. Ours is what `unetres train`
does: `model.fit` with XLA over `tf.data`. Torch is eager, with a `DataLoader`; it is measured in both memory formats
and with the loading in the process of the training and in two others, and its fastest row counts.

The rows take turns, each in a process of its own that stays alive and waits; medians over the turns, and ratios within
each turn.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SIZE, BATCH, CLASSES, THREADS, IMAGES = 256, 4, 11, 2, 24
TORCH = list(itertools.product(("contiguous", "channels_last"), (0, 2)))


def main() -> None:
    """Measure all rows in turns and write the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--torch", default="", help="a Python that has torch")
    parser.add_argument("--steps", type=int, default=4, help="of a measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--filters", type=int, default=32)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, file, *more = options.child
        answer((ours if kind == "ours" else torch_eager)(Path(file), options.filters, *more))
        return
    from unetres_edge.files import make_folder, write_json

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pictures.npz"
        np.savez(file, **draw_pictures())
        rows = {"ours": Child(sys.executable, options.filters, "ours", file)}
        for memory, workers in TORCH if options.torch else ():
            name = f"torch eager, {memory}, {workers} loading processes"
            rows[name] = Child(options.torch, options.filters, "torch", file, memory, workers)
        seconds: dict[str, list[float]] = {name: [] for name in rows}
        for turn, name in itertools.product(range(options.repeats + 1), rows):
            found = rows[name].measure(options.steps)
            if turn:  # the first one warms up
                seconds[name].append(found)
            print(f"{name:50} {found:7.3f} s a step{'' if turn else '  (warming up)'}", flush=True)
        told = {name: child.close() for name, child in rows.items()}
    peers = [name for name in rows if name != "ours"]
    best = min(peers, key=lambda name: median(seconds[name]), default=None)
    ratios = [] if best is None else [b / a for a, b in zip(seconds["ours"], seconds[best], strict=True)]
    result = {
        "command": f"python benchmarks/training_speed.py --torch PYTHON --steps {options.steps} "
        f"--repeats {options.repeats} --filters {options.filters}",
        "network": f"U-Net, {options.filters} filters, depth 4, {SIZE} x {SIZE} x 3, {CLASSES} classes, batch {BATCH}",
        "parameters": {name: found["parameters"] for name, found in told.items()},
        "versions": {name: found["versions"] for name, found in told.items()},
        "threads": THREADS,
        "seconds_per_step": {name: round(median(values), 3) for name, values in seconds.items()},
        "lowest_and_highest": {name: [round(min(v), 3), round(max(v), 3)] for name, v in seconds.items()},
        "fastest_peer": best,
        "peer_over_ours": round(median(ratios), 2) if ratios else None,
    }
    write_json(make_folder(ROOT / "benchmarks" / "results") / "training_speed.json", result)
    print(json.dumps(result, indent=1))


def draw_pictures() -> dict[str, np.ndarray]:
    """Return images (N, 512, 512, 3) uint8 of noise and blobs, and masks (N, 512, 512) uint8 of 11 classes."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, CLASSES, (IMAGES, 16, 16)).astype(np.uint8)
    masks = coarse.repeat(32, 1).repeat(32, 2)
    images = np.clip(masks[..., None] * 20 + rng.normal(0, 20, (*masks.shape, 3)), 0, 255).astype(np.uint8)
    return {"images": images, "masks": masks}


class Child:
    """A process that trains when it is told to.

    Args:
        python: the interpreter.
        filters: of the finest level.
        kind: "ours" or "torch"; `file` has the pictures, and `more` are further arguments.
        script: what it runs.
    """

    def __init__(self, python: str, filters: int, kind: str, file: Path, *more: object, script: str = __file__) -> None:
        words = [python, script, "--filters", filters, "--child", kind, file, *more]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": str(THREADS)}
        self._process = subprocess.Popen(
            list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def measure(self, steps: int) -> float:
        """Return the seconds of a step, over so many steps."""
        return float(self.ask(str(steps)))

    def close(self) -> dict[str, Any]:
        """Return what the process says of itself, and end it."""
        told = json.loads(self.ask("end"))
        self._process.wait()
        return dict(told)

    def ask(self, word: str) -> str:
        """Return the answer to a line."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(word, file=self._process.stdin, flush=True)
        while line := self._process.stdout.readline():
            if line.startswith("> "):
                return line[2:]
        raise RuntimeError("a process of the benchmark has ended; its error is above")


def answer(made: tuple[Callable[[int], None], dict[str, Any]]) -> None:
    """Train as often as standard input says, and tell the seconds of a step."""
    train, about = made
    for line in sys.stdin:
        if line.strip() == "end":
            print("> " + json.dumps(about), flush=True)
            return
        start = time.perf_counter()
        train(int(line))
        print(f"> {(time.perf_counter() - start) / int(line)}", flush=True)


def ours(file: Path, filters: int) -> tuple[Callable[[int], None], dict[str, Any]]:
    """Return what trains by this package."""
    import keras
    import tensorflow as tf

    from keras_unetres import CrossEntropy, build_unet
    from keras_unetres.choices.augmentations import Augmentation
    from keras_unetres.data import dataset_from_arrays, read_records
    from keras_unetres.data.pipeline import Order, training_batches
    from keras_unetres.data.samples import Samples
    from keras_unetres.training.fit import compile_model
    from unetres_edge.images.preprocessing import Preprocessing

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    with np.load(file) as arrays:
        images, masks = arrays["images"], arrays["masks"]
    names = [str(n) for n in range(CLASSES)]
    dataset = dataset_from_arrays(images, masks, splits=["train"] * (IMAGES - 1) + ["val"], classes=names)
    records = read_records(dataset, ["train"], progress=False)["train"]
    samples = Samples(records, Preprocessing(channels=3, value_range=(-1, 1), size=(SIZE, SIZE)))
    changes = Augmentation(flip_up_down=True, quarter_turns=True, gamma=0.2, contrast=0.2)
    batches = training_batches(Order(samples, BATCH, 0), changes, last_step=1 << 40)
    model = build_unet((SIZE, SIZE, 3), CLASSES, filters=filters)
    compile_model(model, CrossEntropy(), [])

    def train(steps: int) -> None:
        model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0)

    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    return train, {"versions": versions, "parameters": trainable}


def torch_unet(filters: int, channels: int, classes: int) -> Any:
    """Return the U-Net of `build_unet` in torch, depth 4."""
    import torch
    from torch import nn

    def double(inputs: int, outputs: int) -> nn.Sequential:
        parts: list[nn.Module] = []
        for before in (inputs, outputs):
            parts += [nn.Conv2d(before, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
        return nn.Sequential(*parts)

    class UNet(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            widths = [filters * 2**level for level in range(5)]
            self.down = nn.ModuleList(double(a, b) for a, b in itertools.pairwise([channels, *widths]))
            self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in widths[:-1])
            self.joined = nn.ModuleList(double(2 * w, w) for w in widths[:-1])
            self.head = nn.Conv2d(filters, classes, 1)

        def forward(self, x: Any) -> Any:
            skips = []
            for level, block in enumerate(self.down):
                x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))
                skips.append(x)
            for level in reversed(range(4)):
                x = self.joined[level](torch.cat([skips[level], self.up[level](x)], 1))
            return self.head(x)

    return UNet()


def torch_eager(file: Path, filters: int, memory: str, workers: str) -> tuple[Callable[[int], None], dict[str, Any]]:
    """Return what trains by torch."""
    import torch
    from torch import nn

    torch.set_num_threads(THREADS)
    with np.load(file) as arrays:
        images, masks = arrays["images"][:-1], arrays["masks"][:-1]

    class Crops(torch.utils.data.IterableDataset):  # type: ignore[misc,name-defined]
        def __iter__(self) -> Iterator[Any]:
            worker = torch.utils.data.get_worker_info()
            rng = np.random.default_rng(worker.id if worker else 9)
            while True:
                yield crop(rng, images, masks)

    layout = torch.channels_last if memory == "channels_last" else torch.contiguous_format
    model = torch_unet(filters, 3, CLASSES).to(memory_format=layout).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1e-4)
    loader = torch.utils.data.DataLoader(Crops(), BATCH, num_workers=int(workers))
    batches = iter(loader)

    def train(steps: int) -> None:
        for _ in range(steps):
            pixels, labels = next(batches)
            optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(model(pixels.to(memory_format=layout)), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            loss.item()

    parameters = sum(p.numel() for p in model.parameters())
    return train, {"versions": {"torch": torch.__version__}, "parameters": parameters}


def crop(rng: np.random.Generator, images: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a random crop (3, h, w) float32 in [-1, 1] and its labels (h, w) int64."""
    index = rng.integers(len(images))
    y, x = rng.integers(0, images.shape[1] - SIZE + 1, 2)
    image, mask = images[index, y : y + SIZE, x : x + SIZE], masks[index, y : y + SIZE, x : x + SIZE]
    turn, flip = int(rng.integers(4)), bool(rng.integers(2))
    image, mask = np.rot90(image, turn), np.rot90(mask, turn)
    if flip:
        image, mask = image[:, ::-1], mask[:, ::-1]
    levels = np.arange(256) / 255.0
    table = ((levels ** rng.uniform(0.8, 1.25) - 0.5) * rng.uniform(0.8, 1.2) + 0.5).clip(0, 1) * 2 - 1
    pixels = table.astype(np.float32)[image]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), np.ascontiguousarray(mask).astype(np.int64)


if __name__ == "__main__":
    main()
