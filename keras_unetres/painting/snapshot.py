"""What is painted at a moment, as a data set to train on: images with paint, parted into training and validation.

Of pictures of more than `LARGE` pixels, only the blocks that hold paint are written. What validates are images that are
marked complete, one in three; without such, one painted image in six; of fewer than four, all of them, which flatters.
What the last network is sure of may be learned where nothing is painted (self-training); only paint validates.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from unetres_edge.errors import DataError
from unetres_edge.files import make_folder, write_bytes
from unetres_edge.images.preprocessing import IGNORE

from .pictures import png
from .project import Project

LARGE = 4_000_000  # px
BLOCK = 1024  # px
FEWEST_APART = 4  # painted images of which some only validate


@dataclass(frozen=True)
class Snapshot:
    """A data set of what was painted.

    Args:
        images: number of images that have paint.
        complete: number of them that are complete.
        flattered: whether the images that validate are those that are trained on.
        revision: revision of the project.
    """

    images: int
    complete: int
    flattered: bool
    revision: int


def painted_images(project: Project) -> list[int]:
    """Return the numbers of images with paint, by the journal alone."""
    return [
        index
        for index, state in enumerate(project.images)
        if (state.done or state.picture.ground) and not state.changed
    ]


def validating(project: Project, painted: list[int]) -> set[int]:
    """Return the images that validate; one that does goes on doing so when others are added, as far as possible."""

    def drawn(index: int) -> bytes:
        return hashlib.sha256(project.images[index].picture.name.encode("utf-8", "surrogateescape")).digest()

    complete = sorted((index for index in painted if project.images[index].complete), key=drawn)
    if len(complete) > 1:
        return set(complete[: max(1, len(complete) // 3)])
    if len(painted) < FEWEST_APART:
        return set()
    return set(sorted(painted, key=drawn)[: max(1, len(painted) // 6)])


def write_snapshot(
    project: Project, folder: Path, sure: Callable[[int], np.ndarray | None] = lambda index: None
) -> Snapshot:
    """Write what is painted as a data set.

    Args:
        folder: an empty folder.
        sure: gives the class ids (H, W) that a network is sure of on an image, 255 elsewhere, or None; they are learned
            where nothing is painted.

    Raises:
        DataError: nothing is painted, or one class alone.
        FileSystemError: it cannot be written.
    """
    painted = painted_images(project)
    held_out = validating(project, painted)
    flattered = not held_out
    class_ids: set[int] = set()
    complete = 0
    with project.lock:
        revision = project.revision
    for index in painted:
        with project.lock:
            state = project.image(index)
            classes, objects = project.written(project.canvas(index), state)
        values = set(np.unique(classes).tolist()) - {IGNORE}
        if not values:
            continue
        class_ids |= values
        complete += state.complete
        parts = ("train", "val") if flattered else ("val",) if index in held_out else ("train",)
        for part in parts:
            added = sure(index) if part == "train" and objects is None else None
            shown = classes if added is None else np.where(classes == IGNORE, added, classes)
            _write_image(project, index, folder / part, shown, objects)
    if len(class_ids) < 2:
        raise DataError(
            "a network needs two classes",
            file=project.folder,
            found=f"{len(class_ids)} painted",
            fix="paint another class",
        )
    about = {
        "classes": list(project.classes),
        "colors": [list(color) for color in project.about.colors],
        "format": "folders",
        "ignore": IGNORE,
        "masks_on": "seen",
        "splits": {"train": "train", "val": "val"},
    }
    text = yaml.safe_dump(about, sort_keys=False, allow_unicode=True, default_flow_style=None)
    write_bytes(folder / "dataset.yaml", text.encode())
    return Snapshot(len(painted), complete, flattered, revision)


def _write_image(project: Project, index: int, folder: Path, classes: np.ndarray, objects: np.ndarray | None) -> None:
    """Write an image and its mask, or those of its blocks that hold paint."""
    picture = project.image(index).picture
    places = {name: make_folder(folder / name) for name in ("images", "masks")}
    if objects is not None:
        places["instances"] = make_folder(folder / "instances")
    path = project.picture_file(index)
    if picture.width * picture.height <= LARGE:
        target = places["images"] / picture.file
        try:
            os.symlink(os.path.realpath(path), target)
        except OSError:
            write_bytes(target, path.read_bytes())
        write_bytes(places["masks"] / f"{picture.stem}.png", png(classes))
        if objects is not None:
            write_bytes(places["instances"] / f"{picture.stem}.png", png(objects))
        return
    pixels = project.pictures.level(path, 0)
    for rows, columns in _painted_blocks(classes):
        stem = f"{picture.stem}_{columns.start}_{rows.start}"
        write_bytes(places["images"] / f"{stem}.tif", _tiff(pixels[rows, columns]))
        write_bytes(places["masks"] / f"{stem}.png", png(classes[rows, columns]))
        if objects is not None:
            write_bytes(places["instances"] / f"{stem}.png", png(objects[rows, columns]))


def _painted_blocks(classes: np.ndarray) -> Iterator[tuple[slice, slice]]:
    height, width = classes.shape
    for y in range(0, height, BLOCK):
        for x in range(0, width, BLOCK):
            block = slice(y, min(height, y + BLOCK)), slice(x, min(width, x + BLOCK))
            if (classes[block] != IGNORE).any():
                yield block


def _tiff(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    channels = pixels.shape[2]
    if pixels.dtype == np.uint8 and channels in (1, 3):
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(buffer, "TIFF")
        return buffer.getvalue()
    import tifffile

    kind = "rgb" if channels == 3 else "minisblack"
    values = pixels[..., 0] if channels == 1 else pixels
    tifffile.imwrite(buffer, values, photometric=kind, planarconfig="contig" if channels > 1 else None)
    return buffer.getvalue()
