"""Image files of every sound, odd and broken kind, with what each reader must make of them; written here byte by byte.

`malformed_files(count, seed)` gives the same files for the same arguments. The pixels are known because the files are
built from them, never because a decoder says so. Run this file to see a table of kinds and outcomes.
"""

from __future__ import annotations

import io
import json
import math
import os
import signal
import struct
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

REFUSED, EITHER = "refused", "either"
READERS = ("image", "mask", "colors")


class Case(NamedTuple):
    """A file: its kind, the ending of its name, its bytes, and by reader what is right.

    That is the pixels, "refused", a list of such of which one must come true, or "either" where no one can know.
    """

    kind: str
    suffix: str
    data: bytes
    expectation: dict[str, Any]


# --- Encoders --------------------------------------------------------------------------------------------------------


def pack(values: np.ndarray, bits: int, order: str = ">") -> list[bytes]:
    """Return the rows of an (H, N) array of whole numbers, each padded to whole bytes."""
    if bits >= 8:
        return [row.tobytes() for row in values.astype(f"{order}u{bits // 8}")]
    digits = (values[..., None].astype(np.int64) >> np.arange(bits - 1, -1, -1)) & 1
    return [np.packbits(row).tobytes() for row in digits.reshape(len(values), -1).astype(np.uint8)]


def chunk(name: bytes, data: bytes, length: int | None = None) -> bytes:
    head = struct.pack(">I", len(data) if length is None else length)
    return head + name + data + struct.pack(">I", zlib.crc32(name + data))


PNG = b"\x89PNG\r\n\x1a\n"
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # Adam7


def png(
    values: np.ndarray,
    bits: int = 8,
    color: int = 0,
    *,
    table: np.ndarray | None = None,
    before: bytes = b"",
    after: bytes = b"",
    interlaced: bool = False,
    size: tuple[int, int] | None = None,
    body: bytes | None = None,
) -> bytes:
    """Write (H, W) or (H, W, C) as a PNG of a bit depth and colour type; `before` and `after` are chunks about IDAT."""
    height, width = values.shape[:2]
    parts = [values]
    if interlaced:
        parts = [values[y::dy, x::dx] for x, y, dx, dy in PASSES]
    rows = [b"\0" + row for part in parts if part.size for row in pack(part.reshape(len(part), -1), bits)]
    shown = size or (width, height)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *shown, bits, color, 0, 0, int(interlaced)))
    plte = b"" if table is None else chunk(b"PLTE", table.astype(np.uint8).tobytes())
    data = chunk(b"IDAT", zlib.compress(b"".join(rows)) if body is None else body)
    return PNG + head + plte + before + data + after + chunk(b"IEND", b"")


def packbits(data: bytes) -> bytes:
    return b"".join(bytes([len(part) - 1]) + part for part in (data[i : i + 128] for i in range(0, len(data), 128)))


COMPRESS: dict[int, Callable[[bytes], bytes]] = {1: bytes, 8: zlib.compress, 32946: zlib.compress, 32773: packbits}


def tiff(
    values: np.ndarray,
    bits: int | None = None,
    *,
    order: str = "<",
    big: bool = False,
    compression: int = 1,
    photometric: int | None = None,
    planar: bool = False,
    tile: int = 0,
    rows: int = 0,
    predictor: int = 1,
    tags: dict[int, tuple[int, Any]] | None = None,
    drop: tuple[int, ...] = (),
    more: tuple[np.ndarray, ...] = (),
    stack: tuple[np.ndarray, ...] = (),
) -> bytes:
    """Write (H, W) or (H, W, C) as a TIFF.

    Args:
        bits: of a sample, that of the dtype unless fewer.
        tags: added or replaced, tag: (type, values).
        drop: tags left out.
        more: further pages, `stack`: further images behind the first, which no tag names.
    """
    pages, blob = [], b""
    start = 16 if big else 8
    for page in (values, *more):
        layers = [page[..., band : band + 1] for band in range(page.shape[2])] if planar else [np.atleast_3d(page)]
        depth = bits or page.dtype.itemsize * 8
        height, width = page.shape[:2]
        tall, wide = (tile, tile) if tile else (rows or height, width)
        offsets, counts = [], []
        for layer in layers:
            for y in range(0, height, tall):
                for x in range(0, width, wide):
                    part = layer[y : y + tall, x : x + wide]
                    if tile:
                        space = ((0, tile - part.shape[0]), (0, tile - part.shape[1]), (0, 0))
                        part = np.pad(part, space, constant_values=1)
                    if predictor == 2:
                        part = np.diff(part, axis=1, prepend=np.zeros_like(part[:, :1]))
                    if part.dtype.kind == "u":
                        data = b"".join(pack(part.reshape(len(part), -1), depth, order))
                    else:
                        data = part.astype(part.dtype.newbyteorder(order)).tobytes()
                    if (tags or {}).get(266) == (3, 2):
                        data = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8)), bitorder="little").tobytes()
                    data = COMPRESS.get(compression, bytes)(data)
                    offsets.append(start + len(blob))
                    counts.append(len(data))
                    blob += data
        for image in stack:
            blob += image.astype(image.dtype.newbyteorder(order)).tobytes()
        blob += b"\0" * (len(blob) % 2)
        samples = page.shape[2] if page.ndim == 3 else 1
        color = photometric if photometric is not None else 2 if samples in (3, 4) else 1
        extra = samples - {2: 3, 5: 4, 6: 3, 8: 3}.get(color, 1)
        entries = {256: (4, width), 257: (4, height), 258: (3, (depth,) * samples), 259: (3, compression)}
        entries |= {262: (3, color), 277: (3, samples), 284: (3, 2 if planar else 1)}
        entries |= {322: (4, tile), 323: (4, tile)} if tile else {278: (4, tall)}
        entries |= {324: (4, offsets), 325: (4, counts)} if tile else {273: (4, offsets), 279: (4, counts)}
        entries |= {317: (3, 2)} if predictor == 2 else {}
        entries |= {338: (3, (0,) * extra)} if extra > 0 else {}
        entries |= {339: (3, ({"u": 1, "i": 2, "f": 3}[page.dtype.kind],) * samples)} if page.dtype.kind != "u" else {}
        entries |= tags or {}
        pages.append({tag: entry for tag, entry in entries.items() if tag not in drop})
    head = {"<": b"II", ">": b"MM"}[order]
    head += struct.pack(order + "HHHQ", 43, 8, 0, start + len(blob)) if big else b""
    head += b"" if big else struct.pack(order + "HI", 42, start + len(blob))
    at = start + len(blob)
    for number, entries in enumerate(pages):
        data = ifd(entries, at, order, big, last=number == len(pages) - 1)
        blob, at = blob + data, at + len(data)
    return head + blob


