"""Tiny model files, written with LiteRT's schema alone: a 1x1 convolution, or the input handed back as it came."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from unetres_edge import Card, Preprocessing, seal
from unetres_edge.model.card import CARD_NAME, default_colors

TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int32": schema.TensorType.INT32,
    "float64": schema.TensorType.FLOAT64,
}
Quantization = tuple[float, int]


class Graph:
    """A model of one subgraph, put together tensor by tensor and op by op."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.description = "test"
        self.model.operatorCodes, self.model.metadata = [], []
        self.model.buffers = [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.graph.name = "main"
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def buffer(self, data: bytes) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(data, np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        quantization: Quantization | None = None,
        values: np.ndarray | None = None,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), TYPES[dtype]
        tensor.buffer = 0 if values is None else self.buffer(values.astype(dtype).tobytes())
        if quantization is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [quantization[0]], [quantization[1]]
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def op(self, code: int, inputs: list[int], outputs: list[int], kind: int = 0, options: object = None) -> None:
        entry = schema.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, min(code, 127), 1
        if code == schema.BuiltinOperator.CONV_2D:
            entry.version = 3
        self.model.operatorCodes.append(entry)
        op = schema.OperatorT()
        op.opcodeIndex = len(self.model.operatorCodes) - 1
        op.inputs, op.outputs = inputs, outputs
        op.builtinOptionsType, op.builtinOptions = kind, options
        self.graph.operators.append(op)

    def metadata(self, name: str, data: bytes) -> None:
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, self.buffer(data)
        self.model.metadata.append(entry)

    def to_bytes(self, inputs: list[int], outputs: list[int]) -> bytes:
        self.graph.inputs, self.graph.outputs = inputs, outputs
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self.model))


def make_card(
    size: tuple[int, int] = (8, 8), channels: int = 1, classes: int = 2, *, head: str = "logits", **fields
) -> Card:
    """Return a card for a network that takes levels 0..255 as they are; `fit` goes to the preprocessing."""
    pre = Preprocessing(
        channels=channels, value_range=(0, 255), size=size, fit=fields.pop("fit", "crop"), **fields.pop("pre", {})
    )
    names = tuple(f"class {index}" for index in range(classes))
    return Card(names, default_colors(classes), pre, head=head, **fields)


def make_conv(card: Card | None, weights: np.ndarray, bias: np.ndarray, size: tuple[int, int] = (8, 8)) -> bytes:
    """Return a float32 1x1 convolution, sealed if it has a card; an argmax head ends in ARG_MAX and CAST.

    Args:
        weights: (classes, channels).
        bias: (classes,).
        size: of the input, where there is no card.
    """
    graph = Graph()
    classes, channels = weights.shape
    size = card.preprocessing.size if card else size
    source = graph.tensor("image", (1, *size, channels), "float32")
    kernel = graph.tensor("kernel", (classes, 1, 1, channels), "float32", values=weights)
    offset = graph.tensor("bias", (classes,), "float32", values=bias)
    scores = graph.tensor("scores", (1, *size, classes), "float32")
    options = schema.Conv2DOptionsT()
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    conv = schema.BuiltinOperator.CONV_2D
    graph.op(conv, [source, kernel, offset], [scores], schema.BuiltinOptions.Conv2DOptions, options)
    result = add_argmax(graph, scores, size) if card and card.head == "argmax" else scores
    return finish(graph, card, [source], [result])


def add_argmax(graph: Graph, scores: int, size: tuple[int, int]) -> int:
    """Add ARG_MAX and CAST behind scores; return the uint8 labels."""
    axis = graph.tensor("axis", (1,), "int32", values=np.array([3]))
    wide = graph.tensor("wide", (1, *size), "int32")
    labels = graph.tensor("labels", (1, *size), "uint8")
    argmax = schema.ArgMaxOptionsT()
    argmax.outputType = TYPES["int32"]
    kinds = schema.BuiltinOptions
    graph.op(schema.BuiltinOperator.ARG_MAX, [scores, axis], [wide], kinds.ArgMaxOptions, argmax)
    cast = schema.CastOptionsT()
    cast.inDataType, cast.outDataType = TYPES["int32"], TYPES["uint8"]
    graph.op(schema.BuiltinOperator.CAST, [wide], [labels], kinds.CastOptions, cast)
    return labels


def make_dense(card: Card, weights: np.ndarray, bias: np.ndarray) -> bytes:
    """Return a sealed float32 classifier: one fully connected layer over all pixels.

    Args:
        weights: (classes, height * width * channels).
        bias: (classes,).
    """
    graph = Graph()
    pre = card.preprocessing
    source = graph.tensor("image", (1, *pre.size, pre.channels), "float32")
    kernel = graph.tensor("kernel", weights.shape, "float32", values=weights)
    offset = graph.tensor("bias", bias.shape, "float32", values=bias)
    scores = graph.tensor("scores", (1, len(weights)), "float32")
    kinds = schema.BuiltinOptions
    options = schema.FullyConnectedOptionsT()
    graph.op(
        schema.BuiltinOperator.FULLY_CONNECTED, [source, kernel, offset], [scores], kinds.FullyConnectedOptions, options
    )
    return finish(graph, card, [source], [scores])


def make_identity(
    card: Card | None,
    shape: tuple[int, ...],
    dtype: str = "float32",
    quantization: Quantization | None = None,
    *,
    outputs: int = 1,
) -> bytes:
    """Return a file without ops whose output is its input, sealed if it has a card."""
    graph = Graph()
    source = graph.tensor("image", shape, dtype, quantization)
    return finish(graph, card, [source], [source] * outputs)


def make_copy(card: Card, dtype: str, quantization: Quantization) -> bytes:
    """Return a sealed file of one op that hands on its input as it came, pooling over 1x1 px: LiteRT.js needs one."""
    graph, pre = Graph(), card.preprocessing
    ends = [graph.tensor(name, (1, *pre.size, pre.channels), dtype, quantization) for name in ("image", "scores")]
    options = schema.Pool2DOptionsT()
    options.padding = schema.Padding.SAME
    options.strideH = options.strideW = options.filterHeight = options.filterWidth = 1
    graph.op(schema.BuiltinOperator.MAX_POOL_2D, ends[:1], ends[1:], schema.BuiltinOptions.Pool2DOptions, options)
    graph.model.operatorCodes[-1].version = 2  # from which on it takes int8
    return finish(graph, card, ends[:1], ends[1:])


def finish(graph: Graph, card: Card | None, inputs: list[int], outputs: list[int]) -> bytes:
    """Return the file, with another tool's metadata and, if there is one, the card; sealed then."""
    graph.metadata("min_runtime_version", b"1.5.0".ljust(16, b"\0"))
    if card is None:
        return graph.to_bytes(inputs, outputs)
    graph.metadata(CARD_NAME, card.to_json().encode())
    return seal(graph.to_bytes(inputs, outputs))


def replace_card(data: bytes, card: Card) -> bytes:
    """Return a file with another card in the place of its own, sealed."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    (buffer,) = (entry.buffer for entry in model.metadata if entry.name.decode() == CARD_NAME)
    model.buffers[buffer].data = np.frombuffer(card.to_json().encode(), np.uint8)
    return seal(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
