"""Sets in shards: Parquet and Arrow as Hugging Face `datasets` writes them, and tar files as WebDataset does.

They lie in a folder, or at an address that a person names. Shards are found by their headers and read in groups, so
that a set may be larger than the memory and, at an address, than the disk.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from unetres_edge.errors import DataError
from unetres_edge.images.decode import IMAGE_SUFFIXES
from unetres_edge.images.preprocessing import IGNORE

from ..colortables import find_table
from ..declaration import Declaration
from ..shards import table, tar
from ..shards.groups import Cell, Group
from ..shards.store import Store, is_address, open_store
from ..sources import Sample, check_count
from .layout import PART_NAMES, UNPARTED, Layout

PARQUET, ARROW, WEBDATASET = "parquet", "arrow", "webdataset"
_SUFFIXES = {PARQUET: (".parquet",), ARROW: (".arrow",), WEBDATASET: (".tar",)}
_IMAGES = ("image", "img", "images", "pixel_values", "input")
_MASKS = (
    *("mask", "masks", "label", "labels", "annotation", "annotations", "segmentation", "segmentation_mask"),
    *("semantic_segmentation", "seg", "seg_map", "label_map", "gt", "target"),
)
_NAMES_FILE = "id2label.json"
_MOST_NAMES = 1 << 20  # bytes of it


@dataclass(frozen=True)
class _Columns:
    """Which column, or ending of a member, is the image and which the mask."""

    image: str
    mask: str


def is_shard(name: str) -> bool:
    """Whether a file ends like a shard, also one that is compressed as a whole and is refused by name."""
    return name.lower().endswith(tuple(s for suffixes in _SUFFIXES.values() for s in suffixes)) or tar.is_packed(name)


def recogniser(name: str) -> Callable[[Path], bool]:
    """Return whether a folder holds shards of a kind."""

    def recognises(base: Path) -> bool:
        if base.is_file():
            return name == kind_of(base.name)
        if not base.is_dir():
            return False
        places = [
            base,
            base / "data",
            *(path for path in sorted(base.iterdir()) if _part_of(path.name) and path.is_dir()),
        ]
        files = (path for folder in places if folder.is_dir() for path in folder.iterdir())
        return any(kind_of(path.name) == name and path.is_file() for path in files)

    return recognises


def kind_of(name: str) -> str:
    """Return the form of a shard by its ending, "" of another file."""
    lower = name.lower()
    if tar.is_packed(name):
        return WEBDATASET
    return next((form for form, endings in _SUFFIXES.items() if lower.endswith(endings)), "")


def form_at(address: str) -> str:
    """Return the form of the shards at an address.

    Raises:
        DataError: there are none, or of several kinds.
    """
    files = open_store(address).files()
    kinds = sorted({kind_of(name) for name in files} - {""})
    if len(kinds) != 1:
        raise DataError(
            "no shards at the address" if not kinds else "shards of several kinds at the address",
            file=address,
            expected="Parquet, Arrow or tar files",
            found=", ".join(kinds or files[:4]) or "nothing",
            fix="copy single images to this machine, and name their folder" if files and not kinds else None,
        )
    return kinds[0]


def read(declared: Declaration) -> Layout:
    """Find the samples of all shards.

    Raises:
        DataError: a shard cannot be read, no images with masks are in it, or pyarrow is not installed.
    """
    address = declared.given.get("path") if is_address(declared.given.get("path")) else None
    store = open_store(address or (declared.base.parent if declared.base.is_file() else declared.base))
    names = [declared.base.name] if address is None and declared.base.is_file() else store.files()
    form = str(declared.given.get("format") or next((kind for name in names if (kind := kind_of(name))), PARQUET))
    shards = [name for name in names if kind_of(name) == form and "cache-" not in PurePosixPath(name).name]
    if not shards:
        raise DataError("no shards", file=declared.file, expected=" or ".join(_SUFFIXES.get(form, ("shards",))))
    packed = [name for name in shards if tar.is_packed(name)]
    if packed:
        raise DataError(
            "a compressed tar cannot be read in pieces",
            file=store.path(packed[0]),
            fix="gunzip it (xz -d, zstd -d): images in it are compressed already",
        )
    layout = Layout()
    _take_names(layout, store, names, declared)
    by_part = _parted(shards, layout, declared.file)
    finder = _find_in_tar if form == WEBDATASET else _find_in_table
    groups = 0
    for part, files in by_part.items():
        samples: list[Sample] = []
        for name in files:
            of_file, groups = finder(store, name, groups, layout, declared)
            samples += of_file
        layout.samples[part] = samples
    return layout


def _parted(shards: Iterable[str], layout: Layout, file: Path) -> dict[str, list[str]]:
    """Return part -> its shards, by the names of the files or of the folders that they lie in."""
    by_part: dict[str, list[str]] = {}
    for name in shards:
        words = [*PurePosixPath(name).parts[:-1], re.split(r"[-_.]", PurePosixPath(name).name)[0]]
        part = next((part for word in reversed(words) if (part := _part_of(word))), UNPARTED)
        by_part.setdefault(part, []).append(name)
    others = by_part.get(UNPARTED, [])
    if others and len(by_part) > 1:
        layout.notes.append(f"{len(by_part.pop(UNPARTED))} shards of no known part left out, such as {others[0]}")
    return by_part


def _part_of(word: str) -> str:
    return next((part for part, names in PART_NAMES.items() if word.casefold() in names), "")


def _find_in_table(
    store: Store, name: str, groups: int, layout: Layout, declared: Declaration
) -> tuple[list[Sample], int]:
    """Return the samples of a Parquet or Arrow file, and the number of groups so far."""
    opened = table.open_table(store, name)
    check_count(sum(rows for rows, _ in opened.groups), store.path(name))
    columns = _choose_columns(opened, store.path(name), layout)
    if layout.names is None:
        _take_label_names(layout, opened.features.get(columns.mask))
    kinds = {"image": "image", "mask": "colors" if declared.by_color else "mask"}
    said = list(table.read_names(store, name, opened, columns.image)) if _has_paths(opened, columns.image) else []
    said = [PurePosixPath(path.replace("\\", "/")).name for path in said]
    known = bool(said) and all(said) and len(set(said)) == len(said)
    samples: list[Sample] = []
    for index, (rows, _) in enumerate(opened.groups):
        group = table.TableGroup(store, name, opened, index, groups + index, (columns.image, columns.mask))
        for row in range(rows):
            number = len(samples)
            stem = said[number] if known else f"{number:06d}"
            samples.append(_sample(store.path(name), f"{_stem(name)}/{stem}", group, row, columns, kinds))
    return samples, groups + len(opened.groups)


def _has_paths(opened: table.Table, column: str) -> bool:
    kind = opened.schema.field(column).type
    return not opened.offsets and hasattr(kind, "get_field_index") and kind.get_field_index("path") >= 0


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _sample(file: Path, name: str, group: Group, row: int, columns: _Columns, kinds: Mapping[str, str]) -> Sample:
    path = file / PurePosixPath(name).name
    return Sample(
        name,
        Cell(path, group, columns.image, row, kinds["image"]),
        Cell(path, group, columns.mask, row, kinds["mask"]),
    )


def _choose_columns(opened: table.Table, file: Path, layout: Layout) -> _Columns:
    """Return the columns of images and masks.

    Raises:
        DataError: there are none.
    """
    holds = {name: table.holds(opened, name) for name in opened.schema.names}
    pictures = [name for name, kind in holds.items() if kind in ("files", "arrays")]
    image = next((name for name in _IMAGES if name in pictures), None)
    masks = [name for name in _MASKS if name in pictures and name != image]
    if image is None and len(pictures) == 2 and masks:
        image = next(name for name in pictures if name != masks[0])
    if image is None or not masks:
        label = next((name for name in _MASKS if holds.get(name) == "numbers"), None)
        raise DataError(
            "the columns hold no images with masks",
            file=file,
            expected=f"a column of images ({_IMAGES[0]}, ...) and one of masks ({', '.join(_MASKS[:6:2])}, ...)",
            found=", ".join(f"{name} ({kind or 'something else'})" for name, kind in holds.items()),
            fix=f"{label} is a class of the whole image: write the images into a folder for each class"
            if label
            else "rename the columns to image and mask",
        )
    if len(masks) > 1:
        note = f"masks are those of the column {masks[0]}; not read: {', '.join(masks[1:])}"
        layout.notes += [note] * (note not in layout.notes)
    return _Columns(image, masks[0])


def _find_in_tar(
    store: Store, name: str, groups: int, layout: Layout, declared: Declaration
) -> tuple[list[Sample], int]:
    """Return the samples of a tar, and the number of groups so far."""
    members_of = list(tar.list_members(store, name))
    endings = Counter(ending for _, members in members_of for ending in members)
    columns = _choose_endings(endings, store.path(name))
    rows, names = [], []
    for key, members in members_of:
        if columns.image in members and columns.mask in members:
            rows.append({"image": members[columns.image], "mask": members[columns.mask]})
            names.append(key)
        else:
            here = ", ".join(sorted(members))
            raise DataError(
                "a sample has no image or no mask",
                file=store.path(name),
                expected=f"{key}.{columns.image} and {key}.{columns.mask}",
                found=f"{key}: {here}",
                fix="write the shard again without it",
            )
    others = sorted(set(endings) - {columns.image, columns.mask})
    note = f"members that are not read: {', '.join('.' + ending for ending in others)}"
    layout.notes += [note] * bool(others and note not in layout.notes)
    kinds = {"image": "image", "mask": "colors" if declared.by_color else "mask"}
    samples, last = [], groups - 1
    for key, (group, row) in zip(names, tar.make_groups(store, name, groups, rows), strict=True):
        last = group.number
        samples.append(_sample(store.path(name), f"{_stem(name)}/{key}", group, row, _Columns("image", "mask"), kinds))
    return samples, last + 1


def _choose_endings(endings: Mapping[str, int], file: Path) -> _Columns:
    """Return the endings of images and masks.

    Raises:
        DataError: it is not clear which they are.
    """
    pictures = [ending for ending in endings if f".{ending.rpartition('.')[2]}" in IMAGE_SUFFIXES]
    words = {ending: ending.rpartition(".")[0] for ending in pictures}
    masks = [ending for ending in pictures if words[ending].rpartition(".")[2] in _MASKS]
    images = [ending for ending in pictures if words[ending] in ("", *_IMAGES)]
    if not masks and sorted(images) in (["jpeg", "png"], ["jpg", "png"]):  # masks are not stored as JPEG
        images, masks = [ending for ending in images if ending != "png"], ["png"]
    if "cls" in endings and not masks:
        raise DataError(
            "the members hold no images with masks",
            file=file,
            expected="one of each a sample, such as 000000.jpg and 000000.mask.png",
            found=", ".join(f".{ending} ({count})" for ending, count in sorted(endings.items())[:12]),
            fix=".cls is a class of the whole image: write the images into a folder for each class",
        )
    if len(images) != 1 or len(masks) != 1:
        raise DataError(
            "it is not clear which members are images and which are masks",
            file=file,
            expected="one of each a sample, such as 000000.jpg and 000000.mask.png",
            found=", ".join(f".{ending} ({count})" for ending, count in sorted(endings.items())[:12]) or "no members",
            fix="name them so",
        )
    return _Columns(images[0], masks[0])


def _take_names(layout: Layout, store: Store, names: Iterable[str], declared: Declaration) -> None:
    """Take class names of an `id2label.json`, or of a table of classes in the folder."""
    if _NAMES_FILE in names:
        if store.size(_NAMES_FILE) > _MOST_NAMES:
            raise DataError("the file is too large", file=store.path(_NAMES_FILE), expected=f"{_MOST_NAMES} bytes")
        try:
            _use_ids(layout, json.loads(store.read(_NAMES_FILE)), store.path(_NAMES_FILE))
        except (ValueError, RecursionError) as error:
            raise DataError("cannot read: not JSON", file=store.path(_NAMES_FILE)) from error
    elif store.remote is None and declared.by_color and (known := find_table(declared.base)) is not None:
        layout.take_table(known, by_color=True, ignore=IGNORE)


def _use_ids(layout: Layout, said: Any, file: Path) -> None:
    """Take class names by the value that is stored for each.

    Raises:
        DataError: that is not what is said.
    """
    if not isinstance(said, dict) or not all(isinstance(name, str) for name in said.values()):
        raise DataError("not names by number", file=file, expected='{"0": "background", "1": "cell"}')
    try:
        ids = {int(key): name for key, name in said.items()}
    except ValueError as error:
        raise DataError("not names by number", file=file, expected="whole numbers", found=list(said)[:4]) from error
    order = sorted(ids)
    layout.names = tuple(ids[value] for value in order)
    layout.values = (
        None if order == list(range(len(order))) else {value: class_id for class_id, value in enumerate(order)}
    )


def _take_label_names(layout: Layout, feature: Any) -> None:
    """Take the class names that the features say of a column of masks."""
    while isinstance(feature, dict) and "names" not in feature and "feature" in feature:
        feature = feature["feature"]
    names = feature.get("names") if isinstance(feature, dict) else None
    if isinstance(names, list) and len(names) > 1 and all(isinstance(name, str) for name in names):
        layout.names = tuple(names)
