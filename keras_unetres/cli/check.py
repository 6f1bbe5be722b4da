"""`unetres check`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import CheckSettings
from .command import Command


def run(options: argparse.Namespace) -> None:
    """Look a data set over."""
    settings = read(CheckSettings, options)
    from ..workflows.check import check

    check(
        settings.data,
        json_file=settings.json,
        html_file=settings.html,
        fix=settings.fix,
        hashes="renew" if settings.rehash else "keep" if settings.hashes else "off",
        reading=settings.reading.reading(),
    )


COMMAND = Command(CheckSettings, run, "unetres check cells --html check.html")
