"""Decoding: the one place where image and mask files become arrays.

Training, calibration, evaluation and the device all read through `read_image`, so that no two of them can see
different pixels. `read_mask` gives the numbers stored in a mask (palette indices, not colours), `read_colors` its
colours. What the numbers mean is decided elsewhere.

Pixels are exact or refused by name. Every file is checked before it is decoded, so that memory and time stay within
what `MAX_PIXELS` allows. The numbers that a decoder would change (16-bit colours, 2 and 4-bit grey, grey with another
maximum, white is zero) are recovered or refused.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import threading
import warnings
from collections import deque
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import FileSystemError, Fix, ImageError, MaskError, UsageError
from ..files import Contents, file_state, is_buffer, read_bytes, read_contents
from . import png, pnm, tiff
from .bands import AT_ONCE, bands

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MAX_PIXELS = 89_000_000
_BYTES_A_PIXEL = 8  # RGBA of 16 bits; a file of `MAX_PIXELS` may not take more
_MAX_FILE = 2**32
_MAX_PLAIN = 2**24  # bytes of a PGM written in digits, which take many times their size to read
_MAX_SCANS = 256  # of a progressive JPEG, each as long to decode as a whole image
_MARKER = re.compile(rb"\xff+[^\x00\xff]", re.DOTALL)  # of JPEG
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "GIF")  # Pillow opens MPO as JPEG
HEADER_FORMATS = (*_FORMATS, "TIFF")  # those that Pillow may open to look at a header, or at a few pixels
_stacks: deque[tuple[tuple[int, ...], bytes]] = deque(maxlen=2)
_EXIF_ORIENTATION = 0x0112
_SCALE = {2: 85, 4: 17}  # by which Pillow multiplies grey of few bits
_AS_PAGES = "save each frame as its own file, or all as the pages of a TIFF"
_AS_FILES = "save each frame as its own file, or declare the stack in a dataset.yaml"
_AS_CHANNELS = Fix("pages: channels", {"pages": "channels"})


def read_image(path: str | os.PathLike[str], page: int | None = None, *, stacked: bool = False) -> np.ndarray:
    """Decode an image file, with its EXIF orientation applied.

    Args:
        page: page of a multi-page TIFF or an ImageJ stack, counted from 0. None refuses files with more than one, but
            for those in which OME-XML or ImageJ say that the pages are the channels of one image.
        stacked: whether the pages of a file are its channels, whatever it says of them.

    Returns:
        (H, W) for grey or (H, W, 3) for colour images, (H, W, C) for TIFFs with other channels, 16 at most. uint8;
        uint16 for 16-bit files; float32 for float TIFFs. Palette images give their colours. An opaque alpha channel is
        dropped.

    Raises:
        ImageError: the file cannot be read, not an image, damaged, more than one frame, CMYK, transparent pixels,
            values that are not finite, a 16-bit colour PNG, or more than `MAX_PIXELS` pixels.
    """
    with _named(ImageError, path):
        return _decode(_read_page(path, "image", page), page, stacked)


def _decode(data: bytes, page: int | None, stacked: bool = False) -> np.ndarray:
    if tiff.is_tiff(data):
        pages = tiff.count_pages(data)
        if page is None and pages > 1 and (stacked or tiff.count_channels(data) == pages):
            return _stacked(data, pages)
        return _tiff_image(data, *_find_page(data, page))
    if pnm.is_pnm(data):
        values, largest = _pnm_values(data, page)
        full = 255 if largest < 256 else 65535
        levels = np.rint(np.arange(largest + 1) / largest * full)
        return levels.astype(np.uint8 if full == 255 else np.uint16)[values]
    return _finite(_image_array(_upright(_open(data, page))))


def read_mask(path: str | os.PathLike[str], page: int | None = None, *, smeared: bool = False) -> np.ndarray:
    """Decode a mask file to the numbers stored in it.

    Args:
        page: page of a multi-page TIFF or an ImageJ stack, counted from 0. None refuses files with more than one.
        smeared: whether JPEG and WebP are read, too, whose numbers are near those that were drawn.

    Returns:
        (H, W) uint8 or uint16 (int32 for 32-bit files): palette indices, grey levels, or of a 1-bit file 1 where it is
        white. Grey levels are those stored, also of a TIFF in which 0 is white.

    Raises:
        MaskError: the file cannot be read, not an image, damaged, more than one frame, JPEG or WebP (values smeared),
            colours, transparent pixels, fractions, or rotated by EXIF.
    """
    with _named(MaskError, path):
        return _decode_mask(_read_page(path, "mask", page), page, smeared)


def _decode_mask(data: bytes, page: int | None, smeared: bool = False) -> np.ndarray:
    if tiff.is_tiff(data):
        return _tiff_mask(data, *_find_mask(data, page))
    if pnm.is_pnm(data):
        values, largest = _pnm_values(data, page)
        return _grey(values.astype(np.uint8 if largest < 256 else np.uint16))
    image = _open(data, page)
    _refuse_smeared(image, smeared)
    bits = png.read_bits(data) if png.is_png(data) else 8
    return _mask_array(image) // (_SCALE.get(bits, 1) if image.mode == "L" else 1)


def read_colors(path: str | os.PathLike[str], page: int | None = None) -> np.ndarray:
    """Decode a mask file whose colours, not its numbers, carry the classes.

    Returns:
        (H, W) int32, each pixel R << 16 | G << 8 | B of 8 bits. Grey has R = G = B; a 1-bit file 0 and 255.

    Raises:
        MaskError: as for `read_mask`; also more than 8 bits.
    """
    with _named(MaskError, path):
        return _decode_colors(_read_page(path, "mask", page), page)


def _decode_colors(data: bytes, page: int | None) -> np.ndarray:
    if tiff.is_tiff(data):
        values = _tiff_image(data, *_find_mask(data, page))
    elif pnm.is_pnm(data):
        values, largest = _pnm_values(data, page)
        if largest != 255:
            raise MaskError("mask colours are not of 8 bits", expected="a maximum of 255", found=largest)
        values = values.astype(np.uint8)
    else:
        image = _open(data, page)
        _refuse_smeared(image)
        values = _image_array(image)
    if values.dtype != np.uint8 or values.shape[2:] not in ((), (3,)):
        raise MaskError(
            "mask colours are not of 8 bits",
            expected="grey or RGB of uint8",
            found=f"{values.shape} {values.dtype}",
        )
    return _packed(values)


def decode_image(data: bytes, name: str | os.PathLike[str]) -> np.ndarray:
    """Do what `read_image` does, from the bytes of a file; errors call it by a name."""
    with _named(ImageError, name):
        return _decode(_checked(data), None)


def decode_mask(data: bytes, name: str | os.PathLike[str], *, colors: bool = False) -> np.ndarray:
    """Do what `read_mask` does, or with `colors` `read_colors`, from the bytes of a file; errors call it by a name."""
    with _named(MaskError, name):
        return (_decode_colors if colors else _decode_mask)(_checked(data), None)


def read_pixel_count(path: str | os.PathLike[str]) -> int:
    """Return height times width by the header of a file, or 0 of one whose header Pillow does not read."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            return image.width * image.height
    except Exception:  # of Pillow's readers: any kind
        return 0


