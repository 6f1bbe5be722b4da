"""Reading pairs exactly or refusing them: every file is decoded once, every fault is listed, ids become classes.

Inside the package a mask is uint8 with class ids contiguous from 0 and `IGNORE` (255) for "not labelled".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from unetres_edge.card import default_colors
from unetres_edge.errors import DataError, MaskError
from unetres_edge.image import read_image, read_mask
from unetres_edge.preprocessing import IGNORE

from .dataset import Dataset, Pair

_MOST_UNNAMED_CLASSES = 32
_MEMORY = 4 << 30  # bytes of decoded pairs kept; beyond, files are decoded again when they are needed


@dataclass(frozen=True)
class Classes:
    """The classes of a data set and the mask value that stands for each.

    Args:
        names: one a class.
        colors: (red, green, blue) of each.
        values: mask value -> class id or `IGNORE`; None where masks hold instance ids.
        note: what was mapped, in words, or "".
        ignore: the mask value that means "not labelled" where masks hold instance ids, or None.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    values: dict[int, int] | None
    note: str = ""
    ignore: int | None = None

    def ids(self, stored: np.ndarray) -> np.ndarray:
        """Map stored mask values (H, W) to uint8 class ids."""
        if self.values is None:
            ids = (stored != 0).astype(np.uint8)
            if self.ignore is not None:
                ids[stored == self.ignore] = IGNORE
            return ids
        lowest = min(self.values)
        table = np.full(max(self.values) - lowest + 1, IGNORE, np.uint8)
        table[[value - lowest for value in self.values]] = list(self.values.values())
        return table[stored.astype(np.int64) - lowest if lowest else stored]


@dataclass(frozen=True)
class _Look:
    """What one decoding of a pair told: the pixels, the mask values in it, or the fault."""

    image: np.ndarray | None = None
    mask: np.ndarray | None = None
    values: tuple[int, ...] = ()
    size: tuple[int, int] = (0, 0)
    grey: bool = True
    fault: str = ""


class Records:
    """Decoded pairs of one split: `records[i]` gives (image, mask).

    The image is as `read_image` gives it, the mask (H, W) uint8 class ids. Decoded pairs stay in memory up to a limit.
    `sizes` holds (height, width) of each in px, `in_memory` whether it was kept, `grey` whether no image has colour.
    """

    def __init__(self, pairs: Sequence[Pair], classes: Classes, looks: Sequence[_Look]) -> None:
        self.pairs = tuple(pairs)
        self.classes = classes
        self.sizes = tuple(look.size for look in looks)
        self.in_memory = tuple(look.image is not None for look in looks)
        self.grey = all(look.grey for look in looks)
        self._kept: list[tuple[np.ndarray, np.ndarray] | None] = [
            None if look.image is None or look.mask is None else (look.image, classes.ids(look.mask)) for look in looks
        ]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        kept = self._kept[index]
        if kept is not None:
            return kept
        pair = self.pairs[index]
        return read_image(pair.image), self.classes.ids(read_mask(pair.mask))

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return (self[i] for i in range(len(self)))


def read_records(
    dataset: Dataset, splits: Sequence[str], *, class_names: Sequence[str] | None = None, progress: bool = True
) -> dict[str, Records]:
    """Decode and check the pairs of some splits.

    Args:
        splits: names of splits, or "all".
        class_names: the classes of a model; the data must fit them. None to take them from the data set.
        progress: show a progress bar on standard error.

    Returns:
        The records of each split. All share one `Classes`.

    Raises:
        DataError: every fault of every file in one error: not readable, sizes that differ, values outside the classes.
    """
    pairs = [(split, pair) for split in splits for pair in dataset.split(split)]
    looks = _look_at_all([pair for _, pair in pairs], progress)
    faults = [f"{pair.name}: {look.fault}" for (_, pair), look in zip(pairs, looks, strict=True) if look.fault]
    found = sorted({value for look in looks for value in look.values})
    try:
        classes = _classes(dataset, found, class_names)
    except DataError as error:
        if not faults:
            raise
        raise DataError(
            f"{len(faults)} of {len(pairs)} pairs cannot be used: " + " | ".join(faults),
            file=dataset.root,
            fix="replace those files",
        ) from error
    if classes.values is not None:
        for (_, pair), look in zip(pairs, looks, strict=True):
            strange = sorted(set(look.values) - set(classes.values))
            if strange:
                faults.append(f"{pair.mask.name}: mask values {_shorten(strange)} are not classes")
    if faults:
        raise DataError(
            f"{len(faults)} of {len(pairs)} pairs cannot be used: " + " | ".join(faults),
            file=dataset.root,
            expected=_expectation(classes) if any("not classes" in f for f in faults) else None,
            fix=_fix(dataset, found, classes) if any("not classes" in f for f in faults) else "replace those files",
        )
    return {
        split: Records(
            [pair for s, pair in pairs if s == split],
            classes,
            [look for (s, _), look in zip(pairs, looks, strict=True) if s == split],
        )
        for split in splits
    }


