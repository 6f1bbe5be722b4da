"""Running a model file on LiteRT. The only module that does; `probe.py` looks into graphs.

The interpreter gets the verified bytes, never a path: a memory-mapped file that is truncated later kills the process.
One interpreter is not thread-safe, so each is used by one thread at a time, out of a pool. Boards without a wheel of
LiteRT run its predecessor, `tflite_runtime`, by the same calls.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter

    RUNTIME = "litert"
except ImportError:
    from tflite_runtime.interpreter import Interpreter

    RUNTIME = "tflite_runtime"

from ..errors import EngineError, ModelError
from ..model.card import Card

_TRIES, _PAUSE = 400, 0.005  # s
_HAIR = 1e-3  # of a step
_T = TypeVar("_T")


class LiteRTEngine:
    """A loaded `.tflite` that maps one prepared tile to scores or labels.

    Threads that call at the same time get an interpreter each, as many as the cores can feed; the rest wait.

    Args:
        data: the file's bytes, verified.
        card: what the file says about itself; input and output are checked against it.
        num_threads: threads of one inference; None for every core this process may use.

    Raises:
        ModelError: the runtime refuses the file, or its input or output is not what the card says.
    """

    name = RUNTIME

    def __init__(self, data: bytes, card: Card, *, num_threads: int | None = None) -> None:
        cores = available_cores()
        threads = num_threads or cores

        def load() -> Interpreter:
            try:
                interpreter = Interpreter(model_content=data, num_threads=threads)
                interpreter.allocate_tensors()
            except Exception as error:  # the runtime raises ValueError, RuntimeError, MemoryError and others
                raise ModelError(f"LiteRT refuses the model: {error}") from error
            return interpreter

        self._pool = Pool(load, max(1, cores // threads))
        with self._pool.borrow() as first:
            inputs, outputs = first.get_input_details(), first.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ModelError("model must have one input and one output", found=f"{len(inputs)} and {len(outputs)}")
        self.ends = Ends(card, inputs[0], outputs[0])
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]

    def run(self, tile: np.ndarray) -> np.ndarray:
        """Return scores (h, w, classes) float32, or labels (h, w) uint8 for an argmax head.

        Of a classifier, scores are (classes,) float32.

        Args:
            tile: (h, w, channels) uint8 of the model's size, prepared.
        """
        with self._pool.borrow() as interpreter:
            self.ends.write(tile, interpreter.tensor(self._input)()[0])
            _invoke(interpreter)
            return self.ends.values(interpreter.tensor(self._output)()[0])

    def run_labels(self, tile: np.ndarray) -> np.ndarray:
        """Return the labels (h, w) uint8 of a tile, from the output as the network left it."""
        with self._pool.borrow() as interpreter:
            self.ends.write(tile, interpreter.tensor(self._input)()[0])
            _invoke(interpreter)
            return self.ends.labels(interpreter.tensor(self._output)()[0])

    def ops(self) -> list[dict[str, Any]]:
        """Return the ops of the graph in order: "op", "output" (shape) and "multiply_adds".

        XNNPACK takes whole pieces of the graph, and LiteRT's Python has no profiler: how long one op takes is not told.
        """
        with self._pool.borrow() as interpreter:
            shapes = {int(t["index"]): [int(n) for n in t["shape"]] for t in interpreter.get_tensor_details()}
            return [
                {
                    "op": op["op_name"],
                    "output": shapes.get(int(op["outputs"][0]), []),
                    "multiply_adds": _multiply_adds(
                        op["op_name"], [shapes.get(int(t), []) for t in op["inputs"]], shapes[int(op["outputs"][0])]
                    ),
                }
                for op in interpreter._get_ops_details()
                if op["op_name"] != "DELEGATE"
            ]

    def close(self) -> None:
        """Free the interpreters that are idle, and each of the others when its call has ended."""
        self._pool.close()


class CompiledEngine:
    """A `.tflite` on the GPU or NPU of the device, through LiteRT's accelerators.

    Args:
        data: the file's bytes, verified.
        ends: what its input and output hold, as LiteRT on the CPU tells it.
        kind: "gpu" or "npu".

    Raises:
        EngineError: there is no such accelerator, or it does not take the whole model: LiteRT would run the rest, or
            all, on the CPU and not say so.
    """

    def __init__(self, data: bytes, ends: Ends, kind: str) -> None:
        self.name = f"litert-{kind}"
        self.ends = ends
        try:
            from ai_edge_litert.compiled_model import CompiledModel
            from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        except ImportError as error:
            raise EngineError(f"LiteRT has no accelerators here: {error}", fix="update ai-edge-litert") from error

        def load() -> tuple[Any, Any, Any]:
            try:
                model = CompiledModel.from_buffer(data, hardware_accel=HardwareAccelerator[kind.upper()])
                whole = model.is_fully_accelerated()
                buffers = model.create_input_buffers(0), model.create_output_buffers(0)
            except Exception as error:  # RuntimeError and whatever a vendor's library raises
                raise EngineError(f"LiteRT finds no {kind.upper()} that runs the model: {error}") from error
            if not whole:
                raise EngineError(f"the {kind.upper()} does not take the whole model", fix="use the engine 'litert'")
            return model, *buffers

        self._pool = Pool(load, 1)
        with self._pool.borrow():
            pass

    def run(self, tile: np.ndarray) -> np.ndarray:
        """Return scores or labels, as `LiteRTEngine.run`."""
        return self.ends.values(self._output(tile))

    def run_labels(self, tile: np.ndarray) -> np.ndarray:
        """Return labels, as `LiteRTEngine.run_labels`."""
        return self.ends.labels(self._output(tile))

    def _output(self, tile: np.ndarray) -> np.ndarray:
        source = np.empty(self.ends.input_shape, self.ends.input_dtype)
        self.ends.write(tile, source)
        with self._pool.borrow() as (model, inputs, outputs):
            inputs[0].write(source)
            model.run_by_index(0, inputs, outputs)
            found: np.ndarray = outputs[0].read(int(np.prod(self.ends.output_shape)), self.ends.dtype)
        return found.reshape(self.ends.output_shape)

    def close(self) -> None:
        """Free the model."""
        self._pool.close()


class Pool(Generic[_T]):
    """Up to `limit` runtimes, each used by one thread at a time and made when first needed."""

    def __init__(self, make: Callable[[], _T], limit: int) -> None:
        self._make = make
        self._free = threading.Semaphore(limit)
        self._idle: list[_T] = []
        self._process = os.getpid()
        self._closed = False

    @contextmanager
    def borrow(self) -> Iterator[_T]:
        """Lend one to this thread; wait while all are lent.

        Raises:
            ModelError: closed, or this process is a fork of the one that loaded the model.
        """
        if os.getpid() != self._process:  # before the semaphore, which another thread may have held at the fork
            raise ModelError(
                "the model was loaded before this process was forked, and a runtime's threads do not survive a fork",
                fix="open it in the child process, or start processes with 'spawn'",
            )
        with self._free:
            if self._closed:
                raise ModelError("the model is closed")
            try:
                runtime = self._idle.pop()
            except IndexError:
                runtime = self._make()
            yield runtime
            if not self._closed:  # nor after an error: its traceback may hold a view of the tensors, and bars invoke()
                self._idle.append(runtime)

    def close(self) -> None:
        """Let go of those that are idle; `borrow` raises from then on."""
        self._closed = True
        if os.getpid() == self._process:
            self._idle.clear()


class Ends:
    """How pixels become the numbers of a network's input, and the numbers of its output scores or labels.

    Args:
        card: what the file says about itself.
        source: of the input: "shape", "dtype" and "quantization", (scale, zero point).
        target: of the output, likewise.

    Raises:
        ModelError: they are not what the card says.
    """

    def __init__(self, card: Card, source: dict[str, Any], target: dict[str, Any]) -> None:
        self._check(card, source, target)
        self._table = _input_table(card.preprocessing.table(), source)
        self._argmax, self._classes = card.head == "argmax", len(card.class_names)
        self._scale, self._zero_point = _quantization(target)
        self.dtype, self.input_dtype = target["dtype"], source["dtype"]
        self.input_shape, self.output_shape = (tuple(int(n) for n in end["shape"][1:]) for end in (source, target))
        if card.head == "logits" and self.dtype != np.float32 and self._scale <= 0:
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

    @property
    def step(self) -> float | None:
        """How far apart neighbouring scores of a quantized output are; None for float scores and for labels."""
        return self._scale if not self._argmax and self.dtype != np.float32 else None

    def write(self, tile: np.ndarray, view: np.ndarray) -> None:
        """Look up a tile (h, w, channels) uint8 straight into the input tensor (h, w, channels)."""
        if self._table.shape[1] == 1:
            np.take(self._table[:, 0], tile, out=view, mode="clip")
        else:
            for channel in range(view.shape[-1]):
                view[..., channel] = self._table[tile[..., channel], channel]

    def values(self, output: np.ndarray) -> np.ndarray:
        """Return a copy of the output: scores (h, w, classes) or (classes,) float32, or labels (h, w) uint8."""
        if self._argmax:
            return self.labels(output)
        if output.dtype == np.float32:
            _check_finite(output)
            return output.copy()
        scores = output.astype(np.float32)
        scores -= np.float32(self._zero_point)
        scores *= np.float32(self._scale)
        return scores

    def labels(self, output: np.ndarray) -> np.ndarray:
        """Return labels (h, w) uint8; of equal scores the lower id.

        All classes share one scale, so the largest level is the largest score.
        """
        if not self._argmax:
            if output.dtype == np.float32:
                _check_finite(output)
            if self._classes == 2:
                return (output[..., 1] > output[..., 0]).view(np.uint8)
            return output.argmax(-1).astype(np.uint8)
        if not 0 <= output.min() <= output.max() < self._classes:
            raise ModelError("the model gave a class id that the card does not name", found=output.max())
        return output.reshape(output.shape[:2]).astype(np.uint8)


def _multiply_adds(op: str, inputs: list[list[int]], output: list[int]) -> int:
    if op == "CONV_2D":  # kernel (out, h, w, in)
        return math.prod(output) * math.prod(inputs[1][1:])
    if op == "DEPTHWISE_CONV_2D":  # kernel (1, h, w, channels)
        return math.prod(output) * math.prod(inputs[1][1:3])
    if op == "TRANSPOSE_CONV":  # inputs: output shape, kernel (out, h, w, in), image
        return math.prod(inputs[2]) * math.prod(inputs[1][:3])
    if op == "FULLY_CONNECTED":
        return math.prod(output) * inputs[1][-1]
    return 0


def _invoke(interpreter: Any) -> None:
    """Run the network, once nobody holds a view of its tensors any more.

    Profilers (dask's workers have one) look at the frames of all threads and keep them for a moment, and with them the
    views that a frame just left had; LiteRT then refuses to run.
    """
    for _ in range(_TRIES):
        try:
            interpreter.invoke()
            return
        except RuntimeError as error:
            if "reference to internal data" not in str(error):
                raise
        time.sleep(_PAUSE)
    interpreter.invoke()


def _check_finite(scores: np.ndarray) -> None:
    if not np.isfinite(scores).all():
        raise ModelError("the model gave scores that are not finite", fix="export it again from a sound run")


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
