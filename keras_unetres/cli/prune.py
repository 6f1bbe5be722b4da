"""`unetres prune`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import PruneSettings
from .command import Command


def run(options: argparse.Namespace) -> None:
    """Train a run on while its smallest weights become 0."""
    settings = read(PruneSettings, options)
    from ..workflows.compress import prune

    prune(settings.run, settings.out, **settings.how)


COMMAND = Command(PruneSettings, run, "unetres prune run --out run-pruned --sparsity 0.5 --epochs 5")
