"""Options that several commands take."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from .. import command_line
from ..engines.pool import MOST_THREADS
from ..engines.table import NAMES
from ..settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class ThreadSettings(Settings):
    """How many threads one inference gets."""

    threads: int | None = setting(
        None, "threads of one inference", least=1, most=MOST_THREADS, metavar="N", unset="one for every core"
    )


def add_model(parser: argparse.ArgumentParser, help: str = ".tflite file") -> None:
    """Add the model file."""
    parser.add_argument("model", help=help)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add `--engine`."""
    parser.add_argument("--engine", default="litert", choices=NAMES, help="what runs the network (default litert)")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add `--threads` of one inference."""
    command_line.add_options(parser, ThreadSettings)


def threads_of(options: argparse.Namespace) -> int | None:
    """Return what `--threads` says.

    Raises:
        UsageError: not from 1 to `MOST_THREADS`.
    """
    return command_line.read(ThreadSettings, options).threads
