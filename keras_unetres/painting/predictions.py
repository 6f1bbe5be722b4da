"""What the newest file of the network says of images: predicted one at a time, in a thread, through the runtime.

The runtime is the one that a device runs, so that what is seen here is what it will give. Pictures of more than
`MOST_PIXELS` are predicted block by block, those blocks first that are on the screen: see `blocks`.
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
from unetres_edge.images.decode import read_image
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.objects.morphology import connected

from .blocks import Blocks, Place, shown_part
from .forest import choose_part
from .pictures import png
from .project import Project, nearest_tile
from .raster import Box

if TYPE_CHECKING:
    from unetres_edge import Result, Segmenter

MOST_PIXELS = 16_000_000  # of a picture that is predicted as a whole
_MOST_KEPT = 12  # predictions
_DOUBTFUL = 0.75  # a pixel whose class has less probability is one to look at
_REGION = 256  # px, side of the parts of an image that are compared
_SAMPLED = 3  # blocks down and across a large picture by which it is judged


@dataclass(frozen=True)
class Opinion:
    """What a file thinks of an image.

    Args:
        expected_iou: IoU that its probabilities promise, see `Result.expected_iou`.
        look: (F,) what the image looks like to it, see `trust.choosing.look_of`.
        warnings: what is unlike the training images, in words.
        where: the box in which most pixels are doubtful; None where none is.
    """

    expected_iou: float
    look: np.ndarray
    warnings: tuple[str, ...]
    where: Box | None


@dataclass(frozen=True)
class Prediction:
    """The prediction of an image by a model file.

    Args:
        classes: (H, W) uint8.
        confidence: (H, W) uint8, the probability of the class in 255ths.
        objects: (H, W) uint16 numbers of objects.
        opinion: judgement of the image by the network.
    """

    classes: np.ndarray
    confidence: np.ndarray
    objects: np.ndarray
    opinion: Opinion


class Predictions:
    """Predictions of a project's images, made when they are asked for.

    Args:
        project: the project.
        threads: number of threads of an inference.
    """

    def __init__(self, project: Project, threads: int = 1) -> None:
        self._project, self._threads = project, threads
        self._condition = threading.Condition()
        self._segmenter: Segmenter | None = None
        self._version = 0
        self._made: OrderedDict[int, Prediction] = OrderedDict()
        self._blocks = Blocks()
        self.opinions: dict[int, Opinion] = {}
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

        segmenter = Segmenter(file, num_threads=self._threads)
        with self._condition:
            self._segmenter, _old = segmenter, self._segmenter
            self._version += 1
            self._made.clear()
            self._blocks.clear()
            self.opinions = {}
            self._failed.clear()
            self._condition.notify()
        self._project.tell({"network": None, "version": self._version})

    def want(self, index: int, first: bool = True) -> None:
        """Ask for the prediction of an image, of a large one for what the file thinks of it; an event tells of it."""
        with self._condition:
            known = index in self.opinions if self._is_large(index) else index in self._made
            if known or (index in self._wanted and not first) or index in self._failed:
                return
            if index in self._wanted:
                self._wanted.remove(index)
            if first:
                self._wanted.appendleft(index)
            else:
                self._wanted.append(index)
            self._condition.notify()

    def _is_large(self, index: int) -> bool:
        picture = self._project.image(index).picture
        return picture.width * picture.height > MOST_PIXELS

    def _shape(self, index: int) -> tuple[int, int]:
        picture = self._project.image(index).picture
        return picture.height, picture.width

    def _check_can(self, index: int) -> None:
        """Raise UsageError if there is no file, or it cannot see an image.

        Raises:
            UsageError: so it is.
        """
        if not self.ready:
            raise UsageError("no network is trained yet", fix="paint more, or start the training", kind="no-answer")
        failed = self._failed.get(index)
        if failed:
            raise UsageError(f"the network cannot see this image: {failed}", kind="no-answer")

    def find(self, index: int) -> Prediction:
        """Return the prediction of an image that is not large.

        Raises:
            UsageError: there is none yet; it is asked for.
        """
        with self._condition:
            prediction = self._made.get(index)
            if prediction is not None:
                self._made.move_to_end(index)
                return prediction
        self._check_can(index)
        self.want(index)
        raise UsageError("the prediction is being made", fix="wait for the event", kind="no-answer")

    def tile(self, index: int, of: str, level: int, place: tuple[int, int]) -> tuple[bytes, int]:
        """Return a tile of the predicted classes or of their confidence, and the number of the file.

        Raises:
            UsageError: there is no prediction yet, or no such tile.
        """
        if self._is_large(index):
            self._check_can(index)
            with self._condition:
                values, missing = self._blocks.tile(index, self._shape(index), of, level, place)
                if missing:
                    self._blocks.want(missing)
                    self._condition.notify()
            return png(values), self._version
        prediction = self.find(index)
        values = prediction.classes if of == "network" else prediction.confidence
        return png(nearest_tile(values, level, place)), self._version

    def accepted(self, index: int, values: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray | None, Box]:
        """Return what is to be accepted: all, a `box`, or the region or object at a `point`; with `objects` numbered.

        Raises:
            UsageError: there is no prediction.
        """
        with_objects = values.get("objects", False) is True
        part, numbers, box = self._chosen(index, values, with_objects)
        if not with_objects:
            return part, None, box
        numbers[part == IGNORE] = 0
        with self._project.lock:
            last = self._project.canvas(index).last_object
        kept, at = np.unique(numbers, return_inverse=True)
        fresh = np.where(kept > 0, np.cumsum(kept > 0) + last, 0)
        if fresh.max(initial=0) >= 2**16:
            raise UsageError("no numbers are left for so many objects", found=int(fresh.max()))
        return part, fresh[at].reshape(numbers.shape).astype(np.uint16), box

    def _chosen(self, index: int, values: Mapping[str, Any], with_objects: bool) -> tuple[np.ndarray, np.ndarray, Box]:
        """Return the classes that are to be accepted, 255 elsewhere, numbers of objects, and where they lie."""
        if self._is_large(index):
            self._check_can(index)
            seen = shown_part(values, self._shape(index))
            with self._condition:
                classes = self._blocks.classes(index, seen)
            part, _, (x0, y0, x1, y1) = choose_part(classes, _moved(values, seen))
            inside = (part != IGNORE) & (part != self._project.background)
            place = (x0 + seen[0], y0 + seen[1], x1 + seen[0], y1 + seen[1])
            return part, connected(inside, 8).astype(np.int64), place
        found, point = self.find(index), values.get("point")
        classes = found.classes
        if with_objects and isinstance(point, list) and len(point) == 2 and all(type(n) in (int, float) for n in point):
            x, y = int(point[0]), int(point[1])
            inside_it = 0 <= x < classes.shape[1] and 0 <= y < classes.shape[0]
            number = int(found.objects[y, x]) if inside_it else 0
            if number:
                classes = np.where(found.objects == number, classes, IGNORE).astype(np.uint8)
                rows, columns = (np.flatnonzero((classes != IGNORE).any(axis)) for axis in (1, 0))
                box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
                values = {"box": box}
        part, _, place = choose_part(classes, values)
        x0, y0, x1, y1 = place
        return part, found.objects[y0:y1, x0:x1].astype(np.int64), place

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._ended and not (self._segmenter and (self._wanted or self._blocks.wanted)):
                    self._condition.wait()
                if self._ended:
                    return
                segmenter, version = self._segmenter, self._version
                block = self._blocks.next()
                index = block[0] if block else self._wanted.popleft()
            assert segmenter is not None
            try:
                if block:
                    self._predict_block(segmenter, version, block)
                elif self._is_large(index):
                    self._judge_large(segmenter, version, index)
                else:
                    self._predict(segmenter, version, index)
            except UnetresError as error:
                with self._condition:
                    self._failed[index] = error.message
                    self._blocks.forget(index)

    def _predict(self, segmenter: Segmenter, version: int, index: int) -> None:
        prediction = predict(segmenter, self._project.picture_file(index))
        with self._condition:
            if version != self._version:
                self._wanted.append(index)
                return
            self._made[index] = prediction
            self.opinions[index] = prediction.opinion
            while len(self._made) > _MOST_KEPT:
                self._made.popitem(last=False)
        self._project.tell({"network": index, "version": version})

    def _pixels(self, index: int) -> np.ndarray:
        pixels = self._project.pictures.level(self._project.picture_file(index), 0)
        return pixels[..., 0] if pixels.shape[2] == 1 else pixels

    def _predict_block(self, segmenter: Segmenter, version: int, block: Place) -> None:
        """Predict a block of a large picture, and tell of those that are done, a few at a time."""
        result, inner, _ = block_result(segmenter, self._pixels(block[0]), block)
        assert result.confidence is not None
        with self._condition:
            if version != self._version:
                return
            self._blocks.put(block, result.class_map[inner], levels_of(result.confidence[inner]))
            boxes = self._blocks.say()
        for box in boxes:
            self._project.tell({"network": block[0], "version": version, "box": list(box)})

    def _judge_large(self, segmenter: Segmenter, version: int, index: int) -> None:
        """Judge a large picture by some of its blocks."""
        pixels, judged = self._pixels(index), []
        for block in Blocks.spread(index, self._shape(index), _SAMPLED):
            result, inner, part = block_result(segmenter, pixels, block, scores=True)
            judged.append((opinion_of(segmenter, result, part), block, inner, result))
        opinion, block, inner, result = min(judged, key=lambda each: each[0].expected_iou)
        assert result.confidence is not None
        x, y = Blocks.corner(block)
        where = _densest(result.confidence[inner] < _DOUBTFUL)
        box = None if where is None else (where[0] + x, where[1] + y, where[2] + x, where[3] + y)
        mean = float(np.mean([each[0].expected_iou for each in judged]))
        look = np.mean([each[0].look for each in judged], axis=0)
        with self._condition:
            if version == self._version:
                self.opinions[index] = Opinion(mean, look, opinion.warnings, box)
        self._project.tell({"network": index, "version": version, "box": None})


def block_result(
    segmenter: Segmenter, pixels: np.ndarray, place: Place, scores: bool = False
) -> tuple[Result, tuple[slice, slice], np.ndarray]:
    """Return what a file says of a block, where the block lies in that, and the pixels that it saw.

    A network that sees the world at its own scale gets what is around the block, too; one for whose size pictures are
    scaled gets the block alone, which is what it was trained on (`snapshot`).
    """
    rows, columns = Blocks.slices(place, pixels.shape[:2])
    rim = 0 if segmenter.card.preprocessing.fit != "crop" else max(segmenter.card.halo or 0, segmenter.overlap)
    top, left = max(0, rows.start - rim), max(0, columns.start - rim)
    part = pixels[top : rows.stop + rim, left : columns.stop + rim]
    inner = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    return segmenter.segment(part, confidence=True, scores=scores), inner, part


def levels_of(confidence: np.ndarray) -> np.ndarray:
    """Return probabilities in 255ths, uint8."""
    return np.rint(255 * np.clip(confidence, 0, 1)).astype(np.uint8)


def opinion_of(segmenter: Segmenter, result: Result, image: np.ndarray) -> Opinion:
    """Return what a file thinks of an image (H, W) or (H, W, C), of which it gave a result with scores."""
    from ..trust.choosing import look_of

    assert result.confidence is not None
    look = look_of(segmenter.card, image, result.class_map)
    return Opinion(result.expected_iou(), look, result.warnings, _densest(result.confidence < _DOUBTFUL))


def predict(segmenter: Segmenter, file: Path) -> Prediction:
    """Return what a file says of a picture.

    Raises:
        UnetresError: it cannot be read, or the network cannot see it.
    """
    from unetres_edge.objects.separate import find_instances

    image = read_image(file, stacked=segmenter.card.stacked)
    result = segmenter.segment(image, scores=True, confidence=True)
    assert result.confidence is not None
    objects = find_instances(result).labels
    objects = np.where(objects < 2**16, objects, 0).astype(np.uint16)
    opinion = opinion_of(segmenter, result, image)
    return Prediction(result.class_map, levels_of(result.confidence), objects, opinion)


def _moved(values: Mapping[str, Any], seen: Box) -> dict[str, Any]:
    """Return a request whose places are those of a part of the picture."""
    point, box = values.get("point"), values.get("box")
    moved = dict(values)
    if point is not None:
        moved["point"] = [point[0] - seen[0], point[1] - seen[1]]
    if box is not None:
        moved["box"] = [box[0] - seen[0], box[1] - seen[1], box[2] - seen[0], box[3] - seen[1]]
    return moved


def _densest(doubtful: np.ndarray) -> Box | None:
    """Return the square in which most of a mask is true; None where nothing is."""
    if not doubtful.any():
        return None
    height, width = doubtful.shape
    best, corner = -1, (0, 0)
    for y in range(0, height, _REGION // 2):
        for x in range(0, width, _REGION // 2):
            count = int(doubtful[y : y + _REGION, x : x + _REGION].sum())
            if count > best:
                best, corner = count, (x, y)
    x, y = corner
    return (x, y, min(width, x + _REGION), min(height, y + _REGION))
