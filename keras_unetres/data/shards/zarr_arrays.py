"""Arrays of Zarr, of versions 2 and 3: what their metadata says, and single planes of them.

Codecs are those of a list, as some, such as pickle, run code when they decode. Needs `pip install zarr`.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from unetres_edge.errors import DataError

from .groups import Group
from .store import Store, address_of

_NUMBERS = re.compile(r"[<>|][biuf][1248]")
_NUMBERS_3 = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")
_CODECS = {"blosc", "bytes", "bz2", "crc32c", "delta", "gzip", "lz4", "lzma", "shuffle", "transpose", "zlib", "zstd"}
_MOST_METADATA = 16 << 20  # bytes


@dataclass(frozen=True)
class Plane:
    """Which part of an array is one image: an index of each axis, or None of those that are kept, and their order."""

    array: str
    index: tuple[int | None, ...]
    channels_last: bool = False


class PlaneGroup(Group):
    """One image with its mask.

    Args:
        store: the folder or address.
        planes: column -> where it is.
        number: place among all groups.
        nbytes: bytes of both.
    """

    __slots__ = ("_planes", "_store")

    def __init__(self, store: Store, planes: Mapping[str, Plane], number: int, nbytes: int) -> None:
        self._store, self._planes = store, planes
        self.number, self.nbytes, self.lock = number, nbytes, threading.Lock()

    def load(self) -> Mapping[str, list[np.ndarray]]:
        """Return column -> its array, alone in a list."""
        return {column: [read_plane(self._store, plane)] for column, plane in self._planes.items()}


def read_attributes(store: Store, path: str) -> dict[str, Any]:
    """Return the attributes of a group or an array, those of OME below them; {} where there is none.

    Raises:
        DataError: they cannot be read.
    """
    for name in ("zarr.json", ".zattrs"):
        metadata = _read_json(store, f"{path}/{name}".lstrip("/"))
        if metadata is not None:
            attributes = metadata.get("attributes", {}) if name == "zarr.json" else metadata
            below = attributes.get("ome", attributes) if isinstance(attributes, dict) else {}
            return below if isinstance(below, dict) else {}
    return {}


def read_shape(store: Store, path: str) -> tuple[tuple[int, ...], int]:
    """Return the shape of an array and the bytes of a value, by its metadata.

    Raises:
        DataError: it is no array of numbers, or is stored by a codec that is not read.
    """
    metadata = _read_json(store, f"{path}/zarr.json")
    if metadata is not None:
        kind, sizes = metadata.get("data_type"), metadata.get("shape")
        codecs = list(_names(metadata.get("codecs")))
        sound = isinstance(kind, str) and _NUMBERS_3.fullmatch(kind)
    else:
        metadata = _read_json(store, f"{path}/.zarray") or {}
        kind, sizes = metadata.get("dtype"), metadata.get("shape")
        codecs = [str(c.get("id")) for c in [metadata.get("compressor"), *(metadata.get("filters") or [])] if c]
        sound = isinstance(kind, str) and _NUMBERS.fullmatch(kind)
    if not sound or not isinstance(sizes, list) or not all(type(n) is int and n > 0 for n in sizes):
        raise DataError("not an array of numbers", file=store.path(path), found=f"{kind} of {sizes}")
    strange = sorted({codec for codec in codecs if codec.removeprefix("numcodecs.") not in _CODECS})
    if strange:
        raise DataError(
            "the array is stored by a codec that is not read",
            file=store.path(path),
            expected=", ".join(sorted(_CODECS)),
            found=", ".join(strange),
            fix="write it again with zstd or blosc",
        )
    return tuple(sizes), np.dtype(kind).itemsize


def _names(codecs: Any) -> Iterator[str]:
    """Yield the names of codecs, and of those inside of shards."""
    for codec in codecs if isinstance(codecs, list) else ():
        name = codec.get("name") if isinstance(codec, dict) else codec
        if name != "sharding_indexed":
            yield str(name)
            continue
        settings = codec.get("configuration", {}) if isinstance(codec, dict) else {}
        for part in ("codecs", "index_codecs"):
            yield from _names(settings.get(part))


def read_plane(store: Store, plane: Plane) -> np.ndarray:
    """Return one image, (H, W) or (H, W, C).

    Raises:
        DataError: zarr is not installed, or the array cannot be read.
    """
    try:
        import zarr
    except ImportError as error:
        raise DataError("zarr is not installed", file=store.base, fix="pip install zarr") from error
    base = address_of(store.base) if store.remote is not None else str(store.base)
    path = "/".join(filter(None, (base.rstrip("/"), plane.array)))
    try:
        array = zarr.open_array(path, mode="r")
        values = np.asarray(array[tuple(slice(None) if at is None else at for at in plane.index)])
    except Exception as error:  # of codecs: any kind
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"cannot read: {said}", file=store.path(plane.array)) from error
    values = np.moveaxis(values, 0, -1) if plane.channels_last and values.ndim == 3 else values
    values = values.astype(values.dtype.newbyteorder("="))
    return values.astype(np.float32) if values.dtype.kind == "f" else values


def refuse_outside(name: object, file: Any) -> str:
    """Return a name that metadata says of something inside of its folder.

    Raises:
        DataError: it leads elsewhere, or is no name.
    """
    path = PurePosixPath(name) if isinstance(name, str) and name else None
    if path is None or path.is_absolute() or ".." in path.parts or "\\" in str(path) or ":" in str(path):
        raise DataError("a name leads out of the folder", file=file, expected="one inside of it", found=repr(name))
    return path.as_posix()


def _read_json(store: Store, name: str) -> dict[str, Any] | None:
    """Return the values of a file of metadata, or None where there is none.

    Raises:
        DataError: it is damaged.
    """
    try:
        there = store.remote.isfile(store.place(name)) if store.remote is not None else store.path(name).is_file()
    except OSError:
        there = False
    if not there:
        return None
    if store.size(name) > _MOST_METADATA:
        raise DataError("the metadata is too large", file=store.path(name), expected=f"{_MOST_METADATA} bytes")
    try:
        values = json.loads(store.read(name))
    except (ValueError, RecursionError) as error:
        raise DataError("cannot read: not JSON", file=store.path(name)) from error
    if not isinstance(values, dict):
        raise DataError("not the metadata of Zarr", file=store.path(name))
    return values
