"""The runtime of keras-unetres: a class for every pixel, or for the image, from a `.tflite` that says all about itself.

Needs numpy, Pillow, tifffile and LiteRT; never TensorFlow or Keras.
"""

from .card import Card, read_card, seal
from .classifier import Classification, Classifier
from .errors import UnetresError
from .preprocessing import Preprocessing
from .result import Result
from .segmenter import Segmenter

__version__ = "0.1.0"

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
