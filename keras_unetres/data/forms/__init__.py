"""Readers of data sets, one a format. Each finds samples by looking at names and annotations; none decodes a pixel."""

from __future__ import annotations

from pathlib import Path

from unetres_edge.errors import DataError

from ...choices.tasks import CLASSIFY
from . import (
    array_files,
    beside,
    camvid,
    class_folders,
    class_masks,
    coco,
    cvat,
    folders,
    label_studio,
    labelme,
    nnunet,
    objects,
    ome_zarr,
    outline_files,
    run_lengths,
    services,
    shards,
    stack,
    tfds,
    tool_files,
    tracking,
    via,
    voc,
    yolo,
)
from .annotated import boxes_alone, refuse_annotated, refuse_packed
from .layout import Format, is_image, list_files
from .parallel import find_parallel

CLASS_FOLDERS = "class folders"
OME_ZARR = "ome-zarr"
SHARDS = (shards.PARQUET, shards.ARROW, shards.WEBDATASET)
# The first that recognises a folder reads it: those with names of their own before those that many folders look like.
FORMATS = {
    "voc": Format(voc.recognises, voc.read),
    **{
        name: Format(services.recogniser(tool), services.reader(tool), by_name=True)
        for name, tool in services.TOOLS.items()
    },
    "darwin": Format(services.recognises_darwin, services.read_darwin, by_name=True),
    "superannotate": Format(services.recognises_superannotate, services.read_superannotate, by_name=True),
    "coco": Format(coco.recognises, coco.read, by_name=True, takes=("splits", "images", "annotations", "crowds")),
    "labelme": Format(labelme.recognises, labelme.read, by_name=True, takes=("splits",)),
    "camvid": Format(camvid.recognises, camvid.read, takes=("splits",)),
    "objects": Format(objects.recognises, objects.read, by_name=True, takes=("splits",)),
    "stack": Format(stack.recognises, stack.read, takes=("images", "masks")),
    "nnunet": Format(nnunet.recognises, nnunet.read),
    "cell tracking": Format(tracking.recognises, tracking.read),
    "numpy": Format(array_files.recognises, array_files.read),
    "class masks": Format(class_masks.recognises, class_masks.read, by_name=True, takes=("splits", "images", "masks")),
    "folders": Format(folders.recognises, folders.read, takes=("splits", "images", "masks")),
    "beside": Format(beside.recognises, beside.read, takes=("splits",)),
    "cvat": Format(cvat.recognises, cvat.read, by_name=True),
    "label-studio": Format(label_studio.recognises, label_studio.read, by_name=True),
    "yolo": Format(yolo.recognises, yolo.read, by_name=True, lists_classes=False),
    "via": Format(via.recognises, via.read, by_name=True),
    "xml": Format(tool_files.recognises_xml, tool_files.read_xml, by_name=True),
    "supervisely": Format(tool_files.recognises_supervisely, tool_files.read_supervisely, by_name=True),
    "geojson": Format(outline_files.recognises_geojson, outline_files.read_geojson, by_name=True),
    "imagej": Format(outline_files.recognises_imagej, outline_files.read_imagej, by_name=True),
    "run lengths": Format(run_lengths.recognises, run_lengths.read, by_name=True, takes=("runs",)),
    **{name: Format(shards.recogniser(name), shards.read) for name in SHARDS},
    OME_ZARR: Format(ome_zarr.recognises, ome_zarr.read, takes=("masks",)),
    "tfds": Format(tfds.recognises, tfds.read),
    # Last: folders of masks look like it, too.
    CLASS_FOLDERS: Format(class_folders.recognises, class_folders.read, task=CLASSIFY.name),
}
_OF_MASKS = [known for name, known in FORMATS.items() if name != CLASS_FOLDERS]


def has_masks(folder: Path) -> bool:
    """Whether a folder looks like a format of images and masks."""
    return any(known.recognises(folder) for known in _OF_MASKS) or bool(find_parallel(folder))


def find_format(base: Path) -> tuple[Path, str]:
    """Return the folder that looks like a format, and the name of the format; "folders" where it looks like none.

    A folder that holds one other folder and no images stands for that one.

    Raises:
        DataError: the folder holds boxes but no masks, data sets in folders of its own, or folders of images with
            something beside them that says more than a class.
    """
    folder = base
    while folder.is_dir():
        name = next((name for name, known in FORMATS.items() if known.recognises(folder)), None)
        if name == CLASS_FOLDERS and find_parallel(folder):
            return folder, "folders"
        if name == CLASS_FOLDERS and any(has_masks(path) for path in folder.iterdir() if path.is_dir()):
            break  # data sets side by side, not classes
        if name == CLASS_FOLDERS:
            refuse_packed(folder)
            refuse_annotated(folder)
        if name is not None:
            return folder, name
        inside = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
        below = [path for path in inside if path.is_dir()]
        if len(below) != 1 or any(map(is_image, inside)):
            break
        folder = below[0]
    if base.is_dir() and find_parallel(base):
        return base, "folders"
    below = [path for path in sorted(base.iterdir()) if path.is_dir()] if base.is_dir() else []
    sets = [path.name for path in below if has_masks(path)]
    if sets:
        raise DataError(
            "the folder holds several data sets",
            file=base,
            expected="one of them",
            found=", ".join(sets),
            fix=f"name one, such as {(base / sets[0]).as_posix()}",
        )
    if list_files(base, (".xml",)):
        raise boxes_alone(base)
    refuse_packed(base)
    return base, "folders"
