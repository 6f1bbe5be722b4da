"""TIFF files: what their pages say about their pixels, and the pixels that Pillow cannot give exactly.

The tags are read here, within bounds, before any decoder sees the file: a page is refused if its pixels are not all
there. What Pillow reads exactly is left to Pillow (`Page.suits_pillow`); `decode` is for the rest: 16-bit colours,
separate planes, more than four channels, other numbers than uint8, uint16, int32 and float32, and stacks of ImageJ that
one page stands for.
"""

from __future__ import annotations

import io
import itertools
import logging
import math
import re
import struct
import zlib
from collections import deque
from dataclasses import dataclass

import numpy as np

from ..errors import ImageError

MAX_PAGES = 65536
MAX_CHANNELS = 16
MAX_VALUES = 2**21  # of a tag: strips or tiles of one page
_MAGIC = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 17: 8}  # bytes, by type
_PLACES = {330, 34665, 34853, 40965}  # tags that point to further tags
MOST_KEPT = 2**27  # bytes of a stack that is kept for its next page
_CHAINS: deque[tuple[bytes, list[int]]] = deque(maxlen=2)
_COMPRESSION = {1: "none", 2: "CCITT", 3: "CCITT group 3", 4: "CCITT group 4", 5: "LZW", 6: "JPEG", 7: "JPEG"}
_COMPRESSION |= {8: "deflate", 32773: "packbits", 32946: "deflate", 34712: "JPEG 2000", 34925: "LZMA", 50000: "zstd"}
_COMPRESSION |= {50001: "WebP", 50002: "JPEG XL"}
_READABLE = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000, 50001}  # by Pillow or tifffile; not all everywhere
_LOSSY = {6, 7, 50001}
_COLORS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 4: "transparency", 5: "CMYK", 6: "YCbCr", 8: "LAB"}
_KINDS = {1: "uint", 2: "int", 3: "float"}

_IMAGEJ = re.compile(rb"\n(channels|slices|frames)=(\d{1,6})")
_SHAPED = re.compile(rb'\{"shape": \[(\d{1,6}), \d{1,9}, \d{1,9}\][^{}]*"axes": "CYX"')  # of tifffile
_OME = re.compile(rb"\sSize([CZT])=\"(\d{1,6})\"")

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # or Python prints what it logs to stderr


@dataclass(frozen=True)
class Page:
    """What the tags of one page say.

    Args:
        number: number of the page in the file's chain, counted from 0.
        at: offset of its tags in the file, in bytes.
        order: order of the bytes, "<" or ">".
        big: BigTIFF.
        bits: number of bits of one sample.
        kind: "uint", "int" or "float".
        photometric: 0 and 1 grey (0: white is zero), 2 RGB, 3 palette, 6 YCbCr.
        extra: the meaning of the channels after those of `photometric`: 0 not said, 1 and 2 alpha.
        offsets, counts: offset and length of each strip or tile in the file, in bytes.
        piece: (rows, columns) of a strip or tile.
        reversed: the first pixel is in the lowest bits of a byte.
        images: number of images that this page stands for, 1 except in stacks of ImageJ.
        table: the largest number in the colour table, 0 without one.
    """

    number: int
    at: int
    order: str
    big: bool
    width: int
    height: int
    samples: int
    bits: int
    kind: str
    photometric: int
    compression: int
    planar: bool
    predictor: int
    orientation: int
    reversed: bool
    extra: tuple[int, ...]
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    piece: tuple[int, int]
    tiled: bool
    images: int
    table: int

    @property
    def lossy(self) -> bool:
        return self.compression in _LOSSY

    @property
    def compressed_by(self) -> str:
        return _COMPRESSION.get(self.compression, f"method {self.compression}")

    @property
    def color(self) -> str:
        return _COLORS.get(self.photometric, f"photometric {self.photometric}")

    @property
    def dtype(self) -> str:
        return f"{self.kind}{self.bits}"

    @property
    def alpha(self) -> int | None:
        """The channel that is alpha. Four channels of RGB without a word are taken for RGBA, as Pillow does."""
        if self.photometric == 2 and self.samples == 4 and not self.extra:
            return 3
        marks = [number for number, mark in enumerate(self.extra) if mark in (1, 2)]
        return self.samples - len(self.extra) + marks[0] if marks else None

    @property
    def suits_pillow(self) -> bool:
        """Whether Pillow gives these pixels exactly (2 and 4 bits scaled to 255)."""
        if self.big and self.order == ">":
            return False
        if self.planar and self.samples > 1 and self.compressed_by in ("none", "deflate"):
            return False
        if self.photometric == 6:
            return self.bits == 8
        if self.samples > 1:
            forms = {(1, 2, (1,)), (1, 2, (2,)), (2, 3, ()), (2, 4, ()), (2, 4, (1,)), (2, 4, (2,))}
            return self.dtype == "uint8" and (self.photometric, self.samples, self.extra) in forms
        plain = {"uint1", "uint2", "uint4", "uint8"}
        little = {0: {"uint16"}, 1: {"uint12", "uint16", "uint32", "int16", "int32", "float32"}}
        # libtiff gives samples in the machine's byte order. Pillow takes them for the file's, except uint16.
        big = {1: {"uint16"} if self.compression != 1 else {"uint16", "int16", "int32", "float32"}}
        return self.dtype in plain | (little if self.order == "<" else big).get(self.photometric, set())


