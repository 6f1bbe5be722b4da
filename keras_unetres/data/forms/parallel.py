"""Folders of images and of masks whose paths differ in one name, whatever the names are.

    original/a.png ground truth/a.png      img_dir/train/a.jpg ann_dir/train/a.png      p01/scans/a.tif p01/masken/a.tif

A folder holds masks if its name says so, most of its files have names of images, and their pixels have few values.
Where the name says nothing, it is for a person to say.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetres_edge.errors import DataError, Fix, UnetresError
from unetres_edge.images.decode import IMAGE_SUFFIXES, read_image

from ..fixes import declare
from ..turned import BETTER, edges_of, on_outlines
from .choosing import TRUTHS, pair_by_difference
from .layout import PART_NAMES, UNPARTED, key_of
from .looks import MASK_FOLDERS, look_like_masks

_CALLED = re.compile(r"annot|label|mas[kq]|segment|truth|trimap|manual", re.IGNORECASE)
_CALLED_WORDS = {"ann", "anno", "gt", "seg", "semantic", "lbl", "matte", "target", "targets", "roads"}
_PICTURES = re.compile(r"im(age|g)|orig|pic|photo|input|raw|scan|slice|tissue|jpe?g|rgb|ortho|frame", re.IGNORECASE)
_OTHER_USES = re.compile(r"overlay|preview|visuali|colou?r|rgb|instance|weight|bound|edge|contour|depth", re.IGNORECASE)
_NO_PICTURES = re.compile(
    r"overlay|preview|visuali|instance|panopti|weight|bound|edge|contour|depth|d[est]m\b|height", re.IGNORECASE
)
_NUMBER = re.compile(r"\d+")
_WORDS = re.compile(r"[^\W\d_]+")
_MOST_FOLDERS = 3000
_MOST_STEMS = 2000  # of a folder, by which it is told what belongs to what
_MOST_SIDE_BY_SIDE = 12  # folders of which each is compared with each
_MOST_UNNAMED = 6  # folders side by side of which one may hold masks although its name says nothing
_LOOKED_AT = 5  # files of a folder
_SHORT = {"tr": "train", "te": "test", "ts": "test"}  # words of names of folders that differ in them alone
_HELD_BACK = {name for part in ("val", "test") for name in PART_NAMES[part]}


@dataclass(frozen=True)
class Parallel:
    """Folders of images and of masks.

    Args:
        images, masks: the names in which their paths differ.
        pairs: (folder of images, folder of masks, path above them without part and without that name).
        parted: whether the names of the folders themselves say the parts, as `Training_Input` and `Test_Input`.
    """

    images: str
    masks: str
    pairs: tuple[tuple[Path, Path, str], ...]
    parted: bool = False

    @property
    def fix(self) -> Fix:
        """The declaration that names both."""
        return declare({"images": self.images, "masks": self.masks})


def find_parallel(base: Path, *, called: bool = True) -> list[Parallel]:
    """Return the pairs of folders below `base` that belong to each other, one for each pair of names.

    Args:
        called: whether the names of the folders of masks have to say so.
    """
    leaves = _leaves(base)
    groups: dict[tuple[int, tuple[str, ...], tuple[str, ...]], list[Path]] = defaultdict(list)
    for folder in leaves:
        parts = folder.relative_to(base).parts
        for level in range(len(parts)):
            groups[level, parts[:level], parts[level + 1 :]].append(folder)
    pairs_of: dict[tuple[str, str], list[tuple[Path, Path, str]]] = defaultdict(list)
    single: dict[tuple[str, str], list[tuple[Path, Path, str]]] = defaultdict(list)
    for (level, _, _), folders in groups.items():
        for images, masks in _candidates(folders, base, level, called):
            names = images.relative_to(base).parts[level], masks.relative_to(base).parts[level]
            pair = images, masks, _above(images.relative_to(base).parts, level)
            if _belong(leaves[images], leaves[masks], few=len(folders) <= _MOST_SIDE_BY_SIDE):
                pairs_of[names].append(pair)
            elif not set(leaves[images]).isdisjoint(leaves[masks]):
                single[names].append(pair)  # of one image, which says nothing alone
    for names, pairs in pairs_of.items():
        pairs += single[names]
    for images, masks, level in _deeper(leaves, base) if called else ():
        if _belong(leaves[images], leaves[masks]):
            of_images, of_masks = (folder.relative_to(base).parts for folder in (images, masks))
            names = "/".join(of_images[level:]), "/".join(of_masks[level:])
            pairs_of[names].append((images, masks, _above(of_images[: level + 1], level)))
    for masks in leaves:
        images = masks.parent
        in_images = images in leaves or images == base
        if called and in_images and is_called_masks(masks.name) and images.name.casefold() not in _HELD_BACK:
            pictures = [key_of(path.stem) for path in _files(images)]
            if _belong(pictures, leaves[masks]):
                path = images.relative_to(base)
                pairs_of[path.as_posix(), f"{path.as_posix()}/{masks.name}".removeprefix("./")].append(
                    (images, masks, "")
                )
    paired = {pair[1] for names, pairs in pairs_of.items() if not _NO_PICTURES.search(names[0]) for pair in pairs}
    for images, masks in _above_masks(leaves) if called else ():
        if masks not in paired and _belong(leaves[images], leaves[masks]):
            of_images = images.relative_to(base).parts
            names = images.name, f"{masks.parent.name}/{masks.name}"
            pairs_of[names].append((images, masks, _above(of_images, len(of_images) - 1)))
    candidates = (Parallel(*names, tuple(sorted(pairs))) for names, pairs in pairs_of.items())
    return [each for each in candidates if all(_look(each, leaves, called))]


def _above_masks(leaves: Mapping[Path, Sequence[str]]) -> Iterator[tuple[Path, Path]]:
    """Yield (images, masks) of a folder of masks below one that lies beside the images: `images`, `v1.2/labels`."""
    for masks in filter(lambda folder: is_called_masks(folder.name), leaves):
        for images in leaves:
            beside = images.parent == masks.parent.parent and not is_called_masks(images.name)
            if beside and _PICTURES.search(images.name) and not _NO_PICTURES.search(images.name):
                yield images, masks


def _deeper(leaves: Mapping[Path, Sequence[str]], base: Path) -> Iterator[tuple[Path, Path, int]]:
    """Yield (images, masks, level) of folders whose paths differ by one name that says masks, and is not the last.

    As `train/images` and `train/Semantic_masks/images`, whose level is 1.
    """
    for masks in leaves:
        parts = masks.relative_to(base).parts
        for level, name in enumerate(parts[:-1]):
            images = base.joinpath(*parts[:level], *parts[level + 1 :])
            if images in leaves and is_called_masks(name) and not any(map(is_called_masks, parts[level + 1 :])):
                yield images, masks, level


def choose_parallel(base: Path) -> Parallel | None:
    """Return the folders of images and masks below `base`, or None where there are none.

    Raises:
        DataError: several that no name decides between, or folders that may be data sets of their own.
    """
    candidates = find_parallel(base)
    candidates = [each for each in candidates if not _NO_PICTURES.search(each.images)] or candidates
    pictures = {each.images for each in candidates}
    if len(pictures) > 1:
        candidates = [each for each in candidates if _PICTURES.search(each.images)] or candidates
    truths = [each for each in candidates if each.masks.casefold() in ("masks", *TRUTHS)]
    candidates = (
        truths if len(truths) == 1 else [e for e in candidates if not _OTHER_USES.search(e.masks)] or candidates
    )
    if not candidates:
        return None
    candidates = _join_parts(candidates) or _join_numbered(candidates) or candidates
    if len(candidates) > 1:
        raise DataError(
            "several folders may hold the masks"
            if len({e.images for e in candidates}) == 1
            else "it is not known which",
            file=base,
            expected="one folder of images and one of masks, named in a dataset.yaml",
            found=", ".join(sorted({f"{each.images}/ with {each.masks}/" for each in candidates})),
            fix=" or ".join(each.fix.text for each in candidates),
        )
    chosen = candidates[0]
    if not _is_one_set(chosen, base):
        above = [pair[2] for pair in chosen.pairs]
        one = Fix(f"name one, such as {(base / above[0]).as_posix()}")
        for_all = Fix(f"{one.text}, or, for all: {chosen.fix.text}", chosen.fix.patch)
        raise DataError(
            "the folder holds several data sets",
            file=base,
            expected="one of them, or a dataset.yaml that says that they are one",
            found=", ".join(dict.fromkeys(above)),
            fix=one if _are_twins(chosen) else for_all,
        )
    return chosen


def _are_twins(parallel: Parallel) -> bool:
    """Whether the first two folders hold the same image by the same name, as of one set in two formats."""
    first, second = ({key_of(file.stem): file for file in _files(pair[0])} for pair in parallel.pairs[:2])
    shared = sorted(first.keys() & second.keys())
    if not shared or first[shared[0]].suffix == second[shared[0]].suffix:
        return False
    try:
        return np.array_equal(read_image(first[shared[0]]), read_image(second[shared[0]]))
    except UnetresError:
        return False


def _join_parts(candidates: Sequence[Parallel]) -> list[Parallel]:
    """Return the one pair that those are whose names differ by that of a part alone; empty where they do not."""
    by_part: dict[str, Parallel] = {}
    kinds = set()
    for each in candidates:
        (part, images), (other, masks) = map(split_name, (each.images, each.masks))
        if part == other != "":
            by_part[part] = each
            kinds.add((images, masks))
    if len(kinds) != 1 or "train" not in by_part or len(by_part) < 2:
        return []
    joined = [by_part[part] for part in PART_NAMES if part in by_part]
    images, masks = (", ".join(getattr(each, which) for each in joined) for which in ("images", "masks"))
    return [Parallel(images, masks, tuple(pair for each in joined for pair in each.pairs), parted=True)]


def _join_numbered(candidates: Sequence[Parallel]) -> list[Parallel]:
    """Return the one pair that those of one number are, as `Slide_01` and `GT_01`; empty where names differ more."""
    numbers = [(each, _NUMBER.findall(each.images), _NUMBER.findall(each.masks)) for each in candidates]
    same = [each for each, of_images, of_masks in numbers if of_images == of_masks != []]
    kinds = {(_NUMBER.sub("*", each.images), _NUMBER.sub("*", each.masks)) for each in same}
    images = [each.images for each in same]
    if len(kinds) != 1 or len(same) < 2 or len(set(images)) < len(images):
        return []
    if {name for each in candidates for name in (each.images, each.masks)} != {*images, *(each.masks for each in same)}:
        return []
    pairs = [(pair[0], pair[1], f"{pair[2]}/{each.images}".strip("/")) for each in same for pair in each.pairs]
    return [Parallel(*next(iter(kinds)), tuple(sorted(pairs)))]


def split_name(name: str) -> tuple[str, str]:
    """Return the part that a word of a folder's name says, or "", and the name without that word."""
    words = {word.casefold(): word for word in _WORDS.findall(name)}
    said = [(part, words[known]) for part, names in PART_NAMES.items() for known in names if known in words]
    said = said or [(part, words[known]) for known, part in _SHORT.items() if known in words]
    return (said[0][0], name.replace(said[0][1], "")) if len(said) == 1 else ("", name)


