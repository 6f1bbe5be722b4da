"""Which mask value is which class, and the masks that do not fit: judged over all masks of a data set at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import yaml

from unetres_edge.errors import DataError
from unetres_edge.images.preprocessing import IGNORE
from unetres_edge.model.card import default_colors

from .colortables import Color, camvid_table, unpack, voc_table
from .dataset import Dataset
from .targets import semantic, separated, with_borders

_MOST_UNNAMED_CLASSES = 32
_MOST_LISTED = 12
_FEW_OBJECTS = 4  # values of a mask of two classes; more, without a gap, number objects
_ODD_SHARE = 0.9
_FEW_MASKS = 100  # values that are in no more than one mask of so many are no class, unless it is named
_ENOUGH_MASKS = 20
_BY_NAME = ("coco", "labelme", "objects")  # formats whose `classes:` are met by name
_WIDEST_TABLE = 1 << 17


@dataclass(frozen=True)
class Classes:
    """The classes of a data set and the mask value that stands for each.

    Args:
        names: one a class.
        colors: (red, green, blue) of each.
        values: mask value -> class id or `IGNORE`; None where masks hold instance ids.
        note: what was mapped, in words, or "".
        ignore: the mask value that means "not labelled" where masks hold instance ids, or None.
        target: what instance ids become, see `Reading`.
        used: the values in those masks that hold no other value.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    values: dict[int, int] | None
    note: str = ""
    ignore: int | None = None
    target: str = "semantic"
    used: frozenset[int] = frozenset()

    @property
    def ignores(self) -> bool:
        """Whether some value means "not labelled"."""
        return self.ignore is not None if self.values is None else IGNORE in self.values.values()

    def ids(self, stored: np.ndarray) -> np.ndarray:
        """Map stored mask values (H, W) to uint8 class ids."""
        if self.values is None:
            made: dict[str, Callable[..., np.ndarray]]
            made = {"semantic": semantic, "separated": separated, "borders": with_borders}
            return made[self.target](stored, ignore=self.ignore)
        lowest, highest = min(self.values), max(self.values)
        if highest - lowest < _WIDEST_TABLE:
            table = np.full(highest - lowest + 1, IGNORE, np.uint8)
            table[[value - lowest for value in self.values]] = list(self.values.values())
            return table[stored.astype(np.int64) - lowest]
        keys = np.array(sorted(self.values))  # packed colours
        table = np.array([self.values[int(key)] for key in keys], np.uint8)
        return table[np.searchsorted(keys, stored)]


def decide_classes(
    dataset: Dataset, found: Sequence[Collection[int]], model_names: Sequence[str] | None = None
) -> Classes:
    """Decide which mask value is which class.

    Args:
        found: the values of each mask.
        model_names: the classes of a model, which the data must fit, or None.

    Raises:
        DataError: the data set and the model differ in classes, or nothing says what the values mean.
    """
    reading = dataset.reading
    declared = dataset.class_names
    if model_names is not None:
        if reading.target != "borders":  # whose classes are no data set's own
            _check_fit(dataset, list(model_names))
        declared = tuple(model_names)
    if reading.masks_are == "instances":
        return _instance_classes(dataset, declared)
    note = ""
    values = None if dataset.values is None else dict(dataset.values)
    ids = sorted({value for values in found for value in values} - {reading.ignore})
    if values is not None:
        highest = max((target for target in values.values() if target != IGNORE), default=1)
        names = declared or tuple(map(str, range(max(2, highest + 1))))
    elif len(declared or (0, 1)) == 2 and _are_binary(found, reading.ignore):
        names = declared or ("0", "255")
        values = {0: 0, 255: 1}
        note = f"mask value 255 is class 1 ({names[1]})"
    else:
        count = len(declared) if declared else _count_unnamed(dataset, found, ids)
        names = declared or tuple(map(str, range(count)))
        values = {value: value for value in range(count)}
    if reading.ignore is not None and not dataset.by_color:
        values[reading.ignore] = IGNORE
    used = frozenset[int]().union(*(own for own in found if set(own) <= set(values)))
    colors = dataset.class_colors or _mask_colors(dataset, len(names)) or default_colors(len(names))
    return Classes(names, colors, values, note, used=used)


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
        fix = f"classes: [{', '.join(model_names)}]"
        if dataset.format not in _BY_NAME and not dataset.by_color:  # there the numbers are as they are
            fix += " and " + values_line({i: model_names.index(name) for i, name in enumerate(declared)})
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
            fix=f"classes: [{', '.join(usual)}]",
        )
    note = {
        "semantic": "any mask value above 0 is class 1 (masks are instances)",
        "separated": "any mask value above 0 is class 1, with a line of background between objects that touch",
        "borders": "masks are instances; where objects touch is a class of its own",
    }[reading.target]
    colors = dataset.class_colors if dataset.class_colors and len(dataset.class_colors) == len(names) else None
    return Classes(names, colors or default_colors(len(names)), None, note, reading.ignore, reading.target)


