"""Which files make a data set, and which part of it each belongs to. No pixel is read here.

A data set is a folder with `images/` and `masks/` (optionally inside `train/`, `val/`, `test/`), or a `dataset.yaml`:

    path: .                      # where the folders are, relative to the file
    splits: {train: train, val: val, test: test}     # optional; each holds images/ and masks/
    images: images               # names of the two folders
    masks: masks
    classes: [background, cell]
    colors: [[0, 0, 0], [220, 60, 60]]
    ignore: 255                  # the label that means "not labelled"
    masks_are: classes           # or: instances
    val_from: "slice_1*"         # image names of the validation part
    test_from: none
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from unetres_edge.errors import DataError, UsageError
from unetres_edge.image import IMAGE_SUFFIXES

SPLITS = ("train", "val", "test")
MASK_KINDS = ("classes", "instances")
_VAL_SHARE = _TEST_SHARE = 0.15
_MASK_SUFFIXES = (
    *("_mask", "_masks", "_label", "_labels", "_labelids", "_gt", "_groundtruth", "_seg", "_segmentation"),
    *("_annotation", "_1stho", "_2ndho", "_manual1", "_instances", "_l"),
)
_IMAGE_ENDINGS = ("_image", "_img", "_sat", "_leftimg8bit")
_YAML_KEYS = {"path", "splits", "images", "masks", "classes", "colors", "ignore", "masks_are", "val_from", "test_from"}
_YAML_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "path": (str, "a folder"),
    "splits": (dict, "part: folder lines"),
    "images": (str, "the name of a folder"),
    "masks": (str, "the name of a folder"),
    "classes": ((list, dict), "a list of names, or id: name lines"),
    "colors": (list, "a list of [red, green, blue]"),
}


@dataclass(frozen=True)
class Reading:
    """How a data set is read; kept with a run and in the model file, so that scoring reads it likewise.

    Args:
        masks_are: "classes" (mask values are class ids) or "instances" (0 is background, any other value class 1).
        ignore: the mask value that means "not labelled", or None.
        val_from: glob on image names that makes the validation part, or None for a seeded 15 %.
        test_from: likewise for the test part; "none" for no test part.
        seed: of the seeded parts.
    """

    masks_are: str = "classes"
    ignore: int | None = None
    val_from: str | None = None
    test_from: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.masks_are not in MASK_KINDS:
            raise UsageError("masks are of an unknown kind", expected=" or ".join(MASK_KINDS), found=self.masks_are)
        if self.ignore is not None and not (isinstance(self.ignore, int) and -(2**15) <= self.ignore < 2**16):
            raise UsageError(
                "the ignored mask value is wrong", expected=f"a whole number {-(2**15)}..{2**16 - 1}", found=self.ignore
            )
        for name in ("val_from", "test_from"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise UsageError(f"{name} is wrong", expected="a glob on image names, in quotes", found=value)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Pair:
    """An image file and its mask file. `name` is the image's file name."""

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class Dataset:
    """The files of a data set by split, and what is declared about them.

    Args:
        root: the folder or file it was opened from.
        splits: split name -> pairs in order of name.
        class_names: as declared, or None if the masks themselves decide.
        class_colors: as declared, or None.
        reading: how the masks are read and the splits were made.
    """

    root: Path
    splits: Mapping[str, tuple[Pair, ...]]
    class_names: tuple[str, ...] | None
    class_colors: tuple[tuple[int, int, int], ...] | None
    reading: Reading

    def split(self, name: str) -> tuple[Pair, ...]:
        """Return the pairs of a split, or of "all".

        Raises:
            DataError: the data set has no such part.
        """
        if name == "all":
            return tuple(pair for part in self.splits.values() for pair in part)
        if not self.splits.get(name):
            raise DataError(
                f"the data set has no {name} part",
                file=self.root,
                expected="one of " + ", ".join([*(s for s, pairs in self.splits.items() if pairs), "all"]),
            )
        return self.splits[name]


