"""A command: the settings it takes, an example, and what runs it."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from unetres_edge.command_line import add_options, shorten_usage
from unetres_edge.settings import Settings


@dataclass(frozen=True)
class Command:
    """A command of `unetres`: its settings, an example, and the function that runs it.

    Args:
        settings: the class of its settings.
        run: callback, called with the parsed options; it reads the settings, calls one workflow and prints.
        example: a command line that stands under the help text.
    """

    settings: type[Settings]
    run: Callable[[argparse.Namespace], None]
    example: str

    def fill(self, parser: argparse.ArgumentParser) -> None:
        """Give a parser the options, the example, and the function."""
        add_options(parser, self.settings)
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
        shorten_usage(parser)
        parser.epilog = f"example: {self.example}"
        parser.set_defaults(function=self.run, parser=parser)


def say_next(run: str) -> None:
    """Print what usually follows a training."""
    print(f"next      unetres export {shlex.quote(run)} --out model.tflite")
