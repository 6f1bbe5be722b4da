"""Reading samples exactly or refusing them: everything is decoded once, every fault is listed, ids become classes.

Inside the package a mask is uint8 with class ids contiguous from 0 and `IGNORE` (255) for "not labelled".
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from unetres_edge.errors import DataError, Fix, UnetresError
from unetres_edge.images.bands import bands
from unetres_edge.images.decode import read_colors
from unetres_edge.images.preprocessing import IGNORE, Preprocessing

from ..machine.memory import give_back
from ..machine.progress_bar import with_progress
from .classes import (
    Classes,
    decide_classes,
    find_smeared_white,
    fix_colors,
    fix_values,
    halves,
    list_values,
    number_in_colors,
)
from .dataset import Dataset
from .findings import Finding, Where, finding_of, refuse, relative
from .fixes import declare
from .smears import FIX as SMEARED_FIX
from .smears import is_smeared
from .sources import MaskFile, Sample, Source
from .turned import LOOKED_AT, Lie, Turn, find_quarter, find_turned, find_unclear, lay, lie_of, turned_note

_MEMORY = 128 << 20  # bytes of decoded samples kept; beyond, they are decoded again when they are needed
_AT_ONCE = 1 << 22  # px that are looked at in one piece, where pieces do
_large = threading.RLock()  # held while a large image is decoded and looked at, which takes several times its size
_MOST_COLORS = 64
_MOST_LISTED = 12  # values of a mask that a finding lists

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Record:
    """One decoded sample.

    Args:
        name: name of the sample.
        image: (H, W) or (H, W, C), as `read_image` gives it.
        mask: (H, W) uint8 class ids, `IGNORE` where not labelled; of an image that has one class, () integers.
        instances: (H, W) integers, 0 for no object, or None where the data set has none.
        weight: (H, W) float32 from the data set, or None.
    """

    name: str
    image: np.ndarray
    mask: np.ndarray
    instances: np.ndarray | None = None
    weight: np.ndarray | None = None

    @property
    def class_id(self) -> int:
        """The class of an image that has one."""
        return int(self.mask)


@dataclass(frozen=True, slots=True)
class Look:
    """What one decoding of a sample told: the arrays as stored, the mask values in it, or the fault.

    Args:
        image: image as `read_image` gives it, or None.
        mask: (H, W) stored values, or of an image that has one class, (); or None.
        instances: (H, W) integers, or None.
        weight: (H, W) float32, or None.
        counts: stored mask value -> pixels.
        grey: whether the image has no colour.
        fault: why the sample cannot be used, or None.
        colors: packed colour -> pixels of a mask of colours where no table is declared, or None.
        size: (height, width) of the image as stored, px.
        channels: channels of the image.
        mode: kind of pixels of an image that has one class: "grey uint8", "colour uint8", ...
        content: SHA-256 of the decoded pixels of such an image.
        turn: turn of the image by EXIF, or None.
        colored: whether the numbers of objects in the mask are its colours.
        lie: what tells how the mask lies on the image, where that was asked for, or None.
    """

    image: np.ndarray | None = None
    mask: np.ndarray | None = None
    instances: np.ndarray | None = None
    weight: np.ndarray | None = None
    counts: dict[int, int] | None = None
    grey: bool = True
    fault: Finding | None = None
    colors: dict[int, int] | None = None
    size: tuple[int, int] = (0, 0)
    channels: int = 1
    mode: str = ""
    content: str = ""
    turn: Turn | None = None
    colored: bool = False
    lie: Lie | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (self.image, self.mask, self.instances, self.weight)
        return sum(array.nbytes for array in arrays if array is not None)


class Records:
    """Decoded samples of one split: `records[i]` gives a `Record`. They stay in memory up to a limit.

    `samples` says where each comes from, `sizes` holds (height, width) of each in px, `in_memory` whether it was kept,
    `grey` whether no image has colour, `channels` the most that an image has, `labelled` whether any pixel has a class,
    `present` the ids of the classes that some pixel of a mask has (of objects: 0 and 1), `contents` the digests of the
    pixels of images that have one class each.
    """

    def __init__(
        self,
        dataset: Dataset,
        samples: Sequence[Sample],
        classes: Classes,
        looks: Sequence[Look],
        scaled: Preprocessing | None = None,
    ) -> None:
        self.samples = tuple(samples)
        self.classes = classes
        self.scaled = scaled
        self.sizes = tuple(look.size for look in looks)
        self.contents = tuple(look.content for look in looks)
        self.grey = all(look.grey for look in looks)
        self.channels = max((look.channels for look in looks), default=1)
        ignored = {value for value, class_id in (classes.values or {}).items() if class_id == IGNORE}
        ignored |= {classes.ignore} if classes.ignore is not None else set()
        stored = {value for look in looks for value in look.counts or ()} - ignored
        ids = classes.values or {}
        self.present = frozenset(int(value != 0) if classes.values is None else ids.get(value, 0) for value in stored)
        self.labelled = bool(self.present) or any(look.counts is None for look in looks)
        self._dataset = dataset
        self._kept: list[Record | None] = []
        kept = 0
        for sample, look in zip(samples, looks, strict=True):
            kept += look.nbytes
            self._kept.append(record_of(sample, look, classes) if look.image is not None and kept <= _MEMORY else None)
        self.in_memory = tuple(record is not None for record in self._kept)

    @property
    def usual_channels(self) -> int:
        """The channels of a network for these images: 1 if all are grey, 3 with colour, else as many as they have."""
        if self.channels in (1, 3):
            return 1 if self.grey else 3
        return self.channels

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Record:
        kept = self._kept[index]
        if kept is not None:
            return kept
        sample = self.samples[index]
        look = look_at(sample, self._dataset, self.scaled)
        fault = look.fault or find_strange(sample, look.counts, self.classes, self._dataset)
        refuse([fault] if fault else [], "a sample has changed", self._dataset.root)
        return record_of(sample, look, self.classes)

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))


def record_of(sample: Sample, look: Look, classes: Classes) -> Record:
    """Return the record of a sample that was looked at, without a fault."""
    assert look.image is not None and look.mask is not None
    instances = look.mask if classes.values is None else look.instances
    if instances is not None and classes.ignore is not None:
        instances = np.where(instances == classes.ignore, 0, instances)
    mask = classes.ids(look.mask) if sample.class_id is None else np.array((classes.values or {})[sample.class_id])
    return Record(sample.name, look.image, mask, instances, look.weight)


def read_records(
    dataset: Dataset,
    splits: Sequence[str],
    *,
    class_names: Sequence[str] | None = None,
    scaled: Preprocessing | None = None,
    progress: bool = True,
) -> dict[str, Records]:
    """Decode and check the samples of some splits.

    Args:
        splits: names of splits, or "all".
        class_names: the classes of a model; the data must fit them. None to take them from the data set.
        scaled: preparation of images that have one class, to keep them at its size; its channels are those that
            are asked for, and where the images shall decide, 3. None to keep them as they are.
        progress: whether to show a progress bar on standard error.

    Returns:
        The records of each split. All share one `Classes`.

    Raises:
        DataError: every fault of every file in one error: not readable, sizes that differ, values outside the classes.
    """
    samples = [(split, sample) for split in splits for sample in dataset.split(split)]
    looks = _look_at_all([sample for _, sample in samples], dataset, scaled, progress)
    faults = [look.fault for look in looks if look.fault]
    masks = [look.counts for look in looks if look.counts is not None]
    title = "{} of {} samples cannot be used"
    table = suggest_colors([look.colors for look in looks if look.colors])
    faults = [replace(fault, fix=table) if fault.kind == "color-mask" and table else fault for fault in faults]
    quarter = find_quarter(look.lie for look in looks)
    faults = [mended(fault, quarter) for fault in faults]
    smeared = [s for (_, s), look in zip(samples, looks, strict=True) if look.fault and look.fault.kind == "lossy-mask"]
    ranges = suggest_ranges(smeared)
    faults = [replace(fault, fix=ranges) if fault.kind == "lossy-mask" and ranges else fault for fault in faults]
    try:
        classes = decide_classes(dataset, masks, class_names)
    except DataError:
        refuse(faults, title.format(len(faults), len(samples)), dataset.root)
        raise
    for (_, sample), look in zip(samples, looks, strict=True):
        strange = find_strange(sample, look.counts, classes, dataset)
        faults += [strange] if strange else []
    faults += find_colored(
        ((s, look.counts, look.colored) for (_, s), look in zip(samples, looks, strict=True)), dataset
    )
    turns = [(s.name, s.target.file, look.turn) for (_, s), look in zip(samples, looks, strict=True)]
    faults += find_unclear(turns, dataset.base)
    faults += find_turned(look.lie for look in looks)
    note = turned_note(look.turn for look in looks)
    if note:
        classes = replace(classes, note="; ".join(filter(None, (classes.note, note))))
    refuse(faults, title.format(len(faults), len(samples)), dataset.root)
    return {
        split: Records(
            dataset,
            [sample for s, sample in samples if s == split],
            classes,
            [look for (s, _), look in zip(samples, looks, strict=True) if s == split],
            scaled,
        )
        for split in splits
    }


def mended(fault: Finding, quarter: Fix | None) -> Finding:
    """Return the fault of a mask whose sides are exchanged with the line that turns all masks, where there is one."""
    figures = fault.figures
    swapped = fault.kind == "size-differs" and (figures["width"], figures["height"]) == (
        figures["other_height"],
        figures["other_width"],
    )
    return replace(fault, fix=quarter) if quarter and swapped else fault


def find_strange(sample: Sample, counts: dict[int, int] | None, classes: Classes, dataset: Dataset) -> Finding | None:
    """Return the fault of a mask with values that are no class, or None."""
    if counts is None or classes.values is None or sample.class_id is not None:
        return None
    strange = sorted(set(counts) - set(classes.values))
    if not strange:
        return None
    kind, fix = fix_values(strange, counts, classes, dataset.by_color, dataset.reading.ignore is not None)
    if len(strange) > 1 and is_smeared(sample.target.read(), classes.values, dataset.by_color):
        kind, fix = "smeared-mask", SMEARED_FIX
    values = list_values(strange, dataset.by_color)
    many = {"count": len(values), "last": values[-1]} if len(values) > _MOST_LISTED else {}
    figures = many | {
        "values": values[:_MOST_LISTED],
        "pixels": sum(counts[value] for value in strange),
        "known": list_values(classes.values, dataset.by_color),
    }
    return Finding(kind, Where(relative(sample.target.file, dataset.base), sample.name), figures, fix)


def in_parallel(work: Callable[[S], T], items: Sequence[S], *, progress: bool, title: str = "reading") -> Iterator[T]:
    """Yield `work` of every item in order, done in as many threads as there are processors, with a progress bar."""
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        done = _ahead(pool, work, items, 8 * threads)
        yield from with_progress(done, title, "sample", len(items)) if progress else done


def _ahead(pool: ThreadPoolExecutor, work: Callable[[S], T], items: Sequence[S], most: int) -> Iterator[T]:
    """Yield results in order; at most so many wait to be taken, or to be made."""
    waiting: deque[Future[T]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _look_at_all(
    samples: Sequence[Sample], dataset: Dataset, scaled: Preprocessing | None, progress: bool
) -> list[Look]:
    kept, counting = 0, threading.Lock()

    shown = spread(len(samples), LOOKED_AT)

    def look(index: int) -> Look:
        """Look at a sample, and forget its pixels here, as looks wait to be taken, where there is no room for them."""
        nonlocal kept
        sample = samples[index]
        with alone(sample):
            seen = look_at(sample, dataset, scaled, laid=index in shown)
            with counting:
                kept += seen.nbytes
                return seen if kept <= _MEMORY else _forget(seen)

    return list(in_parallel(look, range(len(samples)), progress=progress))


def spread(count: int, most: int) -> range:
    """Return so many of `count` indices at most, spread over them, or a few more."""
    return range(0, count, max(1, count // most))


def _forget(look: Look) -> Look:
    """Return a look that keeps what it told, but no pixels."""
    return replace(look, image=None, mask=None, instances=None, weight=None)


@contextlib.contextmanager
def alone(sample: Sample) -> Iterator[None]:
    """Hold back other large images where that of a sample is one; what it took is given back at the end."""
    if not sample.image.is_large:
        yield
        return
    with _large:
        yield
        give_back()


def look_at(sample: Sample, dataset: Dataset, scaled: Preprocessing | None = None, *, laid: bool = False) -> Look:
    """Decode a sample; its mask is what the reading says, class ids or instances.

    Args:
        scaled: preparation of images, as for `read_records`.
        laid: whether it is looked at how the mask lies on the image, unless the reading says it.
    """
    if sample.class_id is not None:
        return _look_at_image(sample, dataset, scaled)
    with alone(sample):
        return _look_at_pair(sample, dataset, laid=laid and dataset.reading.masks_turned is None)


def _look_at_pair(sample: Sample, dataset: Dataset, *, laid: bool) -> Look:
    """Decode a sample that has a mask."""
    base = dataset.base
    source = sample.target
    if dataset.reading.masks_are == "instances" and sample.instances is not None:
        source = sample.instances
    image, fault = _read(sample.image, sample, dataset)
    mask, mask_fault, colored = _read_mask(source, sample, dataset)
    if image is None or mask is None:
        fault = fault or mask_fault
        return Look(fault=fault, colors=_colors(source) if fault and fault.kind == "color-mask" else None)
    parts: dict[str, np.ndarray | None] = {"instances": None, "weight": None}
    for name, extra in (("instances", sample.instances), ("weight", sample.weight)):
        if extra is not None and extra is not source:
            parts[name], fault = _read(extra, sample, dataset)
            if fault:
                return Look(fault=fault)
    turn_it, turn = lay(sample.image, image, mask, dataset.reading.masks_on, dataset.reading.masks_turned)
    mask = turn_it(mask)
    lie = lie_of(image, mask) if laid and turn is None else None
    parts = {name: None if values is None else turn_it(values) for name, values in parts.items()}
    apart = parts["instances"]
    if apart is not None and sample.instances is not None and sample.instances.unlabelled is not None:
        parts["instances"] = np.where(apart == sample.instances.unlabelled, 0, apart)
    for other, values in (("mask", mask), *parts.items()):
        if values is not None and image.shape[:2] != values.shape[:2]:
            (height, width), (other_height, other_width) = image.shape[:2], values.shape[:2]
            figures = {"width": width, "height": height, "other": other}
            figures |= {"other_width": other_width, "other_height": other_height}
            swapped = (height, width) == (other_width, other_height)
            upright = "turn the mask by a quarter, or transpose it, as the image lies"
            fix = Fix(upright if swapped else "make both the same size")
            where = Where(relative(source.file, base), sample.name)
            return Look(fault=Finding("size-differs", where, figures, fix), lie=lie)
    grey, by_value = is_grey(image), count_values(mask)
    size = (mask.shape[0], mask.shape[1])
    channels = 1 if image.ndim == 2 else image.shape[-1]
    return Look(
        image,
        mask,
        parts["instances"],
        parts["weight"],
        by_value,
        grey,
        size=size,
        channels=channels,
        turn=turn,
        colored=colored,
        lie=lie,
    )


def _look_at_image(sample: Sample, dataset: Dataset, scaled: Preprocessing | None) -> Look:
    """Decode an image that has one class, and scale it where that is wanted."""
    try:
        image = sample.image.read()
        grey = is_grey(image)
        flat = image.ndim == 2 or image.shape[-1] == 1
        # The colour order and the channels follow when all images are known; neither changes how one is scaled.
        channels = 1 if flat or (scaled is not None and scaled.channels == 1) else 3
        form = replace(scaled or Preprocessing(fit="resize"), channels=channels, color_order="rgb", mean=(0,), std=(1,))
        prepared = form.prepare(image)  # refuses an image that cannot be prepared, also where it is kept as it is
    except UnetresError as error:
        return Look(fault=finding_of(error, sample.image.file, dataset.base, sample.name))
    digest = hashlib.sha256(f"{image.dtype}{image.shape}".encode() + np.ascontiguousarray(image).tobytes())
    return Look(
        image if scaled is None else form.place(*image.shape[:2]).image(prepared),
        sample.target.read(),
        grey=grey,
        size=(image.shape[0], image.shape[1]),
        mode=f"{'grey' if flat else 'colour'} {image.dtype}",
        content=digest.hexdigest(),
    )


def pieces(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows of an array (H, W) or (H, W, C) in pieces, so that what is computed of each stays small."""
    channels = values.shape[-1] if values.ndim == 3 else 1
    for rows in bands(values.shape, max(1, _AT_ONCE // channels)):
        yield values[rows]


def is_grey(image: np.ndarray) -> bool:
    """Return whether the channels of each pixel of an image (H, W) or (H, W, C) are equal."""
    return image.ndim == 2 or all(bool((piece == piece[..., :1]).all()) for piece in pieces(image))


def count_values(mask: np.ndarray) -> dict[int, int]:
    """Return value -> pixels of a mask (H, W), in order of the values."""
    total: Counter[int] = Counter()
    for piece in pieces(mask):
        values, counts = np.unique(piece, return_counts=True)
        total.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    return dict(sorted(total.items()))


def count_ids(mask: np.ndarray, count: int) -> np.ndarray:
    """Return how often each of the first `count` class ids is in a mask, or in ids of any shape, (count,) int64."""
    flat, total = mask.ravel(), np.zeros(max(IGNORE + 1, count), np.int64)
    for start in range(0, flat.size, _AT_ONCE):
        total += np.bincount(flat[start : start + _AT_ONCE], minlength=len(total))
    return total[:count]


def _read(source: Source, sample: Sample, dataset: Dataset) -> tuple[np.ndarray | None, Finding | None]:
    try:
        return source.read(), None
    except UnetresError as error:
        return None, finding_of(error, source.file, dataset.base, sample.name)


def _read_mask(source: Source, sample: Sample, dataset: Dataset) -> tuple[np.ndarray | None, Finding | None, bool]:
    """Return what `_read` does, and whether objects are numbered by colours, a colour an object and black for none."""
    mask, fault = _read(source, sample, dataset)
    of_objects = dataset.reading.masks_are == "instances" and isinstance(source, MaskFile) and source.page is None
    if fault is not None and fault.kind == "color-mask" and of_objects:
        return read_colors(source.file), None, True
    return mask, fault, False


def find_colored(masks: Iterable[tuple[Sample, dict[int, int] | None, bool]], dataset: Dataset) -> list[Finding]:
    """Return a fault for each mask in colours where most masks number their objects.

    Args:
        masks: (sample, stored mask value -> pixels, whether the mask is in colours) of each.
    """
    rows = [(sample, colored) for sample, counts, colored in masks if counts is not None and len(counts) > 1]
    odd = [sample for sample, colored in rows if colored]
    if 2 * len(odd) > len(rows):
        return []
    faults = [_read(sample.instances or sample.target, sample, dataset)[1] for sample in odd]
    return [fault for fault in faults if fault is not None]


def _colors(source: Source) -> dict[int, int] | None:
    """Return the colours of a mask file and their pixels, or None if they are too many to be classes."""
    try:
        colors, counts = np.unique(read_colors(source.file), return_counts=True)
    except UnetresError:
        return None
    return dict(zip(colors.tolist(), counts.tolist(), strict=True)) if len(colors) <= _MOST_COLORS else None


def suggest_colors(masks: Sequence[dict[int, int]]) -> Fix | None:
    """Return the fix for masks of colours: that they number objects, or the classes of all colours; None for none."""
    total: Counter[int] = Counter()
    for counts in masks:
        total.update(counts)
    if not total:
        return None
    return declare({"masks_are": "instances"}) if number_in_colors(masks) else fix_colors(total)


def suggest_ranges(samples: Sequence[Sample]) -> Fix | None:
    """Return the fix for masks in a format that smears, where they are of black and white; None for others."""
    shown = [s.target for s in samples if isinstance(s.target, MaskFile)]
    value_counts = []
    for source in shown[:: -(-len(shown) // _MOST_LISTED)] if shown else ():
        try:
            values, counts = np.unique(replace(source, smeared=True).read(), return_counts=True)
        except UnetresError:
            return None
        value_counts.append(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    sharp = bool(value_counts) and set[int]().union(*value_counts) == {0, 255}  # lossless WebP
    top = 255 if sharp else find_smeared_white(value_counts)
    return declare(halves(top)) if top else None


def fingerprint(dataset: Dataset, classes: Classes) -> str:
    """Return a digest of the names and bytes of every file, by split, and of what mask values mean."""
    values = None if classes.values is None else sorted(classes.values.items())
    of_masks = (classes.names, values, classes.ignore, classes.target)
    digest = hashlib.sha256(repr(of_masks if dataset.per_pixel else dataset.class_names).encode())
    for split, samples in dataset.splits.items():
        for sample in samples:
            digest.update(f"{split}/{sample.name}/".encode("utf-8", "surrogateescape"))
            digest.update("/".join(sample.digests()).encode())
    return digest.hexdigest()
