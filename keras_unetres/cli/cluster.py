"""`unetres cluster`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import ClusterSettings
from .command import Command


def run(options: argparse.Namespace) -> None:
    """Train a run on with few different values in each kernel."""
    settings = read(ClusterSettings, options)
    from ..workflows.compress import cluster

    cluster(settings.run, settings.out, **settings.how)


COMMAND = Command(ClusterSettings, run, "unetres cluster run --out run-clustered --clusters 16 --epochs 5")
