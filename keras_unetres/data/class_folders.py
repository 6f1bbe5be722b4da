"""Which images make a data set for a classifier, what class each is of, and which part it belongs to.

    flowers/ daisy/*.jpg  tulip/*.png          or          flowers/ train/daisy/ train/tulip/ val/... test/...

The folders are the classes, in order of name or as `classes.txt` lists them, one name a line. What lies deeper in a
class folder counts to it. No pixel is read here.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from unetres_edge.errors import DataError, Fix, UsageError

from ..choices.reading import SPLITS
from .declaration import Reading
from .findings import Finding, Where, refuse, relative
from .forms import FORMATS
from .forms.layout import PART_NAMES, key_of, list_images
from .sources import ArraySource, ImageFile, Source

_SHARES = (("test", 0.15), ("val", 0.15))
_NOT_DATA = ("__MACOSX",)
_LAYOUT = "a folder for each class with its images, or train/, val/ and test/ with such folders"


@dataclass(frozen=True)
class LabelledImage:
    """An image and its class.

    Args:
        name: unique in its part: "daisy/a.jpg", the path below the folder that holds the class folders.
        image: gives (H, W) or (H, W, C), as `read_image`.
        label: class id.
    """

    name: str
    image: Source
    label: int


@dataclass(frozen=True)
class ClassFolders:
    """The images of a data set by part, and their classes.

    Args:
        root: the folder it was opened from.
        splits: part -> images in order of name.
        class_names: the position is the class id.
        reading: how the parts were made; what it says of masks does not count.
        in_memory: whether it is of arrays.
        fixed: whether its parts are its own, not made by the reading.
        faults: what is wrong with names and folders; empty unless it was opened with `strict=False`.
        warnings: what is read, but worth a look.
    """

    root: Path
    splits: Mapping[str, tuple[LabelledImage, ...]]
    class_names: tuple[str, ...]
    reading: Reading
    in_memory: bool = False
    fixed: bool = False
    faults: tuple[Finding, ...] = field(default=(), repr=False)
    warnings: tuple[Finding, ...] = field(default=(), repr=False)

    def split(self, name: str) -> tuple[LabelledImage, ...]:
        """Return the images of a part, or of "all".

        Raises:
            DataError: the data set has no such part.
        """
        if name == "all":
            return tuple(image for part in self.splits.values() for image in part)
        if not self.splits.get(name):
            parts = [part for part, images in self.splits.items() if images]
            raise DataError(
                f"the data set has no {name} part", file=self.root, expected="one of " + ", ".join([*parts, "all"])
            )
        return self.splits[name]

    def only(self, name: str) -> ClassFolders:
        """Return the data set with one part alone; "all" leaves it as it is."""
        return self if name == "all" else replace(self, splits={name: self.split(name)})

    def fingerprint(self) -> str:
        """Return a digest of the classes and of the names, labels and bytes of all images, by part."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for part, images in self.splits.items():
            for image in images:
                digest.update(f"{part}/{image.name}/{image.label}/".encode("utf-8", "surrogateescape"))
                digest.update(image.image.digest().encode())
        return digest.hexdigest()


def open_class_folders(
    path: str | os.PathLike[str] | ClassFolders,
    reading: Reading | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    strict: bool = True,
) -> ClassFolders:
    """Find the images of a folder of class folders.

    Without `train/` and the like, each class is parted alike: 15 % of its images for validation and for the test, by
    a seeded order of their names, at least one of each for a class of three images.

    Args:
        path: the folder; a `ClassFolders` is parted anew where the changes ask for it.
        reading: how to part it; None for the defaults.
        changes: single fields of `Reading` that differ; None as a value leaves a field as it is.
        strict: raise on faults of names and folders; else they are in `faults`.

    Raises:
        DataError: no such folder, fewer than two classes, a class without images, images outside the class folders.
        UsageError: a glob that matches nothing.
    """
    wanted = {key: value for key, value in (changes or {}).items() if value is not None}
    if isinstance(path, ClassFolders):
        return _reparted(path, replace(reading or path.reading, **wanted))
    root = Path(path)
    if not root.is_dir():
        raise DataError("no such data set", file=root, expected=_LAYOUT)
    refuse_for_classifier(root)
    try:
        places = _parts(root)
        found = {part: _classes_in(place) for part, place in places.items()}
    except OSError as error:
        raise DataError(f"cannot look for files: {error.strerror or error}", file=error.filename or root) from error
    names, faults = _names(root, places, found)
    images = {part: _images(places[part], found[part], names) for part in places}
    if not any(images.values()):
        raise DataError("no images", file=root, expected=_LAYOUT)
    faults += _faults(root, places, found, names)
    if strict:
        refuse(faults, f"{len(faults)} fault{'s' * (len(faults) != 1)}", root)
        _check_names(names, root)
    reading = replace(reading or Reading(), **wanted)
    splits = _splits(images, reading, wanted, root, strict)
    fixed = "" not in places
    warnings = tuple(_absent(root, splits, names)) if fixed else ()
    return ClassFolders(root, splits, names, reading, fixed=fixed, faults=tuple(faults), warnings=warnings)


