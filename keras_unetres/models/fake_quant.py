"""Keras layers that compute in float what an int8 file computes in integers: fake quantization (Jacob 2018, section 3).

A tensor that is int8 in the file is rounded to its 256 levels here, with the gradient of the identity inside its range.
Kernels have a scale for every output channel and no zero point, activations one scale and zero point a tensor: the
rules of LiteRT's int8 kernels. The converter takes the ranges from these layers and needs no calibration. Nothing here
chooses a range or decides where a layer belongs; `keras_unetres.quantization` does.

At inference the output equals that of the file, not only nearly: each layer sums integers, as the int8 kernels do, and
rescales the sum to the step of its output with the rounding of XNNPACK. float32 holds sums of int8 products exactly, up
to 2**24. Sums of fractions would be off in the last bits. Where a value lies halfway between two levels those bits
decide which way it is rounded, and later layers amplify the difference. Source: XNNPACK, src/microparams-init.c
(`qs8_qc8w_conv_minmax_fp32`, `qs8_add_minmax`, `qs8_mul_minmax_fp32`, `qs8_lrelu`); the tests compare with the files.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from keras.quantizers import fake_quant_with_min_max_vars

LEVELS = 256
# Added to means that may lie halfway between two levels, to round those up. In levels: more than the rounding error of
# float32, and less than 1/4096, the finest step of bilinear means (weights of 1/64 along each axis, at a factor of 32).
_TIE = 2**-13
_CONVERTING: ContextVar[bool] = ContextVar("converting", default=False)
_KERNEL_LEVELS = 127  # on either side of 0
_LEAST_KERNEL = 1e-12  # largest magnitude of a channel of zeros, whose scale must not be 0
_ROUNDS_TO_ZERO = 0.25  # of a step of a bias
# Largest bias in its own steps: int32 in the file, and float32 here, which holds whole numbers up to 2**24. The kernel
# of a channel whose bias is this many times its own rounding error has nothing to tell beside it.
_MOST_BIAS = 2**23


def is_quantization_aware(model: keras.Model) -> bool:
    """Return whether the model has layers of this module, and so the ranges of its int8 file."""
    return any(getattr(layer, "fake_quantizes", False) for layer in model.layers)


@contextlib.contextmanager
def as_converted() -> Iterator[None]:
    """Trace models for the converter while this is open: plain fake quantization, without integer arithmetic."""
    token = _CONVERTING.set(True)
    try:
        yield
    finally:
        _CONVERTING.reset(token)


def int8_range(low: float, high: float) -> tuple[float, float]:
    """Return the smallest range around [low, high] whose 256 levels hold 0 exactly, as int8 demands.

    Neither end is cut off, as would happen if the zero point of a given scale were rounded.

    Args:
        low, high: smallest and largest value; the range is extended to 0 if it is outside of them.
    """
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    if high - low < np.finfo(np.float32).tiny * 2**24:
        return 0.0, 1.0  # all zeros: any scale does
    ideal = -low / (high - low) * (LEVELS - 1)
    best = math.inf
    below = 0
    for candidate in {math.floor(ideal), math.ceil(ideal)}:  # levels below zero
        if (low < 0 and candidate == 0) or (high > 0 and candidate == LEVELS - 1):
            continue
        scale = max(-low / candidate if candidate else 0.0, high / (LEVELS - 1 - candidate) if high > 0 else 0.0)
        if scale < best:
            best, below = scale, candidate
    return -below * best, (LEVELS - 1 - below) * best


@keras.saving.register_keras_serializable(package="keras_unetres")
class FakeQuant(layers.Layer):
    """Rounds a tensor to the 256 levels of an int8 tensor that holds [low, high].

    The range is a pair of weights that training does not change; `set_range` does. One layer may be called on several
    tensors, which then share one scale.

    Args:
        low, high: the initial range.
        seen: least and largest value of the images that calibrated it, where it rounds those; None where that is not
            known. The range is wider where features share it.
    """

    fake_quantizes = True

    def __init__(
        self,
        low: float = -1.0,
        high: float = 1.0,
        name: str | None = None,
        dtype: Any = None,
        seen: Sequence[float] | None = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype, trainable=False)
        self._begin = (float(low), float(high))
        self.seen = None if seen is None else (float(seen[0]), float(seen[1]))

    def build(self, input_shape: Any) -> None:
        """Make the two weights."""
        low, high = (keras.initializers.Constant(value) for value in int8_range(*self._begin))
        self.low = self.add_weight(shape=(), initializer=low, trainable=False, name="low", dtype="float32")
        self.high = self.add_weight(shape=(), initializer=high, trainable=False, name="high", dtype="float32")

    def set_range(self, low: float, high: float) -> None:
        """Set the range to the smallest one around [low, high] that int8 can have."""
        low, high = int8_range(low, high)
        self.low.assign(low)
        self.high.assign(high)

    @property
    def step(self) -> float:
        """The difference between two levels."""
        return float((np.asarray(self.high, np.float64) - np.asarray(self.low, np.float64)) / (LEVELS - 1))

    @property
    def zero_point(self) -> int:
        """The level, from -128 to 127, that is 0."""
        return round(-float(np.asarray(self.low)) / self.step) - LEVELS // 2

    def call(self, x: Any, ties_up: bool = False) -> Any:
        """Round to the nearest level, with the gradient of the identity inside the range.

        Args:
            ties_up: x is a mean of neighbouring levels, often halfway between two. Round those up, as the int8 kernel
                does; float rounding may take either.
        """
        if ties_up and not _CONVERTING.get():
            x = x + (self.high - self.low) / (LEVELS - 1) * _TIE
        return fake_quant_with_min_max_vars(x, self.low, self.high, num_bits=8)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape as it is."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds it; the range is a weight."""
        seen = {} if self.seen is None else {"seen": list(self.seen)}
        return {**super().get_config(), "low": self._begin[0], "high": self._begin[1], **seen}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FakeQuant:
        """Rebuild."""
        return cls(**{name: config[name] for name in ("low", "high", "name", "dtype")}, seen=config.get("seen"))


