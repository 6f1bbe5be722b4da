"""From any flat Keras network to the float network that an int8 file computes, and where in it tensors are quantized.

An int8 kernel is a convolution with bias and ReLU. So BatchNormalization is folded into the convolution before it, with
the statistics it has (Jacob 2018, section 3.2; frozen, as Krishnamoorthi 2018, section 4.1 advises for the end of
training), and what scales channels alone becomes a 1x1 depthwise convolution, which has a scale for each channel where
a multiplication would have one for all. What has no int8 form is refused by name. No number is rounded here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from unetres_edge.errors import UsageError

from ..models.graph import Background, copy_layer
from .graph import Call, read_calls

# Ranges that LiteRT's kernels demand of the outputs of these functions (its 8-bit quantization specification).
SIGMOID = (0.0, 255 / 256)
TANH = (-1.0, 127 / 128)

_UNTRAINED = "or ku.export it, which quantizes without training"
_CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.Conv2DTranspose, layers.Dense)
_ARITHMETIC = (layers.Add, layers.Multiply, layers.Subtract)
_SAME_RANGE = (  # kernels that move or compare values and keep their scale, and what does nothing at inference
    *(layers.Concatenate, layers.Cropping2D, layers.Flatten, layers.GlobalMaxPooling2D),
    *(layers.Permute, layers.Reshape, layers.ZeroPadding2D, Background),
    *(layers.ActivityRegularization, layers.AlphaDropout, layers.Dropout, layers.GaussianDropout),
    *(layers.GaussianNoise, layers.Identity, layers.SpatialDropout2D),
)
_RESIZES = (layers.Resizing, layers.UpSampling2D)
_FUNCTIONS = {"sigmoid": SIGMOID, "softmax": SIGMOID, "tanh": TANH}
_HARD = ("hard_sigmoid", "hard_silu", "hard_swish")
_LEAK = 0.2  # of keras.activations.leaky_relu


@dataclass(frozen=True)
class Point:
    """Tensors that share one range of activations.

    Args:
        name: name of the first layer.
        layers: whose outputs have this range.
        fixed: a range that the int8 kernels demand, or None for one that calibration finds.
    """

    name: str
    layers: tuple[str, ...]
    fixed: tuple[float, float] | None


@dataclass(frozen=True)
class Folded:
    """A float network without BatchNormalization, and the tensors that its int8 file quantizes.

    Args:
        model: float, flat, with the outputs of the original at inference. Its convolutions have a bias and no
            activation; layers are named as in the original, where they are still there.
        points: points at which tensors are quantized. A layer that is in none of them is fused with the ReLU behind it.
    """

    model: keras.Model
    points: tuple[Point, ...]


def fold(model: keras.Model) -> Folded:
    """Return the network that an int8 file of `model` computes.

    Args:
        model: flat and functional, one image in, one tensor of scores out.

    Raises:
        UsageError: a layer has no int8 form, or the model is not flat; the layer is named.
    """
    return _Folding(model).run()


class _Folding:
    """One pass over the calls of a model, in which the folded network is made."""

    def __init__(self, model: keras.Model) -> None:
        self._source = model
        self._calls = read_calls(model)
        self._users: dict[int, list[Call]] = {}
        for call in self._calls:
            for tensor in call.inputs:
                self._users.setdefault(id(tensor), []).append(call)
        self._made: dict[int, Any] = {}  # tensor of the source, by id -> tensor of the folded network
        self._makers: dict[int, Any] = {}  # tensor of the folded network, by id -> layer
        self._weights: dict[str, list[np.ndarray]] = {}
        self._parents: dict[str, str] = {}  # a forest of layers: those of one tree share a range
        self._sharing: set[str] = set()  # layers that keep the range of what they are given
        self._fused: set[str] = set()
        self._fixed: dict[str, tuple[float, float]] = {}
        self._steps: dict[type, Callable[[Call, Any], Any]] = {
            **dict.fromkeys(_CONVOLUTIONS, self._convolution),
            **dict.fromkeys(_ARITHMETIC, self._arithmetic),
            **dict.fromkeys(_SAME_RANGE, self._same_range),
            **dict.fromkeys(_RESIZES, self._resize),
            layers.AveragePooling2D: self._pooling,
            layers.Activation: self._activation,
            layers.BatchNormalization: self._affine,
            layers.GlobalAveragePooling2D: self._own_range,
            layers.LeakyReLU: self._own_range,
            layers.MaxPooling2D: self._pooling,
            layers.Normalization: self._affine,
            layers.ReLU: self._relu,
            layers.Rescaling: self._affine,
            layers.SeparableConv2D: self._separable,
            layers.Softmax: self._softmax,
        }

    def run(self) -> Folded:
        """Make the network."""
        source = self._source.inputs[0]
        image = keras.Input(batch_shape=source.shape, dtype=source.dtype, name=source.name)
        self._made[id(source)] = image
        self._makers[id(image)] = image._keras_history.operation
        self._parents[self._maker(image)] = self._maker(image)
        for call in self._calls:
            if id(call.output) in self._made:
                continue  # folded into an earlier layer
            step = self._steps.get(type(call.layer))
            if getattr(call.layer, "data_format", "channels_last") == "channels_first":
                raise _refusal(call.layer, "data_format channels_first", "build it for channels last, (H, W, C)")
            if step is None:
                raise _refusal(call.layer)
            self._made[id(call.output)] = step(call, self._made[id(call.inputs[0])])
        folded = keras.Model(image, self._made[id(self._source.outputs[0])], name=self._source.name)
        for name, values in self._weights.items():
            folded.get_layer(name).set_weights(values)
        return Folded(folded, self._points())

    # Layers with kernels

    def _convolution(self, call: Call, x: Any) -> Any:
        layer = call.layer
        if getattr(layer, "groups", 1) != 1:
            raise UsageError(
                f"layer {layer.name} convolves in groups, which has no int8 form",
                found=f"groups {layer.groups}",
                fix="use groups=1, or a DepthwiseConv2D and a 1x1 convolution; export_tflite without training takes it",
            )
        _check_multiplier(layer)
        if isinstance(layer, layers.Conv2DTranspose) and layer.dilation_rate not in (1, (1, 1)):
            raise _refusal(layer, f"dilation_rate {layer.dilation_rate}", "use no dilation there")
        kernel, *bias = layer.get_weights()
        return self._normed(call, copy_layer(layer, activation=None, use_bias=True), x, kernel, bias)

    def _separable(self, call: Call, x: Any) -> Any:
        """Return the depthwise and the pointwise convolution that a separable one is."""
        layer = call.layer
        _check_multiplier(layer)
        depthwise, pointwise, *bias = layer.get_weights()
        first = layers.DepthwiseConv2D(
            layer.kernel_size,
            strides=layer.strides,
            padding=layer.padding,
            dilation_rate=layer.dilation_rate,
            name=f"{layer.name}_depthwise",
        )
        self._weights[first.name] = [depthwise, np.zeros(depthwise.shape[2] * depthwise.shape[3], np.float32)]
        x = self._call(first, [x])
        return self._normed(call, layers.Conv2D(layer.filters, 1, name=layer.name), x, pointwise, bias)

    def _normed(self, call: Call, layer: Any, x: Any, kernel: np.ndarray, bias: list[np.ndarray]) -> Any:
        """Return a convolution with its activation, and the BatchNormalization folded in that alone uses its output."""
        shape = kernel.shape
        channels = {layers.DepthwiseConv2D: shape[2:], layers.Conv2DTranspose: (shape[-2], 1)}.get(
            type(layer), shape[-1:]
        )
        offset = bias[0] if bias else np.zeros(int(np.prod(channels)), np.float32)
        x = self._call(layer, [x])
        users = self._users.get(id(call.output), [])
        after = users[0] if len(users) == 1 and call.output is not self._source.outputs[0] else None
        if after and type(after.layer) is layers.BatchNormalization and _kind(call.layer) == "linear":
            scale, shift = _scale_and_shift(after.layer, len(offset))
            kernel, offset = kernel * scale.reshape(channels), offset * scale + shift
            self._made[id(after.output)] = x
        self._weights[layer.name] = [kernel.astype(np.float32), offset.astype(np.float32)]
        kind = _kind(call.layer)
        return x if kind == "linear" else self._activate(f"{layer.name}_{kind}", kind, x, alone=True, of=layer.name)

    def _affine(self, call: Call, x: Any) -> Any:
        """Return what scales and shifts channels as a 1x1 depthwise convolution."""
        name = call.layer.name
        if len(x.shape) != 4:
            raise UsageError(
                f"layer {name} scales what is not a map, which has no int8 form",
                expected="(N, H, W, C)",
                found=x.shape,
                fix="put it directly behind a dense layer, with which it is folded",
            )
        return self._scaled(name, x, *_scale_and_shift(call.layer, x.shape[-1]))

    def _scaled(self, name: str, x: Any, scale: np.ndarray, shift: np.ndarray) -> Any:
        """Return scale * x + shift, channel by channel, (C,) each."""
        self._weights[name] = [scale.reshape(1, 1, -1, 1).astype(np.float32), shift.astype(np.float32)]
        return self._call(layers.DepthwiseConv2D(1, name=name), [x])

    # Layers without

    def _own_range(self, call: Call, x: Any) -> Any:
        return self._call(copy_layer(call.layer), [self._made[id(tensor)] for tensor in call.inputs])

    def _arithmetic(self, call: Call, x: Any) -> Any:
        """Return a sum, product or difference; of more than two tensors, as one of two after the other."""
        tensors = [self._made[id(tensor)] for tensor in call.inputs]
        for number, tensor in enumerate(tensors[1:-1], start=1):
            x = self._call(type(call.layer)(name=f"{call.layer.name}_{number}"), [x, tensor])
        return self._call(copy_layer(call.layer), [x, tensors[-1]])

    def _pooling(self, call: Call, x: Any) -> Any:
        """Return a mean as a depthwise convolution with equal weights that stay, and so a maximum of single pixels.

        XNNPACK takes neither as they are, and the kernel in its place rounds by the levels' signs. Means over an edge
        count fewer pixels there, so those stay.
        """
        layer = call.layer
        height, width = layer.pool_size
        single = height == width == 1
        mean = isinstance(layer, layers.AveragePooling2D) and layer.padding == "valid"
        if not (single or mean) or layer.strides[0] != layer.strides[1]:
            return self._same_range(call, x)
        channels = x.shape[-1]
        kernel = np.full((height, width, channels, 1), 1 / (height * width), np.float32)
        self._weights[layer.name] = [kernel, np.zeros(channels, np.float32)]
        depthwise = layers.DepthwiseConv2D((height, width), strides=layer.strides, name=layer.name, trainable=False)
        return self._call(depthwise, [x], shares=True)

    def _same_range(self, call: Call, x: Any) -> Any:
        return self._call(copy_layer(call.layer), [self._made[id(tensor)] for tensor in call.inputs], shares=True)

    def _resize(self, call: Call, x: Any) -> Any:
        if call.layer.interpolation not in ("bilinear", "nearest"):
            raise _refusal(call.layer, f"interpolation {call.layer.interpolation}", "use bilinear or nearest")
        if getattr(call.layer, "antialias", False):
            raise _refusal(call.layer, "antialias", "resize without antialias")
        if call.layer.interpolation == "bilinear" and not _whole_factors(x.shape, call.output.shape, call.layer):
            raise _refusal(
                call.layer, f"{x.shape[1:3]} to {call.output.shape[1:3]} px", "resize by a whole factor, such as 2"
            )
        return self._same_range(call, x)

    def _softmax(self, call: Call, x: Any) -> Any:
        if call.layer.axis not in (-1, len(x.shape) - 1):
            raise _refusal(call.layer, f"axis {call.layer.axis}", "take the softmax over the channels")
        return self._call(copy_layer(call.layer), [x], fixed=SIGMOID)

    def _activation(self, call: Call, x: Any) -> Any:
        return self._activate(call.layer.name, _kind(call.layer), x, alone=self._used_once(call.inputs[0]))

    def _relu(self, call: Call, x: Any) -> Any:
        layer, alone = call.layer, self._used_once(call.inputs[0])
        if layer.threshold or layer.max_value not in (None, 6.0):
            raise _refusal(layer, f"max_value {layer.max_value}, threshold {layer.threshold}", "use ReLU or ReLU6")
        if layer.negative_slope:
            return self._call(layers.LeakyReLU(layer.negative_slope, name=layer.name), [x])
        return self._rectify(layers.ReLU(layer.max_value, name=layer.name), x, alone)

    def _rectify(self, relu: Any, x: Any, alone: bool) -> Any:
        """Return a ReLU: fused with the kernel before it if it `alone` uses its output, else of the same scale."""
        maker = self._makers[id(x)]
        fuses = alone and isinstance(maker, (*_CONVOLUTIONS, *_ARITHMETIC))
        if fuses:
            self._fused.add(maker.name)
        return self._call(relu, [x], shares=not fuses)

    def _activate(self, name: str, kind: str, x: Any, *, alone: bool, of: str | None = None) -> Any:
        """Return an activation function, by a layer of this name; `of` names the one that has it, if another."""
        if kind == "linear":
            return self._call(layers.Identity(name=name), [x], shares=True)
        if kind in ("relu", "relu6"):
            return self._rectify(layers.ReLU(6.0 if kind == "relu6" else None, name=name), x, alone)
        if kind in _FUNCTIONS:
            return self._call(layers.Activation(kind, name=name), [x], fixed=_FUNCTIONS[kind])
        if kind in ("silu", "swish"):
            gate = self._call(layers.Activation("sigmoid", name=f"{name}_gate"), [x], fixed=SIGMOID)
            return self._call(layers.Multiply(name=name), [x, gate])
        if kind == "leaky_relu":
            return self._call(layers.LeakyReLU(_LEAK, name=name), [x])
        if kind in _HARD and len(x.shape) == 4:
            return self._hard(name, x, gates=kind != "hard_sigmoid")
        raise UsageError(
            f"layer {of or name} has an activation without an int8 form",
            expected="relu, relu6, leaky_relu, sigmoid, hard_sigmoid, tanh, softmax, silu or hard_silu",
            found=kind,
            fix=f"use one of those; {_UNTRAINED}",
        )

    def _hard(self, name: str, x: Any, *, gates: bool) -> Any:
        """Return ReLU6(x + 3) / 6, or x times that, as MobileNetV3 has it (Howard 2019, section 5.2)."""
        gate = self._scaled(f"{name}_shift", x, np.ones(x.shape[-1]), np.full(x.shape[-1], 3.0))
        gate = self._rectify(layers.ReLU(6.0, name=f"{name}_relu6"), gate, alone=True)
        last = f"{name}_gate" if gates else name
        gate = self._scaled(last, gate, np.full(x.shape[-1], 1 / 6), np.zeros(x.shape[-1]))
        return self._call(layers.Multiply(name=name), [x, gate]) if gates else gate

    def _used_once(self, tensor: Any) -> bool:
        return len(self._users.get(id(tensor), [])) == 1 and tensor is not self._source.outputs[0]

    # Names and ranges

    def _call(
        self, layer: Any, inputs: Sequence[Any], *, shares: bool = False, fixed: tuple[float, float] | None = None
    ) -> Any:
        """Call a layer, and note whether its output has the range of its inputs, or a fixed one."""
        if layer.name in self._parents:
            raise UsageError(f"the name of layer {layer.name} is taken", fix="give the layers other names")
        out = layer(inputs[0] if len(inputs) == 1 and not isinstance(layer, layers.Concatenate) else list(inputs))
        self._makers[id(out)] = layer
        self._parents[layer.name] = layer.name
        if fixed is not None:
            self._fixed[layer.name] = fixed
        if shares:
            self._sharing.add(layer.name)
        for tensor in inputs if shares else ():
            self._parents[self._root(layer.name)] = self._root(self._maker(tensor))
        return out

    def _maker(self, tensor: Any) -> str:
        return str(self._makers[id(tensor)].name)

    def _root(self, name: str) -> str:
        while self._parents[name] != name:
            name = self._parents[name]
        return name

    def _points(self) -> tuple[Point, ...]:
        groups: dict[str, list[str]] = {}
        for name in self._parents:
            if name not in self._fused:
                groups.setdefault(self._root(name), []).append(name)
        return tuple(Point(names[0], tuple(names), self._fixed_range(names)) for names in groups.values())

    def _fixed_range(self, names: list[str]) -> tuple[float, float] | None:
        """Return the range that a group must have."""
        ranges = {self._fixed[name] for name in names if name in self._fixed}
        if not ranges:
            return None
        if len(ranges) > 1 or any(name not in self._fixed and name not in self._sharing for name in names):
            raise UsageError(
                f"layers {', '.join(names[:4])} must share one int8 range and cannot",
                expected="outputs of sigmoid, softmax or tanh joined with nothing else",
                fix="put a convolution between them",
            )
        return ranges.pop()


def _kind(layer: Any) -> str:
    """Return the name of a layer's activation function, where that is one of Keras or TensorFlow.

    A function of the user's own may have the name of one of theirs, and compute something else.
    """
    activation = layer.activation
    if activation is None:
        return "linear"
    name = str(getattr(activation, "__name__", None) or type(activation).__name__)
    home = str(getattr(activation, "__module__", "")).partition(".")[0]
    return name if home in ("keras", "tensorflow") else f"{name}, a function of {home or 'its own'}"


def _scale_and_shift(layer: Any, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the (C,) float64 with which the layer's output is scale * x + shift at inference."""
    if isinstance(layer, layers.BatchNormalization):
        if layer.axis not in (-1, layer.input_spec.ndim - 1 if layer.input_spec.ndim else -1):
            raise _refusal(layer, f"axis {layer.axis}", "normalise the channels: axis -1")
        mean, variance = (np.asarray(v, np.float64) for v in (layer.moving_mean, layer.moving_variance))
        scale = 1 / np.sqrt(variance + layer.epsilon)
        scale = scale * np.asarray(layer.gamma, np.float64) if layer.scale else scale
        return scale, (np.asarray(layer.beta, np.float64) if layer.center else 0.0) - mean * scale
    if isinstance(layer, layers.Rescaling):
        parts = (np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64))
    else:
        mean, spread = np.asarray(layer.mean, np.float64), np.sqrt(np.asarray(layer.variance, np.float64))
        spread = np.maximum(spread, keras.config.epsilon())
        parts = (spread, mean) if layer.invert else (1 / spread, -mean / spread)
    for part in parts:
        if part.size not in (1, channels) or part.shape[-1:] not in ((), (part.size,)):
            raise _refusal(layer, f"values of shape {part.shape}", "scale channels alone: one number, or one a channel")
    scale, shift = (np.broadcast_to(part.ravel(), channels).copy() for part in parts)
    return scale, shift


def _whole_factors(before: Any, after: Any, layer: Any) -> bool:
    """Return whether each side grows by a whole factor, so that bilinear means are exact fractions."""
    if isinstance(layer, layers.UpSampling2D):
        return True
    sides = zip(before[1:3], after[1:3], strict=True)
    return all(old and new and new % old == 0 for old, new in sides)


def _check_multiplier(layer: Any) -> None:
    if getattr(layer, "depth_multiplier", 1) != 1:
        raise _refusal(layer, f"depth_multiplier {layer.depth_multiplier}", "put a 1x1 convolution before it")


def _refusal(layer: Any, found: str | None = None, fix: str | None = None) -> UsageError:
    return UsageError(
        f"layer {layer.name} ({type(layer).__name__}) has no int8 form",
        found=found,
        fix=fix
        or "use convolutions, BatchNormalization, ReLU, Add, Concatenate, pooling and upsampling by 2; or "
        "ku.export it, which quantizes without training",
    )
