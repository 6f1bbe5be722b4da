"""The temperature and the biases that make a file's probabilities right, by the smallest negative log likelihood.

One temperature (Guo 2017, section 4.2) and, where images that were left out are the better for it, a bias a class
(bias-corrected temperature scaling, Alexandari 2020) over the scores of the file itself, int8 and all. The likelihood
is convex in the inverse temperature and the biases, so that there is one answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import minimize

from unetres_edge.model.calibration import LEAST, MOST, MOST_BIAS, Calibration
from unetres_edge.results.softmax import calibrated_scores

from .scored_pixels import ScoredPixels

FOLDS = 5
_PULL = 1e-4  # of biases to 0, so that a class that is nowhere has one, too


def fit_calibration(pixels: ScoredPixels, *, biases: bool = True, split: str = "") -> Calibration | None:
    """Return the calibration of a file, or None where no pixel is labelled.

    Of no change, a temperature, and a temperature with biases, it is that which tells images best that were left out of
    finding it. With one image there are none to leave out, and it is a temperature.

    Args:
        pixels: scores of the file on images that it was not trained on.
        biases: whether each class may have a bias.
        split: the part of the data set that they are.
    """
    if not len(pixels.labels):
        return None
    best = _fit(pixels, False)
    if pixels.num_images > 1:
        tried = {best: log_loss_of(pixels, left_out_calibrations(pixels, like=best))}
        tried[Calibration()] = log_loss(pixels)
        if biases:
            biased = _fit(pixels, True)
            tried[biased] = log_loss_of(pixels, left_out_calibrations(pixels, like=biased))
        best = min(tried, key=lambda each: tried[each])
    return replace(best, images=pixels.num_images, split=split)


Parts = Sequence[tuple[np.ndarray, Calibration | None]]  # which pixels, (N,) bool, are calibrated how


def log_loss(pixels: ScoredPixels, calibration: Calibration | None = None) -> float:
    """Return the mean negative log likelihood of the labels, nats a pixel; of sigmoids that of all classes, summed."""
    scores, activation = calibrated_scores(pixels.scores, pixels.activation, calibration or Calibration())
    return _loss(np.asarray(scores, np.float64), pixels.labels, activation)[0]


def log_loss_of(pixels: ScoredPixels, parts: Parts) -> float:
    """Return the mean negative log likelihood of all parts."""
    return sum(float(chosen.sum()) * log_loss(pixels.of(chosen), how) for chosen, how in parts) / len(pixels.labels)


def left_out_calibrations(pixels: ScoredPixels, *, like: Calibration) -> Parts:
    """Return, for each fold of the images, which pixels are its own and the calibration that all others give.

    With a single image there is nothing to leave out, and it has its own.

    Args:
        like: kind of calibration; one that leaves scores as they are is the same for all.
    """
    images = np.unique(pixels.image)
    folds = [np.isin(pixels.image, images[number::FOLDS]) for number in range(min(FOLDS, len(images)))]
    if len(folds) < 2 or (like.temperature == 1 and not like.bias):
        return [(np.ones(len(pixels.labels), bool), like)]
    return [(fold, _fit(pixels.of(~fold), bool(like.bias))) for fold in folds]


def _fit(pixels: ScoredPixels, biases: bool) -> Calibration:
    scores, activation = calibrated_scores(pixels.scores, pixels.activation, Calibration())
    scores = np.asarray(scores, np.float64)
    classes = scores.shape[-1]

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        bias = values[1:]
        loss, slope = _loss(values[0] * scores + (bias if biases else 0.0), pixels.labels, activation)
        slopes = [np.vdot(slope, scores), *((slope.sum(0) + 2 * _PULL * bias) if biases else ())]
        return loss + _PULL * float(bias @ bias), np.array(slopes)

    start = np.array([1.0, *[0.0] * (classes * biases)])
    bounds = [(1 / MOST, 1 / LEAST), *[(-MOST_BIAS, MOST_BIAS)] * (classes * biases)]
    optimum = minimize(objective, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 200})
    inverse, bias = float(optimum.x[0]), tuple(round(float(value), 6) for value in optimum.x[1:])
    return Calibration(round(min(MOST, max(LEAST, 1 / inverse)), 6), bias)


def _loss(scores: np.ndarray, labels: np.ndarray, activation: str) -> tuple[float, np.ndarray]:
    """Return the mean negative log likelihood, and its slope by each score, (N, classes)."""
    count = len(labels)
    true = np.zeros(scores.shape)
    true[np.arange(count), labels] = 1
    if activation == "sigmoid":
        loss = np.logaddexp(0, scores) - true * scores
        return float(loss.sum() / count), (1 / (1 + np.exp(-scores)) - true) / count
    scores = scores - scores.max(-1, keepdims=True)
    raised = np.exp(scores)
    total = raised.sum(-1, keepdims=True)
    return float((np.log(total[:, 0]) - (true * scores).sum(-1)).mean()), (raised / total - true) / count