class _QuantizedKernel(layers.Layer):
    """A layer whose kernel and bias are rounded before use: the kernel to 255 levels about 0, the bias to 32 bits.

    The step of the bias is that of the input times that of the kernel. To round as the file does, the layer also needs
    the step of its output. `set_steps` sets both.

    Args:
        keep_zeros: weights that are 0 when `freeze_zeros` is called stay 0.
    """

    fake_quantizes = True
    channel_axis: int | None = -1  # of the kernel; None for one scale for all

    def __init__(self, *, keep_zeros: bool = False, **config: Any) -> None:
        super().__init__(**config)
        self.keep_zeros = keep_zeros

    def build(self, input_shape: Any) -> None:
        """Make the weights of the layer, and the mask of those that stay 0."""
        super().build(input_shape)
        self.input_step, self.output_step = (
            self.add_weight(shape=(), initializer="zeros", trainable=False, name=f"{end}_step")
            for end in ("input", "output")
        )
        if self.keep_zeros:
            shape = tuple(self.kernel.shape)
            self.kept = self.add_weight(shape=shape, initializer="ones", trainable=False, name="kept")

    def save_own_variables(self, store: Any) -> None:
        """Store all weights; the layers it derives from know of kernel and bias only."""
        layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Any) -> None:
        """Load all weights."""
        layers.Layer.load_own_variables(self, store)

    def set_steps(self, inputs: Sequence[float], output: float, zero_point: int) -> None:
        """Set the difference between two levels of the input and of the output; 0, as at first, for not known."""
        self.input_step.assign(inputs[0])
        self.output_step.assign(output)

    def freeze_zeros(self) -> None:
        """Keep the weights at 0 that are 0 now."""
        if self.keep_zeros:
            self.kept.assign((np.asarray(self.kernel) != 0).astype(np.float32))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Apply the rounded kernel, and add the bias."""
        kernel, bias, step = self.rounded(self.kernel)
        if training or _CONVERTING.get():
            return ops.add(self.multiply(inputs, kernel), self.traced(bias, step) if _CONVERTING.get() else bias)
        known = ops.logical_and(self.input_step > 0, self.output_step > 0)
        input_step, output_step = (ops.where(known, each, 1.0) for each in (self.input_step, self.output_step))
        whole = self.multiply(_to_whole(inputs / input_step, known), _to_whole(kernel / self.by_kernel(step), known))
        scale = input_step * step
        whole = whole + _to_whole(bias / scale, known)
        level = ops.round(ops.round(whole) * (scale / output_step))  # compilers leave sums a little off whole numbers
        return _as_rounded(whole * scale, level * output_step, known)

    def multiply(self, inputs: Any, kernel: Any) -> Any:
        """Return the sums of products, without bias."""
        raise NotImplementedError

    def traced(self, bias: Any, step: Any) -> Any:
        """Return the rounded bias as the converter has to see it, given the step of the kernel."""
        return bias

    def by_kernel(self, values: Any) -> Any:
        """Return values of channels in a shape that goes with the kernel."""
        return values

    def rounded(self, kernel: Any) -> tuple[Any, Any, Any]:
        """Return kernel and bias as the file will hold them, and the step of the kernel or of each of its channels."""
        if self.keep_zeros:
            kernel = ops.multiply(kernel, self.kept)
        rank = len(kernel.shape)
        axis = None if self.channel_axis is None else self.channel_axis % rank
        axes = None if axis is None else [a for a in range(rank) if a != axis]
        most = ops.maximum(ops.max(ops.abs(kernel), axis=axes), self._least_for_bias(axis))
        most = ops.stop_gradient(ops.maximum(most, _LEAST_KERNEL))
        step = most / (_KERNEL_LEVELS if _CONVERTING.get() else _hidden(_KERNEL_LEVELS, self.input_step))
        bias = _round_to(self.bias, self.input_step * step)
        return fake_quant_with_min_max_vars(kernel, -most, most, num_bits=8, narrow_range=True, axis=axis), bias, step

    def _least_for_bias(self, axis: int | None) -> Any:
        """Return the magnitude a kernel must at least be scaled for, so that its bias fits its steps; 0 if not known.

        A filter that died in training has a kernel of nearly nothing and a bias from the BatchNormalization behind it.
        """
        known = self.input_step > 0
        per_step = ops.where(known, _KERNEL_LEVELS / _MOST_BIAS / ops.where(known, self.input_step, 1.0), 0.0)
        bias = ops.abs(self.bias)
        return (ops.max(bias) if axis is None else bias) * per_step

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds it."""
        return {**super().get_config(), "keep_zeros": self.keep_zeros}


