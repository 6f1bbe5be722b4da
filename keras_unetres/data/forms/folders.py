"""Folders of images and of masks, paired by name: `images/` and `masks/`, perhaps in or above `train/ val/ test/`.

Folders of other names are found by `parallel`. Beside them may lie `instances/` (numbers of objects) and `weights/` (of
each pixel in the loss, such as float TIFF).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from unetres_edge.errors import DataError, Fix
from unetres_edge.images.decode import IMAGE_SUFFIXES
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.images.unread import is_unread
from unetres_edge.terminal import counted

from ...choices.reading import MASK_KINDS
from ..colortables import find_table
from ..declaration import Declaration, read_names
from ..findings import Finding, Where, relative
from ..fixes import declare, leave_out, leave_out_or_empty, say_place
from ..sources import ColorFile, EmptyMask, ImageFile, MaskFile, Sample, WeightFile
from ..unread import FIX, unread_in, unread_note
from .annotated import save_arrays_one_by_one, save_one_by_one
from .choosing import choose_masks, pair_by_difference
from .endings import shared_ending
from .layout import (
    PART_NAMES,
    PARTS,
    UNPARTED,
    Layout,
    find_parts,
    group_by_folder,
    have_colors,
    is_image,
    key_of,
    list_images,
    repeated,
)
from .lists import declared_lists, part_by_lists
from .looks import MASK_FOLDERS, partner_of
from .parallel import (
    Parallel,
    choose_parallel,
    find_parallel,
    is_called_masks,
    named_below,
    parts_of,
    passed_over,
    split_name,
)

_IMAGES = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit", "input", "inputs")
_MASKS = ("masks", "mask", "labels", "label", "annotations", "annots", "gt", "gtfine", "ground_truth", "targets") + (
    "1st_manual",
    "manual",
)
_MASK_SUFFIXES = (
    *("_gtfine_labelids", "_gtfine_labeltrainids", "_mask", "_masks", "_label", "_labels", "_labelids", "_gt"),
    *("_groundtruth", "_seg", "_segmentation", "_annotation", "_1stho", "_2ndho", "_manual1", "_instances", "_l", "_p"),
)
_RENAME = Fix("name every mask like its image: a.png for a.jpg, or a_mask.png")
_OF_TASKS = re.compile(r"task-\d+-annotation-\d+")  # Label Studio's brushes as PNG, which name no image
_EXPORT = Fix("export JSON from Label Studio, and put it beside images/: it is read")
_MOST_SHOWN = 4  # folders in a note
_LOOKED_AT = 100  # images, whose names may stand in a file
_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".xml")
_PEEK, _SHOWN = 1 << 14, 80  # bytes that are looked at, and characters of them in an error
_OTHER_MAPS = ("_gtfine_color", "_gtfine_instanceids")  # of Cityscapes, beside those with class ids
_IMAGE_ENDINGS = ("_image", "_img", "_sat", "_leftimg8bit")

Place = tuple[Path, Path, str]  # folder of images, folder of masks, what names of samples start with


def recognises(base: Path) -> bool:
    """Whether there are folders of images and masks."""
    return bool(
        _both(base)
        or find_parts(base, lambda folder: _both(folder) is not None)
        or _split_below(base)
        or _sibling_parts(base)
    )


def read(declared: Declaration) -> Layout:
    """Pair the images and masks below the folders that are declared or found.

    Raises:
        DataError: there are no such folders, or no images.
    """
    base = declared.base
    layout = Layout()
    places = _places(declared, layout)
    _say_left_out(places, base, layout)
    table = find_table(base)
    folders = [masks for pairs in places.values() for _, masks, _ in pairs if masks.is_dir()]
    masks = [_maps_in(folder) for folder in folders] if table is not None else []
    colored = declared.by_color or (
        table is not None and not declared.by_number and any(have_colors(files, table) for files in masks)
    )
    if table is not None:
        layout.take_table(table, by_color=colored, ignore=IGNORE)
    names = read_names(base / "codes.txt")
    if names is not None and table is None:
        layout.names = tuple(names)
    layout.by_color = colored
    for part, pairs in places.items():
        for images, masks_folder, above in pairs:
            _pair(layout, part, images, masks_folder, declared, above)
    part_by_lists(layout, declared)
    _part_by_folders(layout)
    return layout


def _part_by_folders(layout: Layout) -> None:
    """Give the samples of a layout without parts to those of the folders that they lie in, as `10k/train/a.jpg`."""
    samples = layout.samples.get(UNPARTED, [])
    said = [{PARTS[word] for word in map(key_of, Path(sample.name).parts[:-1]) if word in PARTS} for sample in samples]
    if not all(len(parts) == 1 for parts in said) or len(parts := set[str]().union(*said)) < 2 or "train" not in parts:
        return
    layout.samples = {
        part: [sample for sample, of in zip(samples, said, strict=True) if of == {part}]
        for part in PART_NAMES
        if part in parts
    }
    layout.notes.append(f"parts are those of the folders below: {', '.join(layout.samples)}")


def _say_left_out(places: Mapping[str, Sequence[Place]], base: Path, layout: Layout) -> None:
    """Note the folders of images beside those of the parts, as `images/extra/` beside `images/train/`."""
    taken = {images for pairs in places.values() for images, _, _ in pairs}
    for parent in sorted({images.parent for images in taken} - {base, *taken}):
        if parent.parent == base and parent.name.casefold() in _IMAGES:
            beside = [path for path in sorted(parent.iterdir()) if path.is_dir() and path not in taken]
            rest = [f"{path.relative_to(base)}/" for path in beside if list_images(path)]
            if rest:
                layout.notes.append(f"no part is called like {_some(rest)}: the images in there are passed over")
    homes = {images.parent for images in taken}
    if homes == {base} or all(home.parent == base for home in homes):
        sets = [path for path in (base, *sorted(base.iterdir())) if path.is_dir() and path not in {*homes, *taken}]
        found = [both[0] for path in sets if (both := _both(path)) is not None and list_images(both[0])]
        others = [images for images in found if not any(each.is_relative_to(images) for each in taken)]
        rest = [f"{images.relative_to(base).parent.as_posix()}/" for images in others]
        if rest:
            layout.notes.append(f"images and masks in {_some(rest)} belong to no part and are passed over")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_SHOWN]) + (", ..." if len(names) > _MOST_SHOWN else "")


def _maps_in(folder: Path) -> list[Path]:
    """Return the masks of a folder, without the maps of colours and objects that lie beside them."""
    return [path for path in list_images(folder) if not key_of(path.stem).endswith(_OTHER_MAPS)]


def _places(declared: Declaration, layout: Layout) -> dict[str, list[Place]]:
    """Return part -> folders of images and of masks, and what their images' names start with."""
    parallel = named_below(declared.base, declared.images, declared.masks) if _lie_deeper(declared) else None
    if parallel is None:
        places = _usual_places(declared)
        if places is not None:
            chosen = places if "masks" in declared.given else _choose(places, layout)
            return {part: [(*both, "")] for part, both in chosen.items()}
        parallel = choose_parallel(declared.base)
    if parallel is None:
        return {UNPARTED: [(*_folders(declared.base, declared), "")]}
    return _take_parallel(parallel, declared.base, layout)


