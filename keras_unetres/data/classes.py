"""Which mask value is which class, and the masks that do not fit: judged over all masks of a data set at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from unetres_edge.errors import DataError, Fix
from unetres_edge.images.bands import bands
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.model.background import find_background, is_background
from unetres_edge.model.card import default_colors

from .colortables import Color, camvid_table, unpack, voc_table
from .dataset import Dataset
from .findings import shorten
from .fixes import declare, to_yaml, values_patch
from .forms import FORMATS
from .mask_shapes import blend_at_edges, lies_inside, number_in_order, number_pieces
from .smears import FIX as SMEARED_FIX
from .targets import semantic, separated, with_borders

_MOST_UNNAMED_CLASSES = 32
_FEW_NAMES = 10
_FEW_OBJECTS = 4  # values of a mask of two classes; more, without a gap, number objects
_ODD_SHARE = 0.9
_OWN_SHARE = 0.8  # of the masks that number their values, of which it is said
_FEW_MASKS = 100  # a value that no more than one mask in this many holds is taken for a stray, unless it has a name
_ENOUGH_MASKS = 20
_WIDEST_TABLE = 1 << 17
_FEWEST_BLENDS = 5  # values of masks that are blends of two
_FEWEST_NUMBERED = 8  # masks, and numbers in them, that tell objects from classes
_FEWEST_COUNTS = 3  # of values in masks, of which it is said that they may number objects
_BLEND_SHARE = 0.03  # of the pixels that a blend of two colours has at most
_BLEND_REACH = 0.2  # of the way between them, by which sharpening goes beyond
_BLEND_ROUNDING = 12  # levels off the line between them
_MOST_BLENDS = 512  # colours of a declaration
_WHITE = (255, 65535)  # what programs write for the foreground of a mask of 8 or 16 bits
_LARGEST_ID = 64  # of values that are taken for class ids and not for grey levels
_TWO_NAMES = ("background", "foreground")


@dataclass(frozen=True)
class Classes:
    """The classes of a data set and the mask value that stands for each.

    Args:
        names: class names, by class id.
        colors: (red, green, blue) of each.
        values: mask value, or class id of an image, -> class id or `IGNORE`; None where masks hold instance ids.
        note: mapping of the values, in words, or "".
        ignore: the mask value that means "not labelled" where masks hold instance ids, or None.
        target: kind of classes that instance ids become, see `Reading`.
        used: the values in those masks that hold no other value.
        masks: mask value -> number of masks that hold it, also those that are no class.
        background: the class of which no objects are made.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    values: dict[int, int] | None
    note: str = ""
    ignore: int | None = None
    target: str = "semantic"
    used: frozenset[int] = frozenset()
    masks: Mapping[int, int] = field(default_factory=dict)
    background: int = 0

    @property
    def ignores(self) -> bool:
        """Whether some value means "not labelled"."""
        if self.values is None:
            return self.ignore is not None
        return len(self.names) <= IGNORE and IGNORE in self.values.values()  # of images there may be more classes

    def strange(self, stored: np.ndarray) -> np.ndarray:
        """Return where stored mask values (H, W) are no class, (H, W) bool."""
        return np.zeros(stored.shape, bool) if self.values is None else ~np.isin(stored, list(self.values))

    def ids(self, stored: np.ndarray) -> np.ndarray:
        """Map stored mask values (H, W) to uint8 class ids."""
        if self.values is None:
            by_target: dict[str, Callable[..., np.ndarray]]
            by_target = {"semantic": semantic, "separated": separated, "borders": with_borders}
            return by_target[self.target](stored, ignore=self.ignore)
        lowest, highest = min(self.values), max(self.values)
        if highest - lowest < _WIDEST_TABLE:
            table = np.full(highest - lowest + 1, IGNORE, np.uint8)
            table[[value - lowest for value in self.values]] = list(self.values.values())
            return _mapped(stored, lambda values: table[values.astype(np.int64) - lowest])
        keys = np.array(sorted(self.values))  # packed colours
        table = np.array([self.values[int(key)] for key in keys], np.uint8)
        return _mapped(stored, lambda values: table[np.searchsorted(keys, values)])


