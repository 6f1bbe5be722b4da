"""Post-training quantization of weights by litert-quantizer: a float32 `.tflite` becomes one of smaller kernels.

It needs no images: activations stay float32, or are rounded on the fly. Called in the conversion worker only, with what
the row of a recipe says (`choices.recipes.Recipe`).
"""

from __future__ import annotations

from typing import Any

_BITS = {"int4": 4, "int8": 8}
_FOUR_BITS = ("CONV_2D", "FULLY_CONNECTED")  # all that has kernels of 4 bits


def quantize_weights(data: bytes, *, weights: str, dynamic: bool) -> bytes:
    """Return a float32 `.tflite` with its kernels in another type.

    Args:
        weights: type of its kernels: "float16", "int8" or "int4". What has no 4 bits gets 8.
        dynamic: whether activations are rounded to int8 on the fly, as `Recipe.dynamic`; not of "float16".
    """
    from litert_quantizer import quantizer

    rules = _float16_rules() if weights == "float16" else _integer_rules(dynamic, _BITS[weights])
    result = quantizer.Quantizer(bytearray(data), rules).quantize()
    return bytes(result.quantized_model)


def _float16_rules() -> Any:
    from litert_quantizer import qtyping, recipe_manager

    rules = recipe_manager.RecipeManager()
    rules.add_quantization_config(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        op_config=qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        algorithm_key="float_casting",
    )
    return rules.get_quantization_recipe()


def _integer_rules(dynamic: bool, bits: int) -> Any:
    from litert_quantizer import algorithm_manager, qtyping, recipe_manager

    names, algorithms = qtyping.TFLOperationName, algorithm_manager.AlgorithmName
    rules = recipe_manager.RecipeManager()
    add = rules.add_dynamic_config if dynamic else rules.add_weight_only_config
    add(".*", names.ALL_SUPPORTED, 8, algorithm_key=algorithms.MIN_MAX_UNIFORM_QUANT)
    # XNNPACK does not round activations of depthwise convolutions on the fly and leaves those to slower kernels.
    rules.add_weight_only_config(".*", names.DEPTHWISE_CONV_2D, 8, algorithm_key=algorithms.MIN_MAX_UNIFORM_QUANT)
    if bits == 4:
        # Of 16 levels, the ones of least squared error are nearer than the ones that reach the largest weight.
        for name in _FOUR_BITS:
            add(".*", names[name], 4, algorithm_key=algorithms.MSE)
    return rules.get_quantization_recipe()
