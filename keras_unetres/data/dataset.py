"""Which samples make a data set, and which part of it each belongs to. No pixel is read here.

A data set is a folder in one of the formats of `keras_unetres.data.forms`, a `dataset.yaml` (see `declaration`),
an annotation file, a `tfds:NAME`, or arrays.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from unetres_edge.errors import DataError, Fix, UsageError
from unetres_edge.images.preprocessing import IGNORE

from ..choices.reading import SPLITS
from .declaration import Declaration, Reading, check_names, read_declaration
from .findings import Finding, Where, refuse
from .forms import FORMATS, find_format
from .forms.layout import UNPARTED, Layout, repeated
from .sources import Sample

_VAL_SHARE = _TEST_SHARE = 0.15


@dataclass(frozen=True)
class Dataset:
    """The samples of a data set by split, and what is declared about them.

    Args:
        root: the folder or file it was opened from.
        splits: split name -> samples in order of name.
        class_names: as declared, or None if the masks themselves decide.
        class_colors: as declared, or None.
        reading: how the masks are read and the splits were made.
        format: the reader's name.
        values: stored mask value (or packed colour) -> class id or `IGNORE`; None where ids are stored as they are.
        by_color: whether the colours of masks are classes.
        notes: what a person should know, in sentences.
        faults: what is wrong with names and annotations; empty unless it was opened with `strict=False`.
        warnings: names and annotations that are read, but worth a look.
    """

    root: Path
    splits: Mapping[str, tuple[Sample, ...]]
    class_names: tuple[str, ...] | None
    class_colors: tuple[tuple[int, int, int], ...] | None
    reading: Reading
    format: str = "folders"
    values: Mapping[int, int] | None = None
    by_color: bool = False
    notes: tuple[str, ...] = ()
    faults: tuple[Finding, ...] = field(default=(), repr=False)
    warnings: tuple[Finding, ...] = field(default=(), repr=False)

    @property
    def base(self) -> Path:
        """The folder that names in reports start from."""
        return self.root if self.root.is_dir() else self.root.parent

    def split(self, name: str) -> tuple[Sample, ...]:
        """Return the samples of a split, or of "all".

        Raises:
            DataError: the data set has no such part.
        """
        if name == "all":
            return tuple(sample for part in self.splits.values() for sample in part)
        if not self.splits.get(name):
            raise DataError(
                f"the data set has no {name} part",
                file=self.root,
                expected="one of " + ", ".join([*(s for s, part in self.splits.items() if part), "all"]),
                fix="add images, or declare the parts in a dataset.yaml",
            )
        return self.splits[name]


def open_dataset(
    path: str | os.PathLike[str] | Dataset,
    reading: Reading | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    strict: bool = True,
) -> Dataset:
    """Find the samples of a data set.

    Args:
        path: a folder, a `dataset.yaml`, a COCO annotation file, `tfds:NAME`, or a `Dataset`, which is returned with
            the changes made to its reading.
        reading: how to read it; None for what the folder or file says.
        changes: single fields of `Reading` that differ from that; None as a value leaves a field as it is.
        strict: raise on faults of names and annotations; else they are in `faults`.

    Raises:
        DataError: no such data set, no images, a declaration that is wrong; images or masks without a partner, two
            files of one name, annotations that cannot be drawn.
        UsageError: a glob that matches nothing.
    """
    wanted = {key: value for key, value in (changes or {}).items() if value is not None}
    if isinstance(path, Dataset):
        return _reread(path, reading, wanted)
    try:
        declared, format_name = _declaration(path)
        layout = FORMATS[format_name].read(declared)
    except OSError as error:
        raise DataError(f"cannot look for files: {error.strerror or error}", file=error.filename or path) from error
    names, colors = declared.classes()
    own_names = names is None and layout.names is not None
    if layout.names is not None and names is None:
        names, colors = check_names(layout.names, declared.file), layout.colors
    values = declared.values(names)
    if values is None:
        values = _own_values(layout, names, declared.file)
    reading = replace(reading or declared.reading(layout.ignore), **wanted)
    if reading.ignore is None:
        reading = replace(reading, ignore=layout.ignore)
    if reading.masks_are == "instances" and own_names and len(names or ()) != 2:
        names = colors = None  # those are of class masks
    samples = {
        part: [sample for sample in found if not declared.excludes(sample.name)]
        for part, found in layout.samples.items()
    }
    faults = tuple(fault for fault in layout.faults if not declared.excludes(fault.file))
    faults += tuple(_name_once(samples))
    if strict:
        refuse(faults, f"{len(faults)} faults", declared.file)
    is_empty = not strict and faults and not any(samples.values())  # they say why
    return Dataset(
        declared.file,
        {} if is_empty else _splits(samples, reading, wanted, declared.base),
        names,
        colors,
        reading,
        format_name,
        values,
        layout.by_color or declared.by_color,
        tuple(layout.notes),
        faults,
        tuple(layout.warnings),
    )


def make_dataset(layout: Layout, name: str, reading: Reading) -> Dataset:
    """Return the data set of samples that lie in no folder, such as arrays; `name` is what errors call it."""
    names = None if layout.names is None else check_names(layout.names, Path(name))
    splits = _splits(layout.samples, reading, {}, Path(name))
    return Dataset(
        Path(name), splits, names, layout.colors, reading, "arrays", layout.values, notes=tuple(layout.notes)
    )


def _own_values(layout: Layout, names: tuple[str, ...] | None, file: Path) -> dict[int, int] | None:
    """Return what stored values mean by the data set's own table, as ids of the classes in the order of `names`.

    Raises:
        DataError: the table has a class that is not in `names`.
    """
    if layout.values is None or layout.names is None or names is None or names == layout.names:
        return layout.values
    absent = [name for name in layout.names if name not in names]
    if absent:
        raise DataError(
            "the declared classes are not those of the data set's own table",
            file=file,
            expected=", ".join(layout.names),
            found=", ".join(names),
            fix="say what the stored values mean: values: {...}",
        )
    return {
        value: target if target == IGNORE else names.index(layout.names[target])
        for value, target in layout.values.items()
    }


def _name_once(samples: dict[str, list[Sample]]) -> Iterator[Finding]:
    """Yield a fault for each name that a part has twice, and leave all but the first out of `samples`."""
    for part, found in samples.items():
        for name in repeated(sample.name for sample in found):
            yield Finding("ambiguous-names", Where(name, Path(name).name), {"name": name}, Fix("rename it"))
        samples[part] = list({sample.name: sample for sample in reversed(found)}.values())[::-1]


def _declaration(path: str | os.PathLike[str]) -> tuple[Declaration, str]:
    """Return what is declared about the data set at `path`, and its format."""
    root = Path(path)
    if os.fspath(path).startswith("tfds:"):
        return Declaration(Path(os.fspath(path)), Path(os.fspath(path)), {}), "tfds"
    if root.is_dir() and (root / "dataset.yaml").is_file():
        root = root / "dataset.yaml"
    if root.suffix.lower() == ".json" and root.is_file():
        above = Path(os.path.abspath(root)).parent
        base = above.parent if above.name.lower() == "annotations" else above
        return Declaration(root, base, {"annotations": os.path.abspath(root)}), "coco"
    if not root.is_dir() and root.suffix.lower() not in (".yaml", ".yml"):
        raise DataError("no such data set", file=root, expected="a folder with images/ and masks/, or a dataset.yaml")
    declared = read_declaration(root)
    name = declared.given.get("format")
    if name is None and "annotations" in declared.given:
        name = "coco"
    elif name is None and "masks" in declared.given:
        name = "stack" if (declared.base / declared.masks).is_file() else "folders"
    elif name is None:
        base, name = find_format(declared.base)
        declared = replace(declared, base=base)
    if name not in FORMATS:
        raise DataError("the format is unknown", file=root, expected=", ".join(FORMATS), found=name)
    return declared, name


def _reread(dataset: Dataset, reading: Reading | None, wanted: Mapping[str, Any]) -> Dataset:
    """Return the data set read in another way; its parts stay, unless what made them differs."""
    new = replace(reading or dataset.reading, **wanted)
    made_by = ("val_from", "test_from", "seed")
    if dataset.format == "arrays" and any(getattr(new, key) != getattr(dataset.reading, key) for key in made_by):
        samples = {UNPARTED: sorted(dataset.split("all"), key=lambda sample: sample.name)}
        return replace(dataset, reading=new, splits=_splits(samples, new, {}, dataset.root))
    return replace(dataset, reading=new)


def _splits(
    samples: Mapping[str, Sequence[Sample]], reading: Reading, wanted: Mapping[str, Any], base: Path
) -> dict[str, tuple[Sample, ...]]:
    if UNPARTED in samples:
        return _make_splits(tuple(samples[UNPARTED]), reading, base)
    for name in ("val_from", "test_from"):
        if name in wanted:
            raise UsageError(
                f"--{name.replace('_', '-')} is given, but the data set has split folders",
                file=base,
                fix="drop the option, or the folders",
            )
    splits = {name: tuple(samples[name]) for name in SPLITS if samples.get(name)}
    if "train" not in splits:
        raise DataError("the data set has splits but no train part", file=base, found=", ".join(splits))
    if "val" not in splits:
        splits |= _make_splits(splits["train"], replace(reading, test_from="none"), base)
    return {name: splits[name] for name in SPLITS if name in splits}


def _make_splits(samples: tuple[Sample, ...], reading: Reading, base: Path) -> dict[str, tuple[Sample, ...]]:
    """Part the samples by the globs of the reading, the rest by a seeded order of their names.

    Without globs, so few images that none would be left to train on are all for training.
    """
    test = () if reading.test_from == "none" else _matching(samples, reading.test_from, base)
    val = _matching(samples, reading.val_from, base)
    both = sorted({sample.name for sample in test} & {sample.name for sample in val})
    if both:
        raise UsageError("images are in the validation and the test part: " + ", ".join(both), file=base)
    taken = {sample.name for sample in (*test, *val)}
    rest = [sample for sample in samples if sample.name not in taken]
    rest.sort(
        key=lambda sample: hashlib.sha256(f"{reading.seed}/{sample.name}".encode(errors="surrogateescape")).digest()
    )
    count = max(1, round(_TEST_SHARE * len(samples))) if reading.test_from is None else 0
    keep = 1 if reading.val_from is None else 0  # of two images, one is for validation
    test, rest = (tuple(rest[:count]) or test, rest[count:]) if count < len(rest) - keep else (test, rest)
    count = max(1, round(_VAL_SHARE * len(samples))) if reading.val_from is None else 0
    val, rest = (tuple(rest[:count]) or val, rest[count:]) if count < len(rest) else (val, rest)
    if not rest:
        raise DataError(
            "no images are left to train on",
            file=base,
            found=f"{len(samples)} images, {len(val)} for validation, {len(test)} for the test",
            fix="add images, or pass --test-from none",
        )
    parts = {"train": rest, "val": val, "test": test}
    return {name: tuple(sorted(part, key=lambda sample: sample.name)) for name, part in parts.items() if part}


def _matching(samples: tuple[Sample, ...], glob: str | None, base: Path) -> tuple[Sample, ...]:
    if glob is None:
        return ()
    found = tuple(s for s in samples if fnmatchcase(s.name, glob) or fnmatchcase(Path(s.name).stem, glob))
    if not found:
        first = samples[0].name if samples else "no images"
        raise UsageError("no image name matches", file=base, expected=glob, found=f"{first}, ...")
    return found