def is_tiff(data: bytes) -> bool:
    """Return whether a file begins as a TIFF does."""
    return data[:4] in _MAGIC


def count_pages(data: bytes) -> int:
    """Return the number of images in a TIFF, those of an ImageJ stack with one page included."""
    pages = _chain(data)
    return len(pages) if len(pages) > 1 else _read_page(data, pages, 0).images


def count_channels(data: bytes) -> int:
    """Return how many channels OME-XML, ImageJ or tifffile say the pages of a TIFF are; 0 where they say nothing of it.

    0 too where the pages are slices or times of a stack.
    """
    order, big = _MAGIC[data[:4]]
    said = _Tags(data, _chain(data)[0], order, big).text(270)
    if said.startswith(b"ImageJ="):
        numbers = {name: int(n) for name, n in _IMAGEJ.findall(said)}
        return numbers.get(b"channels", 0) if max(numbers.get(b"slices", 1), numbers.get(b"frames", 1)) == 1 else 0
    shaped = _SHAPED.match(said)
    if shaped is not None:
        return int(shaped[1])
    sizes = {name: int(n) for name, n in reversed(_OME.findall(said))} if b"<OME" in said else {}
    return sizes.get(b"C", 0) if sizes.get(b"Z", 1) == sizes.get(b"T", 1) == 1 else 0


def find_page(data: bytes, number: int) -> tuple[Page, int]:
    """Return the page that holds image `number`, and which image of that page it is (ImageJ stacks)."""
    pages = _chain(data)
    return (_read_page(data, pages, number), 0) if len(pages) > 1 else (_read_page(data, pages, 0), number)


def page_alone(data: bytes, page: Page) -> tuple[bytes, int]:
    """Return a file in which the decoder finds a page at once, and the page's number there.

    Decoders walk all pages up to the one that is wanted, which for a stack takes a time with the square of its pages.
    So a page is cut out: its tags, what they point to, and its strips or tiles.
    """
    if page.number == 0 or page.compression == 6 or not page.counts or sum(page.counts) > len(data):
        return data, page.number
    order, big = page.order, page.big
    head, form, size, inline = (16, "HHQ", 20, 8) if big else (8, "HHI", 12, 4)
    word, count_word = ("Q", "Q") if big else ("I", "H")
    entries = _Tags(data, page.at, order, big).whole()
    start_tag = 324 if page.tiled else 273
    entries[start_tag] = (16 if big else 4, len(page.offsets), bytes(struct.calcsize(word) * len(page.offsets)))
    values_at = head + struct.calcsize(count_word) + size * len(entries) + inline
    pieces_at = values_at + sum(len(values) for _, _, values in entries.values() if len(values) > inline)
    starts = itertools.accumulate(page.counts[:-1], initial=pieces_at)
    entries[start_tag] = (*entries[start_tag][:2], struct.pack(f"{order}{len(page.offsets)}{word}", *starts))
    tags, behind = bytearray(), bytearray()
    for tag, (kind, count, values) in sorted(entries.items()):
        tags += struct.pack(order + form[:2] + word, tag, kind, count)
        if len(values) <= inline:
            tags += values.ljust(inline, b"\0")
        else:
            tags += struct.pack(order + word, values_at + len(behind))
            behind += values
    start = data[: head - inline] + struct.pack(order + word, head) + struct.pack(order + count_word, len(entries))
    pieces = (data[at : at + count] for at, count in zip(page.offsets, page.counts, strict=True))
    return b"".join((start, tags, bytes(inline), behind, *pieces)), 0


