"""COCO: instances (polygons and both forms of run lengths) and panoptic maps; `outlines` draws them.

Class 0 is the background, the others are the categories in order of their ids, or in that of declared `classes:`.
Crowds are not labelled, except where an object lies on them or `crowds: objects` is declared; so is an object of which
only a box is given. Where objects overlap, the smaller one is on top.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unetres_edge.errors import DataError, Fix
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.model.background import is_background
from unetres_edge.terminal import counted

from ..declaration import Declaration
from ..findings import Finding, Where, relative
from ..fixes import declare, leave_out
from ..sources import ImageFile, Sample
from .annotations import (
    Annotations,
    find_annotations,
    is_text,
    list_candidates,
    load_annotations,
    part_in,
    refuse_boxes,
)
from .layout import (
    PART_NAMES,
    UNPARTED,
    Layout,
    find_file,
    key_of,
    list_images,
    refuse_other_background,
    repeated,
    unnamed_note,
)
from .outlines import CocoMask, Outline, PanopticMask, Segment, encloses, find_fault, shown

_ENOUGH_OBJECTS = 5  # of a class beside others; fewer of which none is labelled are but a warning


def recognises(base: Path) -> bool:
    """Whether there is an annotation file of COCO's form in the usual places, and no folder of masks."""
    folders = [base / name for name in ("masks", "mask") if (base / name).is_dir()]
    return not any(map(list_images, folders)) and any(True for _ in list_candidates(base))


def read(declared: Declaration) -> Layout:
    """Read the declared annotation files, or those found: one a part, or one for all.

    Raises:
        DataError: not COCO's form, categories that differ between files, or no masks in it.
    """
    files = declared.splits()
    if "annotations" in declared.given:
        files = {UNPARTED: declared.base / declared.given["annotations"]}
    absent = [relative(file, declared.base) for file in files.values() if not file.is_file()]
    if absent:
        raise DataError("no such annotation file", file=declared.base, found=", ".join(absent))
    loaded = {part: load_annotations(file) for part, file in files.items()}
    if loaded:
        refuse_boxes(list(loaded.values()), declared.base)
    loaded = loaded or find_annotations(declared.base)
    categories: dict[int, str] = {}
    for content in loaded.values():
        for key, category in content.categories.items():
            if categories.setdefault(key, category["name"]) != category["name"]:
                raise DataError(
                    f"category {key} has two names",
                    file=content.file,
                    found=f"{categories[key]} and {category['name']}",
                )
    layout = Layout(ignore=IGNORE)
    group = _group_of_all(list(loaded.values()), declared)
    if group is not None:
        name = categories.pop(group)
        layout.notes.append(f"category {group} ({name}) is the group of all others and has no objects: left out")
    class_of = _classes(layout, declared, categories, any(content.panoptic for content in loaded.values()))
    for part, content in loaded.items():
        layout.samples[part] = list(_samples(layout, declared, part, content, class_of))
    layout.notes += unnamed_note(sample.image.file for of_part in layout.samples.values() for sample in of_part)
    _refuse_crowds(layout, list(loaded.values()), declared)
    return layout


def _group_of_all(loaded: Sequence[Annotations], declared: Declaration) -> int | None:
    """Return the id of a category that is but the name of the group of all others, as Roboflow writes one, or None."""
    categories = {key: category for content in loaded for key, category in content.categories.items()}
    groups = {str(category.get("supercategory")) for category in categories.values()}
    group_ids = [key for key, category in categories.items() if category["name"] in groups]
    used = [annotation.get("category_id") for content in loaded for annotation in content.annotations]
    others = [category for key, category in categories.items() if key not in group_ids]
    if len(group_ids) != 1 or group_ids[0] in used or not others or any(content.panoptic for content in loaded):
        return None
    name = categories[group_ids[0]]["name"]
    same = all(category.get("supercategory") == name for category in others)
    return group_ids[0] if same and name not in (declared.classes()[0] or ()) else None


def _refuse_crowds(layout: Layout, loaded: Sequence[Annotations], declared: Declaration) -> None:
    """Add a fault for each class that labels nothing: brushes write every object as a crowd, which means that."""
    objects = [a for content in loaded if not content.panoptic for a in content.annotations]
    if not objects or _crowds_are_objects(declared):
        return
    names = {key: category["name"] for content in loaded for key, category in content.categories.items()}
    by_category: dict[Any, list[Mapping[str, Any]]] = {}
    for annotation in objects:
        key = annotation.get("category_id")
        by_category.setdefault(key if type(key) is int else None, []).append(annotation)
    empty = {key: of for key, of in by_category.items() if all(map(_is_not_labelled, of))}
    if len(empty) < len(by_category):  # a few may be crowds indeed
        empty = {key: of for key, of in empty.items() if len(of) >= _ENOUGH_OBJECTS}
    for key, of_category in empty.items():
        where = Where(relative(loaded[0].file, declared.base))
        drawn = any(annotation.get("segmentation") for annotation in of_category)
        fix = declare({"crowds": "objects"}) if drawn else Fix(f"draw outlines of the objects, in {where.file}")
        figures = {"objects": len(of_category), "class_name": names.get(key, "of no category")}
        layout.faults.append(Finding("empty-class", where, figures, fix))


