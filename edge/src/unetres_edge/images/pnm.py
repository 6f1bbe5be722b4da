"""PGM and PPM files, read here because Pillow rescales numbers whose maximum is not 255, and cuts colours to 8 bits."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ..errors import ImageError

_HEADER = re.compile(rb"P([2356])" + 3 * rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,10})" + rb"\s")
_REPLACE = "replace or remove the file"


@dataclass(frozen=True)
class Header:
    """What the first lines say: `start` is where the numbers begin, `plain` whether they are written in digits."""

    width: int
    height: int
    channels: int
    largest: int
    plain: bool
    start: int


def is_pnm(data: bytes) -> bool:
    """Return whether a file begins as a PGM or PPM does."""
    return _HEADER.match(data) is not None


def read_header(data: bytes) -> Header:
    """Return what the header says, or raise `ImageError` where it is damaged."""
    match = _HEADER.match(data)
    kind, width, height, largest = (int(number) for number in match.groups()) if match else (0, 0, 0, 0)
    if not width * height or not 0 < largest < 65536:
        raise ImageError("PGM header is damaged", found=f"{width} x {height}, maximum {largest}", kind="unreadable")
    return Header(width, height, 1 if kind in (2, 5) else 3, largest, kind in (2, 3), match.end() if match else 0)


def read_values(data: bytes, header: Header) -> np.ndarray:
    """Return the numbers as written, (H, W) or (H, W, 3)."""
    size = header.width * header.height * header.channels
    body = memoryview(data)[header.start :]
    if header.plain:
        words = re.sub(rb"#[^\r\n]*", b" ", body).split(None, size)[:size]
        if not all(word.isdigit() and len(word) <= 10 for word in words):
            raise ImageError("PGM is damaged: not a number", fix=_REPLACE, kind="unreadable")
        values = np.array([int(word) for word in words], np.int64)
    else:
        dtype = np.dtype(">u2" if header.largest > 255 else "u1")
        values = np.frombuffer(body, dtype, min(size, len(body) // dtype.itemsize))
    if values.size < size:
        raise ImageError("PGM is truncated", expected=f"{size} values", found=values.size, kind="unreadable")
    if values.max() > header.largest:
        raise ImageError(
            "PGM value above its declared maximum", expected=header.largest, found=values.max(), kind="unreadable"
        )
    return values.reshape((header.height, header.width) if header.channels == 1 else (header.height, header.width, 3))
