"""Command lines made of settings classes, by argparse; see `unetres_edge.settings`."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from typing import Any, TypeVar

from .settings import Option, Settings, all_options, get, make

_S = TypeVar("_S", bound=Settings)


def add_options(parser: argparse.ArgumentParser, cls: type[Settings]) -> None:
    """Add an option for every field of a settings class, those of its sections in groups with their titles."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for option in all_options(cls):
        group: argparse._ActionsContainer = parser
        if option.section:
            if option.section not in groups:
                groups[option.section] = parser.add_argument_group(option.section)
            group = groups[option.section]
        _add(group, option)
        for former in option.setting.former:
            _add(group, option, former)


def shorten_usage(parser: argparse.ArgumentParser) -> None:
    """Let the line of usage of a parser that has all its arguments name what has to be given, and say "[options]"."""
    formatter = argparse.HelpFormatter(f"{parser.prog} [options]")
    needed = [action for action in parser._actions if action.required or not action.option_strings]
    formatter.add_usage(None, needed, [], "")
    parser.usage = formatter.format_help().strip().replace("%", "%%")


def _add(group: argparse._ActionsContainer, option: Option, former: str | None = None) -> None:
    about: dict[str, Any] = {"dest": ".".join(option.path), "default": argparse.SUPPRESS}
    about["help"] = argparse.SUPPRESS if former else help_of(option).replace("%", "%%")
    kind, setting = option.kind, option.setting
    if kind.item is bool:
        about |= {"nargs": 0, "const": option.default is not True}
    else:
        about |= {"type": functools.partial(_parse, kind.item), "metavar": _metavar(option)}
        if setting.bare is not None and kind.count == 1:
            about |= {"nargs": "?", "const": setting.bare}
        elif setting.bare is not None:
            about |= {"nargs": "*", "const": setting.bare}
        elif kind.count == 0 or setting.repeats:
            about["nargs"] = "+"
        elif kind.count > 1:
            about["nargs"] = kind.count
    if setting.positional:
        about.pop("default")
        if option.default is not MISSING and kind.count == 1:
            about |= {"nargs": "?", "default": argparse.SUPPRESS}
        group.add_argument(about.pop("dest"), **about)
        return
    about["required"] = option.default is MISSING and not former
    group.add_argument(former or option.word, action=_Keep, said=option.word if former else None, **about)


def _parse(item: type, text: str) -> Any:
    """Return a value, or the text where it is none: the check of the field then says what it takes."""
    try:
        return item(text)
    except ValueError:
        return text


class _Keep(argparse.Action):
    """Keep the value; of an option that has been renamed, say so."""

    def __init__(self, *, said: str | None, **about: Any) -> None:
        super().__init__(**about)
        self._said = said

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if self._said:
            print(f"note: {option} is now {self._said}; the old name goes with the next version", file=sys.stderr)
        bare = self.nargs == 0 or (isinstance(values, list) and not values)
        setattr(namespace, self.dest, self.const if bare else values)


def _metavar(option: Option) -> str | tuple[str, ...]:
    setting = option.setting
    if setting.metavar is not None:
        return setting.metavar
    if setting.values is not None:
        return "{" + ",".join(str(value) for value in setting.values) + "}"
    return option.word if setting.positional else option.name.upper()


def help_of(option: Option) -> str:
    """Return the help text of an option: what it is, its unit, and what holds where it is not given."""
    setting = option.setting
    unit = f", in {setting.unit}" if setting.unit and setting.unit.upper() != setting.metavar else ""
    return f"{setting.help}{unit}" + (f" ({usual(option)})" if usual(option) else "")


def usual(option: Option) -> str:
    """Return what holds where an option is not given, or "" where that needs no words."""
    default = option.default
    if default is MISSING or isinstance(default, bool) or default == () or default == "":
        return ""
    if default is None:
        return option.setting.unset
    parts = default if isinstance(default, tuple) else (default,)
    return " ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in parts)


def given(cls: type[Settings], namespace: argparse.Namespace) -> Mapping[tuple[str, ...], Any]:
    """Return the values that the command line named, by path."""
    values = vars(namespace)
    return {option.path: values[key] for option in all_options(cls) if (key := ".".join(option.path)) in values}


def read(cls: type[_S], namespace: argparse.Namespace) -> _S:
    """Return the settings of a command line that `add_options` parsed.

    Raises:
        UsageError: a value is none that its field takes.
    """
    return make(cls, given(cls, namespace))


def words_of(settings: Settings) -> list[str]:
    """Return the words of a command line that makes these settings; what has its default is left out."""
    words: list[str] = []
    for option in all_options(type(settings)):
        value = get(settings, option)
        if value == option.default or value is None:
            continue
        values = [] if option.kind.item is bool else list(map(str, value if isinstance(value, tuple) else (value,)))
        words += list(map(path_word, values)) if option.setting.positional else option_words(option.word, values)
    return words


def option_words(option: str, values: Sequence[str]) -> list[str]:
    """Return the words that give an option its values; a single one that looks like an option is joined to its name."""
    if len(values) == 1 and values[0].startswith("-"):
        return [f"{option}={values[0]}"]
    return [option, *values]


def path_word(path: str) -> str:
    """Return a path so that it is not taken for an option."""
    return f"./{path}" if path.startswith("-") else path
