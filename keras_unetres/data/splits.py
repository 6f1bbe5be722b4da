"""Which part of a data set each sample belongs to: its own parts, globs on names, or a seeded order of the names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from unetres_edge.errors import DataError, UsageError

from .declaration import SPLITS, Reading
from .forms.layout import HELD_OUT, OF_FOLDER, UNPARTED
from .groups import groups_of
from .sources import Sample

_SHARE = 0.15  # of the images, for the test and for validation

Splits = dict[str, tuple[Sample, ...]]


def find_splits(
    samples: Mapping[str, Sequence[Sample]], reading: Reading, wanted: Mapping[str, Any], base: Path
) -> Splits:
    """Return part -> samples.

    Args:
        samples: part -> samples, or `UNPARTED` -> all of them, or `HELD_OUT` -> all, for the test part. Of parts
            without validation, that of training gives it.
        reading: way in which parts are made where there are none.
        wanted: the fields of the reading that were asked for by name.
        base: place of the samples, for errors.

    Raises:
        DataError: nothing to train on, or of images with a class nothing to validate on.
        UsageError: globs for a data set with parts of its own, or that match nothing or one image both.
    """
    if reading.fold is not None and HELD_OUT not in samples:
        return _fold_of(samples, reading, base)
    if UNPARTED in samples:
        splits = make_splits(samples[UNPARTED], reading, base)
        _refuse_torn(splits, reading.group_by, base)
        return splits
    if HELD_OUT in samples:
        return {"test": tuple(samples[HELD_OUT])}
    for name in ("val_from", "test_from"):
        if name in wanted:
            raise UsageError(
                f"--{name.replace('_', '-')} is given, but the data set has split folders",
                file=base,
                fix="drop the option, or the folders",
            )
    splits = {name: tuple(samples[name]) for name in SPLITS if samples.get(name)}
    if "train" not in splits:
        raise DataError(
            "the data set has splits but no train part",
            file=base,
            found=", ".join(splits),
            fix="name its folder in a dataset.yaml: splits: {train: NAME, ...}",
        )
    if "val" not in splits:
        splits |= make_splits(splits["train"], replace(reading, test_from="none"), base)
    _refuse_torn(splits, reading.group_by, base)
    return {name: splits[name] for name in SPLITS if name in splits}


def _fold_of(samples: Mapping[str, Sequence[Sample]], reading: Reading, base: Path) -> Splits:
    """Return the parts of one fold: itself as the test part, the others for training and validation.

    What the data set or a glob keeps for a test stays out of all folds.
    """
    assert reading.fold is not None
    number, count = reading.fold
    if UNPARTED in samples:
        everything = samples[UNPARTED]
        has_test = reading.test_from not in (None, "none")
        kept = {sample.name for sample in _matching(everything, reading.test_from, base)} if has_test else set()
        pool = [sample for sample in everything if sample.name not in kept]
    else:
        pool = [*samples.get("train", ()), *samples.get("val", ())]
    folds = make_folds(pool, count, reading, base)
    rest = [sample for index, fold in enumerate(folds, start=1) if index != number for sample in fold]
    splits = make_splits(rest, replace(reading, fold=None, val_from=None, test_from="none"), base)
    return {**splits, "test": folds[number - 1]}


def make_folds(samples: Sequence[Sample], count: int, reading: Reading, base: Path) -> list[tuple[Sample, ...]]:
    """Part samples into folds of about one size, in a seeded order of their names; each class alike, if known.

    Args:
        samples: samples of the data set.
        count: folds.
        reading: its seed, and the pattern by which images that belong together stay in one fold.
        base: place of the samples, for errors.

    Raises:
        DataError: there are fewer groups than folds.
    """
    groups: dict[str, list[Sample]] = {}
    names = [sample.name for sample in samples]
    if reading.group_by is not None:
        names = groups_of(names, reading.group_by, base)
    for sample, name in zip(samples, names, strict=True):
        groups.setdefault(name, []).append(sample)
    if len(groups) < count:
        what = "images" if reading.group_by is None else f"groups of {reading.group_by}"
        raise DataError(
            f"too few {what} for {count} folds", file=base, found=str(len(groups)), fix=f"--folds {max(2, len(groups))}"
        )
    folds: list[list[Sample]] = [[] for _ in range(count)]
    for group in sorted(groups, key=lambda group: _draw(reading.seed, group)):
        class_id = groups[group][0].class_id  # None of images with masks

        def filled(fold: list[Sample], class_id: int | None = class_id) -> tuple[int, int]:
            return sum(sample.class_id == class_id for sample in fold), len(fold)

        min(folds, key=filled).extend(groups[group])
    return [_in_order(fold) for fold in folds]


def make_splits(samples: Sequence[Sample], reading: Reading, base: Path) -> Splits:
    """Part samples by the globs of the reading, the rest by a seeded order of their names; each class alike, if known.

    So few images that none would be left to train on are all for training.
    """
    test = () if reading.test_from == "none" else _matching(samples, reading.test_from, base)
    val = _matching(samples, reading.val_from, base)
    both = sorted({sample.name for sample in test} & {sample.name for sample in val})
    if both:
        raise UsageError("images are in the validation and the test part: " + ", ".join(both), file=base)
    taken = {sample.name for sample in (*test, *val)}
    if reading.group_by is not None:
        return _split_groups(samples, reading, {"train": [], "val": list(val), "test": list(test)}, base)
    classes: dict[int | None, list[Sample]] = {}
    for sample in samples:
        if sample.name not in taken:
            classes.setdefault(sample.class_id, []).append(sample)
    labelled = any(sample.class_id is not None for sample in samples)
    parts = {"train": [], "val": list(val), "test": list(test)}
    for rest in classes.values():
        total = len(rest) if labelled else len(samples)
        rest = sorted(rest, key=lambda sample: _draw(reading.seed, sample.name))
        # What has to be left: one image to train on, and of images without globs one to validate on.
        for part, glob, left in (
            ("test", reading.test_from, 2 if labelled or reading.val_from is None else 1),
            ("val", reading.val_from, 1),
        ):
            count = max(1, round(_SHARE * total)) if glob is None else 0
            if count <= len(rest) - left:
                parts[part] += rest[:count]
                rest = rest[count:]
        parts["train"] += rest
    _refuse_empty(parts, labelled, len(samples), base)
    return {part: _in_order(parts[part]) for part in SPLITS if parts[part]}


def _split_groups(samples: Sequence[Sample], reading: Reading, parts: dict[str, list[Sample]], base: Path) -> Splits:
    """Part samples that no glob has taken, group by group in a seeded order of the groups.

    Raises:
        DataError: too few groups.
    """
    taken = {sample.name for part in parts.values() for sample in part}
    groups: dict[str, list[Sample]] = {}
    free = [sample for sample in samples if sample.name not in taken]
    assert reading.group_by is not None
    for sample, group in zip(free, groups_of([each.name for each in free], reading.group_by, base), strict=True):
        groups.setdefault(group, []).append(sample)
    rest = sorted(groups, key=lambda group: _draw(reading.seed, group))
    for part, glob in (("test", reading.test_from), ("val", reading.val_from)):
        count = max(1, round(_SHARE * len(samples))) if glob is None else 0
        left = 2 if part == "test" and reading.val_from is None else 1
        while len(parts[part]) < count and len(rest) > left:
            parts[part] += groups[rest.pop(0)]
    parts["train"] += [sample for group in rest for sample in groups[group]]
    _refuse_empty(parts, any(sample.class_id is not None for sample in samples), len(samples), base)
    return {part: _in_order(parts[part]) for part in SPLITS if parts[part]}


def _refuse_torn(splits: Splits, pattern: str | None, base: Path) -> None:
    """Raise DataError if images of one group are in two parts."""
    if pattern is None:
        return
    parts: dict[str, set[str]] = {}
    names_of: dict[str, list[str]] = {}
    names = [(sample.name, part) for part, samples in splits.items() for sample in samples]
    for group, (name, part) in zip(groups_of([name for name, _ in names], pattern, base), names, strict=True):
        parts.setdefault(group, set()).add(part)
        names_of.setdefault(group, []).append(name)
    torn = sorted(group for group, in_parts in parts.items() if len(in_parts) > 1)
    if pattern == OF_FOLDER:  # not asked for: folders of which two hold images of one name are but called alike
        torn = [group for group in torn if len(set(names_of[group])) == len(names_of[group])]
    if torn:
        raise DataError(
            "images of one group are in two parts",
            file=base,
            expected=f"all images of each {pattern} in one part",
            found=", ".join(f"{group} in {' and '.join(sorted(parts[group]))}" for group in torn[:4]),
            fix="mend the parts, or pass another --group-by; or rename folders that are but called alike"
            if pattern == OF_FOLDER
            else "mend the parts, or pass another --group-by",
        )


def _refuse_empty(parts: Mapping[str, Sequence[Sample]], labelled: bool, count: int, base: Path) -> None:
    if not parts["train"]:
        found = f"{count} images, {len(parts['val'])} for validation, {len(parts['test'])} for the test"
        fix = "add images, or pass --test-from none"
        raise DataError("no images are left to train on", file=base, found=found, fix=fix)
    if labelled and not parts["val"]:
        fix = "add images, or pass other --val-from and --test-from"
        raise DataError("no images are left for validation", file=base, found=f"{count} images", fix=fix)


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()


def _in_order(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: sample.name))


def _matching(samples: Sequence[Sample], glob: str | None, base: Path) -> tuple[Sample, ...]:
    """Return the samples whose name, file name or file name without its ending matches."""
    if glob is None:
        return ()

    def fits(name: str) -> bool:
        path = PurePosixPath(name)
        return any(fnmatchcase(text, glob) for text in (name, path.name, path.stem))

    matching = tuple(sample for sample in samples if fits(sample.name))
    if not matching:
        first = samples[0].name if samples else "no images"
        raise UsageError("no image name matches", file=base, expected=glob, found=f"{first}, ...")
    return matching