def open_dataset(
    path: str | os.PathLike[str], reading: Reading | None = None, changes: Mapping[str, Any] | None = None
) -> Dataset:
    """Find the files of a data set.

    Args:
        path: a folder, or a `dataset.yaml`.
        reading: how to read it; None for what the folder or file says.
        changes: single fields of `Reading` that differ from that; None as a value leaves a field as it is.

    Raises:
        DataError: no such folder, no images, images or masks without a partner, two files of one name.
        UsageError: a glob that matches nothing.
    """
    root = Path(path)
    if root.is_dir() and (root / "dataset.yaml").is_file():
        root = root / "dataset.yaml"
    declared = _read_yaml(root) if root.suffix.lower() in (".yaml", ".yml") else {}
    if not root.is_dir() and root.suffix.lower() not in (".yaml", ".yml"):
        raise DataError("no such data set", file=root, expected="a folder with images/ and masks/, or a dataset.yaml")
    base = root.parent / declared.get("path", ".") if declared or root.is_file() else root
    wanted = {key: value for key, value in (changes or {}).items() if value is not None}
    reading = replace(reading or _declared_reading(declared), **wanted)
    folders = (str(declared.get("images", "images")), str(declared.get("masks", "masks")))
    given = declared.get("splits") or {name: name for name in SPLITS if (base / name / folders[0]).is_dir()}
    if given:
        _refuse_globs(wanted, base)
        splits = {name: _pairs(base / given[name], folders) for name in SPLITS if name in given}
        if "train" not in splits:
            raise DataError("the data set has splits but no train part", file=base, found=", ".join(splits))
        if "val" not in splits:
            splits |= _make_splits(splits["train"], replace(reading, test_from="none"), base)
    else:
        splits = _make_splits(_pairs(base, folders), reading, base)
    names, colors = _declared_classes(declared, base, root)
    return Dataset(root, splits, names, colors, reading)


def _refuse_globs(wanted: Mapping[str, Any], base: Path) -> None:
    for name in ("val_from", "test_from"):
        if name in wanted:
            raise UsageError(
                f"--{name.replace('_', '-')} is given, but the data set has split folders",
                file=base,
                fix="drop the option, or the folders",
            )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"cannot read: {error}", file=path) from error
    if not isinstance(values, dict):
        raise DataError("not a data set description", file=path, expected="key: value lines")
    unknown = sorted(set(map(str, values)) - _YAML_KEYS)
    if unknown:
        raise DataError("unknown keys", file=path, expected=", ".join(sorted(_YAML_KEYS)), found=", ".join(unknown))
    for key, (kinds, expected) in _YAML_KINDS.items():
        if values.get(key) is None:
            values.pop(key, None)
        elif not isinstance(values[key], kinds):
            raise DataError(f"{key} is wrong", file=path, expected=expected, found=values[key])
    splits = values.get("splits") or {}
    if not set(splits) <= set(SPLITS) or not all(isinstance(folder, str) for folder in splits.values()):
        raise DataError("splits is wrong", file=path, expected="folders for " + ", ".join(SPLITS), found=splits)
    return values


def _declared_reading(declared: dict[str, Any]) -> Reading:
    fields = {key: declared[key] for key in ("masks_are", "ignore", "val_from", "test_from") if key in declared}
    if fields.get("test_from", "") is None:  # YAML reads `none` as text and `null` as nothing
        fields["test_from"] = "none"
    return Reading(**fields)


def _declared_classes(
    declared: dict[str, Any], base: Path, root: Path
) -> tuple[tuple[str, ...] | None, tuple[tuple[int, int, int], ...] | None]:
    names = declared.get("classes")
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise DataError("class ids are not contiguous from 0", file=root, found=list(names))
        names = [names[i] for i in range(len(names))]
    listed = base / "classes.txt"
    if names is None and listed.is_file():
        try:
            lines = listed.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read: {error}", file=listed, expected="UTF-8 text, one class a line") from error
        names = [line.strip() for line in lines if line.strip()]
    if names is None and "colors" in declared:
        raise DataError("colors are given but no classes", file=root, fix="name the classes in the same file")
    if names is None:
        return None, None
    names = tuple(map(str, names))
    if len(names) < 2 or len(set(names)) != len(names) or len(names) > 255:
        raise DataError("class names are wrong", file=root, expected="2 to 255 different names", found=", ".join(names))
    colors = declared.get("colors")
    if colors is not None and len(colors) != len(names):
        raise DataError("colours and classes differ in number", file=root, expected=len(names), found=len(colors))
    if colors is None:
        return names, None
    try:
        made = tuple((int(r), int(g), int(b)) for r, g, b in colors)
    except (TypeError, ValueError):
        made = ((-1, -1, -1),)
    if not all(0 <= value <= 255 for color in made for value in color):
        raise DataError("colours are wrong", file=root, expected="[red, green, blue], each 0..255", found=colors)
    return names, made


