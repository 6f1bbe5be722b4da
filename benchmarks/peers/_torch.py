"""What the peers on PyTorch share: a training by the clock, whole pictures, ONNX files."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _job import CROP, IGNORE, Clock, Job, crops, kilobytes, padded, write_maps

try:
    import torchvision  # noqa: F401
except RuntimeError:  # PyPI's wheel beside a CPU build of torch: its compiled operators do not load; no peer calls them
    _DECLARED = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        _DECLARED.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401


def train(model: torch.nn.Module, loss: Callable[..., torch.Tensor], job: Job, learning_rate: float) -> dict[str, Any]:
    """Train by Adam, its rate a cosine over the minutes; return seconds, steps and parameters.

    Args:
        model: (N, C, H, W) float32 in [0, 1] -> (N, K, H, W) logits.
        loss: (logits, (N, H, W) int64 labels) -> scalar; it leaves `IGNORE` out.
    """
    torch.manual_seed(job.seed)
    torch.set_num_threads(job.threads)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    pairs = job.pairs("train")
    clock, steps = Clock(job.minutes), 0
    model.train()
    for images, masks in crops(pairs, job.seed):
        if clock.share() >= 1:
            break
        optimizer.param_groups[0]["lr"] = learning_rate * (1 + math.cos(math.pi * clock.share())) / 2
        optimizer.zero_grad()
        loss(model(_tensor(images)), torch.from_numpy(masks.astype(np.int64))).backward()
        optimizer.step()
        steps += 1
    model.eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"seconds": round(clock.passed(), 1), "steps": steps, "parameters": parameters}


def segmenter(run: Callable[[np.ndarray], np.ndarray], multiple: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return what segments whole pictures.

    Args:
        run: (1, C, h, w) float32 -> (1, K, h, w) logits, for sides that are multiples of `multiple` px.
    """

    def segment(image: np.ndarray) -> np.ndarray:
        whole = padded(image, multiple).astype(np.float32)[None] / 255
        height, width = image.shape[:2]
        return run(np.ascontiguousarray(whole.transpose(0, 3, 1, 2)))[0, :, :height, :width].argmax(0)

    return segment


def run_torch(model: torch.nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """Return the network as a function of arrays."""

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(images)).numpy()

    return run


def run_onnx(file: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return an ONNX file in ONNX Runtime as a function of arrays."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def onnx_row(job: Job, file: Path, multiple: int) -> dict[str, Any]:
    """Write the class maps of an ONNX file, and return its row."""
    segment = segmenter(run_onnx(file, job.threads), multiple)
    write_maps(job, "onnx", segment)
    parts = [file, *file.parent.glob(file.name + ".data")]
    return {
        "form": "onnx",
        "kind": "ONNX float32",
        "int8": False,
        "kb": kilobytes(*parts),
        "ms": job.milliseconds(segment),
    }


def example(job: Job) -> torch.Tensor:
    """Return an input that an export can look at."""
    return torch.zeros(1, job.channels, CROP, CROP)


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy over what is labelled."""
    return torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORE)


def _tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