def check_strips(data: bytes, page: Page) -> None:
    """Refuse strips or tiles that would unpack to more than their pixels, or to less. Seen for deflate alone."""
    if page.compressed_by != "deflate" or page.photometric == 6:
        return
    rows, columns = page.piece
    row = (columns * (1 if page.planar else page.samples) * page.bits + 7) // 8
    pieces = math.ceil(page.height / rows)
    for number, (start, count) in enumerate(zip(page.offsets, page.counts, strict=True)):
        here = rows if page.tiled else min(rows, page.height - number % pieces * rows)
        length = len(zlib.decompressobj().decompress(data[start : start + count], rows * row + 1))
        if not here * row <= length <= rows * row:
            raise ImageError(
                "TIFF is damaged: a strip or tile of another length",
                fix="replace or remove the file",
                kind="unreadable",
            )


def decode(data: bytes, page: Page, image: int = 0) -> np.ndarray:
    """Decode a page that Pillow does not give exactly.

    Returns:
        (H, W) or (H, W, C) of the dtype stored, as stored: neither turned upright nor inverted.
    """
    if page.kind == "complex" or page.reversed or page.bits not in (8, 16, 32, 64):
        raise ImageError("TIFF numbers are not supported", found=f"{page.dtype}", fix="save it with 8 or 16 bits")
    if page.compressed_by not in ("none", "deflate") or page.predictor not in (1, 2):
        raise ImageError(
            f"{page.dtype} TIFF compressed by {page.compressed_by} cannot be read exactly",
            expected="no compression or deflate",
            found=f"{page.compressed_by}, predictor {page.predictor}, {page.samples} channels",
            fix="save it without compression",
        )
    if page.images > 1:
        return _image_of_stack(data, page, image)
    from tifffile import TiffFile

    data, number = page_alone(data, page)
    with TiffFile(io.BytesIO(data), is_ome=False) as file:
        values = np.asarray(file.pages[number].asarray(maxworkers=1))
    shape: tuple[int, ...] = (page.height, page.width) if page.samples == 1 else (page.height, page.width, page.samples)
    if page.planar and page.samples > 1 and values.ndim == 3:
        values = np.moveaxis(values, 0, -1)
    if values.shape != shape or values.dtype.newbyteorder("=") != np.dtype(page.dtype):
        raise ImageError(
            "TIFF is damaged",
            expected=f"{shape} {page.dtype}",
            found=f"{values.shape} {values.dtype}",
            kind="unreadable",
        )
    return np.ascontiguousarray(values.astype(page.dtype, copy=False))


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored pixels the way the orientation tag says they are to be seen (TIFF 6.0, tag 274)."""
    if 5 <= orientation <= 8:
        values = values.swapaxes(0, 1)
    rows, columns = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (1, 1))
    return np.ascontiguousarray(values[::rows, ::columns])


def _chain(data: bytes) -> list[int]:
    """Return where each page's tags begin; of the last stacks it is known, as long as the same bytes are given."""
    for known, pages in tuple(_CHAINS):
        if known is data:
            return pages
    pages = _walk(data)
    if len(pages) > 1 and len(data) <= MOST_KEPT:
        _CHAINS.append((data, pages))
    return pages


def _walk(data: bytes) -> list[int]:
    order, big = _MAGIC[data[:4]]
    at = _number(data, order, "Q" if big else "I", 8 if big else 4)
    pages: list[int] = []
    seen: set[int] = set()
    while at:
        if at in seen:
            raise ImageError(
                "TIFF is damaged: its pages go round in a circle", fix="replace or remove the file", kind="unreadable"
            )
        if len(pages) == MAX_PAGES:
            raise ImageError("TIFF has too many pages", expected=f"at most {MAX_PAGES}", kind="frames")
        seen.add(at)
        pages.append(at)
        tags = _number(data, order, "Q" if big else "H", at)
        at = _number(data, order, "Q" if big else "I", at + (8 + 20 * tags if big else 2 + 12 * tags))
    if not pages:
        raise ImageError("TIFF has no pages", fix="replace or remove the file", kind="unreadable")
    return pages


