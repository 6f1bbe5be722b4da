"""Masks beside their images in one folder, told by their names: `a.png` with `a_mask.png`, perhaps in `train/ val/`.

    scans/ p01/p01_1.tif p01/p01_1_mask.tif  p02/...        benign/ a.png a_mask.png a_mask_1.png        a.jpg a.png

Several masks of one image are its objects. Folders with a number in their names, such as one a patient, stay whole
where the parts are drawn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from unetres_edge.errors import DataError
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.terminal import counted

from ..colortables import find_table, find_value_names
from ..declaration import Declaration
from ..findings import Finding, Where, relative
from ..fixes import leave_out, leave_out_or_empty
from ..sources import ColorFile, EmptyMask, ImageFile, MaskFile, Sample, Source
from .endings import choose_endings, find_endings, shared_ending
from .layout import (
    UNPARTED,
    Layout,
    find_parts,
    group_by_folder,
    have_colors,
    key_of,
    list_images,
    refuse_other_background,
)
from .lists import part_by_lists
from .looks import (
    is_drawing,
    is_mask_alone,
    is_of_cellpose,
    is_second_rater,
    partner_of,
    picture_of,
)
from .objects import ObjectMasks

Pile = tuple[dict[str, Path], dict[str, list[Path]]]  # key -> picture, key of the picture -> masks


def recognises(base: Path) -> bool:
    """Whether most pictures have a mask in their own folder."""
    return base.is_dir() and (_are_pairs(_pile(base)) or find_endings(list_images(base)) is not None)


def read(declared: Declaration) -> Layout:
    """Pair images and masks folder by folder.

    Raises:
        DataError: no image has a mask beside it.
    """
    base = declared.base
    places = declared.splits() or find_parts(base, recognises)
    layout = Layout()
    if "train" not in places:
        places = {UNPARTED: base}
    elif not declared.splits():
        places |= {part: folder for part, folder in find_parts(base, _has_a_pair).items() if part not in places}
        left = {part: folder for part, folder in find_parts(base, _has_images).items() if part not in places}
        layout.notes += [f"{folder.name}/ has no masks and is left out" for folder in left.values()]
    piles = {part: _told_by_names(folder, declared, layout) for part, folder in places.items()}
    masks = [mask for _, masks_of in piles.values() for files in masks_of.values() for mask in files]
    if not masks:
        raise DataError("no image has a mask beside it", file=base, expected="a.png and a_mask.png")
    several = any(len(files) > 1 for _, masks_of in piles.values() for files in masks_of.values())
    _take_classes(layout, declared, list(places.values()), masks, several)
    for part, folder in places.items():
        pictures, masks_of = piles[part]
        empty = set(pictures) - set(masks_of) if declared.has_empty_masks else set[str]()
        if empty:
            layout.notes.append(f"{counted(len(empty), 'image')} without a mask: background alone")
        _tell_apart(layout, base, {key: file for key, file in pictures.items() if key not in empty}, masks_of)
        layout.samples[part] = [
            _sample(pictures[key], folder, masks_of.get(key, ()), layout.by_color, several)
            for key in sorted(
                set(pictures) & {*masks_of, *empty}, key=lambda key: pictures[key].relative_to(folder).as_posix()
            )
        ]
    if masks and all(is_of_cellpose(file.stem) for file in masks):
        layout.masks_are = "instances"
        layout.notes.append("masks number objects, as Cellpose's (_cp_masks) do")
    if any(is_second_rater(file.stem) for folder in places.values() for file in list_images(folder)):
        layout.notes.append("masks are those of the first of two people (_1stHO, _manual1)")
    folders = {Path(sample.name).parent.as_posix() for samples in layout.samples.values() for sample in samples}
    group_by_folder(layout, folders)
    if len(folders) > 1:
        shown = ", ".join(sorted(folders)[:3]) + (", ..." if len(folders) > 3 else "")
        whole = "each stays whole in one part" if layout.group_by and UNPARTED in places else "no classes"
        layout.notes.append(f"masks lie beside their images in {len(folders)} folders ({shown}): {whole}")
    part_by_lists(layout, declared)
    return layout


def _told_by_names(folder: Path, declared: Declaration, layout: Layout) -> Pile:
    """Return the pictures of a folder and their masks: by words that say "mask", else by the endings that all have.

    Raises:
        DataError: several files of a picture may be meant.
    """
    pile = _pile(folder, declared)
    if _are_pairs(pile):
        return pile
    endings = find_endings([f for f in list_images(folder) if not declared.excludes(f.relative_to(folder))])
    if endings is None:
        return pile
    picture, mask = choose_endings(endings, folder, declared)
    layout.notes.append(f"of the files of one name, *{picture} are images and *{mask} masks, by their pixels")
    return endings.with_ending(picture), {key: [file] for key, file in endings.with_ending(mask).items()}


def _pile(folder: Path, declared: Declaration | None = None) -> Pile:
    """Return the pictures of a folder, and of each the masks in the picture's own folder."""
    pictures: dict[str, Path] = {}
    masks: dict[str, list[Path]] = defaultdict(list)
    alone: dict[Path, list[Path]] = defaultdict(list)
    for file in list_images(folder):
        if declared is not None and declared.excludes(file.relative_to(folder)):
            continue
        partner = partner_of(file.stem)
        if is_drawing(file.stem):
            continue
        if is_mask_alone(file.stem) and file.parent != folder:
            alone[file.parent].append(file)
        elif partner is not None:
            masks[f"{file.parent}/{partner}"].append(file)
        elif not is_second_rater(file.stem):
            pictures[f"{file.parent}/{key_of(file.stem)}"] = file
    by_folder: dict[Path, list[str]] = defaultdict(list)
    for key, file in pictures.items():
        by_folder[file.parent].append(key)
    for parent, files in alone.items():  # of a folder with one picture
        keys = by_folder.get(parent, [])
        masks[keys[0] if len(keys) == 1 else f"{parent}/"] += files
    shorter = {f"{file.parent}/{picture_of(file.stem)}": key for key, file in pictures.items()}
    return pictures, {key if key in pictures else shorter.get(key, key): files for key, files in masks.items()}


