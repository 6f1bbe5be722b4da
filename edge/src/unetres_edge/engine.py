"""Running a model file on LiteRT. The only module that does; `probe.py` looks into graphs.

The interpreter gets the verified bytes, never a path: a memory-mapped file that is truncated later kills the process.
One interpreter is not thread-safe, so each engine holds a lock.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from .card import Card
from .errors import ModelError

_HAIR = 1e-3  # of a step


class LiteRTEngine:
    """A loaded `.tflite` that maps one prepared tile to scores or labels.

    Args:
        data: the file's bytes, verified.
        card: what the file says about itself; input and output are checked against it.
        num_threads: threads of one inference; None for every core this process may use.

    Raises:
        ModelError: the runtime refuses the file, or its input or output is not what the card says.
    """

    def __init__(self, data: bytes, card: Card, *, num_threads: int | None = None) -> None:
        try:
            self._interpreter = Interpreter(model_content=data, num_threads=num_threads or available_cores())
            self._interpreter.allocate_tensors()
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except Exception as error:  # the runtime raises ValueError, RuntimeError, MemoryError and others
            raise ModelError(f"LiteRT refuses the model: {error}") from error
        if len(inputs) != 1 or len(outputs) != 1:
            raise ModelError("model must have one input and one output", found=f"{len(inputs)} and {len(outputs)}")
        self._lock = threading.Lock()
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        self._check(card, inputs[0], outputs[0])
        self._table = _input_table(card.preprocessing.table(), inputs[0])
        self._argmax, self._classes = card.head == "argmax", len(card.class_names)
        self._scale, self._zero_point = _quantization(outputs[0])
        if card.head == "logits" and outputs[0]["dtype"] != np.float32 and self._scale <= 0:
            raise ModelError("model output has no quantization", found=f"scale {self._scale}")

    @staticmethod
    def _check(card: Card, source: dict[str, Any], target: dict[str, Any]) -> None:
        pre, classes = card.preprocessing, len(card.class_names)
        expected = [1, *pre.size, pre.channels]
        if list(source["shape"]) != expected:
            raise ModelError("model input is not what the card says", expected=expected, found=list(source["shape"]))
        place = [1] if card.task == "classify" else [1, *pre.size]
        shapes = {"logits": [[*place, classes]], "argmax": [place, [*place, 1]]}[card.head]
        if list(target["shape"]) not in shapes:
            raise ModelError("model output is not what the card says", expected=shapes[0], found=list(target["shape"]))
        kinds = {"logits": (np.float32, np.int8, np.uint8), "argmax": (np.uint8, np.int32)}[card.head]
        if target["dtype"] not in kinds:
            raise ModelError(
                "model output dtype is not supported",
                expected=" or ".join(k.__name__ for k in kinds),
                found=target["dtype"].__name__,
            )

    def run(self, tile: np.ndarray) -> np.ndarray:
        """Return scores (h, w, classes) float32, or labels (h, w) uint8 for an argmax head.

        Of a classifier, scores are (classes,) float32.

        Args:
            tile: (h, w, channels) uint8 of the model's size, prepared.
        """
        with self._lock:
            self._write(tile)
            self._interpreter.invoke()
            values = self._interpreter.get_tensor(self._output)[0]
        if self._argmax:
            if not 0 <= values.min() <= values.max() < self._classes:
                raise ModelError("the model gave a class id that the card does not name", found=values.max())
            return values.reshape(tile.shape[:2]).astype(np.uint8, copy=False)
        if values.dtype == np.float32:
            if not np.isfinite(values).all():
                raise ModelError("the model gave scores that are not finite", fix="export it again from a sound run")
            return values
        return (values.astype(np.float32) - self._zero_point) * np.float32(self._scale)

    def _write(self, tile: np.ndarray) -> None:
        view = self._interpreter.tensor(self._input)()[0]
        if self._table.shape[1] == 1:
            np.take(self._table[:, 0], tile, out=view, mode="clip")
        else:
            for channel in range(view.shape[-1]):
                view[..., channel] = self._table[tile[..., channel], channel]


def available_cores() -> int:
    """Return how many cores this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _quantization(detail: dict[str, Any]) -> tuple[float, int]:
    scale, zero_point = detail["quantization"]
    if detail["dtype"] in (np.int8, np.uint8) and not (np.isfinite(scale) and scale >= 0):
        raise ModelError("model has an impossible quantization", found=f"scale {scale}")
    return float(scale), int(zero_point)


def _input_table(table: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """Return the (256, 1 or channels) entries of the input tensor's dtype for the uint8 levels."""
    if (table == table[:, :1]).all():
        table = table[:, :1]
    dtype = detail["dtype"]
    if dtype == np.float32:
        return np.ascontiguousarray(table)
    if dtype not in (np.int8, np.uint8):
        raise ModelError("model input dtype is not supported", expected="float32, int8 or uint8", found=dtype.__name__)
    scale, zero_point = _quantization(detail)
    if scale <= 0:
        raise ModelError("model input has no quantization", found=f"scale {scale}")
    limits = np.iinfo(dtype)
    # Levels of a range with 0 in its middle fall half way between two steps. Rounding to even would merge every second
    # pair of them, and rounding errors of a float any; so halves go up, and what is a hair below a half goes with them.
    steps = np.floor(table.astype(np.float64) / scale + 0.5 + _HAIR)
    return np.clip(steps + zero_point, limits.min, limits.max).astype(dtype)