def class_folders_from_arrays(
    images: Sequence[np.ndarray] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    *,
    classes: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    reading: Reading | None = None,
) -> ClassFolders:
    """Return a data set of arrays for a classifier, to be given to `train` or `evaluate`.

    Args:
        images: N of (H, W) or (H, W, C), uint8, uint16, or float in [0, 1]. Sizes may differ.
        labels: (N,) class ids from 0.
        classes: names of the classes; None for "0", "1", ...
        names: N different names of the images; None for "00000", "00001", ...
        splits: "train", "val" or "test" for each; None for seeded parts, or those of the reading's globs.
        reading: how parts are made.

    Raises:
        DataError: lengths, shapes, dtypes or ids that do not fit.
    """
    ids = np.asarray(labels)
    if ids.ndim != 1 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer) or ids.min() < 0:
        found = f"{ids.dtype} of shape {ids.shape}"
        raise DataError("labels are wrong", expected="(N,) class ids, whole numbers from 0", found=found)
    count = int(ids.max()) + 1 if classes is None else len(classes)
    called = tuple(map(str, range(count) if classes is None else classes))
    _check_names(called, Path("arrays"))
    if ids.max() >= count:
        raise DataError("labels are wrong", expected=f"ids below {count}, one a class", found=int(ids.max()))
    own = [f"{i:05d}" for i in range(len(ids))] if names is None else list(map(str, names))
    for what, values in (("images", images), ("names", own), ("splits", splits)):
        if values is not None and len(values) != len(ids):
            raise DataError(f"{what} and labels differ in number", expected=len(ids), found=len(values))
    if len(set(own)) != len(own) or (splits is not None and not set(splits) <= set(SPLITS)):
        raise DataError("names or splits are wrong", expected=f"different names; splits of {', '.join(SPLITS)}")
    made: dict[str, list[LabelledImage]] = defaultdict(list)
    for index, (name, label) in enumerate(zip(own, ids.tolist(), strict=True)):
        source = ArraySource(Path(name), np.asarray(images[index]))
        made["" if splits is None else splits[index]].append(LabelledImage(name, source, label))
    reading, root = reading or Reading(), Path("arrays")
    parts = _splits(made, reading, {}, root, strict=True)
    return ClassFolders(root, parts, called, reading, in_memory=True, fixed=splits is not None)


def is_class_folders(path: object) -> bool:
    """Return whether something is a data set for a classifier: two or more folders of images, and no masks."""
    if isinstance(path, ClassFolders):
        return True
    if not isinstance(path, (str, os.PathLike)) or not Path(path).is_dir() or _is_for_masks(Path(path)):
        return False
    root = Path(path)
    try:
        return any(len(_classes_in(place)) > 1 for place in _parts(root).values())
    except (OSError, DataError):
        return False


def refuse_for_segmenter(data: object) -> None:
    """Raise UsageError if a data set that shall teach a segmenter is one of class folders."""
    if is_class_folders(data):
        raise UsageError(
            "the data set is a folder for each class, which teaches a classifier",
            file=data.root if isinstance(data, ClassFolders) else os.fspath(data),  # type: ignore[call-overload]
            expected="images and masks",
            fix="pass --network resnet50, or another ResNet",
        )


def refuse_for_classifier(data: object) -> None:
    """Raise UsageError if a data set that shall teach a classifier is one of masks."""
    given = isinstance(data, (str, os.PathLike))
    if isinstance(data, ClassFolders) or (given and Path(str(data)).is_dir() and not _is_for_masks(Path(str(data)))):
        return
    if given and not Path(str(data)).exists() and not str(data).startswith("tfds:"):
        return
    raise UsageError(
        "the data set is of images and masks, which teach a segmenter",
        file=os.fspath(data) if given else None,  # type: ignore[call-overload]
        expected=_LAYOUT,
        fix="pass --network unet, or name the folder of the class folders",
    )


