"""What a person says about a data set: `dataset.yaml`, and how its masks are to be read.

format: folders              # one of `keras_unetres.data.forms.FORMATS`; else found by looking
path: .                      # where the folders are, relative to the file and below it
splits: {train: train, val: val, test: test}     # a folder, list or annotation file for each part
images: images               # names of the two folders, or of two stacks
masks: masks
annotations: all.json        # COCO: one file for all parts
runs: columns                # tables of run lengths: down the columns or along the rows; from 1, or "columns from 0"
crowds: ignore               # COCO: crowds are not labelled; or objects, as brush tools write them
classes: [background, cell]
colors: [[0, 0, 0], [220, 60, 60]]
values: {0: background, 255: cell, 7: ignore}    # stored value, 128-255 or "#rrggbb" -> class id, name or ignore
background: background       # the class of which no objects are made; else that of this name, or class 0
ignore: 255                  # the label that means "not labelled"
masks_are: classes           # or: instances
target: semantic             # or, of instances: separated, borders
exclude: [broken.png]        # image names that are left out; "*_old.png" for all that end so
without_masks: leave out     # images that have no mask yet are left out, and not faults; background: nothing is on them
masks_on: stored             # masks of images that EXIF turns lie on the pixels as stored; or seen
masks_turned: upside-down    # all masks lie so on their images, and are turned back; none: they are right
pages: channels              # of a TIFF with several: its channels; else each file is to have one
val_from: "slice_1*"         # image names of the validation part
test_from: none
group_by: "patient[0-9]+"    # what of an image's name says which ones belong together, and into one part
"""

from __future__ import annotations

import fnmatch
import functools
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from unetres_edge.errors import DataError, Fix, UsageError, shortened
from unetres_edge.images.preprocessing import IGNORE

from ..choices.reading import MASK_KINDS, MASKS_TURNED, SPLITS, TARGETS
from .tables import decoding_of

LEAVE_OUT, BACKGROUND = "leave out", "background"  # the values of without_masks
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "format": (str, "the name of a format"),
    "path": (str, "a folder"),
    "splits": (dict, "part: folder lines"),
    "images": (str, "the name of a folder"),
    "masks": (str, "the name of a folder"),
    "annotations": (str, "the name of a file"),
    "crowds": (str, "ignore or objects"),
    "runs": (str, "columns or rows"),
    "classes": ((list, dict), "a list of names, or id: name lines"),
    "colors": (list, "a list of [red, green, blue]"),
    "values": (dict, "value: class lines"),
    "exclude": (list, "a list of image names"),
    "without_masks": (str, f"{LEAVE_OUT}, or {BACKGROUND}"),
}
_KEYS = {
    *_KINDS,
    "background",
    "masks_on",
    "masks_turned",
    "pages",
    "ignore",
    "masks_are",
    "target",
    "val_from",
    "test_from",
    "group_by",
}
_MOST_BYTES = 16 << 20
_MOST_VALUES = 1_000_000
_NO_NAMES = {"bool", "int", "float", "timestamp"}  # what YAML takes some names for, by the end of its tag
_NUMBERED = re.compile(r"(\d{1,3})(?:\s*[:;,=]\s*|\s+)(\S.*)")  # 0: sky
_OF_CLASSES = re.compile(  # names of files, such as id2label.json and label_map.pbtxt
    r"(?:id_?2_?label|(?:class|label|category|obj)(?:_|-)?(?:map(?:ping)?|names?|list|ids?)?|classes|labels|categories|names)"
    r"\.(?:txt|json|ya?ml|pbtxt|names)|class(?:es|_names)\.csv",
    re.IGNORECASE,
)
# Controls, ends of lines, halves of characters, and what turns the direction of the text around it.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST = 1000  # characters of a value that is no text, and of an expression
_REPEATS, _REPEATED_GROUP, _MOST_REPEATS = re.compile(r"[*+{]"), re.compile(r"\)[*+{]"), 4
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_NUMBER = re.compile(r"-?\d{1,10}")
_SPAN = re.compile(r"(\d{1,5})-(\d{1,5})")


