"""Pixels that the journal names by their digest: masks that painting began with, and predictions that were accepted."""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from unetres_edge.errors import DataError
from unetres_edge.files import make_folder, write_bytes

from .pictures import png

FOLDER = "accepted"


def pixel_digest(classes: np.ndarray, objects: np.ndarray | None) -> str:
    """Return the SHA-256 of class ids and objects, and of their shape."""
    digest = hashlib.sha256(f"{classes.shape}".encode())
    digest.update(np.ascontiguousarray(classes, np.uint8).tobytes())
    if objects is not None:
        digest.update(np.ascontiguousarray(objects, np.uint16).astype("<u2").tobytes())
    return digest.hexdigest()


def is_digest(value: object) -> bool:
    """Whether a value is a digest, and so the name of no other place."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def store_pixels(painting: Path, classes: np.ndarray, objects: np.ndarray | None) -> str:
    """Write (H, W) class ids and objects below `painting`; return the digest that is their name.

    Raises:
        FileSystemError: they cannot be written.
    """
    digest = pixel_digest(classes, objects)
    folder = make_folder(painting / FOLDER)
    if objects is not None:
        write_bytes(folder / f"{digest}.objects.png", png(objects.astype(np.uint16)))
    write_bytes(folder / f"{digest}.png", png(classes.astype(np.uint8)))
    return digest


def read_pixels(painting: Path, digest: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return (H, W) uint8 class ids, and uint16 objects or None, by their digest.

    Raises:
        DataError: they are gone, or others.
    """
    file = painting / FOLDER / f"{digest}.png"
    objects_file = file.with_suffix(".objects.png")
    try:
        classes = _read(file).astype(np.uint8)
        objects = _read(objects_file).astype(np.uint16) if objects_file.exists() else None
    except Exception as error:  # of Pillow: any kind
        raise DataError(
            f"pixels of the journal cannot be read: {error}", file=file, fix="put back a copy", kind="journal"
        ) from error
    if pixel_digest(classes, objects) != digest:
        raise DataError(
            "pixels of the journal are not those that were stored", file=file, fix="put back a copy", kind="journal"
        )
    return classes, objects


def _read(file: Path) -> np.ndarray:
    """Return the numbers of a PNG, of any size: the journal of this project names it by what is in it."""
    with warnings.catch_warnings(action="ignore"), Image.open(file, formats=("PNG",)) as image:
        return np.asarray(image)
