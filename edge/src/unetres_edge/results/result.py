"""What `Segmenter.segment` returns: the class map, what was asked for beside it, and how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UsageError
from ..model.background import find_background
from ..model.calibration import Calibration
from . import draw, vector
from .softmax import probabilities


@dataclass(frozen=True)
class Result:
    """A segmented image.

    Args:
        class_map: (H, W) uint8 class ids, at the image's own size; 255 where a pixel was given up for a promise.
        scores: (H, W, classes) float32 scores before the argmax, or None if not asked for.
        class_names: the name of each id.
        class_colors: the colour of each id.
        timing: milliseconds by stage: "prepare", "infer", "post", "total".
        confidence: (H, W) float32, the probability of the class in `class_map`, 0 to 1; None if not asked for. With a
            calibration it can be read as such: of pixels with 0.8, eight in ten are right, on images like those that
            it was calibrated on. Without one it is what the network claims, and networks claim too much.
        engine: name of what ran the network, such as "litert"; "" for an engine of the caller's own.
        agreement: share of labels that equal LiteRT's, the least over the self-test and the first image, where another
            engine was chosen by "auto"; None where nothing was compared.
        engine_reason: why "auto" took that engine, in words; "" where it was asked for by name.
        background: the class of which no objects and outlines are made; -1 for that whose name says so, else 0.
        activation: function that makes probabilities of the scores, as the card says it.
        calibration: calibration of the probabilities, as the card says it; None where they are the network's own.
        familiarity: share of held-out images that are as strange as this one, above 0 to 1: with a mask as poor, as
            unlike the training images, or as much in doubt; None where the card cannot tell. Of images of the same
            kind, at most one in twenty has 0.05 or less.
        warnings: where it is 0.05 or less, in words why: that the mask is likely poor, that the network is less sure
            than of the held-out images, and what of the picture is unlike the training images, the farthest first.
        doubt: bits a pixel that the network is unsure inside of regions, 0 to 1: the mean entropy of the two likeliest
            classes; None where the card does not know what is usual.
        quality: mIoU that is to be expected of the class map, 0 to 1, by how spoilt pictures came out; None where the
            card cannot tell.
    """

    class_map: np.ndarray
    scores: np.ndarray | None
    class_names: tuple[str, ...]
    class_colors: tuple[tuple[int, int, int], ...]
    timing: dict[str, float] = field(default_factory=dict)
    confidence: np.ndarray | None = None
    engine: str = ""
    agreement: float | None = None
    engine_reason: str = ""
    background: int = -1
    activation: str = "softmax"
    calibration: Calibration | None = None
    familiarity: float | None = None
    warnings: tuple[str, ...] = ()
    doubt: float | None = None
    quality: float | None = None

    def __post_init__(self) -> None:
        if self.background == -1:
            object.__setattr__(self, "background", find_background(self.class_names))

    def probabilities(self) -> np.ndarray:
        """Return the probability of every class, (H, W, classes) float32, calibrated where the file is.

        Raises:
            UsageError: the scores were not asked for.
        """
        if self.scores is None:
            raise UsageError("the result has no scores", fix="segment with scores=True")
        return probabilities(self.scores, self.activation, self.calibration)

    def expected_iou(self) -> float:
        """Return the intersection over union that the probabilities promise, mean over the classes in the class map.

        Of a class it is the sum of its probability where it is the label, over that many pixels and the sum of its
        probability elsewhere. It is worth what the probabilities are: with a calibration, and on familiar images.

        Raises:
            UsageError: the scores were not asked for.
        """
        chances = self.probabilities()
        ious = []
        for class_id in np.unique(self.class_map[self.class_map < len(self.class_names)]):
            inside = self.class_map == class_id
            right = float(chances[inside, class_id].sum(dtype=np.float64))
            missed = float(chances[..., class_id].sum(dtype=np.float64)) - right
            ious.append(right / (int(inside.sum()) + missed))
        return float(np.mean(ious)) if ious else 0.0

    def overlay(self, image: np.ndarray, *, opacity: float = 0.35) -> np.ndarray:
        """Return (H, W, 3) uint8: the uint8 image with every class but the background tinted and outlined."""
        return draw.overlay(image, self.class_map, self.class_colors, opacity=opacity, background=self.background)

    def polygons(self, class_ids: Sequence[int] | None = None) -> list[vector.Polygon]:
        """Return the regions with their holes, exact to the pixel, class by class.

        Args:
            class_ids: ids of the classes; None for every class but the background.
        """
        return vector.find_polygons(self.class_map, self._ids(class_ids))

    def rle(self, class_id: int) -> dict[str, Any]:
        """Return where a class is as COCO's run lengths: {"size": [H, W], "counts": text}."""
        (class_id,) = self._ids([class_id])
        return vector.encode_rle(self.class_map == class_id)

    def geojson(
        self, transform: Sequence[float] | None = None, class_ids: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """Return the regions as a GeoJSON FeatureCollection.

        Args:
            transform: (a, b, c, d, e, f), from px to the map: X = a x + b y + c and Y = d x + e y + f; None keeps px.
            class_ids: ids of the classes; None for every class but the background.
        """
        return vector.geojson(self.polygons(class_ids), self.class_names, self.class_colors, transform)

    def _ids(self, chosen: Sequence[int] | None) -> list[int]:
        count = len(self.class_names)
        ids = [each for each in range(count) if each != self.background] if chosen is None else list(chosen)
        wrong = [each for each in ids if each not in range(count)]
        if wrong:
            raise UsageError("no such class", expected=f"0 to {count - 1}", found=wrong[0])
        return ids

    def areas(self) -> dict[str, int]:
        """Return the number of pixels of each class."""
        counts = np.zeros(max(256, len(self.class_names)), np.int64)
        for row in range(0, len(self.class_map), 64):  # a few at a time, for the map may lie in a file
            counts += np.bincount(self.class_map[row : row + 64].ravel(), minlength=len(counts))
        counts = counts[: len(self.class_names)]
        return {name: int(count) for name, count in zip(self.class_names, counts, strict=True)}
