"""Recipes: how a file is quantized. The names are those of ai-edge-quantizer: w weights, a activations, i integer."""

from __future__ import annotations

from dataclasses import dataclass

from unetres_edge.errors import UsageError


@dataclass(frozen=True)
class Recipe:
    """How a file is quantized.

    Args:
        name: the recipe's name, kept in the card.
        quantized: whether weights and activations become int8, with uint8 input and output; needs calibration.
        about: one line for people.
    """

    name: str
    quantized: bool
    about: str


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("float32", False, "as trained"),
        Recipe("static_wi8_ai8", True, "int8 weights (per channel) and activations, ranges from calibration images"),
    )
}


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Raises:
        UsageError: no such recipe.
    """
    if name not in RECIPES:
        raise UsageError("the recipe is unknown", expected=" or ".join(RECIPES), found=name)
    return RECIPES[name]
