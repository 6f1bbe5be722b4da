"""From scores to the probabilities that a network claims: a softmax over the classes, or a sigmoid of each."""

from __future__ import annotations

import numpy as np


def probabilities(scores: np.ndarray, activation: str = "softmax") -> np.ndarray:
    """Return the probabilities of (..., classes) scores, float32.

    Args:
        activation: "softmax" over the last axis, "sigmoid" of each score by itself, or "none" of what are
            probabilities, as `Card.activation` says.
    """
    if activation == "none":
        return np.asarray(scores, np.float32)
    if activation == "sigmoid":
        return _sigmoid(scores)
    shifted = scores - scores.max(-1, keepdims=True)
    raised = np.exp(shifted, dtype=np.float32)
    return raised / raised.sum(-1, keepdims=True)


def largest_probability(scores: np.ndarray, activation: str = "softmax") -> np.ndarray:
    """Return the largest probability of (h, w, classes) scores, (h, w) float32."""
    if activation != "softmax":
        return probabilities(scores.max(-1), activation)
    raised = np.exp(scores - scores.max(-1, keepdims=True), dtype=np.float32)
    return 1 / raised.sum(-1)


def _sigmoid(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(-np.abs(scores), dtype=np.float32)
    return np.where(scores >= 0, 1 / (1 + raised), raised / (1 + raised)).astype(np.float32)