def _look_at_all(pairs: Sequence[Pair], progress: bool) -> list[_Look]:
    kept = 0
    looks = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bar = tqdm(total=len(pairs), desc="reading", unit="pair", disable=None if progress else True, leave=False)
        for look in pool.map(_look_at, pairs):
            bar.update()
            if look.image is not None and look.mask is not None:
                kept += look.image.nbytes + look.mask.nbytes
                if kept > _MEMORY:
                    look = replace(look, image=None, mask=None)
            looks.append(look)
        bar.close()
    return looks


def _look_at(pair: Pair) -> _Look:
    try:
        image, mask = read_image(pair.image), read_mask(pair.mask)
    except DataError as error:
        which = "mask: " if isinstance(error, MaskError) else ""
        found = "" if error.found is None else f" ({error.found})"
        return _Look(fault=which + error.message + found)
    if image.shape[:2] != mask.shape:
        sizes = f"{image.shape[1]} x {image.shape[0]}, mask {mask.shape[1]} x {mask.shape[0]}"
        return _Look(fault=f"image and mask differ in size ({sizes})")
    grey = image.ndim == 2 or bool((image == image[..., :1]).all())
    return _Look(image, mask, tuple(int(v) for v in np.unique(mask)), (mask.shape[0], mask.shape[1]), grey)


def _classes(dataset: Dataset, found: list[int], model_names: Sequence[str] | None) -> Classes:
    """Decide which mask value is which class."""
    reading = dataset.reading
    declared = dataset.class_names
    if model_names is not None:
        if declared is not None and len(declared) != len(model_names):
            raise DataError(
                "the data set and the model differ in classes",
                file=dataset.root,
                expected=", ".join(model_names),
                found=", ".join(declared),
            )
        declared = tuple(model_names)
    if reading.masks_are == "instances":
        names = declared or ("background", "object")
        if len(names) != 2:
            raise DataError("instance masks make two classes", file=dataset.root, found=f"{len(names)} class names")
        note = "any mask value above 0 is class 1 (masks are instances)"
        return Classes(names, _colors(dataset, 2), None, note, reading.ignore)
    ids = [value for value in found if value != reading.ignore]
    if ids and max(ids) == 255 and set(ids) <= {0, 255} and len(declared or (0, 1)) == 2:
        names = declared or ("0", "255")
        values = {0: 0, 255: 1}
        note = f"mask value 255 is class 1 ({names[1]})"
    else:
        count = len(declared) if declared else _count_unnamed(dataset, ids)
        names = declared or tuple(map(str, range(count)))
        values = {value: value for value in range(count)}
        note = ""
    if reading.ignore is not None:
        values[reading.ignore] = IGNORE
    return Classes(names, _colors(dataset, len(names)), values, note)


def _count_unnamed(dataset: Dataset, ids: list[int]) -> int:
    """Return the number of classes when nothing names them: the ids found must be 0, 1, 2, ..."""
    if ids == list(range(len(ids))) and 2 <= len(ids) <= _MOST_UNNAMED_CLASSES:
        return len(ids)
    if len(ids) > _MOST_UNNAMED_CLASSES:
        fix = "if they are instance ids, pass --masks instances; else name the classes in classes.txt"
    else:
        fix = "name the classes in classes.txt, one a line; a label that means 'not labelled' is given by --ignore N"
    raise DataError(
        "the mask values are not class ids 0, 1, 2, ...",
        file=dataset.root,
        expected="contiguous ids from 0, at least two",
        found=_shorten(ids),
        fix=fix,
    )


def _colors(dataset: Dataset, count: int) -> tuple[tuple[int, int, int], ...]:
    return dataset.class_colors or default_colors(count)


def _expectation(classes: Classes) -> str:
    return "values " + _shorten(sorted(classes.values or {}))


def _fix(dataset: Dataset, found: list[int], classes: Classes) -> str:
    strange = sorted(set(found) - set(classes.values or {}))
    if len(strange) > _MOST_UNNAMED_CLASSES or max(strange, default=0) > 255:
        return "if they are instance ids, pass --masks instances"
    if len(strange) == 1 and dataset.reading.ignore is None:
        return f"if {strange[0]} means 'not labelled', pass --ignore {strange[0]}; else name the class in classes.txt"
    return "correct the masks, or name all classes in classes.txt"


def _shorten(values: Sequence[int]) -> str:
    shown = ", ".join(map(str, values[:12]))
    return f"{shown}, ... {values[-1]} ({len(values)} values)" if len(values) > 12 else shown or "none"
