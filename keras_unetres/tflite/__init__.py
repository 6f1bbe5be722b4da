"""Export of Keras models to sealed `.tflite` files: recipes, calibration, conversion, and checks of the result."""

from unetres_edge.images.preprocessing import Preprocessing

from .coverage import choose_for_coverage
from .export import CalibratedModel, Exported, calibrate_model, export_tflite
from .heads import HEADS, find_head
from .mixed_precision import MIXED, LayerGroup, MixedPrecisionConverter
from .recipes import AUTO, RECIPES, find_recipe

__all__ = [
    "AUTO",
    "CalibratedModel",
    "Exported",
    "HEADS",
    "LayerGroup",
    "MIXED",
    "MixedPrecisionConverter",
    "Preprocessing",
    "RECIPES",
    "calibrate_model",
    "choose_for_coverage",
    "export_tflite",
    "find_head",
    "find_recipe",
]
