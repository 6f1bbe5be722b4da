"""Decoding: the one place where image and mask files become arrays.

Training, calibration, evaluation and the device all read through `read_image`, so that no two of them can see
different pixels. `read_mask` gives the numbers stored in a mask (palette indices, not colours). What the numbers
mean is decided elsewhere.
"""

from __future__ import annotations

import io
import os

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import FileSystemError, ImageError, MaskError
from .files import read_bytes

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MAX_PIXELS = 89_000_000
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF")  # Pillow opens MPO as JPEG
_EXIF_ORIENTATION = 0x0112


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Decode an image file, with its EXIF orientation applied.

    Returns:
        (H, W) for grey or (H, W, 3) for colour images. uint8; uint16 for 16-bit grey files; float32 for float TIFF.
        Palette images give their colours. An opaque alpha channel is dropped.

    Raises:
        ImageError: the file cannot be read, not an image, truncated, more than one frame, CMYK, transparent pixels,
            or more than `MAX_PIXELS` pixels.
    """
    try:
        image = _open(path, ImageError)
        _refuse_frames(image, path, ImageError)
        return image_array(image, file=path)
    except _PILLOW_ERRORS as error:
        raise ImageError(f"cannot decode: {_reason(error)}", file=path, fix="replace or remove the file") from error


def read_mask(path: str | os.PathLike[str]) -> np.ndarray:
    """Decode a mask file to the numbers stored in it.

    Returns:
        (H, W) uint8 or uint16 (int32 for 32-bit files): palette indices, grey levels, or 0 and 1 of a 1-bit file.

    Raises:
        MaskError: the file cannot be read, not an image, truncated, JPEG (its values are smeared), colours, float, or
            rotated by EXIF.
    """
    try:
        image = _open(path, MaskError)
        _refuse_frames(image, path, MaskError)
        if image.format in ("JPEG", "MPO", "WEBP"):
            raise MaskError(
                f"a {image.format} file does not hold class ids exactly",
                file=path,
                expected="PNG or TIFF",
                fix="export the masks as PNG",
            )
        if image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
            raise MaskError("mask is rotated by EXIF", file=path, fix="save the mask upright, without EXIF")
        return _mask_array(image, path)
    except _PILLOW_ERRORS as error:
        raise MaskError(f"cannot decode: {_reason(error)}", file=path, fix="replace or remove the file") from error


_PILLOW_ERRORS = (
    UnidentifiedImageError,
    OSError,
    SyntaxError,
    TypeError,  # a TIFF that lost its dimensions
    ValueError,
    NotImplementedError,
    OverflowError,
    EOFError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    return str(error) or type(error).__name__


def _open(path: str | os.PathLike[str], kind: type[ImageError] | type[MaskError]) -> Image.Image:
    try:
        data = read_bytes(path, "image" if kind is ImageError else "mask")
    except FileSystemError as error:
        raise kind(error.message, file=path, expected=error.expected, found=error.found) from error
    if not data:
        raise kind("the file is empty", file=path, fix="replace or remove the file")
    image = Image.open(io.BytesIO(data), formats=_FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise kind(
            "too many pixels", file=path, expected=f"at most {MAX_PIXELS}", found=f"{image.width} x {image.height}"
        )
    return image


def _refuse_frames(image: Image.Image, path: str | os.PathLike[str], kind: type[ImageError] | type[MaskError]) -> None:
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames != 1:
        raise kind("more than one frame", file=path, expected=1, found=frames, fix="save each frame as its own file")


def image_array(image: Image.Image, *, file: str | os.PathLike[str] | None = None) -> np.ndarray:
    """Return the pixels of a Pillow image as `read_image` does, EXIF orientation applied.

    Raises:
        ImageError: truncated, CMYK, transparent pixels, or another mode that is not supported.
    """
    try:
        return _image_array(ImageOps.exif_transpose(image), file)
    except _PILLOW_ERRORS as error:
        raise ImageError(f"cannot decode: {_reason(error)}", file=file, fix="replace or remove the file") from error


def _image_array(image: Image.Image, file: str | os.PathLike[str] | None) -> np.ndarray:
    image.load()
    mode = image.mode
    if "transparency" in image.info and mode in ("1", "L", "P", "RGB"):
        mode = "LA" if mode in ("1", "L") else "RGBA"
        image = image.convert(mode)
    elif mode == "P":
        mode = "RGB"
        image = image.convert(mode)
    if mode in ("LA", "PA", "La", "RGBA", "RGBa"):
        if np.asarray(image.getchannel("A" if "A" in mode else "a")).min() < 255:
            raise ImageError("image has transparent pixels", file=file, fix="flatten it onto a background")
        return np.array(image.convert("L" if mode in ("LA", "La") else "RGB"))
    if mode == "1":
        return np.array(image.convert("L"))
    if mode in ("L", "RGB"):
        return np.array(image)
    if mode == "YCbCr":
        return np.array(image.convert("RGB"))
    if mode.startswith("I"):
        return _sixteen_bits(image, file)
    if mode == "F":
        return np.array(image, np.float32)
    raise ImageError("image mode is not supported", file=file, expected="grey or RGB", found=mode, fix="convert to RGB")


def _sixteen_bits(image: Image.Image, path: str | os.PathLike[str] | None) -> np.ndarray:
    values = np.array(image)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(
            "image values outside 16 bits", file=path, expected="0..65535", found=f"{values.min()}..{values.max()}"
        )
    return values.astype(np.uint16)


def _mask_array(image: Image.Image, path: str | os.PathLike[str]) -> np.ndarray:
    image.load()
    if image.mode in ("P", "L"):
        return np.array(image)
    if image.mode == "1":
        return np.array(image, np.uint8)
    if image.mode.startswith("I"):
        values = np.array(image)
        return values.astype(np.uint16) if values.min() >= 0 and values.max() <= 65535 else values.astype(np.int32)
    if image.mode in ("LA", "RGB", "RGBA"):
        bands = np.array(image.convert("RGB"))
        if (bands == bands[..., :1]).all():
            return bands[..., 0].copy()
        raise MaskError(
            "mask holds colours, not class ids",
            file=path,
            expected="one channel of class ids",
            found=f"{len(np.unique(bands.reshape(-1, 3), axis=0))} colours",
            fix="save the masks as indexed PNG whose indices are the class ids",
        )
    raise MaskError("mask mode is not supported", file=path, expected="palette or grey", found=image.mode)
