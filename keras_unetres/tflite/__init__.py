"""Export: a Keras model becomes one sealed `.tflite` that says all about itself, or is refused by name."""

from unetres_edge.images.preprocessing import Preprocessing

from .coverage import choose_for_coverage
from .export import Exported, Mixing, begin_mixing, export_tflite
from .heads import HEADS, find_head
from .mixed import MIXED, Mixable, Mixer
from .recipes import AUTO, RECIPES, find_recipe

__all__ = [
    "AUTO",
    "Exported",
    "HEADS",
    "MIXED",
    "Mixable",
    "Mixer",
    "Mixing",
    "Preprocessing",
    "RECIPES",
    "begin_mixing",
    "choose_for_coverage",
    "export_tflite",
    "find_head",
    "find_recipe",
]