def _are_pairs(pile: Pile) -> bool:
    pictures, masks = pile
    return len(set(pictures) & set(masks)) >= max(2, len(pictures) / 2, len(masks) / 2)


def _has_a_pair(folder: Path) -> bool:
    """Whether a part has as little as one picture with a mask."""
    pictures, masks = _pile(folder)
    return bool(set(pictures) & set(masks))


def _has_images(folder: Path) -> bool:
    return bool(list_images(folder))


def _take_classes(
    layout: Layout, declared: Declaration, places: Sequence[Path], masks: Sequence[Path], several: bool
) -> None:
    """Find out what the values of the masks mean, by the tables of the data set."""
    folders = (declared.base, *places)
    table = next((table for folder in folders if (table := find_table(folder)) is not None), None)
    layout.by_color = declared.by_color or (not declared.by_number and table is not None and have_colors(masks, table))
    if table is not None:
        layout.take_table(table, by_color=layout.by_color, ignore=IGNORE)
        return
    names = next((names for folder in folders if (names := find_value_names(folder)) is not None), None)
    if names is not None:
        layout.names, layout.values = names
    elif several:
        layout.names = ("background", "foreground")
        refuse_other_background(declared.classes()[0], declared.file)


def _tell_apart(layout: Layout, base: Path, pictures: dict[str, Path], masks: dict[str, list[Path]]) -> None:
    """Add the faults of pictures without masks, and of masks without a picture."""
    alone = sorted(set(pictures) - set(masks))
    ending = shared_ending([pictures[key] for key in alone], [pictures[key] for key in pictures.keys() & masks.keys()])
    for key in alone:
        file = pictures[key]
        fix = leave_out(f"*{ending}") if ending else leave_out_or_empty(file.name)
        figures = {"stem": f"{file.stem}_mask", "folder": relative(file.parent, base)}
        layout.faults.append(Finding("missing-mask", Where(relative(file, base), file.name), figures, fix))
    alone = sorted(set(masks) - set(pictures))
    paired = [file for key in masks.keys() & pictures.keys() for file in masks[key]]
    ending = shared_ending([file for key in alone for file in masks[key]], paired)
    for key in alone:
        for file in masks[key]:
            fix = leave_out(f"*{ending}" if ending else file.name)
            figures = {"stem": Path(key).name, "folder": relative(file.parent, base)}
            where = Where(relative(file, base), file.name)
            layout.faults.append(Finding("missing-image", where, figures, fix))


def _sample(picture: Path, folder: Path, files: Sequence[Path], by_color: bool, several: bool) -> Sample:
    name = picture.relative_to(folder).as_posix()
    if not files:
        return Sample(name, ImageFile(picture), EmptyMask(picture), EmptyMask(picture) if several else None)
    if not several:
        return Sample(name, ImageFile(picture), ColorFile(files[0]) if by_color else MaskFile(files[0]))
    classes = (1,) * len(files)
    target: Source = ObjectMasks(files[0], tuple(files), classes)
    return Sample(name, ImageFile(picture), target, ObjectMasks(files[0], tuple(files), classes, numbered=True))