def ifd(entries: dict[int, tuple[int, Any]], at: int, order: str, big: bool, last: bool = True) -> bytes:
    """Write one table of tags that begins at byte `at` of the file."""
    inline, count, offset = (8, "Q", "Q") if big else (4, "I", "I")
    size = (8 + 20 * len(entries) + 8) if big else (2 + 12 * len(entries) + 4)
    table, heap = struct.pack(order + ("Q" if big else "H"), len(entries)), b""
    for tag, (kind, found) in sorted(entries.items()):
        listed = list(found) if isinstance(found, (tuple, list, bytes)) else [found]
        data = struct.pack(f"{order}{len(listed)}{ {1: 'B', 2: 'B', 3: 'H', 4: 'I', 16: 'Q'}[kind] }", *listed)
        table += struct.pack(order + "HH" + count, tag, kind, len(listed))
        if len(data) <= inline:
            table += data.ljust(inline, b"\0")
        else:
            table += struct.pack(order + offset, at + size + len(heap))
            heap += data + b"\0" * (len(data) % 2)
    heap += b"\0" * (len(heap) % 2)
    return table + struct.pack(order + offset, 0 if last else at + size + len(heap)) + heap


def colormap(table: np.ndarray, scale: int = 257) -> tuple[int, list[int]]:
    return 3, [int(value) * scale for value in table.T.ravel()]


def bmp(ids: np.ndarray, bits: int, table: np.ndarray | None = None, *, colors: int = 0, **fields: int) -> bytes:
    """Write indices with a colour table, or (H, W, 3), as a BMP, lowest row first; `fields` replace its own."""
    values = ids[..., ::-1].reshape(len(ids), -1) if ids.ndim == 3 else ids
    rows = [row + b"\0" * (-len(row) % 4) for row in pack(values, 8 if ids.ndim == 3 else bits)][::-1]
    used = b"" if table is None else b"".join(bytes([*row[::-1], 0]) for row in table.astype(np.uint8).tolist())
    height, width = ids.shape[:2]
    if fields.get("height", 1) < 0:
        rows = rows[::-1]
    body = fields.get("body") or b"".join(rows)
    head = struct.pack("<IIIHH", 40, width, 0, 1, bits)[:8]
    head += struct.pack("<iHHI", fields.get("height", height), 1, bits, fields.get("compression", 0))
    head += struct.pack("<IiiII", len(body), 0, 0, colors, 0)
    head = head[:4] + struct.pack("<i", fields.get("width", width)) + head[8:]
    offset = 14 + len(head) + len(used)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + head + used + body


def gif_block(ids: np.ndarray, bits: int, at: tuple[int, int] = (0, 0)) -> bytes:
    """Write one frame, clearing the LZW table so often that every code keeps its width."""
    clear, width = 1 << bits, bits + 1
    codes = []
    for number, value in enumerate(ids.ravel().tolist()):
        codes += [clear] * (number % (clear - 2) == 0) + [value]
    stream = sum(code << (width * number) for number, code in enumerate([*codes, clear + 1]))
    data = stream.to_bytes((width * (len(codes) + 1) + 7) // 8, "little")
    parts = [data[i : i + 255] for i in range(0, len(data), 255)]
    head = b"," + struct.pack("<HHHHB", *at, ids.shape[1], ids.shape[0], 0) + bytes([bits])
    return head + b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def gif(
    *frames: np.ndarray,
    table: np.ndarray,
    bits: int = 8,
    screen: tuple[int, int] | None = None,
    at: tuple[int, int] = (0, 0),
) -> bytes:
    """Write frames of indices below 2 ** bits; the table has a power of two of colours."""
    width, height = screen or frames[0].shape[::-1]
    size = int(math.log2(len(table))) - 1
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80 | size, 0, 0) + table.astype(np.uint8).tobytes()
    delay = b"!\xf9\x04\0\x05\0\0\0" if len(frames) > 1 else b""
    return head + b"".join(delay + gif_block(frame, bits, at) for frame in frames) + b";"


def pnm(values: np.ndarray, largest: int, *, plain: bool = False) -> bytes:
    """Write (H, W) as PGM or (H, W, 3) as PPM."""
    kind = (2 if plain else 5) + (values.ndim == 3)
    head = f"P{kind}\n# made here\n{values.shape[1]} {values.shape[0]}\n{largest}\n".encode()
    if plain:
        return head + "\n".join(" ".join(map(str, row)) for row in values.reshape(len(values), -1).tolist()).encode()
    return head + values.astype(">u2" if largest > 255 else "u1").tobytes()


