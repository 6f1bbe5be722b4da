"""`unetres`: parse, call one workflow, print. Nothing heavy is imported before a workflow needs it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from keras_unetres import __version__
from unetres_edge.commands.running import run_command

from .table import COMMANDS, find_command

__all__ = ["main", "make_parser"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 usage, 3 data, 4 model, 5 system."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA's and oneDNN's notes are not for users
    arguments = sys.argv[1:] if arguments is None else arguments
    options = make_parser(next((word for word in arguments if word in COMMANDS), None)).parse_args(arguments)
    return run_command(lambda: options.function(options), debug=options.debug)


def make_parser(called: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of all commands, of which the called one knows its options."""
    parser = argparse.ArgumentParser(
        prog="unetres", description="From a folder of images and masks to a verified int8 segmenter on a device."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == called:
            find_command(name).fill(command)
    return parser
