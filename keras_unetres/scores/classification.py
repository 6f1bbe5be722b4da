"""Scoring a classifier on labelled images: one count of truth by prediction, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from unetres_edge.classify.classifier import Classifier

from ..machine.progress_bar import with_progress

_TOP = 5


def score_classes(labels: np.ndarray, scores: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Return how well scores tell the classes of images.

    Args:
        labels: (N,) class ids.
        scores: (N, K) of each class. Of equal scores the class of the lower id counts as the better.

    Returns:
        JSON values: "top1", "top5" (None where there are no more than 5 classes), "mean_class_accuracy" (over the
        classes that are there), "per_class" ({name: "images", "accuracy" (recall; None for a class without an image)
        and "precision" (None for one that is never predicted)}), "confusion" (truth by prediction, in images),
        "classes" and "num_images".
    """
    count = len(class_names)
    order = np.argsort(-scores, axis=-1, kind="stable")
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (labels, order[:, 0]), 1)
    hits, truth, answered = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    recall = [float(h / t) if t else None for h, t in zip(hits, truth, strict=True)]
    precision = [float(h / g) if g else None for h, g in zip(hits, answered, strict=True)]
    present = [value for value in recall if value is not None]
    in_top = (order[:, :_TOP] == labels[:, None]).any(1)
    return {
        "top1": float(hits.sum() / len(labels)) if len(labels) else None,
        "top5": float(in_top.mean()) if count > _TOP and len(labels) else None,
        "mean_class_accuracy": float(np.mean(present)) if present else None,
        "per_class": {
            name: {"images": int(t), "accuracy": r, "precision": p}
            for name, t, r, p in zip(class_names, truth, recall, precision, strict=True)
        },
        "confusion": confusion.tolist(),
        "classes": list(class_names),
        "num_images": len(labels),
    }


def score_classifier(
    classifier: Classifier,
    images: Iterable[tuple[np.ndarray, int]],
    *,
    name: str = "scoring",
    total: int | None = None,
) -> dict[str, Any]:
    """Classify every image and score the answers.

    Args:
        images: (image as `read_image` gives it, class id).
        name: text of the progress bar.
        total: number of images, for the progress bar.

    Returns:
        As `score_classes`, and "ms_per_image" (median, preprocessing to probabilities).
    """
    labels, scores, times = [], [], []
    for image, label in with_progress(images, name, "image", total):
        answer = classifier.classify(image)
        labels.append(label)
        scores.append(answer.scores)
        times.append(answer.timing["total"])
    names = classifier.card.class_names
    values = np.stack(scores) if scores else np.zeros((0, len(names)), np.float32)
    figures = score_classes(np.array(labels, np.int64), values, names)
    return {**figures, "ms_per_image": round(float(np.median(times)), 3) if times else None}
