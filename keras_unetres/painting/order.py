"""Which image to paint next: where the network is least sure, and what is unlike what is painted; each with a reason.

Doubt is the share of pixels whose class has less than three quarters of the probability, by the newest file. How unlike
an image is, is told without a network: by the distances between statistics of pictures, from each to the nearest
painted one (farthest-first, Gonzalez 1985; Sener and Savarese 2018).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from .project import Project

if TYPE_CHECKING:
    from .predictions import Predictions

MOST_WANTED = 200  # images that the network is asked about
MOST_DESCRIBED = 2000
_SIDE = 64  # px, of the picture that is described
_PATIENCE = 2.0  # seconds in which pictures are described for one answer; the next one goes on
_SHARE = 0.5  # that distance counts beside doubt


def unpainted(project: Project) -> list[int]:
    """Return the images that nothing is painted on and whose pictures are there, in order."""
    return [
        index
        for index, state in enumerate(project.images)
        if not state.done and not state.picture.ground and not state.changed and not state.complete
    ][:MOST_WANTED]


class Order:
    """Says which images teach most.

    Args:
        project: the project.
        predictions: of the newest file, or None.
    """

    def __init__(self, project: Project, predictions: Predictions | None = None) -> None:
        self._project, self._predictions = project, predictions
        self._known: dict[int, np.ndarray] = {}
        self._until = 0.0

    def __call__(self) -> list[dict[str, Any]]:
        """Return images to paint, the most useful first: `index`, `score` of 0 to 1, `why`, and `box` or None."""
        self._until = time.monotonic() + _PATIENCE
        images = self._project.images
        count = min(len(images), MOST_DESCRIBED)
        painted = [i for i in range(count) if images[i].done or images[i].picture.ground]
        begun = set(painted)
        open_ones = [i for i in range(count) if i not in begun and not images[i].changed and not images[i].complete]
        far = self._distances(open_ones, painted)
        doubts = {} if self._predictions is None else dict(self._predictions.doubts)
        rows = []
        for index in open_ones:
            distance, doubt = far.get(index, 0.0), doubts.get(index)
            score = distance if doubt is None else (1 - _SHARE) * min(1.0, 4 * doubt[0]) + _SHARE * distance
            why = []
            if doubt is not None:
                why.append(f"the network is unsure of {doubt[0]:.0%} of its pixels")
            if index not in far:
                why.append("its picture is not looked at yet: ask again")
            elif not painted:
                why.append("nothing is painted yet" + ("; it is the most like all others" if distance == 1 else ""))
            elif distance >= 0.5:
                why.append("it is unlike all that is painted")
            if not why:
                why.append("it is like what is painted")
            box = None if doubt is None or doubt[0] == 0 else list(doubt[1])
            rows.append({"index": index, "score": round(float(score), 4), "why": "; ".join(why), "box": box})
        for index in painted:  # what is begun, where the network is unsure of the rest
            doubt = doubts.get(index)
            if doubt is not None and not images[index].complete:
                score = min(1.0, 4 * doubt[0]) / 2
                why_text = f"begun; the network is unsure of {doubt[0]:.0%} of its pixels"
                rows.append({"index": index, "score": round(score, 4), "why": why_text, "box": list(doubt[1])})
        return sorted(rows, key=lambda row: (-row["score"], row["index"]))

    def _distances(self, others: list[int], painted: list[int]) -> dict[int, float]:
        """Return how far each image is from the nearest painted one, the farthest 1; with none, how near the middle."""
        known = {index: self._described(index) for index in (*painted, *others)}
        usable = [index for index in others if known[index] is not None]
        rows = np.array([known[index] for index in usable], np.float64)
        if not len(usable):
            return {}
        base = np.array([known[index] for index in painted if known[index] is not None], np.float64)
        everything = np.concatenate([rows, base]) if len(base) else rows
        spread = everything.std(0)
        spread[spread == 0] = 1
        rows = rows / spread
        if len(base):
            found = np.sqrt(((rows[:, None] - (base / spread)[None]) ** 2).sum(-1)).min(1)
        else:
            away = np.sqrt(((rows - np.median(rows, 0)) ** 2).sum(-1))
            found = away.max() - away
        most = found.max()
        return {index: float(value / most) if most else 0.0 for index, value in zip(usable, found, strict=True)}

    def _described(self, index: int) -> np.ndarray | None:
        """Return statistics of a picture, made once: means, spreads and slopes of its channels, and of its quarters."""
        if index not in self._known:
            if time.monotonic() > self._until:
                return None
            try:
                self._known[index] = describe(self._small(index))
            except Exception:  # a picture that cannot be read is named when it is opened
                return None
        return self._known[index]

    def _small(self, index: int) -> np.ndarray:
        path, picture = self._project.picture_file(index), self._project.image(index).picture
        level = max(0, (min(picture.width, picture.height) // _SIDE).bit_length() - 1)
        values = self._project.pictures.level(path, level).astype(np.float32)
        return values / np.float32(255 if picture.dtype == "uint8" else 65535 if picture.dtype == "uint16" else 1)


def describe(values: np.ndarray) -> np.ndarray:
    """Return statistics of (H, W, C) float32 that tell kinds of pictures apart, the same number for any size."""
    grey = values[..., :3].mean(-1)
    down, right = np.diff(grey, axis=0), np.diff(grey, axis=1)
    marks = np.percentile(grey, (1, 10, 25, 50, 75, 90, 99))
    colour = values[..., :3].mean((0, 1))
    colour = np.pad(colour, (0, 3 - len(colour)), mode="edge")
    slopes = [np.abs(part).mean() if part.size else 0.0 for part in (down, right)]
    return np.array([*marks, *colour, grey.std(), *slopes], np.float64)
