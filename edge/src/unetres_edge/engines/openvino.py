"""Running a model file on OpenVINO, which reads the same `.tflite`: faster than LiteRT on many x86 boards.

Needs `pip install openvino`. OpenVINO computes with other roundings than LiteRT; `agreement` compares the two. It reads
`.tflite` by path alone, so it gets a private copy of the verified bytes, removed at once.
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
                compiled = core.compile_model(core.read_model(path), "CPU", options)
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


def _infer(request: Any) -> None:
    try:
        request.infer()
    except Exception as error:  # RuntimeError and its own kinds
        raise EngineError(f"OpenVINO cannot run the model: {error}") from error
