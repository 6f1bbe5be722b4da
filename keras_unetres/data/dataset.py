"""Which samples make a data set, and which part of it each belongs to. No pixel is read here.

A data set is a folder in one of the formats of `keras_unetres.data.forms`, a `dataset.yaml` (see `declaration`),
an annotation file, a shard, an address with shards, `hf:NAME`, `tfds:NAME`, or arrays.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unetres_edge.errors import DataError, Fix, UsageError
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.terminal import counted

from ..choices.arguments import checks_kinds
from ..choices.tasks import CLASSIFY, SEGMENT, TASK_TRAITS
from .declaration import Declaration, Reading, check_names, is_called, read_declaration, unread_classes
from .findings import Finding, Where, refuse
from .forms import CLASS_FOLDERS, FORMATS, OME_ZARR, class_masks, find_format, has_masks, shards, tfds
from .forms.class_folders import EXPECTED as CLASS_FOLDERS_EXPECTED
from .forms.layout import HEEDED_BY_SOME, UNPARTED, Layout, list_files, repeated
from .one_hot import with_one_hot
from .shards.store import is_address, refuse_unasked
from .sources import ImageFile, MaskFile, Sample
from .splits import find_splits
from .unread import find_unread, unread_note


@dataclass(frozen=True)
class Dataset:
    """The samples of a data set by split, and what is declared about them.

    Args:
        root: the folder or file it was opened from.
        splits: split name -> samples in order of name.
        class_names: names of the classes as declared, or None if the masks themselves decide.
        class_colors: colours of the classes as declared, or None.
        reading: way in which the masks are read and the splits were made.
        format: the reader's name.
        values: stored mask value (or packed colour) -> class id or `IGNORE`; None where ids are stored as they are.
        by_color: whether the colours of masks are classes.
        task: task that it teaches: "segment", or "classify" where each image has one class.
        parted: whether arrays came with parts of their own, which no reading changes.
        notes: sentences that a person should know.
        faults: findings about names and annotations; empty unless it was opened with `strict=False`.
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
    task: str = SEGMENT.name
    parted: bool = False
    notes: tuple[str, ...] = ()
    faults: tuple[Finding, ...] = field(default=(), repr=False)
    warnings: tuple[Finding, ...] = field(default=(), repr=False)

    @property
    def per_pixel(self) -> bool:
        """Whether each pixel of an image has a class, and not the image alone."""
        return TASK_TRAITS[self.task].per_pixel

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

    def only(self, name: str) -> Dataset:
        """Return the data set with one part alone; "all" leaves it as it is."""
        return self if name == "all" else replace(self, splits={name: self.split(name)})