def count_pages(path: str | os.PathLike[str]) -> int:
    """Return how many images a TIFF holds, also an ImageJ stack; 1 for any other image. No pixels are decoded.

    Raises:
        ImageError: the file cannot be read, not an image, damaged, or animated.
    """
    with _named(ImageError, path):
        data = _read(path, "image")
        if tiff.is_tiff(data):
            return tiff.count_pages(data)
        if not pnm.is_pnm(data):
            _check_page(None, _count_frames(Image.open(io.BytesIO(data), formats=_FORMATS)), _AS_PAGES)
        return 1


def pages_are_channels(path: str | os.PathLike[str]) -> bool:
    """Return whether a TIFF of several pages says, in OME-XML or as ImageJ does, that they are channels of one image.

    Raises:
        ImageError: as `count_pages`.
    """
    with _named(ImageError, path):
        data = _read(path, "image")
        return tiff.is_tiff(data) and (pages := tiff.count_pages(data)) > 1 and tiff.count_channels(data) == pages


def read_orientation(path: str | os.PathLike[str]) -> int:
    """Return how EXIF or a TIFF's tag turns an image, 1 to 8; 1 where nothing turns it, or nothing can be told.

    No pixels are decoded, but of a PNG that has metadata after them.
    """
    try:
        with _quiet(), Image.open(path, formats=HEADER_FORMATS) as image:
            if image.format == "PNG" and not png.has_late_text(path):
                tags = Image.Image.getexif(image)  # that of PNG decodes all pixels, for what may come after them
            else:
                tags = image.tag_v2 if image.format == "TIFF" else image.getexif()  # type: ignore[attr-defined]
            orientation = tags.get(_EXIF_ORIENTATION, 1)
    except Exception:  # of Pillow's readers: any kind; whoever reads the pixels names it
        return 1
    return orientation if type(orientation) is int and 1 <= orientation <= 8 else 1