def _lie_deeper(declared: Declaration) -> bool:
    """Whether both folders are named, and the images are not in the data set's folder or those of its parts."""
    deeper = {"images", "masks"} <= set(declared.given) and not declared.splits()
    return deeper and _usual_places(declared) is None and not (declared.base / declared.images).is_dir()


def _take_parallel(parallel: Parallel, base: Path, layout: Layout) -> dict[str, list[Place]]:
    """Return the places of folders that were found by what lies in them, and say so."""
    rest = passed_over(parallel, base)
    said = (
        f"; passed over: {', '.join(rest[:_MOST_SHOWN])}" + (", ..." if len(rest) > _MOST_SHOWN else "") if rest else ""
    )
    layout.notes.append(f"images are those of {parallel.images}/, masks those of {parallel.masks}/{said}")
    above = {pair[2] for pair in parallel.pairs}
    if len(above) > 1:
        group_by_folder(layout, above)
    return {
        part: [(images, masks, f"{path}/" if len(above) > 1 else "") for images, masks, path in pairs]
        for part, pairs in parts_of(parallel, base).items()
    }


def _usual_places(declared: Declaration) -> dict[str, tuple[Path, Path]] | None:
    """Return part -> (folder of images, folder of masks) of the usual or the declared names, or None."""
    base, values = declared.base, declared.given
    parts = {} if declared_lists(declared) else declared.splits()
    named = {"images", "masks"} & set(values)
    if not parts:
        by_part = find_parts(base, lambda folder: _find(folder, _IMAGES, values.get("images")) is not None)
        if by_part and not ((base / declared.images).is_dir() and named):
            parts = by_part
        if parts and not named and not any(map(_both, parts.values())) and find_parallel(base):
            return None  # masks in folders of other names
    if parts:
        return {part: _folders(folder, declared, part) for part, folder in parts.items()}
    both = _both(base, declared)
    below = _split_below(base, declared) or ({} if named or both else _sibling_parts(base))
    return below or (None if both is None else {UNPARTED: both})


