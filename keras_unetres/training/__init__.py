"""Training: losses and metrics for any `model.fit`, callbacks, and the fit loop of `unetres train`."""

from .losses import LOSSES, Boundary, CrossEntropy, Dice, Focal, FocalTversky, LovaszSoftmax, Tversky, make_loss
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