def _is_not_labelled(annotation: Mapping[str, Any]) -> bool:
    return annotation.get("iscrowd") == 1 or not annotation.get("segmentation")


def _crowds_are_objects(declared: Declaration) -> bool:
    said = declared.given.get("crowds", "ignore")
    if said not in ("ignore", "objects"):
        raise DataError("crowds is wrong", file=declared.file, expected="ignore or objects", found=said)
    return bool(said == "objects")


def _classes(layout: Layout, declared: Declaration, categories: Mapping[int, str], panoptic: bool) -> dict[int, int]:
    """Return category id -> class id; name the classes."""
    declared_names = declared.classes()[0]
    refuse_other_background(declared_names, declared.file)
    backgrounds = [i for i, name in categories.items() if is_background(name)]
    order = sorted(i for i in categories if i not in backgrounds)
    first = 0 if panoptic and not backgrounds else 1
    names = declared_names or (*(["background"] if first else []), *(categories[i] for i in order))
    wrong = [categories[i] for i in order if categories[i] not in names[first:]]
    if wrong:
        raise DataError(
            "categories that the declared classes do not name",
            file=declared.file,
            expected="the background first, then all categories" if first else "all categories",
            found=", ".join(wrong),
        )
    layout.names = names
    class_of = {i: names.index(categories[i]) for i in order}
    said = [f"{i} -> {class_of[i]} {categories[i]}" for i in order]
    what = "by name" if declared_names else "in order of their ids"
    layout.notes.append(f"classes are the categories {what}: " + ", ".join(said[:6]) + ", ..." * (len(said) > 6))
    return class_of | dict.fromkeys(backgrounds, 0)


def _samples(
    layout: Layout, declared: Declaration, part: str, content: Annotations, class_of: Mapping[int, int]
) -> Iterator[Sample]:
    """Yield the samples of a file in order of the images' names; what is wrong goes to the layout's faults."""
    base, file = declared.base, content.file
    by_image: dict[Any, list[Mapping[str, Any]]] = {key: [] for key in content.images}
    faulty = set()
    for annotation in content.annotations:
        key = annotation.get("image_id")
        image = content.images.get(key) if type(key) in (int, str) else None
        name = None if image is None else str(image["file_name"])
        which = f"annotation {shown(annotation.get('id', '?'))} of {name or relative(file, base)}"
        fault = _fault(annotation, image, class_of)
        if fault:
            faulty.add(key if image is not None else None)
            fix = leave_out(name) if name else Fix(f"remove {which}")
            where = Where(name or relative(file, base), Path(name or file).name)
            figures = {"part": which, "found": fault[1], "expected": fault[0]}
            layout.faults.append(Finding("bad-annotation", where, figures, fix))
            continue
        by_image[key].append(annotation)
        if name and not (annotation.get("segmentation") or "segments_info" in annotation):
            fix = Fix(f"draw its outline, or {leave_out(name)}")
            layout.warnings.append(Finding("box-only", Where(name, Path(name).name), {"part": which}, fix))
        if name and _is_flat(annotation.get("segmentation")):
            fix = Fix(f"draw its outline, or {leave_out(name)}")
            layout.warnings.append(Finding("flat-outline", Where(name, Path(name).name), {"part": which}, fix))
    bare = sum(not of_image for of_image in by_image.values())
    if bare and not content.panoptic:
        in_part = f" of {part}" if part else ""
        layout.notes.append(f"{counted(bare, 'image')}{in_part} without an annotation: background alone")
    places = _places(declared, part, file)
    within = [base, base / declared.images, file.parent]
    used: dict[Path, str] = {}
    deeper: dict[str, Path] | None = None
    for key, image in sorted(content.images.items(), key=lambda item: str(item[1]["file_name"])):
        name = str(image["file_name"])
        found_file = find_file(name, places, within)
        if found_file is None:
            deeper = _names_below(base) if deeper is None else deeper
            found_file = deeper.get(key_of(name.replace("\\", "/").rpartition("/")[2]))
        here = Where(name, Path(name).name)
        if found_file is None:
            figures = {"annotations": relative(file, base)}
            layout.faults.append(Finding("missing-image", here, figures, leave_out(name)))
        elif found_file in used:
            twins = {"names": [name, used[found_file]], "named": relative(found_file, base)}
            layout.faults.append(Finding("ambiguous-names", here, twins, leave_out(name)))
        elif content.panoptic and key not in faulty:
            mask = _panoptic(layout, content, name, by_image[key], class_of, base)
            if mask is not None:
                yield Sample(name, ImageFile(found_file), mask, PanopticMask(mask.file, mask.segments, True))
        elif not content.panoptic:
            size = (image["height"], image["width"])
            crowds = not _crowds_are_objects(declared)
            outlines = tuple(_outline(annotation, class_of, crowds) for annotation in by_image[key])
            drawn = (CocoMask(file, name, size, outlines, numbered) for numbered in (False, True))
            yield Sample(name, ImageFile(found_file), *drawn)
        if found_file is not None:
            used.setdefault(found_file, name)