@checks_kinds
def open_dataset(
    path: str | os.PathLike[str] | Dataset,
    reading: Reading | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    strict: bool = True,
    task: str | None = None,
    target: str | None = None,
) -> Dataset:
    """Find the samples of a data set.

    Args:
        path: a folder, a `dataset.yaml`, a COCO annotation file, a shard, an address with shards, `hf:NAME`,
            `tfds:NAME`, or a `Dataset`, which is returned with the changes made to its reading. A folder of class
            folders teaches a classifier.
        reading: way to read it; None for what the folder or file says.
        changes: single fields of `Reading` that differ from that; None as a value leaves a field as it is.
        strict: raise on faults of names and annotations; else they are in `faults`.
        task: task that it shall teach, "segment" or "classify"; None for either.
        target: kind of classes that instances become where neither the data set nor `reading` nor `changes` say it.

    Raises:
        DataError: no such data set, no images, a declaration that is wrong; images or masks without a partner, two
            files of one name, annotations that cannot be drawn.
        UsageError: a glob that matches nothing, or a data set that teaches another task.
    """
    wanted = {key: value for key, value in (changes or {}).items() if value is not None}
    if task not in (None, *TASK_TRAITS):
        raise UsageError("the task is unknown", expected=" or ".join(TASK_TRAITS), found=task)
    if isinstance(path, Dataset):
        _refuse_other(path.task, task, path.root)
        return _reread(path, reading, wanted)
    try:
        declared, format_name = _declaration(path, task)
        _refuse_keys(declared, format_name)
        declared = replace(declared, lists_classes=FORMATS[format_name].lists_classes)
        layout = FORMATS[format_name].read(declared)
    except OSError as error:
        raise DataError(f"cannot look for files: {error.strerror or error}", file=error.filename or path) from error
    if not TASK_TRAITS[layout.task].per_pixel:
        return _of_classes(layout, declared.file, replace(reading or Reading(), **wanted), wanted, strict)
    names, colors = declared.classes()
    own_names = names is None and layout.names is not None
    if layout.names is not None and names is None:
        names, colors = check_names(layout.names, declared.file), layout.colors
    if names is None:
        layout.notes += unread_classes(declared.base)
    values = declared.values(names)
    if values is None:
        values = _own_values(layout, names, declared.file)
    masks_are = wanted.get("masks_are") or (None if "masks_are" in declared.given else layout.masks_are)
    reading = replace(reading or declared.reading(layout.ignore, target, masks_are), **wanted)
    if reading.ignore is None:
        reading = replace(reading, ignore=layout.ignore)
    if reading.group_by is None:
        reading = replace(reading, group_by=layout.group_by)
    if reading.masks_are == "instances" and own_names and len(names or ()) != 2:
        names = colors = None  # those are of class masks
    samples = {
        part: [sample for sample in found if not declared.excludes(sample.name)]
        for part, found in layout.samples.items()
    }
    faults = tuple(
        fault
        for fault in layout.faults
        if not declared.excludes(fault.file) and not (fault.where.image and declared.excludes(fault.where.image))
    )
    _refuse_unknown(declared, layout)
    faults += tuple(_name_once(samples))
    if strict:
        refuse(faults, counted(len(faults), "fault"), declared.file)
        layout.notes += _unread_notes(samples, declared.base)
    if declared.has_ranges:
        samples = {part: [_with_smears(sample) for sample in found] for part, found in samples.items()}
    samples, of_channels = with_one_hot(samples)
    layout.notes += [of_channels] if of_channels else []
    if reading.pages == "channels":
        samples = {part: [_with_pages_stacked(sample) for sample in found] for part, found in samples.items()}
    is_empty = not strict and faults and not any(samples.values())  # they say why
    return Dataset(
        declared.file,
        {} if is_empty else find_splits(samples, reading, wanted, declared.base),
        names,
        colors,
        reading,
        format_name,
        values,
        layout.by_color or declared.by_color,
        notes=tuple(layout.notes),
        faults=faults,
        warnings=tuple(layout.warnings),
    )


def _refuse_keys(declared: Declaration, format_name: str) -> None:
    """Raise DataError if parts, or where images and masks are, are declared for a format that has them elsewhere.

    Images would get into other parts, or others be read than were meant.

    Raises:
        DataError: they are.
    """
    for key in HEEDED_BY_SOME:
        is_usual = declared.given.get(key) == key  # images: images
        if not declared.given.get(key) or is_usual or key in FORMATS[format_name].takes:
            continue
        raise DataError(
            f"{key} are declared for a format that does not take them",
            file=declared.file,
            expected=f"{key} of " + ", ".join(name for name, known in FORMATS.items() if key in known.takes),
            found=f"format {format_name}",
            fix="name the images of the parts by val_from and test_from, or the format of the folders by format"
            if key == "splits"
            else f"remove the line {key}, or name the format that is meant by format",
        )


def _refuse_unknown(declared: Declaration, layout: Layout) -> None:
    """Raise DataError if `exclude` names what is not there: a misspelt name would leave a bad image in.

    Raises:
        DataError: it does.
    """
    names = {sample.name for of_part in layout.samples.values() for sample in of_part}
    names |= {name for fault in layout.faults for name in (fault.file, fault.where.image) if name}
    strange = {name for name in declared.excluded if not any(is_called(known, name) for known in names)}
    if strange:  # what a reader has passed over already
        files = [path.as_posix() for path in list_files(declared.base, None)]
        strange = {name for name in strange if not any(_ends_in(file, name) for file in files)}
    if not strange:
        return
    first = min(strange)
    like = difflib.get_close_matches(first, sorted(names), 1, 0.8)
    raise DataError(
        "exclude names images that are not there",
        file=declared.file,
        expected="names of images, as `check` shows them",
        found=", ".join(sorted(strange)),
        fix=f"{like[0]} in place of {first}" if like else "leave them out of the list",
        kind="declaration",
    )


