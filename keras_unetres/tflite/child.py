"""The converter's own process: `python -m keras_unetres.tflite.child`.

Reads names of folders from its standard input, one a line, and answers each with a line: an exit status, negative for
the signal that it died of. A folder holds `request.json`, and `saved_model/` and `calibration.npy`, or
`calibrated.tflite`, as that asks; it gets `made/`, with one `.tflite` or several, or `error.txt`.

On Linux every conversion is done by a fork of the process, which has TensorFlow imported and goes on whatever becomes
of the fork; elsewhere it converts once and goes. It imports TensorFlow and nothing of the user's. Its standard input is
a pipe of the parent's; when that closes, the parent is gone, and a conversion under way goes too and takes its folder
with it. It leaves by itself when nothing was asked for a while.
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

FORKS = sys.platform == "linux"  # elsewhere what TensorFlow has loaded may not survive it
IDLE = 300.0  # s


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
    os.read(0, 1)  # nothing is asked meanwhile: it returns at the end of the pipe
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def answer(folder: Path) -> int:
    """Convert, and leave the reason in `error.txt` where that fails; return the exit status."""
    threading.Thread(target=_leave_with_parent, args=(folder,), daemon=True).start()
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


def _load() -> None:
    """Import what takes long. What fails here fails again, with its reason, in the conversion."""
    with contextlib.suppress(Exception):
        import tensorflow as tf

        tf.lite.TFLiteConverter  # noqa: B018  # the attribute loads it


def _load_for(folder: Path) -> None:
    """Import what only some conversions need."""
    with contextlib.suppress(Exception):
        if json.loads((folder / "request.json").read_text())["tool"] == "ai-edge-quantizer":
            import ai_edge_quantizer.quantizer  # noqa: F401


def _asked() -> str | None:
    """Return the next folder, or None where the parent is gone or has not asked for long."""
    if not FORKS or select.select([0], [], [], IDLE)[0]:
        name = b""
        while not name.endswith(b"\n"):  # not a line of sys.stdin, whose buffer a fork would share
            letter = os.read(0, 1)
            if not letter:
                return None
            name += letter
        return os.fsdecode(name[:-1])
    return None


def main() -> None:
    """Convert what is asked for."""
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what TensorFlow prints is no answer
    _load()
    while (name := _asked()) is not None:
        folder = Path(name)
        if FORKS:
            _load_for(folder)
        code = _fork(folder) if FORKS else answer(folder)
        os.write(answers, f"{code}\n".encode())
        if not FORKS:
            break
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