def _choose(places: dict[str, tuple[Path, Path]], layout: Layout) -> dict[str, tuple[Path, Path]]:
    """Return the places with the folders of masks that are meant where there are several; all parts have one name."""
    first = "train" if "train" in places else next(iter(places))
    images, masks = places[first]
    named_both = images.name.casefold() in _IMAGES and masks.name.casefold() in _MASKS
    if not named_both or images.parent != masks.parent or not list_images(masks):
        return places
    taken, note = choose_masks(images, masks)
    if not note:
        return places
    layout.notes.append(note)
    named = {
        part: (pictures, other.with_name(taken.name)) for part, (pictures, other) in places.items() if part != first
    }
    return {part: named.get(part, (images, taken)) for part in places}


def _folders(folder: Path, declared: Declaration, part: str = UNPARTED) -> tuple[Path, Path]:
    both = _both(folder, declared)
    if both is not None:
        return both
    images = _find(folder, _IMAGES, declared.given.get("images"))
    if part == "test" and images is not None:
        return images, folder / declared.masks  # of a competition, which keeps the masks to itself
    for key, name, there in (("images", declared.images, images is not None), ("masks", declared.masks, False)):
        if not there:
            _refuse_unread_annotations(folder)
            raise DataError(
                f"there is no folder {name}/",
                file=folder,
                expected="images/ and masks/, a.png with a_mask.png, or a dataset.yaml",
                fix=_fix_of_missing(folder, key, name, declared.file)
                or "name the folders in a dataset.yaml: images: NAME and masks: NAME; or list pairs in a train.csv",
            )
    raise AssertionError  # one of the two is missing


def _fix_of_missing(folder: Path, key: str, name: str, file: Path) -> Fix | None:
    """Return the line that names the folder meant by `images` or `masks`, where there is one."""
    if key == "images":
        usual = _find(folder, _IMAGES, None)
        return None if usual is None else declare({key: usual.name}, file)
    below = _called_masks_below(folder)
    kind = {"masks_are": name} if name in MASK_KINDS else {}  # as it is said on the command line
    if len(below) == 1:
        return declare({key: below[0]} | kind, file)
    texts = [declare({key: each}).text for each in below]
    return Fix(" or ".join(texts), place=say_place({key: ""}, file)) if texts else None


def _called_masks_below(folder: Path) -> list[str]:
    """Return the folders called masks below another that hold images themselves, by their paths from it."""
    parents = {path.parent for path in list_images(folder)} if folder.is_dir() else set[Path]()
    folders = [path for path in sorted(parents) if path != folder and is_called_masks(path.name)]
    return [path.relative_to(folder).as_posix() for path in folders[:_MOST_SHOWN]]


