"""Which image to paint next: where the network is least sure, and what is unlike what is painted; each with a reason.

The choice is that of `unetres next`, see `trust.choosing`: by the newest file, those of the lowest expected IoU that
differ most from each other and from the painted ones. Without a file, those that differ, by the same statistics of
pictures that tell unfamiliar ones.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.images.features import picture_features

from ..trust.choosing import Pick, choose
from .project import Project

if TYPE_CHECKING:
    from .predictions import Opinion, Predictions

MOST_WANTED = 200  # images that the network is asked about
MOST_DESCRIBED = 2000
AT_A_TIME = 10  # that are chosen together; the others follow by their expected IoU
_PATIENCE = 2.0  # seconds in which pictures are described for one answer; the next one goes on
_UNLIKE = 0.5  # of the distance of the farthest
_MOST_WARNINGS = 2


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
        self._known: dict[int, np.ndarray | None] = {}  # None of a picture that cannot be read
        self._until = 0.0

    def __call__(self) -> list[dict[str, Any]]:
        """Return images to paint, the most useful first: `index`, `score` of 0 to 1, `why`, and `box` or None.

        Rows with `again` are of images for which there was no time: another call knows more.
        """
        self._until = time.monotonic() + _PATIENCE
        images = self._project.images
        count = min(len(images), MOST_DESCRIBED)
        painted = [i for i in range(count) if images[i].done or images[i].picture.ground]
        begun = [i for i in painted if not images[i].complete]
        others = set(painted)
        free = [i for i in range(count) if i not in others and not images[i].changed and not images[i].complete]
        opinions = {} if self._predictions is None else dict(self._predictions.opinions)
        told = [index for index in free if index in opinions]
        if told:
            rows = _by_network(told, [index for index in painted if index in opinions], opinions)
            rows[AT_A_TIME:AT_A_TIME] = _of_begun(begun, opinions)
            rows += [_row(index, "the network has not looked at it yet") for index in free if index not in opinions]
        else:
            rows = [*self._by_pictures(free, painted), *_of_begun(begun, opinions)]
        for place, row in enumerate(rows):
            row["score"] = round(1 - place / len(rows), 4)
        return rows

    def _by_pictures(self, free: list[int], painted: list[int]) -> list[dict[str, Any]]:
        """Return images in the order in which their pictures differ from the painted ones and from each other."""
        known = {index: self._described(index) for index in (*painted, *free)}
        usable = [index for index in free if known[index] is not None]
        labelled = [known[index] for index in painted if known[index] is not None]
        rows = []
        if usable:
            looks = np.array([known[index] for index in usable])
            picks = choose(None, looks, np.array(labelled).reshape(-1, looks.shape[1]), len(usable))
            most = max((pick.distance or 0.0 for pick in picks), default=0.0)
            rows = [_row(usable[pick.place], _of_picture(pick, most, bool(labelled))) for pick in picks]
        rows += [
            _row(index, "its picture cannot be read") for index in free if index in self._known and known[index] is None
        ]
        return rows + [
            _row(index, "its picture is not looked at yet") | {"again": True}
            for index in free
            if index not in self._known
        ]

    def _described(self, index: int) -> np.ndarray | None:
        """Return statistics of a picture, made once; None where there is no time for it, or it cannot be read."""
        if index not in self._known:
            if time.monotonic() > self._until:
                return None
            try:
                file = self._project.picture_file(index)
                self._known[index] = picture_features(self._project.pictures.in_colours(file))
            except Exception:  # a picture that cannot be read is named when it is opened
                self._known[index] = None
        return self._known[index]


def _row(index: int, why: str, box: Any = None) -> dict[str, Any]:
    return {"index": index, "score": 0.0, "why": why, "box": None if box is None else list(box)}


def _of_picture(pick: Pick, most: float, beside: bool) -> str:
    if pick.distance is None:
        return "nothing is painted yet; it is the most like all others"
    if pick.distance >= _UNLIKE * most:
        return "it is unlike all that is painted" if beside else "it is unlike those before it"
    return "it is like what is painted" if beside else "it is like those before it"


def _by_network(told: list[int], painted: list[int], opinions: dict[int, Opinion]) -> list[dict[str, Any]]:
    """Return images by what the newest file thinks of them."""
    values = np.array([opinions[index].expected_iou for index in told])
    looks = np.array([opinions[index].look for index in told])
    labelled = np.array([opinions[index].look for index in painted]).reshape(-1, looks.shape[1])
    chosen = [told[pick.place] for pick in choose(values, looks, labelled, AT_A_TIME)]
    rest = [told[place] for place in np.argsort(values, kind="stable") if told[place] not in set(chosen)]
    return [_row(index, _opinion(opinions[index]), opinions[index].where) for index in (*chosen, *rest)]


def _opinion(opinion: Opinion) -> str:
    return "; ".join([f"the network expects an IoU of {opinion.expected_iou:.2f}", *opinion.warnings[:_MOST_WARNINGS]])


def _of_begun(begun: list[int], opinions: dict[int, Opinion]) -> list[dict[str, Any]]:
    """Return images that are painted in part, where the network is unsure of the rest."""
    known = [index for index in begun if index in opinions and opinions[index].where is not None]
    known.sort(key=lambda index: opinions[index].expected_iou)
    return [_row(index, f"begun; {_opinion(opinions[index])}", opinions[index].where) for index in known]
