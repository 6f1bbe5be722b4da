"""Running a model file on LiteRT.

The interpreter gets the verified bytes, never a path: a memory-mapped file that is truncated later kills the process.
`accelerator` runs models on LiteRT's GPU and NPU, `probe` looks into graphs.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from ..errors import EngineError, ModelError
from ..model.card import Card
from .codec import TensorCodec
from .engine import Engine
from .pool import Pool, available_cores, threads_of

_TRIES, _PAUSE = 400, 0.005  # s


class LiteRTEngine(Engine):
    """A loaded `.tflite` that maps one prepared tile to scores or labels.

    Threads that call at the same time get an interpreter each, as many as the cores can feed; the rest wait.

    Args:
        data: the file's bytes, verified.
        card: card of the file; input and output are checked against it.
        num_threads: threads of one inference; None for every core this process may use.

    Raises:
        UsageError: a number of threads that no runtime starts.
        EngineError: the runtime is not installed.
        ModelError: the runtime refuses the file, or its input or output is not what the card says.
    """

    name = "litert"

    def __init__(self, data: bytes, card: Card, *, num_threads: int | None = None) -> None:
        interpreter_class = _import_interpreter()
        cores = available_cores()
        threads = threads_of(num_threads)

        def load() -> Any:
            try:
                interpreter = interpreter_class(model_content=data, num_threads=threads)
                interpreter.allocate_tensors()
            except Exception as error:  # the runtime raises ValueError, RuntimeError, MemoryError and others
                raise ModelError(f"LiteRT refuses the model: {error}") from error
            return interpreter

        self._pool = Pool(load, max(1, cores // threads))
        with self._pool.borrow() as first:
            try:
                inputs, outputs = first.get_input_details(), first.get_output_details()
            except Exception as error:  # a graph whose ends are not there: ValueError
                raise ModelError(f"LiteRT refuses the model: {error}") from error
        if len(inputs) != 1 or len(outputs) != 1:
            raise ModelError("model must have one input and one output", found=f"{len(inputs)} and {len(outputs)}")
        self.card = card
        self.codec = TensorCodec(card, inputs[0], outputs[0])
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]

    def run(self, tile: np.ndarray) -> np.ndarray:
        """Return scores (h, w, classes) float32, or labels (h, w) uint8 for an argmax head.

        Of a classifier, scores are (classes,) float32.

        Args:
            tile: (h, w, channels) uint8 of the model's size, prepared.
        """
        with self._pool.borrow() as interpreter:
            self.codec.write(tile, _view(interpreter, self._input))
            _invoke(interpreter)
            return self.codec.values(_view(interpreter, self._output))

    def run_labels(self, tile: np.ndarray) -> np.ndarray:
        """Return the labels (h, w) uint8 of a tile, from the output as the network left it."""
        with self._pool.borrow() as interpreter:
            self.codec.write(tile, _view(interpreter, self._input))
            _invoke(interpreter)
            return self.codec.labels(_view(interpreter, self._output))

    def run_sampled(self, tile: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the labels (h, w) uint8 of a tile, and the scores of every `step`-th pixel of each side."""
        with self._pool.borrow() as interpreter:
            self.codec.write(tile, _view(interpreter, self._input))
            _invoke(interpreter)
            output = _view(interpreter, self._output)
            return self.codec.labels(output), self.codec.values(output[step // 2 :: step, step // 2 :: step])

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


def _import_interpreter() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise EngineError(f"litert cannot be imported: {error}", fix="pip install ai-edge-litert") from error
    return Interpreter


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


def _view(interpreter: Any, tensor: int) -> Any:
    """Return the first item of a tensor, where it lies; ModelError for one that no op computes."""
    try:
        return interpreter.tensor(tensor)()[0]
    except (IndexError, RuntimeError, ValueError) as error:
        raise ModelError(f"LiteRT cannot run the model: {error}") from error


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
                raise ModelError(f"LiteRT cannot run the model: {error}") from error
        time.sleep(_PAUSE)
    raise ModelError("LiteRT cannot run the model: another thread holds its tensors")
