"""How a folded network is quantized under tensorflow-model-optimization: its interfaces, with our rules.

Kernels are rounded to 255 levels, symmetric about 0, by their values at each step, and biases to 32 bits. Activations
are rounded to the 256 levels of the range of their point, which its tensors share: one scale, as the int8 kernels of
concatenation, pooling and resizing demand. The numbers are those of `keras_unetres.models.fake_quant`. Importing this
module imports tensorflow-model-optimization; only `engine` does so, and only when it is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ...models.fake_quant import int8_range
from .imports import load_tfmot

_tfmot = load_tfmot().quantization.keras
_LEAST_KERNEL = 1e-12  # largest magnitude of a channel of zeros, whose scale must not be 0


class SharedRange:
    """The range of a point, as two variables with one element for each of its tensors.

    In training, each tensor moves its own element towards the extremes of the batch, as tensorflow-model-optimization's
    moving average does; the range is the widest of all. So no tensor is cut off because another one is narrow.

    Args:
        name: name of the point.
        begin: the range to start from.
        tensors: number of tensors that share it.
        momentum: share of a range that stays at each step; 1 for a range that does not move.
    """

    def __init__(self, name: str, begin: tuple[float, float], tensors: int, momentum: float) -> None:
        self.name = name
        self.begin = int8_range(*begin)
        self.tensors = tensors
        self.momentum = momentum
        self.variables: dict[str, Any] = {}

    def build(self, layer: Any) -> dict[str, Any]:
        """Return the variables, made in the first layer that asks for them."""
        if not self.variables:
            for edge, value in zip(("low", "high"), self.begin, strict=True):
                self.variables[edge] = layer.add_weight(
                    name=f"{self.name}_{edge}",
                    shape=(self.tensors,),
                    initializer=tf.constant_initializer(value),
                    trainable=False,
                    aggregation=tf.VariableAggregation.MEAN,
                )
        return self.variables

    def observe(self, index: int, x: Any) -> None:
        """Move the element of one tensor."""
        if self.momentum == 1:
            return
        mask = tf.one_hot(index, self.tensors)
        extremes = {"low": tf.minimum(tf.reduce_min(x), 0.0), "high": tf.maximum(tf.reduce_max(x), 0.0)}
        for edge, extreme in extremes.items():
            variable = self.variables[edge]
            variable.assign_add((1 - self.momentum) * mask * (tf.stop_gradient(extreme) - variable))

    def limits(self) -> tuple[Any, Any]:
        """Return the range as two tensors."""
        return tf.reduce_min(self.variables["low"]), tf.reduce_max(self.variables["high"])


class KernelQuantizer(_tfmot.quantizers.Quantizer):  # type: ignore[name-defined]
    """Rounds a kernel to 255 levels, symmetric about 0.

    Args:
        axis: axis of the kernel along which each element has a scale of its own; None for one scale.
        kept: array of 0 and 1 of the kernel's shape; where it is 0, the weight stays 0. None for all 1.
    """

    def __init__(self, axis: int | None, kept: np.ndarray | None = None) -> None:
        self.axis, self.kept = axis, kept

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """Make no variables: the scales follow from the kernel."""
        return {}

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        kernel, most = self.masked(inputs), self.most(inputs)
        if self.axis is None:
            return tf.quantization.fake_quant_with_min_max_vars(kernel, -most, most, narrow_range=True)
        per_channel = tf.quantization.fake_quant_with_min_max_vars_per_channel  # of the last axis
        order = [*(each for each in range(len(kernel.shape)) if each != self.axis), self.axis]
        rounded = per_channel(tf.transpose(kernel, order), -most, most, narrow_range=True)
        return tf.transpose(rounded, np.argsort(order))

    def masked(self, kernel: Any) -> Any:
        """Return the kernel with its zeros."""
        kernel = tf.convert_to_tensor(kernel)
        return kernel if self.kept is None else kernel * tf.constant(self.kept, kernel.dtype)

    def most(self, kernel: Any) -> Any:
        """Return the largest magnitude along the axis, or of all."""
        axes = [each for each in range(len(kernel.shape)) if each != self.axis]
        return tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(self.masked(kernel)), axes), _LEAST_KERNEL))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"axis": self.axis, "kept": self.kept}


class BiasQuantizer(_tfmot.quantizers.Quantizer):  # type: ignore[name-defined]
    """Rounds a bias to the 32-bit levels of the sums that it is added to: the step of the input times the kernel's.

    Args:
        kernel: quantizer of the kernel.
        variable: the kernel.
        source: the range of the input: as that of a `RangeQuantizer`.
    """

    def __init__(self, kernel: KernelQuantizer, variable: Any, source: SharedRange | tuple[float, float]) -> None:
        self.kernel, self.variable, self.source = kernel, variable, source

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """Make no variables."""
        return {}

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        low, high = self.source.limits() if isinstance(self.source, SharedRange) else self.source
        most = self.kernel.most(self.variable)
        step = (high - low) / 255 * (most / 127)
        bias = tf.convert_to_tensor(inputs)
        return bias + tf.stop_gradient(tf.round(bias / step) * step - bias)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"kernel": self.kernel, "variable": self.variable, "source": self.source}


class RangeQuantizer(_tfmot.quantizers.Quantizer):  # type: ignore[name-defined]
    """Rounds the output of a layer to the 256 levels of the range of its point.

    Args:
        shared: the range, or two numbers that do not move.
        place: index of this one among its tensors, from 0.
    """

    def __init__(self, shared: SharedRange | tuple[float, float], place: int) -> None:
        self.shared, self.place = shared, place

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """Return the variables of the range."""
        return self.shared.build(layer) if isinstance(self.shared, SharedRange) else {}

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        if not isinstance(self.shared, SharedRange):
            return tf.quantization.fake_quant_with_min_max_args(inputs, *self.shared)
        if training:
            self.shared.observe(self.place, inputs)
        low, high = self.shared.limits()
        return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"shared": self.shared, "place": self.place}


class LayerConfig(_tfmot.QuantizeConfig):  # type: ignore[name-defined]
    """What is rounded of a layer: kernel and bias, its output, both or neither.

    Args:
        kernel: name of the layer's attribute and its quantizer, or None.
        source: the range of its input, by which the bias is rounded; None for a bias that is left as it is.
        output: the quantizer of its output, or None.
    """

    def __init__(
        self,
        kernel: tuple[str, KernelQuantizer] | None,
        source: SharedRange | tuple[float, float] | None,
        output: RangeQuantizer | None,
    ) -> None:
        self.kernel, self.source, self.output = kernel, source, output
        self.variables: list[Any] = []  # kernel and bias that are trained; the wrapper puts others in their place

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """Return the kernel, and the bias."""
        if self.kernel is None:
            return []
        name, quantizer = self.kernel
        self.variables = [getattr(layer, name), layer.bias]
        pairs = [(self.variables[0], quantizer)]
        if self.source is not None:
            pairs.append((self.variables[1], BiasQuantizer(quantizer, self.variables[0], self.source)))
        return pairs

    def set_quantize_weights(self, layer: Any, quantize_weights: Any) -> None:
        """Put what is rounded where the layer looks for it."""
        if self.kernel is not None:
            for name, value in zip((self.kernel[0], "bias"), quantize_weights, strict=False):
                setattr(layer, name, value)

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
        """Return none: outputs are rounded after the activation, which in a folded network is a layer."""
        return []

    def set_quantize_activations(self, layer: Any, quantize_activations: Any) -> None:
        """Set none."""
        return

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        """Return that of the output."""
        return [] if self.output is None else [self.output]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"kernel": self.kernel, "source": self.source, "output": self.output}


class QuantizedLayer(_tfmot.QuantizeWrapperV2):  # type: ignore[name-defined]
    """A layer of a folded network with the name it has there, whose kernel and output are rounded.

    The wrapper it derives from trains the kernel even of a layer that is frozen; this one does not.
    """

    def __init__(self, layer: Any, config: LayerConfig) -> None:
        super().__init__(layer, config, name=layer.name)

    @tf.autograph.experimental.do_not_convert  # of which there is nothing, and AutoGraph takes most of the time
    def call(self, inputs: Any, training: Any = None) -> Any:
        """Round what is to be rounded, and call the layer."""
        return super().call(inputs, training=training)

    @property
    def trainable_weights(self) -> list[Any]:
        """The weights that are trained."""
        return super().trainable_weights if self.layer.trainable else []

    @property
    def non_trainable_weights(self) -> list[Any]:
        """The others."""
        frozen = [] if self.layer.trainable else super().trainable_weights
        return self._dedup_weights([*frozen, *super().non_trainable_weights])
