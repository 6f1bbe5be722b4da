"""Convert a Keras model to `.tflite` bytes: write a SavedModel, have the worker process convert it, read the result."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.errors import ConversionError, FileSystemError, UnetresError
from unetres_edge.images.preprocessing import Preprocessing

from ..choices.heads import HEADS, Head
from ..choices.recipes import RECIPES, Recipe
from . import converter_process
from .inspect import find_layer

if TYPE_CHECKING:
    import keras

_OTHER_PLACE = "free some space there, or set TMPDIR to a folder that has some"
_NO_MEMORY = r"MemoryError|bad_alloc|Cannot allocate memory|[Oo]ut of memory|ResourceExhausted"


def convert(
    model: keras.Model,
    shape: tuple[int, int, int],
    *,
    recipe: Recipe = RECIPES["float32"],
    head: Head = HEADS["logits"],
    calibration: np.ndarray | None = None,
    quantization_aware: bool = False,
    pixels: Preprocessing | None = None,
    only_calibrate: bool = False,
) -> bytes:
    """Return the model as `.tflite` bytes with a fixed input (1, h, w, C).

    Args:
        shape: (h, w, C).
        calibration: (N, h, w, C) float32, needed where the recipe's activations are whole numbers.
        quantization_aware: the ranges are in the model, and no calibration is needed.
        pixels: normalisation of a graph whose input is pixels 0..255; None for an input as the model sees it.
        only_calibrate: whether to return the float graph with the ranges of its tensors, of which `requantize` makes
            files.

    Raises:
        ConversionError: the model does not take this shape, or the converter refused it, died or did not end.
        FileSystemError: there is no room for temporary files.
    """
    request = {
        "tool": recipe.tool,
        "weights": recipe.weights,
        "dynamic": recipe.dynamic,
        "activations": recipe.activations,
        "quantization_aware": quantization_aware,
        "image": head.image,
        "answer": head.answer,
        "only_calibrate": only_calibrate,
    }
    if not model.built:
        raise ConversionError("the model has not yet been built: it has no weights", fix="call it on an image first")
    with _workplace() as folder:
        graph = _serve(model, head, pixels, quantization_aware)
        _write_saved_model(graph, shape, folder / "saved_model")
        with _no_room(folder):
            if calibration is not None and recipe.quantized:
                np.save(folder / "calibration.npy", calibration)
            (folder / "request.json").write_text(json.dumps(request))
        return _run_worker(folder, [layer.name for layer in model.layers])[0]


def requantize(
    calibrated: bytes, floats: list[dict[str, list[str]]], head: Head, layer_names: list[str]
) -> list[bytes]:
    """Return an int8 file for each choice of ops that stay float.

    Args:
        calibrated: bytes that `convert` returned with `only_calibrate`.
        floats: the names of the first outputs of those ops, "nodes", and their "kinds", for each file.
        head: head of the files.
        layer_names: names of the Keras model's layers, for errors.

    Raises:
        ConversionError: the converter refused, or died.
        FileSystemError: there is no room for temporary files.
    """
    answer = head.answer if head.argmax else "float32"
    with _workplace() as folder:
        with _no_room(folder):
            (folder / "calibrated.tflite").write_bytes(calibrated)
            request = {"floats": floats, "image": head.image, "answer": answer}
            (folder / "request.json").write_text(json.dumps(request))
        return _run_worker(folder, layer_names)


@contextlib.contextmanager
def _workplace() -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="unetres-", ignore_cleanup_errors=True)
    except OSError as error:
        raise FileSystemError(
            f"no temporary folder can be made: {error.strerror or error}", file=error.filename, fix=_OTHER_PLACE
        ) from error
    with folder as name:
        if not _is_text(name):
            raise FileSystemError(
                "TensorFlow takes no temporary folder whose name is no text",
                file=ascii(name),
                fix="set TMPDIR to another folder",
            )
        yield Path(name)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def _no_room(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot_write(folder, error.strerror or str(error)) from error


def _cannot_write(folder: Path, why: str) -> FileSystemError:
    return FileSystemError(f"the converter cannot write its files: {why}", file=folder, fix=_OTHER_PLACE)


def _serve(model: keras.Model, head: Head, pixels: Preprocessing | None, quantization_aware: bool) -> Any:
    """Return the function that the file is to compute."""
    import tensorflow as tf

    def serve(image: Any) -> Any:
        if pixels is not None:
            image = _normalised(image, pixels, quantization_aware)
        scores = model(image, training=False)
        if head.argmax:
            # Not keras.ops.argmax, whose bit operations have no built-in op; not int64, which runtimes do not read.
            return tf.cast(tf.argmax(scores, axis=-1, output_type=tf.int32), tf.uint8)
        return scores

    return serve


def _normalised(image: Any, pre: Preprocessing, quantization_aware: bool) -> Any:
    """Return pixels 0..255 as the model sees them, by one product and one sum."""
    import tensorflow as tf

    table = pre.table().astype(np.float64)
    factor, offset = ((table[255] - table[0]) / 255).astype(np.float32), table[0].astype(np.float32)
    if (table == table[:, :1]).all():
        factor, offset = factor[0], offset[0]
    if not quantization_aware:
        return image * factor + offset

    def rounded(values: Any, low: float, high: float) -> Any:
        return tf.quantization.fake_quant_with_min_max_args(values, low, high)

    scaled = rounded(rounded(image, 0, 255) * factor, 0, float(255 * np.max(factor)))
    return scaled + offset


def _write_saved_model(serve: Any, shape: tuple[int, int, int], path: Path) -> None:
    """Write what the converter reads: the function and its variables, and nothing else of the model.

    keras.export.ExportArchive traces every layer for itself besides, which takes longer than all the rest.
    """
    import tensorflow as tf

    from ..models.fake_quant import as_converted

    module = tf.Module()
    signature = [tf.TensorSpec((1, *shape), tf.float32, name="image")]
    try:
        with _quiet(), _no_room(path.parent), as_converted():
            function = tf.function(serve, input_signature=signature, autograph=False).get_concrete_function()
            module.held = function.graph.variables
            tf.saved_model.save(module, str(path), signatures=function)
    except (ValueError, TypeError, RuntimeError, AssertionError) as error:
        raise ConversionError(f"the model cannot be traced at (1, {shape}): {first_line(error)}") from error
    except tf.errors.OpError as error:  # how TensorFlow's own file system tells a full disk
        raise _cannot_write(path.parent, first_line(error)) from error


def first_line(error: Exception) -> str:
    """Return the first line of an error of Keras that tells something."""
    lines = (re.sub(r"\x1b\[\d+m", "", line).strip() for line in str(error).splitlines())
    return next((line for line in lines if line and "encountered when calling" not in line), type(error).__name__)


def _run_worker(folder: Path, layer_names: list[str]) -> list[bytes]:
    """Have the worker convert what a folder holds, and return the files it made."""
    code, stderr = converter_process.run(folder)
    results, error_file = sorted((folder / "made").glob("*.tflite")), folder / "error.txt"
    if code == 0 and results:
        return [result.read_bytes() for result in results]
    text = (error_file.read_text(errors="replace") if error_file.is_file() else "") or stderr
    raise _failure(code, text, folder, layer_names)


def _failure(code: int, text: str, folder: Path, layer_names: list[str]) -> UnetresError:
    """Return the error that says why the worker made no file."""
    calibrated = (folder / "calibration.npy").exists()
    if code == -signal.SIGKILL or re.search(_NO_MEMORY, text):
        return ConversionError(
            "the converter ran out of memory" + (" and was killed" if code < 0 else ""),
            fix="use a smaller input size" + (", or fewer calibration images" if calibrated else ""),
        )
    if code < 0:
        fix = "check the calibration images, or take a recipe without: float32 or float16" if calibrated else None
        return ConversionError(f"the converter died of signal {-code}", fix=fix)
    no_room = re.findall(r"Error: \[Errno \d+\] ([^:\n]+)", text)
    if no_room:
        return _cannot_write(folder, no_room[-1])
    reason = _reason(text, layer_names)
    unknown = "neither a custom op nor a flex op" in reason
    fix = (
        "TFLite has no such operation: write it by others there; of resizing, bilinear and nearest" if unknown else None
    )
    return ConversionError("the converter refused the model: " + reason, fix=fix)


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
    """Keep TensorFlow's notes on saving out of the user's terminal, and out of a notebook, where it logs to stdout."""
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
