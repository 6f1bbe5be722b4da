"""The figures of a check's page: rows of findings with their pictures, and a gallery of samples with their masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unetres_edge.results import draw

from ..data.classes import Classes
from ..data.findings import Finding
from ..data.fixes import placed
from ..data.kinds import KINDS
from ..pages.check import CheckFigures, FaultRow, Thumbnail
from ..pages.check import check_page as render_page
from .check import Checkup
from .summaries import picture_of

_MOST_PICTURES = 500  # of findings, each decoded for the page


def check_page(checkup: Checkup) -> bytes:
    """Return the page of a check as UTF-8 HTML."""
    classes = None if checkup.summary is None else checkup.summary.classes
    return render_page(
        CheckFigures(
            checkup.to_dict(),
            {name: kind.title for name, kind in KINDS.items()},
            _rows(checkup.faults, checkup),
            _rows(checkup.warnings, checkup),
            () if classes is None else classes.colors,
            [
                Thumbnail(_overlay(seen.picture, seen.mask, classes), f"{seen.sample.name} ({seen.part})")
                for seen in checkup.images
                if seen.picture is not None and seen.mask is not None
            ],
        )
    )


def _rows(findings: Sequence[Finding], checkup: Checkup) -> list[FaultRow]:
    named = {finding.where.image for finding in findings[:_MOST_PICTURES]}
    images = {image.sample.name: image for image in checkup.images if image.sample.name in named}
    pictures = {
        name: image.picture if image.picture is not None else picture_of(image.sample) for name, image in images.items()
    }
    return [
        FaultRow(f.kind, f.file, f.found, f.expected, str(placed(f.fix, checkup.data)), pictures.get(f.where.image))
        for f in findings
    ]


def _overlay(picture: np.ndarray, mask: np.ndarray, classes: Classes | None) -> np.ndarray:
    """Return a picture with its mask laid over it, or as it is where mask values are not known."""
    if classes is None or not (classes.values is None or set(np.unique(mask)) <= set(classes.values)):
        return picture
    return draw.overlay(picture, classes.ids(mask), classes.colors, background=classes.background)
