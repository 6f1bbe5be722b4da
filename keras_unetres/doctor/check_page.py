"""The figures of a check's page: rows of faults with their pictures, and a gallery of samples with their masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unetres_edge.results import draw

from ..data.classes import Classes
from ..data.faults import KINDS, Fault
from ..pages.check import CheckFigures, FaultRow, Thumbnail
from ..pages.check import check_page as render_page
from .check import Checkup
from .portrait import Portrait


def check_page(found: Checkup) -> bytes:
    """Return the page of a check as UTF-8 HTML."""
    classes = found.classes
    return render_page(
        CheckFigures(
            found.to_dict(),
            KINDS,
            _rows(found.faults, found),
            _rows(found.warnings, found),
            () if classes is None else classes.colors,
            [
                Thumbnail(_overlay(seen.picture, seen.mask, classes), f"{seen.sample.name} ({seen.part})")
                for seen in found.portraits
                if seen.picture is not None and seen.mask is not None
            ],
        )
    )


def _rows(faults: Sequence[Fault], found: Checkup) -> list[FaultRow]:
    seen: dict[str, Portrait] = {each.sample.name: each for each in found.portraits if each.picture is not None}
    rows = []
    for fault in faults:
        portrait = seen.get(found.excusable.get(fault, "")) or seen.get(fault.file.rpartition("/")[2])
        picture = None if portrait is None else portrait.picture
        rows.append(FaultRow(fault.kind, fault.file, fault.found, fault.expected, fault.fix, picture))
    return rows


def _overlay(picture: np.ndarray, mask: np.ndarray, classes: Classes | None) -> np.ndarray:
    """Return a picture with its mask laid over it, or as it is where mask values are not known."""
    if classes is None or not (classes.values is None or set(np.unique(mask)) <= set(classes.values)):
        return picture
    return draw.overlay(picture, classes.ids(mask), classes.colors)