def _is_for_masks(root: Path) -> bool:
    if (root / "dataset.yaml").is_file():
        return True
    return any(known.recognises(root) for known in FORMATS.values())


def _parts(root: Path) -> dict[str, Path]:
    """Return part -> the folder that holds its class folders; one part of no name where there are no parts.

    Raises:
        DataError: folders named after parts hold class folders, and others that are no parts hold images, too.
    """
    by_name = {name: part for part, names in PART_NAMES.items() for name in names}
    inside = _folders(root)
    parts = {by_name[f.name.casefold()]: f for f in inside if f.name.casefold() in by_name and _holds_folders(f)}
    if "train" not in parts:
        return {"": root}
    others = [f.name for f in inside if f not in parts.values() and list_images(f)]
    if others:
        raise DataError(
            "it is not clear whether the folders are classes or parts",
            file=root,
            expected="train/, val/ and test/ alone, or class folders alone",
            found=", ".join(sorted([*(f.name for f in parts.values()), *others])),
            fix="move the other folders away, or rename the classes that are named after parts",
        )
    return {part: parts[part] for part in SPLITS if part in parts}


def _folders(place: Path) -> list[Path]:
    return sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name not in _NOT_DATA)


def _holds_folders(place: Path) -> bool:
    """Whether a folder holds folders of images and no image itself."""
    images = list_images(place)
    return bool(images) and all(path.parent != place for path in images)


def _classes_in(place: Path) -> dict[str, list[Path]]:
    """Return class name -> the images in and below its folders, for every folder in `place`."""
    found: dict[str, list[Path]] = defaultdict(list)
    for folder in _folders(place):
        found[unicodedata.normalize("NFC", folder.name)] += list_images(folder)
    return dict(found)


def _names(
    root: Path, places: Mapping[str, Path], found: Mapping[str, dict[str, list[Path]]]
) -> tuple[tuple[str, ...], list[Finding]]:
    """Return the class names in their order, and what is wrong with `classes.txt`."""
    own = sorted({name for part in found.values() for name in part})
    file = next((f for f in [root / "classes.txt", *(p / "classes.txt" for p in places.values())] if f.is_file()), None)
    if file is None:
        return tuple(own), []
    try:
        lines = [unicodedata.normalize("NFC", line.strip()) for line in file.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read the class names: {error}", file=file, expected="one name a line, UTF-8"
        ) from error
    listed = [line for line in lines if line]
    faults = []
    for name in (*(n for n in own if n not in listed), *(n for n in listed if listed.count(n) > 1)):
        fix = f"add the line {name!r}, or remove the folder" if name not in listed else "name it once"
        faults.append(Finding("declaration", Where(relative(file, root)), {"name": name}, Fix(fix)))
    names = list(dict.fromkeys(listed))
    return (*names, *(name for name in own if name not in names)), list(dict.fromkeys(faults))


def _images(place: Path, found: Mapping[str, list[Path]], names: Sequence[str]) -> list[LabelledImage]:
    labels = {name: label for label, name in enumerate(names)}
    return [
        LabelledImage(path.relative_to(place).as_posix(), ImageFile(path), labels[name])
        for name in found
        for path in found[name]
    ]


def _faults(
    root: Path, places: Mapping[str, Path], found: Mapping[str, dict[str, list[Path]]], names: Sequence[str]
) -> list[Finding]:
    faults = []
    first = next(iter(places))
    for name in names:
        if not found[first].get(name):
            folder = places[first] / name
            fix = Fix("add images, or remove the class")
            faults.append(Finding("empty-class", Where(relative(folder, root)), {}, fix))
    for place in places.values():
        for path in list_images(place):
            if path.parent == place:
                fix = Fix("move it into the folder of its class, or remove it")
                faults.append(Finding("no-class", Where(relative(path, root)), {}, fix))
    same: dict[str, list[str]] = defaultdict(list)
    for name in names:
        same[key_of(name)].append(name)
    for twins in same.values():
        if len(twins) > 1:
            fix = Fix("give every class one folder")
            faults.append(Finding("ambiguous-names", Where(twins[1]), {"classes": twins}, fix))
    return faults


def _check_names(names: Sequence[str], root: Path) -> None:
    if len(names) < 2 or len(set(names)) != len(names):
        raise DataError(
            "a classifier needs two classes or more",
            file=root,
            expected=_LAYOUT,
            found=", ".join(names) or "no class folder",
        )