def has_palette(path: str | os.PathLike[str]) -> bool:
    """Whether the numbers of an image file are indices into a table of colours; no pixels are decoded.

    Raises:
        ImageError: the file cannot be read, or is not an image.
    """
    with _named(ImageError, path):
        data = _read(path, "image")
        if tiff.is_tiff(data):
            return tiff.find_page(data, 0)[0].photometric == 3
        return not pnm.is_pnm(data) and Image.open(io.BytesIO(data), formats=_FORMATS).mode == "P"


def image_array(image: Image.Image, *, file: str | os.PathLike[str] | None = None) -> np.ndarray:
    """Return the pixels of a Pillow image as `read_image` does, EXIF orientation applied.

    Raises:
        ImageError: truncated, CMYK, transparent pixels, or another mode that is not supported.
    """
    with _named(ImageError, file):
        return _finite(_image_array(ImageOps.exif_transpose(image)))


def pixels_of(image: Contents | np.ndarray | Image.Image, *, stacked: bool = False) -> np.ndarray:
    """Return the pixels of whatever stands for an image: an array as it is, a Pillow image, or a file.

    Args:
        image: the image; a file by its path, by its bytes (or what holds them, such as a memoryview), or opened with
            mode "rb".
        stacked: as `read_image` takes it.

    Raises:
        UsageError: it is none of these.
        ImageError: as `read_image` and `image_array` say.
    """
    if isinstance(image, np.ndarray):
        if np.ma.is_masked(image):
            hidden = int(np.ma.getmaskarray(image).sum())
            raise ImageError("the array hides values", found=f"{hidden} that are masked", fix="image.filled(0)")
        return image
    if isinstance(image, Image.Image):
        return image_array(image)
    if isinstance(image, (str, os.PathLike)):
        return read_image(image, stacked=stacked)
    if not (callable(getattr(image, "read", None)) or _holds_a_file(image)):
        expected = "an array, a Pillow image, or a file: its path, its bytes, or opened with mode 'rb'"
        raise UsageError("not an image", expected=expected, found=type(image).__name__)
    data, file = read_contents(image, "image")
    with _named(ImageError, file):
        return _decode(_checked(data), None, stacked)


def _holds_a_file(value: object) -> bool:
    """Return whether a value is a row of bytes; a buffer of rows or of numbers holds pixels, and is to be an array."""
    if not is_buffer(value):
        return False
    with memoryview(value) as view:  # type: ignore[arg-type]
        return view.ndim == 1 and view.itemsize == 1


@contextlib.contextmanager
def _named(kind: type[ImageError] | type[MaskError], file: str | os.PathLike[str] | None) -> Iterator[None]:
    """Turn all that a decoder may raise into one error that names the file, and keep its warnings of metadata quiet."""
    try:
        with _quiet():
            yield
    except (FileSystemError, ImageError, MaskError) as error:
        error_kind = None if error.kind == error.code else error.kind
        raise kind(
            error.message, file=file, expected=error.expected, found=error.found, fix=error.remedy, kind=error_kind
        ) from error
    except Image.DecompressionBombError as error:
        raise kind("too many pixels", file=file, expected=f"at most {MAX_PIXELS}", kind="too-large") from error
    except Exception as error:  # Pillow and tifffile document none; struct.error, KeyError and MemoryError are seen
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "not an image of a known format" if unknown else str(error) or type(error).__name__
        error_kind = "not-an-image" if unknown else "unreadable"
        raise kind(f"cannot decode: {reason}", file=file, fix="replace or remove the file", kind=error_kind) from error


class _WhileDecoding:
    """A pattern for `warnings.filters` that matches any text, but only in a thread that decodes an image.

    Args:
        pattern: regular expression from which scikit-learn makes filters anew for its own threads: it matches nothing.
    """

    pattern = "(?!)"

    def match(self, text: str) -> bool:
        return getattr(_this_thread, "decodes", False)


