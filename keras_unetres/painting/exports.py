"""A project in the forms that other tools open, each a folder of its own with the pictures: `PROJECT/exports/FORM`.

All but ImageJ's regions, whose classes stand in their names alone, are read back as they were painted. Pixels that
nobody painted are kept apart where a form can say so: 255 in PNG, a crowd in COCO, a shape `__ignore__` in labelme. The
others have no word for them, and take them for background; what is returned says of how many images that is.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from unetres_edge.errors import DataError, FileSystemError, UsageError
from unetres_edge.files import make_folder, write_bytes, write_json
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.objects.imagej import encode_rois
from unetres_edge.objects.morphology import connected
from unetres_edge.objects.separate import Instances
from unetres_edge.objects.table import geojson_of_objects

from ..data.tool_writers import (
    LABELME_UNKNOWN,
    Region,
    coco_annotation,
    label_studio_row,
    labelme_content,
    labelme_mask,
)
from .pictures import png
from .project import Project
from .snapshot import painted_images

FORMS = ("png", "coco", "labelme", "labelstudio", "geojson", "rois")
_KEEP_UNKNOWN = ("png", "coco", "labelme")
_MARK = ".unetres-export"  # of a folder that may be replaced
_ONE = threading.Lock()  # two pages may ask for one form at a time


@dataclass(frozen=True)
class Image:
    """A painted image.

    Args:
        name: name of its file.
        path: path of its picture.
        classes: (H, W) uint8, 255 where nothing is known.
        objects: the objects: those that were numbered, and the connected regions of what was painted without a number.
    """

    name: str
    path: Path
    classes: np.ndarray
    objects: Instances


def export_project(project: Project, form: object) -> dict[str, Any]:
    """Write what is painted in a form; return its `path`, the number of `images`, and a `note`.

    An earlier export of the form is replaced when the new one is complete.

    Raises:
        UsageError: the form is unknown.
        DataError: nothing is painted.
        FileSystemError: it cannot be written.
    """
    if form not in FORMS:
        raise UsageError("the form is unknown", expected=", ".join(FORMS), found=form)
    with _ONE:
        return _export(project, str(form))


def _export(project: Project, form: str) -> dict[str, Any]:
    parent = make_folder(project.folder / "exports")
    new, old, final = (parent / f".{form}.new", parent / f".{form}.old", parent / form)
    if old.is_dir() and not final.exists():  # of a server that was killed between the two
        os.replace(old, final)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    if final.exists() and not (final / _MARK).is_file():
        fix = "move it away"
        raise FileSystemError("something else is in the place of the export", file=final, fix=fix)
    make_folder(new)
    write_bytes(new / _MARK, b"")
    count = unknown = 0
    writer = _WRITERS[form](project, new)
    for image in _images(project):
        _copy(image, new / "images" if form not in ("labelme", "geojson", "rois") else new)
        writer.add(image)
        count += 1
        unknown += bool((image.classes == IGNORE).any())
    if not count:
        shutil.rmtree(new, ignore_errors=True)
        raise DataError("nothing is painted yet", file=project.folder, fix="paint an image")
    writer.end()
    try:
        if final.exists():
            os.replace(final, old)
        os.replace(new, final)
    except OSError as error:
        raise FileSystemError(f"cannot write: {error.strerror or error}", file=final) from error
    shutil.rmtree(old, ignore_errors=True)
    note = ""
    if unknown and form not in _KEEP_UNKNOWN:
        note = f"of {unknown} images some pixels are not painted; this form takes them for background"
    return {"path": str(final), "images": count, "note": note}


def _images(project: Project) -> Iterator[Image]:
    for index in painted_images(project):
        with project.lock:
            state = project.image(index)
            classes, objects = project.written(project.canvas(index), state)
        if (classes == IGNORE).all():
            continue
        objects_of = find_objects(classes, objects, project.background, project.classes)
        yield Image(state.picture.file, project.picture_file(index), classes, objects_of)


def find_objects(
    classes: np.ndarray, objects: np.ndarray | None, background: int | None, names: tuple[str, ...]
) -> Instances:
    """Return the objects of a mask: by their numbers, else the 8-connected regions of each class but the background."""
    labels = np.zeros(classes.shape, np.int32)
    class_ids: list[int] = []
    for value in range(len(names)):
        inside = classes == value
        if value == background or not inside.any():
            continue
        numbered = np.zeros(classes.shape, np.int64) if objects is None else np.where(inside, objects, 0)
        for number in np.unique(numbered[numbered > 0]).tolist():
            class_ids.append(value)
            labels[numbered == number] = len(class_ids)
        regions = connected(inside & (numbered == 0), 8)
        count = int(regions.max(initial=0))
        labels[regions > 0] = regions[regions > 0] + len(class_ids)
        class_ids += [value] * count
    return Instances(labels, tuple(class_ids), names)


def _copy(image: Image, folder: Path) -> None:
    write_bytes(make_folder(folder) / image.name, image.path.read_bytes())


class _Writer(ABC):
    """Writes one form."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.folder, self.background = folder, project.background
        self.names, self.colors = project.classes, project.about.colors
        drawn = [name for number, name in enumerate(self.names) if number != self.background]
        self.declared = {"classes": ["background", *drawn] if self.background is None else list(self.names)}

    @abstractmethod
    def add(self, image: Image) -> None:
        """Write what belongs to an image."""

    @abstractmethod
    def end(self) -> None:
        """Write what belongs to all."""

    def declare(self, **values: Any) -> None:
        """Write a `dataset.yaml`."""
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None)
        write_bytes(self.folder / "dataset.yaml", text.encode())

    def parts(self, image: Image) -> Iterator[tuple[int, Region]]:
        """Yield number and pixels of every object."""
        from scipy import ndimage

        for number, slices in enumerate(ndimage.find_objects(image.objects.labels), 1):
            rows, columns = slices
            inside = image.objects.labels[slices] == number
            yield number, Region(image.objects.class_ids[number - 1], rows.start, columns.start, inside)


