"""Running a model file on LiteRT's accelerators: the GPU or NPU of the device."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import EngineError
from .codec import TensorCodec
from .engine import Engine
from .pool import Pool


class AcceleratorEngine(Engine):
    """Runs a `.tflite` on the GPU or NPU of the device.

    Args:
        data: the file's bytes, verified.
        codec: codec of its tensors, as LiteRT on the CPU describes them.
        kind: "gpu" or "npu".

    Raises:
        EngineError: there is no such accelerator, or it does not take the whole model: LiteRT would run the rest, or
            all, on the CPU and not say so.
    """

    def __init__(self, data: bytes, codec: TensorCodec, kind: str) -> None:
        self.name = f"litert-{kind}"
        self.codec = codec
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
        return self.codec.values(self._output(tile))

    def run_labels(self, tile: np.ndarray) -> np.ndarray:
        """Return labels, as `LiteRTEngine.run_labels`."""
        return self.codec.labels(self._output(tile))

    def _output(self, tile: np.ndarray) -> np.ndarray:
        source = np.empty(self.codec.input_shape, self.codec.input_dtype)
        self.codec.write(tile, source)
        with self._pool.borrow() as (model, inputs, outputs):
            try:
                inputs[0].write(source)
                model.run_by_index(0, inputs, outputs)
                values: np.ndarray = outputs[0].read(int(np.prod(self.codec.output_shape)), self.codec.dtype)
            except Exception as error:  # RuntimeError and whatever a vendor's library raises
                raise EngineError(f"{self.name} cannot run the model: {error}") from error
        return values.reshape(self.codec.output_shape)

    def close(self) -> None:
        """Free the model."""
        self._pool.close()
