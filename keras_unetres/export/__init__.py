"""Export: a Keras model becomes one sealed `.tflite` that says all about itself, or is refused by name."""

from unetres_edge.preprocessing import Preprocessing

from .coverage import choose_for_coverage
from .heads import HEADS, find_head
from .recipes import RECIPES, find_recipe
from .tflite import Exported, export_tflite

__all__ = [
    "Exported",
    "HEADS",
    "Preprocessing",
    "RECIPES",
    "choose_for_coverage",
    "export_tflite",
    "find_head",
    "find_recipe",
]
