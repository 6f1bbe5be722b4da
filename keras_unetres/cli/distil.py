"""`unetres distil`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import DistilSettings
from .command import Command, say_next


def run(options: argparse.Namespace) -> None:
    """Train a small network that learns from trained ones."""
    settings = read(DistilSettings, options)
    from ..workflows.distil import distil

    distil(
        settings.runs,
        settings.out,
        data=settings.data,
        filters=settings.filters,
        epochs=settings.epochs,
        minutes=settings.minutes,
        temperature=settings.temperature,
        share=settings.share,
        limits=settings.limits,
        overwrite=settings.overwrite,
    )
    say_next(settings.out)


COMMAND = Command(DistilSettings, run, "unetres distil run1 run2 --out small --max-ms 20 --minutes 10")
