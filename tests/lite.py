"""What tests ask of a `.tflite`: its ops, its partitions, its answer."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_unetres.tflite.inspect import float_islands, read_ops


def assert_int8_between_quantizes(data: bytes) -> list[str]:
    """Every op between the input's and the output's QUANTIZE is int8; return their names."""
    ops = read_ops(data)
    assert [op.name for op in ops if "QUANTIZE" in op.name] == ["QUANTIZE", "QUANTIZE"]
    assert (ops[0].inputs, ops[0].outputs) == (("UINT8",), ("INT8",))
    assert (ops[-1].inputs, ops[-1].outputs) == (("INT8",), ("UINT8",))
    for op in ops[1:-1]:
        assert {*op.inputs, *op.outputs} == {"INT8"}, op
    assert float_islands(ops) == []
    return [op.name for op in ops[1:-1]]


def partitions(data: bytes) -> int:
    """In how many pieces XNNPACK takes the graph, when it is applied as the runtime does by default."""
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    return [op["op_name"] for op in interpreter._get_ops_details()].count("DELEGATE")


def answer(data: bytes, images: np.ndarray) -> np.ndarray:
    """The output for a batch of images, one by one."""
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    (into,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    outputs = []
    for image in images:
        interpreter.set_tensor(into["index"], image[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(out["index"])[0])
    return np.stack(outputs)
