"""`unetres cluster`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import ClusterSettings
from .command import Command


def run(options: argparse.Namespace) -> None:
    """Train a run on with few different values in each kernel."""
    settings = read(ClusterSettings, options)
    from ..workflows.cluster import cluster

    cluster(
        settings.run,
        settings.out,
        clusters=settings.clusters,
        keep_zeros=settings.keep_zeros,
        layers=settings.layers,
        data=settings.data,
        epochs=settings.epochs,
        minutes=settings.minutes,
        learning_rate=settings.learning_rate,
        overwrite=settings.overwrite,
    )


COMMAND = Command(ClusterSettings, run, "unetres cluster run --out run-clustered --clusters 16 --epochs 5")
