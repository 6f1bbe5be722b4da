"""What is painted on one image: class ids and objects, changed by actions, and by undoing them.

A canvas is what replaying the image's actions gives, whenever it is replayed: each action is a function of the pixels
before it and of what its line of the journal says. The pixels that an action changed are kept, compressed, so that it
is undone at once; beyond `MOST_KEPT` bytes of them an undo replays the actions from the ground.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unetres_edge.errors import UsageError
from unetres_edge.images.preprocessing import IGNORE

from . import raster
from .raster import Area, Box

MOST_KEPT = 128 << 20  # bytes of pixels as they were before
MOST_OBJECTS = 2**16 - 1
TOOLS = ("brush", "polygon", "lasso", "fill", "split", "merge")

ReadPatch = Callable[[str], tuple[np.ndarray, np.ndarray | None]]  # by digest: class ids, and object ids or None


@dataclass(frozen=True)
class Before:
    """Pixels as they were before an action.

    Args:
        box: box that they lie in.
        classes: compressed uint8.
        objects: compressed uint16, or None where no image had objects.
    """

    box: Box
    classes: bytes
    objects: bytes | None

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return len(self.classes) + len(self.objects or b"")


class Canvas:
    """The class and the object of every pixel of one image.

    Args:
        shape: (height, width).
        ground: ground that it begins with: (H, W) uint8 class ids and (H, W) uint16 objects or None; None for nothing
            painted.
        read_patch: gives the pixels of an accepted prediction by their digest.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        ground: tuple[np.ndarray, np.ndarray | None] | None,
        read_patch: ReadPatch,
    ) -> None:
        self.shape = shape
        self._ground = ground
        self._read_patch = read_patch
        self.done: list[Mapping[str, Any]] = []
        self.undone: list[Mapping[str, Any]] = []
        self._before: list[Before | None] = []
        self._kept = 0
        self._prepared: tuple[Any, Area | None] = (None, None)  # points, and the area that they were found to cover
        self._clear()

    def _clear(self) -> None:
        classes, objects = self._ground or (np.full(self.shape, IGNORE, np.uint8), None)
        self.classes = classes.copy() if self._ground else classes
        self.objects = None if objects is None else objects.copy()
        self.last_object = 0 if objects is None else int(objects.max(initial=0))

    @property
    def whole(self) -> Box:
        """The box of the whole image."""
        return (0, 0, self.shape[1], self.shape[0])

    def check(self, action: Mapping[str, Any]) -> dict[str, Any]:
        """Return an action as it is to be journalled: with the numbers of new objects.

        What is refused is refused here, and never when the journal is replayed.

        Raises:
            UsageError: it can change nothing, such as a split that misses the object; or it would take too long.
        """
        checked = dict(action)
        if action["tool"] in ("split", "merge") and (self.objects is None or not self._has(action["object"])):
            raise UsageError("no such object on this image", found=action["object"], fix="pick one")
        if action["tool"] == "merge":
            other = action.get("other")
            if other == action["object"] or not self._has(other):
                raise UsageError("objects are merged with another one of this image", found=other, fix="pick two")
        if action["tool"] == "split":
            part = self._split_part(action)
            if part is None:
                raise UsageError("the line does not part the object", fix="draw it right through the object")
            checked["new"] = self._new_object()
        elif action["object"] == "new":
            checked["object"] = self._new_object()
        if action["tool"] not in ("split", "merge"):
            self._prepared = (checked["points"], self._area(checked))
        return checked

    def _has(self, number: object) -> bool:
        return type(number) is int and number > 0 and self.objects is not None and bool((self.objects == number).any())

    def _new_object(self) -> int:
        if self.last_object >= MOST_OBJECTS:
            raise UsageError("no number is left for another object", expected=f"at most {MOST_OBJECTS} on an image")
        return self.last_object + 1

    def paint(self, action: Mapping[str, Any]) -> Box | None:
        """Do an action of the journal that paints; return the box that may have changed, None for nothing."""
        self.undone.clear()
        self.done.append(action)
        return self._do(action)

    def undo(self) -> Box | None:
        """Undo the last action that is not undone; return the box, None where there is none or it changed nothing."""
        if not self.done:
            return None
        action, before = self.done.pop(), self._before.pop()
        self.undone.append(action)
        if before is not None:
            self._put_back(before)
            return before.box if before.classes else None
        done, self.done, self._before, self._kept = self.done, [], [], 0
        self._clear()
        for each in done:
            self.done.append(each)
            self._do(each)
        return self.whole

    def redo(self) -> Box | None:
        """Do the last undone action again; return the box, None where there is none or it changed nothing."""
        if not self.undone:
            return None
        action = self.undone.pop()
        self.done.append(action)
        return self._do(action)

    def _put_back(self, before: Before) -> None:
        x0, y0, x1, y1 = before.box
        self._kept -= before.size
        if not before.classes:
            return
        shape = (y1 - y0, x1 - x0)
        self.classes[y0:y1, x0:x1] = np.frombuffer(zlib.decompress(before.classes), np.uint8).reshape(shape)
        if self.objects is not None:
            old = before.objects
            self.objects[y0:y1, x0:x1] = 0 if old is None else _unpacked(old, shape)

    def _keep(self, box: Box | None) -> None:
        """Keep the pixels of a box as they are, and forget the oldest ones beyond `MOST_KEPT`."""
        if box is None:
            self._before.append(Before((0, 0, 0, 0), b"", None))
            return
        x0, y0, x1, y1 = box
        classes = zlib.compress(self.classes[y0:y1, x0:x1].tobytes(), 1)
        objects = None if self.objects is None else zlib.compress(self.objects[y0:y1, x0:x1].tobytes(), 1)
        before = Before(box, classes, objects)
        self._before.append(before)
        self._kept += before.size
        at = 0
        while self._kept > MOST_KEPT and at < len(self._before) - 1:
            old = self._before[at]
            if old is not None:
                self._kept -= old.size
                self._before[at] = None
            at += 1

    def _do(self, action: Mapping[str, Any]) -> Box | None:
        if action["do"] == "accept":
            return self._accept(action)
        tool = action["tool"]
        if tool == "merge":
            assert self.objects is not None
            other = self.objects == action["other"]
            area = _bounded(other)
            value = self._class_of(action["object"])
        elif tool == "split":
            area, value = self._split_part(action), None
        else:
            points, area = self._prepared
            if points is not action["points"]:
                area = self._area(action)
            value = action["class"]
        self._prepared = (None, None)
        self._keep(None if area is None else area.box)
        if area is None:
            return None
        number = action["new"] if tool == "split" else action["object"]
        if value is not None:
            self.classes[area.slices][area.inside] = value
        self._number(area, number)
        return area.box

    def _number(self, area: Area, number: int) -> None:
        if number and self.objects is None:
            self.objects = np.zeros(self.shape, np.uint16)
        if self.objects is not None:
            self.objects[area.slices][area.inside] = number
        self.last_object = max(self.last_object, number)

    def _area(self, action: Mapping[str, Any]) -> Area | None:
        points = [tuple(point) for point in action["points"]]
        if action["tool"] == "brush":
            return raster.brush(points, action["size"], self.shape)
        if action["tool"] == "fill":
            return raster.fill(points[0], self.classes, self.objects)
        return raster.polygon(points, self.shape)

    def _split_part(self, action: Mapping[str, Any]) -> Area | None:
        """Return the pixels of an object on one side of a line; None where all of them are on one side."""
        assert self.objects is not None
        area = _bounded(self.objects == action["object"])
        if area is None or len(action["points"]) < 2:
            return None
        first, last = tuple(action["points"][0]), tuple(action["points"][-1])
        inside = area.inside & raster.beyond(first, last, area.box)
        return Area(area.box, inside) if inside.any() and (inside != area.inside).any() else None

    def _class_of(self, number: int) -> int:
        """Return the class of most pixels of an object."""
        return int(np.bincount(self.classes[self.objects == number], minlength=256).argmax())

    def _accept(self, action: Mapping[str, Any]) -> Box | None:
        """Copy pixels where nothing is painted and they are not 255; with `over`, all that differ, without objects."""
        x0, y0, x1, y1 = box = tuple(action["box"])
        classes, objects = self._read_patch(action["pixels"])
        self._keep(box)
        here = self.classes[y0:y1, x0:x1]
        taken = here != classes if action.get("over") else (here == IGNORE) & (classes != IGNORE)
        here[taken] = classes[taken]
        if objects is not None and self.objects is None and objects.any():
            self.objects = np.zeros(self.shape, np.uint16)
        if self.objects is not None:
            numbers = np.zeros(classes.shape, np.uint16) if objects is None else objects
            self.objects[y0:y1, x0:x1][taken] = numbers[taken]
            self.last_object = max(self.last_object, int(numbers.max(initial=0)))
        return box


def _unpacked(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    return np.frombuffer(zlib.decompress(data), np.uint16).reshape(shape)


def _bounded(mask: np.ndarray) -> Area | None:
    """Return the true pixels of a mask with the box around them."""
    rows = np.flatnonzero(mask.any(1))
    if not len(rows):
        return None
    part = mask[rows[0] : rows[-1] + 1]
    columns = np.flatnonzero(part.any(0))
    x0, x1 = int(columns[0]), int(columns[-1]) + 1
    return Area((x0, int(rows[0]), x1, int(rows[-1]) + 1), part[:, x0:x1])
