"""OME-Zarr 0.4 and 0.5: images of the axes t, c, z, y, x at their full size, and the labels that lie in them.

Each plane, of one time and depth, is a sample; its channels are those of the image. Images may lie side by side or in
the wells of a plate. Of several labels the declaration says which are the masks (`format: ome-zarr`, `masks: NAME`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unetres_edge.errors import DataError, Fix

from ..declaration import Declaration
from ..shards.groups import Cell
from ..shards.store import Store, is_address, open_store
from ..shards.zarr_arrays import Plane, PlaneGroup, read_attributes, read_shape, refuse_outside
from ..sources import Sample, check_count
from .layout import UNPARTED, Layout, find_parts

_AXES = set("tczyx")
_DEPTH = 5  # folders, from that of a data set down to the fields of a plate
_METADATA = (".zattrs", "zarr.json")


def recognises(base: Path) -> bool:
    """Whether a folder is a Zarr group, or holds some."""
    if not base.is_dir():
        return False
    return _is_group(base) or any(path.suffix == ".zarr" and _is_group(path) for path in base.iterdir())


def _is_group(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _METADATA)


def read(declared: Declaration) -> Layout:
    """Find the planes of all images.

    Raises:
        DataError: no images with labels, labels of another size, or several where nothing says which.
    """
    address = declared.given.get("path")
    layout = Layout()
    if is_address(address):
        store, places = open_store(str(address)), {UNPARTED: [""]}
    else:
        store = Store(declared.base)
        parts = {} if _is_group(declared.base) else find_parts(declared.base, recognises)
        by_part = parts or {UNPARTED: declared.base}
        places = {part: list(_images_below(store, folder, _DEPTH)) for part, folder in by_part.items()}
    numbers = itertools.count()
    for part, images in places.items():
        layout.samples[part] = [sample for path in images for sample in _planes(store, path, declared, numbers)]
    if not any(layout.samples.values()):
        raise DataError("no images with labels", file=declared.file, expected="multiscales with labels/NAME in them")
    return layout


def _images_below(store: Store, folder: Path, depth: int) -> Iterator[str]:
    """Yield the places of images, sorted; what lies in an image is its levels and labels."""
    image = folder.relative_to(store.base).as_posix()
    image = "" if image == "." else image
    if _is_group(folder) and "multiscales" in read_attributes(store, image):
        yield image
    elif depth:
        for inside in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
            yield from _images_below(store, inside, depth - 1)


def _planes(store: Store, path: str, declared: Declaration, numbers: Iterator[int]) -> Iterator[Sample]:
    """Yield a sample for each time and depth of an image."""
    image, axes, shape, width = _full_size(store, path)
    label = _join(path, "labels", _choose_label(store, path, declared))
    mask, mask_axes, mask_shape, mask_width = _full_size(store, label)
    sizes, mask_sizes = dict(zip(axes, shape, strict=True)), dict(zip(mask_axes, mask_shape, strict=True))
    differing = {axis for axis in _AXES - {"c"} if sizes.get(axis, 1) != mask_sizes.get(axis, 1)}
    if differing or mask_sizes.get("c", 1) != 1:
        raise DataError(
            "the labels have another size than the image",
            file=store.path(label),
            expected=f"{sizes} but for c",
            found=str(mask_sizes),
        )
    nbytes = sizes["y"] * sizes["x"] * (sizes.get("c", 1) * width + mask_width)
    check_count(sizes.get("t", 1) * sizes.get("z", 1), store.path(image))
    for t, z in itertools.product(range(sizes.get("t", 1)), range(sizes.get("z", 1))):
        at = {"t": t, "z": z}
        planes = {
            "image": Plane(image, tuple(at.get(axis) for axis in axes), channels_last="c" in axes),
            "mask": Plane(mask, tuple(0 if axis == "c" else at.get(axis) for axis in mask_axes)),
        }
        group = PlaneGroup(store, planes, next(numbers), nbytes)
        moments = [f"{axis}{at[axis]:04d}" for axis in "tz" if sizes.get(axis, 1) > 1]
        name = "/".join([path or store.base.name, *moments])
        file = store.path(path) / "/".join(moments) if moments else store.path(path)
        yield Sample(name, Cell(file, group, "image", 0, "image"), Cell(file, group, "mask", 0, "mask"))


def _choose_label(store: Store, path: str, declared: Declaration) -> str:
    """Return the name of the labels that are the masks.

    Raises:
        DataError: there are none, or several and nothing says which.
    """
    file = store.path(_join(path, "labels"))
    names = [
        refuse_outside(name, file) for name in _listed(read_attributes(store, _join(path, "labels")).get("labels"))
    ]
    wanted = declared.given.get("masks")
    if wanted in names or (wanted is None and len(names) == 1):
        return str(wanted or names[0])
    raise DataError(
        "an image has no labels" if not names else "it is not clear which labels are the masks",
        file=file,
        expected=str(wanted or "labels/NAME in every image"),
        found=", ".join(names) or "none",
        fix=Fix(f"format: ome-zarr, masks: {names[0]}", {"format": "ome-zarr", "masks": names[0]}) if names else None,
    )


def _full_size(store: Store, home: str) -> tuple[str, str, tuple[int, ...], int]:
    """Return (place of the largest array, its axes such as "czyx", its shape, bytes of a value).

    Raises:
        DataError: the metadata does not say it.
    """
    file = store.path(home)
    said = _listed(read_attributes(store, home).get("multiscales"))
    first = said[0] if said and isinstance(said[0], dict) else {}
    levels = _listed(first.get("datasets"))
    path = levels[0].get("path") if levels and isinstance(levels[0], dict) else None
    array = _join(home, refuse_outside(path, file))
    shape, width = read_shape(store, array)
    names = [str(axis.get("name") if isinstance(axis, dict) else axis) for axis in _listed(first.get("axes"))]
    axes = "".join(name for name in names if len(name) == 1)
    if len(axes) != len(names) or len(axes) != len(shape) or not {*"yx"} <= set(axes) <= _AXES or axes[-2:] != "yx":
        raise DataError(
            "the axes are not known", file=file, expected="some of t, c, z, and y, x", found=", ".join(names)
        )
    return array, axes, shape, width


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _join(*places: str) -> str:
    return "/".join(filter(None, places))
