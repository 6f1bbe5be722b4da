"""A project: pictures, what is painted on them, and the journal; on the disk an ordinary data set folder.

`images/` links to the pictures, `masks/` and `instances/` are what replaying the journal gives, written a second after
the last stroke. Every method may be called from any thread; an action is on the disk when its method returns.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import secrets
import stat
import threading
import time
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from unetres_edge.errors import DataError, FileSystemError, MaskError, UnetresError, UsageError, shortened
from unetres_edge.files import file_state, make_folder, write_bytes
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.model.background import find_background, is_background

from ..runs.lock import hold
from . import raster
from .canvas import MOST_OBJECTS, TOOLS, Canvas
from .folder import FOLDER, Picture, read_project
from .journal import FILE as JOURNAL
from .journal import Journal
from .pictures import Pictures, check_level, png, tile_slices
from .raster import Box
from .stored import is_digest, pixel_digest, read_pixels, store_pixels

QUIET = 1.0  # seconds after the last stroke after which a mask is written
LONGEST = 10.0  # seconds after which it is written, however much is painted
MOST_CANVASES = 600_000_000  # pixels of canvases that are held
_MARK = "unetres"  # key of the text in a mask that says what it was written from
_MAX_ID = 64
_ACTIONS = ("stroke", "accept", "complete", "undo", "redo")

Listener = Callable[[dict[str, Any]], None]


@dataclass
class ImageState:
    """What is known of an image without its pixels, from the journal.

    Args:
        picture: the file.
        actions: lines of the journal about it.
        revision: how many they are.
        complete: whether what is not painted is background, and not unknown.
        done: of the actions that paint, those in effect.
        undone: those that can be done again.
        answers: id of a request -> what was answered, so that a repeated request is done once.
        changed: why it may not be painted on: its file is gone, or another.
    """

    picture: Picture
    actions: list[dict[str, Any]] = field(default_factory=list)
    revision: int = 0
    complete: bool = False
    done: list[dict[str, Any]] = field(default_factory=list)
    undone: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    changed: str = ""
    stat: tuple[int, ...] | None = None

    def follow(self, action: dict[str, Any]) -> None:
        """Take one more action of the journal into account."""
        self.actions.append(action)
        self.revision += 1
        if action["do"] == "complete":
            self.complete = bool(action["complete"])
        elif action["do"] == "undo":
            if self.done:
                self.undone.append(self.done.pop())
        elif action["do"] == "redo":
            if self.undone:
                self.done.append(self.undone.pop())
        else:
            self.done.append(action)
            self.undone.clear()

    @property
    def seen(self) -> bool:
        """Whether everything in effect was painted, or looked at when it was accepted."""
        return not any(action.get("unseen") for action in self.done)


@dataclass
class _Open:
    """A canvas that is held, and the boxes that its revisions changed."""

    canvas: Canvas
    boxes: list[tuple[int, Box | None]]


class Project:
    """A project that is open for painting.

    Args:
        folder: the project's folder, as `folder.make_project` makes it.
        say: callback for sentences to the user.

    Raises:
        RunFolderError: another server has it open.
        DataError: it is no project, or its journal is damaged.
        FileSystemError: it cannot be read or written.
    """

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda line: None) -> None:
        self.folder = folder
        self._say = say
        self.about = read_project(folder)
        self.classes = self.about.classes
        self._exit = contextlib.ExitStack()
        self._exit.enter_context(hold(folder / FOLDER))
        try:
            self._journal = Journal(folder / FOLDER / JOURNAL)
            self._exit.callback(self._journal.close)
            if self._journal.was_torn:
                say("the last line of the journal was never complete, nor answered, and is cut")
            self.images = [ImageState(picture) for picture in self.about.pictures]
            self._by_name = {state.picture.name: number for number, state in enumerate(self.images)}
            self._follow_all()
            self.pictures = Pictures()
            self.lock = threading.RLock()
            self._canvases: OrderedDict[int, _Open] = OrderedDict()
            self._listeners: list[Listener] = []
            self._dirty: dict[int, tuple[float, float]] = {}  # image -> since when, last stroke
            self._write_error = ""
            self._unwritten: set[int] = set()  # images whose masks could not be written
            self._own_files: dict[Path, tuple[int, ...] | None] = {}
            self.check_pictures()
            self._take_over()
            self._ended = threading.Event()
            self._writer = threading.Thread(target=self._write_often, name="masks of a project", daemon=True)
            self._writer.start()
        except BaseException:
            self._exit.close()
            raise

    def _follow_all(self) -> None:
        for number, action in enumerate(self._journal.actions, 1):
            name = action.get("image")
            if not isinstance(name, str) or name not in self._by_name:
                raise DataError(
                    f"line {number} of the journal is about an image that the project does not have",
                    file=self.folder / FOLDER / JOURNAL,
                    found=name,
                    fix=f"put back {self.folder / FOLDER / 'project.json'}, which lists the images",
                    kind="journal",
                )
            if action.get("do") not in _ACTIONS or not isinstance(action.get("id", ""), str):
                raise self._wrong_line(f"line {number}", f"do: {shortened(action.get('do'), 80)}")
            self.images[self._by_name[name]].follow(action)
        self._journal.actions = []
        self.revision = sum(state.revision for state in self.images)

    def close(self) -> None:
        """Write what is not written, and let others open the project."""
        self._ended.set()
        self._writer.join()
        try:
            self.write_masks(everything=True)
        finally:
            self._exit.close()

    def __enter__(self) -> Project:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call a function with every event, from the thread in which it happens; return what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def tell(self, event: dict[str, Any]) -> None:
        """Tell all listeners of an event."""
        for listener in list(self._listeners):
            listener(event)

    def image(self, index: int) -> ImageState:
        """Return an image by its number.

        Raises:
            UsageError: there is none.
        """
        if not 0 <= index < len(self.images):
            raise UsageError(
                "no such image", expected=f"0 to {len(self.images) - 1}", found=index, kind="no-such-image"
            )
        return self.images[index]

    def picture_file(self, index: int) -> Path:
        """Return the file of an image's picture."""
        return self.folder / "images" / self.image(index).picture.file

    def summary(self) -> dict[str, Any]:
        """Return what `GET /api/project` says of the project itself."""
        images = [
            {
                "index": number,
                "name": state.picture.name,
                "width": state.picture.width,
                "height": state.picture.height,
                "channels": state.picture.channels,
                "pages": 1,
                "dtype": state.picture.dtype,
                "complete": state.complete,
                "painted": len(state.done) + bool(state.picture.ground),
                "revision": state.revision,
                "seen": state.seen,
                "changed": state.changed,
                "can_undo": bool(state.done),
                "can_redo": bool(state.undone),
            }
            for number, state in enumerate(self.images)
        ]
        colors = self.about.colors
        classes = [
            {"id": number, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*colors[number])}
            for number, name in enumerate(self.classes)
        ]
        return {
            "name": self.folder.name,
            "place": hashlib.sha256(os.fsencode(os.path.realpath(self.folder))).hexdigest()[
                :16
            ],  # tells it from its namesakes
            "revision": self.revision,
            "classes": classes,
            "images": images,
            "ignore": IGNORE,
            "background": self.background,
            "unwritten": self._write_error,
        }

    @property
    def background(self) -> int | None:
        """The class that the rest of a complete image is; None where no name says background."""
        class_id = find_background(self.classes)
        return class_id if is_background(self.classes[class_id]) else None

    # Pictures

    def check_pictures(self) -> None:
        """Look whether every picture is the file that it was."""
        for index in range(len(self.images)):
            self._check_picture(index, closely=False)

    def _check_picture(self, index: int, *, closely: bool) -> str:
        """Return why an image may not be painted on, "" if it may.

        Args:
            closely: whether its bytes are read once even of a file that is as large and as old as it was.
        """
        state = self.image(index)
        path = self.picture_file(index)
        try:
            about = os.stat(path)
        except OSError as error:
            state.changed = f"the picture is not there: {error.strerror or error}"
            return state.changed
        if not stat.S_ISREG(about.st_mode):
            state.changed = "something else than a file is in the place of the picture"
            return state.changed
        now, looks_same = file_state(about), (about.st_size, about.st_mtime_ns)
        if state.stat == now:
            return state.changed
        if not closely and state.stat is None and looks_same == (state.picture.size, state.picture.modified):
            return state.changed
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            state.changed = f"the picture cannot be read: {error.strerror or error}"
            return state.changed
        same = digest == state.picture.sha256
        state.changed = "" if same else "the picture was replaced by another since it was first opened"
        if not same or state.stat is not None:
            self.pictures.forget(path)
        state.stat = now
        return state.changed

    def refuse_changed(self, index: int) -> None:
        """Raise DataError if an image's picture is not the file that it was.

        Raises:
            DataError: it is not.
        """
        why = self._check_picture(index, closely=True)
        if why:
            raise DataError(
                why,
                file=self.picture_file(index),
                fix="put the earlier file back; save the new one under another name, and open the project again: "
                "it is an image of its own",
                kind="replaced",
            )

    # Painting

    def stroke(self, index: int, request: Mapping[str, Any]) -> dict[str, Any]:
        """Paint a stroke.

        Args:
            request: `id`, `tool`, `class`, `object`, `size`, `points`, `other` and `base`, as the page sends them.

        Returns:
            `revision`, `box`, `object`, and `boxes` that changed since the revision `base`.

        Raises:
            UsageError: the request is wrong.
            DataError: the picture was replaced.
            FileSystemError: it could not be written; nothing has changed.
        """
        self.image(index)
        action = {"do": "stroke", **self._checked(request)}
        return self._act(index, request, action)

    def _checked(self, request: Mapping[str, Any]) -> dict[str, Any]:
        tool = request.get("tool")
        if tool not in TOOLS:
            raise UsageError("the tool is unknown", expected=", ".join(TOOLS), found=tool)
        action: dict[str, Any] = {"tool": tool}
        number = request.get("object", 0)
        if not (number == "new" or (type(number) is int and 0 <= number < 2**16)):
            raise UsageError("the object is wrong", expected='0 for none, a number, or "new"', found=number)
        action["object"] = number
        if tool in ("split", "merge") and (type(number) is not int or number < 1):
            raise UsageError("the object is wrong", expected="the number of an object", found=number)
        if tool == "merge":
            action["other"] = request.get("other")
            return action
        points = raster.rounded(request.get("points", ()))
        action["points"] = [[x, y] for x, y in points]
        if tool == "split":
            return action
        action["class"] = request.get("class")
        if type(action["class"]) is not int or not (
            0 <= action["class"] < len(self.classes) or action["class"] == IGNORE
        ):
            expected = f"0 to {len(self.classes) - 1}, or {IGNORE} for not painted"
            raise UsageError("the class is unknown", expected=expected, found=action["class"])
        if action["class"] == IGNORE and number != 0:
            raise UsageError("what is not painted belongs to no object", expected="object 0", found=number)
        if tool == "brush":
            action["size"] = raster.check_size(request.get("size"))
        elif tool in ("polygon", "lasso") and len(points) < 3:
            raise UsageError("an area needs three points", found=len(points))
        return action

    def undo(self, index: int, request: Mapping[str, Any]) -> dict[str, Any]:
        """Undo the last action on an image; answers as `stroke`, with `box` null where there is none.

        Raises:
            DataError: the picture was replaced.
            FileSystemError: it could not be written; nothing has changed.
        """
        return self._act(index, request, {"do": "undo"})

    def redo(self, index: int, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do the last undone action again; answers and raises as `undo`."""
        return self._act(index, request, {"do": "redo"})

    def complete(self, index: int, request: Mapping[str, Any]) -> dict[str, Any]:
        """Say whether an image is complete: what is not painted on it is background, and not unknown.

        Raises:
            UsageError: no class is the background, and pixels are not painted.
            DataError: the picture was replaced.
            FileSystemError: it could not be written; nothing has changed.
        """
        value = request.get("complete")
        if type(value) is not bool:
            raise UsageError("complete is wrong", expected="true or false", found=value)
        if value and self.background is None and bool((self.canvas(index).classes == IGNORE).any()):
            raise UsageError(
                "pixels are not painted, and no class is called background, which they could be",
                expected="every pixel painted, or a class background",
                fix="fill what is left, or start the project with --classes background ...",
            )
        request_id = request.get("id") or secrets.token_hex(8)
        return self._act(index, {**request, "id": request_id}, {"do": "complete", "complete": value})

    def accept(
        self,
        index: int,
        request: Mapping[str, Any],
        classes: np.ndarray,
        objects: np.ndarray | None,
        box: Box,
        **about: Any,
    ) -> dict[str, Any]:
        """Copy predicted classes into a mask where nothing is painted.

        Args:
            classes: (y1 - y0, x1 - x0) uint8, 255 where nothing is to be copied.
            objects: likewise uint16, or None.
            box: where they lie.
            about: what the journal says of it, such as `of` and `unseen`; with `over`, they replace what is painted.

        Raises:
            DataError: the picture was replaced.
            FileSystemError: it could not be written; nothing has changed.
        """
        pixels = store_pixels(self.folder / FOLDER, classes, objects)
        action = {"do": "accept", "box": list(box), "pixels": pixels, **about}
        return self._act(index, request, action)

    def _act(self, index: int, request: Mapping[str, Any], action: dict[str, Any]) -> dict[str, Any]:
        """Journal an action, do it, tell everyone, and return the answer."""
        request_id = request.get("id")
        if not (
            isinstance(request_id, str)
            and 0 < len(request_id) <= _MAX_ID
            and request_id.isascii()
            and request_id.isprintable()
        ):
            raise UsageError(
                "the id of a request is wrong", expected=f"1 to {_MAX_ID} letters and digits", found=request_id
            )
        base = request.get("base")
        if base is not None and type(base) is not int:
            raise UsageError("base is wrong", expected="a revision", found=base)
        with self.lock:
            state = self.image(index)
            held = self._open(index)
            if request_id in state.answers:
                return self._answer(held, state, state.answers[request_id], base)
            self.refuse_changed(index)
            if action["do"] == "stroke":
                action = held.canvas.check(action)
            if (action["do"] == "undo" and not state.done) or (action["do"] == "redo" and not state.undone):
                return self._answer(held, state, {"box": None, "object": 0}, base)
            line = {"image": state.picture.name, "t": round(time.time(), 3), "id": request_id, **action}
            self._journal.append(line)
            state.follow(line)
            self.revision += 1
            box = _do(held.canvas, line)
            held.boxes.append((state.revision, box))
            answer = state.answers[request_id] = _answer_of(line, box)
            now = time.monotonic()
            self._dirty[index] = (self._dirty.get(index, (now, now))[0], now)
            answered = self._answer(held, state, answer, base)
            event: dict[str, Any] = {"image": index, "revision": state.revision, "boxes": [box] if box else []}
            event |= {"complete": state.complete, "seen": state.seen, "painted": len(state.done)}
            event |= {"can_undo": bool(state.done), "can_redo": bool(state.undone)}
        self.tell(event)
        return answered

    def _answer(self, held: _Open, state: ImageState, answer: Mapping[str, Any], base: int | None) -> dict[str, Any]:
        boxes = [list(box) for revision, box in held.boxes if box and base is not None and revision > base]
        about = {"complete": state.complete, "can_undo": bool(state.done), "can_redo": bool(state.undone)}
        return {"revision": state.revision, **answer, "boxes": boxes, **about}

    # Canvases

    def canvas(self, index: int) -> Canvas:
        """Return the canvas of an image. Hold `lock` while its pixels are read."""
        with self.lock:
            return self._open(index).canvas

    def _open(self, index: int) -> _Open:
        held = self._canvases.get(index)
        if held is not None:
            self._canvases.move_to_end(index)
            return held
        state = self.image(index)
        shape = (state.picture.height, state.picture.width)
        canvas = Canvas(shape, self._ground(state.picture), self._read_pixels)
        held = _Open(canvas, [])
        for revision, action in enumerate(state.actions, 1):
            box = self._replayed(canvas, action)
            held.boxes.append((revision, box))
            if "id" in action:
                state.answers[action["id"]] = _answer_of(action, box)
        self._canvases[index] = held
        for other in [number for number in self._canvases if number != index and number not in self._dirty]:
            if self._pixels_held() > MOST_CANVASES:
                del self._canvases[other]
        return held

    def _replayed(self, canvas: Canvas, action: dict[str, Any]) -> Box | None:
        """Do an action of the journal, whoever wrote it.

        Raises:
            DataError: it is none, or one of a later version; its line is named by its id.
        """
        try:
            if action["do"] == "stroke":
                self._checked(action)
                numbers = [action[name] for name in ("object", "new") if name in action]
                if not all(type(number) is int and 0 <= number <= MOST_OBJECTS for number in numbers):
                    raise ValueError(f"objects {shortened(numbers, 60)}")
            elif action["do"] == "accept":
                _check_accepted(action, canvas.shape)
            return _do(canvas, action)
        except (AssertionError, LookupError, OverflowError, TypeError, ValueError, UsageError) as error:
            raise self._wrong_line(f"the action {shortened(action.get('id'), 80)}", str(error)) from error

    def _wrong_line(self, what: str, found: str) -> DataError:
        return DataError(
            f"{what} of the journal cannot be done",
            file=self.folder / FOLDER / JOURNAL,
            found=found or None,
            fix="put back a copy of the file; or open it with the version that wrote it",
            kind="journal",
        )

    def _pixels_held(self) -> int:
        return sum(each.canvas.classes.size for each in self._canvases.values())

    def _ground(self, picture: Picture) -> tuple[np.ndarray, np.ndarray | None] | None:
        """Return what the masks of an image were when the project was made, or None."""
        if not picture.ground:
            return None
        classes, objects = self._read_pixels(picture.ground)
        if classes.shape != (picture.height, picture.width):
            raise DataError(
                "the mask that the project began with is of another size",
                file=self.picture_file(self._by_name[picture.name]),
                expected=f"{picture.width} x {picture.height}",
                found=f"{classes.shape[1]} x {classes.shape[0]}",
            )
        return classes, objects

    def mask_tile(self, index: int, of: str, level: int, place: tuple[int, int]) -> tuple[bytes, int]:
        """Return a tile of a mask as PNG, 8 bits of classes or 16 bits of objects, and its revision.

        At level k, pixel (x, y) is that at (x * 2**k, y * 2**k) of the mask.

        Raises:
            UsageError: there is no such tile.
        """
        with self.lock:
            canvas = self._open(index).canvas
            values = canvas.classes if of == "classes" else canvas.objects
            if values is None:
                values = np.broadcast_to(np.zeros((), np.uint16), canvas.shape)
            part = nearest_tile(values, level, place)
            revision = self.image(index).revision
        return png(part), revision

    # Pixels beside the journal

    def _read_pixels(self, digest: str) -> tuple[np.ndarray, np.ndarray | None]:
        return read_pixels(self.folder / FOLDER, digest)

    # Masks on the disk

    def mask_file(self, index: int) -> Path:
        """Return where the mask of an image is written."""
        return self.folder / "masks" / f"{self.image(index).picture.stem}.png"

    def objects_file(self, index: int) -> Path:
        """Return where the objects of an image are written."""
        return self.folder / "instances" / f"{self.image(index).picture.stem}.png"

    def written(self, canvas: Canvas, state: ImageState) -> tuple[np.ndarray, np.ndarray | None]:
        """Return what the files of an image hold: with the background where nothing is painted, if it is complete."""
        classes = canvas.classes.copy()
        if state.complete and self.background is not None:
            classes[classes == IGNORE] = self.background
        has_objects = canvas.objects is not None and bool(canvas.objects.any())
        return classes, canvas.objects.copy() if has_objects and canvas.objects is not None else None

    def write_masks(self, everything: bool = False) -> None:
        """Write the masks of images that were painted on and then left alone for a second, or all that are due.

        Raises:
            FileSystemError: a mask could not be written; it is due still, and all strokes are in the journal.
        """
        now = time.monotonic()
        with self.lock:
            due = [i for i, (since, last) in self._dirty.items() if now - last >= QUIET or now - since >= LONGEST]
            if everything:
                due = list(self._dirty)
        wrong: UnetresError | None = None
        for index in due:
            try:
                self._write_mask(index)
            except UnetresError as error:  # the others are written all the same
                wrong = error
        if wrong is not None:
            raise wrong

    def _write_mask(self, index: int) -> None:
        with self.lock:
            state = self.image(index)
            canvas = self._open(index).canvas
            classes, objects = self.written(canvas, state)
            revision = state.revision
            self._dirty.pop(index, None)
        try:
            # The mask last: one of the newest revision says that the objects are of it, too.
            for path, values in ((self.objects_file(index), objects), (self.mask_file(index), classes)):
                self._keep_foreign(path)
                is_empty = values is None or not (values != (0 if values.dtype == np.uint16 else IGNORE)).any()
                _write_or_remove(path, None if is_empty else values, revision)
                self._own_files[path] = _stat(path)
            self._forget_hashes(index)
            self._unwritten.discard(index)
        except UnetresError:
            self._unwritten.add(index)
            with self.lock:
                now = time.monotonic()
                self._dirty.setdefault(index, (now, now))
            raise

    def _forget_hashes(self, index: int) -> None:
        """Have later checks of the data set take the masks of an image as they are now."""
        if (self.folder / ".unetres-hashes.json").is_file():
            from ..doctor.hashes import forget

            names = [
                path.relative_to(self.folder).as_posix() for path in (self.mask_file(index), self.objects_file(index))
            ]
            forget(self.folder, names)

    def _keep_foreign(self, path: Path) -> None:
        """Put a file aside that something else has written in the place of a mask since the project was opened."""
        if path in self._own_files and _stat(path) not in (self._own_files[path], None):
            self._put_aside(path)

    def _put_aside(self, path: Path) -> None:
        target = make_folder(self.folder / FOLDER / "found") / f"{path.parent.name}-{time.time_ns()}-{path.name}"
        try:
            os.replace(path, target)
        except OSError as error:
            raise FileSystemError(f"cannot move: {error.strerror or error}", file=path) from error
        note = f"{path} was changed elsewhere; that file is now {target}"
        self._say(note)
        self.tell({"note": note})

    def _write_often(self) -> None:
        while not self._ended.wait(QUIET / 4):
            try:
                self.write_masks()
                if self._write_error and not self._unwritten:
                    self._write_error = ""
                    self.tell({"unwritten": ""})
            except UnetresError as error:
                if str(error) != self._write_error:
                    self._write_error = str(error)
                    self.tell({"unwritten": self._write_error})
                self._ended.wait(LONGEST / 4)

    def _take_over(self) -> None:
        """Bring masks on the disk up to the journal; take one that was changed elsewhere over as an action.

        A mask says which revision it is, and the checksum of its pixels. One that says an earlier revision was not yet
        written when the server ended.
        """
        for index, state in enumerate(self.images):
            for path in (self.mask_file(index), self.objects_file(index)):
                self._own_files[path] = _stat(path)
            self._take_over_objects(index)
            found = _read_written(self.mask_file(index))
            if found is None:
                if state.actions or state.picture.ground:
                    self._write_mask(index)
                continue
            values, revision = found
            if revision is None and state.changed:
                self._say(f"{self.mask_file(index)} was changed elsewhere, and so was its picture: it is left as it is")
            elif revision is None:
                self._import(index, values)
            elif revision != state.revision:
                self._write_mask(index)

    def _take_over_objects(self, index: int) -> None:
        """Write the objects of an image anew if those on the disk are of another revision; put others' aside."""
        state, path = self.image(index), self.objects_file(index)
        found = _read_written(path)
        if found is not None and found[1] is None:
            self._put_aside(path)
        has_some = bool(state.picture.ground) or any(each.get("object") or each.get("new") for each in state.actions)
        if has_some and (found is None or found[1] != state.revision):
            objects = self.written(self.canvas(index), state)[1]
            _write_or_remove(path, objects, state.revision)
            self._own_files[path] = _stat(path)

    def _import(self, index: int, values: np.ndarray) -> None:
        """Take a mask that something else wrote as what is painted."""
        state, path = self.image(index), self.mask_file(index)
        shape = (state.picture.height, state.picture.width)
        if values.shape != shape:
            raise DataError(
                "the mask is of another size than its picture",
                file=path,
                expected=f"{shape[1]} x {shape[0]}",
                found=f"{values.shape[1]} x {values.shape[0]}",
                fix="remove the file: it is made anew from the journal",
            )
        strange = sorted(set(np.unique(values).tolist()) - {*range(len(self.classes)), IGNORE})
        if strange:
            raise DataError(
                "the mask was changed elsewhere, and has values that are no classes",
                file=path,
                expected=f"0 to {len(self.classes) - 1}, or {IGNORE}",
                found=strange[:8],
                fix="remove the file: it is made anew from the journal",
            )
        own = f"import-{pixel_digest(values, None)[:16]}-{state.revision}"
        self.accept(index, {"id": own}, values, None, (0, 0, shape[1], shape[0]), of="file", over=True)
        self._say(f"{path} was changed elsewhere, and is taken over; undo brings back what was painted before")


def _do(canvas: Canvas, action: Mapping[str, Any]) -> Box | None:
    """Do an action of the journal on a canvas."""
    if action["do"] == "undo":
        return canvas.undo()
    if action["do"] == "redo":
        return canvas.redo()
    if action["do"] == "complete":
        return None
    return canvas.paint(action)


def _check_accepted(action: Mapping[str, Any], shape: tuple[int, int]) -> None:
    """Raise ValueError if an accepted prediction lies elsewhere than on the image, or is named by no digest."""
    box = action["box"]
    if not (isinstance(box, list) and len(box) == 4 and all(type(n) is int for n in box)):
        raise ValueError(f"box {shortened(box, 60)}")
    x0, y0, x1, y1 = box
    if not (0 <= x0 <= x1 <= shape[1] and 0 <= y0 <= y1 <= shape[0]):
        raise ValueError(f"box {box} on {shape[1]} x {shape[0]} px")
    if not is_digest(action["pixels"]):
        raise ValueError(f"pixels {shortened(action['pixels'], 60)}")


def _answer_of(action: Mapping[str, Any], box: Box | None) -> dict[str, Any]:
    return {"box": None if box is None else list(box), "object": action.get("new", action.get("object", 0))}


def nearest_tile(values: np.ndarray, level: int, place: tuple[int, int]) -> np.ndarray:
    """Return a tile of every 2**level-th pixel of a map, down and across.

    Raises:
        UsageError: there is no such tile.
    """
    step = 1 << check_level(level)
    part = values[::step, ::step]
    return part[tile_slices(part.shape, place)]


def _stat(path: Path) -> tuple[int, ...] | None:
    """Return what tells a file from another that takes its place, or None where there is none."""
    try:
        about = os.stat(path)
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns


def _write_or_remove(path: Path, values: np.ndarray | None, revision: int) -> None:
    """Write a map with the revision that it is of, or remove its file where there is nothing to write."""
    if values is None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise FileSystemError(f"cannot remove: {error.strerror or error}", file=path) from error
        return
    text = PngImagePlugin.PngInfo()
    text.add_text(_MARK, f"revision {revision} crc {zlib.crc32(values.tobytes()):08x}")
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", compress_level=1, pnginfo=text)
    make_folder(path.parent)
    write_bytes(path, buffer.getvalue())


def _read_written(path: Path) -> tuple[np.ndarray, int | None] | None:
    """Return the pixels of a mask and the revision it says; None where there is none, a revision None if not ours."""
    if not path.exists():
        return None
    try:
        if not path.is_file():
            raise OSError("not a file")
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=("PNG",)) as image:
            words = str(getattr(image, "text", {}).get(_MARK, "")).split()
            values = np.asarray(image)
    except Exception as error:  # of Pillow: any kind
        raise MaskError(
            f"cannot decode: {error}", file=path, fix="remove the file: it is made anew from the journal"
        ) from error
    if values.ndim != 2 or values.dtype == np.bool_:
        raise MaskError(
            "not a mask of class ids", file=path, expected="a grey PNG", fix="remove the file: it is made anew"
        )
    if len(words) == 4 and words[3] == f"{zlib.crc32(values.tobytes()):08x}" and re.fullmatch("[0-9]{1,15}", words[1]):
        return values, int(words[1])
    if values.max(initial=0) > IGNORE:
        return values.astype(np.int32), None
    return values.astype(np.uint8), None
