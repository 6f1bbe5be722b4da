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

    quantize(settings.run, settings.out, **settings.how)
    say_next(settings.out)


COMMAND = Command(QuantizeSettings, run, "unetres quantize run --out run-int8 --epochs 5")