def _ends_in(file: str, name: str) -> bool:
    return file.endswith(f"/{name}") or is_called(file, name)


def _with_pages_stacked(sample: Sample) -> Sample:
    if not isinstance(sample.image, ImageFile) or sample.image.page is not None:
        return sample
    return replace(sample, image=replace(sample.image, stacked=True))


def _with_smears(sample: Sample) -> Sample:
    """Return a sample whose mask may be JPEG, as ranges of values say what near values mean."""
    return replace(sample, target=replace(sample.target, smeared=True)) if type(sample.target) is MaskFile else sample


def _unread_notes(samples: Mapping[str, list[Sample]], base: Path) -> list[str]:
    """Return a sentence for each ending of files among the samples that are not read; a check has warnings for them."""
    unread = find_unread(sample for part in samples.values() for sample in part)
    return [unread_note(each, base) for each in unread]


def _of_classes(
    layout: Layout, file: Path, reading: Reading, wanted: Mapping[str, Any], strict: bool, form: str = CLASS_FOLDERS
) -> Dataset:
    """Return the data set of images that have a class each."""
    names = layout.names or ()
    if strict:
        refuse(layout.faults, f"{len(layout.faults)} fault{'s' * (len(layout.faults) != 1)}", file)
        layout.notes += _unread_notes(layout.samples, file)
    if len(names) < 2 or len(set(names)) != len(names):
        raise DataError(
            "a classifier needs two classes or more",
            file=file,
            expected=CLASS_FOLDERS_EXPECTED,
            found=", ".join(names) or "no class folder",
        )
    return Dataset(
        file,
        find_splits(layout.samples, reading, wanted, file),
        names,
        None,
        reading,
        form,
        task=layout.task,
        parted=UNPARTED not in layout.samples,
        notes=tuple(layout.notes),
        faults=tuple(layout.faults),
        warnings=tuple(layout.warnings),
    )


def is_class_folders(path: object) -> bool:
    """Return whether something is a data set of images that have a class each: two or more folders, and no masks."""
    if isinstance(path, Dataset):
        return not path.per_pixel
    if not isinstance(path, (str, os.PathLike)) or not Path(path).is_dir() or (Path(path) / "dataset.yaml").is_file():
        return False
    try:
        return find_format(Path(path))[1] == CLASS_FOLDERS
    except (OSError, DataError):
        return False


