"""What a segmenter makes of labelled images: scored one by one for a report, or drawn while it is trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from unetres_edge import Card
from unetres_edge.images.bands import bands
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.results.result import Result

from ..machine.progress_bar import with_progress
from ..objects import Separation, find_instances, object_classes
from ..pages.cases import Extremes
from ..pages.pictures import overlay
from ..pages.report import SHOWN, Review
from ..scores.bootstrap import Margins, find_intervals
from ..scores.confusion import Confusion
from ..scores.instances import InstanceScores
from ..scores.reliability import Reliability, measure_reliability

_MOST_PIXELS = 4_096  # of an image, whose probabilities are counted
_MOST_SCORES = 1 << 26  # of an image; where it has more, its probabilities are not looked at


class Segments(Protocol):
    """Anything that segments images as `Segmenter` does."""

    @property
    def card(self) -> Card:
        """What the class ids mean."""

    def segment(self, image: np.ndarray, *, scores: bool = False) -> Result:
        """Give every pixel a class; with `scores` the result has those of the network, too."""


class Sample(Protocol):
    """An image with its mask, such as a `Record`."""

    @property
    def name(self) -> str:
        """Name of the sample."""

    @property
    def image(self) -> np.ndarray:
        """(H, W) or (H, W, C), as `read_image` gives it."""

    @property
    def mask(self) -> np.ndarray:
        """(H, W) uint8 class ids with `IGNORE`."""

    @property
    def instances(self) -> np.ndarray | None:
        """(H, W) integers, 0 for no object, or None where the data set has none."""


class Indexed(Protocol):
    """Samples, each of which is read when it is asked for."""

    def __getitem__(self, index: int, /) -> Sample:
        """Read a sample."""


def review(segmenter: Segments, samples: Iterable[Sample], *, total: int | None = None) -> Review:
    """Segment every image once, with a progress bar on a terminal; where samples tell objects apart, these count too.

    Args:
        total: number of samples, for the progress bar.
    """
    card = segmenter.card
    how = _separation(card)
    objects = InstanceScores()
    classes = len(card.class_names)
    extremes = Extremes(SHOWN, card.class_colors, card.background, card.show)
    reliable: Reliability | None = None
    confusion = Confusion.empty(classes)
    rows: list[Margins] = []
    names: list[str] = []
    times: list[dict[str, float]] = []
    for sample in with_progress(samples, "report", "image", total):
        few = sample.mask.size * classes <= _MOST_SCORES or (how is not None and sample.instances is not None)
        result = segmenter.segment(sample.image, scores=card.head != "argmax" and few)
        if how is not None and sample.instances is not None:
            objects.add(sample.instances, find_instances(result, how).labels, sample.mask == IGNORE)
        reliability = _reliability(result, sample.mask, card, len(names))
        if reliability is not None:
            reliable = reliability if reliable is None else reliable + reliability
        count = Confusion.of(sample.mask, result.class_map, classes)
        confusion += count
        rows.append(Margins.of(count))
        names.append(sample.name)
        times.append(result.timing)
        extremes.add(sample.name, sample.image, sample.mask, result.class_map, count)
        del sample, result  # before the next one is decoded
    stages = list(times[0]) if times else []
    margins = Margins.joined(rows, classes)
    return Review(
        confusion,
        margins,
        find_intervals(margins),
        tuple(names),
        {stage: np.array([row[stage] for row in times]) for stage in stages},
        tuple(extremes.everything()),
        objects if len(objects.images) == len(names) > 0 else None,
        None if reliable is None else {"calibrated": card.calibration is not None, **reliable.to_dict()},
    )


def _reliability(result: Result, mask: np.ndarray, card: Card, number: int) -> Reliability | None:
    """Return how right the probabilities of some labelled pixels are; None where there are none."""
    if result.scores is None:
        return None
    labelled = _some_labelled(mask, number)
    if not len(labelled):
        return None
    scores = result.scores.reshape(-1, len(card.class_names))[labelled]
    every = np.ones(len(labelled), bool)
    truth = mask.ravel()[labelled]
    return measure_reliability(scores, truth, card.activation, card.class_names, [(every, card.calibration)])


def _some_labelled(mask: np.ndarray, number: int) -> np.ndarray:
    """Return the places (n,) int64 of some labelled pixels of a flat mask, in order: all, or drawn by a number."""
    pieces = list(bands(mask.shape))
    counts = np.array([np.count_nonzero(mask[rows] != IGNORE) for rows in pieces])
    total = int(counts.sum())
    few = total <= _MOST_PIXELS
    rng = np.random.default_rng(number)
    wanted = np.arange(total) if few else np.sort(rng.choice(total, _MOST_PIXELS, replace=False))
    starts = np.cumsum(counts) - counts
    found = []
    for rows, start, count in zip(pieces, starts, counts, strict=True):
        here = wanted[(wanted >= start) & (wanted < start + count)] - start
        found.append(rows.start * mask.shape[1] + np.flatnonzero(mask[rows] != IGNORE)[here])
    return np.concatenate(found)


def _separation(card: Card) -> Separation | None:
    """Return how objects are found, or None where the model has no scores or no class that objects are of."""
    how = Separation()
    has_objects = object_classes(card.class_names, how, card.background)
    return how if card.head != "argmax" and has_objects else None


class Watched:
    """A few samples whose predictions are looked at while a network is trained; called, it draws them.

    Args:
        segmenter: a segmenter of the weights of the moment.
        samples: the validation part, such as `Records`; each is taken from it when it is drawn, and none is kept.
        places: indices of those that are looked at.

    Attributes:
        truths: name -> the image with its mask laid over it, (h, w, 3) uint8.
    """

    def __init__(self, segmenter: Segments, samples: Indexed, places: Iterable[int]) -> None:
        self._segmenter, self._samples = segmenter, samples
        self._places = tuple(places)
        self.truths = dict(self._draw(index, predicted=False) for index in self._places)

    def __call__(self) -> dict[str, np.ndarray]:
        """Return name -> the image with the prediction laid over it, (h, w, 3) uint8."""
        return dict(self._draw(index, predicted=True) for index in self._places)

    def _draw(self, index: int, *, predicted: bool) -> tuple[str, np.ndarray]:
        sample = self._samples[index]
        class_map = self._segmenter.segment(sample.image).class_map if predicted else sample.mask
        return sample.name, self._drawn(sample.image, class_map)

    def _drawn(self, image: np.ndarray, class_map: np.ndarray) -> np.ndarray:
        card = self._segmenter.card
        return overlay(image, class_map, card.class_colors, card.background, card.show)
