"""`unetres check`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read
from unetres_edge.errors import DataError
from unetres_edge.terminal import counted

from ..settings import CheckSettings
from .command import Command


def run(options: argparse.Namespace) -> None:
    """Look a data set over; it is an error that it has faults."""
    settings = read(CheckSettings, options)
    from ..data.dataset import is_class_folders
    from ..workflows.check import check

    report = check(
        settings.data,
        json_file=settings.json,
        html_file=settings.html,
        fix=settings.fix,
        hashes="renew" if settings.rehash else "keep" if settings.hashes else "off",
        reading=settings.reading.reading(),
    )
    count = len(report["faults"])
    if count:
        mended = settings.fix or is_class_folders(settings.data)
        fix = "see above" + ("" if mended else ", or let --fix write a dataset.yaml")
        raise DataError(counted(count, "fault"), file=settings.data, fix=fix)


COMMAND = Command(CheckSettings, run, "unetres check cells --html check.html")