@dataclass(frozen=True)
class Reading:
    """How a data set is read; kept with a run and in the model file, so that scoring reads it likewise.

    Args:
        masks_are: "classes" (mask values are class ids) or "instances" (0 is background, any other value an object).
        ignore: the mask value that means "not labelled", or None.
        val_from: glob on image names that makes the validation part, or None for a seeded 15 %.
        test_from: likewise for the test part; "none" for no test part.
        seed: seed of the seeded parts.
        target: kind of classes that instance masks become: "semantic" (every object is class 1), "separated" (likewise,
            with a line of background between objects that touch) or "borders" (background, interior, touching border).
        fold: (k, n): of all images but those of a test part of their own, the k-th of n folds is the test part, and of
            the rest a seeded 15 % the validation part; None for parts as the other fields make them.
        group_by: a regular expression that finds in an image's name what it belongs to, such as a patient: its first
            group, else all that it matches. Images of one group are in one part. None where each stands for itself.
        masks_on: place of the masks of images that EXIF turns: on the pixels as "stored" or as "seen"; None for what
            the sides tell.
        masks_turned: way in which all masks lie on their images, one of `MASKS_TURNED`: they are turned back. "none"
            where they are right; None for what the edges tell, and a fault where these say that they lie turned.
        pages: "channels" where the pages of a TIFF are the channels of one image, or None for what the file says.
        background: the name of the class of which no objects are made, or None for that whose name says so, else 0.
    """

    masks_are: str = "classes"
    ignore: int | None = None
    val_from: str | None = None
    test_from: str | None = None
    seed: int = 0
    target: str = "semantic"
    group_by: str | None = None
    background: str | None = None
    pages: str | None = None
    masks_on: str | None = None
    masks_turned: str | None = None
    fold: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.masks_are not in MASK_KINDS:
            raise UsageError("masks are of an unknown kind", expected=" or ".join(MASK_KINDS), found=self.masks_are)
        if self.target not in TARGETS:
            raise UsageError("the target is unknown", expected=" or ".join(TARGETS), found=self.target)
        if self.target != "semantic" and self.masks_are != "instances":
            raise UsageError(
                f"the target {self.target} is made from instances",
                expected="masks_are: instances",
                found=self.masks_are,
            )
        if self.ignore is not None and not (type(self.ignore) is int and -(2**15) <= self.ignore < 2**16):
            raise UsageError(
                "the ignored mask value is wrong", expected=f"a whole number {-(2**15)}..{2**16 - 1}", found=self.ignore
            )
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            raise UsageError("the seed is wrong", expected="a whole number from 0", found=self.seed)
        for name in ("val_from", "test_from"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or len(value) > _LONGEST):  # time with its square
                expected = f"a glob on image names, in quotes, of at most {_LONGEST} characters"
                raise UsageError(f"{name} is wrong", expected=expected, found=value)
        if self.fold is not None:
            object.__setattr__(self, "fold", _checked_fold(self.fold))
            if self.val_from is not None:
                raise UsageError("a fold has no val_from", fix="drop one of them: of a fold, a seeded 15 % validates")
        if self.masks_on not in (None, "stored", "seen"):
            raise UsageError("masks_on is wrong", expected="stored or seen", found=self.masks_on)
        if self.masks_turned not in (None, *MASKS_TURNED):
            raise UsageError("masks_turned is wrong", expected=", ".join(MASKS_TURNED), found=self.masks_turned)
        if self.pages not in (None, "channels"):
            raise UsageError("pages are of an unknown kind", expected="channels", found=self.pages)
        if self.background is not None and not isinstance(self.background, str):
            raise UsageError("background is wrong", expected="the name of a class", found=self.background)
        if self.group_by is not None:
            try:
                re.compile(self.group_by)
            except (OverflowError, RecursionError, TypeError, re.error) as error:
                expected = f"a regular expression ({error})"
                raise UsageError("group_by is wrong", expected=expected, found=self.group_by) from error
            if len(self.group_by) > _LONGEST:
                raise UsageError("group_by is too long", expected=f"at most {_LONGEST} characters")
            if len(_REPEATS.findall(self.group_by)) > _MOST_REPEATS or _REPEATED_GROUP.search(self.group_by):
                expected = f"a regular expression with at most {_MOST_REPEATS} of * + {{}} and no repeated group"
                raise UsageError("group_by could take for ever", expected=expected, found=self.group_by)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; without what is not declared of those that earlier versions do not know."""
        later = ("group_by", "background", "pages", "masks_on", "masks_turned", "fold")
        return {key: value for key, value in asdict(self).items() if key not in later or value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Reading:
        """Return what `to_dict` was made of; what a later version added is not looked at.

        Raises:
            UsageError: a value that its field does not take.
        """
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})


def _checked_fold(fold: Any) -> tuple[int, int]:
    """Return a fold as a tuple, which JSON has as a list."""
    numbers = tuple(fold) if isinstance(fold, (list, tuple)) else ()
    if (
        len(numbers) != 2
        or any(type(number) is not int for number in numbers)
        or not 1 <= numbers[0] <= numbers[1] >= 2
    ):
        raise UsageError("the fold is wrong", expected="K N, with 1 <= K <= N and N of at least 2", found=fold)
    return numbers[0], numbers[1]


@dataclass(frozen=True)
class Declaration:
    """A `dataset.yaml`, checked; empty where there is none.

    Args:
        file: the file, or the folder of a data set without one.
        base: the folder that the names in it start from.
        given: the keys it has.
        lists_classes: whether a `classes.txt` in `base` lists all classes; not where its form has another use for it.
    """

    file: Path
    base: Path
    given: Mapping[str, Any]
    lists_classes: bool = True

    @property
    def images(self) -> str:
        """Name of the folder or stack of images."""
        return str(self.given.get("images", "images"))

    @property
    def masks(self) -> str:
        """Name of the folder or stack of masks."""
        return str(self.given.get("masks", "masks"))

    @functools.cached_property
    def by_color(self) -> bool:
        """Whether the colours of masks are classes."""
        return any(isinstance(key, str) and key.startswith("#") for key in self.given.get("values", {}))

    @property
    def by_number(self) -> bool:
        """Whether numbers in masks are said to be classes."""
        return "values" in self.given and not self.by_color

    @functools.cached_property
    def excluded(self) -> set[str]:
        """The names that are left out."""
        return set(map(str, self.given.get("exclude", ())))

    @functools.cached_property
    def _patterns(self) -> tuple[str, ...]:
        return tuple(name for name in self.excluded if "*" in name)

    @property
    def leaves_out_unlabelled(self) -> bool:
        """Whether images without masks are left out."""
        return self.given.get("without_masks") == LEAVE_OUT

    @property
    def has_empty_masks(self) -> bool:
        """Whether images without masks show the background alone."""
        return self.given.get("without_masks") == BACKGROUND

    @property
    def has_ranges(self) -> bool:
        """Whether ranges of stored values are said to be classes."""
        return any(isinstance(key, str) and _SPAN.fullmatch(key) for key in self.given.get("values", {}))

    def excludes(self, name: str | Path) -> bool:
        """Whether a file is left out, by its name or its name with the folders above it."""
        path = Path(name)
        known = bool(self.excluded & {path.name, path.as_posix()})
        return known or any(is_called(path, pattern) for pattern in self._patterns)

    def splits(self) -> dict[str, Path]:
        """Return the declared place of each part; empty if none are declared."""
        return {name: self.base / self.given["splits"][name] for name in SPLITS if name in self.given.get("splits", {})}

    def reading(self, ignore: int | None = None, target: str | None = None, masks_are: str | None = None) -> Reading:
        """Return how masks are read.

        Args:
            ignore: the value that is not labelled, where the file says nothing of it.
            target: kind of classes that instances become, likewise.
            masks_are: kind of masks, whatever the file says.
        """
        fields = {key: self.given[key] for key in Reading.__dataclass_fields__ if key in self.given}
        if masks_are is not None:
            fields["masks_are"] = masks_are
        if target is not None and fields.get("masks_are") == "instances":
            fields.setdefault("target", target)
        if fields.get("test_from", "") is None:  # YAML reads `none` as text and `null` as nothing
            fields["test_from"] = "none"
        if fields.get("background") is not None:
            fields["background"] = str(fields["background"])  # names that YAML reads as numbers
        return Reading(**{"ignore": ignore, **fields})

    def classes(self) -> tuple[tuple[str, ...] | None, tuple[tuple[int, int, int], ...] | None]:
        """Return class names and colours, each None where nothing is declared.

        Raises:
            DataError: they are wrong, or differ in number.
        """
        names = self.given.get("classes")
        if isinstance(names, dict):
            if set(names) != set(range(len(names))):
                raise DataError("class ids are not contiguous from 0", file=self.file, found=list(names))
            names = [names[i] for i in range(len(names))]
        if names is not None and not all(isinstance(name, str) for name in names):
            raise DataError("classes is wrong", file=self.file, expected="a list of names")
        if names is None and self.lists_classes:
            names = without_numbers(read_names(self.base / "classes.txt"))
        if names is None and "colors" in self.given:
            raise DataError("colors are given but no classes", file=self.file, fix="name the classes in the same file")
        if names is None:
            return None, None
        names = check_names(tuple(names), self.file)
        colors = self.given.get("colors")
        if colors is not None and len(colors) != len(names):
            raise DataError(
                "colours and classes differ in number", file=self.file, expected=len(names), found=len(colors)
            )
        return names, None if colors is None else tuple(_color(color, self.file) for color in colors)

    def values(self, names: tuple[str, ...] | None) -> dict[int, int] | None:
        """Return the declared map from stored value (or packed colour) to class id or `IGNORE`, or None.

        Raises:
            DataError: a value, a colour or a class is none.
        """
        declared = self.given.get("values")
        if declared is None:
            return None
        class_ids: dict[int, int] = {}
        for key, target in declared.items():
            for stored in self._stored(key):
                if stored in class_ids:
                    raise DataError("values names a value or a colour twice", file=self.file, found=key)
                class_ids[stored] = self._target(target, names)
        return class_ids

    def _stored(self, key: Any) -> Iterable[int]:
        """Return the stored values that a key of `values` stands for: one, a packed colour, or all of a range."""
        span = _SPAN.fullmatch(key) if isinstance(key, str) else None
        if isinstance(key, str) and _COLOR.fullmatch(key):
            return (int(key[1:], 16),)
        if isinstance(key, str) and _NUMBER.fullmatch(key):
            key = int(key)  # in quotes, as JSON has it
        if type(key) is int and -(2**31) <= key < 2**31 and not self.by_color:
            return (key,)
        if span is not None and not self.by_color and int(span[1]) <= int(span[2]) < 2**16:
            return range(int(span[1]), int(span[2]) + 1)
        raise DataError(
            "values is wrong",
            file=self.file,
            expected='whole numbers, ranges such as 0-127 below 65536, or colours as "#rrggbb"',
            found=repr(key),
        )

    def _target(self, target: Any, names: tuple[str, ...] | None) -> int:
        """Return the class id that a value of `values` names, or `IGNORE`."""
        if target == "ignore":
            return IGNORE
        if names is not None and target in names:
            return names.index(target)
        if type(target) is int and 0 <= target < (len(names) if names else IGNORE):
            return target
        classes = ", ".join(names) if names else "0, 1, 2, ..."
        raise DataError(
            "values names no class", file=self.file, expected=f"ignore, or one of {classes}", found=repr(target)
        )


def is_called(name: str | Path, wanted: str) -> bool:
    """Return whether a file is meant by a name, with or without the folders above it; * stands for any text."""
    path = Path(name)
    ways = (path.name, path.as_posix())
    if "*" not in wanted or wanted in ways:
        return wanted in ways
    pattern = wanted.replace("[", "[[]").replace("?", "[?]")
    return any(fnmatch.fnmatchcase(way, pattern) for way in ways)


def read_declaration(root: Path) -> Declaration:
    """Return what `root`, a folder or a `dataset.yaml`, declares.

    Raises:
        DataError: not readable, or keys or values that are wrong.
    """
    if root.is_dir():
        return Declaration(root, root, {})
    if root.exists() and not root.is_file():
        raise DataError("cannot read: not a regular file", file=root)
    values = load_yaml(root)
    if not isinstance(values, dict):
        raise DataError("not a data set description", file=root, expected="key: value lines")
    unknown = sorted(set(map(str, values)) - _KEYS)
    if unknown:
        raise DataError(
            "unknown keys",
            file=root,
            expected=", ".join(sorted(_KEYS)),
            found=shortened(", ".join(unknown), 200),
            fix="it is YOLO's: rename it to data.yaml" if {"names", "train"} <= set(unknown) else None,
        )
    for key, (kinds, expected) in _KINDS.items():
        if values.get(key) is None:
            values.pop(key, None)
        elif not isinstance(values[key], kinds):
            raise DataError(f"{key} is wrong", file=root, expected=expected, found=shortened(values[key], 200))
    if values.get("without_masks", LEAVE_OUT) not in (LEAVE_OUT, BACKGROUND):
        expected = _KINDS["without_masks"][1]
        raise DataError("without_masks is wrong", file=root, expected=expected, found=values["without_masks"])
    if any(len(str(name)) > _LONGEST for name in values.get("exclude", ())):
        raise DataError("exclude is wrong", file=root, expected=f"names of at most {_LONGEST} characters")
    splits = values.get("splits") or {}
    if not set(splits) <= set(SPLITS) or not all(isinstance(place, str) for place in splits.values()):
        raise DataError(
            "splits is wrong", file=root, expected="folders for " + ", ".join(SPLITS), found=shortened(splits, 200)
        )
    places = [values[key] for key in ("path", "images", "masks", "annotations") if key in values]
    if any("\0" in place for place in (*places, *splits.values())):
        raise DataError("a place has a zero byte", file=root)
    declared = Declaration(root, root.parent / values.get("path", "."), values)
    _refuse_outside(declared, splits)
    return declared


def load_yaml(file: Path) -> Any:
    """Return the values of a YAML file, of which aliases may repeat no more than it could hold itself.

    Raises:
        DataError: not readable, or too large once its aliases are followed.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise DataError("the file is too large", file=file, expected=f"at most {_MOST_BYTES >> 20} MiB")
        loader = _Loader(data.decode(decoding_of(data)))
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _size(node, {}) > _MOST_VALUES:
                raise DataError("aliases repeat too much", file=file, expected=f"at most {_MOST_VALUES} values")
            _take_names_as_written(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    # The library raises these beside its own for tags that do not fit the value, such as `!!int ""`.
    except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else ""
        raise DataError(f"cannot read: {said or 'not YAML'}", file=file, expected="key: value lines") from error
    except yaml.YAMLError as error:
        raise DataError(f"cannot read: {shortened(error, 300)}", file=file) from error


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which the library would take the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping."""
        keys = [key for key, _ in node.value if not key.tag.endswith(":merge")]  # what it merges may be overridden
        names = [self.construct_object(key, deep=True) for key in keys]
        seen: set[Any] = set()
        for name in names:
            if name in seen:
                raise yaml.YAMLError(f"the key {shortened(name, 100)} stands twice")
            seen.add(name)
        return super().construct_mapping(node, deep)


def _take_names_as_written(node: yaml.Node) -> None:
    """Have names of classes and images that look like other values, such as `no`, be what is written there."""
    if not isinstance(node, yaml.MappingNode):
        return
    parts = {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}
    for name in ("classes", "exclude", "values"):
        part = parts.get(name)
        below = [value for _, value in part.value] if isinstance(part, yaml.MappingNode) else []
        below = part.value if isinstance(part, yaml.SequenceNode) else below
        kinds = _NO_NAMES - {"int"} if name == "values" else _NO_NAMES
        for each in below:
            if isinstance(each, yaml.ScalarNode) and each.tag.rpartition(":")[2] in kinds:
                each.tag = "tag:yaml.org,2002:str"


def _size(node: yaml.Node, known: dict[int, float]) -> float:
    """Return how many values a node stands for when aliases are followed; infinite where one leads to itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        below: Iterable[yaml.Node] = ()
        if isinstance(node, yaml.MappingNode):
            below = (part for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            below = node.value
        elif not node.tag.endswith(":str") and len(node.value) > _LONGEST:
            return math.inf  # a number, whose digits take time with their square
        known[id(node)] = 1 + sum(_size(part, known) for part in below)
    return known[id(node)]


def _refuse_outside(declared: Declaration, splits: Mapping[str, str]) -> None:
    """Refuse places that do not lie in the folder of the file: what came with data reads and fetches nothing else.

    Raises:
        DataError: there is one.
    """
    values, home = declared.given, declared.file.parent
    named = {key: declared.base / values[key] for key in ("images", "masks", "annotations") if key in values}
    named |= {f"splits: {part}": declared.base / path for part, path in splits.items()}
    for key, path in {"path": declared.base, **named}.items():
        if not lies_in(path, home):
            raise DataError(
                f"{key} leads out of the folder that the file lies in",
                file=declared.file,
                expected=f"a place below {home}",
                found=path,
                fix="put the file into the folder of the data, or link the data to the file's folder",
            )


def lies_in(path: Path, base: Path) -> bool:
    """Whether a path is below a folder, judged by names alone; links that a person made may lead elsewhere."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(base))


def read_names(listed: Path) -> list[str] | None:
    """Return the class names of a text file, one a line, or None if there is no such file.

    Raises:
        DataError: not UTF-8 text.
    """
    if not listed.is_file():
        return None
    try:
        with listed.open("rb") as opened:
            data = opened.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise DataError("the file is too large", file=listed, expected=f"at most {_MOST_BYTES >> 20} MiB")
        lines = data.decode(decoding_of(data)).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read: {error}", file=listed, expected="UTF-8 text, one class a line") from error
    return [line.strip() for line in lines if line.strip()]


def without_numbers(names: list[str] | None) -> list[str] | None:
    """Return class names without the ids before them, where each line begins with its own: `0 sky`, `1: road`, ..."""
    rows = [_NUMBERED.fullmatch(name) for name in names or ()]
    numbered = all(row is not None and int(row.group(1)) == index for index, row in enumerate(rows))
    return [row.group(2) for row in rows if row] if rows and numbered else names


def unread_classes(base: Path) -> list[str]:
    """Return a sentence on a file that seems to name the classes and is not read; none where there is none."""
    files = sorted(path.name for path in base.iterdir() if path.is_file()) if base.is_dir() else []
    called = [name for name in files if _OF_CLASSES.fullmatch(name)]
    return (
        [f"{called[0]} may name the classes and is not read: list them in classes.txt, a name a line"] if called else []
    )


def check_names(names: tuple[str, ...], file: Path) -> tuple[str, ...]:
    """Return class names that are 2 to 255 different ones, of letters that can be shown.

    Raises:
        DataError: they are not.
    """
    unseen = [name for name in names[:256] if not name.strip() or _UNSEEN.search(name)]
    if unseen:
        expected, found = "text that can be shown on a line", ", ".join(map(repr, unseen[:4]))
        raise DataError("class names are wrong", file=file, expected=expected, found=found, kind="declaration")
    twice = sorted({name for name in names if names.count(name) > 1}) if len(names) < 1000 else []
    if len(names) < 2 or len(names) > 255 or twice:
        listed = f"{len(names)} names, from {names[0]!r} to {names[-1]!r}" if len(names) > 12 else ", ".join(names)
        raise DataError(
            "class names are wrong",
            file=file,
            expected="2 to 255 different names",
            found=f"{', '.join(twice[:4])} more than once" if twice and len(names) <= 255 else listed,
            fix=_fix_names(names, file),
            kind="declaration",
        )
    return names


def _fix_names(names: tuple[str, ...], file: Path) -> Fix | None:
    place = f"in {_yaml_of(file)}"
    if len(names) == 1:  # of what is drawn; the background is a class, too
        both = ["background", names[0]]
        return Fix(f"classes: [background, {yaml.safe_dump(names[0]).splitlines()[0]}]", {"classes": both}, place)
    if len(names) <= 255:
        return None
    first = yaml.safe_dump(names[0]).splitlines()[0]
    merged = f'classes: [{first}, other] and values: {{0: 0, "1-{len(names) - 1}": 1}}'
    return Fix(f"merge classes until 255 are left, such as {merged}", place=place)


def _yaml_of(file: Path) -> Path:
    """Return the declaration of a data set that was opened by a file or a folder."""
    if file.suffix.lower() in (".yaml", ".yml"):
        return file
    return (file.parent if file.suffix.lower() == ".json" else file) / "dataset.yaml"


def _color(color: Any, file: Path) -> tuple[int, int, int]:
    channels = tuple(color) if isinstance(color, (list, tuple)) else ()
    if len(channels) != 3 or not all(type(value) is int and 0 <= value <= 255 for value in channels):
        raise DataError("colours are wrong", file=file, expected="[red, green, blue], each 0..255", found=color)
    return channels[0], channels[1], channels[2]
