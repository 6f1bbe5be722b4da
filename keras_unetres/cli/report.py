"""`unetres report`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import ReportSettings
from .command import Command


def run(options: argparse.Namespace) -> None:
    """Write the report of a run."""
    settings = read(ReportSettings, options)
    from ..workflows.report import report

    report(settings.model, settings.data, split=settings.split, out=settings.out)


COMMAND = Command(ReportSettings, run, "unetres report run --split val")
