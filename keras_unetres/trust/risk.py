"""Conformal risk control (Angelopoulos 2022): from labelled images to the threshold that keeps a promise.

Of each image the risk is counted at every threshold, which makes a curve that only rises. The largest threshold at
which (n mean + 1) / (n + 1) is at most the level keeps the mean risk of further images of the same kind there
(theorem 1). Of the share of kept pixels that are wrong, which need not rise, the largest value up to each threshold is
taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unetres_edge import Segmenter
from unetres_edge.errors import DataError, UsageError
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.model.promise import RISKS, Promise

from ..machine.progress_bar import with_progress

STEPS = 1000  # thresholds from 0 to 1
THRESHOLDS = np.linspace(0, 1, STEPS + 1)
_FORM = re.compile(r"(?P<risk>[a-z]+)(?:\((?P<classes>.+)\))?\s*<=\s*(?P<level>[0-9.]+)")


@dataclass(frozen=True)
class Curves:
    """The risk of images at each threshold, and what is given up there.

    Args:
        risks: (N, STEPS + 1) of the images on which the risk is defined, rising along each row.
        given_up: (N, STEPS + 1) share of their labelled pixels, falling.
    """

    risks: np.ndarray
    given_up: np.ndarray


def read_promise(text: str, class_names: Sequence[str], background: int) -> Promise:
    """Return what a text asks for, with a threshold of 0: "miss<=0.05", "false(cell)<=0.1", "error<=0.02".

    Args:
        text: a name of `RISKS`, perhaps class names in parentheses, parted by commas; without, all but the background.
        class_names: names of the classes, by id.
        background: id of that class.

    Raises:
        UsageError: it says something else.
    """
    match = _FORM.fullmatch(text.strip())
    examples = "such as miss<=0.05, false(cell)<=0.1 or error<=0.02"
    if match is None or match["risk"] not in RISKS:
        raise UsageError("the promise is not understood", expected=examples, found=repr(text))
    try:
        level = float(match["level"])
    except ValueError:
        level = 0.0
    if not 0 < level < 1:
        raise UsageError("the level of the promise is wrong", expected="above 0 and below 1", found=match["level"])
    names = [name.strip() for name in (match["classes"] or "").split(",") if name.strip()]
    if match["risk"] == "error":
        if names:
            raise UsageError("the share of wrong pixels is over all classes", expected=f"error<={level:g}", found=text)
        return Promise("error", (), level, 0.0, 1)
    wrong = [name for name in names if name not in class_names]
    if wrong:
        raise UsageError("no such class", expected=", ".join(class_names), found=wrong[0])
    classes = [class_names.index(name) for name in names] or [i for i in range(len(class_names)) if i != background]
    return Promise(match["risk"], tuple(sorted(set(classes))), level, 0.0, 1)


def risk_curves(segmenter: Segmenter, records: Iterable[Any], promise: Promise, total: int) -> Curves:
    """Return the curves of all images on which the risk is defined; of a miss, those that have the classes."""
    risks, shares = [], []
    for record in with_progress(records, "risk", "image", total):
        result = segmenter.segment(record.image, scores=True)
        labelled = record.mask != IGNORE
        truth, labels = record.mask[labelled], result.class_map[labelled]
        curve = image_curve(promise, promise.doubt(result.probabilities(), result.class_map)[labelled], labels, truth)
        if curve is not None:
            risks.append(curve[0])
            shares.append(curve[1])
    empty = np.zeros((0, STEPS + 1))
    return Curves(np.array(risks), np.array(shares)) if risks else Curves(empty, empty)


def image_curve(
    promise: Promise, doubt: np.ndarray, labels: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the risk of one image at each threshold and the share that is given up, (STEPS + 1,) each.

    Args:
        promise: risk that is promised, with its level.
        doubt, labels, truth: (N,) of the labelled pixels.

    Returns:
        None where the image has no pixel that the risk is about.
    """
    if not len(truth):
        return None
    first_kept = np.ceil(np.clip(doubt, 0, 1) * STEPS - 1e-6).astype(int)  # kept from this threshold on

    def kept(chosen: np.ndarray) -> np.ndarray:
        return np.bincount(first_kept[chosen], minlength=STEPS + 1).cumsum()

    all_kept = kept(np.ones(len(truth), bool))
    if promise.risk == "error":
        risk = np.maximum.accumulate(kept(labels != truth) / np.maximum(all_kept, 1))
    else:
        is_one, labelled = np.isin(truth, promise.classes), np.isin(labels, promise.classes)
        about, bad = (is_one, ~labelled) if promise.risk == "miss" else (~is_one, labelled)
        if not about.any():
            return None
        risk = kept(about & bad) / about.sum()
    return risk, 1 - all_kept / len(truth)


def keep_promise(promise: Promise, curves: Curves) -> Promise:
    """Return the promise with the largest threshold that keeps it, by the curves of labelled images.

    Raises:
        DataError: so few images cannot promise so little, or no threshold is careful enough.
    """
    count = len(curves.risks)
    if count == 0:
        raise DataError("no image has a pixel that the promise is about", found=promise.risk)
    if 1 / (count + 1) > promise.level:
        needed = int(np.ceil(1 / promise.level - 1e-9)) - 1
        raise DataError(
            f"{count} images cannot promise a level of {promise.level:g}",
            expected=f"at least {needed} images, or a level from {1 / (count + 1):.3g}",
            fix="label more images, or promise less",
        )
    bound = (curves.risks.sum(0) + 1) / (count + 1)
    careful = np.flatnonzero(bound <= promise.level)
    if not len(careful):
        raise DataError(
            f"the risk is above {promise.level:g} even where everything in doubt is given up",
            found=f"{bound[0]:.4f}",
            fix="promise less, or train longer",
        )
    threshold = float(THRESHOLDS[careful[-1]])
    return Promise(promise.risk, promise.classes, promise.level, threshold, count)
