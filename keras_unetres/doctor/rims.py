"""Masks with rims: where most masks step directly over a class, these have a rim of it, as interpolation leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from ..data.faults import Fault, relative
from ..data.smears import FIX
from .portrait import Portrait

_MASKS = 5  # fewer do not tell what is usual
_FEWEST = 20  # px; fewer steps say nothing of a mask
_SHARP = 0.5  # share of direct steps among those over a class, in most masks; half of it or less is smeared


def find_rims(portraits: Sequence[Portrait], base: Path) -> list[tuple[Portrait, Fault]]:
    """Return the masks whose classes never meet over another one without a rim of it, where those of most masks do.

    Interpolation between class 0 and class 2 leaves class 1, which is a class: only the rim gives it away.
    """
    steps = [(portrait, *portrait.steps) for portrait in portraits if sum(portrait.steps) >= _FEWEST]
    usual = median(direct / (direct + rim) for _, direct, rim in steps) if len(steps) >= _MASKS else 0.0
    if usual < _SHARP:
        return []
    found = []
    for portrait, direct, rim in steps:
        if rim >= _FEWEST and direct < usual / 2 * (direct + rim):
            said = f"{rim} px of a class that lie between two others, {direct} direct steps over a class"
            file = relative(portrait.sample.mask.file, base)
            found.append((portrait, Fault(file, "smeared-mask", said, "direct steps, as in the other masks", FIX)))
    return found