def _are_binary(found: Sequence[Collection[int]], ignore: int | None) -> bool:
    """Whether most masks are of 0 and 255 alone; the others are at fault, then."""
    masks = [set(values) - {ignore} for values in found]
    binary = sum(255 in values and values <= {0, 255} for values in masks)
    return binary > sum(not values <= {0, 255} for values in masks)


def _count_unnamed(dataset: Dataset, found: Sequence[Collection[int]], ids: Sequence[int]) -> int:
    """Return the number of classes when nothing names them: the ids found must be 0, 1, 2, ... but for a few strays."""
    few = [set(values) - {dataset.reading.ignore} for values in found if len(values) <= _MOST_UNNAMED_CLASSES]
    numbered = _number_objects(few)
    if len(few) > _ODD_SHARE * len(found) and not numbered:  # the others are at fault, and values of hardly any mask
        seen = Counter(value for values in few for value in values)
        rare = -(-len(found) // _FEW_MASKS) if len(found) >= _ENOUGH_MASKS else 0
        ids = sorted(value for value, masks in seen.items() if masks > rare or value < 2)
    count = next((i for i, value in enumerate(ids) if value != i), len(ids))
    if (
        not numbered
        and 2 <= count <= _MOST_UNNAMED_CLASSES
        and len(ids) - count <= _MOST_UNNAMED_CLASSES
        and max(ids) < 2**16
    ):
        return count
    if numbered or len(ids) > _MOST_UNNAMED_CLASSES:
        raise DataError(
            "the masks seem to number objects",
            file=dataset.root,
            expected="class ids 0, 1, 2, ...",
            found=shorten(ids),
            fix="masks_are: instances",
        )
    raise DataError(
        "the mask values are not class ids 0, 1, 2, ...",
        file=dataset.root,
        expected="contiguous ids from 0, at least two",
        found=shorten(ids),
        fix=values_line({value: i for i, value in enumerate(ids)}) if len(ids) > 1 else "classes: [background, object]",
    )


def _number_objects(masks: Sequence[set[int]]) -> bool:
    """Whether masks look like numbered objects: each holds 0, 1, ... up to its own number, and these differ widely."""
    counts = [len(values) for values in masks if values == set(range(len(values)))]
    return len(counts) >= 10 and len(counts) > 0.95 * len(masks) and len(set(counts)) >= 5


def fix_values(
    strange: Collection[int], in_file: Collection[int], classes: Classes, by_color: bool, ignored: bool
) -> tuple[str, str]:
    """Return (kind of fault, line to paste) for a mask with values that are no class."""
    known = classes.values or {}
    unknown = sorted(strange)
    if by_color and len(unknown) > _MOST_UNNAMED_CLASSES:
        return "unknown-colors", "save this mask again in the colours of the classes alone"
    if by_color:
        return "unknown-colors", values_line(known | dict.fromkeys(unknown, IGNORE), by_color=True)
    count = len(classes.names)
    own = sorted(value for value in in_file if known.get(value) != IGNORE)
    if _are_objects(unknown, own, count):
        return (
            "instance-ids",
            "masks_are: instances" if count == 2 else "save this mask with class ids, not one an object",
        )
    if unknown == [255] and count == 2 and 1 not in in_file:
        return "unknown-values", values_line(known | {255: 1})
    if set(known) == {0, 255} and unknown == [1]:
        return "unknown-values", values_line(known | {1: 1})
    if len(unknown) == 1 and not ignored and unknown[0] != count:
        return "unknown-values", f"ignore: {unknown[0]}"
    if unknown == [count] and own[0] > 0:  # counted from 1: this mask alone, or all of them
        lowered = values_line({value + 1: value for value in range(count)})
        return "unknown-values", "subtract 1 from all values of this mask" if 0 in classes.used else lowered
    return "unknown-values", values_line(known | dict.fromkeys(unknown, IGNORE))


def _are_objects(unknown: Sequence[int], own: Sequence[int], count: int) -> bool:
    """Whether the values of a mask number objects rather than classes."""
    if len(unknown) == 1:
        return False
    numbered = count == 2 and len(own) > _FEW_OBJECTS and list(own) == list(range(len(own)))
    return numbered or len(unknown) > _MOST_UNNAMED_CLASSES or max(unknown) > 255


def merge_lines(fixes: Collection[str], classes: Classes) -> str:
    """Return the one `values:` line that says what all of several `values:` and `ignore:` lines say, or ""."""
    merged: dict[int | str, int | str] = {}
    for fix in fixes:
        line = yaml.safe_load(fix)
        values = dict(line.get("values", {}))
        if "ignore" in line:
            values = dict(classes.values or {}) | {line["ignore"]: IGNORE}
        values = {value: "ignore" if target == IGNORE else target for value, target in values.items()}
        if any(merged.get(value, target) != target for value, target in values.items()):
            return ""
        merged |= values
    pairs = (f"{json.dumps(value)}: {merged[value]}" for value in sorted(merged, key=lambda value: str(value).rjust(7)))
    return "values: {" + ", ".join(pairs) + "}"


def fix_colors(counts: Mapping[int, int]) -> str:
    """Return a line that gives each colour of some masks a class.

    That is PASCAL VOC's or CamVid's where all are theirs, else a number by frequency, black first.
    """
    for table in (voc_table(), camvid_table()):
        values = table.values(IGNORE)
        if set(counts) <= set(values) and len(counts) > 1:
            return values_line({color: values[color] for color in counts}, by_color=True)
    order = sorted(counts, key=lambda color: (color != 0, -counts[color]))
    return values_line({color: i for i, color in enumerate(order[:IGNORE])}, by_color=True)


def values_line(values: Mapping[int, int], *, by_color: bool = False) -> str:
    """Return a `values:` line for `dataset.yaml`."""
    keys = (f'"#{value:06x}"' if by_color else str(value) for value in sorted(values))
    targets = ("ignore" if values[value] == IGNORE else str(values[value]) for value in sorted(values))
    return "values: {" + ", ".join(f"{key}: {target}" for key, target in zip(keys, targets, strict=True)) + "}"


def say_values(values: Sequence[int], by_color: bool) -> str:
    """Return mask values as a person writes them, shortened."""
    return shorten([f"#{value:06x}" for value in values] if by_color else values)


def shorten(values: Sequence[object]) -> str:
    """Return values as text, those after the first dozen by their number."""
    shown = ", ".join(map(str, values[:_MOST_LISTED]))
    return f"{shown}, ... {values[-1]} ({len(values)} values)" if len(values) > _MOST_LISTED else shown or "none"
