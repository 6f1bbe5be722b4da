"""Losses by name, and the text that names a sum of them, such as "cross_entropy + 0.5*dice"."""

from __future__ import annotations

import math

from unetres_edge.errors import UsageError

LOSSES = ("boundary", "cross_entropy", "dice", "focal", "focal_tversky", "lovasz", "tversky")


def parse_loss(text: str) -> list[tuple[str, float]]:
    """Return (name, factor) of each term of a sum of losses.

    Raises:
        UsageError: a term is not a name from `LOSSES`, or its factor is not a number above 0.
    """
    terms = []
    for term in text.split("+"):
        before, star, after = term.partition("*")
        name, factor = (after if star else before).strip(), _number(before) if star else 1.0
        if name not in LOSSES or not 0 < factor < math.inf:
            raise UsageError(
                "no such loss",
                expected=f"a sum of {', '.join(LOSSES)}, such as 'cross_entropy + 0.5*dice'",
                found=repr(text),
            )
        terms.append((name, factor))
    return terms


def _number(text: str) -> float:
    """Return the number in a text, NaN if there is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
