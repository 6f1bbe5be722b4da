"""The runtime of keras-unetres: a class for every pixel, or for the image, from a `.tflite` that says all about itself.

Needs numpy, Pillow, tifffile and LiteRT; never TensorFlow or Keras.
"""

from .classifier import Classification, Classifier
from .errors import UnetresError
from .images.preprocessing import Preprocessing
from .model.card import Card, read_card, seal
from .moved import MOVED, add_moved
from .results.result import Result
from .segment.segmenter import Segmenter

__version__ = "0.1.0"

add_moved(MOVED)

__all__ = [
    "Card",
    "Classification",
    "Classifier",
    "Preprocessing",
    "Result",
    "Segmenter",
    "UnetresError",
    "read_card",
    "seal",
]
