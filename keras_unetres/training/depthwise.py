"""Gradients of depthwise convolutions in bfloat16: in float32 where oneDNN has no kernel of its own for them on a CPU.

That is so of the gradient of kernels wider than 3 x 3, and of that of the input where it is strided: those take up to
thirty times as long as in float32 (`benchmarks/training.py --encoder efficientnet_lite0` has whole steps).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

_WIDEST = 3  # px of a kernel whose gradient has a kernel of its own


def widen_depthwise(model: keras.Model) -> int:
    """Have the depthwise convolutions of this model object compute slow gradients in float32; return how many do.

    Weights, configuration and outputs stay as they are, and so does a layer that is fast already or of another form:
    not in bfloat16, dilated, with several channels out of one, or of anything but (N, H, W, C).
    """
    layers = [layer for layer in model._flatten_layers() if _is_slow(layer)]
    for layer in layers:
        layer.call = _widened(layer, layer.call)
    return len(layers)


def _is_slow(layer: keras.Layer) -> bool:
    if type(layer) is not keras.layers.DepthwiseConv2D or layer.compute_dtype != "bfloat16":
        return False
    if layer.depth_multiplier != 1 or max(layer.dilation_rate) > 1 or layer.data_format != "channels_last":
        return False
    return max(layer.kernel_size) > _WIDEST or max(layer.strides) > 1


def _widened(layer: keras.layers.DepthwiseConv2D, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a layer's `call` with a gradient of its own."""
    strides, padding = [1, *layer.strides, 1], layer.padding.upper()
    wide_kernel, wide_input = max(layer.kernel_size) > _WIDEST, max(layer.strides) > 1

    @tf.custom_gradient
    def convolve(images: Any, kernel: Any) -> tuple[Any, Callable[..., Any]]:
        def gradients(upstream: Any) -> tuple[Any, Any]:
            to_input = tf.nn.depthwise_conv2d_backprop_input(
                tf.shape(images), *(_in_float32(wide_input, x) for x in (kernel, upstream)), strides, padding
            )
            wide = [_in_float32(wide_kernel, x) for x in (images, upstream)]
            to_kernel = tf.nn.depthwise_conv2d_backprop_filter(wide[0], kernel.shape, wide[1], strides, padding)
            return tf.cast(to_input, images.dtype), tf.cast(to_kernel, kernel.dtype)

        return tf.nn.depthwise_conv2d(images, kernel, strides, padding), gradients

    def widened(inputs: Any) -> Any:
        if isinstance(inputs, keras.KerasTensor):
            return call(inputs)
        outputs = convolve(inputs, tf.cast(layer.kernel.value, inputs.dtype))
        if layer.use_bias:
            outputs = outputs + tf.cast(layer.bias.value, outputs.dtype)
        return outputs if layer.activation is None else layer.activation(outputs)

    return widened


def _in_float32(wanted: bool, tensor: Any) -> Any:
    return tf.cast(tensor, tf.float32) if wanted else tensor
