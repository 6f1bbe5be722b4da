"""Score a segmenter image by image, and keep of each image only what a report shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from unetres_edge import Card
from unetres_edge.results.result import Result

from ..machine.progress_bar import with_progress
from ..scores.bootstrap import Intervals, Margins, find_intervals
from ..scores.confusion import Confusion
from .cases import Case, Extremes

SHOWN = 4  # of the best, and of the worst


class Segments(Protocol):
    """Anything that segments images as `Segmenter` does."""

    @property
    def card(self) -> Card:
        """What the class ids mean."""

    def segment(self, image: np.ndarray) -> Result:
        """Give every pixel a class."""


class Sample(Protocol):
    """An image with its mask, such as a `Record`."""

    @property
    def name(self) -> str:
        """Of the sample."""

    @property
    def image(self) -> np.ndarray:
        """(H, W) or (H, W, C), as `read_image` gives it."""

    @property
    def mask(self) -> np.ndarray:
        """(H, W) uint8 class ids with `IGNORE`."""


@dataclass(frozen=True)
class Review:
    """What scoring told.

    Args:
        confusion: the count over all images.
        margins: margins of each image.
        intervals: intervals of the scores over all images.
        names: names of the images.
        timing: stage -> milliseconds of each image, (N,) float64.
        cases: the worst and the best images, the worst first.
    """

    confusion: Confusion
    margins: Margins
    intervals: Intervals
    names: tuple[str, ...]
    timing: dict[str, np.ndarray]
    cases: tuple[Case, ...]


def review(segmenter: Segments, samples: Iterable[Sample], *, total: int | None = None) -> Review:
    """Segment every image once, with a progress bar on a terminal.

    Args:
        total: number of samples, for the progress bar.
    """
    classes = len(segmenter.card.class_names)
    extremes = Extremes(SHOWN, segmenter.card.class_colors, segmenter.card.background)
    confusion = Confusion.empty(classes)
    rows: list[Margins] = []
    names: list[str] = []
    times: list[dict[str, float]] = []
    for sample in with_progress(samples, "report", "image", total):
        result = segmenter.segment(sample.image)
        count = Confusion.of(sample.mask, result.class_map, classes)
        confusion += count
        rows.append(Margins.of(count))
        names.append(sample.name)
        times.append(result.timing)
        extremes.add(sample.name, sample.image, sample.mask, result.class_map, count)
    stages = list(times[0]) if times else []
    margins = Margins.joined(rows, classes)
    return Review(
        confusion,
        margins,
        find_intervals(margins),
        tuple(names),
        {stage: np.array([row[stage] for row in times]) for stage in stages},
        tuple(extremes.everything()),
    )
