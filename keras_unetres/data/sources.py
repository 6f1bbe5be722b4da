"""Where the pixels of a sample come from: files, pages of a stack, annotations, arrays."""

from __future__ import annotations

import abc
import functools
import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from unetres_edge.errors import DataError
from unetres_edge.files import file_state, read_bytes
from unetres_edge.images.decode import read_colors, read_image, read_mask, read_pixel_count

_LARGE = 1 << 24  # px; larger images are decoded one at a time
_LARGE_FILE = 1 << 20  # bytes; smaller files hold no such image, or one that a flat colour makes small
MOST_IMAGES = 10_000_000  # of one file


def check_count(count: int, file: str | os.PathLike[str]) -> None:
    """Refuse more images than anybody lists, which a few bytes can claim: of no pixels, or all alike.

    Raises:
        DataError: so many images.
    """
    if count > MOST_IMAGES:
        raise DataError(
            "a file of more images than are read", file=file, expected=f"at most {MOST_IMAGES}", found=count
        )


class Source(abc.ABC):
    """Something that gives one array. `file` is what errors name.

    `unlabelled` is the number of a map of objects that means "not labelled" and never an object, or None.
    """

    __slots__ = ()

    file: Path
    unlabelled: ClassVar[int | None] = None

    @property
    def is_large(self) -> bool:
        """Whether it gives so many pixels that two of its kind should not be decoded at once, as far as is known."""
        return False

    @abc.abstractmethod
    def read(self) -> np.ndarray:
        """Return the array.

        Raises:
            DataError: it cannot be read exactly. `unetres check` lists it as a finding of its `kind`, one of
                `kinds.KINDS`; an ImageError or MaskError without one as "unsupported-mode", others as "bad-annotation".
        """

    def digest(self) -> str:
        """Return the SHA-256 of what is read, in hexadecimal."""
        return file_digest(self.file)


S = TypeVar("S", bound=Source)


class _PathText:
    """A slot that keeps the text of a path and gives a `Path`, which takes five times the memory.

    Args:
        slot: slot of the class that it stands in for.
    """

    def __init__(self, slot: Any) -> None:
        self._slot = slot

    def __get__(self, source: Any, owner: type) -> Any:
        return self if source is None else Path(self._slot.__get__(source, owner))

    def __set__(self, source: Any, path: str | os.PathLike[str]) -> None:
        self._slot.__set__(source, os.fspath(path))


def keeps_text(kind: type[S]) -> type[S]:
    """Make a class of slots keep its `file` as text: a data set has as many of them as it has files."""
    kind.file = _PathText(kind.__dict__["file"])  # type: ignore[assignment]
    return kind


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal, computed anew when the file has changed.

    Raises:
        FileSystemError: the file cannot be read.
    """
    try:
        state = file_state(os.stat(path))
    except OSError:
        return hashlib.sha256(read_bytes(path)).hexdigest()  # for the error
    return _digest(path, state)


@functools.lru_cache(maxsize=64)  # the pages of a stack share a file
def _digest(path: Path, state: tuple[int, ...]) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()


@keeps_text
@dataclass(frozen=True, slots=True)
class ImageFile(Source):
    """An image file, or a page of one; with `stacked`, the pages of a file are its channels."""

    file: Path
    page: int | None = None
    stacked: bool = False

    @property
    def is_large(self) -> bool:
        """Whether the header says so; of small files it is not read."""
        try:
            return os.path.getsize(self.file) > _LARGE_FILE and read_pixel_count(self.file) > _LARGE
        except OSError:
            return False

    def read(self) -> np.ndarray:
        return read_image(self.file, self.page, stacked=self.stacked)

    def digest(self) -> str:
        return file_digest(self.file) + ("" if self.page is None else f"#{self.page}")


@keeps_text
@dataclass(frozen=True, slots=True)
class MaskFile(Source):
    """A mask file whose numbers are class or instance ids, or a page of one; `smeared` as `read_mask` takes it."""

    file: Path
    page: int | None = None
    smeared: bool = False

    def read(self) -> np.ndarray:
        return read_mask(self.file, self.page, smeared=self.smeared)

    def digest(self) -> str:
        return file_digest(self.file) + ("" if self.page is None else f"#{self.page}")


@keeps_text
@dataclass(frozen=True, slots=True)
class ColorFile(Source):
    """A mask file whose colours are classes; gives (H, W) int32, red << 16 | green << 8 | blue."""

    file: Path

    def read(self) -> np.ndarray:
        return read_colors(self.file)


@keeps_text
@dataclass(frozen=True, slots=True)
class EmptyMask(Source):
    """The mask of an image on which nothing is: 0 in every pixel. `file` is the image's."""

    file: Path

    def read(self) -> np.ndarray:
        return np.zeros(read_image(self.file).shape[:2], np.uint8)


@keeps_text
@dataclass(frozen=True, slots=True)
class WeightFile(Source):
    """A file of weights; gives (H, W) float32."""

    file: Path

    def read(self) -> np.ndarray:
        values = read_image(self.file)
        if values.ndim != 2 or values.min() < 0:
            raise DataError(
                "weights are wrong",
                file=self.file,
                expected="one channel of numbers, none below 0",
                found=f"shape {values.shape}, smallest {values.min()}",
            )
        return values.astype(np.float32)


@dataclass(frozen=True, eq=False)
class ArraySource(Source):
    """An array in memory. `file` is its name in errors."""

    file: Path
    values: np.ndarray

    def read(self) -> np.ndarray:
        return self.values

    def digest(self) -> str:
        form = f"{self.values.dtype.str}{self.values.shape}".encode()
        return hashlib.sha256(form + np.ascontiguousarray(self.values).tobytes()).hexdigest()


@keeps_text
@dataclass(frozen=True, slots=True)
class ClassId(Source):
    """The class of a whole image, known from where the image lies; gives () integers. `file` is the image's."""

    file: Path
    value: int

    def read(self) -> np.ndarray:
        return np.array(self.value)

    def digest(self) -> str:
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and what a network shall say of it, each where it comes from.

    Args:
        name: unique in its part; the image's file name where there is one, with the folders above it that tell.
        image: gives (H, W) or (H, W, C), as `read_image`.
        target: gives the mask, (H, W) integers as stored: class ids, instance ids or packed colours; or is a `ClassId`.
        instances: gives (H, W) integers, 0 for no object, where they are apart from the mask; see `Source.unlabelled`.
        weight: gives (H, W) float, the weight of each pixel in the loss.
    """

    name: str
    image: Source
    target: Source
    instances: Source | None = None
    weight: Source | None = None

    @property
    def mask(self) -> Source:
        """What `target` was called in the version before."""
        warnings.warn("Sample.mask is now Sample.target", DeprecationWarning, stacklevel=2)
        return self.target

    @property
    def class_id(self) -> int | None:
        """The class of the whole image, or None where there is a mask."""
        return self.target.value if isinstance(self.target, ClassId) else None

    @property
    def files(self) -> set[Path]:
        """The files that it comes from."""
        return {source.file for source in (self.image, self.target, self.instances, self.weight) if source is not None}

    def digests(self) -> list[str]:
        """Return the digest of every source."""
        first = (self.image, self.target) if self.class_id is None else (self.target, self.image)
        sources = (*first, self.instances, self.weight)
        return [source.digest() for source in sources if source is not None]
