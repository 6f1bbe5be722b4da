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

_HOMES = {
    "Boundary": "losses",
    "BoundaryF1": "metrics",
    "ClassIoU": "metrics",
    "CrossEntropy": "losses",
    "Dice": "losses",
    "Focal": "losses",
    "FocalTversky": "losses",
    "FrequencyWeightedIoU": "metrics",
    "LOSSES": "losses",
    "LovaszSoftmax": "losses",
    "MeanDice": "metrics",
    "MeanIoU": "metrics",
    "PixelAccuracy": "metrics",
    "PixelLoss": "pixel_loss",
    "SegmentationScores": "metrics",
    "Tversky": "losses",
    "WeightedSum": "pixel_loss",
    "make_loss": "losses",
}

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
