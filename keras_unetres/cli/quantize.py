"""`unetres quantize`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import QuantizeSettings
from .command import Command, say_next


def run(options: argparse.Namespace) -> None:
    """Train a run on as its int8 file computes."""
    settings = read(QuantizeSettings, options)
    from ..workflows.quantize import quantize

    quantize(
        settings.run,
        settings.out,
        data=settings.data,
        engine=settings.engine,
        ranges=settings.ranges,
        keep_zeros=settings.keep_zeros,
        epochs=settings.epochs,
        minutes=settings.minutes,
        learning_rate=settings.learning_rate,
        overwrite=settings.overwrite,
    )
    say_next(settings.out)


COMMAND = Command(QuantizeSettings, run, "unetres quantize run --out run-int8 --epochs 5")
