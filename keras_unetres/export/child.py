"""The converter's own process: `python -m keras_unetres.export.child FOLDER`.

Reads `request.json` from the folder, and `saved_model/` and `calibration.npy`, or `calibrated.tflite`, as that asks.
Writes `made/`, with one `.tflite` or several, or `error.txt`. It imports TensorFlow and nothing of the user's, so it
can die without taking anything with it. Its standard input is a pipe of the parent's; when that closes, the parent is
gone, and the child goes too and takes the folder with it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def convert(folder: Path) -> Iterator[bytes]:
    """Yield the files that a folder asks for."""
    request = json.loads((folder / "request.json").read_text())
    if "floats" in request:
        yield from _mixed((folder / "calibrated.tflite").read_bytes(), request)
        return
    data = _tensorflow(folder, request)
    if request["tool"] == "ai-edge-quantizer":
        from .quantizer import quantize

        data = quantize(data, recipe=request["recipe"], weights=request["weights"])
    yield data


def _mixed(calibrated: bytes, request: dict[str, Any]) -> Iterator[bytes]:
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize  # what tf.lite.experimental.QuantizationDebugger calls

    for floats in request["floats"]:
        yield bytes(
            mlir_quantize(
                calibrated,
                fully_quantize=False,  # which would leave the two ends int8
                input_data_type=tf.as_dtype(request["image"]),
                output_data_type=tf.as_dtype(request["answer"]),
                denylisted_nodes=floats["nodes"] or None,
                denylisted_ops=floats["kinds"] or None,
            )
        )


def _tensorflow(folder: Path, request: dict[str, Any]) -> bytes:
    import tensorflow as tf

    sets = tf.lite.OpsSet
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved_model"))
    converter.target_spec.supported_ops = [sets.TFLITE_BUILTINS]
    if request["activations"] != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if not request["quantization_aware"]:  # else the ranges are in the graph
            converter.representative_dataset = _representative(np.load(folder / "calibration.npy", mmap_mode="r"))
            converter.target_spec.supported_ops = [
                sets.TFLITE_BUILTINS_INT8
                if request["activations"] != "int16"
                else sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            ]
        converter._experimental_calibrate_only = request["only_calibrate"]
        if request["activations"] == "int8":  # of others the ends stay as they are in the graph
            converter.inference_input_type = tf.as_dtype(request["image"])
            converter.inference_output_type = tf.as_dtype(request["answer"])
    return bytes(converter.convert())


def _representative(images: np.ndarray) -> Any:
    def batches() -> Iterator[list[np.ndarray]]:
        for image in images:
            yield [np.array(image[None])]

    return batches


def _leave_with_parent(folder: Path) -> None:
    sys.stdin.buffer.read()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def main() -> int:
    """Convert, and leave the reason in `error.txt` where that fails."""
    folder = Path(sys.argv[1])
    threading.Thread(target=_leave_with_parent, args=(folder,), daemon=True).start()
    try:
        (folder / "made").mkdir()
        for number, data in enumerate(convert(folder)):
            (folder / "made" / f"{number:04}.tflite").write_bytes(data)
    except Exception as error:
        (folder / "error.txt").write_text(f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a thread waits for the parent
