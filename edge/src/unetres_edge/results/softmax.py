"""From scores to probabilities: a softmax over the classes or a sigmoid of each, calibrated where the card says how."""

from __future__ import annotations

import numpy as np

from ..model.calibration import Calibration

_LEAST = np.float32(np.finfo(np.float32).tiny)  # a probability below this counts as this, about exp(-87)


def probabilities(
    scores: np.ndarray, activation: str = "softmax", calibration: Calibration | None = None
) -> np.ndarray:
    """Return the probabilities of (..., classes) scores, float32.

    Args:
        activation: "softmax" over the last axis, "sigmoid" of each score by itself, or "none" of what are
            probabilities, as `Card.activation` says.
        calibration: calibration of the probabilities; None for those that the network claims.
    """
    scores, activation = calibrated_scores(scores, activation, calibration)
    if activation == "none":
        return np.asarray(scores, np.float32)
    if activation == "sigmoid":
        return _sigmoid(scores)
    shifted = scores - scores.max(-1, keepdims=True)
    raised = np.exp(shifted, dtype=np.float32)
    return raised / raised.sum(-1, keepdims=True)


def largest_probability(
    scores: np.ndarray, activation: str = "softmax", calibration: Calibration | None = None
) -> np.ndarray:
    """Return the probability of the class of the largest of (h, w, classes) scores, (h, w) float32.

    With a bias a class, another class may have a larger one: the label is that of the scores as they are.
    """
    if calibration is not None and calibration.bias:
        moved, activation = calibrated_scores(scores, activation, calibration)
        label = scores.argmax(-1, keepdims=True)
        return np.take_along_axis(probabilities(moved, activation), label, -1)[..., 0]
    scores, activation = calibrated_scores(scores, activation, calibration)
    if activation != "softmax":
        return probabilities(scores.max(-1), activation)
    raised = np.exp(scores - scores.max(-1, keepdims=True), dtype=np.float32)
    return 1 / raised.sum(-1)


def calibrated_scores(scores: np.ndarray, activation: str, calibration: Calibration | None) -> tuple[np.ndarray, str]:
    """Return scores (..., classes) of which an activation makes calibrated probabilities, and that activation."""
    if calibration is None:
        return scores, activation
    if activation == "none":
        scores, activation = np.log(np.maximum(np.asarray(scores, np.float32), _LEAST)), "softmax"
    scores = scores * np.float32(1 / calibration.temperature)
    return (scores + np.array(calibration.bias, np.float32) if calibration.bias else scores), activation


def _sigmoid(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(-np.abs(scores), dtype=np.float32)
    return np.where(scores >= 0, 1 / (1 + raised), raised / (1 + raised)).astype(np.float32)
