"""The check of a data set: every file is decoded once, then each check of a table looks at what was kept of it."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetres_edge.errors import DataError, Fix

from ..data.classes import decide_classes
from ..data.dataset import Dataset, open_dataset
from ..data.declaration import Reading
from ..data.findings import Finding, finding_of, in_order
from ..data.kinds import KINDS
from ..data.records import alone, in_parallel, spread
from ..data.turned import LOOKED_AT, turned_note
from .class_pixels import find_class_pixels
from .copies import find_equal, find_near_copies
from .decoding import find_undecoded
from .hashes import find_changed
from .images import find_odd_images
from .levels import find_few_levels
from .palettes import find_other_palettes
from .rims import find_rims
from .smalls import Smalls
from .summaries import DatasetSummary, ImageSummary, summarise
from .turned import find_turned_images
from .unread import find_unread_files
from .values import find_unknown_values

_PICTURES = 32  # large ones, spread over the samples

Check = Callable[[DatasetSummary], Iterable[Finding]]
CHECKS: dict[str, Check] = {
    "decoding": find_undecoded,
    "values": find_unknown_values,
    "palettes": find_other_palettes,
    "rims": find_rims,
    "copies": find_equal,
    "near-copies": find_near_copies,
    "images": find_odd_images,
    "levels": find_few_levels,
    "class-pixels": find_class_pixels,
    "unread": find_unread_files,
    "turned": find_turned_images,
}
# The reader of class folders has counted the images of each class, and those of one class may be meant to look alike.
_OF_MASKS = ("near-copies", "class-pixels")


@dataclass(frozen=True)
class Checkup:
    """What a check found.

    Args:
        data: data set that was checked.
        summary: figures of the images that were looked at, or None if the data set could not be opened.
        findings: all there is to say, by file.
        hashes: sentence about the files' hashes.
    """

    data: str
    summary: DatasetSummary | None
    findings: tuple[Finding, ...]
    hashes: str = ""

    @property
    def faults(self) -> list[Finding]:
        """What keeps the data set from being used."""
        return [finding for finding in self.findings if finding.is_fault]

    @property
    def warnings(self) -> list[Finding]:
        """What is read, but worth a look."""
        return [finding for finding in self.findings if not finding.is_fault]

    @property
    def images(self) -> tuple[ImageSummary, ...]:
        """What was kept of each sample."""
        return () if self.summary is None else self.summary.images

    def class_rows(self) -> list[dict[str, Any]]:
        """Return id, name, pixels and images of each class, over all parts and by part."""
        return [] if self.summary is None else self.summary.class_rows()

    def _turned(self) -> list[str]:
        note = turned_note(image.turn for image in self.images)
        return [note] if note else []

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        dataset = None if self.summary is None else self.summary.dataset
        classes = None if self.summary is None else self.summary.classes
        seen = [image for image in self.images if image.content]
        rows = self.class_rows()
        pixels = sum(sum(image.counts.values()) for image in seen if image.counts)
        labelled = sum(row["pixels"] for row in rows) if classes else 0
        sizes = Counter(image.size for image in seen)
        return {
            "data": None if dataset is None else os.fspath(dataset.root),
            "format": None if dataset is None else dataset.format,
            "parts": {} if dataset is None else {name: len(part) for name, part in dataset.splits.items()},
            "faults": [finding.to_dict(self.data) for finding in self.faults],
            "warnings": [finding.to_dict(self.data) for finding in self.warnings],
            "classes": rows,
            "ignored_share": None if classes is None or not pixels else round((pixels - labelled) / pixels, 6),
            "sizes": [{"height": h, "width": w, "images": n} for (h, w), n in sizes.most_common()],
            "modes": dict(Counter(image.mode for image in seen).most_common()),
            "reading": None if dataset is None else dataset.reading.to_dict(),
            "notes": [] if dataset is None else [*dataset.notes, *([classes.note] if classes else []), *self._turned()],
            "hashes": self.hashes,
        }


def check(
    data: str | os.PathLike[str] | Dataset,
    reading: Reading | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    hashes: str = "keep",
    progress: bool = True,
) -> Checkup:
    """Decode every file of a data set once and list all that is wrong with it.

    Args:
        data, reading, changes: as `open_dataset`.
        hashes: "keep" compares files with the hashes of earlier checks and adds those of files without fault; "renew"
            takes the files as they are now; "off" does neither. They lie in `.unetres-hashes.json` in the folder.
        progress: whether to show a progress bar.

    Raises:
        UsageError: a reading that is wrong.
    """
    root = data.root if isinstance(data, Dataset) else Path(data)
    try:
        dataset = open_dataset(data, reading, changes, strict=False)
    except DataError as error:
        return Checkup(os.fspath(root), None, (_cannot_open(error, root),))
    summary = _summarise(dataset, progress)
    findings = [*dataset.faults, *dataset.warnings]
    for name, look in CHECKS.items():
        findings += look(summary) if dataset.per_pixel or name not in _OF_MASKS else ()
    changed, said = find_changed(summary, hashes, {finding.file for finding in findings if finding.is_fault})
    return Checkup(os.fspath(root), summary, tuple(in_order([*findings, *changed])), said)


def _cannot_open(error: DataError, root: Path) -> Finding:
    """Return why a data set could not be opened."""
    base = root if root.is_dir() else root.parent
    known = finding_of(error, error.file or root, base)
    fix = error.remedy or Fix(KINDS["declaration"].fix)
    return Finding(error.kind if error.kind in KINDS else "declaration", known.where, known.figures, fix)


def _summarise(dataset: Dataset, progress: bool) -> DatasetSummary:
    """Decode all samples, and decide what the values of their masks mean."""
    samples = [(part, sample) for part, samples in dataset.splits.items() for sample in samples]
    shown, laid = spread(len(samples), _PICTURES), spread(len(samples), LOOKED_AT)
    smalls = Smalls(len(samples))

    def look(index: int) -> ImageSummary:
        part, sample = samples[index]
        with alone(sample):
            return summarise(
                part, sample, dataset, functools.partial(smalls.put, index), large=index in shown, laid=index in laid
            )

    images = tuple(in_parallel(look, range(len(samples)), progress=progress))
    masks = [image.counts for image in images if image.counts is not None]
    if not masks:
        return DatasetSummary(dataset, images, smalls)
    try:
        return DatasetSummary(dataset, images, smalls, decide_classes(dataset, masks))
    except DataError as error:
        return DatasetSummary(dataset, images, smalls, error=error)
