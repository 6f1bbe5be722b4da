"""Settings as frozen dataclasses whose fields say once what they mean and which values they take.

    @dataclass(frozen=True)
    class FitSettings(Settings):
        batch: int = setting(4, "crops of one step", least=1, most=4096, metavar="N")

    FitSettings(batch=0)  # UsageError: --batch is wrong; expected a whole number, 1 to 4096; found 0

Values are checked when an object is made. `unetres_edge.command_line` makes a command line of the same fields.
"""

from __future__ import annotations

import functools
import math
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar, TypeVar

from .errors import UsageError

_SETTING = "setting"  # key of a field's metadata
_NOUNS = {
    bool: ("yes or no", "answers"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
}
_S = TypeVar("_S", bound="Settings")


@dataclass(frozen=True)
class Setting:
    """What a field says of itself beside its type and its default.

    Args:
        help: meaning of the field, a phrase that begins with a noun or a verb.
        choices: the values it takes, or a function that returns them; None for any value of its type.
        least, above: bounds from below, the one allowed and the other not.
        most, below: bounds from above, likewise.
        metavar: name of a value on the command line; one name for each of a fixed number of values.
        unit: unit of a number, such as "px".
        option: its name on the command line, where that is not the field's.
        positional: whether the command line takes it without a name.
        unset: words for what holds where it is None.
        bare: the value of an option that is given without one; None if it needs one.
        check: raises a `UsageError` for a value that is wrong in a way that choices and bounds cannot say.
        repeats: whether one number stands for both of a pair, such as the side of a square.
        tags: words by which a program finds it.
        former: option names of earlier versions, which are still taken.
    """

    help: str
    choices: Sequence[Any] | Callable[[], Iterable[Any]] | None = None
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    metavar: str | tuple[str, ...] | None = None
    unit: str = ""
    option: str | None = None
    positional: bool = False
    unset: str = ""
    bare: Any = None
    repeats: bool = False
    check: Callable[[Any], object] | None = None
    tags: tuple[str, ...] = ()
    former: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[Any, ...] | None:
        """The values it takes, or None for any of its type."""
        choices = self.choices() if callable(self.choices) else self.choices
        return None if choices is None else tuple(choices)


def setting(default: Any = MISSING, help: str = "", **about: Any) -> Any:
    """Return a dataclass field with a `Setting`; without a default the field has to be given."""
    return field(default=default, metadata={_SETTING: Setting(help, **about)})


def like(cls: type[Settings], name: str, default: Any = ..., **changes: Any) -> Any:
    """Return a field as that of another class, save for what is changed."""
    (option,) = (option for option in own_options(cls) if option.name == name)
    about = {_SETTING: replace(option.setting, **changes)}
    return field(default=option.default if default is ... else default, metadata=about)


@dataclass(frozen=True)
class Kind:
    """The type of a field: one value, a fixed number of values, or any number of them.

    Args:
        item: bool, int, float or str.
        count: number of values; 1 for a bare value, 0 for any number in a tuple.
        optional: whether None is a value.
    """

    item: type
    count: int = 1
    optional: bool = False

    @staticmethod
    def of(annotation: Any) -> Kind:
        """Return the kind of a type such as `int`, `str | None`, `tuple[float, float]` or `tuple[str, ...]`."""
        if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
            (inner,) = (part for part in typing.get_args(annotation) if part is not type(None))
            return replace(Kind.of(inner), optional=True)
        if typing.get_origin(annotation) is tuple:
            items = typing.get_args(annotation)
            return Kind(items[0], 0 if items[-1] is Ellipsis else len(items))
        return Kind(annotation)


@dataclass(frozen=True)
class Option:
    """A field of a settings class, found by its path from the outermost class.

    Args:
        path: names of fields, from outside to inside, such as ("fit", "batch").
        kind: its type.
        default: its default, or `dataclasses.MISSING`.
        setting: setting of the field: its help, bounds and words.
        section: title of the group it belongs to, or "".
    """

    path: tuple[str, ...]
    kind: Kind
    default: Any
    setting: Setting
    section: str

    @property
    def name(self) -> str:
        """Name of the field."""
        return self.path[-1]

    @property
    def word(self) -> str:
        """How the command line spells it: `--learning-rate`, or `data` of a positional one."""
        name = (self.setting.option or self.name).replace("_", "-")
        if self.setting.positional:
            return name
        return f"--no-{name}" if self.kind.item is bool and self.default is True else f"--{name}"

    @property
    def expected(self) -> str:
        """The values that it takes, in words."""
        setting, values = self.setting, self.setting.values
        if values is not None:
            return " or ".join(str(value) for value in values)
        count = f"1 or {self.kind.count}" if setting.repeats else self.kind.count or "1 or more"
        one, many = _NOUNS[self.kind.item]
        noun = one if self.kind.count == 1 else f"{count} {many}"
        return f"{noun}, {_bounds(setting)}" if _bounds(setting) else noun

    def check(self, value: Any) -> Any:
        """Return a value as the field keeps it.

        Raises:
            UsageError: it is none that the field takes; the error names both.
        """
        if value is None and self.kind.optional:
            return None
        if self.kind.count == 1:
            value = self._plain(value)
            self._check_item(value, value)
            return value
        if self.setting.repeats and isinstance(value, Integral):
            value = (value,)
        if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
            raise self._error(value)
        parts = tuple(map(self._plain, value))
        if self.setting.repeats and len(parts) == 1:
            parts *= self.kind.count
        if self.kind.count not in (0, len(parts)) or (not parts and self.default != ()):
            raise self._error(parts)
        for part in parts:
            self._check_item(part, parts)
        return parts

    def _plain(self, item: Any) -> Any:
        """Return a path as text."""
        return os.fspath(item) if self.kind.item is str and isinstance(item, os.PathLike) else item

    def _check_item(self, item: Any, whole: Any) -> None:
        setting, values = self.setting, self.setting.values
        if values is not None and item not in values:
            raise UsageError(f"{self.word} is unknown", expected=self.expected, found=whole)
        is_truth = isinstance(item, bool)
        right = {bool: is_truth, int: isinstance(item, Integral), float: isinstance(item, Real), str: True}
        is_text = self.kind.item is str
        if not right[self.kind.item] or is_truth != (self.kind.item is bool) or isinstance(item, str) != is_text:
            raise self._error(whole)
        if self.kind.item in (int, float) and not (_is_finite(item) and _within(item, setting)):
            raise self._error(whole)
        if setting.check is not None:
            setting.check(item)
        if item == "" and "" not in (self.default, setting.bare):  # a variable of the shell that is not set
            raise self._error(item)

    def _error(self, value: Any) -> UsageError:
        found = "nothing" if value is None else "an empty text" if value == "" else value
        return UsageError(f"{self.word} is wrong", expected=self.expected, found=found)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _within(value: float, setting: Setting) -> bool:
    return (
        (setting.least is None or value >= setting.least)
        and (setting.above is None or value > setting.above)
        and (setting.most is None or value <= setting.most)
        and (setting.below is None or value < setting.below)
    )


def _bounds(setting: Setting) -> str:
    if setting.least is not None and setting.most is not None:
        return f"{setting.least} to {setting.most}"
    parts = [f"above {setting.above}"] * (setting.above is not None)
    parts += [f"{setting.least} or above"] * (setting.least is not None)
    parts += [f"below {setting.below}"] * (setting.below is not None)
    parts += [f"at most {setting.most}"] * (setting.most is not None)
    return ", ".join(parts)


class Settings:
    """Base of settings classes: checks every field when an object is made.

    A class whose fields are settings classes has theirs, too; `title` heads them in a help text.
    """

    title: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for option in own_options(type(self)):
            object.__setattr__(self, option.name, option.check(getattr(self, option.name)))


def own_options(cls: type[Settings]) -> tuple[Option, ...]:
    """Return the fields of a class that are settings, without those of its sections."""
    return tuple(option for option in all_options(cls) if len(option.path) == 1)


def all_options(cls: type[Settings]) -> tuple[Option, ...]:
    """Return the fields of a class and of its sections, in their order."""
    key: Any = cls  # mypy takes a class for one that has no hash
    return _all_options(key)


@functools.cache
def _all_options(cls: Any) -> tuple[Option, ...]:
    hints, options = typing.get_type_hints(cls), []
    for each in fields(cls):
        if _SETTING in each.metadata:
            about = each.metadata[_SETTING]
            options.append(Option((each.name,), Kind.of(hints[each.name]), each.default, about, cls.title))
        elif is_dataclass(hints[each.name]):
            inner = _all_options(hints[each.name])
            options += [replace(option, path=(each.name, *option.path)) for option in inner]
    return tuple(options)


def get(settings: Settings, option: Option) -> Any:
    """Return the value of a field, which may lie in a section."""
    return functools.reduce(getattr, option.path, settings)


def make(cls: type[_S], values: Mapping[tuple[str, ...], Any]) -> _S:
    """Return an object of values by path; fields that are not named have their defaults.

    Raises:
        UsageError: a value is none that its field takes.
    """
    hints: dict[str, Any] = typing.get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for each in fields(cls):  # type: ignore[arg-type]
        if is_dataclass(hints[each.name]):
            inner = {path[1:]: value for path, value in values.items() if path[0] == each.name}
            if inner or each.default is MISSING:
                arguments[each.name] = make(hints[each.name], inner)
        elif (each.name,) in values:
            arguments[each.name] = values[(each.name,)]
    return cls(**arguments)


def change(settings: _S, values: Mapping[tuple[str, ...], Any]) -> _S:
    """Return settings of which some, by path, have other values."""
    kept = {option.path: get(settings, option) for option in all_options(type(settings))}
    return make(type(settings), kept | dict(values))
