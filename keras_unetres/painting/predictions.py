"""What the newest file of the network says of images: predicted one at a time, in a thread, through the runtime.

The runtime is the one that a device runs, so that what is seen here is what it will give.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetres_edge.errors import UnetresError, UsageError
from unetres_edge.images.preprocessing import IGNORE

from .forest import choose_part
from .pictures import png
from .project import Project, nearest_tile
from .raster import Box

if TYPE_CHECKING:
    from unetres_edge import Segmenter

MOST_PIXELS = 16_000_000  # of a picture that is predicted as a whole
_MOST_KEPT = 12  # predictions
_DOUBTFUL = 0.75  # a pixel whose class has less probability is one to look at
_REGION = 256  # px, side of the parts of an image that are compared


@dataclass(frozen=True)
class Prediction:
    """What a file says of an image.

    Args:
        classes: (H, W) uint8.
        confidence: (H, W) uint8, the probability of the class in 255ths.
        objects: (H, W) uint16 numbers of objects.
        doubt: share of pixels whose class is doubtful.
        where: the box in which most of them are.
    """

    classes: np.ndarray
    confidence: np.ndarray
    objects: np.ndarray
    doubt: float
    where: Box


class Predictions:
    """Predictions of a project's images, made when they are asked for.

    Args:
        project: the project.
        threads: of an inference.
    """

    def __init__(self, project: Project, threads: int = 1) -> None:
        self._project, self._threads = project, threads
        self._condition = threading.Condition()
        self._segmenter: Segmenter | None = None
        self._version = 0
        self._made: OrderedDict[int, Prediction] = OrderedDict()
        self.doubts: dict[int, tuple[float, Box]] = {}
        self._wanted: deque[int] = deque()
        self._failed: dict[int, str] = {}
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="predictions", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        with self._condition:
            self._ended = True
            self._condition.notify()
        self._thread.join()
        if self._segmenter is not None:
            self._segmenter.close()

    @property
    def ready(self) -> bool:
        """Whether there is a file."""
        return self._segmenter is not None

    def use(self, file: Path) -> None:
        """Predict by another file from now on; earlier predictions are forgotten.

        Raises:
            ModelError: the file cannot be run.
            FileSystemError: it cannot be read.
        """
        from unetres_edge import Segmenter

        made = Segmenter(file, num_threads=self._threads)
        with self._condition:
            self._segmenter, _old = made, self._segmenter
            self._version += 1
            self._made.clear()
            self.doubts.clear()
            self._failed.clear()
            self._condition.notify()
        self._project.tell({"network": None, "version": self._version})

    def want(self, index: int, first: bool = True) -> None:
        """Ask for the prediction of an image; an event tells when it is there."""
        with self._condition:
            if index in self._made or (index in self._wanted and not first) or index in self._failed:
                return
            if index in self._wanted:
                self._wanted.remove(index)
            if first:
                self._wanted.appendleft(index)
            else:
                self._wanted.append(index)
            self._condition.notify()

    def find(self, index: int) -> Prediction:
        """Return the prediction of an image.

        Raises:
            UsageError: there is none yet; it is asked for.
        """
        picture = self._project.image(index).picture
        with self._condition:
            found = self._made.get(index)
            if found is not None:
                self._made.move_to_end(index)
                return found
            failed = self._failed.get(index)
        if not self.ready:
            raise UsageError("no network is trained yet", fix="paint more, or start the training", kind="no-answer")
        if failed:
            raise UsageError(f"the network cannot see this image: {failed}", kind="no-answer")
        if picture.width * picture.height > MOST_PIXELS:
            raise UsageError("the picture is too large to be predicted as a whole", kind="no-answer")
        self.want(index)
        raise UsageError("the prediction is being made", fix="wait for the event", kind="no-answer")

    def tile(self, index: int, of: str, level: int, place: tuple[int, int]) -> tuple[bytes, int]:
        """Return a tile of the predicted classes or of their confidence, and the number of the file.

        Raises:
            UsageError: there is no prediction yet, or no such tile.
        """
        found = self.find(index)
        values = found.classes if of == "network" else found.confidence
        return png(nearest_tile(values, level, place)), self._version

    def accepted(self, index: int, values: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray | None, Box]:
        """Return what is to be accepted: all, a `box`, or the region or object at a `point`; with `objects` numbered.

        Raises:
            UsageError: there is no prediction.
        """
        found = self.find(index)
        with_objects = values.get("objects", False) is True
        point = values.get("point")
        classes = found.classes
        if with_objects and isinstance(point, list) and len(point) == 2 and all(type(n) in (int, float) for n in point):
            x, y = int(point[0]), int(point[1])
            inside = 0 <= x < classes.shape[1] and 0 <= y < classes.shape[0]
            number = int(found.objects[y, x]) if inside else 0
            if number:
                classes = np.where(found.objects == number, classes, IGNORE).astype(np.uint8)
                rows, columns = (np.flatnonzero((classes != IGNORE).any(axis)) for axis in (1, 0))
                box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
                values = {"box": box}
        part, _, place = choose_part(classes, values)
        if not with_objects:
            return part, None, place
        x0, y0, x1, y1 = place
        numbers = found.objects[y0:y1, x0:x1].astype(np.int64)
        numbers[part == IGNORE] = 0
        with self._project.lock:
            last = self._project.canvas(index).last_object
        kept, at = np.unique(numbers, return_inverse=True)
        fresh = np.where(kept > 0, np.cumsum(kept > 0) + last, 0)
        if fresh.max(initial=0) >= 2**16:
            raise UsageError("no numbers are left for so many objects", found=int(fresh.max()))
        return part, fresh[at].reshape(numbers.shape).astype(np.uint16), place

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._ended and not (self._wanted and self._segmenter is not None):
                    self._condition.wait()
                if self._ended:
                    return
                index, segmenter, version = self._wanted.popleft(), self._segmenter, self._version
            assert segmenter is not None
            try:
                made = predict(segmenter, self._project.picture_file(index))
            except UnetresError as error:
                with self._condition:
                    self._failed[index] = error.message
                continue
            with self._condition:
                if version != self._version:
                    self._wanted.append(index)
                    continue
                self._made[index] = made
                self.doubts[index] = (made.doubt, made.where)
                while len(self._made) > _MOST_KEPT:
                    self._made.popitem(last=False)
            self._project.tell({"network": index, "version": version})


def predict(segmenter: Segmenter, file: Path) -> Prediction:
    """Return what a file says of a picture.

    Raises:
        UnetresError: it cannot be read, or the network cannot see it.
    """
    from unetres_edge.objects.separate import find_instances

    result = segmenter.segment(file, scores=True, confidence=True)
    assert result.confidence is not None
    confidence = np.rint(255 * np.clip(result.confidence, 0, 1)).astype(np.uint8)
    objects = find_instances(result).labels
    objects = np.where(objects < 2**16, objects, 0).astype(np.uint16)
    doubtful = result.confidence < _DOUBTFUL
    return Prediction(result.class_map, confidence, objects, float(doubtful.mean()), _densest(doubtful))


def _densest(doubtful: np.ndarray) -> Box:
    """Return the square in which most of a mask is true."""
    height, width = doubtful.shape
    best, place = -1, (0, 0)
    for y in range(0, height, _REGION // 2):
        for x in range(0, width, _REGION // 2):
            count = int(doubtful[y : y + _REGION, x : x + _REGION].sum())
            if count > best:
                best, place = count, (x, y)
    x, y = place
    return (x, y, min(width, x + _REGION), min(height, y + _REGION))
