"""The receipt of an exported file: what it lost on held-out images, step by step, and whether that is allowed.

Figures only; `receipt_page` makes the page of them. Who exports, scores and writes is `keras_unetres.workflows.export`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..scores.bootstrap import DRAWS, LEVEL
from ..scores.paired import Drop, drop_of_miou, drop_of_share
from .steps import Step, Steps

SCHEMA = 1


@dataclass(frozen=True)
class Ruling:
    """What the gate says.

    Args:
        passed: whether the file may be used; None if it was not scored.
        line: one sentence for people.
    """

    passed: bool | None
    line: str


def rule(drop: Drop | None, max_drop: float, *, score: str, images: str, why_not: str = "") -> Ruling:
    """Return whether a drop is allowed.

    Args:
        drop: of the score, in points; None where it was not scored.
        max_drop: the largest that is allowed, in points.
        score: what dropped, such as "mIoU".
        images: which images, such as "24 test images".
        why_not: why it was not scored.
    """
    if drop is None:
        return Ruling(None, f"Not scored: {why_not}.")
    allowed = f"a loss of {max_drop:g} is allowed"
    low, high = drop.interval or (drop.points, drop.points)
    if abs(drop.points) < 0.005:
        what, between = f"keeps its {score}", f"a loss of {_signed(low)} to {_signed(high)}"
    elif drop.points > 0:
        what, between = f"loses {drop.points:.2f} points of {score}", f"{_signed(low)} to {_signed(high)}"
    else:
        what, between = f"gains {-drop.points:.2f} points of {score}", f"{_signed(-high)} to {_signed(-low)}"
    within = f" (95 %: {between})" if drop.interval else ""
    passed = drop.points <= max_drop
    return Ruling(passed, f"{'Passed' if passed else 'Rejected'}. The file {what}{within} on {images}; {allowed}.")


def segment_rows(steps: Mapping[str, Step], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each form of a segmenter: its scores, and how far they are from the first form's."""
    first = next(iter(steps.values()))
    rows = []
    for title, step in steps.items():
        total = step.margins.total()
        drop = drop_of_miou(first.margins, step.margins)
        rows.append(
            {
                "title": title,
                "score": _number(total.miou),
                "pixel_accuracy": _number(total.accuracy),
                "per_class_iou": {
                    name: _number(value) for name, value in zip(class_names, np.atleast_1d(total.iou), strict=True)
                },
                **_drop_values(drop),
                "labels_equal": _number(_pixels_equal(step)),
                "ms": _number(np.median(step.ms)) if len(step.ms) else None,
            }
        )
    return rows


def classify_rows(
    forms: Mapping[str, tuple[np.ndarray, np.ndarray]], truth: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a row for each form of a classifier.

    Args:
        forms: title -> ((N,) class ids, (N,) milliseconds or none).
        truth: (N,) class ids.
    """
    first = next(iter(forms.values()))[0]
    rows = []
    for title, (labels, ms) in forms.items():
        right = labels == truth
        rows.append(
            {
                "title": title,
                "score": _number(right.mean()) if len(right) else None,
                "per_class_accuracy": {
                    name: _number(right[truth == place].mean()) if (truth == place).any() else None
                    for place, name in enumerate(class_names)
                },
                **_drop_values(drop_of_share(first == truth, right)),
                "labels_equal": _number((labels == first).mean()) if len(right) else None,
                "ms": _number(np.median(ms)) if len(ms) else None,
            }
        )
    return rows


def image_rows(steps: Steps) -> list[dict[str, Any]]:
    """Return a row for each image of a segmenter: its own mIoU by the first form and the last, and what was lost."""
    first, last = list(steps.steps.values())[0], list(steps.steps.values())[-1]
    pairs = zip(steps.names, first.margins.single().miou, last.margins.single().miou, last.equal, strict=True)
    return [
        {
            "name": json_text(name),
            "first": _number(before),
            "last": _number(after),
            "drop": _number(100 * (before - after)),
            "labels_equal": float(equal),
        }
        for name, before, after, equal in pairs
    ]


def intervals_note() -> dict[str, Any]:
    """Return how the intervals were made."""
    return {"level": LEVEL, "draws": DRAWS, "over": "images, the same for both forms", "method": "percentile bootstrap"}


def json_text(value: object) -> str:
    """Return text that every JSON reader takes: no lone surrogates of file names that are no text."""
    return str(value).encode("utf-8", "replace").decode()


def _drop_values(drop: Drop | None) -> dict[str, Any]:
    """Return the drop as JSON values; points."""
    interval = None if drop is None or drop.interval is None else list(drop.interval)
    return {"drop": None if drop is None else drop.points, "drop_interval": interval}


def _pixels_equal(step: Step) -> float:
    """Return the share of all pixels with the first form's label; images count by their size."""
    return float(np.average(step.equal, weights=step.pixels)) if len(step.equal) else math.nan


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "\u2212")  # zero is never negative


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