class _Png(_Writer):
    def add(self, image: Image) -> None:
        stem = Path(image.name).stem
        write_bytes(make_folder(self.folder / "masks") / f"{stem}.png", png(image.classes))
        write_bytes(make_folder(self.folder / "instances") / f"{stem}.png", png(image.objects.labels.astype(np.uint16)))

    def end(self) -> None:
        colors = [list(color) for color in self.colors]
        self.declare(classes=list(self.names), colors=colors, ignore=IGNORE, masks_on="seen")


class _Coco(_Writer):
    def __init__(self, project: Project, folder: Path) -> None:
        super().__init__(project, folder)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, image: Image) -> None:
        height, width = image.classes.shape
        image_id = len(self._images) + 1
        self._images.append({"id": image_id, "file_name": image.name, "width": width, "height": height})
        for _, region in self.parts(image):
            self._annotate(image_id, region, image.classes.shape, False)
        unknown = image.classes == IGNORE
        if unknown.any():
            first = next(number for number in range(len(self.names)) if number != self.background)
            self._annotate(image_id, Region(first, 0, 0, unknown), image.classes.shape, True)

    def _annotate(self, image: int, region: Region, shape: tuple[int, int], crowd: bool) -> None:
        numbers = (len(self._annotations) + 1, image, region.class_id + 1)
        self._annotations.append(coco_annotation(numbers, region, shape, crowd=crowd))

    def end(self) -> None:
        drawn = [
            {"id": number + 1, "name": name} for number, name in enumerate(self.names) if number != self.background
        ]
        content = {"images": self._images, "annotations": self._annotations, "categories": drawn}
        write_json(make_folder(self.folder / "annotations") / "instances.json", content)
        self.declare(annotations="annotations/instances.json", crowds="ignore", **self.declared)


class _Labelme(_Writer):
    def add(self, image: Image) -> None:
        shapes = [labelme_mask(region, self.names[region.class_id], number) for number, region in self.parts(image)]
        unknown = image.classes == IGNORE
        if unknown.any():
            shapes.append(labelme_mask(Region(IGNORE, 0, 0, unknown), LABELME_UNKNOWN))
        content = labelme_content(image.name, shapes, image.classes.shape)
        write_json(self.folder / f"{Path(image.name).stem}.json", content)

    def end(self) -> None:
        self.declare(format="labelme", **self.declared)


class _LabelStudio(_Writer):
    def __init__(self, project: Project, folder: Path) -> None:
        super().__init__(project, folder)
        self._tasks: list[dict[str, Any]] = []

    def add(self, image: Image) -> None:
        rows = [
            label_studio_row(
                f"o{number}",
                ("brushlabels", "tag", self.names[value]),
                {"format": "rle", "rle": pack_brush(image.objects.labels == number)},
                image.classes.shape,
            )
            for number, value in enumerate(image.objects.class_ids, 1)
        ]
        task = {
            "id": len(self._tasks) + 1,
            "data": {"image": f"images/{image.name}"},
            "annotations": [{"result": rows}],
        }
        self._tasks.append(task)

    def end(self) -> None:
        write_bytes(self.folder / "labelstudio.json", json.dumps(self._tasks).encode())
        self.declare(format="label-studio", **self.declared)


class _GeoJson(_Writer):
    def add(self, image: Image) -> None:
        write_json(self.folder / f"{Path(image.name).stem}.geojson", geojson_of_objects(image.objects, self.colors))

    def end(self) -> None:
        self.declare(format="geojson", **self.declared)


class _Rois(_Writer):
    def add(self, image: Image) -> None:
        write_bytes(self.folder / f"{Path(image.name).stem}.zip", encode_rois(image.objects))

    def end(self) -> None:
        """Write nothing: the names of regions say their classes."""


_WRITERS: dict[str, Callable[[Project, Path], _Writer]] = {
    "png": _Png,
    "coco": _Coco,
    "labelme": _Labelme,
    "labelstudio": _LabelStudio,
    "geojson": _GeoJson,
    "rois": _Rois,
}


def pack_brush(mask: np.ndarray) -> list[int]:
    """Return a mask as Label Studio's brushes hold it: RGBA of which alpha is 255, packed by @thi.ng/rle-pack.

    A head has the number of values in 32 bits, the bits of a value less 1 in 5, and four lengths of numbers less 1 in 4
    bits each. A run is a bit 1, which of the lengths in 2 bits, its own length less 1, and the value.
    """
    sizes = (3, 4, 8, 16)
    flat = np.repeat(mask.ravel(), 4)
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    bits = [f"{flat.size:032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in sizes)]
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        value, left = (255 if flat[start] else 0), end - start
        while left:
            run = min(left, 1 << sizes[-1])
            which = next(number for number, size in enumerate(sizes) if run <= 1 << size)
            bits.append(f"1{which:02b}{run - 1:0{sizes[which]}b}{value:08b}")
            left -= run
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8)) if text else []
