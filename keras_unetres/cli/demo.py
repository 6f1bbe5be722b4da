"""`unetres demo`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import DemoSettings
from .command import Command


def run(options: argparse.Namespace) -> None:
    """Make pictures, train, export and score."""
    settings = read(DemoSettings, options)
    from ..workflows.demo import demo

    demo(settings.out, epochs=settings.epochs, seed=settings.seed)


COMMAND = Command(DemoSettings, run, "unetres demo --out demo")
