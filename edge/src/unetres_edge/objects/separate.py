"""From probabilities to single objects, by watershed from one marker an object (Meyer 1994).

A network that knows the borders between touching objects (the target `borders`) has its markers where it sees interior
and no border. One that knows objects only has them where an object is thickest: of two such places, one survives
unless the neck between them is narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from ..model.background import find_background
from ..results.result import Result
from ..results.softmax import probabilities
from .defaults import MIN_SIZE, NECK, NECK_OF_CORES, THRESHOLD
from .morphology import connected, distance_inside, local_maxima, neighbours, reconstruct, watershed

_BORDER = "border"  # the name that the target `borders` gives to the class between objects


@dataclass(frozen=True)
class Separation:
    """How pixels become objects.

    Args:
        objects: names of the classes whose pixels are objects; None for every class but the background and the border.
        border: name of the class between touching objects, or None: "border" where the model has such a class.
        threshold: probability of object, interior and border together, above which a pixel belongs to one.
        marker: least by which interior must be more probable than border for a pixel to be part of a marker. Of models
            with a border class.
        split: whether to part objects that touch. Without it, what is connected is one object.
        neck: width of a neck, as a share of the thinner of the two parts that it joins, below which they are two
            objects. A higher value splits more. None for 0.8, or for 0.65 of models with a border class, whose
            markers are separate already as a rule.
        depth: px by which the neck has to be narrower at each side, too, so that rough outlines split nothing.
        min_size: area in px; smaller objects are left out.
        fill_holes: whether what one object encloses belongs to it.
        connectivity: 4 or 8 neighbours, through which pixels are connected.
    """

    objects: tuple[str, ...] | None = None
    border: str | None = None
    threshold: float = THRESHOLD
    marker: float = 0.0
    split: bool = True
    neck: float | None = None
    depth: float = 1.0
    min_size: int = MIN_SIZE
    fill_holes: bool = True
    connectivity: int = 8

    def __post_init__(self) -> None:
        for name, low, high in (("threshold", 0, 1), ("marker", -1, 1), ("neck", 0, 1)):
            value = getattr(self, name)
            _check(value is None or low < value < high, name, f"a number between {low} and {high}", value)
        _check(self.depth >= 0, "depth", "px, 0 or more", self.depth)
        _check(isinstance(self.min_size, int) and self.min_size >= 0, "min_size", "px, 0 or more", self.min_size)
        _check(self.connectivity in (4, 8), "connectivity", "4 or 8", self.connectivity)
        _check(self.objects is None or len(self.objects) > 0, "objects", "one class or more", self.objects)


@dataclass(frozen=True)
class Instances:
    """The objects of one image.

    Args:
        labels: (H, W) int32; 0 is background, objects are numbered 1, 2, ... without gaps, class by class and in the
            order of their first pixel.
        class_ids: the class of each object, so that object n is of class `class_ids[n - 1]`.
        class_names: the name of each class id.
    """

    labels: np.ndarray
    class_ids: tuple[int, ...]
    class_names: tuple[str, ...]

    def counts(self, among: Sequence[str]) -> dict[str, int]:
        """Return the number of objects of each class named."""
        return {name: sum(self.class_names[number] == name for number in self.class_ids) for name in among}


def find_instances(result: Result, how: Separation | None = None) -> Instances:
    """Return the objects of a segmented image.

    Args:
        result: result of `Segmenter.segment(image, scores=True)`.

    Raises:
        UsageError: the result has no scores, or the model no such classes.
    """
    if result.scores is None:
        raise UsageError("objects are found from scores", fix="segment(image, scores=True)")
    chances = probabilities(result.scores, result.activation)
    if result.activation != "softmax":  # each by itself; their shares agree with the class map
        chances = chances / np.maximum(chances.sum(-1, keepdims=True), np.finfo(np.float32).tiny)
    return separate(chances, result.class_names, how, result.background)


def separate(
    chances: np.ndarray, class_names: Sequence[str], how: Separation | None = None, background: int = -1
) -> Instances:
    """Return the objects in a map of probabilities.

    Args:
        chances: (H, W, classes) floats, which sum to 1 at every pixel. Scores become that by
            `unetres_edge.results.softmax.probabilities`.
        class_names: the name of each class.
        how: the way pixels become objects; None for the usual one.
        background: the class that no object is of; -1 for that whose name says so, else 0.

    Raises:
        UsageError: not probabilities of these classes, or `how` names a class that is not there.
    """
    how = how or Separation()
    chances = np.asarray(chances)
    _check_chances(chances, class_names)
    object_ids, border = object_classes(class_names, how, background), border_class(class_names, how, background)
    labels = np.zeros(chances.shape[:2], np.int32)
    class_ids: list[int] = []
    if not labels.size:
        return Instances(labels, (), tuple(class_names))
    likeliest = np.asarray(object_ids)[chances[..., object_ids].argmax(-1)]
    for number in object_ids:
        interior = chances[..., number]
        rim = None if border is None else chances[..., border]
        inside = (likeliest == number) & ((interior if rim is None else interior + rim) > how.threshold)
        parts = _tidy(_part(inside, interior, rim, how), how)
        free = (parts > 0) & (inside | (labels == 0))  # what fills a hole replaces no object in it
        labels[free] = parts[free] + len(class_ids)
        class_ids += [number] * int(parts.max(initial=0))
    return Instances(labels, tuple(class_ids), tuple(class_names))


def object_classes(class_names: Sequence[str], how: Separation, background: int = -1) -> list[int]:
    """Return the ids of the classes whose pixels are objects; `background` as in `separate`.

    Raises:
        UsageError: a class named is not there.
    """
    others = _foreground(class_names, background)
    border = border_class(class_names, how, background)
    if how.objects is None:
        return [number for number in others if number != border]
    return [_find(name, class_names, others) for name in how.objects]


def border_class(class_names: Sequence[str], how: Separation, background: int = -1) -> int | None:
    """Return the id of the class between touching objects, or None; `background` as in `separate`.

    Raises:
        UsageError: the class named is not there.
    """
    if how.border is not None:
        return _find(how.border, class_names, _foreground(class_names, background))
    return list(class_names).index(_BORDER) if _BORDER in class_names and len(class_names) > 2 else None


def _part(inside: np.ndarray, interior: np.ndarray, rim: np.ndarray | None, how: Separation) -> np.ndarray:
    """Return the objects (H, W) int32 of the pixels that are `inside`, each grown from one marker."""
    pieces = _connected(inside, how)
    if not how.split or not pieces.any():
        return pieces
    surplus = interior if rim is None else interior - rim
    core = inside if rim is None else inside & (surplus >= how.marker)
    if how.fill_holes:  # specks, which would pull a thick place apart; a larger hole may lie between many objects
        core = _filled(_connected(core, how), how, how.min_size) > 0
    depth = distance_inside(core)
    height = depth + surplus  # outside of the cores, which are at least 1 px deep, the network's word alone
    usual = NECK if rim is None else NECK_OF_CORES
    markers = _connected(_thickest(depth, how.neck or usual, how.depth), how)
    missed = inside & ~np.isin(pieces, np.unique(pieces[markers > 0]))  # all rim: still an object each
    markers[missed] = pieces[missed] + markers.max()
    return watershed(height, markers, inside | core, how.connectivity)


def _thickest(distance: np.ndarray, neck: float, depth: float) -> np.ndarray:
    """Return where an object is thicker than anywhere around, up to a neck; distance (H, W) px to its outline.

    The h-maxima of Soille 2003, with a height that grows with the object: seen from a summit at d, what lies between
    it and a higher one must fall below both d - depth and neck * d.
    """
    lowered = np.minimum(distance - depth, neck * distance).clip(0)
    return local_maxima(reconstruct(lowered, distance)) & (distance > 0)


def _tidy(labels: np.ndarray, how: Separation) -> np.ndarray:
    """Fill holes, leave out small objects, and number the others without gaps in the order of their first pixel."""
    if how.fill_holes:
        labels = _filled(labels, how)
    sizes = np.bincount(labels.ravel())
    kept, first = np.unique(labels, return_index=True)
    order = [number for _, number in sorted(zip(first, kept, strict=True)) if number and sizes[number] >= how.min_size]
    renumbered = np.zeros(len(sizes), np.int32)
    renumbered[order] = np.arange(1, len(order) + 1)
    return renumbered[labels]


def _filled(labels: np.ndarray, how: Separation, below: float = np.inf) -> np.ndarray:
    """Give a region of background that one object encloses, of less than `below` px, to that object."""
    ways = 4 if how.connectivity == 8 else 8  # where objects are connected through corners, background is not
    holes = connected(labels == 0, ways)
    highest, lowest = labels.copy(), np.where(labels > 0, labels, np.iinfo(labels.dtype).max)
    for other, edge in zip(neighbours(labels, ways, 0), neighbours(labels, ways, -1), strict=True):
        np.maximum(highest, other, out=highest)
        np.minimum(lowest, np.where(edge == 0, lowest, edge), out=lowest)  # -1: the image's edge is a neighbour too
    most = np.zeros(holes.max() + 1, labels.dtype)
    least = np.full(holes.max() + 1, np.iinfo(labels.dtype).max, labels.dtype)
    np.maximum.at(most, holes.ravel(), highest.ravel())
    np.minimum.at(least, holes.ravel(), lowest.ravel())
    owner = np.where(most == least, most, 0)
    owner[np.bincount(holes.ravel()) >= below] = 0
    owner[0] = 0
    return np.where(labels == 0, owner[holes], labels).astype(labels.dtype)


def _connected(mask: np.ndarray, how: Separation) -> np.ndarray:
    return connected(mask, how.connectivity)


def _foreground(class_names: Sequence[str], background: int) -> list[int]:
    """Return the ids of all classes but the background."""
    behind = find_background(class_names) if background == -1 else background
    return [number for number in range(len(class_names)) if number != behind]


def _find(name: str, class_names: Sequence[str], among: Sequence[int]) -> int:
    class_id = next((number for number in among if class_names[number] == name), None)
    if class_id is None:
        known = ", ".join(class_names[number] for number in among)
        raise UsageError("the model has no such class of objects", expected=known, found=name)
    return class_id


def _check_chances(chances: np.ndarray, class_names: Sequence[str]) -> None:
    if chances.ndim != 3 or chances.shape[-1] != len(class_names) or len(class_names) < 2:
        raise UsageError(
            "not a map of probabilities", expected=f"(H, W, {max(len(class_names), 2)})", found=chances.shape
        )
    if chances.size and (chances.min() < 0 or np.abs(chances.sum(-1) - 1).max() > 1e-3):
        raise UsageError(
            "these are not probabilities",
            expected="numbers from 0 to 1 that sum to 1 at every pixel",
            found=f"{chances.min():.4g}..{chances.max():.4g}",
            fix="pass unetres_edge.results.softmax.probabilities(scores)",
        )


def _check(right: bool, name: str, expected: str, found: object) -> None:
    if not right:
        raise UsageError(f"separation {name} is wrong", expected=expected, found=found)
