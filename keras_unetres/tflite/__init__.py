"""Export of Keras models to sealed `.tflite` files: recipes, calibration, conversion, and checks of the result."""

from unetres_edge.images.preprocessing import Preprocessing

from ..choices.heads import HEADS, find_head
from ..choices.recipes import AUTO, MIXED, RECIPES, find_recipe
from ..data.coverage import choose_for_coverage
from .export import CalibratedModel, Exported, calibrate_model, export_tflite
from .mixed_precision import LayerGroup, MixedPrecisionConverter

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
