"""Training: losses and metrics for any `model.fit`, callbacks, and the fit loop of `unetres train`.

Names load on first use, so that what only describes a training does not wait for Keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .losses import (
        LOSSES,
        Boundary,
        CrossEntropy,
        Dice,
        Focal,
        FocalTversky,
        LovaszSoftmax,
        Tversky,
        make_loss,
    )
    from .metrics import (
        BoundaryF1,
        ClassIoU,
        FrequencyWeightedIoU,
        MeanDice,
        MeanIoU,
        PixelAccuracy,
        SegmentationScores,
    )
    from .pixel_loss import PixelLoss, WeightedSum

__all__ = [
    "Boundary",
    "BoundaryF1",
    "ClassIoU",
    "CrossEntropy",
    "Dice",
    "Focal",
    "FocalTversky",
    "FrequencyWeightedIoU",
    "LOSSES",
    "LovaszSoftmax",
    "MeanDice",
    "MeanIoU",
    "PixelAccuracy",
    "PixelLoss",
    "SegmentationScores",
    "Tversky",
    "WeightedSum",
    "make_loss",
]

_MODULES = ("losses", "metrics", "pixel_loss")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in (importlib.import_module(f".{each}", __name__) for each in _MODULES):
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