def _absent(root: Path, splits: Mapping[str, Sequence[LabelledImage]], names: Sequence[str]) -> list[Finding]:
    faults = []
    for part, images in splits.items():
        there = {image.label for image in images}
        for label, name in enumerate(names):
            if label not in there and part != "train":
                fix = Fix("add images of the class to the part")
                where = Where(relative(root / part, root))
                faults.append(Finding("absent-class", where, {"class_name": name}, fix))
    return faults


def _splits(
    images: Mapping[str, Sequence[LabelledImage]], reading: Reading, wanted: Mapping[str, Any], root: Path, strict: bool
) -> dict[str, tuple[LabelledImage, ...]]:
    if "" in images:
        return _parted(images[""], reading, root, strict)
    for name in ("val_from", "test_from"):
        if name in wanted:
            raise UsageError(
                f"--{name.replace('_', '-')} is given, but the data set has split folders",
                file=root,
                fix="drop the option, or the folders",
            )
    splits = {part: _in_order(images[part]) for part in SPLITS if images.get(part)}
    if "train" not in splits:
        raise DataError("the data set has splits but no train part", file=root, found=", ".join(splits))
    if "val" not in splits:
        splits |= _parted(splits["train"], replace(reading, test_from="none"), root, strict)
    return {part: splits[part] for part in SPLITS if part in splits}


def _parted(
    images: Sequence[LabelledImage], reading: Reading, root: Path, strict: bool
) -> dict[str, tuple[LabelledImage, ...]]:
    """Part the images by the globs of the reading, each class of the rest alike."""
    chosen = {
        "val": _matching(images, reading.val_from, root),
        "test": _matching(images, None if reading.test_from == "none" else reading.test_from, root),
    }
    both = sorted({image.name for image in chosen["val"]} & {image.name for image in chosen["test"]})
    if both:
        raise UsageError("images are in the validation and the test part: " + ", ".join(both), file=root)
    taken = {image.name for part in chosen.values() for image in part}
    by_class: dict[int, list[LabelledImage]] = defaultdict(list)
    for image in images:
        if image.name not in taken:
            by_class[image.label].append(image)
    given = {"val": reading.val_from, "test": reading.test_from}
    parts: dict[str, list[LabelledImage]] = {"train": [], **{part: list(found) for part, found in chosen.items()}}
    for same in by_class.values():
        rest = sorted(same, key=lambda image: _draw(reading.seed, image.name))
        whole = len(rest)
        for part, share in _SHARES:
            if given[part] is not None:
                continue
            # Of two images one is for validation; of three, one for the test, too.
            least = 1 if whole > (2 if part == "test" else 1) else 0
            count = min(max(least, round(share * whole)), len(rest) - 1)
            parts[part] += rest[:count]
            rest = rest[count:]
        parts["train"] += rest
    if strict and not (parts["train"] and parts["val"]):
        raise DataError(
            "no images are left to train on" if not parts["train"] else "no images are left for validation",
            file=root,
            found=f"{len(images)} images",
            fix="add images, or pass other --val-from and --test-from",
        )
    return {part: _in_order(parts[part]) for part in SPLITS if parts[part]}


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()


def _in_order(images: Iterable[LabelledImage]) -> tuple[LabelledImage, ...]:
    return tuple(sorted(images, key=lambda image: image.name))


def _matching(images: Sequence[LabelledImage], glob: str | None, root: Path) -> tuple[LabelledImage, ...]:
    """Return the images whose name, file name or file name without its ending matches."""
    if glob is None:
        return ()

    def fits(name: str) -> bool:
        path = PurePosixPath(name)
        return any(fnmatchcase(text, glob) for text in (name, path.name, path.stem))

    found = tuple(image for image in images if fits(image.name))
    if not found:
        first = images[0].name if images else "no images"
        raise UsageError("no image name matches", file=root, expected=glob, found=f"{first}, ...")
    return found


def _reparted(dataset: ClassFolders, reading: Reading) -> ClassFolders:
    globs = {key: getattr(reading, key) for key in ("val_from", "test_from") if getattr(reading, key) is not None}
    if not dataset.in_memory:
        return open_class_folders(dataset.root, reading, globs)
    if dataset.fixed:
        images = {part: list(found) for part, found in dataset.splits.items()}
        return replace(dataset, reading=reading, splits=_splits(images, reading, globs, dataset.root, strict=True))
    parts = _parted(_in_order(dataset.split("all")), reading, dataset.root, strict=True)
    return replace(dataset, reading=reading, splits=parts)
