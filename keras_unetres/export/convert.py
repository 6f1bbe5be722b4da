"""Conversion, from the parent's side: write a SavedModel, run the converter in a child process, read the bytes."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import unetres_edge
from unetres_edge.errors import ConversionError

from .inspect import find_layer

if TYPE_CHECKING:
    import keras


def convert(
    model: keras.Model,
    shape: tuple[int, int, int],
    *,
    head: str = "logits",
    quantized: bool = False,
    calibration: np.ndarray | None = None,
) -> bytes:
    """Return the model as `.tflite` bytes with a fixed input (1, h, w, C).

    Args:
        shape: (h, w, C).
        head: "argmax" adds an argmax to uint8 class ids.
        quantized: make an int8 graph with uint8 input and output.
        calibration: (N, h, w, C) float32, needed for `quantized`.

    Raises:
        ConversionError: the model does not take this shape, or the converter refused it or died.
    """
    with tempfile.TemporaryDirectory(prefix="unetres-") as name:
        folder = Path(name)
        _write_saved_model(model, shape, head, folder / "saved_model")
        if calibration is not None:
            np.save(folder / "calibration.npy", calibration)
        (folder / "request.json").write_text(json.dumps({"quantized": quantized}))
        return _run_child(folder, [layer.name for layer in model.layers])


def _write_saved_model(model: keras.Model, shape: tuple[int, int, int], head: str, path: Path) -> None:
    import keras
    import tensorflow as tf

    def serve(image: Any) -> Any:
        scores = model(image, training=False)
        if head == "argmax":
            # Not keras.ops.argmax, whose bit operations have no built-in op; not int64, which runtimes do not read.
            return tf.cast(tf.argmax(scores, axis=-1, output_type=tf.int32), tf.uint8)
        return scores

    archive = keras.export.ExportArchive()
    try:
        archive.track(model)
        with _quiet():
            signature = [tf.TensorSpec((1, *shape), tf.float32, name="image")]
            archive.add_endpoint(name="serve", fn=serve, input_signature=signature)
            archive.write_out(str(path), verbose=False)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ConversionError(f"the model cannot be traced at (1, {shape}): {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """Return the first line of an error of Keras that tells something."""
    lines = (re.sub(r"\x1b\[\d+m", "", line).strip() for line in str(error).splitlines())
    return next((line for line in lines if line and "encountered when calling" not in line), type(error).__name__)


def _run_child(folder: Path, layer_names: list[str]) -> bytes:
    roots = [str(Path(__file__).resolve().parents[2]), str(Path(unetres_edge.__file__).resolve().parents[1])]
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("TF_", "XLA_", "KERAS_"))},
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join([*roots, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    child = subprocess.run(
        [sys.executable, "-P", "-m", "keras_unetres.export.child", str(folder)],  # -P: no modules of the user's folder
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    result = folder / "model.tflite"
    if child.returncode == 0 and result.is_file():
        return result.read_bytes()
    if child.returncode < 0:
        fix = "check the calibration images" if (folder / "calibration.npy").exists() else None
        raise ConversionError(f"the converter died of signal {-child.returncode}", fix=fix)
    error = folder / "error.txt"
    reason = _reason(error.read_text() if error.is_file() else child.stderr, layer_names)
    raise ConversionError("the converter refused the model: " + reason)


def _reason(text: str, layer_names: list[str]) -> str:
    """Return what the converter complains of, and the Keras layer where it says so."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "error:" in line or "not yet supported" in line or "not supported" in line]
    line = (telling or lines[-1:] or ["no reason given"])[0]
    layer = next(filter(None, (find_layer(name, layer_names) for name in re.findall(r'"([^"@]+)@', line))), None)
    message = re.sub(r"^.*\berror: (loc\(.*\): )?", "", line)
    return " ".join(message.split())[:500] + (f" (layer {layer})" if layer else "")


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep TensorFlow's notes on saving out of the user's terminal."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
