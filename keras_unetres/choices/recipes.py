"""Recipes: how a file is quantized, and by which tool.

The names are those of litert-quantizer and can be decoded: w weights, a activations, i integer, fp float, and the
number of bits. Where both tools can make a file, the row says which one does, and why.
"""

from __future__ import annotations

from dataclasses import dataclass

from unetres_edge.errors import UsageError

TENSORFLOW = "tensorflow"
LITERT_QUANTIZER = "litert-quantizer"


@dataclass(frozen=True)
class Recipe:
    """How a file is quantized.

    Args:
        name: the recipe's name, kept in the card.
        weights: type in which kernels are stored: "float32", "float16", "int8" (a scale for every output channel) or
            "int4".
        activations: type of the tensors between ops: "float32", "int8", "int16", or "mixed" of int8 and float32.
        tool: program that makes the file of the float32 one: `TENSORFLOW` (TFLiteConverter) or `LITERT_QUANTIZER`.
        about: description, one line for people.
        why: why that tool.
        dynamic: whether ops round float32 activations to int8 on the fly, and compute in whole numbers.
    """

    name: str
    weights: str
    activations: str
    tool: str
    about: str
    why: str
    dynamic: bool = False

    @property
    def quantized(self) -> bool:
        """Whether activations are whole numbers, whose ranges come from calibration images."""
        return self.activations != "float32"


# "Both" was measured on a U-Net of 12 filters and an FCN on a ResNet-20, trained, labels compared with Keras.
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("float32", "float32", "float32", TENSORFLOW, "as trained", "the only one that reads a Keras model"),
        Recipe(
            "float16",
            "float16",
            "float32",
            LITERT_QUANTIZER,
            "kernels in half the bytes, computed in float32",
            "both agree; this one leaves biases in float32 and needs a third fewer ops",
        ),
        Recipe(
            "dynamic_wi8_afp32",
            "int8",
            "float32",
            LITERT_QUANTIZER,
            "int8 kernels, activations rounded to int8 on the fly; needs no images",
            "both agree; this one quantizes small kernels too and does not convert a second time",
            dynamic=True,
        ),
        Recipe(
            "weight_only_wi8_afp32",
            "int8",
            "float32",
            LITERT_QUANTIZER,
            "int8 kernels, computed in float32; needs no images",
            "TFLiteConverter has no such form",
        ),
        Recipe(
            "dynamic_wi4_afp32",
            "int4",
            "float32",
            LITERT_QUANTIZER,
            "int4 kernels of plain convolutions and dense layers, int8 of others, activations rounded on the fly",
            "TFLiteConverter has no 4 bits after training",
            dynamic=True,
        ),
        Recipe(
            "weight_only_wi4_afp32",
            "int4",
            "float32",
            LITERT_QUANTIZER,
            "int4 kernels of plain convolutions and dense layers, int8 of others, computed in float32",
            "TFLiteConverter has no 4 bits after training",
        ),
        Recipe(
            "static_wi8_ai8",
            "int8",
            "int8",
            TENSORFLOW,
            "int8 weights (per channel) and activations, ranges from calibration images",
            "both agree; this one gives what meets in a concatenation one scale, where the other adds an op for each, "
            "and keeps an argmax in whole numbers",
        ),
        Recipe(
            "static_wi8_ai16",
            "int8",
            "int16",
            TENSORFLOW,
            "int8 weights and int16 activations: nearer to float32, and slow where no delegate has it",
            "less noise at the same ranges",
        ),
        Recipe(
            "mixed_wi8_ai8_afp32",
            "int8",
            "mixed",
            TENSORFLOW,
            "as static_wi8_ai8, but some layers, named ones or those that --recipe auto finds, compute in float32",
            "takes any choice of layers after one calibration",
        ),
    )
}
INT8 = "static_wi8_ai8"  # the usual one
MIXED = "mixed_wi8_ai8_afp32"  # the recipe that is told, or finds, which layers stay float
AUTO = "auto"  # what `unetres export` takes beside these: static_wi8_ai8, or as little float as holds the budget
ALIASES = {
    **dict.fromkeys(("int8", "static_int8", "full_int8", "full_integer", "wi8_ai8"), "static_wi8_ai8"),
    **dict.fromkeys(("int16", "int16x8", "wi8_ai16"), "static_wi8_ai16"),
    **dict.fromkeys(("dynamic", "dynamic_range", "dynamic_int8"), "dynamic_wi8_afp32"),
    **dict.fromkeys(("weight_only", "weight_only_int8", "weight_only_wi8"), "weight_only_wi8_afp32"),
    **dict.fromkeys(("int4", "wi4"), "dynamic_wi4_afp32"),
    **dict.fromkeys(("fp16", "half"), "float16"),
    **dict.fromkeys(("fp32", "float"), "float32"),
}


def find_recipe(name: str) -> Recipe:
    """Return a recipe by its name, or by a short one of `ALIASES`.

    Raises:
        UsageError: no such recipe.
    """
    name = ALIASES.get(name, name)
    if name not in RECIPES:
        raise UsageError("the recipe is unknown", expected=" or ".join(RECIPES), found=name)
    return RECIPES[name]