@keras.saving.register_keras_serializable(package="keras_unetres")
class QuantizedConv2D(_QuantizedKernel, layers.Conv2D):
    """A convolution with an int8 kernel, a scale for each output channel."""

    def multiply(self, inputs: Any, kernel: Any) -> Any:
        """Convolve."""
        return self.convolution_op(inputs, kernel)


@keras.saving.register_keras_serializable(package="keras_unetres")
class QuantizedDepthwiseConv2D(_QuantizedKernel, layers.DepthwiseConv2D):
    """A depthwise convolution with an int8 kernel, a scale for each channel."""

    channel_axis = 2

    def multiply(self, inputs: Any, kernel: Any) -> Any:
        """Convolve each channel."""
        return ops.depthwise_conv(
            inputs, kernel, strides=self.strides, padding=self.padding, dilation_rate=self.dilation_rate
        )

    def by_kernel(self, values: Any) -> Any:
        """Return (C,) as (C, 1): the last axis of the kernel is 1."""
        return ops.expand_dims(values, -1)


@keras.saving.register_keras_serializable(package="keras_unetres")
class QuantizedConv2DTranspose(_QuantizedKernel, layers.Conv2DTranspose):
    """A transposed convolution with an int8 kernel and one scale: the converter refuses one for each channel here."""

    channel_axis = None

    def multiply(self, inputs: Any, kernel: Any) -> Any:
        """Convolve."""
        return ops.conv_transpose(
            inputs,
            kernel,
            strides=list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
        )

    def traced(self, bias: Any, step: Any) -> Any:
        """Return the bias, and where all is 0 what the file rounds to 0.

        A sum with zeros is dropped before the converter sees it, which then does not fuse the ReLU behind it.
        """
        return ops.where(ops.any(bias != 0), bias, _ROUNDS_TO_ZERO * self.input_step * step)