def _is_flat(drawn: object) -> bool:
    """Return whether an object is drawn by polygons that enclose nothing."""
    return isinstance(drawn, list) and bool(drawn) and not any(map(encloses, drawn))


def _names_below(base: Path) -> dict[str, Path]:
    """Return name -> file of the images wherever they lie, as in `images/train/A172/`, of names that are there once."""
    times = Counter(key_of(path.name) for path in list_images(base))
    return {key_of(path.name): path for path in list_images(base) if times[key_of(path.name)] == 1}


def _places(declared: Declaration, part: str, file: Path) -> list[Path]:
    """Return the folders that images of a part may lie in, the most likely first."""
    base, images = declared.base, declared.base / declared.images
    parts = [part for part in dict.fromkeys((part_in(file.stem), part)) if part]
    names = [name for part in parts for name in PART_NAMES[part]]
    tops = [top for top in (images, base) if top.is_dir()]
    below = [p for part in parts for top in tops for p in sorted(top.iterdir()) if part in p.name]
    below += [top / file.stem.partition("_")[2] for top in tops]  # `images/default/` of `instances_default.json`
    return [file.parent, *(top / name for top in (images, base) for name in names), images, base, *below]


def _outline(annotation: Mapping[str, Any], class_of: Mapping[int, int], crowds: bool) -> Outline:
    """Return what is drawn of an annotation; one with a box alone is not labelled there, like a crowd."""
    drawn = annotation.get("segmentation")
    if not drawn:
        x, y, width, height = annotation["bbox"]
        drawn = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        return Outline(drawn, IGNORE, True)
    return Outline(drawn, class_of[annotation["category_id"]], crowds and bool(annotation.get("iscrowd")))


def _panoptic(
    layout: Layout,
    content: Annotations,
    name: str,
    annotations: Sequence[Mapping[str, Any]],
    class_of: Mapping[int, int],
    base: Path,
) -> PanopticMask | None:
    """Return the map of an image, or None and a fault if there is not exactly one."""
    maps = [str(annotation["file_name"]) for annotation in annotations]
    folders = [content.file.with_suffix(""), content.file.parent]
    file = find_file(maps[0], folders, folders) if len(maps) == 1 else None
    if file is None:
        figures = {"annotations": relative(content.file, base), "maps": maps, "folder": relative(folders[0], base)}
        layout.faults.append(Finding("missing-mask", Where(name, Path(name).name), figures, leave_out(name)))
        return None
    segments = {}
    for segment in annotations[0]["segments_info"]:
        category = content.categories.get(segment["category_id"], {})
        class_id = IGNORE if segment.get("iscrowd") else class_of[segment["category_id"]]
        segments[segment["id"]] = Segment(class_id, bool(category.get("isthing", 1)))
    return PanopticMask(file, segments)


def _fault(
    annotation: Mapping[str, Any], image: Mapping[str, Any] | None, class_of: Mapping[int, int]
) -> tuple[str, str] | None:
    """Return (expected, found) of what is wrong with an annotation, or None."""
    if image is None:
        return "the id of an image", f"image_id {shown(annotation.get('image_id'))}"
    if "segments_info" not in annotation:
        key = annotation.get("category_id")
        if type(key) is not int or key not in class_of:
            return "the id of a category", f"category_id {shown(key)}"
        return find_fault(annotation, (image["height"], image["width"]))
    segments = annotation["segments_info"]
    if not isinstance(segments, list) or not all(isinstance(s, dict) and type(s.get("id")) is int for s in segments):
        return "a list of segments, each with an id", f"segments_info {shown(segments)}"
    if not is_text(annotation.get("file_name")):
        return "the name of a map", f"file_name {shown(annotation.get('file_name'))}"
    if repeated(str(s["id"]) for s in segments):
        return "different ids of segments", f"segments_info {shown(segments)}"
    keys = [s.get("category_id") for s in segments]
    strange = [key for key in keys if type(key) is not int or key not in class_of]
    return ("the id of a category", f"category_id {shown(strange[0])}") if strange else None
