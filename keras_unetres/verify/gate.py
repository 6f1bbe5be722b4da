"""The rule of the gate: whether a file may lose as much as it does."""

from __future__ import annotations

from dataclasses import dataclass

from ..scores.baseline import Baseline
from ..scores.paired import Drop, signed


@dataclass(frozen=True)
class Verdict:
    """What the gate says.

    Args:
        passed: whether the file may be used; None if it was not scored.
        line: verdict, one sentence for people.
    """

    passed: bool | None
    line: str


def decide(
    drop: Drop | None,
    max_drop: float,
    *,
    score: str,
    images: str,
    why_not: str = "",
    reached: float | None = None,
    baseline: Baseline | None = None,
    exceeded: str | None = None,
) -> Verdict:
    """Return whether a drop is allowed, and the file better than an answer that has looked at nothing.

    Args:
        drop: points by which the score fell; None where it was not scored.
        max_drop: the largest that is allowed, in points.
        score: name of the score that dropped, such as "mIoU".
        images: words for the images, such as "24 test images".
        why_not: why it was not scored.
        reached: the score of the file, 0 to 1; None where that does not count.
        baseline: the score of always answering one class on the same images, or None.
        exceeded: words for what the file takes beyond the limits of the device.
    """
    beyond = "" if exceeded is None else f" It takes {exceeded}."
    if drop is None:
        if exceeded is not None:
            return Verdict(False, f"Rejected.{beyond} Not scored: {why_not}.")
        return Verdict(None, f"Not scored: {why_not}.")
    allowed = f"a loss of {max_drop:g} is allowed"
    low, high = drop.interval or (drop.points, drop.points)
    if abs(drop.points) < 0.005:
        what = f"keeps its {score}"
    else:
        what = f"{'loses' if drop.points > 0 else 'gains'} {abs(drop.points):.2f} points of {score}"
    ends = " to ".join(signed(-points, minus="\u2212") for points in (high, low))  # changes, as in the table
    within = f" (95 %: a change of {ends})" if drop.interval else ""
    blind = reached is not None and baseline is not None and reached <= baseline.score
    passed = drop.points <= max_drop and not blind and exceeded is None
    line = f"The file {what}{within} on {images}; {allowed}."
    if blind:
        line = f"Its {score} of {reached:.2f} is no better than that of always answering one class ({baseline}). {line}"
    return Verdict(passed, f"{'Passed' if passed else 'Rejected'}. {line}{beyond}")
