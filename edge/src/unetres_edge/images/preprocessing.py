"""What happens to an image before the network sees it, as one frozen value that training, export and device share.

The working form is uint8 `(H, W, channels)`: every image, whatever its depth, is brought to it first (`prepare`), and
numbers for the network are looked up in a table of 256 entries a channel (`table`). This makes training and device
equal bit for bit, and lets the device quantize its input by a table too.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import numpy as np
from PIL import Image

from ..errors import ImageError, ModelError, UsageError
from .bands import bands

COLOR_ORDERS = ("rgb", "bgr")
FITS = ("crop", "resize", "letterbox")
IGNORE = 255


MOST = 1e9  # of the numbers that levels are computed with
MOST_SIDE = 1 << 16
MOST_CHANNELS = 1024


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image before the network sees it: size, colours and the range of values.

    Args:
        channels: channels of the network's input. Grey and colour images are converted to 1 or 3.
        color_order: "rgb" or "bgr", the order the network expects.
        value_range: numbers that 0 and full scale become.
        mean: subtracted after that, one number or one a channel, in units of `value_range`.
        std: divided by after that, likewise.
        per_image: None, or two percentiles (low, high) of each whole image, stretched to 0 and full scale first.
        fit: "crop" works at native scale, tile by tile; "resize" scales the whole image to `size`; "letterbox" scales
            it with its aspect kept and pads below or to the right.
        size: (height, width) of the network's input in px.
    """

    channels: int = 3
    color_order: str = "rgb"
    value_range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    per_image: tuple[float, float] | None = None
    fit: str = "crop"
    size: tuple[int, int] = (256, 256)

    def __post_init__(self) -> None:
        for name in ("value_range", "mean", "std", "size", "per_image"):
            value = getattr(self, name)
            if value is None and name == "per_image":
                continue
            numbers = _numbers(value)
            self._check(numbers != (), name, "numbers")
            if name == "size":
                self._check(all(v.is_integer() for v in numbers), name, "(height, width) in whole px")
                numbers = tuple(int(v) for v in numbers)
            object.__setattr__(self, name, numbers)
        is_count = isinstance(self.channels, int) and not isinstance(self.channels, bool)
        self._check(is_count and 1 <= self.channels <= MOST_CHANNELS, "channels", f"an integer, 1 to {MOST_CHANNELS}")
        self._check(self.color_order in COLOR_ORDERS, "color_order", " or ".join(map(repr, COLOR_ORDERS)))
        self._check(
            len(self.value_range) == 2 and self.value_range[0] < self.value_range[1], "value_range", "(low, high)"
        )
        for name in ("mean", "std"):
            self._check(len(getattr(self, name)) in (1, self.channels), name, f"1 or {self.channels} numbers")
        self._check(all(s >= 1 / MOST for s in self.std), "std", f"numbers above {1 / MOST:g}")
        numbers = (*self.value_range, *self.mean, *self.std)
        self._check(all(abs(v) <= MOST for v in numbers), "value_range, mean or std", f"numbers of at most {MOST:g}")
        self._check(
            self.per_image is None or (len(self.per_image) == 2 and 0 <= self.per_image[0] < self.per_image[1] <= 100),
            "per_image",
            "two percentiles 0 <= low < high <= 100, or None",
        )
        self._check(self.fit in FITS, "fit", " or ".join(map(repr, FITS)))
        within = all(1 <= side <= MOST_SIDE for side in self.size)
        self._check(len(self.size) == 2 and within, "size", f"(height, width), each 1 to {MOST_SIDE}")

    def _check(self, right: bool, name: str, expected: str) -> None:
        if not right:
            raise UsageError(f"preprocessing {name} is wrong", expected=expected, found=repr(getattr(self, name, None)))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """Rebuild from `to_dict`.

        Raises:
            ModelError: a field is unknown, missing or wrong.
        """
        try:
            if set(values) != set(cls.__dataclass_fields__):
                raise ModelError(
                    "preprocessing fields differ", expected=sorted(cls.__dataclass_fields__), found=sorted(values)
                )
            return cls(**values)
        except (UsageError, TypeError, ValueError) as error:
            raise ModelError(f"preprocessing is not readable: {error}") from error

    def prepare(self, image: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
        """Bring an image to the working form, at its own size.

        Args:
            image: (H, W) or (H, W, C); uint8, uint16 (0..65535), or float in [0, 1], with `per_image` any finite float;
                in either byte order. C is 1, 3 (RGB), 4 with an opaque alpha, or `channels`.
            limits: the levels that become 0 and full scale, where `image` is a part of a larger one whose percentiles
                `per_image` asks for; None for those of `image`.

        Returns:
            (H, W, channels) uint8, in the network's colour order.

        Raises:
            ImageError: another dtype, rank, value range or number of channels.
        """
        image = np.asarray(image)
        if not image.dtype.isnative:
            image = image.astype(image.dtype.newbyteorder("="))
        if image.ndim == 2:
            image = image[..., None]
        if image.ndim != 3 or 0 in image.shape:
            raise ImageError("array is not an image", expected="(H, W) or (H, W, C)", found=f"shape {image.shape}")
        if image.shape[-1] == 4 and self.channels in (1, 3):
            if _prepared(image[..., 3:], 1, None).min() < 255:
                raise ImageError(
                    "image has transparent pixels, or a fourth channel",
                    expected="grey, RGB, or RGBA that is opaque",
                    found="4 channels",
                    fix="flatten it onto a background, or leave its fourth channel out",
                    kind="transparent",
                )
            image = image[..., :3]
        image = _prepared(image, self.channels, self.per_image, limits)
        if self.color_order == "bgr" and self.channels == 3:
            image = image[..., ::-1]
        return np.ascontiguousarray(image)

    def table(self) -> np.ndarray:
        """Return the (256, channels) float32 value that the network sees for each uint8 level of each channel."""
        low, high = self.value_range
        levels = low + (high - low) * np.arange(256, dtype=np.float64)[:, None] / 255.0
        values = (levels - np.asarray(self.mean)) / np.asarray(self.std)
        return np.broadcast_to(values, (256, self.channels)).astype(np.float32)

    def normalise(self, prepared: np.ndarray) -> np.ndarray:
        """Return the float32 network input for prepared pixels, (..., channels) uint8 -> (..., channels) float32."""
        return look_up(self.table(), prepared)

    def place(self, height: int, width: int) -> Placement:
        """Return how a whole image of this size is put on the network's input ("resize" and "letterbox")."""
        if self.fit == "resize":
            return Placement((height, width), self.size, self.size)
        scale = min(self.size[0] / height, self.size[1] / width)
        scaled = (max(1, round(height * scale)), max(1, round(width * scale)))
        return Placement((height, width), (min(scaled[0], self.size[0]), min(scaled[1], self.size[1])), self.size)


def look_up(table: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Replace uint8 pixels (..., C) by their entry in `table` (256, C), channel by channel."""
    if table.shape[1] == 1 or (table == table[:, :1]).all():
        return np.take(table[:, 0], pixels)
    return np.stack([np.take(table[:, c], pixels[..., c]) for c in range(table.shape[1])], axis=-1)


@dataclass(frozen=True)
class Placement:
    """A whole image scaled to `scaled` and put in the upper left of `canvas`; all (height, width) in px."""

    source: tuple[int, int]
    scaled: tuple[int, int]
    canvas: tuple[int, int]

    def image(self, prepared: np.ndarray) -> np.ndarray:
        """Scale (H, W, C) uint8 with area-aware bilinear filtering (Pillow) and pad with its border pixels.

        The width comes first, then the height, each rounded to levels: left to itself, Pillow 13 turns this round for
        some images and earlier ones do not, and what a network sees must not hang on that.
        """
        planes = [self._scaled(Image.fromarray(prepared[..., c])) for c in range(prepared.shape[-1])]
        return np.pad(np.stack(planes, -1), (*self._padding(), (0, 0)), mode="edge")

    def _scaled(self, plane: Image.Image) -> np.ndarray:
        height, width = self.scaled
        for size in ((width, plane.height), (width, height)):
            plane = plane.resize(size, Image.Resampling.BILINEAR)
        return np.asarray(plane)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """Scale an (H, W) uint8 mask by nearest neighbour and pad with `IGNORE`."""
        height, width = self.scaled
        scaled = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
        return np.pad(scaled, self._padding(), constant_values=IGNORE)

    def _padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return (0, self.canvas[0] - self.scaled[0]), (0, self.canvas[1] - self.scaled[1])


def _numbers(value: Any) -> tuple[float, ...]:
    """Return a number, or each of several, as a float; nothing where one is none, or not finite."""
    parts: list[Any] = list(value) if isinstance(value, (list, tuple, np.ndarray)) else [value]
    try:
        truths = any(isinstance(part, (bool, np.bool_)) for part in parts)
        right = not truths and all(isinstance(part, Real) and math.isfinite(part) for part in parts)
        return tuple(map(float, parts)) if right else ()
    except OverflowError:  # a whole number beyond all floats
        return ()


def _prepared(
    image: np.ndarray,
    channels: int,
    per_image: tuple[float, float] | None,
    limits: tuple[float, float] | None = None,
) -> np.ndarray:
    """Return an image (H, W, C) as (H, W, channels) uint8; what is computed of it is never of the whole at once."""
    full = _full_scale(image, per_image)
    if per_image is None:
        limits = None
    elif limits is None:
        low, high = np.percentile(image, per_image)
        limits = low, high
    if image.shape[-1] == channels and full == 255 and limits is None:
        return image
    prepared = np.empty((*image.shape[:2], channels), np.uint8)
    for rows in bands(image.shape):
        prepared[rows] = _channels(_eight_bits(image[rows], full, limits), channels)
    return prepared


def _full_scale(image: np.ndarray, per_image: tuple[float, float] | None) -> int:
    """Return the value that is full scale, after a look at the values."""
    if image.dtype in (np.uint8, np.uint16):
        return 255 if image.dtype == np.uint8 else 65535
    if not np.issubdtype(image.dtype, np.floating):
        raise ImageError("image dtype is not supported", expected="uint8, uint16 or float in [0, 1]", found=image.dtype)
    if not np.isfinite(image).all():
        raise ImageError(
            "image has values that are not finite",
            found=f"{(~np.isfinite(image)).sum()} such values",
            kind="not-finite",
        )
    if per_image is None and (image.min() < 0 or image.max() > 1):
        raise ImageError(
            "float image is outside [0, 1]",
            expected="0 for black, 1 for full scale",
            found=f"{image.min():.9g}..{image.max():.9g}",
            fix="divide by the full scale of your sensor, train with --per-image 1 99, or pass uint8 or uint16",
            kind="value-range",
        )
    return 1


def _eight_bits(image: np.ndarray, full: int, limits: tuple[float, float] | None) -> np.ndarray:
    """Return values as uint8: of 0 to `full`, or where there are limits, stretched from one to the other."""
    if limits is None:
        if full == 255:
            return image
        return np.rint(image.astype(np.float64) * (255.0 / full)).astype(np.uint8)
    low, high = limits
    spread = high - low if high > low else float(full)
    stretched = (image.astype(np.float64) - low) / spread
    return np.rint(np.clip(stretched, 0, 1) * 255).astype(np.uint8)


def _channels(image: np.ndarray, channels: int) -> np.ndarray:
    present = image.shape[-1]
    if present == channels:
        return image
    if present == 1 and channels == 3:
        return np.repeat(image, 3, axis=-1)
    if present == 3 and channels == 1:
        weighted = image.astype(np.uint32) @ np.array([299, 587, 114], np.uint32)  # ITU-R BT.601 luma
        return ((weighted + 500) // 1000).astype(np.uint8)[..., None]
    raise ImageError("number of channels does not fit the model", expected=channels, found=present)
