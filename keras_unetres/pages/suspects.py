"""The list of suspicious masks as one HTML page: a pure function of its figures and of small pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .frame import render


@dataclass(frozen=True)
class SuspectFigures:
    """The figures of the page of suspicious masks.

    Args:
        data: place of the data set.
        count: images that were judged.
        folds: trainings that each left some out.
        suspects: words about the first ones, and (h, w, 3) uint8 pictures: the mask, and beside it the network's.
    """

    data: str
    count: int
    folds: int
    suspects: Sequence[tuple[str, np.ndarray]]


def suspects_page(figures: SuspectFigures) -> bytes:
    """Return the page as UTF-8 HTML."""
    return render("suspects.html.j2", title="Suspicious masks", **vars(figures)).encode()