_this_thread = threading.local()
_filters_lock = threading.Lock()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of this thread. `warnings.catch_warnings` would change them for every thread.

    What Pillow warns of is metadata (damaged EXIF, odd tags). Damaged pixels are found by the checks made here.
    """
    _put_filter_first()
    before, _this_thread.decodes = getattr(_this_thread, "decodes", False), True
    try:
        yield
    finally:
        _this_thread.decodes = before


def _put_filter_first() -> None:
    """Make the filter of `_WhileDecoding` the first one, and the only one of its kind.

    Others may have put theirs before it since the last image. The new one is there before the old one goes, for threads
    that decode meanwhile; each step changes the list at once.
    """
    filters: list[tuple[object, ...]] = warnings.filters  # type: ignore[assignment]
    with _filters_lock:
        if filters and isinstance(filters[0][1], _WhileDecoding):
            return
        old = [each for each in filters if isinstance(each[1], _WhileDecoding)]
        filters.insert(0, ("ignore", _WhileDecoding(), Warning, None, 0))
        for each in old:
            filters.remove(each)


def _read_page(path: str | os.PathLike[str], what: str, page: int | None) -> bytes:
    """Return the content of a file; that of the last two stacks is kept, images and masks, for their next pages."""
    if page is None:
        return _read(path, what)
    try:
        about = os.stat(path)
    except OSError:
        return _read(path, what)
    key = file_state(about)
    for known, data in tuple(_stacks):
        if known == key:
            return data
    data = _read(path, what)
    if tiff.is_tiff(data) and len(data) == about.st_size <= tiff.MOST_KEPT:
        _stacks.append((key, data))
    return data


def _read(path: str | os.PathLike[str], what: str) -> bytes:
    if os.path.isfile(path) and os.path.getsize(path) > _MAX_FILE:
        raise ImageError(
            "the file is too large",
            expected=f"at most {_MAX_FILE} bytes",
            found=os.path.getsize(path),
            kind="too-large",
        )
    return _checked(read_bytes(path, what))


def _checked(data: bytes) -> bytes:
    if len(data) > _MAX_FILE:
        raise ImageError(
            "the file is too large", expected=f"at most {_MAX_FILE} bytes", found=len(data), kind="too-large"
        )
    if not data:
        raise ImageError("the file is empty", fix="replace or remove the file", kind="empty-file")
    if re.match(rb"P[123]\s", data) and len(data) > _MAX_PLAIN:
        raise ImageError(
            "PGM in digits is too large", expected=f"at most {_MAX_PLAIN} bytes", fix="save it as PNG", kind="too-large"
        )
    return data


def _open(data: bytes, page: int | None) -> Image.Image:
    """Open a file that is not TIFF, everything checked that can be without decoding."""
    if png.is_png(data):
        width, height = png.read_size(data)
        _check_size(width, height)
        png.check(data)
    if data.startswith(b"\xff\xd8") and (scans := _count_scans(data)) > _MAX_SCANS:
        raise ImageError("JPEG has too many scans", expected=f"at most {_MAX_SCANS}", found=scans, kind="unreadable")
    image = Image.open(io.BytesIO(data), formats=_FORMATS)
    _check_size(image.width, image.height)
    _check_page(None, _count_frames(image), _AS_PAGES)
    _check_page(page, 1)
    if image.format == "GIF" and image.tile and image.tile[0][1] != (0, 0, *image.size):
        raise ImageError("GIF frame does not cover the image", found=image.tile[0][1], fix="save it as PNG")
    if image.format == "BMP" and image.mode in ("1", "L"):
        bits = struct.unpack_from("<H", data, 24 if data[14] == 12 else 28)[0]
        if bits != (1 if image.mode == "1" else 8):  # Pillow takes a grey colour table for another depth
            raise ImageError(f"BMP of {bits} bits with a grey colour table is not supported", fix="save it as PNG")
    if png.is_png(data):
        image.load()
        last = image.crop((0, image.height - 1, image.width, image.height))
        if png.is_interlaced(data) or not np.asarray(last).any():
            png.check_rows(data)
    if png.is_png(data) and image.mode in ("1", "L") and "transparency" in image.info:
        clear, bits = image.info["transparency"], png.read_bits(data)  # as stored, where the grey levels are scaled
        image.info["transparency"] = 255 * bool(clear) if bits == 1 else clear * _SCALE.get(bits, 1)
    return image


def _count_scans(data: bytes) -> int:
    """Return the number of scans up to the end of a JPEG, found as libjpeg does; phones put films behind a photo."""
    scans, at = 0, 2
    while (match := _MARKER.search(data, at)) is not None:
        marker, at = data[match.end() - 1], match.end()
        if marker == 0xD9:
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # without a length
            continue
        scans += marker == 0xDA
        at += int.from_bytes(data[at : at + 2], "big")
    return scans


def _count_frames(image: Image.Image) -> int:
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def _pnm_values(data: bytes, page: int | None) -> tuple[np.ndarray, int]:
    _check_page(page, 1)
    header = pnm.read_header(data)
    _check_size(header.width, header.height, 6)
    return pnm.read_values(data, header), header.largest


def _check_size(width: int, height: int, bytes_a_pixel: float = 1) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(
            "too many pixels", expected=f"at most {MAX_PIXELS}", found=f"{width} x {height}", kind="too-large"
        )
    if width * height * bytes_a_pixel > MAX_PIXELS * _BYTES_A_PIXEL:
        raise ImageError(
            "too many bytes of pixels",
            expected=f"at most {MAX_PIXELS * _BYTES_A_PIXEL}",
            found=f"{width} x {height} x {bytes_a_pixel:g}",
            kind="too-large",
        )


def _stacked(data: bytes, pages: int) -> np.ndarray:
    """Return the pages of a TIFF as the channels (H, W, C) of one image."""
    if pages > tiff.MAX_CHANNELS:
        raise ImageError(
            "too many pages for channels", expected=f"at most {tiff.MAX_CHANNELS}", found=pages, kind="frames"
        )
    planes = [_tiff_image(data, *_find_page(data, number)) for number in range(pages)]
    forms = sorted({f"{values.shape} {values.dtype}" for values in planes})
    if len(forms) > 1 or planes[0].ndim != 2:
        raise ImageError(
            "the pages are no channels",
            expected="grey pages of one size and depth",
            found=", ".join(forms),
            kind="frames",
        )
    return np.stack(planes, axis=-1)


def _check_page(page: int | None, pages: int, fix: str | Fix = _AS_FILES) -> None:
    if page is None and pages != 1:
        raise ImageError("more than one frame", expected=1, found=pages, fix=fix, kind="frames")
    if page is not None and not 0 <= page < pages:
        raise ImageError("no such page", expected=f"0..{pages - 1}", found=page, kind="frames")


def _refuse_smeared(image: Image.Image, are_read: bool = False) -> None:
    if image.format in ("JPEG", "MPO", "WEBP") and not are_read:
        raise MaskError(
            f"a {image.format} file does not hold class ids exactly",
            expected="PNG or TIFF",
            fix="export the masks as PNG",
            kind="lossy-mask",
        )
    if image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
        raise MaskError("mask is rotated by EXIF", fix="save the mask upright, without EXIF", kind="rotated-mask")


def _array(image: Image.Image) -> np.ndarray:
    """Return what `np.array` does of a Pillow image, without the two copies more that it makes of a large one."""
    width, height = image.size
    if width * height <= AT_ONCE:
        return np.array(image)
    values = np.empty(0)
    for rows in bands((height, width)):
        piece = np.asarray(image.crop((0, rows.start, width, rows.stop)))
        if not rows.start:
            values = np.empty((height, *piece.shape[1:]), piece.dtype)
        values[rows] = piece
    return values


def _upright(image: Image.Image) -> Image.Image:
    ImageOps.exif_transpose(image, in_place=True)  # which spares a copy
    return image


def _image_array(image: Image.Image) -> np.ndarray:
    image.load()
    mode = image.mode
    if mode.startswith("I"):
        return _sixteen_bits(_array(image), image.info.get("transparency"))
    if "transparency" in image.info and mode in ("1", "L", "P", "RGB"):
        mode = "LA" if mode in ("1", "L") else "RGBA"
        image = _with_colors(image).convert(mode)
    elif mode == "P":
        mode = "RGB"
        image = _with_colors(image).convert(mode)
    if mode in ("LA", "PA", "La", "RGBA", "RGBa"):
        _refuse_clear(np.asarray(image.getchannel("A" if "A" in mode else "a")))
        return _array(image.convert("L" if mode in ("LA", "La") else "RGB"))
    if mode == "1":
        return _array(image.convert("L"))
    if mode in ("L", "RGB"):
        return _array(image)
    if mode == "YCbCr":
        return _array(image.convert("RGB"))
    if mode == "F":
        return _array(image).astype(np.float32, copy=False)
    raise ImageError("image mode is not supported", expected="grey or RGB", found=mode, fix="convert to RGB")


def _with_colors(image: Image.Image) -> Image.Image:
    """Return the image, refused if it is of a palette in which a colour is missing."""
    if image.mode == "P" and image.palette is not None:
        colors, largest = len(image.palette.palette) // len(image.palette.mode), np.asarray(image).max()
        if largest >= colors:
            raise ImageError(
                "a pixel has no colour in the palette",
                expected=f"at most {colors - 1}",
                found=largest,
                kind="unreadable",
            )
    return image


def _refuse_clear(alpha: np.ndarray) -> None:
    opaque = 1 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
    if not alpha.min() >= opaque:  # NaN is not opaque
        raise ImageError("image has transparent pixels", fix="flatten it onto a background", kind="transparent")


def _sixteen_bits(values: np.ndarray, clear: object = None) -> np.ndarray:
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(
            "image values outside 16 bits",
            expected="0..65535",
            found=f"{values.min()}..{values.max()}",
            fix="add one offset to the values of all images, or save them as float32 TIFF",
        )
    if isinstance(clear, int) and (values == clear).any():
        raise ImageError("image has transparent pixels", fix="flatten it onto a background", kind="transparent")
    return values.astype(np.uint16)


def _finite(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        wrong = values.size - int(np.isfinite(values).sum())
        if wrong:
            raise ImageError(
                f"image has {wrong} values that are not finite",
                fix="replace NaN and infinity by numbers",
                kind="not-finite",
            )
    return values


def _mask_array(image: Image.Image) -> np.ndarray:
    image.load()
    if image.mode in ("P", "L"):
        return _array(image)
    if image.mode == "1":
        return _array(image).astype(np.uint8)
    if image.mode.startswith("I"):
        return _whole(_array(image))
    if image.mode in ("LA", "RGBA"):
        if np.asarray(image.getchannel("A")).min() < 255:
            raise MaskError(
                "mask has transparent pixels",
                fix="save the mask as one channel of class ids, from its alpha channel if that is the mask",
                kind="transparent",
            )
        return _grey(_array(image.convert(image.mode[:-1])))
    if image.mode == "RGB":
        return _grey(_array(image))
    kind = "float-mask" if image.mode == "F" else None
    raise MaskError("mask mode is not supported", expected="palette or grey", found=image.mode, kind=kind)


def whole_numbers(values: np.ndarray) -> np.ndarray:
    """Return the numbers of a mask as integers of 8 to 32 bits, also where they are stored as floats.

    Raises:
        MaskError: fractions, values that are not finite, or numbers outside 32 bits.
    """
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and (values == np.rint(values)).all()):
            raise MaskError(
                "mask holds fractions",
                expected="whole numbers",
                found=f"{values.dtype} from {values.min():g} to {values.max():g}",
                fix="save whole numbers, such as (mask > 0.5).astype('uint8')",
                kind="float-mask",
            )
        _refuse_wide(values)
        values = values.astype(np.int64)
    return _whole(values)


def _refuse_wide(values: np.ndarray) -> None:
    if values.min() < -(2**31) or values.max() >= 2**31:
        found = f"{values.min()}..{values.max()}"
        raise MaskError("mask values outside 32 bits", expected=f"at most {2**31 - 1}", found=found)


def _whole(values: np.ndarray) -> np.ndarray:
    _refuse_wide(values)
    low, high = int(values.min()), int(values.max())
    if low >= 0 and high <= 255 and values.dtype.itemsize == 1:
        return values.astype(np.uint8)
    return values.astype(np.uint16 if low >= 0 and high <= 65535 else np.int32)


def _grey(values: np.ndarray) -> np.ndarray:
    """Return the one channel of class ids, which may be written as equal red, green and blue."""
    if values.ndim == 2:
        return values
    if values.shape[2] not in (1, 3):
        raise MaskError(
            "mask has too many channels",
            expected="one channel of class ids",
            found=values.shape[2],
            fix="if each channel is a class, save the number of the largest one: masks.argmax(-1)",
        )
    if (values == values[..., :1]).all():
        return values[..., 0].copy()
    raise MaskError(
        "mask holds colours, not class ids",
        expected="one channel of class ids",
        found=f"{len(np.unique(_packed(values)))} colours" if values.dtype == np.uint8 else f"{values.dtype} colours",
        fix="save the masks as indexed PNG whose indices are the class ids",
        kind="color-mask",
    )


def _packed(values: np.ndarray) -> np.ndarray:
    colors = np.broadcast_to(values[..., None], (*values.shape, 3)) if values.ndim == 2 else values
    packed = colors[..., 0].astype(np.int32)
    for channel in (1, 2):
        packed <<= 8
        packed |= colors[..., channel]
    return packed


def _find_page(data: bytes, number: int | None) -> tuple[tiff.Page, int]:
    pages = tiff.count_pages(data)
    _check_page(number, pages, _AS_CHANNELS if pages <= tiff.MAX_CHANNELS else _AS_FILES)
    page, image = tiff.find_page(data, number or 0)
    _check_size(page.width, page.height, page.samples * page.bits / 8)
    if page.photometric not in (0, 1, 2, 3, 6) or page.samples > tiff.MAX_CHANNELS:
        found = page.color if page.samples <= tiff.MAX_CHANNELS else f"{page.samples} channels"
        raise ImageError("image mode is not supported", expected="grey or RGB", found=found, fix="convert to RGB")
    tiff.check_strips(data, page)
    return page, image


def _find_mask(data: bytes, number: int | None) -> tuple[tiff.Page, int]:
    _check_page(number, tiff.count_pages(data))
    page, image = _find_page(data, number)
    if page.lossy or page.photometric == 6:
        raise MaskError(
            f"a TIFF compressed by {page.compressed_by} in {page.color} does not hold class ids exactly",
            fix="export the masks as PNG",
            kind="lossy-mask",
        )
    if page.orientation != 1:
        raise MaskError("mask is rotated by EXIF", fix="save the mask upright, without EXIF", kind="rotated-mask")
    return page, image


def _from_pillow(data: bytes, page: tiff.Page) -> Image.Image:
    data, number = tiff.page_alone(data, page)
    image = Image.open(io.BytesIO(data), formats=("TIFF",))
    image.seek(number)
    return image


def _tiff_image(data: bytes, page: tiff.Page, part: int) -> np.ndarray:
    if page.photometric == 3 and page.table < 256 and page.table:
        raise ImageError("TIFF has a colour table of 8 bits where it should have 16", fix="save it as PNG")
    if page.photometric == 0 and page.kind != "uint":
        raise ImageError(f"{page.dtype} TIFF in which white is zero is not supported", fix="save it as black is zero")
    if page.suits_pillow and page.images == 1:
        image = _upright(_from_pillow(data, page))
        if page.dtype == "uint32":
            return _sixteen_bits(_array(image).view(np.uint32))
        values = _image_array(image)
        return _finite(65535 - values if page.photometric == 0 and page.bits == 16 else values)
    if page.photometric in (3, 6):
        raise ImageError(f"big-endian BigTIFF in {page.color} is not supported", fix="save it as RGB")
    values = tiff.upright(_opaque(tiff.decode(data, page, part), page), page.orientation)
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return _finite(_finite(values).astype(np.float32))
    if values.dtype not in (np.uint8, np.uint16):
        values = _sixteen_bits(values)
    return np.iinfo(values.dtype).max - values if page.photometric == 0 else values


def _tiff_mask(data: bytes, page: tiff.Page, part: int) -> np.ndarray:
    if page.kind == "float":
        by_pillow = page.suits_pillow and page.images == 1
        values = np.array(_from_pillow(data, page)) if by_pillow else tiff.decode(data, page, part)
        return whole_numbers(_grey(_opaque(values, page)))
    if page.kind not in ("uint", "int"):
        raise MaskError("mask mode is not supported", expected="palette or grey", found=page.dtype)
    if not page.suits_pillow or page.images > 1:
        return _whole(_grey(_opaque(tiff.decode(data, page, part), page)))
    values = _mask_array(_from_pillow(data, page))
    if page.dtype == "uint32":
        return _whole(values.astype(np.int32).view(np.uint32))
    if page.photometric in (0, 1) and page.samples == 1 and page.bits in (2, 4, 8):
        values = (255 - values if page.photometric == 0 else values) // _SCALE.get(page.bits, 1)
    return values


def _opaque(values: np.ndarray, page: tiff.Page) -> np.ndarray:
    """Return the channels without alpha, which may hide nothing."""
    if page.alpha is None or values.ndim == 2:
        return values
    _refuse_clear(values[..., page.alpha])
    values = np.delete(values, page.alpha, axis=-1)
    return values[..., 0] if values.shape[-1] == 1 else values