def _mapped(stored: np.ndarray, look_up: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return what is looked up for the values of a mask (H, W), as uint8."""
    ids = np.empty(stored.shape, np.uint8)
    for rows in bands(stored.shape):
        ids[rows] = look_up(stored[rows])
    return ids


def decide_classes(
    dataset: Dataset, stored: Sequence[Collection[int]], model_names: Sequence[str] | None = None
) -> Classes:
    """Decide which mask value is which class.

    Args:
        stored: the values of each mask.
        model_names: the classes of a model, which the data must fit, or None.

    Raises:
        DataError: the data set and the model differ in classes, or nothing says what the values mean.
    """
    reading = dataset.reading
    declared = dataset.class_names
    if not dataset.per_pixel:
        return _classes_of_images(dataset, declared or (), model_names)
    if model_names is not None:
        if reading.target != "borders":  # whose classes are no data set's own
            _check_fit(dataset, list(model_names))
        declared = tuple(model_names)
    if reading.masks_are == "instances":
        return _instance_classes(dataset, declared)
    note = ""
    values = None if dataset.values is None else dict(dataset.values)
    ids = sorted({value for values in stored for value in values} - {reading.ignore})
    if values is not None:
        highest = max((target for target in values.values() if target != IGNORE), default=1)
        names = declared or _unnamed(max(2, highest + 1))
    elif len(declared or _TWO_NAMES) == 2 and (white := _find_white(stored, reading.ignore)):
        names = declared or _TWO_NAMES
        behind = _background_of(dataset, names)
        values = {0: behind, white: 1 - behind}
        note = f"mask value {white} is class {1 - behind} ({names[1 - behind]})"
    else:
        masks_of = [set(values) - {reading.ignore} for values in stored]
        if declared and len(declared) == len(_TWO_NAMES) < len(ids) and number_pieces(dataset, masks_of) is not False:
            raise _numbers_objects(dataset, ids, f"those of {', '.join(declared)}: 0 and 1")
        count = len(declared) if declared else _count_unnamed(dataset, stored, ids)
        names = declared or _unnamed(count)
        values = {value: value for value in range(count)}
        note = "" if declared else _say_numbered(masks_of) or _say_pieces(dataset, masks_of)
    if reading.ignore is not None and not dataset.by_color:
        values[reading.ignore] = IGNORE
    used = frozenset[int]().union(*(of_mask for of_mask in stored if set(of_mask) <= set(values)))
    masks = Counter(value for of_mask in stored for value in set(of_mask))
    colors = dataset.class_colors or _mask_colors(dataset, len(names)) or default_colors(len(names))
    behind = _background_of(dataset, names)
    if dataset.values is None and len(names) == len(_TWO_NAMES) and is_background(names[behind]):
        note = "; ".join(filter(None, (note, _say_inverted(dataset, values, behind))))
    return Classes(names, colors, values, note, used=used, masks=masks, background=behind)


def _say_inverted(dataset: Dataset, values: Mapping[int, int], behind: int) -> str:
    """Return a sentence on masks in which the background is what lies in compact pieces, with the line, or ""."""
    by_class = {class_id: value for value, class_id in values.items()}
    inside, around = by_class[behind], by_class[1 - behind]
    if not lies_inside(dataset, inside, dataset.reading.ignore):
        return ""
    fix = declare(values_patch({inside: 1 - behind, around: behind}))
    return f"value {inside} lies in compact pieces that {around} surrounds: if those are the objects, {fix.text}"


def _unnamed(count: int) -> tuple[str, ...]:
    """Return the names of classes that nothing names: background and foreground of two, else their numbers."""
    return _TWO_NAMES if count == 2 else tuple(map(str, range(count)))


def _background_of(dataset: Dataset, names: Sequence[str]) -> int:
    """Return the id of the background: the class that is declared so, that is called so, or the first.

    Raises:
        DataError: the class declared is none.
    """
    declared = dataset.reading.background
    if declared is None:
        return find_background(names)
    if declared not in names:
        raise DataError(
            "the background is none of the classes",
            file=dataset.root,
            expected=", ".join(names[:_FEW_NAMES]),
            found=declared,
            fix=declare({"background": names[find_background(names)]}, dataset.root),
        )
    return list(names).index(declared)


def _classes_of_images(dataset: Dataset, declared: Sequence[str], model_names: Sequence[str] | None = None) -> Classes:
    """Return the classes of images that have one each: those of the data set, or of a model that knows them all."""
    names = tuple(declared if model_names is None else model_names)
    strange = [name for name in declared if name not in names]
    if strange:
        raise DataError(
            "the data set has classes that the model does not know",
            file=dataset.root,
            expected=", ".join(names[:_FEW_NAMES]),
            found=", ".join(strange[:_FEW_NAMES]),
        )
    values = {class_id: names.index(name) for class_id, name in enumerate(declared)}
    return Classes(names, default_colors(len(names)), values)


def _mask_colors(dataset: Dataset, count: int) -> tuple[Color, ...] | None:
    """Return the colours in which the masks draw the classes, the first of each; None where one has none."""
    if not dataset.by_color or dataset.values is None:
        return None
    first: dict[int, Color] = {}
    for color, target in dataset.values.items():
        first.setdefault(target, unpack(color))
    return tuple(first[target] for target in range(count)) if first.keys() >= set(range(count)) else None


def _check_fit(dataset: Dataset, model_names: list[str]) -> None:
    """Refuse a data set whose classes are not those of a model, or are these in another order."""
    declared = list(dataset.class_names or model_names)
    moved = [name for i, name in enumerate(declared) if name in model_names and model_names[i : i + 1] != [name]]
    if len(declared) == len(model_names) and not moved:
        return
    fix = None
    if sorted(declared) == sorted(model_names):
        patch: dict[str, Any] = {"classes": model_names}
        form = FORMATS.get(dataset.format)  # None for arrays
        if not (form and form.by_name) and not dataset.by_color:  # else numbers follow the declared names
            patch |= values_patch({i: model_names.index(name) for i, name in enumerate(declared)})
        fix = declare(patch, dataset.root)
    raise DataError(
        "the data set and the model differ in classes",
        file=dataset.root,
        expected=", ".join(model_names),
        found=", ".join(declared),
        fix=fix,
    )


def _instance_classes(dataset: Dataset, declared: tuple[str, ...] | None) -> Classes:
    reading = dataset.reading
    usual = ("background", "interior", "border") if reading.target == "borders" else ("background", "object")
    names = usual if declared is None or (reading.target == "borders" and declared == dataset.class_names) else declared
    if len(names) != len(usual):
        raise DataError(
            f"instance masks make {len(usual)} classes",
            file=dataset.root,
            expected=", ".join(usual),
            found=", ".join(names),
            fix=declare({"classes": list(usual)}, dataset.root),
        )
    if _background_of(dataset, names) != 0:
        behind = names[_background_of(dataset, names)]
        raise DataError(
            "where masks number objects, 0 is the background, and so is class 0",
            file=dataset.root,
            expected="the background first",
            found=", ".join(names),
            fix=declare({"classes": [behind, *(name for name in names if name != behind)]}, dataset.root),
        )
    note = {
        "semantic": "any mask value above 0 is class 1 (masks are instances)",
        "separated": "any mask value above 0 is class 1, with a line of background between objects that touch",
        "borders": "masks are instances; where objects touch is a class of its own",
    }[reading.target]
    colors = dataset.class_colors if dataset.class_colors and len(dataset.class_colors) == len(names) else None
    return Classes(names, colors or default_colors(len(names)), None, note, reading.ignore, reading.target)


def _find_white(stored: Sequence[Collection[int]], ignore: int | None) -> int | None:
    """Return the value of the foreground if most masks are of 0 and it alone; the others are at fault, then."""
    masks = [set(values) - {ignore} for values in stored]
    for white in _WHITE:
        two = sum(white in values and values <= {0, white} for values in masks)
        if two > sum(not values <= {0, white} for values in masks):
            return white
    return None


def _count_unnamed(dataset: Dataset, stored: Sequence[Collection[int]], ids: Sequence[int]) -> int:
    """Return the number of classes when nothing names them: the ids found must be 0, 1, 2, ... but for a few strays."""
    top = find_smeared_white(stored)
    if top:
        raise DataError(
            "the masks hold two values, and blends of them at the edges",
            file=dataset.root,
            expected=f"0 and {top} alone",
            found=shorten(ids),
            fix=declare(halves(top), dataset.root),
            kind="smeared-mask",
        )
    few = [set(values) - {dataset.reading.ignore} for values in stored if len(values) <= _MOST_UNNAMED_CLASSES]
    numbered = _number_objects(few) or _number_over_images(stored) or number_in_order(dataset, few)
    numbered = numbered or (len(few) == len(stored) and number_pieces(dataset, few) is True)
    if len(few) > _ODD_SHARE * len(stored) and not numbered:  # the others are at fault, and values of hardly any mask
        seen = Counter(value for values in few for value in values)
        rare = -(-len(stored) // _FEW_MASKS) if len(stored) >= _ENOUGH_MASKS else 0
        ids = sorted(value for value, masks in seen.items() if masks > rare or value < 2)
    count = next((i for i, value in enumerate(ids) if value != i), len(ids))
    if (
        not numbered
        and 2 <= count <= _MOST_UNNAMED_CLASSES
        and len(ids) - count <= _MOST_UNNAMED_CLASSES
        and max(ids) < 2**16
        and not _are_in_many([value for value in ids[count:] if value not in _WHITE], stored)
    ):
        return count
    many = len(ids) > _MOST_UNNAMED_CLASSES
    if (many or (len(ids) >= _FEWEST_BLENDS and not numbered)) and blend_at_edges(dataset):
        raise DataError(
            "the masks hold a few values, and blends of them at the edges",
            file=dataset.root,
            expected="class ids 0, 1, 2, ... alone",
            found=shorten(ids),
            fix=SMEARED_FIX,
            kind="smeared-mask",
        )
    if numbered or many:
        raise _numbers_objects(dataset, ids, "class ids 0, 1, 2, ...")
    white = dataset.reading.ignore
    if len(ids) == 1 and white in _WHITE and sum(white in values for values in stored) > len(stored) / 2:
        raise DataError(
            "all but one of the mask values are ignored",
            file=dataset.root,
            expected="two classes or more",
            found=f"{ids[0]}, and {white}, which is ignored",
            fix=f"leave ignore: {white} (--ignore {white}) out: {white} is the foreground",
            kind="not-contiguous",
        )
    raise DataError(
        "the mask values are not class ids 0, 1, 2, ...",
        file=dataset.root,
        expected="contiguous ids from 0, at least two",
        found=shorten(ids),
        fix=_fix_order(ids, dataset),
        kind="not-contiguous",
    )


def _numbers_objects(dataset: Dataset, ids: Sequence[int], expected: str) -> DataError:
    return DataError(
        "the masks seem to number objects",
        file=dataset.root,
        expected=expected,
        found=shorten(ids),
        fix=declare({"masks_are": "instances"}, dataset.root),
        kind="instance-ids",
    )


def _fix_order(ids: Sequence[int], dataset: Dataset) -> Fix:
    """Return the fix that numbers mask values in order; its text names the other way where 255 may be no class."""
    change = _number(ids)
    fix = declare(change, dataset.root)
    values = change.get("values", {})
    if values.get(IGNORE, "ignore") == "ignore" or _are_steps_of(ids, IGNORE):
        return fix
    other = to_yaml({"values": values | {IGNORE: "ignore"}}).strip()
    return replace(fix, text=f"{fix.text}, or, if {IGNORE} is not labelled, {other}")


def _are_in_many(values: Collection[int], stored: Sequence[Collection[int]]) -> bool:
    """Whether one of some values is in at least half as many masks as the value that is in most."""
    seen = Counter(value for of_mask in stored for value in set(of_mask))
    return any(2 * seen[value] >= max(seen.values()) for value in values)


def _number(ids: Sequence[int]) -> dict[str, Any]:
    """Return the change that makes classes 0, 1, 2, ... of mask values in order.

    One below 0 is not labelled, and neither is 255 behind at least two small numbers, which are class ids.
    """
    below = [value for value in ids if value < 0]
    void = below if len(below) == 1 else []
    if not void and len(ids) > 2 and ids[-1] == IGNORE and ids[-2] < _LARGEST_ID:
        void = [IGNORE]
    classes = [value for value in ids if value not in void]
    if len(classes) < 2:
        return {"classes": ["background", "object"]}
    if void and classes == list(range(len(classes))):
        return {"ignore": void[0]}
    return values_patch(dict.fromkeys(void, IGNORE) | {value: i for i, value in enumerate(classes)})


def halves(top: int) -> dict[str, Any]:
    """Return the change that makes a class of each half of the values 0..top."""
    middle = (top + 1) // 2
    return {"values": {f"0-{middle - 1}": 0, f"{middle}-{top}": 1}}


def find_smeared_white(masks: Sequence[Collection[int]]) -> int:
    """Return the white of masks of 0 and white that were scaled, smoothed or compressed like pictures, else 0.

    Nearly all their pixels are nearly 0 or nearly white, and no value between has many.
    """
    total: Counter[int] = Counter()
    for counts in masks:
        if not isinstance(counts, Mapping):
            return 0
        total.update(counts)
    top = max(total, default=0)
    if top not in _WHITE or min(total) != 0 or len(total) < _FEWEST_BLENDS:
        return 0
    pixels = sum(total.values())
    low, high = (sum(n for value, n in total.items() if abs(value - end) <= 0.15 * top) for end in (0, top))
    middle = max((n for value, n in total.items() if 0.15 * top < value < 0.85 * top), default=0)
    if not (_comes_near(total, top) or _are_steps_of(total, top)):
        return 0  # ids, and white for what is not labelled
    white = [counts for counts in masks if max(counts, default=0) >= 0.85 * top]
    blended = 2 * sum(len(counts) >= _FEWEST_BLENDS for counts in white) > len(white)  # not a few 255 among ids
    return top if blended and min(low, high) > 0 and low + high > 0.9 * pixels and middle < 0.02 * pixels else 0


def _comes_near(values: Iterable[int], top: int) -> bool:
    """Whether a value is nearly white and not white, as blends are and class ids are not."""
    return any(0.85 * top < value < top for value in values)


def _are_steps_of(values: Collection[int], top: int) -> bool:
    """Whether values lie evenly around the middle of 0 and a top, as the blends of a few steps do."""
    return all(any(abs(top - value - other) <= 1 for other in values) for value in values)


def _say_numbered(masks: Sequence[set[int]]) -> str:
    """Return what to do if masks number objects, where most hold 0, 1, ... up to a number of their own; else ""."""
    consecutive = [values == set(range(len(values))) for values in masks]
    counts = {len(values) for values in masks}
    if sum(consecutive) < _OWN_SHARE * len(consecutive) or len(counts) < _FEWEST_COUNTS or max(counts) < _FEWEST_BLENDS:
        return ""
    which = "each mask holds" if all(consecutive) else "most masks hold"
    return f"{which} 0, 1, ... up to a number of its own: if these number objects, pass --masks instances"


def _say_pieces(dataset: Dataset, masks: Sequence[set[int]]) -> str:
    """Return what to do if numbers that are one piece each number objects; "" where they do not look so."""
    if len({len(values) for values in masks}) < 2 or number_pieces(dataset, masks) is False:
        return ""
    return "in each mask a number is one piece: if these number objects, pass --masks instances"


def number_in_colors(masks: Sequence[Collection[int]]) -> bool:
    """Whether colours are numbers of objects: each in hardly more than one mask, or counted in one channel from 0."""
    if _number_over_images(masks):
        return True
    every = sorted({color for of_mask in masks for color in of_mask})
    counted = any(every == [value << shift for value in range(len(every))] for shift in (0, 8, 16))
    return counted and len(every) > _FEWEST_COUNTS


def _number_over_images(values_of: Sequence[Collection[int]]) -> bool:
    """Whether numbers go on from mask to mask: most masks have some, and nearly each is in one mask or two."""
    seen = Counter(value for values in values_of for value in set(values) if value)
    once = {value for value, masks in seen.items() if masks <= 2}
    with_unique = sum(not once.isdisjoint(values) for values in values_of)
    many = min(len(values_of), len(seen)) >= _FEWEST_NUMBERED
    return many and len(once) > 0.9 * len(seen) and 2 * with_unique > len(values_of)


def _number_objects(masks: Sequence[set[int]]) -> bool:
    """Whether masks look like numbered objects: each holds 0, 1, ... up to its own number, and these differ widely."""
    counts = [len(values) for values in masks if values == set(range(len(values)))]
    return len(counts) >= 10 and len(counts) > 0.9 * len(masks) and len(set(counts)) >= 5


def fix_values(
    strange: Collection[int], in_file: Collection[int], classes: Classes, by_color: bool, ignored: bool
) -> tuple[str, Fix]:
    """Return (kind of finding, fix) for a mask with values that are no class."""
    known = classes.values or {}
    unknown = sorted(strange)
    if by_color and len(unknown) > _MOST_UNNAMED_CLASSES:
        return "unknown-colors", Fix("save this mask again in the colours of the classes alone")
    if by_color and _absent(classes) and _are_usual(unknown, classes):  # to ignore them would leave a class empty
        return "unknown-colors", Fix('say which class each colour is: values: {"#rrggbb": CLASS, ...}')
    if by_color:
        return "unknown-colors", declare(values_patch(known | dict.fromkeys(unknown, IGNORE), by_color=True))
    sound = sorted(value for value in in_file if known.get(value) != IGNORE)
    if _are_objects(unknown, sound, len(classes.names)):
        if len(classes.names) == 2:
            return "instance-ids", declare({"masks_are": "instances"})
        return "instance-ids", Fix("save this mask with class ids, not one an object")
    return "unknown-values", _fix_numbers(unknown, in_file, sound, classes, ignored)


def _fix_numbers(
    unknown: Sequence[int], in_file: Collection[int], sound: Sequence[int], classes: Classes, ignored: bool
) -> Fix:
    """Return the fix for a mask with numbers that are no class, and that are not those of objects."""
    known = classes.values or {}
    count = len(classes.names)
    absent, strange = _absent(classes), _strange(classes)
    if absent and strange and set(unknown) <= set(strange):
        in_order = _in_order(classes)
        if in_order:
            return declare(values_patch(in_order))
        if _are_usual(strange, classes):  # to ignore them would leave a class without a pixel
            name = classes.names[min(absent)]
            return Fix(f"say which class each value is: values: {{{strange[0]}: {name}, ...}}")
    if unknown == [255] and count == 2 and 1 not in in_file:
        return declare(values_patch(known | {255: 1}))
    if len(known) == 2 and set(known) & set(_WHITE) and unknown == [1]:
        return declare(values_patch(known | {1: 1}))
    if len(unknown) == 1 and not ignored and unknown[0] != count:
        return declare({"ignore": unknown[0]})
    if unknown == [count] and 0 in classes.masks and _name_no_background(classes):
        named = {"classes": ["background", *classes.names]}
        counted_from_1 = {"values": {0: "ignore"} | dict(enumerate(classes.names, 1))}
        return Fix(f"{to_yaml(named).strip()}, or, if 0 is not labelled, {to_yaml(counted_from_1).strip()}")
    if unknown == [count] and sound[0] > 0:  # counted from 1: this mask alone, or all of them
        if 0 in classes.used:
            return Fix("subtract 1 from all values of this mask")
        return declare(values_patch({value + 1: value for value in range(count)}))
    return declare(values_patch(known | dict.fromkeys(unknown, IGNORE)))


def _name_no_background(classes: Classes) -> bool:
    """Whether classes have names of which none says background; then 0 may be what they do not name."""
    return classes.names != _unnamed(len(classes.names)) and not any(map(is_background, classes.names))


def _absent(classes: Classes) -> set[int]:
    """Return the classes that have a name, and no pixel in any mask."""
    known = classes.values or {}
    return set(range(len(classes.names))) - {known[value] for value in classes.masks if value in known}


def _strange(classes: Classes) -> list[int]:
    """Return the values of all masks that are no class."""
    return sorted(set(classes.masks) - set(classes.values or {}))


def _are_usual(strange: Collection[int], classes: Classes) -> bool:
    """Whether one of some values is in at least half as many masks as the value that is in most, the background."""
    return 2 * max(classes.masks[value] for value in strange) >= max(classes.masks.values())


def _in_order(classes: Classes) -> dict[int, int] | None:
    """Return stored value -> class id where there are as many values as classes, else None.

    Two values of two named classes map in order, such as 0 and 254; likewise any number of them, if one that is no
    class is usual. Else an odd value of a few masks would be taken for a class that is absent.
    """
    known = classes.values or {}
    ignored = [value for value, target in known.items() if target == IGNORE]
    there = sorted(set(classes.masks) - set(ignored))
    if len(there) != len(classes.names) or (len(there) > 2 and not _are_usual(_strange(classes), classes)):
        return None
    order = list(range(len(there)))
    if len(there) == 2 and classes.background == 1:
        order.reverse()  # the smaller value is the background, whatever the order of the names
    return dict(zip(there, order, strict=True)) | dict.fromkeys(ignored, IGNORE)


def _are_objects(unknown: Sequence[int], sound: Sequence[int], count: int) -> bool:
    """Whether the values of a mask number objects rather than classes."""
    if len(unknown) == 1:
        return False
    numbered = count == 2 and len(sound) > _FEW_OBJECTS and list(sound) == list(range(len(sound)))
    return numbered or len(unknown) > _MOST_UNNAMED_CLASSES or max(unknown) > 255


def merge_patches(patches: Iterable[Mapping[str, Any]], classes: Classes) -> dict[str, Any] | None:
    """Return the one change that says what all of several changes of `values` and `ignore` say, or None."""
    known = values_patch(classes.values or {})["values"]
    merged: dict[int | str, int | str] = {}
    for patch in patches:
        values = dict(patch.get("values", {}))
        if "ignore" in patch:
            values = known | {patch["ignore"]: "ignore"}
        if any(merged.get(value, target) != target for value, target in values.items()):
            return None
        merged |= values
    return {"values": {value: merged[value] for value in sorted(merged, key=lambda value: str(value).rjust(7))}}


def fix_colors(counts: Mapping[int, int]) -> Fix:
    """Return the fix that gives each colour of some masks a class.

    That is PASCAL VOC's or CamVid's where all are theirs, else a number by frequency, black first. Two colours are two
    classes, whoever else has them.
    """
    for table in (voc_table(), camvid_table()):
        values = table.values(IGNORE)
        if set(counts) <= set(values) and len(counts) > 2:
            return declare(values_patch({color: values[color] for color in counts}, by_color=True))
    drawn = _drawn(counts)
    if len(counts) - len(drawn) > _MOST_BLENDS:
        return Fix("export the masks again without anti-aliasing")
    if len(drawn) < len(counts):
        values = dict.fromkeys(counts, IGNORE) | {color: i for i, color in enumerate(drawn)}
        return declare(values_patch(values, by_color=True))
    order = sorted(counts, key=lambda color: (color != 0, -counts[color]))
    return declare(values_patch({color: i for i, color in enumerate(order[:IGNORE])}, by_color=True))


def _drawn(counts: Mapping[int, int]) -> list[int]:
    """Return the colours that were drawn, black first, without the few pixels of blends between two of them."""
    least = _BLEND_SHARE * sum(counts.values())
    drawn: list[int] = []
    for color in sorted(counts, key=lambda color: -counts[color]):
        if counts[color] >= least or not _is_blend(color, drawn):
            drawn.append(color)
    if len(counts) < max(_FEWEST_BLENDS, 3 * len(drawn)):
        drawn = list(counts)
    return sorted(drawn, key=lambda color: (color != 0, -counts[color]))


def _is_blend(color: int, drawn: Sequence[int]) -> bool:
    """Whether a packed colour lies on the line between two others, nearly."""
    mine, others = np.array(unpack(color), float), [np.array(unpack(other), float) for other in drawn]
    for index, start in enumerate(others):
        for end in others[:index]:
            way = end - start
            share = float((mine - start) @ way / max(1.0, way @ way))
            if -_BLEND_REACH < share < 1 + _BLEND_REACH and np.abs(start + share * way - mine).max() <= _BLEND_ROUNDING:
                return True
    return False


def list_values(values: Iterable[int], by_color: bool) -> list[int] | list[str]:
    """Return mask values in order, colours as they are written in a declaration."""
    return [f"#{value:06x}" for value in sorted(values)] if by_color else sorted(values)
