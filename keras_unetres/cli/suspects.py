"""`unetres suspects`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import SuspectsSettings
from .command import Command


def run(options: argparse.Namespace) -> None:
    """List the masks of a data set that are probably wrong."""
    settings = read(SuspectsSettings, options)
    from ..workflows.suspects import suspects

    suspects(
        settings.data,
        folds=settings.folds,
        epochs=settings.epochs,
        filters=settings.filters,
        size=settings.size,
        runs=settings.runs,
        json_file=settings.json,
        csv_file=settings.csv,
        html_file=settings.html,
        reading=settings.reading.reading(),
    )


COMMAND = Command(SuspectsSettings, run, "unetres suspects cells --html suspects.html")
