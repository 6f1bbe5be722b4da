"""An answer to every stroke: a random forest on smoothed copies of the picture, for the part that is on the screen.

The features are those of ilastik and of scikit-image's `multiscale_basic_features`: each channel smoothed by Gaussians
of 1, 2, 4 and 8 px, the slope of each, and its Laplacian. Trees are extremely randomized (Geurts 2006), and fitted in a
tenth of a second. The newest request ends the one before; nothing here holds the project's lock for long. What is seen
of more than `MOST_PIXELS`, such as on a 4K screen, is answered on a coarser level: each pixel for two by two of it.
Where many blocks are seen, one pixel of four is answered in all of them before the others are.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import IGNORE

from .pictures import check_level, png, tile_slices
from .project import Project
from .raster import Box, component

SIGMAS = (1, 2, 4, 8)  # px of the level that is seen
BLOCK = 256  # px, side of the parts that are computed at a time
MOST_CHANNELS = 6
MOST_PIXELS = 1920 * 1200  # of an answer
_REACH = 3 * SIGMAS[-1] + 2  # px beyond a block that its features depend on
_TREES = 16
_CHECKED = (10, 13)  # trees before which pixels whose class is certain are left out
_MOST_SAMPLES = 1500  # of a class on an image
_MOST_LABELLED = 24  # blocks of an image from which samples are taken
_MOST_BLOCKS = 48  # whose features are kept
_MOST_AT_ONCE = 8  # blocks that are answered in every pixel right away
_MOST_OTHERS = 12  # images beside the one that is seen that samples are kept of
_MOST_ANSWERS = 4  # images
_WORKERS = min(4, os.cpu_count() or 1)  # threads that predict blocks

_Key = tuple[int, int, int, int]  # image, level, column and row of a block


@dataclass(frozen=True)
class View:
    """What is seen.

    Args:
        image: number of the image.
        level: how often it is halved for the answer.
        box: the part of it, in px of the image.
    """

    image: int
    level: int
    box: Box

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """Columns and rows of the blocks of the level that the box lies on, those in its middle first."""
        step = BLOCK << self.level
        x0, y0, x1, y1 = self.box
        columns, rows = range(x0 // step, (x1 - 1) // step + 1), range(y0 // step, (y1 - 1) // step + 1)
        middle = ((x0 + x1) / 2 / step - 0.5, (y0 + y1) / 2 / step - 0.5)
        return sorted(
            ((x, y) for y in rows for x in columns), key=lambda at: abs(at[0] - middle[0]) + abs(at[1] - middle[1])
        )


@dataclass
class _Answer:
    """The newest classes of an image, 255 where there are none: (H, W) uint8 on a level."""

    level: int
    classes: np.ndarray

    def on(self, level: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the classes of rows and columns of another level, of each pixel that which lies on it."""
        at = [(lines << level) >> self.level for lines in (rows, columns)]
        return self.classes[np.ix_(*at)]


