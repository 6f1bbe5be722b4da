"""Pictures of class maps: indexed PNG, overlays with outlines, and rows of panels. Pillow and numpy only."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..images.bands import bands
from ..images.preprocessing import IGNORE

Color = tuple[int, int, int]
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_DARK, _LIGHTER = 96, 0.5


def encode_class_map(class_map: np.ndarray, colors: Sequence[Color]) -> bytes:
    """Return an indexed PNG whose palette indices are the class ids of an (H, W) uint8 map."""
    image = Image.frombytes("P", class_map.shape[::-1], class_map.tobytes())
    palette = [channel for color in colors for channel in color]
    image.putpalette(palette + [0] * (768 - len(palette)))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def encode_png(image: np.ndarray) -> bytes:
    """Return an (H, W) or (H, W, 3) uint8 image as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def encode_jpeg(image: np.ndarray) -> bytes:
    """Return an (H, W, 3) uint8 image as JPEG of quality 85 (of 1 to 95)."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def colorize(class_map: np.ndarray, colors: Sequence[Color]) -> np.ndarray:
    """Return (H, W, 3) uint8: each class in its colour, `IGNORE` in grey."""
    table = np.full((256, 3), 128, np.uint8)
    table[: len(colors)] = colors
    table[IGNORE] = 128
    return table[class_map]


def overlay(
    image: np.ndarray, class_map: np.ndarray, colors: Sequence[Color], *, opacity: float = 0.35, background: int = 0
) -> np.ndarray:
    """Return the image with every class but the background tinted and outlined.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3) uint8.
        class_map: (H, W) uint8.
        colors: colours of the classes, by id.
        opacity: opacity of the tint, 0 to 1.
        background: the class that is left as it is.

    Returns:
        (H, W, 3) uint8.
    """
    pixels = np.broadcast_to(image.reshape(*image.shape[:2], -1)[..., :3], (*class_map.shape, 3))
    edge = outlines(class_map, background)
    drawn = np.empty(pixels.shape, np.uint8)
    for rows in bands(class_map.shape):
        tint = colorize(class_map[rows], colors).astype(np.float32)
        strength = np.where((class_map[rows] == background)[..., None], 0.0, opacity)
        mixed = pixels[rows].astype(np.float32) * (1 - strength) + tint * strength
        line = np.maximum(tint[edge[rows]], 64)
        dark = line @ _LUMA < _DARK  # such as maroon, which would not be seen on a dark picture
        line[dark] += _LIGHTER * (255 - line[dark])
        mixed[edge[rows]] = line
        drawn[rows] = np.rint(mixed)
    return drawn


def outlines(class_map: np.ndarray, background: int = 0) -> np.ndarray:
    """Return (H, W) bool, true at foreground pixels with a neighbour of another class above, below, left or right."""
    edge = np.zeros(class_map.shape, bool)
    down = class_map[1:] != class_map[:-1]
    right = class_map[:, 1:] != class_map[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge & (class_map != background)


def panels(pictures: Sequence[np.ndarray], titles: Sequence[str], *, height: int = 256) -> np.ndarray:
    """Return pictures (H, W) or (H, W, 3) uint8 side by side at one height in px, each under its title; uint8 RGB."""
    band, gap = 22, 6
    images = [Image.fromarray(p.squeeze()).convert("RGB") for p in pictures]
    images = [i.resize((max(1, round(i.width * height / i.height)), height)) for i in images]
    width = sum(i.width for i in images) + gap * (len(images) + 1)
    sheet = Image.new("RGB", (width, height + band + gap), "white")
    pen, font, x = ImageDraw.Draw(sheet), ImageFont.load_default(14), gap
    for image, title in zip(images, titles, strict=True):
        pen.text((x, 2), title, fill="black", font=font)
        sheet.paste(image, (x, band))
        x += image.width + gap
    return np.asarray(sheet)


def stack(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return (H, W, 3) uint8 rows one above the other, padded with white to one width."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.pad(r, ((0, 0), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows], axis=0
    )
