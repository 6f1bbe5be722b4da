"""A fault of a data set as a value: which file, what was found, what was expected, and the line that mends it.

Readers collect faults instead of stopping at the first one; `refuse` raises one error that lists them all, and
`unetres check` shows them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from unetres_edge.errors import DataError, MaskError, UnetresError

KINDS = {
    "missing-mask": "an image without a mask",
    "missing-image": "a mask without an image",
    "ambiguous-names": "several files that belong to one name",
    "unreadable": "a file that cannot be decoded",
    "empty-file": "a file of zero bytes",
    "not-a-file": "a folder, a dangling link, a pipe or a device where a file should be",
    "not-an-image": "a file that is no image, whatever its ending says",
    "too-large": "more pixels than are decoded",
    "frames": "several frames or pages in one file",
    "transparent": "an image with transparent pixels",
    "unsupported-mode": "pixels in a form that is refused, such as CMYK",
    "not-finite": "an image with NaN or infinite values",
    "value-range": "a float image outside 0..1",
    "lossy-mask": "a mask in a format that smears values",
    "float-mask": "a mask of floating-point values",
    "color-mask": "a mask of colours where no colour table is declared",
    "rotated-mask": "a mask that EXIF turns",
    "size-differs": "an image and a mask of different sizes",
    "unknown-values": "mask values that are no class",
    "unknown-colors": "mask colours that are not in the colour table",
    "smeared-mask": "mask values between the classes, left by interpolation or anti-aliasing",
    "instance-ids": "masks that number objects, read as classes",
    "not-contiguous": "mask values that are not 0, 1, 2, ... and nothing that names them",
    "palettes-differ": "palette masks in which one colour has different indices",
    "bad-annotation": "an annotation that cannot be drawn as it stands",
    "leak": "the same picture in two parts of the data set",
    "two-classes": "the same picture in the folders of two classes",
    "empty-class": "a class without an image to train on",
    "no-class": "an image that lies in no class folder",
    "changed": "a file whose bytes are not those of an earlier check",
    "declaration": "a declaration that does not fit the files",
    # Warnings
    "box-only": "an object with a box but no outline; its box is not labelled",
    "near-duplicate": "nearly the same picture in two parts of the data set",
    "duplicate": "the same picture twice in one part",
    "all-ignored": "a mask without a labelled pixel",
    "constant-image": "an image of one value",
    "wrong-ending": "a file whose ending is not that of its format",
    "absent-class": "a class without a pixel in a part",
    "rare-class": "a class with very few pixels",
    "no-mask": "a part without any mask, left out",
    "mixed-modes": "grey and colour images in one data set",
}


@dataclass(frozen=True, order=True)
class Fault:
    """What is wrong with one file.

    Args:
        file: the file, relative to the data set's folder where it lies inside.
        kind: one of `KINDS`.
        found: what is there.
        expected: what would be right.
        fix: a line to paste into `dataset.yaml` or a terminal, or what to do.
    """

    file: str
    kind: str
    found: str
    expected: str
    fix: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of fault: {self.kind}")

    def __str__(self) -> str:
        return f"{self.file}: {KINDS[self.kind]}: {self.found}"

    def to_dict(self) -> dict[str, str]:
        """Return the fields as JSON values."""
        return asdict(self)


# How the errors of decoding are called here; the first entry whose words are in the message counts.
_DECODING = (
    ("the file is empty", "empty-file"),
    ("is not there", "not-a-file"),
    ("no such", "not-a-file"),
    ("not a regular file", "not-a-file"),
    ("cannot read", "not-a-file"),
    ("not an image of a known format", "not-an-image"),
    ("too many pixels", "too-large"),
    ("too many bytes", "too-large"),
    ("too large", "too-large"),
    ("too many pages", "frames"),
    ("more than one frame", "frames"),
    ("transparent", "transparent"),
    ("not finite", "not-finite"),
    ("float image is outside", "value-range"),
    ("does not hold class ids exactly", "lossy-mask"),
    ("rotated by EXIF", "rotated-mask"),
    ("holds colours", "color-mask"),
    ("float", "float-mask"),
    ("mode is not supported", "unsupported-mode"),
    ("cannot decode", "unreadable"),
    ("truncated", "unreadable"),
    ("damaged", "unreadable"),
    ("has no pixels", "unreadable"),
    ("has no pages", "unreadable"),
    ("too many scans", "unreadable"),
    ("too many chunks", "unreadable"),
    ("no colour in the palette", "unreadable"),
)


# What is said of them where the error does not say it.
_EXPECTED = {
    "empty-file": "an image",
    "transparent": "opaque pixels alone",
    "not-finite": "finite numbers",
    "rotated-mask": "a mask stored upright",
    "lossy-mask": "PNG or TIFF",
}
_FIXES = {
    "not-a-file": "put the file itself there",
    "too-large": "cut it into smaller pictures",
    "float-mask": "save the masks as PNG of whole numbers",
    "unsupported-mode": "save it as PNG, grey or RGB",
}


def fault_of(error: UnetresError, file: str | os.PathLike[str], base: Path) -> Fault:
    """Return the fault that an error of decoding stands for."""
    kind = next((kind for words, kind in _DECODING if words in error.message), None)
    if kind is None:
        kind = "unsupported-mode" if error.code in ("image", "mask") else "bad-annotation"
    if kind == "float-mask" and not isinstance(error, MaskError):
        kind = "unsupported-mode"
    found = error.message + ("" if error.found is None else f" ({error.found})")
    expected = _EXPECTED.get(kind, "a file that decodes") if error.expected is None else str(error.expected)
    fix = error.fix or _FIXES.get(kind, "replace the file")
    return Fault(relative(file, base), kind, found, expected, fix)


def relative(file: str | os.PathLike[str], base: Path) -> str:
    """Return the path of a file below `base`, else the path itself; with / between folders."""
    path = Path(file)
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()


def refuse(faults: Sequence[Fault], what: str, file: str | os.PathLike[str]) -> None:
    """Raise one error that lists all faults, or return if there are none.

    Raises:
        DataError: with the fix of the first fault, as one line.
    """
    if not faults:
        return
    expected = sorted({fault.expected for fault in faults})
    fixes = list(dict.fromkeys(fault.fix for fault in faults))
    raise DataError(
        f"{what}: " + " | ".join(map(str, faults)),
        file=file,
        expected=expected[0] if len(expected) == 1 else None,
        fix="; or ".join(fixes[:2]) + ("; see: unetres check" if len(fixes) > 2 else ""),
    )
