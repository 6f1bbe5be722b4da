"""The doctor: all that can be seen to be wrong with a data set, each with its file and the line that mends it."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unetres_edge.errors import DataError, FileSystemError, UnetresError
from unetres_edge.files import write_json
from unetres_edge.images.preprocessing import IGNORE

from ..data.classes import Classes, decide_classes, merge_lines, values_line
from ..data.dataset import Dataset, open_dataset
from ..data.declaration import Reading
from ..data.faults import Fault, fault_of, relative
from ..data.records import find_strange, in_parallel, suggest_colors
from .copies import find_copies
from .portrait import Portrait, make_portrait
from .rims import find_rims

HASHES = ".unetres-hashes.json"
_PICTURES = 32  # large ones, spread over the samples
_RARE = 1e-4  # share of the labelled pixels


@dataclass
class Checkup:
    """What a check found.

    Args:
        dataset: as it was opened, or None if it could not be.
        classes: what mask values mean, or None if that could not be told.
        portraits: one a sample.
        faults: what keeps the data set from being used.
        warnings: what is read, but worth a look.
        excusable: image names to leave out so that a fault is gone, by fault.
        hashes: what became of the files' hashes, in words.
    """

    dataset: Dataset | None = None
    classes: Classes | None = None
    portraits: list[Portrait] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    excusable: dict[Fault, str] = field(default_factory=dict)
    hashes: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        dataset = self.dataset
        seen = [p for p in self.portraits if p.counts is not None]
        pixels = sum(sum(p.counts.values()) for p in seen if p.counts)
        labelled = sum(row["pixels"] for row in self.class_rows())
        sizes = Counter(p.size for p in seen)
        return {
            "data": None if dataset is None else os.fspath(dataset.root),
            "format": None if dataset is None else dataset.format,
            "parts": {} if dataset is None else {name: len(part) for name, part in dataset.splits.items()},
            "faults": [fault.to_dict() for fault in self.faults],
            "warnings": [fault.to_dict() for fault in self.warnings],
            "classes": self.class_rows(),
            "ignored_share": None if self.classes is None or not pixels else round((pixels - labelled) / pixels, 6),
            "sizes": [{"height": h, "width": w, "images": n} for (h, w), n in sizes.most_common()],
            "modes": dict(Counter(p.mode for p in seen).most_common()),
            "reading": None if dataset is None else dataset.reading.to_dict(),
            "notes": [] if dataset is None else [*dataset.notes, *([self.classes.note] if self.classes else [])],
            "hashes": self.hashes,
        }

    def class_rows(self) -> list[dict[str, Any]]:
        """Return id, name, pixels and images of each class, over all parts and by part."""
        if self.classes is None:
            return []
        classes = self.classes
        pixels: Counter[tuple[str, int]] = Counter()
        images: Counter[tuple[str, int]] = Counter()
        for portrait in self.portraits:
            for class_id, count in _class_counts(portrait, classes).items():
                pixels[portrait.part, class_id] += count
                images[portrait.part, class_id] += 1
        parts = sorted({portrait.part for portrait in self.portraits})
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
            for class_id, name in enumerate(classes.names)
        ]


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
        progress: show a progress bar.

    Raises:
        UsageError: a reading that is wrong.
    """
    found = Checkup()
    try:
        found.dataset = dataset = open_dataset(data, reading, changes, strict=False)
    except DataError as error:
        root = data.root if isinstance(data, Dataset) else Path(data)
        fault = fault_of(error, error.file or root, root if root.is_dir() else root.parent)
        expected = str(error.expected or "a data set, see the README")
        found.faults.append(
            replace(fault, kind="declaration", expected=expected, fix=error.fix or "correct it by hand")
        )
        return found
    found.faults += dataset.faults
    found.warnings += dataset.warnings
    found.excusable |= {fault: Path(fault.file).name for fault in dataset.faults}
    samples = [(part, sample) for part, samples in dataset.splits.items() for sample in samples]
    shown = range(0, len(samples), max(1, len(samples) // _PICTURES))

    def look(index: int) -> Portrait:
        return make_portrait(*samples[index], dataset, large=index in shown)

    found.portraits = list(in_parallel(look, range(len(samples)), progress=progress))
    _decoding(found, dataset)
    _values(found, dataset)
    _palettes(found, dataset)
    for portrait, fault in find_rims(found.portraits, dataset.base):
        _add(found, fault, portrait)
    leaks, alike = find_copies(found.portraits, dataset.base)
    for portrait, fault in leaks:
        _add(found, fault, portrait)
    found.warnings += alike
    _oddities(found, dataset)
    _compare_hashes(found, dataset, hashes)
    found.faults = sorted(set(found.faults))
    found.warnings = sorted(set(found.warnings))
    return found


def _decoding(found: Checkup, dataset: Dataset) -> None:
    """Faults of single samples that were seen when they were decoded."""
    colored = [p.colors for p in found.portraits if p.colors]
    fix = suggest_colors(colored)
    known = set[int]().union(*colored)
    others = [p for p in found.portraits if p.counts is not None]
    if any(p.palette or not {value * 0x010101 for value in p.counts or ()} <= known for p in others):
        fix = ""  # the other masks are read by their numbers, which a table of colours would end
    for portrait in found.portraits:
        if portrait.fault is not None:
            fault = replace(portrait.fault, fix=fix) if portrait.colors and fix else portrait.fault
            _add(found, fault, portrait)


def _add(found: Checkup, fault: Fault, portrait: Portrait) -> None:
    found.faults.append(fault)
    found.excusable.setdefault(fault, portrait.sample.name)


def _values(found: Checkup, dataset: Dataset) -> None:
    """Mask values that are no class."""
    masks = [p.counts for p in found.portraits if p.counts is not None]
    if not masks:
        return
    try:
        classes = decide_classes(dataset, masks)
    except DataError as error:
        if len(masks) < len(found.portraits) / 2:
            return  # what keeps the others from being read comes first
        kind = "instance-ids" if error.fix == "masks_are: instances" else "not-contiguous"
        where = relative(dataset.split("all")[0].mask.file.parent, dataset.base)
        found.faults.append(Fault(where, kind, str(error.found), str(error.expected), error.fix or ""))
        return
    found.classes = classes
    strange = [(p, fault) for p in found.portraits if (fault := find_strange(p.sample, p.counts, classes, dataset))]
    fixes = {fault.fix for _, fault in strange if fault.fix.startswith(("values:", "ignore:"))}
    merged = merge_lines(fixes, classes) if len(fixes) > 1 else ""
    for portrait, fault in strange:
        _add(found, replace(fault, fix=merged) if merged and fault.fix in fixes else fault, portrait)


def _palettes(found: Checkup, dataset: Dataset) -> None:
    """Palette masks in which a colour has another index than in most."""
    votes: dict[int, Counter[int]] = defaultdict(Counter)
    for portrait in found.portraits:
        for color, index in (portrait.palette or {}).items():
            votes[color][index] += 1
    usual = {color: counter.most_common(1)[0][0] for color, counter in votes.items()}
    if dataset.reading.masks_are == "instances" or len(set(usual.values())) < 2:
        return
    fix = "save this mask with the palette of the others"
    known = {} if found.classes is None else found.classes.values or {}
    values = {color: known[index] for color, index in usual.items() if index in known}
    if len(values) == len(usual) and all(p.palette for p in found.portraits if p.counts is not None):
        fix = values_line(values, by_color=True)
    for portrait in found.portraits:
        odd = {c: i for c, i in (portrait.palette or {}).items() if usual[c] != i}
        if odd:
            said = ", ".join(f"#{color:06x} is {index}, not {usual[color]}" for color, index in sorted(odd.items())[:4])
            file = relative(portrait.sample.mask.file, dataset.base)
            fault = Fault(file, "palettes-differ", said, "one palette for all masks", fix)
            _add(found, fault, portrait)


def _oddities(found: Checkup, dataset: Dataset) -> None:
    """What is read, but worth a look."""

    def warn(file: Path, kind: str, said: str, expected: str, fix: str) -> None:
        found.warnings.append(Fault(relative(file, dataset.base), kind, said, expected, fix))

    modes = Counter(p.mode for p in found.portraits if p.mode)
    for portrait in found.portraits:
        image, leave = portrait.sample.image.file, f"exclude: [{json.dumps(portrait.sample.name)}]"
        if portrait.constant:
            warn(image, "constant-image", "one value in all pixels", "a picture", leave)
        for file, ending in portrait.endings.items():
            warn(file, "wrong-ending", f"a {ending[1:]} file", ending, f"rename it to *{ending}")
        if found.classes is not None and portrait.counts is not None:
            counts = _class_counts(portrait, found.classes)
            if counts and set(counts) == {IGNORE}:
                mask = portrait.sample.mask.file
                warn(mask, "all-ignored", "no labelled pixel", "some", leave)
    if len({mode.split()[0] for mode in modes}) > 1:
        said = ", ".join(f"{n} {mode}" for mode, n in modes.most_common())
        warn(dataset.base, "mixed-modes", said, "one kind", "--channels 1, or leave it: grey images are read as colour")
    rows = found.class_rows()
    for row in rows:
        for part in dataset.splits:
            if row["parts"].get(part, {"pixels": 0})["pixels"] == 0:
                said = f"class {row['id']} ({row['name']}) has no pixel in {part}"
                fix = "another split, or more images; scores of it are absent"
                warn(dataset.base, "absent-class", said, "pixels of every class", fix)
        if 0 < row["share"] < _RARE:
            said = f"class {row['id']} ({row['name']}) has {row['pixels']} px in {row['images']} images"
            warn(dataset.base, "rare-class", said, f"a share of {_RARE:g} or more", "--balance 0.5, or more images")


def _class_counts(portrait: Portrait, classes: Classes) -> dict[int, int]:
    """Return class id or `IGNORE` -> pixels; values that are no class are left out."""
    counts: Counter[int] = Counter()
    for value, pixels in (portrait.counts or {}).items():
        if classes.values is None:
            counts[IGNORE if value == classes.ignore else int(value != 0)] += pixels
        elif value in classes.values:
            counts[classes.values[value]] += pixels
    return dict(counts)


def _compare_hashes(found: Checkup, dataset: Dataset, mode: str) -> None:
    """Compare files with what they were at earlier checks, and remember those that are without fault."""
    if mode == "off" or not dataset.base.is_dir():
        return
    file = dataset.base / HASHES
    known: dict[str, str] = {}
    lost = ""
    if mode == "keep" and file.exists():
        try:
            known = dict(json.loads(file.read_text(encoding="utf-8"))["files"])
        except (OSError, ValueError, TypeError, KeyError):
            lost = ", written anew: those of earlier checks cannot be read"
    now = {relative(path, dataset.base): digest for p in found.portraits for path, digest in p.files.items()}
    names = {relative(path, dataset.base): p for p in found.portraits for path in p.files}
    changed = sorted(name for name in set(now) & set(known) if now[name] != known[name])
    for name in changed:
        fault = Fault(
            name,
            "changed",
            f"SHA-256 {now[name][:12]}",
            f"{known[name][:12]}, as at an earlier check",
            "restore the file; or, if it was changed on purpose: unetres check --rehash",
        )
        _add(found, fault, names[name])
    faulty = {fault.file for fault in found.faults}
    kept = known | {name: digest for name, digest in now.items() if name not in faulty}
    if kept == known and mode == "keep":
        found.hashes = f"{len(now)} files compared with {HASHES}, {len(changed)} changed"
        return
    try:
        write_json(file, {"version": 1, "files": dict(sorted(kept.items()))})
        found.hashes = f"{len(kept)} hashes in {HASHES}; later checks compare with them{lost}"
    except (FileSystemError, UnetresError) as error:
        found.hashes = f"no hashes are kept: {error.message}"