def _shape_on(level: int, height: int, width: int) -> tuple[int, int]:
    step = 1 << level
    return -(-height // step), -(-width // step)


def features(values: np.ndarray, inner: tuple[slice, slice]) -> np.ndarray:
    """Return the features of the pixels of a part of a picture.

    Args:
        values: (H, W, C) float32, with a rim around the part.
        inner: the part.

    Returns:
        (h, w, features) float32: each channel as it is; at every scale of `SIGMAS` smoothed, its slope, its Laplacian.
    """
    from scipy import ndimage

    made = [values[inner]]
    for channel in range(min(values.shape[2], MOST_CHANNELS)):
        for sigma in SIGMAS:
            smooth = ndimage.gaussian_filter(values[..., channel], sigma, mode="nearest", truncate=3.0)
            down, right = (ndimage.sobel(smooth, axis, mode="nearest")[inner] for axis in (0, 1))
            curved = ndimage.laplace(smooth, mode="nearest")[inner]
            made += [part[..., None] for part in (smooth[inner], np.hypot(down, right), curved)]
    return np.concatenate(made, axis=-1, dtype=np.float32)


def fit_forest(samples: np.ndarray, labels: np.ndarray) -> Any:
    """Return trees fitted to features (N, features) float32 of painted pixels and their classes (N,)."""
    from sklearn.ensemble import ExtraTreesClassifier

    model = ExtraTreesClassifier(
        _TREES, max_depth=14, min_samples_leaf=2, class_weight="balanced", n_jobs=1, random_state=0
    )
    return model.fit(samples, labels)


def predict(model: Any, found: np.ndarray) -> np.ndarray:
    """Return the classes (N,) uint8 of features (N, features) float32: those that `model.predict` gives.

    A pixel that has more than half of all that 16 trees can say goes through no further ones.
    """
    chances = np.zeros((len(found), len(model.classes_)))  # summed in the model's order
    sums, rows = chances, np.arange(len(found))
    for number, each in enumerate(model.estimators_):
        if number in _CHECKED:
            is_open = np.all([column <= _TREES / 2 + 1e-6 for column in sums.T], axis=0)
            chances[rows] = sums
            sums, rows, found = sums[is_open], rows[is_open], found[is_open]
        sums += each.tree_.predict(found)
    chances[rows] = sums
    return np.asarray(model.classes_[chances.argmax(axis=1)], np.uint8)


def _predict_part(model: Any, found: np.ndarray) -> np.ndarray:
    """Return the classes (h, w) uint8 of features (h, w, features)."""
    return predict(model, np.ascontiguousarray(found).reshape(-1, found.shape[-1])).reshape(found.shape[:2])


def predict_coarsely(model: Any, found: np.ndarray) -> np.ndarray:
    """Return the classes (h, w) uint8 of features (h, w, features): of each two by two pixels that of one."""
    few = _predict_part(model, found[::2, ::2])
    return few.repeat(2, axis=0).repeat(2, axis=1)[: found.shape[0], : found.shape[1]]


def predict_block(model: Any, found: np.ndarray, coarse: np.ndarray | None) -> np.ndarray:
    """Return the classes (h, w) uint8 of features (h, w, features).

    Args:
        coarse: what `predict_coarsely` has answered, if it was asked.
    """
    if coarse is None:
        return _predict_part(model, found)
    classes = coarse.copy()
    classes[1::2] = _predict_part(model, found[1::2])
    classes[::2, 1::2] = _predict_part(model, found[::2, 1::2])
    return classes


class Forest:
    """Answers views of a project in a thread of its own.

    Args:
        project: what is painted on.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._condition = threading.Condition()
        self._view: View | None = None
        self._asked = 0
        self._ended = False
        self._kept: OrderedDict[_Key, np.ndarray] = OrderedDict()
        self._samples: OrderedDict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._answers: OrderedDict[int, _Answer] = OrderedDict()
        self._waits = ""
        kinds = {state.picture.channels for state in project.images}
        self._in_colours = kinds == {1, 3}  # grey pictures among those in colours are seen as such
        self._stop_listening = project.listen(self._hear)
        self._thread = threading.Thread(target=self._work, name="forest", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop_listening()
        with self._condition:
            self._ended = True
            self._asked += 1
            self._condition.notify()
        self._thread.join()

    def ask(self, index: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for the classes of what is seen, now and after every stroke.

        Args:
            values: `box` in px of the image, and `level`.

        Returns:
            `waits`: what has to be painted before there is an answer, or "".

        Raises:
            UsageError: no such image, or a box that is none.
        """
        picture = self._project.image(index).picture
        box, level = values.get("box"), values.get("level", 0)
        if not (isinstance(box, list) and len(box) == 4 and all(type(n) in (int, float) and abs(n) < 1e9 for n in box)):
            raise UsageError("the box is wrong", expected="[x0, y0, x1, y1] in px", found=box)
        if type(level) is not int:
            raise UsageError("the level is wrong", expected="a whole number", found=level)
        check_level(level)
        x0, y0 = max(0, int(box[0])), max(0, int(box[1]))
        x1, y1 = min(picture.width, int(np.ceil(box[2]))), min(picture.height, int(np.ceil(box[3])))
        if x0 >= x1 or y0 >= y1:
            raise UsageError("the box lies beside the picture", found=box)
        while (x1 - x0) * (y1 - y0) >> 2 * level > MOST_PIXELS:
            level += 1
        with self._condition:
            self._view = View(index, level, (x0, y0, x1, y1))
            self._asked += 1
            self._condition.notify()
        return {"waits": self._waits}

    def _hear(self, event: dict[str, Any]) -> None:
        """Answer anew after a stroke."""
        if not event.get("boxes"):
            return
        with self._condition:
            if self._view is not None and self._view.image == event["image"]:
                self._asked += 1
                self._condition.notify()

    def tile(self, index: int, level: int, place: tuple[int, int]) -> tuple[bytes, int]:
        """Return a tile of the answer, 255 where there is none, and the revision of the image.

        Raises:
            UsageError: there is no answer at all, or no such tile.
        """
        picture = self._project.image(index).picture
        with self._condition:
            answer = self._answers.get(index)
            if answer is None:
                raise UsageError("the forest has no answer here", fix="paint two classes", kind="no-answer")
            places = tile_slices(_shape_on(check_level(level), picture.height, picture.width), place)
            part = answer.on(level, *(np.arange(each.start, each.stop) for each in places))
        return png(part), self._project.image(index).revision

    def accepted(self, index: int, values: Mapping[str, Any]) -> tuple[np.ndarray, None, Box]:
        """Return the answer where it is to be accepted: in a `box`, or the region around a `point`.

        Raises:
            UsageError: there is no answer there.
        """
        picture = self._project.image(index).picture
        with self._condition:
            answer = self._answers.get(index)
            if answer is None:
                raise UsageError("the forest has no answer here", fix="paint two classes", kind="no-answer")
            whole = answer.on(0, np.arange(picture.height), np.arange(picture.width))
        return choose_part(whole, values)

    def _work(self) -> None:
        import sklearn.ensemble  # noqa: F401  # which takes longer than an answer

        done = 0
        while True:
            with self._condition:
                while self._asked == done:
                    self._condition.wait()
                if self._ended:
                    return
                done, view = self._asked, self._view
            if view is None:
                continue
            try:
                self._answer(view, done)
            except Exception as error:  # the picture may be gone; painting goes on
                self._project.tell({"forest": view.image, "waits": f"no answer: {error}"})

    def _outdated(self, asked: int) -> bool:
        return self._asked != asked

    def _answer(self, view: View, asked: int) -> None:
        model = self._fit(view, asked)
        if model is None:
            return
        blocks, coarse = view.blocks, dict[tuple[int, int], np.ndarray]()

        def answer_coarsely(place: tuple[int, int], found: np.ndarray) -> np.ndarray:
            return coarse.setdefault(place, predict_coarsely(model, found))

        def answer(place: tuple[int, int], found: np.ndarray) -> np.ndarray:
            return predict_block(model, found, coarse.get(place))

        with ThreadPoolExecutor(_WORKERS) as pool:
            for predicted in (answer,) if len(blocks) <= _MOST_AT_ONCE else (answer_coarsely, answer):
                for first in range(0, len(blocks), _WORKERS):
                    some = blocks[first : first + _WORKERS]
                    found = [self._features(view.image, view.level, x, y) for x, y in some]
                    for place, classes in zip(some, pool.map(predicted, some, found), strict=True):
                        if self._outdated(asked):
                            return
                        self._put(view, place, classes)

    def _put(self, view: View, place: tuple[int, int], classes: np.ndarray) -> None:
        """Keep the classes of a block, and say so."""
        picture = self._project.image(view.image).picture
        (x, y), (height, width) = place, classes.shape
        with self._condition:
            answer = self._answer_on(view.image, view.level)
            answer.classes[y * BLOCK : y * BLOCK + height, x * BLOCK : x * BLOCK + width] = classes
        left, top = x * BLOCK << view.level, y * BLOCK << view.level
        right, bottom = left + (width << view.level), top + (height << view.level)
        box = [left, top, min(right, picture.width), min(bottom, picture.height)]
        self._project.tell({"forest": view.image, "level": view.level, "box": box, "waits": ""})

    def _answer_on(self, index: int, level: int) -> _Answer:
        """Return the answer of an image on a level: where nothing newer is said, that of the level seen before."""
        answer = self._answers.get(index)
        if answer is None or answer.level != level:
            picture = self._project.image(index).picture
            shape = _shape_on(level, picture.height, picture.width)
            last = None if answer is None else answer.on(level, np.arange(shape[0]), np.arange(shape[1]))
            answer = _Answer(level, np.full(shape, IGNORE, np.uint8) if last is None else last)
            self._answers[index] = answer
        self._answers.move_to_end(index)
        while len(self._answers) > _MOST_ANSWERS:
            self._answers.popitem(last=False)
        return answer

    def _fit(self, view: View, asked: int) -> Any:
        """Return a forest fitted to what is painted; None where that is too little, or another view is asked for."""
        own = self._take_samples(view, asked)
        if own is None:
            return None
        key = (view.image, view.level)
        self._samples[key] = own
        self._samples.move_to_end(key)
        while len(self._samples) > _MOST_OTHERS:
            self._samples.popitem(last=False)
        channels = self._channels(view.image)
        fitting = [
            each
            for (image, level), each in self._samples.items()
            if level == view.level and self._channels(image) == channels and len(each[1])
        ]
        labels = np.concatenate([each[1] for each in fitting]) if fitting else np.zeros(0, np.uint8)
        if len(np.unique(labels)) < 2:
            self._waits = "paint two classes, and every pixel gets one of them"
            self._project.tell({"forest": view.image, "waits": self._waits})
            return None
        self._waits = ""
        return fit_forest(np.concatenate([each[0] for each in fitting]), labels)

    def _take_samples(self, view: View, asked: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return features and classes of painted pixels of an image; None if another view is asked for."""
        step = 1 << view.level
        with self._project.lock:
            labels = self._project.canvas(view.image).classes[::step, ::step].copy()
        side = [-(-length // BLOCK) for length in labels.shape]
        padded = np.pad(
            labels, [(0, n * BLOCK - m) for n, m in zip(side, labels.shape, strict=True)], constant_values=IGNORE
        )
        painted = (padded != IGNORE).reshape(side[0], BLOCK, side[1], BLOCK).any(axis=(1, 3))
        places = [(int(x), int(y)) for y, x in np.argwhere(painted)]
        order = {place: number for number, place in enumerate(view.blocks)}
        places.sort(key=lambda place: order.get(place, len(order)))  # those that are seen anyway first
        rng = np.random.default_rng(0)
        found: list[np.ndarray] = []
        classes: list[np.ndarray] = []
        most = max(50, _MOST_SAMPLES // max(1, min(len(places), 6)))
        for x, y in places[:_MOST_LABELLED]:
            if self._outdated(asked):
                return None
            block = self._features(view.image, view.level, x, y)
            own = labels[y * BLOCK : (y + 1) * BLOCK, x * BLOCK : (x + 1) * BLOCK].ravel()
            flat = block.reshape(-1, block.shape[-1])
            for value in np.unique(own[own != IGNORE]):
                at = np.flatnonzero(own == value)
                at = at if len(at) <= most else rng.choice(at, most, replace=False)
                found.append(flat[at])
                classes.append(own[at])
        if not found:
            return np.zeros((0, 0), np.float32), np.zeros(0, np.uint8)
        return np.concatenate(found), np.concatenate(classes)

    def _channels(self, image: int) -> int:
        return 3 if self._in_colours else self._project.image(image).picture.channels

    def _features(self, image: int, level: int, x: int, y: int) -> np.ndarray:
        """Return the features of a block, kept or computed."""
        key = (image, level, x, y)
        kept = self._kept.get(key)
        if kept is None:
            pixels = self._project.pictures.level(self._project.picture_file(image), level)
            height, width = pixels.shape[:2]
            top, left = y * BLOCK, x * BLOCK
            end, right = min(height, top + BLOCK), min(width, left + BLOCK)
            y0, x0 = max(0, top - _REACH), max(0, left - _REACH)
            part = pixels[y0 : min(height, end + _REACH), x0 : min(width, right + _REACH)].astype(np.float32)
            kept = features(part, (slice(top - y0, end - y0), slice(left - x0, right - x0)))
            if part.shape[2] < self._channels(image):  # those of three channels that are the same
                kept = np.concatenate([kept[..., :1]] * 3 + [kept[..., 1:]] * 3, axis=-1)
            self._kept[key] = kept
            while len(self._kept) > _MOST_BLOCKS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return kept


def choose_part(classes: np.ndarray, values: Mapping[str, Any]) -> tuple[np.ndarray, None, Box]:
    """Return the predicted classes that are to be accepted: all, those in `box`, or the region of one class at `point`.

    Args:
        classes: (H, W) uint8 of the whole image, 255 where there is no answer.
        values: values of the request.

    Returns:
        (h, w) uint8, 255 where nothing is to be accepted; None; and the box.

    Raises:
        UsageError: box or point are wrong, or nothing is there.
    """
    height, width = classes.shape
    box, point = values.get("box"), values.get("point")
    if point is not None:
        if not (isinstance(point, list) and len(point) == 2 and all(type(n) in (int, float) for n in point)):
            raise UsageError("the point is wrong", expected="[x, y] in px", found=point)
        if not (0 <= point[0] < width and 0 <= point[1] < height):
            raise UsageError("the point lies beside the picture", found=point)
        x, y = int(point[0]), int(point[1])
        value = classes[y, x]
        area = None if value == IGNORE else component(classes == value, (x, y), (0, 0))
        if area is None:
            raise UsageError("nothing is predicted there", found=point, kind="no-answer")
        return np.where(area.inside, value, IGNORE).astype(np.uint8), None, area.box
    if box is None:
        box = [0, 0, width, height]
    if not (isinstance(box, list) and len(box) == 4 and all(type(n) in (int, float) and abs(n) < 1e9 for n in box)):
        raise UsageError("the box is wrong", expected="[x0, y0, x1, y1] in px", found=box)
    x0, y0 = max(0, int(box[0])), max(0, int(box[1]))
    x1, y1 = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
    if x0 >= x1 or y0 >= y1 or (classes[y0:y1, x0:x1] == IGNORE).all():
        raise UsageError("nothing is predicted there", found=box, kind="no-answer")
    return classes[y0:y1, x0:x1].copy(), None, (x0, y0, x1, y1)
