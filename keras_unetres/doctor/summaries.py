"""Summaries of images, on which the checks work: figures, fingerprints and a small picture of each, but no pixels."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from unetres_edge.errors import DataError, UnetresError
from unetres_edge.images.decode import IMAGE_SUFFIXES, has_palette, read_colors
from unetres_edge.images.preprocessing import IGNORE

from ..data.classes import Classes
from ..data.dataset import Dataset
from ..data.findings import Finding
from ..data.levels import Levels, count_levels
from ..data.records import Look, look_at, pieces
from ..data.smears import steps_over_classes
from ..data.sources import MaskFile, Sample, file_digest
from ..data.turned import Lie, Turn
from .smalls import SIDE, Smalls

_DIGEST = 32  # bytes of a SHA-256
_BLUR = 3.0  # px of it; what is smoother than this says nothing of the picture
_THUMB, _SMALL = 160, 56  # px
_THINNED = 2000  # px; a picture of more than twice that is thinned out before it is made small
_MAGIC = (
    (b"\x89PNG", (".png",)),
    (b"\xff\xd8\xff", (".jpg", ".jpeg")),
    (b"BM", (".bmp",)),
    (b"GIF8", (".gif",)),
    (b"II", (".tif", ".tiff")),
    (b"MM", (".tif", ".tiff")),
    (b"RIFF", (".webp",)),
)


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """The summary of a sample: what a check keeps of its image and its mask.

    Args:
        part: name of a part of the data set.
        sample: sample that it is the summary of.
        finding: why it cannot be used, or None.
        values: stored mask value and pixels of it, in turn, as int64; or None. `counts` gives them.
        size: (height, width) in px.
        mode: "grey uint8", "colour uint8", ...
        content: SHA-256 of the decoded image, 32 bytes; none where it was not decoded.
        constant: whether the image has one value.
        dark: whether it is of 8 bits and holds 0 and 1 alone.
        picture: RGB thumbnail of the image, (h, w, 3) uint8, of a few images; else None.
        mask: the stored mask at the thumbnail's size, where that is large, or None.
        steps: (direct, rim) of the mask, see `steps_over_classes`; (0, 0) where values have no order.
        palette: packed colour -> index of the values in a palette mask, or None.
        colors: packed colour -> pixels of a mask of colours where no table is declared, or None.
        levels: grey levels of an image of more than 8 bits, or None.
        turn: turn of an image by EXIF, or None.
        colored: whether the numbers of objects in the mask are its colours.
        lie: what tells how the mask lies on the image, of some; else None.
        endings: (file, the ending that its format would have) of those files that have another.
        digests: SHA-256 of the bytes of each file of the sample in order, 32 bytes; zeros where it cannot be read.
    """

    part: str
    sample: Sample
    finding: Finding | None = None
    values: bytes | None = None
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    content: bytes = b""
    constant: bool = False
    dark: bool = False
    picture: np.ndarray | None = None
    mask: np.ndarray | None = None
    steps: tuple[int, int] = (0, 0)
    palette: dict[int, int] | None = None
    colors: dict[int, int] | None = None
    levels: Levels | None = None
    turn: Turn | None = None
    colored: bool = False
    lie: Lie | None = None
    endings: tuple[tuple[Path, str], ...] = ()
    digests: bytes = b""

    @property
    def counts(self) -> dict[int, int] | None:
        """Stored mask value -> pixels, or None."""
        if self.values is None:
            return None
        numbers = np.frombuffer(self.values, np.int64).tolist()
        return dict(zip(numbers[::2], numbers[1::2], strict=True))

    @property
    def files(self) -> Iterator[tuple[Path, str]]:
        """(file, SHA-256 of its bytes in hexadecimal) of each that can be read."""
        for number, file in enumerate(sorted(self.sample.files)):
            digest = self.digests[number * _DIGEST : (number + 1) * _DIGEST]
            if any(digest):
                yield file, digest.hex()


@dataclass(frozen=True)
class DatasetSummary:
    """The summaries of all samples of a data set, on which the checks work.

    Args:
        dataset: data set as it was opened.
        images: summary of each sample.
        smalls: the images made small and grey; `fingerprints` tells from them which are alike.
        classes: meaning of the mask values, or None where that could not be told.
        error: why it could not, or None.
    """

    dataset: Dataset
    images: tuple[ImageSummary, ...]
    smalls: Smalls
    classes: Classes | None = None
    error: DataError | None = None

    def class_counts(self, image: ImageSummary) -> dict[int, int]:
        """Return class id or `IGNORE` -> pixels of a mask; values that are no class are left out."""
        counts: Counter[int] = Counter()
        classes = self.classes
        if classes is None or image.counts is None:
            return {}
        for value, pixels in image.counts.items():
            if classes.values is None:
                counts[IGNORE if value == classes.ignore else int(value != 0)] += pixels
            elif value in classes.values:
                counts[classes.values[value]] += pixels
        return dict(counts)

    def class_rows(self) -> list[dict[str, Any]]:
        """Return id, name, pixels and images of each class, over all parts and by part; of class folders, no pixels."""
        if not self.dataset.per_pixel:
            parts_of = {part: Counter(s.class_id for s in samples) for part, samples in self.dataset.splits.items()}
            return [
                {"id": label, "name": name, "images": {part: counts[label] for part, counts in parts_of.items()}}
                for label, name in enumerate(self.dataset.class_names or ())
            ]
        if self.classes is None:
            return []
        pixels: Counter[tuple[str, int]] = Counter()
        images: Counter[tuple[str, int]] = Counter()
        for image in self.images:
            for class_id, count in self.class_counts(image).items():
                pixels[image.part, class_id] += count
                images[image.part, class_id] += 1
        parts = sorted({image.part for image in self.images})
        total = max(1, sum(n for (_, i), n in pixels.items() if i != IGNORE))
        return [
            {
                "id": class_id,
                "name": name,
                "pixels": sum(pixels[part, class_id] for part in parts),
                "images": sum(images[part, class_id] for part in parts),
                "share": round(sum(pixels[part, class_id] for part in parts) / total, 6),
                "parts": {part: {"pixels": pixels[part, class_id], "images": images[part, class_id]} for part in parts},
            }
            for class_id, name in enumerate(self.classes.names)
        ]


def summarise(
    part: str,
    sample: Sample,
    dataset: Dataset,
    keep: Callable[[np.ndarray], None],
    *,
    large: bool = True,
    laid: bool = False,
) -> ImageSummary:
    """Decode a sample once and return what is kept of it; where it is `large`, a picture with its mask, too.

    Args:
        keep: takes the small picture, (32, 32) uint8.
        laid: whether it is looked at how the mask lies on the image.
    """
    look = look_at(sample, dataset, laid=laid)
    digests = _digests(sample)
    if look.image is None or look.mask is None:
        return ImageSummary(part, sample, look.fault, colors=look.colors, lie=look.lie, digests=digests)
    image = look.image
    picture = _picture(image)
    keep(_small(picture))
    height, width = picture.shape[:2]
    constant = all(bool((piece == image.reshape(-1)[0]).all()) for piece in pieces(image))
    of_class = sample.class_id is not None
    small_mask = None if of_class else look.mask[np.ix_(_spread(look.size[0], height), _spread(look.size[1], width))]
    return ImageSummary(
        part,
        sample,
        look.fault,
        _packed(look.counts),
        look.size,
        _mode(image),
        _content(image),
        constant,
        image.dtype == np.uint8 and not constant and int(image.max()) <= 1,
        picture if large else None,
        small_mask if large else None,
        (0, 0) if of_class else _steps(look, dataset),
        _palette(sample, look),
        digests=digests,
        levels=count_levels(image),
        turn=look.turn,
        colored=look.colored,
        lie=look.lie,
        endings=tuple((file, right) for file in sorted(sample.files) if (right := _right_ending(file))),
    )


def picture_of(sample: Sample) -> np.ndarray | None:
    """Return a small picture of a sample, decoded for it, or None where that fails."""
    try:
        return _shrink(_picture(sample.image.read()), _SMALL)
    except UnetresError:
        return None


def _mode(image: np.ndarray) -> str:
    channels = 1 if image.ndim == 2 else image.shape[-1]
    named = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    return sys.intern(f"{named} {image.dtype}")


def _packed(counts: Mapping[int, int] | None) -> bytes | None:
    return None if counts is None else np.array(list(counts.items()), np.int64).tobytes()


def _content(image: np.ndarray) -> bytes:
    digest = hashlib.sha256(f"{image.dtype}{image.shape}".encode())
    digest.update(np.ascontiguousarray(image).data.cast("B"))
    return digest.digest()


def _steps(look: Look, dataset: Dataset) -> tuple[int, int]:
    values = sorted((look.counts or {}).keys() - {dataset.reading.ignore})
    if dataset.by_color or dataset.reading.masks_are == "instances" or look.mask is None:
        return 0, 0
    if len(values) < 2 or (len(values) == 2 and values[1] == values[0] + 1):
        return 0, 0  # nothing lies between, and nothing is skipped
    return steps_over_classes(look.mask, dataset.reading.ignore)


def _digests(sample: Sample) -> bytes:
    """Return the digests of the files a sample is read from, zeros for one that cannot be read."""
    found = b""
    for file in sorted(sample.files):
        try:
            found += bytes.fromhex(file_digest(file))
        except UnetresError:
            found += bytes(_DIGEST)
    return found


def _picture(image: np.ndarray) -> np.ndarray:
    """Return an RGB thumbnail; depths other than 8 bits are stretched to the image's own range."""
    values = image if image.ndim == 3 else image[..., None]
    step = max(1, max(values.shape[:2]) // _THINNED)
    values = values[::step, ::step]
    values = values[..., [0, min(1, values.shape[-1] - 1), min(2, values.shape[-1] - 1)]]
    if values.dtype != np.uint8:
        low, high = float(values.min()), float(values.max())
        values = np.rint((values.astype(np.float64) - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    return _shrink(values, _THUMB)


def _shrink(values: np.ndarray, side: int) -> np.ndarray:
    scale = min(1.0, side / max(values.shape[:2]))
    size = (max(1, round(values.shape[1] * scale)), max(1, round(values.shape[0] * scale)))
    return np.asarray(Image.fromarray(np.ascontiguousarray(values)).resize(size, Image.Resampling.BOX))


def _spread(length: int, count: int) -> np.ndarray:
    return ((np.arange(count) + 0.5) * length / count).astype(int)


def _small(picture: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def fingerprints(small: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (coarse, fine) of small pictures (N, 32, 32): each (N, 32 * 32) float32 rows of unit norm.

    Coarse is the picture, fine what of it is not smooth; zeros where there is no texture.
    """
    coarse = small.astype(np.float32)
    fine = coarse - ndimage.gaussian_filter(coarse, _BLUR, mode="nearest", axes=(1, 2))
    return _unit(coarse), _unit(fine)


def _unit(values: np.ndarray) -> np.ndarray:
    rows = values.reshape(len(values), -1)
    rows = rows - rows.mean(1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(length > rows.shape[1] ** 0.5, rows / np.maximum(length, 1e-12), 0)  # below a grey level: none


def flips(fingerprint: np.ndarray) -> list[np.ndarray]:
    """Return fingerprints (N, 32 * 32) as they are, mirrored, and both turned by quarters: all 8."""
    square = fingerprint.reshape(-1, SIDE, SIDE)
    count = len(square)
    return [
        np.rot90(side, quarter, (1, 2)).reshape(count, -1) for side in (square, square[:, ::-1]) for quarter in range(4)
    ]


def _palette(sample: Sample, look: Look) -> dict[int, int] | None:
    if not isinstance(sample.target, MaskFile) or sample.target.page is not None or look.counts is None:
        return None
    try:
        if not has_palette(sample.target.file):
            return None
        colors = read_colors(sample.target.file)
    except DataError:  # it is read by its numbers, and colours that cannot be told are left out
        return None
    assert look.mask is not None
    by_color: dict[int, int] = {}
    for value in look.counts:
        color = int(colors.ravel()[np.flatnonzero(look.mask.ravel() == value)[0]])
        by_color.setdefault(color, value)
    return by_color if len(by_color) == len(look.counts) else None  # indices of one colour: the colours say nothing


def _right_ending(file: Path) -> str:
    """Return the ending that an image file should have, or "" if it has it."""
    if file.suffix.lower() not in IMAGE_SUFFIXES:
        return ""
    with file.open("rb") as stream:
        head = stream.read(8)
    right = next((endings for magic, endings in _MAGIC if head.startswith(magic)), None)
    return "" if right is None or file.suffix.lower() in right else right[0]