def _number(data: bytes, order: str, form: str, at: int) -> int:
    if at + struct.calcsize(form) > len(data):
        raise ImageError(
            "TIFF is damaged: its tags lie outside the file", fix="replace or remove the file", kind="unreadable"
        )
    number: int = struct.unpack_from(order + form, data, at)[0]
    return number


def _read_page(data: bytes, pages: list[int], number: int) -> Page:
    order, big = _MAGIC[data[:4]]
    tags = _Tags(data, pages[number], order, big)
    bits, kinds = tags.all(258, (1,)), tags.all(339, (1,))
    photometric, compression = tags.one(262), tags.one(259, 1)
    samples = tags.one(277, 3 if compression in (6, 7) and photometric in (2, 6) else 1)
    width, height, planar = tags.one(256), tags.one(257), tags.one(284, 1) == 2
    if min(width, height, samples) < 1:
        raise ImageError("TIFF has no pixels", found=f"{width} x {height} x {samples}", kind="unreadable")
    if len(set(bits)) != 1 or len(set(kinds)) != 1 or tags.one(32997, 1) != 1:
        raise ImageError("TIFF of mixed numbers is not supported", found=f"bits {bits[:8]}, formats {kinds[:8]}")
    tiled = 324 in tags
    piece = (tags.one(323), tags.one(322)) if tiled else (min(tags.one(278, height), height), width)
    page = Page(
        number=number,
        at=pages[number],
        order=order,
        big=big,
        width=width,
        height=height,
        samples=samples,
        bits=bits[0],
        kind=_KINDS.get(kinds[0], "complex" if kinds[0] in (5, 6) else "uint"),
        photometric=photometric,
        compression=compression,
        planar=planar,
        predictor=tags.one(317, 1),
        orientation=tags.one(274, 1),
        reversed=tags.one(266, 1) == 2,
        extra=tags.all(338, ()),
        offsets=tags.all(324 if tiled else 273),
        counts=tags.all(325 if tiled else 279, ()),
        piece=piece,
        tiled=tiled,
        images=1,
        table=max(tags.all(320, (0,))),
    )
    if compression not in _READABLE:
        raise ImageError(f"TIFF compressed by {page.compressed_by} is not supported", fix="save it without compression")
    if (page.predictor != 1 and compression == 1) or (
        page.reversed and (page.bits > 8 or compression not in (1, 3, 4))
    ):
        raise ImageError(
            "TIFF is not supported: differences without compression, or bits reversed in compressed or long numbers",
            found=f"predictor {page.predictor}, {page.dtype}, compressed by {page.compressed_by}",
            fix="save it without compression",
        )
    _check_pieces(page, len(data))
    match = re.match(rb"ImageJ=[^\0]*?\nimages=(\d{1,18})\s", tags.text(270))
    return _as_stack(page, int(match[1]), len(data)) if match and int(match[1]) > 1 and len(pages) == 1 else page


def _as_stack(page: Page, images: int, size: int) -> Page:
    """Return the page that ImageJ lets stand for a whole stack, its images lying one after the other."""
    held = (size - page.offsets[0]) // (page.width * page.height * page.samples * page.bits // 8 or 1)
    if page.compression != 1 or (page.planar and page.samples > 1) or page.bits < 8 or held < images:
        raise ImageError(
            "ImageJ stack is damaged", expected=f"{images} images", found=f"room for {held}", kind="unreadable"
        )
    return Page(**{**vars(page), "images": images})


def _image_of_stack(data: bytes, page: Page, image: int) -> np.ndarray:
    dtype = np.dtype(f"{page.order}{page.dtype[0]}{page.bits // 8}")
    shape = (page.height, page.width) if page.samples == 1 else (page.height, page.width, page.samples)
    values = math.prod(shape)
    start = page.offsets[0] + image * values * dtype.itemsize
    return np.frombuffer(data, dtype, values, start).reshape(shape).astype(page.dtype)