def _refuse_unread_annotations(folder: Path) -> None:
    """Raise DataError if a file among the images names some of them, or is named like one, in a form not read."""
    stems = {key_of(path.stem) for path in folder.iterdir() if is_image(path)} if folder.is_dir() else set[str]()
    arrays = [file for file in (sorted(folder.iterdir()) if stems else ()) if is_unread(file) and file.is_file()]
    named = [file for file in arrays if {key_of(file.stem), partner_of(file.stem)} & stems]
    if named:
        raise DataError(
            "files named like the images are of a format that is not read",
            file=named[0],
            expected="masks as PNG or TIFF: a.png with a_mask.png",
            found=f"{len(named)} files, such as {named[0].name}",
            fix="in Cellpose, save masks as PNG (a_cp_masks.png)" if named[0].stem.endswith("_seg") else FIX,
        )
    below = {key_of(path.stem) for path in list_images(folder)[:_LOOKED_AT]}
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.suffix.lower() not in _TABLES or not file.is_file():
            continue
        with file.open("rb") as stream:
            head = stream.read(_PEEK).decode("utf-8", "replace")
        mentioned = sum(len(stem) > 2 and stem in key_of(head) for stem in stems | below)
        if any(ending in head.lower() for ending in IMAGE_SUFFIXES) or mentioned > 1:
            raise DataError(
                "the file names images, but is of no form of masks that is read",
                file=file,
                expected="COCO's, labelme's, VIA's or Label Studio's JSON, CVAT's XML, YOLO's polygons, run lengths",
                found=head.strip().partition("\n")[0][:_SHOWN],
                fix="export it as COCO (JSON) or as masks; or list image,mask in a train.csv",
            )


def _both(folder: Path, declared: Declaration | None = None) -> tuple[Path, Path] | None:
    values = declared.given if declared else {}
    images = _find(folder, _IMAGES, values.get("images"))
    masks = _find(folder, _MASKS, values.get("masks"))
    return None if images is None or masks is None or images == masks else (images, masks)


def _split_below(base: Path, declared: Declaration | None = None) -> dict[str, tuple[Path, Path]]:
    """Return part -> folders for `images/train` beside `masks/train`."""
    both = _both(base, declared)
    if both is None:
        return {}
    images, masks = (find_parts(folder, lambda _: True) for folder in both)
    if "train" not in images or "train" not in masks:
        images, masks = map(_parts_by_word, both)
    if "train" not in images or "train" not in masks:
        return {}
    return {part: (pictures, masks.get(part, both[1] / part)) for part, pictures in images.items()}


def _parts_by_word(folder: Path) -> dict[str, Path]:
    """Return part -> folder, as `train_images` and `val_images`; empty where two folders are of one part."""
    said = [(split_name(path.name)[0], path) for path in sorted(folder.iterdir()) if path.is_dir()]
    folders = {part: path for part, path in said if part}
    return folders if len(folders) == sum(bool(part) for part, _ in said) else {}


def _sibling_parts(base: Path) -> dict[str, tuple[Path, Path]]:
    """Return part -> folders for `train/ train_labels/ val/ val_labels/`, also `train_images/` and `trainannot/`."""
    there = {path.name.casefold(): path for path in base.iterdir() if path.is_dir()} if base.is_dir() else {}
    by_part = {}
    for part, names in PART_NAMES.items():
        images, masks = (
            next((there[key] for name in names for word in words for key in _joined(name, word) if key in there), None)
            for words in (("", *_IMAGES, "x"), (*MASK_FOLDERS, "lab", "lbl", "anno", "ann", "y"))
        )
        if images is not None and (masks is not None or part == "test"):
            by_part[part] = (images, masks or base / f"{part}_masks")
    return by_part if "train" in by_part and list_images(by_part["train"][1]) else {}


