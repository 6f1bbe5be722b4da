"""Networks of single operations as model files, written with LiteRT's schema alone; their weights mean nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int32": schema.TensorType.INT32,
}
_SCALE, _ZERO = 0.05, 3  # of all quantized activations
_OPS, _KINDS, _SAME = schema.BuiltinOperator, schema.BuiltinOptions, schema.Padding.SAME
_VERSIONS = {  # of the kernels, by type
    "CONV_2D": (1, 3),
    "DEPTHWISE_CONV_2D": (1, 3),
    "TRANSPOSE_CONV": (1, 3),
    "FULLY_CONNECTED": (1, 4),
    "MAX_POOL_2D": (1, 2),
    "AVERAGE_POOL_2D": (1, 2),
    "RESIZE_BILINEAR": (3, 3),
    "RESIZE_NEAREST_NEIGHBOR": (3, 3),
    "CONCATENATION": (1, 2),
    "ADD": (1, 2),
    "MUL": (1, 2),
    "MEAN": (1, 2),
    "PAD": (1, 2),
    "SOFTMAX": (1, 2),
    "LOGISTIC": (1, 2),
    "ARG_MAX": (1, 2),
    "QUANTIZE": (1, 2),
    "DEQUANTIZE": (1, 2),
    "CAST": (1, 1),
}
Shape = tuple[int, ...]


class NetworkWriter:
    """A network of float32 or int8 activations, put together operation by operation."""

    def __init__(self, dtype: str, seed: int = 0) -> None:
        self.dtype, self._rng = dtype, np.random.default_rng(seed)
        self._model, self._graph = schema.ModelT(), schema.SubGraphT()
        self._model.version, self._model.description = 3, "timed"
        self._model.operatorCodes, self._model.buffers = [], [schema.BufferT()]
        self._graph.tensors, self._graph.operators = [], []
        self._model.subgraphs = [self._graph]
        self._shapes: list[Shape] = []

    def shape(self, tensor: int) -> Shape:
        """Return the shape of a tensor."""
        return self._shapes[tensor]

    def activation(self, shape: Shape, dtype: str | None = None) -> int:
        """Add a tensor that is given or computed."""
        return self._tensor(shape, dtype or self.dtype)

    def conv(self, source: int, channels: int, size: int = 3, stride: int = 1) -> int:
        """Add a convolution with a bias and ReLU; the border is padded."""
        shape = self.shape(source)
        kernel = self._weights((channels, size, size, shape[-1]), 0)
        output = self.activation((1, -(-shape[1] // stride), -(-shape[2] // stride), channels))
        options = schema.Conv2DOptionsT()
        options.strideW = options.strideH = stride
        options.dilationWFactor = options.dilationHFactor = 1
        self._relu(options)
        return self._op("CONV_2D", [source, kernel, self._bias(channels)], output, options)

    def depthwise_conv(self, source: int, size: int = 3, stride: int = 1) -> int:
        """Add a depthwise convolution with a bias and ReLU."""
        shape = self.shape(source)
        kernel = self._weights((1, size, size, shape[-1]), 3)
        output = self.activation((1, -(-shape[1] // stride), -(-shape[2] // stride), shape[-1]))
        options = schema.DepthwiseConv2DOptionsT()
        options.strideW = options.strideH = stride
        options.dilationWFactor = options.dilationHFactor = options.depthMultiplier = 1
        self._relu(options)
        return self._op("DEPTHWISE_CONV_2D", [source, kernel, self._bias(shape[-1])], output, options)

    def transpose_conv(self, source: int, channels: int, size: int = 2, stride: int = 2) -> int:
        """Add a transposed convolution with a bias."""
        taken = self.shape(source)
        shape = (1, taken[1] * stride, taken[2] * stride, channels)
        kernel = self._weights((channels, size, size, taken[-1]), 0)
        options = schema.TransposeConvOptionsT()
        options.padding, options.strideW, options.strideH = _SAME, stride, stride
        inputs = [self._numbers(shape), kernel, source, self._bias(channels)]
        return self._op("TRANSPOSE_CONV", inputs, self.activation(shape), options)

    def fully_connected(self, source: int, units: int) -> int:
        """Add a fully connected layer."""
        kernel = self._tensor((units, self.shape(source)[-1]), self.dtype, weights=True)
        output = self.activation((1, units))
        return self._op("FULLY_CONNECTED", [source, kernel, self._bias(units)], output, schema.FullyConnectedOptionsT())

    def pool(self, source: int, size: int = 2, stride: int = 2, kind: str = "MAX_POOL_2D") -> int:
        """Add max or average pooling."""
        shape = self.shape(source)
        options = schema.Pool2DOptionsT()
        options.padding, options.strideW, options.strideH = _SAME, stride, stride
        options.filterWidth = options.filterHeight = size
        output = self.activation((1, -(-shape[1] // stride), -(-shape[2] // stride), shape[-1]))
        return self._op(kind, [source], output, options)

    def resize(self, source: int, times: int = 2, kind: str = "RESIZE_BILINEAR") -> int:
        """Add an enlargement with half-pixel centres."""
        _, height, width, channels = self.shape(source)
        size = (height * times, width * times)
        bilinear = kind == "RESIZE_BILINEAR"
        options = schema.ResizeBilinearOptionsT() if bilinear else schema.ResizeNearestNeighborOptionsT()
        options.halfPixelCenters = True
        return self._op(kind, [source, self._numbers(size)], self.activation((1, *size, channels)), options)

    def concatenate(self, *sources: int) -> int:
        """Add a concatenation of channels."""
        options = schema.ConcatenationOptionsT()
        options.axis = 3
        output = self.activation((*self.shape(sources[0])[:-1], sum(self.shape(each)[-1] for each in sources)))
        return self._op("CONCATENATION", list(sources), output, options)

    def join(self, one: int, other: int, kind: str = "ADD") -> int:
        """Add a sum or a product of two tensors of one shape."""
        options = schema.AddOptionsT() if kind == "ADD" else schema.MulOptionsT()
        return self._op(kind, [one, other], self.activation(self.shape(one)), options)

    def mean(self, source: int) -> int:
        """Add the mean over height and width."""
        options = schema.ReducerOptionsT()
        options.keepDims = False
        return self._op("MEAN", [source, self._numbers((1, 2))], self.activation((1, self.shape(source)[-1])), options)

    def pad(self, source: int, border: int = 1) -> int:
        """Add a border of zeros."""
        _, height, width, channels = self.shape(source)
        paddings = self._numbers((0, 0, border, border, border, border, 0, 0), (4, 2))
        output = self.activation((1, height + 2 * border, width + 2 * border, channels))
        return self._op("PAD", [source, paddings], output, schema.PadOptionsT())

    def activate(self, source: int, kind: str) -> int:
        """Add a softmax or a logistic function."""
        output = self._tensor(self.shape(source), self.dtype, quantization=(1 / 256, -128))
        if kind == "LOGISTIC":
            return self._op(kind, [source], output, None)
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        return self._op(kind, [source], output, options)

    def argmax(self, source: int) -> int:
        """Add the choice of the class, as uint8."""
        options = schema.ArgMaxOptionsT()
        options.outputType = _TYPES["int32"]
        shape = self.shape(source)[:-1]
        wide = self._op("ARG_MAX", [source, self._numbers((3,))], self.activation(shape, "int32"), options)
        cast = schema.CastOptionsT()
        cast.inDataType, cast.outDataType = _TYPES["int32"], _TYPES["uint8"]
        return self._op("CAST", [wide], self.activation(shape, "uint8"), cast)

    def convert(self, source: int, dtype: str) -> int:
        """Add a quantization, a requantization, or what makes float32 of int8."""
        output = self.activation(self.shape(source), dtype)
        kind = "DEQUANTIZE" if dtype == "float32" else "QUANTIZE"
        options = schema.DequantizeOptionsT() if dtype == "float32" else schema.QuantizeOptionsT()
        return self._op(kind, [source], output, options)

    def to_bytes(self, inputs: list[int], outputs: list[int]) -> bytes:
        """Return the file."""
        self._graph.inputs, self._graph.outputs = inputs, outputs
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self._model))

    def _relu(self, options: Any) -> None:
        options.padding = _SAME
        options.fusedActivationFunction = schema.ActivationFunctionType.RELU

    def _op(self, kind: str, inputs: list[int], output: int, options: Any) -> int:
        code = schema.OperatorCodeT()
        number = getattr(_OPS, kind)
        code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
        code.version = _VERSIONS[kind][self.dtype != "float32"]
        self._model.operatorCodes.append(code)
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = len(self._model.operatorCodes) - 1, inputs, [output]
        if options is not None:
            op.builtinOptionsType = getattr(_KINDS, type(options).__name__.removesuffix("T"))
            op.builtinOptions = options
        self._graph.operators.append(op)
        return output

    def _tensor(
        self,
        shape: Shape,
        dtype: str,
        values: np.ndarray | None = None,
        quantization: tuple[float, int] | None = None,
        weights: bool = False,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = f"t{len(self._shapes)}", list(shape), _TYPES[dtype]
        if weights:
            values = self._rng.integers(-127, 128, shape).astype(np.int8)
            values = values if dtype == "int8" else (values / 500).astype(np.float32)
            quantization = (0.01, 0)
        tensor.buffer = 0
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            self._model.buffers.append(buffer)
            tensor.buffer = len(self._model.buffers) - 1
        if dtype in ("int8", "uint8"):
            scale, zero = quantization or (_SCALE, _ZERO)
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero]
        self._graph.tensors.append(tensor)
        self._shapes.append(tuple(shape))
        return len(self._shapes) - 1

    def _weights(self, shape: Shape, axis: int) -> int:
        number = self._tensor(shape, self.dtype, weights=True)
        if self.dtype == "int8":  # a scale for each channel
            quantization = self._graph.tensors[number].quantization
            quantization.scale, quantization.zeroPoint = [0.01] * shape[axis], [0] * shape[axis]
            quantization.quantizedDimension = axis
        return number

    def _bias(self, channels: int) -> int:
        if self.dtype == "float32":
            return self._tensor((channels,), "float32", values=np.zeros(channels, np.float32))
        number = self._tensor((channels,), "int32", values=np.zeros(channels, np.int32))
        quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = [_SCALE * 0.01] * channels, [0] * channels
        self._graph.tensors[number].quantization = quantization
        return number

    def _numbers(self, values: Shape, shape: Shape | None = None) -> int:
        return self._tensor(shape or (len(values),), "int32", values=np.array(values, np.int32))
