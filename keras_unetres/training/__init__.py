"""Training: losses and metrics for any `model.fit`, callbacks, and the fit loop of `unetres train`."""

from .losses import CrossEntropyDice
from .metrics import MeanIoU

__all__ = ["CrossEntropyDice", "MeanIoU"]