def named_below(base: Path, images: str, masks: str) -> Parallel | None:
    """Return the folders of two declared names wherever they lie below `base` side by side, or None."""
    pairs = []
    for folder in sorted({parent for leaf in _leaves(base) for parent in (leaf, *leaf.parents)}):
        if not folder.is_relative_to(base) or folder == base:
            continue
        parts = folder.relative_to(base).parts
        wanted, other = Path(images).parts, Path(masks).parts
        if parts[-len(wanted) :] == wanted:
            beside = base.joinpath(*parts[: -len(wanted)], *other)
            if beside.is_dir():
                pairs.append((folder, beside, _above(parts, len(parts) - 1)))
    return Parallel(images, masks, tuple(pairs)) if pairs else None


def parts_of(parallel: Parallel, base: Path) -> dict[str, list[tuple[Path, Path, str]]]:
    """Return part -> pairs of folders, by the names above them."""
    by_part: dict[str, list[tuple[Path, Path, str]]] = defaultdict(list)
    for pair in parallel.pairs:
        names = pair[0].relative_to(base).parts
        lower = {name.casefold() for name in names}
        part = next((part for part, known in PART_NAMES.items() if not lower.isdisjoint(known)), UNPARTED)
        part = part or next((said for name in names[:-1] if (said := split_name(name)[0])), UNPARTED)
        part = split_name(pair[0].name)[0] if parallel.parted else part
        by_part[part].append(pair)
    if len(by_part) == 1 or "train" not in by_part or UNPARTED in by_part:
        return {UNPARTED: list(parallel.pairs)}
    return {part: by_part[part] for part in PART_NAMES if part in by_part}


