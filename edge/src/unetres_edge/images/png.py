"""PNG files: what Pillow does not look at before it decodes, and what it would change without a word."""

from __future__ import annotations

import os
import struct
import zlib

from ..errors import ImageError

_MAGIC = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of each colour type
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_BLOCK = 2**20
_MAX_CHUNKS = 2**17
_REPLACE = "replace or remove the file"


def is_png(data: bytes) -> bool:
    """Return whether a file begins as a PNG does."""
    return data.startswith(_MAGIC)


def read_size(data: bytes) -> tuple[int, int]:
    """Return the (width, height) declared, in px."""
    if data[8:16] != b"\0\0\0\rIHDR" or len(data) < 33:
        raise ImageError("PNG is damaged: it does not begin with its header", fix=_REPLACE, kind="unreadable")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def read_bits(data: bytes) -> int:
    """Return the bits of a sample."""
    return data[24]


def is_interlaced(data: bytes) -> bool:
    """Return whether the pixels come in the seven passes of Adam7."""
    return bool(data[28])


def check(data: bytes) -> None:
    """Refuse a PNG whose chunks are not whole, and one of 16 bits that Pillow would cut to 8; nothing is inflated."""
    bits, color = data[24:26]
    if bits == 16 and color in (2, 4, 6):
        raise ImageError(
            "PNG with 16 bits in each of several channels would be cut to 8 bits",
            found={2: "RGB", 4: "grey and alpha", 6: "RGBA"}[color],
            fix="save it as a 16-bit TIFF or an 8-bit PNG",
        )
    _read_packed(data)


def check_rows(data: bytes) -> None:
    """Refuse a PNG whose pixels end before the last row, which Pillow would leave black; they are inflated and counted.

    Pillow writes whole rows from the top down. So a PNG that is not interlaced lacks none if its last row has a number
    that is not zero, and need not be inflated a second time.
    """
    bits, color = data[24:26]
    if _lacks_rows(_read_packed(data), *read_size(data), bits * _CHANNELS.get(color, 0), is_interlaced(data)):
        raise ImageError("PNG is truncated", found="fewer pixels than its header says", fix=_REPLACE, kind="unreadable")


def has_late_text(path: str | os.PathLike[str]) -> bool:
    """Return whether a PNG file has chunks that may hold EXIF or XMP after its first pixels, or is not whole."""
    pixels = False
    with open(path, "rb") as file:
        file.seek(len(_MAGIC))
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == b"IEND":
                return False
            if pixels and name in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
                return True
            pixels = pixels or name == b"IDAT"
            file.seek(length + 4, os.SEEK_CUR)
    return True


def _read_packed(data: bytes) -> list[memoryview]:
    """Return the IDAT chunks, after a look at the checksum of every chunk that a decoder needs."""
    at, name, chunks, packed, view = 8, b"", 0, [], memoryview(data)
    while name != b"IEND":
        chunks += 1
        if chunks > _MAX_CHUNKS:
            raise ImageError(
                "PNG has too many chunks", expected=f"at most {_MAX_CHUNKS}", fix="save it again", kind="unreadable"
            )
        length, name = struct.unpack_from(">I4s", data, at) if at + 12 <= len(data) else (0, b"")
        end = at + 8 + length
        if not name or end + 4 > len(data):
            raise ImageError("PNG is truncated", fix=_REPLACE, kind="unreadable")
        critical = not name[0] & 32
        if critical and struct.unpack_from(">I", data, end)[0] != zlib.crc32(view[at + 4 : end]):
            raise ImageError("PNG is damaged: a checksum is wrong", fix=_REPLACE, kind="unreadable")
        if name == b"IDAT":
            packed.append(view[at + 8 : end])
        at = end + 4
    return packed


def _lacks_rows(packed: list[memoryview], width: int, height: int, bits: int, interlaced: bool) -> bool:
    """Return whether the pixels end before the last row."""
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
    missing = sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)
    inflate = zlib.decompressobj()
    for part in packed:
        rest: bytes | memoryview = part
        while missing > 0 and rest and not inflate.eof:
            missing -= len(inflate.decompress(rest, _BLOCK))
            rest = inflate.unconsumed_tail
    while missing > 0 and (last := inflate.decompress(b"", _BLOCK)):
        missing -= len(last)
    return missing > 0
