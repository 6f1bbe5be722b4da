"""Softmax of scores: the probabilities that a network claims."""

from __future__ import annotations

import numpy as np


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis of (..., classes) scores, float32."""
    shifted = scores - scores.max(-1, keepdims=True)
    raised = np.exp(shifted, dtype=np.float32)
    return raised / raised.sum(-1, keepdims=True)


def largest_probability(scores: np.ndarray) -> np.ndarray:
    """Return the largest softmax probability of (h, w, classes) scores, (h, w) float32."""
    raised = np.exp(scores - scores.max(-1, keepdims=True), dtype=np.float32)
    return 1 / raised.sum(-1)