@keras.saving.register_keras_serializable(package="keras_unetres")
class QuantizedDense(_QuantizedKernel, layers.Dense):
    """A dense layer with an int8 kernel and one scale, for the same reason."""

    channel_axis = None

    def multiply(self, inputs: Any, kernel: Any) -> Any:
        """Multiply."""
        return ops.matmul(inputs, kernel)


class _Requantized(layers.Layer):
    """A layer without kernel whose int8 inputs and output have steps of their own, which `set_steps` sets."""

    fake_quantizes = True

    def build(self, input_shape: Any) -> None:
        """Make the weights: the steps of the inputs and of the output."""
        super().build(input_shape)
        count = len(input_shape) if isinstance(input_shape[0], (list, tuple)) else 1
        self.steps = self.add_weight(shape=(count + 1,), initializer="zeros", trainable=False, name="steps")

    def set_steps(self, inputs: Sequence[float], output: float, zero_point: int) -> None:
        """Set the difference between two levels of each input and of the output; 0, as at first, for not known."""
        self.steps.assign([*inputs, output])

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Compute in float, and at inference bring the answer to the levels of the output."""
        answer = super().call(inputs)
        if training or _CONVERTING.get():
            return answer
        known = ops.min(self.steps) > 0
        *input_steps, output_step = ops.unstack(ops.where(known, self.steps, 1.0))
        tensors = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        levels = [ops.round(tensor / step) for tensor, step in zip(tensors, input_steps, strict=True)]
        return _as_rounded(answer, self.levels(levels, input_steps, output_step) * output_step, known)

    def levels(self, levels: list[Any], input_steps: list[Any], output_step: Any) -> Any:
        """Return the levels of the output, from those of the inputs and the steps of all."""
        raise NotImplementedError


class _QuantizedSum(_Requantized):
    """A sum of two int8 tensors with the arithmetic of XNNPACK: factors of 21 bits, one shift, halves rounded up.

    It holds where the step of each input is 2**-10 to 2**8 times that of the output.
    """

    signs = (1, 1)

    def levels(self, levels: list[Any], input_steps: list[Any], output_step: Any) -> Any:
        """Return the levels of the sum, by whole numbers of 32 bits."""
        ratios = [step / output_step for step in input_steps]
        largest = ops.maximum(*ratios)
        bits = 20 - ops.floor(ops.log2(largest))
        bits = ops.where(largest * 2**bits >= 2**21, bits - 1, ops.where(largest * 2**bits < 2**20, bits + 1, bits))
        shift = ops.cast(bits, "int32")
        total = ops.left_shift(ops.ones_like(shift), shift - 1)
        for sign, ratio, level in zip(self.signs, ratios, levels, strict=True):
            factor = ops.cast(ops.round(ratio * 2**bits), "int32")
            total = total + sign * factor * ops.cast(level, "int32")
        return ops.cast(ops.right_shift(total, shift), output_step.dtype)


@keras.saving.register_keras_serializable(package="keras_unetres")
class QuantizedAdd(_QuantizedSum, layers.Add):
    """A sum of two int8 tensors."""


@keras.saving.register_keras_serializable(package="keras_unetres")
class QuantizedSubtract(_QuantizedSum, layers.Subtract):
    """A difference of two int8 tensors."""

    signs = (1, -1)


@keras.saving.register_keras_serializable(package="keras_unetres")
class QuantizedLeakyReLU(_Requantized, layers.LeakyReLU):
    """A leaky ReLU of an int8 tensor by two factors of 8 fractional bits, as in XNNPACK; halves round up."""

    def levels(self, levels: list[Any], input_steps: list[Any], output_step: Any) -> Any:
        """Return the levels of the output."""
        (level,) = levels
        ratio = input_steps[0] / output_step
        above, below = ops.round(256 * ratio), ops.round(256 * ratio * self.negative_slope)
        return ops.floor((level * ops.where(level > 0, above, below) + 128) / 256)


@keras.saving.register_keras_serializable(package="keras_unetres")
class QuantizedMultiply(_Requantized, layers.Multiply):
    """A product of two int8 tensors."""

    def levels(self, levels: list[Any], input_steps: list[Any], output_step: Any) -> Any:
        """Return the levels of the product."""
        return ops.round(levels[0] * levels[1] * (input_steps[0] * input_steps[1] / output_step))


@keras.saving.register_keras_serializable(package="keras_unetres")
class QuantizedGlobalAveragePooling2D(_Requantized, layers.GlobalAveragePooling2D):
    """The mean of each channel of an int8 map."""

    def levels(self, levels: list[Any], input_steps: list[Any], output_step: Any) -> Any:
        """Return the levels of the mean."""
        (map_,) = levels
        _, height, width, _ = ops.shape(map_)
        pixels = _hidden(ops.cast(height * width, map_.dtype), self.steps[0])
        return ops.round(ops.sum(map_, axis=(1, 2), keepdims=self.keepdims) * (input_steps[0] / output_step / pixels))


@keras.saving.register_keras_serializable(package="keras_unetres")
class QuantizedAveragePooling2D(_Requantized, layers.AveragePooling2D):
    """Means of windows of an int8 map, by LiteRT's own kernel, as XNNPACK has none: halves round away from 0."""

    def build(self, input_shape: Any) -> None:
        """Make the weights: the steps, and the level that is 0."""
        super().build(input_shape)
        self.zero_point = self.add_weight(shape=(), initializer="zeros", trainable=False, name="zero_point")

    def set_steps(self, inputs: Sequence[float], output: float, zero_point: int) -> None:
        """Set the steps, and the level of the input that is 0."""
        super().set_steps(inputs, output, zero_point)
        self.zero_point.assign(zero_point)

    def levels(self, levels: list[Any], input_steps: list[Any], output_step: Any) -> Any:
        """Return the levels of the means."""
        mean = ops.average_pool(levels[0], self.pool_size, self.strides, self.padding) + self.zero_point
        return ops.sign(mean) * ops.floor(ops.abs(mean) + 0.5 + _TIE) - self.zero_point