def passed_over(parallel: Parallel, base: Path) -> list[str]:
    """Return the folders below `base` that hold images and belong to neither."""
    used = [folder for pair in parallel.pairs for folder in pair[:2]]
    rest = (f for f in _leaves(base) if not any(f == known or f.is_relative_to(known) for known in used))
    return [folder.relative_to(base).as_posix() + "/" for folder in sorted(rest)]


def _leaves(base: Path) -> dict[Path, Sequence[str]]:
    """Return the folders below `base` that hold images themselves -> their keys; none where there are too many."""
    keys_of: dict[Path, Sequence[str]] = {}
    seen: set[Path] = set()
    waiting = [base]
    while waiting:
        folder = waiting.pop()
        real = Path(os.path.realpath(folder))
        if real in seen or len(seen) >= _MOST_FOLDERS:
            continue
        seen.add(real)
        try:
            inside = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX")))
        except OSError:
            continue
        stems = [path.stem for path in inside if path.suffix.lower() in IMAGE_SUFFIXES]
        if stems and folder != base:
            keys_of[folder] = [key_of(stem) for stem in stems[:_MOST_STEMS]]
        waiting += [path for path in inside if path.suffix.lower() not in IMAGE_SUFFIXES and path.is_dir()]
    return keys_of if len(seen) < _MOST_FOLDERS else {}


