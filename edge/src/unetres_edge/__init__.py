"""The runtime of keras-unetres: a class for every pixel, or for the image, from a `.tflite` that says all about itself.

Needs numpy, Pillow, tifffile and LiteRT; never TensorFlow or Keras. Nothing of that is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from .moved import MOVED, add_moved

if TYPE_CHECKING:
    from .classify.classifier import Classification, Classifier
    from .engines.engine import Engine
    from .errors import UnetresError
    from .images.preprocessing import Preprocessing
    from .model.card import Card, read_card, seal
    from .results.result import Result
    from .segment.segmenter import Segmenter

__version__ = "0.1.0"  # its one place: pyproject.toml takes it from here

__all__ = [
    "Card",
    "Classification",
    "Classifier",
    "Engine",
    "Preprocessing",
    "Result",
    "Segmenter",
    "UnetresError",
    "read_card",
    "seal",
]

_MODULES = {
    "Card": "model.card",
    "Classification": "classify.classifier",
    "Classifier": "classify.classifier",
    "Engine": "engines.engine",
    "Preprocessing": "images.preprocessing",
    "Result": "results.result",
    "Segmenter": "segment.segmenter",
    "UnetresError": "errors",
    "read_card": "model.card",
    "seal": "model.card",
}

add_moved(MOVED)


if not TYPE_CHECKING:  # a type checker is to name what does not exist

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