def _check_pieces(page: Page, size: int) -> None:
    """Refuse a page whose strips or tiles are not all in the file."""
    rows, columns = page.piece
    if rows < 1 or columns < 1:
        raise ImageError("TIFF is damaged: strips or tiles without pixels", kind="unreadable")
    needed = math.ceil(page.height / rows) * math.ceil(page.width / columns) * (page.samples if page.planar else 1)
    if len(page.offsets) != needed or len(page.counts) not in (needed, 0 if page.compression == 1 else needed):
        raise ImageError(
            "TIFF is damaged: strips or tiles are missing",
            expected=needed,
            found=f"{len(page.offsets)} with {len(page.counts)} lengths",
            kind="unreadable",
        )
    counts = page.counts or (1,) * needed
    if any(start < 8 or count < 1 or start + count > size for start, count in zip(page.offsets, counts, strict=True)):
        raise ImageError(
            "TIFF is damaged: pixels lie outside the file", fix="replace or remove the file", kind="unreadable"
        )
    if page.compression != 1 or page.photometric == 6:  # YCbCr may hold fewer colours than pixels
        return
    samples = 1 if page.planar else page.samples
    for number, count in enumerate(page.counts):
        here = rows if page.tiled else min(rows, page.height - number % math.ceil(page.height / rows) * rows)
        if count < here * ((columns * samples * page.bits + 7) // 8):
            raise ImageError(
                "TIFF is damaged: a strip or tile is too short", fix="replace or remove the file", kind="unreadable"
            )


class _Tags:
    """The tags of one page, whole numbers and text only, each read within the bounds of the file."""

    def __init__(self, data: bytes, at: int, order: str, big: bool) -> None:
        self._data, self._order, self._big = data, order, big
        head, form, size = (8, "HHQ", 20) if big else (2, "HHI", 12)
        count = _number(data, order, "Q" if big else "H", at)  # `_chain` has seen that they all are in the file
        self._entries: dict[int, tuple[int, int, int]] = {}
        for entry in range(at + head, at + head + count * size, size):
            tag, kind, values = struct.unpack_from(order + form, data, entry)
            self._entries.setdefault(tag, (kind, values, entry + (12 if big else 8)))

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def all(self, tag: int, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        if tag not in self._entries:
            if default is None:
                raise ImageError(
                    f"TIFF is damaged: it lacks tag {tag}", fix="replace or remove the file", kind="unreadable"
                )
            return default
        kind, count, _ = self._entries[tag]
        if kind not in _TYPES or not 0 < count <= MAX_VALUES:
            raise ImageError(
                f"TIFF is damaged: tag {tag} holds no numbers, or more than {MAX_VALUES}",
                found=count,
                kind="unreadable",
            )
        return struct.unpack(f"{self._order}{count}{_TYPES[kind]}", self._bytes(tag))

    def one(self, tag: int, default: int | None = None) -> int:
        return self.all(tag, None if default is None else (default,))[0]

    def whole(self) -> dict[int, tuple[int, int, bytes]]:
        """Return the type, the count and the bytes of every tag that holds no places in the file."""
        entries = {}
        for tag, (kind, count, at) in self._entries.items():
            size = _SIZES.get(kind, 0) * count
            if size > (8 if self._big else 4) and at + 8 <= len(self._data):
                at = _number(self._data, self._order, "Q" if self._big else "I", at)
            if size and tag not in _PLACES and at + size <= len(self._data):
                entries[tag] = (kind, count, self._data[at : at + size])
        return entries

    def text(self, tag: int) -> bytes:
        return self._bytes(tag) if tag in self._entries and self._entries[tag][0] in (1, 2) else b""

    def _bytes(self, tag: int) -> bytes:
        kind, count, at = self._entries[tag]
        size = struct.calcsize(_TYPES[kind]) * count
        if size > (8 if self._big else 4):
            at = _number(self._data, self._order, "Q" if self._big else "I", at)
        if at + size > len(self._data):
            raise ImageError(
                f"TIFF is damaged: tag {tag} lies outside the file", fix="replace or remove the file", kind="unreadable"
            )
        return self._data[at : at + size]