def _hidden(divisor: Any, step: Any) -> Any:
    """Return a divisor that is no constant to a compiler, which would multiply by the reciprocal and round differently.

    Args:
        step: a weight that is 0 or more.
    """
    return ops.where(step >= 0, divisor, 0.0)


def _to_whole(values: Any, known: Any) -> Any:
    """Return values without their float error, as the whole numbers they are, with the gradient of the identity."""
    return values + ops.stop_gradient(ops.where(known, ops.round(values) - values, 0.0))


def _as_rounded(answer: Any, rounded: Any, known: Any) -> Any:
    """Return `rounded` where the steps are known, with the gradient of `answer`."""
    return answer + ops.stop_gradient(ops.where(known, rounded - answer, 0.0))


def _round_to(values: Any, step: Any) -> Any:
    """Return values as multiples of a step, with the gradient of the identity; as they are where the step is 0."""
    safe = ops.where(ops.equal(step, 0), 1.0, step)
    rounded = ops.where(ops.equal(step, 0), values, ops.round(values / safe) * safe)
    return values + ops.stop_gradient(rounded - values)


KERNELS = (QuantizedConv2D, QuantizedConv2DTranspose, QuantizedDense, QuantizedDepthwiseConv2D)
QUANTIZED: dict[type[layers.Layer], type[layers.Layer]] = {
    layers.Add: QuantizedAdd,
    layers.AveragePooling2D: QuantizedAveragePooling2D,
    layers.Conv2D: QuantizedConv2D,
    layers.Conv2DTranspose: QuantizedConv2DTranspose,
    layers.Dense: QuantizedDense,
    layers.DepthwiseConv2D: QuantizedDepthwiseConv2D,
    layers.GlobalAveragePooling2D: QuantizedGlobalAveragePooling2D,
    layers.LeakyReLU: QuantizedLeakyReLU,
    layers.Multiply: QuantizedMultiply,
    layers.Subtract: QuantizedSubtract,
}