def _joined(part: str, word: str) -> list[str]:
    return [f"{part}{sign}{word}" for sign in ("_", "-", " ", "")] + [f"{word}{sign}{part}" for sign in ("_", "-")]


def _find(folder: Path, names: tuple[str, ...], declared: object) -> Path | None:
    if declared is not None:
        match = folder / str(declared)
        return match if match.is_dir() else None
    if not folder.is_dir():
        return None
    there = {path.name.casefold(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    known = [there[name] for name in names if name in there]
    return next((match for match in known if match.name in ("images", "masks") or list_images(match)), None)


def _pair(layout: Layout, part: str, images: Path, masks: Path, declared: Declaration, above: str = "") -> None:
    """Pair the images and masks of a part by their names without ending; names of samples start with `above`."""
    base = declared.base
    pictures = _by_key(layout, images, declared, _IMAGE_ENDINGS, None, without=masks)
    if not pictures:
        unread = list(unread_in(images))
        raise DataError(
            "no images",
            file=images,
            expected="files ending in " + " ".join(IMAGE_SUFFIXES),
            found="; ".join(unread_note(each, base) for each in unread) or None,
            fix=(save_arrays_one_by_one(unread[0].files[0], images.name) or FIX) if unread else None,
        )
    left_out = _by_key(Layout(), images, declared, _IMAGE_ENDINGS, None, excluded=True, without=masks)
    left_out = {key: file for key, file in left_out.items() if key not in pictures}
    labels = _by_key(layout, masks, declared, _MASK_SUFFIXES, left_out | pictures) if masks.is_dir() else {}
    labels = {key: file for key, file in labels.items() if key not in left_out}
    if not labels:
        _refuse_unread_masks(masks, base)
    if labels and not set(labels) & set(pictures):
        pairs = pair_by_difference(pictures, labels)
        labels = {pairs.get(key, key): file for key, file in labels.items()}
        if pairs:
            image = min(pairs.values())
            where = f" in {part}" if part else ""
            example = f"{image} and {labels[image].stem}"
            layout.notes.append(f"masks belong to images by what differs in their names{where}, as {example}")
    if not labels and part == "test":
        layout.notes.append("the test part has no masks and is left out")
        return
    if declared.leaves_out_unlabelled and (waiting := sorted(set(pictures) - set(labels))):
        first = pictures[waiting[0]].name
        layout.notes.append(f"{counted(len(waiting), 'image')} without a mask left out, such as {first}")
        pictures = {key: file for key, file in pictures.items() if key in labels}
    empty = sorted(set(pictures) - set(labels)) if declared.has_empty_masks else []
    if empty:
        layout.notes.append(f"{counted(len(empty), 'image')} without a mask: background alone")
    rename = _EXPORT if any(_OF_TASKS.match(Path(key).name) for key in labels) else _RENAME
    rename = _name_folders(pictures, labels, declared) or _choose_kind(pictures, labels, declared) or rename
    shifted = _find_shift(pictures, labels) if not empty else None
    for kind, files, others, folder, home in (
        ("missing-mask", pictures, labels, masks, images),
        ("missing-image", labels, pictures, images, masks),
    ):
        alone = sorted(set(files) - set(others) - set(empty))
        ending = shared_ending([files[key] for key in alone], [files[key] for key in files.keys() & others.keys()])
        for key in alone:
            file = files[key]
            figures = {"stem": file.stem, "folder": relative(folder, base)}
            name = file.name if file.parent == home else file.relative_to(home).as_posix()  # another may be called so
            mend = leave_out_or_empty if kind == "missing-mask" and not ending else leave_out
            fix = mend(f"*{ending}" if ending else name) if set(pictures) & set(labels) else rename  # not all of them
            fix = shifted or fix
            layout.faults.append(Finding(kind, Where(relative(file, base), name), figures, fix))
    source = ColorFile if layout.by_color else MaskFile
    instances, weights = (_beside(layout, masks, name, declared, pictures) for name in ("instances", "weights"))
    layout.samples[part] = layout.samples.get(part, []) + [
        Sample(
            above + pictures[key].relative_to(images).as_posix(),
            ImageFile(pictures[key]),
            source(labels[key]) if key in labels else EmptyMask(pictures[key]),
            MaskFile(instances[key]) if key in instances else None,
            WeightFile(weights[key]) if key in weights else None,
        )
        for key in sorted(set(pictures) & {*labels, *empty}, key=lambda key: pictures[key].name)
    ]


def _find_shift(images: Mapping[str, Path], masks: Mapping[str, Path]) -> Fix | None:
    """Return what to do where masks may be numbered from another number than images: 1.png is that of 0.png; or None.

    Then the first images and as many of the last masks are alone, or the other way round.
    """
    numbered = [{int(key): file for key, file in files.items() if key.isdecimal()} for files in (images, masks)]
    of_images, of_masks = (sorted(files) for files in numbered)
    if len(of_images) < len(images) or len(of_masks) < len(masks) or len(of_images) != len(of_masks):
        return None
    shift = of_masks[0] - of_images[0] if of_images else 0
    if not shift or [number + shift for number in of_images] != of_masks:
        return None
    first = numbered[1][of_masks[0]].name, numbered[0][of_images[0]].name
    return Fix(
        f"masks may be numbered from {of_masks[0]} and images from {of_images[0]}: number them alike if {first[0]} is"
        f" the mask of {first[1]}; else leave out those that are alone (exclude:)"
    )


def _refuse_unread_masks(folder: Path, base: Path) -> None:
    """Raise DataError if a folder holds no masks, but files of a format that is not read.

    Raises:
        DataError: it does.
    """
    passed_over = list(unread_in(folder))
    if passed_over:
        raise DataError(
            "no masks",
            file=folder,
            expected="files ending in " + " ".join(_MASK_SUFFIXES),
            found="; ".join(unread_note(each, base) for each in passed_over),
            fix=save_one_by_one(passed_over[0].files[0], "masks") or FIX,
        )


def _refuse_kinds(twins: Mapping[str, Sequence[Path]], folder: Path, declared: Declaration) -> None:
    """Raise DataError if there are several files for each name, told by their ends, as `a_labelIds`, `a_labelTrainIds`.

    Raises:
        DataError: they are; which kind is meant is for a person to say.
    """
    kinds = {
        tuple(sorted(file.stem[len(Path(key).name) :] + file.suffix for file in files)) for key, files in twins.items()
    }
    ends = next(iter(kinds))
    if len(kinds) > 1 or any(end.startswith(".") for end in ends):
        return
    raise DataError(
        "several files belong to each name",
        file=folder,
        expected="a mask for each image",
        found=" and ".join(f"*{end}" for end in ends),
        fix=_keep_one_kind(ends, declared),
        kind="ambiguous-names",
    )


def _keep_one_kind(ends: Sequence[str], declared: Declaration) -> Fix:
    """Return the lines of which each keeps the files of one end of their names, and leaves out the others."""
    others = ([f"*{other}" for other in ends if other != end] for end in ends)
    lines = " or ".join(declare({"exclude": patterns}).text for patterns in others)
    return Fix(lines, place=say_place({"exclude": []}, declared.file))


def _choose_kind(images: Mapping[str, Path], masks: Mapping[str, Path], declared: Declaration) -> Fix | None:
    """Return the lines that keep one of the masks of each image, as `a_anno1` and `a_anno2` of `a`, or None."""
    stems = {key_of(file.stem) for file in images.values()}
    ends: dict[str, set[str]] = {}
    for mask in masks.values():
        stem = key_of(mask.stem)
        cut = next((cut for cut in range(len(stem) - 1, 0, -1) if stem[:cut] in stems), 0)
        ends.setdefault(stem[:cut], set()).add(mask.stem[cut:] + mask.suffix)
    kinds = {tuple(sorted(of_image)) for of_image in ends.values()}
    if len(kinds) != 1 or set(ends) != stems or len(kind := next(iter(kinds))) < 2:
        return None
    return _keep_one_kind(kind, declared)


def _name_folders(images: Mapping[str, Path], masks: Mapping[str, Path], declared: Declaration) -> Fix | None:
    """Return the lines that name the folders in which images and masks of the same names lie, or None.

    They lie deeper than those that were looked into, as in `images/10k/train/` and `labels/sem_seg/masks/train/`.
    """
    stem = key_of(next(iter(images.values())).stem)
    of_one = ([file for file in files.values() if key_of(file.stem) == stem] for files in (images, masks))
    lines = []
    for image, mask in product(*of_one):
        places = [file.parent.relative_to(declared.base).parts for file in (image, mask)]
        shared = os.path.commonprefix([parts[::-1] for parts in places])  # their parts, such as train/
        above = ["/".join(parts[: len(parts) - len(shared)]) for parts in places]
        lines.append(declare({"images": above[0], "masks": above[1]}).text)
    lines = sorted(lines, key=lambda line: "rgb" not in line.casefold())
    return Fix(" or ".join(lines[:_MOST_SHOWN]), place=say_place({"masks": ""}, declared.file)) if lines else None


def _beside(
    layout: Layout, masks: Path, name: str, declared: Declaration, pictures: Mapping[str, Path]
) -> dict[str, Path]:
    """Return the files of a folder `name` beside that of the masks, or beside the one that theirs lies in, by key."""
    for folder in (masks.parent / name, masks.parent.parent / name / masks.name):
        if folder.is_dir() and folder != masks:
            return _by_key(layout, folder, declared, _MASK_SUFFIXES, pictures)
    return {}


def _by_key(
    layout: Layout,
    folder: Path,
    declared: Declaration,
    endings: tuple[str, ...],
    partners: Mapping[str, Path] | None,
    excluded: bool = False,
    without: Path | None = None,
) -> dict[str, Path]:
    """Return name without ending -> file; a mask's name may be an image's with one of `endings`, or with its suffix.

    Files that are declared to be left out are; with `excluded`, only those are returned. Those below `without`, a
    folder of masks among the images, are left out, too.
    """
    by_key: dict[str, Path] = {}
    twins: dict[str, list[Path]] = {}
    whole = {(key.rpartition("/")[0], key_of(path.stem)): key for key, path in (partners or {}).items()}
    twice = repeated(stem for _, stem in whole)
    flat = {stem: key for (_, stem), key in whole.items() if stem not in twice}
    within = without is not None and without != folder and without.is_relative_to(folder)
    for path in list_images(folder):
        stem = key_of(path.stem)
        if within and without is not None and path.is_relative_to(without):
            continue
        out = declared.excludes(path.relative_to(folder)) or declared.excludes(relative(path, declared.base))
        if out != excluded or stem.endswith(_OTHER_MAPS):
            continue
        above = key_of(path.parent.relative_to(folder).as_posix()).strip(".")
        key = whole.get((above, stem)) or (flat.get(stem) if not above else None)
        if key is None:
            ending = next((e for e in endings if stem.endswith(e)), "")
            stem = stem[: len(stem) - len(ending)]
            key = whole.get((above, stem)) or "/".join(filter(None, (above, stem)))
        if key in by_key:
            twins.setdefault(key, [by_key[key]]).append(path)
        by_key[key] = path
    if len(twins) > 1 and 2 * len(twins) > len(by_key):
        _refuse_kinds(twins, folder, declared)
    for files in twins.values():
        last = files[-1]
        figures = {"files": sorted(file.name for file in files)}
        where = Where(relative(last, declared.base), last.name)
        both = without is not None and (without / last.name).exists()  # its mask is called so, too
        name = relative(last, declared.base) if both else last.name
        layout.faults.append(Finding("ambiguous-names", where, figures, leave_out(name)))
    return by_key