def make_dataset(layout: Layout, name: str, reading: Reading) -> Dataset:
    """Return the data set of samples that lie in no folder, such as arrays; `name` is what errors call it."""
    if not TASK_TRAITS[layout.task].per_pixel:
        return _of_classes(layout, Path(name), reading, {}, strict=True, form="arrays")
    names = None if layout.names is None else check_names(layout.names, Path(name))
    splits = find_splits(layout.samples, reading, {}, Path(name))
    return Dataset(
        Path(name),
        splits,
        names,
        layout.colors,
        reading,
        "arrays",
        layout.values,
        parted=UNPARTED not in layout.samples,
        notes=tuple(layout.notes),
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
    for part, of_part in samples.items():
        for name in repeated(sample.name for sample in of_part):
            yield Finding("ambiguous-names", Where(name, Path(name).name), {"name": name}, Fix("rename it"))
        samples[part] = list({sample.name: sample for sample in reversed(of_part)}.values())[::-1]


_EXPECTED = {SEGMENT.name: SEGMENT.data, CLASSIFY.name: CLASS_FOLDERS_EXPECTED}


def _refuse_other(task: str, wanted: str | None, file: str | os.PathLike[str]) -> None:
    """Raise UsageError if a data set teaches another task than it was opened for."""
    if wanted in (None, task):
        return
    traits = TASK_TRAITS[task]
    raise UsageError(
        f"the data set is of {traits.data}, which teach a {traits.noun}",
        file=file,
        expected=_EXPECTED[wanted],
        fix=f"pass --network {traits.network}, or name another data set",
    )


def _declaration(path: str | os.PathLike[str], task: str | None) -> tuple[Declaration, str]:
    """Return what is declared about the data set at `path`, and its format."""
    if task is not None and not TASK_TRAITS[task].per_pixel:
        return _class_folders(path)
    declared, name = _declared_format(path)
    _refuse_other(FORMATS[name].task, task, path)
    return declared, name


def _class_folders(path: str | os.PathLike[str]) -> tuple[Declaration, str]:
    """Return what `_declaration` does for a folder that can be nothing but one of class folders."""
    root = Path(path)
    if not root.exists() and not tfds.is_asked_for(path) and not is_address(path):
        raise DataError("no such data set", file=root, expected=CLASS_FOLDERS_EXPECTED)
    if not root.is_dir() or (root / "dataset.yaml").is_file():
        _refuse_other(SEGMENT.name, CLASSIFY.name, path)
    base, name = find_format(root)
    if name != CLASS_FOLDERS and (base != root or has_masks(root)):
        _refuse_other(SEGMENT.name, CLASSIFY.name, path)
    return Declaration(root, base if name == CLASS_FOLDERS else root, {}), CLASS_FOLDERS


def _declared_format(path: str | os.PathLike[str]) -> tuple[Declaration, str]:
    root = Path(path)
    if tfds.is_asked_for(path):
        return tfds.declaration(os.fspath(path)), "tfds"
    if is_address(path):
        return Declaration(root, root, {"path": os.fspath(path)}), _form_at(os.fspath(path))
    if root.is_dir() and (root / "dataset.yaml").is_file():
        root = root / "dataset.yaml"
    if root.suffix.lower() == ".json" and root.is_file():
        above = Path(os.path.abspath(root)).parent
        base = above.parent if above.name.lower() == "annotations" else above
        return Declaration(root, base, {"annotations": os.path.abspath(root)}), "coco"
    if root.is_file() and shards.is_shard(root.name):
        return Declaration(root, root, {}), shards.kind_of(root.name)
    if not root.is_dir() and root.suffix.lower() not in (".yaml", ".yml"):
        raise DataError("no such data set", file=root, expected="a folder with images/ and masks/, or a dataset.yaml")
    declared = read_declaration(root)
    name = declared.given.get("format")
    if name == "tfds" or tfds.is_asked_for(declared.given.get("path")):
        tfds.refuse_unasked(declared.given.get("path", "NAME"), root, "it names a data set of TensorFlow Datasets")
    if is_address(declared.given.get("path")):
        refuse_unasked(declared.given["path"], root, "it names an address")
    if name is None and "annotations" in declared.given:
        name = "coco"
    elif name is None and "masks" in declared.given:
        in_stacks = (declared.base / declared.masks).is_file()
        name = "stack" if in_stacks else "class masks" if class_masks.are_declared(declared) else "folders"
    elif name is None:
        base, name = find_format(declared.base)
        declared = replace(declared, base=base)
        if name == "tfds":
            tfds.refuse_unasked(base, root, "the folder was written by TensorFlow Datasets")
    if name not in FORMATS:
        raise DataError("the format is unknown", file=root, expected=", ".join(FORMATS), found=name)
    return declared, name


def _form_at(address: str) -> str:
    """Return the form of what lies at an address."""
    return OME_ZARR if address.rstrip("/").endswith(".zarr") else shards.form_at(address)


def _reread(dataset: Dataset, reading: Reading | None, wanted: Mapping[str, Any]) -> Dataset:
    """Return the data set read in another way; its parts stay, unless what made them differs."""
    new = replace(reading or dataset.reading, **wanted)
    made_by = ("val_from", "test_from", "seed", "group_by", "fold")
    if all(getattr(new, key) == getattr(dataset.reading, key) for key in made_by):
        return replace(dataset, reading=new)
    if dataset.format == CLASS_FOLDERS:
        globs = {key: getattr(new, key) for key in made_by[:2] if getattr(new, key) is not None}
        return open_dataset(dataset.root, new, globs, task=dataset.task)
    if dataset.format != "arrays":
        return replace(dataset, reading=new)
    if dataset.parted:
        find_splits(dataset.splits, new, {key: wanted[key] for key in made_by[:2] if key in wanted}, dataset.root)
        return replace(dataset, reading=new)
    samples = {UNPARTED: sorted(dataset.split("all"), key=lambda sample: sample.name)}
    return replace(dataset, reading=new, splits=find_splits(samples, new, {}, dataset.root))
