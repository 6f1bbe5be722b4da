"""Running a model file on OpenVINO, which reads the same `.tflite`: faster than LiteRT on many x86 boards.

Needs `pip install openvino`. OpenVINO reads `.tflite` by path alone, so it gets a private copy of the verified bytes,
removed at once.

Of quantized files it rounds otherwise than LiteRT in three places. The mean of a bilinear resize often lies in the
middle of two levels, from where LiteRT goes up and OpenVINO to the even one: `_round_ties_up` mends that. A sum is
joined with the convolution before it, whose own rounding is left out. And of the sums of a convolution, one or two in
a million lie so near the middle that the order in which floats are multiplied decides. What follows carries it on;
`agreement` compares. `benchmarks/edge_rounding.py` measures it, op by op.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EngineError
from .codec import TensorCodec
from .engine import Engine
from .pool import Pool, available_cores, threads_of

_LITTLE = 2.0**-10  # of a level; the means of a resize to twice the size are multiples of 1/16
_MOVES = ("Transpose", "Reshape")


class OpenVINOEngine(Engine):
    """Runs a `.tflite` on OpenVINO's CPU plugin.

    Args:
        data: the file's bytes, verified.
        codec: codec of its tensors, as LiteRT describes them.
        num_threads: threads of one inference; None for every core this process may use.

    Raises:
        EngineError: OpenVINO is not installed, or refuses the file.
    """

    name = "openvino"

    def __init__(self, data: bytes, codec: TensorCodec, *, num_threads: int | None = None) -> None:
        try:
            import openvino
        except ImportError as error:
            raise EngineError(f"OpenVINO cannot be imported: {error}", fix="pip install openvino") from error
        self.codec = codec
        cores = available_cores()
        threads = threads_of(num_threads)
        # Without the precision, OpenVINO computes floats in bfloat16 where the CPU has it.
        options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        try:
            core = openvino.Core()
            with tempfile.TemporaryDirectory(prefix="unetres-edge-") as folder:
                path = Path(folder) / "m.tflite"
                path.write_bytes(data)
                graph = core.read_model(path)
                _round_ties_up(graph)
                compiled = core.compile_model(graph, "CPU", options)
                request = compiled.create_infer_request()
        except OSError as error:
            raise EngineError(f"OpenVINO needs a temporary file, which cannot be written: {error}") from error
        except Exception as error:  # RuntimeError and its own kinds
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise EngineError(f"OpenVINO refuses the model: {lines[-1] if lines else type(error).__name__}") from error
        for what, tensor, shape, dtype in (
            ("input", request.get_input_tensor(), codec.input_shape, codec.input_dtype),
            ("output", request.get_output_tensor(), codec.output_shape, codec.dtype),
        ):
            if (tuple(tensor.data.shape[1:]), tensor.data.dtype) != (shape, np.dtype(dtype)):
                raise EngineError(
                    f"OpenVINO reads the model's {what} differently",
                    expected=f"{np.dtype(dtype).name} {shape}",
                    found=f"{tensor.data.dtype.name} {tuple(tensor.data.shape[1:])}",
                )
        self._pool: Pool[Any] = Pool(compiled.create_infer_request, max(1, cores // threads))

    def run(self, tile: np.ndarray) -> np.ndarray:
        """Return scores or labels, as `LiteRTEngine.run`."""
        with self._pool.borrow() as request:
            self.codec.write(tile, request.get_input_tensor().data[0])
            _infer(request)
            return self.codec.values(request.get_output_tensor().data[0])

    def run_labels(self, tile: np.ndarray) -> np.ndarray:
        """Return labels, as `LiteRTEngine.run_labels`."""
        with self._pool.borrow() as request:
            self.codec.write(tile, request.get_input_tensor().data[0])
            _infer(request)
            return self.codec.labels(request.get_output_tensor().data[0])

    def close(self) -> None:
        """Free the requests that are idle."""
        self._pool.close()


def _round_ties_up(graph: Any) -> None:
    """Move the levels to which the means of bilinear resizes are rounded down by a little, so that ties go up."""
    from openvino import opset13

    for node in graph.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize":
            continue
        source = node.input_value(0).get_node()
        while source.get_type_name() in _MOVES:
            source = source.input_value(0).get_node()
        ends = [node.input_value(port).get_node() for port in (1, 2)]
        if source.get_type_name() != "Interpolate" or any(end.get_type_name() != "Constant" for end in ends):
            continue
        low, high = (end.data.astype(np.float64) for end in ends)
        little = _LITTLE * (high - low) / (node.get_attributes()["levels"] - 1)
        for port, value in ((1, low - little), (2, high - little)):
            node.input(port).replace_source_output(opset13.constant(value.astype(np.float32)).output(0))


def _infer(request: Any) -> None:
    try:
        request.infer()
    except Exception as error:  # RuntimeError and its own kinds
        raise EngineError(f"OpenVINO cannot run the model: {error}") from error
