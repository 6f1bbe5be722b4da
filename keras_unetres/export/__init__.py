"""Export: a Keras model becomes one sealed `.tflite` that says all about itself, or is refused by name."""

from unetres_edge.preprocessing import Preprocessing

from .recipes import RECIPES, find_recipe
from .tflite import Exported, export_tflite

__all__ = ["Exported", "Preprocessing", "RECIPES", "export_tflite", "find_recipe"]