def is_called_masks(name: str) -> bool:
    """Whether the name of a folder says that it holds masks."""
    words = {word.casefold() for word in _WORDS.findall(name)}
    return name.casefold() in MASK_FOLDERS or bool(_CALLED.search(name) or words & _CALLED_WORDS)


def _candidates(folders: Sequence[Path], base: Path, level: int, called: bool) -> Iterator[tuple[Path, Path]]:
    """Yield (images, masks) of folders that differ in one name, those whose names do not speak against it."""
    names = {folder: folder.relative_to(base).parts[level] for folder in folders}
    masks = [folder for folder in folders if is_called_masks(names[folder]) == called]
    if not called and len(folders) > _MOST_UNNAMED:
        return
    others = [folder for folder in folders if not is_called_masks(names[folder])] or (masks if called else [])
    for mask in masks:
        for images in others:
            if images != mask and names[images].casefold() not in _HELD_BACK:
                yield images, mask


def _belong(images: Sequence[str], masks: Sequence[str], *, few: bool = True) -> bool:
    """Whether most files of one folder have the names of files of the other, or differ from them in one way.

    Args:
        few: whether there are few folders, so that names that differ are looked at for long.
    """
    pictures, others = set(images), set(masks)
    least = max(2, min(len(pictures), len(others)) / 2)
    same = len(pictures & others)
    longer = sum(any(stem[:end] in pictures for end in _ends(stem)) for stem in masks) if not same else 0
    if max(same, longer) >= least:
        return True
    if not few:
        return False
    paths = [{stem: Path(stem) for stem in stems} for stems in (images, masks)]
    return len(pair_by_difference(*paths)) >= least


def _ends(stem: str) -> list[int]:
    return [index for index, sign in enumerate(stem) if index and sign in "_-. "]


def _look(parallel: Parallel, leaves: Mapping[Path, Sequence[str]], called: bool) -> Iterator[bool]:
    """Yield whether the folders of masks look like it; and lie on the images where no name says which is which."""
    for images, masks, _ in (parallel.pairs[0], parallel.pairs[-1]):
        yield look_like_masks(_files(masks)) and (called or _lie_on(_files(images), _files(masks)))
        yield not is_called_masks(parallel.images) or not look_like_masks(_files(images))


def _lie_on(images: Sequence[Path], masks: Sequence[Path]) -> bool:
    """Whether pictures that are no masks have edges where those of the masks of the same names are."""
    by_stem = {key_of(path.stem): path for path in images}
    scores = []
    for mask in masks[:_LOOKED_AT]:
        try:
            image, values = read_image(by_stem[key_of(mask.stem)]), read_image(mask)
        except (KeyError, UnetresError):
            continue
        if image.shape[:2] == values.shape[:2]:
            scores.append(on_outlines(edges_of(image), values if values.ndim == 2 else values.max(-1)))
    return bool(scores) and float(np.mean(scores)) > BETTER and not look_like_masks(images)


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))


def _above(parts: Sequence[str], level: int) -> str:
    """Return a path without the name that differs, and without what says a part."""
    kept = [split_name(name)[1].strip("_-. ") for at, name in enumerate(parts) if at != level]
    return "/".join(filter(None, kept))


def _is_one_set(parallel: Parallel, base: Path) -> bool:
    """Whether folders are of one data set: numbered ones, or the same in every part."""
    above = {pair[2] for pair in parallel.pairs}
    if len({re.sub(r"\d+", "0", path) for path in above}) == 1:
        return True
    by_part = parts_of(parallel, base)
    return len(by_part) > 1 and all({pair[2] for pair in pairs} == above for pairs in by_part.values())
