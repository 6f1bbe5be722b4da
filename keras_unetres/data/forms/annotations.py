"""COCO's annotation files: which of a folder are meant, and what they say, each entry checked by itself."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetres_edge.errors import DataError
from unetres_edge.files import parse_json
from unetres_edge.images.decode import MAX_PIXELS

from ..findings import relative
from .layout import OF_BOXES, PART_NAMES, UNPARTED, repeated
from .outlines import shown

_PEEK = 1 << 16
_RANKS = ((r"instances", 0), (r"captions|labels|image_info", 9), (r"keypoints", 3), (r"panoptic", 4), (r"stuff", 2))


@dataclass(frozen=True)
class Annotations:
    """An annotation file, its entries checked one by one; what they say of each other is not."""

    file: Path
    images: Mapping[Any, Mapping[str, Any]]
    categories: Mapping[int, Mapping[str, Any]]
    annotations: Sequence[Mapping[str, Any]]

    @property
    def panoptic(self) -> bool:
        """Whether masks are maps of segments."""
        return any("segments_info" in annotation for annotation in self.annotations)

    @property
    def has_masks(self) -> bool:
        """Whether anything is more than a box."""
        return self.panoptic or any(annotation.get("segmentation") for annotation in self.annotations)


def list_candidates(base: Path) -> Iterator[tuple[int, str, Path]]:
    """Yield (rank of the kind, part or UNPARTED, file) of what looks like annotations, the most likely first."""
    top = base / "annotations"
    deeper = sorted(path for path in top.iterdir() if path.is_dir()) if top.is_dir() else []
    places = [base, top, *deeper, *(base / name for names in PART_NAMES.values() for name in names)]
    candidates = []
    for folder in places:
        for file in sorted(folder.glob("*.json")) if folder.is_dir() else []:
            if file.name.startswith(".") or not file.is_file() or not _looks_right(file):
                continue
            part = part_in(file.stem if folder in (base, top, *deeper) else folder.name)
            rank = next((rank for pattern, rank in _RANKS if re.search(pattern, file.stem.lower())), 1)
            candidates.append((rank, file.as_posix(), part, file))
    for rank, _, part, file in sorted(candidates):
        yield rank, part, file


def part_in(name: str) -> str:
    """Return the part that a word of a name says, or UNPARTED."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((part for part, names in PART_NAMES.items() if set(names) & set(words)), UNPARTED)


def _looks_right(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            head = stream.read(_PEEK)
            stream.seek(max(0, file.stat().st_size - _PEEK))
            both = head + stream.read(_PEEK)
    except OSError:
        return False
    return b'"shapes"' not in head and (b'"images"' in both or b'"annotations"' in both) and b'"categories"' in both


def find_annotations(base: Path) -> dict[str, Annotations]:
    """Return part -> content of the most likely kind of annotation files with masks in one of them.

    Raises:
        DataError: no such files, several for one part, or one that is not COCO's form.
    """
    by_kind: dict[int, list[tuple[str, Path]]] = defaultdict(list)
    for rank, part, file in list_candidates(base):
        by_kind[rank].append((part, file))
    loaded: dict[str, Annotations] = {}
    for _, files in sorted(by_kind.items()):
        parts = [part for part, _ in files]
        if len(set(parts)) != len(parts) or (UNPARTED in parts and len(parts) > 1):
            raise DataError(
                "several annotation files for one part",
                file=base,
                found=", ".join(relative(file, base) for _, file in files),
                fix="name the right one in a dataset.yaml: annotations: FILE, or splits: {train: FILE, val: FILE}",
            )
        loaded = {part: load_annotations(file) for part, file in files}
        if any(content.has_masks for content in loaded.values()):
            break
    refuse_boxes(list(loaded.values()), base)
    return loaded


def refuse_boxes(loaded: Sequence[Annotations], base: Path) -> None:
    """Raise a DataError if no file holds anything but boxes."""
    if not any(content.has_masks for content in loaded):
        raise DataError(
            "the annotations hold no masks",
            file=base,
            expected="polygons or run lengths under `segmentation`, or `segments_info`",
            found=", ".join(content.file.name for content in loaded) or "no annotation file",
            fix=OF_BOXES,
        )


def _fix(content: Any) -> str | None:
    of_datumaro = isinstance(content, dict) and "items" in content and "categories" in content
    return "it is Datumaro's own form: export coco_instances from Datumaro" if of_datumaro else None


def load_annotations(file: Path) -> Annotations:
    """Read an annotation file.

    Raises:
        DataError: not COCO's form, images or categories that are incomplete or share an id.
    """
    try:
        content = parse_json(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read: {error}", file=file, expected="an annotation file of COCO's form") from error
    for key in ("images", "annotations", "categories"):
        rows = content.get(key) if isinstance(content, dict) else None
        if isinstance(rows, dict) and rows:  # by id, as some tools write them
            rows = content[key] = list(rows.values())
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError("not COCO's form", file=file, expected=f'a list "{key}" of objects', fix=_fix(content))
    for row in content["images"]:
        _name_by_address(row)
    for row in (row for key in ("images", "annotations", "categories") for row in content[key]):
        _count_whole(row)
    for key, (right, expected) in _FORMS.items():
        for row in content[key]:
            if not right(row):
                raise DataError(f"an entry of {key} is wrong", file=file, expected=expected, found=shown(row))
        twice = repeated(str(row["id"]) for row in content[key])
        if twice:
            raise DataError(f"{key} share an id", file=file, found=", ".join(twice[:5]))
    images, categories = ({row["id"]: row for row in content[key]} for key in ("images", "categories"))
    return Annotations(file, images, categories, content["annotations"])


def _count_whole(row: dict[str, Any]) -> None:
    """Turn ids and sides that tables of floats wrote as 1.0 to whole numbers."""
    for key in ("id", "image_id", "category_id", "height", "width"):
        value = row.get(key)
        if isinstance(value, float) and value.is_integer():
            row[key] = int(value)


def _name_by_address(row: dict[str, Any]) -> None:
    """Give an image that has an address and no name, as LVIS writes them, the last part of the address as its name."""
    address = row.get("coco_url")
    if "file_name" not in row and isinstance(address, str):
        row["file_name"] = address.rpartition("/")[2]


def _is_image(row: Mapping[str, Any]) -> bool:
    height, width = row.get("height"), row.get("width")
    if type(height) is not int or type(width) is not int or min(height, width) < 1 or height * width > MAX_PIXELS:
        return False
    return type(row.get("id")) in (int, str) and is_text(row.get("file_name"))


def _is_category(row: Mapping[str, Any]) -> bool:
    return type(row.get("id")) is int and is_text(row.get("name"))


def is_text(value: Any) -> bool:
    """Whether a value is a name that can be written."""
    return isinstance(value, str) and value not in ("", ".", "..") and "\0" not in value and _fits(value)


def _fits(value: str) -> bool:
    try:
        return bool(value.encode())
    except UnicodeEncodeError:
        return False


_FORMS = {
    "images": (_is_image, f"id, file_name, and height and width in px, at most {MAX_PIXELS} px in all"),
    "categories": (_is_category, "a whole number as id, and a name"),
}
