"""Options that several commands take."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from .. import command_line
from ..engines.engine import Engine
from ..engines.pool import MOST_THREADS
from ..engines.table import AUTO, NAMES
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
    """Add `--engine`; None where it is not given: `engines.table.usual_engine`."""
    parser.add_argument(
        "--engine",
        choices=NAMES,
        help="what runs the network (default litert; of files whose receipt says what others cost, auto)",
    )


def engine_lines(engine: Engine, wanted: str | None) -> list[str]:
    """Return the line that says why "auto" took an engine, where it is another than LiteRT or "auto" was asked for."""
    explain = engine.reason and (engine.name != "litert" or wanted == AUTO)
    return [f"engine     {engine.name}: {engine.reason}"] if explain else []


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add `--threads` of one inference."""
    command_line.add_options(parser, ThreadSettings)


def threads_of(options: argparse.Namespace) -> int | None:
    """Return what `--threads` says.

    Raises:
        UsageError: not from 1 to `MOST_THREADS`.
    """
    return command_line.read(ThreadSettings, options).threads