def _pairs(folder: Path, names: tuple[str, str]) -> tuple[Pair, ...]:
    """Pair the images and masks below a folder by their stems."""
    for name in names:
        if not (folder / name).is_dir():
            raise DataError(
                f"there is no folder {name}/", file=folder, expected="images/ and masks/, or a dataset.yaml"
            )
    images = _by_stem(folder / names[0], _IMAGE_ENDINGS, None)
    if not images:
        raise DataError("no images", file=folder / names[0], expected="files ending in " + " ".join(IMAGE_SUFFIXES))
    masks = _by_stem(folder / names[1], _MASK_SUFFIXES, images)
    lonely = [f"{images[stem].name} has no mask" for stem in sorted(set(images) - set(masks))]
    lonely += [f"{names[1]}/{masks[stem].name} has no image" for stem in sorted(set(masks) - set(images))]
    if lonely:
        raise DataError(
            f"{len(lonely)} files without a partner: " + " | ".join(lonely),
            file=folder,
            fix="add the missing files or move the others away; partners share the name before the ending",
        )
    return tuple(Pair(images[stem].name, images[stem], masks[stem]) for stem in sorted(images))


def _by_stem(folder: Path, endings: tuple[str, ...], partners: Mapping[str, Path] | None) -> dict[str, Path]:
    found: dict[str, Path] = {}
    twins = []
    whole = {path.stem: stem for stem, path in (partners or {}).items()}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        stem = path.stem
        if stem not in whole and stem not in (partners or {}):
            ending = next((e for e in endings if stem.lower().endswith(e)), "")
            stem = stem[: len(stem) - len(ending)]
        stem = whole.get(stem, stem)
        if stem in found:
            twins.append(f"{found[stem].name} and {path.name}")
        found[stem] = path
    if twins:
        raise DataError("files that belong to one name: " + " | ".join(twins), file=folder, fix="keep one of each")
    return found


def _make_splits(pairs: tuple[Pair, ...], reading: Reading, base: Path) -> dict[str, tuple[Pair, ...]]:
    """Part the pairs by the globs of the reading, the rest by a seeded order of their names."""
    test = () if reading.test_from == "none" else _matching(pairs, reading.test_from, base)
    val = _matching(pairs, reading.val_from, base)
    both = sorted({pair.name for pair in test} & {pair.name for pair in val})
    if both:
        raise UsageError("images are in the validation and the test part: " + ", ".join(both), file=base)
    rest = [pair for pair in pairs if pair not in test and pair not in val]
    rest.sort(key=lambda pair: hashlib.sha256(f"{reading.seed}/{pair.name}".encode()).digest())
    if reading.test_from is None:
        count = max(1, round(_TEST_SHARE * len(pairs)))
        test, rest = tuple(rest[:count]), rest[count:]
    if reading.val_from is None:
        count = max(1, round(_VAL_SHARE * len(pairs)))
        val, rest = tuple(rest[:count]), rest[count:]
    if not rest:
        raise DataError(
            "no images are left to train on",
            file=base,
            found=f"{len(pairs)} images, {len(val)} for validation, {len(test)} for the test",
            fix="add images, or pass --test-from none",
        )
    parts = {"train": rest, "val": val, "test": test}
    return {name: tuple(sorted(part, key=lambda pair: pair.name)) for name, part in parts.items() if part}


def _matching(pairs: tuple[Pair, ...], glob: str | None, base: Path) -> tuple[Pair, ...]:
    if glob is None:
        return ()
    found = tuple(p for p in pairs if fnmatchcase(p.name, glob) or fnmatchcase(p.image.stem, glob))
    if not found:
        raise UsageError("no image name matches", file=base, expected=glob, found=f"{pairs[0].name}, ...")
    return found
