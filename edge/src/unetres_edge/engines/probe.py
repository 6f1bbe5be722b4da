"""Looking into a graph as LiteRT runs it: which ops its delegate for the CPU takes, and what each tensor holds.

For people who want to know why a file is slow or where it loses accuracy. `litert` runs models; this does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from ..errors import ModelError
from .pool import available_cores

_DELEGATE = "DELEGATE"


def find_partitions(data: bytes) -> list[tuple[int, ...]]:
    """Return the parts of a graph that XNNPACK takes when the model is loaded, each as the indices of its ops.

    An op that is in no piece is run by the runtime's own kernel. Each piece costs a change of hands.

    Args:
        data: bytes of a `.tflite`, verified.

    Raises:
        ModelError: the runtime refuses the file.
    """
    nodes = _load(data)._get_ops_details()  # lists the ops of the file, then one DELEGATE for each piece
    ops = [node for node in nodes if node["op_name"] != _DELEGATE]
    maker = {int(tensor): index for index, op in enumerate(ops) for tensor in op["outputs"]}
    pieces = []
    for node in nodes[len(ops) :]:
        inputs = {int(tensor) for tensor in node["inputs"]}
        waiting, piece = [int(tensor) for tensor in node["outputs"]], set()
        while waiting:
            index = maker.get(waiting.pop())
            if index is None or index in piece:
                continue
            piece.add(index)
            waiting += [int(tensor) for tensor in ops[index]["inputs"] if int(tensor) not in inputs]
        pieces.append(tuple(sorted(piece)))
    return pieces


def record_tensors(data: bytes, images: np.ndarray, tensors: Sequence[int]) -> Iterator[list[np.ndarray]]:
    """Yield, for each image, what some tensors hold after it was run with the runtime's own kernels.

    Args:
        data: bytes of a `.tflite`, verified, with one input.
        images: (N, h, w, C) float32 as the network sees them; a quantized input gets the nearest of its numbers.
        tensors: their numbers in the file.

    Raises:
        ModelError: the runtime refuses the file.
    """
    interpreter = _load(
        data,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    source = _ends(interpreter)[0]
    for image in images:
        _run(interpreter, image, source)
        yield [interpreter.get_tensor(tensor) for tensor in tensors]


def run_images(data: bytes, images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the answer of a model to each image as float32 numbers, as the runtime gives them on this machine.

    Args:
        data: bytes of a `.tflite`, verified, with one input and one output.
        images: (N, h, w, C) float32 as the network sees them; a quantized input gets the nearest of its numbers.

    Raises:
        ModelError: the runtime refuses the file.
    """
    interpreter = _load(data)
    source, target = _ends(interpreter)
    scale, zero_point = target["quantization"]
    for image in images:
        _run(interpreter, image, source)
        values = interpreter.get_tensor(target["index"])[0].astype(np.float32)
        yield (values - zero_point) * np.float32(scale) if scale else values


def _load(data: bytes, **options: Any) -> Interpreter:
    try:
        interpreter = Interpreter(model_content=data, num_threads=available_cores(), **options)
        interpreter.allocate_tensors()
    except Exception as error:  # the runtime raises ValueError, RuntimeError, MemoryError and others
        raise ModelError(f"LiteRT refuses the model: {error}") from error
    return interpreter


def _ends(interpreter: Interpreter) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the runtime says of the first input and the first output."""
    try:
        return interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    except (IndexError, ValueError) as error:
        raise ModelError(f"LiteRT refuses the model: {error}") from error


def _run(interpreter: Interpreter, image: np.ndarray, source: dict[str, Any]) -> None:
    try:
        interpreter.set_tensor(source["index"], _stored(image[None], source))
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"LiteRT cannot run the model: {error}") from error


def _stored(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    dtype = detail["dtype"]
    if dtype == np.float32:
        return values.astype(np.float32)
    scale, zero_point = detail["quantization"]
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values / np.float32(scale)) + zero_point, limits.min, limits.max).astype(dtype)