def saved(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    """Let Pillow write what has no small encoder: JPEG, WebP, LZW, MPO."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def exif(number: int) -> bytes:
    """Return the EXIF block of an orientation."""
    return b"MM\0*\0\0\0\x08" + ifd({274: (3, number)}, 8, ">", False)


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


# --- Kinds -----------------------------------------------------------------------------------------------------------

Made = tuple[str, bytes, dict[str, Any]]
KINDS: dict[str, Callable[[np.random.Generator], Made]] = {}


def kind(function: Callable[[np.random.Generator], Made]) -> Callable[[np.random.Generator], Made]:
    KINDS[function.__name__] = function
    return function


def expect(image: Any = REFUSED, mask: Any = REFUSED, colors: Any = REFUSED) -> dict[str, Any]:
    return {"image": image, "mask": mask, "colors": colors}


def or_refused(expectation: dict[str, Any]) -> dict[str, Any]:
    return {reader: [REFUSED, pixels] for reader, pixels in expectation.items()}


def packed(values: np.ndarray) -> np.ndarray:
    """Return R << 16 | G << 8 | B of (H, W) or (H, W, 3)."""
    wide = values.astype(np.int32)
    return wide * 0x10101 if values.ndim == 2 else (wide * np.array([65536, 256, 1])).sum(-1)


def ids(rng: np.random.Generator, bits: int = 8, channels: int = 0) -> np.ndarray:
    shape = (*rng.integers(1, 30, 2).tolist(), *([channels] if channels else []))
    dtype = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    return rng.integers(0, 2**bits, shape, dtype=dtype)


def rgb(rng: np.random.Generator) -> np.ndarray:
    """Colours whose channels differ, so that no mask can hold them."""
    values = ids(rng, 8, 3)
    values[0, 0] = (1, 2, 3)
    return values


def table(rng: np.random.Generator, colors: int) -> np.ndarray:
    return np.stack([rng.permutation(256)[:colors] for _ in range(3)], axis=1).astype(np.uint8)


def grey(values: np.ndarray, full: int = 255) -> dict[str, Any]:
    return expect(values * (255 // full), values, packed(values * (255 // full)))


def color(values: np.ndarray) -> dict[str, Any]:
    return expect(values, REFUSED, packed(values))


def flipped(rng: np.random.Generator, data: bytes, low: int = 0, high: int | None = None) -> bytes:
    damaged = bytearray(data)
    damaged[int(rng.integers(low, high or len(data)))] ^= 1 << int(rng.integers(0, 8))
    return bytes(damaged)


def cut(rng: np.random.Generator, data: bytes, low: int = 1, spare: int = 1) -> bytes:
    return data[: int(rng.integers(low, len(data) - spare))]


def bits_of(rng: np.random.Generator, *choices: int) -> int:
    return int(rng.choice(choices))


@kind
def png_grey(rng):
    values = ids(rng)
    return "png", png(values), grey(values)


@kind
def png_grey_of_few_bits(rng):
    bits = bits_of(rng, 1, 2, 4)
    values = ids(rng, bits)
    return "png", png(values, bits), grey(values, 2**bits - 1)


@kind
def png_grey_of_16_bits(rng):
    values = ids(rng, 16)
    return "png", png(values, 16), expect(values, values)


@kind
def png_interlaced(rng):
    bits = bits_of(rng, 1, 2, 4, 8)
    values = ids(rng, bits)
    return "png", png(values, bits, interlaced=True), grey(values, 2**bits - 1)


@kind
def png_rgb(rng):
    values = rgb(rng)
    return "png", png(values, 8, 2), color(values)


@kind
def png_rgb_of_equal_channels(rng):
    values = ids(rng)
    three = np.dstack([values] * 3)
    return "png", png(three, 8, 2), expect(three, values, packed(three))


@kind
def png_rgb_of_16_bits(rng):
    return "png", png(ids(rng, 16, 3), 16, 2), expect()


@kind
def png_grey_alpha_of_16_bits(rng):
    return "png", png(ids(rng, 16, 2) | 1, 16, 4), expect()


@kind
def png_rgba_of_16_bits(rng):
    return "png", png(ids(rng, 16, 4), 16, 6), expect()


@kind
def png_grey_alpha_opaque(rng):
    values = ids(rng)
    return "png", png(np.dstack([values, np.full_like(values, 255)]), 8, 4), grey(values)


@kind
def png_grey_alpha_clear(rng):
    values = ids(rng, 8, 2)
    values[0, 0, 1] = 254
    return "png", png(values, 8, 4), expect()


@kind
def png_rgba_opaque(rng):
    values = rgb(rng)
    return "png", png(np.dstack([values, np.full(values.shape[:2], 255, np.uint8)]), 8, 6), color(values)


@kind
def png_rgba_clear(rng):
    values = ids(rng, 8, 4)
    values[-1, -1, 3] = 0
    return "png", png(values, 8, 6), expect()


@kind
def png_palette(rng):
    bits = bits_of(rng, 1, 2, 4, 8)
    values, colors = ids(rng, bits), table(rng, 2**bits)
    return "png", png(values, bits, 3, table=colors), expect(colors[values], values, packed(colors[values]))


@kind
def png_palette_with_a_colour_missing(rng):
    values = ids(rng, 4)
    values[0, 0] = 15
    return "png", png(values, bits_of(rng, 4, 8), 3, table=table(rng, 15)), expect(mask=values)


@kind
def png_palette_with_an_opaque_trns(rng):
    values, colors = ids(rng, 4), table(rng, 16)
    values[values == 3] = 4
    clear = chunk(b"tRNS", b"\xff\xff\xff\x00")
    return "png", png(values, 4, 3, table=colors, before=clear), expect(colors[values], values, packed(colors[values]))


@kind
def png_palette_with_a_clear_trns(rng):
    values = ids(rng, 4)
    values[0, 0] = 3
    return (
        "png",
        png(values, 4, 3, table=table(rng, 16), before=chunk(b"tRNS", b"\xff\xff\xff\x80")),
        expect(mask=values),
    )


@kind
def png_grey_with_a_clear_trns(rng):
    bits = bits_of(rng, 1, 2, 4, 8, 16)
    values = ids(rng, bits)
    values[0, 0] = 1
    return "png", png(values, bits, before=chunk(b"tRNS", b"\0\1")), expect(mask=values)


@kind
def png_rgb_with_a_clear_trns(rng):
    return "png", png(rgb(rng), 8, 2, before=chunk(b"tRNS", b"\0\1\0\2\0\3")), expect()


@kind
def png_with_gamma_and_icc(rng):
    values = ids(rng)
    icc = chunk(b"iCCP", b"x\0\0" + zlib.compress(b"\0" * 3000))
    return "png", png(values, before=chunk(b"gAMA", struct.pack(">I", 22727)) + icc), grey(values)


@kind
def png_with_damaged_exif(rng):
    values = ids(rng)
    return "png", png(values, before=chunk(b"eXIf", cut(rng, exif(1), 8))), or_refused(grey(values))


@kind
def png_turned(rng):
    values, turn = ids(rng), int(rng.integers(1, 9))
    data = png(values, before=chunk(b"eXIf", exif(turn)))
    return "png", data, expect(UPRIGHT[turn](values), *((values, packed(values)) if turn == 1 else ()))


@kind
def png_cut(rng):
    return "png", cut(rng, png(ids(rng))), expect()


@kind
def png_without_end(rng):
    return "png", png(ids(rng))[:-12], expect()


@kind
def png_flip(rng):
    return "png", flipped(rng, png(ids(rng))), expect()


@kind
def png_flip_of_pixels(rng):
    data = png(ids(rng))
    return "png", flipped(rng, data, 41, len(data) - 16), expect()


@kind
def png_flip_of_header(rng):
    return "png", flipped(rng, png(ids(rng)), 8, 33), expect()


@kind
def png_wrong_checksum(rng):
    data = png(ids(rng))
    return "png", data[:-16] + bytes(4) + data[-12:], expect()


@kind
def png_of_many_pixels_declared(rng):
    size = (100_000, 100_000) if rng.integers(2) else (2**31 - 1, int(rng.integers(1, 2**31)))
    return "png", png(ids(rng), size=size), expect()


@kind
def png_of_more_rows_than_it_has(rng):
    values = ids(rng)
    return "png", png(values, size=(values.shape[1], values.shape[0] + 8000)), expect()


@kind
def png_just_too_large(rng):
    return (
        "png",
        png(np.zeros((1, 1), np.uint8), 1, size=(9500, 9500), body=zlib.compress(bytes(9500 * 1189))),
        expect(),
    )


@kind
def png_large_of_nothing(rng):
    values = np.zeros((3000, 3000), np.uint8)
    return "png", png(values), grey(values)


@kind
def png_without_pixels(rng):
    return "png", png(ids(rng), size=[(0, 5), (5, 0), (0, 0)][int(rng.integers(3))]), expect()


@kind
def png_of_a_depth_that_is_none(rng):
    bits, color = [(3, 0), (16, 3), (4, 2), (8, 5), (0, 0), (255, 255)][int(rng.integers(6))]
    return (
        "png",
        PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, bits, color, 0, 0, 0)) + png(ids(rng))[33:],
        expect(),
    )


@kind
def png_with_a_wrong_filter(rng):
    values = ids(rng)
    body = zlib.compress(b"".join(b"\x63" + row for row in pack(values, 8)))
    return "png", png(values, body=body), expect()


@kind
def png_with_too_few_rows(rng):
    values = np.vstack([ids(rng)] * 2)
    return "png", png(values, body=zlib.compress(bytes(values.shape[1] + 1))), expect()


@kind
def png_that_unpacks_without_end(rng):
    values = np.zeros((4, 4), np.uint8)
    return "png", png(values, body=zlib.compress(bytes(50_000_000))), expect(EITHER, EITHER, EITHER)


def text_bomb(name: bytes) -> bytes:
    body = zlib.compress(bytes(40_000_000))
    return chunk(name, {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[name] + body)


@kind
def png_text_that_unpacks_without_end(rng):
    bomb = text_bomb([b"zTXt", b"iTXt", b"iCCP"][int(rng.integers(3))])
    late = bool(rng.integers(2))
    values = ids(rng)
    data = png(values, before=b"" if late else bomb, after=bomb if late else b"")
    return "png", data, or_refused(grey(values))


@kind
def png_with_a_huge_chunk_declared(rng):
    length = int(rng.choice([2**31 - 1, 2**32 - 1, 10**9]))
    name = [b"tEXt", b"IDAT", b"abCd"][int(rng.integers(3))]
    return "png", png(ids(rng), before=chunk(name, b"x", length)), expect()


@kind
def png_of_very_many_chunks(rng):
    return "png", png(ids(rng), before=chunk(b"abCd", b"") * 200_000), expect()


@kind
def png_animated(rng):
    values = ids(rng)
    head = chunk(b"acTL", struct.pack(">II", 2, 0))
    control = struct.pack(">IIIIHHBB", *values.shape[::-1], 0, 0, 1, 10, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row for row in pack(values, 8)))
    after = chunk(b"fcTL", struct.pack(">I", 1) + control) + chunk(b"fdAT", struct.pack(">I", 2) + rows)
    first = chunk(b"fcTL", struct.pack(">I", 0) + control)
    return "png", png(values, before=head + first, after=after), expect()


@kind
def sound_by_another_name(rng):
    values = ids(rng)
    return ["jpg", "tif", "bmp", "txt"][int(rng.integers(4))], png(values), grey(values)


@kind
def nothing_at_all(rng):
    return "png", b"", expect()


@kind
def zeros(rng):
    return "png", bytes(int(rng.integers(1, 500))), expect()


@kind
def noise(rng):
    return "jpg", b"\x7f" + rng.bytes(int(rng.integers(1, 500))), expect()


@kind
def web_page_by_the_name_of_a_photograph(rng):
    return "jpg", b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * int(rng.integers(1, 50)), expect()


@kind
def text(rng):
    return "tif", "Pas d'image ici. Ça n'est qu'un texte.\n".encode() * int(rng.integers(1, 50)), expect()


@kind
def first_bytes_only(rng):
    starts = (b"\xff\xd8\xff\xe0", PNG, b"II*\0", b"MM\0*", b"II+\0", b"GIF89a", b"BM", b"P5", b"RIFF\x10\0\0\0WEBP")
    return "png", starts[int(rng.integers(len(starts)))] + bytes(int(rng.integers(0, 20))), expect()


@kind
def tiff_grey(rng):
    values, order = ids(rng), "<>"[int(rng.integers(2))]
    return "tif", tiff(values, order=order, rows=int(rng.integers(1, 9)), big=bool(rng.integers(2))), grey(values)


@kind
def tiff_grey_of_few_bits(rng):
    bits = bits_of(rng, 1, 2, 4)
    values = ids(rng, bits)
    return "tif", tiff(values, bits, compression=bits_of(rng, 1, 8, 32773)), grey(values, 2**bits - 1)


@kind
def tiff_white_is_zero(rng):
    bits, order = bits_of(rng, 2, 4, 8, 16), "<>"[int(rng.integers(2))]
    values = ids(rng, bits)
    shown = (2**bits - 1 - values) * (255 // (2**bits - 1) or 1)
    mask_colors = packed(shown) if bits <= 8 else REFUSED
    return "tif", tiff(values, bits, photometric=0, order=order), expect(shown, values, mask_colors)


@kind
def tiff_white_is_zero_of_one_bit(rng):
    values = ids(rng, 1)
    white = 1 - values
    return "tif", tiff(values, 1, photometric=0), expect(white * 255, white, packed(white * 255))


@kind
def tiff_of_16_bits(rng):
    values = ids(rng, 16)
    order, compression = "<>"[int(rng.integers(2))], bits_of(rng, 1, 8, 32773)
    return "tif", tiff(values, order=order, compression=compression), expect(values, values)


@kind
def tiff_with_predictor(rng):
    values = ids(rng, 16)
    return "tif", tiff(values, compression=8, predictor=2), expect(values, values)


@kind
def tiff_rgb(rng):
    values = rgb(rng)
    options = {"order": "<>"[int(rng.integers(2))], "compression": bits_of(rng, 1, 8, 32773)}
    return "tif", tiff(values, rows=int(rng.integers(1, 9)), **options), color(values)


@kind
def tiff_rgb_of_16_bits(rng):
    values = ids(rng, 16, 3)
    values[0, 0] = (1, 2, 3)
    options = {"order": "<>"[int(rng.integers(2))], "compression": bits_of(rng, 1, 8)}
    options |= {"predictor": bits_of(rng, 1, options["compression"] // 4 or 1)}
    return "tif", tiff(values, planar=bool(rng.integers(2)), **options), expect(values)


@kind
def tiff_rgb_of_16_bits_by_a_method_not_known(rng):
    return "tif", tiff(ids(rng, 16, 3), compression=bits_of(rng, 5, 7, 34712, 34925, 50000, 9999)), expect()


@kind
def tiff_planar(rng):
    values = rgb(rng)
    options = {"order": "<>"[int(rng.integers(2))], "compression": bits_of(rng, 1, 8, 32773)}
    return "tif", tiff(values, planar=True, **options), color(values)


@kind
def tiff_tiled(rng):
    values, compression = ids(rng), bits_of(rng, 1, 8, 32773)
    return "tif", tiff(values, tile=16, compression=compression), grey(values)


@kind
def tiff_palette(rng):
    bits = bits_of(rng, 1, 2, 4, 8)
    values, colors = ids(rng, bits), table(rng, 2**bits)
    data = tiff(values, bits, photometric=3, tags={320: colormap(colors)})
    return "tif", data, expect(colors[values], values, packed(colors[values]))


@kind
def tiff_palette_of_8_bits(rng):
    values = ids(rng)
    return "tif", tiff(values, photometric=3, tags={320: colormap(table(rng, 256), 1)}), expect(mask=values)


@kind
def tiff_rgba_opaque(rng):
    values, full = rgb(rng), bits_of(rng, 255, 65535)
    values = values.astype(np.uint8 if full == 255 else np.uint16)
    data = tiff(np.dstack([values, np.full(values.shape[:2], full, values.dtype)]), tags={338: (3, 2)})
    return "tif", data, color(values) if full == 255 else expect(values)


@kind
def tiff_rgba_clear(rng):
    values = ids(rng, bits_of(rng, 8, 16), 4)
    values[0, 0, 3] = 3
    return "tif", tiff(values, tags={338: (3, bits_of(rng, 1, 2))}), expect()


@kind
def tiff_of_many_channels(rng):
    values = ids(rng, bits_of(rng, 8, 16), int(rng.integers(5, 17)))
    return "tif", tiff(values, photometric=1, planar=bool(rng.integers(2))), expect(values)


@kind
def tiff_of_too_many_channels(rng):
    return "tif", tiff(ids(rng, 8, int(rng.integers(17, 40))), photometric=1), expect()


@kind
def tiff_of_signed_numbers(rng):
    dtype = [np.int8, np.int16, np.int32, np.int64][int(rng.integers(4))]
    values = ids(rng, 7).astype(dtype) - 5
    values[0, 0] = -1
    options = {"order": "<>"[int(rng.integers(2))], "compression": bits_of(rng, 1, 8)}
    return "tif", tiff(values, **options), expect(mask=values)


@kind
def tiff_of_long_numbers(rng):
    dtype = [np.uint32, np.int32, np.int64, np.uint64][int(rng.integers(4))]
    values = ids(rng, 16).astype(dtype)
    options = {"order": "<>"[int(rng.integers(2))], "compression": bits_of(rng, 1, 8)}
    return "tif", tiff(values, **options), expect(values, values)


@kind
def tiff_of_numbers_too_long(rng):
    values = ids(rng, 32).astype([np.uint32, np.int64][int(rng.integers(2))])
    values[0, 0] = 2**31 + 7
    return "tif", tiff(values, order="<>"[int(rng.integers(2))]), expect()


@kind
def tiff_float(rng):
    dtype = [np.float16, np.float32, np.float64][int(rng.integers(3))]
    values = (ids(rng) / 256).astype(dtype)
    return "tif", tiff(values, order="<>"[int(rng.integers(2))], compression=bits_of(rng, 1, 8)), expect(values)


@kind
def tiff_float_not_finite(rng):
    values = (ids(rng) / 256).astype([np.float16, np.float32, np.float64][int(rng.integers(3))])
    values[0, 0] = [np.nan, np.inf, -np.inf][int(rng.integers(3))]
    return "tif", tiff(values), expect()


@kind
def tiff_float_too_large(rng):
    values = ids(rng) / 256
    values[0, 0] = 1e300
    return "tif", tiff(values), expect()


@kind
def tiff_of_several_pages(rng):
    values = ids(rng)
    return "tif", tiff(values, more=(values,) * int(rng.integers(1, 5)), big=bool(rng.integers(2))), expect()


def imagej(images: int) -> dict[int, tuple[int, Any]]:
    return {270: (2, f"ImageJ=1.54f\nimages={images}\nslices={images}\n\0".encode())}


@kind
def tiff_stack_of_imagej(rng):
    values = ids(rng, bits_of(rng, 8, 16))
    return "tif", tiff(values, order=">", stack=(values,) * 4, tags=imagej(5)), expect()


@kind
def tiff_stack_of_imagej_cut(rng):
    values = ids(rng, 16)
    return "tif", tiff(values, order=">", stack=(values,), tags=imagej(10**9)), expect()


@kind
def tiff_turned(rng):
    values, turn = ids(rng, bits_of(rng, 8, 16)), int(rng.integers(1, 9))
    if rng.integers(2):
        values = np.dstack([values, values // 2, values // 3])
    colors = packed(values) if turn == 1 and values.dtype == np.uint8 else REFUSED
    grey_mask = values if values.ndim == 2 else values[..., 0] if not values.any() else REFUSED
    return (
        "tif",
        tiff(values, tags={274: (3, turn)}),
        expect(UPRIGHT[turn](values), grey_mask if turn == 1 else REFUSED, colors),
    )


@kind
def tiff_in_a_circle(rng):
    data = tiff(ids(rng))
    (at,) = struct.unpack_from("<I", data, 4)
    end = at + 2 + 12 * struct.unpack_from("<H", data, at)[0]
    return "tif", data[:end] + struct.pack("<I", at) + data[end + 4 :], expect()


@kind
def tiff_whose_tags_name_themselves(rng):
    values = ids(rng)
    at = len(tiff(values)) - len(tiff(values)) % 2
    where = struct.unpack_from("<I", tiff(values), 4)[0]
    tags = {330: (4, where), 34665: (4, where), 34853: (4, min(where, at))}
    return "tif", tiff(values, tags=tags), grey(values)


@kind
def tiff_of_many_pixels_declared(rng):
    tags = {256: (4, bits_of(rng, 30_000, 2**31, 2**32 - 1)), 257: (4, bits_of(rng, 30_000, 2**31))}
    return "tif", tiff(ids(rng), tags=tags), expect()


@kind
def tiff_of_more_rows_than_it_has(rng):
    values = ids(rng)
    rows = values.shape[0] + int(rng.integers(1, 5000))
    return "tif", tiff(values, compression=bits_of(rng, 1, 8), tags={257: (4, rows), 278: (4, rows)}), expect()


@kind
def tiff_of_1e9_strips(rng):
    data = tiff(ids(rng), rows=1)
    at = struct.unpack_from("<I", data, 4)[0]
    entry = next(i for i in range(at + 2, len(data), 12) if struct.unpack_from("<H", data, i)[0] == 273)
    return "tif", data[: entry + 4] + struct.pack("<II", 10**9, 8) + data[entry + 12 :], expect()


@kind
def tiff_of_1e9_strips_by_its_rows(rng):
    tags = {257: (4, 10**9), 278: (4, 1), 256: (4, 1)}
    return "tif", tiff(ids(rng), tags=tags), expect()


@kind
def tiff_with_pixels_outside(rng):
    values = ids(rng)
    where = bits_of(rng, 0, 4, 10**6, 2**32 - 1)
    return "tif", tiff(values, compression=bits_of(rng, 1, 8), tags={273: (4, where)}), expect()


@kind
def tiff_with_strips_missing(rng):
    values = np.vstack([ids(rng)] * 4)
    return "tif", tiff(values, rows=len(values) // 2, tags={273: (4, 8), 279: (4, values.size // 2)}), expect()


@kind
def tiff_with_a_long_description(rng):
    values = ids(rng)
    return "tif", tiff(values, tags={270: (2, b"ImageJ is not meant " * 50_000)}), grey(values)


@kind
def tiff_with_a_strip_too_short(rng):
    values = np.vstack([ids(rng)] * 4)
    counts = (values.size // 2, values.size // 2 - 1)
    return "tif", tiff(values, rows=len(values) // 2, tags={279: (4, counts)}), expect()


@kind
def tiff_with_sparse_tiles(rng):
    values = rng.integers(0, 256, (30, 30), dtype=np.uint8)
    return "tif", tiff(values, tile=16, tags={324: (4, (8, 0, 0, 8)), 325: (4, (256, 0, 0, 256))}), expect()


@kind
def tiff_with_rows_of_nothing(rng):
    tag, value = [(278, 0), (257, 0), (256, 0), (277, 0), (322, 0)][int(rng.integers(5))]
    tile = 16 if tag == 322 else 0
    return "tif", tiff(ids(rng), tile=tile, tags={tag: (4, value)}), expect()


@kind
def tiff_with_a_tag_missing(rng):
    tag = bits_of(rng, 256, 257, 273)
    return "tif", tiff(ids(rng), drop=(tag,)), expect()


@kind
def tiff_cut(rng):
    return "tif", cut(rng, tiff(ids(rng)), spare=6), expect()


@kind
def tiff_flip(rng):
    data = tiff(ids(rng, bits_of(rng, 8, 16)), compression=bits_of(rng, 1, 8, 32773), big=bool(rng.integers(2)))
    return "tif", flipped(rng, data), expect(EITHER, EITHER, EITHER)


@kind
def tiff_flip_of_tags(rng):
    values = ids(rng, 16, 3)
    data = tiff(values, compression=bits_of(rng, 1, 8), planar=bool(rng.integers(2)))
    return "tif", flipped(rng, data, struct.unpack_from("<I", data, 4)[0]), expect(EITHER, EITHER, EITHER)


@kind
def tiff_strip_that_unpacks_without_end(rng):
    values = np.zeros((4, 4, 3), np.uint16)
    bomb = zlib.compress(bytes(50_000_000))
    data = tiff(values, compression=8)
    at = len(data) + len(data) % 2
    data = data.ljust(at, b"\0") + bomb
    for tag, value in ((273, at), (279, len(bomb))):
        start = struct.unpack_from("<I", data, 4)[0] + 2
        entry = next(i for i in range(start, len(data), 12) if struct.unpack_from("<H", data, i)[0] == tag)
        data = data[: entry + 8] + struct.pack("<I", value) + data[entry + 12 :]
    return "tif", data, expect()


@kind
def tiff_cmyk(rng):
    return "tif", tiff(ids(rng, 8, 4), photometric=5), expect()


@kind
def tiff_of_other_colours(rng):
    return "tif", tiff(ids(rng, 8, 3), photometric=bits_of(rng, 8, 4, 32803, 34892)), expect()


@kind
def tiff_compressed_by_jpeg(rng):
    return "tif", saved(rng.integers(0, 256, (16, 16), dtype=np.uint8), "TIFF", compression="jpeg"), expect(EITHER)


@kind
def tiff_lzw(rng):
    values = ids(rng)
    return "tif", saved(values, "TIFF", compression="tiff_lzw"), grey(values)


@kind
def tiff_lzw_of_more_rows_than_it_has(rng):
    data = bytearray(saved(np.vstack([ids(rng)] * 2), "TIFF", compression="tiff_lzw", strip_size=10**6))
    (at,) = struct.unpack_from("<I", data, 4)
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", data, at)[0], 12):
        if struct.unpack_from("<H", data, entry)[0] in (257, 278):
            struct.pack_into("<HII", data, entry + 2, 4, 1, 90)
    return "tif", bytes(data), expect()


@kind
def tiff_of_differences_without_compression(rng):
    return "tif", tiff(ids(rng), predictor=2), expect()


@kind
def tiff_without_photometric(rng):
    return "tif", tiff(ids(rng), drop=(262,)), expect()


@kind
def tiff_group_4(rng):
    values = ids(rng, 1)
    return "tif", saved(Image.fromarray(values.astype(bool)), "TIFF", compression="group4"), grey(values, 1)


def photograph(rng: np.random.Generator) -> Image.Image:
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize((64, 48), Image.Resampling.BICUBIC)


@kind
def jpeg(rng):
    data = saved(photograph(rng), "JPEG", quality=int(rng.integers(20, 99)), progressive=bool(rng.integers(2)))
    return "jpg", data, expect(EITHER)


@kind
def jpeg_cut(rng):
    return "jpg", cut(rng, saved(photograph(rng), "JPEG"), spare=3), expect()


@kind
def jpeg_progressive_cut(rng):
    return "jpg", cut(rng, saved(photograph(rng), "JPEG", progressive=True), 200, 3), expect()


@kind
def jpeg_flip(rng):
    return "jpg", flipped(rng, saved(photograph(rng), "JPEG"), 2), expect(EITHER)


@kind
def jpeg_cmyk(rng):
    return "jpg", saved(photograph(rng).convert("CMYK"), "JPEG"), expect()


@kind
def jpeg_ycck(rng):
    data = saved(photograph(rng).convert("CMYK"), "JPEG")
    adobe = data.find(b"Adobe")
    return "jpg", data[: adobe + 11] + b"\2" + data[adobe + 12 :] if adobe > 0 else data, expect()


@kind
def jpeg_turned(rng):
    return "jpg", saved(photograph(rng), "JPEG", exif=b"Exif\0\0" + exif(int(rng.integers(1, 9)))), expect(EITHER)


@kind
def jpeg_with_damaged_exif(rng):
    return "jpg", saved(photograph(rng), "JPEG", exif=b"Exif\0\0" + cut(rng, exif(6))), expect(EITHER)


@kind
def jpeg_of_many_pixels_declared(rng):
    data = saved(photograph(rng), "JPEG")
    at = data.find(b"\xff\xc0") + 5
    return "jpg", data[:at] + struct.pack(">HH", 65500, 65500) + data[at + 4 :], expect()


@kind
def jpeg_of_many_scans(rng):
    data = saved(photograph(rng), "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    return "jpg", data[:-2] + data[last:-2] * 400 + data[-2:], expect()


@kind
def jpeg_of_several_pictures(rng):
    return "jpg", saved(photograph(rng), "MPO", save_all=True, append_images=[photograph(rng)]), expect(EITHER)


@kind
def gif_of_one_frame(rng):
    bits = int(rng.integers(2, 9))
    values, colors = ids(rng, bits), table(rng, 2**bits)
    return "gif", gif(values, table=colors, bits=bits), expect(colors[values], values, packed(colors[values]))


@kind
def gif_animated(rng):
    values = ids(rng)
    return "gif", gif(*[values] * int(rng.integers(2, 6)), table=table(rng, 256)), expect()


@kind
def gif_of_very_many_frames(rng):
    return "gif", gif(*[np.zeros((1, 1), np.uint8)] * 5000, table=table(rng, 4), bits=2), expect()


@kind
def gif_cut(rng):
    data = gif(np.vstack([ids(rng, 4)] * 9), table=table(rng, 16), bits=4)
    return "gif", cut(rng, data, spare=8), expect()


@kind
def gif_of_many_pixels_declared(rng):
    return "gif", gif(ids(rng), table=table(rng, 256), screen=(65535, 65535)), expect()


@kind
def gif_frame_beside_the_screen(rng):
    values = ids(rng)
    height, width = values.shape
    return "gif", gif(values, table=table(rng, 256), screen=(width + 3, height + 2), at=(2, 1)), expect()


@kind
def gif_of_too_few_pixels(rng):
    values = np.vstack([ids(rng, 4)] * 2)
    half, whole = gif_block(values[: len(values) // 2], 4), gif_block(values, 4)
    data = gif(values, table=table(rng, 16), bits=4)
    return "gif", data.replace(whole, whole[:9] + half[9:]), expect()


@kind
def gif_with_a_colour_missing(rng):
    values = ids(rng)
    values[0, 0] = 255
    return "gif", gif(values, table=table(rng, 16)), expect(mask=values)


@kind
def gif_flip(rng):
    return "gif", flipped(rng, gif(ids(rng), table=table(rng, 256))), expect(EITHER, EITHER, EITHER)


@kind
def bmp_palette(rng):
    bits = bits_of(rng, 1, 4, 8)
    values, colors = ids(rng, bits), table(rng, 2**bits)
    turned = {"height": -len(values)} if rng.integers(2) else {}
    return "bmp", bmp(values, bits, colors, **turned), expect(colors[values], values, packed(colors[values]))


@kind
def bmp_rgb(rng):
    values = rgb(rng)
    return "bmp", bmp(values, 24), color(values)


@kind
def bmp_of_black_and_white_in_bytes(rng):
    values, colors = ids(rng, 1), np.array([[0] * 3, [255] * 3])
    exact = expect(values * 255, values, packed(values * 255))
    data = bmp(values, bits_of(rng, 4, 8), colors, colors=2)
    return "bmp", data, or_refused(exact)


@kind
def bmp_of_grey_in_half_bytes(rng):
    values, colors = ids(rng, 4), np.repeat(np.arange(16), 3).reshape(16, 3)
    exact = expect(values, values, packed(values))
    return "bmp", bmp(values, 4, colors, colors=16), or_refused(exact)


@kind
def bmp_with_a_colour_missing(rng):
    values = ids(rng, 4)
    values[0, 0] = 9
    return "bmp", bmp(values, 8, table(rng, 9), colors=9), expect(mask=values)


@kind
def bmp_cut(rng):
    return "bmp", cut(rng, bmp(np.vstack([ids(rng)] * 3), 8, table(rng, 256)), spare=4), expect()


@kind
def bmp_run_length_cut(rng):
    values = np.vstack([ids(rng)] * 2)
    body = b"".join(bytes([1, value]) for value in values.ravel().tolist())[: values.size - 1] + b"\0\1"
    return "bmp", bmp(values, 8, table(rng, 256), compression=1, body=body), expect()


@kind
def bmp_of_many_pixels_declared(rng):
    size = bits_of(rng, 40_000, 2**31 - 1)
    return "bmp", bmp(ids(rng), 8, table(rng, 256), width=size, height=size), expect()


@kind
def bmp_of_negative_width(rng):
    return "bmp", bmp(ids(rng), 8, table(rng, 256), width=-int(rng.integers(1, 10**6))), expect()


@kind
def bmp_flip(rng):
    return "bmp", flipped(rng, bmp(ids(rng), 8, table(rng, 256))), expect(EITHER, EITHER, EITHER)


@kind
def pgm(rng):
    values = ids(rng)
    return "pgm", pnm(values, 255, plain=bool(rng.integers(2))), grey(values)


@kind
def pgm_of_16_bits(rng):
    values = ids(rng, 16)
    return "pgm", pnm(values, 65535, plain=bool(rng.integers(2))), expect(values, values)


@kind
def pgm_of_another_maximum(rng):
    largest = int(rng.choice([1, 3, 10, 100, 254, 256, 1000, 4095]))
    values = (ids(rng, 16) % (largest + 1)).astype(np.uint16)
    full = 255 if largest < 256 else 65535
    shown = np.array([[round(value / largest * full) for value in row] for row in values.tolist()])
    return "pgm", pnm(values, largest, plain=bool(rng.integers(2))), expect(shown, values)


@kind
def pgm_above_its_maximum(rng):
    values = ids(rng, 4)
    values[0, 0] = 9
    return "pgm", pnm(values, 8, plain=bool(rng.integers(2))), expect()


@kind
def pgm_cut(rng):
    return "pgm", cut(rng, pnm(ids(rng, 16), 65535), spare=1), expect()


@kind
def pgm_of_many_pixels_declared(rng):
    return "pgm", b"P5 99999 99999 255\n" + bytes(100), expect()


@kind
def pgm_not_of_numbers(rng):
    bad = [
        b"P2 2 2 255\n1 2 x 4",
        b"P2 2 2 255\n1 -2 3 4",
        b"P5 2 2 0\nabcd",
        b"P2 2 2 70000\n1 2 3 4",
        b"P5 2 2 9x\nabcd",
    ]
    return "pgm", bad[int(rng.integers(len(bad)))], expect()


@kind
def ppm(rng):
    values = rgb(rng)
    return "ppm", pnm(values, 255, plain=bool(rng.integers(2))), color(values)


@kind
def ppm_of_16_bits(rng):
    values = ids(rng, 16, 3)
    values[0, 0] = (1, 2, 3)
    return "ppm", pnm(values, 65535, plain=bool(rng.integers(2))), expect(values)


@kind
def pfm_not_finite(rng):
    values = (ids(rng) / 256).astype("<f4")
    values[0, 0] = np.nan
    return "pgm", b"Pf\n%d %d\n-1.0\n" % values.shape[::-1] + values.tobytes(), expect()


@kind
def webp(rng):
    values = rgb(rng)
    return "webp", saved(values, "WEBP", lossless=True), expect(values)


@kind
def webp_cut(rng):
    return "webp", cut(rng, saved(photograph(rng), "WEBP"), spare=3), expect()


@kind
def webp_animated(rng):
    frames = [photograph(rng) for _ in range(3)]
    return "webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]), expect()


@kind
def webp_of_many_pixels_declared(rng):
    body = saved(rgb(rng), "WEBP", lossless=True)[12:]
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\xff\x00" * 2 + body
    return "webp", b"RIFF" + struct.pack("<I", len(extended) + 4) + b"WEBP" + extended, expect()


@kind
def webp_flip(rng):
    return "webp", flipped(rng, saved(photograph(rng), "WEBP")), expect(EITHER)


def malformed_files(count: int, seed: int) -> Iterator[Case]:
    """Yield `count` files, every kind in turn."""
    names = list(KINDS)
    for number in range(count):
        name = names[number % len(names)]
        suffix, data, expectation = KINDS[name](np.random.default_rng([seed, number]))
        yield Case(name, suffix, data, expectation)


# --- Outcomes --------------------------------------------------------------------------------------------------------

SECONDS = 5  # a file may take in all readers; then the process is killed
MORE_MEMORY = 1536 * 2**20  # bytes of addresses a process may take on top of what it has before the first file


def judge(path: str, reader: str, expected: Any) -> str:
    """Read a file and return "exact", "refused", "pixels" (none could be foretold), or what is wrong."""
    from unetres_edge.errors import ImageError, MaskError
    from unetres_edge.images.decode import read_colors, read_image, read_mask

    read, error = {
        "image": (read_image, ImageError),
        "mask": (read_mask, MaskError),
        "colors": (read_colors, MaskError),
    }[reader]
    allowed = expected if isinstance(expected, list) else [expected]
    try:
        found = read(path)
    except error as refused:
        if refused.file != path:
            return f"WRONG: the error does not name the file: {refused}"
        sound = any(isinstance(value, str) for value in allowed)
        return "refused" if sound else f"WRONG: refused: {refused.message}; found {refused.found}"
    except Exception as other:
        return f"WRONG: {type(other).__name__}: {other}"
    pixels = [value for value in allowed if not isinstance(value, str)]
    if any(found.shape == value.shape and (found == value).all() for value in pixels):
        return "exact"
    if any(isinstance(value, str) and value == EITHER for value in allowed):
        return "pixels"
    return f"WRONG: {found.dtype} {found.shape} where {'other pixels' if pixels else 'a refusal'} should be"


def run(count: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, reader, outcome) of `count` files, within `SECONDS` a file and `MORE_MEMORY`. Linux alone."""
    import resource

    import tifffile  # noqa: F401  (belongs to the memory before the first file)

    import unetres_edge.images.decode  # noqa: F401

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with tempfile.TemporaryDirectory() as folder:
        for case in malformed_files(count, seed):
            path = os.path.join(folder, f"file.{case.suffix}")
            Path(path).write_bytes(case.data)
            signal.alarm(SECONDS)
            for reader in READERS:
                yield case.kind, reader, judge(path, reader, case.expectation[reader])
            signal.alarm(0)


def main() -> None:
    """Print one line of JSON for each file and reader, or a table; `malformed.py [count [seed [json]]]`."""
    count, seed, form = [*sys.argv[1:], *["1000", "1", "table"][len(sys.argv) - 1 :]]

    outcomes: Counter[tuple[str, str]] = Counter()
    for kind_, reader, outcome in run(int(count), int(seed)):
        if form == "json":
            print(json.dumps([kind_, reader, outcome]), flush=True)
        outcomes[kind_, outcome if outcome in ("exact", "refused", "pixels") else "wrong"] += 1
    # Not ru_maxrss, which starts at what the process that started this one had in use.
    status = Path("/proc/self/status").read_text()
    peak = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) // 1024
    if form == "json":
        print(json.dumps(["memory", "MB", peak]))
        return
    columns = ("exact", "refused", "pixels", "wrong")
    print(f"{'kind':48}{'reads':>7}" + "".join(f"{name:>9}" for name in columns))
    for name in [*KINDS, "all"]:
        row = [sum(n for (k, o), n in outcomes.items() if o == column and name in (k, "all")) for column in columns]
        print(f"{name:48}{sum(row):7}" + "".join(f"{n:9}" for n in row))
    print(f"{count} files, seed {seed}, each by {', '.join(READERS)}; memory at most {peak} MB")


if __name__ == "__main__":
    main()
