"""`unetres next`."""

from __future__ import annotations

import argparse

from unetres_edge.command_line import read

from ..settings import NextSettings
from .command import Command


def run(options: argparse.Namespace) -> None:
    """Choose images to label."""
    settings = read(NextSettings, options)
    from ..workflows.next_images import next_images

    next_images(
        settings.model,
        settings.pool,
        settings.out,
        count=settings.count,
        form=settings.form,
        data=settings.data,
        json_file=settings.json,
        csv_file=settings.csv,
    )


COMMAND = Command(NextSettings, run, "unetres next cells.tflite new_pictures --out to_label --count 10")
