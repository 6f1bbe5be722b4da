"""The worker process that runs TensorFlow's converter: `python -m keras_unetres.tflite.converter_worker`.

The protocol, whose other side is `converter_process.py`: each line of standard input is the path of a folder, and each
is answered by one line on standard output, the exit status of that conversion (negative: the signal that ended it).
The folder holds `request.json` and the inputs it names: `saved_model/` with `calibration.npy`, or for mixed precision
`calibrated.tflite`. The worker adds `made/0000.tflite` and so on, or `error.txt` with the reason.

On Linux the worker imports TensorFlow once and forks for each conversion, so that a crash of the converter ends the
fork alone. Elsewhere it converts one folder and exits. Either way it imports none of the user's modules.

Nothing is left behind: the worker exits after `IDLE` seconds without a request. When its standard input closes, the
parent has gone; then a running conversion deletes its folder and exits too.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..choices.recipes import LITERT_QUANTIZER
from ..machine.tensorflow_log import quiet_tensorflow

FORKS = sys.platform == "linux"  # elsewhere what TensorFlow has loaded may not survive it
IDLE = 300.0  # seconds without a request after which the worker exits


def convert(folder: Path) -> Iterator[bytes]:
    """Yield the `.tflite` files that the request in a folder asks for."""
    request = json.loads((folder / "request.json").read_text())
    if "floats" in request:
        yield from _mixed_precision((folder / "calibrated.tflite").read_bytes(), request)
        return
    data = _converted(folder, request)
    if request["tool"] == LITERT_QUANTIZER:
        from .weight_quantization import quantize_weights

        data = quantize_weights(data, weights=request["weights"], dynamic=request["dynamic"])
    yield data


def _mixed_precision(calibrated: bytes, request: dict[str, Any]) -> Iterator[bytes]:
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


def _converted(folder: Path, request: dict[str, Any]) -> bytes:
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


def _exit_with_parent(folder: Path) -> None:
    """Wait for the end of standard input, which is the parent's, and then exit without a trace."""
    os.read(0, 1)  # no request comes during a conversion: it returns when the pipe closes
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def answer(folder: Path) -> int:
    """Do what a folder asks for and return the exit status; write the reason to `error.txt` where that fails."""
    threading.Thread(target=_exit_with_parent, args=(folder,), daemon=True).start()
    try:
        (folder / "made").mkdir()
        for number, data in enumerate(convert(folder)):
            (folder / "made" / f"{number:04}.tflite").write_bytes(data)
    except Exception as error:
        (folder / "error.txt").write_text(f"{type(error).__name__}: {error}")
        return 1
    return 0


def _fork(folder: Path) -> int:
    worker = os.fork()
    if worker == 0:
        code = 1
        try:
            code = answer(folder)
        finally:
            sys.stderr.flush()
            os._exit(code)  # a thread waits for the parent
    return os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])


def _import_converter() -> None:
    """Import what takes long, before the first fork. An error comes up again, with its reason, in the conversion."""
    with contextlib.suppress(Exception):
        import tensorflow as tf

        tf.lite.TFLiteConverter  # noqa: B018  # the attribute loads it


def _import_quantizer(folder: Path) -> None:
    """Import the quantizer of weights, where the request needs it, for this fork and all later ones."""
    with contextlib.suppress(Exception):
        if json.loads((folder / "request.json").read_text())["tool"] == LITERT_QUANTIZER:
            import litert_quantizer.quantizer  # noqa: F401


def _next_folder() -> str | None:
    """Return the folder of the next request; None where the parent has gone, or has asked for nothing for `IDLE` s."""
    if not FORKS or select.select([0], [], [], IDLE)[0]:
        name = b""
        while not name.endswith(b"\n"):  # not a line of sys.stdin, whose buffer a fork would share
            letter = os.read(0, 1)
            if not letter:
                return None
            name += letter
        return os.fsdecode(bytes.fromhex(name[:-1].decode()))
    return None


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what TensorFlow prints must not be read as an answer
    quiet_tensorflow()
    _import_converter()
    while (name := _next_folder()) is not None:
        folder = Path(name)
        if FORKS:
            _import_quantizer(folder)
        code = _fork(folder) if FORKS else answer(folder)
        os.write(answers, f"{code}\n".encode())
        if not FORKS:
            break
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
