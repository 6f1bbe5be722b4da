"""Writes the tables of options of the guide, from the settings themselves: `python docs/options.py`."""

from __future__ import annotations

from pathlib import Path

from keras_unetres.cli.table import COMMANDS, find_command
from unetres_edge.command_line import usual
from unetres_edge.settings import Option, Settings, all_options

PAGE = Path(__file__).parent / "options.md"
_HEAD = """# Options

Every command and what it takes, as `unetres COMMAND --help` says it. In Python, the settings of a training are
the fields of [`TrainSettings`](api/keras_unetres.md#training). This page is written by `python docs/options.py`.
"""


def page() -> str:
    """Return the page: a table for each command."""
    parts = [_HEAD]
    for name, text in COMMANDS.items():
        command = find_command(name)
        parts.append(f"## {name}\n\n{text[0].upper()}{text[1:]}: `{command.example}`.\n\n{table(command.settings)}")
    return "\n".join(parts)


def table(cls: type[Settings]) -> str:
    """Return a Markdown table of the options of a command."""
    rows = ["| option | what it is | values | default |", "|---|---|---|---|"]
    for option in all_options(cls):
        cells = (f"`{spelling(option)}`", *map(_cell, (option.setting.help, values_of(option), usual(option))))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def spelling(option: Option) -> str:
    """Return an option with the name of its value."""
    metavar = option.setting.metavar or ()
    values = " ".join([metavar] if isinstance(metavar, str) else metavar)
    return f"{option.word} {values}" if values and not option.setting.positional else option.word


def values_of(option: Option) -> str:
    """Return which values an option takes, or "" of switches, of texts, and of names that have a table elsewhere."""
    if option.setting.values is not None:
        return "" if option.setting.metavar else ", ".join(map(str, option.setting.values))
    if option.kind.item in (bool, str):
        return ""
    return option.expected + (f" ({option.setting.unit})" if option.setting.unit else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
