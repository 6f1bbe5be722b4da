"""Options that several commands take."""

from __future__ import annotations

import argparse

from ..engines.table import NAMES
from ..errors import UsageError


def add_model(parser: argparse.ArgumentParser, help: str = ".tflite file") -> None:
    """Add the model file."""
    parser.add_argument("model", help=help)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add `--engine`."""
    parser.add_argument("--engine", default="litert", choices=NAMES, help="what runs the network (default litert)")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add `--threads` of one inference."""
    parser.add_argument("--threads", type=int, metavar="N", help="threads of one inference")


def threads_of(options: argparse.Namespace) -> int | None:
    """Return what `--threads` says.

    Raises:
        UsageError: below 1.
    """
    number: int | None = options.threads
    if number is not None and number < 1:
        raise UsageError("--threads is wrong", expected="at least 1", found=number)
    return number
